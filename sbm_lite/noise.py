"""How data are corrupted: noise kernels q(x̃ | x), ladders of them, and the names of one score.

A kernel is drawn from with `sample` and differentiated with `target_score`, the regression target
of denoising score matching. `Gaussian` is the usual one; `Laplace` and `Mixture` show that it need
not be. All the rest is for Gaussian noise, in two coordinate systems:

    coordinates                   a noisy point                 the noise is counted by
    variance exploding (NCSN)     x̃ = x + σε                    levels σ₁ > … > σ_L
    variance preserving (DDPM)    x_t = √ᾱ_t x + √(1 − ᾱ_t) ε   steps t = 1 … T; ᾱ_t is entry t − 1

They are one process: x_t/√ᾱ_t is an x̃ with σ² = (1 − ᾱ_t)/ᾱ_t.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sbm_lite import validation
from sbm_lite.runtime import stream

Points = Float[Tensor, "n d"]
PerPoint = Float[Tensor, " n"]
Level = float | Float[Tensor, ""] | Float[Tensor, " n"]
Step = int | Int[Tensor, ""] | Int[Tensor, " n"]
Schedule = Float[Tensor, " t"]


class Kernel(ABC):
    """Additive noise x̃ = x + u, u of a density symmetric about 0. Book: eq-corruption."""

    @abstractmethod
    def sample(self, x: Points, *, generator: torch.Generator | None = None) -> Points:
        """One x̃ for each x, in x's dtype and on its device."""

    @abstractmethod
    def log_prob(self, x_noisy: Points, x: Points) -> PerPoint:
        """log q(x̃ | x), in nats."""

    @abstractmethod
    def target_score(self, x_noisy: Points, x: Points) -> Points:
        """t(x̃, x) = ∇_x̃ log q(x̃ | x); its mean given x̃ is the score of the noisy data.

        Book: eq-dsm-target. Reference: Vincent (2011), Neural Computation 23.
        """


class Gaussian(Kernel):
    """u ~ N(0, σ²I). The target is −ε/σ with u = σε: back towards x. σ = `sigma` > 0."""

    def __init__(self, sigma: float):
        self.sigma = validation.scale(sigma, "sigma")

    def sample(self, x: Points, *, generator: torch.Generator | None = None) -> Points:
        return x + self.sigma * _normals(x, generator)

    def log_prob(self, x_noisy: Points, x: Points) -> PerPoint:
        return _log_gaussian(_offset(x_noisy, x), self.sigma)

    def target_score(self, x_noisy: Points, x: Points) -> Points:
        return -_offset(x_noisy, x) / self.sigma**2


class Laplace(Kernel):
    """Independent coordinates u with density e^(−|u|/b)/2b, b = `scale` > 0.

    The target −sign(u)/b has one length, √d/b, wherever x̃ is. Book: eq-laplace-target.
    """

    def __init__(self, scale: float):
        self.scale = validation.scale(scale, "scale")

    def sample(self, x: Points, *, generator: torch.Generator | None = None) -> Points:
        # The difference of two exponentials is a Laplace variable.
        ones = torch.ones(2, *validation.points(x).shape, dtype=x.dtype, device=x.device)
        first, second = ones.exponential_(generator=stream(generator, x.device))
        return x + self.scale * (first - second)

    def log_prob(self, x_noisy: Points, x: Points) -> PerPoint:
        u = _offset(x_noisy, x)
        return -u.abs().sum(1) / self.scale - u.shape[1] * math.log(2 * self.scale)

    def target_score(self, x_noisy: Points, x: Points) -> Points:
        return -_offset(x_noisy, x).sign() / self.scale


class Mixture(Kernel):
    """u ~ Σₖ wₖ N(0, σₖ²I): now a small blow, now a large one. `weights` and `sigmas` are (K,).

    The target is −Σₖ rₖ(u) u/σₖ², rₖ the responsibilities. Book: eq-mixture-target.
    """

    def __init__(self, weights, sigmas):
        self.weights = validation.weights(validation.numbers(weights, "weights"))
        self.sigmas = validation.numbers(sigmas, "sigmas")
        fit = self.sigmas.shape == self.weights.shape
        if not (fit and bool((self.sigmas > 0).all() and self.sigmas.isfinite().all())):
            raise ValueError(
                f"sigmas must be {len(self.weights)} finite numbers > 0, got {self.sigmas.tolist()}"
            )
        for sigma in self.sigmas:
            validation.scale(float(sigma), "sigmas")

    def sample(self, x: Points, *, generator: torch.Generator | None = None) -> Points:
        validation.points(x)
        generator = stream(generator, x.device)
        weights, sigmas = self.weights.to(x), self.sigmas.to(x)
        k = torch.multinomial(weights, len(x), replacement=True, generator=generator)
        return x + sigmas[k, None] * _normals(x, generator)

    def log_prob(self, x_noisy: Points, x: Points) -> PerPoint:
        return self._log_joint(_offset(x_noisy, x)).logsumexp(0)

    def target_score(self, x_noisy: Points, x: Points) -> Points:
        u = _offset(x_noisy, x)
        responsibilities = self._log_joint(u).softmax(0)
        precisions = self.sigmas.to(u)[:, None] ** -2
        return -(responsibilities * precisions).sum(0)[:, None] * u

    def _log_joint(self, u: Points) -> Float[Tensor, "k n"]:
        """log wₖ N(u; 0, σₖ²I)."""
        return torch.stack(
            [w.log() + _log_gaussian(u, s) for w, s in zip(self.weights, self.sigmas, strict=True)]
        )


