"""Slips of source 0: what comes out as printed beside what is right, both computed."""

import numpy as np
import pytest
import sympy
import test_ch4 as ch4
import test_ch6 as ch6
import test_ch7 as ch7
import torch
from exact import best_slope, gaussian_pairs
from scipy.integrate import quad
from scipy.optimize import minimize, minimize_scalar
from scipy.special import logsumexp
from scipy.stats import norm

from sbm_lite import losses
from sbm_lite.calculus import divergence, jacobian
from sbm_lite.densities import GaussianMixture, gaussian, kernel_density, two_modes
from sbm_lite.runtime import generator
from sbm_lite.samplers import langevin, langevin_step


@pytest.mark.slip("E0.01")
def test_a_sum_over_the_data_is_not_the_integral(apart):
    """E = bx²/2 on draws of N(0, 1); the likelihood is best at b = 1/mean of x²."""
    x = gaussian(dim=1).sample(200, generator=generator(1))[:, 0].double().numpy()

    def as_printed(b):
        return len(x) * logsumexp(-b * x**2 / 2) + (b * x**2 / 2).sum()

    def log_z(b):
        return np.log(quad(lambda u: np.exp(-b * u**2 / 2), -np.inf, np.inf)[0])

    def likelihood(b):
        return len(x) * log_z(b) + (b * x**2 / 2).sum()

    options = {"bounds": (0, 5), "method": "bounded", "options": {"xatol": 1e-7}}
    printed, right = (minimize_scalar(f, **options).x for f in (as_printed, likelihood))
    assert abs(right * (x**2).mean() - 1) < 1e-4
    apart("best b of E = bx²/2 on 200 draws of N(0, 1)", printed=printed, right=right, by=1e-4)
    exact = log_z(1.0)
    assert abs(exact - np.log(2 * np.pi) / 2) < 1e-9
    apart("the first term at b = 1", printed=logsumexp(-(x**2) / 2), right=exact, by=1e-6)


@pytest.mark.slip("E0.02")
def test_log_z_is_subtracted_and_not_z(apart):
    """E = θx²/2, so Z = √(2π/θ) and log Z falls at the rate 1/(2θ)."""

    def z(theta):
        return quad(lambda x: np.exp(-theta * x**2 / 2), -40, 40)[0]

    theta, h = 0.3, 1e-4
    slope = (z(theta + h) - z(theta - h)) / (2 * h)
    log_slope = (np.log(z(theta + h)) - np.log(z(theta - h))) / (2 * h)
    assert abs(log_slope + 1 / (2 * theta)) < 1e-5
    apart("θ-slope of the term subtracted, θ = 0.3", printed=slope, right=log_slope, by=1e-4)


def chain_variance(eta, n_steps):
    """The variance of Langevin chains on N(0, 1) started at 0: v becomes (1 − η/2)² v + η."""
    v = 0.0
    for _ in range(n_steps):
        v = (1 - eta / 2) ** 2 * v + eta
    return v


@pytest.mark.slip("E0.03")
def test_langevin_needs_the_current_point_and_more_than_small_steps(apart):
    p, rng, eta = gaussian(dim=1), generator(2), 0.5
    start = torch.zeros(40_000, 1)
    frozen, s = start, p.score(start)
    for _ in range(60):
        frozen = langevin_step(frozen, s, torch.randn(start.shape, generator=rng), eta)
    moving = langevin(p.score, start, step_size=eta, n_steps=60, generator=rng).var()
    right = chain_variance(eta, 60)
    within = 4.5 * right * (2 / len(start)) ** 0.5
    assert abs(moving - right) < within
    apart("variance after 60 steps: score frozen, read afresh", printed=frozen.var(), right=right,
          by=4.5 * 30 * (2 / len(start)) ** 0.5)  # fmt: skip
    target = float(p.covariances[0, 0, 0])
    apart("variance promised, and reached with η = 0.5", printed=target, right=moving, by=within)
    few = langevin(p.score, start[:4000], step_size=1e-6, n_steps=1000, generator=rng).var()
    right = chain_variance(1e-6, 1000)
    assert abs(few - right) < 4.5 * right * (2 / 4000) ** 0.5
    apart("the same, in 1,000 steps of η = 10⁻⁶", printed=target, right=right, by=1e-4)


