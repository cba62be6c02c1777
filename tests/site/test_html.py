"""The built files, read without a browser: links, anchors, pictures, markup, what is shipped."""

import re
from collections import Counter
from functools import cache
from urllib.parse import unquote, urldefrag, urlsplit

import html5lib
import pytest
import tinycss2
from bs4 import BeautifulSoup

PICTURE_KB = 100
REFERS = {"href", "src", "poster", "data"}  # attributes that hold an address
DATA = re.compile(r'(?<=")data:[^"]{200,}(?=")')  # pictures inside the page: megabytes of nothing
PHRASES_ONLY = ["pre", "summary", "button", "label", "span", "p", *(f"h{k}" for k in range(1, 7))]
BLOCKS = ["p", "div", "section", "ul", "ol", "dl", "table", "figure", "pre", "details", "h1", "h2"]
INTERACTIVE = ["a", "button", "input", "select", "textarea", "details"]


def text(path):
    return DATA.sub("data:,", path.read_text(encoding="utf8"))


@cache
def soup(path):
    return BeautifulSoup(text(path), "html.parser")


@cache
def anchors(path):
    return {tag["id"] for tag in soup(path).find_all(id=True)} | {"", "top"}


@pytest.fixture(scope="module")
def page(site, any_path):
    return site / any_path


def addresses_in_styles(css):
    """What a stylesheet asks for, by `url(…)` or `@import "…"`."""
    for token in tinycss2.parse_component_value_list(css):
        yield from addresses_of(token)


def addresses_of(token):
    if token.type == "url":
        yield token.value
    elif token.type == "function" and token.lower_name == "url":
        yield from (word.value for word in token.arguments if word.type == "string")
    for inner in getattr(token, "content", None) or getattr(token, "arguments", None) or ():
        yield from addresses_of(inner)


def addresses(path):
    """Every address that a page or a stylesheet names."""
    if path.suffix == ".css":
        yield from addresses_in_styles(path.read_text(encoding="utf8"))
        return
    for tag in soup(path).find_all(True):
        yield from (tag[name] for name in REFERS & tag.attrs.keys())
        yield from (part.split()[0] for part in tag.get("srcset", "").split(",") if part.strip())
        yield from addresses_in_styles(tag.get("style", ""))
        if tag.get("http-equiv", "").lower() == "refresh":
            yield tag["content"].partition("url=")[2]


def links(path, root):
    """(file, anchor) of every address that stays inside the site."""
    for address in addresses(path):
        target, anchor = urldefrag(address)
        where = urlsplit(target)
        if not where.scheme and not where.netloc:
            start = root if where.path.startswith("/") else path.parent
            file = start / unquote(where.path).lstrip("/") if where.path else path
            yield file.resolve(), unquote(anchor)


def lost(path, root):
    """The addresses that lead nowhere: no such file in the site, no such anchor in the page."""
    for file, anchor in links(path, root):
        if not file.is_file() or not file.is_relative_to(root.resolve()):
            yield str(file)
        elif file.suffix == ".html" and anchor not in anchors(file):
            yield f"{file.name}#{anchor}"


def test_links_lead_somewhere(page, site):
    assert list(lost(page, site)) == []


def test_the_root_leads_somewhere(site):
    assert list(links(site / "index.html", site))
    assert list(lost(site / "index.html", site)) == []


def test_styles_ask_for_nothing_that_is_not_there(site):
    sheets = list(site.rglob("*.css"))
    assert any(list(links(sheet, site)) for sheet in sheets)
    assert [address for sheet in sheets for address in lost(sheet, site)] == []


@pytest.fixture(scope="module")
def outside(site):
    """Every address of the site that leads elsewhere."""
    named = {address for page in site.rglob("*.html") for address in addresses(page)}
    return {a for a in named if urlsplit(a).scheme not in ("", "data", "mailto")}


def test_what_leaves_the_site_leaves_it_over_https(outside):
    assert outside
    assert not {a for a in outside if urlsplit(a).scheme != "https" or "dx.doi.org" in a}


