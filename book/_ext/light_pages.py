"""The theme ships for every book; this leaves out what no page of this one needs.

Icons are drawn into the pages instead of by a script that holds two thousand of them, style rules
that can match nothing are dropped, MathJax is put together from the parts in use, and a script is
loaded only where there is work for it, without holding up the page.
"""

import hashlib
import json
import posixpath
import re
from importlib.util import find_spec
from pathlib import Path

import tinycss2
from fontTools.ttLib import TTFont
from PIL import Image
from sphinx.errors import ExtensionError
from typefaces import save_packed

# Scripts

# The theme chooses between light and dark once its script runs, and all is laid out anew.
LIGHT_OR_DARK = """if (document.documentElement.dataset.theme === "auto")
  document.documentElement.dataset.theme =
    matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";"""
WORK = {  # of a script, as the body of a page shows it
    "clipboard.min.js": "<pre",
    "copybutton.js": "<pre",
    "design-tabs.js": "sd-tab-set",
    "togglebutton.js": "dropdown|toggle",
}
AT_ONCE = ("", "documentation_options.js")  # lines in the page itself, and what they lean on


def choose_scripts(app, pagename, templatename, context, doctree):
    """Keep the scripts that have work on this page, and let the page be read before they run."""
    body = context.get("body")
    if body is None:  # the search page, whose own scripts wait for none
        return
    scripts = {s: posixpath.basename(s.filename or "") for s in context["script_files"]}
    at_work = {s: name for s, name in scripts.items() if re.search(WORK.get(name, ""), body)}
    context["script_files"] = [s if n in AT_ONCE else deferred(s) for s, n in at_work.items()]


def deferred(script):
    """The same script, run when the page has been read; a module always is."""
    waits = {} if script.attributes.get("type") == "module" else {"defer": "defer"}
    return type(script)(script.filename, priority=script.priority, **script.attributes | waits)


# Icons

ICON = re.compile(r'<(i|span) class="([^"]*\bfa[a-z]?[ -][^"]*)"([^>]*)></\1>')
STYLE_OR_SIZE = {"fa-solid", "fas", "fa-lg"}
LOADER = re.compile(r"\s*<!--[^>]*-->\s*<script src=\"[^\"]*/fontawesome\.js[^>]*></script>")


class Icons:
    """Draws into a page the icons that a script of the theme would draw there in the browser."""

    def __init__(self):
        package = Path(find_spec("pydata_sphinx_theme").origin).parent
        script = package / "theme/pydata_sphinx_theme/static/scripts/fontawesome.js"
        tables = script.read_text(encoding="utf8").split('"use strict"')
        self.solid = next(table for table in tables if '("fa-solid",' in table)
        licence = Path(f"{script}.LICENSE.txt").read_text(encoding="utf8")
        self.notice = "; ".join(re.findall(r"^ \* (.+)$", licence, flags=re.MULTILINE))

    def drawn(self, page: str) -> str:
        """The page with its icons for their script, and the notice that their licence asks for."""
        page = LOADER.sub("", ICON.sub(lambda found: self.svg(found[2], found[3]), page))
        return page.replace("</body>", f"<!-- Icons: {self.notice} -->\n</body>")

    def svg(self, classes: str, attributes: str) -> str:
        """One icon. A title is its name; without one it is decoration."""
        width, height, outline = self.shape(classes)
        kept = " ".join(c for c in classes.split() if c not in ("fa-solid", "fas"))
        titled = re.search(r'\s*title="([^"]*)"', attributes)
        name = f"<title>{titled[1]}</title>" if titled else ""
        attributes = attributes.replace(titled[0], "") if titled else ' aria-hidden="true"'
        return (
            f'<svg class="svg-inline--fa {kept}"{attributes} role="img" '
            f'viewBox="0 0 {width} {height}">{name}<path fill="currentColor" d="{outline}"/></svg>'
        )

    def shape(self, classes: str):
        """Width, height and outline of the solid icon that the classes ask for."""
        names = {c for c in classes.split() if c.startswith("fa-")} - STYLE_OR_SIZE
        key = "|".join(re.escape(name.removeprefix("fa-")) for name in names)
        row = rf'[{{,]"?(?:{key})"?:\[(\d+),(\d+),\[[^]]*\],"[0-9a-f]+","([^"]+)"\]'
        found = re.search(row, self.solid)
        if len(names) != 1 or not found:
            raise ExtensionError(f"No picture for the icon {classes!r}: it names no solid icon.")
        return found.groups()


# Pictures

PICTURE = re.compile(r'<img (?=[^>]*src="([^":]+\.(?:png|gif))")')


def unhurried(page: str, folder: Path) -> str:
    """The page with room kept for its pictures, each to be fetched when it comes near."""

    def told(found):
        with Image.open(folder / found[1]) as picture:
            return f'<img loading="lazy" width="{picture.width}" height="{picture.height}" '

    return PICTURE.sub(told, page)


# Styles

NAMES = re.compile(r'\b(?:class|id)="([^"]*)"')
BUILT_AT_RUN_TIME = {"bs-tooltip-auto"}  # Bootstrap puts this name together from two parts
NOTICE = re.compile("licen[cs]e|copyright", re.IGNORECASE)


def names_in_use(site: Path, pages) -> set[str]:
    """Every class and id of the pages, and every word of the scripts, which may add one."""
    names = {name for page in pages for found in NAMES.findall(page) for name in found.split()}
    for script in site.glob("_static/**/*.js"):
        names.update(re.findall(r"[\w-]+", script.read_text(encoding="utf8")))
    return names | BUILT_AT_RUN_TIME


