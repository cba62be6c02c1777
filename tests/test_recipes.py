"""Each experiment is its recipe: the same steps written out in plain PyTorch give its numbers.

Networks, losses and samplers are the package's, which have tests of their own; what is compared
here is what an experiment makes of them: its data, batch, levels, learning rate, average, seeds.
"""

import math
from functools import partial

import pytest
import torch

from sbm_lite import (
    data,
    densities,
    diagnostics,
    experiments,
    losses,
    networks,
    runtime,
    samplers,
    variance,
)
from sbm_lite.experiments import base, images, noisy_targets, toys
from sbm_lite.runtime import generator

SEED = 3
TWO_MODES = densities.GaussianMixture.isotropic(
    torch.tensor([0.2, 0.8]), torch.tensor([[-5.0, -5.0], [5.0, 5.0]]), 1.0
)
PUBLISHED_SIGMAS = [20 * 20 ** (-i / 9) for i in range(10)]  # NCSN code, toy figure 3
DDPM_BARS = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1_000, dtype=torch.float64), 0)


def trained(net, value, batch, n, rate, *, falling=False):
    """n steps of Adam on mean(value(batch())): the losses, and the running average of the weights.

    `falling` lowers the rate along half a cosine, and averages with decay 0.999 from the first
    weights after a step.
    """
    adam = torch.optim.Adam(net.parameters(), lr=rate, fused=True)  # so rounds alike
    curve, kept = [], None
    for k in range(n):
        if falling:
            adam.param_groups[0]["lr"] = rate * (1 + math.cos(math.pi * k / n)) / 2
        loss = value(batch()).mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
        curve.append(loss.detach())
        now = [p.detach().clone() for p in net.parameters()]
        if falling and kept is not None:
            now = [0.999 * old + 0.001 * new for old, new in zip(kept, now, strict=True)]
        kept = now
    return torch.stack(curve), torch.cat([p.flatten() for p in kept])


def weights(net):
    return torch.cat([p.flatten() for p in net.parameters()])


def same(a, b):
    assert a.shape == b.shape
    torch.testing.assert_close(a.double(), b.double(), rtol=1e-5, atol=1e-6)


def frozen(net):
    return not net.training and not any(p.requires_grad for p in net.parameters())


def gaussian_like(x, rng):
    return torch.randn(x.shape, generator=rng, device=x.device)


LENGTHS = {  # steps of training, or chains where nothing is trained
    "manifold": 5_000, "low_density": 10_000, "low_density_quick": 1_000,
    "low_density_esm": 10_000, "mixing": 100_000, "annealing_film": 600,
    "ncsn_two_modes": 10_000, "ncsn_swiss_roll": 10_000, "exact_samplers": 3_000,
    "ddpm_two_modes": 10_000, "ncsn_digits": 5_000, "ddpm_digits": 5_000,
    "small_noise": 20_000, "small_noise_digits": 1_000, "manifold_cifar10": 50_000,
    "ncsn_mnist": 20_000, "ddpm_mnist": 20_000, "ncsn_cifar10": 50_000, "ddpm_cifar10": 50_000,
}  # fmt: skip


class Reached(Exception):
    """An experiment got as far as its training, or its chains; their number."""


@pytest.mark.parametrize("name", experiments.EVERY)
def test_an_experiment_called_with_nothing_is_the_published_one(name, monkeypatch):
    """Stopped before its first step: the device, the seeds and the length it would have taken."""
    devices, seeds, cpu = [], [], torch.device("cpu")

    def seeded(seed, device="cpu"):
        seeds.append(seed)
        return generator(seed, device)

    def training(*given, n_steps, checkpoint=None, **told):
        raise Reached(n_steps, checkpoint)

    def chains(n):
        raise Reached(n, None)

    monkeypatch.setattr(runtime, "device", lambda name: devices.append(name) or cpu)
    monkeypatch.setattr(runtime, "generator", seeded)
    for module in (toys, base, noisy_targets):
        monkeypatch.setattr(module, "fit", training)
    monkeypatch.setattr(toys, "even_start", lambda n, rng: chains(n))
    monkeypatch.setattr(toys, "three_ways", lambda net, score, n, rng: chains(n))
    for what, shape in data.SHAPES.items():
        pixels = torch.zeros(8, math.prod(shape))
        monkeypatch.setattr(data, what, lambda pixels=pixels: pixels)
    with pytest.raises(Reached) as reached:
        experiments.EVERY[name]()
    assert reached.value.args == (LENGTHS[name], None)
    assert devices == ["auto"]
    assert set(seeds) == ({0, 1} if name == "small_noise" else {0})  # 1 draws points to measure on


