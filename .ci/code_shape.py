"""Print how long the files and functions of a package are, and how many private helpers are named only once.

    python .ci/code_shape.py                     one row for each folder of ml_dash
    python .ci/code_shape.py --helpers storage   the single-use helpers of ml_dash/storage, each with its line and length
    python .ci/code_shape.py --longest 20        the longest functions of the package

It judges nothing and always ends with status 0. A function's length counts its lines from the first decorator to the
last statement, with the docstring. A single-use helper is a private function or method (`_name`) whose name the rest of
its own file uses exactly once.
"""

from __future__ import annotations

import argparse
import ast
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "ml_dash"


@dataclass(frozen=True)
class Function:
    """One function or method: its name, where it starts, its length in lines."""

    name: str
    path: Path
    line: int
    length: int

    @property
    def is_private(self) -> bool:
        """Whether the name starts with one underscore and is not a magic method's."""
        return self.name.startswith("_") and not self.name.endswith("__")


@dataclass(frozen=True)
class File:
    """One source file: its length in lines, its functions, how often each name is used in it."""

    path: Path
    length: int
    functions: list[Function]
    uses: Counter[str]


def main() -> None:
    """Print the table of folders, or the list that an option asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--helpers", metavar="FOLDER", help="list the single-use helpers of this folder; '.' is all")
    parser.add_argument("--longest", metavar="N", type=int, help="list the N longest functions")
    parser.add_argument("--package", metavar="PATH", type=Path, default=PACKAGE, help="the package to read")
    options = parser.parse_args()
    package = options.package.resolve()
    files = [read(path) for path in sorted(package.rglob("*.py"))]
    helpers = single_use_helpers(files)
    if options.helpers is not None:
        print_functions(package, [one for one in helpers if one.path.is_relative_to(package / options.helpers)])
    elif options.longest is not None:
        functions = [function for file in files for function in file.functions]
        print_functions(package, sorted(functions, key=lambda one: -one.length)[: options.longest])
    else:
        print_folders(package, files, helpers)


def read(path: Path) -> File:
    """Parse one source file."""
    text = path.read_text()
    tree = ast.parse(text)
    return File(path, len(text.splitlines()), list(functions_of(tree, path)), Counter(names_of(tree)))


def functions_of(tree: ast.Module, path: Path) -> Iterator[Function]:
    """Yield every function and method, also nested ones."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            yield Function(node.name, path, node.lineno, (node.end_lineno or node.lineno) - first + 1)


def names_of(tree: ast.Module) -> Iterator[str]:
    """Yield every name that the code reads, writes or imports; a definition's own name is not among them."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.alias):
            yield node.name.rpartition(".")[2]


def single_use_helpers(files: list[File]) -> list[Function]:
    """Return the private functions whose name is used once in their own file."""
    return [
        function
        for file in files
        for function in file.functions
        if function.is_private and file.uses[function.name] == 1
    ]


def print_folders(package: Path, files: list[File], helpers: list[Function]) -> None:
    """Print one row for each folder and one for the whole package."""
    folders: dict[str, list[File]] = {}
    for file in files:
        parts = file.path.relative_to(package).parts
        folders.setdefault(parts[0] if len(parts) > 1 else "(top level)", []).append(file)
    single_use = {(function.path, function.line) for function in helpers}
    print(f"{'folder':<14} {'files':>5} {'lines':>6}  {'file p50/p90/max':>17}  {'functions':>9}", end="  ")
    print(f"{'length p50/p90/max':>18}  {'single-use helpers':>18}")
    for name, members in [*sorted(folders.items()), ("all", files)]:
        functions = [function for file in members for function in file.functions]
        count = sum((function.path, function.line) in single_use for function in functions)
        share = f"{count} ({100 * count / max(1, len(functions)):.0f} %)"
        print(f"{name:<14} {len(members):>5} {sum(file.length for file in members):>6}", end="  ")
        print(f"{spread([file.length for file in members]):>17}  {len(functions):>9}", end="  ")
        print(f"{spread([function.length for function in functions]):>18}  {share:>18}")


def spread(lengths: list[int]) -> str:
    """Format the median, the 90th percentile and the maximum."""
    if not lengths:
        return "-"
    ordered = sorted(lengths)
    return "/".join(str(ordered[min(len(ordered) - 1, int(len(ordered) * share))]) for share in (0.5, 0.9, 1))


def print_functions(package: Path, functions: list[Function]) -> None:
    """Print one line for each function: its file and line, its length, its name."""
    for function in functions:
        location = f"{function.path.relative_to(package.parent)}:{function.line}"
        print(f"{location:<48} {function.length:>4}  {function.name}")
    print(f"{len(functions)} functions")


if __name__ == "__main__":
    main()
