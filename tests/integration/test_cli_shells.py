"""Completion in real shells on a terminal: a name is inserted as it is, and nothing of it is run."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_dash.cli.shells import quoted, split_line
from tests.run_folders import RunFolder
from tests.support import run_python, wait_until
from tests.terminal import Terminal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SHELLS = {
    "bash": ("bash", "--norc", "--noprofile", "-i"),
    "zsh": ("zsh", "-f", "-i"),
    "fish": ("fish", "--no-config", "--private", "-i"),
}
START = {
    "bash": "PATH=$PWD/bin:$PATH; bind 'set enable-bracketed-paste off'; source ./completion; PS1='rea''dy> '",
    "zsh": "PATH=$PWD/bin:$PATH; autoload -U compinit; compinit -D; source ./completion; PROMPT='rea''dy> '; setopt no_beep",
    "fish": "set -x PATH $PWD/bin $PATH; source ./completion; function fish_prompt; echo -n 'rea''dy> '; end",
}

NAMES = [
    "$(touch${IFS}PWNED)",
    "`touch PWNED`",
    "x;touch PWNED;#",
    "x&touch PWNED|cat>PWNED<y",
    "*",
    "?[a-z]{a,b}",
    " two  spaces ",
    'it\'s "quoted"',
    "back\\slash\\",
    "line\ntouch PWNED\n",
    "~root",
    "!event a!!b ^c^",
    "=ls %percent #hash $HOME",
    "a=b:c@d,e+f 12:30",
    "größe 漢字",
    "--yes",
]
UNPRINTABLE = ["tab\there", "bell\x07", "bidi\u202e", "byte\udcff"]
"""Names that are not completed in fish, which would print them as they are."""

QUOTED = {
    "'a": "a'b $(touch PWNED) \\ !x",
    '"a': 'a"b $(touch PWNED) `touch PWNED` \\ !x',
    "a\\ ": "a b;touch PWNED",
    "a:": "a:b c",
    "a=b:": "a=b:c d",
    "x'a ": "xa b'c",
}
"""What is typed before the tab, and the name that it begins."""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with a program ``ml-dash`` that keeps what it is called with, and completes as the real one does."""
    program = tmp_path / "bin/ml-dash"
    program.parent.mkdir()
    program.write_text(
        f"#!{sys.executable}\n"
        "import json, os, sys\n"
        "if '_ML_DASH_COMPLETE' in os.environ:\n"
        "    from ml_dash.cli.main import main\n"
        "    try:\n"
        "        main()\n"
        "    finally:\n"
        "        sys.stdout.flush()\n"
        "        open('completed', 'w').close()\n"
        "with open('called.tmp', 'w') as file:\n"
        "    json.dump(sys.argv[1:], file)\n"
        "os.rename('called.tmp', 'called')\n"
    )
    program.chmod(0o755)
    return tmp_path


class Shell:
    """A shell on a terminal, in which completion is set up."""

    def __init__(self, name: str, place: Path) -> None:
        self.name = name
        if shutil.which(name) is None:
            pytest.skip(f"{name} is not installed")
        self._place = place
        code = "import sys; sys.argv[0] = 'ml-dash'; from ml_dash.cli.main import main; main()"
        (place / "completion").write_text(
            run_python(code.replace("main()", f"sys.argv[1:] = ['completion', '{name}']; main()"), place)
        )
        home = str(place / "home")
        self._terminal = Terminal(
            *SHELLS[name], cwd=place, columns=200, is_session=True, HOME=home, HISTFILE="", LC_ALL="C.UTF-8"
        )
        self._send(f"{START[name]}\n")
        wait_until(lambda: "ready> " in self._terminal.text)
        self._terminal.wait_quiet()

    def _send(self, text: str) -> None:
        self._terminal.send(text)

    def call(self, typed: str) -> list[str]:
        """Type a line in which a tab completes, and return the arguments of the call that it makes."""
        called = self._place / "called"
        called.unlink(missing_ok=True)
        (self._place / "completed").unlink(missing_ok=True)
        self._send(typed)
        wait_until((self._place / "completed").exists)
        self._terminal.wait_quiet()
        self._send("\n")
        wait_until(called.exists, message=ascii(self._terminal.text[-2000:]))
        arguments: list[str] = json.loads(called.read_text())
        return arguments

    def end(self) -> None:
        """Leave the shell."""
        self._send("\x15exit\n")
        self._terminal.end()


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest, place: Path) -> Iterator[Shell]:
    opened = Shell(request.param, place)
    yield opened
    opened.end()


def test_a_tab_inserts_the_exact_name_and_runs_nothing(shell: Shell, place: Path) -> None:
    for number, name in enumerate([*NAMES, *(UNPRINTABLE if shell.name != "fish" else [])]):
        RunFolder(place / f"r{number}", f"{name}/p/n")

        arguments = shell.call(f"ml-dash show -r r{number} \t")

        folder = f"{place / f'r{number}'}/" if name.startswith(("-", "~")) else ""
        assert ["show", "-r", f"r{number}", f"{folder}{name}/p/n"] == arguments
    assert not list(place.rglob("PWNED"))


def test_a_tab_completes_a_word_with_quotes_and_colons(shell: Shell, place: Path) -> None:
    for number, (typed, name) in enumerate(QUOTED.items()):
        RunFolder(place / f"r{number}", f"{name}/p/n")
        RunFolder(place / f"r{number}", "other/p/n")

        assert ["show", "-r", f"r{number}", f"{name}/p/n"] == shell.call(f"ml-dash show -r r{number} {typed}\t"), typed
    assert not list(place.rglob("PWNED"))


def test_a_metric_of_a_run_is_completed_exactly(shell: Shell, place: Path) -> None:
    RunFolder(place / ".dash", "a b/p/n").metric("$(touch PWNED);x", {"it's *": 1.0})

    called = shell.call(f"ml-dash plot {shlex.quote('a b/p/n')} \t")

    assert ["plot", "a b/p/n", "$(touch PWNED);x/it's *"] == called
    assert not list(place.rglob("PWNED"))


TEXT = st.text(st.sampled_from([*"ab '\"\\$!`*~=#:;\n\t", "é", "\u202e", "\udcff"]), min_size=1, max_size=8)


@given(st.lists(TEXT, max_size=3), TEXT)
def test_quoted_words_are_split_as_they_were(words: list[str], last: str) -> None:
    line = " ".join(map(quoted, ["ml-dash", *words, last]))

    assert (["ml-dash", *words, last], "") == split_line(line)
    for quote in "'\"":
        assert (["ml-dash", last], quote) == split_line(f"ml-dash {quote}{quoted(last, quote)}")


@given(st.lists(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1)))
def test_ordinary_words_are_split_as_python_does(words: list[str]) -> None:
    assert [*words, ""] == split_line(shlex.join(words) + " ")[0] if words else True
