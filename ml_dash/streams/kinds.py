"""Saving values of many kinds as files: by type and name, or as text, JSON, pickle, torch, numpy, a figure."""

from __future__ import annotations

import importlib
import io
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

import numpy as np

from ml_dash._json import json
from ml_dash.errors import InvalidTypeError, InvalidValueError, MissingExtraError
from ml_dash.media.frames import FORMAT_OF_SUFFIX
from ml_dash.query.files import Record
from ml_dash.records.values import to_plain
from ml_dash.storage.names import check_file_path
from ml_dash.streams.saving import FolderSaver

_perf = time.perf_counter_ns


class KindSaver(FolderSaver):
    """A folder that takes values of many kinds; see ``Folder``, which is the whole of it."""

    def save(
        self,
        content: object = None,
        *,
        to: str | None = None,
        description: str | None = None,
        tags: Sequence[str] | None = None,
        metadata: Mapping[str, object] | None = None,
        bindrs: Sequence[str] | None = None,
    ) -> Record:
        """Save by type, and by the ending of the name.

        A path is copied, bytes are stored as they are. Else the ending says how: ``.pt`` and ``.pth`` by torch,
        ``.pkl`` and ``.pickle`` by pickle, ``.npy`` and ``.npz`` by numpy, ``.mp4``, ``.webm`` and ``.gif`` as a video.
        Else the type does: a matplotlib figure is
        drawn, a dict, list or tuple becomes JSON, an array, tensor or Pillow image an image.

        Args:
            content: what to save; default the option ``file_path`` of the folder.
            to: its name in the run, which may begin with folders; a path keeps its own name if it is missing.
            description: what it is.
            tags: words to find it by.
            metadata: more about it.
            bindrs: resources or teams that it belongs to.

        Raises:
            InvalidValueError: ``to`` is missing, or ends in something that does not fit.
            MissingFileError: a path names no file. Text is saved by ``save_text``.
            InvalidTypeError: there is no way to save such a value.
            InvalidNameError: ``to`` cannot be a place on disk.
            ExperimentError: the experiment is not open.
        """
        about: dict[str, Any] = {"description": description, "tags": tags, "metadata": metadata, "bindrs": bindrs}
        if content is None:
            content = self._file_path
        if isinstance(content, (str, os.PathLike)):
            return self.upload(content, to=to, **about)
        if content is None:
            raise InvalidTypeError("save: None is no path, bytes, dict, list or array; pass what is to be saved")
        if to is None:
            raise InvalidValueError(f"save: to= is missing; a {type(content).__name__} has no name of its own")
        return self._way_to_save(content, to)(content, to=to, **about)

    def save_text(self, text: str, *, to: str, **about: Any) -> Record:
        """Save text as UTF-8. ``about`` is ``description``, ``tags``, ``metadata``, ``bindrs``, as for ``save``."""
        if not isinstance(text, str):
            raise InvalidTypeError(f"save_text: {type(text).__name__} is not str; call str() on it or use save_blob")
        return self.save_blob(text.encode("utf-8", "surrogatepass"), to=to, **about)

    def save_json(self, content: object, *, to: str, **about: Any) -> Record:
        """Save a value as indented JSON. Whatever ``exp.params`` takes is taken; not-a-number is the text ``NaN``.

        Raises:
            InvalidTypeError: a value cannot be stored; the text names its key.
        """
        # The file is the user's own: their text stays as it is, also where it reads like not-a-number.
        text = json.dumps(to_plain(content, f"save_json to {to!r}", escape=False), indent=2, ensure_ascii=False)
        return self.save_blob(text.encode("utf-8", "surrogatepass"), to=to, **about)

    def save_pkl(self, content: object, *, to: str, **about: Any) -> Record:
        """Save any value with pickle.

        Raises:
            InvalidTypeError: the value cannot be pickled.
        """
        import pickle

        try:
            data = pickle.dumps(content)
        except Exception as error:  # pickling runs code of the value's own class, which may raise anything
            raise InvalidTypeError(
                f"save_pkl to {to!r}: a {type(content).__name__} cannot be pickled: {error}; save its parts"
            ) from error
        return self.save_blob(data, to=to, **about)

    def save_video(
        self, frames: object, *, to: str, fps: float = 20, quality: int | None = None, **about: Any
    ) -> Record:
        """Save frames as a video that a browser plays. The call takes as long as encoding does; then the video is safe.

        The frames are taken one at a time and encoded in the calling thread. To not wait, append them to a stream,
        ``exp.frames(topic).append(frame)``, and export that when there is time.

        Args:
            frames: an array of shape TxHxW or TxHxWxC, a list, or an iterator of images as ``save_image`` takes them,
                all of one size. Floats outside [0, 1] are stretched over the range of all frames, or, from an iterator,
                over that of the first one.
            to: the file's name, ending in ``.mp4`` (H.264), ``.webm`` (VP9) or ``.gif``; it may begin with folders.
            fps: frames per second, above 1/600 and at most 1000 (50 for a GIF).
            quality: of MP4 and WebM, 1 to 100; default 75.
            **about: ``description``, ``tags``, ``metadata``, ``bindrs``, as for ``save``.

        Raises:
            InvalidValueError: there are no frames, they differ in size, or the suffix, ``fps`` or ``quality`` is wrong.
            InvalidTypeError: a frame is no array of numbers.
            InvalidNameError: ``to`` cannot be a place on disk.
            MissingExtraError: PyAV is not installed.
            Exception: whatever the iterator raises. Nothing is stored then.
        """
        from ml_dash.streams.video import save_video

        return save_video(self, frames, to=to, fps=fps, quality=quality, **about)

    def save_torch(
        self,
        content: object,
        *,
        to: str,
        description: str | None = None,
        tags: Sequence[str] | None = None,
        metadata: Mapping[str, object] | None = None,
        bindrs: Sequence[str] | None = None,
    ) -> Record:
        """Save a model, a state dict, a tensor or any other value with ``torch.save``, straight into a file.

        Raises:
            MissingExtraError: torch is not installed.
            InvalidTypeError: torch cannot save the value.
            InvalidNameError: ``to`` cannot be a place on disk.
            ExperimentError: the experiment is not open.
        """
        started = _perf()
        torch = _needed("torch", "save_torch", "pip install torch")
        entry = self._entry(to, description, tags, metadata, bindrs)
        return self._store(entry, lambda staged: _write_torch(torch, content, staged, to), started)

    def save_fig(
        self,
        fig: Any = None,
        *,
        to: str,
        close: bool = True,
        description: str | None = None,
        tags: Sequence[str] | None = None,
        metadata: Mapping[str, object] | None = None,
        bindrs: Sequence[str] | None = None,
        **savefig_kwargs: Any,
    ) -> Record:
        """Draw a matplotlib figure into a file; it is drawn in this process, and within this call.

        Args:
            fig: the figure, or anything with its method ``savefig``; default pyplot's current one.
            to: its name in the run; the ending says the format: ``.png``, ``.pdf``, ``.svg`` and what matplotlib has.
            close: whether the figure is closed then, so that the figures of a loop do not fill the memory.
            description: what it is.
            tags: words to find it by.
            metadata: more about it, for its record; not what ``savefig`` calls so.
            bindrs: resources or teams that it belongs to.
            **savefig_kwargs: for ``savefig``, such as ``dpi=150`` and ``bbox_inches="tight"``.

        Raises:
            MissingExtraError: matplotlib is not installed.
            InvalidTypeError: it is no figure.
            InvalidValueError: there is no current figure, or matplotlib cannot draw it so; it stays open then.
            InvalidNameError: ``to`` cannot be a place on disk.
            ExperimentError: the experiment is not open.
        """
        check_file_path(to)
        self._owner.channel.require_open()  # before the drawing, which takes longest
        figure = _figure(fig)
        suffix = os.path.splitext(to)[1][1:]
        buffer = io.BytesIO()
        try:
            figure.savefig(buffer, **({"format": suffix} if suffix else {}) | savefig_kwargs)
        except Exception as error:  # drawing runs code of every artist and of the user's callbacks
            raise InvalidValueError(f"save_fig to {to!r}: matplotlib cannot draw it: {error}") from error
        about: dict[str, Any] = {"description": description, "tags": tags, "metadata": metadata, "bindrs": bindrs}
        record = self.save_blob(buffer.getvalue(), to=to, **about)
        if close and "matplotlib.pyplot" in sys.modules:  # else nothing but the caller holds it
            sys.modules["matplotlib.pyplot"].close(getattr(figure, "figure", figure))
        return record

    def _save_numpy(self, content: object, *, to: str, **about: Any) -> Record:
        given: Mapping[Any, Any] = content if isinstance(content, Mapping) else {"arr_0": content}
        arrays: dict[str, Any] = {str(name): _array(value, to) for name, value in given.items()}
        buffer = io.BytesIO()
        if to.lower().endswith(".npz"):
            np.savez(buffer, **arrays)
        elif isinstance(content, Mapping):
            raise InvalidValueError(f"save: {to!r}: a dict of arrays is saved as .npz")
        else:
            np.save(buffer, arrays["arr_0"], allow_pickle=False)
        return self.save_blob(buffer.getvalue(), to=to, **about)

    def _way_to_save(self, content: object, to: str) -> Callable[..., Record]:
        suffix = os.path.splitext(check_file_path(to)[-1])[1].lower()
        if isinstance(content, (bytes, bytearray, memoryview)):
            return self.save_blob
        by_suffix: dict[str, Callable[..., Record]] = {
            ".pt": self.save_torch,
            ".pth": self.save_torch,
            ".pkl": self.save_pkl,
            ".pickle": self.save_pkl,
            ".npy": self._save_numpy,
            ".npz": self._save_numpy,
            ".mp4": self.save_video,
            ".webm": self.save_video,
            ".gif": self.save_video,
        }
        return by_suffix.get(suffix) or self._way_by_type(content, suffix)

    def _way_by_type(self, content: object, suffix: str) -> Callable[..., Record]:
        if _is_figure(content):
            return self.save_fig
        if isinstance(content, (Mapping, list, tuple)):
            return self.save_json
        name = type(content).__name__
        if not (
            isinstance(content, np.ndarray) or hasattr(content, "__array__") or hasattr(content, "__array_interface__")
        ):
            raise InvalidTypeError(f"save: a {name} is no path, bytes, dict, list or array; use save_pkl or convert it")
        if suffix not in FORMAT_OF_SUFFIX:
            images = ", ".join(FORMAT_OF_SUFFIX)
            raise InvalidValueError(f"save: a {name} to a name in {suffix!r}: use {images} (an image), .npy or .npz")
        return self.save_image


