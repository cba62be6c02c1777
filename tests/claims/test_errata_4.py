"""Slips of source 4: what comes out as printed beside what is right, both computed.

Most laws: N(0, 1.7), or the mixture of chapter 6, with noise of σ = 0.6.
"""

import numpy as np
import pytest
import sympy
import test_ch6 as ch6
import test_ch7 as ch7
import torch
from exact import best_slope, gaussian_pairs
from scipy.integrate import dblquad, quad
from scipy.stats import norm

from sbm_lite import losses
from sbm_lite.calculus import score_of
from sbm_lite.densities import gaussian, kernel_density
from sbm_lite.diagnostics import standard_error
from sbm_lite.noise import geometric_sigmas
from sbm_lite.runtime import generator

LAW, SIGMA, AT = 1.7, 0.6, 0.4
SLOPE = 1 / (LAW + SIGMA**2)


def exact_score():
    return float(ch6.P.smoothed(SIGMA).score(ch6.tensor(AT)))


@pytest.mark.slip("E4.01")
def test_with_a_plus_the_arrows_turn_round(apart):
    x, e, w = gaussian_pairs(LAW, SIGMA)
    moved, t = x + SIGMA * e, -e / SIGMA
    printed = best_slope(lambda s: w @ ((s(moved) + t) ** 2).sum(1))
    right = best_slope(lambda s: w @ ((s(moved) - t) ** 2).sum(1))
    assert abs(best_slope(lambda s: w @ losses.dsm(s, x, e, SIGMA)) - right) < 1e-9
    assert abs(right - SLOPE) < 1e-9
    apart("best a of s = −a x̃", printed=printed, right=right, by=1e-6)


@pytest.mark.slip("E4.02")
def test_the_integral_is_the_marginal(apart):
    """The density of the pair (x, x̃) = (1, 0.4), and how many pairs really fall near it."""
    printed = ch6.noisy_density(ch6.KERNELS["Gaussian"], AT)
    right = float(ch6.density(1.0) * norm.pdf(AT, 1.0, SIGMA))
    x, moved = ch6.pairs(ch6.P, ch6.KERNELS["Gaussian"], 1_000_000, 1)
    near = ((x - 1).abs() < 0.1) & ((moved - AT).abs() < 0.1)
    box = dblquad(lambda b, a: ch6.density(a) * norm.pdf(b, a, SIGMA), 0.9, 1.1, 0.3, 0.5)[0]
    error = 4.5 * (box / 1e6) ** 0.5
    assert abs(near.double().mean() - box) < error and abs(box / 0.04 - right) < 0.01
    apart("joint density of x = 1 and x̃ = 0.4", printed=printed, right=right, by=error / 0.04)


@pytest.mark.slip("E4.03")
def test_the_equation_inside_the_norm_would_fix_the_score(apart):
    """score + ∇log q = ∇log p(x, x̃): the two gradients are equal, so the score would be 0."""
    x, y, sigma = sympy.symbols("x y sigma", positive=True)
    score = sympy.symbols("score", real=True)
    log_q = -((y - x) ** 2) / (2 * sigma**2)
    log_joint = sympy.Function("log_p")(x) + log_q
    (printed,) = sympy.solve(sympy.diff(log_q, y) + score - sympy.diff(log_joint, y), score)
    right = exact_score()
    assert abs(right - ch6.posterior_mean_target(ch6.KERNELS["Gaussian"], AT)) < 1e-6
    apart("score at 0.4", printed=printed, right=right, by=1e-6)


@pytest.mark.slip("E4.04")
def test_the_identity_in_the_box_is_no_loss(apart):
    """It holds whatever the model; the loss tells models apart, as the explicit one does."""
    x, y, theta, sigma = sympy.symbols("x y theta sigma", positive=True)
    log_q = -((y - x) ** 2) / (2 * sigma**2)
    box = sympy.diff(log_q, y) - sympy.diff(sympy.Function("log_p")(x) + log_q, y)
    assert sympy.simplify(box) == 0
    printed = sympy.diff(box, theta)
    right = ch6.j_dsm(ch6.other_model) - ch6.j_dsm(ch6.model)
    assert abs(right - (ch6.j_esm(ch6.other_model) - ch6.j_esm(ch6.model))) < 1e-6
    apart("loss of one model minus that of another", printed=printed, right=right, by=1e-6)


