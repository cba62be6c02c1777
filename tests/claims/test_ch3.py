"""Chapter 3, Langevin dynamics: each test proves a claim by measuring it another way."""

import numpy as np
import pytest
import scipy.integrate
import torch
from scipy.stats import norm

from sbm_lite.calculus import score_of
from sbm_lite.densities import GaussianMixture, gaussian, two_modes
from sbm_lite.diagnostics import autocorrelation, effective_sample_size, standard_error
from sbm_lite.runtime import generator
from sbm_lite.samplers import langevin, langevin_path, langevin_step, mala

SLANTED = torch.tensor([[2.0, 1.2], [1.2, 1.0]], dtype=torch.float64)
RIDGE = GaussianMixture([1.0], [[0.0, 0.0]], SLANTED[None])
LOPSIDED = GaussianMixture(
    [0.3, 0.7], [[-1.0, 0.0], [1.0, 0.5]], [[[0.5, 0.2], [0.2, 0.4]], [[1.2, -0.3], [-0.3, 0.8]]]
)


def doubles(p, n, seed):
    """n exact draws of p in float64."""
    return p.sample(n, generator=generator(seed)).double()


def variance_error(variance, n):
    """4.5 standard errors of a Gaussian variance estimated from n independent draws."""
    return 4.5 * variance * (2 / n) ** 0.5


def gain_and_memory(eta, s2=1.0):
    """What one step on N(0, s²) does to a unit of noise and to a unit of x; both are linear."""
    zero, one = torch.zeros(1, 1).double(), torch.ones(1, 1).double()
    memory = langevin_step(one, -one / s2, zero, eta)
    return float(langevin_step(zero, zero, one, eta)), float(memory)


def recursion(eta, n_steps, s2=1.0, start=0.0):
    """The variance of the chain after n_steps, from the package's own step."""
    gain, memory = gain_and_memory(eta, s2)
    variance = start
    for _ in range(n_steps):
        variance = memory**2 * variance + gain**2
    return variance


def chi_square(x, edges, probabilities):
    """Pearson's statistic of the counts of x between `edges` against their probabilities."""
    counts = np.histogram(np.asarray(x), edges)[0]
    expected = len(x) * np.asarray(probabilities)
    return ((counts - expected) ** 2 / expected).sum()


@pytest.mark.claim("C3.01")
def test_one_step_by_hand(check):
    """x = (1, 2), s = (−3, 0.5), z = (1, −1), η = 0.16: drift 0.08 s, noise 0.4 z."""
    x, s, z = (torch.tensor([row]).double() for row in ([1.0, 2.0], [-3.0, 0.5], [1.0, -1.0]))
    first, second = langevin_step(x, s, z, 0.16)[0]
    check("first coordinate of a step", expected=1 - 0.24 + 0.4, measured=first, within=1e-12)
    check("second coordinate", expected=2 + 0.04 - 0.4, measured=second, within=1e-12)


@pytest.mark.claim("C3.01")
def test_the_chain_reads_the_score_at_the_current_point(check):
    start = doubles(gaussian(dim=1), 50_000, 1)
    options = dict(step_size=0.5, n_steps=20, generator=generator(2))
    x = langevin(gaussian(dim=1).score, start, **options)
    exact = 1 / (1 - 0.5 / 4)
    check(
        "variance after 20 steps of η = 0.5",
        expected=exact,
        measured=x.var(),
        within=variance_error(exact, 50_000),
    )


@pytest.mark.claim("C3.01")
def test_with_a_frozen_score_the_variance_grows_for_ever(check):
    """The slip E0.03: drift from the start alone. The variance is (1 − Kη/2)² + Kη."""
    start = doubles(gaussian(dim=1), 50_000, 1)
    frozen = langevin(lambda x: -start, start, step_size=0.5, n_steps=20, generator=generator(2))
    exact = (1 - 20 * 0.5 / 2) ** 2 + 20 * 0.5
    check(
        "the same with the score of the start",
        expected=exact,
        measured=frozen.var(),
        within=variance_error(exact, 50_000),
    )


def other_convention(score, x, epsilon, n_steps, generator):
    """x ← x + ε s(x) + √(2ε) z, written out here."""
    for _ in range(n_steps):
        z = torch.randn(x.T.shape, generator=generator, dtype=x.dtype).T
        x = x + epsilon * score(x) + (2 * epsilon) ** 0.5 * z
    return x


