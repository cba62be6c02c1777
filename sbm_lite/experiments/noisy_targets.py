"""Denoising score matching at low noise, as it is and with its noise taken out (chapter 9)."""

import itertools
import time
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sbm_lite import data, diagnostics, losses, networks, runtime, validation, variance
from sbm_lite.experiments import images, toys
from sbm_lite.training import draws, fit, minibatches

LOSSES = {  # three losses of the same mean, but for a constant
    "DSM": losses.dsm,
    "control variate": variance.dsm_controlled,
    "antithetic pairs": variance.dsm_antithetic,
}
LOOKS = [a * 10**b for b in range(1, 6) for a in (1, 2, 3, 5, 7)]
Points = Float[Tensor, "n d"]


class SmallNoise(NamedTuple):
    """Fisher divergences along the training of one network by three losses, and the seconds."""

    steps: dict[str, list[int]]
    divergences: dict[str, list[float]]
    seconds: dict[str, float]

    def steps_to(self, level: float) -> dict[str, float]:
        """By loss, the first step at which the divergence was seen at or below `level`, or inf."""
        return {
            name: min(
                (
                    k
                    for k, value in zip(steps, self.divergences[name], strict=True)
                    if value <= level
                ),
                default=float("inf"),
            )
            for name, steps in self.steps.items()
        }

    def numbers(self) -> dict[str, float]:
        level = min(self.divergences["DSM"])
        return {
            **{f"{name}, steps to {level:.2g}": k for name, k in self.steps_to(level).items()},
            **{f"{name}, steps": steps[-1] for name, steps in self.steps.items()},
            **{f"{name}, divergence then": values[-1] for name, values in self.divergences.items()},
            **{f"{name}, seconds": seconds for name, seconds in self.seconds.items()},
        }

    def picture(self):
        from sbm_lite.experiments import pictures

        return pictures.small_noise(self)


def small_noise(
    *, device: str = "auto", seed: int = 0, n_steps: int = 20_000, sigma: float = 0.01
) -> SmallNoise:
    """An MLP on two modes with little noise: `n_steps` of DSM, a tenth of them of the other two.

    The divergence is that from the score of the noisy data, on 4,000 fresh points.
    """
    noisy = toys.MODES.smoothed(sigma)
    device = runtime.generator(seed, runtime.device(device)).device
    x = noisy.sample(4_000, generator=runtime.generator(seed + 1, device))
    target = noisy.score(x)
    measure = lambda net: diagnostics.fisher_divergence(net(x), target)  # noqa: E731
    result = SmallNoise({}, {}, {})
    for name, loss in LOSSES.items():
        rng = runtime.generator(seed, x.device)
        net = networks.ScoreMLP(2, generator=rng)
        steps = looks(n_steps if name == "DSM" else max(1, n_steps // 10))
        start = time.perf_counter()
        result.divergences[name] = watched(
            net, with_noise(loss, sigma, rng), draws(toys.MODES, 128, generator=rng), steps, measure
        )
        result.steps[name], result.seconds[name] = steps, time.perf_counter() - start
    return result


class SmallNoiseDigits(NamedTuple):
    """What denoisers of digits explain of the noise in digits they have not seen."""

    sigmas: tuple[float, ...]
    steps: list[int]
    explained: dict[str, Float[Tensor, "l t"]]

    def numbers(self) -> dict[str, float]:
        return {
            f"{name}, σ = {sigma:g}, {steps} steps": float(values[i, k])
            for i, sigma in enumerate(self.sigmas)
            for name, values in self.explained.items()
            for k, steps in enumerate(self.steps)
            if steps in (300, self.steps[-1])
        }

    def picture(self):
        from sbm_lite.experiments import pictures

        return pictures.small_noise_digits(self)


def small_noise_digits(
    *, device: str = "auto", seed: int = 0, n_steps: int = 1_000, sigmas=(0.01, 0.1, 0.3)
) -> SmallNoiseDigits:
    """An MLP that predicts the noise in one half of the digits, at three levels, by three losses.

    Measured on the other half: the share of the target's mean square that it explains,
    1 − 2σ²J_DSM/d, which is 0 for a network that knows nothing.
    """
    sigmas = validation.numbers(sigmas, "sigmas").flatten().tolist()
    if not [validation.scale(sigma, "sigmas") for sigma in sigmas]:
        raise ValueError("sigmas must hold at least one level")
    pixels = data.digits().to(runtime.device(device))
    x, held_out = ((half + 1) / 2 for half in images.halves(pixels))  # back to [0, 1]
    steps = looks(n_steps)
    explained = {name: [] for name in LOSSES}
    for (name, loss), sigma in itertools.product(LOSSES.items(), sigmas):
        rng = runtime.generator(seed, x.device)
        net = NoisePredictor(networks.ScoreMLP(x.shape[1], 256, generator=rng), sigma)
        measure = lambda net, sigma=sigma: share_explained(net, held_out, sigma)  # noqa: E731
        batches = minibatches(x, 128, generator=rng)
        curve = watched(net, with_noise(loss, sigma, rng), batches, steps, measure)
        explained[name].append(curve)
    return SmallNoiseDigits(
        tuple(sigmas), steps, {name: torch.tensor(curves) for name, curves in explained.items()}
    )


class NoisePredictor(nn.Module):
    """The score −ε(x)/σ of a network that predicts the noise of one level."""

    def __init__(self, epsilon: nn.Module, sigma: float):
        super().__init__()
        self.epsilon, self.sigma = epsilon, sigma

    def forward(self, x: Points) -> Points:
        return -self.epsilon(x) / self.sigma


def share_explained(net: nn.Module, x: Points, sigma: float) -> float:
    """1 − 2σ²J_DSM/d of `net`, with J_DSM − d/2σ² measured by antithetic pairs."""
    rng = runtime.generator(0, x.device)
    epsilon = torch.randn(4, *x.shape, generator=rng, device=x.device).flatten(0, 1)
    lowered = variance.dsm_antithetic(net, x.repeat(4, 1), epsilon, sigma).mean()
    return float(-2 * sigma**2 * lowered / x.shape[1])


def with_noise(loss: Callable, sigma: float, rng: torch.Generator) -> Callable:
    """`loss(score, x, ε, σ)` as a loss of score and x, drawing its ε from `rng`."""
    return lambda score, x: loss(
        score, x, torch.randn(x.shape, generator=rng, device=x.device), sigma
    )


def looks(n_steps: int) -> list[int]:
    """The steps after which a training is measured: 10, 20, 30, 50, 70, 100 … n_steps."""
    return [k for k in LOOKS if k < validation.count(n_steps, "n_steps")] + [n_steps]


def watched(net: nn.Module, loss, batches, steps: list[int], measure: Callable) -> list[float]:
    """Fit `net`; return what `measure(net)` gives after each number of `steps`."""
    seen, taken = [], itertools.count()

    def look() -> None:
        with torch.no_grad():
            seen.append(float(measure(net)))

    def watching(score, x):
        if next(taken) in steps:
            look()
        return loss(score, x)

    fit(net, watching, batches, n_steps=steps[-1])
    look()
    return seen
