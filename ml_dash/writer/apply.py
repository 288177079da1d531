"""From the ring to the disk, in order, exactly once.

Records are read ahead so that frames are encoded beside each other; they are committed in order. A commit notes the
length of each journal in shared memory, appends, and moves the ring's tail. A writer that is killed within it leaves
the note behind, and the next one cuts the journals back before it does the batch again.
"""

from __future__ import annotations

import errno
import os
import time
import traceback
from collections import deque
from dataclasses import dataclass
from typing import TypeGuard

from ml_dash.ipc.control import Control, Word
from ml_dash.ipc.launch import GUILTY
from ml_dash.ipc.ring import Consumer
from ml_dash.media.frames import FrameSpec
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
"""Records committed at once: bounds what is done again after a kill."""

SUSPECT = 1
"""Suspicion from which records are handled one at a time, so that a culprit shows."""

_PERMANENT = frozenset((errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.EINVAL, errno.EFBIG))
"""Errors that come from the record's own name; every other one may pass, and is tried again."""


@dataclass(slots=True)
class _Pending:
    record: Record
    job: EncodeJob | None
    spill: str = ""


class Applier:
    """Reads, encodes and commits.

    Args:
        run: absolute path of the run's directory.
        consumer: the ring.
        control: its control block.
        disk: every file operation.
        journals: the open journals.
        records: turns records into lines.
        pool: encodes frames.
        suspicion: see ``SUSPECT`` and ``ipc.launch.GUILTY``.
    """

    def __init__(
        self,
        run: str,
        consumer: Consumer,
        control: Control,
        disk: Disk,
        journals: Journals,
        records: RecordWriter,
        pool: EncoderPool,
        suspicion: int,
    ) -> None:
        self._run = run
        self._consumer = consumer
        self._control = control
        self._words = control.words
        self._disk = disk
        self._journals = journals
        self._records = records
        self._pool = pool
        self._suspicion = suspicion
        self._suspect_end = self._words[Word.HEAD] if suspicion >= SUSPECT else 0
        self._pending: deque[_Pending] = deque()
        self._started = time.time_ns()
        self._undo_needed = True  # a writer before this one may have died within a commit
        self.closing = False

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
        """Read what is new and commit what is ready. True if anything was done.

        Raises:
            OSError: the disk refuses; nothing is lost, the step is to be repeated.
        """
        if self._undo_needed:
            self._undo()
        read = self._read_ahead()
        return self._commit() or read

    def _read_ahead(self) -> bool:
        careful = self._words[Word.TAIL] < self._suspect_end
        limit = (1 if careful else READ_AHEAD) - len(self._pending)
        found = False
        for record in self._consumer.read(limit) if limit > 0 else ():
            found = True
            try:
                if not (careful and self._set_aside_if_guilty(record)):
                    self._accept(record)
            except OSError:
                self._consumer.position = record.position  # it is read again when the step is repeated
                raise
        return found

    def _accept(self, record: Record) -> None:
        pending = _Pending(record, None)
        if record.flags & SPILLED:
            pending = self._unspilled(record)
        if record.kind in (Kind.IMAGE, Kind.FRAME):
            try:
                pending.job = self._job(pending.record)
            except Exception as error:  # noqa: BLE001 - whatever is wrong with it, the run goes on without it
                self._set_aside(record, error)
                pending = _Pending(record._replace(kind=Kind.NOTE), None)
            else:
                self._pool.submit(pending.job)
        self._pending.append(pending)

    def _unspilled(self, record: Record) -> _Pending:
        key_size, name = int.from_bytes(record.data[:8], "little"), os.fsdecode(record.data[8:])
        path = os.path.join(self._run, name)
        content = self._disk.read_file(path)
        if content is None:  # the run's folder was deleted by the user
            return _Pending(record._replace(kind=Kind.NOTE, data=b"{}"), None)
        return _Pending(record._replace(key=content[:key_size], data=content[key_size:]), None, path)

    def _job(self, record: Record) -> EncodeJob:
        frame = parse(record.data)
        place = frame["frame"]
        spec = FrameSpec(place["h"], place["w"], place["c"], place["dtype"], place["nbytes"])
        raw = os.path.join(self._run, place["raw"]) if "raw" in place else ""
        target = self._image_path(record) if record.kind == Kind.IMAGE else ""
        return EncodeJob(spec, place.get("offset", -1), raw, place["format"], place["quality"], target)

    def _image_path(self, record: Record) -> str:
        entry = parse(record.key)
        return os.path.join(self._run, layout.blob(entry["path"], entry["id"], entry["filename"]))

    def _commit(self) -> bool:
        batch = Batch()
        try:
            count = self._gather(batch)
            if count == 0:
                return False
            self._append(batch)
        except OSError:
            self._records.forget()
            raise
        self._free(batch, count)
        return True

    def _gather(self, batch: Batch) -> int:
        """Write what is ready into ``batch``. Returns the number of records."""
        count = 0
        for pending in self._pending:
            if count == MAX_BATCH or batch.full or not self._is_ready(pending):
                break
            if pending.record.kind == Kind.CLOSE:
                self._reach_close(pending, first=count == 0)
                break
            batch.current = count
            self._write(pending, batch)
            batch.end, batch.records = pending.record.end, pending.record.sequence + 1
            count += 1
        return count

    def _reach_close(self, pending: _Pending, *, first: bool) -> None:
        """The end is begun once all before it is committed, and is itself committed by ``commit_close``."""
        if first:
            self._write(pending, Batch())
            self.closing = True

    def commit_close(self) -> None:
        """All that the end takes is done. A writer that is killed before this does it again."""
        if self.closing and self._pending:
            record = self._pending.popleft().record
            self._consumer.free(record.end, record.sequence + 1)

    def _is_ready(self, pending: _Pending) -> bool:
        job = pending.job
        if job is None or not job.done:
            return job is None
        if _may_pass(job.error):
            error = job.error
            self._encode_again()
            raise error
        return True

    def _encode_again(self) -> None:
        """All that failed meanwhile, at once: a pause for each of them would make the end of a fault a long one."""
        for pending in self._pending:
            if pending.job is not None and pending.job.done and _may_pass(pending.job.error):
                self._pool.submit(pending.job)

    def _write(self, pending: _Pending, batch: Batch) -> None:
        record, job = pending.record, pending.job
        try:
            if job is not None and job.error is not None:
                raise job.error
            if record.kind != Kind.NOTE:
                self._records.write(record, job, batch)
        except Exception as error:  # the record is wrong or shows a bug of ours: the run goes on without it
            if _may_pass(error):
                raise
            self._give_up(pending, error)
        if pending.spill:
            batch.after.append(lambda: self._disk.remove(pending.spill))

    def _append(self, batch: Batch) -> None:
        try:
            lengths = {path: self._length(path, batch) for path in batch.lines}
            self._control.write_undo(encode_undo(lengths), self._words[Word.TAIL])
            self._undo_needed = True
            for path, lines in batch.lines.items():
                self._journals.append(path, b"".join(lines))
            if batch.parameters:
                self._merge_parameters(batch)
            self._words[Word.FRAMES_WRITTEN] += batch.frames
        except OSError:
            self._undo()
            raise

    def _length(self, path: str, batch: Batch) -> int:
        try:
            length = self._journals.length(path)
        except OSError as error:
            if error.errno in _PERMANENT:  # something else is in the way there: only its own records suffer
                for place in batch.sources[path]:
                    self._give_up(self._pending[place], error)
            raise
        if batch.starts.get(path, length) != length:
            raise OSError(errno.ESTALE, "the file was changed by somebody else; a new one is begun", path)
        return length

    def _give_up(self, pending: _Pending, error: Exception) -> None:
        """Set a record aside; the batch may have to be done again, and the record is not set aside twice."""
        self._set_aside(pending.record, error)
        pending.record, pending.job = pending.record._replace(kind=Kind.NOTE), None

    def _free(self, batch: Batch, count: int) -> None:
        self._consumer.free(batch.end, batch.records)
        self._undo_needed = False
        self._words[Word.CURRENT] = 0
        for _ in range(count):
            self._pending.popleft()
        self._records.committed(batch)

    def _undo(self) -> None:
        undo_log = self._control.read_undo()
        if undo_log is not None:
            for path, length in decode_undo(undo_log).items():
                self._journals.truncate(path, length)
            self._words[Word.FRAMES_WRITTEN] = self._words[Word.UNDO_FRAMES]
        self._undo_needed = False

    def _merge_parameters(self, batch: Batch) -> None:
        path = os.path.join(self._run, layout.PARAMETERS)
        moment = timestamp(self._now(batch))
        with document_lock(os.path.join(self._run, layout.PARAMETERS_LOCK)):
            found = load_document(self._disk, path, values=True) or {}
            version = found.get("version")
            document = {
                "version": (version if isinstance(version, int) else 0) + 1,
                "data": parameters_in(found) | batch.parameters,
                "createdAt": found.get("createdAt", moment),
                "updatedAt": moment,
            }
            write_document(self._disk, path, document)
        self._records.stored(path)

    def _now(self, batch: Batch) -> float:
        return max((pending.record.time for pending in self._pending if pending.record.end <= batch.end), default=0.0)

    def _set_aside_if_guilty(self, record: Record) -> bool:
        mark = record.position + 1
        guilty = self._suspicion >= GUILTY and self._words[Word.CURRENT] == mark
        if guilty and record.kind != Kind.CLOSE:
            self._set_aside(record, RuntimeError("the writer died of this record more than once"))
            if record.kind == Kind.IMAGE:  # what was written of it, since its index line will never be
                self._disk.remove_folder(os.path.dirname(self._image_path(record)))
            self._suspicion = 0
            self._pending.append(_Pending(record._replace(kind=Kind.NOTE), None))
            return True
        self._words[Word.CURRENT] = mark
        return False

    def _set_aside(self, record: Record, error: Exception) -> None:
        """Keep a record that cannot be written where a person can look at it, and count it."""
        text = "".join(traceback.format_exception(error))
        folder = os.path.join(self._run, layout.QUARANTINE)
        # The time, since process ids come again in containers; of the start, so that a repeated step makes no second file.
        name = f"{os.getpid()}-{self._started}-{record.position}"
        about = {"kind": record.kind, "key": record.key.decode("utf-8", "replace"), "error": text, "time": record.time}
        try:
            write_document(self._disk, os.path.join(folder, f"{name}.json"), about)
            self._disk.write_file(os.path.join(folder, f"{name}.data"), [record.data])
        except OSError as refusal:
            if _may_pass(refusal):  # else it is lost, and the count says so
                raise
        self._words[Word.REFUSED] += 1
        self._control.set_error(f"a record ({Kind(record.kind).name.lower()}) was set aside in {folder}: {error}")


def _may_pass(error: Exception | None) -> TypeGuard[OSError]:
    """Whether an error is one of the disk and not of the record: to be tried again."""
    return isinstance(error, OSError) and error.errno not in _PERMANENT
