"""Chapter 4, from explicit to implicit score matching: each claim measured by another road."""

import numpy as np
import pytest
import sympy
import torch
from numpy.polynomial.hermite_e import hermegauss
from scipy.integrate import quad
from scipy.optimize import minimize, minimize_scalar
from scipy.special import fresnel
from scipy.stats import gumbel_r, norm
from scipy.stats import t as student
from torch.utils.flop_counter import FlopCounterMode

from sbm_lite import losses, training
from sbm_lite.calculus import divergence, jacobian
from sbm_lite.densities import GaussianMixture, gaussian, kernel_density
from sbm_lite.diagnostics import fisher_divergence, standard_error
from sbm_lite.networks import ScoreMLP
from sbm_lite.runtime import generator

LINE = GaussianMixture([0.3, 0.7], [[-2.0], [1.0]], [[[1.0]], [[0.5]]])
PLANE = GaussianMixture(
    [0.3, 0.7], [[-1.5, 0.5], [1.5, -0.5]], [[[0.5, 0.2], [0.2, 0.4]], [[1.2, -0.3], [-0.3, 0.8]]]
)


def line_density(x):
    """The density of LINE, from scipy."""
    return 0.3 * norm.pdf(x, -2, 1) + 0.7 * norm.pdf(x, 1, 0.5**0.5)


def line_slope(x):
    """Its derivative, by hand."""
    left, right = 0.3 * norm.pdf(x, -2, 1), 0.7 * norm.pdf(x, 1, 0.5**0.5)
    return -(x + 2) * left - (x - 1) / 0.5 * right


def line_field(x):
    """A model on the line that is not the score of LINE, for numpy and torch alike."""
    return (torch if torch.is_tensor(x) else np).tanh(1.3 * x - 0.4) - x / 2


def line_field_slope(x):
    return 1.3 / np.cosh(1.3 * x - 0.4) ** 2 - 0.5


def plane_field(x):
    """A field in the plane that is nobody's score: it swirls."""
    x1, x2 = x.unbind(1)
    first = torch.tanh(1.3 * x1 - 0.4) - x1 / 2 + 0.7 * x2
    return torch.stack([first, 0.3 * x1 * x2 - x2 - 0.7 * x1], dim=1)


def plane_trace(x1, x2):
    """tr ∇ of it, by hand."""
    return 1.3 / np.cosh(1.3 * x1 - 0.4) ** 2 - 0.5 + 0.3 * x1 - 1


def nodes(p, n=None):
    """A fine grid and weights that integrate smooth functions against p, to about ten digits."""
    n = n or {1: 2001, 2: 241}[p.dim]
    reach = 9 * p.covariances.diagonal(dim1=1, dim2=2).max(0).values.sqrt()
    low, high = p.means.min(0).values - reach, p.means.max(0).values + reach
    axes = [torch.linspace(a, b, n, dtype=torch.float64) for a, b in zip(low, high, strict=True)]
    x = torch.cartesian_prod(*axes).view(-1, p.dim)
    return x, p.log_prob(x).exp() * ((high - low) / (n - 1)).prod()


def integral(f, low=-14.0, high=10.0):
    """∫ f over the line, by scipy."""
    return quad(f, low, high, epsabs=1e-11, limit=400, points=[-2, 1])[0]


def vertex(f):
    """Where a parabola, given as a function of a, is least; from three of its values."""
    low, middle, high = (float(f(a)) for a in (0.0, 1.0, 2.0))
    return 1 - (high - low) / (2 * (high - 2 * middle + low))


LINE_ESM = integral(lambda x: (line_density(x) * line_field(x) - line_slope(x)) ** 2
                    / line_density(x) / 2)  # fmt: skip
LINE_ISM = integral(lambda x: line_density(x) * (line_field_slope(x) + line_field(x) ** 2 / 2))
LINE_C1 = integral(lambda x: line_slope(x) ** 2 / line_density(x) / 2)


@pytest.mark.claim("C4.01")
def test_esm_at_one_point_by_hand(check):
    """s = (1, −2), target (3, 1): half of 4 + 9."""
    x, target = torch.zeros(1, 2).double(), torch.tensor([[3.0, 1.0]]).double()
    def field(x):
        return torch.tensor([[1.0, -2.0]]).double()
    check(
        "½‖(1, −2) − (3, 1)‖²", expected=6.5, measured=losses.esm(field, x, target)[0], within=1e-12
    )


@pytest.mark.claim("C4.01")
def test_esm_averages_over_the_density(check):
    x, w = nodes(LINE)
    ours = w @ losses.esm(line_field, x, LINE.score(x))
    check("J_ESM on a mixture, by quadrature", expected=LINE_ESM, measured=ours, within=1e-6)


@pytest.mark.claim("C4.02")
def test_the_half_moves_nothing(check):
    x, w = nodes(LINE)
    def scaled(a):
        return w @ losses.esm(lambda x: -a * x, x, LINE.score(x))
    def whole(a):
        return integral(
            lambda x: (-a * x * line_density(x) - line_slope(x)) ** 2 / line_density(x)
        )
    ratio = whole(0.3) / float(scaled(0.3))
    check("without ½ / with ½", expected=2, measured=ratio, within=1e-6)
    check(
        "best a of s = −ax without ½, and with", expected=minimize_scalar(whole).x,
        measured=vertex(scaled), within=1e-5,
    )  # fmt: skip


