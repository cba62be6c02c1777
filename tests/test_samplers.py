"""Samplers against hand-written loops, closed forms and quadrature."""

import numpy as np
import pytest
import scipy.integrate
import torch

from sbm_lite.densities import GaussianMixture, gaussian, two_modes
from sbm_lite.noise import alpha_bars, linear_betas
from sbm_lite.runtime import generator
from sbm_lite.samplers import (
    ancestral,
    annealed_langevin,
    ddim,
    langevin,
    langevin_path,
    langevin_step,
    mala,
)

LOPSIDED = GaussianMixture(
    [0.3, 0.7], [[-1.0, 0.0], [1.0, 0.5]], [[[0.5, 0.2], [0.2, 0.4]], [[1.2, -0.3], [-0.3, 0.8]]]
)


def normals(n, d, rng):
    """Noise in the order in which the samplers draw it: coordinate by coordinate."""
    return torch.randn(d, n, generator=rng, dtype=torch.float64).T


def start(n=200, d=2, seed=0):
    return torch.randn(n, d, generator=generator(seed), dtype=torch.float64)


def test_step_is_the_formula():
    x, s, z = start(), start(seed=1), start(seed=2)
    torch.testing.assert_close(langevin_step(x, s, z, 0.3), x + 0.15 * s + 0.3**0.5 * z)


def test_langevin_is_the_step_repeated():
    x, rng = start(), generator(3)
    for _ in range(5):
        x = langevin_step(x, LOPSIDED.score(x), normals(*x.shape, rng), 0.2)
    measured = langevin(LOPSIDED.score, start(), step_size=0.2, n_steps=5, generator=generator(3))
    torch.testing.assert_close(measured, x, rtol=1e-12, atol=1e-12)


def test_langevin_is_the_last_frame_of_the_path():
    options = dict(step_size=0.2, n_steps=7)
    last = langevin(LOPSIDED.score, start(), generator=generator(4), **options)
    path = langevin_path(LOPSIDED.score, start(), generator=generator(4), **options)
    assert path.shape == (8, 200, 2)
    assert torch.equal(path[0], start()) and torch.equal(path[-1], last)


def test_every_thins_the_path_and_changes_nothing_else():
    options = dict(step_size=0.2, n_steps=10)
    full = langevin_path(LOPSIDED.score, start(), generator=generator(5), **options)
    thin = langevin_path(LOPSIDED.score, start(), every=3, generator=generator(5), **options)
    assert torch.equal(thin, full[::3])


def test_one_step_of_many_chains_has_the_right_mean_and_covariance():
    """From one point: mean x + (η/2) s(x), covariance ηI; in both coordinates, uncorrelated."""
    here, n, eta = torch.tensor([[0.7, -1.1]]).double(), 50_000, 0.3
    x = langevin(
        LOPSIDED.score, here.expand(n, 2), step_size=eta, n_steps=1, generator=generator(6)
    )
    mean = here + eta / 2 * LOPSIDED.score(here)
    assert ((x.mean(0) - mean).abs() < 4.5 * (eta / n) ** 0.5).all()
    assert ((torch.cov(x.T) - eta * torch.eye(2)).abs() < 4.5 * eta * (2 / n) ** 0.5).all()


def test_chains_do_not_share_their_noise():
    x = langevin(
        gaussian(dim=3).score,
        torch.zeros(2000, 3),
        step_size=0.5,
        n_steps=1,
        generator=generator(7),
    )
    assert (torch.corrcoef(x.T) - torch.eye(3)).abs().max() < 4.5 / 2000**0.5
    assert abs(torch.corrcoef(torch.stack([x[:-1, 0], x[1:, 0]]))[0, 1]) < 4.5 / 2000**0.5


@pytest.mark.parametrize("n_steps", [100, 2000])
def test_divergence_names_the_step_size(n_steps):
    words = r"step_size = 4\.5: .*below 4 times the smallest variance"
    with pytest.raises(FloatingPointError, match=words):
        langevin(
            gaussian().score,
            torch.ones(5, 2),
            step_size=4.5,
            n_steps=n_steps,
            generator=generator(8),
        )


def test_divergence_is_seen_at_the_end_of_a_run_that_no_look_falls_into():
    steep = lambda x: -(x**3)  # noqa: E731
    with pytest.raises(FloatingPointError, match=r"step_size = 3"):
        langevin(steep, torch.full((5, 2), 3.0), step_size=3, n_steps=7, generator=generator(9))


