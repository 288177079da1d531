"""Frames to MP4, WebM and GIF: what a decoder sees of them, and how little is held meanwhile."""

from __future__ import annotations

import json
import sys
import weakref
from fractions import Fraction

import numpy as np
import pytest

from ml_dash.errors import InvalidTypeError, InvalidValueError, StorageError
from ml_dash.media.video import VideoFile, check_fps, check_video_name, check_video_quality
from ml_dash.media.video_frames import rgb_frames
from tests.support import run_python

av = pytest.importorskip("av")

KINDS = ("mp4", "webm", "gif")


def moving(count=12, height=48, width=64):
    """A bright disc that crosses a gradient: smooth, coloured and different in each frame."""
    rows, columns = np.mgrid[:height, :width]
    for index in range(count):
        frame = np.stack([columns * 255 // width, rows * 255 // height, np.full_like(rows, 90)], axis=-1)
        frame[(rows - height / 2) ** 2 + (columns - index * width / count) ** 2 < height] = (250, 240, 30)
        yield frame.astype(np.uint8)


def write(path, frames, fps=30, quality=None):
    kind = check_video_name(str(path))
    with VideoFile(str(path), kind, check_fps(fps, kind), check_video_quality(quality)) as video:
        for pixels in rgb_frames(frames):
            video.add(pixels)
        video.finish()
    return path


def read(path):
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def error_of(expected, actual):
    """Root of the mean squared difference, in steps of 255."""
    return float(np.sqrt(np.mean((expected.astype(float) - actual) ** 2)))


def boxes(data):
    """The names of the boxes at the top of an MP4, in order."""
    position, names = 0, []
    while position < len(data):
        names.append(data[position + 4 : position + 8].decode())
        position += int.from_bytes(data[position : position + 4], "big")
    return names


@pytest.mark.parametrize("kind", KINDS)
def test_every_frame_comes_back_as_it_looked(tmp_path, kind):
    decoded = read(write(tmp_path / f"clip.{kind}", moving()))

    assert 12 == len(decoded)
    for expected, actual in zip(moving(), decoded, strict=True):
        assert error_of(expected, actual) < 12


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("colour", [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0), (200, 100, 50)])
def test_plain_colours_are_kept(tmp_path, kind, colour):
    decoded = read(write(tmp_path / f"clip.{kind}", [np.full((32, 32, 3), colour, np.uint8)] * 3))

    assert np.abs(np.array(colour) - decoded[1].reshape(-1, 3).mean(axis=0)).max() < 5


@pytest.mark.parametrize(("kind", "codec"), [("mp4", "h264"), ("webm", "vp9")])
def test_a_browser_finds_what_it_needs(tmp_path, kind, codec):
    with av.open(str(write(tmp_path / f"clip.{kind}", moving()))) as container:
        stream = container.streams.video[0]
        context = stream.codec_context
        facts = (stream.codec.name, context.pix_fmt, context.width, context.height, stream.average_rate)
        colours = (context.colorspace, context.color_primaries, context.color_trc, context.color_range)
        seconds = container.duration / av.time_base

    assert (codec, "yuv420p", 64, 48, 30) == facts
    assert (1, 1, 1, 1) == colours
    assert 12 / 30 == pytest.approx(seconds, abs=0.002)


def test_the_index_of_an_mp4_comes_before_its_pictures(tmp_path):
    names = boxes(write(tmp_path / "clip.mp4", moving()).read_bytes())

    assert names.index("moov") < names.index("mdat")


def test_a_gif_has_its_times_and_is_repeated_for_ever(tmp_path):
    data = write(tmp_path / "clip.gif", moving(10), fps=10).read_bytes()
    with av.open(str(tmp_path / "clip.gif")) as container:
        frames = list(container.decode(video=0))
        times = [float(frame.pts * frame.time_base) for frame in frames]
    position = data.index(b"NETSCAPE2.0") + len(b"NETSCAPE2.0")

    assert [index / 10 for index in range(10)] == pytest.approx(times)
    assert b"\x03\x01\x00\x00\x00" == data[position : position + 5]
    assert 10 == data.count(b"\x21\xf9\x04")
    assert {10} == {data[i + 4] for i in range(len(data)) if data.startswith(b"\x21\xf9\x04", i)}


@pytest.mark.parametrize(
    ("fps", "expected"),
    [
        (24, 24),
        (12.5, Fraction(25, 2)),
        (29.97, Fraction(2997, 100)),
        (Fraction(30000, 1001), Fraction(30000, 1001)),
        (np.float32(10), 10),
        (1 / 600, Fraction(1, 600)),
        (1000, 1000),
    ],
)
@pytest.mark.parametrize("kind", ["mp4", "webm"])
def test_the_rate_is_the_one_that_was_asked_for(tmp_path, kind, fps, expected):
    with av.open(str(write(tmp_path / f"clip.{kind}", moving(5, 16, 16), fps=fps))) as container:
        stream = container.streams.video[0]
        rate = stream.average_rate
        last = [float(frame.pts * frame.time_base) for frame in container.decode(stream)][-1]

    assert expected == rate
    assert 4 / expected == pytest.approx(last, abs=0.001)


@pytest.mark.parametrize("size", [(33, 47), (1, 1), (2, 3), (31, 64)])
@pytest.mark.parametrize("kind", KINDS)
def test_odd_sides_get_their_last_row_or_column_once_more(tmp_path, kind, size):
    frame = np.zeros((*size, 3), np.uint8)
    frame[-1:], frame[:, -1:] = 200, 200
    shown = read(write(tmp_path / f"clip.{kind}", [frame] * 2, quality=100))[0]
    padding = (0, 0) if kind == "gif" else (size[0] % 2, size[1] % 2)

    assert (size[0] + padding[0], size[1] + padding[1], 3) == shown.shape
    assert np.abs(shown[-1].astype(int) - 200).max() < 60
    assert np.abs(shown[:, -1].astype(int) - 200).max() < 60


def test_a_better_quality_is_a_larger_file_with_less_error(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (6, 64, 64, 3), np.uint8)
    for kind in ("mp4", "webm"):
        paths = [write(tmp_path / f"{quality}.{kind}", noise, quality=quality) for quality in (1, 50, 100)]
        sizes = [path.stat().st_size for path in paths]
        errors = [error_of(noise[3], read(path)[3]) for path in paths]

        assert sorted(sizes) == sizes
        assert sorted(errors, reverse=True) == errors


@pytest.mark.parametrize("kind", KINDS)
def test_frames_are_taken_one_at_a_time_and_not_kept(tmp_path, kind):
    alive, most = weakref.WeakSet(), 0

    class Frame(np.ndarray):
        pass

    def frames():
        nonlocal most
        for index in range(30 if kind == "gif" else 300):
            frame = np.full((480, 640, 3), index % 256, np.uint8).view(Frame)
            alive.add(_Held(frame))
            most = max(most, len(alive))
            yield frame

    class _Held:
        """Lives as long as the frame does: an array cannot be in a set of weak references itself."""

        def __init__(self, frame):
            frame.held = self

    write(tmp_path / f"clip.{kind}", frames())

    assert 1 <= most <= 2


def rgb(frames):
    return [frame.copy() for frame in rgb_frames(frames)]


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        (np.full((4, 4), 7, np.uint8), 7),
        (np.full((4, 4, 1), 7, np.uint8), 7),
        (np.full((4, 4, 3), 7, np.uint8), 7),
        (np.ones((4, 4), bool), 255),
        (np.full((4, 4), 60_000, np.uint16), 60_000 >> 8),
        (np.full((4, 4), 9, np.int64), 9),
        (np.full((4, 4), 0.5, np.float32), 128),
        (np.full((4, 4), 1, np.float16), 255),
        (np.full((4, 4), np.nan), 0),
        (np.full((4, 4), np.inf), 255),
        (np.full((4, 4), -np.inf), 0),
        (np.full((4, 4), 5.5), 6),
        (np.full((4, 4), 300.0), 255),
    ],
)
def test_values_become_what_they_become_in_an_image(frame, expected):
    (pixels,) = rgb([frame])

    assert ((4, 4, 3), np.uint8) == (pixels.shape, pixels.dtype)
    assert {expected} == set(pixels.ravel().tolist())


