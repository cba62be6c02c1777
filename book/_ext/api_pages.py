"""The pages of the package, made by autodoc from docstrings that are written as plain text."""

import ast
import gc
import re
import textwrap

from docutils import nodes
from sphinx.util.nodes import make_refnode

BLOCK = re.compile(r"(?:\A|\n)\n((?: {4}.*\n|\n(?= {4}))+)")
EQUATIONS = re.compile(r"Book:\s+(eq-[\w-]+(?:,\s+eq-[\w-]+)*)")
ARGUMENTS = re.compile(r"(?<=\(</span>)\s*<dl>(.*?)</dl>", re.DOTALL)
NAME = re.compile(r"([a-z]\w*\.)+\w+")


def as_markup(app, what, name, obj, options, lines):
    """A docstring as reStructuredText: blocks set off, equations linked."""
    text = BLOCK.sub(set_off, "\n".join(lines) + "\n")
    lines[:] = EQUATIONS.sub(linked, text).splitlines()


def set_off(found) -> str:
    """An indented block: code in colour, columns as a table, lines of a formula as lines."""
    block = textwrap.dedent(found[1]).strip()
    rows = [re.split(r" {2,}", line) for line in block.splitlines()]
    if is_code(block):
        return f"\n\n.. code-block:: python\n\n{textwrap.indent(block, '    ')}\n"
    if len(rows) > 1 and {len(row) for row in rows} == {len(rows[0])} != {1}:
        lines = ["* - " + "\n      - ".join(row) for row in rows]
        return "\n\n.. list-table::\n    :header-rows: 1\n\n    " + "\n    ".join(lines) + "\n"
    return "\n\n" + "".join(f"    | {line}\n" for line in block.splitlines())


def is_code(text: str) -> bool:
    """Whether the text is Python; a formula or a table is not."""
    try:
        ast.parse(text)
    except SyntaxError:
        return False
    return True


def linked(found) -> str:
    """`Book: eq-a, eq-b` as links to the equations of the chapters, by their numbers."""
    labels = re.findall(r"eq-[\w-]+", found[1])
    noun = "equation" if len(labels) == 1 else "equations"
    return f"Book: {noun} " + ", ".join(f":eq:`{label}`" for label in labels)


def without_fields(app, what, name, obj, skip, options):
    """Leave out the fields of a NamedTuple, which its signature shows already."""
    return True if (getattr(obj, "__doc__", "") or "").startswith("Alias for field") else None


def without_any(app, what, name, obj, options, signature, returned):
    """A widget takes its traits by name, which `*args: Any` does not say."""
    return ("(**traits)", returned) if "*args: t.Any" in (signature or "") else None


def public_bases(app, name, obj, options, bases):
    """Name the public class behind a private one."""
    bases[:] = [base.__base__ if base.__name__.startswith("_") else base for base in bases]


def link_names(app, doctree, docname):
    """Let `samplers.langevin` in the text of a chapter lead to its entry."""
    domain = app.env.get_domain("py")
    for literal in doctree.findall(nodes.literal):
        found = NAME.match(literal.astext())
        entry = domain.objects.get(f"sbm_lite.{found[0]}") if found else None
        if entry and not isinstance(literal.parent, nodes.reference | nodes.title):
            place = (docname, entry.docname, entry.node_id)
            literal.replace_self(make_refnode(app.builder, *place, literal.deepcopy()))


def mend_signatures(app, pagename, templatename, context, doctree):
    """Bring the stylesheet of signatures, whose arguments are no list of definitions."""
    if pagename.startswith(("book/api/", "_modules/", "book/cite")):
        app.add_css_file("api.css")
        context["body"] = ARGUMENTS.sub(as_lines, context["body"])


def as_lines(found) -> str:
    """The arguments of a signature, a line each."""
    return found[1].replace("<dd>", '<span class="sig-line">').replace("</dd>", "</span>")


def setup(app):
    gc.set_threshold(200_000)  # the package fills the memory with objects that stay
    for extension in ("autodoc", "autosummary", "viewcode"):
        app.setup_extension(f"sphinx.ext.{extension}")
    app.connect("autodoc-process-docstring", as_markup)
    app.connect("autodoc-process-signature", without_any)
    app.connect("autodoc-process-bases", public_bases)
    app.connect("autodoc-skip-member", without_fields)
    app.connect("doctree-resolved", link_names)
    app.connect("html-page-context", mend_signatures)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
