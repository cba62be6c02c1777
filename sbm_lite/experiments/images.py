"""Experiments on images: minutes on a CPU for the digits, a GPU for MNIST and CIFAR-10.

With `checkpoint`, a file, a run that was cut short goes on from there. NCSN and DDPM also train
over the processes of `torchrun`.
"""

import os
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sbm_lite import data, diagnostics, distributed, noise, runtime, samplers, validation
from sbm_lite.experiments import base, toys
from sbm_lite.training import minibatches

Points = Float[Tensor, "n d"]
File = str | os.PathLike | None


class Images(NamedTuple):
    """A network trained on one half of the images, what it makes, and the other half.

    Pixels are in [−1, 1]; `shape` is (channels, height, width) of an image.
    """

    net: nn.Module
    curve: Float[Tensor, " t"]
    samples: Points
    train: Points
    held_out: Points
    shape: tuple[int, int, int]

    def nearest(self, x: Points) -> Points:
        """For each image, the most similar one the network was trained on."""
        return self.train[diagnostics.nearest(x, self.train)]

    def numbers(self) -> dict[str, float]:
        n = min(1_000, *(len(x) for x in (self.samples, self.train, self.held_out)))
        samples, train, held_out = (x[:n] for x in (self.samples, self.train, self.held_out))
        to_train = lambda x: float((x - self.nearest(x)).norm(dim=1).mean())  # noqa: E731
        return {
            "Wasserstein distance, samples to held-out images": diagnostics.wasserstein(
                samples, held_out
            ),
            "Wasserstein distance, training to held-out images": diagnostics.wasserstein(
                train, held_out
            ),
            "distance to the nearest training image, samples": to_train(samples),
            "distance to the nearest training image, held-out images": to_train(held_out),
        }

    def picture(self):
        from sbm_lite.experiments import pictures

        return pictures.images(self)


def ncsn_digits(
    *, device: str = "auto", seed: int = 0, n_steps: int = 5_000, checkpoint: File = None
) -> Images:
    """NCSN with the small U-Net on half of the 8 × 8 digits: σ from 10 to 0.01.

    Reference: Song and Ermon (2019), NeurIPS, section 5.
    """
    return ncsn_images("digits", device, seed, n_steps, checkpoint)


def ncsn_mnist(
    *, device: str = "auto", seed: int = 0, n_steps: int = 20_000, checkpoint: File = None
) -> Images:
    """As `ncsn_digits`, on MNIST (28 × 28): for a GPU."""
    return ncsn_images("mnist", device, seed, n_steps, checkpoint)


def ncsn_cifar10(
    *, device: str = "auto", seed: int = 0, n_steps: int = 50_000, checkpoint: File = None
) -> Images:
    """As `ncsn_digits`, on CIFAR-10 (32 × 32, colour): for a GPU."""
    return ncsn_images("cifar10", device, seed, n_steps, checkpoint)


def ddpm_digits(
    *, device: str = "auto", seed: int = 0, n_steps: int = 5_000, checkpoint: File = None
) -> Images:
    """DDPM with the small U-Net on half of the 8 × 8 digits, T = 1,000.

    Reference: Ho, Jain and Abbeel (2020), NeurIPS, section 4.
    """
    return ddpm_images("digits", device, seed, n_steps, checkpoint)


def ddpm_mnist(
    *, device: str = "auto", seed: int = 0, n_steps: int = 20_000, checkpoint: File = None
) -> Images:
    """As `ddpm_digits`, on MNIST (28 × 28): for a GPU."""
    return ddpm_images("mnist", device, seed, n_steps, checkpoint)


def ddpm_cifar10(
    *, device: str = "auto", seed: int = 0, n_steps: int = 50_000, checkpoint: File = None
) -> Images:
    """As `ddpm_digits`, on CIFAR-10 (32 × 32, colour): for a GPU."""
    return ddpm_images("cifar10", device, seed, n_steps, checkpoint)


