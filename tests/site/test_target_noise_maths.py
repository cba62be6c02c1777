"""The explorable of chapter 9 against PyTorch, SciPy and closed forms, and what it shows."""

import math
import re

import mpmath
import numpy as np
import pytest
import torch
from scipy import integrate, stats

from sbm_lite import losses, variance
from sbm_lite.densities import GaussianMixture
from sbm_lite.explorables import TargetNoise
from sbm_lite.explorables.target_noise import ESTIMATORS, LAWS

SIGMAS = [0.01, 0.05, 0.1, 0.3, 0.7, 1.0, 3.0]
THETAS = [0.0, 0.5, 1.0, 1.5]
LOPSIDED = (0.3, (-1.0, 2.5), 0.7)  # unlike the three laws, not centred on 0
PLACES = [-5.0, -2.1, -1.0, -0.3, 0.0, 0.02, 0.4, 1.0, 1.9, 5.0]
EXACT = {"rel": 1e-8, "abs": 1e-10}
LOSSES = dict(
    zip(ESTIMATORS, [losses.dsm, variance.dsm_controlled, variance.dsm_antithetic], strict=True)
)
every_law = pytest.mark.parametrize("name", LAWS)
every_estimator = pytest.mark.parametrize("estimator", ESTIMATORS)
every_noise = pytest.mark.parametrize("sigma", SIGMAS)


@pytest.fixture
def run(run):
    """The same, in this explorable's module, with the law of that name."""
    right, means, std = LOPSIDED
    other = f"{{ right: {right}, means: {list(means)}, std: {std} }}"
    start = f"const law = m.LAWS[name] ?? {other};"
    return lambda body, **given: run(start + body, module="target_noise", **given)


def hills(name):
    """Weights and means of the components, and their standard deviation."""
    right, means, std = LAWS.get(name, LOPSIDED)
    return [(1 - right, means[0]), (right, means[1])], std


def noisy(name, sigma):
    parts, std = hills(name)
    weights, means = zip(*parts, strict=True)
    spread = math.hypot(std, sigma)
    return GaussianMixture.isotropic(list(weights), [[m] for m in means], spread)


def exact_target(name, sigma, x):
    """s and 1/σ² + s′ from the density of the noisy data, in fifty-digit arithmetic and more."""
    with mpmath.workdps(800):
        parts, std = hills(name)
        sigma, x = mpmath.mpf(sigma), mpmath.mpf(x)
        spread = mpmath.sqrt(mpmath.mpf(std) ** 2 + sigma**2)
        bells = [(w * mpmath.npdf(x, m, spread), (m - x) / spread**2) for w, m in parts]
        p, slope = (sum(b * z**k for b, z in bells) for k in (0, 1))
        curvature = sum(b * (z**2 - 1 / spread**2) for b, z in bells)
        s = slope / p
        return float(s), float(1 / sigma**2 + curvature / p - s**2)


TARGET = "const t = m.makeTarget(law, sigma); return x.map((v) => [t.mean(v), t.variance(v)]);"


@pytest.mark.parametrize("name", [*LAWS, "lopsided"])
@every_noise
def test_score_and_spread_of_the_target(run, name, sigma):
    got = run(TARGET, name=name, sigma=sigma, x=PLACES)
    want = [exact_target(name, sigma, x) for x in PLACES]
    for (mean, spread), (score, second) in zip(got, want, strict=True):
        assert mean == pytest.approx(score, rel=1e-9, abs=1e-11 / sigma**2)
        assert spread == pytest.approx(second, rel=1e-8, abs=1e-30) and spread >= 0


@every_law
@pytest.mark.parametrize("sigma", [0.1, 0.7, 3.0])
def test_score_and_spread_are_the_package_s(run, name, sigma):
    x, law = torch.tensor(PLACES, dtype=torch.float64)[:, None], noisy(name, sigma)
    got = run(TARGET, name=name, sigma=sigma, x=PLACES)
    want = [law.score(x)[:, 0], variance.target_covariance(law.score, x, sigma)[:, 0, 0]]
    np.testing.assert_allclose(got, torch.stack(want, 1).detach(), rtol=1e-8, atol=1e-9 / sigma**2)


