"""Noise kernels against torch.distributions, autograd and quadrature; the names of one score."""

import pytest
import scipy.integrate
import scipy.stats
import torch
from torch import distributions as law

from sbm_lite.calculus import jacobian
from sbm_lite.densities import GaussianMixture
from sbm_lite.diagnostics import standard_error
from sbm_lite.noise import (
    Gaussian,
    Laplace,
    Mixture,
    denoised_from_score,
    epsilon_from_score,
    score_from_denoised,
    score_from_epsilon,
)
from sbm_lite.runtime import generator

WEIGHTS, SIGMAS = torch.tensor([0.3, 0.7]).double(), torch.tensor([0.4, 1.5]).double()
KERNELS = {  # kernel, and the same law of x̃ given x as torch.distributions builds it
    "Gaussian": (Gaussian(0.6), lambda x: law.Independent(law.Normal(x, 0.6), 1)),
    "Laplace": (Laplace(0.6), lambda x: law.Independent(law.Laplace(x, 0.6), 1)),
    "Mixture": (
        Mixture(WEIGHTS, SIGMAS),
        lambda x: law.MixtureSameFamily(
            law.Categorical(WEIGHTS.expand(len(x), 2)),
            law.MultivariateNormal(
                x[:, None].expand(-1, 2, -1),
                SIGMAS[:, None, None] ** 2 * torch.eye(x.shape[1]).double(),
            ),
        ),
    ),
}
MOMENTS = {  # E[u₁²], E[u₁⁴], E[u₁²u₂²]: the last tells shared scales from independent coordinates
    "Gaussian": (0.6**2, 3 * 0.6**4, 0.6**4),
    "Laplace": (2 * 0.6**2, 24 * 0.6**4, 4 * 0.6**4),
    "Mixture": tuple(float(WEIGHTS @ SIGMAS**k) * c for k, c in ((2, 1), (4, 3), (4, 1))),
}
each = pytest.mark.parametrize(("kernel", "by_torch"), KERNELS.values(), ids=KERNELS)
each_kernel = pytest.mark.parametrize("kernel", [k for k, _ in KERNELS.values()], ids=KERNELS)


def pair(n=50, d=3):
    """Clean and noisy points, far and near, with no relation to any kernel."""
    x = torch.randn(n, d, generator=generator(0), dtype=torch.float64)
    return x, x + 1.5 * torch.randn(n, d, generator=generator(1), dtype=torch.float64)


def noise_of(kernel, n=40_000, d=2):
    x = 3 * torch.randn(n, d, generator=generator(2), dtype=torch.float64)
    return kernel.sample(x, generator=generator(3)) - x


# log q(x̃ | x)


@each
def test_log_prob_is_that_of_torch_distributions(kernel, by_torch):
    x, x_noisy = pair()
    exact = by_torch(x).log_prob(x_noisy)
    torch.testing.assert_close(kernel.log_prob(x_noisy, x), exact, rtol=1e-12, atol=1e-12)


@each_kernel
def test_density_on_the_line_integrates_to_one(kernel):
    here = torch.tensor([[0.8]]).double()
    q = lambda y: float(kernel.log_prob(torch.tensor([[y]]).double(), here).exp())  # noqa: E731
    mass, _ = scipy.integrate.quad(q, -15, 17, points=[0.8], epsabs=1e-10, limit=200)
    assert abs(mass - 1) < 1e-8


@each_kernel
def test_density_in_the_plane_integrates_to_one(kernel):
    axis = torch.linspace(-12, 12, 601, dtype=torch.float64)
    nodes = torch.cartesian_prod(axis, axis)
    mass = kernel.log_prob(nodes, torch.zeros_like(nodes)).exp().sum() * (24 / 600) ** 2
    assert abs(mass - 1) < 1e-3


# The target


@each_kernel
def test_target_is_the_slope_of_log_prob_in_the_noisy_point(kernel):
    x, x_noisy = pair()
    x_noisy.requires_grad_()
    (slope,) = torch.autograd.grad(kernel.log_prob(x_noisy, x).sum(), x_noisy)
    torch.testing.assert_close(kernel.target_score(x_noisy, x).detach(), slope)


@each_kernel
def test_target_is_the_slope_by_finite_differences(kernel):
    x, x_noisy = pair()
    h = 1e-6 * torch.eye(3).double()
    rise = [kernel.log_prob(x_noisy + e, x) - kernel.log_prob(x_noisy - e, x) for e in h]
    slope = torch.stack(rise, 1) / 2e-6
    torch.testing.assert_close(kernel.target_score(x_noisy, x), slope, rtol=1e-6, atol=1e-6)


