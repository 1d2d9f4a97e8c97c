import cv2
import numpy as np
import pytest
from script_file import load_script

from hand_perception.errors import DataError

PASTE = load_script("scripts/paste_things.py")


def cutout(side: int = 60) -> np.ndarray:
    """A bright disc in the middle of a clear square."""
    thing = np.zeros((side, side, 4), np.uint8)
    cv2.circle(thing, (side // 2, side // 2), side // 3, (250, 240, 230, 255), -1)
    return thing


def test_only_pictures_with_something_clear_are_cutouts():
    assert PASTE.is_cutout(cutout())
    opaque = cutout()
    opaque[..., 3] = 255
    assert not PASTE.is_cutout(opaque) and not PASTE.is_cutout(opaque[..., :3])
    assert not PASTE.is_cutout(None) and not PASTE.is_cutout(cutout().astype(np.uint16))


@pytest.mark.parametrize("seed", range(8))
def test_a_thing_changes_what_it_covers_and_no_more(seed):
    rng = np.random.default_rng(seed)
    scene = rng.integers(90, 110, (96, 128, 3), np.uint8)
    changed = (PASTE.pasted(scene, cutout(), rng) != scene).any(-1)
    # A disc of two thirds of the largest side, and a pixel of its rim.
    most = np.pi * (max(PASTE.SHARE) * 96 / 3 + 1.5) ** 2
    assert 0 < changed.sum() <= most


def test_the_same_seed_makes_the_same_pictures(tmp_path, monkeypatch):
    for name, picture in (("scene", np.full((200, 300, 3), 80, np.uint8)), ("thing", cutout())):
        (tmp_path / name).mkdir()
        cv2.imwrite(str(tmp_path / name / "a.png"), picture)

    def make(output, things="thing", seed="3"):
        options = {"--scenes": "scene", "--things": things, "--output": output}
        words = [word for key, name in options.items() for word in (key, str(tmp_path / name))]
        monkeypatch.setattr("sys.argv", ["paste_things.py", *words, "--count", "4", "--seed", seed])
        PASTE.main()
        return [cv2.imread(str(path)) for path in sorted((tmp_path / output).iterdir())]

    first, again, other = make("first"), make("again"), make("other", seed="4")
    assert [picture.shape for picture in first] == [(256, 384, 3)] * 4
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    assert any((a != b).any() for a, b in zip(first, other, strict=True))
    with pytest.raises(DataError, match="alpha"):
        make("none", things="scene")
