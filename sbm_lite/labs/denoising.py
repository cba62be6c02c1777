"""Lab of chapter 6."""

import math

import ipywidgets as widgets
import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure
from torch.special import log_ndtr

from sbm_lite import (
    densities,
    diagnostics,
    figures,
    losses,
    networks,
    noise,
    runtime,
    training,
    validation,
)
from sbm_lite.calculus import Field, Scalar, score_of
from sbm_lite.densities import GaussianMixture
from sbm_lite.labs.panel import Lab, Outcome, slider

SIGNS = {"s − ∇ log q (right)": 1.0, "s + ∇ log q (the slip)": -1.0}
KERNELS = ["Gaussian", "Laplace", "mixture"]
MIXTURE = [0.8, 0.2], [0.5, 2.0]  # weights, and standard deviations over σ: variance σ² in all


def denoising_experiment(kernel: str, sigma: float, sign: str, n_steps: int, seed: int) -> Outcome:
    """A network trained by denoising score matching, beside the exact score of the noisy data."""
    validation.choice(kernel, KERNELS, "kernel"), validation.choice(sign, SIGNS, "sign")
    validation.scale(sigma, "sigma"), validation.count(n_steps, "n_steps")
    p, rng = densities.two_modes(), runtime.generator(seed)
    q, log_prob = _kernels(p, sigma)[kernel]
    net = networks.ScoreMLP(2, generator=rng)

    def loss(net, x):
        x_noisy = q.sample(x, generator=rng)
        return losses.esm(net, x_noisy, SIGNS[sign] * q.target_score(x_noisy, x))

    batches = training.draws(p, 256, generator=rng)
    training.fit(net, loss, batches, n_steps=n_steps, lr=3e-3, cosine=True)
    net.requires_grad_(False)
    truth, x = score_of(log_prob), p.sample(20_000, generator=rng)
    x_noisy = q.sample(x, generator=rng)
    target = q.target_score(x_noisy, x)
    fisher = diagnostics.fisher_divergence(net(x_noisy), truth(x_noisy))
    ended = losses.esm(net, x_noisy, SIGNS[sign] * target).mean()
    floor = losses.esm(truth, x_noisy, target).mean()
    return Outcome(
        _fields(log_prob, truth, net),
        f"{kernel} noise, σ = {sigma:.3g}, {n_steps:,} steps: the loss ended at {ended:.3f}, its "
        f"floor is {floor:.3f}; Fisher divergence to the score of the noisy data {fisher:.3f}.",
        f"Two maps of 'two modes' under {kernel} noise. Left: exact score as arrows towards the "
        "two clusters. Right: arrows of the trained network, which the sentence compares with it.",
    )


def _kernels(p: GaussianMixture, sigma: float) -> dict[str, tuple[noise.Kernel, Scalar]]:
    """The kernels of variance σ² per coordinate, each with the exact log density of the noisy p."""
    weights, stds = MIXTURE
    stds = [sigma * r for r in stds]
    blown = [p.smoothed(s) for s in stds]
    mixture = GaussianMixture(
        torch.cat([w * b.weights for w, b in zip(weights, blown, strict=True)]),
        torch.cat([b.means for b in blown]),
        torch.cat([b.covariances for b in blown]),
    )
    scale = sigma / 2**0.5
    return {
        "Gaussian": (noise.Gaussian(sigma), p.smoothed(sigma).log_prob),
        "Laplace": (noise.Laplace(scale), lambda x: _log_normal_laplace(p, x, scale)),
        "mixture": (noise.Mixture(weights, stds), mixture.log_prob),
    }


def _log_normal_laplace(p: GaussianMixture, x: torch.Tensor, scale: float) -> torch.Tensor:
    """log density of Laplace noise on a mixture of unit-variance round components.

    Per coordinate, with u = x̃ − μ and b = `scale`, the sum of N(0, 1) and the noise has density
    [e^(−u/b) Φ(u − 1/b) + e^(u/b) Φ(−u − 1/b)] e^(1/2b²)/2b. Reference: Reed (2006).
    """
    u, r = x - p.means.to(x)[:, None], 1 / scale
    sides = torch.stack([log_ndtr(u - r) - r * u, log_ndtr(-u - r) + r * u])
    per_coordinate = sides.logsumexp(0) + r**2 / 2 - math.log(2 * scale)
    return (p.weights.to(x).log()[:, None] + per_coordinate.sum(-1)).logsumexp(0)


def _fields(log_prob: Scalar, truth: Field, net: Field) -> Figure:
    """The exact and the learned arrows on the noisy density."""
    figure, axes = plt.subplots(1, 2, figsize=(8, 4), sharey=True)
    fine, coarse = diagnostics.grid(9, 100), diagnostics.grid(8.4, 13)
    scale = truth(coarse).norm(dim=1).median()
    for ax, field, role, title in (
        (axes[0], truth, "truth", "score of the noisy data"),
        (axes[1], net, "model", "what the network learned"),
    ):
        figures.heat(ax, fine, log_prob(fine).exp())
        figures.arrows(ax, coarse, field(coarse), role=role, half=float(scale) / 3)
        ax.set_title(title)
    axes[1].set(ylabel="")
    return figure


def dsm_lab() -> Lab:
    """Lab of chapter 6: denoising score matching with your noise, level and sign."""
    return Lab(
        denoising_experiment,
        kernel=widgets.Dropdown(options=KERNELS, description="noise"),
        sigma=slider(widgets.FloatSlider, 2.0, "noise level σ", min=0.2, max=5, step=0.1),
        sign=widgets.Dropdown(options=list(SIGNS), description="loss"),
        n_steps=slider(widgets.IntSlider, 600, "steps", min=50, max=5_000, step=50),
        seed=slider(widgets.IntSlider, 0, "seed", min=0, max=100),
    )
