"""The explorable of chapter 4 against SciPy and PyTorch: losses, their gap, what it shows."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from sbm_lite import losses
from sbm_lite.explorables import EsmIsm

NORMAL = torch.distributions.Normal
LOG_P = {
    "two bumps": lambda x: torch.logaddexp(NORMAL(-1.5, 1).log_prob(x), NORMAL(1.5, 1).log_prob(x))
    - math.log(2),
    "one Gaussian": NORMAL(0, 1).log_prob,
    "exponential": lambda x: -x,
}
CDF = {
    "two bumps": lambda x: (stats.norm.cdf(x, -1.5) + stats.norm.cdf(x, 1.5)) / 2,
    "one Gaussian": stats.norm.cdf,
    "exponential": stats.expon.cdf,
}
MODEL = {
    "two bumps": lambda x, theta: -x + theta * torch.tanh(theta * x),
    "one Gaussian": lambda x, theta: -theta * x,
    "exponential": lambda x, theta: -theta + 0 * x,
}
TRUTH = {"two bumps": 1.5, "one Gaussian": 1.0, "exponential": 1.0}
every_density = pytest.mark.parametrize("name", LOG_P)
every_theta = pytest.mark.parametrize("theta", [0.0, 0.6, 1.5, 3.0])


@pytest.fixture
def run(run):
    """The same, in this explorable's module, with the family of that name and a random stream."""
    start = "const f = m.FAMILIES[name], u = (await import('/maths.js')).generator(5);"
    return lambda body, **given: run(start + body, module="esm_ism", **given)


def points(name, n=41):
    return torch.linspace(0.01 if name == "exponential" else -5, 5, n, dtype=torch.float64)


def gradient(f, x):
    x = x.clone().requires_grad_()
    return torch.autograd.grad(f(x).sum(), x)[0]


def expected(name, f):
    """E f(x) by adaptive quadrature; f takes and gives a tensor."""

    def integrand(v):
        x = torch.tensor([v], dtype=torch.float64)
        return float(LOG_P[name](x).exp() * f(x))

    ends = (0, 60) if name == "exponential" else (-12, 12)
    return integrate.quad(integrand, *ends, epsabs=1e-11, epsrel=1e-10, limit=200, points=[0, 1])[0]


def score(name):
    return lambda x: gradient(LOG_P[name], x)


def wanted(name, theta):
    """J_ESM and J_ISM: every derivative by autograd, every mean by quadrature."""

    def model(x):
        return MODEL[name](x, theta)

    explicit = expected(name, lambda x: (model(x) - score(name)(x)) ** 2 / 2)
    implicit = expected(name, lambda x: model(x) ** 2 / 2 + gradient(model, x))
    return explicit, implicit


def pair(run, name, theta):
    return run("return m.exactLosses(f, theta);", name=name, theta=theta)


@every_density
def test_density_and_score(run, name):
    x = points(name)
    got = run("return [x.map(f.density), x.map(f.score)];", name=name, x=x.tolist())
    want = torch.stack([LOG_P[name](x).exp(), score(name)(x)])
    torch.testing.assert_close(torch.tensor(got, dtype=torch.float64), want, rtol=1e-5, atol=1e-9)


@every_density
@every_theta
def test_model_and_its_slope(run, name, theta):
    x = points(name)
    body = "return [x.map((v) => f.model(v, theta)), x.map((v) => f.slope(v, theta))];"
    got = torch.tensor(run(body, name=name, x=x.tolist(), theta=theta), dtype=torch.float64)
    want = torch.stack([MODEL[name](x, theta), gradient(lambda x: MODEL[name](x, theta), x)])
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-9)


@every_density
def test_the_model_is_true_at_its_own_theta(run, name):
    x = points(name)
    body = "return [f.truth, x.map((v) => f.model(v, f.truth) - f.score(v))];"
    truth, difference = run(body, name=name, x=x.tolist())
    assert truth == TRUTH[name] and max(map(abs, difference)) < 1e-12


