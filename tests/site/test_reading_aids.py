"""What helps a reader along: previews, the neighbours of a page, symbols found by name."""

import re
import sys
from types import SimpleNamespace

import pytest
from axe_playwright_python.sync_playwright import Axe
from bs4 import BeautifulSoup
from docutils import nodes
from sphinx.errors import ConfigError
from test_html import soup

from tools import notebooks
from tools.server import served
from tools.website import ROOT, toc_pages

sys.path.append(str(ROOT / "book" / "_ext"))
import reading_aids  # noqa: E402
import repository  # noqa: E402

# Previews

PREVIEW, STILL = "#sbm-preview", {"reduced_motion": "reduce"}
TWICE = """() => { const ids = [...document.querySelectorAll("[id]")].map((e) => e.id);
  return ids.filter((id, k) => ids.indexOf(id) !== k); }"""
KINDS = {  # which links of chapter 6, and what their previews say and show
    "glossary.html#term-": ("", ".sbm-preview-name + .sbm-preview-text"),
    "claims.html#c6-": ("Holds.", ".sbm-preview-name + p"),
    "errata.html#e": ("True:", ".sbm-preview-name + p"),
    "#equation-": ("(6.", "mjx-container mjx-math"),
    "02_score_function.html#equation-": ("(2.", "mjx-container mjx-math"),
    "#fig-": ("Fig. 6.", "img[alt][src*=_images]"),
    "references.html#": ("20", ""),
}


@pytest.fixture(scope="module")
def chapter(browser, base_url):
    """Chapter 6, with a list of all that it asks for once it is there."""
    page = browser.new_page(viewport={"width": 1280, "height": 900}, reduced_motion="reduce")
    page.goto(f"{base_url}book/06_denoising_score_matching.html", wait_until="networkidle")
    page.evaluate("() => window.MathJax.startup.promise.then(() => true)")
    page.asked = []
    page.on("request", lambda request: page.asked.append(request.url))
    yield page
    page.close()


def link(page, address):
    return page.locator(f"article p a[href*='{address}']:not(.headerlink):visible").first


def away(page):
    page.mouse.move(5, 5)
    page.locator(PREVIEW).wait_for(state="hidden")


@pytest.mark.parametrize("address", KINDS)
def test_a_link_shows_what_it_leads_to(chapter, address):
    words, inside = KINDS[address]
    (at := link(chapter, address)).hover()
    preview = chapter.locator(PREVIEW)
    preview.wait_for()
    assert words in preview.inner_text()
    assert at.get_attribute("aria-describedby") == "sbm-preview" and not at.get_attribute("title")
    if inside:
        assert preview.locator(inside).first.bounding_box()["width"] > 20
    assert preview.locator("a, [id], [tabindex]").count() == 0
    assert "\\(" not in preview.inner_text() and chapter.evaluate(TWICE) == []
    away(chapter)
    assert at.get_attribute("aria-describedby") is None


def test_by_keyboard_and_fetched_once_for_a_reader_who_asks(visit):
    opened = visit("book/checks.html", color_scheme="dark", **STILL)
    page, asked = opened.page, []
    page.on("request", lambda request: asked.append(request.url))
    badge = link(page, "claims.html#c3-13")
    badge.focus()
    page.locator(PREVIEW).wait_for()
    assert badge.evaluate("link => link === document.activeElement")
    assert [rule["id"] for rule in Axe().run(page).response["violations"]] == []
    page.keyboard.press("Escape")
    page.locator(PREVIEW).wait_for(state="hidden")
    page.keyboard.press("Tab")
    page.keyboard.press("Shift+Tab")
    page.locator(PREVIEW).wait_for()
    badge.evaluate("link => link.blur()")
    page.locator(PREVIEW).wait_for(state="hidden")
    assert len([url for url in asked if ".html" in url]) == 1


def test_the_pointer_can_go_into_a_preview(chapter):
    link(chapter, "claims.html#c6-").hover()
    chapter.locator(PREVIEW).wait_for()
    chapter.locator(PREVIEW).hover()
    chapter.wait_for_timeout(600)
    assert chapter.locator(PREVIEW).is_visible()
    away(chapter)


