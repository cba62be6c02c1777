"""The page *All losses on one page*: its calls run, its counts are counted, its formulas measured.

The formulas are read from the page itself, so that what is printed there is what is tested.
"""

import re
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.polynomial.hermite_e import hermegauss
from scipy.integrate import quad
from scipy.optimize import brentq
from scipy.stats import norm
from torch import nn

from sbm_lite import calculus, losses, networks, variance
from sbm_lite.densities import GaussianMixture
from sbm_lite.runtime import generator
from tools.formulas import number

PAGE = (Path(__file__).parents[1] / "book" / "losses.md").read_text("utf8")
NAMES = ["esm", "ism", "ssm", "ssm_vr", "ssm_fd", "dsm", "ncsn", "ddpm_simple"]
NAMES += ["dsm_controlled", "dsm_antithetic"]

D, LAM, SIG, A, ABAR = 3, 0.8, 0.45, 0.9, 0.37  # the setting of the measurements


def blocks():
    """function → the text of its block."""
    _, *parts = re.split(r"^### `(\w+)`$", PAGE, flags=re.M)
    return {
        name: text.split("\n## ")[0] for name, text in zip(parts[::2], parts[1::2], strict=True)
    }


def bullet(name, word):
    """The line `- **word** …` of a block."""
    return re.search(rf"^- \*\*{word}\*\* (.+)$", blocks()[name], flags=re.M)[1]


def formulas(name, word):
    return re.findall(r"\$([^$]+)\$", bullet(name, word))


def table():
    """function → the other two columns of the overview."""
    rows = re.findall(
        r"^\| \[`(\w+)`\]\(losses\.md#[\w-]+\) \| (.+?) \| \$(.+?)\$ \|$", PAGE, flags=re.M
    )
    return {name: rest for name, *rest in rows}


def value(latex, **given):
    """A formula of the page as a number, at the setting of the measurements unless told."""
    at = dict(d=D, lam=LAM, sig=SIG, a=A, abar=ABAR) | given
    noisy, signal = at["lam"] + at["sig"] ** 2, at["abar"] * at["lam"]
    letters = {"d": at["d"], "a": at["a"], "u": at.get("u", at["a"] * noisy)}
    letters |= {r"\lambda": at["lam"], r"\sigma": at["sig"], r"\tau": noisy**0.5}
    letters |= {r"\bar\alpha_t": at["abar"], r"\lambda_t": signal}
    letters |= {r"\tau_t": (signal + 1 - at["abar"]) ** 0.5}
    return number(latex, letters)


def at_the_optimum(name):
    noisy = ABAR * LAM + 1 - ABAR if name == "ddpm_simple" else LAM + SIG**2
    return dict(a=1 / noisy, u=1)


def evaluate(name, score, x, epsilon, v=None, beta=1.0, sigma=SIG):
    """Any loss of the page, on clean points x; those that take clean points get noisy ones."""
    x_noisy = x + sigma * epsilon
    if name == "esm":
        return losses.esm(score, x_noisy, -x_noisy / (LAM + sigma**2))
    if name == "ism":
        return losses.ism(score, x_noisy)
    if name == "ssm_fd":
        return losses.ssm_fd(score, x_noisy, v, step=0.01)
    if name in ("ssm", "ssm_vr"):
        return getattr(losses, name)(score, x_noisy, v)
    if name == "ncsn":
        return losses.ncsn(lambda y, level: score(y), x, epsilon, sigma)
    if name == "ddpm_simple":
        alpha_bars = torch.tensor([0.9, ABAR], dtype=torch.float64)
        return losses.ddpm_simple(lambda y, t: score(y), x, epsilon, 2, alpha_bars)
    if name == "dsm_controlled":
        return variance.dsm_controlled(score, x, epsilon, sigma, beta=beta)
    module = losses if name == "dsm" else variance
    return getattr(module, name)(score, x, epsilon, sigma)


# The page as text


def test_the_page_has_one_block_and_one_row_for_each():
    assert list(blocks()) == list(table()) == NAMES
    for name in NAMES:
        assert re.search(r"\*\*Use it\*\* .+\*\*Not\*\* ", blocks()[name]), name


def test_the_calls_run_and_give_one_number_per_point():
    space, called = {}, []
    for code in re.findall(r"^```python\n(.+?)^```", PAGE, flags=re.M | re.S):
        exec(compile(code, "losses.md", "exec"), space)
        called += re.findall(r"^loss = \w+\.(\w+)\(", code, flags=re.M)
        if "loss = " in code:
            assert space["loss"].shape == (64,) and space["loss"].isfinite().all()
            space["loss"].mean().backward()
    assert called == NAMES


