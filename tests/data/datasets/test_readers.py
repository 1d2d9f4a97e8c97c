"""Each reader on a miniature of the official layout: labels come back as the truth they were
written from, whatever order, unit and axes the release has them in.
"""

from dataclasses import replace

import miniatures as mini
import numpy as np
import pytest
from mano_file import write_mano

from hand_perception.data.datasets import DATASETS, ho3d, interhand, open_dataset, rhd
from hand_perception.data.mano import load_mano
from hand_perception.data.sample import Similarity, warp
from hand_perception.errors import DataError, ImageError
from hand_perception.evaluation import submission
from hand_perception.geometry import project, signed_volume
from hand_perception.hands import Side

# float32 pixels of a few hundred are good to 3e-5, metres of about one to 6e-8; a few roundings.
PIXELS, METRES = 5e-4, 1e-6
SIGN = {Side.RIGHT: 1, Side.LEFT: -1}


@pytest.fixture(scope="module")
def mano(tmp_path_factory):
    return load_mano(write_mano(tmp_path_factory.mktemp("mano") / "MANO_RIGHT.pkl"))


# Name, split, what writes it, whether it takes MANO, whether it has meshes.
IN_SPACE = [
    ("freihand", "train", mini.write_freihand, False, True),
    ("ho3d_v3", "train", mini.write_ho3d, True, True),
    ("h2o3d", "train", mini.write_h2o3d, True, True),
    ("dexycb", "s1_val", mini.write_dexycb, True, True),
    ("rhd", "train", mini.write_rhd, False, False),
    ("obman", "train", mini.write_obman, False, True),
    ("comphand", "train", mini.write_comphand, True, True),
    ("interhand", "train", mini.write_interhand, True, True),
]
IDS = [row[0] for row in IN_SPACE]


def samples_and_truth(row, root, mano):
    name, split, write, takes_mano, _ = row
    truth = write(root, mano) if takes_mano else write(root)
    reader = open_dataset(name, root, split, mano)
    samples = [reader[k] for k in range(len(reader))]
    hands = [(sample, k) for sample in samples for k in range(len(sample.hands))]
    return samples, hands, [hand for hand in truth if hand is not None]


def joints(*names: str) -> list[str]:
    """thumb4, thumb3, thumb2, thumb1 of "thumb 4321": 1 is a finger's root, 4 its tip."""
    split = [name.partition(" ") for name in names]
    return [finger + digit for finger, _, digits in split for digit in digits or [""]]


OURS = joints("wrist", *(f"{f} 1234" for f in ("thumb", "index", "middle", "ring", "pinky")))
# As the releases' own documents list them: HO-3D's in MANO's order, RHD's README, InterHand2.6M's
# skeleton.txt. The miniatures are written by the readers' tables, so those are checked here.
HO3D = joints(
    *("wrist", "index 123", "middle 123", "pinky 123", "ring 123", "thumb 123"),
    *("thumb 4", "index 4", "middle 4", "ring 4", "pinky 4"),
)
RHD = joints("wrist", *(f"{f} 4321" for f in ("thumb", "index", "middle", "ring", "pinky")))
INTERHAND = [*RHD[1:], "wrist"]


@pytest.mark.parametrize(
    "published, table",
    [(HO3D, ho3d.JOINTS), (RHD, rhd.JOINTS), (INTERHAND, interhand.JOINTS)],
    ids=["ho3d", "rhd", "interhand"],
)
def test_joints_are_taken_from_where_the_release_has_them(published, table):
    assert [published[k] for k in table] == OURS


def test_joints_go_back_to_where_ho3d_wants_them():
    assert [OURS[k] for k in submission._HO3D_JOINTS] == HO3D