# Whether a preview opened. Timers of one page go off in the order of their times, however late.
PASS = """async (link) => {
  let opened = false;
  const wait = (ms) => new Promise((go) => setTimeout(go, ms));
  const say = (type) =>
    link.dispatchEvent(new PointerEvent(type, { pointerType: "mouse", bubbles: true }));
  addEventListener("beforetoggle", ({ newState }) => { opened ||= newState === "open"; }, true);
  say("pointerover");
  await wait(100);
  say("pointerout");
  await wait(600);
  return opened;
}"""


def test_a_pointer_that_passes_opens_nothing(chapter):
    assert not link(chapter, "claims.html#c6-").evaluate(PASS)


def test_a_finger_opens_nothing(visit):
    page = visit("book/checks.html", width=390, has_touch=True).page
    page.evaluate("addEventListener('click', (event) => event.preventDefault(), true)")
    link(page, "claims.html#c3-").tap()
    page.wait_for_timeout(600)
    assert page.locator(PREVIEW).count() == 0
    link(page, "claims.html#c3-").dispatch_event("pointerover", {"pointerType": "touch"})
    page.wait_for_timeout(600)  # a finger that stays
    assert page.locator(PREVIEW).count() == 0


def test_a_preview_fits_a_narrow_window(visit):
    page = visit("book/08_ddpm_connection.html", width=390, color_scheme="dark").page
    link(page, "#equation-eq-ddpm-forward").hover()
    page.locator(PREVIEW).wait_for()
    box = page.locator(PREVIEW).bounding_box()
    formula = page.locator(f"{PREVIEW} mjx-math").first.bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= 390
    assert box["x"] < formula["x"] and formula["x"] + formula["width"] < box["x"] + box["width"]


def test_where_no_page_may_be_read_nothing_is_said(visit):
    opened = visit("book/checks.html")
    opened.page.evaluate("() => { fetch = () => Promise.reject(new TypeError('a file')); }")
    link(opened.page, "claims.html#c3-").hover()
    opened.page.wait_for_timeout(600)
    assert not opened.page.locator(PREVIEW).is_visible() and not opened.complaints


# How far one has read

SCROLLED = """share => { const { offsetHeight } = document.querySelector("article");
  scrollTo(0, share * (offsetHeight - innerHeight)); }"""

GROWN = """([bar, share]) =>
  Math.abs(bar.getBoundingClientRect().width / innerWidth - share) < 0.04"""


@pytest.mark.parametrize("native", [True, False])
def test_the_bar_grows_with_reading(browser, base_url, native):
    page = browser.new_page(viewport={"width": 1000, "height": 800})
    if not native:
        page.route("**/aids.css*", without_timelines)
        page.add_init_script("CSS.supports = () => false")
    page.goto(f"{base_url}book/02_score_function.html", wait_until="networkidle")
    bar = page.locator(".sbm-progress")
    for share in (0, 0.5, 2):
        page.evaluate(SCROLLED, share)
        page.wait_for_function(GROWN, arg=[bar.element_handle(), min(share, 1)])
    assert bar.get_attribute("aria-hidden") == "true"
    page.close()


def without_timelines(route):
    css = route.fetch().text()
    assert "animation-timeline" in css
    route.fulfill(body=css.replace("animation-timeline", "none"), content_type="text/css")


def piece(text, start, end):
    """The part of a page between two marks: much faster to read than all of it."""
    return BeautifulSoup(start + text.split(start, 1)[1].split(end, 1)[0] + end, "html.parser")


def test_only_chapters_have_a_bar(site):
    for path in toc_pages():
        bars = (site / path).read_text(encoding="utf8").count('class="sbm-progress"')
        assert bars == bool(re.search(r"/\d\d_", path)), path


# The neighbours


def test_neighbours_are_introduced(site):
    pages = toc_pages()
    texts = {path: (site / path).read_text(encoding="utf8") for path in pages}
    for k, path in enumerate(pages):
        links = piece(texts[path], '<nav class="prev-next-area"', "</nav>").find_all("a")
        near = {"prev": pages[k - 1] if k else None, "next": (pages + [None])[k + 1]}
        assert [a["rel"][0] for a in links] == [side for side in near if near[side]]
        start = '<article class="bd-article" id="text">'
        for a in links:
            title, line = (a.select_one(f".prev-next-{part}") for part in ("title", "opening"))
            there = piece(texts[near[a["rel"][0]]], start, "</p>\n<")
            first = re.sub(r"\\\((.+?)\\\)", r"\1", there.select("h1 ~ p")[0].get_text())
            assert there.h1.get_text().startswith(title.get_text())
            assert first.startswith(line.get_text()) and re.search(r"[.?!]$", line.get_text())


