/**
 * The mathematics of the explorables: no page, no canvas, float64 throughout.
 *
 * Points of the plane lie flat in a Float64Array: x0, y0, x1, y1, …
 * Every density is a mixture of isotropic Gaussians, Σ_k w_k N(m_k, s_k² I).
 */

const LOG_TWO_PI = Math.log(2 * Math.PI);
const NEGLIGIBLE = 40; // exp(-40) is below the rounding of a float64 sum
const ESCAPED = 1e6; // a walker this far out never comes back

/** Uniform numbers in (0, 1) from a whole-number seed (sfc32, filled by a splitmix). */
export function generator(seed) {
  let [a, b, c, d] = [1, 2, 3, 4].map((i) => mixBits((seed | 0) + Math.imul(i, 0x9e3779b9)));
  const uniform = () => {
    const t = (a + b + d) | 0;
    d = (d + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = ((c << 21) | (c >>> 11)) + t | 0;
    return ((t >>> 0) + 0.5) / 4294967296;
  };
  for (let i = 0; i < 15; i++) uniform();
  return uniform;
}

function mixBits(bits) {
  bits = Math.imul(bits ^ (bits >>> 16), 0x21f0aaad);
  bits = Math.imul(bits ^ (bits >>> 15), 0x735a2d97);
  return bits ^ (bits >>> 15);
}

/** Fill z (even length) with standard normals, two at a time (Box and Muller 1958). */
export function fillNormals(uniform, z) {
  for (let i = 0; i < z.length; i += 2) {
    const radius = Math.sqrt(-2 * Math.log(uniform()));
    const angle = 2 * Math.PI * uniform();
    z[i] = radius * Math.cos(angle);
    z[i + 1] = radius * Math.sin(angle);
  }
}

/** A mixture ready for `evaluate`; weights are normalised, sigma smooths: s² → s² + σ². */
export function makeMixture({ weights, means, stds }, sigma = 0) {
  const total = weights.reduce((sum, w) => sum + w, 0);
  const variances = stds.map((s) => s * s + sigma * sigma);
  return {
    size: weights.length,
    weights: weights.map((w) => w / total),
    means,
    stds: variances.map(Math.sqrt),
    meanX: Float64Array.from(means, (m) => m[0]),
    meanY: Float64Array.from(means, (m) => m[1]),
    precision: Float64Array.from(variances, (v) => 1 / v),
    logScale: Float64Array.from(variances, (v, k) => Math.log(weights[k] / total / v) - LOG_TWO_PI),
    exponent: new Float64Array(weights.length),
  };
}

/** Write log p and the score ∇ log p = Σ_k r_k (m_k − x)/s_k² of every point of x. */
export function evaluate(mixture, x, score, logProb) {
  const { size, meanX, meanY, precision, logScale, exponent } = mixture;
  for (let i = 0; i < logProb.length; i++) {
    const px = x[2 * i], py = x[2 * i + 1];
    let largest = -Infinity;
    for (let k = 0; k < size; k++) {
      const dx = meanX[k] - px, dy = meanY[k] - py;
      exponent[k] = logScale[k] - 0.5 * precision[k] * (dx * dx + dy * dy);
      if (exponent[k] > largest) largest = exponent[k];
    }
    let total = 0, sx = 0, sy = 0;
    for (let k = 0; k < size; k++) {
      if (exponent[k] < largest - NEGLIGIBLE) continue;
      const r = Math.exp(exponent[k] - largest);
      total += r;
      sx += r * precision[k] * (meanX[k] - px);
      sy += r * precision[k] * (meanY[k] - py);
    }
    score[2 * i] = sx / total;
    score[2 * i + 1] = sy / total;
    logProb[i] = largest + Math.log(total);
  }
}

/** log p and its gradient at one point. */
export function evaluateAt(mixture, x, y) {
  const score = new Float64Array(2), logProb = new Float64Array(1);
  evaluate(mixture, Float64Array.of(x, y), score, logProb);
  return { score, logProb: logProb[0] };
}

/** The law of the clean x given x̃ = (x, y), again a mixture. With κ = s²/(s² + σ²), a component has the
    weight w N(x̃; m, s² + σ²), normalised, the mean m + κ(x̃ − m) and the variance κσ². */
export function posterior({ size, weights, meanX, meanY, stds }, x, y, sigma) {
  const logs = new Float64Array(size), means = new Float64Array(2 * size), variances = new Float64Array(size);
  for (let k = 0; k < size; k++) {
    const total = stds[k] ** 2 + sigma ** 2, kappa = stds[k] ** 2 / total, dx = x - meanX[k], dy = y - meanY[k];
    logs[k] = Math.log(weights[k] / total) - (dx * dx + dy * dy) / (2 * total);
    means[2 * k] = meanX[k] + kappa * dx;
    means[2 * k + 1] = meanY[k] + kappa * dy;
    variances[k] = kappa * sigma ** 2;
  }
  const largest = Math.max(...logs), likely = logs.map((v) => Math.exp(v - largest));
  const sum = likely.reduce((a, b) => a + b);
  return { weights: likely.map((v) => v / sum), means, variances };
}

/** Mean of such a law, and the trace of its covariance: E|x|² − |E x|², about the mean. */
export function exactMoments({ weights, means, variances }) {
  const mean = [0, 1].map((c) => weights.reduce((sum, w, k) => sum + w * means[2 * k + c], 0));
  const around = (k) => (means[2 * k] - mean[0]) ** 2 + (means[2 * k + 1] - mean[1]) ** 2;
  return { mean, trace: weights.reduce((sum, w, k) => sum + w * (2 * variances[k] + around(k)), 0) };
}

/** n points of such a law and the component of each. One seed: they move smoothly when the law does. */
export function drawFrom({ weights, means, variances }, n, seed) {
  const uniform = generator(seed), x = new Float64Array(2 * n), components = new Int32Array(n), z = new Float64Array(2);
  for (let i = 0; i < n; i++) {
    let k = 0;
    for (let left = uniform() - weights[0]; left > 0 && k < weights.length - 1; left -= weights[k]) k += 1;
    fillNormals(uniform, z);
    for (const c of [0, 1]) x[2 * i + c] = means[2 * k + c] + Math.sqrt(variances[k]) * z[c];
    components[i] = k;
  }
  return { x, components };
}

/** The same two moments of points of the plane, with n − 1. */
export function momentsOf(x) {
  const n = x.length / 2, mean = [0, 0];
  x.forEach((v, j) => (mean[j % 2] += v / n));
  return { mean, trace: x.reduce((sum, v, j) => sum + (v - mean[j % 2]) ** 2, 0) / (n - 1) };
}

/** Mean and variance (n − 1) of numbers; NaN where there are too few. */
export function meanAndVariance(values) {
  const n = values.length, mean = values.reduce((sum, v) => sum + v, 0) / n;
  return [mean, n > 1 ? values.reduce((sum, v) => sum + (v - mean) ** 2, 0) / (n - 1) : NaN];
}

/** One step of Langevin dynamics into `out`: x + (η/2) s + √η z. */
export function langevinStep(x, score, z, stepSize, out) {
  const drift = stepSize / 2, spread = Math.sqrt(stepSize);
  for (let i = 0; i < x.length; i++) out[i] = x[i] + drift * score[i] + spread * z[i];
}

/** Log of the Metropolis ratio p(y) q(x|y) / (p(x) q(y|x)) of walker i, with
    q(y|x) = N(y; x + (η/2) s(x), η I); `from` and `to` hold x, score and logProb. */
export function logAcceptance(from, to, i, stepSize) {
  let forward = 0, backward = 0;
  for (let j = 2 * i; j < 2 * i + 2; j++) {
    forward += (to.x[j] - from.x[j] - 0.5 * stepSize * from.score[j]) ** 2;
    backward += (from.x[j] - to.x[j] - 0.5 * stepSize * to.score[j]) ** 2;
  }
  return to.logProb[i] - from.logProb[i] + (forward - backward) / (2 * stepSize);
}

function makePoints(n) {
  return { x: new Float64Array(2 * n), score: new Float64Array(2 * n), logProb: new Float64Array(n) };
}

/** n walkers spread evenly over a disc. */
export function makeChain(mixture, n, radius, seed) {
  const uniform = generator(seed), x = new Float64Array(2 * n);
  for (let i = 0; i < n; i++) {
    const r = radius * Math.sqrt(uniform()), angle = 2 * Math.PI * uniform();
    x[2 * i] = r * Math.cos(angle);
    x[2 * i + 1] = r * Math.sin(angle);
  }
  return chainFrom(mixture, x, uniform);
}

/** Walkers that start at the points x: where they stand, where they propose to go. */
export function chainFrom(mixture, x, uniform) {
  const n = x.length / 2, here = makePoints(n);
  here.x.set(x);
  evaluate(mixture, here.x, here.score, here.logProb);
  return { mixture, uniform, n, here, there: makePoints(n), z: new Float64Array(2 * n), steps: 0, acceptance: 1 };
}

/** Move every walker once; without noise this is gradient ascent on log p. */
export function advance(chain, stepSize, { noise, metropolis }) {
  const { here, there, z } = chain;
  if (noise) fillNormals(chain.uniform, z);
  else z.fill(0);
  langevinStep(here.x, here.score, z, stepSize, there.x);
  evaluate(chain.mixture, there.x, there.score, there.logProb);
  chain.acceptance = noise && metropolis ? keepAccepted(chain, stepSize) : 1;
  [chain.here, chain.there] = [there, here];
  chain.steps += 1;
}

/** Put the walkers whose proposal is refused back; return the share accepted. */
function keepAccepted({ here, there, uniform, n }, stepSize) {
  let accepted = n;
  for (let i = 0; i < n; i++) {
    if (Math.log(uniform()) < logAcceptance(here, there, i, stepSize)) continue;
    accepted -= 1;
    for (const j of [2 * i, 2 * i + 1]) {
      there.x[j] = here.x[j];
      there.score[j] = here.score[j];
    }
    there.logProb[i] = here.logProb[i];
  }
  return accepted / n;
}

/** Has any coordinate left for good, or stopped being a number? */
export function hasDiverged(x) {
  return x.some((value) => !(Math.abs(value) < ESCAPED));
}

/** Step size from which a chain on this mixture has no stationary law: 4 max s². */
export function stabilityLimit({ stds }) {
  return 4 * Math.max(...stds) ** 2;
}

/** Variance of the chain's stationary law on N(m, s²I); NaN where there is none. */
export function stationaryVariance(std, stepSize, { noise, metropolis }) {
  const variance = std * std;
  if (noise && metropolis) return variance;
  if (stepSize >= 4 * variance) return NaN;
  return noise ? variance / (1 - stepSize / (4 * variance)) : 0;
}

/** n points spread evenly over the square [−limit, limit]². */
export const overSquare = (n, limit, uniform) => Float64Array.from({ length: 2 * n }, () => limit * (2 * uniform() - 1));

/** Noise levels from `first` down to `last`, each the same share of the one before; one alone is `last`. */
export const geometricSigmas = (first, last, n) => Array.from({ length: n }, (_, i) => (n === 1 ? last : first * (last / first) ** (i / (n - 1))));

/** The published levels of annealing: σ takes the place of every component's own std. */
export const levelsOf = ({ weights, means }, sigmas) => sigmas.map((sigma) => makeMixture({ weights, means, stds: means.map(() => sigma) }));

/** One step of annealed Langevin dynamics, nSteps at every level: η_i = η σ_i²/σ_L². Returns i, from 0. */
export function ladderStep(chain, levels, sigmas, stepSize, nSteps) {
  const last = sigmas.length - 1, i = Math.min(last, Math.floor(chain.steps / nSteps));
  if (chain.mixture !== levels[i]) {
    chain.mixture = levels[i];
    evaluate(chain.mixture, chain.here.x, chain.here.score, chain.here.logProb);
  }
  advance(chain, stepSize * (sigmas[i] / sigmas[last]) ** 2, { noise: true, metropolis: false });
  return i;
}

/** The share of points nearest to each mean, and the mean of Σ_k r_k |x − m_k|²/2 with the mixture's
    responsibilities r_k: on draws of a mixture of equal stds s that is s², overlap or not. */
export function aboutModes({ size, meanX, meanY, precision, logScale }, x) {
  const n = x.length / 2, shares = new Array(size).fill(0), squares = new Float64Array(size), logs = new Float64Array(size);
  let variance = 0;
  for (let i = 0; i < n; i++) {
    let nearest = 0, likeliest = -Infinity, total = 0, sum = 0;
    for (let k = 0; k < size; k++) {
      squares[k] = (x[2 * i] - meanX[k]) ** 2 + (x[2 * i + 1] - meanY[k]) ** 2;
      logs[k] = logScale[k] - 0.5 * precision[k] * squares[k];
      if (squares[k] < squares[nearest]) nearest = k;
      if (logs[k] > likeliest) likeliest = logs[k];
    }
    for (let k = 0; k < size; k++) {
      const r = Math.exp(logs[k] - likeliest);
      total += r;
      sum += r * squares[k];
    }
    shares[nearest] += 1 / n;
    variance += sum / total / (2 * n);
  }
  return { shares, variance };
}

/** P(Z ≤ z) of a standard normal, to 1e-7 (Abramowitz and Stegun 1964, 26.2.17). */
export function normalCdf(z) {
  const t = 1 / (1 + 0.2316419 * Math.abs(z)), c = [1.330274429, -1.821255978, 1.781477937, -0.356563782, 0.31938153];
  const tail = Math.exp(-0.5 * (z * z + LOG_TWO_PI)) * c.reduce((sum, a) => (sum + a) * t, 0);
  return z > 0 ? 1 - tail : tail;
}

/** The probability of the half plane nearer to mean k, in a mixture of two components of equal std. */
export function massNearer({ weights, meanX, meanY, stds }, k) {
  const reach = normalCdf(Math.hypot(meanX[1] - meanX[0], meanY[1] - meanY[0]) / (2 * stds[0]));
  return weights[k] * reach + weights[1 - k] * (1 - reach);
}

/** A network's layers from their traits { n_in, n_out, data }: base64 of float32, little-endian, first the
    weights in rows of n_in, then n_out biases. */
export function decodeLayers(layers) {
  return layers.map(({ n_in, n_out, data }) => {
    const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0)), view = new DataView(bytes.buffer);
    const values = Float64Array.from({ length: bytes.length / 4 }, (_, i) => view.getFloat32(4 * i, true));
    return { nIn: n_in, nOut: n_out, weights: values.subarray(0, n_in * n_out), biases: values.subarray(n_in * n_out) };
  });
}

