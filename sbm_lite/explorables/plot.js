/**
 * A plot in a picture of its own: sharp on every screen, in the colours of the light or dark theme.
 *
 *   const plot = makePlot(stage, theme, { label: "words for a listener", aspect: 1.6, paint });
 *   function paint() {                  // called on every resize; call it when a trait changes
 *     if (!plot.frame({ x: { from: 1, to: 100, log: true, label: "slices k" },
 *                       y: { from: -1, to: 1, label: "running mean" } })) return; // not on screen yet
 *     plot.area(xs, low, high, "truth");             // between two arrays, or an array and a number
 *     plot.line(xs, ys, "model", { width, dash, alpha }); // a gap where a value is not finite
 *     plot.dots(xs, ys, "model", { radius, alpha, hollow });
 *     plot.upright(x, "neutral", { from, to, dash });     // from floor to ceiling, or so far
 *     plot.text(x, y, "words", "ink", { align, dx, dy }); // moved by CSS pixels, kept in the picture
 *   }
 *   const place = plot.handle("Drag me", (x) => …); // x follows the pointer; place(x, y) after frame
 *   plot.node; key([["truth", "line", "theory"], …]);     // what to put on the page
 *
 * An axis is { from, to, log, label, ticks, format }; only the first two are needed. A role is "data",
 * "model", "truth", "path", "neutral", "ink" or "quiet".
 */
import { h, makeDraggable, makePicture } from "./stage.js";

const LETTERS = 12; // CSS pixels
const ROOM = { right: 12, top: 10, label: 20, bottom: 22, gap: 6 }; // around the frame, CSS pixels

export function makePlot(stage, theme, { label, aspect = 1.6, paint }) {
  const picture = makePicture(stage, { layers: 1, label, aspect, paint }), context = picture.contexts[0];
  let x, y, box; // two scales, and the frame in device pixels

  const frame = (axes) => {
    const { size, height, scale } = picture;
    if (size === 0) return false;
    context.clearRect(0, 0, size, height);
    context.font = `${LETTERS * scale}px "Book Sans", system-ui, sans-serif`;
    context.lineJoin = context.lineCap = "round";
    const ticks = { x: ticksOf(axes.x), y: ticksOf(axes.y) };
    const widest = Math.max(...ticks.y.map(([, text]) => context.measureText(text).width));
    box = {
      left: widest + 2 * ROOM.gap * scale, right: size - ROOM.right * scale,
      top: (ROOM.top + (axes.y.label ? ROOM.label : 0)) * scale,
      bottom: height - (ROOM.bottom + (axes.x.label ? ROOM.label : 0)) * scale,
    };
    x = scaleOf(axes.x, box.left, box.right);
    y = scaleOf(axes.y, box.bottom, box.top);
    drawAxes(axes, ticks);
    return true;
  };

  function drawAxes(axes, ticks) {
    const { left, right, top, bottom } = box, { size, height, scale } = picture, gap = ROOM.gap * scale;
    const write = (role, text, px, py, textAlign, textBaseline) => {
      Object.assign(context, { fillStyle: theme[role], textAlign, textBaseline });
      context.fillText(text, px, py);
    };
    inside("grid", 1, () => {
      context.lineWidth = scale;
      for (const [v] of ticks.x) context.moveTo(x(v), top), context.lineTo(x(v), bottom);
      for (const [v] of ticks.y) context.moveTo(left, y(v)), context.lineTo(right, y(v));
      context.stroke();
    });
    inside("quiet", 1, () => {
      context.lineWidth = scale;
      context.moveTo(left, top), context.lineTo(left, bottom), context.lineTo(right, bottom);
      context.stroke();
    }, whole());
    for (const [v, text] of ticks.x) {
      const half = context.measureText(text).width / 2;
      write("quiet", text, Math.min(x(v), size - half - scale), bottom + gap, "center", "top");
    }
    for (const [v, text] of ticks.y) write("quiet", text, left - gap, y(v), "right", "middle");
    write("ink", axes.x.label ?? "", (left + right) / 2, height - gap, "center", "bottom");
    write("ink", axes.y.label ?? "", gap, gap, "left", "top");
  }

  /** Draw in the colour of a role, clipped to the frame or another box. */
  const inside = (role, alpha, draw, { left, right, top, bottom } = box) => {
    context.save();
    context.beginPath();
    context.rect(left, top, right - left, bottom - top);
    context.clip();
    context.globalAlpha = alpha;
    context.strokeStyle = context.fillStyle = theme[role];
    context.beginPath();
    draw();
    context.restore();
  };
  const whole = () => ({ left: 0, right: picture.size, top: 0, bottom: picture.height });

  const trace = (xs, ys) => {
    let down = false;
    for (let i = 0; i < xs.length; i++) {
      const px = x(xs[i]), py = far(y(ys[i]));
      if (Number.isNaN(py)) down = false;
      else if (down) context.lineTo(px, py);
      else context.moveTo(px, py), (down = true);
    }
  };
  /** A height that the canvas can hold: infinities stop well outside the picture. */
  const far = (py) => Math.max(-9 * picture.height, Math.min(9 * picture.height, py));

  const line = (xs, ys, role, { width = 2.2, dash = [], alpha = 1 } = {}) => inside(role, alpha, () => {
    context.lineWidth = width * picture.scale;
    context.setLineDash(dash.map((d) => d * picture.scale));
    trace(xs, ys);
    context.stroke();
  });

  const area = (xs, low, high, role, alpha = 0.22) => inside(role, alpha, () => {
    const n = xs.length, at = (v, i) => far(y(typeof v === "number" ? v : v[i]));
    for (let i = 0; i < n; i++) context.lineTo(x(xs[i]), at(high, i));
    for (let i = n - 1; i >= 0; i--) context.lineTo(x(xs[i]), at(low, i));
    context.fill();
  });

  const dots = (xs, ys, role, { radius = 4, alpha = 1, hollow = false } = {}) => inside(role, alpha, () => {
    context.lineWidth = 2 * picture.scale;
    for (let i = 0; i < xs.length; i++) {
      context.beginPath();
      context.arc(x(xs[i]), far(y(ys[i])), radius * picture.scale, 0, 7);
      if (hollow) context.stroke();
      else context.fill();
    }
  }, whole()); // a dot on the rim stays round

  const upright = (at, role, { from, to, dash = [4, 4], width = 1.4 } = {}) => inside(role, 1, () => {
    context.lineWidth = width * picture.scale;
    context.setLineDash(dash.map((d) => d * picture.scale));
    context.moveTo(x(at), from === undefined ? box.bottom : far(y(from)));
    context.lineTo(x(at), to === undefined ? box.top : far(y(to)));
    context.stroke();
  });

  const text = (atX, atY, words, role, { align = "center", dx = 0, dy = 0 } = {}) => {
    const { scale } = picture, wide = context.measureText(words).width, rim = 3 * scale;
    const start = x(atX) + dx * scale - wide * { left: 0, center: 0.5, right: 1 }[align];
    const px = Math.max(box.left + rim, Math.min(box.right - rim - wide, start));
    const py = Math.max(box.top + 8 * scale, Math.min(box.bottom - 8 * scale, y(atY) + dy * scale));
    Object.assign(context, { textAlign: "left", textBaseline: "middle", lineWidth: 5 * scale });
    [context.strokeStyle, context.fillStyle] = [theme.halo, theme[role]];
    context.strokeText(words, px, py);
    context.fillText(words, px, py);
  };

  const handle = (title, follow) => {
    const { node } = picture, knob = h("div", { class: "sbm-handle", title });
    node.append(knob);
    makeDraggable(node, knob, ({ clientX }) => {
      const { left } = node.getBoundingClientRect();
      follow(x.back((clientX - left - node.clientLeft) * picture.scale));
    });
    return (atX, atY) => {
      const top = Math.max(box.top, Math.min(box.bottom, y(atY)));
      Object.assign(knob.style, { left: `${(100 * x(atX)) / picture.size}%`, top: `${(100 * top) / picture.height}%` });
    };
  };

  return { node: picture.node, frame, line, area, dots, upright, text, handle };
}