def score_from_epsilon(epsilon: Points, sigma: Level) -> Points:
    """s = −ε/σ for Gaussian noise: the score, given ε = E[ε | x̃]. Book: eq-score-epsilon."""
    return -validation.points(epsilon, "epsilon") / validation.levels(sigma, epsilon)


def epsilon_from_score(s: Points, sigma: Level) -> Points:
    """ε = −σ s for Gaussian noise: E[ε | x̃], given the score. Book: eq-score-epsilon."""
    return -validation.points(s, "s") * validation.levels(sigma, s)


def score_from_denoised(x: Points, denoised: Points, sigma: Level) -> Points:
    """s = (E[x | x̃] − x̃)/σ² for Gaussian noise, at the noisy points `x`.

    Book: eq-tweedie. Reference: Robbins (1956); Efron (2011), JASA 106.
    """
    _beside(denoised, x, "denoised")
    return (denoised - x) / validation.levels(sigma, x) ** 2


def denoised_from_score(x: Points, s: Points, sigma: Level) -> Points:
    """E[x | x̃] = x̃ + σ² s for Gaussian noise, at the noisy points `x`, s the noisy data's score.

    Book: eq-tweedie. Reference: Robbins (1956); Efron (2011), JASA 106.
    """
    _beside(s, x, "s")
    return x + validation.levels(sigma, x) ** 2 * s


def geometric_sigmas(first: float, last: float, n: int) -> Float[Tensor, " n"]:
    """n noise levels from `first` down to `last`, each the same fraction of the one before.

    float64. Book: eq-geometric-ladder. Reference: Song and Ermon (2019), NeurIPS.
    """
    high, low = validation.scale(first, "first"), validation.scale(last, "last")
    if validation.count(n, "n") < 2 or low >= high:
        raise ValueError(f"a ladder needs n >= 2 and last < first, got n = {n}, {first} to {last}")
    return high * (low / high) ** torch.linspace(0, 1, n, dtype=torch.float64)


def linear_betas(n: int = 1000, first: float = 1e-4, last: float = 0.02) -> Schedule:
    """β_1 … β_T of DDPM, evenly spaced, float64; with other n than 1,000 look at ᾱ_T first.

    Reference: Ho, Jain and Abbeel (2020), NeurIPS, section 4.
    """
    for name, beta in (("first", first), ("last", last)):
        if validation.scale(beta, name) >= 1:
            raise ValueError(f"{name} must be below 1, got {beta}")
    return torch.linspace(first, last, validation.count(n, "n"), dtype=torch.float64)


def cosine_betas(n: int = 1000) -> Schedule:
    """β_1 … β_T for which ᾱ falls along a squared cosine, at most 0.999, float64.

    Reference: Nichol and Dhariwal (2021), ICML, equation 17.
    """
    t = torch.arange(validation.count(n, "n") + 1, dtype=torch.float64) / n
    falling = ((t + 0.008) / 1.008 * math.pi / 2).cos() ** 2
    return (1 - falling[1:] / falling[:-1]).clamp(max=0.999)


def alpha_bars(betas: Schedule) -> Schedule:
    """ᾱ_t = Π_{i ≤ t} (1 − β_i), the share of the signal's power left after t steps.

    Book: eq-alpha-bar. Reference: Ho, Jain and Abbeel (2020), NeurIPS.
    """
    validation.floats(betas, "betas", "(T,)")
    if betas.ndim != 1 or len(betas) == 0 or not bool(((betas > 0) & (betas < 1)).all()):
        raise ValueError("betas must have shape (T,) and lie within (0, 1)")
    return (1 - betas).cumprod(0)


def alpha_bar_at(alpha_bars: Schedule, t: Step, x: Points) -> Float[Tensor, "..."]:
    """ᾱ_t beside x: a scalar for one step t, a column (n, 1) for one per point; t from 1 to T."""
    return _bar_at(validation.alpha_bars(alpha_bars), t, validation.rows(x))


def _bar_at(alpha_bars: Schedule, t: Step, x: Points) -> Float[Tensor, "..."]:
    """`alpha_bar_at` of a schedule that is known to be one."""
    t = validation.steps(t, len(alpha_bars), x)
    at = alpha_bars.to(x)[t - 1]
    return at[:, None] if at.ndim else at


