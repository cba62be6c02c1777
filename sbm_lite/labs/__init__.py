"""Labs: ordinary ipywidgets panels that re-run the real PyTorch experiments in a live kernel.

Where no kernel runs (the website, GitHub, print) a lab shows the picture of its default settings.
"""

from sbm_lite.labs.ddpm import ddpm_experiment, ddpm_lab
from sbm_lite.labs.denoising import denoising_experiment, dsm_lab
from sbm_lite.labs.ism import ism_experiment, ism_lab
from sbm_lite.labs.langevin import langevin_experiment, langevin_lab
from sbm_lite.labs.likelihood import likelihood_experiment, likelihood_lab
from sbm_lite.labs.ncsn import ncsn_experiment, ncsn_lab
from sbm_lite.labs.panel import DENSITIES, Lab, Outcome
from sbm_lite.labs.score import score_experiment, score_lab
from sbm_lite.labs.slices import slices_experiment, slices_lab
from sbm_lite.labs.target_noise import target_noise_experiment, target_noise_lab

__all__ = [
    "DENSITIES",
    "Lab",
    "Outcome",
    "ddpm_experiment",
    "ddpm_lab",
    "denoising_experiment",
    "dsm_lab",
    "ism_experiment",
    "ism_lab",
    "langevin_experiment",
    "langevin_lab",
    "likelihood_experiment",
    "likelihood_lab",
    "ncsn_experiment",
    "ncsn_lab",
    "score_experiment",
    "score_lab",
    "slices_experiment",
    "slices_lab",
    "target_noise_experiment",
    "target_noise_lab",
]
