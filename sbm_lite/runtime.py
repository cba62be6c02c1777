"""Where the numbers live and where the randomness comes from."""

import torch


def device(name: str = "auto") -> torch.device:
    """The device called `name`; "auto" picks cuda, then mps, then cpu.

    Raises ValueError when torch does not know the name or the machine lacks the device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if _has_mps() else "cpu"
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(
            f"device must be 'auto' or one this machine has (such as 'cpu'), got {name!r}"
        ) from error


def generator(seed: int | None = None, device: torch.device | str = "cpu") -> torch.Generator:
    """A fresh random stream on `device`: from `seed`, or from the operating system if None."""
    if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int)):
        raise TypeError(f"seed must be a whole number or None, got {type(seed).__name__}")
    stream = torch.Generator(device)
    if seed is None:
        stream.seed()
        return stream
    return stream.manual_seed(seed)


def _has_mps() -> bool:
    return torch.backends.mps.is_available()
