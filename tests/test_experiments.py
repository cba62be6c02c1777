"""The experiments in small, the networks that ship, and the command line."""

import io
import json
import math

import pytest
import torch
from PIL import Image
from safetensors import safe_open

from sbm_lite import data, densities, diagnostics, experiments, losses, networks
from sbm_lite.__main__ import main
from sbm_lite.experiments import base, images, noisy_targets, toys
from sbm_lite.runtime import generator

SHIPPED = list(base.NETWORKS)


def frames(image: bytes) -> int:
    """How many pictures an image file holds."""
    with Image.open(io.BytesIO(image)) as opened:
        return getattr(opened, "n_frames", 1)


@pytest.mark.parametrize("name", SHIPPED)
def test_weights_ship_with_the_command_that_makes_them(name):
    with safe_open(base.WEIGHTS / f"{name}.safetensors", framework="pt") as file:
        assert file.metadata()["recipe"] == f"python -m sbm_lite run {name} --seed 0"
    assert name in experiments.EVERY


@pytest.mark.parametrize("name", SHIPPED)
def test_a_pretrained_network_is_frozen_and_not_the_untrained_one(name):
    net = experiments.pretrained(name)
    assert not net.training and not any(p.requires_grad for p in net.parameters())
    fresh = base.NETWORKS[name](generator(0)).state_dict()
    same = [torch.equal(value, fresh[key]) for key, value in net.state_dict().items()]
    assert not any(same)


def test_pretrained_refuses_another_name():
    with pytest.raises(ValueError, match="name must be one of low_density, .*got 'nonesuch'"):
        experiments.pretrained("nonesuch")


def test_weights_come_back_as_they_were_saved(tmp_path):
    net = networks.ScoreMLP(2, generator=generator(1))
    base.save(net, tmp_path / "net.safetensors", "by hand")
    with safe_open(tmp_path / "net.safetensors", framework="pt") as file:
        version, _, _ = torch.__version__.partition("+")
        assert file.metadata() == {"recipe": "by hand", "torch": version}
    again = base.load(networks.ScoreMLP(2, generator=generator(2)), tmp_path / "net.safetensors")
    x = torch.randn(5, 2, generator=generator(3))
    assert torch.equal(net(x), again(x))


@pytest.mark.parametrize(
    "name, p", [("ncsn_two_modes", toys.MODES), ("ncsn_swiss_roll", densities.swiss_roll())]
)
@pytest.mark.parametrize("sigma", [0.2, 1.0, 5.0, 20.0])
def test_a_shipped_ncsn_knows_the_score_where_its_level_has_mass(name, p, sigma):
    smoothed = p.smoothed(sigma)
    x = smoothed.sample(4_000, generator=generator(0))
    truth = smoothed.score(x)
    explained = 1 - diagnostics.fisher_divergence(
        experiments.pretrained(name)(x, sigma), truth
    ) / diagnostics.fisher_divergence(torch.zeros_like(truth), truth)
    assert explained > 0.9


@pytest.mark.parametrize("t", [1, 20, 200, 600, 1000])
def test_the_shipped_ddpm_is_near_the_least_loss_of_its_step(t):
    at = float(base.ALPHA_BARS[t - 1])
    law = densities.scaled_modes().diffused(at)
    x = law.sample(4_000, generator=generator(0))
    error = (1 - at) ** 0.5 * (experiments.pretrained("ddpm_two_modes")(x, t) - law.score(x))
    assert (error**2).mean() < 0.02  # of the noise, whose mean square is 1 per coordinate


@pytest.mark.parametrize("name", ["ncsn_digits", "ddpm_digits"])
def test_a_shipped_digits_network_denoises_held_out_digits(name):
    """At one moderate level its loss is well below that of the best linear denoiser."""
    net, (train, held_out) = experiments.pretrained(name), images.halves(data.digits())
    x, rng = held_out[:400], generator(0)
    epsilon = torch.randn(x.shape, generator=rng)
    at = base.ALPHA_BARS[299]
    sigma = float(((1 - at) / at).sqrt())
    if name == "ncsn_digits":
        value = losses.ncsn(net, x, epsilon, sigma).mean()
    else:
        t = torch.full((len(x),), 300)
        value = losses.ddpm_simple(net, x, epsilon, t, base.ALPHA_BARS).mean()
    spectrum = torch.linalg.eigvalsh(torch.cov(train.T)).clamp(min=0)
    linear = float((spectrum / (spectrum + sigma**2)).sum()) / 2
    assert value < 0.9 * linear


