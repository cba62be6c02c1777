/**
 * Above, one noisy point xₜ of a diffusion: the noise expected in it, the clean point expected behind it, the score.
 * Below, a thousand particles brought from noise to data by the exact score, in one of three ways.
 * Traits: t, probe_x, probe_y, sampler, n_calls, n_draws, seed.
 */
import { aboutModes, ancestralStep, annealedStep, cleanFromScore, cleanGiven, ddimStep, diffuse, drawFrom, evaluate, evaluateAt, fillNormals, generator, levelsDown, linearAlphaBars, makeMixture, massNearer, momentsOf, noiseFromScore } from "./maths.js";
import { key } from "./plot.js";
import { button, chooser, drawArrow, fixed, h, layOut, makeLoop, makePicture, makeProbe, makeStage, makeTheme, makeVoice, paintDensity, paintTicks, prefersStill, probeSliders, readout, say, short, slider, toPixels, wholeNumber } from "./stage.js";

const CLEAN = makeMixture({ weights: [0.2, 0.8], means: [[-1.2, -1.2], [1.2, 1.2]], stds: [Math.sqrt(0.06), Math.sqrt(0.06)] });
const ALPHA_BARS = linearAlphaBars();
const T = ALPHA_BARS.length - 1;
const LIMIT = 3; // half-width of both maps
const PARTICLES = 1000;
const FOLLOWED = 3; // of them, drawn with their path
const MOST_LEVELS = 50; // of annealed Langevin
const LASTING = 8000; // ms of a whole run
const LONGEST = 100; // ms between two frames that count
const SHADES = 60; // of a path that fades
const LANE = 4.5; // CSS pixels from each of the two arrows to the middle of their road
const PLAIN = { style: "margin: 0" };

/** A formula that no line breaks. */
const glue = (formula) => formula.replaceAll(" ", "\u00a0");

/** How each sampler uses the score of level ᾱ to reach the level ᾱ′, and what is said of it. */
const SAMPLERS = {
  ancestral: {
    step: ancestralStep,
    says: () => `Each call draws x at the next level given xₜ, as if ${glue("x₀ = x̂₀")}: a mean, and fresh noise on all calls but the last.`,
  },
  DDIM: {
    step: (x, score, z, ...levels) => ddimStep(x, score, ...levels),
    says: () => "Each call puts x̂₀ and ε̂ together again with the next level's factors and adds no noise: where a particle starts decides where it ends.",
  },
  "annealed Langevin": {
    step: annealedStep,
    says: (n) => {
      const levels = Math.min(n, MOST_LEVELS), [few, more] = [Math.floor(n / levels), Math.ceil(n / levels)];
      const steps = more === 1 ? "one Langevin step" : `${few === more ? few : `${few} or ${more}`} Langevin steps`;
      return `${levels} levels with ${steps} of size ${glue("η = 0.2 (1 − ᾱₜ)")} at each, and x rescaled in between. Of the three names it uses the score.`;
    },
  },
};

/** n particles from N(0, I) at t = T, and the levels at which the score is to be called. */
export function makeDescent(sampler, calls, n, seed) {
  const uniform = generator(seed), x = new Float64Array(2 * n), levels = levelsDown(Math.min(calls, MOST_LEVELS));
  fillNormals(uniform, x);
  const shared = (_, k) => levels[Math.floor((k * levels.length) / calls)]; // several calls at a level
  const plan = sampler === "annealed Langevin" ? Array.from({ length: calls }, shared) : levelsDown(calls);
  return { sampler, plan, uniform, x, score: new Float64Array(2 * n), logProb: new Float64Array(n), z: new Float64Array(2 * n), calls: 0, t: T };
}

/** Call the score of every particle once, and take the step that it allows; the last one ends at t = 0. */
export function descend(run) {
  const next = run.plan[run.calls + 1] ?? 0;
  evaluate(diffuse(CLEAN, ALPHA_BARS[run.t]), run.x, run.score, run.logProb);
  fillNormals(run.uniform, run.z);
  SAMPLERS[run.sampler].step(run.x, run.score, run.z, ALPHA_BARS[run.t], ALPHA_BARS[next]);
  run.calls += 1;
  run.t = next;
}

