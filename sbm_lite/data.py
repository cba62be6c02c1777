"""Real data, flat (n, d) like everything else."""

import torch
from jaxtyping import Float
from torch import Tensor


def digits() -> Float[Tensor, "n 64"]:
    """1,797 handwritten digits of 8 × 8 pixels in [0, 1], float32; they come with scikit-learn.

    Reference: Alpaydin and Kaynak (1998), UCI Machine Learning Repository.
    """
    from sklearn.datasets import load_digits  # slow to import, so only here

    return torch.as_tensor(load_digits().data, dtype=torch.float32) / 16
