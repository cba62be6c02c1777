"""Training: a network for 10,000 steps, figure 2 of Song and Ermon, and the matrix products alone.

    python -m benchmarks.networks

`training.fit` beside the loop one writes first (zero_grad, loss, backward, step; the loss by hand)
and beside JAX, where all steps of optax's Adam are one compiled scan; all draw fresh batches from
the two modes in each step. The limit is the products of a training step alone: forward one per
layer, backward two per layer, but one in the first, whose input needs no gradient.
"""

import statistics
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from benchmarks import measure
from benchmarks.measure import Table, Target
from sbm_lite import densities, diagnostics, experiments, losses, training
from sbm_lite.networks import ScoreMLP
from sbm_lite.runtime import generator

in_jax = measure.peer("jax_training")

SIGMA, LR = 0.5, 1e-3
RECIPE = experiments.low_density_quick  # the book's own way to figure 2
PUBLISHED_STEPS, SEEDS = 10_000, (0, 1, 2)
SHARES = (1 / 8, 1 / 4, 1 / 2, 1)  # of the steps of the book's own recipe
MODES = densities.two_modes()
SIZES = [(2, 128, 128), (64, 256, 128), (784, 512, 256)]  # d, width, batch

Batch = Callable[[], Tensor]


def plain_draws(n: int, stream: torch.Generator) -> Batch:
    """Batches from the two modes, as one draws them by hand."""
    means = torch.tensor([-5.0, 5.0])

    def draw():
        upper = (torch.rand(n, generator=stream) < 0.8).long()
        return means[upper][:, None] + torch.randn(n, 2, generator=stream)

    return draw


def plain_fit(net: nn.Module, loss: Callable, draw: Batch, n_steps: int) -> nn.Module:
    """The loop one writes first."""
    optimizer = torch.optim.Adam(net.parameters(), lr=LR)
    for _ in range(n_steps):
        optimizer.zero_grad()
        loss(net, draw()).backward()
        optimizer.step()
    return net


def plain_dsm(stream: torch.Generator, net: nn.Module, x: Tensor) -> Tensor:
    epsilon = torch.randn(x.shape, generator=stream)
    return ((net(x + SIGMA * epsilon) + epsilon / SIGMA) ** 2).sum(1).mean() / 2


def published_loss(stream: torch.Generator, net: nn.Module, x: Tensor) -> Tensor:
    """Sliced score matching with reduced variance and one Gaussian slice, by double backward."""
    x = x.requires_grad_()
    v = torch.randn(x.shape, generator=stream)
    s = net(x)
    (gradient,) = torch.autograd.grad((v * s).sum(), x, create_graph=True)
    return ((v * gradient).sum(1) + (s**2).sum(1) / 2).mean()


def network(d: int = 2, width: int = 128, seed: int = 0) -> ScoreMLP:
    return ScoreMLP(d, width, generator=generator(seed))


def our_dsm(stream: torch.Generator, net: nn.Module, x: Tensor) -> Tensor:
    return losses.dsm(net, x, torch.randn(x.shape, generator=stream), SIGMA)


def our_fit(n_steps: int) -> Tensor:
    rng = generator(0)
    batches = training.draws(MODES, 128, generator=rng)
    return training.fit(network(), partial(our_dsm, rng), batches, n_steps=n_steps, lr=LR)


def their_fit(n_steps: int) -> nn.Module:
    rng = generator(0)
    return plain_fit(network(), partial(plain_dsm, rng), plain_draws(128, rng), n_steps)


def ten_thousand_steps(quick: bool) -> Table:
    """Denoising score matching of the two modes."""
    n_steps = 50 if quick else 10_000
    runs = {"ours": partial(our_fit, n_steps), "plain loop": partial(their_fit, n_steps)}
    if in_jax:
        runs["JAX"] = in_jax.fit_two_modes(network().body, LR, n_steps)
    times = measure.interleaved(runs, 2 if quick else 3)
    took = measure.number(statistics.median(times["ours"]))
    compiling = measure.number(runs["JAX"].compiling) if in_jax else "—"
    others = [measure.beside(times, "ours", other) for other in ("plain loop", "JAX")]
    head = ["steps", "ours, s", "plain loop", "JAX", "JAX compiles, s"]
    note = "Denoising score matching, σ = 0.5; 2 → 128 → 128 → 2, batches of 128."
    return Table("An MLP trained", note, head, [[f"{n_steps:,}", took, *others, compiling]])


