"""Find a Chromium to drive; fetch one where there is none; otherwise say how to get it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

NAMES = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome"]
MAC = Path("/Applications/Google Chrome.app/Contents/MacOS/Google Chrome")
HELP = "No browser found. Type: .venv/bin/python -m playwright install --with-deps chromium"


def installed():
    """Path of a Chromium or Chrome on this machine, or None."""
    found = filter(None, map(shutil.which, NAMES))
    return next(found, str(MAC) if MAC.exists() else None)


def playwrights_own(playwright):
    """Path of the browser Playwright downloaded earlier, or None."""
    path = playwright.chromium.executable_path
    return path if Path(path).exists() else None


def install():
    """Try the system's packages when we may, then Playwright's download; True if one worked."""
    apt = ["apt-get", "install", "-y", "--no-install-recommends", "chromium"]
    if shutil.which("apt-get") and os.geteuid() == 0:
        runs(["apt-get", "update"])
        if runs(apt) and installed():
            return True
    return runs([sys.executable, "-m", "playwright", "install", "chromium"])


def runs(command):
    """True if `command` succeeds; its own output goes to stderr."""
    return subprocess.run(command, stdout=sys.stderr, check=False).returncode == 0


def find(playwright):
    """Path of a usable browser; raises RuntimeError with the one line to type."""
    path = installed() or playwrights_own(playwright)
    if path is None and install():
        path = installed() or playwrights_own(playwright)
    if path is None:
        raise RuntimeError(HELP)
    return path


def launch(playwright):
    """A headless Chromium; without its sandbox, which containers forbid."""
    return playwright.chromium.launch(executable_path=find(playwright), args=["--no-sandbox"])
