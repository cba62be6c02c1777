"""The lab of chapter 4: its numbers obey the identity it is about, few points overfit."""

import re

import matplotlib.pyplot as plt
import pytest

from sbm_lite import labs
from sbm_lite.labs.ism import TARGETS


def numbers(method, data, *, density="two hills", n_steps=200, width=32, seed=1):
    """Training loss, held-out loss, least loss and Fisher divergence, from the sentence."""
    outcome = labs.ism_experiment(density, method, data, n_steps, width, "cpu", seed)
    plt.close(outcome.figure)
    said = re.findall(r"-?\d[\d,]*\.\d+", outcome.sentence)
    return [float(x.replace(",", "")) for x in said]


@pytest.mark.parametrize("density", list(TARGETS))
def test_ism_and_its_floor_make_the_fisher_divergence(density):
    """On the held-out points J_ISM + C₁ ≈ J_ESM: over 2,000 draws the noise is about 0.05."""
    _, test, floor, distance = numbers("ISM", "fresh draws", density=density)
    assert test - floor == pytest.approx(distance, abs=0.35)
    assert floor < -0.5


def test_esm_has_its_floor_at_zero_and_is_the_fisher_divergence():
    train, test, floor, distance = numbers("ESM", "1000", n_steps=500)
    assert floor == 0
    assert test == pytest.approx(distance, abs=0.006)
    assert 0 < train < 0.1


def test_few_points_overfit_by_ism_and_not_by_esm():
    train, test, floor, _ = numbers("ISM", "10", n_steps=400, width=64)
    assert train < 5 * floor and test > 10
    assert numbers("ESM", "100", n_steps=400, width=64)[1] < 0.1


def test_more_points_are_closer_to_the_score():
    few, many = (numbers("ISM", n, n_steps=300)[3] for n in ("30", "10000"))
    assert many < few / 10


def test_one_seed_one_outcome():
    assert numbers("ISM", "300", seed=3) == numbers("ISM", "300", seed=3)
    assert numbers("ISM", "300", seed=3) != numbers("ISM", "300", seed=4)


def test_a_refused_setting_says_why():
    panel = labs.ism_lab()
    panel.controls["device"].options = ["cpu", "abacus"]
    panel.controls["device"].value = "abacus"
    assert "device must be" in panel.sentence.value
    assert panel.picture.layout.visibility == "hidden"
    panel.controls["device"].value = "cpu"
    assert panel.picture.layout.visibility == "visible" and "steps on fresh" in panel.sentence.value


@pytest.mark.parametrize("wrong", [dict(n_steps=0), dict(width=0), dict(data="0")])
def test_impossible_sizes_are_refused(wrong):
    settings = dict(method="ISM", data="30") | wrong
    with pytest.raises(ValueError, match="at least|positive|must be"):
        numbers(**settings)


def test_without_a_kernel_a_picture_stands_in():
    panel = labs.ism_lab()
    page = panel._repr_mimebundle_()[0]["text/html"]
    assert page.startswith('<figure class="lab"><img alt="') and panel.sentence.value in page
