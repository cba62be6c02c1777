"""Derivatives of scalar and vector fields on batches of points.

Every function takes the field as a callable on the whole batch, (n, d) → (n,) or (n, d), in which
each point depends on itself alone, and leaves the caller's tensor untouched.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import grad, vjp, vmap

from sbm_lite import validation

Scalar = Callable[[Float[Tensor, "n d"]], Float[Tensor, " n"]]
Field = Callable[[Float[Tensor, "n d"]], Float[Tensor, "n d"]]


def score_of(log_prob: Scalar) -> Field:
    """The score s(x) = ∇ₓ log p(x) of a log density, by automatic differentiation.

    `log_prob` maps (n, d) to (n,) and need not be normalised: log Z is a constant in x.

    Book: eq-score. Reference: Hyvärinen (2005), JMLR 6.
    """
    return lambda x: grad(lambda y: log_prob(y).sum())(validation.points(x))


def jacobian(f: Field, x: Float[Tensor, "n d"]) -> Float[Tensor, "n d d"]:
    """The Jacobian ∂fᵢ/∂xⱼ at each point, as entry [n, i, j]; d backward passes in one batch."""
    validation.points(x)
    value, pull_back = vjp(f, x)
    validation.same_shape(value, x, "f(x) and x")
    basis = torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
    rows = vmap(lambda e: pull_back(e.expand_as(x))[0])(basis)
    return rows.movedim(0, 1)


def divergence(f: Field, x: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
    """The exact divergence tr ∇f = Σᵢ ∂fᵢ/∂xᵢ at each point; d backward passes in one batch."""
    return jacobian(f, x).diagonal(dim1=1, dim2=2).sum(-1)


def value_and_quadratic_form(
    f: Field, x: Float[Tensor, "n d"], v: Float[Tensor, "n d"]
) -> tuple[Float[Tensor, "n d"], Float[Tensor, " n"]]:
    """f(x) together with vᵀ(∇f)v at each point, in one forward and one backward pass.

    Reference: Pearlmutter (1994), Neural Computation 6; Song et al. (2019), UAI.
    """
    validation.points(x)
    validation.same_shape(v, x, "v and x")
    value, pull_back = vjp(f, x)
    return value, (v * pull_back(v)[0]).sum(-1)


def line_integral(f: Field, path: Float[Tensor, "t d"]) -> Float[Tensor, ""]:
    """The work ∫ f·dx along the polygon through `path`, by the trapezoidal rule.

    For a score it tends to log p(end) − log p(start), whatever the path between, as the steps
    become short beside the features of f; for a field with curl it depends on the path.

    Book: eq-line-integral.
    """
    validation.points(path, "path")
    value = f(path)
    return ((value[1:] + value[:-1]) / 2 * path.diff(dim=0)).sum()
