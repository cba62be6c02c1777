"""What the site ships is ours, or stands in the list with its licence."""

import re
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest
from test_html import soup

from tools.website import ROOT

sys.path.append(str(ROOT / "book" / "_ext"))
from licences import SHIPPED  # noqa: E402

FOLDERS = ROOT / "book" / "assets", ROOT / "sbm_lite" / "explorables"
OURS = {path.name for folder in FOLDERS for path in folder.rglob("*.*")}
BEGINS = {  # each licence says these words somewhere
    "MIT": "Permission is hereby granted",
    "BSD-2-Clause": "Redistribution and use in source and binary forms",
    "BSD-3-Clause": "Neither the name",
    "OFL-1.1": "SIL OPEN FONT LICENSE Version 1.1",
    "Apache-2.0": "Apache License",
}


def belongs(file, one):
    return any(fnmatch(file, pattern) for pattern in one.files)


@pytest.fixture(scope="module")
def owners(site):
    """The files that the site ships, with the names of those who have a part in each."""
    folder, shipped = site / "_static", {}
    for path in filter(Path.is_file, folder.rglob("*")):
        file = path.relative_to(folder).as_posix()
        if not file.startswith(("licences/", "cards/")):
            shipped[file] = {one.name for one in SHIPPED if belongs(file, one)}
            shipped[file] |= {"us"} if path.name in OURS else set()
    return shipped


def test_every_file_has_an_owner(owners):
    assert len(owners) > 50
    assert [file for file, names in owners.items() if not names] == []


def test_nothing_of_others_is_called_ours(owners):
    assert [file for file, names in owners.items() if "us" in names and len(names) > 1] == []


def test_every_entry_has_files(owners):
    for one in SHIPPED:
        for pattern in one.files:
            assert any(fnmatch(file, pattern) for file in owners), (one.name, pattern)


def test_no_file_of_ours_holds_a_notice_of_others(site, owners):
    for file in (file for file, names in owners.items() if "us" in names):
        text = (site / "_static" / file).read_bytes()
        assert not re.search(rb"copyright|licen[cs]ed", text, re.IGNORECASE), file


@pytest.mark.parametrize("one", SHIPPED, ids=lambda one: one.name)
def test_every_licence_is_shipped_and_linked(site, one):
    text = (site / "_static" / one.address).read_text(encoding="utf8")
    assert "Copyright" in text and BEGINS[one.licence] in " ".join(text.split())
    (link,) = soup(site / "book/licences.html").select(f"a[href$='{one.address}']")
    assert link.get_text() == one.licence
    row = link.find_parent("tr").get_text()
    assert one.name in row and all(file in row for file in one.files)


def test_scripts_stand_in_no_other_folder(site):
    """The list is about `_static`; beside it there is the index of the search alone."""
    kinds = {".js", ".css", ".woff", ".woff2", ".ttf", ".otf", ".svg", ".mjs", ".wasm"}
    elsewhere = {
        path.name
        for path in site.rglob("*")
        if path.suffix in kinds and "_static" not in path.relative_to(site).parts
    }
    assert elsewhere == {"searchindex.js"}
