"""Chapter 5, sliced score matching: each test proves a claim by measuring it another way."""

import itertools

import numpy as np
import pytest
import scipy.stats
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from sbm_lite.densities import GaussianMixture
from sbm_lite.losses import (
    gaussian_slices,
    ism,
    slices,
    sphere_slices,
    ssm,
    ssm_fd,
    ssm_vr,
)
from sbm_lite.networks import ScoreMLP
from sbm_lite.runtime import generator

FORMS = [("SSM", ssm), ("SSM-VR", ssm_vr)]
LAWS = {"Rademacher": slices, "Gaussian": gaussian_slices, "sphere": sphere_slices}


def network(d, seed=0):
    """A small random network in float64; its Jacobian is not symmetric."""
    return ScoreMLP(d, 16, generator=generator(seed)).double()


def normals(n, d, seed):
    return torch.randn(n, d, generator=generator(seed), dtype=torch.float64)


def all_signs(d):
    return torch.tensor(list(itertools.product([-1.0, 1.0], repeat=d)), dtype=torch.float64)


def mean_over(loss, score, x, directions):
    """The mean of a loss over a finite list of slices, at each point."""
    total = sum(loss(score, x, v.expand_as(x)).detach() for v in directions)
    return total / len(directions)


def jacobian_by_differences(score, x, h=1e-5):
    """∂sᵢ/∂xⱼ as [n, i, j] by central differences, column by column."""
    columns = [
        (score(x + h * e) - score(x - h * e)).detach() / (2 * h)
        for e in torch.eye(x.shape[1]).double()
    ]
    return torch.stack(columns, 2)


def ism_by_differences(score, x):
    trace = jacobian_by_differences(score, x).diagonal(dim1=1, dim2=2).sum(1)
    return trace + score(x).detach().square().sum(1) / 2


def best_a(loss, x, v):
    """The loss of s = −a x is a parabola in a; its lowest point, from three of its values."""
    a = torch.tensor([-1.0, 0.5, 3.0]).double()
    y = [float(loss(lambda x, a=a: -a * x, x, v).mean()) for a in a]
    curvature, slope, _ = np.polyfit(a.numpy(), y, 2)
    return -slope / (2 * curvature)


def plane_with_covariance(c1, c2):
    """Four points of mean 0 and covariance diag(c₁, c₂), all that s = −a x can see."""
    return all_signs(2) * torch.tensor([c1, c2]).double().sqrt()


@pytest.mark.claim("C5.01")
@pytest.mark.claim("C5.02")
@pytest.mark.parametrize(("name", "loss"), FORMS)
def test_averaged_over_all_signs_it_is_ism(name, loss, check):
    net, x = network(8), normals(5, 8, 1)
    sliced = mean_over(loss, net, x, all_signs(8))
    gap = (sliced - ism(net, x).detach()).abs().max()
    check(f"{name} over 256 sign vectors − ISM", expected=0, measured=gap, within=1e-10)
    gap = (sliced - ism_by_differences(net, x)).abs().max()
    check(f"{name} − ISM by finite differences", expected=0, measured=gap, within=1e-7)


@pytest.mark.claim("C5.01")
@pytest.mark.claim("C5.02")
@pytest.mark.parametrize(("name", "loss"), FORMS)
@pytest.mark.parametrize("d", [2, 8])
@pytest.mark.parametrize("law", LAWS)
def test_the_optimum_and_the_value_on_a_gaussian(name, loss, d, law, check):
    """p = N(0, I): best a = 1, and there the mean loss is −d/2."""
    n = 200_000
    x = normals(n, d, 2)
    v = LAWS[law](x, generator=generator(3))
    a = best_a(loss, x, v)
    error = 4.5 * ((2 + 8 / d) / n) ** 0.5
    check(f"best a, {name}, {law}, d = {d}", expected=1, measured=a, within=error)
    value = loss(lambda x: -x, x, v)
    error = 4.5 * value.std() / n**0.5
    check("mean loss at a = 1", expected=-d / 2, measured=value.mean(), within=error)


