/**
 * Langevin dynamics on a density of the plane: thousands of walkers, one step a frame.
 * Traits: densities, density, step_size, n_particles, noise, metropolis, seed.
 */
import { advance, hasDiverged, makeChain, makeMixture, stabilityLimit, stationaryVariance } from "./maths.js";
import { button, checkbox, chooser, h, layOut, makeCloud, makeLoop, makePicture, makeStage, makeTheme, makeVoice, onGrid, paintDensity, paintTicks, prefersStill, readout, say, slider, wholeNumber } from "./stage.js";

const WARM_UP = 100; // steps already made where motion is unwelcome
const FADE = 20; // steps over which a fresh cloud fades in
const REFRESH = 12; // steps between two looks at the numbers

function render({ model, el }) {
  const stage = makeStage({ model, el });
  let mixture, limit, truth, chain, diverged;

  const settings = () => ({ noise: model.get("noise"), metropolis: model.get("metropolis") });
  const theme = makeTheme(stage, () => paint());
  const picture = makePicture(stage, { layers: 3, label: "Particles moving over the density", paint: () => paint() });
  const cloud = makeCloud(picture, theme);
  const loop = makeLoop(stage, () => step(), () => toggle());
  const numbers = readout(["over all particles", "measured", "theory"]);
  const counts = h("p", { class: "sbm-note" }), law = h("p", { class: "sbm-note" });
  const message = h("p", { class: "sbm-message", role: "alert" });
  const voice = makeVoice(stage, () => {
    const rows = compare(chain, model.get("step_size"), settings(), truth);
    return `${model.get("density")}, after ${chain.steps} steps: ` + rows.map(([name, m, t]) => `${name} ${m}, theory ${t}`).join("; ");
  }, picture);

  function restart(running = loop.playing || diverged) {
    const target = model.get("densities")[model.get("density")];
    if (mixture?.source !== target) {
      [mixture, limit] = [{ ...makeMixture(target), source: target }, target.limit];
      truth = radiusUnder(mixture, limit);
      paint();
    }
    chain = makeChain(mixture, model.get("n_particles"), 0.9 * limit, model.get("seed"));
    diverged = false;
    say(message, "");
    loop.play(running);
    show();
  }

  function step() {
    advance(chain, model.get("step_size"), settings());
    diverged = chain.steps % 8 === 0 && hasDiverged(chain.here.x);
    if (diverged) stop();
    show();
  }

  function stop() {
    const eta = threeDigits(model.get("step_size")), edge = plain(stabilityLimit(mixture));
    loop.play(false);
    say(message, `Diverged after ${chain.steps} steps: η = ${eta} is past the limit 4λ = ${edge}.`);
  }

  function toggle() {
    if (diverged) return restart();
    loop.play(!loop.playing);
    show();
    voice.speak();
  }

  function show() {
    if (chain.steps % REFRESH === 0 || !loop.playing) showNumbers();
    stage.root.dataset.steps = chain.steps;
    cloud.draw(chain.here.x, limit, loop.playing ? Math.min(1, (chain.steps + 1) / FADE) : 1);
  }

  function showNumbers() {
    numbers.show(compare(chain, model.get("step_size"), settings(), truth));
    say(law, explain(mixture, settings(), model.get("step_size")));
    const accepted = settings().noise && settings().metropolis && chain.steps > 0;
    say(counts, `${chain.steps} steps` + (accepted ? ` · ${Math.round(100 * chain.acceptance)} % of proposals accepted` : ""));
  }

  function paint() {
    if (!mixture || picture.size === 0) return;
    paintDensity(picture, theme, mixture, limit);
    paintTicks(picture, 2, theme, limit);
    if (chain) show();
  }

  function steer() {
    metropolis.querySelector("input").disabled = !model.get("noise");
    if (diverged) restart();
    showNumbers();
  }

  const metropolis = checkbox(stage, { name: "metropolis", label: "Metropolis test (MALA)" });
  const once = () => {
    if (diverged) restart(false);
    loop.play(false);
    step();
    voice.speak();
  };
  const panel = [
    h("div", { class: "sbm-inline" }, loop.button, button("Step", once), button("Restart", () => restart())),
    h("div", { class: "sbm-inline" },
      chooser(stage, { name: "density", label: "Target", choices: Object.keys(model.get("densities")) }),
      wholeNumber(stage, { name: "seed", label: "Seed" })),
    slider(stage, { name: "step_size", label: "Step size", symbol: "η", min: -2, max: 0.76, step: 0.02, log: true, digits: 3, format: threeDigits }),
    slider(stage, { name: "n_particles", label: "Particles", symbol: "n", min: 2, max: 4.3, step: 0.1, log: true, digits: 2, format: (n) => n.toLocaleString("en") }),
    h("div", { class: "sbm-inline" }, checkbox(stage, { name: "noise", label: "noise" }), metropolis),
    numbers.node, message, counts];
  stage.root.append(layOut([picture.node], panel, [law]), voice.node);

  stage.watch(["densities", "density", "n_particles", "seed"], () => restart());
  stage.watch(["step_size", "noise", "metropolis"], steer);
  stage.watch(["density", "n_particles", "seed", "step_size", "noise", "metropolis"], voice.speak);
  restart();
  steer();
  if (prefersStill()) for (let i = 0; i < WARM_UP; i++) step();
  else loop.play(true);
  return stage.destroy;
}

