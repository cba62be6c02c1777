"""The formulas of a page as numbers, so that a test measures what is printed, not a copy of it."""

import re

import numpy as np

SILENT = re.compile(r"\s|\\[,;:! ]|\\[bB]ig+[lr]?|\\(?:left|right)(?![a-z])")
SIGNS = re.compile(r"\d+(?:\.\d+)?|\\[td]?frac|\\sqrt|[-+/^(){}\[\]]")
CLOSED_BY = {"(": ")", "[": "]", "{": "}"}


def number(latex: str, letters: dict):
    """The value of a formula. `letters` gives that of each symbol as printed: {r"\\lambda": 0.8}.

    Reads sums, quotients, products without a sign, powers, fractions and roots; of two symbols
    that fit, the longer one. As in print, a/bc is a/(bc). Anything else is an error.
    """
    words = _words(latex, letters)
    value = _sum(words, letters)
    if words:
        raise ValueError(f"cannot read {words[0]!r} in {latex!r}")
    return value


def _words(latex, letters):
    known, words = sorted(letters, key=len, reverse=True), []
    while latex:
        if silent := SILENT.match(latex):
            latex = latex[silent.end() :]
            continue
        symbol = next((s for s in known if latex.startswith(s)), None)
        if symbol is None and not (found := SIGNS.match(latex)):
            raise ValueError(f"cannot read {latex!r}")
        words.append(symbol or found[0])
        latex = latex[len(words[-1]) :]
    return words


def _sum(words, letters):
    value = 0.0 if words[0] in "+-" else _quotient(words, letters)
    while words and words[0] in "+-":
        sign = 1 if words.pop(0) == "+" else -1
        value = value + sign * _quotient(words, letters)
    return value


def _quotient(words, letters):
    value = _product(words, letters)
    while words and words[0] == "/":
        words.pop(0)
        value = value / _product(words, letters)
    return value


def _product(words, letters):
    value = _power(words, letters)
    while words and words[0] not in "+-/)]}":
        value = value * _power(words, letters)
    return value


def _power(words, letters):
    value = _atom(words, letters)
    if words and words[0] == "^":
        words.pop(0)
        value = value ** _atom(words, letters)
    return value


def _atom(words, letters):
    word = words.pop(0)
    if word in letters:
        return letters[word]
    if word in CLOSED_BY:
        value = _sum(words, letters)
        if not words or words.pop(0) != CLOSED_BY[word]:
            raise ValueError(f"{word} is not closed")
        return value
    if word.endswith("frac"):
        return _digit(words, letters) / _digit(words, letters)
    if word == r"\sqrt":
        return np.sqrt(_digit(words, letters))
    return float(word)


def _digit(words, letters):
    """What TeX takes after \\frac and \\sqrt: a group, a symbol, or the next digit alone."""
    if words[0].isdigit() and len(words[0]) > 1:
        words[:1] = [words[0][0], words[0][1:]]
    return _atom(words, letters)
