"""Chapter 8, the DDPM connection: each test proves a claim by measuring it another way.

t counts from 1; ᾱ_t is BARS[t − 1], and ᾱ_0 = 1. What the package says is held against the forward
chain written out on its noises (`chain`), against integrals over a grid, and against simulation.
The law of most tests is 0.3 N(−1.5, 0.5) + 0.7 N(1, 0.3).
"""

from fractions import Fraction
from functools import cache
from itertools import product

import numpy as np
import pytest
import sympy as sp
import torch
from exact import exactly, normals, tensor
from numpy.polynomial.hermite_e import hermegauss
from scipy.stats import laplace, multivariate_normal, norm
from scipy.stats import t as student

from sbm_lite import experiments, losses, noise, samplers
from sbm_lite.calculus import jacobian, score_of
from sbm_lite.densities import GaussianMixture, gaussian, scaled_modes
from sbm_lite.diagnostics import standard_error
from sbm_lite.experiments import toys
from sbm_lite.networks import DdpmScore, TimeMLP
from sbm_lite.runtime import generator

WEIGHTS, MEANS, VARIANCES = np.array([[0.3, 0.7], [-1.5, 1.0], [0.5, 0.3]])
P = GaussianMixture(WEIGHTS, MEANS[:, None], VARIANCES[:, None, None])
PLANE = GaussianMixture(
    [0.4, 0.6], [[-1.0, 0.5], [1.0, 0.0]], [[[0.5, 0.2], [0.2, 0.4]], [[0.3, -0.1], [-0.1, 0.6]]]
)
AT = (-2.0, -0.3, 0.4, 1.7)
BETAS = np.linspace(1e-4, 0.02, 1000)  # the linear schedule, by hand
BARS = noise.alpha_bars(noise.linear_betas())
GRID = np.linspace(-8, 8, 4001)


def bar(t):
    """ᾱ_t of the linear schedule, not by `alpha_bars`."""
    return float(np.exp(np.log1p(-BETAS[:t]).sum()))


def snr(t):
    return bar(t) / (1 - bar(t))


def chain(betas):
    """x_1 … x_T step by step: what x_0 is multiplied by, (T,), and the noises, (T, T)."""
    start, noises = np.ones(len(betas)), np.zeros((len(betas), len(betas)))
    for i, beta in enumerate(betas):
        start[i] = (1 - beta) ** 0.5 * (start[i - 1] if i else 1.0)
        noises[i] = (1 - beta) ** 0.5 * noises[i - 1] if i else 0.0
        noises[i, i] = beta**0.5
    return start, noises


@cache
def step_back(t):
    """(a, b, variance): given x_t and x_0, x_{t−1} has mean a x_t + b x_0, by conditioning."""
    start, noises = chain(BETAS[:t])
    old, new = noises[-2:]
    a = old @ new / (new @ new)
    return a, start[-2] - a * start[-1], old @ old - a * (old @ new)


def density(x):
    return (WEIGHTS * norm.pdf(np.asarray(x)[..., None], MEANS, VARIANCES**0.5)).sum(-1)


def noised(x, level, f=np.ones_like):
    """∫ p(x_0) N(x; √ᾱ x_0, 1 − ᾱ) f(x_0) dx_0 at one x, ᾱ = `level`."""
    kernel = norm.pdf(x, level**0.5 * GRID, (1 - level) ** 0.5)
    return (density(GRID) * kernel * f(GRID)).sum() * (GRID[1] - GRID[0])


def posterior_mean(x, level, f):
    """E[f(x_0) | x_t = x]."""
    return noised(x, level, f) / noised(x, level)


def expected_noise(x, level):
    """E[ε | x_t = x]."""
    return posterior_mean(x, level, lambda u: (x - level**0.5 * u) / (1 - level) ** 0.5)


def slope_of_log(f, at, h=1e-4):
    """(log f)' by central differences."""
    return (np.log(f(at + h)) - np.log(f(at - h))) / (2 * h)


def exact(p, bars=BARS):
    """The score (x, t) of p at the steps of a schedule."""
    levels = cache(lambda t: p.diffused(float(bars[t - 1])))
    return lambda x, t: levels(int(t.flatten()[0])).score(x)


def towards(x_0, bars=BARS):
    """The score (x, t) of data at one point, exactly −ε/√(1 − ᾱ) of the noise in x."""

    def score(x, t):
        level = bar(int(t[0])) if bars is BARS else float(bars[t[0] - 1])
        return -(x - level**0.5 * x_0) / (1 - level)

    return score


def x_t(x, epsilon, t, bars=BARS):
    """The noisy points that the loss of the package shows to a network."""
    seen = []
    losses.ddpm_simple(lambda u, _: seen.append(u) or u, x, epsilon, t, bars)
    return seen[0]


def one_step(score, x, t, u, seed, bars=BARS):
    """Where the ancestral sampler stands at u after one step from x at t."""
    seen = []
    samplers.ancestral(lambda y, s: seen.append(y) or score(y, s), x, bars,
                       times=torch.tensor([t, u]), generator=generator(seed))  # fmt: skip
    return seen[1]


# Noise in many small steps


@pytest.mark.claim("C8.02")
@pytest.mark.parametrize("t", [2, 100, 600])
def test_a_step_takes_one_level_to_the_next(check, t):
    u = np.linspace(-9, 9, 20_001)
    before = P.diffused(float(BARS[t - 2])).log_prob(tensor(u)).exp().numpy()
    after = P.diffused(float(BARS[t - 1])).log_prob(tensor(AT)).exp()
    for x, package in zip(AT, after, strict=True):
        step = norm.pdf(x, (1 - BETAS[t - 1]) ** 0.5 * u, BETAS[t - 1] ** 0.5)
        by_step = (before * step).sum() * (u[1] - u[0])
        check(f"density of x_{t} at {x}", expected=by_step, measured=package, within=1e-8)


@pytest.mark.claim("C8.03")
def test_the_chain_is_markov(check):
    betas = np.array([0.1, 0.3, 0.2, 0.5])
    bars = noise.alpha_bars(torch.tensor(betas)).numpy()
    x = np.array([0.7, -0.4, 1.1, 0.2, -0.9])
    steps = norm.logpdf(x[1:], (1 - betas) ** 0.5 * x[:-1], betas**0.5).sum()
    low, high = np.minimum.outer(bars, bars), np.maximum.outer(bars, bars)
    covariance = (low / high) ** 0.5 * (1 - high)  # ᾱ is larger at the earlier step
    jointly = multivariate_normal.logpdf(x[1:], bars**0.5 * x[0], covariance)
    check("log q(x₁ … x₄ | x₀)", expected=jointly, measured=steps, within=1e-10)
    rng = np.random.default_rng(1)
    z = [rng.choice([-1.0, 2.0], 200_000)]
    for beta in betas[:3]:
        z.append((1 - beta) ** 0.5 * z[-1] + beta**0.5 * rng.standard_normal(200_000))
    past = np.stack(z[2::-1], 1)
    coefficients = np.linalg.lstsq(past, z[3], rcond=None)[0]
    errors = 4.5 * (betas[2] * np.diag(np.linalg.inv(past.T @ past))) ** 0.5
    wanted = [(1 - betas[2]) ** 0.5, 0.0, 0.0]
    for i in range(3):
        check(f"x₃ regressed on x₂, x₁, x₀: coefficient of x{'₂₁₀'[i]}", expected=wanted[i],
              measured=coefficients[i], within=errors[i])  # fmt: skip


def exact_bar():
    """ᾱ_1000 of the linear schedule in rational numbers."""
    total = Fraction(1)
    for i in range(1000):
        total *= 1 - (Fraction(1, 10_000) + i * Fraction(199, 10_000) / 999)
    return float(total)


@pytest.mark.claim("C8.04")
def test_what_the_linear_schedule_leaves(check):
    assert f"{exact_bar():.3g}" == "4.04e-05"
    check("ᾱ₁₀₀₀", expected=exact_bar(), measured=BARS[-1], within=1e-15)
    u = np.linspace(-9, 9, 4001)
    level = float(BARS[-1])
    end = norm.logpdf(u, level**0.5, (1 - level) ** 0.5)
    divergence = (np.exp(end) * (end - norm.logpdf(u))).sum() * (u[1] - u[0])
    check("KL from the prior at x₀ = 1", expected=2.018e-5, measured=divergence, within=1e-8)


@pytest.mark.claim("C8.04")
def test_only_a_divergent_sum_of_betas_forgets_the_start(check):
    t = torch.arange(1, 100_001, dtype=torch.float64)
    slow, fast = noise.alpha_bars(1 / (t + 1)), noise.alpha_bars(1 / (2 * t**2))
    check("ᾱ₁₀₀₀₀₀ for β = 1/(t + 1)", expected=1e-5, measured=slow[-1], within=1e-9)
    limit = np.sin(np.pi / 2**0.5) / (np.pi / 2**0.5)  # Euler's product for the sine
    check("the same for β = 1/2t²", expected=limit, measured=fast[-1], within=1e-5)


@pytest.mark.claim("C8.05")
def test_the_products_and_where_they_start(check):
    """For β_t = 1/(t + 1) the product telescopes to 1/(t + 1)."""
    t = torch.tensor([1, 2, 9, 49])
    bars = noise.alpha_bars(1 / torch.arange(2.0, 51.0, dtype=torch.float64))
    column = noise.alpha_bar_at(bars, t, torch.zeros(4, 2).double())
    for step, value in zip(t.tolist(), column[:, 0], strict=True):
        check(f"ᾱ_{step}", expected=1 / (step + 1), measured=value, within=1e-14)
    alone = noise.alpha_bar_at(BARS, 1, torch.zeros(4, 2).double())
    check("ᾱ₁ of the linear schedule", expected=1 - 1e-4, measured=alone, within=1e-15)


@pytest.mark.claim("C8.06")
def test_two_steps_are_one(check):
    """β = 0.2, then 0.1: the older noise is shrunk by √0.9, and 0.2 + 0.1 is not the sum."""
    n, rng = 400_000, np.random.default_rng(2)
    x, first, second = rng.standard_normal((3, n))
    middle = 0.8**0.5 * x + 0.2**0.5 * first
    end = 0.9**0.5 * middle + 0.1**0.5 * second
    level = float(noise.alpha_bars(exactly([0.2, 0.1]))[-1])
    left = end - level**0.5 * x
    error = 4.5 * 0.28 * (2 / n) ** 0.5
    check("variance of the noise", expected=1 - level, measured=left.var(), within=error)
    slope = np.cov(left, x)[0, 1]
    check("what x₀ leaves", expected=0, measured=slope, within=4.5 * (0.28 / n) ** 0.5)
    assert abs(left.var() - 0.30) > error
    a, b = sp.symbols("a b", positive=True)  # α_t and α_{t−1}
    merged = sp.sqrt(a * (1 - b)) ** 2 + sp.sqrt(1 - a) ** 2
    assert sp.simplify(merged - (1 - a * b)) == 0


