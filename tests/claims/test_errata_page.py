"""errata.yml, the tests, errata.md and the chapters tell one story."""

import re

import pytest
from written import BOOK, marked_tests, pages, slug, words

from tools import claims, errata
from tools.errata import GRADES, SOURCES, correcting, entry, page, pair, totals

SLIPS, CLAIMS = errata.rows(), claims.rows()
IDS = [slip["id"] for slip in SLIPS]
MEASURED = [slip["id"] for slip in SLIPS if slip["kind"] == "measured"]
COUNTS = {0: 21, 1: 36, 2: 11, 3: 11, 4: 16}
EVERY = [f"E{source}.{n:02d}" for source, count in COUNTS.items() for n in range(1, count + 1)]
WRITTEN = {"id", "grade", "says", "right", "why", "where", "kind"}


def by_id(slip):
    return slip["id"]


def test_there_are_95_slips_in_order():
    assert IDS == EVERY and len(EVERY) == 95 and list(COUNTS) == list(SOURCES)


@pytest.mark.parametrize("slip", SLIPS, ids=by_id)
def test_a_row_is_complete(slip):
    assert WRITTEN <= set(slip) <= WRITTEN | {"claims"}
    assert slip["grade"] in GRADES and slip["kind"] in {"measured", "argument"}
    for field in ("says", "right", "why"):
        assert slip[field].rstrip(")").endswith(".") and slip[field].count("$") % 2 == 0


@pytest.mark.parametrize("slip", SLIPS, ids=by_id)
def test_the_claims_of_a_row_exist(slip):
    assert set(slip.get("claims", [])) <= {claim["id"] for claim in CLAIMS}


def test_no_claim_corrects_an_unknown_slip():
    assert {name for claim in CLAIMS for name in claim.get("slip", [])} <= set(EVERY)


def test_every_measured_row_has_a_test_and_every_marker_a_row():
    names = {name for name, _ in marked_tests("slip")}
    assert set(MEASURED) <= names <= set(EVERY)


def test_a_slip_is_tested_in_the_file_of_its_source():
    for name, test in marked_tests("slip"):
        assert f"test_errata_{name[1]}.py" in test


def entries():
    """errata.md cut at its headings: id → text."""
    _, *parts = re.split(r"^### (E\d\.\d\d)$", (BOOK / "errata.md").read_text("utf8"), flags=re.M)
    return dict(zip(parts[::2], parts[1::2], strict=True))


def test_the_page_lists_the_rows_and_only_them():
    assert list(entries()) == IDS


@pytest.mark.parametrize("slip", SLIPS, ids=by_id)
def test_an_entry_of_the_page_is_up_to_date(slip):
    text = entries()[slip["id"]]
    for label, field in (("Says", "says"), ("True", "right"), ("Because", "why")):
        assert f"\n*{label}:* {slip[field]}\n" in text, "run `make claims`"
    how = "measured" if slip["kind"] == "measured" else "by argument"
    assert f"**{slip['grade']}, {how}.**" in text, "run `make claims`"
    assert set(re.findall(r"\[(C\d\.\d\d)\]", text)) == set(correcting(slip, CLAIMS))
    tests = {test for name, test in marked_tests("slip") if name == slip["id"]}
    assert set(re.findall(r"`(tests/[^`]+)`", text)) == tests, "run `make claims`"
    lines = re.findall(r"^\| (.+) \| (.+) \| (.+) \|$", text, flags=re.M)[1:]
    assert bool(lines) == (slip["kind"] == "measured"), "measured: with a line of `apart`"
    assert all(printed != right for _, printed, right in lines)


def test_the_totals_are_right():
    (total,) = re.findall(r"^\*\*(\d.+)\*\*$", (BOOK / "errata.md").read_text("utf8"), flags=re.M)
    grades = [sum(slip["grade"] == grade for slip in SLIPS) for grade in "ABC"]
    tests = {test for name, test in marked_tests("slip") if name in MEASURED}
    numbers = [95, *grades, len(MEASURED), len(tests), 95 - len(MEASURED)]
    assert list(map(int, re.findall(r"\d+", total))) == numbers


