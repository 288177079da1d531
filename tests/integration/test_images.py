"""save_image: every array that a renderer, a camera or a network gives, as files that OpenCV reads back."""

from __future__ import annotations

import threading
from pathlib import Path

import cv2
import numpy as np
import pytest

from ml_dash import BufferConfig, Experiment
from ml_dash.errors import InvalidNameError, InvalidTypeError, InvalidValueError
from ml_dash.ipc.frame_format import LARGEST_BYTE_COPY
from tests.support import PREFIX


@pytest.fixture
def folder(shared, own_name):
    """A folder of files that only this test uses."""
    return shared.files(own_name)


@pytest.fixture
def stored(folder, shared):
    """Read the images of `folder` in the order of saving: HxW, RGB or RGBA."""

    def read():
        return [decoded(Path(shared.folder), entry) for entry in folder.list()]

    return read


@pytest.fixture(scope="module")
def untouched(tmp_path_factory):
    """An open run in which no call may write anything."""
    with Experiment(PREFIX, dash_root=tmp_path_factory.mktemp("untouched"), echo=False).run as exp:
        yield exp


def decoded(run, entry):
    path = run / "files" / entry["path"].strip("/") / entry["id"] / entry["filename"]
    pixels = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    return pixels if pixels.ndim == 2 else pixels[..., [2, 1, 0, 3][: pixels.shape[2]]]