def test_an_opening_is_a_question_or_a_sentence():
    question = nodes.paragraph("", "", nodes.emphasis("", "Why?"))
    text = nodes.paragraph("", "Of 3.5 parts\none is ")
    text += [nodes.math("", "Z"), nodes.Text(". No more.")]
    stopless = nodes.paragraph("", "All of it: no stop")
    for paragraphs, said in (
        ([question, text], ("Why?", "Of 3.5 parts one is Z.")),
        ([text.deepcopy()], ("", "Of 3.5 parts one is Z.")),
        ([stopless], ("", "All of it: no stop")),
    ):
        assert reading_aids.opening(nodes.section("", *paragraphs)) == said


# Symbols


def test_a_letter_has_its_names():
    said = {r"\bar\alpha_t": ["ᾱ", "alpha bar", "bar alpha"], r"\varepsilon": ["ε", "epsilon"],
            r"\mathrm{KL}(p\Vert r)": ["KL", "KL"], r"J_{\rm ESM}": ["J", "J", "J ESM"],
            r"\nabla\cdot s": ["∇", "nabla"], r"\tilde x": ["x̃", "x tilde", "tilde x"]}  # fmt: skip
    assert {formula: reading_aids.names_of_letter(formula) for formula in said} == said


QUERIES = {  # what a reader types, and the first cell of the row that comes first
    "sigma": r"\(\sigma\)", "σ": r"\(\sigma\)", "eta": r"\(\eta\)", "η": r"\(\eta\)",
    "alpha bar": r"\(\bar\alpha_t\)", "ᾱ": r"\(\bar\alpha_t\)", "alpha_bars": r"\(\bar\alpha_t\)",
    "nabla": r"\(\nabla s\)", "epsilon": r"\(\varepsilon\)", "tau": r"\(\tau\)",
    "step size": "step size", "score": "score", "Fisher divergence": "Fisher divergence",
}  # fmt: skip


@pytest.fixture(scope="module")
def search(browser, base_url):
    page = browser.new_page()
    page.goto(f"{base_url}search.html?q=x")
    page.locator("#search-results li a").first.wait_for()
    yield page
    page.close()


FIRST = """query => { const { promise, resolve } = Promise.withResolvers();
  const results = Search._performSearch(...Search._parseQuery(query));
  resolve(results.at(-1)); return promise; }"""


@pytest.mark.parametrize("query", QUERIES)
def test_a_symbol_is_found_by_name(search, site, query):
    page, title, anchor, *_ = search.evaluate(FIRST, query)
    row = soup(site / f"{page}.html").select_one(anchor)
    assert QUERIES[query] in (row.td or row).get_text()
    assert query.lower() in title and page in ("book/notation", "book/glossary")


def test_a_result_is_reached_by_keyboard(search):
    search.keyboard.press("Control+k")
    search.keyboard.type("step size")
    search.keyboard.press("Enter")
    search.wait_for_url("**/search.html?q=step+size*")
    search.locator("#search-results li a").nth(1).wait_for()
    result = search.locator("#search-results li a[href*='notation.html#symbol']").first
    for _ in range(60):
        if result.evaluate("link => link === document.activeElement"):
            break
        search.keyboard.press("Tab")
    search.keyboard.press("Enter")
    search.wait_for_url("**/notation.html#symbol-*")
    assert "step size" in search.locator("tr:target").inner_text()


def test_an_excerpt_is_text_without_tex_or_buttons(search, base_url):
    search.goto(f"{base_url}search.html?q=score")
    search.locator("#search-results p.context").nth(5).wait_for()
    excerpts = search.locator("#search-results p.context").all_inner_texts()
    noise = re.compile(r"\\\w|System Settings|JavaScript is off")
    assert not [text for text in excerpts if noise.search(text)]
    asked = "([text, anchor]) => Search.htmlToText(text, anchor)"
    page = r"""<article class="bd-article"><p id="a.b">From there at
      <span class="math">\(\sigma^2\)</span> and <span class="math">\(\tfrac12 x\)</span>.</p>
      <div class="math">\[ y \]</div>End<a class="headerlink">#</a></article>"""
    assert search.evaluate(asked, [page, "#a.b"]) == "From there at σ² and …."
    assert search.evaluate(asked, [page, ""]).strip().endswith(". End")
    assert search.evaluate(asked, ["<p>elsewhere", ""]) == ""


