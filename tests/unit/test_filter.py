"""Conditions on runs: what they mean, and what is said of one that cannot be read."""

from __future__ import annotations

import datetime
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from ml_dash.catalog.filter import (
    MAX_DEPTH,
    MAX_LENGTH,
    MAX_TERMS,
    And,
    Comparison,
    Has,
    Not,
    Or,
    Prefix,
    Value,
    is_condition,
    parse,
)
from ml_dash.catalog.literals import time_of
from ml_dash.catalog.matching import matcher
from ml_dash.errors import InvalidTypeError, InvalidValueError

NOW = datetime.datetime(2026, 3, 1, 12, tzinfo=datetime.UTC).timestamp()
DAY = 86400.0


@dataclass
class Run:
    """A run as a condition sees it, without any file."""

    prefix: str = "alice/walker/seed-1"
    project: str | None = "walker"
    host: str | None = "gpu-7"
    status: str = "failed"
    is_live: bool = False
    tags: list[str] = field(default_factory=lambda: ["ppo", "baseline"])
    bindrs: list[str] = field(default_factory=list)
    created: float | None = NOW - DAY
    started: float | None = NOW - DAY
    ended: float | None = None
    duration: float | None = 5400.0
    params: dict[str, Any] = field(
        default_factory=lambda: {
            "lr": 3e-4,
            "model.name": "ResNet-50",
            "layers": [64, 32],
            "none": None,
            "amp": True,
            "status": "warm",
            "odd name": 1,
            "seed": 7,
            "digits": "4",
            "in": 5,
            "params.x": 6,
        }
    )
    values: dict[str, float] = field(default_factory=lambda: {"train/loss": 0.5, "train/loss.min": 0.25, "score": 2.0})

    def has_metric(self, name: str) -> bool:
        return any(value.startswith(f"{name}/") for value in self.values)

    def metric(self, name: str) -> Any:
        return self.values.get(name)


def fits(text: str, run: Run | None = None) -> bool:
    return matcher(parse(text), NOW)(run or Run())


@pytest.mark.parametrize(
    "text",
    [
        *("", "  ", "alice", "alice/walker/", "/alice", "alice/*", "*/seed-[0-9]", '"alice/walker"', "alice/[!b]*/*"),
        *("prefix = alice", "run = alice/*", "prefix ~ WALKER", "name = seed-1", "owner = alice", "project = walker"),
        *("host = gpu-7", "host != gpu-8", "name in (seed-0, seed-1)", "name not in (seed-0, seed-2)", "host >= gpu"),
        *("status = failed", "status == FAILED", "status != completed", "status in (failed, none)", "status ~ fail"),
        *("tags has ppo", "tags = ppo", "tags in (dqn, ppo)", "tags ~ base", "tags != dqn", "tags !~ dqn", "has(tags)"),
        *("bindrs is missing", "bindrs != robot", "not has(bindrs)", "host is not missing", "ended is missing"),
        *("created > 2d", "created > -2d", "created since 2d", "created until 12h", "created < '12 h'"),
        *("created >= 2026-02-28T12:00:00Z", "created = 2026-02-28T14:00:00+02:00", "created < 2026-03-01T00:00:00Z"),
        *("duration > 1h", "duration = 90min", "duration <= 5400", "duration = 1.5h", "duration in (1h, 5400)"),
        *("lr < 1e-3", "lr=.0003", "lr!=1", "lr in (1, 3e-4)", "lr not in (1, 2)", "LR = 1 or lr > 1e-4", "seed=7.0"),
        *('model.name ~ "resnet"', "model.name = ResNet-50", "model.name !~ vit", "model.name > R", 'digits = "4"'),
        *("layers has 64", 'layers = "[64, 32]"', "layers ~ 64", "none = null", "amp = TRUE", "amp != false"),
        *("status is not missing and params.status = warm", "`odd name` = 1", "in = 5", "params.x = 6", "has(lr)"),
        *("train/loss < 1", "train/loss.min < 0.3", "metrics.score = 2", "score = 2", "has(train/loss)"),
        *("alice and not bob", "bob or alice", "NOT bob AND (bob OR alice)", "not (bob and alice)", "not not alice"),
        *("zzz is missing", "not zzz = 1", "bob and zzz = 1 or alice", "train/zzz is missing"),
    ],
)
def test_a_condition_is_met(text: str) -> None:
    assert fits(text)
    assert not matcher(Not(parse(text)), NOW)(Run())


