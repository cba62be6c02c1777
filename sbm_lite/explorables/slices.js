/**
 * The trace of a Jacobian A from slices vᵀAv along random directions v, one after the other.
 * Traits: dim, coupling, law, seed.
 */
import { fillNormals, generator, meanAndVariance } from "./maths.js";
import { key, makePlot } from "./plot.js";
import { button, chooser, h, layOut, makeLoop, makeStage, makeTheme, makeVoice, prefersStill, readout, say, short, slider, wholeNumber } from "./stage.js";

const MOST = 1000; // slices
const AT_FIRST = 100; // of them where motion is unwelcome
const PACE = 1.015; // growth of their number per frame: eight seconds in all
const [BELOW, ABOVE] = [7, 5]; // reach of the plot around the mean, in units of √d

/** A symmetric matrix, row by row: −1 on the diagonal, ρ N(0, 1)/√d off it. */
export function makeJacobian(dim, coupling, uniform) {
  const a = new Float64Array(dim * dim), z = new Float64Array(dim * dim + (dim % 2)), scale = coupling / Math.sqrt(dim);
  fillNormals(uniform, z);
  for (let i = 0; i < dim; i++) {
    a[i * dim + i] = -1;
    for (let j = 0; j < i; j++) a[i * dim + j] = a[j * dim + i] = scale * z[i * dim + j];
  }
  return a;
}

/** The four laws of a direction v, made from standard normals z, and the mean and variance of vᵀAv, given
    d, tr A, ‖A‖² = ΣA_ij² and ΣA_ii². */
export const LAWS = {
  Rademacher: {
    direct: (z) => z.map((v) => (v < 0 ? -1 : 1)),
    mean: ({ trace }) => trace,
    variance: ({ all, diagonal }) => 2 * (all - diagonal),
    says: (isDiagonal) => `Each vᵢ is ±1, so the diagonal of A is read without error. ${isDiagonal ? "At ρ = 0 there is nothing else: one slice is enough." : "All the noise comes from the entries off it."}`,
  },
  Gaussian: {
    direct: (z) => z,
    mean: ({ trace }) => trace,
    variance: ({ all }) => 2 * all,
    says: (isDiagonal) => `The length of v varies, and the slices with it${isDiagonal ? ", even at ρ = 0, where A = −I and every slice is −|v|²" : ": even the diagonal of A is read with noise"}.`,
  },
  "sphere of radius √d": {
    direct: (z) => onSphere(z, Math.sqrt(z.length)),
    mean: ({ trace }) => trace,
    variance: onSphereVariance,
    says: (isDiagonal) => `The length of v is fixed: ${isDiagonal ? "at ρ = 0, where A = −I, every slice is −|v|² = −d exactly" : "the noise comes only from the differences between the eigenvalues of A"}.`,
  },
  "unit sphere": {
    direct: (z) => onSphere(z, 1),
    mean: ({ trace, dim }) => trace / dim,
    variance: (told) => onSphereVariance(told) / told.dim ** 2,
    says: () => "A unit vector has E vvᵀ = I/d: the slices average to tr A/d and not to tr A. Multiply them by d, and this is the sphere of radius √d.",
  },
};

function onSphere(z, radius) {
  const factor = radius / Math.sqrt(z.reduce((sum, v) => sum + v * v, 0));
  return z.map((v) => factor * v);
}

function onSphereVariance({ dim, trace, all }) {
  return Math.max(0, (2 / (dim + 2)) * (dim * all - trace * trace)); // rounding must not take it below 0
}

/** What the laws need to know of A. */
export function describeJacobian(a, dim) {
  const told = { dim, trace: 0, all: 0, diagonal: 0 };
  a.forEach((v) => (told.all += v * v));
  for (let i = 0; i < dim * dim; i += dim + 1) (told.trace += a[i]), (told.diagonal += a[i] * a[i]);
  return told;
}

/** vᵀAv. */
export function quadraticForm(a, v) {
  const d = v.length;
  let sum = 0;
  for (let i = 0; i < d; i++) {
    let row = 0;
    for (let j = 0; j < d; j++) row += a[i * d + j] * v[j];
    sum += v[i] * row;
  }
  return sum;
}

/** The next slice of A along a direction of that law. */
export function drawSlice(a, dim, law, uniform) {
  const z = new Float64Array(dim + (dim % 2));
  fillNormals(uniform, z);
  return quadraticForm(a, law.direct(z.subarray(0, dim)));
}