@pytest.mark.claim("C8.07")
@pytest.mark.parametrize("t", [1, 30, 300])
def test_the_chain_and_one_shot_agree(check, t):
    n = 200_000
    x = P.sample(n, generator=generator(3)).double()
    shot = x_t(x, normals(n, 1, seed=4), torch.full((n,), t))[:, 0]
    rng, slow = generator(5), x[:, 0].clone()
    for beta in BETAS[:t]:
        z = torch.randn(n, generator=rng, dtype=torch.float64)
        slow = (1 - beta) ** 0.5 * slow + beta**0.5 * z
    start = x[:, 0] - x.mean()
    for name, f in (
        ("E x_t", lambda y: y),
        ("Cov(x_t, x₀)", lambda y: y * start),
        ("E (x_t − √ᾱ x₀)²", lambda y: (y - bar(t) ** 0.5 * x[:, 0]) ** 2),
    ):
        within = 4.5 * (standard_error(f(slow)) ** 2 + standard_error(f(shot)) ** 2) ** 0.5
        check(f"{name}, t = {t}", expected=f(slow).mean(), measured=f(shot).mean(), within=within)


@pytest.mark.claim("C8.07")
def test_the_law_of_a_mixture_at_a_level(check):
    for level in (0.9, 0.3):
        for at in AT:
            package = P.diffused(level).log_prob(tensor(at)).exp()
            check(f"density at {at}, ᾱ = {level}", expected=noised(at, level), measured=package,
                  within=1e-9)  # fmt: skip
    x = PLANE.sample(200_000, generator=generator(6)).double()
    at = exactly([0.4, -0.7])
    values = torch.exp(-((at - 0.6**0.5 * x) ** 2).sum(1) / 0.8) / (2 * np.pi * 0.4)
    package = PLANE.diffused(0.6).log_prob(at[None]).exp()
    check("the same in the plane, ᾱ = 0.6", expected=package, measured=values.mean(),
          within=4.5 * standard_error(values))  # fmt: skip


@pytest.mark.claim("C8.08")
def test_variances_add_only_for_independent_noises(check):
    n = 400_000
    x, y = normals(2, n, seed=7)
    apart, together = (0.18**0.5 * x + 0.1**0.5 * y), (0.18**0.5 * x + 0.1**0.5 * x)
    level = float(noise.alpha_bars(exactly([0.2, 0.1]))[-1])
    share = 4.5 * (2 / n) ** 0.5
    check("two fresh noises", expected=1 - level, measured=apart.var(), within=share * 0.28)
    wrong = 0.28 + 2 * 0.018**0.5
    check("one noise used twice", expected=wrong, measured=together.var(), within=share * wrong)
    check("Var(x + x)", expected=4, measured=(x + x).var(), within=share * 4)


@pytest.mark.claim("C8.09")
def test_no_gradient_passes_through_the_noisy_point(check):
    net = DdpmScore(TimeMLP(2, width=16, generator=generator(8)), BARS).double()
    x, e = normals(2, 300, 2, seed=9)
    t = torch.randint(1, 1001, (300,), generator=generator(10))
    seen = []
    losses.ddpm_simple(
        lambda u, s: seen.append(u) or net(u, s), x, e, t, BARS
    ).mean().backward()
    assert not seen[0].requires_grad
    gradient = torch.cat([w.grad.flatten() for w in net.parameters()])
    levels = exactly([[bar(int(s))] for s in t])
    inputs = (levels.sqrt() * x + (1 - levels).sqrt() * e).numpy()  # plain numbers, no graph

    def regression(step):
        with torch.no_grad():
            for w, d in zip(net.parameters(), directions, strict=True):
                w += step * d
            off = net.epsilon(torch.tensor(inputs), t.double()) - e
            for w, d in zip(net.parameters(), directions, strict=True):
                w -= step * d
        return float((off**2).sum(1).mean() / 2)

    rng = generator(11)
    for _ in range(3):
        directions = [torch.randn(w.shape, generator=rng).double() for w in net.parameters()]
        slope = (regression(1e-4) - regression(-1e-4)) / 2e-4
        along = gradient @ torch.cat([d.flatten() for d in directions])
        check("slope of the regression on fixed inputs", expected=slope, measured=along,
              within=1e-5 * (1 + abs(slope)))  # fmt: skip


@pytest.mark.claim("C8.10")
def test_betas_usually_grow_and_alpha_bar_always_falls(check):
    linear, cosine = noise.linear_betas(), noise.cosine_betas()
    check("β₁", expected=1e-4, measured=linear[0], within=1e-15)
    check("β₁₀₀₀", expected=0.02, measured=linear[-1], within=1e-15)
    check("β₅₀₀", expected=1e-4 + 499 * 0.0199 / 999, measured=linear[499], within=1e-15)
    for name, betas in (("linear", linear), ("cosine", cosine)):
        growing = (betas.diff() > 0).sum()
        check(f"steps at which β grows, {name}", expected=999, measured=growing)
    wild = torch.rand(1000, generator=generator(12), dtype=torch.float64) * 0.05 + 1e-6
    falling = (noise.alpha_bars(wild).diff() < 0).sum()
    check("steps at which ᾱ falls, β at random", expected=999, measured=falling)
    f = np.cos((np.array([0.5, 0.0]) + 0.008) / 1.008 * np.pi / 2) ** 2
    halfway = noise.alpha_bars(cosine)[499]
    check("ᾱ₅₀₀ of the cosine schedule", expected=f[0] / f[1], measured=halfway, within=1e-12)


# One step back


@pytest.mark.claim("C8.11")
def test_the_true_kernels_lead_from_noise_to_data(check):
    """Densities on a grid; no kernel can increase the distance that the start has from q_T."""
    u = np.linspace(-6, 6, 601)
    betas = np.linspace(0.02, 0.8, 12)
    bars = noise.alpha_bars(torch.tensor(betas)).tolist()
    laws = [density(u), *(P.diffused(b).log_prob(tensor(u)).exp().numpy() for b in bars)]
    now = norm.pdf(u)
    start = np.abs(now - laws[-1]).sum() * 0.02
    for t in range(12, 0, -1):
        forward = norm.pdf(u[None, :], (1 - betas[t - 1]) ** 0.5 * u[:, None], betas[t - 1] ** 0.5)
        back = laws[t - 1][:, None] * forward  # (x_{t−1}, x_t), by Bayes
        now = back / back.sum(0) @ now
    distance = np.abs(now / (now.sum() * 0.02) - density(u)).sum() * 0.02
    check("distance of the end from the data", expected=0, measured=distance, within=start + 1e-6)
    assert start < 0.01


def reverse_on_grid(p, level, beta, at):
    """q(x_{t−1} | x_t = at) on a grid, with ᾱ_{t−1} = `level`."""
    u = np.linspace(-8, 8, 40_001)
    log = p.diffused(level).log_prob(tensor(u)).numpy()
    log -= (at - (1 - beta) ** 0.5 * u) ** 2 / (2 * beta)
    weight = np.exp(log - log.max())
    return u, weight / weight.sum()


TWO = GaussianMixture([0.5, 0.5], [[-2.0], [2.0]], [[[0.25]], [[0.25]]])


@pytest.mark.claim("C8.12")
@pytest.mark.parametrize(
    ("beta", "known"), [(0.5, 0.432), (0.1, 0.0677), (0.02, 0.00137), (0.004, 1.05e-5)]
)
def test_one_step_back_is_nearly_gaussian_for_small_beta(check, beta, known):
    u, weight = reverse_on_grid(TWO, 0.9, beta, 0.3)
    mean = weight @ u
    matched = np.exp(-((u - mean) ** 2) / (2 * (weight @ (u - mean) ** 2)))
    matched /= matched.sum()
    inside = weight > 1e-250
    ratio = np.log(weight[inside] / np.maximum(matched[inside], 1e-300))
    check(f"KL from the matched Gaussian, β = {beta}", expected=known,
          measured=weight[inside] @ ratio, within=0.005 * known)  # fmt: skip


@pytest.mark.claim("C8.13")
@pytest.mark.parametrize("beta", [0.5, 0.1, 0.02])
def test_its_moments_are_the_score_and_its_slope(check, beta):
    at = 0.3
    u, weight = reverse_on_grid(TWO, 0.9, beta, at)
    mean, variance = weight @ u, weight @ (u - weight @ u) ** 2
    law, x = TWO.diffused(0.9 * (1 - beta)), tensor(at)
    s, slope = law.score(x)[0, 0], jacobian(law.score, x)[0, 0, 0]
    check(f"E[x_t−1 | x_t], β = {beta}", expected=mean, within=1e-6,
          measured=(at + beta * s) / (1 - beta) ** 0.5)  # fmt: skip
    check(f"Var[x_t−1 | x_t], β = {beta}", expected=variance, within=1e-6,
          measured=beta / (1 - beta) * (1 + beta * slope))  # fmt: skip


@pytest.mark.claim("C8.13")
def test_the_moments_in_the_plane(check):
    at, axis = exactly([0.3, -0.2]), torch.linspace(-5, 5, 401, dtype=torch.float64)
    u = torch.cartesian_prod(axis, axis)
    log = PLANE.diffused(0.9).log_prob(u) - ((at - 0.9**0.5 * u) ** 2).sum(1) / 0.2
    weight = log.softmax(0)
    mean = weight @ u
    covariance = ((u - mean).T * weight) @ (u - mean)
    law = PLANE.diffused(0.81)
    package = 0.1 / 0.9 * (torch.eye(2) + 0.1 * jacobian(law.score, at[None])[0])
    for i, j in ((0, 0), (0, 1), (1, 1)):
        check(f"covariance, entry {i + 1}{j + 1}", expected=covariance[i, j],
              measured=package[i, j], within=1e-7)  # fmt: skip
        assert abs(package[i, j] - 0.1 / 0.9 * (i == j)) > 1e-4
    bars = exactly([0.9, 0.81])
    by_sampler = one_step(exact(PLANE, bars), at.expand(100_000, 2).clone(), 2, 1, 13, bars)
    for i in range(2):
        check("the mean, and that of the sampler's step", expected=mean[i],
              measured=by_sampler[:, i].mean(),
              within=4.5 * standard_error(by_sampler[:, i]))  # fmt: skip


