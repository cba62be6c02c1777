"""The state in which a notebook is committed."""

import re
import statistics
from pathlib import Path

import nbformat
import pytest
from bs4 import BeautifulSoup

from tools.notebooks import WIDGET_VIEW, normalised, problems_of, text

NOTEBOOKS = sorted((Path(__file__).parents[2] / "book").glob("*.ipynb"))
PICTURES = {"image/png", "image/jpeg", "image/gif", "image/svg+xml"}
MIN_ALT = 40


def read(path):
    return nbformat.read(path, as_version=4)


def code_cells(path):
    return [cell for cell in read(path).cells if cell.cell_type == "code"]


def outputs(path):
    return [(cell, output) for cell in code_cells(path) for output in cell.outputs]


def start(cell):
    return cell.source.strip().splitlines()[0]


def code_lines(cell):
    """Lines that hold code: neither blank nor only a comment."""
    lines = (line.strip() for line in cell.source.splitlines())
    return sum(bool(line) and not line.startswith("#") for line in lines)


def is_description(alt):
    """Long enough to describe a picture, and not the name of a file."""
    return len(alt) >= MIN_ALT and not re.search(r"\.(png|jpe?g|gif|svg)\s*$|^\S*/\S*$", alt)


def test_there_are_notebooks():
    assert NOTEBOOKS


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def path(request):
    return request.param


def test_is_in_normal_form(path):
    """If this fails, run `make notebooks`."""
    assert path.read_text(encoding="utf8") == text(normalised(read(path)))


def test_every_cell_was_run_in_order(path):
    counts = [cell.execution_count for cell in code_cells(path) if cell.source.strip()]
    assert counts == list(range(1, len(counts) + 1))


def test_no_errors_no_warnings(path):
    bad = [start(cell) for cell, output in outputs(path)
           if output.output_type == "error" or output.get("name") == "stderr"]
    assert not bad


def test_no_paths_of_this_machine(path):
    words = re.sub(r"[A-Za-z0-9+/]{200,}", "", path.read_text(encoding="utf8"))  # not the pictures
    assert not re.findall(r"(?:/home/|/Users/|/root/|/tmp/|[A-Z]:\\\\)[\w./-]*", words)


def test_no_widget_state(path):
    assert "widgets" not in read(path).metadata
    views = [start(cell) for cell, out in outputs(path) if WIDGET_VIEW in out.get("data", {})]
    assert not views


def test_every_picture_has_alt_text_and_caption(path):
    for cell, output in outputs(path):
        if PICTURES & set(output.get("data", {})):
            about = cell.metadata.get("mystnb", {})
            alt = about.get("image", {}).get("alt", "")
            assert is_description(alt), f"alt text of: {start(cell)}"
            assert about.get("figure", {}).get("caption"), f"caption of: {start(cell)}"


def test_every_embedded_picture_has_alt_text_and_caption(path):
    for cell, output in outputs(path):
        html = BeautifulSoup(output.get("data", {}).get("text/html", ""), "html.parser")
        for image in html.find_all("img"):
            assert is_description(image.get("alt", "")), f"alt text of: {start(cell)}"
        for figure in html.find_all("figure"):
            assert figure.find("figcaption"), f"caption of: {start(cell)}"


def test_cells_are_short(path):
    long = [start(cell) for cell in code_cells(path) if len(cell.source.splitlines()) > 25]
    assert not long, "more than 25 lines"
    lines = [code_lines(cell) for cell in code_cells(path)]
    assert statistics.median(lines) <= 6, f"lines of code per cell: {lines}"


def test_fits_its_budget(path):
    assert problems_of(read(path)) == []


def test_starts_with_one_title(path):
    first = read(path).cells[0]
    assert first.cell_type == "markdown" and re.search(r"^# \S", first.source, re.MULTILINE)