@pytest.mark.claim("C4.03")
def test_fisher_divergence_has_the_square(check):
    x, w = nodes(LINE)
    ours = fisher_divergence(line_field(x) * (w[:, None] * len(x)) ** 0.5,
                             LINE.score(x) * (w[:, None] * len(x)) ** 0.5)  # fmt: skip
    check("D_F on a mixture", expected=LINE_ESM, measured=ours, within=1e-6)


@pytest.mark.claim("C4.03")
def test_without_the_square_another_constant_is_best(check):
    """The score of the Gumbel density is e − 1, with e exponential: mean 1, median log 2."""
    def mean_of(power, c):
        return gumbel_r.expect(
            lambda x: abs(np.exp(-x) - 1 - c) ** power, lb=-6, ub=40, epsabs=1e-10, limit=200
        )
    for power, best in ((2, 0.0), (1, np.log(2) - 1)):
        found = minimize_scalar(lambda c: mean_of(power, c), bounds=(-0.6, 0.4), method="bounded")  # noqa: B023
        check(
            f"best constant, power {power} of the norm", expected=best, measured=found.x,
            within=2e-3,
        )  # fmt: skip


@pytest.mark.claim("C4.03")
def test_the_package_squares(check):
    """Over constants, `fisher_divergence` is least at the mean of the targets, not the median."""
    target = torch.empty(4000, 1).double().exponential_(generator=generator(1)) - 1
    best = vertex(lambda c: fisher_divergence(torch.full_like(target, c), target))
    check("best constant: mean", expected=target.mean(), measured=best, within=1e-9)


@pytest.mark.claim("C4.04")
@pytest.mark.parametrize("other", [(0.5, 0.49), (2.0, 1.7), (0.5, 1.7)])
def test_fisher_divergence_of_two_gaussians(check, other):
    m, v = other
    p = GaussianMixture([1.0], [[0.5]], [[[1.7]]])
    q = GaussianMixture([1.0], [[m]], [[[v]]])
    x = p.sample(100_000, generator=generator(2)).double()
    exact = (1.7 * (1 / v - 1 / 1.7) ** 2 + (0.5 - m) ** 2 / v**2) / 2
    error = standard_error(losses.esm(q.score, x, p.score(x)))
    check(
        f"D_F of N({m:g}, {v:g}) from N(0.5, 1.7)", expected=exact,
        measured=fisher_divergence(q.score(x), p.score(x)), within=4.5 * error + 1e-12,
    )  # fmt: skip


@pytest.mark.claim("C4.04")
def test_coordinates_add_up(check):
    """D_F of N(0, I) from N(0, diag(1, 2)): nothing along x₁, ½·2·(1 − ½)² along x₂."""
    p = GaussianMixture([1.0], [[0.0, 0.0]], [[[1.0, 0.0], [0.0, 2.0]]])
    x = p.sample(100_000, generator=generator(2)).double()
    error = standard_error(losses.esm(lambda x: -x, x, p.score(x)))
    check(
        "D_F in the plane", expected=0.25, measured=fisher_divergence(-x, p.score(x)),
        within=4.5 * error,
    )  # fmt: skip


@pytest.mark.claim("C4.06")
def test_the_loss_is_blind_where_there_are_no_data(check):
    """p = sin²(πx) on [0, 1] and [2, 3]; a field altered on (1, 2) only, and one altered inside."""
    def truth(x):
        return 2 * torch.pi / torch.tan(torch.pi * x)
    def hole(x):
        return torch.where((x > 1) & (x < 2), 37.0, truth(x))
    def inside(x):
        return torch.where((x > 0.4) & (x < 0.6), truth(x) + 1, truth(x))
    z, w = (torch.tensor(a) for a in np.polynomial.legendre.leggauss(400))
    x = torch.cat([(z + 1) / 2, (z + 5) / 2, (z + 3) / 2])[:, None]  # the last third: the hole
    p = torch.sin(torch.pi * x[:, 0]) ** 2 * torch.cat([w, w, 0 * w]) / 2
    check("mass", expected=1, measured=p.sum(), within=1e-12)
    altered = (hole(x) != truth(x)).sum()
    check("nodes at which the field says 37", expected=400, measured=altered)
    blind = p @ losses.esm(hole, x, truth(x))
    check("J_ESM of the field that says 37 in the hole", expected=0, measured=blind)
    mass = quad(lambda x: np.sin(np.pi * x) ** 2, 0.4, 0.6)[0]
    check(
        "J_ESM, wrong by 1 on (0.4, 0.6)", expected=mass / 2,
        measured=p @ losses.esm(inside, x, truth(x)), within=2e-3,
    )  # fmt: skip


@pytest.mark.claim("C4.07")
def test_expansion_of_the_square(check):
    x, y = sympy.symbols("x y")
    p = sympy.Function("p", positive=True)(x, y)
    s = [sympy.Function(name)(x, y) for name in ("s1", "s2")]
    score = [sympy.diff(sympy.log(p), u) for u in (x, y)]
    loss = sum((a - b) ** 2 for a, b in zip(s, score, strict=True)) / 2
    cross = sum(a * sympy.diff(p, u) for a, u in zip(s, (x, y), strict=True))
    rest = sum(a**2 for a in s) / 2 + sum(b**2 for b in score) / 2
    left = sympy.simplify(p * loss - p * rest + cross)
    check("p × loss − p × squares + s·∇p, any p and s (SymPy)", expected="0", measured=str(left))