STEPS = np.array([0.1, 0.3, 0.5])  # a chain of three steps from x_0 = 0.7 …
MODEL = ((0.8, 0.1, 0.2), (0.7, -0.2, 0.3), (0.6, 0.05, 0.4))  # … and p(x_t−1 | x_t) = N(cx + d, v)
START = 0.7


def log_model(x, model=MODEL):
    """log p_θ(x_0 … x_3) of a linear Gaussian model with the prior N(0, 1)."""
    total = norm.logpdf(x[3])
    for (c, d, v), old, new in zip(model, x[:3], x[1:], strict=True):
        total = total + norm.logpdf(old, c * new + d, v**0.5)
    return total


def log_evidence(x_0, model=MODEL):
    """log p_θ(x_0): the reverse chain pushed down, mean and variance."""
    mean, variance = 0.0, 1.0
    for c, d, v in reversed(model):
        mean, variance = c * mean + d, c**2 * variance + v
    return norm.logpdf(x_0, mean, variance**0.5)


def forward_paths(x_0, z, betas=STEPS):
    """x_0 … x_T and log q(x_1 … x_T | x_0), from the noises."""
    x, log_q = [x_0 + 0 * z[0]], 0.0
    for beta, noise_t in zip(betas, z, strict=True):
        x.append((1 - beta) ** 0.5 * x[-1] + beta**0.5 * noise_t)
        log_q = log_q + norm.logpdf(x[-1], (1 - beta) ** 0.5 * x[-2], beta**0.5)
    return x, log_q


NODES, NODE_WEIGHTS = hermegauss(12)
NODE_WEIGHTS = NODE_WEIGHTS / NODE_WEIGHTS.sum()


def bound(x_0=START, model=MODEL):
    """E_q log q(x_1 … x_3 | x_0)/p_θ(x_0 … x_3): quadrature over the three noises."""
    z = np.array(list(product(NODES, repeat=3))).T
    weights = np.array([np.prod(w) for w in product(NODE_WEIGHTS, repeat=3)])
    x, log_q = forward_paths(x_0, z)
    return weights @ (log_q - log_model(x, model))


def divergence(mean, variance, other_mean, other_variance):
    """KL between normals on the line."""
    r = variance / other_variance
    return (r - 1 - np.log(r) + (mean - other_mean) ** 2 / other_variance) / 2


def three_terms(x_0=START, model=MODEL, steps=STEPS):
    """Reconstruction, prior and denoising terms, each from conditioned Gaussians."""
    start, noises = chain(steps)
    covariance = noises @ noises.T
    (c, d, v), m, s = model[0], start[0] * x_0, covariance[0, 0]
    reconstruction = np.log(2 * np.pi * v) / 2 + ((x_0 - c * m - d) ** 2 + c**2 * s) / (2 * v)
    prior = divergence(start[-1] * x_0, covariance[-1, -1], 0.0, 1.0)
    denoising = 0.0
    for t in range(1, len(steps)):
        a = covariance[t - 1, t] / covariance[t, t]
        variance = covariance[t - 1, t - 1] - a * covariance[t - 1, t]
        x = start[t] * x_0 + covariance[t, t] ** 0.5 * NODES
        mean = start[t - 1] * x_0 + a * (x - start[t] * x_0)
        c, d, v = model[t]
        denoising += NODE_WEIGHTS @ divergence(mean, variance, c * x + d, v)
    return reconstruction, prior, denoising


def gaussians_apart(mean, covariance, other_mean, other_covariance):
    """KL between Gaussians in several dimensions."""
    q, p = (
        torch.distributions.MultivariateNormal(torch.tensor(m), torch.tensor(c))
        for m, c in ((mean, covariance), (other_mean, other_covariance))
    )
    return float(torch.distributions.kl_divergence(q, p))


def model_given_start(x_0, model=MODEL):
    """Mean and covariance of x_1 … x_3 given x_0 under the model, from its joint law."""
    row, mean = np.eye(4)[3], 0.0  # x_3 is its own noise; x_t−1 = c x_t + d + √v z
    rows, means = [row], [mean]
    for i, (c, d, v) in zip((2, 1, 0), reversed(model), strict=True):
        row, mean = c * row + v**0.5 * np.eye(4)[i], c * mean + d
        rows, means = [row, *rows], [mean, *means]
    joint, m = np.array(rows) @ np.array(rows).T, np.array(means)
    gain = joint[1:, 0] / joint[0, 0]
    return m[1:] + gain * (x_0 - m[0]), joint[1:, 1:] - np.outer(gain, joint[0, 1:])


@pytest.mark.claim("C8.15")
def test_the_reverse_of_q_is_markov_and_is_not_the_model(check):
    """Data N(0, 1.7), three steps: q back to front is q; a model is q only if it says the same."""
    start, noises = chain(STEPS)
    rows = np.c_[1.7**0.5 * np.r_[1.0, start], np.r_[np.zeros((1, 3)), noises]]
    joint = rows @ rows.T
    far = np.linalg.inv(joint)[[0, 0, 1], [2, 3, 3]]
    check("precision between steps two or more apart", expected=0, measured=np.abs(far).max(),
          within=1e-12)  # fmt: skip
    bars = noise.alpha_bars(torch.tensor(STEPS)).tolist()
    law, x = gaussian(1.7**0.5, dim=1), np.array([0.7, -0.4, 1.1, 0.2])
    total = float(law.diffused(bars[2]).log_prob(tensor(x[3])))
    back = []
    for t in (3, 2, 1):
        q, at = law.diffused(bars[t - 1]), tensor(x[t])
        mean = (at + STEPS[t - 1] * q.score(at)) / (1 - STEPS[t - 1]) ** 0.5
        slope = jacobian(q.score, at)[0, 0, 0]
        variance = STEPS[t - 1] / (1 - STEPS[t - 1]) * (1 + STEPS[t - 1] * slope)
        total += norm.logpdf(x[t - 1], float(mean), float(variance) ** 0.5)
        back = [(float(mean) / x[t], 0.0, float(variance)), *back]
    forward = norm.logpdf(x[0], 0, 1.7**0.5) + norm.logpdf(
        x[1:], (1 - STEPS) ** 0.5 * x[:-1], STEPS**0.5
    ).sum()
    check("log q(x₀ … x₃) by steps back", expected=forward, measured=total, within=1e-9)
    check("gap of the bound, a model that is not q", expected=0.2515,
          measured=bound() + log_evidence(START), within=5e-5)  # fmt: skip
    # With the kernels of q the model still starts from N(0, 1) and not from q(x₃).
    entropy = np.log(2 * np.pi * np.e * 1.7) / 2
    apart = hermite_mean(lambda y: bound(y, back), 1.7**0.5) - entropy
    check("KL(q‖p_θ) with the kernels of q", expected=divergence(0, joint[3, 3], 0, 1),
          measured=apart, within=1e-9)  # fmt: skip


def hermite_mean(f, std):
    """E f(std·z)."""
    return sum(w * f(std * z) for z, w in zip(NODES, NODE_WEIGHTS, strict=True))


# The step back when the start is known


@pytest.mark.claim("C8.16")
@pytest.mark.parametrize("t", [2, 500, 1000])
def test_bayes(check, t):
    a, b, variance = step_back(t)
    before, now = float(BARS[t - 2]), float(BARS[t - 1])
    start, end = 0.7, -0.4
    for old in (a * end + b * start, a * end + b * start + variance**0.5):
        by_bayes = (
            norm.logpdf(end, (1 - BETAS[t - 1]) ** 0.5 * old, BETAS[t - 1] ** 0.5)
            + norm.logpdf(old, before**0.5 * start, (1 - before) ** 0.5)
            - norm.logpdf(end, now**0.5 * start, (1 - now) ** 0.5)
        )
        conditioned = norm.logpdf(old, a * end + b * start, variance**0.5)
        check(f"log q(x_t−1 | x_t, x₀), t = {t}", expected=conditioned, measured=by_bayes,
              within=1e-6)  # fmt: skip


def exponent(old, end, start, t, sign=1):
    """The three squares; `sign` = −1 turns the second as the source prints it."""
    before, now, beta = bar(t - 1), bar(t), BETAS[t - 1]
    first = (end - (1 - beta) ** 0.5 * old) ** 2 / beta
    second = (old - before**0.5 * start) ** 2 / (1 - before)
    third = (end - now**0.5 * start) ** 2 / (1 - now)
    return -(first + sign * second - third) / 2


@pytest.mark.claim("C8.17")
def test_the_exponent(check):
    for t in (2, 500):
        a, b, variance = step_back(t)
        mean, old = a * -0.4 + b * 0.7, np.array([-0.3, 0.5])
        gaussian_exponent = -((old - mean) ** 2) / (2 * variance)
        check(f"exponent at −0.3 and at 0.5, t = {t}", expected=gaussian_exponent[0],
              measured=exponent(-0.3, -0.4, 0.7, t), within=1e-6)  # fmt: skip
        check("the second", expected=gaussian_exponent[1], measured=exponent(0.5, -0.4, 0.7, t),
              within=1e-6)  # fmt: skip
    for name, sign, known in (("right", 1, 18337.9), ("with the second sign turned", -1, -1662.1)):
        e = [exponent(u, -0.4, 0.7, 2, sign) for u in (-1.0, 0.0, 1.0)]
        precision = -(e[0] - 2 * e[1] + e[2])
        check(f"precision at t = 2, {name}", expected=known, measured=precision, within=0.05)
    check("1/Var(x₁ | x₂, x₀)", expected=18337.9, measured=1 / step_back(2)[2], within=0.05)


@pytest.mark.claim("C8.18")
@pytest.mark.parametrize("t", [2, 500, 1000])
def test_precision_and_linear_term(check, t):
    a, b, variance = step_back(t)
    alpha, before = 1 - BETAS[t - 1], float(BARS[t - 2])
    precision = alpha / BETAS[t - 1] + 1 / (1 - before)
    check(f"precision, t = {t}", expected=1 / variance, measured=precision,
          within=1e-8 * precision)  # fmt: skip
    of_now, of_start = alpha**0.5 / BETAS[t - 1], before**0.5 / (1 - before)
    check("linear term in x_t", expected=a / variance, measured=of_now, within=1e-8 * of_now)
    check("linear term in x₀", expected=b / variance, measured=of_start, within=1e-8 * precision)


