"""`make notebooks`: what it cleans, what it refuses."""

import base64
import io

import nbformat.v4 as nb
import pytest
from PIL import Image

from tools import notebooks
from tools.notebooks import normalised, problems_of, refresh, smaller_png, text


def png(colour=(200, 30, 60, 255), size=(200, 100)):
    """A picture with a gradient, encoded as a notebook stores it."""
    image, buffer = Image.linear_gradient("L").resize(size).convert("RGBA"), io.BytesIO()
    Image.alpha_composite(image, Image.new("RGBA", size, (*colour[:3], 90))).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


@pytest.fixture
def dirty():
    """A notebook as a kernel leaves it."""
    view = {notebooks.WIDGET_VIEW: {"model_id": "1f"}, "text/plain": "Explorable()"}
    outputs = [nb.new_output("stream", text="one\n"), nb.new_output("stream", text="two\n"),
               nb.new_output("execute_result", data=view, execution_count=9),
               nb.new_output("display_data", data={"image/png": png()})]
    cell = nb.new_code_cell("print(1)", execution_count=9, outputs=outputs)
    cell.metadata.update(execution={"iopub.status.busy": "2020"}, collapsed=False, tags=["keep"])
    meta = {"widgets": {"state": {}}, "language_info": {"name": "python", "version": "3.1"}}
    return nb.new_notebook(cells=[nb.new_markdown_cell("# A"), cell, nb.new_code_cell("print(1)")],
                           metadata=meta)


def test_cleans_metadata_and_keeps_tags(dirty):
    clean = normalised(dirty)
    assert set(clean.metadata) == {"kernelspec", "language_info"}
    assert clean.metadata.language_info == {"name": "python"}
    assert clean.cells[1].metadata == {"tags": ["keep"]}


def test_joins_streams_drops_views_counts_cells(dirty):
    first, second = normalised(dirty).cells[1:]
    assert [cell.execution_count for cell in (first, second)] == [1, 2]
    assert first.outputs[0].text == "one\ntwo\n"
    assert dict(first.outputs[1].data) == {"text/plain": "Explorable()"}
    assert first.outputs[1].execution_count == 1


def test_what_the_site_folds_is_folded_in_jupyterlab():
    words = ["```{solution-start} a", "worked", "```{solution-end}\n\n{solution-start}",
             "{solution-end}"]  # fmt: skip
    cells = [c for word in words for c in (nb.new_markdown_cell(word), nb.new_code_cell("1"))]
    cells.append(nb.new_code_cell("2", metadata={"tags": ["hide-input"]}))
    folded = normalised(nb.new_notebook(cells=cells)).cells
    hidden = [cell.metadata.get("jupyter") for cell in folded]
    whole = {"outputs_hidden": True, "source_hidden": True}
    assert hidden == [None, whole, None, whole, None, whole, None, None, {"source_hidden": True}]


def test_ids_are_stable_and_unique(dirty):
    before = [cell.id for cell in normalised(dirty).cells]
    dirty.cells.insert(0, nb.new_markdown_cell("new"))
    after = [cell.id for cell in normalised(dirty).cells]
    assert after[1:] == before and len(set(after)) == 4


def test_normalising_twice_changes_nothing(dirty):
    once = text(normalised(dirty))
    assert text(normalised(notebooks.nbformat.reads(once, as_version=4))) == once
    assert once.endswith("}\n")


def test_pictures_keep_their_size_and_nearly_their_colours():
    before, after = (Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")
                     for data in (png(), smaller_png(png())))
    assert before.size == after.size
    differences = [abs(a - b) for a, b in zip(before.tobytes(), after.tobytes(), strict=True)]
    assert max(differences) <= 8


def notebook(source, tmp_path):
    path = tmp_path / "a.ipynb"
    path.write_text(text(nb.new_notebook(cells=[nb.new_code_cell(source)])))
    return path


def test_runs_where_the_notebook_lies(tmp_path):
    path = notebook("import os; print(os.path.basename(os.getcwd()))", tmp_path)
    assert refresh(path) == []
    assert tmp_path.name in path.read_text()


def test_refuses_warnings_and_errors(tmp_path):
    warned = refresh(notebook("import warnings; warnings.warn('careful')", tmp_path))
    assert len(warned) == 1 and "careful" in warned[0]
    assert "ZeroDivisionError" in refresh(notebook("1 / 0", tmp_path))[0]


def test_refuses_what_is_problems_of(dirty, monkeypatch):
    monkeypatch.setattr(notebooks, "IMAGE_KB", 0)
    monkeypatch.setattr(notebooks, "NOTEBOOK_KB", 0)
    problems = problems_of(normalised(dirty), seconds=31)
    assert [line.split(", allowed")[0] for line in problems][0] == "31 s"
    assert len(problems) == 3 and "picture" in problems[-1]


YOURS = "https://github.invalid/you/book"


def test_a_repository_brings_one_cell_for_colab_and_takes_it_away():
    book = nb.new_notebook(cells=[nb.new_markdown_cell("# A"), nb.new_code_cell("1")])
    for url in ("https://github.invalid/old/name", YOURS):
        notebooks.set_up_for_colab(book, url, "main")
    title, cell, code = [cell.source for cell in book.cells]
    assert (title, code) == ("# A", "1") and f"git+{YOURS}@main" in cell
    notebooks.set_up_for_colab(book, "", "main")
    assert [cell.source for cell in book.cells] == ["# A", "1"]


def test_the_cell_for_colab_does_nothing_elsewhere(tmp_path, monkeypatch):
    monkeypatch.setattr(notebooks, "repository", lambda: {"url": YOURS, "branch": "main"})
    path = notebook("print('there is no github.invalid to fetch from')", tmp_path)
    assert refresh(path) == []
    cells = notebooks.nbformat.read(path, as_version=4).cells
    assert [len(cell.outputs) for cell in cells] == [1, 0]
