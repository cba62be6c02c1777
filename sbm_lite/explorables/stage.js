/**
 * What every explorable stands on: labelled native controls bound to the traits of a model, a sharp
 * canvas, an animation loop that rests when nobody looks, words for a screen reader once the numbers
 * are at rest, and the page's light or dark theme.
 */
import { evaluate } from "./maths.js";

const SHARPEST = 2; // device pixels per CSS pixel, at most
const FRAME = 1000 / 60 - 4; // ms; a faster screen skips frames instead of hurrying time
const CONTROLS = ["input", "select", "button"];
const BANDS = 9; // filled contours from nothing to the peak
const AT_REST = 1000; // ms without a change before the numbers are spoken
const STILL = "(prefers-reduced-motion: reduce)";

const STYLE = `
/* The page's own colours and letters; in JupyterLab, which has none, those given second. */
.sbm-explorable { --sbm-text: var(--pst-color-text-base, #1c2530); --sbm-quiet: var(--pst-color-text-muted, #55606d);
  --sbm-line: var(--sbm-rule, #dfe3e8); --sbm-panel: var(--sbm-wash, #f6f8fa); --sbm-accent: var(--pst-color-primary, #2b5d8a);
  --sbm-edge: #77838f; --sbm-measured: #c22f0f; --sbm-theory: #1d7a2d; --sbm-warn: #fff1e0;
  container-type: inline-size; color: var(--sbm-text); font: 16px/1.4 var(--sbm-sans, system-ui, sans-serif);
  text-align: left; margin: 0 auto 14px; padding: 3px; max-width: 980px; }
.sbm-explorable.sbm-dark { --sbm-text: var(--pst-color-text-base, #d9dee4); --sbm-quiet: var(--pst-color-text-muted, #a3acb6);
  --sbm-line: var(--sbm-rule, #313941); --sbm-panel: var(--sbm-wash, #1b2128); --sbm-accent: var(--pst-color-primary, #8fbfe8);
  --sbm-edge: #6b7887; --sbm-measured: #ff9a76; --sbm-theory: #7fd08d; --sbm-warn: #43311b; color-scheme: dark; }
.sbm-explorable *, .sbm-explorable *::before { box-sizing: border-box; }
.sbm-explorable .sbm-grid { display: grid; gap: 10px 22px; grid-template-columns: minmax(0, 1fr); }
.sbm-explorable .sbm-grid + .sbm-grid { margin-top: 20px; }
.sbm-explorable .sbm-picture { position: relative; width: 100%; aspect-ratio: var(--sbm-aspect); margin: 0 auto; overflow: hidden;
  max-width: min(560px, max(200px, 94vh * var(--sbm-aspect))); border: 1px solid var(--sbm-line); border-radius: 8px; }
.sbm-explorable canvas { position: absolute; inset: 0; width: 100%; height: 100%; display: block; }
.sbm-explorable .sbm-panel { display: flex; flex-direction: column; gap: 10px; min-width: 0; }
.sbm-explorable .sbm-words { display: grid; gap: 6px; align-content: start; max-width: 560px; }
.sbm-explorable .sbm-row { display: grid; grid-template-columns: minmax(0, 1fr) auto; gap: 0 8px;
  align-items: baseline; }
.sbm-explorable label { font: inherit; color: var(--sbm-text); margin: 0; }
.sbm-explorable .sbm-value { font-variant-numeric: tabular-nums; white-space: nowrap; }
.sbm-explorable input[type=range] { grid-column: 1 / -1; width: 100%; height: 28px; margin: 0;
  accent-color: var(--sbm-accent); cursor: pointer; }
.sbm-explorable .sbm-pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr));
  gap: 4px 16px; }
.sbm-explorable .sbm-inline { display: flex; flex-wrap: wrap; gap: 6px 14px; align-items: center; }
.sbm-explorable .sbm-tick { display: inline-flex; gap: 7px; align-items: center; min-height: 28px;
  cursor: pointer; }
.sbm-explorable .sbm-tick:has(:disabled) { opacity: .55; cursor: default; }
.sbm-explorable input[type=checkbox] { width: 18px; height: 18px; margin: 0;
  accent-color: var(--sbm-accent); }
.sbm-explorable select, .sbm-explorable input[type=number], .sbm-explorable button { font: inherit;
  min-height: 34px; padding: 3px 10px; color: var(--sbm-text); background: var(--sbm-panel);
  border: 1px solid var(--sbm-edge); border-radius: 6px; }
.sbm-explorable input[type=number] { width: 5em; }
.sbm-explorable button { cursor: pointer; min-width: 4.6em; }
.sbm-explorable button:hover { border-color: var(--sbm-accent); }
.sbm-explorable button.sbm-main { background: var(--sbm-accent); border-color: var(--sbm-accent);
  color: #fff; font-weight: 600; }
.sbm-explorable.sbm-dark button.sbm-main { color: #10161d; }
.sbm-explorable :is(input, select, button):focus-visible { outline: 3px solid var(--sbm-accent);
  outline-offset: 2px; }
.sbm-explorable table.sbm-readout { display: table; width: 100%; margin: 0; border-collapse: collapse;
  font: inherit; font-variant-numeric: tabular-nums; background: none; border: 0; color: inherit; }
.sbm-explorable .sbm-readout :is(th, td) { padding: 4px 0 4px 10px; text-align: right; background: none;
  border: 0; border-bottom: 1px solid var(--sbm-line); font-weight: 400; color: var(--sbm-text); }
.sbm-explorable .sbm-readout :is(th, td):first-child { text-align: left; padding-left: 0; }
.sbm-explorable .sbm-readout thead th { color: var(--sbm-quiet); font-size: 13px; }
.sbm-explorable .sbm-readout output { font-weight: 600; white-space: nowrap; }
.sbm-explorable output[name=measured] { color: var(--sbm-measured); }
.sbm-explorable output[name=theory] { color: var(--sbm-theory); }
.sbm-explorable .sbm-key { display: flex; flex-wrap: wrap; gap: 2px 16px; max-width: 560px;
  margin: 6px auto 0; color: var(--sbm-quiet); font-size: 13px; }
.sbm-explorable .sbm-key > span { display: inline-flex; gap: 6px; align-items: center; }
.sbm-explorable .sbm-swatch { flex: none; width: 18px; border-top: 3px solid; }
.sbm-explorable .sbm-swatch.sbm-dash { border-top-style: dashed; }
.sbm-explorable .sbm-swatch.sbm-area { height: 12px; border: 0; background: currentColor; opacity: .35; }
.sbm-explorable .sbm-swatch:is(.sbm-dot, .sbm-ring) { width: 10px; height: 10px; border: 2px solid;
  border-radius: 50%; }
.sbm-explorable .sbm-swatch.sbm-dot { background: currentColor; }
.sbm-explorable .sbm-swatch.sbm-cross { width: 12px; height: 12px; border: 0; background:
  linear-gradient(45deg, #0000 44%, currentColor 44% 56%, #0000 56%),
  linear-gradient(-45deg, #0000 44%, currentColor 44% 56%, #0000 56%); }
.sbm-explorable .sbm-note { margin: 0; color: var(--sbm-quiet); font-size: 13px; }
.sbm-explorable .sbm-message { margin: 0; padding: 8px 12px; border-radius: 6px;
  background: var(--sbm-warn); border-left: 4px solid var(--sbm-measured); }
.sbm-explorable .sbm-message:empty { display: none; }
.sbm-explorable .sbm-unseen { position: absolute; width: 1px; height: 1px; overflow: hidden;
  clip-path: inset(50%); white-space: nowrap; }
.sbm-explorable .sbm-handle { position: absolute; width: 48px; height: 48px; margin: -24px 0 0 -24px;
  border-radius: 50%; cursor: grab; touch-action: none; }
.sbm-explorable .sbm-handle:active { cursor: grabbing; }
.sbm-explorable .sbm-share { display: flex; flex-wrap: wrap; gap: 4px 12px; align-items: center; margin: 12px 0 0; font-size: 13px; }
.sbm-explorable .sbm-share button { min-height: 28px; padding: 2px 10px; color: var(--sbm-quiet); background: none; border-color: var(--sbm-line); }
.sbm-explorable .sbm-share button:hover { border-color: var(--sbm-accent); }
.sbm-explorable .sbm-share input { flex: 1 1 14em; min-width: 0; min-height: 28px; font: inherit; }
@container (min-width: 640px) {
  .sbm-explorable .sbm-grid { grid-template: auto 1fr / minmax(0, 1.3fr) minmax(270px, 1fr); align-items: start; }
  .sbm-explorable .sbm-grid > .sbm-panel { grid-area: 1 / 2 / span 2; } }
@media (prefers-contrast: more) {
  .sbm-explorable, .sbm-explorable.sbm-dark { --sbm-quiet: var(--sbm-text); --sbm-line: var(--sbm-text); --sbm-edge: var(--sbm-text); } }
@media (forced-colors: active) { .sbm-explorable .sbm-swatch { forced-color-adjust: none; } }
`;

