"""The pictures of the book: drawing functions take axes and arrays, and return the axes.

Nothing is computed here. One colour per role in every figure: what the data are, what a model or
a chain produced, what is exactly true, and the path between.
"""

import base64
import html
import io
from pathlib import Path

import font_source_sans_pro
import matplotlib.pyplot as plt
import numpy as np
from IPython.display import HTML
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.ticker import MaxNLocator
from PIL import Image, ImageDraw

from sbm_lite import validation

COLOURS = {
    "data": "#4477AA",  # samples of the target
    "model": "#CC3311",  # what a chain or a network produced
    "truth": "#228833",  # closed forms
    "path": "#AA7700",  # one trajectory
    "neutral": "#555555",
}
ARROWS = {"truth": 0.006}  # broad, so that a thin arrow of a model on it leaves both in sight
BANDS = 10  # steps of a density, from white to the peak
STYLE = Path(__file__).with_name("sbm.mplstyle")
for face in ("", "Bold", "It"):  # the face of the book's labels
    font_manager.fontManager.addfont(font_source_sans_pro.font_files_ttf[f"SourceSansPro{face}"])
PALE_BLUES = LinearSegmentedColormap.from_list("pale blues", ["#FFFFFF", "#C9DAEA", "#6F9BC4"])


def use_style() -> None:
    """Make the book's style the default of this session."""
    plt.style.use(STYLE)


def heat(ax: Axes, points, values) -> Axes:
    """A positive field on a square `grid` of (n², 2) points, as pale blue steps.

    `values` is (n²,), the first coordinate varying fastest; the steps are finer near 0, so that a
    weak mode stays visible beside a strong one.
    """
    points, values = _finite(points, "points", (None, 2)), _finite(values, "values", (len(points),))
    n = round(len(values) ** 0.5)
    if n < 2 or n * n != len(values):
        raise ValueError(f"points must be a square grid, n² of them, got {len(values)}")
    x1, x2, height = (a.reshape(n, n) for a in (*points.T, values))
    levels = height.max() * np.linspace(0, 1, BANDS) ** 2
    ax.contourf(x1, x2, height, levels, cmap=PALE_BLUES)
    return _map_axes(ax, float(x1.max()))


def arrows(ax: Axes, points, vectors, *, role: str = "truth", half: float | None = None) -> Axes:
    """A vector field as arrows; lengths shrink, ℓ → ℓ/(ℓ + `half`), half the median if None."""
    points = _finite(points, "points", (None, 2))
    vectors = _finite(vectors, "vectors", points.shape)
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    drawn = vectors / np.maximum(length + (half or np.median(length)), 1e-12)
    ax.quiver(*points.T, *drawn.T, color=_colour(role), angles="xy", scale_units="xy", scale=1,
              width=ARROWS.get(role, 0.0035), headwidth=4.2, pivot="mid")  # fmt: skip
    return ax


def cloud(ax: Axes, points, *, role: str = "model", limit: float | None = None, **kwargs) -> Axes:
    """Points in the plane as a cloud of small dots."""
    style = {"s": 5, "alpha": 0.5, "linewidths": 0} | kwargs
    points = _finite(points, "points", (..., 2))
    ax.scatter(*points.T, color=_colour(role), rasterized=True, **style)
    return _map_axes(ax, limit) if limit else ax


def trajectory(ax: Axes, path, *, role: str = "path", **kwargs) -> Axes:
    """One path of shape (t, 2): a thin line, a ring where it starts, a dot where it ends."""
    path, colour = _finite(path, "path", (None, 2)), _colour(role)
    ax.plot(*path.T, color=colour, linewidth=1.0, **kwargs)
    ax.plot(*path[0], "o", color=colour, fillstyle="none", markersize=6)
    ax.plot(*path[-1], "o", color=colour, markersize=6)
    return ax


def curve(ax: Axes, x, y, *, role: str = "truth", label: str | None = None, **kwargs) -> Axes:
    """A line in the colour of its role."""
    x, y = _line(x, y)
    ax.plot(x, y, color=_colour(role), label=label, **kwargs)
    return ax


def measured(ax: Axes, x, y, error, *, role: str = "model", label: str | None = None) -> Axes:
    """Measured values as dots with bars of ± two standard errors."""
    x, y = _line(x, y)
    error = _read(error, "error")
    bars = 2 * _finite(error if error.ndim else error.repeat(len(x)), "error", x.shape)
    ax.errorbar(x, y, bars, fmt="o", color=_colour(role), label=label,
                capsize=3, elinewidth=1.2, zorder=3)  # fmt: skip
    return ax


def film(path, *, limit: float, alt: str, **kwargs) -> HTML:
    """Particles in motion (see `gif`), folded until asked for; it plays once, or goes round."""
    image = html_image(gif(path, limit=limit, **kwargs), alt, kind="gif")
    return HTML(f'<details class="film"><summary>Play the film</summary>{image}</details>')


