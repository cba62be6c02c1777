"""The experiments from the command line: `python -m sbm_lite list`, and `run NAME`."""

import argparse
import difflib
import json
import sys
import time
from pathlib import Path

import matplotlib

from sbm_lite import figures, runtime


def main(arguments: list[str] | None = None) -> int:
    """Run what the command line asks for; 0, or 2 after one line on what was wrong."""
    wanted = _parser().parse_args(arguments)
    from sbm_lite import experiments  # torch takes a second; --help need not wait for it

    if wanted.verb == "list":
        for name, function in experiments.EVERY.items():
            print(f"{name:17} {function.__doc__.splitlines()[0]}")
        return 0
    try:
        function = _experiment(experiments.EVERY, wanted.name)
        device = runtime.device(wanted.device)
        folder = _writable(Path(wanted.out))
        start = time.perf_counter()
        print(f"{wanted.name} on {device.type}, seed {wanted.seed}", flush=True)
        result = function(device=str(device), seed=wanted.seed)
        _write(result, folder / wanted.name, wanted, time.perf_counter() - start)
    except (ValueError, OSError, ImportError, FloatingPointError) as error:
        print(f"sbm_lite: {error}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m sbm_lite", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("list", help="the experiments, a line each")
    run = verbs.add_parser("run", help="run one; write its figure, numbers and weights")
    run.add_argument("name", help="one of the names that `list` shows")
    run.add_argument("--device", default="auto", help="auto (default), cpu, cuda, cuda:1, mps")
    run.add_argument("--seed", type=int, default=0, help="of all randomness (default 0)")
    run.add_argument("--out", default="runs", help="folder to write to (default runs)")
    return parser


def _experiment(every: dict, name: str):
    """The function called `name`, or a ValueError that says what there is."""
    if name in every:
        return every[name]
    close = difflib.get_close_matches(name, every, n=1)
    hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(every)}"
    raise ValueError(f"no experiment is called {name!r}; {hint}")


def _writable(folder: Path) -> Path:
    """The folder, made if need be, once a file could be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".sbm_lite"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise OSError(f"--out must be a folder one can write to, got {folder} ({error})") from error
    return folder


def _write(result, stem: Path, wanted: argparse.Namespace, seconds: float) -> None:
    """The files of a result: .json, .png, .safetensors of a trained network, .gif of a film."""
    from sbm_lite.experiments import base

    matplotlib.use("agg")
    figures.use_style()
    numbers = result.numbers()
    told = {"experiment": wanted.name, "seed": wanted.seed, "device": wanted.device}
    stem.with_suffix(".json").write_text(
        json.dumps(told | {"seconds": round(seconds, 1), "numbers": numbers}, indent=1) + "\n"
    )
    stem.with_suffix(".png").write_bytes(figures.png(result.picture()))
    if getattr(result, "net", None) is not None:
        recipe = f"python -m sbm_lite run {wanted.name} --seed {wanted.seed}"
        base.save(result.net, stem.with_suffix(".safetensors"), recipe)
    if hasattr(result, "film"):
        stem.with_suffix(".gif").write_bytes(result.film())
    width = max(map(len, numbers))
    for name, value in numbers.items():
        print(f"{name:{width}}  {value:{',' if isinstance(value, int) else ',.4g'}}")
    written = sorted(path.name for path in stem.parent.glob(f"{stem.name}.*"))
    print(f"{seconds:.1f} s; wrote {', '.join(written)} to {stem.parent}")


if __name__ == "__main__":
    sys.exit(main())
