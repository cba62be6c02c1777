"""Langevin chains: plain, annealed and Metropolis-adjusted.

    python -m benchmarks.samplers

Ours beside a plain PyTorch loop, JAX (one compiled loop; of three ways to write the score the
fastest for the case), BlackJAX (`sgld` and `mala` in a compiled loop) and torchebm (given the
density as an energy, in the fastest of the ways tried). Limits: drawing the normals alone, in
PyTorch and in JAX. All start from the same points and take the same steps; JAX's compiling is left
out of the times and stood beside them.

The mixture of 2 is the book's two modes, in more dimensions with their means on the diagonal; that
of 50 has standard normal components around means drawn from N(0, 25 I).
"""

import itertools
import os
import resource
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch

from benchmarks import measure, plain
from benchmarks.measure import Table, Target, Times
from sbm_lite import densities, noise, samplers
from sbm_lite.runtime import generator

in_jax, in_blackjax, in_torchebm = map(measure.peer, ("jax", "blackjax", "torchebm"))

ETA, SECONDS, TURNS = 0.1, 0.1, 5
GIGABYTES = 8  # a contender that needs more than this for a case is left out of it
SIGMAS = noise.geometric_sigmas(20, 1, 10)
OTHERS = {"plain loop": plain, "JAX": in_jax, "BlackJAX": in_blackjax, "torchebm": in_torchebm}
LIMITS = {"normals": plain, "normals in JAX": in_jax}
COLUMNS = ["ours, M/s", *OTHERS, *LIMITS, "JAX compiles, s"]

Run = Callable[[], object]
Make = Callable[[plain.Mixture | list[plain.Mixture], torch.Tensor, float, int], Run]


def mixture(k: int, d: int) -> plain.Mixture:
    """The two modes, or k components spread out, in d dimensions."""
    if k == 2:
        modes = densities.two_modes()
        return plain.Mixture(modes.weights.float(), modes.means[:, :1].expand(2, d).float())
    return plain.Mixture(torch.full((k,), 1 / k), 5 * torch.randn(k, d, generator=generator(1)))


def levels(p: plain.Mixture) -> list[plain.Mixture]:
    """The published ladder: σ is the standard deviation of a component."""
    return [p._replace(std=float(sigma)) for sigma in SIGMAS]


def starts(n: int, d: int) -> torch.Tensor:
    return 16 * torch.rand(n, d, generator=generator(2)) - 8


def density(p: plain.Mixture) -> densities.GaussianMixture:
    return densities.GaussianMixture.isotropic(p.weights, p.means, p.std)


def langevin(p: plain.Mixture, x: torch.Tensor, eta: float, n_steps: int) -> Run:
    options = dict(step_size=eta, n_steps=n_steps, generator=generator(0))
    return partial(samplers.langevin, density(p).score, x, **options)


def annealed(ladder: list[plain.Mixture], x: torch.Tensor, eta: float, n_steps: int) -> Run:
    options = dict(step_size=eta, n_steps=n_steps, generator=generator(0))
    scores = {p.std: density(p).score for p in ladder}
    score = lambda x, sigma: scores[sigma](x)  # noqa: E731
    return partial(samplers.annealed_langevin, score, x, SIGMAS, **options)


def mala(p: plain.Mixture, x: torch.Tensor, eta: float, n_steps: int) -> Run:
    options = dict(step_size=eta, n_steps=n_steps, generator=generator(0))
    return partial(samplers.mala, density(p).log_prob, x, **options)


def contenders(ours: Make) -> dict[str, Make]:
    """Ours, and everybody who has a chain of the same name."""
    having = {who: getattr(module, ours.__name__, None) for who, module in OTHERS.items()}
    return {"ours": ours} | {who: make for who, make in having.items() if make}


def enough_steps(ours: Make, p, x: torch.Tensor, aim: float) -> int:
    """So many steps that ours takes about `aim` seconds: 2, 5, 10, 20, 50, … 1,000."""
    run = ours(p, x, ETA, 2)
    run()
    wanted = 2 * aim / measure.seconds(run)
    return max(s for s in (2, 5, 10, 20, 50, 100, 200, 500, 1000) if s <= max(2, wanted))


def fitting(make: Callable[[], Run]) -> Run | None:
    """What `make` prepares, once called; None if it needs more memory than is granted."""
    try:
        with memory_limit(GIGABYTES):
            run = make()
            run()
            return run
    except (RuntimeError, MemoryError) as error:
        if "alloc" not in str(error).lower() and "memory" not in str(error).lower():
            raise
        return None


