"""Chapter 6, denoising score matching: each test proves a claim by measuring it another way.

The law of most tests is 0.3 N(−1.5, 0.5) + 0.7 N(1, 0.3) with σ = 0.6; what the package says of it
is held against integrals done here in numpy and scipy.
"""

import numpy as np
import pytest
import torch
from exact import tensor
from scipy.integrate import quad
from scipy.stats import norm

from sbm_lite import losses, noise
from sbm_lite.calculus import score_of
from sbm_lite.densities import GaussianMixture, gaussian, kernel_density
from sbm_lite.diagnostics import standard_error
from sbm_lite.runtime import generator

WEIGHTS, MEANS, VARIANCES = np.array([[0.3, 0.7], [-1.5, 1.0], [0.5, 0.3]])
P = GaussianMixture(WEIGHTS, MEANS[:, None], VARIANCES[:, None, None])
SIGMA = 0.6
PLANE = GaussianMixture(
    [0.4, 0.6], [[-1.0, 0.5], [1.0, 0.0]], [[[0.5, 0.2], [0.2, 0.4]], [[0.3, -0.1], [-0.1, 0.6]]]
)
AT = (-2.0, -0.3, 0.4, 1.7)
KERNELS = {
    "Gaussian": noise.Gaussian(0.6),
    "Laplace": noise.Laplace(0.7),
    "mixture": noise.Mixture([0.4, 0.6], [0.3, 1.2]),
}


def density(x, sigma=0.0):
    """The density of the mixture under Gaussian noise, as a plain sum."""
    stds = np.sqrt(VARIANCES + sigma**2)
    return (WEIGHTS * norm.pdf(np.asarray(x)[..., None], MEANS, stds)).sum(-1)


def slope_of_log(f, at, h=1e-5):
    """(log f)' by central differences."""
    return (np.log(f(at + h)) - np.log(f(at - h))) / (2 * h)


def true_score(x, sigma):
    """The score of the noisy mixture by central differences of its log density."""
    return slope_of_log(lambda u: density(u, sigma), np.asarray(x))


def over_noisy(f, sigma=SIGMA):
    """E f(x̃) over the noisy density."""
    u = np.linspace(-12 - 6 * sigma, 12 + 6 * sigma, 12_001)
    return (density(u, sigma) * f(u)).sum() * (u[1] - u[0])


def over_pairs(f, sigma=SIGMA):
    """E f(x̃, t) over pairs of clean point and noise, t = −ε/σ."""
    x, e = np.meshgrid(np.linspace(-8, 7, 751), np.linspace(-8, 8, 401), indexing="ij")
    weight = density(x) * norm.pdf(e) * 0.02 * 0.04
    return (weight * f(x + sigma * e, -e / sigma)).sum()


def model(u):
    return np.tanh(1.1 * u) - 0.8 * u


def other_model(u):
    return 0.3 - 1.7 * np.sin(u)


def j_dsm(s):
    return over_pairs(lambda u, t: (s(u) - t) ** 2 / 2)


def j_esm(s):
    return over_noisy(lambda u: (s(u) - true_score(u, SIGMA)) ** 2 / 2)


def constants():
    """C₁ and C₂."""
    return over_noisy(lambda u: true_score(u, SIGMA) ** 2 / 2), over_pairs(lambda u, t: t**2 / 2)


def pairs(p, kernel, n, seed):
    """n clean points and their noisy versions, float64."""
    rng = generator(seed)
    x = p.sample(n, generator=rng).double()
    return x, kernel.sample(x, generator=rng)


def kernel_density_of(kernel, u):
    """q(u) for a displacement u, one number."""
    return float(kernel.log_prob(tensor(u), tensor(0.0)).exp())


def noisy_density(kernel, at, weight=lambda x: 1.0):
    """∫ p(x) q(x̃ | x) weight(x) dx, split where a kernel may have a kink."""

    def f(x):
        return density(x) * kernel_density_of(kernel, at - x) * weight(x)

    options = {"epsabs": 1e-12, "epsrel": 1e-11, "limit": 300}
    return quad(f, -8, at, **options)[0] + quad(f, at, 7, **options)[0]


def posterior_mean_target(kernel, at):
    """E[t | x̃] by quadrature over the parents."""

    def weight(x):
        return float(kernel.target_score(tensor(at), tensor(x)))

    return noisy_density(kernel, at, weight) / noisy_density(kernel, at)


def best_slope(loss):
    """The minimiser of the parabola a ↦ mean loss of s(x) = −a x, from a = −1, 0, 1."""
    left, mid, right = (float(loss(lambda x, a=a: -a * x).mean()) for a in (-1.0, 0.0, 1.0))
    return (left - right) / (left - 2 * mid + right) / 2


def dsm_slope_error(d, variance, sigma, n):
    """4.5 standard errors of that minimiser for DSM on N(0, variance I)."""
    return 4.5 * (variance / (d * n)) ** 0.5 / sigma / (variance + sigma**2)


