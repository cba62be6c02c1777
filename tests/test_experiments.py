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
from sbm_lite.experiments import base, images, toys
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


def test_images_find_the_nearest_training_image():
    train, held_out = images.halves(data.digits())
    result = images.Images(None, None, train[:40] + 0.01, train, held_out, (1, 8, 8))
    assert torch.equal(result.nearest(result.samples), train[:40])
    numbers = result.numbers()
    assert numbers["distance to the nearest training image, samples"] == pytest.approx(0.08, 1e-3)


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
