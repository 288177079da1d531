"""Check a machine for the tracker: memory, disk, locks, packages, OpenGL. Nothing opens a connection."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ml_dash._file_systems import file_system_of, is_network
from ml_dash.ipc import slab as slabs
from ml_dash.ipc.control import FRAMES_OFFSET
from ml_dash.settings import BufferConfig

OK = "ok"
NOTE = "note"
"""Nothing is wrong."""
WARNING = "warning"
"""The tracker works, but is slower or less safe than it could be."""
FAILED = "failed"
"""The tracker does not work, or does not keep up."""

LEAST_FREE = 64 * 1024 * 1024
"""Free bytes below which a disk counts as full."""

LITTLE_FREE = 2 * 1024 * 1024 * 1024
"""Free bytes below which frames soon fill a disk."""

MIB = 1024 * 1024

IN_MEMORY = frozenset(("tmpfs", "ramfs"))

REQUIRED = {
    "numpy": ("numpy",),
    "cv2": ("opencv-python-headless", "opencv-python", "opencv-contrib-python-headless", "opencv-contrib-python"),
    "pyarrow": ("pyarrow",),
    "orjson": ("orjson",),
    "isal": ("isal",),
    "filelock": ("filelock",),
    "click": ("click",),
    "wcwidth": ("wcwidth",),
    "httpx": ("httpx",),
    "keyring": ("keyring",),
    "cryptography": ("cryptography",),
}
"""By the name of a module: the distributions that may contain it."""

EXTRAS = {"video": ("av",), "manager": ("pandas", "wandb")}

_GL_LIBRARIES = {
    "egl": ("libEGL.so.1", "libEGL.so"),
    "osmesa": ("libOSMesa.so.8", "libOSMesa.so.6", "libOSMesa.so"),
    "glfw": ("libGL.so.1", "libGL.so"),
}


@dataclass(frozen=True, slots=True)
class Check:
    """Result of one check.

    Attributes:
        name: what was checked.
        state: ``ok``, ``note``, ``warning`` or ``failed``.
        text: the result for people, with a remedy where one is needed.
        facts: the result for programs.
    """

    name: str
    state: str
    text: str
    facts: dict[str, Any] = field(default_factory=dict)


def check_versions() -> Check:
    """Check that every required package is installed."""
    from ml_dash._version import __version__

    versions = {name: _version_of(name, distributions) for name, distributions in REQUIRED.items()}
    facts = {"ml_dash": __version__, "python": platform.python_version(), **versions}
    missing = [REQUIRED[name][0] for name, version in versions.items() if version is None]
    if missing:
        return Check("packages", FAILED, f"missing: {', '.join(missing)}; pip install {' '.join(missing)}", facts)
    shown = ("numpy", "cv2", "pyarrow", "isal")
    text = f"ml_dash {__version__}, Python {facts['python']}, " + ", ".join(
        f"{name} {versions[name]}" for name in shown
    )
    return Check("packages", OK, text, facts)


def check_extras() -> Check:
    """List the optional packages that are installed."""
    versions = {name: {part: _version_of(part, (part,)) for part in parts} for name, parts in EXTRAS.items()}
    texts = []
    for name, parts in versions.items():
        missing = [part for part, version in parts.items() if version is None]
        texts.append(f"{name}: {'without ' + ' and '.join(missing) if missing else 'yes'}")
    is_complete = all(version for parts in versions.values() for version in parts.values())
    return Check("extras", OK if is_complete else NOTE, "; ".join(texts), versions)


def _version_of(module: str, distributions: tuple[str, ...]) -> str | None:
    import importlib.util
    from importlib import metadata

    for name in distributions:
        with contextlib.suppress(metadata.PackageNotFoundError):
            return metadata.version(name)
    return "unknown" if importlib.util.find_spec(module) is not None else None


def check_shared_memory(config: BufferConfig) -> Check:
    """Make the buffer between training and the writer, and report its kind."""
    size = config.frame_buffer_mb * MIB
    facts: dict[str, Any] = {"frame_buffer_bytes": size, "shm_size": None, "shm_free": None}
    shm_text = ""
    with contextlib.suppress(OSError):
        room = os.statvfs("/dev/shm")
        facts |= {"shm_size": room.f_blocks * room.f_frsize, "shm_free": room.f_bavail * room.f_frsize}
        shm_text = f"; /dev/shm has {_mib(facts['shm_free'])} of {_mib(facts['shm_size'])} free"
    try:
        slab = slabs.create(size)
    except slabs.NoSharedMemoryError:
        text = f"none can be had{shm_text}: the writer runs on a thread, and training pays for encoding"
        return Check("shared memory", WARNING, text, facts | {"kind": None})
    try:
        fits = slab.reserve(FRAMES_OFFSET, size)
    finally:
        slab.close()
    facts |= {"kind": slab.kind, "fits": fits}
    if not fits:
        return Check("shared memory", WARNING, f"less than {_mib(size)} can be had{shm_text}: frames may wait", facts)
    kinds = {"shared_memory": "/dev/shm", "memfd": "anonymous memory", "file": "a file on a local disk"}
    state = OK if slab.kind != "file" else WARNING
    text = f"{_mib(size)} for frames in {kinds.get(slab.kind, slab.kind)}{shm_text}"
    return Check("shared memory", state, text, facts)


def check_disk(folder: str) -> Check:
    """Check the disk that runs are recorded to: its kind, and its free space."""
    kind = file_system_of(folder)
    usage = shutil.disk_usage(folder)
    inodes = os.statvfs(folder)
    facts = {"folder": folder, "file_system": kind, "size": usage.total, "free": usage.free}
    facts |= {"free_inodes": inodes.f_favail if inodes.f_files else None}
    state, advice = _judge_disk(kind, usage.free)
    if inodes.f_files and inodes.f_favail < 10_000 and state == OK:
        state, advice = WARNING, "; few more files can be made there: pack frames with exp.frames(...)"
    text = f"{kind or 'unknown file system'}, {_mib(usage.free)} of {_mib(usage.total)} free in {folder}{advice}"
    return Check("disk", state, text, facts)


def _judge_disk(kind: str, free: int) -> tuple[str, str]:
    if free < LEAST_FREE:
        return FAILED, "; it is full"
    if is_network(kind):
        return WARNING, "; over a network: record frames with exp.frames(...), and read many runs from a local copy"
    if kind in IN_MEMORY:
        return WARNING, "; it is memory: what is recorded is gone after a restart"
    if free < LITTLE_FREE:
        return WARNING, "; little is left for frames"
    return (NOTE, "; part of a container, and may go with it") if kind == "overlay" else (OK, "")


def check_temporary() -> Check:
    """Check that the folder for temporary files is on a local disk."""
    folder = os.environ.get("SLURM_TMPDIR") or tempfile.gettempdir()
    kind = file_system_of(folder)
    facts: dict[str, Any] = {"folder": folder, "file_system": kind}
    try:
        facts["free"] = shutil.disk_usage(folder).free
    except OSError as error:
        return Check("temporary files", WARNING, f"{folder}: {error.strerror}; set TMPDIR to a folder", facts)
    is_local = not is_network(kind)
    advice = "" if is_local else "; over a network: set TMPDIR to a local disk"
    text = f"{kind or 'unknown file system'}, {_mib(facts['free'])} free in {folder}{advice}"
    return Check("temporary files", OK if is_local else WARNING, text, facts)


def check_locks(folder: str) -> Check:
    """Check that a lock on a file in that folder keeps another process out."""
    try:
        import fcntl
    except ImportError:
        return Check("locks", WARNING, "this system has none: every process writes files of its own", {"work": False})
    with tempfile.TemporaryDirectory(prefix=".ml-dash-doctor-", dir=folder) as temporary:
        path = os.path.join(temporary, "lock")
        with open(path, "wb") as first, open(path, "rb") as second:
            try:
                fcntl.flock(first, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                text = f"not to be had here ({error.strerror}): every process writes files of its own"
                return Check("locks", WARNING, text, {"work": False})
            try:
                fcntl.flock(second, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                return Check("locks", OK, "work there", {"work": True})
    return Check("locks", WARNING, "are given twice there: open each run from one process only", {"work": False})


def check_keyring() -> Check:
    """Report where a token would be kept. The keyring is not asked: that would connect to the desktop's."""
    if _version_of("keyring", ("keyring",)) is None:
        return Check("keyring", NOTE, "not installed: a token goes to an encrypted file", {"backend": None})
    chosen = os.environ.get("PYTHON_KEYRING_BACKEND")
    if chosen:
        return Check("keyring", OK, f"{chosen}, as PYTHON_KEYRING_BACKEND says", {"backend": chosen})
    if sys.platform == "darwin":
        return Check("keyring", OK, "the macOS Keychain", {"backend": "macOS"})
    session = f"/run/user/{os.getuid()}/bus" if hasattr(os, "getuid") else ""
    if os.environ.get("DBUS_SESSION_BUS_ADDRESS") or os.path.exists(session):
        return Check("keyring", OK, "the desktop's, through its session bus", {"backend": "session bus"})
    return Check("keyring", NOTE, "no desktop session: a token goes to an encrypted file", {"backend": None})


