"""Two processes of `torchrun` beside one, on the CPU: a step of training the U-Nets of the images.

    python -m benchmarks.processes

DDPM on made-up images, the same batch of 64 for all: one process with one thread, two with one
each (gloo between them), and one with two. Each run is a fresh start of Python, which is not
counted, nor are its first two steps. Two threads or two processes can be at most twice as fast.
"""

import math
import os
import statistics
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import torch

from benchmarks import measure
from benchmarks.measure import Table, Target
from sbm_lite import data, distributed, networks
from sbm_lite.experiments import base, toys
from sbm_lite.runtime import generator
from sbm_lite.training import fit, minibatches

ROOT = Path(__file__).parents[1]
CONTENDERS = {"one": (1, 1), "two processes": (2, 1), "two threads": (1, 2)}  # processes, threads


def unet(images: str) -> networks.UNet:
    """The network of the experiments on these images."""
    return base.unet(images, generator(0))


def step_seconds(images: str, n_steps: int) -> float:
    """Seconds of one step, by this process of a group."""
    shape, rng = data.SHAPES[images], generator(0)
    net = base.DdpmScore(unet(images), base.ALPHA_BARS)
    made_up = 2 * torch.rand(256, math.prod(shape), generator=rng) - 1
    train = partial(fit, net, toys.ddpm_loss(rng), minibatches(made_up, 64, generator=rng))
    train(n_steps=2)
    began = time.perf_counter()
    train(n_steps=n_steps)
    return (time.perf_counter() - began) / n_steps


def started(images: str, n_steps: int, processes: int, threads: int) -> float:
    """The same, by so many processes of so many threads, as they themselves find."""
    told = {"OMP_NUM_THREADS": str(threads), "SBM_LITE_PROGRESS": "0"}
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    ran = subprocess.run(
        [sys.executable, *torchrun, "-m", "benchmarks.processes", images, str(n_steps)],
        cwd=ROOT, env=os.environ | told, capture_output=True, text=True, check=True,
    )  # fmt: skip
    *found, took = ran.stdout.split()
    if found != [str(processes), str(threads)]:
        raise RuntimeError(f"{processes} processes of {threads} threads found {found}")
    return float(took)


def run(quick: bool = False) -> tuple[list[Table], list[Target]]:
    rows, others = [], [name for name in CONTENDERS if name != "one"]
    for images, n_steps in {"digits": 60, "mnist": 10}.items():
        start = partial(started, images, 2 if quick else n_steps)
        clocks = {name: partial(start, *many) for name, many in CONTENDERS.items()}
        times = measure.in_turns(clocks, 1 if quick else 5)
        alone = measure.number(statistics.median(times["one"]))
        faster = [measure.beside(times, name, "one") for name in others]
        weights = sum(p.numel() for p in unet(images).parameters())
        rows.append([images, f"{weights:,}", alone, *faster])
    head = ["images", "weights", "s a step, one thread", *others]
    return [Table("How many times as fast as one process of one thread", "", head, rows)], []


if __name__ == "__main__":
    if "TORCHELASTIC_RUN_ID" in os.environ:
        with distributed.joined("cpu"):
            took = step_seconds(sys.argv[1], int(sys.argv[2]))
            if distributed.rank() == 0:
                print(distributed.size(), torch.get_num_threads(), took)
    else:
        measure.main(run)
