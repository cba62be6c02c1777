"""Fitting a network: one loop for every loss of the book.

    rng = generator(0)
    net = ScoreMLP(2, generator=rng)
    curve = fit(net, losses.ism, draws(two_modes(), 128, generator=rng), n_steps=2_000)

A loss that needs noise or slices is passed as a function of the network and the points that draws
them.
"""

import hashlib
import itertools
import math
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from tqdm.auto import tqdm

from sbm_lite import distributed, validation
from sbm_lite.densities import Density
from sbm_lite.runtime import stream

Points = Float[Tensor, "n d"]

LOOK_EVERY = 50  # steps between two looks at the loss, each of which waits for the device


def draws(p: Density, n: int, *, generator: torch.Generator | None = None) -> Iterator[Points]:
    """Batches of n fresh draws from p, without end: data that never repeat."""
    generator = stream(generator)
    validation.count(n, "n")
    validation.function(getattr(p, "sample", None), "the sample of p")
    return (p.sample(n, generator=generator) for _ in itertools.repeat(None))


def minibatches(
    x: Points, n: int, *, generator: torch.Generator | None = None
) -> Iterator[Points]:
    """Batches of n rows of x drawn with replacement, without end: a data set that does repeat."""
    validation.points(x)
    generator = stream(generator, x.device)
    size = (validation.count(n, "n"),)
    row = lambda: torch.randint(len(x), size, generator=generator, device=x.device)  # noqa: E731
    return (x[row()] for _ in itertools.repeat(None))


def fit(
    net: nn.Module,
    loss: Callable[[nn.Module, Points], Float[Tensor, " n"]],
    batches: Iterable[Points],
    *,
    n_steps: int,
    lr: float = 1e-3,
    cosine: bool = False,
    average: AveragedModel | None = None,
    checkpoint: str | os.PathLike | None = None,
    save_every: int = 500,
    generator: torch.Generator | None = None,
) -> Float[Tensor, " t"]:
    """Minimise the mean of `loss(net, x)` over batches x with Adam; return the loss of each step.

    `lr` is the learning rate, with `cosine` lowered to 0 along half a cosine. `average`, an
    `AveragedModel` of the net (for EMA: `get_ema_multi_avg_fn`), is updated after each step.

    With `checkpoint` (a .safetensors file) everything the run needs is saved before the first step,
    every `save_every` steps and at the end; when the file exists, the run goes on from there. Pass
    the `generator` from which batches and loss draw, and the resumed run is the same as an unbroken
    one. Within `distributed.joined` each process takes its rows of the same batches.

    Raises FloatingPointError when a loss or a weight is not finite, ValueError for a bad argument,
    for a checkpoint that is damaged or of another run, or when the batches run out, OSError when
    the checkpoint cannot be written.
    """
    state = _State(net, validation.count(n_steps, "n_steps"), lr, average, generator)
    validation.count(save_every, "save_every")
    if checkpoint:
        state.take_up(Path(checkpoint))
    net.train()
    score = distributed.shared(net)
    silent = os.environ.get("SBM_LITE_PROGRESS") == "0" or distributed.rank() > 0
    with tqdm(total=n_steps, initial=state.step, disable=silent) as bar:
        for x in itertools.islice(batches, n_steps - state.step):
            for group in state.optimizer.param_groups if cosine else ():
                group["lr"] = lr * (1 + math.cos(math.pi * state.step / n_steps)) / 2
            values = loss(score, x)
            if values.ndim != 1:
                raise ValueError(
                    f"loss must give one value per point, shape (n,), got {tuple(values.shape)}"
                )
            state.descend(distributed.mean(values))
            bar.update()
            last = state.step == n_steps
            if state.step % LOOK_EVERY == 0 or last:
                bar.set_postfix(loss=state.look(lr))
            if checkpoint and (state.step % save_every == 0 or last):
                state.look(lr)
                state.save(Path(checkpoint))
    if state.step < n_steps:
        raise ValueError(f"batches must hold {n_steps} batches, they ran out after {state.step}")
    return state.curve


