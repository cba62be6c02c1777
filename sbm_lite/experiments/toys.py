"""Experiments in the plane and on the digits' pixels: seconds on a CPU."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from sbm_lite import data, densities, diagnostics, losses, noise, runtime, samplers, validation
from sbm_lite.experiments import base
from sbm_lite.training import draws, fit, minibatches

Points = Float[Tensor, "n d"]
MODES = densities.two_modes()
LADDER = noise.geometric_sigmas(20, 1, 10)  # the published one; σ is the std of a component


def published_level(sigma: float) -> densities.GaussianMixture:
    """The annealed toy density of the NCSN code: the modes with σ in place of their std."""
    return densities.GaussianMixture.isotropic(MODES.weights, MODES.means, sigma)


def share(x: Points) -> tuple[float, float]:
    """The share of points above the line x₁ + x₂ = 0, and its standard error."""
    above = (x.sum(1) > 0).double()
    return float(above.mean()), float(diagnostics.standard_error(above))


def within(x: Points) -> float:
    """The variance per coordinate of the points above the line x₁ + x₂ = 0."""
    return float(x[x.sum(1) > 0].var(0).mean())


class Manifold(NamedTuple):
    """Toy figure 1: sliced score matching on raw pixels and on pixels with a little noise."""

    raw: Float[Tensor, " t"]
    noised: Float[Tensor, " t"]
    noise_std: float

    @property
    def floor(self) -> float:
        """What no score can get below with noise: −d/2σ², and d = 64 pixels."""
        return -64 / (2 * self.noise_std**2)

    def numbers(self) -> dict[str, float]:
        last = slice(-100, None)
        return {
            "raw, mean of the last 100 steps": float(self.raw[last].mean()),
            "noised, mean of the last 100 steps": float(self.noised[last].mean()),
            "floor with noise": self.floor,
        }

    def picture(self):
        from sbm_lite.experiments import pictures

        return pictures.manifold(self)


def manifold(*, device: str = "auto", seed: int = 0, n_steps: int = 5_000) -> Manifold:
    """SSM-VR of an MLP on the digits, raw and with N(0, 10⁻⁴) noise added to each pixel.

    Reference: Song and Ermon (2019), NeurIPS, figure 1, there with a ResNet on CIFAR-10.
    """
    return manifold_of(data.digits, base.ScoreMLP, device, seed, n_steps)


def manifold_of(
    images: Callable[[], Points], network, device: str, seed: int, n_steps: int, checkpoint=None
) -> Manifold:
    """The two loss curves of `network(d, generator=)` on the pixels of `images()`, with one seed.

    The checkpoint of the second has the name of the first, with ".noised" at its end.
    """
    where = runtime.generator(seed, runtime.device(device)).device
    validation.count(n_steps, "n_steps")  # before anything is fetched
    pixels, curves = images().to(where), []
    for std in (0.0, 0.01):
        rng = runtime.generator(seed, pixels.device)
        net = network(pixels.shape[1], generator=rng)

        def loss(score, x, std=std, rng=rng):
            x = x + std * torch.randn(x.shape, generator=rng, device=x.device)
            return losses.ssm_vr(score, x, losses.slices(x, generator=rng))

        file = checkpoint and f"{checkpoint}{'.noised' if std else ''}"
        batches = minibatches(pixels, 128, generator=rng)
        settings = {"n_steps": n_steps, "checkpoint": file, "generator": rng}
        curves.append(fit(net, loss, batches, **settings))
    return Manifold(*curves, 0.01)


class LowDensity(NamedTuple):
    """Toy figure 2: the true and the learned score on a grid over [−8, 8]²."""

    net: nn.Module
    curve: Float[Tensor, " t"]
    points: Float[Tensor, "m 2"]
    truth: Float[Tensor, "m 2"]
    learned: Float[Tensor, "m 2"]
    inside: Bool[Tensor, " m"]

    @property
    def error(self) -> Float[Tensor, " m"]:
        """‖learned − true‖ at each point of the grid."""
        return (self.learned - self.truth).norm(dim=1)

    def numbers(self) -> dict[str, float]:
        inside, outside = self.error[self.inside].mean(), self.error[~self.inside].mean()
        return {
            "mean error inside the boxes": float(inside),
            "mean error outside": float(outside),
            "outside / inside": float(outside / inside),
        }

    def picture(self):
        from sbm_lite.experiments import pictures

        return pictures.low_density(self)


def low_density(*, device: str = "auto", seed: int = 0, n_steps: int = 10_000) -> LowDensity:
    """An MLP fitted to two modes by SSM-VR with one Gaussian slice, on fresh batches of 128.

    Reference: Song and Ermon (2019), NeurIPS, figure 2 and appendix B.1.
    """
    return sliced_modes(device, seed, n_steps=n_steps)


def low_density_quick(*, device: str = "auto", seed: int = 0, n_steps: int = 1_000) -> LowDensity:
    """As `low_density` in a tenth of the steps: a learning rate that starts high and falls to 0.

    It ends at a lower Fisher divergence than 10,000 steps at the published constant rate, the last
    of which only go round in the noise of batches and slices.
    """
    return sliced_modes(device, seed, n_steps=n_steps, lr=3e-3, cosine=True)


def sliced_modes(device: str, seed: int, **recipe) -> LowDensity:
    """The network of toy figure 2 fitted by SSM-VR; the recipe is what `fit` is told."""
    rng = runtime.generator(seed, runtime.device(device))
    net = base.NETWORKS["low_density"](rng)
    loss = lambda s, x: losses.ssm_vr(s, x, losses.gaussian_slices(x, generator=rng))  # noqa: E731
    return error_map(net, fit(net, loss, draws(MODES, 128, generator=rng), **recipe))


def low_density_esm(*, device: str = "auto", seed: int = 0, n_steps: int = 10_000) -> LowDensity:
    """As `low_density`, fitted to the true score itself: still no samples between the modes."""
    rng = runtime.generator(seed, runtime.device(device))
    net = base.NETWORKS["low_density"](rng)
    loss = lambda s, x: losses.esm(s, x, MODES.score(x))  # noqa: E731
    return error_map(net, fit(net, loss, draws(MODES, 128, generator=rng), n_steps=n_steps))


def error_map(net: nn.Module, curve: Float[Tensor, " t"]) -> LowDensity:
    """The fields of `net` and of the two modes on a grid, with the boxes |x − μ|∞ ≤ 2."""
    points = diagnostics.grid(8, 100)
    with torch.no_grad():
        learned = net.cpu().eval().requires_grad_(False)(points)
    boxes = [((points - mean.to(points)).abs() <= 2).all(1) for mean in MODES.means]
    return LowDensity(net, curve, points, MODES.score(points), learned, boxes[0] | boxes[1])


class Mixing(NamedTuple):
    """Toy figure 3: exact draws, plain Langevin and annealed Langevin with the exact score."""

    exact: Points
    plain: Points
    annealed: Points

    def numbers(self) -> dict[str, float]:
        told = {}
        for name, x in self._asdict().items():
            told[f"share at (5, 5), {name}"], told[f"its standard error, {name}"] = share(x)
            told[f"std within the mode, {name}"] = within(x) ** 0.5
        return told

    def picture(self):
        from sbm_lite.experiments import pictures

        return pictures.mixing(self)


def mixing(*, device: str = "auto", seed: int = 0, n: int = 100_000) -> Mixing:
    """n chains started evenly on [−8, 8]², 1,000 steps of η = 0.1; or 10 levels of 100 steps.

    Reference: Song and Ermon (2019), NeurIPS, figure 3; settings of the published code.
    """
    rng = runtime.generator(seed, runtime.device(device))
    start = even_start(n, rng)
    settings = {"step_size": 0.1, "generator": rng}
    plain = samplers.langevin(MODES.score, start, n_steps=1_000, **settings)
    annealed = samplers.annealed_langevin(exact_levels(), start, LADDER, n_steps=100, **settings)
    return Mixing(MODES.sample(n, generator=rng).cpu(), plain.cpu(), annealed.cpu())


def even_start(n: int, rng: torch.Generator) -> Points:
    """n points spread evenly over [−8, 8]², on the generator's device."""
    validation.count(n, "n")
    return 16 * torch.rand(n, 2, generator=rng, device=rng.device) - 8


