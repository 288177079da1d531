"""Reading what was recorded: one run's streams, and many runs at once. Nothing here writes to a run."""
