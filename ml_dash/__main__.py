"""``python -m ml_dash``: the same program as ``ml-dash``."""

from __future__ import annotations

from ml_dash.cli.main import main

if __name__ == "__main__":
    main()