def exact_levels():
    """(x, σ) → the exact score of the published level σ."""
    levels = {float(sigma): published_level(float(sigma)) for sigma in LADDER}
    return lambda x, sigma: levels[sigma].score(x)


class Film(NamedTuple):
    """Annealed Langevin in motion: chains (t, n, 2), and the level of each frame."""

    path: Float[Tensor, "t n 2"]
    sigmas: Float[Tensor, " t"]

    def numbers(self) -> dict[str, float]:
        return {"share at (5, 5)": share(self.path[-1])[0]}

    def picture(self):
        from sbm_lite.experiments import pictures

        return pictures.annealing(self)

    def film(self) -> bytes:
        """The animation: a looping GIF."""
        from sbm_lite.experiments import pictures

        return pictures.annealing_film(self)


def annealing_film(*, device: str = "auto", seed: int = 0, n: int = 600) -> Film:
    """The annealed chains of toy figure 3, four frames a level, σ from large to small."""
    rng = runtime.generator(seed, runtime.device(device))
    frames, score = [even_start(n, rng)], exact_levels()
    for sigma in LADDER:
        path = samplers.langevin_path(
            lambda x, sigma=float(sigma): score(x, sigma), frames[-1], n_steps=100, every=25,
            step_size=0.1 * float(sigma) ** 2, generator=rng,
        )  # fmt: skip
        frames += list(path[1:])
    sigmas = LADDER.repeat_interleave(4)
    return Film(torch.stack(frames).cpu(), torch.cat([sigmas[:1], sigmas]))


