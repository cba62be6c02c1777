"""Every explorable of every page: alive with JavaScript, a described picture without."""

import pytest

MEASURED = "figure => [...figure.querySelectorAll('output[name=measured]')].map(o => o.textContent)"
SHOWN = "img => img.complete && img.naturalWidth > 0 && img.getBoundingClientRect().height > 40"
PATIENCE = 5_000  # ms


def explorables(page):
    """The explorables of a page, each scrolled to, which is when it comes to life."""
    for figure in page.locator("[data-explorable]").all():
        figure.scroll_into_view_if_needed()
        figure.locator("canvas").first.wait_for(timeout=PATIENCE)
        yield figure


def nudge(slider):
    """One press of an arrow key, away from the end of the slider."""
    slider.focus(timeout=PATIENCE)
    at_the_end = slider.evaluate("input => input.valueAsNumber >= +input.max - +input.step")
    slider.press("ArrowLeft" if at_the_end else "ArrowRight")


def test_the_landing_page_has_an_explorable(visit):
    assert list(explorables(visit("book/index.html").page))


def test_every_slider_moves_by_keyboard_and_shows_its_value(visit, page_path):
    opened = visit(page_path)
    for figure in explorables(opened.page):
        assert figure.locator("input[type=range]").count()
        for slider in figure.locator("input[type=range]").all():
            shown = figure.locator(f"output[for='{slider.get_attribute('id')}']")
            before = shown.text_content()
            nudge(slider)
            assert shown.text_content() != before
    assert not opened.complaints, "\n".join(opened.complaints)


def test_the_measured_number_answers(visit, page_path):
    page = visit(page_path).page
    for figure in explorables(page):
        before = figure.evaluate(MEASURED)
        assert before
        nudge(figure.locator("input[type=range]").first)
        changed = f"([figure, before]) => '' + ({MEASURED})(figure) != '' + before"
        page.wait_for_function(changed, arg=[figure.element_handle(), before], timeout=PATIENCE)


def test_every_control_has_a_name(visit, page_path):
    for figure in explorables(visit(page_path).page):
        for control in figure.locator("input, select").all():
            assert control.evaluate("control => control.labels.length || control.ariaLabel")


def test_reduced_motion_starts_paused(visit, page_path):
    page = visit(page_path, reduced_motion="reduce").page
    for figure in explorables(page):
        page.wait_for_timeout(200)
        before = figure.evaluate(MEASURED)
        page.wait_for_timeout(400)
        assert figure.evaluate(MEASURED) == before


@pytest.mark.parametrize("width", [320, 1280])
def test_without_javascript_the_poster_stands(visit, page_path, width):
    page = visit(page_path, width=width, java_script_enabled=False).page
    for figure in page.locator("[data-explorable]").all():
        poster = figure.locator("img")
        assert poster.count() == 1 and len(poster.get_attribute("alt")) >= 40
        assert poster.evaluate(SHOWN)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_paper_the_poster_stands(visit, page_path, scheme):
    page = visit(page_path, color_scheme=scheme).page
    for figure in explorables(page):
        assert not figure.locator("img").is_visible()
        page.emulate_media(media="print")
        assert figure.locator("img").evaluate(SHOWN)
        assert not figure.locator("canvas").first.is_visible()
        page.emulate_media(media="screen")