@each_kernel
def test_target_points_back_to_the_clean_point(kernel):
    x, x_noisy = pair()
    assert (kernel.target_score(x_noisy, x) * (x - x_noisy) > 0).all()


def test_targets_worked_out_on_paper():
    x, x_noisy = torch.tensor([[1.0, 2.0]]).double(), torch.tensor([[2.0, 0.0]]).double()
    of = lambda kernel: kernel.target_score(x_noisy, x).tolist()[0]  # noqa: E731
    assert of(Gaussian(0.5)) == [-4.0, 8.0]  # −u/σ², u = (1, −2)
    assert of(Laplace(0.5)) == [-2.0, 2.0]  # −sign(u)/b
    # ‖u‖² = 5, so the joint densities of σ = 1 and 2 are as e^(−5/2) to e^(−5/8)/4
    near, far = torch.tensor([-5 / 2, -5 / 8]).double().exp() * torch.tensor([1, 0.25])
    pull = float((near + far / 4) / (near + far))
    assert of(Mixture([0.5, 0.5], [1.0, 2.0])) == pytest.approx([-pull, 2 * pull], rel=1e-12)


def test_target_of_laplace_has_one_length():
    x, x_noisy = pair()
    length = Laplace(0.6).target_score(x_noisy, x).norm(dim=1)
    torch.testing.assert_close(length, torch.full((50,), 3**0.5 / 0.6).double())


def test_a_mixture_of_one_is_the_gaussian():
    x, x_noisy = pair()
    one = Mixture([1.0], [0.6])
    for f in ("log_prob", "target_score"):
        ours, exact = (getattr(k, f)(x_noisy, x) for k in (one, Gaussian(0.6)))
        torch.testing.assert_close(ours, exact, rtol=1e-12, atol=1e-12)


def test_target_of_a_mixture_trusts_the_small_blow_near_and_the_large_one_far():
    x = torch.zeros(2, 2).double()
    x_noisy = torch.tensor([[1e-3, 0.0], [300.0, 400.0]]).double()  # the second underflows in q
    kernel = Mixture([0.5, 0.5], [0.1, 10.0])
    assert kernel.log_prob(x_noisy, x).isfinite().all()
    strength = -kernel.target_score(x_noisy, x)[:, 0] / x_noisy[:, 0]
    torch.testing.assert_close(strength, torch.tensor([100.0, 0.01]).double(), rtol=1e-3, atol=0)


# Samples


@each
def test_noise_has_the_moments_of_its_law(kernel, by_torch, request):
    u = noise_of(kernel)
    name = request.node.callspec.id
    second, fourth, both = MOMENTS[name]
    assert by_torch(u[:1]).variance[0, 0].item() == pytest.approx(second)
    for values, expected in (
        (u[:, 0], 0),
        (u[:, 1], 0),
        (u[:, 0] ** 2, second),
        (u[:, 1] ** 2, second),
        (u[:, 0] * u[:, 1], 0),
        (u[:, 0] ** 4, fourth),
        (u[:, 0] ** 2 * u[:, 1] ** 2, both),
        (u[:-1, 0] * u[1:, 0], 0),
    ):
        assert abs(values.mean() - expected) < 4.5 * standard_error(values)


@each
def test_noise_has_the_distribution_function_of_its_law(kernel, by_torch, request):
    names = {
        "Gaussian": scipy.stats.norm(0, 0.6).cdf,
        "Laplace": scipy.stats.laplace(0, 0.6).cdf,
        "Mixture": lambda u: 0.3 * scipy.stats.norm(0, 0.4).cdf(u)
        + 0.7 * scipy.stats.norm(0, 1.5).cdf(u),
    }
    u = noise_of(kernel)[:, 0].numpy()
    assert scipy.stats.kstest(u, names[request.node.callspec.id]).pvalue > 1e-4


@each_kernel
def test_targets_at_samples_have_mean_zero_and_do_the_work_of_stein(kernel):
    """E[t] = 0 and E[t·u] = −d, since t is the score of the noise."""
    u = noise_of(kernel)
    target = kernel.target_score(u, torch.zeros_like(u))
    for values, expected in (*((t, 0) for t in target.unbind(1)), ((target * u).sum(1), -2)):
        assert abs(values.mean() - expected) < 4.5 * standard_error(values)


