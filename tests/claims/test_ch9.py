"""Chapter 9, the variance of denoising score matching: each test proves a claim another way.

λ is the variance of Gaussian data, τ² = λ + σ², and u = aτ² for the model s(x̃) = −a x̃. What the
package says is held against sums over parents on a grid, against averages of polynomials that are
exact sums over Gauss–Hermite nodes, and against simulation.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
import torch
from exact import exactly, normals, tensor
from numpy.polynomial.hermite_e import hermegauss
from scipy.integrate import quad
from scipy.special import expit
from scipy.stats import multivariate_normal, norm
from torch import nn

from sbm_lite import losses, training, variance
from sbm_lite.calculus import score_of
from sbm_lite.densities import GaussianMixture, gaussian, two_modes
from sbm_lite.diagnostics import fisher_divergence, standard_error
from sbm_lite.networks import ScoreMLP
from sbm_lite.runtime import generator

PLANE = GaussianMixture(
    [0.4, 0.6], [[-1.0, 0.5], [1.0, 0.0]], [[[0.5, 0.2], [0.2, 0.4]], [[0.3, -0.1], [-0.1, 0.6]]]
)
AT = (-2.0, -0.3, 0.4, 1.7)


@dataclass(frozen=True)
class Line:
    """A mixture of Gaussians on the line under Gaussian noise, by sums over a grid of parents."""

    weights: tuple = (0.3, 0.7)
    means: tuple = (-1.5, 1.0)
    variances: tuple = (0.5, 0.3)
    sigma: float = 0.6

    @property
    def package(self):
        means, variances = np.array(self.means)[:, None], np.array(self.variances)[:, None, None]
        return GaussianMixture(self.weights, means, variances)

    @property
    def score(self):
        """The score of the noisy density, as the package has it."""
        return self.package.smoothed(self.sigma).score

    @property
    def grid(self):
        return np.arange(-6.5, 6.5, 0.2)

    def density(self, x):
        stds = np.sqrt(self.variances)
        return (self.weights * norm.pdf(np.asarray(x)[..., None], self.means, stds)).sum(-1)

    def pairs(self):
        """Clean points and noises on a grid, (n, 1) each, and their weights, which add up to 1."""
        x, e = np.meshgrid(self.grid, np.arange(-7.5, 7.5, 0.25), indexing="ij")
        weight = self.density(x) * norm.pdf(e) * 0.2 * 0.25
        return tensor(x.ravel()), tensor(e.ravel()), exactly(weight.ravel())

    def parents(self, at):
        """The weight of each grid point as the parent of each noisy point, (m, grid)."""
        offset = (np.atleast_1d(at)[:, None] - self.grid) / self.sigma
        joint = np.log(self.density(self.grid)) - offset**2 / 2
        joint = np.exp(joint - joint.max(1, keepdims=True))
        return joint / joint.sum(1, keepdims=True)

    def target(self, at):
        """Mean and variance of t given each noisy point."""
        t = (self.grid - np.atleast_1d(at)[:, None]) / self.sigma**2
        parents = self.parents(at)
        mean = (parents * t).sum(1)
        return mean, (parents * (t - mean[:, None]) ** 2).sum(1)


P = Line()
Q = Line((0.4, 0.6), (-1.0, 1.2), (0.2, 0.5), 0.5)
one = torch.ones_like
FEATURES = {  # law, features and their weights
    "1, x, tanh 2x": (P, (one, lambda x: x, lambda x: torch.tanh(2 * x)), (0.1, -0.5, 0.4)),
    "1, x, sin x": (Q, (one, lambda x: x, torch.sin), (0.2, -0.4, 0.7)),
}
both = pytest.mark.parametrize("setting", FEATURES)


class Features(nn.Module):
    """s_θ(x) = Σ θᵢ φᵢ(x)."""

    def __init__(self, features, theta):
        super().__init__()
        self.features, self.theta = features, nn.Parameter(exactly(theta))

    def forward(self, x):
        return sum(t * f(x) for t, f in zip(self.theta, self.features, strict=True))


class Slope(nn.Module):
    """s(x) = −a x, a the only parameter."""

    def __init__(self, a):
        super().__init__()
        self.a = nn.Parameter(exactly(a))

    def forward(self, x):
        return -self.a * x


def explicit(score, x, e, sigma, s_sigma):
    """The explicit loss at the noisy points of the denoising one."""
    x_noisy = x + sigma * e
    return losses.esm(score, x_noisy, s_sigma(x_noisy))


def average(values, weight):
    """The mean of weighted numbers."""
    return float((exactly(weight) * exactly(values)).sum())


def covariance(g, weight):
    """The covariance matrix of weighted rows."""
    centred = g - (weight[:, None] * g).sum(0)
    return (weight[:, None] * centred).T @ centred


def variance_error(values):
    """4.5 standard errors of the variance of independent numbers."""
    centred = values - values.mean()
    return 4.5 * float(((centred**4).mean() - values.var() ** 2) / len(values)) ** 0.5


@cache
def hermite(dim, order=5):
    """Nodes (n, dim) and weights of N(0, I): exact for polynomials up to degree 2·order − 1."""
    z, w = hermegauss(order)
    z = np.stack(np.meshgrid(*[z] * dim, indexing="ij"), -1).reshape(-1, dim)
    w = np.stack(np.meshgrid(*[w / w.sum()] * dim, indexing="ij"), -1).reshape(-1, dim).prod(1)
    return exactly(z), exactly(w)


def exact_pairs(d, lam):
    """Clean points of N(0, λ I_d), noises and weights, exact for squares of quadratics."""
    z, w = hermite(2 * d)
    return lam**0.5 * z[:, :d], z[:, d:], w


def moments(values, weight):
    """Mean and variance of weighted numbers."""
    mean = (weight * values).sum()
    return mean, (weight * (values - mean) ** 2).sum()


def gradient(loss, a, *batch):
    """∂/∂a of a loss of s(x) = −a x, one number per point."""
    return variance.per_sample_gradients(Slope(a), loss, *batch)[:, 0]


# A loss that never decreases


MODELS = {
    "tanh(1.1 x) − 0.8 x": lambda x: torch.tanh(1.1 * x) - 0.8 * x,
    "0.3 − 1.7 sin x": lambda x: 0.3 - 1.7 * torch.sin(x),
    "0": torch.zeros_like,
}


def expected(loss, score, law, *more):
    """The mean of a loss of the package over pairs."""
    x, e, weight = law.pairs()
    return float((weight * loss(score, x, e, law.sigma, *more)).sum().detach())


@pytest.mark.claim("C9.01")
def test_one_source_maximises_what_we_minimise(check):
    x, e, weight = P.pairs()
    noisy = (x + P.sigma * e)[:, 0].numpy()
    t, s_sigma = -e[:, 0].numpy() / P.sigma, P.target(noisy)[0]
    for name, s in MODELS.items():
        values = s(tensor(noisy))[:, 0].numpy()
        l_esm, l_dsm = (-average((values - target) ** 2, weight) for target in (s_sigma, t))
        j_esm, j_dsm = expected(explicit, s, P, P.score), expected(losses.dsm, s, P)
        check(f"L_ESM of {name}", expected=-2 * j_esm, measured=l_esm, within=1e-9)
        check(f"L_DSM of {name}", expected=-2 * j_dsm, measured=l_dsm, within=1e-9)
        assert l_esm > l_dsm and j_dsm > j_esm
    worse = [expected(losses.dsm, lambda x, c=c: -c * x, P) for c in (1.0, 10.0, 100.0)]
    assert -2 * worse[0] > -2 * worse[1] > -2 * worse[2] and worse[2] > 1000


# The same mean


def plane_parts(sigma):
    """Weight, mean, covariance and noisy covariance of each component in the plane."""
    for w, m, c in zip(PLANE.weights, PLANE.means.numpy(), PLANE.covariances.numpy(), strict=True):
        yield float(w), m, c, c + sigma**2 * np.eye(2)


def plane_density(at, sigma):
    return sum(w * multivariate_normal.pdf(at, m, total) for w, m, _, total in plane_parts(sigma))


def plane_parents(at, sigma):
    """Means and covariances of the clean points given noisy ones, as Kalman filters have them."""
    shares, means, covariances = [], [], []
    for w, m, c, total in plane_parts(sigma):
        gain = c @ np.linalg.inv(total)
        shares.append(w * multivariate_normal.pdf(at, m, total) / plane_density(at, sigma))
        means.append(m + (at - m) @ gain.T)
        covariances.append(c - gain @ c)
    shares, means = np.array(shares), np.array(means)
    mean = np.einsum("k...,k...i->...i", shares, means)
    off = means - mean
    spread = np.einsum("k...,k...i,k...j->...ij", shares, off, off)
    return mean, spread + np.einsum("k...,kij->...ij", shares, np.array(covariances))


def slope_of_log(f, at, h=1e-5):
    """∇log f by central differences."""
    return np.array(
        [(np.log(f(at + h * e)) - np.log(f(at - h * e))) / (2 * h) for e in np.eye(len(at))]
    )


@pytest.mark.claim("C9.04")
def test_the_score_is_the_mean_target(check):
    for at in AT:
        mean = P.target(at)[0][0]
        check(f"mean target at {at}", expected=P.score(tensor(at)), measured=mean, within=1e-9)
    for at in (np.array([0.3, -0.8]), np.array([-1.2, 1.4])):
        mean = (plane_parents(at, 0.5)[0] - at) / 0.25
        slope = slope_of_log(lambda u: plane_density(u, 0.5), at)
        package = PLANE.smoothed(0.5).score(exactly(at[None]))[0]
        for i in range(2):
            name = f"in the plane at {at.tolist()}, coordinate {i + 1}"
            check(name, expected=slope[i], measured=mean[i], within=1e-8)
            check("the same by the package", expected=slope[i], measured=package[i], within=1e-8)


@pytest.mark.claim("C9.04")
def test_finitely_many_clean_points_make_a_sum(check):
    points, sigma = np.array([-1.3, -0.2, 0.1, 0.9, 2.0]), 0.4
    for at in AT:
        shares = np.exp(-((at - points) ** 2) / (2 * sigma**2))
        mean = (shares * (points - at)).sum() / sigma**2 / shares.sum()
        u = tensor(at).requires_grad_()
        log_density = torch.logsumexp(-((u - exactly(points)) ** 2) / (2 * sigma**2), 1)
        (slope,) = torch.autograd.grad(log_density.sum(), u)
        check(f"five clean points, mean target at {at}", expected=slope, measured=mean,
              within=1e-10)  # fmt: skip


@pytest.mark.claim("C9.05")
@pytest.mark.parametrize("name", MODELS)
def test_the_explicit_loss_has_three_terms(check, name):
    s = MODELS[name]
    x, e, weight = P.pairs()
    x_noisy = x + P.sigma * e
    s_sigma = P.target(x_noisy[:, 0].numpy())[0]
    first, second = (average(v**2, weight) / 2 for v in (s(x_noisy)[:, 0], s_sigma))
    cross = average((s(x_noisy) * -e / P.sigma)[:, 0], weight)
    whole = expected(explicit, s, P, P.score)
    check(f"J_ESM of {name}", expected=first + second - cross, measured=whole, within=1e-9)
    assert abs(cross) > 0.1 or name == "0"


@pytest.mark.claim("C9.06")
def test_the_expected_gradients_are_equal(check):
    net = ScoreMLP(1, width=6, depth=2, generator=generator(1)).double()
    x, e, weight = P.pairs()
    denoising = variance.per_sample_gradients(net, losses.dsm, x, e, P.sigma)
    exact = variance.per_sample_gradients(net, explicit, x, e, P.sigma, P.score)
    mean, other = weight @ denoising, weight @ exact
    check("length of the mean denoising gradient of a network", expected=other.norm(),
          measured=mean.norm(), within=1e-9)  # fmt: skip
    check("largest difference of 61 entries", expected=0, measured=(mean - other).abs().max(),
          within=1e-9)  # fmt: skip
    assert mean.norm() > 0.1 and len(mean) == 61
    gap = [expected(losses.dsm, s, P) - expected(explicit, s, P, P.score) for s in MODELS.values()]
    check("J_DSM − J_ESM, largest − smallest of three models", expected=0, within=1e-9,
          measured=max(gap) - min(gap))  # fmt: skip


@pytest.mark.claim("C9.10")
@both
def test_the_gradient_is_an_expectation_over_pairs(check, setting):
    law, features, theta = FEATURES[setting]
    x, e, weight = law.pairs()
    x_noisy = x + law.sigma * e
    phi = torch.cat([f(x_noisy) for f in features], 1)
    residual = phi @ exactly(theta) + e[:, 0] / law.sigma
    by_hand = phi * residual[:, None]
    net = Features(features, theta)
    package = variance.per_sample_gradients(net, losses.dsm, x, e, law.sigma)
    check(f"{setting}: φᵀ(s − t) − gradient of a pair, largest", expected=0, within=1e-9,
          measured=(by_hand - package).abs().max())  # fmt: skip
    of_truth = variance.per_sample_gradients(net, explicit, x, e, law.sigma, law.score)
    truth = exactly(law.target(x_noisy[:, 0].numpy())[0])
    off = phi * (residual - e[:, 0] / law.sigma - truth)[:, None] - of_truth
    near = x_noisy[:, 0].abs() < 4  # further out the parents are off the grid
    check("φᵀ(s − s_σ) − gradient of the explicit loss", expected=0, within=1e-8,
          measured=off[near].abs().max())  # fmt: skip
    for i in range(3):
        step = 1e-3 * torch.eye(3).double()[i]
        j = [
            expected(losses.dsm, Features(features, exactly(theta) + way * step), law)
            for way in (1, -1)
        ]
        check(f"∂J_DSM/∂θ_{i + 1}", expected=(j[0] - j[1]) / 2e-3, measured=weight @ package[:, i],
              within=1e-8)  # fmt: skip


@pytest.mark.claim("C9.11")
def test_bayes_splits_the_target(check):
    """log p(x | x̃) is that of the package's posterior, differentiated in x̃ by differences."""
    for at, x in (([0.3, -0.8], [1.1, -0.4]), ([-1.2, 1.4], [-0.7, 0.9])):
        at, x, h = np.array(at), exactly([x]), 1e-4
        s_sigma = PLANE.smoothed(0.5).score(exactly(at[None]))[0]
        t = (x[0].numpy() - at) / 0.25
        for i, step in enumerate(h * np.eye(2)):
            up, down = (PLANE.posterior(exactly(u), 0.5) for u in (at + step, at - step))
            noise = float(up.log_prob(x) - down.log_prob(x)) / (2 * h)
            check(f"t_{i + 1} at {at.tolist()}", expected=t[i], measured=s_sigma[i] + noise,
                  within=1e-6)  # fmt: skip
            assert abs(noise) > 0.1


