"""The experiments from the command line: `python -m sbm_lite list`, and `run NAME`."""

import argparse
import difflib
import inspect
import json
import sys
import time
from pathlib import Path

import matplotlib

from sbm_lite import distributed, figures


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
        with distributed.joined(wanted.device) as device:
            if distributed.size() > 1 and function not in experiments.OVER_PROCESSES:
                names = ", ".join(f.__name__ for f in experiments.OVER_PROCESSES)
                raise ValueError(f"{wanted.name} runs in one process; in several run {names}")
            _run(function, wanted, device)
    except (ValueError, OSError, ImportError, FloatingPointError) as error:
        print(f"sbm_lite: {error}", file=sys.stderr)
        return 2
    return 0


def _run(function, wanted: argparse.Namespace, device) -> None:
    """Run an experiment; the first process prints and writes.

    Until the results are written a checkpoint stands beside them, from which the same command
    goes on; experiments of seconds have none.
    """
    folder, first = Path(wanted.out), distributed.rank() == 0
    steps = "" if wanted.steps is None else f"-steps{wanted.steps}"
    checkpoint = folder / f"{wanted.name}-seed{wanted.seed}{steps}.checkpoint"
    known = inspect.signature(function).parameters
    options = {"checkpoint": checkpoint} if "checkpoint" in known else {}
    if wanted.steps is not None:
        if "n_steps" not in known:
            raise ValueError(f"{wanted.name} trains nothing, so it has no --steps")
        options["n_steps"] = wanted.steps
    if first:
        _writable(folder)
        several = f", {distributed.size()} processes" if distributed.size() > 1 else ""
        print(f"{wanted.name} on {device.type}, seed {wanted.seed}{several}", flush=True)
        if checkpoint.exists() and "checkpoint" in options:
            print(f"going on from {checkpoint}", flush=True)
    start = time.perf_counter()
    result = function(device=str(device), seed=wanted.seed, **options)
    if first:
        _write(result, folder / wanted.name, wanted, time.perf_counter() - start)
        for file in folder.glob(f"{checkpoint.name}*"):
            file.unlink()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m sbm_lite", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("list", help="the experiments, a line each")
    run = verbs.add_parser("run", help="run one; write its figure, numbers and weights")
    run.add_argument("name", help="one of the names that `list` shows")
    run.add_argument("--device", default="auto", help="auto (default), cpu, cuda, cuda:1, mps")
    run.add_argument("--seed", type=int, default=0, help="of all randomness (default 0)")
    run.add_argument("--steps", type=int, help="of training, in place of the experiment's own")
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
        try:
            probe.write_bytes(bytes(2**20))
        finally:
            probe.unlink(missing_ok=True)
    except (OSError, ValueError) as error:
        raise OSError(f"--out must be a folder one can write to, got {folder} ({error})") from error
    return folder


def _write(result, stem: Path, wanted: argparse.Namespace, seconds: float) -> None:
    """The files of a result: .json, .png, .safetensors of a trained network, .gif of a film."""
    from sbm_lite.experiments import base

    matplotlib.use("agg")
    figures.use_style()
    numbers = result.numbers()
    told = {"experiment": wanted.name, "seed": wanted.seed, "device": wanted.device}
    told |= {} if wanted.steps is None else {"steps": wanted.steps}
    stem.with_suffix(".json").write_text(
        json.dumps(told | {"seconds": round(seconds, 1), "numbers": numbers}, indent=1) + "\n"
    )
    stem.with_suffix(".png").write_bytes(figures.png(result.picture()))
    if getattr(result, "net", None) is not None:
        recipe = f"python -m sbm_lite run {wanted.name} --seed {wanted.seed}"
        recipe += "" if wanted.steps is None else f" --steps {wanted.steps}"
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
