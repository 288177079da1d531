"""wandb, kept at arm's length: started within a deadline, fed by a thread of its own, ended within a deadline.

Whatever it does or fails to do, values are on this machine before it hears of them.
"""

from __future__ import annotations

import os
import queue
import secrets
import threading
from collections.abc import Callable, Mapping
from typing import Any

from ml_dash.errors import InvalidValueError
from ml_dash.storage.names import unknown_keyword

MODES = ("online", "offline", "disabled", "shared")

OPTIONS = (
    *("project", "entity", "name", "tags", "config", "dir", "id", "notes", "group", "job_type", "mode", "settings"),
    *("config_exclude_keys", "config_include_keys", "allow_val_change", "force", "reinit", "resume", "resume_from"),
    *("fork_from", "save_code", "tensorboard", "sync_tensorboard", "monitor_gym", "anonymous"),
)
"""What ``wandb.init`` documents, for where it is not installed or not wanted."""

INIT_S = 15.0
"""What ``wandb.init`` is told to wait for the server; without a network it takes up to twice that."""

FINISH_S = 60.0
"""How long the end of a run waits for wandb to send what is left."""

WAITING_CALLS = 10_000
"""Calls that wait for wandb, about 10 s of its work; more are counted and dropped for wandb alone."""

ID_LENGTH = 8
"""As long as wandb's own ids."""

_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"


def local_id() -> str:
    """An id like those of wandb, for a run without it."""
    return "".join(secrets.choice(_LETTERS) for _ in range(ID_LENGTH))


def mode_of(wandb_mode: str | None) -> str | None:
    """The mode that was asked for, by the argument or by WANDB_MODE; None means wandb's own choice.

    Raises:
        InvalidValueError: the argument is no mode.
    """
    if wandb_mode is not None and wandb_mode not in MODES:
        raise InvalidValueError(f"wandb_mode={wandb_mode!r:.80} is none of {', '.join(MODES)}")
    return wandb_mode or os.environ.get("WANDB_MODE") or None


def check_options(mode: str | None, options: Mapping[str, Any]) -> None:
    """Refuse an option that wandb does not have: by what ``wandb.init`` takes if it is installed, else by ``OPTIONS``.

    Args:
        mode: what ``mode_of`` returned. A run without wandb imports it only for an option that is not among ``OPTIONS``.
        options: the options by name.

    Raises:
        InvalidTypeError: there is no option of that name; the text names the closest one.
    """
    if mode == "disabled" and all(name in OPTIONS for name in options):
        return
    known = _parameters() or OPTIONS
    unknown = next((name for name in options if name not in known), None)
    if unknown is not None:
        raise unknown_keyword(unknown, [*known, "base_dir", "project_name", "wandb_mode"], "MLRun.create()")


def _parameters() -> tuple[str, ...]:
    """What ``wandb.init`` takes; nothing if wandb is not installed, or does not say."""
    import inspect

    try:
        import wandb

        return tuple(inspect.signature(wandb.init).parameters)
    except Exception:  # noqa: BLE001 - one that cannot be imported is no wandb; the run says so when it starts
        return ()


def start(mode: str | None, options: Mapping[str, Any]) -> tuple[Any, str]:
    """A run of wandb, or None and why there is none.

    Args:
        mode: what ``mode_of`` returned.
        options: arguments of ``wandb.init``.
    """
    if mode == "disabled":
        return None, "wandb is disabled"
    try:
        import wandb

        init = wandb.init
    except (ImportError, AttributeError):  # the second: not installed, and a folder `wandb` of earlier runs is here
        return None, "wandb is not installed (pip install 'ml-dash[manager]')"
    try:
        run = init(**_with_defaults(wandb, mode, options))
    except Exception as error:  # noqa: BLE001 - no network, no login, a full disk, a version that changed
        return None, f"wandb.init failed ({type(error).__name__}: {_first_line(error)})"
    if getattr(run, "disabled", False):  # by `wandb disabled` in this folder
        return None, "wandb is disabled"
    return run, ""


def _with_defaults(wandb: Any, mode: str | None, options: Mapping[str, Any]) -> dict[str, Any]:
    given = {name: value for name, value in options.items() if value is not None}
    given.setdefault("settings", {"init_timeout": INIT_S})
    if mode is not None:
        given.setdefault("mode", mode)
    if wandb.run is not None:  # another run is open: by itself wandb would hand out that one again
        given.setdefault("reinit", "create_new")
    return given


def _first_line(error: BaseException) -> str:
    try:
        return (str(error).strip().splitlines() or [""])[0][:200]
    except Exception:  # noqa: BLE001 - the text of somebody else's error is what it runs to make it
        return ""


class WandbLink:
    """A run of wandb and the thread that talks to it.

    Args:
        run: what ``wandb.init`` returned.
        warn: shows a text once.

    Attributes:
        run: the same.
        dropped: calls that wandb never got, because too many waited.
        errors: calls that wandb refused, by whatever exception.
        last_error: the last refusal as text.
    """

    def __init__(self, run: Any, warn: Callable[[str], None]) -> None:
        self.run = run
        self.dropped = 0
        self.errors = 0
        self.last_error: str | None = None
        self._warn = warn
        # Its put takes no lock of Python's, so that neither a busy thread nor a signal handler can hold the caller up.
        self._calls: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="ml-dash-wandb", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Calls that wandb has not got yet."""
        return self._calls.qsize()

    def log(self, values: Mapping[str, Any]) -> None:
        """Hand one call over; never waits."""
        if self._calls.qsize() >= WAITING_CALLS:
            self.dropped += 1
            self._warn(
                f"wandb is behind by {WAITING_CALLS} calls; it misses what is logged until it catches up. Nothing is "
                "lost here: every value is in the run's directory"
            )
            return
        self._calls.put(lambda: self.run.log(values))

    def end(self, exit_code: int) -> None:
        """Have wandb finish after all that waits; does not wait itself."""
        self._calls.put(lambda: self.run.finish(exit_code=exit_code))
        self._calls.put(None)

    def join(self, seconds: float) -> bool:
        """Wait for the end; False, and a warning, if it takes longer than ``seconds``."""
        self._thread.join(max(0.0, seconds))
        if self._thread.is_alive():
            self._warn(
                f"wandb did not finish within {seconds:g} s; everything is in the run's directory, and what wandb has "
                "on this machine can be sent later with `wandb sync`"
            )
        return not self._thread.is_alive()

    def _work(self) -> None:
        while True:
            call = self._calls.get()
            if call is None:
                return
            try:
                call()
            except BaseException as error:  # noqa: BLE001 - also sys.exit(): it would end this thread alone, unseen
                self.errors += 1
                self.last_error = f"{type(error).__name__}: {_first_line(error)}"
                self._warn(f"wandb refused a call ({self.last_error}); the values are in the run's directory")


def give_up(run: Any) -> None:
    """End a run of wandb whose directory could not be made, within the usual deadline; None is none."""
    if run is not None:
        link = WandbLink(run, lambda _: None)  # the error that led here says more
        link.end(exit_code=1)
        link.join(FINISH_S)


def health(link: WandbLink | None) -> dict[str, Any]:
    """The counters of a link, all of them zero without one."""
    return {
        "wandb_waiting": link.waiting if link else 0,
        "wandb_dropped": link.dropped if link else 0,
        "wandb_errors": link.errors if link else 0,
        "wandb_last_error": link.last_error if link else None,
    }
