"""Chapter 2, the score function: each test proves a claim by measuring it another way."""

import numpy as np
import pytest
import scipy.integrate
import scipy.optimize
import sympy
import torch
from scipy.stats import gennorm
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from sbm_lite.calculus import divergence, jacobian, line_integral, score_of
from sbm_lite.densities import GaussianMixture, gaussian, kernel_density, two_modes
from sbm_lite.diagnostics import fisher_divergence, standard_error
from sbm_lite.runtime import generator
from sbm_lite.samplers import langevin, mala

WEIGHTS = torch.tensor([0.3, 0.7], dtype=torch.float64)
MEANS = torch.tensor([[-1.0, 0.0], [1.0, 0.5]], dtype=torch.float64)
COVARIANCES = torch.tensor(
    [[[0.5, 0.2], [0.2, 0.4]], [[1.2, -0.3], [-0.3, 0.8]]], dtype=torch.float64
)
LOPSIDED = GaussianMixture(WEIGHTS, MEANS, COVARIANCES)  # no symmetry that could hide a slip


def torch_log_prob(x):
    """log p of LOPSIDED as torch.distributions has it."""
    components = MultivariateNormal(MEANS, COVARIANCES)
    return MixtureSameFamily(Categorical(WEIGHTS), components).log_prob(x)


def scattered(n, dim=2, limit=4.0, seed=0):
    """n points spread evenly over a cube."""
    return limit * (2 * torch.rand(n, dim, generator=generator(seed), dtype=torch.float64) - 1)


def slopes(f, x, h=1e-5):
    """∇f at each row of x by central differences; f maps (n, d) to (n,)."""
    steps = h * torch.eye(x.shape[1], dtype=x.dtype)
    return torch.stack([(f(x + e) - f(x - e)) / (2 * h) for e in steps], dim=1)


def random_net(n_out, seed=0):
    """A random network from the plane to n_out numbers, tanh inside, in float64."""
    a, b, c = (
        torch.randn(shape, generator=generator(seed), dtype=torch.float64)
        for shape in ((2, 32), (1, 32), (32, n_out))
    )
    return lambda x: torch.tanh(x @ a + b) @ c / 4


@pytest.mark.claim("C2.01")
def test_score_is_the_slope_of_log_p(check):
    x = scattered(400)
    gap = (LOPSIDED.score(x) - slopes(torch_log_prob, x)).abs().max()
    check("formula − finite differences, slanted mixture", expected=0, measured=gap, within=1e-7)
    gap = (LOPSIDED.score(x) - score_of(LOPSIDED.log_prob)(x)).abs().max()
    check("formula − autograd", expected=0, measured=gap, within=1e-12)


@pytest.mark.claim("C2.01")
def test_score_of_the_running_example(check):
    x = scattered(400, limit=8)
    gap = (two_modes().score(x) - slopes(two_modes().log_prob, x)).abs().max()
    check("formula − finite differences, two modes", expected=0, measured=gap, within=1e-6)


@pytest.mark.claim("C2.02")
@pytest.mark.parametrize("theta", [0.5, 3.0])
def test_the_normaliser_drops_out_of_the_score(theta, check):
    """log q and nothing else goes in; the normalised density is SciPy's, which knows its own Z."""
    x = scattered(200, dim=1)
    score = score_of(lambda x: -(x.abs() ** theta)[:, 0])(x)
    exact = slopes(lambda x: torch.tensor(gennorm.logpdf(x.numpy(), theta))[:, 0], x, h=1e-6)
    gap = (score - exact).abs().max()
    check(f"score of e^(−|x|^{theta:g}) − slope of the normalised log p", expected=0,
          measured=gap, within=1e-6)  # fmt: skip


