"""THE ONLY ROOM THAT KNOWS RAY: one lane per model, from the grid through speakers and readers to durable rows.

    source ──ASKED──▶ Speaker (host + journal) ──SAID──▶ Listener (reader + journal) ──▶ … one Listener per reader

Whatever a Speaker or a Listener hands on is already durable; Ray Data only carries it. A lane's `Ledger` is a small
named actor that knows which blocks were begun (so that a repeated block asks nothing twice), when to stop, and the
counts that the live line shows.
"""