const [SOFT_FROM, SOFT_TO, SOFT_NODES] = [-32, 20, 64]; // nodes per unit

/** Four coefficients for every interval: the cubic with the values and slopes of log(1 + eᵛ) at its ends. */
const softCubics = Float64Array.from({ length: 4 * SOFT_NODES * (SOFT_TO - SOFT_FROM) }, (_, i) => {
  const [left, right] = [i >> 2, (i >> 2) + 1].map((node) => Math.exp(SOFT_FROM + node / SOFT_NODES));
  const [f, g] = [left, right].map(Math.log1p), [df, dg] = [left, right].map((e) => e / (1 + e) / SOFT_NODES);
  return [f, df, 3 * (g - f) - 2 * df - dg, 2 * (f - g) + df + dg][i & 3];
});

/** log(1 + eᵛ) to 1e-10, and as PyTorch v itself above 20: from a table, since a network needs half a million. */
export function softplus(v) {
  if (v <= SOFT_FROM) return 0;
  if (v >= SOFT_TO) return v;
  const at = (v - SOFT_FROM) * SOFT_NODES, cell = Math.floor(at), t = at - cell, k = 4 * cell;
  return softCubics[k] + t * (softCubics[k + 1] + t * (softCubics[k + 2] + t * softCubics[k + 3]));
}

