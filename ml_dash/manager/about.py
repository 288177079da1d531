"""What ``config.toml`` says of a run besides its configuration."""

from __future__ import annotations

import datetime
import os
import platform
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ml_dash._paths import current_folder
from ml_dash.provenance.head import current_commit

WANDB_TABLE = "_wandb"
META_TABLE = "_meta"
RESERVED = (WANDB_TABLE, META_TABLE)

_WANDB_SITE = "https://wandb.ai"


@dataclass(frozen=True, slots=True)
class About:
    """Who a run is and where it came from.

    Attributes:
        run_id: its id, also the name of its directory.
        project_name: the project, also the name of the directory above.
        entity, project, url, mode: of wandb; mode is ``online``, ``offline`` or ``local``, the last without wandb.
        created_at: when it was created, in UTC.
        git_commit: the commit that was checked out, None outside of a repository.
        status: ``RUNNING``, ``COMPLETED``, ``FAILED`` or ``CANCELLED``.
        reason: why it failed.
        meta: what else the table ``_meta`` holds.
    """

    run_id: str
    project_name: str
    entity: str | None = None
    project: str | None = None
    url: str | None = None
    mode: str = "local"
    created_at: datetime.datetime = field(default_factory=lambda: datetime.datetime.now(datetime.UTC))
    git_commit: str | None = None
    status: str = "RUNNING"
    reason: str | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)

    def with_status(self, status: str, reason: str | None) -> About:
        """The same run, ended."""
        return replace(self, status=status, reason=reason)

    def tables(self) -> dict[str, Any]:
        """The tables ``_wandb`` and ``_meta``; what is not known has no key."""
        wandb = {
            "run_id": self.run_id,
            "project": self.project,
            "entity": self.entity,
            "url": self.url,
            "mode": self.mode,
        }
        meta = {
            "created_at": self.created_at,
            "git_commit": self.git_commit,
            "status": self.status,
            "status_reason": self.reason,
        }
        return {WANDB_TABLE: _known(wandb), META_TABLE: _known(meta) | dict(self.meta)}

    @classmethod
    def of_new_run(cls, folder: str, wandb_run: Any, entity: str | None) -> About:
        """Of a run that this process creates.

        Args:
            folder: the run's directory.
            wandb_run: the run of wandb, or None.
            entity: user or team that was asked for.
        """
        project_folder, run_id = os.path.split(folder)
        project = os.path.basename(project_folder)
        is_offline = bool(getattr(wandb_run, "offline", False))  # its url would be a warning
        return cls(
            run_id=run_id,
            project_name=project,
            entity=getattr(wandb_run, "entity", None) or entity,
            project=getattr(wandb_run, "project", None) or project,
            url=None if wandb_run is None or is_offline else wandb_run.url,
            mode="local" if wandb_run is None else "offline" if is_offline else "online",
            git_commit=current_commit(current_folder()),
            meta=surroundings(),
        )

    @classmethod
    def read(cls, document: Mapping[str, Any], folder: str) -> About:
        """From config.toml. A file that somebody else wrote may lack any of it.

        Args:
            document: the file's content.
            folder: the run's directory, whose names stand in for what is missing.
        """
        wandb, meta = (table if isinstance(table := document.get(name), dict) else {} for name in RESERVED)
        rest = dict(meta)
        created = rest.pop("created_at", None)
        if not isinstance(created, datetime.datetime):
            created = datetime.datetime.fromtimestamp(os.stat(folder).st_mtime, datetime.UTC)
        project_folder, run_id = os.path.split(folder)
        return cls(
            run_id=run_id,
            project_name=os.path.basename(project_folder),
            entity=wandb.get("entity"),
            project=wandb.get("project"),
            url=wandb.get("url"),
            mode=wandb.get("mode", "local"),
            created_at=created if created.tzinfo else created.replace(tzinfo=datetime.UTC),
            git_commit=rest.pop("git_commit", None),
            status=rest.pop("status", "UNKNOWN"),
            reason=rest.pop("status_reason", None),
            meta=rest,
        )

    def wandb_url(self) -> str | None:
        """The address of the run's page, also of a run that was not sent yet."""
        if self.url or self.mode == "local" or not self.entity:
            return self.url
        return f"{_WANDB_SITE}/{self.entity}/{self.project}/runs/{self.run_id}"


class Described:
    """What a run says of itself, from its ``About``."""

    _about: About

    @property
    def run_id(self) -> str:
        """The id, from wandb or made here."""
        return self._about.run_id

    @property
    def project_name(self) -> str:
        """The project."""
        return self._about.project_name

    @property
    def git_commit(self) -> str | None:
        """The commit that was checked out in the current folder; None outside of a repository."""
        return self._about.git_commit

    @property
    def created_at(self) -> datetime.datetime:
        """When the run was created, with its time zone."""
        return self._about.created_at

    @property
    def status(self) -> str:
        """``RUNNING``, ``COMPLETED``, ``FAILED`` or ``CANCELLED``; ``UNKNOWN`` if the file does not say."""
        return self._about.status

    @property
    def wandb_entity(self) -> str | None:
        """User or team of wandb, if it is known."""
        return self._about.entity

    @property
    def wandb_project(self) -> str:
        """The project of wandb."""
        return self._about.project or self._about.project_name

    def get_wandb_url(self) -> str | None:
        """The address of the run's page; None for a run without wandb, and if the entity is not known."""
        return self._about.wandb_url()


def surroundings() -> dict[str, Any]:
    """What is worth knowing of the process that creates a run."""
    from ml_dash._version import __version__

    return {
        "python": platform.python_version(),
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "ml_dash": __version__,
    }


def _known(table: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in table.items() if value is not None}
