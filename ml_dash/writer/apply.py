"""From the ring to the disk, in order, exactly once.

Records are read ahead so that several frames are encoded at the same time; they are committed in order. A commit writes
the length of each journal to the undo log in shared memory, appends, and moves the ring's tail. If the writer is killed
within a commit, the next one truncates the journals to those lengths and does the batch again.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
import traceback
from collections import deque
from dataclasses import dataclass, field
from typing import Any, TypeGuard

from ml_dash.ipc.control import Control, Word
from ml_dash.ipc.launch import GUILTY
from ml_dash.ipc.ring import Consumer
from ml_dash.media.frames import FrameSpec
from ml_dash.provenance.secrets import mask_text
from ml_dash.records.record import SPILLED, Kind, Record
from ml_dash.records.values import parse
from ml_dash.storage import layout
from ml_dash.storage.disk import Disk
from ml_dash.storage.documents import load_document, parameters_in, timestamp, write_document
from ml_dash.storage.journal import Journals
from ml_dash.storage.locks import document_lock
from ml_dash.writer.batch import Batch, decode_undo, encode_undo
from ml_dash.writer.encode import EncodeJob, EncoderPool
from ml_dash.writer.records import RecordWriter

READ_AHEAD = 4096
"""Records read before they are committed: bounds the memory of the writer."""

MAX_BATCH = 1024
"""Records committed at once: bounds the work that is done again after a kill."""

SUSPECT = 1
"""Suspicion from which records are handled one at a time, so that the guilty one is known."""

_MASKED_KINDS = frozenset((Kind.OPEN, Kind.LOG, Kind.CLOSE))
"""Records whose secrets are masked in the quarantine as well. The data of the others is the user's own."""

_PERMANENT = frozenset((errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.EINVAL, errno.EFBIG))
"""Errors caused by a record's own path. After any other one the operation is tried again."""


@dataclass(slots=True)
class _Pending:
    """A record that was read and is not committed.

    Attributes:
        record: its kind becomes ``NOTE`` when it was set aside.
        job: the encoding of an image or a frame.
        spill: absolute path of the file that held the record; empty for one that came through the ring.
    """

    record: Record
    job: EncodeJob | None = None
    spill: str = ""


