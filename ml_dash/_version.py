"""The package's version, in a file that a build can read without importing anything else."""

from __future__ import annotations

__version__ = "0.12.0"
