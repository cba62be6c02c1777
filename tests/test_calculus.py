"""Derivatives against SymPy, finite differences and exact integrals."""

import pytest
import sympy
import torch
from hypothesis import given
from hypothesis import strategies as st

from sbm_lite.calculus import (
    divergence,
    jacobian,
    line_integral,
    score_of,
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