def only_used(rules, names: set[str]) -> str:
    """The style rules without the selectors that ask for a class or id which is nowhere."""
    return "\n".join(text for rule in rules if (text := used_part(rule, names)))


def used_part(rule, names: set[str]) -> str:
    """What is left of one rule, of the rules in a media query, or of a comment."""
    if rule.type == "comment":
        return rule.serialize() if NOTICE.search(rule.value) else ""
    if rule.type == "qualified-rule":
        used = [text for text, asked in selectors(rule.prelude) if asked <= names]
        return f"{','.join(used)}{{{tinycss2.serialize(rule.content).strip()}}}" if used else ""
    if rule.type == "at-rule" and rule.lower_at_keyword in ("media", "supports"):
        inner = only_used(tinycss2.parse_rule_list(rule.content, skip_whitespace=True), names)
        return f"@{rule.at_keyword}{tinycss2.serialize(rule.prelude)}{{{inner}}}" if inner else ""
    return rule.serialize()


def selectors(prelude):
    """Each selector of a rule as text, with the classes and ids that it cannot do without."""
    selector = []
    for token in [*prelude, tinycss2.ast.LiteralToken(0, 0, ",")]:
        if token != ",":
            selector.append(token)
            continue
        pairs = zip(selector, selector[1:], strict=False)
        asked = {name.value for dot, name in pairs if dot == "." and name.type == "ident"}
        asked |= {token.value for token in selector if token.type == "hash"}
        yield tinycss2.serialize(selector).strip(), asked
        selector = []


def lighten_styles(site: Path, pages: dict[Path, str]):
    """Rewrite the stylesheets, and let the pages ask for them under addresses that say so."""
    names = names_in_use(site, pages.values())
    for sheet in site.glob("_static/**/*.css"):
        rules = tinycss2.parse_stylesheet(sheet.read_text(encoding="utf8"), skip_whitespace=True)
        text = only_used(rules, names)
        sheet.write_text(text, encoding="utf8")
        version = hashlib.sha256(text.encode()).hexdigest()[:8]
        link = re.compile(rf'(/{re.escape(sheet.name)})(?:\?[^"]*)?"')
        for path, page in pages.items():
            pages[path] = link.sub(rf'\1?v={version}"', page)


# Formulas

MATHJAX = {  # files, and what MathJax's own loader calls the parts in them
    "core": "core",
    "input/tex-base": "input/tex-base",
    "input/tex/extensions/ams": "[tex]/ams",
    "output/chtml": "output/chtml",
    "output/chtml/fonts/tex": "output/chtml/fonts/tex.js",
    "a11y/assistive-mml": "a11y/assistive-mml",
}
FONTS = "output/chtml/fonts/woff-v2"


def put_mathjax_together(target: Path):
    """One script of the parts of MathJax that the formulas need, and its fonts as woff2."""
    source = Path(find_spec("sphinx-mathjax-offline").origin).parent / "static" / "mathjax"
    startup, *parts = [(source / f"{part}.js").read_text("utf8") for part in ("startup", *MATHJAX)]
    loaded = f"MathJax.loader.preLoad(...{json.dumps(list(MATHJAX.values()))})"
    own = Path(__file__).with_name("formulas.js").read_text("utf8")
    target.mkdir(parents=True, exist_ok=True)
    script = "\n;".join([startup, loaded, *parts, own])
    script = script.replace('.woff") format("woff")', '.woff2") format("woff2")')
    (target / "mathjax.js").write_text(script, encoding="utf8")
    (target / FONTS).mkdir(parents=True, exist_ok=True)
    for face in (source / FONTS).glob("*.woff"):
        save_packed(TTFont(face), target / FONTS / f"{face.stem}.woff2")


# What the theme leaves without a name, leads to the wrong place, or leaves to a script

ADDED = {
    '<dialog id="pst-search-dialog"': ' aria-label="Search"',
    '<dialog id="pst-primary-sidebar-modal"': ' aria-label="Pages"',
    '<dialog id="pst-secondary-sidebar-modal"': ' aria-label="Contents of this page"',
    '<article class="bd-article"': ' id="text"',
}


def mended(page: str) -> str:
    """The page with names for its dialogs, light where no script can choose, and a way to skip
    to the text rather than to the buttons above it."""
    for tag, attribute in ADDED.items():
        page = page.replace(tag, tag + attribute)
    page = page.replace(' data-theme="auto">', ' data-theme="light">', 1)
    return page.replace('href="#main-content"', 'href="#text"') if ' id="text"' in page else page


def lighten(app, exception):
    """Everything above that needs the finished pages."""
    if exception or app.builder.format != "html":
        return
    site, icons = Path(app.outdir), Icons()
    for needless in (*site.glob("_static/scripts/fontawesome.js*"), *site.glob("_static/*.html")):
        needless.unlink()
    html = [path for path in site.rglob("*.html") if "_static" not in path.parts]
    pages = {path: icons.drawn(path.read_text(encoding="utf8")) for path in html}
    pages = {path: mended(unhurried(page, path.parent)) for path, page in pages.items()}
    lighten_styles(site, pages)
    for path, page in pages.items():
        path.write_text(page, encoding="utf8")
    put_mathjax_together(site / "_static" / "mathjax")


def setup(app):
    app.add_js_file(None, body=LIGHT_OR_DARK, priority=0)
    app.connect("html-page-context", choose_scripts, priority=900)
    app.connect("build-finished", lighten, priority=900)  # after whatever else writes styles
    return {"parallel_read_safe": True, "parallel_write_safe": True}
