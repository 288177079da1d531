"""The connection to wandb: started within a deadline, fed by a thread of its own, ended within a deadline.

Values are on this machine before they go to wandb, so that no failure of wandb loses one.
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
"""The documented keywords of ``wandb.init``, for use without wandb."""

INIT_S = 15.0
"""How long ``wandb.init`` waits for the server; without a network it takes up to twice that."""

FINISH_S = 60.0
"""How long the end of a run waits for wandb to send the rest."""

WAITING_CALLS = 10_000
"""Calls that wait for wandb, about 10 s of its work; more are counted and dropped for wandb alone."""

ID_LENGTH = 8
"""As long as wandb's own ids."""

_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"


def local_id() -> str:
    """Return a random id like those of wandb."""
    return "".join(secrets.choice(_LETTERS) for _ in range(ID_LENGTH))


def mode_of(wandb_mode: str | None) -> str | None:
    """Return the mode given by the argument, else by WANDB_MODE; None is wandb's own choice.

    Raises:
        InvalidValueError: the argument is no mode.
    """
    if wandb_mode is not None and wandb_mode not in MODES:
        raise InvalidValueError(f"wandb_mode={wandb_mode!r:.80} is none of {', '.join(MODES)}")
    return wandb_mode or os.environ.get("WANDB_MODE") or None


def check_options(mode: str | None, options: Mapping[str, Any]) -> None:
    """Refuse an option that ``wandb.init`` does not have; without wandb one that is not in ``OPTIONS``.

    Args:
        mode: the result of ``mode_of``. A run without wandb imports it only for an option that is not in ``OPTIONS``.
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
    """The keywords of ``wandb.init``; none if wandb is not installed, or its signature is not known."""
    import inspect

    try:
        import wandb

        return tuple(inspect.signature(wandb.init).parameters)
    except Exception:  # noqa: BLE001 - importing wandb may raise anything; starting the run reports it
        return ()


def start(mode: str | None, options: Mapping[str, Any]) -> tuple[Any, str]:
    """Start a run of wandb; return it, or None and the reason.

    Args:
        mode: the result of ``mode_of``.
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
    if wandb.run is not None:  # another run is open, and wandb would return that one again
        given.setdefault("reinit", "create_new")
    return given


def _first_line(error: BaseException) -> str:
    try:
        return (str(error).strip().splitlines() or [""])[0][:200]
    except Exception:  # noqa: BLE001 - the __str__ of another package may raise anything
        return ""


class WandbLink:
    """A run of wandb and the thread that talks to it.

    Args:
        run: the result of ``wandb.init``.
        warn: prints a text once.

    Attributes:
        run: the run of wandb.
        dropped: calls that wandb never got, because too many waited.
        errors: calls in which wandb raised an exception.
        last_error: the last of these exceptions as text.
    """

    def __init__(self, run: Any, warn: Callable[[str], None]) -> None:
        self.run = run
        self.dropped = 0
        self.errors = 0
        self.last_error: str | None = None
        self._warn = warn
        # SimpleQueue.put takes no Python lock, so that neither a busy thread nor a signal handler can block the caller.
        self._calls: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="ml-dash-wandb", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Calls that wandb has not got yet."""
        return self._calls.qsize()

    def log(self, values: Mapping[str, Any]) -> None:
        """Queue one call of ``wandb.log``. Does not wait."""
        if self._calls.qsize() >= WAITING_CALLS:
            self.dropped += 1
            self._warn(
                f"wandb is behind by {WAITING_CALLS} calls; it misses what is logged until it catches up. Nothing is "
                "lost here: every value is in the run's directory"
            )
            return
        self._calls.put(lambda: self.run.log(values))

    def end(self, exit_code: int) -> None:
        """Queue the end of the run behind all other calls. Does not wait."""
        self._calls.put(lambda: self.run.finish(exit_code=exit_code))
        self._calls.put(None)

    def join(self, seconds: float) -> bool:
        """Wait for the end; return False and warn if it takes longer than ``seconds``."""
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
            except BaseException as error:  # noqa: BLE001 - also sys.exit(), which would end only this thread
                self.errors += 1
                self.last_error = f"{type(error).__name__}: {_first_line(error)}"
                self._warn(f"wandb refused a call ({self.last_error}); the values are in the run's directory")


def give_up(run: Any) -> None:
    """End a run of wandb whose directory could not be made; waits as ``finish`` does."""
    if run is not None:
        link = WandbLink(run, lambda _: None)  # the error of the directory is raised instead
        link.end(exit_code=1)
        link.join(FINISH_S)


def health(link: WandbLink | None) -> dict[str, Any]:
    """The counters of a link; zero without a link."""
    return {
        "wandb_waiting": link.waiting if link else 0,
        "wandb_dropped": link.dropped if link else 0,
        "wandb_errors": link.errors if link else 0,
        "wandb_last_error": link.last_error if link else None,
    }
