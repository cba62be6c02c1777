"""The built files, read without a browser: links, anchors, pictures, what is shipped."""

import re
from functools import cache
from urllib.parse import unquote, urldefrag, urlsplit

import pytest
from bs4 import BeautifulSoup

PICTURE_KB = 100


@cache
def soup(path):
    return BeautifulSoup(path.read_text(encoding="utf8"), "html.parser")


@cache
def anchors(path):
    return {tag["id"] for tag in soup(path).find_all(id=True)} | {"", "top"}


@pytest.fixture
def page(site, page_path):
    return site / page_path


def links(path):
    """(file, anchor) of every link of the page that stays inside the site."""
    for tag in soup(path).find_all(href=True):
        target, anchor = urldefrag(tag["href"])
        where = urlsplit(target)
        if not where.scheme:
            file = path.parent / unquote(where.path) if where.path else path
            yield file.resolve(), unquote(anchor)


def test_links_lead_somewhere(page):
    lost = [str(file) for file, _ in links(page) if not file.exists()]
    assert not lost, lost


def test_anchors_exist(page):
    lost = [f"{file.name}#{anchor}" for file, anchor in links(page)
            if file.suffix == ".html" and anchor not in anchors(file)]
    assert not lost, lost


def test_pictures_are_described(page):
    for image in soup(page).find_all("img"):
        alt = image.get("alt", "")
        assert alt and not re.search(r"\.(png|svg|gif|jpe?g)$|^\S*/\S*$", alt), image.get("src")


def test_one_heading_of_the_first_level(page):
    assert len(soup(page).select("article h1")) == 1


def test_no_reference_is_left_unresolved(page):
    words = soup(page).find("article").get_text()
    assert not re.search(r"\{(eq|ref|numref|cite\w*|prf:ref|doc)\}`|\?\?\?", words)


def test_host_script_only_where_needed(page):
    loaded = any("host.js" in tag["src"] for tag in soup(page).find_all("script", src=True))
    assert loaded == bool(soup(page).select("[data-explorable]"))


def test_nothing_needless_is_shipped(site):
    names = {path.name for path in site.rglob("*")}
    assert not {name for name in names if name.endswith((".py", ".pyc")) or name == "__pycache__"}
    megabytes = sum(path.stat().st_size for path in site.rglob("*") if path.is_file()) / 1e6
    assert megabytes < 25
    heavy = [path.name for path in (site / "_images").glob("*")
             if path.stat().st_size > 1000 * PICTURE_KB and path.suffix != ".gif"]
    assert heavy == []
