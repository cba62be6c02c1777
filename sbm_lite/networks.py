"""Networks whose forward pass returns a score, whatever they were built to predict.

Losses and samplers never ask what is inside: a vector field, an energy, a noise predictor and a
denoiser all come out as s(x), as s(x, σ) when told their noise level, or as s(x, t) when told their
step of DDPM. `TimeMLP` and `UNet` are the bodies that two wrappers, `NoiseConditional` and
`DdpmScore`, turn into scores.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import skip_init

from sbm_lite import noise, validation
from sbm_lite.calculus import value_and_divergence, value_and_pull_back
from sbm_lite.runtime import stream

Points = Float[Tensor, "n d"]
PerPoint = Float[Tensor, " n"]
Level = float | Float[Tensor, ""] | Float[Tensor, " n"]
Step = noise.Step


def mlp(
    n_in: int,
    n_out: int,
    *,
    width: int = 128,
    depth: int = 2,
    generator: torch.Generator | None = None,
) -> nn.Sequential:
    """`depth` hidden layers of `width` softplus units between n_in and n_out numbers.

    Softplus, because score matching differentiates twice. Weights are drawn as PyTorch does,
    uniform within ±1/√(inputs), but from `generator`.
    """
    generator = stream(generator)
    sizes = [validation.count(n_in, "n_in")]
    sizes += [validation.count(width, "width")] * validation.count(depth, "depth")
    layers: list[nn.Module] = []
    for a, b in zip(sizes, sizes[1:], strict=False):
        layers += [_linear(a, b, generator), nn.Softplus()]
    return nn.Sequential(*layers, _linear(width, validation.count(n_out, "n_out"), generator))


class _MLP(nn.Module):
    """A vector field with an `mlp` inside, which sees x and `told` more numbers. d = `dim`."""

    told = 0

    def __init__(
        self,
        dim: int,
        width: int = 128,
        depth: int = 2,
        *,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        self.dim = validation.count(dim, "dim")
        self.body = mlp(dim + self.told, dim, width=width, depth=depth, generator=generator)

    def _seen(self, x: Points) -> Points:
        """x, if it fits the network."""
        return _fitting(validation.rows(x, dim=self.dim), self.body[0].weight)


class ScoreMLP(_MLP):
    """A free vector field (n, d) → (n, d); its Jacobian need not be symmetric. d = `dim`.

    Reference: Song and Ermon (2019), appendix B.1: 128 units, softplus.
    """

    def forward(self, x: Points) -> Points:
        return self.body(self._seen(x))

    def value_and_divergence(self, x: Points) -> tuple[Points, PerPoint]:
        """s(x) and tr ∇s(x); with two hidden layers one matrix product, however large d is.

        With the slopes of the units as diagonal matrices D₁ and D₂ the Jacobian is W₃D₂W₂D₁W₁.
        Under the trace W₁ may go to the front, where W₁W₃ is the same for all points. Any other
        depth, or other units, takes d backward passes. Book: eq-trace-of-two-layers.
        """
        two_hidden = [nn.Linear, nn.Softplus, nn.Linear, nn.Softplus, nn.Linear]
        if type(self) is not ScoreMLP or [type(layer) for layer in self.body] != two_hidden:
            return value_and_divergence(self.forward, x)
        first, _, second, _, last = self.body
        a1 = first(self._seen(x))
        a2 = second(F.softplus(a1))
        around = second.weight.T * (first.weight @ last.weight)
        trace = (a2.sigmoid() * (a1.sigmoid() @ around)).sum(1)
        return last(F.softplus(a2)), trace


class NoiseConditionalMLP(_MLP):
    """A vector field that is told its noise level, (x, σ) → s(x, σ).

    The body sees x in units of √(1 + σ²) and log σ, and its output is divided by σ, since a target
    −ε/σ has that size; its target is then of order 1 at every level.

    Reference: Song and Ermon (2020), NeurIPS, technique 3.
    """

    told = 1

    def forward(self, x: Points, sigma: Level) -> Points:
        sigma = validation.levels(sigma, self._seen(x)).expand(len(x), 1)
        seen = torch.cat([x / (1 + sigma**2).sqrt(), sigma.log()], dim=1)
        return self.body(seen) / sigma


class EnergyScore(nn.Module):
    """s(x) = −∇E(x) of a network E that gives one number per point, (n, d) → (n,) or (n, 1).

    Its Jacobian is symmetric, so the score has no curl. Book: eq-score-without-z.
    """

    def __init__(self, energy: nn.Module):
        super().__init__()
        self.energy = validation.function(energy, "energy")

    def forward(self, x: Points) -> Points:
        energies, pull_back = value_and_pull_back(self.energy, x)
        if energies.shape not in ((len(x),), (len(x), 1)):
            raise ValueError(
                f"energy(x) must have shape ({len(x)},) or ({len(x)}, 1), "
                f"got {tuple(energies.shape)}"
            )
        return pull_back(-torch.ones_like(energies))


class EpsilonScore(nn.Module):
    """s(x, σ) = −ε(x, σ)/σ of a network that predicts Gaussian noise. Book: eq-score-epsilon."""

    def __init__(self, epsilon: nn.Module):
        super().__init__()
        self.epsilon = validation.function(epsilon, "epsilon")

    def forward(self, x: Points, sigma: Level) -> Points:
        column = validation.levels(sigma, validation.rows(x))
        return -_vectors(self.epsilon(x, sigma), x, "epsilon") / column


class DenoiserScore(nn.Module):
    """s(x, σ) = (D(x, σ) − x)/σ² of a network D that removes Gaussian noise. Book: eq-tweedie."""

    def __init__(self, denoiser: nn.Module):
        super().__init__()
        self.denoiser = validation.function(denoiser, "denoiser")

    def forward(self, x: Points, sigma: Level) -> Points:
        column = validation.levels(sigma, validation.rows(x))
        return (_vectors(self.denoiser(x, sigma), x, "denoiser") - x) / column**2


class NoiseConditional(nn.Module):
    """s(x, σ) of a body told where it is: body(x/√(1 + σ²), 100 log σ)/σ, for data of unit scale.

    What `NoiseConditionalMLP` does, for any body (n, d), (n,) → (n, d) such as `UNet`.

    Reference: Song and Ermon (2020), NeurIPS, technique 3.
    """

    def __init__(self, body: nn.Module):
        super().__init__()
        self.body = validation.function(body, "body")

    def forward(self, x: Points, sigma: Level) -> Points:
        sigma = validation.levels(sigma, validation.rows(x)).expand(len(x), 1)
        made = self.body(x / (1 + sigma**2).sqrt(), 100 * sigma.log()[:, 0])
        return _vectors(made, x, "body") / sigma


class DdpmScore(nn.Module):
    """s(x, t) = −ε(x, t)/√(1 − ᾱ_t) of a network that predicts the noise of DDPM; t from 1 to T.

    `epsilon` maps (n, d) and steps of shape (n,) to (n, d).

    Book: eq-ddpm-score. Reference: Ho, Jain and Abbeel (2020), NeurIPS.
    """

    def __init__(self, epsilon: nn.Module, alpha_bars: noise.Schedule):
        super().__init__()
        self.epsilon = validation.function(epsilon, "epsilon")
        self.alpha_bars = validation.alpha_bars(alpha_bars)

    def forward(self, x: Points, t: Step) -> Points:
        at = noise._bar_at(self.alpha_bars, t, validation.rows(x))
        steps = torch.as_tensor(t, device=x.device).expand(len(x))
        return -_vectors(self.epsilon(x, steps.to(x)), x, "epsilon") / (1 - at).sqrt()


def sinusoidal(t: PerPoint, width: int) -> Float[Tensor, "n width"]:
    """cos and sin of t at `width`/2 frequencies from 1 down towards 10⁻⁴, for a network to read.

    `width` is even.

    Reference: Vaswani et al. (2017), NeurIPS, section 3.5.
    """
    if validation.floats(t, "t", "(n,)").ndim != 1:
        raise ValueError(f"t must have shape (n,), got {tuple(t.shape)}")
    if validation.count(width, "width") % 2:
        raise ValueError(f"width must be even, got {width}")
    half = width // 2
    rates = torch.exp(-math.log(1e4) * torch.arange(half, dtype=t.dtype, device=t.device) / half)
    angles = t[:, None] * rates
    return torch.cat([angles.cos(), angles.sin()], dim=1)


class TimeMLP(_MLP):
    """A vector field that is told a number, (x, t) → (n, d): an MLP on x and `sinusoidal(t)`."""

    told = 32

    def forward(self, x: Points, t: PerPoint) -> Points:
        return self.body(torch.cat([self._seen(x), sinusoidal(_times(t, x), self.told)], dim=1))


class UNet(nn.Module):
    """A small U-Net for images that is told a number, flat (n, d) and (n,) → flat (n, d).

    `shape` is (channels, height, width) of an image, height and width multiples of 4, and d their
    product; `width` is a multiple of 8. Three resolutions, one residual block each on the way down
    and up, attention between all places of the coarsest.

    Reference: Ronneberger et al. (2015), MICCAI; Ho, Jain and Abbeel (2020), appendix B.
    """

    def __init__(
        self,
        shape: tuple[int, int, int] = (1, 8, 8),
        width: int = 32,
        *,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        if not isinstance(shape, Sequence) or len(shape) != 3:
            raise ValueError(f"shape must be (channels, height, width), got {shape!r}")
        channels, height, wide = (validation.count(size, "each of shape") for size in shape)
        if height % 4 or wide % 4 or validation.count(width, "width") % 8:
            raise ValueError(
                "height and width of an image must be multiples of 4 and width one of 8, "
                f"got shape = {tuple(shape)}, width = {width}"
            )
        self.shape, self.features = tuple(shape), 2 * width
        w, told = width, 4 * width
        with torch.device("meta"):  # no weights yet: these would come from the global stream
            first, second = nn.Linear(self.features, told), nn.Linear(told, told)
            self.told = nn.Sequential(first, nn.SiLU(), second)
            self.enter = nn.Conv2d(channels, w, 3, padding=1)
            self.down = nn.ModuleList([_Block(w, w, told), _Block(w, 2 * w, told)])
            self.middle = nn.ModuleList([_Block(2 * w, 2 * w, told), _Block(2 * w, 2 * w, told)])
            self.look_around = _Attention(2 * w)
            self.up = nn.ModuleList([_Block(4 * w, w, told), _Block(2 * w, w, told)])
            last = nn.Conv2d(w, channels, 3, padding=1)
            self.leave = nn.Sequential(nn.GroupNorm(8, w), nn.SiLU(), last)
        _draw(self, stream(generator))
        nn.init.zeros_(last.weight)

    def forward(self, x: Points, t: PerPoint) -> Points:
        if validation.rows(x).shape[1] != math.prod(self.shape):
            raise ValueError(f"x must be flat images of shape {self.shape}, got {tuple(x.shape)}")
        _fitting(x, self.enter.weight)
        told = F.silu(self.told(sinusoidal(_times(t, x), self.features)))
        h, skipped = self.enter(x.reshape(-1, *self.shape)), []
        for block in self.down:
            h = block(h, told)
            skipped.append(h)
            h = F.avg_pool2d(h, 2)
        first, second = self.middle
        h = second(self.look_around(first(h, told)), told)
        for block in self.up:
            h = F.interpolate(h, scale_factor=2.0)
            h = block(torch.cat([h, skipped.pop()], dim=1), told)
        return self.leave(h).flatten(1)


def _fitting(x: Points, weight: Tensor) -> Points:
    """x, if it has the dtype and the device of a network's weights."""
    if not torch.is_autocast_enabled(x.device.type) and x.dtype != weight.dtype:
        raise TypeError(f"x must be {weight.dtype}, as the network is, got {x.dtype}")
    if x.device != weight.device:
        raise ValueError(f"x must be on {weight.device}, as the network is, got {x.device}")
    return x


