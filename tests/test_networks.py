"""Networks by hand: every layer, every wrapper, and who is differentiated by whom."""

import math

import pytest
import torch
from torch import nn

from sbm_lite import losses
from sbm_lite.calculus import divergence, jacobian, value_and_divergence
from sbm_lite.densities import gaussian
from sbm_lite.networks import (
    DdpmScore,
    DenoiserScore,
    EnergyScore,
    EpsilonScore,
    NoiseConditional,
    NoiseConditionalMLP,
    ScoreMLP,
    TimeMLP,
    UNet,
    mlp,
    sinusoidal,
)
from sbm_lite.noise import alpha_bars, linear_betas
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
    "TimeMLP": lambda g: TimeMLP(2, generator=g),
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


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("d", [1, 2, 50])
def test_the_trace_of_two_layers_is_that_of_d_backward_passes(d, depth):
    """Value, trace and the gradient of both in all weights; other depths take the passes."""
    net = ScoreMLP(d, 16, depth, generator=generator(d)).double()
    x = 3 * torch.randn(7, d, generator=generator(1)).double()
    weights = list(net.parameters())
    short, passes = net.value_and_divergence(x), value_and_divergence(net.body, x)
    torch.testing.assert_close(short, passes, rtol=1e-12, atol=1e-12)
    slopes = [
        torch.autograd.grad((s**2).sum() + t.sin().sum(), weights, materialize_grads=True)
        for s, t in (short, passes)
    ]
    torch.testing.assert_close(*slopes, rtol=1e-10, atol=1e-12)


def test_calculus_asks_a_score_mlp_for_its_trace(monkeypatch):
    net, x = ScoreMLP(2, 8), torch.ones(3, 2)
    monkeypatch.setattr(ScoreMLP, "value_and_divergence", lambda self, x: ("s", "trace"))
    assert value_and_divergence(net, x) == ("s", "trace")
    assert divergence(net, x) == "trace"


def test_the_short_trace_is_not_used_where_it_would_be_wrong():
    """In a subclass with a forward of its own, and with other units."""

    class Halved(ScoreMLP):
        def forward(self, x):
            return super().forward(x) / 2

    x = torch.randn(5, 3, generator=generator(2)).double()
    halved, bent = Halved(3, 8).double(), ScoreMLP(3, 8).double()
    bent.body[1] = nn.Tanh()
    for net in (halved, bent):
        trace = jacobian(net, x).diagonal(dim1=1, dim2=2).sum(1)
        torch.testing.assert_close(divergence(net, x), trace, rtol=1e-12, atol=1e-12)


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


# Networks told a number


def by_frequencies(t, width):
    """cos and sin of t·10000^(−2k/width), one number at a time."""
    half = width // 2
    angles = [[float(one) * 10_000 ** (-k / half) for k in range(half)] for one in t]
    rows = [[*map(math.cos, row), *map(math.sin, row)] for row in angles]
    return torch.tensor(rows, dtype=torch.float64)


def test_sinusoidal_turns_a_clock_at_every_frequency():
    t = torch.tensor([0.0, 1.0, -3.5, 1000.0]).double()
    torch.testing.assert_close(sinusoidal(t, 8), by_frequencies(t, 8), rtol=1e-10, atol=1e-10)
    assert sinusoidal(t[:1], 6).tolist() == [[1, 1, 1, 0, 0, 0]]


def test_sinusoidal_tells_a_thousand_steps_apart():
    features = sinusoidal(torch.arange(1, 1001).double(), 32)
    gaps = torch.cdist(features, features) + 9 * torch.eye(1000).double()
    assert gaps.min() > 0.5


def test_time_mlp_is_an_mlp_on_the_point_and_its_clock():
    net, x = TimeMLP(2, width=16, depth=1, generator=generator(9)).double(), points()
    body = mlp(2 + 32, 2, width=16, depth=1, generator=generator(9)).double()
    t = torch.tensor([1.0, 500.0, 1000.0])
    seen = torch.cat([x, by_frequencies(t, 32)], dim=1)
    torch.testing.assert_close(net(x, t), body(seen))
    assert [tuple(p.shape) for p in TimeMLP(2).parameters()][::2] == [
        (128, 34),
        (128, 128),
        (2, 128),
    ]


BODIES = {
    "TimeMLP": lambda: TimeMLP(16, width=32, generator=generator(10)).double(),
    "UNet": lambda: awake(UNet((1, 4, 4), 8, generator=generator(10))).double(),
}
each_body = pytest.mark.parametrize("make", BODIES.values(), ids=BODIES)