@pytest.mark.claim("C6.01")
def test_the_noisy_points_have_the_density_of_the_integral(check):
    total = sum(noisy_density(KERNELS["Gaussian"], u) for u in np.arange(-6, 6.1, 0.3)) * 0.3
    check("∫ p_σ", expected=1, measured=total, within=1e-5)
    package = P.smoothed(SIGMA).log_prob(tensor(0.4)).exp()
    by_integral = noisy_density(KERNELS["Gaussian"], 0.4)
    check("p_σ(0.4)", expected=by_integral, measured=package, within=1e-8)
    _, moved = pairs(P, KERNELS["Gaussian"], 200_000, 1)
    edges = np.linspace(-3.5, 3.5, 29)

    def cdf(u):
        return (WEIGHTS * norm.cdf(u, MEANS, np.sqrt(VARIANCES + SIGMA**2))).sum()

    share = np.diff([0.0, *map(cdf, edges), 1.0])
    counts = np.histogram(moved, [-np.inf, *edges, np.inf])[0]
    statistic = ((counts - 200_000 * share) ** 2 / (200_000 * share)).sum()
    check("χ² of draws, 29 d.o.f.", expected=29, measured=statistic, within=4.5 * (2 * 29) ** 0.5)


@pytest.mark.claim("C6.02")
def test_joint_and_marginal_are_two_functions(check):
    total = over_pairs(lambda u, t: np.ones_like(u))
    check("the joint adds up to", expected=1, measured=total, within=1e-9)
    x, moved = pairs(P, KERNELS["Gaussian"], 400_000, 2)
    both = ((x > 0) & (moved < 0)).double().mean()

    def clean_side(a):
        return density(a) * norm.cdf(-a / SIGMA)

    exact = quad(clean_side, 0, 7)[0]
    error = 4.5 * (exact / 400_000) ** 0.5
    check("P(x > 0, x̃ < 0) under the joint", expected=exact, measured=both, within=error)
    product = quad(density, 0, 7)[0] * quad(lambda u: density(u, SIGMA), -9, 0)[0]
    assert abs(product - exact) > 20 * error, "the joint is no product of its marginals"


@pytest.mark.claim("C6.21")
def test_the_kernel_is_the_joint_over_the_density_of_the_parent(check):
    """Among pairs with x between 0.9 and 1.1, x̃ is spread as joint over p(x) says."""
    x, moved = pairs(P, KERNELS["Gaussian"], 1_000_000, 3)
    chosen = ((x - 1.0).abs() < 0.1)[:, 0]
    share = (moved[chosen] > 1.5).double().mean()

    def tail(a):
        return density(a) * norm.sf((1.5 - a) / SIGMA)

    exact = quad(tail, 0.9, 1.1)[0] / quad(density, 0.9, 1.1)[0]
    error = 4.5 * (exact * (1 - exact) / int(chosen.sum())) ** 0.5
    check("P(x̃ > 1.5 given x ≈ 1)", expected=exact, measured=share, within=error)
    assert abs(exact - norm.sf(0.5 / SIGMA)) < 0.01


def kde_error(points, sigma=SIGMA):
    """E‖s_KDE − s_σ‖² over the noisy density, by quadrature."""
    u = np.linspace(-7, 7, 281)
    kde = kernel_density(tensor(points), sigma)
    off = kde.score(tensor(u))[:, 0].numpy() - true_score(u, sigma)
    return float((density(u, sigma) * off**2).sum() * (u[1] - u[0]))


@pytest.mark.claim("C6.03")
def test_the_plug_in_density_and_how_its_score_converges(check):
    rng = generator(4)
    points = P.sample(10, generator=rng)[:, 0].double().numpy()
    by_hand = norm.pdf(0.3, points, SIGMA).mean()
    package = kernel_density(tensor(points), SIGMA).log_prob(tensor(0.3)).exp()
    check("plug-in density at 0.3", expected=by_hand, measured=package, within=1e-10)
    errors = {
        n: torch.tensor(
            [kde_error(P.sample(n, generator=rng)[:, 0].double().numpy()) for _ in range(30)]
        )
        for n in (10, 100, 1000)
    }
    assert errors[10].mean() > errors[100].mean() > errors[1000].mean()
    ratio = errors[100].mean() / errors[1000].mean()
    spread = [standard_error(errors[n]) / errors[n].mean() for n in (100, 1000)]
    within = 4.5 * ratio * (spread[0] ** 2 + spread[1] ** 2) ** 0.5
    check("E‖error‖² at N = 100 over that at 1,000", expected=10, measured=ratio, within=within)
    # To first order the error is the mean of N terms (q′ − s q)/p_σ, of mean 0 over the data.
    u, x = np.linspace(-7, 7, 281), np.linspace(-8, 7, 3001)
    prior = density(x) * (x[1] - x[0])
    q = norm.pdf(u[:, None], x, SIGMA)
    term = (-(u[:, None] - x) / SIGMA**2 - true_score(u, SIGMA)[:, None]) * q
    assert np.abs(term @ prior).max() < 1e-6
    limit = (term**2 @ prior / density(u, SIGMA)).sum() * (u[1] - u[0])
    check("N E‖error‖² at N = 1,000, and its limit", expected=limit,
          measured=1000 * errors[1000].mean(),
          within=4500 * standard_error(errors[1000]))  # fmt: skip


