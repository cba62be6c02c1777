"""All live figures on one page, kept busy for minutes: does anything pile up? `make soak`.

    python -m tools.soak [MINUTES]

Those that move by themselves play, and start again at their end; some slider moves four times a
second. Every half minute all go back to the settings that they start with, the browser throws away
what is garbage and says what is left: objects of JavaScript, arrays of numbers, nodes of the page,
listeners. That must be as much in the second half as in the first, and the page must have said
nothing in its console.
"""

import sys
import time

from playwright.sync_api import sync_playwright

from sbm_lite import explorables
from tools.browser import launch
from tools.server import served

MINUTES, WARM_UP = 10.0, 20  # of figures, seconds before the first look
LOOKS = 20  # at least, and one every half minute
# What is counted, and by how much it may grow before it counts as piling up.
SLACK = {"bytes of objects": 1e6, "bytes of arrays": 1e6, "nodes": 50, "listeners": 0}
SCREEN = {"width": 1900, "height": 2600}  # all ten in sight, or they would rest
STYLE = "main { display: grid; grid-template-columns: repeat(4, 1fr) } figure { margin: 0 }"
BUSY = """() => {
  const sliders = [...document.querySelectorAll("input[type=range]")];
  let turn = 0;
  setInterval(() => {
    for (const button of document.querySelectorAll(".sbm-main"))
      if (button.textContent === "Play") button.click();
    const slider = sliders[turn % sliders.length], share = (0.37 * turn) % 1;
    slider.value = +slider.min + share * (slider.max - slider.min);
    slider.dispatchEvent(new Event("input", { bubbles: true }));
    turn += 1;
  }, 250);
}"""


# More particles take more memory: each look is at the settings that the figures start with.
BACK = """() => {
  for (const { model } of document.querySelectorAll("[data-explorable]"))
    model.restore(new URLSearchParams());
  return new Promise((resume) => setTimeout(resume, 200));
}"""


def ten_figures() -> str:
    """One of each live figure, four in a row."""
    return (
        f"<style>{STYLE}</style><main>{''.join(cls().html() for cls in explorables.EVERY)}</main>"
    )


def show(page, address: str, html: str):
    """Put figures into an empty page of the folder that holds their modules, and start them."""
    page.goto(f"{address}/")
    page.set_content(html)
    page.evaluate("import('/host.js').then(() => true)")
    figures = "[...document.querySelectorAll('[data-explorable]')]"
    page.wait_for_function(f"{figures}.every((one) => one.querySelector('output[name=measured]'))")


def left(page, devtools) -> dict[str, int]:
    """What is left when garbage is gone."""
    page.evaluate(BACK)
    devtools.send("HeapProfiler.collectGarbage")
    heap, nodes = devtools.send("Runtime.getHeapUsage"), devtools.send("Memory.getDOMCounters")
    found = heap["usedSize"], heap["backingStorageSize"], nodes["nodes"], nodes["jsEventListeners"]
    return dict(zip(SLACK, map(int, found), strict=True))


def listen(page, said: list[str]):
    """Note what a page says in its console, but for the icon that nobody gave it."""
    icon = "/favicon.ico"
    page.on("console", lambda m: m.location["url"].endswith(icon) or said.append(m.text))
    page.on("pageerror", lambda error: said.append(str(error)))


def soak(page, address: str, minutes: float, tell=lambda line: None) -> list[dict[str, int]]:
    """What is left at each look, from the end of the warm-up on."""
    devtools = page.context.new_cdp_session(page)
    show(page, address, ten_figures())
    page.evaluate(BUSY)
    page.wait_for_timeout(1000 * min(WARM_UP, 30 * minutes))
    start, looks = time.monotonic(), []
    every = min(30, 60 * minutes / LOOKS)
    while (passed := time.monotonic() - start) < 60 * minutes:
        looks.append(left(page, devtools))
        tell(f"{passed:4.0f} s " + ", ".join(f"{v:>10,} {name}" for name, v in looks[-1].items()))
        page.wait_for_timeout(1000 * every)
    return looks


def growth(looks: list[dict[str, int]]) -> dict[str, int]:
    """How much more the least of the second half is than the least of the first."""
    half = len(looks) // 2
    return {n: min(x[n] for x in looks[half:]) - min(x[n] for x in looks[:half]) for n in SLACK}


def piles_up(looks: list[dict[str, int]]) -> list[str]:
    """What grows by more than its slack."""
    return [name for name, more in growth(looks).items() if more > SLACK[name]]


def main(minutes: float = MINUTES):
    said = []
    with sync_playwright() as playwright, served(explorables.HERE) as address:
        page = launch(playwright).new_page(viewport=SCREEN)
        listen(page, said)
        looks = soak(page, address, minutes, print)
    print("second half against first:", growth(looks))
    if grown := piles_up(looks) + said:
        sys.exit(f"Not flat, or not quiet: {grown}")


if __name__ == "__main__":
    main(*map(float, sys.argv[1:]))
