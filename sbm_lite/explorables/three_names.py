"""The explorable of chapter 8: noise, clean point and score at one noisy point; three samplers."""

import torch
import traitlets
from matplotlib.patches import Circle
from matplotlib.patheffects import withStroke

from sbm_lite import figures, noise, runtime
from sbm_lite.densities import scaled_modes
from sbm_lite.diagnostics import grid
from sbm_lite.explorables.base import Explorable, Number

LIMIT = 3
SAMPLERS = ["ancestral", "DDIM", "annealed Langevin"]
NAMES = [
    ("$x_t$", "a noisy point", "ink"),
    (r"$\hat\epsilon$", "the noise expected in it", "path"),
    (r"$\hat x_0$", "the clean point behind it", "data"),
    ("$s$", "the score there", "truth"),
]
INK = "#222222"
HALO = [withStroke(linewidth=3, foreground="white")]


class ThreeNames(Explorable):
    """ε̂, x̂₀ and the score at a noisy point x_t, and sampling by them. Book: eq-reverse-moments."""

    name = "three_names"
    alt = (
        "A square map of the plane with a blue haze in two parts, the larger at upper right. From "
        "a dark ring below it, the noisy point, a green arrow, the score, runs into the haze, and "
        "beside it an amber arrow, the noise, runs the other way. A dashed line from the origin "
        "past their common end leads to a blue dot, the expected clean point. Red dots, where the "
        "clean point may have been, lie in and around two blue circles."
    )
    caption = (
        "The noisy point is a clean point, shrunk, plus noise. The amber arrow is the noise "
        "expected in it, the blue dot the clean point expected behind it, the green arrow the "
        "score: three names for one prediction, each a formula away from the others. Below, a "
        "thousand particles go from noise back to data by its help. Which sampler gets both "
        "numbers right with the fewest calls of the score?"
    )
    t = traitlets.Int(250, min=1, max=1000).tag(sync=True)
    probe_x = Number(1.1, min=-3.0, max=3.0).tag(sync=True)
    probe_y = Number(-1.0, min=-3.0, max=3.0).tag(sync=True)
    sampler = traitlets.Enum(SAMPLERS, SAMPLERS[0]).tag(sync=True)
    n_calls = traitlets.Int(100, min=20, max=1000).tag(sync=True)
    n_draws = traitlets.Int(400, min=10, max=2000).tag(sync=True)
    seed = traitlets.Int(0, min=0, max=999999).tag(sync=True)

    def _draw(self, axes) -> None:
        """The density of x_t, x_t itself, the three names, and draws of the clean point."""
        clean, alpha_bar = scaled_modes(), float(noise.alpha_bars(noise.linear_betas())[self.t - 1])
        law, at = clean.diffused(alpha_bar), grid(LIMIT, 120)
        figures.heat(axes, at, law.log_prob(at).exp())
        x = torch.tensor([self.probe_x, self.probe_y], dtype=torch.float64)
        behind = clean.posterior(x / alpha_bar**0.5, (1 / alpha_bar - 1) ** 0.5)
        drawn = behind.sample(self.n_draws, generator=runtime.generator(self.seed))
        figures.cloud(axes, drawn, limit=LIMIT, s=9, alpha=0.45)
        for mean, covariance in zip(clean.means, clean.covariances, strict=True):
            axes.add_patch(Circle(mean, 2 * float(covariance[0, 0]) ** 0.5, fill=False,
                                  linewidth=1.3, color=figures.COLOURS["data"]))  # fmt: skip
        shrunk = x + (1 - alpha_bar) * law.score(x[None])[0]
        self._draw_names(axes, x, shrunk, shrunk / alpha_bar**0.5)
        self._say(axes)

    def _draw_names(self, axes, x, shrunk, clean) -> None:
        """The noise from √ᾱ x̂₀ to x_t, the score back, and x̂₀ on the line from the origin."""
        colours, away = figures.COLOURS, x - shrunk
        length = max(float(away.norm()), 1e-9)
        along, reach = away / length, away * max(0.0, 1 - 0.14 / length)
        aside, middle = 0.055 * torch.stack([-along[1], along[0]]), (x + shrunk) / 2
        axes.plot([0, clean[0]], [0, clean[1]], "--", color=colours["neutral"], linewidth=1)
        lanes = [(shrunk - aside, reach, "path"), (shrunk + reach + aside, -reach, "truth")]
        for start, arrow, role in lanes:
            axes.quiver(*start, *arrow, color=colours[role], angles="xy", scale_units="xy",
                        scale=1, width=0.009, headwidth=4.5, headlength=5, zorder=4)  # fmt: skip
        axes.plot(*clean, "o", color=colours["data"], markersize=10, mec="white", mew=1.8, zorder=5)
        axes.plot(*x, "o", color=INK, markersize=9, mfc="white", mew=2, zorder=5)
        places = [x + 0.3 * along, middle - 4.5 * aside, clean - 0.3 * along, middle + 4.5 * aside]
        for (name, _, role), place in zip(NAMES, places, strict=True):
            axes.text(*place, name, color=colours.get(role, INK), fontsize=15, ha="center",
                      va="center", zorder=6, path_effects=HALO)  # fmt: skip

    def _say(self, axes) -> None:
        """What the marks are, in their colours."""
        for line, (name, words, role) in enumerate(NAMES):
            axes.text(0.03, 0.955 - 0.055 * line, f"{name}, {words}", path_effects=HALO,
                      color=figures.COLOURS.get(role, INK), transform=axes.transAxes,
                      va="center")  # fmt: skip