@pytest.mark.claim("C6.04")
def test_the_loss_is_an_expectation_over_pairs(check):
    rng = generator(5)
    x = P.sample(400_000, generator=rng).double()
    e = torch.randn(x.shape, generator=rng).double()
    values = losses.dsm(lambda u: torch.tanh(1.1 * u) - 0.8 * u, x, e, SIGMA)
    check(
        "J_DSM of tanh(1.1 x) − 0.8 x",
        expected=j_dsm(model),
        measured=values.mean(),
        within=4.5 * standard_error(values),
    )


@pytest.mark.claim("C6.05")
@pytest.mark.parametrize("s", [model, other_model, np.zeros_like])
def test_vincents_theorem(check, s):
    c1, c2 = constants()
    name = s.__name__.replace("_", " ")
    check(f"J_DSM − J_ESM, {name}", expected=c2 - c1, measured=j_dsm(s) - j_esm(s), within=1e-6)
    check("C₂ − C₁", expected=0.955776, measured=c2 - c1, within=1e-5)


@pytest.mark.claim("C6.05")
@pytest.mark.claim("C6.16")
def test_the_losses_of_the_package_differ_by_the_constant(check):
    """In the plane, on the same noisy points, for a model that is nobody's score."""
    x, moved = pairs(PLANE, noise.Gaussian(0.5), 300_000, 6)

    def s(u):
        return torch.tanh(u.roll(1, 1)) - 0.8 * u

    explicit = losses.esm(s, moved, PLANE.smoothed(0.5).score(moved))
    denoising = losses.dsm(s, x, (moved - x) / 0.5, 0.5)
    floor = losses.dsm(PLANE.smoothed(0.5).score, x, (moved - x) / 0.5, 0.5)
    off = denoising - explicit - floor
    check("J_DSM − J_ESM − floor", expected=0, measured=off.mean(),
          within=4.5 * standard_error(off))  # fmt: skip
    by_hand = ((s(moved) + (moved - x) / 0.25) ** 2).sum(1) / 2
    gap = (denoising - by_hand).abs().max()
    check("dsm − ½‖s + (x̃ − x)/σ²‖², largest", expected=0, measured=gap, within=1e-9)


@pytest.mark.claim("C6.06")
def test_the_right_side_of_the_last_line_is_the_explicit_loss(check):
    """With J_DSM on the right, as the source prints, C₁ would have to equal C₂."""
    c1, c2 = constants()
    assert c2 - c1 > 0.9
    right = j_esm(model) - c1 + c2
    check("J_ESM − C₁ + C₂", expected=j_dsm(model), measured=right, within=1e-6)


@pytest.mark.claim("C6.07")
@pytest.mark.parametrize("at", AT)
def test_each_step_of_the_derivation(check, at):
    kernel, h = KERNELS["Gaussian"], 1e-4

    def marginal(u):
        return noisy_density(kernel, u)

    slope = (marginal(at + h) - marginal(at - h)) / (2 * h)

    def dq(x):
        return (norm.pdf(at + h - x, 0, SIGMA) - norm.pdf(at - h - x, 0, SIGMA)) / (2 * h)

    under = quad(lambda x: density(x) * dq(x), -8, 7, epsabs=1e-11, limit=300)[0]
    check(f"derivative under the integral at {at}", expected=slope, measured=under, within=1e-6)
    log_slope = slope_of_log(marginal, at, h)
    check("∇p_σ/p_σ", expected=log_slope, measured=slope / marginal(at), within=1e-6)
    mean = posterior_mean_target(kernel, at)
    check("∇q = q ∇log q, over parents", expected=log_slope, measured=mean, within=1e-6)


@pytest.mark.claim("C6.08")
def test_the_first_terms_are_equal(check):
    for s in (model, other_model):
        left, right = over_noisy(lambda u, s=s: s(u) ** 2), over_pairs(lambda u, t, s=s: s(u) ** 2)
        check("E‖s_θ(x̃)‖²", expected=left, measured=right, within=1e-7)


@pytest.mark.claim("C6.09")
def test_the_score_is_the_mean_target_over_the_posterior(check):
    for at in AT:
        mean = posterior_mean_target(KERNELS["Gaussian"], at)
        exact = true_score(at, SIGMA)
        check(f"E[t | x̃ = {at}]", expected=exact, measured=mean, within=1e-6)
    at = torch.tensor([0.3, -0.8]).double()
    parents = PLANE.posterior(at, 0.5).sample(200_000, generator=generator(7)).double()
    t = noise.Gaussian(0.5).target_score(at.expand_as(parents), parents)
    h, smooth = 1e-4, PLANE.smoothed(0.5)
    for i, step in enumerate(h * torch.eye(2).double()):
        slope = (smooth.log_prob((at + step)[None]) - smooth.log_prob((at - step)[None])) / (2 * h)
        within = 4.5 * standard_error(t[:, i])
        check("the same in the plane", expected=slope, measured=t[:, i].mean(), within=within)


