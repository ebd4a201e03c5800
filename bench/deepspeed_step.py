#!/usr/bin/env python3
"""Compares training steps of Strata with those of DeepSpeed 0.19.8 on a machine without a GPU, in turns, and
writes times and memory as Markdown.

    python3 -m venv /path/to/peers
    /path/to/peers/bin/pip install torch==2.11.0 deepspeed==0.19.8 ninja
    apt-get install libaio-dev g++
    bench/deepspeed_step.py --python /path/to/peers/bin/python --nvme DIR --output docs/results/deepspeed.md

The GPT-2-small shape, 128 tokens a step. DeepSpeed builds its operators when they are first used, which takes
some minutes: --prepare does that alone. Each contestant is a process of its own; each round has a turn of
each of them. Strata's are those of step_benchmark, DeepSpeed's are in bench/peers/gpt2_deepspeed.py.
"""

import argparse
import dataclasses
import os
import pathlib
import sys
from typing import Dict, List, Optional

import report
from programs import Programs, command_line
from turns import Contestant, ratio

PEER = pathlib.Path(__file__).resolve().parent / "peers/gpt2_deepspeed.py"
OURS = {"host": "Strata, everything in host memory", "nvme": "Strata, everything on NVMe"}
PEERS = {
    "cpu": "DeepSpeed, everything in host memory",
    "nvme": "DeepSpeed, states on NVMe, weights in host memory, smallest sub-groups",
    "nvme-default": "DeepSpeed, the same with its default `sub_group_size`",
    "nvme-pipelined": "DeepSpeed, smallest sub-groups, `pipeline_read` and `pipeline_write`",
    "nvme-weights": "DeepSpeed, weights and states on NVMe",
}
# Those that take turns: one of ours and its rivals. All at once have no room in memory.
HEATS = {
    "host": ("host", ["cpu"]),
    "nvme": ("nvme", ["nvme", "nvme-default", "nvme-pipelined"]),
    "nvme-weights": ("nvme", ["nvme-weights"]),
}
HOST_WANTED, NVME_WANTED, MEMORY_WANTED, MEMORY_WANTED_MIB = 1.8, 2.2, 0.1, 512


PASSIVE = {"OMP_WAIT_POLICY": "PASSIVE"}


def ours(options: argparse.Namespace, programs: Programs, name: str) -> Contestant:
    command = programs.command(
        "step_benchmark", "--contestant", name, "--preset", "gpt2", "--tokens", options.tokens, "--micro-batches", 1,
        "--nvme", programs.nvme, "--host", options.host, "--device", options.device,
    )  # fmt: skip
    return Contestant(OURS[name], command, PASSIVE)


def peer(options: argparse.Namespace, programs: Programs, name: str) -> Contestant:
    command = [options.python, PEER, name, "--tokens", options.tokens, "--nvme", programs.nvme]
    # Ports of processes that live at the same time differ.
    environment = {
        **PASSIVE, "DS_ACCELERATOR": "cpu", "MASTER_PORT": str(29577 + list(PEERS).index(name)),
        "PATH": f"{options.python.parent}:{os.environ['PATH']}",  # ninja is there
    }  # fmt: skip
    return Contestant(PEERS[name], command, environment)


@dataclasses.dataclass(frozen=True)
class Heat:
    ours: Contestant
    rivals: List[Contestant]


def measure(options: argparse.Namespace, programs: Programs, name: str) -> Heat:
    def warmed_up(contestant: Contestant) -> Contestant:
        contestant.warm_up(options.warm_up)
        return contestant

    own, rivals = HEATS[name]
    heat = Heat(
        warmed_up(ours(options, programs, own)), [warmed_up(peer(options, programs, rival)) for rival in rivals]
    )
    contestants = [heat.ours, *heat.rivals]
    for _ in range(options.rounds):
        for contestant in contestants:
            contestant.turn(options.steps)
    for contestant in contestants:
        contestant.close()
    return heat


def prepare(options: argparse.Namespace, programs: Programs) -> None:
    """Lets DeepSpeed build all of its operators that are used."""
    contestant = peer(options, programs, "nvme")
    contestant.turn(1)
    contestant.close()
    print(contestant.failure or "DeepSpeed is ready", file=sys.stderr)


