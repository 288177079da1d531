"""A run's connection to its writer: opened, attached to in a forked child, ended."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ml_dash import _fork
from ml_dash._paths import current_folder
from ml_dash.capture import console
from ml_dash.experiment.channels import Detached, NotOpen, Opening, open_channel
from ml_dash.experiment.close_hooks import CloseHooks
from ml_dash.ipc.channel import Channel
from ml_dash.provenance.process import observe
from ml_dash.run.namespace import claim_folder
from ml_dash.settings import BufferConfig
from ml_dash.streams.base import Clock
from ml_dash.streams.log_sink import LogSink

if TYPE_CHECKING:
    from ml_dash.experiment.experiment_run import ExperimentRun

DEFAULT_ROOT = ".dash"


class Session:
    """The part of an ``Experiment`` that its streams and its ``run`` use; the ``Owner`` of the streams.

    Args:
        root: absolute path of the folder of all runs.
        config: the settings.
        attributes: the ``__dict__`` of the experiment, which has the streams while the run is open.
        opening: returns the experiment's entries of experiment.json.

    Attributes:
        run: the configuration of the run.
        streams: by the name of the experiment's attribute.
        announces_folder: whether the first start says on stderr where the run is recorded.
        is_open: whether the run was started and not yet ended.
        channel: where the streams publish; exchanged when the run is opened, closed, or its process forks.
        folder: absolute path of the run's directory; empty before the first start.
        writer_id: part of the names of this writer's files; empty for the run's first writer.
        clock: the newest timestamp of each thread.
        hooks: end the run if the process ends first.
        before_open, before_end, after_fork: the callbacks of the streams; see ``Owner``.
    """

    run: ExperimentRun[Any]
    channel: Channel

    def __init__(
        self, root: str, config: BufferConfig, attributes: dict[str, Any], opening: Callable[[], Opening]
    ) -> None:
        self.root = root
        self.config = config
        self.streams: dict[str, Any] = {}
        self.announces_folder = False
        self.is_open = False
        self.channel = NotOpen("not open yet; use `with experiment.run as exp:` or call run.start()")  # type: ignore[assignment]  # stands in for a channel and raises
        self.folder = ""
        self.writer_id = ""
        self.clock = Clock()
        self.hooks = CloseHooks(self.end)
        self.before_open: list[Callable[[], None]] = []
        self.before_end: list[Callable[[Channel], None]] = []
        self.after_fork: list[Callable[[], None]] = []
        self._attributes = attributes
        self._opening = opening
        self._lock = threading.RLock()
        self._print_once = console.PrintOnce()
        self._log = LogSink(self)

    @property
    def prefix(self) -> str:
        """``owner/project/.../name``."""
        return self.run.prefix

    def start(self) -> None:
        """Open the run, or continue it. Does nothing if it is open.

        Raises:
            StorageError: the run's folder cannot be written to.
        """
        with self._lock:
            if self.is_open:
                return
            if not self.folder:
                claim_folder(self.run, self.root)
            capturing: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
            if self.config.capture_output:
                from ml_dash.capture import capture

                # First, while no file of ours can take the number of a closed standard stream.
                capturing = capture.starting(self._log, self.warn_once)
            with capturing:
                for callback in self.before_open:
                    callback()
                self._open(attach=False)
                self.hooks.arm()
                if self.announces_folder:
                    self._print_once(f"recording to {self.folder}; nothing is sent to a server in this version")

    def attach(self) -> Channel:
        """In a forked child, or a process that the experiment was sent to: write to the run, to files of its own."""
        with self._lock:
            channel: object = self.channel
            if isinstance(channel, Detached):
                self._open(attach=True)
                self.hooks.arm()
            return self.channel

    def detach(self) -> None:
        """Take the run as open in another process: the first call that logs attaches to it."""
        self.folder = os.path.join(self.root, *self.prefix.split("/"))
        self._show_streams()
        self.channel = Detached(self.attach)  # type: ignore[assignment]  # becomes a channel at its first use

    def after_fork_in_child(self) -> None:
        """Let go of everything that belongs to the parent; the first call that logs attaches as another writer."""
        self._lock = threading.RLock()
        self.channel.disarm()
        self.hooks.disarm()
        self.channel = Detached(self.attach)  # type: ignore[assignment]  # becomes a channel at its first use
        for callback in self.after_fork:
            callback()

    def end(self, status: str, reason: str | None) -> None:
        """End the run. Returns when everything is on disk; does nothing if the run is closed.

        Args:
            status: ``COMPLETED``, ``FAILED`` or ``CANCELLED``.
            reason: text for experiment.json.
        """
        with self._lock:
            if not self.is_open:
                return
            if self.config.capture_output:
                from ml_dash.capture import capture

                capture.stop(self._log, failed=status == "FAILED")
            self.is_open = False
            for name in (*self.streams, "log"):
                self._attributes.pop(name, None)
            _fork.unregister(self)
            self.hooks.disarm()
            channel = self.channel
            default_root = os.path.join(current_folder(), DEFAULT_ROOT)
            root = "" if self.root == default_root else f", dash_root={self.root!r}"
            state = f"closed; to read it: ml_dash.open_run({self.prefix!r}{root}); to log to it: open it again"
            self.channel = NotOpen(state, channel)  # type: ignore[assignment]  # stands in for a channel and raises
        try:
            self._call_before_end(channel)
        finally:
            channel.end(status, reason)

    def _call_before_end(self, channel: Channel | Detached) -> None:
        if isinstance(channel, Detached):  # a forked child that never logged has nothing to publish
            return
        for callback in self.before_end:
            try:
                callback(channel)
            except Exception as error:  # noqa: BLE001 - ending a run never fails over a value that cannot be logged
                self.warn_once(f"what waited for a summary could not be logged: {error}")

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until everything published so far is on disk; return False, with one warning, if it is not.

        Args:
            timeout: seconds to wait; None waits for as long as the writer makes progress.
        """
        done = self.channel.flush(timeout)
        if not done:
            self.warn_once("flush: not everything is on disk yet; see exp.health() for what waits and the last error")
        return done

    def warn_once(self, text: str) -> None:
        """Print a text on stderr, once for each run."""
        self._print_once(f"{self.prefix}: {text}")

    def _open(self, *, attach: bool) -> None:
        environment = observe(self.run.entry) if self.config.record_environment and not attach else None
        self.channel, self.folder, self.writer_id = open_channel(
            self._opening()._replace(environment=environment, attached=attach),
            self.config,
            self.warn_once,
            always_shard=attach,
        )
        self._show_streams()
        _fork.register(self)

    def _show_streams(self) -> None:
        self.is_open = True
        # Plain attributes while the run is open: every call would pay for a property.
        self._attributes.update(self.streams, log=self.streams["logs"].log)