/** An element with attributes (functions become listeners) and children. The mark on controls keeps
    JupyterLab, which would take the arrow keys for itself, from reading keys meant for them. */
export function h(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  if (CONTROLS.includes(tag)) node.setAttribute("data-lm-suppress-shortcuts", "true");
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(name, value);
    else if (value !== false) node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

/** A number with that many decimals, a true minus sign, and no minus before zero. */
export const fixed = (value, digits = 2) => value.toFixed(digits).replace(/^-(?=[0.]*$)/, "").replace("-", "−");

/** Two decimals; of a number below 1 three digits, as far as five decimals reach. */
export const short = (value) => {
  const size = Math.abs(value);
  return fixed(value, size < 1e-5 || size >= 0.9995 ? 2 : Math.min(5, 2 - Math.floor(Math.log10(size))));
};

export const button = (text, click) => h("button", { type: "button", click }, text);

const ALOUD = { "\u0302": "hat", "\u0303": "tilde", "\u0304": "bar", "−": "minus", "≈": "about", "√": "root", "∞": "infinity", "½": "half", "±": "plus or minus", "²": "squared", "ᵀ": "transpose", "ₜ": "t",
  α: "alpha", β: "beta", ε: "epsilon", η: "eta", θ: "theta", λ: "lambda", ρ: "rho", σ: "sigma" };

/** Text with words for the symbols that a screen reader may pass over: σ₁ = −2 is "sigma 1 = minus 2". */
export function aloud(text) {
  const powers = text.normalize("NFD").replace(/([⁻⁰¹³⁴-⁹][⁻⁰¹²³⁴-⁹]*|²[⁻⁰¹²³⁴-⁹]+)/g, " to the power $1");
  return [...powers].map((c) => (ALOUD[c] ? ` ${ALOUD[c]} ` : c)).join("").normalize("NFKD")
    .replaceAll("−", "minus ").replace(/\s+/g, " ").replace(/ (?=[),.;:])/g, "").trim();
}

