"""The lab of chapter 9: its numbers against a training written out."""

import re

import matplotlib.pyplot as plt
import pytest
import torch

from sbm_lite import densities, labs, networks
from sbm_lite.calculus import score_of
from sbm_lite.labs import target_noise
from sbm_lite.runtime import generator


@pytest.fixture(autouse=True)
def no_figure_left_open():
    yield
    plt.close("all")


def numbers(sentence):
    """The divergence of the chosen loss; those of plain DSM, at its end and at its best."""
    return [float(x) for x in re.findall(r"(?:data|at|best,) (\d+\.\d+)", sentence)]


def by_hand(loss, sigma, batch, n_steps, seed):
    """The divergence after that many steps of Adam on losses written out."""
    p, rng = densities.two_modes(), generator(seed)
    net = networks.ScoreMLP(2, generator=rng)
    adam = torch.optim.Adam(net.parameters(), lr=1e-3)
    for _ in range(n_steps):
        x = p.sample(batch, generator=rng)
        r = torch.randn(x.shape, generator=rng) / sigma
        s, ahead, behind = net(x), net(x + sigma**2 * r), net(x - sigma**2 * r)
        value = {
            "DSM": ((ahead + r) ** 2).sum(1) / 2,
            "control variate": (ahead**2 / 2 + (ahead - s) * r).sum(1),
            "antithetic pairs": ((ahead + r) ** 2 + (behind - r) ** 2).sum(1) / 4,
        }[loss].mean()
        adam.zero_grad()
        value.backward()
        adam.step()
    noisy = p.smoothed(sigma)
    x = noisy.sample(4_000, generator=generator(seed + 1))
    return float(((net(x).detach() - score_of(noisy.log_prob)(x)) ** 2).sum(1).mean()) / 2


@pytest.mark.parametrize("loss", target_noise.LOSSES)
def test_the_divergence_is_that_of_a_training_written_out(loss):
    want = by_hand(loss, 0.3, 64, 50, 1)
    assert target_noise._train(loss, 0.3, 64, 50, 1)[50] == pytest.approx(want, rel=1e-3)
    shown = numbers(labs.target_noise_experiment(loss, 0.3, 64, 50, 1).sentence)[0]
    assert shown == pytest.approx(want, abs=6e-4 + 1e-3 * want)


@pytest.mark.parametrize("loss", ["control variate", "antithetic pairs"])
def test_at_small_noise_the_quiet_losses_win(loss):
    sentence = labs.target_noise_experiment(loss, 0.01, 128, 400, 2).sentence
    ended, plain, best = numbers(sentence)
    assert ended < 0.15 * best <= 0.15 * plain
    within = int(re.search(r"took at most (\d+) steps", sentence).group(1))
    assert within <= 40, "a tenth of the steps"


def test_at_large_noise_plain_dsm_is_as_good():
    ended, plain, _ = numbers(
        labs.target_noise_experiment("control variate", 1.0, 256, 400, 0).sentence
    )
    assert max(ended, plain) < 0.05


def test_the_chosen_curve_is_beside_plain_dsm_and_alone_when_it_is_plain_dsm():
    two = labs.target_noise_experiment("antithetic pairs", 0.1, 16, 50, 0)
    one = labs.target_noise_experiment("DSM", 0.1, 16, 50, 0)
    assert [len(outcome.figure.axes[0].lines) for outcome in (two, one)] == [2, 1]
    assert numbers(two.sentence)[1] == numbers(one.sentence)[0]
    assert list(two.figure.axes[0].lines[0].get_xdata()) == [10, 20, 30, 50]


def test_a_refused_setting_and_the_picture_without_a_kernel():
    with pytest.raises(ValueError, match="sigma"):
        labs.target_noise_experiment("DSM", 0.0, 16, 50, 0)
    with pytest.raises(ValueError, match="batch must be at least 1, got 0"):
        labs.target_noise_experiment("DSM", 0.1, 0, 50, 0)
    panel = labs.target_noise_lab()
    page = panel._repr_mimebundle_()[0]["text/html"]
    assert page.startswith('<figure class="lab"><img alt="') and panel.sentence.value in page
