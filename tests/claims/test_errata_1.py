"""The slips of source 1, a blog post on diffusion models: what is printed, and what is true.

Both are computed. That the right one is right is asserted by another road: the forward chain, an
integral, a simulation. Laws, chains and schedules are those of the tests of the claims.
"""

import cmath
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.polynomial.hermite_e import hermegauss
from pytest import approx
from scipy.integrate import quad
from scipy.stats import norm
from test_ch3 import recursion
from test_ch4 import LINE, LINE_C1, kl, line_density, vertex
from test_ch5 import passes
from test_ch6 import SIGMA, density, over_noisy, true_score
from test_ch8 import (
    AT,
    BARS,
    BETAS,
    CLEAN,
    EPSILON,
    MEANS,
    ONE,
    START,
    STEPS,
    TWO,
    VARIANCES,
    WEIGHTS,
    P,
    annealed_variance,
    bar,
    bound,
    chain,
    end_variance,
    epsilon_weight,
    exact,
    exactly,
    expected_noise,
    forward_paths,
    gaussians_apart,
    hermite_mean,
    log_evidence,
    log_model,
    model_given_start,
    noised,
    noisy_500,
    normals,
    one_level,
    reverse_on_grid,
    snr,
    some_network,
    step_back,
    tensor,
    three_terms,
    weight_on_noise,
    x_t,
)

from sbm_lite import losses, noise, samplers
from sbm_lite.calculus import jacobian, score_of
from sbm_lite.densities import GaussianMixture, gaussian, kernel_density
from sbm_lite.diagnostics import standard_error
from sbm_lite.runtime import generator

# Noise in many small steps


@pytest.mark.slip("E1.01")
def test_two_steps_into_one(apart):
    """α_{t−1} = 0.8, then α_t = 0.9; what stands before the old noise and before the new one."""
    dropped, kept = (0.2**0.5, 0.1**0.5), chain([0.2, 0.1])[1][-1]
    right = np.square(kept).sum()
    assert right == approx(1 - 0.9 * 0.8, abs=1e-12)
    apart("variance of the noise after two steps", printed=np.square(dropped).sum(), right=right,
          by=1e-9)  # fmt: skip
    once = np.array([0.8**0.5, 0.2**0.5, 0.0])  # x_{t−1} by x_{t−2}, the old noise, the new one
    old, new = np.eye(3)[1:]
    printed = 0.9**0.5 * (0.8**0.5 * once + 0.2**0.5 * old) + 0.1**0.5 * new
    right = 0.9**0.5 * once + 0.1**0.5 * new
    assert right == approx(np.r_[0.72**0.5, kept], abs=1e-12)
    apart("variance of x_t, data of variance 1, by the line before", printed=printed @ printed,
          right=right @ right, by=1e-9)  # fmt: skip
    assert right @ right == approx(1, abs=1e-12)


@pytest.mark.slip("E1.02")
def test_adding_what_is_not_independent(apart):
    n = 400_000
    x = normals(n, seed=70)
    right, error = (x + x).var(), 4.5 * 4 * (2 / n) ** 0.5
    assert right == approx(4, abs=error)
    apart("variance of x + y for y = x", printed=x.var() + x.var(), right=right, by=2 * error)


@pytest.mark.slip("E1.03")
def test_no_derivative_in_the_noisy_point_is_needed(apart):
    """Cut x_t off the graph: a network's gradient stays, that of an encoder before it goes."""
    net = some_network()
    encoder = torch.nn.utils.skip_init(torch.nn.Linear, 2, 2, dtype=torch.float64)
    encoder.load_state_dict({"weight": exactly([[0.9, 0.2], [-0.3, 1.1]]), "bias": exactly([0, 1])})
    x, e = normals(2, 300, 2, seed=71)
    t = torch.randint(1, 1001, (300,), generator=generator(72))
    level = exactly([[bar(int(s))] for s in t])

    def gradient(weights, before, cut):
        noisy = level.sqrt() * before(x) + (1 - level).sqrt() * e
        loss = (net.epsilon(noisy.detach() if cut else noisy, t.double()) - e).square().mean()
        options = dict(allow_unused=True, materialize_grads=True)
        return torch.cat([g.flatten() for g in torch.autograd.grad(loss, weights, **options)])

    def changed(weights, before=lambda x: x):
        return int((gradient(weights, before, False) != gradient(weights, before, True)).sum())

    weights = list(net.parameters())
    assert changed(list(encoder.parameters()), encoder) == 6, "where there is a path, it is seen"
    apart("parameters of the network whose gradient passes through x_t",
          printed=sum(w.numel() for w in weights), right=changed(weights), by=0.5)  # fmt: skip
    assert changed(weights) == 0 and gradient(weights, lambda x: x, True).norm() > 0