@pytest.mark.parametrize("row", IN_SPACE, ids=IDS)
def test_labels_in_space_come_back_as_the_truth(row, tmp_path, mano):
    samples, hands, truth = samples_and_truth(row, tmp_path, mano)
    assert len(hands) == len(truth) > 0
    for (sample, k), hand in zip(hands, truth, strict=True):
        labels = sample.hands
        root = hand.joints[9]
        assert labels.metric[k] and labels.weight3d[k] == 1 and sample.camera.metric
        np.testing.assert_allclose(labels.translation[k], root, atol=METRES)
        np.testing.assert_allclose(labels.joints3d[k], hand.joints - root, atol=METRES)
        np.testing.assert_allclose(labels.keypoints2d[k], hand.pixels, atol=PIXELS)
        assert labels.side[k] == SIGN[hand.side]
        if row[4]:
            assert labels.weight_mesh[k] == 1 and sample.topology == "mano"
            # Float32 bases that are multiplied by float64 poses: some roundings of 0.2 m more.
            np.testing.assert_allclose(labels.vertices[k], hand.vertices - root, atol=5 * METRES)
        else:
            assert labels.weight_mesh[k] == 0
    names = [sample.name for sample in samples]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("row", IN_SPACE, ids=IDS)
def test_projection_side_and_scale_agree_with_the_mesh(row, tmp_path, mano):
    _, hands, _ = samples_and_truth(row, tmp_path, mano)
    for sample, k in hands:
        labels = sample.hands
        seen = project(labels.joints3d[k] + labels.translation[k], sample.camera)
        np.testing.assert_allclose(seen, labels.keypoints2d[k], atol=PIXELS)
        # A hand from the wrist to the middle finger's tip: 0.1 to 0.3 m.
        assert 0.1 < np.linalg.norm(labels.joints3d[k, 12] - labels.joints3d[k, 0]) < 0.3
        if row[4]:
            assert np.sign(signed_volume(labels.vertices[k], mano.faces)) == labels.side[k]


@pytest.mark.parametrize("row", IN_SPACE, ids=IDS)
def test_a_flip_twice_is_the_sample_and_once_another_hand(row, tmp_path, mano):
    samples, _, _ = samples_and_truth(row, tmp_path, mano)
    sample = next(s for s in samples if len(s.hands))
    # Warps know one focal length; these miniatures have two that differ by a pixel.
    sample.camera = replace(sample.camera, fy=sample.camera.fx)
    size = sample.image.shape[1]
    mirror = Similarity(1.0, 0.0, (0.0, 0.0), mirror_width=size)
    once = warp(sample, mirror, size)
    twice = warp(once, mirror, size)
    np.testing.assert_array_equal(once.hands.side, -sample.hands.side)
    assert once.camera.cx == pytest.approx(size - 1 - sample.camera.cx)
    for key in ("keypoints2d", "joints3d", "vertices", "translation", "side"):
        np.testing.assert_allclose(
            getattr(twice.hands, key), getattr(sample.hands, key), atol=PIXELS
        )
    height = sample.image.shape[0]
    np.testing.assert_array_equal(twice.image[:height], sample.image)
    if row[4]:
        volumes = [signed_volume(s.hands.vertices[0], mano.faces) for s in (sample, once)]
        assert volumes[0] == pytest.approx(-volumes[1], rel=1e-4)


def test_freihand_repeats_its_labels_for_each_version_of_a_picture(tmp_path):
    mini.write_freihand(tmp_path)
    reader = open_dataset("freihand", tmp_path)
    assert len(reader) == 8
    np.testing.assert_array_equal(reader[1].hands.joints3d, reader[7].hands.joints3d)
    assert reader[1].image[-1, -1, 0] != reader[7].image[-1, -1, 0]
    # Stored as B, G, R = 10, 120, 240; JPEG may move a grey level or two.
    np.testing.assert_allclose(reader[0].image[5, 5], (240, 120, 10), atol=4)


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_ho3d_evaluation_has_the_published_truth(tmp_path, mano, suffix):
    truth = mini.write_ho3d(tmp_path, mano, suffix, "evaluation")
    reader = open_dataset("ho3d_v2", tmp_path, "test")
    for sample, hand in zip((reader[0], reader[1]), truth, strict=True):
        np.testing.assert_allclose(sample.hands.keypoints2d[0], hand.pixels, atol=PIXELS)
        root = hand.joints[9]
        np.testing.assert_allclose(sample.hands.vertices[0], hand.vertices - root, atol=METRES)
    (tmp_path / "evaluation_xyz.json").unlink()
    unlabelled = open_dataset("ho3d_v2", tmp_path, "test")[0]
    assert len(unlabelled.hands) == 0 and unlabelled.camera == sample.camera


