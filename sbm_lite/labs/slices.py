"""Lab of chapter 5."""

import ipywidgets as widgets
import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure

from sbm_lite import calculus, densities, diagnostics, figures, losses, runtime, validation
from sbm_lite.labs.panel import Lab, Outcome, slider

N_POINTS = 500
LAWS = {
    "Rademacher": losses.slices,
    "Gaussian": losses.gaussian_slices,
    "sphere of radius √d": losses.sphere_slices,
    "unit sphere": lambda x, generator: (
        losses.sphere_slices(x, generator=generator) / x.shape[1] ** 0.5
    ),
}
FORMS = ["plain", "variance reduced"]


def slices_experiment(
    law: str, form: str, dim: int, n_slices: int, sigma: float, seed: int
) -> Outcome:
    """The sliced loss of an exact score at 500 points, slice after slice, beside exact ISM."""
    validation.choice(law, LAWS, "law"), validation.choice(form, FORMS, "form")
    validation.count(dim, "dim"), validation.count(n_slices, "n_slices")
    stream = runtime.generator(seed)
    p = _two_clouds(dim).smoothed(sigma)
    x = p.sample(N_POINTS, generator=stream).double()
    loss = losses.ssm if form == "plain" else losses.ssm_vr
    draws = [loss(p.score, x, LAWS[law](x, generator=stream)) for _ in range(n_slices)]
    values = torch.stack(draws)  # (slice, point)
    mean, variance = _theory(law, form, p.score(x), calculus.jacobian(p.score, x))
    ism = float(losses.ism(p.score, x).mean())
    measured = float((values - mean).square().mean())
    error = float(diagnostics.standard_error((values - mean).square().flatten()))
    return Outcome(
        _picture(values.mean(1), mean.mean(), variance.mean(), ism),
        f"{form} form, {law}, d = {dim}, {n_slices} slices at each of {N_POINTS} points: mean "
        f"{values.mean():.3f} ± {(variance.mean() / values.numel()) ** 0.5:.2g}, in theory "
        f"{mean.mean():.3f}, exact ISM {ism:.3f}; variance of one slice {measured:.4g} ± "
        f"{error:.2g}, in theory {variance.mean():.4g}.",
        f"The running mean of the loss against the number of slices drawn with the law '{law}', "
        "inside a band that narrows like one over the square root of that number, and a horizontal "
        "line at the exact ISM loss.",
    )


def _two_clouds(dim: int) -> densities.GaussianMixture:
    """Two unit clouds of weights 0.3 and 0.7, four apart along the diagonal."""
    centre = torch.full((1, dim), 2 / dim**0.5)
    return densities.GaussianMixture.isotropic([0.3, 0.7], torch.cat([-centre, centre]), 1.0)


def _theory(law: str, form: str, s: torch.Tensor, jacobian: torch.Tensor):
    """Mean and variance of one slice at each point, from the exact Jacobian and score."""
    d = s.shape[1]
    half_square = (s**2).sum(1) / 2
    b = (jacobian + jacobian.mT) / 2
    if form == "plain":
        b = b + s[:, :, None] * s[:, None, :] / 2
    trace = b.diagonal(dim1=1, dim2=2).sum(1)
    frobenius, diagonal = b.square().sum((1, 2)), b.diagonal(dim1=1, dim2=2).square().sum(1)
    scale = 1 / d if law == "unit sphere" else 1.0
    if "sphere" in law:
        variance = scale**2 * 2 / (d + 2) * (d * frobenius - trace**2)
    else:
        variance = 2 * (frobenius - diagonal if law == "Rademacher" else frobenius)
    mean = scale * trace + (0 if form == "plain" else half_square)
    return mean, variance.clamp(min=0)


def _picture(per_slice: torch.Tensor, mean: float, variance: float, ism: float) -> Figure:
    """The running mean over slices, the band that theory allows it, and exact ISM."""
    figure, ax = plt.subplots(figsize=(7.2, 3.8))
    k = torch.arange(1, len(per_slice) + 1)
    band = 2 * (variance / (N_POINTS * k)) ** 0.5
    ax.fill_between(k, mean - band, mean + band, color=figures.COLOURS["truth"], alpha=0.15,
                    linewidth=0, label="theory, ± 2 standard errors")  # fmt: skip
    ax.axhline(ism, color=figures.COLOURS["truth"], label="exact ISM")
    running = per_slice.cumsum(0) / k
    ax.plot(k, running, ".-", color=figures.COLOURS["model"], label="mean of the slices so far")
    ax.set(xlabel="slices per point", ylabel="loss, mean over the points")
    if len(k) > 1:
        ax.set_xscale("log")
    ax.legend(loc="best")
    return figure


def slices_lab() -> Lab:
    """Lab of chapter 5: the sliced loss, its mean and its variance, beside exact ISM."""
    return Lab(
        slices_experiment,
        law=widgets.Dropdown(options=list(LAWS), description="law of v"),
        form=widgets.Dropdown(options=FORMS, description="form"),
        dim=slider(widgets.IntSlider, 10, "dimension d", min=1, max=100),
        n_slices=slider(widgets.IntSlider, 50, "slices", min=1, max=300),
        sigma=slider(widgets.FloatSlider, 0.5, "noise σ", min=0.1, max=5.0, step=0.1),
        seed=slider(widgets.IntSlider, 0, "seed", min=0, max=100),
    )
