from __future__ import annotations

import argparse
import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
from labelled_folder import hand_label, picture_label, write_labels
from open_hand import make_hand

from hand_perception.errors import DataError
from hand_perception.evaluation import command, report
from hand_perception.hands import Reconstruction
from hand_perception.predict import image_record


def run(load, *argv) -> int:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.evaluate(parser.parse_args([str(a) for a in argv]), load)


HAND = make_hand()


def truth_for_all(model):
    return lambda image, camera, *, score_threshold: Reconstruction([HAND])


@pytest.fixture
def photographs(tmp_path):
    """Two pictures of the open hand, the second labelled far from it, and a negative."""
    data = tmp_path / "data"
    (data / "images").mkdir(parents=True)
    rows = []
    for k, x in enumerate((0, 400, None)):
        cv2.imwrite(str(data / f"images/{k}.png"), np.full((480, 640, 3), 90, np.uint8))
        hand = hand_label(
            HAND.keypoints2d + (x or 0, 0), HAND.box + ((x or 0), 0) * 2, handedness="Right"
        )
        rows.append(
            picture_label(
                f"images/{k}.png",
                [] if x is None else [hand],
                set="open",
                split="val",
                boxes_exhaustive=x is not None,
            )
        )
    write_labels(data, rows)
    return data


def test_real_suite_writes_table_json_and_page(photographs, tmp_path, capsys):
    out = tmp_path / "out"
    assert run(truth_for_all, "--suite", "real", "--data", photographs, "--output", out) == 0
    row = json.loads((out / "real.json").read_text())["all"]
    assert (row["recall"], row["precision"]) == (0.5, 0.5)
    assert (row["PCK@0.1"], row["PCK@0.1 matched"]) == (0.5, 1.0)
    assert row["false on negatives"] == 1
    printed = capsys.readouterr().out
    assert printed.startswith("| ") and printed.strip() in (out / "real.md").read_text()
    # Five cases: two false hands, one missed, one found.
    page = cv2.imread(str(out / "real_worst.jpg"))
    assert page.shape[0] == 256 + 18 and page.std() > 10


def test_predictions_file_gives_the_same_numbers(photographs, tmp_path):
    from hand_perception.hands import Camera

    lines = tmp_path / "hands.jsonl"
    camera = Camera.assumed(640, 480)
    records = [image_record(f"images/{k}.png", camera, Reconstruction([HAND])) for k in range(3)]
    lines.write_text("\n".join(map(json.dumps, records)))
    results = []
    for extra in ((), ("--predictions", lines)):
        out = tmp_path / str(len(results))
        run(truth_for_all, "--suite", "real", "--data", photographs, "--output", out, *extra)
        results.append(json.loads((out / "real.json").read_text()))
    # Hands of lower scores need not be in a file.
    assert results[0].keys() - results[1].keys() == {"from score 0.3", "from score 0.4"}
    assert results[0] == results[0] | results[1]


def test_other_scores_have_rows_of_their_own(photographs, tmp_path):
    def unsure(model):
        hand = replace(HAND, score=0.45)
        return lambda image, camera, *, score_threshold: Reconstruction([hand])

    run(unsure, "--suite", "real", "--data", photographs, "--output", tmp_path / "out")
    rows = json.loads((tmp_path / "out/real.json").read_text())
    found = {name: row["recall"] for name, row in rows.items() if name.startswith("from score")}
    assert found.pop("from score 0.3") == found.pop("from score 0.4") == 0.5
    assert rows["all"]["recall"] == 0 and set(found.values()) == {0}


def test_predictions_must_cover_the_data(photographs, tmp_path):
    lines = tmp_path / "hands.jsonl"
    lines.write_text('{"file": "images/0.png", "error": "cut short"}')
    with pytest.raises(DataError, match="lacks 2 pictures"):
        run(None, "--suite", "real", "--data", photographs, "--predictions", lines)
    lines.write_text("[]")
    with pytest.raises(DataError, match="hand-perception predict"):
        run(None, "--suite", "real", "--data", photographs, "--predictions", lines)


def test_predictions_do_not_go_with_other_suites(tmp_path):
    with pytest.raises(DataError, match="--suite real"):
        run(None, "--suite", "video", "--data", tmp_path, "--predictions", tmp_path)


def test_limit_takes_pictures_evenly(photographs, tmp_path):
    out = tmp_path / "out"
    run(truth_for_all, "--suite", "real", "--data", photographs, "--output", out, "--limit", "2")
    assert json.loads((out / "real.json").read_text())["all"]["images"] == 2


def test_table_lines_up_and_marks_what_was_not_measured():
    rows = {"all": {"hands": 12, "recall": 0.5}, "a set": {"hands": 0, "recall": float("nan")}}
    assert report.table(rows).splitlines() == [
        "|       | hands | recall |",
        "|-------|------:|-------:|",
        "| all   |    12 |  0.500 |",
        "| a set |     0 |      - |",
    ]


def test_json_has_null_for_nan(tmp_path):
    report.write(tmp_path, "x", "Protocol.", {"all": {"recall": float("nan")}})
    assert json.loads((tmp_path / "x.json").read_text()) == {"all": {"recall": None}}
