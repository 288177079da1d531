"""Tables set aside, in memory and in a file."""

from __future__ import annotations

import pyarrow as pa
import pytest

from ml_dash.storage.table_spill import TableSpill

TABLES = [pa.table({"a": [1, 2, 3]}), pa.table({"b": ["x"], "a": [0.5]}), pa.table({}), pa.table({"c": [[1.0], None]})]


@pytest.mark.parametrize("memory", [0, 24, 1 << 20], ids=["all in the file", "one in memory", "all in memory"])
def test_tables_come_back_in_any_order_and_more_than_once(tmp_path, memory):
    with TableSpill(str(tmp_path), memory) as spill:
        for table in TABLES:
            spill.add(table)

        assert len(TABLES) == len(spill)
        for number in (2, 0, 3, 1, 0):
            assert TABLES[number].equals(spill[number])
        spill.add(TABLES[0])
        assert TABLES[0].equals(spill[4])


def test_the_file_has_no_name(tmp_path):
    with TableSpill(str(tmp_path), 0) as spill:
        spill.add(TABLES[0])

        assert [] == list(tmp_path.iterdir())