@pytest.mark.claim("C3.02")
def test_variance_in_the_other_convention(check):
    p, start = gaussian(1.3**0.5, dim=1), doubles(gaussian(1.3**0.5, dim=1), 100_000, 3)
    x = other_convention(p.score, start, 0.7, 20, generator(4))
    exact = 1.3 / (1 - 0.7 / 2.6)
    assert abs(exact - 1.77895) < 1e-5
    check(
        "variance, ε = 0.7 on N(0, 1.3)",
        expected=exact,
        measured=x.var(),
        within=variance_error(exact, 100_000),
    )


@pytest.mark.claim("C3.03")
def test_the_two_conventions_are_one_chain(check):
    start = doubles(LOPSIDED, 500, 5)
    ours = langevin(LOPSIDED.score, start, step_size=0.2, n_steps=50, generator=generator(6))
    theirs = other_convention(LOPSIDED.score, start, 0.1, 50, generator(6))
    gap = (ours - theirs).abs().max()
    check("η = 0.2 against ε = 0.1, 50 steps, one seed", expected=0, measured=gap, within=1e-9)
    wrong = other_convention(LOPSIDED.score, start, 0.2, 50, generator(6))
    assert (ours - wrong).abs().max() > 0.1  # without the dictionary it is another chain


@pytest.mark.claim("C3.04")
@pytest.mark.parametrize(("start", "seed"), [("the point 8", 7), ("uniform on [−8, 8]", 8)])
def test_two_starts_one_histogram(start, seed, check):
    """16 cells of equal probability under the chain's own law N(0, 1/(1 − η/4))."""
    n, eta = 40_000, 0.2
    spread = 16 * torch.rand(n, 1, generator=generator(seed), dtype=torch.float64) - 8
    x0 = torch.full((n, 1), 8.0).double() if start == "the point 8" else spread
    options = dict(step_size=eta, n_steps=150, generator=generator(seed + 100))
    x = langevin(gaussian(dim=1).score, x0, **options)
    edges = norm.ppf(np.linspace(0, 1, 17)) * (1 - eta / 4) ** -0.5
    check(
        f"χ² over 16 cells from {start}",
        expected=15,
        measured=chi_square(x[:, 0], edges, np.full(16, 1 / 16)),
        within=4.5 * 30**0.5,
    )


@pytest.mark.claim("C3.04")
def test_with_two_modes_the_start_is_remembered(check):
    start = 16 * torch.rand(4000, 2, generator=generator(9), dtype=torch.float64) - 8
    x = langevin(two_modes().score, start, step_size=0.1, n_steps=1000, generator=generator(10))
    basin = (start.sum(1) > -np.log(4) / 10).double().mean()
    share = (x.sum(1) > 0).double().mean()
    check(
        "share of the heavy mode (truth 0.8) = share that started in its basin",
        expected=basin,
        measured=share,
        within=4.5 * (0.5**2 / 4000) ** 0.5,
    )
    for mode in two_modes().means:  # and they did move: each cloud has the shape of its mode
        inside = x[(x - mode).norm(dim=1) < 6] - mode
        exact = 1 / (1 - 0.1 / 4)
        check(
            f"variance in the mode at {float(mode[0]):g}".replace("-", "−"),
            expected=exact,
            measured=inside.square().mean(),
            within=variance_error(exact, inside.numel()),
        )


@pytest.mark.claim("C3.05")
@pytest.mark.parametrize(
    ("eta", "reached"),
    [("0.000001", 0.00100), ("0.001", 0.63237), ("0.01", 1.00246), ("0.1", 1.02564)],
)
def test_a_thousand_steps_from_zero(eta, reached, check):
    measured = recursion(float(eta), 1000)
    check(
        f"variance after 1,000 steps, η = {eta}",
        expected=reached,
        measured=measured,
        within=5e-6,
    )


@pytest.mark.claim("C3.05")
def test_the_real_chain_has_not_arrived_either(check):
    start = torch.zeros(5000, 1, dtype=torch.float64)
    x = langevin(
        gaussian(dim=1).score, start, step_size=1e-3, n_steps=1000, generator=generator(11)
    )
    check(
        "the same, 5,000 chains of η = 0.001",
        expected=0.63237,
        measured=x.var(),
        within=variance_error(0.63237, 5000),
    )


