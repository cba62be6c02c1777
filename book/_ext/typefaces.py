"""The typefaces of the book, cut down to the characters that its pages use.

Serif for reading, sans for labels, figures and controls, mono for code: one family, in Python
packages. A complete face weighs up to a megabyte; what is written here, some twenty kilobytes.
"""

import logging
import re
from importlib.util import find_spec
from pathlib import Path

from fontTools.subset import Options, Subsetter
from fontTools.ttLib import TTFont
from fontTools.varLib.instancer import instantiateVariableFont

SERIF = "fontpkg_source_serif_4/files/SourceSerif4"
MONO = "fontpkg_source_code_pro/files/SourceCodePro"
SANS = "font_source_sans_pro/files/SourceSansPro"
FACES = {  # the file of the site: where it comes from, and the axes that it keeps or fixes
    "serif": (f"{SERIF}[opsz,wght].ttf", {"opsz": 14, "wght": (400, 700)}),
    "serif-italic": (f"{SERIF}-Italic[opsz,wght].ttf", {"opsz": 14, "wght": 400}),
    "sans": (f"{SANS}-Regular.ttf", {}),
    "sans-bold": (f"{SANS}-Semibold.ttf", {}),
    "mono": (f"{MONO}[wght].ttf", {"wght": 400}),
}
FEATURES = ["kern", "liga", "ccmp", "locl", "mark", "mkmk"]
logging.getLogger("fontTools").setLevel(logging.WARNING)  # it tells of every glyph


def inside(path: str) -> Path:
    """A file of an installed package."""
    package, _, file = path.partition("/")
    return Path(find_spec(package).origin).parent / file


def characters(site: Path) -> set[str]:
    """Every character of the pages and of the scripts, which write on them."""
    files = [*site.rglob("*.html"), *site.glob("_static/*.js")]
    texts = (re.sub(r'src="data:[^"]*"', "", file.read_text(encoding="utf8")) for file in files)
    return set().union(*texts)


def cut_down(source: Path, axes: dict, wanted: set[str]) -> TTFont:
    """The face with the characters wanted and no others, at fixed axes where they are numbers."""
    font = TTFont(source)
    options = Options(flavor="woff2", layout_features=FEATURES, name_IDs=[], notdef_outline=True)
    cutter = Subsetter(options)
    cutter.populate(unicodes=map(ord, wanted))
    cutter.subset(font)
    return instantiateVariableFont(font, axes) if axes else font


def save_packed(font: TTFont, file: Path):
    """Write a face as woff2."""
    font.flavor = "woff2"
    font.save(file)


def write_faces(app, exception):
    """Put the faces beside the styles that ask for them."""
    if exception or app.builder.format != "html":
        return
    site, folder = Path(app.outdir), Path(app.outdir) / "_static" / "fonts"
    folder.mkdir(exist_ok=True)
    wanted = characters(site)
    for name, (source, axes) in FACES.items():
        font = cut_down(inside(source), axes, wanted)
        save_packed(font, folder / f"{name}.woff2")


def setup(app):
    app.connect("build-finished", write_faces, priority=800)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