def test_halves_are_the_digits_once_each():
    train, held_out = images.halves(data.digits())
    both = torch.cat([train, held_out])
    assert abs(len(train) - len(held_out)) == 1 and both.min() == -1 and both.max() == 1
    sort = lambda x: sorted(map(tuple, x.tolist()))  # noqa: E731
    assert sort((both + 1) / 2) == sort(data.digits())


def test_the_published_ladder_ends_at_the_data():
    assert toys.LADDER[0] == 20 and abs(float(toys.LADDER[-1]) - 1) < 1e-12
    x = torch.randn(50, 2, generator=generator(0)).double()
    assert torch.allclose(toys.published_level(1.0).log_prob(x), toys.MODES.log_prob(x))


def test_share_and_variance_of_points_told_by_hand():
    x = torch.tensor([[3.0, 0.0], [1.0, 0.0], [1.0, 2.0], [-4.0, 1.0]])
    value, error = toys.share(x)
    assert value == 0.75 and math.isclose(error, 0.25, rel_tol=1e-6)
    assert math.isclose(toys.within(x), (4 / 3 + 4 / 3) / 2, rel_tol=1e-6)


def test_noise_gives_the_manifold_experiment_a_floor():
    result = experiments.manifold(device="cpu", n_steps=400)
    assert result.floor == pytest.approx(-320_000)
    assert torch.equal(result.raw, experiments.manifold(device="cpu", n_steps=400).raw)
    assert result.raw[-50:].mean() < 2 * result.raw[100:150].mean() < 0


def test_the_film_starts_even_and_ends_on_the_modes():
    film = experiments.annealing_film(device="cpu")
    assert len(film.path) == len(film.sigmas) == 41
    assert film.path[0].abs().max() <= 8
    assert (film.path[1].abs().max() > 20) and film.sigmas[1] == 20
    near = torch.cdist(film.path[-1], toys.MODES.means.float()).min(1).values
    assert near.max() < 6
    assert frames(film.film()) == 41


def test_exact_samplers_start_at_one_cloud_and_count_their_calls(monkeypatch):
    asked = []
    score = lambda x, t: asked.append(int(t[0])) or -x  # noqa: E731
    toys.three_ways(None, score, 5, generator(0), calls=(20, 400))
    assert len(asked) == 3 * 20 + 3 * 400
    assert asked[0] == 1000 and min(asked) == 1


@pytest.mark.parametrize(("n_calls", "n_levels"), [(20, 5), (400, 20)])
def test_annealed_langevin_of_ddpm_starts_wide_and_steps_in_units_of_its_levels(n_calls, n_levels):
    """With a score of 0 noise is all there is: 1/ᾱ_T at the start, then 0.2σ² in every step."""
    start = torch.randn(4_000, 2, generator=generator(0))
    end = toys.ddpm_annealed(lambda x, t: 0 * x, start, n_calls, generator(1))
    at = base.ALPHA_BARS[torch.linspace(1_000, 1, n_levels).round().long() - 1]
    steps = 0.2 * n_calls / n_levels * ((1 - at) / at).sum()
    expected = float(1 / base.ALPHA_BARS[-1] + steps)
    assert abs(end.var() - expected) < 4.5 * expected * (2 / 8_000) ** 0.5


def test_the_losses_draw_every_step_and_every_level_evenly():
    n, seen = 50_000, []
    x, told = torch.zeros(n, 2), lambda x, level: seen.append(level) or 0 * x
    toys.ddpm_loss(generator(0))(told, x), toys.ncsn_loss(0.1, 20.0, generator(0))(told, x)
    steps, sigmas = (level.double() for level in seen)
    assert steps.min() == 1 and steps.max() == 1_000
    shares = steps / 1_000, (sigmas / 0.1).log() / math.log(200)
    for share in shares:
        assert share.min() >= 0 and share.max() <= 1
        assert abs(share.mean() - 0.5) < 4.5 / (12 * n) ** 0.5 + 5e-4  # steps stand at t/T
        assert abs(share.var() - 1 / 12) < 4.5 / (180 * n) ** 0.5 + 1e-6


