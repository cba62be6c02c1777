"""Explorables at their limits: the ends of every slider, any width, out of sight, ten at a time."""

import json

import pytest

from sbm_lite.explorables import EVERY, HERE, Annealing, LangevinExplorable, Slices, ThreeNames
from tools import soak

MOVING = [Annealing, LangevinExplorable, Slices, ThreeNames]
MOTION = {"reduced_motion": "no-preference"}
NO_NUMBER = "/NaN|Infinity|undefined|null|\\[object/"
# Every control at one of its ends, by a table in which any two of them meet in all four ways; then
# a dozen frames of motion, and from all this what a reader must never see.
CORNERS = f"""async (figure) => {{
  const controls = [...figure.querySelectorAll("[name]:is(input, select)")], found = new Set();
  const set = (control, event) => control.dispatchEvent(new Event(event, {{ bubbles: true }}));
  const frame = () => new Promise(requestAnimationFrame);
  const ones = (bits) => (bits ? (bits & 1) + ones(bits >> 1) : 0);
  const look = (where) => {{
    const spoken = [...figure.querySelectorAll("[aria-valuetext]")].map((s) => s.ariaValueText);
    for (const line of [...figure.innerText.split("\\n"), ...spoken])
      if ({NO_NUMBER}.test(line)) found.add(`${{where}}: ${{line}}`);
  }};
  if (controls.length > 15) throw new Error("more controls than the table has columns");
  for (let row = 0; row < 16; row++) {{
    controls.forEach((control, k) => {{
      const high = ones(row & (k + 1)) % 2;
      if (control.type === "checkbox") control.checked === !!high || control.click();
      else if (control.type === "range") control.value = high ? control.max : control.min;
      else if (control.type === "number") control.value = high ? control.max : control.min;
      else control.selectedIndex = row % control.length;
      if (control.type !== "checkbox") set(control, control.type === "range" ? "input" : "change");
    }});
    const where = controls.map((c) => c.name + "=" + (c.type === "checkbox" ? c.checked : c.value));
    look(where);
    for (const play of figure.querySelectorAll(".sbm-main")) {{
      if (play.textContent === "Play") play.click();
      for (let k = 0; k < 9; k++) await frame();
      if (play.textContent === "Pause") play.click();
    }}
    look(where);
  }}
  return [...found];
}}"""
NO_NUMBERS = ["NaN", "", "abc", "Infinity", "1e999", "[]"]
FAR = ["-1e300", "1e300"]
# Scripts may write anything into a control; the browser keeps what it can read, and warns.
WRITTEN = f"""([figure, values]) => {{
  const found = new Set();
  for (const control of figure.querySelectorAll("input:is([type=range], [type=number])"))
    for (const value of values) {{
      control.value = value;
      control.dispatchEvent(new Event(control.type === "range" ? "input" : "change"));
      const told = `${{figure.innerText}} ${{figure.model.changes()}}`;
      if ({NO_NUMBER}.test(told)) found.add(`${{control.name}}=${{value}}`);
    }}
  return [...found];
}}"""
WARNING = "The specified value"


def listen(page):
    """What the page says from now on that it should not."""
    said = []
    soak.listen(page, said)
    return said


def controls(figure):
    """The name and the present value of each control."""
    return figure.locator("[name]:is(input, select)").evaluate_all(
        "all => all.map(c => [c.name, c.type === 'checkbox' ? c.checked : c.value])"
    )


@pytest.mark.parametrize("cls", EVERY)
def test_every_corner_of_the_sliders_gives_numbers(alive, cls):
    page = alive(cls(), viewport={"width": 1000, "height": 1400}, **MOTION)
    said = listen(page)
    assert page.locator("figure").evaluate(CORNERS) == []
    assert said == []


@pytest.mark.parametrize("cls", EVERY)
def test_what_a_link_or_a_script_may_set_is_a_number_in_range(alive, cls):
    page = alive(cls(), **MOTION)
    figure, said = page.locator("figure"), listen(page)
    at_first = controls(figure)

    def follow(value):
        asked = {name: value for name, _ in at_first}
        figure.evaluate("(f, asked) => f.model.restore(new URLSearchParams(asked))", asked)
        return controls(figure)

    for nonsense in NO_NUMBERS:
        assert follow(nonsense) == at_first, nonsense
    for far in FAR:
        assert follow(far) != at_first, far
        assert figure.evaluate(f"f => !{NO_NUMBER}.test(f.innerText)"), far
    assert page.evaluate(WRITTEN, [figure.element_handle(), [*NO_NUMBERS, *FAR]]) == []
    assert [line for line in said if not line.startswith(WARNING)] == []


PIXELS = """figure => [...figure.querySelectorAll("canvas")].every((canvas) => {
  const { width, height } = canvas, room = canvas.getBoundingClientRect();
  return width > 0 && height > 0 && Math.abs(width - room.width * devicePixelRatio) < 2;
})"""
PAINTED = """figure => [...figure.querySelectorAll(".sbm-picture")].every((picture) =>
  [...picture.querySelectorAll("canvas")].some((canvas) => {
    const small = new OffscreenCanvas(9, 9).getContext("2d", { willReadFrequently: true });
    small.drawImage(canvas, 0, 0, 9, 9);
    return small.getImageData(0, 0, 9, 9).data.some((v) => v > 0);
  }))"""


