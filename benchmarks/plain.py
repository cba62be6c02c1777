"""Plain PyTorch: what one writes first, from the formula, without a package.

Each of the last functions prepares a run and returns it, to be called; so do those of the same
names in `in_jax`, `in_blackjax` and `in_torchebm`.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from sbm_lite.runtime import generator


class Mixture(NamedTuple):
    """Round components of one size: weights (K,), means (K, d), standard deviation."""

    weights: Tensor
    means: Tensor
    std: float = 1.0


def log_prob(p: Mixture, x: Tensor) -> Tensor:
    """log p(x) up to a constant: points, then components, then coordinates."""
    pull = (p.means - x[:, None]) / p.std
    return (p.weights.log() - pull.square().sum(-1) / 2).logsumexp(-1)


def score(p: Mixture, x: Tensor) -> Tensor:
    """∇ log p(x), in the same order."""
    pull = (p.means - x[:, None]) / p.std**2
    log_joint = p.weights.log() - pull.square().sum(-1) * p.std**2 / 2
    return (log_joint.softmax(-1)[..., None] * pull).sum(1)


def langevin(p: Mixture, x: Tensor, eta: float, n_steps: int) -> Callable[[], Tensor]:
    stream = generator(0)
    return lambda: _langevin(p, x, eta, n_steps, stream)


def annealed(levels: list[Mixture], x: Tensor, eta: float, n_steps: int) -> Callable[[], Tensor]:
    stream = generator(0)

    def run():
        y = x
        for p in levels:
            y = _langevin(p, y, eta * (p.std / levels[-1].std) ** 2, n_steps, stream)
        return y

    return run


def mala(p: Mixture, x: Tensor, eta: float, n_steps: int) -> Callable[[], Tensor]:
    stream = generator(0)
    return lambda: _mala(p, x, eta, n_steps, stream)


def normals(x: Tensor, n_steps: int) -> Callable[[], Tensor]:
    """The part of a chain that cannot be saved: its noise."""
    stream = generator(0, x.device)

    def run():
        for _ in range(n_steps):
            z = torch.randn(x.shape, generator=stream, device=x.device)
        return z

    return run


def _langevin(p, x, eta, n_steps, stream):
    for _ in range(n_steps):
        z = torch.randn(x.shape, generator=stream)
        x = x + eta / 2 * score(p, x) + math.sqrt(eta) * z
    return x


def _mala(p, x, eta, n_steps, stream):
    def log_proposal(y, x):
        return -((y - x - eta / 2 * score(p, x)) ** 2).sum(1) / (2 * eta)

    for _ in range(n_steps):
        y = x + eta / 2 * score(p, x) + math.sqrt(eta) * torch.randn(x.shape, generator=stream)
        log_ratio = log_prob(p, y) + log_proposal(x, y) - log_prob(p, x) - log_proposal(y, x)
        accept = torch.rand(len(x), generator=stream).log() < log_ratio
        x = torch.where(accept[:, None], y, x)
    return x