def manifold_cifar10(
    *, device: str = "auto", seed: int = 0, n_steps: int = 50_000, checkpoint: File = None
):
    """Toy figure 1 on CIFAR-10, as published but for a U-Net in place of the ResNet: for a GPU."""
    return toys.manifold_of(data.cifar10, _told_nothing, device, seed, n_steps, checkpoint)


def halves(pixels: Float[Tensor, "n d"], seed: int = 0) -> tuple[Points, Points]:
    """The images in [−1, 1], shuffled with `seed` and cut in two: to train on, and held out."""
    order = torch.randperm(len(pixels), generator=runtime.generator(seed))
    first, second = (2 * pixels - 1)[order].chunk(2)
    return first, second


def ncsn_images(
    images: str, device: str, seed: int, n_steps: int, checkpoint: File = None
) -> Images:
    """Train an NCSN on half of these images; draw as many as are held out, at most 1,000."""
    loss = partial(toys.ncsn_loss, 0.01, 10.0)
    return _on_half(
        images, device, seed, n_steps, checkpoint, base.NoiseConditional, loss, ncsn_draw
    )


def ncsn_draw(net: nn.Module, n: int, dim: int, rng: torch.Generator) -> Points:
    """n images by 24 levels of 10 Langevin steps, σ from 10 to 0.05, and one denoising step."""
    start = 10 * torch.randn(n, dim, generator=rng, device=rng.device)
    sigmas = noise.geometric_sigmas(10, 0.05, 24)
    settings = {"step_size": 0.4 * 0.05**2, "n_steps": 10, "generator": rng}
    x = samplers.annealed_langevin(net, start, sigmas, **settings)
    return noise.denoised_from_score(x, net(x, 0.05), 0.05)


def ddpm_images(
    images: str, device: str, seed: int, n_steps: int, checkpoint: File = None
) -> Images:
    """Train a DDPM on half of these images; draw as many as are held out, at most 1,000."""
    score = partial(base.DdpmScore, alpha_bars=base.ALPHA_BARS)
    return _on_half(images, device, seed, n_steps, checkpoint, score, toys.ddpm_loss, ddpm_draw)


def ddpm_draw(net: nn.Module, n: int, dim: int, rng: torch.Generator, n_calls: int = 250) -> Points:
    """n images by ancestral sampling with `n_calls` of the 1,000 steps."""
    start = torch.randn(n, dim, generator=rng, device=rng.device)
    times = torch.linspace(len(base.ALPHA_BARS), 1, n_calls).round().long()
    return samplers.ancestral(net, start, base.ALPHA_BARS, times=times, generator=rng)


def _on_half(
    images: str, device: str, seed: int, n_steps: int, checkpoint: File, score, loss, draw
) -> Images:
    """Train `score` of the U-Net by `loss(rng)` on half of the pixels; sample it by `draw`."""
    rng = runtime.generator(seed, runtime.device(device))
    validation.count(n_steps, "n_steps")  # before anything is fetched
    train, held_out = halves(distributed.after_first(getattr(data, images)), seed)
    net = score(base.unet(images, rng)).to(rng.device)
    batches = minibatches(train.to(rng.device), 64, generator=rng)
    net, curve = base.train(
        net, loss(rng), batches, n_steps=n_steps, lr=2e-3, checkpoint=checkpoint, generator=rng
    )
    draw_some = lambda n, rng: draw(net, n, train.shape[1], rng)  # noqa: E731
    samples = distributed.chains(draw_some, min(1_000, len(held_out)), rng)
    shape = data.SHAPES[images]
    return Images(net.cpu(), curve, samples.cpu(), train, held_out, shape)


def _told_nothing(dim: int, generator: torch.Generator) -> nn.Module:
    """The U-Net for CIFAR-10 as a score without a level: always told 0."""
    return _Untold(base.unet("cifar10", generator)).to(generator.device)


class _Untold(nn.Module):
    """A body told a number, told nothing."""

    def __init__(self, body: nn.Module):
        super().__init__()
        self.body = body

    def forward(self, x: Points) -> Points:
        return self.body(x, torch.zeros(len(x), device=x.device))
