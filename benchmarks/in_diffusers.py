"""DDPM's reverse chains by the schedulers of diffusers, whose steps count from 0."""

from collections.abc import Callable

import torch
from diffusers import DDIMScheduler, DDPMScheduler
from torch import Tensor

from sbm_lite.runtime import generator

OPTIONS = dict(clip_sample=False, prediction_type="epsilon")


def ancestral(epsilon: Callable, x: Tensor, betas: Tensor) -> Callable[[], Tensor]:
    scheduler = DDPMScheduler(
        len(betas), trained_betas=betas.numpy(), variance_type="fixed_small", **OPTIONS
    )
    return chain(scheduler, epsilon, x, generator=generator(0))


def ddim(epsilon: Callable, x: Tensor, betas: Tensor) -> Callable[[], Tensor]:
    scheduler = DDIMScheduler(len(betas), trained_betas=betas.numpy(), **OPTIONS)
    return chain(scheduler, epsilon, x)


def chain(scheduler, epsilon: Callable, x: Tensor, **options) -> Callable[[], Tensor]:
    """The loop of their documentation, over every step of the schedule."""
    scheduler.set_timesteps(len(scheduler.betas))

    @torch.no_grad()
    def run():
        y = x
        for t in scheduler.timesteps:
            guess = epsilon(y, (t + 1).expand(len(y)))
            y = scheduler.step(guess, t, y, **options).prev_sample
        return y

    return run
