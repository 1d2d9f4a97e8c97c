"""Public data sets end to end: miniatures of their layouts, judged and written as files."""

from __future__ import annotations

import argparse
import json
import zipfile
from dataclasses import replace

import miniatures as mini
import numpy as np
import pytest
from mano_file import write_mano
from open_hand import make_hand

from hand_perception.data.datasets import open_dataset
from hand_perception.data.mano import load_mano
from hand_perception.errors import DataError
from hand_perception.evaluation import benchmark, command, datasets
from hand_perception.evaluation.benchmark import MeshReader
from hand_perception.hands import Hand, Reconstruction, Side
from hand_perception.reconstructor import HandReconstructor

HAND = make_hand()
# Errors of rounding are above the first of AUC's hundred thresholds, which is zero: half a step.
ALL = 1 - 0.5 / 99


@pytest.fixture(scope="module")
def mano_path(tmp_path_factory):
    return write_mano(tmp_path_factory.mktemp("mano") / "MANO_RIGHT.pkl")


def run(load, *argv) -> int:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.evaluate(parser.parse_args([str(a) for a in argv]), load)


def as_prediction(truth: mini.Truth, score=0.9, topology="mano") -> Hand:
    low, high = truth.pixels.min(0), truth.pixels.max(0)
    return replace(
        HAND,
        side=truth.side,
        score=score,
        box=np.concatenate([low, high]),
        keypoints2d=truth.pixels,
        keypoints3d=truth.joints,
        vertices=truth.vertices,
        topology=topology,
    )


class Oracle:
    """Knows the answers by the order of asking; None: finds nothing."""

    def __init__(self, answers):
        self.answers, self.asked = answers, 0

    def __call__(self, image, camera, score_threshold):
        return Reconstruction(self.next())

    def in_boxes(self, image, boxes, camera):
        return self.next()[: len(boxes)]

    def next(self):
        answer = self.answers[self.asked % len(self.answers)]
        self.asked += 1
        return answer if isinstance(answer, list) else [] if answer is None else [answer]


def judge_freihand(root, answers, protocol="handos", read=None):
    dataset = open_dataset("freihand", root, "test")
    predict = datasets.predictor(Oracle(answers))
    judged = list(
        benchmark.evaluate(dataset, range(len(dataset)), predict, protocol, read or MeshReader())
    )
    return [outcome for picture in judged for outcome in picture.outcomes], judged


def test_the_truth_scores_perfectly(tmp_path):
    truth = mini.write_freihand(tmp_path, "evaluation")
    outcomes, _ = judge_freihand(tmp_path, [as_prediction(t) for t in truth])
    row = benchmark.summary(outcomes)
    assert row["hands"] == 2 and row["recall"] == row["side"] == 1
    # Labels are float32 of up to a metre: 1e-7 m, 1e-4 mm.
    for name in ("PJ", "PV", "MPJPE", "camera MPJPE"):
        assert row[name] == pytest.approx(0, abs=1e-3), name
    assert row["depth"] == pytest.approx(0, abs=1e-6)
    assert row["F@5"] == row["F@15"] == 1
    assert row["AUC"] == pytest.approx(ALL)
    assert row["2D, all PCK@0.05"] == row["proj, visible PCK@0.05"] == 100
    assert np.isnan(row["2D, occluded PCK@0.05"])


def test_a_shifted_hand_is_right_but_for_where_it_stands(tmp_path):
    truth = mini.write_freihand(tmp_path, "evaluation")
    answers = []
    for t in truth:
        moved = replace(as_prediction(t), keypoints3d=t.joints * 1.1, vertices=t.vertices * 1.1)
        answers.append(moved)  # nearer things are smaller: the same picture, a tenth farther
    row = benchmark.summary(judge_freihand(tmp_path, answers)[0])
    assert row["PJ"] == pytest.approx(0, abs=1e-3)
    assert row["depth"] == pytest.approx(0.1, abs=1e-5)
    expected = np.mean([np.linalg.norm(0.1 * t.joints, axis=1) for t in truth]) * 1000
    assert row["camera MPJPE"] == pytest.approx(expected, abs=1e-2)
    assert row["proj, all PCK@0.05"] == 100