@pytest.mark.slip("E0.04")
def test_the_named_algorithm_would_sample_another_law(apart):
    """The posterior of the mean μ of N points of N(μ, 1), which has variance 1/N; one step size."""
    n_points, n_chains, rng = 100, 20_000, generator(3)
    data = torch.randn(n_points, 1, generator=rng).double()
    eta = 0.1 / n_points
    within = 4.5 * (2 / n_chains) ** 0.5

    def spread(score):
        x = data.mean().expand(n_chains, 1)
        return float(langevin(score, x, step_size=eta, n_steps=120, generator=rng).var())

    def full(x):
        return n_points * (data.mean() - x)

    def one_point_per_step(x):
        return n_points * (data[torch.randint(n_points, (n_chains,), generator=rng)] - x)

    known = 1 / n_points / (1 - n_points * eta / 4)
    printed, right = spread(one_point_per_step), spread(full)
    assert abs(right / known - 1) < within
    noise = (eta * n_points / 2) ** 2 * float(data.var(correction=0))
    noisy = (eta + noise) / (1 - (1 - n_points * eta / 2) ** 2)
    assert abs(printed / noisy - 1) < within
    apart("variance over the target's: SGLD, full score", printed=n_points * printed,
          right=n_points * right, by=n_points * within * (printed + right))  # fmt: skip


@pytest.mark.slip("E0.05")
def test_two_minimisers_may_differ_where_nothing_falls(apart):
    """p = sin²(πx) on [0, 1] and [2, 3], 0 between; one field is off by 37 in the hole."""

    def truth(x):
        return 2 * torch.pi / torch.tan(torch.pi * x)

    def other(x):
        return truth(x) + 37.0 * ((x > 1) & (x < 2))

    z, w = (torch.tensor(a) for a in np.polynomial.legendre.leggauss(200))
    x = torch.cat([(z + 1) / 2, (z + 3) / 2, (z + 5) / 2])[:, None]
    p = torch.sin(torch.pi * x[:, 0]) ** 2 * torch.cat([w, 0 * w, w]) / 2
    for field in (truth, other):
        assert p @ losses.esm(field, x, truth(x)) == 0 and abs(p.sum() - 1) < 1e-12
    gap = (truth(x) - other(x)).abs()[:, 0]
    apart("largest gap between two fields of loss 0", printed=gap[p > 0].max(), right=gap.max(),
          by=1e-9)  # fmt: skip
    assert abs(gap.max() - 37) < 1e-9


@pytest.mark.slip("E0.06")
def test_the_jacobian_of_a_free_field_is_no_hessian(apart):
    origin, h = torch.zeros(1, 2).double(), 1e-5

    def twist(field):
        j = jacobian(field, origin)[0]
        return float(j[0, 1] - j[1, 0])

    def by_differences(field):
        up, right = (h * torch.eye(2).double()[i] for i in (1, 0))
        return float((field(origin + up) - field(origin - up))[0, 0]
                     - (field(origin + right) - field(origin - right))[0, 1]) / (2 * h)  # fmt: skip

    hessian, free = twist(ch4.PLANE.score), twist(ch4.plane_field)
    assert abs(free - by_differences(ch4.plane_field)) < 1e-6
    apart("∂₂s₁ − ∂₁s₂ of a free field", printed=hessian, right=free, by=1e-6)


