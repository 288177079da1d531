"""The format of a record, which is one call that logged something, in the ring of shared memory.

An entry is a header of 40 bytes in native byte order, a key, data, and padding to a multiple of 64 bytes::

    0   u64  position   offset of the entry, in bytes since the ring was made: stale bytes never match
    8   u64  sequence   number of the record, from 0
    16  f64  time       time of the call in seconds since 1970; of a track row, its timestamp
    24  u32  size       bytes of key and data together
    28  u32  check      Adler-32 of key and data, started with the low 32 bits of the position
    32  u32  key_size   bytes of the key
    36  u16  kind       a Kind
    38  u16  flags      SPILLED: the data is the name of a file with the key and the data
"""

from __future__ import annotations

import enum
import struct
import zlib
from typing import NamedTuple

HEADER = struct.Struct("=QQdIIIHH")
ALIGNMENT = 64
SPILLED = 1


@enum.unique
class Kind(enum.IntEnum):
    """The kind of a record."""

    PAD = 0
    OPEN = 1
    LOG = 2
    PARAMS = 3
    METRIC = 4
    TRACK = 5
    FILE = 6
    IMAGE = 7
    FRAME = 8
    CLOSE = 9
    FILE_CHANGE = 10
    NOTE = 11
    DESCRIBE = 12


class Record(NamedTuple):
    """One record, as read from the ring. ``end`` is the position after its padding."""

    position: int
    end: int
    sequence: int
    time: float
    kind: int
    key: bytes
    data: bytes
    flags: int


def entry_size(payload: int) -> int:
    """Return the bytes that an entry with ``payload`` bytes of key and data takes in the ring, with its padding."""
    return (HEADER.size + payload + ALIGNMENT - 1) & -ALIGNMENT


def check(payload: bytes | memoryview, position: int) -> int:
    """Return the checksum of a payload at a position: the same bytes elsewhere have another one."""
    return zlib.adler32(payload, position & 0xFFFFFFFF)
