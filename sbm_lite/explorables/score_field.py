"""The explorable of chapter 2: arrows of the score and a probe."""

import torch
import traitlets

from sbm_lite import figures
from sbm_lite.densities import ring, swiss_roll, two_modes
from sbm_lite.diagnostics import grid
from sbm_lite.explorables.base import DensityExplorable, Number, describe


class ScoreField(DensityExplorable):
    """Arrows of the score s = β∇log p_σ, and a probe that reads them. Book: eq-score."""

    name = "score_field"

    @property
    def alt(self) -> str:
        hills = {
            "two modes": "Two round blue hills mark where the density is high, one at lower left "
            "and a larger one at upper right. Every arrow points uphill towards the nearer hill",
            "ring": "A blue ring marks where the density is high. Every arrow points to the ring, "
            "from inside and from outside",
            "swiss roll": "A blue spiral marks where the density is high. Every arrow points to "
            "the nearest stretch of it",
        }.get(self.density, "Shades of blue mark where the density is high. Arrows point uphill")
        return (
            f"A square map of the plane with a grid of arrows. {hills}; arrows are short where it "
            "is highest. One thick red arrow starts at the probe."
        )

    caption = (
        "The score at every point is an arrow uphill on log p. Drag the red probe: differences and "
        "formula agree everywhere. Blur the density with σ, sharpen it with β. "
        "Then drag the constant c: the energy moves; what else does?"
    )
    density = traitlets.Enum(["two modes", "ring", "swiss roll"], "two modes").tag(sync=True)
    sigma = Number(0.0, min=0.0, max=4.0).tag(sync=True)
    beta = Number(1.0, min=0.25, max=4.0).tag(sync=True)
    offset = Number(0.0, min=-5.0, max=5.0).tag(sync=True)
    probe_x = Number(-1.0, min=-8.0, max=8.0).tag(sync=True)
    probe_y = Number(1.0, min=-8.0, max=8.0).tag(sync=True)

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