@pytest.mark.claim("C6.10")
def test_regression_of_the_target_on_the_noisy_point(check):
    x, moved = pairs(P, KERNELS["Gaussian"], 400_000, 8)
    t = KERNELS["Gaussian"].target_score(moved, x)[:, 0]
    u = moved[:, 0].numpy()
    for low in np.arange(-2.5, 2.5, 0.5):
        inside = torch.as_tensor((u > low) & (u < low + 0.5))
        expected = true_score(u[inside.numpy()], SIGMA).mean()
        error = 4.5 * standard_error(t[inside])
        check(f"mean target, {low} < x̃ < {low + 0.5}", expected=expected,
              measured=t[inside].mean(), within=error)  # fmt: skip


def empirical_argmin(points, score, direction):
    """The c that minimises the DSM loss over the data set along score + c·direction."""
    e = np.linspace(-8, 8, 401)
    u = points[:, None] + SIGMA * e
    s = score(tensor(u.ravel()))[:, 0].numpy().reshape(u.shape)
    along, weight = direction(u), norm.pdf(e)
    return -(weight * along * (s + e / SIGMA)).sum() / (weight * along**2).sum()


@pytest.mark.claim("C6.11")
def test_on_a_data_set_the_optimum_is_the_score_of_the_kernel_density(check):
    points = P.sample(12, generator=generator(9))[:, 0].double().numpy()
    kde, exact = kernel_density(tensor(points), SIGMA), P.smoothed(SIGMA)
    for name, direction in {"1": np.ones_like, "x̃": lambda u: u, "cos 3x̃": lambda u: np.cos(3 * u),
                            "e^(−x̃²)": lambda u: np.exp(-(u**2))}.items():  # fmt: skip
        best = empirical_argmin(points, kde.score, direction)
        check(f"best move from the KDE score along {name}", expected=0, measured=best, within=1e-8)
    away = max(abs(empirical_argmin(points, exact.score, d)) for d in (np.ones_like, np.cos))
    assert away > 0.01, "the true score would not be improved upon"


@pytest.mark.claim("C6.12")
@pytest.mark.claim("C6.13")
def test_the_gaussian_target_and_its_way_home(check):
    rng = generator(10)
    x, e = torch.randn(2, 500, 3, generator=rng).double()
    moved, sigma = x + 0.7 * e, 0.7

    def law(y):
        return torch.distributions.MultivariateNormal(x, 0.49 * torch.eye(3).double()).log_prob(y)

    t = noise.Gaussian(sigma).target_score(moved, x)
    gap = (score_of(law)(moved) - t).abs().max()
    check("t − autograd of log N(x, σ²I)", expected=0, measured=gap, within=1e-10)
    check("t + ε/σ", expected=0, measured=(t + e / sigma).abs().max(), within=1e-10)
    home = (moved + sigma**2 * t - x).abs().max()
    check("x̃ + σ²t − x", expected=0, measured=home, within=1e-10)


@pytest.mark.claim("C6.14")
def test_one_step_leads_to_the_mean_parent_and_not_to_the_parent(check):
    for at in AT:
        kernel = KERNELS["Gaussian"]
        parent = noisy_density(kernel, at, lambda x: x) / noisy_density(kernel, at)
        tip = noise.denoised_from_score(tensor(at), P.smoothed(SIGMA).score(tensor(at)), SIGMA)
        check(f"x̃ + σ²s_σ at {at}", expected=parent, measured=tip, within=1e-7)
    x, moved = pairs(P, KERNELS["Gaussian"], 200_000, 11)
    miss = (moved + SIGMA**2 * P.smoothed(SIGMA).score(moved) - x)[:, 0] ** 2
    c1, c2 = constants()
    check("E(mean parent − x)²", expected=2 * (c2 - c1) * SIGMA**4, measured=miss.mean(),
          within=4.5 * standard_error(miss))  # fmt: skip


@pytest.mark.claim("C6.15")
def test_with_a_plus_sign_the_arrows_turn_round(check):
    x, moved = pairs(gaussian(1.7**0.5, dim=1), noise.Gaussian(SIGMA), 400_000, 12)
    t = noise.Gaussian(SIGMA).target_score(moved, x)
    within, exact = dsm_slope_error(1, 1.7, SIGMA, 400_000), 1 / (1.7 + 0.36)
    for sign, name in ((1, "s − ∇log q"), (-1, "s + ∇log q")):
        a = best_slope(lambda s, sign=sign: losses.esm(s, moved, sign * t))
        check(f"best a with {name}", expected=sign * exact, measured=a, within=within)


