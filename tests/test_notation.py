"""The notation page: its dictionaries hold as printed, and its names are names of the package."""

import ast
import importlib
import inspect
import pkgutil
import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

import sbm_lite
from sbm_lite import densities, networks, noise
from sbm_lite.noise import alpha_bars, linear_betas
from sbm_lite.samplers import langevin_step
from tools.formulas import number

BOOK = Path(__file__).parents[1] / "book"
PAGE = (BOOK / "notation.md").read_text("utf8")


def table(heading):
    """The rows of the one table under a heading, first column → the other columns."""
    section = PAGE.split(f"## {heading}\n")[1].split("\n## ")[0]
    lines = re.findall(r"^\| (.+) \|$", section, flags=re.M)[1:]  # without the head
    cells = [[cell.strip() for cell in re.split(r" \|(?= )", line)] for line in lines]
    return {first: rest for first, *rest in cells if not first.startswith("---")}


def formula(cell):
    (latex,) = re.fullmatch(r"\$([^$]+)\$", cell).groups()
    return latex


# Two conventions for Langevin: each row has a test, by its name

CONVENTIONS = table("Two conventions for Langevin")
X, S, Z, LAM = 1.3, -0.8, 0.6, 1.7
SYMBOL = [r"\eta", r"\varepsilon"]


def step_of_package(eta):
    return langevin_step(*(torch.tensor([[a]], dtype=torch.float64) for a in (X, S, Z)), eta).item()


def eta_of(column, value):
    """η of this book, for a step `value` in the letter of a column: through the dictionary."""
    left, right = formula(CONVENTIONS["dictionary"][0]).split(" = ")
    assert left == r"\eta"
    return value if column == 0 else number(right, {r"\varepsilon": value})


def test_row_step():
    for column, cell in enumerate(CONVENTIONS["step"]):
        letters = {"x": X, "s(x)": S, "z": Z, SYMBOL[column]: 0.3}
        assert number(formula(cell), letters) == pytest.approx(step_of_package(eta_of(column, 0.3)))


def test_row_dictionary():
    """The two entries undo each other. That they translate the steps is the row above."""
    left, right = formula(CONVENTIONS["dictionary"][1]).split(" = ")
    assert left == r"\varepsilon"
    assert number(right, {r"\eta": eta_of(1, 0.37)}) == pytest.approx(0.37)


def test_row_continuous_time():
    """Over a time dt, dW is √dt z: the equation, read as one step, is the step of that column."""
    for column, cell in enumerate(CONVENTIONS["continuous time"]):
        left, right = formula(cell).split(" = ")
        assert left == "dX"
        change = number(right, {"s": S, "dt": 0.3, "dW": 0.3**0.5 * Z})
        assert X + change == pytest.approx(step_of_package(eta_of(column, 0.3)))


def memory(eta):
    """What one step on N(0, λ) keeps of x, from the package's own step."""
    one = torch.ones(1, 1, dtype=torch.float64)
    return langevin_step(one, -one / LAM, 0 * one, eta).item()


def test_row_variance():
    for column, cell in enumerate(CONVENTIONS[r"variance on $\mathcal N(0, \lambda)$"]):
        eta, variance = eta_of(column, 0.9), 0.0
        for _ in range(500):
            variance = memory(eta) ** 2 * variance + eta
        letters = {r"\lambda": LAM, SYMBOL[column]: 0.9}
        assert number(formula(cell), letters) == pytest.approx(variance, rel=1e-12)


def test_row_stable():
    for column, cell in enumerate(CONVENTIONS["stable if"]):
        left, right = formula(cell).split(" < ")
        assert left == SYMBOL[column]
        edge = number(right, {r"\lambda": LAM})
        assert (
            abs(memory(eta_of(column, 0.999 * edge)))
            < 1
            < abs(memory(eta_of(column, 1.001 * edge)))
        )


def test_row_found_in():
    keys = re.findall(r"@\w+\{(\w+),", (BOOK / "references.bib").read_text("utf8"))
    for cell in CONVENTIONS["found in"][:2]:
        cited = re.findall(r"\{cite:t\}`(\w+)`", cell)
        assert cited and set(cited) <= set(keys)


