"""The explorable of chapter 1: the partition function on the line, and in d dimensions."""

import math

import numpy as np
import torch
import traitlets

from sbm_lite import figures, runtime
from sbm_lite.explorables.base import Explorable, Number, stacked


class Partition(Explorable):
    """The area Z under q = exp(−E), and what it costs to measure one in d dimensions."""

    name = "partition"
    alt = (
        "Two plots. Above, a curve with a low bump at left and a higher one at right; the area "
        "under it is shaded blue, and a red line far below has the same shape. Below, the "
        "share of useful draws falls from 100 percent along a straight green line as the dimension "
        "grows, with a red dot close to it at dimension 20."
    )
    caption = (
        "Above: the blue area under q = e<sup>−E</sup> is Z, and p = q/Z is the red line. Below: "
        "the same task in d dimensions, by sampling: a constant factor fewer draws count with each "
        "dimension. Raise the constant e: the area shrinks. What does the red line do?"
    )
    separation = Number(1.5, min=0.0, max=3.0).tag(sync=True)
    tilt = Number(0.3, min=-2.0, max=2.0).tag(sync=True)
    offset = Number(0.0, min=-3.0, max=3.0).tag(sync=True)
    dim = traitlets.Int(20, min=1, max=100).tag(sync=True)
    proposal_std = Number(1.4, min=0.75, max=3.0).tag(sync=True)
    n_draws = traitlets.Int(1000, min=100, max=100000).tag(sync=True)
    seed = traitlets.Int(0, min=0, max=999999).tag(sync=True)

    def _draw(self, axes) -> None:
        """q, its area and p; the useful share of the draws against the dimension."""
        line, share = stacked(axes)
        self._draw_line(line)
        self._draw_share(share)

    def _draw_line(self, axes) -> None:
        x = np.linspace(-5, 5, 1001)
        q = np.exp(-self._energy(x))
        p = q / np.trapezoid(q, x)
        axes.fill_between(x, q, color=figures.COLOURS["data"], alpha=0.25, linewidth=0)
        figures.curve(axes, x, q, role="data", label="q, area Z")
        figures.curve(axes, x, p, role="model", label="p = q/Z")
        top = np.exp(self.offset) * q.max()  # that of e = 0, so that e moves q and not the axis
        axes.set(xlim=(-5, 5), ylim=(0, min(max(1.15 * top, 1.3 * p.max()), 6 * p.max())))
        axes.set(xlabel="x")
        axes.legend(loc="upper left")

    def _draw_share(self, axes) -> None:
        dims, r = np.arange(1, 101), self.proposal_std
        share = 100 * (math.sqrt(2 * r**2 - 1) / r**2) ** dims
        figures.curve(axes, dims, share, label="theory")
        z = torch.randn(self.n_draws, self.dim, generator=runtime.generator(self.seed))
        weights = torch.softmax((1 - r**2) / 2 * z.double().square().sum(1), 0)
        measured = 100 / (self.n_draws * float(weights.square().sum()))
        axes.plot(self.dim, measured, "o", color=figures.COLOURS["model"], markersize=8)
        axes.axhline(100 / self.n_draws, color=figures.COLOURS["neutral"], linewidth=1, ls="--")
        axes.text(100, 90 / self.n_draws, f"one draw of {self.n_draws:,}", ha="right", va="top")
        axes.set(yscale="log", xlim=(0, 101), ylim=(12 / self.n_draws, 180))
        axes.set(xlabel="dimension d", ylabel="useful draws, %")

    def _energy(self, x):
        return (x**2 - self.separation**2) ** 2 / 8 - self.tilt * x + self.offset