def test_a_score_that_returns_nan_does_not_pass_silently():
    with pytest.raises(FloatingPointError, match=r"step_size = 0\.1"):
        langevin(lambda x: x * torch.nan, torch.ones(5, 2), step_size=0.1, n_steps=3)


def test_a_density_that_refuses_a_runaway_chain_is_reported_as_divergence():
    """Infinite after a few steps, before the first look: the density raises, we say why."""
    p = gaussian(dim=1)
    with pytest.raises(FloatingPointError, match=r"diverged with step_size = 1000000\.0"):
        langevin(p.score, torch.ones(3, 1), step_size=1e6, n_steps=50, generator=generator(0))


def test_a_score_that_complains_of_something_else_is_heard():
    def score(x):
        raise ValueError("not today")

    with pytest.raises(ValueError, match="not today"):
        langevin(score, torch.ones(3, 1), step_size=0.1, n_steps=5, generator=generator(0))


def test_a_path_that_diverges_raises_too():
    with pytest.raises(FloatingPointError, match=r"step_size = 4\.5"):
        langevin_path(gaussian().score, torch.ones(5, 2), step_size=4.5, n_steps=500)


def test_a_chain_that_comes_from_far_away_has_not_diverged():
    x0 = torch.full((5, 2), 1e7, dtype=torch.float64)
    x = langevin(gaussian().score, x0, step_size=0.5, n_steps=2, generator=generator(10))
    torch.testing.assert_close(x, 0.75**2 * x0, rtol=1e-5, atol=0)


def test_a_chain_just_below_the_limit_is_let_through():
    x = langevin(
        gaussian(dim=1).score,
        torch.zeros(20_000, 1).double(),
        step_size=3.9,
        n_steps=1000,
        generator=generator(11),
    )
    assert abs(x.var() - 40) < 4.5 * 40 * (2 / 20_000) ** 0.5


def by_hand(p, x, eta, n_steps, rng):
    """MALA from torch.distributions: proposal densities with their constants, ratios as written."""
    accepted = []
    for _ in range(n_steps):
        there = torch.distributions.Normal(x + eta / 2 * p.score(x), eta**0.5)
        y = there.mean + eta**0.5 * normals(*x.shape, rng)
        back = torch.distributions.Normal(y + eta / 2 * p.score(y), eta**0.5)
        ratio = (p.log_prob(y) + back.log_prob(x).sum(1)).exp() / (
            p.log_prob(x) + there.log_prob(y).sum(1)
        ).exp()
        accept = torch.rand(len(x), generator=rng, dtype=x.dtype) < ratio
        accepted.append(accept.double().mean())
        x = torch.where(accept[:, None], y, x)
    return x, sum(accepted) / n_steps


@pytest.mark.parametrize("eta", [0.1, 1.5])
def test_mala_is_its_formula(eta):
    x, acceptance = by_hand(LOPSIDED, start(), eta, 20, generator(12))
    ours = mala(LOPSIDED.log_prob, start(), step_size=eta, n_steps=20, generator=generator(12))
    torch.testing.assert_close(ours.x, x, rtol=1e-9, atol=1e-9)
    assert ours.acceptance == pytest.approx(float(acceptance))


def test_mala_rejects_whole_points_and_not_coordinates():
    x, options = start(500), dict(step_size=3.0, n_steps=1, generator=generator(13))
    moved = mala(LOPSIDED.log_prob, x, **options).x != x
    assert torch.equal(moved[:, 0], moved[:, 1]) and 0 < moved[:, 0].sum() < 500


def test_acceptance_of_small_and_of_huge_steps():
    small, huge = (
        mala(
            two_modes().log_prob,
            two_modes().sample(500, generator=generator(14)),
            step_size=eta,
            n_steps=20,
            generator=generator(15),
        ).acceptance
        for eta in (1e-3, 50.0)
    )
    assert small > 0.99 and huge < 0.05


def test_mala_needs_no_normaliser():
    options = dict(step_size=0.8, n_steps=10)
    runs = [
        mala(lambda x, c=c: LOPSIDED.log_prob(x) + c, start(), generator=generator(16), **options)
        for c in (0.0, 64.0)
    ]
    torch.testing.assert_close(runs[0].x, runs[1].x)