@pytest.mark.claim("C5.03")
@pytest.mark.parametrize("name", ["Rademacher", "coordinate directions", "tight frame"])
def test_any_law_with_the_right_second_moment(name, check):
    """Finite laws, summed exactly; the second has mean (1, 1, …)/√d, the third is no symmetry."""
    d, a = 4, normals(4, 4, 4)
    frame = torch.linalg.qr(normals(9, d, 5))[0] * 3  # 9 rows with VᵀV = 9 I
    v = {"Rademacher": all_signs(d), "coordinate directions": 2 * torch.eye(4).double(),
         "tight frame": frame}[name]  # fmt: skip
    assert torch.allclose(v.T @ v / len(v), torch.eye(d).double())
    assert (name == "Rademacher") == bool(v.mean(0).abs().max() < 1e-12)
    mean = float(sum(u @ a @ u for u in v) / len(v))
    check(f"mean of vᵀAv, {name}", expected=a.trace(), measured=mean, within=1e-12)


@pytest.mark.claim("C5.03")
def test_with_another_second_moment_it_is_another_trace(check):
    a, scale = normals(4, 4, 4), torch.tensor([1.0, 2.0, 3.0, 4.0]).double()
    mean = sum((scale * u) @ a @ (scale * u) for u in all_signs(4)) / 16
    weighted = (a.diagonal() * scale**2).sum()
    check("mean of vᵀAv, E vvᵀ = W: tr WA", expected=weighted, measured=mean, within=1e-12)
    assert abs(mean - a.trace()) > 0.5


@pytest.mark.claim("C5.03")
@pytest.mark.parametrize("law", LAWS)
def test_the_slices_that_the_package_draws(law, check):
    """Through the package: SSM-VR of the linear field s = Ax at x = 0 is vᵀAv."""
    n, a = 400_000, normals(4, 4, 4)
    x = torch.zeros(n, 4).double()
    looks = ssm_vr(lambda x: x @ a.T, x, LAWS[law](x, generator=generator(6)))
    error = 4.5 * looks.std() / n**0.5
    check(f"mean of vᵀAv, {law}", expected=a.trace(), measured=looks.mean(), within=error)


@pytest.mark.claim("C5.04")
def test_the_slice_is_the_gradient_of_the_projection_along_v(check):
    """∇ₓ(vᵀs), by finite differences of the number vᵀs, dotted with v; against the package."""
    net, x, v = network(5), normals(20, 5, 7), normals(20, 5, 8)

    def along(y):
        return (v * net(y)).sum(1).detach()

    h, basis = 1e-5, torch.eye(5).double()
    gradient = torch.stack([(along(x + h * e) - along(x - h * e)) / (2 * h) for e in basis], 1)
    sliced = (ssm(net, x, v) - along(x) ** 2 / 2).detach()
    gap = (sliced - (gradient * v).sum(1)).abs().max()
    check("∇(vᵀs)·v − the slice", expected=0, measured=gap, within=1e-8)
    quadratic = torch.einsum("ni,nij,nj->n", v, jacobian_by_differences(net, x), v)
    gap = (sliced - quadratic).abs().max()
    check("vᵀ(∇s)v − the slice", expected=0, measured=gap, within=1e-8)


@pytest.mark.claim("C5.04")
def test_v_must_not_depend_on_x(check):
    """v = x, s = −x: the identity with v constant gives −‖x‖², differentiating v as well −2‖x‖²."""
    x = torch.tensor([[1.0, 2.0]]).double()
    kept = ssm_vr(lambda x: -x, x, x) - x.square().sum(1) / 2
    check("v held constant", expected=-5, measured=kept, within=1e-12)
    y = x.clone().requires_grad_()
    moving = (torch.autograd.grad((y * -y).sum(), y)[0] * x).sum()
    check("v differentiated too", expected=-10, measured=moving, within=1e-12)


class Meter(torch.autograd.Function):
    """The identity, which counts the backward passes through it, one by one in a batch of them."""

    passes = 0

    @staticmethod
    def forward(x):
        return x.clone()

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def backward(ctx, gradient):
        return MeterBack.apply(gradient)