@pytest.mark.claim("C8.19")
def test_the_variance_of_a_step_back(check):
    for t in (2, 500, 1000):
        formula = (1 - float(BARS[t - 2])) / (1 - float(BARS[t - 1])) * BETAS[t - 1]
        check(f"β̃ at t = {t}", expected=step_back(t)[2], measured=formula, within=1e-10)
    n, x = 100_000, exactly([[0.9, -0.3]])
    for t in (2, 4):
        drawn = one_step(towards(0.7), x.expand(n, 2).clone(), t, t - 1, 14)
        variance = step_back(t)[2]
        check(f"variance of a step of the sampler, t = {t}", expected=variance,
              measured=drawn.var(0).mean(), within=4.5 * variance / n**0.5)  # fmt: skip
    ends = [
        samplers.ancestral(towards(0.7), x, BARS, times=torch.tensor([1]), generator=generator(k))
        for k in (1, 2)
    ]
    check("spread of the last step", expected=0, measured=(ends[0] - ends[1]).abs().max())


@pytest.mark.claim("C8.20")
def test_the_mean_of_a_step_back(check):
    for t in (2, 500, 1000):
        a, b, _ = step_back(t)
        alpha, before, now = 1 - BETAS[t - 1], float(BARS[t - 2]), float(BARS[t - 1])
        check(f"coefficient of x_t, t = {t}", expected=a,
              measured=alpha**0.5 * (1 - before) / (1 - now), within=1e-10)  # fmt: skip
        check("coefficient of x₀", expected=b,
              measured=before**0.5 * BETAS[t - 1] / (1 - now), within=1e-10)  # fmt: skip
    n, x_0 = 100_000, 0.7
    for t in (2, 500):
        end = torch.full((n, 1), -0.4).double()
        a, b, variance = step_back(t)
        drawn = one_step(towards(x_0), end, t, t - 1, 15)
        check(f"mean of a step of the sampler, t = {t}", expected=a * -0.4 + b * x_0,
              measured=drawn.mean(), within=4.5 * (variance / n) ** 0.5)  # fmt: skip
    alpha, before, end, start, old = sp.symbols("alpha before end start old", positive=True)
    log = -((end - sp.sqrt(alpha) * old) ** 2) / (2 * (1 - alpha))
    log -= (old - sp.sqrt(before) * start) ** 2 / (2 * (1 - before))
    squares = sp.Poly(sp.expand(-2 * log), old)
    quadratic, linear = squares.coeff_monomial(old**2), -squares.coeff_monomial(old)
    mean = sp.solve(sp.diff(log, old), old)[0]
    check("linear over quadratic coefficient, in units of the mean", expected=2,
          measured=sp.simplify(linear / quadratic / mean))  # fmt: skip


CLEAN, EPSILON = exactly([[1.3, -0.4], [0.6, -1.1]])


def noisy_500():
    return x_t(CLEAN[None], EPSILON[None], torch.tensor([500]))


@pytest.mark.claim("C8.21")
def test_the_start_from_the_noisy_point_and_its_noise(check):
    """Both samplers, told the noise, leap from t = 500 to 0."""

    def told(x, t):
        return -EPSILON.expand_as(x) / (1 - bar(500)) ** 0.5

    x, leap = noisy_500(), torch.tensor([500])
    for name, sampler in (("DDIM", samplers.ddim), ("ancestral", samplers.ancestral)):
        end = sampler(told, x, BARS, times=leap)[0]
        check(f"x₀ by {name}, first coordinate", expected=1.3, measured=end[0], within=1e-10)
        check("second coordinate", expected=-0.4, measured=end[1], within=1e-10)
    wrong = (x[0] - BETAS[499] / (1 - bar(500)) ** 0.5 * EPSILON) / bar(500) ** 0.5
    assert (wrong - torch.tensor([3.3321, -4.1255])).abs().max() < 1e-4


@pytest.mark.claim("C8.22")
def test_the_mean_in_terms_of_the_noise(check):
    """From the noise alone; conditioning on x_500 and x_0 gives the same point."""
    a, b, variance = step_back(500)
    x, n = noisy_500()[0], 200_000
    known = a * x + b * CLEAN
    assert (known - torch.tensor([0.938825, -1.162371])).abs().max() < 1e-6
    formula = (x - BETAS[499] / (1 - bar(500)) ** 0.5 * EPSILON) / (1 - BETAS[499]) ** 0.5

    def told(y, t):
        return -EPSILON.expand_as(y) / (1 - bar(int(t[0]))) ** 0.5

    drawn = one_step(told, x.expand(n, 2).clone(), 500, 499, 16)
    for i in range(2):
        check("μ̃ from the noise", expected=known[i], measured=formula[i], within=1e-10)
        check("mean of the sampler's step", expected=known[i], measured=drawn[:, i].mean(),
              within=4.5 * (variance / n) ** 0.5)  # fmt: skip
    wrong = (x - BETAS[499] / (1 - bar(500)) ** 0.5 * EPSILON) / bar(500) ** 0.5
    check("with √ᾱ for √α, too large by", expected=3.5492, measured=(wrong / known)[0],
          within=1e-4)  # fmt: skip


@pytest.mark.claim("C8.23")
def test_the_mean_still_moves_with_the_start(check):
    """At a fixed x_500 another x_0 is another noise."""
    x, means = noisy_500(), []
    for start in (CLEAN, CLEAN + 1):
        e = (x - bar(500) ** 0.5 * start) / (1 - bar(500)) ** 0.5
        means.append((x - BETAS[499] / (1 - bar(500)) ** 0.5 * e) / (1 - BETAS[499]) ** 0.5)
    moved = (means[1] - means[0])[0, 0]
    assert f"{step_back(500)[1]:.5f}" == "0.00307"
    check("shift of μ̃ when x₀ moves by 1", expected=step_back(500)[1], measured=moved, within=1e-9)


# The bound in three terms


def evidence_on_grid(x_0, prior, kernels, limit=12, n=1201):
    """p_θ(x_0) by integrating the steps out one after the other; kernels are (old, new) → pdf."""
    u = np.linspace(-limit, limit, n)
    now = prior(u)
    for kernel in reversed(kernels[1:]):
        now = kernel(u[:, None], u[None, :]) @ now * (u[1] - u[0])
    return (kernels[0](x_0, u) * now).sum() * (u[1] - u[0])


def linear_kernels(model=MODEL):
    return [lambda old, new, m=m: norm.pdf(old, m[0] * new + m[1], m[2] ** 0.5) for m in model]


@pytest.mark.claim("C8.24")
def test_the_bound_is_above_the_negative_log_likelihood(check):
    evidence = -np.log(evidence_on_grid(START, norm.pdf, linear_kernels()))
    check("−log p_θ(x₀)", expected=1.113218, measured=evidence, within=1e-6)
    x, log_q = forward_paths(START, np.random.default_rng(17).standard_normal((3, 400_000)))
    values = torch.tensor(log_q - log_model(x))
    check("the bound", expected=1.364676, measured=values.mean(),
          within=4.5 * standard_error(values))  # fmt: skip
    rng = np.random.default_rng(18)
    gaps = []
    for _ in range(50):
        model = np.c_[rng.uniform(-1, 1, (3, 2)), rng.uniform(0.1, 1, 3)]
        gaps.append(bound(model=model) + log_evidence(START, model))
    assert min(gaps) > 0, "for any model"


@pytest.mark.claim("C8.25")
def test_the_same_bound_on_average_over_the_data(check):
    evidence = np.array([log_evidence(u) for u in GRID])
    cross_entropy = -(density(GRID) * evidence).sum() * (GRID[1] - GRID[0])
    # a parabola in x_0 has its average from three values
    left, middle, right = (bound(u) for u in (-1.0, 0.0, 1.0))
    first, second = WEIGHTS @ MEANS, WEIGHTS @ (MEANS**2 + VARIANCES)
    average = middle + (right - left) / 2 * first + (right - 2 * middle + left) / 2 * second
    rng, n = np.random.default_rng(19), 400_000
    component = rng.choice(2, n, p=WEIGHTS)
    x_0 = MEANS[component] + VARIANCES[component] ** 0.5 * rng.standard_normal(n)
    x, log_q = forward_paths(x_0, rng.standard_normal((3, n)))
    values = torch.tensor(log_q - log_model(x))
    check("the bound over q(x₀ … x₃), and its mean over x₀", expected=average,
          measured=values.mean(), within=4.5 * standard_error(values))  # fmt: skip
    gaps = [
        gaussians_apart(chain(STEPS)[0] * u, chain(STEPS)[1] @ chain(STEPS)[1].T,
                        *model_given_start(u)) for u in (-1.0, 0.0, 1.0)
    ]  # fmt: skip
    gap = gaps[1] + (gaps[2] - gaps[0]) / 2 * first + (gaps[2] - 2 * gaps[1] + gaps[0]) / 2 * second
    check("bound minus cross entropy", expected=gap, measured=average - cross_entropy, within=1e-6)
    assert gap > 0
    check("p_θ(x₀), the mean inside the logarithm", expected=0.3285,
          measured=evidence_on_grid(START, norm.pdf, linear_kernels()), within=5e-5)  # fmt: skip


@pytest.mark.claim("C8.26")
@pytest.mark.parametrize("x_0", [-1.2, 0.7, 2.0])
def test_the_gap_is_the_divergence_of_the_forward_chain_from_the_posterior(check, x_0):
    start, noises = chain(STEPS)
    gap = gaussians_apart(start * x_0, noises @ noises.T, *model_given_start(x_0))
    check(f"KL(q‖p_θ) over x₁ … x₃, x₀ = {x_0}", expected=bound(x_0) + log_evidence(x_0),
          measured=gap, within=1e-9)  # fmt: skip


@pytest.mark.claim("C8.27")
def test_the_three_terms(check):
    names = ("reconstruction", "prior", "denoising")
    for name, known, term in zip(names, (0.286032, 0.108843, 0.969801), three_terms(), strict=True):
        check(f"{name} term", expected=known, measured=term, within=1e-6)
    check("their sum", expected=bound(), measured=sum(three_terms()), within=1e-9)
    bars = noise.alpha_bars(torch.tensor(STEPS))
    prior = divergence(float(bars[2]) ** 0.5 * START, 1 - float(bars[2]), 0, 1)
    check("the prior term by ᾱ₃", expected=0.108843, measured=prior, within=1e-6)


