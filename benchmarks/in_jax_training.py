"""Losses and training in JAX, compiled; an MLP is a list of (weights, biases)."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from torch import nn

from benchmarks.in_jax import Compiled, array

SIGMA, STEP = 0.5, 0.01


def weights_of(body: nn.Sequential) -> list[tuple]:
    """The layers of our MLP."""
    layers = [layer for layer in body if isinstance(layer, nn.Linear)]
    return [(array(layer.weight.detach().T), array(layer.bias.detach())) for layer in layers]


def field(weights: list[tuple], x):
    """The network at one point or at a batch of them."""
    *hidden, (last, bias) = weights
    for w, b in hidden:
        x = jax.nn.softplus(x @ w + b)
    return x @ last + bias


def dsm(weights, x, key):
    epsilon = jax.random.normal(key, x.shape)
    s = field(weights, x + SIGMA * epsilon)
    return ((s + epsilon / SIGMA) ** 2).sum(1).mean() / 2


def sliced(weights, x, key):
    """s, the slices, and vᵀ∇s v by forward mode."""
    v = jax.random.rademacher(key, x.shape, x.dtype)
    s, slope = jax.jvp(lambda x: field(weights, x), (x,), (v,))
    return s, v, (v * slope).sum(1)


def ssm(weights, x, key):
    s, v, curvature = sliced(weights, x, key)
    return (curvature + (v * s).sum(1) ** 2 / 2).mean()


def ssm_vr(weights, x, key):
    s, _, curvature = sliced(weights, x, key)
    return (curvature + (s**2).sum(1) / 2).mean()


def ism(weights, x, key):
    jacobians = jax.vmap(jax.jacfwd(lambda x: field(weights, x)))(x)
    trace = jnp.trace(jacobians, axis1=1, axis2=2)
    return (trace + (field(weights, x) ** 2).sum(1) / 2).mean()


LOSSES = {"dsm": dsm, "ssm": ssm, "ssm_vr": ssm_vr, "ism": ism}


def loss_step(name: str, body: nn.Sequential, x) -> Compiled:
    """The loss and its gradient in the weights."""
    gradient = jax.value_and_grad(LOSSES[name])
    return Compiled(gradient, weights_of(body), array(x), jax.random.key(0))


def fit(body: nn.Sequential, batch: Callable, loss: Callable, lr: float, n_steps: int) -> Compiled:
    """`n_steps` of Adam on fresh batches batch(key), as one compiled scan."""
    adam = optax.adam(lr)

    def descend(carried, key):
        weights, state = carried
        drawn, other = jax.random.split(key)
        value, gradient = jax.value_and_grad(loss)(weights, batch(drawn), other)
        change, state = adam.update(gradient, state)
        return (optax.apply_updates(weights, change), state), value

    def run(weights, key):
        keys = jax.random.split(key, n_steps)
        return jax.lax.scan(descend, (weights, adam.init(weights)), keys)

    return Compiled(run, weights_of(body), jax.random.key(0))


def fit_two_modes(body: nn.Sequential, lr: float, n_steps: int) -> Compiled:
    """Denoising score matching on batches of 128 from the two modes."""

    def batch(key):
        which, noise = jax.random.split(key)
        mean = jnp.where(jax.random.uniform(which, (128, 1)) < 0.8, 5.0, -5.0)
        return mean + jax.random.normal(noise, (128, 2))

    return fit(body, batch, dsm, lr, n_steps)
