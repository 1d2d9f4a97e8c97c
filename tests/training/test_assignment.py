import torch

from hand_perception.training.assignment import hungarian, inside_ignored, sim_ota, task_aligned
from hand_perception.training.boxes import iou_and_giou

LEFT, RIGHT = [0.25, 0.5, 0.2, 0.2], [0.75, 0.5, 0.2, 0.2]
EMPTY = [0.0, 0.0, 0.0, 0.0]


def test_iou_and_giou_by_hand():
    a, b = torch.tensor([0.5, 0.5, 1.0, 1.0]), torch.tensor([1.0, 0.5, 1.0, 1.0])
    iou, giou = iou_and_giou(a, b)
    # Half of each overlaps: 0.5 / 1.5, and the hull of 1.5 is all union.
    torch.testing.assert_close(iou, torch.tensor(1 / 3))
    torch.testing.assert_close(giou, torch.tensor(1 / 3))
    iou, giou = iou_and_giou(a, torch.tensor([2.5, 0.5, 1.0, 1.0]))
    torch.testing.assert_close(iou, torch.tensor(0.0))
    torch.testing.assert_close(giou, torch.tensor(-1 / 3))  # hull 3, union 2


def test_sim_ota_takes_as_many_queries_as_the_overlaps_sum_to():
    truth = torch.tensor([[LEFT, EMPTY]])
    present = torch.tensor([[True, False]])
    boxes = torch.tensor([[LEFT, LEFT, RIGHT, LEFT]])
    hand, iou = sim_ota(torch.tensor([[2.0, 1.0, 3.0, 0.0]]), boxes, truth, present)
    # Three queries overlap wholly: the dynamic number is 3; the far one stays out.
    assert hand.tolist() == [[0, 0, -1, 0]]
    torch.testing.assert_close(iou[0, :2], torch.ones(2))


def test_sim_ota_gives_every_hand_at_least_one_query():
    truth, present = torch.tensor([[LEFT, RIGHT]]), torch.tensor([[True, True]])
    boxes = torch.tensor([[[0.3, 0.5, 0.1, 0.1], [0.7, 0.5, 0.1, 0.1], [0.5, 0.1, 0.1, 0.1]]])
    hand, _ = sim_ota(torch.zeros(1, 3), boxes, truth, present)
    assert hand.tolist() == [[0, 1, -1]]


def test_sim_ota_weighs_score_and_overlap_as_in_equation_5():
    """Cost -log S - w log IoU: a sure query of IoU 1/3 against an unsure one of IoU 1."""
    truth, present = torch.tensor([[LEFT]]), torch.tensor([[True]])
    x, y, w, h = LEFT
    boxes = torch.tensor([[[x + w / 2, y, w, h], LEFT]])
    # -log S: 0.049 and 1.313, -log IoU: 1.099 and 0. With weight 1 the first costs 1.147, with 3
    # it costs 3.345. One query is wanted: the IoUs sum to 4/3.
    logits = torch.tensor([[3.0, -1.0]])
    assert sim_ota(logits, boxes, truth, present, iou_cost=1.0)[0].tolist() == [[0, -1]]
    assert sim_ota(logits, boxes, truth, present, iou_cost=3.0)[0].tolist() == [[-1, 0]]


def test_hungarian_matches_one_query_a_hand():
    truth, present = torch.tensor([[LEFT, RIGHT]]), torch.tensor([[True, True]])
    boxes = torch.tensor([[RIGHT, RIGHT, LEFT]])
    hand = hungarian(torch.tensor([[1.0, 3.0, 0.0]]), boxes, truth, present)
    assert hand.tolist() == [[-1, 1, 0]]


def test_task_aligned_only_takes_tokens_inside_the_box():
    truth, present = torch.tensor([[LEFT]]), torch.tensor([[True]])
    centres = torch.tensor([[0.25, 0.5], [0.3, 0.55], [0.75, 0.5]])
    boxes = torch.tensor([[LEFT, LEFT, LEFT]])
    hand, _ = task_aligned(torch.zeros(1, 3), boxes, centres, truth, present)
    assert hand.tolist() == [[0, 0, -1]]


def test_ignored_regions():
    centres = torch.tensor([[[0.25, 0.5], [0.75, 0.5]]])
    assert inside_ignored(centres, torch.tensor([[LEFT, EMPTY]])).tolist() == [[True, False]]
