"""What other sites show of a link: true on every page, and a picture once there is an address."""

import io
import re
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from docutils import nodes
from PIL import Image
from test_html import soup

from tools.website import ROOT

sys.path.append(str(ROOT / "book" / "_ext"))
import cards  # noqa: E402

CHAPTERS = sorted(path.stem for path in (ROOT / "book").glob("[0-9]*.ipynb"))


def metas(page):
    tags = page.find_all("meta", content=True)
    return {tag.get("name") or tag.get("property"): tag["content"] for tag in tags}


@pytest.fixture(scope="module")
def pages(site):
    return {path: soup(path) for path in sorted((site / "book").rglob("*.html"))}


def test_every_page_says_what_it_is(pages):
    said = {}
    for path, page in pages.items():
        meta = metas(page)
        heading = page.select_one("article h1").contents[0].get_text()
        assert meta["og:title"].startswith(heading.strip()) and meta["twitter:card"] == "summary"
        assert meta["description"] == meta["og:description"]
        assert 20 < len(meta["description"]) <= cards.LONGEST + 1, path.name
        assert "og:image" not in meta and "og:url" not in meta  # no address is set
        said[meta["description"]] = path
    assert len(said) == len(pages)


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_chapter_is_described_by_its_question(site, chapter):
    page = soup(site / f"book/{chapter}.html")
    question = page.select_one("article h1 ~ p > em").get_text().replace("\\(", "")
    question = question.replace("\\)", "")
    assert question.endswith("?") and metas(page)["description"].startswith(f"{question} ")


def opening(*paragraphs):
    return SimpleNamespace(findall=lambda _: iter(paragraphs))


def test_a_long_description_ends_with_a_whole_word():
    assert cards.shortened("word, " * 60) == "word, " * 32 + "word…"


@pytest.mark.parametrize("name", [*CHAPTERS, "index"])
def test_a_card_is_small_and_nothing_in_it_overlaps(site, tmp_path, name):
    """As the build makes it, for an address that this site does not have."""
    config = SimpleNamespace(
        html_title="The book",
        project="p",
        root_doc="book/index",
        html_baseurl="https://example.org/book/",
    )
    app = SimpleNamespace(config=config, outdir=tmp_path)
    built = soup(site / f"book/{name}.html")
    question = nodes.paragraph(
        "", "", nodes.emphasis("", "Is this a question that takes two lines?")
    )
    context = {
        "title": built.title.get_text().split(" — ")[0],
        "metatags": "",
        "body": (site / f"book/{name}.html").read_text("utf8"),
    }
    cards.describe(app, f"book/{name}", "", context, opening(question))
    meta = metas(cards_soup(context["metatags"]))
    assert meta["og:url"] == f"https://example.org/book/book/{name}.html"
    assert meta["og:image"] == f"https://example.org/book/_static/cards/{name}.png"
    assert len(meta["og:image:alt"]) > 100 and meta["twitter:card"] == "summary_large_image"
    data = (tmp_path / "_static" / "cards" / f"{name}.png").read_bytes()
    assert len(data) <= 60_000
    pixels = np.asarray(Image.open(io.BytesIO(data)).convert("L"))
    assert pixels.shape == (int(meta["og:image:height"]), int(meta["og:image:width"]))
    left = cards.WIDTH - 2 * cards.MARGIN - cards.STILL
    gutter, below = pixels[:, left + 2 : left + cards.MARGIN - 2], pixels[-cards.MARGIN + 4 :, 20:]
    assert gutter.min() > 240 and below.min() > 240
    text, figure = pixels[:, 20:left], pixels[:, left + cards.MARGIN :]
    assert (text < 100).mean() > 0.01 and (figure < 200).mean() > 0.01


def cards_soup(tags):
    from bs4 import BeautifulSoup

    return BeautifulSoup(tags, "html.parser")


def test_a_page_without_a_live_figure_shows_the_books_card(tmp_path):
    config = SimpleNamespace(
        html_title="The book",
        project="p",
        root_doc="book/index",
        html_baseurl="https://example.org/",
    )
    context = {"title": "A &amp; <em>B</em>", "metatags": "", "body": "<p>Text</p>"}
    app = SimpleNamespace(config=config, outdir=tmp_path)
    cards.describe(app, "book/notation", "", context, opening(nodes.paragraph("", 'Say "x".')))
    meta = metas(cards_soup(context["metatags"]))
    assert meta["og:image"] == "https://example.org/_static/cards/index.png"
    assert meta["og:title"] == "A & B" and meta["description"] == 'Say "x".'
    assert not re.search("<em>", context["metatags"]) and not list(tmp_path.iterdir())
