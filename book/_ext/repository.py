"""The one address of the repository, in `_config.yml`, and all that it switches on."""

import re
from urllib.parse import urlencode, urlsplit

from sphinx.errors import ConfigError

GITHUB = re.compile(r"https://github\.com/([\w.-]+)/([\w.-]+?)(?:\.git)?/?")


def repository(config) -> tuple[str, str] | None:
    """User and name of the repository, or None while the book has none."""
    url = config.html_theme_options.get("repository_url", "")
    found = GITHUB.fullmatch(url)
    if url and not found:
        raise ConfigError(f"repository: url: is {url!r}, not https://github.com/USER/NAME")
    return found.groups() if found else None


def site_url(config) -> str:
    """Address of the site, with its final slash: `html: baseurl:`, or the Pages of the repository;
    empty while neither is known."""
    if config.html_baseurl:
        return config.html_baseurl.rstrip("/") + "/"
    if not (names := repository(config)):
        return ""
    host, name = f"{names[0].lower()}.github.io", names[1]
    return f"https://{host}/" if name.lower() == host else f"https://{host}/{name}/"


def switch_on(app, config):
    """Tell Sphinx and the theme where the book is kept, and where it will be read."""
    config.html_baseurl = site_url(config)
    config.notfound_urls_prefix = urlsplit(config.html_baseurl).path or "/"
    if not repository(config):
        return
    buttons = ("use_repository_button", "use_edit_page_button", "use_issues_button")
    config.html_theme_options |= dict.fromkeys(buttons, True)
    config.html_theme_options["launch_buttons"] |= {
        "colab_url": "https://colab.research.google.com",
        "binderhub_url": "https://mybinder.org",
    }


BUTTONS = {  # of the theme: what they are called here, and an icon that light_pages can draw
    "source-buttons": ("The source of this book", "fas fa-code-branch"),
    "source-repository-button": ("Repository", "fas fa-code-branch"),
    "source-edit-button": ("Edit this page", "fas fa-pencil"),
    "source-issues-button": ("Report a mistake", "fas fa-bug"),
}
MISTAKE = """Page: {page}

What it says:

What it should say, and why:
"""


def name_buttons(app, pagename, templatename, context, doctree):
    """Say what the buttons do, and let a report of a mistake begin with the page."""
    groups = context.get("header_buttons", [])
    for button in [b for group in groups for b in (group, *group.get("buttons", []))]:
        if found := BUTTONS.get(button.get("label")):
            button["tooltip"], button["icon"] = found
            if "text" in button:
                button["text"] = found[0]
        if button.get("label") == "source-issues-button":
            title = {"title": f"Mistake in {context.get('title', pagename)}: "}
            body = {"body": MISTAKE.format(page=f"{app.config.html_baseurl}{pagename}.html")}
            button["url"] = button["url"].split("?")[0] + "?" + urlencode(title | body)


def setup(app):
    app.connect("config-inited", switch_on, priority=100)
    app.connect("html-page-context", name_buttons, priority=502)  # after the theme has made them
    return {"parallel_read_safe": True, "parallel_write_safe": True}
