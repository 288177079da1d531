"""Printed bytes as lines: carriage returns, colours, split characters, and text of ours between marks."""

from __future__ import annotations

import pytest

from ml_dash.capture.terminal_text import BEGIN, END, MAX_LINE, LineAssembler, MarkFilter


def fold(*pieces):
    assembler = LineAssembler()
    return [line for piece in pieces for line in assembler.feed(piece)], assembler.pending()


@pytest.mark.parametrize(
    ("pieces", "lines", "rest"),
    [
        ([b"one\ntwo\n"], ["one", "two"], ""),
        ([b"on", b"e\ntw", b"o"], ["one"], "two"),
        ([b"windows\r\n", b"again\r", b"\n"], ["windows", "again"], ""),
        ([b"\n\n  \nx\n"], ["x"], ""),
        ([b"  indented  \n"], ["  indented"], ""),
        ([b"\r 1%", b"\r 50%", b"\r100%\n"], ["100%"], ""),
        ([b"\r 1%", b"\r 50%"], [], " 50%"),
        ([b" 1%\r", b" 50%\r"], [], " 50%"),
        ([b"100%\r", b"\n"], ["100%"], ""),
        ([b"\r 99%\r     \rdone\n"], ["done"], ""),
        ([b"\r 99%\r     \r\n"], [" 99%"], ""),
        ([b"bar\r", b"\x1b[2K\r", b"\n"], ["bar"], ""),
        ([b"\x1b[31mred\x1b[0m \x1b[1;38;5;9mbold\x1b[m\n"], ["red bold"], ""),
        ([b"\x1b]0;title\x07text\x1b]8;;http://x\x1b\\link\n"], ["textlink"], ""),
        (["ünï→".encode()[:3], "ünï→".encode()[3:6], "ünï→".encode()[6:] + b"\n"], ["ünï→"], ""),
        ([b"\xff\xfe latin\n"], ["�� latin"], ""),
        ([b"a\0b\n"], ["a\0b"], ""),
    ],
)
def test_pieces_become_lines(pieces, lines, rest):
    assert (lines, rest) == fold(*pieces)


@pytest.mark.parametrize("size", [MAX_LINE - 1, MAX_LINE, MAX_LINE + 1, 3 * MAX_LINE])
def test_a_very_long_line_is_split_and_nothing_of_it_is_lost(size):
    lines, rest = fold(b"x" * size + b"\n")

    assert "" == rest
    assert "x" * size == "".join(lines)
    assert max(map(len, lines)) <= MAX_LINE


def test_a_split_leaves_characters_whole():
    text = "a" + "→" * MAX_LINE
    lines, rest = fold(text.encode())

    assert text == "".join([*lines, rest])


def test_a_progress_bar_that_never_ends_takes_no_memory():
    assembler = LineAssembler()
    for step in range(10_000):
        assert [] == assembler.feed(b"\r%d" % step + b" " * 100)

    assert "9999" == assembler.pending()


def filtered(*pieces):
    """What the filter makes of pieces: the program's bytes and ours."""
    marks = MarkFilter()
    found = [pair for piece in pieces for pair in marks.feed(piece)] + [(marks.rest(), False)]
    return b"".join(p for p, ours in found if not ours), b"".join(p for p, ours in found if ours)


MARKED = b"a\x1b[1mb" + BEGIN + b"[INFO] x\n" + END + b"c" + BEGIN + b"y" + END


@pytest.mark.parametrize("cut", range(len(MARKED)))
def test_marked_text_is_ours_wherever_the_reads_cut_it(cut):
    assert (b"a\x1b[1mbc", b"[INFO] x\ny") == filtered(MARKED[:cut], MARKED[cut:])


@pytest.mark.parametrize("data", [b"", b"plain", b"\x1b", b"x\x1b_ml", b"\x1b[0m", END])
def test_unmarked_text_is_the_programs_to_the_last_byte(data):
    assert (data, b"") == filtered(data)
