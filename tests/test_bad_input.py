"""Malformed input at every public function: a clear error, or a right and finite answer.

A function is called with one argument spoilt and all others valid. A spoilt value is

    wrong     it must be refused, by an error of one of `CLEAR`, raised in the package itself (not
              deep inside torch), whose message names the argument
    dressed   the same numbers in other clothes (a view, a leaf, a 0-d tensor): the same answer
    extreme   legal but far out, or perhaps not legal: refused in the same way, or answered without
              NaN; an infinity only where float64 says that the answer is beyond float32

Functions and arguments come from the package by introspection: a new function is tried as soon as
it exists, and fails here if one of its arguments has a name for which there is no valid example.

Two things are not refused, on purpose. A network passes NaN on, for to look at numbers is to wait
for the device at every layer: the row with the NaN comes out as NaN, all others as ever. And what
the caller's own function returns is the caller's: only its shape is looked at.
"""

import importlib
import inspect
import pkgutil
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
import traitlets
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from torch import nn

import sbm_lite
from sbm_lite import (
    calculus,
    data,
    densities,
    distributed,
    explorables,
    figures,
    labs,
    losses,
    networks,
    noise,
    training,
)
from sbm_lite.__main__ import main
from sbm_lite.experiments import EVERY, pretrained
from sbm_lite.runtime import generator

HERE = str(Path(sbm_lite.__file__).parent)
CLEAR = (ValueError, TypeError, FloatingPointError)
SECONDS = 10  # for one call; more is a hang
tried: dict[str, int] = {}  # by what became of them


class Spoilt(NamedTuple):
    """A value in place of a valid one."""

    how: str  # wrong, dressed or extreme
    what: str
    value: object


# --- valid examples, by the name of the argument --------------------------------------------------
def normal(*shape):
    return torch.randn(*shape, generator=generator(7))


def bell(x):
    """An unnormalised log density, steeper than a Gaussian's."""
    return -(x**2).sum(1) / 2 - torch.log1p((x**2).sum(1))


def field(x, *_):
    return -x - 0.1 * torch.tanh(x)


class Body(nn.Module):
    """A network-like thing (x, told) → (n, d)."""

    def forward(self, x, *_):
        return field(x)


