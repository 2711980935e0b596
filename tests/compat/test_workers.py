"""Processes that start after torch has run: the two cures that the README gives."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = """
import multiprocessing, sys
from concurrent.futures import ProcessPoolExecutor
import torch, torchlime

def explained(seed):
    torch.manual_seed(seed)
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.Flatten(1), torch.nn.LazyLinear(3))
    net(torch.rand(1, 3, 64, 64))
    return torchlime.explain(net, torch.rand(1, 3, 64, 64), num_samples=64).fidelity.item()

if __name__ == "__main__":
    here = [explained(seed) for seed in range(3)]
    context = multiprocessing.get_context(sys.argv[1])
    cure = {"initializer": torch.set_num_threads, "initargs": (1,)} if sys.argv[1] == "fork" else {}
    with ProcessPoolExecutor(2, mp_context=context, **cure) as pool:
        there = list(pool.map(explained, range(3)))
    assert all(abs(a - b) < 1e-4 for a, b in zip(here, there, strict=True)), (here, there)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="forks")
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_explain_after_their_parent_did(tmp_path, method):
    (tmp_path / "workers.py").write_text(SCRIPT)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "2"}
    command = [sys.executable, str(tmp_path / "workers.py"), method]
    subprocess.run(command, env=environment, check=True, timeout=300)
