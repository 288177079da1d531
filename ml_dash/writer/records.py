"""Write records into batches of lines, and put files in place; one method per kind. No journal is appended to here.

A record may be written twice with the same result as once: names and ids were chosen by the training process, files are
put in place by rename, and lines only count once their batch is committed.
"""

from __future__ import annotations

import hashlib
import os
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any

from ml_dash.provenance.secrets import mask_text
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
from ml_dash.writer.journal_state import LogState, MetricState, TrackState
from ml_dash.writer.log_mask import LogMask
from ml_dash.writer.shards import FrameShards
from ml_dash.writer.status import RunStatus

REMEMBERED_FILES = 65_536
"""File names whose newest id is remembered, so that an older version is removed at once; others are removed at the end."""

HASH_NOW_BYTES = 8 * 1024 * 1024
"""A stored file up to this size is hashed with its record; a larger one at the end, so that no record waits behind it."""


class RecordWriter:
    """Writes records into batches.

    Attributes:
        old_versions_left: files may be stored that a later save of the same name replaced.

    Args:
        run: absolute path of the run's directory.
        writer_id: empty for the run's first writer.
        disk: the file operations.
        status: the run's experiment.json.
        on_stored: called with the absolute path of each file that was put in place.
        on_opened: called when the run begins, with the environment that the training process recorded, and the time.
    """

    def __init__(
        self,
        run: str,
        writer_id: str,
        disk: Disk,
        status: RunStatus,
        *,
        on_stored: Callable[[str], None],
        on_opened: Callable[[dict[str, Any], float], None],
    ) -> None:
        self._run = run
        self._writer_id = writer_id
        self._disk = disk
        self._status = status
        self.on_stored = on_stored
        self._on_opened = on_opened
        self.old_versions_left = False
        self._index_path = layout.file_index(writer_id)
        self._log_state: LogState | None = None
        self._log_mask = LogMask()
        self._metrics: dict[bytes, MetricState] = {}
        self._tracks: dict[bytes, TrackState] = {}
        self._shards = FrameShards(run, writer_id, disk)
        self._newest_ids: OrderedDict[tuple[str, str], str] = OrderedDict()
        self._unsaved: dict[str, MetricState | TrackState] = {}
        self._postponed: deque[Callable[[], None]] = deque(maxlen=REMEMBERED_FILES)
        self._write_record: dict[int, Callable[[Record, Batch], None]] = {
            Kind.OPEN: self._open,
            Kind.LOG: self._log,
            Kind.PARAMS: self._params,
            Kind.METRIC: self._metric,
            Kind.TRACK: self._track,
            Kind.DESCRIBE: self._describe,
            Kind.FILE: self._file,
            Kind.FILE_CHANGE: self._file_change,
            Kind.CLOSE: self._close,
        }

    def write(self, record: Record, job: EncodeJob | None, batch: Batch) -> None:
        """Add a record to the batch; ``job`` is that of an image or a frame.

        Raises:
            OSError: a file could not be put in place.
            Exception: the record itself is wrong.
        """
        if job is None:
            self._write_record[record.kind](record, batch)
        else:
            self._encoded(record, job, batch)

    def committed(self, batch: Batch) -> None:
        """Count the lines of a batch that is on disk now, and remove the files that it replaced."""
        for state, next_index in batch.next_indices.items():
            state.advance(next_index)
            if isinstance(state, MetricState):
                self._unsaved[state.folder] = state
        for step in batch.after:
            try:
                step()
            except OSError:
                self._postponed.append(step)

    def tidy_up(self) -> None:
        """Remove the files that could not be removed when their batch was committed.

        Raises:
            OSError: the disk still refuses.
        """
        while self._postponed:
            self._postponed[0]()
            self._postponed.popleft()

    def forget_batch(self) -> None:
        """A batch was undone: read again where each shard ends. Counts only include committed lines."""
        self._shards.forget()

    def save_metadata(self, now: float) -> None:
        """Write metadata.json of the streams that got records since the last call."""
        while self._unsaved:
            folder, state = next(iter(self._unsaved.items()))
            if not self._writer_id:
                journal_state.save_metadata(self._disk, self._run, state, now)
            del self._unsaved[folder]

    def streams(self) -> list[Stream]:
        """The metrics and tracks that got records from this writer."""
        states: list[MetricState | TrackState] = [*self._metrics.values(), *self._tracks.values()]
        return [
            Stream(os.path.join(self._run, state.journal), isinstance(state, TrackState), state.total)
            for state in states
        ]

    def load_every_stream(self) -> None:
        """Have ``save_metadata`` write every stream: a writer that was killed had counts that it never wrote."""
        if self._writer_id:
            return
        for name in journal_state.names_below(self._disk, self._run, "metrics"):
            state = self._metric_state(b"" if name == layout.UNNAMED_METRIC else name.encode())
            self._unsaved[state.folder] = state
        for topic in journal_state.names_below(self._disk, self._run, "tracks"):
            track = self._track_state(topic.encode())
            self._unsaved[track.folder] = track

    def _open(self, record: Record, _: Batch) -> None:
        opening = parse(record.data)
        self._status.open(opening, record.time)
        if self._writer_id:
            return
        import_files(self._run, self._disk)
        for folder in ("logs", "metrics", "files"):
            self._disk.make_folder(os.path.join(self._run, folder))
        if opening.get("environment"):
            self._on_opened(opening["environment"], record.time)

    def _close(self, record: Record, _: Batch) -> None:
        ending = parse(record.data)
        if isinstance(ending.get("status_reason"), str):
            ending["status_reason"] = mask_text(ending["status_reason"])
        self._status.ending = ending

    def _log(self, record: Record, batch: Batch) -> None:
        state = self._log_state
        if state is None:
            state = self._log_state = journal_state.load_log(self._disk, self._run, self._writer_id)
        index = batch.take_index(state)
        head = b'{"sequenceNumber":%d,"timestamp":"%s",' % (index, timestamp(record.time).encode())
        batch.add(state.journal, head + self._log_mask.mask(record)[1:] + b"\n")

    def _params(self, record: Record, batch: Batch) -> None:
        batch.parameters.update(parse(record.data))

    def _metric(self, record: Record, batch: Batch) -> None:
        state = self._metric_state(record.key)
        index = batch.take_index(state)
        line = b'{"index":%d,"data":%s,"createdAt":"%s"}\n'
        batch.add(state.journal, line % (index, record.data, timestamp(record.time).encode()))

    def _metric_state(self, key: bytes) -> MetricState:
        state = self._metrics.get(key)
        if state is None:
            state = journal_state.load_metric(self._disk, self._run, self._writer_id, key.decode() or None)
            self._metrics[key] = state
        return state

    def _describe(self, record: Record, _: Batch) -> None:
        state = self._metric_state(record.key)
        for name, value in parse(record.data).items():
            state.document[name] = state.document.get(name) or value
        # At once, since no journal holds it: it would be lost with a writer that is killed.
        if self._writer_id:
            journal_state.save_about(self._disk, self._run, state, self._writer_id)
        else:
            journal_state.save_metadata(self._disk, self._run, state, record.time)

    def _track(self, record: Record, batch: Batch) -> None:
        state = self._track_state(record.key)
        fields = parse(record.data)
        rest = b"," + record.data[1:] if fields else b"}"
        batch.add(state.journal, b'{"timestamp":%r%s\n' % (record.time, rest))
        batch.after.append(lambda: self._count_row(state, record.time, fields))

    def _track_state(self, key: bytes) -> TrackState:
        state = self._tracks.get(key)
        if state is None:
            state = journal_state.load_track(self._disk, self._run, self._writer_id, key.decode())
            self._tracks[key] = state
        return state

    def _count_row(self, state: TrackState, when: float, fields: dict[str, Any]) -> None:
        state.count(when, fields)
        self._unsaved[state.folder] = state

    def _file(self, record: Record, batch: Batch) -> None:
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
        batch.after.append(lambda: self.on_stored(target))

    def _put_in_place(self, staged: str, target: str) -> None:
        self._disk.make_folder(os.path.dirname(target))
        try:
            self._disk.rename(staged, target)
        except FileNotFoundError:  # renamed before, by an attempt whose batch was not committed
            if self._disk.size(target) is None:
                raise LookupError(f"{staged} is gone: another program changed the run's folder") from None

    def _file_change(self, record: Record, batch: Batch) -> None:
        batch.add(self._index_path, record.data + b"\n")

    def _encoded(self, record: Record, job: EncodeJob, batch: Batch) -> None:
        batch.frames += 1
        if record.kind == Kind.IMAGE:
            facts = {"sizeBytes": job.size, "checksum": job.checksum}
            self._add_to_index(job.entry | facts, record.time, batch)
            batch.after.append(lambda: self.on_stored(job.target))
        else:
            self._shards.add(record.key.decode(), job, record.time, batch)
        if job.raw:
            batch.after.append(lambda: self._disk.remove(job.raw))

    def _add_to_index(self, entry: dict[str, Any], when: float, batch: Batch) -> None:
        """Add a stored file to the index.

        Args:
            entry: the facts that the training process sent, with ``sizeBytes`` and ``checksum``.
            when: seconds since 1970 of the call.
            batch: the batch of its record.
        """
        if not self._newest_ids and self._disk.size(os.path.join(self._run, self._index_path)):
            self.old_versions_left = True  # the files that another writer stored before are not remembered
        uploaded_at = timestamp(when)
        line = {
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
            "uploadedAt": uploaded_at,
            "updatedAt": uploaded_at,
            "deletedAt": None,
        }
        batch.add(self._index_path, to_json(line) + b"\n")
        batch.after.append(lambda: self._remove_old_version(entry["path"], entry["filename"], entry["id"]))

    def _remove_old_version(self, path: str, filename: str, file_id: str) -> None:
        key = (path, filename)
        before = self._newest_ids.pop(key, None)
        self._newest_ids[key] = file_id
        if len(self._newest_ids) > REMEMBERED_FILES:
            self._newest_ids.popitem(last=False)
            self.old_versions_left = True
        if before is not None and before != file_id:
            old = os.path.join(self._run, layout.blob(path, before, filename))
            try:
                self._disk.remove_folder(os.path.dirname(old))
            except OSError:
                self.old_versions_left = True


def file_checksum(disk: Disk, path: str) -> str:
    """The SHA-256 of a file as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for block in disk.read_blocks(path):
        digest.update(block)
    return digest.hexdigest()