/** Two decimals; very large numbers by their power of ten, missing ones in words. */
function decimals(value) {
  if (Number.isNaN(value)) return "none";
  if (value < 1e4) return value.toFixed(2);
  return "≈ 10" + [...String(Math.round(Math.log10(value)))].map((d) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[d]).join("");
}

/** Three significant digits, two decimals at least: 0.10, 0.105, 4.17. */
const threeDigits = (value) => value.toPrecision(3).replace(/(\.\d\d+?)0+$/, "$1");

/** At most two decimals. */
const plain = (value) => String(+value.toFixed(2));

/** Rows [name, measured, theory]: a Gaussian by its variance, two modes by their shares, a ring by its radius. */
function compare({ mixture, here: { x }, n }, stepSize, settings, truth) {
  const variance = stationaryVariance(mixture.stds[0], stepSize, settings);
  if (mixture.size === 1) return [["variance", decimals(spreadAbout(mixture, x, n).variance), decimals(variance)]];
  if (mixture.size === 2) {
    const k = mixture.weights.indexOf(Math.max(...mixture.weights)), found = spreadAbout(mixture, x, n);
    return [[`share at (${mixture.means[k].join(", ")})`, decimals(found.shares[k]), decimals(mixture.weights[k])],
      ["variance in a mode", decimals(found.variance), decimals(variance)]];
  }
  const found = radiusOf(x, () => 1), none = Number.isNaN(variance) || !settings.noise;
  return [["mean radius", decimals(found.mean), none ? "none" : decimals(truth.mean)],
    ["spread of the radius", decimals(found.spread), none ? "none" : decimals(truth.spread)]];
}

/** Share of walkers nearest to each mean, and their variance per coordinate about it. */
function spreadAbout({ meanX, meanY, size }, x, n) {
  const shares = new Array(size).fill(0);
  let total = 0;
  for (let i = 0; i < n; i++) {
    let nearest = 0, least = Infinity;
    for (let k = 0; k < size; k++) {
      const squared = (x[2 * i] - meanX[k]) ** 2 + (x[2 * i + 1] - meanY[k]) ** 2;
      if (squared < least) [nearest, least] = [k, squared];
    }
    shares[nearest] += 1 / n;
    total += least;
  }
  return { shares, variance: total / (2 * n) };
}

/** Weighted mean and standard deviation of |x|. */
function radiusOf(x, weight) {
  let total = 0, first = 0, second = 0;
  for (let i = 0; i < x.length / 2; i++) {
    const r = Math.hypot(x[2 * i], x[2 * i + 1]), w = weight(i);
    total += w;
    first += w * r;
    second += w * r * r;
  }
  return { mean: first / total, spread: Math.sqrt(second / total - (first / total) ** 2) };
}

/** The same under the density itself, by summing over a fine grid. */
function radiusUnder(mixture, limit) {
  const { x, logProb } = onGrid(mixture, limit, 200);
  return radiusOf(x, (i) => Math.exp(logProb[i]));
}

function explain(mixture, { noise, metropolis }, eta) {
  const edge = plain(stabilityLimit(mixture));
  const s = mixture.stds[0], own = mixture.size === 2 ? "Theory: the mode's weight in p, and " : "Theory: ";
  if (!noise && eta >= stabilityLimit(mixture)) return `Without noise this is gradient ascent, but η is past 4λ = ${edge}: every step overshoots the peak by more than the last.`;
  if (!noise) return "Without noise this is gradient ascent: every particle climbs to a mode and stays there. Nothing of the density is left but its peaks.";
  if (mixture.size > 2) return `Theory: the density's own values, reached ${metropolis ? "at every η, thanks to the Metropolis test" : `as η → 0. No stationary law from η = 4λ = ${edge}`}.`;
  if (metropolis) return `${own}λ = ${plain(s * s)} at every η: the Metropolis test removes the bias, and large steps pay in refused proposals.`;
  return `${own}λ/(1 − η/4λ), where λ = ${plain(s * s)} is the variance of ${mixture.size === 1 ? "the target" : "a mode"}. No stationary law from η = 4λ = ${edge}.`;
}

export default { render };
