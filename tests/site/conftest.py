"""The site is built once, served on localhost, and read by a browser as a visitor would."""

from pathlib import Path

import pytest
import yaml

from tools.server import served
from tools.website import built

ROOT = Path(__file__).parents[2]


def toc_pages():
    """Every page of _toc.yml as a path of the site, e.g. book/03_langevin.html."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf8"))
    files = [entry["file"] for part in toc["parts"] for entry in part["chapters"]]
    return [f"{name}.html" for name in (toc["root"], *files)]


def pytest_generate_tests(metafunc):
    """A test that asks for `page_path` runs once for every page of the book."""
    if "page_path" in metafunc.fixturenames:
        metafunc.parametrize("page_path", toc_pages())


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """Folder of the built site: the one in SBM_LITE_SITE, or one built now, warnings as errors."""
    return built(tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="session")
def base_url(site):
    """Address of the site on this machine."""
    with served(site) as address:
        yield f"{address}/"


class Visit:
    """One page in the browser, with everything it said and asked for."""

    def __init__(self, page, base_url):
        self.page, self.base_url, self.complaints = page, base_url, []
        page.set_default_timeout(10_000)
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
        if response.status >= 400:
            self.complaints.append(f"{response.status}: {response.url}")

    def open(self, path):
        """Go to `path` and wait until its formulas are typeset."""
        self.page.goto(self.base_url + path, wait_until="load")
        self.page.evaluate("() => window.MathJax?.startup?.promise?.then(() => true)")
        return self.page


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
    """`alive(widget)`: a page with that explorable alone, at rest where it would move by itself."""
    pages = []

    def show(widget):
        pages.append(browser.new_page(reduced_motion="reduce"))
        pages[-1].goto(modules.url)
        pages[-1].set_content(f"<main>{widget.html()}</main>")
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