# Passes through the network


class Counting(nn.Module):
    """A network that counts the points sent forward and those whose backward pass enters it."""

    def __init__(self, d):
        super().__init__()
        self.body, self.forwards, self.backwards = networks.ScoreMLP(d, 8), 0, 0

    def entered(self, weights):
        self.backwards += len(weights)

    def forward(self, x):
        self.forwards += len(x)
        s = self.body(x)
        s.register_hook(self.entered)
        return s


@pytest.mark.parametrize("d", [2, 5])
@pytest.mark.parametrize("name", NAMES)
def test_the_passes_are_as_counted(name, d, monkeypatch):
    monkeypatch.setattr(calculus, "ROWS_AT_ONCE", 1)  # one backward pass at a time
    x, epsilon = torch.randn(2, 7, d, generator=generator(1))
    net = Counting(d)
    evaluate(name, net, x, epsilon, losses.slices(x, generator=generator(2))).mean().backward()
    said = re.match(r"(\d) forward, (\$?[^ ]+(?: \+ 1\$)?) backward", bullet(name, "Costs"))
    forward, backward = said[1], said[2].strip("$")
    assert table()[name][0].replace("$", "") == f"{forward}, {backward}"
    assert (net.forwards / 7, net.backwards / 7) == (int(forward), value(backward, d=d))


# The variance of one sample's gradient


def variance_of(name, i=0, **given):
    """The i-th formula after `Variance`; that of `ddpm_simple` is that of `ncsn`, translated."""
    if name != "ddpm_simple":
        return value(formulas(name, "Variance")[i], **given)
    assert formulas(name, "Variance") == [r"\lambda_t", r"1-\bar\alpha_t", r"\tau_t^2"]
    lam, variance = ABAR * LAM, 1 - ABAR
    return value(formulas("ncsn", "Variance")[i], lam=lam, sig=variance**0.5, **given)


ROLES = {"ssm": ["Rademacher", "Gaussian"]}
ROLES |= {"ssm_vr": ROLES["ssm"], "ssm_fd": ROLES["ssm"]}
ROLES["dsm_controlled"] = [1.0, "definition", "best", "coefficient"]
CASES = [
    (name, i, role)
    for name in NAMES
    for i, role in enumerate(ROLES.get(name, ["Rademacher"]))
    if role not in ("definition", "coefficient")
]


def gradients(name, role, n=300_000):
    """∂ loss/∂a at s = −a x for n points, each with its own copy of a."""
    rng = generator(NAMES.index(name) + 40)
    x, epsilon = torch.randn(2, n, D, generator=rng, dtype=torch.float64)
    draw = losses.gaussian_slices if role == "Gaussian" else losses.slices
    v = draw(x, generator=rng)
    beta = {"best": value(formulas("dsm_controlled", "Variance")[3])}.get(role, 1.0)
    a = torch.full((n, 1), A, dtype=torch.float64, requires_grad=True)
    evaluate(name, lambda y: -a * y, LAM**0.5 * x, epsilon, v, beta).sum().backward()
    return a.grad[:, 0]


@pytest.mark.parametrize(("name", "i", "role"), CASES)
def test_the_variance_is_as_printed(name, i, role):
    assert name == "ddpm_simple" or len(formulas(name, "Variance")) == len(ROLES.get(name, [""]))
    g = gradients(name, role)
    spread = (g - g.mean()) ** 2
    error = spread.std() / len(g) ** 0.5
    expected = variance_of(name, i, u=A / at_the_optimum(name)["a"])
    assert abs(spread.mean() - expected) < 4.5 * error
    assert error < 0.02 * expected, "so that a wrong factor would show"


@pytest.mark.parametrize("name", NAMES)
def test_the_mean_gradient_is_that_of_the_explicit_loss(name):
    g = gradients(name, "Rademacher")
    u = A / at_the_optimum(name)["a"]
    weight = {"ncsn": SIG**2, "ddpm_simple": 1 - ABAR}.get(name, 1.0)
    assert abs(g.mean() - weight * D * (u - 1)) < 4.5 * g.std() / len(g) ** 0.5


@pytest.mark.parametrize("name", NAMES)
def test_the_overview_has_the_variance_at_the_optimum(name):
    best = at_the_optimum(name)
    expected = variance_of(name, **best)
    assert value(table()[name][1], **best) == pytest.approx(expected, rel=1e-12, abs=1e-12)


