"""From a score to samples: Langevin dynamics, plain and annealed, and the reverse chains of DDPM.

One convention everywhere, x ← x + (η/2) s(x) + √η z with z ~ N(0, I). `step_size` is η. In the
other common convention (ε, √2ε) the same chain has ε = η/2.
"""

from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.func import grad

from sbm_lite import validation
from sbm_lite.calculus import Field, Scalar
from sbm_lite.noise import Level, Schedule, Step
from sbm_lite.runtime import stream

Points = Float[Tensor, "n d"]

LOOK_EVERY = 100  # steps between two looks at whether the chain has diverged
FAR = 1e5  # a chain this many times further out than its start (or than 1) has diverged


def langevin_step(x: Points, s: Points, z: Points, step_size: float) -> Points:
    """One step of unadjusted Langevin dynamics, x + (η/2) s + √η z.

    x the points, s = s(x) their score, z standard normal noise, all (n, d); η = `step_size` > 0
    in the units of x squared.

    Book: eq-langevin. Reference: Roberts and Tweedie (1996), Bernoulli 2.
    """
    validation.points(x), validation.points(s, "s"), validation.points(z, "z")
    validation.same_shape(s, x, "s and x")
    validation.same_shape(z, x, "z and x")
    return _step(x, s, z, validation.scale(step_size, "step_size"))


def _step(x: Points, s: Points, z: Points, eta: float) -> Points:
    """The same, unchecked."""
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
    eta = validation.scale(step_size, "step_size")
    validation.function(log_prob, "log_prob")
    generator = stream(generator, x.device)
    x = _coordinates_together(x)
    s, log_p = _score_and_log_prob(log_prob, x)
    validation.finite(log_p, "log_prob(x)")
    validation.finite(s, "the gradient of log_prob at x")
    accepted = torch.zeros((), dtype=x.dtype, device=x.device)
    with torch.no_grad():
        for _ in range(n_steps):
            y = _step(x, s, _normals_like(x, generator), eta)
            s_y, log_p_y = _score_and_log_prob(log_prob, y)
            forward = _log_proposal(y, x, s, eta)
            backward = _log_proposal(x, y, s_y, eta)
            log_u = torch.rand(len(x), generator=generator, dtype=x.dtype, device=x.device).log()
            accept = log_u < log_p_y + backward - log_p - forward
            x = torch.where(accept[:, None], y, x)
            s = torch.where(accept[:, None], s_y, s)
            log_p = torch.where(accept, log_p_y, log_p)
            accepted += accept.to(x).mean()
    return MalaResult(x.contiguous(), accepted / n_steps)


def annealed_langevin(
    score: Callable[[Points, Level], Points],
    x: Points,
    sigmas: Float[Tensor, " l"],
    *,
    step_size: float,
    n_steps: int,
    generator: torch.Generator | None = None,
) -> Points:
    """Langevin dynamics at one noise level after the other, from the largest to the smallest.

    `sigmas` fall; each level takes `n_steps` steps of η_i = η σ_i²/σ_L² with the score s(x, σ_i),
    so `step_size` = η is the step of the last level. `x` are the starts, as wide as σ_1. The end
    follows the last level's density, up to the step bias and what the levels had no time for.

    Raises FloatingPointError, naming the level, when the chain diverges: for data at a point steps
    are stable only if η < 4 σ_L².

    Book: eq-annealed-langevin. Reference: Song and Ermon (2019), NeurIPS, algorithm 1.
    """
    ladder = validation.ladder(sigmas)
    eta = validation.scale(step_size, "step_size")
    generator = stream(generator, validation.points(x).device)
    for sigma in ladder:
        at_level = partial(_at_level, score, sigma)
        step = eta * (sigma / ladder[-1]) ** 2
        try:
            x = langevin(at_level, x, step_size=step, n_steps=n_steps, generator=generator)
        except FloatingPointError as error:
            raise FloatingPointError(
                f"the chain diverged at sigma = {sigma:.4g}: try a step_size, now {eta:g}, "
                f"below {4 * ladder[-1] ** 2:.4g}, 4 times the square of the last sigma"
            ) from error
    return x


def ancestral(
    score: Callable[[Points, Step], Points],
    x: Points,
    alpha_bars: Schedule,
    *,
    times: Int[Tensor, " k"] | None = None,
    generator: torch.Generator | None = None,
) -> Points:
    """The reverse chain of DDPM, from x = x_T ~ N(0, I) down to x_0.

    From t to the step u before it, with α = ᾱ_t/ᾱ_u, β = 1 − α and z ~ N(0, I):

        x_u = (x_t + β s(x_t, t))/√α + √β̃ z,   β̃ = β (1 − ᾱ_u)/(1 − ᾱ_t),

    so the last step, to ᾱ_0 = 1, adds no noise. `times` are the steps t to visit, falling; all of
    T, …, 1 when None. Raises ValueError for a bad argument, FloatingPointError when it runs off.

    Book: eq-ancestral. Reference: Ho, Jain and Abbeel (2020), NeurIPS, algorithm 2.
    """
    x = validation.points(x).detach()
    generator = stream(generator, x.device)
    bound = FAR * max(1.0, float(x.abs().max()))
    for k, (t, at, before) in enumerate(_walk(alpha_bars, times), start=1):
        alpha = at / before
        mean = (x + (1 - alpha) * _score_at(score, x, t)) / alpha**0.5
        spread = ((1 - alpha) * (1 - before) / (1 - at)) ** 0.5
        z = torch.randn(x.shape, generator=generator, dtype=x.dtype, device=x.device)
        x = mean + spread * z
        if k % LOOK_EVERY == 0 or before == 1:
            _raise_if_ran_off(x, t, at / before, bound)
    return x


