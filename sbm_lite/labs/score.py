"""Lab of chapter 2."""

import ipywidgets as widgets
import matplotlib.pyplot as plt

from sbm_lite import diagnostics, figures, runtime, validation
from sbm_lite.calculus import divergence
from sbm_lite.labs.panel import DENSITIES, Lab, Outcome, slider


def score_experiment(density: str, sigma: float, n: int) -> Outcome:
    """The density smoothed by σ, its score on an n × n grid, and E‖s‖² beside −E[∇·s]."""
    p = DENSITIES[validation.choice(density, DENSITIES, "density")].smoothed(sigma)
    fine, coarse = diagnostics.grid(9, 120), diagnostics.grid(9, n)
    figure, ax = plt.subplots(figsize=(4.8, 4.8))
    figures.heat(ax, fine, p.log_prob(fine).exp())
    figures.arrows(ax, coarse, p.score(coarse))
    ax.set_title(f"{density}, smoothed with σ = {sigma:.2f}")
    x = p.sample(4_000, generator=runtime.generator(0))
    square, minus_divergence = (p.score(x) ** 2).sum(1), -divergence(p.score, x)
    return Outcome(
        figure,
        f"Over 4,000 draws E‖s‖² = {square.mean():.3f} ± {diagnostics.standard_error(square):.3f} "
        f"and −E[∇·s] = {minus_divergence.mean():.3f} "
        f"± {diagnostics.standard_error(minus_divergence):.3f}: one number, two ways.",
        f"Map of the density '{density}' smoothed with σ = {sigma:.2f}, in pale blue, under a grid "
        "of arrows, its score, which point towards the nearest place of high density.",
    )


def score_lab() -> Lab:
    """Lab of chapter 2: any density, any smoothing, any grid."""
    return Lab(
        score_experiment,
        density=widgets.Dropdown(options=list(DENSITIES), description="density"),
        sigma=slider(widgets.FloatSlider, 0.8, "noise σ", min=0.05, max=6.0, step=0.05),
        n=slider(widgets.IntSlider, 21, "arrows per side", min=5, max=41),
    )
