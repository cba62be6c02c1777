"""The labs: every setting runs, a refused one says why, a picture stands in without a kernel."""

import io
import re

import pytest
from PIL import Image

from sbm_lite import densities, labs
from sbm_lite.diagnostics import grid
from sbm_lite.labs.panel import typeset
from tools.alt_text import faults


@pytest.fixture(scope="module")
def lab():
    panel = labs.langevin_lab()
    panel.controls["n_chains"].value = 1_000
    return panel


def numbers(sentence):
    return [float(x.replace(",", "")) for x in re.findall(r"\d[\d,]*\.?\d*", sentence)]


@pytest.mark.parametrize("density", list(labs.DENSITIES))
@pytest.mark.parametrize("method", ["unadjusted", "Metropolis-adjusted"])
def test_chains_have_the_variance_of_the_target(density, method):
    """Within a mode they do; between the modes of `two modes` they know nothing of the weights."""
    outcome = labs.langevin_experiment(density, 0.05, 400, 4_000, method, "cpu", 1)
    chains, exact = numbers(outcome.sentence)[-2:]
    if density == "two modes":
        assert exact == pytest.approx(1 + 100 * 0.16, rel=0.1)
        assert chains == pytest.approx(1 + 100 * 0.25, rel=0.1)
    else:
        assert chains == pytest.approx(exact, rel=0.1)


@pytest.mark.parametrize("density", list(labs.DENSITIES))
def test_two_ways_to_the_same_number(density):
    square, error, minus_divergence, other_error = numbers(
        labs.score_experiment(density, 0.8, 9).sentence.replace("−E", "E").split("draws")[1]
    )[-4:]
    assert abs(square - minus_divergence) < 4.5 * (error**2 + other_error**2) ** 0.5 + 0.002


def test_a_moved_slider_runs_the_experiment_again(lab):
    before = lab.picture.value, lab.sentence.value
    lab.controls["step_size"].value = 0.5
    assert lab.picture.value != before[0] and "η = 0.5" in lab.sentence.value != before[1]


def test_a_refused_setting_says_why_and_hides_the_old_picture(lab):
    lab.controls["step_size"].value = 10.0
    assert "diverged with step_size" in lab.sentence.value
    assert lab.picture.layout.visibility == "hidden"
    lab.controls["step_size"].value = 0.1
    assert lab.picture.layout.visibility == "visible"


@pytest.mark.parametrize("make", [labs.score_lab, labs.langevin_lab])
def test_without_a_kernel_a_picture_stands_in(make):
    panel = make()
    page = panel._repr_mimebundle_()[0]["text/html"]
    assert page.startswith('<figure class="lab"><img alt="') and panel.sentence.value in page
    assert panel.alt in page.replace("&#x27;", "'")
    assert faults(panel.alt, panel.sentence.value) == []
    assert Image.open(io.BytesIO(panel.picture.value)).width > 600


def test_the_names_mean_the_densities():
    x = grid(3.0, 5).double()
    assert labs.DENSITIES["two modes"].score(x).equal(densities.two_modes().score(x))
    assert labs.DENSITIES["one Gaussian"].score(x).allclose(-x)


def test_numbers_stand_as_in_a_book():
    raw = "loss -1.06 ± 4e-05, n-1 of 2e+06, 3 e-mails, x-2"
    assert typeset(raw) == "loss −1.06 ± 4 · 10⁻⁵, n-1 of 2 · 10⁶, 3 e-mails, x-2"