class MeterBack(torch.autograd.Function):
    @staticmethod
    def forward(gradient):
        Meter.passes += 1
        return gradient.clone()

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def backward(ctx, gradient):
        return gradient

    @staticmethod
    def vmap(info, in_dims, gradient):
        Meter.passes += info.batch_size
        return gradient, in_dims[0]


def passes(loss, d):
    """Backward passes through a network in one evaluation of a loss."""
    net, x = network(d), normals(3, d, 9)
    Meter.passes = 0
    loss(lambda x: Meter.apply(net(x)), x)
    return Meter.passes


@pytest.mark.claim("C5.05")
@pytest.mark.parametrize(("name", "loss"), FORMS)
@pytest.mark.parametrize("d", [1, 10, 784])
def test_one_slice_costs_one_backward_pass(name, loss, d, check):
    count = passes(lambda s, x: loss(s, x, normals(3, d, 10)), d)
    check(f"backward passes of {name}, d = {d}", expected=1, measured=count)


@pytest.mark.claim("C5.06")
@pytest.mark.parametrize("d", [1, 10, 100, 784])
def test_the_exact_trace_costs_d_of_them(d, check):
    check(f"backward passes of ISM, d = {d}", expected=d, measured=passes(ism, d))


@pytest.mark.claim("C5.07")
@pytest.mark.parametrize(("stretch", "expected"), [((1, 1), 2 / 5), ((1, 3), 10 / 37)])
def test_the_ruler_moves_the_optimum_of_a_model_that_cannot_be_exact(stretch, expected, check):
    """Covariance diag(1, 4), s = −a x, E vvᵀ = diag(1, 1) or diag(1, 9), all sums exact."""
    points = plane_with_covariance(1, 4)
    x, v = points.repeat_interleave(4, 0), all_signs(2).repeat(4, 1)
    a = best_a(ssm, x, v * torch.tensor(stretch).double())
    assert abs(expected - (0.4 if stretch == (1, 1) else 0.2703)) < 5e-5
    check(f"best a, v stretched by {stretch}", expected=expected, measured=a, within=1e-9)


@pytest.mark.claim("C5.07")
def test_any_ruler_finds_a_model_that_can_be_exact(check):
    """s = −(a₁x₁, a₂x₂) on covariance diag(1, 4), stretched slices: still a = (1, ¼)."""
    points = plane_with_covariance(1, 4)
    x, v = points.repeat_interleave(4, 0), all_signs(2).repeat(4, 1)
    stretch, a = torch.tensor([1.0, 3.0]).double(), torch.zeros(2).double().requires_grad_()
    value = ssm(lambda x: -a * x, x, v * stretch).mean()
    (slope,) = torch.autograd.grad(value, a, create_graph=True)
    curvature = torch.stack([torch.autograd.grad(g, a, retain_graph=True)[0] for g in slope])
    a1, a2 = -torch.linalg.solve(curvature, slope.detach())  # a parabola: one step is enough
    check("a₁ with W = diag(1, 9)", expected=1, measured=a1, within=1e-9)
    check("a₂ with W = diag(1, 9)", expected=0.25, measured=a2, within=1e-9)


@pytest.mark.claim("C5.07")
def test_scaled_slices_scale_the_loss(check):
    net, x = network(6), normals(4, 6, 11)
    scaled = mean_over(ssm, net, x, 1.7 * all_signs(6))
    gap = (scaled - 1.7**2 * ism_by_differences(net, x)).abs().max()
    check("SSM − c ISM for E vvᵀ = c I", expected=0, measured=gap, within=1e-6)


