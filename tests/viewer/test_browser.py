"""The page in a real browser, without a screen."""

from __future__ import annotations

import shutil

import cv2
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
_PATIENCE = 60_000  # milliseconds; nothing waits for so long


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


def pixels(tab) -> np.ndarray:
    """RGB of the 3D view beside the panel, [H, W, 3]."""
    data = tab.screenshot(clip={"x": 0, "y": 0, "width": 500, "height": 640}, timeout=_PATIENCE)
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1].astype(int)


def warm_and_cool(tab) -> tuple[int, int]:
    """How many pixels have the colours of a right and of a left hand's surface."""
    red, _, blue = np.moveaxis(pixels(tab), -1, 0)
    return int((red - blue > 40).sum()), int((blue - red > 40).sum())


def test_hands_are_seen_counted_and_hidden(browser):
    right = make_hand(track_id=3)
    left = make_hand(Side.LEFT, at=(0.2, 0.0, 0.5), track_id=8)
    errors = []
    with HandPage(port=18300) as page:
        tab = browser.new_page(viewport={"width": 900, "height": 640})
        tab.on("pageerror", lambda error: errors.append(str(error)))
        page.show(np.full((480, 640, 3), 90, np.uint8), CAMERA, [right, left], TEMPLATE.faces, 1.0)
        tab.goto(page.url)
        tab.get_by_role("cell", name="right").wait_for(timeout=_PATIENCE)
        assert tab.get_by_role("row").count() == 3, "a heading and two hands"
        tab.get_by_text("results per second").wait_for(timeout=_PATIENCE)
        # Skeletons are as colourful as surfaces: what is counted is what goes with the meshes.
        tab.get_by_label("joints").uncheck()
        tab.get_by_label("labels").uncheck()
        wait_for(tab, page, [right, left], lambda seen: min(seen) > 300)
        tab.get_by_label("meshes").uncheck()
        wait_for(tab, page, [right, left], lambda seen: max(seen) < 100)
    assert errors == []


def wait_for(tab, page, hands, wanted) -> None:
    """Show the hands over and over, as a node does, until the browser has drawn what is wanted."""
    for stamp in range(200):
        page.show(None, CAMERA, hands, TEMPLATE.faces, 2.0 + stamp / 1000)
        tab.wait_for_timeout(100)
        seen = warm_and_cool(tab)
        if wanted(seen):
            return
    raise AssertionError(f"the browser shows {seen} warm and cool pixels")