def test_mala_samples_a_skewed_density_exactly():
    """Third moment under p ∝ e^(x − eˣ) (a Gumbel law), by quadrature; unadjusted steps miss it."""
    moment, _ = scipy.integrate.quad(lambda x: x**3 * np.exp(x - np.exp(x)), -30, 5)
    x0 = torch.zeros(50_000, 1, dtype=torch.float64)
    x, _ = mala(
        lambda x: (x - x.exp()).sum(1), x0, step_size=1.0, n_steps=150, generator=generator(17)
    )
    cubes = x[:, 0] ** 3
    assert abs(cubes.mean() - moment) < 4.5 * cubes.std() / 50_000**0.5


def test_mala_stays_inside_a_support():
    """log p = −∞ outside: a proposal there is refused."""
    log_prob = lambda x: torch.where(x[:, 0] > 0, -x[:, 0], -torch.inf)  # noqa: E731
    x, _ = mala(
        log_prob,
        torch.ones(20_000, 1).double(),
        step_size=0.5,
        n_steps=200,
        generator=generator(18),
    )
    assert (x > 0).all()
    assert abs(x.mean() - 1) < 4.5 / 20_000**0.5  # the exponential law has mean and std 1


def test_a_hopeless_chain_is_stopped_early():
    """At η = 4.5 a step stretches x by 1.25: beyond the bound after 70 steps."""
    calls = []
    with pytest.raises(FloatingPointError):
        langevin(
            lambda x: calls.append(1) or -x,
            torch.ones(5, 2),
            step_size=4.5,
            n_steps=10_000,
            generator=generator(19),
        )
    assert len(calls) <= 100


# Annealed Langevin dynamics

SIGMAS = [4.0, 1.5, 0.5]


def of_levels(x, sigma):
    """The exact score of LOPSIDED after noise of one level."""
    return LOPSIDED.smoothed(sigma).score(x)


def test_annealed_langevin_is_langevin_at_one_level_after_the_other():
    """The step of a level is η σ²/σ_L²: with η = 0.1 here 6.4, 0.9 and 0.1."""
    x, rng = start(), generator(20)
    for sigma, eta in ((4.0, 6.4), (1.5, 0.9), (0.5, 0.1)):
        for _ in range(3):
            x = langevin_step(x, of_levels(x, sigma), normals(*x.shape, rng), eta)
    measured = annealed_langevin(
        of_levels, start(), torch.tensor(SIGMAS), step_size=0.1, n_steps=3, generator=generator(20)
    )
    torch.testing.assert_close(measured, x, rtol=1e-11, atol=1e-11)


def test_levels_are_visited_from_the_largest_down_as_often_as_asked():
    told = []
    score = lambda x, sigma: told.append(sigma) or -x  # noqa: E731
    annealed_langevin(score, start(), torch.tensor(SIGMAS), step_size=0.01, n_steps=2)
    assert told == [4.0, 4.0, 1.5, 1.5, 0.5, 0.5]


def test_annealing_at_one_level_is_langevin():
    options = dict(step_size=0.2, n_steps=7)
    plain = langevin(LOPSIDED.score, start(), generator=generator(21), **options)
    annealed = annealed_langevin(
        lambda x, sigma: LOPSIDED.score(x),
        start(),
        torch.tensor([3.0]),
        generator=generator(21),
        **options,
    )
    assert torch.equal(annealed, plain)


def test_annealing_a_gaussian_follows_its_variance_step_by_step():
    """On N(0, λ) every step is linear: V ← (1 − η_i/2v_i)² V + η_i, with v_i = λ + σ_i²."""
    n, variance, lam = 50_000, 9.0, 0.25
    for sigma in SIGMAS:
        eta = 0.3 * sigma**2 / 0.25
        for _ in range(4):
            variance = (1 - eta / (2 * (lam + sigma**2))) ** 2 * variance + eta
    x = annealed_langevin(
        lambda x, sigma: -x / (lam + sigma**2),
        3 * start(n, 1),
        torch.tensor(SIGMAS),
        step_size=0.3,
        n_steps=4,
        generator=generator(22),
    )
    assert abs(x.var() - variance) < 4.5 * variance * (2 / n) ** 0.5
    assert abs(variance - 0.5) > 0.05  # not λ + σ_L²: the recursion says more than the target


