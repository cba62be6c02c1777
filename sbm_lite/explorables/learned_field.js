/**
 * A trained noise-conditional network against the score of p_σ, the data blurred by noise of std σ: both fields as
 * arrows, or the length of their difference as a map.
 * Traits: layers, show, sigma, probe_x, probe_y.
 */
import { decodeLayers, evaluateAt, lengths, makeMixture, medianLength, networkScore } from "./maths.js";
import { key } from "./plot.js";
import { chooser, drawArrow, fixed, h, layOut, makePicture, makeProbe, makeStage, makeTheme, makeVoice, onGrid, paintDensity, paintTicks, probeSliders, readout, say, short, slider, toPixels } from "./stage.js";

const DATA = { weights: [0.2, 0.8], means: [[-5, -5], [5, 5]], stds: [1, 1] }; // two_modes()
const LIMIT = 8, BOX = 2; // half-widths of the map, and of the boxes that hold 91 % of the data
const ARROWS = 15, CELLS = 48; // per side: of the fields, and of the map of errors, whose cells end where a box does
const SCALE = [0.01, 100], PIXELS = 240; // errors shown as nothing and as full colour; of their map, per side
const PLACES = Array.from({ length: PIXELS }, (_, p) => {
  const at = Math.max(0, Math.min(CELLS - 1.001, ((p + 0.5) / PIXELS) * CELLS - 0.5));
  return [Math.floor(at), at % 1]; // of each pixel: the cell before it, and how far it is on the way to the next
});
const SHOWN = ["true and learned", "error"];

/** Is the point in one of the boxes |x − μ|∞ ≤ 2? */
const inBox = (x, y) => DATA.means.some(([mx, my]) => Math.abs(x - mx) <= BOX && Math.abs(y - my) <= BOX);

