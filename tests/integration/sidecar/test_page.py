"""The status page in a real Chromium: what it shows is what the sidecar did, on a screen, on a phone and in the dark.

`ASYNQ_TTL_SCREENSHOTS=FOLDER` keeps the screenshots.
"""

import os
from pathlib import Path
from urllib.request import urlopen

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select, WebDriverWait

from support.asynq import Harness
from support.browser import chromium
from support.cluster import Kind, node_ports, serve_cluster, start_cluster
from support.servers import Server, SidecarFactory, free_port, wait_until

POLICY = """
version: 1
rules:
  - {name: payments, match: {queue: payments}, archived: {ttl: forever}, completed: {ttl: 30d}}
  - {name: noise, match: {type: "ping:*"}, archived: {ttl: delete}}
  - {name: unused, match: {type: "nobody-sends-this:*"}, archived: {ttl: 1d}}
  - {name: default, archived: {ttl: 7d, max: 50000}, completed: {ttl: keep}}
"""
pytestmark = pytest.mark.system

SIZES = {"screen": (1280, 1200), "phone": (390, 1400)}


def text_of(browser: Chrome, selector: str) -> str:
    """Return the text of what a selector finds first."""
    return browser.find_element(By.CSS_SELECTOR, selector).text


def wait_for(browser: Chrome, script: str) -> None:
    """Wait until a JavaScript expression is true."""
    WebDriverWait(browser, 15).until(lambda found: found.execute_script(f"return {script}"), script)


def screenshot(browser: Chrome, folder: Path, name: str) -> None:
    """Take a screenshot; it must be a picture of something."""
    folder = Path(os.environ.get("ASYNQ_TTL_SCREENSHOTS", folder))
    path = folder / f"{name}.png"
    assert browser.save_screenshot(str(path))
    assert path.stat().st_size > 20_000, "an empty page"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_shows_what_the_sidecar_does(
    redis_server: Server, harness: Harness, start_sidecar: SidecarFactory, tmp_path: Path, scheme: str
) -> None:
    """Chart, rules, wrappers and the live table fill; filters narrow; nothing overflows; no error in the console."""
    port = free_port()
    sidecar = start_sidecar(redis_server.url, POLICY, admin=f"127.0.0.1:{port}", sweep_interval="0.5")
    sidecar.expected_warnings.append("failed open")
    profile = tmp_path / "profile"
    profile.mkdir()
    flags = ("--blink-settings=preferredColorScheme=0",) if scheme == "dark" else ()
    with chromium(profile, *flags) as browser:
        browser.set_window_size(*SIZES["screen"])
        browser.get(f"http://127.0.0.1:{port}/")
        wait_for(browser, "document.getElementById('health').textContent === 'ready'")
        with harness.start("demo", sidecar.address) as demo:
            demo.communicate(timeout=60)
        assert demo.returncode == 0
        harness.enqueue(
            sidecar.address, {"id": "live-1", "type": "job", "payload": '{"do": "skip"}', "queue": "payments"}
        )
        harness.work(sidecar.address, "-queues", "payments=1")

        wait_for(browser, "document.getElementById('live').textContent.includes('live-1')")
        wait_for(browser, "document.querySelectorAll('#chart polygon').length >= 3")
        dark = browser.execute_script("return matchMedia('(prefers-color-scheme: dark)').matches")
        assert dark == (scheme == "dark")
        assert text_of(browser, "#mode") == "enforce"
        assert browser.execute_script("return document.getElementById('nodes').hidden")
        unused = text_of(browser, "#rules tr.never")
        assert "unused" in unused
        assert "never" in unused
        assert len(browser.find_elements(By.CSS_SELECTOR, "#rules tr.never")) == 1
        assert "archive" in text_of(browser, "#wrappers")
        assert "commands" in text_of(browser, "#latency")
        screenshot(browser, tmp_path, f"{scheme}-screen")

        browser.find_element(By.CSS_SELECTOR, "#filters [name=queue]").send_keys("payments")
        Select(browser.find_element(By.CSS_SELECTOR, "#filters [name=action]")).select_by_visible_text("none")
        rows = "[...document.querySelectorAll('#live tbody tr')]"
        wait_for(browser, f"{rows}.length > 0 && {rows}.every((row) => row.textContent.includes('payments'))")
        wait_for(browser, f"{rows}.every((row) => row.cells[6].textContent === 'none')")
        browser.find_element(By.CSS_SELECTOR, "#filters [name=queue]").send_keys("[")
        wait_for(browser, "document.getElementById('filterfault').textContent.includes('queue=payments[')")
        browser.refresh()

        browser.find_element(By.ID, "pause")
        wait_for(browser, "!document.getElementById('pause').hidden")
        browser.find_element(By.ID, "pause").click()
        wait_for(browser, "document.getElementById('mode').textContent === 'paused, shadow'")
        browser.find_element(By.ID, "pause").click()
        wait_for(browser, "document.getElementById('mode').textContent === 'enforce'")

        browser.set_window_size(*SIZES["phone"])
        wait_for(browser, "document.querySelectorAll('#live tbody tr').length > 5")
        width = browser.execute_script("return [document.documentElement.scrollWidth, window.innerWidth]")
        assert width[0] <= width[1], "the page is wider than the phone"
        screenshot(browser, tmp_path, f"{scheme}-phone")
        assert [
            entry
            for entry in browser.get_log("browser")  # type: ignore[no-untyped-call] # selenium leaves it out
            if entry["level"] == "SEVERE" and "400" not in entry["message"]
        ] == []


