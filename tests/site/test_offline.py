"""The site where little is to be had: no network, no root, no server, no JavaScript."""

import pytest
from test_explorables import SHOWN

from tools.server import served

TYPESET = """async () => { await window.MathJax?.startup?.promise; await document.fonts.ready;
  return !document.querySelector(".math") || [...document.fonts].some(
    (font) => font.family.startsWith("MJX") && font.status === "loaded"); }"""

ALL_OF_THEM = ".bd-sidebar-primary a.reference"


class Reader:
    """A browser that gets nothing but the files below one address, and what its console says."""

    def __init__(self, browser, root, **options):
        self.root, self.said = root, []
        self.page = browser.new_context(**options).new_page()
        self.page.route(lambda url: not url.startswith((root, "data:", "blob:")), self.refuse)
        self.page.on("console", self.heard)
        self.page.on("pageerror", lambda error: self.said.append(str(error)))

    def heard(self, message):
        if message.type in ("error", "warning"):
            self.said.append(message.text)

    def refuse(self, route):
        self.said.append(f"asks for {route.request.url}")
        route.abort()

    def open(self, path):
        self.page.goto(f"{self.root}/{path}")
        return self.page


@pytest.fixture
def below_a_prefix(browser, site, tmp_path):
    """A reader of the site as `python -m http.server` serves it from a folder further up."""
    (tmp_path / "some").mkdir()
    (tmp_path / "some" / "prefix").symlink_to(site.resolve())
    with served(tmp_path) as address:
        yield Reader(browser, f"{address}/some/prefix")


@pytest.fixture
def on_disk(browser, site):
    """A reader who has double-clicked a page."""
    return Reader(browser, site.resolve().as_uri())


def test_below_a_prefix_without_a_network(below_a_prefix):
    page = below_a_prefix.open("index.html")
    page.wait_for_url("**/some/prefix/book/index.html")
    page.locator("[data-explorable] canvas").first.wait_for()
    page.goto(page.url.replace("index", "03_langevin"))
    assert page.evaluate(TYPESET)
    page = below_a_prefix.open("search.html?q=langevin")
    page.locator("#search-results li p.context").first.wait_for()
    assert below_a_prefix.said == []


def test_a_page_opened_from_disk(on_disk, page_path):
    page = on_disk.open(page_path)
    assert page.evaluate(TYPESET)
    for poster in page.locator("[data-explorable] > img").all():
        poster.scroll_into_view_if_needed()
        assert poster.evaluate(SHOWN)
    assert on_disk.said == []


def test_the_ways_from_page_to_page_on_disk(on_disk):
    page = on_disk.open("index.html")
    page.wait_for_url("**/book/index.html")
    page.locator(ALL_OF_THEM, has_text="Langevin dynamics").click()
    page.wait_for_url("**/book/03_langevin.html")
    before = page.evaluate("document.documentElement.dataset.mode")
    page.locator(".theme-switch-button").click()
    assert page.evaluate("document.documentElement.dataset.mode") != before
    on_disk.open("search.html?q=langevin")
    page.locator("#search-results li a").first.click()
    page.wait_for_url("**/book/**")
    assert on_disk.said == []


WITHOUT_USE = "button:not([data-bs-toggle=dropdown])"


@pytest.mark.parametrize("width", [390, 1280])
def test_without_javascript(browser, base_url, width):
    size = {"width": width, "height": 800}
    page = Reader(browser, base_url.rstrip("/"), java_script_enabled=False, viewport=size).page
    page.goto(f"{base_url}book/03_langevin.html")
    assert "JavaScript is off" in page.locator(".sbm-noscript").text_content()
    assert r"\nabla" in " ".join(page.locator(".math").all_text_contents())
    assert not [each for each in page.locator(WITHOUT_USE).all() if each.is_visible()]
    page.get_by_role("link", name="All pages").click()
    page.locator(ALL_OF_THEM, has_text="Glossary").click()
    page.wait_for_url("**/glossary.html")


def test_search_without_javascript_says_where_to_look(browser, base_url):
    page = browser.new_context(java_script_enabled=False).new_page()
    page.goto(f"{base_url}search.html")
    assert "needs JavaScript" in page.locator("main").text_content()
    page.locator("main").get_by_role("link", name="glossary").click()
    page.wait_for_url("**/book/glossary.html")
