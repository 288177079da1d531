"""``ml-dash doctor``: what it looks at, what it says of a machine that lacks something, and that it leaves nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from ml_dash import BufferConfig
from ml_dash.doctor import checks, speed
from ml_dash.ipc import slab
from tests.support import SUBPROCESS_SECONDS, python_environment, run_python

if TYPE_CHECKING:
    from pathlib import Path

OF_THE_MACHINE = ["packages", "extras", "settings", "shared memory", "disk", "temporary files", "keyring", "OpenGL"]
CHECKS = [*OF_THE_MACHINE, "locks", "trial run", "copy", "encode JPEG", "encode PNG", "write"]

# The trial run has a pair of sockets with its writer, which belong to no address. Anything that could reach another
# machine or process names one.
NO_ADDRESSES = """
import sys

def refuse(event, arguments):
    if event in {"socket.connect", "socket.bind", "socket.sendto", "socket.getaddrinfo", "socket.gethostbyname"}:
        print(event, arguments, file=sys.stderr, flush=True)
        import os
        os._exit(77)

sys.addaudithook(refuse)
sys.argv = ["ml-dash", "doctor", "--json"]
from ml_dash.cli.main import main
main()
"""


def doctor(cwd: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ml_dash", "doctor", *arguments],
        cwd=cwd,
        env=python_environment(variables),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SUBPROCESS_SECONDS,
    )


def checks_of(done: subprocess.CompletedProcess[str]) -> dict[str, dict[str, Any]]:
    return {check["name"]: check for check in json.loads(done.stdout)["checks"]}


def test_a_machine_that_is_fine_is_told_so_in_a_line_for_each_check(tmp_path: Path) -> None:
    done = doctor(tmp_path, "--fps", "1", "--size", "64x48")

    lines = done.stdout.splitlines()
    assert (0, "") == (done.returncode, done.stderr), done.stdout
    assert CHECKS == [line[9:26].strip() for line in lines[:-1]]
    assert {"ok", "note", "warning"} >= {line[:9].strip() for line in lines[:-1]}
    assert f"ready to record to {tmp_path / '.dash'}" == lines[-1]
    assert [] == list(tmp_path.iterdir()), "nothing is left behind"


def test_json_has_the_numbers_and_no_address_is_named(tmp_path: Path) -> None:
    (tmp_path / ".dash").mkdir()

    document = json.loads(run_python(NO_ADDRESSES, tmp_path))

    found = {check["name"]: check for check in document["checks"]}
    assert (True, CHECKS) == (document["ok"], list(found))
    assert {"frames_per_second", "wanted", "encoders", "bytes"} == set(found["encode JPEG"]["facts"])
    assert 30.0 == found["copy"]["facts"]["wanted"]
    assert found["trial run"]["facts"]["answer_ms"] > 0
    assert found["packages"]["facts"]["numpy"]
    assert [] == list((tmp_path / ".dash").iterdir())


def test_a_machine_that_is_too_slow_fails_the_check_and_the_command(tmp_path: Path) -> None:
    done = doctor(tmp_path, "--fps", "1e9", "--size", "320x240", "--json")

    assert (1, False) == (done.returncode, json.loads(done.stdout)["ok"])
    found = checks_of(done)
    assert ["failed", "failed", "warning", "failed"] == [found[name]["state"] for name in CHECKS[-4:]]
    assert "1e+09 are wanted" in found["copy"]["text"]


def test_a_setting_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    done = doctor(tmp_path, "--size", "64x48", ML_DASH_ENCODERS="many")

    assert 1 == done.returncode
    assert "ML_DASH_ENCODERS='many'" in done.stdout
    assert "not ready: settings, trial run" in done.stdout


@pytest.mark.parametrize("size", ["640", "0x480", "640x", "100000x2", "axb", "-1x5"])
def test_a_size_that_is_none_is_a_wrong_call(size: str, tmp_path: Path) -> None:
    done = doctor(tmp_path, "--size", size)

    assert (2, "") == (done.returncode, done.stdout)
    assert "is no size" in done.stderr


# ------------------------------------------------------------------------------------------------ one check at a time


def test_without_shared_memory_it_says_that_a_thread_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(size: int) -> slab.Slab:
        raise slab.NoSharedMemoryError

    monkeypatch.setattr(slab, "create", refuse)

    check = checks.check_shared_memory(BufferConfig())

    assert ("warning", None) == (check.state, check.facts["kind"])
    assert "thread" in check.text


@pytest.mark.parametrize(
    ("kind", "free", "state", "said"),
    [
        ("ext4", 10**12, "ok", ""),
        ("overlay", 10**12, "note", "container"),
        ("nfs4", 10**12, "warning", "network"),
        ("lustre", 10**12, "warning", "network"),
        ("fuse.sshfs", 10**12, "warning", "network"),
        ("tmpfs", 10**12, "warning", "memory"),
        ("xfs", 10**8, "warning", "little"),
        ("nfs", 10**6, "failed", "full"),
    ],
)
def test_a_disk_is_judged_by_its_kind_and_by_what_is_free(kind: str, free: int, state: str, said: str) -> None:
    found, advice = checks._judge_disk(kind, free)

    assert (state, True) == (found, said in advice)


def test_locks_work_on_the_disk_of_the_tests_and_leave_nothing(tmp_path: Path) -> None:
    assert ("ok", []) == (checks.check_locks(str(tmp_path)).state, list(tmp_path.iterdir()))


@pytest.mark.parametrize(
    ("variables", "loadable", "state", "said"),
    [
        ({"MUJOCO_GL": "egl"}, "libEGL", "ok", "MUJOCO_GL egl"),
        ({"MUJOCO_GL": "osmesa"}, "libEGL", "warning", "which cannot work here; it can be egl"),
        ({}, "libEGL", "warning", "MUJOCO_GL=egl, which is not set"),
        ({}, "nothing", "warning", "neither libEGL nor libOSMesa"),
        ({"DISPLAY": ":0"}, "libGL", "ok", "can be glfw"),
    ],
)
def test_opengl_is_judged_by_what_can_be_loaded(
    variables: dict[str, str], loadable: str, state: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("MUJOCO_GL", "DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    def load(name: str) -> object:
        if not name.startswith(loadable):
            raise OSError(name)
        return object()

    check = checks.check_gl(load)

    assert (state, True) == (check.state, said in check.text), check


def test_the_frame_that_is_measured_is_always_the_same_and_packs_like_a_picture() -> None:
    one, other = (speed.example_frame(64, 48) for _ in range(2))

    assert (48, 64, 3) == one.shape
    assert (one == other).all()
    assert len({bytes(pixel) for row in one for pixel in row}) > 100
