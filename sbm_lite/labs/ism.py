"""Lab of chapter 4."""

import itertools
from collections.abc import Iterator

import ipywidgets as widgets
import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure
from torch import Tensor

from sbm_lite import (
    densities,
    diagnostics,
    figures,
    losses,
    networks,
    runtime,
    training,
    validation,
)
from sbm_lite.labs.panel import DENSITIES, Lab, Outcome, slider

HILLS = densities.GaussianMixture(
    [0.3, 0.7],
    [[-1.5, 0.5], [1.5, -0.5]],
    [[[0.5, 0.2], [0.2, 0.4]], [[1.2, -0.3], [-0.3, 0.8]]],
)
TARGETS = {"two hills": HILLS} | DENSITIES
METHODS, FRESH = ["ISM", "ESM"], "fresh draws"
DATA = [FRESH, "10", "30", "100", "300", "1000", "10000"]
BATCH, HELD = 128, 2_000  # points per step, held-out points


def ism_experiment(
    density: str, method: str, data: str, n_steps: int, width: int, device: str, seed: int
) -> Outcome:
    """A score network trained by ESM or ISM, on fresh draws or on a fixed number of points."""
    validation.choice(density, TARGETS, "density"), validation.choice(method, METHODS, "method")
    validation.choice(data, DATA, "data"), validation.count(n_steps, "n_steps")
    p, generator = TARGETS[density], runtime.generator(seed, runtime.device(device))
    loss = losses.ism if method == "ISM" else lambda s, x: losses.esm(s, x, p.score(x))
    held = p.sample(HELD, generator=generator)
    net = networks.ScoreMLP(2, width, generator=generator)
    record: list[list[float]] = []  # step, training loss, held-out loss
    points = None if data == FRESH else p.sample(int(data), generator=generator)

    def watched(batches: Iterator[Tensor]) -> Iterator[Tensor]:
        for step, x in enumerate(batches):
            if step % max(1, n_steps // 25) == 0 or step == n_steps - 1:
                seen = x if points is None else points
                record.append([step, *(float(loss(net, y).detach().mean()) for y in (seen, held))])
            yield x

    batches = watched(_batches(p, points, generator))
    training.fit(net, loss, batches, n_steps=n_steps, lr=1e-2, cosine=True)
    truth = p.score(held)
    floor = -float((truth**2).sum(1).mean()) / 2 if method == "ISM" else 0.0
    distance = float(diagnostics.fisher_divergence(net(held).detach(), truth))
    train, test = record[-1][1:]
    where = data if data == FRESH else f"{data} fixed points"
    return Outcome(
        _picture(p, net, points, record, floor),
        f"{method}, {n_steps:,} steps on {where}: loss {train:,.2f} on the training data, "
        f"{test:,.2f} on held-out data, lowest possible on average {floor:.2f}; "
        f"Fisher divergence from the true score {distance:,.3f}.",
        f"Left: map of the density '{density}' with the true score and the learned field as "
        "arrows. Right: training and held-out loss against the step, with a dashed floor.",
    )


def _batches(p, points: Tensor | None, generator: torch.Generator) -> Iterator[Tensor]:
    """Fresh draws, all of a few points at once, or random batches of many."""
    if points is None:
        return training.draws(p, BATCH, generator=generator)
    if len(points) <= BATCH:
        return itertools.repeat(points)
    return training.minibatches(points, BATCH, generator=generator)


def _picture(p, net, points: Tensor | None, record: list[list[float]], floor: float) -> Figure:
    """Learned arrows over the true ones, and the two losses on the way."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.8))
    limit = 5 if p is HILLS else 8
    fine, coarse = diagnostics.grid(limit, 120), diagnostics.grid(0.92 * limit, 13)
    learned = net(coarse.to(next(net.parameters()).device)).detach().cpu()
    figures.heat(left, fine, p.log_prob(fine).exp())
    figures.arrows(left, coarse, p.score(coarse), half=4.0)
    figures.arrows(left, coarse, learned, role="model", half=4.0)
    if points is not None:
        figures.cloud(left, points[:1_000].cpu(), role="data", s=8, alpha=0.8, limit=limit)
    steps, train, test = torch.tensor(record).T
    figures.curve(right, steps, train, role="data", linestyle=":", label="training data")
    figures.curve(right, steps, test, role="model", label="held-out data")
    right.axhline(floor, color=figures.COLOURS["truth"], linestyle="--", label="lowest possible")
    if max(abs(train).max(), abs(test).max()) > 20:
        right.set_yscale("symlog", linthresh=4)
    right.set(xlabel="step", title="loss")
    right.legend()
    left.set_title("true score (green), learned (red)")
    return figure


def ism_lab() -> Lab:
    """Lab of chapter 4: train by explicit or implicit score matching, on few points or many."""
    return Lab(
        ism_experiment,
        density=widgets.Dropdown(options=list(TARGETS), description="density"),
        method=widgets.Dropdown(options=METHODS, description="loss"),
        data=widgets.Dropdown(options=DATA, description="data"),
        n_steps=slider(widgets.IntSlider, 500, "steps", min=50, max=5_000, step=50),
        width=slider(widgets.IntSlider, 64, "width", min=4, max=256, step=4),
        device=widgets.Dropdown(options=["cpu", "auto"], description="device"),
        seed=slider(widgets.IntSlider, 0, "seed", min=0, max=100),
    )
