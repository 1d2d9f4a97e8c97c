import cv2
import numpy as np
import pytest

from hand_perception.synthesis.clip import render_clip, write_clip
from hand_perception.template import ASSETS


@pytest.fixture(scope="module")
def clip():
    return render_clip(seconds=0.4, fps=10, size=(160, 120), seed=3)


def test_truth_belongs_to_the_frames(clip):
    assert clip.frames.shape == (4, 120, 160, 3) and clip.frames.dtype == np.uint8
    assert clip.keypoints3d.shape == (4, 2, 21, 3)
    projected = clip.keypoints3d @ clip.K.T
    projected = projected[..., :2] / projected[..., 2:]
    np.testing.assert_allclose(projected, clip.keypoints2d, atol=1e-3)
    np.testing.assert_array_equal(clip.is_left, [[False, True]] * 4)
    # A person faces the camera: the right hand is on the left of the picture.
    assert (clip.keypoints2d[:, 0, 0, 0] < clip.keypoints2d[:, 1, 0, 0]).all()


def test_hands_keep_their_size_while_they_move(clip):
    bones = np.linalg.norm(clip.keypoints3d[:, :, 9] - clip.keypoints3d[:, :, 0], axis=-1)
    np.testing.assert_allclose(bones, bones[:1].repeat(4, 0), atol=1e-3)  # the regressor's error
    assert np.abs(np.diff(clip.keypoints3d, axis=0)).max() > 0.005


def test_film_and_truth_are_read_back(clip, tmp_path):
    write_clip(clip, tmp_path)
    video = cv2.VideoCapture(str(tmp_path / "clip.mp4"))
    frames = []
    while (read := video.read())[0]:
        frames.append(read[1][..., ::-1])
    assert len(frames) == 4
    assert np.abs(np.array(frames, float) - clip.frames).mean() < 10  # compression
    with np.load(tmp_path / "truth.npz") as truth:
        np.testing.assert_array_equal(truth["keypoints3d"], clip.keypoints3d)
        assert truth["K"].shape == (3, 3) and truth["fps"] == 10


def test_the_demo_s_clip_is_complete_and_small():
    folder = ASSETS / "demo"
    files = [folder / "clip.mp4", folder / "truth.npz"]
    assert sum(f.stat().st_size for f in files) < 1_500_000
    video = cv2.VideoCapture(str(files[0]))
    with np.load(files[1]) as truth:
        assert len(truth["keypoints3d"]) == int(video.get(cv2.CAP_PROP_FRAME_COUNT)) == 150
        depth = truth["keypoints3d"][..., 2]
        assert 0.3 < depth.min() and depth.max() < 1.2
        inside = (truth["keypoints2d"] > 0).all(-1) & (truth["keypoints2d"] < (640, 480)).all(-1)
        assert inside.mean() > 0.99
