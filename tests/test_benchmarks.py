"""The benchmarks measure what they say: no timing here, but what the contenders compute."""

import math
import sys
from functools import partial
from typing import NamedTuple

import pytest
import torch

from benchmarks import __main__ as pages
from benchmarks import diffusion, gpu, measure, networks, plain, processes, samplers
from benchmarks import losses as steps
from sbm_lite import losses
from sbm_lite.networks import EnergyScore, mlp
from sbm_lite.runtime import generator
from sbm_lite.samplers import MalaResult

pytestmark = pytest.mark.filterwarnings("ignore")  # what the peers warn of is their affair

CENTRED = plain.Mixture(torch.ones(1), torch.zeros(1, 2))
MODES = samplers.mixture(2, 2)
DRAWN = torch.randn(20_000, 2, generator=generator(5))
LADDER = [CENTRED._replace(std=float(sigma)) for sigma in samplers.SIGMAS]


def peer(package: str, module: str | None = None):
    """The module of benchmarks for this package, or a skipped test."""
    pytest.importorskip(package)
    return measure.peer(module or package)


def test_ratios_are_taken_turn_by_turn():
    times = {"ours": [1.0, 2.0, 4.0], "other": [3.0, 2.0, 2.0]}
    assert measure.ratio(times, "ours", "other") == (1.0, 0.5, 3.0)
    assert measure.beside(times, "ours", "other") == "1.0 (0.50–3.0)"
    assert measure.beside(times, "ours", "nobody") == measure.NOT_INSTALLED


def test_contenders_take_turns_in_one_order():
    calls = []
    runs = {name: partial(calls.append, name) for name in "abc"}
    times = measure.interleaved(runs, 2)
    assert "".join(calls) == "abc" * 3  # a warm-up and two turns
    assert {name: len(t) for name, t in times.items()} == {"a": 2, "b": 2, "c": 2}


def test_power_is_that_of_a_power_law():
    xs = [1, 10, 100]
    assert math.isclose(measure.power(xs, [3 * x**1.5 for x in xs]), 1.5)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.0123, "0.012"), (0.45, "0.45"), (3.21, "3.2"), (41.4, "41"), (1300, "1,300")],
)
def test_numbers_have_two_digits_or_all_before_the_point(value, text):
    assert measure.number(value) == text


def test_tables_are_aligned_markdown():
    table = measure.markdown(["who", "how fast"], [["ours", "3.1"], ["the other", "12"]])
    assert table.splitlines() == [
        "| who       | how fast |",
        "| --------- | -------: |",
        "| ours      |      3.1 |",
        "| the other |       12 |",
    ]


def test_targets_are_judged_by_the_median():
    times = {"ours": [1.0, 1.0, 1.0], "other": [1.0, 3.0, 4.0]}
    assert measure.at_least("", 3, times, "other").met
    assert not measure.at_least("", 3.5, times, "other").met
    absent = measure.at_least("", 3, times, "nobody")
    assert not absent.met and "not measured" in measure.shown_targets([absent])
    assert measure.at_most("", 2, 2.0).met
    assert measure.at_most("", 1.1, 1.14)[1:] == ("≤ 1.1", "1.14", False)


def test_the_page_tells_where_a_result_is_of_another_day_or_machine():
    def result(about, date, processor):
        table = measure.Table("A table", "A note.", ["a", "b"], [["x", "1"]])._asdict()
        target = measure.Target("fast", "≥ 2", "3", True)._asdict()
        setting = {"processor": processor, "torch": "2"}
        return dict(
            about=about, date=date, seconds=60, setting=setting, tables=[table], targets=[target]
        )

    page = pages.page(
        {
            "one": result("One thing.\n\n    a command\n\nSaid of\nit.\n", "2026-01-01", "A"),
            "two": result("Another.", "2026-01-01", "A"),
            "three": result("A third.", "2026-01-02", "B"),
        }
    )
    assert "| measured on | 2026-01-01 |" in page and "## One thing\n\nSaid of it.\n" in page
    assert page.count("Here: ") == 1
    assert page.index("## A third") < page.index("Here: date 2026-01-02; processor B.")
    assert page.count("| fast   |   ≥ 2 |        3 | met |") == 3