def awake(net):
    """A U-Net whose last layer, zero at first, has been given weights, as training would."""
    last = net.leave[-1].weight
    last.data = torch.randn(last.shape, generator=generator(11), dtype=last.dtype)
    return net


@each_body
def test_a_body_listens_to_the_number_it_is_told(make):
    net, x = make(), points(3, 16)
    at = [net(x, torch.full((3,), t).double()) for t in (1.0, 2.0, 999.0)]
    assert (at[0] - at[1]).abs().max() > 1e-4 and (at[0] - at[2]).abs().max() > 1e-3


@each_body
def test_points_of_a_batch_do_not_hear_of_one_another(make):
    net, x, t = make(), points(3, 16), torch.tensor([1.0, 40.0, 999.0]).double()
    alone = torch.cat([net(x[n : n + 1], t[n : n + 1]) for n in range(3)])
    torch.testing.assert_close(net(x, t), alone, rtol=1e-9, atol=1e-9)
    assert not torch.allclose(net(x, t), net(x, t.flip(0)))


@each_body
@pytest.mark.parametrize("loss", ["ncsn", "ddpm_simple"])
def test_every_weight_of_a_told_network_learns(make, loss):
    x, epsilon = points(4, 16), points(4, 16, seed=1)
    if loss == "ncsn":
        net = NoiseConditional(make())
        losses.ncsn(net, x, epsilon, torch.tensor([0.1, 0.5, 2.0, 9.0])).sum().backward()
    else:
        net = DdpmScore(make(), BARS)
        losses.ddpm_simple(net, x, epsilon, torch.tensor([1, 7, 20, 3]), BARS).sum().backward()
    assert [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()] == []


@each_body
def test_a_told_network_that_learns_improves(make):
    """Twenty steps of Adam on one batch lower its loss by more than half."""
    net, x, epsilon = DdpmScore(make(), BARS), points(8, 16), points(8, 16, seed=1)
    t = torch.arange(4, 20, 2)
    adam = torch.optim.Adam(net.parameters(), lr=1e-2)
    of = lambda: losses.ddpm_simple(net, x, epsilon, t, BARS).mean()  # noqa: E731
    before = of().item()
    for _ in range(20):
        adam.zero_grad()
        of().backward()
        adam.step()
    assert of().item() < before / 2


# Wrappers of bodies


class Clock(nn.Module):
    """A body in closed form, (x, t) → sin(x)(2 + cos t), that notes what it was told."""

    def forward(self, x, t):
        self.told = t
        return torch.sin(x) * (2 + torch.cos(t))[:, None]


@each_level
def test_noise_conditional_scales_points_and_output_and_tells_a_hundred_logarithms(sigma):
    x, s = points(), column(sigma)
    by_hand = torch.sin(x / (1 + s**2) ** 0.5) * (2 + torch.cos(100 * s.log())) / s
    torch.testing.assert_close(NoiseConditional(Clock())(x, sigma), by_hand)


def test_noise_conditional_is_told_one_number_per_point():
    net = NoiseConditional(Clock())
    net(points(), 0.5)
    torch.testing.assert_close(net.body.told, torch.full((3,), 100 * math.log(0.5)).double())
    with pytest.raises(ValueError, match=r"sigma must be one number or have shape \(3,\), got"):
        net(points(), torch.ones(2))


BARS = alpha_bars(linear_betas(20, 0.01, 0.4))
STEPS = {"one step": 7, "a tensor": torch.tensor(7), "one each": torch.tensor([1, 20, 7])}
each_step = pytest.mark.parametrize("t", STEPS.values(), ids=STEPS)


@each_step
def test_ddpm_score_is_minus_epsilon_over_the_noise_of_the_step(t):
    x, steps = points(), torch.as_tensor(t).expand(3).tolist()
    noise = torch.tensor([[(1 - float(BARS[t - 1])) ** 0.5] for t in steps], dtype=torch.float64)
    clock = torch.tensor([[2 + math.cos(t)] for t in steps], dtype=torch.float64)
    net = DdpmScore(Clock(), BARS)
    torch.testing.assert_close(net(x, t), -torch.sin(x) * clock / noise)
    assert net.epsilon.told.tolist() == steps and net.epsilon.told.dtype == x.dtype


