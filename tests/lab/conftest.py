"""A real JupyterLab, started as `make lab` starts it, on a copy of the notebooks."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from jupyter_client import BlockingKernelClient

ROOT = Path(__file__).parents[2]
PATIENCE = 60  # seconds, for what a busy machine may keep waiting

# jupyterlab-myst sees one notebook at a time: what stands on another page it reports as missing.
ELSEWHERE = "Cross reference target was not found: "
NOISE = (  # what JupyterLab says when a kernel is restarted, or a cell is slow to come on screen
    "Item with index ",
    "Connection lost, reconnecting in 0 seconds.",
    "Could not restore the debugger state: Canceled future for debug_request message",
    "History was unable to be retrieved",
)


class Lab:
    """A running server: its folder and its address, which holds the token."""

    def __init__(self, folder: Path):
        self.folder = folder
        names = ("CONFIG_DIR", "DATA_DIR", "RUNTIME_DIR")
        own = {f"JUPYTER_{name}": str(folder / name.lower()) for name in names}
        own |= {"JUPYTERLAB_SETTINGS_DIR": str(folder / "settings"), "IPYTHONDIR": str(folder)}
        kept = {k: v for k, v in os.environ.items() if k not in ("JUPYTER_TOKEN", "BROWSER")}
        self.environment = kept | own | {"JUPYTER_PLATFORM_DIRS": "1", "PYTHONPATH": str(ROOT)}

    @contextlib.contextmanager
    def running(self):
        """The server, from its start to its end; its log is shown when it does not come up."""
        book = shutil.copytree(ROOT / "book", self.folder / "book")
        self.jupyter("trust", *sorted(book.glob("*.ipynb")), stdout=subprocess.DEVNULL).wait()
        with (self.folder / "log").open("w") as log:
            command = ["--allow-root", "--no-browser", "--port=0", "--expose-app-in-browser",
                       f"--LabApp.workspaces_dir={self.folder / 'workspaces'}",
                       f"--ServerApp.root_dir={book}"]  # fmt: skip
            config = ["--config", ROOT / "tools/lab/config.py"]
            server = self.jupyter("lab", *config, *command, stdout=log, stderr=log)
            try:
                self.about = self.when_up(server)
                yield self
            finally:
                server.terminate()
                server.wait(PATIENCE)

    def choose(self, plugin, **settings):
        """Settings of the page, as a reader would change them; for tabs opened from now on."""
        file = self.folder / f"settings/@jupyterlab/{plugin}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(settings))

    def jupyter(self, *words, **options):
        """`jupyter …` with the settings of this folder alone."""
        command = [sys.executable, "-m", "jupyter", *map(str, words)]
        return subprocess.Popen(command, env=self.environment, **options)

    def when_up(self, server):
        """What the server writes about itself, once it answers."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end and server.poll() is None:
            with contextlib.suppress(OSError, StopIteration, json.JSONDecodeError):
                about = json.loads(
                    next((self.folder / "runtime_dir").glob("jpserver-*.json")).read_text()
                )
                urllib.request.urlopen(f"{about['url']}api", timeout=PATIENCE).close()
                return about
            time.sleep(0.1)
        raise RuntimeError((self.folder / "log").read_text())

    def address(self, path):
        """Where the page opens the file `path`, with an empty layout of tabs."""
        return f"{self.about['url']}lab/tree/{path}?token={self.about['token']}&reset"

    def ask(self, path):
        """What the server's interface answers about `path`."""
        address = f"{self.about['url']}api/{path}?token={self.about['token']}"
        with urllib.request.urlopen(address, timeout=PATIENCE) as answer:
            return json.load(answer)

    @contextlib.contextmanager
    def kernel(self, notebook):
        """`evaluate(code)` in the kernel of an open notebook: the value as Python prints it."""
        (session,) = [s for s in self.ask("sessions") if s["path"] == notebook]
        file = self.folder / "runtime_dir" / f"kernel-{session['kernel']['id']}.json"
        client = BlockingKernelClient(connection_file=str(file))
        client.load_connection_file()
        client.start_channels()

        def evaluate(code):
            asked = {"store_history": False, "reply": True, "timeout": PATIENCE}
            reply = client.execute("", user_expressions={"it": code}, **asked)["content"]
            it = reply["user_expressions"]["it"]
            assert it["status"] == "ok", it
            return it["data"]["text/plain"]

        try:
            yield evaluate
        finally:
            client.stop_channels()


class Listener:
    """What a page said and asked for that it should not have."""

    def __init__(self, page, url):
        self.url, self.complaints, self.missing = url, [], set()
        page.on("console", self.heard)
        page.on("pageerror", lambda error: self.complaints.append(f"page error: {error}"))
        page.on("request", self.asked)
        page.on("websocket", self.asked)
        page.on("response", self.answered)

    def heard(self, message):
        if message.type not in ("error", "warning"):
            return
        for line in message.text.splitlines():
            if line.startswith(ELSEWHERE):
                self.missing.add(line.removeprefix(ELSEWHERE))
            elif not line.startswith(NOISE):
                self.complaints.append(f"console {message.type}: {line}")

    def asked(self, request):
        here = (self.url, self.url.replace("http:", "ws:"), "data:", "blob:")
        if not request.url.startswith(here):
            self.complaints.append(f"asks a third party: {request.url}")

    def answered(self, response):
        if response.status >= 400:
            self.complaints.append(f"{response.status}: {response.url}")


@pytest.fixture(scope="session")
def lab(tmp_path_factory):
    """JupyterLab on a copy of the notebooks."""
    with Lab(tmp_path_factory.mktemp("lab")).running() as lab:
        yield lab


@pytest.fixture(scope="session")
def tab(browser, lab):
    """`tab(path)`: that file open in JupyterLab, as a page whose Listener is `page.ear`."""
    contexts = []

    def open_tab(path):
        size = {"width": 1300, "height": 1000}
        contexts.append(browser.new_context(viewport=size, reduced_motion="reduce"))
        page = contexts[-1].new_page()
        page.set_default_timeout(1000 * PATIENCE)
        page.ear = Listener(page, lab.about["url"])
        page.goto(lab.address(path))
        return page

    yield open_tab
    for context in contexts:
        context.close()