@pytest.mark.claim("C2.02")
def test_it_is_log_z_whose_gradient_is_subtracted(check):
    def z(theta):
        return scipy.integrate.quad(lambda x: np.exp(-theta * x**2 / 2), -40, 40)[0]

    h = 1e-5
    slope_of_log_z = (np.log(z(0.3 + h)) - np.log(z(0.3 - h))) / (2 * h)
    slope_of_z = (z(0.3 + h) - z(0.3 - h)) / (2 * h)
    # log p = −θx²/2 + ½ log(θ/2π), so ∂ log p/∂θ − ∂ log q/∂θ = 1/2θ
    check("∂ log Z/∂θ at θ = 0.3", expected=-1 / 0.6, measured=slope_of_log_z, within=1e-6)
    exact = -np.sqrt(2 * np.pi) / 2 * 0.3**-1.5
    check(
        "∂Z/∂θ, which the slip puts in its place", expected=exact, measured=slope_of_z, within=1e-5
    )


@pytest.mark.claim("C2.03")
def test_score_of_an_energy_network_is_minus_its_gradient(check):
    net, x = random_net(1), scattered(100)
    score = score_of(lambda x: -net(x)[:, 0])(x)
    gap = (score + slopes(lambda x: net(x)[:, 0], x)).abs().max()
    check("score + ∇E by finite differences", expected=0, measured=gap, within=1e-8)


@pytest.mark.claim("C2.04")
def test_the_gradient_of_the_density_keeps_z(check):
    x, z = sympy.symbols("x Z", positive=True)
    q = sympy.exp(-(x**4))
    ratio = sympy.simplify(sympy.diff(q / z, x) / sympy.diff(q, x))
    check("∇p / ∇q, by SymPy", expected="1/Z", measured=str(ratio))


@pytest.mark.claim("C2.04")
def test_rescaling_a_density_scales_its_gradient_and_not_its_score(check):
    x = scattered(50)

    def scaled(x):
        return LOPSIDED.log_prob(x) + np.log(10.0)

    gap = (score_of(scaled)(x) - LOPSIDED.score(x)).abs().max()
    check("change of the score when Z grows tenfold", expected=0, measured=gap, within=1e-12)
    grown, plain = (slopes(lambda x, f=f: f(x).exp(), x).norm() for f in (scaled, torch_log_prob))
    check("change of ∇p, as a factor", expected=10, measured=grown / plain, within=1e-6)


def loop(n=4001, radius=1.0):
    """A circle around the origin, counterclockwise, as a closed polygon."""
    angle = torch.linspace(0, 2 * torch.pi, n, dtype=torch.float64)
    return radius * torch.stack([angle.cos(), angle.sin()], dim=1)


@pytest.mark.claim("C2.05")
def test_a_differentiated_energy_has_no_curl(check):
    net = random_net(1)
    score = score_of(lambda x: -net(x)[:, 0])
    j = jacobian(score, scattered(200))
    check("largest |∂₁s₂ − ∂₂s₁|", expected=0, measured=(j - j.mT).abs().max(), within=1e-12)
    check("work round a circle", expected=0, measured=line_integral(score, loop()), within=1e-6)


@pytest.mark.claim("C2.05")
def test_a_free_network_has_a_curl(check):
    net = random_net(2)
    work = line_integral(net, loop())

    def curl(radius, angle):  # by finite differences, so that `jacobian` is not its own witness
        x = torch.tensor([[radius * np.cos(angle), radius * np.sin(angle)]], dtype=torch.float64)
        first, second = (slopes(lambda x, i=i: net(x)[:, i], x)[0] for i in (0, 1))
        return float(second[0] - first[1]) * radius

    inside, _ = scipy.integrate.dblquad(curl, 0, 2 * np.pi, 0, 1, epsabs=1e-4, epsrel=1e-4)
    assert abs(inside) > 0.05  # a curl, and not a rounding error
    check(
        "work round a circle = curl inside it (Stokes)", expected=inside, measured=work, within=1e-4
    )


def quartic(x):
    """log q of an unnormalised density e^(7 − x⁴/4) on the line."""
    return 7.0 - x[:, 0] ** 4 / 4


