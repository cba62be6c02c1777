"""Distributions whose samples, density and score are all known exactly.

The running example of the book is `two_modes()`; a Gaussian serves wherever a closed form is
wanted; `ring` and `swiss_roll` are mixtures strung along a curve, so that they too can be smoothed
exactly; `Banana` shows how to write a density of your own.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from sbm_lite import validation
from sbm_lite.calculus import score_of
from sbm_lite.runtime import stream

Points = Float[Tensor, "n d"]
PerPoint = Float[Tensor, " n"]

NUMBERS_AT_ONCE = 2**18  # of a score on a CPU: more of them leave its cache


class Density(ABC):
    """A distribution on ℝᵈ that can be drawn from and evaluated.

    Write `sample` and `log_prob`; the score follows by automatic differentiation, unless a closed
    form is given. Results have the dtype and the device of `x`.
    """

    dim: int

    @abstractmethod
    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Points:
        """Draw n independent points, shape (n, d), on the generator's device."""

    @abstractmethod
    def log_prob(self, x: Points) -> PerPoint:
        """log p(x), in nats, normalised."""

    def score(self, x: Points) -> Points:
        """s(x) = ∇ₓ log p(x). Book: eq-score."""
        return score_of(self.log_prob)(validation.rows(x, dim=self.dim))