@pytest.mark.slip("E0.07")
def test_the_four_conditions_do_not_give_the_trace_an_average(apart):
    """s = sin(exp x²) on N(0, 1): with u = exp x², E|s′| = √(2/π) ∫ |cos u|/√u du from 1."""
    fisher = quad(lambda x: norm.pdf(x) * x**2, -np.inf, np.inf)[0]
    tails = [norm.pdf(r) for r in (4.0, 8.0, 12.0)]  # times |s| ≤ 1: E‖s‖² ≤ 1, the boundary
    assert abs(fisher - 1) < 1e-6 and max(tails[1:]) < 1e-13
    printed = "finite"  # were the list complete

    def partial(r):
        """E|s′| over |x| < r: whole half waves of the cosine, and what is left."""
        ends = np.append(np.arange(np.pi / 2, np.exp(r**2), np.pi), np.exp(r**2))
        z, w = np.polynomial.legendre.leggauss(8)
        starts = np.append(1.0, ends[:-1])
        u = starts[:, None] + (ends - starts)[:, None] * (z + 1) / 2
        return (2 / np.pi) ** 0.5 * (np.abs(np.cos(u)) / u**0.5 @ w * (ends - starts) / 2).sum()

    found = [partial(r) for r in (2.0, 3.0, 3.5)]
    assert np.allclose(found, [6.35, 90.3, 463], rtol=2e-3)
    direct = quad(lambda x: norm.pdf(x) * abs(2 * x * np.exp(x**2) * np.cos(np.exp(x**2))), 0, 2,
                  limit=2000)[0]  # fmt: skip
    assert abs(2 * direct - found[0]) < 1e-4
    # the half wave about u = kπ gives at least 2/√((k + ½)π): a divergent sum below E|s′|
    k = sympy.symbols("k", positive=True)
    below = sympy.Sum(2 / sympy.sqrt((k + sympy.Rational(1, 2)) * sympy.pi), (k, 1, sympy.oo))
    right = "finite" if below.is_convergent() else "infinite"
    apart("E|tr ∇s| of s = sin(exp x²), N(0, 1)", printed=printed, right=right)


@pytest.mark.slip("E0.08")
def test_the_square_of_a_vector_is_not_its_squared_length(apart):
    """A swirling field in the plane; what J_ESM − J_ISM − C₁ comes to with either square."""
    x, w = ch4.nodes(ch4.PLANE)
    s, target = ch4.plane_field(x), ch4.PLANE.score(x)
    trace = divergence(ch4.plane_field, x)

    def gap(half_square):
        explicit, c1 = w @ half_square(s - target), w @ half_square(target)
        return float(explicit - w @ (half_square(s) + trace) - c1)

    printed = gap(lambda a: (a**2).mean(1) / 2)
    right = gap(lambda a: (a**2).sum(1) / 2)
    assert abs(w @ losses.ism(ch4.plane_field, x) - w @ ((s**2).sum(1) / 2 + trace)) < 1e-9
    apart("J_ESM − J_ISM − C₁ in the plane", printed=printed, right=right, by=1e-5)
    assert abs(right) < 1e-5


@pytest.mark.slip("E0.09")
def test_only_slices_with_unit_second_moment_ask_the_same_question(apart):
    """s = −ax on N(0, diag(1, 4)); slices (±1, ±1), and (±1, ±3) with E[vvᵀ] = diag(1, 9)."""
    p = GaussianMixture([1.0], [[0.0, 0.0]], [[[1.0, 0.0], [0.0, 4.0]]])
    x, w = ch4.nodes(p)
    signs = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0]).double()] * 2)

    def sliced(stretch):
        slices = signs * torch.tensor([1.0, stretch]).double()
        return best_slope(
            lambda s: sum(w @ losses.ssm(s, x, v.expand_as(x).contiguous()) for v in slices)
        )

    implicit, right = best_slope(lambda s: w @ losses.ism(s, x)), sliced(3.0)
    assert abs(implicit - 2 / 5) < 1e-6 and abs(sliced(1.0) - implicit) < 1e-9
    assert abs(right - (1 + 9) / (1 + 9 * 4)) < 1e-6
    apart("best a of s = −ax with slices (±1, ±3)", printed=implicit, right=right, by=1e-5)


