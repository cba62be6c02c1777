"""Build the website as `make site` does, into a folder of one's choice."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
STRICT = ["--all", "-W", "-n", "--keep-going", "--quiet"]  # a warning is an error


def built(folder: Path) -> Path:
    """Folder of the finished site: the one in SBM_LITE_SITE, or one built now below `folder`."""
    if ready := os.environ.get("SBM_LITE_SITE"):
        return ROOT / ready
    program = Path(sys.executable).with_name("jupyter-book")
    command = [program, "build", str(ROOT), "--path-output", str(folder), *STRICT]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return folder / "_build" / "html"
