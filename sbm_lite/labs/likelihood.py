"""Lab of chapter 1."""

import math

import ipywidgets as widgets
import matplotlib.pyplot as plt
import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from sbm_lite import densities, figures, runtime, validation
from sbm_lite.labs.panel import Lab, Outcome, slider

TARGET = densities.GaussianMixture.isotropic([0.3, 0.7], [[-2.0], [1.0]], [0.5, 1.0])
N_DATA, N_STEPS = 1_000, 400
CENTRES = torch.linspace(-4, 4, 13, dtype=torch.float64)
NODES = torch.linspace(-12, 12, 2_401, dtype=torch.float64)
SPACING = float(NODES[1] - NODES[0])


def likelihood_experiment(n_draws: int, dim: int, proposal_std: float, seed: int) -> Outcome:
    """Maximum likelihood with Z by importance sampling from N(0, proposal_std² I), and exactly.

    The energy of a point is the sum over its coordinates of E(xₖ) = xₖ²/18 − θ·φ(xₖ), with
    thirteen bumps φ, so that log Z is `dim` times a one-dimensional integral.

    Book: eq-nll, eq-importance, eq-ess.
    """
    validation.count(n_draws, "n_draws"), validation.count(dim, "dim")
    validation.scale(proposal_std, "proposal_std")
    generator = runtime.generator(seed)
    data = TARGET.sample(N_DATA * dim, generator=generator).double().reshape(N_DATA, dim)
    draws = proposal_std * torch.randn(n_draws, dim, generator=generator, dtype=torch.float64)
    log_g = torch.distributions.Normal(0.0, proposal_std).log_prob(draws).sum(1)
    base, bumps = _features(draws)
    of_data = [feature.mean(0) for feature in _features(data)]

    def log_weights(theta):
        return bumps @ theta - base - log_g

    def nll(theta, log_z):
        return (of_data[0] - of_data[1] @ theta + log_z(theta)) / dim

    def estimate(theta):
        return log_weights(theta).logsumexp(0) - math.log(n_draws)

    def exact(theta):
        return dim * _log_z(theta)

    fitted, best = (_minimum(lambda theta, z=z: nll(theta, z)) for z in (estimate, exact))
    share = 1 / (n_draws * log_weights(fitted).softmax(0).square().sum())
    return Outcome(
        _curves(fitted, best, dim),
        f"d = {dim}, {n_draws:,} draws for Z: NLL per coordinate {nll(fitted, estimate):.3f} as "
        f"estimated, {nll(fitted, exact):.3f} with the true Z; exact fit {nll(best, exact):.3f}. "
        f"Useful draws: {100 * share:.2g} %.",
        "The density of one coordinate: the true one in green with two bumps, the fit with the "
        "exact Z dashed in blue close to it, and in red the fit with Z estimated from "
        f"{n_draws:,} draws in {dim} dimensions.",
    )


def _features(x: Float[Tensor, "n d"]) -> tuple[Float[Tensor, " n"], Float[Tensor, "n k"]]:
    """Σ xₖ²/18 and Σ φ(xₖ), summed over the coordinates of each point (one at a time: memory)."""
    bumps = torch.zeros(len(x), len(CENTRES), dtype=x.dtype)
    for coordinate in x.T:
        bumps += torch.exp(-((coordinate[:, None] - CENTRES) ** 2) / 0.72)
    return (x**2).sum(1) / 18, bumps


_AT_NODES = _features(NODES[:, None])


def _log_q(theta: Float[Tensor, " k"]) -> Float[Tensor, " m"]:
    """−E of one coordinate at the nodes."""
    base, bumps = _AT_NODES
    return bumps @ theta - base


def _log_z(theta: Float[Tensor, " k"]) -> Float[Tensor, ""]:
    """log Z of one coordinate by quadrature."""
    return _log_q(theta).logsumexp(0) + math.log(SPACING)


def _minimum(loss) -> Float[Tensor, " k"]:
    """θ after N_STEPS steps of Adam from 0; a loss without a minimum is left there."""
    theta = torch.zeros(len(CENTRES), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([theta], lr=0.05)
    for _ in range(N_STEPS):
        optimizer.zero_grad()
        loss(theta).backward()
        optimizer.step()
    return theta.detach()


def _curves(fitted, best, dim: int) -> Figure:
    """The density of one coordinate: true, fitted exactly, fitted with the estimate."""
    figure, ax = plt.subplots(figsize=(6.4, 3.6))
    truth = TARGET.log_prob(NODES[:, None]).exp()
    figures.curve(ax, NODES, truth, label="truth")
    for theta, role, dash, label in (
        (best, "data", "--", "fit, exact $Z$"),
        (fitted, "model", "-", r"fit, estimated $Z$"),
    ):
        density = (_log_q(theta) - _log_z(theta)).exp()
        figures.curve(ax, NODES, density, role=role, linestyle=dash, label=label)
    ax.set(xlim=(-6, 6), ylim=(0, 0.6), xlabel="one coordinate", ylabel="density")
    ax.set_title(f"what was learned, d = {dim}")
    ax.legend(loc="upper left")
    return figure


def likelihood_lab() -> Lab:
    """Lab of chapter 1: maximum likelihood with Z from a chosen number of draws."""
    return Lab(
        likelihood_experiment,
        n_draws=slider(
            widgets.SelectionSlider, 1_000, "draws for Z",
            options=[(f"{n:,}", n) for n in (10, 30, 100, 300, 1_000, 3_000, 10_000, 30_000)],
        ),
        dim=slider(widgets.IntSlider, 20, "dimension d", min=1, max=50),
        proposal_std=slider(
            widgets.FloatSlider, 2.0, "proposal std", min=0.5, max=4.0, step=0.1
        ),
        seed=slider(widgets.IntSlider, 0, "seed", min=0, max=100),
    )  # fmt: skip