@pytest.mark.claim("C2.06")
def test_an_unnormalised_energy_can_be_sampled(check):
    """Under e^(−x⁴/4) the step's balance of x² is exact: E x⁴ − (η/4) E x⁶ = 1 at every η."""
    score, eta = score_of(quartic), 0.05
    start = torch.zeros(20_000, 1, dtype=torch.float64)
    x = langevin(score, start, step_size=eta, n_steps=200, generator=generator(1))[:, 0]
    balance = x**4 - eta / 4 * x**6
    check(
        "E x⁴, the step's bias taken off",
        expected=1,
        measured=balance.mean(),
        within=4.5 * standard_error(balance),
    )


@pytest.mark.claim("C2.06")
def test_z_is_needed_nowhere_to_sample_exactly(check):
    z, second = (
        scipy.integrate.quad(lambda x, k=k: x**k * np.exp(-(x**4) / 4), -8, 8)[0] for k in (0, 2)
    )
    start = torch.zeros(20_000, 1, dtype=torch.float64)
    end = mala(quartic, start, step_size=0.5, n_steps=60, generator=generator(1))
    square = end.x[:, 0] ** 2
    check(
        "E x² under e^(−x⁴/4), by quadrature and by sampling",
        expected=second / z,
        measured=square.mean(),
        within=4.5 * standard_error(square),
    )


@pytest.mark.claim("C2.07")
@pytest.mark.parametrize("dim", [1, 2, 7])
def test_score_has_the_shape_of_its_input(dim, check):
    x = scattered(5, dim)
    shapes = gaussian(dim=dim).score(x).shape, gaussian(dim=dim).log_prob(x).shape
    check(
        f"shapes at 5 points, d = {dim}",
        expected=f"(5, {dim}) and (5,)",
        measured=f"{tuple(shapes[0])} and {tuple(shapes[1])}",
    )


@pytest.mark.claim("C2.09")
def test_score_is_the_steepest_direction(check):
    here = torch.tensor([[0.4, -0.9]], dtype=torch.float64)
    angle = torch.linspace(0, 2 * torch.pi, 3601, dtype=torch.float64)[:-1, None]
    around = torch.cat([angle.cos(), angle.sin()], dim=1)
    slope = (torch_log_prob(here + 1e-6 * around) - torch_log_prob(here)) / 1e-6
    score = LOPSIDED.score(here)[0]
    turn = torch.atan2(score[1], score[0]).remainder(2 * torch.pi)
    check(
        "steepest direction, in radians", expected=turn, measured=angle[slope.argmax()], within=2e-3
    )
    check("slope that way", expected=score.norm(), measured=slope.max(), within=1e-5)


@pytest.mark.claim("C2.10")
@pytest.mark.parametrize(
    ("start", "kind"),
    [((-4.5, -4.8), "maximum"), ((0.5, -0.5), "saddle"), ((4.6, 5.3), "maximum")],
)
def test_two_maxima_and_a_saddle(start, kind, check):
    p, x = two_modes(), torch.tensor([start], dtype=torch.float64)
    for _ in range(30):
        x = x - torch.linalg.solve(jacobian(p.score, x), p.score(x))
    assert slopes(p.log_prob, x).abs().max() < 1e-8
    hessian = jacobian(p.score, x)[0]
    names = {2: "maximum", 1: "saddle", 0: "minimum"}
    found = names[int((torch.linalg.eigvalsh(hessian) < 0).sum())]
    check(
        "zero of the score near ({:.2f}, {:.2f})".format(*x[0]).replace("-", "−"),
        expected=kind,
        measured=found,
    )


@pytest.mark.claim("C2.10")
def test_the_saddle_lies_where_theory_puts_it(check):
    """On x₁ = x₂ = u the score is zero where tanh(10u + log 2) = u/5; near 0, u ≈ −log 2/9.8."""
    u = scipy.optimize.brentq(lambda u: np.tanh(10 * u + np.log(2)) - u / 5, -1, 1)
    s = two_modes().score(torch.tensor([[u, u]], dtype=torch.float64))
    check("length of the score at the predicted saddle", expected=0, measured=s.norm(), within=1e-9)


