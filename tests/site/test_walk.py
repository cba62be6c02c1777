"""Every page in a real browser: quiet, self-contained, readable on a phone and without sight.

A page is loaded once and then asked everything: `opened` is the same visit in every test, put back
to what a reader finds at first. Widths and themes change without another load.
"""

import pytest
from axe_playwright_python.sync_playwright import Axe
from test_explorables import explorables

from benchmarks.pages import KINDS, weigh

BUDGET_KB = 600  # packed, without pictures
CHAPTER = "book/03_langevin.html"


SETTLE = """document.getAnimations()
  .filter((glide) => isFinite(glide.effect.getComputedTiming().endTime))
  .forEach((glide) => glide.finish());"""
UNFOLD = "document.querySelectorAll('details').forEach((fold) => (fold.open = true))"


def resized(opened, width):
    """The page at another width, with its sidebars gone where they belong."""
    opened.page.set_viewport_size({"width": width, "height": 800})
    opened.page.evaluate(SETTLE)
    return opened.page


def lit(page, scheme):
    """Change to the light or the dark theme, as the reader's system does at nightfall."""
    page.emulate_media(color_scheme=scheme)
    page.wait_for_function(f"document.documentElement.dataset.theme == '{scheme}'")
    page.evaluate(SETTLE)


# What a page weighs, and how it is searched


def test_a_page_stays_within_its_budget(opened):
    own = opened.page.url.split("?")[0]
    asked = [answer for answer in opened.answers if answer.url.startswith("http")]
    files = {a.url: a.body() for a in asked if a.url.startswith(own) or not a.url.endswith(".html")}
    kilobytes = weigh(files)
    assert sum(kilobytes[kind] for kind in KINDS) < BUDGET_KB, kilobytes
    assert not [file for file in files if "fontawesome" in file or "/ui/" in file]


def test_root_leads_to_the_book(browser, base_url):
    page = browser.new_page()
    page.goto(base_url)
    page.wait_for_url("**/book/index.html")
    page.close()


def test_search_finds_the_subject(visit):
    page = visit("search.html?q=score").page
    page.locator("#search-results li a").first.wait_for()
    assert page.locator("#search-results li").count() >= 2


# Room: phones, magnified text, wider spacing. 640 is a screen of 1280 magnified to 200 %.

WIDE = "() => document.scrollingElement.scrollWidth - document.documentElement.clientWidth"
SPACED = """* { line-height: 1.5 !important; letter-spacing: .12em !important;
  word-spacing: .16em !important; } p { margin-bottom: 2em !important; }"""
CUT_OFF = """() => [...document.querySelectorAll("body *")].filter((it) => {
  const style = getComputedStyle(it), hides = (way) => ["hidden", "clip"].includes(way);
  const says = [...it.childNodes].some((node) => node.nodeType == 3 && node.data.trim());
  const seen = it.checkVisibility({ visibilityProperty: true, opacityProperty: true });
  if (!says || !seen || it.clientWidth <= 1 || it.closest("mjx-container")) return false;
  return (hides(style.overflowX) && it.scrollWidth > it.clientWidth + 1) ||
    (hides(style.overflowY) && it.scrollHeight > it.clientHeight + 1);
}).map((it) => `${it.tagName} ${it.className}: ${it.textContent.slice(0, 40)}`)"""


@pytest.mark.parametrize("width", [320, 390, 640, 768])
def test_page_never_scrolls_sideways(opened, width):
    assert resized(opened, width).evaluate(WIDE) <= 0


def test_wider_spacing_loses_nothing(opened):
    style = opened.page.add_style_tag(content=SPACED)
    try:
        for width in (1280, 390):
            page = resized(opened, width)
            assert page.evaluate(CUT_OFF) == []
            assert page.evaluate(WIDE) <= 0
    finally:
        style.evaluate("style => style.remove()")


# Keyboard

IN_REACH = """link => { const box = link.getBoundingClientRect();
  const top = document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2);
  return link.contains(top); }"""
CONTROLS = "a[href], button, input, select, textarea, summary, [tabindex]:not([tabindex^='-'])"
STOPS = f"""[...document.querySelectorAll("{CONTROLS}")].filter((it) => !it.disabled
  && it.tabIndex >= 0 && it.getClientRects().length
  && it.checkVisibility({{ visibilityProperty: true }}))"""
