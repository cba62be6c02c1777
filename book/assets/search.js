/** A result that is an entry of the index, a symbol or a term, shows its names. */
{
  const found = Search._performSearch;
  Search._performSearch = (query, ...words) => {
    const typed = query.toLowerCase().trim();
    const { docnames, indexentries } = Search._index;
    const names = ([page, , anchor]) =>
      Object.keys(indexentries).filter((name) =>
        indexentries[name].some(([file, id]) => docnames[file] === page && `#${id}` === anchor));
    const named = (result) => {
      const shown = names(result).filter((name) => name.length < 3 || name.includes(typed));
      shown.sort((a, b) => a.length - b.length);
      const [page, title, ...rest] = result;
      return [page, [title, shown.join(", ")].filter(Boolean).join(" > "), ...rest];
    };
    // The last is shown first. Of two rows with one score, the one with fewer names is meant.
    const closer = (a, b) => names(b).length - names(a).length || b[2].localeCompare(a[2], "en", { numeric: true });
    const order = (a, b) => a[4] - b[4] || (a[0] === b[0] ? closer(a, b) : 0);
    return found(query, ...words).sort(order).map(named);
  };
}

/** An excerpt is of the text alone, and a formula in it reads as signs, or not at all. */
{
  const SIGNS = { alpha: "α", beta: "β", varepsilon: "ε", eta: "η", theta: "θ", lambda: "λ", mu: "μ", rho: "ρ", sigma: "σ", tau: "τ",
    Sigma: "Σ", nabla: "∇", ell: "ℓ", sim: "~", approx: "≈", le: "≤", ge: "≥", to: "→", in: "∈", infty: "∞", cdot: "·", log: "log ", exp: "exp ",
    mathcal: "", mathrm: "", operatorname: "", rm: "" };
  const signs = (tex) => {
    const said = tex.replace(/^\\\(|\\\)$/g, "").replace(/\\(\w+) ?/g, (whole, name) => SIGNS[name] ?? whole);
    return /\\/.test(said) ? "…" : said.replace("^2", "²").replace(/[{}]/g, "");
  };
  Search.htmlToText = (text, anchor) => {
    const page = new DOMParser().parseFromString(text, "text/html");
    const place = (anchor && page.getElementById(anchor.slice(1))) || page.querySelector(".bd-article");
    if (!place) return "";
    place.querySelectorAll(".headerlink, script, style, noscript, summary, div.math").forEach((each) => each.remove());
    for (const formula of place.querySelectorAll(".math")) formula.replaceWith(signs(formula.textContent));
    return place.textContent.replace(/\s+/g, " ");
  };
}