@pytest.mark.claim("C6.16")
@pytest.mark.parametrize("d", [2, 8])
@pytest.mark.parametrize("sigma", [0.5, 1.0])
def test_the_best_slope_on_a_standard_normal(check, d, sigma):
    x, e = torch.randn(2, 100_000, d, generator=generator(13)).double()
    a = best_slope(lambda s: losses.dsm(s, x, e, sigma))
    within = dsm_slope_error(d, 1, sigma, 100_000)
    check(f"best a, d = {d}, σ = {sigma}", expected=1 / (1 + sigma**2), measured=a, within=within)


@pytest.mark.claim("C6.18")
def test_the_boxed_identity_is_not_the_theorem(check):
    """The theorem says of J_DSM − J_ESM that no model changes it; with clean data it would not."""

    def clean(s):
        return quad(
            lambda x: density(x) * (s(x) - slope_of_log(density, x)) ** 2 / 2, -8, 7, limit=300
        )[0]

    noisy_gap = [j_dsm(s) - j_esm(s) for s in (model, other_model)]
    check("J_DSM − J_ESM(p_σ), two models", expected=noisy_gap[0], measured=noisy_gap[1],
          within=1e-6)  # fmt: skip
    clean_gap = [j_dsm(s) - clean(s) for s in (model, other_model)]
    assert abs(clean_gap[0] - clean_gap[1]) > 0.01
    x, moved = pairs(P, KERNELS["Gaussian"], 1000, 14)

    def joint(y):
        return P.log_prob(x) + torch.distributions.Normal(x, SIGMA).log_prob(y).sum(1)

    identity = (score_of(joint)(moved) - (x - moved) / SIGMA**2).abs().max()
    check("the boxed identity, pair by pair", expected=0, measured=identity, within=1e-9)


@pytest.mark.claim("C6.19")
@pytest.mark.parametrize("name", list(KERNELS))
def test_the_gradient_of_the_log_joint_is_the_target(check, name):
    kernel, rng = KERNELS[name], generator(15)
    x = PLANE.sample(500, generator=rng).double()
    moved = kernel.sample(x, generator=rng)
    joint = score_of(lambda y: PLANE.log_prob(x) + kernel.log_prob(y, x))(moved)
    gap = (joint - kernel.target_score(moved, x)).abs().max()
    check(f"∇log joint − t, {name}", expected=0, measured=gap, within=1e-9)


@pytest.mark.claim("C6.20")
def test_the_loss_with_the_joint_is_the_same_pair_by_pair(check):
    x, moved = pairs(PLANE, noise.Gaussian(0.5), 500, 16)
    kernel = noise.Gaussian(0.5)
    joint = score_of(lambda y: PLANE.log_prob(x) + kernel.log_prob(y, x))(moved)

    def s(u):
        return torch.sin(u) - u.roll(1, 1)

    with_joint = ((s(moved) - joint) ** 2).sum(1) / 2
    gap = (with_joint - losses.dsm(s, x, (moved - x) / 0.5, 0.5)).abs().max()
    check("largest difference of the losses", expected=0, measured=gap, within=1e-9)


@pytest.mark.claim("C6.22")
def test_uniform_noise_breaks_the_theorem(check):
    def cdf(u):
        return (norm.cdf(u + 1) - norm.cdf(u - 1)) / 2

    check("score of the noisy density at 1", expected=-0.72279, measured=slope_of_log(cdf, 1.0),
          within=1e-5)  # fmt: skip
    ends = (norm.pdf(2) - norm.pdf(0)) / 2 / cdf(1.0)
    check("what the two ends carry", expected=slope_of_log(cdf, 1.0), measured=ends, within=1e-6)
    rng = generator(17)
    x = torch.randn(100_000, 1, generator=rng).double()
    moved = x + 2 * torch.rand(x.shape, generator=rng).double() - 1
    kernel = torch.distributions.Uniform(x - 1, x + 1)
    t = score_of(lambda y: kernel.log_prob(y).sum(1) + 0 * y.sum(1))(moved)
    slope = best_slope(lambda s: losses.esm(s, moved, t))
    check("best slope on the targets of uniform noise", expected=0, measured=slope, within=1e-12)
    wanted = quad(lambda u: np.tanh(u) * slope_of_log(cdf, u) * cdf(u), -7, 7)[0]  # E[φ s_a]
    values = -(1 - torch.tanh(moved) ** 2)[:, 0]  # −φ′, the same by parts
    error = standard_error(values)
    check("E[tanh(x̃)·score]", expected=wanted, measured=values.mean(), within=4.5 * error)
    found = (torch.tanh(moved) * t).mean()
    assert abs(wanted - found) > 20 * error, "the targets carry none of it"