@pytest.mark.claim("C4.08")
def test_cross_term_in_the_plane(check):
    """∫ s·∇p, with ∇p from finite differences, against −E[tr ∇s] by the package."""
    z, w = (9 * torch.tensor(a) for a in np.polynomial.legendre.leggauss(200))
    x, h = torch.cartesian_prod(z, z), 1e-5 * torch.eye(2, dtype=torch.float64)
    up, down = ([PLANE.log_prob(x + k * e).exp() for e in h] for k in (1, -1))
    slope = torch.stack([(a - b) / 2e-5 for a, b in zip(up, down, strict=True)], 1)
    total = torch.outer(w, w).flatten() @ (plane_field(x) * slope).sum(1)
    x, weight = nodes(PLANE)
    ours = -(weight @ divergence(plane_field, x))
    by_hand = -(weight.numpy() @ plane_trace(*x.numpy().T))
    check("−E[tr ∇s], the trace by hand", expected=by_hand, measured=ours, within=1e-9)
    check("∫ s·∇p and −E[tr ∇s]", expected=total, measured=ours, within=1e-5)
    assert abs(total) > 0.9  # so a sign would show


@pytest.mark.claim("C4.09")
@pytest.mark.parametrize("s", ["constant", "sloping"])
def test_boundary_term_of_the_exponential_density(check, s):
    """p = e^(−x) on x > 0, score −1; Gauss–Laguerre nodes."""
    x, w = (torch.tensor(a) for a in np.polynomial.laguerre.laggauss(60))
    fields = {"constant": lambda x: 0 * x - 0.6, "sloping": lambda x: 0.8 * torch.cos(x) - 0.2 * x}
    field, start = fields[s], {"constant": -0.6, "sloping": 0.8}[s]
    x = x[:, None]
    gap = losses.esm(field, x, -torch.ones_like(x)) - losses.ism(field, x)
    check(f"J_ESM − J_ISM − C₁, {s} s", expected=start, measured=w @ gap - 0.5, within=1e-8)


@pytest.mark.claim("C4.10")
def test_identity_on_the_line(check):
    x, w = nodes(LINE)
    ours = w @ losses.ism(line_field, x)
    check("J_ISM on a mixture, by quadrature", expected=LINE_ISM, measured=ours, within=1e-6)
    check("J_ESM − C₁", expected=LINE_ESM - LINE_C1, measured=ours, within=1e-6)
    assert abs(LINE_ESM - 0.641725) < 1e-5 and abs(LINE_C1 - 0.623664) < 1e-5


@pytest.mark.claim("C4.10")
@pytest.mark.parametrize("d", [2, 8])
def test_touchstone(check, d):
    """s = −ax on N(0, I): least at a = 1, where J_ISM = −d/2."""
    x = gaussian(dim=d).sample(100_000, generator=generator(3)).double()
    best = vertex(lambda a: losses.ism(lambda x: -a * x, x).mean())
    check(f"best a, d = {d}", expected=1, measured=best, within=4.5 * (2 / x.numel()) ** 0.5)
    loss = losses.ism(lambda x: -x, x)
    check(
        f"J_ISM at a = 1, d = {d}", expected=-d / 2, measured=loss.mean(),
        within=4.5 * standard_error(loss),
    )  # fmt: skip


@pytest.mark.claim("C4.11")
def test_the_constant_is_the_same_for_every_model(check):
    x, w = nodes(LINE)
    fields = {
        "−0.3x": lambda x: -0.3 * x,
        "tanh": line_field,
        "cos": lambda x: torch.cos(x) - x,
        "the score": LINE.score,
    }
    for name, field in fields.items():
        gap = w @ (losses.esm(field, x, LINE.score(x)) - losses.ism(field, x))
        check(f"J_ESM − J_ISM, s = {name}", expected=LINE_C1, measured=gap, within=1e-5)


@pytest.mark.claim("C4.11")
def test_the_least_value_is_minus_the_constant(check):
    x, w = nodes(LINE)
    least = w @ losses.ism(LINE.score, x)
    check("J_ISM at the true score", expected=-LINE_C1, measured=least, within=1e-5)
    for bend in (-0.1, 0.1):
        nearby = w @ losses.ism(lambda x, b=bend: LINE.score(x) + b * torch.sin(x), x)
        assert nearby > least + 1e-4


@pytest.mark.claim("C4.12")
def test_one_minimiser(check):
    """s = a tanh x + b: minimise either loss numerically, from the same start."""
    x, w = nodes(LINE)
    def field(t):
        return lambda x: t[0] * torch.tanh(x) + t[1]
    def explicit(t):
        return float(w @ losses.esm(field(t), x, LINE.score(x)))
    def implicit(t):
        return float(w @ losses.ism(field(t), x))
    a, b = (minimize(f, [0.3, 0.3], tol=1e-10).x for f in (explicit, implicit))
    check("amplitude by ESM and by ISM", expected=a[0], measured=b[0], within=1e-4)
    check("offset by ESM and by ISM", expected=a[1], measured=b[1], within=1e-4)