@pytest.mark.claim("C9.12")
def test_the_noise_of_the_target_has_mean_zero(check):
    for at in AT:
        t = (P.grid - at) / P.sigma**2
        noise = t - float(P.score(tensor(at)))
        check(f"mean of ∇log p(x | x̃) at {at}", expected=0, measured=P.parents(at)[0] @ noise,
              within=1e-9)  # fmt: skip
        h = 1e-4
        slope = (P.parents(at + h)[0] - P.parents(at - h)[0]) / (2 * h)
        off = np.abs(slope - P.parents(at)[0] * noise).max()
        check("∇p(x | x̃) − p ∇log p", expected=0, measured=off, within=1e-6)
    net = ScoreMLP(1, width=5, depth=1, generator=generator(2)).double()
    x = tensor(P.grid)
    e = (0.4 - x) / P.sigma
    g = variance.per_sample_gradients(net, losses.dsm, x, e, P.sigma)
    g_e = variance.per_sample_gradients(net, explicit, x, e, P.sigma, P.score)
    off = exactly(P.parents(0.4)[0]) @ (g - g_e)
    check("mean difference of the gradients of a network at x̃ = 0.4", expected=0,
          measured=off.abs().max(), within=1e-9)  # fmt: skip


# The gap


@pytest.mark.claim("C9.07")
@pytest.mark.claim("C9.09")
@pytest.mark.claim("C9.24")
@pytest.mark.parametrize("law", [P, Q], ids="PQ")
def test_the_gap_between_the_losses(check, law):
    x, e, weight = law.pairs()
    x_noisy = x + law.sigma * e
    score, spread = law.target(x_noisy[:, 0].numpy())
    squares, spread = 1 / law.sigma**2 - average(score**2, weight), average(spread, weight)
    gap = average(variance.conditional_gap(law.score, x_noisy, law.sigma), weight)
    check("E‖t‖² − E‖s_σ‖²", expected=spread, measured=squares, within=1e-9)
    check("mean conditional gap", expected=spread, measured=gap, within=1e-9)
    for name, s in MODELS.items():
        twice = 2 * (expected(losses.dsm, s, law) - expected(explicit, s, law, law.score))
        check(f"2(J_DSM − J_ESM) of {name}", expected=spread, measured=twice, within=1e-9)
    assert squares > 1


@pytest.mark.claim("C9.24")
def test_kernel_and_data_set_the_gap(check):
    """Without noise in common: three σ and two laws give six gaps."""
    found = []
    for law in (P, Q):
        for sigma in (0.3, 0.6, 1.2):
            at = Line(law.weights, law.means, law.variances, sigma)
            x, e, weight = at.pairs()
            x_noisy = x + sigma * e
            gap = weight @ variance.conditional_gap(at.score, x_noisy, sigma)
            by_grid = average(at.target(x_noisy[:, 0].numpy())[1], weight)
            check(f"gap, law {'PQ'[law is Q]}, σ = {sigma}", expected=by_grid, measured=gap,
                  within=1e-8)  # fmt: skip
            found.append(float(gap))
    assert min(np.diff(sorted(found))) > 0.005