CHAINS = {"ours": samplers, "plain": plain, "jax": None, "blackjax": None, "torchebm": None}


def chain(who: str, kind: str):
    module = CHAINS[who] or peer(who)
    if not hasattr(module, kind):
        pytest.skip(f"{who} has no {kind}")
    return getattr(module, kind)


def variance(x) -> float:
    return float(torch.tensor(x.tolist()).var())


def spread_of_variance(expected: float) -> float:
    """4.5 standard errors of the variance of as many numbers as DRAWN has."""
    return 4.5 * expected * (2 / DRAWN.numel()) ** 0.5


@pytest.mark.parametrize("who", CHAINS)
def test_every_langevin_chain_has_the_known_bias(who):
    """On N(0, I) the variance tends to 1/(1 − η/4)."""
    x = chain(who, "langevin")(CENTRED, DRAWN, 1.0, 30)()
    assert abs(variance(x) - 4 / 3) < spread_of_variance(4 / 3)


@pytest.mark.parametrize("who", CHAINS)
def test_every_annealed_chain_ends_at_the_last_level(who):
    """Each level has the same η/σ², so the last one has the bias above."""
    x = chain(who, "annealed")(LADDER, DRAWN, 1.0, 30)()
    assert abs(variance(x) - 4 / 3) < spread_of_variance(4 / 3)


@pytest.mark.parametrize("who", CHAINS)
def test_every_adjusted_chain_keeps_its_target(who):
    """Unadjusted it would drift to 1/(1 − η/4), as above."""
    x = chain(who, "mala")(CENTRED, DRAWN, 1.0, 30)()
    x = x.x if isinstance(x, MalaResult) else x
    assert abs(variance(x) - 1) < spread_of_variance(1)


def test_every_way_to_write_the_score_is_the_score():
    x = samplers.starts(500, 2)
    score = samplers.density(MODES).score(x)
    torch.testing.assert_close(plain.score(MODES, x), score, atol=1e-4, rtol=1e-4)
    in_jax = peer("jax")
    for write in in_jax.Mixture(MODES).scores(len(x)):
        told = torch.tensor(write(in_jax.array(x)).tolist())
        torch.testing.assert_close(told, score, atol=1e-4, rtol=1e-4)


def test_every_energy_of_torchebm_has_the_score():
    in_torchebm = peer("torchebm")
    x = samplers.starts(500, 2)
    score = samplers.density(MODES).score(x)
    for make in ("Energy", "EnergyWithScore", "EnergyOfDistributions"):
        gradient = getattr(in_torchebm, make)(MODES).gradient(x)
        torch.testing.assert_close(-gradient, score, atol=1e-4, rtol=1e-4)


def test_the_peak_of_a_process_is_its_own_and_not_its_parents():
    held = torch.ones(250_000_000)  # a gigabyte, and what is loaded besides
    assert samplers.own_peak() > held.nbytes / 1e6
    assert samplers.peak_megabytes(10, 1) < held.nbytes / 1e6


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux refuses the memory")
def test_what_needs_too_much_memory_is_left_out():
    too_much = int(1.5e9 * samplers.GIGABYTES / 4)
    assert samplers.fitting(lambda: lambda: torch.zeros(too_much)) is None
    assert samplers.fitting(lambda: lambda: torch.zeros(10)) is not None


def test_a_row_tells_who_could_not_run():
    times = {"JAX": [1.0, 2.0, 4.0], "normals": [0.5, 0.5, 0.5]}
    raced = samplers.Race(1_000_000, 4, times, "0.5", ["ours", "plain loop"])
    too_much = f"> {samplers.GIGABYTES} GB"
    cells = dict(zip(samplers.COLUMNS, raced.cells(), strict=True))
    assert cells["ours, M/s"] == cells["plain loop"] == too_much
    assert cells["JAX"] == "2.0 M/s" and cells["normals"] == "8.0 M/s"