@each_step
def test_ddpm_score_of_the_exact_noise_of_a_gaussian(t):
    """On N(0, I), E[ε | x_t] = √(1 − ᾱ_t) x_t, and the score of every step is −x."""
    x = points()
    exact = lambda x, t: (1 - BARS[t.long() - 1, None]).sqrt() * x  # noqa: E731
    torch.testing.assert_close(DdpmScore(exact, BARS)(x, t), -x)


def test_the_schedule_is_a_setting_and_no_weight():
    """It comes from the caller, not from a file of weights, and keeps all its digits."""
    net, x = DdpmScore(TimeMLP(2, generator=generator(12)), BARS), points()
    other = DdpmScore(TimeMLP(2, generator=generator(13)), alpha_bars(linear_betas(20, 0.02, 0.2)))
    weights = net.state_dict()
    assert set(weights) == {name for name, _ in net.named_parameters()}
    other.load_state_dict(weights)
    ratio = other.double()(x, 7) / net.double()(x, 7)
    noise = [(1 - float(s.alpha_bars[6])) ** 0.5 for s in (net, other)]
    torch.testing.assert_close(ratio, torch.full((3, 2), noise[0] / noise[1]).double())
    half = net.to(torch.float32)
    assert torch.equal(half.alpha_bars, BARS) and half(x.float(), 7).dtype == torch.float32


# UNet


def normalised(norm, h):
    """Group norm written out: each of 8 groups of channels to mean 0 and variance 1."""
    groups = h.reshape(len(h), 8, -1)
    mean, variance = groups.mean(2, keepdim=True), groups.var(2, unbiased=False, keepdim=True)
    h = ((groups - mean) / (variance + 1e-5) ** 0.5).reshape(h.shape)
    return h * norm.weight[:, None, None] + norm.bias[:, None, None]


def swish(h):
    return h / (1 + (-h).exp())


def convolved(layer, h):
    """A convolution as a sum over the shifts of its kernel, zero outside of the image."""
    weight, (n_rows, n_columns) = layer.weight, h.shape[2:]
    edge = weight.shape[2] // 2
    wide = torch.nn.functional.pad(h, [edge] * 4)
    total = layer.bias[:, None, None].expand(len(h), -1, n_rows, n_columns)
    for i in range(weight.shape[2]):
        for j in range(weight.shape[3]):
            part = wide[:, :, i : i + n_rows, j : j + n_columns]
            total = total + torch.einsum("oc,nchw->nohw", weight[:, :, i, j], part)
    return total


def block(layer, h, told):
    inner = convolved(layer.first[2], swish(normalised(layer.first[0], h)))
    inner = inner + (told @ layer.shift.weight.T + layer.shift.bias)[:, :, None, None]
    inner = convolved(layer.second[2], swish(normalised(layer.second[0], inner)))
    same = isinstance(layer.shortcut, nn.Identity)
    return inner + (h if same else convolved(layer.shortcut, h))


def attention(layer, h):
    """softmax(qkᵀ/√c) v over places, one image and one place at a time."""
    c, out = h.shape[1], []
    for image, asked in zip(h, convolved(layer.ask, normalised(layer.norm, h)), strict=True):
        q, k, v = asked.flatten(1).split(c)
        seen = [v @ torch.softmax(k.T @ q[:, i] / c**0.5, 0) for i in range(q.shape[1])]
        seen = torch.stack(seen, 1).reshape(1, *image.shape)
        out.append(image + convolved(layer.answer, seen)[0])
    return torch.stack(out)


def half(h):
    return (h[:, :, ::2, ::2] + h[:, :, 1::2, ::2] + h[:, :, ::2, 1::2] + h[:, :, 1::2, 1::2]) / 4


def double(h):
    return h.repeat_interleave(2, 2).repeat_interleave(2, 3)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 4, 12)], ids=["grey", "colours"])
def test_unet_layer_by_layer(shape):
    """Down twice, around, and up again beside what was seen on the way down."""
    net = awake(UNet(shape, 16, generator=generator(14))).double()
    shaken = generator(15)
    for p in net.parameters():  # so that gains and offsets of the norms count, too
        p.data = p.data + 0.1 * torch.randn(p.shape, generator=shaken, dtype=p.dtype)
    x, t = points(2, math.prod(shape)), torch.tensor([3.0, 700.0]).double()
    first, _, second = net.told
    told = swish(by_frequencies(t, 32) @ first.weight.T + first.bias)
    told = swish(told @ second.weight.T + second.bias)
    fine = block(net.down[0], convolved(net.enter, x.reshape(2, *shape)), told)
    middle = block(net.down[1], half(fine), told)
    coarse = attention(net.look_around, block(net.middle[0], half(middle), told))
    up = double(block(net.middle[1], coarse, told))
    up = double(block(net.up[0], torch.cat([up, middle], 1), told))
    up = block(net.up[1], torch.cat([up, fine], 1), told)
    by_hand = convolved(net.leave[2], swish(normalised(net.leave[0], up))).reshape(2, -1)
    torch.testing.assert_close(net(x, t), by_hand, rtol=1e-9, atol=1e-9)