@pytest.mark.claim("C3.05")
def test_both_limits_together_reach_the_target(check):
    errors = [abs(recursion(eta, int(20 / eta)) - 1) for eta in (0.1, 0.01, 0.001)]
    assert errors[0] > errors[1] > errors[2]
    check(
        "|variance − 1|, η = 0.001 and Kη = 20",
        expected=0.001 / 4,
        measured=errors[-1],
        within=1e-6,
    )


def distance_from_target(p, eta, n_steps, start=4.0):
    """½∫|law of x_K − p| on the line, by the chain's own transition density on a grid."""
    x = torch.linspace(-9, 9, 1201, dtype=torch.float64)[:, None]
    mean = langevin_step(x, p.score(x), torch.zeros_like(x), eta)
    kernel = norm.pdf(x[:, 0].numpy(), mean.numpy(), gain_and_memory(eta)[0]) * 0.015
    law = norm.pdf(x[:, 0].numpy(), start, 0.1) * 0.015  # a narrow start, far from the middle
    for _ in range(n_steps):
        law = law @ kernel
    assert abs(law.sum() - 1) < 1e-6
    return np.abs(law - p.log_prob(x).exp().numpy() * 0.015).sum() / 2


@pytest.mark.claim("C3.05")
def test_both_limits_together_beyond_gaussians(check):
    """Two unequal bumps: the distance from p falls in proportion to η while Kη = 40 stays.

    Twice the next ratio's error is allowed: it too halves with η.
    """
    p = GaussianMixture.isotropic([0.3, 0.7], [[-1.5], [1.0]], [0.7, 1.0])
    far = [distance_from_target(p, eta, round(40 / eta)) for eta in (0.1, 0.05, 0.025)]
    check(
        "total variation at η = 0.05 over that at 0.025", expected=2, measured=far[1] / far[2],
        within=abs(far[0] / far[1] - 2),
    )  # fmt: skip
    small = distance_from_target(p, 0.025, 20)
    soon = "not arrived" if small > 10 * far[2] else "arrived"
    check("η = 0.025, but Kη = 0.5 only", expected="not arrived", measured=soon)


def bias(eta, s2):
    """The law of the chain on N(0, s²) and the target, as two frozen normals."""
    return norm(scale=recursion(eta, 10_000, s2) ** 0.5), norm(scale=s2**0.5)


@pytest.mark.claim("C3.06")
@pytest.mark.parametrize(("eta", "s2"), [(0.4, 1.0), (3.0, 2.5)])
def test_bias_in_kl(eta, s2, check):
    chain, target = bias(eta, s2)
    kl, _ = scipy.integrate.quad(
        lambda x: chain.pdf(x) * (chain.logpdf(x) - target.logpdf(x)), -30, 30, epsabs=1e-12
    )
    r = eta / (4 * s2)
    check(
        f"KL by quadrature, η = {eta}, s² = {s2}",
        expected=(r / (1 - r) + np.log(1 - r)) / 2,
        measured=kl,
        within=1e-8,
    )


@pytest.mark.claim("C3.06")
@pytest.mark.parametrize(("eta", "s2"), [(0.4, 1.0), (3.0, 2.5)])
def test_bias_in_wasserstein_distance(eta, s2, check):
    """On the line W₂² = ∫₀¹ (difference of quantiles)² du; u = Φ(z) makes it smooth."""
    chain, target = bias(eta, s2)
    square, _ = scipy.integrate.quad(
        lambda z: (chain.ppf(norm.cdf(z)) - target.ppf(norm.cdf(z))) ** 2 * norm.pdf(z), -8, 8
    )
    exact = s2**0.5 * ((1 - eta / (4 * s2)) ** -0.5 - 1)
    check(
        f"W₂ by quadrature, η = {eta}, s² = {s2}", expected=exact, measured=square**0.5, within=5e-7
    )


