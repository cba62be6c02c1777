"""The losses of score matching: pure functions, one value per point, randomness passed in.

All keep the factor ½, sum over coordinates, and leave the average over points to the caller.
`score` is any callable (n, d) → (n, d): a closed form, a network, a lambda.

    loss          needs                            its mean is least at
    esm           the score of the data            the score of the data
    ism           d backward passes                the same, up to a constant equal to `esm`
    ssm           one backward pass and slices v   the same, in expectation over v equal to `ism`
    ssm_vr        the same                         the same
    ssm_fd        three forward passes             the same, up to O(step²)
    dsm           noise ε                          the score of the noisy data
    ncsn          noise ε at many levels σ         the score of each level
    ddpm_simple   noise ε at many steps t          the same, in the coordinates of DDPM
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from sbm_lite import validation
from sbm_lite.calculus import Field, value_and_divergence, value_and_quadratic_form
from sbm_lite.noise import Schedule, Step, _beside, _values, alpha_bar_at
from sbm_lite.runtime import stream

Points = Float[Tensor, "n d"]
PerPoint = Float[Tensor, " n"]
Level = float | Float[Tensor, ""] | Float[Tensor, " n"]
ConditionalField = Callable[[Points, Level], Points]
SteppedField = Callable[[Points, Step], Points]


def esm(score: Field, x: Points, target: Points) -> PerPoint:
    """Explicit score matching, ½‖s(x) − target‖², at points x with a known target there.

    With target ∇log p(x) its mean over p is the Fisher divergence. With a kernel's target
    ∇log q(x̃|x), at x̃, it is denoising score matching for any noise without jumps (see
    `sbm_lite.noise`).

    Book: eq-esm. Reference: Hyvärinen (2005), JMLR 6.
    """
    _beside(target, x, "target")
    return _half_square(_values(score(x), x) - target)


def ism(score: Field, x: Points) -> PerPoint:
    """Implicit score matching, tr ∇s(x) + ½‖s(x)‖², with the exact trace: d backward passes.

    To train by it, s needs a continuous slope: with ReLU units the value is right, but its gradient
    in the parameters misses how the mean trace changes as the kinks move.

    Book: eq-ism. Reference: Hyvärinen (2005), JMLR 6.
    """
    s, trace = value_and_divergence(score, x)
    return trace + _half_square(s)


def ssm(score: Field, x: Points, v: Points) -> PerPoint:
    """Sliced score matching, vᵀ∇s(x)v + ½(vᵀs(x))², with one slice v per point.

    Equal to `ism` on average over v when E[vvᵀ] = I: Gaussian, Rademacher, or uniform on the
    sphere of radius √d. Slices of length 1 give 1/d of it.

    Book: eq-ssm. Reference: Song, Garg, Shi and Ermon (2019), UAI.
    """
    s, curvature = value_and_quadratic_form(score, x, v)
    return curvature + (v * s).sum(1) ** 2 / 2


def ssm_vr(score: Field, x: Points, v: Points) -> PerPoint:
    """Sliced score matching with the square in closed form, vᵀ∇s(x)v + ½‖s(x)‖².

    Needs E[vvᵀ] = I: slices of length 1 would leave trace and square out of balance. Called
    variance reduced, which is not always so (Book: eq-vr-crossover).

    Book: eq-ssm-vr. Reference: Song, Garg, Shi and Ermon (2019), UAI.
    """
    s, curvature = value_and_quadratic_form(score, x, v)
    return curvature + _half_square(s)


def ssm_fd(score: Field, x: Points, v: Points, step: float) -> PerPoint:
    """`ssm_vr` without a derivative: vᵀ∇s v ≈ vᵀ(s(x + hv) − s(x − hv))/2h, h = `step`.

    Off by O(h²), and by rounding of size 10⁻⁷/h in float32: h about 10⁻² of the scale of x.

    Book: eq-ssm-fd. Reference: Pang et al. (2020), NeurIPS.
    """
    h = validation.scale(step, "step")
    _beside(v, x, "v")
    forward, backward = _values(score(x + h * v), x), _values(score(x - h * v), x)
    curvature = (v * (forward - backward)).sum(1) / (2 * h)
    return curvature + _half_square(_values(score(x), x))


def dsm(score: Field, x: Points, epsilon: Points, sigma: Level) -> PerPoint:
    """Denoising score matching, ½‖s(x + σε) + ε/σ‖², for Gaussian noise ε ~ N(0, I).

    σ is one number or one per point, in the units of x. Least, on average, at the score of the
    noisy data p_σ, not at that of the data; its least value is in general above zero.

    Book: eq-dsm. Reference: Vincent (2011), Neural Computation 23.
    """
    sigma = _levels(sigma, epsilon, x)
    x_noisy = x + sigma * epsilon
    return _half_square(_values(score(x_noisy), x) + epsilon / sigma)


def ncsn(score: ConditionalField, x: Points, epsilon: Points, sigma: Level) -> PerPoint:
    """`dsm` weighted by σ² for a network told its level, ½‖σ s(x + σε, σ) + ε‖².

    Book: eq-ncsn. Reference: Song and Ermon (2019), NeurIPS.
    """
    column = _levels(sigma, epsilon, x)
    return _half_square(column * _values(score(x + column * epsilon, sigma), x) + epsilon)


def ddpm_simple(
    score: SteppedField, x: Points, epsilon: Points, t: Step, alpha_bars: Schedule
) -> PerPoint:
    """The simple loss of DDPM, ½‖√(1 − ᾱ_t) s(x_t, t) + ε‖² at x_t = √ᾱ_t x + √(1 − ᾱ_t) ε.

    With the noise prediction ε(x_t, t) = −√(1 − ᾱ_t) s(x_t, t) it is ½‖ε − ε(x_t, t)‖² (the paper
    leaves out the ½): denoising score matching at each step, weighted by 1 − ᾱ_t. t is from 1 to T.

    Book: eq-l-simple. Reference: Ho, Jain and Abbeel (2020), NeurIPS, equation 14.
    """
    _beside(epsilon, x, "epsilon")
    at = alpha_bar_at(alpha_bars, t, x)
    spread = (1 - at).sqrt()
    x_noisy = at.sqrt() * x + spread * epsilon
    return _half_square(spread * _values(score(x_noisy, t), x) + epsilon)


def slices(x: Points, *, generator: torch.Generator | None = None) -> Points:
    """One random direction v per point for `ssm`, `ssm_vr` and `ssm_fd`: independent signs.

    The law is called after Rademacher. E[vvᵀ] = I, as for the two laws below; of all laws with
    independent coordinates of mean 0 it gives the slice vᵀAv the least variance.

    Book: eq-hutchinson, eq-slice-laws. Reference: Hutchinson (1989), Communications in Statistics
    18.
    """
    v = gaussian_slices(x, generator=generator)
    return torch.where(v < 0, -1.0, 1.0).to(x)


def gaussian_slices(x: Points, *, generator: torch.Generator | None = None) -> Points:
    """One standard normal v per point, N(0, I). Book: eq-hutchinson, eq-slice-laws."""
    validation.points(x)
    generator = stream(generator, x.device)
    return torch.randn(x.shape, generator=generator, dtype=x.dtype, device=x.device)


def sphere_slices(x: Points, *, generator: torch.Generator | None = None) -> Points:
    """One v per point, even on the sphere of radius √d: of radius 1 it would have E[vvᵀ] = I/d.

    Book: eq-hutchinson, eq-slice-laws.
    """
    v = gaussian_slices(x, generator=generator)
    return v * x.shape[1] ** 0.5 / v.norm(dim=1, keepdim=True)


def _half_square(a: Points) -> PerPoint:
    """½‖a‖² of each row."""
    return (a * a).sum(1) / 2


def _levels(sigma: Level, epsilon: Points, x: Points) -> Float[Tensor, "..."]:
    """σ as a column beside x, once x, ε and σ are known to fit."""
    _beside(epsilon, x, "epsilon")
    return validation.levels(sigma, x)