class Trained(NamedTuple):
    """A network told its noise level, and what annealed Langevin makes of it."""

    net: nn.Module
    curve: Float[Tensor, " t"]
    samples: Points
    exact: Points

    def numbers(self) -> dict[str, float]:
        told = {}
        for name, x in (("network", self.samples), ("exact draws", self.exact)):
            told[f"share above the diagonal, {name}"], error = share(x)
            told[f"its standard error, {name}"] = error
            told[f"variance there, {name}"] = within(x)
        return told

    def picture(self):
        from sbm_lite.experiments import pictures

        return pictures.trained(self)


def ncsn_two_modes(*, device: str = "auto", seed: int = 0, n_steps: int = 10_000) -> Trained:
    """NCSN on the two modes: σ from 20 to 0.1, then 20 levels of 50 Langevin steps.

    Reference: Song and Ermon (2019), NeurIPS, sections 4.2 and 4.3.
    """
    return ncsn_toy("ncsn_two_modes", MODES, device, seed, n_steps)


def ncsn_swiss_roll(*, device: str = "auto", seed: int = 0, n_steps: int = 10_000) -> Trained:
    """As `ncsn_two_modes`, on a swiss roll."""
    return Roll(*ncsn_toy("ncsn_swiss_roll", densities.swiss_roll(), device, seed, n_steps))


def ncsn_toy(name: str, p: densities.Density, device: str, seed: int, n_steps: int) -> Trained:
    """Train the network `name` on p over σ from 20 to 0.1, and sample it."""
    rng = runtime.generator(seed, runtime.device(device))
    net, curve = base.train(
        base.NETWORKS[name](rng), ncsn_loss(0.1, 20.0, rng), draws(p, 512, generator=rng),
        n_steps=n_steps, lr=3e-3,
    )  # fmt: skip
    samples = ncsn_samples(net, 4_000, rng).cpu()
    return Trained(net.cpu(), curve, samples, p.sample(4_000, generator=rng).cpu())


def ncsn_loss(last: float, first: float, rng: torch.Generator):
    """The NCSN loss with one level per point, uniform on a log scale between `last` and `first`."""

    def loss(score, x):
        u = torch.rand(len(x), generator=rng, device=x.device)
        sigma = last * (first / last) ** u
        return losses.ncsn(score, x, torch.randn(x.shape, generator=rng, device=x.device), sigma)

    return loss


def ncsn_samples(net: nn.Module, n: int, rng: torch.Generator) -> Points:
    """n points by 20 levels of 50 Langevin steps, σ from 20 to 0.1, and one denoising step."""
    start = 20 * torch.randn(n, 2, generator=rng, device=rng.device)
    sigmas = noise.geometric_sigmas(20, 0.1, 20)
    settings = {"step_size": 0.1 * 0.1**2, "n_steps": 50, "generator": rng}
    x = samplers.annealed_langevin(net, start, sigmas, **settings)
    return noise.denoised_from_score(x, net(x, 0.1), 0.1)


class Roll(Trained):
    """The same on a swiss roll, where a distance between clouds says more than a share."""

    def numbers(self) -> dict[str, float]:
        n = len(self.exact) // 2
        first, second = self.exact[:n], self.exact[n:]
        return {
            "Wasserstein distance, samples to exact draws": diagnostics.wasserstein(
                self.samples[:n], second
            ),
            "Wasserstein distance, exact draws to exact draws": diagnostics.wasserstein(
                first, second
            ),
        }