/** Write text only when it changes, so that nothing is announced or laid out twice. */
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** The root of one explorable: `watch` its traits, register clean-ups, `destroy` it all. */
export function makeStage({ model, el }) {
  if (!document.getElementById("sbm-explorable-style"))
    document.head.append(h("style", { id: "sbm-explorable-style" }, STYLE));
  const root = h("div", { class: "sbm-explorable" });
  const cleanups = [() => root.remove()];
  el.append(root);
  const watch = (names, react) => {
    for (const name of names) {
      model.on(`change:${name}`, react);
      cleanups.push(() => model.off(`change:${name}`, react));
    }
  };
  const write = (values) => {
    for (const [name, value] of Object.entries(values)) model.set(name, value);
    model.save_changes();
  };
  return { model, root, watch, write, onDestroy: (f) => cleanups.push(f), destroy: () => cleanups.forEach((f) => f()) };
}

/** Ids that differ between controls, explorables on a page, and modules in a notebook. */
export const freshId = (() => {
  const instance = Math.random().toString(36).slice(2, 8);
  let count = 0;
  return (name) => `sbm-${instance}-${name}-${(count += 1)}`;
})();

/** The number that a text tells, brought into a range; nothing where it tells none. */
function numericIn(text, low, high) {
  const value = text.trim() ? Number(text) : NaN;
  return Number.isFinite(value) ? Math.max(low, Math.min(high, value)) : undefined;
}

