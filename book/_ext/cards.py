"""What other sites show of a link to a page: its title, its question, and a picture of both."""

import base64
import html
import io
import re
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont
from reading_aids import opening
from typefaces import SANS, SERIF, inside

WIDTH, HEIGHT, MARGIN, STILL = 1200, 630, 64, 500
PAPER, INK, MUTED, ACCENT = "#FFFFFF", "#20262D", "#57606A", "#2B5D8A"
LONGEST = 200  # characters of a description
LIVE = re.compile(
    r'data-explorable="\w+".*?<img alt="([^"]*)" src="data:image/png;base64,([^"]+)"', re.DOTALL
)
BOOKS_CARD = "The title of the book beside a map with two hills and particles on both."


def shortened(text: str) -> str:
    """The text, or as many of its words as a description may have."""
    return text if len(text) <= LONGEST else text[:LONGEST].rsplit(" ", 1)[0].rstrip(",;:") + "…"


def font(path: str, size: int, weight: int = 400):
    """A typeface of the book at a size in pixels, and at a weight where it has several."""
    face = ImageFont.truetype(inside(path), size)
    if "wght" in path:
        face.set_variation_by_axes([weight, min(size, 60)])
    return face


def wrapped(draw, text: str, face, width: int) -> str:
    """The text in lines of at most so many pixels."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        fits = draw.textlength(longer, font=face) <= width
        lines = [*lines[:-1], longer] if fits else [*lines, word]
    return "\n".join(lines)


def card(above: str, title: str, question: str, still: bytes) -> bytes:
    """A PNG of 1200 × 630: where we are, the title and the question beside a still picture."""
    picture = Image.new("RGB", (WIDTH, HEIGHT), PAPER)
    draw = ImageDraw.Draw(picture)
    draw.rectangle((0, 0, 11, HEIGHT), fill=ACCENT)
    figure = Image.open(io.BytesIO(still)).convert("RGB")
    figure.thumbnail((STILL, HEIGHT - 2 * MARGIN), Image.Resampling.LANCZOS)
    picture.paste(figure, (WIDTH - MARGIN - figure.width, (HEIGHT - figure.height) // 2))
    y = MARGIN
    for text, face, colour in (
        (above, font(f"{SANS}-Regular.ttf", 26), ACCENT),
        (title, font(f"{SERIF}[opsz,wght].ttf", 62, 600), INK),
        (question, font(f"{SERIF}-Italic[opsz,wght].ttf", 40), MUTED),
    ):
        text = wrapped(draw, text, face, WIDTH - 3 * MARGIN - STILL)
        draw.multiline_text((MARGIN, y), text, font=face, fill=colour, spacing=10)
        y = draw.multiline_textbbox((MARGIN, y), text, font=face, spacing=10)[3] + 30
    small = io.BytesIO()
    picture.quantize(128, dither=Image.Dither.NONE).save(small, "PNG", optimize=True)
    return small.getvalue()


def tags(facts: dict) -> str:
    """The `<meta>` elements of a page, in the vocabularies of search engines and of Open Graph."""
    return "".join(
        f'<meta {"property" if name[:3] == "og:" else "name"}="{name}" '
        f'content="{html.escape(said)}" />\n'
        for name, said in facts.items()
    )


def picture_tags(image: str, alt: str, page: str) -> dict:
    """What is said of a picture; its address, and the page's, have to be whole ones."""
    return {
        "og:url": page,
        "og:image": image,
        "og:image:width": str(WIDTH),
        "og:image:height": str(HEIGHT),
        "og:image:alt": alt,
        "twitter:card": "summary_large_image",
    }


def describe(app, pagename, templatename, context, doctree):
    """Say what the page is; show a picture of it once the address of the site is known."""
    if doctree is None:
        return
    book, site = app.config.html_title, app.config.html_baseurl
    home = pagename == app.config.root_doc
    title = html.unescape(re.sub("<[^>]+>", "", context["title"]))
    question, sentence = opening(doctree)
    said = shortened(f"{question} {sentence}".strip())
    facts = {
        "description": said,
        "og:title": title,
        "og:description": said,
        "og:type": "website" if home else "article",
        "og:site_name": book,
        "twitter:card": "summary",
    }
    live = LIVE.search(context["body"])
    if site:
        file = f"_static/cards/{Path(pagename if live else app.config.root_doc).name}.png"
        alt = f"{title}. {question} {html.unescape(live[1])}" if live else BOOKS_CARD
        facts |= picture_tags(f"{site}{file}", alt, f"{site}{pagename}.html")
    if site and live:
        path = Path(app.outdir) / file
        path.parent.mkdir(parents=True, exist_ok=True)
        above = app.config.project if home else book
        path.write_bytes(card(above, title, question, base64.b64decode(live[2])))
    context["metatags"] += tags(facts)


def setup(app):
    app.connect("html-page-context", describe)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