def test_the_page_says_when_something_is_wrong(
    redis_server: Server, start_sidecar: SidecarFactory, tmp_path: Path
) -> None:
    """A refused policy file and a fail-open stand out."""
    port = free_port()
    sidecar = start_sidecar(redis_server.url, POLICY, admin=f"127.0.0.1:{port}")
    sidecar.expected_warnings += ["failed open", "not reloaded"]
    sidecar.reload("version: 1\nrules: nonsense")
    with sidecar.client() as client:
        client.eval('return redis.call("HSET", KEYS[1], "state", "archived")', 1, "asynq:{q}:t:1")
    url = f"http://127.0.0.1:{port}/"
    wait_until(lambda: b'"shape": 1' in urlopen(f"{url}api/status").read(), "no fail-open")  # noqa: S310 - loopback
    with chromium(tmp_path / "profile") as browser:
        browser.set_window_size(*SIZES["screen"])
        browser.get(url)
        wait_for(browser, "document.getElementById('faults').textContent.includes('refused')")
        wait_for(browser, "document.querySelector('.tile.bad b').textContent === '1'")
        wait_for(browser, "document.querySelector('#live tr.fault').textContent.includes('shape')")
        screenshot(browser, tmp_path, "faults")


def test_the_page_shows_the_nodes_of_a_cluster(start_sidecar: SidecarFactory, tmp_path: Path) -> None:
    """Each with its role, its slots, its wrappers and its port; one that is down is marked."""
    with start_cluster(Kind()) as cluster, chromium(tmp_path / "profile") as browser:
        sidecar = serve_cluster(start_sidecar, cluster, POLICY)
        sidecar.expected_warnings += ["is down", "sweeping failed", "does not say where", "cannot be swept"]
        browser.set_window_size(*SIZES["screen"])
        browser.get(f"http://{sidecar.admin}/")
        wait_for(browser, "document.querySelectorAll('#each-node tbody tr').length === 3")
        assert not browser.execute_script("return document.getElementById('nodes').hidden")
        text = text_of(browser, "#each-node")
        for node in cluster.nodes:
            assert f"127.0.0.1:{node.port}" in text
            assert str(node_ports(sidecar)[node.port]) in text
        assert text.count("master") == 3
        cluster.kill(cluster.nodes[0])
        wait_for(browser, "document.querySelectorAll('#each-node tr.fault').length === 1")
        assert f"127.0.0.1:{cluster.nodes[0].port}" in text_of(browser, "#each-node tr.fault")
        screenshot(browser, tmp_path, "cluster")


def test_the_page_finds_a_task(
    redis_server: Server, harness: Harness, start_sidecar: SidecarFactory, tmp_path: Path
) -> None:
    """By its ID, whatever that is: what it is now, what became of it, and that nothing is known of another one."""
    port = free_port()
    sidecar = start_sidecar(redis_server.url, POLICY, admin=f"127.0.0.1:{port}", decisions=str(tmp_path / "decisions"))
    harness.enqueue(
        sidecar.address,
        {"id": 'a <b>&"1', "type": "job", "payload": '{"do": "skip"}', "queue": "payments"},
        {"id": "gone", "type": "ping:x", "payload": '{"do": "skip"}'},
    )
    harness.work(sidecar.address, "-queues", "payments=1,default=1")
    with chromium(tmp_path / "profile") as browser:
        browser.set_window_size(*SIZES["screen"])
        browser.get(f"http://127.0.0.1:{port}/")
        wait_for(browser, "document.getElementById('health').textContent === 'ready'")

        def find(task_id: str, said: str) -> None:
            field = browser.find_element(By.CSS_SELECTOR, "#find [name=id]")
            field.clear()
            field.send_keys(task_id)
            browser.find_element(By.ID, "search").click()
            wait_for(browser, f"document.getElementById('found').textContent.includes({said!r})")

        find("gone", "It is gone: rule noise does not keep such a task")
        find("nobody", "Nothing is known of task nobody.")
        find('a <b>&"1', "is archived, in queue payments")
        assert "Nothing removes it: rule payments keeps it for ever." in text_of(browser, "#found")
        browser.set_window_size(*SIZES["phone"])
        width = browser.execute_script("return [document.documentElement.scrollWidth, window.innerWidth]")
        assert width[0] <= width[1], "the page is wider than the phone"
        screenshot(browser, tmp_path, "found")
        assert [
            entry
            for entry in browser.get_log("browser")  # type: ignore[no-untyped-call] # selenium leaves it out
            if entry["level"] == "SEVERE"
        ] == []