P = densities.GaussianMixture(
    [0.3, 0.7], [[-1.0, 0.0], [1.0, 0.5]], [[[0.5, 0.2], [0.2, 0.4]], [[1.2, -0.3], [-0.3, 0.8]]]
)
NET = networks.ScoreMLP(2, 4, generator=generator(0))
BARS = torch.tensor([0.9, 0.5, 0.1])
EXAMPLES = {  # argument → kind, and a function that makes a fresh one
    **{name: ("points", lambda: normal(3, 2)) for name in "x epsilon v s z target y".split()},
    **{name: ("points", lambda: normal(3, 2)) for name in "x_noisy denoised centres g h".split()},
    "path": ("points", lambda: normal(5, 2)),
    "values": ("series", lambda: normal(5)),
    "sigma": ("level", lambda: 0.5),
    "alpha_bar": ("level", lambda: 0.5),
    "t": ("step", lambda: 2),
    **{name: ("positive", lambda: 0.5) for name in "step_size std radius turns scale".split()},
    **{name: ("positive", lambda: 0.5) for name in "step limit width thickness".split()},
    "bend": ("real", lambda: 0.5),
    "beta": ("real", lambda: 0.5),
    **{name: ("count", lambda: 4) for name in "n n_steps every dim n_components depth".split()},
    **{name: ("count", lambda: 4) for name in ("n_in", "n_out")},
    "generator": ("generator", lambda: generator(0)),
    "score": ("field", lambda: field),
    "f": ("field", lambda: field),
    "log_prob": ("log density", lambda: bell),
    "alpha_bars": ("alpha_bars", BARS.clone),
    "betas": ("bars", lambda: torch.tensor([0.1, 0.3, 0.2])),
    "times": ("times", lambda: torch.tensor([3, 1])),
    "weights": ("weights", lambda: [0.25, 0.75]),
    "means": ("means", lambda: [[0.0, 1.0], [2.0, 3.0]]),
    "covariances": ("covariances", lambda: torch.eye(2).expand(2, 2, 2).tolist()),
    "stds": ("stds", lambda: [0.5, 2.0]),
    "sigmas": ("ladder", lambda: [2.0, 1.0, 0.5]),
    **{name: ("network", Body) for name in ("epsilon_net", "denoiser", "body", "net")},
    "energy": ("network", lambda: nn.Sequential(nn.Linear(2, 1))),
    "shape": ("shape", lambda: (1, 4, 4)),
    "seed": ("seed", lambda: 3),
    "device": ("device", lambda: "cpu"),
}
SPECIAL = {  # where a name means something else
    "GaussianMixture.posterior": {"x_noisy": ("means", lambda: [0.5, -1.0]), "sigma": "positive"},
    "GaussianMixture.diffused": {"alpha_bar": "positive"},
    "GaussianMixture.smoothed": {"sigma": "positive"},
    "kernel_density": {"sigma": "positive"},
    "Gaussian": {"sigma": "positive"},
    "Mixture": {"sigmas": ("stds", lambda: [0.5, 2.0])},
    "geometric_sigmas": {
        "first": ("positive", lambda: 2.0),
        "last": ("positive", lambda: 0.5),
    },
    "linear_betas": {"first": ("positive", lambda: 0.1), "last": ("positive", lambda: 0.5)},
    "sigma_from_alpha_bar": {"alpha_bar": ("any shape", lambda: torch.tensor([[0.5, 0.1]]))},
    "alpha_bar_from_sigma": {"sigma": ("any shape", lambda: torch.tensor([[0.5, 2.0]]))},
    "value_and_pull_back": {"f": ("any field", lambda: field)},
    "mlp": {"width": "count"},
    "sinusoidal": {"width": "count", "t": ("told", lambda: normal(3))},
    "TimeMLP.forward": {"t": ("told", lambda: normal(3))},
    "UNet": {"width": ("count", lambda: 8)},
    "UNet.forward": {"x": ("points", lambda: normal(3, 16)), "t": ("told", lambda: normal(3))},
    **{name: {"width": "count"} for name in ("ScoreMLP", "NoiseConditionalMLP", "TimeMLP")},
    "EpsilonScore": {"epsilon": ("network", Body)},
    "DdpmScore": {"epsilon": ("network", Body)},
    "per_sample_gradients": {
        "net": ("network", lambda: NET),
        "loss": ("loss", lambda: losses.ism),
        "batch": ("points", lambda: normal(3, 2)),
    },
    "device": {"name": ("device", lambda: "cpu")},
    "stream": {
        "given": ("generator", lambda: generator(0)),
        "device": ("kept", lambda: torch.device("cpu")),
    },
}
INSTANCES = {  # what methods are called on
    "GaussianMixture": lambda: P,
    "Banana": densities.Banana,
    "Gaussian": lambda: noise.Gaussian(0.5),
    "Laplace": lambda: noise.Laplace(0.5),
    "Mixture": lambda: noise.Mixture([0.3, 0.7], [0.2, 1.0]),
    "ScoreMLP": lambda: NET,
    "NoiseConditionalMLP": lambda: networks.NoiseConditionalMLP(2, 4, generator=generator(0)),
    "TimeMLP": lambda: networks.TimeMLP(2, 4, generator=generator(0)),
    "UNet": lambda: networks.UNet((1, 4, 4), 8, generator=generator(0)),
    "EnergyScore": lambda: networks.EnergyScore(bell),
    "EpsilonScore": lambda: networks.EpsilonScore(Body()),
    "DenoiserScore": lambda: networks.DenoiserScore(Body()),
    "NoiseConditional": lambda: networks.NoiseConditional(Body()),
    "DdpmScore": lambda: networks.DdpmScore(Body(), BARS),
}
MADE = {  # functions that return a function, and that function called
    "calculus.score_of": lambda log_prob, x: calculus.score_of(log_prob)(x),
    "noise.ve_score": lambda score, alpha_bars, x, sigma: noise.ve_score(score, alpha_bars)(
        x, sigma
    ),
    "noise.vp_score": lambda score, alpha_bars, x, t: noise.vp_score(score, alpha_bars)(x, t),
}
ELSEWHERE = {  # modules whose functions have a test of their own below, or in another file
    "validation": "every check of it is reached through the functions that make it",
    "experiments": "test_experiments_refuse",
    "explorables": "test_explorables_refuse",
    "labs": "test_labs_refuse",
    "figures": "test_figures_refuse",
    "data": "test_data_refuses",
    "training": "test_training_refuses",
    "distributed": "test_distributed_refuses",
}
INFINITE = {"variance.noise_scale"}  # as its docstring says
BLIND = (  # see the shape of x, and not its numbers: networks, and what stands in a sampler's loop
    "networks.", "noise.alpha_bar_at", "noise.ve_score", "noise.vp_score",
    "calculus.value_and_pull_back",
)  # fmt: skip


# --- what to spoil a value with -------------------------------------------------------------------
NOT_NUMBERS = [None, "0.5", "small", True, [[1.0]], 1j, object(), b"1", {}]
NOT_POSITIVE = [0, 0.0, -1, -0.5, float("nan"), float("inf"), -float("inf"), *NOT_NUMBERS]
FAR = [1e30, 1e-30, 5e-324, 1e308, 1e12, 1e-12, 1e6, 1e-6]
DTYPES = [torch.int64, torch.bool, torch.complex64, torch.float16, torch.bfloat16, torch.uint8]


def with_entry(x, value):
    """A copy of x whose first number is another."""
    y = x.clone()
    y.view(-1)[0] = value
    return y


def spoilt_points(x):
    wrong = {
        "None": None, "a number": 1.5, "words": "x", "a list": x.tolist(), "an array": x.numpy(),
        "no axis": x.sum(), "one more axis": x[None], "no points": x[:0], "sparse": x.to_sparse(),
        "meta": x.to("meta"),
    }  # fmt: skip
    wrong |= {str(dtype): x.to(dtype) for dtype in DTYPES}
    bad = [float("nan"), float("inf"), -float("inf")]
    wrong |= {f"an entry {value}": with_entry(x, value) for value in bad}
    dressed = {
        "strided": torch.stack([x, x], -1)[..., 0], "a leaf": x.clone().requires_grad_(),
        "a parameter": nn.Parameter(x.clone()),
    }  # fmt: skip
    extreme = {f"all {value}": torch.full_like(x, value) for value in (*FAR[1:3], *FAR[4:], 0.0)}
    extreme |= {f"an entry {value}": with_entry(x, value) for value in (1e30, -3e38)}
    extreme |= {f"times {value}": x * value for value in (1e-40, 1e-30, 1e-12, 1e11)}
    extreme |= {"float64": x.double(), "fewer": x[:2], "one": x[:1]}
    if x.ndim == 2:
        wrong |= {"one axis less": x[0], "no coordinates": x[:, :0]}
        dressed["transposed twice"] = x.T.contiguous().T
        extreme["one coordinate"] = x[:, :1]
    return wrong, dressed, extreme