/** The network's output at rows of inputs: softplus after every layer but the last. */
export function evaluateNetwork(layers, inputs) {
  return layers.reduce((rows, layer, depth) => {
    const out = linear(layer, rows), n = layer.nOut, isLast = depth === layers.length - 1;
    for (let i = 0; i < out.length; i += n) for (let j = 0; j < n; j++) out[i + j] = isLast ? out[i + j] + layer.biases[j] : softplus(out[i + j] + layer.biases[j]);
    return out;
  }, inputs);
}

/** Wx of every row. Four rows and two outputs at a time, since reading costs more than multiplying; where
    they do not come out even, the last one is done twice. */
function linear({ nIn, nOut, weights }, rows) {
  const n = rows.length / nIn, out = new Float64Array(n * nOut);
  for (let i = 0; i < n; i += 4) {
    const i1 = Math.min(i + 1, n - 1), i2 = Math.min(i + 2, n - 1), i3 = Math.min(i + 3, n - 1);
    const r0 = i * nIn, r1 = i1 * nIn, r2 = i2 * nIn, r3 = i3 * nIn;
    for (let j = 0; j < nOut; j += 2) {
      const l = Math.min(j + 1, nOut - 1), w0 = j * nIn, w1 = l * nIn;
      let a0 = 0, a1 = 0, a2 = 0, a3 = 0, b0 = 0, b1 = 0, b2 = 0, b3 = 0;
      for (let k = 0; k < nIn; k++) {
        const a = weights[w0 + k], b = weights[w1 + k], x0 = rows[r0 + k], x1 = rows[r1 + k], x2 = rows[r2 + k], x3 = rows[r3 + k];
        (a0 += a * x0), (a1 += a * x1), (a2 += a * x2), (a3 += a * x3);
        (b0 += b * x0), (b1 += b * x1), (b2 += b * x2), (b3 += b * x3);
      }
      (out[i * nOut + j] = a0), (out[i1 * nOut + j] = a1), (out[i2 * nOut + j] = a2), (out[i3 * nOut + j] = a3);
      (out[i * nOut + l] = b0), (out[i1 * nOut + l] = b1), (out[i2 * nOut + l] = b2), (out[i3 * nOut + l] = b3);
    }
  }
  return out;
}

