"""The explorable of chapter 5 against PyTorch: the matrix, the slices, their law, what it shows."""

import itertools

import pytest
import torch

from sbm_lite.explorables import Slices
from sbm_lite.explorables.slices import LAWS

CLOSE = {"rtol": 1e-5, "atol": 1e-9}
MATRIX = "const a = m.makeJacobian(dim, rho, (await import('/maths.js')).generator(seed));"
THEORY = """
  const told = m.describeJacobian(Float64Array.from(a), dim), law = m.LAWS[name];
  return [law.mean(told), law.variance(told)];
"""
SLICES = f"""
  {MATRIX} const told = m.describeJacobian(a, dim), law = m.LAWS[name];
  const uniform = (await import('/maths.js')).generator(seed + 1), slices = [];
  for (let i = 0; i < n; i++) slices.push(m.drawSlice(a, dim, law, uniform));
  const theory = [law.mean(told), law.variance(told)];
  return {{ slices, theory, found: (await import('/maths.js')).meanAndVariance(slices) }};
"""
every_law = pytest.mark.parametrize("name", LAWS)


@pytest.fixture
def run(run):
    """The same, in this explorable's module."""
    return lambda body, **given: run(body, module="slices", **given)


def tensor(values):
    return torch.tensor(values, dtype=torch.float64)


