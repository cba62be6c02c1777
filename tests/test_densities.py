"""Densities against torch.distributions, quadrature, finite differences and sampling."""

import numpy as np
import pytest
import scipy.integrate
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from sbm_lite.calculus import jacobian
from sbm_lite.densities import (
    Banana,
    Density,
    GaussianMixture,
    gaussian,
    kernel_density,
    ring,
    scaled_modes,
    swiss_roll,
    two_modes,
)
from sbm_lite.diagnostics import standard_error
from sbm_lite.runtime import generator

SLANTED = [[[0.5, 0.2], [0.2, 0.4]], [[1.2, -0.3], [-0.3, 0.8]]]
LOPSIDED = GaussianMixture([0.3, 0.7], [[-1.0, 0.0], [1.0, 0.5]], SLANTED)
EVERY = {
    "lopsided": LOPSIDED,
    "two modes": two_modes(),
    "scaled modes": scaled_modes(),
    "gaussian": gaussian(0.7, dim=3),
    "ring": ring(),
    "swiss roll": swiss_roll(),
    "banana": Banana(width=1.5, bend=0.2),
    "kernel density": kernel_density(torch.tensor([[0.0, 1.0], [2.0, -1.0], [1.0, 1.0]]), 0.4),
}
each = pytest.mark.parametrize("p", EVERY.values(), ids=EVERY)
each_plane = pytest.mark.parametrize(
    "p", [p for p in EVERY.values() if p.dim == 2], ids=[k for k in EVERY if EVERY[k].dim == 2]
)


def points(p, n=200, spread=3.0, seed=0):
    return spread * torch.randn(n, p.dim, generator=generator(seed), dtype=torch.float64)


def by_torch(p):
    """The same mixture, as torch.distributions builds it."""
    return MixtureSameFamily(
        Categorical(p.weights), MultivariateNormal(p.means, covariance_matrix=p.covariances)
    )


@given(seed=st.integers(0, 10**6), k=st.integers(1, 5), d=st.integers(1, 6))
def test_any_mixture_agrees_with_torch_distributions(seed, k, d):
    rng = generator(seed)
    weights = torch.rand(k, generator=rng, dtype=torch.float64) + 0.1
    factors = torch.randn(k, d, d, generator=rng, dtype=torch.float64)
    covariances = factors @ factors.mT + 0.1 * torch.eye(d, dtype=torch.float64)
    means = torch.randn(k, d, generator=rng, dtype=torch.float64)
    p = GaussianMixture(weights / weights.sum(), means, covariances)
    x = torch.randn(20, d, generator=rng, dtype=torch.float64)
    torch.testing.assert_close(p.log_prob(x), by_torch(p).log_prob(x), rtol=1e-9, atol=1e-9)


@each
def test_score_is_the_slope_of_log_prob(p):
    x, h = points(p), 1e-5
    steps = h * torch.eye(p.dim, dtype=torch.float64)
    slope = torch.stack([(p.log_prob(x + e) - p.log_prob(x - e)) / (2 * h) for e in steps], 1)
    torch.testing.assert_close(p.score(x), slope, rtol=1e-5, atol=1e-5)


@each
def test_closed_form_score_is_that_of_autograd(p):
    x = points(p)
    torch.testing.assert_close(p.score(x), Density.score(p, x), rtol=1e-9, atol=1e-9)


@each_plane
def test_density_integrates_to_one(p):
    axis = torch.linspace(-14, 14, 281, dtype=torch.float64)
    mass = p.log_prob(torch.cartesian_prod(axis, axis)).exp().sum() * (28 / 280) ** 2
    assert abs(mass - 1) < 1e-3


@each
def test_draws_follow_the_density(p):
    """E[x·s(x)] = −d for every density (Stein), and E[s] = 0."""
    x = p.sample(20_000, generator=generator(1)).double()
    work = (x * p.score(x)).sum(1)
    assert abs(work.mean() + p.dim) < 4.5 * standard_error(work)
    for component in p.score(x).unbind(1):
        assert abs(component.mean()) < 4.5 * standard_error(component)