class _Sink:
    """A file that torch writes to: the errors of the disk are told from those of the value."""

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
        """The file is flushed when it is closed."""


def _write_torch(torch: ModuleType, content: object, path: str, to: str) -> None:
    with open(path, "wb") as file:
        sink = _Sink(file)
        try:
            torch.save(content, sink)
        except Exception as error:  # pickling runs code of the value's own class, which may raise anything
            if sink.error is not None:
                raise sink.error from None
            name = type(content).__name__
            raise InvalidTypeError(f"save_torch to {to!r}: torch cannot save a {name}: {error}") from error


def _array(value: Any, to: str) -> np.ndarray[Any, Any]:
    if hasattr(value, "detach") and hasattr(value, "cpu"):
        value = value.detach().cpu()
    try:
        array = np.asarray(value)
    except Exception as error:  # a foreign __array__ may raise anything
        raise InvalidTypeError(f"save: {to!r}: a {type(value).__name__} gave no array: {error}") from error
    if array.dtype.hasobject:
        raise InvalidTypeError(f"save: {to!r}: a {type(value).__name__} is no array of numbers or text; use save_pkl")
    return array


def _figure(fig: Any) -> Any:
    if fig is None:
        pyplot = _needed("matplotlib.pyplot", "save_fig", "pip install matplotlib")
        if not pyplot.get_fignums():
            raise InvalidValueError("save_fig: pyplot has no current figure; draw one first, or pass it")
        return pyplot.gcf()
    if not hasattr(fig, "savefig"):
        _needed("matplotlib", "save_fig", "pip install matplotlib")
        raise InvalidTypeError(f"save_fig: a {type(fig).__name__} is no figure; pass what plt.figure() returned")
    return fig


def _is_figure(content: object) -> bool:
    module = sys.modules.get("matplotlib.figure")
    return module is not None and isinstance(content, module.Figure)


def _needed(module: str, what: str, how: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(f"{what} needs {module.partition('.')[0]}: {how} ({error})") from error
