"""The bibliography and the book cite each other, and each entry says where to find the work."""

import json
import re
from pathlib import Path

import pytest
import yaml

BOOK = Path(__file__).parents[2] / "book"
VENUES = {"journal", "booktitle", "publisher", "eprint"}


def entries():
    """key → fields of every entry, in the order of the file."""
    text = (BOOK / "references.bib").read_text("utf8")
    _, *parts = re.split(r"^@\w+\{(\w+),$", text, flags=re.M)
    fields = [
        dict(re.findall(r"^  (\w+) *= \{(.*)\},?$", part, flags=re.M)) for part in parts[1::2]
    ]
    return dict(zip(parts[::2], fields, strict=True))


def prose(path):
    """The Markdown of a page, or of a notebook's cells."""
    if path.suffix == ".md":
        return path.read_text("utf8")
    cells = json.loads(path.read_text("utf8"))["cells"]
    return "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")


def cited():
    """key → pages that cite it, claims.yml among them."""
    found = {}
    for path in sorted([*BOOK.glob("*.md"), *BOOK.glob("*.ipynb")]):
        for keys in re.findall(r"\{cite:\w+\}`([^`]+)`", prose(path)):
            for key in keys.split(","):
                found.setdefault(key.strip(), set()).add(path.name)
    for row in yaml.safe_load((BOOK / "claims.yml").read_text("utf8")):
        for key in row.get("citation", []):
            found.setdefault(key, set()).add("claims.yml")
    return found


ENTRIES = entries()


def test_every_at_sign_of_the_file_was_read():
    text = (BOOK / "references.bib").read_text("utf8")
    assert len(re.findall(r"^\s*@", text, flags=re.M)) == len(ENTRIES)


def test_entries_are_distinct_and_sorted():
    keys = re.findall(r"^@\w+\{(\w+),$", (BOOK / "references.bib").read_text("utf8"), flags=re.M)
    assert keys == sorted(set(keys))


@pytest.mark.parametrize("key", ENTRIES)
def test_an_entry_says_who_what_when_and_where(key):
    fields = ENTRIES[key]
    assert {"author", "title", "year"} <= set(fields) and VENUES & set(fields)
    assert re.fullmatch(r"(1[89]|20)\d\d", fields["year"]) and fields["year"] in key
    assert not re.search(r"\bet al\b|\bothers\b", fields["author"]), "name them all"
    assert re.fullmatch(r"\d{4}\.\d{4,5}", fields.get("eprint", "0000.00000"))
    assert re.match(r"10\.\d{4,}/", fields.get("doi", "10.0000/"))


def test_every_entry_is_cited():
    assert not set(ENTRIES) - set(cited())


def test_every_citation_is_an_entry():
    lost = {key: pages for key, pages in cited().items() if key not in ENTRIES}
    assert not lost, lost


def test_one_work_stands_once():
    titles = [re.sub(r"\W", "", fields["title"]).lower() for fields in ENTRIES.values()]
    eprints = [fields["eprint"] for fields in ENTRIES.values() if "eprint" in fields]
    assert len(set(titles)) == len(titles) and len(set(eprints)) == len(eprints)
