"""Run the benchmarks, each in a fresh process, and write benchmarks/RESULTS.md: `make bench`.

    python -m benchmarks                # all of them
    python -m benchmarks samplers gpu   # these; the page is written from all results kept

Results are kept in _build/bench. The page says so where one is of another day or another machine.
"""

import argparse
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

from benchmarks.measure import Table, Target, markdown, shown, shown_targets

HERE = Path(__file__).parent
KEPT = HERE.parent / "_build" / "bench"
PAGE = HERE / "RESULTS.md"
NAMES = [
    "samplers", "losses", "networks", "diffusion", "processes", "package", "pages", "explorables",
    "gpu",
]  # fmt: skip
INTRODUCTION = """\
# How fast

`make bench` writes this page. Everything is measured anew; nothing is typed by hand.

All that stand in one row took turns in one process: a warm-up, then several rounds, in each of \
which everyone ran once. A ratio is the other's time over ours in the same round, so above 1 ours \
is faster: the median of the rounds, and in brackets the lowest and the highest. A *limit* is work \
that nobody can leave out, timed alone; there a ratio of 0.5 says that we take twice as long as \
the limit."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(NAMES)}")
    names = parser.parse_args().names or NAMES
    for name in names:
        if name not in NAMES:
            parser.error(f"NAME must be one of {', '.join(NAMES)}, got {name}")
    failed = [name for name in names if not measured(name)]
    PAGE.write_text(page(kept()), encoding="utf8")
    print(f"Wrote {PAGE.relative_to(HERE.parent)}")
    if failed:
        print(f"These failed, and have their earlier results or none: {', '.join(failed)}")
    return int(bool(failed))


def measured(name: str) -> bool:
    """Run one benchmark in a fresh process that keeps its result; True if it came to its end."""
    print(f"\n=== {name} ===\n", flush=True)
    command = [sys.executable, "-m", f"benchmarks.{name}", "--keep", KEPT / f"{name}.json"]
    return subprocess.run(command, cwd=HERE.parent, check=False).returncode == 0


def kept() -> dict[str, dict]:
    """The results there are, by name."""
    files = {name: KEPT / f"{name}.json" for name in NAMES}
    return {n: json.loads(f.read_text(encoding="utf8")) for n, f in files.items() if f.exists()}


def page(results: dict[str, dict]) -> str:
    """The whole page."""
    dates = Counter(result["date"] for result in results.values())
    settings = Counter(json.dumps(result["setting"]) for result in results.values())
    usual = {"date": dates.most_common(1)[0][0]} | json.loads(settings.most_common(1)[0][0])
    targets = [Target(**target) for result in results.values() for target in result["targets"]]
    parts = [
        INTRODUCTION,
        markdown(["measured on", usual["date"]], list(usual.items())[1:]),
        "## Targets",
        shown_targets(targets),
        *(section(result, usual) for result in results.values()),
    ]
    return "\n\n".join(parts) + "\n"


def section(result: dict, usual: dict[str, str]) -> str:
    """One benchmark: what is compared, where it differs from the usual setting, its tables."""
    title, _, about = result["about"].strip().partition("\n")
    own = {"date": result["date"]} | result["setting"]
    other = [f"{name} {own[name]}" for name in own if own[name] != usual[name]]
    parts = [f"## {title.rstrip('.')}", prose(about)]
    parts += [f"Here: {'; '.join(other)}."] if other else []
    parts += [shown(Table(**table)) for table in result["tables"]]
    parts += [f"All this took {result['seconds'] / 60:.1f} minutes."]
    return "\n\n".join(part for part in parts if part)


def prose(about: str) -> str:
    """A docstring below its first line, without the indented commands."""
    paragraphs = about.strip("\n").split("\n\n")
    return "\n\n".join(" ".join(p.split()) for p in paragraphs if not p.startswith("    "))


if __name__ == "__main__":
    sys.exit(main())
