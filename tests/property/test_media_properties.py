from __future__ import annotations

import mmap

import cv2
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from ml_dash.media.convert import to_eight_bit, to_png_pixels, value_range_of
from ml_dash.media.frames import check_frame, copy_into, view
from ml_dash.media.jpeg import encode_jpeg
from ml_dash.media.png import encode_png

SHAPES = st.builds(
    lambda height, width, channels: (height, width, *channels),
    st.integers(1, 40),
    st.integers(5, 40),  # from 5 on, so that no shape can be taken for CxHxW
    st.sampled_from([(), (1,), (3,), (4,)]),
)
DTYPES = st.one_of(
    npst.boolean_dtypes(), npst.integer_dtypes(endianness="?"), npst.unsigned_integer_dtypes(endianness="?"),
    npst.floating_dtypes(endianness="?"),
)  # fmt: skip
STEPS = st.sampled_from([1, -1, 2, -2, 3])


@st.composite
def frames(draw, dtypes=DTYPES):
    """Frames of any type and content, seen through any strides."""
    array = draw(npst.arrays(draw(dtypes), draw(SHAPES)))
    rows, columns, channels = draw(STEPS), draw(STEPS), draw(st.sampled_from([1, -1]))
    strided = array[::rows, ::columns]
    return strided[..., ::channels] if array.ndim == 3 else strided


def squeezed(array):
    return array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array


def decoded(data):
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    return pixels if pixels.ndim == 2 else pixels[..., [2, 1, 0, 3][: pixels.shape[2]]]


@given(frames(), st.integers(0, 17))
def test_a_frame_crosses_a_buffer_unchanged(array, offset):
    pixels, spec = check_frame(array, image_format="png")
    buffer = mmap.mmap(-1, offset + spec.nbytes)
    copy_into(pixels, buffer, offset)
    result = view(buffer, offset, spec)
    assert result.dtype.isnative
    assert array.nbytes == spec.nbytes
    np.testing.assert_array_equal(squeezed(array), result)


@given(frames())
def test_every_frame_converts_to_eight_bits_without_a_warning(array):
    """Warnings are errors in this test suite: no overflow, no division by zero, no cast of NaN."""
    result = to_eight_bit(array)
    assert np.uint8 == result.dtype
    assert squeezed(array).shape == result.shape


@given(frames())
def test_a_brighter_pixel_never_becomes_darker(array):
    values, samples = squeezed(array).ravel(), to_eight_bit(array).ravel().astype(int)
    if values.dtype.kind == "f":
        assert (samples[np.isnan(values)] == 0).all()
        values, samples = values[~np.isnan(values)], samples[~np.isnan(values)]
    assert (np.diff(samples[np.argsort(values, kind="stable")]) >= 0).all()


@given(frames())
def test_a_range_that_is_the_frames_own_changes_no_pixel_by_more_than_the_rounding(array):
    expected, result = to_eight_bit(array), to_eight_bit(array, value_range_of(array))
    if array.dtype.kind == "f":
        np.testing.assert_array_equal(expected, result)
    assert np.abs(expected.astype(int) - result).max() <= 1


@given(frames(), frames())
def test_a_frame_over_the_range_of_another_one_converts_without_a_warning(array, other):
    """As in a video: values outside the range are clipped."""
    assert squeezed(array).shape == to_eight_bit(array, value_range_of(other)).shape


@given(frames(npst.floating_dtypes(endianness="=")))
def test_floats_outside_0_to_1_use_the_whole_range(array):
    finite = array[np.isfinite(array)]
    samples = to_eight_bit(array)
    if finite.size and finite.min() < finite.max() and (finite.min() < 0 or finite.max() > 1):
        assert (squeezed(array) == finite.min()).any()
        assert 0 == samples[squeezed(array) == finite.min()].max()
        assert 255 == samples[squeezed(array) == finite.max()].min()


@given(frames())
def test_a_png_decodes_to_the_converted_pixels(array):
    expected = to_png_pixels(array)
    result = decoded(encode_png(array))
    assert expected.dtype.newbyteorder("=") == result.dtype
    np.testing.assert_array_equal(expected, result)


@settings(max_examples=50)
@given(frames(), st.integers(1, 100))
def test_a_jpeg_decodes_to_the_frames_size(array, quality):
    result = decoded(encode_jpeg(array, quality))
    channels = 1 if squeezed(array).ndim == 2 else 3
    assert array.shape[:2] == result.shape[:2]
    assert channels == (1 if result.ndim == 2 else result.shape[2])
