"""Chapter 7, pitfalls and annealing: each test proves a claim by measuring it another way.

Chains on the two modes are held against their own exact law. Across the diagonal it is Gaussian;
along the diagonal it is propagated step by step on a grid, here, in numpy.
"""

import numpy as np
import pytest
import torch
from exact import normals
from scipy.integrate import dblquad, quad
from scipy.linalg import solve_banded
from scipy.optimize import brentq, minimize_scalar
from scipy.spatial.distance import cdist
from scipy.stats import chi, chi2, ncx2, norm

from sbm_lite import experiments, losses
from sbm_lite.data import digits
from sbm_lite.densities import Density, GaussianMixture, gaussian, kernel_density, two_modes
from sbm_lite.diagnostics import standard_error
from sbm_lite.networks import sinusoidal
from sbm_lite.noise import Gaussian, geometric_sigmas
from sbm_lite.runtime import generator
from sbm_lite.samplers import annealed_langevin, langevin, langevin_path, langevin_step

M = 50**0.5  # the modes stand at ±M on the diagonal
WIDE = np.geomspace(20, 1, 10)  # the ladder of the published toy
UNIT = np.geomspace(1, 0.01, 10)
CENTRES = np.array([[-5.0, -5.0], [5.0, 5.0]])
WEIGHTS, MEANS, VARIANCES = np.array([[0.3, 0.7], [-1.5, 1.0], [0.5, 0.3]])


def even_start(n, seed):
    """n points uniform on [−8, 8]², as published."""
    return 16 * torch.rand(n, 2, generator=generator(seed)) - 8


def modes(std, weight=0.8):
    """The two modes with another standard deviation, or another weight."""
    return GaussianMixture.isotropic([1 - weight, weight], CENTRES, float(std))


def along(x):
    """The coordinate along the diagonal, in which the modes stand at ±M."""
    return x.sum(1) / 2**0.5


def share_error(share, n):
    """4.5 standard errors of a share of n independent points."""
    return 4.5 * (share * (1 - share) / n) ** 0.5


def variance_error(variance, n):
    """4.5 standard errors of a Gaussian variance estimated from n independent draws."""
    return 4.5 * variance * (2 / n) ** 0.5


def density(u, std=1.0, weight=0.8, m=M):
    """The two modes along the diagonal."""
    return weight * norm.pdf(u, m, std) + (1 - weight) * norm.pdf(u, -m, std)


def slope(u, std=1.0, weight=0.8, m=M):
    """(log density)', by hand: r is the responsibility of the right mode."""
    r = 1 / (1 + (1 - weight) / weight * np.exp(-np.clip(2 * m * u / std**2, -700, 700)))
    return ((2 * r - 1) * m - u) / std**2


def mixture_score(x):
    """The score of the two modes in the plane, by hand."""
    r = 1 / (1 + np.exp(-np.clip(10 * x.sum(1) + np.log(4), -700, 700)))
    return 5 * (2 * r[:, None] - 1) - x


def crossing_time(std=1.0, weight=0.8, m=M):
    """Mean time of dX = ½ s dt + dW from the right mode to the left, as a double integral."""

    def inner(y):
        tail = weight * norm.sf(y, m, std) + (1 - weight) * norm.sf(y, -m, std)
        return tail / density(y, std, weight, m)

    return 2 * quad(inner, -m, m, limit=500, points=[0])[0]


def crossing_time_on_a_grid(std, weight, h=2e-3):
    """The same from ½T″ + ½sT′ = −1, T = 0 at the left mode, solved by finite differences."""
    y = np.arange(-M, M + 9 * std, h)
    between = density(np.append(y - h / 2, y[-1] + h / 2), std, weight)
    down, up = (part / density(y, std, weight) / (2 * h**2) for part in (between[:-1], between[1:]))
    up[0], up[-1] = 0, 0
    bands = np.array([np.roll(up, 1), -(up + down), np.roll(down, -1)])
    bands[1, 0] = 1
    right = -np.ones(len(y))
    right[0] = 0
    return np.interp(M, y, solve_banded((1, 1), bands, right))


def chain_law(levels, weight=0.8):
    """The law of x along the diagonal after each (std, η, steps) from the even start: (u, p) each.

    Each step is a matrix of Gaussian kernels, on a grid four times finer than the noise.
    """
    u = np.linspace(-8 * 2**0.5, 8 * 2**0.5, 4001)
    p, wide = (16 - np.abs(u) * 2**0.5) * 2**0.5 / 256, 1.0
    for std, eta, n_steps in levels:
        h, reach = eta**0.5 / 4, 12 + 8 * max(wide, std)
        new = np.arange(-int(reach / h), int(reach / h) + 1) * h
        for old, times in ((u, 1), (new, n_steps - 1)):
            step = norm.pdf(new[:, None], old + eta / 2 * slope(old, std, weight), eta**0.5)
            step *= old[1] - old[0]
            for _ in range(times):
                p = step @ p
        u, wide = new, std
        yield u, p


def share(u, p):
    """The weight of the right mode under the law p on the grid u."""
    return (p[u > 0].sum() + p[u == 0].sum() / 2) * (u[1] - u[0])


def published(n_steps, ladder=WIDE):
    """The levels of figure 3: η_i = 0.1 σ_i²/σ_L²."""
    return [(s, 0.1 * (s / ladder[-1]) ** 2, n_steps) for s in ladder]


N = 100_000


@pytest.fixture(scope="module")
def plain():
    """100,000 chains of 1,000 plain Langevin steps of η = 0.1 on the two modes."""
    start = even_start(N, 1)
    return langevin(two_modes().score, start, step_size=0.1, n_steps=1000, generator=generator(2))


@pytest.fixture(scope="module")
def annealed():
    """100,000 annealed chains with the published settings, as they stand after each level."""
    laws = {sigma: modes(sigma) for sigma in WIDE}
    entered = {}

    def score(x, sigma):
        at = WIDE[np.abs(WIDE - float(sigma)).argmin()]
        entered.setdefault(at, x.clone())
        return laws[at].score(x)

    ladder = torch.as_tensor(WIDE)
    options = dict(step_size=0.1, n_steps=100, generator=generator(3))
    end = annealed_langevin(score, even_start(N, 4), ladder, **options)
    return [*list(entered.values())[1:], end]


# 1 · Data on a thin sheet


@pytest.mark.claim("C7.01")
def test_the_digits_fill_few_of_their_directions(check):
    x = digits().double().numpy()
    still = (x == x[0]).all(0).sum()
    check("pixels that are the same in all 1,797 digits", expected=3, measured=still)
    singular = np.linalg.svd(x - x.mean(0), compute_uv=False) ** 2
    check("directions of 64 with any spread", expected=61, measured=(singular > 1e-9).sum())
    dice = np.random.default_rng(5)
    shuffled = np.stack([dice.permutation(pixel) for pixel in x.T], 1)

    def dimension(points):
        """1/mean log(second nearest/nearest): Facco et al. (2017)."""
        near = np.sort(cdist(points, points), 1)[:, 1:3]
        return 1 / np.log(near[:, 1] / near[:, 0]).mean()

    error = 4.5 / 1797**0.5
    check("dimension by two nearest neighbours", expected=9, measured=dimension(x),
          within=9 * error)  # fmt: skip
    assert dimension(shuffled) > 20, "the pixels, each shuffled among the digits, have no sheet"
    plane = dice.standard_normal((1797, 2)) @ dice.standard_normal((2, 64))
    check("the same for a plane in 64 dimensions", expected=2, measured=dimension(plane),
          within=2 * error)  # fmt: skip


@pytest.mark.claim("C7.02")
def test_the_normal_part_of_the_score_has_no_limit(check):
    """A line in the plane, as 4,000 quantiles of N(0, 1), under less and less noise."""
    line = torch.zeros(4000, 2).double()
    line[:, 0] = torch.as_tensor(norm.ppf((np.arange(4000) + 0.5) / 4000))
    at = torch.tensor([[0.7, 0.2], [0.7, 0.0]], dtype=torch.float64)
    peaks = []
    for sigma in (0.3, 0.1, 0.03):
        law = kernel_density(line, sigma)
        along_, across = law.score(at)[0]
        check(f"normal part at height 0.2, σ = {sigma}", expected=-0.2 / sigma**2,
              measured=across, within=1e-9)  # fmt: skip
        check("tangential part", expected=-0.7 / (1 + sigma**2), measured=along_, within=0.005)
        peaks.append(law.log_prob(at))
    (off_wide, on_wide), (off_thin, on_thin) = peaks[0], peaks[-1]
    assert off_thin < off_wide - 15, "off the line the density goes to zero"
    exact = np.log(10 * norm.pdf(0.7, 0, 1.0009**0.5) / norm.pdf(0.7, 0, 1.09**0.5))
    check("growth of log p_σ on the line, σ = 0.3 to 0.03", expected=exact,
          measured=on_thin - on_wide, within=0.005)  # fmt: skip


