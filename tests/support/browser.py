"""A real Chromium, without a window, for tests of the status page: Debian's, driven by its own chromedriver."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service

_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--force-device-scale-factor=1",
)


@contextmanager
def chromium(folder: Path, *flags: str) -> Iterator[Chrome]:
    """Run a Chromium with an empty user data folder."""
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    assert program, "there is no chromium on PATH: apt-get install chromium"
    assert driver, "there is no chromedriver on PATH: apt-get install chromium-driver"
    options = ChromeOptions()
    options.binary_location = program
    for flag in (*_FLAGS, f"--user-data-dir={folder}", *flags):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = Chrome(options, Service(driver))
    try:
        yield browser
    finally:
        browser.quit()
