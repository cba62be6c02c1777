"""DDPM's reverse chains: ancestral sampling and DDIM.

    python -m benchmarks.diffusion

Ours beside the schedulers of diffusers, stepped in a loop (`DDPMScheduler` with the same posterior
variance, its "fixed_small", `DDIMScheduler` without noise, neither clipping its samples). Both ask
the same score or network; diffusers is handed the noise that the network predicts. Limits: the
score or the network alone, as often as the chain asks it, and drawing the normals alone.
"""

import statistics
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks import measure, plain
from benchmarks.measure import Table, Target
from sbm_lite import densities, noise, samplers
from sbm_lite.networks import DdpmScore, TimeMLP, UNet
from sbm_lite.runtime import generator

in_diffusers = measure.peer("diffusers")

HEAD = ["score", "points", "steps", "ours, ms a step", "diffusers", "score alone", "normals"]


class Case(NamedTuple):
    """A score told its step, the same as predicted noise, points to start from, a schedule."""

    name: str
    score: Callable[[Tensor, Tensor], Tensor]
    epsilon: Callable[[Tensor, Tensor], Tensor]
    x: Tensor
    betas: Tensor

    @property
    def alpha_bars(self) -> Tensor:
        return noise.alpha_bars(self.betas)


def betas(n_steps: int) -> Tensor:
    """DDPM's linear schedule, steeper where it has fewer steps."""
    return noise.linear_betas(n_steps, 0.1 / n_steps, min(20 / n_steps, 0.5))


def exact(n: int, n_steps: int) -> Case:
    """The exact score of the scaled modes."""
    bars = noise.alpha_bars(betas(n_steps))
    laws = [densities.scaled_modes().diffused(float(at)) for at in bars]
    spreads = (1 - bars).sqrt().tolist()
    score = lambda x, t: laws[int(t[0]) - 1].score(x)  # noqa: E731
    epsilon = lambda x, t: -spreads[int(t[0]) - 1] * score(x, t)  # noqa: E731
    return Case("exact, d = 2", score, epsilon, normals(n, 2), betas(n_steps))


def learned(name: str, body: torch.nn.Module, n: int, d: int, n_steps: int) -> Case:
    """A network that predicts noise, with whatever weights: they do not change the cost."""
    body = body.eval().requires_grad_(False)
    score = DdpmScore(body, noise.alpha_bars(betas(n_steps)))
    epsilon = lambda x, t: body(x, t.to(x))  # noqa: E731
    return Case(name, score, epsilon, normals(n, d), betas(n_steps))


def normals(n: int, d: int) -> Tensor:
    return torch.randn(n, d, generator=generator(0))


def cases(quick: bool) -> list[Case]:
    if quick:
        return [exact(100, 10), learned("MLP, d = 2", TimeMLP(2), 100, 2, 10)]
    return [
        exact(10_000, 100),
        exact(10_000, 1_000),
        exact(100_000, 50),
        learned("MLP, d = 2", TimeMLP(2, generator=generator(0)), 10_000, 2, 50),
        learned("U-Net, 8 × 8", UNet((1, 8, 8), 24, generator=generator(0)), 64, 64, 50),
        learned("U-Net, 28 × 28", UNet((1, 28, 28), 32, generator=generator(0)), 16, 784, 20),
    ]


def score_alone(case: Case) -> Callable[[], Tensor]:
    """The score, or the network, as often as the chain asks it."""
    steps = [torch.full((len(case.x),), t) for t in range(len(case.betas), 0, -1)]

    @torch.no_grad()
    def run():
        for t in steps:
            s = case.epsilon(case.x, t)
        return s

    return run


def ancestral(case: Case) -> dict[str, Callable[[], object]]:
    options = dict(generator=generator(0))
    runs = {
        "ours": partial(samplers.ancestral, case.score, case.x, case.alpha_bars, **options),
        "score alone": score_alone(case),
        "normals": plain.normals(case.x, len(case.betas)),
    }
    if in_diffusers:
        runs["diffusers"] = in_diffusers.ancestral(case.epsilon, case.x, case.betas)
    return runs


def ddim(case: Case) -> dict[str, Callable[[], object]]:
    runs = {
        "ours": partial(samplers.ddim, case.score, case.x, case.alpha_bars),
        "score alone": score_alone(case),
    }
    if in_diffusers:
        runs["diffusers"] = in_diffusers.ddim(case.epsilon, case.x, case.betas)
    return runs


def table(title: str, note: str, contenders: Callable, head: list[str], quick: bool) -> Table:
    rows = []
    for case in cases(quick):
        times = measure.interleaved(contenders(case), 2 if quick else 5)
        n_steps = len(case.betas)
        each = measure.number(1e3 * statistics.median(times["ours"]) / n_steps)
        others = [measure.beside(times, "ours", other) for other in head[4:]]
        rows.append([case.name, f"{len(case.x):,}", f"{n_steps:,}", each, *others])
    return Table(title, note, head, rows)


def run(quick: bool = False) -> tuple[list[Table], list[Target]]:
    note = "At 0.95 in the column of the score alone, the sampler itself takes 5 % of the time."
    first = table("Ancestral sampling", note, ancestral, HEAD, quick)
    return [first, table("DDIM", "", ddim, HEAD[:-1], quick)], []


if __name__ == "__main__":
    measure.main(run)
