"""The text of book/errata.md, which `make claims` writes from errata.yml and the run of the tests.

A slip is measured when a test computes what the source prints and what is right, and finds them
apart; otherwise an argument is all there is.
"""

from pathlib import Path

import yaml

from tools.tables import rounded, table

ROOT = Path(__file__).parents[1]
ROWS, PAGE = ROOT / "book" / "errata.yml", ROOT / "book" / "errata.md"

GRADES = {
    "A": "false; it would break code or a proof",
    "B": "misleading, or a condition is missing",
    "C": "notation, naming or print",
}
SOURCES = {
    0: "*Score Matching*, an overview that leads from likelihood by way of explicit, implicit, "
    "sliced and denoising score matching to noise-conditional networks and DDPM.",
    1: "*Diffusion Models* (title translated), long notes on DDPM, and then on energy models, "
    "Langevin dynamics and score matching.",
    2: "*Deep Generative Models, Part 8: Score-based Models* (title translated), notes taken at a "
    "public lecture.",
    3: "*Denoising Score Matching* (title translated), a calculation of what denoising adds to the "
    "variance of the gradient. {doc}`Chapter 9 <09_dsm_variance>` grew from it.",
    4: "*Score Matching the Easy Way, with Denoising*, a short note with a dialogue about the "
    "joint density at its end.",
}
INTRODUCTION = f"""\
<!-- Written by `make claims` from errata.yml and the tests in tests/claims. Do not edit. -->

# Errata of the sources

The outline of this book grew from five sets of notes in Chinese. Their authors took the trouble \
to explain this subject to others, and we owe them the path through it. We also read them line by \
line with a computer at hand, and this page lists where they slip. None of it is meant to find \
fault: a wrong formula beside the right one, and a number that tells them apart, is often the \
quickest way to see what the right one says.

Each entry gives what the source says, in our words; what is true; and why. The table shows what \
comes out when one computes the formula *as printed*, and what is *right*, from the last run of \
`make claims`, with as many digits as it takes to tell them apart. What is smaller than the error \
of its test is written as 0. The grades:

{chr(10).join(f"- **{grade}**: {words}." for grade, words in GRADES.items())}

A number such as E4.01 is made of the source, 4, and a running number.
"""


def rows():
    """The slips of errata.yml, in order."""
    return yaml.safe_load(ROWS.read_text(encoding="utf8"))


def page(slips, claims, results):
    """The text of errata.md."""
    parts = [INTRODUCTION, totals(slips, results)]
    for source, words in SOURCES.items():
        parts.append(f"## Source {source}\n\n{words}\n")
        group = [slip for slip in slips if slip["id"].startswith(f"E{source}.")]
        parts += [entry(slip, correcting(slip, claims), results.get(slip["id"])) for slip in group]
    return "\n".join(parts)


def totals(slips, results):
    """One sentence: how many slips of each grade, and how many measured."""
    grades = [slip["grade"] for slip in slips]
    count = ", ".join(f"{grades.count(grade)} {grade}" for grade in GRADES)
    measured = [slip["id"] for slip in slips if slip["kind"] == "measured"]
    tests = {test for name in measured for test in results.get(name, {}).get("tests", [])}
    return (
        f"**{len(slips)} slips: {count}; {len(measured)} measured by {len(tests)} tests, "
        f"{len(slips) - len(measured)} by argument.**\n"
    )


def correcting(slip, claims):
    """The claims that state the right thing: those the row names, and those that name it."""
    named = {claim["id"] for claim in claims if slip["id"] in claim.get("slip", [])}
    return sorted(named | set(slip.get("claims", [])))


def entry(slip, claims, result):
    """One slip: its heading is its anchor, e1-01 for E1.01."""
    blocks = [
        f"### {slip['id']}",
        f"*Says:* {slip['says']}",
        f"*True:* {slip['right']}",
        f"*Because:* {slip['why']}",
    ]
    if result and result["checks"]:
        header = ("quantity", "as printed", "right")
        blocks.append(table(header, [(line["what"], *pair(line)) for line in result["checks"]]))
    blocks.append(f"**{slip['grade']}, {verdict(slip, result)}.** {links(slip, claims)}")
    if result:
        blocks.append("Tested by " + ", ".join(f"`{test}`" for test in result["tests"]) + ".")
    return "\n\n".join(blocks) + "\n"


def verdict(slip, result):
    """How we know: measured, by argument, or not yet."""
    if slip["kind"] == "argument":
        return "by argument"
    if not result:
        return "untested"
    return "measured" if result["verdict"] == "holds" else "not confirmed"


def links(slip, claims):
    """Where the book says it right, and which claims do."""
    name, section = slip["where"].split("#")
    said = [f"[In the text]({name}.ipynb#{section})"]
    said += [f"[{claim}](claims.md#{claim.lower().replace('.', '-')})" for claim in claims]
    return ", ".join(said) + "."


def pair(line):
    """As printed and right, rounded no further than leaves them different."""
    printed, right, by = line["printed"], line["right"], line["by"]
    if isinstance(right, str):
        return printed, right
    sharp = by <= 1e-5 * abs(right)
    for digits in range(5 if sharp else 2, 16):
        texts = [rounded(0 if abs(x) <= by else x, digits) for x in (printed, right)]
        if texts[0] != texts[1]:
            break
    return texts
