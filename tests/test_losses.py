"""Losses against their formulas, exact averages over slices, and minima known beforehand."""

import itertools

import pytest
import torch

from sbm_lite import losses
from sbm_lite.densities import GaussianMixture, gaussian
from sbm_lite.diagnostics import standard_error
from sbm_lite.networks import DdpmScore
from sbm_lite.noise import Gaussian, Laplace, Mixture, alpha_bars, linear_betas, vp_score
from sbm_lite.runtime import generator

LOPSIDED = GaussianMixture(
    [0.3, 0.7], [[-1.0, 0.0], [1.0, 0.5]], [[[0.5, 0.2], [0.2, 0.4]], [[1.2, -0.3], [-0.3, 0.8]]]
)
A, B = torch.randn(2, 4, 4, generator=generator(100), dtype=torch.float64)
EXACT = dict(rtol=1e-10, atol=1e-10)


def normals(n=7, d=4, seed=0):
    return torch.randn(n, d, generator=generator(seed), dtype=torch.float64)


def signs(n, d, seed=0):
    return torch.randint(2, (n, d), generator=generator(seed)).double() * 2 - 1


def on_sphere(n, d, seed=0):
    """Uniform on the sphere of radius 1."""
    return torch.nn.functional.normalize(normals(n, d, seed))


def field(x):
    """A field on ℝ⁴ whose Jacobian is not symmetric, tanh(xA)B."""
    return torch.tanh(x @ A) @ B


def field_jacobian(x):
    """∂fᵢ/∂xⱼ of `field` by the chain rule, as entry [n, i, j]."""
    return torch.einsum("ki,nk,jk->nij", B, 1 - torch.tanh(x @ A) ** 2, A)


def trace(x):
    return field_jacobian(x).diagonal(dim1=1, dim2=2).sum(1)


def form(x, v):
    return torch.einsum("ni,nij,nj->n", v, field_jacobian(x), v)


def per_point(f):
    """Σᵢ f(point, coordinate i), written as loops."""
    return torch.stack([sum(f(n, i) for i in range(4)) for n in range(7)])


# The formulas


def test_esm_is_its_formula():
    x, target = normals(), normals(seed=1)
    by_hand = per_point(lambda n, i: 0.5 * (field(x)[n, i] - target[n, i]) ** 2)
    torch.testing.assert_close(losses.esm(field, x, target), by_hand, **EXACT)


def test_ism_is_its_formula():
    x = normals()
    by_hand = trace(x) + per_point(lambda n, i: 0.5 * field(x)[n, i] ** 2)
    torch.testing.assert_close(losses.ism(field, x), by_hand, **EXACT)


def test_ssm_squares_the_projection_and_not_its_terms():
    x, v = normals(), normals(seed=1)
    by_hand = form(x, v) + 0.5 * per_point(lambda n, i: v[n, i] * field(x)[n, i]) ** 2
    torch.testing.assert_close(losses.ssm(field, x, v), by_hand, **EXACT)


def test_ssm_vr_is_its_formula():
    x, v = normals(), normals(seed=1)
    by_hand = form(x, v) + per_point(lambda n, i: 0.5 * field(x)[n, i] ** 2)
    torch.testing.assert_close(losses.ssm_vr(field, x, v), by_hand, **EXACT)


def test_ssm_fd_is_its_formula():
    x, v, h = normals(), normals(seed=1), 0.3
    difference = (field(x + h * v) - field(x - h * v)) / (2 * h)
    by_hand = per_point(lambda n, i: v[n, i] * difference[n, i] + 0.5 * field(x)[n, i] ** 2)
    torch.testing.assert_close(losses.ssm_fd(field, x, v, h), by_hand, **EXACT)


LEVELS = {"one level": torch.full((7,), 0.3).double(), "one each": 0.2 + torch.arange(7).double()}
each_level = pytest.mark.parametrize("sigma", LEVELS.values(), ids=LEVELS)


@each_level
def test_dsm_is_its_formula(sigma):
    x, epsilon = normals(), normals(seed=1)
    s = torch.cat([field(x[n : n + 1] + sigma[n] * epsilon[n]) for n in range(7)])
    by_hand = per_point(lambda n, i: 0.5 * (s[n, i] + epsilon[n, i] / sigma[n]) ** 2)
    torch.testing.assert_close(losses.dsm(field, x, epsilon, sigma), by_hand, **EXACT)


