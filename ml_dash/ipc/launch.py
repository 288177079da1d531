"""Start the writer process, and other processes of this package."""

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
from ml_dash.settings import BufferConfig

WRITER_ENTRY = "ml_dash.writer.main"
"""Module whose ``main(boot)`` runs in the writer process; its ``run_on_thread`` runs the writer without a process."""

GUILTY = 12
"""Suspicion from which the record in hand is set aside: two crashes, or as many kills as restarts are allowed."""

CRASH = 6
"""Suspicion that a crash of the writer adds to the record in hand."""

KILL = 2
"""Suspicion that a kill adds. The system may have killed the writer because the record takes too much memory."""

# The standard library comes first and the user's folders last: a json.py of the user must not replace the real one.
# ml_dash is loaded from where this process has it, even if another package of that name is on the path.
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
"""Folder or archive that holds ml_dash. Made absolute at import, since the program may change its folder later."""

_QUIET_SIGNALS = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP} if hasattr(signal, "SIGHUP") else {signal.SIGINT}
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


class Assignment(NamedTuple):
    """Settings of a writer.

    Attributes:
        run: absolute path of the run's directory.
        writer_id: empty for the run's first writer; else part of its files' names, such as ``data.<writer_id>.jsonl``.
        encoders: number of frames encoded at the same time.
        burst_encoders: the same number while training waits for room.
        sync_interval: seconds between syncs to the disk.
        parent: process id of the training process.
        suspicion: how likely the record at the tail killed the writers before this one; see ``writer.apply``.
        columnar_rows: rows from which a journal gets a columnar copy at the end; 0 for none.
    """

    run: str
    writer_id: str
    encoders: int
    burst_encoders: int
    sync_interval: float
    parent: int
    suspicion: int = 0
    columnar_rows: int = 0

    @classmethod
    def of(cls, run: str, writer_id: str, config: BufferConfig) -> Assignment:
        """The settings of a writer for this process."""
        return cls(
            run=run,
            writer_id=writer_id,
            encoders=config.encoder_count,
            burst_encoders=config.burst_encoder_count,
            sync_interval=config.sync_interval,
            parent=os.getpid(),
            columnar_rows=config.columnar_rows,
        )


class WriterProcess:
    """A writer process, and this side of its socket."""

    def __init__(self, process: subprocess.Popen[bytes], connection: socket.socket) -> None:
        self.process = process
        self.connection = connection

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    def ring_bell(self) -> None:
        """Wake the writer. Errors are ignored: a lost bell costs one polling interval."""
        try:
            self.connection.send(b"!", socket.MSG_DONTWAIT | NO_SIGNAL)
        except OSError:
            return

    def close(self, timeout: float) -> int | None:
        """Close the socket and wait ``timeout`` seconds for the process. Return its exit status; None if it goes on."""
        with contextlib.suppress(OSError):  # it wakes a thread that waits for the socket, which close does not
            self.connection.shutdown(socket.SHUT_RDWR)
        self.connection.close()
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            try:
                threading.Thread(target=self.process.wait, name="ml_dash-reaper", daemon=True).start()
            except RuntimeError:  # no thread can be started: the writer stays a zombie until this process ends
                self.process.returncode = 0
            return None


def can_launch() -> bool:
    """Whether a process of the same interpreter can be started; a frozen or embedded one cannot."""
    executable = sys.executable or ""
    return (
        os.name == "posix"
        and not getattr(sys, "frozen", False)
        and os.path.basename(executable).startswith(("python", "pypy", "ipython"))
        and os.access(executable, os.X_OK)
    )


def launch(assignment: Assignment, slab: Slab, lock_fd: int) -> WriterProcess:
    """Start a writer process, and return at once.

    Args:
        assignment: the writer's settings.
        slab: the shared memory, which the writer inherits.
        lock_fd: descriptor of the run's locked file, which the writer inherits; -1 for none. The file stays locked until
            both processes are gone.

    Raises:
        OSError: the process could not be started.
    """
    ours, theirs = socket.socketpair()
    try:
        inherited = [slab.fd, theirs.fileno(), *([lock_fd] if lock_fd >= 0 else [])]
        descriptors = {
            "memory_fd": slab.fd,
            "memory_size": slab.size,
            "socket_fd": theirs.fileno(),
            "lock_fd": lock_fd,
        }
        process = start_process(WRITER_ENTRY, assignment._asdict() | descriptors, inherited)
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
    ours.setblocking(False)
    return WriterProcess(process, ours)


def start_process(entry: str, boot: Mapping[str, object], inherited: Sequence[int] = ()) -> subprocess.Popen[bytes]:
    """Run ``main(boot)`` of a module in a process of its own.

    Args:
        entry: name of a module of ml_dash, or of a test.
        boot: its settings; literals only. ``path``, ``root`` and ``entry`` are added.
        inherited: descriptors that the process inherits under the same numbers.

    Raises:
        OSError: the process could not be started.
    """
    here = current_folder()
    path = [os.path.normpath(os.path.join(here, os.fsdecode(folder))) for folder in sys.path]
    argument = ascii({**boot, "path": path, "root": _ROOT, "entry": entry})
    # No preexec_fn: it would make subprocess fork instead of vfork, and run the fork hooks of a process full of CUDA.
    previous = signal.pthread_sigmask(signal.SIG_BLOCK, _QUIET_SIGNALS)  # kept over exec; the writer unblocks them
    try:
        return subprocess.Popen(
            [sys.executable, *subprocess._args_from_interpreter_flags(), "-c", _BOOT, argument],  # type: ignore[attr-defined]  # what multiprocessing uses to start the same interpreter with the same flags  # noqa: SLF001 - as multiprocessing does; there is no public name
            stdin=subprocess.DEVNULL,
            # Not inherited: a pipe that the program's parent reads would stay open for as long as the writer drains.
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


def run_on_thread(assignment: Assignment, slab: Slab) -> threading.Thread:
    """Run the writer on a thread of this process, if no process can be started or there is no shared memory."""
    module = importlib.import_module(WRITER_ENTRY)
    thread = threading.Thread(target=module.run_on_thread, args=(assignment, slab), name="ml_dash-writer", daemon=True)
    thread.start()
    return thread
