"""Holds that the loop on two processes trains as the one on one does: the mean of the ranks' losses
is the loss of the whole batch, to 1e-5 of it. Started by plain variables, by torchrun, and by
mpirun where it is installed. And that they leave no file.

Usage: start_processes.py TWO_PROCESSES DS_CONFIG MINIMAL TORCHRUN(may be "")
"""

import pathlib
import shutil
import subprocess
import sys
import tempfile
from typing import Dict, List

from example_losses import check, losses_of_one
from launch import free_port, start_by_variables, without_launchers

SECONDS_MAX = 60
WHO = "two processes"


def output_of(processes: List[subprocess.Popen]) -> str:
    output = ""
    for process in processes:
        out, err = process.communicate(timeout=SECONDS_MAX)
        output += out
        if process.returncode != 0:
            sys.exit(f"{process.args} ended with {process.returncode}: {err}")
    return output


def run_launcher(command: List[str], directory: str, more: Dict[str, str]) -> str:
    run = subprocess.run(
        command,
        cwd=directory,
        env={**without_launchers(), **more},
        timeout=SECONDS_MAX,
        capture_output=True,
        text=True,
    )
    if run.returncode != 0:
        sys.exit(f"{command} ended with {run.returncode}: {run.stderr}")
    return run.stdout


def main() -> None:
    two_processes, config, minimal, torchrun = sys.argv[1:]
    program = [two_processes, config]
    with tempfile.TemporaryDirectory() as directory:
        run = run_launcher([minimal, config], directory, {})
        expected = losses_of_one(run)
        run = output_of(start_by_variables(2 * [program], cwd=directory))
        check("variables", run, expected, WHO)
        if torchrun:
            command = [torchrun, "--no-python", "--standalone", "--nproc-per-node", "2", *program]
            check("torchrun", run_launcher(command, directory, {}), expected, WHO)
        mpirun = shutil.which("mpirun")
        if mpirun:
            variables = {
                "OMPI_ALLOW_RUN_AS_ROOT": "1",
                "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
                "MASTER_PORT": str(free_port()),
            }
            command = [mpirun, "-n", "2", "--oversubscribe", *program]
            check("mpirun", run_launcher(command, directory, variables), expected, WHO)
        else:
            print("mpirun is not installed: not tried")
        left = list(pathlib.Path(directory).iterdir())
        if left:
            sys.exit(f"files were left behind: {left}")


main()
