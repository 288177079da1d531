"""A training process for tests that kill it: it logs from two threads and reports each call after it has returned."""

from __future__ import annotations

import json
import sys
import threading

from workload import Acknowledgements, Load, run_threads

from ml_dash import Experiment


def main(options: dict) -> None:
    """Log until killed.

    Args:
        options: `root`, `prefix`, `settings` (of the experiment), `acknowledged` (a path), `counters` (for each
            thread), and `load` (arguments of `Load`).
    """
    acknowledge = Acknowledgements(options["acknowledged"])
    exp = Experiment(options["prefix"], dash_root=options["root"], echo=False, **options["settings"]).run.start()
    acknowledge("open", 0, 0)
    loads = [
        Load(exp, thread, acknowledge, counters, **options["load"])
        for thread, counters in enumerate(options["counters"])
    ]
    for thread in run_threads(loads, threading.Event()):
        thread.join()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