/** The look of one of two lines, so that they differ in more than colour. */
export const DASHED = { dash: [6, 4] };

/** A line of swatches and words: entries [role, "line" | "dash" | "area" | "dot" | "ring" | "cross", words]. */
export function key(entries) {
  const swatch = (role, kind) => h("span", { class: `sbm-swatch sbm-${kind}`, style: `color: var(--sbm-${role})` });
  return h("p", { class: "sbm-key" }, ...entries.map(([role, kind, words]) => h("span", {}, swatch(role, kind), words)));
}

/** From the units of an axis to pixels between `start` and `end`, and `back`. */
function scaleOf({ from, to, log = false }, start, end) {
  const [f, inverse] = log ? [Math.log, Math.exp] : [(v) => v, (v) => v], a = f(from), b = f(to);
  const back = (px) => inverse(a + ((b - a) * (px - start)) / (end - start));
  return Object.assign((v) => start + ((end - start) * (f(v) - a)) / (b - a), { back });
}

/** Pairs [value, text]: those given, else about five round numbers, else every power of ten. */
function ticksOf({ from, to, log = false, ticks, format = (v) => v.toLocaleString("en", { maximumSignificantDigits: 6 }).replace("-", "−") }) {
  return (ticks ?? (log ? powers(from, to) : rounds(from, to))).map((v) => [v, format(v)]);
}

function rounds(from, to) {
  const rough = (to - from) / 5, power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((m) => m * power >= 0.8 * rough), ticks = [];
  for (let k = Math.ceil(from / step - 1e-9); k * step <= to + 1e-9 * step; k++) ticks.push(+(k * step).toPrecision(12));
  return ticks;
}

function powers(from, to) {
  const ticks = [];
  for (let k = Math.ceil(Math.log10(from) - 1e-9); 10 ** k <= to * (1 + 1e-9); k++) ticks.push(+(10 ** k).toPrecision(12));
  return ticks;
}