/** s(x, σ) of a noise-conditional network: it sees x/√(1 + σ²) and log σ, and its output is divided by σ. */
export function networkScore(layers, x, sigma) {
  const inputs = new Float64Array((3 * x.length) / 2), scale = 1 / Math.sqrt(1 + sigma * sigma);
  for (let i = 0; i < x.length / 2; i++) {
    inputs[3 * i] = scale * x[2 * i];
    inputs[3 * i + 1] = scale * x[2 * i + 1];
    inputs[3 * i + 2] = Math.log(sigma);
  }
  return evaluateNetwork(layers, inputs).map((v) => v / sigma);
}

/** The length of each of an array of vectors, and their median. */
export const lengths = (vectors) => Float64Array.from({ length: vectors.length / 2 }, (_, i) => Math.hypot(vectors[2 * i], vectors[2 * i + 1]));
export const medianLength = (vectors) => lengths(vectors).sort()[vectors.length >> 2];

/** ᾱ_0 = 1, ᾱ_1, …, ᾱ_T, where ᾱ_t = (1 − β_1) ⋯ (1 − β_t) and β_t grows evenly from `first` to `last`. */
export function linearAlphaBars(steps = 1000, first = 1e-4, last = 0.02) {
  const alphaBars = new Float64Array(steps + 1).fill(1), more = (last - first) / (steps - 1);
  for (let t = 1; t <= steps; t++) alphaBars[t] = alphaBars[t - 1] * (1 - first - more * (t - 1));
  return alphaBars;
}

