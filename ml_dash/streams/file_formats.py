"""Values as files: JSON, pickle, numpy, torch, matplotlib figures, videos, and paths of files to copy."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import sys
from collections.abc import Mapping
from fractions import Fraction
from types import ModuleType
from typing import Any

import numpy as np

from ml_dash._json import json
from ml_dash.errors import InvalidTypeError, InvalidValueError, MissingExtraError, MissingFileError, StorageError
from ml_dash.ipc import spill_file
from ml_dash.records.values import to_plain
from ml_dash.storage.names import kind_of

MAX_FILE_BYTES = 100_000_000_000
"""The largest file that is taken, 100 GB as in the published client: a larger one is mostly a mistake, and fills disks."""


def json_bytes(content: object, to: str) -> bytes:
    """Encode a value as indented JSON.

    Raises:
        InvalidTypeError: a value cannot be stored; the text names its key.
    """
    # Without escapes: a file is the user's own, so text that reads like not-a-number stays as it is.
    text = json.dumps(to_plain(content, f"save_json to {to!r}", escape=False), indent=2, ensure_ascii=False)
    return text.encode("utf-8", "surrogatepass")


def pickle_bytes(content: object, to: str) -> bytes:
    """Pickle a value.

    Raises:
        InvalidTypeError: it cannot be pickled.
    """
    import pickle

    try:
        return pickle.dumps(content)
    except Exception as error:  # pickling runs code of the value's own class, which may raise anything
        raise InvalidTypeError(
            f"save_pkl to {to!r}: {kind_of(content)} cannot be pickled: {error}; save its parts"
        ) from error


def numpy_bytes(content: object, to: str) -> bytes:
    """Encode an array as ``.npy``, or as ``.npz`` if ``to`` ends so; a dict of arrays can only be ``.npz``.

    Raises:
        InvalidTypeError: a value cannot become an array of numbers or text.
        InvalidValueError: a dict, and ``to`` ends in ``.npy``.
    """
    values: Mapping[Any, Any] = content if isinstance(content, Mapping) else {"arr_0": content}
    arrays: dict[str, Any] = {str(name): _to_array(value, to) for name, value in values.items()}
    buffer = io.BytesIO()
    if to.lower().endswith(".npz"):
        np.savez(buffer, **arrays)
    elif isinstance(content, Mapping):
        raise InvalidValueError(f"save: {to!r}: a dict of arrays is saved as .npz")
    else:
        np.save(buffer, arrays["arr_0"], allow_pickle=False)
    return buffer.getvalue()


def _to_array(value: Any, to: str) -> np.ndarray[Any, Any]:
    if hasattr(value, "detach") and hasattr(value, "cpu"):
        value = value.detach().cpu()
    try:
        array = np.asarray(value)
    except Exception as error:  # a foreign __array__ may raise anything
        raise InvalidTypeError(f"save: {to!r}: {kind_of(value)} gave no array: {error}") from error
    if array.dtype.hasobject:
        raise InvalidTypeError(f"save: {to!r}: {kind_of(value)} is no array of numbers or text; use save_pkl")
    return array


def is_figure(content: object) -> bool:
    """Whether a value is a matplotlib figure. Does not import matplotlib."""
    module = sys.modules.get("matplotlib.figure")
    return module is not None and isinstance(content, module.Figure)


def checked_figure(figure: Any) -> Any:
    """Return the figure, or pyplot's current one for None.

    Raises:
        MissingExtraError: matplotlib is not installed.
        InvalidValueError: pyplot has no current figure.
        InvalidTypeError: the object has no method ``savefig``.
    """
    if figure is None:
        pyplot = import_optional("matplotlib.pyplot", "save_fig", "pip install matplotlib")
        if not pyplot.get_fignums():
            raise InvalidValueError("save_fig: pyplot has no current figure; draw one first, or pass it")
        return pyplot.gcf()
    if not hasattr(figure, "savefig"):
        import_optional("matplotlib", "save_fig", "pip install matplotlib")
        raise InvalidTypeError(f"save_fig: {kind_of(figure)} is no figure; pass what plt.figure() returned")
    return figure


def figure_bytes(figure: Any, to: str, savefig_kwargs: dict[str, Any]) -> bytes:
    """Draw a figure in the format that the ending of ``to`` names.

    Raises:
        InvalidValueError: matplotlib cannot draw it.
    """
    suffix = os.path.splitext(to)[1][1:]
    buffer = io.BytesIO()
    try:
        figure.savefig(buffer, **({"format": suffix} if suffix else {}) | savefig_kwargs)
    except Exception as error:  # drawing runs code of every artist and of the user's callbacks
        raise InvalidValueError(f"save_fig to {to!r}: matplotlib cannot draw it: {error}") from error
    return buffer.getvalue()


class _TorchFile:
    """A file for ``torch.save`` that keeps the disk's errors apart from those of the value."""

    def __init__(self, file: io.BufferedWriter) -> None:
        self._file = file
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            return self._file.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        """Do nothing: closing the file flushes it."""


