"""Labs: ordinary ipywidgets panels that re-run the real PyTorch experiments in a live kernel.

Where no kernel runs (the website, GitHub, print) a lab shows the picture of its default settings.
"""

import html
from collections.abc import Callable
from typing import NamedTuple

import ipywidgets as widgets
import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure

from sbm_lite import densities, diagnostics, figures, runtime, samplers
from sbm_lite.calculus import divergence

DENSITIES = {
    "two modes": densities.two_modes(),
    "one Gaussian": densities.gaussian(),
    "ring": densities.ring(),
    "swiss roll": densities.swiss_roll(),
}


class Outcome(NamedTuple):
    """What an experiment gives back: a picture, its numbers, and the picture in words."""

    figure: Figure
    sentence: str
    alt: str


class Lab(widgets.VBox):
    """Controls above the outcome of `experiment(**settings)`, which re-runs when one changes.

    `controls` maps each argument of the experiment to an ipywidgets control.
    """

    def __init__(self, experiment: Callable[..., Outcome], **controls: widgets.ValueWidget):
        self.experiment, self.controls = experiment, controls
        self.picture = widgets.Image(format="png", layout={"max_width": "720px"})
        self.sentence = widgets.Label()
        for control in controls.values():
            control.style.description_width = "8em"
            control.observe(self.run, "value")
        super().__init__([*controls.values(), self.picture, self.sentence])
        self.run()

    def run(self, _change=None) -> None:
        """Run the experiment with the present settings; show a refused setting as a sentence."""
        settings = {name: control.value for name, control in self.controls.items()}
        try:
            with plt.style.context(figures.STYLE):
                outcome = self.experiment(**settings)
                self.picture.value = figures.png(outcome.figure)
        except (ValueError, FloatingPointError) as refusal:
            self.sentence.value, self.picture.layout.visibility = str(refusal), "hidden"
            return
        self.picture.layout.visibility = "visible"
        self.sentence.value, self.alt = outcome.sentence, outcome.alt

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={c.value!r}" for name, c in self.controls.items())
        return f"Lab({settings})"

    def _repr_mimebundle_(self, **kwargs):
        """The live panel, and for every place without a kernel the picture it shows now."""
        bundle = super()._repr_mimebundle_(**kwargs)
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle, {})
        image = figures.html_image(self.picture.value, self.alt)
        caption = f"<figcaption>{html.escape(self.sentence.value)}</figcaption>"
        data["text/plain"] = repr(self)
        data["text/html"] = f'<figure class="lab">{image}{caption}</figure>'
        return data, metadata


def score_experiment(density: str, sigma: float, n: int) -> Outcome:
    """The density smoothed by σ, its score on an n × n grid, and E‖s‖² beside −E[∇·s]."""
    p = DENSITIES[density].smoothed(sigma)
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


def langevin_experiment(
    density: str, step_size: float, n_steps: int, n_chains: int, method: str, device: str, seed: int
) -> Outcome:
    """Chains started uniformly on [−8, 8]², where they end, and the same number of exact draws."""
    p, generator = DENSITIES[density], runtime.generator(seed, runtime.device(device))
    exact = p.sample(n_chains, generator=generator)
    x = 16 * torch.rand(n_chains, 2, generator=generator, device=generator.device) - 8
    settings = {"step_size": step_size, "n_steps": n_steps, "generator": generator}
    if method == "Metropolis-adjusted":
        x = samplers.mala(p.log_prob, x, **settings).x
    else:
        x = samplers.langevin(p.score, x, **settings)
    x, exact = x.cpu(), exact.cpu()
    return Outcome(
        _clouds(p, x, exact),
        f"{n_chains:,} chains ({generator.device.type}), {n_steps:,} steps of η = {step_size:.3g}: "
        f"variance per coordinate {x.var(0).mean():.2f}, of exact draws {exact.var(0).mean():.2f}.",
        f"Left: map of the density '{density}' with the end points of the chains as dots. Right: "
        "histogram of the first coordinate, of the chains and of as many exact draws.",
    )


def _clouds(p: densities.Density, x: torch.Tensor, exact: torch.Tensor) -> Figure:
    """End points on the density, and the marginal of x₁ beside that of exact draws."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.8))
    fine = diagnostics.grid(8, 120)
    figures.heat(left, fine, p.log_prob(fine).exp())
    figures.cloud(left, x[:3_000], limit=8)
    bins = torch.linspace(-8, 8, 61).numpy()
    for points, role, label in ((exact, "data", "exact draws"), (x, "model", "chains")):
        right.hist(points[:, 0].numpy(), bins, histtype="step", density=True, linewidth=1.8,
                   color=figures.COLOURS[role], label=label)  # fmt: skip
    right.set(xlabel="$x_1$", ylabel="density", title="marginal of $x_1$")
    right.legend()
    left.set_title("where the chains ended")
    return figure


def score_lab() -> Lab:
    """Lab of chapter 2: any density, any smoothing, any grid."""
    return Lab(
        score_experiment,
        density=widgets.Dropdown(options=list(DENSITIES), description="density"),
        sigma=_slider(widgets.FloatSlider, 0.8, "noise σ", min=0.05, max=6.0, step=0.05),
        n=_slider(widgets.IntSlider, 21, "arrows per side", min=5, max=41),
    )


def langevin_lab() -> Lab:
    """Lab of chapter 3: Langevin dynamics on any density, plain or Metropolis-adjusted."""
    return Lab(
        langevin_experiment,
        density=widgets.Dropdown(options=list(DENSITIES), description="density"),
        step_size=_slider(widgets.FloatLogSlider, 0.1, "step size η", min=-3, max=1, step=0.05),
        n_steps=_slider(widgets.IntSlider, 300, "steps", min=10, max=5_000, step=10),
        n_chains=_slider(widgets.IntSlider, 5_000, "chains", min=1_000, max=100_000, step=1_000),
        method=widgets.Dropdown(
            options=["unadjusted", "Metropolis-adjusted"], description="method"
        ),
        device=widgets.Dropdown(options=["cpu", "auto"], description="device"),
        seed=_slider(widgets.IntSlider, 0, "seed", min=0, max=100),
    )


def _slider(kind, value, description: str, **range_):
    """A slider that re-runs its experiment when let go, not while it is dragged."""
    return kind(value=value, description=description, continuous_update=False, **range_)