def sheet(n, sigma, seed):
    """N(0, 1) × {0} in the plane, under noise of `sigma` across it."""
    return normals(n, 2, seed=seed) * torch.tensor([1.0, sigma]).double()


def steep(k):
    """s(x) = (−x₁, −k x₂)."""
    return lambda x: torch.stack([-x[:, 0], -k * x[:, 1]], 1)


def descend(x, loss, rate, n_steps):
    """k after gradient descent of the mean loss of `steep(k)` from k = 1."""
    k = torch.ones((), dtype=torch.float64, requires_grad=True)
    for _ in range(n_steps):
        (gradient,) = torch.autograd.grad(loss(steep(k), x).mean(), k)
        k = (k - rate * gradient).detach().requires_grad_()
    return float(k.detach())


def signs(x):
    return losses.slices(x, generator=generator(6))


@pytest.mark.claim("C7.03")
def test_on_a_line_the_loss_has_no_least_value(check):
    x = sheet(50_000, 0.0, 7)
    for k in (1.0, 10.0, 1000.0):
        values = losses.ism(steep(k), x)
        check(f"J of (−x₁, −k x₂), k = {k:g}", expected=-0.5 - k, measured=values.mean(),
              within=4.5 * standard_error(values))  # fmt: skip
    end = descend(x[:1000], losses.ism, 1.0, 200)
    check("k after 200 steps of descent at rate 1", expected=201, measured=end, within=1e-9)


@pytest.mark.claim("C7.04")
def test_with_noise_the_least_value_is_finite(check):
    """Noise of variance 10⁻⁴; sliced as in the experiment (signs make the slice exact here)."""
    n = 200_000
    x = sheet(n, 0.01, 8)
    end = descend(x, lambda s, x: losses.ssm_vr(s, x, signs(x)), 5e3, 20)
    within = 1e4 * 4.5 * (2 / n) ** 0.5
    check("best k, noise of variance 10⁻⁴", expected=1e4, measured=end, within=within)
    for k, least in ((1e4, -5000.5), (2e4, -0.5), (5e3, -3750.5)):
        values = losses.ssm_vr(steep(k), x, signs(x))
        check(f"J at k = {k:g}", expected=least, measured=values.mean(),
              within=4.5 * standard_error(values))  # fmt: skip


@pytest.mark.claim("C7.04")
def test_the_constant_pixels_of_the_digits_do_the_same(check):
    clean = digits().double()
    still = (clean == clean[0]).all(0)

    def pull(k):
        return lambda x: -k * (x - clean[0]) * still

    raw = losses.ssm_vr(pull(1e5), clean, signs(clean)).mean()
    check("J of the raw digits, k = 10⁵", expected=-3e5, measured=raw, within=1e-6)
    noisy = clean.repeat(20, 1) + 0.01 * normals(20 * 1797, 64, seed=9)
    for k, least in ((1e4, -15_000.0), (1e5, 1.2e6)):
        values = losses.ssm_vr(pull(k), noisy, signs(noisy))
        check(f"J of the noisy digits, k = {k:g}", expected=least, measured=values.mean(),
              within=4.5 * standard_error(values))  # fmt: skip


@pytest.mark.claim("C7.05")
def test_any_noise_fills_the_plane(check):
    """Three points in the plane: no density at all without noise, one everywhere with it."""
    at = np.array([[0.0, 0.0], [3.0, 1.0], [-2.0, 2.0]])
    far = np.array([[20.0, -20.0], [-8.0, 15.0], [1.0, 0.5]])
    for sigma in (0.5, 2.0):
        law = kernel_density(torch.as_tensor(at), sigma)
        square = cdist(far, at) ** 2 / (2 * sigma**2)
        exact = np.logaddexp.reduce(-square, axis=1) - np.log(3 * 2 * np.pi * sigma**2)
        measured = law.log_prob(torch.as_tensor(far))
        for point, right, found in zip(far, exact, measured, strict=True):
            check(f"log p_σ at {point}, σ = {sigma}", expected=right, measured=found,
                  within=1e-9 * abs(right))  # fmt: skip
    drawn = Gaussian(2.0).sample(torch.as_tensor(at).repeat(100_000, 1), generator=generator(10))
    inside = ((drawn[:, 0] > 6) & (drawn[:, 1] > 4)).double().mean()
    exact = (norm.sf((6 - at[:, 0]) / 2) * norm.sf((4 - at[:, 1]) / 2)).mean()
    check("share of noisy points beyond (6, 4), σ = 2", expected=exact, measured=inside,
          within=share_error(exact, 300_000))  # fmt: skip


# 2 · Where no data ever fall


def hits(std):
    """The share of the two modes, with this std, within 1 of the origin."""
    return ncx2.cdf(1 / std**2, 2, 50 / std**2)


@pytest.mark.claim("C7.07")
def test_hardly_a_draw_falls_between_the_modes(check):
    def ring(angle, r):
        x, y = r * np.cos(angle), r * np.sin(angle)
        p = 0.2 * norm.pdf(x, -5) * norm.pdf(y, -5) + 0.8 * norm.pdf(x, 5) * norm.pdf(y, 5)
        return r * p

    by_quadrature = dblquad(ring, 0, 1, 0, 2 * np.pi, epsabs=1e-16)[0]
    check("P(‖x‖ < 1), times 10¹⁰", expected=2.235, measured=1e10 * by_quadrature, within=0.001)
    check("the same from χ²", expected=by_quadrature, measured=hits(1.0), within=1e-15)
    check("draws there of 1,280,000", expected=2.9e-4, measured=1.28e6 * by_quadrature, within=5e-6)
    exact = ncx2.cdf(4.5**2, 2, 50)
    drawn = two_modes().sample(1_000_000, generator=generator(11))
    check("P(‖x‖ < 4.5)", expected=exact, measured=(drawn.norm(dim=1) < 4.5).double().mean(),
          within=share_error(exact, 1_000_000))  # fmt: skip


@pytest.mark.claim("C7.07")
def test_it_is_the_draws_that_fail_and_not_the_capacity(check):
    """403 random features fitted to exact scores, on draws of p and on even ones."""
    axis = np.linspace(-8, 8, 81)
    grid = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)
    dense = (0.8 * norm.pdf(grid - 5).prod(1) + 0.2 * norm.pdf(grid + 5).prod(1)) > 1e-3
    errors = []
    for seed in range(3):
        dice = np.random.default_rng(seed)
        drawn = two_modes().sample(4000, generator=generator(seed)).double().numpy()
        even = dice.uniform(-8, 8, (4000, 2))
        waves, phases = 0.6 * dice.standard_normal((2, 400)), dice.uniform(0, 2 * np.pi, 400)

        def features(x, waves=waves, phases=phases):
            return np.c_[np.cos(x @ waves + phases), x, np.ones(len(x))]

        for points in (drawn, even):
            a = features(points)
            best = np.linalg.solve(a.T @ a + 1e-3 * np.eye(403), a.T @ mixture_score(points))
            miss = ((features(grid) @ best - mixture_score(grid)) ** 2).sum(1)
            errors.append([miss[dense].mean() ** 0.5, miss[~dense].mean() ** 0.5])
    drawn, even = np.array(errors[::2]), np.array(errors[1::2])
    check("rms error on the modes, draws of p", expected=0.001, measured=drawn[:, 0].mean(),
          within=0.001)  # fmt: skip
    check("elsewhere, draws of p", expected=4, measured=drawn[:, 1].mean(), within=0.5)
    check("on the modes, even draws", expected=0.35, measured=even[:, 0].mean(), within=0.1)
    check("elsewhere, even draws", expected=1.4, measured=even[:, 1].mean(), within=0.1)


def box_errors(score):
    """The mean error of a score inside the boxes |x − μ|∞ ≤ 2 and outside, on [−8, 8]²."""
    axis = np.arange(-8, 8, 0.1) + 0.05
    grid = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)
    with torch.no_grad():
        learned = score(torch.as_tensor(grid, dtype=torch.float32)).double().numpy()
    miss = np.linalg.norm(learned - mixture_score(grid), axis=1)
    inside = (np.abs(grid[:, None] - CENTRES).max(2) <= 2).any(1)
    assert abs(inside.mean() - 2 * 16 / 256) < 1e-9
    return miss[inside].mean(), miss[~inside].mean()


@pytest.fixture(scope="module")
def fitted():
    """The committed network of figure 2."""
    return experiments.pretrained("low_density")