@pytest.mark.slip("E1.22")
def test_a_chain_that_does_not_shrink_forgets_as_well(apart):
    """x_t = x_{t−1} + noise, up to σ = 10, beside the chain with a² + b² = 1 at the same ratio.

    Each x starts twice, with noises of opposite signs, so that the two do not correlate by chance.
    """
    n, sigmas, rng = 100_000, np.geomspace(0.1, 10, 6), np.random.default_rng(73)
    z = np.concatenate([zs := rng.standard_normal((7, n)), -zs], 1)
    z[0, n:] *= -1
    level = float(noise.alpha_bar_from_sigma(exactly(sigmas[-1])))
    ends = z[0] + np.diff(sigmas**2, prepend=0) ** 0.5 @ z[1:]
    betas = 1 - np.exp(np.diff(np.log(1 + sigmas**2), prepend=0) * -1)
    start, noises = chain(betas)
    preserving = start[-1] * z[0] + noises[-1] @ z[1:]
    powers = [(end @ z[0] / (z[0] @ z[0])) ** 2 for end in (preserving, ends)]
    for end in (ends, preserving):
        assert np.corrcoef(end, z[0])[0, 1] == approx(level**0.5, abs=4.5 / n**0.5)
    assert powers == approx([level, 1], abs=1e-9)
    apart("power left of the data in x_t when its correlation with them is down to 0.1",
          printed=powers[0], right=powers[1], by=1e-6)  # fmt: skip
    assert preserving.var() == approx(1, abs=4.5 * (2 / n) ** 0.5), "what a² + b² = 1 does buy"


# One step back


@pytest.mark.slip("E1.04")
@pytest.mark.parametrize("beta", [0.5, 0.1, 0.02, 0.004])
def test_a_step_back_is_only_nearly_gaussian(apart, beta):
    """KL from the Gaussian of the same mean and variance, by the posterior and on a grid."""
    law = TWO.diffused(0.9).posterior(
        exactly([0.3 / (1 - beta) ** 0.5]), (beta / (1 - beta)) ** 0.5
    )
    mean = law.weights @ law.means[:, 0]
    second = law.weights @ (law.covariances[:, 0, 0] + law.means[:, 0] ** 2)
    matched = GaussianMixture([1.0], mean.view(1, 1), (second - mean**2).view(1, 1, 1))
    u, weight = reverse_on_grid(TWO, 0.9, beta, 0.3)
    here, log = weight > 1e-250, np.log(np.maximum(weight, 1e-300) / (u[1] - u[0]))
    grid = tensor(u[here])
    right = weight[here] @ (law.log_prob(grid) - matched.log_prob(grid)).numpy()
    by_bayes = weight[here] @ (log[here] - matched.log_prob(grid).numpy())
    assert right == approx(by_bayes, rel=1e-3)
    assert weight @ u == approx(float(mean), abs=1e-8)
    assert weight @ u**2 == approx(float(second), abs=1e-8)
    apart(f"KL from a Gaussian, β = {beta}", printed=0, right=right, by=1e-3 * right)


@pytest.mark.slip("E1.05")
def test_its_moments_have_a_closed_form(apart):
    """In terms of the score; the integral that Bayes gives agrees."""
    beta, at = 0.1, 0.3
    law, x = TWO.diffused(0.9 * (1 - beta)), tensor(at)
    mean = float((at + beta * law.score(x)) / (1 - beta) ** 0.5)
    variance = float(beta / (1 - beta) * (1 + beta * jacobian(law.score, x)))
    u, weight = reverse_on_grid(TWO, 0.9, beta, at)
    assert mean == approx(weight @ u, abs=1e-6)
    assert variance == approx(weight @ (u - weight @ u) ** 2, abs=1e-6)
    apart("mean of x_t−1 in closed form, x_t = 0.3, β = 0.1", printed="none", right=f"{mean:.4f}")
    apart("its variance", printed="none", right=f"{variance:.4f}")


