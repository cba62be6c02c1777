"""Derivatives against SymPy, finite differences and exact integrals."""

import pytest
import sympy
import torch
from hypothesis import given
from hypothesis import strategies as st

from sbm_lite import calculus
from sbm_lite.calculus import (
    divergence,
    jacobian,
    line_integral,
    score_of,
    value_and_divergence,
    value_and_pull_back,
    value_and_quadratic_form,
)
from sbm_lite.densities import GaussianMixture, two_modes
from sbm_lite.runtime import generator


def field(x):
    """A field without symmetry: f = (x₁² x₂, sin x₂ + x₃, x₁ e^{x₃})."""
    a, b, c = x.unbind(1)
    return torch.stack([a**2 * b, torch.sin(b) + c, a * torch.exp(c)], dim=1)


def symbolic():
    """The same field and its variables in SymPy."""
    a, b, c = variables = sympy.symbols("a b c")
    return sympy.Matrix([a**2 * b, sympy.sin(b) + c, a * sympy.exp(c)]), variables


def points(n=20, d=3, seed=0):
    return torch.randn(n, d, generator=generator(seed), dtype=torch.float64)


def exact_jacobian(x):
    f, variables = symbolic()
    entries = sympy.lambdify(variables, f.jacobian(variables))
    return torch.stack([torch.as_tensor(entries(*row.tolist())).double() for row in x])


def test_jacobian_row_is_component_and_column_is_coordinate():
    torch.testing.assert_close(jacobian(field, points()), exact_jacobian(points()))


def test_divergence_is_the_trace():
    exact = exact_jacobian(points()).diagonal(dim1=1, dim2=2).sum(1)
    torch.testing.assert_close(divergence(field, points()), exact)


def test_quadratic_form_and_value():
    x, v = points(), points(seed=1)
    value, form = value_and_quadratic_form(field, x, v)
    exact = torch.einsum("ni,nij,nj->n", v, exact_jacobian(x), v)
    torch.testing.assert_close(form, exact)
    assert torch.equal(value, field(x))


@pytest.mark.parametrize(("n", "at_once"), [(1, 1_024), (10, 102), (1_024, 1), (5_000, 1)])
def test_backward_passes_come_in_batches_of_a_thousand_rows(n, at_once, monkeypatch):
    """More at once leave the processor's cache; one large batch of them is slower."""
    asked, batched = [], calculus.vmap
    spy = lambda f, chunk_size: asked.append(chunk_size) or batched(f, chunk_size=chunk_size)  # noqa: E731
    monkeypatch.setattr(calculus, "vmap", spy)
    assert divergence(lambda x: 3 * x, torch.zeros(n, 2)).tolist() == [6.0] * n
    assert asked == [at_once]


def test_value_and_divergence():
    value, trace = value_and_divergence(field, points())
    assert torch.equal(value, field(points()))
    torch.testing.assert_close(trace, exact_jacobian(points()).diagonal(dim1=1, dim2=2).sum(1))


@pytest.mark.parametrize("n", [1, 3])  # as many points as coordinates, and another number
def test_divergence_of_few_points(n):
    exact = exact_jacobian(points(n)).diagonal(dim1=1, dim2=2).sum(1)
    torch.testing.assert_close(divergence(field, points(n)), exact)


WAYS = {
    "value_and_divergence": value_and_divergence,
    "value_and_quadratic_form": lambda f, x: value_and_quadratic_form(f, x, points(len(x), seed=1)),
}
each_way = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)


@each_way
def test_one_forward_pass_is_enough(way):
    calls = []
    way(lambda x: calls.append(x.shape) or field(x), points())
    assert calls == [(20, 3)]


@each_way
def test_both_results_pass_gradients_to_parameters(way):
    """f = sin(θ x): every derivative in θ by finite differences."""
    theta, h = torch.tensor(0.7, dtype=torch.float64, requires_grad=True), 1e-5
    of = lambda theta: [y.sum() for y in way(lambda x: torch.sin(theta * x), points())]  # noqa: E731
    for k in (0, 1):
        (slope,) = torch.autograd.grad(of(theta)[k], theta)
        exact = (of(0.7 + h)[k] - of(0.7 - h)[k]) / (2 * h)
        assert slope.item() == pytest.approx(exact.item(), rel=1e-6)


