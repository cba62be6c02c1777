"""What helps a reader along: where a link leads, what comes next, symbols found by name."""

import re
import unicodedata

from docutils import nodes
from sphinx import addnodes

# The neighbours of a page, each with its opening line


SENTENCE = re.compile(r".*?[.?!](?=\s|$)")


def opening(doctree) -> tuple[str, str]:
    """The question under the title, if there is one, and the first sentence of the text."""
    question = ""
    for paragraph in doctree.findall(nodes.paragraph):
        text = " ".join(paragraph.astext().replace("\\", "").split())
        if len(paragraph) > 1 or not isinstance(paragraph[0], nodes.emphasis):
            return question, (SENTENCE.match(text) or [text])[0]
        question = text
    return question, ""


def note_opening(app, doctree):
    """Keep what a page says first: a chapter's question, or a first sentence."""
    question, sentence = opening(doctree)
    app.env.metadata[app.env.docname]["opening"] = question or sentence


def introduce_neighbours(app, pagename, templatename, context, doctree):
    """Give the links to the previous and the next page their opening lines."""
    for side, place in (("prev", 1), ("next", 2)):
        if context.get(side):
            name = app.builder.relations[pagename][place]
            context[side]["opening"] = app.env.metadata[name]["opening"]


# Symbols: the rows of a table whose first column is `symbol`

GREEK = dict(zip(
    ("alpha", "beta", "varepsilon", "eta", "theta", "lambda", "mu", "rho", "sigma", "tau",
     "Sigma", "ell", "nabla"), "αβεηθλμρστΣℓ∇", strict=True,
))  # fmt: skip
MARKS = {"bar": "\N{COMBINING MACRON}", "tilde": "\N{COMBINING TILDE}"}
LETTER = re.compile(
    r"(?:\\(?P<mark>bar|tilde) ?)?"
    r"(?:\\(?:mathrm|operatorname)\{(?P<word>\w+)\}|\\(?P<greek>[A-Za-z]+)|(?P<latin>[A-Za-z]))"
    r"(?:_\{\\rm (?P<index>\w+)\})?"
)
CODE = re.compile(r"(?:\w+\.)*([a-z]\w+)(?:\([^()]*\))?(?:\.mean\(\))?")


def name_symbols(app, doctree):
    """Give each row of such a table an anchor, and let the search find it by its names."""
    for table in list(doctree.findall(nodes.table)):
        head, *rows = table.findall(nodes.row)
        if head[0].astext() != "symbol":
            continue
        for k, row in enumerate(rows, start=1):
            row["ids"].append(f"symbol-{k}")
            entries = [("single", name, f"symbol-{k}", "main", None) for name in names_of(row)]
            table.parent.insert(table.parent.index(table), addnodes.index(entries=entries))


def names_of(row) -> list[str]:
    """What a reader may type to find a row: its letters, their names, its meaning, its code."""
    symbols, meaning, code, *_ = row
    formulas = ", ".join(node.astext() for node in symbols.findall(nodes.math))
    letters = re.split(r", (?![^(]*\))", formulas)  # a comma in brackets parts no two symbols
    names = [name for letter in letters for name in names_of_letter(letter)]
    if isinstance(start := meaning[0][0], nodes.Text):
        start = re.sub("^(an?|the|its) | (of|but)$", "", re.split("[,;:(]", start)[0].strip())
        names += [start] if len(start.split()) <= 4 else []
    for found in filter(None, (CODE.fullmatch(n.astext()) for n in code.findall(nodes.literal))):
        names += [found[1], found[1].replace("_", " ")]
    return list(dict.fromkeys(names))


def names_of_letter(formula: str) -> list[str]:
    r"""How the letter at the start is written and said: `\bar\alpha_t` gives ᾱ and alpha bar."""
    found = LETTER.match(formula)
    name = found["greek"] or found["word"] or found["latin"]
    sign, name = GREEK.get(name, name), name.removeprefix("var")
    if mark := found["mark"]:
        sign = unicodedata.normalize("NFC", sign + MARKS[mark])
        return [sign, f"{name} {mark}", f"{mark} {name}"]
    return [sign, name] + ([f"{name} {found['index']}"] if found["index"] else [])


# Pages


def help_along(app, pagename, templatename, context, doctree):
    """The styles and scripts of the aids; in a chapter, a bar that tells how far one has read."""
    if re.search(r"(?:^|/)\d\d_", pagename):
        context["body"] = '<div class="sbm-progress" aria-hidden="true"></div>' + context["body"]
    app.add_js_file("aids.js", defer="defer")
    if pagename == "search":
        app.add_js_file("search.js", defer="defer")


def setup(app):
    app.add_css_file("aids.css")
    app.connect("doctree-read", note_opening)
    app.connect("doctree-read", name_symbols)
    app.connect("html-page-context", introduce_neighbours)
    app.connect("html-page-context", help_along)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
