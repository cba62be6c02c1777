"""The pages of the chapters: what they weigh, and how soon they are there.

    python -m benchmarks.pages

The site is built and served on localhost without compression, and each chapter is opened in
headless Chromium with nothing in its cache. Every file that the page asks for on the way to its
end is weighed as gzip (level 6) packs it; pictures, those inside the page included, stand apart.
Then the chapters take turns in being opened: from the start of navigation to the first paint, to
the first live figure with its measured numbers, and to the last formula in its final shape.
"""

import gzip
import re
import statistics
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

from playwright.sync_api import sync_playwright

from benchmarks import measure
from benchmarks.measure import Table, Target
from tools.browser import launch
from tools.server import served
from tools.website import built

KINDS = ["page", "styles", "scripts", "MathJax", "fonts"]
KIND = {".html": "page", ".css": "styles", ".js": "scripts", ".woff": "fonts", ".woff2": "fonts"}
SCREEN = {"width": 1280, "height": 900}
PICTURE_INSIDE = re.compile(rb'(?<=src=")data:image/[^"]*')
STAGES = ["first paint", "live figure", "formulas"]
PAINT = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"
WATCH = """(() => {
  const seen = window.seen = {}, note = (stage) => (seen[stage] ??= performance.now());
  const live = "[data-explorable] output[name=measured]";
  const watch = new MutationObserver(() => {
    if (!document.querySelector(live)?.textContent) return;
    note("live figure");
    watch.disconnect();
  });
  watch.observe(document, { childList: true, subtree: true });
  addEventListener("DOMContentLoaded", () => MathJax.startup.promise.then(() => note("formulas")));
})()"""

BOTH = """() => new Promise((resume) => {
  const look = () => (seen.formulas && seen["live figure"] ? resume() : setTimeout(look, 5));
  look();
})"""  # a page forbids Playwright to wait within it


def files_of(tab, address: str) -> dict[str, bytes]:
    """Everything that a page asks for until its last figure is in view, by address."""
    answers = []
    tab.on("response", lambda answer: answers.append(answer))
    tab.goto(address)
    tab.evaluate("() => window.MathJax?.startup?.promise?.then(() => true)")
    for figure in tab.locator("article figure").all():
        figure.scroll_into_view_if_needed()
    tab.wait_for_load_state("networkidle")
    return {a.url: a.body() for a in answers if a.url.startswith("http")}


def kind(address: str) -> str:
    """What a file counts as."""
    path = urlsplit(address).path
    if path.endswith("mathjax.js"):
        return "MathJax"
    return KIND.get(Path(path).suffix, "pictures")


def weigh(files: dict[str, bytes]) -> dict[str, float]:
    """Packed kB of each kind."""
    kilobytes = dict.fromkeys([*KINDS, "pictures"], 0.0)
    for address, body in files.items():
        kilobytes[kind(address)] += packed(PICTURE_INSIDE.sub(b"", body))
        kilobytes["pictures"] += sum(map(packed, PICTURE_INSIDE.findall(body)))
    return kilobytes


def packed(body: bytes) -> float:
    """Size in kB after gzip, as servers use it."""
    return len(gzip.compress(body, 6)) / 1000 if body else 0.0


def weights(browser, addresses: dict[str, str]) -> tuple[Table, Target]:
    rows, totals = [], []
    for name, address in addresses.items():
        tab = browser.new_page(viewport=SCREEN)
        kilobytes = weigh(files_of(tab, address))
        tab.close()
        totals.append(sum(kilobytes[kind] for kind in KINDS))
        shown = [*(kilobytes[kind] for kind in KINDS), totals[-1], kilobytes["pictures"]]
        rows.append([name, *map(measure.number, shown)])
    head = ["chapter", *KINDS, "all these", "pictures"]
    target = measure.at_most("the heaviest chapter without pictures", 600, max(totals), " kB")
    return Table("Weight of a page", "In kB.", head, rows), target


def opened(browser, address: str) -> dict[str, float]:
    """Seconds to each stage of one visit with an empty cache."""
    context = browser.new_context(viewport=SCREEN)
    tab = context.new_page()
    tab.add_init_script(WATCH)
    tab.goto(address)
    tab.evaluate(BOTH)
    milliseconds = tab.evaluate(f"({{ 'first paint': {PAINT}, ...seen }})")
    context.close()
    return {stage: milliseconds[stage] / 1000 for stage in STAGES}


def waits(browser, addresses: dict[str, str], turns: int) -> tuple[Table, Target]:
    visits = {name: [] for name in addresses}
    for _ in range(turns):
        for name, address in addresses.items():
            visits[name].append(opened(browser, address))
    rows, lively = [], []
    for name, stages in visits.items():
        columns = [[stage[s] for stage in stages] for s in STAGES]
        medians = [(statistics.median(c), min(c), max(c)) for c in columns]
        lively.append(medians[STAGES.index("live figure")][0])
        rows.append([name, *map(measure.spread, medians)])
    note = f"Seconds from the start of navigation, {turns} visits."
    target = measure.at_most("until a live figure runs, slowest chapter", 1.5, max(lively), " s")
    return Table("Wait for a page", note, ["chapter", *STAGES], rows), target


def run(quick: bool = False) -> tuple[list[Table], list[Target]]:
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        site = built(Path(folder))
        chapters = sorted(site.glob("book/[0-9]*.html"))[: 1 if quick else None]
        with served(site) as address:
            browser = launch(playwright)
            addresses = {page.stem: f"{address}/book/{page.name}" for page in chapters}
            tables, targets = zip(
                weights(browser, addresses),
                waits(browser, addresses, 1 if quick else 7),
                strict=True,
            )
            browser.close()
    return list(tables), list(targets)


if __name__ == "__main__":
    measure.main(run)