@every_law
@pytest.mark.parametrize("sigma", [0.05, 0.4, 2.0])
@pytest.mark.parametrize("at", [-2.3, 0.1, 1.0])
def test_mean_and_variance_of_the_clean_point(run, name, sigma, at):
    """E[x | x̃] = x̃ + σ²s and Var(x | x̃) = σ⁴ Var(t | x̃), against sums or integrals over x."""
    parts, std = hills(name)
    law = "const t = m.makeTarget(law, sigma); return [t.mean(at), t.variance(at), t.share(at)];"
    mean, spread, share = run(law, name=name, sigma=sigma, at=at)
    if std:

        def moment(f, parts=parts):
            """∫ f(x) p(x) q(x̃ | x) dx in units of the largest q; the mass lies near x̃ or a hill."""
            middle, wide = np.mean([at, *(m for _, m in parts)]), 4 * std
            points = sorted({at, *(m for _, m in parts), *(at + k * sigma for k in (-6, -2, 2, 6))})
            clean = lambda x: sum(w * stats.norm.pdf(x, m, std) for w, m in parts)  # noqa: E731
            value = lambda x: f(x) * clean(x) * math.exp(-(((at - x) / sigma) ** 2) / 2)  # noqa: E731
            ends = middle - 6 - wide, middle + 6 + wide
            return integrate.quad(value, *ends, epsabs=0, epsrel=1e-12, limit=500, points=points)[0]
    else:

        def moment(f, parts=parts):
            nearest = min(abs(at - m) for _, m in parts)
            weigh = lambda m: math.exp((nearest**2 - (at - m) ** 2) / (2 * sigma**2))  # noqa: E731
            return sum(f(m) * w * weigh(m) for w, m in parts)

    total = moment(lambda x: 1.0)
    centre = moment(lambda x: x) / total
    assert at + sigma**2 * mean == pytest.approx(centre, **EXACT)
    second = moment(lambda x: (x - centre) ** 2) / total
    assert sigma**4 * spread == pytest.approx(second, rel=1e-7, abs=1e-12)
    if name == "two points":
        assert share == pytest.approx((1 + centre) / 2, **EXACT)


DRAWN = """const d = m.makeDraws(law, n, seed);
  return { x: [...d.x], epsilon: [...d.epsilon], t: [...m.targetsGiven(law, sigma, at, d)] };"""


@every_law
def test_samples_follow_the_law_and_the_noise(run, name):
    n, (parts, std) = 40_000, hills(name)
    got = run(DRAWN, name=name, n=n, seed=3, sigma=1.0, at=0.0)
    x, epsilon = np.array(got["x"]), np.array(got["epsilon"])
    assert stats.kstest(epsilon, "norm").pvalue > 1e-4
    assert abs(np.corrcoef(x, epsilon)[0, 1]) < 4.5 * n**-0.5
    share = sum(w * (stats.norm.sf(0, m, std) if std else float(m > 0)) for w, m in parts)
    assert abs(np.mean(x > 0) - share) < 4.5 * (share * (1 - share) / n) ** 0.5
    if std:
        assert abs(np.corrcoef(x**2, epsilon**2)[0, 1]) < 4.5 * n**-0.5
        cdf = lambda v: sum(w * stats.norm.cdf(v, m, std) for w, m in parts)  # noqa: E731
        assert stats.kstest(x, cdf).pvalue > 1e-4
    else:
        assert set(x) == {-1.0, 1.0}


@every_law
@pytest.mark.parametrize(("sigma", "at"), [(0.05, 1.0), (0.5, 0.1), (1.0, -0.4), (3.0, 2.0)])
def test_targets_are_drawn_from_their_law_at_the_noisy_point(run, name, sigma, at):
    n, (parts, std) = 40_000, hills(name)
    t = np.array(run(DRAWN, name=name, n=n, seed=4, sigma=sigma, at=at)["t"])
    x, kappa = at + sigma**2 * t, std**2 / (std**2 + sigma**2)
    log = np.array(
        [math.log(w) + stats.norm.logpdf(at, m, math.hypot(std, sigma)) for w, m in parts]
    )
    shares = np.exp(log - log.max()) / np.exp(log - log.max()).sum()
    if std:
        centres = [m + kappa * (at - m) for _, m in parts]
        cdf = lambda v: sum(  # noqa: E731
            w * stats.norm.cdf(v, m, kappa**0.5 * sigma)
            for w, m in zip(shares, centres, strict=True)
        )
        assert stats.kstest(x, cdf).pvalue > 1e-4
    else:
        right = np.isclose(x, 1, atol=1e-9)
        assert (right | np.isclose(x, -1, atol=1e-9)).all()
        assert abs(right.mean() - shares[1]) < 4.5 * (shares.prod() / n) ** 0.5 + 1e-12


