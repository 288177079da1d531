"""The control block: the first page of the shared memory, with one 64-bit word per fact.

Each word is written by one side only. A write is one aligned 8-byte store, so that the other side reads the old or the
new value and never a mixture. Words that are written often have cache lines of their own.
"""

from __future__ import annotations

import mmap
from enum import IntEnum, unique

WORDS_SIZE = 4096
UNDO_OFFSET = WORDS_SIZE
UNDO_SIZE = 60 * 1024
"""Bytes for the undo log of one batch: a batch ends before it has more files than fit."""
RECORDS_OFFSET = UNDO_OFFSET + UNDO_SIZE
RECORDS_SIZE = 4 * 1024 * 1024
"""The record ring, a power of two: about 20 000 metric points, some 10 s of a fast loop while a writer restarts."""
FRAMES_OFFSET = RECORDS_OFFSET + RECORDS_SIZE
ERROR_OFFSET = 2048
ERROR_SIZE = 1024
"""Bytes for the text of the last error, UTF-8, cut if longer."""
ENDING_OFFSET = ERROR_OFFSET + ERROR_SIZE
ENDING_SIZE = WORDS_SIZE - ENDING_OFFSET


@unique
class Word(IntEnum):
    """Index of each word. The comment names the side that writes it."""

    HEAD = 0  # trainer: bytes published since the start
    TAIL = 8  # writer: bytes applied; moving it is the commit of a batch
    APPLIED = 9  # writer: records applied
    STATE = 16  # writer: a State
    SLEEPING = 17  # writer: NAPPING or ASLEEP while it waits, 0 while it works
    FAULT = 18  # writer: 1 while file operations fail
    ERRORS = 19  # writer: errors so far
    ERROR_LENGTH = 20  # writer: bytes of the error text, written after the text
    REFUSED = 21  # writer: records set aside in quarantine
    MEMORY = 22  # writer: resident bytes without the shared memory
    WRITER_PID = 23  # writer
    CURRENT = 24  # writer, while a record is suspected: position + 1 of the record in hand
    FRAMES_WRITTEN = 25  # writer: images and frames on disk
    UNDO_START = 32  # writer: the tail that the undo log belongs to, plus 1; 0: none
    UNDO_LENGTH = 33  # writer: bytes of the undo log
    UNDO_FRAMES = 34  # writer: FRAMES_WRITTEN before the batch of the undo log
    DROPPED = 40  # trainer: frames dropped by policy
    TRAINER_REFUSED = 41  # trainer: records given up because the ring stayed full
    ENDING_LENGTH = 42  # trainer: bytes of the ending, written after it; 0: the end comes through the ring
    WAITING = 43  # trainer: 1 while a frame waits for room


NAPPING = 1
"""The writer polls again within milliseconds: the doorbell rings only for a ring that fills up."""

ASLEEP = 2
"""Nothing was published for a while: the doorbell rings once several frames wait."""


class State(IntEnum):
    """State of the writer."""

    STARTING = 0
    RUNNING = 1
    FINISHED = 2


class Control:
    """Access to the control block of a mapping, for both sides. Nothing here blocks."""

    def __init__(self, memory: mmap.mmap) -> None:
        self._view = memoryview(memory)
        self.words = self._view[:WORDS_SIZE].cast("Q")

    def close(self) -> None:
        """Release the mapping, so that it can be closed. Idempotent."""
        self.words.release()
        self._view.release()

    @property
    def waiting(self) -> int:
        """Bytes of records that are published and not yet applied."""
        return max(0, self.words[Word.HEAD] - self.words[Word.TAIL])

    def set_error(self, text: str) -> None:
        """Store the text of the last error and count it (writer)."""
        data = text.encode("utf-8", "replace")[:ERROR_SIZE]
        self.words[Word.ERROR_LENGTH] = 0
        self._view[ERROR_OFFSET : ERROR_OFFSET + len(data)] = data
        self.words[Word.ERROR_LENGTH] = len(data)
        self.words[Word.ERRORS] += 1

    def error(self) -> str:
        """The text of the last error, empty if there was none."""
        length = min(self.words[Word.ERROR_LENGTH], ERROR_SIZE)
        return bytes(self._view[ERROR_OFFSET : ERROR_OFFSET + length]).decode("utf-8", "replace")

    def set_ending(self, ending: bytes) -> None:
        """Store how the run ends, if the ring has no room for that record (trainer). At most ``ENDING_SIZE`` bytes."""
        self._view[ENDING_OFFSET : ENDING_OFFSET + len(ending)] = ending
        self.words[Word.ENDING_LENGTH] = len(ending)

    def ending(self) -> bytes:
        """The bytes given to ``set_ending``; empty without a call."""
        length = min(self.words[Word.ENDING_LENGTH], ENDING_SIZE)
        return bytes(self._view[ENDING_OFFSET : ENDING_OFFSET + length])

    def write_undo(self, undo_log: bytes, tail: int) -> None:
        """Store the undo log of the batch that starts at ``tail``; it becomes invalid when the tail moves."""
        if len(undo_log) > UNDO_SIZE:
            raise ValueError(f"an undo log of {len(undo_log)} bytes; there is room for {UNDO_SIZE}")
        self.words[Word.UNDO_START] = 0
        self._view[UNDO_OFFSET : UNDO_OFFSET + len(undo_log)] = undo_log
        self.words[Word.UNDO_LENGTH] = len(undo_log)
        self.words[Word.UNDO_FRAMES] = self.words[Word.FRAMES_WRITTEN]
        self.words[Word.UNDO_START] = tail + 1

    def read_undo(self) -> bytes | None:
        """The undo log of the batch that a writer which died was committing, or None."""
        if self.words[Word.UNDO_START] != self.words[Word.TAIL] + 1:
            return None
        length = min(self.words[Word.UNDO_LENGTH], UNDO_SIZE)
        return bytes(self._view[UNDO_OFFSET : UNDO_OFFSET + length])
