from __future__ import annotations

import argparse
import sys

import cv2
import numpy as np
import pytest
from open_hand import CAMERA, TEMPLATE, make_hand

pytest.importorskip("viser", reason="needs the viewer extra")

from hand_perception.errors import HandPerceptionError
from hand_perception.viewer.album import Album
from hand_perception.viewer.arguments import add_viewer_argument, open_page
from hand_perception.viewer.page import HandPage


def test_pictures_can_be_turned_back_to(tmp_path):
    with HandPage(port=18400) as page:
        album = Album(page, TEMPLATE.faces)
        for number in range(3):
            path = tmp_path / f"{number}.png"
            image = np.full((480, 640, 3), 50 * number, np.uint8)
            cv2.imwrite(str(path), image)
            hands = [make_hand(at=(0, 0, 0.5 + 0.1 * number))] * number
            album.add(path.name, path, image, CAMERA, hands)
            assert page._note.content == path.name and len(page._figures) == number
        album.turn_to(1)
        assert page._note.content == "1.png" and len(page._figures) == 1
        assert page._frustum.image[0, 0, 0] == 50
        album.turn_to(9)
        assert page._note.content == "2.png"


def test_a_missing_viser_names_its_cure(monkeypatch):
    parser = argparse.ArgumentParser()
    add_viewer_argument(parser)
    monkeypatch.delitem(sys.modules, "hand_perception.viewer.page", raising=False)
    monkeypatch.setitem(sys.modules, "viser", None)
    with pytest.raises(HandPerceptionError, match=r"pip install 'hand_perception\[viewer\]'"):
        open_page(parser.parse_args(["--viewer"]))