def symmetric(d, seed=0):
    a = torch.randn(d, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return a + a.T


def jacobian(run, dim, rho, seed=0):
    return tensor(run(MATRIX + "return [...a];", dim=dim, rho=rho, seed=seed)).reshape(dim, dim)


def exact_moments(a, name):
    """Mean and variance of vᵀAv by enumeration, by eigenvalues, by Dirichlet's covariance."""
    d, eigenvalues = len(a), torch.linalg.eigvalsh(a)
    if name == "Rademacher":
        v = tensor(list(itertools.product([-1, 1], repeat=d)))
        slices = ((v @ a) * v).sum(1)
        return slices.mean(), slices.var(correction=0)
    if name == "Gaussian":  # Σλᵢχ²ᵢ, and χ² has mean 1 and variance 2
        return eigenvalues.sum(), 2 * eigenvalues.square().sum()
    share = torch.distributions.Dirichlet(torch.full((d,), 0.5).double())  # of uᵢ² on the sphere
    covariance = torch.full((d, d), -0.25 / ((d / 2) ** 2 * (d / 2 + 1))).double()
    covariance = covariance.diagonal_scatter(share.variance)
    scale = 1 if name == "unit sphere" else d
    return scale * share.mean @ eigenvalues, scale**2 * eigenvalues @ covariance @ eigenvalues


@every_law
@pytest.mark.parametrize("d", [2, 9])
def test_mean_and_variance_of_a_slice(run, name, d):
    a = symmetric(d)
    got = tensor(run(THEORY, a=a.flatten().tolist(), dim=d, name=name))
    torch.testing.assert_close(got, torch.stack(exact_moments(a, name)), **CLOSE)


def test_quadratic_form(run):
    a, v = symmetric(7), symmetric(7, seed=1)
    got = run("return v.map((u) => m.quadraticForm(a, u));", a=a.flatten().tolist(), v=v.tolist())
    torch.testing.assert_close(tensor(got), torch.einsum("ni,ij,nj->n", v, a, v), **CLOSE)


@pytest.mark.parametrize("d", [2, 3, 100])
def test_jacobian_is_symmetric_with_trace_minus_d(run, d):
    a = jacobian(run, d, 0.5)
    assert torch.equal(a, a.T) and torch.equal(a.diagonal(), -torch.ones(d).double())
    assert torch.equal(jacobian(run, d, 0.0), -torch.eye(d).double())


def test_entries_off_the_diagonal_have_variance_rho_squared_over_d(run):
    above = jacobian(run, 100, 0.5, seed=3)[*torch.triu_indices(100, 100, 1)]
    n, variance = len(above), 0.5**2 / 100
    assert above.mean().abs() < 4.5 * (variance / n) ** 0.5
    assert (above.var() - variance).abs() < 4.5 * variance * (2 / n) ** 0.5


def test_coupling_only_scales_them(run):
    half, whole = (jacobian(run, 20, rho) + torch.eye(20).double() for rho in (0.5, 1.0))
    torch.testing.assert_close(2 * half, whole)
    assert (whole - torch.eye(20).double() - jacobian(run, 20, 1.0, seed=1)).abs().max() > 0.1


@every_law
def test_slices_follow_their_law(run, name):
    n = 40_000
    got = run(SLICES, dim=10, rho=1.0, seed=4, name=name, n=n)
    slices, (mean, variance) = tensor(got["slices"]), got["theory"]
    assert (slices.mean() - mean).abs() < 4.5 * (variance / n) ** 0.5
    squares = (slices - mean).square()
    assert (squares.mean() - variance).abs() < 4.5 * squares.std() / n**0.5
    torch.testing.assert_close(tensor(got["found"]), torch.stack([slices.mean(), slices.var()]))


@pytest.mark.parametrize(("name", "mean"), [(LAWS[0], -10), (LAWS[2], -10), (LAWS[3], -1)])
def test_uncoupled_coordinates_need_one_slice(run, name, mean):
    got = run(SLICES, dim=10, rho=0.0, seed=4, name=name, n=100)
    assert got["slices"] == pytest.approx([mean] * 100, abs=1e-12)
    assert got["theory"] == pytest.approx([mean, 0], abs=1e-12)


def test_gaussian_slices_vary_even_then(run):
    got = run(SLICES, dim=10, rho=0.0, seed=4, name="Gaussian", n=100)
    assert got["theory"] == pytest.approx([-10, 20]) and max(got["slices"]) > min(got["slices"]) + 5


@every_law
@pytest.mark.parametrize("dim", [2, 5, 10])
def test_directions_have_the_right_length_and_no_preferred_way(run, name, dim):
    n, unit = 4_000, 1 / dim if name == "unit sphere" else 1
    got = run(
        """const { fillNormals, generator } = await import('/maths.js');
        const uniform = generator(9), z = new Float64Array(dim + (dim % 2)), out = [];
        for (let i = 0; i < n; i++) {
          fillNormals(uniform, z);
          out.push([...m.LAWS[name].direct(z.subarray(0, dim))]);
        }
        return out;""",
        n=n, dim=dim, name=name,
    )  # fmt: skip
    v = tensor(got)
    products = v[:, :, None] * v[:, None, :]
    error = products.std(0) / n**0.5
    distance = (products.mean(0) - unit * torch.eye(dim).double()).abs()
    assert (distance < 4.5 * error + 1e-9).all()
    lengths = v.square().sum(1) / (unit * dim)
    assert bool((lengths - 1).abs().max() < 1e-9) == (name != "Gaussian")


def test_at_rest_a_hundred_slices_stand_and_a_step_adds_one(alive, numbers):
    page = alive(Slices())
    root = page.locator(".sbm-explorable")
    assert root.get_attribute("data-slices") == "100"
    before = numbers(page, "measured")
    page.get_by_role("button", name="Step").click()
    assert root.get_attribute("data-slices") == "101" and numbers(page, "measured") != before
    page.get_by_role("button", name="Restart").click()
    assert root.get_attribute("data-slices") == "1"


def test_sliders_keep_the_number_of_slices(alive, numbers):
    page = alive(Slices(coupling=0.05))
    page.locator("[name=coupling]").press("ArrowLeft")
    assert numbers(page, "measured") == numbers(page, "theory") == [-10, 0]
    assert page.locator(".sbm-explorable").get_attribute("data-slices") == "100"


def test_playing_ends_after_a_thousand_slices_and_may_begin_again(alive):
    page = alive(Slices(dim=2))
    page.get_by_role("button", name="Play").click()
    page.locator("[data-slices='1000']").wait_for()
    page.get_by_role("button", name="Play").click()
    page.get_by_role("button", name="Pause").wait_for()
    assert int(page.locator(".sbm-explorable").get_attribute("data-slices")) < 1000


def test_the_listener_is_told_once_all_is_at_rest(alive):
    page = alive(Slices())
    page.locator("[name=dim]").press("ArrowRight")
    page.locator("[role=status]", has_text="After 100 slices: mean of v transpose Av").wait_for(
        state="attached"
    )
