"""The pages of the website, and how to build it as `make site` does, into a folder one chooses."""

import os
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
STRICT = ["--all", "-W", "-n", "--keep-going", "--quiet"]  # a warning is an error


def toc_pages() -> list[str]:
    """Every page of _toc.yml as a path of the site, e.g. book/03_langevin.html."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf8"))
    entries = [entry for part in toc["parts"] for entry in part["chapters"]]
    files = [name for entry in entries for name in files_of(entry)]
    return [f"{name}.html" for name in (toc["root"], *files)]


def files_of(entry: dict) -> list[str]:
    """An entry of _toc.yml and those below it."""
    return [entry["file"], *(name for e in entry.get("sections", ()) for name in files_of(e))]


def built(folder: Path) -> Path:
    """Folder of the finished site: the one in SBM_LITE_SITE, or one built now below `folder`."""
    if ready := os.environ.get("SBM_LITE_SITE"):
        return ROOT / ready
    program = Path(sys.executable).with_name("jupyter-book")
    command = [program, "build", str(ROOT), "--path-output", str(folder), *STRICT]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return folder / "_build" / "html"
