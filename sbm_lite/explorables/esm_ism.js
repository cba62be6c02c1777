/**
 * Explicit and implicit score matching of a model with one parameter, on the line.
 * Traits: density, theta, n_draws, seed.
 */
import { fillNormals, generator } from "./maths.js";
import { DASHED, key, makePlot } from "./plot.js";
import { chooser, fixed, h, layOut, makeStage, makeTheme, makeVoice, readout, say, slider, wholeNumber } from "./stage.js";

export const THETAS = Float64Array.from({ length: 61 }, (_, i) => i / 20);
const bell = (x) => Math.exp((-x * x) / 2) / Math.sqrt(2 * Math.PI);

/** Densities with their score and a family of models: its score, the slope of that, and the true θ. */
export const FAMILIES = {
  "two bumps": {
    from: -10, to: 10, view: [-4.5, 4.5], heights: [-4, 4], truth: 1.5,
    density: (x) => (bell(x - 1.5) + bell(x + 1.5)) / 2,
    score: (x) => -x + 1.5 * Math.tanh(1.5 * x),
    model: (x, t) => -x + t * Math.tanh(t * x),
    slope: (x, t) => -1 + (t / Math.cosh(t * x)) ** 2,
    draw: (z, u) => z + (u < 0.5 ? -1.5 : 1.5),
  },
  "one Gaussian": {
    from: -10, to: 10, view: [-4.5, 4.5], heights: [-4, 4], truth: 1,
    density: bell, score: (x) => -x, model: (x, t) => -t * x, slope: (x, t) => -t, draw: (z) => z,
  },
  exponential: {
    from: 0, to: 50, view: [-1, 5], heights: [-3.5, 1], truth: 1,
    density: (x) => (x < 0 ? 0 : Math.exp(-x)), score: () => -1, model: (x, t) => -t, slope: () => 0,
    draw: (z, u) => -Math.log(u),
  },
};

/** ½(s_θ − s)², what explicit score matching averages, and ½s_θ² + s_θ′, what implicit does. */
export function losses(family, x, theta) {
  const s = family.model(x, theta);
  return [(s - family.score(x)) ** 2 / 2, (s * s) / 2 + family.slope(x, theta)];
}

/** E f(X) under the density, by Simpson's rule. */
export function expectation(family, f, panels = 1000) {
  const step = (family.to - family.from) / panels;
  let sum = 0;
  for (let i = 0; i <= panels; i++) {
    const x = family.from + i * step, weight = i === 0 || i === panels ? 1 : 2 + 2 * (i % 2);
    sum += weight * family.density(x) * f(x);
  }
  return (sum * step) / 3;
}

/** J_ESM and J_ISM at θ. */
export const exactLosses = (family, theta) => [0, 1].map((i) => expectation(family, (x) => losses(family, x, theta)[i]));

/** C₁ = ½ E s(X)². */
export const constantBetween = (family) => expectation(family, (x) => family.score(x) ** 2 / 2);

/** n draws of the density. */
export function drawsOf(family, n, uniform) {
  const z = new Float64Array(n + (n % 2));
  fillNormals(uniform, z);
  return z.subarray(0, n).map((v) => family.draw(v, uniform()));
}

/** The two losses as means over draws. */
export function measuredLosses(family, x, theta) {
  let explicit = 0, implicit = 0;
  for (let i = 0; i < x.length; i++) {
    const [esm, ism] = losses(family, x[i], theta);
    explicit += esm;
    implicit += ism;
  }
  return [explicit / x.length, implicit / x.length];
}