def picture(height=48, width=64, channels=3):
    """Something smooth, different in each corner and channel, that JPEG keeps well."""
    rows, columns = np.mgrid[0:height, 0:width]
    planes = [rows * 255 // height, columns * 255 // width, (rows + columns) * 255 // (height + width), rows * 0 + 200]
    return np.stack(planes[:channels], axis=-1).astype(np.uint8)


RGB = picture()
GRAY = picture(channels=1)[..., 0]
UNIT = RGB / 255

EXACT = {
    "rgb": (RGB, RGB),
    "gray": (GRAY, GRAY),
    "one channel": (GRAY[..., None], GRAY),
    "rgba": (picture(channels=4), picture(channels=4)),
    "bool": (GRAY > 100, np.where(GRAY > 100, 255, 0)),
    "int64": (RGB.astype(np.int64), RGB),
    "float in 0..1": (UNIT, RGB),
    "float32 in 0..1": (UNIT.astype(np.float32), RGB),
    "float16 in 0..1": ((GRAY > 100).astype(np.float16), np.where(GRAY > 100, 255, 0)),
    "upside down": (RGB[::-1], RGB[::-1]),
    "mirrored": (RGB[:, ::-1], RGB[:, ::-1]),
    "bgr": (RGB[..., ::-1], RGB[..., ::-1]),
    "transposed from CHW": (np.ascontiguousarray(RGB.transpose(2, 0, 1)).transpose(1, 2, 0), RGB),
    "every other pixel": (RGB[::2, ::2], RGB[::2, ::2]),
    "turned": (np.rot90(RGB), np.rot90(RGB)),
    "fortran": (np.asfortranarray(RGB), RGB),
    "big endian": (RGB.astype(">i4"), RGB),
    "broadcast": (np.broadcast_to(np.uint8(7), (5, 5, 3)), np.full((5, 5, 3), 7)),
    "read only": (np.frombuffer(RGB.tobytes(), np.uint8).reshape(RGB.shape), RGB),
    "one pixel": (RGB[:1, :1], RGB[:1, :1]),
}


@pytest.mark.parametrize(("given", "expected"), EXACT.values(), ids=EXACT)
def test_a_png_has_exactly_the_pixels(folder, stored, given, expected):
    folder.save_image(given, to="frame.png")
    (pixels,) = stored()

    assert np.uint8 == pixels.dtype
    np.testing.assert_array_equal(expected, pixels)


@pytest.mark.parametrize(("given", "expected"), EXACT.values(), ids=EXACT)
@pytest.mark.parametrize("name", ["frame.jpg", "frame.JPEG"])
def test_a_jpeg_has_nearly_the_pixels(folder, stored, given, expected, name):
    folder.save_image(given, to=name, quality=95)
    (pixels,) = stored()
    expected = np.asarray(expected, float)
    if expected.ndim == 3 and expected.shape[2] == 4:  # JPEG has no alpha: it is blended with white
        alpha = expected[..., 3:] / 255
        expected = expected[..., :3] * alpha + 255 * (1 - alpha)

    assert expected.shape == pixels.shape
    assert np.abs(expected - pixels).mean() < 4


def test_sixteen_bits_survive_in_a_png(folder, stored):
    depth = np.arange(64 * 48, dtype=np.uint16).reshape(48, 64) * 21
    colour = np.stack([depth, depth[::-1], depth[:, ::-1]], axis=-1)
    folder.save_image(depth, to="depth.png")
    folder.save_image(colour, to="colour.png")
    folder.save_image(depth, to="depth.jpg")
    first, second, third = stored()

    np.testing.assert_array_equal(depth, first)
    np.testing.assert_array_equal(colour, second)
    assert (np.uint16, np.uint16, np.uint8) == (first.dtype, second.dtype, third.dtype)
    assert np.abs((depth >> 8).astype(int) - third).max() <= 3


@pytest.mark.parametrize(
    "scaled",
    [GRAY * 10.0 - 500, GRAY.astype(np.int32) * 100, GRAY / 1000 + 5, -GRAY.astype(float)],
    ids=["wide", "int", "narrow", "negative"],
)
def test_any_other_range_is_spread_over_all_brightness(folder, stored, scaled):
    folder.save_image(scaled, to="a.png")
    (pixels,) = stored()
    expected = (scaled - scaled.min()) / (scaled.max() - scaled.min()) * 255

    assert (0, 255) == (pixels.min(), pixels.max())
    assert np.abs(expected - pixels).max() <= 0.51


def test_a_depth_map_with_holes(folder, stored):
    depth = np.linspace(2, 10, 100).reshape(10, 10)
    depth[0, 0], depth[1, 1] = np.nan, np.inf
    folder.save_image(depth, to="a.png")
    (pixels,) = stored()

    assert (0, 255, 255) == (pixels[0, 0], pixels[1, 1], pixels[-1, -1])


def test_the_call_takes_a_snapshot(folder, stored):
    """A renderer writes each frame into the same array."""
    buffer = np.empty_like(RGB)
    for step in range(60):
        buffer[:] = step * 4
        folder.save_image(buffer, to=f"frame_{step:05d}.png")
    buffer[:] = 255

    assert [step * 4 for step in range(60)] == [int(pixels.mean()) for pixels in stored()]


def test_frames_of_every_step_are_all_there_in_order(folder, stored):
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 255, (120, 160, 3), dtype=np.uint8) for _ in range(200)]
    for step, frame in enumerate(frames):
        returned = folder.save_image(frame, to=f"frame_{step:05d}.png")
        assert "queued" == returned["status"]
    listed = folder.list()

    assert [f"frame_{step:05d}.png" for step in range(200)] == [entry["filename"] for entry in listed]
    for frame, pixels in zip(frames, stored(), strict=True):
        np.testing.assert_array_equal(frame, pixels)


def test_threads_save_frames_at_once(folder, shared, own_name, stored):
    def work(worker):
        for step in range(25):
            shared.files(f"{own_name}/{worker}").save_image(
                np.full((30, 40), worker * 25 + step, np.uint8), to=f"{step}.png"
            )

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(range(200)) == sorted(int(pixels.mean()) for pixels in stored())


