"""What this book adds to Sphinx: explorables, numbers by chapter, links to any id."""

import re
from pathlib import Path

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

NO_SCRIPT = (
    '<noscript><p class="sbm-noscript">JavaScript is off: formulas appear as TeX, live figures as '
    "still pictures.</p></noscript>"
)


class ExplorableDirective(SphinxDirective):
    """`{explorable} ClassName`: the live figure of a notebook, on a page that is not one."""

    required_arguments = 1

    def run(self):
        from sbm_lite import explorables

        figure = getattr(explorables, self.arguments[0])()
        return [nodes.raw("", figure.html(), format="html")]


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


def modules_of(folder: Path, name: str) -> dict:
    """The modules that an explorable is made of: its own, what that imports, and so on."""
    imported = re.findall(r'from "\./(\w+)\.js"', (folder / f"{name}.js").read_text("utf8"))
    return dict.fromkeys([name, *(m for each in imported for m in modules_of(folder, each))])


def load_explorables(app, pagename, templatename, context, doctree):
    """On a page with explorables, load their host, and with the page the modules of the first."""
    first = re.search(r'data-explorable="(\w+)"', context.get("body", ""))
    if not first:
        return
    from sbm_lite.explorables import HERE

    address = {m: context["pathto"](f"_static/{m}.js", 1) for m in modules_of(HERE, first[1])}
    for path in address.values():
        context["metatags"] += f'<link rel="modulepreload" href="{path}" />\n'
    bring = 'document.querySelector("[data-explorable]").module = module;'
    module = f'import module from "{address[first[1]]}"; {bring}'
    app.add_js_file(None, body=module, type="module", priority=100)  # before MathJax
    app.add_js_file("host.js", type="module", priority=100)


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
    app.connect("doctree-read", open_every_id)
    app.connect("env-get-updated", number_by_chapter, priority=900)
    app.connect("html-page-context", load_explorables)
    app.connect("html-page-context", mend_markup)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