@pytest.mark.slip("E1.07")
def test_the_model_is_not_the_reverse_of_q(apart):
    """log p(x_0) and the bound differ by a KL; were p_θ(x_1 … x_T | x_0) that of q, by nothing."""
    start, noises = chain(STEPS)
    forward = start * START, noises @ noises.T
    right = gaussians_apart(*forward, *model_given_start(START))
    assert right == approx(bound() + log_evidence(START), abs=1e-9)
    apart("what the bound gives away on a chain of three steps",
          printed=gaussians_apart(*forward, *forward), right=right, by=1e-6)  # fmt: skip


# The step back when the start is known


@pytest.mark.slip("E1.08")
@pytest.mark.parametrize("t", [2, 500])
def test_the_sign_of_the_second_square(apart, t):
    """The curvature of ½A ± ½B in x_{t−1}."""

    def precision(sign):
        before, beta = bar(t - 1), BETAS[t - 1]

        def exponent(u):
            first = (-0.4 - (1 - beta) ** 0.5 * u) ** 2 / beta
            return -first / 2 - sign * (u - before**0.5 * 0.7) ** 2 / (1 - before) / 2

        return -(exponent(1.0) - 2 * exponent(0.0) + exponent(-1.0))

    right = precision(+1)
    assert right == approx(1 / step_back(t)[2], rel=1e-8)
    apart(f"precision of x_t−1 given x_t and x₀, t = {t}", printed=precision(-1), right=right,
          by=1e-6 * right)  # fmt: skip


def mean_from_both(x, x_0, t, factor=1):
    """Linear over quadratic coefficient of the exponent; completing the square takes 1, not 2."""
    alpha, before = 1 - BETAS[t - 1], bar(t - 1)
    linear = factor * (alpha**0.5 / BETAS[t - 1] * x + before**0.5 / (1 - before) * x_0)
    return linear / (alpha / BETAS[t - 1] + 1 / (1 - before))


@pytest.mark.slip("E1.09")
def test_the_factor_two(apart):
    a, b, _ = step_back(500)
    right = mean_from_both(-0.4, 0.7, 500)
    assert right == approx(a * -0.4 + b * 0.7, abs=1e-10)
    apart("mean of x₄₉₉ given x₅₀₀ = −0.4 and x₀ = 0.7", right=right, by=1e-9,
          printed=mean_from_both(-0.4, 0.7, 500, factor=2))  # fmt: skip


@pytest.mark.slip("E1.10")
def test_the_start_from_the_noise(apart):
    """x₀ = (1.3, −0.4) and its noise make x₅₀₀; back from there."""
    x, level = noisy_500()[0], bar(500)
    printed = (x - BETAS[499] / (1 - level) ** 0.5 * EPSILON) / level**0.5
    right = (x - (1 - level) ** 0.5 * EPSILON) / level**0.5
    for i, name in enumerate(("first", "second")):
        assert right[i] == approx(float(CLEAN[i]), abs=1e-10)
        apart(f"{name} coordinate of x₀", printed=printed[i], right=right[i], by=1e-9)


def mean_from_noise(x, e, t, root):
    """(x_t − β_t/√(1 − ᾱ_t) ε) over a root: √α_t, or √ᾱ_t as printed."""
    return (x - BETAS[t - 1] / (1 - bar(t)) ** 0.5 * e) / root


@pytest.mark.slip("E1.11")
def test_alpha_not_alpha_bar(apart):
    a, b, _ = step_back(500)
    x = noisy_500()[0]
    right = mean_from_noise(x, EPSILON, 500, (1 - BETAS[499]) ** 0.5)
    printed = mean_from_noise(x, EPSILON, 500, bar(500) ** 0.5)
    assert (right - a * x - b * CLEAN).abs().max() < 1e-10
    apart("length of the mean, t = 500", printed=printed.norm(), right=right.norm(), by=1e-9)