/** Tie one control to one trait, in both directions; a page may hand over a value as text, which `parse` reads. */
function bind({ model, watch, write }, name, control, event, read, show, parse) {
  model.offer?.(name, parse);
  control.addEventListener(event, () => {
    const value = read();
    if (value === undefined) show(model.get(name));
    else write({ [name]: value });
  });
  const update = () => show(model.get(name));
  watch([name], update);
  update();
}

/** A slider with its symbol and value; with `log` equal moves multiply the value equally. */
export function slider(stage, { name, label, symbol, min, max, step, log = false, digits, format }) {
  const id = freshId(name);
  const value = h("output", { class: "sbm-value", for: id, "aria-live": "off" });
  const [to, from] = log ? [Math.log10, (v) => +(10 ** v).toPrecision(digits)] : [(v) => v, (v) => v];
  const input = h("input", { type: "range", id, name, min, max, step });
  const read = () => from(+input.value);
  const show = (v) => {
    if (read() !== v) input.value = to(v);
    say(value, `${symbol} = ${format(v)}`);
    input.setAttribute("aria-valuetext", aloud(format(v)));
  };
  const parse = (text) => {
    const v = numericIn(text, from(min), from(max));
    if (v === undefined || (!log && step < 1)) return v;
    return log ? from(to(v)) : Math.round(v);
  };
  bind(stage, name, input, "input", read, show, parse);
  let before; // a finger that turns out to scroll the page leaves the value as it was
  input.addEventListener("pointerdown", () => (before = stage.model.get(name)));
  input.addEventListener("pointercancel", () => stage.write({ [name]: before }));
  const unseen = h("span", { class: "sbm-unseen" }, ` (${aloud(symbol)})`);
  return h("div", { class: "sbm-row" }, h("label", { for: id }, label, unseen), value, input);
}

export function checkbox(stage, { name, label }) {
  const id = freshId(name);
  const input = h("input", { type: "checkbox", id, name });
  bind(stage, name, input, "change", () => input.checked, (v) => (input.checked = v), (text) => new Map([["0", false], ["1", true]]).get(text));
  return h("label", { class: "sbm-tick", for: id }, input, label);
}

export function chooser(stage, { name, label, choices }) {
  const id = freshId(name);
  const input = h("select", { id, name }, ...choices.map((c) => h("option", { value: c }, c)));
  bind(stage, name, input, "change", () => input.value, (v) => (input.value = v), (text) => choices.find((c) => c === text));
  return h("span", { class: "sbm-inline" }, h("label", { for: id }, label), input);
}

export function wholeNumber(stage, { name, label, min = 0, max = 999999 }) {
  const id = freshId(name);
  const input = h("input", { type: "number", id, name, min, max, step: 1, inputmode: "numeric" });
  const read = () => (input.value !== "" && input.validity.valid ? +input.value : undefined);
  const parse = (text) => {
    const v = numericIn(text, min, max);
    return v && Math.round(v);
  };
  bind(stage, name, input, "change", read, (v) => (input.value = v), parse);
  return h("span", { class: "sbm-inline" }, h("label", { for: id }, label), input);
}

/** A table of live numbers beside their theory; `show` takes rows [name, measured, theory], `words` reads them out. */
export function readout(titles) {
  const body = h("tbody");
  const cell = (name) => h("td", {}, h("output", { name, class: name, "aria-live": "off" }));
  const row = () => h("tr", {}, h("th", { scope: "row" }), cell("measured"), cell("theory"));
  const head = h("tr", {}, ...titles.map((t) => h("th", { scope: "col" }, t)));
  const node = h("table", { class: "sbm-readout", "aria-label": `${titles[0]}: ${titles[1]} and ${titles[2]}` }, h("thead", {}, head), body);
  const show = (rows) => {
    while (body.rows.length < rows.length) body.append(row());
    while (body.rows.length > rows.length) body.lastChild.remove();
    rows.forEach((texts, i) => [...body.rows[i].cells].forEach((c, j) => say(c.firstElementChild ?? c, texts[j])));
  };
  const words = () => [...body.rows].map(({ cells: [name, measured, theory] }) => `${name.textContent}: ${titles[1]} ${measured.textContent}, ${titles[2]} ${theory.textContent}`).join("; ");
  return { node, show, words };
}