def gif(
    path, *, limit: float, heights=None, size: int = 300, milliseconds: int = 110, loop=False
) -> bytes:
    """Particles (t, n, 2) over [−limit, limit]² as an animated GIF.

    `heights` is a positive field behind each frame, (t, m, m), first row at the bottom, in the
    steps and colours of `heat`.
    """
    path = _finite(path, "path", (None, None, 2))
    centre = (path * [1, -1] / validation.scale(limit, "limit") + 1) * size / 2
    blues = (PALE_BLUES(np.linspace(0, 1, BANDS))[:, :3] * 255).round().astype(int).ravel()
    ink = bytes.fromhex(COLOURS["model"][1:] + "C8CCD0")
    frames = []
    for i, points in enumerate(centre):
        frame = Image.new("P", (size, size), 0)
        if heights is not None:
            steps = (BANDS - 1) * (heights[i] / heights[i].max()) ** 0.5
            bands = Image.fromarray(np.asarray(steps)[::-1].astype(np.uint8))
            frame.paste(bands.resize((size, size), Image.Resampling.NEAREST))
        frame.putpalette([*blues, *ink])
        draw = ImageDraw.Draw(frame)
        draw.rectangle((0, 0, size - 1, size - 1), outline=BANDS + 1)
        for x, y in points:
            draw.ellipse((x - 2, y - 2, x + 2, y + 2), fill=BANDS)
        frames.append(frame)
    buffer = io.BytesIO()
    repeat = {"loop": 0} if loop else {}
    frames[0].save(
        buffer, "GIF", save_all=True, append_images=frames[1:], duration=milliseconds, **repeat
    )
    return buffer.getvalue()


def image_grid(ax: Axes, images, shape: tuple[int, int, int], columns: int = 10) -> Axes:
    """Flat images (n, d) with pixels in [−1, 1] side by side; `shape` is (channels, height, width).

    Dark on white when there is one channel; missing places of the last row stay empty.
    """
    channels, height, width = (validation.count(one, "each of shape") for one in shape)
    validation.count(columns, "columns")
    images = _finite(images, "images", (None, channels * height * width))
    pixels = (images.clip(-1, 1) + 1) / 2
    rows = -(-len(pixels) // columns)
    tiled = np.full((rows * (height + 1), columns * (width + 1), channels), np.nan)
    for i, image in enumerate(pixels.reshape(-1, channels, height, width)):
        y, x = i // columns * (height + 1), i % columns * (width + 1)
        tiled[y : y + height, x : x + width] = image.transpose(1, 2, 0)
    if channels == 1:
        ax.imshow(tiled[..., 0], cmap="gray_r", vmin=0, vmax=1, interpolation="nearest")
    else:
        ax.imshow(np.nan_to_num(tiled, nan=1.0), interpolation="nearest")
    ax.set_axis_off()
    return ax


def png(figure) -> bytes:
    """The figure as a small PNG (256 colours), closed afterwards."""
    raw, small = io.BytesIO(), io.BytesIO()
    figure.savefig(raw, format="png")
    plt.close(figure)
    image = Image.open(raw).convert("RGB").quantize(256, dither=Image.Dither.NONE)
    image.save(small, format="png", optimize=True)
    return small.getvalue()


def html_image(image: bytes, alt: str, kind: str = "png") -> str:
    """An `<img>` that carries its picture inside itself."""
    data = base64.b64encode(image).decode()
    return f'<img alt="{html.escape(alt)}" src="data:image/{kind};base64,{data}">'


def _finite(values, name: str, shape: tuple) -> np.ndarray:
    """Finite numbers of a shape as an array; None is any size of at least 1, ... any at all."""
    array = _read(values, name)
    if array.dtype.kind not in "fiu":
        raise TypeError(f"{name} must be real numbers, got {array.dtype}")
    sizes = zip(shape, array.shape, strict=False)
    fits = [one in (..., got) or (one is None and got > 0) for one, got in sizes]
    if array.ndim != len(shape) or not all(fits):
        wanted = ", ".join("n" if one in (None, ...) else str(one) for one in shape)
        raise ValueError(f"{name} must have shape ({wanted}), got {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite, got NaN or infinite entries")
    return array


def _read(values, name: str) -> np.ndarray:
    """Numbers as an array."""
    try:
        return np.asarray(values)
    except (RuntimeError, TypeError, ValueError) as error:
        raise TypeError(f"{name} must be numbers that numpy can read: {error}") from error


def _line(x, y) -> tuple[np.ndarray, np.ndarray]:
    """As many numbers x as y; columns will do."""
    x, y = _read(x, "x").ravel(), _read(y, "y").ravel()
    return _finite(x, "x", (None,)), _finite(y, "y", x.shape)


def _colour(role: str) -> str:
    """The colour of a role."""
    return COLOURS[validation.choice(role, COLOURS, "role")]


def _map_axes(ax: Axes, limit: float) -> Axes:
    """Square axes for a picture in the plane, marked alike."""
    validation.scale(limit, "limit")
    marks = MaxNLocator(4, steps=[1, 2, 5, 10]).tick_values(-limit, limit)
    marks = marks[abs(marks) <= limit]
    ax.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal")
    ax.set(xlabel="$x_1$", ylabel="$x_2$", xticks=marks, yticks=marks)
    ax.grid(False)
    return ax
