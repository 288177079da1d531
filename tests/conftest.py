"""Rules for every test: its processes carry a mark, it leaves nothing behind, and hypothesis has one profile."""

from __future__ import annotations

import os
import signal
import tempfile
import uuid
from multiprocessing import resource_tracker
from typing import TYPE_CHECKING

import hypothesis
import pytest

from tests.leaks import SESSION_VARIABLE, Holdings, leaked_since
from tests.support import REPOSITORY, import_root

if TYPE_CHECKING:
    from collections.abc import Iterator

# A deadline per example would measure the machine; pytest's timeout already ends what hangs.
hypothesis.settings.register_profile("ml_dash", deadline=None)
hypothesis.settings.load_profile("ml_dash")


def pytest_configure(config: pytest.Config) -> None:
    """Mark every process that the tests start, and refuse to test the checkout where the wheel is meant."""
    os.environ[SESSION_VARIABLE] = uuid.uuid4().hex
    # A shell starts background jobs with Ctrl-C ignored, and every program that a test starts would inherit that.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # A run would look for a git repository, and its writer live some tenths of a second longer. The tests of that record
    # switch it on, and so do the crash tests, which use the defaults.
    os.environ["ML_DASH_RECORD_ENVIRONMENT"] = "0"
    # A writer that makes columnar copies loads pyarrow, which takes as long.
    os.environ["ML_DASH_COLUMNAR_ROWS"] = "10000"
    # Keep the cache out of the user's home.
    cache = tempfile.TemporaryDirectory(prefix="ml_dash-cache-")
    config.add_cleanup(cache.cleanup)
    os.environ["ML_DASH_CACHE_DIR"] = cache.name
    # Python starts this process once, for the first shared memory; it belongs to no test.
    resource_tracker.ensure_running()
    if "TOX_ENV_NAME" in os.environ and import_root() == REPOSITORY:
        raise pytest.UsageError(f"tox must test the installed wheel, but ml_dash was imported from {REPOSITORY}")


@pytest.fixture(autouse=True)
def _nothing_left_behind(request: pytest.FixtureRequest, _reported: list[Holdings]) -> Iterator[None]:
    """Fail a test that leaves a process, a thread, a descriptor or shared memory behind.

    The mark `allow_leaks(reason)` lets one test go without this check.
    """
    mark = request.node.get_closest_marker("allow_leaks")
    if mark is not None:
        _require_reason(mark)
        yield
        _reported.append(Holdings.now())
        return
    before = Holdings.now()
    yield
    if leaked := leaked_since(before):
        _reported.append(Holdings.now())
        pytest.fail("the test left behind:\n  " + "\n  ".join(leaked), pytrace=False)


@pytest.fixture(autouse=True, scope="module")
def _reported() -> Iterator[list[Holdings]]:
    """Fail if the fixtures of a module, such as a run that its tests share, leave something behind.

    Tests append what they held when they ended with leaks that were reported, or allowed.
    """
    reported = [Holdings.now()]
    yield reported
    if leaked := leaked_since(*reported):
        pytest.fail("a fixture of the module left behind:\n  " + "\n  ".join(leaked), pytrace=False)


def _require_reason(mark: pytest.Mark) -> None:
    if len(mark.args) != 1 or not isinstance(mark.args[0], str) or not mark.args[0]:
        pytest.fail("write allow_leaks('the reason')", pytrace=False)