@pytest.mark.claim("C6.22")
@pytest.mark.parametrize("name", list(KERNELS))
def test_kernels_without_jumps_keep_it(check, name):
    """E[φ(x̃) t] = E[φ s_σ] = −E φ′ for a smooth φ."""
    x, moved = pairs(P, KERNELS[name], 400_000, 18)
    t = KERNELS[name].target_score(moved, x)
    off = (torch.tanh(moved) * t + 1 - torch.tanh(moved) ** 2)[:, 0]
    check(f"E[φ t + φ′], {name}", expected=0, measured=off.mean(),
          within=4.5 * standard_error(off))  # fmt: skip


@pytest.mark.claim("C6.23")
def test_laplace_noise(check):
    kernel = KERNELS["Laplace"]
    for at, exact in zip(AT, (0.5939, 0.49383, 0.62177, -0.9399), strict=True):
        slope = slope_of_log(lambda u: noisy_density(kernel, u), at, 1e-3)
        assert abs(slope - exact) < 1e-4
        mean = posterior_mean_target(kernel, at)
        check(f"E[−sign/b | x̃ = {at}]", expected=slope, measured=mean, within=1e-4)
    rng = generator(19)
    x = torch.randn(1000, 3, generator=rng).double()
    moved = kernel.sample(x, generator=rng)
    t = kernel.target_score(moved, x)
    assert t.equal(-torch.sign(moved - x) / 0.7)
    square = (t**2).sum(1)
    check("least ‖t‖², d = 3", expected=3 / 0.49, measured=square.min(), within=1e-9)
    check("largest ‖t‖²", expected=3 / 0.49, measured=square.max(), within=1e-9)


@pytest.mark.claim("C6.24")
def test_mixture_noise(check):
    kernel = KERNELS["mixture"]
    for at, exact in zip(AT, (0.66183, 0.44087, 0.73288, -1.05894), strict=True):
        slope = slope_of_log(lambda u: noisy_density(kernel, u), at, 1e-3)
        assert abs(slope - exact) < 1e-4
        mean = posterior_mean_target(kernel, at)
        check(f"mean target at {at}", expected=slope, measured=mean, within=1e-4)
    u, parts = 0.8, np.array([0.4, 0.6]) * norm.pdf(0.8, 0, [0.3, 1.2])
    by_hand = -(parts / parts.sum() * 0.8 / np.array([0.3, 1.2]) ** 2).sum()
    t = kernel.target_score(tensor(u), tensor(0.0))
    check("target of u = 0.8 by hand", expected=by_hand, measured=t, within=1e-10)


@pytest.mark.claim("C6.25")
def test_the_force_is_averaged_over_the_posterior(check):
    kernel = KERNELS["Gaussian"]

    def energy(x, u):
        return -np.log(density(x)) + (u - x) ** 2 / (2 * SIGMA**2)

    def force(x, u):
        return -(energy(x, u + 1e-4) - energy(x, u - 1e-4)) / 2e-4

    for at in AT:
        total = noisy_density(kernel, at, lambda x, at=at: force(x, at))
        mean = total / noisy_density(kernel, at)
        check(f"−E[∇E | x̃ = {at}]", expected=true_score(at, SIGMA), measured=mean, within=1e-5)
    residual = over_pairs(lambda u, t: (true_score(u, SIGMA) - t) ** 2)
    check("E‖s_σ − ∇log joint‖²", expected=1.911552, measured=residual, within=1e-5)


@pytest.mark.claim("C6.26")
def test_one_kernel_two_data_laws_two_scores(check):
    """The kernel alone does not fix the score of the noisy data."""
    kernel, at = noise.Gaussian(SIGMA), 0.4
    first = posterior_mean_target(kernel, at)
    x, moved = pairs(gaussian(dim=1), kernel, 400_000, 20)
    near = (moved - at).abs()[:, 0] < 0.1
    t = kernel.target_score(moved, x)[near, 0]
    exact = -at / (1 + SIGMA**2)
    check("score at 0.4, data N(0, 1)", expected=exact, measured=t.mean(),
          within=4.5 * standard_error(t))  # fmt: skip
    check("score at 0.4, data of the mixture", expected=0.7313, measured=first, within=1e-4)


@pytest.mark.claim("C6.27")
def test_with_the_data_in_place_of_the_density_the_explicit_target_is_another(check):
    """On N(0, 1.7) the right slope is 1/(1.7 + σ²); ten points plugged in give their own."""
    points = gaussian(1.7**0.5, dim=1).sample(10, generator=generator(21)).double()
    kde = kernel_density(points, SIGMA)
    u = tensor(np.linspace(-12, 12, 24_001))
    weight = kde.log_prob(u).exp()
    a = best_slope(lambda s: losses.esm(s, u, kde.score(u)) * weight)
    own = 1 / float((points**2).mean() + SIGMA**2)
    check("slope of the plug-in", expected=own, measured=a, within=1e-6)
    assert abs(own - 1 / (1.7 + SIGMA**2)) > 0.02