@pytest.mark.claim("C9.07")
@pytest.mark.claim("C9.14")
def test_the_covariance_of_the_target_is_a_matrix(check):
    for sigma in (0.5, 1.3):
        for at in ([0.3, -0.8], [-1.2, 1.4], [0.0, 0.2]):
            by_hand = plane_parents(np.array(at), sigma)[1] / sigma**4
            package = variance.target_covariance(
                PLANE.smoothed(sigma).score, exactly([at]), exactly([sigma])
            )[0]
            assert np.abs(package.numpy() - by_hand).max() < 1e-10
            check(f"Cov(t₁, t₂ | x̃ = {at}), σ = {sigma}", expected=by_hand[0, 1],
                  measured=package[0, 1], within=1e-10)  # fmt: skip
            gap = variance.conditional_gap(PLANE.smoothed(sigma).score, exactly([at]), sigma)
            check("trace of Cov(t | x̃)", expected=np.trace(by_hand), measured=gap, within=1e-10)


@pytest.mark.claim("C9.25")
def test_the_gap_is_the_uncertainty_about_the_clean_point(check):
    sigma, smooth = 0.5, PLANE.smoothed(0.5)
    axis = np.arange(-6.0, 6.0, 0.3)
    nodes = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
    weight = plane_density(nodes, sigma) * 0.09
    uncertainty = weight @ plane_parents(nodes, sigma)[1].trace(axis1=1, axis2=2) / sigma**4
    squares = weight @ (smooth.score(exactly(nodes)) ** 2).sum(1).numpy()
    package = weight @ variance.conditional_gap(smooth.score, exactly(nodes), sigma).numpy()
    check("d/σ² − E‖s_σ‖²", expected=uncertainty, measured=2 / sigma**2 - squares, within=1e-5)
    check("gap", expected=uncertainty, measured=package, within=1e-5)
    for d, lam, sigma in ((3, 2.0, 0.7), (5, 0.5, 0.2), (2, 1.0, 3.0)):
        score = gaussian(lam**0.5, dim=d).smoothed(sigma).score
        gap = variance.conditional_gap(score, normals(1, d, seed=3), sigma)
        precision = 1 / lam + 1 / sigma**2  # of x given x̃, per coordinate
        check(f"gap, d = {d}, λ = {lam}, σ = {sigma}", expected=d / precision / sigma**4,
              measured=gap, within=1e-9)  # fmt: skip
        assert abs(d / precision / sigma**4 / (d * lam / sigma**2 / (lam + sigma**2)) - 1) < 1e-12


# How large the gap is


def two_points(sigma, mu=1.0):
    """The gap for data at ±μ, without a difference of large numbers.

    p_σ(u) sech²(μu/σ²) is N(u; 0, σ²) e^{−μ²/2σ²} sech(μu/σ²).
    """
    wide = min(12 * sigma, 40 * sigma**2 / mu)
    inner = quad(lambda u: norm.pdf(u, 0, sigma) / np.cosh(mu * u / sigma**2), -wide, wide,
                 epsabs=0, epsrel=1e-11, limit=400)[0]  # fmt: skip
    return mu**2 / sigma**4 * np.exp(-(mu**2) / (2 * sigma**2)) * inner


def enumerated(points, sigma):
    """The gap for equally likely points: Σ over pairs of p_j p_k (x_j − x_k)², over p_σ."""
    points = np.array(points)

    def f(u):
        q = np.exp(-((u - points) ** 2) / (2 * sigma**2)) / len(points)
        pairs = np.multiply.outer(q, q) * np.subtract.outer(points, points) ** 2
        return pairs.sum() / 2 / q.sum() / (2 * np.pi * sigma**2) ** 0.5

    edges = np.sort(np.r_[points, (points[1:] + points[:-1]) / 2, points[0] - 9 * sigma,
                          points[-1] + 9 * sigma])  # fmt: skip
    options = dict(epsabs=0, epsrel=1e-10, limit=400)
    total = sum(quad(f, a, b, **options)[0] for a, b in zip(edges, edges[1:], strict=False))
    return total / sigma**4


def two_points_score(sigma, mu=1.0):
    return lambda x: (mu * torch.tanh(mu * x / sigma**2) - x) / sigma**2


@pytest.mark.claim("C9.08")
def test_the_gap_is_large_where_parents_disagree(check):
    sigma = 0.5
    score = two_points_score(sigma)
    halfway = variance.conditional_gap(score, tensor(0.0), sigma)
    check("variance of the target halfway, σ = 0.5", expected=1 / sigma**4, measured=halfway,
          within=1e-10)  # fmt: skip
    share = expit(2 / sigma**2)  # of the nearer point, seen from x̃ = 1
    at_one = variance.conditional_gap(score, tensor(1.0), sigma)
    check("at one of the points", expected=4 * share * (1 - share) / sigma**4, measured=at_one,
          within=1e-10)  # fmt: skip
    at_one = variance.conditional_gap(two_points_score(0.1), tensor(1.0), 0.1)
    check("the same at σ = 0.1", expected=0, measured=at_one, within=1e-9)
    u = tensor(np.arange(-6, 6, 0.01))
    weight = exactly((norm.pdf(u, 1, sigma) + norm.pdf(u, -1, sigma))[:, 0] / 2 * 0.01)
    mean = weight @ variance.conditional_gap(score, u, sigma)
    check("on average, σ = 0.5", expected=two_points(sigma), measured=mean, within=1e-8)
    check("two points, σ = 0.5", expected=1.0976, measured=enumerated([-1, 1], 0.5), within=5e-5)
    check("two points, σ = 0.1", expected=two_points(0.1), measured=enumerated([-1, 1], 0.1),
          within=1e-8 * two_points(0.1))  # fmt: skip
    assert abs(two_points(0.1) / 2.388e-19 - 1) < 1e-3


@pytest.mark.claim("C9.20")
@pytest.mark.claim("C9.19")
def test_data_at_one_point_leave_no_gap(check):
    where, sigma = exactly([0.3, -1.0]), 0.4
    score = lambda x: -(x - where) / sigma**2  # noqa: E731
    e = normals(200, 2, seed=4)
    x = where.expand(200, 2)
    gap = variance.conditional_gap(score, x + sigma * e, sigma)
    check("gap", expected=0, measured=gap.abs().max(), within=1e-9)
    noise = (-e / sigma - score(x + sigma * e)).abs().max()
    check("∇log p(x | x̃)", expected=0, measured=noise, within=1e-12)
    net = ScoreMLP(2, width=8, generator=generator(5)).double()
    g = variance.per_sample_gradients(net, losses.dsm, x, e, sigma)
    g_e = variance.per_sample_gradients(net, explicit, x, e, sigma, score)
    check("denoising − explicit gradient of a network", expected=0, within=1e-10,
          measured=(g - g_e).abs().max())  # fmt: skip
    check("variance of the one over that of the other", expected=1, within=1e-10,
          measured=variance.total_variance(g) / variance.total_variance(g_e))  # fmt: skip


@pytest.mark.claim("C9.20")
@pytest.mark.parametrize("mu", [1e-3, 0.1, 1.0])
def test_two_points_however_close_leave_some(check, mu):
    u = tensor(np.arange(-6, 6, 0.01))
    weight = exactly((norm.pdf(u, mu, 0.5) + norm.pdf(u, -mu, 0.5))[:, 0] / 2 * 0.01)
    gap = weight @ variance.conditional_gap(two_points_score(0.5, mu), u, 0.5)
    by_sum = two_points(0.5, mu)
    assert by_sum > 0
    check(f"gap of data at ±{mu}, σ = 0.5", expected=by_sum, measured=gap, within=1e-3 * by_sum)


@pytest.mark.claim("C9.21")
@pytest.mark.parametrize("at", [-0.3, 0.4])
def test_where_the_noise_of_the_target_points(check, at):
    p, h = P.package, 1e-4
    mean = P.parents(at)[0] @ P.grid
    for x in (-1.2, 0.1, 0.9):
        up, down = (float(p.posterior(exactly([u]), P.sigma).log_prob(tensor(x)))
                    for u in (at + h, at - h))  # fmt: skip
        direction = (x - mean) / P.sigma**2
        check(f"∇log p(x = {x} | x̃ = {at})", expected=direction, measured=(up - down) / (2 * h),
              within=1e-6)  # fmt: skip
        step = 0.01 * np.sign(direction)
        now, then = (float(p.posterior(exactly([u]), P.sigma).log_prob(tensor(x)))
                     for u in (at, at + step))  # fmt: skip
        assert then > now


@pytest.mark.claim("C9.26")
def test_smooth_data_and_little_noise(check):
    axis = np.arange(-5.0, 5.0, 0.1)
    nodes = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
    for sigma in (0.1, 0.02):
        smooth = PLANE.smoothed(sigma)
        weight = plane_density(nodes, sigma) * 0.01
        gap = weight @ variance.conditional_gap(smooth.score, exactly(nodes), sigma).numpy()
        clean = weight @ (smooth.score(exactly(nodes)) ** 2).sum(1).numpy()
        check(f"σ² G in the plane, σ = {sigma}", expected=2 - sigma**2 * clean,
              measured=sigma**2 * gap, within=1e-5)  # fmt: skip
        assert abs(sigma**2 * gap - 2) < 6 * sigma**2


