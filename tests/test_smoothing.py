from __future__ import annotations

import math

import numpy as np
import pytest

from hand_perception.smoothing import AlphaBetaFilter, OneEuroFilter

FRAME = 1 / 30


def run(values: np.ndarray, **parameters) -> np.ndarray:
    filtered = OneEuroFilter(**parameters)
    return np.array([filtered(value[None], FRAME, 1.0)[0] for value in values])


def test_the_first_value_passes_and_a_constant_stays():
    values = np.tile([3.0, -2.0], (20, 1))
    np.testing.assert_allclose(run(values, min_cutoff_hz=1.0, beta=0.0), values)


def test_without_beta_it_is_the_first_order_low_pass():
    # gain g: after a unit step the remainder is (1 - g)^n.
    g = 1 / (1 + 1 / (2 * math.pi * 1.5 * FRAME))
    step = np.r_[0.0, np.ones(10)][:, None]
    expected = 1 - (1 - g) ** np.arange(11)
    np.testing.assert_allclose(run(step, min_cutoff_hz=1.5, beta=0.0)[:, 0], expected)


def test_noise_at_rest_is_damped():
    noise = np.random.default_rng(0).normal(0, 0.01, (3000, 2))
    # A first-order low pass of white noise keeps g / (2 - g) of the variance: 0.14 at 1.5 Hz.
    ratio = run(noise, min_cutoff_hz=1.5, beta=0.0).var() / noise.var()
    g = 1 / (1 + 1 / (2 * math.pi * 1.5 * FRAME))
    # 6000 samples correlated over 1 / g = 4 frames: 2 sqrt(2 * 4 / 6000) = 7 % at two sigma.
    assert ratio == pytest.approx(g / (2 - g), rel=0.1)


@pytest.mark.parametrize("speed", [0.5, 3.0, 20.0])
def test_lag_in_motion_stays_below_the_documented_bound(speed):
    beta = 4.0
    ramp = (speed * FRAME * np.arange(300))[:, None]
    lag = ramp[-1, 0] - run(ramp, min_cutoff_hz=1.5, beta=beta)[-1, 0]
    assert 0 < lag < 1 / (2 * math.pi * beta)


def test_a_second_call_at_the_same_time_changes_nothing():
    filtered = OneEuroFilter(1.0, 0.0)
    filtered(np.zeros((1, 2)), 0.0, 1.0)
    np.testing.assert_array_equal(filtered(np.ones((1, 2)), 0.0, 1.0), np.zeros((1, 2)))


def test_a_steady_motion_is_followed_without_lag_at_any_period():
    rng = np.random.default_rng(0)
    motion = AlphaBetaFilter(memory_s=0.06)
    velocity, t = np.array([0.7, -2.0]), 0.0
    for elapsed in rng.uniform(0.01, 0.1, 100):
        t += elapsed
        motion(velocity * t, elapsed)
    # What is left of the start fades as exp(-t / memory): 5 s over 0.06 s.
    np.testing.assert_allclose(motion.value, velocity * t, atol=1e-9)
    np.testing.assert_allclose(motion.velocity, velocity, atol=1e-9)


def test_the_velocity_of_noise_is_small():
    noise = np.random.default_rng(1).normal(0, 1.0, (5000, 1))
    motion, found = AlphaBetaFilter(memory_s=0.06), []
    for value in noise:
        motion(value, FRAME)
        found.append(motion.velocity[0])
    # Brookner 1998, eq. 1.2.6: variance h^2 * 2 / (g (4 - 2 g - h)) / T^2 of the noise's.
    theta = math.exp(-FRAME / 0.06)
    g, h = 1 - theta**2, (1 - theta) ** 2
    expected = h * math.sqrt(2 / (g * (4 - 2 * g - h))) / FRAME
    assert np.std(found[100:]) == pytest.approx(expected, rel=0.05)


def test_an_alpha_beta_filter_starts_at_rest_and_ignores_repeated_times():
    motion = AlphaBetaFilter()
    motion(np.array([3.0]), 0.5)
    assert motion.value == [3.0] and motion.velocity == [0.0]
    motion(np.array([9.0]), 0.0)
    assert motion.value == [3.0]
