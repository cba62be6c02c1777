"""Lab of chapter 9."""

import ipywidgets as widgets
import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from sbm_lite import densities, diagnostics, figures, networks, runtime, training, validation
from sbm_lite.experiments.noisy_targets import LOSSES, looks, watched, with_noise
from sbm_lite.labs.panel import Lab, Outcome, slider

N_FRESH = 4_000  # points to measure on


def target_noise_experiment(
    loss: str, sigma: float, batch: int, n_steps: int, seed: int
) -> Outcome:
    """A network's Fisher divergence along its training by one of three losses, beside plain DSM."""
    validation.choice(loss, LOSSES, "loss"), validation.count(batch, "batch")
    curves = {name: _train(name, sigma, batch, n_steps, seed) for name in {loss: 0, "DSM": 0}}
    best, ended = min(curves["DSM"].values()), {k: c[n_steps] for k, c in curves.items()}
    sentence = (
        f"{loss}, σ = {sigma:.3g}, {n_steps:,} steps of {batch}: Fisher divergence to the score of "
        f"the noisy data {_number(ended[loss])}"
    )
    if loss != "DSM":
        reached = [k for k, value in curves[loss].items() if value <= best]
        when = f"took at most {reached[0]:,} steps" if reached else "was not reached"
        sentence += (
            f". Plain DSM ended at {_number(ended['DSM'])}; with the {loss} its best, "
            f"{_number(best)}, {when}"
        )
    return Outcome(
        _picture(curves, sigma),
        sentence + ".",
        "Fisher divergence against training steps, both axes logarithmic: "
        + ("one falling curve, plain DSM." if loss == "DSM" else f"a curve for plain DSM and one "
           f"for {loss}; the sentence tells where they end."),
    )  # fmt: skip


def _train(loss: str, sigma: float, batch: int, n_steps: int, seed: int) -> dict[int, float]:
    """The divergence after some numbers of steps; the first weights depend on the seed alone."""
    p, rng = densities.two_modes(), runtime.generator(seed)
    noisy = p.smoothed(sigma)
    x = noisy.sample(N_FRESH, generator=runtime.generator(seed + 1))
    net, steps = networks.ScoreMLP(2, generator=rng), looks(n_steps)
    batches = training.draws(p, batch, generator=rng)
    target = noisy.score(x)
    measure = lambda net: diagnostics.fisher_divergence(net(x), target)  # noqa: E731
    seen = watched(net, with_noise(LOSSES[loss], sigma, rng), batches, steps, measure)
    return dict(zip(steps, seen, strict=True))


def _number(value: float) -> str:
    return f"{value:.3f}" if value < 10 else f"{value:.1f}"


def _picture(curves: dict[str, dict[int, float]], sigma: float) -> Figure:
    """Divergence against steps."""
    figure, ax = plt.subplots(figsize=(7.2, 3.8))
    for name, curve in curves.items():
        plain = name == "DSM" and len(curves) > 1
        look = {"role": "neutral", "marker": "s", "linestyle": "--"} if plain else {"role": "model"}
        figures.curve(ax, list(curve), list(curve.values()), **{"marker": "o"} | look, label=name)
    ax.set(xscale="log", yscale="log", xlabel="training steps", title=f"σ = {sigma:.3g}")
    ax.set_ylabel("Fisher divergence")
    ax.legend(loc="best")
    return figure


def target_noise_lab() -> Lab:
    """Lab of chapter 9: train by plain DSM and by a quieter loss of the same mean."""
    return Lab(
        target_noise_experiment,
        loss=widgets.Dropdown(options=list(LOSSES), value="control variate", description="loss"),
        sigma=slider(widgets.FloatLogSlider, 0.01, "noise level σ", min=-2, max=0, step=0.05),
        batch=slider(widgets.IntSlider, 128, "batch", min=8, max=1024, step=8),
        n_steps=slider(widgets.IntSlider, 400, "steps", min=50, max=5_000, step=50),
        seed=slider(widgets.IntSlider, 0, "seed", min=0, max=100),
    )
