import argparse
from pathlib import Path

import pytest

from hand_perception.errors import DataError
from hand_perception.training import command


def test_pictures_without_hands_are_not_left_out_in_silence(tmp_path: Path):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    words = ["recipe.yaml", "--output", str(tmp_path), "--without-hands", str(tmp_path)]
    with pytest.raises(DataError, match="--photographs"):
        command.run(parser.parse_args(words))
