import pytest
import torch

from hand_perception.training.config import StageConfig
from hand_perception.training.optimisers import Muon, is_large_matrix, make_optimiser, orthogonal


def test_optimisers_by_name():
    parameters = [torch.nn.Parameter(torch.zeros(1))]
    adam = make_optimiser(StageConfig("mesh", optimizer="adam", lr=1e-3), parameters)
    assert type(adam) is torch.optim.Adam and adam.defaults["betas"] == (0.9, 0.999)
    assert type(make_optimiser(StageConfig("mesh"), parameters)) is torch.optim.AdamW
    muon = make_optimiser(StageConfig("mesh", optimizer="muon"), parameters)
    assert type(muon) is Muon and muon.defaults["betas"] == (0.9, 0.98)


@pytest.mark.parametrize("shape", [(40, 90), (90, 40), (64, 64)])
def test_a_matrix_keeps_its_directions_and_loses_their_strengths(shape):
    torch.manual_seed(0)
    u, _, v = torch.linalg.svd(torch.randn(shape), full_matrices=False)
    strengths = torch.logspace(0, -1, min(shape))
    turned = u.mT @ orthogonal(u @ strengths.diag() @ v) @ v.mT
    expected = strengths / strengths.norm()
    for _ in range(5):
        expected = 3.4445 * expected - 4.7750 * expected**3 + 2.0315 * expected**5
    # Rounding of the product with itself, 1e-7, grown as the smallest values are: 3.4445^5.
    assert torch.allclose(turned, expected.diag(), atol=1e-4)
    assert expected.min() > 0.67 and expected.max() < 1.21


def test_only_large_matrices_are_turned():
    def shaped(*shape):
        return torch.zeros(shape)

    assert is_large_matrix(shaped(32, 32)) and is_large_matrix(shaped(32, 4, 3, 3))
    assert not any(is_large_matrix(shaped(*s)) for s in ((32,), (2, 64), (64, 21), (24, 3, 3, 3)))


def test_a_step_is_as_long_as_adams_and_small_parameters_move_as_with_adamw():
    torch.manual_seed(0)
    matrix = torch.nn.Parameter(torch.zeros(64, 4, 4, 4))
    bias, twin = (torch.nn.Parameter(torch.ones(64)) for _ in range(2))
    stage = StageConfig("mesh", optimizer="muon", lr=1e-2, weight_decay=0.0)
    muon = make_optimiser(stage, [matrix, bias])
    adamw = make_optimiser(StageConfig("mesh", lr=1e-2, weight_decay=0.0), [twin])
    for _ in range(3):
        matrix.grad = torch.randn_like(matrix)
        bias.grad = torch.randn(64)
        twin.grad = bias.grad.clone()
        before = matrix.detach().clone()
        muon.step()
        adamw.step()
    # 64 singular values between 0.67 and 1.21 times 0.2 * sqrt(64), over 64 x 64 entries.
    length = (matrix.detach() - before).square().mean().sqrt()
    assert 0.2 * 0.67e-2 < length < 0.2 * 1.21e-2
    assert torch.equal(bias, twin)
    assert set(muon.state[matrix]) == {"momentum"}