def test_the_density_and_the_ladder_of_the_toys_are_the_published_ones():
    x = gaussian_like(torch.zeros(50, 2), generator(0)).double() * 6
    same(toys.MODES.log_prob(x), TWO_MODES.log_prob(x))
    same(toys.LADDER, torch.tensor(PUBLISHED_SIGMAS))
    same(base.ALPHA_BARS, DDPM_BARS)


def test_manifold_is_sliced_score_matching_with_and_without_noise():
    result = experiments.manifold(device="cpu", seed=SEED, n_steps=3)
    pixels = data.digits()
    assert result.noise_std == 0.01
    for curve, std in ((result.raw, 0), (result.noised, 0.01)):
        rng = generator(SEED)
        net = networks.ScoreMLP(64, generator=rng)
        batch = lambda rng=rng: pixels[torch.randint(1_797, (128,), generator=rng)]  # noqa: E731

        def value(x, std=std, net=net, rng=rng):
            x = x + std * gaussian_like(x, rng)
            return losses.ssm_vr(net, x, losses.slices(x, generator=rng))

        same(curve, trained(net, value, batch, 3, 1e-3)[0])


def test_manifold_tells_the_means_of_the_last_hundred_steps():
    raw, noised = torch.arange(150.0), -torch.arange(150.0)
    numbers = toys.Manifold(raw, noised, 0.5).numbers()
    assert numbers == {
        "raw, mean of the last 100 steps": 99.5,
        "noised, mean of the last 100 steps": -99.5,
        "floor with noise": -128.0,
    }


def sliced(net, x, rng):
    return losses.ssm_vr(net, x, gaussian_like(x, rng))


def exact(net, x, rng):
    return losses.esm(net, x, TWO_MODES.score(x))


@pytest.mark.parametrize(
    "experiment, value, rate, falling",
    [
        (experiments.low_density, sliced, 1e-3, False),
        (experiments.low_density_quick, sliced, 3e-3, True),
        (experiments.low_density_esm, exact, 1e-3, False),
    ],
)
def test_low_density_is_an_mlp_on_fresh_batches_of_128(experiment, value, rate, falling):
    result = experiment(device="cpu", seed=SEED, n_steps=3)
    rng = generator(SEED)
    net = networks.ScoreMLP(2, generator=rng)
    batch = lambda: TWO_MODES.sample(128, generator=rng)  # noqa: E731
    curve, _ = trained(net, lambda x: value(net, x, rng), batch, 3, rate, falling=falling)
    same(result.curve, curve)
    same(weights(result.net), weights(net))
    assert frozen(result.net)


def test_the_map_of_errors_is_on_a_grid_of_100_by_100():
    class Off(torch.nn.Module):
        """The exact score, and 3 too much of its first coordinate to the right of x₁ = 0."""

        def forward(self, x):
            return TWO_MODES.score(x) + 3 * (x[:, :1] > 0) * torch.tensor([1.0, 0.0])

    result = toys.error_map(Off(), torch.zeros(1))
    assert result.points.shape == (10_000, 2)
    assert result.points[0].tolist() == [-8, -8] and result.points[-1].tolist() == [8, 8]
    same(result.truth, TWO_MODES.score(result.points))
    expected = 3.0 * (result.points[:, 0] > 0)
    same(result.error, expected)
    in_box = lambda c: ((result.points - c).abs() <= 2).all(1)  # noqa: E731
    assert torch.equal(result.inside, in_box(-5) | in_box(5))
    inside, outside = (float(expected[m].mean()) for m in (result.inside, ~result.inside))
    assert result.numbers() == {
        "mean error inside the boxes": pytest.approx(inside),
        "mean error outside": pytest.approx(outside),
        "outside / inside": pytest.approx(outside / inside),
    }


