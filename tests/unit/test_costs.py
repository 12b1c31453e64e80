"""Prices, estimates and the count of lines, without Airflow and boto3."""

from __future__ import annotations

import tracemalloc

import pytest

from airflow_provider_personalize.exceptions import InvalidRequestError
from airflow_provider_personalize.input.counting import LineCounter
from airflow_provider_personalize.service.costs import Prices, read_prices, written


def count(data: bytes, size: int) -> int:
    counter = LineCounter()
    counter.count(data[at : at + size] for at in range(0, len(data), size))
    return counter.lines


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        (b"", 0),
        (b"\n", 0),
        (b"{}", 1),
        (b"{}\n", 1),
        (b"{}\n{}", 2),
        (b"{}\r\n\r\n \t\n{}\r\n", 2),
        (b"\n\n  {}  \n\n", 1),
        (b"a\x00\x0b\x0c\x85\xe2\x80\xa8b\n" * 3, 3),
        (b"  ", 0),
    ],
)
@pytest.mark.parametrize("size", [1, 2, 3, 7, 1 << 20])
def test_lines_that_hold_something_are_counted_wherever_they_are_cut(data, lines, size):
    assert count(data, size) == lines


def test_objects_do_not_run_together():
    counter = LineCounter()
    for _ in range(3):
        counter.count([b"{", b"}"])
    assert counter.lines == 3


def test_a_giant_line_takes_no_memory():
    counter = LineCounter()
    tracemalloc.start()
    counter.count(b"x" * (1 << 19) for _ in range(200))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert counter.lines == 1
    assert peak < 8 << 20


def test_nothing_is_estimated_without_a_price():
    prices = read_prices({"price_per_training_hour": " ", "price_per_gb_imported": ""}.get)
    assert prices == Prices()
    assert (prices.of_results(1_000_000), prices.of_training(7.5), prices.of_import(1 << 40)) == (None, None, None)


def test_estimates_follow_from_the_prices():
    prices = read_prices(
        {"price_per_1000_results": "0.067", "price_per_training_hour": "0.24", "price_per_gb_imported": "0"}.get
    )
    assert prices.of_results(15_800) == 1.0586
    assert prices.of_results(0) == 0
    assert prices.of_training(53.9) == 12.936
    assert prices.of_import(10**9) == 0


@pytest.mark.parametrize("text", ["free", "-1", "nan", "inf", "1e999", "0,05"])
def test_what_is_no_price_is_said(text):
    with pytest.raises(InvalidRequestError, match=r"^\[personalize\] price_per_gb_imported: expected a number.* got '"):
        read_prices({"price_per_gb_imported": text}.get)


@pytest.mark.parametrize(
    ("amount", "text"), [(0, "0.00"), (1234.5, "1,234.50"), (0.1, "0.10"), (0.00123, "0.0012"), (12.936, "12.94")]
)
def test_amounts_are_written_as_people_do(amount, text):
    assert written(amount) == text
