"""Check this machine for the tracker, and measure its speed."""