@pytest.mark.claim("C7.06")
@pytest.mark.claim("C7.08")
def test_the_network_is_right_where_it_saw_data(fitted, check):
    inside, outside = box_errors(fitted)
    check("mean error inside the boxes, bound: a tenth of that outside", expected=0,
          measured=inside, within=outside / 10)  # fmt: skip
    nought = box_errors(torch.zeros_like)
    assert inside < nought[0] / 5 and outside > 1, "and not by saying nothing"


@pytest.mark.claim("C7.09")
def test_a_gaussian_draw_is_no_image(check):
    one = quad(norm.pdf, 0, 1)[0]
    check("log₁₀ P(784 normals within [0, 1])", expected=-366, measured=784 * np.log10(one),
          within=0.5)  # fmt: skip
    exact = one**5
    cube = ((normals(400_000, 5, seed=12) - 0.5).abs() < 0.5).all(1).double().mean()
    check("P(5 normals within [0, 1])", expected=exact, measured=cube,
          within=share_error(exact, 400_000))  # fmt: skip
    images = 2 * digits().double().numpy() - 1
    nearest = cdist(normals(2000, 64, seed=13), images).min()
    moved = 0.1 * chi2.isf(1e-9, 64) ** 0.5  # no noisy digit is further than this from its digit
    assert nearest > 5 * moved, "far from whatever a network for σ = 0.1 has seen"


# 3 · Modes that cannot see each other


class Bumps(Density):
    """π p₁ + (1 − π) p₂ on two disjoint intervals: 2 sin²(πx) on [0, 1], 3x²/8 on [4, 6] − 4."""

    dim = 1

    def __init__(self, share):
        self.share = share

    def sample(self, n, *, generator=None):
        raise NotImplementedError

    def log_prob(self, x):
        x = x[:, 0]
        first = torch.where((x > 0) & (x < 1), 2 * torch.sin(torch.pi * x) ** 2, 0 * x)
        second = torch.where((x > 4) & (x < 6), 3 * (x - 4) ** 2 / 8, 0 * x)
        return (self.share * first + (1 - self.share) * second).log()


@pytest.mark.claim("C7.10")
def test_on_disjoint_supports_the_score_does_not_know_the_weights(check):
    at = torch.tensor([[0.2], [0.7], [4.5], [5.5]], dtype=torch.float64)
    exact = torch.tensor(
        [2 * np.pi / np.tan(0.2 * np.pi), 2 * np.pi / np.tan(0.7 * np.pi), 2 / 0.5, 2 / 1.5],
        dtype=torch.float64,
    )
    for weight in (0.05, 0.2, 0.8):
        law = Bumps(weight)
        score = law.score(at)[:, 0]
        gap = (score - exact).abs().max()
        check(f"score − ∇log p_k, π = {weight}", expected=0, measured=gap, within=1e-9)
        u = torch.linspace(0, 6, 60_001, dtype=torch.float64)[:, None]
        check("∫ p", expected=1, measured=law.log_prob(u).exp().sum() * 1e-4, within=1e-4)


@pytest.mark.claim("C7.11")
def test_the_time_to_cross(check):
    left, right = crossing_time(weight=0.8), crossing_time(weight=0.2)
    check("right to left, in 10¹⁰ units of time", expected=16.54, measured=left / 1e10, within=0.01)
    check("left to right", expected=4.136, measured=right / 1e10, within=1e-3)
    check("their ratio, 0.8/0.2", expected=4, measured=left / right, within=1e-3)
    by_grid = crossing_time_on_a_grid(1.0, 0.2)
    check("left to right, by its differential equation", expected=right / 1e10,
          measured=by_grid / 1e10, within=2e-3)  # fmt: skip
    near = crossing_time_on_a_grid(2**0.5, 0.8)
    assert abs(crossing_time(2**0.5) / near - 1) < 1e-4


def steps_to_cross(weight, m, eta, n, seed):
    """The mean number of steps of real chains from m to −m, in one dimension."""
    p = GaussianMixture.isotropic([1 - weight, weight], [[-m], [m]], 1.0)
    x, rng, steps, block = torch.full((n, 1), float(m)), generator(seed), 0.0, 200
    for _ in range(250):
        if not len(x):
            return steps / n
        path = langevin_path(p.score, x, step_size=eta, n_steps=block, generator=rng)[1:, :, 0]
        crossed = path <= -m
        before = crossed.cummax(0).values.logical_not().sum(0)
        done = before < block
        steps += float((before + done).sum())
        x = path[-1, ~done, None]
    raise AssertionError(f"{len(x)} of {n} chains have not crossed")


@pytest.mark.claim("C7.11")
@pytest.mark.parametrize("weight", [0.8, 0.2])
def test_real_chains_take_as_long(check, weight):
    """Modes at ±1.5, where one can wait; a chain looked at every η seems to walk 0.58√η further."""
    eta, n = 0.02, 1500

    def exact(b, m=1.5):
        def inner(y):
            tail = weight * norm.sf(y, m) + (1 - weight) * norm.sf(y, -m)
            return tail / density(y, 1.0, weight, m)

        return 2 * quad(inner, b, m)[0]

    expected = exact(-1.5 - 0.5826 * eta**0.5)
    measured = eta * steps_to_cross(weight, 1.5, eta, n, 14)
    check(f"time to cross, modes at ±1.5, weight of the first {weight}", expected=expected,
          measured=measured, within=4.5 * expected / n**0.5)  # fmt: skip


@pytest.mark.claim("C7.12")
def test_between_modes_the_density_is_tiny_but_positive(check):
    dip = minimize_scalar(lambda u: np.log(density(u)), bounds=(-M, M), method="bounded",
                          options={"xatol": 1e-9})  # fmt: skip
    line = torch.linspace(-5, 5, 20_001).double()[:, None].expand(-1, 2)
    log_p = two_modes().log_prob(line)
    depth = log_p.min() - log_p[0]
    check("log of least density over lower peak", expected=dip.fun - np.log(density(-M)),
          measured=depth, within=1e-4)  # fmt: skip
    check("the ratio, times 10¹¹", expected=5.53, measured=1e11 * depth.exp(), within=0.01)
    assert bool(log_p.isfinite().all())


def moved_by_the_weights(x):
    """The largest change of the score when the weights turn from ⅕, ⅘ to ⅘, ⅕."""
    return float((modes(1, 0.8).score(x) - modes(1, 0.2).score(x)).norm(dim=1).max())


@pytest.mark.claim("C7.12")
def test_only_in_the_gap_do_the_weights_show(check):
    around = 4 * torch.rand(5000, 2, generator=generator(15), dtype=torch.float64) - 2
    boxes = torch.cat([around + 5, around - 5])
    check("change of the score within 2 of a mode", expected=0,
          measured=moved_by_the_weights(boxes), within=1e-10)  # fmt: skip
    # in the middle the responsibility turns from 0.8 to 0.2: by 0.6 · 10√2
    middle = torch.zeros(1, 2).double()
    check("change at the origin", expected=6 * 2**0.5, measured=moved_by_the_weights(middle),
          within=1e-9)  # fmt: skip


def committed(weight):
    """The share of even starts whose way leads to the right mode first, by quadrature."""
    u = np.linspace(-M, M, 20_001)
    scale = np.cumsum(1 / density(u, 1.0, weight))
    s = np.linspace(-8 * 2**0.5, 8 * 2**0.5, 20_001)
    start = (16 - np.abs(s) * 2**0.5) * 2**0.5 / 256
    return (start * np.interp(s, u, scale / scale[-1])).sum() * (s[1] - s[0])


@pytest.mark.claim("C7.13")
def test_langevin_hardly_sees_the_weights(check):
    """Same starts, same noise, weights 0.8 and 0.2: only chains from the gap change their mode."""
    n = 30_000
    right = {}
    for weight in (0.8, 0.2):
        end = langevin(modes(1, weight).score, even_start(n, 16), step_size=0.1, n_steps=300,
                       generator=generator(17))  # fmt: skip
        right[weight] = (end.sum(1) > 0).double()
    change = right[0.8] - right[0.2]
    expected = committed(0.8) - committed(0.2)
    check("change of the share when the weight falls from 0.8 to 0.2", expected=expected,
          measured=change.mean(), within=4.5 * standard_error(change))  # fmt: skip
    assert 0.01 < expected < 0.03


@pytest.mark.claim("C7.17")
def test_langevin_keeps_the_share_of_its_starts(plain, check):
    ((u, p),) = chain_law([(1.0, 0.1, 1000)])
    exact = share(u, p)
    check("share at (5, 5) by its exact law (truth 0.8)", expected=0.509, measured=exact,
          within=5e-4)  # fmt: skip
    check("the same by where the starts lead", expected=committed(0.8), measured=exact, within=2e-4)
    measured = (plain.sum(1) > 0).double().mean()
    check("100,000 chains", expected=exact, measured=measured, within=share_error(exact, N))
    drawn = (two_modes().sample(N, generator=generator(18)).sum(1) > 0).double().mean()
    check("exact draws", expected=0.8, measured=drawn, within=share_error(0.8, N))


