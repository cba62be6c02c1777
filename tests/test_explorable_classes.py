"""The Python side of the explorables: traits, bundle, poster, and the module for notebooks."""

import base64
import html
import io
import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
import traitlets
from PIL import Image

from sbm_lite import experiments
from sbm_lite.densities import GaussianMixture, ring, two_modes
from sbm_lite.explorables import (
    EVERY,
    HERE,
    Annealing,
    Denoise,
    EsmIsm,
    LangevinExplorable,
    LearnedField,
    Partition,
    ScoreField,
    Slices,
    TargetNoise,
    ThreeNames,
    as_module,
    describe,
)
from sbm_lite.runtime import generator
from tools.alt_text import faults

NAMES = [cls.name for cls in EVERY]


def bundle(widget):
    return widget._repr_mimebundle_()[0]


def test_description_is_the_density_itself():
    told = describe(two_modes(), 8)
    assert told["weights"] == [0.2, 0.8] and told["stds"] == [1.0, 1.0]
    assert told["means"] == [[-5.0, -5.0], [5.0, 5.0]] and told["limit"] == 8


def test_rounding_a_description_moves_no_score_by_a_thousandth():
    told = describe(ring(), 8)
    x = 12 * torch.rand(200, 2, generator=generator(0), dtype=torch.float64) - 6
    weights = torch.tensor(told["weights"], dtype=torch.float64)
    rounded = GaussianMixture.isotropic(weights / weights.sum(), told["means"], told["stds"])
    assert (rounded.score(x) - ring().score(x)).abs().max() < 1e-3


@pytest.mark.parametrize("cls", EVERY)
def test_repr_names_class_and_settings_and_repeats(cls):
    assert repr(cls()) == repr(cls())
    assert repr(cls()).startswith(cls.__name__ + "(")
    assert "densities" not in repr(cls()) and "layers" not in repr(cls())


def test_settings_reach_repr_and_state():
    widget = LangevinExplorable(step_size=0.5, seed=3)
    assert "step_size=0.5" in repr(widget) and widget.state()["seed"] == 3


@pytest.mark.parametrize(
    ("cls", "names"),
    [
        (Annealing, "step_size first_sigma n_levels n_steps n_particles seed"),
        (Denoise, "densities density sigma probe_x probe_y n_draws seed"),
        (EsmIsm, "density theta n_draws seed"),
        (LangevinExplorable, "densities density step_size n_particles noise metropolis seed"),
        (LearnedField, "layers show sigma probe_x probe_y"),
        (Partition, "separation tilt offset dim proposal_std n_draws seed"),
        (ScoreField, "densities density sigma beta offset probe_x probe_y"),
        (Slices, "dim coupling law seed"),
        (TargetNoise, "sigma data probe estimator theta n_draws seed"),
        (ThreeNames, "t probe_x probe_y sampler n_calls n_draws seed"),
    ],
)
def test_state_is_what_the_reader_sets(cls, names):
    assert set(cls().state()) == set(names.split())
    assert set(names.split()) <= set(cls().keys)  # and each of them is synced


@pytest.mark.parametrize("cls", [Denoise, LangevinExplorable, ScoreField])
def test_the_density_shown_first_is_described(cls):
    assert cls().density in cls().densities


@pytest.mark.parametrize("cls", EVERY)
def test_the_module_reads_the_whole_state(cls):
    text = (HERE / f"{cls.name}.js").read_text("utf8")
    assert [name for name in cls().state() if f'"{name}"' not in text] == []


@pytest.mark.parametrize("bad", [{"step_size": 0.0}, {"n_particles": 10**6}, {"density": "moon"}])
def test_settings_out_of_range_are_refused(bad):
    with pytest.raises(traitlets.TraitError, match=next(iter(bad))):
        LangevinExplorable(**bad)


@pytest.mark.parametrize("cls", EVERY)
def test_bundle_holds_the_widget_and_a_figure_for_the_page(cls):
    data = bundle(cls())
    assert "application/vnd.jupyter.widget-view+json" in data
    assert data["text/html"].startswith('<figure class="explorable" data-explorable=')
    assert data["text/html"] == bundle(cls())["text/html"]


@pytest.mark.parametrize("cls", EVERY)
def test_the_page_carries_the_state(cls):
    widget = cls()
    (state,) = re.findall(r'data-state="([^"]*)"', widget.html())
    assert json.loads(html.unescape(state)) == widget.state()


