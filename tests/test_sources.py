import pytest

from hand_perception.errors import DataError
from hand_perception.sources import find_pictures


def test_pictures_are_found_below_folders_each_once(tmp_path):
    below = tmp_path / "room" / "shelf"
    below.mkdir(parents=True)
    for path in (tmp_path / "b.PNG", below / "a.webp", tmp_path / "notes.txt"):
        path.touch()
    found = find_pictures([tmp_path / "b.PNG", tmp_path])
    assert found == [tmp_path / "b.PNG", below / "a.webp"]


def test_missing_and_empty_paths(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        find_pictures([tmp_path / "gone"])
    with pytest.raises(DataError, match="no pictures"):
        find_pictures([tmp_path])
