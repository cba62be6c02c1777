"""What the eye notices: the book's own faces, pictures that belong to the page, true numbers."""

import io
import re
import sys

import pytest
import yaml
from fontTools.ttLib import TTFont
from PIL import Image
from test_html import soup

from tools.website import ROOT

sys.path.append(str(ROOT / "book" / "_ext"))
from typefaces import FACES, inside  # noqa: E402

FACE_KB = 40


def fonts_of(page, selector):
    """The faces that the letters of an element are really drawn with, and how many each."""
    session = page.context.new_cdp_session(page)
    session.send("DOM.enable")
    session.send("CSS.enable")
    root = session.send("DOM.getDocument")["root"]["nodeId"]
    node = session.send("DOM.querySelector", {"nodeId": root, "selector": selector})["nodeId"]
    fonts = session.send("CSS.getPlatformFontsForNode", {"nodeId": node})["fonts"]
    session.detach()
    return {font["familyName"]: font["isCustomFont"] for font in fonts}


@pytest.mark.parametrize("face", FACES)
def test_a_face_has_every_character_of_the_pages_and_little_else(site, face):
    file = site / "_static" / "fonts" / f"{face}.woff2"
    whole, cut = (set(TTFont(path).getBestCmap()) for path in (inside(FACES[face][0]), file))
    words = {ord(c) for page in (site / "book").rglob("*.html") for c in soup(page).get_text()}
    assert words & whole <= cut
    assert file.stat().st_size < 1000 * FACE_KB


@pytest.mark.parametrize("selector", [
    ".bd-article > section > p", ".bd-article h2", ".bd-article figcaption p",
    ".cell:not(.tag_hide-input) > .cell_input pre", ".bd-sidebar-primary .caption-text",
    ".sbm-explorable label",
])  # fmt: skip
def test_letters_are_drawn_with_the_books_faces(visit, selector):
    page = visit("book/03_langevin.html").page
    page.locator(".sbm-explorable label").first.wait_for()
    page.evaluate("document.fonts.ready.then(() => true)")
    fonts = fonts_of(page, selector)
    assert fonts and all(fonts.values()), fonts


def corner(page, picture):
    """Colour of the picture's first corner as the screen shows it."""
    shot = Image.open(io.BytesIO(picture.screenshot())).convert("RGB")
    return shot.getpixel((3, 3))


@pytest.mark.parametrize("scheme, ground", [("light", (255, 255, 255)), ("dark", (20, 24, 29))])
def test_a_picture_has_the_ground_of_its_page(visit, scheme, ground):
    page = visit("book/03_langevin.html", color_scheme=scheme).page
    picture = page.locator("figure.align-default img").first
    picture.scroll_into_view_if_needed()
    page.wait_for_function("picture => picture.complete", arg=picture.element_handle())
    assert max(abs(a - b) for a, b in zip(corner(page, picture), ground, strict=True)) <= 3


def test_the_landing_page_counts_truly(site):
    rows = soup(site / "book" / "index.html").select(".sbm-tally > div")
    shown = {row.dt.get_text(): int(row.dd.get_text()) for row in rows}
    slips = yaml.safe_load((ROOT / "book" / "errata.yml").read_text("utf8"))
    claims = (ROOT / "book" / "claims.md").read_text("utf8")
    pages = [soup(page) for page in (site / "book").glob("*.html")]
    alive = {f["data-explorable"] for page in pages for f in page.select("[data-explorable]")}
    assert shown == {
        "claims checked by tests": int(re.search(r"(\d+) checked by", claims)[1]),
        "mistakes of its sources corrected": len(slips),
        "live figures, no server": len(alive),
        "requests to anyone else": 0,
    }