@pytest.mark.claim("C4.12")
def test_the_linear_system_solves_both(check):
    """s = b + θ₁ sin x + θ₂ cos x with b = −x/2: G and g by scipy, both losses by the package."""
    psi, slope = (np.sin, np.cos), (np.cos, lambda x: -np.sin(x))
    G = [[integral(lambda x, f=f, g=g: line_density(x) * f(x) * g(x)) for g in psi] for f in psi]
    g = [
        integral(lambda x, f=f, df=df: line_density(x) * (df(x) - x / 2 * f(x)))
        for f, df in zip(psi, slope, strict=True)
    ]
    by_hand = np.linalg.solve(G, [-v for v in g])
    x, w = nodes(LINE)
    def field(t):
        return lambda x: -x / 2 + t[0] * torch.sin(x) + t[1] * torch.cos(x)
    for name, loss in (
        ("ESM", lambda t: float(w @ losses.esm(field(t), x, LINE.score(x)))),
        ("ISM", lambda t: float(w @ losses.ism(field(t), x))),
    ):
        found = minimize(loss, [0.0, 0.0], tol=1e-10).x
        for k in (0, 1):
            check(f"θ{'₁₂'[k]}: minimum of {name}, and G θ = −g", expected=by_hand[k],
                  measured=found[k], within=1e-4)  # fmt: skip


@pytest.mark.claim("C4.12")
def test_linear_scores_give_the_precision_matrix(check):
    """Minimise over all 2 × 2 matrices, without assuming symmetry."""
    cov = torch.tensor([[2.0, 1.2], [1.2, 1.0]], dtype=torch.float64)
    x, w = nodes(GaussianMixture([1.0], [[0.0, 0.0]], cov[None]), 61)
    def value(k):
        return float(w @ losses.ism(lambda x: -x @ torch.tensor(k.reshape(2, 2)).T, x))
    found = minimize(value, np.zeros(4), tol=1e-10).x
    exact = np.linalg.inv(cov.numpy()).ravel()
    for place, a, b in zip(("11", "12", "21", "22"), found, exact, strict=True):
        check(f"K{place}", expected=b, measured=a, within=1e-4)


@pytest.mark.claim("C4.13")
def test_a_jump_loses_a_term(check):
    """½E(s + x)² by scipy, split at the jump; ISM with the derivative that autograd sees."""
    a = 0.9
    explicit = quad(lambda x: (a * np.sign(x) - x) ** 2 / 2 * norm.pdf(x), -12, 12, points=[0])[0]
    x = gaussian(dim=1).sample(1000, generator=generator(4)).double()
    implicit = losses.ism(lambda x: -a * torch.sign(x), x).mean()
    exact = -2 * a * norm.pdf(0)
    assert abs(exact + 0.718096) < 1e-6
    check("missing at a jump", expected=exact, measured=explicit - implicit - 0.5, within=1e-8)


@pytest.mark.claim("C4.13")
def test_a_kink_loses_nothing(check):
    x = gaussian(dim=1).sample(400_000, generator=generator(4)).double()
    gap = losses.esm(lambda x: -0.9 * torch.relu(x), x, -x) - losses.ism(
        lambda x: -0.9 * torch.relu(x), x
    )
    error = standard_error(gap)
    check("J_ESM − J_ISM with a kink", expected=0.5, measured=gap.mean(), within=4.5 * error)


@pytest.mark.claim("C4.13")
@pytest.mark.parametrize("b", [0.0, 0.5, -1.0])
def test_a_kink_spoils_the_gradient(check, b):
    """s = −relu(x − b) on N(0, 1): J_ISM = −P(x > b) + ½E(x − b)₊² has slope φ(b) − E(x − b)₊;
    the trace of a sample does not change with b, and autograd finds the second term alone."""
    at = torch.tensor(b, dtype=torch.float64, requires_grad=True)
    x = gaussian(dim=1).sample(200_000, generator=generator(14)).double()
    losses.ism(lambda x: -torch.relu(x - at), x).mean().backward()
    error = 4.5 * standard_error(torch.relu(x - b)[:, 0])
    def exact(b):
        return -norm.sf(b) + quad(lambda x: (x - b) ** 2 / 2 * norm.pdf(x), b, 12)[0]
    slope = (exact(b + 1e-4) - exact(b - 1e-4)) / 2e-4
    check(f"∂J_ISM/∂b − autograd's, b = {b:g}: φ(b)", expected=norm.pdf(b),
          measured=slope - at.grad, within=error)  # fmt: skip
    smooth = torch.nn.functional.softplus  # of steepness 5, where nothing goes missing
    at.grad = None
    terms = losses.ism(lambda x: -smooth(x - at, beta=5.0), x)
    terms.mean().backward()
    def rounded(b):
        u = torch.linspace(-9, 9, 20_001, dtype=torch.float64)[:, None]
        loss = losses.ism(lambda x: -smooth(x - b, beta=5.0), u)
        return float(torch.tensor(norm.pdf(u[:, 0])) @ loss) * 9e-4
    slope = (rounded(b + 1e-3) - rounded(b - 1e-3)) / 2e-3
    z = 5 * (x - b)  # the derivative of one term in b, for its standard error
    each = 5 * torch.sigmoid(z) * torch.sigmoid(-z) - smooth(x - b, beta=5.0) * torch.sigmoid(z)
    check(f"the same with a rounded kink, b = {b:g}", expected=0, measured=slope - at.grad,
          within=4.5 * standard_error(each[:, 0]) + 1e-4)  # fmt: skip