def _times(t: PerPoint, x: Points) -> PerPoint:
    """One number per point, like x."""
    if validation.per_point(t, x, "t").is_complex() or t.is_meta:
        raise TypeError("t must hold real numbers, got a tensor that is complex or meta")
    return t.to(x)


def _vectors(made: Tensor, x: Points, name: str) -> Points:
    """What a network `name` made of x, if it is one vector per point."""
    validation.same_shape(made, x, f"what {name} returns and x")
    return made


class _Block(nn.Module):
    """Two 3 × 3 convolutions with a shortcut around them, shifted by what the network is told."""

    def __init__(self, n_in: int, n_out: int, told: int):
        super().__init__()
        self.first = nn.Sequential(
            nn.GroupNorm(8, n_in), nn.SiLU(), nn.Conv2d(n_in, n_out, 3, padding=1)
        )
        self.shift = nn.Linear(told, n_out)
        self.second = nn.Sequential(
            nn.GroupNorm(8, n_out), nn.SiLU(), nn.Conv2d(n_out, n_out, 3, padding=1)
        )
        self.shortcut = nn.Conv2d(n_in, n_out, 1) if n_in != n_out else nn.Identity()

    def forward(self, x, told):
        h = self.first(x) + self.shift(told)[:, :, None, None]
        return self.shortcut(x) + self.second(h)