def products(d: int, width: int, batch: int, device: str = "cpu") -> Callable[[], object]:
    """The matrix products of one training step, and nothing else."""
    sizes, at = [d, width, width, d], dict(device=device)
    inputs = [torch.randn(batch, a, **at) for a in sizes[:-1]]
    weights = [torch.randn(a, b, **at) for a, b in zip(sizes, sizes[1:], strict=False)]
    slopes = [torch.randn(batch, b, **at) for b in sizes[1:]]
    layers = list(zip(inputs, weights, slopes, strict=True))

    def run():
        for x, w, _ in layers:
            x @ w
        for x, _, g in reversed(layers):
            x.T @ g
        for _, w, g in reversed(layers[1:]):
            g @ w.T

    return run


def beside_products(quick: bool) -> Table:
    """A training step of ours beside its matrix products."""
    n_steps, rows = 5 if quick else 100, []
    for d, width, batch in SIZES:
        multiply, data = products(d, width, batch), torch.randn(batch, d, generator=generator(0))
        net, rng = network(d, width), generator(0)

        def fit(net=net, rng=rng, data=data):
            loss = partial(our_dsm, rng)
            training.fit(net, loss, [data] * n_steps, n_steps=n_steps, lr=LR)

        def limit(multiply=multiply):
            for _ in range(n_steps):
                multiply()

        times = measure.interleaved({"ours": fit, "products": limit}, 2 if quick else 9)
        took = measure.number(1e3 * statistics.median(times["ours"]) / n_steps)
        shape = f"{d} → {width} → {width} → {d}"
        rows.append([shape, f"{batch}", took, measure.beside(times, "ours", "products")])
    note = "Denoising score matching with Adam, on one batch again and again."
    head = ["network", "batch", "ours, ms a step", "matrix products alone"]
    return Table("A training step beside its matrix products", note, head, rows)


def fisher_divergence(net: nn.Module) -> float:
    """On fresh draws."""
    x = MODES.sample(100_000, generator=generator(1_000))
    with torch.no_grad():
        return float(diagnostics.fisher_divergence(net(x), MODES.score(x)))


def published(seed: int, n_steps: int) -> nn.Module:
    """The published settings in a plain loop."""
    rng = generator(seed)
    net = network(seed=seed)
    return plain_fit(net, partial(published_loss, rng), plain_draws(128, rng), n_steps)


def recipe(seed: int, n_steps: int) -> nn.Module:
    return RECIPE(device="cpu", seed=seed, n_steps=n_steps).net


def recipe_steps() -> int:
    """How many steps the recipe takes by itself."""
    return RECIPE.__kwdefaults__["n_steps"]


def figure_2(quick: bool) -> tuple[Table, Target]:
    """The published settings, and the book's recipe stopped at several lengths."""
    scale, seeds = (0.01, SEEDS[:1]) if quick else (1, SEEDS)
    lengths = [round(scale * share * recipe_steps()) for share in SHARES]
    ways = {"published settings": partial(published, n_steps=round(scale * PUBLISHED_STEPS))}
    ways |= {f"the book's recipe, {n:,} steps": partial(recipe, n_steps=n) for n in lengths}
    times, errors = {way: [] for way in ways}, {way: [] for way in ways}
    for seed in seeds:
        for way, train in ways.items():
            nets = []
            times[way].append(measure.seconds(lambda nets=nets, t=train, s=seed: nets.append(t(s))))
            errors[way].append(fisher_divergence(nets[0]))
    first, *ours = ways
    rows = [figure_2_row(times, errors, way, first) for way in ways]
    note = (
        f"Medians over {len(seeds)} seeds; the network is 2 → 128 → 128 → 2 throughout. Published: "
        "SSM-VR with one Gaussian slice, Adam at 0.001, 10,000 batches of 128, in a plain loop."
    )
    head = ["", "s", "times as fast", "Fisher divergence, median (lowest–highest)"]
    wanted = statistics.median(errors[first])
    enough = (way for way in ours if statistics.median(errors[way]) <= wanted)
    return Table("Figure 2", note, head, rows), figure_2_target(times, first, next(enough, None))


def figure_2_row(times, errors, way: str, first: str) -> list[str]:
    spread = (statistics.median(errors[way]), min(errors[way]), max(errors[way]))
    took = measure.number(statistics.median(times[way]))
    return [way, took, measure.beside(times, way, first), measure.spread(spread)]


def figure_2_target(times, first: str, way: str | None) -> Target:
    """The fewest steps of the recipe that are as good as the published settings."""
    what = "Figure 2, the book's recipe over the published settings, to the same Fisher divergence"
    if way is None:
        return Target(what, "≥ 2", "its divergence stays higher", False)
    target = measure.at_least(what, 2, times, first, way)
    return target._replace(measured=f"{target.measured}, {way.partition(', ')[2]}")


def run(quick: bool = False) -> tuple[list[Table], list[Target]]:
    figure, target = figure_2(quick)
    return [ten_thousand_steps(quick), beside_products(quick), figure], [target]


if __name__ == "__main__":
    measure.main(run)
