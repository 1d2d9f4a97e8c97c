import torch

from hand_perception.models import layers


def test_gather_form_of_deformable_sampling_equals_grid_sample():
    torch.manual_seed(0)
    values = [torch.randn(2, 8, 6, 5), torch.randn(2, 8, 3, 4)]
    # From -0.3 to 1.3: samples outside the maps count as zero in both forms.
    locations = torch.rand(2, 7, 4, 2, 3, 2) * 1.6 - 0.3
    weights = torch.rand(2, 7, 4, 6).softmax(-1)
    by_grid = layers._sample_by_grid(values, locations, weights)
    by_gather = layers._sample_by_gather(values, locations, weights)
    # Bilinear weights of coordinates up to 6 cells carry float32's 6 * 2^-23 each; four
    # neighbours of values up to about 4 give 4 * 4 * 7e-7.
    torch.testing.assert_close(by_gather, by_grid, atol=1.2e-5, rtol=0)


def test_deformable_attention_starts_at_its_reference_boxes():
    torch.manual_seed(0)
    attention = layers.DeformableAttention(8, heads=2, levels=1, points=4)
    with torch.no_grad():
        attention.out.weight.copy_(torch.eye(8))
        attention.out.bias.zero_()
    # A map that holds each cell's x: with offsets symmetric over heads at 0 and 180 degrees,
    # head 0 looks right of the centre and head 1 as far to the left.
    x = (torch.arange(16) + 0.5) / 16
    value = x[None, None, None].expand(1, 8, 16, 16).contiguous()
    boxes = torch.tensor([[[0.5, 0.5, 0.4, 0.4]]])
    seen = attention(torch.randn(1, 1, 8), boxes, [value])[0, 0]
    right, left = seen[:4] - 0.5, seen[4:] - 0.5
    assert (right > 0).all()
    torch.testing.assert_close(right, -left)


def test_sine_embedding_has_the_stated_size_and_ends_with_its_input():
    x = torch.tensor([[0.25, -0.5]])
    embedded = layers.sine_embedding(x, frequencies=6)
    assert embedded.shape == (1, 26)
    torch.testing.assert_close(embedded[0, -2:], x[0])
    torch.testing.assert_close(embedded[0, 0], torch.tensor(0.25 * torch.pi).sin())