@pytest.mark.slip("E0.10")
def test_the_last_line_must_end_in_the_explicit_loss(apart):
    """What C₂ − C₁ would have to be, for a model that is nobody's score."""
    denoising = ch6.j_dsm(ch6.model)
    c1, c2 = ch6.constants()
    right = denoising - ch6.j_esm(ch6.model)
    assert abs(right - (c2 - c1)) < 1e-6
    apart("C₂ − C₁", printed=denoising - ch6.j_dsm(ch6.model), right=right, by=1e-6)


@pytest.mark.slip("E0.11")
def test_denoising_aims_at_another_score(apart):
    """s = −ax on N(0, 1.7) with σ = 0.6, exact expectations."""
    x, e, w = gaussian_pairs(1.7, 0.6)
    implicit = best_slope(lambda s: w @ losses.ism(s, x))
    sliced = best_slope(lambda s: w @ losses.ssm(s, x, torch.ones_like(x)))
    explicit = best_slope(lambda s: w @ losses.esm(s, x, -x / 1.7))
    denoising = best_slope(lambda s: w @ losses.dsm(s, x, e, 0.6))
    assert max(abs(a - 1 / 1.7) for a in (implicit, sliced, explicit)) < 1e-9
    assert abs(denoising - 1 / (1.7 + 0.36)) < 1e-9
    apart("best a of s = −ax by denoising", printed=implicit, right=denoising, by=1e-6)


@pytest.mark.slip("E0.12")
def test_on_ten_points_the_optimum_is_their_kernel_density(apart):
    points = ch6.P.sample(10, generator=generator(4))[:, 0].double().numpy()
    kde, true = kernel_density(ch6.tensor(points), ch6.SIGMA), ch6.P.smoothed(ch6.SIGMA)
    e = np.linspace(-8, 8, 801)
    u, weight = points[:, None] + ch6.SIGMA * e, norm.pdf(e) * 0.02 / 10

    def loss(law):
        s = law.score(ch6.tensor(u.ravel()))[:, 0].numpy().reshape(u.shape)
        return (weight * (s + e / ch6.SIGMA) ** 2 / 2).sum()

    def towards_the_truth(v):
        at = ch6.tensor(v.ravel())
        return (true.score(at) - kde.score(at))[:, 0].numpy().reshape(v.shape)

    assert abs(ch6.empirical_argmin(points, kde.score, towards_the_truth)) < 1e-8
    apart("loss on ten points, at the optimum", printed=loss(true), right=loss(kde), by=1e-6)
    pull = norm.pdf(0.4, points, ch6.SIGMA)
    best = (pull * (points - 0.4)).sum() / pull.sum() / ch6.SIGMA**2
    assert abs(best - kde.score(ch6.tensor(0.4))) < 1e-9
    apart("the optimum at 0.4", printed=ch6.true_score(0.4, ch6.SIGMA),
          right=best, by=1e-6)  # fmt: skip


