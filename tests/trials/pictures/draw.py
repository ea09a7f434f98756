"""Take the pictures of the README and the documentation again: the status page and an audit, after the demo's load.

    make pictures

Real Asynq runs through a sidecar; Debian's Chromium looks at what it shows.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

# The folder `tests` has the parts: servers, Asynq, a browser.
sys.path.append(str(Path(__file__).resolve().parents[2]))

from selenium.webdriver.support.ui import WebDriverWait

from asynq_ttl.demo.harness import build_harness
from support.asynq import Harness
from support.browser import chromium
from support.commands import command_line
from support.paths import ROOT
from support.servers import Server, free_port, start_valkey, wait_until

PICTURES = ROOT / "docs" / "images"
_SIZE = (1280, 1100)
_POLICY = """
version: 1
rules:
  - {name: payments, match: {queue: payments}, archived: {ttl: forever}, completed: {ttl: 30d}}
  - {name: noise, match: {type: "ping:*"}, archived: {ttl: delete}}
  - {name: default, archived: {ttl: 7d, max: 50000}, completed: {ttl: keep}}
"""
_DECIDED = "document.querySelectorAll('#chart polygon').length >= 3"


def main() -> None:
    """Take both."""
    with TemporaryDirectory() as name, start_valkey() as server, Harness(build_harness()) as harness:
        folder = Path(name)
        (folder / "policy.yaml").write_text(_POLICY)
        address, admin = (f"127.0.0.1:{free_port()}" for _ in range(2))
        with _serving(folder, server, address, admin), chromium(folder / "browser") as browser:
            browser.set_window_size(*_SIZE)
            ready = command_line("ready", "--admin", admin)
            wait_until(lambda: subprocess.run(ready, check=False).returncode == 0, "the sidecar is not ready")
            browser.get(f"http://{admin}/")
            # Twice, so that the chart has something to show.
            for _ in range(2):
                harness.start("demo", address).communicate(timeout=60)
            WebDriverWait(browser, 15).until(lambda found: found.execute_script(f"return {_DECIDED}"))
            browser.save_screenshot(str(PICTURES / "page.png"))
            audit = command_line("audit", "--upstream", server.url, "--html", str(folder / "audit.html"))
            subprocess.run(audit, check=False, stdout=subprocess.DEVNULL)  # its status is what it has found
            browser.get(f"file://{folder / 'audit.html'}")
            browser.save_screenshot(str(PICTURES / "audit.png"))


@contextmanager
def _serving(folder: Path, server: Server, address: str, admin: str) -> Iterator[None]:
    """Run a sidecar whose page names its policy file without a folder."""
    options = ["--listen", address, "--upstream", server.url, "--admin", admin, "--policy", "policy.yaml"]
    with subprocess.Popen(command_line("serve", *options), cwd=folder, env=os.environ) as sidecar:
        try:
            yield
        finally:
            sidecar.terminate()


if __name__ == "__main__":
    main()