def spoilt_any(x):
    """Positive numbers whose shape does not matter."""
    wrong, dressed, _ = spoilt_points(x)
    wrong = {k: v for k, v in wrong.items() if "ax" not in k and " no " not in f" {k}"}
    return wrong | {f"an entry {v}": with_entry(x, v) for v in (0.0, -1.0)}, dressed, {}


def spoilt_scalar(value, wrong=NOT_POSITIVE):
    wrong = {repr(bad)[:20]: bad for bad in wrong}
    wrong |= {"two of them": torch.tensor([1.0, 2.0]), "meta": torch.tensor(1.0, device="meta")}
    wrong |= {"a tensor of NaN": torch.tensor(float("nan"))}
    dressed = {"0-d": torch.tensor(value), "numpy": np.float64(value)}
    return wrong, dressed, {f"{far}": far for far in FAR}


def spoilt_level(value):
    wrong, dressed, extreme = spoilt_scalar(value)
    rows = torch.full((3,), value)
    wrong |= {
        "a column": rows[:, None], "bools": rows.bool(), "complex": rows + 1j,
        "per point meta": rows.to("meta"), "no levels": rows[:0],
    }  # fmt: skip
    bad = [0.0, -1.0, float("nan"), float("inf"), 1e30, 1e-30]
    wrong |= {f"an entry {value}": with_entry(rows, value) for value in bad}
    dressed |= {"per point": rows, "a list": rows.tolist(), "a leaf": rows.requires_grad_()}
    return wrong, dressed, extreme


def spoilt_count(value):
    bad = [0, -1, -(2**70), 1.5, float(value), float("nan"), float("inf"), 2**31, 2**70, [value]]
    return spoilt_scalar(value, [*bad, *NOT_NUMBERS])[0], {}, {"1": 1, "2": 2, "7": 7}


def spoilt_step(value):
    bad = [0, -1, 4, 1.5, float("nan"), 2**70, -(2**70), None, "2", True, 1j, [[1]], object()]
    wrong = {repr(v)[:20]: v for v in bad}
    wrong |= {"floats": torch.tensor([1.0, 2.0, 3.0]), "two": torch.tensor([1, 2])}
    wrong |= {"bools": torch.tensor([True] * 3), "meta": torch.ones(3, device="meta").long()}
    wrong |= {"past the end": torch.tensor([1, 2, 4]), "before": torch.tensor([0, 1, 2])}
    dressed = {"0-d": torch.tensor(value), "per point": torch.full((3,), value)}
    dressed |= {"int32": torch.full((3,), value, dtype=torch.int32), "numpy": np.int64(value)}
    return wrong, dressed, {"1": 1, "3": 3}


def spoilt_told(t):
    wrong = {"None": None, "words": "x", "a number": 1.0, "a list": t.tolist(), "no axis": t.sum()}
    wrong |= {"a column": t[:, None], "complex": t + 1j, "meta": t.to("meta")}
    extreme = {"1e6": t + 1e6, "0": 0 * t, "integers": t.long(), "bools": t.bool()}
    return wrong, {"strided": torch.stack([t, t], 1)[:, 0]}, extreme


def spoilt_numbers(values):
    wrong = {repr(v)[:20]: v for v in (None, "abc", object(), {}, 1j, ["a"], [[0.0], [1.0, 2.0]])}
    tensor = torch.tensor(values)
    wrong |= {"bools": tensor.bool(), "complex": tensor + 1j, "meta": tensor.to("meta")}
    wrong |= {"no numbers": [], "twice": [values, values]}
    bad = [float("nan"), float("inf"), -float("inf"), 1e30]
    wrong |= {f"an entry {value}": with_entry(tensor, value) for value in bad}
    dressed = {"a tensor": tensor, "an array": np.array(values), "float64": tensor.double()}
    return wrong, dressed, {}


def spoilt_weights(values):
    wrong, dressed, extreme = spoilt_numbers(values)
    bad = [[0.5, 0.6], [0.0, 1.0], [-0.5, 1.5], [1.0], [0.25, 0.25, 0.5], 1.0, [2.0, 3.0]]
    return wrong | {str(v): v for v in bad}, dressed, {"uneven": [1e-7, 1 - 1e-7]}


def spoilt_covariances(values):
    wrong, dressed, extreme = spoilt_numbers(values)
    for what, one in {
        "slanted": [[1.0, 0.5], [0.0, 1.0]], "indefinite": [[1.0, 2.0], [2.0, 1.0]],
        "singular": [[1.0, 1.0], [1.0, 1.0]], "negative": [[-1.0, 0.0], [0.0, -1.0]],
        "zero": [[0.0, 0.0], [0.0, 0.0]], "flat": [[1.0, 0.0], [0.0, 1e-60]],
    }.items():  # fmt: skip
        wrong[what] = [values[0], one]
    wrong |= {"variances": [1.0, 1.0], "one for all": values[0]}
    extreme = {f"times {far}": (far * torch.tensor(values).double()).tolist() for far in FAR}
    return wrong, dressed, extreme


def spoilt_stds(values):
    wrong, dressed, extreme = spoilt_numbers(values)
    bad = [[0.5, 0.0], [0.5, -1.0], [1.0, 1.0, 1.0], [1.0, 1e-30], [1e30, 1.0]]
    return wrong | {str(v): v for v in bad}, dressed, {str(v): [0.5, v] for v in FAR}


