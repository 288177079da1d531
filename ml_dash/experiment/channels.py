"""Opening a run (its directory, its lock, its channel), and the stand-ins for a channel that is not open."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from ml_dash.errors import ExperimentError, StorageError
from ml_dash.ipc.channel import Channel
from ml_dash.records.record import Kind
from ml_dash.settings import BufferConfig
from ml_dash.storage import layout, locks
from ml_dash.storage.documents import to_json

LOCK_PATIENCE_S = 0.01
"""How long the lock of a run is waited for: a reader that tests whether the run is alive holds it for an instant."""


class Opening(NamedTuple):
    """The first record of a run, which the writer stores in experiment.json and environment.json.

    Attributes:
        root: absolute path of the folder of all runs.
        prefix, name, project, description, tags, bindrs, metadata: as in experiment.json.
        environment: the first entries of environment.json; None if the run records none.
        attached: whether a forked child takes part in the run of its parent.
    """

    root: str
    prefix: str
    name: str
    project: str
    description: str | None
    tags: list[str] | None
    bindrs: list[str] | None
    metadata: Any
    environment: dict[str, Any] | None = None
    attached: bool = False


def open_channel(
    opening: Opening, config: BufferConfig, warn: Callable[[str], None], *, always_shard: bool
) -> tuple[Channel, str, str]:
    """Make the run's directory, take its lock or make a writer id, start the writer.

    Args:
        opening: the run.
        config: sizes and deadlines.
        warn: prints a text once.
        always_shard: whether to write beside the run's first writer even if its lock is free, as a forked child does.

    Returns:
        The channel, the absolute path of the run's directory, and the writer's id.

    Raises:
        StorageError: the directory cannot be written to.
    """
    folder = os.path.join(opening.root, *opening.prefix.split("/"))
    _fill_standard_descriptors()
    _make_writable(folder)
    # The writer process inherits the descriptor, so that the run is locked until both are gone.
    lock_fd = -1 if always_shard else locks.acquire(os.path.join(folder, layout.RUN_LOCK), LOCK_PATIENCE_S)
    writer_id = ""
    if lock_fd < 0:
        host = "".join(letter if letter.isalnum() or letter == "-" else "-" for letter in socket.gethostname())
        writer_id = f"{host[:64]}-{os.getpid()}-{time.time_ns()}"
    try:
        channel = Channel(folder, writer_id, config, lock_fd, warn)
        channel.publish(Kind.OPEN, b"", to_json(opening._asdict()), time.time())
        channel.start()
    except BaseException:
        if lock_fd >= 0:
            os.close(lock_fd)
        raise
    return channel, folder, writer_id


class NotOpen:
    """Stand-in for the channel of an experiment that is not open: every use raises ``ExperimentError``.

    Args:
        state: the end of the error text "the experiment is ...".
        before: the channel of before, for its last health.
    """

    def __init__(self, state: str, before: Any = None) -> None:
        self._state = state
        self._before = before

    def health(self) -> dict[str, object]:
        """Return the last counters of the channel of before."""
        return {} if self._before is None else self._before.health()

    def disarm(self) -> None:
        """Do nothing: no descriptor is open."""

    def __getattr__(self, name: str) -> Any:
        raise ExperimentError(f"the experiment is {self._state}")


class Detached:
    """Stand-in for the channel in a forked child: its first use attaches; ending before that does nothing.

    Args:
        attach: opens a channel of this process and returns it.
    """

    def __init__(self, attach: Callable[[], Channel]) -> None:
        self._attach = attach

    def health(self) -> dict[str, object]:
        """Return no counters."""
        return {}

    def flush(self, timeout: float | None = None) -> bool:  # noqa: ARG002 - a channel's signature
        """Do nothing: no record waits."""
        return True

    def end(self, status: str, reason: str | None) -> None:
        """Do nothing: the parent's run goes on."""

    def disarm(self) -> None:
        """Do nothing: no descriptor is open."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._attach(), name)


def _fill_standard_descriptors() -> None:
    """Open those of descriptors 0, 1 and 2 that a daemon has closed: else prints would go into our memory or lock."""
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            with contextlib.suppress(OSError):
                os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one


def _make_writable(folder: str) -> None:
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise StorageError(
            error.errno, f"cannot make the run's folder: {error.strerror}; check dash_root and its rights", folder
        ) from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise StorageError(13, "the run's folder cannot be written to; check dash_root and its rights", folder)