class GaussianMixture(Density):
    """p(x) = Σₖ wₖ N(x; μₖ, Σₖ).

    weights (K,) positive with sum 1; means (K, d); covariances (K, d, d) symmetric positive
    definite. Lists or tensors; kept in float64. Raises ValueError when they do not fit.

    With the responsibilities rₖ(x) = wₖ N(x; μₖ, Σₖ)/p(x), the score is their average pull,
    s(x) = Σₖ rₖ(x) Σₖ⁻¹(μₖ − x). Book: eq-mixture-score. Reference: Bishop (2006), section 9.2.
    """

    def __init__(self, weights, means, covariances):
        self.weights, self.means, self.covariances = (
            validation.numbers(values, name)
            for name, values in (
                ("weights", weights),
                ("means", means),
                ("covariances", covariances),
            )
        )
        _check_mixture(self.weights, self.means, self.covariances)
        self.dim = self.means.shape[1]
        self._factors = torch.linalg.cholesky(self.covariances)
        self._precisions = torch.cholesky_inverse(self._factors)
        log_volumes = self._factors.diagonal(dim1=1, dim2=2).log().sum(-1)
        log_volumes = log_volumes + self.dim / 2 * math.log(2 * math.pi)
        self._log_peaks = self.weights.log() - log_volumes
        with torch.no_grad():
            self._slopes = (self._precisions @ self.means[:, :, None])[..., 0]
            self._heights = self.weights.log() - (self._slopes * self.means).sum(1) / 2
            self._reach = float(self._slopes.norm(dim=1).max() * self.means.norm(dim=1).max())
        self._alike = bool((self.covariances == self.covariances[0]).all())
        self._fixed = not any(p.requires_grad for p in (self.weights, self.means, self.covariances))
        self._cache: dict = {}

    @classmethod
    def isotropic(cls, weights, means, stds) -> "GaussianMixture":
        """A mixture of round components, Σₖ = stdₖ² I; `stds` is one number or (K,)."""
        means = validation.numbers(means, "means")
        stds = validation.numbers(stds, "stds")
        k, d = validation.points(means, "means").shape
        if stds.shape not in ((), (k,)) or not bool((stds > 0).all()):
            raise ValueError(f"stds must be one number > 0 or {k} of them, got {stds.tolist()}")
        for extreme in (stds.min(), stds.max()):
            validation.scale(float(extreme), "stds")
        return cls(weights, means, stds.expand(k)[:, None, None] ** 2 * torch.eye(d).double())

    def smoothed(self, sigma: float) -> "GaussianMixture":
        """The law of x + σε, ε ~ N(0, I): each covariance grows by σ²I, exactly."""
        noise = validation.scale(sigma, "sigma") ** 2 * torch.eye(self.dim).double()
        return GaussianMixture(self.weights, self.means, self.covariances + noise)

    def diffused(self, alpha_bar: float) -> "GaussianMixture":
        """The law of √ᾱ x + √(1 − ᾱ) ε: means √ᾱ μₖ, covariances ᾱ Σₖ + (1 − ᾱ) I.

        Book: eq-ddpm-forward.
        """
        at = validation.scale(alpha_bar, "alpha_bar")
        if at >= 1:
            raise ValueError(f"alpha_bar must be below 1, got {alpha_bar}")
        covariances = at * self.covariances + (1 - at) * torch.eye(self.dim).double()
        return GaussianMixture(self.weights, at**0.5 * self.means, covariances)

    def posterior(self, x_noisy: Float[Tensor, " d"], sigma: float) -> "GaussianMixture":
        """The law of the clean x given one noisy point x̃ = x + σε: again a mixture.

        Component k keeps the precision Σₖ⁻¹ + I/σ² and the mean that balances μₖ against x̃; its
        weight is its responsibility for x̃ in the smoothed mixture. Book: eq-posterior.
        """
        at = validation.numbers(x_noisy, "x_noisy").reshape(1, -1)
        validation.points(at, "x_noisy", dim=self.dim)
        variance = validation.scale(sigma, "sigma") ** 2
        weights = self.smoothed(sigma)._log_joint_and_pull(at)[0][:, 0].softmax(0)
        kept = weights > 1e-12 * weights.max()
        precisions = self._precisions[kept]
        covariances = torch.linalg.inv(precisions + torch.eye(self.dim).double() / variance)
        pulls = (precisions @ self.means[kept, :, None])[..., 0] + at / variance
        means = (covariances @ pulls[..., None])[..., 0]
        symmetric = (covariances + covariances.mT) / 2
        return GaussianMixture(weights[kept] / weights[kept].sum(), means, symmetric)

    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Points:
        validation.count(n, "n")
        generator = stream(generator)
        z = torch.randn(n, self.dim, generator=generator, device=generator.device)
        k = torch.multinomial(self.weights.to(z), n, replacement=True, generator=generator)
        means, factors = self.means.to(z), self._factors.to(z)
        if self._alike:
            return torch.addmm(means[k], z, factors[0].T)
        for component in k.unique().tolist():
            drawn = k == component
            z[drawn] = means[component] + z[drawn] @ factors[component].T
        return z

    def log_prob(self, x: Points) -> PerPoint:
        return self._log_joint_and_pull(validation.points(x, dim=self.dim))[0].logsumexp(0)

    def score(self, x: Points) -> Points:
        validation.rows(x, dim=self.dim)
        exact = self._reach * torch.finfo(x.dtype).eps < 1e-3
        if self._alike and self._fixed and exact:
            s = _in_parts(self._score_of_alike, x, len(self.weights))
        else:
            s = _in_parts(self._score_by_components, x, self.means.numel())
        return validation.finite_score(s, x)

    def _score_by_components(self, x: Points) -> Points:
        """The score of any mixture, as its formula has it."""
        log_joint, pull = self._log_joint_and_pull(x)
        responsibilities = log_joint.softmax(0)
        return (responsibilities[:, None] * pull).sum(0).T

    def _score_of_alike(self, x: Points) -> Points:
        """The same where all Σₖ are one Σ, in three matrix products and no (K, d, n) tensor.

        The term −xᵀΣ⁻¹x/2, which all log wₖ N(x; μₖ, Σ) share, leaves the softmax unchanged, so
        straight lines will do: μₖᵀΣ⁻¹x − μₖᵀΣ⁻¹μₖ/2 + log wₖ. Then s(x) = Σₖ rₖ Σ⁻¹μₖ − Σ⁻¹x.
        Where the means lie so far out beside Σ that rounding would show, `score` takes the plain
        way above.
        """
        slopes, heights, precision = self._lines_like(x)
        responsibilities = torch.addmm(heights, slopes, x.T).softmax(0)
        return torch.addmm(precision @ x.T, slopes.T, responsibilities, beta=-1).T

    def _log_joint_and_pull(self, x: Points):
        """log wₖ N(x; μₖ, Σₖ), shape (K, n), and Σₖ⁻¹(μₖ − x), shape (K, d, n).

        Components and coordinates come before points: a sum over a short leading axis is
        several times faster than over a short trailing one.
        """
        means, precisions, log_peaks = self._parameters_like(x)
        offset = means[:, :, None] - x.T
        pull = precisions @ offset
        return log_peaks[:, None] - (offset * pull).sum(1) / 2, pull

    def _parameters_like(self, x: Tensor) -> list[Tensor]:
        """Means, precisions and log peaks like x."""
        return self._like(x, "parameters", self.means, self._precisions, self._log_peaks)

    def _lines_like(self, x: Tensor) -> list[Tensor]:
        """Slopes Σ⁻¹μₖ (K, d), heights (K, 1) and the one precision Σ⁻¹ (d, d) like x."""
        return self._like(x, "lines", self._slopes, self._heights[:, None], self._precisions[0])

    def _like(self, x: Tensor, name: str, *tensors: Tensor) -> list[Tensor]:
        """The tensors in x's dtype and on its device, converted once."""
        key = (name, x.dtype, x.device)
        if key not in self._cache:
            self._cache[key] = [tensor.to(x) for tensor in tensors]
        return self._cache[key]


