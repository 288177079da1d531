"""Processes and shared memory: the only place that knows of either."""
