"""The benchmark: one table, all rows measured in the same run. ``--short`` takes a quarter of the time.

Run it with ``tox -e bench`` on a machine that does nothing else; two processors are enough. A goal that is missed is
shown; only a benchmark that cannot run ends with an error.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

# At the end, so that `ml_dash` is the installed one and only `tests` comes from the checkout.
sys.path.append(str(Path(__file__).resolve().parents[2]))

from tests.bench import calls, commands, growth, project, reading, startup, throughput, training
from tests.bench.measure import Row, table


def main() -> None:
    """Run all measurements and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true", help="fewer repetitions, smaller counts")
    parser.add_argument("--only", help="comma-separated parts, as in _parts")
    options = parser.parse_args()
    began = time.monotonic()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="ml_dash-bench-") as folder:
        for name, part in _parts(Path(folder), options.short).items():
            if options.only is None or name in options.only.split(","):
                rows += part()
    print(f"{os.cpu_count()} processors, {platform.machine()}, Python {platform.python_version()}")
    print(table(rows))
    print(f"{sum(row.reached for row in rows)} of {len(rows)} goals reached, {time.monotonic() - began:.0f} s in all")


def _parts(folder: Path, short: bool) -> dict[str, Callable[[], list[Row]]]:
    return {
        "image": lambda: calls.measure_image(folder, short),
        "records": lambda: calls.measure_records(folder, short),
        "training": lambda: training.measure(folder, short),
        "jpeg": lambda: throughput.measure_jpeg(folder, short),
        "png": lambda: throughput.measure_png(short),
        "startup": lambda: startup.measure(folder, short),
        "growth": lambda: growth.measure(folder, short),
        "reading": lambda: reading.measure(folder, short),
        "listing": lambda: reading.measure_listing(folder, short),
        "project": lambda: project.measure(folder, short),
        "commands": lambda: commands.measure(folder, short),
    }


if __name__ == "__main__":
    main()