# Code, notebooks


def test_a_copy_button_has_a_name_and_a_place_in_the_tab_order(chapter):
    buttons = chapter.locator("button.copybtn")
    assert buttons.count() > 20
    names = buttons.evaluate_all("all => all.map((b) => b.ariaLabel ?? b.dataset.tooltip)")
    assert set(names) == {"Copy"} or set(names) == {"Copy to clipboard"}
    assert set(buttons.evaluate_all("all => all.map((b) => b.tabIndex)")) == {0}


def test_the_notebook_to_download_is_the_committed_one(site):
    for path in (ROOT / "book").glob("0*.ipynb"):
        page = site / "book" / f"{path.stem}.html"
        header = piece(page.read_text(encoding="utf8"), '<div class="bd-header-article', "</ul>")
        (link,) = header.select(".btn-download-source-button")
        assert (page.parent / link["href"]).read_bytes() == path.read_bytes()


# The repository


def config(url="", baseurl=""):
    options = {"repository_url": url, "launch_buttons": {}}
    return SimpleNamespace(html_theme_options=options, html_baseurl=baseurl)


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("", ""),
        ("https://github.com/You/book", "https://you.github.io/book/"),
        ("https://github.com/you/book.git", "https://you.github.io/book/"),
        ("https://github.com/you/You.github.io/", "https://you.github.io/"),
    ],
)
def test_the_address_of_the_site_follows_from_the_repository(url, address):
    assert repository.site_url(config(url)) == address
    assert repository.site_url(config(url, "https://book.example")) == "https://book.example/"


def test_an_address_that_is_none_stops_the_build():
    with pytest.raises(ConfigError, match="USER/NAME"):
        repository.site_url(config("https://github.com/you"))


BUTTONS = {"edit": "/edit/main/book/03_langevin.ipynb", "issues": "/issues/new?title=Mistake+in+3"}


def test_buttons_lead_to_the_repository_if_there_is_one(site):
    """The same test holds before the address is set in `_config.yml` and after."""
    url = notebooks.repository()["url"]
    text = (site / "book/03_langevin.html").read_text(encoding="utf8")
    header = piece(text, '<div class="bd-header-article', '<div id="searchbox">')
    away = [a["href"] for a in header.select("a[href^=http]")]
    assert len(away) == (5 if url else 0) and ('rel="canonical"' in text) == bool(url)
    for name, end in BUTTONS.items() if url else ():
        (button,) = header.select(f".btn-source-{name}-button")
        assert button["href"].startswith(url.removesuffix(".git") + end)
    for page in ["search.html", "404.html", *toc_pages()]:
        assert "github.com/executablebooks" not in (site / page).read_text(encoding="utf8")


# The page for an address that leads nowhere


def test_the_page_for_a_wrong_address_works_at_any_depth(browser, site, tmp_path):
    prefix = piece((site / "404.html").read_text("utf8"), "<head>", "</head>").link["href"]
    folder = tmp_path / prefix.split("_static")[0].strip("/")
    folder.parent.mkdir(parents=True, exist_ok=True)
    if folder != tmp_path:
        folder.symlink_to(site)
    with served(tmp_path if folder != tmp_path else site) as address:
        page, bad = browser.new_page(), []
        lost = {"content_type": "text/html", "path": site / "404.html"}
        page.route("**/a/wrong/address.html", lambda route: route.fulfill(**lost))
        page.on("response", lambda answer: answer.status >= 400 and bad.append(answer.url))
        page.goto(f"{address}/a/wrong/address.html", wait_until="networkidle")
        assert page.locator("article h1").inner_text() == "Page not found" and bad == []
        assert page.locator("article li a").count() == len(toc_pages()) - 1
        page.get_by_label("Search the book").fill("burn-in")
        page.keyboard.press("Enter")
        page.wait_for_url("**/search.html?q=burn-in")
        page.locator("#search-results li a").first.wait_for()
        page.close()
