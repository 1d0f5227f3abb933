"""The room that knows Ray: one lane per model, from the grid through hosts and readers to durable rows.

    source ──asked──▶ GenerateActor (host, journal) ──answers──▶ ReadActor (reader, journal) ──▶ … one per reader

Whatever these actors hand on is already durable; Ray Data only carries it. A lane's `LaneState` is a small actor that
knows which blocks were begun (so that a repeated block asks nothing twice), when to stop, and the
counts that the live line shows.
"""