class Banana(Density):
    """A bent Gaussian in the plane: x₁ ~ N(0, a²), x₂ | x₁ ~ N(b(x₁² − a²), c²).

    a = `width`, b = `bend`, c = `thickness`, in the units of x. Its score comes from autograd.

    Reference: Haario, Saksman and Tamminen (1999), Computational Statistics 14.
    """

    dim = 2

    def __init__(self, width: float = 2.0, bend: float = 0.5, thickness: float = 0.7):
        self.width = validation.scale(width, "width")
        self.bend = validation.real(bend, "bend")
        self.thickness = validation.scale(thickness, "thickness")

    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Points:
        validation.count(n, "n")
        generator = stream(generator)
        z1, z2 = torch.randn(2, n, generator=generator, device=generator.device)
        x1 = self.width * z1
        return torch.stack([x1, self._spine(x1) + self.thickness * z2], dim=1)

    def log_prob(self, x: Points) -> PerPoint:
        x1, x2 = validation.points(x, dim=2).unbind(1)
        along, across = x1 / self.width, (x2 - self._spine(x1)) / self.thickness
        log_volume = math.log(2 * math.pi * self.width * self.thickness)
        return -(along**2 + across**2) / 2 - log_volume

    def _spine(self, x1: Tensor) -> Tensor:
        """The mean of x₂ given x₁."""
        return self.bend * (x1**2 - self.width**2)


def two_modes() -> GaussianMixture:
    """⅕ N((−5, −5), I) + ⅘ N((5, 5), I). Reference: Song and Ermon (2019), section 3.2."""
    return GaussianMixture.isotropic([0.2, 0.8], [[-5.0, -5.0], [5.0, 5.0]], 1.0)


def scaled_modes() -> GaussianMixture:
    """⅕ N((−1.2, −1.2), 0.06 I) + ⅘ N((1.2, 1.2), 0.06 I): two modes of roughly unit size."""
    return GaussianMixture.isotropic([0.2, 0.8], [[-1.2, -1.2], [1.2, 1.2]], 0.06**0.5)


def gaussian(std: float = 1.0, dim: int = 2) -> GaussianMixture:
    """N(0, std² I) on ℝ^dim."""
    validation.count(dim, "dim")
    return GaussianMixture.isotropic([1.0], torch.zeros(1, dim), validation.scale(std, "std"))


def ring(radius: float = 5.0, std: float = 0.6, n_components: int = 48) -> GaussianMixture:
    """A circle blurred by N(0, std² I): equal components, evenly spaced on the circle."""
    validation.scale(radius, "radius"), validation.scale(std, "std")
    k = torch.arange(validation.count(n_components, "n_components"), dtype=torch.float64)
    angle = 2 * torch.pi * k / n_components
    return kernel_density(radius * torch.stack([angle.cos(), angle.sin()], 1), std)


def swiss_roll(turns: float = 1.5, std: float = 0.35, n_components: int = 80) -> GaussianMixture:
    """A spiral from radius 1 to radius 6, blurred by N(0, std² I), uniform along its length."""
    validation.scale(turns, "turns"), validation.scale(std, "std")
    validation.count(n_components, "n_components")
    u = torch.linspace(0, 1, 4001, dtype=torch.float64)
    angle, radius = 2 * torch.pi * turns * u, 1 + 5 * u
    curve = radius[:, None] * torch.stack([angle.cos(), angle.sin()], 1)
    length = curve.diff(dim=0).norm(dim=1).cumsum(0)
    at = torch.linspace(0, float(length[-1]), n_components, dtype=torch.float64)
    return kernel_density(curve[1:][torch.searchsorted(length, at).clamp(max=3999)], std)


def kernel_density(x: Points, sigma: float) -> GaussianMixture:
    """(1/n) Σᵢ N(xᵢ, σ²I): the data smoothed by Gaussian noise of standard deviation σ.

    Reference: Parzen (1962), Annals of Mathematical Statistics 33.
    """
    n = len(validation.points(x))
    weights = torch.full((n,), 1 / n, dtype=torch.float64)
    return GaussianMixture.isotropic(weights, x, validation.scale(sigma, "sigma"))


def _in_parts(score: Callable[[Points], Points], x: Points, numbers: int) -> Points:
    """score(x), on a CPU for as many points at a time as hold `numbers` each in its cache."""
    at_once = max(1, NUMBERS_AT_ONCE // numbers)
    if len(x) <= at_once or x.device.type != "cpu":
        return score(x)
    return torch.cat([score(part).T for part in x.split(at_once)], dim=1).T


def _check_mixture(weights: Tensor, means: Tensor, covariances: Tensor) -> None:
    """Raise ValueError unless the three describe a mixture."""
    validation.points(means, "means")
    k, d = means.shape
    if weights.shape != (k,):
        raise ValueError(f"weights must have shape ({k},), got {tuple(weights.shape)}")
    if covariances.shape != (k, d, d):
        raise ValueError(
            f"covariances must have shape ({k}, {d}, {d}), got {tuple(covariances.shape)}"
        )
    validation.weights(weights)
    if not bool(covariances.isfinite().all()):
        raise ValueError("covariances must be finite, got NaN or infinite entries")
    if not torch.allclose(covariances, covariances.mT):
        raise ValueError("covariances must be symmetric")
    variances = torch.linalg.eigvalsh(covariances)
    if not bool((variances > 0).all()):
        raise ValueError("covariances must be positive definite")
    for extreme in (variances.min(), variances.max()):
        validation.scale(float(extreme) ** 0.5, "the square root of covariances")
