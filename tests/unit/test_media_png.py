from __future__ import annotations

import struct
import zlib
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest

from ml_dash.errors import InvalidValueError
from ml_dash.media import png
from ml_dash.media.png import encode_png


@pytest.fixture(autouse=True)
def no_choice_of_before():
    """Each test sees its first image."""
    png._choices.clear()


def test_the_filter_is_kept_for_images_that_follow_until_they_look_different():
    """Finding it takes a tenth of the time, and frames resemble each other."""
    ramp = np.tile(np.arange(256, dtype=np.uint8), (64, 1))
    noise = np.random.default_rng(0).integers(0, 256, (64, 256), dtype=np.uint8)

    encode_png(ramp)
    kept = png._choices[(64, 256), 1]
    encode_png(ramp)
    same = png._choices[(64, 256), 1]
    encode_png(noise)
    encode_png(noise)
    renewed = png._choices[(64, 256), 1]

    assert kept is same
    assert renewed is not kept


def decoded(data):
    """The file's pixels as RGB, RGBA or gray, as libpng sees them."""
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels.ndim == 2:
        return pixels
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB if pixels.shape[2] == 3 else cv2.COLOR_BGRA2RGBA)


def chunks_of(data):
    """The chunks as (type, data), with every length and CRC checked by zlib's own."""
    assert b"\x89PNG\r\n\x1a\n" == data[:8]
    position, chunks = 8, []
    while position < len(data):
        (length,) = struct.unpack_from(">I", data, position)
        kind, body = data[position + 4 : position + 8], data[position + 8 : position + 8 + length]
        assert zlib.crc32(kind + body) == struct.unpack_from(">I", data, position + 8 + length)[0]
        chunks.append((kind, body))
        position += 12 + length
    return chunks


def stream_of(data):
    """The filtered rows: all IDAT chunks are one zlib stream with a right checksum and nothing after it."""
    inflater = zlib.decompressobj()
    stream = b"".join(inflater.decompress(body) for kind, body in chunks_of(data) if kind == b"IDAT")
    assert inflater.eof
    assert b"" == inflater.unused_data
    return stream


def random_pixels(shape, dtype):
    return np.random.default_rng(7).integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)