@each_way
def test_both_results_pass_gradients_to_the_points(way):
    x, e, h = points().requires_grad_(), torch.zeros(20, 3).double(), 1e-5
    e[4, 1] = h
    for k in (0, 1):
        (slope,) = torch.autograd.grad(way(field, x)[k].sum(), x)
        exact = (way(field, points() + e)[k] - way(field, points() - e)[k]).sum() / (2 * h)
        assert slope[4, 1].item() == pytest.approx(exact.item(), rel=1e-6)


@each_way
def test_a_field_that_does_not_move_has_no_divergence(way):
    still = torch.arange(60.0).reshape(20, 3).double()
    value, slope = way(lambda x: still, points())
    assert torch.equal(value, still) and not slope.any()


@each_way
def test_without_gradients_the_numbers_are_the_same(way):
    net = torch.nn.Linear(3, 3).double()
    with torch.no_grad():
        quiet = way(net, points())
    for ours, loud in zip(quiet, way(net, points()), strict=True):
        assert not ours.requires_grad and loud.requires_grad and torch.equal(ours, loud)


def softplus_net(seed=0):
    """A small network, the same for the same seed."""
    layers = torch.nn.Linear(3, 5), torch.nn.Softplus(), torch.nn.Linear(5, 3)
    net = torch.nn.Sequential(*layers).double()
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(torch.randn(p.shape, generator=generator(seed)))
    return net


def derivatives(f, net, way, x):
    """Both results, and the gradients of the second in the weights and, where wanted, in x."""
    value, slope = way(f, x)
    towards = [*net.parameters(), *([x] if x.requires_grad else [])]
    gradients = torch.autograd.grad(slope.sin().sum(), towards, allow_unused=True)
    return [value, slope, *(g for g in gradients if g is not None)]


@each_way
@pytest.mark.parametrize("requires_grad", [False, True])
@pytest.mark.parametrize("non_leaf", [False, True])
def test_a_network_and_the_same_as_a_plain_function(way, requires_grad, non_leaf):
    """The first goes by autograd's tape and the second by torch.func."""
    net, x = softplus_net(), points().requires_grad_(requires_grad)
    x = 2 * x if non_leaf else x
    taped, functional = (derivatives(f, net, way, x) for f in (net, lambda x: net(x)))
    assert len(taped) == len(functional) >= 5  # the last bias moves no derivative
    for ours, exact in zip(taped, functional, strict=True):
        torch.testing.assert_close(ours, exact, rtol=1e-12, atol=1e-12)


@each_way
def test_a_network_inside_a_transform_of_torch_func(way):
    net, x = softplus_net(), points(4)
    for k in (0, 1):
        of = lambda f, k=k: lambda x: way(f, x)[k].sum()  # noqa: E731
        taped, functional = (torch.func.grad(of(f))(x) for f in (net, lambda x: net(x)))
        torch.testing.assert_close(taped, functional)


@each_way
def test_what_has_nothing_to_learn_has_no_graph(way):
    frozen = softplus_net().requires_grad_(False)
    for f in (field, frozen, two_modes_in_space().score):
        assert not any(y.requires_grad for y in way(f, points()))


def two_modes_in_space():
    return GaussianMixture.isotropic([0.2, 0.8], [[-1.0] * 3, [1.0] * 3], 1.0)


@each_way
@pytest.mark.parametrize("requires_grad", [False, True])
def test_training_leaves_no_trace_on_the_points(way, requires_grad):
    net, x = softplus_net(), points().requires_grad_(requires_grad)
    way(net, x)
    assert x.requires_grad == requires_grad and x.is_leaf
    assert x.grad is None and all(p.grad is None for p in net.parameters())


class Everywhere(torch.nn.Module):
    """The same learned vector at every point."""

    def __init__(self):
        super().__init__()
        self.b = torch.nn.Parameter(torch.ones(3, dtype=torch.float64))

    def forward(self, x):
        return self.b.expand_as(x)


@each_way
def test_a_network_that_does_not_look_at_the_points_has_no_divergence(way):
    value, slope = way(Everywhere(), points())
    assert value.requires_grad and not slope.any()


def test_points_beyond_one_batch_of_backward_passes():
    x = points(2500)
    parts = torch.cat([divergence(field, part) for part in x.split(100)])
    torch.testing.assert_close(divergence(field, x), parts, rtol=1e-12, atol=1e-12)
    x = points(400, 10)  # two at a time
    torch.testing.assert_close(divergence(torch.sin, x), x.cos().sum(1))
    assert torch.equal(jacobian(torch.sin, x), x.cos().diag_embed())


