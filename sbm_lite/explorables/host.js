/**
 * The website's host: bring every `[data-explorable]` figure to life when it comes near the screen.
 * The module is the very one that JupyterLab runs; a plain object stands in for the kernel's model.
 * The page may bring the module of a figure along, as the figure's property `module`.
 * The address …#langevin?step_size=0.5&noise=0 leads to the first Langevin figure, in that state.
 */

const MARGIN = 300; // px; a figure this far from the screen starts
const A_WHILE = 500; // ms after which a screen reader knows a new line and reads what it says

/** The part of a widget's model that an explorable uses, kept in the page. Its controls offer to read their traits
    from text; `restore` has them read what a link asks for, and `changes` says what a link has to tell. */
export function makeModel(state) {
  const values = { ...state }, listeners = new Map(), readers = new Map();
  const heard = (event) => listeners.get(event) ?? listeners.set(event, new Set()).get(event);
  const model = {
    get: (name) => values[name],
    set(name, value) {
      if (values[name] === value) return;
      values[name] = value;
      for (const event of [`change:${name}`, "change"]) for (const react of [...heard(event)]) react();
    },
    on: (event, react) => heard(event).add(react),
    off: (event, react) => heard(event).delete(react),
    save_changes() {},
    offer: (name, read) => readers.set(name, read),
    restore(asked) {
      for (const [name, read] of readers) model.set(name, read(asked.get(name) ?? "") ?? state[name]);
    },
    changes() {
      const changed = [...readers.keys()].filter((name) => values[name] !== state[name]);
      return new URLSearchParams(changed.map((name) => [name, typeof values[name] === "boolean" ? +values[name] : values[name]]));
    },
  };
  return model;
}

/** Bring a figure to life, once. */
export const mount = (figure) => (figure.alive ??= start(figure));

/** Replace the poster by the live explorable; keep it, and say so, if that fails. */
async function start(figure) {
  const poster = figure.querySelector("img"), el = document.createElement("div");
  try {
    const { explorable, state } = figure.dataset;
    const module = figure.module ?? (await import(`./${explorable}.js`)).default;
    figure.prepend(el);
    figure.model = makeModel(JSON.parse(state));
    module.render({ model: figure.model, el });
    el.firstElementChild?.append(shareLine(figure));
    poster?.classList.add("sbm-poster"); // kept for paper
  } catch (error) {
    const note = document.createElement("p");
    note.setAttribute("role", "status");
    note.textContent = `The live figure could not start (${error.message}); this is a still picture of it.`;
    el.replaceChildren(note);
    figure.append(el);
    console.error(error);
  }
}

/** The figure that the page's address names, and the settings it asks for. */
function linked() {
  const [id, settings] = location.hash.slice(1).split("?"), figure = document.getElementById(id);
  return figure?.dataset?.explorable ? { figure, asked: new URLSearchParams(settings) } : {};
}

/** Go where the address leads, when the figures above have their final size; and again when the whole page has. */
async function follow() {
  const { figure, asked } = linked(), figures = [...document.querySelectorAll("[data-explorable]")];
  if (!figure) return;
  await Promise.all(figures.slice(0, figures.indexOf(figure) + 1).map(mount));
  figure.model?.restore(asked);
  if (`${figure.model?.changes() ?? ""}`) setTimeout(() => figure.tell?.("These are the settings of the link."), A_WHILE);
  const arrive = () => figure.scrollIntoView();
  arrive();
  if (document.readyState !== "complete") addEventListener("load", arrive, { once: true });
  Object.assign(figure, { tabIndex: -1 }).focus({ preventScroll: true }); // the next Tab goes to its first control
}

/** The address of a figure with its present settings, as far as they are not those it starts with. */
function addressOf({ id, model }) {
  const settings = `${model.changes()}`;
  return Object.assign(new URL(location), { search: "", hash: settings ? `${id}?${settings}` : id }).href;
}

/** A line below a figure to copy that address, or to show it where the clipboard is refused. */
function shareLine(figure) {
  const [line, button, told, field] = ["p", "button", "output", "input"].map((tag) => document.createElement(tag));
  figure.tell = (words) => {
    told.textContent = words;
    field.hidden = true;
  };
  const copy = async () => {
    field.value = addressOf(figure);
    try {
      await navigator.clipboard.writeText(field.value);
      figure.tell("Link copied.");
    } catch {
      figure.tell("Copy this address:");
      field.hidden = false;
      field.select();
    }
  };
  line.className = "sbm-share";
  Object.assign(button, { type: "button", textContent: "Copy link to these settings", onclick: copy });
  Object.assign(field, { hidden: true, readOnly: true });
  field.setAttribute("aria-label", "Address of this figure with these settings");
  figure.model.on("change", () => figure.tell(""));
  line.append(button, told, field);
  return line;
}

/** A film starts anew whenever it is unfolded: a picture under a new address plays from its start. */
async function rewind({ target: film }) {
  const picture = film.querySelector("img"), file = (picture.dataset.file ??= picture.src);
  if (!film.open) return;
  const address = URL.createObjectURL(await (await fetch(file)).blob());
  picture.addEventListener("load", () => URL.revokeObjectURL(address), { once: true });
  picture.src = address;
}

/** The name of the explorable; the second of a name on a page is called langevin-2. */
function giveId(figure, k, figures) {
  const { explorable } = figure.dataset, before = [...figures].slice(0, k).filter((f) => f.dataset.explorable === explorable).length;
  figure.id = before ? `${explorable}-${before + 1}` : explorable;
}

/** What the observer would say, but at once. */
function isNear(figure) {
  const { top, bottom } = figure.getBoundingClientRect();
  return top < innerHeight + MARGIN && bottom > -MARGIN;
}

function watchFigures() {
  for (const film of document.querySelectorAll("details.film")) film.addEventListener("toggle", rewind);
  const figures = document.querySelectorAll("[data-explorable]");
  if (figures.length === 0) return;
  figures.forEach(giveId);
  follow();
  addEventListener("hashchange", follow);
  const observer = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      observer.unobserve(target);
      mount(target);
    }
  }, { rootMargin: `${MARGIN}px` });
  for (const figure of figures) {
    if (figure.module && isNear(figure)) mount(figure);
    else observer.observe(figure);
  }
}

if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", watchFigures);
else watchFigures();
