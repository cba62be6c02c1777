"""The lab of chapter 1: its numbers against theory, what it refuses, its stand-in picture."""

import io
import math
import re

import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image

from sbm_lite import labs


@pytest.fixture(autouse=True)
def close_figures():
    """An experiment leaves its figure open for the panel to close; here there is no panel."""
    plt.close("all")
    yield
    plt.close("all")


def numbers(sentence):
    """(claimed, with the true Z, exact fit, share of useful draws)."""
    found = re.findall(r"[-−]?\d[\d,]*\.?\d*(?:e[-+]\d+)?", sentence.split("coordinate")[1])
    return [float(x.replace(",", "")) for x in found]


def entropy():
    """−∫ p log p of the two bumps: what the best model can reach on average."""
    x = np.linspace(-10, 10, 20_001)
    p = sum(w * np.exp(-(((x - m) / s) ** 2) / 2) / (s * math.sqrt(2 * math.pi))
            for w, m, s in ((0.3, -2, 0.5), (0.7, 1, 1)))  # fmt: skip
    return -np.trapezoid(p * np.log(p), x)


def test_with_many_draws_on_a_line_the_estimate_is_right():
    claimed, true, exact, share = numbers(labs.likelihood_experiment(30_000, 1, 2.0, 3).sentence)
    error = math.sqrt((100 / share - 1) / 30_000)
    assert abs(claimed - true) < 4.5 * error + 0.001
    assert exact <= true < exact + 0.01


def test_the_exact_fit_reaches_the_entropy_of_the_data():
    """20,000 coordinates, of standard deviation 0.62 in −log p; 13 parameters gain 13/(2n)."""
    exact = numbers(labs.likelihood_experiment(100, 20, 2.0, 0).sentence)[2]
    assert abs(exact - entropy()) < 4.5 * 0.62 / 20_000**0.5 + 0.01


@pytest.mark.parametrize(("n_draws", "dim", "std"), [(10, 1, 2.0), (300, 20, 2.0), (1000, 10, 0.8)])
def test_with_too_few_draws_the_fit_cheats(n_draws, dim, std):
    claimed, true, exact, _ = numbers(labs.likelihood_experiment(n_draws, dim, std, 0).sentence)
    assert claimed < exact < true


def test_same_seed_same_sentence_other_seed_another():
    run = lambda seed: labs.likelihood_experiment(100, 5, 2.0, seed).sentence  # noqa: E731
    assert run(1) == run(1) != run(2)


@pytest.mark.parametrize(
    ("settings", "message"),
    [((0, 5, 2.0, 0), "n_draws"), ((100, 0, 2.0, 0), "dim"), ((100, 5, 0.0, 0), "proposal_std")],
)
def test_a_refused_setting_says_which(settings, message):
    with pytest.raises(ValueError, match=message):
        labs.likelihood_experiment(*settings)


def test_a_moved_slider_runs_again_and_a_picture_stands_in():
    panel = labs.likelihood_lab()
    before = panel.sentence.value
    panel.controls["dim"].value = 1
    assert "d = 1" in panel.sentence.value != before
    page = panel._repr_mimebundle_()[0]["text/html"]
    assert page.startswith('<figure class="lab"><img alt="') and panel.sentence.value in page
    assert Image.open(io.BytesIO(panel.picture.value)).width > 600
