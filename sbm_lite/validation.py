"""Argument checks shared by all modules: each says what was given and what is allowed."""

import math

import torch
from torch import Tensor

REACH = 1e12  # the largest number there is for us: its cube is still a float32 number


def points(x: Tensor, name: str = "x", dim: int | None = None) -> Tensor:
    """Return `x` if it is a non-empty, finite, floating (n, d) tensor (d = `dim` when given)."""
    return finite(rows(x, name, dim), name)


def rows(x: Tensor, name: str = "x", dim: int | None = None) -> Tensor:
    """As `points`, but whatever the numbers are: to look at them is to wait for the device."""
    floats(x, name, "(n, d)")
    if x.ndim != 2 or 0 in x.shape:
        raise ValueError(f"{name} must have shape (n, d), n and d at least 1, got {tuple(x.shape)}")
    if dim is not None and x.shape[1] != dim:
        raise ValueError(f"{name} must have {dim} coordinates per point, got {x.shape[1]}")
    return x


def floats(x: Tensor, name: str, shape: str) -> Tensor:
    """Return `x` if it is a tensor of float32 or float64 numbers; `shape` is for the message."""
    if not isinstance(x, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor of shape {shape}, got {type(x).__name__}")
    if x.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"{name} must have a floating dtype, float32 or float64, got {x.dtype}")
    if x.is_meta or x.layout != torch.strided:
        raise TypeError(f"{name} must hold its numbers, got a tensor that is meta or sparse")
    return x


def finite(x: Tensor, name: str) -> Tensor:
    """Return `x` if no entry is NaN or beyond `REACH` (one reduction: the norm tells of most)."""
    if not x.detach().norm().item() <= REACH and not bool((x.detach().abs() <= REACH).all()):
        if not bool(x.detach().isfinite().all()):
            raise ValueError(f"{name} must be finite, got NaN or infinite entries")
        raise ValueError(
            f"{name} must be at most {REACH:g} in size, got {float(x.detach().abs().max()):g}"
        )
    return x


def finite_score(s: Tensor, x: Tensor) -> Tensor:
    """Return `s`, computed as the score at x, if it is finite, and thereby x was."""
    if not math.isfinite(s.detach().norm().item()) and not bool(s.detach().isfinite().all()):
        finite(x, "x")
        raise ValueError("x must lie where the score is finite, got points too far out for it")
    return s


def same_shape(a: Tensor, b: Tensor, names: str) -> None:
    """Raise unless the two are tensors of one shape."""
    shapes = [tuple(t.shape) if isinstance(t, Tensor) else type(t).__name__ for t in (a, b)]
    if shapes[0] != shapes[1] or not isinstance(a, Tensor):
        raise ValueError(f"{names} must have the same shape, got {shapes[0]} and {shapes[1]}")


