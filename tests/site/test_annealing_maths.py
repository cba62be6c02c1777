"""The first explorable of chapter 7 against PyTorch: ladder, steps, shares, and what it shows."""

import math

import pytest
import torch

from sbm_lite import noise, samplers
from sbm_lite.densities import GaussianMixture, two_modes
from sbm_lite.explorables import Annealing

CLOSE = {"rtol": 1e-9, "atol": 1e-12}
RUN = {"eta": 0.1, "first": 20.0, "last": 1.0, "n_levels": 10, "n_steps": 100}
every_sigma = pytest.mark.parametrize("sigma", [1.0, 3.7, 20.0])


def tensor(values):
    return torch.tensor(values, dtype=torch.float64)


def at_level(sigma):
    two = two_modes()
    return GaussianMixture.isotropic(two.weights, two.means, sigma)


@pytest.fixture(scope="module")
def target(modules):
    """The target as the figure holds it."""
    return modules.evaluate("async () => (await import('/annealing.js')).TARGET")


def test_the_target_is_the_package_s(target):
    assert target["weights"] == two_modes().weights.tolist()
    assert target["means"] == two_modes().means.tolist()


@pytest.mark.parametrize(("first", "last", "n"), [(20, 1, 10), (30, 1, 2), (10, 0.01, 20)])
def test_ladder(run, first, last, n):
    got = tensor(run("return m.geometricSigmas(first, last, n)", first=first, last=last, n=n))
    torch.testing.assert_close(got, noise.geometric_sigmas(first, last, n), **CLOSE)


def test_one_level_is_the_target_and_a_flat_ladder_stays_flat(run):
    assert run("return m.geometricSigmas(20, 1, 1)") == [1]
    assert run("return m.geometricSigmas(1, 1, 4)") == [1, 1, 1, 1]


@every_sigma
def test_a_level_has_sigma_in_place_of_the_modes_own_std(run, target, sigma):
    x = 16 * torch.rand(50, 2, generator=torch.Generator().manual_seed(1)).double() - 8
    got = run(
        """const [level] = m.levelsOf(target, [sigma]), score = new Float64Array(x.length);
        const logProb = new Float64Array(x.length / 2);
        m.evaluate(level, x, score, logProb);
        return [[...score], [...logProb]];""",
        target=target, sigma=sigma, x=x.flatten().tolist(),
    )  # fmt: skip
    torch.testing.assert_close(tensor(got[0]).reshape(-1, 2), at_level(sigma).score(x), **CLOSE)
    torch.testing.assert_close(tensor(got[1]), at_level(sigma).log_prob(x), **CLOSE)


def test_every_step_is_the_package_s_given_the_noise(run, target):
    """Two steps on each of four levels down to σ = 0.5: η_i = η σ_i²/σ_L², the level's score."""
    n, sigmas, eta = 7, noise.geometric_sigmas(6, 0.5, 4), 0.03
    got = run(
        """const sigmas = m.geometricSigmas(6, 0.5, 4), levels = m.levelsOf(target, sigmas);
        const uniform = m.generator(3), x = m.overSquare(n, 8, uniform), rows = [[...x]];
        const chain = m.chainFrom(levels[0], x, uniform), passed = [];
        for (let k = 0; k < 8; k++) {
          passed.push(m.ladderStep(chain, levels, sigmas, eta, 2));
          rows.push([...chain.z], [...chain.here.x]);
        }
        return { passed, rows };""",
        target=target, n=n, eta=eta,
    )  # fmt: skip
    assert got["passed"] == [0, 0, 1, 1, 2, 2, 3, 3]
    x, *moves = (tensor(row).reshape(n, 2) for row in got["rows"])
    for level, z, there in zip(got["passed"], moves[::2], moves[1::2], strict=True):
        step = eta * float(sigmas[level] / 0.5) ** 2
        x = samplers.langevin_step(x, at_level(float(sigmas[level])).score(x), z, step)
        torch.testing.assert_close(there, x, rtol=1e-9, atol=1e-9)


def test_starts_are_even_over_the_square(run):
    n = 50_000
    x = tensor(run("return [...m.overSquare(n, 8, m.generator(2))]", n=n)).reshape(n, 2)
    assert x.abs().max() <= 8
    assert (x.mean(0).abs() < 4.5 * 8 / (3 * n) ** 0.5).all()
    for power, expected in [(2, 64 / 3), (4, 8**4 / 5)]:
        term = x**power
        assert ((term.mean(0) - expected).abs() < 4.5 * term.std(0) / n**0.5).all()
    assert abs((x[:, 0] * x[:, 1]).mean()) < 4.5 * (64 / 3) / n**0.5


ABOUT = """
  const [level] = m.levelsOf(target, [sigma]), found = m.aboutModes(level, x);
  return [found.shares, found.variance, m.massNearer(level, 0), m.massNearer(level, 1)];
"""


