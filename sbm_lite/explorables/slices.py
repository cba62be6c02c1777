"""The explorable of chapter 5: the trace of a Jacobian from random slices."""

import math

import torch
import traitlets

from sbm_lite import figures, runtime
from sbm_lite.explorables.base import Explorable, Number

LAWS = ["Rademacher", "Gaussian", "sphere of radius √d", "unit sphere"]


class Slices(Explorable):
    """Slices vᵀAv of one Jacobian, their running mean and the trace. Book: eq-ssm."""

    name = "slices"
    alt = (
        "A plot against the number k of slices, from 1 to 1000 on a logarithmic axis. Faint red "
        "dots, one per slice, scatter about a green line, what theory expects. A red line, the "
        "mean of the slices so far, settles on the green one inside a green band that narrows "
        "like one over the square root of k."
    )
    caption = (
        "Each dot is one slice vᵀAv of a fixed Jacobian A, along a fresh random direction v. The "
        "red line is their mean so far, the green one what theory expects, give or take two "
        "standard errors. Set the coupling ρ of the coordinates to 0: which laws of v know the "
        "trace after a single slice, and which one misses it for ever?"
    )
    dim = traitlets.Int(10, min=2, max=100).tag(sync=True)
    coupling = Number(0.5, min=0.0, max=1.0).tag(sync=True)
    law = traitlets.Enum(LAWS, LAWS[0]).tag(sync=True)
    seed = traitlets.Int(0, min=0, max=999999).tag(sync=True)

    def _draw(self, axes) -> None:
        """A thousand slices, their running mean, the trace and two standard errors around it."""
        stream = runtime.generator(self.seed)
        a = self._jacobian(stream)
        v = self._directions(1000, stream)
        slices, k = ((v @ a) * v).sum(1), torch.arange(1, 1001)
        trace, variance = self._theory(a)
        axes.plot(k, slices, "o", color=figures.COLOURS["model"], markersize=3,
                  markeredgewidth=0, alpha=0.35)  # fmt: skip
        band = 2 * (variance / k) ** 0.5
        axes.fill_between(k, trace - band, trace + band, color=figures.COLOURS["truth"], alpha=0.2)
        axes.axhline(trace, color=figures.COLOURS["truth"])
        figures.curve(axes, k, slices.cumsum(0) / k, role="model", linewidth=2)
        unit = self.dim if self.law == LAWS[3] else 1
        root = math.sqrt(self.dim) / unit
        axes.set(xscale="log", xlim=(0.9, 1000), ylim=(trace - 7 * root, trace + 5 * root))
        axes.set(xlabel="slices k", ylabel="vᵀAv, and its running mean")

    def _jacobian(self, stream):
        """A = −I + ρG: G symmetric, zero on the diagonal, entries N(0, 1)/√d off it."""
        d = self.dim
        upper = torch.randn(d, d, generator=stream, dtype=torch.float64).triu(1) / math.sqrt(d)
        return self.coupling * (upper + upper.T) - torch.eye(d, dtype=torch.float64)

    def _directions(self, n, stream):
        """n directions of the chosen law, (n, d)."""
        z = torch.randn(n, self.dim, generator=stream, dtype=torch.float64)
        if self.law == "Gaussian":
            return z
        if self.law == "Rademacher":
            return z.sign()
        radius = 1 if self.law == "unit sphere" else math.sqrt(self.dim)
        return radius * z / z.norm(dim=1, keepdim=True)

    def _theory(self, a):
        """Mean and variance of one slice."""
        d, trace, squares = self.dim, float(a.trace()), float(a.square().sum())
        sphere = 2 / (d + 2) * (d * squares - trace**2)
        return {
            "Rademacher": (trace, 2 * (squares - float(a.diagonal().square().sum()))),
            "Gaussian": (trace, 2 * squares),
            "sphere of radius √d": (trace, max(sphere, 0.0)),
            "unit sphere": (trace / d, max(sphere, 0.0) / d**2),
        }[self.law]
