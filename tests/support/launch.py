"""Starts a program several times as ranks of one run, as tests of launchers do."""

import os
import socket
import subprocess
from typing import Any, Dict, List

LAUNCHERS = ("RANK", "WORLD_", "LOCAL_", "MASTER_", "OMPI_", "PMI_", "MPI_", "SLURM_", "TORCHELASTIC")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def without_launchers() -> Dict[str, str]:
    """The environment without what a launcher around the test may have set."""
    return {name: value for name, value in os.environ.items() if not name.startswith(LAUNCHERS)}


def start_by_variables(commands: List[List[str]], **options: Any) -> List[subprocess.Popen]:
    """Starts one rank for each command, by plain variables; what they print is kept as text."""
    meeting = {"WORLD_SIZE": str(len(commands)), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    environment = {**without_launchers(), **meeting, **options.pop("env", {})}
    return [
        subprocess.Popen(command, env={**environment, "RANK": str(rank)}, stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE, text=True, **options)
        for rank, command in enumerate(commands)
    ]