@pytest.mark.claim("C8.28")
def test_the_telescope(check):
    start, noises = chain(STEPS)
    covariance, x = noises @ noises.T, np.array([START, -0.4, 1.1, 0.2])
    bars = noise.alpha_bars(torch.tensor(STEPS)).numpy()
    shots = norm.logpdf(x[1:], bars**0.5 * START, (1 - bars) ** 0.5)
    backs = []
    for t in (1, 2):  # conditioning x_t on x_{t+1}, x_0 known
        a = covariance[t - 1, t] / covariance[t, t]
        mean = start[t - 1] * START + a * (x[t + 1] - start[t] * START)
        std = (covariance[t - 1, t - 1] - a * covariance[t - 1, t]) ** 0.5
        backs.append(norm.logpdf(x[t], mean, std))
        forward = norm.logpdf(x[t + 1], (1 - STEPS[t]) ** 0.5 * x[t], STEPS[t] ** 0.5)
        check(f"log q(x{'₂₃'[t - 1]} | x{'₁₂'[t - 1]})", expected=forward,
              measured=backs[-1] + shots[t] - shots[t - 1], within=1e-10)  # fmt: skip
    whole = norm.logpdf(x[1:], (1 - STEPS) ** 0.5 * x[:-1], STEPS**0.5).sum()
    check("log q(x₁ x₂ x₃ | x₀)", expected=whole, measured=sum(backs) + shots[-1], within=1e-10)


@pytest.mark.claim("C8.30")
def test_the_prior_term_is_the_same_for_every_model(check):
    rng = np.random.default_rng(20)
    left = []
    for _ in range(20):
        model = np.c_[rng.uniform(-1, 1, (3, 2)), rng.uniform(0.1, 1, 3)]
        reconstruction, _, denoising = three_terms(model=model)
        left.append(bound(model=model) - reconstruction - denoising)
    check("what the other two terms leave", expected=0.108843, measured=np.mean(left), within=1e-6)
    check("its spread over 20 models", expected=0, measured=np.ptp(left), within=1e-9)


def end_variance(data, tilde, betas=BETAS):
    """Variance at the end of the reverse chain for N(0, data): closed form, exact kernels' mean."""
    levels = np.cumprod(1 - betas)
    before = np.r_[1.0, levels[:-1]]
    v = levels[-1] * data + 1 - levels[-1]
    for beta, now, old in zip(betas[::-1], levels[::-1], before[::-1], strict=True):
        noise_added = beta * ((1 - old) / (1 - now) if tilde else old < 1)
        v = (1 - beta / (now * data + 1 - now)) ** 2 / (1 - beta) * v + noise_added
    return v


@pytest.mark.claim("C8.32")
@pytest.mark.parametrize(
    ("data", "plain", "tilde"),
    [(1.0, 0.9999, 0.9911), (0.01, 0.01015, 0.00928), (4.0, 3.9906, 3.9748)],
)
def test_two_choices_of_variance(check, data, plain, tilde):
    check(f"end variance with β, data {data:g}", expected=plain, within=6e-4 * plain,
          measured=end_variance(data, False))  # fmt: skip
    assert abs(end_variance(data, True) / tilde - 1) < 6e-4
    n = 30_000
    end = samplers.ancestral(exact(gaussian(data**0.5, dim=1)), normals(n, 1, seed=21), BARS,
                             generator=generator(22))  # fmt: skip
    check(f"the same with β̃, data {data:g}", expected=end_variance(data, True),
          measured=end.var(), within=4.5 * end_variance(data, True) * (2 / n) ** 0.5)  # fmt: skip


@pytest.mark.claim("C8.32")
def test_each_variance_is_exact_for_one_kind_of_data(check):
    """The true variance of a step back from the score: β for N(0, 1), β̃ for a point."""
    t = 3
    x, level = tensor(0.4), float(BARS[t - 1])
    kinds = ("unit variance", 1.0, BETAS[2]), ("a point", 1e-6, step_back(3)[2])
    for name, std, expected in kinds:
        slope = jacobian(gaussian(std, dim=1).diffused(level).score, x)[0, 0, 0]
        true = BETAS[t - 1] / (1 - BETAS[t - 1]) * (1 + BETAS[t - 1] * slope)
        check(f"variance of a step back from t = 3, {name}", expected=expected, measured=true,
              within=1e-10)  # fmt: skip


@pytest.mark.claim("C8.32")
def test_twenty_coarse_steps_with_either_variance(check):
    """On N(0, 1) the two choices end far apart; the sampler of the package takes β̃."""
    n, betas = 200_000, np.linspace(0.005, 0.5, 20)
    bars = noise.alpha_bars(torch.tensor(betas))
    score, x, rng = exact(gaussian(dim=1), bars), normals(n, 1, seed=23), generator(24)
    end = samplers.ancestral(score, x, bars, generator=rng)
    wanted = end_variance(1.0, True, betas)
    within = 4.5 * (2 / n) ** 0.5
    check("end variance with β̃", expected=wanted, measured=end.var(), within=within * wanted)
    for t in range(20, 0, -1):
        beta = betas[t - 1]
        mean = (x + beta * score(x, torch.tensor([t]))) / (1 - beta) ** 0.5
        x = mean + beta**0.5 * torch.randn(n, 1, generator=rng, dtype=torch.float64) * (t > 1)
        if t > 1:
            check(f"variance at t = {t - 1} with β", expected=1, measured=x.var(), within=within)
    check("variance at 0 with β", expected=1 - betas[0], measured=x.var(), within=within)
    assert 1 - betas[0] - wanted > 5 * within


@pytest.mark.claim("C8.33")
def test_the_divergence_of_equal_covariances(check):
    first, second = np.array([1.0, 2.0]), np.array([0.5, 2.2])
    exact_kl = gaussians_apart(first, 0.3 * np.eye(2), second, 0.3 * np.eye(2))
    square = ((first - second) ** 2).sum() / (2 * 0.3)
    check("‖μ − μ̃‖²/2β̃", expected=exact_kl, measured=square, within=1e-12)
    y = normals(400_000, 2, seed=25).numpy() * 0.3**0.5 + first
    ratio = torch.tensor(((y - second) ** 2 - (y - first) ** 2).sum(1) / 0.6)
    check("mean log ratio over draws", expected=0.483333, measured=ratio.mean(),
          within=4.5 * standard_error(ratio))  # fmt: skip


# Three names for one prediction


def names_of(x, e, level):
    """x_t, x_0, v and score, from x_0 and ε, by their definitions."""
    noisy = level**0.5 * x + (1 - level) ** 0.5 * e
    return noisy, level**0.5 * e - (1 - level) ** 0.5 * x, -e / (1 - level) ** 0.5


@pytest.mark.claim("C8.34")
@pytest.mark.parametrize("t", [1, 300, 900])
def test_each_name_gives_the_others(check, t):
    x, e = normals(2, 1000, 2, seed=26)
    level = float(BARS[t - 1])
    noisy, v, s = names_of(x, e, level)
    gaps = {
        "v from ε": noise.v_from_epsilon(noisy, e, level) - v,
        "ε from v": noise.epsilon_from_v(noisy, v, level) - e,
        "score from ε": noise.score_from_epsilon(e, (1 - level) ** 0.5) - s,
        "x₀ from the score": noise.denoised_from_score(
            noisy / level**0.5, level**0.5 * s, ((1 - level) / level) ** 0.5
        ) - x,
        "x₀ from v": level**0.5 * noisy - (1 - level) ** 0.5 * v - x,
    }  # fmt: skip
    for name, gap in gaps.items():
        check(f"{name}, t = {t}", expected=0, measured=gap.abs().max(), within=1e-9)


@pytest.mark.claim("C8.34")
def test_the_best_guesses_are_joined_by_the_same_map(check):
    """E[ε | x_t] and E[x_0 | x_t] by two integrals."""
    level = 0.4

    def v_of(u, at):
        return (level**0.5 * at - u) / (1 - level) ** 0.5

    for at in AT:
        guess = posterior_mean(at, level, lambda u: u)
        e = expected_noise(at, level)
        check(f"E[x₀ | x_t = {at}]", expected=guess,
              measured=(at - (1 - level) ** 0.5 * e) / level**0.5, within=1e-9)  # fmt: skip
        v = noise.v_from_epsilon(tensor(at), tensor(e), level)
        by_posterior = posterior_mean(at, level, lambda u, at=at: v_of(u, at))
        check("E[v | x_t]", expected=by_posterior, measured=v, within=1e-9)


def step_divergence(t, x_0, guess, x=0.3):
    """KL from q(x_t−1 | x_t, x_0) to the same step with x_0 guessed, both by conditioning."""
    a, b, variance = step_back(t)
    return divergence(a * x + b * x_0, variance, a * x + b * guess, variance)


@pytest.mark.claim("C8.35")
@pytest.mark.parametrize("t", [2, 500, 1000])
def test_the_weight_on_the_error_of_the_start(check, t):
    per_unit = step_divergence(t, 0.7, 0.2) / 0.5**2
    half = (snr(t - 1) - snr(t)) / 2
    before, now = float(BARS[t - 2]), float(BARS[t - 1])
    tilde = (1 - before) / (1 - now) * BETAS[t - 1]
    check(f"½[SNR(t − 1) − SNR(t)], t = {t}", expected=per_unit, measured=half,
          within=1e-8 * per_unit)  # fmt: skip
    weight = before * BETAS[t - 1] ** 2 / (2 * tilde * (1 - now) ** 2)
    check("weight in β and ᾱ", expected=per_unit, measured=weight, within=1e-8 * per_unit)


def epsilon_weight(t):
    """The KL of a step per squared error of ε, by conditioning; x_0 = (x − √(1−ᾱ) ε)/√ᾱ."""
    miss = ((1 - bar(t)) / bar(t)) ** 0.5  # the error of x_0 when ε is wrong by 1
    return step_divergence(t, 0.0, miss)


def weight_on_noise(t):
    """β²/(2 β̃ α (1 − ᾱ)), the formula."""
    alpha, before, now = 1 - BETAS[t - 1], float(BARS[t - 2]), float(BARS[t - 1])
    tilde = (1 - before) / (1 - now) * BETAS[t - 1]
    return BETAS[t - 1] ** 2 / (2 * tilde * alpha * (1 - now))


