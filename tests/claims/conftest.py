"""How a test becomes a line of book/claims.md: the fixture `check` and the report of a run."""

import json
from pathlib import Path

import pytest


def pytest_addoption(parser):
    parser.addoption("--claims-report", metavar="FILE", help="write expected and measured as JSON")


def pytest_configure(config):
    file = config.getoption("claims_report", None)
    if file and not hasattr(config, "workerinput"):  # xdist's workers report to one controller
        config.pluginmanager.register(Report(Path(file)))


def pytest_collection_modifyitems(items):
    """Write the claims of a test into its report, in a form that survives the way from a worker."""
    for item in items:
        item.user_properties += [("claim", mark.args[0]) for mark in item.iter_markers("claim")]


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


class Report:
    """Gather claim → tests, verdict and checks while the tests run; write them at the end."""

    def __init__(self, file):
        self.file, self.claims = file, {}

    def pytest_runtest_logreport(self, report):
        if report.when != "call" and report.passed:
            return
        names = [value for key, value in report.user_properties if key == "claim"]
        lines = [value for key, value in report.user_properties if key == "check"]
        for name in names:
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
