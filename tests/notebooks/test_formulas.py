"""The reader of formulas reads as a person would, and refuses what it does not know."""

import pytest

from tools.formulas import number

LETTERS = {
    r"\lambda": 2.0,
    r"\lambda_t": 3.0,
    "a": 5.0,
    "u": 7.0,
    r"\bar\alpha_t": 0.36,
    "s(x)": 11,
}


@pytest.mark.parametrize(
    ("latex", "value"),
    [
        ("2a^2", 50),
        ("-a + u", 2),
        (r"\lambda_t\lambda", 6),
        (r"u/4\lambda", 7 / 8),
        (r"u/(1 - a/4\lambda)", 7 / (1 - 5 / 8)),
        (r"\tfrac12 a", 2.5),
        (r"\tfrac{a}{2}\,s(x)", 27.5),
        (r"\tfrac a2", 2.5),
        (r"\frac{\sqrt{a + 4}}{u}", 3 / 7),
        (r"\sqrt2\,a^{2}", 25 * 2**0.5),
        (r"-a - \sqrt{\bar\alpha_t/(1-\bar\alpha_t)}\;u", -5 - 0.75 * 7),
        (r"\lambda^2\bigl[2(u-1)^2 + a\bigr]", 4 * 77),
        ("a - u - 1", -3),
    ],
)  # fmt: skip
def test_it_reads(latex, value):
    assert number(latex, LETTERS) == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize("latex", ["2b", r"\sigma", "(a", "a)", "a = u", r"a \cdot u"])
def test_it_refuses(latex):
    with pytest.raises(ValueError, match="cannot read|not closed"):
        number(latex, LETTERS)
