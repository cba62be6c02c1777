"""One training over several processes, started by `torchrun`: batches and chains are dealt out.

    torchrun --nproc-per-node 2 -m sbm_lite run ddpm_digits

Every process draws the same batches and the same noise and sends its own rows of them through the
network; DistributedDataParallel adds the gradients up. So one process and many train the same
network, up to rounding. In one process each function here does nothing.
"""

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from sbm_lite import runtime, validation

Points = Float[Tensor, "n d"]

PATIENCE = timedelta(hours=1)  # what the others wait while one process downloads a data set


def size() -> int:
    """How many processes work together: 1 unless within `joined` under torchrun."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """The number of this process, from 0; the first one prints and writes."""
    return dist.get_rank() if size() > 1 else 0


@contextmanager
def joined(device: str = "auto") -> Iterator[torch.device]:
    """The device of this process; for as long as the block lasts, the group of torchrun's.

    Each process on a machine gets a GPU of its own and NCCL between them, or the CPU and gloo.
    Raises ValueError for a device the machine lacks, or on which processes cannot work together.
    """
    found = runtime.device(device)
    if not dist.is_available() or not dist.is_torchelastic_launched():
        yield found
        return
    if found.type not in ("cpu", "cuda"):
        raise ValueError(f"device must be cpu or cuda under torchrun, got {found.type}")
    own = None
    if found.type == "cuda":
        found = own = runtime.device(f"cuda:{os.environ['LOCAL_RANK']}")
        torch.cuda.set_device(own)
    dist.init_process_group("nccl" if own else "gloo", timeout=PATIENCE, device_id=own)
    try:
        with warnings.catch_warnings():  # it means strides of dimensions of size 1, which are idle
            warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
            yield found
    finally:
        dist.destroy_process_group()


def rows(n: int) -> slice:
    """Which of n rows are this process's. Raises ValueError when there are fewer than processes."""
    if validation.count(n, "n") < size():
        raise ValueError(f"{n} rows cannot be dealt out to {size()} processes; start fewer")
    return slice(n * rank() // size(), n * (rank() + 1) // size())


def shared(net: nn.Module) -> Callable[..., Points]:
    """`net` for a loss: each process asks it for its own rows and leaves the others 0.

    What else the network is told goes with the rows when it has one value per point.
    """
    if size() == 1:
        return net
    replica = DistributedDataParallel(net)

    def score(x, *told):
        mine = rows(len(x))
        own = [t[mine] if isinstance(t, Tensor) and t.ndim else t for t in told]
        return F.pad(replica(x[mine], *own), (0, 0, mine.start, len(x) - mine.stop))

    return score


def mean(values: Float[Tensor, " n"]) -> Float[Tensor, ""]:
    """The mean over a batch; here, of its own rows, what the process adds to it times their number.

    The average of that over the processes, which is what becomes of gradients, is the mean.
    """
    if size() == 1:
        return values.mean()
    return values[rows(len(values))].sum() * (size() / len(values))


def average(values: Tensor) -> Tensor:
    """The average of a tensor over the processes, the same on each."""
    if size() > 1:
        dist.all_reduce(values)
        values /= size()
    return values


def told_by_first(say: Callable[[], bytes | None]) -> bytes | None:
    """What `say()` returns on the first process, on all of them; the others do not call it."""
    if size() == 1:
        return say()
    word = [say() if rank() == 0 else None]
    dist.broadcast_object_list(word)
    return word[0]


def after_first(load: Callable[[], Tensor]) -> Tensor:
    """`load()`, on the first process of each machine before the others: it may fill a cache."""
    if size() == 1:
        return load()
    first = os.environ["LOCAL_RANK"] == "0"
    loaded = load() if first else None
    dist.barrier()
    return loaded if first else load()


def chains(
    draw: Callable[[int, torch.Generator], Points], n: int, generator: torch.Generator
) -> Points:
    """`draw(n, generator)`, with the n chains dealt out; each process gets all of them back.

    Each draws from a stream of its own, seeded from `generator`, so several processes draw other
    points of the same law than one.
    """
    validation.count(n, "n")
    generator = runtime.stream(generator)
    if size() == 1:
        return draw(n, generator)
    device = generator.device
    seeds = torch.randint(2**63 - 1, (size(),), generator=generator, device=device)
    own = draw(-(-n // size()), runtime.generator(int(seeds[rank()]), device)).contiguous()
    parts = [torch.empty_like(own) for _ in range(size())]
    dist.all_gather(parts, own)
    return torch.cat(parts)[:n]
