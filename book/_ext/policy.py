"""What a page may do is written into it: the Content Security Policy of the finished site.

Scripts come from the site, and those in a page are named by their hashes; nobody else is asked for
anything, and whatever a page should ever be tricked into holding does not run. (Styles may stand in
a page: formulas, figures and the theme place themselves so.)
"""

import base64
import hashlib
import re
from pathlib import Path

from sphinx.errors import ExtensionError

INLINE = re.compile(r"<script(?![^>]*\bsrc=)[^>]*>(.*?)</script>", re.DOTALL)
HANDLER = re.compile(r'(<[^<>]*?\s)on\w+="([^"]*)"')
# The charset has to stand in the first 1024 bytes; behind it, the policy of an earlier build.
PLACE = re.compile('(<meta charset="utf-8" ?/?>)(<meta http-equiv="Content-Security[^>]*>)?')

# The theme's buttons say what to do in an attribute, which no policy worth its name lets run.
DOES = {"toggleFullScreen()": "fullscreen", "window.print()": "print"}
LISTENER = """{
  const does = { fullscreen: () => toggleFullScreen(), print: () => print() };
  addEventListener("click", ({ target }) => does[target.closest("[data-does]")?.dataset.does]?.());
}"""

# A page opened from disk is nobody's own to some browsers; one that is served never gets at files.
SITE = "'self' file:"
POLICY = {
    "default-src": "'none'",
    "script-src": SITE,  # and hashes
    "style-src": f"{SITE} 'unsafe-inline'",
    "img-src": f"{SITE} data: blob:",  # pictures of notebooks; films that start anew (host.js)
    "font-src": SITE,
    "connect-src": "'self' data:",  # previews, excerpts of the search, films
    "form-action": SITE,
    "base-uri": "'none'",
}


def without_handlers(page: str) -> str:
    """The page with its buttons named by what they do, for LISTENER."""

    def named(tag):
        if tag[2] not in DOES:
            raise ExtensionError(f"A page would run {tag[2]!r}, which its policy forbids.")
        return f'{tag[1]}data-does="{DOES[tag[2]]}"'

    return HANDLER.sub(named, page)


def inline_scripts(page: str):
    """The text of every script that stands in a page, and in what such a script writes into it."""
    for script in INLINE.findall(page):
        yield script
        yield from inline_scripts(script.replace(r"<\/script>", "</script>"))


def source(script: str) -> str:
    """A script as a policy names it."""
    digest = hashlib.sha256(script.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def policy(page: str) -> str:
    """The policy of a page, with a hash for each script in it."""
    scripts = dict.fromkeys(map(source, inline_scripts(page)))
    rules = POLICY | {"script-src": " ".join([SITE, *scripts])}
    return "; ".join(f"{what} {whence}" for what, whence in rules.items())


def guarded(page: str) -> str:
    """The page with its policy in front of all that the policy is about."""
    page = without_handlers(page)
    tag = f'<meta http-equiv="Content-Security-Policy" content="{policy(page)}">'
    page, places = PLACE.subn(rf"\1{tag}", page)
    if places != 1:
        raise ExtensionError(f"A page has {places} places for its policy: {page[:200]!r}")
    return page


def guard(app, exception):
    """Write its policy into every page of the finished site."""
    if exception or app.builder.format != "html":
        return
    for path in Path(app.outdir).rglob("*.html"):
        path.write_text(guarded(path.read_text(encoding="utf8")), encoding="utf8")


def setup(app):
    app.add_js_file(None, body=LISTENER, priority=2)
    app.connect("build-finished", guard, priority=950)  # when nobody writes into pages any more
    return {"parallel_read_safe": True, "parallel_write_safe": True}
