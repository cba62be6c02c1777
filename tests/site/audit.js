/** What a figure lacks for some readers: targets, contrast, sizes, and words that can be said aloud. */
(figure) => {
  const faults = [], all = (selector) => figure.querySelectorAll(selector);
  const fault = (node, what) => faults.push(`${what}: ${node.outerHTML.slice(0, 120)}`);
  const linear = (v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  const light = (colour) => colour.match(/[\d.]+/g).slice(0, 3)
    .reduce((sum, v, c) => sum + linear(v / 255) * [0.2126, 0.7152, 0.0722][c], 0);
  const ground = light(getComputedStyle(figure).backgroundColor);
  const contrast = (node, property) => {
    const [low, high] = [light(getComputedStyle(node)[property]), ground].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  };
  for (const node of all("input:not([hidden]), select, button")) {
    const { width, height } = (node.type === "checkbox" ? node.labels[0] : node).getBoundingClientRect();
    if (Math.min(width, height) < 24) fault(node, "small target");
  }
  for (const node of all("select, [type=number]")) if (contrast(node, "borderTopColor") < 3) fault(node, "faint border");
  for (const node of all("[type=range], [type=checkbox]")) if (contrast(node, "accentColor") < 3) fault(node, "faint");
  for (const node of all("[type=range]")) {
    const spoken = [node.ariaValueText, node.labels[0].lastChild.textContent];
    if (!spoken.every((words) => /^[ -~]+$/.test(words))) fault(node, `symbols in ${spoken}`);
  }
  for (const picture of all(".sbm-picture")) {
    const words = document.getElementById(picture.getAttribute("aria-describedby"))?.textContent;
    if (!picture.ariaLabel || !/\d/.test(words) || /[α-ω]/.test(words)) fault(picture, `"${words}"`);
  }
  for (const table of all("table")) if (!table.ariaLabel) fault(table, "nameless");
  for (const node of all("p, span, label, th, output, button, select, option, figcaption"))
    if (parseFloat(getComputedStyle(node).fontSize) < 12) fault(node, "small text");
  for (const node of all(".sbm-note, .sbm-key, .sbm-share button, th, output, label:not(:has(:disabled))"))
    if (contrast(node, "color") < 4.5) fault(node, "faint text");
  return faults;
}