class _State:
    """What a run must remember to go on: weights, optimiser, average, curve, random stream."""

    def __init__(self, net, n_steps, lr, average, generator):
        self.net, self.average, self.generator = net, average, generator
        rate = validation.positive(lr, "lr")
        self.optimizer = torch.optim.Adam(net.parameters(), lr=rate, fused=True)
        for p in filter(lambda p: p.requires_grad, net.parameters()):  # as Adam's first step would
            moments = {key: torch.zeros_like(p) for key in ("exp_avg", "exp_avg_sq")}
            self.optimizer.state[p] = {"step": torch.zeros((), device=p.device)} | moments
        self.curve, self.step = torch.full((n_steps,), torch.nan), 0
        self._recent: list[Tensor] = []

    def descend(self, value: Float[Tensor, ""]) -> None:
        """One step of the optimiser down the loss `value`."""
        self.optimizer.zero_grad()
        value.backward()
        self.optimizer.step()
        if self.average is not None:
            self.average.update_parameters(self.net)
        self._recent.append(value.detach())
        self.step += 1

    def look(self, lr: float) -> float:
        """Write the losses since the last look into the curve; raise if the run has diverged."""
        if self._recent:
            recent = distributed.average(torch.stack(self._recent)).cpu()
            first = self.step - len(recent)
            self.curve[first : self.step] = recent
            self._recent.clear()
            if not bool(recent.isfinite().all()):
                bad = int((~recent.isfinite()).nonzero()[0])
                raise FloatingPointError(
                    f"the loss at step {first + bad} is {float(recent[bad])}: not finite; "
                    f"try a learning rate below lr = {lr:g}"
                )
            if not all(bool(p.isfinite().all()) for p in self.net.parameters()):
                raise FloatingPointError(
                    f"the weights after step {self.step - 1} are not finite; "
                    f"try a learning rate below lr = {lr:g}"
                )
        return float(self.curve[self.step - 1])

    def take_up(self, file: Path) -> None:
        """Go on from the checkpoint, if there is one; show that the next one can be written."""
        content = distributed.told_by_first(lambda: _content(file) if file.exists() else None)
        if content is not None:
            self.load(file, content)
        if self.step < len(self.curve):
            self.save(file)

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """All that a checkpoint holds but the curve, by owner and name."""
        adam = self.optimizer.state_dict()["state"]
        held = {
            "net": self.net.state_dict(),
            "adam": {f"{i}.{k}": v for i, moments in adam.items() for k, v in moments.items()},
        }
        if self.average is not None:
            held["average"] = self.average.state_dict()
        if self.generator is not None:
            held["generator"] = {"state": self.generator.get_state()}
        return held

    def save(self, file: Path) -> None:
        """Write everything to a .safetensors file; an interruption leaves the old one whole."""
        if distributed.rank() > 0:
            return
        tensors = {"curve": self.curve[: self.step].clone()}
        for owner, own in self.tensors().items():
            tensors |= {
                f"{owner}.{k}": v.detach().cpu().clone().contiguous() for k, v in own.items()
            }
        part = Path(f"{file}.part")
        try:
            part.parent.mkdir(parents=True, exist_ok=True)
            part.write_bytes(save(tensors | {"digest": _digest(tensors)}))
            part.replace(file)
        except OSError as error:
            if part.is_file():
                part.unlink()
            raise OSError(
                f"checkpoint {file} cannot be written at step {self.step}: {error}"
            ) from error

    def load(self, file: Path, content: bytes) -> None:
        """Take up the run saved in `file`. Raises ValueError when it is damaged or of another."""
        tensors = _tensors(file, content)
        if not {"curve", "digest"} <= tensors.keys():
            raise ValueError(f"{file} must be a checkpoint written by fit")
        if not torch.equal(tensors.pop("digest"), _digest(tensors)):
            raise ValueError(f"{file} is damaged: its numbers are not those that were saved")
        curve = tensors.pop("curve")
        if len(curve) > len(self.curve):
            raise ValueError(
                f"n_steps must be at least the {len(curve)} steps in {file}, got {len(self.curve)}"
            )
        if self.generator is not None and "generator.state" not in tensors:
            raise ValueError(f"{file} holds no random stream; it was saved without generator=")
        held = {}
        for owner, wanted in self.tensors().items():
            own = {k: v for k, v in tensors.items() if k.startswith(f"{owner}.")}
            held[owner] = {k.removeprefix(f"{owner}."): v for k, v in own.items()}
            same_shapes(file, owner, held[owner], wanted)
        self.net.load_state_dict(held["net"])
        moments: dict[int, dict] = {}
        for name, value in held["adam"].items():
            i, key = name.split(".")
            moments.setdefault(int(i), {})[key] = value
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": moments, "param_groups": groups})
        if self.average is not None:
            self.average.load_state_dict(held["average"])
        if self.generator is not None:
            self.generator.set_state(held["generator"]["state"])
        self.step, self.curve[: len(curve)] = len(curve), curve


def read(file: str | os.PathLike) -> dict[str, Tensor]:
    """The tensors in a .safetensors file, by name. Raises ValueError naming the file if it is none.

    Nothing is unpickled: a file can hold numbers only, and no code.
    """
    return _tensors(Path(file), _content(Path(file)))


def _content(file: Path) -> bytes:
    if file.is_dir():
        raise ValueError(f"{file} must be a .safetensors file, got a folder")
    return file.read_bytes()


def _tensors(file: Path, content: bytes) -> dict[str, Tensor]:
    try:
        return load(content)
    except (SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise ValueError(f"{file} is not a .safetensors file, or is damaged: {error}") from error


def same_shapes(file, owner: str, held: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    """Raise ValueError unless `file` holds what its owner here wants."""
    held, wanted = ({k: tuple(v.shape) for k, v in tensors.items()} for tensors in (held, wanted))
    for k in wanted | held:
        if held.get(k) != wanted.get(k):
            raise ValueError(
                f"{file} holds another {owner}: "
                f"the shape of {k} is {held.get(k)} there and {wanted.get(k)} here"
            )


def _digest(tensors: dict[str, Tensor]) -> Tensor:
    """The SHA-256 of names, types, shapes and numbers, 32 bytes."""
    seen = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        seen.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        seen.update(tensor.flatten().view(torch.uint8).numpy())
    return torch.frombuffer(bytearray(seen.digest()), dtype=torch.uint8)
