"""Diagnostics against closed forms and brute force."""

import math
from itertools import permutations

import pytest
import torch

from sbm_lite.densities import gaussian
from sbm_lite.diagnostics import (
    autocorrelation,
    effective_sample_size,
    fisher_divergence,
    grid,
    mode_weights,
    nearest,
    standard_error,
    wasserstein,
)
from sbm_lite.runtime import generator


def normals(*shape, seed=0):
    return torch.randn(shape, generator=generator(seed), dtype=torch.float64)


def test_grid_runs_along_the_first_coordinate_first():
    assert grid(1, 3).tolist() == [[x, y] for y in (-1, 0, 1) for x in (-1, 0, 1)]
    assert grid(2, 2, dim=1).tolist() == [[-2], [2]]
    assert grid(1, 2, dim=3).shape == (8, 3)


def test_standard_error_by_hand():
    assert standard_error(torch.tensor([1.0, 2.0, 3.0, 6.0])) == pytest.approx((14 / 3) ** 0.5 / 2)


def test_standard_error_covers_the_mean():
    """Of 400 means of 50 draws, 68 % lie within one standard error of the truth."""
    draws = normals(400, 50)
    inside = [abs(row.mean()) < standard_error(row) for row in draws]
    assert abs(sum(inside) / 400 - 0.68) < 4.5 * (0.68 * 0.32 / 400) ** 0.5


def test_nearest_and_mode_weights():
    x = torch.tensor([[0.1, 0.0], [4.9, 5.0], [5.2, 5.0], [5.0, 4.0]])
    centres = torch.tensor([[0.0, 0.0], [5.0, 5.0], [90.0, 90.0]])
    assert nearest(x, centres).tolist() == [0, 1, 1, 1]
    assert mode_weights(x, centres).tolist() == [0.25, 0.75, 0.0]


def test_mode_weights_takes_centres_of_another_dtype():
    x = torch.zeros(2, 2)
    assert mode_weights(x, torch.ones(1, 2).double()).dtype == x.dtype


def test_fisher_divergence_by_hand():
    s, target = torch.tensor([[1.0, 2.0], [0.0, 0.0]]), torch.tensor([[0.0, 0.0], [3.0, 4.0]])
    assert fisher_divergence(s, target) == (1 + 4 + 9 + 16) / 4


def test_fisher_divergence_between_two_gaussians():
    """½ E‖x/s² − x‖² = ½ d (1 − 1/s²)² on draws of N(0, I)."""
    x = normals(20_000, 3)
    terms = ((x / 4 - x) ** 2).sum(1) / 2
    measured = fisher_divergence(gaussian(2.0, dim=3).score(x), gaussian(dim=3).score(x))
    assert abs(measured - 3 * 0.75**2 / 2) < 4.5 * standard_error(terms)


def test_wasserstein_by_trying_every_assignment():
    x, y = normals(6, 2), normals(6, 2, seed=1)
    costs = [(x - y[list(p)]).square().sum(1).mean() for p in permutations(range(6))]
    assert wasserstein(x, y) == pytest.approx(float(min(costs)) ** 0.5, rel=1e-9)


def test_wasserstein_of_a_shift_and_of_unequal_clouds():
    x = normals(50, 2)
    assert wasserstein(x, x + torch.tensor([3.0, 4.0])) == pytest.approx(5, rel=1e-6)
    assert wasserstein(x, x.repeat(2, 1)) == pytest.approx(0, abs=1e-6)


def noisy_echo(memory, n_steps=4000, n_chains=50):
    """x ← memory·x + noise, started in its own law: ρₖ = memoryᵏ, τ = (1 + m)/(1 − m)."""
    noise = normals(n_steps, n_chains) * (1 - memory**2) ** 0.5
    path = [normals(n_chains, seed=1)]
    for z in noise[1:]:
        path.append(memory * path[-1] + z)
    return torch.stack(path)


def by_definition(path, lag):
    """Autocovariance at one lag, divided by t, over that at lag 0."""
    centred = path - path.mean()
    products = centred[: len(path) - lag] * centred[lag:]
    return (products.sum() / centred.square().sum()).item()


def test_autocorrelation_by_its_definition():
    path = noisy_echo(0.7, n_steps=200, n_chains=3) + 5
    rho = autocorrelation(path)
    assert len(rho) == 200 and rho[0] == 1
    for lag in (1, 2, 50, 199):
        assert rho[lag].item() == pytest.approx(by_definition(path, lag), abs=1e-10)
    torch.testing.assert_close(autocorrelation(1e-6 * path), rho, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("memory", [0.0, 0.5, 0.9])
def test_effective_sample_size_of_an_echo(memory):
    path = noisy_echo(memory)
    exact = path.numel() * (1 - memory) / (1 + memory)
    assert effective_sample_size(path) == pytest.approx(exact, rel=0.06)


def test_effective_sample_size_may_exceed_the_number_of_steps():
    """A chain that overshoots (memory −0.5) averages better than independent draws."""
    path = noisy_echo(-0.5)
    assert effective_sample_size(path) == pytest.approx(3 * path.numel(), rel=0.1)


@pytest.mark.parametrize("memory, n_steps", [(0.8, 41), (0.8, 40), (-0.5, 41)])
def test_effective_sample_size_by_its_definition(memory, n_steps):
    """τ = 2 Σ (ρ₂ₘ + ρ₂ₘ₊₁) − 1 up to the first negative pair, but at least 1/log₁₀(tn)."""
    path = noisy_echo(memory, n_steps, n_chains=3)
    rho = [by_definition(path, lag) for lag in range(n_steps)]
    pairs = [a + b for a, b in zip(rho[::2], rho[1::2], strict=False)]
    until = next((m for m, pair in enumerate(pairs) if pair < 0), len(pairs))
    assert 1 <= until < len(pairs)
    tau = max(2 * sum(pairs[:until]) - 1, 1 / math.log10(path.numel()))
    assert effective_sample_size(path) == pytest.approx(path.numel() / tau, rel=1e-9)


def test_autocorrelation_wants_steps_and_chains():
    assert len(autocorrelation(normals(2, 3))) == 2
    for wrong in (normals(10), normals(1, 5), normals(4, 5, 6)):
        with pytest.raises(ValueError, match=r"path must have shape \(t, n\) with t >= 2, got \("):
            autocorrelation(wrong)


def test_effective_sample_size_of_chains_that_stand_still_apart():
    """ρₖ = (t − k)/t, never negative: all pairs count."""
    path = torch.tensor([-1.0, 1.0]).double().expand(6, 2)
    tau = 2 * sum((6 - k) / 6 for k in range(6)) - 1
    assert effective_sample_size(path) == pytest.approx(12 / tau, rel=1e-9)


def test_effective_sample_size_of_few_numbers_has_the_bound_of_ten():
    path = torch.tensor([1.0, -1.0] * 3).double()[:, None]
    assert effective_sample_size(path) == pytest.approx(6 * 1, rel=1e-9)


def test_distances_far_from_the_origin_keep_their_digits():
    """Forty points 10⁴ away, 0.01 from their centres: a matrix product would lose all of it."""
    centres = 1e4 + torch.arange(40.0)[:, None].expand(40, 2)
    x = centres + 0.01
    assert nearest(x, centres).tolist() == list(range(40))
    assert wasserstein(x, centres) == pytest.approx(float((x - centres).norm(dim=1)[0]), rel=1e-2)
