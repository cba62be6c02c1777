"""Lab of chapter 3."""

import ipywidgets as widgets
import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure

from sbm_lite import densities, diagnostics, figures, runtime, samplers, validation
from sbm_lite.labs.panel import DENSITIES, Lab, Outcome, slider

METHODS = ["unadjusted", "Metropolis-adjusted"]


def langevin_experiment(
    density: str, step_size: float, n_steps: int, n_chains: int, method: str, device: str, seed: int
) -> Outcome:
    """Chains started uniformly on [−8, 8]², where they end, and the same number of exact draws."""
    validation.choice(density, DENSITIES, "density"), validation.choice(method, METHODS, "method")
    validation.count(n_chains, "n_chains")
    p, generator = DENSITIES[density], runtime.generator(seed, runtime.device(device))
    exact = p.sample(n_chains, generator=generator)
    x = 16 * torch.rand(n_chains, 2, generator=generator, device=generator.device) - 8
    settings = {"step_size": step_size, "n_steps": n_steps, "generator": generator}
    if method == METHODS[1]:
        x = samplers.mala(p.log_prob, x, **settings).x
    else:
        x = samplers.langevin(p.score, x, **settings)
    x, exact = x.cpu(), exact.cpu()
    return Outcome(
        _clouds(p, x, exact),
        f"{n_chains:,} chains ({generator.device.type}), {n_steps:,} steps of η = {step_size:.3g}: "
        f"variance per coordinate {x.var(0).mean():.2f}, of exact draws {exact.var(0).mean():.2f}.",
        f"Left: map of the density '{density}' with the end points of the chains as dots. Right: "
        "histogram of the first coordinate, of the chains and of as many exact draws.",
    )


def _clouds(p: densities.Density, x: torch.Tensor, exact: torch.Tensor) -> Figure:
    """End points on the density, and the marginal of x₁ beside that of exact draws."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.8))
    fine = diagnostics.grid(8, 120)
    figures.heat(left, fine, p.log_prob(fine).exp())
    figures.cloud(left, x[:3_000], limit=8)
    bins = torch.linspace(-8, 8, 61).numpy()
    for points, role, line, label in (
        (exact, "data", "--", "exact draws"), (x, "model", "-", "chains"),
    ):  # fmt: skip
        right.hist(points[:, 0].numpy(), bins, histtype="step", density=True, linewidth=1.8,
                   color=figures.COLOURS[role], linestyle=line, label=label)  # fmt: skip
    right.set(xlabel="$x_1$", ylabel="density", title="marginal of $x_1$")
    right.legend()
    left.set_title("where the chains ended")
    return figure


def langevin_lab() -> Lab:
    """Lab of chapter 3: Langevin dynamics on any density, plain or Metropolis-adjusted."""
    return Lab(
        langevin_experiment,
        density=widgets.Dropdown(options=list(DENSITIES), description="density"),
        step_size=slider(widgets.FloatLogSlider, 0.1, "step size η", min=-3, max=1, step=0.05),
        n_steps=slider(widgets.IntSlider, 300, "steps", min=10, max=5_000, step=10),
        n_chains=slider(widgets.IntSlider, 5_000, "chains", min=1_000, max=100_000, step=1_000),
        method=widgets.Dropdown(options=METHODS, description="method"),
        device=widgets.Dropdown(options=["cpu", "auto"], description="device"),
        seed=slider(widgets.IntSlider, 0, "seed", min=0, max=100),
    )
