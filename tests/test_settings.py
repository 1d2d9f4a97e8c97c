from dataclasses import dataclass

import pytest

from hand_perception.errors import ModelError
from hand_perception.settings import build, override


@dataclass(frozen=True)
class Sizes:
    name: str = "s"
    widths: tuple[int, ...] = (1, 2)


def test_lists_become_tuples_and_unknown_keys_are_named():
    assert build(Sizes, {"widths": [3, 4]}, ModelError) == Sizes(widths=(3, 4))
    with pytest.raises(ModelError, match="wdths"):
        build(Sizes, {"wdths": [3]}, ModelError)


def test_overrides_reach_into_groups_and_leave_the_original():
    values = {"name": "a", "decoder": {"mask": "c", "dim": 8}}
    changed = override(
        values, ["decoder.mask=b", "decoder.value_strides=[8, 16]", "size=3"], ModelError
    )
    assert changed == {
        "name": "a",
        "size": 3,
        "decoder": {"mask": "b", "dim": 8, "value_strides": [8, 16]},
    }
    assert values == {"name": "a", "decoder": {"mask": "c", "dim": 8}}
    # A group that the file does not have.
    assert override({}, ["detector.kind=d_fine"], ModelError) == {"detector": {"kind": "d_fine"}}


@pytest.mark.parametrize("assignment", ["decoder.mask", "=b", "decoder.=b"])
def test_what_assigns_nothing_is_refused(assignment):
    with pytest.raises(ModelError, match="assigns nothing"):
        override({}, [assignment], ModelError)
