import numpy as np

from hand_perception.cli import main
from hand_perception.data.synthetic import RenderedSamples, SyntheticSamples
from hand_perception.geometry import project
from hand_perception.template import load_template


def test_samples_rendered_on_the_fly_are_labelled_and_repeat():
    samples = RenderedSamples(seed=3, size=96)
    found = [samples[k] for k in range(4)]
    again = RenderedSamples(seed=3, size=96)[1]
    np.testing.assert_array_equal(again.image, found[1].image)
    assert sum(len(sample.hands) for sample in found) > 0
    for sample in found:
        assert sample.image.shape == (96, 96, 3) and sample.camera.metric
        hands, template = sample.hands, load_template()
        vertices = hands.vertices + hands.translation[:, None]
        # float32 pixels of about 100: 100 * 2^-23, a few roundings of it. Marked as photographs
        # are: the middle MCP and all beyond the knuckles where bones meet, the wrist not.
        seen = project(template.landmarks @ vertices, sample.camera)
        np.testing.assert_allclose(seen, hands.keypoints2d, atol=1e-3)
        bare = project(hands.joints3d + hands.translation[:, None], sample.camera)
        away = np.linalg.norm(bare - hands.keypoints2d, axis=-1)
        assert (away[:, [9, 8, 12]] < 1e-3).all() and (away[:, 0] > 0).all()


def test_folders_follow_each_other(tmp_path):
    for name, count in (("first", 3), ("second", 2)):
        arguments = ["--output", str(tmp_path / name), "--count", str(count), "--size", "64"]
        assert main(["synthesize", *arguments, "--seed", str(count)]) == 0
    alone = [SyntheticSamples(tmp_path / name) for name in ("first", "second")]
    together = SyntheticSamples(tmp_path / "first", tmp_path / "second")
    assert len(together) == 5
    one_by_one = [samples[k] for samples in alone for k in range(len(samples))]
    for index, sample in enumerate(one_by_one):
        np.testing.assert_array_equal(together[index].image, sample.image)
        np.testing.assert_array_equal(together[index].hands.vertices, sample.hands.vertices)