# Each is first scrolled under the header, where going backwards finds it.
LOST = f"""() => {STOPS}.map((it) => {{
  scrollBy(0, it.getBoundingClientRect().top);
  it.focus({{ focusVisible: true }});
  {SETTLE}
  const place = it.matches(".sd-stretched-link") ? it.closest(".sd-card") : it;
  const box = place.getClientRects()[0], middle = (from, to, end) => (Math.max(from, 0)
    + Math.min(to, end)) / 2; // of what is on the screen, for a table may be taller than that
  const top = document.elementFromPoint(middle(box.left, box.right, innerWidth),
    middle(box.top, box.bottom, innerHeight));
  const wrong = document.activeElement !== it ? "takes no focus"
    : !it.contains(top) ? "lies under " + (top?.className || top?.tagName)
    : [[it], [it, "::after"], [it.closest("form") ?? it]].map((one) => getComputedStyle(...one))
      .every((style) => style.outlineStyle == "none" && style.boxShadow == "none")
    ? "shows no focus" : "";
  return wrong && `${{it.outerHTML.slice(0, 120)}} ${{wrong}}`;
}}).filter(Boolean)"""


@pytest.mark.parametrize("width", [1280, 390])
def test_focus_is_seen_and_never_under_the_header(opened, width):
    lost = resized(opened, width).evaluate(LOST)
    assert not lost, "\n".join(lost)


def test_tab_reaches_every_control_and_leaves_again(visit):
    page = visit(CHAPTER, reduced_motion="reduce").page
    assert list(explorables(page))  # all of them alive
    page.evaluate("""() => { window.met = new Set();
      addEventListener("focusin", (event) => met.add(event.target)); }""")
    stops = page.evaluate(f"{STOPS}.length")
    for _ in range(2 * stops):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement === document.body"):
            break
    else:
        pytest.fail("Tab never leaves the page.")
    missed = f"{STOPS}.filter((it) => !met.has(it) && it.type != 'radio').map((it) => it.outerHTML)"
    assert page.evaluate(missed) == []


@pytest.mark.parametrize("path", [CHAPTER, "search.html?q=score", "genindex.html"])
def test_the_first_stop_skips_to_the_text(visit, path):
    page = visit(path, reduced_motion="reduce").page
    if "search" in path:  # which starts in its field
        page.evaluate("document.body.tabIndex = -1; document.body.focus()")
    page.keyboard.press("Tab")
    page.evaluate(SETTLE)
    skip = page.locator(":focus")
    assert skip.inner_text() == "Skip to main content" and skip.evaluate(IN_REACH)
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    text = "main" if "search" in path else "article.bd-article"  # past the buttons above it
    assert page.evaluate("text => !!document.activeElement.closest(text)", text)


def test_buttons_say_what_they_change_and_what_is_now(visit):
    page = visit(CHAPTER).page
    switch = page.locator(".theme-switch-button:visible").first
    modes = [(switch.click(), switch.get_attribute("aria-label"))[1] for _ in range(3)]
    known = ("light", "dark", "as the system has it")
    assert set(modes) == {f"Color mode: {mode}" for mode in known}
    folds = page.locator(".toggle-button")
    names = folds.evaluate_all("all => all.map(fold => fold.ariaLabel)")
    assert len(set(names)) == len(names) >= 4
    assert all(name.startswith("Solution to Exercise 3.") for name in names), names


def test_sidebar_opens_on_a_phone(opened):
    page = resized(opened, 390)
    link = page.locator(".bd-sidebar-primary a.reference.internal").first
    assert not link.evaluate(IN_REACH)
    page.locator("button.primary-toggle:visible").first.click()
    page.wait_for_function(IN_REACH, arg=link.element_handle())


# Accessibility

RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22a", "wcag22aa", "best-practice"]


