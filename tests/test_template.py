import os
import pickle
import sys
import types

import numpy as np
import pytest
import scipy.sparse

from hand_perception.data.mano import JOINT_ORDER, TIP_VERTICES, load_mano
from hand_perception.errors import DataError
from hand_perception.hands import BONES
from hand_perception.template import (
    KEYPOINT_OF_JOINT,
    PARENTS,
    TIP_KEYPOINTS,
    load_template,
    template_path,
)


@pytest.fixture(scope="module")
def template():
    return load_template()


def edges_with_counts(faces):
    pairs = np.sort(faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), 1)
    return np.unique(pairs, axis=0, return_counts=True)


def test_topology_is_a_disc_with_manos_counts(template):
    edges, counts = edges_with_counts(template.faces)
    assert template.vertices.shape == (778, 3)
    assert template.faces.shape == (1538, 3)
    assert (counts == 1).sum() == 16 and counts.max() == 2
    assert 778 - len(edges) + 1538 == 1  # Euler characteristic of a surface with one hole
    assert np.unique(template.faces).size == 778


def test_faces_wind_outwards(template):
    # Each directed edge occurs once, and the normals point away from the bones.
    directed = template.faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
    assert len(np.unique(directed, axis=0)) == len(directed)
    a, b, c = template.vertices[template.faces].transpose(1, 0, 2)
    centre = (a + b + c) / 3
    normals = np.cross(b - a, c - a)
    distal = template.weights[template.faces].mean(1)[:, 6] > 0.9  # around the index' last bone
    outward = centre - template.joints[6]
    axis = template.joint_frames[6][:, 2]
    outward -= np.outer(outward @ axis, axis)
    assert (np.einsum("ij,ij->i", normals, outward)[distal] > 0).mean() > 0.95


def test_it_is_a_right_hand(template):
    # Seen from the back (dorsal axis towards the viewer) with the fingers up, a right hand's thumb
    # is on the left: fingers x dorsal points away from the thumb.
    wrist, index, middle, pinky = template.keypoints[[0, 5, 9, 17]]
    dorsal = template.joint_frames[0][:, 1]
    side = np.cross(middle - wrist, dorsal)
    assert side @ (index - pinky) < 0
    assert side @ (template.keypoints[4] - middle) < 0


def test_keypoints_are_the_joints_and_the_tips(template):
    # The regressor was fitted over poses and shapes; at rest it is within a millimetre.
    error = np.linalg.norm(template.keypoints[list(KEYPOINT_OF_JOINT)] - template.joints, axis=1)
    assert error.max() < 1e-3
    tips = template.regressor[list(TIP_KEYPOINTS)]
    assert (np.count_nonzero(tips, axis=1) == 1).all() and (tips.max(1) == 1).all()
    np.testing.assert_allclose(template.regressor.sum(1), 1, atol=1e-6)
    assert (template.regressor >= 0).all()


def test_sizes_are_metric(template):
    lengths = np.array([np.linalg.norm(np.subtract(*template.keypoints[list(b)])) for b in BONES])
    assert 0.015 < lengths.min() and lengths.max() < 0.11
    assert 0.17 < np.linalg.norm(template.keypoints[12] - template.keypoints[0]) < 0.21


def test_weights_and_frames(template):
    np.testing.assert_allclose(template.weights.sum(1), 1, atol=1e-5)
    assert (template.weights >= 0).all()
    identity = template.joint_frames @ template.joint_frames.transpose(0, 2, 1)
    np.testing.assert_allclose(identity, np.tile(np.eye(3), (16, 1, 1)), atol=1e-5)
    np.testing.assert_allclose(np.linalg.det(template.joint_frames), 1, atol=1e-5)
    for child, parent in enumerate(PARENTS):  # -z runs along the bone
        if parent > 0:
            bone = template.joints[child] - template.joints[parent]
            along = -template.joint_frames[parent][:, 2]
            assert bone @ along > 0.97 * np.linalg.norm(bone)


def test_shipped_with_its_licence():
    path = template_path("open778")
    assert path.stat().st_size < 300_000
    assert "MIT License" in (path.parent / "LICENSE").read_text()


def test_missing_and_corrupt_templates(tmp_path):
    with pytest.raises(DataError, match="open778"):
        load_template(tmp_path / "none.npz")
    broken = tmp_path / "broken.npz"
    broken.write_bytes(template_path("open778").read_bytes()[:1000])
    with pytest.raises(DataError, match="rebuild"):
        load_template(broken)
    partial = tmp_path / "partial.npz"
    arrays = dict(np.load(template_path("open778")))
    np.savez(partial, **{**arrays, "weights": arrays["weights"][:, :5]})
    with pytest.raises(DataError, match="weights"):
        load_template(partial)