def tensor(value: Tensor, name: str) -> Tensor:
    """Return `value` if it is a tensor."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(value).__name__}")
    return value


def per_point(values: Tensor, x: Tensor, name: str) -> Tensor:
    """Return `values` if they are one number per point, a tensor of shape (n,)."""
    if tensor(values, name).shape != x.shape[:1]:
        got = tuple(values.shape)
        raise ValueError(f"{name} must be one number per point, shape ({len(x)},), got {got}")
    return values


def real(value: float, name: str) -> float:
    """Return `value` as a float if it is a finite number of at most `REACH` in size."""
    number = _number(value, name)
    if not abs(number) <= REACH:
        raise ValueError(f"{name} must be a finite number, at most {REACH:g} in size, got {value}")
    return number


def positive(value: float, name: str) -> float:
    """Return `value` as a float if it is a finite number above 0."""
    number = _number(value, name)
    if not (math.isfinite(number) and number > 0):
        raise ValueError(f"{name} must be a finite number > 0, got {value}")
    return number


def scale(value: float, name: str) -> float:
    """As `positive`, for widths and steps: not so small or large that a formula overflows."""
    number = positive(value, name)
    if not 1 / REACH <= number <= REACH:
        raise ValueError(f"{name} must be between {1 / REACH:g} and {REACH:g}, got {value}")
    return number


def numbers(values, name: str) -> Tensor:
    """Return numbers, lists of them or a tensor as a float64 tensor on the CPU."""
    try:
        given = torch.as_tensor(values, device="cpu")
        if given.dtype == torch.bool or given.is_complex():
            raise TypeError(given.dtype)
        if isinstance(values, Tensor):
            return given.double()
        return torch.as_tensor(values, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise TypeError(f"{name} must be a list or tensor of numbers, got {values!r}") from error


def levels(sigma: float | Tensor, x: Tensor, name: str = "sigma") -> Tensor:
    """Noise levels like x: () for one number, (n, 1) for one number per point; all > 0."""
    allowed = f"{name} must be one number or have shape ({len(x)},)"
    try:
        given = torch.as_tensor(sigma)
        if given.dtype == torch.bool or given.is_complex() or given.is_meta:
            raise TypeError(given.dtype)
        column = torch.as_tensor(sigma, dtype=x.dtype, device=x.device)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise TypeError(f"{allowed}, got {sigma!r}") from error
    if column.shape not in ((), x.shape[:1]):
        raise ValueError(f"{allowed}, got {tuple(column.shape)}")
    if column.ndim == 0:
        scale(column.item(), name)
        return column
    if not bool((finite(column, name) >= 1 / REACH).all()):
        least = column.min().item()
        bound = f"at least {1 / REACH:g}" if least > 0 else "> 0"
        raise ValueError(f"{name} must be {bound} everywhere, got {least}")
    return column[:, None]


def ladder(sigmas: Tensor | list[float], name: str = "sigmas") -> list[float]:
    """Return noise levels as floats if they are finite, positive and strictly decreasing."""
    values = numbers(sigmas, name).detach()
    if values.ndim != 1 or len(values) == 0:
        raise ValueError(f"{name} must have shape (L,), L at least 1, got {tuple(values.shape)}")
    if not bool((finite(values, name) > 0).all() and (values.diff() < 0).all()):
        raise ValueError(f"{name} must be > 0 and strictly decreasing, got {values.tolist()}")
    scale(float(values[-1]), name)
    return values.tolist()


def alpha_bars(values: Tensor) -> Tensor:
    """Return ᾱ_1 … ᾱ_T, a (T,) tensor, if they are within (0, 1) and strictly decreasing."""
    floats(values, "alpha_bars", "(T,)")
    if values.ndim != 1 or len(values) == 0:
        raise ValueError(f"alpha_bars must have shape (T,), got {tuple(values.shape)}")
    rounded = values.float()  # as points in float32 will see them
    inside = bool(((rounded > 1 / REACH) & (rounded < 1)).all())
    if not (inside and bool((values.diff() < 0).all())):
        raise ValueError("alpha_bars must be strictly decreasing within (0, 1)")
    return values


def steps(t: int | Tensor, last: int, x: Tensor) -> Tensor:
    """Time steps beside x as int64, one whole number or shape (n,), each from 1 to `last`."""
    t = _whole(t, "t").to(x.device)
    if t.shape not in ((), x.shape[:1]):
        raise ValueError(f"t must be one number or have shape ({len(x)},), got {tuple(t.shape)}")
    return _within(t, last, "t")


def times(given: Tensor | list[int], last: int) -> list[int]:
    """Return the steps a reverse chain visits: whole, strictly decreasing, from `last` at most."""
    steps = _whole(given, "times")
    if steps.ndim != 1 or len(steps) == 0 or not bool((steps.diff() < 0).all()):
        raise ValueError(f"times must be strictly decreasing, got {steps.tolist()}")
    return _within(steps, last, "times").tolist()


def weights(w: Tensor) -> Tensor:
    """Return `w` if it is (K,), positive, and sums to 1."""
    if w.ndim != 1 or not bool((w > 0).all()) or abs(float(w.sum()) - 1) > 1e-6:
        raise ValueError(f"weights must be > 0 and sum to 1, got {w.tolist()}")
    return w


def count(value: int, name: str) -> int:
    """Return `value` if it is a whole number of at least 1."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be a whole number, got {type(value).__name__}")
    if value < 1:
        raise ValueError(f"{name} must be at least 1, got {value}")
    if value >= 2**31:
        raise ValueError(f"{name} must be below {2**31:,}, got {value}")
    return value


def choice(value, allowed, name: str):
    """Return `value` if it is one of `allowed`."""
    if not isinstance(value, str) or value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(map(str, allowed))}, got {value!r}")
    return value


def function(value, name: str):
    """Return `value` if it can be called."""
    if not callable(value):
        raise TypeError(f"{name} must be a function or a network, got {type(value).__name__}")
    return value


def _number(value: float, name: str) -> float:
    """`value` as a float: a Python number or a tensor with one entry."""
    try:
        if isinstance(value, str | bytes | bool):
            raise TypeError(type(value))
        return float(value)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise TypeError(f"{name} must be one number, got {value!r}") from error


def _whole(t: int | Tensor, name: str) -> Tensor:
    """Whole numbers as an int64 tensor."""
    allowed = f"{name} must be a whole number or a tensor of them"
    try:
        t = torch.as_tensor(t)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise TypeError(f"{allowed}, got {t!r}") from error
    whole = not (t.is_floating_point() or t.is_complex() or t.dtype == torch.bool)
    if t.is_meta or not (whole or t.numel() == 0):
        raise TypeError(f"{allowed}, got {t.dtype}")
    return t.long()


def _within(t: Tensor, last: int, name: str) -> Tensor:
    """Return `t` if all its steps are from 1 to `last`."""
    if not bool(((t >= 1) & (t <= last)).all()):
        raise ValueError(f"{name} must be from 1 to {last}, got {int(t.min())} to {int(t.max())}")
    return t
