"""The explorable of chapter 8 against PyTorch: schedule, laws, steps, whole runs, what it shows."""

import pytest
import torch
from torch.distributions import MultivariateNormal

from sbm_lite import calculus, densities, samplers
from sbm_lite.explorables import ThreeNames
from sbm_lite.runtime import generator

CLOSE = {"rtol": 1e-5, "atol": 1e-9}
LEVELS = [1, 2, 250, 700, 1000]
PROBES = [(1.1, -1.0), (-0.3, 0.2), (2.9, 3.0), (0.0, 0.0)]
STEPS = [(1000, 999), (1000, 900), (251, 250), (30, 1), (1, 0)]  # from t to t′; 0 is clean data
VARIANCE = 0.06

TOLD = {"weights": [0.2, 0.8], "means": [[-1.2, -1.2], [1.2, 1.2]], "stds": [VARIANCE**0.5] * 2}
CLEAN = "const bars = m.linearAlphaBars(), clean = m.makeMixture(told);"
RUN = """
  const run = m.makeDescent(sampler, calls, n, seed);
  const start = [...run.x], noise = [], levels = [run.t];
  while (run.calls < calls) {
    m.descend(run);
    levels.push(run.t);
    if (keep) noise.push([...run.z]);
  }
  return { start, noise, levels, plan: run.plan, x: [...run.x], shown: m.compareAt(run.x, run.t) };
"""

everywhere = pytest.mark.parametrize("probe", PROBES)
every_level = pytest.mark.parametrize("t", LEVELS)
every_step = pytest.mark.parametrize(("t", "after"), STEPS)
every_sampler = pytest.mark.parametrize("sampler", ["ancestral", "DDIM", "annealed Langevin"])


def tensor(values):
    return torch.tensor(values, dtype=torch.float64)


def bars():
    """ᾱ_0 = 1, ᾱ_1, …, ᾱ_1000 of the linear schedule."""
    betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    return torch.cat([torch.ones(1).double(), (1 - betas).cumprod(0)])


def law(t):
    """q(x_t), component by component: N(√ᾱ μ, (ᾱ 0.06 + 1 − ᾱ) I)."""
    bar = bars()[t]
    spread = (bar * VARIANCE + 1 - bar) * torch.eye(2).double()
    return bar**0.5 * tensor(TOLD["means"]), [spread, spread]


def log_prob(x, t):
    means, spreads = law(t)
    parts = [MultivariateNormal(m, c).log_prob(x) for m, c in zip(means, spreads, strict=True)]
    return (torch.stack(parts) + tensor(TOLD["weights"]).log()[:, None]).logsumexp(0)


def score(x, t):
    return calculus.score_of(lambda x: log_prob(x, t))(x)


def posterior(x, t):
    """Weights, means and variance of x₀ given one x_t: per component the pair is one Gaussian."""
    bar, means = bars()[t], tensor(TOLD["means"])
    gain = bar**0.5 * VARIANCE / (bar * VARIANCE + 1 - bar)
    shrunk, spreads = law(t)
    parts = [MultivariateNormal(m, c).log_prob(x) for m, c in zip(shrunk, spreads, strict=True)]
    weights = (torch.stack(parts) + tensor(TOLD["weights"]).log()).softmax(0)
    return weights, means + gain * (x - shrunk), VARIANCE - gain * bar**0.5 * VARIANCE


def normals(seed, n=50):
    return torch.randn(n, 2, generator=generator(seed), dtype=torch.float64)


@pytest.fixture
def descend(run):
    """A whole run: start, noise of every call, levels, end, and what the table shows of it."""

    def whole(sampler, calls, n=50, seed=3, keep=True):
        given = {"sampler": sampler, "calls": calls, "n": n, "seed": seed, "keep": keep}
        return run(RUN, module="three_names", **given)

    return whole


def test_schedule(run):
    got = tensor(run("return [...m.linearAlphaBars()];"))
    torch.testing.assert_close(got, bars(), rtol=1e-12, atol=0)
    assert got[1000] == pytest.approx(4.04e-5, abs=5e-8)


@every_level
def test_law_and_score_at_a_level(run, t):
    x = 1.5 * normals(0)
    got = run(
        CLEAN + """
        const score = new Float64Array(x.length), logProb = new Float64Array(x.length / 2);
        m.evaluate(m.diffuse(clean, bars[t]), Float64Array.from(x), score, logProb);
        return { score: [...score], logProb: [...logProb] };""",
        told=TOLD, t=t, x=x.flatten().tolist(),
    )  # fmt: skip
    torch.testing.assert_close(tensor(got["logProb"]), log_prob(x, t), **CLOSE)
    torch.testing.assert_close(tensor(got["score"]).reshape(-1, 2), score(x, t), **CLOSE)


