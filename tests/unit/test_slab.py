from __future__ import annotations

import errno
import mmap
import os
import sys
import threading
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path

import pytest

from ml_dash.ipc import named_memory
from ml_dash.ipc import slab as slabs
from ml_dash.ipc.control import FRAMES_OFFSET

MIB = 1 << 20
needs_linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux has /dev/shm and memfd")


def refuse(*arguments):
    raise OSError(errno.ENOSPC, "not here")


@pytest.fixture
def made():
    """Slabs that are closed when the test ends."""
    kept = []
    yield kept
    for slab in kept:
        slab.close()


@needs_linux
class TestKinds:
    def test_the_first_choice_is_shared_memory(self, made):
        made.append(slabs.create(MIB))

        assert "shared_memory" == made[0].kind
        assert FRAMES_OFFSET + MIB == made[0].size == len(made[0].memory)

    def test_nothing_has_a_name_that_could_be_left_behind(self, made):
        before = set(Path("/dev/shm").iterdir())
        made.append(slabs.create(MIB))

        assert before == set(Path("/dev/shm").iterdir())

    def test_without_room_in_dev_shm_it_is_a_memfd(self, made, monkeypatch):
        """Docker gives 64 MB of /dev/shm, and DataLoader workers need it."""
        real = os.statvfs("/dev/shm")

        class Full:
            f_bavail, f_frsize = 0, real.f_frsize

        monkeypatch.setattr(os, "statvfs", lambda path: Full)
        made.append(slabs.create(MIB))

        assert "memfd" == made[0].kind

    def test_without_memfd_it_is_a_file_without_a_name(self, made, monkeypatch, tmp_path):
        monkeypatch.setattr(os, "statvfs", refuse)
        monkeypatch.setattr(os, "memfd_create", refuse)
        monkeypatch.setenv("SLURM_TMPDIR", str(tmp_path))
        made.append(slabs.create(MIB))

        assert "file" == made[0].kind
        assert [] == list(tmp_path.iterdir())
        assert os.fstat(made[0].fd).st_dev == tmp_path.stat().st_dev

    def test_a_network_file_system_is_never_used(self, monkeypatch, tmp_path):
        monkeypatch.setattr(os, "statvfs", refuse)
        monkeypatch.setattr(os, "memfd_create", refuse)
        monkeypatch.setattr(slabs, "file_system_of", lambda folder: "nfs4")
        with pytest.raises(slabs.NoSharedMemoryError):
            slabs.create(MIB)

    def test_where_the_control_block_cannot_be_reserved_the_next_kind_is_tried(self, made, monkeypatch):
        refused = []

        def fallocate(fd, offset, length):
            if not refused:
                refused.append(fd)
                raise OSError(errno.ENOSPC, "full")

        monkeypatch.setattr(os, "posix_fallocate", fallocate)
        made.append(slabs.create(MIB))

        assert "memfd" == made[0].kind

    def test_a_descriptor_is_not_inherited_by_accident(self, made):
        made.append(slabs.create(MIB))

        assert not os.get_inheritable(made[0].fd)

    def test_without_dev_shm_it_is_what_python_calls_shared_memory(self, made, monkeypatch):
        """As on macOS. Its name is gone at once."""
        before = set(Path("/dev/shm").iterdir())
        monkeypatch.delattr(os, "O_TMPFILE")
        made.append(slabs.create(MIB))

        assert "shared_memory" == made[0].kind
        assert before == set(Path("/dev/shm").iterdir())
        made[0].memory[:5] = b"hello"

    def test_other_threads_keep_their_resource_tracker(self, monkeypatch):
        """Ours needs no tracking, since it is unlinked at once; a block of the user's own does."""
        from multiprocessing import resource_tracker

        seen = []
        monkeypatch.setattr(resource_tracker, "register", lambda name, kind: seen.append(kind))
        monkeypatch.setattr(resource_tracker, "unregister", lambda name, kind: None)

        def make_their_own():
            block = SharedMemory(create=True, size=10)
            block.close()
            block.unlink()

        with named_memory._untracked():
            thread = threading.Thread(target=make_their_own)
            thread.start()
            thread.join()
        os.close(named_memory.create(MIB))

        assert ["shared_memory"] == seen


def test_both_ends_see_the_same_bytes(made):
    made.append(slabs.create(MIB))
    made.append(slabs.attach(os.dup(made[0].fd), made[0].size))
    made[0].memory[FRAMES_OFFSET : FRAMES_OFFSET + 5] = b"hello"

    assert b"hello" == made[1].memory[FRAMES_OFFSET : FRAMES_OFFSET + 5]


def test_private_memory_needs_no_reservation(made):
    made.append(slabs.private(MIB))

    assert ("private", -1) == (made[0].kind, made[0].fd)
    assert made[0].reserve(FRAMES_OFFSET, MIB)


@pytest.mark.parametrize(
    ("error", "room"),
    [(errno.ENOSPC, False), (errno.ENOMEM, False), (errno.EOPNOTSUPP, True), (errno.EINVAL, True)],
)
def test_a_reservation_says_whether_there_is_room(made, monkeypatch, error, room):
    """A file system that cannot reserve at all is no machine without room."""
    made.append(slabs.create(MIB))

    def fallocate(fd, offset, length):
        raise OSError(error, "refused")

    monkeypatch.setattr(os, "posix_fallocate", fallocate)

    assert room is made[0].reserve(FRAMES_OFFSET, MIB)


@pytest.mark.parametrize("offset", [0, 1, mmap.PAGESIZE - 1, FRAMES_OFFSET + 12345])
def test_populating_leaves_the_content(made, offset):
    made.append(slabs.create(MIB))
    made[0].memory[offset : offset + 3] = b"abc"
    made[0].populate(offset, 100_000)

    assert b"abc" == made[0].memory[offset : offset + 3]


def test_closing_twice_is_fine_and_a_live_view_keeps_its_memory():
    slab = slabs.create(MIB)
    view = memoryview(slab.memory)[:10]
    slab.close()
    slab.close()

    assert -1 == slab.fd
    assert bytes(10) == bytes(view)
    view.release()
    slab.close()
