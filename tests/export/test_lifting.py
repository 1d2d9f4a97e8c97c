import argparse
from dataclasses import replace

import cv2
import numpy as np
import pytest
from models.tiny import tiny_model

from hand_perception.data.mano import save_template
from hand_perception.errors import ModelError
from hand_perception.export.lifting import (
    CELL,
    HEADER,
    LABEL_WIDTH,
    add_arguments,
    picture,
    run,
    typical_rows,
)
from hand_perception.template import load_template
from hand_perception.training import checkpoint


def test_typical_rows_are_the_queries_at_tips_and_roots():
    template = load_template()
    rows = dict(typical_rows(template, np.arange(778)))
    assert len(rows) == 10
    matrix = tiny_model(vertex_queries=778).decoder.lifting.matrix.detach().numpy()
    # L starts from distances: each typical vertex weighs its own joint most.
    for (name, row), joint in zip(rows.items(), [4, 8, 12, 16, 20, 1, 5, 9, 13, 17], strict=True):
        assert matrix[row].argmax() == joint, name


def test_a_weight_shows_in_its_cell():
    template = load_template()
    matrix = np.zeros((779, 21), np.float32)
    (_, row), *_ = typical_rows(template, np.arange(778))
    matrix[row, 3], matrix[-1, 20] = 1.0, -0.5
    image = picture(matrix, template)

    def cell(line, joint):
        y, x = HEADER + line * CELL + CELL // 2, LABEL_WIDTH + joint * CELL + CELL // 2
        return image[y, x].tolist()

    assert cell(0, 3) == [178, 24, 43]  # the thumb's tip, red
    assert cell(0, 4) == [255, 255, 255]
    assert cell(10, 20) == [144, 178, 213]  # the camera, half way to blue


def test_the_command_draws_a_checkpoint(tmp_path):
    path = tmp_path / "mesh.safetensors"
    checkpoint.save(path, {"model": tiny_model().state_dict()}, {})
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    output = tmp_path / "lifting.png"
    assert run(parser.parse_args([str(path), "--output", str(output)])) == 0
    assert cv2.imread(str(output)).shape[1] > LABEL_WIDTH + 21 * CELL
    checkpoint.save(path, {"model": {"w": next(tiny_model().parameters())}}, {})
    with pytest.raises(ModelError, match="no lifting matrix"):
        run(parser.parse_args([str(path), "--output", str(output)]))


def test_a_checkpoint_of_manos_mesh_is_drawn_by_its_own_template(tmp_path):
    """The same hand with its vertices the other way round: rows of L must follow them."""
    ours = load_template()
    backwards = replace(
        ours,
        name="mano",
        vertices=ours.vertices[::-1].copy(),
        regressor=ours.regressor[:, ::-1].copy(),
        weights=ours.weights[::-1].copy(),
        faces=len(ours.vertices) - 1 - ours.faces[:, ::-1],
    )
    save_template(backwards, tmp_path / "mano.npz")
    path, output = tmp_path / "mesh.safetensors", tmp_path / "lifting.png"
    weights = tiny_model(vertex_queries=778).state_dict()
    checkpoint.save(path, {"model": weights}, {"recipe": {"topology": "mano"}})
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    assert run(parser.parse_args([str(path), "--output", str(output)])) == 0
    matrix = weights["decoder.lifting.matrix"].numpy()
    drawn = cv2.imread(str(output))[..., ::-1]
    np.testing.assert_array_equal(drawn, picture(matrix, load_template(tmp_path / "mano.npz")))
    assert not np.array_equal(drawn, picture(matrix, ours))
