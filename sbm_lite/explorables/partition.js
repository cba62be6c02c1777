/**
 * The area Z under q = exp(−E) on the line, and what measuring one costs in d dimensions.
 * Traits: separation, tilt, offset, dim, proposal_std, n_draws, seed.
 */
import { fillNormals, generator } from "./maths.js";
import { key, makePlot } from "./plot.js";
import { fixed, h, layOut, makeStage, makeTheme, makeVoice, readout, say, slider, wholeNumber } from "./stage.js";

const EDGE = 5; // the line is drawn from −5 to 5
const FAR = 10; // and integrated from −10 to 10, where q has long vanished
const PANELS = 1000; // of that integral
const XS = Float64Array.from({ length: 401 }, (_, i) => EDGE * (i / 200 - 1));
const EACH = Float64Array.from({ length: 101 }, (_, d) => d);
const DIMS = [2, 4, 8, 12, 20, 30, 40, 50, 60, 70, 80, 90, 100]; // measured besides the chosen one

/** E(x) = (x² − b²)²/8 − c x + e. */
export const energy = (x, { separation, tilt, offset }) => (x * x - separation ** 2) ** 2 / 8 - tilt * x + offset;

/** Z = ∫ exp(−E) by the trapezoid rule, which is exact to rounding for such an integrand. */
export function partitionByQuadrature(settings) {
  let sum = 0;
  for (let i = 0; i <= PANELS; i++) sum += Math.exp(-energy(FAR * ((2 * i) / PANELS - 1), settings));
  return (sum * 2 * FAR) / PANELS;
}

/** Z as the mean of q/proposal over draws x = s z from N(0, s²), and its standard error. */
export function partitionByDraws(settings, z, std) {
  let first = 0, second = 0;
  for (const u of z) {
    const weight = std * Math.sqrt(2 * Math.PI) * Math.exp(u * u / 2 - energy(std * u, settings));
    first += weight / z.length;
    second += (weight * weight) / z.length;
  }
  return { value: first, error: Math.sqrt((second - first * first) / z.length) };
}

/** n draws of |z|², z ~ N(0, I_d): a pair of coordinates adds −2 log u to it, a single one its square. */
export function squaredLengths(n, dim, uniform) {
  const squares = new Float64Array(n), last = new Float64Array(n + (n % 2));
  if (dim % 2) fillNormals(uniform, last);
  for (let i = 0; i < n; i++) {
    let product = 1;
    for (let k = 1; k < dim; k += 2) product *= uniform();
    squares[i] = last[i] ** 2 - 2 * Math.log(product);
  }
  return squares;
}

/** (Σw)²/(n Σw²) for the target N(0, I) and draws x = r z, whose log-weight is (1 − r²)|z|²/2 + constant. */
export function usefulShare(squares, r) {
  const slope = (1 - r * r) / 2;
  let largest = -Infinity, first = 0, second = 0;
  for (let i = 0; i < squares.length; i++) largest = Math.max(largest, slope * squares[i]);
  for (let i = 0; i < squares.length; i++) {
    const weight = Math.exp(slope * squares[i] - largest);
    first += weight;
    second += weight * weight;
  }
  return (first * first) / (squares.length * second);
}

/** Its limit for many draws, (√(2r² − 1)/r²)^d, which needs r² > ½. */
export const shareInTheory = (dim, r) => (Math.sqrt(2 * r * r - 1) / (r * r)) ** dim;

