"""Langevin dynamics: from a score to samples.

One convention everywhere, x ← x + (η/2) s(x) + √η z with z ~ N(0, I). `step_size` is η. In the
other common convention (ε, √2ε) the same chain has ε = η/2.
"""

from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import grad

from sbm_lite import validation
from sbm_lite.calculus import Field, Scalar
from sbm_lite.runtime import generator as fresh_generator

Points = Float[Tensor, "n d"]

LOOK_EVERY = 100  # steps between two looks at whether the chain has diverged
FAR = 1e5  # a chain this many times further out than its start (or than 1) has diverged


def langevin_step(x: Points, s: Points, z: Points, step_size: float) -> Points:
    """One step of unadjusted Langevin dynamics, x + (η/2) s + √η z.

    x the points, s = s(x) their score, z standard normal noise, all (n, d); η = `step_size` > 0
    in the units of x squared.

    Book: eq-langevin. Reference: Roberts and Tweedie (1996), Bernoulli 2.
    """
    eta = validation.positive(step_size, "step_size")
    validation.same_shape(s, x, "s and x")
    validation.same_shape(z, x, "z and x")
    return x + (eta / 2) * s + eta**0.5 * z


def langevin(
    score: Field,
    x: Points,
    *,
    step_size: float,
    n_steps: int,
    generator: torch.Generator | None = None,
) -> Points:
    """Run n chains from the rows of `x` for `n_steps` Langevin steps; return the last points.

    The law of the result tends to p only when η → 0 and η·n_steps → ∞ together; at fixed η it is
    biased: on N(0, λI) its variance tends to λ/(1 − η/4λ), and it diverges when η ≥ 4λ.

    All this for a score that grows at most linearly; for steeper ones a chain started far enough
    out diverges at any η. Raises ValueError for a bad argument, and FloatingPointError when a
    coordinate is 10⁵ times as large as any at the start (or as 1).

    Book: eq-langevin. Reference: Roberts and Tweedie (1996), Bernoulli 2.
    """
    (last,) = deque(_chain(score, x, step_size, n_steps, generator), maxlen=1)
    return last.contiguous()


def langevin_path(
    score: Field,
    x: Points,
    *,
    step_size: float,
    n_steps: int,
    every: int = 1,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "t n d"]:
    """As `langevin`, keeping every `every`-th frame; time comes first and frame 0 is the start.

    Returns (1 + n_steps // every, n, d).
    """
    validation.count(every, "every")
    frames = [validation.points(x).detach()]
    for step, point in enumerate(_chain(score, x, step_size, n_steps, generator), start=1):
        if step % every == 0:
            frames.append(point)
    return torch.stack(frames)


class MalaResult(NamedTuple):
    """The last points of a Metropolis-adjusted chain and the share of proposals accepted."""

    x: Points
    acceptance: Float[Tensor, ""]


def mala(
    log_prob: Scalar,
    x: Points,
    *,
    step_size: float,
    n_steps: int,
    generator: torch.Generator | None = None,
) -> MalaResult:
    """Metropolis-adjusted Langevin: propose a Langevin step, accept it with probability

        min(1, p(y) q(x | y) / (p(x) q(y | x))),   q(y | x) = N(y; x + (η/2) s(x), ηI).

    The target p is then stationary exactly, for every η > 0. `log_prob` maps (n, d) to (n,) and
    need not be normalised; `acceptance` is a scalar tensor in [0, 1].

    Book: eq-mala. Reference: Besag (1994), JRSS B 56; Roberts and Tweedie (1996), Bernoulli 2.
    """
    validation.points(x)
    validation.count(n_steps, "n_steps")
    generator = generator or fresh_generator(device=x.device)
    x = _coordinates_together(x)
    s, log_p = _score_and_log_prob(log_prob, x)
    validation.finite(log_p, "log_prob(x)")
    validation.finite(s, "the gradient of log_prob at x")
    accepted = torch.zeros((), dtype=x.dtype, device=x.device)
    with torch.no_grad():
        for _ in range(n_steps):
            y = langevin_step(x, s, _normals_like(x, generator), step_size)
            s_y, log_p_y = _score_and_log_prob(log_prob, y)
            forward = _log_proposal(y, x, s, step_size)
            backward = _log_proposal(x, y, s_y, step_size)
            log_u = torch.rand(len(x), generator=generator, dtype=x.dtype, device=x.device).log()
            accept = log_u < log_p_y + backward - log_p - forward
            x = torch.where(accept[:, None], y, x)
            s = torch.where(accept[:, None], s_y, s)
            log_p = torch.where(accept, log_p_y, log_p)
            accepted += accept.to(x).mean()
    return MalaResult(x.contiguous(), accepted / n_steps)


def _chain(
    score: Field, x: Points, step_size: float, n_steps: int, generator: torch.Generator | None
) -> Iterator[Points]:
    """Yield the points after each Langevin step."""
    validation.points(x)
    validation.positive(step_size, "step_size")
    validation.count(n_steps, "n_steps")
    generator = generator or fresh_generator(device=x.device)
    x = _coordinates_together(x)
    bound = FAR * max(1.0, float(x.abs().max()))
    for step in range(1, n_steps + 1):
        with torch.no_grad():
            s = _score_or_diverged(score, x, step_size, bound)
            x = langevin_step(x, s, _normals_like(x, generator), step_size)
        if step % LOOK_EVERY == 0 or step == n_steps:
            _raise_if_diverged(x, step_size, bound)
        yield x


def _score_or_diverged(score: Field, x: Points, step_size: float, bound: float) -> Points:
    """score(x); a density that refuses x because the chain has run off is reported as such."""
    try:
        return score(x)
    except ValueError:
        _raise_if_diverged(x, step_size, bound)
        raise


def _raise_if_diverged(x: Points, step_size: float, bound: float) -> None:
    """Raise FloatingPointError if any coordinate is beyond `bound`, infinite or NaN."""
    if not bool((x.abs() <= bound).all()):
        raise FloatingPointError(
            f"the chain diverged with step_size = {step_size}: steps are stable only below 4 times "
            "the smallest variance of the target (or of a mode of it)"
        )


def _coordinates_together(x: Points) -> Points:
    """A copy of x, still (n, d), whose columns are contiguous in memory.

    With many points in few dimensions this makes each step about twice as fast.
    """
    return x.detach().T.clone(memory_format=torch.contiguous_format).T


def _normals_like(x: Tensor, generator: torch.Generator) -> Tensor:
    """Standard normals of x's shape, dtype and device, laid out as `_coordinates_together`."""
    n, d = x.shape
    return torch.randn(d, n, generator=generator, dtype=x.dtype, device=x.device).T


def _score_and_log_prob(log_prob: Scalar, x: Points) -> tuple[Points, Float[Tensor, " n"]]:
    """∇ log p(x) and log p(x) in one pass."""

    def total(y):
        log_p = log_prob(y)
        return log_p.sum(), log_p

    return grad(total, has_aux=True)(x)


def _log_proposal(y: Points, x: Points, s: Points, eta: float) -> Float[Tensor, " n"]:
    """log N(y; x + (η/2) s, ηI), up to a constant that cancels in the acceptance ratio."""
    return -((y - x - (eta / 2) * s) ** 2).sum(1) / (2 * eta)