@pytest.mark.claim("C7.17")
def test_within_a_mode_it_is_right_up_to_its_step(plain, check):
    """One common standard deviation, √(1/(1 − η/4)) = 1.0127, across and along the diagonal."""
    exact = 1 / (1 - 0.1 / 4)
    across = (plain[:, 0] - plain[:, 1]) / 2**0.5
    check("std within a mode", expected=1.0127, measured=across.std(),
          within=variance_error(exact, N) / 2)  # fmt: skip
    inside = along(plain[plain.sum(1) > 0])
    check("variance along the diagonal, at (5, 5)", expected=exact, measured=inside.var(),
          within=variance_error(exact, len(inside)))  # fmt: skip


@pytest.mark.claim("C7.06")
@pytest.mark.claim("C7.18")
def test_a_fitted_score_and_langevin_miss_the_weights(fitted, check):
    """The whole plain method: the committed network, then 500 Langevin steps from even starts."""
    n = 1000
    with torch.no_grad():
        end = langevin(fitted, even_start(n, 19), step_size=0.1, n_steps=500,
                       generator=generator(20))  # fmt: skip
    found = (end.sum(1) > 0).double().mean()
    missed = abs(float(found) - 0.8) / (share_error(0.8, n) / 4.5)
    check("more than 10 standard errors from 0.8", expected="yes",
          measured="yes" if missed > 10 else "no")  # fmt: skip


# 4 · Noise as a bridge


@pytest.mark.claim("C7.14")
@pytest.mark.parametrize("sigma", [4.0, 10.0])
def test_with_noise_the_middle_is_visited(check, sigma):
    """Draws within 1 of the origin, where there were 3 · 10⁻⁴ of 1,280,000 without noise."""
    rng = generator(21)
    moved = Gaussian(sigma).sample(two_modes().sample(400_000, generator=rng), generator=rng)
    exact = hits((1 + sigma**2) ** 0.5)
    check(f"share of noisy data within 1 of the origin, σ = {sigma:g}", expected=exact,
          measured=(moved.norm(dim=1) < 1).double().mean(),
          within=share_error(exact, 400_000))  # fmt: skip
    assert 1.28e6 * exact > 3000


@pytest.mark.claim("C7.15")
def test_noise_may_raise_or_lower_the_density_at_the_mean(check):
    for mean, before, after in ((5.0, 1.487e-6, 5.446e-4), (0.0, 0.3989, 0.2821)):
        law = GaussianMixture([1.0], [[mean]], [[[1.0]]])
        zero = torch.zeros(1, 1).double()
        by_hand = quad(lambda u, m=mean: norm.pdf(u, m) * norm.pdf(u), -9, 14)[0]
        check(f"N({mean:g}, 1) at 0", expected=before, measured=law.log_prob(zero).exp(),
              within=3e-4 * before)  # fmt: skip
        noisy = law.smoothed(1).log_prob(zero).exp()
        check("with noise", expected=by_hand, measured=noisy, within=1e-8)
        assert abs(by_hand / after - 1) < 3e-4


@pytest.mark.claim("C7.16")
def test_one_level_finds_the_weights_or_the_data_but_not_both(check):
    """One run at σ = 4 and one at σ = 0.5; both follow their own noisy law."""
    n, stds = 10_000, {4.0: 17**0.5, 0.5: 1.25**0.5}
    for sigma, eta, n_steps in ((4.0, 1.7, 1500), (0.5, 0.1, 400)):
        end = langevin(two_modes().smoothed(sigma).score, even_start(n, 22), step_size=eta,
                       n_steps=n_steps, generator=generator(23))  # fmt: skip
        ((u, p),) = chain_law([(stds[sigma], eta, n_steps)])
        right = share(u, p)
        check(f"share beyond the middle, σ = {sigma}", expected=right,
              measured=(end.sum(1) > 0).double().mean(), within=share_error(right, n))  # fmt: skip
        variance = (1 + sigma**2) / (1 - eta / (4 * (1 + sigma**2)))
        across = (end[:, 0] - end[:, 1]) / 2**0.5
        check("variance across the diagonal (of the data: 1)", expected=variance,
              measured=across.var(), within=variance_error(variance, n))  # fmt: skip
        settled = share(u, density(u, stds[sigma]))
        assert (abs(right - settled) < 0.03) == (sigma == 4.0)


@pytest.mark.claim("C7.22")
def test_the_gap_closes_with_noise(check):
    def peaks(std, weight):
        u = np.linspace(-10, 10, 100_000)
        return (np.diff(np.sign(slope(u, std, weight))) < 0).sum()

    def closing(weight):
        return brentq(lambda s: peaks((1 + s**2) ** 0.5, weight) - 1.5, 2, 9, xtol=1e-4)

    check("σ at which one mode is left", expected=4.638, measured=closing(0.8), within=2e-3)
    check("with equal weights, √(50 − 1)", expected=7, measured=closing(0.5), within=2e-3)
    line = torch.linspace(-9, 9, 4001).double()[:, None].expand(-1, 2)
    for sigma, n_modes in ((4.55, 2), (4.75, 1)):
        rising = two_modes().smoothed(sigma).score(line).sum(1) > 0
        found = int((rising[:-1] & ~rising[1:]).sum())
        check(f"modes at σ = {sigma}", expected=n_modes, measured=found)


@pytest.mark.claim("C7.22")
@pytest.mark.parametrize(("sigma", "known"), [(1, 1.807e6), (2, 4573), (4, 876.4), (7, 669.3)])
def test_noise_shortens_the_crossing(check, sigma, known):
    std = (1 + sigma**2) ** 0.5
    check(f"time to cross at σ = {sigma}", expected=known, measured=crossing_time(std),
          within=2e-4 * known)  # fmt: skip
    check("by its differential equation", expected=known,
          measured=crossing_time_on_a_grid(std, 0.8), within=2e-4 * known)  # fmt: skip


@pytest.mark.claim("C7.23")
def test_a_small_last_level_is_near_the_data(check):
    def divergence(p, q):
        return quad(lambda x: p.pdf(x) * (p.logpdf(x) - q.logpdf(x)), -9, 9, epsabs=1e-15)[0]

    found = divergence(norm(0, 1.0001**0.5), norm)
    check("KL(p_σ, p) at σ = 0.01, times 10⁹", expected=2.5, measured=1e9 * found, within=1e-3)
    noisy = gaussian(dim=1).smoothed(0.3)
    x = noisy.sample(200_000, generator=generator(78)).double()
    values = noisy.log_prob(x) - gaussian(dim=1).log_prob(x)
    check("at σ = 0.3, by draws", expected=(0.09 - np.log(1.09)) / 2, measured=values.mean(),
          within=4.5 * standard_error(values))  # fmt: skip
    # across a sheet that gets thinner: ½(r − 1 − log r), r = σ²/thickness²
    grows = [divergence(norm(0, 0.3), norm(0, h)) for h in (0.3, 0.1, 0.03, 0.015)]
    assert grows == sorted(grows)
    check("KL of noise 0.3 and a sheet of thickness 0.015", expected=(400 - 1 - np.log(400)) / 2,
          measured=grows[-1], within=1e-4)  # fmt: skip


def above(law, floor, wide, grid=801):
    """The mass of a law in the plane where `floor` holds, on a grid."""
    axis = torch.linspace(-wide, wide, grid, dtype=torch.float64)
    points = torch.cartesian_prod(axis, axis)
    cell = float(axis[1] - axis[0]) ** 2
    return float((law(points) * floor(points)).sum() * cell)


@pytest.mark.claim("C7.37")
def test_starts_of_the_right_width_are_typical_of_the_first_level(check):
    """Typical: denser than all but 1 % of the level's own draws. The first level: σ = 20."""
    level = modes(20.0)
    own = level.sample(400_000, generator=generator(24)).double()
    floor = level.log_prob(own).quantile(0.01)
    starts = 20 * normals(100_000, 2, seed=25)
    typical = (level.log_prob(starts) > floor).double().mean()

    def at_least(x):
        return (level.log_prob(x) > floor).double()

    exact = above(lambda x: torch.exp(-(x**2).sum(1) / 800) / (800 * np.pi), at_least, 160)
    check("typical of N(0, 20² I)", expected=exact, measured=typical,
          within=share_error(exact, 100_000))  # fmt: skip
    assert exact > 0.99