/** A picture, and beside it what steers it; words go below the picture or, where there is no room, below all. */
export const layOut = (picture, panel, words = []) => h("div", { class: "sbm-grid" }, h("div", {}, ...picture),
  h("div", { class: "sbm-panel" }, ...panel), h("div", { class: "sbm-words" }, ...words));

/** A picture of stacked canvases, `aspect` times as wide as high; `paint()` on every resize. */
export function makePicture(stage, { layers, label, paint, aspect = 1 }) {
  const canvases = Array.from({ length: layers }, () => h("canvas"));
  const node = h("div", { class: "sbm-picture", role: "img", "aria-label": label, style: `--sbm-aspect: ${aspect}` }, ...canvases);
  const picture = { node, contexts: canvases.map((c) => c.getContext("2d")), size: 0, height: 0, scale: 1 };
  const fit = () => {
    picture.scale = Math.min(window.devicePixelRatio || 1, SHARPEST);
    const size = Math.round(node.clientWidth * picture.scale);
    if (size === picture.size || size === 0) return;
    [picture.size, picture.height] = [size, Math.round(size / aspect)];
    for (const c of canvases) [c.width, c.height] = [size, picture.height];
    paint();
  };
  const observer = new ResizeObserver(fit);
  observer.observe(node);
  stage.onDestroy(() => observer.disconnect());
  return picture;
}

/** Unseen words for screen readers: what `tell()` gives once nothing has changed for a second after `speak`. They
    describe the pictures, and are spoken as soon as the reader has touched something. */
export function makeVoice(stage, tell, ...pictures) {
  const spoken = h("p", { role: "status" }), described = h("p", { id: freshId("now"), hidden: "" });
  for (const { node } of pictures) node.setAttribute("aria-describedby", described.id);
  let waiting, isTouched = false;
  for (const event of ["pointerdown", "keydown", "input"]) stage.root.addEventListener(event, () => (isTouched = true));
  const speak = () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => {
      say(described, aloud(tell()));
      if (isTouched) say(spoken, described.textContent);
    }, AT_REST);
  };
  speak();
  stage.onDestroy(() => clearTimeout(waiting));
  return { node: h("div", { class: "sbm-unseen" }, spoken, described), speak };
}

/** Call `tick` once a frame while `playing`, on screen and in a visible tab; `button` is to `toggle` that. */
export function makeLoop(stage, tick, toggle) {
  const loop = { playing: false, button: h("button", { type: "button", class: "sbm-main", click: () => toggle() }, "Play") };
  const still = matchMedia(STILL);
  let inView = false, request = 0, last = 0;
  const frame = (now) => {
    request = requestAnimationFrame(frame);
    if (now - last < FRAME) return;
    last = now;
    tick();
  };
  const update = () => {
    const wanted = loop.playing && inView && !document.hidden;
    if (wanted && !request) request = requestAnimationFrame(frame);
    if (wanted || !request) return;
    cancelAnimationFrame(request);
    request = 0;
  };
  const observer = new IntersectionObserver((entries) => {
    inView = entries[entries.length - 1].isIntersecting;
    update();
  });
  observer.observe(stage.root);
  const calm = () => still.matches && loop.play(false);
  document.addEventListener("visibilitychange", update);
  still.addEventListener("change", calm);
  stage.onDestroy(() => {
    loop.play(false);
    observer.disconnect();
    document.removeEventListener("visibilitychange", update);
    still.removeEventListener("change", calm);
  });
  loop.play = (playing) => {
    loop.playing = playing;
    say(loop.button, playing ? "Pause" : "Play");
    update();
  };
  return loop;
}

export const prefersStill = () => matchMedia(STILL).matches;

const LIGHT = { dark: false, ground: [255, 255, 255], peak: [96, 146, 190], ink: "#2b3947", quiet: "#5b6875", point: [204, 51, 17], halo: "#ffffff", grid: "#e6e8eb",
  data: "#4477aa", model: "#cc3311", truth: "#228833", path: "#aa7700", neutral: "#555555" };
const DARK = { dark: true, ground: [16, 21, 28], peak: [52, 112, 168], ink: "#dce5ee", quiet: "#93a1af", point: [255, 140, 105], halo: "#10151c", grid: "#28313b",
  data: "#7fb2e0", model: "#ff8c69", truth: "#7fd08d", path: "#e3b34f", neutral: "#b5bfc9" };