def spoilt_ladder(values):
    wrong, dressed, extreme = spoilt_numbers(values)
    bad = [[1.0, 2.0], [1.0, 1.0], [1.0, 0.0], [1.0, -1.0], [2.0, 1.0, 1.5], 1.0, [1.0, 1e-30]]
    return wrong | {str(v): v for v in bad}, dressed, {"one": [0.5], "far": [1e2, 1e-2]}


def spoilt_bars(values):
    wrong = {"None": None, "a list": values.tolist(), "words": "x", "a number": 0.5}
    wrong |= {str(dtype): values.to(dtype) for dtype in DTYPES} | {"meta": values.to("meta")}
    wrong |= {"no steps": values[:0], "a table": values[None], "0-d": values[0]}
    bad = [float("nan"), float("inf"), 0.0, 1.0, -0.1, 1.5]
    wrong |= {f"an entry {value}": with_entry(values, value) for value in bad}
    return wrong, {"strided": torch.stack([values, values], 1)[:, 0]}, {"float64": values.double()}


def spoilt_alpha_bars(values):
    wrong, dressed, extreme = spoilt_bars(values)
    wrong |= {"rising": values.flip(0), "constant": 0 * values + 0.5}
    wrong["1 in float32"] = torch.tensor([1 - 1e-12, 0.5, 0.1], dtype=torch.float64)
    return wrong, dressed, extreme | {"nearly all": torch.tensor([0.999999, 0.5, 1e-6])}


def spoilt_times(values):
    bad = [[1, 3], [2, 2], [3, 0], [4, 1], [], [1.5], [[3, 1]], "x", 2, [True], 1j, [2**70]]
    wrong = {str(v): v for v in bad} | {"floats": values.float(), "meta": values.to("meta")}
    wrong["bools"] = torch.tensor([True, False])
    return wrong, {"a list": values.tolist(), "int32": values.int()}, {"one": [2]}


def spoilt_generator(_):
    bad = [0, 1, -1, True, False, "cpu", 1.5, np.random.default_rng(0), torch, []]
    return {repr(v)[:20]: v for v in bad}, {}, {}


def spoilt_field(f):
    wrong = {"None": None, "a number": 3.0, "words": "f", "a tensor": torch.ones(3, 2)}
    wrong |= {
        "half a vector": lambda x, *_: f(x)[:, :1], "one number": lambda x, *_: f(x).sum(1),
        "a sum": lambda x, *_: f(x).sum(), "nothing": lambda x, *_: None, "3": lambda x, *_: 3.0,
        "more points": lambda x, *_: torch.cat([f(x), f(x)]),
    }  # fmt: skip
    return wrong, {"a module": Body()}, {}


def spoilt_log_density(f):
    wrong = {"None": None, "a number": 3.0, "words": "f", "a vector": lambda x: x}
    wrong |= {"a sum": lambda x: f(x).sum(), "a column": lambda x: f(x)[:, None]}
    wrong |= {"nothing": lambda x: None}
    return wrong, {}, {}


def spoilt_network(_):
    return {repr(v): v for v in (None, 3.0, "net", [])}, {}, {}


def spoilt_shape(_):
    bad = [None, 3, "abc", (1, 4), (1, 4, 4, 4), (1, 3, 4), (1, 4, 0), (0, 4, 4), (1, -4, 4)]
    bad += [(1.0, 4, 4), (1, 4.0, 4), ("1", "4", "4"), (True, 4, 4), (2**40, 4, 4)]
    return {str(v): v for v in bad}, {"a list": [1, 4, 4]}, {}


def spoilt_seed(_):
    bad = [1.5, "7", True, float("nan"), [1], 2**64, -(2**63) - 1, 10**30, torch.tensor(1)]
    return {repr(v)[:20]: v for v in bad}, {}, {"most": 2**64 - 1, "least": -(2**63), "None": None}


def spoilt_device(_):
    bad = ["abacus", "", "cuda:99", "meta", "cpu:x", None, 1.5, 7, True, [], "CPU "]
    extreme = {"auto": "auto", "mps": "mps"}
    return {repr(v): v for v in bad}, {"a device": torch.device("cpu")}, extreme


SPOILT = {
    "points": spoilt_points, "series": spoilt_points, "any shape": spoilt_any,
    "level": spoilt_level, "step": spoilt_step, "told": spoilt_told,
    "positive": spoilt_scalar,
    "real": lambda v: spoilt_scalar(v, [*NOT_POSITIVE[4:], 1e30, -1e30]),
    "count": spoilt_count, "generator": spoilt_generator, "seed": spoilt_seed,
    "device": spoilt_device, "field": spoilt_field, "any field": lambda f: (spoilt_network(f)),
    "log density": spoilt_log_density, "network": spoilt_network, "loss": spoilt_network,
    "bars": spoilt_bars, "alpha_bars": spoilt_alpha_bars, "times": spoilt_times,
    "weights": spoilt_weights, "means": spoilt_numbers, "covariances": spoilt_covariances,
    "stds": spoilt_stds, "ladder": spoilt_ladder, "shape": spoilt_shape,
    "kept": lambda _: ({}, {}, {}),
}  # fmt: skip


# --- the public functions, and what became of a call ----------------------------------------------
def public() -> Iterator[tuple[str, str, object]]:
    """(module, name, function) for each public function, class and method of the package."""
    for found in pkgutil.iter_modules(sbm_lite.__path__):
        if found.name == "__main__" or found.name in ELSEWHERE:
            continue
        module = importlib.import_module(f"sbm_lite.{found.name}")
        for name, thing in vars(module).items():
            if not _public(name) or getattr(thing, "__module__", None) != module.__name__:
                continue
            if inspect.isfunction(thing):
                yield found.name, name, thing
            elif inspect.isclass(thing) and not inspect.isabstract(thing) and not _is_tuple(thing):
                yield found.name, name, thing
                yield from methods(found.name, thing)


