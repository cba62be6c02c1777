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

/** n walkers spread evenly over a disc: where they stand, where they propose to go. */
export function makeChain(mixture, n, radius, seed) {
  const uniform = generator(seed), here = makePoints(n);
  for (let i = 0; i < n; i++) {
    const r = radius * Math.sqrt(uniform()), angle = 2 * Math.PI * uniform();
    here.x[2 * i] = r * Math.cos(angle);
    here.x[2 * i + 1] = r * Math.sin(angle);
  }
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
