"""A cluster of two nodes on this machine, by SLURM and munge as Debian has them (``slurm-wlm``, ``munge``)."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.clusters.runs import HERE

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "scancel", "sinfo")
CONFIGURATION = """
ClusterName=fake
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=10
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SwitchType=switch/none
SchedulerType=sched/backfill
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=20
SlurmctldTimeout=60
SlurmdTimeout=60
NodeName=n0 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=2 State=UNKNOWN
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=2 State=UNKNOWN
PartitionName=all Nodes=n0,n1 Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> list[str]:
    """Programs that are not installed."""
    return [name for name in PROGRAMS if shutil.which(name, path=_path()) is None]


def _path() -> str:
    """With this Python's `simclr` first, and daemons last."""
    return f"{Path(sys.executable).parent}:{os.environ['PATH']}:/usr/sbin:/sbin"


class Cluster:
    """Two nodes that can be asked as any cluster can: ``cluster("squeue", "--noheader")``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # Nodes of a real cluster find each other by name.
        alone = {"MASTER_ADDR": "127.0.0.1", "GLOO_SOCKET_IFNAME": "lo"}
        self.environment = {**HERE, "PATH": _path(), "SLURM_CONF": str(folder / "slurm.conf"), **alone}

    def __call__(self, *command: str, cwd: Path | None = None) -> str:
        """What a command prints."""
        done = subprocess.run(command, env=self.environment, cwd=cwd, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def job(self, number: str) -> dict[str, str]:
        """What SLURM knows of a job."""
        words = self("scontrol", "--oneliner", "show", "job", number).split()
        return dict(word.split("=", 1) for word in words if "=" in word)

    def wait(self, until: Callable[[], object], what: str, seconds: float = 300) -> None:
        """Until something is so."""
        deadline = time.monotonic() + seconds
        while not until():
            logs = "".join(f"== {file}\n{file.read_text()[-2000:]}" for file in self.folder.glob("*.log"))
            assert time.monotonic() < deadline, f"{what} did not happen in {seconds} s.\n{logs}"
            time.sleep(0.2)


@contextmanager
def cluster_in(folder: Path) -> Iterator[Cluster]:
    """Start it, and stop it at the end.

    Args:
        folder: for its files; its path must be short, for the sake of sockets.
    """
    for name in ("state", "n0", "n1"):
        (folder / name).mkdir()
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(1024))
    key.chmod(0o400)
    folder.chmod(0o755)
    user = os.environ.get("USER") or ("root" if os.getuid() == 0 else str(os.getuid()))
    settings = {"host": socket.gethostname().partition(".")[0], "ports": _ports(3), "user": user, "folder": folder}
    (folder / "slurm.conf").write_text(CONFIGURATION.format(**settings))
    cluster = Cluster(folder)
    own = [f"--{option}={folder}/munge.{ending}" for option, ending in MUNGE.items()]
    daemons = [["munged", "--foreground", "--force", *own], ["slurmctld", "-D"]]
    daemons += [["slurmd", "-D", "-N", name] for name in ("n0", "n1")]
    started: list[subprocess.Popen[bytes]] = []
    try:
        for number, daemon in enumerate(daemons):
            with (folder / f"{daemon[0]}-{number}.output").open("wb") as output:
                started.append(subprocess.Popen(daemon, env=cluster.environment, stdout=output, stderr=output))
            if number == 0:
                cluster.wait((folder / "munge.socket").exists, "munge", 20)
        nodes = ("sinfo", "--noheader", "--Node", "--format=%T")
        cluster.wait(lambda: _answers(cluster, *nodes).split() == ["idle", "idle"], "two idle nodes", 60)
        yield cluster
    finally:
        for daemon_process in reversed(started):
            daemon_process.terminate()
            daemon_process.wait(timeout=60)


MUNGE = {"socket": "socket", "key-file": "key", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}


def _answers(cluster: Cluster, *command: str) -> str:
    done = subprocess.run(command, env=cluster.environment, capture_output=True, text=True, check=False)
    return done.stdout


def _ports(number: int) -> list[int]:
    servers = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [server.getsockname()[1] for server in servers]
    for server in servers:
        server.close()
    return ports
