"""Headless Chromium, driven over WebDriver's HTTP protocol by Debian's chromium-driver."""
import base64
import contextlib
import pathlib
import re
import shutil
import subprocess
import time

import pytest
import requests

_CHROMIUM, _DRIVER = ("chromium", "chromium-browser", "google-chrome"), "chromedriver"
_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"


class Browser:
    """A window.

    Args:
      address: of the session at the driver.
    """

    def __init__(self, address):
        self._address = address

    def do(self, command, method="POST", **values):
        """The value that a command of WebDriver returns."""
        answer = requests.request(method, f"{self._address}/{command}", json=values or {})
        value = answer.json()["value"]
        assert answer.ok, value
        return value

    def look(self, width, height=900, dark=False, mobile=False):
        """Makes the window of this size, in CSS pixels, in light or dark."""
        self._cdp("Emulation.setDeviceMetricsOverride", width=width, height=height,
                  deviceScaleFactor=1, mobile=mobile)
        self._cdp("Emulation.setEmulatedMedia", features=[
            {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])

    def run(self, script, *arguments):
        """What a JavaScript function body returns."""
        return self.do("execute/sync", script=script, args=list(arguments))

    def wait(self, script):
        """Waits until a JavaScript expression is true; pytest is stopped by hand if it never is."""
        while not (value := self.run(f"return {script}")):
            time.sleep(0.02)
        return value

    def type(self, selector, text):
        """Types into the element that a selector finds."""
        found = self.do("element", using="css selector", value=selector)[_ELEMENT]
        if max(text, default="") <= "\uffff":
            self.do(f"element/{found}/value", text=text)
        else:   # the driver has no keys for these
            self.run("arguments[0].focus()", {_ELEMENT: found})
            self._cdp("Input.insertText", text=text)

    def click(self, selector):
        """Clicks on it."""
        found = self.do("element", using="css selector", value=selector)[_ELEMENT]
        self.do(f"element/{found}/click")

    def press(self, *keys):
        """Presses keys one after the other where the focus is."""
        self.do("actions", actions=[{"type": "key", "id": "keys", "actions": [
            {"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]}])

    def shoot(self, path):
        """Writes a picture of the whole page."""
        size = self.run("const page = document.documentElement; "
                        "return [page.clientWidth, page.scrollHeight]")
        found = self._cdp("Page.captureScreenshot", captureBeyondViewport=True, clip={
            "x": 0, "y": 0, "width": size[0], "height": size[1], "scale": 1})
        pathlib.Path(path).write_bytes(base64.b64decode(found["data"]))

    def complaints(self):
        """What the console has had of warnings and errors since the last call."""
        return [entry["message"] for entry in self.do("se/log", type="browser")]

    def _cdp(self, command, **values):
        return self.do("goog/cdp/execute", cmd=command, params=values)


@contextlib.contextmanager
def browser():
    """A Browser; skips the test where there is no Chromium."""
    binary, driver = next(filter(None, map(shutil.which, _CHROMIUM)), None), shutil.which(_DRIVER)
    if not binary or not driver:
        pytest.skip("no Chromium here: apt install chromium chromium-driver")
    with subprocess.Popen([driver, "--port=0"], stdout=subprocess.PIPE, text=True) as process:
        try:
            port = next(found[1] for line in process.stdout
                        if (found := re.search(r"started successfully on port (\d+)", line)))
            answer = requests.post(f"http://127.0.0.1:{port}/session", json={"capabilities": {
                "alwaysMatch": {"goog:loggingPrefs": {"browser": "ALL"}, "goog:chromeOptions": {
                    "binary": binary, "args": ["--headless=new", "--no-sandbox", "--disable-gpu",
                                               "--disable-dev-shm-usage"]}}}}).json()["value"]
            assert "sessionId" in answer, answer
            session = f"http://127.0.0.1:{port}/session/{answer['sessionId']}"
            yield Browser(session)
            requests.delete(session)
        finally:
            process.terminate()
