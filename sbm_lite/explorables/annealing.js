/**
 * Plain and annealed Langevin dynamics side by side: the same starts, as many steps, exact scores. At level i of
 * the ladder σ_i stands in for the modes' own std of 1, so the last level, σ = 1, is the target itself.
 * Traits: step_size, first_sigma, n_levels, n_steps, n_particles, seed.
 */
import { aboutModes, advance, chainFrom, generator, geometricSigmas, ladderStep, levelsOf, massNearer, overSquare, stationaryVariance } from "./maths.js";
import { DASHED, key, makePlot } from "./plot.js";
import { button, h, layOut, makeCloud, makeLoop, makePicture, makeStage, makeTheme, makeVoice, paintDensity, paintTicks, prefersStill, readout, say, slider, toPixels, wholeNumber } from "./stage.js";

export const TARGET = { weights: [0.2, 0.8], means: [[-5, -5], [5, 5]] }, MODE = 1; // two_modes(), and its heavy mode
const LIMIT = 8; // half-width of the start and of the left map
const SECONDS = 12, SLOWEST = 10; // a run takes that long; steps a second, at least
const BUDGET = 9; // ms of a frame for steps, at most
const LOOKS = 150; // at the shares, during a run
const AT_ONCE = 400_000, FEWEST = 100; // particle steps of a run that is not watched, and particles
const ULA = { noise: true, metropolis: false };
const COLUMNS = "display: grid; gap: 10px 16px; grid-template-columns: repeat(auto-fit, minmax(min(100%, 260px), 1fr))"; // two where there is room

