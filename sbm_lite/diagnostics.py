"""Numbers, never pictures: how good is a set of samples, or a learned score?"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sbm_lite import validation

Points = Float[Tensor, "n d"]


def grid(limit: float, n: int, dim: int = 2) -> Float[Tensor, "m dim"]:
    """The nᵈ nodes of a square grid on [−limit, limit]ᵈ; the first coordinate varies fastest."""
    if validation.count(n, "n") < 2:
        raise ValueError("n must be at least 2, got 1")
    validation.count(n ** validation.count(dim, "dim"), "n**dim")
    limit = validation.scale(limit, "limit")
    axes = torch.meshgrid(*[torch.linspace(-limit, limit, n)] * dim, indexing="ij")
    return torch.stack([a.flatten() for a in reversed(axes)], dim=1)


def standard_error(values: Float[Tensor, " n"]) -> Float[Tensor, ""]:
    """The standard error of the mean of n independent numbers, std/√n. Needs n ≥ 2."""
    validation.floats(values, "values", "(n,)")
    if values.ndim != 1 or len(values) < 2:
        raise ValueError(f"values must have shape (n,) with n >= 2, got {tuple(values.shape)}")
    return validation.finite(values, "values").std() / len(values) ** 0.5


def nearest(x: Points, centres: Float[Tensor, "k d"]) -> Int[Tensor, " n"]:
    """For each point, the index of the nearest centre."""
    validation.points(centres, "centres", dim=validation.points(x).shape[1])
    return _distances(x, centres.to(x)).argmin(1)


def mode_weights(x: Points, centres: Float[Tensor, "k d"]) -> Float[Tensor, " k"]:
    """The share of points nearest to each centre.

    For n independent points a share w has the standard error √(w(1−w)/n).
    """
    counts = torch.bincount(nearest(x, centres), minlength=len(centres))
    return counts.to(x) / len(x)


def fisher_divergence(s: Points, target: Points) -> Float[Tensor, ""]:
    """½ mean ‖s − target‖² over points drawn from p: s a model's score, target the true one there.

    Reference: Hyvärinen (2005), JMLR 6.
    """
    validation.same_shape(
        validation.points(s, "s"), validation.points(target, "target"), "s and target"
    )
    return ((s - target) ** 2).sum(1).mean() / 2


def wasserstein(x: Points, y: Float[Tensor, "m d"]) -> float:
    """The 2-Wasserstein distance between two clouds, exactly (POT; seconds from n = 2,000 on).

    Reference: Flamary et al. (2021), JMLR 22.
    """
    import ot  # slow to import, so only here

    validation.points(y, "y", dim=validation.points(x).shape[1])
    uniform = [torch.full((len(a),), 1 / len(a), dtype=torch.float64).numpy() for a in (x, y)]
    cost = _distances(x.detach().double(), y.detach().double()).square().cpu().numpy()
    return float(ot.emd2(*uniform, cost, numItermax=1_000_000)) ** 0.5


def autocorrelation(path: Float[Tensor, "t n"]) -> Float[Tensor, " t"]:
    """Correlation of a stationary quantity with itself k steps later, for k = 0 … t − 1.

    `path` holds one number per step and chain (one coordinate of a path, say); all chains are
    pooled. The lag-k estimate divides by t, which keeps the noise at large lags down.
    """
    validation.floats(path, "path", "(t, n)")
    if path.ndim != 2 or len(path) < 2 or path.shape[1] < 1:
        raise ValueError(f"path must have shape (t, n) with t >= 2, got {tuple(path.shape)}")
    centred = validation.finite(path, "path") - path.mean()
    spectrum = torch.fft.rfft(centred, n=2 * len(path), dim=0).abs() ** 2
    covariance = torch.fft.irfft(spectrum, dim=0)[: len(path)].mean(1)
    if not bool(covariance[0] > 0):
        raise ValueError("path must vary: a constant has no correlation")
    return covariance / covariance[0]


def effective_sample_size(path: Float[Tensor, "t n"]) -> float:
    """How many independent draws the t·n numbers of a path are worth for estimating their mean.

    t·n / τ with τ = 1 + 2 Σₖ ρₖ, summed over pairs ρ₂ₘ + ρ₂ₘ₊₁ until one is negative; at most
    t·n·log₁₀(t·n), for a chain that overshoots can beat independent draws, but not without bound.

    Book: eq-tau. Reference: Geyer (1992), Statistical Science 7; Vehtari et al. (2021), Bayesian
    Analysis 16.
    """
    rho = autocorrelation(path).detach()
    pairs = rho[: len(rho) // 2 * 2].reshape(-1, 2).sum(1)
    negative = (pairs < 0).nonzero()
    stop = int(negative[0]) if len(negative) else len(pairs)
    tau = float(2 * pairs[:stop].sum() - 1)
    n = path.numel()
    return n / max(tau, 1 / math.log10(max(n, 10)))


def _distances(x: Points, y: Float[Tensor, "m d"]) -> Float[Tensor, "n m"]:
    """Euclidean distances by differences: the faster matrix product cancels far from the origin."""
    return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")