def test_every_row_of_the_conventions_has_a_test():
    tested = [name.removeprefix("test_row_").replace("_", " ") for name in globals()]
    for row in CONVENTIONS:
        assert any(row.startswith(name) for name in tested if name), row


# One field, five names: exact posterior moments of two bells, by sums over a fine grid

WEIGHTS, MEANS, STDS = (0.3, 0.7), (-1.2, 0.9), (0.5, 0.7)
GRID = np.linspace(-9, 9, 36_001)
CLEAN = sum(
    w / s * np.exp(-((GRID - m) ** 2) / (2 * s**2))
    for w, m, s in zip(WEIGHTS, MEANS, STDS, strict=True)
)
POINTS = np.array([-2.0, -0.4, 0.3, 1.6])
SIGMA, T = 0.7, 400
ABAR = float(alpha_bars(linear_betas())[T - 1])
NAMES = table("One field, five names")


class Truth:
    """At noisy points scale · x + sigma · ε: log density, clean mean and noise mean, all exact."""

    def __init__(self, scale, sigma):
        self.scale, self.sigma = scale, sigma
        mass = CLEAN * np.exp(-((POINTS[:, None] - scale * GRID) ** 2) / (2 * sigma**2))
        mass /= mass.sum(1, keepdims=True)
        self.clean = mass @ GRID
        self.noise = (mass * (POINTS[:, None] - scale * GRID)).sum(1) / sigma
        h = 1e-4
        self.energy_slope = -(self.log_density(POINTS + h) - self.log_density(POINTS - h)) / (2 * h)

    def log_density(self, y):
        kernel = np.exp(-((y[:, None] - self.scale * GRID) ** 2) / (2 * self.sigma**2))
        return np.log((CLEAN * kernel).sum(1))

    @property
    def score(self):
        return -self.energy_slope


LEVEL, STEP = Truth(1.0, SIGMA), Truth(ABAR**0.5, (1 - ABAR) ** 0.5)


def letters(truth):
    """The symbols of the table and their values."""
    v = ABAR**0.5 * truth.noise - (1 - ABAR) ** 0.5 * truth.clean
    values = {"s": truth.score, r"\nabla_x E": truth.energy_slope, r"\hat\varepsilon": truth.noise}
    values |= {r"\hat x": truth.clean, "v": v, r"\bar\alpha_t": ABAR, r"\sigma": SIGMA}
    return values | {r"\tilde x": POINTS, "x_t": POINTS}


@pytest.mark.parametrize("row", NAMES)
@pytest.mark.parametrize("column", [0, 1])
def test_a_name_becomes_the_score(row, column):
    cell = NAMES[row][column]
    if (row[:2], column) == ("$v", 0):
        assert cell == "", "no velocity at a level"
        return
    truth = (LEVEL, STEP)[column]
    found = number(formula(cell), letters(truth))
    assert np.allclose(found, truth.score, atol=1e-6, rtol=0)


def test_the_rows_are_the_five():
    """A sixth would need its truth in `letters`; the test above fails without it."""
    starts = ["the score $s$", "an energy $E$", r"the noise $\hat\varepsilon", "the clean", "$v = "]
    assert len(NAMES) == 5 and all(row.startswith(s) for row, s in zip(NAMES, starts, strict=True))


def test_the_definitions_in_the_first_column():
    by_start = {row[:9]: row for row in NAMES}
    assert r"\mathbb E[\varepsilon\mid\tilde x]" in by_start["the noise"]
    assert r"\mathbb E[x\mid\tilde x]" in by_start["the clean"]
    left, right = formula(next(row for row in NAMES if row.startswith("$v"))).split(" = ")
    assert left == "v"
    assert np.allclose(number(right, letters(STEP)), letters(STEP)["v"], atol=1e-12)


def column_of(values):
    return torch.tensor(values, dtype=torch.float64)[:, None]


