"""Completion in bash, zsh and fish: the scripts, and words quoted so that a shell takes them as they are.

A run's name is input: it may look like a command, an option or a pattern. click's own scripts insert names unquoted.
"""

from __future__ import annotations

import os
import re
import sys

from click.shell_completion import BashComplete, CompletionItem, FishComplete, ShellComplete, ZshComplete

from ml_dash._printable import clean_text

_ORDINARY = re.compile(r"[A-Za-z0-9_./,+%-]")
"""Letters of ASCII without a meaning in bash and zsh, and at which bash begins no new word."""

_ENDS_OF_WORDS = frozenset(" \t\n;|&<>()")
_IN_DOUBLE_QUOTES = frozenset('$`"\\')

BASH = """\
%(complete_func)s() {
    local item
    COMPREPLY=()
    while IFS= read -r -d '' item; do
        case $item in
            dir,*) compopt -o dirnames 2>/dev/null ;;
            file,*) compopt -o default 2>/dev/null ;;
            plain,*) COMPREPLY+=("${item#plain,}") ;;
        esac
    done < <(env %(complete_var)s=bash_complete "$1" -- "${COMP_LINE:0:COMP_POINT}" "$2" 2>/dev/null)
}

complete -o nosort -F %(complete_func)s %(prog_name)s 2>/dev/null || complete -F %(complete_func)s %(prog_name)s
"""

ZSH = """\
#compdef %(prog_name)s

%(complete_func)s() {
    local item
    local -a response values
    (( $+commands[%(prog_name)s] )) || return 1
    response=("${(@0)$(env %(complete_var)s=zsh_complete %(prog_name)s -- \\
        "$compstate[quote]" "${(@Q)words[2,CURRENT-1]}" "${(Q)PREFIX}" 2>/dev/null)}")
    for item in "${response[@]}"; do
        case $item in
            dir,*) _path_files -/ ;;
            file,*) _path_files -f ;;
            plain,*) values+=("${item#plain,}") ;;
        esac
    done
    (( $#values )) && compadd -U -Q -V unsorted -- "${values[@]}"
}

if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    %(complete_func)s "$@"
else
    compdef %(complete_func)s %(prog_name)s
fi
"""

FISH = """\
function %(complete_func)s
    set -l words (commandline -opc)
    for item in (env %(complete_var)s=fish_complete %(prog_name)s -- $words[2..-1] "$(commandline -ct)" 2>/dev/null | string split0)
        switch $item
            case 'dir,*'
                __fish_complete_directories (string sub -s 5 -- $item)
            case 'file,*'
                __fish_complete_path (string sub -s 6 -- $item)
            case 'plain,*'
                printf '%%s\\0' (string sub -s 7 -- $item | string collect) | string split0
        end
    end
end

complete --no-files --keep-order --command %(prog_name)s --arguments '(%(complete_func)s)'
"""


def quoted(text: str, quote: str = "") -> str:
    r"""Return a text as bash and zsh take it: every character for itself.

    Args:
        text: the text. Characters that cannot be printed are written as ``$'\xe2\x80\xae'``.
        quote: the quote that is open where the text will stand, ``'`` or ``"``; empty outside of quotes.
    """
    return "".join(_quoted_letter(letter, quote) for letter in text)


def _quoted_letter(letter: str, quote: str) -> str:
    if clean_text(letter) != letter:
        codes = "".join(f"\\x{byte:02x}" for byte in os.fsencode(letter))
        return f"{quote}$'{codes}'{quote}"
    if quote == "'":
        return "'\\''" if letter == "'" else letter
    if quote == '"':
        return "\"'!'\"" if letter == "!" else f"\\{letter}" if letter in _IN_DOUBLE_QUOTES else letter
    return letter if not letter.isascii() or _ORDINARY.match(letter) else f"\\{letter}"