@pytest.mark.parametrize(
    "text",
    [
        *("bob", "ali", "alice/walker/seed", "*/seed-2", "alice/[!a]*x", "prefix != alice", "run not in (alice, bob)"),
        *("status = live", "status = none", "status != failed", "tags has pp", "tags != ppo", "tags not in (ppo, x)"),
        *("created > 12h", "created until 2d", "ended > 2d", "ended < 2d", "ended = 2026-03-01", "duration < 1h"),
        *("zzz = 1", "zzz != 1", "zzz !~ a", "zzz not in (1)", "zzz < 1", "train/zzz < 1", "params.train/loss < 1"),
        *('lr = "0.0003"', "lr = low", "lr ~ 7", "digits = 4", "digits > 1", "amp = 1", "amp > 0", "none = 0"),
        *("layers = 64", "layers > 1", "lr has 3e-4", "metrics.lr < 1", "alice and bob", "bob or zzz = 1"),
    ],
)
def test_a_condition_is_not_met(text: str) -> None:
    assert not fits(text)


def test_live_and_none_are_statuses() -> None:
    live, unknown = Run(status="running", is_live=True), Run(status="")

    assert [True, True, False] == [fits(text, live) for text in ("status = live", "status = running", "status != live")]
    assert [True, True, True] == [
        fits(text, unknown) for text in ("status = none", "status is missing", "status != live")
    ]


def test_a_date_alone_is_a_day() -> None:
    start = datetime.datetime(2026, 2, 28).astimezone().timestamp()
    times = [start - 1, start, start + DAY - 1, start + DAY]

    assert [False, True, True, False] == [fits("created = 2026-02-28", Run(created=moment)) for moment in times]
    assert [False, True, True, True] == [fits("created since 2026-02-28", Run(created=moment)) for moment in times]


@pytest.fixture
def _berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("_berlin")
@pytest.mark.parametrize(
    ("text", "first", "after"),
    [
        ("2026-03-29", "2026-03-29T00:00+01:00", "2026-03-30T00:00+02:00"),
        ("2026-10-25", "2026-10-25T00:00+02:00", "2026-10-26T00:00+01:00"),
        ("20261201", "2026-12-01T00:00+01:00", "2026-12-02T00:00+01:00"),
        ("2026-W49-2", "2026-12-01T00:00+01:00", "2026-12-02T00:00+01:00"),
        ("2026-W49", "2026-11-30T00:00+01:00", "2026-12-07T00:00+01:00"),
        ("2026-W13", "2026-03-23T00:00+01:00", "2026-03-30T00:00+02:00"),
        ("2026-12-01T08", "2026-12-01T08:00+01:00", "2026-12-01T09:00+01:00"),
        ("2026-12-01T08:56", "2026-12-01T08:56+01:00", "2026-12-01T08:57+01:00"),
        ("'2026-12-01 08:56:30'", "2026-12-01T08:56:30+01:00", "2026-12-01T08:56:31+01:00"),
        ("2026-12-01T08:56Z", "2026-12-01T08:56+00:00", "2026-12-01T08:57+00:00"),
        ("2026-12-01T08:56+02:00", "2026-12-01T08:56+02:00", "2026-12-01T08:57+02:00"),
    ],
)
def test_a_time_is_as_long_as_it_is_written(text: str, first: str, after: str) -> None:
    start, end = (datetime.datetime.fromisoformat(one).timestamp() for one in (first, after))

    found = [fits(f"created = {text}", Run(created=one)) for one in (start - 0.5, start, end - 0.5, end)]
    assert [False, True, True, False] == found


