"""Losses: one training step of each, without the optimiser.

    python -m benchmarks.losses

A step draws its noise or slices, runs the loss forward, and backward into the weights. Networks
have two hidden layers of 128 softplus units, batches 128 points (with the exact trace fewer from
d = 200 on).

Ours takes the derivative of a network that gives the score. Beside it stand the same loss by hand,
unchecked, in the ways one would think of; JAX, compiled; and torchebm, which takes an energy, one
number per point, and must differentiate once more. So torchebm is compared twice: for the job, to
fit a score with a network of this width, each its own way; and like with like, both
differentiating the same energy.
"""

import statistics
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.func import jvp, vmap

from benchmarks import measure
from benchmarks.measure import Table, Target, Times
from sbm_lite import losses, noise
from sbm_lite.networks import (
    DdpmScore,
    EnergyScore,
    NoiseConditionalMLP,
    ScoreMLP,
    TimeMLP,
    mlp,
)
from sbm_lite.runtime import generator

in_jax, in_torchebm = map(measure.peer, ("jax_training", "torchebm"))

BATCH, SIGMA, STEP, TURNS = 128, 0.5, 0.01, 15
SECONDS = 0.01  # at least so long is timed at a time, with as many steps as it takes
DIMENSIONS = (2, 10, 50, 200, 784)
LADDER, SMALL_BATCH = (64, 112, 196, 343, 600, 784), 8
BARS = noise.alpha_bars(noise.linear_betas())
HAND, JAX, ENERGY, TORCHEBM = "best by hand", "JAX", "ours, energy", "torchebm"

Step = Callable[[], object]


