"""A lab: controls above a picture and a sentence, and what stands there without a kernel."""

import html
import re
from collections.abc import Callable
from typing import NamedTuple

import ipywidgets as widgets
import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from sbm_lite import densities, figures

DENSITIES = {
    "two modes": densities.two_modes(),
    "one Gaussian": densities.gaussian(),
    "ring": densities.ring(),
    "swiss roll": densities.swiss_roll(),
}


RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


class Outcome(NamedTuple):
    """What an experiment gives back: a picture, its numbers, and the picture in words."""

    figure: Figure
    sentence: str
    alt: str


class Lab(widgets.VBox):
    """Controls above the outcome of `experiment(**settings)`, which re-runs when one changes.

    `controls` maps each argument of the experiment to an ipywidgets control.
    """

    def __init__(self, experiment: Callable[..., Outcome], **controls: widgets.ValueWidget):
        self.experiment, self.controls = experiment, controls
        self.picture = widgets.Image(format="png", layout={"max_width": "720px"})
        self.sentence = widgets.HTML(layout={"max_width": "720px"})
        for control in controls.values():
            control.style.description_width = "8em"
            control.observe(self.run, "value")
        super().__init__([*controls.values(), self.picture, self.sentence])
        self.run()

    def run(self, _change=None) -> None:
        """Run the experiment with the present settings; show a refused setting as a sentence."""
        settings = {name: control.value for name, control in self.controls.items()}
        self.sentence.value = "Running …"
        try:
            with plt.style.context(figures.STYLE):
                outcome = self.experiment(**settings)
                self.picture.value = figures.png(outcome.figure)
        except (ValueError, FloatingPointError, RuntimeError) as refusal:
            self.sentence.value = html.escape(str(refusal))
            self.picture.layout.visibility = "hidden"
            return
        self.picture.layout.visibility = "visible"
        self.sentence.value, self.alt = html.escape(typeset(outcome.sentence)), outcome.alt

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={c.value!r}" for name, c in self.controls.items())
        return f"Lab({settings})"

    def _repr_mimebundle_(self, **kwargs):
        """The live panel, and for every place without a kernel the picture it shows now."""
        bundle = super()._repr_mimebundle_(**kwargs)
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle, {})
        image = figures.html_image(self.picture.value, self.alt)
        caption = f"<figcaption>{self.sentence.value}</figcaption>"
        data["text/plain"] = repr(self)
        data["text/html"] = f'<figure class="lab">{image}{caption}</figure>'
        return data, metadata


def typeset(sentence: str) -> str:
    """The sentence with numbers as a book has them: −1.06 for -1.06, 4 · 10⁻⁵ for 4e-05."""
    tens = re.compile(r"(?<=\d)e\+?(-?)0*(\d+)")
    sentence = tens.sub(lambda found: f" · 10{''.join(found.groups()).translate(RAISED)}", sentence)
    return re.sub(r"(?<!\w)-(?=\d)", "−", sentence)


def slider(kind, value, description: str, **range_):
    """A slider that re-runs its experiment when let go, not while it is dragged."""
    return kind(value=value, description=description, continuous_update=False, **range_)