@pytest.mark.slip("E1.11")
def test_a_sampler_with_alpha_bar_runs_away(apart):
    """Data N(0, 1), where the best noise prediction is √(1 − ᾱ) x and every x_t has variance 1."""
    n = 20_000
    rms = []
    for root in (lambda t: bar(t) ** 0.5, lambda t: (1 - BETAS[t - 1]) ** 0.5):
        x, rng = normals(n, seed=74), generator(75)
        for t in (1000, 999, 998):
            z = torch.randn(n, generator=rng, dtype=torch.float64)
            x = mean_from_noise(x, (1 - bar(t)) ** 0.5 * x, t, root(t)) + BETAS[t - 1] ** 0.5 * z
        rms.append(x.square().mean() ** 0.5)
    printed, right = rms
    error = 4.5 / (2 * n) ** 0.5
    assert right == approx(1, abs=error)
    apart("size of the samples after three steps back", printed=printed, right=right, by=error)


@pytest.mark.slip("E1.12")
def test_the_mean_moves_with_the_start(apart):
    """At a fixed x₅₀₀ another x₀ is another noise."""
    x, root = noisy_500()[0], (1 - BETAS[499]) ** 0.5
    e = [(x - bar(500) ** 0.5 * (CLEAN + k)) / (1 - bar(500)) ** 0.5 for k in (0, 1)]
    before, after = (mean_from_noise(x, each, 500, root)[0] for each in e)
    same_noise = mean_from_noise(x, e[0], 500, root)[0]  # what "no longer contains x₀" looks at
    right = after - before
    assert right == approx(step_back(500)[1], abs=1e-9)
    apart("how far the mean moves when x₀ moves by 1, t = 500", printed=same_noise - before,
          right=right, by=1e-8)  # fmt: skip


# The bound in three terms


@pytest.mark.slip("E1.13")
def test_who_is_the_encoder(apart):
    """A VAE's bound exceeds −log p by KL(encoder‖posterior); here q(x_1 … x_T | x_0) encodes."""
    start, noises = chain(STEPS)
    q, model = (start * START, noises @ noises.T), model_given_start(START)
    right = gaussians_apart(*q, *model)
    x, log_q = forward_paths(START, np.random.default_rng(76).standard_normal((3, 400_000)))
    values = torch.tensor(log_q - log_model(x)) + log_evidence(START)
    assert values.mean() == approx(right, abs=4.5 * float(standard_error(values)))
    apart("bound + log p_θ(x₀), three steps", printed=gaussians_apart(*model, *q), right=right,
          by=1e-6)  # fmt: skip


@pytest.mark.slip("E1.14")
def test_a_logarithm_of_a_negative_number(apart):
    evidence = math.exp(log_evidence(START))
    printed, right = -cmath.log(-evidence), -cmath.log(evidence)
    assert right == approx(-log_evidence(START)) and right.real == approx(1.113218, abs=1e-6)
    apart("imaginary part of −log p_θ(x₀)", printed=printed.imag, right=right.imag, by=1e-9)


@pytest.mark.slip("E1.14")
def test_the_bound_is_an_average_over_the_data(apart):
    """q(x_0 … x_T | x_0) in place of q(x_0 … x_T) gives a number for each x_0."""

    def over_data(f):
        parts = zip(WEIGHTS, MEANS, VARIANCES, strict=True)
        return sum(w * hermite_mean(lambda u, m=m: f(m + u), v**0.5) for w, m, v in parts)

    right = over_data(bound)
    assert right == approx(over_data(lambda x_0: sum(three_terms(x_0))), abs=1e-9)
    cross_entropy = -over_data(log_evidence)
    apart(
        "the bound, averaged over the data (printed: at x₀ = 0.7)",
        printed=bound(START),
        right=right,
        by=1e-6,
    )
    assert right > cross_entropy


