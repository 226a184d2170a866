"""Two agents of torchrun on this machine: a process is killed, the agents start all anew, and nothing is lost.

Minutes, and only where it is asked for: ``make slurm``.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.callbacks.test_save_when_stopped import assert_equal
from tests.clusters.runs import HERE, RUN, fit, outcome

pytestmark = pytest.mark.skipif(not os.environ.get("SIMCLR_CLUSTERS"), reason="make slurm")


def workers_of(agent: int) -> list[int]:
    """Processes that an agent has started."""
    return [int(number) for number in Path(f"/proc/{agent}/task/{agent}/children").read_text().split()]


def test_agents_start_a_killed_run_again(tmp_path: Path) -> None:
    fit("--trainer.logger.version", "whole", "--trainer.devices", "2", "--trainer.strategy", "ddp", cwd=tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as server:
        endpoint = f"127.0.0.1:{server.getsockname()[1]}"
    settings = {"nnodes": "2", "nproc_per_node": "1", "max_restarts": "3", "rdzv_backend": "c10d", "rdzv_id": "simclr"}
    settings["rdzv_endpoint"] = endpoint
    command = ["-m", "simclr_lightning", "fit", *RUN, "--trainer.num_nodes", "2", "--trainer.devices", "1"]
    command += ["--trainer.strategy", "ddp", "--trainer.logger.version", "parts", "--auto_resume", "true"]
    agents = []
    for number in (0, 1):
        environment = {**HERE, "GLOO_SOCKET_IFNAME": "lo", "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
        options = [f"--node_rank={number}"]
        if number == 0:
            options += [f"--{name}={value}" for name, value in settings.items()]
        else:  # as Kubeflow tells its pods
            environment |= {f"PET_{name.upper()}": value for name, value in settings.items()}
        typed = [sys.executable, "-m", "torch.distributed.run", *options, *command]
        with (tmp_path / f"{number}.out").open("wb") as output:
            agents.append(subprocess.Popen(typed, cwd=tmp_path, env=environment, stdout=output, stderr=output))
    run = tmp_path / "runs" / "quickstart" / "parts"
    last = run / "checkpoints" / "last.ckpt"
    deadline = time.monotonic() + 300
    while not last.exists():
        assert time.monotonic() < deadline, (tmp_path / "0.out").read_text()[-3000:]
        time.sleep(0.1)
    os.kill(workers_of(agents[1].pid)[-1], signal.SIGKILL)
    for number, agent in enumerate(agents):
        assert agent.wait(timeout=300) == 0, (tmp_path / f"{number}.out").read_text()[-3000:]
    assert (run / "config-2.yaml").exists()  # it was started twice
    (whole, rows), (parts, own_rows) = outcome(run.with_name("whole")), outcome(run)
    assert_equal(parts, whole)
    assert own_rows == rows