def edge_information(a, margin=0.0):
    """E[score²] for p ∝ (1 − x²)^a, without the outermost `margin`; r = 1 − |x|."""
    square = lambda r: 4 * a**2 * (1 - r) ** 2 * (r * (2 - r)) ** (a - 2)  # noqa: E731
    return quad(square, margin, 1, limit=400)[0] / quad(lambda r: (r * (2 - r)) ** a, 0, 1)[0]


@pytest.mark.claim("C4.14")
def test_a_hard_edge(check):
    for a in (3.0, 2.0, 1.5, 1.25):
        exact = a * (2 * a + 1) / (a - 1)
        check(f"E‖∇log p‖² at a = {a:g}", expected=exact, measured=edge_information(a), within=1e-5)
    for low, high in ((1e-4, 1e-6), (1e-6, 1e-8)):
        growth = edge_information(1.0, high) - edge_information(1.0, low)
        check(
            f"a = 1: growth from margin {low:g} to {high:g}", expected=3 * np.log(100),
            measured=growth, within=1e-2,
        )  # fmt: skip


@pytest.mark.claim("C4.14")
def test_behind_a_hard_edge_ism_has_no_floor(check):
    """p = ¾(1 − x²), s = −2x/(1 − x² + δ); the package on Gauss nodes, scipy with s′ by hand."""
    z, w = (torch.tensor(a) for a in np.polynomial.legendre.leggauss(2000))
    def measured(delta):
        x = z[:, None]
        return w @ ((1 - z**2) * 0.75 * losses.ism(lambda x: -2 * x / (1 - x**2 + delta), x))
    def by_hand(r, delta):  # r = 1 − x, so 1 − x² = r(2 − r)
        c = r * (2 - r) + delta
        return 1.5 * r * (2 - r) * (-2 / c - 2 * (1 - r) ** 2 / c**2)
    for delta, known in ((1e-1, -4.11), (1e-2, -7.49), (1e-4, -14.4)):
        exact = quad(by_hand, 0, 1, args=(delta,), points=[delta, 30 * delta], limit=400)[0]
        assert abs(exact / known - 1) < 2e-3
        check(f"J_ISM at δ = {delta:g}", expected=exact, measured=measured(delta), within=1e-4)
    fall = measured(1e-4) - measured(1e-2)
    check("J_ISM from δ = 0.01 to 0.0001", expected=1.5 * np.log(1e-2), measured=fall, within=0.05)


@pytest.mark.claim("C4.15")
def test_a_cubic_under_heavy_tails(check):
    """With 7 degrees of freedom E[x⁶] = 343; with 5 it grows like 2c × cutoff, c = lim p x⁶."""
    def moment(nu, power, high):
        return 2 * quad(
            lambda x: student.pdf(x, nu) * x**power, 0, high, limit=500
        )[0]
    check("E[x⁶], t with 7", expected=343, measured=moment(7, 6, np.inf), within=1e-2)
    c = student.pdf(1e5, 5) * 1e30
    growth = moment(5, 6, 2000) - moment(5, 6, 1000)
    check("E[x⁶] between cutoffs 1,000 and 2,000, t with 5", expected=2000 * c, measured=growth,
          within=0.01 * growth)  # fmt: skip
    check("E|s′| = 3E[x²], t with 5", expected=5, measured=3 * moment(5, 2, np.inf), within=1e-4)