def test_mixing_starts_even_and_takes_the_published_steps():
    result = experiments.mixing(device="cpu", seed=SEED, n=40)
    rng = generator(SEED)
    start = 16 * torch.rand(40, 2, generator=rng) - 8
    x = start
    for _ in range(1_000):
        z = torch.randn(2, 40, generator=rng).T
        x = samplers.langevin_step(x, TWO_MODES.score(x), z, 0.1)
    torch.testing.assert_close(result.plain, x, rtol=1e-3, atol=1e-3)
    x = start
    for sigma in PUBLISHED_SIGMAS:
        level = densities.GaussianMixture.isotropic(TWO_MODES.weights, TWO_MODES.means, sigma)
        for _ in range(100):
            z = torch.randn(2, 40, generator=rng).T
            x = samplers.langevin_step(x, level.score(x), z, 0.1 * sigma**2)
    torch.testing.assert_close(result.annealed, x, rtol=1e-3, atol=1e-3)
    assert torch.equal(result.exact, TWO_MODES.sample(40, generator=rng))


def test_mixing_tells_share_error_and_width_of_each_cloud():
    above, below = torch.tensor([[1.0, 0.0], [3.0, 2.0]]), torch.tensor([[-1.0, 0.0]])
    cloud = torch.cat([above, below])
    error = (2 / 9 * 3 / 2 / 3) ** 0.5  # of a share of 2/3 among three points
    assert toys.Mixing(cloud, cloud, cloud).numbers() == {
        f"{what}, {name}": pytest.approx(value)
        for name in ("exact", "plain", "annealed")
        for what, value in (
            ("share at (5, 5)", 2 / 3),
            ("its standard error", error),
            ("std within the mode", 2**0.5),
        )
    }


def test_the_film_shows_every_25th_step_of_each_level():
    film = experiments.annealing_film(device="cpu", seed=SEED, n=30)
    rng = generator(SEED)
    x = 16 * torch.rand(30, 2, generator=rng) - 8
    frames, sigmas = [x], [20.0]
    for sigma in PUBLISHED_SIGMAS:
        level = densities.GaussianMixture.isotropic(TWO_MODES.weights, TWO_MODES.means, sigma)
        for step in range(1, 101):
            z = torch.randn(2, 30, generator=rng).T
            x = samplers.langevin_step(x, level.score(x), z, 0.1 * sigma**2)
            if step % 25 == 0:
                frames.append(x)
                sigmas.append(sigma)
    torch.testing.assert_close(film.path, torch.stack(frames), rtol=1e-3, atol=1e-3)
    same(film.sigmas, torch.tensor(sigmas))
    share = float((x.sum(1) > 0).float().mean())
    assert film.numbers() == {"share at (5, 5)": pytest.approx(share)}


def test_the_film_tells_of_its_last_frame():
    above, below = torch.ones(2, 2), -torch.ones(2, 2)
    for path, told in (([below, above], 1), ([above, below], 0)):
        assert toys.Film(torch.stack(path), torch.ones(2)).numbers() == {"share at (5, 5)": told}


def test_a_point_on_the_line_is_not_above_it():
    x = torch.tensor([[1.0, -1.0], [2.0, 0.0], [4.0, 0.0], [-3.0, 1.0]])
    assert toys.share(x)[0] == 0.5 and toys.within(x) == 1.0


def level_by_level(rng, first, last, net, x):
    """NCSN's loss with σ uniform on a log scale."""
    u = torch.rand(len(x), generator=rng)
    sigma = torch.exp(math.log(last) + u * math.log(first / last))
    return losses.ncsn(net, x, gaussian_like(x, rng), sigma)


def step_by_step(rng, net, x):
    """DDPM's loss with t uniform on 1 … 1,000."""
    t = torch.randint(1, 1_001, (len(x),), generator=rng)
    return losses.ddpm_simple(net, x, gaussian_like(x, rng), t, DDPM_BARS)


def drawn(net, n, *rest):
    """In place of a sampler: n rows with one number of the stream and a weight of the network."""
    rng = next(r for r in rest if isinstance(r, torch.Generator))
    return torch.tensor([[float(torch.rand(1, generator=rng)), float(weights(net)[0])]] * n)


