"""Start the writer process. Nobody waits for it: what it is to do already lies in shared memory."""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ml_dash._paths import current_folder
from ml_dash.ipc import NO_SIGNAL
from ml_dash.ipc.slab import Slab

WRITER_ENTRY = "ml_dash.writer.main"
"""The module whose ``main(boot)`` runs in the writer process and whose ``run_on_thread`` is the way without one."""

GUILTY = 12
"""Suspicion from which the record in hand is set aside: two crashes at it, or as many kills as end in a thread."""

CRASH = 6
"""Suspicion that a crash of the writer adds to the record at which it happened."""

KILL = 2
"""The same for a kill: somebody else may have done it, or the system because the record takes too much memory."""

# The standard library comes first and the user's folders last: a json.py of theirs must not be imported instead of the
# real one. Our own package comes from where this process has it, whatever else goes by its name there.
_BOOT = (
    "import os, sys; boot = eval(sys.argv.pop()); own = [entry for entry in sys.path if entry]; "
    "library = os.path.dirname(os.__file__); "
    "paths = own + [entry for entry in boot['path'] if entry not in own]; "
    "sys.path[:] = sorted(paths, key=lambda entry: not entry.startswith(library)); "
    "import importlib.machinery, importlib.util; "
    "spec = importlib.machinery.PathFinder.find_spec('ml_dash', [boot['root']]); "
    "package = sys.modules['ml_dash'] = importlib.util.module_from_spec(spec); spec.loader.exec_module(package); "
    "importlib.import_module(boot['entry']).main(boot)"
)
_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
"""Where our package lies: a folder or an archive. Made absolute here, since the program may change its folder later."""

_QUIET_SIGNALS = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP} if hasattr(signal, "SIGHUP") else {signal.SIGINT}
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


class Assignment(NamedTuple):
    """What a writer needs to know that does not travel through the ring.

    Attributes:
        run: absolute path of the run's directory.
        writer_id: empty for the run's first writer; else the name in ``data.<writer_id>.jsonl``.
        encoders: frames that may be encoded at the same time.
        burst_encoders: the same while training waits for room.
        sync_interval: seconds between syncs to the disk.
        suspicion: how likely the record at the tail killed the writers before this one; see ``writer.apply``.
        parent: process id of the training process.
        columnar_rows: rows from which a journal gets a columnar copy at the end; 0 is never.
    """

    run: str
    writer_id: str
    encoders: int
    burst_encoders: int
    sync_interval: float
    parent: int
    suspicion: int = 0
    columnar_rows: int = 0


class WriterProcess:
    """A running writer and our end of its socket."""

    def __init__(self, process: subprocess.Popen[bytes], connection: socket.socket) -> None:
        self.process = process
        self.connection = connection

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    def ring_bell(self) -> None:
        """Wake it. A bell that is lost costs one polling interval, so every error is ignored."""
        try:
            self.connection.send(b"!", socket.MSG_DONTWAIT | NO_SIGNAL)
        except OSError:
            return

    def close(self, timeout: float) -> int | None:
        """Close the socket and wait for the process; its exit status, or None if it goes on beyond ``timeout``."""
        with contextlib.suppress(OSError):  # it wakes whoever waits for it on another thread, as close does not
            self.connection.shutdown(socket.SHUT_RDWR)
        self.connection.close()
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            try:
                threading.Thread(target=self._reap, name="ml_dash-reaper", daemon=True).start()
            except RuntimeError:  # no more threads are to be had: it stays as a zombie until we end
                self.process.returncode = 0
            return None

    def _reap(self) -> None:
        """Wait for a writer that goes on by itself, so that it does not stay as a zombie."""
        self.process.wait()


def can_launch() -> bool:
    """Whether this interpreter can be started again: not in a frozen or embedded one."""
    executable = sys.executable or ""
    return (
        os.name == "posix"
        and not getattr(sys, "frozen", False)
        and os.path.basename(executable).startswith(("python", "pypy", "ipython"))
        and os.access(executable, os.X_OK)
    )


def launch(assignment: Assignment, slab: Slab, lock_fd: int) -> WriterProcess:
    """Start a writer on ``slab``.

    Args:
        assignment: its work.
        slab: the shared memory; the descriptor is inherited.
        lock_fd: the run's locked file, kept locked by whoever of both lives longer; -1 for none.

    Raises:
        OSError: the process could not be started.
    """
    ours, theirs = socket.socketpair()
    try:
        inherited = [slab.fd, theirs.fileno(), *([lock_fd] if lock_fd >= 0 else [])]
        boot = assignment._asdict() | {
            "path": _search_path(),
            "root": _ROOT,
            "entry": WRITER_ENTRY,
            "memory_fd": slab.fd,
            "memory_size": slab.size,
            "socket_fd": theirs.fileno(),
            "lock_fd": lock_fd,
        }
        process = _popen(ascii(boot), inherited)
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
    ours.setblocking(False)
    return WriterProcess(process, ours)


def start_helper(entry: str, boot: Mapping[str, object], inherited: Sequence[int] = ()) -> subprocess.Popen[bytes]:
    """Run ``entry.main(boot)`` in a process of its own. For work that is not the writer's loop.

    Args:
        entry: a module of ours.
        boot: what it needs to know; literals only.
        inherited: descriptors that it gets under the same numbers; no others.

    Raises:
        OSError: the process could not be started.
    """
    paths = {"path": [os.path.abspath(os.fsdecode(path)) for path in sys.path], "root": _ROOT, "entry": entry}
    return _popen(ascii({**boot, **paths}), [*inherited])


def run_on_thread(assignment: Assignment, slab: Slab) -> threading.Thread:
    """Run the same writer on a thread of this process: where no process or no shared memory can be had."""
    module = importlib.import_module(WRITER_ENTRY)
    thread = threading.Thread(target=module.run_on_thread, args=(assignment, slab), name="ml_dash-writer", daemon=True)
    thread.start()
    return thread


def _search_path() -> list[str]:
    """Where modules are looked for, with absolute paths, also where the current folder was removed."""
    here = current_folder()
    return [os.path.normpath(os.path.join(here, os.fsdecode(entry))) for entry in sys.path]


def _popen(boot: str, inherited: list[int]) -> subprocess.Popen[bytes]:
    # No preexec_fn: it would make subprocess fork instead of vfork, and run the fork hooks of a process full of CUDA.
    previous = signal.pthread_sigmask(signal.SIG_BLOCK, _QUIET_SIGNALS)  # kept over exec; the writer unblocks them
    try:
        return subprocess.Popen(
            [sys.executable, *subprocess._args_from_interpreter_flags(), "-c", _BOOT, boot],  # type: ignore[attr-defined]  # what multiprocessing uses to start the same interpreter with the same flags
            stdin=subprocess.DEVNULL,
            # Not ours: a pipe that the user's parent reads would stay open for as long as the writer drains.
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            close_fds=True,
            pass_fds=inherited,
            start_new_session=True,
            cwd="/",
            env={**os.environ, **_ONE_THREAD, "CUDA_VISIBLE_DEVICES": ""},
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous)
