"""How to cite the book: every form is made from CITATION.cff, to copy and to download."""

from pathlib import Path

import yaml
from docutils import nodes
from sphinx.util.docutils import SphinxDirective

SOURCE = Path(__file__).parents[2] / "CITATION.cff"
FILES = {"bib": "sbm-lite.bib", "ris": "sbm-lite.ris", "cff": "CITATION.cff"}


def facts() -> dict:
    """What CITATION.cff says, with the names of the authors and the year at hand."""
    cff = yaml.safe_load(SOURCE.read_text("utf8"))
    names = [a.get("name") or f"{a['family-names']}, {a['given-names']}" for a in cff["authors"]]
    url = cff.get("url") or cff.get("repository-code", "")
    return cff | {"names": names, "year": cff["date-released"].year, "url": url}


def bib(cff: dict) -> str:
    """An entry for BibTeX; an author without a family name stays in one piece."""
    authors = [name if ", " in name else f"{{{name}}}" for name in cff["names"]]
    fields = {
        "author": " and ".join(authors),
        "title": f"{{{cff['title']}}}",
        "year": cff["year"],
        "note": f"Version {cff['version']}",
        "url": cff["url"],
    }
    lines = [f"  {name} = {{{value}}}" for name, value in fields.items() if value]
    return "@misc{sbm_lite,\n" + ",\n".join(lines) + "\n}"


def ris(cff: dict) -> str:
    """A record in the format of reference managers."""
    rows = [("TY", "COMP"), ("TI", cff["title"])]
    rows += [("AU", name) for name in cff["names"]]
    rows += [("PY", cff["year"]), ("DA", f"{cff['date-released']:%Y/%m/%d}")]
    rows += [("ET", cff["version"]), ("AB", cff["abstract"])]
    rows += [("KW", keyword) for keyword in cff["keywords"]]
    rows += [("UR", cff["url"])] * bool(cff["url"]) + [("ER", "")]
    return "\n".join(f"{tag}  - {value}" for tag, value in rows)


def apa(cff: dict) -> str:
    """One line in the style of the APA."""
    line = f"{' & '.join(cff['names'])}. ({cff['year']}). {cff['title']} "
    return f"{line}(Version {cff['version']}) [Computer software]. {cff['url']}".rstrip()


FORMS = {"apa": apa, "bib": bib, "ris": ris, "cff": lambda _: SOURCE.read_text("utf8").strip()}


class CiteAs(SphinxDirective):
    """`{cite-as} bib`: the book in that form, and a link to it as a file."""

    required_arguments = 1

    def run(self):
        form = self.arguments[0]
        self.env.note_dependency(str(SOURCE))
        text = FORMS[form](facts())
        block = nodes.literal_block(text, text, language="text", classes=["cite-as"])
        if form not in FILES:
            return [block]
        link = f'<p><a href="{FILES[form]}" download>Download {FILES[form]}</a></p>'
        return [block, nodes.raw("", link, format="html")]


def write_files(app, exception):
    """Put the files beside the page that links to them."""
    if exception or app.builder.format != "html":
        return
    for form, name in FILES.items():
        (Path(app.outdir) / "book" / name).write_text(FORMS[form](facts()) + "\n", "utf8")


def setup(app):
    app.add_directive("cite-as", CiteAs)
    app.connect("build-finished", write_files)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
