import numpy as np

from hand_perception.data.synthetic import RenderedSamples
from hand_perception.geometry import project


def test_samples_rendered_on_the_fly_are_labelled_and_repeat():
    samples = RenderedSamples(seed=3, size=96)
    found = [samples[k] for k in range(4)]
    again = RenderedSamples(seed=3, size=96)[1]
    np.testing.assert_array_equal(again.image, found[1].image)
    assert sum(len(sample.hands) for sample in found) > 0
    for sample in found:
        assert sample.image.shape == (96, 96, 3) and sample.camera.metric
        seen = project(sample.hands.joints3d + sample.hands.translation[:, None], sample.camera)
        # float32 pixels of about 100: 100 * 2^-23, a few roundings of it.
        np.testing.assert_allclose(seen, sample.hands.keypoints2d, atol=1e-3)
