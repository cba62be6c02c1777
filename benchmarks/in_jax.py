"""The same chains in JAX: one compiled loop each, called with arrays on the CPU."""

import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.measure import interleaved


class Mixture:
    """The scores one would write for round components of one size."""

    def __init__(self, p):
        self.weights, self.means = np.asarray(p.weights), np.asarray(p.means)
        self.std = p.std

    def log_prob(self, x):
        """log p of one point (d,), up to a constant."""
        pull = (self.means - x) / self.std
        return jax.nn.logsumexp(jnp.log(self.weights) - (pull**2).sum(-1) / 2)

    def by_grad(self, x):
        return jax.vmap(jax.grad(self.log_prob))(x)

    def in_closed_form(self, x):
        pull = (self.means - x[:, None]) / self.std**2
        log_joint = jnp.log(self.weights) - (pull**2).sum(-1) * self.std**2 / 2
        return (jax.nn.softmax(log_joint, -1)[..., None] * pull).sum(1)

    def by_matrix_products(self, x):
        """‖x − μ‖² multiplied out, so that no array has both components and coordinates."""
        half_squares = (self.means**2).sum(1) / 2
        log_joint = jnp.log(self.weights) + (x @ self.means.T - half_squares) / self.std**2
        return (jax.nn.softmax(log_joint, -1) @ self.means - x) / self.std**2

    def scores(self, n: int) -> list[Callable]:
        """The ways to write the score that are worth trying for n points."""
        if n * self.means.size > 1e8:
            return [self.by_matrix_products]
        return [self.by_grad, self.in_closed_form, self.by_matrix_products]


class Compiled:
    """`run` compiled for these arguments; a call waits for its result."""

    def __init__(self, run: Callable, *arguments):
        began = time.perf_counter()
        self._run, self._arguments = jax.jit(run).lower(*arguments).compile(), arguments
        self.compiling = time.perf_counter() - began  # seconds

    def __call__(self):
        return jax.block_until_ready(self._run(*self._arguments))


def fastest(variants: list[Callable], *arguments) -> Compiled:
    """The variant that takes least time for these arguments, by the better of two calls."""
    ready = [Compiled(run, *arguments) for run in variants]
    if len(ready) > 1:
        times = interleaved({str(k): run for k, run in enumerate(ready)}, 2)
        ready.sort(key=dict(zip(ready, map(min, times.values()), strict=True)).get)
    return ready[0]


def array(x) -> jax.Array:
    """A tensor of PyTorch as an array of JAX."""
    return jnp.asarray(np.asarray(x))


def start(x) -> tuple:
    """What a chain starts from: a random stream and points."""
    return jax.random.key(0), array(x)


def steps(step: Callable, key, x, n_steps):
    """n_steps of x ← step(key, x), in one compiled loop."""

    def body(_, carried):
        key, x = carried
        key, used = jax.random.split(key)
        return key, step(used, x)

    return jax.lax.fori_loop(0, n_steps, body, (key, x))


def langevin_steps(score, eta, key, x, n_steps):
    def step(key, x):
        return x + eta / 2 * score(x) + eta**0.5 * jax.random.normal(key, x.shape)

    return steps(step, key, x, n_steps)


def langevin(p, x, eta: float, n_steps: int) -> Compiled:
    def chain(score):
        return lambda key, x, n_steps: langevin_steps(score, eta, key, x, n_steps)[1]

    variants = [chain(score) for score in Mixture(p).scores(len(x))]
    return fastest(variants, *start(x), n_steps)


def annealed(levels, x, eta: float, n_steps: int) -> Compiled:
    """A loop over the levels around that over the steps."""
    stds = jnp.array([p.std for p in levels])
    etas = eta * (stds / stds[-1]) ** 2

    def chain(way: int):
        def run(key, x, n_steps):
            def level(carried, at):
                score = Mixture(levels[0]._replace(std=at[0])).scores(len(x))[way]
                return langevin_steps(score, at[1], *carried, n_steps), None

            return jax.lax.scan(level, (key, x), (stds, etas))[0][1]

        return run

    ways = range(len(Mixture(levels[0]).scores(len(x))))
    return fastest([chain(way) for way in ways], *start(x), n_steps)


def mala(p, x, eta: float, n_steps: int) -> Compiled:
    value_and_score = jax.vmap(jax.value_and_grad(Mixture(p).log_prob))

    def log_proposal(y, x, s):
        return -((y - x - eta / 2 * s) ** 2).sum(1) / (2 * eta)

    def step(key, state):
        x, log_p, s = state
        key, other = jax.random.split(key)
        y = x + eta / 2 * s + eta**0.5 * jax.random.normal(key, x.shape)
        log_p_y, s_y = value_and_score(y)
        log_ratio = log_p_y + log_proposal(x, y, s_y) - log_p - log_proposal(y, x, s)
        accept = jnp.log(jax.random.uniform(other, log_p.shape)) < log_ratio
        keep = lambda new, old: jnp.where(accept[:, None], new, old)  # noqa: E731
        return keep(y, x), jnp.where(accept, log_p_y, log_p), keep(s_y, s)

    def run(key, x, n_steps):
        return steps(step, key, (x, *value_and_score(x)), n_steps)[1][0]

    return Compiled(run, *start(x), n_steps)


def normals(x, n_steps: int) -> Compiled:
    """The noise of a chain, alone."""

    def run(key, x, n_steps):
        return steps(lambda key, x: jax.random.normal(key, x.shape), key, x, n_steps)[1]

    return Compiled(run, *start(x), n_steps)