/** What particles at the level t do, beside the law of xₜ: shares of the half planes, variance about a mode. */
export function compareAt(x, t) {
  const there = diffuse(CLEAN, ALPHA_BARS[t]), { shares, variance } = aboutModes(there, x);
  return [[shares[1], massNearer(there, 1)], [variance, there.stds[1] ** 2]];
}

function render({ model, el }) {
  const stage = makeStage({ model, el }), repaint = [];
  const theme = makeTheme(stage, () => repaint.forEach((paint) => paint()));
  stage.root.append(onePoint(stage, theme, repaint), allTheWay(stage, theme, repaint));
  return stage.destroy;
}

/** The upper half. */
function onePoint(stage, theme, repaint) {
  const { model } = stage;
  let alphaBar, law, draws, point, score;
  const map = makePicture(stage, { layers: 2, label: "A noisy point, the noise expected in it, the clean point expected behind it, and the score", paint: () => paint() });
  const handle = makeProbe(stage, map, { title: "Drag the noisy point", limit: () => LIMIT });
  const numbers = readout(["given this xₜ", "measured", "theory"]), recipe = h("p", PLAIN), note = h("p", { class: "sbm-note" });
  const voice = makeVoice(stage, () => `t = ${model.get("t")}. ${numbers.words()}`, map);

  function look() {
    alphaBar = ALPHA_BARS[Math.max(1, Math.round(model.get("t")))];
    point = [model.get("probe_x"), model.get("probe_y")];
    law = diffuse(CLEAN, alphaBar);
    score = [...evaluateAt(law, ...point).score];
    draws = drawFrom(cleanGiven(CLEAN, ...point, alphaBar), model.get("n_draws"), model.get("seed")).x;
    const [signal, noise] = [Math.sqrt(alphaBar), Math.sqrt(1 - alphaBar)], mean = momentsOf(draws).mean[0];
    numbers.show([["noise ε̂, along x", fixed((point[0] - signal * mean) / noise, 3), fixed(noiseFromScore(score[0], alphaBar), 3)],
      ["clean point x̂₀, along x", fixed(mean, 3), fixed(cleanFromScore(point[0], score[0], alphaBar), 3)]]);
    say(recipe, `${glue(`xₜ = ${fixed(signal)} x₀ + ${fixed(noise)} ε`)}: a clean point, shrunk, plus noise`);
    say(note, `Measured: means over ${model.get("n_draws")} draws of (x₀, ε) given xₜ. Theory: from the score ${glue(`s = (${score.map(short).join(", ")})`)} alone, by ${glue("ε̂ = −√(1 − ᾱₜ) s")} and ${glue("x̂₀ = (xₜ + (1 − ᾱₜ) s)/√ᾱₜ")}, with ${glue(`ᾱₜ = ${short(alphaBar)}`)}.`);
    handle.place(...point);
    voice.speak();
    paint();
  }

  function paint() {
    if (map.size === 0 || !law) return;
    const context = map.contexts[1], { scale } = map, at = (x, y) => toPixels(map, LIMIT, x, y);
    const clean = point.map((v, c) => cleanFromScore(v, score[c], alphaBar)), shrunk = clean.map((v) => Math.sqrt(alphaBar) * v);
    paintDensity(map, theme, law, LIMIT);
    paintTicks(map, 1, theme, LIMIT, 2);
    Object.assign(context, { fillStyle: theme.model, globalAlpha: 0.45 });
    for (let i = 0; i < draws.length; i += 2) round(context, at(draws[i], draws[i + 1]), 2 * scale);
    Object.assign(context, { globalAlpha: 1, strokeStyle: theme.data, lineWidth: 1.5 * scale });
    for (const mean of CLEAN.means) round(context, at(...mean), (CLEAN.stds[0] * map.size) / LIMIT, "stroke"); // two standard deviations
    Object.assign(context, { strokeStyle: theme.neutral });
    context.setLineDash([4 * scale, 4 * scale]);
    context.beginPath();
    context.moveTo(...at(0, 0)), context.lineTo(...at(...clean));
    context.stroke();
    context.setLineDash([]);
    paintNames(at(...point), at(...clean), at(...shrunk));
  }

  /** Between √ᾱ x̂₀ and xₜ the noise one way and the score the other way; x̂₀; xₜ. */
  function paintNames(from, clean, shrunk) {
    const context = map.contexts[1], { scale, size } = map, away = [from[0] - shrunk[0], from[1] - shrunk[1]], length = Math.hypot(...away);
    const [ux, uy] = length ? away.map((v) => v / length) : [1, 0], rim = 11 * scale;
    const beside = ([px, py], lanes, ahead = 0) => [px - lanes * LANE * scale * uy + ahead * ux, py + lanes * LANE * scale * ux + ahead * uy];
    const name = (words, role, place) => {
      const kept = place.map((v) => Math.max(14 * scale, Math.min(size - 14 * scale, v)));
      Object.assign(context, { font: `italic ${18 * scale}px Georgia, serif`, textAlign: "center", textBaseline: "middle", lineWidth: 5 * scale, strokeStyle: theme.halo, fillStyle: theme[role] });
      context.strokeText(words, ...kept);
      context.fillText(words, ...kept);
    };
    if (length > 2 * rim) {
      const middle = [(from[0] + shrunk[0]) / 2, (from[1] + shrunk[1]) / 2];
      for (const [words, role, side, ends] of [["ε̂", "path", 1, [beside(shrunk, 1), beside(from, 1, -rim)]], ["s", "truth", -1, [beside(from, -1, -rim), beside(shrunk, -1)]]]) {
        context.strokeStyle = context.fillStyle = theme[role];
        drawArrow(context, ...ends, 4 * scale);
        name(words, role, beside(middle, 5 * side));
      }
    }
    for (const [role, radius] of [["halo", 9.5], ["data", 7]]) {
      context.fillStyle = theme[role];
      round(context, clean, radius * scale);
    }
    Object.assign(context, { fillStyle: theme.halo, strokeStyle: theme.ink, lineWidth: 2.5 * scale });
    round(context, from, 9 * scale);
    round(context, from, 7 * scale, "stroke");
    name("x̂₀", "data", beside(clean, 0, -24 * scale));
    name("xₜ", "ink", beside(from, 0, 24 * scale));
  }

  repaint.push(paint);
  stage.watch(["t", "probe_x", "probe_y", "n_draws", "seed"], look);
  look();
  return halves(map, [["text", "ring", "noisy point xₜ"], ["path", "line", "the noise expected in it, √(1 − ᾱₜ) ε̂"], ["data", "dot", "the clean point expected behind it, x̂₀"],
    ["truth", "line", "the score there, (1 − ᾱₜ) s"], ["neutral", "dash", "÷ √ᾱₜ, undoing the shrinking"], ["model", "dot", "draws of x₀ given xₜ"],
    ["data", "ring", "where clean data lie"], ["data", "area", "density of xₜ"]], "At one noisy point",
  [slider(stage, { name: "t", label: "Level of noise", symbol: "t", min: 1, max: T, step: 1, format: String }), recipe,
  probeSliders(stage, "Noisy", "(xₜ)₁", "(xₜ)₂", { reach: LIMIT, step: 0.05 }), numbers.node, voice.node], note);
}

