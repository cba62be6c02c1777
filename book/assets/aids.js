/**
 * Reading aids: a look at what a link leads to, before following it; and the progress bar, where the
 * style sheet cannot move it. Nothing is fetched before a reader rests on a link.
 */
(() => {
  "use strict";
  const article = document.querySelector(".bd-article");

  // How far the chapter has been read

  const bar = document.querySelector(".sbm-progress");
  if (bar && !CSS.supports("animation-timeline", "view()")) {
    const steps = matchMedia("(prefers-reduced-motion: reduce)").matches ? 10 : 1000;
    const read = () => {
      const { top, height } = article.getBoundingClientRect();
      const share = Math.min(1, Math.max(0, -top / (height - innerHeight)));
      bar.style.transform = `scaleX(${Math.floor(share * steps) / steps})`;
    };
    addEventListener("scroll", read, { passive: true });
    read();
  }

  // What a link leads to: which links, and which parts of the place are shown

  if (!article || !HTMLElement.prototype.showPopover) return;

  const SHOWN = [
    [/^#term-/, (term) => [term, term.nextElementSibling]],
    [/^#equation-/, (formula) => [formula]],
    [/^#fig-/, (figure) => [figure.querySelector("img"), figure.querySelector("figcaption")]],
    [/^#c\d+-\d+$/, (claim) => claim.querySelectorAll(":scope > :is(h3, p:first-of-type), :scope > p:not(:first-of-type) > strong")],
    [/^#e\d+-\d+$/, (slip) => slip.querySelectorAll(":scope > :is(h3, p:nth-of-type(-n + 2))")],
  ];
  const partsOf = (link) => SHOWN.find(([address]) => address.test(link.hash))?.[1];
  const previewed = (target) => {
    const link = target.closest?.("a[href]:not(.headerlink)");
    return link && (partsOf(link) || link.closest(".bibtex-citation")) ? link : null;
  };

  const pages = new Map([[location.pathname, Promise.resolve(document)]]);
  async function pageOf(link) {
    if (!pages.has(link.pathname)) pages.set(link.pathname, fetched(link));
    return pages.get(link.pathname);
  }
  async function fetched(link) {
    const answer = await fetch(link.href);
    return new DOMParser().parseFromString(answer.ok ? await answer.text() : "", "text/html");
  }

  /** A copy without what belongs to its own place: ids, links, the way to reach it by keyboard. */
  function copied(part, address) {
    const copy = document.importNode(part, true);
    copy.querySelectorAll(".headerlink").forEach((link) => link.remove());
    for (const link of copy.querySelectorAll("a")) link.replaceWith(...link.childNodes);
    for (const each of [copy, ...copy.querySelectorAll("*")]) {
      for (const name of ["id", "tabindex", "loading"]) each.removeAttribute(name);
      if (each.matches("img")) each.src = new URL(part.getAttribute("src"), address);
    }
    if (!copy.matches("dt, dd, h3, figcaption")) return copy;
    const alone = document.createElement("div"); // what is half of a list or figure is neither here
    alone.className = copy.matches("dt, h3") ? "sbm-preview-name" : "sbm-preview-text";
    alone.append(...copy.childNodes);
    return alone;
  }

  async function previewOf(link) {
    if (link.closest(".bibtex-citation")) return [link.dataset.reference];
    const page = await pageOf(link).catch(() => null); // a page opened from a file may read no other
    const place = page?.getElementById(decodeURIComponent(link.hash.slice(1)));
    return place ? [...partsOf(link)(place)].filter(Boolean).map((part) => copied(part, link.href)) : [];
  }

  // Showing it

  const OPEN = 250, CLOSE = 300; // milliseconds: long enough not to flicker, and to reach it
  const preview = document.createElement("div");
  Object.assign(preview, { id: "sbm-preview", role: "tooltip", popover: "manual" });
  let wanted, timer;

  async function show(link, y) {
    const content = await previewOf(link);
    if (wanted !== link || !content.length) return;
    if (!preview.isConnected) article.append(preview);
    preview.replaceChildren(...content);
    preview.showPopover();
    fit();
    place(link, y);
    link.setAttribute("aria-describedby", preview.id);
  }

  /** Typeset formulas that are still TeX; make one that is too wide smaller. */
  function fit() {
    const tex = [...preview.querySelectorAll(".math")].filter((formula) => !formula.querySelector("mjx-container"));
    if (tex.length) window.MathJax?.typeset?.(tex);
    const room = preview.clientWidth - 32;
    for (const formula of preview.querySelectorAll("mjx-container[display=true]")) {
      const width = formula.querySelector("mjx-math").offsetWidth;
      if (width > room) formula.style.fontSize = `${(100 * room) / width}%`;
    }
  }

  /** Below the line of the link that the pointer is on, or above it where there is more room. */
  function place(link, y) {
    const lines = [...link.getClientRects()];
    const line = lines.find((box) => y >= box.top && y <= box.bottom) ?? lines[0];
    const { offsetWidth: width, offsetHeight: height } = preview;
    const below = line.bottom + height < innerHeight || line.top < innerHeight / 2;
    const left = Math.min(line.left, document.documentElement.clientWidth - width - 8);
    preview.style.left = `${scrollX + Math.max(8, left)}px`;
    preview.style.top = `${scrollY + (below ? line.bottom + 4 : line.top - height - 4)}px`;
  }

  function want(link, wait, y) {
    clearTimeout(timer);
    if (link !== wanted) close();
    else if (link.hasAttribute("aria-describedby")) return;
    wanted = link;
    if (link.title) link.dataset.reference = link.title; // or the browser would show it as well
    link.removeAttribute("title");
    timer = setTimeout(show, wait, link, y);
  }
  function close() {
    clearTimeout(timer);
    wanted?.removeAttribute("aria-describedby");
    wanted = null;
    if (preview.isConnected) preview.hidePopover();
  }
  const leave = () => {
    clearTimeout(timer);
    timer = setTimeout(close, CLOSE);
  };

  article.addEventListener("pointerover", ({ target, relatedTarget, pointerType, clientY }) => {
    const link = pointerType === "mouse" && previewed(target);
    if (link && !link.contains(relatedTarget)) want(link, OPEN, clientY);
  });
  article.addEventListener("pointerout", ({ target, relatedTarget }) => {
    if (wanted?.contains(target) && !wanted.contains(relatedTarget)) leave();
  });
  preview.addEventListener("pointerenter", () => clearTimeout(timer));
  preview.addEventListener("pointerleave", leave);
  article.addEventListener("focusin", ({ target }) => {
    if (target.matches(":focus-visible") && previewed(target)) want(target, 0);
  });
  article.addEventListener("focusout", close);
  article.addEventListener("click", close);
  addEventListener("resize", close);
  addEventListener("keydown", ({ key }) => key === "Escape" && close());
})();

/** The button that changes between light and dark says which it is. */
(() => {
  const { documentElement: page } = document;
  const SAID = { light: "light", dark: "dark", auto: "as the system has it" };
  const say = () => {
    for (const button of document.querySelectorAll(".theme-switch-button"))
      button.setAttribute("aria-label", `Color mode: ${SAID[page.dataset.mode] ?? SAID.auto}`);
  };
  new MutationObserver(say).observe(page, { attributeFilter: ["data-mode"] });
  say();
})();

/** A fold's button is called what its box is called; the theme would call every one the same. */
addEventListener("load", () => {
  for (const button of document.querySelectorAll(".toggle-button"))
    button.setAttribute("aria-label", button.parentElement.textContent.replace(/\s+/g, " ").trim());
});

/** The theme takes the focus from a button that was pressed by key; give it back. */
(() => {
  let pressed = null;
  const back = () => document.activeElement === document.body && pressed?.focus({ preventScroll: true });
  addEventListener("click", ({ target, detail }) => {
    if (detail > 0 || !(pressed = target.closest?.("button"))) return;
    setTimeout(back);
  });
  addEventListener("close", () => setTimeout(back), true);
})();
