/**
 * The regression that denoising score matching is, on the line: at each noisy point x̃ = x + σε a target t = −ε/σ,
 * whose mean is the score of p_σ; and the gradient that each sample gives to the one parameter of the model θ s_σ.
 * Traits: sigma, data, probe, estimator, theta, n_draws, seed.
 */
import { fillNormals, generator, meanAndVariance } from "./maths.js";
import { key, makePlot } from "./plot.js";
import { chooser, fixed, h, layOut, makeStage, makeTheme, makeVoice, readout, say, short, slider, wholeNumber } from "./stage.js";

const [REACH, HEIGHT] = [5, 4]; // of the first plot: |x̃|, and |t| in units of 1/σ
const XS = Float64Array.from({ length: 2001 }, (_, i) => (REACH * (i - 1000)) / 1000);
const DOTS = 1500; // drawn, at most
const WIDE = 4.5; // half the second plot, in standard deviations of plain DSM

/** Two hills of equal width, the right one with that share of the data. */
export const LAWS = {
  "one hill": { right: 0.5, means: [0, 0], std: 1 },
  "two hills": { right: 0.8, means: [-2, 2], std: 0.5 },
  "two points": { right: 0.5, means: [-1, 1], std: 0 },
};

/** The target at noisy points: the chance that x is of the right hill, E[t | x̃], which is the score s_σ(x̃), and
    Var(t | x̃) = 1/σ² + s_σ′(x̃) as a sum of what is not negative. */
export function makeTarget({ right, means: [a, b], std }, sigma) {
  const noisy = std * std + sigma * sigma, even = Math.log(right / (1 - right)), slope = (b - a) / noisy, within = (std / sigma) ** 2 / noisy;
  const odds = (x) => even + slope * (x - (a + b) / 2), share = (x) => 1 / (1 + Math.exp(-odds(x))), rest = (x) => 1 / (1 + Math.exp(odds(x)));
  const mean = (x) => (a - x + share(x) * (b - a)) / noisy;
  return { share, mean, variance: (x) => within + share(x) * rest(x) * slope * slope };
}

/** n samples (x, ε), and u, z for n draws of a clean x given x̃. None depends on σ: pictures move smoothly with it. */
export function makeDraws({ right, means, std }, n, seed) {
  const uniform = generator(seed), four = new Float64Array(4), [x, epsilon, u, z] = [1, 2, 3, 4].map(() => new Float64Array(n));
  for (let i = 0; i < n; i++) {
    const mean = means[uniform() < right ? 1 : 0];
    u[i] = uniform();
    fillNormals(uniform, four);
    x[i] = mean + std * four[0];
    [, epsilon[i], z[i]] = four;
  }
  return { x, epsilon, u, z };
}

/** Targets (x − x̃)/σ², with x drawn given x̃. */
export function targetsGiven(law, sigma, at, { u, z }) {
  const noisy = law.std ** 2 + sigma ** 2, share = makeTarget(law, sigma).share(at);
  const [left, right] = law.means.map((m) => (m - at) / noisy), spread = law.std / (sigma * Math.sqrt(noisy));
  return z.map((v, i) => (u[i] < share ? right : left) + spread * v);
}

/** The gradient of one sample from r = ε/σ and the scores a, at x + σε, and b, at a `second` point. Each has the
    mean (θ − 1) E a². */
export const ESTIMATORS = {
  DSM: {
    gradient: (theta, r, a) => (theta * a + r) * a,
    says: "g = (θ s(x̃) − t) s(x̃), where s is the score of the noisy data: the spread of t at x̃ goes straight into g.",
  },
  "control variate": {
    second: (x) => x,
    gradient: (theta, r, a, b) => theta * a * a + (a - b) * r,
    says: "g − h with h = s(x) ε/σ, at the clean x: its mean is 0, since ε does not know x, and where the data are smooth on the scale of σ it carries nearly all the noise of g. A sample costs two calls of the model.",
  },
  "antithetic pair": {
    second: (x, step) => x - step,
    gradient: (theta, r, a, b) => (theta * (a * a + b * b) + (a - b) * r) / 2,
    says: "The mean of two gradients, with ε and with −ε: whatever is odd in ε is gone. A sample is a pair, and costs two calls of the model.",
  },
};