def frame_of_kind(random, number):
    """One of many kinds, as several cameras and renderers in one run give them; and what a PNG of it holds."""
    height, width = (int(side) for side in random.integers(20, 260, 2))
    gray, rgb = (random.integers(0, 256, shape, np.uint8) for shape in ((height, width), (height, width, 3)))
    deep = random.integers(0, 65536, (height, width), np.uint16)
    kinds = [
        (gray, gray),
        (rgb, rgb),
        (rgb[..., ::-1], rgb[..., ::-1]),
        (rgb[::-1], rgb[::-1]),
        (rgb.transpose(1, 0, 2), rgb.transpose(1, 0, 2)),
        (rgb[::2, ::2], rgb[::2, ::2]),
        (deep, deep),
        (deep.astype(">u2"), deep),
        (gray > 100, np.where(gray > 100, 255, 0).astype(np.uint8)),
    ]
    return kinds[number % len(kinds)]


def test_cameras_of_every_kind_share_the_memory(tmp_path):
    """Places of the memory change hands between kinds, are cut and joined; nothing of one frame shows in another."""
    config = BufferConfig(frame_buffer_mb=1, echo=False)
    expected = {}

    def save(exp, thread):
        random = np.random.default_rng(thread)
        fixed = random.integers(0, 256, (64, 64, 3), np.uint8)
        for number in range(60):
            fixed[0, 0, 0] = number
            given, pixels = (fixed, fixed) if number % 3 == 0 else frame_of_kind(random, number)
            expected[f"{thread}-{number}.png"] = pixels.copy()
            exp.files("shared").save_image(given, to=f"{thread}-{number}.png")

    with Experiment(PREFIX, dash_root=tmp_path, buffer_config=config).run as exp:
        threads = [threading.Thread(target=save, args=(exp, thread)) for thread in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        files = exp.files("shared").list()

    assert len(expected) == len(files) == 180
    for entry in files:
        np.testing.assert_array_equal(expected[entry["filename"]], decoded(tmp_path / PREFIX, entry))


def test_a_large_frame_is_copied_without_holding_other_threads_up(folder, stored):
    large = np.random.default_rng(0).integers(0, 256, (1200, 1300, 3), np.uint8)
    folder.save_image(large, to="large.png")
    folder.save_image(large, to="again.png")

    assert LARGEST_BYTE_COPY < large.nbytes
    for pixels in stored():
        np.testing.assert_array_equal(large, pixels)


def test_quality_trades_size_for_fidelity(folder):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    for quality in (1, 50, 95, np.int64(100)):
        folder.save_image(noise, to=f"{quality}.jpg", quality=quality)
    sizes = [entry["sizeBytes"] for entry in folder.list()]

    assert sorted(set(sizes)) == sizes


def test_a_record_tells_the_kind(exp):
    exp.files("frames").save_image(
        RGB, to="deep/a.jpg", description="first", tags=["x"], metadata={"step": np.int64(1)}
    )
    exp.files("frames").save_image(RGB, to="a.png")
    first, second = exp.files.list()

    assert ("/frames/deep", "a.jpg", "image/jpeg") == (first["path"], first["filename"], first["contentType"])
    assert ("first", ["x"], {"step": 1}) == tuple(first[key] for key in ("description", "tags", "metadata"))
    assert "image/png" == second["contentType"]


class Tensor:
    """What the package uses of a torch tensor."""

    def __init__(self, array):
        self.array = array

    def detach(self):
        return self

    def cpu(self):
        return self

    def numpy(self):
        return self.array


def test_a_tensor_is_an_array(folder, stored):
    folder.save_image(Tensor(UNIT), to="a.png")

    np.testing.assert_array_equal(RGB, stored()[0])


def test_a_frame_larger_than_the_frame_buffer(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (1000, 1500, 3), dtype=np.uint8)
    with Experiment(PREFIX, dash_root=tmp_path, echo=False, frame_buffer_mb=1).run as exp:
        for step in range(3):
            exp.files.save_image(pixels, to=f"{step}.png")
            exp.files.save_image(RGB, to=f"small-{step}.png")
        entries = exp.files.list()

    assert ["0.png", "small-0.png", "1.png", "small-1.png", "2.png", "small-2.png"] == [e["filename"] for e in entries]
    np.testing.assert_array_equal(pixels, decoded(tmp_path / PREFIX, entries[4]))
    assert not list((tmp_path / PREFIX).glob(".spill/*"))


def test_the_policy_drop_counts_what_it_drops(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (400, 400, 3), dtype=np.uint8)
    with Experiment(PREFIX, dash_root=tmp_path, echo=False, frame_buffer_mb=1, frame_policy="drop").run as exp:
        statuses = [exp.files.save_image(pixels, to=f"{step}.png")["status"] for step in range(40)]
        exp.flush()
        health = exp.health()
        listed = exp.files.list()

    assert {"queued", "dropped"} == set(statuses)
    assert statuses.count("dropped") == health["frames_dropped"]
    assert [f"{step}.png" for step in range(40) if statuses[step] == "queued"] == [e["filename"] for e in listed]


def test_the_policy_block_waits_and_loses_nothing(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (400, 400, 3), dtype=np.uint8)
    with Experiment(PREFIX, dash_root=tmp_path, echo=False, frame_buffer_mb=1).run as exp:
        for step in range(40):
            exp.files.save_image(pixels, to=f"{step}.png")
        assert 40 == len(exp.files.list())
        assert 0 == exp.health()["frames_dropped"]


@pytest.mark.parametrize(
    ("image", "options", "error", "text"),
    [
        (RGB.transpose(2, 0, 1), {}, InvalidValueError, "transpose(1, 2, 0)"),
        (RGB[None], {}, InvalidValueError, "not a batch"),
        (RGB[0, 0], {}, InvalidValueError, "HxW"),
        (np.zeros((8, 9, 2)), {}, InvalidValueError, "1, 3 (RGB) or 4 (RGBA)"),
        (np.zeros((0, 4)), {}, InvalidValueError, "at least one pixel"),
        (np.zeros((4, 4), complex), {}, InvalidTypeError, "bool, integer or float"),
        (np.array([["a", "b"]]), {}, InvalidTypeError, "bool, integer or float"),
        (np.array([[None]]), {}, InvalidTypeError, "bool, integer or float"),
        ([[1, 2], [3, 4]], {}, InvalidTypeError, "not list"),
        (None, {}, InvalidTypeError, "not NoneType"),
        ("frame.png", {}, InvalidTypeError, "not str"),
        (RGB, {"to": "a.gif"}, InvalidValueError, ".jpg, .jpeg, .png"),
        (RGB, {"to": "a"}, InvalidValueError, ".jpg, .jpeg, .png"),
        (RGB, {"to": ""}, InvalidNameError, "is empty"),
        (RGB, {"to": 3}, InvalidTypeError, "must be a str"),
        (RGB, {"to": "../a.jpg"}, InvalidNameError, "'../a.jpg'"),
        (RGB, {"to": "/a.jpg"}, InvalidNameError, "absolute"),
        (RGB, {"quality": 0}, InvalidValueError, "quality is 0"),
        (RGB, {"quality": 101}, InvalidValueError, "quality is 101"),
        (RGB, {"quality": 95.0}, InvalidValueError, "quality is 95.0"),
        (RGB, {"quality": True}, InvalidValueError, "quality is True"),
        (RGB, {"quality": None}, InvalidValueError, "quality is None"),
        (RGB, {"metadata": {"a": object()}}, InvalidTypeError, "metadata.a"),
    ],
)
def test_a_wrong_call_says_what_is_wrong_and_writes_nothing(untouched, image, options, error, text):
    with pytest.raises(error) as caught:
        untouched.files("frames").save_image(image, **{"to": "a.jpg"} | options)

    assert text in str(caught.value)
    assert [] == untouched.files.list()
    assert 0 == untouched.health()["bytes_waiting"]