@pytest.mark.claim("C8.36")
@pytest.mark.parametrize(("t", "known"), [(2, 0.5997), (500, 0.005508), (1000, 0.0102)])
def test_the_weight_on_the_error_of_the_noise(check, t, known):
    weight = weight_on_noise(t)
    assert abs(weight / known - 1) < 5e-3
    check(f"weight, t = {t}", expected=epsilon_weight(t), measured=weight, within=1e-8)
    # the same from the means that the sampler steps to, told ε and a wrong ε
    x = torch.full((1000, 1), 0.3).double()
    means = [
        one_step(lambda y, s, e=e: 0 * y - e / (1 - bar(int(s[0]))) ** 0.5, x, t, t - 1, 27).mean()
        for e in (0.4, 1.4)
    ]
    by_sampler = (means[0] - means[1]) ** 2 / (2 * step_back(t)[2])
    check("from the sampler's means", expected=epsilon_weight(t), measured=by_sampler,
          within=1e-6)  # fmt: skip


@pytest.mark.claim("C8.37")
def test_errors_of_noise_and_start(check):
    """Guesses of the exact score: ε̂ = −√(1 − ᾱ) s and x̂₀ from the sampler's leap to 0."""
    n = 1000
    x, e = P.sample(n, generator=generator(28)).double(), normals(n, 1, seed=29)
    for t in (100, 500, 900):
        noisy = x_t(x, e, torch.full((n,), t))
        s = exact(P)(noisy, torch.full((n,), t))
        e_hat = noise.epsilon_from_score(s, (1 - bar(t)) ** 0.5)
        guess = samplers.ddim(exact(P), noisy, BARS, times=torch.tensor([t]))
        ratio = ((e - e_hat) ** 2).mean() / ((x - guess) ** 2).mean()
        check(f"ratio of squared errors, t = {t}", expected=snr(t), measured=ratio,
              within=1e-9 * snr(t))  # fmt: skip


@pytest.mark.claim("C8.38")
def test_the_bound_in_terms_of_the_noise(check):
    """Data N(0, 1.7), prediction ε̂ = w x on ten steps: the KLs are the weighted noise errors."""
    w, data, n = 0.8, 1.7, 200_000
    x_0, e = data**0.5 * normals(n, seed=30).numpy(), normals(n, seed=31).numpy()
    by_kl, by_weights, by_wrong = np.zeros(n), 0.0, 0.0
    for t in range(2, 11):
        a, b, variance = step_back(t)
        noisy = bar(t) ** 0.5 * x_0 + (1 - bar(t)) ** 0.5 * e
        guess = (1 - (1 - bar(t)) ** 0.5 * w) * noisy / bar(t) ** 0.5
        by_kl += divergence(a * noisy + b * x_0, variance, a * noisy + b * guess, variance)
        error = 1 - 2 * w * (1 - bar(t)) ** 0.5 + w**2 * (bar(t) * data + 1 - bar(t))
        by_weights += weight_on_noise(t) * error  # error = E(ε − w x_t)²
        by_wrong += (snr(t - 1) - snr(t)) / 2 * error
    by_kl = torch.tensor(by_kl)
    check("denoising terms, t = 2 … 10", expected=by_weights, measured=by_kl.mean(),
          within=4.5 * standard_error(by_kl))  # fmt: skip
    assert by_wrong > 100 * by_weights
    for t, known in ((2, 4546), (500, 0.0853), (1000, 4.036e-5)):
        ratio = (snr(t - 1) - snr(t)) / 2 / epsilon_weight(t)
        check(f"wrong weight over right one, t = {t}", expected=known, measured=ratio,
              within=5e-4 * known)  # fmt: skip


@pytest.mark.claim("C8.39")
def test_dropping_the_weights_moves_a_constrained_optimum(check):
    """One number w for all steps, ε̂ = w x, data N(0, 4); the loss is a parabola in w."""
    n, t = 300, torch.arange(1, 1001)
    x, e = 2 * normals(n, 1000, seed=32), normals(n, 1000, seed=33)
    root = (1 - BARS).sqrt().repeat(n)[:, None]

    def values(w):
        def score(u, _):
            return -w * u / root

        out = losses.ddpm_simple(score, x.view(-1, 1), e.view(-1, 1), t.repeat(n), BARS)
        return out.view(n, 1000)

    left, middle, right = (values(w) for w in (-1.0, 0.0, 1.0))
    check("mean loss at w = 0, half of E ε²", expected=0.5, measured=middle.mean(),
          within=4.5 * standard_error(middle.flatten()))  # fmt: skip
    slope, curvature = (right - left) / 2, right - 2 * middle + left
    bound_weights = exactly([0.0, *(weight_on_noise(s) for s in range(2, 1001))])
    for name, known, weights in (
        ("the simple loss", 0.4412, torch.ones(1000).double()),
        ("the weights of the bound", 0.2287, bound_weights),
    ):
        best = -(slope @ weights).mean() / (curvature @ weights).mean()
        residual = (slope + best * curvature) @ weights / (curvature @ weights).mean()
        within = 4.5 * float(standard_error(residual))
        check(f"best w for {name}", expected=known, measured=best, within=within)
        assert within < 0.05
    level = np.array([bar(s) for s in range(1, 1001)])
    in_closed_form = ((1 - level) ** 0.5).sum() / (4 * level + 1 - level).sum()
    check("the first in closed form", expected=0.44121, measured=in_closed_form, within=5e-6)
    weights, level_2 = bound_weights[1:].numpy(), level[1:]
    in_closed_form = weights @ (1 - level_2) ** 0.5 / (weights @ (4 * level_2 + 1 - level_2))
    check("and the second", expected=0.2287, measured=in_closed_form, within=5e-5)
    for s in (1, 500):  # one w per step has one optimum, whatever its weight
        best = -slope[:, s - 1].mean() / curvature[:, s - 1].mean()
        residual = (slope + best * curvature)[:, s - 1] / curvature[:, s - 1].mean()
        wanted = (1 - level[s - 1]) ** 0.5 / (3 * level[s - 1] + 1)
        check(f"best w of step {s} alone", expected=wanted, measured=best,
              within=4.5 * standard_error(residual))  # fmt: skip


@pytest.mark.claim("C8.40")
@pytest.mark.parametrize(("t", "known"), [(1, 1e-4), (500, 11.7), (1000, 2.48e4)])
def test_noise_is_not_smaller_than_the_data(check, t, known):
    n, d = 100_000, 3
    x, e, steps = normals(n, d, seed=34), normals(n, d, seed=35), torch.full((n,), t)
    power = (x_t(0 * x, x, steps) ** 2).mean() / (x_t(x, 0 * x, steps) ** 2).mean()
    assert abs((1 - bar(t)) / bar(t) / known - 1) < 5e-3
    check(f"power of the noise over that of the data in x_t, t = {t}",
          expected=(1 - bar(t)) / bar(t), measured=power, within=1e-9 / bar(t))  # fmt: skip
    values = 2 * losses.ddpm_simple(lambda u, _: 0 * u, x, e, steps, BARS)
    check("E‖ε‖², d = 3", expected=3, measured=values.mean(), within=4.5 * standard_error(values))


ONE = exactly([0.4])  # a schedule of one step, ᾱ = 0.4


def one_level(n, seed):
    """Clean points, noises and steps for that schedule."""
    x = P.sample(n, generator=generator(seed)).double()
    return x, normals(n, 1, seed=seed + 1), torch.ones(n, dtype=torch.long)


def over_noisy(f, level=0.4):
    """E f(x_t) by quadrature."""
    u = np.linspace(-7, 7, 561)
    return sum(noised(at, level) * f(at) for at in u) * (u[1] - u[0])


@pytest.mark.claim("C8.41")
def test_the_best_prediction_is_the_expected_noise(check):
    left = 1 - over_noisy(lambda at: expected_noise(at, 0.4) ** 2)
    assert f"{left:.5f}" == "0.48666"
    x, e, t = one_level(300_000, 36)
    values = 2 * losses.ddpm_simple(exact(P, ONE), x, e, t, ONE)
    check("E(ε − ε̂)² of the exact score, ᾱ = 0.4", expected=left, measured=values.mean(),
          within=4.5 * standard_error(values))  # fmt: skip
    law = gaussian(2**0.5, dim=3)
    x, e = law.sample(100_000, generator=generator(38)).double(), normals(100_000, 3, seed=39)
    values = 2 * losses.ddpm_simple(exact(law, ONE), x, e, t[:100_000], ONE)
    check("the same for N(0, 2I), d = 3", expected=3 * 0.8 / (0.8 + 0.6), measured=values.mean(),
          within=4.5 * standard_error(values))  # fmt: skip


@pytest.mark.claim("C8.43")
def test_the_best_guess_of_the_start_is_a_mean(check):
    x, e, t = one_level(300_000, 40)
    noisy = x_t(x, e, t, ONE)
    guess = samplers.ddim(exact(P, ONE), noisy, ONE)
    for at in AT:
        mean = samplers.ddim(exact(P, ONE), tensor(at), ONE)
        check(f"x̂₀ at x_t = {at}", expected=posterior_mean(at, 0.4, lambda u: u), measured=mean,
              within=1e-8)  # fmt: skip
    left = over_noisy(
        lambda at: posterior_mean(at, 0.4, np.square) - posterior_mean(at, 0.4, lambda u: u) ** 2
    )
    off = ((x - guess) ** 2)[:, 0]
    check("E(x₀ − x̂₀)² = E Var(x₀ | x_t)", expected=left, measured=off.mean(),
          within=4.5 * standard_error(off))  # fmt: skip


@pytest.mark.claim("C8.44")
def test_squares_that_add_to_one_keep_the_variance(check):
    rng = np.random.default_rng(42)
    betas = rng.uniform(0.1, 0.9, 8)
    start, noises = chain(betas)
    total = start[-1] ** 2 + (noises[-1] ** 2).sum()
    check("squared coefficients after 8 steps, a² + b² = 1", expected=1, measured=total,
          within=1e-12)  # fmt: skip
    a, b = rng.uniform(0.3, 1.2, (2, 8))
    impulse, nested = np.eye(9)[8], 1.0
    for i in range(8):
        impulse, nested = a[i] * impulse, a[i] ** 2 * nested + b[i] ** 2
        impulse[i] += b[i]
    check("any a and b: nested form", expected=(impulse**2).sum(), measured=nested, within=1e-12)
    law = GaussianMixture([0.5, 0.5], [[-0.8], [0.8]], [[[0.36]], [[0.36]]])
    u = np.linspace(-9, 9, 6001)
    for level in noise.alpha_bars(torch.tensor(betas))[[0, 2]].tolist():
        variance = (law.diffused(level).log_prob(tensor(u)).exp().numpy() * u**2).sum() * 0.003
        check(f"variance of two modes at ᾱ = {level:.2f}", expected=1, measured=variance,
              within=1e-9)  # fmt: skip