@each_level
def test_ncsn_is_its_formula_and_tells_the_network_its_level(sigma):
    told = lambda x, sigma: field(x) / (1 + sigma[:, None])  # noqa: E731
    x, epsilon = normals(), normals(seed=1)
    s = told(x + sigma[:, None] * epsilon, sigma)
    by_hand = per_point(lambda n, i: 0.5 * (sigma[n] * s[n, i] + epsilon[n, i]) ** 2)
    torch.testing.assert_close(losses.ncsn(told, x, epsilon, sigma), by_hand, **EXACT)


@each_level
def test_ncsn_is_dsm_times_the_variance(sigma):
    x, epsilon = normals(), normals(seed=1)
    weighted = sigma**2 * losses.dsm(field, x, epsilon, sigma)
    ours = losses.ncsn(lambda x, sigma: field(x), x, epsilon, sigma)
    torch.testing.assert_close(ours, weighted, **EXACT)


@pytest.mark.parametrize("loss", [losses.dsm, losses.ncsn], ids=["dsm", "ncsn"])
def test_a_level_may_be_a_number_a_tensor_or_a_list(loss):
    score = lambda x, sigma=None: field(x)  # noqa: E731
    x, epsilon = normals(), normals(seed=1)
    of = lambda sigma: loss(score, x, epsilon, sigma)  # noqa: E731
    for same in (torch.tensor(0.5), torch.full((7,), 0.5), [0.5] * 7):
        assert torch.equal(of(same), of(0.5))


BARS = alpha_bars(linear_betas(20, 0.01, 0.4))
STEPS = torch.tensor([1, 20, 7, 7, 2, 19, 12])


def told_step(x, t):
    """A field on ℝ⁴ that depends on its step."""
    return field(x) / (1 + torch.as_tensor(t, dtype=x.dtype).expand(len(x))[:, None])


def diffused(x, epsilon, bar):
    return bar**0.5 * x + (1 - bar) ** 0.5 * epsilon


@pytest.mark.parametrize("t", [STEPS, torch.full((7,), 5)], ids=["one each", "one step"])
def test_ddpm_simple_is_its_formula_and_tells_the_network_its_step(t):
    x, epsilon = normals(), normals(seed=1)
    bars = [float(BARS[step - 1]) for step in t.tolist()]
    s = torch.cat(
        [
            told_step(diffused(x[n : n + 1], epsilon[n : n + 1], bars[n]), int(t[n]))
            for n in range(7)
        ]
    )
    by_hand = per_point(lambda n, i: 0.5 * ((1 - bars[n]) ** 0.5 * s[n, i] + epsilon[n, i]) ** 2)
    torch.testing.assert_close(losses.ddpm_simple(told_step, x, epsilon, t, BARS), by_hand, **EXACT)


def test_ddpm_simple_is_half_the_squared_error_of_the_predicted_noise():
    predict = lambda x, t: torch.sin(x) * (1 + t[:, None])  # noqa: E731
    x, epsilon = normals(), normals(seed=1)
    bars = BARS[STEPS - 1]
    seen = torch.stack([diffused(x[n], epsilon[n], bars[n]) for n in range(7)])
    by_hand = per_point(
        lambda n, i: (epsilon[n, i] - torch.sin(seen[n, i]) * (1 + float(STEPS[n]))) ** 2 / 2
    )
    ours = losses.ddpm_simple(DdpmScore(predict, BARS), x, epsilon, STEPS, BARS)
    torch.testing.assert_close(ours, by_hand, **EXACT)


def test_ddpm_simple_is_ncsn_in_other_coordinates():
    """x_t/√ᾱ_t = x + σε: with one score in both, the two losses are one number per point."""
    told = lambda x, sigma: field(x) / (1 + sigma[:, None])  # noqa: E731
    x, epsilon = normals(), normals(seed=1)
    sigmas = torch.tensor([((1 - b) / b) ** 0.5 for b in BARS[STEPS - 1]], dtype=torch.float64)
    torch.testing.assert_close(
        losses.ddpm_simple(vp_score(told, BARS), x, epsilon, STEPS, BARS),
        losses.ncsn(told, x, epsilon, sigmas),
        **EXACT,
    )