@pytest.mark.claim("C5.07")
def test_the_weighted_loss_is_a_weighted_fisher_divergence(check):
    """On N(0, 1) × N(0, 1) by quadrature: J_W − ½E (s − s*)ᵀW(s − s*) is one constant, −½ tr W."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    x = torch.tensor(list(itertools.product(nodes, nodes))).double()
    p = torch.tensor(np.outer(weights, weights).ravel() / weights.sum() ** 2)
    stretch = torch.tensor([1.0, 3.0]).double()
    for k in (1.0, 2.5):

        def s(x, k=k):
            return torch.stack([torch.sin(k * x[:, 1]) - x[:, 0], torch.tanh(x[:, 0])], 1)

        loss = (p * mean_over(ssm, s, x, stretch * all_signs(2))).sum()
        fisher = (p * (stretch * (s(x) + x)).square().sum(1)).sum() / 2
        check(f"J_W − weighted Fisher divergence, k = {k}", expected=-5,
              measured=loss - fisher, within=1e-6)  # fmt: skip


@pytest.mark.claim("C5.08")
@pytest.mark.parametrize(("name", "loss"), FORMS)
def test_the_pipeline_can_be_trained_through(name, loss, check):
    """s = −a x: dSSM/da = −‖v‖² + a (vᵀx)², for SSM-VR with a ‖x‖² at the end."""
    a = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    x, v = normals(50, 3, 12), normals(50, 3, 13)
    loss(lambda x: -a * x, x, v).sum().backward()
    square = (v * x).sum(1) ** 2 if name == "SSM" else x.square().sum(1)
    expected = (-v.square().sum(1) + 0.7 * square).sum()
    check(f"gradient of {name} in a", expected=expected, measured=a.grad, within=1e-10)


@pytest.mark.claim("C5.09")
@pytest.mark.parametrize("m", [1, 4])
def test_what_slices_add_to_the_noise_of_the_data(m, check):
    """s = −x on N(0, I₁₀), Gaussian v, SSM-VR: variance d/2 of the data, 2d/m of m slices."""
    n, d = 200_000, 10
    x, v = normals(n, d, 14), normals(m * n, d, 15).reshape(m, n, d)
    loss = sum(ssm_vr(lambda x: -x, x, u) for u in v) / m
    squares = (loss + d / 2) ** 2
    error = 4.5 * squares.std() / n**0.5
    exact = d / 2 + 2 * d / m
    check(f"variance with {m} slices", expected=exact, measured=squares.mean(), within=error)


@pytest.mark.claim("C5.09")
@pytest.mark.parametrize("d", [2, 50, 1000])
def test_the_relative_error_of_one_slice_falls_like_one_over_root_d(d, check):
    """s = −x at x = 0: the slice is −‖v‖², minus a χ² variable with d degrees of freedom."""
    n, x = 10_000, torch.zeros(10_000, d).double()
    looks = ssm_vr(lambda x: -x, x, gaussian_slices(x, generator=generator(16)))
    exact = scipy.stats.chi2(d).std() / d
    within = 4.5 * exact * ((2 + 12 / d) / 4 / n) ** 0.5  # kurtosis
    check(f"relative error, d = {d}", expected=exact, measured=looks.std() / d, within=within)
    assert exact == pytest.approx((2 / d) ** 0.5)


@pytest.mark.claim("C5.09")
@pytest.mark.parametrize("d", [2, 500])
def test_where_one_direction_dominates_it_does_not_fall(d, check):
    """s = −Σx (1, …, 1), a rank-one Jacobian of trace −d: the slice is −(Σv)², minus d χ²₁."""
    n, x = 20_000, torch.zeros(20_000, d).double()
    v = gaussian_slices(x, generator=generator(39))
    looks = ssm_vr(lambda x: -x.sum(1, keepdim=True).expand_as(x), x, v)
    squares = (looks / d + 1) ** 2
    error = 4.5 * squares.std() / n**0.5
    check(f"squared relative error, rank one, d = {d}", expected=scipy.stats.chi2(1).var(),
          measured=squares.mean(), within=error)  # fmt: skip


@pytest.mark.claim("C5.09")
@pytest.mark.parametrize("d", [10, 400])
@pytest.mark.parametrize("law", ["Rademacher", "Gaussian"])
def test_the_plain_loss_is_off_by_root_two_of_its_size(law, d, check):
    """s = −x on N(0, I), two slices at each point: √(E Var_v) beside a loss of size d/2."""
    n, x = 10_000, normals(10_000, d, 40)
    first, second = (ssm(lambda x: -x, x, LAWS[law](x, generator=generator(k))) for k in (41, 42))
    squares = (first - second) ** 2 / 2 / (d / 2) ** 2
    error = 4.5 * squares.std() / n**0.5
    exact = {"Gaussian": (d**2 + 2 * d) / 2, "Rademacher": d * (d - 1) / 2}[law] / (d / 2) ** 2
    assert abs(exact - 2) <= 4 / d  # so √2, in the limit
    check(f"squared relative error, {law}, d = {d}", expected=exact, measured=squares.mean(),
          within=error)  # fmt: skip


@pytest.mark.claim("C5.12")
@pytest.mark.parametrize("d", [1, 2, 3, 10])
@pytest.mark.parametrize(("name", "loss"), FORMS)
def test_variance_of_both_forms_on_a_gaussian(name, loss, d, check):
    """Two independent slices at each x: half the squared difference is E Var_v on average."""
    n, x = 400_000, normals(400_000, d, 17)
    first, second = (loss(lambda x: -x, x, normals(n, d, seed)) for seed in (18, 19))
    squares = (first - second) ** 2 / 2
    exact = (d * d + 2 * d) / 2 if name == "SSM" else 2 * d
    error = 4.5 * squares.std() / n**0.5
    check(f"{name}, d = {d}", expected=exact, measured=squares.mean(), within=error)


@pytest.mark.claim("C5.12")
def test_in_one_dimension_the_reduced_form_is_the_noisier(check):
    """Gauss–Hermite over x and v, exact for polynomials up to degree 23."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(12)
    grid = torch.tensor(list(itertools.product(nodes, nodes)))
    w = torch.tensor(np.outer(weights, weights).ravel() / weights.sum() ** 2)
    x, v = grid[:, :1], grid[:, 1:]

    def spread(loss):
        return (w * (loss(lambda x: -x, x, v) - (x[:, 0] ** 2 / 2 - 1)) ** 2).sum()

    check("SSM, d = 1", expected=1.5, measured=spread(ssm), within=1e-9)
    check("SSM-VR, d = 1", expected=2, measured=spread(ssm_vr), within=1e-9)