/** The law of x_t = √ᾱ x₀ + √(1 − ᾱ) ε, with x₀ from a mixture: means √ᾱ m, variances ᾱ s² + 1 − ᾱ. */
export function diffuse({ weights, means, stds }, alphaBar) {
  const root = Math.sqrt(alphaBar), shrunk = means.map((mean) => mean.map((m) => root * m));
  return makeMixture({ weights, means: shrunk, stds: stds.map((s) => root * s) }, Math.sqrt(1 - alphaBar));
}

/** The law of x₀ given x_t = (x, y): x_t/√ᾱ is x₀ with noise of variance (1 − ᾱ)/ᾱ. */
export function cleanGiven(mixture, x, y, alphaBar) {
  const root = Math.sqrt(alphaBar);
  return posterior(mixture, x / root, y / root, Math.sqrt((1 - alphaBar) / alphaBar));
}

/** E[ε | x_t] and E[x₀ | x_t], coordinate by coordinate, from the score at x_t. */
export const noiseFromScore = (score, alphaBar) => -Math.sqrt(1 - alphaBar) * score;
export const cleanFromScore = (x, score, alphaBar) => (x + (1 - alphaBar) * score) / Math.sqrt(alphaBar);

/** n levels evenly spaced from T down to 1, rounded. */
export const levelsDown = (n, steps = 1000) => Array.from({ length: n }, (_, i) => Math.round(steps - (i * (steps - 1)) / Math.max(1, n - 1)));

/** Move x from the level ᾱ to a cleaner one, ᾱ′ > ᾱ, with α = ᾱ/ᾱ′: to (x + (1 − α) s)/√α and on by √β̃ z, where
    β̃ = (1 − α)(1 − ᾱ′)/(1 − ᾱ). At ᾱ′ = 1 that is x̂₀, without noise. */
export function ancestralStep(x, score, z, alphaBar, next) {
  const alpha = alphaBar / next, root = Math.sqrt(alpha), spread = Math.sqrt(((1 - alpha) * (1 - next)) / (1 - alphaBar));
  for (let i = 0; i < x.length; i++) x[i] = (x[i] + (1 - alpha) * score[i]) / root + spread * z[i];
}

/** The same without noise: x_t′ = √ᾱ′ x̂₀ + √(1 − ᾱ′) ε̂. */
export function ddimStep(x, score, alphaBar, next) {
  const [ofClean, ofNoise] = [Math.sqrt(next), Math.sqrt(1 - next)];
  for (let i = 0; i < x.length; i++) x[i] = ofClean * cleanFromScore(x[i], score[i], alphaBar) + ofNoise * noiseFromScore(score[i], alphaBar);
}

/** One Langevin step of size 0.2 (1 − ᾱ) on the level ᾱ; then x takes the scale of the level ᾱ′. */
export function annealedStep(x, score, z, alphaBar, next) {
  langevinStep(x, score, z, 0.2 * (1 - alphaBar), x);
  const factor = Math.sqrt(next / alphaBar);
  for (let i = 0; i < x.length; i++) x[i] *= factor;
}