def test_a_step_may_be_a_number_or_a_tensor():
    x, epsilon = normals(), normals(seed=1)
    of = lambda t: losses.ddpm_simple(told_step, x, epsilon, t, BARS)  # noqa: E731
    for same in (torch.tensor(5), torch.full((7,), 5)):
        torch.testing.assert_close(of(same), of(5), rtol=1e-14, atol=0)


def test_dsm_is_esm_with_the_target_of_the_gaussian_kernel():
    x, epsilon, kernel = normals(), normals(seed=1), Gaussian(0.3)
    x_noisy = x + 0.3 * epsilon
    by_kernel = losses.esm(field, x_noisy, kernel.target_score(x_noisy, x))
    torch.testing.assert_close(losses.dsm(field, x, epsilon, 0.3), by_kernel, **EXACT)


@pytest.mark.parametrize("a", [0.0, 0.7, -2.0])
def test_losses_of_a_linear_score_worked_out_on_paper(a):
    """s(x) = −a x: ∇s = −a I, so everything is a polynomial in a."""
    s = lambda x: -a * x  # noqa: E731
    x, v, d, sigma = normals(), normals(seed=1), 4, 0.3
    xx, vv, xv = (x * x).sum(1), (v * v).sum(1), (x * v).sum(1)
    pull = 1 / sigma - a * sigma
    bars, left, back = torch.tensor([0.36], dtype=torch.float64), 1 - 0.64 * a, 0.48 * a
    paper = {
        losses.esm(s, x, -x): (1 - a) ** 2 * xx / 2,
        losses.ism(s, x): -a * d + a**2 * xx / 2,
        losses.ssm(s, x, v): -a * vv + a**2 * xv**2 / 2,
        losses.ssm_vr(s, x, v): -a * vv + a**2 * xx / 2,
        losses.ssm_fd(s, x, v, 0.5): -a * vv + a**2 * xx / 2,
        losses.dsm(s, x, v, sigma): (a**2 * xx - 2 * a * pull * xv + pull**2 * vv) / 2,
        # ᾱ = 0.36: √(1 − ᾱ) s + ε = left ε − back x
        losses.ddpm_simple(lambda x, t: s(x), x, v, 1, bars): (
            back**2 * xx - 2 * left * back * xv + left**2 * vv
        )
        / 2,
    }
    for ours, by_hand in paper.items():
        torch.testing.assert_close(ours, by_hand, **EXACT)


# Slices


@pytest.mark.parametrize("loss", [losses.ssm, losses.ssm_vr], ids=["ssm", "ssm_vr"])
def test_the_mean_over_all_sign_vectors_is_ism(loss):
    x = normals()
    every = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=4))).double()
    mean = sum(loss(field, x, v.expand_as(x)) for v in every) / len(every)
    torch.testing.assert_close(mean, losses.ism(field, x), **EXACT)


@pytest.mark.parametrize("loss", [losses.ssm, losses.ssm_vr], ids=["ssm", "ssm_vr"])
def test_slices_of_length_root_d_along_the_axes_give_ism_too(loss):
    x, axes = normals(), 2 * torch.eye(4).double()  # √4 = 2
    mean = sum(loss(field, x, v.expand_as(x)) for v in axes) / 4
    torch.testing.assert_close(mean, losses.ism(field, x), **EXACT)


def test_slices_of_length_one_give_a_dth_of_ism_and_upset_ssm_vr():
    x, axes = normals(), torch.eye(4).double()
    mean = lambda loss: sum(loss(field, x, v.expand_as(x)) for v in axes) / 4  # noqa: E731
    torch.testing.assert_close(mean(losses.ssm), losses.ism(field, x) / 4, **EXACT)
    unbalanced = trace(x) / 4 + (field(x) ** 2).sum(1) / 2
    torch.testing.assert_close(mean(losses.ssm_vr), unbalanced, **EXACT)


def test_finite_differences_are_off_by_the_square_of_the_step():
    x, v = normals(), normals(seed=1)
    exact = losses.ssm_vr(field, x, v)
    errors = [(losses.ssm_fd(field, x, v, h) - exact).abs().max() for h in (2e-3, 1e-3, 5e-4)]
    assert errors[1] < 1e-4
    for coarse, fine in itertools.pairwise(errors):
        assert abs(coarse / fine - 4) < 0.01


