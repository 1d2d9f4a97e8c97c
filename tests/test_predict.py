from __future__ import annotations

import argparse
import json

import cv2
import numpy as np
import pytest
from open_hand import make_hand

from hand_perception import cli, predict
from hand_perception.errors import DataError
from hand_perception.geometry import quaternion_xyzw
from hand_perception.hands import Camera, Reconstruction, Side
from hand_perception.template import load_template

HANDS = [make_hand(), make_hand(Side.LEFT, at=(0.1, 0.0, 0.7))]


class Stub:
    """Two known hands in every picture, the second a weak one; keeps what it was asked."""

    topology = load_template()

    def __init__(self):
        self.cameras: list[Camera] = []
        self.zooms: list[float] = []

    def closely(self, image, camera, score_threshold, zoom):
        self.cameras.append(camera)
        self.zooms.append(zoom)
        scores = (0.934, 0.2)
        hands = [h for h, score in zip(HANDS, scores, strict=True) if score >= score_threshold]
        return Reconstruction(hands, {"detector": 1.234, "decoder": 5.0})


@pytest.fixture
def pictures(tmp_path):
    """a.png, sub/b.jpg and sub/notes.txt."""
    folder = tmp_path / "in"
    (folder / "sub").mkdir(parents=True)
    cv2.imwrite(str(folder / "a.png"), np.full((60, 80, 3), 90, np.uint8))
    cv2.imwrite(str(folder / "sub/b.jpg"), np.full((480, 640, 3), 90, np.uint8))
    (folder / "sub/notes.txt").write_text("no picture")
    return folder


def run(stub, *argv) -> int:
    parser = argparse.ArgumentParser()
    predict.add_arguments(parser)
    return predict.predict(parser.parse_args([str(a) for a in argv]), lambda model: stub)


