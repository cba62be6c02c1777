"""The explorable of chapter 7: a trained network's score field beside the true one."""

import base64
import functools

import torch
import traitlets
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.patches import Rectangle

from sbm_lite import figures
from sbm_lite.densities import GaussianMixture, two_modes
from sbm_lite.diagnostics import grid
from sbm_lite.explorables.base import Explorable, Number

LIMIT, BOX = 8, 2  # half-widths of the map, and of the boxes around the modes
PALE_REDS = LinearSegmentedColormap.from_list("pale reds", ["#FFFFFF", figures.COLOURS["model"]])
SHOWN = ["true and learned", "error"]


class LearnedField(Explorable):
    """What a noise-conditional network learned of the score, level by level. Book: eq-ncsn."""

    name = "learned_field"
    caption = (
        "Green arrows are the true score of the data with noise σ, red ones what a network "
        "learned from samples. At σ = 0.1 it is wrong wherever no data fall, which is almost "
        "everywhere outside the dashed boxes. Drag the probe there, then raise σ: from which "
        "noise on can you trust the red arrows in the whole square?"
    )
    layers = traitlets.List().tag(sync=True)
    show = traitlets.Enum(SHOWN, SHOWN[0]).tag(sync=True)
    sigma = Number(0.1, min=0.1, max=10.0).tag(sync=True)
    probe_x = Number(-2.0, min=-8.0, max=8.0).tag(sync=True)
    probe_y = Number(4.0, min=-8.0, max=8.0).tag(sync=True)

    @property
    def alt(self) -> str:
        shape = {
            SHOWN[0]: "a small blue hill at lower left, a larger one at upper right, and a grid "
            "of arrows in pairs, broad green ones for the true score and thin red ones for the "
            "learned one. Close to the hills the two agree; far from them, where data are rare, "
            "many pairs part",
            SHOWN[1]: "the error of the learned score in shades of red, pale near the two modes, "
            "at lower left and at upper right, and darker far from them, where data are rare",
        }[self.show]
        return (
            f"A square map of the plane with {shape}. A dashed box stands around either mode, and "
            "from a dark dot, the probe, start a green and a red arrow."
        )

    @traitlets.default("layers")
    def _layers(self):
        return [_as_layer(linear) for linear in _network().body[::2]]

    def _draw(self, axes) -> None:
        """Both fields as arrows, or the length of their difference; the boxes and the probe."""
        true = two_modes().smoothed(self.sigma)
        if self.show == "error":
            self._draw_error(axes, true)
        else:
            self._draw_fields(axes, true)
        for corner in two_modes().means - BOX:
            box = Rectangle(corner, 2 * BOX, 2 * BOX, fill=False, linestyle="--", linewidth=1)
            axes.add_patch(box)
        at = torch.tensor([[self.probe_x, self.probe_y]], dtype=torch.float64)
        for field, role, width in [(true.score, "truth", 0.016), (self._learned, "model", 0.008)]:
            s = field(at)
            _arrows(axes, at, LIMIT / 3 * s / (s.norm() + 1), role, width, zorder=4)
        axes.plot(*at[0], "o", color="#222222", markersize=8, zorder=5)

    def _draw_fields(self, axes, true: GaussianMixture) -> None:
        fine, at = grid(LIMIT, 120), 12 / 13 * grid(LIMIT, 13)
        figures.heat(axes, fine, true.log_prob(fine).exp())
        half = true.score(at).norm(dim=1).median() / 2
        for field, role, width in [(true.score, "truth", 0.009), (self._learned, "model", 0.0035)]:
            s = field(at)
            arrows = 1.15 * s / (s.norm(dim=1, keepdim=True) + half)
            _arrows(axes, at, arrows, role, width, pivot="mid", alpha=0.6 + 0.4 * (role == "model"))

    def _draw_error(self, axes, true: GaussianMixture) -> None:
        """‖learned − true‖ in steps of a third of a power of ten, from 0.01 to 100."""
        at = grid(LIMIT, 120)
        error = (self._learned(at) - true.score(at)).norm(dim=1).log10()
        x1, x2, height = (a.reshape(120, 120) for a in (*at.T, error))
        axes.contourf(x1, x2, height, torch.linspace(-2, 2, 13), cmap=PALE_REDS, extend="both")
        axes.set(aspect="equal", xlabel="$x_1$", ylabel="$x_2$")

    def _learned(self, x):
        """The learned score at x, in x's dtype."""
        return _network()(x.float(), self.sigma).to(x)


def _arrows(axes, at, vectors, role, width, **style) -> None:
    style |= {"angles": "xy", "scale_units": "xy", "scale": 1, "headwidth": 3.5}
    axes.quiver(*at.T, *vectors.T, color=figures.COLOURS[role], width=width, **style)


@functools.cache
def _network():
    """The network that ships with the package, read when it is first needed."""
    from sbm_lite import experiments

    return experiments.pretrained("ncsn_two_modes")


def _as_layer(linear) -> dict:
    """A linear layer for the browser: rows of weights, then biases, as float32 in base64."""
    values = torch.cat([linear.weight.flatten(), linear.bias]).numpy().astype("<f4")
    data = base64.b64encode(values.tobytes()).decode()
    return {"n_in": linear.in_features, "n_out": linear.out_features, "data": data}