@pytest.mark.parametrize(
    ("draw", "last", "eta"),
    [
        (toys.ncsn_samples, 0.1, 0.1),
        (lambda net, n, rng: images.ncsn_draw(net, n, 2, rng), 0.05, 0.4),
    ],
    ids=["toys", "images"],
)
def test_ncsn_samples_have_the_width_of_the_last_level_until_the_noise_is_taken_off(
    draw, last, eta
):
    """Data at one point: σ²/(1 − η/4σ²) by Langevin at the last level, then exactly the point."""
    seen = []
    end = draw(lambda x, sigma: seen.append(x) or -x / sigma**2, 4_000, generator(0))
    expected = last**2 / (1 - eta / 4)
    assert abs(seen[-1].var() / expected - 1) < 4.5 * (2 / 8_000) ** 0.5
    assert end.abs().max() < 1e-6


@pytest.mark.parametrize("experiment", [toys.low_density, toys.low_density_esm])
def test_a_short_run_of_figure_two_has_learned_the_score_where_the_data_are(experiment):
    result = experiment(device="cpu", n_steps=500)
    nothing = result.truth[result.inside].norm(dim=1).mean()
    assert result.error[result.inside].mean() < nothing / 2


def test_a_falling_learning_rate_needs_a_tenth_of_the_published_steps():
    """1,000 quick steps beside the 10,000 that shipped: nearer where the data are, only there."""
    x = toys.MODES.sample(20_000, generator=generator(99))
    truth, shipped = toys.MODES.score(x), experiments.pretrained("low_density")
    quick = experiments.low_density_quick(device="cpu")
    assert len(quick.curve) == 1_000
    published = diagnostics.fisher_divergence(shipped(x), truth)
    assert diagnostics.fisher_divergence(quick.net(x), truth) < published / 2
    short, long = quick.numbers(), toys.error_map(shipped, quick.curve).numbers()
    assert short["mean error inside the boxes"] < long["mean error inside the boxes"]
    assert short["mean error outside"] > 0.8 * long["mean error outside"]


def test_images_find_the_nearest_training_image():
    train, held_out = images.halves(data.digits())
    result = images.Images(None, None, train[:40] + 0.01, train, held_out, (1, 8, 8))
    assert torch.equal(result.nearest(result.samples), train[:40])
    numbers = result.numbers()
    assert numbers["distance to the nearest training image, samples"] == pytest.approx(0.08, 1e-3)


def test_small_noise_is_measured_along_the_way():
    result = experiments.small_noise(device="cpu", n_steps=200)
    assert result.steps["DSM"] == [10, 20, 30, 50, 70, 100, 200]
    assert result.steps["control variate"] == result.steps["antithetic pairs"] == [10, 20]
    again = experiments.small_noise(device="cpu", n_steps=200)
    assert result.divergences == again.divergences
    assert min(result.divergences["control variate"]) < min(result.divergences["DSM"])
    numbers = result.numbers()
    assert numbers["DSM, steps"] == 200 and numbers["DSM, seconds"] > 0
    level = min(result.divergences["DSM"])
    assert numbers["DSM, divergence then"] == result.divergences["DSM"][-1]
    assert numbers[f"control variate, steps to {level:.2g}"] <= 20


def test_steps_to_a_level_are_infinite_where_it_is_never_reached():
    result = noisy_targets.SmallNoise({"DSM": [1, 5]}, {"DSM": [3.0, 2.0]}, {"DSM": 1.0})
    assert result.steps_to(2.5) == {"DSM": 5} and result.steps_to(1.0) == {"DSM": math.inf}


