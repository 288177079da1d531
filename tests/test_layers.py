"""Imports inside ml_dash go one way, and importing ml_dash loads nothing heavy."""

from __future__ import annotations

import ast
import graphlib
import json
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import ml_dash
from tests.support import run_python

if TYPE_CHECKING:
    from collections.abc import Container, Iterator

PACKAGE = Path(ml_dash.__path__[0])
ROOT = Path(__file__).parent.parent

# From the bottom up. A unit is a module or a folder directly under ml_dash; it may import its own layer and those
# below it. `__init__` is not a unit: it names everything and resolves it lazily.
LAYERS = (
    {"_file_systems", "_fork", "_json", "_paths", "_printable", "_progress", "_version"}
    | {"errors", "settings", "snowflake"},
    {"records", "media", "provenance"},
    {"storage", "ipc"},
    {"remote", "managed", "capture", "run", "query", "doctor"},
    {"catalog", "writer", "export", "streams"},
    {"verify", "ui", "experiment"},
    {"server", "manager", "integrations", "importers", "monitor", "auto_start", "remote_auto_start"},
    {"cli"},
    {"__main__"},
)
LAYER_OF = {unit: level for level, units in enumerate(LAYERS) for unit in units}

# What runs in the user's training process. The writer is another process, and is found there by name only.
TRAINING_SIDE = frozenset(
    {"auto_start", "capture", "experiment", "manager", "provenance", "remote_auto_start", "run", "streams"}
)

HEAVY = frozenset(
    {
        "av",
        "click",
        "cryptography",
        "cv2",
        "graphql",
        "httpx",
        "isal",
        "keyring",
        "obstore",
        "pandas",
        "psycopg",
        "pyarrow",
        "sqlalchemy",
        "starlette",
        "uvicorn",
        "wandb",
        "wcwidth",
    }
)

LOADED_MODULES = "; import json, sys; print(json.dumps(sorted(sys.modules)))"

ONE_RUN = """
import ml_dash

with ml_dash.Experiment("tests/layers/one-run", dash_root="runs").run as experiment:
    experiment.log("started")
    experiment.params.set(seed=1)
    experiment.metrics("loss").log(value=0.5)
"""


def imported_modules(tree: ast.Module, module: str, *, is_package: bool) -> Iterator[str]:
    """The absolute names that a module imports when it runs, at its top or inside a function.

    Imports under `if TYPE_CHECKING:` never run, so they are left out.

    Args:
        tree: the module's syntax tree.
        module: its own absolute name, against which relative imports are resolved.
        is_package: whether it is an `__init__.py`.
    """
    for node in running_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = resolve(node, module, is_package=is_package)
            yield from (f"{base}.{alias.name}" for alias in node.names)


