"""The refine stage (section 3.3): what the image shows at each vertex moves it a little.

Features of vertices are [V, B, C] inside the graph network, as in MobRecon's decoder.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from hand_perception.models.layers import sample_map
from hand_perception.models.mobrecon.decoder import gather


def neighbours(faces: np.ndarray, count: int) -> list[list[int]]:
    """Of each vertex, the vertices that an edge joins it to, ascending."""
    around: list[set[int]] = [set() for _ in range(count)]
    for a, b, c in np.asarray(faces).tolist():
        around[a] |= {b, c}
        around[b] |= {a, c}
        around[c] |= {a, b}
    return [sorted(ring) for ring in around]


class Neighbourhood(nn.Module):
    """The sum over each vertex's neighbours: [V, B, C] -> [V, B, C]."""

    def __init__(self, faces: np.ndarray, count: int) -> None:
        super().__init__()
        rings = neighbours(faces, count)
        pairs = torch.tensor([(v, w) for v, ring in enumerate(rings) for w in ring]).T
        ones = torch.ones(pairs.shape[1])
        adjacency = torch.sparse_coo_tensor(pairs, ones, (count, count), check_invariants=True)
        self.register_buffer("adjacency", adjacency.coalesce(), persistent=False)
        # Rings as rows of one table, short ones filled up with a vertex of zeros.
        longest = max(map(len, rings))
        table = [ring + [count] * (longest - len(ring)) for ring in rings]
        self.register_buffer("table", torch.tensor(table), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        if torch.onnx.is_in_onnx_export():
            return self.by_gather(x)
        return torch.sparse.mm(self.adjacency, x.flatten(1)).view_as(x)

    def by_gather(self, x: Tensor) -> Tensor:
        """The same without a sparse matrix, which ONNX has not."""
        return gather(torch.cat([x, torch.zeros_like(x[:1])]), self.table).sum(1)


class Norm(nn.Module):
    """Batch norm of each feature [V, B, C] over vertices and crops."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(width)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x.flatten(0, 1)).view_as(x)


class GINConv(nn.Module):
    """eq. 2 (Xu et al. 2019): an MLP of (1 + eps) times a vertex's features and the sum of its
    neighbours', with batch norm inside as there: sums over neighbours grow from layer to layer, and
    drive hidden units to where ReLU is flat. Batch norm and ReLU follow except at the end."""

    def __init__(
        self, around: Neighbourhood, inputs: int, hidden: int, outputs: int, last: bool = False
    ) -> None:
        super().__init__()
        self.around = around
        self.eps = nn.Parameter(torch.zeros(()))
        self.mlp = nn.Sequential(
            nn.Linear(inputs, hidden, bias=False),
            Norm(hidden),
            nn.ReLU(inplace=True),
            nn.Linear(hidden, outputs),
        )
        self.out = nn.Identity() if last else nn.Sequential(Norm(outputs), nn.ReLU(inplace=True))

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.mlp((1 + self.eps) * x + self.around(x)))


class GINResBlock(nn.Module):
    """Two GIN convolutions beside an identity (Fig. 4)."""

    def __init__(self, around: Neighbourhood, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(*(GINConv(around, width, width, width) for _ in range(2)))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class GraphNetwork(nn.Module):
    """Fig. 4: features [B, V, C] -> [B, V, 3]. small: whether its results start near zero."""

    def __init__(
        self, faces: np.ndarray, vertices: int, inputs: int, width: int, small: bool
    ) -> None:
        super().__init__()
        around = Neighbourhood(faces, vertices)
        self.body = nn.Sequential(
            GINConv(around, inputs, 2 * width, width),
            *(GINResBlock(around, width) for _ in range(3)),
            GINConv(around, width, width // 2, 3, last=True),
        )
        if small:
            with torch.no_grad():
                out = self.body[-1].mlp[-1]
                out.weight.mul_(0.01)
                out.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x.transpose(0, 1)).transpose(0, 1)


class RefineStage(nn.Module):
    """Rough mesh [B, V, 3] -> the final one. local, broadcast, offset: the parts of Table 3.

    local_width: channels of all maps that are read at the vertices together.
    """

    def __init__(
        self,
        faces: np.ndarray,
        vertices: int,
        local_width: int,
        deep: int,
        width: int,
        local: bool = True,
        broadcast: bool = True,
        offset: bool = True,
    ) -> None:
        super().__init__()
        self.local, self.offset = local, offset
        self.broadcast = nn.Linear(deep, deep // 4) if broadcast else None
        inputs = 3 + local * local_width + broadcast * (deep // 4)
        self.graph = GraphNetwork(faces, vertices, inputs, width, small=offset)

    def forward(self, rough: Tensor, maps: list[Tensor], deep: Tensor) -> Tensor:
        """maps: [B, C, H, W] each, of any size; deep: [B, D], the mesh's global feature."""
        features = [rough]
        if self.local:
            features += [sample_map(m, rough[..., :2]) for m in maps]
        if self.broadcast is not None:
            features.append(self.broadcast(deep)[:, None].expand(-1, rough.shape[1], -1))
        moved = self.graph(torch.cat(features, -1))
        return rough + moved if self.offset else moved
