"""What is wrong with a text that stands for a picture, as far as a machine can tell."""

import re

FEWEST, MOST = 40, 500
OPENING = r"(?i)(an? |the )?(image|picture|figure|photo|plot|graph|screenshot) (of|show)"


def faults(alt: str, caption: str = "") -> list[str]:
    """One line for each rule that `alt`, beside its `caption`, breaks."""
    return [fault for fault, broken in {
        f"has {len(alt)} characters, not {FEWEST} to {MOST}": not FEWEST <= len(alt) <= MOST,
        "is a path": re.search(r"\.(png|jpe?g|gif|svg)$|^\S+$", alt),
        "repeats the caption": alt.strip() == caption.strip(),
        "holds LaTeX, which is read out sign by sign": re.search(r"[$\\]", alt),
        "opens with what every alt text could": re.match(OPENING, alt),
        "does not end with a full stop": not alt.endswith("."),
    }.items() if broken]  # fmt: skip