@each_kernel
def test_a_noisy_point_is_its_clean_point_plus_noise(kernel):
    """The same stream gives the same noise, wherever the clean points are."""
    x, _ = pair()
    shift = kernel.sample(x + 7, generator=generator(4)) - kernel.sample(x, generator=generator(4))
    torch.testing.assert_close(shift, torch.full_like(x, 7.0))


@each_kernel
def test_gradients_pass_through_the_noise(kernel):
    x = torch.zeros(3, 2, requires_grad=True)
    kernel.sample(x, generator=generator(5)).sum().backward()
    assert torch.equal(x.grad, torch.ones(3, 2))


# The identity that makes denoising score matching work

P = GaussianMixture.isotropic([0.3, 0.7], [[-1.5], [1.0]], [0.3, 0.7])
NODES = (torch.arange(-12_000, 12_000, dtype=torch.float64)[:, None] + 0.5) / 1000


def joint(kernel, x_noisy):
    """p(x) q(x̃ | x) on the nodes."""
    at = torch.full_like(NODES, x_noisy)
    return (P.log_prob(NODES) + kernel.log_prob(at, NODES)).exp()


@each_kernel
@pytest.mark.parametrize("x_noisy", [-2.0, 0.1, 2.7])
def test_the_mean_target_given_the_noisy_point_is_the_score_of_the_noisy_data(kernel, x_noisy):
    mass, h = joint(kernel, x_noisy), 1e-3  # the spacing of the nodes: kinks fall midway
    target = kernel.target_score(torch.full_like(NODES, x_noisy), NODES)[:, 0]
    mean = (mass @ target) / mass.sum()
    log_p = [joint(kernel, x_noisy + k * h).sum().log() for k in (-2, -1, 1, 2)]
    slope = (log_p[0] - 8 * log_p[1] + 8 * log_p[2] - log_p[3]) / (12 * h)
    assert abs(mean - slope) < 1e-5
    if isinstance(kernel, Gaussian):
        at = torch.tensor([[x_noisy]], dtype=torch.float64)
        assert abs(mean - P.smoothed(0.6).score(at)) < 1e-9


# One score, many names


@pytest.mark.parametrize("sigma", [0.3, torch.tensor([0.2, 0.5, 3.0])], ids=["one", "each"])
def test_names_of_one_score(sigma):
    s, x = pair(3, 2)
    column = torch.as_tensor(sigma, dtype=torch.float64).reshape(-1, 1)
    close = lambda a, b: torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)  # noqa: E731
    close(score_from_epsilon(s, sigma), -s / column)
    close(epsilon_from_score(s, sigma), -column * s)
    close(score_from_denoised(x, s, sigma), (s - x) / column**2)
    close(denoised_from_score(x, s, sigma), x + column**2 * s)
    close(score_from_epsilon(epsilon_from_score(s, sigma), sigma), s)
    close(score_from_denoised(x, denoised_from_score(x, s, sigma), sigma), s)


def test_noise_less_its_scale_is_the_denoised_point():
    """x̃ = x + σε: with the true noise in hand, all four names lead back to x."""
    x, epsilon = pair(3, 2)
    x_noisy, s = x + 0.3 * epsilon, score_from_epsilon(epsilon, 0.3)
    torch.testing.assert_close(denoised_from_score(x_noisy, s, 0.3), x)
    torch.testing.assert_close(s, Gaussian(0.3).target_score(x_noisy, x))


@pytest.mark.parametrize("x_noisy", [-2.0, 0.1, 2.7])
def test_tweedie_is_the_mean_of_the_clean_points(x_noisy):
    """E[x | x̃] by quadrature, and E[ε | x̃] with it."""
    mass, at = joint(Gaussian(0.6), x_noisy), torch.tensor([[x_noisy]], dtype=torch.float64)
    mean = (mass @ NODES[:, 0]) / mass.sum()
    s = P.smoothed(0.6).score(at)
    assert abs(denoised_from_score(at, s, 0.6) - mean) < 1e-9
    assert abs(epsilon_from_score(s, 0.6) - (x_noisy - mean) / 0.6) < 1e-9


def test_the_slope_of_tweedie_is_the_spread_of_the_clean_points():
    """∂E[x | x̃]/∂x̃ = Var(x | x̃)/σ²."""
    at, mass = torch.tensor([[0.1]], dtype=torch.float64), joint(Gaussian(0.6), 0.1)
    clean = NODES[:, 0]
    variance = (mass @ clean**2) / mass.sum() - ((mass @ clean) / mass.sum()) ** 2
    slope = jacobian(lambda y: denoised_from_score(y, P.smoothed(0.6).score(y), 0.6), at)
    assert abs(slope - variance / 0.6**2) < 1e-8