@every_density
@every_theta
def test_exact_losses(run, name, theta):
    assert pair(run, name, theta) == pytest.approx(wanted(name, theta), rel=1e-5, abs=1e-6)


@every_theta
def test_closed_forms(run, theta):
    half = theta**2 / 2
    assert pair(run, "one Gaussian", theta) == pytest.approx([half - theta + 0.5, half - theta])
    assert pair(run, "exponential", theta) == pytest.approx([half - theta + 0.5, half], rel=1e-5)


@every_density
def test_the_constant(run, name):
    want = expected(name, lambda x: score(name)(x) ** 2 / 2)
    got = run("return m.constantBetween(f);", name=name)
    assert got == pytest.approx(want, rel=1e-5)


@every_density
@every_theta
def test_the_gap_is_the_constant_unless_there_is_a_wall(run, name, theta):
    explicit, implicit = pair(run, name, theta)
    constant = run("return m.constantBetween(f);", name=name)
    boundary = -theta if name == "exponential" else 0.0
    assert explicit - implicit == pytest.approx(constant + boundary, rel=1e-5)


@every_density
def test_where_the_losses_are_lowest(run, name):
    body = "return m.THETAS.reduce((all, t) => [...all, m.exactLosses(f, t)], []);"
    lowest = np.array(run(body, name=name)).argmin(0) / 20
    assert lowest.tolist() == [TRUTH[name], 0.0 if name == "exponential" else TRUTH[name]]


@every_density
@every_theta
def test_losses_at_given_points_are_those_of_the_package(run, name, theta):
    x = points(name)[:, None]
    explicit = losses.esm(lambda x: MODEL[name](x, theta), x, score(name)(x)).mean()
    implicit = losses.ism(lambda x: MODEL[name](x, theta), x).mean()
    body = "return m.measuredLosses(f, x, theta);"
    got = run(body, name=name, x=x.flatten().tolist(), theta=theta)
    assert got == pytest.approx([float(explicit), float(implicit)], rel=1e-5, abs=1e-12)


@every_density
def test_draws_follow_the_density(run, name):
    got = run("return [...m.drawsOf(f, 19999, u)];", name=name)
    assert len(got) == 19999
    assert stats.kstest(got, CDF[name]).pvalue > 1e-4


@every_density
@every_theta
def test_the_figure_shows_the_losses(alive, numbers, name, theta):
    """Exact to three decimals; measured within 4.5 standard errors."""
    page, n = alive(EsmIsm(density=name, theta=theta, n_draws=100_000)), 100_000
    explicit, implicit = wanted(name, theta)
    want = [explicit, implicit, explicit - implicit]
    assert numbers(page, "theory") == pytest.approx(want, abs=6e-4)
    terms = [
        lambda x: (MODEL[name](x, theta) - score(name)(x)) ** 2 / 2,
        lambda x: MODEL[name](x, theta) ** 2 / 2 + gradient(lambda x: MODEL[name](x, theta), x),
    ]
    terms.append(lambda x: terms[0](x) - terms[1](x))
    for shown, term, mean in zip(numbers(page, "measured"), terms, want, strict=True):
        variance = expected(name, lambda x, f=term, m=mean: (f(x) - m) ** 2)
        assert abs(shown - mean) < 4.5 * (variance / n) ** 0.5 + 6e-4


@every_density
def test_only_the_wall_raises_a_message(alive, name):
    page = alive(EsmIsm(density=name))
    message, note = (page.locator(f".sbm-{kind}") for kind in ("message", "note"))
    assert ("boundary term" in message.text_content()) == (name == "exponential")
    assert ("C₁" in note.text_content()) == (name != "exponential")


def test_the_listener_is_told_once_the_slider_rests(alive):
    page = alive(EsmIsm(density="one Gaussian", theta=0.5))
    assert page.locator("[role=status]").text_content() == ""
    page.locator("input[name=theta]").press("End")
    page.wait_for_function("document.querySelector('[role=status]').textContent")
    told = page.locator("[role=status]").text_content()
    assert "exact 2.000" in told and "exact 1.500" in told and "half E s(X) squared = 0.500" in told
