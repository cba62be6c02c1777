"""The site is built once, served on localhost, and read by a browser as a visitor would."""

import os
import re
import time
from pathlib import Path

import pytest
from playwright.sync_api import Page, TimeoutError

from tools.server import served
from tools.website import built, toc_pages

ROOT = Path(__file__).parents[2]


def any_pages():
    """Pages of the book, and what the builder adds to a finished site: index, search, others."""
    added = {"genindex.html", "search.html"}
    if ready := os.environ.get("SBM_LITE_SITE"):
        site = ROOT / ready
        found = {path.relative_to(site).as_posix() for path in site.rglob("*.html")}
        sources = sorted(page for page in found if page.startswith("_modules/"))
        added |= found - {"index.html", *sources[1:]}  # it leads to the book; they are all alike
    return toc_pages() + sorted(added.difference(toc_pages()))


def pytest_generate_tests(metafunc):
    """A test runs for every page of the book if it asks for `page_path`; with `any_path` also for
    those that the builder adds, and all tests of a module in turn for one page, then for the next.
    """
    if "page_path" in metafunc.fixturenames:
        metafunc.parametrize("page_path", toc_pages())
    if "any_path" in metafunc.fixturenames:
        metafunc.parametrize("any_path", any_pages(), scope="module")


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """Folder of the built site: the one in SBM_LITE_SITE, or one built now, warnings as errors."""
    return built(tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="session")
def base_url(site):
    """Address of the site on this machine."""
    with served(site) as address:
        yield f"{address}/"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Keep what the browser showed when a test failed, for whoever reads the run elsewhere."""
    report = yield
    if call.when == "call" and report.failed and "opened" in item.funcargs:
        name = re.sub(r"[^-.\w]+", "_", item.name)
        picture = ROOT / "_build" / "failures" / f"{name}.png"
        item.funcargs["opened"].page.screenshot(path=picture)
    return report


PATIENCE = 30_000  # ms: a slow machine is no fault of a page


def wait_for_function(page, expression, *, arg=None):
    """Ask until the answer is yes. Playwright has the page itself evaluate the text, again and
    again, which the policy of our pages forbids; this asks from outside."""
    end = time.monotonic() + PATIENCE / 1000
    while not page.evaluate(expression, arg):
        if time.monotonic() > end:
            raise TimeoutError(f"Never true: {expression}")
        page.wait_for_timeout(20)


Page.wait_for_function = wait_for_function


class Visit:
    """One page in the browser, with everything it said and asked for."""

    def __init__(self, page, base_url):
        self.page, self.base_url, self.complaints, self.answers = page, base_url, [], []
        page.set_default_timeout(PATIENCE)
        page.on("console", self.heard)
        page.on("pageerror", lambda error: self.complaints.append(f"page error: {error}"))
        page.on("request", self.asked)
        page.on("response", self.answered)

    def heard(self, message):
        if message.type in ("error", "warning"):
            self.complaints.append(f"console {message.type}: {message.text}")

    def asked(self, request):
        if not request.url.startswith((self.base_url, "data:", "blob:")):
            self.complaints.append(f"asks a third party: {request.url}")

    def answered(self, response):
        self.answers.append(response)
        if response.status >= 400:
            self.complaints.append(f"{response.status}: {response.url}")

    def open(self, path):
        """Go to `path` and wait until its formulas are typeset."""
        self.page.goto(self.base_url + path, wait_until="load")
        self.page.evaluate("() => window.MathJax?.startup?.promise?.then(() => true)")
        return self.page


SEARCH = {"search.html": "?q=score"}  # a search page without a search would show nothing
AT_REST = """() => {
  document.querySelectorAll("dialog[open]").forEach((dialog) => dialog.close());
  document.querySelectorAll("details").forEach((fold) => (fold.open = false));
  document.activeElement.blur();
  scrollTo(0, 0);
}"""


@pytest.fixture(scope="module")
def shared(browser, base_url, any_path):
    """One visit for all tests of a module: a page with its figures alive and at rest."""
    context = browser.new_context(reduced_motion="reduce")
    opened = Visit(context.new_page(), base_url)
    page = opened.open(any_path + SEARCH.get(any_path, ""))
    if any_path in SEARCH:
        page.locator("#search-results li a").first.wait_for()
    for figure in page.locator("article figure").all():
        figure.scroll_into_view_if_needed()
    page.wait_for_load_state("networkidle")
    yield opened
    context.close()


@pytest.fixture
def opened(shared):
    """The shared visit as a reader finds the page: wide, light, at its top, everything folded."""
    shared.page.emulate_media(color_scheme="light")
    shared.page.set_viewport_size({"width": 1280, "height": 900})
    shared.page.evaluate(AT_REST)
    return shared


@pytest.fixture
def visit(browser, base_url):
    """`visit(path, **options of a browser context)` opens a page and returns its Visit."""
    contexts = []

    def open_page(path, *, width=1280, height=900, **options):
        size = {"width": width, "height": height}
        contexts.append(browser.new_context(viewport=size, **options))
        opened = Visit(contexts[-1].new_page(), base_url)
        opened.open(path)
        return opened

    yield open_page
    for context in contexts:
        context.close()


@pytest.fixture(scope="session")
def modules(browser):
    """An empty page of the folder that holds the explorables' modules."""
    with served(ROOT / "sbm_lite" / "explorables") as address:
        page = browser.new_page()
        page.goto(f"{address}/")
        page.set_content("<main></main>")
        yield page
        page.close()


@pytest.fixture
def run(modules):
    """`run(body, **given)`: the value of a JavaScript function body with `given` at hand and the
    exports of `module` as `m`."""

    def call(body, *, module="maths", **given):
        names = ", ".join(given)
        load = f"const m = await import('/{module}.js');"
        return modules.evaluate(f"async ({{ {names} }}) => {{ {load} {body} }}", given)

    return call


@pytest.fixture
def alive(browser, modules):
    """`alive(*widgets)`: a page with those explorables alone, at rest where they would move by
    themselves; keywords are options of the page."""
    pages = []

    def show(*widgets, **options):
        pages.append(browser.new_page(**{"reduced_motion": "reduce"} | options))
        pages[-1].goto(modules.url)
        pages[-1].set_content(f"<main>{''.join(widget.html() for widget in widgets)}</main>")
        pages[-1].evaluate("async () => { await import('/host.js'); }")
        pages[-1].locator("output[name=measured]").first.wait_for()
        return pages[-1]

    yield show
    for page in pages:
        page.close()


@pytest.fixture
def numbers():
    """`numbers(page, column)`: a column of the readout, "measured" or "theory", as numbers."""

    def read(page, column):
        shown = page.locator(f"output[name={column}]").all_text_contents()
        return [float(text.replace("−", "-")) for text in shown]

    return read
