"""The same chains by BlackJAX: its kernels in a compiled loop. Its step size is η/2."""

import blackjax
import jax

from benchmarks import in_jax


def langevin(p, x, eta: float, n_steps: int) -> in_jax.Compiled:
    """`sgld`, all chains as one state, with the exact score as its gradient estimate."""

    def chain(score):
        sgld = blackjax.sgld(lambda x, _: score(x))

        def run(key, x, n_steps):
            step = lambda key, x: sgld.step(key, x, None, eta / 2)  # noqa: E731
            return in_jax.steps(step, key, x, n_steps)[1]

        return run

    variants = [chain(score) for score in in_jax.Mixture(p).scores(len(x))]
    return in_jax.fastest(variants, *in_jax.start(x), n_steps)


def mala(p, x, eta: float, n_steps: int) -> in_jax.Compiled:
    """`mala`, vectorised over the chains."""
    kernel = blackjax.mala(in_jax.Mixture(p).log_prob, eta / 2)

    def run(key, x, n_steps):
        def step(key, states):
            return jax.vmap(kernel.step)(jax.random.split(key, len(x)), states)[0]

        return in_jax.steps(step, key, jax.vmap(kernel.init)(x), n_steps)[1].position

    return in_jax.Compiled(run, *in_jax.start(x), n_steps)
