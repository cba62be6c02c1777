"""What the experiments share: the networks they train, their weights, and averaging."""

import os
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from sbm_lite import data, noise, validation
from sbm_lite.networks import (
    DdpmScore,
    NoiseConditional,
    NoiseConditionalMLP,
    ScoreMLP,
    TimeMLP,
    UNet,
)
from sbm_lite.runtime import generator
from sbm_lite.training import fit, read, same_shapes

WEIGHTS = Path(__file__).parents[1] / "weights"
ALPHA_BARS = noise.alpha_bars(noise.linear_betas())  # DDPM's own schedule, T = 1,000


def unet(images: str, rng: torch.Generator | None = None) -> UNet:
    """The U-Net for a data set of `data.SHAPES`."""
    return UNet(data.SHAPES[images], width=24 if images == "digits" else 64, generator=rng)


NETWORKS = {  # name → random stream → network whose forward is the score
    "low_density": lambda rng: ScoreMLP(2, generator=rng),
    "ncsn_two_modes": lambda rng: NoiseConditionalMLP(2, generator=rng),
    "ncsn_swiss_roll": lambda rng: NoiseConditionalMLP(2, depth=3, generator=rng),
    "ddpm_two_modes": lambda rng: DdpmScore(TimeMLP(2, depth=3, generator=rng), ALPHA_BARS),
    "ncsn_digits": lambda rng: NoiseConditional(unet("digits", rng)),
    "ddpm_digits": lambda rng: DdpmScore(unet("digits", rng), ALPHA_BARS),
}


def pretrained(name: str) -> nn.Module:
    """The network that ships with the package, on the CPU, ready to be asked for scores.

    Its recipe is the experiment of that name with `seed=0`. Raises ValueError for another name.
    """
    return load(
        NETWORKS[validation.choice(name, NETWORKS, "name")](generator(0)),
        WEIGHTS / f"{name}.safetensors",
    )


def load(net: nn.Module, file: str | os.PathLike) -> nn.Module:
    """Put the weights of a file written by `save` into `net`; return it, frozen.

    Raises ValueError when the file is damaged or holds the weights of another network.
    """
    weights = read(file)
    same_shapes(file, "net", weights, net.state_dict())
    net.load_state_dict(weights)
    return net.eval().requires_grad_(False)


def save(net: nn.Module, file: str | os.PathLike, recipe: str) -> None:
    """Write the weights and the command that made them to a .safetensors file."""
    weights = {key: value.detach().cpu().contiguous() for key, value in net.state_dict().items()}
    save_file(weights, file, {"recipe": recipe, "torch": torch.__version__.split("+")[0]})


def train(net: nn.Module, loss, batches, *, n_steps: int, lr: float, **checkpoint):
    """Fit `net` on a falling learning rate; return the average of its weights, and the curve.

    The average is exponential with decay 0.999, as samplers like it; it is frozen. `checkpoint` and
    `generator` are those of `fit`.
    """
    average = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(0.999))
    curve = fit(
        net, loss, batches, n_steps=n_steps, lr=lr, cosine=True, average=average, **checkpoint
    )
    return average.module.eval().requires_grad_(False), curve
