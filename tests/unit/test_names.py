from __future__ import annotations

import enum
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_dash.errors import InvalidNameError, InvalidTypeError
from ml_dash.storage import names

CHECKS = [names.check_prefix, names.check_topic, names.check_metric, names.check_file_path]
BAD = {
    "": "is empty",
    "/": "is absolute",
    "/a/b": "is absolute",
    "a/": "ends in a slash",
    "a//b": "empty segment",
    ".": "segment '.'",
    "a/./b": "segment '.'",
    "..": "segment '..'",
    "a/../../etc/passwd": "segment '..'",
    "a\0b": "control character '\\x00'",
    "a\nb": "control character '\\n'",
    "a\x7fb": "control character '\\x7f'",
    "a\x85b": "control character '\\x85'",
    "a\\b": "backslash",
    "a/" + "x" * 256: "segment of 256 bytes",
    "é" * 128: "segment of 256 bytes",
    "/".join(["x" * 100] * 11): "1110 bytes long",
    "a\udc80b": "lone surrogate",
}


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize(("text", "segments"), [("a", ("a",)), ("a/b c/é.pt", ("a", "b c", "é.pt")), ("...", ("...",))])
def test_a_good_path_gives_its_segments(check, text, segments):
    assert segments == check(text)


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize(("text", "problem"), BAD.items(), ids=[repr(text)[:20] for text in BAD])
def test_a_bad_path_is_refused_with_the_reason(check, text, problem):
    with pytest.raises(InvalidNameError) as caught:
        check(text)

    assert problem in str(caught.value)


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("value", [None, 3, b"a/b", ["a"], object()])
def test_what_is_not_text_is_a_type_error(check, value):
    with pytest.raises(InvalidTypeError, match="must be a str"):
        check(value)


def test_the_longest_segment_and_path_are_allowed():
    text = "/".join(["x" * names.SEGMENT_BYTES] * 4)

    assert names.PATH_BYTES == len(text) + 1
    assert 4 == len(names.check_metric(text))


def test_the_message_quotes_the_text():
    with pytest.raises(InvalidNameError, match="metric name 'train//loss' has an empty segment"):
        names.check_metric("train//loss")


def test_the_message_cuts_a_huge_text():
    with pytest.raises(InvalidNameError) as caught:
        names.check_prefix("word " * 100_000)

    assert 400 > len(str(caught.value))
    assert "(500000 characters)" in str(caught.value)


def test_the_error_survives_pickling():
    with pytest.raises(InvalidNameError) as caught:
        names.check_prefix("..")

    assert str(caught.value) == str(pickle.loads(pickle.dumps(caught.value)))


@pytest.mark.parametrize("check", [names.check_metric, names.check_topic])
@pytest.mark.parametrize(
    "segment",
    ["data.jsonl", "data.parquet", "metadata.json", ".metadata.lock", "data.host-12-34.jsonl", "Data.JSONL"],
)
def test_a_stream_cannot_be_named_like_a_file_of_its_folder(check, segment):
    for text in (segment, f"train/{segment}", f"{segment}/loss"):
        with pytest.raises(InvalidNameError, match="kept there"):
            check(text)


def test_a_stream_may_be_named_almost_like_a_file_of_its_folder():
    for text in ("data", "metadata", "data.json", "data..jsonl2", "mydata.jsonl"):
        assert (text,) == names.check_metric(text)


@pytest.mark.parametrize(
    "segment", [".files_metadata.json", ".files_metadata.lock", ".staging", "index.jsonl", "index.host-1.jsonl"]
)
def test_a_file_cannot_replace_the_index_but_may_have_its_name_in_a_folder(segment):
    for text in (segment, f"{segment}/a.txt"):
        with pytest.raises(InvalidNameError, match="kept there"):
            names.check_file_path(text)

    assert ("configs", segment) == names.check_file_path(f"configs/{segment}")


def test_a_prefix_and_a_file_may_be_called_data_jsonl():
    assert ("a", "data.jsonl") == names.check_prefix("a/data.jsonl")
    assert ("data.jsonl",) == names.check_file_path("data.jsonl")


def test_a_string_enum_counts_as_its_value():
    class Split(str, enum.Enum):  # noqa: UP042 - the older kind, whose str() is not its value
        TRAIN = "train/loss"

    assert ("train", "loss") == names.check_metric(Split.TRAIN)


def test_check_path_takes_a_rule_of_the_caller():
    def no_shards(segments):
        return next((segment for segment in segments if segment.startswith("shard-")), None)

    assert ("a",) == names.check_path("a", "frame topic", reserved=no_shards)
    with pytest.raises(InvalidNameError, match=r"frame topic 'a/shard-0' uses 'shard-0'"):
        names.check_path("a/shard-0", "frame topic", reserved=no_shards)


@given(st.text())
def test_what_passes_is_inside_the_folder_and_can_be_encoded(text):
    """Whatever the text: it is refused, or its segments are plain names that make up the text."""
    try:
        segments = names.check_metric(text)
    except InvalidNameError:
        return

    assert text == "/".join(segments)
    assert all(segment not in {"", ".", ".."} for segment in segments)
    assert all(1 <= len(segment.encode()) <= names.SEGMENT_BYTES for segment in segments)
    assert not any("\\" in segment or "\0" in segment for segment in segments)


@pytest.mark.parametrize(
    ("word", "expected"), [("prefx", "prefix"), ("TAGS", "tags"), ("dashroot", "dash_root"), ("zzzz", None)]
)
def test_closest_finds_the_misspelt_word(word, expected):
    assert expected == names.closest(word, ["prefix", "tags", "dash_root"])


def test_an_unknown_keyword_names_the_closest_one():
    error = names.unknown_keyword("prefx", ["prefix", "tags"], "Experiment()")

    assert isinstance(error, InvalidTypeError)
    assert "Experiment() has no keyword 'prefx'; did you mean 'prefix'?" == str(error)


def test_an_unknown_keyword_far_from_all_lists_them():
    error = names.unknown_keyword("zzz", ["tags", "prefix"], "Experiment()")

    assert "Experiment() has no keyword 'zzz'; it has: prefix, tags" == str(error)