def check_gl(load: Callable[[str], object] | None = None) -> Check:
    """Check which backends MuJoCo can render with.

    Args:
        load: loads a shared library by name, or raises OSError; default ``ctypes.CDLL``.
    """
    import ctypes

    has_display = bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
    works = {
        backend: _can_load(libraries, load or ctypes.CDLL) and (backend != "glfw" or has_display)
        for backend, libraries in _GL_LIBRARIES.items()
    }
    chosen = os.environ.get("MUJOCO_GL", "").lower()
    mujoco = _version_of("mujoco", ("mujoco",))
    state, text = _judge_gl(mujoco, chosen, works, has_display=has_display)
    return Check(
        "OpenGL", state, text, {"mujoco": mujoco, "MUJOCO_GL": chosen or None, "display": has_display, **works}
    )


def _judge_gl(mujoco: str | None, chosen: str, works: dict[str, bool], *, has_display: bool) -> tuple[str, str]:
    working = [backend for backend, does_work in works.items() if does_work]
    options = f"can be {' or '.join(working)}" if working else "finds neither libEGL nor libOSMesa"
    if mujoco is None:
        return NOTE, f"MuJoCo is not installed; MUJOCO_GL {options}"
    if not works.get(chosen, True):
        return WARNING, f"MUJOCO_GL is {chosen}, which cannot work here; it {options}"
    if not working:
        return WARNING, f"MuJoCo cannot render: it {options}; install one of them"
    if not chosen and not has_display:
        return WARNING, f"no display: MuJoCo renders with MUJOCO_GL={working[0]}, which is not set"
    return OK, f"MuJoCo {mujoco}, MUJOCO_GL {chosen or 'not set'}; it {options}"


def _can_load(names: tuple[str, ...], load: Callable[[str], object]) -> bool:
    for name in names:
        with contextlib.suppress(OSError):
            load(name)
            return True
    return False


def _mib(count: int) -> str:
    return f"{count / MIB:,.0f} MiB" if count < 10_000 * MIB else f"{count / MIB / 1024:,.0f} GiB"