def partial_trace(L):
    """∫ over |x| < L of φ|s′| for s = sin(e^(x²)): Fresnel's function between the zeros of cos."""
    end = np.exp(L * L)
    zeros = np.pi * (np.arange(end // np.pi + 1) + 0.5)
    cuts = np.r_[1, zeros[zeros < end], end]
    return 2 * np.abs(np.diff(fresnel(np.sqrt(2 * cuts / np.pi))[1])).sum()


@pytest.mark.claim("C4.16")
def test_the_fifth_assumption(check):
    def slope(x):
        return abs(2 * x * np.exp(x * x) * np.cos(np.exp(x * x)))
    direct = 2 * quad(lambda x: norm.pdf(x) * slope(x), 0, 2, limit=1000)[0]
    check("∫ p|s′| over |x| < 2, two ways", expected=direct, measured=partial_trace(2), within=1e-5)
    for L, expected in ((2, 6.35), (3, 90.3), (3.5, 463)):
        check(f"∫ p|s′| over |x| < {L:g}", expected=expected, measured=partial_trace(L),
              within=0.005 * expected)  # fmt: skip
    ahead = 8 / np.pi / (2 * np.pi) ** 0.5 * np.exp(4.0**2 / 2)
    check("at L = 4, beside (8/π) e^(L²/2)/√(2π)", expected=ahead, measured=partial_trace(4),
          within=0.01 * ahead)  # fmt: skip


@pytest.mark.claim("C4.16")
def test_the_four_others_hold(check):
    """The derivative is what autograd says, two averages are finite, and p·s → 0."""
    x = torch.linspace(-2, 2, 2001, dtype=torch.float64)[:, None]
    def s(x):
        return torch.sin(torch.exp(x**2))
    exact = 2 * x * torch.exp(x**2) * torch.cos(torch.exp(x**2))
    gap = (divergence(s, x) - exact[:, 0]).abs().max()
    check("s′ by autograd and by hand", expected=0, measured=gap, within=1e-9)
    square = quad(lambda x: x**2 * norm.pdf(x), -12, 12)[0]
    check("E‖∇log p‖² = E[x²]", expected=1, measured=square, within=1e-9)
    # E[s²] = ½(1 − E[cos 2u]) with u = exp(x²): scipy in u beyond |x| = 1, the package on a grid
    inner = quad(lambda x: norm.pdf(x) * np.cos(2 * np.exp(x * x)), -1, 1)[0]
    outer = quad(lambda u: norm.pdf(np.sqrt(np.log(u))) / u / np.sqrt(np.log(u)), np.e, np.inf,
                 weight="cos", wvar=2)[0]  # fmt: skip
    grid = torch.linspace(-4, 4, 4_000_001, dtype=torch.float64)[:, None]
    square = 2 * losses.esm(s, grid, torch.zeros_like(grid)) * torch.exp(-grid[:, 0] ** 2 / 2)
    ours = square.sum() * 2e-6 / (2 * np.pi) ** 0.5
    check("E[s²]", expected=(1 - inner - outer) / 2, measured=ours, within=1e-4)
    for reach, most in ((3, 5e-3), (5, 2e-6), (7, 1e-11)):
        tail = torch.linspace(reach, reach + 1, 1001, dtype=torch.float64)[:, None]
        edge = (torch.tensor(norm.pdf(tail)) * s(tail).abs()).max()
        check(f"p|s| from |x| = {reach} on", expected=0, measured=edge, within=most)
        assert edge > most / 10  # no looser than it must be


@pytest.mark.claim("C4.17")
def test_boundary_term_is_integrated_over_the_other_coordinates(check):
    """p = e^(−x₁) φ(x₂) on x₁ > 0: the gap is ∫ s₁(0, x₂) p(0, x₂) dx₂, here E[cos x₂] = e^(−½)."""
    u, w = np.polynomial.laguerre.laggauss(40)
    z, v = hermegauss(40)
    x = torch.cartesian_prod(torch.tensor(u), torch.tensor(z))
    weight = torch.outer(torch.tensor(w), torch.tensor(v / v.sum())).flatten()
    def field(x):
        return torch.stack([torch.cos(x[:, 1]) - 0.3 * x[:, 0], x[:, 0] - x[:, 1]], 1)
    score = torch.stack([-torch.ones(len(x)).double(), -x[:, 1]], 1)
    C1 = (1 + 1) / 2
    gap = weight @ (losses.esm(field, x, score) - losses.ism(field, x)) - C1
    check("missing term in the plane", expected=np.exp(-0.5), measured=gap, within=1e-8)


@pytest.mark.claim("C4.17")
def test_without_the_boundary_term_the_minimum_moves(check):
    x = torch.empty(1000, 1).double().exponential_(generator=generator(5))
    implicit = vertex(lambda a: losses.ism(lambda x: 0 * x - a, x).mean())
    explicit = vertex(lambda a: losses.esm(lambda x: 0 * x - a, x, -torch.ones_like(x)).mean())
    check("exponential density, best a by ISM", expected=0, measured=implicit, within=1e-9)
    check("exponential density, best a by ESM", expected=1, measured=explicit, within=1e-9)


@pytest.mark.claim("C4.18")
def test_the_sample_version_is_unbiased(check):
    """400 data sets of 20 points each."""
    x = LINE.sample(8000, generator=generator(6)).double()
    per_set = losses.ism(line_field, x).view(400, 20).mean(1)
    check(
        "mean of 400 estimates from 20 points", expected=LINE_ISM, measured=per_set.mean(),
        within=4.5 * standard_error(per_set),
    )  # fmt: skip


@pytest.mark.claim("C4.18")
@pytest.mark.parametrize("d", [1, 3])
def test_the_sample_version_has_no_floor(check, d):
    """Twenty points a unit or more apart: spikes of width h give −d/h²."""
    x = torch.arange(20.0).double()[:, None].expand(20, d).contiguous()
    for h in (0.1, 0.01, 0.001):
        value = losses.ism(kernel_density(x, h).score, x).mean()
        check(f"h² Ĵ_ISM at h = {h:g}, d = {d}", expected=-d, measured=h**2 * value, within=1e-6)


@pytest.mark.claim("C4.19")
def test_a_jacobian_not_a_hessian(check):
    """The Jacobian by finite differences is not symmetric; the identity holds in the plane."""
    x, h = torch.tensor([[0.4, -0.7]], dtype=torch.float64), 1e-6
    step = h * torch.eye(2, dtype=torch.float64)
    J = torch.cat([(plane_field(x + e) - plane_field(x - e)) / (2 * h) for e in step]).T
    asymmetry = J[0, 1] - J[1, 0]
    check("∂₂s₁ − ∂₁s₂ by differences", expected=1.4 - 0.3 * -0.7, measured=asymmetry, within=1e-6)
    check("∂₂s₁ as entry 0, 1", expected=J[0, 1], measured=jacobian(plane_field, x)[0, 0, 1],
          within=1e-6)  # fmt: skip
    x, w = nodes(PLANE)
    score = PLANE.score(x)
    gap = losses.esm(plane_field, x, score) - losses.ism(plane_field, x)
    gap = w @ (gap - (score**2).sum(1) / 2)
    check("J_ESM − J_ISM − C₁", expected=0, measured=gap, within=1e-7)


@pytest.mark.claim("C4.20")
def test_after_all_passes_but_one_the_trace_is_still_open(check):
    """Two fields that agree in d − 1 backward passes, whatever the vectors, and not in trace."""
    d = 10
    v = torch.randn(d - 1, d, generator=generator(7), dtype=torch.float64)
    u = torch.linalg.svd(v).Vh[-1]  # the direction no pass has probed
    A = torch.randn(d, d, generator=generator(8), dtype=torch.float64)
    B = A + 5 * torch.outer(u, u)
    x = torch.randn(d - 1, d, generator=generator(9), dtype=torch.float64)
    seen = []
    for M in (A, B):
        _, pull_back = torch.func.vjp(lambda x, M=M: x @ M.T, x)
        seen.append(pull_back(v)[0])
    gap = (seen[0] - seen[1]).abs().max()
    check("difference seen by 9 passes in 10 dimensions", expected=0, measured=gap, within=1e-10)
    first, second = (divergence(lambda x, M=M: x @ M.T, x)[0] for M in (A, B))
    check("difference of the traces", expected=5, measured=second - first, within=1e-10)


@pytest.mark.claim("C4.20")
def test_the_work_grows_with_the_dimension(check):
    """Floating point operations of the loss: one forward and d backward passes of the network."""
    flops = {}
    for d in (4, 32):
        x, *weights = (
            torch.randn(*shape, generator=generator(10)) for shape in ((16, d), (d, 64), (64, d))
        )
        net = lambda x, w=weights: torch.tanh(x @ w[0]) @ w[1]  # noqa: E731
        with FlopCounterMode(display=False) as forward:
            net(x)
        with FlopCounterMode(display=False) as loss:
            losses.ism(net, x)
        flops[d] = loss.get_total_flops() / forward.get_total_flops()
    for d, ratio in flops.items():
        check(f"passes for the loss, d = {d}", expected=1 + d, measured=ratio, within=0.5)


@pytest.mark.claim("C4.21")
def test_spikes_are_a_bad_target(check):
    """J_ESM of the score of smoothed data, by scipy between the points: it grows like h^(−4)."""
    data = torch.tensor([[-2.0], [0.0], [1.0]]).double()
    x = torch.linspace(-7, 6, 260_001, dtype=torch.float64)[:, None]
    w = torch.tensor(line_density(x[:, 0].numpy())) * 5e-5
    loss = [w @ losses.esm(kernel_density(data, h).score, x, LINE.score(x)) for h in (0.02, 0.01)]
    check("J_ESM at h = 0.01 over that at 0.02", expected=16, measured=loss[1] / loss[0],
          within=0.05)  # fmt: skip
    def offset(x):
        return min(abs(x + 2), abs(x), abs(x - 1))
    limit = integral(lambda x: line_density(x) * offset(x) ** 2 / 2)
    check("h⁴ J_ESM: ½ E[distance to the data]²", expected=limit, measured=1e-8 * loss[1],
          within=0.01 * limit)  # fmt: skip


@pytest.mark.claim("C4.22")
def test_draws_stand_in_for_the_average(check):
    x = LINE.sample(200_000, generator=generator(11)).double()
    loss = losses.ism(line_field, x)
    check(
        "J_ISM over 200,000 draws", expected=LINE_ISM, measured=loss.mean(),
        within=4.5 * standard_error(loss),
    )  # fmt: skip


def kl(p, q, half):
    """KL(p‖q) on the line, by the trapezoid rule."""
    x = torch.linspace(-half, half, 20_001, dtype=torch.float64)[:, None]
    w = p.log_prob(x).exp() * (x[1] - x[0])
    return float(w @ (p.log_prob(x) - q.log_prob(x)))


OTHER = GaussianMixture([0.6, 0.4], [[-1.0], [1.5]], [[[0.8]], [[0.6]]])


@pytest.mark.claim("C4.23")
def test_kl_falls_at_the_rate_of_the_fisher_divergence(check):
    h, smooth = 1e-4, lambda p, t: p.smoothed(t**0.5)
    rate = (
        kl(smooth(LINE, 0.5 + h), smooth(OTHER, 0.5 + h), 25)
        - kl(smooth(LINE, 0.5 - h), smooth(OTHER, 0.5 - h), 25)
    ) / (2 * h)
    p, q = smooth(LINE, 0.5), smooth(OTHER, 0.5)
    x, w = nodes(p)
    fisher = w @ losses.esm(q.score, x, p.score(x))
    check("dKL/dt at t = ½ and −D_F", expected=rate, measured=-fisher, within=1e-6)
    assert abs(rate + 0.16624436) < 1e-6


@pytest.mark.claim("C4.23")
def test_kl_is_the_sum_of_fisher_divergences(check):
    """For two Gaussians everything is a formula: KL of N(0, 2) from N(1, 0.7), and ∫ D_F dt."""
    a, b = 2.0, 0.7
    exact = (a / b - 1 - np.log(a / b) + 1 / b) / 2

    def fisher(t):
        p, q = (GaussianMixture([1.0], [[m]], [[[v + t]]]) for m, v in ((0.0, a), (1.0, b)))
        x, w = nodes(p, 201)
        return float(w @ losses.esm(q.score, x, p.score(x)))

    total = quad(fisher, 0, 50, limit=200)[0] + quad(lambda u: fisher(1 / u) / u**2, 0, 0.02)[0]
    check("∫ D_F dt from 0 to ∞", expected=exact, measured=total, within=1e-5)


@pytest.mark.claim("C4.23")
def test_nothing_is_left_of_kl_far_out(check):
    """KL(p_t‖q_t) ≤ W₂²(p, q)/2t, which is why the integral is all of KL; W₂ by quantiles."""
    def quantiles(p, u):  # of a mixture on the line, by bisection
        low, high = np.full_like(u, -30.0), np.full_like(u, 30.0)
        for _ in range(60):
            middle = (low + high) / 2
            stds = p.covariances[:, 0, 0].sqrt().numpy()
            cdf = norm.cdf((middle[:, None] - p.means[:, 0].numpy()) / stds) @ p.weights.numpy()
            low, high = np.where(cdf < u, middle, low), np.where(cdf < u, high, middle)
        return middle
    u = (np.arange(20_000) + 0.5) / 20_000
    square = np.mean((quantiles(LINE, u) - quantiles(OTHER, u)) ** 2)
    scaled = {}
    for t in (0.01, 1.0, 100.0, 1e4):
        p, q = (m.smoothed(t**0.5) for m in (LINE, OTHER))
        scaled[t] = 2 * t * kl(p, q, 12 * (2 + t**0.5))
        assert scaled[t] < square
    means = [float(m.weights @ m.means[:, 0]) for m in (LINE, OTHER)]
    check("2t KL at t = 10⁴: the squared distance of the means", expected=np.diff(means)[0] ** 2,
          measured=scaled[1e4], within=1e-5)  # fmt: skip


@pytest.mark.claim("C4.23")
def test_they_disagree_about_weights(check):
    def two(w):
        return GaussianMixture.isotropic([w, 1 - w], [[-5.0], [5.0]], 1.0)
    p, q = two(0.2), two(0.5)
    exact = 0.2 * np.log(0.4) + 0.8 * np.log(1.6)
    check("KL for wrong weights", expected=exact, measured=kl(p, q, 20), within=1e-5)
    x = torch.linspace(-15, 15, 30_001, dtype=torch.float64)[:, None]
    fisher = p.log_prob(x).exp() @ losses.esm(q.score, x, p.score(x)) * 1e-3
    check("Fisher divergence for wrong weights", expected=0, measured=fisher, within=1e-5)


@pytest.mark.claim("C4.24")
def test_the_trace_sums_over_coordinates(check):
    """d = 3 and N = 5, so that exchanging them would show; the diagonal by finite differences."""
    def field(x):
        return torch.stack(
            [x[:, 0] ** 2 * x[:, 1], torch.sin(x[:, 1]) + x[:, 2] ** 3, x[:, 2] * x[:, 0]], 1
        )
    x, h = torch.randn(5, 3, generator=generator(12), dtype=torch.float64), 1e-6
    step = h * torch.eye(3, dtype=torch.float64)
    trace = sum(
        (field(x + e)[:, i] - field(x - e)[:, i]) / (2 * h) for i, e in enumerate(step)
    )
    ours = losses.ism(field, x) - (field(x) ** 2).sum(1) / 2
    check("numbers returned", expected=5, measured=len(ours))
    gap = (ours - trace).abs().max()
    check("trace at 5 points of ℝ³", expected=0, measured=gap, within=1e-7)


@pytest.mark.claim("C4.25")
def test_a_network_learns_the_score_from_draws_alone(check):
    """Trained by ISM on draws; only the judge knows the score."""
    rng = generator(13)
    net = ScoreMLP(2, 64, generator=rng)
    batches = training.draws(PLANE, 256, generator=rng)
    training.fit(net, losses.ism, batches, n_steps=800, lr=1e-2, cosine=True)
    x = PLANE.sample(10_000, generator=rng)
    nothing, left = (
        fisher_divergence(s, PLANE.score(x)) for s in (0 * x, net(x).detach())
    )
    check("share of the Fisher divergence left", expected=0, measured=left / nothing, within=0.03)


@pytest.mark.claim("C4.26")
def test_three_share_an_optimum_and_one_does_not(check):
    """N(0, λI) in the plane, on Gauss–Hermite nodes in x and ε; all four sign vectors."""
    lam, sigma = 1.7, 0.6
    z, w = (torch.tensor(a) for a in hermegauss(6))
    nodes, w = (torch.cartesian_prod(*[a] * 4) for a in (z, w / w.sum()))
    x, epsilon, w = lam**0.5 * nodes[:, :2], nodes[:, 2:], w.prod(1)
    signs = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]]).double()
    def one_slice(s, v):
        return losses.ssm(s, x, v.expand_as(x))
    gap = one_slice(lambda x: -x, signs[0]) - losses.ism(lambda x: -x, x) - x.prod(1)
    check("one slice is not ISM: along (1, 1) it has x₁x₂ more", expected=0,
          measured=gap.abs().max(), within=1e-12)  # fmt: skip
    best = {
        "explicit": lambda s: losses.esm(s, x, -x / lam),
        "implicit": lambda s: losses.ism(s, x),
        "sliced": lambda s: sum(one_slice(s, v) for v in signs) / 4,
        "denoising": lambda s: losses.dsm(s, x, epsilon, sigma),
    }
    for name, loss in best.items():
        exact = 1 / (lam + sigma**2) if name == "denoising" else 1 / lam
        a = vertex(lambda a, loss=loss: w @ loss(lambda x: -a * x))
        check(f"best a, {name}", expected=exact, measured=a, within=1e-9)
    assert abs(1 / 1.7 - 0.58824) < 1e-5 and abs(1 / 2.06 - 0.48544) < 1e-5