@pytest.mark.claim("C5.12")
@pytest.mark.parametrize("d", [2, 6])
def test_with_signs_the_reduced_form_has_no_variance_there(d, check):
    n, x = 200_000, normals(200_000, d, 20)
    v, w = 2 * torch.randint(2, (2, n, d), generator=generator(21)).double() - 1
    gap = (ssm_vr(lambda x: -x, x, v) - ssm_vr(lambda x: -x, x, w)).abs().max()
    check(f"SSM-VR with two sign vectors, d = {d}", expected=0, measured=gap, within=1e-9)
    squares = (ssm(lambda x: -x, x, v) - ssm(lambda x: -x, x, w)) ** 2 / 2
    error = 4.5 * squares.std() / n**0.5
    exact = d * (d - 1) / 2
    check(f"SSM, signs, d = {d}", expected=exact, measured=squares.mean(), within=error)


@pytest.mark.claim("C5.13")
@pytest.mark.parametrize(("name", "loss"), FORMS)
@pytest.mark.parametrize("d", [2, 8])
def test_slices_of_length_one(name, loss, d, check):
    """±eᵢ are 2d directions of length 1 with E vvᵀ = I/d; the covariance of x is exact too."""
    x = all_signs(d)  # mean 0 and covariance I
    units = torch.cat([torch.eye(d), -torch.eye(d)]).double()
    a = best_a(lambda score, x, v: mean_over(loss, score, x, v), x, units)
    expected = 1 if name == "SSM" else 1 / d
    check(f"best a, {name}, d = {d}", expected=expected, measured=a, within=1e-9)


@pytest.mark.claim("C5.13")
def test_unit_slices_give_ism_over_d_in_the_plain_form(check):
    net, x, d = network(6), normals(4, 6, 21), 6
    turned = torch.linalg.qr(normals(d, d, 22))[0]  # d unit directions at right angles
    gap = (mean_over(ssm, net, x, turned) - ism_by_differences(net, x) / d).abs().max()
    check("SSM − ISM/d", expected=0, measured=gap, within=1e-7)


