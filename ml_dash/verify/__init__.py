"""Check a run's documents, journals, files and frames, and repair what was damaged."""