@pytest.mark.claim("C9.26")
def test_data_on_a_sheet_and_little_noise(check):
    """A line in the plane, a plane in five dimensions, and a circle: k is 1, 2 and 1."""
    for d, k in ((2, 1), (5, 2)):
        for sigma in (0.3, 0.01):
            variances = exactly([1.0 if i < k else 0.0 for i in range(d)]) + sigma**2
            gap = variance.conditional_gap(lambda x, v=variances: -x / v, normals(1, d, seed=6),
                                           sigma)  # fmt: skip
            check(f"σ² G, {k} of {d} dimensions, σ = {sigma}", expected=k / (1 + sigma**2),
                  measured=sigma**2 * gap, within=1e-9)  # fmt: skip
    for sigma in (0.2, 0.05):

        def log_density(x, sigma=sigma):
            r = x.norm(dim=1)
            bessel = torch.special.i0e(r / sigma**2).log() + r / sigma**2
            return bessel - (r**2 + 1) / (2 * sigma**2)

        angle = 2 * np.pi * torch.rand(4000, 1, generator=generator(7), dtype=torch.float64)
        x = torch.cat([angle.cos(), angle.sin()], 1) + sigma * normals(4000, 2, seed=8)
        gaps = sigma**2 * variance.conditional_gap(score_of(log_density), x, sigma)
        turns = np.linspace(-np.pi, np.pi, 4001)[:-1]
        radii = x.norm(dim=1).numpy()[:400, None]
        q = np.exp(radii * (np.cos(turns) - 1) / sigma**2)
        mean = (q * np.cos(turns)).sum(1) / q.sum(1)
        check(f"a circle, σ = {sigma}: largest difference to sums over parents", expected=0,
              measured=np.abs((1 - mean**2) / sigma**2 - gaps[:400].numpy()).max(),
              within=1e-6)  # fmt: skip
        check("σ² G of the circle", expected=1, measured=gaps.mean(),
              within=4.5 * standard_error(gaps) + sigma**2)  # fmt: skip


@pytest.mark.claim("C9.26")
def test_a_few_points_and_little_noise(check):
    for sigma in (0.2, 0.1, 0.05):
        leading = (np.pi / 2) ** 0.5 / sigma**3 * np.exp(-1 / (2 * sigma**2))
        check(f"two points, σ = {sigma}: gap over its leading term",
              expected=1 - np.pi**2 * sigma**2 / 8, measured=two_points(sigma) / leading,
              within=4 * sigma**4)  # fmt: skip
    rate = [8 * s**2 * np.log(s**3 * enumerated([0.0, 1.0, 3.0], s)) for s in (0.06, 0.03)]
    check("three points, the nearest 1 apart: 8σ² log G, σ = 0.03", expected=-1, measured=rate[1],
          within=8 * 0.03**2 * 2)  # fmt: skip
    assert abs(rate[1] + 1) < abs(rate[0] + 1)


@pytest.mark.claim("C9.26")
def test_much_noise(check):
    spread = PLANE.means.numpy() - (PLANE.weights[:, None] * PLANE.means).sum(0).numpy()
    inner = np.trace(np.einsum("k,kij->ij", PLANE.weights, PLANE.covariances))
    total = inner + (PLANE.weights.numpy() * (spread**2).sum(1)).sum()
    sigma = 100.0
    x = PLANE.sample(20_000, generator=generator(9)).double() + sigma * normals(20_000, 2, seed=10)
    gaps = sigma**4 * variance.conditional_gap(PLANE.smoothed(sigma).score, x, sigma)
    check(
        "σ⁴ G, σ = 100",
        expected=total,
        measured=gaps.mean(),
        within=4.5 * standard_error(gaps) + 5 * total**2 / sigma**2,
    )
    check("two points, σ⁴ G, σ = 30", expected=1, measured=30**4 * two_points(30.0), within=2e-3)
    for sigma, share in ((0.1, 0.990), (1.0, 0.5), (10.0, 0.0099)):
        score = gaussian(1.0, dim=1).smoothed(sigma).score
        part = sigma**2 * variance.conditional_gap(score, tensor(0.7), sigma)
        check(f"share of E‖t‖², N(0, 1), σ = {sigma}", expected=1 / (1 + sigma**2), measured=part,
              within=1e-10)  # fmt: skip
        assert abs(float(part) - share) < 1e-4


# The law of total variance


@pytest.mark.claim("C9.13")
@pytest.mark.parametrize("a", [0.2, 1.0, 3.0])
def test_the_variance_of_the_difference_of_the_gradients(check, a):
    for d, lam, sigma in ((1, 2.0, 0.5), (2, 0.5, 0.3)):
        x, e, weight = exact_pairs(d, lam)
        score = lambda u, v=lam + sigma**2: -u / v  # noqa: E731
        difference = gradient(losses.dsm, a, x, e, sigma) - gradient(
            explicit, a, x, e, sigma, score
        )
        mean, spread = moments(difference, weight)
        name = f"a = {a}, d = {d}, λ = {lam}, σ = {sigma}"
        check(f"mean difference, {name}", expected=0, measured=mean, within=1e-9)
        check("its variance", expected=d * lam / sigma**2, measured=spread, within=1e-9)
        without_half = [
            gradient(lambda *b, f=f: 2 * f(*b), a, x, e, sigma, *more)
            for f, more in ((losses.dsm, ()), (explicit, (score,)))
        ]
        spread = moments(without_half[0] - without_half[1], weight)[1]
        check("without the ½", expected=4 * d * lam / sigma**2, measured=spread, within=1e-9)


@pytest.mark.claim("C9.13")
def test_one_parameter_of_any_model(check):
    """s_θ = θ sin x on a mixture: the inner product squared, summed over parents."""
    net = Features([torch.sin], [0.7])
    x, e, weight = P.pairs()
    g, g_e = (
        variance.per_sample_gradients(net, loss, x, e, P.sigma, *more)[:, 0]
        for loss, more in ((losses.dsm, ()), (explicit, (P.score,)))
    )
    at = (x + P.sigma * e)[:, 0].numpy()
    wanted = average(np.sin(at) ** 2 * P.target(at)[1], weight)
    check("variance of the difference, θ sin x", expected=wanted, within=1e-9,
          measured=moments(g - g_e, weight)[1])  # fmt: skip


@cache
def total(setting):
    """Both gradients over pairs, the weights, and E[φ Var(t | x̃) φᵀ] by sums over parents."""
    law, features, theta = FEATURES[setting]
    net = Features(features, theta)
    x, e, weight = law.pairs()
    g = variance.per_sample_gradients(net, losses.dsm, x, e, law.sigma)
    g_e = variance.per_sample_gradients(net, explicit, x, e, law.sigma, law.score)
    x_noisy = x + law.sigma * e
    phi = torch.cat([f(x_noisy) for f in features], 1)
    spread = exactly(law.target(x_noisy[:, 0].numpy())[1])
    return g, g_e, weight, ((weight * spread)[:, None] * phi).T @ phi


@pytest.mark.claim("C9.14")
@pytest.mark.claim("C9.18")
@both
def test_the_covariances_add_as_matrices(check, setting):
    g, g_e, weight, added = total(setting)
    of_difference = covariance(g - g_e, weight)
    left, right = covariance(g, weight), covariance(g_e, weight)
    for name, wanted, found in (
        ("Cov(g_DSM − g_ESM)", added, of_difference),
        ("Cov(g_DSM)", right + added, left),
    ):
        check(f"{setting}: {name}, largest of 9 errors", expected=0, within=1e-8,
              measured=(found - wanted).abs().max())  # fmt: skip
        check(f"{name}, trace", expected=wanted.trace(), measured=found.trace(), within=1e-8)
    wanted, found = (np.linalg.eigvalsh(m) for m in (added, left - right))
    assert wanted[0] > 0.01
    for i in range(3):
        check(f"eigenvalue {i + 1} of Cov(g_DSM) − Cov(g_ESM)", expected=wanted[i],
              measured=found[i], within=1e-8)  # fmt: skip


@pytest.mark.claim("C9.17")
@both
def test_the_explicit_gradient_has_a_variance_too(check, setting):
    g, g_e, weight, added = total(setting)
    wide, narrow = covariance(g, weight).trace(), covariance(g_e, weight).trace()
    check(f"{setting}: sampling variance of g_DSM − that of g_ESM", expected=added.trace(),
          measured=wide - narrow, within=1e-8)  # fmt: skip
    assert narrow > 0.1
    if "tanh" in setting:
        for name, known, value in (("g_ESM", 1.992, narrow), ("g_DSM", 8.487, wide),
                                   ("V(g_DSM)", 6.495, added.trace())):  # fmt: skip
            check(f"variance of {name}, printed", expected=known, measured=value, within=5.1e-4)
    law, features, theta = FEATURES[setting]
    rng, n = generator(11), 100_000
    x = law.package.sample(n, generator=rng).double()
    e = torch.randn(n, 1, generator=rng).double()
    net = Features(features, theta)
    for loss, more, known in ((losses.dsm, (), wide), (explicit, (law.score,), narrow)):
        drawn = variance.per_sample_gradients(net, loss, x, e, law.sigma, *more)
        squares = ((drawn - drawn.mean(0)) ** 2).sum(1)
        check(f"total variance of {n:,} draws, {loss.__name__}", expected=known,
              measured=variance.total_variance(drawn),
              within=4.5 * standard_error(squares))  # fmt: skip