@contextmanager
def memory_limit(gigabytes: float) -> Iterator[None]:
    """Refuse allocations beyond so much more than is in use now; only Linux can."""
    used, limit = Path("/proc/self/statm"), resource.RLIMIT_DATA
    if not used.exists():
        yield
        return
    soft, hard = resource.getrlimit(limit)
    pages = int(used.read_text().split()[5])
    now = pages * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(limit, (int(now + gigabytes * 1e9), hard))
    try:
        yield
    finally:
        resource.setrlimit(limit, (soft, hard))


class Race(NamedTuple):
    """How long everyone took for one case."""

    n: int
    n_steps: int
    times: Times
    compiling: str
    refused: list[str]

    def rate(self, who: str) -> str:
        """Millions of particle-steps a second."""
        if who in self.refused:
            return f"> {GIGABYTES} GB"
        took = statistics.median(self.times[who])
        return measure.number(self.n * self.n_steps / took / 1e6)

    def cells(self) -> list[str]:
        """The rate of ours, and the time of each other over it."""
        return [self.rate("ours"), *(self.beside(who) for who in COLUMNS[1:-1]), self.compiling]

    def beside(self, who: str) -> str:
        if who in self.refused:
            return f"> {GIGABYTES} GB"
        if who not in self.times and OTHERS.get(who):
            return "—"  # installed, but without such a chain
        if who in self.times and "ours" in self.refused:
            return f"{self.rate(who)} M/s"
        return measure.beside(self.times, "ours", who)


def race(ours: Make, p, x: torch.Tensor, aim: float = SECONDS, turns: int = TURNS) -> Race:
    """Everyone runs the same chains; `p` is a mixture, or the levels of an annealed chain."""
    possible = fitting(lambda: ours(p, x, ETA, 2))
    per_level = enough_steps(ours, p, x, aim) if possible else 2
    n_steps = per_level * (len(p) if isinstance(p, list) else 1)
    makers = {who: partial(make, p, x, ETA, per_level) for who, make in contenders(ours).items()}
    makers |= {who: partial(at.normals, x, n_steps) for who, at in LIMITS.items() if at}
    runs = {who: fitting(make) for who, make in makers.items()}
    there = {who: run for who, run in runs.items() if run}
    compiling = measure.number(there["JAX"].compiling) if "JAX" in there else "—"
    refused = [who for who in runs if who not in there]
    return Race(len(x), n_steps, measure.interleaved(there, turns), compiling, refused)


def plain_chains(quick: bool) -> tuple[Table, list[Target]]:
    """Every size of the problem, for Langevin dynamics."""
    particles = (1_000,) if quick else (1_000, 100_000, 1_000_000)
    rows, targets = [], []
    for k, d, n in itertools.product((2, 50), (2, 64), particles):
        headline = (k, d, n) == (2, 2, 100_000)
        large = k * d * n > 1e8
        options = dict(aim=4 * SECONDS, turns=2 * TURNS) if headline else dict(turns=2)
        raced = race(langevin, mixture(k, d), starts(n, d), **options if headline or large else {})
        rows.append([f"{k}", f"{d}", f"{n:,}", f"{raced.n_steps:,}", *raced.cells()])
        if headline:
            targets = headline_targets(raced.times)
    note = (
        "M/s are millions of particle-steps a second, the other columns ratios. Who needs more "
        f"than {GIGABYTES} GB for a case does not run it."
    )
    head = ["components", "d", "particles", "steps", *COLUMNS]
    return Table("Langevin", note, head, rows), targets


def headline_targets(times: Times) -> list[Target]:
    what = "Langevin, 100,000 particles, two modes, d = 2, "
    asked = {"JAX": 3, "torchebm": 40, "normals": 0.33}
    words = {"JAX": "over JAX", "torchebm": "over torchebm", "normals": "of the normals alone"}
    return [measure.at_least(what + words[who], least, times, who) for who, least in asked.items()]