def test_annealing_finds_the_weights_that_langevin_alone_does_not():
    """From the middle, past a valley that plain chains do not cross in as many steps."""
    p = GaussianMixture.isotropic([0.2, 0.8], [[-4.0, -4.0], [4.0, 4.0]], 0.5)
    x0 = 8 * torch.rand(1000, 2, generator=generator(23), dtype=torch.float64) - 4
    ladder = torch.logspace(1, -1, 10, dtype=torch.float64)
    annealed = annealed_langevin(
        lambda x, sigma: p.smoothed(sigma).score(x),
        x0,
        ladder,
        step_size=0.01,
        n_steps=20,
        generator=generator(24),
    )
    plain = langevin(p.score, x0, step_size=0.01, n_steps=200, generator=generator(24))
    share = lambda x: float((x.sum(1) > 0).double().mean())  # noqa: E731
    assert abs(share(plain) - 0.5) < 0.1 and abs(share(annealed) - 0.8) < 0.1


def test_a_level_at_which_the_chain_diverges_is_named():
    """Data at a point: a step of η shrinks x by 1 − η/2σ_L², and η = 5 σ_L² stretches it."""
    words = r"diverged at sigma = 10: try a step_size, now 5, below 4, 4 times the square of the la"
    with pytest.raises(FloatingPointError, match=words):
        annealed_langevin(
            lambda x, sigma: -x / sigma**2,
            start(),
            torch.tensor([10.0, 1.0]),
            step_size=5,
            n_steps=100,
        )
    late = lambda x, sigma: -x if sigma > 2 else x * torch.nan  # noqa: E731
    with pytest.raises(FloatingPointError, match=r"diverged at sigma = 1\.5: .* below 1, 4 times"):
        annealed_langevin(late, start(), torch.tensor(SIGMAS), step_size=0.01, n_steps=2)


# The reverse chains of DDPM

BARS = alpha_bars(linear_betas(20, 0.01, 0.4))
TIMES = {"every step": None, "strided": torch.tensor([20, 13, 12, 5, 1]), "one": torch.tensor([20])}
each_times = pytest.mark.parametrize("times", TIMES.values(), ids=TIMES)


def visited(times):
    """The pairs (ᾱ_t, ᾱ_u, t) of a chain, from the last step to ᾱ_0 = 1."""
    bars, steps = [1.0, *BARS.tolist()], [*(range(20, 0, -1) if times is None else times.tolist())]
    return [(bars[t], bars[u], t) for t, u in zip(steps, [*steps[1:], 0], strict=True)]


def of_steps(x, t):
    """The exact score of LOPSIDED after t steps of noise; all points are at one step."""
    bar = float(BARS[int(t[0]) - 1])
    covariances = bar * LOPSIDED.covariances + (1 - bar) * torch.eye(2).double()
    return GaussianMixture(LOPSIDED.weights, bar**0.5 * LOPSIDED.means, covariances).score(x)


def clean_from(x, bar):
    """E[x₀ | x_t] of LOPSIDED by Bayes, point by point."""
    sigma = ((1 - bar) / bar) ** 0.5
    posteriors = [LOPSIDED.posterior(row / bar**0.5, sigma) for row in x]
    return torch.stack([p.weights @ p.means for p in posteriors])


@each_times
def test_ancestral_draws_from_the_posterior_at_the_clean_point_it_expects(times):
    """q(x_u | x_t, x₀) is a product of two Gaussians; x₀ is the posterior's mean, from Bayes.

    Known are x_u ~ N(√ᾱ_u x₀, 1 − ᾱ_u) and x_t ~ N(√α x_u, 1 − α) with α = ᾱ_t/ᾱ_u.
    """
    x, rng = start(5), generator(25)
    for bar, before, _ in visited(times):
        alpha, clean = bar / before, clean_from(x, bar)
        z = torch.randn(5, 2, generator=rng, dtype=torch.float64)
        if before == 1:
            x = clean
        else:
            precision = 1 / (1 - before) + alpha / (1 - alpha)
            pull = before**0.5 * clean / (1 - before) + alpha**0.5 * x / (1 - alpha)
            x = pull / precision + z / precision**0.5
    measured = ancestral(of_steps, start(5), BARS, times=times, generator=generator(25))
    torch.testing.assert_close(measured, x, rtol=1e-8, atol=1e-8)


