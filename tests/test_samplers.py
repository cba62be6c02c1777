"""Samplers against hand-written loops, closed forms and quadrature."""

import numpy as np
import pytest
import scipy.integrate
import torch

from sbm_lite.densities import GaussianMixture, gaussian, two_modes
from sbm_lite.runtime import generator
from sbm_lite.samplers import langevin, langevin_path, langevin_step, mala

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