@pytest.mark.parametrize("cls", EVERY)
@pytest.mark.parametrize("words", ["alt", "caption"])
def test_words_for_reader_and_listener(cls, words):
    text = getattr(cls(), words)
    assert 100 < len(text) < 500
    assert text.endswith("?") == (words == "caption")


@pytest.mark.parametrize("cls", EVERY)
def test_alt_text_is_sound_at_every_setting(cls):
    menus = {n: t.values for n, t in cls.class_traits().items() if isinstance(t, traitlets.Enum)}
    widgets = [cls(), *(cls(**{name: value}) for name, menu in menus.items() for value in menu)]
    assert not [(w, wrong) for w in widgets if (wrong := faults(w.alt, w.caption))]


@pytest.mark.parametrize("cls", EVERY)
def test_poster_is_small_square_and_shows_something(cls):
    png = cls().poster()
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    assert len(png) <= 50_000 and picture.size == (630, 630)
    assert len(picture.getcolors(10**6)) > 20


def test_poster_shows_the_settings():
    changes = [{}, {"density": "ring"}, {"noise": False}, {"metropolis": True}, {"step_size": 2.0}]
    assert len({LangevinExplorable(**change).poster() for change in changes}) == len(changes)
    assert ScoreField(sigma=2.0).poster() != ScoreField().poster()
    assert EsmIsm(density="exponential").poster() != EsmIsm().poster()
    assert Partition(offset=1.0).poster() != Partition().poster()
    assert ThreeNames(t=600).poster() != ThreeNames().poster()
    changes = [{}, {"sigma": 1.0}, {"data": "two points"}, {"theta": 1.0}, {"probe": -1.0}]
    changes += [{"estimator": name} for name in ("control variate", "antithetic pair")]
    assert len({TargetNoise(**change).poster() for change in changes}) == len(changes)


def test_posters_of_chapter_7_show_the_settings():
    changes = [{}, {"first_sigma": 1.0}, {"n_levels": 1}, {"step_size": 1.0}, {"n_steps": 10}]
    assert len({Annealing(**change).poster() for change in changes}) == len(changes)
    changes = [{}, {"sigma": 2.0}, {"probe_x": 4.0}, {"show": "error"}]
    posters = {LearnedField(**change).poster() for change in changes}
    assert len(posters) == len(changes) and max(map(len, posters)) <= 50_000


def test_alt_tells_which_map_is_shown():
    assert "shades of red" in LearnedField(show="error").alt != LearnedField().alt


def test_layers_are_the_weights_of_the_network_that_ships():
    net, told = experiments.pretrained("ncsn_two_modes"), LearnedField().layers
    assert [(layer["n_in"], layer["n_out"]) for layer in told] == [(3, 128), (128, 128), (128, 2)]
    for layer, linear in zip(told, net.body[::2], strict=True):
        values = np.frombuffer(base64.b64decode(layer["data"]), "<f4")
        weights, biases = np.split(values, [layer["n_in"] * layer["n_out"]])
        assert np.array_equal(weights.reshape(layer["n_out"], -1), linear.weight)
        assert np.array_equal(biases, linear.bias)


def test_the_network_is_read_when_it_is_needed_and_not_before():
    look = "import sys, sbm_lite.explorables; sys.exit('sbm_lite.experiments' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", look], check=False).returncode == 0


def test_poster_of_an_exploding_chain_is_still_drawn():
    assert LangevinExplorable(step_size=6.0).poster()


def test_poster_at_the_ends_of_the_diffusion():
    at_rest = {"probe_x": 0.0, "probe_y": 0.0}  # at t = 1000 the arrows are shorter than the ring
    assert ThreeNames(t=1).poster() and ThreeNames(t=1000, **at_rest).poster()


def test_poster_leaves_the_global_stream_alone():
    before = torch.random.get_rng_state()
    LangevinExplorable().poster()
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("name", NAMES)
def test_module_for_notebooks_stands_alone(name):
    text = as_module(name)
    assert not re.search(r"^\s*import\b", text, re.MULTILINE)
    assert re.findall(r"^export.*", text, re.MULTILINE) == ["export default { render };"]


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
@pytest.mark.parametrize("name", NAMES)
def test_module_for_notebooks_parses(name, tmp_path):
    module = tmp_path / f"{name}.mjs"
    module.write_text(as_module(name), "utf8")
    done = subprocess.run(["node", "--check", module], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