def test_the_code_of_each_row_gives_the_score():
    """`in code`, called with the exact moments. A network that is a score needs nothing."""
    x, bars = column_of(POINTS), alpha_bars(linear_betas())
    code = {
        "`networks.ScoreMLP`, `NoiseConditional`": None,
        "`networks.EnergyScore`": (networks.EnergyScore(lambda y: -log_density(y)), x),
        "`noise.score_from_epsilon`": (noise.score_from_epsilon, column_of(LEVEL.noise), SIGMA),
        "`networks.DdpmScore`": (networks.DdpmScore(constant(STEP.noise), bars), x, T),
        "`noise.score_from_denoised`": (
            noise.score_from_denoised, x, column_of(LEVEL.clean), SIGMA,
        ),
        "`noise.epsilon_from_v`": (noise.epsilon_from_v, x, column_of(letters(STEP)["v"]), ABAR),
    }  # fmt: skip
    printed = [part for *_, cell in NAMES.values() for part in re.split(r"(?<=n`), ", cell)]
    assert printed == list(code)
    for name, call in code.items():
        if call:
            f, *arguments = call
            truth = {"`networks.DdpmScore`": STEP.score, "`noise.epsilon_from_v`": STEP.noise}
            expected = column_of(truth.get(name, LEVEL.score))
            torch.testing.assert_close(f(*arguments), expected, atol=1e-6, rtol=0)


def constant(values):
    """A network that has learned `values`, for every input."""

    class Learned(torch.nn.Module):
        def forward(self, x, t):
            return column_of(values)

    return Learned()


def log_density(y):
    """log p_σ of the two bells in torch, up to a constant."""
    bells = [
        torch.tensor(w).log() - variance.log() / 2 - (y[:, 0] - m) ** 2 / (2 * variance)
        for w, m, variance in zip(
            WEIGHTS, MEANS, (torch.tensor(s**2 + SIGMA**2) for s in STDS), strict=True
        )
    ]
    return torch.stack(bells).logsumexp(0)


def test_the_two_columns_are_one_process():
    """s_t(x_t) = s_σ(x_t/√ᾱ)/√ᾱ with the σ² of the last sentence, read from it."""
    (latex,) = re.findall(r"with \$\\sigma\^2 = ([^$]+)\$", PAGE)
    variance = number(latex, {r"\bar\alpha_t": ABAR})
    other = Truth(1.0, variance**0.5)
    h, inside = 1e-4, POINTS / ABAR**0.5
    score = (other.log_density(inside + h) - other.log_density(inside - h)) / (2 * h)
    assert np.allclose(score / ABAR**0.5, STEP.score, atol=1e-6)


# Symbols: what stands under "in code" is code

STANDS_FOR = {"density": densities.GaussianMixture, "kernel": noise.Kernel, "path": torch.Tensor}
STANDS_FOR |= {"net": torch.nn.Module}
SHAPES = {"d", "n"}


def modules():
    names = [module.name for module in pkgutil.iter_modules(sbm_lite.__path__)]
    return {name: importlib.import_module(f"sbm_lite.{name}") for name in names if name[0] != "_"}


@cache
def vocabulary():
    """Names of functions and classes of the package, and of their arguments."""
    words = set()
    for module in modules().values():
        for name, thing in vars(module).items():
            if callable(thing) and getattr(thing, "__module__", "").startswith("sbm_lite"):
                words.add(name)
                inside = vars(thing).values() if isinstance(thing, type) else [thing]
                for function in filter(inspect.isfunction, inside):
                    words |= set(inspect.signature(function).parameters)
    return words


def code_cells():
    for symbol, (_, code, *_) in table("Symbols").items():
        for text in re.findall(r"`([^`]+)`", code):
            yield symbol, text


@pytest.mark.parametrize(("symbol", "text"), list(code_cells()), ids=str)
def test_a_name_in_code_exists(symbol, text):
    known, roots = vocabulary(), modules() | STANDS_FOR
    for node in ast.walk(ast.parse(text.replace("(…)", "()"))):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            assert hasattr(roots[node.value.id], node.attr), f"{symbol}: {text}"
        elif isinstance(node, ast.Name) and node.id not in roots:
            assert node.id in known | SHAPES, f"{symbol}: {text}"


def test_every_row_of_symbols_is_complete():
    for symbol, rest in table("Symbols").items():
        assert len(rest) == 4, symbol
        assert rest[0] and re.search(r"\{(eq|doc)\}`", rest[3]), symbol