def _public(name: str) -> bool:
    return name[0] != "_" and "__mutmut" not in name  # which are the copies that `mutmut` plants


def methods(module: str, cls: type) -> Iterator[tuple[str, str, object]]:
    """Its public methods, inherited ones of the package with them, bound to an example."""
    for name, member in inspect.getmembers(cls, callable):
        home = inspect.getmodule(inspect.unwrap(member)) if inspect.isroutine(member) else None
        if _public(name) and home and home.__name__.startswith("sbm_lite."):
            bound = (lambda cls=cls, name=name: getattr(INSTANCES[cls.__name__](), name))()
            yield module, f"{cls.__name__}.{name}", bound


def _is_tuple(thing) -> bool:
    return issubclass(thing, tuple)


FUNCTIONS = {f"{module}.{name}": f for module, name, f in public()} | MADE


def example(function: str, argument: str):
    """Kind and maker of a valid value."""
    special = SPECIAL.get(function.split(".", 1)[1], {}).get(argument)
    if special is None and argument not in EXAMPLES:
        pytest.fail(f"{function}: EXAMPLES has no valid {argument!r}; add one")
    if isinstance(special, str):
        return special, {"count": lambda: 4, "positive": lambda: 0.5}[special]
    return special or EXAMPLES[argument]


def arguments(function: str) -> list[str]:
    return list(inspect.signature(FUNCTIONS[function]).parameters)


def call(function: str, argument: str | None = None, value=None, convert=lambda x: x):
    """What the function gives back with valid arguments, or with one of them replaced."""
    f, positional, named = FUNCTIONS[function], [], {}
    for name, parameter in inspect.signature(f).parameters.items():
        one = value if name == argument else convert(example(function, name)[1]())
        if parameter.kind == parameter.KEYWORD_ONLY:
            named[name] = one
        else:
            positional.append(one)
    result = f(*positional, **named)
    return next(result) if isinstance(result, Iterator) else result


def numbers(result) -> list[torch.Tensor]:
    """The tensors in a result."""
    if isinstance(result, torch.Tensor):
        return [result.detach()]
    if isinstance(result, bool | int | float):
        return [torch.tensor(float(result))]
    if isinstance(result, tuple | list):
        return [tensor for part in result for tensor in numbers(part)]
    if isinstance(result, nn.Module):
        return [p.detach() for p in result.state_dict().values()]
    if isinstance(result, densities.GaussianMixture):
        return [result.weights, result.means, result.covariances]
    return []


def said_clearly(error: Exception, argument: str, others=()) -> str:
    """What is wrong with the words or the place of an error, or nothing."""
    frames = inspect.getinnerframes(error.__traceback__)
    if not isinstance(error, CLEAR):
        return f"{type(error).__name__}: {error}"
    if not frames[-1].filename.startswith(HERE):
        return f"raised in {frames[-1].filename}: {error}"
    names = (*ALIASES.get(argument, (argument,)), *others)
    says = any(re.search(rf"\b{re.escape(name)}\b", str(error)) for name in names)
    line = " ".join(frames[-1].code_context or [])
    if "not callable" in str(error) and f"{argument}(" in line:
        return ""
    return "" if says else f"does not name {argument}: {error}"


ALIASES = {  # what a message calls the argument
    "score": ("score", "f", "s"),
    "batch": ("batch", "x"),
    "weights": ("weights", "sigmas"),  # one as long as the other
    "given": ("generator",),
    "name": ("name", "device"),
    "log_prob": ("log_prob",),
    "n": ("n", "n**dim"),
}


class Hang(Exception):
    """A call that took too long."""


@pytest.fixture
def clock():
    """A bell that rings in a call which takes longer than SECONDS."""

    def ring(*_):
        raise Hang(f"no answer after {SECONDS} s")

    before = signal.signal(signal.SIGALRM, ring)
    yield lambda: signal.setitimer(signal.ITIMER_REAL, SECONDS)
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def faults(function: str, argument: str, spoilt: Spoilt, wind) -> str:
    """What is wrong with the answer to a spoilt argument, or nothing."""
    wind()
    try:
        result = numbers(call(function, argument, spoilt.value))
    except Hang as hang:
        return str(hang)
    except Exception as error:  # noqa: BLE001
        count("refused")
        if spoilt.how == "dressed":
            return f"refused: {error}"
        return said_clearly(error, argument, arguments(function) * (spoilt.how == "extreme"))
    count("answered")
    if function.startswith(BLIND) and spoilt.what.startswith("an entry"):
        return unlike(
            *([r[1:] if r.ndim else r for r in a] for a in (result, numbers(call(function))))
        )
    if spoilt.how == "wrong":
        return f"taken for valid: {[tuple(r.shape) for r in result]}"
    if any(bool(r.isnan().any()) for r in result):
        return "a silent NaN"
    if any(bool(r.isinf().any()) for r in result) and function not in INFINITE:
        return too_small(function, argument, spoilt, result)
    if spoilt.how == "dressed":
        return unlike(result, numbers(call(function)))
    return ""


def unlike(result, plain) -> str:
    """How two answers differ that should be one."""
    if any(p.ndim and r.shape != p.shape for r, p in zip(result, plain, strict=True)):
        return f"shapes {[tuple(r.shape) for r in result]}, not {[tuple(p.shape) for p in plain]}"
    close = [
        torch.allclose(r.double(), p.double(), 1e-5, 1e-6)
        for r, p in zip(result, plain, strict=True)
    ]
    return "" if all(close) else f"{result}, not {plain}"