def test_more_samples_keep_those_before_and_a_seed_decides(run):
    given = {"name": "two hills", "sigma": 0.3, "at": 0.2}
    few, many, other = (
        run(DRAWN, n=n, seed=seed, **given) for n, seed in ((100, 1), (300, 1), (100, 2))
    )
    assert all(many[key][:100] == few[key] != other[key] for key in few)


GRADIENTS = """
  const samples = { x: Float64Array.from(x), epsilon: Float64Array.from(epsilon) };
  const { second } = m.ESTIMATORS[estimator];
  samples.first = m.scoresAt(law, sigma, samples);
  samples.second = second && m.scoresAt(law, sigma, samples, second);
  return [...m.gradients(estimator, theta, sigma, samples)];
"""


@every_law
@every_estimator
@pytest.mark.parametrize("sigma", [0.01, 0.4, 3.0])
def test_gradients_are_those_of_the_package_s_losses(run, name, estimator, sigma):
    x = torch.linspace(-2.5, 2.5, 31, dtype=torch.float64)
    epsilon, s = torch.sin(7 * x) * 2, noisy(name, sigma).score
    got = run(GRADIENTS, name=name, estimator=estimator, sigma=sigma, theta=0.7,
              x=x.tolist(), epsilon=epsilon.tolist())  # fmt: skip
    theta = torch.full((31, 1), 0.7, dtype=torch.float64, requires_grad=True)
    value = LOSSES[estimator](lambda at: theta * s(at), x[:, None], epsilon[:, None], sigma)
    want = torch.autograd.grad(value.sum(), theta)[0][:, 0]
    np.testing.assert_allclose(got, want, rtol=1e-8, atol=1e-9 / sigma**4)


EXACT_GRADIENT = """
  const nodes = m.makeNodes(law), { second } = m.ESTIMATORS[estimator];
  nodes.first = m.scoresAt(law, sigma, nodes);
  nodes.second = second && m.scoresAt(law, sigma, nodes, second);
  const all = thetas.map((theta) => m.exactGradient(estimator, theta, sigma, nodes));
  return all.map(({ mean, variance, scale }) => [mean, variance, scale]);
"""


def by_nodes(run, name, estimator, sigma):
    return run(EXACT_GRADIENT, name=name, estimator=estimator, sigma=sigma, thetas=THETAS)


def fine_score(name, sigma, x):
    """s_σ in NumPy, by responsibilities."""
    parts, std = hills(name)
    noise = std**2 + sigma**2
    log = np.stack([math.log(w) - (x - m) ** 2 / (2 * noise) for w, m in parts])
    shares = np.exp(log - log.max(0))
    pulls = np.stack([(m - x) / noise for _, m in parts])
    return (shares * pulls).sum(0) / shares.sum(0)


def gradient_parts(name, estimator, sigma, x, epsilon):
    """The gradient at θ = 0 and what a unit of θ adds."""
    s = lambda at: fine_score(name, sigma, at)  # noqa: E731
    ahead = s(x + sigma * epsilon)
    if estimator == "antithetic pair":
        behind = s(x - sigma * epsilon)
        return (ahead - behind) * epsilon / sigma / 2, (ahead**2 + behind**2) / 2
    control = s(x) if estimator == "control variate" else 0
    return (ahead - control) * epsilon / sigma, ahead**2


