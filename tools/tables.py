"""Numbers and tables of the generated pages, claims.md and errata.md."""

import math


def table(header, lines):
    """A Markdown table: words to the left, the two numbers to the right."""
    rows = [(what.replace("|", r"\|"), *numbers) for what, *numbers in lines]
    first, *rest = (f"| {' | '.join(row)} |" for row in [header, *rows])
    return "\n".join([first, "|:--|--:|--:|", *rest])


def rounded(x, digits=2):
    """`x` to so many significant digits: 1.3, 0.001, 51, 50,000, $6.8\\times10^{-16}$."""
    if not math.isfinite(x):
        return "not a number" if math.isnan(x) else "infinite"
    mantissa, exponent = f"{x:.{digits - 1}e}".split("e")
    if x == 0 or -4 <= int(exponent) <= 5:
        return f"{float(f'{mantissa}e{exponent}'):,.10g}".replace("-", "−")
    factor = "" if float(mantissa) == 1 else f"{float(mantissa):g}\\times"
    return f"${factor}10^{{{int(exponent)}}}$"