@pytest.mark.slip("E0.14")
def test_the_class_can_do_better_where_it_is_shown_points(apart):
    """403 random features fitted to exact scores: on draws of p, and on as many even points."""
    axis = np.linspace(-8, 8, 81)
    grid = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)
    outside = (0.8 * norm.pdf(grid - 5).prod(1) + 0.2 * norm.pdf(grid + 5).prod(1)) < 1e-3
    exact = two_modes().score(torch.tensor(grid)).numpy()
    errors = []
    for seed in range(3):
        dice = np.random.default_rng(seed)
        waves, phases = 0.6 * dice.standard_normal((2, 400)), dice.uniform(0, 2 * np.pi, 400)

        def features(x, waves=waves, phases=phases):
            return np.c_[np.cos(x @ waves + phases), x, np.ones(len(x))]

        drawn = two_modes().sample(4000, generator=generator(seed)).double().numpy()
        for points in (drawn, dice.uniform(-8, 8, (4000, 2))):
            a = features(points)
            known = ch7.mixture_score(points)
            best = np.linalg.solve(a.T @ a + 1e-3 * np.eye(403), a.T @ known)
            miss = ((features(grid) @ best - exact) ** 2).sum(1)
            errors.append([miss[where].mean() ** 0.5 for where in (outside, ~outside)])
    errors = np.array(errors)
    drawn, even = errors[::2], errors[1::2]
    assert drawn[:, 1].max() < 0.01, "where it saw points the class can do all that is asked"
    nought = (exact[outside] ** 2).sum(1).mean() ** 0.5
    assert even[:, 0].max() < nought / 2, "and off the modes it is better than no answer"
    by = 4.5 * max(part[:, 0].std(ddof=1) for part in (drawn, even)) / 3**0.5
    apart("error off the modes: unseen, shown points there", printed=drawn[:, 0].mean(),
          right=even[:, 0].mean(), by=by)  # fmt: skip
    assert ch7.hits(1.0) * 1.28e6 < 1e-3, "of more than a million draws none falls between"


@pytest.mark.slip("E0.15")
def test_in_the_long_run_the_weights_come_out_right(apart):
    """The mean times to leave either mode are as its weight; a thousand steps show none of it."""
    leave_heavy, leave_light = ch7.crossing_time(weight=0.8), ch7.crossing_time(weight=0.2)
    right = leave_heavy / (leave_heavy + leave_light)
    heavy = float(two_modes().weights[1])
    assert abs(right - heavy) < 1e-4 and min(leave_heavy, leave_light) > 1e10
    n, rng = 2000, generator(5)
    ends = langevin(two_modes().score, ch7.even_start(n, 6), step_size=0.1, n_steps=1000,
                    generator=rng)  # fmt: skip
    printed = (ends.sum(1) > 0).double().mean()
    within = ch7.share_error(0.5, n)
    assert abs(printed - 0.5) < within
    apart("long-run share of the mode of weight 0.8", printed=printed, right=right, by=within)


@pytest.mark.slip("E0.16")
def test_a_large_first_noise_is_a_bridge(apart):
    """Noise of 0.1 has a density everywhere already, even on data in a line; but nobody crosses."""
    line = kernel_density(torch.linspace(-5, 5, 50)[:, None] * torch.tensor([[1.0, 0.0]]), 0.1)
    assert bool(line.log_prob(torch.tensor([[0.0, 3.0]]).double()).isfinite().all())
    filled, bridged = (ch7.crossing_time((1 + sigma**2) ** 0.5) for sigma in (0.1, 7))
    by_grid = ch7.crossing_time_on_a_grid(50**0.5, 0.8)
    assert abs(by_grid / bridged - 1) < 2e-4
    apart("time to cross: σ = 0.1 (fills the plane), σ = 7", printed=filled, right=bridged, by=1.0)


@pytest.mark.slip("E0.17")
def test_the_score_does_not_grow_like_the_target(apart):
    """N(0, 1) data, exact expectations at σ = 0.1 and σ = 0.01."""

    def rms(sigma, of):
        x, e, w = gaussian_pairs(1.0, sigma)
        return float((w @ of(x, e, sigma)[:, 0] ** 2) ** 0.5)

    def target(x, e, sigma):
        return -e / sigma

    def score(x, e, sigma):
        return gaussian(dim=1).smoothed(sigma).score(x + sigma * e)

    printed, right = (rms(0.01, of) / rms(0.1, of) for of in (target, score))
    assert abs(printed - 10) < 1e-9 and abs(right - (1.01 / 1.0001) ** 0.5) < 1e-9
    apart("‖s‖ at σ = 0.01 over ‖s‖ at σ = 0.1, N(0, 1)", printed=printed, right=right, by=1e-6)


