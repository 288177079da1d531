"""A batch's undo log fits into its room, whatever the journals are called."""

from __future__ import annotations

import mmap

import pytest

from ml_dash.ipc.control import FRAMES_OFFSET, UNDO_SIZE, Control
from ml_dash.writer.batch import Batch, decode_undo, encode_undo
from ml_dash.writer.journal_state import LogState, MetricState


@pytest.mark.parametrize("letter", ["a", '"', "é", "🤖"])
def test_a_batch_is_full_before_its_undo_log_has_no_room(letter):
    """JSON writes a quotation mark as two bytes."""
    batch = Batch()
    while not batch.full:
        batch.add(f"metrics/{letter * 60}{len(batch.lines)}/data.jsonl", b"{}\n")
    undo_log = encode_undo(dict.fromkeys(batch.lines, 10**15))

    assert len(undo_log) <= UNDO_SIZE
    assert dict.fromkeys(batch.lines, 10**15) == decode_undo(undo_log)


def test_an_undo_log_that_is_too_long_overwrites_nothing():
    memory = mmap.mmap(-1, FRAMES_OFFSET)
    control = Control(memory)
    control.write_undo(b"[]", 0)

    with pytest.raises(ValueError, match="there is room for"):
        control.write_undo(bytes(UNDO_SIZE + 1), 0)

    assert b"[]" == control.read_undo()
    control.close()


def test_indices_that_no_committed_batch_used_are_used_again():
    log, metric = LogState("logs/logs.jsonl", 7), MetricState("metrics/m/data.jsonl", "metrics/m", "m", 2, 5)
    for _ in range(2):  # the first batch is undone
        batch = Batch()
        indices = [batch.take_index(state) for state in (log, metric, metric)]
    for state, next_index in batch.next_indices.items():
        state.advance(next_index)

    assert [7, 5, 6] == indices
    assert (8, 7) == (log.next_index, metric.next_index)
    assert 4 == metric.total
