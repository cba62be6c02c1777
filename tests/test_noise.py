"""Noise kernels against torch.distributions, autograd and quadrature; ladders; names of a score."""

import math

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
    alpha_bar_at,
    alpha_bar_from_sigma,
    alpha_bars,
    cosine_betas,
    denoised_from_score,
    epsilon_from_score,
    epsilon_from_v,
    geometric_sigmas,
    linear_betas,
    score_from_denoised,
    score_from_epsilon,
    sigma_from_alpha_bar,
    v_from_epsilon,
    ve_score,
    vp_score,
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
        "Mixture": lambda u: (
            0.3 * scipy.stats.norm(0, 0.4).cdf(u) + 0.7 * scipy.stats.norm(0, 1.5).cdf(u)
        ),
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


def test_gaussian_noise_is_sigma_times_the_stream():
    x, _ = pair()
    z = torch.randn(x.shape, generator=generator(4), dtype=x.dtype)
    assert torch.equal(Gaussian(0.5).sample(x, generator=generator(4)), x + 0.5 * z)


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


# Ladders of levels and schedules of steps

EXACT = dict(rtol=1e-11, atol=1e-11)


def numbers(values):
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize(("first", "last", "n"), [(20, 1, 10), (1.0, 0.01, 2), (50.0, 0.1, 231)])
def test_a_geometric_ladder_falls_by_one_factor_from_first_to_last(first, last, n):
    sigmas = geometric_sigmas(first, last, n)
    assert sigmas.shape == (n,) and sigmas.dtype == torch.float64
    by_hand = [first * (last / first) ** (i / (n - 1)) for i in range(n)]
    torch.testing.assert_close(sigmas, numbers(by_hand), rtol=1e-12, atol=0)
    assert bool((sigmas.diff() < 0).all())


def test_linear_betas_are_those_of_the_paper():
    """β₁ = 10⁻⁴ to β₁₀₀₀ = 0.02 in equal steps leave 4.04e-5 of the signal's power."""
    betas = linear_betas()
    by_hand = [1e-4 + (t - 1) / 999 * (0.02 - 1e-4) for t in range(1, 1001)]
    torch.testing.assert_close(betas, numbers(by_hand), **EXACT)
    assert math.exp(sum(math.log1p(-b) for b in by_hand)) == pytest.approx(4.04e-5, abs=5e-8)
    assert alpha_bars(betas)[-1].item() == pytest.approx(4.04e-5, abs=5e-8)
    sigmas = sigma_from_alpha_bar(alpha_bars(betas))
    assert sigmas[0].item() == pytest.approx(0.0100005, rel=1e-6)
    assert sigmas[-1].item() == pytest.approx(157.4, abs=0.05)
    assert linear_betas(5, 0.1, 0.5).tolist() == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])


@pytest.mark.parametrize("n", [10, 1000])
def test_cosine_betas_make_the_signal_fall_along_a_squared_cosine(n):
    bars = alpha_bars(cosine_betas(n))
    f = [math.cos((t / n + 0.008) / 1.008 * math.pi / 2) ** 2 for t in range(n + 1)]
    expected = numbers([f[t] / f[0] for t in range(1, n)])
    torch.testing.assert_close(bars[:-1], expected, rtol=1e-9, atol=0)
    assert (bars[-1] / bars[-2]).item() == pytest.approx(1e-3)  # the last β is cut to 0.999
    assert cosine_betas(n).dtype == torch.float64 and len(cosine_betas()) == 1000


def test_alpha_bar_is_the_product_of_all_steps_so_far():
    """1 − 0.1 is left after one step, (1 − 0.1)(1 − 0.2) after two."""
    bars = alpha_bars(numbers([0.1, 0.2, 0.5]))
    assert bars.tolist() == pytest.approx([0.9, 0.72, 0.36], rel=1e-14)


def test_steps_of_noise_taken_one_by_one_add_up_to_alpha_bar():
    """x_t = √(1 − β_t) x_(t−1) + √β_t z: mean factor √ᾱ_t and variance 1 − ᾱ_t, by recursion."""
    betas = linear_betas(50, 1e-3, 0.3)
    factor, variance = 1.0, 0.0
    for beta, bar in zip(betas.tolist(), alpha_bars(betas).tolist(), strict=True):
        factor, variance = (1 - beta) ** 0.5 * factor, (1 - beta) * variance + beta
        assert bar**0.5 == pytest.approx(factor, rel=1e-12)
        assert 1 - bar == pytest.approx(variance, rel=1e-12)


BARS = alpha_bars(linear_betas(20, 0.01, 0.4))


