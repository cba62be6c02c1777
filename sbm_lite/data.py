"""Real data, flat (n, d) like everything else, pixels in [0, 1], float32."""

import os
import warnings
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor

SHAPES = {"digits": (1, 8, 8), "mnist": (1, 28, 28), "cifar10": (3, 32, 32)}  # channels first


def digits() -> Float[Tensor, "n 64"]:
    """1,797 handwritten digits of 8 × 8 pixels; they come with scikit-learn.

    Reference: Alpaydin and Kaynak (1998), UCI Machine Learning Repository.
    """
    return _bundled_digits()[0]


def digit_labels() -> Int[Tensor, " n"]:
    """Which digit each image of `digits` shows, 0 to 9, as int64 of shape (1797,)."""
    return _bundled_digits()[1]


def mnist(folder: str | os.PathLike | None = None) -> Float[Tensor, "n 784"]:
    """70,000 handwritten digits of 28 × 28 pixels, from OpenML by scikit-learn.

    Kept in `folder` (scikit-learn's own when None) after the first download. Needs pandas:
    `pip install sbm-lite[images]`. Raises ImportError without it, ConnectionError without network.

    Reference: LeCun, Bottou, Bengio and Haffner (1998), Proceedings of the IEEE 86.
    """
    return _from_openml("MNIST", 554, folder)


def cifar10(folder: str | os.PathLike | None = None) -> Float[Tensor, "n 3072"]:
    """60,000 photographs of 32 × 32 pixels, all reds first, then greens, then blues; see `mnist`.

    Reference: Krizhevsky (2009), Learning multiple layers of features from tiny images.
    """
    return _from_openml("CIFAR-10", 40927, folder)


def _bundled_digits() -> tuple[Tensor, Tensor]:
    """Pixels and labels of the digits."""
    from sklearn.datasets import load_digits  # slow to import, so only here

    bundle = load_digits()
    return torch.as_tensor(bundle.data, dtype=torch.float32) / 16, torch.as_tensor(bundle.target)


def _from_openml(name: str, number: int, folder: str | os.PathLike | None) -> Tensor:
    """The pixels of OpenML's data set `number`, in [0, 1]."""
    from sklearn.datasets import fetch_openml

    try:
        if folder is not None:
            Path(folder).mkdir(parents=True, exist_ok=True)
    except (OSError, TypeError, ValueError) as error:
        raise ValueError(f"folder must be one to write to, got {folder!r}: {error}") from error
    try:
        with warnings.catch_warnings(action="ignore"):  # of each retry; the error says enough
            bundle = fetch_openml(
                data_id=number, data_home=folder, as_frame=False, parser="pandas", n_retries=1,
                read_csv_kwargs={"dtype": "float32"},  # half the memory; labels as categories fail
            )  # fmt: skip
    except ImportError as error:
        raise ImportError(f"{name} needs pandas: pip install 'sbm-lite[images]'") from error
    except OSError as error:
        raise ConnectionError(f"{name} could not be fetched from openml.org: {error}") from error
    return torch.as_tensor(bundle.data, dtype=torch.float32) / 255
