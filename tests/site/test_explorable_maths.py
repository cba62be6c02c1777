"""The explorables' JavaScript against PyTorch in float64: same inputs, same outputs."""

import pytest
import torch

from sbm_lite import densities, samplers
from sbm_lite.explorables import (
    Annealing,
    Denoise,
    EsmIsm,
    LangevinExplorable,
    LearnedField,
    Partition,
    ScoreField,
    Slices,
    TargetNoise,
    ThreeNames,
    as_module,
)

CLOSE = {"rtol": 1e-5, "atol": 1e-9}
MIXTURES = ScoreField().densities | LangevinExplorable().densities


def points(seed, n=60, limit=8.0):
    generator = torch.Generator().manual_seed(seed)
    return limit * (2 * torch.rand(n, 2, generator=generator, dtype=torch.float64) - 1)


def flat(x):
    return x.flatten().tolist()


def as_mixture(told):
    weights = torch.tensor(told["weights"], dtype=torch.float64)
    return densities.GaussianMixture.isotropic(weights / weights.sum(), told["means"], told["stds"])


EVALUATE = """
  const score = new Float64Array(x.length), logProb = new Float64Array(x.length / 2);
  m.evaluate(m.makeMixture(told, sigma), Float64Array.from(x), score, logProb);
  return { score: [...score], logProb: [...logProb] };
"""


@pytest.mark.parametrize("name", MIXTURES)
@pytest.mark.parametrize("sigma", [0.0, 0.7])
def test_mixture_score_and_log_prob(run, name, sigma):
    x, told = points(1), MIXTURES[name]
    mixture = as_mixture(told).smoothed(sigma) if sigma else as_mixture(told)
    got = run(EVALUATE, x=flat(x), told=told, sigma=sigma)
    score, log_prob = (torch.tensor(got[k], dtype=torch.float64) for k in ("score", "logProb"))
    torch.testing.assert_close(score.reshape(-1, 2), mixture.score(x), **CLOSE)
    torch.testing.assert_close(log_prob, mixture.log_prob(x), **CLOSE)


def test_langevin_step_with_given_noise(run):
    x, z, eta = points(2), points(3, limit=2.0), 0.37
    s = densities.two_modes().score(x)
    got = run(
        """const out = new Float64Array(x.length);
        m.langevinStep(x, s, z, eta, out); return [...out];""",
        x=flat(x), s=flat(s), z=flat(z), eta=eta,
    )  # fmt: skip
    want = samplers.langevin_step(x, s, z, eta).flatten()
    torch.testing.assert_close(torch.tensor(got, dtype=torch.float64), want, **CLOSE)


def test_metropolis_log_ratio(run):
    """log p(y) q(x|y) − log p(x) q(y|x), with q written out by torch.distributions."""
    x, eta, target = points(4, limit=6.0), 0.8, densities.two_modes()
    y = samplers.langevin_step(x, target.score(x), points(5, limit=2.0), eta)

    def log_q(to, start):
        mean = start + eta / 2 * target.score(start)
        return torch.distributions.Normal(mean, eta**0.5).log_prob(to).sum(1)

    want = target.log_prob(y) + log_q(x, y) - target.log_prob(x) - log_q(y, x)
    got = run(
        """const mixture = m.makeMixture(told), at = (x) => {
          const there = { x: Float64Array.from(x), score: new Float64Array(x.length),
                          logProb: new Float64Array(x.length / 2) };
          m.evaluate(mixture, there.x, there.score, there.logProb);
          return there;
        };
        const from = at(x), to = at(y);
        return x.slice(0, x.length / 2).map((_, i) => m.logAcceptance(from, to, i, eta));""",
        x=flat(x), y=flat(y), eta=eta, told=MIXTURES["two modes"],
    )  # fmt: skip
    torch.testing.assert_close(torch.tensor(got, dtype=torch.float64), want, **CLOSE)


