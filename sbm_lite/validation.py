"""Argument checks shared by all modules: each says what was given and what is allowed."""

import math

import torch
from torch import Tensor


def points(x: Tensor, name: str = "x", dim: int | None = None) -> Tensor:
    """Return `x` if it is a non-empty, finite, floating (n, d) tensor (d = `dim` when given)."""
    if not isinstance(x, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor of shape (n, d), got {type(x).__name__}")
    if not x.is_floating_point():
        raise TypeError(f"{name} must have a floating dtype, got {x.dtype}")
    if x.ndim != 2 or 0 in x.shape:
        raise ValueError(f"{name} must have shape (n, d), n and d at least 1, got {tuple(x.shape)}")
    if dim is not None and x.shape[1] != dim:
        raise ValueError(f"{name} must have {dim} coordinates per point, got {x.shape[1]}")
    return finite(x, name)


def finite(x: Tensor, name: str) -> Tensor:
    """Return `x` if every entry is finite (one reduction: a NaN or an infinity spoils the sum)."""
    if not math.isfinite(x.detach().sum().item()) and not bool(x.detach().isfinite().all()):
        raise ValueError(f"{name} must be finite, got NaN or infinite entries")
    return x


def same_shape(a: Tensor, b: Tensor, names: str) -> None:
    """Raise unless the two tensors have one shape."""
    if a.shape != b.shape:
        raise ValueError(
            f"{names} must have the same shape, got {tuple(a.shape)} and {tuple(b.shape)}"
        )


def positive(value: float, name: str) -> float:
    """Return `value` as a float if it is a finite number above 0."""
    number = _number(value, name)
    if not (math.isfinite(number) and number > 0):
        raise ValueError(f"{name} must be a finite number > 0, got {value}")
    return number


def levels(sigma: float | Tensor, x: Tensor, name: str = "sigma") -> Tensor:
    """Noise levels like x: () for one number, (n, 1) for one number per point; all > 0."""
    allowed = f"{name} must be one number or have shape ({len(x)},)"
    try:
        column = torch.as_tensor(sigma, dtype=x.dtype, device=x.device)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"{allowed}, got {sigma!r}") from error
    if column.shape not in ((), x.shape[:1]):
        raise ValueError(f"{allowed}, got {tuple(column.shape)}")
    if column.ndim == 0:
        positive(column.item(), name)
        return column
    if not bool((finite(column, name) > 0).all()):
        raise ValueError(f"{name} must be > 0 everywhere, got {column.min().item()}")
    return column[:, None]


def ladder(sigmas: Tensor | list[float], name: str = "sigmas") -> list[float]:
    """Return noise levels as floats if they are finite, positive and strictly decreasing."""
    try:
        values = torch.as_tensor(sigmas, dtype=torch.float64, device="cpu")
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"{name} must be a list or tensor of numbers, got {sigmas!r}") from error
    if values.ndim != 1 or len(values) == 0:
        raise ValueError(f"{name} must have shape (L,), L at least 1, got {tuple(values.shape)}")
    if not bool((finite(values, name) > 0).all() and (values.diff() < 0).all()):
        raise ValueError(f"{name} must be > 0 and strictly decreasing, got {values.tolist()}")
    return values.tolist()


def alpha_bars(values: Tensor) -> Tensor:
    """Return ᾱ_1 … ᾱ_T, a (T,) tensor, if they are within (0, 1) and strictly decreasing."""
    if not isinstance(values, Tensor):
        raise TypeError(f"alpha_bars must be a torch.Tensor, got {type(values).__name__}")
    if values.ndim != 1 or len(values) == 0:
        raise ValueError(f"alpha_bars must have shape (T,), got {tuple(values.shape)}")
    inside = bool(((values > 0) & (values < 1)).all())
    if not (inside and bool((values.diff() < 0).all())):
        raise ValueError("alpha_bars must be strictly decreasing within (0, 1)")
    return values


def steps(t: int | Tensor, last: int, x: Tensor) -> Tensor:
    """Time steps beside x as int64, one whole number or shape (n,), each from 1 to `last`."""
    allowed = "t must be a whole number or a tensor of them"
    try:
        t = torch.as_tensor(t, device=x.device)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"{allowed}, got {t!r}") from error
    if t.is_floating_point() or t.dtype == torch.bool:
        raise TypeError(f"{allowed}, got {t.dtype}")
    if t.shape not in ((), x.shape[:1]):
        raise ValueError(f"t must be one number or have shape ({len(x)},), got {tuple(t.shape)}")
    if not bool(((t >= 1) & (t <= last)).all()):
        raise ValueError(f"t must be from 1 to {last}, got {int(t.min())} to {int(t.max())}")
    return t.long()


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
    return value


def _number(value: float, name: str) -> float:
    """`value` as a float: a Python number or a tensor with one entry."""
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"{name} must be one number, got {value!r}") from error