@pytest.mark.parametrize(
    "experiment, p, depth",
    [
        (experiments.ncsn_two_modes, TWO_MODES, {}),
        (experiments.ncsn_swiss_roll, densities.swiss_roll(), {"depth": 3}),
    ],
)
def test_ncsn_on_toys_is_told_levels_from_20_to_a_tenth(experiment, p, depth, monkeypatch):
    monkeypatch.setattr(toys, "ncsn_samples", drawn)
    result = experiment(device="cpu", seed=SEED, n_steps=3)
    rng = generator(SEED)
    net = networks.NoiseConditionalMLP(2, generator=rng, **depth)
    value = partial(level_by_level, rng, 20.0, 0.1, net)
    batch = lambda: p.sample(512, generator=rng)  # noqa: E731
    curve, average = trained(net, value, batch, 3, 3e-3, falling=True)
    same(result.curve, curve)
    same(weights(result.net), average)
    assert frozen(result.net)
    assert torch.equal(result.samples, drawn(result.net, 4_000, rng))
    assert torch.equal(result.exact, p.sample(4_000, generator=rng))


@pytest.mark.parametrize(
    "draw, first, last, levels, steps, eta",
    [
        (toys.ncsn_samples, 20, 0.1, 20, 50, 0.1),
        (lambda net, n, rng: images.ncsn_draw(net, n, 2, rng), 10, 0.05, 24, 10, 0.4),
    ],
    ids=["toys", "images"],
)
def test_ncsn_samples_walk_down_the_levels(draw, first, last, levels, steps, eta):
    """With a score of 0 noise is all there is: σ_1² at the start and ησ² in every step."""
    asked = []
    end = draw(lambda x, s: asked.append(float(s)) or 0 * x, 4_000, generator(SEED))
    ladder = [first * (last / first) ** (i / (levels - 1)) for i in range(levels)]
    expected = [sigma for sigma in ladder for _ in range(steps)] + [last]
    assert asked == pytest.approx(expected, rel=1e-6)
    spread = first**2 + eta * steps * sum(sigma**2 for sigma in ladder)
    assert abs(end.var() / spread - 1) < 4.5 * (2 / 8_000) ** 0.5
    seen = []
    draw(lambda x, s: seen.append(x) or 0 * x, 5, generator(SEED))
    same(seen[0], first * torch.randn(5, 2, generator=generator(SEED)))


def test_a_network_on_a_toy_tells_share_and_width_beside_exact_draws():
    cloud = torch.tensor([[1.0, 0.0], [3.0, 2.0], [-1.0, 0.0]])
    other = torch.tensor([[2.0, 2.0], [2.0, 6.0], [1.0, 1.0], [-1.0, -9.0]])
    told = toys.Trained(None, None, cloud, other).numbers()
    wanted = {"network": (2 / 3, (1 / 9) ** 0.5, 2.0), "exact draws": (3 / 4, 0.25, 11 / 3)}
    assert told == {
        f"{what}, {name}": pytest.approx(value)
        for name, values in wanted.items()
        for what, value in zip(
            ("share above the diagonal", "its standard error", "variance there"),
            values,
            strict=True,
        )
    }


def test_a_roll_tells_its_distance_beside_that_of_two_exact_halves():
    x = torch.zeros(10, 2)
    exact = torch.cat([x[:5] + 1, x[:5] + 4])
    result = toys.Roll(None, None, torch.cat([x[:5] + 2, x[:5] + 100]), exact)
    assert result.numbers() == {
        "Wasserstein distance, samples to exact draws": pytest.approx(2 * 2**0.5),
        "Wasserstein distance, exact draws to exact draws": pytest.approx(3 * 2**0.5),
    }
    assert isinstance(result, toys.Trained)


def test_swiss_roll_hands_over_a_roll(monkeypatch):
    monkeypatch.setattr(toys, "ncsn_samples", drawn)
    result = experiments.ncsn_swiss_roll(device="cpu", n_steps=1)
    assert isinstance(result, toys.Roll)


def test_ddpm_on_two_modes_predicts_the_noise_of_any_step(monkeypatch):
    told = []
    monkeypatch.setattr(toys, "three_ways", lambda *given: told.append(given) or "result")
    assert experiments.ddpm_two_modes(device="cpu", seed=SEED, n_steps=3) == "result"
    ((net, score, n, stream),) = told
    rng = generator(SEED)
    again = networks.DdpmScore(networks.TimeMLP(2, depth=3, generator=rng), DDPM_BARS)
    batch = lambda: densities.scaled_modes().sample(512, generator=rng)  # noqa: E731
    _, average = trained(again, partial(step_by_step, rng, again), batch, 3, 2e-3, falling=True)
    same(weights(net), average)
    assert score is net and frozen(net) and n == 3_000
    assert torch.equal(stream.get_state(), rng.get_state())