@pytest.mark.claim("C9.16")
@pytest.mark.claim("C9.17")
@both
def test_given_a_noisy_point_only_the_target_varies(check, setting):
    law, features, theta = FEATURES[setting]
    net, x = Features(features, theta), tensor(law.grid)
    for at in AT:
        e, weight = (at - x) / law.sigma, exactly(law.parents(at)[0])
        g = variance.per_sample_gradients(net, losses.dsm, x, e, law.sigma)
        g_e = variance.per_sample_gradients(net, explicit, x, e, law.sigma, law.score)
        phi = np.array([float(f(tensor(at))) for f in features])
        wanted = np.outer(phi, phi) * law.target(at)[1]
        given, of_truth = covariance(g, weight), covariance(g_e, weight)
        check(f"{setting}: Cov(g_ESM | x̃ = {at}), largest entry", expected=0, within=1e-9,
              measured=of_truth.abs().max())  # fmt: skip
        check("Cov(g_DSM | x̃), trace", expected=np.trace(wanted), measured=given.trace(),
              within=1e-8)  # fmt: skip
        assert np.abs(given.numpy() - wanted).max() < 1e-8 and np.trace(wanted) > 0.1
        centred = (g - g_e) - weight @ (g - g_e)
        cross = ((weight[:, None] * centred).T @ (g_e - weight @ g_e)).abs().max()
        check("covariance of the two parts", expected=0, measured=cross, within=1e-9)


def small_net():
    return ScoreMLP(2, width=4, depth=1, generator=generator(12)).double()


@pytest.mark.claim("C9.18")
def test_the_same_for_a_network_in_the_plane(check):
    """22 parameters; the noise in the difference of the covariances entry by entry."""
    net, sigma, n = small_net(), 0.5, 20_000
    smooth = PLANE.smoothed(sigma)
    x = PLANE.sample(n, generator=generator(13)).double()
    e = normals(n, 2, seed=14)
    g = variance.per_sample_gradients(net, losses.dsm, x, e, sigma)
    g_e = variance.per_sample_gradients(net, explicit, x, e, sigma, smooth.score)
    rows = [  # ∂s_i/∂θ of each point, (n, p): ½(s + eᵢ)² − ½s² has the gradient ∂s_i
        variance.per_sample_gradients(net, lambda s, u, i=i: s(u)[:, i], x + sigma * e)
        for i in range(2)
    ]
    cov = variance.target_covariance(smooth.score, x + sigma * e, sigma)
    jacobian = torch.stack(rows, 1)
    added = torch.einsum("nip,nij,njq->npq", jacobian, cov, jacobian)
    centre = g_e.mean(0)
    outer = [torch.einsum("np,nq->npq", h - centre, h - centre) for h in (g, g_e)]
    off = outer[0] - outer[1] - added
    z = off.mean(0) / (off.std(0) / n**0.5)
    p = g.shape[1]
    assert p == 22
    check("Cov(g_DSM) − Cov(g_ESM) − E[∂sᵀ Cov(t | x̃) ∂s]: largest of 253 entries, in standard "
          "errors", expected=0, measured=z.abs().max(), within=4.5)  # fmt: skip
    squares = off.diagonal(dim1=1, dim2=2).sum(1)
    wide, narrow = variance.total_variance(g), variance.total_variance(g_e)
    check("total variance of g_DSM", expected=narrow + added.mean(0).trace(), measured=wide,
          within=4.5 * standard_error(squares))  # fmt: skip
    least = np.linalg.eigvalsh(added.mean(0))[0]
    assert least > -1e-12 and added.mean(0).trace() > 20 * standard_error(squares)


@pytest.mark.claim("C9.14")
@pytest.mark.parametrize("at", [(0.3, -0.8), (-1.0, 1.0)])
def test_the_same_given_one_noisy_point(check, at):
    """Parents drawn from the exact posterior; the gradients of the network vary as ∂sᵀ Cov ∂s."""
    net, sigma, n = small_net(), 0.5, 20_000
    at = exactly(at)
    x = PLANE.posterior(at, sigma).sample(n, generator=generator(15)).double()
    g = variance.per_sample_gradients(net, losses.dsm, x, (at - x) / sigma, sigma)
    one_row = [
        torch.cat([r.flatten() for r in torch.autograd.grad(net(at[None])[0, i], net.parameters())])
        for i in range(2)
    ]
    jacobian = torch.stack(one_row)
    cov = exactly(plane_parents(at.numpy(), sigma)[1] / sigma**4)
    wanted = jacobian.T @ cov @ jacobian
    centred = g - g.mean(0)
    outer = torch.einsum("np,nq->npq", centred, centred)
    z = (outer.mean(0) - wanted) / (outer.std(0) / n**0.5)
    check(f"Cov(g | x̃ = {at.tolist()}), largest of 253 errors in standard errors", expected=0,
          measured=z[wanted.abs() > 1e-9].abs().max(), within=4.5)  # fmt: skip
    check("its trace", expected=wanted.trace(), measured=variance.total_variance(g),
          within=4.5 * standard_error((centred**2).sum(1)))  # fmt: skip


class Along(nn.Module):
    """s(x̃) = base(x̃) + θ·w with one parameter; ∂s/∂θ = w everywhere."""

    def __init__(self, w):
        super().__init__()
        self.theta, self.w = nn.Parameter(exactly(0.3)), exactly(w)

    def forward(self, x):
        return torch.tanh(x) - x + self.theta * self.w


@pytest.mark.claim("C9.15")
@pytest.mark.claim("C9.19")
@pytest.mark.parametrize("degrees", [0, 30, 60, 90])
def test_what_lies_across_the_noise_adds_no_variance(check, degrees):
    """Data N(0, 1) on the first axis of the plane: the parents differ along it alone."""
    sigma, angle = 0.5, np.deg2rad(degrees)
    z, weight = hermite(3, 40)
    x, e = torch.stack([z[:, 0], 0 * z[:, 0]], 1), z[:, 1:]
    score = lambda u: -u / exactly([1 + sigma**2, sigma**2])  # noqa: E731
    found = []
    for length in (1.0, 2.0):
        net = Along([length * np.cos(angle), length * np.sin(angle)])
        g, g_e = (
            variance.per_sample_gradients(net, loss, x, e, sigma, *more)[:, 0]
            for loss, more in ((losses.dsm, ()), (explicit, (score,)))
        )
        found.append(moments(g, weight)[1] - moments(g_e, weight)[1])
        inner = (length * np.cos(angle)) ** 2 * (1 / sigma**2 - 1 / (1 + sigma**2))
        check(f"variance added, ∂s of length {length:g} at {degrees}°", expected=inner,
              measured=found[-1], within=1e-8)  # fmt: skip
        if degrees == 90:
            check("largest difference of the gradients", expected=0, within=1e-12,
                  measured=(g - g_e).abs().max())  # fmt: skip
    assert degrees == 90 or abs(found[1] / found[0] - 4) < 1e-6


# A case with every number


SETTINGS = [(5, 2.0, 0.5, 1.3), (2, 0.5, 0.3, 0.8)]  # d, λ, σ, u


@pytest.mark.claim("C9.27")
@pytest.mark.parametrize(("d", "lam", "sigma", "u"),
                         [(1, 2.0, 0.5, 1.3), (2, 0.5, 0.3, 0.8), (2, 1.0, 3.0, 1.0)])  # fmt: skip
def test_both_variances_of_the_linear_case(check, d, lam, sigma, u):
    tau2 = lam + sigma**2
    x, e, weight = exact_pairs(d, lam)
    score = lambda y: -y / tau2  # noqa: E731
    rows = {
        "ESM": (gradient(explicit, u / tau2, x, e, sigma, score), 2 * d * (u - 1) ** 2),
        "DSM": (
            gradient(losses.dsm, u / tau2, x, e, sigma),
            2 * d * (u - 1) ** 2 + d * lam / sigma**2,
        ),
    }
    for name, (g, wanted) in rows.items():
        mean, spread = moments(g, weight)
        check(f"mean of g_{name}, d = {d}, λ = {lam}, σ = {sigma}, u = {u}", expected=d * (u - 1),
              measured=mean, within=1e-9)  # fmt: skip
        check("variance", expected=wanted, measured=spread, within=1e-8)