const ROLES = ["data", "model", "truth", "path", "neutral"]; // as figures.COLOURS, and in CSS as --sbm-data, …

/** The page's colours: the book's switch, else JupyterLab's, else the system's; tells of changes. */
export function makeTheme(stage, repaint) {
  const system = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => {
    const book = document.documentElement.dataset.theme, lab = document.body.dataset.jpThemeLight;
    if (book === "dark" || book === "light") return book === "dark";
    return lab ? lab === "false" : system.matches;
  };
  const theme = {};
  const apply = () => {
    Object.assign(theme, isDark() ? DARK : LIGHT);
    stage.root.classList.toggle("sbm-dark", theme.dark);
    for (const role of ROLES) stage.root.style.setProperty(`--sbm-${role}`, theme[role]);
  };
  const refresh = () => {
    const before = theme.dark;
    apply();
    if (theme.dark !== before) repaint();
  };
  const observer = new MutationObserver(refresh);
  observer.observe(document.documentElement, { attributeFilter: ["data-theme"] });
  observer.observe(document.body, { attributeFilter: ["data-jp-theme-light"] });
  system.addEventListener("change", refresh);
  stage.onDestroy(() => (observer.disconnect(), system.removeEventListener("change", refresh)));
  apply();
  return theme;
}

/** Values on the centres of an m × m grid over [-limit, limit]², top row first. */
export function onGrid(mixture, limit, m) {
  const x = new Float64Array(2 * m * m), score = new Float64Array(2 * m * m), logProb = new Float64Array(m * m);
  for (let i = 0; i < m * m; i++) {
    x[2 * i] = limit * ((2 * (i % m) + 1) / m - 1);
    x[2 * i + 1] = limit * (1 - (2 * Math.floor(i / m) + 1) / m);
  }
  evaluate(mixture, x, score, logProb);
  return { x, score, logProb };
}

/** Paint p^β as soft filled contours over the lowest canvas. */
export function paintDensity(picture, theme, mixture, limit, beta = 1) {
  const m = 160, { logProb } = onGrid(mixture, limit, m), context = picture.contexts[0];
  const peak = logProb.reduce((a, b) => Math.max(a, b), -Infinity);
  const image = new ImageData(m, m), { ground } = theme;
  for (let i = 0; i < m * m; i++) {
    const height = BANDS * Math.exp(0.5 * beta * (logProb[i] - peak));
    const band = Math.floor(height), t = (band + (height - band) ** 3) / BANDS;
    for (let c = 0; c < 3; c++) image.data[4 * i + c] = ground[c] + t * (theme.peak[c] - ground[c]);
    image.data[4 * i + 3] = 255;
  }
  const small = h("canvas", { width: m, height: m });
  small.getContext("2d").putImageData(image, 0, 0);
  context.imageSmoothingQuality = "high";
  context.drawImage(small, 0, 0, picture.size, picture.size);
}

/** Numbers along the left and lower edge, on the canvas of that layer. */
export function paintTicks({ contexts, size, scale }, layer, theme, limit, every = limit / 2) {
  const context = contexts[layer];
  context.clearRect(0, 0, size, size);
  const at = (v) => (size * (v / limit + 1)) / 2;
  context.font = `${12 * scale}px "Book Sans", system-ui, sans-serif`;
  context.fillStyle = theme.quiet;
  context.strokeStyle = theme.halo;
  context.lineWidth = 5 * scale;
  context.lineJoin = "round";
  const write = (...where) => (context.strokeText(...where), context.fillText(...where));
  for (const v of [-every, 0, every]) {
    const text = String(v).replace("-", "−");
    context.textAlign = "center";
    write(text, at(v), size - 6 * scale);
    context.textAlign = "left";
    write(text, 6 * scale, at(-v) + 4 * scale);
  }
}

/** A point of the map in canvas pixels. */
export const toPixels = ({ size }, limit, x, y) => [(size * (1 + x / limit)) / 2, (size * (1 - y / limit)) / 2];