@pytest.mark.claim("C5.13")
def test_random_unit_slices_learn_a_score_d_times_too_short(check):
    n, d = 400_000, 8
    x = normals(n, d, 23)
    v = torch.nn.functional.normalize(normals(n, d, 24), dim=1)
    error = 4.5 * (1 / d) * ((2 / d + 2 / d) / n) ** 0.5
    check("best a, SSM-VR, d = 8", expected=1 / d, measured=best_a(ssm_vr, x, v), within=error)


@pytest.mark.claim("C5.14")
@pytest.mark.parametrize("form", ["SSM", "SSM-VR"])
def test_variance_with_signs_by_enumeration(form, check):
    d, a, x = 5, normals(5, 5, 25), normals(1, 5, 26)
    loss = dict(FORMS)[form]
    values = torch.cat([loss(lambda x: x @ a.T, x, v[None]) for v in all_signs(d)])
    s = x @ a.T
    m = (a + a.T) / 2 + (s.T @ s / 2 if form == "SSM" else 0)
    exact = 2 * sum(m[i, j] ** 2 for i in range(d) for j in range(d) if i != j)
    variance = values.var(correction=0)
    check(f"Var {form}, 32 sign vectors", expected=exact, measured=variance, within=1e-9)


@pytest.mark.claim("C5.14")
@pytest.mark.parametrize("form", ["SSM", "SSM-VR"])
def test_variance_with_gaussians_by_quadrature(form, check):
    """Gauss–Hermite in three dimensions: exact for polynomials of degree four."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(5)
    v = torch.tensor(list(itertools.product(nodes, repeat=3)))
    w = torch.tensor([np.prod(t) for t in itertools.product(weights / weights.sum(), repeat=3)])
    a, x = normals(3, 3, 27), normals(1, 3, 28)
    values = dict(FORMS)[form](lambda x: x @ a.T, x.expand(len(v), 3), v)
    variance = (w * values**2).sum() - (w * values).sum() ** 2
    s = x @ a.T
    m = (a + a.T) / 2 + (s.T @ s / 2 if form == "SSM" else 0)
    exact = 2 * (torch.linalg.eigvalsh(m) ** 2).sum()
    check(f"Var {form}, Gaussian", expected=exact, measured=variance, within=1e-9)


@pytest.mark.claim("C5.14")
def test_variance_on_the_sphere_by_quadrature(check):
    """d = 3: v = √3 (sin θ cos φ, sin θ sin φ, cos θ), integrated over θ and φ."""
    a = normals(3, 3, 29)
    cosine, weights = np.polynomial.legendre.leggauss(8)
    angle = np.arange(16) * 2 * np.pi / 16  # the trapezoidal rule, exact up to degree 15
    v = torch.tensor([
        [np.sqrt(1 - c * c) * np.cos(f), np.sqrt(1 - c * c) * np.sin(f), c]
        for c in cosine for f in angle
    ]) * 3**0.5  # fmt: skip
    w = torch.tensor(np.repeat(weights / 2, 16) / 16)
    looks = ssm_vr(lambda x: x @ a.T, torch.zeros_like(v), v)
    mean = (w * looks).sum()
    variance = (w * looks**2).sum() - mean**2
    m = (a + a.T) / 2
    exact = 2 / 5 * (3 * m.square().sum() - m.trace() ** 2)
    check("mean, sphere of radius √3", expected=a.trace(), measured=mean, within=1e-10)
    check("variance, sphere of radius √3", expected=exact, measured=variance, within=1e-10)


@pytest.mark.claim("C5.14")
@pytest.mark.parametrize(("law", "exact"), [("Gaussian", 76), ("Rademacher", 56), ("sphere", 39.2)])
def test_variance_of_the_slices_that_the_package_draws(law, exact, check):
    """M has 1, 0, 3 on the diagonal and 3, 1, −2 beside it: trace 4, ‖M‖² = 38."""
    n, a = 400_000, torch.tensor([[1.0, 4.0, 2.0], [2.0, 0.0, -4.0], [0.0, 0.0, 3.0]]).double()
    x = torch.zeros(n, 3).double()
    looks = ssm_vr(lambda x: x @ a.T, x, LAWS[law](x, generator=generator(30)))
    squares = (looks - 4) ** 2
    error = 4.5 * squares.std() / n**0.5
    check(f"variance, {law}", expected=exact, measured=squares.mean(), within=error)


@pytest.mark.claim("C5.14")
def test_between_signs_and_normals(check):
    """Three-valued coordinates with E v² = 1 and fourth moment κ = 2: between signs and normals."""
    values, chances = [-(2**0.5), 0.0, 2**0.5], [0.25, 0.5, 0.25]
    a = normals(3, 3, 31)
    m = (a + a.T) / 2
    v = torch.tensor(list(itertools.product(values, repeat=3)), dtype=torch.float64)
    w = torch.tensor([np.prod(t) for t in itertools.product(chances, repeat=3)])
    looks = ssm_vr(lambda x: x @ a.T, torch.zeros_like(v), v)
    variance = (w * looks**2).sum() - (w * looks).sum() ** 2
    exact = 2 * m.square().sum() + (2 - 3) * m.diagonal().square().sum()
    check("variance for κ = 2", expected=exact, measured=variance, within=1e-10)


@pytest.mark.claim("C5.14")
@pytest.mark.parametrize(("first", "exact"), [("of one law", 2.0), ("always 1", 0.0)])
def test_signs_are_the_best_of_independent_coordinates_of_mean_zero(first, exact, check):
    """M = ((0, ½), (½, 1)), signs and then a law of mean 0, variance 1, third moment −1, κ = 2.

    If the first coordinate is always 1, E vvᵀ is I as before, and no variance is left: the mean
    must be 0 for signs to be the best.
    """
    a = torch.tensor([[0.0, 0.5], [0.5, 1.0]]).double()

    def looks(v):
        return ssm_vr(lambda x: x @ a.T, torch.zeros_like(v), v)

    signs = looks(all_signs(2)).var(correction=0)
    check("variance with signs, 4 M₁₂²", expected=1, measured=signs, within=1e-12)
    high = (5**0.5 - 1) / 2
    law = [(high, 1 / (1 + high**2)), (-1 / high, high**2 / (1 + high**2))]
    both = itertools.product(law if first == "of one law" else [(1.0, 1.0)], law)
    x, y, w = torch.tensor(np.array([(x, y, p * q) for (x, p), (y, q) in both])).unbind(1)
    v = torch.stack([x, y], 1)
    assert torch.allclose(v.T @ (w[:, None] * v), torch.eye(2).double())
    mean, square = (w @ looks(v) ** k for k in (1, 2))
    check(f"skewed coordinates, the first {first}", expected=exact, measured=square - mean**2,
          within=1e-12)  # fmt: skip


MIXTURE = GaussianMixture.isotropic([0.3, 0.7], [[-1.0, -1.0], [1.0, 1.0]], 1.0)


@pytest.mark.claim("C5.15")
def test_the_error_of_central_differences_falls_like_h_squared(check):
    x, v = normals(200, 2, 32), normals(200, 2, 33)
    exact = ssm_vr(MIXTURE.score, x, v)
    wide, narrow = ((ssm_fd(MIXTURE.score, x, v, h) - exact).norm() for h in (0.02, 0.01))
    check("error at h = 0.02 over that at 0.01", expected=4, measured=wide / narrow, within=0.02)


@pytest.mark.claim("C5.15")
def test_the_coefficient_is_a_sixth_of_the_third_derivative(check):
    """s = sin(x), d = 1: (v/2h)(sin(x + hv) − sin(x − hv)) = v cos x sin(hv)/h."""
    x, v, h = torch.tensor([[0.3]]).double(), torch.tensor([[1.5]]).double(), 0.01
    error = ssm_fd(torch.sin, x, v, h) - ssm_vr(torch.sin, x, v)
    leading = -(h**2) / 6 * v**4 * torch.cos(x)
    ratio = error / leading[0]
    check("error / (h²/6 · v s'''v³)", expected=1, measured=ratio, within=1e-3)


@pytest.mark.claim("C5.15")
def test_a_linear_score_has_no_error_at_any_step(check):
    a, x, v = normals(4, 4, 34), normals(50, 4, 35), normals(50, 4, 36)
    gap = (ssm_fd(lambda x: x @ a.T, x, v, 3.0) - ssm_vr(lambda x: x @ a.T, x, v)).abs().max()
    check("h = 3, linear score", expected=0, measured=gap, within=1e-12)


@pytest.mark.claim("C5.15")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rounding_grows_like_one_over_h(dtype, check):
    """Far below the best step, ten times smaller steps are ten times worse (within a factor 2)."""
    x, v = normals(2000, 2, 37), normals(2000, 2, 38)
    exact, h = ssm_vr(MIXTURE.score, x, v), torch.finfo(dtype).eps ** (2 / 3)
    fields = MIXTURE.score, x.to(dtype), v.to(dtype)
    coarse, fine = ((ssm_fd(*fields, step) - exact).abs().mean() for step in (h, h / 10))
    decades = float(torch.log10(fine / coarse))
    check(f"{dtype}: decades of error per decade of step".replace("torch.", ""),
          expected=1, measured=decades, within=0.3)  # fmt: skip


@pytest.mark.claim("C5.16")
@pytest.mark.parametrize("d", [2, 7, 40])
def test_the_folded_sum_is_the_trace(d, check):
    """Entry by entry as the sum is written, beside finite differences and the package."""
    net, x = network(d, 40), normals(1, d, 41)
    w1, w2, w3 = (net.body[k].weight.detach() for k in (0, 2, 4))
    a1 = net.body[0](x).detach()[0]
    a2 = net.body[2](torch.log1p(a1.exp())[None]).detach()[0]
    d1, d2, front = 1 / (1 + (-a1).exp()), 1 / (1 + (-a2).exp()), w1 @ w3
    pairs = itertools.product(range(16), repeat=2)
    total = sum(d2[i] * w2[i, j] * d1[j] * front[j, i] for i, j in pairs)
    by_differences = ism_by_differences(net, x) - net(x).detach().square().sum(1) / 2
    check(f"d = {d}", expected=by_differences, measured=total, within=1e-7)
    package = ism(net, x).detach() - net(x).detach().square().sum(1) / 2
    assert abs(float(package) - float(total)) < 1e-12


class Counter(TorchDispatchMode):
    """Adds up the additions and multiplications of all matrix products that run under it."""

    total = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        result = operation(*args, **(kwargs or {}))
        if operation._overloadpacket in flop_registry:
            self.total += flop_registry[operation._overloadpacket](*args, out_val=result)
        return result


def operations(loss, d, depth):
    """Of the matrix products in one training step of a network of that depth."""
    net = ScoreMLP(d, 16, depth, generator=generator(0))
    x = torch.randn(8, d, generator=generator(1))
    with Counter() as counter:
        loss(net, x).mean().backward()
    return counter.total


@pytest.mark.claim("C5.16")
def test_the_cost_of_the_fold_grows_like_that_of_a_slice(check):
    sliced = lambda net, x: ssm(net, x, x)  # noqa: E731
    powers = {
        "folded trace": (ism, 2, 1),
        "slice": (sliced, 2, 1),
        "trace by passes": (lambda net, x: ism(net.body, x), 2, 2),
        "trace, three hidden layers": (ism, 3, 2),
    }
    for name, (loss, depth, power) in powers.items():
        growth = np.log2(operations(loss, 1600, depth) / operations(loss, 800, depth))
        check(f"{name}: power of d", expected=power, measured=growth, within=0.05)
    share = operations(ism, 800, 2) / operations(sliced, 800, 2)
    check("operations of a folded trace / of a slice", expected=1, measured=share, within=0.02)