class _Attention(nn.Module):
    """Every place looks at every other: self-attention with one head, added to its input."""

    def __init__(self, width: int):
        super().__init__()
        self.norm, self.ask = nn.GroupNorm(8, width), nn.Conv2d(width, 3 * width, 1)
        self.answer = nn.Conv2d(width, width, 1)

    def forward(self, x):
        query, key, value = self.ask(self.norm(x)).flatten(2).mT.chunk(3, dim=2)
        seen = F.scaled_dot_product_attention(query, key, value)
        return x + self.answer(seen.mT.reshape(x.shape))


def _draw(net: nn.Module, generator: torch.Generator) -> None:
    """Weights and biases of linear and convolution layers uniform within ±1/√inputs."""
    net.to_empty(device=generator.device)
    for layer in net.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            bound = layer.weight[0].numel() ** -0.5
            for parameter in layer.parameters():
                nn.init.uniform_(parameter, -bound, bound, generator=generator)
        elif isinstance(layer, nn.GroupNorm):
            layer.reset_parameters()


def _linear(n_in: int, n_out: int, generator: torch.Generator) -> nn.Linear:
    """A linear layer with weights and biases uniform within ±1/√n_in."""
    layer = skip_init(nn.Linear, n_in, n_out, device=generator.device)
    for parameter in layer.parameters():
        nn.init.uniform_(parameter, -(n_in**-0.5), n_in**-0.5, generator=generator)
    return layer