def test_exact_samplers_know_the_score_of_each_step(monkeypatch):
    told = []
    monkeypatch.setattr(toys, "three_ways", lambda *given: told.append(given) or "result")
    assert experiments.exact_samplers(device="cpu", seed=SEED, n=7) == "result"
    ((net, score, n, stream),) = told
    x = gaussian_like(torch.zeros(20, 2), generator(0))
    for t in (1, 2, 500, 1_000):
        law = densities.scaled_modes().diffused(float(DDPM_BARS[t - 1]))
        same(score(x, torch.full((20,), t)), law.score(x))
    assert net is None and n == 7
    assert torch.equal(stream.get_state(), generator(SEED).get_state())


def test_three_ways_share_a_start_and_visit_evenly_spaced_steps():
    calls = (20, 50, 400)
    score = lambda x, t: -x * (1 + t[:, None] / 1_000)  # noqa: E731
    result = toys.three_ways(None, score, 6, generator(SEED), calls=calls)
    rng = generator(SEED)
    start = torch.randn(6, 2, generator=rng)
    assert result.calls == calls and result.net is None
    assert tuple(result.samples) == SAMPLERS
    for k, ancestral, ddim, annealed in zip(calls, *result.samples.values(), strict=True):
        times = torch.tensor([round(1_000 - 999 * i / (k - 1)) for i in range(k)])
        chain = partial(samplers.ancestral, score, start, DDPM_BARS, times=times)
        same(ancestral, chain(generator=rng))
        same(ddim, samplers.ddim(score, start, DDPM_BARS, times=times))
        same(annealed, toys.ddpm_annealed(score, start, k, rng))
    net = torch.nn.Identity()
    with_defaults = toys.three_ways(net, score, 2, rng)
    assert with_defaults.calls == (20, 50, 100, 250, 1_000) and with_defaults.net is net


@pytest.mark.parametrize(("n_calls", "n_steps"), [(20, 4), (396, 4), (400, 20), (1_000, 20)])
def test_annealed_langevin_of_ddpm_visits_few_levels_for_long(n_calls, n_steps):
    asked = []
    score = lambda x, t: asked.append((int(t[0]), x)) or 0 * x  # noqa: E731
    start = torch.ones(2, 2)
    toys.ddpm_annealed(score, start, n_calls, generator(0))
    levels = n_calls // n_steps
    visited = [1_000 - 999 * i / (levels - 1) for i in range(levels)]
    assert [t for t, _ in asked] == [int(t + 1e-3) for t in visited for _ in range(n_steps)]
    torch.testing.assert_close(asked[0][1], start, rtol=1e-4, atol=0)  # x_T, to a network of x_t


def test_three_ways_tell_share_width_and_error_by_sampler_and_cost():
    cloud = torch.tensor([[1.0, 0.0], [3.0, 2.0], [-1.0, 0.0]])
    other = torch.tensor([[2.0, 2.0], [2.0, 6.0], [1.0, 1.0], [-1.0, -9.0]])
    told = toys.ThreeWays(None, (20, 50), {"DDIM": [cloud, other]}).numbers()
    assert told == {
        "DDIM, 20 calls: share at (1.2, 1.2)": pytest.approx(2 / 3),
        "DDIM, 20 calls: variance in the mode": pytest.approx(2.0),
        "DDIM, 20 calls: standard error of the share": pytest.approx(1 / 3),
        "DDIM, 50 calls: share at (1.2, 1.2)": pytest.approx(3 / 4),
        "DDIM, 50 calls: variance in the mode": pytest.approx(11 / 3),
        "DDIM, 50 calls: standard error of the share": pytest.approx(0.25),
    }


def unet_on_digits(score, value, seed):
    """Three steps by hand of a U-Net on half of the digits: curve, average, stream, both halves."""
    pixels = 2 * data.digits() - 1
    order = torch.randperm(1_797, generator=generator(seed))
    train, held_out = pixels[order[:899]], pixels[order[899:]]
    rng = generator(seed)
    net = score(networks.UNet((1, 8, 8), width=24, generator=rng))
    batch = lambda: train[torch.randint(899, (64,), generator=rng)]  # noqa: E731
    curve, average = trained(net, partial(value, rng, net), batch, 3, 2e-3, falling=True)
    return curve, average, rng, train, held_out


