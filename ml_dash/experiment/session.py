"""The life of a run within a process: opened, attached to in a forked child, ended."""

from __future__ import annotations

import os
import threading
from typing import Any

from ml_dash import _fork
from ml_dash._paths import current_folder
from ml_dash.capture import console
from ml_dash.experiment.channels import Detached, NotOpen, Opening, open_channel
from ml_dash.experiment.lifecycle import CloseHooks, ExperimentRun
from ml_dash.ipc.channel import Channel
from ml_dash.provenance.process import observe
from ml_dash.settings import BufferConfig
from ml_dash.streams.owner import Clock

DEFAULT_ROOT = ".dash"

MOST_JOBS = 10_000
"""Starts within one second that each get a number of their own; nobody starts as many."""


class Session:
    """What an ``Experiment`` is when nobody logs: a channel to the writer, or what stands in for one.

    Args:
        root: absolute path of the folder of all runs.
        config: the settings.

    Attributes:
        channel: where the streams publish; exchanged when the run is opened, closed, or its process forks.
        clock: the newest timestamp of each thread.
        writer_id: part of the names of this writer's files; empty for the run's first writer.
        folder: absolute path of the run's directory, once it was opened.
        run: its configuration, and what starts and ends it.
        dash_url, readme, tags, metadata: as they were given.
    """

    channel: Channel
    run: ExperimentRun[Any]
    dash_url: str | bool | None
    readme: str | None
    tags: list[str] | None
    metadata: dict[str, Any] | None
    _bindrs: list[str] | None

    def __init__(self, root: str, config: BufferConfig) -> None:
        self.clock = Clock()
        self.writer_id = ""
        self.folder = ""
        self.channel = NotOpen("not open yet; use `with experiment.run as exp:` or call run.start()")  # type: ignore[assignment]  # stands in for a channel and raises
        self._root = root
        self._config = config
        self._warned: set[str] = set()
        self._lock = threading.RLock()
        self._hooks = CloseHooks(self)
        self._streams: dict[str, Any] = {}

    @property
    def is_open(self) -> bool:
        """Whether the run was started and not yet ended."""
        return self.run._open

    def after_fork_in_child(self) -> None:
        """Let go of what belongs to the parent; the first call that logs attaches as a writer of its own."""
        self._lock = threading.RLock()
        self.channel.disarm()
        self._hooks.disarm()
        self.channel = Detached(self._attach)  # type: ignore[assignment]  # becomes a channel at its first use
        for stream in self._streams.values():
            if hasattr(type(stream), "after_fork_in_child"):
                stream.after_fork_in_child()

    def _warn_once(self, text: str) -> None:
        """Show a text on stderr, once for each run."""
        self._say_once(f"{self.run.prefix}: {text}")

    def _say_once(self, text: str) -> None:
        if text not in self._warned:
            self._warned.add(text)
            console.write(2, f"ml_dash: {text}\n")

    def _tell_place(self) -> None:
        """Say where the run is recorded, to whom a server was named or no place."""
        self._say_once(f"recording to {self.folder}; nothing is sent to a server in this version")

    def _set_open(self) -> None:
        self.run._open = True
        # Plain attributes while the run is open: a property would be paid by every call.
        self.__dict__.update(self._streams, log=self._streams["logs"].log)

    def _set_closed(self) -> None:
        self.run._open = False
        for name in (*self._streams, "log"):
            self.__dict__.pop(name, None)

    def _start(self) -> None:
        with self._lock:
            if self.is_open:
                return
            if not self.folder and self.run._is_numbered:
                self._claim_folder()
            if self._config.capture_output:
                from ml_dash.capture import lifecycle

                # First, while a standard stream that is closed cannot be taken for one of our own files.
                with lifecycle.starting(self._streams["logs"], self._warn_once):
                    self._open_first()
            else:
                self._open_first()

    def _claim_folder(self) -> None:
        """Make the run's folder, under the first number that is free: other jobs start in the same second."""
        for _ in range(MOST_JOBS):
            folder = os.path.join(self._root, *self.run.prefix.split("/"))
            try:
                os.makedirs(os.path.dirname(folder), exist_ok=True)
                os.mkdir(folder)
            except FileExistsError:
                self.run._take_next_number()
            except OSError:  # opening the run says what is wrong
                return
            else:
                return

    def _open_first(self) -> None:
        for stream in self._streams.values():
            if hasattr(type(stream), "before_open"):
                stream.before_open()
        self._open(attach=False)
        self._hooks.arm()
        if self.dash_url:
            self._tell_place()

    def _open(self, *, attach: bool) -> None:
        opening = Opening(
            root=self._root,
            prefix=self.run.prefix,
            name=self.run.name or self.run.prefix,
            project=self.run.project,
            description=self.readme,
            tags=self.tags,
            bindrs=self._bindrs,
            metadata=self.metadata,
            environment=observe(self.run.entry) if self._config.record_environment and not attach else None,
            attached=attach,
        )
        self.channel, self.folder, self.writer_id = open_channel(
            opening, self._config, self._warn_once, always_shard=attach
        )
        self._set_open()
        _fork.register(self)

    def _attach(self) -> Channel:
        with self._lock:
            now: object = self.channel
            if isinstance(now, Detached):
                self._open(attach=True)
                self._hooks.arm()
            return self.channel

    def _end(self, status: str, reason: str | None) -> None:
        with self._lock:
            if not self.is_open:
                return
            if self._config.capture_output:
                from ml_dash.capture import lifecycle

                lifecycle.stop(self._streams["logs"], failed=status == "FAILED")
            self._set_closed()
            _fork.unregister(self)
            self._hooks.disarm()
            channel = self.channel
            self.channel = NotOpen(self._how_to_go_on(), channel)  # type: ignore[assignment]  # stands in for a channel and raises
        try:
            self._before_end(channel)
        finally:
            channel.end(status, reason)

    def _how_to_go_on(self) -> str:
        place = "" if self._root == os.path.join(current_folder(), DEFAULT_ROOT) else f", dash_root={self._root!r}"
        return f"closed; to read it: ml_dash.open_run({self.run.prefix!r}{place}); to log to it: open it again"

    def _before_end(self, channel: Channel | Detached) -> None:
        """Let the streams publish what they still hold. In a forked child that never logged there is nothing."""
        if isinstance(channel, Detached):
            return
        for stream in self._streams.values():
            if hasattr(type(stream), "before_end"):
                try:
                    stream.before_end(channel)
                except Exception as error:  # noqa: BLE001 - ending a run never fails over what could not be logged
                    self._warn_once(f"what waited for a summary could not be logged: {error}")
