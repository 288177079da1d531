"""Each kind of record, turned into lines of a batch and files in place. Nothing here appends to a journal.

Doing a record twice gives the same as doing it once: names and ids were chosen by the training process, files are put
in place by rename, and lines only count once their batch is committed.
"""

from __future__ import annotations

import hashlib
import os
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any

from ml_dash.records.record import Kind, Record
from ml_dash.records.values import parse
from ml_dash.storage import layout
from ml_dash.storage.disk import Disk
from ml_dash.storage.documents import timestamp, to_json
from ml_dash.writer import journal_state
from ml_dash.writer.batch import Batch
from ml_dash.writer.columnar import Stream
from ml_dash.writer.encode import EncodeJob
from ml_dash.writer.import_legacy import import_files
from ml_dash.writer.journal_state import MetricState, TrackState
from ml_dash.writer.shards import FrameShards
from ml_dash.writer.status import RunStatus

REMEMBERED_FILES = 65_536
"""File names whose newest id is remembered, so that the version before goes at once; older ones go at close."""

HASH_NOW_BYTES = 8 * 1024 * 1024
"""A stored file up to this size is hashed with its record; a larger one at the end, so that nothing waits behind it."""


class RecordWriter:
    """Turns records into a batch.

    Attributes:
        old_versions_left: files may be stored that a later save of the same name replaced.

    Args:
        run: absolute path of the run's directory.
        writer_id: empty for the run's first writer.
        disk: where files go.
        status: the run's experiment.json.
        stored: called with the absolute path of each file that was put in place.
        opened: called with what the training process told of itself, and the time, when the run begins.
    """

    def __init__(
        self,
        run: str,
        writer_id: str,
        disk: Disk,
        status: RunStatus,
        stored: Callable[[str], None],
        opened: Callable[[dict[str, Any], float], None],
    ) -> None:
        self._run = run
        self._writer_id = writer_id
        self._disk = disk
        self._status = status
        self.stored = stored
        self._opened = opened
        self._log_path = layout.logs(writer_id)
        self._index_path = layout.file_index(writer_id)
        self._absolute_index = os.path.join(run, self._index_path)
        self.old_versions_left = False
        self._numbers: dict[str, int] = {}
        self._metrics: dict[bytes, MetricState] = {}
        self._tracks: dict[bytes, TrackState] = {}
        self._shards = FrameShards(run, writer_id, disk)
        self._files: OrderedDict[tuple[str, str], str] = OrderedDict()
        self._touched: dict[str, MetricState | TrackState] = {}
        self._postponed: deque[Callable[[], None]] = deque(maxlen=REMEMBERED_FILES)
        self._handlers: dict[int, Callable[[Record, EncodeJob | None, Batch], None]] = {
            Kind.OPEN: self._open,
            Kind.LOG: self._log,
            Kind.PARAMS: self._params,
            Kind.METRIC: self._metric,
            Kind.TRACK: self._track,
            Kind.DESCRIBE: self._describe,
            Kind.FILE: self._file,
            Kind.FILE_CHANGE: self._file_change,
            Kind.IMAGE: self._image,
            Kind.FRAME: self._frame,
            Kind.CLOSE: self._close,
        }

    def write(self, record: Record, job: EncodeJob | None, batch: Batch) -> None:
        """Add a record to the batch.

        Raises:
            OSError: a file could not be put in place.
            Exception: the record itself is wrong.
        """
        self._handlers[record.kind](record, job, batch)

    def committed(self, batch: Batch) -> None:
        """The batch is on disk: its numbers are taken."""
        self._numbers.update(batch.numbers)
        for step in batch.after:
            try:
                step()
            except OSError:
                self._postponed.append(step)

    def tidy_up(self) -> None:
        """Remove what could not be removed when its batch was committed.

        Raises:
            OSError: the disk refuses still.
        """
        while self._postponed:
            self._postponed[0]()
            self._postponed.popleft()

    def forget(self) -> None:
        """A batch was undone. What counts lines only counts committed ones; where a shard ends is read again."""
        self._shards.forget()

    def save_metadata(self, now: float) -> None:
        """Write metadata.json of the streams that got records since the last time."""
        while self._touched:
            folder, state = next(iter(self._touched.items()))
            if not self._writer_id:
                journal_state.save_metadata(self._disk, self._run, state, now)
            del self._touched[folder]

    def streams(self) -> list[Stream]:
        """The journals of the metrics and tracks that got records, as far as they have one."""
        found: list[Stream] = []
        for is_track, states in ((False, self._metrics.values()), (True, self._tracks.values())):
            for state in states:
                journal = os.path.join(self._run, layout.data(state.folder, self._writer_id))
                found.append(Stream(journal, is_track, state.total))
        return found

    def load_every_stream(self) -> None:
        """Have ``save_metadata`` write every stream: a writer that was killed had counts that it never wrote."""
        if self._writer_id:
            return
        for name in journal_state.names_below(self._disk, self._run, "metrics"):
            state = self._metric_state(b"" if name == layout.UNNAMED_METRIC else name.encode())
            self._touched[state.folder] = state
        for topic in journal_state.names_below(self._disk, self._run, "tracks"):
            track = self._track_state(topic.encode())
            self._touched[track.folder] = track

    def _open(self, record: Record, job: EncodeJob | None, batch: Batch) -> None:  # noqa: ARG002 - one signature
        opening = parse(record.data)
        self._status.open(opening, record.time)
        if self._writer_id:
            return
        import_files(self._run, self._disk)
        for folder in ("logs", "metrics", "files"):
            self._disk.make_folder(os.path.join(self._run, folder))
        if opening.get("environment"):
            self._opened(opening["environment"], record.time)

    def _close(self, record: Record, job: EncodeJob | None, batch: Batch) -> None:  # noqa: ARG002 - one signature
        self._status.ending = parse(record.data)

    def _log(self, record: Record, job: EncodeJob | None, batch: Batch) -> None:  # noqa: ARG002 - one signature
        number = self._next_number(batch, self._log_path, self._next_log_number)
        head = b'{"sequenceNumber":%d,"timestamp":"%s",' % (number, timestamp(record.time).encode())
        batch.add(self._log_path, head + record.data[1:] + b"\n")

    def _next_log_number(self) -> int:
        return journal_state.next_log_number(self._disk, self._run, self._writer_id)

    def _params(self, record: Record, job: EncodeJob | None, batch: Batch) -> None:  # noqa: ARG002 - one signature
        batch.parameters.update(parse(record.data))

    def _metric(self, record: Record, job: EncodeJob | None, batch: Batch) -> None:  # noqa: ARG002 - one signature
        state = self._metric_state(record.key)
        path = layout.data(state.folder, self._writer_id)
        number = self._next_number(batch, path, lambda: state.next_index)
        line = b'{"index":%d,"data":%s,"createdAt":"%s"}\n'
        batch.add(path, line % (number, record.data, timestamp(record.time).encode()))
        batch.after.append(lambda: self._count_point(state, number))

    def _metric_state(self, key: bytes) -> MetricState:
        state = self._metrics.get(key)
        if state is None:
            state = journal_state.load_metric(self._disk, self._run, self._writer_id, key.decode() or None)
            self._metrics[key] = state
        return state

    def _describe(self, record: Record, job: EncodeJob | None, batch: Batch) -> None:  # noqa: ARG002 - one signature
        state = self._metric_state(record.key)
        for name, value in parse(record.data).items():
            state.document[name] = state.document.get(name) or value
        # Now, since it stands nowhere else: a writer that is killed leaves only what is on disk.
        if self._writer_id:
            journal_state.save_about(self._disk, self._run, state, self._writer_id)
        else:
            journal_state.save_metadata(self._disk, self._run, state, record.time)

    def _count_point(self, state: MetricState, number: int) -> None:
        state.total += 1
        state.next_index = number + 1
        self._touched[state.folder] = state

    def _track(self, record: Record, job: EncodeJob | None, batch: Batch) -> None:  # noqa: ARG002 - one signature
        state = self._track_state(record.key)
        fields = parse(record.data)
        rest = b"," + record.data[1:] if fields else b"}"
        batch.add(layout.data(state.folder, self._writer_id), b'{"timestamp":%r%s\n' % (record.time, rest))
        batch.after.append(lambda: self._count_row(state, record.time, fields))

    def _track_state(self, key: bytes) -> TrackState:
        state = self._tracks.get(key)
        if state is None:
            state = journal_state.load_track(self._disk, self._run, self._writer_id, key.decode())
            self._tracks[key] = state
        return state

    def _count_row(self, state: TrackState, when: float, fields: dict[str, Any]) -> None:
        state.count(when, fields)
        self._touched[state.folder] = state

    def _file(self, record: Record, job: EncodeJob | None, batch: Batch) -> None:  # noqa: ARG002 - one signature
        entry = parse(record.key)
        staged = entry.pop("staged", None)
        target = os.path.join(self._run, layout.blob(entry["path"], entry["id"], entry["filename"]))
        if staged is None:
            self._disk.write_file(target, [record.data])
            entry["sizeBytes"] = len(record.data)
            entry["checksum"] = hashlib.sha256(record.data).hexdigest()
        else:
            self._put_in_place(os.path.join(self._run, staged), target)
            entry["sizeBytes"] = size = self._disk.size(target)
            entry["checksum"] = file_checksum(self._disk, target) if (size or 0) <= HASH_NOW_BYTES else None
        self._add_to_index(entry, record.time, batch)
        batch.after.append(lambda: self.stored(target))

    def _put_in_place(self, staged: str, target: str) -> None:
        self._disk.make_folder(os.path.dirname(target))
        try:
            self._disk.rename(staged, target)
        except FileNotFoundError:  # done before, by an attempt whose batch did not get through
            if self._disk.size(target) is None:
                raise LookupError(f"{staged} is gone: the run's folder was changed by somebody else") from None

    def _image(self, record: Record, job: EncodeJob | None, batch: Batch) -> None:
        assert job is not None
        entry = parse(record.key)
        entry["sizeBytes"], entry["checksum"] = job.size, job.checksum
        batch.frames += 1
        self._add_to_index(entry, record.time, batch)
        batch.after.append(lambda: self.stored(job.target))
        if job.raw:
            batch.after.append(lambda: self._disk.remove(job.raw))

    def _file_change(self, record: Record, job: EncodeJob | None, batch: Batch) -> None:  # noqa: ARG002 - one signature
        batch.add(self._index_path, record.data + b"\n")

    def _add_to_index(self, entry: dict[str, Any], when: float, batch: Batch) -> None:
        if not self._files and self._disk.size(self._absolute_index):
            self.old_versions_left = True  # what a writer before this one stored is not remembered
        batch.add(self._index_path, to_json(self._full_entry(entry, when)) + b"\n")
        batch.after.append(lambda: self._supersede(entry["path"], entry["filename"], entry["id"]))

    def _full_entry(self, entry: dict[str, Any], when: float) -> dict[str, Any]:
        moment = timestamp(when)
        return {
            "id": entry["id"],
            "experimentId": self._status.experiment_id,
            "path": entry["path"],
            "filename": entry["filename"],
            "description": entry.get("description"),
            "tags": entry.get("tags", []),
            "bindrs": entry.get("bindrs", []),
            "contentType": entry["contentType"],
            "sizeBytes": entry["sizeBytes"],
            "checksum": entry["checksum"],
            "metadata": entry.get("metadata"),
            "uploadedAt": moment,
            "updatedAt": moment,
            "deletedAt": None,
        }

    def _supersede(self, path: str, filename: str, file_id: str) -> None:
        key = (path, filename)
        before = self._files.pop(key, None)
        self._files[key] = file_id
        if len(self._files) > REMEMBERED_FILES:
            self._files.popitem(last=False)
            self.old_versions_left = True
        if before is not None and before != file_id:
            old = os.path.join(self._run, layout.blob(path, before, filename))
            try:
                self._disk.remove_folder(os.path.dirname(old))
            except OSError:
                self.old_versions_left = True

    def _frame(self, record: Record, job: EncodeJob | None, batch: Batch) -> None:
        assert job is not None
        batch.frames += 1
        self._shards.add(record.key.decode(), parse(record.data), job, record.time, batch)
        if job.raw:
            batch.after.append(lambda: self._disk.remove(job.raw))

    def _next_number(self, batch: Batch, path: str, load: Callable[[], int]) -> int:
        number = batch.numbers.get(path)
        if number is None:
            number = self._numbers.get(path)
        if number is None:
            number = load()
        batch.numbers[path] = number + 1
        return number


def file_checksum(disk: Disk, path: str) -> str:
    """SHA-256 of a file as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for block in disk.read_blocks(path):
        digest.update(block)
    return digest.hexdigest()
