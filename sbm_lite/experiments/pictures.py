"""The figures of the experiments: each takes a result and returns a matplotlib Figure."""

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from sbm_lite import densities, diagnostics, figures
from sbm_lite.experiments import toys

DOTS = 1_280  # points drawn of a sample, as published


def manifold(result: "toys.Manifold") -> Figure:
    """Two loss curves on a symmetric log axis, and the level the noised one cannot pass."""
    figure, ax = plt.subplots(figsize=(6.4, 3.6))
    steps = torch.arange(len(result.raw)) + 1
    figures.curve(ax, steps, result.raw, role="model", label="raw pixels", linewidth=0.8)
    figures.curve(ax, steps, result.noised, role="data", linewidth=0.8,
                  label=f"pixels + N(0, {result.noise_std:g}²)")  # fmt: skip
    ax.axhline(result.floor, color=figures.COLOURS["truth"], linestyle="--")
    ax.annotate("no score gets below this with noise", (len(steps), result.floor), ha="right",
                xytext=(0, 5), textcoords="offset points", color=figures.COLOURS["truth"])
    ax.set_yscale("symlog", linthresh=100)
    ax.set(xlabel="step of training", ylabel="sliced loss")
    ax.legend(loc="lower left")
    return figure


def low_density(result: "toys.LowDensity") -> Figure:
    """The true field, the learned one, and the length of their difference, boxes drawn."""
    figure, axes = plt.subplots(1, 3, figsize=(10, 3.6), layout="constrained")
    p = toys.MODES
    side = round(len(result.points) ** 0.5)
    every = torch.arange(len(result.points)).reshape(side, side)[2::5, 2::5].flatten()
    for ax, field, role, title in (
        (axes[0], result.truth, "truth", "true score"),
        (axes[1], result.learned, "model", "learned score"),
    ):
        figures.heat(ax, result.points, p.log_prob(result.points).exp())
        figures.arrows(ax, result.points[every], field[every], role=role, half=5.0)
        ax.set_title(title)
    x1, x2, height = (a.reshape(side, side) for a in (*result.points.T, result.error))
    shades = axes[2].contourf(x1, x2, height, np.linspace(0, 8, 17), cmap="Greys", extend="max")
    figure.colorbar(shades, ax=axes[2], ticks=range(0, 9, 2), shrink=0.85)
    axes[2].set(title="length of the error", aspect="equal", xlabel="$x_1$")
    axes[2].grid(False)
    for ax in axes:
        boxes(ax, p)
    return figure


def boxes(ax, p: densities.GaussianMixture, half: float = 2.0) -> None:
    """The squares |x − μ|∞ ≤ `half` around the modes."""
    for a, b in p.means.tolist():
        ax.add_patch(Rectangle((a - half, b - half), 2 * half, 2 * half, fill=False,
                               edgecolor=figures.COLOURS["path"], linewidth=1.6))  # fmt: skip


def mixing(result: "toys.Mixing") -> Figure:
    """Three clouds: exact draws, plain chains, annealed chains, each with its share."""
    figure, axes = plt.subplots(1, 3, figsize=(10, 3.7), layout="constrained")
    titles = ("exact draws", "Langevin", "annealed")
    for ax, x, title, role in zip(axes, result, titles, ("data", "model", "model"), strict=True):
        figures.cloud(ax, x[:DOTS], role=role, limit=8.5)
        ax.set_title(f"{title}: {100 * toys.share(x)[0]:.1f} % at (5, 5)")
    return figure


def annealing(result: "toys.Film") -> Figure:
    """Five stills of the annealed chains, the density of their level behind them."""
    figure, axes = plt.subplots(1, 5, figsize=(12, 2.9), layout="constrained")
    points = diagnostics.grid(12, 120)
    for ax, i in zip(axes, torch.linspace(1, len(result.path) - 1, 5).long(), strict=True):
        level = toys.published_level(float(result.sigmas[i]))
        figures.heat(ax, points, level.log_prob(points).exp())
        figures.cloud(ax, result.path[i], limit=12)
        ax.set(title=f"σ = {result.sigmas[i]:.3g}", ylabel="")
    return figure