@pytest.mark.slip("E0.18")
def test_on_a_sheet_there_is_nothing_to_converge_to(apart):
    """s = (−x₁, −k x₂) on N(0, 1) × {0}, and with noise of σ = 0.01 added."""
    x1, e, w = gaussian_pairs(1.0, 1.0)

    def loss(k, sigma):
        x = torch.cat([(1 + sigma**2) ** 0.5 * x1, sigma * e], 1)
        return w @ losses.ism(lambda u: u * torch.tensor([-1.0, -k]).double(), x)

    def slope(k, sigma):
        return float(loss(k + 1, sigma) - loss(k - 1, sigma)) / 2

    k, size = sympy.symbols("k sigma", positive=True)
    exact = sympy.diff(-1 - k + (1 + k**2 * size**2) / 2, k)
    assert slope(1e4, 0.0) == pytest.approx(float(exact.subs({k: 10_000, size: 0})), abs=1e-6)
    assert abs(slope(2e4, 0.01) - exact.subs({k: 20_000, size: 0.01})) < 1e-6
    assert slope(1e6, 0.0) < -0.9 and slope(1e4 - 50, 0.01) < 0 < slope(1e4 + 50, 0.01)
    apart("slope of the loss in k at a pull of 10⁴", printed=slope(1e4, 0.01),
          right=slope(1e4, 0.0), by=1e-6)  # fmt: skip


@pytest.mark.slip("E0.19")
def test_the_network_learns_no_conditional_score(apart):
    """A mixture at ᾱ = 0.4: how far the best network stays from ∇log p(x_t | x₀)."""
    at = 0.4
    x, e = np.meshgrid(np.linspace(-8, 7, 751), np.linspace(-8, 8, 401), indexing="ij")
    weight = ch6.density(x) * norm.pdf(e) * 0.02 * 0.04
    moved, target = at**0.5 * x + (1 - at) ** 0.5 * e, -e / (1 - at) ** 0.5
    best = ch6.P.diffused(at).score(ch6.tensor(moved.ravel()))[:, 0].numpy().reshape(x.shape)
    right = (weight * (best - target) ** 2).sum()
    squares = (weight * target**2).sum() - (weight * best**2).sum()  # Pythagoras, if E[t | x_t] = s
    assert abs(right - squares) < 1e-6
    for bend in (np.ones_like, np.sin, lambda u: u):
        assert abs((weight * bend(moved) * (best - target)).sum()) < 1e-7
    printed = (weight * (target - -(moved - at**0.5 * x) / (1 - at)) ** 2).sum()
    apart("E‖best network − ∇log p(x_t | x₀)‖²", printed=printed, right=right, by=1e-6)


@pytest.mark.slip("E0.21")
def test_a_bound_is_not_the_likelihood(apart):
    """x = z₁ + z₂ + noise; the best encoder with independent coordinates, in closed form."""
    v, x = 0.5, 1.2

    def bound(q):
        (m1, m2), (s1, s2) = q[:2], np.exp(q[2:])
        fit = -((x - m1 - m2) ** 2 + s1 + s2) / (2 * v) - np.log(2 * np.pi * v) / 2
        return fit - (s1 + s2 + m1**2 + m2**2 - 2 - np.log(s1) - np.log(s2)) / 2

    printed = bound(minimize(lambda q: -bound(q), np.zeros(4), tol=1e-10).x)
    right = norm.logpdf(x, 0, (2 + v) ** 0.5)
    z = np.linspace(-9, 9, 721)
    joint = norm.pdf(z)[:, None] * norm.pdf(z) * norm.pdf(x, z[:, None] + z, v**0.5)
    total = joint.sum() * (z[1] - z[0]) ** 2
    assert abs(np.log(total) - right) < 1e-6
    precision = np.eye(2) + np.ones((2, 2)) / v
    gap = np.log(np.diag(precision).prod() / np.linalg.det(precision)) / 2
    assert abs(right - printed - gap) < 1e-6
    apart("log p(1.2): the best bound, the truth", printed=printed, right=right, by=1e-6)
