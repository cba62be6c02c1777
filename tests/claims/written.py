"""What is written: the prose of the pages, and the markers of the tests."""

import ast
import json
from functools import cache
from pathlib import Path

from docutils.nodes import make_id

ROOT = Path(__file__).parents[2]
BOOK, TESTS = ROOT / "book", Path(__file__).parent
GENERATED = ("claims.md", "errata.md")


@cache
def marked_tests(marker):
    """(id, file::test) for each such marker in tests/claims, in order, without running anything."""
    called = f"pytest.mark.{marker}"
    found = []
    for file in sorted(TESTS.glob("test_*.py")):
        for node in ast.walk(ast.parse(file.read_text("utf8"))):
            for mark in getattr(node, "decorator_list", []):
                if isinstance(mark, ast.Call) and ast.unparse(mark.func) == called:
                    found.append((mark.args[0].value, f"tests/claims/{file.name}::{node.name}"))
    return found


@cache
def words(path):
    """The prose of a page: a Markdown file, or the Markdown cells of a notebook."""
    if path.suffix == ".md":
        return path.read_text("utf8")
    cells = json.loads(path.read_text("utf8"))["cells"]
    return "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")


def pages():
    """Every page of the book that somebody wrote."""
    every = sorted([*BOOK.glob("*.ipynb"), *BOOK.glob("*.md")])
    return [page for page in every if page.name not in GENERATED]


def slug(heading):
    """The id that a heading gets on its page."""
    return make_id(heading)
