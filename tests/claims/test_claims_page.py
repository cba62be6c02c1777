"""claims.yml, the tests, claims.md and the chapters tell one story."""

import ast
import importlib
import pkgutil
import re
from collections import Counter
from pathlib import Path

import pytest
from written import BOOK, marked_tests, pages, slug, words

import sbm_lite
from tools.claims import entry, rows, totals
from tools.tables import rounded

CLAIMS = rows()
IDS = [claim["id"] for claim in CLAIMS]
CHECKED = [claim["id"] for claim in CLAIMS if claim["kind"] == "checked"]
KINDS = {"checked", "definition", "history", "opinion"}
FIELDS = {"id", "chapter", "statement", "kind", "where", "citation", "slip", "own"}
SOURCES = {1: 21, 2: 18, 3: 13, 4: 26, 5: 13, 6: 35, 7: 45, 8: 58, 9: 29}  # claims, by chapter


def chapter(claim):
    """The prose of the page that makes the claim."""
    page = BOOK / (claim["where"].split("#")[0] + ".ipynb")
    if not page.exists():
        parts = list(BOOK.glob(f"{claim['chapter']:02d}_*.ipynb"))
        assert not parts, f"where: {page.name} is no page of the book"
        pytest.skip(f"{page.name} is not written yet")
    return words(page)


def by_id(claim):
    return claim["id"]


@pytest.mark.parametrize("claim", CLAIMS, ids=by_id)
def test_a_row_is_complete(claim):
    assert set(claim) <= FIELDS and {"id", "chapter", "statement", "kind", "where"} <= set(claim)
    assert claim["kind"] in KINDS
    assert re.fullmatch(rf"C{claim['chapter']}\.\d\d", claim["id"])
    assert claim["statement"].endswith(".") and claim["statement"].count("$") % 2 == 0
    assert (claim["kind"] == "checked") != ("citation" in claim), "checked, or on somebody's word"


def test_ids_are_distinct_and_in_order():
    assert sorted(set(IDS)) == IDS


def test_every_claim_of_the_sources_has_its_row():
    """All 258 found in the sources, numbered from 01 in each chapter; at least 200 tested."""
    wanted = [f"C{c}.{k:02d}" for c, n in SOURCES.items() for k in range(1, n + 1)]
    assert [claim["id"] for claim in CLAIMS if not claim.get("own")] == wanted
    assert len(wanted) == 258 and len(CHECKED) >= 200


def test_every_citation_is_in_the_bibliography():
    keys = re.findall(r"@\w+\{(\w+),", (BOOK / "references.bib").read_text("utf8"))
    assert {key for claim in CLAIMS for key in claim.get("citation", [])} <= set(keys)


def test_every_checked_row_has_a_test_and_every_marker_a_row():
    marked = {name for name, _ in marked_tests("claim")}
    assert marked == set(CHECKED)


def test_a_claim_is_tested_in_the_file_of_its_chapter():
    for name, test in marked_tests("claim"):
        assert f"test_ch{name[1]}.py" in test


def entries():
    """claims.md cut at its headings: id → text."""
    _, *parts = re.split(r"^### (C\d\.\d\d)$", (BOOK / "claims.md").read_text("utf8"), flags=re.M)
    return dict(zip(parts[::2], parts[1::2], strict=True))


def test_the_page_lists_the_rows_and_only_them():
    assert list(entries()) == IDS


@pytest.mark.parametrize("claim", CLAIMS, ids=by_id)
def test_an_entry_of_the_page_is_up_to_date(claim):
    text = entries()[claim["id"]]
    right = "Holds" if claim["kind"] == "checked" else claim["kind"].capitalize()
    tests = [test for name, test in marked_tests("claim") if name == claim["id"]]
    assert claim["statement"] in text, "run `make claims`"
    assert f"**{right}.**" in text
    assert set(re.findall(r"`(tests/[^`]+)`", text)) == set(tests), "run `make claims`"
    assert bool(re.search(r"^\| .+ \| .+ \| .+ \|$", text, flags=re.M)) == bool(tests)