class ThreeWays(NamedTuple):
    """One DDPM score sampled by ancestral steps, DDIM and annealed Langevin, at several costs."""

    net: nn.Module | None
    calls: tuple[int, ...]
    samples: dict[str, list[Points]]

    def numbers(self) -> dict[str, float]:
        told = {}
        for name, sets in self.samples.items():
            for k, x in zip(self.calls, sets, strict=True):
                told[f"{name}, {k} calls: share at (1.2, 1.2)"], error = share(x)
                told[f"{name}, {k} calls: variance in the mode"] = within(x)
                told[f"{name}, {k} calls: standard error of the share"] = error
        return told

    def picture(self):
        from sbm_lite.experiments import pictures

        return pictures.three_ways(self)


def exact_samplers(*, device: str = "auto", seed: int = 0, n: int = 3_000) -> ThreeWays:
    """The three samplers with the exact score of the scaled modes, 20 to 1,000 calls each."""
    rng = runtime.generator(seed, runtime.device(device))
    validation.count(n, "n")
    laws = [densities.scaled_modes().diffused(float(at)) for at in base.ALPHA_BARS]
    score = lambda x, t: laws[int(t[0]) - 1].score(x)  # noqa: E731
    return three_ways(None, score, n, rng)


def ddpm_two_modes(*, device: str = "auto", seed: int = 0, n_steps: int = 10_000) -> ThreeWays:
    """DDPM on the scaled modes, T = 1,000: one network, sampled three ways.

    Reference: Ho, Jain and Abbeel (2020), NeurIPS.
    """
    rng = runtime.generator(seed, runtime.device(device))
    net = base.NETWORKS["ddpm_two_modes"](rng).to(rng.device)
    batches = draws(densities.scaled_modes(), 512, generator=rng)
    net, _ = base.train(net, ddpm_loss(rng), batches, n_steps=n_steps, lr=2e-3)
    result = three_ways(net, net, 3_000, rng)
    net.cpu()
    return result


def ddpm_loss(rng: torch.Generator):
    """The simple loss of DDPM with one step t per point, uniform from 1 to T."""

    def loss(score, x):
        t = torch.randint(1, 1 + len(base.ALPHA_BARS), (len(x),), generator=rng, device=x.device)
        epsilon = torch.randn(x.shape, generator=rng, device=x.device)
        return losses.ddpm_simple(score, x, epsilon, t, base.ALPHA_BARS)

    return loss


def three_ways(
    net: nn.Module | None, score, n: int, rng: torch.Generator, calls=(20, 50, 100, 250, 1_000)
) -> ThreeWays:
    """n points by each sampler for each number of calls, from N(0, I) at t = T."""
    start = torch.randn(n, 2, generator=rng, device=rng.device)
    samples: dict[str, list[Points]] = {"ancestral": [], "DDIM": [], "annealed Langevin": []}
    for k in calls:
        times = torch.linspace(len(base.ALPHA_BARS), 1, k).round().long()
        x = samplers.ancestral(score, start, base.ALPHA_BARS, times=times, generator=rng)
        samples["ancestral"].append(x.cpu())
        samples["DDIM"].append(samplers.ddim(score, start, base.ALPHA_BARS, times=times).cpu())
        samples["annealed Langevin"].append(ddpm_annealed(score, start, k, rng).cpu())
    return ThreeWays(net, tuple(calls), samples)


def ddpm_annealed(score, x: Points, n_calls: int, rng: torch.Generator) -> Points:
    """Annealed Langevin on a DDPM score from x = x_T: steps of 0.2 (1 − ᾱ_t), in x_t's units.

    20 steps at each of n_calls/20 levels evenly spaced in t, or 4 at each when calls are few.
    """
    n_steps = 20 if n_calls >= 400 else 4
    times = torch.linspace(len(base.ALPHA_BARS), 1, n_calls // n_steps).long()
    sigmas = noise.sigma_from_alpha_bar(base.ALPHA_BARS)[times - 1]
    return samplers.annealed_langevin(
        noise.ve_score(score, base.ALPHA_BARS), x / float(base.ALPHA_BARS[-1]) ** 0.5, sigmas,
        step_size=0.2 * float(sigmas[-1]) ** 2, n_steps=n_steps, generator=rng,
    )  # fmt: skip