function render({ model, el }) {
  const stage = makeStage({ model, el });
  let layers, mixture, fine, coarse, learned, difference, errors;

  const theme = makeTheme(stage, () => paint());
  const picture = makePicture(stage, { layers: 4, label: "The true and the learned score field, or their difference", paint: () => paint() });
  const handle = makeProbe(stage, picture, { title: "Drag the probe", limit: () => LIMIT });
  const numbers = readout(["score at the probe", "learned", "true"]), note = h("p", { class: "sbm-note" });
  const voice = makeVoice(stage, () => numbers.words(), picture);

  const load = () => {
    layers = decodeLayers(model.get("layers"));
    compute();
  };

  /** Both fields on the two grids, at the present σ. */
  function compute() {
    const sigma = model.get("sigma");
    mixture = makeMixture(DATA, sigma);
    fine = onGrid(mixture, LIMIT, CELLS);
    coarse = onGrid(mixture, LIMIT, ARROWS);
    learned = networkScore(layers, coarse.x, sigma);
    difference = networkScore(layers, fine.x, sigma).map((s, i) => s - fine.score[i]);
    errors = lengths(difference);
    const size = lengths(fine.score);
    say(note, `With noise of std σ each mode has the variance 1 + σ². The error is the mean length of learned − true. The true score is ${short(mean(size, true))} long on average in the boxes, which hold 91 % of the clean data, and ${short(mean(size, false))} outside. Long arrows are drawn shorter.`);
    paint();
  }

  /** Mean of values on the fine grid, inside or outside the boxes. */
  function mean(values, inside) {
    const kept = values.filter((_, i) => inBox(fine.x[2 * i], fine.x[2 * i + 1]) === inside);
    return kept.reduce((sum, v) => sum + v, 0) / kept.length;
  }

  function paint() {
    if (!errors) return;
    if (picture.size) {
      const isError = model.get("show") === SHOWN[1];
      [arrowKey, errorKey].forEach((node, i) => (node.style.display = isError === Boolean(i) ? "" : "none"));
      picture.contexts[1].clearRect(0, 0, picture.size, picture.size);
      if (isError) paintErrors();
      else paintDensity(picture, theme, mixture, LIMIT), paintArrows();
      paintTicks(picture, 2, theme, LIMIT);
      paintBoxes();
    }
    probe();
  }

  /** The length of the difference on a logarithmic scale, interpolated between the cells. */
  function paintErrors() {
    const context = picture.contexts[0], image = new ImageData(PIXELS, PIXELS), [low, high] = SCALE.map(Math.log10);
    PLACES.forEach(([row, v], i) => PLACES.forEach(([column, u], j) => {
      const cell = 2 * (row * CELLS + column), dx = between(difference, cell, u, v), dy = between(difference, cell + 1, u, v);
      const t = Math.max(0, Math.min(1, (0.5 * Math.log10(dx * dx + dy * dy) - low) / (high - low)));
      for (let c = 0; c < 3; c++) image.data[4 * (i * PIXELS + j) + c] = theme.ground[c] + t * (theme.point[c] - theme.ground[c]);
      image.data[4 * (i * PIXELS + j) + 3] = 255;
    }));
    const small = h("canvas", { width: PIXELS, height: PIXELS });
    small.getContext("2d").putImageData(image, 0, 0);
    context.imageSmoothingQuality = "high";
    context.drawImage(small, 0, 0, picture.size, picture.size);
  }

  /** The true field broad and green, the learned one thin and red: on top of it where the two agree. */
  function paintArrows() {
    const context = picture.contexts[1], { scale, size } = picture, longest = size / ARROWS, half = medianLength(coarse.score) / 2;
    for (const [field, colour, width, alpha] of [[coarse.score, theme.truth, 3.6, 0.6], [learned, `rgb(${theme.point})`, 1.5, 1]]) {
      Object.assign(context, { strokeStyle: colour, fillStyle: colour, globalAlpha: alpha });
      for (let i = 0; i < field.length; i += 2) {
        const [px, py] = toPixels(picture, LIMIT, coarse.x[i], coarse.x[i + 1]), factor = longest / 2 / (Math.hypot(field[i], field[i + 1]) + half);
        const [dx, dy] = [factor * field[i], -factor * field[i + 1]];
        drawArrow(context, [px - dx, py - dy], [px + dx, py + dy], width * scale);
      }
    }
    context.globalAlpha = 1;
  }

  function paintBoxes() {
    const context = picture.contexts[2], { scale, size } = picture, side = (BOX * size) / LIMIT;
    Object.assign(context, { strokeStyle: theme.ink, lineWidth: 1.4 * scale });
    context.setLineDash([5 * scale, 4 * scale]);
    for (const [mx, my] of DATA.means) context.strokeRect(...toPixels(picture, LIMIT, mx - BOX, my + BOX), side, side);
    context.setLineDash([]);
  }

  function probe() {
    const [x, y, sigma] = ["probe_x", "probe_y", "sigma"].map((name) => model.get(name));
    const { score } = evaluateAt(mixture, x, y), found = networkScore(layers, Float64Array.of(x, y), sigma);
    numbers.show([["along x", fixed(found[0]), fixed(score[0])], ["along y", fixed(found[1]), fixed(score[1])],
      ["error in the boxes", short(mean(errors, true)), "0"], ["error outside", short(mean(errors, false)), "0"]]);
    handle.place(x, y);
    voice.speak();
    if (picture.size === 0) return;
    const context = picture.contexts[3], { scale, size } = picture, from = toPixels(picture, LIMIT, x, y), half = medianLength(coarse.score);
    const tip = ([sx, sy]) => [[sx, 1], [sy, -1]].map(([s, sign], c) => from[c] + (sign * 0.24 * size * s) / (Math.hypot(sx, sy) + half));
    context.clearRect(0, 0, size, size);
    Object.assign(context, { shadowColor: theme.halo, shadowBlur: 5 * scale });
    for (const [vector, colour, width] of [[score, theme.truth, 6], [score, theme.truth, 6], [found, `rgb(${theme.point})`, 3], [found, `rgb(${theme.point})`, 3]]) {
      context.strokeStyle = context.fillStyle = colour;
      drawArrow(context, from, tip(vector), width * scale);
    }
    context.shadowBlur = 0;
    for (const [colour, radius] of [[theme.halo, 8], [theme.ink, 6]]) {
      context.fillStyle = colour;
      context.beginPath();
      context.arc(...from, radius * scale, 0, 7);
      context.fill();
    }
  }

  const panel = [
    slider(stage, { name: "sigma", label: "Noise", symbol: "σ", min: -1, max: 1, step: 0.05, log: true, digits: 2, format: (v) => v.toPrecision(2) }),
    chooser(stage, { name: "show", label: "Show", choices: SHOWN }),
    probeSliders(stage, "Probe", "x", "y"), numbers.node];
  const arrowKey = key([["truth", "line", "true score"], ["model", "line", "learned score"], ["data", "area", "noisy density"], ["text", "dash", "boxes"]]);
  const errorKey = h("p", { class: "sbm-key" }, h("span", {}, "‖learned − true‖"), h("span", {}, "0.01", h("span", { class: "sbm-swatch", style: "width: 120px; height: 12px; border: 1px solid var(--sbm-line); background: linear-gradient(to right, transparent, var(--sbm-model))" }), "100"));
  stage.root.append(layOut([picture.node, arrowKey, errorKey], panel, [note]), voice.node);

  stage.watch(["layers"], load);
  stage.watch(["sigma"], compute);
  stage.watch(["show"], paint);
  stage.watch(["probe_x", "probe_y"], probe);
  load();
  return stage.destroy;
}

/** One coordinate, (u, v) of the way from where it stands at k to the cells on the right and below. */
function between(vectors, k, u, v) {
  const above = vectors[k] + u * (vectors[k + 2] - vectors[k]), below = k + 2 * CELLS;
  return above + v * (vectors[below] + u * (vectors[below + 2] - vectors[below]) - above);
}

export default { render };