def test_attention_sees_the_whole_image():
    """The pull of every place on every other: no entry of the Jacobian is zero."""
    layer = UNet((1, 16, 16), 8, generator=generator(16)).double().look_around
    layer.norm = nn.Identity()  # which would join the places as well
    image = points(1, 16 * 16, seed=2).reshape(1, 16, 4, 4)
    first_channel = lambda image: layer(image)[0, 0].flatten()  # noqa: E731
    slopes = torch.autograd.functional.jacobian(first_channel, image)[:, 0]
    between_places = slopes.abs().sum(1).reshape(16, 16)
    assert (between_places > 1e-6).all()


def test_weights_of_a_unet_come_from_the_generator_alone():
    """All but gains, offsets and the last layer, which start at one, nought and nought."""
    before = torch.random.get_rng_state()
    nets = [UNet(generator=g) for g in (*map(generator, (1, 1, 2)), None, None)]
    assert torch.equal(torch.random.get_rng_state(), before)
    one, same, other, free, freer = (dict(net.named_parameters()) for net in nets)
    norms = {
        f"{k}.{p}"
        for k, m in nets[0].named_modules()
        if isinstance(m, nn.GroupNorm)
        for p in ("weight", "bias")
    }
    for name in one:
        assert torch.equal(one[name], same[name])
        if name in norms:
            assert (one[name] == name.endswith("weight")).all()
        elif name == "leave.2.weight":
            assert not one[name].any()
        else:
            assert not (one[name] == other[name]).any()
            assert (free[name] == freer[name]).double().mean() < 0.1  # two draws may meet by chance
    stream = generator(1)
    assert torch.equal(UNet(generator=stream).enter.weight, one["enter.weight"])
    assert not torch.equal(UNet(generator=stream).enter.weight, one["enter.weight"])


def test_weights_of_a_unet_are_uniform_within_one_over_root_inputs():
    net = UNet(width=64, generator=generator(17))
    for layer, n_in in (
        (net.down[1].first[2], 9 * 64),
        (net.told[2], 256),
        (net.look_around.ask, 128),
    ):
        bound, p = n_in**-0.5, layer.weight
        assert 0.99 * bound < p.abs().max() <= bound and layer.bias.abs().max() <= bound
        assert abs(p.std() * 3**0.5 / bound - 1) < 4.5 * (0.2 / p.numel()) ** 0.5
        assert abs(p.mean()) < 4.5 * bound / 3**0.5 / p.numel() ** 0.5


def test_an_untrained_unet_says_the_same_of_every_image():
    net, x = UNet(generator=generator(18)), points(3, 64).float()
    at = net(x, torch.tensor([1.0, 10.0, 100.0]))
    torch.testing.assert_close(at, net.leave[2].bias.detach().expand(3, 64))


def test_a_unet_takes_points_in_any_layout():
    """Samplers keep coordinates together in memory, as the transpose of (d, n)."""
    net, x, t = awake(UNet(generator=generator(19))), points(5, 64).float(), torch.arange(5.0)
    turned = x.T.contiguous().T
    assert not turned.is_contiguous()
    torch.testing.assert_close(net(turned, t), net(x, t))


@pytest.mark.parametrize(
    ("shape", "width"), [((1, 6, 8), 32), ((1, 8, 10), 32), ((1, 8, 8), 12), ((1, 8, 8), 4)]
)
def test_a_unet_refuses_images_it_cannot_halve_twice(shape, width):
    with pytest.raises(ValueError, match=r"multiples of 4 and width one of 8, got shape = \(1, "):
        UNet(shape, width)


@pytest.mark.parametrize("shape", [(2, 32), (1, 128)])
def test_a_unet_refuses_images_of_another_shape(shape):
    """(1, 128) could pass for two images, and (2, 32) for one, of 64 numbers."""
    with pytest.raises(ValueError, match=r"x must be flat images of shape \(1, 8, 8\), got \("):
        UNet()(torch.zeros(shape), torch.zeros(shape[0]))
