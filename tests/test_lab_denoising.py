"""The lab of chapter 6: its numbers against theory, its exact densities against integrals."""

import math
import re

import pytest
import torch
from scipy.integrate import quad
from scipy.stats import norm

from sbm_lite import densities, labs, noise
from sbm_lite.calculus import score_of
from sbm_lite.labs import denoising

RIGHT, SLIP = denoising.SIGNS


def numbers(sentence):
    """The loss at the end, its floor and the Fisher divergence."""
    return [float(x) for x in re.findall(r"(?:at|is|data) (\d+\.\d+)", sentence)]


@pytest.mark.parametrize("kernel", ["Gaussian", "Laplace", "mixture"])
def test_the_network_comes_near_the_floor_and_the_score(kernel):
    ended, floor, fisher = numbers(labs.denoising_experiment(kernel, 2.0, RIGHT, 600, 1).sentence)
    assert ended - floor == pytest.approx(fisher, abs=0.003), "Vincent's theorem"
    assert fisher < 0.06


def test_the_floor_under_gaussian_noise():
    """½E‖t‖² = d/2σ² = ¼; from this the score's own half square must be taken."""
    p = densities.two_modes().smoothed(2.0)
    x = p.sample(200_000)
    exact = 0.25 - float(p.score(x).square().sum(1).mean()) / 2
    floor = numbers(labs.denoising_experiment("Gaussian", 2.0, RIGHT, 50, 2).sentence)[1]
    assert floor == pytest.approx(exact, abs=0.004)


def test_with_the_other_sign_it_learns_minus_the_score():
    """The loss looks as good, and the Fisher divergence is ½E‖−2s‖² = 4C₁."""
    p = densities.two_modes().smoothed(2.0)
    ended, floor, fisher = numbers(
        labs.denoising_experiment("Gaussian", 2.0, SLIP, 600, 3).sentence
    )
    assert ended == pytest.approx(floor, abs=0.01)
    assert fisher == pytest.approx(
        2 * float(p.score(p.sample(100_000)).square().sum(1).mean()), rel=0.1
    )


@pytest.mark.parametrize("kernel", ["Gaussian", "Laplace", "mixture"])
@pytest.mark.parametrize("sigma", [0.3, 2.0])
def test_the_noisy_densities_are_the_integrals(kernel, sigma):
    """Both noise and component are products but for the mixture's common blow: use one axis."""
    p = densities.GaussianMixture.isotropic([0.3, 0.7], [[-1.0], [1.5]], 1.0)
    q, log_prob = denoising._kernels(p, sigma)[kernel]
    assert isinstance(q, noise.Kernel)
    for at in (-2.0, 0.5, 4.0):
        y = torch.tensor([[at]]).double()

        def joint(x, y=y):
            clean = 0.3 * norm.pdf(x, -1) + 0.7 * norm.pdf(x, 1.5)
            return clean * math.exp(q.log_prob(y, torch.tensor([[x]]).double()))

        exact = sum(quad(joint, *side, epsabs=1e-11, limit=300)[0] for side in ((-9, at), (at, 10)))
        assert float(log_prob(y).exp()) == pytest.approx(exact, rel=1e-6)


def test_the_kernels_have_one_variance():
    for q, _ in denoising._kernels(densities.two_modes(), 1.5).values():
        moved = q.sample(torch.zeros(200_000, 2))
        assert float(moved.var()) == pytest.approx(1.5**2, rel=0.05)


def test_far_out_the_score_stays_finite():
    _, log_prob = denoising._kernels(densities.two_modes(), 0.2)["Laplace"]
    score = score_of(log_prob)(torch.tensor([[40.0, -40.0], [9.0, 9.0]]))
    assert bool(score.isfinite().all())
    assert score[0].tolist() == pytest.approx([-(2**0.5) / 0.2, 2**0.5 / 0.2], rel=1e-3)


def test_a_refused_setting_and_the_picture_without_a_kernel():
    with pytest.raises(ValueError, match="sigma"):
        labs.denoising_experiment("Gaussian", 0.0, RIGHT, 50, 0)
    panel = labs.dsm_lab()
    page = panel._repr_mimebundle_()[0]["text/html"]
    assert page.startswith('<figure class="lab"><img alt="') and panel.sentence.value in page
