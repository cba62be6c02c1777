"""Same seed, same numbers: again in one process, in another, and on one thread or two.

With one number of threads a seed gives the same bits each time. Two threads may add up a sum in
another order than one does, so they agree to rounding: within `ROUNDING` of the largest number for
what is computed in a few steps, and `DRIFT` where many steps have carried rounding on. The
integer draws, and data, are the same bits on any number of threads.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from sbm_lite import data, densities, experiments, losses, networks, noise, samplers, training
from sbm_lite import variance as target
from sbm_lite.experiments import base, images, toys
from sbm_lite.runtime import generator

ROUNDING, DRIFT = 1e-5, 1e-4
P = densities.two_modes()
BARS = noise.alpha_bars(noise.linear_betas(20, 0.01, 0.5))
SEED, ROOT = 7, Path(__file__).parents[1]


def start(rng, n=20_000):
    """Enough points for two threads to share: torch parts 32,768 numbers and more."""
    return 4 * torch.randn(n, 2, generator=rng)


def langevin(rng):
    return samplers.langevin(P.score, start(rng), step_size=0.1, n_steps=20, generator=rng)


def langevin_path(rng):
    x, options = start(rng), dict(step_size=0.1, n_steps=5)
    return samplers.langevin_path(P.score, x, every=2, generator=rng, **options)


def mala(rng):
    return samplers.mala(P.log_prob, start(rng), step_size=0.5, n_steps=10, generator=rng).x


def annealed_langevin(rng):
    levels = toys.exact_levels()
    options = dict(step_size=0.1, n_steps=2, generator=rng)
    return samplers.annealed_langevin(levels, start(rng), toys.LADDER, **options)


def ancestral(rng):
    return samplers.ancestral(lambda x, t: -x, start(rng), BARS, generator=rng)


def ddim(rng):
    return samplers.ddim(lambda x, t: -x, start(rng), BARS)


def mlp(rng):
    return networks.ScoreMLP(2, generator=rng)(start(rng, 4_000)).detach()


def divergence(rng):
    return losses.ism(networks.ScoreMLP(2, depth=3, generator=rng), start(rng, 500)).detach()


def unet(rng):
    net = networks.UNet(generator=rng)
    torch.nn.init.uniform_(net.leave[-1].weight, -0.1, 0.1, generator=rng)
    x = torch.randn(64, 64, generator=rng)
    return net(x, torch.arange(64)).detach()


def trained(rng):
    """The loss curve of a short training and where it ends."""
    net = networks.ScoreMLP(2, generator=rng)
    loss = lambda s, x: losses.ssm_vr(s, x, losses.slices(x, generator=rng))  # noqa: E731
    batches = training.draws(P, 512, generator=rng)
    curve = training.fit(net, loss, batches, n_steps=40, lr=1e-3)
    return torch.cat([curve, *(p.detach().flatten() for p in net.parameters())])


def trained_images(rng):
    """A few steps of DDPM with the U-Net on digits."""
    net = base.DdpmScore(base.unet("digits", rng), base.ALPHA_BARS)
    batches = training.minibatches(images.halves(data.digits())[0], 32, generator=rng)
    return training.fit(net, toys.ddpm_loss(rng), batches, n_steps=5, lr=2e-3)


def gradients(rng):
    x = start(rng, 200)
    net = networks.ScoreMLP(2, 32, generator=rng)
    return target.per_sample_gradients(net, losses.dsm, x, torch.ones_like(x), 0.5)


def shipped(rng):
    return experiments.pretrained("ncsn_two_modes")(start(rng, 4_000), 0.5)


def draws(rng):
    roll, ring = densities.swiss_roll(), densities.ring()
    return torch.cat([p.sample(2_000, generator=rng) for p in (P, ring, roll, densities.Banana())])


def corrupted(rng):
    kernels = noise.Gaussian(0.5), noise.Laplace(0.5), noise.Mixture([0.3, 0.7], [0.2, 1.0])
    return torch.cat([kernel.sample(start(rng), generator=rng) for kernel in kernels])


def digits(rng):
    first, second = images.halves(data.digits(), SEED)
    return torch.cat([first, second, next(training.minibatches(first, 64, generator=rng))])


FEW = [langevin_path, ancestral, ddim, mlp, divergence, unet, gradients, shipped, draws, corrupted]
MANY = [langevin, mala, annealed_langevin, trained, trained_images]
SAME = [digits]
ALL = {f.__name__: f for f in FEW + MANY + SAME}


def numbers(name: str) -> torch.Tensor:
    """What the seed gives."""
    return ALL[name](generator(SEED)).double()


@pytest.fixture(scope="module")
def by_threads(tmp_path_factory):
    """All of it in fresh processes: on one thread, on two, and on two again."""
    folder, told = tmp_path_factory.mktemp("numbers"), []
    for run, threads in enumerate((1, 2, 2)):
        file = folder / f"{run}.pt"
        code = f"from tests import test_determinism as t; t.write({str(file)!r}, {threads})"
        env = os.environ | {"OMP_NUM_THREADS": str(threads), "SBM_LITE_PROGRESS": "0"}
        subprocess.run([sys.executable, "-c", code], check=True, env=env, cwd=ROOT)
        told.append(torch.load(file, weights_only=True))
    return told


def write(file: str, threads: int) -> None:
    """The numbers of all on a number of threads."""
    assert torch.get_num_threads() == threads
    torch.save({name: numbers(name) for name in ALL}, file)


@pytest.mark.parametrize("name", ALL)
def test_a_seed_gives_the_same_bits_again(name):
    first = numbers(name)
    assert bool(first.isfinite().all()) and torch.equal(first, numbers(name))


@pytest.mark.parametrize("name", [name for name in ALL if name != "digits"])
def test_another_seed_gives_others(name):
    assert not torch.equal(numbers(name), ALL[name](generator(SEED + 1)).double())


@pytest.mark.parametrize("name", ALL)
def test_another_process_gives_the_same_bits_on_two_threads(name, by_threads):
    _, two, again = by_threads
    assert torch.equal(two[name], again[name])


@pytest.mark.parametrize("name", ALL)
def test_one_thread_and_two_agree(name, by_threads):
    one, two, _ = by_threads
    within = 0.0 if ALL[name] in SAME else ROUNDING if ALL[name] in FEW else DRIFT
    apart = float((one[name] - two[name]).abs().max() / one[name].abs().max())
    assert apart <= within
