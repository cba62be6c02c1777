"""The explorable of chapter 4: explicit and implicit score matching, a constant apart."""

import numpy as np
import traitlets

from sbm_lite import figures
from sbm_lite.explorables.base import Explorable, Number, stacked


class EsmIsm(Explorable):
    """J_ESM and J_ISM of a score model with one parameter. Book: eq-esm, eq-ism."""

    name = "esm_ism"
    caption = (
        "Above: the true score needs p; the red model has one number to learn, θ. Below: explicit "
        "score matching compares the two, implicit score matching never sees the true one. Drag θ: "
        "the gap between the losses stays. Is that so for the exponential density?"
    )
    density = traitlets.Enum(["two bumps", "one Gaussian", "exponential"], "two bumps")
    density = density.tag(sync=True)
    theta = Number(0.6, min=0.0, max=3.0).tag(sync=True)
    n_draws = traitlets.Int(10000, min=100, max=100000).tag(sync=True)
    seed = traitlets.Int(0, min=0, max=999999).tag(sync=True)

    @property
    def alt(self) -> str:
        good = "the lower one always the same distance below the upper, both lowest at one theta"
        curves = {
            "two bumps": good,
            "one Gaussian": good,
            "exponential": "one lowest at theta = 1, the other at theta = 0, crossing in between",
        }[self.density]
        return (
            f"Two plots. Above, over a shaded density ({self.density}), the true score in green "
            f"and the model's in red. Below, two losses against theta: {curves}. A short bar from "
            "one to the other marks the present theta."
        )

    def _draw(self, axes) -> None:
        """Density, true score and model; the two losses against θ."""
        scores, losses = stacked(axes)
        x, p, truth, model = self._family()
        low, high = (-4, 4) if x[0] < 0 else (-3.5, 1)
        hill = low + 0.4 * (high - low) * p / p.max()
        scores.fill_between(x, low, hill, color=figures.COLOURS["data"], alpha=0.25, linewidth=0)
        figures.curve(scores, x, truth, linestyle="--", label="true score")
        figures.curve(scores, x, model(self.theta)[0], role="model", label="the model's")
        scores.set(xlim=(-4.5, 4.5) if x[0] < 0 else (-1, 5), ylim=(low, high))
        scores.set(xlabel="x", ylabel="score")
        scores.legend(loc="upper right")
        thetas = np.linspace(0, 3, 121)
        explicit, implicit = np.array([self._losses(t) for t in thetas]).T
        figures.curve(losses, thetas, explicit, linestyle="--", label="explicit")
        figures.curve(losses, thetas, implicit, role="data", label="implicit")
        gap = self._losses(self.theta)
        losses.vlines(self.theta, *gap, color=figures.COLOURS["path"], linewidth=3)
        losses.set(xlim=(0, 3), xlabel="θ", ylabel="expected loss")
        losses.legend(loc="upper center")

    def _family(self):
        """Points, the density and true score there, and θ ↦ the model's score and its slope."""
        if self.density == "exponential":
            x = np.linspace(0, 40, 20001)
            return x, np.exp(-x), -np.ones_like(x), lambda t: (np.full_like(x, -t), 0 * x)
        x = np.linspace(-9, 9, 1801)
        bell = np.exp(-((x[:, None] - np.array([0, -1.5, 1.5])) ** 2) / 2) / np.sqrt(2 * np.pi)
        if self.density == "one Gaussian":
            return x, bell[:, 0], -x, lambda t: (-t * x, np.full_like(x, -t))
        p, score = bell[:, 1:].mean(1), lambda t: -x + t * np.tanh(t * x)
        return x, p, score(1.5), lambda t: (score(t), t**2 / np.cosh(t * x) ** 2 - 1)

    def _losses(self, theta):
        """J_ESM and J_ISM at θ by the trapezoid rule."""
        x, p, truth, model = self._family()
        s, slope = model(theta)
        return np.trapezoid(p * (s - truth) ** 2 / 2, x), np.trapezoid(p * (s**2 / 2 + slope), x)