@pytest.mark.slip("E1.16")
def test_the_reconstruction_term_trains_the_same_network(apart):
    """−log N(x₀; μ_θ(x₁), β₁): its gradient in θ is that of the simple loss at t = 1, over α₁."""
    nets = some_network(), some_network()
    x, e = normals(2, 200, 2, seed=77)
    t = torch.ones(200, dtype=torch.long)
    noisy = (1 - BETAS[0]) ** 0.5 * x + BETAS[0] ** 0.5 * e
    weights = list(nets[0].parameters())

    def reconstruction(net):
        mean = mean_from_noise(noisy, net.epsilon(noisy, t.double()), 1, (1 - BETAS[0]) ** 0.5)
        law = torch.distributions.Normal(mean, BETAS[0] ** 0.5)
        return -law.log_prob(x).sum(1).mean()

    def gradient(loss):
        options = dict(allow_unused=True, materialize_grads=True)
        return torch.cat([g.flatten() for g in torch.autograd.grad(loss, weights, **options)])

    simple = gradient(losses.ddpm_simple(nets[0], x, e, t, BARS).mean())
    other, same = (gradient(reconstruction(net)) for net in reversed(nets))
    assert (same * (1 - BETAS[0]) - simple).abs().max() < 1e-9
    apart("gradient of the reconstruction term in θ, over that of the simple loss at t = 1",
          printed=other.norm() / simple.norm(), right=same.norm() / simple.norm(),
          by=1e-6)  # fmt: skip


# Three names for one prediction


@pytest.mark.slip("E1.17")
def test_the_target_is_the_noise(apart):
    """Regression on x_t, over draws at ᾱ = 0.4: of the printed target, and of the noise."""
    x, e, t = one_level(300_000, 78)
    noisy = x_t(x, e, t, ONE)
    design = torch.cat([noisy, torch.ones_like(noisy)], 1)
    printed, right = (
        torch.linalg.lstsq(design, target).solution[0, 0] for target in (ONE[0] + 0 * e, e)
    )
    spread = 0.4 * (WEIGHTS @ (MEANS**2 + VARIANCES) - (WEIGHTS @ MEANS) ** 2) + 0.6
    error = 4.5 / (spread * len(x)) ** 0.5
    assert right == approx(0.6**0.5 / spread, abs=error)
    apart("slope of the best affine prediction in x_t, ᾱ = 0.4", printed=printed, right=right,
          by=error)  # fmt: skip


@pytest.mark.slip("E1.18")
@pytest.mark.parametrize("t", [2, 500, 1000])
def test_the_weight_of_the_other_form(apart, t):
    before, now = float(BARS[t - 2]), float(BARS[t - 1])
    tilde = (1 - before) / (1 - now) * BETAS[t - 1]
    printed, right = before * BETAS[t - 1] ** 2 / (2 * tilde * (1 - now) ** 2), weight_on_noise(t)
    assert right == approx(epsilon_weight(t), rel=1e-6)
    assert printed / right == approx(snr(t), rel=1e-6)
    apart(f"weight of ‖ε − ε_θ‖² in the bound, t = {t}", printed=printed, right=right,
          by=1e-5 * right)  # fmt: skip


@pytest.mark.slip("E1.19")
def test_dropping_the_weights_moves_a_shared_optimum(apart):
    """ε̂ = w x_t with one w for all steps, data N(0, 4); the package's loss on Gauss nodes."""
    z, weight = (exactly(a) for a in hermegauss(3))
    nodes, weight = torch.cartesian_prod(z, z), torch.outer(weight, weight).flatten() / (2 * np.pi)
    t = torch.arange(1, 1001).repeat_interleave(9)
    x, e = 2 * nodes[:, :1].repeat(1000, 1), nodes[:, 1:].repeat(1000, 1)
    root = (1 - BARS).sqrt()[t - 1, None]

    def best(of_step):
        def loss(w):
            values = losses.ddpm_simple(lambda u, _: -w * u / root, x, e, t, BARS)
            return exactly(of_step) @ (values.view(1000, 9) @ weight)

        return vertex(loss)

    printed = best(np.ones(1000))
    right = best([0.0, *(weight_on_noise(s) for s in range(2, 1001))])
    level = np.array([bar(s) for s in range(1, 1001)])
    ratio = level / (1 - level)
    halves = -np.diff(ratio) / ratio[1:]  # [SNR(t − 1) − SNR(t)]/SNR(t), t from 2
    by_hand = halves @ (1 - level[1:]) ** 0.5 / (halves @ (1 + 3 * level[1:]))
    assert right == approx(by_hand, abs=1e-6)
    apart("best w of the bound, one w for all steps", printed=printed, right=right, by=1e-5)


