import math

import torch
from models.tiny import tiny_model
from one_hand import one_hand

from hand_perception.models.detectors.protocol import Detections
from hand_perception.models.handos.camera import translation
from hand_perception.training.batches import BatchRecipe, collate
from hand_perception.training.decoder_objective import (
    _true_camera,
    choose_impostors,
    choose_instances,
    presence_loss,
)


def a_batch():
    sample = one_hand()
    sample.image = sample.image[:64, :64]
    sample.hands.keypoints2d[:] = sample.hands.keypoints2d * 0.4
    recipe = BatchRecipe(batch_size=1, sizes=(64,), view="hand", slots=2, weights=(1.0,))
    batch = collate([sample], 64, recipe)
    batch.ignore.zero_()
    return batch


def detections(boxes, logits) -> Detections:
    boxes, logits = torch.tensor([boxes]), torch.tensor([logits])
    queries = torch.arange(boxes.shape[1]).float()[None, :, None]
    return Detections([], [], [], queries, -queries, boxes, logits)


def test_instances_are_queries_of_hands_and_impostors_are_not():
    batch = a_batch()
    hand = batch.boxes[0, 0].tolist()
    found = detections([hand, [0.9, 0.9, 0.1, 0.1], [0.1, 0.9, 0.1, 0.1]], [1.0, 2.0, 0.0])
    chosen = choose_instances(found, batch, 1)
    assert chosen.valid.all() and chosen.queries[0, 0].tolist() == [0, 0]
    impostors = choose_impostors(found, batch, 2)
    assert impostors.valid.tolist() == [[True, True]]
    assert impostors.queries[0, :, 0].tolist() == [1, 2]  # the best score first


def test_nobody_is_an_impostor_where_hands_may_be_unlabelled():
    batch = a_batch()
    batch.background[:] = 0.3
    found = detections([[0.9, 0.9, 0.1, 0.1]], [2.0])
    assert not choose_impostors(found, batch, 1).valid.any()


def test_presence_loss_counts_valid_slots_only():
    logits = torch.tensor([[math.log(3), 50.0, math.log(3)]])  # probabilities 3/4, 1, 3/4
    loss = presence_loss(logits, torch.tensor([[True, False]]), torch.tensor([[True]]))
    expected = -(math.log(3 / 4) + math.log(1 / 4)) / 2
    torch.testing.assert_close(loss, torch.tensor(expected))


def test_camera_goal_is_the_inverse_of_the_camera_head():
    t = torch.tensor([[0.05, -0.02, 0.7]])
    boxes, intrinsics = torch.tensor([[0.4, 0.6, 0.3, 0.2]]), torch.tensor([[1.1, 1.1, 0.5, 0.5]])
    torch.testing.assert_close(
        translation(_true_camera(t, boxes, intrinsics), boxes, intrinsics), t
    )


def test_judged_slots_only_get_a_presence():
    model = tiny_model()
    found = model.detector(torch.randn(1, 3, 64, 64))
    instances = torch.cat([found.q0, found.q6], -1)[:, :3]
    out = model.decoder(found.backbone, found.encoder, instances, found.boxes[:, :3], judged=1)
    assert out.presence.shape == (1, 3) and out.vertices[-1].shape == (1, 2, 778, 3)