@every_law
@every_estimator
@every_noise
def test_mean_and_variance_of_the_gradient(run, name, estimator, sigma):
    """Against the trapezoid rule on a grid in x, not in z, several times as fine."""
    parts, std = hills(name)
    epsilon = np.linspace(-9, 9, 1001 if std else 9001)
    x = np.linspace(-8, 8, 1601)[:, None] if std else np.array([[-1.0], [1.0]])
    clean = (
        sum(w * stats.norm.pdf(x, m, std) for w, m in parts) / 100 if std else np.full_like(x, 0.5)
    )
    weight = clean * stats.norm.pdf(epsilon) * (epsilon[1] - epsilon[0])
    start, more = gradient_parts(name, estimator, sigma, x, epsilon)
    for theta, got in zip(THETAS, by_nodes(run, name, estimator, sigma), strict=True):
        g = start + theta * more
        mean = (weight * g).sum()
        second = (weight * (g - mean) ** 2).sum()
        scale = (weight * more).sum()
        assert got[2] == pytest.approx(scale, **EXACT)
        assert got[0] == pytest.approx(mean, abs=1e-8 * scale)
        assert got[1] == pytest.approx(second, rel=1e-8, abs=1e-12 * scale**2)


@every_law
@every_noise
def test_the_law_of_total_variance(run, name, sigma):
    """Var g = (θ − 1)² Var s² + E[s² Var(t | x̃)] of plain DSM, by one integral over x̃."""
    parts, std = hills(name)
    spread = math.hypot(std, sigma)
    x, step = np.linspace(-3 - 9 * spread, 3 + 9 * spread, 400_001), 1e-5 * spread**2
    p = sum(w * stats.norm.pdf(x, m, spread) for w, m in parts) * (x[1] - x[0])
    square = fine_score(name, sigma, x) ** 2
    slope = fine_score(name, sigma, x + step) - fine_score(name, sigma, x - step)
    within = (p * square * (1 / sigma**2 + slope / (2 * step))).sum()
    mean = (p * square).sum()
    between = (p * (square - mean) ** 2).sum()
    by_theta = by_nodes(run, name, "DSM", sigma)
    for theta, (found, second, scale) in zip(THETAS, by_theta, strict=True):
        assert scale == pytest.approx(mean, rel=1e-8)
        assert found == pytest.approx((theta - 1) * mean, **EXACT)
        want = (theta - 1) ** 2 * between + within
        assert second == pytest.approx(want, rel=1e-6, abs=1e-7 * mean / sigma**2)


@every_noise
def test_one_hill_in_closed_form(run, sigma):
    """With a = θ/τ² and λ = 1: the parts odd in ε carry (2aσ − 1/σ)²λ, and 4a²σ²λ after h."""
    tau2 = 1 + sigma**2
    for i, theta in enumerate(THETAS):
        a = theta / tau2
        even = 2 * (a**2 + (1 - a * sigma**2) ** 2)
        odd = {"DSM": (2 * a * sigma - 1 / sigma) ** 2, "control variate": 4 * a**2 * sigma**2}
        u = a * tau2
        assert even + odd["control variate"] == pytest.approx(2 * (u - 1) ** 2 + 4 * a)
        for estimator in ESTIMATORS:
            mean, second, scale = by_nodes(run, "one hill", estimator, sigma)[i]
            assert mean == pytest.approx((theta - 1) / tau2, **EXACT)
            assert scale == pytest.approx(1 / tau2, **EXACT)
            assert second == pytest.approx((even + odd.get(estimator, 0)) / tau2**2, **EXACT)


@every_estimator
def test_two_points_apart_leave_nothing_to_remove(run, estimator):
    """At σ = 0.05 the score is the target: g = (θ − 1) ε²/σ² by each estimator."""
    for theta, (mean, second, _) in zip(
        THETAS, by_nodes(run, "two points", estimator, 0.05), strict=True
    ):
        assert mean == pytest.approx((theta - 1) / 0.05**2, **EXACT)
        assert second == pytest.approx(2 * (theta - 1) ** 2 / 0.05**4, rel=1e-8, abs=1e-9)


def test_the_batch_of_equal_signal_and_noise(run):
    body = "return [[-2, 12, 1], [1e-12, 12, 1], [0, 0, 1]].map((of) => `${m.batchSize(...of)}`);"
    assert run(body, name="one hill") == ["3", "Infinity", "Infinity"]


def test_the_measured_batch(run):
    """Without bias where the mean is known; else a bound that the truth may only exceed."""
    body = "return [m.measuredBatch(-2, 12, 100, 1), m.measuredBatch(0.5, 12, 100, 1)];"
    (known, is_lost), (bound, also) = run(body, name="one hill")
    assert not is_lost and known == pytest.approx(12 / (4 - 0.12))
    assert also and bound == pytest.approx(12 / (0.5 + 2 * 0.12**0.5) ** 2)


