"""Holds that the loop of two processes trains across two hosts as on one. The hosts are network
namespaces of this machine, joined by a pair of virtual interfaces: what ranks send goes through
them, and they reach one another by their addresses alone. Started by plain variables and by
torchrun; over a link of bounded bandwidth, with the bytes on the wire counted; and over one that is
cut, which both sides have to notice.

Skipped where namespaces may not be made, or iproute2 is missing.

Usage: start_hosts.py TWO_PROCESSES DS_CONFIG MINIMAL TORCHRUN(may be "")
"""

import contextlib
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
from typing import Dict, Iterator, List

import example_losses
from launch import without_launchers

SECONDS_MAX = 90
PORT = 29500  # nothing else is in a namespace that was just made
SKIPPED = 77

PARAMETERS = 4 * (2 * 64 + 64 * 256 + 256 + 256 * 64 + 64)  # those of the example, in fp32
PASS_BYTES = PARAMETERS * 4 // 2  # what one of two ranks has of the other in a gather or a reduce
LINK_BYTES_PER_SECOND = 50e6 / 8


def skip(why: str) -> None:
    print(f"skipped: {why}")
    sys.exit(SKIPPED)


class Host:
    def __init__(self, name: str, address: str, interface: str) -> None:
        self.name, self.address, self.interface = name, address, interface

    def command(self, command: List[str]) -> List[str]:
        return ["ip", "netns", "exec", self.name, *command]

    def run(self, *command: str) -> str:
        run = subprocess.run(self.command(list(command)), capture_output=True, text=True)
        if run.returncode != 0:
            raise OSError(f"{' '.join(command)} in {self.name}: {run.stderr.strip()}")
        return run.stdout

    def received(self) -> int:
        return int(self.run("cat", f"/sys/class/net/{self.interface}/statistics/rx_bytes"))


def ip(*arguments: str) -> None:
    run = subprocess.run(["ip", *arguments], capture_output=True, text=True)
    if run.returncode != 0:
        raise OSError(f"ip {' '.join(arguments)}: {run.stderr.strip()}")


@contextlib.contextmanager
def two_hosts() -> Iterator[List[Host]]:
    tag = f"strata{os.getpid()}"
    hosts = [Host(f"{tag}{side}", f"10.77.0.{number}", f"s{os.getpid()}{side}")
             for number, side in ((1, "a"), (2, "b"))]
    try:
        for host in hosts:
            ip("netns", "add", host.name)
        first, second = hosts
        ip("link", "add", first.interface, "netns", first.name, "type", "veth",
           "peer", "name", second.interface, "netns", second.name)
        for host in hosts:
            host.run("ip", "address", "add", f"{host.address}/24", "dev", host.interface)
            host.run("ip", "link", "set", host.interface, "up")
            host.run("ip", "link", "set", "lo", "up")
        yield hosts
    finally:
        for host in hosts:
            subprocess.run(["ip", "netns", "delete", host.name], capture_output=True)


