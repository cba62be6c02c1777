"""How data are corrupted: noise kernels q(x̃ | x), and the names one score goes by.

A kernel is drawn from with `sample` and differentiated with `target_score`, the regression target
of denoising score matching. `Gaussian` is the usual one; `Laplace` and `Mixture` show that it need
not be. The four conversions at the end hold for Gaussian noise only.
"""

import math
from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor

from sbm_lite import validation
from sbm_lite.runtime import generator as fresh_generator

Points = Float[Tensor, "n d"]
PerPoint = Float[Tensor, " n"]
Level = float | Float[Tensor, ""] | Float[Tensor, " n"]


class Kernel(ABC):
    """Additive noise x̃ = x + u, u of a density symmetric about 0. Book: eq-corruption."""

    @abstractmethod
    def sample(self, x: Points, *, generator: torch.Generator | None = None) -> Points:
        """One x̃ for each x, in x's dtype and on its device."""

    @abstractmethod
    def log_prob(self, x_noisy: Points, x: Points) -> PerPoint:
        """log q(x̃ | x), in nats."""

    @abstractmethod
    def target_score(self, x_noisy: Points, x: Points) -> Points:
        """t(x̃, x) = ∇_x̃ log q(x̃ | x); its mean given x̃ is the score of the noisy data.

        Book: eq-dsm-target. Reference: Vincent (2011), Neural Computation 23.
        """


class Gaussian(Kernel):
    """u ~ N(0, σ²I). The target is −ε/σ with u = σε: back towards x. σ = `sigma` > 0."""

    def __init__(self, sigma: float):
        self.sigma = validation.positive(sigma, "sigma")

    def sample(self, x: Points, *, generator: torch.Generator | None = None) -> Points:
        return x + self.sigma * _normals(x, generator)

    def log_prob(self, x_noisy: Points, x: Points) -> PerPoint:
        return _log_gaussian(_offset(x_noisy, x), self.sigma)

    def target_score(self, x_noisy: Points, x: Points) -> Points:
        return -_offset(x_noisy, x) / self.sigma**2


class Laplace(Kernel):
    """Independent coordinates u with density e^(−|u|/b)/2b, b = `scale` > 0.

    The target −sign(u)/b has one length, √d/b, wherever x̃ is. Book: eq-laplace-target.
    """

    def __init__(self, scale: float):
        self.scale = validation.positive(scale, "scale")

    def sample(self, x: Points, *, generator: torch.Generator | None = None) -> Points:
        # The difference of two exponentials is a Laplace variable.
        ones = torch.ones(2, *validation.points(x).shape, dtype=x.dtype, device=x.device)
        first, second = ones.exponential_(generator=generator or fresh_generator(None, x.device))
        return x + self.scale * (first - second)

    def log_prob(self, x_noisy: Points, x: Points) -> PerPoint:
        u = _offset(x_noisy, x)
        return -u.abs().sum(1) / self.scale - u.shape[1] * math.log(2 * self.scale)

    def target_score(self, x_noisy: Points, x: Points) -> Points:
        return -_offset(x_noisy, x).sign() / self.scale


class Mixture(Kernel):
    """u ~ Σₖ wₖ N(0, σₖ²I): now a small blow, now a large one. `weights` and `sigmas` are (K,).

    The target is −Σₖ rₖ(u) u/σₖ², rₖ the responsibilities. Book: eq-mixture-target.
    """

    def __init__(self, weights, sigmas):
        self.weights = torch.as_tensor(weights, dtype=torch.float64, device="cpu")
        self.sigmas = torch.as_tensor(sigmas, dtype=torch.float64, device="cpu")
        validation.weights(self.weights)
        fit = self.sigmas.shape == self.weights.shape
        if not (fit and bool((self.sigmas > 0).all() and self.sigmas.isfinite().all())):
            raise ValueError(
                f"sigmas must be {len(self.weights)} finite numbers > 0, got {self.sigmas.tolist()}"
            )

    def sample(self, x: Points, *, generator: torch.Generator | None = None) -> Points:
        validation.points(x)
        generator = generator or fresh_generator(None, x.device)
        weights, sigmas = self.weights.to(x), self.sigmas.to(x)
        k = torch.multinomial(weights, len(x), replacement=True, generator=generator)
        return x + sigmas[k, None] * _normals(x, generator)

    def log_prob(self, x_noisy: Points, x: Points) -> PerPoint:
        return self._log_joint(_offset(x_noisy, x)).logsumexp(0)

    def target_score(self, x_noisy: Points, x: Points) -> Points:
        u = _offset(x_noisy, x)
        responsibilities = self._log_joint(u).softmax(0)
        precisions = self.sigmas.to(u)[:, None] ** -2
        return -(responsibilities * precisions).sum(0)[:, None] * u

    def _log_joint(self, u: Points) -> Float[Tensor, "k n"]:
        """log wₖ N(u; 0, σₖ²I)."""
        return torch.stack(
            [w.log() + _log_gaussian(u, s) for w, s in zip(self.weights, self.sigmas, strict=True)]
        )


def score_from_epsilon(epsilon: Points, sigma: Level) -> Points:
    """s = −ε/σ for Gaussian noise: the score, given ε = E[ε | x̃]. Book: eq-score-epsilon."""
    return -validation.points(epsilon, "epsilon") / validation.levels(sigma, epsilon)


def epsilon_from_score(s: Points, sigma: Level) -> Points:
    """ε = −σ s for Gaussian noise: E[ε | x̃], given the score. Book: eq-score-epsilon."""
    return -validation.points(s, "s") * validation.levels(sigma, s)


def score_from_denoised(x: Points, denoised: Points, sigma: Level) -> Points:
    """s = (E[x | x̃] − x̃)/σ² for Gaussian noise, at the noisy points `x`.

    Book: eq-tweedie. Reference: Robbins (1956); Efron (2011), JASA 106.
    """
    validation.same_shape(denoised, validation.points(x), "denoised and x")
    return (denoised - x) / validation.levels(sigma, x) ** 2


def denoised_from_score(x: Points, s: Points, sigma: Level) -> Points:
    """E[x | x̃] = x̃ + σ² s for Gaussian noise, at the noisy points `x`, s the noisy data's score.

    Book: eq-tweedie. Reference: Robbins (1956); Efron (2011), JASA 106.
    """
    validation.same_shape(s, validation.points(x), "s and x")
    return x + validation.levels(sigma, x) ** 2 * s


def _normals(x: Points, generator: torch.Generator | None) -> Points:
    """Standard normal noise like x."""
    validation.points(x)
    generator = generator or fresh_generator(None, x.device)
    return torch.randn(x.shape, generator=generator, dtype=x.dtype, device=x.device)


def _offset(x_noisy: Points, x: Points) -> Points:
    """x̃ − x, once the two are known to fit."""
    validation.points(x_noisy, "x_noisy")
    validation.same_shape(x_noisy, validation.points(x), "x_noisy and x")
    return x_noisy - x


def _log_gaussian(u: Points, sigma) -> PerPoint:
    """log N(u; 0, σ²I)."""
    log_volume = u.shape[1] * math.log(2 * math.pi * float(sigma) ** 2) / 2
    return -(u**2).sum(1) / (2 * float(sigma) ** 2) - log_volume