@pytest.mark.claim("C6.28")
def test_the_bias_is_of_second_order_for_smooth_data(check):
    at = np.array([-1.0, 0.2, 1.4])

    def bias(h):
        return np.abs(P.smoothed(h).score(tensor(at))[:, 0].numpy() - true_score(at, 0)).max()

    errors = [bias(h) for h in (0.2, 0.1, 0.05, 0.025)]
    ratios = np.divide(errors[:-1], errors[1:])
    assert list(ratios) == sorted(ratios)
    check("error at σ = 0.05 over error at 0.025", expected=4, measured=ratios[-1], within=0.05)
    h, x = 1e-3, 0.2

    def second(y):
        return (density(y + h) - 2 * density(y) + density(y - h)) / h**2 / density(y)

    coefficient = (second(x + h) - second(x - h)) / (4 * h)
    measured = (float(P.smoothed(0.02).score(tensor(x))) - true_score(x, 0)) / 0.02**2
    check("½∇(Δp/p) at 0.2", expected=coefficient, measured=measured,
          within=0.02 * abs(coefficient))  # fmt: skip


@pytest.mark.claim("C6.28")
def test_for_data_on_points_the_score_grows_instead(check):
    def size(h):
        return abs(
            float(GaussianMixture.isotropic([0.5, 0.5], [[-1.0], [1.0]], h).score(tensor(0.5)))
        )

    check("score at σ = 0.05 over that at 0.1", expected=4, measured=size(0.05) / size(0.1),
          within=1e-6)  # fmt: skip


@pytest.mark.claim("C6.29")
@pytest.mark.parametrize(("sigma", "rounded"), [(0.5, 0.52), (0.1, 0.15), (0.02, 0.03)])
def test_one_target_hardly_knows_the_score(check, sigma, rounded):
    x, moved = pairs(P, noise.Gaussian(sigma), 400_000, 22)
    t = noise.Gaussian(sigma).target_score(moved, x)[:, 0].numpy()
    measured = np.corrcoef(t, true_score(moved[:, 0].numpy(), sigma))[0, 1]
    exact = sigma * over_noisy(lambda u: true_score(u, sigma) ** 2, sigma) ** 0.5
    assert abs(exact - rounded) < 0.005
    check(f"correlation at σ = {sigma}", expected=exact, measured=measured,
          within=4.5 * (1 - exact**2) / 400_000**0.5)  # fmt: skip


@pytest.mark.claim("C6.30")
def test_both_expansions(check):
    c1, c2 = constants()
    for s in (model, other_model):
        square = over_noisy(lambda u, s=s: s(u) ** 2 / 2)
        explicit = over_noisy(lambda u, s=s: s(u) * true_score(u, SIGMA))
        denoising = over_pairs(lambda u, t, s=s: s(u) * t)
        check("J_ESM", expected=j_esm(s), measured=square - explicit + c1, within=1e-6)
        check("J_DSM", expected=j_dsm(s), measured=square - denoising + c2, within=1e-6)
        check("middle terms", expected=explicit, measured=denoising, within=1e-6)


@pytest.mark.claim("C6.33")
def test_one_evaluation_and_no_derivative(check):
    calls = []

    def blunt(u):  # a score that cannot be differentiated
        calls.append(1)
        return torch.as_tensor(-0.5 * u.numpy())

    x, e = torch.randn(2, 100, 10, generator=generator(23)).double()
    values = losses.dsm(blunt, x, e, 0.5)
    check("evaluations of the network, d = 10", expected=1, measured=len(calls))
    by_hand = ((-0.5 * (x + 0.5 * e) + e / 0.5) ** 2).sum(1) / 2
    check("and the loss is right", expected=0, measured=(values - by_hand).abs().max(), within=1e-9)
    with pytest.raises(RuntimeError):
        losses.ism(blunt, x)


@pytest.mark.claim("C6.34")
def test_dsm_aims_at_another_score_than_the_rest(check):
    rng, n = generator(24), 400_000
    x = 1.7**0.5 * torch.randn(n, 1, generator=rng).double()
    e = torch.randn(x.shape, generator=rng).double()
    v = torch.randint(0, 2, x.shape, generator=rng).double() * 2 - 1
    clean = 4.5 * (2 / n) ** 0.5 / 1.7
    check("ESM", expected=0.58824, within=1e-5,
          measured=best_slope(lambda s: losses.esm(s, x, -x / 1.7)))  # fmt: skip
    check("ISM", expected=1 / 1.7, measured=best_slope(lambda s: losses.ism(s, x)), within=clean)
    check("SSM", expected=1 / 1.7, measured=best_slope(lambda s: losses.ssm(s, x, v)), within=clean)
    check("DSM, σ = 0.6", expected=1 / 2.06, within=dsm_slope_error(1, 1.7, SIGMA, n),
          measured=best_slope(lambda s: losses.dsm(s, x, e, SIGMA)))  # fmt: skip


def gap(sigma):
    """E‖t‖² − E‖s_σ‖²."""
    return 1 / sigma**2 - over_noisy(lambda u: true_score(u, sigma) ** 2, sigma)