def test_normals_are_normal(run):
    """Mean 0, variance 1, skewness 0, kurtosis 3, no correlation in or between pairs."""
    n = 2_000_000
    got = run(
        """const z = new Float64Array(n); m.fillNormals(m.generator(7), z);
        const mean = (f) => z.reduce((sum, v, i) => sum + f(v, i), 0) / n;
        return [mean((v) => v), mean((v) => v * v), mean((v) => v ** 3), mean((v) => v ** 4),
                mean((v, i) => v * z[(i + 1) % n]), mean((v, i) => v * z[(i + 2) % n])];""",
        n=n,
    )
    variances = [1, 2, 15, 96, 1, 1]  # of one term: Var zᵏ = E z²ᵏ − (E zᵏ)²
    for value, expected, variance in zip(got, [0, 1, 0, 3, 0, 0], variances, strict=True):
        assert abs(value - expected) < 4.5 * (variance / n) ** 0.5


def test_same_seed_same_normals_and_another_seed_others(run):
    draw = "const z = new Float64Array(6); m.fillNormals(m.generator(seed), z); return [...z];"
    assert run(draw, seed=1) == run(draw, seed=1) != run(draw, seed=2)


CHAIN = """
  const chain = m.makeChain(m.makeMixture(told), n, 3.6, 5), settings = { noise, metropolis };
  for (let k = 0; k < 120; k++) m.advance(chain, eta, settings);
  const x = chain.here.x;
  return { variance: x.reduce((sum, v) => sum + v * v, 0) / x.length, acceptance: chain.acceptance,
           theory: m.stationaryVariance(1, eta, settings), diverged: m.hasDiverged(x) };
"""


@pytest.mark.parametrize(
    ("noise", "metropolis", "expected"), [(True, False, 4 / 3), (True, True, 1), (False, False, 0)]
)
def test_chain_settles_on_its_stationary_variance(run, noise, metropolis, expected):
    """N(0, I), η = 1: ULA has variance 1/(1 − ¼), MALA 1, gradient ascent 0."""
    n = 20_000
    got = run(CHAIN, told=MIXTURES["one Gaussian"], n=n, eta=1.0, noise=noise,
              metropolis=metropolis)  # fmt: skip
    assert got["theory"] == pytest.approx(expected)
    assert abs(got["variance"] - expected) < 4.5 * expected * n**-0.5 + 1e-12
    assert (got["acceptance"] < 1) == metropolis


@pytest.mark.parametrize(("eta", "diverged"), [(3.9, False), (6.0, True)])
def test_chain_diverges_past_four_variances_only(run, eta, diverged):
    got = run(CHAIN, told=MIXTURES["one Gaussian"], n=200, eta=eta, noise=True,
              metropolis=False)  # fmt: skip
    assert got["diverged"] == diverged


@pytest.mark.parametrize(
    ("widget", "name", "most"),
    [
        (Annealing, "step_size", 1),
        (Denoise, "sigma", 6),
        (EsmIsm, "theta", 3),
        (LangevinExplorable, "step_size", 5.75),
        (LearnedField, "sigma", 10),
        (Partition, "offset", 3),
        (ScoreField, "sigma", 4),
        (Slices, "coupling", 1),
        (TargetNoise, "sigma", 3),
        (ThreeNames, "t", 1000),
    ],
)
def test_module_for_notebooks_runs_from_a_blob(modules, widget, name, most):
    """Slider and trait move each other, and the clean-up leaves nothing behind."""
    got = modules.evaluate(
        """async ({ text, state, name }) => {
          const { makeModel } = await import("/host.js");
          const url = URL.createObjectURL(new Blob([text], { type: "text/javascript" }));
          const { default: module } = await import(url), model = makeModel(state);
          const el = document.querySelector("main"), clean = module.render({ model, el });
          const slider = el.querySelector(`[name=${name}]`), first = slider.value;
          model.set(name, 0.9);
          const moved = slider.value !== first;
          slider.value = slider.max;
          slider.dispatchEvent(new Event("input"));
          const trait = model.get(name);
          clean();
          return { moved, trait, left: el.childElementCount };
        }""",
        {"text": as_module(widget.name), "state": widget().state(), "name": name},
    )
    assert got["moved"] and got["left"] == 0
    assert got["trait"] == pytest.approx(most, rel=0.01)
