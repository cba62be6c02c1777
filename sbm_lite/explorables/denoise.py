"""The explorable of chapter 6: the targets of denoising score matching at one noisy point."""

import torch
import traitlets
from matplotlib.patches import Circle

from sbm_lite import figures, runtime
from sbm_lite.densities import kernel_density, ring, two_modes
from sbm_lite.diagnostics import grid
from sbm_lite.explorables.base import DensityExplorable, Number, describe

DATA = [[-5.5, -4], [-4, -6], [-3, -3.5], [-5, 4.5], [-2, 6], [-2.5, 2],
        [-0.5, -3.5], [2, 4], [3.5, 1], [5.5, 5.5], [5, -3], [2.5, -5.5]]  # fmt: skip


class Denoise(DensityExplorable):
    """Clean points that a noisy one may come from, and the score they average to. Book: eq-dsm."""

    name = "denoise"
    caption = (
        "The noisy point x̃ = x + σε came from a clean x: the red dots are draws of it, given x̃. "
        "Each thin line is one target of denoising score matching, times σ². Their mean, the "
        "cross, settles on the tip of the green arrow, the score times σ². Drag x̃ to where the "
        "targets disagree: does any one of them point along the score?"
    )
    density = traitlets.Enum(["two modes", "ring", "twelve points"], "two modes").tag(sync=True)
    sigma = Number(2.0, min=0.2, max=6.0).tag(sync=True)
    probe_x = Number(1.0, min=-8.0, max=8.0).tag(sync=True)
    probe_y = Number(0.0, min=-8.0, max=8.0).tag(sync=True)
    n_draws = traitlets.Int(200, min=10, max=2000).tag(sync=True)
    seed = traitlets.Int(0, min=0, max=999999).tag(sync=True)

    @property
    def alt(self) -> str:
        shape = {
            "two modes": "two round blue hills, one at lower left and a larger one at upper right",
            "ring": "a blue ring",
            "twelve points": "twelve blue points",
        }[self.density]
        drawn = "red discs" if self.density == "twelve points" else "red dots"
        return (
            f"A square map of the plane with {shape}. From a dark ring, the noisy point, thin "
            f"lines fan out to {drawn}, the clean points it may have come from. A green arrow from "
            "the ring ends by a red cross, their mean. A dashed circle around the ring has radius "
            "σ."
        )

    @traitlets.default("densities")
    def _densities(self):
        points = torch.tensor(DATA, dtype=torch.float64)
        return {
            "two modes": describe(two_modes(), 8),
            "ring": describe(ring(), 8),
            "twelve points": describe(kernel_density(points, 0.001), 8),
        }

    def _draw(self, axes) -> None:
        """The clean density, draws given x̃, lines to forty of them, their mean and the score."""
        mixture, limit = self._mixture()
        noisy = torch.tensor([self.probe_x, self.probe_y], dtype=torch.float64)
        law = mixture.posterior(noisy, self.sigma)
        x = law.sample(self.n_draws, generator=runtime.generator(self.seed)).double()
        if self.density == "twelve points":
            figures.cloud(axes, mixture.means, role="data", limit=limit, s=40, alpha=1)
        else:
            at = grid(limit, 120)
            figures.heat(axes, at, mixture.log_prob(at).exp())
        for clean in x[:40]:
            pair = torch.stack([noisy, clean])
            axes.plot(*pair.T, color=figures.COLOURS["neutral"], linewidth=0.6, alpha=0.4)
        self._draw_clean(axes, x, limit)
        step = self.sigma**2 * mixture.smoothed(self.sigma).score(noisy[None])[0]
        axes.add_patch(Circle(noisy, self.sigma, fill=False, linestyle="--", linewidth=0.7))
        axes.plot(*noisy, "o", color="#222222", markersize=9, markerfacecolor="white")
        axes.plot(*x.mean(0), "x", color=figures.COLOURS["model"], markersize=11, mew=2.5)
        axes.quiver(*noisy, *step, color=figures.COLOURS["truth"], angles="xy", scale_units="xy",
                    scale=1, width=0.01, zorder=4)  # fmt: skip

    def _draw_clean(self, axes, x, limit) -> None:
        """The draws as dots; where they can only be data points, as discs for how often."""
        if self.density != "twelve points":
            figures.cloud(axes, x, s=10, alpha=0.6, limit=limit)
            return
        points = torch.tensor(DATA, dtype=torch.float64)
        share = torch.cdist(x, points).argmin(1).bincount(minlength=len(points)) / len(x)
        figures.cloud(axes, points, s=1800 * share, alpha=0.35, limit=limit)
