"""Networks whose forward pass returns a score, whatever they were built to predict.

Losses and samplers never ask what is inside: a vector field, an energy, a noise predictor and a
denoiser all come out as s(x), or s(x, σ) for those told their noise level.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils import skip_init

from sbm_lite import noise, validation
from sbm_lite.calculus import value_and_pull_back
from sbm_lite.runtime import generator as fresh_generator

Points = Float[Tensor, "n d"]
Level = float | Float[Tensor, ""] | Float[Tensor, " n"]


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
    generator = generator or fresh_generator()
    sizes = [validation.count(n_in, "n_in")]
    sizes += [validation.count(width, "width")] * validation.count(depth, "depth")
    layers: list[nn.Module] = []
    for a, b in zip(sizes, sizes[1:], strict=False):
        layers += [_linear(a, b, generator), nn.Softplus()]
    return nn.Sequential(*layers, _linear(width, validation.count(n_out, "n_out"), generator))


class ScoreMLP(nn.Module):
    """A free vector field (n, d) → (n, d); its Jacobian need not be symmetric. d = `dim`.

    Reference: Song and Ermon (2019), appendix B.1: 128 units, softplus.
    """

    def __init__(
        self,
        dim: int,
        width: int = 128,
        depth: int = 2,
        *,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        self.body = mlp(dim, dim, width=width, depth=depth, generator=generator)

    def forward(self, x: Points) -> Points:
        return self.body(x)


class NoiseConditionalMLP(nn.Module):
    """A vector field that is told its noise level, (x, σ) → s(x, σ).

    The body sees x in units of √(1 + σ²) and log σ, and its output is divided by σ, since a target
    −ε/σ has that size; its target is then of order 1 at every level.

    Reference: Song and Ermon (2020), NeurIPS, technique 3.
    """

    def __init__(
        self,
        dim: int,
        width: int = 128,
        depth: int = 2,
        *,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        self.body = mlp(dim + 1, dim, width=width, depth=depth, generator=generator)

    def forward(self, x: Points, sigma: Level) -> Points:
        sigma = validation.levels(sigma, x).expand(len(x), 1)
        seen = torch.cat([x / (1 + sigma**2).sqrt(), sigma.log()], dim=1)
        return self.body(seen) / sigma


class EnergyScore(nn.Module):
    """s(x) = −∇E(x) of a network E that gives one number per point, (n, d) → (n,) or (n, 1).

    Its Jacobian is symmetric, so the score has no curl. Book: eq-score-without-z.
    """

    def __init__(self, energy: nn.Module):
        super().__init__()
        self.energy = energy

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
        self.epsilon = epsilon

    def forward(self, x: Points, sigma: Level) -> Points:
        return -self.epsilon(x, sigma) / validation.levels(sigma, x)


class DenoiserScore(nn.Module):
    """s(x, σ) = (D(x, σ) − x)/σ² of a network D that removes Gaussian noise. Book: eq-tweedie."""

    def __init__(self, denoiser: nn.Module):
        super().__init__()
        self.denoiser = denoiser

    def forward(self, x: Points, sigma: Level) -> Points:
        return noise.score_from_denoised(x, self.denoiser(x, sigma), sigma)


def _linear(n_in: int, n_out: int, generator: torch.Generator) -> nn.Linear:
    """A linear layer with weights and biases uniform within ±1/√n_in."""
    layer = skip_init(nn.Linear, n_in, n_out, device=generator.device)
    for parameter in layer.parameters():
        nn.init.uniform_(parameter, -(n_in**-0.5), n_in**-0.5, generator=generator)
    return layer
