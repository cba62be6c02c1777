"""The lab of chapter 7: its numbers against theory."""

import re

import pytest
import torch

from sbm_lite import densities, labs, losses, noise
from sbm_lite.labs import ncsn
from sbm_lite.runtime import generator

DEFAULTS = {
    "density": "ring",
    "first_sigma": 20.0,
    "last_sigma": 0.1,
    "n_levels": 10,
    "n_training": 800,
    "step_size": 0.4,
    "n_steps": 20,
    "seed": 1,
}


def numbers(sentence):
    """Mean weighted error, then the distances with learned scores, with exact ones, the floor."""
    return [float(x) for x in re.findall(r"(?:error|draws:|scores,|ones,) (\d+\.\d+)", sentence)]


def test_the_default_network_learns_and_its_samples_come_near_the_floor():
    error, learned, exact, floor = numbers(labs.ncsn_experiment(**DEFAULTS).sentence)
    assert error < 0.15
    assert learned < 2.5 * floor and exact < 2 * floor


def test_without_training_both_numbers_are_bad():
    few = labs.ncsn_experiment(**(DEFAULTS | {"n_training": 1}))
    error, learned, exact, _ = numbers(few.sentence)
    assert error > 0.2 and learned > 2 * exact


def test_the_error_of_a_level_is_the_loss_above_its_floor():
    """Vincent's theorem at every level, and no error for the exact score."""
    p, sigmas, rng = densities.two_modes(), noise.geometric_sigmas(10, 0.5, 3), generator(0)
    exact = ncsn.exact_scores(p, sigmas)
    assert ncsn.level_errors(exact, p, sigmas, rng) == pytest.approx([0, 0, 0], abs=1e-9)

    def half(x, sigma):
        return 0.5 * exact(x, sigma)

    x, epsilon = p.sample(200_000, generator=rng), torch.randn(200_000, 2, generator=rng)
    for sigma, error in zip(sigmas.tolist(), ncsn.level_errors(half, p, sigmas, rng), strict=True):
        above = losses.ncsn(half, x, epsilon, sigma) - losses.ncsn(exact, x, epsilon, sigma)
        slack = 4.5 * (float(above.std()) / 200_000**0.5 + error * (2 / 2_000) ** 0.5)
        assert error == pytest.approx(float(above.mean()), abs=slack)


def test_one_gaussian_with_exact_scores_is_at_the_floor():
    """A ladder that suits its target leaves only the noise of 500 points and of the last level."""
    settings = DEFAULTS | {"density": "one Gaussian", "first_sigma": 5.0, "last_sigma": 0.3}
    *_, exact, floor = numbers(labs.ncsn_experiment(**settings).sentence)
    assert exact < 2 * floor


@pytest.mark.parametrize(
    "wrong, error, words",
    [
        ({"first_sigma": 0.1, "last_sigma": 0.5}, ValueError, "ladder"),
        ({"n_levels": 1}, ValueError, "ladder"),
        ({"step_size": 5.0, "n_steps": 60}, FloatingPointError, "sigma = 20"),
    ],
)
def test_refused_settings(wrong, error, words):
    with pytest.raises(error, match=words):
        labs.ncsn_experiment(**(DEFAULTS | {"n_training": 50} | wrong))


def test_the_picture_without_a_kernel():
    panel = labs.ncsn_lab()
    page = panel._repr_mimebundle_()[0]["text/html"]
    assert page.startswith('<figure class="lab"><img alt="') and panel.sentence.value in page
