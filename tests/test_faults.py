"""Trainings that are killed, checkpoints that are damaged, disks that are full: nothing is lost."""

import errno
import itertools
import json
import os
import pickle
import resource
import signal
import subprocess
import sys
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from test_training import Run

from sbm_lite import data, densities, experiments, networks, noise, samplers, training
from sbm_lite.__main__ import main
from sbm_lite.experiments import base, images
from sbm_lite.runtime import generator


@pytest.fixture
def file(tmp_path):
    return tmp_path / "run.safetensors"


# Killed

KILLED = f"""
import os, signal, sys
from itertools import count
from pathlib import Path

sys.path.insert(0, {str(Path(__file__).parent)!r})
import test_training as t

file, moment, when = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
calls, die = count(), lambda: os.kill(os.getpid(), signal.SIGKILL)
dsm, write, rename = t.losses.dsm, Path.write_bytes, Path.replace


def in_a_step(*arguments):
    die() if next(calls) == when else None
    return dsm(*arguments)


def half_written(path, content):
    if next(calls) == when:
        write(path, content[: len(content) // 2])
        die()
    write(path, content)


def before_it_counts(path, target):
    die() if next(calls) == when else None
    rename(path, target)


def once_it_counts(path, target):
    rename(path, target)
    die() if next(calls) == when else None


match moment:
    case "step":
        t.losses.dsm = in_a_step
    case "half":
        Path.write_bytes = half_written
    case "before":
        Path.replace = before_it_counts
    case "once":
        Path.replace = once_it_counts
t.Run(seed=int(sys.argv[4])).go(file, save_every=20)
"""
MOMENTS = [  # where SIGKILL falls, the call of it, and the steps then saved
    ("half", 0, None),
    ("step", 0, 0),
    ("half", 2, 20),
    ("step", 30, 40),
    ("before", 1, 40),
    ("once", 1, 60),
    ("before", 0, 60),
    ("step", 69, 120),
]


def test_a_training_killed_at_any_moment_is_the_unbroken_one_to_the_last_bit(file):
    """kill -9, eight times in one run of 130 steps, three of them while a checkpoint is written."""
    for k, (moment, when, saved) in enumerate(MOMENTS):
        seed = 4 if k < 2 else 5 + k  # once there is a checkpoint, the seed is that of its stream
        command = [sys.executable, "-c", KILLED, str(file), moment, str(when), str(seed)]
        assert subprocess.run(command, check=False).returncode == -signal.SIGKILL, moment
        assert (len(load_file(file)["curve"]) if file.exists() else None) == saved, moment
    unbroken, last = Run(), Run(seed=99)
    assert torch.equal(last.go(file), unbroken.go()) and last.same_as(unbroken)


# The command line


def few_calls(monkeypatch, *, save_every=10):
    """The digits in seconds: two calls for a sample, and checkpoints close together."""
    monkeypatch.setattr(images, "ddpm_draw", partial(images.ddpm_draw, n_calls=2))
    monkeypatch.setattr(base, "fit", partial(training.fit, save_every=save_every))


def run_digits(folder, *, seed=0, steps=25):
    where = ["--device", "cpu", "--out", str(folder), "--seed", str(seed), "--steps", str(steps)]
    return main(["run", "ddpm_digits", *where])


def cut_at(monkeypatch, step):
    """A KeyboardInterrupt in that step of the next training."""
    calls, step_of = iter(range(10**6)), training._State.descend

    def descend(state, value):
        if next(calls) == step:
            monkeypatch.setattr(training._State, "descend", step_of)
            raise KeyboardInterrupt
        step_of(state, value)

    monkeypatch.setattr(training._State, "descend", descend)


