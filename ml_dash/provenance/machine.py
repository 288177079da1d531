"""Facts about the interpreter, the machine and the container, read from system files without starting a program."""

from __future__ import annotations

import os
import re
import socket
import sys
from typing import Any

from ml_dash.settings import usable_processors

MOST_GPUS = 64
"""GPUs that are listed; a machine has at most 16."""

_READ_LIMIT = 1 << 20
"""Bytes read of a system file: /proc/cpuinfo of a large machine has several hundred KB."""

_NO_LIMIT = 1 << 60
"""Limit of a control group from which on there is none: the old interface has a number near 2**63 for that."""


def python_facts() -> dict[str, Any]:
    """Return facts about the interpreter; the writer runs the same one as the training process."""
    return {
        "version": ".".join(map(str, sys.version_info[:3])),
        "implementation": sys.implementation.name,
        "build": sys.version,
        "executable": sys.executable,
        "prefix": sys.prefix,
    }


def system_facts() -> dict[str, Any]:
    """Return facts about the operating system, processors and memory, and how much of them the process may use."""
    import platform

    distribution = re.search(r'^PRETTY_NAME="?([^"\n]*)', _text("/etc/os-release"), re.MULTILINE)
    cpu = re.search(r"^(?:model name|Model|Hardware)\s*:\s*(.+)$", _text("/proc/cpuinfo"), re.MULTILINE)
    return {
        "platform": platform.platform(),
        "distribution": distribution[1] if distribution else None,
        "machine": platform.machine(),
        "cpu": cpu[1].strip() if cpu else None,
        "cpu_count": os.cpu_count(),
        "cpus_usable": usable_processors(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "memory_limit_bytes": _memory_limit(),
    }


def who() -> dict[str, Any]:
    """Return the names of the host and the user."""
    import getpass

    try:
        user = getpass.getuser()
    except (KeyError, OSError, ImportError):  # a container's user id without a name
        user = f"uid-{os.getuid()}"
    return {"host": socket.gethostname(), "user": user}


def gpus(root: str = "/proc/driver/nvidia") -> dict[str, Any]:
    """Return the version of NVIDIA's driver and all GPUs, also those that the process may not use.

    Args:
        root: the driver's folder in ``/proc``.
    """
    try:
        buses = sorted(os.listdir(os.path.join(root, "gpus")))[:MOST_GPUS]
    except OSError:
        return {}
    driver = re.search(r"\d+\.\d+(?:\.\d+)?", _text(os.path.join(root, "version")))
    names = {"Model": "name", "GPU UUID": "uuid", "Bus Location": "bus"}
    cards = []
    for bus in buses:
        lines = _text(os.path.join(root, "gpus", bus, "information")).splitlines()
        pairs = (line.partition(":")[::2] for line in lines)
        card = {names[key.strip()]: value.strip() for key, value in pairs if key.strip() in names}
        if card:
            cards.append(card)
    return {"driver": driver[0] if driver else None, "cards": cards}


def container(root: str = "/") -> dict[str, Any]:
    """Return the kind of the container (Docker, Podman, Kubernetes) and its id; empty outside of one.

    Args:
        root: the file system's root.
    """
    kinds = {"docker": ".dockerenv", "podman": "run/.containerenv"}
    kind = next((name for name, mark in kinds.items() if os.path.exists(os.path.join(root, mark))), None)
    account = os.path.join(root, "var/run/secrets/kubernetes.io/serviceaccount")
    namespace = _text(os.path.join(account, "namespace")).strip()  # the only file read there: a token is beside it
    if namespace or "KUBERNETES_SERVICE_HOST" in os.environ:
        kind = "kubernetes"
    traces = "".join(_text(os.path.join(root, "proc/self", name)) for name in ("cgroup", "mountinfo"))
    match = re.search(r"/(?:containers|docker|overlay-containers)/([0-9a-f]{64})", traces)
    facts = {"kind": kind, "id": match[1] if match else None, "namespace": namespace or None}
    return {name: value for name, value in facts.items() if value} if kind or match else {}


def _memory_limit() -> int | None:
    """Return the bytes that the control group allows, by the new or the old interface; None for no limit."""
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        limit = _text(path).strip()
        if limit.isdecimal() and int(limit) < _NO_LIMIT:
            return int(limit)
    return None


def _text(path: str) -> str:
    """Read the beginning of a text file; empty if it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(_READ_LIMIT)
    except OSError:
        return ""
