"""The loss terms of HandOS (section 3.4, supplement VI.2), each per hand.

Where the paper sums over edges or faces we take means, so that the weights do not depend on the
mesh. 2D is in units of the hand's box side, 3D in models.handos.decoder.UNIT.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

# COCO-WholeBody's per-keypoint constants for hands (Jin et al. 2020), our keypoint order.
OKS_SIGMAS = (
    0.029, 0.022, 0.035, 0.037, 0.047, 0.026, 0.025, 0.024, 0.035, 0.018, 0.024,
    0.022, 0.026, 0.017, 0.021, 0.021, 0.032, 0.020, 0.019, 0.022, 0.031,
)  # fmt: skip


def known_mean(values: Tensor, known: Tensor | None) -> Tensor:
    """The mean over the joints that are labelled: [..., 21], known bool [..., 21] -> [...]."""
    if known is None:
        return values.mean(-1)
    known = known.to(values.dtype)
    return (values * known).sum(-1) / known.sum(-1).clamp(min=1)


def joint_l1(predicted: Tensor, truth: Tensor, side: Tensor, known: Tensor | None = None) -> Tensor:
    """L^{J2D} and L^{Jproj} (eq. 9, 11): [..., 21, 2] and box side [...] -> [...]."""
    return known_mean(((predicted - truth).abs() / side[..., None, None]).mean(-1), known)


def oks_loss(predicted: Tensor, truth: Tensor, area: Tensor, known: Tensor | None = None) -> Tensor:
    """1 - OKS (eq. 9, 11; Maji et al. 2022): [..., 21, 2], box area [...] -> [...]."""
    sigma = predicted.new_tensor(OKS_SIGMAS)
    squared = (predicted - truth).square().sum(-1)
    similarity = torch.exp(-squared / (2 * area[..., None] * (2 * sigma) ** 2))
    return 1 - known_mean(similarity, known)


def point_l1(predicted: Tensor, truth: Tensor, known: Tensor | None = None) -> Tensor:
    """L^V, L^{J3D} (eq. 10): [..., N, 3] -> [...]; known: bool [..., N]."""
    return known_mean((predicted - truth).abs().mean(-1), known)


def laplace_loss(error: Tensor, spread: Tensor, usual: float) -> Tensor:
    """The negative log-likelihood of an absolute error under a Laplace distribution of that scale
    (Kendall and Gal 2017, eq. 8), times the usual scale: there its gradient is the error's own,
    and what is surer than usual counts more. All of one shape."""
    return usual * (error / spread + torch.log(spread / usual))


def answer_loss(
    answers: Sequence[tuple[Tensor, Tensor]],
    truth: Tensor,
    usual: float,
    side: Tensor | float = 1.0,
) -> Tensor:
    """Of positions [..., 2] and the scale of how far off each may be: the mean of their
    laplace_loss, in units of ``side``."""
    return sum(
        laplace_loss(((joints - truth).abs() / side).mean(-1), spread, usual)
        for joints, spread in answers
    ) / len(answers)


class MeshTerms:
    """Edge, normal and normal-consistency losses over one topology.

    faces: [F, 3]; edges are each face's three, as the paper sums them. Inside, corners come first:
    a corner of all hands is then one long row.
    """

    def __init__(self, faces: Tensor) -> None:
        self.corners = faces.T.flatten()
        self.neighbours = _faces_sharing_an_edge(faces)

    def edge(self, vertices: Tensor, truth: Tensor) -> Tensor:
        """L^edge (eq. 10): difference of edge lengths, [..., V, 3] -> [...]."""
        length, goal = (self._edges(v).norm(dim=-1) for v in (vertices, truth))
        return (length - goal).abs().mean((0, 1))

    def normal(self, vertices: Tensor, truth: Tensor) -> Tensor:
        """L^normal (eq. 10): predicted edges against true face normals, [..., V, 3] -> [...]."""
        edges = F.normalize(self._edges(vertices), dim=-1, eps=1e-6)
        return (edges * self._normals(truth)).sum(-1).abs().mean((0, 1))

    def consistency(self, vertices: Tensor) -> Tensor:
        """L^nc (eq. 11): neighbouring faces' normals agree, [..., V, 3] -> [...]."""
        normals = self._normals(vertices)
        first, second = (normals.index_select(0, faces) for faces in self.neighbours)
        return (1 - (first * second).sum(-1)).mean(0)

    def _faces(self, vertices: Tensor) -> Tensor:
        """[..., V, 3] -> each face's corners, [3, F, ..., 3]."""
        return vertices.movedim(-2, 0).index_select(0, self.corners).unflatten(0, (3, -1))

    def _edges(self, vertices: Tensor) -> Tensor:
        """[3, F, ..., 3]."""
        corners = self._faces(vertices)
        return corners - corners.roll(-1, 0)

    def _normals(self, vertices: Tensor) -> Tensor:
        """[F, ..., 3]."""
        a, b, c = self._faces(vertices)
        return F.normalize(torch.linalg.cross(b - a, c - a), dim=-1, eps=1e-9)


def _faces_sharing_an_edge(faces: Tensor) -> tuple[Tensor, Tensor]:
    owner: dict[tuple[int, int], int] = {}
    first, second = [], []
    for index, face in enumerate(faces.tolist()):
        for k in range(3):
            edge = tuple(sorted((face[k], face[(k + 1) % 3])))
            if edge in owner:
                first.append(owner[edge])
                second.append(index)
            owner[edge] = index
    device = faces.device
    return torch.tensor(first, device=device), torch.tensor(second, device=device)


def heatmap_loss(
    heatmaps: Tensor, grid: Tensor, truth: Tensor, side: Tensor, known: Tensor | None = None
) -> Tensor:
    """Cross-entropy of joint heatmaps with Gaussians of 5 % of the box.

    heatmaps [..., 21, G], grid [..., G, 2], truth [..., 21, 2], side [...] -> [...].
    """
    offsets = (
        (grid[..., None, :, axis] - truth[..., None, axis]) / side[..., None, None]
        for axis in range(2)
    )
    goal = torch.exp(-sum(offset.square() for offset in offsets) / (2 * 0.05**2))
    goal = goal / goal.sum(-1, keepdim=True).clamp(min=1e-3)
    likelihood = (goal * heatmaps).sum(-1) - goal.sum(-1) * heatmaps.logsumexp(-1)
    return known_mean(-likelihood, known)
