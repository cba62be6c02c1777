"""Milliseconds per training step of each loss, beside other ways to write it and torchebm.

    python -m benchmarks.losses

A step is: draw noise or slices, loss forward, loss backward into the weights. Adam is left out for
all alike. Networks have two hidden layers of 128 softplus units, batches 128 points, CPU, 2
threads. torchebm differentiates an energy (n, d) → (n,), so beside it ours is given an energy of
the same width too, as `EnergyScore`; the other ways to write a loss share our vector field.

All contenders for one loss take turns, so that a busy machine slows all of them; medians over the
turns. "others' best" is the fastest other's median over our median: above 1, ours is faster.
Below, how the cost of a step grows with the dimension.
"""

import math
import statistics
import time
from collections.abc import Callable

import torch
from torch.func import jvp, vmap

from sbm_lite import losses
from sbm_lite.networks import EnergyScore, ScoreMLP, mlp
from sbm_lite.runtime import generator

try:
    import torchebm.losses
except ImportError:
    torchebm = None

BATCH, TURNS, SIGMA = 128, 31, 0.5
DIMENSIONS = (2, 10, 50)
LADDER, SMALL_BATCH, LADDER_TURNS = (64, 112, 196, 343, 600, 784), 8, 9

Step = Callable[[], torch.Tensor]  # a loss to be differentiated


def signs(x: torch.Tensor, stream: torch.Generator) -> torch.Tensor:
    return torch.randn(x.shape, generator=stream).sign()


def ours(net: torch.nn.Module, x: torch.Tensor, stream: torch.Generator) -> dict[str, Step]:
    noise = lambda: torch.randn(x.shape, generator=stream)  # noqa: E731
    return {
        "dsm": lambda: losses.dsm(net, x, noise(), SIGMA).mean(),
        "ssm": lambda: losses.ssm(net, x, signs(x, stream)).mean(),
        "ssm_vr": lambda: losses.ssm_vr(net, x, signs(x, stream)).mean(),
        "ism": lambda: losses.ism(net, x).mean(),
    }


def dsm_by_hand(net, x, epsilon):
    return ((net(x + SIGMA * epsilon) + epsilon / SIGMA) ** 2).sum(1).mean() / 2


def slices_by_double_backward(net, x, v):
    """s and ∇(v·s) by `torch.autograd.grad`, as the papers' code has it."""
    x = x.detach().requires_grad_()
    s = net(x)
    (gradient,) = torch.autograd.grad((v * s).sum(), x, create_graph=True)
    return s, (v * gradient).sum(1)


def ssm_by_hand(net, x, v):
    s, curvature = slices_by_double_backward(net, x, v)
    return (curvature + (v * s).sum(1) ** 2 / 2).mean()


def ssm_vr_by_hand(net, x, v):
    s, curvature = slices_by_double_backward(net, x, v)
    return (curvature + (s**2).sum(1) / 2).mean()


def ism_by_loop(net, x):
    """One backward pass after the other."""
    x = x.detach().requires_grad_()
    s = net(x)
    trace = sum(
        torch.autograd.grad(s[:, i].sum(), x, create_graph=True)[0][:, i] for i in range(x.shape[1])
    )
    return (trace + (s**2).sum(1) / 2).mean()


def ism_by_forward_mode(net, x):
    """All directional derivatives at once, ∂s/∂xᵢ in forward mode under vmap."""

    def along(e):
        s, slope = jvp(net, (x,), (e.expand_as(x),))
        return s, (slope * e).sum(1)

    s, diagonal = vmap(along, out_dims=(None, 0))(torch.eye(x.shape[1]))
    return (diagonal.sum(0) + (s**2).sum(1) / 2).mean()


def others(net: torch.nn.Module, x: torch.Tensor, stream: torch.Generator) -> dict[str, dict]:
    """Other ways to write each loss of a vector field."""
    noise = lambda: torch.randn(x.shape, generator=stream)  # noqa: E731
    return {
        "dsm": {"by hand, unchecked": lambda: dsm_by_hand(net, x, noise())},
        "ssm": {"double backward": lambda: ssm_by_hand(net, x, signs(x, stream))},
        "ssm_vr": {"double backward": lambda: ssm_vr_by_hand(net, x, signs(x, stream))},
        "ism": {
            "loop of backwards": lambda: ism_by_loop(net, x),
            "forward mode, vmap": lambda: ism_by_forward_mode(net, x),
        },
    }


def by_torchebm(energy: torch.nn.Module, x: torch.Tensor, stream: torch.Generator) -> dict:
    """torchebm's losses of an energy (n, d) → (n,); it has no ssm_vr."""
    if torchebm is None:
        return {}
    flat = torch.nn.Sequential(energy, torch.nn.Flatten(0))
    on_cpu = dict(model=flat, device="cpu")
    makers = {
        "dsm": torchebm.losses.DenoisingScoreMatching(noise_scale=SIGMA, **on_cpu),
        "ssm": torchebm.losses.SlicedScoreMatching(n_projections=1, **on_cpu),
        "ism": torchebm.losses.ScoreMatching(**on_cpu),
    }
    return {
        name: {"torchebm": lambda loss=loss: loss(x, generator=stream)}
        for name, loss in makers.items()
    }


