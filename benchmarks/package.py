"""The package and the book: importing, running every chapter, building the site.

    python -m benchmarks.package

Imports are timed in fresh processes, after PyTorch's own. A chapter runs as in `make notebooks`,
in a clean kernel with one thread, and is not saved; the site is built as in `make site`, into a
folder that is thrown away.
"""

import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import nbformat

from benchmarks import measure
from benchmarks.measure import Table, Target
from tools import notebooks, website

ROOT = Path(__file__).parents[1]
MATHS = (
    "runtime validation calculus densities noise losses networks samplers training diagnostics "
    "variance data"
).split()
IMPORTS = {
    "torch": "import torch",
    "sbm_lite": "import sbm_lite",
    "its modules of mathematics": "; ".join(f"import sbm_lite.{name}" for name in MATHS),
}


def import_times(turns: int) -> measure.Times:
    """Seconds of each import after the ones before it, in fresh processes."""
    lines = ["from time import perf_counter as now", "began = now()"]
    for statement in IMPORTS.values():
        lines += [statement, "print(now() - began)", "began = now()"]
    command = [sys.executable, "-c", "\n".join(lines)]
    runs = [
        subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        for _ in range(turns)
    ]
    columns = zip(*(map(float, ran.stdout.split()) for ran in runs), strict=True)
    return dict(zip(IMPORTS, map(list, columns), strict=True))


def imports(quick: bool) -> tuple[Table, Target]:
    times = import_times(2 if quick else 9)
    rows = [
        [name, measure.spread((statistics.median(t), min(t), max(t)))] for name, t in times.items()
    ]
    added = statistics.median(map(sum, zip(*list(times.values())[1:], strict=True)))
    note = f"Each after the ones above it; together ours add {measure.number(added)} s."
    table = Table("Importing", note, ["import", "s"], rows)
    return table, measure.at_most(
        "importing sbm_lite and its mathematics, after torch", 0.3, added, " s"
    )


def chapters(quick: bool) -> tuple[Table, Target]:
    files = sorted((ROOT / "book").glob("*.ipynb"))[: 1 if quick else None]
    os.environ |= {"OMP_NUM_THREADS": "1", "SBM_LITE_PROGRESS": "0"}
    took = {}
    for file in files:
        notebook = nbformat.read(file, as_version=4)
        took[file.stem] = measure.seconds(
            lambda n=notebook, folder=file.parent: notebooks.run(n, folder)
        )
    whole = sum(took.values())
    rows = [[name, measure.number(t)] for name, t in took.items()]
    table = Table("Running the chapters", "", ["chapter", "s"], [*rows, ["all", f"{whole:.0f}"]])
    return table, measure.at_most("running the whole book", 180, whole, " s")


def site() -> Table:
    """From notebooks with their outputs to the website."""
    with tempfile.TemporaryDirectory() as folder:
        took = measure.seconds(lambda: website.built(Path(folder)))
    return Table("Building the site", "", ["", "s"], [["jupyter-book build", f"{took:.0f}"]])


def run(quick: bool = False) -> tuple[list[Table], list[Target]]:
    imported, light = imports(quick)
    executed, short = chapters(quick)
    return [imported, executed, *([] if quick else [site()])], [light, short]


if __name__ == "__main__":
    measure.main(run)