def write_torch(torch: ModuleType, content: object, path: str, to: str) -> None:
    """Write a value to ``path`` with ``torch.save``.

    Raises:
        InvalidTypeError: torch cannot save the value.
        OSError: the file cannot be written.
    """
    with open(path, "wb") as file:
        torch_file = _TorchFile(file)
        try:
            torch.save(content, torch_file)
        except Exception as error:  # pickling runs code of the value's own class, which may raise anything
            if torch_file.error is not None:
                raise torch_file.error from None
            name = type(content).__name__
            raise InvalidTypeError(f"save_torch to {to!r}: torch cannot save a {name}: {error}") from error


def write_video(run: str, path: str, frames: object, kind: str, fps: Fraction, quality: int) -> OSError | None:
    """Encode frames to a new file. Unless that succeeds, no file is left.

    Args:
        run: absolute path of the run's folder.
        path: of the file, below it; folders are made if they are missing.
        frames: as for ``Folder.save_video``.
        kind: as from ``check_video_name``.
        fps: as from ``check_fps``.
        quality: as from ``check_video_quality``.

    Returns:
        The error if the file could not be written, or None. Errors of the frames are raised.
    """
    from ml_dash.media.video import VideoFile
    from ml_dash.media.video_frames import rgb_frames

    with contextlib.ExitStack() as on_failure:
        on_failure.callback(remove_file, path)
        video = on_failure.enter_context(VideoFile(path, kind, fps, quality))
        try:
            spill_file.make_file(run, path)
        except OSError as error:
            return error
        for pixels in rgb_frames(frames):
            try:
                video.add(pixels)
            except StorageError as error:
                return error
        try:
            video.finish()
        except StorageError as error:
            return error
        on_failure.pop_all()
    return None


def remove_file(path: str) -> None:
    """Remove a file, if it is there and can be removed."""
    with contextlib.suppress(OSError):
        os.unlink(path)


def checked_source(fpath: object) -> str:
    """Return the path of a file to copy.

    Raises:
        InvalidTypeError: it is no path.
        MissingFileError: there is no such file.
        InvalidValueError: it is a folder or a device, or larger than ``MAX_FILE_BYTES``.
    """
    if not isinstance(fpath, (str, os.PathLike)):
        raise InvalidTypeError(f"upload: {fpath!r:.80} is {kind_of(fpath)}, not a path; use save_blob for bytes")
    path = os.fsdecode(fpath)
    if not os.path.isfile(path):
        if os.path.isdir(path):
            raise InvalidValueError(f"{path!r} is a folder; save its files one by one, or an archive of it")
        if os.path.lexists(path) and os.path.exists(path):
            raise InvalidValueError(f"{path!r} is no regular file; read it and use save_blob")
        try:
            current = repr(os.getcwd())
        except OSError:
            current = "the current folder, which was removed"
        hint = "" if isinstance(fpath, os.PathLike) else "; to save the text itself, use save_text"
        raise MissingFileError(f"there is no file {path!r:.200} (looked from {current}){hint}")
    size = os.path.getsize(path)
    if size > MAX_FILE_BYTES:
        raise InvalidValueError(f"{path!r} has {size} bytes; at most {MAX_FILE_BYTES} are taken, so save it in parts")
    return path


def import_optional(module: str, call: str, how: str) -> ModuleType:
    """Import a package that ml_dash does not require.

    Args:
        module: its dotted name.
        call: the call that needs it, for the error.
        how: the command that installs it, for the error.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(f"{call} needs {module.partition('.')[0]}: {how} ({error})") from error