@pytest.mark.claim("C6.35")
def test_the_floor_is_the_spread_of_the_targets_and_falls_with_sigma(check):
    for sigma, exact in ((0.3, 9.45669), (0.6, 1.91155), (1.2, 0.3433), (5.0, 0.00251)):
        check(f"gap at σ = {sigma}", expected=exact, measured=gap(sigma), within=1e-4)
    x, moved = pairs(P, noise.Gaussian(SIGMA), 400_000, 25)
    e = (moved - x) / SIGMA
    floor = losses.dsm(P.smoothed(SIGMA).score, x, e, SIGMA)
    check("DSM loss of the exact score", expected=gap(SIGMA) / 2, measured=floor.mean(),
          within=4.5 * standard_error(floor))  # fmt: skip
    levels = np.geomspace(0.2, 8, 25)
    gaps = np.array([gap(level) for level in levels])
    assert (np.diff(gaps) < 0).all() and (np.diff(levels**2 * gaps) < 0).all()


@pytest.mark.claim("C6.35")
def test_the_gap_is_the_mean_posterior_variance(check):
    """E tr Cov(t | x̃) with the posterior of the package, in one dimension."""
    u = np.linspace(-7, 7, 281)
    laws = [P.posterior(torch.tensor([at]).double(), SIGMA) for at in u]
    mean = np.array([float(law.weights @ law.means[:, 0]) for law in laws])
    second = np.array(
        [float(law.weights @ (law.covariances[:, 0, 0] + law.means[:, 0] ** 2)) for law in laws]
    )
    spread = (density(u, SIGMA) * (second - mean**2)).sum() * (u[1] - u[0]) / SIGMA**4
    check("E Var(x | x̃)/σ⁴", expected=gap(SIGMA), measured=spread, within=1e-5)


@pytest.mark.claim("C6.35")
def test_the_gap_need_not_fall_steadily_but_tends_to_zero(check):
    """½N(±1, 0.05²): the gap rises between σ = 0.3 and 0.5; σ⁴ times it stays below Var x."""

    def spread(sigma):
        variance = 0.05**2 + sigma**2
        u = np.linspace(-2 - 9 * sigma, 2 + 9 * sigma, 20_001)
        law = (norm.pdf(u, -1, variance**0.5) + norm.pdf(u, 1, variance**0.5)) / 2
        score = (np.tanh(u / variance) - u) / variance
        return 1 / sigma**2 - (law * score**2).sum() * (u[1] - u[0])

    for sigma, known in ((0.2, 1.47), (0.3, 0.482), (0.4, 0.854), (0.5, 1.141), (1.0, 0.451)):
        law = GaussianMixture.isotropic([0.5, 0.5], [[-1.0], [1.0]], 0.05)
        x, moved = pairs(law, noise.Gaussian(sigma), 200_000, 26)
        twice = 2 * losses.dsm(law.smoothed(sigma).score, x, (moved - x) / sigma, sigma)
        check(f"gap at σ = {sigma}", expected=spread(sigma), measured=twice.mean(),
              within=4.5 * standard_error(twice))  # fmt: skip
        assert abs(spread(sigma) / known - 1) < 0.003
    for sigma in (2.0, 5.0, 20.0):
        assert 0 < sigma**2 * spread(sigma) <= (1 + 0.05**2) / sigma**2


@pytest.mark.claim("C6.36")
def test_expected_noise_and_mean_parent_are_the_score(check):
    """Bin by bin, the means of the noises and of the parents that were really drawn."""
    x, moved = pairs(P, noise.Gaussian(SIGMA), 400_000, 27)
    e = (moved - x) / SIGMA
    s = tensor(true_score(moved[:, 0].numpy(), SIGMA))
    expected = noise.epsilon_from_score(s, SIGMA)
    parent = noise.denoised_from_score(moved, s, SIGMA)
    for low in np.arange(-2.5, 2.5, 0.5):
        b = ((moved > low) & (moved < low + 0.5))[:, 0]
        name = f"{low} < x̃ < {low + 0.5}"
        check(f"mean noise, {name}", expected=expected[b].mean(), measured=e[b].mean(),
              within=4.5 * standard_error((e - expected)[b, 0]))  # fmt: skip
        check(f"mean parent, {name}", expected=parent[b].mean(), measured=x[b].mean(),
              within=4.5 * standard_error((x - parent)[b, 0]))  # fmt: skip
        from_noise = noise.score_from_epsilon(e[b].mean(0, keepdim=True), SIGMA)
        centre = moved[b].mean(0, keepdim=True)
        from_parent = noise.score_from_denoised(centre, x[b].mean(0, keepdim=True), SIGMA)
        within = 4.5 * standard_error((e - expected)[b, 0]) / SIGMA
        check(f"score from the noise, {name}", expected=s[b].mean(), measured=from_noise,
              within=within)  # fmt: skip
        check(f"score from the parent, {name}", expected=s[b].mean(), measured=from_parent,
              within=within)  # fmt: skip