def too_small(function: str, argument: str, spoilt: Spoilt, result) -> str:
    """Nothing if what is infinite in float32 is beyond it in float64."""
    wide = lambda x: x.double() if isinstance(x, torch.Tensor) and x.is_floating_point() else x  # noqa: E731
    exact = numbers(call(function, argument, wide(spoilt.value), wide))
    most = torch.finfo(torch.float32).max
    right = [
        bool((e[r.isinf()].abs() > 0.99 * most).all()) for r, e in zip(result, exact, strict=True)
    ]
    return "" if all(right) else f"a silent infinity, {exact} in float64"


def count(what: str) -> None:
    tried[what] = tried.get(what, 0) + 1


def spoil(kind: str, value) -> list[Spoilt]:
    """All that is done to a value of a kind."""
    groups = zip(("wrong", "dressed", "extreme"), SPOILT[kind](value), strict=True)
    return [Spoilt(how, what, bad) for how, group in groups for what, bad in group.items()]


PAIRS = [(f, a) for f in FUNCTIONS for a in arguments(f)]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_valid_arguments_are_valid(function):
    result = numbers(call(function))
    assert all(bool(r.isfinite().all()) for r in result)


@pytest.mark.parametrize(("function", "argument"), PAIRS, ids=lambda x: x)
def test_a_spoilt_argument_is_refused_in_words_or_answered(function, argument, clock):
    kind, make = example(function, argument)
    wrong = {
        f"{spoilt.how}, {spoilt.what}": said
        for spoilt in spoil(kind, make())
        if (said := faults(function, argument, spoilt, clock))
    }
    assert not wrong, "\n".join(f"{k}: {v}" for k, v in wrong.items())


# --- values that nobody thought of ----------------------------------------------------------------
NUMBERS = st.floats() | st.floats(-1e3, 1e3) | st.floats(width=32) | st.integers(-5, 40)
ODD = st.none() | st.booleans() | st.text(max_size=3) | st.complex_numbers() | st.integers(2**31)


@st.composite
def tensors(draw):
    """Any small shape and dtype; one number throughout, or another in one place."""
    shape = draw(st.sampled_from([(3, 2)] * 4 + [(3,), (2,), (), (2, 2), (2, 2, 2), (0, 2)]))
    dtype = draw(st.sampled_from([torch.float32] * 4 + [torch.float64] * 2 + DTYPES))
    x = normal(shape) * draw(st.sampled_from([1.0, 1e-3, 1e3])) + draw(st.floats(width=32))
    if x.numel() and draw(st.booleans()):
        x.view(-1)[draw(st.integers(0, x.numel() - 1))] = draw(st.floats(width=32))
    return x.to(dtype)


VALUES = NUMBERS | ODD | tensors() | st.lists(NUMBERS, max_size=4) | st.lists(st.lists(NUMBERS))


@pytest.mark.filterwarnings("ignore:.*(invalid|overflow) value.*cast:RuntimeWarning")
@pytest.mark.parametrize("function", FUNCTIONS)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_value_at_all_is_refused_in_words_or_answered(function, clock, data):
    names = [name for name in arguments(function) if example(function, name)[0] != "kept"]
    if not names:
        return
    argument = data.draw(st.sampled_from(names), "argument")
    value = data.draw(VALUES, "value")
    known = not isinstance(value, torch.Tensor) or bool((value.cfloat().abs() <= 1e12).all())
    if function.startswith(BLIND) and argument in ("x", "t") and not known:
        return
    assert not faults(function, argument, Spoilt("extreme", "drawn", value), clock)


# --- experiments, labs, explorables: refused before anything is done ---------------------------
NO_CHOICE = ["nonesuch", None, 3, "", ["a"], True]
NO_SEED = [1.5, "7", True, 2**64, 10**30]
NO_COUNT = [0, -1, 1.5, float("nan"), "3", None, True, 2**70]
NO_SCALE = [0, -1.0, float("nan"), float("inf"), "0.5", None, True, 1e30, 1e-30, 1j, [1.0, 2.0]]
NO_DEVICE = ["abacus", "cuda:99", "meta", None, 7]


def refusals(f, valid: dict, argument: str, values, wind) -> dict:
    """What is wrong with the refusals of bad values, and those that are taken for valid."""
    wrong = {}
    for value in values:
        wind()
        try:
            f(**valid | {argument: value})
            wrong[repr(value)] = "taken for valid"
        except Exception as error:  # noqa: BLE001
            count("refused")
            if said := said_clearly(error, argument):
                wrong[repr(value)] = said
    return wrong


OF_EXPERIMENTS = {
    "device": NO_DEVICE, "seed": NO_SEED, "n_steps": NO_COUNT, "n": NO_COUNT, "sigma": NO_SCALE,
    "sigmas": [(), None, (0.0,), (float("nan"),), "x", (0.1, -1.0)],
}  # fmt: skip


@pytest.mark.parametrize("name", EVERY)
def test_experiments_refuse(name, clock, monkeypatch):
    """Before anything is fetched, too."""
    for images in ("mnist", "cifar10"):
        monkeypatch.setattr(data, images, lambda: pytest.fail("fetched"))
    f = EVERY[name]
    told = [argument for argument in inspect.signature(f).parameters if argument in OF_EXPERIMENTS]
    assert {"device", "seed"} <= set(told)
    for argument in told:
        values = OF_EXPERIMENTS[argument]
        assert not refusals(f, {"device": "cpu"}, argument, values, clock), argument


