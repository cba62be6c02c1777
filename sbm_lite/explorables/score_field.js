/**
 * The score field of a smoothed density, a probe to read it with, and a constant that changes nothing.
 * p ∝ exp(−β(E + c)) with E = −log p_σ, so the score is s = −β∇(E + c) = β∇log p_σ.
 * Traits: densities, density, sigma, beta, offset, probe_x, probe_y.
 */
import { evaluate, makeMixture } from "./maths.js";
import { chooser, h, makePicture, makeStage, makeTheme, onGrid, paintDensity, paintTicks, readout, say, slider } from "./stage.js";

const ARROWS = 19; // per side
const NUDGE = 1e-4; // for central differences

function render({ model, el }) {
  const stage = makeStage({ model, el });
  let mixture, limit, half; // `half`: the score whose arrow has half the greatest length

  const theme = makeTheme(stage, () => paint());
  const picture = makePicture(stage, { layers: 4, label: "Arrows of the score over the density", paint: () => paint() });
  const handle = h("div", { class: "sbm-handle", title: "Drag the probe" });
  const numbers = readout(["score at the probe", "differences", "formula"]);
  const energy = h("output", { name: "energy", class: "sbm-value", "aria-live": "off" });
  const arrow = h("output", { name: "arrow", class: "sbm-value", "aria-live": "off" });
  const note = h("p", { class: "sbm-note" });

  const choose = () => {
    const target = model.get("densities")[model.get("density")];
    limit = target.limit;
    half = middle(onGrid(makeMixture(target), limit, ARROWS).score);
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
    for (let i = 0; i < x.length; i += 2) drawArrow(context, toPixels(x[i], x[i + 1]), beta * score[i], beta * score[i + 1], half, longest, 1.2 * picture.scale, true);
    context.globalAlpha = 1;
    paintTicks(picture, 3, theme, limit);
  };

  const toPixels = (x, y) => [(picture.size * (1 + x / limit)) / 2, (picture.size * (1 - y / limit)) / 2];

  const probe = () => {
    const [x, y, beta] = ["probe_x", "probe_y", "beta"].map(model.get.bind(model));
    const { score, logProb } = at(mixture, x, y), [sx, sy] = [beta * score[0], beta * score[1]];
    numbers.show([["along x", signed(slope(1, 0)), signed(sx)], ["along y", signed(slope(0, 1)), signed(sy)]]);
    say(energy, signed(model.get("offset") - logProb));
    say(arrow, `${Math.hypot(sx, sy).toFixed(2)}, pointing to ${compass(sx, sy)}°`);
    paintProbe(x, y, sx, sy);
  };

  /** Central difference of −β(E + c) at the probe, along (dx, dy). */
  const slope = (dx, dy) => {
    const [x, y, beta, offset] = ["probe_x", "probe_y", "beta", "offset"].map(model.get.bind(model));
    const exponent = (side) => beta * (at(mixture, x + side * dx, y + side * dy).logProb - offset);
    return (exponent(NUDGE) - exponent(-NUDGE)) / (2 * NUDGE);
  };

  const paintProbe = (x, y, sx, sy) => {
    const context = picture.contexts[2], { size, scale } = picture, [px, py] = toPixels(x, y);
    context.clearRect(0, 0, size, size);
    const red = `rgb(${theme.point})`;
    for (const [colour, extra] of [[theme.halo, 4], [red, 0]]) {
      context.strokeStyle = context.fillStyle = colour;
      drawArrow(context, [px, py], sx, sy, half, 0.24 * size, (4 + extra) * scale, false);
      context.beginPath();
      context.arc(px, py, (6 + extra / 2) * scale, 0, 7);
      context.fill();
    }
    handle.style.left = `${(100 * px) / size}%`;
    handle.style.top = `${(100 * py) / size}%`;
  };

  const follow = (event) => {
    const box = picture.node.getBoundingClientRect(), inside = (v) => Math.round(100 * Math.max(-limit, Math.min(limit, v))) / 100;
    stage.write({
      probe_x: inside(limit * ((2 * (event.clientX - box.left)) / box.width - 1)),
      probe_y: inside(limit * (1 - (2 * (event.clientY - box.top)) / box.height)),
    });
  };
  makeDraggable(picture.node, handle, follow);

  const axis = (name, label, symbol) => slider(stage, { name, label, symbol, min: -8, max: 8, step: 0.1, format: signed });
  const panel = h("div", { class: "sbm-panel" },
    chooser(stage, { name: "density", label: "Density", choices: Object.keys(model.get("densities")) }),
    slider(stage, { name: "sigma", label: "Smoothing", symbol: "σ", min: 0, max: 4, step: 0.05, format: (v) => v.toFixed(2) }),
    slider(stage, { name: "beta", label: "Inverse temperature", symbol: "β", min: 0.25, max: 4, step: 0.05, format: (v) => v.toFixed(2) }),
    slider(stage, { name: "offset", label: "Constant added to the energy", symbol: "c", min: -5, max: 5, step: 0.1, format: signed }),
    h("div", { class: "sbm-pair" }, axis("probe_x", "Probe x", "x"), axis("probe_y", "Probe y", "y")),
    h("p", { class: "sbm-row", style: "margin: 0" }, "energy E + c", energy), numbers.node,
    h("p", { class: "sbm-row", style: "margin: 0" }, "length and direction", arrow), note);
  picture.node.append(handle);
  stage.root.append(h("div", { class: "sbm-grid" }, picture.node, panel));

  stage.watch(["densities", "density"], choose);
  stage.watch(["sigma"], smooth);
  stage.watch(["beta"], paint);
  stage.watch(["offset", "probe_x", "probe_y"], probe);
  choose();
  probe();
  return stage.destroy;
}