@pytest.mark.parametrize("cls", EVERY)
def test_any_width_and_none(alive, cls):
    page = alive(cls(), viewport={"width": 3100, "height": 1200}, **MOTION)
    figure, said = page.locator("figure"), listen(page)
    for width in ("200px", "0px", "3000px", "1px", "600px"):
        figure.evaluate("(f, width) => { f.style.cssText = `margin: 0; width: ${width}`; }", width)
        page.wait_for_timeout(120)
        figure.locator("input[type=range]").first.evaluate(
            "s => { s.stepUp(); s.dispatchEvent(new Event('input')); }"
        )
        if width in ("200px", "3000px", "600px"):
            page.wait_for_function(PIXELS, arg=figure.element_handle())
            page.wait_for_function(PAINTED, arg=figure.element_handle())
    figure.evaluate("f => { f.hidden = true; }")
    page.wait_for_timeout(120)
    figure.evaluate("f => { f.hidden = false; }")
    page.wait_for_function(PIXELS, arg=figure.element_handle())
    page.wait_for_function(PAINTED, arg=figure.element_handle())
    assert said == []


HIDE = """(hidden) => {
  Object.defineProperty(document, "hidden", { configurable: true, get: () => hidden });
  Object.defineProperty(document, "visibilityState",
    { configurable: true, get: () => hidden ? "hidden" : "visible" });
  document.dispatchEvent(new Event("visibilitychange"));
}"""
PROGRESS = {  # how far a run has come
    "annealing": "+document.querySelector('.sbm-explorable').dataset.steps",
    "langevin": "+document.querySelector('.sbm-explorable').dataset.steps",
    "slices": "+document.querySelector('.sbm-explorable').dataset.slices",
    "three_names": "+/(\\d+) of \\d+ calls/.exec(document.querySelector('figure').innerText)[1]",
}


@pytest.mark.parametrize("cls", MOVING)
def test_a_hidden_tab_rests_and_does_not_hurry_after(alive, cls):
    page = alive(cls(), viewport={"width": 1000, "height": 1600}, **MOTION)
    said, progress = listen(page), PROGRESS[cls.name]
    page.wait_for_function(f"({progress}) > 20")
    page.evaluate(HIDE, True)
    before = page.evaluate(progress)
    page.wait_for_timeout(3000)
    assert page.evaluate(progress) <= before + 1
    hidden = page.evaluate(progress)
    page.evaluate(HIDE, False)
    page.wait_for_timeout(400)
    first = page.evaluate(progress) - hidden
    page.wait_for_timeout(400)
    second = page.evaluate(progress) - hidden - first
    assert 0 < first <= 4 * second + 2
    assert said == []


def test_every_figure_that_moves_is_asked():
    for cls in EVERY:
        module = (HERE / f"{cls.name}.js").read_text(encoding="utf8")
        assert ("makeLoop(" in module) == (cls in MOVING), cls.name


def test_ten_on_one_page_keep_apart_and_pile_nothing_up(browser, modules):
    """The soak of `make soak`, for as long as a test may take."""
    page = browser.new_page(viewport=soak.SCREEN)
    said = listen(page)
    looks = soak.soak(page, modules.url.rstrip("/"), 0.2)
    assert len(page.locator(".sbm-explorable").all()) == len(EVERY)
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map((one) => one.id)")
    assert len(set(ids)) == len(ids)
    assert soak.piles_up(looks) == [], looks
    assert said == []
    page.close()


LEAVE = """async ({ names }) => {
  const host = await import("/host.js");
  const turns = async (many) => {
    for (let k = 0; k < many; k++)
      for (const [name, state] of names) {
        const el = document.createElement("div");
        document.body.append(el);
        const { default: module } = await import(`/${name}.js`);
        const leave = module.render({ model: host.makeModel(JSON.parse(state)), el });
        await new Promise(requestAnimationFrame);
        leave();
        el.remove();
      }
  };
  await turns(1);
  window.turns = turns;
}"""


def test_a_figure_that_is_taken_away_leaves_nothing_behind(browser, modules):
    """In JupyterLab a cell may run again and again."""
    page = browser.new_page()
    page.goto(modules.url)
    page.set_content("<main></main>")
    devtools = page.context.new_cdp_session(page)
    names = [[cls.name, json.dumps(cls().state())] for cls in EVERY]
    page.evaluate(LEAVE, {"names": names})
    before = soak.left(page, devtools)
    page.evaluate("turns(3).then(() => true)")
    after = soak.left(page, devtools)
    more = {name: after[name] - before[name] for name in before}
    assert more["nodes"] <= 20 and more["listeners"] <= 0 and more["bytes of arrays"] < 1e6, more
    page.close()
