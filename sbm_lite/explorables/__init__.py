"""Figures that simulate live in the reader's browser, with or without a kernel behind them.

An explorable is one JavaScript module, `<name>.js`, and a thin class here. In JupyterLab the class
is a widget: its traits (`step_size`, `sigma`, …) are read and set from Python and the sliders move
with them. On the book's pages the same module runs on its own; where no JavaScript runs, a still
picture and its caption stand in.
"""

import html
import json
import re
from pathlib import Path

import anywidget
import matplotlib.pyplot as plt
import torch
import traitlets
from matplotlib.figure import Figure

from sbm_lite import figures, runtime, samplers
from sbm_lite.densities import GaussianMixture, gaussian, ring, swiss_roll, two_modes
from sbm_lite.diagnostics import grid

HERE = Path(__file__).parent


def as_module(name: str) -> str:
    """maths.js, stage.js and <name>.js in one module: a Blob cannot import by path."""
    text = "\n".join((HERE / f).read_text("utf-8") for f in ("maths.js", "stage.js", f"{name}.js"))
    without_imports = re.sub(r"^import [^;]*;\n", "", text, flags=re.MULTILINE)
    return re.sub(r"^export (?!default)", "", without_imports, flags=re.MULTILINE)


def describe(mixture: GaussianMixture, limit: float) -> dict:
    """A mixture of round Gaussians as plain numbers, and the half-width of the square to show."""
    return {
        "weights": [round(w, 6) for w in mixture.weights.tolist()],
        "means": [[round(m, 4) for m in mean] for mean in mixture.means.tolist()],
        "stds": [round(v**0.5, 6) for v in mixture.covariances[:, 0, 0].tolist()],
        "limit": limit,
    }


class Explorable(anywidget.AnyWidget):
    """A live figure with its poster; subclasses give `name`, `alt`, `caption`, traits, `_draw`."""

    name: str
    alt: str
    caption: str

    def __init_subclass__(cls, **kwargs):
        if "name" in cls.__dict__:
            cls._esm = as_module(cls.name)
        super().__init_subclass__(**kwargs)

    def state(self) -> dict:
        """The traits that the JavaScript reads, as plain data."""
        inherited = anywidget.AnyWidget.class_trait_names()
        names = [n for n in self.trait_names(sync=True) if n not in inherited and n[0] != "_"]
        return {n: getattr(self, n) for n in sorted(names)}

    def poster(self) -> bytes:
        """The figure at its present settings as a small PNG."""
        with plt.style.context(figures.STYLE):
            figure = Figure(figsize=(4.2, 4.2))
            self._draw(figure.add_subplot())
            return figures.png(figure)

    def html(self) -> str:
        """The figure for a page: poster and caption, which the host script brings to life."""
        state = html.escape(json.dumps(self.state(), separators=(",", ":")), quote=True)
        return (
            f'<figure class="explorable" data-explorable="{self.name}" data-state="{state}">\n'
            f"{figures.html_image(self.poster(), self.alt)}\n"
            f"<figcaption>{self.caption}</figcaption>\n</figure>"
        )

    def __repr__(self) -> str:
        settings = {n: v for n, v in self.state().items() if n != "densities"}
        return f"{type(self).__name__}({', '.join(f'{n}={v!r}' for n, v in settings.items())})"

    def _repr_mimebundle_(self, **kwargs):
        data, metadata = super()._repr_mimebundle_(**kwargs)
        return data | {"text/html": self.html()}, metadata

    def _draw(self, axes) -> None:
        """Draw the figure at its present settings."""
        raise NotImplementedError


class DensityExplorable(Explorable):
    """An explorable on one of several densities, which reach the browser as plain numbers."""

    densities = traitlets.Dict().tag(sync=True)

    def _mixture(self) -> tuple[GaussianMixture, float]:
        """The chosen density and the half-width of its picture."""
        chosen = self.densities[self.density]
        weights = [w / sum(chosen["weights"]) for w in chosen["weights"]]
        return GaussianMixture.isotropic(weights, chosen["means"], chosen["stds"]), chosen["limit"]