def test_a_place_elsewhere_is_named_in_one_way(outside):
    def same(address):
        return re.sub(r"^https://(www\.)?|/?(#.*)?$", "", address).lower()

    names = {(same(address), urldefrag(address).url) for address in outside}
    ways = Counter(place for place, _ in names)
    assert [place for place, count in ways.items() if count > 1] == []


def test_pictures_are_described(page):
    for image in soup(page).find_all("img"):
        alt = image.get("alt", "")
        assert alt and not re.search(r"\.(png|svg|gif|jpe?g)$|^\S*/\S*$", alt), image.get("src")


def test_one_heading_of_the_first_level(page):
    assert len(soup(page).select("main h1:not(.onlyprint h1)")) == 1


def test_no_reference_is_left_unresolved(page):
    words = soup(page).find("main").get_text()
    assert not re.search(r"\{(eq|ref|numref|cite\w*|prf:ref|doc)\}`|\?\?\?", words)


def test_host_script_only_where_needed(page):
    loaded = any("/host.js" in tag.text for tag in soup(page).find_all("script"))
    assert loaded == bool(soup(page).select("[data-explorable]"))


def test_every_exercise_has_a_folded_solution(page):
    exercises = soup(page).select("div.exercise.admonition")
    solutions = soup(page).select("div.solution.admonition.dropdown")
    asked = {link["href"] for box in solutions for link in box.select("p.admonition-title a[href]")}
    assert {f"#{box['id']}" for box in exercises} == asked


def test_every_chapter_can_be_downloaded(page, site):
    if re.match(r"\d\d_", page.name):
        source = site / "_sources" / "book" / f"{page.stem}.ipynb"
        linked = {file for file, _ in links(page, site)}
        assert source.resolve() in linked


def test_a_browser_need_not_guess(site):
    """The parser of the HTML standard finds no error in any page."""
    for path in site.rglob("*.html"):
        parser = html5lib.HTMLParser()
        parser.parse(text(path))
        errors = [f"{path.name}, line {line}: {code}" for (line, _), code, _ in parser.errors]
        assert not errors, "\n".join(errors)


def test_every_id_is_given_once(page):
    counts = Counter(tag["id"] for tag in soup(page).find_all(id=True))
    assert [name for name, count in counts.items() if count > 1] == []


def test_elements_hold_what_they_may(page):
    """No block inside a phrase, no control inside another."""
    wrong = [
        f"{inner.name} in {outer.name}: {outer.get_text(' ', strip=True)[:60]}"
        for outer in soup(page).find_all(PHRASES_ONLY)
        for inner in outer.find_all(BLOCKS)
    ]
    wrong += [
        f"{inner.name} in {outer.name}: {outer.get_text(' ', strip=True)[:60]}"
        for outer in soup(page).find_all(["a", "button", "summary"])
        for inner in outer.find_all(INTERACTIVE)
    ]
    assert not wrong, "\n".join(wrong)


def test_names_of_other_elements_are_names_of_elements(page):
    """What a label, a description or a control points to is there."""
    known = anchors(page)
    for tag in soup(page).find_all(True):
        for name in ("for", "aria-labelledby", "aria-describedby", "aria-controls"):
            named = tag.get(name, "")
            assert set(named if isinstance(named, list) else named.split()) <= known, tag.name


def test_pages_have_a_language_and_titles_that_tell_them_apart(site):
    pages = {path: soup(path) for path in site.rglob("*.html") if path != site / "index.html"}
    titles = Counter(page.title.get_text(" ", strip=True) for page in pages.values())
    assert [title for title, count in titles.items() if count > 1 or not title] == []
    assert {page.html.get("lang") for page in pages.values()} == {"en"}


def test_nothing_needless_is_shipped(site):
    names = {path.name for path in site.rglob("*")}
    assert not {name for name in names if name.endswith((".py", ".pyc")) or name == "__pycache__"}
    megabytes = sum(path.stat().st_size for path in site.rglob("*") if path.is_file()) / 1e6
    assert megabytes < 25
    heavy = [
        path.name
        for path in (site / "_images").glob("*")
        if path.stat().st_size > 1000 * PICTURE_KB and path.suffix != ".gif"
    ]
    assert heavy == []
