"""Checks of this machine: what it has of what the tracker needs, and how fast it is."""
