"""One spelling throughout: British. (That words are spelt at all, codespell sees in the lint.)"""

import ast
import re
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[2]
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("book/*.md"), *ROOT.glob("book/*.yml")]
CODE = [*ROOT.glob("sbm_lite/**/*.py"), *ROOT.glob("tools/*.py"), *ROOT.glob("book/_ext/*.py")]
CHAPTERS = sorted(ROOT.glob("book/*.ipynb"))
NOT_PROSE = re.compile(
    r"```.*?```|`[^`]*`|\$[^$]*\$|https?://\S+|\]\([^)]*\)|\{[^{}]*\}", flags=re.DOTALL
)
AMERICAN = re.compile(
    r"\b(?:un)?(?:col|behavi|fav|neighb|hon|lab)or\w*|\bcenter(?:s|ed)?\b|\bgray\w*|\banalyz\w+|"
    r"\b(?:model|label|travel|cancel)(?:ed|ing)\b|\b(?!(?:re|down)?(?:size|sizing)|prize|seize)"
    r"\w+iz(?:e[sdr]?|ing|ation)\b",
    flags=re.IGNORECASE,
)


def american(text):
    return AMERICAN.findall(NOT_PROSE.sub(" ", text))


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_pages_are_in_british_english(path):
    assert american(path.read_text(encoding="utf8")) == []


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_chapters_are_in_british_english(path):
    cells = nbformat.read(path, as_version=4).cells
    words = [cell.source for cell in cells if cell.cell_type == "markdown"]
    words += [
        str(cell.metadata.get("mystnb", "")).replace("{", "").replace("}", "") for cell in cells
    ]
    assert american("\n\n".join(words)) == []


@pytest.mark.parametrize("path", CODE, ids=lambda path: path.stem)
def test_docstrings_are_in_british_english(path):
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef)
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf8")))
    words = [ast.get_docstring(node) or "" for node in nodes if isinstance(node, kinds)]
    assert american("\n\n".join(words)) == []


@pytest.mark.parametrize("word", ["Color", "behavior", "modeling", "unnormalized", "centered"])
def test_american_words_are_seen(word):
    assert american(f"A {word} one, and `{word}` in code.") == [word]