function render({ model, el }) {
  const stage = makeStage({ model, el });
  let eta, sigmas, levels, level, plain, annealed, total, every, seen;
  let due, last = 0, painted = {}; // steps due by now, when that was, and what the right map shows

  const theme = makeTheme(stage, () => paint());
  const maps = ["Particles of plain Langevin dynamics over the target", "Particles of annealed Langevin dynamics over the density of the present level"]
    .map((label) => makePicture(stage, { layers: 3, label, paint: () => paint() }));
  const clouds = maps.map((map) => makeCloud(map, theme)), titles = maps.map(() => h("p", { class: "sbm-note", style: "text-align: center; padding-bottom: 3px" }));
  const plot = makePlot(stage, theme, { label: "Share of the particles at the heavy mode, step by step", aspect: 1.9, paint: () => paintShares() });
  const loop = makeLoop(stage, () => tick(), () => toggle());
  const numbers = readout(["over the particles", "measured", "theory"]), note = h("p", { class: "sbm-note" });
  const voice = makeVoice(stage, () => `${titles[1].textContent}. ${numbers.words()}`, ...maps, plot);
  const isOver = () => annealed.steps === total;

  /** n particles at the start of a run with the present settings. */
  function begin(n) {
    const [first, nLevels, nSteps, seed] = ["first_sigma", "n_levels", "n_steps", "seed"].map((name) => model.get(name));
    eta = model.get("step_size");
    sigmas = geometricSigmas(first, 1, nLevels);
    levels = levelsOf(TARGET, sigmas);
    total = nLevels * nSteps;
    every = Math.ceil(total / LOOKS);
    const uniform = generator(seed), x = overSquare(n, LIMIT, uniform);
    annealed = chainFrom(levels[0], x, uniform);
    plain = chainFrom(levels[nLevels - 1], x, generator(-1 - seed));
    [level, due, seen] = [0, 0, []];
    look();
  }

  function step() {
    level = ladderStep(annealed, levels, sigmas, eta, model.get("n_steps"));
    advance(plain, eta, ULA);
    if (annealed.steps % every === 0 || isOver()) look();
  }

  const look = () => seen.push([annealed.steps, ...[plain, annealed].map(({ mixture, here }) => aboutModes(mixture, here.x))]);

  function tick() {
    const now = performance.now(), before = seen.length;
    due = Math.min(total, due + (Math.min(100, now - last) / 1000) * Math.max(total / SECONDS, SLOWEST));
    last = now;
    while (annealed.steps + 1 <= due && performance.now() < now + BUDGET) step();
    if (due >= annealed.steps + 1) due = annealed.steps; // too slow: do not hurry after it
    if (isOver()) loop.play(false);
    draw();
    if (seen.length > before || isOver()) showNumbers();
  }

  function toggle() {
    if (!loop.playing && isOver()) return start();
    loop.play(!loop.playing);
    show();
  }

  function start(playing = true) {
    begin(model.get("n_particles"));
    loop.play(playing);
    show();
  }

  /** The end of a run, at once: with fewer particles where it is long. */
  function finish() {
    loop.play(false);
    const few = Math.max(FEWEST, AT_ONCE / (model.get("n_levels") * model.get("n_steps")));
    begin(Math.min(model.get("n_particles"), 20 * Math.round(few / 20)));
    while (!isOver()) step();
    show();
  }

  function show() {
    draw();
    showNumbers();
    voice.speak();
  }

  function draw() {
    const limit = view();
    say(titles[0], `Plain: ${annealed.steps.toLocaleString("en")} of ${total.toLocaleString("en")} steps, η = ${eta.toPrecision(2)}`);
    say(titles[1], `Annealed: level ${level + 1} of ${levels.length}, σ = ${brief(sigmas[level])}, η${below(level + 1)} = ${brief(eta * sigmas[level] ** 2)}`);
    if (maps[1].size && (painted.mixture !== annealed.mixture || Math.abs(painted.limit / limit - 1) > 0.006)) paintLevel(limit);
    clouds[0].draw(plain.here.x, LIMIT, 1);
    clouds[1].draw(annealed.here.x, painted.limit, 1);
    stage.root.dataset.steps = annealed.steps;
  }

  function showNumbers() {
    const [, still, found] = seen[seen.length - 1], n = annealed.n, all = model.get("n_particles");
    const share = ({ mixture }, { shares }) => [shares[MODE].toFixed(3), massNearer(mixture, MODE).toFixed(3)];
    const variances = [found.variance, stationaryVariance(sigmas[level], eta * sigmas[level] ** 2, ULA)];
    numbers.show([["share at (5, 5), plain", ...share(plain, still)], ["share at (5, 5), annealed", ...share(annealed, found)],
      ["variance in a mode, annealed", ...variances.map((v) => v.toPrecision(4))]]);
    say(note, "A particle counts to the nearer mode. Theory: the share in the target, and for annealing in the present level's own density; the variance σ²/(1 − η/4)." + (n < all ? ` Shown at once, with ${n.toLocaleString("en")} particles; Play moves all ${all.toLocaleString("en")}.` : ""));
    paintShares();
  }

  /** Half-width of the right map: it follows σ down the ladder, without jumps, and ends as the left one. */
  function view() {
    const top = levels.length - 1, place = Math.max(0, Math.min(top, (annealed.steps / total) * (top + 1) - 0.5));
    return LIMIT + 2 * ((top ? sigmas[0] ** (1 - place / top) : 1) - 1);
  }

  function paint() {
    painted = {};
    if (!annealed) return;
    if (maps[0].size) paintDensity(maps[0], theme, plain.mixture, LIMIT), paintTicks(maps[0], 2, theme, LIMIT);
    draw();
    paintShares();
  }

  function paintLevel(limit) {
    const context = maps[1].contexts[2], { scale } = maps[1], [left, top] = toPixels(maps[1], limit, -LIMIT, LIMIT), [right, bottom] = toPixels(maps[1], limit, LIMIT, -LIMIT);
    painted = { mixture: annealed.mixture, limit };
    paintDensity(maps[1], theme, annealed.mixture, limit);
    paintTicks(maps[1], 2, theme, limit, [20, 10, 4].find((v) => v <= 0.7 * limit));
    if (limit < 1.03 * LIMIT) return;
    Object.assign(context, { strokeStyle: theme.quiet, lineWidth: 1.2 * scale });
    context.setLineDash([4 * scale, 4 * scale]);
    context.strokeRect(left, top, right - left, bottom - top);
    context.setLineDash([]);
  }

  function paintShares() {
    if (!annealed || !plot.frame({ x: { from: 0, to: total, label: "steps" }, y: { from: 0.4, to: 0.9, ticks: [0.4, 0.5, 0.6, 0.7, 0.8, 0.9], label: "share at (5, 5)" } })) return;
    const stairs = levels.flatMap((mixture, i) => [0, 1].map((end) => [((i + end) * total) / levels.length, massNearer(mixture, MODE)]));
    const steps = seen.map(([k]) => k);
    plot.line(...[0, 1].map((c) => stairs.map((point) => point[c])), "truth", { width: 3, alpha: 0.75 });
    for (const [chain, role, look] of [[1, "neutral", DASHED], [2, "model"]]) {
      const shares = seen.map((row) => row[chain].shares[MODE]);
      plot.line(steps, shares, role, look);
      plot.dots(steps.slice(-1), shares.slice(-1), role);
    }
  }

  const count = (n) => n.toLocaleString("en");
  const controls = [
    slider(stage, { name: "step_size", label: "Step size of the last level", symbol: "η", min: -2, max: 0, step: 0.05, log: true, digits: 2, format: (v) => v.toPrecision(2) }),
    slider(stage, { name: "first_sigma", label: "First level of the ladder", symbol: "σ₁", min: 0, max: 1.4772, step: 0.04924, log: true, digits: 2, format: (v) => v.toPrecision(2) }),
    h("div", { class: "sbm-pair" },
      slider(stage, { name: "n_levels", label: "Levels", symbol: "L", min: 1, max: 20, step: 1, format: String }),
      slider(stage, { name: "n_steps", label: "Steps each", symbol: "K", min: 1, max: 3, step: 0.05, log: true, digits: 2, format: count })),
    h("div", { class: "sbm-pair" },
      slider(stage, { name: "n_particles", label: "Particles", symbol: "n", min: 2.699, max: 3.699, step: 0.1, log: true, digits: 2, format: count }),
      wholeNumber(stage, { name: "seed", label: "Seed" }))];
  const legend = key([["neutral", "dash", "plain"], ["model", "line", "annealed"], ["truth", "line", "in the level's own density"]]);
  const words = key([["model", "dot", "particles, started evenly over the left map: the dashed square"], ["data", "area", "density"]]);
  const buttons = h("div", { class: "sbm-inline", style: "margin: 10px 0 14px" }, loop.button, button("To the end", finish), button("Restart", () => start(loop.playing || isOver())));
  words.style.maxWidth = "none";
  stage.root.append(
    h("div", { style: COLUMNS }, ...maps.map((map, i) => h("div", {}, titles[i], map.node))), words, buttons,
    layOut([plot.node, legend, h("div", { style: "margin-top: 10px" }, numbers.node)], controls, [note]), voice.node);

  stage.watch(["step_size", "first_sigma", "n_levels", "n_steps", "n_particles", "seed"], () => (loop.playing ? start() : finish()));
  if (prefersStill()) finish();
  else start();
  return stage.destroy;
}

/** Two significant digits, or whole. */
const brief = (value) => (value < 9.95 ? value.toPrecision(2) : value.toFixed(0));

/** A whole number as an index. */
const below = (n) => [...String(n)].map((d) => "₀₁₂₃₄₅₆₇₈₉"[d]).join("");

export default { render };
