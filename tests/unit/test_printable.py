"""What of a text may be printed, by the categories of Unicode."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_dash._printable import clean, clean_json, clean_text
from ml_dash.capture import console
from tests.hostile_text import HOSTILE, KINDS, SURROGATE, forbidden_in

ORDINARY = {
    "accents, composed and not": "größe e\u0301",
    "Arabic": "العربية ١٢٣",
    "Persian with a non-joiner": "می\u200cخواهم",
    "Hebrew with points": "שָׁלוֹם",
    "Devanagari with joiners": "क्\u200dष र्\u200cक",
    "Sinhala": "ශ්\u200dරී",
    "Tamil, Thai, Burmese, Khmer": "தமிழ் ไทย မြန်မာ ខ្មែរ",
    "Mongolian with a selector": "ᠭ\u180bᠠ",
    "Chinese and Japanese": "東京\u3000都、ﾊﾝ",
    "Korean": "한국어",
    "emoji": "🎉 ❤\ufe0f 1\ufe0f\u20e3 🇩🇪",
    "emoji that are joined": "👩🏽\u200d🚀 🏳\ufe0f\u200d🌈 🧑🏽\u200d❤\ufe0f\u200d🧑🏿 🙂\u200d↔\ufe0f",
    "mathematics": "∇·𝐄 ≤ ½ Å ﬁ",
    "shapes and rules": "│└─ ▁▂▃ ⣿ ● �",
    "a number of Arabic": "\u0600١٢",
    "a path of Windows": "C:\\data\\model",
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_character_without_ink_is_shown_by_its_code(kind: str) -> None:
    text = f"a{KINDS[kind]}b"

    assert (
        [] == forbidden_in(clean(text)) == forbidden_in(clean_text(text)) == forbidden_in(clean_json(json.dumps(text)))
    )
    assert text != clean(text)
    assert "\\" in clean_text(text) or kind == "tab"


@pytest.mark.parametrize("kind", ORDINARY)
def test_ordinary_text_of_every_script_stays(kind: str) -> None:
    text = ORDINARY[kind]
    document = json.dumps(text, ensure_ascii=False)

    assert text == clean(text) == clean_text(text)
    assert document == clean_json(document)


@pytest.mark.parametrize(
    "text",
    [
        "a\u200db",
        "─\ufe0f",
        "1\ufe0f",
        "ا\u200cب",
        "🎉\u200d",
        "\u200d🎉",
        "\u200c",
        "\ufe0f",
        "क\u200dष",
        "❤\ufe0f\ufe0f",
    ],
)
def test_a_joiner_or_selector_that_changes_nothing_is_shown(text: str) -> None:
    assert "\\u" in clean(text)
    assert "\\u" in clean_text(text)


@pytest.mark.parametrize(
    ("text", "name", "prose"),
    [
        ("a\tb\nc", "a\\tb\\nc", "a    b\\nc"),
        ("\x1b[31m", "\\x1b[31m", "\\x1b[31m"),
        ("\u202e", "\\u202e", "\\u202e"),
        ("\U000e0061", "\\U000e0061", "\\U000e0061"),
        (SURROGATE, "\\ud83d", "\\ud83d"),
        (" a ", "\\x20a\\x20", " a "),
        ("  ", "\\x20\\x20", "  "),
        ("a  b", "a \\x20b", "a  b"),
        ("\u3000a\u3000 b\u3000", "\\u3000a\u3000\\x20b\\u3000", "\u3000a\u3000 b\u3000"),
        ("a\\ ", "a\\\\\\x20", "a\\ "),
        ("a\\nb", "a\\\\nb", "a\\nb"),
        ("a\\\nb", "a\\\\\\nb", "a\\\\nb"),
        ("a\\qb\\", "a\\qb\\", "a\\qb\\"),
    ],
)
def test_escapes_are_those_of_python(text: str, name: str, prose: str) -> None:
    assert (name, prose) == (clean(text), clean_text(text))


NAMES = st.text(st.sampled_from([*"ab nrtxuU0123\\ \u3000", *HOSTILE, *"क्❤🎉ای", SURROGATE]), max_size=12)


@given(NAMES, NAMES)
def test_names_that_differ_look_different(first: str, second: str) -> None:
    assert (first == second) == (clean(first) == clean(second))


def _read_back(name: str) -> str:
    """The name of which this is the clean form."""
    text, at = "", 0
    lengths = {"x": 2, "u": 4, "U": 8}
    short = {"n": "\n", "r": "\r", "t": "\t", "\\": "\\"}
    while at < len(name):
        kind = name[at + 1 : at + 2]
        digits = name[at + 2 : at + 2 + lengths.get(kind, 0)]
        if name[at] != "\\":
            text, at = text + name[at], at + 1
        elif kind in short:
            text, at = text + short[kind], at + 2
        elif digits and len(digits) == lengths[kind] and set(digits) <= set("0123456789abcdef"):
            text, at = text + chr(int(digits, 16)), at + 2 + len(digits)
        else:
            text, at = text + "\\", at + 1
    return text


@given(st.one_of(NAMES, st.text()))
def test_a_clean_name_can_be_read_back(name: str) -> None:
    assert name == _read_back(clean(name))


@given(st.one_of(NAMES, st.text()))
def test_what_is_clean_is_ink_and_stays_as_it_is(text: str) -> None:
    allowed = set("\u200c\u200d\ufe0f\u3000")  # where they are needed

    for cleaned in (clean(text), clean_text(text)):
        assert [] == [letter for letter in forbidden_in(cleaned) if letter not in allowed and not _is_new_emoji(letter)]
        assert cleaned == clean(cleaned) == clean_text(cleaned)


def _is_new_emoji(letter: str) -> bool:
    return "\U0001f300" <= letter <= "\U0001faff"


@given(st.recursive(st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=5))
def test_json_means_the_same_when_it_is_clean(value: object) -> None:
    for document in (json.dumps(value, ensure_ascii=False), json.dumps(value)):
        assert value == json.loads(clean_json(document))


def test_a_warning_that_is_printed_once_is_printable(capsys: pytest.CaptureFixture[str]) -> None:
    print_once = console.PrintOnce()

    for _ in range(2):
        print_once("a\x1b[2Jb\u202e")

    assert "ml_dash: a\\x1b[2Jb\\u202e\n" == capsys.readouterr().err