@pytest.mark.slip("E1.20")
def test_at_most_steps_the_noise_is_larger(apart):
    t, one = torch.arange(1, 1001), torch.ones(1000, 1).double()
    signal, spoil = (x_t(*pair, t)[:, 0] for pair in ((one, 0 * one), (0 * one, one)))
    right = (spoil.abs() < signal.abs()).double().mean()
    assert right == approx(np.mean([bar(s) > 0.5 for s in range(1, 1001)]), abs=1e-12)
    apart("share of steps at which the noise in x_t is smaller than data of variance 1", printed=1,
          right=right, by=1e-3)  # fmt: skip


@pytest.mark.slip("E1.21")
def test_what_the_best_network_cannot_know(apart):
    """The error of the exact E[ε | x_t], per coordinate, for N(0, 2) at ᾱ = 0.4."""
    n, law = 100_000, gaussian(2**0.5, dim=3)
    x, e = law.sample(n, generator=generator(79)).double(), normals(n, 3, seed=80)
    values = 2 / 3 * losses.ddpm_simple(exact(law, ONE), x, e, torch.ones(n).long(), ONE)
    error = 4.5 * float(standard_error(values))
    assert values.mean() == approx(0.4 * 2 / (0.4 * 2 + 0.6), abs=error)
    apart(
        "squared error of the best prediction, N(0, 2), ᾱ = 0.4",
        printed=0,
        right=values.mean(),
        by=error,
    )
    for at in AT:  # it knows the mean over the noises that fit
        known = noise.epsilon_from_score(exact(P, ONE)(tensor(at), torch.tensor([1])), 0.6**0.5)
        assert known == approx(expected_noise(at, 0.4), abs=1e-8)
        assert noised(at, 0.4) > 1e-3


# What the two families share


@pytest.mark.slip("E1.23")
def test_another_ladder_and_another_sampler(apart):
    sigmas = noise.sigma_from_alpha_bar(BARS)
    ladder = noise.geometric_sigmas(float(sigmas[-1]), float(sigmas[0]), 1000)
    printed, right = (ladder[:-1] / ladder[1:]).max(), (sigmas[1:] / sigmas[:-1]).max()
    assert right == approx(((1 / bar(2) - 1) / (1 / bar(1) - 1)) ** 0.5, rel=1e-9)
    apart("largest ratio of neighbouring levels of DDPM", printed=printed,
          right=right, by=1e-6)  # fmt: skip
    n = 2000
    end = samplers.ancestral(exact(gaussian(0.06**0.5)), normals(n, 2, seed=81), BARS,
                             generator=generator(82))  # fmt: skip
    right, error = end_variance(0.06, True), 4.5 * 0.06 / n**0.5
    assert end.var(0).mean() == approx(right, abs=error)
    apart("variance after 1,000 calls of the sampler, data 0.06",
          printed=annealed_variance(20), right=right, by=error)  # fmt: skip


# The score, its samplers and its losses


@pytest.mark.slip("E1.24")
def test_only_the_logarithm_loses_z(apart):
    """p = N(0, 1) and q = e^(−x²/2): their gradients at 1 differ by Z, their scores do not."""
    x = torch.ones(1, 1).double()

    def log_q(x):
        return -(x**2).sum(1) / 2

    def log_p(x):
        return torch.distributions.Normal(0.0, 1.0).log_prob(x).sum(1)

    assert score_of(log_q)(x) == score_of(log_p)(x) == gaussian(dim=1).score(x)
    printed, right = (score_of(lambda x, f=f: f(x).exp())(x) for f in (log_q, log_p))
    assert right == approx((norm.pdf(1 + 1e-5) - norm.pdf(1 - 1e-5)) / 2e-5, abs=1e-9)
    apart("gradient of N(0, 1) at 1, Z ignored", printed=printed, right=right, by=1e-6)


@pytest.mark.slip("E1.25")
def test_langevin_does_not_end_on_the_maximum(apart):
    """N(0, I) in 50 dimensions, the same 400 steps with and without the noise."""
    n, score = 2500, gaussian(dim=50).score
    x = 3 * normals(n, 50, seed=83)
    sampled = samplers.langevin(score, x, step_size=0.1, n_steps=400, generator=generator(84))
    for _ in range(400):
        x = samplers.langevin_step(x, score(x), torch.zeros_like(x), 0.1)
    right = 50 / (1 - 0.1 / 4)
    error = 4.5 * right * (2 / 50 / n) ** 0.5
    found = sampled.square().sum(1).mean()
    assert found == approx(right, abs=error)
    apart("E‖x‖² after 400 steps on N(0, I), d = 50", printed=x.square().sum(1).mean(),
          right=found, by=error)  # fmt: skip


