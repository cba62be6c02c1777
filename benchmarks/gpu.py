"""On a graphics card: figures 2 and 3, a U-Net, and how far from the card's limit.

    python -m benchmarks.gpu

Every time includes waiting for the card. The limits: for chains, drawing their normals alone; for
training, the matrix products of a step alone (forward one per layer, backward two) or, in the
U-Net, its convolutions alone, forward and backward.
"""

import statistics
from collections.abc import Callable
from functools import partial

import torch
from torch import nn

from benchmarks import measure, networks, plain
from benchmarks.measure import Table, Target
from sbm_lite import densities, experiments, losses, samplers, training
from sbm_lite.experiments.base import ALPHA_BARS
from sbm_lite.experiments.images import ddpm_digits
from sbm_lite.networks import DdpmScore, UNet
from sbm_lite.runtime import generator

Run = Callable[[], object]
Case = tuple[str, Run, str, Run]  # what is run; what its limit is


def waited(run: Run, device: str) -> Run:
    """`run`, and waiting until the card has done it."""

    def wait():
        run()
        if device.startswith("cuda"):
            torch.cuda.synchronize()

    return wait


def repeated(run: Run, times: int) -> Run:
    def runs():
        for _ in range(times):
            run()

    return runs


def figures(device: str, quick: bool) -> list[Case]:
    """The experiments as a reader runs them."""
    few = 100 if quick else None
    steps = few or networks.recipe_steps()
    n = few or 100_000
    start = torch.zeros(n, 2, device=device)
    trained = repeated(networks.products(2, 128, 128, device), steps)
    images = few or 5_000
    return [
        (
            f"figure 2, {steps:,} steps of training",
            partial(networks.RECIPE, device=device, n_steps=steps),
            "matrix products",
            trained,
        ),
        (
            f"figure 3, {n:,} particles, 2,000 steps",
            partial(experiments.mixing, device=device, n=n),
            "normals",
            plain.normals(start, 2_000),
        ),
        (
            f"U-Net on the digits, {images:,} steps of training, and samples",
            partial(ddpm_digits, device=device, n_steps=images),
            "convolutions of the training",
            repeated(convolutions(UNet((1, 8, 8), 24).to(device), 64), images),
        ),
    ]


def parts(device: str, quick: bool) -> list[Case]:
    """Single samplers and training steps, larger than a processor would like."""
    cases = []
    for n in (1_000,) if quick else (100_000, 1_000_000, 10_000_000):
        x, rng = torch.zeros(n, 2, device=device), generator(0, device)
        options = dict(step_size=0.1, n_steps=100, generator=rng)
        chain = partial(samplers.langevin, densities.two_modes().score, x, **options)
        cases.append((f"Langevin, {n:,} particles", chain, "normals", plain.normals(x, 100)))
    for d, width, batch in networks.SIZES[:1] if quick else [*networks.SIZES, (784, 2_048, 4_096)]:
        multiply = repeated(networks.products(d, width, batch, device), 100)
        name = f"DSM, {d} → {width} → {width} → {d}, batches of {batch}"
        cases.append((name, dsm_steps(d, width, batch, device), "matrix products", multiply))
    for images, width, batch in [((1, 8, 8), 24, 64), ((1, 28, 28), 64, 128)][: 1 if quick else 2]:
        net = UNet(images, width).to(device)
        name = f"DDPM, U-Net {images[1]} × {images[2]}, batches of {batch}"
        limit = repeated(convolutions(net, batch), 100)
        cases.append((name, ddpm_steps(net, batch, device), "convolutions", limit))
    return cases


def dsm_steps(d: int, width: int, batch: int, device: str) -> Run:
    """A hundred training steps."""
    net, rng = networks.network(d, width).to(device), generator(0, device)
    data = torch.randn(batch, d, generator=rng, device=device)

    def loss(score, x):
        return losses.dsm(score, x, torch.randn(x.shape, generator=rng, device=device), 0.5)

    return lambda: training.fit(net, loss, [data] * 100, n_steps=100)


def ddpm_steps(net: UNet, batch: int, device: str) -> Run:
    """A hundred training steps."""
    score, rng = DdpmScore(net, ALPHA_BARS), generator(0, device)
    data = torch.randn(batch, net.shape[0] * net.shape[1] * net.shape[2], device=device)
    loss = experiments.toys.ddpm_loss(rng)
    return lambda: training.fit(score, loss, [data] * 100, n_steps=100)


def convolutions(net: UNet, batch: int) -> Run:
    """The convolutions of one training step alone, forward and backward."""
    seen: list[tuple[nn.Module, torch.Tensor]] = []
    hooks = [
        layer.register_forward_pre_hook(lambda layer, inputs: seen.append((layer, inputs[0])))
        for layer in net.modules()
        if isinstance(layer, nn.Conv2d)
    ]
    device = next(net.parameters()).device
    flat = torch.randn(batch, net.shape[0] * net.shape[1] * net.shape[2], device=device)
    net(flat, torch.ones(batch, device=device))
    for hook in hooks:
        hook.remove()
    seen = [(layer, x.detach().requires_grad_(k > 0)) for k, (layer, x) in enumerate(seen)]

    def run():
        for layer, x in seen:
            y = layer(x)
            wanted = [layer.weight, *([x] if x.requires_grad else [])]
            torch.autograd.grad(y, wanted, y)

    return run


def table(title: str, note: str, cases: list[Case], device: str, turns: int) -> Table:
    rows = []
    for name, ours, limit, alone in cases:
        times = measure.interleaved(
            {"ours": waited(ours, device), "limit": waited(alone, device)}, turns
        )
        took = measure.number(statistics.median(times["ours"]))
        rows.append([name, took, measure.beside(times, "ours", "limit"), limit])
    return Table(title, note, ["", "s", "share of the limit", "limit"], rows)


def run(quick: bool = False, device: str | None = None) -> tuple[list[Table], list[Target]]:
    if device is None and not torch.cuda.is_available():
        none = Table("No graphics card", "", ["device"], [["PyTorch found none, nothing was run."]])
        return [none], []
    device, turns = device or "cuda", 1 if quick else 3
    whole = table("As a reader runs them", "", figures(device, quick), device, 1)
    note = "A hundred steps each."
    return [whole, table("Part by part", note, parts(device, quick), device, turns)], []


if __name__ == "__main__":
    measure.main(run)