def test_the_histogram_is_numpy_s(run):
    values = np.random.default_rng(0).normal(size=500) * 2
    got = run("return [...m.histogram(values, 0.3, 7)];", name="one hill", values=values.tolist())
    edges = 0.3 * np.arange(-7, 8)
    assert got == np.histogram(values[values < edges[-1]], edges)[0].tolist()


def shown(page):
    """The tables as numbers: rows of measured and theory; "> 5" and "∞" as they are read."""
    rows = []
    for row in page.locator("tbody tr").all():
        texts = [c.text_content() for c in row.locator("output").all()]
        rows.append([t.replace("−", "-").replace(",", "").replace("∞", "inf") for t in texts])
    return rows


def theory(name, estimator, sigma, theta, at, run):
    mean, spread = run(TARGET, name=name, sigma=sigma, x=[at])[0]
    found = run(EXACT_GRADIENT, name=name, estimator=estimator, sigma=sigma, thetas=[theta])[0]
    return [mean, spread**0.5, found[0], found[1], found[1] / found[0] ** 2]


@every_law
@every_estimator
@pytest.mark.parametrize(("sigma", "at"), [(0.01, 1.0), (0.3, 0.1), (3.0, -5.0)])
def test_the_tables_show_what_is_measured_beside_theory(alive, run, name, estimator, sigma, at):
    n, theta = 20_000, 0.4
    page = alive(TargetNoise(data=name, estimator=estimator, sigma=sigma, probe=at, theta=theta))
    rows, want = shown(page), theory(name, estimator, sigma, theta, at, run)
    for (_, exact), value in zip(rows, want, strict=True):
        assert float(exact) == pytest.approx(value, rel=6e-3, abs=6e-6)
    found = [float(text.removeprefix("> ")) for text, _ in rows]
    assert abs(found[0] - want[0]) < 4.5 * want[1] / n**0.5 + 6e-3 * abs(want[0]) + 6e-6
    assert found[1] == pytest.approx(want[1], rel=0.05, abs=6e-6)
    assert abs(found[2] - want[2]) < 4.5 * (want[3] / n) ** 0.5 + 6e-3 * abs(want[2])
    assert found[3] == pytest.approx(want[3], rel=0.2)  # its law has heavy tails
    if rows[4][0].startswith(">"):
        assert found[4] < want[4]
    else:
        assert found[4] == pytest.approx(want[4], rel=0.45)


def test_every_control_reaches_the_tables(alive, run):
    """One after the other, on one page."""
    given = {"name": "two hills", "estimator": "DSM", "sigma": 0.1, "theta": 0.5, "at": 1.0}
    page = alive(TargetNoise())

    def agrees(**change):
        given.update(change)
        want = theory(run=run, **given)
        got = [float(exact) for _, exact in shown(page)]
        return got == pytest.approx(want, rel=6e-3, abs=6e-6)

    assert agrees()
    page.locator("[name=theta]").press("End")
    assert agrees(theta=1.5)
    page.locator("[name=probe]").press("Home")
    assert agrees(at=-5.0)
    page.locator("[name=estimator]").select_option("control variate")
    assert agrees(estimator="control variate")
    page.locator("[name=data]").select_option("one hill")
    assert agrees(name="one hill")
    page.locator("[name=sigma]").press("Home")
    assert agrees(sigma=0.01)
    page.locator("[name=estimator]").select_option("antithetic pair")
    assert agrees(estimator="antithetic pair")
    before = shown(page)
    page.locator("[name=n_draws]").press("Home")
    assert agrees() and all(a[0] != b[0] for a, b in zip(before, shown(page), strict=True))


def test_where_the_targets_agree_nothing_is_left_over(alive):
    page = alive(TargetNoise(data="two points", sigma=0.05, theta=1.0))
    rows = shown(page)
    assert rows[:4] == [["0.00", "0.00"]] * 4 and rows[4] == ["inf", "inf"]
    assert page.locator(".sbm-note").first.text_content().startswith("At this x̃ the targets agree")