def test_steps_count_from_one():
    x = torch.zeros(3, 2).double()
    assert alpha_bar_at(BARS, 1, x) == BARS[0] and alpha_bar_at(BARS, 20, x) == BARS[19]
    assert alpha_bar_at(BARS, 7, x).shape == ()
    column = alpha_bar_at(BARS, torch.tensor([1, 20, 7]), x)
    assert column.tolist() == [[float(BARS[0])], [float(BARS[19])], [float(BARS[6])]]
    assert alpha_bar_at(BARS, torch.tensor(7), x) == BARS[6]
    assert alpha_bar_at(BARS, torch.tensor([7]), x[:1]).tolist() == [[float(BARS[6])]]


@pytest.mark.parametrize("kind", [torch.uint8, torch.int16, torch.int32])
def test_steps_of_any_integer_type_are_steps(kind):
    x = torch.zeros(3, 2).double()
    column = alpha_bar_at(BARS, torch.tensor([1, 2, 1], dtype=kind), x)
    assert column.flatten().tolist() == [float(BARS[0]), float(BARS[1]), float(BARS[0])]


# Two coordinate systems of one process

P2 = GaussianMixture(
    [0.3, 0.7], [[-1.0, 0.0], [1.0, 0.5]], [[[0.5, 0.2], [0.2, 0.4]], [[1.2, -0.3], [-0.3, 0.8]]]
)


def each_row(f, x, conditions):
    """f(one point, its number), point by point."""
    return torch.cat([f(x[n : n + 1], c) for n, c in enumerate(conditions)])


def of_levels(x, sigma):
    """The exact VE score of P2, built from convolutions alone."""
    sigmas = torch.as_tensor(sigma, dtype=torch.float64).expand(len(x)).tolist()
    return each_row(lambda x, s: P2.smoothed(s).score(x), x, sigmas)


def of_steps(x, t):
    """The exact VP score of P2: the slope of log p_t, its components written out by hand."""
    steps = torch.as_tensor(t).expand(len(x)).tolist()

    def one(x, t):
        bar = float(BARS[t - 1])
        covariances = bar * P2.covariances + (1 - bar) * torch.eye(2).double()
        return GaussianMixture(P2.weights, bar**0.5 * P2.means, covariances).score(x)

    return each_row(one, x, steps)


T = torch.tensor([1, 20, 7, 7, 13])
SIGMA_T = numbers([((1 - b) / b) ** 0.5 for b in BARS[T - 1].tolist()])


def test_sigma_and_alpha_bar_are_one_number():
    """ᾱ = ½ is σ = 1, ᾱ = 1/5 is σ = 2: signal and noise in the ratio 1 : σ."""
    bar = numbers([0.5, 0.2, 0.1])
    torch.testing.assert_close(sigma_from_alpha_bar(bar), numbers([1, 2, 3]))
    torch.testing.assert_close(alpha_bar_from_sigma(numbers([1, 2, 3])), bar)
    torch.testing.assert_close(alpha_bar_from_sigma(sigma_from_alpha_bar(BARS)), BARS, **EXACT)


@pytest.mark.parametrize("bad", [0.0, 1.0, -0.5, 1.5])
def test_alpha_bar_is_between_zero_and_one(bad):
    with pytest.raises(ValueError, match=r"^alpha_bar must be within \(0, 1\)$"):
        sigma_from_alpha_bar(numbers([0.5, bad]))


@pytest.mark.parametrize("bad", [0.0, -0.5])
def test_sigma_is_positive_everywhere(bad):
    with pytest.raises(ValueError, match="^sigma must be > 0 everywhere$"):
        alpha_bar_from_sigma(numbers([0.5, bad]))


def test_vp_score_of_the_exact_levels_is_the_exact_score_of_the_steps():
    x = pair(5, 2)[1]
    vp = vp_score(of_levels, BARS)
    torch.testing.assert_close(vp(x, T), of_steps(x, T), rtol=1e-10, atol=1e-10)
    for t in (1, 9, torch.tensor(20)):
        torch.testing.assert_close(vp(x, t), of_steps(x, t), rtol=1e-10, atol=1e-10)


def test_ve_score_of_the_exact_steps_is_the_exact_score_of_the_levels():
    x = 3 * pair(5, 2)[1]
    ve = ve_score(of_steps, BARS)
    torch.testing.assert_close(ve(x, SIGMA_T), of_levels(x, SIGMA_T), rtol=1e-10, atol=1e-10)
    for one in (float(SIGMA_T[2]), SIGMA_T[1]):
        torch.testing.assert_close(ve(x, one), of_levels(x, one), rtol=1e-10, atol=1e-10)


