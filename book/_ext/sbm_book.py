"""What this book adds to Sphinx: explorables, numbers by chapter, links to any id."""

import re
from pathlib import Path

import yaml
from docutils import nodes
from fallbacks import from_a_server
from sphinx.util.docutils import SphinxDirective

NO_SCRIPT = (
    '<noscript><p class="sbm-noscript">JavaScript is off: formulas appear as TeX, live figures as '
    'still pictures. <a href="#pst-primary-sidebar">All pages</a></p></noscript>'
)
FROM_DISK = """<script>
if (location.protocol === "file:")
  for (const caption of document.querySelectorAll("[data-explorable] figcaption"))
    caption.insertAdjacentHTML("beforeend", " <em>Opened from disk: this is a still picture; "
      + "<code>python -m http.server</code> brings it to life.</em>");
</script>"""
# A listing of the package: boxes of what it defines, where only phrases may stand.
LISTING = re.compile(r"<pre>.*?</pre>", re.DOTALL)
# A fold's title: two paragraphs, where only a phrase may stand.
FOLD_TITLE = re.compile(r'<p( class="(?:collapsed|expanded) admonition-title">.*?)</p>')
REDIRECT = """<!DOCTYPE html>
<html lang="{lang}">
  <head>
    <meta charset="utf-8">
    <meta http-equiv="refresh" content="0; url={page}">
    <title>{title}</title>
  </head>
  <body><a href="{page}">{title}</a></body>
</html>
"""


class ExplorableDirective(SphinxDirective):
    """`{explorable} ClassName`: the live figure of a notebook, on a page that is not one."""

    required_arguments = 1

    def run(self):
        from sbm_lite import explorables

        figure = getattr(explorables, self.arguments[0])()
        return [nodes.raw("", figure.html(), format="html")]


class TallyDirective(SphinxDirective):
    """`{tally}`: what the book has been checked for, in numbers counted as the page is built."""

    def run(self):
        from sbm_lite import explorables

        book = Path(self.env.srcdir) / "book"
        claims, slips = (yaml.safe_load((book / f"{n}.yml").read_text("utf8"))
                         for n in ("claims", "errata"))  # fmt: skip
        counts = {
            "claims checked by tests": sum(row["kind"] == "checked" for row in claims),
            "mistakes of its sources corrected": len(slips),
            "live figures, no server": len(explorables.EVERY),
            "requests to anyone else": 0,  # tests/site/test_walk.py listens
        }
        terms = "".join(f"<div><dt>{what}</dt><dd>{n}</dd></div>" for what, n in counts.items())
        return [nodes.raw("", f'<dl class="sbm-tally">{terms}</dl>', format="html")]


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
    preload = [f'<link rel="modulepreload" href="{path}" />' for path in address.values()]
    bring = 'document.querySelector("[data-explorable]").module = module;'
    module = f'import module from "{address[first[1]]}"; {bring}'
    host = context["pathto"]("_static/host.js", 1)
    scripts = f'<script type="module">{module}</script><script type="module" src="{host}"></script>'
    context["metatags"] += from_a_server("".join(preload) + scripts)


def mend_markup(app, pagename, templatename, context, doctree):
    """What extensions get wrong: a deprecated role, one name for all folds, ids given twice.

    And what a page says where its figures cannot live: without JavaScript, or opened from disk."""
    if "body" not in context:
        return
    body = context["body"].replace('role="doc-biblioentry"', 'role="listitem"')
    body = body.replace('<summary aria-label="Toggle hidden content">', "<summary>")
    body = FOLD_TITLE.sub(r"<span\1</span>", body)
    body = LISTING.sub(lambda listing: re.sub(r"(</?)div\b", r"\1span", listing[0]), body)
    body = re.sub(r' id="(?:exercise|solution)-content"', "", body)
    context["body"] = NO_SCRIPT + body + (FROM_DISK if "data-explorable" in body else "")


def lead_to_the_book(app, exception):
    """A page at the root that leads on to the first; the builder would leave a bare tag there."""
    if not exception and app.builder.format == "html":
        page = app.builder.get_target_uri(app.config.root_doc)
        text = REDIRECT.format(lang=app.config.language, page=page, title=app.config.html_title)
        Path(app.outdir, "index.html").write_text(text, encoding="utf8")


def setup(app):
    app.add_directive("explorable", ExplorableDirective)
    app.add_directive("tally", TallyDirective)
    app.connect("doctree-read", open_every_id)
    app.connect("env-get-updated", number_by_chapter, priority=900)
    app.connect("html-page-context", load_explorables)
    app.connect("html-page-context", mend_markup)
    app.connect("build-finished", lead_to_the_book)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