@pytest.mark.claim("C7.37")
def test_a_high_density_is_not_enough(check):
    """N(0, I) data in 64 dimensions at σ = 20: starts from N(0, I) are denser than any noisy data.

    log p = c − ‖x‖²/802, and ‖x‖² is 401 χ² for noisy data, 400 χ² or χ² for the two starts.
    """
    level, n, d = gaussian(dim=64).smoothed(20.0), 20_000, 64
    peak = -d / 2 * np.log(2 * np.pi * 401)
    z = normals(n, d, seed=26)
    noisy = Gaussian(20.0).sample(normals(n, d, seed=27), generator=generator(28))
    for name, x, factor in (("noisy data", noisy, 401), ("N(0, 400 I)", 20 * z, 400),
                            ("N(0, I)", z, 1)):  # fmt: skip
        values = level.log_prob(x)
        check(f"mean of log p over {name}", expected=peak - factor * d / 802,
              measured=values.mean(), within=4.5 * standard_error(values))  # fmt: skip
    assert level.log_prob(z).min() > level.log_prob(noisy).max()
    typical = chi2.ppf([0.005, 0.995], d) * 401
    for name, x, exact in (("N(0, 400 I)", 20 * z, chi2.cdf(typical[1] / 400, d)
                            - chi2.cdf(typical[0] / 400, d)), ("N(0, I)", z, 0.0)):  # fmt: skip
        inside = x.square().sum(1)
        share_ = ((inside > typical[0]) & (inside < typical[1])).double().mean()
        check(f"share of {name} as long as 99 % of noisy data", expected=exact, measured=share_,
              within=share_error(exact, n))  # fmt: skip


# 5 · A ladder of noise levels


@pytest.mark.claim("C7.20")
@pytest.mark.parametrize(("first", "last", "ratio"), [(1, 0.01, 1.66810), (20, 1, 1.39495)])
def test_the_ladder_is_geometric(check, first, last, ratio):
    ladder = geometric_sigmas(first, last, 10)
    steps = ladder[:-1] / ladder[1:]
    check("the smallest ratio", expected=ratio, measured=steps.min(), within=1e-5)
    check("the largest", expected=(first / last) ** (1 / 9), measured=steps.max(), within=1e-9)
    ends = float(ladder[0]) == pytest.approx(first) and float(ladder[-1]) == pytest.approx(last)
    assert ends and len(ladder) == 10


@pytest.mark.claim("C7.21")
def test_the_noisy_law_is_the_convolution(check):
    sigma, at = 2.0, torch.tensor([[1.0, -2.0], [4.0, 6.5]]).double()

    def clean(x, y):
        return 0.2 * norm.pdf(x + 5) * norm.pdf(y + 5) + 0.8 * norm.pdf(x - 5) * norm.pdf(y - 5)

    axis = np.linspace(-14, 14, 561)
    x, y = np.meshgrid(axis, axis)
    for a, b in at.tolist():
        kernel = norm.pdf(a - x, 0, sigma) * norm.pdf(b - y, 0, sigma)
        by_hand = (clean(x, y) * kernel).sum() * (axis[1] - axis[0]) ** 2
        law = two_modes().smoothed(sigma).log_prob(torch.tensor([[a, b]]).double()).exp()
        check(f"p_σ({a:g}, {b:g}), σ = 2", expected=by_hand, measured=law, within=1e-9)
    rng = generator(28)
    moved = Gaussian(sigma).sample(two_modes().sample(400_000, generator=rng), generator=rng)
    exact = 0.2 * norm.sf(5 / 5**0.5) * norm.sf(8 / 5**0.5)
    exact += 0.8 * norm.sf(-5 / 5**0.5) * norm.sf(-2 / 5**0.5)
    found = ((moved[:, 0] > 0) & (moved[:, 1] > 3)).double().mean()
    check("share of x + σε beyond (0, 3)", expected=exact, measured=found,
          within=share_error(exact, 400_000))  # fmt: skip


@pytest.mark.claim("C7.33")
def test_noise_in_ten_steps_has_the_marginals_of_the_ladder(check):
    """Increments of variance σ_i² − σ_(i−1)² from ±1, by the characteristic function at 1."""
    ladder = np.geomspace(0.1, 3, 10)
    rng = generator(29)
    x = torch.where(torch.rand(200_000, 1, generator=rng).double() < 0.5, -1.0, 1.0).double()
    wrong = x.clone()
    for low, high in zip([0.0, *ladder[:-1]], ladder, strict=True):
        x = Gaussian((high**2 - low**2) ** 0.5).sample(x, generator=rng)
        wrong = Gaussian(high).sample(wrong, generator=rng)
        values = torch.cos(x)[:, 0]
        check(f"E cos x_i, σ_i = {high:.2f}", expected=np.cos(1) * np.exp(-(high**2) / 2),
              measured=values.mean(), within=4.5 * standard_error(values))  # fmt: skip
    check("variance at the end", expected=10, measured=x.var(), within=variance_error(10, 200_000))
    assert wrong.var() > 17, "steps of σ_i itself would add up to more"


@pytest.mark.claim("C7.34")
@pytest.mark.parametrize("sigma", [1.0, 3.0, 20.0])
def test_how_far_the_last_level_is_from_pure_noise(check, sigma):
    """KL(p_σ, N(0, σ²)) for N(0, 1): the package's noisy law against scipy's."""
    noisy, pure = gaussian(dim=1).smoothed(sigma), norm(0, sigma)
    u = np.linspace(-12 * sigma, 12 * sigma, 20_001)
    log_p = noisy.log_prob(torch.as_tensor(u)[:, None]).numpy()
    found = (np.exp(log_p) * (log_p - pure.logpdf(u))).sum() * (u[1] - u[0])
    check(f"KL at σ = {sigma:g}", expected=(sigma**-2 - np.log1p(sigma**-2)) / 2, measured=found,
          within=1e-9)  # fmt: skip
    assert (found < 1e-5) == (sigma == 20.0)


@pytest.mark.claim("C7.34")
def test_a_level_that_mixes_forgets_a_start_of_the_wrong_width(check):
    """N(0, 1) data at σ₁ = 20, 100 steps of 0.1 σ₁² from variance 1; after 5, it remembers."""
    for n_steps, rounded in ((100, 411.24), (5, 165.30)):
        variance, eta = 1.0, 40.0
        for _ in range(n_steps):
            variance = (1 - eta / 2 / 401) ** 2 * variance + eta
        assert abs(variance - rounded) < 0.005
        x = langevin(gaussian(dim=1).smoothed(20.0).score, normals(50_000, 1, seed=30),
                     step_size=eta, n_steps=n_steps, generator=generator(31))  # fmt: skip
        check(f"variance after {n_steps} steps (level: 411.26)", expected=variance,
              measured=x.var(), within=variance_error(variance, 50_000))  # fmt: skip


# 6 · One network for all levels


def noisy_density(x, sigma):
    """0.3 N(−1.5, 0.5) + 0.7 N(1, 0.3) under noise σ, as a plain sum."""
    stds = np.sqrt(VARIANCES + sigma**2)
    return (WEIGHTS * norm.pdf(np.asarray(x)[..., None], MEANS, stds)).sum(-1)


def noisy_score(x, sigma, h=1e-5):
    """Its score by central differences."""
    high, low = (np.log(noisy_density(np.asarray(x) + d, sigma)) for d in (h, -h))
    return (high - low) / (2 * h)


def over_noisy(f, sigma):
    """E f(x̃) over the noisy density."""
    u = np.linspace(-8 - 7 * sigma, 8 + 7 * sigma, 8001)
    return (noisy_density(u, sigma) * f(u)).sum() * (u[1] - u[0])


def over_pairs(f, sigma):
    """E f(x̃, t) over pairs of clean point and noise, t = −ε/σ."""
    x, e = np.meshgrid(np.linspace(-7, 5, 401), np.linspace(-8, 8, 321), indexing="ij")
    weight = noisy_density(x, 0.0) * norm.pdf(e) * 0.03 * 0.05
    return (weight * f(x + sigma * e, -e / sigma)).sum()


LOPSIDED = GaussianMixture(WEIGHTS, MEANS[:, None], VARIANCES[:, None, None])
THREE = (0.3, 1.0, 4.0)


def told(x, sigma):
    """A model that is told its level, and nobody's score."""
    return (np.tanh(1.1 * x) - 0.8 * x) / (0.2 + sigma)


def told_torch(x, sigma):
    sigma = torch.as_tensor(sigma, dtype=torch.float64).reshape(-1, 1)
    return (torch.tanh(1.1 * x) - 0.8 * x) / (0.2 + sigma)


def batch(n, seed, dim=1):
    """Clean points of N(0, I) and noise."""
    x, e = normals(2, n, dim, seed=seed)
    return x, e


def mixed_levels(levels, n, seed):
    """A level for each of n points, drawn evenly."""
    k = torch.randint(len(levels), (n,), generator=generator(seed))
    return torch.as_tensor(np.asarray(levels), dtype=torch.float64)[k]


