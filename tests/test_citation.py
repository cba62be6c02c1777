"""Every form of the citation says what CITATION.cff says, and the changes stand in their order."""

import datetime
import re
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from pybtex.database import parse_string

import sbm_lite

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "book" / "_ext"))
import citation  # noqa: E402

CFF = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf8"))
SOMEBODY = citation.facts() | {
    "names": ["Noether, Emmy", "The sbm-lite authors"], "url": "https://example.org/book",
}  # fmt: skip
KINDS = {"Added", "Changed", "Deprecated", "Removed", "Corrected", "Security"}


def entry(cff):
    (only,) = parse_string(citation.bib(cff), "bibtex").entries.values()
    return only


def test_bibtex_says_what_the_citation_file_says():
    read = entry(citation.facts())
    assert read.fields["title"] == f"{{{CFF['title']}}}"
    assert read.fields["year"] == str(CFF["date-released"].year)
    assert CFF["version"] in read.fields["note"]
    (author,) = read.persons["author"]
    assert author.last_names == [f"{{{CFF['authors'][0]['name']}}}"] and not author.first_names


def test_bibtex_tells_a_person_from_a_group():
    one, many = entry(SOMEBODY).persons["author"]
    assert (one.first_names, one.last_names) == (["Emmy"], ["Noether"])
    assert many.last_names == ["{The sbm-lite authors}"]
    assert entry(SOMEBODY).fields["url"] == SOMEBODY["url"]


def test_ris_has_a_tag_on_each_line_and_an_end():
    lines = citation.ris(SOMEBODY).splitlines()
    rows = [re.fullmatch(r"([A-Z][A-Z0-9])  - (.*)", line).groups() for line in lines]
    assert rows[0] == ("TY", "COMP") and rows[-1] == ("ER", "")
    assert [said for tag, said in rows if tag == "AU"] == SOMEBODY["names"]
    assert ("TI", CFF["title"]) in rows and ("PY", str(SOMEBODY["year"])) in rows
    assert ("UR", SOMEBODY["url"]) in rows and "UR" not in citation.ris(citation.facts())


def test_the_line_of_text_names_all():
    text = citation.apa(SOMEBODY)
    assert text.startswith("Noether, Emmy & The sbm-lite authors. (")
    assert f"({SOMEBODY['year']}). {CFF['title']} (Version {CFF['version']})" in text


def test_one_version_everywhere():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf8"))["project"]
    assert CFF["version"] == project["version"] == sbm_lite.__version__


@pytest.fixture(scope="module")
def changes():
    """(date or "Unreleased", its text) of every entry of the changelog."""
    _, *parts = re.split(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text("utf8"), flags=re.M)
    return list(zip(parts[::2], parts[1::2], strict=True))


def test_days_of_the_changelog_descend_from_no_later_than_today(changes):
    days = [day for day, _ in changes]
    released = days[1:] if days[0] == "Unreleased" else days
    dates = [datetime.date.fromisoformat(day) for day in released]
    assert dates and dates == sorted(set(dates), reverse=True)
    assert dates[0] <= datetime.date.today()
    assert dates[-1] <= CFF["date-released"] <= dates[0]


def test_the_changelog_keeps_its_form(changes):
    for day, text in changes:
        sections = re.split(r"^### (.+)$", text, flags=re.M)[1:]
        assert set(sections[::2]) <= KINDS and len(set(sections[::2])) == len(sections[::2]), day
        assert all(re.search(r"^- .+\.$", section, flags=re.M) for section in sections[1::2]), day


def test_claims_named_in_the_changelog_exist(changes):
    known = {row["id"] for row in yaml.safe_load((ROOT / "book/claims.yml").read_text("utf8"))}
    named = set(re.findall(r"\bC\d+\.\d+", "".join(text for _, text in changes)))
    assert named and named <= known