def start(hosts: List[Host], commands: List[List[str]], more: List[Dict[str, str]],
          directory: str) -> List[subprocess.Popen]:
    processes = []
    for host, command, variables in zip(hosts, commands, more):
        environment = {**without_launchers(), "GLOO_SOCKET_IFNAME": host.interface, **variables}
        processes.append(subprocess.Popen(host.command(command), cwd=directory, env=environment,
                                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
    return processes


def by_variables(hosts: List[Host], program: List[str], directory: str) -> List[subprocess.Popen]:
    return start(hosts, 2 * [program],
                 [{"RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1",
                   "MASTER_ADDR": hosts[0].address, "MASTER_PORT": str(PORT)} for rank in range(2)],
                 directory)


def by_torchrun(torchrun: str, hosts: List[Host], program: List[str],
                directory: str) -> List[subprocess.Popen]:
    return start(hosts, [[torchrun, "--no-python", "--nnodes", "2", "--nproc-per-node", "1",
                          "--node-rank", str(rank), "--master-addr", hosts[0].address,
                          "--master-port", str(PORT), "--local-addr", host.address, *program]
                         for rank, host in enumerate(hosts)], [{}, {}], directory)


def ends_of(processes: List[subprocess.Popen]) -> List[subprocess.CompletedProcess]:
    ends = []
    try:
        for process in processes:
            out, err = process.communicate(timeout=SECONDS_MAX)
            ends.append(subprocess.CompletedProcess(process.args, process.returncode, out, err))
    finally:
        for process in processes:
            process.kill()
    return ends


def check(name: str, processes: List[subprocess.Popen], expected: List[float]) -> None:
    output = ""
    for end in ends_of(processes):
        if end.returncode != 0:
            sys.exit(f"{name}: {end.args} ended with {end.returncode}: {end.stderr}")
        output += end.stdout
    example_losses.check(name, output, expected, "two hosts")


def check_bounded_link(hosts: List[Host], program: List[str], directory: str,
                       expected: List[float]) -> None:
    """What goes over the wire is what the stages' volume says, and takes its time there."""
    for host in hosts:
        host.run("tc", "qdisc", "replace", "dev", host.interface, "root", "tbf", "rate", "50mbit",
                 "burst", "32kb", "latency", "500ms")
    before, begin = [host.received() for host in hosts], time.monotonic()
    check("a link of 50 Mbit/s", by_variables(hosts, program, directory), expected)
    seconds = time.monotonic() - begin
    for host, received in zip(hosts, before):
        received = host.received() - received
        least, most = 2 * PASS_BYTES * example_losses.STEPS, 3 * PASS_BYTES * example_losses.STEPS
        if not least <= received <= 1.15 * most:
            sys.exit(f"{host.name} received {received} bytes, and the volume is {least} to {most}")
        if seconds < received / LINK_BYTES_PER_SECOND:
            sys.exit(f"{received} bytes came in {seconds} s, faster than the link")
        print(f"{received} bytes in {seconds:.1f} s: between 2 P and 3 P of every step, and headers")


def check_cut_link(hosts: List[Host], program: List[str], directory: str) -> None:
    for host in hosts:  # so slow that it is cut in the middle
        host.run("tc", "qdisc", "replace", "dev", host.interface, "root", "tbf", "rate", "3mbit",
                 "burst", "32kb", "latency", "500ms")
    processes = by_variables(hosts, program, directory)
    line = processes[0].stdout.readline()
    if "step 1" not in line:
        sys.exit(f"no step was made before the link was cut: {ends_of(processes)}")
    hosts[0].run("ip", "link", "set", hosts[0].interface, "down")
    cut = time.monotonic()
    for rank, end in enumerate(ends_of(processes)):
        if end.returncode != 1 or f"rank {1 - rank}" not in end.stderr:
            sys.exit(f"rank {rank} ended with {end.returncode}: {end.stderr}")
    seconds = time.monotonic() - cut
    if seconds > 30:
        sys.exit(f"a cut link was noticed after {seconds} s")
    print(f"a cut link ended both ranks after {seconds:.1f} s, each naming the other")


def main() -> None:
    two_processes, config, minimal, torchrun = sys.argv[1:]
    if shutil.which("ip") is None:
        skip("there is no program ip (iproute2)")
    program = [two_processes, config]
    with tempfile.TemporaryDirectory() as directory, contextlib.ExitStack() as stack:
        try:
            hosts = stack.enter_context(two_hosts())
        except OSError as error:
            skip(f"network namespaces cannot be made here: {error}")
        run = subprocess.run([minimal, config], cwd=directory, env=without_launchers(), text=True,
                             capture_output=True, check=True)
        expected = example_losses.losses_of_one(run.stdout)
        check("variables", by_variables(hosts, program, directory), expected)
        if torchrun:
            check("torchrun", by_torchrun(torchrun, hosts, program, directory), expected)
        else:
            print("torchrun was not found: not tried")
        if shutil.which("tc") is None:
            print("there is no program tc (iproute2): bandwidth was not bounded")
        else:
            check_bounded_link(hosts, program, directory, expected)
            check_cut_link(hosts, program, directory)
        left = list(pathlib.Path(directory).iterdir())
        if left:
            sys.exit(f"files were left behind: {left}")


main()