@pytest.mark.claim("C7.24")
@pytest.mark.claim("C7.36")
@pytest.mark.parametrize("sigma", [0.1, 1.0, 10.0])
def test_the_committed_network_knows_every_level_and_needs_to_be_told_which(check, sigma):
    """½σ²E‖s_θ − s_σ‖², the true score by hand; a silent network would have up to d/2 = 1."""
    net, rng = experiments.pretrained("ncsn_two_modes"), generator(79)
    moved = Gaussian(sigma).sample(two_modes().sample(20_000, generator=rng), generator=rng)
    y, variance = moved.double().numpy(), 1 + sigma**2
    r = 1 / (1 + np.exp(-np.clip(10 * y.sum(1) / variance + np.log(4), -700, 700)))
    truth = (5 * (2 * r[:, None] - 1) - y) / variance

    def error(told_sigma):
        with torch.no_grad():
            learned = net(moved, told_sigma).double().numpy()
        return sigma**2 * ((learned - truth) ** 2).sum(1).mean() / 2

    check(f"weighted error at σ = {sigma}", expected=0, measured=error(sigma), within=0.01)
    assert error(sigma / 2) > 10 * error(sigma), "told another level it answers for that one"


@pytest.mark.claim("C7.25")
@pytest.mark.parametrize("sigma", THREE)
def test_the_loss_of_one_level(check, sigma):
    rng = generator(32)
    x = LOPSIDED.sample(200_000, generator=rng).double()
    e = torch.randn(x.shape, generator=rng).double()
    exact = over_pairs(lambda u, t: (told(u, sigma) - t) ** 2 / 2, sigma)
    values = losses.dsm(lambda u: told_torch(u, sigma), x, e, sigma)
    check(f"ℓ(θ; {sigma})", expected=exact, measured=values.mean(),
          within=4.5 * standard_error(values))  # fmt: skip
    weighted = losses.ncsn(told_torch, x, e, torch.full((len(x),), sigma).double())
    check(f"λℓ, λ = {sigma}²", expected=sigma**2 * exact, measured=weighted.mean(),
          within=4.5 * standard_error(weighted))  # fmt: skip


def newton(loss, n_parameters):
    """The minimiser of a loss quadratic in its parameters, whose gradient is affine."""
    zero, units = torch.zeros(n_parameters).double(), torch.eye(n_parameters).double()
    first = torch.func.grad(loss)(zero)
    curvature = torch.stack([torch.func.grad(loss)(unit) - first for unit in units], 1)
    return torch.linalg.solve(curvature, -first)


@pytest.mark.claim("C7.24")
def test_one_model_told_its_level_is_right_at_each(check):
    """s(x, σ) = −(θ₀ + θ₁ log σ) x on N(0, 1) at σ = 0.5 and 2: each level gets its own slope."""
    n = 200_000
    (x, e), levels = batch(n, 33), mixed_levels((0.5, 2.0), n, 34)

    def loss(theta):
        def s(u, sigma):
            return -(theta[0] + theta[1] * sigma.log()[:, None]) * u

        return losses.ncsn(s, x, e, levels).mean()

    theta = newton(loss, 2)
    for sigma in (0.5, 2.0):
        found = theta[0] + theta[1] * np.log(sigma)
        within = 4.5 * (2 / n) ** 0.5 / sigma / (1 + sigma**2)
        check(f"slope at σ = {sigma}", expected=1 / (1 + sigma**2), measured=found, within=within)


WEIGHTINGS = {"σ²": lambda s: s**2, "1": torch.ones_like, "σ": lambda s: s}


@pytest.mark.claim("C7.26")
@pytest.mark.parametrize("name", list(WEIGHTINGS))
def test_the_weights_matter_only_to_a_model_that_cannot_be_exact(check, name):
    """N(0, 1) at σ = 0.5, 1, 2, one slope per level, then one slope for all of them."""
    n, ladder = 300_000, torch.tensor([0.5, 1.0, 2.0]).double()
    x, e = batch(n, 35)
    k = torch.arange(n) % 3
    levels, weight = ladder[k], WEIGHTINGS[name](ladder)

    def loss(slopes):
        values = losses.dsm(lambda u: -slopes[k, None] * u, x, e, levels)
        return (weight[k] * values).mean()

    slopes = newton(loss, 3)
    spread = (3 / n) ** 0.5 / ladder / (1 + ladder**2)
    for sigma, found, error in zip(ladder, slopes, spread, strict=True):
        check(f"slope at σ = {sigma:g}, λ = {name}", expected=1 / (1 + sigma**2), measured=found,
              within=4.5 * error)  # fmt: skip
    exact = weight.sum() / (weight * (1 + ladder**2)).sum()
    (common,) = newton(lambda a: loss(a.expand(3)), 1)
    low, mid, high = (
        weight[k] * losses.dsm(lambda u, a=exact + d: -a * u, x, e, levels) for d in (-1, 0, 1)
    )  # the loss is a parabola in the slope: its derivative and its curvature, point by point
    within = 4.5 * standard_error((high - low) / 2) / (high - 2 * mid + low).mean()
    check(f"one slope for all, λ = {name}", expected=exact, measured=common, within=within)


def at_the_optimum(x, sigma):
    """The score of N(0, 1) under noise σ."""
    return -x / (1 + torch.as_tensor(sigma).reshape(-1, 1) ** 2)


@pytest.mark.claim("C7.27")
def test_with_the_weight_all_levels_cost_the_same_order(check):
    x, e = batch(200_000, 36)
    for sigma in UNIT:
        level = torch.full((len(x),), sigma).double()
        values = losses.ncsn(at_the_optimum, x, e, level)
        check(f"least weighted loss, σ = {sigma:.3f}", expected=0.5 / (1 + sigma**2),
              measured=values.mean(), within=4.5 * standard_error(values))  # fmt: skip
        plain = losses.dsm(lambda u, s=sigma: at_the_optimum(u, s), x, e, sigma)
        check("without weight", expected=0.5 / sigma**2 / (1 + sigma**2), measured=plain.mean(),
              within=4.5 * standard_error(plain))  # fmt: skip


@pytest.mark.claim("C7.41")
def test_without_a_weight_the_smallest_level_takes_the_loss(check):
    """σ drawn from the ladder 1 … 0.01 for each point, N(0, 1) data, the exact score."""
    n = 400_000
    (x, e), levels = batch(n, 37), mixed_levels(UNIT, n, 38)
    least = levels < 0.011

    def share_of_the_least(loss):
        part = float(loss[least].sum() / loss.sum())
        spread = (loss * (least.double() - part)).std() / n**0.5 / loss.mean()
        return part, 4.5 * float(spread)

    unweighted = losses.dsm(lambda u: at_the_optimum(u, levels), x, e, levels)
    plain, within = share_of_the_least(unweighted)
    costs = 0.5 / UNIT**2 / (1 + UNIT**2)
    check("share of σ = 0.01 in the loss, no weight", expected=costs[-1] / costs.sum(),
          measured=plain, within=within)  # fmt: skip
    assert abs(costs[-1] / costs.sum() - 0.641) < 5e-4
    weighted, within = share_of_the_least(losses.ncsn(at_the_optimum, x, e, levels))
    costs = 0.5 / (1 + UNIT**2)
    check("with λ = σ²", expected=costs[-1] / costs.sum(), measured=weighted, within=within)


@pytest.mark.claim("C7.43")
def test_one_level_per_point_gives_the_mean_over_the_ladder(check):
    n = 400_000
    (x, e), levels = batch(n, 39), mixed_levels(UNIT, n, 40)
    values = losses.ncsn(lambda u, sigma: -0.3 * u, x, e, levels)
    # ½ E(−0.3σ x̃ + ε)² = ½(0.09 σ²(1 + σ²) − 0.6 σ² + 1)
    exact = np.mean(0.045 * UNIT**2 * (1 + UNIT**2) - 0.3 * UNIT**2 + 0.5)
    check("(1/L) Σ λℓ of s(x) = −0.3 x", expected=exact, measured=values.mean(),
          within=4.5 * standard_error(values))  # fmt: skip


def square_of_score(law, n, seed):
    """E‖s‖² under a law, by its own draws."""
    s = law.score(law.sample(n, generator=generator(seed)).double()).square().sum(1)
    return s.mean(), standard_error(s)