/** The score of p_σ where each sample is first looked at, or at such a second point. */
export function scoresAt(law, sigma, { x, epsilon }, where = (v, step) => v + step) {
  const { mean } = makeTarget(law, sigma);
  return x.map((v, i) => mean(where(v, sigma * epsilon[i])));
}

/** The gradients of samples with their scores. */
export const gradients = (estimator, theta, sigma, { epsilon, first, second }) => {
  const { gradient } = ESTIMATORS[estimator];
  return first.map((a, i) => gradient(theta, epsilon[i] / sigma, a, second?.[i]));
};

/** Weighted samples (x, ε) that stand for the law: the trapezoid rule along both normals, without its lightest nodes. */
export function makeNodes({ right, means: [a, b], std }) {
  const x = [], epsilon = [], weight = [], rule = (step) => {
    const last = Math.round(8.5 / step), z = Array.from({ length: 2 * last + 1 }, (_, i) => step * (i - last));
    return z.map((v) => [v, (step * Math.exp((-v * v) / 2)) / Math.sqrt(2 * Math.PI)]);
  };
  const [clean, noise] = std > 0 ? [rule(1 / 8), rule(1 / 5)] : [[[0, 1]], rule(1 / 32)];
  for (const [mean, share] of a === b ? [[a, 1]] : [[a, 1 - right], [b, right]])
    for (const [z, p] of clean)
      for (const [e, q] of noise) if (p * q > 1e-16) x.push(mean + std * z), epsilon.push(e), weight.push(share * p * q);
  return { x: Float64Array.from(x), epsilon: Float64Array.from(epsilon), weight: Float64Array.from(weight) };
}

/** Mean and variance of the gradients at such nodes; `scale` is E a². */
export function exactGradient(estimator, theta, sigma, nodes) {
  const mass = (f) => nodes.weight.reduce((sum, w, i) => sum + w * f(i), 0), g = gradients(estimator, theta, sigma, nodes);
  const scale = mass((i) => nodes.first[i] ** 2), mean = (theta - 1) * scale;
  return { scale, mean, variance: mass((i) => (g[i] - mean) ** 2) };
}

/** The batch whose mean is as much noise as signal, Var g/(E g)²; ∞ where the mean is rounding beside `scale`. */
export const batchSize = (mean, variance, scale) => (Math.abs(mean) > 1e-9 * scale ? variance / mean ** 2 : Infinity);

/** The same from n samples, without the bias of the squared mean; where that mean is within five standard errors
    of 0, and says little, [the least batch that two errors more would allow, true]. */
export function measuredBatch(mean, variance, n, scale) {
  const error = Math.sqrt(variance / n), isLost = Math.abs(mean) < 5 * error;
  const signal = isLost ? Math.abs(mean) + 2 * error : Math.sqrt(mean ** 2 - error ** 2);
  return [batchSize(signal, variance, scale), isLost];
}

/** How many values fall into each of 2 × `half` bins, as many on either side of 0. */
export function histogram(values, width, half) {
  const counts = new Float64Array(2 * half);
  for (const v of values) {
    const bin = Math.floor(v / width) + half;
    if (bin >= 0 && bin < 2 * half) counts[bin] += 1;
  }
  return counts;
}

/** Two decimals or three digits; from a thousand on, whole numbers. */
const tell = (v) => (Math.abs(v) < 1000 ? short(v) : v.toLocaleString("en", { maximumFractionDigits: 0 }).replace("-", "−"));
const count = (n) => n.toLocaleString("en");