def test_pretrained_refuses(clock):
    assert not refusals(pretrained, {}, "name", NO_CHOICE, clock)


OF_LABS = {
    **dict.fromkeys("density method data law form loss kernel".split(), NO_CHOICE),
    **dict.fromkeys("sign sampler schedule".split(), NO_CHOICE),
    **dict.fromkeys("n n_levels n_calls n_steps width n_chains n_draws dim".split(), NO_COUNT),
    **dict.fromkeys("n_training n_slices batch".split(), NO_COUNT),
    **dict.fromkeys("sigma first_sigma last_sigma step_size proposal_std".split(), NO_SCALE),
    "seed": NO_SEED, "device": NO_DEVICE,
}  # fmt: skip
LABS = [name for name in labs.__all__ if name.endswith("_lab")]


@pytest.mark.parametrize("make", LABS)
def test_labs_refuse(make, clock, monkeypatch):
    """Each argument of each experiment, the others as its panel first shows them."""
    monkeypatch.setattr(labs.Lab, "run", lambda self, change=None: None)
    panel = getattr(labs, make)()
    valid = {name: control.value for name, control in panel.controls.items()}
    assert set(valid) == set(inspect.signature(panel.experiment).parameters)
    wrong = {name: refusals(panel.experiment, valid, name, OF_LABS[name], clock) for name in valid}
    assert not {name: said for name, said in wrong.items() if said}


def extremes(cls) -> dict[str, list]:
    """The ends of each trait's range, and each item of each menu."""
    ends = {}
    for name, trait in cls().traits(sync=True).items():
        if isinstance(trait, traitlets.Enum):
            ends[name] = list(trait.values)
        elif getattr(trait, "min", None) is not None:
            ends[name] = [trait.min, trait.max]
    return ends


@pytest.mark.parametrize("cls", explorables.EVERY)
def test_explorables_refuse(cls, clock):
    for name, ends in extremes(cls).items():
        trait = cls().traits()[name]
        bad = [None, "nonesuch", [1], 1j]
        if not isinstance(trait, traitlets.Enum):
            bad += [ends[0] - 1, ends[1] + 1, float("inf"), 10**30]
            bad += [float("nan")] if isinstance(trait, traitlets.Float) else [1.5]
        for value in bad:
            clock()
            count("refused")
            with pytest.raises(traitlets.TraitError, match=rf"\b{name}\b"):
                cls(**{name: value})
                raise AssertionError(f"{name} = {value!r} is taken for valid")


@pytest.mark.parametrize("cls", explorables.EVERY)
def test_posters_at_the_ends_of_every_slider(cls, clock):
    """No warning, no error with all sliders at their least, or all at their most."""
    ends = extremes(cls)
    corners = [{name: pair[i] for name, pair in ends.items()} for i in (0, -1)]
    for corner in corners:
        clock()
        count("answered")
        assert cls(**corner).poster()


def test_what_explorables_are_made_of_refuses(clock):
    none = [None, 3, "nonesuch", "../stage", ""]
    assert not refusals(explorables.as_module, {}, "name", none, clock)
    valid = {"mixture": densities.two_modes(), "limit": 8}
    assert not refusals(explorables.describe, valid, "mixture", [None, 3, "x", NET], clock)
    assert not refusals(explorables.describe, valid, "limit", NO_SCALE, clock)


# --- figures, data, training, the command line ----------------------------------------------------
LINE, PLANE = np.linspace(-1.0, 1.0, 9), normal(9, 2).numpy()
NO_LINE = [None, "x", LINE[:-1], np.append(LINE[:-1], np.nan), LINE + 1j, [[1], 2]]
NO_PLANE = [None, "x", LINE, PLANE[:, :1], PLANE[None], PLANE * np.nan, PLANE * 1j, PLANE[:0]]
NO_ROLE = ["nonesuch", None, 3]
GRID = np.stack(np.meshgrid(LINE[::4], LINE[::4]), -1).reshape(9, 2)
OF_FIGURES = {  # valid arguments, and bad values of some
    "heat": ({"points": GRID, "values": LINE**2}, {"points": NO_PLANE, "values": NO_LINE}),
    "arrows": (
        {"points": PLANE, "vectors": PLANE},
        {"points": NO_PLANE, "vectors": NO_PLANE, "role": NO_ROLE},
    ),
    "cloud": (
        {"points": PLANE, "limit": 2.0},
        {"points": NO_PLANE[:-1], "role": NO_ROLE, "limit": [-1.0, float("nan"), "x", 1e300]},
    ),
    "trajectory": ({"path": PLANE}, {"path": NO_PLANE, "role": NO_ROLE}),
    "curve": (
        {"x": LINE, "y": LINE},
        {"x": NO_LINE[:2] + NO_LINE[3:], "y": NO_LINE, "role": NO_ROLE},
    ),
    "measured": (
        {"x": LINE, "y": LINE, "error": LINE**2},
        {"y": NO_LINE, "error": NO_LINE, "role": NO_ROLE},
    ),
    "gif": (
        {"path": PLANE[None], "limit": 2.0},
        {"path": [None, "x", PLANE, PLANE[None] * np.nan], "limit": NO_SCALE},
    ),
    "film": (
        {"path": PLANE[None], "limit": 2.0, "alt": "dots"},
        {"path": [None, "x", PLANE, PLANE[None] * np.nan], "limit": NO_SCALE},
    ),
    "image_grid": (
        {"images": PLANE, "shape": (1, 1, 2)},
        {"images": NO_PLANE, "shape": [(1, 0, 2), (1, 2, 2.0)], "columns": NO_COUNT},
    ),
}
OUTSIDE = {"use_style", "png", "html_image"}  # take nothing, a finished figure, finished bytes


