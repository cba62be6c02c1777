"""How JupyterLab starts for this book: `make lab`.

On this machine only, behind a token, with its own layout of tabs, asking nobody for news, updates
or extensions. `overrides.json` beside this file holds the settings of the page: the state of
widgets is saved, so that a notebook opened without a kernel is not full of errors (`make notebooks`
takes it out again), and pages open as text to read. `custom.css` makes boxes and pictures
look as on the website.
"""

import sys
from pathlib import Path

HERE = Path(__file__).parent
BOOK = HERE.parents[1] / "book"

c = get_config()
c.ServerApp.ip = "127.0.0.1"
c.ServerApp.root_dir = str(BOOK)
c.ServerApp.tornado_settings = {"static_custom_path": [str(HERE)]}  # where custom.css is
c.ContentsManager.hide_globs = ["_*", "__pycache__", "assets", "*.py", "*.yml", "*.bib"]
c.LabApp.default_url = "/lab/tree/start.md"
c.LabApp.app_settings_dir = str(HERE)
c.LabApp.workspaces_dir = str(Path(sys.prefix) / "share/jupyter/lab/workspaces")
c.LabApp.custom_css = True
c.LabApp.extension_manager = "readonly"