@dataclass(kw_only=True, eq=False)
class Applier:
    """Reads, encodes and commits records.

    Attributes:
        run: absolute path of the run's directory.
        consumer: reads the ring.
        control: the control block.
        disk: the file operations.
        journals: the open journals.
        records: writes records into batches.
        pool: encodes frames.
        suspicion: how likely the record in hand killed the writers before; see ``SUSPECT`` and ``ipc.launch.GUILTY``.
        closing: whether the end of the run was reached: see ``commit_close``.
    """

    run: str
    consumer: Consumer
    control: Control
    disk: Disk
    journals: Journals
    records: RecordWriter
    pool: EncoderPool
    suspicion: int
    closing: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self._words = self.control.words
        self._suspect_end = self._words[Word.HEAD] if self.suspicion >= SUSPECT else 0
        self._pending: deque[_Pending] = deque()
        self._started_ns = time.time_ns()
        self._undo_needed = True  # a writer before this one may have died within a commit

    @property
    def idle(self) -> bool:
        """Whether everything published so far is committed."""
        return not self._pending and self._words[Word.TAIL] == self._words[Word.HEAD]

    @property
    def encoding(self) -> bool:
        """Whether the next commit waits for an encoder."""
        return bool(self._pending) and self._pending[0].job is not None

    @property
    def settled(self) -> bool:
        """Whether nothing that was read waits for its commit."""
        return not self._pending

    def step(self) -> bool:
        """Read new records and commit those that are ready. True if anything was done.

        Raises:
            OSError: the disk refuses. Nothing is lost; call it again.
        """
        if self._undo_needed:
            self._undo()
        read = self._read_ahead()
        return self._commit() or read

    def _read_ahead(self) -> bool:
        careful = self._words[Word.TAIL] < self._suspect_end
        limit = (1 if careful else READ_AHEAD) - len(self._pending)
        any_read = False
        for record in self.consumer.read(limit) if limit > 0 else ():
            any_read = True
            try:
                if not (careful and self._set_aside_if_guilty(record)):
                    self._accept(record)
            except OSError:
                self.consumer.position = record.position  # it is read again by the next step
                raise
        return any_read

    def _accept(self, record: Record) -> None:
        pending = self._read(record)
        if pending.record.kind in (Kind.IMAGE, Kind.FRAME):
            try:
                pending.job = self._job(pending.record)
            except Exception as error:  # noqa: BLE001 - whatever is wrong with the record, the run goes on without it
                self._give_up(pending, error)
            else:
                self.pool.submit(pending.job)
        self._pending.append(pending)

    def _read(self, record: Record) -> _Pending:
        """Read the content of a record, which is in a file if it was too large for the ring."""
        if not record.flags & SPILLED:
            return _Pending(record)
        key_size, name = int.from_bytes(record.data[:8], "little"), os.fsdecode(record.data[8:])
        path = os.path.join(self.run, name)
        content = self.disk.read_file(path, limit=None)
        if content is None:  # the run's folder was deleted by the user
            return _Pending(record._replace(kind=Kind.NOTE, data=b"{}"))
        return _Pending(record._replace(key=content[:key_size], data=content[key_size:]), spill=path)

    def _job(self, record: Record) -> EncodeJob:
        data = parse(record.data)
        frame = data["frame"]
        spec = FrameSpec(frame["h"], frame["w"], frame["c"], frame["dtype"], frame["nbytes"])
        raw = os.path.join(self.run, frame["raw"]) if "raw" in frame else ""
        entry, target = data, ""
        if record.kind == Kind.IMAGE:
            entry = parse(record.key)
            target = self._image_path(entry)
        return EncodeJob(entry, spec, frame.get("offset", -1), raw, frame["format"], frame["quality"], target)

    def _image_path(self, entry: dict[str, Any]) -> str:
        return os.path.join(self.run, layout.blob(entry["path"], entry["id"], entry["filename"]))

    def _commit(self) -> bool:
        batch = Batch()
        try:
            count = self._gather(batch)
            if count == 0:
                return False
            self._append(batch)
        except OSError:
            self.records.forget_batch()
            raise
        self._free(batch, count)
        return True

    def _gather(self, batch: Batch) -> int:
        """Write the records that are ready into ``batch``. Returns their number."""
        count = 0
        for pending in self._pending:
            if count == MAX_BATCH or batch.full or not self._is_ready(pending):
                break
            if pending.record.kind == Kind.CLOSE:
                if count == 0:  # everything before it is committed; it is itself committed by commit_close
                    self._write(pending, Batch())
                    self.closing = True
                break
            batch.current = count
            self._write(pending, batch)
            batch.end, batch.records = pending.record.end, pending.record.sequence + 1
            count += 1
        return count

    def commit_close(self) -> None:
        """Commit the record that ends the run, once the end is written. After a kill before this, it is written again."""
        if self.closing and self._pending:
            record = self._pending.popleft().record
            self.consumer.free(record.end, record.sequence + 1)

    def _is_ready(self, pending: _Pending) -> bool:
        job = pending.job
        if job is None or not job.done:
            return job is None
        if _may_pass(job.error):
            error = job.error
            # All failed ones at once: with a pause for each of them, the writer would recover slowly from a long fault.
            for other in self._pending:
                if other.job is not None and other.job.done and _may_pass(other.job.error):
                    self.pool.submit(other.job)
            raise error
        return True

    def _write(self, pending: _Pending, batch: Batch) -> None:
        record, job = pending.record, pending.job
        try:
            if job is not None and job.error is not None:
                raise job.error
            if record.kind != Kind.NOTE:
                self.records.write(record, job, batch)
        except Exception as error:  # the record is wrong, or there is a bug: the run goes on without it
            if _may_pass(error):
                raise
            self._give_up(pending, error)
        if pending.spill:
            batch.after.append(lambda: self.disk.remove(pending.spill))

    def _append(self, batch: Batch) -> None:
        try:
            lengths = {path: self._length(path, batch) for path in batch.lines}
            self.control.write_undo(encode_undo(lengths), self._words[Word.TAIL])
            self._undo_needed = True
            for path, lines in batch.lines.items():
                self.journals.append(path, b"".join(lines))
            if batch.parameters:
                self._merge_parameters(batch)
            self._words[Word.FRAMES_WRITTEN] += batch.frames
        except OSError:
            self._undo()
            raise

    def _length(self, path: str, batch: Batch) -> int:
        try:
            length = self.journals.length(path)
        except OSError as error:
            if error.errno in _PERMANENT:  # the path is taken by something else: only its own records are lost
                for index in batch.sources[path]:
                    self._give_up(self._pending[index], error)
            raise
        if batch.starts.get(path, length) != length:
            raise OSError(errno.ESTALE, "another program changed the file; a new one is begun", path)
        return length

    def _give_up(self, pending: _Pending, error: Exception) -> None:
        """Set a record aside, once even if its batch is done again."""
        self._set_aside(pending.record, error)
        pending.record, pending.job = pending.record._replace(kind=Kind.NOTE), None

    def _free(self, batch: Batch, count: int) -> None:
        self.consumer.free(batch.end, batch.records)
        self._undo_needed = False
        self._words[Word.CURRENT] = 0
        for _ in range(count):
            self._pending.popleft()
        self.records.committed(batch)

    def _undo(self) -> None:
        undo_log = self.control.read_undo()
        if undo_log is not None:
            for path, length in decode_undo(undo_log).items():
                self.journals.truncate(path, length)
            self._words[Word.FRAMES_WRITTEN] = self._words[Word.UNDO_FRAMES]
        self._undo_needed = False

    def _merge_parameters(self, batch: Batch) -> None:
        path = os.path.join(self.run, layout.PARAMETERS)
        in_batch = (pending.record for pending in self._pending if pending.record.end <= batch.end)
        updated_at = timestamp(max((record.time for record in in_batch), default=0.0))
        with document_lock(os.path.join(self.run, layout.PARAMETERS_LOCK)):
            stored = load_document(self.disk, path, values=True) or {}
            version = stored.get("version")
            document = {
                "version": (version if isinstance(version, int) else 0) + 1,
                "data": parameters_in(stored) | batch.parameters,
                "createdAt": stored.get("createdAt", updated_at),
                "updatedAt": updated_at,
            }
            write_document(self.disk, path, document)
        self.records.on_stored(path)

    def _set_aside_if_guilty(self, record: Record) -> bool:
        mark = record.position + 1
        guilty = self.suspicion >= GUILTY and self._words[Word.CURRENT] == mark
        if guilty and record.kind != Kind.CLOSE:
            pending = self._read(record)
            key = pending.record.key
            self._give_up(pending, RuntimeError("the writer died of this record more than once"))
            if record.kind == Kind.IMAGE:  # the file may be written, and no index line will ever name it
                with contextlib.suppress(ValueError, LookupError, TypeError):  # the key itself may be wrong
                    self.disk.remove_folder(os.path.dirname(self._image_path(parse(key))))
            self.suspicion = 0
            self._pending.append(pending)
            return True
        self._words[Word.CURRENT] = mark
        return False

    def _set_aside(self, record: Record, error: Exception) -> None:
        """Write a record that cannot be applied to the quarantine folder, and count it."""
        text = mask_text("".join(traceback.format_exception(error)))
        data = record.data
        if record.kind in _MASKED_KINDS:
            data = mask_text(data.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")
        folder = os.path.join(self.run, layout.QUARANTINE)
        # With a time, since process ids repeat in containers: that of the start, so that a repeated step makes no second file.
        name = f"{os.getpid()}-{self._started_ns}-{record.position}"
        about = {"kind": record.kind, "key": record.key.decode("utf-8", "replace"), "error": text, "time": record.time}
        try:
            write_document(self.disk, os.path.join(folder, f"{name}.json"), about)
            self.disk.write_file(os.path.join(folder, f"{name}.data"), [data])
        except OSError as refusal:
            if _may_pass(refusal):  # else the record is lost, and only counted
                raise
        self._words[Word.REFUSED] += 1
        self.control.set_error(
            f"a record ({Kind(record.kind).name.lower()}) was set aside in {folder}: {mask_text(str(error))}"
        )


def _may_pass(error: Exception | None) -> TypeGuard[OSError]:
    """Whether an error is the disk's and not the record's, so that the operation is to be tried again."""
    return isinstance(error, OSError) and error.errno not in _PERMANENT
