"""The jobs that GitHub runs: complete, bounded, with no more rights than they use."""

from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
FILES = sorted(ROOT.glob(".github/workflows/*.yml"))
WRITES = {("pages", "deploy"): {"pages", "id-token"}, ("weekly", "links"): {"issues"}}


@pytest.fixture(params=FILES, ids=lambda path: path.stem)
def path(request):
    return request.param


def read(path):
    return yaml.safe_load(path.read_text(encoding="utf8"))


def test_every_chapter_is_run_in_one_job():
    digits = read(ROOT / ".github/workflows/test.yml")["jobs"]["notebooks"]["strategy"]["matrix"]
    run = [path for part in digits["digits"] for path in ROOT.glob(f"book/?[{part}]_*.ipynb")]
    assert sorted(run) == sorted(ROOT.glob("book/*.ipynb"))


def commands(workflow):
    """Every command of a workflow, once for each part of its matrix."""
    for job in workflow["jobs"].values():
        for part in job["strategy"]["matrix"].get("part", [""]):
            for step in job["steps"]:
                yield step.get("run", "").replace("${{ matrix.part }}", part)


def test_every_part_of_make_test_is_a_job():
    makefile = (ROOT / "Makefile").read_text(encoding="utf8")
    parts = makefile.partition("\ntest:")[2].partition("##")[0].split()
    given = " ".join(commands(read(ROOT / ".github/workflows/test.yml"))).split()
    assert parts and set(parts) <= set(given)


def test_every_job_has_an_end(path):
    jobs = read(path)["jobs"].values()
    assert all("timeout-minutes" in job or "uses" in job for job in jobs)


def test_rights_are_the_least(path):
    workflow = read(path)
    assert workflow["permissions"] == {"contents": "read"}
    for name, job in workflow["jobs"].items():
        given = {right for right, how in job.get("permissions", {}).items() if how == "write"}
        assert given == WRITES.get((path.stem, name), set())


def test_actions_are_pinned(path):
    steps = [step for job in read(path)["jobs"].values() for step in job.get("steps", [])]
    for action in (step["uses"] for step in steps if "uses" in step):
        assert action.partition("@v")[2].isdigit(), action