def test_the_best_coefficient_is_the_best():
    """The regression of g on h, both measured, with the error of its slope."""
    n, rng = 300_000, generator(60)
    x, epsilon = torch.randn(2, n, D, generator=rng, dtype=torch.float64)

    def gradient(beta):
        a = torch.full((n, 1), A, dtype=torch.float64, requires_grad=True)
        evaluate(
            "dsm_controlled", lambda y: -a * y, LAM**0.5 * x, epsilon, beta=beta
        ).sum().backward()
        return a.grad[:, 0] - a.grad.mean()

    g = gradient(0.0)
    h = g - gradient(1.0)  # the loss is linear in β
    slope = (g @ h) / (h @ h)
    error = ((h * (g - slope * h)) ** 2).sum() ** 0.5 / (h @ h)
    assert abs(slope - value(formulas("dsm_controlled", "Variance")[3])) < 4.5 * error < 0.02


def variances(name, sigma, i=0):
    """The page's variance at the optimum, with λ = 1."""
    return value(formulas(name, "Variance")[i], lam=1, sig=sigma, a=1 / (1 + sigma**2), u=1)


def test_where_less_noise_pays_for_two_calls():
    def gain(name):
        return lambda r: variances(name, r**0.5) - variances("dsm", r**0.5) / 2

    text = bullet("dsm_controlled", "Use it")
    assert r"$\sigma^2 < \lambda/7$" in text
    assert brentq(gain("dsm_controlled"), 0.01, 5) == pytest.approx(1 / 7)
    assert r"$\lambda < 3\sigma^2$" in text
    extra = brentq(
        lambda r: variances("dsm_controlled", r**0.5) - variances("dsm", r**0.5), 0.01, 5
    )
    assert extra == pytest.approx(1 / 3)
    low, high = re.findall(r"\$([\d.]+)\\lambda\$", bullet("dsm_antithetic", "Use it"))
    assert brentq(gain("dsm_antithetic"), 0.01, 1) == pytest.approx(float(low), abs=5e-4)
    assert brentq(gain("dsm_antithetic"), 1, 99) == pytest.approx(float(high), abs=5e-3)


# The least value


def gauss(d):
    """Nodes and weights that average polynomials over N(0, I_d) exactly, up to degree 9."""
    nodes, weights = hermegauss(5)
    points = torch.tensor(list(product(nodes, repeat=d)), dtype=torch.float64)
    each = torch.tensor(list(product(weights / weights.sum(), repeat=d)), dtype=torch.float64)
    return points, each.prod(1)


def mean_loss(name, a, d=2):
    """E loss at s = −a x, over clean points, noises and sign vectors: finite sums, no chance."""
    points, weights = gauss(2 * d)
    x, epsilon = LAM**0.5 * points[:, :d], points[:, d:]
    signs = torch.tensor(list(product([-1.0, 1.0], repeat=d)), dtype=torch.float64)
    means = [weights @ evaluate(name, lambda y: -a * y, x, epsilon, v.expand_as(x)) for v in signs]
    return float(sum(means) / len(means))


@pytest.mark.parametrize("name", NAMES)
def test_the_least_value_of_the_gaussian_case(name):
    low, middle, high = (mean_loss(name, a) for a in (0.5, 1.0, 1.5))  # a parabola in a
    curvature, slope = 4 * (high - 2 * middle + low), high - low
    best = at_the_optimum(name)["a"]
    assert 1 - slope / curvature == pytest.approx(best, rel=1e-9)
    printed = formulas(name, "Least at")
    number = 0 if name == "esm" else [f for f in printed if f.startswith(("d", "-d"))][0]
    floor = number if name == "esm" else value(number, d=2)
    assert mean_loss(name, best) == pytest.approx(floor, rel=1e-9, abs=1e-12)
    if name == "ddpm_simple":
        definitions = [
            r"\lambda_t = \bar\alpha_t\lambda",
            r"\tau_t^2 = \lambda_t + 1 - \bar\alpha_t",
        ]
        assert printed[-2:] == definitions


BUMPS = GaussianMixture.isotropic([0.3, 0.7], [[-1.2], [0.9]], [0.5, 0.7])


