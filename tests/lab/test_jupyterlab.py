"""The lab as a reader meets it: a real JupyterLab, driven in a real browser."""

import contextlib
import re
import shutil
import time
import urllib.error
import urllib.request
from pathlib import Path

import nbformat
import pytest
from playwright.sync_api import TimeoutError

from sbm_lite import labs
from sbm_lite.explorables import EVERY
from tools.notebooks import normalised

ROOT = Path(__file__).parents[2]
CHAPTER = "03_langevin.ipynb"
PAINTED = """canvas => {
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  return new Set(new Uint32Array(data.buffer)).size > 20;
}"""
AT_REST = """() => {
  const kernel = window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel;
  return kernel?.status === "idle" && kernel.connectionStatus === "connected";
}"""
FOLDED = """() => jupyterapp.shell.currentWidget.content.widgets
  .filter(cell => cell.model.type === "code").map(cell => cell.inputHidden)"""
PANELS = [name for name in labs.__all__ if name.endswith("_lab")]
ERRORS = ".jupyter-widgets-error-widget, [data-mime-type='application/vnd.jupyter.error']"
CHANGED = "([output, before]) => output.textContent !== before"
SAYS = "([output, words]) => output.textContent === words"
ANOTHER_RUN = """([sentence, before]) =>
  ![before, "Running …"].includes(sentence.textContent)"""


def notebook(name):
    """A committed notebook."""
    return nbformat.read(ROOT / "book" / name, as_version=4)


def scroll_to(page, words):
    """The cell whose source contains `words`, attached to the page and on screen."""
    page.evaluate(
        """async words => {
          const { content } = jupyterapp.shell.currentWidget;
          const has = cell => cell.model.sharedModel.source.includes(words);
          const index = content.widgets.findIndex(has);
          content.activeCellIndex = index;
          await content.scrollToItem(index, "center");
        }""",
        words,
    )
    return page.locator(".jp-Notebook .jp-mod-active")


def run_all(page):
    """Restart the kernel, say yes, and wait until the last cell has run."""
    page.wait_for_function(AT_REST)
    page.evaluate(
        """() => {
          window.ran = undefined;
          jupyterapp.commands.execute("notebook:restart-run-all").then(ok => { window.ran = ok; });
        }"""
    )
    page.get_by_role("button", name="Confirm Kernel Restart").click()
    page.wait_for_function("window.ran !== undefined", timeout=240_000)
    assert page.evaluate("window.ran")


