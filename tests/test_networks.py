"""Networks by hand: every layer, every wrapper, and who is differentiated by whom."""

import pytest
import torch
from torch import nn

from sbm_lite import losses
from sbm_lite.calculus import divergence, jacobian
from sbm_lite.densities import gaussian
from sbm_lite.networks import (
    DenoiserScore,
    EnergyScore,
    EpsilonScore,
    NoiseConditionalMLP,
    ScoreMLP,
    mlp,
)
from sbm_lite.runtime import generator

LEVELS = {"one level": 0.3, "a tensor": torch.tensor(0.3), "one each": torch.tensor([0.2, 1, 30.0])}
each_level = pytest.mark.parametrize("sigma", LEVELS.values(), ids=LEVELS)


def points(n=3, d=2, seed=0):
    return torch.randn(n, d, generator=generator(seed), dtype=torch.float64)


def column(sigma, n=3):
    """σ written out, one row per point, whatever form it came in."""
    return torch.as_tensor(sigma, dtype=torch.float64).expand(n)[:, None]


class Told(nn.Module):
    """A conditional field in closed form, standing in for a network."""

    def forward(self, x, sigma):
        return torch.sin(x) * (2 + column(sigma, len(x)))


# mlp


@pytest.mark.parametrize("depth", [1, 3])
def test_mlp_is_affine_maps_with_softplus_between(depth):
    net = mlp(2, 5, width=7, depth=depth, generator=generator(0)).double()
    weights = [p.detach() for p in net.parameters()]
    assert [tuple(w.shape) for w in weights[::2]] == [(7, 2), *[(7, 7)] * (depth - 1), (5, 7)]
    x = y = points()
    for k, (w, b) in enumerate(zip(weights[::2], weights[1::2], strict=True)):
        y = y @ w.T + b
        y = (1 + y.exp()).log() if k < depth else y
    torch.testing.assert_close(net(x), y)


def test_weights_are_uniform_within_one_over_root_inputs():
    """As nn.Linear draws them; a uniform law on ±r has standard deviation r/√3."""
    net = mlp(400, 1, width=400, depth=2, generator=generator(1))
    for p in (net[0].weight, net[2].weight, net[0].bias, net[4].weight):
        assert p.abs().max() <= 0.05
        assert abs(p.std() * 3**0.5 / 0.05 - 1) < 4.5 * (0.2 / p.numel()) ** 0.5
        assert abs(p.mean()) < 4.5 * 0.05 / 3**0.5 / p.numel() ** 0.5
    like = nn.Linear(400, 400)
    assert abs(like.weight.std() / net[2].weight.std() - 1) < 0.02


MAKERS = {
    "mlp": lambda g: mlp(2, 3, generator=g),
    "ScoreMLP": lambda g: ScoreMLP(2, generator=g),
    "NoiseConditionalMLP": lambda g: NoiseConditionalMLP(2, generator=g),
}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_weights_come_from_the_generator_alone(make):
    flat = lambda net: torch.cat([p.detach().flatten() for p in net.parameters()])  # noqa: E731
    before = torch.random.get_rng_state()
    one, same, other, free, freer = map(flat, map(make, (*map(generator, (1, 1, 2)), None, None)))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(one, same)
    assert not (one == other).any() and not (free == freer).any()
    stream = generator(1)
    assert torch.equal(flat(make(stream)), one) and not torch.equal(flat(make(stream)), one)


def test_layers_do_not_share_their_draws():
    net = mlp(8, 8, width=8, depth=1, generator=generator(2))
    assert not torch.equal(net[0].weight, net[2].weight)


def test_score_mlp_is_an_mlp_with_a_jacobian_of_any_kind():
    net = ScoreMLP(3, width=16, depth=1, generator=generator(3)).double()
    same = mlp(3, 3, width=16, depth=1, generator=generator(3)).double()
    x = points(5, 3)
    assert torch.equal(net(x), same(x))
    j = jacobian(net, x)
    assert (j - j.mT).abs().max() > 0.01