@pytest.mark.claim("C9.27")
def test_the_batch_at_which_noise_equals_signal(check):
    d, lam, sigma, u, n = 2, 1.0, 0.3, 1.3, 200_000
    x, e = lam**0.5 * normals(n, d, seed=43), normals(n, d, seed=44)
    g = gradient(losses.dsm, u / (lam + sigma**2), x, e, sigma)
    signal, noise = d * (u - 1), 2 * d * (u - 1) ** 2 + d * lam / sigma**2
    error = (variance_error(g) / noise) ** 2 + 4 * (4.5 * standard_error(g) / signal) ** 2
    batch = noise / signal**2
    check("variance of a gradient over its squared mean", expected=batch,
          measured=variance.noise_scale(g[:, None]), within=batch * error**0.5)  # fmt: skip


def seven(d, lam, sigma, u):
    """The variance of one sample's gradient, by estimator."""
    n = d * d + 2 * d
    return {
        "ESM": 2 * d * (u - 1) ** 2,
        "ISM": 2 * d * u**2,
        "SSM-VR, Rademacher": 2 * d * u**2,
        "SSM-VR, Gaussian": 2 * d * u**2 + 2 * d,
        "SSM, Rademacher": 2 * d**2 * u**2,
        "SSM, Gaussian": n * (3 * u**2 - 2 * u + 1) - d**2 * (u - 1) ** 2,
        "DSM": 2 * d * (u - 1) ** 2 + d * lam / sigma**2,
    }


@pytest.mark.claim("C9.28")
@pytest.mark.parametrize(("d", "lam", "sigma", "u"), SETTINGS)
def test_seven_estimators_by_simulation(check, d, lam, sigma, u):
    tau2, n = lam + sigma**2, 300_000
    x, e, v = lam**0.5 * normals(n, d, seed=16), normals(n, d, seed=17), normals(n, d, seed=18)
    signs, noisy = torch.where(normals(n, d, seed=19) < 0, -1.0, 1.0).double(), x + sigma * e
    runs = {
        "ESM": (losses.esm, noisy, -noisy / tau2),
        "ISM": (losses.ism, noisy),
        "SSM-VR, Rademacher": (losses.ssm_vr, noisy, signs),
        "SSM-VR, Gaussian": (losses.ssm_vr, noisy, v),
        "SSM, Rademacher": (losses.ssm, noisy, signs),
        "SSM, Gaussian": (losses.ssm, noisy, v),
        "DSM": (losses.dsm, x, e, sigma),
    }
    for name, wanted in seven(d, lam, sigma, u).items():
        loss, *batch = runs[name]
        g = gradient(loss, u / tau2, *batch)
        check(f"variance, {name}, d = {d}, λ = {lam}, σ = {sigma}, u = {u}", expected=wanted,
              measured=variance.total_variance(g[:, None]), within=variance_error(g))  # fmt: skip
        assert abs(g.mean() - d * (u - 1)) < 4.5 * standard_error(g) + 1e-9


@pytest.mark.claim("C9.28")
@pytest.mark.parametrize(("lam", "sigma", "u"), [(0.5, 0.3, 0.8), (0.5, 0.3, 1.0), (0.3, 0.5, 1.0)])
def test_seven_estimators_exactly_in_the_plane(check, lam, sigma, u):
    tau2, d = lam + sigma**2, 2
    a = u / tau2
    nodes, weight = hermite(4)
    noisy, v = tau2**0.5 * nodes[:, :2], nodes[:, 2:]
    signs = torch.where(v < 0, -1.0, 1.0).double()
    even = hermite(4, 4)  # an even number of nodes: none at 0, so that signs are fair
    fair, signs = tau2**0.5 * even[0][:, :2], torch.where(even[0][:, 2:] < 0, -1.0, 1.0).double()
    x, e = lam**0.5 * nodes[:, :2], nodes[:, 2:]
    runs = {
        "ESM": (gradient(losses.esm, a, noisy, -noisy / tau2), weight),
        "ISM": (gradient(losses.ism, a, noisy), weight),
        "SSM-VR, Rademacher": (gradient(losses.ssm_vr, a, fair, signs), even[1]),
        "SSM-VR, Gaussian": (gradient(losses.ssm_vr, a, noisy, v), weight),
        "SSM, Rademacher": (gradient(losses.ssm, a, fair, signs), even[1]),
        "SSM, Gaussian": (gradient(losses.ssm, a, noisy, v), weight),
        "DSM": (gradient(losses.dsm, a, x, e, sigma), weight),
    }
    found = {name: moments(*run) for name, run in runs.items()}
    for name, wanted in seven(d, lam, sigma, u).items():
        check(f"variance, {name}, d = 2, λ = {lam}, σ = {sigma}, u = {u}, exact", expected=wanted,
              measured=found[name][1], within=1e-9)  # fmt: skip
        assert abs(found[name][0] - d * (u - 1)) < 1e-10
    assert u < 1 or (found["DSM"][1] < found["ISM"][1]) == (sigma**2 > lam / 2)


# A control variate


def control(x, e, sigma):
    """h of s(x) = −a x, by hand."""
    return -(x * e).sum(1) / sigma


@pytest.mark.claim("C9.22")
def test_estimators_with_less_variance_exist(check):
    d, lam, sigma, n = 3, 2.0, 0.3, 300_000
    a = 1 / (lam + sigma**2)
    x, e = lam**0.5 * normals(n, d, seed=20), normals(n, d, seed=21)
    runs = {
        "DSM": (gradient(losses.dsm, a, x, e, sigma), d * lam / sigma**2),
        "with the control variate": (
            gradient(variance.dsm_controlled, a, x, e, sigma),
            4 * d * lam * a,
        ),
        "antithetic pair": (gradient(variance.dsm_antithetic, a, x, e, sigma),
                            4 * d * (a * lam) ** 2),
        "ISM": (gradient(losses.ism, a, x + sigma * e), 2 * d),
    }  # fmt: skip
    found = []
    for (name, (g, wanted)), known in zip(runs.items(), (66.67, 11.48, 10.99, 6), strict=True):
        assert abs(wanted - known) < 0.0051
        check(f"variance, {name}", expected=wanted, measured=g.var(), within=variance_error(g))
        check("mean", expected=0, measured=g.mean(), within=4.5 * standard_error(g))
        found.append(float(g.var()))
    assert found == sorted(found, reverse=True)


@pytest.mark.claim("C9.22")
def test_the_same_for_a_network(check):
    """At σ = 0.02 the gradient of a network is little but h."""
    net, sigma, n = small_net(), 0.02, 4000
    x, e = PLANE.sample(n, generator=generator(22)).double(), normals(n, 2, seed=23)
    raw, controlled, pair = (
        variance.per_sample_gradients(net, loss, x, e, sigma)
        for loss in (losses.dsm, variance.dsm_controlled, variance.dsm_antithetic)
    )
    rows = [variance.per_sample_gradients(net, lambda s, u, i=i: s(u)[:, i], x) for i in range(2)]
    h = sum(row * e[:, i : i + 1] for i, row in enumerate(rows)) / sigma
    check("g − h − controlled gradient, largest over the largest g", expected=0, within=1e-12,
          measured=(raw - h - controlled).abs().max() / raw.abs().max())  # fmt: skip
    least = variance.total_variance(raw) / variance.total_variance(controlled)
    assert least > 100 and variance.total_variance(raw) > 100 * variance.total_variance(pair)


@pytest.mark.claim("C9.30")
@pytest.mark.parametrize(("d", "lam", "sigma", "u"), SETTINGS)
def test_the_best_coefficient_by_simulation(check, d, lam, sigma, u):
    tau2, n = lam + sigma**2, 200_000
    a = u / tau2
    x, e = lam**0.5 * normals(n, d, seed=24), normals(n, d, seed=25)
    g, h = gradient(losses.dsm, a, x, e, sigma), control(x, e, sigma)
    best = 1 - 2 * a * sigma**2
    least = 2 * d * ((a * lam) ** 2 + (1 - a * sigma**2) ** 2)
    name = f"d = {d}, λ = {lam}, σ = {sigma}, u = {u}"
    error = 4.5 * float((((g - best * h) - (g - best * h).mean()) * h).std() / n**0.5 / h.var())
    check(f"β*, {name}", expected=best, within=error,
          measured=variance.optimal_coefficient(g[:, None], h[:, None]))  # fmt: skip
    shifted = variance.optimal_coefficient(g[:, None], h[:, None] + 50)
    check("the same with h + 50, whose mean is known just as well", expected=best, within=error,
          measured=shifted)  # fmt: skip
    for what, beta, wanted in (
        ("β*", best, least),
        ("1", 1.0, 2 * d * (u - 1) ** 2 + 4 * a * d * lam),
        ("0", 0.0, 2 * d * (u - 1) ** 2 + d * lam / sigma**2),
    ):
        loss = lambda *b, beta=beta: variance.dsm_controlled(*b, beta=beta)  # noqa: E731
        corrected = gradient(loss, a, x, e, sigma)
        check(f"g − βh − gradient of the corrected loss, β = {what}", expected=0, within=1e-9,
              measured=(g - beta * h - corrected).abs().max())  # fmt: skip
        check("its variance", expected=wanted, measured=variance.total_variance(corrected[:, None]),
              within=variance_error(corrected))  # fmt: skip
        check("its mean", expected=d * (u - 1), measured=corrected.mean(),
              within=4.5 * standard_error(corrected))  # fmt: skip


