"""Fitting a network: one loop for every loss of the book.

    rng = generator(0)
    net = ScoreMLP(2, generator=rng)
    curve = fit(net, losses.ism, draws(two_modes(), 128, generator=rng), n_steps=2_000)

A loss that needs noise or slices is passed as a function of the network and the points that draws
them.
"""

import itertools
import math
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from tqdm.auto import tqdm

from sbm_lite import validation
from sbm_lite.densities import Density
from sbm_lite.runtime import generator as fresh_generator

Points = Float[Tensor, "n d"]

LOOK_EVERY = 50  # steps between two looks at the loss, each of which waits for the device


def draws(p: Density, n: int, *, generator: torch.Generator | None = None) -> Iterator[Points]:
    """Batches of n fresh draws from p, without end: data that never repeat."""
    generator = generator or fresh_generator()
    validation.count(n, "n")
    return (p.sample(n, generator=generator) for _ in itertools.repeat(None))


def minibatches(
    x: Points, n: int, *, generator: torch.Generator | None = None
) -> Iterator[Points]:
    """Batches of n rows of x drawn with replacement, without end: a data set that does repeat."""
    validation.points(x)
    generator = generator or fresh_generator(None, x.device)
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

    With `checkpoint` (a .safetensors file) everything the run needs is saved every `save_every`
    steps and at the end; when the file exists, the run goes on from there. Pass the `generator`
    from which batches and loss draw, and the resumed run is the same as an unbroken one.

    Raises FloatingPointError when a loss or a weight is not finite, ValueError for a bad argument,
    or when the batches run out.
    """
    state = _State(net, validation.count(n_steps, "n_steps"), lr, average, generator)
    validation.count(save_every, "save_every")
    if checkpoint and Path(checkpoint).exists():
        state.load(checkpoint)
    net.train()
    silent = os.environ.get("SBM_LITE_PROGRESS") == "0"
    with tqdm(total=n_steps, initial=state.step, disable=silent) as bar:
        for x in itertools.islice(batches, n_steps - state.step):
            for group in state.optimizer.param_groups if cosine else ():
                group["lr"] = lr * (1 + math.cos(math.pi * state.step / n_steps)) / 2
            values = loss(net, x)
            if values.ndim != 1:
                raise ValueError(
                    f"loss must give one value per point, shape (n,), got {tuple(values.shape)}"
                )
            state.descend(values.mean())
            bar.update()
            last = state.step == n_steps
            if state.step % LOOK_EVERY == 0 or last:
                bar.set_postfix(loss=state.look(lr))
            if checkpoint and (state.step % save_every == 0 or last):
                state.look(lr)
                state.save(checkpoint)
    if state.step < n_steps:
        raise ValueError(f"batches must hold {n_steps} batches, they ran out after {state.step}")
    return state.curve


class _State:
    """What a run must remember to go on: weights, optimiser, average, curve, random stream."""

    def __init__(self, net, n_steps, lr, average, generator):
        self.net, self.average, self.generator = net, average, generator
        rate = validation.positive(lr, "lr")
        self.optimizer = torch.optim.Adam(net.parameters(), lr=rate, fused=True)
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
            recent = torch.stack(self._recent).cpu()
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

    def save(self, file: str | os.PathLike) -> None:
        """Write everything to a .safetensors file; an interruption leaves the old one whole."""
        tensors = {"curve": self.curve[: self.step]}
        for name, module in (("net", self.net), ("average", self.average)):
            if module is not None:
                tensors |= {f"{name}.{k}": v for k, v in module.state_dict().items()}
        for i, moments in self.optimizer.state_dict()["state"].items():
            tensors |= {f"adam.{i}.{k}": v for k, v in moments.items()}
        if self.generator is not None:
            tensors["generator"] = self.generator.get_state()
        part = Path(f"{file}.part")
        part.parent.mkdir(parents=True, exist_ok=True)
        save_file({k: v.detach().clone().contiguous() for k, v in tensors.items()}, part)
        part.replace(file)

    def load(self, file: str | os.PathLike) -> None:
        """Take up the run saved in `file`. Raises ValueError when it is of another one."""
        try:
            tensors = load_file(file)
            step = len(tensors["curve"])
        except (SafetensorError, KeyError) as error:
            raise ValueError(f"{file} must be a checkpoint written by fit") from error
        if step > len(self.curve):
            raise ValueError(
                f"n_steps must be at least the {step} steps in {file}, got {len(self.curve)}"
            )
        if self.generator is not None and "generator" not in tensors:
            raise ValueError(f"{file} holds no random stream; it was saved without generator=")
        under = lambda name: {  # noqa: E731
            k.removeprefix(f"{name}."): v for k, v in tensors.items() if k.startswith(f"{name}.")
        }
        modules = {"net": self.net} | ({} if self.average is None else {"average": self.average})
        for name, module in modules.items():
            held, wanted = _shapes(under(name)), _shapes(module.state_dict())
            for k in wanted | held:
                if held.get(k) != wanted.get(k):
                    raise ValueError(
                        f"{file} holds another {name}: "
                        f"the shape of {k} is {held.get(k)} there and {wanted.get(k)} here"
                    )
        for name, module in modules.items():
            module.load_state_dict(under(name))
        moments: dict[int, dict] = {}
        for name, value in under("adam").items():
            i, key = name.split(".")
            moments.setdefault(int(i), {})[key] = value
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": moments, "param_groups": groups})
        if self.generator is not None:
            self.generator.set_state(tensors["generator"])
        self.step, self.curve[:step] = step, tensors["curve"]


def _shapes(tensors: dict[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """The shape of each tensor by name."""
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}