def test_a_time_with_fractions_is_one_instant() -> None:
    assert fits("created = 2026-03-01T12:00:00.000Z", Run(created=NOW))
    assert not fits("created = 2026-03-01T12:00:00.000Z", Run(created=NOW + 0.001))


def test_numbers_beyond_64_bits_and_nan_are_compared() -> None:
    run = Run(params={"big": 2**70, "nan": float("nan"), "inf": float("inf")})

    assert fits(f"big = {2**70} and big > {2**69} and big != {2**70 + 1}", run)
    assert fits("nan = nan and inf = inf and inf > 1e308 and not nan > 0 and nan != 0", run)
    assert fits(f"big < {'9' * 5000}", run)


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("lr<1e-3", Comparison("lr", "<", (Value("1e-3"),))),
        ("a and b or not c", Or((And((Prefix("a"), Prefix("b"))), Not(Prefix("c"))))),
        ("a and (b or c) and d", And((Prefix("a"), Or((Prefix("b"), Prefix("c"))), Prefix("d")))),
        ("lr is missing", Not(Has("lr"))),
        ("created until '5 min'", Comparison("created", "<=", (Value("5 min", is_quoted=True),))),
        (r"x = 'it\'s' ", Comparison("x", "=", (Value("it's", is_quoted=True),))),
        ("`a``b c` in (1,2)", Comparison("a`b c", "in", (Value("1"), Value("2")))),
    ],
)
def test_a_text_is_read_as_a_tree_and_written_back(text: str, tree: object) -> None:
    assert tree == parse(text)
    assert tree == parse(str(tree))


@pytest.mark.parametrize(
    ("text", "place", "said"),
    [
        ("lr <", "at the end", "a value is missing after '<'; write a number, a word, or text in quotes"),
        ("lr < and x", "at character 6", "'and' is no value"),
        ("0.5 < lr", "at character 1", "write the name first, as in lr > 0.5"),
        ("lr > 1 < 3", "at character 8", "put 'and' or 'or' between conditions"),
        ("lr = 1 seed = 2", "at character 8", "put 'and' or 'or' between conditions"),
        ("a && b", "at character 3", "'&&' is no operator; write 'and', 'or' and 'not'"),
        ("!a", "at character 1", "write 'and', 'or' and 'not'"),
        ("lr =< 1", "at character 5", "'=<' is no sign; write lr <= value"),
        ("lr => 1", "at character 5", "write lr >= value"),
        ("lr <> 1", "at character 5", "write lr != value"),
        ("lr !== 1", "at character 6", "write lr != value"),
        ("lr \u2264 1", "at character 4", "write lr <= value"),
        ("lr \u22651", "at character 4", "write lr >= 1"),
        ("lr\u22601", "at character 1", "write lr != 1, or quotes around a prefix"),
        ("name like x", "at character 6", "'like' is no sign; write name ~ text"),
        ("tags contains ppo", "at character 6", "or tags has ppo for an item"),
        ("lr between 1 and 2", "at character 4", "write lr >= 1 and lr <= 2"),
        ("lr exists", "at character 4", "write has(lr)"),
        ("0 < lr < 1", "at character 1", "lr > 0 and lr < 1"),
        ("ppo in tags", "at character 8", "write tags has ppo"),
        ("'ppo' in tags", "at character 1", "as in tags has 'ppo'"),
        ("64 in layers", "at character 1", "'64' is no name"),
        ("learning rate > 1", "at character 10", "'rate' is not expected here"),
        ("status = done", "at character 10", "'done' is no status; did you mean 'completed'?"),
        ("(a or b", "at character 1", "this parenthesis is not closed"),
        ("a)", "at character 2", "this parenthesis was not opened"),
        ("()", "at character 2", "')' is where a condition should begin"),
        ("name = 'x", "at character 8", "the quote ' is not closed"),
        ("status = faild", "at character 10", "'faild' is no status; did you mean 'failed'?"),
        ("status < failed", "at character 8", "it takes = != ~ !~ in not in"),
        ("created = soon", "at character 11", "'soon' is no time; write 90min, 12h, 2d or 1w"),
        ("lr since 2d", "at character 4", "'since' is for times; compare created, started, ended"),
        ("duration > long", "at character 12", "'long' is no duration"),
        ("lr in 3", "at character 7", "write lr in (a, b)"),
        ("lr in (3", "at the end", "the list is not closed"),
        ("lr not 3", "at character 4", "write lr not in (a, b)"),
        ("lr is 3", "at character 7", "write lr is missing, or lr = null"),
        ("has(lr", "at the end", "write has(lr)"),
        ("or a", "at character 1", "'or' has nothing on its left"),
        ("a and", "at the end", "write one, such as lr < 0.1"),
        ("`x y`", "at character 1", "write `x y` = 1, or has(`x y`)"),
    ],
)
def test_what_is_no_condition_is_refused_with_the_place_and_the_remedy(text: str, place: str, said: str) -> None:
    with pytest.raises(InvalidValueError) as caught:
        parse(text)

    assert str(caught.value).startswith(f"condition {text!r}, {place}: ")
    assert said in str(caught.value)