@pytest.mark.claim("C7.28")
def test_the_length_of_the_score_depends_on_the_data(check):
    """σ² E‖s_σ‖²/d at σ = 0.01 for three laws, and at σ = 1 by quadrature."""
    sigma = 0.01
    flat = GaussianMixture([1.0], [[0.0, 0.0]], [[[1 + sigma**2, 0.0], [0.0, sigma**2]]])
    points = kernel_density(torch.tensor([[-1.0], [1.0]]), sigma)
    laws = {"N(0, 1)": (gaussian(dim=1).smoothed(sigma), 1, sigma**2 / (1 + sigma**2)),
            "a line in the plane": (flat, 2, (sigma**2 / (1 + sigma**2) + 1) / 2),
            "two points": (points, 1, 1.0)}  # fmt: skip
    for name, (law, d, exact) in laws.items():
        mean, error = square_of_score(law, 200_000, 41)
        check(f"σ²E‖s_σ‖²/d, {name}", expected=exact, measured=sigma**2 * mean / d,
              within=4.5 * sigma**2 * error / d)  # fmt: skip
    wide = kernel_density(torch.tensor([[-1.0], [1.0]]), 1.0)
    spread = quad(lambda u: (norm.pdf(u, -1) + norm.pdf(u, 1)) / 2 / np.cosh(u) ** 2, -12, 12)[0]
    mean, error = square_of_score(wide, 200_000, 42)
    check("two points, σ = 1", expected=1 - spread, measured=mean, within=4.5 * error)
    assert abs(1 - spread - 0.5504) < 1e-4


@pytest.mark.claim("C7.28")
@pytest.mark.parametrize("sigma", [0.01, 1.0, 10.0])
def test_the_length_of_the_target_does_not(check, sigma):
    x = torch.tensor([[-1.0, 0.5, 2.0]]).double().repeat(100_000, 1)
    moved = Gaussian(sigma).sample(x, generator=generator(43))
    square = Gaussian(sigma).target_score(moved, x).square().sum(1)
    check(f"σ²E‖t‖²/d, σ = {sigma:g}", expected=1, measured=sigma**2 * square.mean() / 3,
          within=4.5 * sigma**2 * standard_error(square) / 3)  # fmt: skip


@pytest.mark.claim("C7.29")
@pytest.mark.parametrize("sigma", [0.01, 1.0, 20.0])
def test_in_units_of_sigma_the_noise_has_one_length(check, sigma):
    """‖x̃ − x‖/σ in d = 5, 20 cells of equal probability under the chi law."""
    n, d = 100_000, 5
    rng = generator(44)
    x = 3 * torch.randn(n, d, generator=rng).double()
    length = ((Gaussian(sigma).sample(x, generator=rng) - x) / sigma).norm(dim=1)
    counts = np.histogram(length, [*chi.ppf(np.arange(20) / 20, d), np.inf])[0]
    statistic = ((counts - n / 20) ** 2 / (n / 20)).sum()
    check(f"χ² over 20 cells, σ = {sigma:g}", expected=19, measured=statistic,
          within=4.5 * 38**0.5)  # fmt: skip
    check("mean square", expected=d, measured=length.square().mean(),
          within=4.5 * (2 * d / n) ** 0.5)  # fmt: skip


@pytest.mark.claim("C7.35")
def test_ten_models_one_per_level(check):
    """A slope fitted at each level by itself, N(0, 1) data."""
    n = 50_000
    for i, sigma in enumerate(np.geomspace(0.1, 3, 10)):
        x, e = batch(n, 45 + i)
        (a,) = newton(lambda a, x=x, e=e, s=sigma: losses.dsm(lambda u: -a * u, x, e, s).mean(), 1)
        within = 4.5 / n**0.5 / sigma / (1 + sigma**2)
        check(f"slope of net {i + 1}, σ = {sigma:.2f}", expected=1 / (1 + sigma**2), measured=a,
              within=within)  # fmt: skip


@pytest.mark.claim("C7.36")
def test_the_score_of_the_level_before_is_another(check):
    """The tenth net with the law of x₉ in mind: error E‖s₁₀ − s₉‖² over E‖s₁₀‖²."""
    ninth, tenth = np.geomspace(0.1, 3, 10)[-2:]
    right, wrong = (gaussian(dim=1).smoothed(s) for s in (tenth, ninth))

    def ratio(p, s10, s9):
        u = np.linspace(-40, 40, 20_001)
        return (p(u) * (s10(u) - s9(u)) ** 2).sum() / (p(u) * s10(u) ** 2).sum()

    by_hand = ratio(lambda u: norm.pdf(u, 0, (1 + tenth**2) ** 0.5), lambda u: -u / (1 + tenth**2),
                    lambda u: -u / (1 + ninth**2))  # fmt: skip
    check("relative squared error", expected=0.834, measured=by_hand, within=5e-4)
    x = right.sample(200_000, generator=generator(60)).double()
    a, b = right.score(x), wrong.score(x)
    found = (a - b).square().mean() / a.square().mean()
    check("with the package's scores", expected=by_hand, measured=found, within=1e-9)
    end = langevin(wrong.score, x[:50_000], step_size=0.5, n_steps=60, generator=generator(61))
    variance = (1 + ninth**2) / (1 - 0.5 / (4 * (1 + ninth**2)))
    check("variance it leads to (level 10: 10)", expected=variance, measured=end.var(),
          within=variance_error(variance, 50_000))  # fmt: skip


@pytest.mark.claim("C7.39")
def test_a_step_as_sines_and_cosines(check):
    """⟨e(t), e(t′)⟩ depends on t − t′ alone, and no two of 1,000 steps look alike."""
    t = torch.arange(1, 1001, dtype=torch.float64)
    code = sinusoidal(t, 32)
    inner = code @ code.T
    rates = 10_000.0 ** (-np.arange(16) / 16)
    for apart in (0, 1, 30, 700):
        exact = np.cos(rates * apart).sum()
        worst = (inner.diagonal(apart) - exact).abs().max()
        check(f"⟨e(t), e(t + {apart})⟩ − Σ cos(ω_k · {apart}), largest", expected=0,
              measured=worst, within=1e-9)  # fmt: skip
    inner.fill_diagonal_(0)
    assert inner.max() < 15.6, "of 16 at most"


@pytest.mark.claim("C7.40")
@pytest.mark.parametrize("sigma", THREE)
def test_each_level_is_fitted_by_denoising(check, sigma):
    """The Fisher divergence needs the noisy score; denoising differs from it by a constant."""

    def gap(s):
        explicit = over_noisy(lambda u: (s(u) - noisy_score(u, sigma)) ** 2 / 2, sigma)
        return over_pairs(lambda u, t: (s(u) - t) ** 2 / 2, sigma) - explicit

    first, second = gap(lambda u: told(u, sigma)), gap(lambda u: 0.3 - np.sin(u))
    check(f"J_DSM − J_ESM at σ = {sigma}, two models", expected=first, measured=second, within=1e-5)
    assert first > 1e-3, "and it is not zero"
    rng = generator(62)
    x = LOPSIDED.sample(300_000, generator=rng).double()
    e = torch.randn(x.shape, generator=rng).double()
    exact = LOPSIDED.smoothed(sigma).score
    values = losses.dsm(exact, x, e, sigma)
    check("floor of the package's loss", expected=first, measured=values.mean(),
          within=4.5 * standard_error(values))  # fmt: skip


# 7 · Annealed Langevin dynamics


@pytest.mark.claim("C7.19")
def test_learn_all_levels_then_sample_from_coarse_to_fine(check):
    """The committed conditional network, 10 levels from 20 to 0.5."""
    net, n = experiments.pretrained("ncsn_two_modes"), 2000
    with torch.no_grad():
        end = annealed_langevin(net, 20 * normals(n, 2, seed=63).float(),
                                geometric_sigmas(20, 0.5, 10), step_size=0.05, n_steps=100,
                                generator=generator(64))  # fmt: skip
    found = (end.sum(1) > 0).double().mean()
    check("share at (5, 5), learned scores", expected=0.8, measured=found, within=0.05)


LADDER = (2.0, 1.0, 0.5)


def level_variances(n_steps, eta, v=4.0, s2=0.25):
    """The variance after each level for N(0, s²) data, started at variance v, by its recursion."""
    for sigma in LADDER:
        target, step = s2 + sigma**2, eta * sigma**2 / LADDER[-1] ** 2
        for _ in range(n_steps):
            v = (1 - step / 2 / target) ** 2 * v + step
        yield v


@pytest.mark.claim("C7.30")
@pytest.mark.parametrize(("n_steps", "eta"), [(1, 0.4), (3, 0.2)])
def test_the_algorithm_level_by_level(check, n_steps, eta):
    """N(0, ¼) data, σ = 2, 1, ½: few steps, so that each one's size shows; x is carried on."""
    n, entered = 100_000, {}

    def score(x, sigma):
        entered.setdefault(float(sigma), x.clone())
        return -x / (0.25 + float(sigma) ** 2)

    end = annealed_langevin(score, 2 * normals(n, 1, seed=65), torch.tensor(LADDER),
                            step_size=eta, n_steps=n_steps, generator=generator(66))  # fmt: skip
    assert list(entered) == list(LADDER)
    after = [*list(entered.values())[1:], end]
    exact = level_variances(n_steps, eta)
    for sigma, x, variance in zip(LADDER, after, exact, strict=True):
        check(f"variance after {n_steps} steps at σ = {sigma}", expected=variance,
              measured=x.var(), within=variance_error(variance, n))  # fmt: skip


