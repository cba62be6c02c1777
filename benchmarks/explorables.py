"""Frames and Langevin steps a second of the live figure, in headless Chromium.

    python -m benchmarks.explorables

Serves the explorables on localhost, opens `langevin` on two modes with 1,000, 4,000 and 20,000
particles, on an ordinary and on a twice as sharp screen, and counts for a few seconds. One step is
made per frame, sixty a second at most.
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


def page(n_particles: int) -> bytes:
    """A page with the live figure alone."""
    state = json.dumps(explorables.LangevinExplorable(n_particles=n_particles).state())
    figure = f'<figure data-explorable="langevin" data-state="{html.escape(state)}"></figure>'
    return f'<!doctype html><script type="module" src="host.js"></script>{figure}'.encode()


def measure(browser, address: str, n_particles: int, sharpness: int) -> list[float]:
    """Frames and steps a second."""
    OnePage.page = page(n_particles)
    tab = browser.new_page(viewport={"width": 1000, "height": 700}, device_scale_factor=sharpness)
    tab.goto(f"{address}/page")
    tab.wait_for_selector(".sbm-explorable[data-steps]")
    tab.wait_for_timeout(500)
    rates = tab.evaluate(COUNT, SECONDS)
    tab.close()
    return rates


def main() -> None:
    folder = Path(explorables.__file__).parent
    with served(folder, OnePage) as address, sync_playwright() as playwright:
        browser = launch(playwright)
        print(f"{'pixel ratio':>11}  {'particles':>9}  {'frames/s':>8}  {'steps/s':>7}")
        for sharpness, n in itertools.product((1, 2), (1_000, 4_000, 20_000)):
            frames, steps = measure(browser, address, n, sharpness)
            print(f"{sharpness:>11}  {n:>9,}  {frames:>8.1f}  {steps:>7.1f}")
        browser.close()


if __name__ == "__main__":
    main()
