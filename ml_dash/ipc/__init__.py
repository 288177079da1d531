"""Processes and shared memory between a training process and its writer."""
