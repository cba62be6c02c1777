"""The glossary and the chapters lead to each other."""

import json
import re
from pathlib import Path

import pytest

BOOK = Path(__file__).parents[2] / "book"
PAGE = (BOOK / "glossary.md").read_text("utf8")
ROLE = re.compile(r"\{term\}`(?:[^`<]*<)?([^`<>]+?)>?`")
CHINESE = re.compile(r"[\u4e00-\u9fff]")


def entries():
    """term → definition, in the order of the page."""
    (block,) = re.findall(r"^```\{glossary\}\n(.+?)^```$", PAGE, flags=re.M | re.S)
    return dict(re.findall(r"^(\S.*)\n  (.+)$", block, flags=re.M))


def cells(path):
    """The Markdown cells of a chapter."""
    found = json.loads(path.read_text("utf8"))["cells"]
    return ["".join(cell["source"]) for cell in found if cell["cell_type"] == "markdown"]


ENTRIES = entries()
CHAPTERS = {path.stem: cells(path) for path in sorted(BOOK.glob("*.ipynb"))}


def linked():
    """term in lower case → chapters that lead to it."""
    found = {}
    for chapter, texts in CHAPTERS.items():
        for term in ROLE.findall("\n".join(texts)):
            found.setdefault(term.lower(), []).append(chapter)
    return found


def test_terms_are_distinct_and_sorted():
    words = [term.lower().replace("–", "-") for term in ENTRIES]
    assert len(words) >= 60 and words == sorted(set(words))


@pytest.mark.parametrize("term", ENTRIES)
def test_an_entry_is_complete(term):
    chinese, _, english = ENTRIES[term].partition("。 ")
    assert CHINESE.search(chinese), "the Chinese word comes first, and ends with 。"
    assert re.match(r"[A-ZÅ$\\ηE]", english) and english.endswith((".", ".)"))
    assert re.search(r"\{(eq|doc)\}`", english) or "common random" in term, "where it is introduced"


@pytest.mark.parametrize("term", ENTRIES)
def test_a_term_is_linked_from_a_chapter(term):
    assert term.lower() in linked(), "no chapter leads here"


def test_every_link_finds_its_term():
    known = {term.lower() for term in ENTRIES}
    pages = [path.read_text("utf8") for path in BOOK.glob("*.md")]
    assert set(linked()) <= known
    assert {term.lower() for page in pages for term in ROLE.findall(page)} <= known


def test_a_chapter_leads_to_a_term_once():
    """A link at every use would be noise; one more is allowed where a later chapter defines it."""
    for term, chapters in linked().items():
        assert len(chapters) == len(set(chapters)), f"{term}: {chapters}"


def test_no_link_stands_in_a_heading_or_a_caption():
    for texts in CHAPTERS.values():
        for line in "\n".join(texts).splitlines():
            assert not ("{term}" in line and re.match(r"#|:::|```", line)), line


def test_the_list_from_the_chinese_has_every_term_once():
    listed = re.findall(r"\{term\}`([^`]+)`", PAGE.split("## From the Chinese")[1])
    assert sorted(listed) == sorted(ENTRIES)
