"""How a test becomes a line of book/claims.md or of book/errata.md.

The fixture `check` belongs to claims, `apart` to slips; the report of a run gathers their lines.
"""

import json
from pathlib import Path

import pytest
import torch

LINES = {"claim": "check", "slip": "apart"}  # marker → the fixture whose lines its page shows


def pytest_addoption(parser):
    parser.addoption("--claims-report", metavar="FILE", help="write expected and measured as JSON")


def pytest_configure(config):
    file = config.getoption("claims_report", None)
    if file and not hasattr(config, "workerinput"):  # xdist's workers report to one controller
        config.pluginmanager.register(Report(Path(file)))


def pytest_collection_modifyitems(items):
    """Write a test's markers into its report, in a form that survives the way from a worker."""
    for item in items:
        for marker in LINES:
            item.user_properties += [(marker, mark.args[0]) for mark in item.iter_markers(marker)]


@pytest.fixture(autouse=True)
def same_numbers_every_time():
    """A test that draws from the global stream measures something else on each run."""
    before = torch.random.get_rng_state()
    yield
    assert torch.equal(before, torch.random.get_rng_state()), "pass a generator"


@pytest.fixture
def check(request):
    """check("what", expected=…, measured=…, within=…) asserts |measured − expected| ≤ within.

    Two strings, or a number and `within` left at 0, must be equal. Each call becomes a line of the
    page; of a difference that should be zero the page says only that it is below `within`.
    """

    def compare(what, *, expected, measured, within=0.0):
        __tracebackhide__ = True
        if not isinstance(expected, str):
            expected, measured, within = float(expected), float(measured), float(within)
        line = {"what": what, "expected": expected, "measured": measured, "within": within}
        request.node.user_properties.append(("check", line))
        close = expected == measured or (
            not isinstance(expected, str) and abs(measured - expected) <= within
        )
        assert close, f"{what}: expected {expected}, measured {measured}, allowed ± {within}"

    return compare


@pytest.fixture
def apart(request):
    """apart("what", printed=…, right=…, by=…) asserts |printed − right| > by > 0.

    `printed` is what the source's formula gives, `right` what is true, both computed; `by` is the
    error they could have between them. Two strings must differ. Each call becomes a line of the
    page; that `right` is right is for `check` or a plain assert to show.
    """

    def compare(what, *, printed, right, by=0.0):
        __tracebackhide__ = True
        assert isinstance(printed, str) == isinstance(right, str), "two numbers or two strings"
        if not isinstance(right, str):
            printed, right, by = float(printed), float(right), float(by)
            assert by > 0, f"{what}: say by how much they differ"
        line = {"what": what, "printed": printed, "right": right, "by": by}
        request.node.user_properties.append(("apart", line))
        differ = printed != right if isinstance(right, str) else abs(printed - right) > by
        assert differ, f"{what}: {printed} as printed, right {right}, not apart by {by}"

    return compare


class Report:
    """Gather claim or slip → tests, verdict, checks while the tests run; write them at the end."""

    def __init__(self, file):
        self.file, self.claims = file, {}

    def pytest_runtest_logreport(self, report):
        if report.when != "call" and report.passed:
            return
        for marker, fixture in LINES.items():
            lines = [value for key, value in report.user_properties if key == fixture]
            for name in [value for key, value in report.user_properties if key == marker]:
                self.note(name, lines, report)

    def note(self, name, lines, report):
        empty = {"tests": [], "verdict": "holds", "checks": []}
        claim = self.claims.setdefault(name, empty)
        if (test := report.nodeid.split("[")[0]) not in claim["tests"]:
            claim["tests"].append(test)
        claim["checks"] += lines
        if not report.passed:
            claim["verdict"] = "fails"

    def pytest_sessionfinish(self):
        text = json.dumps(dict(sorted(self.claims.items())), indent=1, ensure_ascii=False)
        self.file.write_text(text + "\n", encoding="utf8")