@pytest.mark.parametrize("kind", ["ncsn", "ddpm"])
def test_the_digits_train_a_unet_on_half_of_the_images(kind, monkeypatch, tmp_path):
    monkeypatch.setattr(images, f"{kind}_draw", drawn)
    run = partial(experiments.EVERY[f"{kind}_digits"], device="cpu", seed=SEED, n_steps=3)
    result = run(checkpoint=tmp_path / "run")
    if kind == "ncsn":
        value = lambda rng, net, x: level_by_level(rng, 10.0, 0.01, net, x)  # noqa: E731
        recipe = networks.NoiseConditional, value
    else:
        recipe = partial(networks.DdpmScore, alpha_bars=DDPM_BARS), step_by_step
    curve, average, rng, train, held_out = unet_on_digits(*recipe, SEED)
    torch.testing.assert_close(result.curve, curve, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(weights(result.net), average, rtol=1e-3, atol=1e-4)
    assert frozen(result.net) and result.shape == (1, 8, 8)
    assert torch.equal(result.train, train) and torch.equal(result.held_out, held_out)
    assert torch.equal(result.samples, drawn(result.net, 898, rng))
    again = run(checkpoint=tmp_path / "run")  # taken up at its end
    assert torch.equal(weights(again.net), weights(result.net))
    assert [file.name for file in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize("what", ["digits", "mnist", "cifar10"])
@pytest.mark.parametrize("kind", ["ncsn", "ddpm"])
def test_images_are_those_the_name_says(kind, what, monkeypatch):
    """No image set is fetched: who would be asked for which pixels, with what."""
    told = []
    monkeypatch.setattr(images, f"{kind}_images", lambda *given: told.append(given) or "result")
    run = experiments.EVERY[f"{kind}_{what}"]
    answer = run(device="cpu", seed=SEED, n_steps=7, checkpoint="file")
    assert answer == "result"
    assert told == [(what, "cpu", SEED, 7, "file")]


def test_ddpm_draws_images_in_250_of_the_steps():
    asked = []
    score = lambda x, t: asked.append(int(t[0])) or -x * t[:, None] / 1_000  # noqa: E731
    end = images.ddpm_draw(score, 6, 5, generator(SEED))
    assert asked == [round(1_000 - 999 * i / 249) for i in range(250)]
    rng = generator(SEED)
    start = torch.randn(6, 5, generator=rng)
    times = torch.tensor(asked)
    same(end, samplers.ancestral(score, start, DDPM_BARS, times=times, generator=rng))


def test_at_most_a_thousand_images_are_drawn(monkeypatch):
    monkeypatch.setattr(images, "ncsn_draw", drawn)
    monkeypatch.setattr(data, "digits", lambda: torch.rand(2_100, 64, generator=generator(0)))
    result = experiments.ncsn_digits(device="cpu", n_steps=1)
    assert len(result.samples) == 1_000 and len(result.held_out) == 1_050


def test_images_are_compared_a_thousand_at_a_time():
    rng = generator(0)
    train, held_out, samples = (torch.rand(n, 4, generator=rng) for n in (1_300, 1_200, 1_100))
    samples[1_000:] += 100  # beyond the first thousand, so never seen
    told = images.Images(None, None, samples, train, held_out, (1, 2, 2)).numbers()
    first = [x[:1_000] for x in (samples, train, held_out)]
    near = lambda x: torch.cdist(x, train).min(1).values.mean()  # noqa: E731
    assert told == {
        "Wasserstein distance, samples to held-out images": pytest.approx(
            diagnostics.wasserstein(first[0], first[2])
        ),
        "Wasserstein distance, training to held-out images": pytest.approx(
            diagnostics.wasserstein(first[1], first[2])
        ),
        "distance to the nearest training image, samples": pytest.approx(
            float(near(first[0])), rel=1e-4
        ),
        "distance to the nearest training image, held-out images": pytest.approx(
            float(near(first[2])), rel=1e-4
        ),
    }


def test_manifold_of_cifar10_is_a_unet_told_nothing(monkeypatch, tmp_path):
    """On 40 made-up photographs: the loss of one step, of the U-Net told the time 0."""
    pixels = torch.rand(40, 3_072, generator=generator(0))
    monkeypatch.setattr(data, "cifar10", lambda: pixels)
    monkeypatch.setattr(base, "unet", narrow)
    file = tmp_path / "run"
    result = experiments.manifold_cifar10(device="cpu", seed=SEED, n_steps=1, checkpoint=file)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "run.noised"]
    for curve, std in ((result.raw, 0), (result.noised, 0.01)):
        rng = generator(SEED)
        net = narrow("cifar10", rng)
        x = pixels[torch.randint(40, (128,), generator=rng)]
        x = x + std * gaussian_like(x, rng)
        v = losses.slices(x, generator=rng)
        told = losses.ssm_vr(lambda x, net=net: net(x, torch.zeros(len(x))), x, v)
        torch.testing.assert_close(curve, told.mean().detach()[None], rtol=1e-4, atol=1e-3)


def narrow(images, rng):
    assert images == "cifar10"
    return networks.UNet((3, 32, 32), width=8, generator=rng)


def test_the_unet_of_larger_images_is_wider():
    assert weights(base.unet("mnist")).shape == weights(networks.UNet((1, 28, 28), 64)).shape
    assert weights(base.unet("cifar10")).shape == weights(networks.UNet((3, 32, 32), 64)).shape
    assert weights(base.unet("digits")).shape == weights(networks.UNet((1, 8, 8), 24)).shape
    a, b = base.unet("digits", generator(5)), networks.UNet((1, 8, 8), 24, generator=generator(5))
    assert torch.equal(weights(a), weights(b))


def test_small_noise_watches_three_losses_from_one_start():
    result = experiments.small_noise(device="cpu", seed=SEED, n_steps=100, sigma=0.2)
    noisy = densities.GaussianMixture.isotropic(
        TWO_MODES.weights, TWO_MODES.means, (1 + 0.2**2) ** 0.5
    )
    x = noisy.sample(4_000, generator=generator(SEED + 1))
    for name, loss in noisy_targets.LOSSES.items():
        seen = []
        for n in (10,) if name != "DSM" else (10, 20, 30, 50, 70, 100):
            rng = generator(SEED)
            net = networks.ScoreMLP(2, generator=rng)
            value = lambda x: loss(net, x, gaussian_like(x, rng), 0.2)  # noqa: E731, B023
            batch = lambda: TWO_MODES.sample(128, generator=rng)  # noqa: E731, B023
            trained(net, value, batch, n, 1e-3)
            seen.append(float(((net(x) - noisy.score(x)) ** 2).sum(1).mean().detach()) / 2)
        assert result.divergences[name] == pytest.approx(seen, rel=2e-3)


def test_small_noise_is_a_hundredth_and_for_digits_three_levels(monkeypatch):
    """With a training that measures nothing: the levels, and the steps of each loss."""
    levels, noised = [], noisy_targets.with_noise
    spy = lambda loss, sigma, rng: levels.append(sigma) or noised(loss, sigma, rng)  # noqa: E731
    monkeypatch.setattr(noisy_targets, "with_noise", spy)
    monkeypatch.setattr(noisy_targets, "watched", lambda net, loss, x, steps, f: [0.0] * len(steps))
    result = experiments.small_noise(device="cpu")
    assert levels == [0.01] * 3
    last = {name: steps[-1] for name, steps in result.steps.items()}
    assert last == {"DSM": 20_000, "control variate": 2_000, "antithetic pairs": 2_000}
    assert all(0 <= seconds < 60 for seconds in result.seconds.values())
    short = experiments.small_noise(device="cpu", n_steps=5).steps
    assert short == {"DSM": [5], "control variate": [1], "antithetic pairs": [1]}
    levels.clear()
    digits = experiments.small_noise_digits(device="cpu")
    assert levels == pytest.approx([0.01, 0.1, 0.3] * 3) and digits.steps[-1] == 1_000
    assert digits.sigmas == pytest.approx((0.01, 0.1, 0.3))


def test_small_noise_tells_steps_divergences_and_seconds():
    steps = {"DSM": [10, 20, 30], "control variate": [5, 9]}
    divergences = {"DSM": [3.0, 1.0, 2.0], "control variate": [1.0, 0.5]}
    told = noisy_targets.SmallNoise(steps, divergences, {"DSM": 7.0, "control variate": 8.0})
    assert told.numbers() == {
        "DSM, steps to 1": 20, "control variate, steps to 1": 5,
        "DSM, steps": 30, "control variate, steps": 9,
        "DSM, divergence then": 2.0, "control variate, divergence then": 0.5,
        "DSM, seconds": 7.0, "control variate, seconds": 8.0,
    }  # fmt: skip


def test_small_noise_on_digits_is_a_predictor_of_noise_for_each_level():
    result = experiments.small_noise_digits(device="cpu", seed=SEED, n_steps=10, sigmas=(0.1, 0.3))
    order = torch.randperm(1_797, generator=generator(0))
    train, held_out = data.digits()[order[:899]], data.digits()[order[899:]]
    assert result.sigmas == pytest.approx((0.1, 0.3)) and result.steps == [10]
    for name, loss in noisy_targets.LOSSES.items():
        for i, sigma in enumerate((0.1, 0.3)):
            rng = generator(SEED)
            net = networks.ScoreMLP(64, 256, generator=rng)
            score = lambda x: -net(x) / sigma  # noqa: E731, B023
            value = lambda x: loss(score, x, gaussian_like(x, rng), sigma)  # noqa: E731, B023
            batch = lambda: train[torch.randint(899, (128,), generator=rng)]  # noqa: E731, B023
            trained(net, value, batch, 10, 1e-3)
            epsilon = torch.randn(4, *held_out.shape, generator=generator(0))
            lowered = [variance.dsm_antithetic(score, held_out, e, sigma).mean() for e in epsilon]
            share = -2 * sigma**2 * torch.stack(lowered).mean().detach() / 64
            torch.testing.assert_close(result.explained[name][i, 0], share, rtol=1e-4, atol=1e-6)


def test_small_noise_on_digits_tells_300_steps_and_the_last():
    explained = {"DSM": torch.tensor([[0.1, 0.2, 0.3]]), "pairs": torch.tensor([[0.4, 0.5, 0.6]])}
    told = noisy_targets.SmallNoiseDigits((0.5,), [100, 300, 700], explained).numbers()
    assert told == {
        "DSM, σ = 0.5, 300 steps": pytest.approx(0.2),
        "DSM, σ = 0.5, 700 steps": pytest.approx(0.3),
        "pairs, σ = 0.5, 300 steps": pytest.approx(0.5),
        "pairs, σ = 0.5, 700 steps": pytest.approx(0.6),
    }


def test_looks_are_at_round_numbers_and_the_end():
    assert noisy_targets.looks(1_500) == [
        10, 20, 30, 50, 70, 100, 200, 300, 500, 700, 1_000, 1_500,
    ]  # fmt: skip
    assert noisy_targets.looks(30) == [10, 20, 30] and noisy_targets.looks(1) == [1]
    assert noisy_targets.looks(10**6)[-2:] == [700_000, 10**6]


X, LINE = torch.randn(60, 2, generator=generator(0)), torch.linspace(1, 2, 300)
SAMPLERS = "ancestral", "DDIM", "annealed Langevin"
RESULTS = {  # small ones of every kind, and how many axes there are to draw
    "manifold": (lambda: toys.Manifold(-LINE, LINE, 0.01), 1),
    "low density": (lambda: toys.error_map(experiments.pretrained("low_density"), LINE), 4),
    "mixing": (lambda: toys.Mixing(X, X, X), 3),
    "film": (lambda: toys.Film(X.repeat(41, 1, 1), toys.LADDER.repeat_interleave(5)[:41]), 5),
    "trained": (lambda: toys.Trained(None, LINE, X, X), 2),
    "three ways": (lambda: toys.ThreeWays(None, (20, 50), dict.fromkeys(SAMPLERS, [X, X])), 2),
    "small noise": (
        lambda: noisy_targets.SmallNoise(
            dict.fromkeys(noisy_targets.LOSSES, [1, 2]),
            dict.fromkeys(noisy_targets.LOSSES, [2.0, 1.0]),
            dict.fromkeys(noisy_targets.LOSSES, 1.0),
        ),
        1,
    ),
}


@pytest.mark.parametrize(("make", "axes"), RESULTS.values(), ids=RESULTS)
def test_every_result_draws_itself(make, axes):
    figure = make().picture()
    assert len(figure.axes) == axes
    assert all(ax.has_data() for ax in figure.axes)