@everywhere
@every_level
def test_posterior_and_the_three_names(run, t, probe):
    """The score alone gives both posterior means, E[x₀ | x_t] and E[ε | x_t]."""
    got = run(
        CLEAN + """const law = m.cleanGiven(clean, ...probe, bars[t]);
        const { score } = m.evaluateAt(m.diffuse(clean, bars[t]), ...probe);
        return { weights: [...law.weights], means: [...law.means], variances: [...law.variances],
          noise: [...score].map((s) => m.noiseFromScore(s, bars[t])),
          clean: [...score].map((s, c) => m.cleanFromScore(probe[c], s, bars[t])) };""",
        told=TOLD, t=t, probe=probe,
    )  # fmt: skip
    x, bar = tensor(probe), bars()[t]
    weights, means, variance = posterior(x, t)
    torch.testing.assert_close(tensor(got["weights"]), weights, **CLOSE)
    torch.testing.assert_close(tensor(got["means"]).reshape(2, 2), means, **CLOSE)
    torch.testing.assert_close(tensor(got["variances"]), variance.expand(2), **CLOSE)
    expected = weights @ means
    torch.testing.assert_close(tensor(got["clean"]), expected, rtol=1e-5, atol=1e-8)
    noise = (x - bar**0.5 * expected) / (1 - bar) ** 0.5
    torch.testing.assert_close(tensor(got["noise"]), noise, rtol=1e-5, atol=1e-8)


STEP = """
  const bars = m.linearAlphaBars(), moved = Float64Array.from(x);
  const noise = name === "ddimStep" ? [] : [z];
  m[name](moved, s, ...noise, bars[t], bars[after]);
  return [...moved];
"""


@pytest.fixture
def step(run):
    """One step from t to `after`, and what it was made of: x, s, x̂₀, z, ᾱ and ᾱ′."""

    def one(name, t, after):
        x, z = normals(1), normals(2)
        s, bar, next_bar = score(x, t), bars()[t], bars()[after]
        flat = {"x": x.flatten().tolist(), "s": s.flatten().tolist(), "z": z.flatten().tolist()}
        got = tensor(run(STEP, name=name, t=t, after=after, **flat)).reshape(-1, 2)
        clean = torch.stack([w @ m for w, m, _ in (posterior(point, t) for point in x)])
        return got, x, s, clean, z, bar, next_bar

    return one


@every_step
def test_ancestral_step(step, t, after):
    """x_t′ from N(x_t′; √ᾱ′ x₀, (1 − ᾱ′) I) · N(x_t; √α x_t′, (1 − α) I) at x₀ = x̂₀: precisions
    add, and means are weighted by them."""
    got, x, _, clean, z, bar, to = step("ancestralStep", t, after)
    if after == 0:
        torch.testing.assert_close(got, clean, rtol=1e-5, atol=1e-8)
        return
    alpha = bar / to
    precision = 1 / (1 - to) + alpha / (1 - alpha)
    mean = (to**0.5 * clean / (1 - to) + alpha**0.5 * x / (1 - alpha)) / precision
    torch.testing.assert_close(got, mean + precision**-0.5 * z, rtol=1e-5, atol=1e-8)


@every_step
def test_ddim_step(step, t, after):
    got, x, _, clean, _, bar, to = step("ddimStep", t, after)
    noise = (x - bar**0.5 * clean) / (1 - bar) ** 0.5
    want = to**0.5 * clean + (1 - to) ** 0.5 * noise
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize(("t", "after"), [*STEPS, (700, 700)])
def test_annealed_langevin_step(step, t, after):
    got, x, s, _, z, bar, to = step("annealedStep", t, after)
    eta = 0.2 * (1 - bar)
    want = (to / bar) ** 0.5 * (x + eta / 2 * s + eta**0.5 * z)
    torch.testing.assert_close(got, want, **CLOSE)


@pytest.mark.parametrize("n", [2, 20, 79, 100, 999, 1000])
def test_levels_go_down_from_the_last_to_the_first(run, n):
    levels = run("return m.levelsDown(n);", n=n)
    assert len(levels) == n and (levels[0], levels[-1]) == (1000, 1)
    gaps = -torch.tensor(levels).diff()
    assert gaps.min() >= 1 and gaps.max() - gaps.min() <= 1