@each_plane
def test_draws_have_the_moments_of_the_density(p):
    axis = torch.linspace(-14, 14, 281, dtype=torch.float64)
    nodes = torch.cartesian_prod(axis, axis)
    mass = p.log_prob(nodes).exp() * (28 / 280) ** 2
    x = p.sample(20_000, generator=generator(2)).double()
    for f in (
        lambda x: x[:, 0],
        lambda x: x[:, 1],
        lambda x: x[:, 0] * x[:, 1],
        lambda x: x[:, 0] ** 2,
        lambda x: x[:, 0] ** 2 * x[:, 1],
    ):
        assert abs(f(x).mean() - mass @ f(nodes)) < 4.5 * standard_error(f(x)) + 2e-3


def test_far_away_log_prob_and_score_stay_finite_and_right():
    x = torch.tensor([[300.0, -400.0]], dtype=torch.float64)  # p(x) underflows to 0 here
    assert two_modes().log_prob(x).isfinite().all()
    torch.testing.assert_close(
        two_modes().score(x), torch.tensor([[-295.0, 405.0]]).double(), rtol=0.05, atol=0
    )
    torch.testing.assert_close(two_modes().log_prob(x), by_torch(two_modes()).log_prob(x))


def test_two_modes_is_the_running_example():
    p = two_modes()
    assert p.weights.tolist() == [0.2, 0.8] and p.means.tolist() == [[-5, -5], [5, 5]]
    assert torch.equal(p.covariances, torch.eye(2).double().expand(2, 2, 2))


def test_scaled_modes_has_variance_and_not_std_of_six_hundredths():
    p = scaled_modes()
    assert p.weights.tolist() == [0.2, 0.8] and p.means.tolist() == [[-1.2, -1.2], [1.2, 1.2]]
    torch.testing.assert_close(p.covariances, 0.06 * torch.eye(2).double().expand(2, 2, 2))


def test_isotropic_takes_standard_deviations_and_not_variances():
    p = GaussianMixture.isotropic([0.5, 0.5], [[0.0], [9.0]], [2.0, 3.0])
    assert p.covariances.flatten().tolist() == [4.0, 9.0]


def test_smoothed_is_the_law_of_x_plus_noise():
    """∫ p(y) N(x − y; 0, σ²) dy by quadrature, on the line."""
    p = GaussianMixture.isotropic([0.3, 0.7], [[-2.0], [1.0]], [0.5, 1.0])

    def smeared(x):
        density = lambda y: float(p.log_prob(torch.tensor([[y]]).double()).exp())  # noqa: E731
        noise = lambda y: np.exp(-((x - y) ** 2) / (2 * 0.6**2)) / (0.6 * np.sqrt(2 * np.pi))  # noqa: E731
        return scipy.integrate.quad(lambda y: density(y) * noise(y), -12, 12, epsabs=1e-10)[0]

    x = torch.tensor([[-2.5], [0.1], [3.0]], dtype=torch.float64)
    exact = torch.tensor([smeared(float(v)) for v in x]).double()
    torch.testing.assert_close(p.smoothed(0.6).log_prob(x).exp(), exact, rtol=1e-7, atol=0)


def test_smoothing_twice_adds_variances():
    x = points(LOPSIDED)
    twice, once = LOPSIDED.smoothed(0.3).smoothed(0.4), LOPSIDED.smoothed(0.5)
    torch.testing.assert_close(twice.score(x), once.score(x), rtol=1e-10, atol=1e-10)


def test_diffused_is_the_law_of_shrunk_x_plus_noise():
    """∫ p(y) N(x; √ᾱ y, 1 − ᾱ) dy by quadrature, on the line, at ᾱ = 0.36."""
    p = GaussianMixture.isotropic([0.3, 0.7], [[-2.0], [1.0]], [0.5, 1.0])

    def smeared(x):
        density = lambda y: float(p.log_prob(torch.tensor([[y]]).double()).exp())  # noqa: E731
        noise = lambda y: np.exp(-((x - 0.6 * y) ** 2) / 1.28) / (0.8 * np.sqrt(2 * np.pi))  # noqa: E731
        return scipy.integrate.quad(lambda y: density(y) * noise(y), -12, 12, epsabs=1e-10)[0]

    x = torch.tensor([[-2.5], [0.1], [1.4]], dtype=torch.float64)
    exact = torch.tensor([smeared(float(v)) for v in x]).double()
    torch.testing.assert_close(p.diffused(0.36).log_prob(x).exp(), exact, rtol=1e-7, atol=0)


