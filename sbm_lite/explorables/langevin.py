"""The explorable of chapter 3: particles under Langevin dynamics."""

import torch
import traitlets

from sbm_lite import figures, runtime, samplers
from sbm_lite.densities import gaussian, ring, two_modes
from sbm_lite.diagnostics import grid
from sbm_lite.explorables.base import DensityExplorable, Number, describe


class LangevinExplorable(DensityExplorable):
    """Particles under Langevin dynamics, beside what theory says of them. Book: eq-langevin."""

    name = "langevin"
    caption = (
        "Each dot takes Langevin steps of size η on the blue density. The numbers set what the "
        "dots do beside what theory says. Untick <em>noise</em> to see plain gradient ascent. "
        "How far can you drag η before the cloud explodes?"
    )
    density = traitlets.Enum(["one Gaussian", "two modes", "ring"], "two modes").tag(sync=True)
    step_size = Number(0.1, min=0.01, max=6.0).tag(sync=True)
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


def _disc(n: int, radius: float, seed: int):
    """n points spread evenly over a disc, and the random stream that drew them."""
    stream = runtime.generator(seed)
    u = torch.rand(2, n, generator=stream, dtype=torch.float64)
    r, angle = radius * u[0].sqrt(), 2 * torch.pi * u[1]
    return torch.stack([r * angle.cos(), r * angle.sin()], 1), stream
