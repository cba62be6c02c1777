"""Figures that simulate live in the reader's browser, with or without a kernel behind them.

An explorable is one JavaScript module, `<name>.js`, and a thin class here. In JupyterLab the class
is a widget: its traits (`step_size`, `sigma`, …) are read and set from Python and the sliders move
with them. On the book's pages the same module runs on its own; where no JavaScript runs, a still
picture and its caption stand in.
"""

from sbm_lite.explorables.annealing import Annealing
from sbm_lite.explorables.base import HERE, DensityExplorable, Explorable, as_module, describe
from sbm_lite.explorables.denoise import Denoise
from sbm_lite.explorables.esm_ism import EsmIsm
from sbm_lite.explorables.langevin import LangevinExplorable
from sbm_lite.explorables.learned_field import LearnedField
from sbm_lite.explorables.partition import Partition
from sbm_lite.explorables.score_field import ScoreField
from sbm_lite.explorables.slices import Slices
from sbm_lite.explorables.target_noise import TargetNoise
from sbm_lite.explorables.three_names import ThreeNames

EVERY = (
    Annealing,
    Denoise,
    EsmIsm,
    LangevinExplorable,
    LearnedField,
    Partition,
    ScoreField,
    Slices,
    TargetNoise,
    ThreeNames,
)

__all__ = [
    "EVERY",
    "HERE",
    "Annealing",
    "Denoise",
    "DensityExplorable",
    "EsmIsm",
    "Explorable",
    "LangevinExplorable",
    "LearnedField",
    "Partition",
    "ScoreField",
    "Slices",
    "TargetNoise",
    "ThreeNames",
    "as_module",
    "describe",
]
