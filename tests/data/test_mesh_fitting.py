import numpy as np
import torch

from hand_perception.data.mesh_fitting import fit_meshes
from hand_perception.geometry import signed_volume
from hand_perception.synthesis.rig import forward_kinematics, local_rotations, skin
from hand_perception.template import load_template


def test_fitting_recovers_a_posed_left_and_right_hand():
    template = load_template()
    flexion = torch.zeros(1, 16)
    flexion[:, 4:7] = 0.6  # a bent index finger
    flexion[:, 13:16] = 0.9  # and little finger
    frames, rest = torch.tensor(template.joint_frames), torch.tensor(template.joints)[None]
    rotations = local_rotations(flexion, torch.zeros(1, 16), torch.zeros(1, 16))
    turns, posed = forward_kinematics(rotations, rest, frames)
    weights = torch.tensor(template.weights)
    vertices = skin(torch.tensor(template.vertices), weights, turns, rest, posed)[0].numpy()
    angle = 0.5
    turn = np.array(
        [[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]]
    )
    right = vertices @ turn.T
    both = np.stack([right, right * (-1, 1, 1)]).astype(np.float32)
    joints, marked = template.regressor @ both, template.landmarks @ both
    pixels = marked[..., :2] * 1000 + 200
    fits = fit_meshes(template, pixels, marked, np.array([False, True]))
    # The labels have no error; what is left is Adam's after its fixed number of steps, below 1 %
    # of the box, and the prior's pull on the angles.
    assert fits.residual.max() < 0.01
    truth = both - joints[:, 9:10]
    error = np.linalg.norm(fits.vertices - truth, axis=-1).mean(1)
    assert error.max() < 0.006
    volumes = signed_volume(fits.vertices, template.faces)
    assert volumes[0] > 0 > volumes[1]
