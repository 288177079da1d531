"""Values as the bytes of a file, without a run."""

from __future__ import annotations

import errno
import io
import pickle
import types

import numpy as np
import pytest

from ml_dash.errors import InvalidTypeError, InvalidValueError, MissingExtraError, MissingFileError
from ml_dash.streams import file_formats


def fake_torch(save):
    module = types.ModuleType("torch")
    module.save = save
    return module


def test_json_is_indented_and_keeps_text_that_reads_like_not_a_number():
    assert b'{\n  "a": "NaN",\n  "b": [\n    1\n  ]\n}' == file_formats.json_bytes({"a": "NaN", "b": (1,)}, "a.json")


def test_a_value_without_a_pickle_is_named():
    with pytest.raises(InvalidTypeError, match=r"save_pkl to 'a\.pkl': a generator cannot be pickled"):
        file_formats.pickle_bytes((x for x in ()), "a.pkl")


def test_an_array_is_read_back_by_numpy():
    array = np.arange(6).reshape(2, 3)

    assert array.tolist() == np.load(io.BytesIO(file_formats.numpy_bytes(array, "a.npy"))).tolist()
    assert array.tolist() == np.load(io.BytesIO(file_formats.numpy_bytes({"x": array}, "a.npz")))["x"].tolist()


def test_a_dict_of_arrays_needs_the_ending_npz():
    with pytest.raises(InvalidValueError, match=r"a dict of arrays is saved as \.npz"):
        file_formats.numpy_bytes({"x": [1]}, "a.npy")


def test_objects_are_no_array():
    with pytest.raises(InvalidTypeError, match="a list is no array of numbers or text; use save_pkl"):
        file_formats.numpy_bytes([object()], "a.npy")


def test_torch_writes_straight_into_the_file(tmp_path):
    torch = fake_torch(lambda content, file: file.write(pickle.dumps(content)))
    file_formats.write_torch(torch, {"w": 1}, str(tmp_path / "a.pt"), "a.pt")

    assert {"w": 1} == pickle.loads((tmp_path / "a.pt").read_bytes())


def test_an_error_of_torch_names_the_value(tmp_path):
    def save(content, file):
        raise TypeError("cannot pickle it")

    with pytest.raises(InvalidTypeError, match=r"save_torch to 'a\.pt': torch cannot save a dict: cannot pickle it"):
        file_formats.write_torch(fake_torch(save), {}, str(tmp_path / "a.pt"), "a.pt")


def test_an_error_of_the_disk_stays_one_although_torch_wraps_it():
    def save(content, file):
        try:
            file.write(b"x" * 1_000_000)
        except OSError as error:
            raise RuntimeError("PytorchStreamWriter failed") from error

    with pytest.raises(OSError) as caught:
        file_formats.write_torch(fake_torch(save), {}, "/dev/full", "a.pt")

    assert errno.ENOSPC == caught.value.errno


def test_a_package_that_is_not_installed_is_named_with_the_command():
    with pytest.raises(MissingExtraError, match=r"^save_x needs no_such_package: pip install it \("):
        file_formats.import_optional("no_such_package.part", "save_x", "pip install it")


def test_a_source_is_a_regular_file_that_exists(tmp_path):
    path = tmp_path / "a"
    with pytest.raises(MissingFileError, match="there is no file"):
        file_formats.checked_source(path)
    with pytest.raises(InvalidValueError, match="is a folder"):
        file_formats.checked_source(tmp_path)
    path.touch()

    assert str(path) == file_formats.checked_source(path)