def until(holds, seconds=60):
    """Ask again until `holds()`."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def chapter(tab):
    """Chapter 3, restarted and run from top to bottom."""
    page = tab(CHAPTER)
    run_all(page)
    return page


@pytest.fixture
def evaluate(lab, chapter):
    """`evaluate(code)` in the kernel of chapter 3."""
    with lab.kernel(CHAPTER) as evaluate:
        yield evaluate


def outcomes(page):
    """Every output of the open notebook."""
    cells = page.evaluate("jupyterapp.shell.currentWidget.content.model.sharedModel.toJSON().cells")
    return [output for cell in cells for output in cell.get("outputs", [])]


def test_make_lab_starts_it_from_this_configuration():
    assert "jupyter lab --config tools/lab/config.py\n" in (ROOT / "Makefile").read_text("utf8")


def test_it_listens_on_this_machine_alone_and_asks_for_its_token(lab):
    assert lab.about["url"].startswith("http://127.0.0.1:") and len(lab.about["token"]) >= 32
    for path in ("api/contents", "api/kernels"):
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(lab.about["url"] + path)
    for path in ("lab", "files/start.md"):
        with urllib.request.urlopen(lab.about["url"] + path) as answer:
            assert "/login?" in answer.url
    assert lab.ask("contents")["content"]


def test_the_first_page_names_every_chapter_and_its_question():
    rows = re.findall(r"^\| \[(.+)\]\((.+\.ipynb)\) \| (.+) \|$",
                      (ROOT / "book/start.md").read_text("utf8"), re.MULTILINE)  # fmt: skip
    names = sorted(path.name for path in (ROOT / "book").glob("*.ipynb"))
    assert [name for _, name, _ in rows] == names
    for title, name, question in rows:
        opening = notebook(name).cells[0].source
        assert f"# {title}\n\n*{question}*\n" in opening


def test_it_opens_at_a_page_that_leads_into_the_chapters(lab, tab):
    page = tab("start.md")
    page.get_by_role("link", name="2 · The score function").click()
    page.wait_for_function("document.querySelector('.jp-NotebookPanel .myst h1')")
    page.wait_for_url("**/02_score_function.ipynb")
    page.get_by_role("link", name="chapter 1").first.click()
    page.wait_for_url("**/01_likelihood_problem.ipynb")
    assert not page.ear.complaints, "\n".join(page.ear.complaints)
    page.close()


def test_every_cell_runs(chapter):
    assert not [output for output in outcomes(chapter) if output["output_type"] == "error"]


def test_saved_it_is_the_committed_notebook_again(lab, chapter):
    """Up to pictures and numbers, which may differ in the last digit from machine to machine."""
    chapter.evaluate("jupyterapp.commands.execute('docmanager:save')")
    saved = normalised(nbformat.read(lab.folder / "book" / CHAPTER, as_version=4))
    committed = notebook(CHAPTER)
    for book in (saved, committed):
        for cell in book.cells:
            for output in cell.get("outputs", []):
                output["data"] = sorted(output.get("data", {}))
                output.pop("text", None)
    assert saved == committed


def test_boxes_references_and_exercises_are_rendered(chapter):
    slip = scroll_to(chapter, "Where the sources slip").locator("aside.slip")
    slip.wait_for()
    assert "One source writes" in slip.inner_text()
    scroll_to(chapter, "{admonition} Takeaway").locator("aside.takeaway").wait_for()
    scroll_to(chapter, "{exercise-start}").locator("aside.myst-exercise").first.wait_for()
    cells = [cell for cell in notebook(CHAPTER).cells if cell.cell_type == "code"]
    folded = [bool(cell.metadata.get("jupyter")) for cell in cells]
    assert chapter.evaluate(FOLDED) == folded and set(folded) == {True, False}
    other = scroll_to(chapter, "### The other convention")
    reference = other.locator("a[href='#eq-langevin']").first
    reference.wait_for()
    assert re.fullmatch(r"\(\d+\)", reference.inner_text())
    shown = other.locator(".myst").inner_text()
    assert not re.search(r":::|```|\{[a-z:]+\}|\$", shown), shown


def test_slider_and_trait_move_each_other(chapter, evaluate):
    figure = scroll_to(chapter, "explorables.LangevinExplorable()").locator(".sbm-explorable")
    figure.locator("canvas").first.wait_for()
    chapter.wait_for_function(PAINTED, arg=figure.locator("canvas").first.element_handle())
    slider = figure.get_by_role("slider", name="Step size")
    shown = figure.locator(f"output[for='{slider.get_attribute('id')}']")
    before = float(evaluate("Out[1].step_size"))
    slider.press("ArrowRight")
    chapter.wait_for_function(CHANGED, arg=[shown.element_handle(), "η = 0.10"])
    until(lambda: float(evaluate("Out[1].step_size")) > before)
    told = float(shown.inner_text().removeprefix("η = "))
    assert abs(told - float(evaluate("Out[1].step_size"))) < 0.001
    evaluate("Out[1].set_trait('step_size', 2.0)")
    chapter.wait_for_function(SAYS, arg=[shown.element_handle(), "η = 2.00"])


def test_the_lab_runs_again_when_a_slider_moves(chapter, evaluate):
    cell = scroll_to(chapter, "labs.langevin_lab()")
    picture = cell.locator("img.widget-image")
    picture.wait_for()
    before = picture.get_attribute("src")
    handle = cell.locator(".widget-hslider", has_text="step size").locator(".noUi-handle")
    handle.press("ArrowRight")
    chapter.wait_for_function(
        "([img, before]) => img.src !== before", arg=[picture.element_handle(), before]
    )
    step_size = evaluate(
        "next(o for o in Out.values() if type(o) is labs.Lab).controls['step_size'].value"
    )
    cell.get_by_text(f"steps of η = {float(step_size):.3g}").wait_for()


def test_nobody_complained_and_nobody_else_was_asked(chapter):
    """The terms of the glossary and a formula of another chapter are all that is missing."""
    assert not chapter.ear.complaints, "\n".join(chapter.ear.complaints)
    terms = {name for name in chapter.ear.missing if name.startswith("term-")}
    assert chapter.ear.missing - terms == {"eq-line-integral"}
    assert not chapter.locator(ERRORS).count()


@pytest.fixture(scope="module")
def everything(lab, tab):
    """A notebook of every explorable and every lab, each in a cell of its own, and run."""
    figures = [
        f"from sbm_lite.explorables import {cls.__name__}\n{cls.__name__}()" for cls in EVERY
    ]
    panels = [f"from sbm_lite.labs import {name}\n{name}()" for name in PANELS]
    cells = [nbformat.v4.new_code_cell(source) for source in figures + panels]
    notebook = normalised(nbformat.v4.new_notebook(cells=cells))
    nbformat.write(notebook, lab.folder / "book/everything.ipynb")
    page = tab("everything.ipynb")
    run_all(page)
    yield page
    assert not page.ear.complaints, "\n".join(page.ear.complaints)


def test_every_explorable_and_its_traits_follow_each_other(lab, everything):
    with lab.kernel("everything.ipynb") as evaluate:
        for k, cls in enumerate(EVERY, start=1):
            cell = scroll_to(everything, f"\n{cls.__name__}()")
            slider = cell.locator("input[type=range]").first
            slider.wait_for()
            shown = cell.locator(f"output[for='{slider.get_attribute('id')}']").element_handle()
            before = shown.text_content()
            evaluate(f"globals().update(before=Out[{k}].state())")
            slider.press("ArrowRight")
            everything.wait_for_function(CHANGED, arg=[shown, before])
            until(lambda k=k: evaluate(f"Out[{k}].state() != before") == "True")
            evaluate(f"[Out[{k}].set_trait(n, v) for n, v in before.items()]")
            everything.wait_for_function(SAYS, arg=[shown, before])


@pytest.mark.parametrize("name", PANELS)
def test_every_panel_runs_again(everything, name):
    cell = scroll_to(everything, f"\n{name}()")
    sentence = cell.locator(".widget-html-content")
    sentence.wait_for()
    before = sentence.text_content()
    handle = cell.locator(".noUi-handle").first
    at_the_end = handle.evaluate("handle => handle.ariaValueNow === handle.ariaValueMax")
    handle.press("ArrowLeft" if at_the_end else "ArrowRight")
    everything.wait_for_function(ANOTHER_RUN, arg=[sentence.element_handle(), before])
    assert cell.locator("img.widget-image").is_visible()


def without_kernel(tab, path):
    """A notebook open with no kernel. JupyterLab at times opens it before it has read that it is
    not to start one; then that one is shut down, and the notebook opened again."""
    for _ in range(3):
        page = tab(path)
        with contextlib.suppress(TimeoutError):
            page.get_by_role("button", name="No Kernel", exact=True).click(timeout=30_000)
            return page
        page.evaluate("jupyterapp.serviceManager.sessions.shutdownAll()")
        page.close()
    return pytest.fail("It starts a kernel each time.")


def test_without_a_kernel_pictures_stand_in(lab, tab, chapter):
    """As committed, the posters and the lab's picture; as saved here, the figures themselves."""
    chapter.evaluate("jupyterapp.commands.execute('docmanager:save')")
    shutil.copy(lab.folder / "book" / CHAPTER, lab.folder / "book/saved.ipynb")
    shutil.copy(ROOT / "book" / CHAPTER, lab.folder / "book/committed.ipynb")
    lab.choose("notebook-extension/tracker", autoStartDefaultKernel=False)
    for name, figure, panel in (
        ("committed", "figure.explorable > img", "figure.lab > img"),
        ("saved", ".sbm-explorable canvas", "img.widget-image"),
    ):
        page = without_kernel(tab, f"{name}.ipynb")
        page.wait_for_function("window.jupyterapp?.shell.currentWidget?.context?.isReady")
        scroll_to(page, "explorables.LangevinExplorable()").locator(figure).first.wait_for()
        scroll_to(page, "labs.langevin_lab()").locator(panel).wait_for()
        assert not page.locator(ERRORS).count()
        assert not page.ear.complaints, "\n".join(page.ear.complaints)
