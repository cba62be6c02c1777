"""Lab of chapter 8."""

from collections.abc import Callable

import ipywidgets as widgets
import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure

from sbm_lite import densities, diagnostics, figures, noise, runtime, samplers, validation
from sbm_lite.labs.panel import Lab, Outcome, slider

SCHEDULES: dict[str, Callable[[int], torch.Tensor]] = {
    "linear, stretched to T": lambda n: noise.linear_betas(n, 0.1 / n, min(20 / n, 0.999)),
    "linear, 0.0001 to 0.02": noise.linear_betas,
    "cosine": noise.cosine_betas,
}
SAMPLERS = ["ancestral", "DDIM", "annealed Langevin"]
STEPS_PER_LEVEL, STEP = 20, 0.2  # of annealed Langevin: steps at a level, each of 0.2 (1 − ᾱ)
N_POINTS = 4_000


def ddpm_experiment(schedule: str, n_levels: int, sampler: str, n_calls: int, seed: int) -> Outcome:
    """Samples of the scaled two modes from N(0, I), with exact scores and a budget of calls."""
    validation.choice(schedule, SCHEDULES, "schedule")
    validation.choice(sampler, SAMPLERS, "sampler")
    validation.count(n_levels, "n_levels"), validation.count(n_calls, "n_calls")
    if n_calls > n_levels and sampler != "annealed Langevin":
        raise ValueError(
            f"{sampler} visits a level once: choose at most T = {n_levels} calls, got {n_calls}"
        )
    p, rng = densities.scaled_modes(), runtime.generator(seed)
    alpha_bars = noise.alpha_bars(SCHEDULES[schedule](n_levels))
    laws = [p.diffused(kept) for kept in alpha_bars.tolist()]
    score = lambda x, t: laws[int(t[0]) - 1].score(x)  # noqa: E731
    start = torch.randn(N_POINTS, 2, generator=rng)
    if sampler == "ancestral":
        x = samplers.ancestral(
            score, start, alpha_bars, times=_spread(n_levels, n_calls), generator=rng
        )
    elif sampler == "DDIM":
        x = samplers.ddim(score, start, alpha_bars, times=_spread(n_levels, n_calls))
    else:
        x = _annealed(score, start, alpha_bars, n_calls, rng)
    upper = x[x.sum(1) > 0]
    share, variance = len(upper) / len(x), float(upper.var(0).mean())
    kept = float(alpha_bars[-1])
    warning = "" if kept < 1e-3 else " (too much to start from pure noise)"
    return Outcome(
        _picture(p, x),
        f"{schedule}, T = {n_levels:,}: ᾱ_T = {kept:.2g}{warning}. {sampler}, {n_calls:,} calls: "
        f"share at (1.2, 1.2) {share:.3f}, exact 0.800; variance in that mode {variance:.3g}, "
        "exact 0.060.",
        "Left: samples as dots over a pale blue density with two modes on the diagonal. Right: "
        "a histogram of the samples along the diagonal beside the exact density.",
    )


def _spread(n_levels: int, n_calls: int) -> torch.Tensor:
    """`n_calls` steps from T down to 1, evenly spaced."""
    return torch.linspace(n_levels, 1, n_calls).round().long()


def _annealed(score, start, alpha_bars, n_calls, rng):
    """Annealed Langevin on the schedule's own ladder, in the units of noise added to clean data.

    Levels are evenly spaced in t, and the last is the lowest; x_T is N(0, I) in DDPM's units.
    """
    levels = min(max(n_calls // STEPS_PER_LEVEL, 1), len(alpha_bars))
    times = _spread(len(alpha_bars), levels) if levels > 1 else torch.tensor([1])
    sigmas = noise.sigma_from_alpha_bar(alpha_bars[times - 1])
    return samplers.annealed_langevin(
        noise.ve_score(score, alpha_bars),
        start * (1 + sigmas[0].float() ** 2).sqrt(),
        sigmas,
        step_size=STEP * float(sigmas[-1]) ** 2,
        n_steps=n_calls // levels,
        generator=rng,
    )


def _picture(p: densities.GaussianMixture, x: torch.Tensor) -> Figure:
    """The samples in the plane, and along the diagonal beside the exact density."""
    figure, (plane, line) = plt.subplots(1, 2, figsize=(8, 4))
    fine = diagnostics.grid(2.5, 100)
    figures.heat(plane, fine, p.log_prob(fine).exp())
    figures.cloud(plane, x[:1500], s=4, limit=2.5)
    along = torch.linspace(-4, 4, 400)
    axis = densities.GaussianMixture.isotropic(
        p.weights, p.means.sum(1, keepdim=True) / 2**0.5, p.covariances[:, 0, 0].sqrt()
    )
    figures.curve(line, along, axis.log_prob(along[:, None]).exp(), label="exact")
    line.hist((x.sum(1) / 2**0.5).clamp(-4, 4).numpy(), 80, range=(-4, 4), density=True,
              color=figures.COLOURS["model"], alpha=0.6, label="samples")  # fmt: skip
    line.set(xlabel="place along the diagonal", ylabel="density")
    line.legend(loc="upper left")
    return figure


def ddpm_lab() -> Lab:
    """Lab of chapter 8: DDPM with your schedule, length, sampler and number of calls."""
    return Lab(
        ddpm_experiment,
        schedule=widgets.Dropdown(options=list(SCHEDULES), description="schedule"),
        n_levels=slider(widgets.IntSlider, 1_000, "steps T", min=50, max=1_000, step=50),
        sampler=widgets.Dropdown(options=SAMPLERS, description="sampler"),
        n_calls=slider(widgets.IntSlider, 100, "calls", min=10, max=1_000, step=10),
        seed=slider(widgets.IntSlider, 0, "seed", min=0, max=100),
    )
