"""The explorable of chapter 6 against PyTorch: posterior, draws, score, and what it shows."""

import pytest
import torch

from sbm_lite import calculus, densities
from sbm_lite.explorables import Denoise
from sbm_lite.runtime import generator

CLOSE = {"rtol": 1e-5, "atol": 1e-9}
UNEQUAL = {"weights": [0.3, 0.7], "means": [[-2.0, 1.0], [3.0, 0.0]], "stds": [0.5, 2.0]}
TOLD = Denoise().densities | {"unequal widths": UNEQUAL}
PROBES = [(1.0, 0.0), (-0.3, 0.2), (5.0, 5.5), (-8.0, 8.0)]

LAW = """
  const clean = m.makeMixture(told), law = m.posterior(clean, x, y, sigma);
  const { mean, trace } = m.exactMoments(law);
  const { score } = m.evaluateAt(m.makeMixture(clean, sigma), x, y);
"""

everywhere = pytest.mark.parametrize("probe", PROBES)
every_noise = pytest.mark.parametrize("sigma", [0.2, 2.0, 6.0])
every_density = pytest.mark.parametrize("name", TOLD)


def tensor(values):
    return torch.tensor(values, dtype=torch.float64)


def clean(name):
    told = TOLD[name]
    weights = tensor(told["weights"])
    return densities.GaussianMixture.isotropic(weights / weights.sum(), told["means"], told["stds"])


@everywhere
@every_noise
@every_density
def test_posterior_is_the_package_s(run, name, sigma, probe):
    got = run(
        LAW + "return [law.weights, law.means, law.variances].map((a) => [...a]);",
        told=TOLD[name], x=probe[0], y=probe[1], sigma=sigma,
    )  # fmt: skip
    weights, means, variances = map(tensor, got)
    want = clean(name).posterior(tensor(probe), sigma)
    kept = weights > 1e-12 * weights.max()  # the package drops the others
    torch.testing.assert_close(weights[kept], want.weights, **CLOSE)
    torch.testing.assert_close(means.reshape(-1, 2)[kept], want.means, **CLOSE)
    round_ones = variances[kept, None, None] * torch.eye(2).double()
    torch.testing.assert_close(round_ones, want.covariances, **CLOSE)


@everywhere
@every_noise
@every_density
def test_score_mean_and_trace(run, name, sigma, probe):
    """Tweedie to both orders: E(x|x̃) = x̃ + σ²s and tr Cov(x|x̃) = dσ² + σ⁴ ∇·s, s by autograd."""
    got = run(
        LAW + "return { mean, trace, score: [...score] };",
        told=TOLD[name], x=probe[0], y=probe[1], sigma=sigma,
    )  # fmt: skip
    noisy, at = clean(name).smoothed(sigma), tensor([probe])
    score = calculus.score_of(noisy.log_prob)(at)[0]
    torch.testing.assert_close(tensor(got["score"]), score, **CLOSE)
    torch.testing.assert_close(tensor(got["mean"]), at[0] + sigma**2 * score, **CLOSE)
    trace = 2 * sigma**2 + sigma**4 * calculus.divergence(noisy.score, at)[0]
    torch.testing.assert_close(tensor(got["trace"]), trace.detach(), rtol=1e-5, atol=1e-7)


DRAWS = """
  const law = m.posterior(m.makeMixture(told), x, y, sigma);
  const { x: drawn, components } = m.drawFrom(law, n, seed);
  return { drawn: [...drawn], components: [...components], found: m.momentsOf(drawn) };
"""


