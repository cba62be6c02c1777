"""The lab of chapter 5: its numbers agree with theory, and so does its theory."""

import itertools
import re

import matplotlib.pyplot as plt
import pytest
import torch

from sbm_lite import calculus, labs, losses
from sbm_lite.labs.slices import FORMS, LAWS, _theory, _two_clouds
from sbm_lite.runtime import generator


@pytest.fixture(autouse=True)
def close_figures():
    """A dozen experiments in one run: leave no picture of theirs open."""
    yield
    plt.close("all")


def numbers(sentence):
    """mean, error, theory, ISM, variance, its error, theory."""
    return [float(x) for x in re.findall(r"-?\d+\.?\d*(?:e[-+]\d+)?", sentence.split("mean")[1])]


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("form", FORMS)
def test_measured_mean_and_variance_agree_with_theory(law, form):
    outcome = labs.slices_experiment(law, form, 6, 40, 0.7, 1)
    mean, error, theory, ism, variance, variance_error, exact = numbers(outcome.sentence)
    assert abs(mean - theory) < 4.5 * error + 1e-3
    assert abs(variance - exact) < 4.5 * variance_error
    if law != "unit sphere":
        assert theory == pytest.approx(ism, abs=1e-3)
    elif form == "plain":
        assert theory == pytest.approx(ism / 6, abs=1e-3)
    else:
        assert theory > 0 > ism  # the trap: the square outweighs the trace


@pytest.mark.parametrize("form", FORMS)
def test_theory_for_signs_by_enumeration(form):
    p = _two_clouds(5)
    x = p.sample(7, generator=generator(2)).double()
    loss = losses.ssm if form == "plain" else losses.ssm_vr
    signs = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=5))).double()
    values = torch.stack([loss(p.score, x, v.expand(7, 5)) for v in signs])
    mean, variance = _theory("Rademacher", form, p.score(x), calculus.jacobian(p.score, x))
    assert values.mean(0).allclose(mean) and values.var(0, correction=0).allclose(variance)


def test_one_slice_in_one_dimension_of_a_sphere_is_exact():
    outcome = labs.slices_experiment("sphere of radius √d", "variance reduced", 1, 1, 1.0, 0)
    mean, _, _, ism, variance, _, _ = numbers(outcome.sentence)
    assert mean == ism and variance < 1e-12


def test_the_panel_runs_and_a_moved_slider_runs_it_again():
    panel = labs.slices_lab()
    before = panel.picture.value, panel.sentence.value
    assert len(panel.alt) >= 100
    panel.controls["dim"].value = 3
    assert panel.picture.value != before[0] and "d = 3" in panel.sentence.value != before[1]


def test_a_refused_setting_says_why():
    with pytest.raises(ValueError, match="sigma must be a finite number > 0"):
        labs.slices_experiment("Rademacher", "plain", 3, 2, 0.0, 0)
    with pytest.raises(ValueError, match="law must be one of Rademacher, .*got 'uniform'"):
        labs.slices_experiment("uniform", "plain", 3, 2, 0.5, 0)
