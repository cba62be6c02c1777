"""Chapter 1, the likelihood problem: each test proves a claim by measuring it another way."""

import math

import numpy as np
import pytest
import scipy.integrate
import scipy.optimize
import scipy.special
import scipy.stats
import torch
from torch.distributions import Independent, MultivariateNormal, Normal, kl_divergence

from sbm_lite import losses, samplers
from sbm_lite.calculus import line_integral, score_of
from sbm_lite.diagnostics import standard_error
from sbm_lite.networks import mlp
from sbm_lite.runtime import generator

BUMPS = (0.3, -2.0, 0.5), (0.7, 1.0, 1.0)  # weight, mean, std


def two_bumps(x):
    """A lopsided density on the line, as SciPy has it."""
    return sum(w * scipy.stats.norm.pdf(x, m, s) for w, m, s in BUMPS)


def integral(f, low=-math.inf, high=math.inf):
    return scipy.integrate.quad(f, low, high, epsabs=1e-12, epsrel=1e-11, limit=400)[0]


@pytest.fixture(scope="module")
def normal_draws():
    """The 200 standard normal draws of the slip box."""
    return np.random.default_rng(0).standard_normal(200)


def slip(x, tau2):
    """The loss with a sum over the data in the place of Z, for E = x²/2τ²."""
    e = x**2 / (2 * tau2)
    return len(x) * scipy.special.logsumexp(-e) + e.sum()


def log_weights(r, d, shape, seed):
    """log w/Z for the target N(0, I) and draws of N(0, r² I), from the densities themselves."""
    x = r * torch.randn(*shape, d, generator=generator(seed), dtype=torch.float64)
    return (Normal(0, 1).log_prob(x) - Normal(0, r).log_prob(x)).sum(-1)


