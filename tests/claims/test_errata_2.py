"""The slips of source 2, notes on a lecture on score-based models: what is printed, what is true.

Both are computed. That the right one is right is asserted by another road: a closed form, an
integral, the recursion of a chain's variance.
"""

import numpy as np
import pytest
import torch
from exact import normals
from pytest import approx
from scipy.optimize import minimize_scalar
from scipy.stats import chi2, norm
from test_ch4 import vertex
from test_ch7 import WIDE, above, even_start, modes, variance_error

from sbm_lite import losses
from sbm_lite.calculus import score_of
from sbm_lite.densities import GaussianMixture, gaussian
from sbm_lite.diagnostics import fisher_divergence, standard_error
from sbm_lite.noise import Gaussian, geometric_sigmas
from sbm_lite.runtime import generator
from sbm_lite.samplers import annealed_langevin, langevin, langevin_step


@pytest.mark.slip("E2.01")
def test_without_the_square_the_median_is_best(apart):
    """The Gumbel score is e − 1 with e exponential; it is to be fitted by a constant."""
    e = -np.log1p(-(np.arange(200_000) + 0.5) / 200_000)  # its quantiles
    target = torch.as_tensor(e - 1)[:, None]
    right = vertex(lambda c: fisher_divergence(torch.full_like(target, c), target))
    found = minimize_scalar(lambda c: np.abs(e - 1 - c).mean(), bounds=(-0.9, 0.9))
    x = torch.as_tensor(-np.log(e))[:, None]  # the points themselves
    gumbel = score_of(lambda x: (-x - torch.exp(-x)).sum(1))
    assert (gumbel(x) - target).abs().max() < 1e-9
    assert right == approx(0, abs=1e-4) and found.x == approx(np.log(2) - 1, abs=1e-4)
    apart("best constant for the score of the Gumbel density", printed=found.x, right=right,
          by=1e-3)  # fmt: skip


@pytest.mark.slip("E2.02")
def test_a_sign_that_depends_on_the_page(apart):
    """The true model of N(0, 1), with f = x²/2 as an energy; ∇f is not its score, −∇f is."""
    x = gaussian(dim=1).sample(200_000, generator=generator(1)).double()
    slope = score_of(lambda x: (x**2).sum(1) / 2)(x)
    printed, right = (fisher_divergence(s, gaussian(dim=1).score(x)) for s in (slope, -slope))
    assert printed == approx(2, abs=4.5 * 2 * (2 / len(x)) ** 0.5), "½E(2x)²"
    assert right == approx(0, abs=1e-12)
    apart("Fisher divergence of a model from itself", printed=printed, right=right, by=0.1)


@pytest.mark.slip("E2.04")
def test_the_end_is_a_draw_and_no_peak(apart):
    """The published ladder and settings on the two modes, with the noise and without."""
    n = 3000
    end = annealed_langevin(lambda x, sigma: modes(float(sigma)).score(x), even_start(n, 2),
                            torch.as_tensor(WIDE), step_size=0.1, n_steps=100,
                            generator=generator(3))  # fmt: skip
    climbed = even_start(300, 4).double()
    for sigma in WIDE:
        law = modes(sigma)
        for _ in range(100):
            still = torch.zeros_like(climbed)
            climbed = langevin_step(climbed, law.score(climbed), still, 0.1 * sigma**2)
    printed, right = (((x[:, 0] - x[:, 1]) / 2**0.5).var() for x in (climbed, end))
    assert right == approx(1 / (1 - 0.1 / 4), abs=variance_error(1 / (1 - 0.1 / 4), n))
    apart("variance within a mode at the end, data 1", printed=printed, right=right,
          by=variance_error(1.03, n))  # fmt: skip


@pytest.mark.slip("E2.05")
def test_noise_lowers_the_density_at_a_mode(apart):
    """At 0 it raises that of N(5, 1), and it does not raise that of N(0, 1)."""
    zero = torch.zeros(1, 1).double()
    for mean in (5.0, 0.0):
        law = GaussianMixture([1.0], [[mean]], [[[1.0]]])
        before, after = (float(p.log_prob(zero).exp()) for p in (law, law.smoothed(1)))
        u = np.linspace(mean - 9, mean + 9, 20_001)
        blurred = (norm.pdf(u, mean) * norm.pdf(u)).sum() * (u[1] - u[0])
        assert after == approx(blurred, rel=1e-9) and (after > before) == (mean == 5)
    apart("density of N(0, 1) at 0 under unit noise (printed: more than)", printed=before,
          right=after, by=1e-6)  # fmt: skip


@pytest.mark.slip("E2.06")
def test_the_tenth_network_belongs_to_the_tenth_level(apart):
    """Ten levels from 0.1 to 3, data N(0, 1): the score of x₉'s law used at x₁₀."""
    ninth, tenth = np.geomspace(0.1, 3, 10)[-2:]
    own, before = (gaussian(dim=1).smoothed(s) for s in (tenth, ninth))
    n, eta = 40_000, 0.5
    x = own.sample(n, generator=generator(5)).double()
    miss = [((p.score(x) - own.score(x)).square().mean() / own.score(x).square().mean())
            for p in (before, own)]  # fmt: skip
    assert miss[0] == approx((9 - ninth**2) ** 2 / (1 + ninth**2) ** 2, rel=1e-9)
    apart("squared error of f¹⁰ at x₁₀, relative", printed=miss[0], right=miss[1], by=1e-6)
    ends = [langevin(p.score, x, step_size=eta, n_steps=60, generator=generator(6)).var()
            for p in (before, own)]  # fmt: skip
    wanted = [(1 + s**2) / (1 - eta / 4 / (1 + s**2)) for s in (ninth, tenth)]
    error = variance_error(wanted[1], n)
    assert ends == [approx(v, abs=error) for v in wanted]
    apart("variance to which Langevin leads at level 10", printed=ends[0], right=ends[1], by=error)