function render({ model, el }) {
  const stage = makeStage({ model, el });
  let law, target, draws, nodes;
  let found, plain, chosen; // the targets at x̃, measured; of plain DSM and of the chosen estimator g, and what is exact

  const theme = makeTheme(stage, () => paint());
  const cloud = makePlot(stage, theme, { label: "Targets at noisy points, and the score of the noisy data through them", aspect: 1.45, paint: () => paintCloud() });
  const bars = makePlot(stage, theme, { label: "Histogram of the gradients of single samples", aspect: 1.45, paint: () => paintBars() });
  const place = cloud.handle("Drag the noisy point", (x) => stage.write({ probe: Math.round(100 * Math.max(-REACH, Math.min(REACH, x))) / 100 }));
  const atProbe = readout(["the target at x̃", "measured", "theory"]), ofGradient = readout(["gradient of one sample", "measured", "theory"]);
  const [error, says] = [1, 2].map(() => h("p", { class: "sbm-note" }));
  const voice = makeVoice(stage, () => `The target at x̃: ${atProbe.words()}. The gradient of one sample: ${ofGradient.words()}. ${error.textContent}`, cloud, bars);
  const get = (...names) => names.map((name) => model.get(name));

  function draw() {
    const [data, n, seed] = get("data", "n_draws", "seed");
    law = LAWS[data];
    [draws, nodes] = [makeDraws(law, n, seed), makeNodes(law)];
    show();
  }

  function show() {
    const [sigma] = get("sigma");
    target = makeTarget(law, sigma);
    for (const samples of [draws, nodes]) samples.first = scoresAt(law, sigma, samples);
    look();
    choose();
  }

  function choose() {
    const [sigma, estimator] = get("sigma", "estimator"), { second } = ESTIMATORS[estimator];
    for (const samples of [draws, nodes]) samples.second = second && scoresAt(law, sigma, samples, second);
    train();
  }

  function look() {
    const [sigma, at, n] = get("sigma", "probe", "n_draws"), spread = Math.sqrt(target.variance(at)), known = tell(spread / Math.sqrt(n));
    const [mean, variance] = meanAndVariance(targetsGiven(law, sigma, at, draws));
    found = { mean, std: Math.sqrt(variance) };
    atProbe.show([["its mean, the score", tell(mean), tell(target.mean(at))], ["its spread", tell(found.std), tell(spread)]]);
    say(error, known === tell(0) ? "At this x̃ the targets agree: one of them tells the score." : `The mean of ${count(n)} targets at x̃ is known to ±${known}.`);
    paintCloud();
  }

  function train() {
    const [sigma, theta, estimator, n] = get("sigma", "theta", "estimator", "n_draws");
    const both = (name) => ({ g: gradients(name, theta, sigma, draws), ...exactGradient(name, theta, sigma, nodes) });
    plain = both("DSM");
    chosen = estimator === "DSM" ? plain : both(estimator);
    const { mean, variance, scale } = chosen, measured = meanAndVariance(chosen.g), [batch, isLost] = measuredBatch(...measured, n, scale);
    ofGradient.show([["its mean", tell(measured[0]), tell(mean)], ["its variance", tell(measured[1]), tell(variance)],
      ["batch for equal signal and noise", (isLost && batch < Infinity ? "> " : "") + tell(isLost ? +batch.toPrecision(2) : batch), tell(batchSize(mean, variance, scale))]]);
    say(says, `${ESTIMATORS[estimator].says} The mean of ${count(n)} gradients is known to ±${tell(Math.sqrt(variance / n))}.`);
    paintBars();
  }

  function paint() {
    paintCloud();
    paintBars();
  }

  function paintCloud() {
    const [sigma, at] = get("sigma", "probe"), { mean, std } = found, top = HEIGHT / sigma;
    const ticks = [-3, -2, -1, 0, 1, 2, 3].map((k) => k / sigma), format = (v) => (+v.toPrecision(3)).toLocaleString("en").replace("-", "−");
    if (!cloud.frame({ x: { from: -REACH, to: REACH, label: "noisy point x̃" }, y: { from: -top, to: top, ticks, format, label: "target t; the lines are 1/σ apart" } })) return;
    const [xs, ts] = [[], []];
    for (let i = 0; i < Math.min(DOTS, draws.x.length); i++) {
      const x = draws.x[i] + sigma * draws.epsilon[i], t = -draws.epsilon[i] / sigma;
      if (Math.abs(x) < REACH && Math.abs(t) < top) xs.push(x), ts.push(t);
    }
    const curve = XS.map(target.mean), spread = XS.map((x) => Math.sqrt(target.variance(x))), edge = (side) => curve.map((t, i) => t + side * spread[i]);
    const drawn = [() => cloud.dots(xs, ts, "data", { radius: 1.7, alpha: 0.45 }), () => {
      cloud.area(XS, edge(-1), edge(1), "truth", 0.16);
      for (const [role, width] of [["halo", 5], ["truth", 2.6]]) cloud.line(XS, curve, role, { width });
    }];
    for (const put of law.std > 0 ? drawn : drawn.reverse()) put(); // the targets of points may all lie on the curve
    cloud.upright(at, "quiet");
    cloud.upright(at, "model", { from: mean - std, to: mean + std, dash: [], width: 4 });
    if (Math.abs(mean) > top) cloud.text(at, Math.sign(mean) * top, `${mean > 0 ? "↑" : "↓"} ${tell(mean)}`, "model", { dy: 14 * Math.sign(mean) });
    else cloud.dots([at], [mean], "halo", { radius: 7.5 }), cloud.dots([at], [mean], "model", { radius: 5.5 });
    place(at, mean);
  }

  function paintBars() {
    const unit = Math.max(Math.sqrt(plain.variance), 1e-6 * plain.scale), { mean } = chosen;
    if (!bars.frame({ x: { from: -WIDE * unit, to: WIDE * unit, label: "gradient g of one sample" }, y: { from: 0, to: 1.18, ticks: [0], format: () => "", label: "histogram, scaled to its peak" } })) return;
    bars.upright(0, "quiet");
    if (chosen !== plain) paintHistogram(plain, unit, "neutral", 0.2, 1.2);
    bars.upright(mean, "truth", { dash: [], width: 2.6 });
    paintHistogram(chosen, unit, "model", 0.4, 2);
    bars.text(mean, 1.1, `mean ${tell(mean)}`, "truth", mean > 0 ? { align: "left", dx: 8 } : { align: "right", dx: -8 });
  }

  function paintHistogram({ g, variance }, unit, role, alpha, width) {
    const bin = Math.max(Math.sqrt(variance) / 6, unit / 30), half = Math.ceil((WIDE * unit) / bin), counts = histogram(g, bin, half), peak = Math.max(...counts);
    const xs = Array.from(counts, (_, i) => [(i - half) * bin, (i + 1 - half) * bin]).flat(), heights = Array.from(counts, (v) => [v / peak, v / peak]).flat();
    bars.area(xs, 0, heights, role, alpha);
    bars.line(xs, heights, role, { width });
  }

  const row = (plot, swatches, panel, words) => layOut([plot.node, key(swatches)], panel, [words]);
  stage.root.append(
    row(cloud, [["data", "dot", "targets t = −ε/σ"], ["truth", "line", "their mean at x̃, the score"], ["truth", "area", "their spread"], ["model", "dot", "measured at x̃"]],
      [slider(stage, { name: "sigma", label: "Noise", symbol: "σ", min: -2, max: 0.4771, step: 1 / 109, log: true, digits: 3, format: (v) => v.toPrecision(3) }),
      chooser(stage, { name: "data", label: "Clean data", choices: Object.keys(LAWS) }),
      slider(stage, { name: "probe", label: "Noisy point", symbol: "x̃", min: -REACH, max: REACH, step: 0.05, format: (v) => fixed(v) }),
      atProbe.node], error),
    row(bars, [["model", "area", "the chosen estimator"], ["neutral", "area", "plain DSM"], ["truth", "line", "mean of both"]],
      [chooser(stage, { name: "estimator", label: "Gradient by", choices: Object.keys(ESTIMATORS) }),
      slider(stage, { name: "theta", label: "Size of the model θ s", symbol: "θ", min: 0, max: 1.5, step: 0.01, format: (v) => fixed(v) }),
      slider(stage, { name: "n_draws", label: "Samples", symbol: "n", min: 2, max: 4.7, step: 0.1, log: true, digits: 2, format: count }),
      wholeNumber(stage, { name: "seed", label: "Seed" }), ofGradient.node], says), voice.node);

  draw();
  stage.watch(["data", "n_draws", "seed"], draw);
  stage.watch(["sigma"], show);
  stage.watch(["probe"], look);
  stage.watch(["estimator"], choose);
  stage.watch(["theta"], train);
  stage.watch(["data", "n_draws", "seed", "sigma", "probe", "theta", "estimator"], voice.speak);
  return stage.destroy;
}

export default { render };
