"""Every example of README.md and docs/ runs, and does what its page says."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.doc_blocks import RUN, Block, parse
from tests.doc_session import Failure, Page
from tests.support import REPOSITORY

PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]

# Files of the checkout that examples may use. The package is not among them: they use the installed one.
SHOWN_BESIDE = ("README.md", "pyproject.toml", "examples")

# An example may be skipped only for what a test machine cannot have.
REASONS_TO_SKIP = ("cluster", "docker", "network")

PAGE_SECONDS = 300


def name_of(page: Path) -> str:
    return str(page.relative_to(REPOSITORY))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Copy the files that the examples use into a folder of the test."""
    beside = tmp_path / "checkout"
    beside.mkdir()
    for source in map(REPOSITORY.joinpath, SHOWN_BESIDE):
        if source.is_dir():
            shutil.copytree(source, beside / source.name, ignore=shutil.ignore_patterns("__pycache__", ".dash"))
        elif source.exists():
            shutil.copy(source, beside)
    return beside


def run_page(name: str, markdown: str, folder: Path) -> list[Failure]:
    """Run the blocks of a page in order, and stop at the first that fails, as a reader would."""
    with Page(name, folder) as page:
        for block in parse(markdown):
            failure = page.run(block) if block.is_run else None
            if failure is not None:
                return [failure]
    return []


def run_text(markdown: str, folder: Path) -> list[Failure]:
    return run_page("page.md", markdown, folder)


@pytest.mark.slow
@pytest.mark.timeout(PAGE_SECONDS)
@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_the_examples_of_a_page_run(page: Path, folder: Path) -> None:
    failures = run_page(name_of(page), page.read_text(), folder)

    assert [] == [f"{name_of(page)}:{failure.line}\n{failure.text}" for failure in failures]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_an_example_is_skipped_only_for_what_a_test_machine_cannot_have(page: Path) -> None:
    skipped = [block for block in parse(page.read_text()) if block.skip]

    assert [] == [block for block in skipped if not any(reason in block.skip for reason in REASONS_TO_SKIP)]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_relative_link_leads_to_a_file(page: Path) -> None:
    """Sphinx checks the links of the pages in docs, but not those of the README."""
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text())

    assert [] == [link for link in links if "://" not in link and not (page.parent / link).exists()]


@pytest.mark.parametrize("marker", ["quickstart", "tests"])
def test_the_readme_holds_each_command_that_ci_runs_once(marker: str) -> None:
    """`.ci/run` takes its commands from the README, so the two cannot say different things."""
    found = [block for block in parse((REPOSITORY / "README.md").read_text()) if block.run_by_ci == marker]
    printed = subprocess.run(
        [sys.executable, REPOSITORY / ".ci/readme_command.py", marker], capture_output=True, text=True, check=True
    ).stdout

    assert 1 == len(found)
    assert found[0].commands() == printed


# The parser ----------------------------------------------------------------------------------------------------------


def test_a_block_has_its_language_its_code_and_its_line() -> None:
    assert [Block("python", "x = 1\n\ny = 2\n", 4)] == parse("# Title\n\n```python\nx = 1\n\ny = 2\n```\n")


def test_a_block_in_a_list_loses_the_indentation_of_its_fence() -> None:
    assert [Block("bash", "if true; then\n  ls\nfi\n", 3)] == parse(
        "1. First\n   ```bash\n   if true; then\n     ls\n   fi\n   ```\n"
    )


def test_a_longer_fence_holds_a_shorter_one() -> None:
    [block] = parse("````text\n```python\nx\n```\n````\n")

    assert ("text", "```python\nx\n```\n") == (block.language, block.code)


@pytest.mark.parametrize("page", ["```python\nx = 1\n", "~~~text\n```\n"])
def test_a_block_that_is_not_closed_is_refused(page: str) -> None:
    with pytest.raises(ValueError, match=r"line 1: .* not closed"):
        parse(page)


@pytest.mark.parametrize("language", ["", "py", "Python", "sh", "pycon", "{code-block} python", "{testcode}"])
def test_a_language_that_would_escape_the_tests_is_refused(language: str) -> None:
    with pytest.raises(ValueError, match=r"line 2: .* is none of bash"):
        parse(f"Text\n```{language}\nx = 1\n```\n")


def test_a_directive_without_code_is_let_through() -> None:
    [block] = parse("```{toctree}\nindex\n```\n")

    assert not block.is_run


