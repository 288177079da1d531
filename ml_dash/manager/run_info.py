"""The facts of a run in ``config.toml``, beside its configuration."""

from __future__ import annotations

import datetime
import os
import platform
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ml_dash._paths import current_folder
from ml_dash._version import __version__
from ml_dash.managed.store import text_or_none
from ml_dash.provenance.head import current_commit
from ml_dash.provenance.secrets import mask_text

WANDB_TABLE = "_wandb"
META_TABLE = "_meta"
RESERVED = (WANDB_TABLE, META_TABLE)

_WANDB_SITE = "https://wandb.ai"


@dataclass(frozen=True, slots=True)
class RunInfo:
    """The identity, origin and status of a run.

    Attributes:
        run_id: its id, also the name of its directory.
        project_name: the project, also the name of the directory above.
        entity, project, url, mode: those of wandb; mode is ``online``, ``offline``, or ``local`` for a run without wandb.
        created_at: when it was created, in UTC.
        git_commit: the commit that was checked out, None outside of a repository.
        status: ``RUNNING``, ``COMPLETED``, ``FAILED`` or ``CANCELLED``.
        reason: why it failed.
        meta: further values of the table ``_meta``.
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

    def with_status(self, status: str, reason: str | None) -> RunInfo:
        """A copy with another status; secrets in the reason are masked."""
        return replace(self, status=status, reason=None if reason is None else mask_text(reason))

    def tables(self) -> dict[str, Any]:
        """The tables ``_wandb`` and ``_meta``; unknown values have no key."""
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
        return {WANDB_TABLE: _without_none(wandb), META_TABLE: _without_none(meta) | dict(self.meta)}

    @classmethod
    def of_new_run(cls, folder: str, wandb_run: Any, entity: str | None) -> RunInfo:
        """The facts of a run that this process creates.

        Args:
            folder: the run's directory.
            wandb_run: the run of wandb, or None.
            entity: the requested user or team.
        """
        project_folder, run_id = os.path.split(folder)
        project = os.path.basename(project_folder)
        is_offline = bool(getattr(wandb_run, "offline", False))  # reading its url prints a warning
        return cls(
            run_id=run_id,
            project_name=project,
            entity=getattr(wandb_run, "entity", None) or entity,
            project=getattr(wandb_run, "project", None) or project,
            url=None if wandb_run is None or is_offline else wandb_run.url,
            mode="local" if wandb_run is None else "offline" if is_offline else "online",
            git_commit=current_commit(current_folder()),
            meta={
                "python": platform.python_version(),
                "host": socket.gethostname(),
                "pid": os.getpid(),
                "ml_dash": __version__,
            },
        )

    @classmethod
    def read(cls, document: Mapping[str, Any], folder: str) -> RunInfo:
        """The facts in a config.toml. One of another program may lack any of them.

        Args:
            document: the file's content.
            folder: the run's directory; its path gives the id and the project.
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
            entity=text_or_none(wandb.get("entity")),
            project=text_or_none(wandb.get("project")),
            url=text_or_none(wandb.get("url")),
            mode=text_or_none(wandb.get("mode")) or "local",
            created_at=created if created.tzinfo else created.replace(tzinfo=datetime.UTC),
            git_commit=text_or_none(rest.pop("git_commit", None)),
            status=text_or_none(rest.pop("status", None)) or "UNKNOWN",
            reason=text_or_none(rest.pop("status_reason", None)),
            meta=rest,
        )

    def wandb_url(self) -> str | None:
        """The address of the run's page, also if it was not sent yet; None without wandb, or if the entity is unknown."""
        if self.url or self.mode == "local" or not self.entity:
            return self.url
        return f"{_WANDB_SITE}/{self.entity}/{self.project}/runs/{self.run_id}"


def _without_none(table: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in table.items() if value is not None}
