"""The explorable of chapter 7: Langevin dynamics with and without a ladder of noise levels."""

import torch
import traitlets

from sbm_lite import figures, runtime, samplers
from sbm_lite.densities import GaussianMixture, two_modes
from sbm_lite.diagnostics import grid
from sbm_lite.explorables.base import Explorable, Number

LIMIT = 8  # half-width of the start and of the maps


class Annealing(Explorable):
    """Plain and annealed Langevin dynamics, step by step. Book: eq-annealed-langevin."""

    name = "annealing"
    alt = (
        "Two square maps, each with a small blue hill at lower left and a large one at upper "
        "right, covered with red dots. On the left, plain Langevin dynamics, half of the dots are "
        "on either hill; on the right, annealed, most are on the large one. Below, a red line "
        "follows green stairs up to a share of 0.8, while a grey line stays at one half."
    )
    caption = (
        "The same particles, the same number of steps, exact scores. On the left every step "
        "follows the target; on the right the target is first blurred until its modes are one, "
        "and then sharpened level by level. Plain Langevin dynamics keeps the shares it started "
        "with. How low can you set σ₁ before annealing does no better?"
    )
    step_size = Number(0.1, min=0.01, max=1.0).tag(sync=True)
    first_sigma = Number(20.0, min=1.0, max=30.0).tag(sync=True)
    n_levels = traitlets.Int(10, min=1, max=20).tag(sync=True)
    n_steps = traitlets.Int(100, min=10, max=1000).tag(sync=True)
    n_particles = traitlets.Int(2000, min=500, max=5000).tag(sync=True)
    seed = traitlets.Int(0, min=0, max=999999).tag(sync=True)

    def _draw(self, axes) -> None:
        """300 particles at the end of both runs, and the share at (5, 5) on the way there."""
        figure = axes.figure
        axes.remove()
        layout = figure.add_gridspec(2, 2, height_ratios=(1, 0.8), hspace=0.1)
        n = min(2000, max(300, 2_000_000 // (self.n_levels * self.n_steps)))  # a few seconds
        stream = runtime.generator(self.seed)
        start = LIMIT * (2 * torch.rand(n, 2, generator=stream, dtype=torch.float64) - 1)
        levels, at = self._levels(), grid(LIMIT, 100)
        below = figure.add_subplot(layout[1, :])
        for column, (title, role, line, chosen) in enumerate([
            ("plain", "neutral", "--", [two_modes()] * self.n_levels),
            ("annealed", "model", "-", levels),
        ]):  # fmt: skip
            x, shares = self._run(start, chosen, stream)
            above = figure.add_subplot(layout[0, column])
            figures.heat(above, at, two_modes().log_prob(at).exp())
            figures.cloud(above, x[:300], limit=LIMIT, s=5, alpha=0.7)
            above.set(title=title, xlabel="", ylabel="", xticks=[-5, 5], yticks=[-5, 5])
            steps = torch.linspace(0, self.n_levels * self.n_steps, len(shares))
            figures.curve(below, steps, shares, role=role, linestyle=line, label=title)
        self._draw_stairs(below, levels)

    def _draw_stairs(self, axes, levels) -> None:
        """What share each level's own density has on the side of (5, 5)."""
        normal = torch.distributions.Normal(0.0, 1.0)
        stds = torch.stack([level.covariances[0, 0, 0].sqrt() for level in levels])
        shares = 0.2 + 0.6 * normal.cdf(50**0.5 / stds)
        edges = self.n_steps * torch.arange(len(levels) + 1)
        axes.stairs(shares, edges, baseline=None, color=figures.COLOURS["truth"], linewidth=2,
                    label="level's density", zorder=1)  # fmt: skip
        axes.set(xlim=(0, self.n_levels * self.n_steps), ylim=(0.4, 0.9))
        axes.set(xlabel="steps", ylabel="share at (5, 5)")
        axes.legend(loc="lower right", ncols=3, fontsize=8)

    def _levels(self) -> list[GaussianMixture]:
        """The two modes with std σ₁ … 1 in place of their own; a single level is the target."""
        place = torch.linspace(0, 1, self.n_levels) if self.n_levels > 1 else torch.ones(1)
        two = two_modes()
        sigmas = (self.first_sigma ** (1 - place)).tolist()
        return [GaussianMixture.isotropic(two.weights, two.means, sigma) for sigma in sigmas]

    def _run(self, x, levels, stream):
        """x after the steps on every level, and the share nearer to (5, 5) a few times a level."""
        parts = 10
        shares = [float((x.sum(1) > 0).double().mean())]
        for level in levels:
            eta = self.step_size * float(level.covariances[0, 0, 0])
            for _ in range(parts):
                x = samplers.langevin(
                    level.score, x, step_size=eta, n_steps=self.n_steps // parts, generator=stream
                )
                shares.append(float((x.sum(1) > 0).double().mean()))
        return x, shares