def test_dim_width_and_depth_default_to_two_layers_of_128():
    shapes = [tuple(p.shape) for p in ScoreMLP(2).parameters()]
    assert shapes[::2] == [(128, 2), (128, 128), (2, 128)]


def test_a_network_bends_everywhere():
    """Softplus, unlike ReLU, leaves the divergence a slope to descend."""
    net, x = ScoreMLP(2, generator=generator(4)).double(), points(50)
    assert (jacobian(lambda x: divergence(net, x)[:, None].expand(-1, 2), x).abs() > 1e-9).all()


@pytest.mark.parametrize("loss", [losses.ism, lambda s, x: losses.ssm(s, x, x)], ids=["ism", "ssm"])
def test_every_weight_learns(loss):
    for net in (ScoreMLP(2), EnergyScore(mlp(2, 1))):
        loss(net, points().float()).sum().backward()
        silent = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()]
        # A constant in the energy is no part of the score: its own bias alone has nothing to learn.
        assert silent == (["energy.4.bias"] if isinstance(net, EnergyScore) else [])


# NoiseConditionalMLP


@each_level
def test_the_body_sees_scaled_points_and_log_sigma_and_predicts_in_units_of_sigma(sigma):
    net, x = NoiseConditionalMLP(2, generator=generator(5)).double(), points()
    s = column(sigma)
    seen = torch.cat([x / (1 + s**2) ** 0.5, s.log()], dim=1)
    torch.testing.assert_close(net(x, sigma), net.body(seen) / s)


def test_a_level_for_all_is_the_same_level_for_each():
    net, x = NoiseConditionalMLP(2, generator=generator(5)), points().float()
    assert torch.equal(net(x, 0.7), net(x, torch.full((3,), 0.7)))


def test_each_point_is_told_its_own_level():
    net, x = NoiseConditionalMLP(2, generator=generator(5)), points().float()
    sigma = torch.tensor([0.1, 1.0, 10.0])
    alone = torch.cat([net(x[n : n + 1], sigma[n]) for n in range(3)])
    torch.testing.assert_close(net(x, sigma), alone)


def test_sigma_times_the_score_is_of_order_one_at_every_level():
    net, epsilon = NoiseConditionalMLP(2, generator=generator(6)), points(500).float()
    for sigma in (0.01, 1.0, 100.0):
        assert 0.01 < (sigma * net(sigma * epsilon, sigma)).std() < 3


# EnergyScore


class Bowl(nn.Module):
    """E(x) = ½ xᵀSx + sin x₁, with S symmetric."""

    def __init__(self, keepdim):
        super().__init__()
        self.stiffness = nn.Parameter(torch.tensor([[2.0, 0.5], [0.5, 1.0]]).double())
        self.keepdim = keepdim

    def forward(self, x):
        energy = ((x @ self.stiffness) * x).sum(1) / 2 + torch.sin(x[:, 0])
        return energy[:, None] if self.keepdim else energy


@pytest.mark.parametrize("keepdim", [False, True])
def test_energy_score_is_minus_the_gradient(keepdim):
    x = points()
    by_hand = -(x @ torch.tensor([[2.0, 0.5], [0.5, 1.0]]).double())
    by_hand[:, 0] -= torch.cos(x[:, 0])
    torch.testing.assert_close(EnergyScore(Bowl(keepdim))(x), by_hand)


def test_energy_score_of_a_network_by_finite_differences():
    energy, x, h = mlp(3, 1, generator=generator(7)).double(), points(5, 3), 1e-5
    fall = [energy(x - e) - energy(x + e) for e in h * torch.eye(3).double()]
    slope = (torch.cat(fall, dim=1) / (2 * h)).detach()
    torch.testing.assert_close(EnergyScore(energy)(x), slope, rtol=1e-7, atol=1e-7)


