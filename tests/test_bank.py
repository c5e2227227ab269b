"""The bank of misconceptions and right variants, and the kill table that the test run prints."""

import pytest

from autograder.bank import BankResult, bank_results


@pytest.fixture(scope="module")
def results() -> list[BankResult]:
    return bank_results()


def test_every_mistake_is_caught(results: list[BankResult]) -> None:
    assert [(r.exercise, r.faults) for r in results if r.caught < r.mistakes] == []


def test_mistakes_are_named_rightly(results: list[BankResult]) -> None:
    named, mistakes = sum(r.named for r in results), sum(r.mistakes for r in results)
    assert named >= 0.95 * mistakes, [(r.exercise, r.faults) for r in results if r.faults]


def test_every_right_variant_is_accepted(results: list[BankResult]) -> None:
    assert [(r.exercise, r.faults) for r in results if r.accepted < r.right] == []


def test_no_two_mistakes_look_the_same(results: list[BankResult]) -> None:
    assert [(r.exercise, f) for r in results for f in r.faults if "same observations" in f] == []


def test_banks_are_large_enough(results: list[BankResult]) -> None:
    small = [
        (r.exercise, r.mistakes, r.right - 1)
        for r in results
        if r.mistakes < (8 if r.main else 4) or r.right - 1 < (4 if r.main else 2)
    ]
    assert small == []


def test_prints_the_kill_table(results: list[BankResult], kill_table: list[str]) -> None:
    kill_table.append(f"{'exercise':<32}{'mistakes':>9}{'caught':>8}{'named':>7}{'right variants':>16}{'accepted':>10}")
    for r in results:
        kill_table.append(f"{r.exercise:<32}{r.mistakes:>9}{r.caught:>8}{r.named:>7}{r.right:>16}{r.accepted:>10}")
    sums = [sum(getattr(r, key) for r in results) for key in ("mistakes", "caught", "named", "right", "accepted")]
    kill_table.append(f"{'all':<32}{sums[0]:>9}{sums[1]:>8}{sums[2]:>7}{sums[3]:>16}{sums[4]:>10}")
    assert sums[0] > 0