function render({ model, el }) {
  const stage = makeStage({ model, el });
  const theme = makeTheme(stage, () => paint());
  const scores = makePlot(stage, theme, { label: "The true score and the model's, over the density", aspect: 1.45, paint: () => paintScores() });
  const curves = makePlot(stage, theme, { label: "The explicit and the implicit loss against θ", aspect: 1.45, paint: () => paintCurves() });
  const numbers = readout(["expected loss", "measured", "exact"]);
  const note = h("p", { class: "sbm-note" }), message = h("p", { class: "sbm-message" });
  const voice = makeVoice(stage, () => numbers.words() + ". " + (message.textContent || note.textContent), scores, curves);
  let family, x, found, exact, explicit, implicit;

  function choose() {
    family = FAMILIES[model.get("density")];
    const both = Array.from(THETAS, (t) => exactLosses(family, t));
    [explicit, implicit] = [0, 1].map((i) => both.map((pair) => pair[i]));
    const constant = fixed(constantBetween(family), 3), wall = family.from === 0;
    say(note, wall ? "" : `The gap is C₁ = ½ E s(X)² = ${constant} at every θ: the curves have the same slopes and the same lowest point, but only the explicit loss needs the true score.`);
    say(message, wall ? `This density ends in a wall, p(0) = 1, and integrating by parts leaves a boundary term there: −θ. The implicit loss lacks it. The gap is not C₁ = ${constant} but ½ − θ, and the implicit loss is lowest at θ = 0, far from the truth.` : "");
    draw();
  }

  function draw() {
    x = drawsOf(family, model.get("n_draws"), generator(model.get("seed")));
    show();
  }

  function show() {
    const theta = model.get("theta"), three = (v) => fixed(v, 3);
    found = measuredLosses(family, x, theta);
    exact = exactLosses(family, theta);
    const row = (name, of) => [name, three(of(found)), three(of(exact))];
    numbers.show([row("explicit, J ESM", ([esm]) => esm), row("implicit, J ISM", ([, ism]) => ism), row("gap between them", ([esm, ism]) => esm - ism)]);
    paint();
  }

  function paint() {
    paintScores();
    paintCurves();
  }

  function paintScores() {
    const theta = model.get("theta"), [from, to] = family.view, [low, high] = family.heights;
    if (!scores.frame({ x: { from, to, label: "x" }, y: { from: low, to: high, label: "score" } })) return;
    const xs = Array.from({ length: 301 }, (_, i) => from + ((to - from) * i) / 300).filter((v) => v >= family.from);
    const p = xs.map(family.density), unit = (0.4 * (high - low)) / Math.max(...p);
    const truth = xs.map(family.score), theirs = xs.map((v) => family.model(v, theta));
    scores.area(xs, low, p.map((v) => low + unit * v), "data");
    scores.area(xs, truth, theirs, "model", 0.12);
    scores.line(xs, truth, "truth", DASHED);
    scores.line(xs, theirs, "model");
    if (family.from === 0) scores.text(0, low + unit, "p(0) = 1", "data", { align: "right", dx: -5, dy: 6 });
  }

  function paintCurves() {
    const theta = model.get("theta"), all = [...explicit, ...implicit], low = Math.min(...all), high = Math.max(...all);
    const room = 0.1 * (high - low), ceiling = high + room;
    if (!curves.frame({ x: { from: 0, to: 3, label: "θ" }, y: { from: low - room, to: ceiling, label: "expected loss" } })) return;
    curves.upright(family.truth, "neutral");
    curves.text(family.truth, ceiling, "true θ", "neutral", { dy: 10 });
    for (const [curve, role, look] of [[explicit, "truth", DASHED], [implicit, "data"]]) {
      const least = Math.min(...curve);
      curves.line(THETAS, curve, role, look);
      curves.dots([THETAS[curve.indexOf(least)]], [least], role, { radius: 5, hollow: true });
    }
    curves.upright(theta, "path", { from: exact[0], to: exact[1], dash: [], width: 4 });
    curves.text(theta, (exact[0] + exact[1]) / 2, `gap ${fixed(exact[0] - exact[1], 3)}`, "ink", theta < 2 ? { align: "left", dx: 9 } : { align: "right", dx: -9 });
    curves.dots([theta, theta], found, "model", { radius: 4.5 });
  }

  const row = (plot, swatches, ...panel) => layOut([plot.node, key(swatches)], panel);
  stage.root.append(
    row(scores, [["truth", "dash", "true score"], ["model", "line", "the model's"], ["data", "area", "density, not to scale"]],
      chooser(stage, { name: "density", label: "Density", choices: Object.keys(FAMILIES) }),
      slider(stage, { name: "theta", label: "Parameter of the model", symbol: "θ", min: 0, max: 3, step: 0.02, format: (v) => fixed(v) }),
      numbers.node),
    row(curves, [["truth", "dash", "explicit"], ["data", "line", "implicit"], ["path", "line", "gap"], ["model", "dot", "measured"]],
      slider(stage, { name: "n_draws", label: "Draws to measure with", symbol: "n", min: 2, max: 5, step: 0.1, log: true, digits: 2, format: (n) => n.toLocaleString("en") }),
      wholeNumber(stage, { name: "seed", label: "Seed" }), note, message), voice.node);

  choose();
  stage.watch(["density"], choose);
  stage.watch(["n_draws", "seed"], draw);
  stage.watch(["theta"], show);
  stage.watch(["density", "theta", "n_draws", "seed"], voice.speak);
  return stage.destroy;
}

export default { render };