@each_times
@pytest.mark.parametrize("data", [0.01, 1.0, 4.0])
def test_ancestral_on_gaussian_data_has_the_variance_of_its_recursion(data, times):
    """V_u = (1 − β/v_t)²/α V_t + β̃ with v_t = ᾱ_t s² + 1 − ᾱ_t, from V_T = 1."""
    n, variance = 20_000, 1.0
    for bar, before, _ in visited(times):
        v, alpha = bar * data + 1 - bar, bar / before
        tilde = (1 - alpha) * (1 - before) / (1 - bar)
        variance = (1 - (1 - alpha) / v) ** 2 / alpha * variance + tilde
    score = lambda x, t: -x / (BARS[t - 1, None] * data + 1 - BARS[t - 1, None])  # noqa: E731
    x = ancestral(score, start(n, 1, 26), BARS, times=times, generator=generator(27))
    assert abs(x.var() - variance) < 4.5 * variance * (2 / n) ** 0.5
    assert abs(x.mean()) < 4.5 * (variance / n) ** 0.5


def test_ancestral_on_gaussian_data_at_the_published_schedule():
    """The linear schedule leaves 0.00928 of a variance of 0.01; noise of variance β, 0.01015."""
    bars = alpha_bars(linear_betas())
    score = lambda x, t: -x / (bars[t[0] - 1] * 0.01 + 1 - bars[t[0] - 1])  # noqa: E731
    x = ancestral(score, start(6000, 1, 28), bars, generator=generator(29))
    error = 0.00928 * (2 / 6000) ** 0.5
    assert abs(x.var() - 0.00928) < 4.5 * error + 5e-6 < 0.01015 - 0.00928


@each_times
@pytest.mark.parametrize("walk", [ancestral, ddim])
def test_data_at_one_point_are_found_exactly(walk, times):
    """The last step goes to the expected clean point itself, and adds nothing."""
    here = torch.tensor([[0.7, -1.1]]).double()

    def score(x, t):
        bar = BARS[t - 1, None]
        return -(x - bar.sqrt() * here) / (1 - bar)

    x = walk(score, start(), BARS, times=times)
    torch.testing.assert_close(x, here.expand(200, 2), rtol=1e-12, atol=1e-12)


@each_times
@pytest.mark.parametrize("walk", [ancestral, ddim])
def test_the_score_is_told_the_step_of_every_point_from_the_last_to_the_first(walk, times):
    told = []
    walk(lambda x, t: told.append(t) or -x, start(5), BARS, times=times)
    steps = [t for _, _, t in visited(times)]
    assert [t.tolist() for t in told] == [[t] * 5 for t in steps]
    assert steps[0] == 20 and all(t.dtype == torch.int64 for t in told)


@pytest.mark.parametrize("walk", [ancestral, ddim])
def test_a_strided_chain_is_the_chain_of_a_coarser_schedule(walk):
    times = torch.tensor([20, 13, 12, 5, 1])
    coarse = BARS[times.flip(0) - 1]
    options = {} if walk is ddim else dict(generator=generator(30))
    strided = walk(of_steps, start(), BARS, times=times, **options)
    options = {} if walk is ddim else dict(generator=generator(30))
    renamed = lambda x, t: of_steps(x, times.flip(0)[t - 1])  # noqa: E731
    torch.testing.assert_close(strided, walk(renamed, start(), coarse, **options))


@pytest.mark.parametrize("walk", [ancestral, ddim])
def test_times_may_start_below_the_last_step_and_be_a_list(walk):
    told = []
    walk(lambda x, t: told.append(int(t[0])) or -x, start(5), BARS, times=[9, 4])
    assert told == [9, 4]


def test_noise_of_the_reverse_chain_has_the_variance_of_the_posterior():
    """One step from one point to many: mean and variance β̃, in both coordinates, uncorrelated."""
    n, here = 50_000, torch.tensor([[0.7, -1.1]]).double()
    told = []

    def score(x, t):
        told.append(x)
        return torch.zeros_like(x)

    times = torch.tensor([20, 12])
    ancestral(score, here.expand(n, 2), BARS, times=times, generator=generator(31))
    bar, before = float(BARS[19]), float(BARS[11])
    tilde = (1 - bar / before) * (1 - before) / (1 - bar)
    mean = here / (bar / before) ** 0.5
    assert ((told[1].mean(0) - mean).abs() < 4.5 * (tilde / n) ** 0.5).all()
    error = 4.5 * tilde * (2 / n) ** 0.5
    assert ((torch.cov(told[1].T) - tilde * torch.eye(2)).abs() < error).all()