def test_a_mean_lost_in_noise_is_not_passed_off_as_measured(alive):
    page = alive(TargetNoise(data="one hill", sigma=0.01))
    (measured, exact) = shown(page)[4]
    assert measured.startswith("> ") and float(measured[2:]) < float(exact)
    page.locator("[name=estimator]").select_option("antithetic pair")
    assert float(shown(page)[4][0]) == pytest.approx(10, rel=0.1)


def test_no_setting_shows_what_is_not_a_number(modules):
    """Every corner of the settings, one after the other."""
    texts = modules.evaluate(
        """async ({ state, laws, estimators }) => {
          const { makeModel } = await import("/host.js"), module = await import("/target_noise.js");
          const el = document.createElement("div"), model = makeModel(state);
          document.body.append(el);
          const clean = module.default.render({ model, el }), found = [];
          for (const data of laws) for (const estimator of estimators)
            for (const sigma of [0.01, 0.0213, 0.1, 1, 3]) for (const theta of [0, 0.99, 1, 1.5])
              for (const probe of [-5, 0, 1, 5]) {
                const given = { data, estimator, sigma, theta, probe };
                for (const [name, value] of Object.entries(given)) model.set(name, value);
                const cells = [...el.querySelectorAll("output[name]")];
                found.push([JSON.stringify(given), ...cells.map((cell) => cell.textContent)]);
              }
          clean();
          el.remove();
          return found;
        }""",
        {
            "state": TargetNoise(n_draws=100).state(),
            "laws": list(LAWS),
            "estimators": ESTIMATORS,
        },
    )
    assert len(texts) == 720 and all(len(cells) == 11 for cells in texts)
    number = re.compile(r"(> )?(−(?!0\.0*$))?(\d{1,3}(,\d{3})*(\.\d+)?)|(> )?∞")
    bad = [row for row in texts for text in row[1:] if not number.fullmatch(text)]
    assert bad == []


def test_the_noisy_point_is_dragged(alive):
    page = alive(TargetNoise())
    before, box = shown(page), page.locator(".sbm-picture").first.bounding_box()
    sliders = page.locator("[name=probe]")
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + 0.8 * box["width"], y)
    page.mouse.down()
    right = sliders.evaluate("s => +s.value")
    page.mouse.move(box["x"] + 0.3 * box["width"], y)
    page.mouse.up()
    left = sliders.evaluate("s => +s.value")
    assert right - left == pytest.approx(0.5 * 10 * 1.1, abs=0.3)  # the frame is nine tenths
    handle = page.locator(".sbm-handle").bounding_box()
    assert handle["x"] + handle["width"] / 2 == pytest.approx(box["x"] + 0.3 * box["width"], abs=4)
    after = shown(page)
    assert after[:2] != before[:2] and after[2:] == before[2:]
    page.mouse.move(box["x"] + 2, y)
    page.mouse.down()
    page.mouse.up()
    assert sliders.evaluate("s => +s.value") == -5


def test_one_seed_whatever_the_noise(alive):
    """σ there and back: the same numbers, so nothing flickers on the way."""
    page = alive(TargetNoise())
    before, sigma = shown(page), page.locator("[name=sigma]")
    sigma.press("ArrowRight")
    moved = shown(page)
    assert all(a != b for a, b in zip(before, moved, strict=True))
    measured = [[float(row[0]) for row in rows[:4]] for rows in (before, moved)]
    assert measured[1] == pytest.approx(measured[0], rel=0.12)  # though σ has grown by 2 %
    sigma.press("ArrowLeft")
    assert shown(page) == before
    page.locator("[name=seed]").fill("7")
    page.locator("[name=seed]").press("Enter")
    assert shown(page) != before


def test_the_ends_of_the_noise_are_reached_by_keyboard(alive):
    page = alive(TargetNoise())
    sigma, value = page.locator("[name=sigma]"), page.locator("output.sbm-value").first
    sigma.press("Home")
    assert value.text_content() == "σ = 0.0100"
    sigma.press("End")
    assert value.text_content() == "σ = 3.00"


def test_the_listener_is_told_once_all_is_at_rest(alive):
    page = alive(TargetNoise())
    page.locator("[name=estimator]").select_option("control variate")
    status = page.locator("[role=status]", has_text="batch for equal signal and noise: measured")
    status.wait_for(state="attached")
    assert "known to plus or minus" in status.text_content()
