from __future__ import annotations

import mmap
import subprocess
import sys
import threading

import numpy as np
import pytest

from ml_dash.errors import InvalidTypeError, InvalidValueError
from ml_dash.media.convert import dimensions, to_eight_bit, to_png_pixels
from ml_dash.media.frames import FrameSpec, check_frame, check_quality, copy_into, image_format_of, view

ALL_DTYPES = ["?", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8", "g"]


def numbered(*shape, dtype="uint8"):
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


def copied(array):
    """The frame after its way through a buffer, at an odd offset."""
    pixels, spec = check_frame(array, image_format="png")
    buffer = mmap.mmap(-1, spec.nbytes + 3)
    copy_into(pixels, buffer, 3)
    return view(buffer, 3, spec)


class FakeTensor:
    """What the package sees of a torch tensor, which is no dependency of the tests."""

    def __init__(self, array):
        self.array = array
        self.calls = []

    def detach(self):
        self.calls.append("detach")
        return self

    def cpu(self):
        self.calls.append("cpu")
        return self

    def numpy(self):
        self.calls.append("numpy")
        return self.array


class FakePicture:
    """What the package sees of a Pillow image."""

    def __init__(self, array, mode):
        self.mode = mode
        self.__array_interface__ = array.__array_interface__
        self._keeps_alive = array


class TestCheckFrame:
    @pytest.mark.parametrize(
        ("shape", "channels"),
        [((2, 5), 1), ((2, 5, 1), 1), ((2, 5, 3), 3), ((2, 5, 4), 4), ((1, 1), 1), ((3, 9, 3), 3)],
    )
    def test_every_shape_of_a_frame_is_accepted(self, shape, channels):
        array = numbered(*shape)
        pixels, spec = check_frame(array, image_format="jpeg")
        assert array is pixels
        assert FrameSpec(shape[0], shape[1], channels, "uint8", array.nbytes) == spec

    @pytest.mark.parametrize("code", ALL_DTYPES)
    def test_every_bool_integer_and_float_type_is_accepted(self, code):
        array = np.zeros((2, 3, 3), code)
        _, spec = check_frame(array, image_format="png")
        assert array.dtype == np.dtype(spec.dtype)
        assert array.nbytes == spec.nbytes

    def test_a_byte_order_is_no_part_of_the_type_name(self):
        assert "uint16" == check_frame(np.zeros((2, 2), ">u2"), image_format="png")[1].dtype

    def test_a_view_is_not_copied(self):
        array = numbered(4, 6, 3)[::-1, 1:]
        assert array is check_frame(array, image_format="png")[0]

    @pytest.mark.parametrize("channels", [1, 3, 4])
    def test_channels_first_is_refused_with_the_remedy(self, channels):
        with pytest.raises(InvalidValueError, match=r"looks like CxHxW: pass array.transpose\(1, 2, 0\)"):
            check_frame(np.zeros((channels, 20, 30)), image_format="png")

    @pytest.mark.parametrize(
        ("shape", "message"),
        [
            ((), "HxW or HxWxC"),
            ((5,), "HxW or HxWxC"),
            ((2, 4, 4, 3), "save one at a time"),
            ((2, 4, 4, 3, 1), "HxW or HxWxC"),
            ((0, 4), "at least one pixel"),
            ((4, 4, 0), "at least one pixel"),
            ((5, 5, 2), "channels last"),
        ],
    )
    def test_other_shapes_are_refused_by_shape_and_dtype(self, shape, message):
        with pytest.raises(InvalidValueError, match=message) as refusal:
            check_frame(np.zeros(shape, np.float32), image_format="png")
        assert f"shape {shape} and dtype float32" in str(refusal.value)

    @pytest.mark.parametrize("dtype", ["complex64", object, "U3", "S3", "M8[s]", "V3"])
    def test_types_that_are_no_pixels_are_refused_by_shape_and_dtype(self, dtype):
        with pytest.raises(InvalidTypeError, match=r"shape \(2, 2\) and dtype"):
            check_frame(np.empty((2, 2), dtype), image_format="png")

    @pytest.mark.parametrize("thing", [None, 7, "frame.png", b"\x00", [[1, 2], [3, 4]], ((1, 2), (3, 4)), {"a": 1}])
    def test_what_is_no_array_is_refused_by_type(self, thing):
        with pytest.raises(InvalidTypeError, match=f"not {type(thing).__name__}"):
            check_frame(thing, image_format="png")

    def test_a_tensor_is_detached_and_moved_to_the_cpu(self):
        tensor = FakeTensor(numbered(2, 3))
        pixels, _ = check_frame(tensor, image_format="png")
        assert tensor.array is pixels
        assert ["detach", "cpu", "numpy"] == tensor.calls

    def test_an_object_that_fails_to_give_its_array_is_refused_with_its_own_words(self):
        class OnTheDevice:
            def __array__(self, dtype=None, copy=None):
                raise RuntimeError("use .get()")

        with pytest.raises(InvalidTypeError, match=r"OnTheDevice gave no array: use \.get\(\)"):
            check_frame(OnTheDevice(), image_format="png")

    def test_an_ndarray_subclass_becomes_a_plain_array_without_a_copy(self):
        array = np.ma.masked_array(numbered(3, 4))
        pixels, _ = check_frame(array, image_format="png")
        assert np.ndarray is type(pixels)
        assert np.shares_memory(array.data, pixels)

    @pytest.mark.parametrize(("mode", "shape"), [("RGB", (2, 3, 3)), ("RGBA", (2, 3, 4)), ("L", (2, 3))])
    def test_a_pillow_image_is_accepted(self, mode, shape):
        array = numbered(*shape)
        np.testing.assert_array_equal(array, check_frame(FakePicture(array, mode), image_format="png")[0])

    @pytest.mark.parametrize(("mode", "shape"), [("P", (2, 3)), ("CMYK", (2, 3, 4)), ("HSV", (2, 3, 3))])
    def test_a_pillow_image_whose_values_are_not_colours_is_refused_with_the_remedy(self, mode, shape):
        with pytest.raises(InvalidValueError, match=rf"mode '{mode}'.*convert\('RGB'\)"):
            check_frame(FakePicture(numbered(*shape), mode), image_format="png")

    def test_a_side_that_jpeg_cannot_hold_is_fine_for_png_only(self):
        array = np.broadcast_to(np.uint8(0), (65_501, 2))
        assert 65_501 == check_frame(array, image_format="png")[1].height
        with pytest.raises(InvalidValueError, match="at most 65500 pixels"):
            check_frame(array, image_format="jpeg")

    def test_an_unknown_format_is_refused(self):
        with pytest.raises(InvalidValueError, match="'gif'; supported are jpeg, png"):
            check_frame(np.zeros((3, 3)), image_format="gif")

    def test_a_spec_cannot_be_changed(self):
        _, spec = check_frame(numbered(2, 2), image_format="png")
        with pytest.raises(AttributeError):
            spec.height = 3

    def test_threads_may_check_at_the_same_time(self):
        specs = []

        def check(height):
            specs.extend(check_frame(np.zeros((height, 2)), image_format="png")[1].height == height for _ in range(200))

        threads = [threading.Thread(target=check, args=(height,)) for height in range(1, 5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [True] * 800 == specs


class TestCopy:
    @pytest.mark.parametrize("channels", [1, 3, 4])
    @pytest.mark.parametrize(
        "strided",
        [
            lambda a: a,
            lambda a: a[::-1],
            lambda a: a[:, ::-1],
            lambda a: a[..., ::-1],
            lambda a: a[::2, 1:-1],
            lambda a: a[1:, ::3],
            lambda a: a.transpose(1, 0, 2),
            lambda a: np.ascontiguousarray(a.transpose(2, 0, 1)).transpose(1, 2, 0),
            lambda a: np.broadcast_to(a[..., :1], a.shape),
            np.asfortranarray,
        ],
        ids=["plain", "flipped", "mirrored", "bgr", "cropped", "thinned", "turned", "chw", "broadcast", "fortran"],
    )
    def test_pixels_arrive_whatever_the_strides(self, strided, channels):
        array = strided(numbered(7, 8, channels, dtype="uint16"))
        np.testing.assert_array_equal(array[..., 0] if channels == 1 else array, copied(array))

    @pytest.mark.parametrize(
        "strided", [lambda a: a, lambda a: a[::-1, ::-1], lambda a: a.T], ids=["plain", "flip", "turn"]
    )
    def test_gray_pixels_arrive_whatever_the_strides(self, strided):
        array = strided(numbered(7, 8))
        np.testing.assert_array_equal(array, copied(array))

    @pytest.mark.parametrize("code", ALL_DTYPES)
    def test_pixels_of_every_type_arrive(self, code):
        array = numbered(4, 5, 3, dtype=code)
        result = copied(array)
        assert array.dtype == result.dtype
        np.testing.assert_array_equal(array, result)

    @pytest.mark.parametrize("code", [">u2", ">i4", ">f4", ">f8"])
    def test_big_endian_pixels_arrive_in_native_order(self, code):
        array = numbered(4, 5, 3, dtype=code)
        result = copied(array)
        assert result.dtype.isnative
        np.testing.assert_array_equal(array, result)

    def test_nothing_beyond_the_frame_is_touched(self):
        memory = bytearray(b"\xaa" * 20)
        copy_into(np.zeros((2, 2, 3), np.uint8), memoryview(memory), 4)
        assert b"\xaa" * 4 + bytes(12) + b"\xaa" * 4 == memory

    def test_a_buffer_that_is_too_small_is_refused_before_anything_is_written(self):
        memory = bytearray(b"\xaa" * 12)
        with pytest.raises(TypeError, match="too small"):
            copy_into(np.zeros((2, 2, 3), np.uint8), memoryview(memory), 1)
        assert b"\xaa" * 12 == memory

    def test_the_buffer_is_not_kept(self):
        buffer = mmap.mmap(-1, 100)
        copy_into(numbered(3, 3, 3)[..., ::-1], buffer, 0)
        buffer.close()
        assert buffer.closed

    def test_a_view_is_read_only_and_shows_the_buffer_itself(self):
        memory = bytearray(4)
        pixels = view(memoryview(memory), 0, FrameSpec(2, 2, 1, "uint8", 4))
        memory[3] = 9
        assert 9 == pixels[1, 1]
        with pytest.raises(ValueError, match="read-only"):
            pixels[0, 0] = 1


class TestNamesAndQuality:
    @pytest.mark.parametrize(
        ("name", "expected"),
        [("a.jpg", "jpeg"), ("a/b.JPEG", "jpeg"), ("a.b.PnG", "png"), (".png", "png"), ("a.png.jpg", "jpeg")],
    )
    def test_a_suffix_in_any_case_names_the_format(self, name, expected):
        assert expected == image_format_of(name)

    @pytest.mark.parametrize("name", ["a", "a.gif", "png", "a.png/b", "", "a.jpg "])
    def test_other_names_are_refused_with_what_is_supported(self, name):
        with pytest.raises(InvalidValueError, match=r"\.jpg, \.jpeg, \.png"):
            image_format_of(name)

    def test_a_name_that_is_no_str_is_refused(self):
        with pytest.raises(InvalidTypeError, match="bytes"):
            image_format_of(b"a.png")

    @pytest.mark.parametrize("quality", [1, 95, 100, np.int64(50)])
    def test_a_quality_in_range_comes_back_as_an_int(self, quality):
        checked = check_quality(quality)
        assert int is type(checked)
        assert quality == checked

    @pytest.mark.parametrize("quality", [0, 101, -1, True, False, np.True_, 95.0, "95", None])
    def test_any_other_quality_is_refused(self, quality):
        with pytest.raises(InvalidValueError, match="from 1 to 100"):
            check_quality(quality)


class TestConversion:
    """The table in ``convert``'s docstring, line by line."""

    @staticmethod
    def check(expected, values, dtype):
        result = to_eight_bit(np.array([values], dtype))
        assert np.uint8 == result.dtype
        assert [expected] == result.tolist()

    def test_uint8_is_not_copied(self):
        pixels = numbered(2, 3, 3)
        assert pixels is to_eight_bit(pixels)
        assert pixels is to_png_pixels(pixels)

    def test_bool_becomes_black_and_white(self):
        self.check([0, 255], [False, True], bool)

    def test_uint16_loses_its_lower_byte_for_jpeg_only(self):
        self.check([0, 0, 1, 255], [0, 255, 256, 65535], np.uint16)
        pixels = np.array([[1, 65535]], np.uint16)
        assert pixels is to_png_pixels(pixels)

    @pytest.mark.parametrize("dtype", ["i2", "i4", "u4", "i8", "u8"])
    def test_integers_that_fit_a_byte_stay(self, dtype):
        self.check([0, 7, 255], [0, 7, 255], dtype)

    @pytest.mark.parametrize("dtype", ["i2", "i4", "i8"])
    def test_other_integers_are_spread_over_their_range(self, dtype):
        self.check([0, 127, 255], [-254, 0, 256], dtype)

    def test_int8_is_spread_over_its_range(self):
        self.check([0, 128, 255], [-128, 0, 127], np.int8)

    def test_a_range_wider_than_int64_does_not_overflow(self):
        self.check([0, 128, 255], [-(2**63), 0, 2**63 - 1], np.int64)
        self.check([0, 255], [0, 2**64 - 1], np.uint64)

    def test_a_narrow_range_of_huge_integers_keeps_its_digits(self):
        self.check([0, 128, 255], [2**62, 2**62 + 1, 2**62 + 2], np.int64)

    @pytest.mark.parametrize("dtype", [np.int16, np.int32, np.int64])
    def test_one_integer_everywhere_is_that_gray_level(self, dtype):
        self.check([255, 255], [300, 300], dtype)
        self.check([0, 0], [-3, -3], dtype)
        self.check([3, 3], [3, 3], dtype)
        self.check([255, 255], [np.iinfo(dtype).max] * 2, dtype)
        self.check([0, 0], [np.iinfo(dtype).min] * 2, dtype)

    @pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "g"])
    def test_floats_from_0_to_1_are_scaled_and_rounded(self, dtype):
        self.check([0, 64, 128, 255], [0.0, 0.25, 0.501, 1.0], dtype)

    @pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "g"])
    def test_other_floats_are_spread_over_their_range(self, dtype):
        self.check([0, 64, 255], [-1.0, -0.5, 1.0], dtype)
        self.check([0, 255], [0.0, 1.5], dtype)

    @pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
    def test_the_widest_range_does_not_overflow(self, dtype):
        most = np.finfo(dtype).max
        self.check([0, 128, 255], [-most, 0, most], dtype)

    @pytest.mark.parametrize("dtype", ["f4", "f8"])
    def test_the_narrowest_range_does_not_divide_by_zero(self, dtype):
        tiny = np.finfo(dtype).smallest_subnormal
        self.check([0, 255], [-tiny, 0], dtype)

    @pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "g"])
    def test_one_float_everywhere_is_scaled_in_0_to_1_and_that_gray_level_outside(self, dtype):
        self.check([51, 51], [0.2, 0.2], dtype)
        self.check([128, 128], [128.0, 128.0], dtype)
        self.check([8, 8], [7.75, 7.75], dtype)
        self.check([255, 255], [1e4, 1e4], dtype)
        self.check([255, 255], [np.finfo(dtype).max] * 2, dtype)
        self.check([0, 0], [-7.5, -7.5], dtype)

    def test_what_is_not_finite_does_not_count_for_the_range(self):
        nan, inf = np.nan, np.inf
        self.check([0, 255, 0, 128], [nan, inf, -inf, 0.501], np.float32)
        self.check([0, 255, 0, 0, 128, 255], [nan, inf, -inf, 2, 3, 4], np.float32)
        self.check([0, 255, 0, 9], [nan, inf, -inf, 9], np.float64)

    def test_without_one_finite_value_the_frame_is_black_and_white(self):
        self.check([0, 0], [np.nan, np.nan], np.float32)
        self.check([255, 0, 0], [np.inf, -np.inf, np.nan], np.float16)

    @pytest.mark.parametrize("code", ALL_DTYPES)
    def test_a_single_channel_is_dropped_and_the_frame_is_left_alone(self, code):
        pixels = numbered(3, 4, 1, dtype=code)
        before = pixels.copy()
        assert (3, 4) == to_eight_bit(pixels).shape
        assert (3, 4) == to_png_pixels(pixels).shape
        np.testing.assert_array_equal(before, pixels)

    def test_a_size_that_a_format_cannot_hold_is_refused(self):
        assert (70_000, 1, 1) == dimensions(np.empty((70_000, 1), np.uint8), "png")
        with pytest.raises(InvalidValueError, match="jpeg cannot hold"):
            dimensions(np.empty((70_000, 1), np.uint8), "jpeg")


def test_the_training_side_imports_numpy_only():
    """The training process pays for ``frames``; the converters and encoders stay out of it."""
    code = "import sys, ml_dash.media.frames; print(*(n for n in ('cv2', 'isal', 'ml_dash.media.convert') if n in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "" == done.stdout.strip()
