"""The experiments the subject is known for, one function each.

    from sbm_lite import experiments
    result = experiments.mixing(device="cpu", seed=0)
    result.numbers()     # what was measured, by name
    result.picture()     # the figure

Every result is a NamedTuple of arrays on the CPU; those that trained a network hold it as `net`.
`python -m sbm_lite run NAME` writes figure, numbers and weights. `pretrained(NAME)` gives the
network that ships with the package, trained by the function of that name with seed 0. Those of
`OVER_PROCESSES` may be started by `torchrun`, and are the larger ones.
"""

from sbm_lite.experiments.base import pretrained
from sbm_lite.experiments.images import (
    ddpm_cifar10,
    ddpm_digits,
    ddpm_mnist,
    manifold_cifar10,
    ncsn_cifar10,
    ncsn_digits,
    ncsn_mnist,
)
from sbm_lite.experiments.noisy_targets import small_noise, small_noise_digits
from sbm_lite.experiments.toys import (
    annealing_film,
    ddpm_two_modes,
    exact_samplers,
    low_density,
    low_density_esm,
    low_density_quick,
    manifold,
    mixing,
    ncsn_swiss_roll,
    ncsn_two_modes,
)

EVERY = {
    function.__name__: function
    for function in (
        manifold,
        low_density,
        low_density_quick,
        low_density_esm,
        mixing,
        annealing_film,
        ncsn_two_modes,
        ncsn_swiss_roll,
        exact_samplers,
        ddpm_two_modes,
        ncsn_digits,
        ddpm_digits,
        small_noise,
        small_noise_digits,
        manifold_cifar10,
        ncsn_mnist,
        ddpm_mnist,
        ncsn_cifar10,
        ddpm_cifar10,
    )
}

OVER_PROCESSES = [ncsn_digits, ddpm_digits, ncsn_mnist, ddpm_mnist, ncsn_cifar10, ddpm_cifar10]

__all__ = [*EVERY, "EVERY", "OVER_PROCESSES", "pretrained"]