def sigma_from_alpha_bar(alpha_bar: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
    """σ = √((1 − ᾱ)/ᾱ): the noise in x_t/√ᾱ_t. Book: eq-ve-vp."""
    validation.finite(validation.floats(alpha_bar, "alpha_bar", "(*s)"), "alpha_bar")
    if not bool(((alpha_bar > 0) & (alpha_bar < 1)).all()):
        raise ValueError("alpha_bar must be within (0, 1)")
    return _sigma(alpha_bar)


def _sigma(alpha_bar: Tensor) -> Tensor:
    """√((1 − ᾱ)/ᾱ), unchecked."""
    return ((1 - alpha_bar) / alpha_bar).sqrt()


def alpha_bar_from_sigma(sigma: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
    """ᾱ = 1/(1 + σ²), the inverse of `sigma_from_alpha_bar`. Book: eq-ve-vp."""
    validation.finite(validation.floats(sigma, "sigma", "(*s)"), "sigma")
    if not bool((sigma > 0).all()):
        raise ValueError("sigma must be > 0 everywhere")
    return 1 / (1 + sigma**2)


def ve_score(score: Callable[[Points, Step], Points], alpha_bars: Schedule):
    """A DDPM score s(x, t) as one of noise levels, (x, σ) → √ᾱ s(√ᾱ x, t).

    t is the step of `alpha_bars` whose σ is nearest on a log scale. Book: eq-ve-vp.
    """
    validation.function(score, "score")
    log_sigmas = sigma_from_alpha_bar(validation.alpha_bars(alpha_bars)).log()

    def ve(x: Points, sigma: Level) -> Points:
        log_sigma = validation.levels(sigma, validation.rows(x)).log().reshape(-1, 1)
        t = (log_sigmas.to(x) - log_sigma).abs().argmin(1).expand(len(x)) + 1
        root = _bar_at(alpha_bars, t, x).sqrt()
        return root * _values(score(root * x, t), x)

    return ve


def vp_score(score: Callable[[Points, Level], Points], alpha_bars: Schedule):
    """A score of noise levels s(x, σ) as one of DDPM, (x, t) → s(x/√ᾱ_t, σ_t)/√ᾱ_t.

    Book: eq-ve-vp.
    """
    validation.function(score, "score"), validation.alpha_bars(alpha_bars)

    def vp(x: Points, t: Step) -> Points:
        at = _bar_at(alpha_bars, t, validation.rows(x))
        s = score(x / at.sqrt(), _sigma(at).flatten().expand(len(x)))
        return _values(s, x) / at.sqrt()

    return vp


def v_from_epsilon(x: Points, epsilon: Points, alpha_bar: Level) -> Points:
    """v = √ᾱ ε − √(1 − ᾱ) x₀ at the noisy points x = x_t, where x₀ = (x − √(1 − ᾱ) ε)/√ᾱ.

    Book: eq-v. Reference: Salimans and Ho (2022), ICLR.
    """
    _beside(epsilon, x, "epsilon")
    at = _alpha_bar(alpha_bar, x)
    return (epsilon - (1 - at).sqrt() * x) / at.sqrt()


def epsilon_from_v(x: Points, v: Points, alpha_bar: Level) -> Points:
    """ε = √ᾱ v + √(1 − ᾱ) x, the inverse of `v_from_epsilon`. Book: eq-v."""
    _beside(v, x, "v")
    at = _alpha_bar(alpha_bar, x)
    return at.sqrt() * v + (1 - at).sqrt() * x


def _alpha_bar(value: Level, x: Points) -> Float[Tensor, "..."]:
    """ᾱ beside x, within (0, 1)."""
    at = validation.levels(value, x, "alpha_bar")
    if not bool((at < 1).all()):
        raise ValueError(f"alpha_bar must be below 1, got {float(at.max())}")
    return at


def _values(s: Tensor, x: Points) -> Points:
    """`s` if a score field returned one vector per point."""
    validation.same_shape(s, x, "score(x) and x")
    return s


def _beside(a: Points, x: Points, name: str) -> None:
    """Raise unless x are points and `a` has one finite vector for each."""
    validation.same_shape(validation.points(a, name), validation.points(x), f"{name} and x")


def _normals(x: Points, generator: torch.Generator | None) -> Points:
    """Standard normal noise like x."""
    validation.points(x)
    generator = stream(generator, x.device)
    return torch.randn(x.shape, generator=generator, dtype=x.dtype, device=x.device)


def _offset(x_noisy: Points, x: Points) -> Points:
    """x̃ − x, once the two are known to fit."""
    _beside(x_noisy, x, "x_noisy")
    return x_noisy - x


def _log_gaussian(u: Points, sigma) -> PerPoint:
    """log N(u; 0, σ²I)."""
    log_volume = u.shape[1] * math.log(2 * math.pi * float(sigma) ** 2) / 2
    return -(u**2).sum(1) / (2 * float(sigma) ** 2) - log_volume