def batch_size(name: str, d: int) -> int:
    return min(BATCH, max(8, 6400 // d)) if name == "ism" else BATCH


def network(name: str, d: int) -> nn.Module:
    """The score network that a loss is for."""
    rng = generator(0)
    if name == "ncsn":
        return NoiseConditionalMLP(d, generator=rng)
    if name == "ddpm_simple":
        return DdpmScore(TimeMLP(d, generator=rng), BARS)
    return ScoreMLP(d, generator=rng)


class Draws:
    """The batch, and what a loss draws afresh in each step."""

    def __init__(self, n: int, d: int):
        self.stream = generator(0)
        self.x, self.target = torch.randn(2, n, d, generator=self.stream)

    def epsilon(self) -> Tensor:
        return torch.randn(self.x.shape, generator=self.stream)

    def signs(self) -> Tensor:
        return self.epsilon().sign()

    def levels(self) -> Tensor:
        return 0.01 * 1000 ** torch.rand(len(self.x), generator=self.stream)

    def times(self) -> Tensor:
        return torch.randint(1, 1 + len(BARS), (len(self.x),), generator=self.stream)


def ours(name: str, net: nn.Module, at: Draws) -> Tensor:
    """The package's loss of one batch."""
    loss = getattr(losses, name)
    if name == "esm":
        return loss(net, at.x, at.target).mean()
    if name == "ism":
        return loss(net, at.x).mean()
    if name in ("ssm", "ssm_vr"):
        return loss(net, at.x, at.signs()).mean()
    if name == "ssm_fd":
        return loss(net, at.x, at.signs(), STEP).mean()
    if name == "dsm":
        return loss(net, at.x, at.epsilon(), SIGMA).mean()
    if name == "ncsn":
        return loss(net, at.x, at.epsilon(), at.levels()).mean()
    return loss(net, at.x, at.epsilon(), at.times(), BARS).mean()


def esm_by_hand(net, at):
    return ((net(at.x) - at.target) ** 2).sum(1).mean() / 2


def dsm_by_hand(net, at):
    epsilon = at.epsilon()
    return ((net(at.x + SIGMA * epsilon) + epsilon / SIGMA) ** 2).sum(1).mean() / 2


def ncsn_by_hand(net, at):
    epsilon, sigma = at.epsilon(), at.levels()
    s = net(at.x + sigma[:, None] * epsilon, sigma)
    return ((sigma[:, None] * s + epsilon) ** 2).sum(1).mean() / 2


def ddpm_by_hand(net, at):
    """As one has it with a network that predicts the noise."""
    epsilon, t = at.epsilon(), at.times()
    bar = BARS.float()[t - 1][:, None]
    guess = net.epsilon(bar.sqrt() * at.x + (1 - bar).sqrt() * epsilon, t.float())
    return ((guess - epsilon) ** 2).sum(1).mean() / 2


def slices_by_double_backward(net, at):
    """s, the slices, and vᵀ∇s v by `torch.autograd.grad`, as the papers' code has it."""
    x, v = at.x.clone().requires_grad_(), at.signs()
    s = net(x)
    (gradient,) = torch.autograd.grad((v * s).sum(), x, create_graph=True)
    return s, v, (v * gradient).sum(1)


def slices_by_forward_mode(net, at):
    """The same by one pass of directional derivatives."""
    v = at.signs()
    s, slope = jvp(net, (at.x,), (v,))
    return s, v, (v * slope).sum(1)


def ssm_by_hand(slices, net, at):
    s, v, curvature = slices(net, at)
    return (curvature + (v * s).sum(1) ** 2 / 2).mean()


def ssm_vr_by_hand(slices, net, at):
    s, v, curvature = slices(net, at)
    return (curvature + (s**2).sum(1) / 2).mean()


def ssm_fd_by_hand(net, at):
    """Three evaluations, one after the other."""
    v = at.signs()
    curvature = (v * (net(at.x + STEP * v) - net(at.x - STEP * v))).sum(1) / (2 * STEP)
    return (curvature + (net(at.x) ** 2).sum(1) / 2).mean()


def ssm_fd_in_one_batch(net, at):
    """Three evaluations as one."""
    v = at.signs()
    s, after, before = net(torch.cat([at.x, at.x + STEP * v, at.x - STEP * v])).chunk(3)
    return ((v * (after - before)).sum(1) / (2 * STEP) + (s**2).sum(1) / 2).mean()


def ism_by_loop(net, at):
    """One backward pass after the other."""
    x = at.x.clone().requires_grad_()
    s = net(x)
    trace = sum(
        torch.autograd.grad(s[:, i].sum(), x, create_graph=True)[0][:, i] for i in range(x.shape[1])
    )
    return (trace + (s**2).sum(1) / 2).mean()


def ism_by_forward_mode(net, at):
    """All directional derivatives at once, ∂s/∂xᵢ in forward mode under vmap."""

    def along(e):
        s, slope = jvp(net, (at.x,), (e.expand_as(at.x),))
        return s, (slope * e).sum(1)

    s, diagonal = vmap(along, out_dims=(None, 0))(torch.eye(at.x.shape[1]))
    return (diagonal.sum(0) + (s**2).sum(1) / 2).mean()


BY_HAND = {
    "esm": [esm_by_hand],
    "ism": [ism_by_loop, ism_by_forward_mode],
    "ssm": [
        partial(ssm_by_hand, slices_by_double_backward),
        partial(ssm_by_hand, slices_by_forward_mode),
    ],
    "ssm_vr": [
        partial(ssm_vr_by_hand, slices_by_double_backward),
        partial(ssm_vr_by_hand, slices_by_forward_mode),
    ],
    "ssm_fd": [ssm_fd_by_hand, ssm_fd_in_one_batch],
    "dsm": [dsm_by_hand],
    "ncsn": [ncsn_by_hand],
    "ddpm_simple": [ddpm_by_hand],
}


def step(loss: Callable[[], Tensor], weights: list[Tensor]) -> Step:
    """Forward, and backward into the weights."""

    def run():
        for w in weights:
            w.grad = None
        loss().backward()

    return run


def often(run: Step) -> tuple[Step, int]:
    """`run` so many times in a row that it can be timed, and how many times that is."""
    run()
    run()
    repeats = max(1, round(SECONDS / measure.seconds(run)))

    def runs():
        for _ in range(repeats):
            run()

    return runs, repeats


def steps_of(name: str, d: int) -> dict[str, Step]:
    """Everybody's training step for one loss in d dimensions."""
    n = batch_size(name, d)
    net, energy = network(name, d), mlp(d, 1, generator=generator(0))
    weights = list(net.parameters())
    runs = {"ours": step(partial(ours, name, net, Draws(n, d)), weights)}
    for k, by_hand in enumerate(BY_HAND[name]):
        runs[f"{HAND} {k}"] = step(partial(by_hand, net, Draws(n, d)), weights)
    if in_jax and name in in_jax.LOSSES:
        runs[JAX] = in_jax.loss_step(name, net.body, Draws(n, d).x)
    if in_torchebm and name in in_torchebm.LOSSES:
        weights = list(energy.parameters())
        runs[ENERGY] = step(partial(ours, name, EnergyScore(energy), Draws(n, d)), weights)
        at, loss = Draws(n, d), in_torchebm.LOSSES[name](energy, SIGMA)
        runs[TORCHEBM] = step(lambda: loss(at.x, generator=at.stream), weights)
    return runs


def race(names: list[str], d: int, turns: int) -> dict[str, Times]:
    """Seconds per step of everybody for all losses in d dimensions, in one race."""
    everyone = {(name, who): often(run) for name in names for who, run in steps_of(name, d).items()}
    times = measure.interleaved({key: runs for key, (runs, _) in everyone.items()}, turns)
    result: dict[str, Times] = {name: {} for name in names}
    for (name, who), (_, repeats) in everyone.items():
        result[name][who] = [t / repeats for t in times[name, who]]
    for took in result.values():
        by_hand = [took.pop(who) for who in list(took) if who.startswith(HAND)]
        took[HAND] = min(by_hand, key=statistics.median)
    return result


def row(name: str, d: int, times: Times, mine: str, others: list[str]) -> list[str]:
    """Milliseconds of mine, and the time of each other over it."""
    milliseconds = measure.number(1e3 * statistics.median(times[mine]))
    cells = [cell(times, mine, other, name) for other in others]
    return [name, f"{d}", f"{batch_size(name, d)}", milliseconds, *cells]


def cell(times: Times, mine: str, other: str, name: str) -> str:
    """The other's time over mine; a dash where it has no such loss."""
    peer = {JAX: in_jax, TORCHEBM: in_torchebm}.get(other)
    return "—" if peer and name not in peer.LOSSES else measure.beside(times, mine, other)


def targets_of(raced: dict[int, dict[str, Times]]) -> list[Target]:
    """Each at the dimension where it is hardest; torchebm's loop is short near d = 10."""
    every = list(raced)
    asked = [("dsm", 1.5, every), ("ssm", 1.5, every)]
    asked += [("ism but at d = 10", 3, [d for d in every if d != 10]), ("ism at d = 10", 1.8, [10])]
    ways = [("ours", "torchebm, the job"), (ENERGY, "torchebm, the same energy")]
    targets = [
        hardest(raced, f"{what} over {way}", what[:3], least, mine, TORCHEBM, dimensions)
        for mine, way in ways
        for what, least, dimensions in asked
    ]
    return targets + [
        hardest(raced, f"{name} over the best by hand", name, 1, "ours", HAND, every)
        for name in BY_HAND
    ]


def hardest(raced, what: str, name: str, asked: float, mine: str, other: str, among) -> Target:
    """The target at the dimension where the other's time over mine is least."""
    if other not in raced[among[0]][name]:
        return measure.at_least(what, asked, {}, other)
    d = min(among, key=lambda d: measure.ratio(raced[d][name], mine, other)[0])
    target = measure.at_least(what, asked, raced[d][name], other, mine)
    return target._replace(measured=f"{target.measured} at d = {d}")


def slices_against_noise(raced: dict[int, dict[str, Times]]) -> tuple[Table, Target]:
    """What a slice costs more than noise."""
    both = {d: {"dsm": r["dsm"]["ours"], "ssm": r["ssm"]["ours"]} for d, r in raced.items()}
    ratios = {d: measure.ratio(times, "dsm", "ssm") for d, times in both.items()}
    rows = [[f"{d}", measure.spread(r)] for d, r in ratios.items()]
    table = Table("SSM against DSM", "Batches of 128.", ["d", "time of SSM over DSM"], rows)
    highest = max(median for median, _, _ in ratios.values())
    return table, measure.at_most("SSM over DSM, at every d", 3, highest)


def growth(quick: bool) -> Table:
    """How the cost of a step grows with the dimension."""
    names = ("dsm", "ssm", "ism")
    turns, ladder = (2, LADDER[:2]) if quick else (7, LADDER)
    took: Times = {name: [] for name in names}
    for d in ladder:
        runs = {name: often(small_step(name, d)) for name in names}
        times = measure.interleaved({name: run for name, (run, _) in runs.items()}, turns)
        for name, (_, repeats) in runs.items():
            took[name].append(statistics.median(times[name]) / repeats)
    rows = [
        [name, *(measure.number(1e3 * t) for t in ts), f"{measure.power(ladder, ts):.2f}"]
        for name, ts in took.items()
    ]
    head = ["ms at d =", *(f"{d}" for d in ladder), "grows as d to the power"]
    return Table("Cost against the dimension", f"Batches of {SMALL_BATCH}.", head, rows)


def small_step(name: str, d: int) -> Step:
    """Ours on a small batch, so that the dimension tells."""
    net = network(name, d)
    return step(partial(ours, name, net, Draws(SMALL_BATCH, d)), list(net.parameters()))


def run(quick: bool = False) -> tuple[list[Table], list[Target]]:
    turns, dimensions = (2, DIMENSIONS[:2]) if quick else (TURNS, DIMENSIONS)
    raced = {d: race(list(BY_HAND), d, turns) for d in dimensions}

    def table(title: str, names, mine: str, others: list[str]) -> Table:
        rows = [row(name, d, raced[d][name], mine, others) for name in names for d in raced]
        return Table(title, "", ["loss", "d", "batch", "ours, ms", *others], rows)

    tables = [table("A network that gives the score", BY_HAND, "ours", [HAND, JAX, TORCHEBM])]
    if in_torchebm:
        tables.append(table("The same energy", in_torchebm.LOSSES, ENERGY, [TORCHEBM]))
    slower, target = slices_against_noise(raced)
    return [*tables, slower, growth(quick)], [*targets_of(raced), target]


if __name__ == "__main__":
    measure.main(run)