@pytest.mark.claim("C8.45")
def test_a_chain_need_not_shrink(check):
    """x_t/√ᾱ_t of the DDPM chain is a chain with a = 1, whose noise only grows."""
    n, betas, rng = 200_000, np.linspace(0.05, 0.5, 6), np.random.default_rng(43)
    sigmas = noise.sigma_from_alpha_bar(noise.alpha_bars(torch.tensor(betas))).numpy()
    x = rng.standard_normal(n)
    old, scale, level, before = x, 1.0, x, 0.0
    for t in range(6):
        level = (1 - betas[t]) ** 0.5 * level + betas[t] ** 0.5 * rng.standard_normal(n)
        scale *= (1 - betas[t]) ** 0.5
        step = level / scale - old
        added = sigmas[t] ** 2 - before
        check(f"variance of step {t + 1} of x_t/√ᾱ_t", expected=added, measured=step.var(),
              within=4.5 * added * (2 / n) ** 0.5)  # fmt: skip
        covariance = (step * old).mean()
        check("its covariance with where it starts", expected=0, measured=covariance,
              within=4.5 * (step * old).std() / n**0.5)  # fmt: skip
        old, before = level / scale, sigmas[t] ** 2
    end = np.corrcoef(old, x)[0, 1]
    wanted = 1 / (1 + sigmas[-1] ** 2) ** 0.5
    check("correlation of the end with the start", expected=wanted, measured=end,
          within=4.5 * (1 - wanted**2) / n**0.5)  # fmt: skip


@pytest.mark.claim("C8.46")
def test_the_ladder_of_ddpm_is_not_geometric(check):
    sigmas = noise.sigma_from_alpha_bar(BARS)
    by_hand = np.array([(1 / bar(t) - 1) ** 0.5 for t in range(1, 1001)])
    ratios, other = sigmas[1:] / sigmas[:-1], by_hand[1:] / by_hand[:-1]
    for name, known, expected, measured in (
        ("σ₁", 0.01, by_hand[0], sigmas[0]),
        ("σ₁₀₀₀", 157.4, by_hand[-1], sigmas[-1]),
        ("smallest ratio of neighbours", 1.00497, other.min(), ratios.min()),
        ("largest", 1.48302, other.max(), ratios.max()),
    ):
        assert abs(expected / known - 1) < 1e-4
        check(name, expected=expected, measured=measured, within=1e-8 * expected)
    ladder = noise.geometric_sigmas(float(sigmas[-1]), float(sigmas[0]), 1000)
    even = (sigmas[-1] / sigmas[0]) ** (1 / 999)
    check("every ratio of a geometric ladder between the same ends", expected=even,
          measured=(ladder[:-1] / ladder[1:]).max(), within=1e-9)  # fmt: skip


# The noise predictor is a score


@pytest.mark.claim("C8.49")
@pytest.mark.parametrize("t", [1, 400, 1000])
def test_the_conditional_score_is_the_noise(check, t):
    x, e = normals(2, 200, 2, seed=44)
    noisy = x_t(x, e, torch.full((200,), t))
    kernel = torch.distributions.Normal(bar(t) ** 0.5 * x, (1 - bar(t)) ** 0.5)
    slope = score_of(lambda y: kernel.log_prob(y).sum(1))(noisy)
    by_noise = noise.score_from_epsilon(e, (1 - float(BARS[t - 1])) ** 0.5)
    gap = (slope - by_noise).abs().max()
    check(f"∇log q(x_t | x₀) + ε/√(1 − ᾱ), t = {t}", expected=0, measured=gap, within=1e-8)


@pytest.mark.claim("C8.50")
def test_the_minimiser_is_the_score_of_the_noisy_data(check):
    """A change g of it costs ½(1 − ᾱ) E g², whatever g: nothing is left at first order."""
    x, e, t = one_level(300_000, 46)
    s = exact(P, ONE)
    least = losses.ddpm_simple(s, x, e, t, ONE)
    for name, g, of_grid in (
        ("0.3", lambda u: 0.3 + 0 * u, lambda u: 0.3),
        ("tanh x", torch.tanh, np.tanh),
        ("−½ sin 2x", lambda u: -(2 * u).sin() / 2, lambda u: -np.sin(2 * u) / 2),
    ):
        changed = losses.ddpm_simple(lambda u, k, g=g: s(u, k) + g(u), x, e, t, ONE)
        cost = 0.3 * over_noisy(lambda at, f=of_grid: f(at) ** 2)
        extra = changed - least
        check(f"what g = {name} costs", expected=cost, measured=extra.mean(),
              within=4.5 * standard_error(extra))  # fmt: skip
    target = noise.score_from_epsilon(e, 0.6**0.5)
    off = ((s(x_t(x, e, t, ONE), t) - target) ** 2)[:, 0]
    left = (1 - over_noisy(lambda at: expected_noise(at, 0.4) ** 2)) / 0.6
    check("E‖s_t − ∇log q(x_t | x₀)‖²", expected=left, measured=off.mean(),
          within=4.5 * standard_error(off))  # fmt: skip


@pytest.mark.claim("C8.51")
def test_the_simple_loss_is_denoising_score_matching(check):
    x, e = normals(2, 500, 2, seed=48)
    t = torch.randint(1, 1001, (500,), generator=generator(49))
    level = exactly([[bar(int(s))] for s in t])
    kernel = torch.distributions.Normal(level.sqrt() * x, (1 - level).sqrt())
    noisy = level.sqrt() * x + (1 - level).sqrt() * e
    target = score_of(lambda y: kernel.log_prob(y).sum(1))(noisy)

    def s(u, _):
        return torch.sin(u) - u.roll(1, 1) / 3

    weighted = (1 - level[:, 0]) * ((s(noisy, t) - target) ** 2).sum(1) / 2
    package = losses.ddpm_simple(s, x, e, t, BARS)
    check("½(1 − ᾱ)‖s − ∇log q(x_t | x₀)‖² − ddpm_simple, largest", expected=0,
          measured=(weighted - package).abs().max(), within=1e-9)  # fmt: skip
    by_paper = ((e + (1 - level).sqrt() * s(noisy, t)) ** 2).sum(1)  # ‖ε − ε_θ‖², no ½
    check("‖ε − ε_θ‖² over it", expected=2, measured=(by_paper / package).mean(), within=1e-8)


@pytest.mark.claim("C8.52")
def test_the_score_is_the_expected_noise(check):
    for level in (0.9, 0.4):
        for at in AT:
            s = P.diffused(level).score(tensor(at))
            by_noise = -expected_noise(at, level) / (1 - level) ** 0.5
            check(f"score at {at}, ᾱ = {level}", expected=by_noise, measured=s, within=1e-8)
    net = DdpmScore(lambda x, t: x * t[:, None] / 100, BARS)
    x, t = normals(4, 2, seed=50), torch.tensor([1, 2, 500, 1000])
    levels = exactly([[bar(s)] for s in t.tolist()])
    by_hand = -x * t[:, None] / 100 / (1 - levels).sqrt()
    gap = (net(x, t) / by_hand - 1).abs().max()
    check("−ε_θ/√(1 − ᾱ) of a network, relative", expected=0, measured=gap, within=1e-9)


def some_network():
    return DdpmScore(TimeMLP(2, width=16, generator=generator(51)), BARS).double()


@pytest.mark.claim("C8.53")
def test_a_noise_network_is_a_network_of_ncsn(check):
    """Either way, point by point, the loss of one family is the loss of the other."""
    x, e = normals(2, 400, 2, seed=52)
    t = torch.randint(1, 1001, (400,), generator=generator(53))
    sigma = exactly([(1 / bar(int(s)) - 1) ** 0.5 for s in t])
    net = some_network()
    with torch.no_grad():
        simple = losses.ddpm_simple(net, x, e, t, BARS)
        ve = losses.ncsn(noise.ve_score(net, BARS), x, e, sigma)
    gap = (ve / simple - 1).abs().max()
    check("loss of NCSN over that of DDPM, −1, largest", expected=0, measured=gap, within=1e-8)

    def of_levels(u, s):
        return torch.tanh(u) / (1 + s[:, None]) - u / (2 + s[:, None] ** 2)

    there = losses.ncsn(of_levels, x, e, sigma)
    back = losses.ddpm_simple(noise.vp_score(of_levels, BARS), x, e, t, BARS)
    gap = (back / there - 1).abs().max()
    check("the other way", expected=0, measured=gap, within=1e-8)


@pytest.mark.claim("C8.57")
@pytest.mark.parametrize("t", [1, 250, 1000])
def test_the_denoising_loss_looks_like_the_simple_one_because_it_is(check, t):
    x, e = normals(2, 400, 2, seed=54)
    net, sigma = some_network(), (1 / bar(t) - 1) ** 0.5
    with torch.no_grad():
        simple = losses.ddpm_simple(net, x, e, torch.full((400,), t), BARS)

        def ve(u):  # by hand: √ᾱ s(√ᾱ u, t)
            return bar(t) ** 0.5 * net(bar(t) ** 0.5 * u, torch.full((400,), t))

        denoising = sigma**2 * losses.dsm(ve, x, e, sigma)
    gap = (denoising / simple - 1).abs().max()
    check(f"σ² × denoising loss over simple loss, −1, t = {t}", expected=0, measured=gap,
          within=1e-8)  # fmt: skip


def exploded(x, sigma):
    """∫ p(x_0) N(x; x_0, σ²) dx_0 at one x."""
    return (density(GRID) * norm.pdf(x, GRID, sigma)).sum() * (GRID[1] - GRID[0])


@pytest.mark.claim("C8.55")
@pytest.mark.parametrize("t", [100, 300, 600])
def test_the_two_coordinate_systems(check, t):
    sigma = float(noise.sigma_from_alpha_bar(BARS)[t - 1])
    check(f"ᾱ from σ, t = {t}", expected=bar(t), within=1e-12,
          measured=noise.alpha_bar_from_sigma(exactly(sigma)))  # fmt: skip
    ve, vp = noise.ve_score(exact(P), BARS), noise.vp_score(
        lambda x, s: P.smoothed(float(s[0])).score(x), BARS
    )
    for at in AT:
        here = tensor(at)
        check(f"VE score at {at}", measured=ve(here, sigma), within=1e-6,
              expected=slope_of_log(lambda u: exploded(u, sigma), at))  # fmt: skip
        check(f"VP score at {at}", measured=vp(here, torch.tensor([t])), within=1e-6,
              expected=slope_of_log(lambda u: noised(u, bar(t)), at))  # fmt: skip
    gap = vp(tensor(AT), t) - P.diffused(float(BARS[t - 1])).score(tensor(AT))
    check("VP score from the VE score − its own formula", expected=0, measured=gap.abs().max(),
          within=1e-10)  # fmt: skip


