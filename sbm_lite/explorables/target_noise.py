"""The explorable of chapter 9: the noise in the targets of denoising score matching."""

import numpy as np
import torch
import traitlets

from sbm_lite import figures, runtime
from sbm_lite.explorables.base import Explorable, Number, stacked

LAWS = {  # share of the right hill, the two means, and their standard deviation
    "one hill": (0.5, (0.0, 0.0), 1.0),
    "two hills": (0.8, (-2.0, 2.0), 0.5),
    "two points": (0.5, (-1.0, 1.0), 0.0),
}
ESTIMATORS = ["DSM", "control variate", "antithetic pair"]


class TargetNoise(Explorable):
    """Targets −ε/σ around the score, and the gradients they give. Book: eq-target-covariance."""

    name = "target_noise"
    caption = (
        "Above: every blue dot is one target t = −ε/σ at its noisy point x̃; the green curve, "
        "their mean at each x̃, is the score to be learned. Below: the gradients that single "
        "samples give the model θ s. Make σ small and watch the scale on the left: what is left "
        "of the score beside its targets, and which estimator narrows the histogram again?"
    )
    sigma = Number(0.1, min=0.01, max=3.0).tag(sync=True)
    data = traitlets.Enum(list(LAWS), "two hills").tag(sync=True)
    probe = Number(1.0, min=-5.0, max=5.0).tag(sync=True)
    estimator = traitlets.Enum(ESTIMATORS, "DSM").tag(sync=True)
    theta = Number(0.5, min=0.0, max=1.5).tag(sync=True)
    n_draws = traitlets.Int(20_000, min=100, max=50_000).tag(sync=True)
    seed = traitlets.Int(0, min=0, max=999999).tag(sync=True)

    @property
    def alt(self) -> str:
        drawn = "a red histogram" + " on a grey one" * (self.estimator != "DSM")
        return (
            f"Two plots. Above, for data of {self.data}, a cloud of blue dots, the targets, over "
            "noisy points; a green curve, the score of the noisy data, runs through it in a "
            "pale green band, the spread of the targets, and a red dot with a bar marks one noisy "
            f"point. Below, {drawn}, of the gradients of single samples, with a green line at "
            "their mean."
        )

    def _draw(self, axes) -> None:
        """Targets, score and spread; the gradients of plain DSM and of the chosen estimator."""
        above, below = stacked(axes)
        x, noise = self._samples()
        grid, reach = np.linspace(-5, 5, 2001), 4 / self.sigma
        mean, spread = self._target(grid)
        above.scatter((x + self.sigma * noise)[:700], -noise[:700] / self.sigma, s=4, alpha=0.45,
                      color=figures.COLOURS["data"], linewidths=0, rasterized=True)  # fmt: skip
        above.fill_between(grid, mean - spread, mean + spread, color=figures.COLOURS["truth"],
                           alpha=0.16, linewidth=0)  # fmt: skip
        figures.curve(above, grid, mean)
        at, one = self._target(np.array([self.probe]))
        above.errorbar([self.probe], at, yerr=one, fmt="o", color=figures.COLOURS["model"],
                       linewidth=3)  # fmt: skip
        above.set(xlim=(-5, 5), ylim=(-reach, reach), xlabel="noisy point x̃", ylabel="target t")
        self._histograms(below, x, noise)

    def _histograms(self, axes, x, noise) -> None:
        """Each as high as its peak, on a scale set by plain DSM."""
        plain = self._gradients(x, noise, "DSM")
        reach = 4.5 * max(plain.std(), 1e-9)
        for name in dict.fromkeys(["DSM", self.estimator]):
            g = self._gradients(x, noise, name)
            bin_width = max(g.std() / 6, reach / 135)
            half = np.arange(0, reach + bin_width, bin_width)
            height, edges = np.histogram(g, np.concatenate([-half[:0:-1], half]))
            role = "model" if name == self.estimator else "neutral"
            axes.stairs(height / height.max(), edges, fill=True, alpha=0.4, label=name,
                        color=figures.COLOURS[role])  # fmt: skip
        axes.axvline(g.mean(), color=figures.COLOURS["truth"], linewidth=2)
        axes.set(xlim=(-reach, reach), ylim=(0, 1.15), yticks=[], xlabel="gradient g of one sample")
        axes.legend(loc="upper right")

    def _samples(self):
        """n_draws clean points and as many noises."""
        stream, (right, (a, b), std) = runtime.generator(self.seed), LAWS[self.data]
        u = torch.rand(self.n_draws, generator=stream).numpy()
        z, noise = torch.randn(2, self.n_draws, generator=stream, dtype=torch.float64).numpy()
        return np.where(u < right, b, a) + std * z, noise

    def _target(self, x):
        """Mean and standard deviation of the target at noisy points x."""
        right, (a, b), std = LAWS[self.data]
        noisy = std**2 + self.sigma**2
        odds = np.log(right / (1 - right)) + (b - a) * (x - (a + b) / 2) / noisy
        share, rest = 1 / (1 + np.exp(-odds.clip(-500))), 1 / (1 + np.exp(odds.clip(max=500)))
        variance = (std / self.sigma) ** 2 / noisy + share * rest * ((b - a) / noisy) ** 2
        return (rest * (a - x) + share * (b - x)) / noisy, variance**0.5

    def _gradients(self, x, noise, estimator):
        """∂ℓ/∂θ of the model θ s_σ at every sample."""
        ahead, behind, here = (self._target(x + self.sigma * e)[0] for e in (noise, -noise, 0))
        if estimator == "antithetic pair":
            squares = (ahead**2 + behind**2) / 2
            return self.theta * squares + (ahead - behind) * noise / (2 * self.sigma)
        known = here if estimator == "control variate" else 0
        return self.theta * ahead**2 + (ahead - known) * noise / self.sigma
