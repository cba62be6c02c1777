"""Lab of chapter 7."""

from collections.abc import Callable
from functools import partial

import ipywidgets as widgets
import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure
from torch import nn

from sbm_lite import (
    densities,
    diagnostics,
    figures,
    losses,
    networks,
    noise,
    runtime,
    samplers,
    validation,
)
from sbm_lite import training as fitting
from sbm_lite.labs.panel import DENSITIES, Lab, Outcome, slider

POINTS = 500  # in each cloud whose distance is measured


def ncsn_experiment(
    density: str,
    first_sigma: float,
    last_sigma: float,
    n_levels: int,
    n_training: int,
    step_size: float,
    n_steps: int,
    seed: int,
) -> Outcome:
    """One network for a ladder of noise levels, and annealed Langevin with its scores.

    `step_size` is η/σ_L², so that level i takes steps of `step_size` times σ_i².
    """
    validation.choice(density, DENSITIES, "density")
    validation.scale(first_sigma, "first_sigma"), validation.scale(last_sigma, "last_sigma")
    validation.count(n_levels, "n_levels"), validation.count(n_training, "n_training")
    validation.scale(step_size, "step_size"), validation.count(n_steps, "n_steps")
    p, rng = DENSITIES[density], runtime.generator(seed)
    sigmas = noise.geometric_sigmas(first_sigma, last_sigma, n_levels)
    net = _trained(p, sigmas, n_training, rng)
    errors = level_errors(net, p, sigmas, rng)
    start = first_sigma * torch.randn(POINTS, 2, generator=rng)
    anneal = partial(
        samplers.annealed_langevin, x=start, sigmas=sigmas, n_steps=n_steps, generator=rng,
        step_size=step_size * last_sigma**2,
    )  # fmt: skip
    made, ideal = anneal(net), anneal(exact_scores(p, sigmas))
    real, again = (p.sample(POINTS, generator=rng) for _ in range(2))
    learned, exact, floor = (diagnostics.wasserstein(x, real) for x in (made, ideal, again))
    return Outcome(
        _picture(p, made, sigmas, errors),
        f"{n_levels} levels from {first_sigma:.3g} to {last_sigma:.3g}: mean weighted error "
        f"{sum(errors) / n_levels:.4f}; distance of {POINTS} samples to exact draws: "
        f"{learned:.2f} with learned scores, {exact:.2f} with exact ones, {floor:.2f} for another "
        f"{POINTS} exact draws.",
        f"Left: map of the density '{density}' with the samples as dots. Right: weighted error of "
        "the learned score at each noise level, both axes logarithmic.",
    )


def level_errors(score, p: densities.GaussianMixture, sigmas, rng: torch.Generator) -> list[float]:
    """½σ²E‖s(x, σ) − s_σ(x)‖² at each level: what its NCSN loss has above its floor."""
    errors = []
    for sigma in sigmas.tolist():
        level = p.smoothed(sigma)
        x = level.sample(2_000, generator=rng)
        off = diagnostics.fisher_divergence(score(x, sigma), level.score(x))
        errors.append(float(sigma**2 * off))
    return errors


def exact_scores(p: densities.GaussianMixture, sigmas) -> Callable:
    """(x, σ) → the score of p with noise σ, for the levels of a ladder."""
    levels = {sigma: p.smoothed(sigma) for sigma in sigmas.tolist()}
    return lambda x, sigma: levels[sigma].score(x)


def _trained(p: densities.Density, sigmas, n_steps: int, rng: torch.Generator) -> nn.Module:
    """A network told its level, fitted by NCSN on fresh draws of p, one level per point."""
    net = networks.NoiseConditionalMLP(2, generator=rng)

    def loss(net, x):
        sigma = sigmas[torch.randint(len(sigmas), (len(x),), generator=rng)].to(x)
        return losses.ncsn(net, x, torch.randn(x.shape, generator=rng), sigma)

    batches = fitting.draws(p, 256, generator=rng)
    fitting.fit(net, loss, batches, n_steps=n_steps, lr=3e-3, cosine=True)
    return net.requires_grad_(False)


def _picture(p: densities.Density, made: torch.Tensor, sigmas, errors: list[float]) -> Figure:
    """The samples on the density, and the error of each level."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.8))
    fine = diagnostics.grid(8, 120)
    figures.heat(left, fine, p.log_prob(fine).exp())
    figures.cloud(left, made, limit=8, s=7)
    left.set_title("samples, learned scores")
    figures.curve(right, sigmas, errors, role="model", marker="o")
    right.set(xscale="log", yscale="log", xlabel="noise level σ", title="error of the score")
    right.set_ylabel("weighted by σ²")
    return figure


def ncsn_lab() -> Lab:
    """Lab of chapter 7: train a network for your own ladder, then walk down it."""
    return Lab(
        ncsn_experiment,
        density=widgets.Dropdown(options=list(DENSITIES), value="ring", description="density"),
        first_sigma=slider(widgets.FloatLogSlider, 20.0, "first σ", min=0, max=1.6, step=0.05),
        last_sigma=slider(widgets.FloatLogSlider, 0.1, "last σ", min=-2, max=0.5, step=0.05),
        n_levels=slider(widgets.IntSlider, 10, "levels", min=2, max=50),
        n_training=slider(widgets.IntSlider, 800, "training steps", min=50, max=10_000, step=50),
        step_size=slider(widgets.FloatLogSlider, 0.4, "η over σ²", min=-2, max=0.7, step=0.05),
        n_steps=slider(widgets.IntSlider, 20, "steps per level", min=5, max=500, step=5),
        seed=slider(widgets.IntSlider, 0, "seed", min=0, max=100),
    )
