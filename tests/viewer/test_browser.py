"""The page in a real browser, without a screen."""

from __future__ import annotations

import shutil
import time

import numpy as np
import pytest
from open_hand import CAMERA, TEMPLATE, make_hand

pytest.importorskip("viser", reason="needs the viewer extra")
pytest.importorskip("playwright", reason="needs playwright: pip install playwright")

from playwright import sync_api as playwright

from hand_perception.hands import Side
from hand_perception.viewer.page import HandPage

# Debian's and Ubuntu's names, then Chrome's own; else the one that playwright has downloaded.
_NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
_PATIENCE = 120.0  # seconds until a test gives up; nothing waits for so long


@pytest.fixture(scope="module")
def browser():
    path = next(filter(None, map(shutil.which, _NAMES)), None)
    software = ["--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
    with playwright.sync_playwright() as api:
        try:
            browser = api.chromium.launch(executable_path=path, args=[*software, "--no-sandbox"])
        except playwright.Error as error:
            pytest.skip(f"no browser: apt install chromium ({str(error).splitlines()[0]})")
        yield browser
        browser.close()


def test_a_browser_shows_hands_counts_them_and_hides_them(browser):
    hands = [
        make_hand(track_id=3),
        make_hand(Side.LEFT, at=(0.2, 0.0, 0.5), track_id=8),
    ]
    errors: list[str] = []
    with HandPage(port=18300) as page:
        tab = browser.new_page(viewport={"width": 640, "height": 360})
        tab.set_default_timeout(1000 * _PATIENCE)
        tab.on("pageerror", lambda error: errors.append(str(error)))
        page.show(np.full((480, 640, 3), 90, np.uint8), CAMERA, hands, TEMPLATE.faces, 1.0)
        tab.goto(page.url)
        tab.get_by_role("cell", name="right").wait_for()
        assert tab.get_by_role("row").count() == 3, "a heading and two hands"
        tab.get_by_text("results per second").wait_for()
        # Skeletons are as colourful as surfaces: what is counted is what goes with the meshes.
        for box in ("joints", "labels", "picture"):
            tab.get_by_label(box, exact=True).uncheck()
        wait_until(page, hands, lambda warm, cool: min(warm, cool) > 200)
        tab.get_by_label("meshes", exact=True).uncheck()
        wait_until(page, hands, lambda warm, cool: max(warm, cool) < 50)
    assert errors == []


def wait_until(page: HandPage, hands, wanted) -> None:
    """Show the hands over and over, as a node does, until the browser draws what is wanted: so
    many pixels in the colours of a right and of a left hand's surface."""
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        page.show(None, CAMERA, hands, TEMPLATE.faces, time.monotonic())
        seen = warm_and_cool(page)
        if wanted(*seen):
            return
    raise AssertionError(f"the browser draws {seen} warm and cool pixels")


def warm_and_cool(page: HandPage) -> tuple[int, int]:
    """Pixels of what the browser draws from the middle of the hands' distance."""
    (client,) = page.server.get_clients().values()
    drawn = client.get_render(
        120,
        160,
        wxyz=(1.0, 0.0, 0.0, 0.0),
        position=(0.1, 0.0, -0.1),
        fov=0.8,
        timeout=_PATIENCE,
    )
    red, _, blue = np.moveaxis(drawn.astype(int), -1, 0)
    return int((red - blue > 40).sum()), int((blue - red > 40).sum())
