"""A provider that misbehaves on purpose, to rehearse a run before it costs money, and our test bed."""