@each_times
def test_ddim_moves_the_noise_down_a_straight_line_in_the_units_of_the_data(times):
    """y = x/√ᾱ and σ = √((1 − ᾱ)/ᾱ): one Euler step of dy/dσ = ε̂ each, whatever the data."""
    y = start(5) / float(BARS[-1]) ** 0.5
    for bar, before, _ in visited(times):
        sigma, lower = ((1 - bar) / bar) ** 0.5, ((1 - before) / before) ** 0.5
        epsilon = (y - clean_from(y * bar**0.5, bar)) / sigma
        y = y + (lower - sigma) * epsilon
    measured = ddim(of_steps, start(5), BARS, times=times)
    torch.testing.assert_close(measured, y, rtol=1e-8, atol=1e-8)


@each_times
@pytest.mark.parametrize("std", [0.1, 1.0, 2.0])
def test_ddim_on_gaussian_data_turns_a_point_by_known_angles(std, times):
    """On N(0, s²) x_u = x_t (√(ᾱ_u ᾱ_t) s² + √((1 − ᾱ_u)(1 − ᾱ_t)))/v_t, a cosine when s = 1."""
    x, factor = start(), 1.0
    for bar, before, _ in visited(times):
        v = bar * std**2 + 1 - bar
        share = (bar * before) ** 0.5 * std**2 + ((1 - bar) * (1 - before)) ** 0.5
        factor *= share / v
        if std == 1:
            turn = np.arccos(bar**0.5) - np.arccos(before**0.5)
            assert share / v == pytest.approx(np.cos(turn), rel=1e-12)
    score = lambda x, t: -x / (BARS[t - 1, None] * std**2 + 1 - BARS[t - 1, None])  # noqa: E731
    measured = ddim(score, x, BARS, times=times)
    torch.testing.assert_close(measured, factor * x, rtol=1e-10, atol=1e-10)


def test_ddim_in_many_steps_ends_at_the_spread_of_the_data():
    """The flow takes x to x s/√v_T; 1,000 steps of Euler come within a per cent of it."""
    bars = alpha_bars(linear_betas())
    score = lambda x, t: -x / (bars[t - 1, None] * 4 + 1 - bars[t - 1, None])  # noqa: E731
    x = start(5)
    ratio = ddim(score, x, bars) / x
    flow = 2 / float(bars[-1] * 4 + 1 - bars[-1]) ** 0.5
    assert ((ratio - flow).abs() < 0.01 * flow).all()


@pytest.mark.parametrize("walk", [ancestral, ddim])
def test_reverse_chains_build_no_graph(walk):
    scale, x = torch.tensor(1.0, requires_grad=True), start(5).requires_grad_()
    end = walk(lambda x, t: -scale * x, x, BARS)
    assert not end.requires_grad and scale.grad is None and x.grad is None


@pytest.mark.parametrize("walk", [ancestral, ddim])
def test_a_reverse_chain_that_ends_in_nan_does_not_pass_silently(walk):
    with pytest.raises(FloatingPointError, match="the reverse chain diverged"):
        walk(lambda x, t: x * torch.nan, start(5), BARS)


@pytest.mark.parametrize("chain", [ancestral, ddim])
@pytest.mark.parametrize("size", [0.5, 1.0, 10.0])
def test_a_reverse_chain_may_go_a_hundred_thousand_times_as_far_as_its_start_or_as_one(chain, size):
    """One step without noise from ᾱ = ½: x_0 = (x + s/2) √2, here as many times x as we like."""
    x, bar = torch.full((3, 2), size).double(), torch.tensor([0.5]).double()

    def end(times):
        score = lambda x, t: 2 * (times / 2**0.5 - 1) * x  # noqa: E731
        return chain(score, x, bar)

    far = 1e5 * max(1, 1 / size)
    torch.testing.assert_close(end(0.99 * far), 0.99 * far * x, rtol=1e-9, atol=0)
    with pytest.raises(FloatingPointError, match="diverged by t = 1, a step of beta = 0.5"):
        end(1.01 * far)
