"""Argument checks shared by all modules: each says what was given and what is allowed."""

import math

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