@pytest.mark.parametrize("name", OF_FIGURES)
def test_figures_refuse(name, clock):
    valid, spoilt = OF_FIGURES[name]
    if name not in ("gif", "film"):
        valid = {"ax": Figure().add_subplot()} | valid
    f = getattr(figures, name)
    f(**valid)
    wrong = {one: refusals(f, valid, one, values, clock) for one, values in spoilt.items()}
    assert not {name: said for name, said in wrong.items() if said}


def test_every_figure_is_tried():
    drawn = {n for n, f in vars(figures).items() if inspect.isfunction(f) and n[0] != "_"}
    assert drawn == set(OF_FIGURES) | OUTSIDE


def test_data_refuses(clock, tmp_path):
    """A folder that is a file, and no folder at all, before anything is fetched."""
    file = tmp_path / "file"
    file.write_text("not a folder")
    for load in (data.mnist, data.cifar10):
        assert not refusals(load, {}, "folder", [file, 3, 1.5, b"\0", ["x"], "\0"], clock)


OF_TRAINING = {
    "draws": ({"p": P, "n": 4}, {"p": [None, 3, NET], "n": NO_COUNT, "generator": [0, 1, "cpu"]}),
    "minibatches": (
        {"x": normal(3, 2), "n": 4},
        {"x": [None, 3, normal(3), normal(0, 2)], "n": NO_COUNT, "generator": [0, 1, "cpu"]},
    ),
    "fit": (
        {"net": NET, "loss": losses.ism, "batches": [normal(3, 2)] * 3, "n_steps": 2},
        {"n_steps": NO_COUNT, "lr": NO_SCALE[:7], "save_every": NO_COUNT, "batches": [[], ()]},
    ),
}


@pytest.mark.parametrize("name", OF_TRAINING)
def test_training_refuses(name, clock):
    valid, spoilt = OF_TRAINING[name]
    f = getattr(training, name)
    wrong = {one: refusals(f, valid, one, values, clock) for one, values in spoilt.items()}
    assert not {name: said for name, said in wrong.items() if said}


OF_DISTRIBUTED = {
    "joined": (
        lambda device: distributed.joined(device).__enter__(),
        {"device": "cpu"},
        {"device": ["", "abacus", "cuda:99", "meta", None, 3]},
    ),
    "rows": (distributed.rows, {"n": 3}, {"n": NO_COUNT}),
    "chains": (
        distributed.chains,
        {"draw": lambda n, rng: torch.randn(n, 2, generator=rng), "n": 3, "generator": None},
        {"draw": [None, 3], "n": NO_COUNT, "generator": [0, 1, "cpu"]},
    ),
}


@pytest.mark.parametrize("name", OF_DISTRIBUTED)
def test_distributed_refuses(name, clock):
    """What is handed in from outside; the rest of the module is between `fit` and itself."""
    f, valid, spoilt = OF_DISTRIBUTED[name]
    wrong = {one: refusals(f, valid, one, values, clock) for one, values in spoilt.items()}
    assert not {name: said for name, said in wrong.items() if said}


BAD_LINES = {  # what is typed, and a word of the answer
    "no verb": ([], "verb"), "another verb": (["walk"], "walk"), "no name": (["run"], "name"),
    "another name": (["run", "nonesuch"], "nonesuch"), "an empty name": (["run", ""], "''"),
    "another device": (["run", "mixing", "--device", "abacus"], "device"),
    "an empty device": (["run", "mixing", "--device", ""], "device"),
    "no such device": (["run", "mixing", "--device", "cuda:99"], "device"),
    "meta": (["run", "mixing", "--device", "meta"], "device"),
    "half a seed": (["run", "mixing", "--seed", "1.5"], "--seed"),
    "seed in words": (["run", "mixing", "--seed", "lucky"], "--seed"),
    "a seed too large": (["run", "mixing", "--seed", str(2**64)], "seed"),
    "a seed too small": (["run", "mixing", "--seed", str(-(2**64))], "seed"),
    "half a step": (["run", "ddpm_digits", "--steps", "1.5"], "--steps"),
    "no step": (["run", "ddpm_digits", "--steps", "0"], "steps"),
    "an empty seed": (["run", "mixing", "--seed", ""], "--seed"),
    "out is a file": (["run", "mixing", "--out", __file__], "--out"),
    "out is in a file": (["run", "mixing", "--out", f"{__file__}/x"], "--out"),
    "out holds a zero": (["run", "mixing", "--out", "a\0b"], "--out"),
    "another option": (["run", "mixing", "--fast"], "--fast"),
}  # fmt: skip


@pytest.mark.parametrize(("typed", "word"), BAD_LINES.values(), ids=BAD_LINES)
def test_the_command_line_refuses(typed, word, capsys, clock, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    clock()
    count("refused")
    try:
        status = main(typed)
    except SystemExit as left:  # argparse
        status = left.code
    told = capsys.readouterr()
    assert status == 2 and word in told.err.splitlines()[-1] and "Traceback" not in told.err


def test_nothing_was_left_out():
    """After all others: how much was tried. Every module of the package is seen to somewhere."""
    found = {module.name for module in pkgutil.iter_modules(sbm_lite.__path__)} - {"__main__"}
    seen = {name.split(".")[0] for name in FUNCTIONS}
    assert found == seen | set(ELSEWHERE) and not seen & set(ELSEWHERE)
    print(f"{len(FUNCTIONS)} functions and methods, {len(PAIRS)} arguments; {tried}")
