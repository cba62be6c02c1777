"""What a page falls back on: printed, opened from disk, or read without JavaScript."""

# Paper is white: a page that is dark on the screen is light while it is printed.
LIGHT_ON_PAPER = """{
  const page = document.documentElement.dataset;
  addEventListener("beforeprint", () => { page.onScreen = page.theme; page.theme = "light"; });
  addEventListener("afterprint", () => { page.theme = page.onScreen; });
}"""

# Browsers refuse modules to a page opened from disk, and complain: there it asks for none.
FROM_A_SERVER = """<script>if (location.protocol !== "file:") document.write(`{}`)</script>\n"""

# By itself a script brings the list of all pages in from the side; without one, on a phone, it
# stands below the page.
NO_SCRIPT = """<noscript><style>
.bd-search, .bd-search-container form { display: none !important; }
.header-article-items button:not([data-bs-toggle="dropdown"]) { display: none !important; }
.header-article-items .dropdown:focus-within .dropdown-menu { display: block; }
@media (max-width: 959.98px) {
  .bd-container .bd-container__inner { flex-direction: column-reverse; }
  .bd-container .bd-sidebar-primary { position: static; visibility: visible; width: auto;
    max-width: none; height: auto; max-height: none; margin: 0; }
}
</style></noscript>\n"""


def from_a_server(tags: str) -> str:
    """Tags of modules, for pages that come from a server only."""
    return FROM_A_SERVER.format(tags.replace("</script>", r"<\/script>"))


def fall_back(app, pagename, templatename, context, doctree):
    """Give every page, those of the theme too, its styles for readers without JavaScript."""
    context["metatags"] = context.get("metatags", "") + NO_SCRIPT


def setup(app):
    app.add_js_file(None, body=LIGHT_ON_PAPER, priority=1)
    app.connect("html-page-context", fall_back)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
