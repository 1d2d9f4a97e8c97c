"""The page in a real browser, without a screen."""

from __future__ import annotations

import shutil
import time

import cv2
import numpy as np
import pytest
from open_hand import CAMERA, TEMPLATE, make_hand

pytest.importorskip("viser", reason="needs the viewer extra")
pytest.importorskip("playwright", reason="needs playwright: pip install playwright")

from playwright import sync_api as playwright

from hand_perception.hands import Side
from hand_perception.viewer.page import HandPage

WIDTH, HEIGHT = 960, 400
# Debian's and Ubuntu's names, then Chrome's own; else the one that playwright has downloaded.
_NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
_PATIENCE = 300.0  # seconds until a test gives up; nothing waits for so long


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
        tab = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        tab.set_default_timeout(1000 * _PATIENCE)
        tab.on("pageerror", lambda error: errors.append(str(error)))
        page.show(np.full((480, 640, 3), 90, np.uint8), CAMERA, hands, TEMPLATE.faces, 1.0)
        tab.goto(page.url)
        tab.get_by_role("cell", name="right").wait_for()
        assert tab.get_by_role("row").count() == 3, "a heading and two hands"
        tab.get_by_text("results per second").wait_for()
        # Nothing but the surfaces is to have their colours.
        page.server.scene.world_axes.visible = False
        for box in ("joints", "labels", "picture"):
            tab.get_by_label(box, exact=True).uncheck()
        wait_until(page, tab, hands, lambda warm, cool: min(warm, cool) > 200)
        tab.get_by_label("meshes", exact=True).uncheck()
        wait_until(page, tab, hands, lambda warm, cool: max(warm, cool) < 50)
    assert errors == []


def wait_until(page: HandPage, tab: playwright.Page, hands, wanted) -> None:
    """Show the hands over and over, as a node does, until the browser draws what is wanted: so
    many pixels in the colours of a right and of a left hand's surface."""
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        page.show(None, CAMERA, hands, TEMPLATE.faces, time.monotonic())
        tab.wait_for_timeout(200)
        seen = warm_and_cool(tab)
        if wanted(*seen):
            return
    raise AssertionError(f"the browser draws {seen} warm and cool pixels")


def warm_and_cool(tab: playwright.Page) -> tuple[int, int]:
    """Where the hands are: right of viser's notices and of its axes, left of the panel."""
    data = tab.screenshot(clip={"x": 330, "y": 0, "width": WIDTH - 420 - 330, "height": 330})
    blue, _, red = np.moveaxis(cv2.imdecode(np.frombuffer(data, np.uint8), 1).astype(int), -1, 0)
    return int((red - blue > 40).sum()), int((blue - red > 40).sum())