def milliseconds(loss: Step, weights: list[torch.Tensor], repeats: int = 1) -> float:
    """The time of one step: forward, and backward into the weights."""
    began = time.perf_counter()
    for _ in range(repeats):
        for w in weights:
            w.grad = None
        loss().backward()
    return (time.perf_counter() - began) / repeats * 1e3


def medians(contenders: dict[str, Step], weights: list[torch.Tensor], turns: int) -> dict:
    for loss in contenders.values():
        for _ in range(3):  # warm up
            milliseconds(loss, weights)
    shortest = min(milliseconds(loss, weights) for loss in contenders.values())
    repeats = max(1, round(5 / shortest))
    times = {name: [] for name in contenders}
    for _ in range(turns):
        for name, loss in contenders.items():
            times[name].append(milliseconds(loss, weights, repeats))
    return {name: statistics.median(t) for name, t in times.items()}


def agree(contenders: dict[str, Step], stream: torch.Generator) -> bool:
    """Whether all give the same loss for the same noise."""
    values = [(stream.manual_seed(1), loss())[1].item() for loss in contenders.values()]
    return all(math.isclose(v, values[0], rel_tol=1e-3, abs_tol=1e-3) for v in values)


def table(title: str, make: Callable) -> None:
    """One row per loss and dimension: ours, each other, and the best other over ours."""
    print(f"\n{title}\n  loss      d  others' best    ms a step")
    for name in ("dsm", "ssm", "ssm_vr", "ism"):
        for d in DIMENSIONS:
            stream = generator(0)
            own, rivals, weights = make(d, stream)
            contenders = {"ours": own[name], **rivals.get(name, {})}
            assert agree(contenders, stream), f"{name} at d = {d}: the losses differ"
            took = medians(contenders, weights, TURNS)
            cells = "   ".join(f"{who} {ms:7.2f}" for who, ms in took.items())
            others_best = min((ms for who, ms in took.items() if who != "ours"), default=None)
            ratio = f"{others_best / took['ours']:5.2f}" if others_best else "    —"
            print(f"  {name:6s}  {d:3d}  {ratio:>12s}    {cells}")


def fields(d: int, stream: torch.Generator):
    net, x = ScoreMLP(d, generator=stream), torch.randn(BATCH, d, generator=stream)
    return ours(net, x, stream), others(net, x, stream), list(net.parameters())


def energies(d: int, stream: torch.Generator):
    energy, x = mlp(d, 1, generator=stream), torch.randn(BATCH, d, generator=stream)
    net = EnergyScore(energy)
    return ours(net, x, stream), by_torchebm(energy, x, stream), list(net.parameters())


def slope(xs, ys) -> float:
    """Of log y against log x, by least squares."""
    xs, ys = [math.log(x) for x in xs], [math.log(y) for y in ys]
    mx, my = statistics.mean(xs), statistics.mean(ys)
    return sum((x - mx) * (y - my) for x, y in zip(xs, ys, strict=True)) / sum(
        (x - mx) ** 2 for x in xs
    )


def growth() -> None:
    took: dict[str, list[float]] = {"dsm": [], "ssm": [], "ism": []}
    for d in LADDER:
        stream = generator(0)
        net, x = ScoreMLP(d, generator=stream), torch.randn(SMALL_BATCH, d, generator=stream)
        steps = {name: ours(net, x, stream)[name] for name in took}
        for name, loss in steps.items():
            ms = medians({name: loss}, list(net.parameters()), LADDER_TURNS)
            took[name].append(ms[name])
    print(f"\nCost against the dimension, vector field, batches of {SMALL_BATCH}")
    print("  d       " + "".join(f"{d:9d}" for d in LADDER) + "    cost ∝ d to the power")
    for name, ms in took.items():
        cells = "".join(f"{t:9.2f}" for t in ms)
        print(f"  {name:5s} ms{cells}    {slope(LADDER, ms):.2f}")


def main() -> None:
    torch.set_num_threads(2)
    print(f"Batches of {BATCH}, 2 × 128 softplus, torch {torch.__version__}, 2 threads")
    table("A vector field, (n, d) → (n, d): ours beside other ways to write the loss", fields)
    if torchebm is None:
        print("\ntorchebm is not installed, ours stands alone; to compare: pip install -e .[bench]")
        version = ""
    else:
        version = f" beside torchebm {torchebm.__version__}"
    table(f"An energy, (n, d) → (n,), of the same width: ours{version}", energies)
    growth()


if __name__ == "__main__":
    main()