def test_an_experiment_cut_short_goes_on_by_the_same_command(tmp_path, monkeypatch, capsys):
    few_calls(monkeypatch)
    cut, whole = tmp_path / "cut", tmp_path / "whole"
    cut_at(monkeypatch, 17)
    with pytest.raises(KeyboardInterrupt):
        run_digits(cut)
    (kept,) = cut.iterdir()
    assert (
        kept.name == "ddpm_digits-seed0-steps25.checkpoint" and len(load_file(kept)["curve"]) == 10
    )
    assert run_digits(cut) == run_digits(whole) == 0
    assert f"going on from {kept}" in capsys.readouterr().out
    a, b = (load_file(folder / "ddpm_digits.safetensors") for folder in (cut, whole))
    assert all(torch.equal(a[name], b[name]) for name in a.keys() | b.keys())
    told = [json.loads((folder / "ddpm_digits.json").read_text()) for folder in (cut, whole)]
    assert told[0]["numbers"] == told[1]["numbers"] and told[0]["steps"] == 25
    assert {path.suffix for path in cut.iterdir()} == {".json", ".png", ".safetensors"}
    with safe_open(cut / "ddpm_digits.safetensors", framework="pt") as weights:
        assert weights.metadata()["recipe"].endswith("ddpm_digits --seed 0 --steps 25")


def test_another_seed_or_length_does_not_go_on_from_that_checkpoint(tmp_path, monkeypatch):
    """The learning rate falls to 0 in the last step, so a longer run is another one."""
    few_calls(monkeypatch)
    for other in ({}, {"seed": 1}, {"steps": 30}):
        cut_at(monkeypatch, 17)
        with pytest.raises(KeyboardInterrupt):
            run_digits(tmp_path, **other)
    curves = [load_file(file)["curve"] for file in sorted(tmp_path.iterdir())]
    assert len(curves) == 3
    assert not any(torch.equal(a, b) for a, b in itertools.combinations(curves, 2))


def test_the_checkpoint_stays_until_the_results_are_written(tmp_path, monkeypatch, capsys):
    few_calls(monkeypatch)

    def no_room(self):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(images.Images, "picture", no_room)
        assert run_digits(tmp_path) == 2
    assert "No space left on device" in capsys.readouterr().err
    assert len(load_file(tmp_path / "ddpm_digits-seed0-steps25.checkpoint")["curve"]) == 25
    monkeypatch.setattr(training._State, "descend", None)  # nothing is trained again
    assert run_digits(tmp_path) == 0


def test_a_damaged_checkpoint_is_one_line_of_the_command(tmp_path, capsys):
    file = tmp_path / "ddpm_digits-seed0-steps25.checkpoint"
    file.write_text("dear diary")
    assert run_digits(tmp_path) == 2
    assert f"sbm_lite: {file} is not a .safetensors file, or is damaged" in capsys.readouterr().err
    assert file.read_text() == "dear diary"


def test_both_curves_of_the_manifold_have_their_checkpoint(tmp_path):
    from sbm_lite.experiments import toys

    pixels, file = data.digits()[:200], tmp_path / "run"
    first = toys.manifold_of(lambda: pixels, base.ScoreMLP, "cpu", 0, 6, file)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "run.noised"]
    again = toys.manifold_of(lambda: pixels, base.ScoreMLP, "cpu", 1, 6, file)
    assert torch.equal(first.raw, again.raw) and torch.equal(first.noised, again.noised)
    assert not torch.equal(first.raw, first.noised)


