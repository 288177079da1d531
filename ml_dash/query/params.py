"""Read the parameters of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ml_dash.query.reader import Source
from ml_dash.records.values import unflatten
from ml_dash.storage import reading


class ParamsReader:
    """The parameters of a run.

    Args:
        source: the run.
    """

    def __init__(self, source: Source) -> None:
        self._source = source

    def get(self, flatten: bool = True) -> dict[str, Any]:
        """Read all parameters, including those that were just set.

        Args:
            flatten: True for dotted keys, False for nested dicts.

        Returns:
            The values by name; empty if no parameter was set.
        """
        self._source.flush()
        flat = without_filled(reading.read_parameters(self._source.folder))
        return flat if flatten else unflatten(flat)


def without_filled(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Drop the ``{}`` of a dict that was empty when it was set and got values later."""
    if {} not in flat.values():
        return dict(flat)
    parents = {key[:end] for key in flat for end, letter in enumerate(key) if letter == "."}
    return {key: value for key, value in flat.items() if value != {} or key not in parents}