@pytest.mark.slip("E4.06")
def test_without_a_weight_the_last_level_takes_the_loss(apart):
    """Ten levels from 1 to 0.01, N(0, 1), each at its best slope: the share of σ = 0.01."""
    plain, weighted = [], []
    for sigma in geometric_sigmas(1.0, 0.01, 10).tolist():
        x, e, w = gaussian_pairs(1.0, sigma)
        best = best_slope(lambda s: w @ losses.dsm(s, x, e, sigma))  # noqa: B023
        plain.append(float(w @ losses.dsm(lambda u: -best * u, x, e, sigma)))  # noqa: B023
        level = torch.full((len(x),), sigma).double()
        weighted.append(float(w @ losses.ncsn(lambda u, _: -best * u, x, e, level)))  # noqa: B023
        assert abs(plain[-1] - 0.5 / sigma**2 / (1 + sigma**2)) < 1e-6 / sigma**2
        assert 0.24 < weighted[-1] < 0.51
    printed, right = (losses_[-1] / sum(losses_) for losses_ in (plain, weighted))
    apart("share of the smallest level in the loss", printed=printed, right=right, by=1e-4)


@pytest.mark.slip("E4.07")
def test_a_force_points_down_the_energy(apart):
    """E = x⁴/4 − x² at x = 1.3 and β = 2.5: the energy gradient, and the score."""

    def energy(x):
        return (x**4 / 4 - x**2).sum(1)

    at, beta, h = torch.tensor([[1.3]], dtype=torch.float64), 2.5, 1e-5
    printed = float(score_of(energy)(at))
    right = float(score_of(lambda x: -beta * energy(x))(at))
    z = quad(lambda x: np.exp(-beta * (x**4 / 4 - x**2)), -6, 6)[0]

    def density(x):
        return np.exp(-beta * (x**4 / 4 - x**2)) / z

    assert abs(right - ch6.slope_of_log(density, 1.3, h)) < 1e-6
    apart("score at 1.3", printed=printed, right=right, by=1e-6)


@pytest.mark.slip("E4.08")
def test_a_kernel_with_jumps_breaks_the_theorem(apart):
    """N(0, 1) and uniform noise of half-width 1: the mean target, and the score, at 1."""

    def log_q(y, x):
        edges = torch.distributions.Uniform(x - 1, x + 1)
        return edges.log_prob(y).sum(1)

    parents = torch.linspace(0.01, 1.99, 199).double()[:, None]
    at = torch.ones_like(parents)
    targets = score_of(lambda y: log_q(y, parents))(at)
    weights = torch.tensor(norm.pdf(parents[:, 0].numpy()))
    printed = float(weights @ targets[:, 0] / weights.sum())

    def density(u):
        return quad(norm.pdf, u - 1, u + 1)[0] / 2

    right = ch6.slope_of_log(density, 1.0)
    assert abs(right - (norm.pdf(2) - norm.pdf(0)) / (norm.cdf(2) - norm.cdf(0))) < 1e-6
    laplace = ch6.posterior_mean_target(ch6.KERNELS["Laplace"], AT)
    exact = ch6.slope_of_log(lambda u: ch6.noisy_density(ch6.KERNELS["Laplace"], u), AT, 1e-4)
    assert abs(laplace - exact) < 1e-4, "a kink is no jump"
    apart("score at 1, uniform noise", printed=printed, right=right, by=1e-6)


@pytest.mark.slip("E4.09")
def test_no_function_of_the_noisy_point_is_the_target(apart):
    printed = ch6.over_pairs(lambda u, t: (t - t) ** 2)
    right = ch6.over_pairs(lambda u, t: (ch6.true_score(u, SIGMA) - t) ** 2)
    c1, c2 = ch6.constants()
    assert abs(right - 2 * (c2 - c1)) < 1e-6
    for bend in (np.ones_like, np.sin):
        moved = ch6.over_pairs(lambda u, t, b=bend: (ch6.true_score(u, SIGMA) - t) * b(u))
        assert abs(moved) < 1e-6, "no move of the score brings it nearer"
    apart("least E‖s_θ(x̃) − ∇log p(x, x̃)‖²", printed=printed, right=right, by=1e-6)


@pytest.mark.slip("E4.10")
def test_bayes_formula_turns_the_condition_round(apart):
    """With x = 1 and x̃ = 0.4: Bayes gives the density of x given x̃."""
    joint = float(ch6.density(1.0) * norm.pdf(AT, 1.0, SIGMA))
    printed = joint / ch6.noisy_density(ch6.KERNELS["Gaussian"], AT)
    right = joint / float(ch6.density(1.0))
    posterior = ch6.P.posterior(torch.tensor([AT]).double(), SIGMA)
    assert abs(posterior.log_prob(ch6.tensor(1.0)).exp() - printed) < 1e-8
    assert abs(right - ch6.kernel_density_of(ch6.KERNELS["Gaussian"], AT - 1.0)) < 1e-9
    apart("q(x̃ | x) by Bayes' formula, by definition", printed=printed, right=right, by=1e-6)


