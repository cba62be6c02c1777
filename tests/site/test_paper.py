"""What comes out of the printer: a page by itself, and the whole book as one PDF."""

import re

import pytest
from pypdf import PdfReader
from test_html import soup

from tools import pdf

A4 = {"width": 642, "height": 970}  # CSS pixels between the margins
CUT = """() => { const paper = document.querySelector(".bd-article").getBoundingClientRect();
  return [...document.querySelectorAll(".bd-article :is(mjx-math, img, pre, table, p, h1, h2, h3)")]
    .filter((piece) => { const { width, left, right } = piece.getBoundingClientRect();
      return width && (left < paper.left - 1 || right > paper.right + 1); })
    .map((piece) => piece.tagName + " " + piece.textContent.slice(0, 40)); }"""
SEEN = """selector => [...document.querySelectorAll(selector)]
  .filter((each) => each.checkVisibility({ visibilityProperty: true }))
  .map((each) => each.outerHTML.slice(0, 60))"""
UNSEEN = SEEN.replace(".filter((each) => each", ".filter((each) => !each")
NEEDLESS = "button, nav, .headerlink, details:is(.hide, .film), output, input, canvas, summary svg"
NEEDED = ".solution section, .sd-card-body p, figure.explorable > img, figcaption"
UNSPELT = """() => [...document.querySelectorAll(".bd-article a.external:not(.citation a)")]
  .filter((link) => !getComputedStyle(link, "::after").content.includes(link.href)).map(String)"""
PALE = """() => [...document.querySelectorAll(".bd-article p")].filter((p) => {
  const [r, g, b] = getComputedStyle(p).color.match(/\\d+/g); return +r + +g + +b > 400; })
  .map((p) => p.textContent)"""


@pytest.fixture
def on_paper(visit):
    """`on_paper(path)`: a page as it is laid out for A4."""

    def show(path):
        page = visit(path, **A4, color_scheme="dark").page
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        page.emulate_media(media="print")
        return page

    return show


def test_a_page_prints_cleanly(on_paper, page_path):
    page = on_paper(page_path)
    assert page.evaluate(CUT) == []
    assert page.evaluate(SEEN, NEEDLESS) == []
    assert page.evaluate(UNSEEN, NEEDED) == []
    assert page.evaluate(UNSPELT) == []
    assert page.evaluate(PALE) == [], "the dark theme is on paper"


CHOSEN = ["book/index.html", "book/03_langevin.html", "book/glossary.html"]


@pytest.fixture(scope="module")
def printed(browser, site, tmp_path_factory):
    """Three pages of the book as one PDF: cover, contents, a chapter and what it leans on."""
    target = tmp_path_factory.mktemp("pdf") / "book.pdf"
    pdf.write(browser, site, target, CHOSEN)
    return PdfReader(target)


def words(page):
    return re.sub(r"\s+", " ", page.extract_text())


def test_the_pdf_says_what_it_is(printed):
    assert "drag, run and check" in printed.metadata.title
    assert printed.metadata.author == "The sbm-lite authors"
    root = printed.trailer["/Root"]
    assert root["/Lang"] == "en" and root["/MarkInfo"]["/Marked"]


def test_the_outline_has_every_page_and_section(site, printed):
    titles = [entry.title for entry in flat(printed.outline)]
    for path in CHOSEN:
        for heading in soup(site / path).select("article :is(h1, h2)"):
            assert heading.get_text().removesuffix("#") in titles


def chapters(printed):
    """The outline's entries of the highest level."""
    return [entry for entry in printed.outline if not isinstance(entry, list)]


def flat(outline):
    for entry in outline:
        yield from flat(entry) if isinstance(entry, list) else [entry]


def test_the_contents_tell_the_true_page(printed):
    text = words(printed.pages[1])
    where = printed.get_destination_page_number
    for entry in chapters(printed)[1:]:
        assert re.search(rf"{re.escape(entry.title)}\W+{where(entry) + 1}\b", text), entry.title


def test_links_lead_somewhere(printed):
    places = {name.removeprefix("/") for name in printed.named_destinations}
    notes = [note.get_object() for page in printed.pages for note in page.get("/Annots") or ()]
    assert len(notes) > 100
    for note in notes:
        if "/Dest" in note:
            assert note["/Dest"].removeprefix("/") in places
        else:
            assert note["/A"]["/URI"].startswith("https://")


def test_no_page_is_blank_and_nothing_is_left_to_press(printed):
    texts = [words(page) for page in printed.pages]
    assert 20 < len(texts) < 60
    assert all(len(text) > 150 for text in texts[1:])
    whole = " ".join(texts)
    assert "Solution to Exercise 3.5" in whole
    assert not [label for label in ("Show code", "Click to", "JavaScript") if label in whole]


def test_pictures_are_there(site, printed):
    """Every figure and explorable of chapter 3, the film apart."""
    figures = soup(site / CHOSEN[1]).select("article figure img")
    starts = [printed.get_destination_page_number(e) for e in chapters(printed)]
    assert sum(len(page.images) for page in printed.pages[starts[-2] : starts[-1]]) == len(figures)