def test_energy_score_has_no_curl():
    net, x = EnergyScore(mlp(3, 1, generator=generator(7)).double()), points(5, 3)
    j = jacobian(net, x)
    torch.testing.assert_close(j, j.mT, rtol=1e-10, atol=1e-10)
    assert j.abs().max() > 1e-3


def test_energy_score_can_be_trained_and_differentiated_again():
    """ISM of the bowl: tr ∇s = −tr S + sin x₁, differentiated by hand in S."""
    net, x = EnergyScore(Bowl(False)), points()
    trace = -3 + torch.sin(x[:, 0])
    torch.testing.assert_close(losses.ism(net, x), trace + (net(x) ** 2).sum(1) / 2)
    losses.ism(net, x).sum().backward()
    by_hand = -3 * torch.eye(2).double() - net(x).detach().T @ x
    symmetric = lambda a: (a + a.T) / 2  # noqa: E731
    torch.testing.assert_close(symmetric(net.energy.stiffness.grad), symmetric(by_hand))


def test_energy_score_works_without_gradients_too():
    net, x = EnergyScore(Bowl(False)), points()
    with torch.no_grad():
        quiet = net(x)
    assert not quiet.requires_grad and torch.equal(quiet, net(x).detach())


@pytest.mark.parametrize("shape", [(3, 2), (2,), (), (1, 3)])
def test_an_energy_is_one_number_per_point(shape):
    net = EnergyScore(lambda x: x.sum() * torch.ones(shape).double())
    with pytest.raises(ValueError, match=r"energy\(x\) must have shape \(3,\) or \(3, 1\), got \("):
        net(points())


# Wrappers


@each_level
def test_epsilon_score_is_minus_epsilon_over_sigma(sigma):
    x = points()
    torch.testing.assert_close(EpsilonScore(Told())(x, sigma), -Told()(x, sigma) / column(sigma))


@each_level
def test_denoiser_score_is_the_way_to_the_clean_point_over_the_variance(sigma):
    x = points()
    by_hand = (Told()(x, sigma) - x) / column(sigma) ** 2
    torch.testing.assert_close(DenoiserScore(Told())(x, sigma), by_hand)


@each_level
def test_all_ways_to_predict_the_score_of_a_gaussian_agree(sigma):
    """N(0, I) and noise σ: ε = σx̃/(1 + σ²), D = x̃/(1 + σ²), s = −x̃/(1 + σ²)."""
    x = points()
    expected = -x / (1 + column(sigma) ** 2)
    as_epsilon = lambda x, sigma: column(sigma) * x / (1 + column(sigma) ** 2)  # noqa: E731
    as_denoiser = lambda x, sigma: x / (1 + column(sigma) ** 2)  # noqa: E731
    torch.testing.assert_close(EpsilonScore(as_epsilon)(x, sigma), expected)
    torch.testing.assert_close(DenoiserScore(as_denoiser)(x, sigma), expected)
    if not torch.is_tensor(sigma):
        torch.testing.assert_close(gaussian().smoothed(sigma).score(x), expected)


@pytest.mark.parametrize("wrap", [EpsilonScore, DenoiserScore])
def test_wrapped_networks_learn_and_have_a_divergence(wrap):
    net, x = wrap(NoiseConditionalMLP(2, generator=generator(8))).double(), points()
    j = jacobian(lambda x: net(x, 0.5), x)
    trace = divergence(lambda x: net(x, 0.5), x)
    torch.testing.assert_close(trace, j.diagonal(dim1=1, dim2=2).sum(1))
    losses.ncsn(net, x, points(seed=1), LEVELS["one each"]).sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in net.parameters())


@pytest.mark.parametrize("wrap", [EpsilonScore, DenoiserScore, lambda net: net])
def test_a_network_told_half_the_levels_says_so(wrap):
    net = wrap(NoiseConditionalMLP(2))
    with pytest.raises(ValueError, match=r"sigma must be one number or have shape \(3,\), got"):
        net(points().float(), torch.ones(2))