@pytest.mark.parametrize(
    ("comment", "expected"),
    [
        ("test: skip needs docker", Block("python", "x\n", 3, skip="needs docker")),
        ("test: fresh", Block("python", "x\n", 3, fresh=True)),
        ("test: expect-error", Block("python", "x\n", 3, error="")),
        ("test: expect-error ValueError", Block("python", "x\n", 3, error="ValueError")),
        ("tests", Block("python", "x\n", 3, run_by_ci="tests")),
        ("a remark", Block("python", "x\n", 3)),
    ],
)
def test_a_comment_before_a_block_instructs_it(comment: str, expected: Block) -> None:
    assert [expected] == parse(f"<!-- {comment} -->\n```python\nx\n```\n")


def test_a_comment_instructs_only_the_next_block() -> None:
    first, second = parse("<!-- test: fresh -->\n\n```python\nx\n```\n```python\ny\n```\n")

    assert (True, False) == (first.fresh, second.fresh)


def test_text_between_a_comment_and_a_block_separates_them() -> None:
    [block] = parse("<!-- test: fresh -->\nSome text.\n```python\nx\n```\n")

    assert not block.fresh


@pytest.mark.parametrize("instruction", ["skip", "fresh now", "ignore", ""])
def test_an_instruction_that_does_not_exist_is_refused(instruction: str) -> None:
    """A skip without a reason is none either."""
    with pytest.raises(ValueError, match=r"line 3: .* is none of skip REASON"):
        parse(f"<!-- test: {instruction} -->\n```python\nx\n```\n")


def test_of_a_console_only_the_commands_are_run() -> None:
    block = Block("console", "$ echo one \\\n    two\none two\n$ ls\nfile\n", 1)

    assert "echo one \\\n    two\nls\n" == block.commands()


@pytest.mark.parametrize("language", sorted(RUN))
def test_a_block_that_ci_runs_is_not_run_twice(language: str) -> None:
    assert Block(language, "", 1).is_run
    assert not Block(language, "", 1, run_by_ci="tests").is_run


# The runner ----------------------------------------------------------------------------------------------------------


def test_blocks_of_a_page_share_their_names_and_their_folder(folder: Path) -> None:
    page = "```python\nx = 1\nopen('a', 'w').close()\n```\n```bash\ntest -e a\n```\n```python\nassert x == 1\n```\n"

    assert [] == run_text(page, folder)


def test_a_fresh_block_begins_with_no_names(folder: Path) -> None:
    page = "```python\nx = 1\n```\n<!-- test: fresh -->\n```python\nassert 'x' not in globals()\n```\n"

    assert [] == run_text(page, folder)


def test_a_failure_points_to_the_page_and_the_line(folder: Path) -> None:
    [failure] = run_text("# Title\n\n```python\nx = 1\nx / 0\n```\n", folder)

    assert 4 == failure.line
    assert 'File "page.md", line 5' in failure.text
    assert "ZeroDivisionError" in failure.text


def test_a_page_ends_at_its_first_failure(folder: Path) -> None:
    failures = run_text("```bash\nfalse\n```\n```bash\ntouch second\n```\n", folder)

    assert [1] == [int(failure.text.split()[2]) for failure in failures]
    assert not (folder / "second").exists()


@pytest.mark.parametrize(
    ("code", "error"), [("raise ValueError('no')", ""), ("raise ValueError('no')", "ValueError"), ("exit(3)", "3")]
)
def test_an_expected_error_is_no_failure(code: str, error: str, folder: Path) -> None:
    assert [] == run_text(f"<!-- test: expect-error {error} -->\n```python\n{code}\n```\n", folder)


@pytest.mark.parametrize("code", ["x = 1", "raise KeyError('ValueError once')\n", "1 / 0"])
def test_an_expected_error_that_does_not_come_is_a_failure(code: str, folder: Path) -> None:
    page = f"<!-- test: expect-error ValueError: no -->\n```python\n{code}\n```\n"

    assert 1 == len(run_text(page, folder))


def test_a_block_that_ends_the_process_is_a_failure(folder: Path) -> None:
    [failure] = run_text("```python\nimport os\nos._exit(0)\n```\n", folder)

    assert "has ended" in failure.text


def test_an_error_at_exit_fails_the_page(folder: Path) -> None:
    """What a page's last run does in `atexit` counts as well."""
    with pytest.raises(AssertionError, match="exit status 7"):
        run_text("```python\nimport atexit, os\natexit.register(os._exit, 7)\n```\n", folder)


def test_examples_run_with_the_python_of_the_tests(folder: Path) -> None:
    page = "```bash\npython -c 'import sys; print(sys.prefix)' > prefix\n```\n"

    assert [] == run_text(page, folder)
    assert sys.prefix == (folder / "prefix").read_text().strip()