@pytest.mark.slip("E1.26")
def test_a_finite_step_is_never_exact_and_a_tiny_one_never_arrives(apart):
    """In the source's convention, (ε, √2ε); the package's η is 2ε."""
    far = recursion(2 * 0.7, 500, 1.3)
    assert far == approx(1.3 / (1 - 0.7 / (2 * 1.3)), abs=1e-9)
    apart("variance after 500 steps of ε = 0.7, data 1.3", printed=1.3, right=far, by=1e-6)
    near = recursion(2e-6, 1000)
    assert near == approx(2e-6 * 1000, rel=2e-3)
    apart("after 1,000 steps of ε = 10⁻⁶ from 0, data 1", printed=1, right=near, by=1e-6)


@pytest.mark.slip("E1.27")
def test_likelihood_minimises_another_divergence(apart):
    """Modes at ±5 with weights ⅕ and ⅘, and a model that says ½ and ½."""
    p, q = (GaussianMixture.isotropic([w, 1 - w], [[-5.0], [5.0]], 1.0) for w in (0.2, 0.5))
    u = torch.linspace(-15, 15, 30_001, dtype=torch.float64)[:, None]
    fisher = p.log_prob(u).exp() @ losses.esm(q.score, u, p.score(u)) * 1e-3
    x = p.sample(200_000, generator=generator(85)).double()
    gain = p.log_prob(x) - q.log_prob(x)  # what likelihood per point can still win
    right = kl(p, q, 20)
    assert right == approx(float(gain.mean()), abs=4.5 * float(standard_error(gain)))
    apart(
        "what a model with weights ½ and ½ for ⅕ and ⅘ still has to lose",
        printed=fisher,
        right=right,
        by=1e-6,
    )


@pytest.mark.slip("E1.28")
def test_the_score_of_spikes(apart):
    """Twenty draws smoothed to width 0.01: the objective over the draws, and over their law."""
    data, h = LINE.sample(20, generator=generator(86)).double(), 0.01
    spikes = kernel_density(data, h).score
    x = torch.linspace(-8, 6, 140_001, dtype=torch.float64)[:, None]
    weight = torch.as_tensor(line_density(x[:, 0].numpy())) * 1e-4
    right = weight @ losses.esm(spikes, x, LINE.score(x)) - LINE_C1
    nearest = (x - data.T).abs().min(1).values
    assert right == approx(float(weight @ nearest**2) / (2 * h**4), rel=0.02)
    printed = losses.ism(spikes, data).mean()
    slope = (spikes(data + 1e-6) - spikes(data - 1e-6)) / 2e-6
    assert printed == approx(float((slope + spikes(data) ** 2 / 2).mean()), rel=1e-6)
    apart("ISM loss of the score of 20 points smoothed to width 0.01",
          printed=printed, right=right, by=1e3)  # fmt: skip
    assert printed < -1000 * LINE_C1, "far below the floor −C₁ of any field"


@pytest.mark.slip("E1.29")
def test_the_ends_matter(apart):
    """p = e^(−x) on x > 0, whose score is −1; the model is s = −a."""
    x = torch.empty(1000, 1).double().exponential_(generator=generator(87))
    without = vertex(lambda a: losses.ism(lambda x: 0 * x - a, x).mean())
    end = quad(lambda x: -np.exp(-x), 0, np.inf)[0]  # p s at the end, for a = 1: E[s ∂log p] = −E s
    right = vertex(lambda a: losses.ism(lambda x: 0 * x - a, x).mean() + a * end)
    explicit = vertex(lambda a: losses.esm(lambda x: 0 * x - a, x, -torch.ones_like(x)).mean())
    assert right == approx(explicit, abs=1e-9) and explicit == approx(1, abs=1e-9)
    apart("best a of s = −a on the density e^(−x)", printed=without, right=right, by=1e-6)


