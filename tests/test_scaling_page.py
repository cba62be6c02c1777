"""The page *Scaling up*: what it counts is counted again, and its code runs."""

import math
import re
import shlex
from pathlib import Path

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from sbm_lite import data, experiments, networks
from sbm_lite.__main__ import _parser
from sbm_lite.experiments import base, images, toys
from sbm_lite.runtime import generator
from sbm_lite.training import fit, minibatches

PAGE = (Path(__file__).parents[1] / "book" / "scaling.md").read_text("utf8")
NAMES = {"digits": "digits", "MNIST": "mnist", "CIFAR-10": "cifar10"}
N, STEPS = 64, {"digits": 5_000, "mnist": 20_000, "cifar10": 50_000}


def tables():
    """name of the images → the cells of its row in the two tables of numbers, as printed."""
    rows = re.findall(r"^\| (digits|MNIST|CIFAR-10) \| (.+) \|$", PAGE, flags=re.M)
    return {name: [r.split(" | ") for n, r in rows if n == name] for name in NAMES}


def costs(name):
    """Weights, operations forward and in all, and bytes kept for backward, of one step."""
    net, shapes = base.unet(name, generator(0)), FakeTensorMode()  # nothing is computed
    fake = {k: shapes.from_tensor(v) for k, v in net.state_dict(keep_vars=True).items()}
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        kept[storage._cdata] = storage
        return tensor

    with shapes, FlopCounterMode(display=False) as counter:
        told = torch.empty(N, math.prod(data.SHAPES[name])), torch.empty(N)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            out = torch.func.functional_call(net, fake, told)
        forward = counter.get_total_flops()
        out.sum().backward()
    own = {p.untyped_storage()._cdata for p in fake.values()}
    for_backward = sum(s.nbytes() for k, s in kept.items() if k not in own)
    weights = sum(p.numel() for p in net.parameters())
    return weights, forward, counter.get_total_flops(), for_backward


def printed(value, like):
    """`value` with as many digits as the text has."""
    decimals = len(like.partition(".")[2])
    return f"{value:,.{decimals}f}"


@pytest.mark.parametrize("title", NAMES)
def test_the_costs_of_a_step_are_as_counted(title):
    name = NAMES[title]
    weights, _, flops, kept = costs(name)
    cost, reach = tables()[title]
    each = [weights, flops / 1e9, 4 * weights / 1e6, kept / 1e6]
    each += [STEPS[name], STEPS[name] * flops / 1e15]
    assert cost == [printed(value, like) for value, like in zip(each, cost, strict=True)]
    per_byte = flops / (4 * weights)
    each = [per_byte] + [w / r * per_byte / 2 for r, w in machines()]
    assert reach == [printed(value, like) for value, like in zip(each, reach, strict=True)]


def machines():
    """The (operations, bytes) a second of the columns."""
    said = re.findall(r"at ([\d.]+) TFLOP/s, (\d+) GB/s", PAGE)
    assert len(said) == 3
    return [(float(r) * 1e12, float(w) * 1e9) for r, w in said]


def test_the_formulas_balance():
    """At N* the two terms are alike, but for the 1/N of the ring."""
    compute, bandwidth, flops, size = 3.0, 5.0, 7e4, 11.0
    enough = bandwidth / compute * flops / (2 * size)
    share, ring = flops / (enough * compute), 2 * size / bandwidth * (enough - 1) / enough
    assert ring / share == pytest.approx(1 - 1 / enough)
    assert r"\frac{F}{NR} + \frac{2B}{W}\,\frac{N-1}{N}" in PAGE
    assert r"N^* = \frac{W}{R}\,\frac{F}{2B}" in PAGE


def test_the_steps_and_the_batch_are_those_of_the_experiments(monkeypatch):
    seen = {}
    monkeypatch.setattr(images, "_on_half", lambda name, *a, **k: seen.setdefault(name, a[2]))
    for function in experiments.OVER_PROCESSES:
        function(device="cpu")
        name = function.__name__.partition("_")[2]
        assert seen[name] == STEPS[name] and f"`{function.__name__}`" in PAGE
    monkeypatch.undo()
    asked = []
    monkeypatch.setattr(images, "minibatches", lambda x, n, **_: asked.append(n))
    monkeypatch.setattr(base, "train", lambda *_, **__: (torch.nn.Identity(), None))
    monkeypatch.setattr(images, "ddpm_draw", lambda net, n, dim, rng: torch.zeros(n, dim))
    experiments.ddpm_digits(device="cpu")
    assert asked == [N] and "batch of 64 images" in PAGE


def test_the_sizes_and_seconds_in_the_text_follow():
    weights, forward, flops, _ = costs("cifar10")
    said = {
        r"copies of the weights .*: (\d+) MB": 5 * 4 * weights / 1e6,
        r"four of these copies, (\d+) MB": 4 * 4 * weights / 1e6,
        r"every process, (\d+) MB": 60_000 * 3072 * 4 / 1e6,
        r"MNIST in (\d+) seconds": STEPS["mnist"] * costs("mnist")[2] / 1e13,
        r"CIFAR-10 in (\d+), if": STEPS["cifar10"] * flops / 1e13,
    }
    for words, value in said.items():
        assert re.search(words, PAGE)[1] == f"{value:.0f}", words
    for name in STEPS:
        _, forward, flops, _ = costs(name)
        assert round(1_000 * 250 * forward / N / flops, -2) == 1_300


def test_the_checkpoint_has_the_size_it_says(tmp_path):
    net = networks.UNet((1, 8, 8), 24, generator=generator(0))
    loss = lambda score, x: score(x, x[:, 0])[:, 0]  # noqa: E731
    base.train(net, loss, iter(torch.zeros(1, 2, 64)), n_steps=1, lr=1e-3,
               checkpoint=tmp_path / "run")  # fmt: skip
    copies = (tmp_path / "run").stat().st_size / sum(4 * p.numel() for p in net.parameters())
    assert copies == pytest.approx(4, rel=0.03)


def test_every_command_is_one_that_the_command_line_takes():
    lines = re.findall(r"^(?:python|torchrun|\s+--rdzv).*-m sbm_lite (.+)$", PAGE, flags=re.M)
    assert len(lines) == 5
    for line in lines:
        wanted = _parser().parse_args(shlex.split(line, comments=True))
        assert wanted.name in experiments.EVERY


def test_mixed_precision_is_sixteen_bits_inside_and_single_outside():
    space = {}
    (code,) = re.findall(r"^```python\n(.+?)^```", PAGE, flags=re.M | re.S)
    exec(compile(code, "scaling.md", "exec"), space)
    curves, inside = [], set()
    for wrap in (lambda loss: loss, space["in_bfloat16"]):
        rng = generator(0)
        net = base.NoiseConditional(networks.UNet((1, 8, 8), 8, generator=rng))
        net.body.enter.register_forward_hook(lambda *seen: inside.add(seen[2].dtype))
        batches = minibatches(data.digits(), N, generator=rng)
        loss = wrap(toys.ncsn_loss(0.01, 10.0, rng))
        curves.append(fit(net, loss, batches, n_steps=60, lr=2e-3))
        assert {p.dtype for p in net.parameters()} == {torch.float32}
    single, mixed = curves
    assert inside == {torch.float32, torch.bfloat16}
    difference = ((mixed - single) / single).abs().max()
    assert 1e-6 < difference < 0.05 and "stay within 5 %" in PAGE
    assert single[-10:].mean() < 0.9 * single[:10].mean()