def rows(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_one_line_a_picture_with_the_documented_fields(pictures, tmp_path, capsys):
    out, stub = tmp_path / "out" / "hands.jsonl", Stub()
    assert run(stub, pictures, "--output", out, "--camera", 500, 501, 320, 240) == 0
    first, second = rows(out)
    assert (first["file"], first["width"], first["height"]) == ("a.png", 80, 60)
    assert (second["file"], second["width"], second["height"]) == ("sub/b.jpg", 640, 480)
    assert first["metric"] is True and first["stage_ms"] == {"detector": 1.23, "decoder": 5.0}
    assert stub.cameras[0] == Camera(500, 501, 320, 240, 80, 60)

    (hand,), truth = second["hands"], HANDS[0]
    assert hand["side"] == "right" and hand["score"] == 0.934 and hand["side_confidence"] == 1.0
    np.testing.assert_allclose(hand["box"], truth.box, atol=0.005)
    np.testing.assert_allclose(hand["keypoints2d"], truth.keypoints2d, atol=0.005)
    np.testing.assert_allclose(hand["keypoints3d_m"], truth.keypoints3d, atol=5e-6)
    np.testing.assert_allclose(hand["confidences"], np.ones(21))
    np.testing.assert_allclose(hand["wrist"]["position_m"], truth.wrist.translation, atol=5e-6)
    np.testing.assert_allclose(
        hand["wrist"]["quaternion_xyzw"], quaternion_xyzw(truth.wrist.rotation), atol=5e-7
    )
    assert "intrinsics" not in capsys.readouterr().err


def test_pictures_are_looked_at_as_closely_as_asked(pictures, tmp_path):
    out, stub = tmp_path / "hands.jsonl", Stub()
    run(stub, pictures / "a.png", "--output", out)
    run(stub, pictures / "a.png", "--output", out, "--zoom", 2.5)
    assert stub.zooms == [1.0, 2.5]


def test_all_writes_weak_hands_too(pictures, tmp_path):
    out = tmp_path / "hands.jsonl"
    run(Stub(), pictures, "--output", out, "--all")
    assert [h["side"] for h in rows(out)[0]["hands"]] == ["right", "left"]


def test_without_intrinsics_it_says_so_once(pictures, tmp_path, capsys):
    out = tmp_path / "hands.jsonl"
    assert run(Stub(), pictures, "--output", out) == 0
    assert [row["metric"] for row in rows(out)] == [False, False]
    assert capsys.readouterr().err.count("no intrinsics") == 1


def test_cameras_file_by_picture(pictures, tmp_path):
    cams, out, stub = tmp_path / "cams.jsonl", tmp_path / "hands.jsonl", Stub()
    row = {
        "file": "sub/b.jpg",
        "K": [610, 611, 322, 241],
        "distortion": [0.1, 0, 0, 0],
        "distortion_model": "plumb_bob",
    }
    cams.write_text(json.dumps(row) + "\n\n")
    run(stub, pictures, "--output", out, "--cameras", cams)
    assert [r["metric"] for r in rows(out)] == [False, True]
    assert stub.cameras[1] == Camera(
        610, 611, 322, 241, 640, 480, (0.1, 0.0, 0.0, 0.0), "plumb_bob"
    )


def test_an_unreadable_picture_is_a_line_and_a_status(pictures, tmp_path, capsys):
    broken = pictures / "broken.jpg"
    broken.write_bytes((pictures / "sub/b.jpg").read_bytes()[:900])
    out = tmp_path / "hands.jsonl"
    assert run(Stub(), pictures, "--output", out) == 1
    by_file = {row["file"]: row for row in rows(out)}
    assert set(by_file) == {"a.png", "broken.jpg", "sub/b.jpg"}
    assert set(by_file["broken.jpg"]) == {"file", "error"}
    assert len(by_file["sub/b.jpg"]["hands"]) == 1
    assert "broken.jpg" in capsys.readouterr().err


def test_overlay_keeps_the_folder_layout(pictures, tmp_path):
    drawn = tmp_path / "drawn"
    run(Stub(), pictures, "--output", tmp_path / "x.jsonl", "--overlay", drawn)
    image = cv2.imread(str(drawn / "sub/b.jpg"))
    assert image.shape == (480, 640, 3)
    # More than compression noise: a hand of skin-like colour over the grey.
    assert (np.abs(image.astype(int) - 90) > 30).any(-1).mean() > 0.02


def test_overlay_never_overwrites_its_source(pictures, tmp_path):
    before = (pictures / "a.png").read_bytes()
    out = tmp_path / "x.jsonl"
    assert run(Stub(), pictures, "--output", out, "--overlay", pictures) == 1
    assert (pictures / "a.png").read_bytes() == before
    assert all("overwrite" in row["error"] for row in rows(out))


def test_output_is_replaced_only_when_complete(pictures, tmp_path):
    out = tmp_path / "hands.jsonl"
    out.write_text("old\n")

    class Interrupted(Stub):
        def closely(self, image, camera, score_threshold, zoom):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(Interrupted(), pictures, "--output", out)
    assert out.read_text() == "old\n"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["hands.jsonl", "in"]
    run(Stub(), pictures, "--output", out)
    assert len(rows(out)) == 2


def test_standard_output_by_default(pictures, capsys):
    run(Stub(), pictures / "a.png")
    assert json.loads(capsys.readouterr().out)["file"] == "a.png"


def test_root_names_the_files(pictures, tmp_path):
    out = tmp_path / "hands.jsonl"
    run(Stub(), pictures / "sub", pictures / "sub/b.jpg", "--root", tmp_path, "--output", out)
    assert [row["file"] for row in rows(out)] == ["in/sub/b.jpg"]
    with pytest.raises(DataError, match="--root"):
        run(Stub(), pictures, "--root", pictures / "sub")


@pytest.mark.parametrize(
    "line",
    ["not json", '{"file": "a"}', '{"file": "a", "K": [1, 2]}', '{"K": [1,2,3,4]}', "[]"],
)
def test_bad_camera_lines_are_named(line, tmp_path):
    path = tmp_path / "cams.jsonl"
    path.write_text('{"file": "ok", "K": [1, 1, 0, 0]}\n' + line)
    with pytest.raises(DataError, match=r"cams\.jsonl:2"):
        predict.read_cameras(path)


def test_a_camera_that_cannot_be_is_one_pictures_error(pictures, tmp_path):
    cams, out = tmp_path / "cams.jsonl", tmp_path / "hands.jsonl"
    cams.write_text('{"file": "a.png", "K": [0, 0, 40, 30]}')
    assert run(Stub(), pictures, "--output", out, "--cameras", cams) == 1
    assert "positive" in rows(out)[0]["error"] and "hands" in rows(out)[1]


def test_command_line_reports_a_missing_path(tmp_path, capsys):
    pytest.importorskip("hand_perception.reconstructor")
    assert cli.main(["predict", str(tmp_path / "gone")]) == 2
    assert "does not exist" in capsys.readouterr().err