@pytest.fixture(scope="module")
def memory():
    """One coordinate of 400 chains over 3,000 steps of η = 0.2 on N(0, 1), started at their law."""
    start = doubles(gaussian(dim=1), 400, 12) * (1 - 0.2 / 4) ** -0.5
    options = dict(step_size=0.2, n_steps=3000, generator=generator(13))
    return langevin_path(gaussian(dim=1).score, start, **options)[..., 0]


@pytest.mark.claim("C3.06")
@pytest.mark.claim("C3.08")
@pytest.mark.parametrize("lag", [1, 10])
def test_iterates_are_correlated(memory, lag, check):
    """ρₖ = (1 − η/2s²)ᵏ; an average over τ-correlated numbers has error √(τ/n), τ = 4/η − 1."""
    error = ((4 / 0.2 - 1) / memory.numel()) ** 0.5
    check(
        f"correlation at lag {lag}, η = 0.2",
        expected=0.9**lag,
        measured=autocorrelation(memory)[lag],
        within=4.5 * error + lag / 3000,
    )


@pytest.mark.claim("C3.08")
def test_steps_per_independent_draw(memory, check):
    steps = memory.numel() / effective_sample_size(memory)
    check("steps per independent draw, 4s²/η − 1", expected=19, measured=steps, within=1)


@pytest.mark.claim("C3.07")
def test_a_constant_in_the_energy_changes_no_trajectory(check):
    def energy(x):
        return ((x**2 - 4) ** 2).sum(1) / 8

    options = dict(step_size=0.1, n_steps=200)
    paths = [
        langevin_path(
            score_of(lambda x, c=c: -energy(x) - c),
            torch.zeros(200, 2),
            generator=generator(14),
            **options,
        )
        for c in (0.0, 1000.0)
    ]
    check(
        "largest difference between two paths, E and E + 1000",
        expected=0,
        measured=(paths[0] - paths[1]).abs().max(),
    )
    assert paths[0][-1].std() > 1  # and they did move


@pytest.mark.claim("C3.07")
def test_a_fitted_score_takes_the_place_of_the_exact_one(check):
    """A line fitted to noisy targets −x + noise, used in the exact score's place."""
    x = doubles(gaussian(dim=1), 20_000, 15)
    noisy = gaussian(dim=1).score(x) + doubles(gaussian(dim=1), 20_000, 16)
    slope = float(torch.linalg.lstsq(x, noisy).solution)
    start = torch.zeros(20_000, 1, dtype=torch.float64)
    end = langevin(lambda x: slope * x, start, step_size=0.2, n_steps=100, generator=generator(17))
    exact = 1 / (1 - 0.2 / 4)
    # the fitted slope is off by 1/√n, and so, relatively, is the variance
    check(
        "variance with the fitted score",
        expected=exact,
        measured=end.var(),
        within=variance_error(exact, 20_000) + 4.5 * exact / 20_000**0.5,
    )


@pytest.mark.claim("C3.08")
def test_without_the_metropolis_test_the_variance_is_four_thirds(check):
    start = doubles(gaussian(dim=1), 100_000, 18)
    x = langevin(gaussian(dim=1).score, start, step_size=1, n_steps=40, generator=generator(19))
    check(
        "variance without the test, η = 1",
        expected=4 / 3,
        measured=x.var(),
        within=variance_error(4 / 3, 100_000),
    )


@pytest.mark.claim("C3.08")
@pytest.mark.parametrize("eta", [1.0, 3.0, 5.0])
def test_with_it_the_variance_is_exact(eta, check):
    """From the start 0 as well, so that a chain that never moves cannot pass."""
    start = torch.zeros(50_000, 1, dtype=torch.float64)
    x, _ = mala(
        gaussian(dim=1).log_prob, start, step_size=eta, n_steps=200, generator=generator(20)
    )
    check(
        f"variance with it, η = {eta:g}",
        expected=1,
        measured=x.var(),
        within=variance_error(1, 50_000),
    )


@pytest.mark.claim("C3.08")
def test_the_metropolis_test_keeps_a_slanted_mixture(check):
    start = doubles(LOPSIDED, 40_000, 21)
    x, _ = mala(LOPSIDED.log_prob, start, step_size=0.8, n_steps=60, generator=generator(22))
    w, m, c = LOPSIDED.weights, LOPSIDED.means, LOPSIDED.covariances
    centre = w @ m
    exact = torch.einsum("k,kij->ij", w, c + m[:, :, None] * m[:, None]) - centre.outer(centre)
    products = (x - centre)[:, :, None] * (x - centre)[:, None]
    for i, j, name in ((0, 0, "Var x₁"), (1, 1, "Var x₂"), (0, 1, "Cov(x₁, x₂)")):
        check(
            f"{name} of a two-component mixture, η = 0.8",
            expected=exact[i, j],
            measured=products[:, i, j].mean(),
            within=4.5 * standard_error(products[:, i, j]),
        )


