"""Derivatives of scalar and vector fields on batches of points.

Every function takes the field as a callable on the whole batch, (n, d) → (n,) or (n, d), in which
each point depends on itself alone, and leaves the caller's tensor untouched.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import grad, vjp, vmap

from sbm_lite import validation

Scalar = Callable[[Float[Tensor, "n d"]], Float[Tensor, " n"]]
Field = Callable[[Float[Tensor, "n d"]], Float[Tensor, "n d"]]

ROWS_AT_ONCE = 1024  # of a batch of backward passes on a CPU: more of them leave its cache


def score_of(log_prob: Scalar) -> Field:
    """The score s(x) = ∇ₓ log p(x) of a log density, by automatic differentiation.

    `log_prob` maps (n, d) to (n,) and need not be normalised: log Z is a constant in x. The score
    raises ValueError where it is not finite, as it is where x or its density overflows.

    Book: eq-score. Reference: Hyvärinen (2005), JMLR 6.
    """
    validation.function(log_prob, "log_prob")
    total = lambda x: validation.per_point(log_prob(x), x, "log_prob(x)").sum()  # noqa: E731
    return lambda x: validation.finite_score(grad(total)(validation.rows(x)), x)


def value_and_pull_back(
    f: Callable[[Float[Tensor, "n d"]], Float[Tensor, "n ..."]], x: Float[Tensor, "n d"]
) -> tuple[Float[Tensor, "n ..."], Callable[[Tensor], Float[Tensor, "n d"]]]:
    """f(x) and the map v ↦ vᵀ∇f at each point, one backward pass a call; v is shaped like f(x).

    This is `torch.func.vjp`, except for a network in training: autograd's own tape is set up
    sooner, which tells in small networks (see benchmarks/losses.py).
    """
    leaf = _leaf(validation.function(f, "f"), validation.rows(x))
    if leaf is None:
        value, pull_back = vjp(lambda y: validation.tensor(f(y), "f(x)"), x)
        return value, lambda v: pull_back(v)[0]
    value = f(leaf)
    options = dict(create_graph=True, materialize_grads=True)
    return value, lambda v: torch.autograd.grad(value, leaf, v, **options)[0]


def jacobian(f: Field, x: Float[Tensor, "n d"]) -> Float[Tensor, "n d d"]:
    """The Jacobian ∂fᵢ/∂xⱼ at each point, as entry [n, i, j]; d backward passes in batches."""
    value, rows = _value_and_rows(f, x, lambda row, e: row)
    return rows.movedim(0, 1)


def divergence(f: Field, x: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
    """The exact divergence tr ∇f = Σᵢ ∂fᵢ/∂xᵢ at each point; d backward passes in batches."""
    return value_and_divergence(f, x)[1]


def value_and_divergence(
    f: Field, x: Float[Tensor, "n d"]
) -> tuple[Float[Tensor, "n d"], Float[Tensor, " n"]]:
    """f(x) together with tr ∇f at each point, in one forward and d backward passes.

    Backward passes in batches were faster than a loop of them, one large batch, or forward mode
    at d = 2, 10 and 50: see benchmarks/losses.py. An f that knows its own trace, as `ScoreMLP`
    does, is asked for it by the method of this name.
    """
    if hasattr(f, "value_and_divergence"):
        return f.value_and_divergence(validation.points(x))
    value, diagonal = _value_and_rows(f, x, lambda row, e: (row * e).sum(-1))
    return value, diagonal.sum(0)


def value_and_quadratic_form(
    f: Field, x: Float[Tensor, "n d"], v: Float[Tensor, "n d"]
) -> tuple[Float[Tensor, "n d"], Float[Tensor, " n"]]:
    """f(x) together with vᵀ(∇f)v at each point, in one forward and one backward pass.

    Reference: Pearlmutter (1994), Neural Computation 6; Song et al. (2019), UAI.
    """
    validation.same_shape(validation.points(v, "v"), validation.points(x), "v and x")
    value, pull_back = value_and_pull_back(f, x)
    validation.same_shape(value, x, "f(x) and x")
    return value, (v * pull_back(v)).sum(-1)


def line_integral(f: Field, path: Float[Tensor, "t d"]) -> Float[Tensor, ""]:
    """The work ∫ f·dx along the polygon through `path`, by the trapezoidal rule.

    For a score it tends to log p(end) − log p(start), whatever the path between, as the steps
    become short beside the features of f; for a field with curl it depends on the path.

    Book: eq-line-integral.
    """
    value = validation.function(f, "f")(validation.points(path, "path"))
    validation.same_shape(value, path, "f(path) and path")
    return ((value[1:] + value[:-1]) / 2 * path.diff(dim=0)).sum()


def _value_and_rows(f: Field, x: Float[Tensor, "n d"], keep: Callable):
    """f(x), and for each i what `keep` makes of the i-th rows of the Jacobians and eᵢ."""
    value, pull_back = value_and_pull_back(f, validation.points(x))
    validation.same_shape(value, x, "f(x) and x")
    basis = torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
    at_once = max(1, ROWS_AT_ONCE // len(x)) if x.device.type == "cpu" else None
    return value, vmap(lambda e: keep(pull_back(e.expand_as(x)), e), chunk_size=at_once)(basis)


def _leaf(f: Callable, x: Tensor) -> Tensor | None:
    """What autograd's tape can hang on to instead of x, or None where `torch.func` must do.

    With the tape the result needs a gradient whatever f is, so f must be a network in training.
    """
    training = isinstance(f, nn.Module) and any(p.requires_grad for p in f.parameters())
    if not (training and torch.is_grad_enabled()):
        return None
    try:
        leaf = x.detach().requires_grad_()
    except RuntimeError:  # we are inside a transform of torch.func
        return None
    return x if x.requires_grad else leaf