function render({ model, el }) {
  const stage = makeStage({ model, el });
  let dim, law, a, told, uniform, slices, due; // `due`: how many slices ought to be drawn by now

  const theme = makeTheme(stage, () => paint());
  const plot = makePlot(stage, theme, { label: "Slices, their running mean and the trace", aspect: 1.15, paint: () => paint() });
  const loop = makeLoop(stage, () => tick(), () => toggle());
  const numbers = readout(["over the slices", "measured", "theory"]), note = h("p", { class: "sbm-note" });
  const voice = makeVoice(stage, () => `After ${slices.length} slices: ` + rows().map(([name, m, t]) => `${name} ${m}, theory ${t}`).join("; "), plot);

  /** The matrix and that many slices of it, from the start of the random stream. */
  function restart(count) {
    [dim, law] = [model.get("dim"), LAWS[model.get("law")]];
    uniform = generator(model.get("seed"));
    a = makeJacobian(dim, model.get("coupling"), uniform);
    told = describeJacobian(a, dim);
    slices = [];
    say(note, law.says(model.get("coupling") === 0));
    drawUpTo(count);
  }

  function drawUpTo(count) {
    while (slices.length + 1 <= count) slices.push(drawSlice(a, dim, law, uniform));
    due = count;
    show();
  }

  /** Draw what is due: ever more a frame, which on a logarithmic axis is an even pace. */
  function tick() {
    due = Math.min(MOST, due * PACE);
    if (due >= slices.length + 1) drawUpTo(due);
    if (due === MOST) loop.play(false);
  }

  function toggle() {
    if (slices.length === MOST) restart(1);
    loop.play(!loop.playing);
  }

  function step() {
    loop.play(false);
    if (slices.length === MOST) restart(1);
    else drawUpTo(slices.length + 1);
  }

  function rows() {
    const [mean, variance] = meanAndVariance(slices);
    return [["mean of vᵀAv", short(mean), short(law.mean(told))],
      ["variance of one slice", slices.length > 1 ? short(variance) : "–", short(law.variance(told))]];
  }

  function show() {
    numbers.show(rows());
    stage.root.dataset.slices = slices.length;
    paint();
    voice.speak();
  }

  function paint() {
    const mean = law.mean(told), unit = (Math.sqrt(dim) * mean) / told.trace; // √d, or that divided by d
    const y = { from: mean - BELOW * unit, to: mean + ABOVE * unit, label: "vᵀAv, and its running mean" };
    if (!plot.frame({ x: { from: 1, to: MOST, log: true, label: "slices k" }, y })) return;
    const along = Float64Array.from({ length: 101 }, (_, i) => MOST ** (i / 100)), reach = along.map((k) => 2 * Math.sqrt(law.variance(told) / k));
    const ks = slices.map((_, i) => i + 1), means = [];
    slices.reduce((sum, v, i) => ((means[i] = (sum + v) / (i + 1)), sum + v), 0);
    plot.dots(ks, slices.map((v) => Math.max(y.from, Math.min(y.to, v))), "model", { radius: 2.4, alpha: 0.35 });
    plot.area(along, reach.map((r) => mean - r), reach.map((r) => mean + r), "truth");
    plot.line([1, MOST], [mean, mean], "truth", { width: 1.6 });
    plot.line(ks, means, "halo", { width: 5.5 });
    plot.line(ks, means, "model");
    plot.dots(ks.slice(-1), means.slice(-1), "halo", { radius: 6 });
    plot.dots(ks.slice(-1), means.slice(-1), "model");
  }

  const panel = [
    h("div", { class: "sbm-inline" }, loop.button, button("Step", step), button("Restart", () => restart(1))),
    slider(stage, { name: "coupling", label: "Coupling of the coordinates", symbol: "ρ", min: 0, max: 1, step: 0.05, format: (v) => v.toFixed(2) }),
    slider(stage, { name: "dim", label: "Dimension", symbol: "d", min: 2, max: 100, step: 1, format: String }),
    h("div", { class: "sbm-inline" },
      chooser(stage, { name: "law", label: "Law of v", choices: Object.keys(LAWS) }), wholeNumber(stage, { name: "seed", label: "Seed" })),
    numbers.node];
  const legend = key([["model", "dot", "one slice"], ["model", "line", "their mean so far"], ["truth", "line", "expected value"], ["truth", "area", "two standard errors"]]);
  stage.root.append(layOut([plot.node, legend], panel, [note]), voice.node);

  stage.watch(["dim", "coupling", "law", "seed"], () => restart(slices.length));
  restart(prefersStill() ? AT_FIRST : 1);
  if (!prefersStill()) loop.play(true);
  return stage.destroy;
}

export default { render };