def row(heat: Heat, one: Contestant) -> str:
    if one.failure is not None:
        return f"| {one.description} | does not run: `{one.failure}` | | | |"
    return (
        f"| {one.description} | {one.times()} | {ratio(one, heat.ours):.2f} | {one.peak_rss_bytes / 2**20:,.0f} MiB "
        f"| {one.peak_rss_bytes / heat.ours.peak_rss_bytes:.1f} |"
    )


def host_finding(heat: Heat) -> str:
    return (
        f"**Everything in host memory: {ratio(heat.rivals[0], heat.ours):.2f} times as fast as DeepSpeed's offload to the CPU.** "
        f"Wanted: at least {HOST_WANTED}."
    )


def nvme_finding(heat: Heat) -> str:
    rivals = [one for one in heat.rivals if not one.failure]
    fastest = min(rivals, key=lambda one: one.median_seconds)
    smallest = min(rivals, key=lambda one: one.peak_rss_bytes)
    largest = max(rivals, key=lambda one: one.peak_rss_bytes)
    memory = heat.ours.peak_rss_bytes
    return (
        f"**Everything on NVMe, {memory / 2**20:.0f} MiB of memory in all: {ratio(fastest, heat.ours):.2f} times as fast as "
        f"DeepSpeed's fastest way with states on NVMe, in {memory / smallest.peak_rss_bytes:.2f} to "
        f"{memory / largest.peak_rss_bytes:.2f} of its memory.** Wanted: at least {NVME_WANTED} times, "
        f"{MEMORY_WANTED} of the memory, {MEMORY_WANTED_MIB} MiB."
    )


FINDINGS = {"host": host_finding, "nvme": nvme_finding}  # what was wanted; the rest is in the table


def page(options: argparse.Namespace, where: str, heats: Dict[str, Heat]) -> str:
    command = (
        f"bench/deepspeed_step.py --python PYTHON --nvme DIR --rounds {options.rounds} --steps {options.steps} "
        f"--host {options.host} --device {options.device}"
    )
    return "\n".join(
        [
            "# A training step beside DeepSpeed's",
            "",
            "The GPT-2-small shape (12 layers, width 768, 12 heads, vocabulary 50304: 124 M parameters), one sequence of",
            f"{options.tokens} tokens a step, bf16, AdamW with fp32 moments and fp32 masters, clipping at 1.0. DeepSpeed 0.19.8 with",
            "ZeRO-3 and torch 2.11.0; it counts only steps after its operators were built. With states on NVMe both compute blocks",
            "again in backward, in host memory neither does.",
            f"Strata's budgets on NVMe are {options.host} (host) and {options.device} (device).",
            "",
            *(FINDINGS[name](heat) for name, heat in heats.items() if name in FINDINGS),
            "",
            "| contestant | step, s: median (fastest to slowest) | / Strata's step | peak RSS | / Strata's |",
            "|---|---|---|---|---|",
            *(row(heat, one) for heat in heats.values() for one in [heat.ours, *heat.rivals]),
            "",
            f"{options.rounds} rounds; in each, every contestant has a turn of {options.steps} steps in a process of its own, first those in host",
            "memory, then those on NVMe, and those with weights on NVMe too. Ratios are medians of the rounds' ratios. Tokens and weights are random.",
            "",
            *report.origin(where, command),
        ]
    )  # fmt: skip


def parser() -> argparse.ArgumentParser:
    parser = command_line(__doc__)
    parser.add_argument("--python", type=pathlib.Path, required=True, help="of the environment with DeepSpeed")
    parser.add_argument("--prepare", action="store_true", help="only let DeepSpeed build what it needs")
    parser.add_argument("--tokens", type=int, default=128, help="of a step")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=2, help="of a turn")
    parser.add_argument("--warm-up", type=int, default=3, help="steps before the rounds")
    parser.add_argument("--host", default="128MiB", help="budget of Strata on NVMe")
    parser.add_argument("--device", default="80MiB", help="budget of Strata on NVMe")
    parser.add_argument("--only", action="append", choices=HEATS, help="a comparison; may be given again")
    return parser


def measured_page(options: argparse.Namespace, programs: Programs, where: str) -> Optional[str]:
    if options.prepare:
        prepare(options, programs)
        return None
    return page(options, where, {name: measure(options, programs, name) for name in options.only or HEATS})


if __name__ == "__main__":
    report.run(parser(), measured_page)
