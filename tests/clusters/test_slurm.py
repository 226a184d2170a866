"""Our job files on a cluster of two nodes: told to stop, a job is requeued, goes on, and ends as if it had not been.

Minutes, and only where it is asked for: ``make slurm``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from tests.callbacks.test_save_when_stopped import assert_equal
from tests.clusters.runs import EPOCHS, RUN, fit, outcome
from tests.clusters.slurm import Cluster, cluster_in, missing

pytestmark = [
    pytest.mark.skipif(not os.environ.get("SIMCLR_CLUSTERS"), reason="make slurm"),
    pytest.mark.skipif(bool(missing()), reason=f"not installed: {', '.join(missing())} (Debian: slurm-wlm, munge)"),
]
JOBS = Path(__file__).parents[2] / "experiments" / "slurm"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with TemporaryDirectory(prefix="slurm") as folder, cluster_in(Path(folder)) as found:
        yield found


@pytest.mark.parametrize(("file", "processes"), [("one_node", 1), ("two_nodes", 2)])
def test_a_job_that_is_told_to_stop_ends_as_if_it_had_not_been(
    file: str, processes: int, cluster: Cluster, tmp_path: Path
) -> None:
    several = ["--trainer.devices", str(processes), "--trainer.strategy", "ddp"] if processes > 1 else []
    fit("--trainer.logger.version", "whole", *several, cwd=tmp_path)
    options = ["--parsable", f"--output={tmp_path}/%j.out"]
    strategy = ["--trainer.strategy", "ddp"] if processes > 1 else []
    job = cluster("sbatch", *options, str(JOBS / f"{file}.sbatch"), *RUN, *strategy, cwd=tmp_path)
    output, run = tmp_path / f"{job}.out", tmp_path / "runs" / "quickstart" / f"job_{job}"
    last = run / "checkpoints" / "last.ckpt"

    cluster.wait(last.exists, "the end of an epoch")
    cluster("scancel", "--signal=USR1", job)
    cluster.wait(lambda: cluster.job(job)["Restarts"] == "1", "the requeue")
    assert "Stopped by SIGUSR1 after step" in output.read_text()
    assert torch.load(last, weights_only=True)["epoch"] < EPOCHS
    # Another job in the same folder begins anew, beside it.
    other = cluster("sbatch", *options, str(JOBS / "one_node.sbatch"), *RUN, "--trainer.max_epochs", "1", cwd=tmp_path)

    cluster.wait(lambda: cluster.job(job)["JobState"] == "COMPLETED", f"the end of the job ({output})")
    cluster.wait(lambda: cluster.job(other)["JobState"] == "COMPLETED", "the end of the other job")
    assert cluster.job(job)["ExitCode"] == "0:0"
    (whole, rows), (parts, own_rows) = outcome(run.with_name("whole")), outcome(run)
    assert parts["epoch"] == EPOCHS - 1
    assert_equal(parts, whole)
    assert own_rows == rows
    state, _ = outcome(run.with_name(f"job_{other}"))
    assert state["epoch"] == 0
    assert not list(tmp_path.rglob("hpc_ckpt*"))
