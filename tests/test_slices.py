"""Slices: the laws of v that sliced score matching draws from."""

import pytest
import torch

from sbm_lite.losses import gaussian_slices, slices, sphere_slices
from sbm_lite.runtime import generator

LAWS = [slices, gaussian_slices, sphere_slices]


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("d", [1, 3])
def test_second_moment_is_the_identity(law, d):
    n = 200_000
    v = law(torch.zeros(n, d).double(), generator=generator(1))
    moment, fourth = v.T @ v / n, 3  # E v⁴ is at most 3 for these laws
    assert (moment - torch.eye(d).double()).abs().max() < 4.5 * (fourth / n) ** 0.5


MOMENTS = [(slices, 1), (gaussian_slices, 3), (sphere_slices, 15 / 7)]


@pytest.mark.parametrize(("law", "fourth"), MOMENTS)
def test_fourth_moment_tells_the_laws_apart(law, fourth):
    """E v₁⁴: 1, 3, and 3d/(d + 2) on the sphere; E v₁⁸ is at most 105."""
    n = 400_000
    v = law(torch.zeros(n, 5).double(), generator=generator(2))
    assert abs((v**4).mean() - fourth) < 4.5 * (105 / (5 * n)) ** 0.5


def test_signs_are_signs_and_the_sphere_has_its_radius():
    x = torch.zeros(1_000, 7)
    assert slices(x).abs().equal(torch.ones_like(x))
    assert sphere_slices(x).norm(dim=1).allclose(torch.full((1_000,), 7**0.5))
