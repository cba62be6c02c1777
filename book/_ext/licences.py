"""What the site ships of others: whose it is, under which licence, and the text of each."""

import re
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from sphinx.util.docutils import SphinxDirective


class Shipped(NamedTuple):
    """One work of others: where it lives, its licence, and its files below `_static`."""

    name: str
    url: str
    licence: str
    files: tuple[str, ...]
    package: str = ""  # the one that brings the text of its licence; without one:
    holder: str = ""  # the line that goes above a common text

    @property
    def address(self) -> str:
        """The file of its licence, below `_static`."""
        return f"licences/{re.sub(r'[^a-z0-9]+', '-', self.name.lower())}.txt"

    def text(self) -> str:
        """The licence in full."""
        return brought_by(self.package) if self.package else common(self.licence, self.holder)


SHIPPED = (
    Shipped("MathJax", "https://www.mathjax.org/", "Apache-2.0", ("mathjax/mathjax.js",),
            holder="Copyright (c) 2009-2022 The MathJax Consortium"),
    Shipped("MathJax fonts", "https://docs.mathjax.org/", "OFL-1.1", ("mathjax/output/*",),
            holder="Copyright (c) 2009-2010, Design Science, Inc. (<www.mathjax.org>), with "
            "Reserved Font Names MathJax_Main, MathJax_Math, MathJax_AMS and so on"),
    Shipped("Source Serif", "https://github.com/adobe-fonts/source-serif", "OFL-1.1",
            ("fonts/serif*",), "fontpkg-source-serif-4"),
    Shipped("Source Sans", "https://github.com/adobe-fonts/source-sans", "OFL-1.1",
            ("fonts/sans*",), "font-source-sans-pro"),
    Shipped("Source Code Pro", "https://github.com/adobe-fonts/source-code-pro", "OFL-1.1",
            ("fonts/mono*",), "fontpkg-source-code-pro"),
    Shipped("Font Awesome Free", "https://fontawesome.com/", "OFL-1.1", ("vendor/fontawesome/*",),
            holder="Copyright (c) 2024 Fonticons, Inc., with Reserved Font Name Font Awesome\n"
            "Icons, as they are drawn into the pages: CC BY 4.0, "
            "https://creativecommons.org/licenses/by/4.0/"),
    Shipped("PyData Sphinx theme", "https://pydata-sphinx-theme.readthedocs.io/", "BSD-3-Clause",
            ("scripts/pydata-sphinx-theme.js*", "styles/pydata-sphinx-theme.css*",
             "styles/theme.css"), "pydata-sphinx-theme"),
    Shipped("Bootstrap", "https://getbootstrap.com/", "MIT",
            ("scripts/bootstrap.js*", "styles/pydata-sphinx-theme.css*"),
            holder="Copyright (c) 2011-2024 The Bootstrap Authors"),
    Shipped("Popper", "https://popper.js.org/", "MIT", ("scripts/bootstrap.js*",),
            holder="Copyright (c) 2019 Federico Zivolo"),
    Shipped("Sphinx Book Theme", "https://sphinx-book-theme.readthedocs.io/", "BSD-3-Clause",
            ("scripts/sphinx-book-theme.js*", "styles/sphinx-book-theme.css*", "locales/*",
             "images/logo_*"), "sphinx-book-theme"),
    Shipped("Sphinx", "https://www.sphinx-doc.org/", "BSD-2-Clause",
            ("basic.css", "doctools.js", "documentation_options.js", "language_data.js",
             "searchtools.js", "sphinx_highlight.js", "file.png", "minus.png", "plus.png"),
            "sphinx"),
    Shipped("Snowball", "https://snowballstem.org/", "BSD-3-Clause", ("language_data.js",),
            "snowballstemmer"),
    Shipped("Pygments", "https://pygments.org/", "BSD-2-Clause", ("pygments.css",), "pygments"),
    Shipped("accessible-pygments", "https://github.com/Quansight-Labs/accessible-pygments",
            "BSD-3-Clause", ("pygments.css",), "accessible-pygments"),
    Shipped("MyST-NB", "https://myst-nb.readthedocs.io/", "BSD-3-Clause", ("mystnb.*.css",),
            "myst-nb"),
    Shipped("sphinx-design", "https://sphinx-design.readthedocs.io/", "MIT",
            ("design-tabs.js", "sphinx-design.min.css"), "sphinx-design"),
    Shipped("sphinx-copybutton", "https://sphinx-copybutton.readthedocs.io/", "MIT",
            ("copybutton.js", "copybutton_funcs.js", "copybutton.css"), "sphinx-copybutton"),
    Shipped("clipboard.js", "https://clipboardjs.com/", "MIT", ("clipboard.min.js",),
            holder="Copyright (c) Zeno Rocha"),
    Shipped("Tabler Icons", "https://tabler.io/icons", "MIT",
            ("copy-button.svg", "check-solid.svg", "copybutton.js"),
            holder="Copyright (c) 2020-2024 Paweł Kuna"),
    Shipped("sphinx-togglebutton", "https://sphinx-togglebutton.readthedocs.io/", "MIT",
            ("togglebutton.js", "togglebutton.css"), "sphinx-togglebutton"),
    Shipped("sphinx-exercise", "https://ebp-sphinx-exercise.readthedocs.io/", "MIT",
            ("exercise.css",), "sphinx-exercise"),
    Shipped("sphinx-proof", "https://sphinx-proof.readthedocs.io/", "MIT", ("proof.css",),
            "sphinx-proof"),
)  # fmt: skip
COMMON = {  # where an installed package has the same text, and how it begins
    "MIT": ("sphinx-proof", "Permission is hereby granted"),
    "OFL-1.1": ("fontpkg-source-serif-4", "This Font Software is licensed"),
    "Apache-2.0": ("packaging", r"\s*Apache License"),
}
TEXT = re.compile(r"(?:LICEN[CS]E|COPYING)(?:\.(?:txt|rst|md|APACHE))?", re.IGNORECASE)


def brought_by(package: str) -> str:
    """The longest text of a licence that an installed package brings."""
    files = [file for file in metadata.files(package) or () if TEXT.fullmatch(file.name)]
    texts = [Path(file.locate()).read_text(encoding="utf8") for file in files]
    return max(texts, key=len)


def common(licence: str, holder: str) -> str:
    """The text of a common licence under the name of its holder."""
    package, start = COMMON[licence]
    text = brought_by(package)
    return f"{holder}\n\n{text[re.search(start, text).start() :]}"


class ShippedDirective(SphinxDirective):
    """`{shipped}`: all of it as a table."""

    def run(self):
        rows = [
            f'| [{one.name}]({one.url}) | <a href="../_static/{one.address}">{one.licence}</a> '
            f"| {', '.join(f'`{file}`' for file in one.files)} |"
            for one in SHIPPED
        ]
        table = ["| whose | licence | files |", "|---|---|---|", *rows]
        return self.parse_text_to_nodes("\n".join(table))


def write_texts(app, exception):
    """Put the licences beside what they are about."""
    if exception or app.builder.format != "html":
        return
    for one in SHIPPED:
        path = Path(app.outdir, "_static", one.address)
        path.parent.mkdir(exist_ok=True)
        path.write_text(one.text(), encoding="utf8")


def setup(app):
    app.add_directive("shipped", ShippedDirective)
    app.connect("build-finished", write_texts)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
