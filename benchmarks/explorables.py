"""Live figures: frames and steps a second in headless Chromium.

    python -m benchmarks.explorables

Serves the figures on localhost and opens them on an ordinary and on a twice as sharp screen:
`langevin` on two modes and `annealing`, with more and more particles. `langevin` makes one step per
frame, sixty a second at most; a run of `annealing` is spread over twelve seconds. Then the time
from one move of the slider of `learned_field` to the next: it evaluates a network at 2,529 points.
"""

import html
import itertools
import json
import statistics
from pathlib import Path

from playwright.sync_api import sync_playwright

from benchmarks import measure
from benchmarks.measure import Table, Target
from sbm_lite import explorables
from tools.browser import launch
from tools.server import QuietHandler, served

SECONDS, FRAMES = 1.5, 50
COUNT = """async (seconds) => {
  const root = document.querySelector(".sbm-explorable"), steps = () => Number(root.dataset.steps);
  const [first, start] = [steps(), performance.now()];
  let frames = 0;
  while (performance.now() - start < 1000 * seconds) {
    await new Promise(requestAnimationFrame);
    frames += 1;
  }
  const elapsed = (performance.now() - start) / 1000;
  return [frames / elapsed, (steps() - first) / elapsed];
}"""


DRAG = """(moves) => {
  const slider = document.querySelector("[name=sigma]"), start = performance.now();
  for (let i = 0; i < moves; i++) {
    slider.value = +slider.min + (i / moves) * (slider.max - slider.min);
    slider.dispatchEvent(new Event("input"));
  }
  return (performance.now() - start) / moves;
}"""
MOVING = [  # a figure, and how many particles: more than its slider allows, if need be
    *((explorables.LangevinExplorable(), n) for n in (1_000, 4_000, 20_000, 50_000)),
    *((explorables.Annealing(), n) for n in (2_000, 5_000)),
]


class OnePage(QuietHandler):
    """Serves a folder, and at /page one page kept in memory."""

    page = b""

    def do_GET(self):
        if not self.path.startswith("/page"):
            return super().do_GET()
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.end_headers()
        self.wfile.write(OnePage.page)


def opened(browser, address: str, widget, sharpness: int, **changes):
    """A page with the live figure alone, its state changed as told."""
    state = html.escape(json.dumps(widget.state() | changes))
    figure = f'<figure data-explorable="{widget.name}" data-state="{state}"></figure>'
    page = f'<!doctype html><script type="module" src="host.js"></script>{figure}'
    OnePage.page = page.encode()
    tab = browser.new_page(viewport={"width": 1000, "height": 700}, device_scale_factor=sharpness)
    tab.goto(f"{address}/page")
    tab.locator("output[name=measured]").first.wait_for()
    tab.wait_for_timeout(500)
    return tab


def frames_and_steps(tab, seconds: float) -> list[float]:
    """Of the live figure in a page, per second: medians of three counts."""
    counts = [tab.evaluate(COUNT, seconds) for _ in range(3)]
    tab.close()
    return [statistics.median(column) for column in zip(*counts, strict=True)]


def milliseconds_per_move(browser, address: str, show: str) -> float:
    """From one move of the slider of `learned_field` to the next."""
    tab = opened(browser, address, explorables.LearnedField(show=show), 2)
    tab.evaluate(DRAG, 10)  # so that the code is compiled
    took = tab.evaluate(DRAG, 40)
    tab.close()
    return took


def moving(browser, address: str, quick: bool) -> tuple[Table, Target]:
    """Every moving figure on either screen."""
    rows, frames = [], {}
    for (widget, n), sharpness in itertools.product(MOVING[:1] if quick else MOVING, (1, 2)):
        tab = opened(browser, address, widget, sharpness, n_particles=n)
        counted = frames_and_steps(tab, 0.2 if quick else SECONDS)
        frames[widget.name, n, sharpness] = counted[0]
        rows.append([widget.name, f"{n:,}", f"{sharpness}", *(f"{c:.0f}" for c in counted)])
    slowest = min(frames.get(("langevin", 20_000, sharpness), 0) for sharpness in (1, 2))
    head = ["figure", "particles", "pixel ratio", "frames a second", "steps a second"]
    what = "frames a second of 20,000 particles, on either screen"
    target = Target(what, f"≥ {FRAMES}", f"{slowest:.0f}", slowest >= FRAMES)
    return Table("Moving figures", "", head, rows), target


def run(quick: bool = False) -> tuple[list[Table], list[Target]]:
    folder = Path(explorables.__file__).parent
    with served(folder, OnePage) as address, sync_playwright() as playwright:
        browser = launch(playwright)
        table, target = moving(browser, address, quick)
        rows = [
            [show, measure.number(milliseconds_per_move(browser, address, show))]
            for show in ("true and learned", "error")
        ]
        browser.close()
    dragged = Table("A move of the slider of learned_field", "", ["shown", "ms"], rows)
    return [table, dragged], [] if quick else [target]


if __name__ == "__main__":
    measure.main(run)