def split_line(line: str) -> tuple[list[str], str]:
    """Split a line as bash does, without expanding anything.

    Returns:
        The words, the last of which may be unfinished or empty; and the quote that is open at the end.
    """
    words, quote, at = [""], "", 0
    while at < len(line):
        letter = line[at]
        if quote == "$'" and letter == "\\":
            value, at = _unescaped(line, at)
            words[-1] += value
            continue
        if letter == quote[-1:]:
            quote = ""
        elif quote in {"'", "$'"}:
            words[-1] += letter
        elif letter == "\\":
            at += 1
            escaped = line[at : at + 1]
            words[-1] += escaped if not quote or escaped in _IN_DOUBLE_QUOTES else f"\\{escaped}"
        elif quote:
            words[-1] += letter
        elif letter in "'\"":
            quote = letter
        elif line.startswith("$'", at):
            quote, at = "$'", at + 1
        elif letter in _ENDS_OF_WORDS:
            words += [""] if words[-1] or line[at - 1 : at] in {"'", '"'} else []
        else:
            words[-1] += letter
        at += 1
    return words, quote[-1:]


def _unescaped(line: str, at: int) -> tuple[str, int]:
    r"""Return the text of escapes such as ``\x0a`` at a place of a line, and the place behind them."""
    codes = re.compile(r"(?:\\x[0-9a-f]{2})+").match(line, at)
    if codes is None:
        return line[at + 1 : at + 2], at + 2
    return os.fsdecode(bytes.fromhex(codes[0].replace("\\x", ""))), codes.end()


class _Shell(ShellComplete):
    """Reads the words from the command line of this process, and writes completions that end in a zero byte.

    Without words it answers as click does, to a script of click.
    """

    def complete(self) -> str:
        """Return the completions for the shell's script."""
        if not self.words:
            return super().complete()
        args, incomplete = self.get_completion_args()
        items = self.get_completions(args, incomplete)
        return "".join(f"{text}\0" for item in items if (text := self.format_completion(item)))

    @property
    def words(self) -> list[str]:
        """The words after ``--``."""
        return sys.argv[2:] if sys.argv[1:2] == ["--"] else []


class Bash(_Shell, BashComplete):
    """Completion in bash, in which a function gets the line, and replaces a part of its last word."""

    source_template = BASH
    _replaced_from = 0
    _quote = ""

    def get_completion_args(self) -> tuple[list[str], str]:
        """Return the words before the one that is completed, and that one."""
        if not self.words:
            return super().get_completion_args()
        line, replaced = self.words
        words, self._quote = split_line(line)
        # What stands before the part that bash replaces: bash begins a word at a colon and inside of quotes, too.
        before = line.removesuffix(replaced) if line.endswith(replaced) else line
        self._replaced_from = len(split_line(before)[0][-1]) if len(split_line(before)[0]) == len(words) else 0
        return words[1:-1], words[-1]

    def format_completion(self, item: CompletionItem) -> str:
        """Return a text for the script."""
        return f"{item.type},{quoted(item.value[self._replaced_from :], self._quote)}"


class Zsh(_Shell, ZshComplete):
    """Completion in zsh, whose script takes off the quotes of words."""

    source_template = ZSH
    _quote = ""

    def get_completion_args(self) -> tuple[list[str], str]:
        """Return the words before the one that is completed, and that one."""
        if not self.words:
            return super().get_completion_args()
        self._quote, *words, incomplete = self.words
        return words, incomplete

    def format_completion(self, item: CompletionItem) -> str:
        """Return a text for the script."""
        return f"{item.type},{quoted(item.value, self._quote)}" if self.words else super().format_completion(item)


class Fish(_Shell, FishComplete):
    """Completion in fish, which quotes words itself."""

    source_template = FISH

    def get_completion_args(self) -> tuple[list[str], str]:
        """Return the words before the one that is completed, and that one."""
        if not self.words:
            return super().get_completion_args()
        *words, current = self.words
        return words, split_line(current)[0][-1]

    def format_completion(self, item: CompletionItem) -> str:
        """Return a text for the script; empty for a name that fish would print as it is, cut at a tab, or expand."""
        printed = item.value.replace("\n", "")
        is_safe = clean_text(printed) == printed and not printed.startswith("~")
        return f"{item.type},{item.value}" if is_safe else ""


CLASSES: dict[str, type[ShellComplete]] = {"bash": Bash, "zsh": Zsh, "fish": Fish}


def register() -> None:
    """Let click complete with these classes instead of its own."""
    from click.shell_completion import add_completion_class

    for name, kind in CLASSES.items():
        add_completion_class(kind, name)
