"""Particle-steps a second of `langevin` on two modes, beside a plain loop and the normals alone.

    python -m benchmarks.langevin

100,000 particles, 200 steps, CPU, 2 threads. The three take turns, so that a busy machine slows
all of them; medians over the turns, and the ratios to the plain loop within each turn.
"""

import math
import statistics
import time

import torch

from sbm_lite import densities, samplers
from sbm_lite.runtime import generator

PARTICLES, STEPS, TURNS = 100_000, 200, 5


def ours(x: torch.Tensor, stream: torch.Generator) -> torch.Tensor:
    score = densities.two_modes().score
    return samplers.langevin(score, x, step_size=0.1, n_steps=STEPS, generator=stream)


def plain(x: torch.Tensor, stream: torch.Generator) -> torch.Tensor:
    """What one writes first: points, then components, then coordinates."""
    weights, means = torch.tensor([0.2, 0.8]), torch.tensor([[-5.0, -5.0], [5.0, 5.0]])
    for _ in range(STEPS):
        pull = means - x[:, None]
        log_joint = weights.log() - pull.square().sum(-1) / 2 - math.log(2 * math.pi)
        score = (log_joint.softmax(-1)[..., None] * pull).sum(1)
        x = x + 0.05 * score + 0.1**0.5 * torch.randn(x.shape, generator=stream)
    return x


def normals(x: torch.Tensor, stream: torch.Generator) -> torch.Tensor:
    """The part that cannot be saved."""
    for _ in range(STEPS):
        z = torch.randn(x.shape, generator=stream)
    return z


def rate(run, x: torch.Tensor, stream: torch.Generator) -> float:
    """Millions of particle-steps a second."""
    began = time.perf_counter()
    run(x, stream)
    return len(x) * STEPS / (time.perf_counter() - began) / 1e6


def main() -> None:
    torch.set_num_threads(2)
    stream = generator(0)
    x = 16 * torch.rand(PARTICLES, 2, generator=stream) - 8
    runs = {"sbm_lite": ours, "plain loop": plain, "normals alone": normals}
    for run in runs.values():
        run(x[:1000], stream)
    turns = [{name: rate(run, x, stream) for name, run in runs.items()} for _ in range(TURNS)]
    print(f"{PARTICLES:,} particles, {STEPS} steps, torch {torch.__version__}, 2 threads")
    print(f"{'':14s}  {'M steps/s':>9}  {'× plain loop':>12}  (lowest to highest of {TURNS})")
    for name in runs:
        rates = [turn[name] for turn in turns]
        ratios = [turn[name] / turn["plain loop"] for turn in turns]
        print(f"{name:14s}  {statistics.median(rates):>9.1f}  {statistics.median(ratios):>12.1f}"
              f"  ({min(rates):.1f} to {max(rates):.1f})")


if __name__ == "__main__":
    main()
