"""``capture_output=True``: what is written to descriptors 1 and 2 becomes lines of the log."""