def test_without_mano_parameters_teach_joints_alone(tmp_path, mano):
    mini.write_ho3d(tmp_path, mano)
    hands = open_dataset("ho3d_v3", tmp_path)[0].hands
    assert hands.weight3d[0] == 1 and hands.weight_mesh[0] == 0


def test_a_mesh_that_misses_the_labelled_joints_is_not_taught(tmp_path, mano):
    mini.write_ho3d(tmp_path, mano)
    path = tmp_path / "train" / "ABF0" / "meta" / "0000.pkl"
    import pickle

    meta = pickle.loads(path.read_bytes())
    meta["handTrans"] = meta["handTrans"] + (0.05, 0, 0)
    mini.write_pickle(path, meta)
    hands = open_dataset("ho3d_v3", tmp_path, mano=mano)[0].hands
    assert hands.weight_mesh[0] == 0 and hands.weight3d[0] == 1


def test_dexycb_frames_without_a_hand_are_empty(tmp_path, mano):
    mini.write_dexycb(tmp_path, mano)
    reader = open_dataset("dexycb", tmp_path, "s1_val")
    assert len(reader) == 16
    assert [len(reader[k].hands) for k in range(4)] == [0, 1, 0, 1]
    assert "color_000001" in reader[3].name and reader[3].name != reader[1].name


def test_dexycb_needs_all_sequences_of_a_subject(tmp_path, mano):
    mini.write_dexycb(tmp_path, mano)
    subject = tmp_path / "20200928-subject-07"
    (subject / "20200099" / "meta.yml").unlink()
    (subject / "20200099").rmdir()
    with pytest.raises(DataError, match="99 of 100"):
        open_dataset("dexycb", tmp_path, "s1_val")


def test_hint_has_sides_hidden_joints_and_no_more(tmp_path):
    truth = mini.write_hint(tmp_path)
    reader = open_dataset("hint", tmp_path, "test")
    assert len(reader) == 3  # Ego4D's pictures are not there
    for k in range(3):
        sample = reader[k]
        hand, labels = truth[sample.name], sample.hands
        known = np.arange(21) != 3
        np.testing.assert_array_equal(labels.known[0], known)
        np.testing.assert_allclose(labels.keypoints2d[0, known], hand.pixels[known], atol=PIXELS)
        # What is not known stands inside the hand, so that its bounds are the known joints'.
        np.testing.assert_allclose(labels.keypoints2d[0, 3], hand.pixels[known].mean(0), atol=1e-3)
        assert np.flatnonzero(labels.occluded[0]).tolist() == [7, 8]
        assert labels.side[0] == SIGN[hand.side] and not sample.exhaustive
        assert labels.weight3d[0] == 0 and not sample.camera.metric
    assert len(open_dataset("hint_visor", tmp_path, "test")) == 1
    with pytest.raises(DataError, match="ego4d"):
        open_dataset("hint_ego4d", tmp_path, "test")


def test_coco_hands_are_known_where_they_are_labelled(tmp_path):
    truth = {hand.side: hand for hand in mini.write_coco(tmp_path)}
    reader = open_dataset("coco_wholebody", tmp_path)
    assert len(reader) == 1
    sample = reader[0]
    assert len(sample.hands) == 2 and not sample.exhaustive
    for k in range(2):
        hand = truth[Side.RIGHT if sample.hands.side[k] > 0 else Side.LEFT]
        assert sample.hands.known[k].tolist() == [True] * 20 + [False]
        seen = sample.hands.keypoints2d[k, :20]
        np.testing.assert_allclose(seen, hand.pixels[:20], atol=PIXELS)
    np.testing.assert_allclose(sample.ignore_boxes, [[300, 10, 320, 40]])


