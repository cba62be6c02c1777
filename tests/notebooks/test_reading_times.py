"""The minutes that a chapter names are those it takes, and the first page names the same."""

import re
from pathlib import Path

import nbformat
import pytest

BOOK = Path(__file__).parents[2] / "book"
CHAPTERS = sorted(BOOK.glob("0*.ipynb"))
OPENING = r"^\*\*You need\*\* .+\. \*\*Reading time\*\* (\d+) minutes; the code runs in .+\.$"


def prose_and_code(path):
    """The Markdown of a chapter, and the code that its page shows unfolded."""
    cells = nbformat.read(path, as_version=4).cells
    shown = [cell for cell in cells if not {"hide-input", "remove-cell"} & set(tags(cell))]
    return [
        "\n\n".join(cell.source for cell in group if cell.cell_type == kind)
        for kind, group in (("markdown", cells), ("code", shown))
    ]


def tags(cell):
    return cell.metadata.get("tags", [])


def minutes(prose, code):
    """200 words a minute; three seconds for a line of code, two for a formula in a sentence, a
    quarter of a minute for each line of one that stands alone."""
    alone = re.findall(r"\$\$.+?\$\$", prose, flags=re.S)
    prose = re.sub(r"\$\$.+?\$\$", " ", prose, flags=re.S)
    inside = re.findall(r"\$[^$]+\$", prose)
    words = re.findall(r"[A-Za-z’']{2,}", re.sub(r"\$[^$]+\$", " ", prose))
    lines = [line for line in code.splitlines() if line.strip()]
    alone = sum(1 + formula.count(r"\\") for formula in alone)
    return len(words) / 200 + len(lines) / 20 + len(inside) / 30 + alone / 4


def stated(path):
    found = re.findall(OPENING, prose_and_code(path)[0], flags=re.M)
    assert len(found) == 1, "one line on what you need and the reading time"
    return int(found[0])


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_the_minutes_are_honest(path):
    assert stated(path) % 5 == 0
    assert abs(stated(path) - minutes(*prose_and_code(path))) <= 5


def test_the_first_page_names_the_same():
    index = (BOOK / "index.md").read_text(encoding="utf8")
    card = r"^:link: (\d\d_\w+)$.+?^```\{card-footer\}\n(\d+) minutes"
    rows = re.findall(card, index, flags=re.M | re.S)
    assert [(name, int(said)) for name, said in rows] == [(p.stem, stated(p)) for p in CHAPTERS]


def test_the_rule():
    prose = "ten words " * 100 + "$x$ " * 30 + "$$ a \\\\ b $$"
    assert minutes(prose, "x = 1\n" * 20) == pytest.approx(1 + 1 + 1 + 0.5)
