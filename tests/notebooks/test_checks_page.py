"""*How this book checks itself* quotes what is there, and its planted mistake is caught."""

import re
from pathlib import Path

import pytest

from sbm_lite import samplers
from tests.claims import test_ch3

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "book" / "checks.md").read_text("utf8")


def test_the_quoted_sentence_row_and_test_stand_where_they_are_said_to():
    (sentence,) = re.findall(r'\*"(.+?)"\*', PAGE)
    assert sentence in (ROOT / "book" / "03_langevin.ipynb").read_text("utf8").replace(r"\\", "\\")
    (row,) = re.findall(r"^```yaml\n(.+?)^```", PAGE, flags=re.M | re.S)
    assert row in (ROOT / "book" / "claims.yml").read_text("utf8")
    (test,) = re.findall(r"^```python\n(.+?)^```", PAGE, flags=re.M | re.S)
    assert test in (ROOT / "tests" / "claims" / "test_ch3.py").read_text("utf8")


def failure(eta, monkeypatch):
    """What the quoted test says when the noise of a step is ηz, or None if it passes."""
    wrong = lambda x, s, z, eta: x + eta / 2 * s + eta * z  # noqa: E731
    monkeypatch.setattr(samplers, "_moved", wrong)

    def check(what, *, expected, measured, within):
        if abs(measured - expected) > within:
            numbers = f"expected {expected:.2f}, measured {measured:.2f}, allowed ± {within:.2f}"
            raise AssertionError(f"{what}: {numbers}")

    try:
        test_ch3.test_stationary_variance_of_the_real_chain(eta, check)
    except AssertionError as error:
        return str(error)


def test_the_planted_mistake_is_caught_with_the_quoted_words(monkeypatch):
    (said,) = re.findall(r"^> (.+)$", PAGE, flags=re.M)
    assert failure(0.5, monkeypatch) == said


def test_at_step_one_it_is_not(monkeypatch):
    assert failure(1.0, monkeypatch) is None


@pytest.mark.parametrize("name", re.findall(r"`(tests/[\w/.]*|book/[\w.]*)`", PAGE))
def test_what_the_page_names_exists(name):
    assert (ROOT / name).exists()


def test_the_page_counts_nothing():
    """Of claims, tests, slips or pages; numbers of the walk through one claim are quoted above."""
    assert not re.search(r"\b\d+ (?:claims|tests|slips|rows|pages|cells|chapters)\b", PAGE)
