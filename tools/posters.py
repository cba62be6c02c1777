"""Save the pictures of the landing page: `python -m tools.posters`.

The still picture of every explorable, and four that tell what the book is about.
"""

from pathlib import Path

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure

from sbm_lite import densities, diagnostics, explorables, figures, samplers
from sbm_lite.runtime import generator

FOLDER = Path("book/assets/images")
LIMIT = 8.0


def posters() -> dict[str, bytes]:
    """The still picture of every explorable."""
    return {figure.name: figure.poster() for figure in (cls() for cls in explorables.EVERY)}


def idea() -> dict[str, bytes]:
    """Points; the density they came from; its score; and new points, found by the score alone."""
    p, rng = densities.swiss_roll(std=0.45), generator(1)
    fine, coarse = diagnostics.grid(LIMIT, 200), diagnostics.grid(0.93 * LIMIT, 17)
    start = 2 * LIMIT * torch.rand(700, 2, generator=rng).double() - LIMIT
    start[:4] = torch.tensor([[-7.4, -6.8], [7.2, -6.9], [6.9, 7.3], [-6.4, 7.0]])
    path = samplers.langevin_path(
        p.score, start, step_size=0.02, n_steps=600, every=1, generator=rng
    )

    def points(ax):
        figures.cloud(ax, p.sample(700, generator=rng), role="data", s=16, alpha=0.7)

    def density(ax):
        figures.heat(ax, fine, p.log_prob(fine).exp())

    def score(ax):
        density(ax)
        figures.arrows(ax, coarse, p.score(coarse))

    def sampling(ax):
        figures.cloud(ax, path[-1], s=16, alpha=0.7)
        for walk in path[:110, :4].unbind(1):
            figures.trajectory(ax, walk)

    return {f"idea_{draw.__name__}": bare(draw) for draw in (points, density, score, sampling)}


def bare(draw) -> bytes:
    """A square picture in the plane without axes."""
    with plt.style.context(figures.STYLE):
        figure = Figure(figsize=(2.9, 2.9), layout="none")
        ax = figure.add_axes((0, 0, 1, 1))
        draw(ax)
        ax.set(xlim=(-LIMIT, LIMIT), ylim=(-LIMIT, LIMIT), aspect="equal")
        ax.set_axis_off()
        return figures.png(figure)


def main():
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, picture in (posters() | idea()).items():
        (FOLDER / f"{name}.png").write_bytes(picture)
        print(f"{FOLDER / name}.png: {len(picture) // 1000} kB")


if __name__ == "__main__":
    main()
