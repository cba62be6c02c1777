/**
 * Typeset more and more formulas at a time: in between, the page answers and its figures move.
 * All at once for a reader who comes to a certain place, by a link or back again: below formulas that
 * still grow it would be missed; and where nobody looks yet. Formulas take the height of the letters
 * around them, so these must have their shape, or have had a second to get it.
 */
MathJax.config.startup.pageReady = async () => {
  const letters = document.fonts.load('1em "Book Serif"');
  await Promise.race([letters, new Promise((resume) => setTimeout(resume, 1000))]).catch(() => {});
  const waiting = [...document.querySelectorAll(".math")];
  const fromTheTop = performance.getEntriesByType("navigation")[0].type === "navigate" && !location.hash;
  const atOnce = !fromTheTop || document.hidden;
  for (let n = atOnce ? Infinity : 20; waiting.length; n *= 2) {
    if (!atOnce) await new Promise((resume) => setTimeout(resume));
    const next = waiting.splice(0, n);
    for (const formula of next) formula.getBoundingClientRect(); // else the first in a fold has no size
    MathJax.typeset(next);
  }
};
