"""Draw docs/_static/terminal.svg from what `ml-dash show` and `plot` print: ``python docs/draw_terminal.py``."""  # noqa: INP001 - a script, not a package

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import tempfile
import termios
from collections.abc import Iterator
from html import escape
from pathlib import Path

DOCS = Path(__file__).resolve().parent
QUICKSTART = DOCS.parent / "examples/quickstart.py"
COMMANDS = ("ml-dash show quickstart", "ml-dash plot quickstart energy/kinetic --height 9")

COLUMNS, ROWS = 92, 24
WIDTH, HEIGHT, MARGIN = 8, 17, 16  # of a character, and around the text, in pixels

STYLES = {"1": "bold", "2": "dim", "31": "red", "32": "green", "33": "yellow", "36": "cyan"}
CSS = """
svg { --back: #ffffff; --edge: #d0d7de; --text: #1f2328; --dim: #656d76; --red: #cf222e; --green: #1a7f37;
  --yellow: #9a6700; --cyan: #0969da; --plot: #0969da }
@media (prefers-color-scheme: dark) { svg { --back: #0d1117; --edge: #30363d; --text: #e6edf3; --dim: #8b949e;
  --red: #ff7b72; --green: #3fb950; --yellow: #d29922; --cyan: #58a6ff; --plot: #58a6ff } }
text { font: 13px ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; fill: var(--text);
  white-space: pre }
.bold { font-weight: 600 } .dim { fill: var(--dim) } .red { fill: var(--red) } .green { fill: var(--green) }
.yellow { fill: var(--yellow) } .cyan { fill: var(--cyan) }
"""
# Arms of a box-drawing character: left, right, up, down.
ARMS = {"│": "ud", "┤": "udl", "└": "ur", "─": "lr", "┬": "lrd"}
# A character that is drawn as a shape: fonts show these with gaps.
DRAWN = "[▁-█⠁-⣿│┤└─┬]"
# Column and row of each bit of a Braille character.
DOTS = ((0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (0, 3), (1, 3))


def printed(command: str, folder: str) -> str:
    """The output of a command on a terminal of COLUMNS x ROWS, with its escape sequences."""
    parent, child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color", "ML_DASH_RECORD_ENVIRONMENT": "0"}
    arguments = [sys.executable, "-m", "ml_dash", *command.split()[1:]]
    with subprocess.Popen(arguments, cwd=folder, env=environment, stdout=child, stderr=child, stdin=child):
        os.close(child)
        pieces = []
        try:
            while piece := os.read(parent, 65536):
                pieces.append(piece)
        except OSError:  # Linux: the last process has closed the terminal
            pass
    os.close(parent)
    return b"".join(pieces).decode().replace("\r\n", "\n")


def shape(character: str, x: float, y: float) -> str:
    """The path of a bar, of Braille dots or of a box-drawing character."""
    if "▁" <= character <= "█":
        high = HEIGHT * 0.8 * (ord(character) - ord("▁") + 1) / 8
        return f"M{x} {y + HEIGHT * 0.9:.1f}v{-high:.1f}h{WIDTH - 1}v{high:.1f}z"
    if "⠁" <= character <= "⣿":
        bits = ord(character) - ord("⠁") + 1
        dots = [dot for bit, dot in enumerate(DOTS) if bits >> bit & 1]
        return "".join(f"M{x + 1 + 4 * a} {y + 1 + 4.25 * b:g}h2.6v2.6h-2.6z" for a, b in dots)
    middle, centre = x + WIDTH / 2, y + HEIGHT / 2
    boxes = {
        "l": (x, centre, WIDTH / 2, 1),
        "r": (middle, centre, WIDTH / 2, 1),
        "u": (middle, y, 1, HEIGHT / 2),
        "d": (middle, centre, 1, HEIGHT / 2),
    }
    arms = [boxes[arm] for arm in ARMS[character]]
    return "".join(f"M{a:g} {b:g}h{w:g}v{h:g}h{-w:g}z" for a, b, w, h in arms)


def line_elements(line: str, y: float) -> Iterator[str]:
    """The SVG elements of one printed line."""
    column, styles, paths = 0, "", {"dim": "", "plot": ""}
    for escaped, text in re.findall(r"\x1b\[([\d;]*)m|([^\x1b]+)", line):
        if not text:
            styles = " ".join(STYLES[code] for code in escaped.split(";") if code in STYLES)
        for word in re.finditer(rf"{DRAWN}|(?:(?!{DRAWN})\S)+(?: (?:(?!{DRAWN})\S)+)*", text):
            characters, x = word.group(), MARGIN + WIDTH * (column + word.start())
            if re.match(DRAWN, characters):
                paths["dim" if characters in ARMS else "plot"] += shape(characters, x, y)
            else:
                size = f'x="{x}" y="{y + 13}" textLength="{WIDTH * len(characters)}"'
                yield f'<text {size} class="{styles}">{escape(characters)}</text>'
        column += len(text)
    yield from (f'<path d="{path}" fill="var(--{colour})"/>' for colour, path in paths.items() if path)


def main() -> None:
    """Run the quickstart, print its run, and write the picture."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "ML_DASH_RECORD_ENVIRONMENT": "0"}
        subprocess.run([sys.executable, QUICKSTART], cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)
        text = "\n\n".join(f"\x1b[2m$\x1b[0m {command}\n{printed(command, folder).strip()}" for command in COMMANDS)
    lines = text.split("\n")
    width, height = 2 * MARGIN + WIDTH * COLUMNS, 2 * MARGIN + HEIGHT * len(lines)
    body = [element for row, line in enumerate(lines) for element in line_elements(line, MARGIN + HEIGHT * row)]
    frame = f'<rect x=".5" y=".5" width="{width - 1}" height="{height - 1}" rx="8" fill="var(--back)" stroke="var(--edge)"/>'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">'
    picture = "\n".join([head, f"<style>{CSS}</style>", frame, *body, "</svg>\n"])
    (DOCS / "_static").mkdir(exist_ok=True)
    (DOCS / "_static/terminal.svg").write_text(picture)


if __name__ == "__main__":
    main()