function render({ model, el }) {
  const stage = makeStage({ model, el });
  const theme = makeTheme(stage, () => (paintLine(), paintShare()));
  const onLine = makePlot(stage, theme, { label: "The area under q, and the density p", aspect: 1.45, paint: () => paintLine() });
  const onDims = makePlot(stage, theme, { label: "Share of useful draws against the dimension", aspect: 1.45, paint: () => paintShare() });
  const area = readout(["on the line", "measured", "quadrature"]), useful = readout(["useful draws", "measured", "theory"]);
  const error = h("p", { class: "sbm-note" }), remark = h("p", { class: "sbm-note" });
  const voice = makeVoice(stage, () => `${area.words()}; useful draws ${useful.words()}`, onLine, onDims);
  const settings = () => ({ separation: model.get("separation"), tilt: model.get("tilt"), offset: model.get("offset") });
  let z, squares, trail, share; // `squares` of the chosen dimension, `trail` of all others and their shares

  function draw() {
    const n = model.get("n_draws"), uniform = generator(model.get("seed"));
    z = new Float64Array(n + (n % 2));
    fillNormals(uniform, z);
    z = z.subarray(0, n);
    trail = DIMS.map((dim, k) => squaredLengths(n, dim - (DIMS[k - 1] ?? 0), uniform));
    for (let k = 1; k < DIMS.length; k++) trail[k].forEach((_, i) => (trail[k][i] += trail[k - 1][i]));
    showLine();
    redrawDim();
  }

  function redrawDim() {
    const dim = model.get("dim"), k = DIMS.findLastIndex((d) => d <= dim); // grow the draws of the trail
    squares = squaredLengths(z.length, dim - (DIMS[k] ?? 0), generator(model.get("seed") + 1));
    if (k >= 0) squares = squares.map((v, i) => v + trail[k][i]);
    showShare();
  }

  function showLine() {
    const std = model.get("separation") + 1, found = partitionByDraws(settings(), z, std);
    area.show([["Z", decimalsOf(found.value), decimalsOf(partitionByQuadrature(settings()))]]);
    say(error, `Measured by importance sampling, ${count(z.length)} draws from N(0, ${plainly(std)}²): standard error ${found.error.toPrecision(2)}.`);
    paintLine();
  }

  function showShare() {
    const dim = model.get("dim"), r = model.get("proposal_std");
    share = { here: 100 * usefulShare(squares, r), trail: trail.map((lengths) => 100 * usefulShare(lengths, r)) };
    useful.show([[`in %, at d = ${dim}`, percent(share.here), percent(100 * shareInTheory(dim, r))]]);
    say(remark, explain(dim, r, z.length));
    paintShare();
  }

  function paintLine() {
    const now = settings(), total = partitionByQuadrature(now);
    const q = XS.map((x) => Math.exp(-energy(x, now))), p = q.map((v) => v / total), peak = Math.max(...p);
    const tallest = Math.max(...q), start = Math.exp(now.offset) * tallest; // the height of q at e = 0
    const top = Math.min(Math.max(1.15 * start, 1.3 * peak), 6 * peak); // moves with b and c, not with e
    if (!onLine.frame({ x: { from: -EDGE, to: EDGE, label: "x" }, y: { from: 0, to: top } })) return;
    onLine.area(XS, 0, q, "data");
    onLine.line(XS, q, "data");
    onLine.line(XS, p, "model");
    const words = `area Z = ${decimalsOf(total)}` + (tallest > top ? "; q runs off the top" : "");
    onLine.text(-EDGE, top, words, "data", { align: "left", dx: 8, dy: 12 });
  }

  function paintShare() {
    const r = model.get("proposal_std"), n = z.length, one = 100 / n;
    const y = { from: one / 8, to: 180, log: true, label: "useful draws, %" };
    if (!onDims.frame({ x: { from: 0, to: 100, label: "dimension d" }, y })) return;
    onDims.line([0, 100], [one, one], "neutral", { dash: [5, 5], width: 1.4 });
    onDims.text(100, one, `one draw of ${count(n)}`, "neutral", { align: "right", dy: 12 });
    onDims.line(EACH, EACH.map((d) => 100 * shareInTheory(d, r)), "truth");
    onDims.dots(DIMS, share.trail, "model", { radius: 2.5, alpha: 0.7 });
    onDims.dots([model.get("dim")], [share.here], "model", { radius: 6 });
  }

  const two = (v) => fixed(v), row = (plot, swatches, panel, words) => layOut([plot.node, key(swatches)], panel, [words]);
  stage.root.append(
    row(onLine, [["data", "area", "q = exp(−E), its area is Z"], ["model", "line", "p = q/Z"]], [
      slider(stage, { name: "separation", label: "Separation", symbol: "b", min: 0, max: 3, step: 0.05, format: two }),
      slider(stage, { name: "tilt", label: "Tilt", symbol: "c", min: -2, max: 2, step: 0.05, format: two }),
      slider(stage, { name: "offset", label: "Constant added to the energy", symbol: "e", min: -3, max: 3, step: 0.05, format: two }),
      area.node], error),
    row(onDims, [["truth", "line", "theory"], ["model", "dot", "measured"]], [
      slider(stage, { name: "dim", label: "Dimension", symbol: "d", min: 1, max: 100, step: 1, format: String }),
      slider(stage, { name: "proposal_std", label: "Width of the proposal", symbol: "r", min: 0.75, max: 3, step: 0.05, format: two }),
      slider(stage, { name: "n_draws", label: "Draws", symbol: "n", min: 2, max: 5, step: 0.1, log: true, digits: 2, format: count }),
      wholeNumber(stage, { name: "seed", label: "Seed" }), useful.node], remark), voice.node);

  draw();
  stage.watch(["separation", "tilt", "offset"], showLine);
  stage.watch(["dim"], redrawDim);
  stage.watch(["proposal_std"], showShare);
  stage.watch(["n_draws", "seed"], draw);
  stage.watch(["separation", "tilt", "offset", "dim", "proposal_std", "n_draws", "seed"], voice.speak);
  return stage.destroy;
}

const count = (n) => n.toLocaleString("en");
const plainly = (value) => String(+value.toFixed(2));
const decimalsOf = (value) => fixed(value, value < 100 ? 3 : 1);

/** Three significant digits; what is far too small by its power of ten. */
function percent(value) {
  if (value > 0.0005) return value.toPrecision(3);
  return "≈ 10" + [...String(Math.round(Math.log10(value)))].map((c) => "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"["-0123456789".indexOf(c)]).join("");
}

function explain(dim, r, n) {
  const theory = shareInTheory(dim, r), each = shareInTheory(1, r);
  if (r === 1) return "Proposal N(0, I) and target N(0, I) agree: every draw counts, in every dimension.";
  const setting = `Target N(0, I), proposal N(0, ${plainly(r)}² I): every dimension multiplies the share by ${fixed(each, 3)}. `;
  if (n * theory < 1) return setting + `Less than one of ${count(n)} draws should count. The measured share, which cannot fall below one draw, hides it.`;
  return setting + `About ${count(+(n * theory).toPrecision(2))} of ${count(n)} draws should count.` + (r < 1 ? " The draws that matter, far out, are rare: until one comes the measured share looks too good." : "");
}

export default { render };
