"""Run the claims and the errata, and write book/claims.md and book/errata.md: `make claims`.

python -m tools.claims
"""

import json
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import yaml

from tools import errata
from tools.tables import rounded, table

ROOT = Path(__file__).parents[1]
ROWS, PAGE = ROOT / "book" / "claims.yml", ROOT / "book" / "claims.md"

INTRODUCTION = """\
<!-- Written by `make claims` from claims.yml and the tests in tests/claims. Do not edit. -->

# Claims

Every statement of this book that can be checked is checked, by a test that measures it. This page \
lists them: what is claimed, what the theory expects, and what was measured on the last run of \
`make claims`, to two digits (to five where the test is that sharp). The two may differ by the \
error that the test allows; a difference that should be zero is shown by the bound it stays under. \
What cannot be measured is marked as opinion, history or definition, with its source.
"""


def rows():
    """The claims of claims.yml, in order."""
    return yaml.safe_load(ROWS.read_text(encoding="utf8"))


def run():
    """Run the tests; returns pytest's exit code and claim or slip → tests, verdict, checks."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "report.json"
        command = ["-m", "pytest", "-q", "-n", "2", "--dist", "loadfile", "tests/claims"]
        without = [f"--ignore=tests/claims/test_{name}_page.py" for name in ("claims", "errata")]
        options = [*without, "--claims-report", str(file)]
        done = subprocess.run([sys.executable, *command, *options], cwd=ROOT, check=False)
        return done.returncode, json.loads(file.read_text(encoding="utf8"))


def page(claims, results):
    """The text of claims.md."""
    parts = [INTRODUCTION, totals(claims, results)]
    for chapter in sorted({claim["chapter"] for claim in claims}):
        group = [claim for claim in claims if claim["chapter"] == chapter]
        name = group[0]["where"].split("#")[0]
        parts.append(f"## Chapter {chapter}\n\nFrom {{doc}}`{name}`.\n")
        parts += [entry(claim, results.get(claim["id"])) for claim in group]
    return "\n".join(parts)


def totals(claims, results):
    """One sentence: how many claims, how many checked, how many hold, what the others are."""
    ours = sum(claim.get("own", False) for claim in claims)
    kinds = Counter(claim["kind"] for claim in claims)
    checked = [claim["id"] for claim in claims if claim["kind"] == "checked"]
    holding = sum(results.get(name, {}).get("verdict") == "holds" for name in checked)
    tests = {test for name in checked for test in results.get(name, {}).get("tests", [])}
    return (
        f"**{len(claims)} claims, {len(claims) - ours} taken over from the sources and {ours} of "
        f"our own: {len(checked)} checked by {len(tests)} tests, {holding} hold; not checkable: "
        f"{kinds['definition']} definitions, {kinds['history']} of history, "
        f"{kinds['opinion']} opinions.**\n"
    )


def entry(claim, result):
    """One claim: its heading is its anchor, c3-13 for C3.13."""
    blocks = [f"### {claim['id']}", claim["statement"]]
    if result:
        lines = [(check["what"], *numbers(check)) for check in result["checks"]]
        blocks.append(table(("quantity", "expected", "measured"), lines))
    blocks.append(f"**{verdict(claim, result)}.** {links(claim)}")
    if result:
        blocks.append("Checked by " + ", ".join(f"`{test}`" for test in result["tests"]) + ".")
    return "\n\n".join(blocks) + "\n"


def verdict(claim, result):
    """Holds or Fails for a checked row, else the row's kind."""
    if claim["kind"] != "checked":
        return claim["kind"].capitalize()
    return result["verdict"].capitalize() if result else "Untested"


def links(claim):
    """Where the claim is made, on whose word, and whose error it corrects."""
    name, section = claim["where"].split("#")
    said = [f"[In the text]({name}.ipynb#{section})"]
    said += ["{cite:t}`" + key + "`" for key in claim.get("citation", [])]
    if "slip" in claim:
        slips = [f"[{name}](errata.md#{name.lower().replace('.', '-')})" for name in claim["slip"]]
        said.append("Corrects " + " and ".join(slips))
    return ". ".join(said) + "."


def numbers(check):
    """Expected and measured, rounded; a difference that should be 0 shown by its bound."""
    expected, measured, within = check["expected"], check["measured"], check["within"]
    if isinstance(expected, str):
        return expected, measured
    if expected == 0 and 0 < within and abs(measured) <= within:
        return "0", f"below {rounded(within)}"
    digits = 5 if within <= 1e-5 * abs(expected) else 2
    return rounded(expected, digits), rounded(measured, digits)


def main():
    """Run, write both pages, and fail when a claim does."""
    code, results = run()
    if code not in (0, 1) or not results:  # neither passed nor failed: nothing to report
        print("the pages are left as they were: the claims could not be run")
        return code or 1
    claims = rows()
    PAGE.write_text(page(claims, results), encoding="utf8")
    errata.PAGE.write_text(errata.page(errata.rows(), claims, results), encoding="utf8")
    print(f"wrote {PAGE.relative_to(ROOT)} and {errata.PAGE.relative_to(ROOT)}")
    return code


if __name__ == "__main__":
    sys.exit(main())
