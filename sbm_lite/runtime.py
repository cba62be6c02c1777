"""Where the numbers live and where the randomness comes from."""

import torch


def device(name: str = "auto") -> torch.device:
    """The device called `name`; "auto" picks cuda, then mps, then cpu.

    Raises ValueError when torch does not know the name or the machine lacks the device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if _has_mps() else "cpu"
    allowed = "device must be 'auto' or one this machine has (such as 'cpu')"
    if not isinstance(name, str | torch.device):
        raise TypeError(f"{allowed}, got {name!r}")
    try:
        made = torch.zeros((), device=name)
        made.item()  # "meta" makes tensors, too, but without numbers
        return made.device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(f"{allowed}, got {name!r}") from error


def generator(seed: int | None = None, device: torch.device | str = "cpu") -> torch.Generator:
    """A fresh random stream on `device`: from `seed`, or from the operating system if None."""
    if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int)):
        raise TypeError(f"seed must be a whole number or None, got {type(seed).__name__}")
    if seed is not None and not -(2**63) <= seed < 2**64:
        raise ValueError(f"seed must be from -2**63 to 2**64 - 1, got {seed}")
    try:
        stream = torch.Generator(torch.device(device))
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"device must be one this machine has, got {device!r}") from error
    if seed is None:
        stream.seed()
        return stream
    return stream.manual_seed(seed)


def stream(given: torch.Generator | None, device: torch.device | None = None) -> torch.Generator:
    """`given` if it is a random stream of the `device`, or of any if None; a fresh one if None."""
    if given is None:
        return generator(None, device or "cpu")
    if not isinstance(given, torch.Generator):
        raise TypeError(f"generator must be a torch.Generator or None, got {given!r}")
    if device is not None and given.device not in (device, torch.device(device.type)):
        raise ValueError(f"generator must be on {device}, as the points are, got {given.device}")
    return given


def _has_mps() -> bool:
    return torch.backends.mps.is_available()