def length(p):
    """E‖s‖² under p on the line, by quadrature of p′²/p from the two bells."""
    means, stds = p.means[:, 0].tolist(), p.covariances[:, 0, 0].sqrt().tolist()
    bells = list(zip(p.weights.tolist(), means, stds, strict=True))

    def density(y):
        return sum(w * norm.pdf(y, m, s) for w, m, s in bells)

    def slope(y):
        return sum(w * norm.pdf(y, m, s) * (m - y) / s**2 for w, m, s in bells)

    return quad(lambda y: slope(y) ** 2 / density(y), -9, 9, epsabs=1e-11, limit=400)[0]


def least_by_quadrature(name):
    """E loss at the exact score on two bumps: trapezoids over x, Gauss–Hermite over ε."""
    x = torch.linspace(-7, 7, 1401, dtype=torch.float64)
    nodes, weights = (torch.tensor(w) for w in hermegauss(60))
    grid = torch.cartesian_prod(x, nodes)
    mass = torch.outer(BUMPS.log_prob(x[:, None]).exp() * (x[1] - x[0]), weights / weights.sum())
    noisy = BUMPS.diffused(ABAR) if name == "ddpm_simple" else BUMPS.smoothed(SIG)
    clean, epsilon = grid[:, :1], grid[:, 1:]
    if name == "esm":
        x_noisy = clean + SIG * epsilon
        values = losses.esm(noisy.score, x_noisy, noisy.score(x_noisy))
    else:
        values = evaluate(name, noisy.score, clean, epsilon, torch.ones_like(clean))
    return float(mass.flatten() @ values), length(noisy)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "ssm_fd"])
def test_the_least_value_in_general(name):
    measured, squares = least_by_quadrature(name)
    with_noise = {"dsm": (1 / SIG**2 - squares) / 2, "ncsn": (1 - SIG**2 * squares) / 2}
    with_noise |= {"ddpm_simple": (1 - (1 - ABAR) * squares) / 2, "esm": 0.0}
    assert measured == pytest.approx(with_noise.get(name, -squares / 2), abs=1e-7)
    shape = {"dsm": r"\tfrac12\bigl(d/\sigma^2 - \mathbb E\Vert s_\sigma\Vert^2\bigr)", "esm": "0"}
    shape |= {"ncsn": r"\tfrac12\bigl(d - \sigma^2\,\mathbb E\Vert s_\sigma\Vert^2\bigr)"}
    shape["ddpm_simple"] = r"\tfrac12\bigl(d - (1-\bar\alpha_t)\,\mathbb E\Vert s_t\Vert^2\bigr)"
    shape |= {name: r"-\tfrac12\mathbb E\Vert s_\sigma\Vert^2" for name in NAMES[-2:]}
    shape["ism"] = r"-\tfrac12\mathbb E\Vert s\Vert^2"
    assert shape.get(name, r"-d/(2\tau^2)") in formulas(name, "Least at")


def test_the_difference_of_ssm_fd_moves_the_least_value_by_the_square_of_the_step():
    x = torch.linspace(-7, 7, 1401, dtype=torch.float64)[:, None]
    p = BUMPS.smoothed(SIG)
    mass = p.log_prob(x).exp() * (x[1] - x[0])
    exact = mass @ losses.ism(p.score, x)
    off = [
        float(mass @ losses.ssm_fd(p.score, x, torch.ones_like(x), step) - exact)
        for step in (0.04, 0.02)
    ]
    assert off[0] / off[1] == pytest.approx(4, rel=0.02)


def test_the_two_with_less_noise_have_the_mean_of_the_implicit_loss():
    """For any score, and β: here a wrong one, tanh."""
    x = torch.linspace(-7, 7, 1401, dtype=torch.float64)
    nodes, weights = (np.asarray(w) for w in hermegauss(60))
    grid = torch.cartesian_prod(x, torch.tensor(nodes))
    bells = BUMPS.log_prob(x[:, None]).exp() * (x[1] - x[0])
    mass = torch.outer(bells, torch.tensor(weights / weights.sum())).flatten()
    clean, epsilon = grid[:, :1], grid[:, 1:]
    implicit = mass @ losses.ism(torch.tanh, clean + SIG * epsilon)
    plain = mass @ losses.dsm(torch.tanh, clean, epsilon, SIG)
    assert float(plain - implicit) == pytest.approx(1 / (2 * SIG**2), abs=1e-7)
    for values in (
        variance.dsm_controlled(torch.tanh, clean, epsilon, SIG),
        variance.dsm_controlled(torch.tanh, clean, epsilon, SIG, beta=0.4),
        variance.dsm_antithetic(torch.tanh, clean, epsilon, SIG),
    ):
        assert float(mass @ values - implicit) == pytest.approx(0, abs=1e-7)