def test_transparent_pixels_are_flattened_on_white():
    frame = np.full((2, 2, 4), (200, 100, 0, 0), np.uint8)
    frame[0, :, 3] = 255
    frame[1, 0, 3] = 128
    (pixels,) = rgb([frame])

    assert [200, 100, 0] == pixels[0, 0].tolist()
    assert [255, 255, 255] == pixels[1, 1].tolist()
    assert [255 - round((255 - value) * 128 / 255) for value in (200, 100, 0)] == pixels[1, 0].tolist()


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int16, np.uint32])
@pytest.mark.parametrize("container", [np.stack, list, tuple])
def test_one_range_holds_for_a_whole_stack(kind, container):
    stack = [np.full((2, 2), value, kind) for value in (0, 500, 1000)]

    assert [0, 128, 255] == [int(frame[0, 0, 0]) for frame in rgb(container(stack))]


def test_an_iterators_first_frame_decides_and_what_is_beyond_is_clipped():
    first = np.array([[0.0, 100.0]])
    later = np.array([[-50.0, 50.0]]), np.array([[200.0, np.nan]])
    values = [frame[0, :, 0].tolist() for frame in rgb(iter([first, *later]))]

    assert [[0, 255], [0, 128], [255, 0]] == values


def test_the_greatest_floats_have_a_range_too():
    (pixels,) = rgb([np.array([[-1.7e308, 0.0, 1.7e308]])])

    assert [0, 128, 255] == pixels[0, :, 0].tolist()


def test_the_frames_of_the_user_are_not_changed():
    stack = np.linspace(-3, 3, 2 * 5 * 5).reshape(2, 5, 5)
    before = stack.copy()
    rgb(stack)

    np.testing.assert_array_equal(before, stack)


