"""The state in which a notebook is committed."""

import re
import statistics
from pathlib import Path

import nbformat
import pytest
from bs4 import BeautifulSoup

from tools.alt_text import faults
from tools.notebooks import (
    WIDGET_VIEW,
    normalised,
    problems_of,
    repository,
    set_up_for_colab,
    text,
)

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "book").glob("*.ipynb"))
PICTURES = {"image/png", "image/jpeg", "image/gif", "image/svg+xml"}


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


def figures_of(path):
    """(name, alt text, caption) of every figure that a cell draws."""
    for cell, output in outputs(path):
        if PICTURES & set(output.get("data", {})):
            about = cell.metadata.get("mystnb", {})
            figure, image = about.get("figure", {}), about.get("image", {})
            yield figure.get("name", start(cell)), image.get("alt", ""), figure.get("caption", "")


def embedded_of(path):
    """(name, alt text, caption) of every picture inside HTML: posters, labs, films."""
    for cell, output in outputs(path):
        html = BeautifulSoup(output.get("data", {}).get("text/html", ""), "html.parser")
        for image in html.find_all("img"):
            caption = image.find_next_sibling("figcaption")
            yield start(cell), image.get("alt", ""), caption.get_text() if caption else ""


def test_there_are_notebooks():
    assert NOTEBOOKS


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def path(request):
    return request.param


def test_is_in_normal_form(path):
    """If this fails, run `make notebooks`."""
    assert path.read_text(encoding="utf8") == text(normalised(read(path)))


def test_is_set_up_for_colab_if_there_is_a_repository(path):
    """If this fails, run `make notebooks`."""
    notebook = read(path)
    before = [cell.source for cell in notebook.cells]
    set_up_for_colab(notebook, **repository())
    assert [cell.source for cell in notebook.cells] == before


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


@pytest.mark.parametrize("wrong, fault", [
    ("Two clusters of dots.", "characters"),
    ("Two clusters of dots on the diagonal, " * 20 + "and no end.", "characters"),
    ("book/assets/images/two-clusters-of-dots-on-the-diagonal.", "path"),
    ("Two clusters of dots on the diagonal, in two-clusters.png", "path"),
    ("Both clusters of dots have the same share of one half.", "caption"),
    ("Two clusters of dots on the diagonal, with share $p$ each.", "LaTeX"),
    (r"Two clusters of dots on the diagonal, with \sigma = 1 each.", "LaTeX"),
    ("A picture of two clusters of dots on the diagonal.", "opens"),
    ("Figure showing two clusters of dots on the diagonal.", "opens"),
    ("Two clusters of dots on the diagonal, of equal shares", "full stop"),
])  # fmt: skip
def test_faults_of_an_alt_text_are_named(wrong, fault):
    caption = "Both clusters of dots have the same share of one half."
    assert fault in " ".join(faults(wrong, caption))
    assert faults("Two clusters of dots on the diagonal, of equal shares.", caption) == []


def test_every_picture_has_alt_text_and_caption(path):
    for name, alt, caption in figures_of(path):
        assert caption, f"caption of {name}"
        assert faults(alt, caption) == [], f"alt text of {name}"


def test_every_embedded_picture_has_alt_text_and_caption(path):
    for name, alt, caption in embedded_of(path):
        assert faults(alt, caption) == [], f"alt text in: {name}"
    for cell, output in outputs(path):
        html = BeautifulSoup(output.get("data", {}).get("text/html", ""), "html.parser")
        for figure in html.find_all("figure"):
            assert figure.find("figcaption"), f"caption of: {start(cell)}"


def test_alt_texts_of_figures_can_be_read_aloud(path):
    """Screen readers skip or spell out Greek letters and signs: write sigma, minus, one half."""
    for name, alt, _ in figures_of(path):
        assert re.findall(r"[^ -~]", alt) == [], f"alt text of {name}"


def test_pictures_of_cards_and_readme_have_alt_text():
    pages = [ROOT / "README.md", *(ROOT / "book").glob("*.md")]
    found = re.compile(r"^:img-alt: *(.*)$|!\[([^\]]*)\]\(", re.MULTILINE)
    words = "\n".join(page.read_text("utf8") for page in pages)
    alts = [card or inline for card, inline in found.findall(words)]
    assert len(alts) > len(NOTEBOOKS)
    assert not [(alt, faults(alt)) for alt in alts if faults(alt)]


def test_no_two_pictures_have_the_same_alt_text():
    pictures = [(*figures_of(path), *embedded_of(path)) for path in NOTEBOOKS]
    alts = [alt for of_chapter in pictures for _, alt, _ in of_chapter]
    assert len(alts) > 60
    assert {alt for alt in alts if alts.count(alt) > 1} == set()


def test_links_to_other_pages_work_in_jupyterlab(path):
    """There the role {doc} leads nowhere: write [chapter 2](02_score_function.ipynb)."""
    words = "\n".join(cell.source for cell in read(path).cells)
    assert "{doc}" not in words
    pages = re.findall(r"\]\(([\w-]+\.(?:ipynb|md))(?:#[\w-]+)?\)", words)
    assert pages and not [page for page in pages if not (path.parent / page).exists()]


def test_formulas_hold_no_half_signs(path):
    """½ and ¼ are no symbols of a formula; KaTeX, which JupyterLab uses, complains of them."""
    words = "\n\n".join(cell.source for cell in read(path).cells if cell.cell_type == "markdown")
    formulas = re.findall(r"\$\$.*?\$\$|\$[^$\n]+\$", words, flags=re.DOTALL)
    assert formulas and not [formula for formula in formulas if re.search("[½¼]", formula)]


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