@pytest.mark.slip("E4.11")
def test_the_loss_is_computed_from_draws_alone(apart):
    """20,000 draws of N(0, 1.7): the slope found by denoising, and by implicit score matching."""
    n, rng = 20_000, generator(2)
    x = gaussian(LAW**0.5, dim=1).sample(n, generator=rng).double()
    e = torch.randn(n, 1, generator=rng).double()
    printed = best_slope(lambda s: losses.dsm(s, x, e, SIGMA).mean())
    right = best_slope(lambda s: losses.ism(s, x).mean())
    within = 4.5 * (2 / n) ** 0.5 / LAW
    assert abs(right - 1 / LAW) < within
    assert abs(printed - SLOPE) < ch6.dsm_slope_error(1, LAW, SIGMA, n)
    apart("slope found from 20,000 draws of N(0, 1.7)", printed=printed, right=right, by=within)


@pytest.mark.slip("E4.12")
def test_the_law_has_a_score_and_the_data_set_has_none(apart):
    """At 0.4: 200 spikes blurred ever less, and the law they were drawn from."""
    points = ch6.P.sample(200, generator=generator(3)).double()
    at = ch6.tensor(AT)
    right = float(ch6.P.score(at))
    assert abs(right - ch6.slope_of_log(ch6.density, AT)) < 1e-6
    found = [float(kernel_density(points, width).score(at)) for width in (0.01, 0.001, 0.0001)]
    nearest = float(points[(points - AT).abs().argmin()] - AT)
    assert abs(found[2] * 1e-8 / nearest - 1) < 1e-6, "it grows without end"
    apart("score at 0.4: of the data blurred by 0.001, of p", printed=found[1], right=right, by=1.0)


@pytest.mark.slip("E4.13")
def test_the_target_is_the_way_home_over_the_variance(apart):
    kernel = ch6.KERNELS["Gaussian"]
    parent = ch6.noisy_density(kernel, AT, lambda x: x) / ch6.noisy_density(kernel, AT)
    right = exact_score()
    assert abs((parent - AT) / SIGMA**2 - right) < 1e-6
    apart("model at x̃ = 0.4", printed=parent - AT, right=right, by=1e-6)
    x, moved = ch6.pairs(ch6.P, kernel, 200_000, 4)
    home = moved + SIGMA**2 * ch6.P.smoothed(SIGMA).score(moved)
    miss = (home - x)[:, 0] ** 2
    c1, c2 = ch6.constants()
    exact = 2 * (c2 - c1) * SIGMA**4
    assert abs(miss.mean() - exact) < 4.5 * standard_error(miss)
    t = kernel.target_score(moved, x)
    there = (moved + SIGMA**2 * t - x).square().mean()  # only the target itself leads back to x
    apart("E‖x̃ + σ² s − x‖² at the optimum", printed=there, right=exact, by=1e-6)


@pytest.mark.slip("E4.14")
def test_what_denoising_learns_and_what_levels_are_for(apart):
    x, e, w = gaussian_pairs(LAW, SIGMA)
    data = best_slope(lambda s: w @ losses.ism(s, x))
    learned = best_slope(lambda s: w @ losses.dsm(s, x, e, SIGMA))
    assert abs(data - 1 / LAW) < 1e-9 and abs(learned - SLOPE) < 1e-9
    apart("slope that denoising learns on N(0, 1.7)", printed=data, right=learned, by=1e-6)
    one, top = ch7.crossing_time(1.01**0.5), ch7.crossing_time(50**0.5)
    assert abs(ch7.crossing_time_on_a_grid(50**0.5, 0.8) / top - 1) < 2e-4
    apart("time to cross: one level of 0.1, a top level of 7", printed=one, right=top, by=1.0)


@pytest.mark.slip("E4.16")
def test_the_derivative_of_the_density_is_not_the_score(apart):
    def derivative(f, h=1e-5):
        return (f(AT + h) - f(AT - h)) / (2 * h)

    printed = derivative(ch6.density)
    right = float(ch6.P.score(ch6.tensor(AT)))
    assert abs(right - ch6.slope_of_log(ch6.density, AT)) < 1e-6
    assert abs(right - printed / ch6.density(AT)) < 1e-6
    apart("score at 0.4", printed=printed, right=right, by=1e-6)
    tripled = derivative(lambda x: 3 * ch6.density(x)) / printed
    same = score_of(lambda x: ch6.P.log_prob(x) + np.log(3))(ch6.tensor(AT)) / right
    apart("growth when the normaliser is left out, Z = 3", printed=tripled, right=same, by=1e-6)