@pytest.mark.claim("C7.30")
def test_every_level_has_one_inflation_and_one_signal_to_noise(check):
    """Point data, η = 2·10⁻⁵, σ from 1 to 0.01: 1/(1 − η/4σ_L²) = 1.05263 and √η/2σ_L = 0.2236."""
    n, eta, seen = 20_000, 2e-5, {}

    def score(x, sigma):
        seen.setdefault(float(sigma), []).append(x)
        return -x / float(sigma) ** 2

    end = annealed_langevin(score, normals(n, 1, seed=67), torch.as_tensor(UNIT[::3]),
                            step_size=eta, n_steps=100, generator=generator(68))  # fmt: skip
    starts = list(seen.values())
    for sigma, path, after in zip(UNIT[::3], starts, [*(p[0] for p in starts[1:]), end],
                                  strict=True):  # fmt: skip
        check(f"variance in σ², σ = {sigma:.3f}", expected=1.05263,
              measured=after.var() / sigma**2, within=variance_error(1.053, n))  # fmt: skip
        jump = path[-1] - path[-2]  # −(α/2σ²) x + √α z, x of variance 1.05263 σ²
        drift = float((jump * path[-2]).mean() / path[-2].square().mean() * sigma)
        noise = float((jump - drift / sigma * path[-2]).std())
        ratio = abs(drift) / noise
        check("drift over noise where ‖s‖ = √d/σ", expected=0.2236, measured=ratio,
              within=4.5 / n**0.5)  # fmt: skip


@pytest.mark.claim("C7.30")
def test_the_other_ladder_of_the_paper_is_unstable(check):
    """σ from 10 to 0.1 with η = 0.1: each step multiplies x by 1 − η/2σ_L² = −4."""
    x = annealed_langevin(lambda x, sigma: -x / float(sigma) ** 2, normals(50_000, 1, seed=69),
                          torch.tensor([10.0, 0.1]), step_size=0.1, n_steps=1,
                          generator=generator(70))  # fmt: skip
    # the step at 10 makes 16·1 + 1000 of the 1 at the start; the step at 0.1 makes 16 times that
    check("variance after a step at 10 and a step at 0.1", expected=16 * 1016 + 0.1,
          measured=x.var(), within=variance_error(16 * 1016, 50_000))  # fmt: skip
    with pytest.raises(FloatingPointError):
        annealed_langevin(lambda x, sigma: modes(sigma).score(x), even_start(100, 71),
                          geometric_sigmas(10, 0.1, 10), step_size=0.1, n_steps=100,
                          generator=generator(72))  # fmt: skip


@pytest.mark.claim("C7.30")
@pytest.mark.parametrize(("factor", "outcome"), [(0.95, "stable"), (1.05, "diverged")])
def test_it_is_stable_below_four_times_the_last_variance(check, factor, outcome):
    try:
        annealed_langevin(lambda x, sigma: -x / float(sigma) ** 2, torch.ones(20, 1).double(),
                          torch.tensor([1.0, 0.1]), step_size=factor * 0.04, n_steps=1000,
                          generator=generator(80))  # fmt: skip
        found = "stable"
    except FloatingPointError:
        found = "diverged"
    check(f"point data, η = {factor} · 4σ_L²", expected=outcome, measured=found)


@pytest.mark.claim("C7.31")
def test_annealing_finds_the_weights(annealed, check):
    exact = [share(u, p) for u, p in chain_law(published(100))][-1]
    check("share at (5, 5) by its exact law (truth 0.8)", expected=0.782, measured=exact,
          within=5e-4)  # fmt: skip
    found = (annealed[-1].sum(1) > 0).double().mean()
    check("100,000 chains", expected=exact, measured=found, within=share_error(exact, N))


@pytest.mark.claim("C7.31")
def test_longer_levels_come_nearer(check):
    shares = [[share(*law) for law in chain_law(published(n))][-1] for n in (100, 300, 1000)]
    assert shares[0] < shares[1] < shares[2] < 0.8
    check("share after levels of 1,000 steps", expected=0.797, measured=shares[-1], within=5e-4)
    n = 2000
    laws = {sigma: modes(sigma) for sigma in WIDE}

    def score(x, sigma):
        return laws[WIDE[np.abs(WIDE - float(sigma)).argmin()]].score(x)

    end = annealed_langevin(score, even_start(n, 73), torch.as_tensor(WIDE), step_size=0.1,
                            n_steps=300, generator=generator(74))  # fmt: skip
    check("2,000 chains, levels of 300 steps", expected=shares[1],
          measured=(end.sum(1) > 0).double().mean(), within=share_error(0.8, n))  # fmt: skip


@pytest.mark.claim("C7.32")
def test_each_level_is_a_langevin_run_of_its_own(annealed, check):
    """After each level: the share of the chain's exact law, and the width of the level itself."""
    laws = chain_law(published(100))
    for sigma, x, (u, p) in zip(WIDE, annealed, laws, strict=True):
        exact = share(u, p)
        check(f"share beyond the middle after σ = {sigma:.2f}", expected=exact,
              measured=(x.sum(1) > 0).double().mean(), within=share_error(exact, N))  # fmt: skip
        variance = sigma**2 / (1 - 0.1 / 4)
        across = (x[:, 0] - x[:, 1]) / 2**0.5
        check("variance across the diagonal", expected=variance, measured=across.var(),
              within=variance_error(variance, N))  # fmt: skip


@pytest.mark.claim("C7.38")
def test_the_end_is_a_draw_and_no_peak(annealed, check):
    end = annealed[-1]
    across = (end[:, 0] - end[:, 1]) / 2**0.5
    exact = 1 / (1 - 0.1 / 4)
    check("variance in a mode after annealing", expected=exact, measured=across.var(),
          within=variance_error(exact, N))  # fmt: skip
    check("std", expected=1.0127, measured=across.std(), within=variance_error(exact, N) / 2)
    inside = along(end[end.sum(1) > 0])
    check("variance along the diagonal, at (5, 5)", expected=exact, measured=inside.var(),
          within=variance_error(exact, len(inside)))  # fmt: skip
    x = even_start(500, 75).double()
    for sigma in WIDE:  # the same without noise: a climb
        for _ in range(100):
            x = langevin_step(x, modes(sigma).score(x), torch.zeros_like(x), 0.1 * sigma**2)
    spread = (x[:, 0] - x[:, 1]).std()
    check("spread after climbing without noise", expected=0, measured=spread, within=1e-9)


@pytest.mark.claim("C7.38")
def test_the_end_follows_the_smallest_noise_and_not_the_data(check):
    """N(0, 1) data, σ from 8 to 0.5: the last level's variance is 1.25."""
    eta, n = 0.02, 40_000
    end = annealed_langevin(lambda x, sigma: -x / (1 + float(sigma) ** 2),
                            8 * normals(n, 1, seed=76), geometric_sigmas(8, 0.5, 5),
                            step_size=eta, n_steps=300, generator=generator(77))  # fmt: skip
    variance = 8.0**2
    for sigma in np.geomspace(8, 0.5, 5):
        step = eta * (sigma / 0.5) ** 2
        for _ in range(300):
            variance = (1 - step / 2 / (1 + sigma**2)) ** 2 * variance + step
    check("variance at the end (data 1)", expected=variance, measured=end.var(),
          within=variance_error(variance, n))  # fmt: skip
    assert abs(variance - 1.25) < 0.02 < 4.5 * variance / n**0.5


# 9 · Where this comes from


@pytest.mark.claim("C7.44")
def test_what_many_levels_buy_is_mixing(plain, annealed, check):
    """A thousand steps either way: all at the last level, or a hundred at each of ten."""
    one, ten = ((x.sum(1) > 0).double().mean() for x in (plain, annealed[-1]))
    (one_level,) = chain_law([(1.0, 0.1, 1000)])
    *_, last = chain_law(published(100))
    gain = share(*last) - share(*one_level)
    error = (share_error(share(*last), N) ** 2 + share_error(share(*one_level), N) ** 2) ** 0.5
    check("share at (5, 5): gain by the ladder", expected=gain, measured=ten - one, within=error)
    assert abs(share(*last) - 0.8) < abs(share(*one_level) - 0.8) / 10
    widths = [((x[:, 0] - x[:, 1]) / 2**0.5).var() for x in (plain, annealed[-1])]
    check("variance in a mode, ladder − one level", expected=0, measured=widths[1] - widths[0],
          within=2**0.5 * variance_error(1.026, N))  # fmt: skip