@every_density
def test_draws_follow_the_posterior(run, name):
    n, probe = 40_000, tensor([-0.3, 0.2])
    got = run(DRAWS, told=TOLD[name], x=-0.3, y=0.2, sigma=2.0, n=n, seed=5)
    x, want = tensor(got["drawn"]).reshape(-1, 2), clean(name).posterior(probe, 2.0)
    mean = want.weights @ want.means
    error = x.std(0) / n**0.5
    assert ((x.mean(0) - mean).abs() < 4.5 * error).all()
    squares = (x - mean).square().sum(1)
    trace = want.covariances.diagonal(dim1=1, dim2=2).sum(1) + (want.means - mean).square().sum(1)
    assert (squares.mean() - want.weights @ trace).abs() < 4.5 * squares.std() / n**0.5
    counts = torch.bincount(torch.tensor(got["components"]), minlength=len(TOLD[name]["means"]))
    expected = clean(name).smoothed(2.0)  # shares by Bayes, component by component
    log_joint = expected.weights.log() + torch.stack([
        torch.distributions.MultivariateNormal(m, c).log_prob(probe)
        for m, c in zip(expected.means, expected.covariances, strict=True)])  # fmt: skip
    shares = log_joint.softmax(0)
    assert ((counts / n - shares).abs() < 4.5 * (shares / n).sqrt() + 1e-6).all()


def test_moments_of_draws(run):
    got = run(DRAWS, told=TOLD["ring"], x=1.0, y=0.0, sigma=2.0, n=50, seed=1)
    x = tensor(got["drawn"]).reshape(-1, 2)
    torch.testing.assert_close(tensor(got["found"]["mean"]), x.mean(0), **CLOSE)
    torch.testing.assert_close(tensor(got["found"]["trace"]), x.T.cov().trace(), **CLOSE)


def test_draws_of_data_stay_on_the_data(run):
    told = TOLD["twelve points"]
    got = run(DRAWS, told=told, x=1.0, y=0.0, sigma=2.0, n=500, seed=1)
    distance = torch.cdist(tensor(got["drawn"]).reshape(-1, 2), tensor(told["means"]))
    assert distance.min(1).values.max() < 0.01
    assert distance.argmin(1).tolist() == got["components"]


def test_more_draws_keep_those_before_and_a_seed_decides(run):
    given = {"told": TOLD["ring"], "x": 1.0, "y": 0.0, "sigma": 2.0}
    few, many = (run(DRAWS, n=n, seed=1, **given)["drawn"] for n in (10, 100))
    assert many[:20] == few != run(DRAWS, n=10, seed=2, **given)["drawn"]


@pytest.mark.parametrize("name", Denoise().densities)
def test_the_table_shows_the_score_and_the_spread(alive, numbers, name):
    page = alive(Denoise(density=name, probe_x=-0.3, probe_y=0.2, sigma=1.5, n_draws=2000))
    noisy, at = clean(name).smoothed(1.5), tensor([[-0.3, 0.2]])
    spread = 2 / 1.5**2 + float(calculus.divergence(noisy.score, at))  # tr Cov(t | x̃)
    want = [*noisy.score(at)[0].tolist(), spread]
    assert numbers(page, "theory") == pytest.approx(want, abs=0.0051)
    x = clean(name).posterior(at[0], 1.5).sample(20_000, generator=generator(0)).double()
    targets = (x - at) / 1.5**2
    terms = [*targets.T, (targets - targets.mean(0)).square().sum(1)]  # what the table averages
    for measured, exact, term in zip(numbers(page, "measured"), want, terms, strict=True):
        assert abs(measured - exact) < 4.5 * float(term.std()) / 2000**0.5 + 0.005


def test_the_noisy_point_is_dragged(alive, numbers):
    page = alive(Denoise())
    before, box = numbers(page, "theory"), page.locator(".sbm-picture").bounding_box()
    x, y, size = box["x"], box["y"], box["width"]
    page.mouse.move(x + 0.5625 * size, y + 0.5 * size)  # where x̃ = (1, 0) is
    page.mouse.down()
    page.mouse.move(x + 0.25 * size, y + 0.75 * size)
    page.mouse.up()
    sliders = [page.locator(f"[name={name}]").evaluate("s => +s.value") for name in
               ("probe_x", "probe_y")]  # fmt: skip
    assert sliders == pytest.approx([-4, -4], abs=0.1)
    assert numbers(page, "theory") != before


def test_the_listener_is_told_once_all_is_at_rest(alive):
    page = alive(Denoise(n_draws=50))
    page.locator("[name=sigma]").press("ArrowRight")
    page.locator("[role=status]", has_text="50 draws. mean target, along x").wait_for(
        state="attached"
    )
