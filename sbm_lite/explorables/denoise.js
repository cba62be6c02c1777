/**
 * Denoising score matching at one noisy point x̃ = x + σε: where the clean x may have been, the target
 * (x − x̃)/σ² that each such x sets, and the score of p_σ, which is what the targets average to.
 * Traits: densities, density, sigma, probe_x, probe_y, n_draws, seed.
 */
import { drawFrom, evaluateAt, exactMoments, makeMixture, momentsOf, posterior } from "./maths.js";
import { key } from "./plot.js";
import { chooser, drawArrow, h, layOut, makePicture, makeProbe, makeStage, makeTheme, makeVoice, paintDensity, paintTicks, probeSliders, readout, say, short, slider, toPixels, wholeNumber } from "./stage.js";

const LINES = 40; // targets drawn as lines, at most
const POINT = 0.1; // a component narrower than this is a point of data

function render({ model, el }) {
  const stage = makeStage({ model, el });
  let clean, noisy, limit, law, draws, found;

  const theme = makeTheme(stage, () => paint());
  const picture = makePicture(stage, { layers: 4, label: "The noisy point, clean points it may come from, and the score", paint: () => paint() });
  const handle = makeProbe(stage, picture, { title: "Drag the noisy point", limit: () => limit });
  const numbers = readout(["at the noisy point", "measured", "theory"]), note = h("p", { class: "sbm-note" });
  const voice = makeVoice(stage, () => `${model.get("n_draws")} draws. ` + rows().map(([name, m, t]) => `${name}: ${m}, theory ${t}`).join("; "), picture);
  const isData = () => Math.max(...clean.stds) < POINT;

  function choose() {
    const target = model.get("densities")[model.get("density")];
    [clean, limit] = [makeMixture(target), target.limit];
    const area = isData() ? "The area of a red disc shows its point's share of the draws. " : "";
    say(note, `${area}Target: t = (x − x̃)/σ². Theory: the score of the noisy density at x̃, and the trace of Cov(t | x̃). The dashed circle has radius σ.`);
    paint();
  }

  function show() {
    const [x, y, sigma] = ["probe_x", "probe_y", "sigma"].map((name) => model.get(name));
    noisy = makeMixture(clean, sigma);
    law = posterior(clean, x, y, sigma);
    draws = drawFrom(law, model.get("n_draws"), model.get("seed"));
    found = momentsOf(draws.x);
    numbers.show(rows());
    handle.place(x, y);
    voice.speak();
    if (picture.size === 0) return;
    const { score } = evaluateAt(noisy, x, y), place = (a, b) => toPixels(picture, limit, a, b), from = place(x, y);
    paintTargets(from);
    paintProbe(from, place(x + sigma ** 2 * score[0], y + sigma ** 2 * score[1]), place(...found.mean), (sigma * picture.size) / (2 * limit));
  }

  /** Mean and spread of the targets (x − x̃)/σ²: over the draws; by the score of p_σ and the posterior. */
  function rows() {
    const at = [model.get("probe_x"), model.get("probe_y")], noise = model.get("sigma") ** 2;
    const { score } = evaluateAt(noisy, ...at), target = (c) => short((found.mean[c] - at[c]) / noise);
    return [["mean target, along x", target(0), short(score[0])], ["mean target, along y", target(1), short(score[1])],
      ["spread of the target", short(found.trace / noise ** 2), short(exactMoments(law).trace / noise ** 2)]];
  }

  function paint() {
    if (picture.size) {
      const { means } = clean, [ground, , above] = picture.contexts;
      paintDensity(picture, theme, clean, limit);
      paintTicks(picture, 2, theme, limit);
      above.fillStyle = theme.data;
      if (isData()) {
        ground.clearRect(0, 0, picture.size, picture.size);
        for (const m of means) disc(above, toPixels(picture, limit, ...m), 5 * picture.scale);
      }
    }
    show();
  }

  /** The draws of x, and lines to some of them; where x is one of a few points, discs for how often. */
  function paintTargets(from) {
    const context = picture.contexts[1], { size, scale } = picture, n = draws.components.length;
    const ends = Array.from({ length: n }, (_, i) => toPixels(picture, limit, draws.x[2 * i], draws.x[2 * i + 1]));
    context.clearRect(0, 0, size, size);
    Object.assign(context, { strokeStyle: theme.neutral, fillStyle: theme.model, lineWidth: scale, globalAlpha: 0.35 });
    trail(context, ends.slice(0, LINES).map((end) => [from, end]));
    if (isData()) {
      const counts = new Float64Array(clean.size);
      for (const k of draws.components) counts[k] += 1;
      clean.means.forEach((m, k) => disc(context, toPixels(picture, limit, ...m), 30 * scale * Math.sqrt(counts[k] / n)));
    } else {
      context.globalAlpha = Math.min(0.8, 2 * n ** -0.2);
      for (const end of ends) disc(context, end, 8 * n ** -0.25 * scale);
    }
    context.globalAlpha = 1;
  }

  /** x̃ in a circle of radius σ, the score's arrow, and the mean of the draws. */
  function paintProbe(from, tip, mean, radius) {
    const context = picture.contexts[3], { size, scale } = picture, reach = 8 * scale;
    const cross = [-1, 1].map((side) => [-1, 1].map((end) => [mean[0] + end * reach, mean[1] + side * end * reach]));
    context.clearRect(0, 0, size, size);
    Object.assign(context, { strokeStyle: theme.quiet, lineWidth: scale });
    context.setLineDash([4 * scale, 5 * scale]);
    ring(context, from, radius);
    context.setLineDash([]);
    Object.assign(context, { fillStyle: theme.halo, strokeStyle: theme.ink, lineWidth: 2.5 * scale });
    disc(context, from, 9 * scale);
    ring(context, from, 7 * scale);
    for (const [colour, width] of [[theme.halo, 6], [theme.model, 3]]) {
      Object.assign(context, { strokeStyle: colour, lineWidth: width * scale });
      trail(context, cross);
    }
    context.strokeStyle = context.fillStyle = theme.truth;
    drawArrow(context, from, tip, 3.5 * scale);
  }

  const panel = [
    slider(stage, { name: "sigma", label: "Noise", symbol: "σ", min: 0.2, max: 6, step: 0.05, format: (v) => v.toFixed(2) }),
    probeSliders(stage, "Noisy", "x̃₁", "x̃₂"),
    slider(stage, { name: "n_draws", label: "Draws of x given x̃", symbol: "n", min: 1, max: 3.302, step: 0.1, log: true, digits: 2, format: (n) => n.toLocaleString("en") }),
    h("div", { class: "sbm-inline" },
      chooser(stage, { name: "density", label: "Clean data", choices: Object.keys(model.get("densities")) }),
      wholeNumber(stage, { name: "seed", label: "Seed" })),
    numbers.node];
  const legend = key([["text", "ring", "noisy point x̃"], ["model", "dot", "clean x, given x̃"], ["neutral", "line", "targets × σ²"], ["model", "cross", "their mean"], ["truth", "line", "score × σ²"]]);
  stage.root.append(layOut([picture.node, legend], panel, [note]), voice.node);

  stage.watch(["densities", "density"], choose);
  stage.watch(["sigma", "probe_x", "probe_y", "n_draws", "seed"], show);
  choose();
  return stage.destroy;
}

function ring(context, at, radius) {
  context.beginPath();
  context.arc(...at, radius, 0, 7);
  context.stroke();
}

function disc(context, at, radius) {
  context.beginPath();
  context.arc(...at, radius, 0, 7);
  context.fill();
}

/** Straight lines between pairs of points. */
function trail(context, pairs) {
  context.beginPath();
  for (const [from, to] of pairs) context.moveTo(...from), context.lineTo(...to);
  context.stroke();
}

export default { render };
