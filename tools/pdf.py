"""Write the whole book as one PDF: `make pdf`.

The articles of all pages are joined into one page, with the links between them turned into links
within it, and Chromium prints that: formulas are typeset once, pages are counted through, outline
and links come by themselves. It prints twice: the first time tells the page numbers of the table
of contents.
"""

import json
import re
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urldefrag, urljoin, urlsplit

import yaml
from bs4 import BeautifulSoup
from playwright.sync_api import sync_playwright
from pypdf import PdfReader, PdfWriter

from tools.browser import launch
from tools.server import served
from tools.website import ROOT, built, toc_pages

TARGET = ROOT / "_build" / "pdf" / "score-based-generative-models.pdf"
NEEDLESS = "noscript, script, a.headerlink, .viewcode-link, a.download"
COVER = "book/assets/images/langevin.png"
PATIENCE = 300_000  # ms; three thousand formulas take a while

# The site, taken apart


def soup(path: Path):
    return BeautifulSoup(path.read_text(encoding="utf8"), "html.parser")


def article(site: Path, path: str, paths: list[str]):
    """The article of a page as it stands in the book: without what can only be clicked, with ids
    of its own, and with links that stay inside."""
    found = soup(site / path).find("article")
    for tag in found.select(NEEDLESS):
        tag.decompose()
    for tag in found.find_all(id=True):
        tag["id"] = place(path, tag["id"])
    for link in found.find_all("a", href=True):
        link["href"] = inside(link["href"], path, paths)
        if not link["href"]:
            del link["href"]
    for image in found.find_all("img"):
        image["src"] = urljoin(f"/{path}", image["src"])
        del image["loading"]
    found["id"], found["style"] = place(path), f"page: {place(path)}"
    return found


def place(path: str, anchor: str = "") -> str:
    """The id in the book of an anchor of a page, or of the page."""
    page = re.sub(r"\W", "-", path.removesuffix(".html"))
    return f"{page}--{anchor}" if anchor else page


def inside(href: str, path: str, paths: list[str]) -> str:
    """The same place in the book; nothing, if it is a page of the site that the book is without."""
    target, anchor = urldefrag(urljoin(path, href))
    if target in paths:
        return f"#{place(target, anchor)}"
    return href if urlsplit(target).scheme else ""


# The book, put together


def book(site: Path, paths: list[str]) -> str:
    """One page of HTML with a cover, the table of contents and the articles of all pages."""
    articles = [article(site, path, paths) for path in paths]
    style = (ROOT / "tools" / "pdf.css").read_text(encoding="utf8")
    return f"""<!DOCTYPE html><html lang="en" data-theme="light"><head><meta charset="utf-8">
<title>{escape(about()["title"])}</title>{head_of(site / paths[1])}
<style>{style}{"".join(map(running_title, articles))}</style></head>
<body>{cover()}{contents(articles)}<main class="bd-main"><div class="bd-content">
{"".join(map(str, articles))}</div></main></body></html>"""


def about() -> dict:
    """Title, authors, version and so on, from CITATION.cff."""
    return yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf8"))


def head_of(path: Path) -> str:
    """The styles of a page, and its MathJax, from wherever they are asked for."""
    mathjax = "script:-soup-contains('window.MathJax'), script[src*=mathjax]"
    tags = soup(path).select(f"link[rel=stylesheet], {mathjax}")
    for tag in tags:
        for name in {"href", "src"} & set(tag.attrs):
            tag[name] = tag[name].replace("../", "/")
    return "".join(map(str, tags))


def running_title(article) -> str:
    """Each page of the site has sheets of its own, which bear its title."""
    title = json.dumps(article.h1.get_text(), ensure_ascii=False)
    return f"@page {article['id']} {{ @top-right {{ content: {title} }} }}\n"


def cover() -> str:
    title, tagline = about()["title"].split(": ")
    authors = ", ".join(author["name"] for author in about()["authors"])
    return f"""<header class="cover"><p class="title">{title}</p>
<p class="tagline">{tagline[0].upper()}{tagline[1:]}</p>
<img src="/_static/images/{Path(COVER).name}" alt="Red dots on a map with two blue hills.">
<p class="imprint">{authors}<br>Version {about()["version"]}, {datetime.now(UTC):%-d %B %Y}<br>
Text and figures under CC BY 4.0, code under the MIT licence</p></header>"""


def contents(articles) -> str:
    """The table of contents: pages and their sections, page numbers still to come."""
    chapters = "".join(f"<li>{entry(a.h1, a['id'])}<ol>{sections(a)}</ol></li>" for a in articles)
    return f'<nav class="book-contents"><h1>Contents</h1><ol>{chapters}</ol></nav>'


def sections(article) -> str:
    return "".join(f"<li>{entry(h2, h2.parent['id'])}</li>" for h2 in article.find_all("h2"))


def entry(heading, target: str) -> str:
    words = heading.decode_contents()
    return f'<a href="#{target}"><span>{words}</span><span class="page"></span></a>'


# The PDF

NUMBER = """numbers => document.querySelectorAll(".book-contents a").forEach((link) => {
  link.querySelector(".page").textContent = numbers[link.getAttribute("href").slice(1)]; })"""


def printed(page, target: Path, **extras) -> PdfReader:
    """The page as it is now, on paper."""
    page.pdf(path=target, prefer_css_page_size=True, print_background=True, **extras)
    return PdfReader(target)


def page_numbers(pdf: PdfReader) -> dict:
    """On which page of the PDF each of its links may lead."""
    places = pdf.named_destinations.items()
    return {name[1:]: pdf.get_destination_page_number(where) + 1 for name, where in places}


def write(browser, site: Path, target: Path, paths: list[str]):
    """Print the pages of a built site as one PDF."""
    html = book(site, paths)
    page = browser.new_page()
    page.set_default_timeout(PATIENCE)
    page.route("**/book.html", lambda route: route.fulfill(body=html, content_type="text/html"))
    page.emulate_media(media="print")
    with served(site) as address, TemporaryDirectory() as folder:
        page.goto(f"{address}/book.html")
        page.evaluate("MathJax.startup.promise.then(() => document.fonts.ready).then(() => true)")
        page.evaluate(NUMBER, page_numbers(printed(page, Path(folder) / "first.pdf")))
        second = printed(page, Path(folder) / "second.pdf", outline=True, tagged=True)
        pdf = PdfWriter(clone_from=second)
    page.close()
    authors = ", ".join(author["name"] for author in about()["authors"])
    pdf.add_metadata({"/Author": authors, "/Keywords": ", ".join(about()["keywords"])})
    target.parent.mkdir(parents=True, exist_ok=True)
    pdf.write(target)


def main():
    with sync_playwright() as playwright, TemporaryDirectory() as folder:
        write(launch(playwright), built(Path(folder)), TARGET, toc_pages())
    print(f"{TARGET.relative_to(ROOT)}: {TARGET.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