def test_the_limits_are_named() -> None:
    with pytest.raises(InvalidValueError, match=f"at most {MAX_LENGTH:,} characters"):
        parse("x" * (MAX_LENGTH + 1))
    with pytest.raises(InvalidValueError, match=f"deeper than {MAX_DEPTH} levels"):
        parse("(" * (MAX_DEPTH + 1) + "a" + ")" * (MAX_DEPTH + 1))
    with pytest.raises(InvalidValueError, match=f"deeper than {MAX_DEPTH} levels"):
        parse("not " * 2000 + "a")
    with pytest.raises(InvalidValueError, match=f"more than {MAX_TERMS:,} comparisons"):
        parse(" or ".join("a" * (MAX_TERMS + 1)))
    with pytest.raises(InvalidTypeError, match="must be text"):
        parse(3)  # type: ignore[arg-type]  # what is tested

    assert fits("not " * MAX_DEPTH + "alice")
    assert fits(" or ".join(["b"] * (MAX_TERMS - 1) + ["alice"]))


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("5m", 300), ("5 min", 300), ("1.5h", 5400), ("-1h", 3600), ("1w", 604_800)]
)
def test_a_time_span_counts_back_from_now(text: str, seconds: float) -> None:
    before = time.time()

    moment = time_of(text)

    assert moment is not None
    assert before <= moment + seconds <= time.time()


def test_a_date_with_a_zone_is_that_moment() -> None:
    assert NOW == time_of("2026-03-01T14:00:00+02:00")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *(
            ("lr < 1", True),
            ("not alice", True),
            ("has(lr)", True),
            ("a or b", True),
            ("lr <", True),
            ("lr <> 3", True),
            ("lr \u2264 3", True),
        ),
        *((".dash", False), ("alice/*", False), ("/tmp/some runs", False), ("C:/runs", False), ("", False)),
    ],
)
def test_a_text_that_is_meant_as_a_condition_is_told_from_a_folder(text: str, expected: bool) -> None:
    assert expected == is_condition(text)


class Unread:
    """A run of which only the prefix may be asked."""

    prefix = "alice/walker"

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{name} was read")


def test_what_costs_more_is_asked_last() -> None:
    unread: Any = Unread()

    assert not matcher(parse("train/loss.min < 1 and lr = 1 and status = failed and bob"))(unread)
    assert matcher(parse("train/loss.min < 1 or lr = 1 or status = failed or alice"))(unread)
