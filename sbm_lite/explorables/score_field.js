/**
 * The score field of a smoothed density, a probe to read it with, and a constant that changes nothing.
 * p ∝ exp(−β(E + c)) with E = −log p_σ, so the score is s = −β∇(E + c) = β∇log p_σ.
 * Traits: densities, density, sigma, beta, offset, probe_x, probe_y.
 */
import { evaluateAt, makeMixture, medianLength } from "./maths.js";
import { chooser, drawArrow, fixed, h, layOut, makePicture, makeProbe, makeStage, makeTheme, makeVoice, onGrid, paintDensity, paintTicks, probeSliders, readout, say, slider, toPixels } from "./stage.js";

const ARROWS = 19; // per side
const NUDGE = 1e-4; // for central differences

function render({ model, el }) {
  const stage = makeStage({ model, el });
  let mixture, limit, half; // `half`: the score whose arrow has half the greatest length

  const theme = makeTheme(stage, () => paint());
  const picture = makePicture(stage, { layers: 4, label: "Arrows of the score over the density", paint: () => paint() });
  const handle = makeProbe(stage, picture, { title: "Drag the probe", limit: () => limit });
  const numbers = readout(["score at the probe", "differences", "formula"]);
  const energy = h("output", { name: "energy", class: "sbm-value", "aria-live": "off" });
  const arrow = h("output", { name: "arrow", class: "sbm-value", "aria-live": "off" });
  const note = h("p", { class: "sbm-note" });
  const voice = makeVoice(stage, () => `${model.get("density")}, ${numbers.words()}; energy ${energy.textContent}; length and direction ${arrow.textContent}`, picture);

  const choose = () => {
    const target = model.get("densities")[model.get("density")];
    limit = target.limit;
    half = medianLength(onGrid(makeMixture(target), limit, ARROWS).score);
    say(note, `Differences are those of −β(E + c) over a distance of 0.0002; the formula is β∇log p. Arrow length is squeezed, |s|/(|s| + ${half.toFixed(1)}), so that steep and gentle places can be read together.`);
    smooth();
  };

  const smooth = () => {
    const target = model.get("densities")[model.get("density")];
    mixture = makeMixture(target, model.get("sigma"));
    paint();
  };

  const paint = () => {
    if (!mixture || picture.size === 0) return;
    paintDensity(picture, theme, mixture, limit, model.get("beta"));
    paintField();
    probe();
  };

  const paintField = () => {
    const { x, score } = onGrid(mixture, limit, ARROWS), context = picture.contexts[1];
    context.clearRect(0, 0, picture.size, picture.size);
    context.strokeStyle = context.fillStyle = theme.ink;
    context.globalAlpha = 0.75;
    const longest = (0.92 * picture.size) / ARROWS, beta = model.get("beta");
    for (let i = 0; i < x.length; i += 2) {
      const centre = toPixels(picture, limit, x[i], x[i + 1]), tip = squeeze(centre, beta * score[i], beta * score[i + 1], longest / 2);
      drawArrow(context, [2 * centre[0] - tip[0], 2 * centre[1] - tip[1]], tip, 1.2 * picture.scale);
    }
    context.globalAlpha = 1;
    paintTicks(picture, 3, theme, limit);
  };

  /** Where an arrow ends whose length saturates at `longest`. */
  const squeeze = ([px, py], sx, sy, longest) => {
    const factor = longest / (Math.hypot(sx, sy) + half);
    return [px + factor * sx, py - factor * sy];
  };

  const probe = () => {
    const [x, y, beta] = ["probe_x", "probe_y", "beta"].map(model.get.bind(model));
    const { score, logProb } = evaluateAt(mixture, x, y), [sx, sy] = [beta * score[0], beta * score[1]];
    numbers.show([["along x", fixed(slope(1, 0)), fixed(sx)], ["along y", fixed(slope(0, 1)), fixed(sy)]]);
    say(energy, fixed(model.get("offset") - logProb));
    say(arrow, `${Math.hypot(sx, sy).toFixed(2)}, pointing to ${compass(sx, sy)}°`);
    voice.speak();
    paintProbe(x, y, sx, sy);
  };

  /** Central difference of −β(E + c) at the probe, along (dx, dy). */
  const slope = (dx, dy) => {
    const [x, y, beta, offset] = ["probe_x", "probe_y", "beta", "offset"].map(model.get.bind(model));
    const exponent = (side) => beta * (evaluateAt(mixture, x + side * dx, y + side * dy).logProb - offset);
    return (exponent(NUDGE) - exponent(-NUDGE)) / (2 * NUDGE);
  };

  const paintProbe = (x, y, sx, sy) => {
    const context = picture.contexts[2], { size, scale } = picture, from = toPixels(picture, limit, x, y);
    context.clearRect(0, 0, size, size);
    const red = `rgb(${theme.point})`;
    for (const [colour, extra] of [[theme.halo, 4], [red, 0]]) {
      context.strokeStyle = context.fillStyle = colour;
      drawArrow(context, from, squeeze(from, sx, sy, 0.24 * size), (4 + extra) * scale);
      context.beginPath();
      context.arc(...from, (6 + extra / 2) * scale, 0, 7);
      context.fill();
    }
    handle.place(x, y);
  };

  const panel = [
    chooser(stage, { name: "density", label: "Density", choices: Object.keys(model.get("densities")) }),
    slider(stage, { name: "sigma", label: "Smoothing", symbol: "σ", min: 0, max: 4, step: 0.05, format: (v) => v.toFixed(2) }),
    slider(stage, { name: "beta", label: "Inverse temperature", symbol: "β", min: 0.25, max: 4, step: 0.05, format: (v) => v.toFixed(2) }),
    slider(stage, { name: "offset", label: "Constant added to the energy", symbol: "c", min: -5, max: 5, step: 0.1, format: (v) => fixed(v) }),
    probeSliders(stage, "Probe", "x", "y"),
    h("p", { class: "sbm-row", style: "margin: 0" }, "energy E + c", energy), numbers.node,
    h("p", { class: "sbm-row", style: "margin: 0" }, "length and direction", arrow)];
  stage.root.append(layOut([picture.node], panel, [note]), voice.node);

  stage.watch(["densities", "density"], choose);
  stage.watch(["sigma"], smooth);
  stage.watch(["beta"], paint);
  stage.watch(["offset", "probe_x", "probe_y"], probe);
  choose();
  probe();
  return stage.destroy;
}

/** Direction in whole degrees, anticlockwise from the x axis. */
const compass = (sx, sy) => (Math.round((Math.atan2(sy, sx) * 180) / Math.PI) + 360) % 360;

export default { render };