@pytest.mark.claim("C9.30")
@pytest.mark.parametrize("sigma", [0.3, 0.01])
def test_the_best_coefficient_exactly(check, sigma):
    d, lam, u = 2, 0.5, 0.8
    a = u / (lam + sigma**2)
    x, e, weight = exact_pairs(d, lam)
    g, h = gradient(losses.dsm, a, x, e, sigma), control(x, e, sigma)
    of_h = moments(h, weight)
    check(f"mean of h, σ = {sigma}", expected=0, measured=of_h[0], within=1e-9)
    best = float((weight * (g - weight @ g) * h).sum() / of_h[1])
    check("β*", expected=1 - 2 * a * sigma**2, measured=best, within=1e-9)
    wanted = 2 * d * ((a * lam) ** 2 + (1 - a * sigma**2) ** 2)
    for what, beta, wide in (("β*", best, wanted),
                             ("1", 1.0, 2 * d * (u - 1) ** 2 + 4 * a * d * lam)):  # fmt: skip
        loss = lambda *b, beta=beta: variance.dsm_controlled(*b, beta=beta)  # noqa: E731
        spread = moments(gradient(loss, a, x, e, sigma), weight)[1]
        check(f"variance with β = {what}", expected=wide, measured=spread, within=1e-7)
    at_best = gradient(variance.dsm_controlled, 1 / (lam + 1e-8), x, e, 1e-4)
    check("at the optimum, σ = 0.0001", expected=4 * d, measured=moments(at_best, weight)[1],
          within=1e-5)  # fmt: skip


@pytest.mark.claim("C9.31")
def test_the_corrected_loss_is_a_forward_difference(check):
    net = ScoreMLP(2, generator=generator(26)).double()
    x, e = PLANE.sample(300, generator=generator(27)).double(), normals(300, 2, seed=28)
    with torch.no_grad():
        for sigma in (0.5, 0.01):
            here, there = net(x), net(x + sigma * e)
            taken = losses.dsm(net, x, e, sigma) - (e**2).sum(1) / (2 * sigma**2)
            taken = taken - (here * e).sum(1) / sigma
            package = variance.dsm_controlled(net, x, e, sigma)
            check(f"loss less controls − corrected loss, σ = {sigma}", expected=0, within=1e-9,
                  measured=(taken - package).abs().max())  # fmt: skip
            by_hand = (there**2).sum(1) / 2 + ((there - here) * e).sum(1) / sigma
            check("½‖s(x̃)‖² + (s(x̃) − s(x))ᵀε/σ − the same", expected=0, within=1e-10,
                  measured=(by_hand - package).abs().max())  # fmt: skip


@pytest.mark.claim("C9.31")
@pytest.mark.parametrize("beta", [0.0, 0.7, 1.0, 2.0])
def test_the_corrected_loss_has_the_right_mean(check, beta):
    for name, s in MODELS.items():
        corrected = expected(lambda *b: variance.dsm_controlled(*b, beta=beta), s, P)
        by_hand = expected(losses.dsm, s, P) - 1 / (2 * P.sigma**2)
        check(f"mean with β = {beta}, {name}", expected=by_hand, measured=corrected, within=1e-8)


@pytest.mark.claim("C9.31")
def test_it_tends_to_sliced_score_matching(check):
    s = MODELS["tanh(1.1 x) − 0.8 x"]
    x, e = normals(2, 20_000, 1, seed=29)
    sliced = losses.ssm_vr(s, x, e)
    off = [
        float(((variance.dsm_controlled(s, x, e, sigma) - sliced) ** 2).mean()) ** 0.5
        for sigma in (1e-2, 1e-3, 1e-4)
    ]
    for i, sigma in enumerate((0.001, 0.0001)):
        check(f"rms difference to SSM-VR at 10σ over that at σ = {sigma:g}", expected=10,
              measured=off[i] / off[i + 1], within=10 * 5 * 10 * sigma)  # fmt: skip
    assert 0.005 < off[0] < 0.05


@pytest.mark.claim("C9.32")
@pytest.mark.parametrize("sigma", [0.01, 0.001])
def test_ten_thousand_and_one(check, sigma):
    x, e, weight = exact_pairs(2, 1.0)
    score = lambda u: -u  # noqa: E731
    raw = losses.dsm(score, x, e, sigma)
    corrected = variance.dsm_controlled(score, x, e, sigma)
    size, small = 1 / sigma**2 - 1 + sigma**2, (5 - 2 * sigma**2 + sigma**4) ** 0.5
    for name, values, mean, std in (
        ("denoising loss", raw, size, size),
        ("corrected loss", corrected, -1 + sigma**2, small),
    ):
        found = moments(values, weight)
        check(f"mean {name}, σ = {sigma}", expected=mean, measured=found[0],
              within=1e-9 * abs(mean))  # fmt: skip
        check("standard deviation", expected=std, measured=found[1] ** 0.5, within=1e-9 * std)
    assert sigma < 0.01 or (abs(size - 9999.0001) < 1e-8 and abs(small - 2.23602) < 5e-6)


@pytest.mark.claim("C9.32")
def test_ten_thousand_and_one_by_simulation(check):
    n = 200_000
    x, e = normals(n, 2, seed=30), normals(n, 2, seed=31)
    for name, loss, mean, std in (
        ("denoising loss", losses.dsm, 9999.0001, 9999.0001),
        ("corrected loss", variance.dsm_controlled, -0.9999, 2.23602),
    ):
        values = loss(lambda u: -u, x, e, 0.01)
        check(f"mean {name}, {n:,} pairs", expected=mean, measured=values.mean(),
              within=4.5 * standard_error(values))  # fmt: skip
        check("standard deviation", expected=std, measured=values.std(),
              within=variance_error(values) / (2 * std))  # fmt: skip


@pytest.mark.claim("C9.33")
@pytest.mark.parametrize(("lam", "sigma"), [(0.1, 0.3), (0.27, 0.3), (1.0, 0.3), (0.05, 0.5)])
def test_the_control_variate_can_hurt(check, lam, sigma):
    d, tau2 = 2, lam + sigma**2
    x, e, weight = exact_pairs(d, lam)
    for u in (1.0, 0.6, 1.7):
        a = u / tau2
        raw = moments(gradient(losses.dsm, a, x, e, sigma), weight)[1]
        with_it = moments(gradient(variance.dsm_controlled, a, x, e, sigma), weight)[1]
        if u == 1:
            check(f"variance with β = 1 over that without, λ = {lam}, σ = {sigma}",
                  expected=4 * sigma**2 / tau2, measured=with_it / raw, within=1e-9)  # fmt: skip
        if abs(4 * a * sigma**2 - 1) > 1e-9:
            assert (with_it > raw) == (4 * a * sigma**2 > 1)
        else:
            assert abs(with_it / raw - 1) < 1e-9
        best = lambda *b, beta=1 - 2 * a * sigma**2: variance.dsm_controlled(*b, beta=beta)  # noqa: E731
        least = moments(gradient(best, a, x, e, sigma), weight)[1]
        gain = d * lam / sigma**2 * (1 - 2 * a * sigma**2) ** 2
        check(f"what β* takes away, u = {u}", expected=gain, measured=raw - least, within=1e-8)
        assert least <= raw + 1e-9


# Antithetic pairs and redraws


@pytest.mark.claim("C9.29")
@pytest.mark.parametrize(("n_draws", "n"), [(1, 200_000), (4, 60_000), (16, 30_000), (64, 20_000)])
def test_redraws_of_the_noise(check, n_draws, n):
    d, lam, sigma, u = 2, 0.5, 0.3, 1.0
    a = u / (lam + sigma**2)
    x = lam**0.5 * normals(n, d, seed=32)
    e = normals(n * n_draws, d, seed=33)
    g = gradient(losses.dsm, a, x.repeat_interleave(n_draws, 0), e, sigma)
    mean = g.reshape(n, n_draws).mean(1)
    between, one_draw = 2 * d * (a * lam) ** 2, 2 * d * (u - 1) ** 2 + d * lam / sigma**2
    wanted = between + (one_draw - between) / n_draws
    check(f"variance, {n_draws} draws of the noise per clean point", expected=wanted,
          measured=mean.var(), within=variance_error(mean))  # fmt: skip
    assert between > 1 and 2 * d * (u - 1) ** 2 == 0


