"""What several files of claims share: exact numbers, seeded draws, exact expectations."""

import numpy as np
import torch
from numpy.polynomial.hermite_e import hermegauss

from sbm_lite.runtime import generator


def exactly(values):
    """A float64 tensor."""
    return torch.as_tensor(values, dtype=torch.float64)


def tensor(x):
    """Numbers as points on the line."""
    return exactly(np.atleast_1d(x))[:, None]


def normals(*shape, seed):
    """Standard normals, float64."""
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


def gaussian_pairs(variance, sigma, n=30):
    """Clean points of N(0, variance), their noise, and weights: exact for polynomials."""
    z, w = hermegauss(n)
    x, e = np.meshgrid(variance**0.5 * z, z, indexing="ij")
    weights = np.outer(w, w) / (2 * np.pi)
    return tuple(
        torch.tensor(a).reshape(-1, *rest) for a, rest in ((x, [1]), (e, [1]), (weights, []))
    )


def best_slope(mean_loss):
    """The a at which the parabola a ↦ mean loss of s(x) = −a x is least."""
    left, middle, right = (float(mean_loss(lambda x, a=a: -a * x)) for a in (-1.0, 0.0, 1.0))
    return (left - right) / (left - 2 * middle + right) / 2