@pytest.mark.parametrize("name", steps.BY_HAND)
def test_losses_by_hand_are_the_losses(name):
    net = steps.network(name, 3)
    ours = float(steps.ours(name, net, steps.Draws(64, 3)).detach())
    for by_hand in steps.BY_HAND[name]:
        other = float(by_hand(net, steps.Draws(64, 3)).detach())
        assert math.isclose(other, ours, rel_tol=1e-5, abs_tol=1e-3 if "fd" in name else 1e-5)


def test_the_losses_of_torchebm_are_the_losses():
    in_torchebm = peer("torchebm")
    energy = mlp(3, 1, generator=generator(0))
    for name, make in in_torchebm.LOSSES.items():
        ours = steps.ours(name, EnergyScore(energy), steps.Draws(64, 3))
        at = steps.Draws(64, 3)
        theirs = make(energy, steps.SIGMA)(at.x, generator=at.stream)
        assert math.isclose(float(theirs), float(ours), rel_tol=1e-5), name


def test_the_losses_of_jax_are_the_losses():
    peer("jax")
    import jax

    in_jax, key = peer("optax", "jax_training"), jax.random.key(0)
    net, x = steps.network("dsm", 3), steps.Draws(64, 3).x
    array = in_jax.array(x)
    epsilon = torch.tensor(jax.random.normal(key, array.shape).tolist())
    signs = torch.tensor(jax.random.rademacher(key, array.shape, array.dtype).tolist())
    ours = {
        "dsm": losses.dsm(net, x, epsilon, in_jax.SIGMA),
        "ssm": losses.ssm(net, x, signs),
        "ssm_vr": losses.ssm_vr(net, x, signs),
        "ism": losses.ism(net, x),
    }
    for name, loss in in_jax.LOSSES.items():
        theirs = float(loss(in_jax.weights_of(net.body), array, key))
        assert math.isclose(theirs, float(ours[name].mean()), rel_tol=1e-4), name


def test_training_in_jax_descends():
    in_jax = peer("optax", "jax_training")
    _, curve = in_jax.fit_two_modes(networks.network().body, 1e-2, 300)()
    assert float(curve[-50:].mean()) < 0.8 * float(curve[0])


def test_the_published_loss_is_ssm_vr():
    x, net = steps.Draws(64, 2).x, networks.network()
    published = networks.published_loss(generator(3), net, x.clone())
    v = torch.randn(x.shape, generator=generator(3))
    assert math.isclose(float(published), float(losses.ssm_vr(net, x, v).mean()), rel_tol=1e-5)


@pytest.mark.parametrize("kind", ["ancestral", "ddim"])
def test_diffusers_walks_the_same_chain(kind):
    """With the same noise, not only in law."""
    in_diffusers = peer("diffusers")
    case = diffusion.exact(200, 50)
    ours = getattr(diffusion, kind)(case)["ours"]()
    theirs = getattr(in_diffusers, kind)(case.epsilon, case.x, case.betas)()
    torch.testing.assert_close(theirs, ours, atol=2e-3, rtol=2e-3)


def test_without_a_card_the_gpu_says_so():
    if torch.cuda.is_available():
        pytest.skip("there is a card")
    ((table,), targets) = gpu.run()
    assert table.title == "No graphics card" and targets == []


def test_what_a_card_would_run_runs_on_the_processor():
    table = gpu.table("", "", gpu.parts("cpu", quick=True)[:2], "cpu", 1)
    assert [row[3] for row in table.rows] == ["normals", "matrix products"]


def test_two_processes_are_two():
    """Each counts the others, and its threads; what they say is what was asked for."""
    assert processes.started("digits", 1, 2, 1) > 0
    with pytest.raises(RuntimeError, match=r"1 processes of 1 threads found \['1', '2'\]"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(processes.subprocess, "run", lambda *a, **k: Ran("1 2 0.5"))
            processes.started("digits", 1, 1, 1)


class Ran(NamedTuple):
    stdout: str