@pytest.mark.claim("C3.08")
def test_acceptance_by_quadrature(check):
    """E min(1, p(y) q(x|y) / p(x) q(y|x)) for N(0, 1) at η = 1, as a double integral."""

    def accepted(y, x):
        log_ratio = (x**2 - y**2) / 2 + (-((x - y / 2) ** 2) + (y - x / 2) ** 2) / 2
        return norm.pdf(x) * norm.pdf(y, x / 2) * min(1.0, np.exp(log_ratio))

    exact, _ = scipy.integrate.dblquad(accepted, -7, 7, -9, 9, epsabs=1e-5, epsrel=1e-5)
    start = doubles(gaussian(dim=1), 20_000, 23)
    run = mala(gaussian(dim=1).log_prob, start, step_size=1.0, n_steps=20, generator=generator(24))
    check(
        "share of proposals accepted, η = 1",
        expected=exact,
        measured=run.acceptance,
        within=4.5 * (exact * (1 - exact) / 20_000) ** 0.5,
    )


@pytest.fixture(scope="module")
def fifty():
    """‖x‖² in 50 dimensions after 400 steps of η = 0.1 from far out: Langevin, and ascent."""
    ball, start = gaussian(dim=50), 3 * doubles(gaussian(dim=50), 4000, 25)
    x = langevin(ball.score, start, step_size=0.1, n_steps=400, generator=generator(26))
    ascent = start
    for _ in range(400):
        ascent = langevin_step(ascent, ball.score(ascent), torch.zeros_like(ascent), 0.1)
    return x.square().sum(1), ascent.square().sum(1)


@pytest.mark.claim("C3.09")
def test_langevin_keeps_its_distance_from_the_mode(fifty, check):
    exact = 50 / (1 - 0.1 / 4)
    check(
        "E‖x‖² in 50 dimensions",
        expected=exact,
        measured=fifty[0].mean(),
        within=4.5 * exact * (2 / 50 / 4000) ** 0.5,
    )


@pytest.mark.claim("C3.10")
def test_ascent_collapses_onto_the_mode(fifty, check):
    """Each step multiplies x by 0.95: from E‖x‖² = 450 to 450 · 0.95⁸⁰⁰."""
    exact = 450 * 0.95**800
    check(
        "E‖x‖² in 50 dimensions without the noise",
        expected=exact,
        measured=fifty[1].mean(),
        within=4.5 * exact * (2 / 50 / 4000) ** 0.5,
    )


@pytest.mark.claim("C3.10")
def test_ascent_ends_on_the_modes_of_a_mixture(check):
    p, x = two_modes(), doubles(two_modes(), 500, 27)
    for _ in range(500):
        x = langevin_step(x, p.score(x), torch.zeros_like(x), 0.1)
    far = (x[:, None] - p.means).norm(dim=2).min(1).values.max()
    check("largest distance from a mode, two-mode mixture", expected=0, measured=far, within=1e-9)


def cell_probabilities(p, edges):
    """The exact probability of each cell of a square grid, by Gauss–Legendre quadrature."""
    z, w = np.polynomial.legendre.leggauss(12)
    middle, half = (edges[1:] + edges[:-1]) / 2, np.diff(edges) / 2
    axis = torch.tensor((middle[:, None] + half[:, None] * z).ravel())
    weight = torch.tensor((half[:, None] * w).ravel())
    nodes = torch.cartesian_prod(axis, axis)
    mass = p.log_prob(nodes).exp() * torch.outer(weight, weight).flatten()
    k = len(middle)
    return mass.reshape(k, 12, k, 12).sum((1, 3)).numpy()