def test_steps_are_for_what_trains(tmp_path, capsys):
    assert main(["run", "mixing", "--steps", "5", "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err == "sbm_lite: mixing trains nothing, so it has no --steps\n"


# Damaged and foreign files


def pickled(file):
    torch.save(Run().net.state_dict(), file)


def of_another_optimiser(file):
    held = {k: v for k, v in load_file(file).items() if not k.startswith("adam") and k != "digest"}
    held["sgd.0.momentum_buffer"] = torch.zeros(8, 2)
    save_file(held | {"digest": training._digest(held)}, file)


def without(key):
    def take_out(file):
        held = {k: v for k, v in load_file(file).items() if k not in (key, "digest")}
        save_file(held | {"digest": training._digest(held)}, file)

    return take_out


def swapped(file):
    held = load_file(file)
    names = "adam.0.exp_avg", "adam.0.exp_avg_sq"
    save_file(held | dict(zip(names, (held[name] for name in names[::-1]), strict=True)), file)


def unsigned(file):
    save_file({k: v for k, v in load_file(file).items() if k != "digest"}, file)


def flipped(at):
    def flip(file):
        content = bytearray(file.read_bytes())
        content[at] ^= 4
        file.write_bytes(content)

    return flip


def cut_to(share):
    def cut(file):
        content = file.read_bytes()
        file.write_bytes(content[: int(share * len(content))])

    return cut


def a_folder(file):
    file.unlink()
    file.mkdir()


NO_FILE = "is not a .safetensors file, or is damaged: "
DAMAGED = {
    "empty": (lambda file: file.write_bytes(b""), NO_FILE),
    "cut to its head": (cut_to(0.02), NO_FILE),
    "cut in half": (cut_to(0.5), NO_FILE),
    "cut at its end": (cut_to(0.9999), NO_FILE),
    "longer": (lambda file: file.write_bytes(file.read_bytes() + b"\0"), NO_FILE),
    "length flipped": (flipped(0), NO_FILE),
    "last byte flipped": (flipped(-1), "is damaged: its numbers are not those that were saved"),
    "middle byte flipped": (flipped(-2000), "is damaged: its numbers are not those that were"),
    "two moments swapped": (swapped, "is damaged: its numbers are not those that were saved"),
    "text": (lambda file: file.write_text("dear diary"), NO_FILE),
    "pickled": (pickled, NO_FILE),
    "bare pickle": (lambda file: file.write_bytes(pickle.dumps({"net": 1})), NO_FILE),
    "folder": (a_folder, "must be a .safetensors file, got a folder"),
    "weights alone": (
        lambda file: save_file(Run().net.state_dict(), file),
        "must be a checkpoint written by fit",
    ),
    "no digest": (unsigned, "must be a checkpoint written by fit"),
    "another optimiser": (
        of_another_optimiser,
        r"holds another adam: the shape of 0.step is None there and \(\) here",
    ),
    "a moment too few": (
        without("adam.1.exp_avg"),
        r"holds another adam: the shape of 1.exp_avg is None there and \(8,\) here",
    ),
    "a weight too few": (
        without("net.body.0.bias"),
        r"holds another net: the shape of body.0.bias is None there and \(8,\) here",
    ),
}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """The bytes of a good one."""
    file = tmp_path_factory.mktemp("good") / "run.safetensors"
    Run().go(file, n_steps=40)
    return file.read_bytes()


@pytest.mark.parametrize(("damage", "words"), DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_or_foreign_file_is_named_and_left_as_it_is(file, checkpoint, damage, words):
    file.write_bytes(checkpoint)
    damage(file)
    before = file.read_bytes() if file.is_file() else None
    run = Run(seed=5)
    memory = run.everything()
    with pytest.raises(ValueError, match=f"^{file} {words}"):
        run.go(file)
    assert all(map(torch.equal, run.everything(), memory))
    assert (file.read_bytes() if file.is_file() else None) == before
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_no_flipped_byte_goes_unnoticed(checkpoint):
    """All of the head, and every seventh byte of the numbers."""
    state = training._State(Run().net, 130, 0.1, Run().average, generator(0))
    head = 8 + int.from_bytes(checkpoint[:8], "little")
    where = [*range(head), *range(head, len(checkpoint), 7)]
    for at in where:
        spoilt = bytearray(checkpoint)
        spoilt[at] ^= 1 << at % 8
        with pytest.raises(ValueError, match="^run "):
            state.load(Path("run"), bytes(spoilt))
    assert len(where) > 1000


@pytest.mark.parametrize("name", base.NETWORKS)
def test_shipped_weights_load_where_nothing_can_be_unpickled(name, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("unpickled")

    for module, function in (("pickle", "load"), ("pickle", "loads"), ("torch", "load")):
        monkeypatch.setattr(f"{module}.{function}", refuse)
    monkeypatch.setattr("pickle.Unpickler", refuse)
    assert sum(p.numel() for p in experiments.pretrained(name).parameters()) > 1_000
    assert {path.suffix for path in base.WEIGHTS.iterdir()} == {".safetensors"}


def test_weights_of_another_network_or_damaged_ones_are_named(file):
    base.save(networks.ScoreMLP(2, generator=generator(0)), file, "by hand")
    words = r"run.safetensors holds another net: the shape of body.0.weight is \(128, 2\) there"
    with pytest.raises(ValueError, match=words):
        base.load(networks.ScoreMLP(3), file)
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(ValueError, match=f"^{file} {NO_FILE}"):
        base.load(networks.ScoreMLP(2), file)


# Nowhere to write


@contextmanager
def room_for(n_bytes):
    """A disk that takes no file of more than `n_bytes`, for the length of the block."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_reported_before_the_first_step(file, checkpoint):
    """The first checkpoint is as large as any later one, but for the curve."""
    words = f"checkpoint {file} cannot be written at step 0: .*File too large"
    with room_for(len(checkpoint) - 1000), pytest.raises(OSError, match=words):
        Run().go(file, stop=0)
    assert not list(file.parent.iterdir())
    with room_for(len(checkpoint) + 1000), pytest.raises(KeyboardInterrupt):
        Run().go(file, stop=0)


def test_a_disk_that_fills_up_later_leaves_the_last_checkpoint(file):
    run = Run()
    with pytest.raises(KeyboardInterrupt):
        run.go(file, stop=50)
    before = file.read_bytes()
    words = f"checkpoint {file} cannot be written at step 40: "
    with room_for(100), pytest.raises(OSError, match=words):
        Run().go(file)
    assert file.read_bytes() == before and [p.name for p in file.parent.iterdir()] == [file.name]


def test_a_read_only_folder_is_reported_before_the_first_step(file):
    file.parent.chmod(0o555)
    if os.access(file.parent, os.W_OK):
        pytest.skip("this user may write anywhere")
    with pytest.raises(OSError, match="cannot be written at step 0: .*Permission denied"):
        Run().go(file, stop=0)


def test_a_folder_that_cannot_be_made_is_reported_before_the_first_step(file):
    file.touch()
    below = file / "run"
    with pytest.raises(OSError, match=f"checkpoint {below} cannot be written at step 0: "):
        Run().go(below, stop=0)


def test_a_full_disk_is_one_line_of_the_command(tmp_path, capsys):
    with room_for(1000):
        assert main(["run", "mixing", "--out", str(tmp_path / "full")]) == 2
    said = capsys.readouterr().err
    assert said.startswith("sbm_lite: --out must be a folder one can write to, got ")
    assert "File too large" in said and not list((tmp_path / "full").iterdir())


# Chains that diverge


def test_a_reverse_chain_that_diverges_is_named_with_its_step():
    bars, x = noise.alpha_bars(noise.linear_betas(1_000)), torch.zeros(3, 2)
    for sampler in (samplers.ancestral, samplers.ddim):
        words = r"the reverse chain diverged by t = 901, a step of beta = 0.018: "
        with pytest.raises(FloatingPointError, match=words):
            sampler(lambda x, t: 1e3 * (x + 1), x, bars)


def test_a_reverse_chain_far_off_in_its_last_step_is_named():
    bars, x = noise.alpha_bars(noise.linear_betas(5, 0.1, 0.5)), torch.ones(3, 2)
    push = lambda x, t: -1e6 * (t[:, None] == 1) * x  # noqa: E731
    with pytest.raises(FloatingPointError, match="diverged by t = 1, a step of beta = 0.1: "):
        samplers.ancestral(push, x, bars)
    assert samplers.ancestral(lambda x, t: -x, x, bars).isfinite().all()


@pytest.mark.parametrize(
    ("step_size", "words"),
    [(4.1, "step_size = 4.1: steps are stable only below 4 times"), (0.1, None)],
)
def test_a_langevin_chain_that_diverges_names_its_step(step_size, words):
    p = densities.gaussian()
    start = torch.full((5, 2), 2.0)
    run = partial(samplers.langevin, p.score, start, step_size=step_size, n_steps=400)
    if words is None:
        assert run(generator=generator(0)).isfinite().all()
        return
    with pytest.raises(FloatingPointError, match=words):
        run(generator=generator(0))