class LangevinExplorable(DensityExplorable):
    """Particles under Langevin dynamics, beside what theory says of them. Book: eq-langevin."""

    name = "langevin"
    caption = (
        "Each dot takes Langevin steps of size η on the blue density. The numbers set what the "
        "dots do beside what theory says. Untick <em>noise</em> to see plain gradient ascent. "
        "How far can you drag η before the cloud explodes?"
    )
    density = traitlets.Enum(["one Gaussian", "two modes", "ring"], "two modes").tag(sync=True)
    step_size = traitlets.Float(0.1, min=0.01, max=6.0).tag(sync=True)
    n_particles = traitlets.Int(4000, min=100, max=20000).tag(sync=True)
    noise = traitlets.Bool(True).tag(sync=True)
    metropolis = traitlets.Bool(False).tag(sync=True)
    seed = traitlets.Int(0, min=0, max=999999).tag(sync=True)

    @property
    def alt(self) -> str:
        shape = {
            "one Gaussian": "one round blue hill in the middle, with the dots all around its top",
            "two modes": "a small round blue hill at lower left and a large one at upper right, "
            "with about half of the dots on each and none in between",
            "ring": "a blue ring, with the dots spread along it",
        }[self.density]
        return f"A square map of the plane and hundreds of red dots after 100 steps: {shape}."

    @traitlets.default("densities")
    def _densities(self):
        return {
            "one Gaussian": describe(gaussian(), 4),
            "two modes": describe(two_modes(), 8),
            "ring": describe(ring(), 8),
        }

    def _draw(self, axes) -> None:
        """The density and 600 particles after 100 steps from an even disc."""
        mixture, limit = self._mixture()
        at = grid(limit, 120)
        figures.heat(axes, at, mixture.log_prob(at).exp())
        start, stream = _disc(600, 0.9 * limit, self.seed)
        figures.cloud(axes, self._moved(mixture, start, stream), limit=limit, s=10, alpha=0.8)

    def _moved(self, mixture, x, stream):
        """x after 100 steps of the chosen kind; a chain that explodes leaves an empty picture."""
        settings = {"step_size": self.step_size, "n_steps": 100, "generator": stream}
        if not self.noise:
            for _ in range(100):
                x = x + self.step_size / 2 * mixture.score(x)
            return x
        if self.metropolis:
            return samplers.mala(mixture.log_prob, x, **settings).x
        try:
            return samplers.langevin(mixture.score, x, **settings)
        except FloatingPointError:
            return x[:0]


class ScoreField(DensityExplorable):
    """Arrows of the score s = β∇log p_σ, and a probe that reads them. Book: eq-score."""

    name = "score_field"
    alt = (
        "A square map of the plane with a grid of arrows. Two round blue hills mark where the "
        "density is high, one at lower left and a larger one at upper right. Every arrow points "
        "uphill towards the nearer hill; arrows are short on the hilltops and turn around along a "
        "line through the gap between the hills, where one thick red arrow starts at the probe."
    )
    caption = (
        "The score at every point is an arrow uphill on log p. Drag the red probe: differences and "
        "formula agree everywhere. Blur the density with σ, sharpen it with β. "
        "Then drag the constant c: the energy moves; what else does?"
    )
    density = traitlets.Enum(["two modes", "ring", "swiss roll"], "two modes").tag(sync=True)
    sigma = traitlets.Float(0.0, min=0.0, max=4.0).tag(sync=True)
    beta = traitlets.Float(1.0, min=0.25, max=4.0).tag(sync=True)
    offset = traitlets.Float(0.0, min=-5.0, max=5.0).tag(sync=True)
    probe_x = traitlets.Float(-1.0, min=-8.0, max=8.0).tag(sync=True)
    probe_y = traitlets.Float(1.0, min=-8.0, max=8.0).tag(sync=True)

    @traitlets.default("densities")
    def _densities(self):
        return {
            "two modes": describe(two_modes(), 8),
            "ring": describe(ring(), 8),
            "swiss roll": describe(swiss_roll(), 8),
        }

    def _draw(self, axes) -> None:
        """The density, 19 × 19 arrows and the probe's own."""
        mixture, limit = self._mixture()
        smooth = mixture.smoothed(self.sigma) if self.sigma else mixture
        fine, coarse = grid(limit, 120), grid(0.95 * limit, 19)
        probe = torch.tensor([[self.probe_x, self.probe_y]])
        figures.heat(axes, fine, smooth.log_prob(fine).exp() ** self.beta)
        field = self.beta * smooth.score(coarse)
        figures.arrows(axes, coarse, field, role="neutral")
        arrow = (smooth.score(probe) / smooth.score(probe).norm() * limit / 4)[0]
        axes.quiver(*probe[0], *arrow, color=figures.COLOURS["model"], angles="xy",
                    scale_units="xy", scale=1, width=0.012)  # fmt: skip
        axes.plot(*probe[0], "o", color=figures.COLOURS["model"], markersize=8)


EVERY = (LangevinExplorable, ScoreField)


def _disc(n: int, radius: float, seed: int):
    """n points spread evenly over a disc, and the random stream that drew them."""
    stream = runtime.generator(seed)
    u = torch.rand(2, n, generator=stream, dtype=torch.float64)
    r, angle = radius * u[0].sqrt(), 2 * torch.pi * u[1]
    return torch.stack([r * angle.cos(), r * angle.sin()], 1), stream
