"""The explorable of chapter 1 against SciPy and PyTorch: Z, the sampling of it, what it shows."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from sbm_lite.explorables import Partition

SETTINGS = [
    {"separation": 1.5, "tilt": 0.3, "offset": 0.0},
    {"separation": 0.0, "tilt": -2.0, "offset": 3.0},
    {"separation": 3.0, "tilt": 2.0, "offset": -3.0},
]
every_setting = pytest.mark.parametrize("told", SETTINGS)


@pytest.fixture
def run(run):
    """The same, in this explorable's module, with a stream of uniform numbers at hand."""
    stream = "const uniform = (await import('/maths.js')).generator(5);"
    return lambda body, **given: run(stream + body, module="partition", **given)


def q(x, told):
    b, c, e = told["separation"], told["tilt"], told["offset"]
    return np.exp(-((x**2 - b**2) ** 2 / 8 - c * x + e))


def z(told):
    return integrate.quad(q, -12, 12, (told,), epsabs=0, epsrel=1e-12, limit=400)[0]


def moment(k, dim, r):
    """E wᵏ of the weight w = N(x; 0, I)/N(x; 0, r²I) under x ~ N(0, r²I)."""

    def integrand(x):
        return stats.norm.pdf(x) ** k * stats.norm.pdf(x, scale=r) ** (1 - k)

    return integrate.quad(integrand, -25, 25, epsabs=0, epsrel=1e-12, limit=400)[0] ** dim


@every_setting
def test_area_by_quadrature(run, told):
    got = run("return m.partitionByQuadrature(told);", told=told)
    assert got == pytest.approx(z(told), rel=1e-8)


@every_setting
def test_area_by_given_draws(run, told):
    """Mean and standard error of q/proposal, the proposal written out by torch.distributions."""
    u, std = np.random.default_rng(1).normal(size=50), told["separation"] + 1
    x = torch.tensor(std * u)
    weight = torch.tensor(q(std * u, told)) / torch.distributions.Normal(0, std).log_prob(x).exp()
    got = run("return m.partitionByDraws(told, z, std);", told=told, z=u.tolist(), std=std)
    assert got["value"] == pytest.approx(float(weight.mean()), rel=1e-5)
    assert got["error"] == pytest.approx(float(weight.std(correction=0)) / 50**0.5, rel=1e-5)


@every_setting
def test_the_draws_find_the_area(run, told):
    got = run(
        """const z = new Float64Array(200000); (await import('/maths.js')).fillNormals(uniform, z);
        return m.partitionByDraws(told, z, told.separation + 1);""",
        told=told,
    )
    assert abs(got["value"] - z(told)) < 4.5 * got["error"]
    assert got["error"] < 0.02 * z(told)


@pytest.mark.parametrize("dim", [1, 2, 3, 20, 100])
def test_lengths_follow_chi_square(run, dim):
    got = run("return [...m.squaredLengths(19999, dim, uniform)];", dim=dim)
    assert len(got) == 19999
    assert stats.kstest(got, stats.chi2(dim).cdf).pvalue > 1e-4


@pytest.mark.parametrize("r", [0.75, 1.0, 1.4, 3.0])
def test_useful_share_of_given_draws(run, r):
    """(Σw)²/(nΣw²), the weights being ratios of two densities of torch.distributions."""
    dim, normal = 30, torch.distributions.Normal
    u = torch.randn(400, dim, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    log_w = (normal(0, 1).log_prob(r * u) - normal(0, r).log_prob(r * u)).sum(1)
    want = (2 * log_w.logsumexp(0) - (2 * log_w).logsumexp(0)).exp() / 400
    squares = u.square().sum(1).tolist()
    got = run("return m.usefulShare(squares, r);", squares=squares, r=r)
    assert got == pytest.approx(float(want), rel=1e-5)


@pytest.mark.parametrize("r", [0.75, 1.0, 1.4, 3.0])
@pytest.mark.parametrize("dim", [1, 7, 100])
def test_share_in_theory(run, dim, r):
    want = moment(1, dim, r) ** 2 / moment(2, dim, r)
    assert run("return m.shareInTheory(dim, r);", dim=dim, r=r) == pytest.approx(want, rel=1e-5)


@pytest.mark.parametrize(("dim", "r"), [(1, 3.0), (5, 1.2), (10, 1.4)])
def test_the_measured_share_tends_to_theory(run, dim, r):
    """Within 4.5 standard errors of the log of the ratio (delta method)."""
    n, m2, m3, m4 = 100_000, *(moment(k, dim, r) for k in (2, 3, 4))
    variance = 4 * (m2 - 1) - 4 * (m3 - m2) / m2 + (m4 - m2**2) / m2**2
    body = "return m.usefulShare(m.squaredLengths(n, dim, uniform), r) / m.shareInTheory(dim, r);"
    assert abs(math.log(run(body, n=n, dim=dim, r=r))) < 4.5 * (variance / n) ** 0.5


@every_setting
def test_the_figure_shows_the_area(alive, numbers, told):
    page = alive(Partition(**told, n_draws=100_000))
    measured, quadrature = (numbers(page, column)[0] for column in ("measured", "theory"))
    assert quadrature == pytest.approx(z(told), abs=0.06 if z(told) > 100 else 0.0006)
    assert measured == pytest.approx(quadrature, rel=0.05)


def test_the_figure_shows_the_share(alive, numbers):
    page = alive(Partition(dim=8, n_draws=100_000))
    assert numbers(page, "theory")[1] == pytest.approx(100 * moment(2, 8, 1.4) ** -1, abs=0.06)
    assert numbers(page, "measured")[1] == pytest.approx(numbers(page, "theory")[1], rel=0.05)


def test_the_measured_share_never_falls_below_one_draw(alive):
    page = alive(Partition(dim=100, proposal_std=3.0, n_draws=1000))
    measured, theory = (page.locator(f"output[name={c}]").nth(1) for c in ("measured", "theory"))
    assert float(measured.text_content()) >= 0.1 and theory.text_content() == "≈ 10⁻³²"
    assert "Less than one of 1,000 draws" in page.locator(".sbm-note").nth(1).text_content()


def test_the_listener_is_told_once_the_slider_rests(alive):
    page = alive(Partition(dim=1, proposal_std=1.0))
    assert page.locator("[role=status]").text_content() == ""
    page.locator("input[name=dim]").press("End")
    page.wait_for_function("document.querySelector('[role=status]').textContent")
    assert page.locator("[role=status]").text_content().endswith("measured 100, theory 100")


def test_a_constant_changes_the_area_by_a_factor(alive, numbers):
    """Both columns: the draws are the same, only their weights are scaled."""
    before, after = (alive(Partition(offset=e)) for e in (0.0, 1.0))
    for column in ("measured", "theory"):
        ratio = numbers(before, column)[0] / numbers(after, column)[0]
        assert ratio == pytest.approx(math.e, rel=1e-3)
