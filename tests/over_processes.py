"""What `test_distributed.py` starts by torchrun, and runs once more in its own process.

torchrun --standalone --nproc-per-node 2 tests/over_processes.py FOLDER
"""

import sys
from contextlib import suppress
from functools import partial
from pathlib import Path

import torch

from sbm_lite import data, distributed, losses, networks
from sbm_lite.experiments import base, images, toys
from sbm_lite.runtime import generator
from sbm_lite.training import draws, fit, minibatches


def unet(n=64, file=None, seed=0, dtype=torch.float64, level=toys.ncsn_loss):
    """A small U-Net trained on digits for 20 steps: its losses and weights."""
    rng = generator(seed)
    of_steps = level is toys.ddpm_loss
    loss = level(rng) if of_steps else level(0.01, 10.0, rng)
    wrap = told_its_step if of_steps else base.NoiseConditional
    net = wrap(networks.UNet((1, 8, 8), 8, generator=rng)).to(dtype)
    batches = minibatches(data.digits().to(dtype), n, generator=rng)
    kept = {"checkpoint": file, "generator": rng, "save_every": 10}
    _, curve = base.train(net, loss, batches, n_steps=20, lr=2e-3, **kept)
    return curve, torch.cat([p.detach().flatten() for p in net.parameters()])


def cut_at_ten(file):
    """The same, ended by the keyboard after the checkpoint of the tenth step."""

    def level(last, first, rng):
        loss, calls = toys.ncsn_loss(last, first, rng), iter(range(10**6))
        return lambda score, x: loss(score, x) if next(calls) < 10 else stopped()

    def stopped():
        raise KeyboardInterrupt

    with suppress(KeyboardInterrupt):
        unet(file=file, level=level)


def told_its_step(net):
    return base.DdpmScore(net, base.ALPHA_BARS)


def several_slices():
    """Three values per point, and one level for all."""
    rng = generator(2)
    net = networks.NoiseConditionalMLP(2, generator=rng).double()

    def loss(score, x):
        epsilon = torch.randn(3 * len(x), 2, generator=rng, dtype=x.dtype)
        return losses.ncsn(score, x.repeat(3, 1), epsilon, torch.tensor(0.5))

    batches = (x.double() for x in draws(toys.MODES, 7, generator=rng))
    return fit(net, loss, batches, n_steps=20), net.body[0].weight.detach()


def spoilt(step=7):
    """What is said of a loss that is NaN in one row of one batch."""
    calls = iter(range(10**6))
    net = networks.ScoreMLP(2, generator=generator(0))

    def loss(score, x):
        values = losses.dsm(score, x, x, 0.5)
        if next(calls) == step:
            values[-1] = torch.nan
        return values

    try:
        fit(net, loss, draws(toys.MODES, 8, generator=generator(1)), n_steps=60)
    except FloatingPointError as error:
        return str(error)


def too_few():
    """What is said of a batch of one."""
    net = networks.ScoreMLP(2, generator=generator(0))
    loss = lambda score, x: losses.dsm(score, x, x, 0.5)  # noqa: E731
    try:
        fit(net, loss, draws(toys.MODES, 1, generator=generator(1)), n_steps=2)
    except ValueError as error:
        return str(error)


def chains(n=1_001):
    """n standard normal points, dealt out; and the next number of the stream that all share."""
    rng = generator(3)
    x = distributed.chains(lambda n, rng: torch.randn(n, 2, generator=rng), n, rng)
    return x, torch.rand(1, generator=rng)


def digits(folder):
    """`run ddpm_digits` of a few steps and two calls a sample."""
    from sbm_lite.__main__ import main

    images.ddpm_draw = partial(images.ddpm_draw, n_calls=2)
    where = ["--device", "cpu", "--out", str(folder)]
    assert main(["run", "ddpm_digits", "--steps", "10", *where]) == 0


def everything(folder):
    """All of the above by this process of a group, kept in a file of its own."""
    told = {"size": distributed.size()}
    told |= {"ncsn": unet(), "odd": unet(n=7), "single": unet(dtype=torch.float32)}
    told |= {"ddpm": unet(level=toys.ddpm_loss), "slices": several_slices()}
    told |= {"longer": unet(file=folder / "ten"), "chains": chains()}
    cut_at_ten(folder / "made here")
    told |= {"spoilt": spoilt(), "too few": too_few()}
    told |= {"first": distributed.told_by_first(lambda: str(distributed.rank()).encode())}
    told |= {"loaded": distributed.after_first(lambda: torch.ones(2))}
    torch.save(told, folder / f"{distributed.rank()}.pt")


def main(folder: Path) -> None:
    """The command line, which joins the group; `everything` before the experiment begins."""
    train = images.ddpm_images

    def after_everything(*arguments):
        everything(folder)
        return train(*arguments)

    images.ddpm_images = after_everything
    digits(folder / "out")
    assert distributed.size() == 1 and distributed.rank() == 0


if __name__ == "__main__":
    main(Path(sys.argv[1]))