def other_chains(quick: bool) -> list[Table]:
    """Annealed and Metropolis-adjusted chains on the two modes."""
    p, particles = mixture(2, 2), (1_000,) if quick else (1_000, 100_000)
    tables = []
    for ours, of, title in (
        (annealed, levels(p), "Annealed Langevin, ten levels from σ = 20 to 1"),
        (mala, p, "Metropolis-adjusted Langevin"),
    ):
        raced = [race(ours, of, starts(n, 2)) for n in particles]
        rows = [[f"{r.n:,}", f"{r.n_steps:,}", *r.cells()] for r in raced]
        tables.append(Table(title, "Two modes, d = 2.", ["particles", "steps", *COLUMNS], rows))
    return tables


def energies(quick: bool) -> list[Table]:
    """torchebm with the same density told in three ways."""
    if in_torchebm is None:
        return []
    p, n, n_steps = mixture(2, 2), 1_000 if quick else 100_000, 20
    x, stream = starts(n, 2), generator(0)
    told = {
        "energy, multiplied out": in_torchebm.Energy(p),
        "energy of torch.distributions": in_torchebm.EnergyOfDistributions(p),
        "energy with its gradient in closed form": in_torchebm.EnergyWithScore(p),
    }
    runs = {"ours": langevin(p, x, ETA, n_steps)} | {
        name: partial(in_torchebm.sample, energy, x, ETA, n_steps, stream)
        for name, energy in told.items()
    }
    times = measure.interleaved(runs, TURNS)
    rows = [[name, measure.beside(times, "ours", name)] for name in told]
    note = f"{n:,} particles, two modes, d = 2. The first is the one in the tables above."
    return [Table("torchebm told the density in other ways", note, ["", "over ours"], rows)]


def linearity(quick: bool) -> tuple[list[Table], list[Target]]:
    """How time grows with particles and with steps, and memory with steps."""
    p, most = mixture(2, 2), 5 if quick else 6
    by_particles = [(10**e, 20) for e in range(3, most + 1)]
    by_steps = [(10_000, 10**e) for e in range(1, most - 1)]
    tables, targets = [], []
    for title, cases, axis in (("particles", by_particles, 0), ("steps", by_steps, 1)):
        runs = {case: langevin(p, starts(case[0], 2), ETA, case[1]) for case in cases}
        times = measure.interleaved(runs, 3)
        medians = [statistics.median(times[case]) for case in cases]
        rows = [
            [f"{n:,}", f"{steps:,}", f"{n * steps:,}", measure.number(1e3 * took)]
            for (n, steps), took in zip(cases, medians, strict=True)
        ]
        grown = measure.power([case[axis] for case in cases[1:]], medians[1:])
        head = ["particles", "steps", "particle-steps", "ms"]
        note = f"Without the first row the time grows as {title} to the power {grown:.2f}."
        tables.append(Table(f"Time against {title}", note, head, rows))
        targets.append(measure.at_most(f"Langevin, power of {title} in its time", 1.1, grown))
    return tables, targets


def memory(quick: bool) -> tuple[Table, Target]:
    """The most memory a fresh process held, after few steps and after ten times as many."""
    n, few = (1_000, 10) if quick else (1_000_000, 20)
    held = {steps: peak_megabytes(n, steps) for steps in (1, few, 10 * few)}
    rows = [[f"{steps:,}", measure.number(mb)] for steps, mb in held.items()]
    note = f"{n:,} particles, two modes, d = 2; PyTorch itself included."
    grown = held[10 * few] / held[few]
    target = measure.at_most("Langevin, peak memory at 10 times the steps", 1.05, grown, "×")
    return Table("Peak memory against steps", note, ["steps", "MB"], rows), target


def peak_megabytes(n: int, n_steps: int) -> float:
    """Of a fresh process that runs n chains."""
    script = (
        "from benchmarks import samplers as s; "
        f"s.langevin(s.mixture(2, 2), s.starts({n}, 2), s.ETA, {n_steps})(); "
        "print(s.own_peak())"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return float(ran.stdout)


def own_peak() -> float:
    """The most memory this process has held so far, in MB.

    Linux hands the peak that `getrusage` reports down to child processes, so there it is read
    elsewhere.
    """
    if sys.platform == "linux":
        status = Path("/proc/self/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) / 1e3
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def run(quick: bool = False) -> tuple[list[Table], list[Target]]:
    first, targets = plain_chains(quick)
    grown, powers = linearity(quick)
    held, flat = memory(quick)
    tables = [first, *other_chains(quick), *energies(quick), *grown, held]
    return tables, [*targets, *powers, flat]


if __name__ == "__main__":
    measure.main(run)