@pytest.mark.parametrize("calls", [20, 100, 130, 1000])
@every_sampler
def test_a_run_makes_that_many_calls_and_ends_on_data(descend, sampler, calls):
    got = descend(sampler, calls, n=2, keep=False)
    assert len(got["plan"]) == calls and got["levels"] == [*got["plan"], 0]
    assert got["plan"][0] == 1000 and got["plan"][-1] == 1
    counts = torch.tensor(got["plan"]).unique(return_counts=True)[1]
    at_one_level = calls / len(counts) if sampler == "annealed Langevin" else 1
    assert len(counts) == (min(50, calls) if sampler == "annealed Langevin" else calls)
    assert (counts - at_one_level).abs().max() < 1


@pytest.mark.parametrize("calls", [20, 100])
def test_whole_ddim_run_is_the_package_s(descend, calls):
    got, exact = descend("DDIM", calls), densities.scaled_modes()
    want = samplers.ddim(
        lambda x, t: exact.diffused(float(bars()[int(t[0])])).score(x),
        tensor(got["start"]).reshape(-1, 2), bars()[1:], times=torch.tensor(got["plan"]),
    )  # fmt: skip
    torch.testing.assert_close(tensor(got["x"]).reshape(-1, 2), want, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("sampler", ["ancestral", "annealed Langevin"])
def test_whole_noisy_run_replayed_with_its_own_noise(descend, sampler):
    got, all_bars = descend(sampler, 60), bars()
    x = tensor(got["start"]).reshape(-1, 2)
    for t, after, noise in zip(got["plan"], got["levels"][1:], got["noise"], strict=True):
        bar, to, z = all_bars[t], all_bars[after], tensor(noise).reshape(-1, 2)
        if sampler == "ancestral":
            beta = 1 - bar / to
            spread = (beta * (1 - to) / (1 - bar)) ** 0.5
            x = (x + beta * score(x, t)) / (1 - beta) ** 0.5 + spread * z
        else:
            eta = 0.2 * (1 - bar)
            x = (to / bar) ** 0.5 * (x + eta / 2 * score(x, t) + eta**0.5 * z)
    torch.testing.assert_close(tensor(got["x"]).reshape(-1, 2), x, rtol=1e-5, atol=1e-7)


def chain_variance(times):
    """Variance after ancestral sampling of N(0, 0.06 I): every step is linear, x → cx + √β̃ z."""
    variance = 1.0
    for t, after in zip(times, [*times[1:], 0], strict=True):
        bar, to = (float(bars()[i]) for i in (t, after))
        beta = 1 - bar / to
        factor = (1 - beta / (bar * VARIANCE + 1 - bar)) / (1 - beta) ** 0.5
        variance = factor**2 * variance + beta * (1 - to) / (1 - bar)
    return variance


@pytest.mark.parametrize(("calls", "n"), [(1000, 2000), (100, 10_000)])
def test_ancestral_run_ends_on_the_data(descend, calls, n):
    """1,000 calls: shares and variance of the data, within Monte Carlo error. Fewer calls lose some
    variance within a mode, as much as on one Gaussian alone."""
    got = descend("ancestral", calls, n=n, keep=False)
    x, means = tensor(got["x"]).reshape(-1, 2), tensor(TOLD["means"])
    high = x.sum(1) > 0
    (share, _), (variance, data) = got["shown"]
    assert share == pytest.approx(float(high.double().mean()))
    assert variance == pytest.approx(float((x - means[high.long()]).square().mean()), rel=1e-4)
    assert data == pytest.approx(VARIANCE)
    assert variance == pytest.approx(chain_variance(got["plan"]), abs=4.5 * VARIANCE * n**-0.5)
    if calls == 1000:
        assert share == pytest.approx(0.8, abs=4.5 * (0.16 / n) ** 0.5)
        assert variance == pytest.approx(VARIANCE, abs=4.5 * VARIANCE * n**-0.5)


@pytest.mark.parametrize(
    ("sampler", "share", "variance"), [("DDIM", 0.80, 0.0591), ("annealed Langevin", 0.785, 0.084)]
)
def test_other_samplers_with_a_thousand_calls(descend, sampler, share, variance):
    """Exact scores, 1,000 calls: DDIM keeps both numbers, annealed Langevin stays too wide."""
    n = 2000
    shown = descend(sampler, 1000, n=n, keep=False)["shown"]
    assert shown[0][0] == pytest.approx(share, abs=4.5 * (0.16 / n) ** 0.5)
    assert shown[1][0] == pytest.approx(variance, abs=4.5 * variance * n**-0.5)


@every_level
def test_theory_of_the_particles_is_the_law_at_their_level(run, t):
    n = 20_000
    x = densities.scaled_modes().diffused(float(bars()[t])).sample(n, generator=generator(7))
    got = run("return m.compareAt(x, t);", module="three_names", x=x.flatten().tolist(), t=t)
    (share, exact_share), (variance, exact_variance) = got
    assert share == pytest.approx(exact_share, abs=4.5 * (0.25 / n) ** 0.5)
    assert exact_variance == pytest.approx(float(law(t)[1][0][0, 0]))
    assert variance == pytest.approx(exact_variance, abs=4.5 * 2**0.5 * exact_variance * n**-0.5)


@every_level
def test_the_table_shows_draws_beside_the_score(alive, numbers, t):
    n, x = 2000, tensor([0.3, -0.2])
    page = alive(ThreeNames(t=t, probe_x=0.3, probe_y=-0.2, n_draws=n))
    weights, means, variance = posterior(x, t)
    mean, bar = weights @ means, float(bars()[t])
    noise = (x - bar**0.5 * mean) / (1 - bar) ** 0.5
    want = [float(noise[0]), float(mean[0])]
    assert numbers(page, "theory")[:2] == pytest.approx(want, abs=0.00051)
    spread = float(variance + weights @ (means - mean).square()[:, 0]) ** 0.5
    error = [spread * (bar / (1 - bar)) ** 0.5 / n**0.5, spread / n**0.5]
    for measured, exact, one in zip(numbers(page, "measured"), want, error, strict=False):
        assert abs(measured - exact) < 4.5 * one + 0.0005


def test_the_noisy_point_is_dragged(alive, numbers):
    page = alive(ThreeNames())
    before, box = numbers(page, "theory"), page.locator(".sbm-picture").first.bounding_box()
    x, y, size = box["x"], box["y"], box["width"]
    page.mouse.move(x + 0.6833 * size, y + 0.6667 * size)  # where x_t = (1.1, −1) is
    page.mouse.down()
    page.mouse.move(x + 0.25 * size, y + 0.75 * size)
    page.mouse.up()
    sliders = [page.locator(f"[name={name}]").evaluate("s => +s.value") for name in
               ("probe_x", "probe_y")]  # fmt: skip
    assert sliders == pytest.approx([-1.5, -1.5], abs=0.05)
    assert numbers(page, "theory")[:2] != before[:2] and numbers(page, "theory")[2:] == before[2:]


def test_at_rest_a_finished_run_is_shown_and_follows_its_settings(alive, numbers):
    page = alive(ThreeNames(n_calls=1000, sampler="DDIM"))
    counts = page.locator("p", has_text="calls").first
    assert counts.text_content() == "t = 0 · 1000 of 1000 calls"
    assert numbers(page, "theory")[2:] == [0.8, VARIANCE]
    before = numbers(page, "measured")
    page.locator("[name=n_calls]").press("ArrowLeft")
    assert counts.text_content() == "t = 0 · 790 of 790 calls"
    page.locator("[name=sampler]").select_option("ancestral")
    after = numbers(page, "measured")
    assert after[:2] == before[:2] and after[2] != before[2] and after[3] != before[3]


def test_step_restart_and_play(alive, numbers):
    page = alive(ThreeNames(n_calls=20))
    counts = page.locator("p", has_text="of 20 calls").first
    page.get_by_role("button", name="Step").click()
    assert counts.text_content().startswith("t = 947 · 1 of 20 calls")
    page.get_by_role("button", name="Restart").click()
    assert counts.text_content().startswith("t = 1000 · 0 of 20 calls")
    share, variance = numbers(page, "theory")[2:]
    assert share == pytest.approx(0.506, abs=0.0051) and variance == 1
    for _ in range(18):
        page.get_by_role("button", name="Step").click()
    page.locator("canvas").last.scroll_into_view_if_needed()
    page.get_by_role("button", name="Play").click()
    page.locator("p", has_text="t = 0 · 20 of 20 calls").wait_for()
    page.get_by_role("button", name="Play").click()  # once more, from the start
    page.get_by_role("button", name="Pause").click()
    assert "20 of 20" not in counts.text_content()


@pytest.mark.parametrize(
    ("control", "words"),
    [
        ("t", "t = 251. noise epsilon hat, along x: measured"),
        ("n_calls", "calls. share at (1.2, 1.2)"),
    ],
)
def test_the_listener_is_told_once_all_is_at_rest(alive, control, words):
    page = alive(ThreeNames(n_calls=50))
    page.locator(f"[name={control}]").press("ArrowRight")
    page.locator("[role=status]", has_text=words).wait_for(state="attached")