/** Draws points as soft round dots on the second canvas, straight into pixels: 20,000 of them at full speed. */
export function makeCloud(picture, theme) {
  let image, pixels;
  const colour = () => ((theme.point[2] << 16) | (theme.point[1] << 8) | theme.point[0]) >>> 0;
  const draw = (x, limit, opacity) => {
    const { size, scale } = picture, n = x.length / 2;
    if (size === 0) return;
    if (image?.width !== size) {
      image = new ImageData(size, size);
      pixels = new Uint32Array(image.data.buffer);
    }
    pixels.fill(colour());
    const dot = makeDot(12 * n ** -0.25 * scale, 1.3 * n ** -0.125 * opacity, size);
    for (let i = 0; i < n; i++) {
      const px = (size * (1 + x[2 * i] / limit)) / 2, py = (size * (1 - x[2 * i + 1] / limit)) / 2;
      if (px < dot.reach || py < dot.reach || px >= size - dot.reach || py >= size - dot.reach) continue;
      const centre = Math.floor(py) * size + Math.floor(px);
      for (let j = 0; j < dot.offsets.length; j++) {
        const at = 4 * (centre + dot.offsets[j]) + 3;
        image.data[at] += (255 - image.data[at]) * dot.cover[j];
      }
    }
    picture.contexts[1].putImageData(image, 0, 0);
  };
  return { draw };
}

/** A disc as pixel offsets and the share of each pixel that it covers. */
function makeDot(radius, opacity, width) {
  const reach = Math.ceil(radius), offsets = [], cover = [];
  for (let dy = -reach; dy <= reach; dy++) {
    for (let dx = -reach; dx <= reach; dx++) {
      const share = Math.min(1, Math.max(0, radius + 0.5 - Math.hypot(dx, dy)));
      if (share > 0) offsets.push(dy * width + dx), cover.push(share * opacity);
    }
  }
  return { reach: reach + 1, offsets, cover };
}

/** An arrow between two points of a canvas; none if it is shorter than it is wide. */
export function drawArrow(context, [x0, y0], [x1, y1], width) {
  const length = Math.hypot(x1 - x0, y1 - y0);
  if (length < width) return;
  const [ux, uy] = [(x1 - x0) / length, (y1 - y0) / length], head = Math.min(length * 0.6, 3.2 * width + 1);
  const [bx, by] = [x1 - ux * head, y1 - uy * head];
  context.lineWidth = width;
  context.beginPath();
  context.moveTo(x0, y0);
  context.lineTo(bx, by);
  context.stroke();
  context.beginPath();
  context.moveTo(x1, y1);
  context.lineTo(bx - uy * head * 0.5, by + ux * head * 0.5);
  context.lineTo(bx + uy * head * 0.5, by - ux * head * 0.5);
  context.fill();
}

/** A handle on the map that moves the traits probe_x and probe_y; `place` it where they are. */
export function makeProbe(stage, { node }, { title, limit }) {
  const handle = h("div", { class: "sbm-handle", title });
  const inside = (share) => Math.round(100 * limit() * Math.max(-1, Math.min(1, 2 * share - 1))) / 100;
  node.append(handle);
  makeDraggable(node, handle, (event) => {
    const { left, bottom, width, height } = node.getBoundingClientRect();
    stage.write({ probe_x: inside((event.clientX - left) / width), probe_y: inside((bottom - event.clientY) / height) });
  });
  const place = (x, y) => {
    handle.style.left = `${50 * (1 + x / limit())}%`;
    handle.style.top = `${50 * (1 - y / limit())}%`;
  };
  return { place };
}

/** The same by keyboard. */
export function probeSliders(stage, label, x, y, { reach = 8, step = 0.1 } = {}) {
  const axis = (name, end, symbol) => slider(stage, { name, label: `${label} ${end}`, symbol, min: -reach, max: reach, step, format: (v) => fixed(v) });
  return h("div", { class: "sbm-pair" }, axis("probe_x", "x", x), axis("probe_y", "y", y));
}

/** The mouse may start anywhere on the picture; a finger takes the handle, or taps, and can still scroll. */
export function makeDraggable(area, handle, follow) {
  area.addEventListener("pointerdown", (event) => {
    if (event.pointerType !== "mouse" && event.target !== handle) return;
    handle.setPointerCapture(event.pointerId);
    follow(event);
    event.preventDefault();
  });
  handle.addEventListener("pointermove", (event) => handle.hasPointerCapture(event.pointerId) && follow(event));
  area.addEventListener("click", follow);
}
