"""The format that the frames of one camera have in common."""

from __future__ import annotations

import json
import mmap

import numpy as np
import pytest

from ml_dash.errors import InvalidTypeError, InvalidValueError
from ml_dash.ipc.frame_buffer import Slot
from ml_dash.ipc.frame_format import LARGEST_BYTE_COPY, check_image

FRAME = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)


def test_a_frame_like_the_first_one_matches_its_format():
    pixels, frame_format = check_image(FRAME, "jpeg", 95)

    assert FRAME is pixels
    assert frame_format.matches(FRAME + 1, "jpeg", 95)


@pytest.mark.parametrize(
    ("image", "image_format", "quality"),
    [
        (FRAME[:2], "jpeg", 95),
        (FRAME.astype(np.int16), "jpeg", 95),
        (FRAME[..., ::-1], "jpeg", 95),
        (FRAME.tolist(), "jpeg", 95),
        (FRAME, "png", 95),
        (FRAME, "jpeg", 90),
        (FRAME, "jpeg", 95.0),
    ],
    ids=["shape", "dtype", "strides", "no array", "format", "quality", "type of the quality"],
)
def test_a_frame_that_differs_does_not(image, image_format, quality):
    _, frame_format = check_image(FRAME, "jpeg", 95)

    assert not frame_format.matches(image, image_format, quality)


@pytest.mark.parametrize(
    ("image", "quality", "error"),
    [("x", 95, InvalidTypeError), (np.zeros((2, 2, 2)), 95, InvalidValueError), (FRAME, 0, InvalidValueError)],
)
def test_an_image_or_a_quality_that_is_wrong_is_refused(image, quality, error):
    with pytest.raises(error):
        check_image(image, "jpeg", quality)


@pytest.mark.parametrize(
    ("image", "is_byte_copy"),
    [
        (FRAME, True),
        (FRAME[..., ::-1], False),
        (FRAME.astype(">u2"), False),
        (np.zeros((1, LARGEST_BYTE_COPY + 1), np.uint8), False),
    ],
    ids=["contiguous", "mirrored", "other byte order", "large"],
)
def test_contiguous_frames_up_to_a_size_are_copied_as_bytes(image, is_byte_copy):
    assert is_byte_copy == check_image(image, "png", 95)[1].is_byte_copy


@pytest.mark.parametrize("image", [FRAME, FRAME[..., ::-1]], ids=["as bytes", "as an array"])
def test_a_slot_has_the_target_of_the_copy_and_the_end_of_the_record(image):
    pixels, frame_format = check_image(image, "png", 80)
    memory = mmap.mmap(-1, 1 << 23)
    slot = Slot(64, image.nbytes)
    kept_format, target, record_end = slot.prepare(frame_format, pixels, memory)
    if frame_format.is_byte_copy:
        memory[target] = pixels
    else:
        target[:] = pixels

    assert (frame_format, target, record_end) == (kept_format, *slot.prepared[1:])
    assert image.tobytes() == memory[slot.offset : slot.offset + image.nbytes]
    facts = {"h": 4, "w": 6, "c": 3, "dtype": "uint8", "nbytes": 72, "format": "png", "quality": 80}
    assert {"frame": facts | {"offset": slot.offset}} == json.loads(b"{" + record_end)
