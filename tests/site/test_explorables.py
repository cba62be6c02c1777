"""Every explorable of every page: alive with JavaScript, a described picture without."""

from pathlib import Path

import pytest
import yaml

from sbm_lite.explorables import EVERY

ROOT = Path(__file__).parents[2]
MEASURED = "figure => [...figure.querySelectorAll('output[name=measured]')].map(o => o.textContent)"
SHOWN = "img => img.complete && img.naturalWidth > 0 && img.getBoundingClientRect().height > 40"
STILL = {"reduced_motion": "reduce"}


def live_pages():
    """The pages of _toc.yml whose source holds an explorable."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text("utf8"))
    names = [toc["root"], *(entry["file"] for part in toc["parts"] for entry in part["chapters"])]
    found = {path: path.read_text("utf8") for name in names for path in ROOT.glob(f"{name}.*")}
    marks = "{explorable}", "data-explorable="
    live = [path for path, text in found.items() if any(mark in text for mark in marks)]
    return [f"{path.relative_to(ROOT).with_suffix('.html')}" for path in live]


each_live_page = pytest.mark.parametrize("live_page", live_pages())


def explorables(page):
    """The explorables of a page, each scrolled to, which is when it comes to life."""
    for figure in page.locator("[data-explorable]").all():
        figure.scroll_into_view_if_needed()
        figure.locator("output[name=measured]").first.wait_for()
        yield figure


def nudge(slider):
    """One press of an arrow key, away from the end of the slider."""
    slider.focus()
    at_the_end = slider.evaluate("input => input.valueAsNumber >= +input.max - +input.step")
    slider.press("ArrowLeft" if at_the_end else "ArrowRight")


def test_the_landing_page_has_an_explorable(visit):
    assert list(explorables(visit("book/index.html").page))


@each_live_page
def test_every_slider_moves_by_keyboard_and_shows_its_value(visit, live_page):
    opened = visit(live_page)
    for figure in explorables(opened.page):
        assert figure.locator("input[type=range]").count()
        for slider in figure.locator("input[type=range]").all():
            shown = figure.locator(f"output[for='{slider.get_attribute('id')}']")
            before = shown.text_content()
            nudge(slider)
            assert shown.text_content() != before
    assert not opened.complaints, "\n".join(opened.complaints)


@each_live_page
def test_the_measured_number_answers(visit, live_page):
    page = visit(live_page).page
    for figure in explorables(page):
        before = figure.evaluate(MEASURED)
        assert before
        nudge(figure.locator("input[type=range]").first)
        changed = f"([figure, before]) => '' + ({MEASURED})(figure) != '' + before"
        page.wait_for_function(changed, arg=[figure.element_handle(), before])


@each_live_page
def test_every_control_has_a_name(visit, live_page):
    for figure in explorables(visit(live_page).page):
        for control in figure.locator("input, select").all():
            assert control.evaluate("control => control.labels.length || control.ariaLabel")


@each_live_page
def test_reduced_motion_starts_paused(visit, live_page):
    page = visit(live_page, reduced_motion="reduce").page
    for figure in explorables(page):
        page.wait_for_timeout(200)
        before = figure.evaluate(MEASURED)
        page.wait_for_timeout(400)
        assert figure.evaluate(MEASURED) == before


@pytest.mark.parametrize("width", [320, 1280])
@each_live_page
def test_without_javascript_the_poster_stands(visit, live_page, width):
    page = visit(live_page, width=width, java_script_enabled=False).page
    for figure in page.locator("[data-explorable]").all():
        poster = figure.locator("img")
        assert poster.count() == 1 and len(poster.get_attribute("alt")) >= 40
        assert poster.evaluate(SHOWN)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@each_live_page
def test_on_paper_the_poster_stands(visit, live_page, scheme):
    page = visit(live_page, color_scheme=scheme).page
    for figure in explorables(page):
        assert not figure.locator("img").is_visible()
        page.emulate_media(media="print")
        assert figure.locator("img").evaluate(SHOWN)
        assert not figure.locator("canvas").first.is_visible()
        page.emulate_media(media="screen")


# Links

ALL_CHANGED = """figure => {
  const change = (control, event, set) => {
    set();
    control.dispatchEvent(new Event(event, { bubbles: true }));
  };
  for (const c of [...figure.querySelectorAll("[name]:is(input, select)")].reverse())
    if (c.type === "checkbox") c.click();
    else if (c.type === "range")
      change(c, "input", () => { c.value = 0.62 * c.min + 0.38 * c.max; });
    else if (c.type === "number") change(c, "change", () => { c.value = 7; });
    else change(c, "change", () => { c.selectedIndex = (c.selectedIndex + 1) % c.length; });
}"""
SETTINGS = """figure => [...figure.querySelectorAll("[name]:is(input, select), .sbm-value[for]")]
  .map(c => c.type === "checkbox" ? c.checked : c.value)"""
IN_SIGHT = """figure => { const {top, bottom} = figure.getBoundingClientRect();
  return top >= 0 && top < innerHeight / 3 && document.activeElement === figure; }"""


@each_live_page
def test_a_copied_link_leads_to_the_figure_as_it_is(visit, live_page, base_url):
    opened = visit(live_page, permissions=["clipboard-read", "clipboard-write"], **STILL)
    for figure in explorables(opened.page):
        before = figure.evaluate(SETTINGS)
        figure.evaluate(ALL_CHANGED)
        for handle in figure.locator(".sbm-handle").all():  # to where no slider leads
            handle.locator("..").click(position={"x": 87, "y": 113})
        left = figure.evaluate(SETTINGS)
        assert all(now != then for now, then in zip(left, before, strict=True))
        figure.get_by_role("button", name="Copy link").click()
        figure.get_by_role("status").get_by_text("Link copied.").wait_for()
        link = opened.page.evaluate("navigator.clipboard.readText()")
        there = visit(link.removeprefix(base_url), **STILL)
        name = figure.get_attribute("id")
        assert there.page.locator(f"[id='{name}']").count() == 1
        again = there.page.locator(f"#{name}")
        again.get_by_role("status").get_by_text("settings of the link").wait_for()
        assert again.evaluate(SETTINGS) == left
        there.page.wait_for_function(IN_SIGHT, arg=again.element_handle())
        assert not there.complaints, "\n".join(there.complaints)
    assert not opened.complaints, "\n".join(opened.complaints)


def test_a_link_is_followed_on_the_page_and_back_again(visit):
    opened = visit("book/03_langevin.html?highlight=score#langevin-2?noise=0", **STILL)
    page, figure = opened.page, opened.page.locator("#langevin-2")
    noise, size = figure.locator("[name=noise]"), figure.locator("output[for*=step_size]")
    assert not noise.is_checked()
    start = size.text_content()
    for settings in ("step_size=0.5", "step_size=1"):
        page.evaluate("hash => { location.hash = hash }", f"langevin-2?{settings}")
    size.get_by_text("η = 1.00").wait_for()
    assert noise.is_checked()
    page.go_back()
    size.get_by_text("η = 0.50").wait_for()
    page.evaluate("location.hash = 'langevin-2'")
    size.get_by_text(start).wait_for()
    assert not opened.complaints, "\n".join(opened.complaints)


@pytest.mark.parametrize(
    "wrong",
    [
        "step_size=&n_particles=NaN&seed=x&noise=2&density=moon&metropolis=constructor",
        "densities=0&__proto__=1&toString=1&bogus",
        "??&&==%E0%A4%A&step_size=Infinity",
    ],
)
def test_a_malformed_link_changes_nothing(visit, wrong):
    opened = visit(f"book/index.html#langevin?{wrong}", **STILL)
    figure = next(explorables(opened.page))
    assert figure.evaluate("f => [f.model.changes().toString(), location.hash.length > 9]") == [
        "",
        True,
    ]
    assert not opened.complaints, "\n".join(opened.complaints)


def test_a_link_out_of_range_stops_at_the_end_of_the_slider(visit):
    page = visit("book/index.html#langevin?step_size=1e9&n_particles=-3&seed=2.6", **STILL).page
    figure = next(explorables(page))
    assert figure.locator("[name=step_size]").evaluate("s => s.valueAsNumber >= +s.max - +s.step")
    assert figure.locator("output[for*=n_particles]").text_content() == "n = 100"
    assert figure.locator("[name=seed]").input_value() == "3"


def test_the_address_is_shown_where_the_clipboard_is_refused(visit):
    page = visit("book/index.html", **STILL).page
    figure = next(explorables(page))
    page.evaluate("() => { navigator.clipboard.writeText = () => Promise.reject(); }")
    figure.locator("[name=noise]").uncheck()
    figure.get_by_role("button", name="Copy link").click()
    assert (
        figure.get_by_label("Address of this figure").input_value()
        == f"{page.url}#langevin?noise=0"
    )
    assert page.evaluate("getSelection().toString()").endswith("#langevin?noise=0")
    figure.locator("[name=noise]").check()
    assert not figure.get_by_label("Address of this figure").is_visible()


def test_opened_from_disk_a_figure_says_that_it_is_still(browser, site, base_url):
    page = browser.new_page()
    page.goto((site / "book/03_langevin.html").absolute().as_uri())
    assert page.locator("figcaption", has_text="Opened from disk").count() == 2
    page.goto(f"{base_url}book/03_langevin.html")
    assert page.locator("figcaption", has_text="Opened from disk").count() == 0
    page.close()


# For every reader

AUDIT = Path(__file__).with_name("audit.js").read_text("utf8")
STOPS = "input:not([hidden]):enabled, select, button"
FOCUSED = """([figure, stops]) => {
  const on = document.activeElement, { outlineStyle, outlineWidth } = getComputedStyle(on);
  const isSeen = outlineStyle !== "none" && parseFloat(outlineWidth) >= 2;
  return [[...figure.querySelectorAll(stops)].indexOf(on), isSeen];
}"""
OUTSIDE = """figure => {
  const frame = figure.getBoundingClientRect();
  return [...figure.querySelectorAll("*:not(.sbm-unseen *, .sbm-handle)")].filter(n => {
    const { left, right, width } = n.getBoundingClientRect();
    return width && (left < frame.left - 1 || right > frame.right + 1);
  }).map(n => n.outerHTML);
}"""
COLOURED = "s => getComputedStyle(s).color !== getComputedStyle(s.parentNode).color"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@each_live_page
def test_size_contrast_and_words(visit, live_page, scheme):
    page = visit(live_page, color_scheme=scheme, **STILL).page
    for figure in explorables(page):
        page.wait_for_timeout(1200)
        assert not figure.evaluate(AUDIT)


@each_live_page
def test_tab_goes_from_control_to_control_in_sight(visit, live_page):
    page = visit(live_page, **STILL).page
    for figure in explorables(page):
        stops = figure.locator(STOPS).all()
        stops[0].focus()
        page.keyboard.press("Shift")
        for k in range(1, len(stops)):
            page.keyboard.press("Tab")
            assert page.evaluate(FOCUSED, [figure.element_handle(), STOPS]) == [k, True]


def test_nothing_is_spoken_before_the_reader_touches_the_figure(visit):
    page = visit("book/06_denoising_score_matching.html", **STILL).page
    figure = next(explorables(page))
    page.wait_for_timeout(1500)
    status = figure.locator("p[role=status]")
    assert status.text_content() == ""
    figure.locator("[name=sigma]").press("ArrowRight")
    page.wait_for_function("s => s.textContent", arg=status.element_handle())


@each_live_page
def test_asking_for_less_motion_pauses_what_runs(visit, live_page):
    page = visit(live_page).page
    for figure in explorables(page):
        if figure.locator(".sbm-main").count():
            page.emulate_media(reduced_motion="no-preference")
            figure.get_by_role("button", name="Restart").click()
            if figure.locator(".sbm-main").text_content() == "Play":
                figure.get_by_role("button", name="Play").click()
            page.emulate_media(reduced_motion="reduce")
            figure.get_by_role("button", name="Play").wait_for()


@each_live_page
def test_four_times_as_large_and_in_forced_colours(visit, live_page):
    page = visit(live_page, width=320, height=256, forced_colors="active", **STILL).page
    for figure in explorables(page):
        assert not figure.evaluate(OUTSIDE)
        assert all(p.bounding_box()["height"] <= 256 for p in figure.locator(".sbm-picture").all())
        for swatch in figure.locator(".sbm-swatch").all()[:1]:
            assert swatch.evaluate(COLOURED)
    assert page.evaluate("document.scrollingElement.scrollWidth <= innerWidth")


def test_a_finger_on_the_picture_scrolls_the_page(visit):
    page = visit(
        "book/06_denoising_score_matching.html", width=390, height=800, has_touch=True, **STILL
    ).page
    figure = next(explorables(page))
    figure.evaluate("figure => figure.scrollIntoView()")
    before, box = page.evaluate("scrollY"), figure.locator(".sbm-picture").bounding_box()
    touch = page.context.new_cdp_session(page)
    for kind, y in [("touchStart", 220), ("touchMove", 150), ("touchMove", 70), ("touchEnd", None)]:
        points = [] if y is None else [{"x": box["x"] + 40, "y": box["y"] + y}]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    page.wait_for_function("before => scrollY > before + 100", arg=before)


@pytest.mark.parametrize("cls", EVERY)
def test_no_slider_leaves_the_range_of_its_trait(alive, cls):
    page = alive(cls())
    for slider in page.locator("input[type=range]").all():
        name = slider.get_attribute("name")
        trait = cls.class_traits()[name]
        for end, key in ((trait.min, "Home"), (trait.max, "End")):
            slider.press(key)
            there = page.evaluate("name => document.querySelector('figure').model.get(name)", name)
            assert trait.min <= there <= trait.max, name
            assert abs(there - end) <= 0.05 * (trait.max - trait.min), name