def ddim(
    score: Callable[[Points, Step], Points],
    x: Points,
    alpha_bars: Schedule,
    *,
    times: Int[Tensor, " k"] | None = None,
) -> Points:
    """The deterministic reverse of DDPM: guess x̂₀ and ε̂ at t, and put them together again at u.

        x_u = √ᾱ_u x̂₀ + √(1 − ᾱ_u) ε̂,   ε̂ = −√(1 − ᾱ_t) s(x_t, t),   x̂₀ = (x_t − √(1 − ᾱ_t) ε̂)/√ᾱ_t.

    `x` and `times` as in `ancestral`.

    Book: eq-ddim. Reference: Song, Meng and Ermon (2021), ICLR.
    """
    x = validation.points(x).detach()
    bound = FAR * max(1.0, float(x.abs().max()))
    for k, (t, at, before) in enumerate(_walk(alpha_bars, times), start=1):
        epsilon = -((1 - at) ** 0.5) * _score_at(score, x, t)
        clean = (x - (1 - at) ** 0.5 * epsilon) / at**0.5
        x = before**0.5 * clean + (1 - before) ** 0.5 * epsilon
        if k % LOOK_EVERY == 0 or before == 1:
            _raise_if_ran_off(x, t, at / before, bound)
    return x


def _raise_if_ran_off(x: Points, t: int, alpha: float, bound: float) -> None:
    """Raise FloatingPointError if a reverse chain is beyond `bound`, infinite or NaN after t."""
    if not bool((x.abs() <= bound).all()):
        raise FloatingPointError(
            f"the reverse chain diverged by t = {t}, a step of beta = {1 - alpha:.3g}: "
            "is the score that of alpha_bars, are the steps between times small enough?"
        )


def _at_level(score: Callable[[Points, Level], Points], sigma: float, x: Points) -> Points:
    """The score field of one noise level."""
    return score(x, sigma)


def _walk(
    alpha_bars: Schedule, times: Int[Tensor, " k"] | None
) -> Iterator[tuple[int, float, float]]:
    """(t, ᾱ_t, ᾱ of the next step down) for each step of a reverse chain; the last goes to 1."""
    bars = [1.0, *validation.alpha_bars(alpha_bars).tolist()]
    last = len(bars) - 1
    visited = list(range(last, 0, -1)) if times is None else validation.times(times, last)
    for t, u in zip(visited, [*visited[1:], 0], strict=True):
        yield t, bars[t], bars[u]


def _score_at(score: Callable[[Points, Step], Points], x: Points, t: int) -> Points:
    """s(x, t) with one step per point, without a graph."""
    with torch.no_grad():
        s = score(x, torch.full((len(x),), t, device=x.device))
    validation.same_shape(s, x, "score(x, t) and x")
    return s


def _chain(
    score: Field, x: Points, step_size: float, n_steps: int, generator: torch.Generator | None
) -> Iterator[Points]:
    """Yield the points after each Langevin step."""
    validation.points(x)
    eta = validation.scale(step_size, "step_size")
    validation.count(n_steps, "n_steps")
    generator = stream(generator, x.device)
    x = _coordinates_together(x)
    bound = FAR * max(1.0, float(x.abs().max()))
    for step in range(1, n_steps + 1):
        with torch.no_grad():
            s = _score_or_diverged(score, x, step_size, bound)
            x = _moved(x, s, _normals_like(x, generator), eta)
        if step % LOOK_EVERY == 0 or step == n_steps:
            _raise_if_diverged(x, step_size, bound)
        yield x


def _moved(x: Points, s: Points, z: Points, eta: float) -> Points:
    """`langevin_step` in two passes over memory in place of four, equal up to rounding."""
    return torch.add(x, s, alpha=eta / 2).add_(z, alpha=eta**0.5)


def _score_or_diverged(score: Field, x: Points, step_size: float, bound: float) -> Points:
    """score(x) in its shape; a density that refuses x once the chain has run off is reported so."""
    try:
        s = score(x)
        validation.same_shape(s, x, "s and x")
        return s
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
        log_p = validation.per_point(log_prob(y), y, "log_prob(x)")
        return log_p.sum(), log_p

    return grad(total, has_aux=True)(x)


def _log_proposal(y: Points, x: Points, s: Points, eta: float) -> Float[Tensor, " n"]:
    """log N(y; x + (η/2) s, ηI), up to a constant that cancels in the acceptance ratio."""
    return -((y - x - (eta / 2) * s) ** 2).sum(1) / (2 * eta)
