"""The variance of denoising: formulas written as loops, gradients one by one, known mixtures."""

import pytest
import torch
from torch import nn

from sbm_lite import losses, variance
from sbm_lite.densities import GaussianMixture
from sbm_lite.networks import EnergyScore, ScoreMLP, mlp
from sbm_lite.runtime import generator

LOPSIDED = GaussianMixture(
    [0.3, 0.7], [[-1.0, 0.0], [1.0, 0.5]], [[[0.5, 0.2], [0.2, 0.4]], [[1.2, -0.3], [-0.3, 0.8]]]
)
A, B = torch.randn(2, 4, 4, generator=generator(100), dtype=torch.float64)
EXACT = dict(rtol=1e-10, atol=1e-10)
LEVELS = {"one level": torch.full((7,), 0.3).double(), "one each": 0.2 + torch.arange(7).double()}
each_level = pytest.mark.parametrize("sigma", LEVELS.values(), ids=LEVELS)


def normals(n=7, d=4, seed=0):
    return torch.randn(n, d, generator=generator(seed), dtype=torch.float64)


def field(x):
    """A field on ℝ⁴ whose Jacobian is not symmetric, tanh(xA)B."""
    return torch.tanh(x @ A) @ B


def field_jacobian(x):
    """∂fᵢ/∂xⱼ of `field` by the chain rule, as entry [n, i, j]."""
    return torch.einsum("ki,nk,jk->nij", B, 1 - torch.tanh(x @ A) ** 2, A)


def per_point(f):
    """Σᵢ f(point, coordinate i), written as loops."""
    return torch.stack([sum(f(n, i) for i in range(4)) for n in range(7)])


def as_given(sigma):
    """One number where all levels are equal."""
    return float(sigma[0]) if (sigma == sigma[0]).all() else sigma


# The target


@each_level
def test_target_covariance_is_its_formula(sigma):
    x, jacobian = normals(), field_jacobian(normals())
    package = variance.target_covariance(field, x, as_given(sigma))
    assert package.shape == (7, 4, 4)
    for n in range(7):
        for i in range(4):
            for j in range(4):
                by_hand = (i == j) / sigma[n] ** 2 + jacobian[n, i, j]
                torch.testing.assert_close(package[n, i, j], by_hand, **EXACT)


@each_level
def test_conditional_gap_is_the_trace(sigma):
    x, jacobian = normals(), field_jacobian(normals())
    by_hand = per_point(lambda n, i: 1 / sigma[n] ** 2 + jacobian[n, i, i])
    gap = variance.conditional_gap(field, x, as_given(sigma))
    torch.testing.assert_close(gap, by_hand, **EXACT)


@pytest.mark.parametrize("sigma", [0.2, 1.0, 4.0])
def test_both_agree_with_the_exact_posterior(sigma):
    x = 2 * normals(5, 2)
    smooth = LOPSIDED.smoothed(sigma)
    package = variance.target_covariance(smooth.score, x, sigma)
    gap = variance.conditional_gap(smooth.score, x, sigma)
    for n in range(5):
        q = LOPSIDED.posterior(x[n], sigma)
        off = q.means - q.weights @ q.means
        spread = q.covariances + off[:, :, None] * off[:, None, :]
        by_hand = torch.einsum("k,kij->ij", q.weights, spread) / sigma**4
        torch.testing.assert_close(package[n], by_hand, rtol=1e-8, atol=1e-8)
        torch.testing.assert_close(gap[n], by_hand.trace(), rtol=1e-8, atol=1e-8)


# The losses


@each_level
@pytest.mark.parametrize("beta", [None, 1.0, 0.0, 0.6, -2.0])
def test_dsm_controlled_is_its_formula(sigma, beta):
    x, e = normals(), normals(seed=1)
    options = {} if beta is None else {"beta": beta}
    beta = 1.0 if beta is None else beta
    here, there = field(x), field(x + sigma[:, None] * e)
    by_hand = per_point(
        lambda n, i: 0.5 * there[n, i] ** 2 + (there[n, i] - beta * here[n, i]) * e[n, i] / sigma[n]
    )
    package = variance.dsm_controlled(field, x, e, as_given(sigma), **options)
    torch.testing.assert_close(package, by_hand, **EXACT)


@each_level
@pytest.mark.parametrize("beta", [1.0, 0.0, 0.6])
def test_dsm_controlled_is_dsm_less_its_controls(sigma, beta):
    x, e = normals(), normals(seed=1)
    controls = per_point(
        lambda n, i: e[n, i] ** 2 / (2 * sigma[n] ** 2) + beta * field(x)[n, i] * e[n, i] / sigma[n]
    )
    package = variance.dsm_controlled(field, x, e, sigma, beta=beta)
    torch.testing.assert_close(package, losses.dsm(field, x, e, sigma) - controls, **EXACT)