def test_there_and_back_again():
    """Any field survives VE → VP → VE and VP → VE → VP, at the levels of the schedule."""
    x = pair(5, 2)[1]
    levels = lambda x, sigma: torch.sin(x) / torch.as_tensor(sigma)[:, None]  # noqa: E731
    steps = lambda x, t: torch.sin(x) * t[:, None]  # noqa: E731
    round_trip = ve_score(vp_score(levels, BARS), BARS)
    torch.testing.assert_close(round_trip(x, SIGMA_T), levels(x, SIGMA_T), **EXACT)
    round_trip = vp_score(ve_score(steps, BARS), BARS)
    torch.testing.assert_close(round_trip(x, T), steps(x, T), **EXACT)


def test_a_level_is_served_by_the_step_nearest_on_a_log_scale():
    told = []
    ve = ve_score(lambda x, t: told.append(t.tolist()) or x, BARS)
    sigmas = sigma_from_alpha_bar(BARS)
    middle = (sigmas[4] * sigmas[5]).sqrt()
    assert middle < (sigmas[4] + sigmas[5]) / 2 - 1e-3  # nearest on a plain scale differs here
    x = torch.ones(5, 2).double()
    ve(x, torch.stack([middle * 0.9999, middle * 1.0001, sigmas[0] / 9, 9 * sigmas[-1], sigmas[7]]))
    ve(x, float(sigmas[2]))
    assert told == [[5, 6, 1, 20, 8], [3] * 5]


def test_ve_score_scales_by_the_step_and_not_by_the_level_asked_for():
    """Between two steps the answer is √ᾱ_t s(√ᾱ_t x, t) of one of them."""
    x, sigma = torch.ones(1, 2).double(), 1.01 * float(SIGMA_T[2])
    measured = ve_score(lambda x, t: x, BARS)(x, sigma)
    torch.testing.assert_close(measured, BARS[6] * x, **EXACT)


def test_a_vp_score_is_told_numbers_one_per_point():
    told = []
    vp = vp_score(lambda x, sigma: told.append(sigma) or x, BARS)
    vp(torch.ones(5, 2).double(), T)
    vp(torch.ones(5, 2).double(), 7)
    torch.testing.assert_close(told[0], SIGMA_T, **EXACT)
    torch.testing.assert_close(told[1], SIGMA_T[2].expand(5), **EXACT)


# v


@pytest.mark.parametrize("bar", [0.36, torch.tensor([0.9, 0.36, 0.02])], ids=["one", "each"])
def test_v_is_the_direction_across_the_circle_of_signal_and_noise(bar):
    """With clean points and noise in hand: v = √ᾱ ε − √(1 − ᾱ) x₀, and back to both."""
    clean, epsilon = pair(3, 2)
    at = torch.as_tensor(bar, dtype=torch.float64).reshape(-1, 1)
    x = at.sqrt() * clean + (1 - at).sqrt() * epsilon
    v = at.sqrt() * epsilon - (1 - at).sqrt() * clean
    torch.testing.assert_close(v_from_epsilon(x, epsilon, bar), v, **EXACT)
    torch.testing.assert_close(epsilon_from_v(x, v, bar), epsilon, **EXACT)
    torch.testing.assert_close(at.sqrt() * x - (1 - at).sqrt() * v, clean, **EXACT)


def test_v_worked_out_on_paper():
    """ᾱ = 0.36, so √ᾱ = 0.6 and √(1 − ᾱ) = 0.8; x₀ = 1 and ε = 2 give x = 2.2 and v = 0.4."""
    x, epsilon, v = (numbers([[a]]) for a in (2.2, 2.0, 0.4))
    assert v_from_epsilon(x, epsilon, 0.36).item() == pytest.approx(0.4)
    assert epsilon_from_v(x, v, 0.36).item() == pytest.approx(2.0)


def test_the_score_of_a_step_is_epsilon_over_its_noise():
    """E[ε | x_t] from the exact score by Tweedie in VE coordinates, at x_t/√ᾱ_t."""
    x, bar = pair(5, 2)[1], float(BARS[6])
    sigma = ((1 - bar) / bar) ** 0.5
    clean = denoised_from_score(x / bar**0.5, P2.smoothed(sigma).score(x / bar**0.5), sigma)
    epsilon = (x - bar**0.5 * clean) / (1 - bar) ** 0.5
    s = score_from_epsilon(epsilon, (1 - bar) ** 0.5)
    torch.testing.assert_close(s, of_steps(x, 7), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kernel", [Gaussian(1.0), Laplace(1.0), Mixture([0.5, 0.5], [1.0, 2.0])])
def test_noise_on_float64_points_has_float64_digits(kernel):
    draws = kernel.sample(torch.zeros(100, 2, dtype=torch.float64), generator=generator(0))
    assert (draws != draws.float().double()).float().mean() > 0.9