@pytest.mark.claim("C3.11")
@pytest.mark.parametrize("name", ["two modes", "slanted mixture"])
def test_final_histogram_matches_the_density(name, check):
    """From single points, so that the shape must be earned: a fifth of the chains from one mode and
    the rest from the other, or all from one place. A small step, so that its bias (η/4λ for a
    variance λ ≥ 0.24) adds less to χ² than its own noise: n·(η/4λ)² < √(2·cells)."""
    n, p = 10_000, {"two modes": two_modes(), "slanted mixture": LOPSIDED}[name]
    start = p.means.repeat_interleave(torch.tensor([n // 5, 4 * n // 5]), dim=0)
    start = start if name == "two modes" else torch.tensor([[2.0, -1.0]]).double().repeat(n, 1)
    x = langevin(p.score, start, step_size=0.02, n_steps=1500, generator=generator(148))
    edges = np.linspace(-8.0, 8.0, 17) if name == "two modes" else np.linspace(-4.0, 4.0, 13)
    counts = np.histogram2d(*x.T.numpy(), bins=[edges, edges])[0]
    expected = n * cell_probabilities(p, edges)
    big = expected > 5
    seen, exact = (np.append(a[big], n - a[big].sum()) for a in (counts, expected))
    cells = len(seen)
    check(
        f"χ² over {cells} cells, {name}",
        expected=cells - 1,
        measured=((seen - exact) ** 2 / exact).sum(),
        within=4.5 * (2 * (cells - 1)) ** 0.5,
    )


@pytest.mark.claim("C3.13")
@pytest.mark.parametrize(
    ("eta", "s2"), [(0.1, 1.0), (1.0, 1.0), (2.0, 1.0), (3.9, 1.0), (0.5, 0.25), (3.0, 4.0)]
)
def test_fixed_point_of_the_variance_recursion(eta, s2, check):
    check(
        f"limit of the recursion, η = {eta}, s² = {s2}",
        expected=s2 / (1 - eta / (4 * s2)),
        measured=recursion(eta, 3000, s2),
        within=1e-9,
    )


@pytest.mark.claim("C3.13")
@pytest.mark.parametrize("eta", [0.1, 0.5, 1.0, 2.0, 3.0, 3.6])
def test_stationary_variance_of_the_real_chain(eta, check):
    """From the origin, so that a chain that never moves cannot pass."""
    start = torch.zeros(50_000, 1, dtype=torch.float64)
    x = langevin(gaussian(dim=1).score, start, step_size=eta, n_steps=120, generator=generator(31))
    exact = 1 / (1 - eta / 4)
    check(
        f"variance of 50,000 chains, η = {eta}",
        expected=exact,
        measured=x.var(),
        within=variance_error(exact, 50_000),
    )


@pytest.mark.claim("C3.13")
def test_stationary_covariance_on_a_slanted_gaussian(check):
    eta, n = 0.5, 100_000
    x = langevin(
        RIDGE.score, doubles(RIDGE, n, 32), step_size=eta, n_steps=60, generator=generator(33)
    )
    eye = torch.eye(2).double()
    exact = SLANTED @ torch.linalg.inv(eye - eta / 4 * torch.linalg.inv(SLANTED))
    for i, j, name in ((0, 0, "Var x₁"), (1, 1, "Var x₂"), (0, 1, "Cov(x₁, x₂)")):
        error = ((exact[i, i] * exact[j, j] + exact[i, j] ** 2) / n) ** 0.5
        check(
            f"{name}, slanted Gaussian, η = 0.5",
            expected=exact[i, j],
            measured=torch.cov(x.T)[i, j],
            within=4.5 * error,
        )


@pytest.mark.claim("C3.13")
@pytest.mark.parametrize(("factor", "outcome"), [(0.95, "stable"), (1.05, "diverged")])
def test_stability_ends_at_four_times_the_smallest_variance(factor, outcome, check):
    eta = factor * 4 * float(torch.linalg.eigvalsh(SLANTED)[0])
    try:
        langevin(
            RIDGE.score,
            torch.ones(10, 2).double(),
            step_size=eta,
            n_steps=2000,
            generator=generator(34),
        )
        found = "stable"
    except FloatingPointError as error:
        found = "diverged" if f"step_size = {eta}" in str(error) else f"unnamed: {error}"
    check(f"η = {factor} · 4λ_min, 2,000 steps", expected=outcome, measured=found)
