"""Every package has one version: the one in constraints.txt, wherever it comes from."""

import re
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
OF_ITS_OWN = re.compile(r"nvidia-|cuda-|triton$")  # torch names them, and they differ by machine


def lines(name):
    """The lines of a file of requirements that ask for something."""
    text = (ROOT / name).read_text(encoding="utf8")
    said = (line.partition("#")[0].strip() for line in text.splitlines())
    return [line for line in said if line and not line.startswith("-")]


def asked(requirements, extras=("",)):
    """Those requirements that this Python, on this machine, has to meet."""
    for requirement in map(Requirement, requirements):
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in extras):
            yield requirement


def version(requirement):
    """The one version that a line of exact pins allows."""
    (only,) = requirement.specifier
    assert only.operator == "==" and "*" not in only.version, requirement
    return Version(only.version)


def pins():
    """The version of each package for this Python, by its canonical name."""
    return {canonicalize_name(r.name): version(r) for r in asked(lines("constraints.txt"))}


def installed(requirements):
    """The version of everything that these requirements bring, and theirs in turn; None where it
    is missing."""
    found, met, waiting = {}, set(), [*asked(requirements)]
    while waiting:
        one = waiting.pop()
        name, extras = canonicalize_name(one.name), frozenset(("", *one.extras))
        if (name, extras) in met:
            continue
        met.add((name, extras))
        package = next(iter(metadata.distributions(name=name)), None)
        found[name] = package and Version(Version(package.version).public)
        waiting += asked(package.requires or [], extras) if package else []
    return found


def strays(found, pinned):
    """What is missing, not pinned, or not as it is pinned."""
    there = {name: v for name, v in found.items() if not OF_ITS_OWN.match(name)}
    return {name for name, v in there.items() if v is None or v != pinned.get(name)}


def test_what_is_installed_is_what_is_pinned():
    found = installed([*lines("requirements.txt"), *(metadata.requires("sbm-lite") or [])])
    assert len(found) > 150
    assert strays(found, pins()) == set()


def test_a_stray_would_be_seen():
    found, pinned = installed(["nbclient", "no-such-package"]), pins()
    assert {"nbclient", "jupyter-core", "platformdirs"} <= set(found)  # each asks for the next
    assert strays(found, pinned) == {"no-such-package"}
    del pinned["platformdirs"]
    older = pinned | {"jupyter-core": Version("0.1")}
    assert strays(found, older) == {"no-such-package", "platformdirs", "jupyter-core"}


def test_the_two_files_agree():
    pinned = pins()
    for requirement in map(Requirement, lines("requirements.txt")):
        name = canonicalize_name(requirement.name)
        assert version(requirement) == pinned[name], f"{name}: make pins"


def test_pip_is_told_of_the_constraints():
    text = (ROOT / "requirements.txt").read_text(encoding="utf8")
    assert "\n-c constraints.txt\n" in text


def test_what_differs_by_machine_stays_out():
    assert not [line for line in lines("constraints.txt") if OF_ITS_OWN.match(line)]


# What pip-audit has found, and somebody has looked at

ADVISORY = re.compile(
    r"(?P<id>(?:GHSA|PYSEC|CVE)-[\w-]+) (?P<package>[\w.-]+), \d{4}-\d\d-\d\d: \S.{20,}"
)


def unclear(advisory):
    """Whether a line does not say which advisory of which package is let pass, since when, why."""
    found = ADVISORY.fullmatch(advisory)
    return not found or canonicalize_name(found["package"]) not in pins()


def test_what_the_audit_lets_pass_has_been_looked_at():
    assert not [line for line in lines(".github/advisories.txt") if unclear(line)]


@pytest.mark.parametrize(
    "advisory",
    [
        "CVE-2030-1 torch",
        "CVE-2030-1 torch, 2030-01-02: fine",
        "torch, 2030-01-02: only reached with a file of somebody else",
        "CVE-2030-1 no-such-package, 2030-01-02: only reached with a file of somebody else",
    ],
)
def test_an_advisory_without_a_reason_would_be_seen(advisory):
    assert unclear(advisory)
    assert not unclear("CVE-2030-1 torch, 2030-01-02: only reached with a file of somebody else")