def test_a_training_is_measured_after_the_steps_it_says():
    """A bias with the constant gradient 1: Adam's steps have length lr."""
    net = networks.ScoreMLP(1, generator=generator(0))
    start = net.body[-1].bias.item()
    loss = lambda score, x: score(x)[:, 0]  # noqa: E731
    batches = iter(lambda: torch.zeros(1, 1), None)
    seen = noisy_targets.watched(net, loss, batches, [1, 2, 4], lambda net: net.body[-1].bias)
    assert seen == pytest.approx([start - 0.001 * k for k in (1, 2, 4)], abs=1e-6)


def test_share_explained_of_nothing_is_zero_and_of_the_best_what_theory_says():
    """N(0, I) seen with noise: the best score explains σ²/(1 + σ²) of the target."""
    x = torch.randn(20_000, 2, generator=generator(1))
    share = lambda score: noisy_targets.share_explained(score, x, 2.0)  # noqa: E731
    assert share(torch.zeros_like) == 0
    assert share(lambda y: -y / 5) == pytest.approx(0.8, abs=0.01)


def test_small_noise_digits_has_a_curve_for_each_level_and_loss():
    result = experiments.small_noise_digits(device="cpu", n_steps=20, sigmas=(0.1, 0.3))
    assert result.steps == [10, 20]
    assert {name: tuple(curves.shape) for name, curves in result.explained.items()} == {
        name: (2, 2) for name in noisy_targets.LOSSES
    }
    assert result.numbers()["DSM, σ = 0.3, 20 steps"] == float(result.explained["DSM"][1, 1])
    assert len(result.picture().axes) == 2


def test_the_distance_of_the_two_halves_is_what_chapter_8_compares_with():
    train, held_out = images.halves(data.digits())
    assert len(held_out) == 898  # as many images as the experiment draws
    numbers = images.Images(None, None, train, train, held_out, (1, 8, 8)).numbers()
    for cloud in ("samples", "training"):
        told = numbers[f"Wasserstein distance, {cloud} to held-out images"]
        assert told == pytest.approx(2.65, abs=0.005)
    assert numbers["distance to the nearest training image, samples"] == 0
    assert numbers["distance to the nearest training image, held-out images"] > 2


def test_list_names_every_experiment(capsys):
    assert main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(experiments.EVERY)


def test_run_writes_figure_numbers_and_film(tmp_path, capsys):
    assert main(["run", "annealing_film", "--device", "cpu", "--out", str(tmp_path)]) == 0
    told = json.loads((tmp_path / "annealing_film.json").read_text())
    assert told["experiment"] == "annealing_film" and told["seed"] == 0
    assert 0.7 < told["numbers"]["share at (5, 5)"] < 0.9
    assert frames((tmp_path / "annealing_film.png").read_bytes()) == 1
    assert frames((tmp_path / "annealing_film.gif").read_bytes()) == 41
    assert "share at (5, 5)" in capsys.readouterr().out


def test_run_writes_the_weights_it_trained(tmp_path, monkeypatch):
    monkeypatch.setitem(
        experiments.EVERY, "low_density",
        lambda device, seed: toys.low_density(device=device, seed=seed, n_steps=5),
    )  # fmt: skip
    where = ["--device", "cpu", "--out", str(tmp_path)]
    assert main(["run", "low_density", "--seed", "3", *where]) == 0
    with safe_open(tmp_path / "low_density.safetensors", framework="pt") as file:
        assert file.metadata()["recipe"].endswith("low_density --seed 3")
    fresh = networks.ScoreMLP(2, generator=generator(0))
    base.load(fresh, tmp_path / "low_density.safetensors")


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["run", "mxing"], "no experiment is called 'mxing'; did you mean mixing?"),
        (["run", "zzz"], "no experiment is called 'zzz'; there are manifold, low_density"),
        (["run", "mixing", "--device", "nope"], "device must be 'auto' or one this machine has"),
        (["run", "mixing", "--out", "{file}/below"], "--out must be a folder one can write to"),
    ],
)
def test_a_wrong_word_is_one_line_and_status_two(arguments, said, tmp_path, capsys):
    (tmp_path / "file").touch()
    filled = [a.format(file=tmp_path / "file") for a in arguments]
    assert main(filled) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.startswith("sbm_lite: ")
    assert said in printed.err and printed.err.count("\n") == 1
