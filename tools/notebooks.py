"""Run notebooks in a clean kernel and save them in normal form: `make notebooks`.

    python -m tools.notebooks book/*.ipynb

Ends with an error when a cell fails or warns, or when a notebook is over its budget.
"""

import base64
import hashlib
import io
import re
import sys
import time
from pathlib import Path

import nbformat
import yaml
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from PIL import Image

SECONDS, NOTEBOOK_KB, IMAGE_KB = 30, 600, 100
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
CONFIG = Path(__file__).parents[1] / "_config.yml"
SET_UP = """\
# On Colab, fetch the package of this book; elsewhere this does nothing.
import sys

if "google.colab" in sys.modules:
    %pip install --quiet "git+{url}@{branch}"
    from google.colab import output
    output.enable_custom_widget_manager()"""
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


def run(notebook, folder):
    """Execute every cell in a fresh kernel started in `folder`; raises on the first error."""
    import matplotlib.font_manager  # noqa: F401  builds the font cache, or a cell would say so

    options = {"timeout": 120, "kernel_name": "python3", "store_widget_state": False}
    NotebookClient(notebook, resources={"metadata": {"path": str(folder)}}, **options).execute()


def set_up_for_colab(notebook, url, branch):
    """Put the cell that fetches the package after the title; none without a repository."""
    kept = [cell for cell in notebook.cells if "set-up" not in cell.metadata.get("tags", [])]
    if url:
        metadata = {"tags": ["set-up", "nbval-skip", "remove-cell"]}
        source = SET_UP.format(url=url, branch=branch)
        kept.insert(1, nbformat.v4.new_code_cell(source, metadata=metadata))
    notebook.cells = kept


def repository():
    """Address and branch of the repository of the book, as `_config.yml` has them."""
    return yaml.safe_load(CONFIG.read_text(encoding="utf8"))["repository"]


def normalised(notebook):
    """The one form in which a notebook is committed; normalising twice changes nothing."""
    notebook = nbformat.from_dict(notebook)
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    normalise_metadata(notebook.metadata)
    used, count, solution = set(), 0, False
    for cell in notebook.cells:
        solution = in_solution(cell, solution)
        cell.id = cell_id(cell, used)
        drop(cell.metadata, "execution", "collapsed", "scrolled", "jupyter", "lines_to_next_cell")
        if cell.cell_type == "code" and cell.source.strip():
            count += 1
            normalise_outputs(cell, count)
            fold(cell, solution)
    return notebook


def in_solution(cell, before):
    """Whether a cell stands in the solution of an exercise, given whether the one before it did."""
    if cell.cell_type != "markdown":
        return before
    start, end = (cell.source.rfind(f"{{solution-{side}}}") for side in ("start", "end"))
    return before if start == end else start > end


def fold(cell, solution):
    """What the site folds is folded in JupyterLab: drawing code, and all of a solution."""
    if solution:
        cell.metadata["jupyter"] = {"outputs_hidden": True, "source_hidden": True}
    elif "hide-input" in cell.metadata.get("tags", []):
        cell.metadata["jupyter"] = {"source_hidden": True}


def text(notebook):
    """`notebook` as the text of its file."""
    return nbformat.writes(notebook).rstrip("\n") + "\n"


def normalise_metadata(metadata):
    """Fixed kernel name; nothing about this machine, no widget state."""
    drop(metadata, "widgets", "jupytext")
    metadata["kernelspec"] = dict(KERNEL)
    language = metadata.setdefault("language_info", {"name": "python"})
    drop(language, "version", "codemirror_mode")


def cell_id(cell, used):
    """An id from the cell's own text, so that it moves with the cell."""
    digest = hashlib.sha1((cell.cell_type + cell.source).encode()).hexdigest()[:8]
    free = (f"{digest}-{k}" if k else digest for k in range(len(used) + 1))
    used.add(new := next(name for name in free if name not in used))
    return new


def normalise_outputs(cell, count):
    """Number the cell, join split streams, drop widget views, shrink pictures."""
    cell.execution_count = count
    cell.outputs = joined_streams(cell.outputs)
    for output in cell.outputs:
        if output.output_type == "execute_result":
            output.execution_count = count
        data = output.get("data", {})
        drop(data, WIDGET_VIEW)
        if "image/png" in data:
            data["image/png"] = smaller_png(data["image/png"])


def joined_streams(outputs):
    """Consecutive pieces of one stream joined: how a stream is cut depends on timing."""
    joined = []
    for output in outputs:
        last = joined[-1] if joined else {}
        if output.output_type == "stream" and last.get("name") == output.name:
            last["text"] += output.text
        else:
            joined.append(output)
    return joined


def smaller_png(encoded):
    """A palette of 256 colours where that is smaller; already small pictures stay as they are."""
    original = base64.b64decode(encoded)
    image = Image.open(io.BytesIO(original))
    if image.mode == "P":
        return encoded
    buffer = io.BytesIO()
    flat = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    flat.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
    small = buffer.getvalue()
    return encoded if len(small) >= len(original) else base64.b64encode(small).decode()


def drop(mapping, *keys):
    """Remove `keys` from `mapping` where present."""
    for key in keys:
        mapping.pop(key, None)


def problems_of(notebook, seconds=0.0):
    """What is too slow, too large or warned, one line each; empty when all is well."""
    size = len(text(notebook).encode()) / 1000
    checks = [(seconds, SECONDS, "s"), (size, NOTEBOOK_KB, "kB")]
    problems = [f"{value:.0f} {unit}, allowed {limit}" for value, limit, unit in checks
                if value > limit]
    outputs = [(cell, output) for cell in notebook.cells for output in cell.get("outputs", [])]
    for cell, output in outputs:
        problems += output_problems(cell, output)
    return problems


def output_problems(cell, output):
    """Warnings and heavy pictures of one output."""
    start = cell.source.strip().splitlines()[0]
    if output.get("name") == "stderr":
        return [f"the cell that starts `{start}` wrote to stderr: {output.text.strip()[:300]}"]
    sizes = [len(base64.b64decode(data)) / 1000 for kind, data in output.get("data", {}).items()
             if kind in ("image/png", "image/jpeg", "image/gif")]
    return [f"the cell that starts `{start}` shows a picture of {size:.0f} kB, allowed {IMAGE_KB}"
            for size in sizes if size > IMAGE_KB]


def refresh(path):
    """Run, normalise and save one notebook; returns its problems."""
    notebook, start = nbformat.read(path, as_version=4), time.perf_counter()
    set_up_for_colab(notebook, **repository())
    try:
        run(notebook, path.parent)
    except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
        return [re.sub(r"\x1b\[[0-9;]*m", "", str(error))]
    seconds, notebook = time.perf_counter() - start, normalised(notebook)
    path.write_text(text(notebook), encoding="utf8")
    print(f"{path}: {seconds:.1f} s, {path.stat().st_size / 1000:.0f} kB")
    return problems_of(notebook, seconds)


def main(names):
    """Refresh every notebook named; 1 if any has a problem."""
    problems = {name: refresh(Path(name)) for name in names}
    for name, lines in problems.items():
        print(*(f"{name}: {line}" for line in lines), sep="\n", end="\n" if lines else "")
    return int(any(problems.values()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
