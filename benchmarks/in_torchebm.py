"""Chains and losses of torchebm, whose step size is η/2; it has no Metropolis-adjusted Langevin."""

from collections.abc import Callable
from functools import partial

import torch
from torch import nn
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal
from torchebm.core import BaseModel
from torchebm.losses import DenoisingScoreMatching, ScoreMatching, SlicedScoreMatching
from torchebm.samplers import LangevinDynamics

from sbm_lite.runtime import generator


class Energy(BaseModel):
    """−log p of a mixture of round components, up to a constant; torchebm differentiates it.

    ‖x − μ‖² is multiplied out and components come before points: the fastest of the ways tried.
    """

    def __init__(self, p):
        super().__init__(device="cpu")
        self.means, self.variance = p.means, p.std**2
        half_squares = p.means.square().sum(1) / 2
        self.offset = (p.weights.log() - half_squares / self.variance)[:, None]

    def forward(self, x):
        log_joint = self.offset + self.means @ x.T / self.variance
        return x.square().sum(1) / (2 * self.variance) - log_joint.logsumexp(0)


class EnergyWithScore(Energy):
    """The same with its gradient given, in closed form, which torchebm then need not compute."""

    def gradient(self, x, model_kwargs=None):
        log_joint = self.offset + self.means @ x.T / self.variance
        return (x - log_joint.softmax(0).T @ self.means) / self.variance


class EnergyOfDistributions(BaseModel):
    """The density put together from `torch.distributions`, as one writes it first."""

    def __init__(self, p):
        super().__init__(device="cpu")
        components = Independent(Normal(p.means, p.std), 1)
        self.mixture = MixtureSameFamily(Categorical(p.weights), components)

    def forward(self, x):
        return -self.mixture.log_prob(x)


def langevin(p, x, eta: float, n_steps: int) -> Callable[[], torch.Tensor]:
    return partial(sample, Energy(p), x, eta, n_steps, generator(0))


def annealed(levels: list, x, eta: float, n_steps: int) -> Callable[[], torch.Tensor]:
    stream, energies = generator(0), [Energy(p) for p in levels]
    etas = [eta * (p.std / levels[-1].std) ** 2 for p in levels]

    def run():
        y = x
        for energy, at_level in zip(energies, etas, strict=True):
            y = sample(energy, y, at_level, n_steps, stream)
        return y

    return run


def sample(energy: BaseModel, x, eta: float, n_steps: int, stream: torch.Generator):
    sampler = LangevinDynamics(energy, step_size=eta / 2, device="cpu")
    return sampler.sample(x, n_steps=n_steps, generator=stream)


def of_energy(make: Callable, energy: nn.Module, **options) -> nn.Module:
    """One of torchebm's losses for an energy (n, d) → (n, 1)."""
    return make(nn.Sequential(energy, nn.Flatten(0)), device="cpu", **options)


LOSSES = {  # name of ours → energy, σ → loss(x, generator=)
    "dsm": lambda energy, sigma: of_energy(DenoisingScoreMatching, energy, noise_scale=sigma),
    "ssm": lambda energy, sigma: of_energy(SlicedScoreMatching, energy, n_projections=1),
    "ism": lambda energy, sigma: of_energy(ScoreMatching, energy),
}