# Sampling three ways


@pytest.mark.claim("C8.42")
def test_training_descends_to_the_expected_noise(check):
    """Data N(0, 4), ε̂ = w_t x, three steps: draw x_0, t and ε, follow the gradient."""
    bars, n = exactly([0.9, 0.5, 0.1]), 150_000
    x, e = 2 * normals(n, 1, seed=55), normals(n, 1, seed=56)
    t = torch.randint(1, 4, (n,), generator=generator(57))
    w = torch.zeros(3, dtype=torch.float64, requires_grad=True)

    def epsilon(u, step):
        return w[step.long() - 1, None] * u

    net = DdpmScore(epsilon, bars)
    for _ in range(60):
        (slope,) = torch.autograd.grad(losses.ddpm_simple(net, x, e, t, bars).mean(), w)
        with torch.no_grad():
            w -= 0.8 * slope
    for i, level in enumerate(bars.tolist()):
        best, spread = (1 - level) ** 0.5 / (1 + 3 * level), 1 + 3 * level
        here = t == i + 1
        noisy = level**0.5 * x[here] + (1 - level) ** 0.5 * e[here]
        residual = (noisy * (e[here] - best * noisy) / spread)[:, 0]
        check(f"w at ᾱ = {level}", expected=best, measured=w[i].detach(),
              within=4.5 * standard_error(residual))  # fmt: skip


def modes(x):
    """The share of points at (1.2, 1.2), and their variance along an axis."""
    inside = x.sum(1) > 0
    return inside.double().mean(), x[inside].var(0).mean()


def share_error(n, share=0.8):
    return 4.5 * (share * (1 - share) / n) ** 0.5


def variance_error(n, variance):
    return 4.5 * variance * (2 / (2 * 0.8 * n)) ** 0.5


@pytest.mark.claim("C8.42")
def test_the_ancestral_sampler_on_two_modes(check):
    n, calls = 3000, []
    start, score = normals(n, 2, seed=58), exact(scaled_modes())
    end = samplers.ancestral(lambda x, t: calls.append(int(t[0])) or score(x, t), start, BARS,
                             generator=generator(59))  # fmt: skip
    assert calls == list(range(1000, 0, -1))
    share, variance = modes(end)
    check("share at (1.2, 1.2)", expected=0.8, measured=share, within=share_error(n))
    known = end_variance(0.06, True)
    check("variance in the mode, by the recursion", expected=known, measured=variance,
          within=variance_error(n, known))  # fmt: skip


@pytest.mark.claim("C8.42")
def test_ddim_carries_both_guesses_down(check):
    """On N(0, λ) each step is a factor; on two modes the shares are right."""
    for data in (1.0, 4.0):
        for times in (torch.arange(1000, 0, -1), torch.tensor([1000, 700, 300, 20])):
            factor, levels = 1.0, [*(bar(int(t)) for t in times), 1.0]
            for now, then in zip(levels, levels[1:], strict=False):
                start, spare = now**0.5 * data, (1 - now) ** 0.5  # E[x₀ | x], E[ε | x] per x·v
                v = now * data + 1 - now
                factor *= (then**0.5 * start + (1 - then) ** 0.5 * spare) / v
            end = samplers.ddim(exact(gaussian(data**0.5, dim=1)), tensor(0.7), BARS, times=times)
            check(f"end over start, N(0, {data:g}), {len(times)} calls", expected=factor,
                  measured=end / 0.7, within=1e-9)  # fmt: skip
            assert len(times) < 1000 or abs(factor / data**0.5 - 1) < 0.01
    end = samplers.ddim(exact(scaled_modes()), normals(3000, 2, seed=60), BARS)
    check("share at (1.2, 1.2) by DDIM", expected=0.8, measured=modes(end)[0],
          within=share_error(3000))  # fmt: skip


LEVELS = np.unique(np.linspace(1, 1000, 50).astype(int))[::-1]  # steps t of annealed Langevin


def annealed_share(n_steps):
    """P(x₁ + x₂ > 0) at the end of annealed Langevin in DDPM coordinates, on a grid.

    Along the diagonal the chain is one-dimensional; at levels below 1 − ᾱ = 0.02 no chain changes
    side any more.
    """
    u = np.linspace(-6, 6, 601)
    now, last = norm.pdf(u), bar(1000)
    for level in (bar(int(t)) for t in LEVELS):
        if 1 - level < 0.02:
            break
        step, shrink = 0.2 * (1 - level), (level / last) ** 0.5
        for scale, times in ((shrink, 1), (1.0, n_steps - 1)):
            x, mode, v = scale * u, (2.88 * level) ** 0.5, 0.06 * level + 1 - level
            right = 0.8 / (0.8 + 0.2 * np.exp(-2 * mode * x / v))
            mean = x + step / 2 * (mode * (2 * right - 1) - x) / v
            kernel = norm.pdf(u[:, None], mean[None, :], step**0.5) * 0.02
            for _ in range(times):
                now = kernel @ now
        last = level
    return now[u > 0].sum() / now.sum()


def annealed_variance(n_steps):
    """Variance within a mode at the end: a Gaussian of variance 0.06 + σ² at each level."""
    v = 0.06 + 1 / bar(1000)
    for level in (bar(int(t)) for t in LEVELS):
        square = 1 / level - 1
        for _ in range(n_steps):
            v = (1 - 0.1 * square / (0.06 + square)) ** 2 * v + 0.2 * square
    return v


@pytest.mark.claim("C8.54")
@pytest.mark.parametrize(
    ("n_steps", "known", "known_variance"), [(20, 0.785, 0.0845), (100, 0.795, 0.0686)]
)
def test_annealed_langevin_with_a_noise_predictor(check, n_steps, known, known_variance):
    """Fifty levels evenly spaced in t; in VE coordinates the step is 0.2 σ² at each."""
    n, calls = 3000, []
    score = noise.ve_score(exact(scaled_modes()), BARS)
    sigmas = noise.sigma_from_alpha_bar(BARS)[torch.tensor(LEVELS - 1)]
    end = samplers.annealed_langevin(
        lambda x, s: calls.append(1) or score(x, s), normals(n, 2, seed=61) / bar(1000) ** 0.5,
        sigmas, step_size=0.2 * float(sigmas[-1]) ** 2, n_steps=n_steps, generator=generator(62),
    )  # fmt: skip
    assert len(calls) == 50 * n_steps
    share, variance = modes(end)
    expected, wide = annealed_share(n_steps), annealed_variance(n_steps)
    assert abs(expected - known) < 5e-4 and abs(wide - known_variance) < 5e-5
    assert wide > end_variance(0.06, True) + 0.009, "further from 0.06 than the ancestral sampler"
    check(f"share at (1.2, 1.2), {50 * n_steps:,} calls", expected=expected, measured=share,
          within=share_error(n, expected))  # fmt: skip
    check("variance in the mode", expected=wide, measured=variance, within=variance_error(n, wide))


SAMPLED = {  # what 3,000 points gave in the text; how to draw; what the exact score gives
    "the ancestral sampler": (
        0.796, lambda s, x: samplers.ancestral(s, x, BARS, generator=generator(64)), lambda: 0.8,
    ),
    "annealed Langevin": (
        0.781, lambda s, x: toys.ddpm_annealed(s, x, 1000, generator(65)),
        lambda: annealed_share(20),
    ),
}  # fmt: skip


@pytest.mark.claim("C8.54")
@pytest.mark.parametrize("name", SAMPLED)
def test_the_committed_network_in_place_of_the_exact_score(check, name):
    """Same starts and same noise for both: few chains end in another mode, so 600 are enough."""
    known, sample, law = SAMPLED[name]
    start = normals(600, 2, seed=63).float()
    scores = experiments.pretrained("ddpm_two_modes"), exact(scaled_modes())
    by_net, by_score = ((sample(s, start).sum(1) > 0).double() for s in scores)
    error = standard_error(by_net - by_score)
    assert error < 0.01
    found, spread = law() + (by_net - by_score).mean(), 0.8 * 0.2 / 3000
    check(f"share at (1.2, 1.2), network, {name}, 1,000 calls", expected=known, measured=found,
          within=4.5 * (error**2 + spread) ** 0.5)  # fmt: skip


# Any form of the model


@pytest.mark.claim("C8.58")
@pytest.mark.parametrize("x_0", [-0.9, 0.7])
def test_bound_and_split_hold_for_models_that_are_not_gaussian(check, x_0):
    """Two steps; p(x_1 | x_2) is Laplace, p(x_0 | x_1) Student's t, both off the mark."""

    def first(old, new):  # p(x_0 | x_1)
        return student.logpdf(old, 4, 0.8 * new + 0.1, 0.5)

    def second(old, new):  # p(x_1 | x_2)
        return laplace.logpdf(old, 0.7 * np.sin(new), 0.6)

    betas, u = np.array([0.2, 0.4]), np.linspace(-7, 7, 1001)
    cell = u[1] - u[0]
    one, two = u[:, None], u[None, :]
    q = norm.logpdf(one, 0.8**0.5 * x_0, 0.2**0.5) + norm.logpdf(two, 0.6**0.5 * one, 0.4**0.5)
    model = norm.logpdf(two) + second(one, two) + first(x_0, one)
    whole = (np.exp(q) * (q - model)).sum() * cell**2
    evidence = np.exp(model).sum() * cell**2
    start, noises = chain(betas)
    covariance = noises @ noises.T
    weight = norm.pdf(u, start[0] * x_0, covariance[0, 0] ** 0.5) * cell
    reconstruction = -(weight * first(x_0, u)).sum()
    prior = divergence(start[1] * x_0, covariance[1, 1], 0, 1)
    a = covariance[0, 1] / covariance[1, 1]
    mean = start[0] * x_0 + a * (two - start[1] * x_0)
    back = norm.logpdf(one, mean, (covariance[0, 0] - a * covariance[0, 1]) ** 0.5)
    inner = (np.exp(back) * (back - second(one, two))).sum(0) * cell
    end = norm.pdf(u, start[1] * x_0, covariance[1, 1] ** 0.5)
    denoising = (end * inner).sum() * cell
    terms = reconstruction + prior + denoising
    check(f"the three terms, x₀ = {x_0}", expected=whole, measured=terms, within=1e-6)
    assert whole > -np.log(evidence) + 0.01
