"""What all explorables share: traits for JupyterLab, HTML for the page, a poster for paper."""

import html
import json
import re
from pathlib import Path

import anywidget
import matplotlib.pyplot as plt
import traitlets
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sbm_lite import figures, validation
from sbm_lite.densities import GaussianMixture

HERE = Path(__file__).parent
SHARED = ("maths", "stage", "plot")  # .js, in this order; each may import from those before it


def as_module(name: str) -> str:
    """What explorables share and <name>.js in one module: a Blob cannot import by path."""
    validation.choice(name, [module.stem for module in HERE.glob("*.js")], "name")
    text = "\n".join((HERE / f"{part}.js").read_text("utf-8") for part in (*SHARED, name))
    without_imports = re.sub(r"^import [^;]*;\n", "", text, flags=re.MULTILINE)
    return re.sub(r"^export (?!default)", "", without_imports, flags=re.MULTILINE)


def describe(mixture: GaussianMixture, limit: float) -> dict:
    """A mixture of round Gaussians as plain numbers, and the half-width of the square to show."""
    if not isinstance(mixture, GaussianMixture):
        raise TypeError(f"mixture must be a GaussianMixture, got {type(mixture).__name__}")
    validation.scale(limit, "limit")
    return {
        "weights": [round(w, 6) for w in mixture.weights.tolist()],
        "means": [[round(m, 4) for m in mean] for mean in mixture.means.tolist()],
        "stds": [round(v**0.5, 6) for v in mixture.covariances[:, 0, 0].tolist()],
        "limit": limit,
    }


def stacked(axes) -> tuple[Axes, Axes]:
    """Two axes, one above the other, in place of the one given."""
    figure = axes.figure
    axes.remove()
    return tuple(figure.subplots(2))


class Number(traitlets.Float):
    """A number within its range: a plain Float takes NaN for within any."""

    def validate(self, obj, value):
        number = super().validate(obj, value)
        if number != number:
            self.error(obj, value)
        return number


class Explorable(anywidget.AnyWidget):
    """A live figure with its poster; subclasses give `name`, `alt`, `caption`, traits, `_draw`."""

    name: str
    alt: str
    caption: str

    def __init_subclass__(cls, **kwargs):
        if "name" in cls.__dict__:
            cls._esm = as_module(cls.name)
        super().__init_subclass__(**kwargs)

    def state(self) -> dict:
        """The traits that the JavaScript reads, as plain data."""
        inherited = anywidget.AnyWidget.class_trait_names()
        names = [n for n in self.trait_names(sync=True) if n not in inherited and n[0] != "_"]
        return {n: getattr(self, n) for n in sorted(names)}

    def poster(self) -> bytes:
        """The figure at its present settings as a small PNG."""
        with plt.style.context(figures.STYLE):
            figure = Figure(figsize=(4.2, 4.2))
            self._draw(figure.add_subplot())
            return figures.png(figure)

    def html(self) -> str:
        """The figure for a page: poster and caption, which the host script brings to life."""
        state = html.escape(json.dumps(self.state(), separators=(",", ":")), quote=True)
        return (
            f'<figure class="explorable" data-explorable="{self.name}" data-state="{state}">\n'
            f"{figures.html_image(self.poster(), self.alt)}\n"
            f"<figcaption>{self.caption}</figcaption>\n</figure>"
        )

    def __repr__(self) -> str:
        settings = {n: v for n, v in self.state().items() if not isinstance(v, dict | list)}
        return f"{type(self).__name__}({', '.join(f'{n}={v!r}' for n, v in settings.items())})"

    def _repr_mimebundle_(self, **kwargs):
        data, metadata = super()._repr_mimebundle_(**kwargs)
        return data | {"text/html": self.html()}, metadata

    def _draw(self, axes) -> None:
        """Draw the figure at its present settings."""
        raise NotImplementedError


class DensityExplorable(Explorable):
    """An explorable on one of several densities, which reach the browser as plain numbers."""

    densities = traitlets.Dict().tag(sync=True)

    def _mixture(self) -> tuple[GaussianMixture, float]:
        """The chosen density and the half-width of its picture."""
        chosen = self.densities[self.density]
        weights = [w / sum(chosen["weights"]) for w in chosen["weights"]]
        return GaussianMixture.isotropic(weights, chosen["means"], chosen["stds"]), chosen["limit"]