@pytest.mark.claim("C2.10")
def test_there_are_no_other_zeros(check):
    """Across the diagonal both springs pull alike, −v, so zeros lie on it; there, count them."""
    x, p = scattered(500, limit=8), two_modes()
    across = torch.tensor([1.0, -1.0], dtype=torch.float64)
    gap = (p.score(x) @ across + x @ across).abs().max()
    check("s·(1, −1) + x·(1, −1)", expected=0, measured=gap, within=1e-10)
    u = torch.linspace(-12, 12, 240_001, dtype=torch.float64)
    s = p.score(torch.stack([u, u], dim=1)).sum(1)
    s = s[s != 0]  # a zero may fall on the grid
    check("sign changes along the diagonal", expected=3, measured=(s[1:] * s[:-1] < 0).sum())


@pytest.mark.claim("C2.11")
@pytest.mark.parametrize("dim", [2, 50, 1000])
def test_draws_live_far_from_the_mode(dim, check):
    x = gaussian(dim=dim).sample(4000, generator=generator(dim))
    square = x.double().square().sum(1)
    check(
        f"E‖x‖², d = {dim}",
        expected=dim,
        measured=square.mean(),
        within=4.5 * (2 * dim / 4000) ** 0.5,
    )


@pytest.mark.claim("C2.11")
def test_the_score_shows_the_way_up(check):
    x = scattered(1000)
    higher = torch_log_prob(x + 1e-4 * LOPSIDED.score(x)) > torch_log_prob(x)
    check(
        "share of points from which a step along the score climbs",
        expected=1,
        measured=higher.double().mean(),
    )


def double_well(x):
    """E(x) = x⁴/4 − x²."""
    return (x**4 / 4 - x**2).sum(1)


@pytest.mark.claim("C2.12")
@pytest.mark.parametrize("beta", [0.5, 2.5])
def test_gibbs_score_is_beta_times_force(beta, check):
    z, _ = scipy.integrate.quad(lambda x: np.exp(-beta * (x**4 / 4 - x**2)), -12, 12)
    x = torch.tensor([[1.3]], dtype=torch.float64)
    score = score_of(lambda x: -beta * double_well(x) - np.log(z))(x)
    force = -(1.3**3 - 2 * 1.3)
    check(f"score at 1.3, β = {beta}", expected=beta * force, measured=score, within=1e-12)


@pytest.mark.claim("C2.13")
def test_the_force_is_minus_the_energy_gradient(check):
    x = torch.tensor([[1.3]], dtype=torch.float64)
    score = score_of(lambda x: -2.5 * double_well(x))(x)
    check("score in the double well", expected=1.0075, measured=score, within=1e-9)
    gradient = slopes(double_well, x)
    check("energy gradient there", expected=-0.4030, measured=gradient, within=1e-8)


@pytest.mark.claim("C2.14")
def test_matching_scores_finds_the_parameters(check):
    """Points of N(1, 0.7²); the model energy ½ a x² − b x is fitted by its score b − a x alone."""
    p = GaussianMixture.isotropic([1.0], [[1.0]], 0.7)
    x = p.sample(500, generator=generator(3)).double()
    a, b = (torch.zeros(1, dtype=torch.float64, requires_grad=True) for _ in range(2))
    optimiser = torch.optim.LBFGS([a, b], max_iter=100, line_search_fn="strong_wolfe")

    def loss():
        optimiser.zero_grad()
        value = fisher_divergence(b - a * x, p.score(x))
        value.backward()
        return value

    optimiser.step(loss)
    check("mean b/a", expected=1, measured=(b / a).detach(), within=1e-4)
    check("standard deviation 1/√a", expected=0.7, measured=a.detach() ** -0.5, within=1e-4)


