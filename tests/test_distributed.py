"""Two real processes, started by torchrun, beside one with the same global batch."""

import os
import subprocess
import sys
from pathlib import Path

import over_processes
import pytest
import torch
from safetensors.torch import load_file

from sbm_lite import distributed, runtime
from sbm_lite.__main__ import main

ROOT = Path(__file__).parents[1]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def torchrun(*command):
    """Two processes; (status, stdout, stderr). SIGTERM makes torchrun end what it started."""
    quiet = {"OMP_NUM_THREADS": "1", "SBM_LITE_PROGRESS": "0", "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [*TORCHRUN, *map(str, command)], env=os.environ | quiet, cwd=ROOT,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as running:  # fmt: skip
        try:
            out, err = running.communicate(timeout=150)
        except subprocess.TimeoutExpired:
            running.terminate()
            raise
    return running.returncode, out, err


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("two")


@pytest.fixture(scope="module")
def said(folder):
    """What two processes print; what they find lies in `folder`."""
    over_processes.cut_at_ten(folder / "ten")
    status, out, err = torchrun("tests/over_processes.py", folder)
    assert status == 0, err[-3000:]
    assert "Warning" not in err
    return out.splitlines()


@pytest.fixture(scope="module")
def two(said, folder):
    """What each of them found."""
    return [torch.load(folder / f"{rank}.pt") for rank in (0, 1)]


def test_two_processes_are_one_group(two):
    assert [each["size"] for each in two] == [2, 2]


ALIKE = {  # in double precision, but for "single"
    "ncsn": (over_processes.unet, {}),
    "odd": (over_processes.unet, {"n": 7}),
    "ddpm": (over_processes.unet, {"level": over_processes.toys.ddpm_loss}),
    "single": (over_processes.unet, {"dtype": torch.float32}),
    "slices": (over_processes.several_slices, {}),
}


@pytest.mark.parametrize(("train", "options"), ALIKE.values(), ids=ALIKE)
def test_two_processes_train_the_network_of_one(two, train, options, request):
    """Losses to 10⁻⁵, as they are kept in single precision; weights trained in double to 10⁻⁹.

    In single precision Adam makes whole steps of gradients that are rounding and nothing else.
    """
    name = request.node.callspec.id
    curve, weights = train(**options)
    for each in two:
        theirs, their_weights = each[name]
        assert torch.allclose(theirs, curve, rtol=1e-5, atol=0)  # the curve is kept in float32
        if name != "single":
            assert torch.allclose(their_weights, weights, rtol=1e-9, atol=1e-9)
    assert torch.equal(two[0][name][1], two[1][name][1])


def test_a_checkpoint_of_one_process_is_taken_up_by_two(two):
    curve, weights = over_processes.unet()
    theirs, their_weights = two[0]["longer"]
    assert torch.equal(theirs[:10], curve[:10])
    assert torch.allclose(theirs, curve, rtol=1e-5)
    assert torch.allclose(their_weights, weights, rtol=1e-9, atol=1e-9)


def test_a_checkpoint_of_two_processes_is_taken_up_by_one(two, folder):
    assert len(load_file(folder / "made here")["curve"]) == 10
    curve, weights = over_processes.unet(file=folder / "made here", seed=5)
    unbroken, their_weights = over_processes.unet()
    assert torch.allclose(curve, unbroken, rtol=1e-5)
    assert torch.allclose(their_weights, weights, rtol=1e-9, atol=1e-9)


def test_chains_are_dealt_out_with_streams_of_their_own(two):
    (x, after), (same, same_after) = (each["chains"] for each in two)
    assert x.shape == (1_001, 2) and torch.equal(x, same) and torch.equal(after, same_after)
    assert len(x.unique(dim=0)) == len(x)  # no chain twice
    first, second = x[:500].flatten(), x[501:1_001].flatten()
    correlation = torch.corrcoef(torch.stack([first, second]))[0, 1]
    assert abs(correlation) < 4.5 / 1_000**0.5
    for half in (first, second):
        assert abs(half.mean()) < 4.5 / 1_000**0.5
        assert abs(half.var() - 1) < 4.5 * (2 / 1_000) ** 0.5


def test_a_loss_gone_wrong_in_one_process_stops_both_with_the_same_words(two):
    words = "the loss at step 7 is nan: not finite; try a learning rate below lr = 0.001"
    assert [each["spoilt"] for each in two] == [words] * 2 == [over_processes.spoilt()] * 2


def test_a_batch_with_fewer_rows_than_processes_is_refused(two):
    words = "1 rows cannot be dealt out to 2 processes; start fewer"
    assert [each["too few"] for each in two] == [words] * 2
    assert over_processes.too_few() is None


def test_the_first_speaks_for_all(two):
    assert [each["first"] for each in two] == [b"0", b"0"]
    assert [each["loaded"].sum() for each in two] == [2, 2]


def test_the_first_alone_prints_and_writes(said, folder):
    assert said[0] == "ddpm_digits on cpu, seed 0, 2 processes"
    assert sum("wrote ddpm_digits.json" in line for line in said) == 1 and len(said) == 6
    written = sorted(path.suffix for path in (folder / "out").iterdir())
    assert written == [".json", ".png", ".safetensors"]


def test_an_experiment_of_one_process_says_so():
    status, _, err = torchrun("-m", "sbm_lite", "run", "mixing", "--device", "cpu")
    words = "sbm_lite: mixing runs in one process; in several run ncsn_digits, ddpm_digits"
    assert status != 0 and words in err


# One process, where each function does nothing


def test_one_process_joins_nothing(monkeypatch):
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    net = torch.nn.Linear(2, 2)
    with distributed.joined("cpu") as device:
        assert device == runtime.device("cpu") and not torch.distributed.is_initialized()
        assert (distributed.size(), distributed.rank()) == (1, 0)
    assert distributed.shared(net) is net and distributed.rows(5) == slice(0, 5)
    values = torch.tensor([1.0, 4.0, 4.0])
    assert distributed.mean(values) == 3 and distributed.average(values) is values
    assert distributed.told_by_first(lambda: None) is None
    assert distributed.after_first(lambda: values) is values
    rng = runtime.generator(0)
    assert distributed.chains(lambda n, given: (n, given), 7, rng) == (7, rng)


def test_a_device_on_which_processes_cannot_work_together_is_refused(monkeypatch, capsys):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    monkeypatch.setattr(runtime, "device", lambda name: torch.device("mps"))
    assert main(["run", "ddpm_digits"]) == 2
    words = "sbm_lite: device must be cpu or cuda under torchrun, got mps\n"
    assert capsys.readouterr().err == words