def render(height=480, width=640):
    """Like a simulator's picture: shading, a checkerboard floor and flat shapes."""
    rows, columns = np.mgrid[0:height, 0:width]
    sky = np.stack([120 + 80 * np.sin(columns / 90), 140 + 60 * np.cos(rows / 70), 200 - 100 * rows / height], axis=-1)
    floor = ((columns // 40 + rows // 40) % 2 * 60 + 60)[..., None] + sky * 0.3
    picture = np.where((rows > height // 2)[..., None], floor, sky).clip(0, 255).astype(np.uint8)
    for index in range(12):
        centre = (37 * index * 7 % width, 53 * index * 5 % height)
        cv2.circle(picture, centre, 15 + 5 * index, (20 * index, 255 - 20 * index, 90), -1, cv2.LINE_AA)
    return picture


def noisy(height=480, width=640):
    return (
        (render(height, width) + np.random.default_rng(7).normal(0, 5, (height, width, 3)))
        .clip(0, 255)
        .astype(np.uint8)
    )


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("size", [(1, 1), (1, 2), (2, 1), (1, 300), (300, 1), (18, 5), (19, 5), (20, 5), (61, 43)])
@pytest.mark.parametrize("channels", [(), (1,), (3,), (4,)])
def test_pixels_come_back_bit_for_bit(dtype, size, channels):
    pixels = random_pixels(size + channels, dtype)
    expected = pixels[..., 0] if channels == (1,) else pixels
    result = decoded(encode_png(pixels))
    assert pixels.dtype == result.dtype
    np.testing.assert_array_equal(expected, result)


@pytest.mark.parametrize("row_filter", [png.FILTER_NONE, png.FILTER_SUB, png.FILTER_UP, png.FILTER_AVERAGE])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [(), (3,), (4,)])
def test_every_filter_is_undone_by_libpng(monkeypatch, row_filter, dtype, channels):
    monkeypatch.setattr(png, "_FILTERS_TRIED", (row_filter,))
    pixels = random_pixels((23, 17, *channels), dtype)
    data = encode_png(pixels)
    row_bytes = 1 + pixels[0].nbytes
    first, *others = stream_of(data)[::row_bytes]
    assert {row_filter} == set(others)
    assert first == (png.FILTER_SUB if row_filter else png.FILTER_NONE)
    np.testing.assert_array_equal(pixels, decoded(data))


@pytest.mark.parametrize("row_filter", [png.FILTER_NONE, png.FILTER_SUB, png.FILTER_UP, png.FILTER_AVERAGE])
@pytest.mark.parametrize("block_bytes", [1, 100, 1000])
def test_blocks_join_to_one_stream(monkeypatch, row_filter, block_bytes):
    monkeypatch.setattr(png, "_FILTERS_TRIED", (row_filter,))
    pixels = random_pixels((50, 11, 3), np.uint8)
    whole = stream_of(encode_png(pixels))
    monkeypatch.setattr(png, "BLOCK_BYTES", block_bytes)
    data = encode_png(pixels)
    assert whole == stream_of(data)
    np.testing.assert_array_equal(pixels, decoded(data))


def test_a_frame_larger_than_a_block_comes_back_bit_for_bit():
    pixels = np.tile(noisy(), (5, 3, 1))
    assert pixels.nbytes > png.BLOCK_BYTES
    data = encode_png(pixels)
    assert [kind for kind, _ in chunks_of(data)].count(b"IDAT") > 1
    np.testing.assert_array_equal(pixels, decoded(data))


@pytest.mark.parametrize(
    ("pixels", "header"),
    [
        (np.zeros((2, 3), np.uint8), (3, 2, 8, 0, 0, 0, 0)),
        (np.zeros((2, 3, 1), np.uint16), (3, 2, 16, 0, 0, 0, 0)),
        (np.zeros((2, 3, 3), np.uint8), (3, 2, 8, 2, 0, 0, 0)),
        (np.zeros((2, 3, 3), np.uint16), (3, 2, 16, 2, 0, 0, 0)),
        (np.zeros((2, 3, 4), np.uint8), (3, 2, 8, 6, 0, 0, 0)),
        (np.zeros((2, 3, 4), bool), (3, 2, 8, 6, 0, 0, 0)),
    ],
)
def test_the_header_tells_size_depth_and_colour(pixels, header):
    chunks = chunks_of(encode_png(pixels))
    assert (b"IHDR", struct.pack(">IIBBBBB", *header)) == chunks[0]
    assert (b"IEND", b"") == chunks[-1]
    assert {b"IDAT"} == {kind for kind, _ in chunks[1:-1]}


def test_pixels_under_zero_alpha_keep_their_colour():
    pixels = random_pixels((9, 9, 4), np.uint8)
    pixels[..., 3] = 0
    np.testing.assert_array_equal(pixels, decoded(encode_png(pixels)))


def test_big_endian_samples_come_back_by_value():
    pixels = random_pixels((8, 9, 3), np.uint16)
    np.testing.assert_array_equal(pixels, decoded(encode_png(pixels.astype(">u2"))))


@pytest.mark.parametrize(
    "strided", [lambda a: a[::-1], lambda a: a[:, ::-1], lambda a: a[..., ::-1], lambda a: a[::2, ::3]]
)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_strided_and_read_only_frames_come_back_bit_for_bit(strided, dtype):
    pixels = strided(random_pixels((30, 40, 3), dtype))
    pixels.flags.writeable = False
    np.testing.assert_array_equal(pixels, decoded(encode_png(pixels)))


def test_bool_and_float_frames_are_converted():
    assert [[0, 255]] == decoded(encode_png(np.array([[False, True]]))).tolist()
    assert [[0, 128, 255]] == decoded(encode_png(np.array([[-1.0, np.nextafter(0, 1), 1.0]]) + 1e-3)).tolist()


@pytest.mark.parametrize(
    "pixels", [render(), noisy(), render()[..., 0], noisy()[..., 1]], ids=["render", "noisy", "gray", "g-noisy"]
)
def test_a_frame_is_not_larger_than_opencv_makes_it(pixels):
    # OpenCV's own defaults are its best trade; 2 % is what choosing the filter from a sample may miss.
    assert len(encode_png(pixels)) < 1.02 * len(cv2.imencode(".png", pixels)[1])


def test_noise_grows_by_a_thousandth_at_most():
    pixels = random_pixels((480, 640, 3), np.uint8)
    assert len(encode_png(pixels)) < 1.0015 * pixels.nbytes


def test_one_colour_shrinks_a_hundredfold():
    pixels = np.full((480, 640, 3), 77, np.uint8)
    assert len(encode_png(pixels)) < pixels.nbytes / 100


def test_the_filter_follows_the_picture():
    """Rows that repeat suit UP, gradients along a row SUB, scattered dots NONE."""
    noise_row = random_pixels((1, 200), np.uint8)
    ramp = (np.arange(200) * random_pixels((90, 1), np.uint8)).astype(np.uint8)
    dots = np.where(np.random.default_rng(7).random((90, 200)) < 0.05, 255, 0).astype(np.uint8)
    assert png.FILTER_UP == png._best_method(np.repeat(noise_row, 90, axis=0), 1).row_filter
    assert png.FILTER_SUB == png._best_method(ramp, 1).row_filter
    assert png.FILTER_NONE == png._best_method(dots, 1).row_filter


def waves(noise):
    """Waves as a camera has them, with normal noise of that many grey levels."""
    rows, columns = np.mgrid[0:480, 0:640]
    channels = [np.sin(columns / 40) * 60 + 120, np.cos(rows / 30) * 60 + 120, (columns + rows) / 5]
    picture = np.stack(channels, -1) + np.random.default_rng(0).normal(0, 1, (480, 640, 3)) * noise
    return np.clip(picture, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("noise", [4, 8, 20])
def test_a_picture_with_noise_is_no_larger_than_opencvs(noise):
    encoded = encode_png(waves(noise))

    assert len(encoded) <= 1.005 * len(cv2.imencode(".png", waves(noise)[..., ::-1])[1])
    decoded = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(waves(noise), decoded[..., ::-1])


def test_a_short_window_suits_noise_and_a_long_one_repeats():
    repeats = np.tile(random_pixels((16, 1920), np.uint8), (30, 1))

    assert 9 == png._best_method(waves(4).reshape(480, -1), 3).window
    assert 15 == png._best_method(repeats, 3).window


@pytest.mark.parametrize("shape", [(0, 4), (4, 0, 3), (4, 4, 2), (4,), (2, 4, 4, 3)])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_what_png_cannot_hold_is_refused(shape, dtype):
    with pytest.raises(InvalidValueError, match="png cannot hold"):
        encode_png(np.zeros(shape, dtype))


def test_threads_encode_the_same_bytes():
    frames = [np.roll(render(100, 120), shift, axis=1) for shift in range(16)]
    with ThreadPoolExecutor(4) as pool:
        assert [encode_png(frame) for frame in frames] == list(pool.map(encode_png, frames))