def accepted(q, highest, n, seed, limit=4.0):
    """Draws of the density proportional to q on [−limit, limit], by rejection: no integral of q."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(-limit, limit, n)
    return x[rng.uniform(0, highest, n) < q(x)]


def share_near(draws, x, width=0.02):
    """The share of draws in a cell of this width round x, and its standard error."""
    share = np.mean(abs(draws - x) < width / 2)
    return share, math.sqrt(share * (1 - share) / len(draws))


def log_ratio_of_shares(draws, a, b):
    """log p(b)/p(a) by counting draws near a and near b, and 4.5 standard errors of it."""
    (near_a, error_a), (near_b, error_b) = share_near(draws, a), share_near(draws, b)
    error = 4.5 * math.hypot(error_a / near_a, error_b / near_b)
    return math.log(near_b / near_a), error + 5e-3  # the cells are not quite points


@pytest.mark.claim("C1.02")
def test_a_vae_reports_a_bound(check):
    z, prior = np.polynomial.hermite_e.hermegauss(60)[0], Normal(0.0, 1.0)
    weights = np.polynomial.hermite_e.hermegauss(60)[1] / math.sqrt(2 * math.pi)
    exact = -scipy.stats.norm.logpdf(1.0, 0, math.sqrt(2))  # x | z ~ N(z, 1), so x ~ N(0, 2)
    lazy = -weights @ scipy.stats.norm.logpdf(1.0, z, 1)  # encoder = prior
    gap = kl_divergence(prior, Normal(0.5, math.sqrt(0.5)))  # from the true posterior N(½, ½)
    check("bound − (−log p), encoder N(0, 1)", expected=gap, measured=lazy - exact, within=1e-6)
    check("−log p(1) and bound, sum", expected=1.5155 + 1.9189, measured=lazy + exact, within=2e-4)


@pytest.mark.claim("C1.02")
def test_an_autoregressive_product_is_the_joint_density(check):
    cov = torch.tensor([[1.0, 0.6], [0.6, 2.0]], dtype=torch.float64)
    x = torch.randn(50, 2, generator=generator(0), dtype=torch.float64)
    first = Normal(0, 1).log_prob(x[:, 0])
    second = Normal(0.6 * x[:, 0], math.sqrt(2 - 0.36)).log_prob(x[:, 1])
    joint = MultivariateNormal(torch.zeros(2).double(), cov).log_prob(x)
    gap = (first + second - joint).abs().max()
    check("p(x₁) p(x₂|x₁) against p(x₁, x₂)", expected=0, measured=gap, within=1e-12)


def generator_loss(m, frozen_at, loss):
    """E over N(m, 1) of loss(D), D perfect against N(frozen_at, 1) and data N(0, 1)."""

    x = m + np.linspace(-12, 12, 200_001)
    log_odds = scipy.stats.norm.logpdf(x) - scipy.stats.norm.logpdf(x, frozen_at)
    return np.trapezoid(scipy.stats.norm.pdf(x, m) * loss(log_odds), x)


MINIMAX = {"log(1 − D)": lambda u: -np.logaddexp(0, u), "−log D": lambda u: np.logaddexp(0, -u)}


@pytest.mark.claim("C1.03")
@pytest.mark.parametrize(
    ("m", "name", "expected"),
    [(1, "log(1 − D)", 0.397973), (4, "log(1 − D)", 0.137195), (8, "log(1 − D)", 0.000393),
     (1, "−log D", 0.602027), (8, "−log D", 7.999607)],
)  # fmt: skip
def test_the_gradient_a_perfect_discriminator_leaves(m, name, expected, check):
    h, loss = 1e-3, MINIMAX[name]
    slope = (generator_loss(m + h, m, loss) - generator_loss(m - h, m, loss)) / (2 * h)
    check(f"∂E[{name}]/∂m at m = {m}", expected=expected, measured=slope, within=1e-6)


@pytest.mark.claim("C1.03")
def test_a_discriminator_that_knows_nothing_gives_no_direction(check):
    for name, loss in MINIMAX.items():
        constant = lambda u, loss=loss: loss(0 * u)  # noqa: E731
        change = generator_loss(4.1, 4, constant) - generator_loss(3.9, 4, constant)
        check(f"change of E[{name}] with D = ½", expected=0, measured=change, within=1e-9)


@pytest.mark.claim("C1.04")
def test_the_best_gaussian_encoder_loses_log_2_and_a_mixture_nothing(check):
    z = np.linspace(-6, 6, 6001)
    log_joint = scipy.stats.norm.logpdf(z) + scipy.stats.norm.logpdf(1.5, np.abs(z), 0.3)
    log_p = np.log(np.trapezoid(np.exp(log_joint), z))

    def gap(log_g):
        return log_p - np.trapezoid(np.exp(log_g) * (log_joint - log_g), z)

    one = lambda v: scipy.stats.norm.logpdf(z, v[0], np.exp(v[1]))  # noqa: E731
    starts = [(1.0, -1.0), (-1.0, -0.5), (0.0, 0.3), (0.1, 0.0)]
    fits = [scipy.optimize.minimize(lambda v: gap(one(v)), s, method="Nelder-Mead") for s in starts]
    best = min(fits, key=lambda fit: fit.fun)
    check("gap of the best Gaussian", expected=math.log(2), measured=best.fun, within=1e-3)
    mean, log_std = abs(best.x[0]), best.x[1]
    two = np.logaddexp(one((mean, log_std)), one((-mean, log_std))) - math.log(2)
    check("gap of a mixture of two", expected=0, measured=gap(two), within=1e-3)


@pytest.mark.claim("C1.05")
def test_change_of_variables_needs_every_inverse(check):
    slope = lambda x: 1 / np.sqrt(1 + x**2)  # noqa: E731  of the inverse of x = sinh z
    density = lambda x: scipy.stats.norm.pdf(np.arcsinh(x)) * slope(x)  # noqa: E731
    check("area, x = sinh z", expected=1, measured=2 * integral(density, 0, 1e4), within=1e-6)
    share = 0.5 + integral(density, 0, 0.7)
    drawn = np.mean(np.sinh(np.random.default_rng(1).standard_normal(100_000)) < 0.7)
    check("P(x < 0.7), by draws", expected=share, measured=drawn, within=4.5 * 0.5 / 1e5**0.5)
    one_inverse = integral(lambda x: scipy.stats.norm.pdf(x), 0, 40)
    check("area, x = |z| with one inverse", expected=0.5, measured=one_inverse, within=1e-9)


@pytest.mark.claim("C1.06")
def test_divided_by_its_integral_a_function_is_a_density(check):
    """The law of draws by rejection, which know nothing of Z, is q/Z, cell by cell."""
    q = lambda x: np.exp(-(x**4) / 4 + x)  # noqa: E731
    draws = accepted(q, q(1.0), 400_000, seed=3)
    edges = np.array([-4, -1.6, -1, -0.5, -0.1, 0.3, 0.6, 0.9, 1.2, 1.5, 1.8, 2.2, 4])
    z = integral(q, -12, 12)
    p = np.array([integral(q, a, b) / z for a, b in zip(edges[:-1], edges[1:], strict=True)])
    check("∫ q/Z over twelve cells that cover the line", expected=1, measured=p.sum(), within=1e-9)
    expected = len(draws) * p
    square = ((np.histogram(draws, edges)[0] - expected) ** 2 / expected).sum()
    check("χ² of the draws in those cells", expected=11, measured=square, within=4.5 * 22**0.5)
    for a, b in ((-0.5, 0.2), (0.2, 1.0), (1.0, 1.7)):
        measured, error = log_ratio_of_shares(draws, a, b)
        check(f"log p({b:g})/p({a:g}) by counting, log of the ratio of q",
              expected=math.log(q(b) / q(a)), measured=measured, within=error)  # fmt: skip


@pytest.mark.claim("C1.06")
@pytest.mark.parametrize("limit", [1e3, 1e6])
def test_with_an_infinite_integral_nothing_is_left_anywhere(limit, check):
    """q = (1 + x²)^(−½): what [−1, 1] holds of the area within |x| < L tends to zero."""
    area = lambda high: integral(lambda u: 1.0 / math.sqrt(1 + u * u), 0, high)  # noqa: E731
    part = area(1) / (area(1) + integral(lambda v: 1 / math.sqrt(1 + math.exp(-2 * v)), 0,
                                         math.log(limit)))  # fmt: skip
    exact = math.asinh(1) / math.asinh(limit)
    check(f"share of [−1, 1] within |x| < {limit:g}", expected=exact, measured=part, within=1e-9)


@pytest.mark.claim("C1.07")
def test_an_exponential_is_positive_whatever_the_network(check):
    x = 3 * torch.randn(500, 2, generator=generator(0))
    energies = torch.stack([20 * mlp(2, 1, generator=generator(k))(x)[:, 0] for k in range(20)])
    q = torch.exp(-energies.detach().double())
    check("smallest q ≤ 0?", expected=0, measured=(q <= 0).sum())
    signs = "both" if (energies > 0).any() and (energies < 0).any() else "one"
    check("signs of the energy", expected="both", measured=signs)


def well(x, theta):
    """An energy with its least value, 0, at ±1, whatever θ."""
    return theta * (x**2 - 1) ** 2


@pytest.mark.claim("C1.08")
@pytest.mark.parametrize("theta", [0.1, 5.0])
def test_low_energy_is_high_density_under_one_theta(theta, check):
    """Density by counting draws, not from the formula that is being tested."""
    limit = 4.5 if theta < 1 else 2.5
    draws = accepted(lambda x: np.exp(-well(x, theta)), 1.0, 2_000_000, 5, limit)
    for a, b in ((0.3, 1.0), (1.0, 1.3), (-0.9, 0.2)):
        measured, error = log_ratio_of_shares(draws, a, b)
        drop = well(a, theta) - well(b, theta)
        check(f"log p({b:g})/p({a:g}) by counting, the drop of the energy, θ = {theta:g}",
              expected=drop, measured=measured, within=error)  # fmt: skip


@pytest.mark.claim("C1.08")
def test_between_two_theta_the_higher_energy_can_have_the_higher_density(check):
    narrow, wide = (
        share_near(accepted(lambda x, t=t: np.exp(-well(x, t)), 1.0, 400_000, 6, limit), at)
        for t, at, limit in ((5.0, 0.8, 2.5), (0.1, 1.0, 4.5))
    )
    assert well(0.8, 5.0) > well(1.0, 0.1) + 0.6
    ahead = narrow[0] - wide[0] > 4.5 * math.hypot(narrow[1], wide[1])
    check("denser: E = 0.65 at θ = 5, or E = 0 at θ = 0.1?", expected="E = 0.65",
          measured="E = 0.65" if ahead else "E = 0")  # fmt: skip


@pytest.mark.claim("C1.09")
def test_when_the_area_is_finite(check):
    def area(limit, a):
        inside = integral(lambda u: np.cosh(u) ** (1 - 2 * a), 0, np.arcsinh(limit))
        return 2 * inside  # x = sinh u

    exact = math.sqrt(math.pi) * scipy.special.gamma(0.25) / scipy.special.gamma(0.75)
    check("Z at a = 0.75", expected=exact, measured=area(1e12, 0.75), within=1e-5)
    grown = area(1e8, 0.5) - area(1e7, 0.5)
    check("growth per decade, a = ½", expected=2 * math.log(10), measured=grown, within=1e-6)
    ratio = area(1e12, 0.4) / area(1e11, 0.4)
    check("ratio per decade, a = 0.4", expected=10**0.2, measured=ratio, within=0.01)


@pytest.mark.claim("C1.11")
def test_the_nll_is_energies_plus_log_z(check):
    x = torch.randn(50, generator=generator(0), dtype=torch.float64)
    log_z = math.log(integral(lambda u: math.exp(-abs(u) / 0.7), 0, 60) * 2)
    exact = -torch.distributions.Laplace(0 * x, 0 * x + 0.7).log_prob(x).sum()
    ours = (x.abs() / 0.7).sum() + 50 * log_z
    check("NLL of 50 points, Laplace", expected=exact, measured=ours, within=1e-8)


@pytest.mark.claim("C1.11")
def test_the_best_variance_is_the_mean_square(normal_draws, check):
    def nll(log_tau2):
        return -scipy.stats.norm.logpdf(normal_draws, 0, np.exp(log_tau2 / 2)).sum()

    best = scipy.optimize.minimize_scalar(nll, bounds=(-4, 6), method="bounded").x
    mean_square = np.mean(normal_draws**2)
    check("argmin τ²", expected=mean_square, measured=np.exp(best), within=1e-4)
    check("mean square of the 200 draws", expected=0.9241, measured=mean_square, within=5e-5)


@pytest.mark.claim("C1.12")
def test_the_sum_over_the_data_falls_to_n_log_n(normal_draws, check):
    losses_ = [slip(normal_draws, t) for t in (0.25, 0.5, 1, 2, 4, 16, 100, 1e4)]
    falls = "falls" if (np.diff(losses_) < 0).all() else "turns"
    check("the slip's loss over τ²", expected="falls", measured=falls)
    check("at τ² = 1", expected=1083.993, measured=slip(normal_draws, 1.0), within=1e-3)
    floor = 200 * math.log(200)
    check("at τ² = 10⁹", expected=floor, measured=slip(normal_draws, 1e9), within=1e-4)


@pytest.mark.claim("C1.12")
def test_its_minimum_is_any_constant(check):
    n = 60
    loss = lambda e: n * scipy.special.logsumexp(-e) + e.sum()  # noqa: E731
    start = 3 * np.random.default_rng(1).standard_normal(n)
    found = scipy.optimize.minimize(loss, start, method="BFGS", options={"gtol": 1e-7})
    check("minimum over free energies", expected=n * math.log(n), measured=found.fun, within=1e-6)
    check("spread of the energies there", expected=0, measured=np.ptp(found.x), within=1e-3)
    curvature = []
    rng = np.random.default_rng(2)
    for _ in range(200):  # convex: below its chords
        a, b = 3 * rng.standard_normal((2, n))
        curvature.append((loss(a) + loss(b)) / 2 - loss((a + b) / 2))
    sign = "convex" if min(curvature) >= 0 else "not convex"
    check("loss on 200 chords", expected="convex", measured=sign)


@pytest.mark.claim("C1.12")
def test_its_gradient_is_one_minus_n_softmax(check):
    e = torch.randn(40, generator=generator(0), dtype=torch.float64)
    loss = lambda e: -40 * torch.log_softmax(-e, 0)[0] + e.sum() - 40 * e[0]  # noqa: E731
    h = 1e-6 * torch.eye(40, dtype=torch.float64)
    slopes = torch.stack([(loss(e + s) - loss(e - s)) / 2e-6 for s in h])
    formula = 1 - 40 * torch.exp(-e) / torch.exp(-e).sum()
    gap = (slopes - formula).abs().max()
    check("finite differences − formula", expected=0, measured=gap, within=1e-6)


@pytest.mark.claim("C1.13")
def test_the_mean_over_the_data_is_another_integral(check):
    x = torch.randn(400_000, generator=generator(0), dtype=torch.float64)
    q = torch.exp(-(x**2) / 2)
    other = integral(lambda u: scipy.stats.norm.pdf(u) * math.exp(-u * u / 2), -12, 12)
    error = 4.5 * standard_error(q)
    check("mean of e^(−E) over the data", expected=other, measured=q.mean(), within=error)
    z = integral(lambda u: math.exp(-u * u / 2), -12, 12)
    check("∫ p e^(−E)", expected=0.7071, measured=other, within=1e-4)
    check("Z", expected=2.5066, measured=z, within=1e-4)
    # the factor 1/p, where the data and the energy have different shapes
    wide = 1.3 * x
    w = torch.exp(-(wide**2) / 2 - Normal(0.0, 1.3).log_prob(wide))
    check("with 1/p", expected=z, measured=w.mean(), within=4.5 * standard_error(w))


@pytest.mark.claim("C1.14")
@pytest.mark.parametrize("r", [0.8, 1.1, 1.4, 2.0])
def test_the_second_moment_of_the_weights_per_coordinate(r, check):
    ratio = lambda x: scipy.stats.norm.pdf(x) ** 2 / scipy.stats.norm.pdf(x, 0, r)  # noqa: E731
    exact = r**2 / math.sqrt(2 * r**2 - 1)
    check(f"E w²/Z², r = {r}", expected=exact, measured=integral(ratio, -20, 20), within=1e-7)


@pytest.mark.claim("C1.14")
@pytest.mark.parametrize(("r", "d"), [(1.1, 40), (1.4, 3), (1.4, 10)])
def test_the_relative_error_of_the_estimate(r, d, check):
    estimates = torch.exp(log_weights(r, d, (1000, 500), seed=d)).mean(1)
    square = (estimates - 1) ** 2
    exact = ((r**2 / math.sqrt(2 * r**2 - 1)) ** d - 1) / 500
    error = 4.5 * standard_error(square)
    check(f"mean square error, r = {r}, d = {d}", expected=exact, measured=square.mean(),
          within=error)  # fmt: skip
    check("mean of the estimates", expected=1, measured=estimates.mean(),
          within=4.5 * standard_error(estimates))  # fmt: skip


@pytest.mark.claim("C1.14")
def test_the_share_of_useful_draws(check):
    w = torch.exp(log_weights(1.4, 10, (200_000,), seed=5))
    share = w.sum() ** 2 / (w**2).sum() / len(w)
    influence = 2 * w / w.mean() - w**2 / (w**2).mean()
    error = 4.5 * influence.std() / len(w) ** 0.5 * share
    exact = (math.sqrt(2 * 1.4**2 - 1) / 1.4**2) ** 10
    check("n_eff / n, r = 1.4, d = 10", expected=exact, measured=share, within=error)


@pytest.mark.claim("C1.15")
@pytest.mark.parametrize("d", [5, 10, 20])
def test_how_many_draws_an_error_of_ten_per_cent_takes(d, check):
    moment = (1.4**2 / math.sqrt(2 * 1.4**2 - 1)) ** d
    n = round(100 * (moment - 1))
    square = (torch.exp(log_weights(1.4, d, (600, n), seed=d)).mean(1) - 1) ** 2
    check(f"mean square error of {n} draws, d = {d}", expected=0.01, measured=square.mean(),
          within=4.5 * standard_error(square) + 0.01 / n)  # fmt: skip


@pytest.mark.claim("C1.15")
def test_log_z_is_too_low_on_average(check):
    w = torch.exp(log_weights(1.4, 20, (4000, 100), seed=1)).mean(1)
    low = "too low" if w.log().mean() + 4.5 * standard_error(w.log()) < 0 else "not too low"
    check("E log Ẑ − log Z", expected="too low", measured=low)
    check("E Ẑ/Z", expected=1, measured=w.mean(), within=4.5 * standard_error(w))


@pytest.mark.claim("C1.15")
@pytest.mark.parametrize("d", [1, 10, 100])
def test_many_small_steps_need_not_cost_an_exponential(d, check):
    """From N(0, 1.4² I) to N(0, I) through d laws between, with a perfect draw of each.

    The precisions grow by one factor R a step, so each ratio is a proposal √R times too wide.
    """
    precision = np.geomspace(1 / 1.96, 1, d + 1)
    square = np.random.default_rng(d).chisquare(d, (40_000, d)) / precision[:-1]  # ‖x‖² of each
    log_w = (d * np.diff(np.log(precision)) - np.diff(precision) * square).sum(1) / 2
    w = torch.tensor(np.exp(log_w))
    check(f"E w/Z, d = {d}", expected=1, measured=w.mean(), within=4.5 * standard_error(w))
    factor = 1.96 ** (1 / d)
    exact = (factor / math.sqrt(2 * factor - 1)) ** (d * d)
    check(f"E w²/Z², d = {d} steps in {d} dimensions", expected=exact, measured=(w**2).mean(),
          within=4.5 * standard_error(w**2))  # fmt: skip
    assert exact < math.exp(math.log(1.96) ** 2 / 2) < 1.26  # and it stays below that for ever


@pytest.mark.claim("C1.16")
def test_the_gradient_of_log_z_is_a_mean_over_the_model(check):
    q = lambda x, t: math.exp(-x * x / 2 - t * x**4 / 4)  # noqa: E731
    log_z = lambda t: math.log(integral(lambda x: q(x, t), -12, 12))  # noqa: E731
    slope = (log_z(0.7 + 1e-4) - log_z(0.7 - 1e-4)) / 2e-4
    z = math.exp(log_z(0.7))
    mean = integral(lambda x: x**4 / 4 * q(x, 0.7) / z, -12, 12)
    check("∂ log Z/∂θ, E = x²/2 + θx⁴/4", expected=-mean, measured=slope, within=1e-7)
    check("the same number", expected=-0.16980713, measured=slope, within=1e-7)


@pytest.mark.claim("C1.16")
def test_two_phases_make_the_gradient_of_a_network(check):
    net = mlp(1, 1, width=16, generator=generator(0)).double()
    nodes = torch.linspace(-9, 9, 3601, dtype=torch.float64)[:, None]
    energy = lambda x: net(x)[:, 0] + x[:, 0] ** 2 / 2  # noqa: E731
    data = torch.randn(300, 1, generator=generator(1), dtype=torch.float64) + 0.5

    def nll():
        return energy(data).mean() + torch.log(torch.trapezoid(torch.exp(-energy(nodes)), dx=0.005))

    mass = torch.softmax(-energy(nodes), 0).detach()
    drawn = nodes[torch.multinomial(mass, 200_000, replacement=True, generator=generator(2))]
    bias = list(net.parameters())[1]  # of the first layer: 16 numbers
    gradient = lambda f: torch.autograd.grad(f, bias)[0]  # noqa: E731
    through_z, data_phase = gradient(nll()), gradient(energy(data).mean())
    phases = torch.stack([gradient(energy(part).mean()) for part in drawn.chunk(100)])
    error = phases.std(0) / 100**0.5
    gap = (through_z - (data_phase - phases.mean(0))) / error
    check("largest gap, in standard errors", expected=0, measured=gap.abs().max(), within=4.5)
    flipped = (through_z - (data_phase + phases.mean(0))) / error
    apart = "far" if flipped.abs().max() > 50 else "near"
    check("with the other sign", expected="far", measured=apart)


@pytest.mark.claim("C1.17")
def test_kl_is_the_expected_nll_up_to_a_constant(check):
    models = [(0.0, 1.0), (1.0, 2.0), (-1.5, 0.8), (0.1, 1.6)]
    entropy = -integral(lambda x: two_bumps(x) * math.log(two_bumps(x)), -9, 9)
    for m, tau in models:
        model = scipy.stats.norm(m, tau)
        kl = integral(lambda x, g=model: two_bumps(x) * np.log(two_bumps(x) / g.pdf(x)), -9, 9)
        nll = integral(lambda x, g=model: -two_bumps(x) * g.logpdf(x), -9, 9)
        check(f"NLL − KL, N({m}, {tau}²)", expected=entropy, measured=nll - kl, within=1e-7)
        check("sign of KL", expected="positive", measured="positive" if kl > 0 else "negative")


@pytest.mark.claim("C1.17")
def test_the_smallest_kl_among_gaussians_has_the_moments_of_the_data(check):
    def kl(v):
        log_model = lambda x: scipy.stats.norm.logpdf(x, v[0], np.exp(v[1]))  # noqa: E731
        x = np.linspace(-9, 9, 3601)
        return np.trapezoid(two_bumps(x) * (np.log(two_bumps(x)) - log_model(x)), x)

    best = scipy.optimize.minimize(kl, (1.0, 0.0)).x
    mean = 0.3 * -2 + 0.7 * 1
    var = 0.3 * (0.25 + 4) + 0.7 * (1 + 1) - mean**2
    check("mean of the best Gaussian", expected=mean, measured=best[0], within=1e-3)
    check("its variance", expected=var, measured=np.exp(2 * best[1]), within=1e-2)


@pytest.mark.claim("C1.18")
@pytest.mark.parametrize("theta", [0.5, 2.0])
def test_the_slope_is_free_of_z(theta, check):
    """Counted draws are normalised, the energy is not: their logarithms rise alike."""
    energy = lambda x: theta * x**4 / 4 + np.sin(2 * x)  # noqa: E731
    draws = accepted(lambda x: np.exp(-energy(x)), math.e, 2_000_000, seed=7)
    score = score_of(lambda x: -theta * x[:, 0] ** 4 / 4 - torch.sin(2 * x[:, 0]) - 50)
    for a, b in ((-1.2, -0.6), (-0.6, 0.2), (0.2, 0.8)):
        path = torch.linspace(a, b, 2001, dtype=torch.float64)[:, None]
        counted, error = log_ratio_of_shares(draws, a, b)
        check(f"rise of log p from {a:g} to {b:g}, counted and by the slope, θ = {theta:g}",
              expected=line_integral(score, path), measured=counted, within=error)  # fmt: skip


@pytest.mark.claim("C1.18")
def test_score_matching_and_langevin_do_not_see_the_constant(check):
    energy = lambda x: (x**4).sum(1) / 4 - x.prod(1)  # noqa: E731
    x = torch.randn(200, 2, generator=generator(0), dtype=torch.float64)
    z = torch.randn(200, 2, generator=generator(1), dtype=torch.float64)
    results = []
    for c in (0.0, 50.0):
        s = score_of(lambda x, c=c: -energy(x) - c)
        step = samplers.langevin_step(x, s(x), z, 0.1)
        results.append((losses.ism(s, x).mean(), step, (energy(x) + c).mean()))
    (loss, step, mean_energy), (other_loss, other_step, other_mean) = results
    check("score matching loss, E + 50", expected=loss, measured=other_loss)
    moved = (step - other_step).abs().max()
    check("Langevin step, E + 50", expected=0, measured=moved)
    change = other_mean - mean_energy
    check("NLL without its log Z, E + 50", expected=50, measured=change, within=1e-9)


@pytest.mark.claim("C1.18")
def test_fitted_and_drawn_without_z(check):
    """E = θx⁴/4: fit θ to draws by score matching, then run Langevin on the fitted slope."""
    x = torch.tensor(accepted(lambda x: np.exp(-(x**4) / 4), 1.0, 60_000, seed=8))[:, None]
    loss = lambda theta: float(losses.ism(lambda y: -theta * y**3, x).mean())  # noqa: E731
    theta = scipy.optimize.minimize_scalar(loss, bounds=(0.01, 9), method="bounded").x
    pull = (3 * x**2 - theta * x**6)[:, 0] / (x**6).mean()  # of one draw on θ
    check("θ by score matching", expected=1, measured=theta, within=4.5 * standard_error(pull))
    eta, start = 0.05, torch.zeros(20_000, 1, dtype=torch.float64)
    end = samplers.langevin(lambda y: -theta * y**3, start, step_size=eta, n_steps=200,
                            generator=generator(9))[:, 0]  # fmt: skip
    # E x² stands still where θ E x⁴ − (η/4) θ² E x⁶ = 1; under the density itself E x⁴ = 1/θ
    fourth = end**4 - eta / 4 * theta * end**6
    check("E x⁴ of the Langevin draws, the step's bias taken off", expected=1 / theta,
          measured=fourth.mean(), within=4.5 * standard_error(fourth))  # fmt: skip
    both = 4.5 * math.hypot(standard_error(fourth), standard_error(x[:, 0] ** 4))
    check("E x⁴ of the data, of the Langevin draws", expected=(x**4).mean(),
          measured=fourth.mean(), within=both + 4.5 * float(standard_error(pull)))  # fmt: skip


@pytest.mark.claim("C1.19")
def test_one_number_per_input(check):
    shapes = [tuple(mlp(d, 1, generator=generator(0))(torch.zeros(7, d)).shape) for d in (1, 5, 64)]
    check("shapes for d = 1, 5, 64", expected=str([(7, 1)] * 3), measured=str(shapes))


def test_the_helper_agrees_with_torch():
    x = torch.randn(5, 3, generator=generator(3), dtype=torch.float64) * 1.4
    target = Independent(Normal(torch.zeros(3).double(), torch.ones(3).double()), 1)
    proposal = Independent(Normal(torch.zeros(3).double(), 1.4 * torch.ones(3).double()), 1)
    direct = target.log_prob(x) - proposal.log_prob(x)
    assert torch.allclose(log_weights(1.4, 3, (5,), seed=3), direct)
