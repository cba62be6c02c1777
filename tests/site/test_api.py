"""The pages of the package: complete, linked both ways, found by the search."""

import importlib
import re
import sys

import pytest
import yaml
from test_html import soup

from tools.website import ROOT

sys.path.append(str(ROOT / "book" / "_ext"))
import api_pages  # noqa: E402

MODULES = [path.stem for path in (ROOT / "book" / "api").glob("*.md") if path.stem != "index"]
HELPERS = {"validation", "__main__"}  # of the other modules, and of the command line


def public(name):
    """What a module offers: its `__all__`, or the functions and classes that it defines."""
    module = importlib.import_module(f"sbm_lite.{name}")
    own = [
        n
        for n, value in vars(module).items()
        if n[0] != "_" and callable(value) and getattr(value, "__module__", "") == module.__name__
    ]
    return {n for n in getattr(module, "__all__", own) if callable(getattr(module, n))}


def test_every_module_has_its_page_and_its_line():
    modules = {path.stem for path in (ROOT / "sbm_lite").glob("*.py")} - HELPERS - {"__init__"}
    modules |= {path.parent.name for path in (ROOT / "sbm_lite").glob("*/__init__.py")}
    assert set(MODULES) == modules
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text("utf8"))
    (package,) = (part["chapters"] for part in toc["parts"] if part["caption"] == "The package")
    assert [page["file"].removeprefix("book/api/") for page in package] == ["index", *listed()]


def listed():
    """The modules in the table of the overview, in its order."""
    lines = (ROOT / "book/api/index.md").read_text("utf8").splitlines()
    return [line.strip() for line in lines if line.startswith("   ") and line.strip() in MODULES]


@pytest.mark.parametrize("module", MODULES)
def test_everything_public_has_an_entry_with_a_word_of_what_it_does(site, module):
    page = soup(site / f"book/api/{module}.html")
    names = public(module)
    assert names
    for name in names:
        entry = page.find("dt", id=f"sbm_lite.{module}.{name}")
        assert entry, name
        assert len(entry.find_next_sibling("dd").get_text(strip=True)) > 15, name
        assert entry.find(class_="viewcode-link")


def test_an_entry_leads_to_its_equation(site):
    page = soup(site / "book/api/samplers.html")
    entry = page.find("dt", id="sbm_lite.samplers.langevin").find_next_sibling("dd")
    link = entry.find("a", href="../03_langevin.html#equation-eq-langevin")
    shown = soup(site / "book/03_langevin.html").find(id="equation-eq-langevin")
    assert link.get_text() == shown.find(class_="eqno").get_text().rstrip("#")
    assert "eq-" not in page.find("article").get_text()


def test_names_of_the_package_lead_to_their_entries(site):
    names = {f"{module}.{name}": module for module in MODULES for name in public(module)}
    seen = 0
    for path in sorted((site / "book").glob("*.html")):
        for code in soup(path).select("article code.literal"):
            name = re.match(r"[\w.]*", code.get_text())[0]
            if name in names and not code.find_parent(["h1", "h2", "h3"]):
                assert code.parent["href"] == f"api/{names[name]}.html#sbm_lite.{name}"
                seen += 1
    assert seen > 20


def test_shapes_stand_in_the_signatures_one_argument_a_line(site):
    page = soup(site / "book/api/samplers.html")
    entry = page.find("dt", id="sbm_lite.samplers.langevin_path")
    lines = [line.get_text() for line in entry.select("span.sig-line")]
    assert "x: Float[Tensor, 'n d']," in lines and "every: int = 1," in lines
    assert entry.find(class_="sig-return-typehint").get_text() == "Float[Tensor, 't n d']"


def test_blocks_of_a_docstring_keep_their_layout(site):
    losses, training = (soup(site / f"book/api/{name}.html") for name in ("losses", "training"))
    rows = losses.select("table tr")
    assert [cell.get_text() for cell in rows[0].find_all("th")][:2] == ["loss", "needs"]
    assert rows[2].find_all("td")[1].get_text() == "d backward passes"
    code = training.select_one(".highlight-python").get_text()
    assert "net = ScoreMLP(2, generator=rng)\n" in code
    mala = soup(site / "book/api/samplers.html").find("dt", id="sbm_lite.samplers.mala")
    formula = mala.find_next_sibling("dd").find(class_="line-block").get_text(strip=True)
    assert formula.startswith("min(1, p(y) q(x | y) / (p(x) q(y | x))),")


def test_equations_of_one_docstring_are_all_linked():
    lines = ["Signs. Book: eq-a,", "eq-b-c. Reference: X."]
    api_pages.as_markup(None, "function", "f", None, None, lines)
    assert lines == ["Signs. Book: equations :eq:`eq-a`, :eq:`eq-b-c`. Reference: X."]


def test_the_search_finds_a_function(visit):
    page = visit("search.html?q=langevin").page
    page.locator(
        "#search-results a[href*='api/samplers.html#sbm_lite.samplers.langevin']"
    ).first.wait_for()


def test_citations_can_be_had_as_files(site):
    page = soup(site / "book/cite.html")
    shown = [block.get_text() for block in page.select(".cite-as pre")][1:]
    files = [
        (site / "book" / link["href"]).read_text("utf8")
        for link in page.select("a[download]")
        if "/" not in link["href"]
    ]
    assert len(files) == 3 and [text.strip() for text in files] == [text.strip() for text in shown]