def annealing_film(result: "toys.Film") -> bytes:
    """The annealed chains in motion, as a GIF that goes round."""
    points = diagnostics.grid(12, 60)
    heights = [
        toys.published_level(float(sigma)).log_prob(points).exp().reshape(60, 60).numpy()
        for sigma in result.sigmas
    ]
    return figures.gif(result.path[:, :300], limit=12, heights=heights, size=240, loop=True)


def trained(result: "toys.Trained") -> Figure:
    """Exact draws and those of the network, side by side."""
    figure, axes = plt.subplots(1, 2, figsize=(7, 3.7), layout="constrained")
    for ax, x, title, role in (
        (axes[0], result.exact, "exact draws", "data"),
        (axes[1], result.samples, "annealed Langevin on the network", "model"),
    ):
        figures.cloud(ax, x[:DOTS], role=role, limit=8.5)
        ax.set_title(title)
    return figure


def three_ways(result: "toys.ThreeWays") -> Figure:
    """Share and variance in a mode against the number of network calls."""
    figure, axes = plt.subplots(1, 2, figsize=(8, 3.4), layout="constrained")
    marks = {"ancestral": "o-", "DDIM": "s--", "annealed Langevin": "^:"}
    for name, sets in result.samples.items():
        style = {"color": figures.COLOURS["model"], "label": name}
        axes[0].plot(result.calls, [toys.share(x)[0] for x in sets], marks[name], **style)
        axes[1].plot(result.calls, [toys.within(x) for x in sets], marks[name], **style)
    truths = ((0.8, "share at (1.2, 1.2)"), (0.06, "variance there"))
    for ax, (truth, label) in zip(axes, truths, strict=True):
        ax.axhline(truth, color=figures.COLOURS["truth"])
        ax.set(xscale="log", xlabel="calls of the score", ylabel=label)
        ax.set_xticks(result.calls, [f"{k:,}" for k in result.calls])
        ax.minorticks_off()
    axes[1].set(yscale="log", ylim=(0.02, 20))
    axes[0].legend()
    return figure


def images(result) -> Figure:
    """Fifty samples, and under ten of them the nearest images of the training half."""
    figure, axes = plt.subplots(2, 1, figsize=(6, 5), height_ratios=[5, 2], layout="constrained")
    figures.image_grid(axes[0], result.samples[:50], result.shape)
    few = result.samples[:10]
    figures.image_grid(axes[1], torch.cat([few, result.nearest(few)]), result.shape)
    axes[0].set_title("samples")
    axes[1].set_title("ten of them, and the nearest training image of each")
    return figure


STYLES = {  # of the losses of chapter 9
    "DSM": ("neutral", "o-"),
    "control variate": ("model", "s-"),
    "antithetic pairs": ("data", "^--"),
}


def small_noise(result) -> Figure:
    """Fisher divergence against steps of training, one curve for each loss."""
    figure, ax = plt.subplots(figsize=(6.4, 3.6))
    for name, (role, marks) in STYLES.items():
        line = {"color": figures.COLOURS[role], "label": name, "markersize": 4}
        ax.plot(result.steps[name], result.divergences[name], marks, **line)
    ax.set(xscale="log", yscale="log", xlabel="step of training", ylabel="Fisher divergence")
    ax.legend()
    return figure


def small_noise_digits(result) -> Figure:
    """The share of the noise that each loss's network explains, a panel for each level."""
    n = len(result.sigmas)
    figure, axes = plt.subplots(1, n, figsize=(3 * n, 3), layout="constrained", squeeze=False)
    for i, (ax, sigma) in enumerate(zip(axes[0], result.sigmas, strict=True)):
        for name, (role, marks) in STYLES.items():
            line = {"color": figures.COLOURS[role], "label": name, "markersize": 4}
            ax.plot(result.steps, result.explained[name][i], marks, **line)
        ax.set(xscale="log", xlabel="step of training", title=f"σ = {sigma:g}")
    axes[0, 0].set_ylabel("share explained")
    axes[0, 0].legend()
    return figure
