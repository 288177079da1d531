"""Curves drawn with letters, their ticks, and the picture of a curve."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from ml_dash.cli.png_plot import draw, plain
from ml_dash.cli.terminal_plot import plot, sparkline
from ml_dash.errors import InvalidValueError
from ml_dash.query.downsample import axis_range, bucket_means, finite_points, label_ticks, min_max_buckets, ticks

NAN, INFINITY = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("values", "width", "expected"),
    [
        ([0, 1, 2, 3, 4, 5, 6, 7], 8, "▁▂▃▄▅▆▇█"),
        ([0, 0, 7, 7], 2, "▁█"),  # the mean of each two
        ([0, NAN, 7], 3, "▁ █"),
        ([0, INFINITY, 7], 3, "▁ █"),
        ([5, 5], 2, "▄▄"),
        ([NAN, NAN], 5, "  "),
        ([], 5, ""),
        ([1e308, 1e308, -1e308, -1e308], 2, "█▁"),
    ],
)
def test_a_sparkline_is_a_bar_for_each_part_of_the_curve(values: list[float], width: int, expected: str) -> None:
    assert expected == sparkline(np.array(values, np.float64), width)


def test_a_sparkline_can_be_drawn_in_ascii() -> None:
    assert "_@" == sparkline(np.array([0.0, 1.0]), 2, unicode=False)


def test_a_rising_line_goes_from_the_lower_left_to_the_upper_right() -> None:
    lines = plot(np.arange(2.0), np.array([0.0, 3.0]), 20, 5, x_label="step")

    places = [[place for place, letter in enumerate(line) if "⠀" < letter <= "⣿"] for line in lines[:3]]
    assert places[0][0] > places[1][0] > places[2][0]
    assert places[0][-1] > places[1][-1] > places[2][-1]
    assert lines[-1].endswith("step")


@pytest.mark.parametrize("unicode", [True, False])
@pytest.mark.parametrize(("width", "height"), [(16, 5), (40, 8), (80, 20), (200, 50)])
def test_a_plot_never_exceeds_its_size(width: int, height: int, unicode: bool) -> None:
    x = np.arange(1000.0)

    lines = plot(x, np.sin(x / 50) * 1e-5, width, height, x_label="step", unicode=unicode)

    assert height == len(lines)
    # The labels of the values need their room, however narrow the plot is asked to be.
    assert max(map(len, lines)) <= max(width, 26)
    assert unicode or "".join(lines).isascii()


def test_a_spike_of_one_point_among_a_million_is_drawn() -> None:
    y = np.zeros(1_000_000)
    y[700_000] = 1.0

    lines = plot(np.arange(1_000_000.0), y, 80, 12)

    assert any(letter > "⠀" for letter in lines[0])


def test_points_are_joined_although_columns_between_them_are_empty() -> None:
    lines = plot(np.array([0.0, 10.0]), np.array([0.0, 0.0]), 40, 5)

    [drawn] = [line for line in lines if any("⠀" < letter <= "⣿" for letter in line)]
    assert " " not in drawn.split("┤")[-1].split("│")[-1].strip()


@pytest.mark.parametrize(
    ("x", "y"),
    [([3.0], [1e-9]), ([1, 2], [5, 5]), ([1, 2, 3], [-1.7e308, 1.7e308, 0]), ([2, 1], [0, 1]), ([1, NAN], [1, 2])],
)
def test_any_finite_points_can_be_drawn(x: list[float], y: list[float]) -> None:
    lines = plot(np.array(x), np.array(y), 60, 10)

    assert 10 == len(lines)
    assert any("⠀" < letter <= "⣿" for letter in "".join(lines))


def test_without_a_finite_value_a_plot_says_so() -> None:
    assert ["no finite value to draw"] == plot(np.array([1.0]), np.array([NAN]), 60, 10)


@pytest.mark.parametrize(
    ("low", "high", "count", "expected"),
    [
        (0, 1, 4, ["0.00", "0.25", "0.50", "0.75", "1.00"]),
        (0, 3000, 5, ["0", "1000", "2000", "3000"]),
        (-1, 1, 2, ["-1", "0", "1"]),
        (0.00012, 0.00034, 3, ["2.0e-4", "3.0e-4"]),
        (1e6, 3e6, 2, ["1.0e6", "2.0e6", "3.0e6"]),
        (7, 7, 3, ["7"]),
    ],
)
def test_ticks_are_round_numbers_with_labels_that_tell_them_apart(
    low: float, high: float, count: int, expected: list[str]
) -> None:
    assert expected == [label for _, label in label_ticks(ticks(low, high, count))]


def test_ticks_lie_within_the_limits() -> None:
    for low, high in ((0.1, 0.9), (-1e-300, 1e-300), (1e300, 2e300), (99.999, 100.001)):
        assert all(low <= tick <= high for tick in ticks(low, high, 5))


def test_limits_of_equal_values_are_drawn_apart() -> None:
    low, high = axis_range(np.array([5.0, 5.0]))

    assert low < 5.0 < high


def test_points_are_put_in_order_without_those_that_are_not_finite() -> None:
    x, y = finite_points([3, 1, NAN, 2], [30, 10, 0, INFINITY])

    assert ([1, 3], [10, 30]) == (x.tolist(), y.tolist())


def test_columns_have_the_range_and_mean_of_their_points() -> None:
    x, y = np.array([0.0, 1.0, 9.0, 10.0]), np.array([1.0, 3.0, 5.0, 7.0])

    columns, least, greatest = min_max_buckets(x, y, 2)

    assert ([0, 1], [1, 5], [3, 7]) == (columns.tolist(), least.tolist(), greatest.tolist())
    assert [2, 6] == bucket_means(x, y, 2).tolist()


@pytest.mark.parametrize("count", [0, 1, 2, 50, 5000])
def test_a_picture_has_its_size_and_the_curve_in_it(count: int) -> None:
    x = np.arange(float(count))

    data = draw(x, np.cos(x / 100), 400, 240, title="train/loss - größe/漢字", x_label="step")

    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert (240, 400, 3) == picture.shape
    is_blue = (picture[..., 0].astype(int) - picture[..., 2]) > 100
    assert bool(count) == bool(is_blue.any())


@pytest.mark.parametrize(("width", "height"), [(10, 500), (500, 10), (100_000, 500)])
def test_a_picture_that_is_too_small_or_too_large_is_refused(width: int, height: int) -> None:
    with pytest.raises(InvalidValueError, match="pixels"):
        draw(np.arange(2.0), np.arange(2.0), width, height, title="", x_label="")


def test_letters_that_the_font_does_not_have_are_replaced() -> None:
    assert "grosse/?? a" == plain("größe/漢字 á")