@each_level
def test_dsm_antithetic_is_its_formula(sigma):
    x, e = normals(), normals(seed=1)
    up, down = (field(x + sign * sigma[:, None] * e) for sign in (1, -1))
    by_hand = per_point(
        lambda n, i: (
            0.25 * (up[n, i] ** 2 + down[n, i] ** 2)
            + (up[n, i] - down[n, i]) * e[n, i] / (2 * sigma[n])
        )
    )
    package = variance.dsm_antithetic(field, x, e, as_given(sigma))
    torch.testing.assert_close(package, by_hand, **EXACT)


@each_level
def test_dsm_antithetic_is_the_mean_of_both_signs(sigma):
    x, e = normals(), normals(seed=1)
    mean = (losses.dsm(field, x, e, sigma) + losses.dsm(field, x, -e, sigma)) / 2
    constant = (e**2).sum(1) / (2 * sigma**2)
    package = variance.dsm_antithetic(field, x, e, sigma)
    torch.testing.assert_close(package, mean - constant, **EXACT)
    torch.testing.assert_close(package, variance.dsm_antithetic(field, x, -e, sigma), **EXACT)


def test_dsm_antithetic_is_a_central_difference():
    x, e = normals(), normals(seed=1)
    sides = [(field(x + k * 0.3 * e) ** 2).sum(1) for k in (1, 0, -1)]
    sliced = losses.ssm_fd(field, x, e, 0.3) - sides[1] / 2 + (sides[0] + sides[2]) / 4
    torch.testing.assert_close(variance.dsm_antithetic(field, x, e, 0.3), sliced, **EXACT)


def test_each_looks_at_two_points_of_the_score():
    x, e, seen = normals(), normals(seed=1), []
    score = lambda u: seen.append(u) or field(u)  # noqa: E731
    variance.dsm_controlled(score, x, e, 0.3)
    variance.dsm_antithetic(score, x, e, 0.3)
    wanted = [x + 0.3 * e, x, x + 0.3 * e, x - 0.3 * e]
    assert len(seen) == 4
    for u, at in zip(seen, wanted, strict=True):
        torch.testing.assert_close(u, at, **EXACT)


@pytest.mark.parametrize("loss", [variance.dsm_controlled, variance.dsm_antithetic])
def test_each_point_has_its_own_value(loss):
    x, e = normals(), normals(seed=1)
    alone = torch.cat([loss(field, x[n : n + 1], e[n : n + 1], 0.3) for n in range(7)])
    torch.testing.assert_close(loss(field, x, e, 0.3), alone, **EXACT)


@pytest.mark.parametrize("loss", [variance.dsm_controlled, variance.dsm_antithetic])
def test_gradients_reach_the_parameters_through_every_term(loss):
    theta, h = torch.tensor(0.4, dtype=torch.float64, requires_grad=True), 1e-5
    x, e = normals(), normals(seed=1)

    def mean(theta):
        return loss(lambda x: torch.sin(theta * (x @ A)) @ B, x, e, 0.3).mean()

    mean(theta).backward()
    slope = (mean(0.4 + h) - mean(0.4 - h)) / (2 * h)
    assert theta.grad.item() == pytest.approx(float(slope), rel=1e-7)


@pytest.mark.parametrize("loss", [variance.dsm_controlled, variance.dsm_antithetic])
def test_no_digits_are_lost_in_float32(loss):
    """At σ = 1/128 the raw loss is of order 10⁴ and the corrected one of order 1."""
    score = lambda x: torch.tanh(x.roll(1, 1)) - x  # noqa: E731
    x, e = torch.randn(2, 500, 2, generator=generator(3))
    sigma = 1 / 128  # which both precisions hold
    exact = loss(score, x.double(), e.double(), sigma)
    naive = losses.dsm(score, x, e, sigma) - (e**2).sum(1) / (2 * sigma**2)
    if loss is variance.dsm_controlled:
        naive = naive - (score(x) * e).sum(1) / sigma
    else:
        naive = (naive + losses.dsm(score, x, -e, sigma) - (e**2).sum(1) / (2 * sigma**2)) / 2
    off, off_naive = ((y - exact).square().mean().sqrt() for y in (loss(score, x, e, sigma), naive))
    assert off / exact.std() < 1e-5 < 1e-4 < off_naive / exact.std()