@pytest.mark.claim("C2.15")
@pytest.mark.parametrize("width", [0.1, 0.01, 0.001])
def test_score_of_ever_narrower_data_has_no_bound(width, check):
    data = torch.tensor([[0.0, 0.0], [1.0, 2.0], [-2.0, 1.0]], dtype=torch.float64)
    near = data[:1] + torch.tensor([0.03, 0.04], dtype=torch.float64)
    length = kernel_density(data, width).score(near).norm()
    check(
        f"length at distance 0.05, width {width}",
        expected=0.05 / width**2,
        measured=length,
        within=1e-6 / width**2,
    )


@pytest.mark.claim("C2.17")
@pytest.mark.parametrize("constant", [0.0, 700.0])
def test_score_matching_needs_no_normaliser(constant, check):
    """N(0, 1) against the energy x²/2τ² + c: ½ E(x − x/τ²)² = ½(1 − 1/τ²)², whatever c."""
    z, w = np.polynomial.hermite_e.hermegauss(40)
    x, w = torch.tensor(z)[:, None], torch.tensor(w / w.sum())
    model = score_of(lambda x: -(x**2).sum(1) / (2 * 1.5**2) - constant)(x)
    target = gaussian(dim=1).score(x)
    scale = (len(w) * w).sqrt()[:, None]  # turns the mean over points into the average under p
    check(
        f"Fisher divergence, constant {constant:g}",
        expected=(1 - 1 / 1.5**2) ** 2 / 2,
        measured=fisher_divergence(scale * model, scale * target),
        within=1e-9,
    )


@pytest.fixture(scope="module")
def quadrature():
    """Nodes and weights of E_p for the slanted mixture: a Gauss–Hermite grid on each component."""
    z, w = np.polynomial.hermite_e.hermegauss(80)
    grid = torch.tensor(np.stack(np.meshgrid(z, z, indexing="ij"), -1).reshape(-1, 2))
    w = torch.tensor(np.outer(w, w).ravel() / w.sum() ** 2)
    factors = torch.linalg.cholesky(COVARIANCES)
    nodes = [m + grid @ f.T for m, f in zip(MEANS, factors, strict=True)]
    return torch.cat(nodes), torch.cat([share * w for share in WEIGHTS])


@pytest.mark.claim("C2.18")
def test_the_mean_score_is_zero(quadrature, check):
    x, w = quadrature
    check(
        "longest component of E[s]",
        expected=0,
        measured=(w @ LOPSIDED.score(x)).abs().max(),
        within=1e-6,
    )


@pytest.mark.claim("C2.18")
def test_score_covariance_is_minus_the_mean_jacobian(quadrature, check):
    x, w = quadrature
    s, j = LOPSIDED.score(x), jacobian(LOPSIDED.score, x)
    covariance, curvature = torch.einsum("n,ni,nj->ij", w, s, s), torch.einsum("n,nij->ij", w, j)
    gap = (covariance + curvature).abs().max()
    check("largest entry of E[ssᵀ] + E[∇s]", expected=0, measured=gap, within=1e-5)
    check(
        "E‖s‖² = −E[∇·s]",
        expected=-w @ divergence(LOPSIDED.score, x),
        measured=w @ s.square().sum(1),
        within=1e-5,
    )


@pytest.mark.claim("C2.18")
def test_at_a_wall_both_identities_fail(check):
    """p = e^(−x) on x > 0: the boundary terms are −p(0) for E[s] and −p′(0) for E[s²] + E[s′]."""
    x = torch.empty(200_000, 1, dtype=torch.float64).exponential_(generator=generator(4))
    log_prob = lambda x: -x[:, 0]  # noqa: E731
    s, j = score_of(log_prob)(x)[:, 0], divergence(score_of(log_prob), x)
    check("E[s] = −p(0)", expected=-1, measured=s.mean(), within=1e-12)
    check("E[s²] + E[s′] = −p′(0)", expected=1, measured=(s**2 + j).mean(), within=1e-12)