def test_finite_differences_in_single_precision_at_the_step_the_docstring_names():
    x, v = normals().float(), normals(seed=1).float()
    single = lambda x: torch.tanh(x @ A.float()) @ B.float()  # noqa: E731
    error = losses.ssm_fd(single, x, v, 1e-2) - losses.ssm_vr(single, x, v)
    assert error.abs().max() < 2e-2  # h² times third derivatives; at h = 1e-5 it is above 0.1


# Minima: the score s = −a x on N(0, I), whose losses are parabolas in a


def parabola(loss):
    """Per-point coefficients of c₀ + c₁a + c₂a², from three values of a."""
    low, zero, high = (loss(lambda x, a=a: -a * x) for a in (-1.0, 0.0, 1.0))
    return (high - low) / 2, (high + low) / 2 - zero


def least(loss):
    """Where the mean of the loss is least, and the standard error of that place."""
    linear, square = parabola(loss)
    place = -linear.mean() / (2 * square.mean())
    return place, standard_error(linear + 2 * place * square) / (2 * square.mean())


N, SIGMA = 20_000, 0.6
MINIMA = {  # d → loss(score), place of the minimum
    "esm": lambda d: (lambda s: losses.esm(s, normals(N, d), -normals(N, d)), 1),
    "ism": lambda d: (lambda s: losses.ism(s, normals(N, d)), 1),
    "ssm, normal v": lambda d: (lambda s: losses.ssm(s, normals(N, d), normals(N, d, 1)), 1),
    "ssm, signs": lambda d: (lambda s: losses.ssm(s, normals(N, d), signs(N, d, 1)), 1),
    "ssm, unit sphere": lambda d: (lambda s: losses.ssm(s, normals(N, d), on_sphere(N, d, 1)), 1),
    "ssm_vr, normal v": lambda d: (lambda s: losses.ssm_vr(s, normals(N, d), normals(N, d, 1)), 1),
    "ssm_vr, signs": lambda d: (lambda s: losses.ssm_vr(s, normals(N, d), signs(N, d, 1)), 1),
    "ssm_vr, √d sphere": lambda d: (
        lambda s: losses.ssm_vr(s, normals(N, d), d**0.5 * on_sphere(N, d, 1)),
        1,
    ),
    "ssm_vr, unit sphere: wrong": lambda d: (
        lambda s: losses.ssm_vr(s, normals(N, d), on_sphere(N, d, 1)),
        1 / d,
    ),
    "ssm_fd": lambda d: (lambda s: losses.ssm_fd(s, normals(N, d), signs(N, d, 1), 0.01), 1),
    "dsm": lambda d: (
        lambda s: losses.dsm(s, normals(N, d), normals(N, d, 1), SIGMA),
        1 / (1 + SIGMA**2),
    ),
    "ncsn": lambda d: (
        lambda s: losses.ncsn(lambda x, _: s(x), normals(N, d), normals(N, d, 1), SIGMA),
        1 / (1 + SIGMA**2),
    ),
    "ddpm_simple": lambda d: (  # data of variance 1 keep it
        lambda s: losses.ddpm_simple(
            lambda x, _: s(x), normals(N, d), normals(N, d, 1), STEPS.repeat(N // 7 + 1)[:N], BARS
        ),
        1,
    ),
}


@pytest.mark.parametrize("d", [2, 8])
@pytest.mark.parametrize("case", MINIMA.values(), ids=MINIMA)
def test_the_minimum_is_at_the_true_slope(case, d):
    loss, slope = case(d)
    place, error = least(loss)
    assert error < 0.03 and abs(place - slope) < 4.5 * error + 1e-9


@pytest.mark.parametrize("d", [2, 8])
@pytest.mark.parametrize("name", ["ism", "ssm, normal v", "ssm, signs", "ssm_vr, √d sphere"])
def test_the_value_at_the_true_score_is_minus_half_the_dimension(name, d):
    loss, _ = MINIMA[name](d)
    values = loss(gaussian(dim=d).score)
    assert abs(values.mean() + d / 2) < 4.5 * standard_error(values)


@pytest.mark.parametrize("d", [2, 8])
def test_the_least_value_of_dsm_is_not_zero(d):
    """Variance of the target left once x̃ is known: d/(2σ²(1 + σ²)) on N(0, I)."""
    loss, slope = MINIMA["dsm"](d)
    values = loss(lambda x: -slope * x)
    expected = d / (2 * SIGMA**2 * (1 + SIGMA**2))
    assert abs(values.mean() - expected) < 4.5 * standard_error(values)


# Minima on a density without symmetry: the true score plus t times a field with curl and trace


def swirl(x):
    return torch.stack([torch.sin(x[:, 0]) + x[:, 1], x[:, 0] * x[:, 1] - 0.5 * x[:, 0]], dim=1)


X = LOPSIDED.sample(N, generator=generator(5)).double()


def noisy(kernel):
    x_noisy = kernel.sample(X, generator=generator(6))
    return x_noisy, kernel.target_score(x_noisy, X)


TILTED = {  # truth, loss(score)
    "esm": (LOPSIDED, lambda s: losses.esm(s, X, LOPSIDED.score(X))),
    "ism": (LOPSIDED, lambda s: losses.ism(s, X)),
    "ssm": (LOPSIDED, lambda s: losses.ssm(s, X, normals(N, 2, 1))),
    "ssm_vr": (LOPSIDED, lambda s: losses.ssm_vr(s, X, signs(N, 2, 1))),
    "ssm_fd": (LOPSIDED, lambda s: losses.ssm_fd(s, X, signs(N, 2, 1), 1e-3)),
    "dsm": (LOPSIDED.smoothed(SIGMA), lambda s: losses.dsm(s, X, normals(N, 2, 1), SIGMA)),
    "esm with a mixture's target": (
        GaussianMixture(  # the law of x + u: each component of x with each of u
            [0.3 * 0.4, 0.3 * 0.6, 0.7 * 0.4, 0.7 * 0.6],
            LOPSIDED.means.repeat_interleave(2, 0),
            LOPSIDED.covariances.repeat_interleave(2, 0)
            + torch.tensor([0.3, 1.2, 0.3, 1.2]).double()[:, None, None] ** 2 * torch.eye(2),
        ),
        lambda s: losses.esm(s, *noisy(Mixture([0.4, 0.6], [0.3, 1.2]))),
    ),
    "ddpm_simple": (
        LOPSIDED.diffused(float(BARS[6])),
        lambda s: losses.ddpm_simple(lambda x, t: s(x), X, normals(N, 2, 1), 7, BARS),
    ),
}


@pytest.mark.parametrize(("truth", "loss"), TILTED.values(), ids=TILTED)
def test_the_true_score_is_least_among_its_neighbours(truth, loss):
    low, zero, high = (loss(lambda x, t=t: truth.score(x) + t * swirl(x)) for t in (-1.0, 0.0, 1.0))
    slope, bend = (high - low) / 2, (high + low) / 2 - zero
    assert bend.mean() > 100 * standard_error(slope) ** 2  # a minimum, and not a flat place
    assert abs(slope.mean()) < 4.5 * standard_error(slope) + 1e-9


def test_the_score_of_the_clean_data_does_not_minimise_dsm():
    _, loss = TILTED["dsm"]
    truth = LOPSIDED.smoothed(SIGMA)
    gap = loss(LOPSIDED.score) - loss(truth.score)
    assert gap.mean() > 10 * standard_error(gap)


def test_the_true_score_of_laplace_noise_is_least():
    """On the line, where x + u has a density by quadrature: E[t | x̃] is the score."""
    p = GaussianMixture.isotropic([0.3, 0.7], [[-1.0], [1.0]], [0.5, 0.8])
    kernel, x = Laplace(0.5), p.sample(N, generator=generator(7)).double()
    nodes = torch.linspace(-8, 8, 1601, dtype=torch.float64)
    mass = p.log_prob(nodes[:, None]).exp()

    def truth(x):
        offset = x - nodes
        joint = mass * torch.exp(-offset.abs() / 0.5)
        return -(joint * offset.sign() / 0.5).sum(1, keepdim=True) / joint.sum(1, keepdim=True)

    x_noisy = kernel.sample(x, generator=generator(8))
    target = kernel.target_score(x_noisy, x)
    s, tilt = truth(x_noisy), torch.cos(x_noisy)
    low, high = (losses.esm(lambda x, t=t: s + t * tilt, x_noisy, target) for t in (-1.0, 1.0))
    slope = (high - low) / 2
    assert abs(slope.mean()) < 4.5 * standard_error(slope)


@pytest.mark.parametrize("tilt", [0.0, 1.0])
def test_esm_minus_ism_is_half_the_mean_square_of_the_true_score(tilt):
    """Whatever the model: the constant that integration by parts leaves behind."""
    s = lambda x: 0.5 * LOPSIDED.score(x) + tilt * swirl(x)  # noqa: E731
    truth = LOPSIDED.score(X)
    rest = losses.esm(s, X, truth) - losses.ism(s, X) - (truth**2).sum(1) / 2
    assert abs(rest.mean()) < 4.5 * standard_error(rest)


def test_dsm_minus_esm_of_the_noisy_data_is_the_same_for_every_model():
    epsilon = normals(N, 2, 1)
    x_noisy, p = X + SIGMA * epsilon, LOPSIDED.smoothed(SIGMA)
    of = lambda s: losses.dsm(s, X, epsilon, SIGMA) - losses.esm(s, x_noisy, p.score(x_noisy))  # noqa: E731
    rest = of(LOPSIDED.score) - of(swirl)
    assert abs(rest.mean()) < 4.5 * standard_error(rest)


# Gradients


def per_loss(make):
    """Every loss of the score make(θ), as functions of θ."""
    x, v = normals(), normals(seed=1)
    return {
        "esm": lambda theta: losses.esm(make(theta), x, -x),
        "ism": lambda theta: losses.ism(make(theta), x),
        "ssm": lambda theta: losses.ssm(make(theta), x, v),
        "ssm_vr": lambda theta: losses.ssm_vr(make(theta), x, v),
        "ssm_fd": lambda theta: losses.ssm_fd(make(theta), x, v, 0.1),
        "dsm": lambda theta: losses.dsm(make(theta), x, v, 0.3),
        "ncsn": lambda theta: losses.ncsn(lambda x, _: make(theta)(x), x, v, 0.3),
        "ddpm_simple": lambda theta: losses.ddpm_simple(
            lambda x, _: make(theta)(x), x, v, STEPS, BARS
        ),
    }


BENT = per_loss(lambda theta: lambda x: torch.sin(theta * (x @ A)) @ B)


@pytest.mark.parametrize("loss", BENT.values(), ids=BENT)
def test_gradients_reach_the_parameters_through_every_term(loss):
    theta, h = torch.tensor(0.4, dtype=torch.float64, requires_grad=True), 1e-5
    loss(theta).mean().backward()
    slope = (loss(0.4 + h).mean() - loss(0.4 - h).mean()) / (2 * h)
    assert theta.grad.item() == pytest.approx(float(slope), rel=1e-7)


def test_gradients_reach_the_points():
    x, h = normals(1), 1e-5
    slope = [
        (losses.ism(field, x + h * e) - losses.ism(field, x - h * e)) / (2 * h)
        for e in torch.eye(4).double()
    ]
    x.requires_grad_()
    losses.ism(field, x).sum().backward()
    torch.testing.assert_close(x.grad[0], torch.cat(slope), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("loss", BENT.values(), ids=BENT)
def test_without_gradients_the_values_are_the_same(loss):
    theta = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    with torch.no_grad():
        quiet = loss(theta)
    assert not quiet.requires_grad and torch.equal(quiet, loss(theta).detach())


def test_each_point_has_its_own_value():
    x, v = normals(), normals(seed=1)
    for loss in (
        lambda x, v: losses.esm(field, x, v),
        lambda x, v: losses.ism(field, x),
        lambda x, v: losses.ssm(field, x, v),
        lambda x, v: losses.ssm_vr(field, x, v),
        lambda x, v: losses.ssm_fd(field, x, v, 0.1),
        lambda x, v: losses.dsm(field, x, v, 0.3),
        lambda x, v: losses.ncsn(lambda x, _: field(x), x, v, 0.3),
        lambda x, v: losses.ddpm_simple(told_step, x, v, 7, BARS),
    ):
        alone = torch.cat([loss(x[n : n + 1], v[n : n + 1]) for n in range(7)])
        torch.testing.assert_close(loss(x, v), alone, **EXACT)