def running_nodes(tree: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            for statement in child.orelse:
                yield statement
                yield from running_nodes(statement)
            continue
        yield child
        yield from running_nodes(child)


def resolve(node: ast.ImportFrom, module: str, *, is_package: bool) -> str:
    if not node.level:
        return node.module or ""
    package = module.split(".") if is_package else module.split(".")[:-1]
    parents = package[: len(package) - node.level + 1]
    return ".".join([*parents, node.module] if node.module else parents)


def unit_of(module: str) -> str | None:
    """`ml_dash.storage.layout` belongs to the unit `storage`; what is not ours belongs to none."""
    parts = module.split(".")
    return parts[1] if parts[0] == "ml_dash" and len(parts) > 1 else None


def source_files() -> dict[str, Path]:
    """Every module of the package by its absolute name, without `ml_dash/__init__.py`."""
    files = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        if parts != ("__init__",):
            files[".".join(["ml_dash", *parts])] = path
    return files


def file_imports() -> dict[str, set[str]]:
    """For each module of the package, the other modules of the package that it imports."""
    modules = {name.removesuffix(".__init__"): path for name, path in source_files().items()}
    graph: dict[str, set[str]] = {}
    for module, path in modules.items():
        is_package = path.name == "__init__.py"
        names = imported_modules(ast.parse(path.read_text()), module, is_package=is_package)
        graph[module] = {owner for name in names if (owner := owner_of(name, modules)) and owner != module}
    return graph


def owner_of(name: str, modules: Container[str]) -> str | None:
    """The module that an imported name lies in: `ml_dash.errors.StorageError` lies in `ml_dash.errors`."""
    while name and name not in modules:
        name = name.rpartition(".")[0]
    return name or None


def unit_imports() -> dict[str, dict[str, list[str]]]:
    """For each unit, which other units it imports, and the modules that do."""
    found: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for module, others in file_imports().items():
        for imported in sorted(others):
            unit, other = unit_of(module), unit_of(imported)
            if unit is not None and other is not None and other != unit:
                found[unit][other].append(f"{module} imports {imported}")
    return found


def test_every_module_belongs_to_a_layer() -> None:
    """A new module or folder must be given its place in LAYERS."""
    units = {unit_of(name) for name in source_files()}

    assert set() == units - set(LAYER_OF)


def test_nothing_imports_a_layer_above_itself() -> None:
    upward = [
        reason
        for unit, others in unit_imports().items()
        for other, reasons in others.items()
        if LAYER_OF.get(other, len(LAYERS)) > LAYER_OF[unit]
        for reason in reasons
    ]

    assert [] == upward


def test_files_do_not_import_each_other_in_a_circle() -> None:
    """Within a layer and within a folder imports are allowed, but never in both directions."""
    graph = file_imports()

    order = list(graphlib.TopologicalSorter(graph).static_order())

    assert set(graph) <= set(order)


# Files that may call `open` or `os.open`, each with the reason. Everything else opens what lies in a run's folder, which
# other users may have prepared, and does it through `storage/beneath.py`.
MAY_OPEN = {
    "_file_systems.py": "/proc",
    "capture": "pipes of its own",
    "catalog/index_cache.py": "a file of its own cache",
    "catalog/removal.py": "folders, without following links",
    "cli/doctor.py": "/dev/null",
    "cli/exits.py": "/dev/null",
    "cli/output.py": "/dev/null",
    "doctor/checks.py": "in a folder that it has just made for itself",
    "experiment/channels.py": "/dev/null",
    "export/run.py": "new files in a folder that it has just made",
    "export/tables.py": "new files in the folder that export/run has just made",
    "ipc/channel.py": "new files that no name was ever given to another process for",
    "ipc/slab.py": "/dev/shm, without a name",
    "ipc/spill_file.py": "new files, whose folder the writer checks",
    "provenance": "the user's own code, packages and machine",
    "storage/atomic.py": "new files under names that nobody can guess, or without one",
    "storage/beneath.py": "the place that opens",
    "storage/disk.py": "folders, the user's own source of a copy, and new files",
    "streams/file_formats.py": "new files, whose folder the writer checks",
    "writer/main.py": "/proc",
    "writer/takeover.py": "/proc",
}


def opens_a_path(node: ast.AST) -> bool:
    """Whether a node is a call of `open`, `io.open` or `os.open`, or of a method of `pathlib` that opens."""
    if not isinstance(node, ast.Call):
        return False
    called = ast.unparse(node.func)
    return called in {"open", "io.open", "os.open"} or called.endswith((".OSFile", ".memory_map", ".read_schema"))


def test_only_a_few_files_open_a_path_themselves() -> None:
    opening = {
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        if any(opens_a_path(node) for node in ast.walk(ast.parse(path.read_text())))
    }

    assert set() == {path for path in opening if path not in MAY_OPEN and path.split("/")[0] not in MAY_OPEN}


def test_no_folder_holds_more_than_15_percent_of_the_lines() -> None:
    lines: dict[str, int] = defaultdict(int)
    for name, path in source_files().items():
        lines[unit_of(name) or name] += path.read_text().count("\n")

    assert {} == {unit: count for unit, count in lines.items() if count > 0.15 * sum(lines.values())}


def test_the_architecture_page_names_every_module() -> None:
    """A module that is new, moved or renamed gets its place on the page; `cli` has a file for each command."""
    page = (ROOT / "docs/concepts/architecture.md").read_text()
    names = {name.split(".", 1)[1] for name in source_files()}
    rooms = {name.split(".")[0] + "/" for name in names if "." in name}
    modules = {name for name in names if not name.startswith("cli.") and not name.endswith("__")}

    assert [] == sorted(room for room in rooms if f"`{room}`" not in page)
    assert [] == sorted(name for name in modules if f"`{name.rsplit('.', 1)[-1]}`" not in page)


def test_the_training_side_never_imports_the_writer() -> None:
    imports = unit_imports()

    assert [] == [reason for unit in sorted(TRAINING_SIDE) for reason in imports[unit]["writer"]]


def test_a_whole_run_never_loads_the_writer_into_the_training_process(tmp_path: Path) -> None:
    loaded = json.loads(run_python(ONE_RUN + LOADED_MODULES.lstrip("; "), tmp_path).splitlines()[-1])

    assert [] == [name for name in loaded if name.startswith("ml_dash.writer")]


def test_the_writer_never_loads_a_stream(tmp_path: Path) -> None:
    modules = [name.removesuffix(".__init__") for name in source_files() if unit_of(name) == "writer"]
    assert modules

    loaded = json.loads(run_python(f"import {', '.join(modules)}" + LOADED_MODULES, tmp_path))

    assert [] == [name for name in loaded if name.startswith("ml_dash.streams")]


def test_importing_ml_dash_loads_nothing_heavy(tmp_path: Path) -> None:
    """Numpy is loaded first, because every training script has it already."""
    loaded = json.loads(run_python("import numpy, ml_dash" + LOADED_MODULES, tmp_path))

    assert "ml_dash" in loaded
    assert [] == sorted(HEAVY & {name.partition(".")[0] for name in loaded})
    assert [] == [name for name in loaded if unit_of(name) in {"cli", "remote", "server", "writer"}]


def test_importing_ml_dash_starts_no_thread_and_no_child(tmp_path: Path) -> None:
    """The second line lists the process's children, the first counts its threads."""
    code = """
import ml_dash, pathlib
tasks = pathlib.Path("/proc/self/task")
print(len(list(tasks.iterdir())))
print(*[path.read_text() for path in tasks.glob("*/children")])
"""
    # Without this, numpy's OpenBLAS starts a thread per core.
    printed = run_python(code, tmp_path, environment={"OPENBLAS_NUM_THREADS": "1"})

    assert ["1", ""] == printed.splitlines()


@pytest.mark.parametrize(
    ("source", "is_package", "expected"),
    [
        ("import ml_dash.ipc.ring", False, ["ml_dash.ipc.ring"]),
        ("from ml_dash import errors", False, ["ml_dash.errors"]),
        ("from . import layout", False, ["ml_dash.storage.layout"]),
        ("from . import layout", True, ["ml_dash.storage.names.layout"]),
        ("from ..errors import StorageError", False, ["ml_dash.errors.StorageError"]),
        ("def late():\n    import ml_dash.writer", False, ["ml_dash.writer"]),
        ("if TYPE_CHECKING:\n    import ml_dash.writer", False, []),
        ("if TYPE_CHECKING:\n    import a\nelse:\n    import b", False, ["b"]),
    ],
)
def test_imports_are_read_from_the_syntax_tree(source: str, is_package: bool, expected: list[str]) -> None:
    """Relative imports and imports inside functions count; imports for the type checker do not."""
    found = imported_modules(ast.parse(source), "ml_dash.storage.names", is_package=is_package)

    assert expected == list(found)