@pytest.mark.parametrize("slip", SLIPS, ids=by_id)
def test_the_slip_is_told_where_its_row_says(slip):
    name, section = slip["where"].split("#")
    told = words(BOOK / f"{name}.ipynb")
    assert section in map(slug, re.findall(r"^#+ (.+)$", told, flags=re.M))
    assert f"**{slip['id']}**" in told, "told nowhere in the chapter"


def test_every_slip_number_in_the_book_leads_to_its_row():
    link = r"\[\*\*(E\d\.\d\d)\*\*\]\(errata\.md#([^)]*)\)"
    for written in pages():
        text = words(written)
        for name, anchor in re.findall(link, text):
            assert name in EVERY and anchor == name.lower().replace(".", "-"), written.name
        bare = re.findall(r"\*\*E\d\.\d\d\*\*", re.sub(link, "", text))
        assert not bare, f"without a link in {written.name}: {', '.join(bare)}"


LINE = {"what": "a | b", "printed": 1083.99, "right": 1059.66, "by": 0.1}


@pytest.mark.parametrize(
    ("printed", "right", "by", "texts"),
    [(1083.99, 1059.66, 0.1, ["1,080", "1,060"]), (1.0, 2.0, 1e-9, ["1", "2"]),
     (0.003, 0.5, 0.01, ["0", "0.5"]), (0.300001, 0.3, 1e-8, ["0.300001", "0.3"]),
     (float("inf"), 1.0, 0.1, ["infinite", "1"]), ("x", "y", 0.0, ["x", "y"])],
)  # fmt: skip
def test_numbers_are_rounded_no_further_than_leaves_them_apart(printed, right, by, texts):
    assert list(pair({"printed": printed, "right": right, "by": by})) == texts


def test_an_entry_says_how_it_is_known():
    slip = {"id": "E1.01", "grade": "A", "says": "2.", "right": "3.", "why": "So.", "where": "a#b"}
    result = {"tests": ["tests/a.py::test_b"], "verdict": "holds", "checks": [LINE]}
    text = entry(slip | {"kind": "measured"}, ["C1.01"], result)
    assert r"| a \| b | 1,080 | 1,060 |" in text and "**A, measured.**" in text
    assert "[C1.01](claims.md#c1-01)" in text and "`tests/a.py::test_b`" in text
    assert "**A, not confirmed.**" in entry(
        slip | {"kind": "measured"}, [], result | {"verdict": "fails"}
    )
    assert "**A, untested.**" in entry(slip | {"kind": "measured"}, [], None)
    assert "**A, by argument.**" in entry(slip | {"kind": "argument"}, [], None)
    slips = [slip | {"kind": "measured"}, slip | {"id": "E1.02", "kind": "argument", "grade": "C"}]
    assert totals(slips, {"E1.01": result}) == (
        "**2 slips: 1 A, 0 B, 1 C; 1 measured by 1 tests, 1 by argument.**\n"
    )
    assert page(slips, CLAIMS, {"E1.01": result}).count("\n### ") == 2


def test_a_claim_that_names_a_slip_stands_in_its_row():
    claim = {"id": "C2.02", "slip": ["E0.02"]}
    assert correcting({"id": "E0.02", "claims": ["C1.01"]}, [claim]) == ["C1.01", "C2.02"]


def test_the_fixture_keeps_what_is_equal_out(apart):
    for values in ({"printed": 1.0, "right": 1.05, "by": 0.1}, {"printed": "a", "right": "a"},
                   {"printed": 1.0, "right": 2.0}, {"printed": "a", "right": 1.0, "by": 0.1},
                   {"printed": float("nan"), "right": 1.0, "by": 0.1}):  # fmt: skip
        with pytest.raises(AssertionError):
            apart("what", **values)
    apart("what", printed=1.0, right=1.2, by=0.1)
