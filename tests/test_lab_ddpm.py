"""The lab of chapter 8: shares and variances against theory, and what it refuses."""

import math
import re

import matplotlib.pyplot as plt
import pytest

from sbm_lite import labs
from sbm_lite.labs import ddpm

STRETCHED, PUBLISHED, COSINE = ddpm.SCHEDULES


@pytest.fixture(autouse=True)
def closed():
    """No figure is left open: matplotlib warns at twenty."""
    yield
    plt.close("all")


def numbers(outcome):
    """ᾱ_T, the share at (1.2, 1.2) and the variance in that mode."""
    found = re.search(r"ᾱ_T = ([\d.e+-]+\d).*\(1\.2, 1\.2\) ([\d.]+), .*mode ([\d.e+]+),",
                      outcome.sentence)  # fmt: skip
    return [float(x) for x in found.groups()]


def bars(n, first, last):
    """ᾱ_1 … ᾱ_n of a straight line of betas, by a plain loop."""
    kept = [1.0]
    for i in range(n):
        kept.append(kept[-1] * (1 - first - (last - first) * i / (n - 1)))
    return kept


def variance_in_a_mode(kept, times, noisy):
    """Of N(0, 0.06) drawn back from N(0, 1) with the exact score: a linear recursion."""
    v = 1.0
    for t, u in zip(times, [*times[1:], 0], strict=True):
        alpha, level = kept[t] / kept[u], 0.06 * kept[t] + 1 - kept[t]
        if noisy:
            beta_tilde = (1 - alpha) * (1 - kept[u]) / (1 - kept[t])
            v = ((1 - (1 - alpha) / level) ** 2 * v) / alpha + beta_tilde
        else:  # x̂₀ = x √ᾱ 0.06 / level, ε̂ = x √(1 − ᾱ) / level
            clean, noise = kept[t] ** 0.5 * 0.06 / level, (1 - kept[t]) ** 0.5 / level
            v *= (kept[u] ** 0.5 * clean + (1 - kept[u]) ** 0.5 * noise) ** 2
    return v


@pytest.mark.parametrize(
    ("schedule", "n", "last"),
    [(STRETCHED, 1000, 0.02), (STRETCHED, 200, 0.1), (PUBLISHED, 50, 0.02)],
)
def test_the_end_of_the_schedule(schedule, n, last):
    first = 0.1 / n if schedule == STRETCHED else 1e-4
    told = numbers(labs.ddpm_experiment(schedule, n, "DDIM", 10, 0))[0]
    assert told == pytest.approx(bars(n, first, last)[-1], rel=0.05)


@pytest.mark.parametrize("sampler", ["ancestral", "DDIM"])
@pytest.mark.parametrize("n_calls", [50, 1000])
def test_shares_and_variances(sampler, n_calls):
    kept_at_end, share, variance = numbers(
        labs.ddpm_experiment(STRETCHED, 1000, sampler, n_calls, 1)
    )
    times = [round(1000 - 999 * i / (n_calls - 1)) for i in range(n_calls)]
    exact = variance_in_a_mode(bars(1000, 1e-4, 0.02), times, sampler == "ancestral")
    assert kept_at_end < 1e-3
    assert share == pytest.approx(0.8, abs=4.5 * math.sqrt(0.16 / ddpm.N_POINTS))
    assert variance == pytest.approx(exact, rel=4.5 / math.sqrt(0.8 * ddpm.N_POINTS) + 0.03)


def test_langevin_is_not_done_after_as_many_calls():
    _, share, variance = numbers(
        labs.ddpm_experiment(STRETCHED, 1000, "annealed Langevin", 1000, 0)
    )
    assert share == pytest.approx(0.786, abs=4.5 * math.sqrt(0.17 / ddpm.N_POINTS))
    assert 0.075 < variance < 0.095


def test_fifty_steps_of_the_published_line_miss_the_shares_and_say_so():
    short = labs.ddpm_experiment(PUBLISHED, 50, "ancestral", 50, 0)
    assert "too much" in short.sentence and numbers(short)[1] < 0.65
    stretched = labs.ddpm_experiment(STRETCHED, 50, "ancestral", 50, 0)
    assert "too much" not in stretched.sentence and numbers(stretched)[1] > 0.77


@pytest.mark.parametrize("n_calls", [10, 20, 50])
def test_langevin_runs_on_any_budget(n_calls):
    assert numbers(labs.ddpm_experiment(COSINE, 50, "annealed Langevin", n_calls, 0))


def test_a_refused_setting_and_the_picture_without_a_kernel():
    with pytest.raises(ValueError, match="at most T = 50"):
        labs.ddpm_experiment(STRETCHED, 50, "DDIM", 60, 0)
    panel = labs.ddpm_lab()
    page = panel._repr_mimebundle_()[0]["text/html"]
    assert page.startswith('<figure class="lab"><img alt="') and panel.sentence.value in page
    panel.controls["n_calls"].value, panel.controls["n_levels"].value = 100, 50
    assert "choose at most" in panel.sentence.value
