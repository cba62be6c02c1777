"""Each page says what it may do, and the browser holds it to that."""

import base64
import hashlib
import sys

import pytest
from bs4 import BeautifulSoup
from sphinx.errors import ExtensionError
from test_html import text

from tools.website import ROOT

sys.path.append(str(ROOT / "book" / "_ext"))
import policy  # noqa: E402

CHAPTER = "book/03_langevin.html"


def rules(page):
    """The policy of a page: what each kind of thing may come from."""
    (tag,) = page.select("meta[http-equiv='Content-Security-Policy']")
    return {name: sources for name, *sources in map(str.split, tag["content"].split(";"))}


def named(script):
    """A script's name in a policy, as the standard has it."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


@pytest.fixture(scope="module")
def pages(site):
    found = {path: BeautifulSoup(text(path), "html.parser") for path in site.rglob("*.html")}
    assert len(found) > 50
    return found


def test_every_page_has_its_policy_before_anything_it_is_about(pages):
    for path, page in pages.items():
        charset, rule, *_ = page.head.find_all(True)
        assert charset.get("charset") == "utf-8", path
        assert rule["http-equiv"] == "Content-Security-Policy", path


def test_what_is_not_named_is_not_had(pages):
    for path, page in pages.items():
        asked = rules(page)
        assert asked["default-src"] == asked["base-uri"] == ["'none'"], path
        named_hosts = {s for sources in asked.values() for s in sources if "sha256" not in s}
        assert named_hosts <= {"'none'", "'self'", "file:", "data:", "blob:", "'unsafe-inline'"}
        named_scripts = {s for s in asked["script-src"] if "sha256" not in s}
        assert named_scripts == {"'self'", "file:"}, path


def test_the_scripts_of_a_page_are_those_it_names(pages):
    for path, page in pages.items():
        here = {named(tag.string) for tag in page.find_all("script", src=False)}
        written = [s.string.partition("`")[2] for s in page.find_all("script", src=False)
                   if "document.write(" in s.string]  # fmt: skip
        for part in written:
            inner = BeautifulSoup(part.replace(r"<\/", "</"), "html.parser")
            here |= {named(tag.string) for tag in inner.find_all("script", src=False)}
        assert {s for s in rules(page)["script-src"] if "sha256" in s} == here, path


def test_no_attribute_is_a_script(pages):
    for path, page in pages.items():
        for tag in page.find_all(True):
            assert not [name for name in tag.attrs if name.startswith("on")], path
            addresses = (tag.get(name, "") for name in ("href", "src", "action"))
            assert not [a for a in addresses if a.lstrip().lower().startswith("javascript:")], path


INJECTED = [  # an element, what it is given, and the rule that it breaks
    ("script", {"textContent": "window.ran = true"}, "script-src-elem"),
    ("script", {"src": "data:text/javascript,window.ran=true"}, "script-src-elem"),
    ("script", {"src": "http://localhost:1/a.js"}, "script-src-elem"),
    ("a", {"href": "javascript:void(window.ran = true)"}, "script-src-elem"),
    ("p", {"innerHTML": "<img src='data:,' onerror='window.ran = true'>"}, "script-src-attr"),
    ("img", {"src": "http://localhost:1/a.png"}, "img-src"),
    ("link", {"rel": "stylesheet", "href": "http://localhost:1/a.css"}, "style-src-elem"),
    ("iframe", {"src": "http://localhost:1/"}, "frame-src"),
    ("object", {"data": "http://localhost:1/"}, "object-src"),
    ("base", {"href": "http://localhost:1/"}, "base-uri"),
]
TRY = """([tag, attributes]) => new Promise((resolve) => {
  const told = (rule) => setTimeout(resolve, 100, [rule, window.ran]);
  addEventListener("securitypolicyviolation", ({ effectiveDirective }) => told(effectiveDirective));
  setTimeout(told, 3000, "nothing");
  const it = Object.assign(document.createElement(tag), attributes);
  document.body.append(it);
  it.click();
})"""
LETTER = """() => fetch("http://localhost:1/").then(() => "sent", (refused) => refused.name)"""


@pytest.fixture(scope="module")
def chapter(browser, base_url):
    """A page to be tampered with, fetched anew for each test."""
    page = browser.new_page()

    def fetched():
        page.goto(base_url + CHAPTER)
        return page

    yield fetched
    page.close()


@pytest.mark.parametrize("tag, given, rule", INJECTED)
def test_what_is_slipped_into_a_page_does_nothing(chapter, tag, given, rule):
    assert chapter().evaluate(TRY, [tag, given]) == [rule, None]


def test_a_page_cannot_write_to_others(chapter):
    page, said = chapter(), []
    page.on("console", lambda message: said.append(message.text))
    assert page.evaluate(LETTER) == "TypeError"
    assert any("Content Security Policy" in text for text in said), said


def test_the_buttons_of_the_header_do_what_they_say(visit):
    opened = visit(CHAPTER)
    page = opened.page
    page.evaluate("() => { window.print = () => { window.printed = true; }; }")
    page.locator(".dropdown-download-buttons > button").click()
    page.locator("button[data-does=print]").click()
    assert page.evaluate("window.printed")
    page.locator("button[data-does=fullscreen]").click()
    page.wait_for_function("document.fullscreenElement")
    assert not opened.complaints, "\n".join(opened.complaints)


def test_another_handler_stops_the_build():
    with pytest.raises(ExtensionError, match=r"'initThebeSBT\(\)'"):
        policy.without_handlers('<button class="a" onclick="initThebeSBT()">')


def test_a_page_that_was_there_before_has_one_policy():
    page = '<meta charset="utf-8"><script>1</script>'
    assert policy.guarded(policy.guarded(page)) == policy.guarded(page)


def test_a_page_without_a_place_for_its_policy_stops_the_build():
    with pytest.raises(ExtensionError, match="0 places"):
        policy.guarded("<html><head></head></html>")