@pytest.mark.claim("C9.29")
@pytest.mark.parametrize("u", [0.8, 1.0, 1.3])
def test_what_redraws_cannot_remove(check, u):
    """The mean over all noises, by an exact sum for each of the clean nodes."""
    d, lam, sigma = 2, 0.5, 0.3
    a = u / (lam + sigma**2)
    nodes, weight = hermite(2)
    many = len(nodes)
    x, e = lam**0.5 * nodes.repeat_interleave(many, 0), nodes.repeat(many, 1)
    g = gradient(losses.dsm, a, x, e, sigma).reshape(many, many)
    means = g @ weight
    left = moments(means, weight)[1]
    check(f"variance of E[g | x], u = {u}", expected=2 * d * (a * lam) ** 2, measured=left,
          within=1e-9)  # fmt: skip
    inner = weight @ ((g - means[:, None]) ** 2 @ weight)
    whole = 2 * d * (u - 1) ** 2 + d * lam / sigma**2
    check("variance of g − that", expected=whole - 2 * d * (a * lam) ** 2, measured=inner,
          within=1e-8)  # fmt: skip
    assert left > 2 * d * (u - 1) ** 2 + 0.1


@pytest.mark.claim("C9.34")
def test_a_pair_has_no_odd_terms(check):
    net = ScoreMLP(2, generator=generator(34)).double()
    x, e = PLANE.sample(300, generator=generator(35)).double(), normals(300, 2, seed=36)
    with torch.no_grad():
        for sigma in (0.5, 0.01):
            pair = variance.dsm_antithetic(net, x, e, sigma)
            mean = (losses.dsm(net, x, e, sigma) + losses.dsm(net, x, -e, sigma)) / 2
            mean = mean - (e**2).sum(1) / (2 * sigma**2)
            check(f"mean loss of ±ε − the pair's, σ = {sigma}", expected=0, within=1e-9,
                  measured=(mean - pair).abs().max())  # fmt: skip
            again = variance.dsm_antithetic(net, x, -e, sigma)
            check("the pair at ε − at −ε", expected=0, within=1e-12,
                  measured=(pair - again).abs().max())  # fmt: skip
            sides = [(net(x + k * sigma * e) ** 2).sum(1) for k in (1, 0, -1)]
            sliced = losses.ssm_fd(net, x, e, sigma) - sides[1] / 2 + (sides[0] + sides[2]) / 4
            check("the pair's − that of SSM-FD with the square at the noisy points", expected=0,
                  within=1e-10, measured=(sliced - pair).abs().max())  # fmt: skip
    for name, s in MODELS.items():
        by_hand = expected(losses.dsm, s, P) - 1 / (2 * P.sigma**2)
        check(f"mean of the pair, {name}", expected=by_hand, within=1e-8,
              measured=expected(variance.dsm_antithetic, s, P))  # fmt: skip


@pytest.mark.claim("C9.34")
@pytest.mark.parametrize(("lam", "sigma", "u"), [(2.0, 0.5, 1.3), (0.5, 0.3, 0.8), (0.1, 0.3, 1.0)])
def test_a_pair_of_a_linear_score_is_the_best_control(check, lam, sigma, u):
    a, d = u / (lam + sigma**2), 2
    x, e, weight = exact_pairs(d, lam)
    pair = gradient(variance.dsm_antithetic, a, x, e, sigma)
    g = gradient(losses.dsm, a, x, e, sigma)
    best = g - (1 - 2 * a * sigma**2) * control(x, e, sigma)
    name = f"λ = {lam}, σ = {sigma}, u = {u}"
    check(f"pair − (g − β*h), largest, {name}", expected=0, within=1e-9,
          measured=(pair - best).abs().max())  # fmt: skip
    wanted = 2 * d * ((a * lam) ** 2 + (1 - a * sigma**2) ** 2)
    check("its variance", expected=wanted, measured=moments(pair, weight)[1], within=1e-9)
    calls = []

    def counted(y):
        calls.append(len(y))
        return -a * y

    for loss in (variance.dsm_antithetic, variance.dsm_controlled):
        calls.clear()
        loss(counted, x, e, sigma)
        assert sum(calls) == 2 * len(x)


# Training with it and without


def trained(loss, n_steps, seed):
    """Explicit loss against the score of p_σ after training on the two modes at σ = 0.01."""
    p, sigma, rng = two_modes(), 0.01, generator(seed)
    net = ScoreMLP(2, generator=rng)

    def noisy(net, x):
        return loss(net, x, torch.randn(x.shape, generator=rng), sigma)

    training.fit(net, noisy, training.draws(p, 128, generator=rng), n_steps=n_steps)
    smooth = p.smoothed(sigma)
    x = smooth.sample(4000, generator=generator(99))
    with torch.no_grad():
        return float(fisher_divergence(net(x), smooth.score(x)))


@pytest.mark.claim("C9.35")
def test_a_tenth_of_the_steps_is_enough(check):
    controlled = [trained(variance.dsm_controlled, 200, seed) for seed in range(3)]
    plain = [trained(losses.dsm, 2000, seed) for seed in range(3)]
    ahead = sum(a < b for a, b in zip(controlled, plain, strict=True))
    check("seeds of three with less after 200 steps than plain after 2,000", expected=3,
          measured=ahead)  # fmt: skip
    check("explicit loss after 200 steps with the control variate, mean", expected=0.1,
          measured=np.mean(controlled), within=0.1)  # fmt: skip
    check("after 2,000 without", expected=1.0, measured=np.mean(plain), within=0.4)
    assert max(controlled) < min(plain) / 2


# What a learned schedule can do


SCHEDULES = {  # u in (0, 1) → log σ² between −6 and 4
    "evenly": lambda u: -6 + 10 * u,
    "u²": lambda u: -6 + 10 * u**2,
    "u⁴": lambda u: -6 + 10 * u**4,
}


def level_loss(at):
    """E(ε − ε̂)² of ε̂ = x̃/2√(1 + σ²) on N(0, 1), at log σ² = `at`."""
    return 1.25 - np.exp(at / 2) / np.sqrt(1 + np.exp(at))


@cache
def in_proportion():
    """The schedule that draws levels in proportion to their loss, as a table."""
    at = np.linspace(-6, 4, 20_001)
    steps = (level_loss(at[1:]) + level_loss(at[:-1])) / 2 * (at[1] - at[0])
    return at, np.r_[0, np.cumsum(steps)]


def drawn(name, u):
    """Levels and the weights d(log σ²)/du of a schedule."""
    if name == "in proportion":
        at, share = in_proportion()
        level = np.interp(u * share[-1], share, at)
        return level, share[-1] / level_loss(level)
    power = {"evenly": 1, "u²": 2, "u⁴": 4}[name]
    return SCHEDULES[name](u), 10 * power * u ** (power - 1)


@pytest.mark.claim("C9.23")
@pytest.mark.parametrize("name", [*SCHEDULES, "in proportion"])
def test_a_schedule_changes_the_variance_and_not_the_mean(check, name):
    n = 300_000
    u = torch.rand(n, generator=generator(37), dtype=torch.float64).numpy()
    level, weight = drawn(name, u)
    sigma = exactly(np.exp(level / 2))
    x, e = normals(n, 1, seed=38), normals(n, 1, seed=39)

    def score(x_noisy, sigma):
        return -0.5 * x_noisy / (sigma * (1 + sigma**2).sqrt())[:, None]

    values = 2 * losses.ncsn(score, x, e, sigma) * exactly(weight)
    whole = quad(level_loss, -6, 4)[0]
    second = quad(lambda v: 3 * (drawn(name, v)[1] * level_loss(drawn(name, v)[0])) ** 2, 0, 1,
                  limit=200)[0]  # fmt: skip
    check(f"mean, levels {name}", expected=whole, measured=values.mean(),
          within=4.5 * standard_error(values))  # fmt: skip
    check("variance per draw", expected=second - whole**2, measured=values.var(),
          within=variance_error(values))  # fmt: skip
    known = {"evenly": 140.13, "u²": 134.86, "u⁴": 226.05, "in proportion": 103.80}[name]
    assert abs(second - whole**2 - known) < 0.01 and abs(whole - 7.2041) < 1e-4


@pytest.mark.claim("C9.23")
def test_the_gap_at_a_level_knows_no_schedule(check):
    """The least loss at σ near ½, among levels that two schedules drew."""
    gap = variance.conditional_gap(gaussian(1.0, dim=1).smoothed(0.5).score, tensor(0.3), 0.5)
    check("gap of N(0, 1) at σ = 0.5", expected=3.2, measured=gap, within=1e-10)
    n = 2_000_000
    u = torch.rand(n, generator=generator(40), dtype=torch.float64).numpy()
    for name in ("evenly", "u⁴"):
        level = drawn(name, u)[0]
        near = exactly(np.exp(level[np.abs(level - 2 * np.log(0.5)) < 0.02] / 2))
        x, e = normals(len(near), 1, seed=41), normals(len(near), 1, seed=42)
        score = lambda y, s=near: -y / (1 + s**2)[:, None]  # noqa: E731
        values = 2 * losses.dsm(score, x, e, near)
        known = (1 / (near**2 * (1 + near**2))).mean()
        assert abs(known - 3.2) < 0.02
        check(f"twice the least denoising loss there, levels {name}", expected=known,
              measured=values.mean(), within=4.5 * standard_error(values))  # fmt: skip
