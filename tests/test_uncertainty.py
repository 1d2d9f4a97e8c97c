from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from open_hand import CAMERA, make_hand
from posed_hand import about, posed_hand

from hand_perception.uncertainty import (
    HAND_SIZE_STD,
    depth_std,
    lateral_std,
    monocular_covariance,
    ray_covariance,
)


def test_a_ray_covariance_is_long_on_the_ray():
    position = np.array([0.3, -0.2, 0.6])
    covariance = ray_covariance(position, 0.05, 0.002)
    values, vectors = np.linalg.eigh(covariance)
    length = np.linalg.norm(position) / position[2]
    np.testing.assert_allclose(np.sqrt(values), [0.002, 0.002, 0.05 * length])
    assert abs(vectors[:, 2] @ position) == pytest.approx(np.linalg.norm(position))
    # Of z: along_std, and what the ray's slant adds of the other.
    across = (1 - (position[2] / np.linalg.norm(position)) ** 2) * 0.002**2
    assert depth_std(covariance) == pytest.approx(np.sqrt(0.05**2 + across))


def test_across_the_ray_pixels_count():
    hand = make_hand(at=(0, 0, 0.5))
    rng = np.random.default_rng(0)
    sigma = 4.0
    found = [
        lateral_std(hand.keypoints3d, hand.keypoints2d + rng.normal(0, sigma, (21, 2)), CAMERA)
        for _ in range(200)
    ]
    depth = hand.keypoints3d[:, 2].mean()
    # The median of 21 lengths scatters by a quarter; five joints count as independent.
    assert np.mean(found) == pytest.approx(sigma * depth / CAMERA.fx / np.sqrt(5), rel=0.1)


def test_a_stray_joint_does_not_count():
    hand = make_hand()
    pixels = hand.keypoints2d.copy()
    pixels[3] += 300
    exact = lateral_std(hand.keypoints3d, hand.keypoints2d, CAMERA)
    assert lateral_std(hand.keypoints3d, pixels, CAMERA) == pytest.approx(exact)


def test_depth_is_never_surer_than_the_size():
    hand = make_hand()
    covariance = monocular_covariance(hand.keypoints3d, hand.keypoints2d, CAMERA)
    depth = hand.keypoints3d[:, 2].mean()
    assert HAND_SIZE_STD * depth < depth_std(covariance) < 0.2 * depth
    known = monocular_covariance(hand.keypoints3d, hand.keypoints2d, CAMERA, size_std=0.01)
    assert depth_std(known) < depth_std(covariance)


def test_fingers_at_the_camera_make_the_depth_unsure():
    def of_spread(hand):
        """The part of the relative error that is not the size's, and the spread it comes from."""
        points = hand.keypoints3d.astype(float)
        covariance = monocular_covariance(points, hand.keypoints2d, CAMERA)
        relative = np.sqrt(covariance[2, 2]) / points[:, 2].mean()
        across = np.sqrt((np.var(points[:, :2], axis=0)).sum())
        return np.sqrt(relative**2 - HAND_SIZE_STD**2), across

    flat, spread = of_spread(posed_hand(at=(0, 0, 0.6)))
    pointing, less = of_spread(posed_hand(at=(0, 0, 0.6), turn=about(0, 1.4)))
    assert pointing > flat
    # Inversely as the spread, up to the pixels' small part, which grows with the distance.
    assert pointing * less == pytest.approx(flat * spread, rel=0.05)


def test_covariances_are_symmetric_and_positive():
    rng = np.random.default_rng(1)
    for _ in range(10):
        hand = posed_hand(at=(*rng.uniform(-0.3, 0.3, 2), rng.uniform(0.2, 3)))
        noisy = replace(hand, keypoints2d=hand.keypoints2d + rng.normal(0, 30, (21, 2)))
        covariance = monocular_covariance(noisy.keypoints3d, noisy.keypoints2d, CAMERA)
        np.testing.assert_allclose(covariance, covariance.T)
        assert np.linalg.eigvalsh(covariance).min() > 0