@pytest.mark.slip("E1.30")
@pytest.mark.parametrize("d", [10, 100])
def test_d_passes_for_the_trace_and_one_for_a_slice(apart, d):
    def sliced(score, x):
        return losses.ssm(score, x, losses.slices(x, generator=generator(88)))

    exact_trace, slice_ = passes(losses.ism, d), passes(sliced, d)
    assert (exact_trace, slice_) == (d, 1)
    apart(f"backward passes for the exact trace, d = {d}", printed=d**2, right=exact_trace, by=0.5)
    apart("for one slice", printed=d, right=slice_, by=0.5)


def year(key, title):
    """When a work in the bibliography appeared."""
    book = (Path(__file__).parents[2] / "book" / "references.bib").read_text("utf8")
    entry = re.search(rf"@\w+\{{{key},.*?^\}}", book, flags=re.DOTALL | re.MULTILINE).group()
    assert title in entry
    return int(re.search(r"year\s*=\s*\{(\d{4})\}", entry).group(1))


@pytest.mark.slip("E1.31")
def test_who_was_first():
    ncsn = year("song2019", "gradients of the data distribution")
    ddpm = year("ho2020", "Denoising diffusion probabilistic models")
    dsm = year("vincent2011", "score matching and denoising autoencoders")
    first = year("sohldickstein2015", "nonequilibrium thermodynamics")
    assert dsm < first < ncsn < ddpm


@pytest.mark.slip("E1.32")
@pytest.mark.parametrize("n", [10, 300])
def test_the_marginal_is_not_ours_to_define(apart, n):
    """With n data points in place of p: the mean square by which its score is off, σ = 0.6."""
    points = P.sample(20 * n, generator=generator(89)).double().view(20, n, 1)
    u, right = np.linspace(-6, 6, 601), []
    weight, wanted = density(u, SIGMA) * (u[1] - u[0]), true_score(u, SIGMA)
    for data in points:
        kde = kernel_density(data, SIGMA)
        right.append(weight @ (kde.score(tensor(u))[:, 0].numpy() - wanted) ** 2)
    noisy = noise.Gaussian(SIGMA).sample(P.sample(100_000, generator=generator(90)).double(),
                                         generator=generator(91))  # fmt: skip
    values = (kde.score(noisy) - P.smoothed(SIGMA).score(noisy)).square()[:, 0]
    assert right[-1] == approx(float(values.mean()), abs=4.5 * float(standard_error(values)))
    apart(
        f"mean squared error of the score, 20 sets of {n} points, σ = 0.6",
        printed=0,
        right=np.mean(right),
        by=1e-4,
    )


@pytest.mark.slip("E1.33")
@pytest.mark.parametrize("sigma", [0.5, 0.1, 0.02])
def test_one_target_says_little(apart, sigma):
    n, kernel = 400_000, noise.Gaussian(sigma)
    x = P.sample(n, generator=generator(92)).double()
    moved = kernel.sample(x, generator=generator(93))
    t, s = kernel.target_score(moved, x), P.smoothed(sigma).score(moved)
    right = np.corrcoef(t[:, 0], s[:, 0])[0, 1]
    error = 4.5 * (1 - right**2) / n**0.5
    by_quadrature = sigma * over_noisy(lambda u: true_score(u, sigma) ** 2, sigma) ** 0.5
    assert right == approx(by_quadrature, abs=error)
    apart(f"correlation of the conditional score with the score, σ = {sigma}", printed=1,
          right=right, by=error)  # fmt: skip


@pytest.mark.slip("E1.35")
def test_not_every_energy_has_a_density(apart):
    """E = ½ log(1 + x²): a Z would be reached; the area goes on growing by 2 log 10 a decade."""

    def area(limit):
        return quad(lambda x: (1 + x**2) ** -0.5, -limit, limit, limit=500, points=[0])[0]

    right = area(1e4) - area(1e3)
    assert right == approx(2 * (np.arcsinh(1e4) - np.arcsinh(1e3)), abs=1e-6)
    normal = [quad(lambda x: np.exp(-(x**2) / 2), -r, r)[0] for r in (10, 20)]
    apart("growth of ∫ e^(−E) from |x| < 1,000 to |x| < 10,000", printed=normal[1] - normal[0],
          right=right, by=1e-3)  # fmt: skip
