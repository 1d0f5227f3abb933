"""Arrays in, numbers out: intervals, paired differences, the shuffled control, variance parts, tables of a design."""
