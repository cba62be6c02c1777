"""Pages carry what they need and no more, and nothing that was left out is missed."""

import sys

import pytest
import tinycss2
from sphinx.errors import ExtensionError
from test_html import soup

from tools.notebooks import repository
from tools.website import ROOT

sys.path.append(str(ROOT / "book" / "_ext"))
import light_pages  # noqa: E402

SHOWN = """icon => { const { width, height } = icon.getBoundingClientRect();
  const { width: w, height: h } = icon.querySelector("path").getBBox();
  return icon.checkVisibility() && Math.min(width, height, w, h) > 7; }"""


@pytest.fixture(scope="module")
def icons():
    return light_pages.Icons()


def rules(css, *names):
    parsed = tinycss2.parse_stylesheet(css, skip_whitespace=True)
    return light_pages.only_used(parsed, set(names))


def test_mathjax_comes_only_with_formulas(site, page_path):
    page = soup(site / page_path)
    assert bool(page.select("script[src*=mathjax]")) == bool(page.select(".math"))


def test_mathjax_brings_no_menu(visit):
    page = visit("book/03_langevin.html").page
    assert page.evaluate("MathJax._.ui === undefined && MathJax._.a11y.sre === undefined")


def test_every_icon_is_drawn(site, page_path):
    for icon in soup(site / page_path).select("[class*='fa-']"):
        assert icon.name == "svg" and len(icon.path["d"]) > 30
        assert icon.get("aria-hidden") == "true" or icon.title.string


def test_icons_show_in_every_state(visit):
    page = visit("book/03_langevin.html").page
    header = page.locator(".article-header-buttons svg.svg-inline--fa")
    always = 5 if repository()["url"] else 3  # launch, source; file, screen, mode
    assert sum(icon.evaluate(SHOWN) for icon in header.all()) == always
    switch = page.locator(".theme-switch-button")
    shown = set()
    for _ in range(3):
        drawn = [icon for icon in switch.locator("svg").all() if icon.evaluate(SHOWN)]
        assert len(drawn) == 1
        shown.add(drawn[0].get_attribute("data-mode"))
        switch.click()
    assert shown == {"auto", "light", "dark"}
    page.locator(".dropdown-download-buttons > button").click()
    assert all(i.evaluate(SHOWN) for i in page.locator(".dropdown-menu.show svg").all())
    page.keyboard.press("Escape")
    page.keyboard.press("Control+k")
    assert page.locator("#pst-search-dialog[open] svg").evaluate(SHOWN)


def test_icons_show_on_a_phone(visit):
    page = visit("book/03_langevin.html", width=390, height=800).page
    for toggle in (".primary-toggle", ".secondary-toggle"):
        button = page.locator(f"button{toggle}:visible").first
        assert button.locator("svg").evaluate(SHOWN)
        button.click()
        assert page.locator("dialog[open]").count() == 1
        page.keyboard.press("Escape")


def test_the_copy_button_ticks(visit):
    page = visit("book/03_langevin.html", permissions=["clipboard-write"]).page
    page.locator("div.highlight:visible").first.hover()
    button = page.locator("div.highlight:visible button.copybtn").first
    assert button.locator("svg.icon-tabler-copy").bounding_box()["width"] > 7
    button.click()
    assert button.locator("svg.icon-tabler-check").bounding_box()["width"] > 7


def test_a_tooltip_has_its_arrow(visit):
    page = visit("book/03_langevin.html").page
    page.locator(".theme-switch-button").hover()
    arrow = page.locator(".tooltip.show .tooltip-arrow")
    arrow.wait_for()
    colour = arrow.evaluate("arrow => getComputedStyle(arrow, '::before').borderBottomColor")
    assert colour != "rgba(0, 0, 0, 0)"


def test_the_icon_of_a_search_match_comes_with_its_font(visit):
    page = visit("book/03_langevin.html?highlight=noise").page
    page.locator("#searchbox .highlight-link a").wait_for()
    page.evaluate("document.fonts.ready.then(() => true)")
    loaded = "[...document.fonts].filter(f => f.status === 'loaded').map(f => f.family + f.weight)"
    assert "Font Awesome 6 Free900" in page.evaluate(loaded)


def test_the_mode_is_chosen_before_the_page_is_shown(visit):
    page = visit("book/03_langevin.html", color_scheme="dark").page
    page.route("**/pydata-sphinx-theme.js*", lambda route: route.abort())
    page.goto(page.url)
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"


THERE = """() => { const { y } = document.getElementById("c5-13").getBoundingClientRect();
  return y >= 0 && y < 120; }"""


def rests_there(page):
    page.wait_for_function(THERE)  # the theme lets the page glide
    page.wait_for_timeout(500)
    return page.evaluate(THERE)


def test_a_link_into_a_page_leads_there_and_back_again(visit):
    page = visit("book/claims.html#c5-13").page
    assert rests_there(page)
    page.reload()
    assert rests_there(page)


@pytest.mark.parametrize("classes", ["fa-solid fa-no-such", "fa-solid", "fa-brands fa-github"])
def test_an_icon_without_a_picture_stops_the_build(icons, classes):
    with pytest.raises(ExtensionError, match="No picture"):
        icons.svg(classes, "")


def test_an_icons_title_is_its_name(icons):
    assert "<title>Dark</title>" in icons.svg("fas fa-moon", ' title="Dark"')
    assert 'aria-hidden="true"' in icons.svg("fas fa-moon", "")


def test_rules_that_can_match_stay():
    assert rules("a.b, .c > #d { x: y }", "b") == "a.b{x: y}"
    assert rules(".a:not(.never) { x: y }", "a") == ".a:not(.never){x: y}"
    assert rules("@media print { .a {} .b { x: y } }", "b") == "@media print {.b{x: y}}"
    assert rules("@font-face { x: y } p { x: y }") == "@font-face { x: y }\np{x: y}"
    assert rules("/*! Licence: MIT */ /* aside */ .a { x: y }") == "/*! Licence: MIT */"