/** The lower half. */
function allTheWay(stage, theme, repaint) {
  const { model } = stage;
  let run, paths, due, last; // `due`: how many calls ought to have been made by now; `last`: time of a frame
  const map = makePicture(stage, { layers: 2, label: "Particles on their way from noise to data", paint: () => paint() });
  const loop = makeLoop({ ...stage, root: map.node }, () => tick(), () => toggle());
  const numbers = readout([`over ${PARTICLES.toLocaleString("en")} particles`, "measured", "theory"]), counts = h("p", PLAIN), note = h("p", { class: "sbm-note" });
  const voice = makeVoice(stage, () => `${counts.textContent}. ${numbers.words()}`, map);
  const isDone = () => run.calls === run.plan.length;

  /** A new run: at its start or, where nothing moves, at its end. */
  function restart(finished) {
    const [sampler, calls] = [model.get("sampler"), model.get("n_calls")];
    run = makeDescent(sampler, calls, PARTICLES, model.get("seed"));
    paths = Array.from({ length: FOLLOWED }, (_, i) => [[run.x[2 * i], run.x[2 * i + 1]]]);
    say(note, `${SAMPLERS[sampler].says(calls)} Theory: the law of xₜ; at t = 0 that is the data.`);
    advanceTo(finished ? calls : 0);
  }

  function advanceTo(calls) {
    for (due = Math.min(calls, run.plan.length); run.calls + 1 <= due; ) {
      descend(run);
      paths.forEach((path, i) => path.push([run.x[2 * i], run.x[2 * i + 1]]));
    }
    if (isDone()) move(false);
    show();
  }

  function tick() {
    const now = performance.now(), calls = due + (run.plan.length * Math.min(LONGEST, now - last)) / LASTING;
    last = now;
    if (calls >= run.calls + 1) advanceTo(calls);
    else due = calls;
  }

  function move(playing) {
    last = performance.now();
    loop.play(playing);
  }

  function toggle() {
    if (isDone()) restart(false);
    move(!loop.playing);
    voice.speak();
  }

  function step() {
    move(false);
    if (isDone()) restart(false);
    advanceTo(run.calls + 1);
  }

  function show() {
    const shown = compareAt(run.x, run.t).map((pair) => pair.map((v) => fixed(v, 3)));
    const isOff = (v, j) => j % 2 === 0 && Math.max(Math.abs(v), Math.abs(run.x[j + 1])) > LIMIT, off = run.x.filter(isOff).length;
    numbers.show([["share at (1.2, 1.2)", ...shown[0]], ["variance in a mode", ...shown[1]]]);
    say(counts, `t = ${run.t} · ${run.calls} of ${run.plan.length} calls` + (off > PARTICLES / 20 ? ` · ${off} off the map` : ""));
    if (!loop.playing) voice.speak();
    paint();
  }

  function paint() {
    if (map.size === 0 || !run) return;
    const context = map.contexts[1], { scale } = map, at = ([x, y]) => toPixels(map, LIMIT, x, y);
    paintDensity(map, theme, diffuse(CLEAN, ALPHA_BARS[run.t]), LIMIT);
    paintTicks(map, 1, theme, LIMIT, 2);
    Object.assign(context, { fillStyle: theme.model, strokeStyle: theme.path, lineWidth: 1.5 * scale, globalAlpha: 0.5 });
    for (let i = 0; i < 2 * PARTICLES; i += 2) round(context, at([run.x[i], run.x[i + 1]]), 2.2 * scale);
    for (const path of paths) {
      const many = Math.ceil(path.length / SHADES), faint = Math.min(0.3, 12 / path.length);
      for (let k = 0; k < path.length - 1; k += many) {
        context.globalAlpha = Math.max(faint, Math.min(1, (k + many) / path.length) ** 4); // what is long ago fades
        context.beginPath();
        for (const p of path.slice(k, k + many + 1)) context.lineTo(...at(p));
        context.stroke();
      }
      context.globalAlpha = 1;
      for (const [role, radius] of [["halo", 6], ["path", 4.5]]) {
        context.fillStyle = theme[role];
        round(context, at(path.at(-1)), radius * scale);
      }
    }
  }

  repaint.push(paint);
  stage.watch(["sampler", "n_calls", "seed"], () => restart(!loop.playing));
  move(!prefersStill());
  restart(!loop.playing);
  return halves(map, [["model", "dot", "particles"], ["path", "line", "the way of three of them"], ["data", "area", "density of xₜ"]], "All the way back",
    [h("div", { class: "sbm-inline" }, loop.button, button("Step", step), button("Restart", () => restart(false))),
    h("div", { class: "sbm-inline" },
      chooser(stage, { name: "sampler", label: "Sampler", choices: Object.keys(SAMPLERS) }), wholeNumber(stage, { name: "seed", label: "Seed" })),
    slider(stage, { name: "n_calls", label: "Calls of the score", symbol: "n", min: 1.3, max: 3, step: 0.1, log: true, digits: 2, format: (n) => n.toLocaleString("en") }),
    counts, numbers.node, voice.node], note);
}

/** One half: a picture with its legend, and beside it what steers it. */
const halves = ({ node }, legend, title, controls, note) => layOut([node, key(legend)], [h("p", PLAIN, h("strong", {}, title)), ...controls], [note]);

/** A disc, or with "stroke" a circle. */
function round(context, at, radius, how = "fill") {
  context.beginPath();
  context.arc(...at, radius, 0, 7);
  context[how]();
}

export default { render };