/** log p and its gradient at one point. */
function at(mixture, x, y) {
  const score = new Float64Array(2), logProb = new Float64Array(1);
  evaluate(mixture, Float64Array.of(x, y), score, logProb);
  return { score, logProb: logProb[0] };
}

/** The median length of an array of vectors. */
function middle(vectors) {
  const lengths = Float64Array.from({ length: vectors.length / 2 }, (_, i) => Math.hypot(vectors[2 * i], vectors[2 * i + 1]));
  return lengths.sort()[lengths.length >> 1];
}

const signed = (value) => (Math.abs(value) < 0.005 ? 0 : value).toFixed(2).replace("-", "−");

/** Direction in whole degrees, anticlockwise from the x axis. */
const compass = (sx, sy) => (Math.round((Math.atan2(sy, sx) * 180) / Math.PI) + 360) % 360;

/** An arrow whose length saturates at `longest`; centred on its point, or starting there. */
function drawArrow(context, [px, py], sx, sy, half, longest, width, centred) {
  const size = Math.hypot(sx, sy), length = (longest * size) / (size + half);
  if (length < width) return;
  const [ux, uy] = [sx / size, -sy / size], head = Math.min(length * 0.6, 3.2 * width + 1);
  const [x0, y0] = centred ? [px - (ux * length) / 2, py - (uy * length) / 2] : [px, py];
  const [x1, y1] = [x0 + ux * length, y0 + uy * length], [bx, by] = [x1 - ux * head, y1 - uy * head];
  context.lineWidth = width;
  context.beginPath();
  context.moveTo(x0, y0);
  context.lineTo(bx, by);
  context.stroke();
  context.beginPath();
  context.moveTo(x1, y1);
  context.lineTo(bx - uy * head * 0.5, by + ux * head * 0.5);
  context.lineTo(bx + uy * head * 0.5, by - ux * head * 0.5);
  context.fill();
}

/** The mouse may start anywhere on the picture; a finger takes the handle, or taps, and can still scroll. */
function makeDraggable(area, handle, follow) {
  area.addEventListener("pointerdown", (event) => {
    if (event.pointerType !== "mouse" && event.target !== handle) return;
    handle.setPointerCapture(event.pointerId);
    follow(event);
    event.preventDefault();
  });
  handle.addEventListener("pointermove", (event) => handle.hasPointerCapture(event.pointerId) && follow(event));
  area.addEventListener("click", follow);
}

export default { render };