@pytest.mark.slip("E2.07")
@pytest.mark.parametrize("sigma", [1.0, 3.0])
def test_the_noisiest_data_are_not_yet_noise(apart, sigma):
    """KL between the noisiest data and pure noise, per dimension, for data N(0, 1)."""
    noisy, pure = gaussian(dim=1).smoothed(sigma), norm(0, sigma)
    u = np.linspace(-12 * sigma, 12 * sigma, 20_001)
    log_p = noisy.log_prob(torch.as_tensor(u)[:, None]).numpy()
    right = (np.exp(log_p) * (log_p - pure.logpdf(u))).sum() * (u[1] - u[0])
    assert right == approx((sigma**-2 - np.log1p(sigma**-2)) / 2, abs=1e-9)
    apart(f"KL from N(0, σ²) at a last level of σ = {sigma:g}", printed=0, right=right, by=1e-6)


@pytest.mark.slip("E2.07")
def test_the_chain_must_start_as_wide_as_its_level(apart):
    """The noisiest data of N(0, 1) at σ = 20, and a start from N(0, 1)."""
    n = 100_000
    x = Gaussian(20.0).sample(normals(n, 1, seed=7), generator=generator(8))
    error = 4.5 * 401**0.5 / (2 * n) ** 0.5
    assert x.std() == approx(401**0.5, abs=error)
    apart("width with which to start at σ = 20", printed=normals(n, 1, seed=9).std(),
          right=x.std(), by=error)  # fmt: skip


@pytest.mark.slip("E2.08")
def test_a_gaussian_start_may_have_a_low_density(apart):
    """Starts from N(0, I) at a last level of σ = 1 on the two modes at ±(5, 5).

    High: above what 99 % of the level's own draws reach.
    """
    n, level = 100_000, modes(2**0.5)
    floor = level.log_prob(level.sample(400_000, generator=generator(10)).double()).quantile(0.01)
    right = (level.log_prob(normals(n, 2, seed=11)) > floor).double().mean()

    def high(x):
        return (level.log_prob(x) > floor).double()

    exact = above(lambda x: torch.exp(-(x**2).sum(1) / 2) / (2 * np.pi), high, 9)
    error = 4.5 * (exact * (1 - exact) / n) ** 0.5 + 1e-4
    assert right == approx(exact, abs=error)
    apart("share of starts whose density is not low, σ = 1", printed=1, right=right, by=error)


@pytest.mark.slip("E2.08")
def test_and_where_it_is_high_it_may_be_far_from_typical(apart):
    """Data N(0, I), d = 64, σ = 20: every start is denser than any noisy data, and too short."""
    level, n, d = gaussian(dim=64).smoothed(20.0), 20_000, 64
    noisy = Gaussian(20.0).sample(normals(n, d, seed=12), generator=generator(13))
    starts = normals(n, d, seed=14)
    assert level.log_prob(starts).min() > level.log_prob(noisy).max()
    low, high = chi2.ppf([0.005, 0.995], d) * 401
    share = [((x.square().sum(1) > low) & (x.square().sum(1) < high)).double().mean()
             for x in (noisy, starts)]  # fmt: skip
    assert share[0] == approx(0.99, abs=4.5 * (0.99 * 0.01 / n) ** 0.5)
    assert share[1] == chi2.cdf(high, d) - chi2.cdf(low, d) == 0
    apart("share of starts as long as noisy data, d = 64, σ = 20", printed=share[0],
          right=share[1], by=0.01)  # fmt: skip


@pytest.mark.slip("E2.09")
def test_what_is_minimised_is_not_the_fisher_divergence(apart):
    """The exact score of the level: its Fisher divergence, and its denoising loss."""
    n, sigma = 200_000, 0.5
    x, e = normals(2, n, 1, seed=15)
    score = gaussian(dim=1).smoothed(sigma).score
    values = losses.dsm(score, x, e, sigma)
    error = 4.5 * float(standard_error(values))
    assert values.mean() == approx(1 / (2 * sigma**2 * (1 + sigma**2)), abs=error)
    moved = x + sigma * e
    printed = fisher_divergence(score(moved), -moved / (1 + sigma**2))
    apart("least value of the training loss, data N(0, 1), σ = 0.5", printed=printed,
          right=values.mean(), by=error)  # fmt: skip


@pytest.mark.slip("E2.10")
def test_the_end_follows_the_smallest_noise(apart):
    """Data on a line in the plane, σ from 4 to 0.5: the variance across the line at the end."""
    n, eta, ladder = 20_000, 0.02, geometric_sigmas(4, 0.5, 5)

    def score(x, sigma):
        return -x / torch.tensor([1 + float(sigma) ** 2, float(sigma) ** 2])

    end = annealed_langevin(score, 4 * normals(n, 2, seed=16), ladder, step_size=eta, n_steps=200,
                            generator=generator(17))  # fmt: skip
    variance = 16.0
    for sigma in np.geomspace(4, 0.5, 5):
        step = eta * (sigma / 0.5) ** 2
        for _ in range(200):
            variance = (1 - step / 2 / sigma**2) ** 2 * variance + step
    error = variance_error(variance, n)
    right = end[:, 1].var()
    assert right == approx(variance, abs=error) and variance == approx(0.25, rel=0.03)
    data = torch.stack([normals(n, seed=18), torch.zeros(n).double()], 1)
    apart("variance across the line at the end, σ₁ = 0.5", printed=data[:, 1].var(), right=right,
          by=error)  # fmt: skip