@pytest.mark.parametrize(
    ("frames", "error", "text"),
    [
        ([], InvalidValueError, "no frames"),
        (np.zeros((0, 4, 4, 3), np.uint8), InvalidValueError, "no frames"),
        (iter(()), InvalidValueError, "no frames"),
        (np.zeros((4, 4, 3), np.uint8), InvalidValueError, "save_image"),
        (np.zeros((4, 4), np.uint8), InvalidValueError, "save_image"),
        (np.zeros((2, 2, 4, 4, 3), np.uint8), InvalidValueError, "frame 0: "),
        (np.zeros((2, 3, 64, 64), np.uint8), InvalidValueError, "transpose(1, 2, 0)"),
        (7, InvalidTypeError, "not int"),
        (None, InvalidTypeError, "not NoneType"),
        ("clip", InvalidTypeError, "frame 0: "),
        ([np.zeros((4, 4)), "x"], InvalidTypeError, "frame 1: "),
        ([np.zeros((4, 4)), np.zeros((4, 6))], InvalidValueError, "frame 1 is 6x4 pixels, the first one 4x4"),
        (iter([np.zeros((4, 4)), np.zeros((4, 4, 2))]), InvalidValueError, "frame 1: "),
        ([np.zeros((4, 4), complex)], InvalidTypeError, "frame 0: "),
    ],
)
def test_frames_that_make_no_video_are_refused(frames, error, text):
    with pytest.raises(error) as caught:
        rgb(frames)

    assert text in str(caught.value)


@pytest.mark.parametrize("name", ["clip.avi", "clip", "mp4", ".mp4", "clip.mp4.txt"])
def test_an_unknown_suffix_is_refused_with_the_list(name):
    with pytest.raises(InvalidValueError, match=r"\.mp4, \.webm, \.gif"):
        check_video_name(name)


def test_suffixes_are_taken_in_any_case():
    assert ["mp4", "webm", "gif"] == [check_video_name(name) for name in ("a.MP4", "b/c.WebM", "x.y.gif")]
    with pytest.raises(InvalidTypeError, match="not int"):
        check_video_name(3)


@pytest.mark.parametrize("fps", [0, -1, 1001, float("nan"), float("inf"), "30", None, True, 1e-9, [30], 1j])
def test_a_rate_that_is_none_is_refused(fps):
    with pytest.raises(InvalidValueError, match="fps is "):
        check_fps(fps, "mp4")


def test_a_gif_is_no_faster_than_browsers_show_it():
    assert 50 == check_fps(50, "gif")
    with pytest.raises(InvalidValueError, match="to 50 for gif"):
        check_fps(51, "gif")


@pytest.mark.parametrize("kind", KINDS)
def test_a_video_that_was_not_finished_leaves_no_file(tmp_path, kind):
    seen = []

    def interrupted():
        for frame in moving(200, 16, 16):
            seen.append([path.name for path in tmp_path.iterdir()])
            yield frame
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / f"clip.{kind}", interrupted())

    assert [f"clip.{kind}"] == seen[-1]
    assert [] == list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", KINDS)
def test_a_disk_that_refuses_is_a_storage_error(tmp_path, kind):
    with pytest.raises(StorageError, match="could not be written"):
        write(tmp_path / "missing" / f"clip.{kind}", moving())


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/full")
@pytest.mark.parametrize("kind", ["webm", "gif"])  # an MP4 is read again in the end
def test_a_full_disk_is_a_storage_error(tmp_path, kind):
    path = tmp_path / f"clip.{kind}"
    path.symlink_to("/dev/full")
    with pytest.raises(StorageError, match="could not be written"):
        write(path, moving())

    assert not path.is_symlink()


def test_a_side_that_the_format_cannot_hold_is_refused(tmp_path):
    with pytest.raises(InvalidValueError, match="16384"):
        write(tmp_path / "clip.mp4", [np.zeros((2, 16_386, 3), np.uint8)])

    assert [] == list(tmp_path.iterdir())


def test_without_pyav_the_text_says_what_to_install(tmp_path):
    code = """
import json, sys
sys.modules["av"] = None
from fractions import Fraction
from ml_dash.errors import MissingExtraError
from ml_dash.media.video import VideoFile
try:
    VideoFile("clip.mp4", "mp4", Fraction(30), 75)
except MissingExtraError as error:
    print(json.dumps(str(error)))
"""
    assert "videos need PyAV; run: pip install av" == json.loads(run_python(code, tmp_path))


def test_encoding_is_silent(tmp_path):
    code = """
import numpy as np
from fractions import Fraction
from ml_dash.media.video import VideoFile
for kind in ("mp4", "webm", "gif"):
    with VideoFile(f"{PATH}/clip.{kind}", kind, Fraction(30), 75) as video:
        for value in range(5):
            video.add(np.full((32, 32, 3), value, np.uint8))
        video.finish()
    with VideoFile(f"{PATH}/given-up.{kind}", kind, Fraction(30), 75) as video:
        video.add(np.full((32, 32, 3), value, np.uint8))
"""
    silent = f"import os; os.dup2(1, 2); PATH = {str(tmp_path)!r}\n{code}"

    assert "" == run_python(silent, tmp_path)
    assert ["clip.gif", "clip.mp4", "clip.webm"] == sorted(path.name for path in tmp_path.iterdir())
