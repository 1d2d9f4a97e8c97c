"""Takes docs/images/viewer.png: the shipped clip through the shipped model, seen by a browser.

python scripts/shoot_viewer.py    # needs the viewer extra, playwright and a Chromium
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from playwright.sync_api import Page, sync_playwright

import hand_perception
from hand_perception.hands import Camera
from hand_perception.reconstructor import HandReconstructor
from hand_perception.sources import Source
from hand_perception.tracking import HandTracker
from hand_perception.viewer.page import HandPage

CLIP = Path(hand_perception.__file__).parent / "assets" / "demo" / "clip.mp4"
IMAGE = Path(__file__).parent.parent / "docs" / "images" / "viewer.png"
_SOFTWARE_GL = ["--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
_PATIENCE = 600_000  # milliseconds; drawing in software is slow on a busy machine
_SHOWN = 20.0  # seconds, the plots' width


def play(page: HandPage) -> Iterator[int]:
    """Shows picture after picture as it is reconstructed, over and over; yields how many hands."""
    reconstruct = HandReconstructor.from_pretrained()
    track = HandTracker()
    with np.load(CLIP.with_name("truth.npz")) as truth:
        K = truth["K"]
    while True:
        for rgb in Source(str(CLIP)).pictures():
            height, width = rgb.shape[:2]
            camera = Camera(K[0, 0], K[1, 1], K[0, 2], K[1, 2], width, height)
            taken = time.time()
            hands = track(reconstruct(rgb, camera).hands, taken)
            latency_ms = 1e3 * (time.time() - taken)
            page.show(rgb, camera, hands, reconstruct.topology.faces, taken, latency_ms)
            yield len(hands)


def shoot(page: HandPage, tab: Page) -> None:
    tab.set_default_timeout(_PATIENCE)
    tab.goto(page.url)
    started = None
    for hands in play(page):
        tab.wait_for_timeout(1)  # lets the browser's messages in
        if page.server.get_clients() and started is None:
            started = time.monotonic()
        if started is not None and time.monotonic() - started > _SHOWN and hands == 2:
            break
    # What viser says about software rendering is this machine's, not the page's.
    tab.evaluate("document.querySelectorAll('[role=alert]').forEach(note => note.remove())")
    tab.screenshot(path=IMAGE, timeout=_PATIENCE)


def main() -> None:
    names = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
    path = next(filter(None, map(shutil.which, names)), None)
    with HandPage(port=8123) as page, sync_playwright() as api:
        browser = api.chromium.launch(executable_path=path, args=[*_SOFTWARE_GL, "--no-sandbox"])
        shoot(page, browser.new_page(viewport={"width": 1180, "height": 900}))
        browser.close()
    print(IMAGE)


if __name__ == "__main__":
    main()