def test_onehand10k_has_no_sides_and_marks_hidden_joints(tmp_path):
    (hand,) = mini.write_onehand10k(tmp_path)
    sample = open_dataset("onehand10k", tmp_path)[0]
    known = np.arange(21) != 4
    np.testing.assert_array_equal(sample.hands.known[0], known)
    np.testing.assert_allclose(
        sample.hands.keypoints2d[0, known], np.round(hand.pixels[known]), atol=PIXELS
    )
    assert sample.hands.side[0] == 0


def test_rhd_marks_hidden_joints_and_leaves_out_hands_beyond_the_picture(tmp_path):
    mini.write_rhd(tmp_path)
    sample = open_dataset("rhd", tmp_path)[0]
    assert len(sample.hands) == 1
    assert np.flatnonzero(sample.hands.occluded[0]).tolist() == [4]  # the thumb's tip


def test_interhand_joints_that_are_not_valid_are_not_known(tmp_path, mano):
    mini.write_interhand(tmp_path, mano)
    path = tmp_path / "annotations" / "train" / "InterHand2.6M_train_data.json"
    import json

    content = json.loads(path.read_text())
    valid = [[1]] * 42
    valid[0], valid[21 + 11] = [0], [0]  # the right thumb's tip, the left middle MCP
    content["annotations"][0]["joint_valid"] = valid
    path.write_text(json.dumps(content))
    hands = open_dataset("interhand", tmp_path, mano=mano)[0].hands
    assert np.flatnonzero(~hands.known[0]).tolist() == [4]
    assert np.flatnonzero(~hands.known[1]).tolist() == [9]
    # Without its root a hand has no 3D.
    assert hands.weight3d.tolist() == [1, 0] and hands.weight_mesh.tolist() == [1, 0]


def test_comphand_needs_mano(tmp_path, mano):
    mini.write_comphand(tmp_path, mano)
    with pytest.raises(DataError, match="MANO_RIGHT"):
        open_dataset("comphand", tmp_path)


@pytest.mark.parametrize("name", sorted(DATASETS))
def test_an_empty_folder_says_what_is_missing_and_where_to_get_it(name, tmp_path, mano):
    with pytest.raises(DataError, match=r"https://|hand-perception synthesize") as caught:
        open_dataset(name, tmp_path, mano=mano)
    assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)


def test_unknown_names_and_splits_are_named(tmp_path):
    with pytest.raises(DataError, match="freihand"):
        open_dataset("freehand", tmp_path)
    with pytest.raises(DataError, match="train, test"):
        open_dataset("freihand", tmp_path, "validation")


def test_broken_files_are_named(tmp_path, mano):
    mini.write_freihand(tmp_path)
    picture = tmp_path / "training" / "rgb" / "00000003.jpg"
    picture.write_bytes(picture.read_bytes()[:200])
    with pytest.raises(ImageError, match=r"00000003\.jpg"):
        open_dataset("freihand", tmp_path)[3]
    (tmp_path / "training_xyz.json").write_text("[[1, 2")
    with pytest.raises(DataError, match=r"training_xyz\.json"):
        open_dataset("freihand", tmp_path)


def test_a_pickle_with_code_in_it_is_refused(tmp_path, mano):
    class Malicious:
        def __reduce__(self):
            import os

            return os.mkdir, (str(tmp_path / "executed"),)

    mini.write_ho3d(tmp_path, mano)
    mini.write_pickle(tmp_path / "train" / "ABF0" / "meta" / "0000.pkl", Malicious())
    with pytest.raises(DataError, match="refused"):
        open_dataset("ho3d_v3", tmp_path)[0]
    assert not (tmp_path / "executed").exists()
