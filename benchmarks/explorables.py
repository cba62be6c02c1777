"""Frames and steps a second of the live figures, in headless Chromium.

    python -m benchmarks.explorables

Serves the explorables on localhost and opens them on an ordinary and on a twice as sharp screen:
`langevin` on two modes with 1,000, 4,000 and 20,000 particles, `annealing` with 2,000 and 5,000 in
either map; it counts for a few seconds. `langevin` makes one step per frame, sixty a second at
most; a run of `annealing` is spread over twelve seconds. Then the time from one move of the slider
of `learned_field` to the next: it evaluates a network at 2,529 points.
"""

import html
import itertools
import json
from pathlib import Path

from playwright.sync_api import sync_playwright

from sbm_lite import explorables
from tools.browser import launch
from tools.server import QuietHandler, served

SECONDS = 4
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
MOVING = [
    *(explorables.LangevinExplorable(n_particles=n) for n in (1_000, 4_000, 20_000)),
    *(explorables.Annealing(n_particles=n) for n in (2_000, 5_000)),
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


def opened(browser, address: str, widget, sharpness: int):
    """A page with the live figure alone."""
    state = html.escape(json.dumps(widget.state()))
    figure = f'<figure data-explorable="{widget.name}" data-state="{state}"></figure>'
    page = f'<!doctype html><script type="module" src="host.js"></script>{figure}'
    OnePage.page = page.encode()
    tab = browser.new_page(viewport={"width": 1000, "height": 700}, device_scale_factor=sharpness)
    tab.goto(f"{address}/page")
    tab.locator("output[name=measured]").first.wait_for()
    tab.wait_for_timeout(500)
    return tab


def main() -> None:
    folder = Path(explorables.__file__).parent
    with served(folder, OnePage) as address, sync_playwright() as playwright:
        browser = launch(playwright)
        head = ("figure", "pixel ratio", "particles", "frames/s", "steps/s")
        print("{:>9}  {:>11}  {:>9}  {:>8}  {:>7}".format(*head))
        for widget, sharpness in itertools.product(MOVING, (1, 2)):
            tab = opened(browser, address, widget, sharpness)
            frames, steps = tab.evaluate(COUNT, SECONDS)
            tab.close()
            n = f"{widget.n_particles:,}"
            print(f"{widget.name:>9}  {sharpness:>11}  {n:>9}  {frames:>8.1f}  {steps:>7.1f}")
        for show in ("true and learned", "error"):
            tab = opened(browser, address, explorables.LearnedField(show=show), 2)
            tab.evaluate(DRAG, 10)  # so that the code is compiled
            print(f"learned_field, {show}: {tab.evaluate(DRAG, 40):.0f} ms per move of the slider")
            tab.close()
        browser.close()


if __name__ == "__main__":
    main()