def test_a_missed_hand_is_all_zeros_and_wrong_everywhere(tmp_path):
    truth = mini.write_freihand(tmp_path, "evaluation")
    outcomes, _ = judge_freihand(tmp_path, [as_prediction(truth[0]), None])
    row = benchmark.summary(outcomes)
    spread = np.linalg.norm(truth[1].joints - truth[1].joints.mean(0), axis=1).mean()
    assert row["PJ"] == pytest.approx(1000 * spread / 2, rel=1e-5)
    spread = np.linalg.norm(truth[1].vertices - truth[1].vertices.mean(0), axis=1).mean()
    assert row["PV"] == pytest.approx(1000 * spread / 2, rel=1e-5)
    reach = np.linalg.norm(truth[1].joints - truth[1].joints[0], axis=1).mean()
    assert row["MPJPE"] == pytest.approx(1000 * reach / 2, rel=1e-5)
    # Nobody can say where a hand stands that was not found.
    assert row["camera MPJPE"] == pytest.approx(0, abs=1e-3)
    assert row["recall"] == 0.5 and row["2D, all PCK@0.15"] == 50
    assert row["AUC"] == pytest.approx(ALL / 2)
    assert row["side"] == 1 and row["F@5"] < 1


def test_of_one_hand_a_picture_the_best_score_answers(tmp_path):
    truth = mini.write_freihand(tmp_path, "evaluation")
    far = replace(as_prediction(truth[0], 0.3), keypoints3d=truth[0].joints * (1, 1, 3))
    answers = [[far, as_prediction(truth[0], 0.8)], as_prediction(truth[1])]
    row = benchmark.summary(judge_freihand(tmp_path, answers)[0])
    assert row["PJ"] == pytest.approx(0, abs=1e-3)


def test_given_boxes_fix_who_answers(tmp_path):
    truth = mini.write_freihand(tmp_path, "evaluation")
    answers = [as_prediction(t, score=0.01) for t in truth]
    row = benchmark.summary(judge_freihand(tmp_path, answers, "gt-box")[0])
    assert row["recall"] == 1 and row["PJ"] == pytest.approx(0, abs=1e-3)
    (tmp_path / "evaluation_xyz.json").unlink()


def test_another_topology_is_measured_by_surface_or_through_mano(tmp_path, mano_path):
    """Our mesh and the miniature's MANO are the same here, so all readings must agree."""
    truth = mini.write_freihand(tmp_path, "evaluation")
    answers = [as_prediction(t, topology="open778") for t in truth]
    row = benchmark.summary(judge_freihand(tmp_path, answers)[0])
    assert np.isnan(row["PV"]) and row["F@5"] == 1 and row["PJ"] == pytest.approx(0, abs=1e-3)
    read = datasets.mesh_reader(load_mano(mano_path))
    row = benchmark.summary(judge_freihand(tmp_path, answers, read=read)[0])
    # The same vertices by way of the surface: within the templates' float32.
    assert row["PV"] == pytest.approx(0, abs=0.05)


def test_several_hands_are_matched_by_their_boxes(tmp_path, mano_path):
    mano = load_mano(mano_path)
    truth = mini.write_interhand(tmp_path, mano)
    dataset = open_dataset("interhand", tmp_path, "train", mano)
    wrong_side = replace(as_prediction(truth[1], 0.9), side=Side.RIGHT)
    predict = datasets.predictor(Oracle([[wrong_side, as_prediction(truth[0], 0.5)]]))
    judged = list(benchmark.evaluate(dataset, [0], predict, "handos", MeshReader()))
    row = benchmark.summary(judged[0].outcomes)
    assert row["hands"] == 2 and row["recall"] == 1 and row["side"] == 0.5
    assert row["PJ"] == pytest.approx(0, abs=1e-2)


