"""Digits against scikit-learn's own."""

import torch
from sklearn.datasets import load_digits

from sbm_lite.data import digits


def test_digits_are_those_of_scikit_learn_from_zero_to_one():
    x = digits()
    assert x.shape == (1797, 64) and x.dtype == torch.float32
    assert torch.equal(16 * x.double(), torch.as_tensor(load_digits().data))
    assert x.min() == 0 and x.max() == 1


def test_digits_lie_row_by_row():
    picture = torch.as_tensor(load_digits().images[7])
    assert torch.equal(16 * digits()[7].double().reshape(8, 8), picture)


def test_digits_are_fresh_on_every_call():
    digits().zero_()
    assert digits().max() == 1