@every_sigma
def test_shares_and_variance_of_points(run, target, sigma):
    level, n = at_level(sigma), 20_000
    x = level.sample(n, generator=torch.Generator().manual_seed(4)).double()
    shares, variance, *mass = run(ABOUT, target=target, sigma=sigma, x=x.flatten().tolist())
    heavy = x.sum(1) > 0  # nearer to (5, 5)
    assert shares == pytest.approx([float((~heavy).sum()) / n, float(heavy.sum()) / n])
    squares = torch.cdist(x, level.means).square()
    logs = level.weights.log() - squares / (2 * sigma**2)
    terms = (logs.softmax(1) * squares).sum(1) / 2
    assert variance == pytest.approx(float(terms.mean()), rel=1e-9)
    assert abs(variance - sigma**2) < 4.5 * float(terms.std()) / n**0.5
    side = torch.distributions.Normal(10 / 2**0.5 * tensor([-1.0, 1.0]), sigma)  # along (1, 1)
    expected = float((level.weights * (1 - side.cdf(tensor(0.0)))).sum())
    assert mass == pytest.approx([1 - expected, expected], abs=1e-6)
    assert abs(shares[1] - expected) < 4.5 * math.sqrt(expected * (1 - expected) / n)


def test_normal_distribution_function(run):
    z = torch.linspace(-6, 6, 241, dtype=torch.float64)
    got = tensor(run("return z.map(m.normalCdf)", z=z.tolist()))
    torch.testing.assert_close(got, torch.special.ndtr(z), rtol=0, atol=1e-7)


def test_published_shares(run, target):
    """0.782 annealed and 0.511 plain after 1,000 steps: what 100,000 chains of the package find."""
    n = 5000
    got = run(
        """const sigmas = m.geometricSigmas(20, 1, 10), levels = m.levelsOf(target, sigmas);
        const uniform = m.generator(1), x = m.overSquare(n, 8, uniform);
        const annealed = m.chainFrom(levels[0], x, uniform);
        const plain = m.chainFrom(levels[9], x, m.generator(-2));
        for (let k = 0; k < 1000; k++) {
          m.ladderStep(annealed, levels, sigmas, 0.1, 100);
          m.advance(plain, 0.1, { noise: true, metropolis: false });
        }
        return [plain, annealed].map((chain) => m.aboutModes(levels[9], chain.here.x));""",
        target=target, n=n,
    )  # fmt: skip
    for found, share in zip(got, [0.511, 0.782], strict=True):
        assert abs(found["shares"][1] - share) < 4.5 * math.sqrt(share * (1 - share) / n)
        biased = 1 / (1 - 0.1 / 4)
        assert abs(found["variance"] - biased) < 4.5 * biased / n**0.5  # 2n squares


def test_the_table_shows_the_end_of_the_run(alive, numbers):
    page, n = alive(Annealing(seed=3)), 400
    assert "level 10 of 10, σ = 1.0" in page.locator("main").inner_text()
    assert "with 400 particles" in page.locator("main").inner_text()
    assert numbers(page, "theory") == [0.8, 0.8, pytest.approx(1 / (1 - 0.1 / 4), abs=0.00051)]
    plain, annealed, variance = numbers(page, "measured")
    for share, expected in [(plain, 0.511), (annealed, 0.782)]:
        assert abs(share - expected) < 4.5 * math.sqrt(expected * (1 - expected) / n) + 0.005
    assert abs(variance - 1.026) < 4.5 * 1.026 / n**0.5 + 0.005


@pytest.mark.parametrize("change", [{"first_sigma": 1.0}, {"n_levels": 1}])
def test_without_a_ladder_annealing_is_plain(alive, numbers, change):
    page = alive(Annealing(n_steps=200, **change))
    plain, annealed, _ = numbers(page, "measured")
    error = 0.5 / 200**0.5  # of the shares, at least 200 particles
    assert max(abs(plain - 0.511), abs(annealed - 0.511)) < 4.5 * error
    assert numbers(page, "theory")[:2] == [0.8, 0.8]


@pytest.mark.parametrize("name", ["step_size", "first_sigma", "n_levels", "n_steps", "seed"])
def test_at_rest_every_setting_shows_its_end_at_once(alive, numbers, name):
    page = alive(Annealing())
    before = numbers(page, "measured")
    page.locator(f"[name={name}]").press("ArrowUp")
    page.locator(f"[name={name}]").press("Tab")
    assert numbers(page, "measured") != before
    assert page.locator(".sbm-main").text_content() == "Play"


def test_it_plays_all_particles_to_the_end_and_rests(alive):
    page = alive(Annealing(n_levels=2, n_steps=10))
    page.locator(".sbm-main").click()
    page.locator("text=of 20 steps").wait_for()
    page.locator("button", has_text="Play").wait_for()
    assert page.locator(".sbm-explorable").get_attribute("data-steps") == "20"
    assert "level 2 of 2" in page.locator("main").inner_text()


def test_restart_of_a_paused_run_stays_paused_at_the_first_level(alive, numbers):
    page = alive(Annealing(n_levels=5, n_steps=200, step_size=0.5))
    page.locator(".sbm-main").click()
    page.locator(".sbm-main").click()
    page.locator("text=Restart").click()
    assert page.locator(".sbm-explorable").get_attribute("data-steps") == "0"
    assert page.locator(".sbm-main").text_content() == "Play"
    share = 0.5 + 0.3 * math.erf(5 / 20)  # |m| = 5√2, over σ√2
    want = [0.8, share, 400 / (1 - 0.5 / 4)]
    assert numbers(page, "theory") == pytest.approx(want, rel=0.0015)


def test_the_listener_is_told_once_all_is_at_rest(alive):
    page = alive(Annealing())
    page.locator("[name=n_levels]").press("ArrowRight")
    told = page.locator("[role=status]", has_text="level 11 of 11")
    told.wait_for(state="attached")
