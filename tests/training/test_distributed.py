"""Two real processes over loopback, as torchrun starts them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import torch

TESTS = Path(__file__).parents[1]


def test_two_processes_average_their_gradients_and_end_equal(tmp_path):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--local-addr", "127.0.0.1", "--nproc-per-node", "2"]
    command += [str(TESTS / "training" / "two_processes.py"), str(tmp_path)]
    path = os.pathsep.join([str(TESTS), str(TESTS.parent)])
    environment = os.environ | {
        "PYTHONPATH": path,
        "OMP_NUM_THREADS": "1",
        "GLOO_SOCKET_IFNAME": "lo",
    }
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=540)
    assert done.returncode == 0, done.stderr[-3000:]
    first, second = (torch.load(tmp_path / f"rank{rank}.pt") for rank in range(2))
    differing = False
    for a, b, averaged in zip(first["own"], second["own"], first["averaged"], strict=True):
        torch.testing.assert_close(averaged, (a + b) / 2)
        differing |= not torch.equal(a, b)
    assert differing, "both ranks saw the same samples"
    for a, b in zip(first["averaged"], second["averaged"], strict=True):
        assert torch.equal(a, b)
    expected = (first["own_statistics"] + second["own_statistics"]) / 2
    torch.testing.assert_close(first["statistics"], expected)
    assert first["trained"].keys() == second["trained"].keys()
    for name, value in first["trained"].items():
        assert torch.equal(value, second["trained"][name]), name
    assert "2 processes cannot share a batch of 3 equally" in first["uneven"]
    # One process writes.
    assert (tmp_path / "mesh.safetensors").is_file()