@pytest.mark.parametrize("alpha_bar", [0.97, 0.36, 1e-4])
def test_diffused_is_smoothed_in_other_units(alpha_bar):
    """x_t/√ᾱ is x + σε with σ² = (1 − ᾱ)/ᾱ: densities by change of variables, scores by slope."""
    x, root = points(LOPSIDED), alpha_bar**0.5
    p = LOPSIDED.smoothed(((1 - alpha_bar) / alpha_bar) ** 0.5)
    diffused = LOPSIDED.diffused(alpha_bar)
    close = dict(rtol=1e-9, atol=1e-9)
    log_prob = p.log_prob(x / root) - 2 * np.log(root)
    torch.testing.assert_close(diffused.log_prob(x), log_prob, **close)
    torch.testing.assert_close(diffused.score(x), p.score(x / root) / root, **close)


def test_diffusing_twice_multiplies_what_is_left():
    x = points(LOPSIDED)
    twice, once = LOPSIDED.diffused(0.8).diffused(0.45), LOPSIDED.diffused(0.36)
    torch.testing.assert_close(twice.score(x), once.score(x), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(twice.log_prob(x), once.log_prob(x), rtol=1e-10, atol=1e-10)


def test_a_standard_normal_stays_itself_when_diffused():
    p = gaussian(dim=3).diffused(0.3)
    torch.testing.assert_close(p.covariances[0], torch.eye(3).double())
    assert torch.equal(p.means, torch.zeros(1, 3).double())


def normal(x, mean, sigma):
    """log N(x; mean, σ²I) by torch.distributions."""
    return torch.distributions.Normal(mean, sigma).log_prob(x).sum(1)


NOISY = {"between": [0.2, -0.4], "inside": [1.0, 0.5], "far away": [-9.0, 7.0]}
each_noisy = pytest.mark.parametrize("x_noisy", NOISY.values(), ids=NOISY)
each_sigma = pytest.mark.parametrize("sigma", [0.05, 0.6, 5.0])


@each_noisy
@each_sigma
def test_posterior_is_the_rule_of_bayes(x_noisy, sigma):
    """log p(x | x̃) = log p(x) + log q(x̃ | x) − log p_σ(x̃), at points where it is not tiny."""
    at = torch.tensor([x_noisy], dtype=torch.float64)
    posterior = LOPSIDED.posterior(at[0], sigma)
    x = posterior.sample(50, generator=generator(5)).double()
    bayes = LOPSIDED.log_prob(x) + normal(at, x, sigma) - LOPSIDED.smoothed(sigma).log_prob(at)
    torch.testing.assert_close(posterior.log_prob(x), bayes, rtol=1e-9, atol=1e-8)


def test_posterior_by_quadrature():
    """Both sides of Bayes on a grid, the evidence too; no smoothed mixture in sight."""
    axis = torch.linspace(-7, 8, 601, dtype=torch.float64)
    x, at = torch.cartesian_prod(axis, axis), torch.tensor([[0.2, -0.4]], dtype=torch.float64)
    joint = (LOPSIDED.log_prob(x) + normal(at, x, 0.6)).exp()
    evidence = joint.sum() * (15 / 600) ** 2
    posterior = LOPSIDED.posterior(at[0], 0.6)
    torch.testing.assert_close(posterior.log_prob(x).exp(), joint / evidence, rtol=1e-8, atol=1e-10)
    mean = (joint @ x) / joint.sum()
    torch.testing.assert_close(posterior.weights @ posterior.means, mean, rtol=1e-8, atol=1e-8)


@each_noisy
@each_sigma
def test_mean_of_the_posterior_is_the_formula_of_tweedie(x_noisy, sigma):
    at = torch.tensor([x_noisy], dtype=torch.float64)
    posterior = LOPSIDED.posterior(at[0], sigma)
    tweedie = at + sigma**2 * LOPSIDED.smoothed(sigma).score(at)
    mean = (posterior.weights @ posterior.means)[None]
    torch.testing.assert_close(mean, tweedie, rtol=1e-8, atol=1e-8)


@each_sigma
def test_spread_of_the_posterior_is_the_slope_of_its_mean(sigma):
    """Cov(x | x̃) = σ²(I + σ² ∇s(x̃)): the slope of Tweedie's formula, times σ²."""
    at = torch.tensor([[0.2, -0.4]], dtype=torch.float64)
    p = LOPSIDED.posterior(at[0], sigma)
    off = p.means - p.weights @ p.means
    spreads = p.covariances + off[:, :, None] * off[:, None]
    spread = torch.einsum("k,kij->ij", p.weights, spreads)
    slope = torch.eye(2) + sigma**2 * jacobian(LOPSIDED.smoothed(sigma).score, at)[0]
    torch.testing.assert_close(spread, sigma**2 * slope, rtol=1e-7, atol=1e-7)


def test_posterior_of_a_gaussian_is_the_precision_weighted_mean():
    p = gaussian(2.0).posterior([5.0, -5.0], 1.0)
    torch.testing.assert_close(p.means, torch.tensor([[4.0, -4.0]]).double())
    torch.testing.assert_close(p.covariances[0], 0.8 * torch.eye(2).double())


def test_posterior_knows_the_points_of_a_data_set():
    """Almost no noise: the clean point is the nearest one; much: it may be any."""
    data = torch.tensor([[0.0, 1.0], [2.0, -1.0], [1.0, 1.0]])
    p = kernel_density(data, 1e-3)
    near, far = (p.posterior([1.1, 0.9], sigma) for sigma in (0.05, 1e4))
    assert len(near.weights) == 1
    torch.testing.assert_close(near.means, torch.tensor([[1.0, 1.0]]).double(), rtol=0, atol=1e-3)
    torch.testing.assert_close(far.weights, torch.full((3,), 1 / 3).double())


def test_posterior_keeps_a_rare_component_and_drops_an_impossible_one():
    """The far mode of two_modes: e^(−15)/4 as likely at (1.5, 1.5), e^(−90)/4 at (9, 9)."""
    rare = two_modes().posterior([1.5, 1.5], 1.0).weights
    assert float(rare[0] / rare[1]) == pytest.approx(np.exp(-15) / 4, rel=1e-9)
    assert two_modes().posterior([9.0, 9.0], 1.0).weights.tolist() == [1.0]


@pytest.mark.parametrize("sigma", [1e-6, 1e6])
def test_posterior_stays_whole_at_extreme_noise(sigma):
    x_noisy = torch.tensor([1.0, 0.5])
    p = LOPSIDED.posterior(x_noisy, sigma)
    mean = p.weights @ p.means
    expected = x_noisy if sigma < 1 else LOPSIDED.weights @ LOPSIDED.means
    torch.testing.assert_close(mean, expected.double(), rtol=0, atol=1e-5)


def test_noisy_point_may_be_a_list_or_of_any_dtype():
    same = [LOPSIDED.posterior(x, 0.5).means for x in ([1, 2], torch.tensor([1.0, 2.0]))]
    assert torch.equal(*same)


def test_slanted_components_are_drawn_with_their_own_covariance():
    x = LOPSIDED.sample(50_000, generator=generator(3)).double()
    w, m, c = LOPSIDED.weights, LOPSIDED.means, LOPSIDED.covariances
    exact = torch.einsum("k,kij->ij", w, c + m[:, :, None] * m[:, None])
    for i, j in ((0, 0), (0, 1), (1, 1)):
        product = x[:, i] * x[:, j]
        assert abs(product.mean() - exact[i, j]) < 4.5 * standard_error(product)


def test_ring_lies_on_its_circle_evenly():
    p = ring(radius=3.0, std=0.2, n_components=12)
    torch.testing.assert_close(p.means.norm(dim=1), torch.full((12,), 3.0).double())
    neighbours = (p.means - p.means.roll(1, 0)).norm(dim=1)
    torch.testing.assert_close(neighbours, torch.full((12,), 6 * np.sin(np.pi / 12)).double())


def test_swiss_roll_runs_from_radius_one_to_six_at_an_even_pace():
    p = swiss_roll(turns=2.0, n_components=100)
    radius = p.means.norm(dim=1)
    assert abs(radius[0] - 1) < 0.01 and abs(radius[-1] - 6) < 0.01
    assert (radius.diff() > 0).all()
    gaps = p.means.diff(dim=0).norm(dim=1)
    assert gaps.max() / gaps.min() < 1.1
    angle = torch.atan2(p.means[:, 1], p.means[:, 0])
    turned = torch.remainder(angle.diff() + torch.pi, 2 * torch.pi) - torch.pi
    assert abs(turned.sum() - 2 * torch.pi * 2.0) < 0.01


def test_banana_log_prob_from_its_two_normals():
    p, x = Banana(width=1.5, bend=-0.4, thickness=0.9), points(EVERY["banana"])
    first = torch.distributions.Normal(torch.tensor(0.0).double(), 1.5)
    second = torch.distributions.Normal(-0.4 * (x[:, 0] ** 2 - 1.5**2), 0.9)
    exact = first.log_prob(x[:, 0]) + second.log_prob(x[:, 1])
    torch.testing.assert_close(p.log_prob(x), exact, rtol=1e-12, atol=1e-12)


def test_kernel_density_is_the_average_of_its_kernels():
    data, x = torch.randn(7, 3, generator=generator(4)).double(), torch.zeros(1, 3).double()
    kernels = torch.distributions.Normal(data, 0.3).log_prob(x).sum(1).exp()
    p = kernel_density(data, 0.3)
    torch.testing.assert_close(p.log_prob(x).exp(), kernels.mean()[None])


@each
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_results_have_the_dtype_of_x(p, dtype):
    x = points(p).to(dtype)
    assert p.log_prob(x).dtype == p.score(x).dtype == dtype
    torch.testing.assert_close(p.score(x).double(), p.score(x.double()), rtol=2e-3, atol=2e-3)


def test_means_may_be_lists_or_float32_tensors():
    x = points(LOPSIDED)
    same = GaussianMixture(LOPSIDED.weights, LOPSIDED.means.float(), SLANTED)
    assert torch.equal(same.score(x), LOPSIDED.score(x))


def test_a_density_of_ones_own_needs_no_score():
    class Laplace(Density):
        dim = 1

        def sample(self, n, *, generator=None):
            raise NotImplementedError

        def log_prob(self, x):
            return -x.abs().sum(1) - np.log(2)

    x = torch.tensor([[-2.0], [3.0]])
    assert Laplace().score(x).tolist() == [[1.0], [-1.0]]


def test_banana_draws_unbend_to_two_normals():
    """x₁/a and (x₂ − b(x₁² − a²))/c, with the default a, b, c, pass for standard normals."""
    x1, x2 = Banana().sample(20_000, generator=generator(0)).double().unbind(1)
    for z in (x1 / 2, (x2 - 0.5 * (x1**2 - 4)) / 0.7):
        assert scipy.stats.kstest(z.numpy(), "norm").pvalue > 1e-4


def test_ring_and_swiss_roll_as_the_book_draws_them():
    p = ring()
    assert p.means.shape == (48, 2) and torch.allclose(p.means.norm(dim=1), p.means.new_tensor(5.0))
    assert torch.allclose(p.covariances, 0.6**2 * torch.eye(2).double().expand(48, 2, 2))
    q = swiss_roll()
    assert torch.equal(q.means, swiss_roll(turns=1.5, n_components=80).means)
    assert torch.allclose(q.covariances, 0.35**2 * torch.eye(2).double().expand(80, 2, 2))


def test_a_density_of_ones_own_refuses_points_of_another_dimension():
    class Flat(Density):
        dim = 2

        def sample(self, n, *, generator=None):
            raise NotImplementedError

        def log_prob(self, x):
            return 0 * x.sum(1)

    with pytest.raises(ValueError, match="x must have 2 coordinates per point, got 3"):
        Flat().score(torch.zeros(4, 3))


ALIKE = {
    "two modes": two_modes(),
    "ring": ring(),
    "swiss roll": swiss_roll(),
    "one": gaussian(0.7, dim=3),
    "slanted, off centre": GaussianMixture(
        [0.2, 0.5, 0.3], [[3.0, 1.0], [4.0, -1.0], [7.0, 2.0]], SLANTED[:1] * 3
    ),
    "many pixels": kernel_density(torch.rand(30, 64, generator=generator(3)), 0.3),
}


@pytest.mark.parametrize("p", ALIKE.values(), ids=ALIKE)
@pytest.mark.parametrize("at_once", [7, 2**18])
def test_score_of_components_of_one_shape_is_the_plain_one(monkeypatch, p, at_once):
    monkeypatch.setattr("sbm_lite.densities.NUMBERS_AT_ONCE", at_once)
    x = 2 * p.sample(50, generator=generator(1)).double()
    torch.testing.assert_close(p.score(x), p._score_by_components(x), rtol=1e-11, atol=1e-11)


def test_straight_lines_are_taken_for_one_shape_and_for_no_other(monkeypatch):
    """Both ways are right; the one for shapes that differ would be wrong on the short one."""
    lines = torch.full((1, 2), 123.0)
    monkeypatch.setattr(GaussianMixture, "_score_of_alike", lambda self, x: lines)
    x = torch.zeros(1, 2)
    assert two_modes().score(x) is lines
    assert LOPSIDED.score(x) is not lines
    round_but_unlike = GaussianMixture.isotropic([0.5, 0.5], [[0.0, 0.0], [1.0, 0.0]], [1.0, 2.0])
    assert round_but_unlike.score(x) is not lines


@pytest.mark.parametrize("std", [0.3, 0.01, 0.001])
def test_score_among_far_narrow_components_does_not_drown_in_rounding(std):
    """Between two means 20 apart, where slopes of 10/std² cancel, float32 beside float64."""
    p = GaussianMixture.isotropic([0.4, 0.6], [[90.0, 10.0], [100.0, 10.0]], std)
    x = p.means + std * torch.tensor([[1.0, -0.5], [0.3, 1.0]])
    exact = p._score_by_components(x.float().double())
    torch.testing.assert_close(p.score(x.float()).double(), exact, rtol=1e-5, atol=1e-5 / std)


def test_means_that_are_learned_have_their_gradient_at_every_step():
    means = torch.tensor([[0.0, 0.0], [3.0, 1.0]], dtype=torch.float64, requires_grad=True)
    p, x = GaussianMixture.isotropic([0.5, 0.5], means, 1.0), torch.ones(1, 2).double()
    first, second = (torch.autograd.grad(p.score(x).sum(), means)[0] for _ in range(2))
    assert torch.equal(first, second)
    shift = torch.tensor([[1e-6, 0.0], [0.0, 0.0]], dtype=torch.float64)
    up, down = (
        GaussianMixture.isotropic([0.5, 0.5], means.detach() + sign * shift, 1.0).score(x).sum()
        for sign in (1, -1)
    )
    torch.testing.assert_close((up - down) / 2e-6, first[0, 0], rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", ["slanted, off centre", "many pixels"])
def test_draws_of_components_of_one_shape_are_the_plain_ones(monkeypatch, name):
    p = ALIKE[name]
    short = p.sample(200, generator=generator(5))
    monkeypatch.setattr(p, "_alike", False)
    torch.testing.assert_close(short, p.sample(200, generator=generator(5)))


def test_a_mixture_of_unlike_shapes_is_scored_in_parts_too(monkeypatch):
    x = LOPSIDED.sample(50, generator=generator(1)).double()
    whole = LOPSIDED._score_by_components(x)
    monkeypatch.setattr("sbm_lite.densities.NUMBERS_AT_ONCE", 4 * 7)
    torch.testing.assert_close(LOPSIDED.score(x), whole)


@pytest.mark.parametrize("far", [0.0, 100.0, 1_000.0])
def test_a_mixture_far_from_the_origin_is_as_exact_as_one_at_it(far):
    """Moved by `far`, two components one apart pull as before, in single precision too."""
    near = GaussianMixture.isotropic([0.3, 0.7], [[0.0, 0.0], [1.0, 0.0]], 0.25)
    moved = GaussianMixture.isotropic([0.3, 0.7], [[far, 0.0], [1.0 + far, 0.0]], 0.25)
    x = torch.linspace(-0.5, 1.5, 65)[:, None].expand(-1, 2)  # multiples of 1/32, exact out there
    shift = torch.tensor([far, 0.0])
    torch.testing.assert_close(moved.score(x + shift), near.score(x), rtol=1e-3, atol=1e-3)
