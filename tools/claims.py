"""Run the claims and write book/claims.md: `make claims`.

python -m tools.claims
"""

import json
import math
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

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
    """Run the tests; returns pytest's exit code and claim → tests, verdict, checks."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "report.json"
        command = ["-m", "pytest", "-q", "-n", "2", "--dist", "loadfile", "tests/claims"]
        options = ["--ignore", "tests/claims/test_claims_page.py", "--claims-report", str(file)]
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
    """One sentence: how many claims, how many checked, how many hold."""
    checked = [claim["id"] for claim in claims if claim["kind"] == "checked"]
    holding = sum(results.get(name, {}).get("verdict") == "holds" for name in checked)
    tests = {test for name in checked for test in results.get(name, {}).get("tests", [])}
    return (
        f"**{len(claims)} claims: {len(checked)} checked by {len(tests)} tests, {holding} hold; "
        f"{len(claims) - len(checked)} not checkable.**\n"
    )


def entry(claim, result):
    """One claim: its heading is its anchor, c3-13 for C3.13."""
    blocks = [f"### {claim['id']}", claim["statement"]]
    if result:
        blocks.append(table(result["checks"]))
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
        said.append("Corrects " + " and ".join(claim["slip"]))
    return ". ".join(said) + "."


def table(checks):
    """What was expected and what was measured, three columns narrow enough for a phone."""
    lines = ["| quantity | expected | measured |", "|:--|--:|--:|"]
    for check in checks:
        cells = check["what"].replace("|", r"\|"), *numbers(check)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def numbers(check):
    """Expected and measured, rounded; a difference that should be 0 shown by its bound."""
    expected, measured, within = check["expected"], check["measured"], check["within"]
    if isinstance(expected, str):
        return expected, measured
    if expected == 0 and 0 < within and abs(measured) <= within:
        return "0", f"below {rounded(within)}"
    digits = 5 if within <= 1e-5 * abs(expected) else 2
    return rounded(expected, digits), rounded(measured, digits)


def rounded(x, digits=2):
    """`x` to so many significant digits: 1.3, 0.001, 51, 50,000, $6.8\\times10^{-16}$."""
    if not math.isfinite(x):
        return "not a number" if math.isnan(x) else "infinite"
    mantissa, exponent = f"{x:.{digits - 1}e}".split("e")
    if x == 0 or -4 <= int(exponent) <= 5:
        return f"{float(f'{mantissa}e{exponent}'):,.10g}".replace("-", "−")
    factor = "" if float(mantissa) == 1 else f"{float(mantissa):g}\\times"
    return f"${factor}10^{{{int(exponent)}}}$"


def main():
    """Run, write the page, and fail when a claim does."""
    code, results = run()
    if code not in (0, 1) or not results:  # neither passed nor failed: nothing to report
        print(f"{PAGE.relative_to(ROOT)} is left as it was: the claims could not be run")
        return code or 1
    PAGE.write_text(page(rows(), results), encoding="utf8")
    print(f"wrote {PAGE.relative_to(ROOT)}")
    return code


if __name__ == "__main__":
    sys.exit(main())