def test_the_totals_are_right():
    (total,) = re.findall(r"^\*\*(.+)\*\*$", (BOOK / "claims.md").read_text("utf8"), flags=re.M)
    tests = {test for _, test in marked_tests("claim")}
    counted = Counter(claim["kind"] for claim in CLAIMS)
    numbers = [len(IDS), sum(SOURCES.values()), len(IDS) - sum(SOURCES.values())]
    numbers += [len(CHECKED), len(tests), len(CHECKED)]
    numbers += [counted[kind] for kind in ("definition", "history", "opinion")]
    assert list(map(int, re.findall(r"\d+", total))) == numbers
    assert sum(numbers[6:]) + len(CHECKED) == len(IDS)


def test_the_book_cites_no_unknown_claim():
    for page in pages():
        for said, name in re.findall(r"\[(C\d\.\d\d)\]\(claims\.md#([^)]*)\)", words(page)):
            assert said in IDS and name == said.lower().replace(".", "-"), f"{said} in {page.name}"


@pytest.mark.parametrize("claim", CLAIMS, ids=by_id)
def test_every_claim_is_cited_in_its_chapter(claim):
    name = claim["id"].lower().replace(".", "-")
    assert f"[{claim['id']}](claims.md#{name})" in chapter(claim)


@pytest.mark.parametrize("claim", CLAIMS, ids=by_id)
def test_every_claim_names_a_section_of_its_chapter(claim):
    headings = re.findall(r"^#+ (.+)$", chapter(claim), flags=re.M)
    assert claim["where"].split("#")[1] in map(slug, headings)


@pytest.mark.parametrize("claim", [c for c in CLAIMS if "slip" in c], ids=by_id)
def test_the_slips_are_told_in_the_chapter(claim):
    for name in claim["slip"]:
        assert f"**{name}**" in chapter(claim), f"{name} is told nowhere in the chapter"


@pytest.mark.parametrize(
    ("x", "text"),
    [(4 / 3, "1.3"), (50_000.0, "50,000"), (-0.0403, "−0.04"), (2, "2"), (1e-9, "$10^{-9}$"),
     (6.84e-16, r"$6.8\times10^{-16}$"), (0.0, "0"), (float("nan"), "not a number")],
)  # fmt: skip
def test_rounding(x, text):
    assert rounded(x) == text


def test_an_entry_that_fails_says_so():
    check = {"what": "variance", "expected": 1.0, "measured": 2.0, "within": 0.1}
    result = {"tests": ["tests/a.py::test_b"], "verdict": "fails", "checks": [check]}
    claim = next(c for c in CLAIMS if c["kind"] == "checked")
    text = entry(claim, result)
    assert "**Fails.**" in text and "| variance | 1 | 2 |" in text
    assert "**Untested.**" in entry(claim, None)
    assert "0 hold" in totals(CLAIMS, {claim["id"]: result})


def docstrings():
    """Every docstring of the package, by name."""
    for module in pkgutil.iter_modules(sbm_lite.__path__, "sbm_lite."):
        source = Path(importlib.util.find_spec(module.name).origin).read_text("utf8")
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                yield f"{module.name}.{getattr(node, 'name', '')}", ast.get_docstring(node) or ""


def test_every_equation_named_in_the_code_is_in_the_book():
    if not any(BOOK.glob("*.ipynb")):
        pytest.skip("no chapter is written yet")
    labels = set(re.findall(r"\$\$ \((eq-[\w-]+)\)", "\n".join(map(words, pages()))))
    named = [
        (where, label)
        for where, text in docstrings()
        for label in re.findall(r"\beq-[\w-]+", text)
    ]
    lost = [f"{where} names {label}" for where, label in named if label not in labels]
    assert named and not lost, "not in the book: " + "; ".join(lost)
