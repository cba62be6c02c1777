"""Every page in a real browser: quiet, self-contained, readable on a phone and without sight."""

import pytest
from axe_playwright_python.sync_playwright import Axe

STILL = {"reduced_motion": "reduce"}
IN_REACH = """link => { const box = link.getBoundingClientRect();
  const top = document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2);
  return link.contains(top); }"""


def test_page_is_quiet_and_asks_nobody_else(visit, page_path):
    opened = visit(page_path)
    for figure in opened.page.locator("article figure").all():
        figure.scroll_into_view_if_needed()
    opened.page.wait_for_load_state("networkidle")
    assert not opened.complaints, "\n".join(opened.complaints)


def test_root_leads_to_the_book(browser, base_url):
    page = browser.new_page()
    page.goto(base_url)
    page.wait_for_url("**/book/index.html")
    page.close()


def test_search_finds_the_subject(visit):
    page = visit("search.html?q=score").page
    page.locator("#search-results li a").first.wait_for()
    assert page.locator("#search-results li").count() >= 2


@pytest.mark.parametrize("width", [320, 390, 768])
def test_page_never_scrolls_sideways(visit, page_path, width):
    page = visit(page_path, width=width, height=800, **STILL).page
    wide = "() => document.scrollingElement.scrollWidth - document.documentElement.clientWidth"
    assert page.evaluate(wide) <= 0


def test_sidebar_opens_on_a_phone(visit, page_path):
    page = visit(page_path, width=390, height=800, **STILL).page
    link = page.locator(".bd-sidebar-primary a.reference.internal").first
    assert not link.evaluate(IN_REACH)
    page.locator("button.primary-toggle:visible").first.click()
    page.wait_for_timeout(500)
    assert link.evaluate(IN_REACH)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(visit, page_path, scheme):
    page = visit(page_path, color_scheme=scheme, **STILL).page
    assert page.evaluate("document.documentElement.dataset.theme") == scheme
    found = Axe().run(page).response["violations"]
    report = [f"{rule['id']} at {node['target']}: {node['failureSummary']}"
              for rule in found for node in rule["nodes"]]
    assert not report, "\n".join(report)


def test_formulas_are_typeset_and_spoken(visit, page_path):
    page = visit(page_path, **STILL).page
    sources = page.locator(".math:not(mjx-container .math)").count()
    if sources:
        assert page.locator("mjx-container").count() >= sources
        assert page.locator("mjx-assistive-mml math").count() >= sources
        assert page.locator("mjx-merror, [data-mjx-error]").count() == 0
        page.evaluate("document.fonts.ready.then(() => true)")
        assert page.evaluate("[...document.fonts].some(f => f.family.startsWith('MJX') "
                             "&& f.status == 'loaded')")


CUT = """() => [...document.querySelectorAll("mjx-container[display=true]")].filter((formula) => {
  const box = formula.closest("div.math").clientWidth, number = formula.closest(":has(> .eqno)");
  const room = box - (number?.querySelector(".eqno").offsetWidth ?? 0);
  return formula.querySelector("mjx-math").getBoundingClientRect().width > room;
}).map((formula) => formula.closest("div.math").id || formula.textContent)"""


def test_no_formula_is_cut_on_a_wide_screen(visit, page_path):
    page = visit(page_path, **STILL).page
    for fold in page.locator("details.sd-dropdown > summary").all():
        fold.click()
    assert page.evaluate(CUT) == []
