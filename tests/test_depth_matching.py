"""Which depth image goes with which image, in all orders of arrival."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from hand_perception import depth_matching
from hand_perception.depth_matching import DepthMatcher


class Driver:
    """Sends images and depth images by their time in milliseconds; keeps what comes out."""

    def __init__(self) -> None:
        self.out: list[tuple[int, int | None]] = []
        self.matcher = DepthMatcher(self._take, tolerance_s=0.01)

    def _take(self, image, depth) -> None:
        self.out.append((image.time, depth and depth.time))

    def image(self, time: int) -> None:
        self.matcher.on_image(message(time))

    def depth(self, time: int) -> None:
        self.matcher.on_depth(message(time))


def message(milliseconds: int):
    seconds, rest = divmod(milliseconds, 1000)
    stamp = SimpleNamespace(sec=seconds, nanosec=rest * 1_000_000)
    return SimpleNamespace(time=milliseconds, header=SimpleNamespace(stamp=stamp))


@pytest.fixture
def driver() -> Driver:
    return Driver()


def test_images_without_any_depth_pass_at_once(driver):
    driver.image(0)
    driver.image(33)
    assert driver.out == [(0, None), (33, None)]


def test_depth_that_came_first_is_found(driver):
    driver.depth(995)
    driver.depth(1028)
    driver.image(1000)
    assert driver.out == [(1000, 995)]


def test_an_image_waits_for_depth_that_follows(driver):
    driver.depth(0)
    driver.image(33)
    assert driver.out == []
    driver.depth(35)
    assert driver.out == [(33, 35)]


@pytest.mark.parametrize(("apart", "match"), [(10, 1010), (11, None)])
def test_the_tolerance_is_inclusive(driver, apart, match):
    driver.depth(1000 + apart)
    driver.image(1000)
    assert driver.out == [(1000, match)]


def test_the_nearest_of_several_is_taken(driver):
    for time in (992, 999, 1007):
        driver.depth(time)
    driver.image(1000)
    assert driver.out == [(1000, 999)]


def test_later_depth_ends_the_wait(driver):
    driver.depth(0)
    driver.image(33)
    driver.depth(66)  # that of 33 was lost
    assert driver.out == [(33, None)]
    driver.image(66)
    assert driver.out == [(33, None), (66, 66)]


def test_when_depth_ends_one_image_waits_and_no_more(driver):
    driver.depth(0)
    driver.image(33)
    driver.image(66)
    driver.image(99)
    assert driver.out == [(33, None), (66, None), (99, None)]
    driver.depth(99)  # it is back
    driver.image(132)
    driver.depth(132)
    assert driver.out[3:] == [(132, 132)]


def test_a_last_image_is_released_in_time(driver, monkeypatch):
    driver.depth(0)
    driver.image(33)
    driver.matcher.release_overdue()
    assert driver.out == []
    monkeypatch.setattr(depth_matching, "PATIENCE", 0.0)
    driver.matcher.release_overdue()
    assert driver.out == [(33, None)]


def test_after_a_jump_in_time_old_depth_matches_nothing(driver):
    driver.depth(1000)
    driver.matcher.clear()
    driver.image(1000)
    assert driver.out == [(1000, None)]
