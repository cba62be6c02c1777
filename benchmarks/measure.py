"""What all benchmarks share: taking turns, ratios with their spread, and tables to read.

A benchmark is a module with a docstring, which says what is compared, and a function

    run(quick: bool = False) -> tuple[list[Table], list[Target]]

and it ends in `measure.main(run)`. `quick` only shows that everything runs.
"""

import argparse
import importlib
import json
import math
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import date
from functools import partial
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

NOT_INSTALLED = "not installed"
PACKAGES = ["torch", "torchebm", "jax", "blackjax", "optax", "diffusers"]

Times = dict[str, list[float]]
Ratio = tuple[float, float, float]


class Table(NamedTuple):
    """Numbers side by side: the first column is a name, the others stand to the right."""

    title: str
    note: str
    head: list[str]
    rows: list[list[str]]


class Target(NamedTuple):
    """What was asked of the project, and what was measured."""

    what: str
    asked: str
    measured: str
    met: bool


def peer(name: str) -> ModuleType | None:
    """benchmarks/in_NAME.py, or None when what it needs is not installed."""
    try:
        return importlib.import_module(f"benchmarks.in_{name}")
    except ModuleNotFoundError:
        return None


def interleaved(contenders: dict[str, Callable[[], object]], turns: int) -> Times:
    """Seconds of each contender in each turn, after one warm-up.

    In a turn every contender runs once, always in the same order, so that a machine busy with
    something else slows all of them.
    """
    for run in contenders.values():
        run()
    return in_turns({name: partial(seconds, run) for name, run in contenders.items()}, turns)


def in_turns(clocks: dict[str, Callable[[], float]], turns: int) -> Times:
    """The same for contenders that say themselves how many seconds they took, if they are warm."""
    times: Times = {name: [] for name in clocks}
    for _ in range(turns):
        for name, clock in clocks.items():
            times[name].append(clock())
    return times


def seconds(run: Callable[[], object]) -> float:
    """How long one call takes."""
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def ratio(times: Times, ours: str, other: str) -> Ratio:
    """Median, lowest and highest of the other's time over ours, turn by turn."""
    ratios = [b / a for a, b in zip(times[ours], times[other], strict=True)]
    return statistics.median(ratios), min(ratios), max(ratios)


def power(xs: Sequence[float], ys: Sequence[float]) -> float:
    """The slope of log y against log x by least squares: p where y grows as xᵖ."""
    xs, ys = [math.log(x) for x in xs], [math.log(y) for y in ys]
    return statistics.linear_regression(xs, ys).slope


def number(value: float, digits: int = 2) -> str:
    """So many digits, and all before the point: 0.45, 3.2, 41, 1,300."""
    if value == 0:
        return "0"
    after = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:,.{after}f}"


def spread(values: Ratio) -> str:
    """'3.1 (2.8–3.4)': the median, and the lowest and highest of the turns."""
    median, lowest, highest = map(number, values)
    return f"{median} ({lowest}–{highest})"


def beside(times: Times, ours: str, other: str) -> str:
    """The other's time over ours as a cell of a table; says when the other is not there."""
    return spread(ratio(times, ours, other)) if other in times else NOT_INSTALLED


def at_least(what: str, asked: float, times: Times, other: str, ours: str = "ours") -> Target:
    """A target for the other's time over ours, judged by the median of the turns."""
    met = other in times and ratio(times, ours, other)[0] >= asked
    return Target(what, f"≥ {asked:g}", beside(times, ours, other), met)


def at_most(what: str, asked: float, measured: float, unit: str = "") -> Target:
    """A target for a number that should be small."""
    found = f"{number(measured, 3)}{unit}"
    return Target(what, f"≤ {asked:g}{unit}", found, bool(measured <= asked))


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table that is also aligned as text; all columns but the first to the right."""
    rows = [list(row) for row in rows]
    widths = [max(3, *map(len, column)) for column in zip(head, *rows, strict=True)]
    rule = ["-" * widths[0], *("-" * (w - 1) + ":" for w in widths[1:])]
    lines = []
    for first, *others in (head, rule, *rows):
        cells = [first.ljust(widths[0])]
        cells += [cell.rjust(w) for cell, w in zip(others, widths[1:], strict=True)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def shown(table: Table, heading: str = "###") -> str:
    """A table with its title and its note."""
    parts = [f"{heading} {table.title}", table.note, markdown(table.head, table.rows)]
    return "\n\n".join(part for part in parts if part)


def shown_targets(targets: Iterable[Target]) -> str:
    """The targets as a table."""
    verdict = lambda t: (  # noqa: E731
        "not measured" if t.measured == NOT_INSTALLED else "met" if t.met else "**missed**"
    )
    rows = [(t.what, t.asked, t.measured, verdict(t)) for t in targets]
    return markdown(["target", "asked", "measured", ""], rows)


def setting() -> dict[str, str]:
    """The machine and the versions that a result belongs to."""
    gigabytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    threads = os.environ.get("OMP_NUM_THREADS", "all")
    return {
        "processor": f"{_processor()}, {os.cpu_count()} cores, threads of PyTorch: {threads}",
        "graphics": _graphics(),
        "memory": f"{gigabytes:.0f} GB",
        "Python": platform.python_version(),
        **{name: _version(name) for name in PACKAGES},
        "Chromium": _chromium(),
    }


def main(run: Callable[..., tuple[list[Table], list[Target]]]) -> None:
    """What `python -m benchmarks.NAME` does: run and print; with --keep also write to a file."""
    about = sys.modules[run.__module__].__doc__
    parser = argparse.ArgumentParser(description=about.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="only see that everything runs")
    parser.add_argument("--keep", metavar="FILE", type=Path, help="write the result as JSON, too")
    options = parser.parse_args()
    began = time.perf_counter()
    tables, targets = run(quick=options.quick)
    took = time.perf_counter() - began
    for table in tables:
        print(shown(table, "##"), end="\n\n", flush=True)
    if targets:
        print(shown_targets(targets), end="\n\n", flush=True)
    if options.keep:
        result = dict(about=about, date=date.today().isoformat(), seconds=took, setting=setting())
        result |= dict(tables=[t._asdict() for t in tables], targets=[t._asdict() for t in targets])
        options.keep.parent.mkdir(parents=True, exist_ok=True)
        options.keep.write_text(json.dumps(result, indent=1, ensure_ascii=False), encoding="utf8")


def _processor() -> str:
    """The name of the processor, as the system gives it."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def _graphics() -> str:
    """The name of the graphics card PyTorch would use."""
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "none"


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return NOT_INSTALLED


def _chromium() -> str:
    """The version of the browser that the live figures are measured in."""
    import subprocess

    from tools import browser

    path = browser.installed()
    if path is None:
        return NOT_INSTALLED
    told = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout
    return next((word for word in told.split() if word[:1].isdigit()), "unknown")
