/**
 * The website's host: bring every `[data-explorable]` figure to life when it comes near the screen.
 * The module is the very one that JupyterLab runs; a plain object stands in for the kernel's model.
 * The page may bring the module of a figure along, as the figure's property `module`.
 */

const MARGIN = 300; // px; a figure this far from the screen starts

/** The part of a widget's model that an explorable uses, kept in the page. */
export function makeModel(state) {
  const values = { ...state }, listeners = new Map();
  const heard = (event) => listeners.get(event) ?? listeners.set(event, new Set()).get(event);
  return {
    get: (name) => values[name],
    set(name, value) {
      if (values[name] === value) return;
      values[name] = value;
      for (const react of [...heard(`change:${name}`)]) react();
    },
    on: (event, react) => heard(event).add(react),
    off: (event, react) => heard(event).delete(react),
    save_changes() {},
  };
}

/** Replace the poster by the live explorable; keep it, and say so, if that fails. */
export async function mount(figure) {
  const poster = figure.querySelector("img"), el = document.createElement("div");
  try {
    const { explorable, state } = figure.dataset;
    const module = figure.module ?? (await import(`./${explorable}.js`)).default;
    figure.prepend(el);
    module.render({ model: makeModel(JSON.parse(state)), el });
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

/** A film starts anew whenever it is unfolded: a picture under a new address plays from its start. */
async function rewind({ target: film }) {
  const picture = film.querySelector("img");
  if (film.open) picture.src = URL.createObjectURL(await (await fetch(picture.src)).blob());
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