@pytest.fixture
def chumpy(monkeypatch):
    """A module as chumpy is, only while the pickle is written."""
    module, package = types.ModuleType("chumpy.ch"), types.ModuleType("chumpy")

    class Ch:
        def __init__(self, x):
            self.x = x

    Ch.__module__, Ch.__qualname__ = "chumpy.ch", "Ch"
    module.Ch = package.Ch = Ch
    monkeypatch.setitem(sys.modules, "chumpy", package)
    monkeypatch.setitem(sys.modules, "chumpy.ch", module)
    yield Ch


def mano_content(ch):
    rng = np.random.default_rng(0)
    regressor = np.zeros((16, 778))
    regressor[np.arange(16), 10 * np.arange(16)] = 1
    weights = np.zeros((778, 16))
    weights[np.arange(778), np.arange(778) % 16] = 1
    return {
        "v_template": ch(rng.normal(size=(778, 3))),
        "f": rng.integers(0, 778, (1538, 3)).astype(np.uint32),
        "weights": ch(weights),
        "J_regressor": scipy.sparse.csc_matrix(regressor),
        "shapedirs": ch(rng.normal(size=(778, 3, 10))),
        "posedirs": rng.normal(size=(778, 3, 135)),
        "bs_style": "lbs",
    }


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_mano_is_read_without_chumpy(tmp_path, chumpy, monkeypatch, protocol):
    content = mano_content(chumpy)
    path = tmp_path / "MANO_RIGHT.pkl"
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    monkeypatch.delitem(sys.modules, "chumpy")
    monkeypatch.delitem(sys.modules, "chumpy.ch")

    mano = load_mano(path)

    vertices = content["v_template"].x
    assert mano.name == "mano"
    np.testing.assert_allclose(mano.vertices, vertices, rtol=1e-6)
    np.testing.assert_array_equal(mano.faces, content["f"])
    # MANO's joint j sits on vertex 10 j; ours are the wrist, then thumb to pinky.
    np.testing.assert_allclose(mano.joints, vertices[10 * np.array(JOINT_ORDER)], rtol=1e-6)
    np.testing.assert_allclose(mano.keypoints[1], vertices[130], rtol=1e-6)
    np.testing.assert_allclose(mano.keypoints[17], vertices[70], rtol=1e-6)
    np.testing.assert_allclose(
        mano.keypoints[list(TIP_KEYPOINTS)], vertices[list(TIP_VERTICES)], rtol=1e-6
    )
    assert mano.weights[7, JOINT_ORDER.index(7)] == 1
    assert mano.shape_basis.shape == (778, 3, 10)
    # The thumb's first joint is MANO's 13th and ours the first.
    np.testing.assert_allclose(
        mano.pose_basis[..., :9], content["posedirs"][..., 12 * 9 : 13 * 9], rtol=1e-6
    )


class Malicious:
    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


def test_malicious_pickle_is_refused(tmp_path):
    path, marker = tmp_path / "MANO_RIGHT.pkl", tmp_path / "executed"
    path.write_bytes(pickle.dumps({"v_template": Malicious(marker)}))
    with pytest.raises(DataError, match="refused"):
        load_mano(path)
    assert not marker.exists()


@pytest.mark.parametrize("content", [b"", b"not a pickle", pickle.dumps([1, 2]), pickle.dumps({})])
def test_other_files_are_refused(tmp_path, content):
    path = tmp_path / "MANO_RIGHT.pkl"
    path.write_bytes(content)
    with pytest.raises(DataError, match="MANO_RIGHT"):
        load_mano(path)


def test_missing_mano_names_the_cure(tmp_path):
    with pytest.raises(DataError, match="mano.is.tue.mpg.de"):
        load_mano(tmp_path / "MANO_RIGHT.pkl")


def test_landmarks_are_where_photographs_are_labelled_and_the_palm_carries_them(template):
    beside = template.landmarks @ template.vertices - template.keypoints
    apart = 1e3 * np.linalg.norm(beside, axis=1)
    moved = np.flatnonzero(apart > 0.01)
    assert moved.tolist() == [0, 1, 5, 13, 17]
    # As scripts/measure_landmarks.py found.
    np.testing.assert_allclose(apart[moved], [14.2, 7.1, 5.2, 3.2, 2.5], atol=0.05)
    fingers = template.keypoints[9] - template.keypoints[0]
    assert beside[0] @ fingers > 0 > beside[1] @ fingers
    assert beside[0] @ template.joint_frames[0][:, 1] < 0  # not to the back of the hand
    # A bent finger takes none of it along: they hang on vertices of the palm alone.
    hung = np.abs(template.landmarks - template.regressor).sum(0) > 0
    assert template.weights[hung, 0].min() > 0.99
    np.testing.assert_allclose(template.landmarks.sum(1), 1, atol=1e-6)


def test_a_template_without_landmarks_is_labelled_where_its_bones_meet(template, tmp_path):
    with np.load(template_path("open778")) as archive:
        arrays = {name: archive[name] for name in archive.files if name != "landmarks"}
    np.savez(tmp_path / "older.npz", **arrays)
    older = load_template(tmp_path / "older.npz")
    np.testing.assert_array_equal(older.landmarks, template.regressor)