@pytest.mark.parametrize("f", [torch.nn.Linear(3, 2).double(), lambda x: x[:, :2] ** 2])
def test_pull_back_is_the_transposed_jacobian(f):
    x, v = points(4), points(4, 2, seed=1)
    value, pull_back = value_and_pull_back(f, x)
    exact = torch.stack([torch.autograd.functional.jacobian(f, row[None])[0, :, 0] for row in x])
    torch.testing.assert_close(value, f(x))
    torch.testing.assert_close(pull_back(v), torch.einsum("ni,nij->nj", v, exact))
    torch.testing.assert_close(pull_back(2 * v), 2 * pull_back(v))  # as often as one likes


@each_way
def test_a_score_made_by_autograd_can_be_the_field(way):
    """Second derivatives of a polynomial energy: s = −(4x₁³, 2x₂, 0)."""
    x = points()
    energy = lambda x: x[:, 0] ** 4 + x[:, 1] ** 2  # noqa: E731
    paper = lambda x: -torch.stack([4 * x[:, 0] ** 3, 2 * x[:, 1], 0 * x[:, 2]], 1)  # noqa: E731
    for ours, by_hand in zip(way(score_of(lambda x: -energy(x)), x), way(paper, x), strict=True):
        torch.testing.assert_close(ours, by_hand)


@given(seed=st.integers(0, 10**6), d=st.integers(1, 6))
def test_quadratic_forms_along_the_axes_add_up_to_the_divergence(seed, d):
    a, x = points(d, d, seed), points(4, d, seed + 1)
    f = lambda x: torch.tanh(x @ a)  # noqa: E731
    axes = torch.eye(d, dtype=torch.float64)
    forms = sum(value_and_quadratic_form(f, x, e.expand_as(x))[1] for e in axes)
    torch.testing.assert_close(forms, divergence(f, x))


def test_jacobian_of_a_linear_field_is_its_matrix():
    a = torch.tensor([[1.0, 2.0], [-3.0, 4.0]])
    assert torch.equal(jacobian(lambda x: x @ a.T, torch.ones(2, 2)), a.expand(2, 2, 2))


def test_score_of_a_polynomial():
    x = points(d=2)
    score = score_of(lambda x: -(x[:, 0] ** 4) + x[:, 0] * x[:, 1])
    exact = torch.stack([-4 * x[:, 0] ** 3 + x[:, 1], x[:, 0]], dim=1)
    torch.testing.assert_close(score(x), exact)


def test_score_can_be_differentiated_again():
    p, x = two_modes(), points(d=2)
    by_autograd = jacobian(score_of(p.log_prob), x)
    torch.testing.assert_close(by_autograd, jacobian(p.score, x))


def test_score_passes_gradients_to_parameters():
    scale = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    score = score_of(lambda x: -scale * x.square().sum(1))
    score(torch.ones(3, 2).double()).sum().backward()
    assert scale.grad.item() == -12.0


@pytest.mark.parametrize("via", [(0.0, 0.0), (4.0, -3.0)])
def test_line_integral_of_a_score_is_the_difference_of_log_p(via):
    slanted = [[[0.5, 0.2], [0.2, 0.4]], [[1.2, -0.3], [-0.3, 0.8]]]
    p = GaussianMixture([0.3, 0.7], [[-1.0, 0.0], [1.0, 0.5]], slanted)
    ends = torch.tensor([[-2.0, 1.0], via, [1.5, 0.5]]).double()
    t = torch.linspace(0, 1, 2001, dtype=torch.float64)[:, None]
    path = torch.cat([ends[0] + t * (ends[1] - ends[0]), ends[1] + t * (ends[2] - ends[1])])
    climb = p.log_prob(ends[2:]) - p.log_prob(ends[:1])
    assert abs(line_integral(p.score, path) - climb) < 1e-5


def test_line_integral_round_a_swirl_is_twice_the_area():
    angle = torch.linspace(0, 2 * torch.pi, 5001, dtype=torch.float64)
    ellipse = torch.stack([3 * angle.cos(), 2 * angle.sin()], 1)
    swirl = lambda x: torch.stack([-x[:, 1], x[:, 0]], 1)  # noqa: E731
    assert abs(line_integral(swirl, ellipse) - 2 * torch.pi * 6) < 1e-4
    assert abs(line_integral(swirl, ellipse.flip(0)) + 2 * torch.pi * 6) < 1e-4


def test_line_integral_is_exact_for_linear_fields_on_one_step():
    path = torch.tensor([[0.0, 0.0], [2.0, 1.0]])
    assert line_integral(lambda x: x, path) == 2.5  # half of |(2, 1)|²