# A page has thousands of letters in formulas and of words in code, and axe takes minutes over them:
# they are taken out. Of all the text, contrast is asked of two places for each look: the same
# colour, weight, size and opacity on the same ground.
LOOKS = """() => {
  const met = {}, style = (it) => getComputedStyle(it);
  const remembered = (of, seen = new Map()) => (it) =>
    (seen.has(it) || seen.set(it, of(it)), seen.get(it));
  const clear = (it) => style(it).backgroundColor == "rgba(0, 0, 0, 0)";
  const ground = remembered((it) =>
    it && (clear(it) ? ground(it.parentElement) : style(it).backgroundColor));
  const opacity = remembered((it) => it ? style(it).opacity * opacity(it.parentElement) : 1);
  for (const it of document.querySelectorAll("body *:not(mjx-container *)")) {
    const says = [...it.childNodes].some((node) => node.nodeType == 3 && node.data.trim());
    if (!says || !it.checkVisibility({ visibilityProperty: true })) continue;
    const { color, fontWeight, fontSize } = style(it);
    const look = [color, fontWeight, fontSize, ground(it), opacity(it)].join();
    if ((met[look] = (met[look] ?? 0) + 1) <= 2) it.dataset.look = look;
  }
  return Object.keys(met).length;
}"""
ONE_OF_EACH = {"include": [["[data-look]"]]}
ABRIDGE = """() => {
  window.whole = [...document.querySelectorAll("mjx-container, pre")].map((it) => {
    const text = it.tagName == "PRE" ? it.textContent : "";
    const looks = [...it.querySelectorAll("[data-look]")].map((word) => word.cloneNode(true));
    return [it, [...it.childNodes], [text, ...looks]];
  });
  for (const [it, , some] of whole) it.replaceChildren(...some);
}"""
RESTORE = """() => {
  for (const [it, children] of whole) it.replaceChildren(...children);
  for (const it of document.querySelectorAll("[data-look]")) delete it.dataset.look;
}"""


def violations(page, by, where=None, **options):
    """What axe finds by these rules, one line for each place."""
    options |= {"resultTypes": ["violations"], "preload": False, "runOnly": by}
    found = Axe().run(page, context=where, options=options).response["violations"]
    return [
        f"{rule['id']} at {node['target']}: {node['failureSummary']}"
        for rule in found
        for node in rule["nodes"]
    ]


def test_axe_finds_nothing(opened):
    opened.page.evaluate(UNFOLD)
    opened.page.evaluate(ABRIDGE)
    report = violations(opened.page, RULES, rules={"color-contrast": {"enabled": False}})
    opened.page.evaluate(RESTORE)
    assert not report, "\n".join(report)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_faint_colour(opened, scheme):
    lit(opened.page, scheme)
    opened.page.evaluate(UNFOLD)
    opened.page.evaluate(SETTLE)  # what was folded changes its colours only now
    assert opened.page.evaluate(LOOKS) > 5
    opened.page.evaluate(ABRIDGE)
    report = violations(opened.page, ["color-contrast", "link-in-text-block"], ONE_OF_EACH)
    opened.page.evaluate(RESTORE)
    assert not report, "\n".join(report)


def test_a_finger_hits_every_control_on_a_phone(opened):
    report = violations(resized(opened, 390), ["target-size"])
    assert not report, "\n".join(report)


def test_axe_finds_nothing_in_what_opens(visit):
    page = visit("book/next.html", width=390, height=800, reduced_motion="reduce").page
    report = []
    for opener in ("button.primary-toggle", "button.secondary-toggle", "button.search-button"):
        page.locator(f"{opener}:visible").first.click()
        page.locator("dialog[open]").wait_for()
        for scheme in ("light", "dark"):
            lit(page, scheme)
            report += [
                f"{opener}, {scheme}: {line}" for line in violations(page, RULES, "dialog[open]")
            ]
        page.keyboard.press("Escape")
    assert not report, "\n".join(report)


# Formulas

CUT = """() => [...document.querySelectorAll("mjx-container[display=true]")].filter((formula) => {
  const box = formula.closest("div.math").clientWidth, number = formula.closest(":has(> .eqno)");
  const room = box - (number?.querySelector(".eqno").offsetWidth ?? 0);
  return formula.querySelector("mjx-math").getBoundingClientRect().width > room;
}).map((formula) => formula.closest("div.math").id || formula.textContent)"""


def test_formulas_are_typeset_and_spoken(opened):
    page = opened.page
    sources = page.locator(".math:not(mjx-container .math)").count()
    if sources:
        assert page.locator("mjx-container").count() >= sources
        assert page.locator("mjx-assistive-mml math").count() >= sources
        assert page.locator("mjx-merror, [data-mjx-error]").count() == 0
        page.evaluate("document.fonts.ready.then(() => true)")
        assert page.evaluate(
            "[...document.fonts].some(f => f.family.startsWith('MJX') && f.status == 'loaded')"
        )


def test_no_formula_is_cut_on_a_wide_screen(opened):
    opened.page.evaluate(UNFOLD)
    assert opened.page.evaluate(CUT) == []


# The last, so that it hears what a page said to all of the above


def test_page_is_quiet_and_asks_nobody_else(opened):
    assert not opened.complaints, "\n".join(opened.complaints)
