"""What this book adds to Sphinx: its own MathJax, numbers by chapter, links to any id."""

import re
from importlib.util import find_spec
from pathlib import Path

from docutils import nodes
from sphinx.util.docutils import SphinxDirective
from sphinx.util.fileutil import copy_asset

NO_SCRIPT = (
    '<noscript><p class="sbm-noscript">JavaScript is off: formulas appear as TeX, live figures as '
    "still pictures.</p></noscript>"
)
MATHJAX = ["tex-chtml.js", "output/chtml/fonts/woff-v2", "input/tex/extensions"]


class ExplorableDirective(SphinxDirective):
    """`{explorable} ClassName`: the live figure of a notebook, on a page that is not one."""

    required_arguments = 1

    def run(self):
        from sbm_lite import explorables

        figure = getattr(explorables, self.arguments[0])()
        return [nodes.raw("", figure.html(), format="html")]


def copy_mathjax(app, exception):
    """Copy from the package sphinx-mathjax-offline only what the pages can ask for (2 of 24 MB)."""
    if exception or app.builder.format != "html":
        return
    source = Path(find_spec("sphinx-mathjax-offline").origin).parent / "static" / "mathjax"
    target = Path(app.outdir) / "_static" / "mathjax"
    for name in MATHJAX:
        folder = name if (source / name).is_dir() else Path(name).parent
        copy_asset(str(source / name), str(target / folder))


def open_every_id(app, doctree):
    """Let `page.md#id` find every id of a page; MyST alone would find only headings."""
    known = app.env.metadata[app.env.docname].setdefault("myst_slugs", {})
    for node in doctree.findall(lambda node: getattr(node, "attributes", {}).get("ids")):
        for name in node["ids"]:
            known.setdefault(name, (0, name, name))


def number_by_chapter(app, env):
    """Number figures, equations and exercises of `NN_slug` as NN.1, NN.2, …; nothing to re-read."""
    for docname, kinds in env.toc_fignumbers.items():
        chapter = re.search(r"(?:^|/)(\d\d)_", docname)
        for ids in kinds.values() if chapter else ():
            for k, label in enumerate(sorted(ids, key=ids.get), start=1):
                ids[label] = (int(chapter[1]), k)
    return []


def load_explorables(app, pagename, templatename, context, doctree):
    """Load the host script on the pages that hold an explorable, and on no other."""
    if "data-explorable=" in context.get("body", ""):
        app.add_js_file("host.js", type="module")


def mend_markup(app, pagename, templatename, context, doctree):
    """What extensions get wrong: a deprecated role, one name for all folds, ids given twice."""
    if "body" not in context:
        return
    body = context["body"].replace('role="doc-biblioentry"', 'role="listitem"')
    body = body.replace('<summary aria-label="Toggle hidden content">', "<summary>")
    body = re.sub(r' id="(?:exercise|solution)-content"', "", body)
    context["body"] = NO_SCRIPT + body


def setup(app):
    app.add_directive("explorable", ExplorableDirective)
    app.connect("build-finished", copy_mathjax)
    app.connect("doctree-read", open_every_id)
    app.connect("env-get-updated", number_by_chapter, priority=900)
    app.connect("html-page-context", load_explorables)
    app.connect("html-page-context", mend_markup)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