def test_hint_counts_visible_and_hidden_joints_apart(tmp_path):
    truth = mini.write_hint(tmp_path)
    dataset = open_dataset("hint_newdays", tmp_path, "test")
    answers = []
    for k in range(len(dataset)):
        hand = truth[dataset[k].name]
        pixels = hand.pixels.copy()
        size = np.ptp(np.delete(hand.pixels, 3, 0), axis=0).max()
        pixels[7] += (0.12 * size, 0)  # one of the two hidden joints
        answers.append(replace(as_prediction(hand), keypoints2d=pixels))
    predict = datasets.predictor(Oracle(answers))
    judged = benchmark.evaluate(dataset, range(len(dataset)), predict, "handos", MeshReader())
    rows = benchmark.pck_rows([o for picture in judged for o in picture.outcomes])
    assert rows["2D, visible"]["PCK@0.05"] == pytest.approx(100)
    assert rows["2D, occluded"]["PCK@0.1"] == pytest.approx(50)
    assert rows["2D, occluded"]["PCK@0.15"] == pytest.approx(100)
    # Twenty joints are known, one of them is wrong.
    assert rows["2D, all"]["PCK@0.1"] == pytest.approx(95)
    assert rows["proj, occluded"]["PCK@0.05"] == 100


def test_the_table_stands_under_the_papers_and_the_submission_is_written(
    tmp_path, mano_path, capsys
):
    root, out = tmp_path / "data", tmp_path / "out"
    truth = mini.write_freihand(root, "evaluation")
    load = lambda model: Oracle([as_prediction(truth[0]), None])  # noqa: E731
    argv = ("--dataset", "freihand", "--root", root, "--mano", mano_path, "--output", out)
    argv += ("--model", "handos_s")
    assert run(load, *argv) == 0
    printed = capsys.readouterr().out
    lines = printed.splitlines()
    assert [c.strip() for c in lines[0].split("|")[2:-1]] == ["PJ", "PV", "F@5", "F@15"]
    ours = next(k for k, line in enumerate(lines) if "ours (handos_s, handos)" in line)
    assert any("HandOS " in line and "5.000" in line for line in lines[:ours])
    numbers = json.loads((out / "freihand_handos.json").read_text())
    assert numbers["recall"] == 0.5
    xyz, verts = json.loads((out / "pred.json").read_text())
    np.testing.assert_allclose(xyz[0], truth[0].joints, atol=1e-5)
    np.testing.assert_allclose(verts[0], truth[0].vertices, atol=1e-5)
    assert not np.any(xyz[1]) and np.shape(verts[1]) == (778, 3)
    with zipfile.ZipFile(out / "pred.zip") as archive:
        assert json.loads(archive.read("pred.json")) == [xyz, verts]


def test_ho3d_submission_is_in_its_order_and_frame(tmp_path, mano_path):
    root, out = tmp_path / "data", tmp_path / "out"
    truth = mini.write_ho3d(root, load_mano(mano_path), split="evaluation")
    load = lambda model: Oracle([as_prediction(t) for t in truth])  # noqa: E731
    run(load, "--dataset", "ho3d_v3", "--root", root, "--output", out)
    xyz, verts = json.loads((out / "pred.json").read_text())
    published = json.loads((root / "evaluation_xyz.json").read_text())
    np.testing.assert_allclose(xyz, published, atol=1e-5)
    np.testing.assert_allclose(
        verts, json.loads((root / "evaluation_verts.json").read_text()), atol=1e-5
    )
    assert np.all(np.array(xyz)[..., 2] < 0)  # OpenGL's camera looks along -z


def test_dexycb_submission_has_a_line_a_picture(tmp_path, mano_path):
    root, out = tmp_path / "data", tmp_path / "out"
    truth = mini.write_dexycb(root, load_mano(mano_path))
    answers = [None if t is None else as_prediction(t) for t in truth]
    load = lambda model: Oracle(answers)  # noqa: E731
    run(load, "--dataset", "dexycb", "--split", "s1_val", "--root", root, "--output", out)
    lines = (out / "hpe.txt").read_text().splitlines()
    assert len(lines) == 16 and all(len(line.split(",")) == 64 for line in lines)
    numbers = np.array(lines[1].split(",")[1:], float).reshape(21, 3)
    np.testing.assert_allclose(numbers, 1000 * truth[1].joints, atol=1e-3)
    numbers = json.loads((out / "dexycb_handos.json").read_text())
    # Its meshes are MANO's parameters: without the file there are none to compare with.
    assert numbers["AUC"] == pytest.approx(ALL) and numbers["PV"] is None


