from collections import Counter

import pytest

from hand_perception.data import order
from hand_perception.data.order import ShuffledOrder, blocks_of


@pytest.mark.parametrize("blocks", [(10,), (3, 5, 1, 7), (1,) * 40])
def test_every_sample_comes_once_an_epoch_and_epochs_differ(blocks):
    total = sum(blocks)
    shuffled = ShuffledOrder(blocks, seed=3)
    epochs = [[shuffled[e * total + k] for k in range(total)] for e in range(3)]
    assert all(Counter(epoch) == Counter(range(total)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


def test_any_position_can_be_asked_for_at_any_time():
    blocks = (4,) * 50
    straight = [ShuffledOrder(blocks, seed=1)[k] for k in range(400)]
    jumping = ShuffledOrder(blocks, seed=1)
    assert [jumping[k] for k in reversed(range(400))] == straight[::-1]


def test_a_window_of_blocks_is_read_before_the_next():
    blocks, size = 3 * order.WINDOW, 5
    shuffled = ShuffledOrder((size,) * blocks, seed=0)
    span = order.WINDOW * size
    for start in range(0, 3 * span, span):
        touched = {shuffled[start + k] // size for k in range(span)}
        assert len(touched) == order.WINDOW


def test_a_set_of_loose_files_is_one_block():
    assert list(blocks_of([0] * 7)) == [7]
