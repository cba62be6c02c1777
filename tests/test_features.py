"""The table of what a reader finds here and elsewhere: each "yes" of ours is a test that exists."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LINES = (ROOT / "tests" / "FEATURES.md").read_text(encoding="utf8").splitlines()
HEAD, _, *ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")] for line in LINES if line.startswith("|")
]
SHOWN = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")


@cache
def defined_in(path):
    tree = ast.parse((ROOT / path).read_text(encoding="utf8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_there_are_features_enough_and_each_once():
    assert len({row[0] for row in ROWS}) == len(ROWS) >= 30


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_a_feature_is_shown_by_a_test_or_argued_away(row):
    feature, ours, *theirs = row
    assert len(theirs) == len(HEAD) - 2 and set(theirs) <= {"yes", "partly", "no", "?"}
    shown = SHOWN.fullmatch(ours)
    if shown:
        path, name = shown.groups()
        assert name in defined_in(path)
    else:
        assert re.match(r"no: .{40}", ours)