# Gradients one by one


class Scalar(nn.Module):
    """A scalar parameter, a vector, a matrix, one that nothing uses, and a shared one."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(0.7).double())
        self.shift = nn.Parameter(normals(1, 3, seed=4)[0])
        self.idle = nn.Parameter(torch.ones(2).double())
        self.matrix = nn.Parameter(normals(3, 3, seed=5))
        self.register_buffer("weights", torch.tensor([1.0, 2.0, 3.0]).double())

    def forward(self, x):
        return torch.tanh(x @ self.matrix) * self.weights + self.scale * x + self.shift


def nets():
    rng = generator(6)
    return {
        "field": ScoreMLP(3, width=5, generator=rng).double(),
        "energy": EnergyScore(mlp(3, 1, width=5, generator=rng)).double(),
        "scalar": Scalar(),
    }


SIGMAS = torch.linspace(0.1, 0.6, 6).double()
BATCHES = {
    "esm": (losses.esm, normals(6, 3, 7), normals(6, 3, 8)),
    "ism": (losses.ism, normals(6, 3, 7)),
    "ssm": (losses.ssm, normals(6, 3, 7), normals(6, 3, 8)),
    "ssm_vr": (losses.ssm_vr, normals(6, 3, 7), normals(6, 3, 8)),
    "ssm_fd": (losses.ssm_fd, normals(6, 3, 7), normals(6, 3, 8), 0.1),
    "dsm": (losses.dsm, normals(6, 3, 7), normals(6, 3, 8), 0.2),
    "dsm, levels": (losses.dsm, normals(6, 3, 7), normals(6, 3, 8), SIGMAS),
    "dsm_controlled": (variance.dsm_controlled, normals(6, 3, 7), normals(6, 3, 8), 0.2),
    "dsm_antithetic": (variance.dsm_antithetic, normals(6, 3, 7), normals(6, 3, 8), SIGMAS),
}


def flat(grads):
    return torch.cat([g.flatten() for g in grads])


def gradient(value, net):
    """∂ value/∂θ of a plain backward pass, flattened in the order of the parameters."""
    return flat(
        torch.autograd.grad(
            value, list(net.parameters()), retain_graph=True, materialize_grads=True
        )
    )


@pytest.mark.parametrize("name", nets())
@pytest.mark.parametrize("run", BATCHES.values(), ids=BATCHES)
def test_rows_are_the_gradients_of_single_points(name, run):
    loss, *batch = run
    net = nets()[name]
    rows = variance.per_sample_gradients(net, loss, *batch)
    values = loss(net, *batch)
    by_loop = torch.stack([gradient(value, net) for value in values])
    assert rows.shape == (6, sum(p.numel() for p in net.parameters()))
    torch.testing.assert_close(rows, by_loop, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(rows.mean(0), gradient(values.mean(), net), rtol=1e-9, atol=1e-9)


def test_the_same_one_point_at_a_time():
    net, (loss, x, e, sigma) = nets()["field"], BATCHES["dsm, levels"]
    rows = variance.per_sample_gradients(net, loss, x, e, sigma)
    for n in range(6):
        own = variance.per_sample_gradients(net, loss, *(b[n : n + 1] for b in (x, e, sigma)))
        assert own.shape[0] == 1
        torch.testing.assert_close(own[0], rows[n], **EXACT)


def test_controlled_rows_are_g_less_beta_h():
    """h = ∂s(x)ᵀε/σ, by the gradient of the inner product alone."""
    net, x, e = nets()["field"], normals(6, 3, 7), normals(6, 3, 8)
    inner = lambda s, x: (s(x) * e).sum(1) / 0.2  # noqa: E731
    g = variance.per_sample_gradients(net, losses.dsm, x, e, 0.2)
    h = variance.per_sample_gradients(net, inner, x)
    for beta in (1.0, 0.3):
        loss = lambda *b, beta=beta: variance.dsm_controlled(*b, beta=beta)  # noqa: E731
        controlled = variance.per_sample_gradients(net, loss, x, e, 0.2)
        torch.testing.assert_close(controlled, g - beta * h, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", nets())
def test_the_network_is_left_as_it_was(name):
    net = nets()[name]
    before = {k: p.clone() for k, p in net.state_dict().items()}
    for p in net.parameters():
        p.grad = torch.full_like(p, 5.0)
    rows = variance.per_sample_gradients(net, *BATCHES["dsm"])
    assert not rows.requires_grad and rows.is_contiguous()
    for p in net.parameters():
        assert p.requires_grad and torch.equal(p.grad, torch.full_like(p, 5.0))
    assert all(torch.equal(before[k], p) for k, p in net.state_dict().items())
    rows.zero_()
    assert all(torch.equal(before[k], p) for k, p in net.state_dict().items())


@pytest.mark.parametrize("run", BATCHES.values(), ids=BATCHES)
def test_gradients_come_where_gradients_are_off(run):
    net = nets()["field"]
    wanted = variance.per_sample_gradients(net, *run)
    with torch.no_grad():
        quiet = variance.per_sample_gradients(net, *run)
        assert not torch.is_grad_enabled()
    assert torch.equal(quiet, wanted)


def test_the_dtype_is_that_of_the_network():
    net = ScoreMLP(2, width=4, generator=generator(9))
    for dtype in (torch.float32, torch.float64):
        x = normals(5, 2).to(dtype)
        rows = variance.per_sample_gradients(net.to(dtype), losses.dsm, x, x, 0.5)
        assert rows.dtype == dtype and variance.total_variance(rows).dtype == dtype


# Their spread


def test_total_variance_is_its_formula():
    g = normals(9, 3)
    mean = g.mean(0)
    by_hand = sum((g[n, i] - mean[i]) ** 2 for n in range(9) for i in range(3)) / 8
    torch.testing.assert_close(variance.total_variance(g), by_hand, **EXACT)
    torch.testing.assert_close(variance.total_variance(g), torch.cov(g.T).trace(), **EXACT)
    assert variance.total_variance(torch.tensor([[1.0, 0.0], [3.0, 0.0]])) == 2


def test_noise_scale_by_hand():
    """Means 2 and 1, variances 2 and 0 of two rows: signal 5 − 2/2."""
    g = torch.tensor([[1.0, 1.0], [3.0, 1.0]])
    assert variance.noise_scale(g) == pytest.approx(2 / 4, rel=1e-6)
    assert isinstance(variance.noise_scale(g), float)
    assert variance.noise_scale(3 * g) == pytest.approx(0.5, rel=1e-6)
    assert variance.noise_scale(torch.tensor([[1.0], [-1.0]])) == float("inf")
    assert variance.noise_scale(torch.tensor([[0.0], [1.0]])) == float("inf")  # signal ¼ − ¼
    assert variance.noise_scale(torch.ones(2, 3)) == 0


def test_noise_scale_says_at_which_batch_noise_equals_signal():
    """Gradients N((0.3, 0.4), 2 I₂): total variance 4, signal ¼; the mean of 16 is half noise."""
    n = 160_000
    g = torch.tensor([0.3, 0.4]).double() + 2**0.5 * normals(n, 2)
    scale = variance.noise_scale(g)
    assert scale == pytest.approx(16, rel=4.5 * 2 * (2 / 0.25 / n) ** 0.5 + 4.5 / n**0.5)
    means = g.reshape(-1, 16, 2).mean(1)
    noise = float(((means - g.mean(0)) ** 2).sum(1).mean())
    assert noise == pytest.approx(0.25, rel=4.5 / (n / 16) ** 0.5)


def test_optimal_coefficient_is_its_formula():
    g, h = normals(9, 3), normals(9, 3, seed=1)
    top, bottom = 0.0, 0.0
    for i in range(3):
        for n in range(9):
            top += float((g[n, i] - g[:, i].mean()) * (h[n, i] - h[:, i].mean()))
            bottom += float((h[n, i] - h[:, i].mean()) ** 2)
    beta = variance.optimal_coefficient(g, h)
    assert isinstance(beta, float) and beta == pytest.approx(top / bottom, rel=1e-10)
    assert variance.optimal_coefficient(2 * h + 5, h + 1) == pytest.approx(2, rel=1e-10)
    assert variance.optimal_coefficient(-3 * h, h) == pytest.approx(-3, rel=1e-10)
    small = 1e-3 * h
    assert variance.optimal_coefficient(g, small) == pytest.approx(1e3 * beta, rel=1e-10)
    assert variance.optimal_coefficient(g, -small) == pytest.approx(-1e3 * beta, rel=1e-10)


def test_no_other_coefficient_leaves_less_variance():
    h = normals(50, 3)
    g = 0.8 * h + normals(50, 3, seed=1) + 4
    beta = variance.optimal_coefficient(g, h)
    least = variance.total_variance(g - beta * h)
    for other in (beta - 0.05, beta + 0.05, 0.0, 1.0):
        excess = variance.total_variance(g - other * h) - least
        by_hand = (other - beta) ** 2 * variance.total_variance(h)
        torch.testing.assert_close(excess, by_hand, **EXACT)
