from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest

from ml_dash.errors import InvalidValueError
from ml_dash.media.jpeg import _flattened_on_white, encode_jpeg


def decoded(data):
    """The file's pixels as RGB or gray, as libjpeg sees them."""
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    return pixels if pixels.ndim == 2 else pixels[..., ::-1]


def gradient(height=48, width=64):
    rows, columns = np.mgrid[0:height, 0:width]
    return np.stack([rows * 4, columns * 3, rows + columns], axis=-1).astype(np.uint8)


def error_of(expected, data):
    return np.abs(expected.astype(int) - decoded(data).astype(int)).mean()


def test_colours_stay_where_they_are():
    red_green_blue = np.repeat(np.eye(3, dtype=np.uint8)[None] * 255, 16, axis=0).repeat(16, axis=1)
    middle_row = decoded(encode_jpeg(red_green_blue))[8]
    assert [[0], [1], [2]] == [
        np.unique(middle_row[start : start + 12].argmax(axis=-1)).tolist() for start in (2, 18, 34)
    ]


def test_a_smooth_picture_comes_back_nearly_the_same():
    assert error_of(gradient(), encode_jpeg(gradient())) < 2


@pytest.mark.parametrize("shape", [(40, 30), (40, 30, 1)])
def test_gray_stays_gray(shape):
    gray = gradient(40, 30)[..., 0].reshape(shape)
    data = encode_jpeg(gray)
    assert (40, 30) == decoded(data).shape
    assert error_of(gray.reshape(40, 30), data) < 2


@pytest.mark.parametrize("shape", [(1, 1), (1, 1, 3), (1, 1, 4), (1, 9, 3), (9, 1, 3), (1, 3), (65_500, 1)])
def test_the_smallest_and_the_longest_pictures_are_encoded(shape):
    assert shape[:2] == decoded(encode_jpeg(np.full(shape, 255, np.uint8))).shape[:2]


def test_a_result_is_bytes_of_a_jpeg_file():
    data = encode_jpeg(gradient())
    assert bytes is type(data)
    assert b"\xff\xd8\xff" == data[:3]
    assert b"\xff\xd9" == data[-2:]


def test_a_higher_quality_is_larger_and_closer():
    noisy = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    low, high = encode_jpeg(noisy, quality=10), encode_jpeg(noisy, 100)
    assert len(low) < len(high)
    assert error_of(noisy, high) < error_of(noisy, low)


def test_opaque_pixels_are_encoded_as_if_without_alpha():
    rgba = np.dstack([gradient(), np.full((48, 64), 255, np.uint8)])
    assert encode_jpeg(gradient()) == encode_jpeg(rgba)


def test_transparent_pixels_become_white():
    assert (decoded(encode_jpeg(np.zeros((16, 16, 4), np.uint8))) == 255).all()


def test_blending_with_white_is_rounded_right_for_every_colour_and_alpha():
    colour, alpha = np.mgrid[0:256, 0:256]
    rgba = np.dstack([colour, 255 - colour, colour // 2, alpha]).astype(np.uint8)
    exact = (2 * (rgba[..., :3].astype(int) * alpha[..., None] + 255 * (255 - alpha[..., None])) + 255) // 510
    np.testing.assert_array_equal(exact, _flattened_on_white(rgba)[..., ::-1])


@pytest.mark.parametrize("dtype", ["?", "u2", "i4", "f2", "f4", "f8"])
def test_other_types_are_converted(dtype):
    pixels = (np.indices((16, 16)).sum(axis=0) >= 16).astype(dtype)
    if dtype == "u2":
        pixels *= 65535
    elif dtype == "i4":
        pixels *= 255
    expected = np.where(np.indices((16, 16)).sum(axis=0) >= 16, 255, 0)
    assert error_of(expected, encode_jpeg(pixels, 100)) < 3


@pytest.mark.parametrize(
    "strided", [lambda a: a[::-1], lambda a: a[:, ::-1], lambda a: a[..., ::-1], lambda a: a[::2, ::3]]
)
def test_strided_and_read_only_frames_are_encoded_as_their_copies(strided):
    pixels = strided(gradient())
    pixels.flags.writeable = False
    assert encode_jpeg(pixels.copy()) == encode_jpeg(pixels)


@pytest.mark.parametrize("shape", [(0, 4), (4, 0, 3), (4, 4, 2), (4,), (2, 4, 4, 3), (65_501, 1)])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_what_jpeg_cannot_hold_is_refused(shape, dtype):
    with pytest.raises(InvalidValueError, match="jpeg cannot hold"):
        encode_jpeg(np.zeros(shape, dtype))


@pytest.mark.parametrize("quality", [0, 101, True, 9.5])
def test_a_quality_out_of_range_is_refused(quality):
    with pytest.raises(InvalidValueError, match="quality"):
        encode_jpeg(gradient(), quality)


def test_threads_encode_the_same_bytes():
    frames = [np.roll(gradient(), shift, axis=1) for shift in range(16)]
    with ThreadPoolExecutor(4) as pool:
        assert [encode_jpeg(frame) for frame in frames] == list(pool.map(encode_jpeg, frames))


def test_opencv_is_loaded_by_the_first_frame_only_and_uses_one_thread():
    code = (
        "import sys, numpy, ml_dash.media.jpeg as jpeg\n"
        "before = 'cv2' in sys.modules\n"
        "jpeg.encode_jpeg(numpy.zeros((2, 2), numpy.uint8))\n"
        "print(before, sys.modules['cv2'].getNumThreads())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "False 1" == done.stdout.strip()