def test_sets_of_parameters_are_measured_vertex_by_vertex_with_mano(tmp_path, mano_path):
    root, out = tmp_path / "data", tmp_path / "out"
    truth = mini.write_dexycb(root, load_mano(mano_path))
    answers = [None if t is None else as_prediction(t) for t in truth]
    argv = ("--dataset", "dexycb", "--split", "s1_val", "--root", root, "--output", out)
    assert run(lambda model: Oracle(answers), *argv, "--mano", mano_path) == 0
    numbers = json.loads((out / "dexycb_handos.json").read_text())
    # Labels are float32 of up to a metre: 1e-4 mm.
    assert numbers["PV"] == pytest.approx(0, abs=1e-3)
    assert numbers["F@5"] == 1 and numbers["AUC vertices"] == pytest.approx(ALL)


def test_unlabelled_pictures_have_no_true_boxes(tmp_path):
    mini.write_hint(tmp_path)
    path = tmp_path / "TEST_epick_img" / "EK_c_frame3_l.json"
    path.write_text("[]")
    with pytest.raises(DataError, match="gt-box"):
        run(
            lambda model: Oracle([None]),
            *("--dataset", "hint_visor", "--root", tmp_path, "--protocol", "gt-box"),
        )


@pytest.fixture(scope="module")
def engine():
    return HandReconstructor.from_pretrained("handos_s", threads=1)


def test_hands_come_in_the_given_boxes_in_their_order(engine):
    image = np.full((200, 300, 3), 90, np.uint8)
    boxes = np.array([[40.0, 50, 140, 170], [150, 20, 260, 120], [45, 50, 140, 170]])
    hands = engine.in_boxes(image, boxes)
    # Through the canvas in float32, in units of its 256 pixels.
    np.testing.assert_allclose([hand.box for hand in hands], boxes, atol=1e-3)
    assert engine.in_boxes(image, np.zeros((0, 4))) == []


@pytest.mark.parametrize(
    "name, split, pictures",
    [
        ("freihand", "test", 1),
        ("ho3d_v3", "test", 1),
        ("dexycb", "s1_val", 3),  # the sixth of its sixteen is the first that shows a hand
        ("hint_newdays", "test", 1),
        ("coco_wholebody", "test", 2),
    ],
)
def test_the_shipped_engine_runs_through_each_layout(
    name, split, pictures, engine, tmp_path, mano_path, capsys
):
    mano = load_mano(mano_path)
    write = {
        "freihand": lambda: mini.write_freihand(tmp_path, "evaluation"),
        "ho3d_v3": lambda: mini.write_ho3d(tmp_path, mano, split="evaluation"),
        "dexycb": lambda: mini.write_dexycb(tmp_path, mano),
        "hint_newdays": lambda: mini.write_hint(tmp_path),
        "coco_wholebody": lambda: mini.write_coco(tmp_path, "val"),
    }
    write[name]()
    for protocol in datasets.PROTOCOLS:
        argv = ("--dataset", name, "--root", tmp_path, "--protocol", protocol, "--split", split)
        argv += ("--mano", mano_path, "--output", tmp_path / "out", "--limit", pictures)
        argv += ("--model", "handos_s")
        assert run(lambda model: engine, *argv) == 0
        numbers = json.loads((tmp_path / "out" / f"{name}_{protocol}.json").read_text())
        assert numbers["hands"] > 0 and f"ours (handos_s, {protocol})" in capsys.readouterr().out
    assert numbers["recall"] == 1  # of the last protocol, which gives the boxes
