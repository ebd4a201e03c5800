#!/usr/bin/env python3
"""Times a step of the Python package's AdamW beside torch's fused AdamW, in turns, and writes the page of it.

Run it with a Python that has torch, on a quiet machine:

    PYTHONPATH=build/release/python .deps/test-venv/bin/python3 bench/python_step.py --nvme DIR

All update the same number of parameters, in layers of a transformer's sizes; gradients stay the same. In a round each
makes one step, the order turned round every time, and is compared with torch's of that round.
"""

import argparse
import dataclasses
import statistics
import time
from typing import Any, Dict, List, Optional

import programs
import report
import strata
import torch
from programs import Programs, disk_speeds


@dataclasses.dataclass
class Contestant:
    description: str
    optimizer: Any
    seconds: List[float] = dataclasses.field(default_factory=list)

    def step(self) -> None:
        start = time.perf_counter()
        self.optimizer.step()
        self.seconds.append(time.perf_counter() - start)


def parameters(count: int, dtype: torch.dtype) -> List[torch.nn.Parameter]:
    """Matrices of 1024 to 4096 columns with a vector beside each, until there are `count` elements."""
    made: List[torch.nn.Parameter] = []
    left = count
    while left > 0:
        rows = min(1024, max(1, left // 4096))
        made += [torch.nn.Parameter(torch.randn(*shape).to(dtype)) for shape in ((rows, 4096), (4096,))]
        left -= sum(each.numel() for each in made[-2:])
    for each in made:
        each.grad = torch.randn(each.shape).to(dtype)
    return made


def contestants(options: argparse.Namespace, programs: Programs) -> List[Contestant]:
    nvme = {"nvme": programs.nvme, "host_budget": options.host_budget}
    fp32, bf16 = torch.float32, torch.bfloat16
    memory: Dict[str, Any] = {"host_budget": "64GiB"}
    clip: Dict[str, Any] = {"max_grad_norm": 1.0}

    def own(description: str, dtype: torch.dtype, **offload: Any) -> Contestant:
        return Contestant(description, strata.AdamW(parameters(options.params, dtype), **offload))

    return [
        Contestant("torch, fused, fp32", torch.optim.AdamW(parameters(options.params, fp32), fused=True)),
        Contestant("torch, fused, bf16", torch.optim.AdamW(parameters(options.params, bf16), fused=True)),
        own("strata, fp32, in memory", fp32, **memory),
        own("strata, bf16, int8 moments, in memory", bf16, moments="int8", **memory),
        own("strata, fp32, on nvme", fp32, **nvme),
        own("strata, fp32, on nvme, clipped", fp32, **nvme, **clip),
        own("strata, bf16, int8 moments, on nvme", bf16, moments="int8", **nvme),
    ]


def state_bytes(contestant: Contestant) -> str:
    """On disk, per parameter."""
    if not hasattr(contestant.optimizer, "usage"):
        return "0"
    usage = contestant.optimizer.usage()
    count = sum(p.numel() for group in contestant.optimizer.param_groups for p in group["params"])
    return f"{usage.states_on_nvme / count:.2f}"


def measure(options: argparse.Namespace, programs: Programs, where: str) -> Optional[str]:
    torch.set_num_threads(options.threads or torch.get_num_threads())
    disk = disk_speeds(programs)
    all_of_them = contestants(options, programs)
    for number in range(options.rounds + 1):
        for contestant in all_of_them if number % 2 else reversed(all_of_them):
            contestant.step()
    lines = [
        "# A step of the optimizer from Python",
        "",
        f"{options.params:,} parameters, {options.rounds} rounds after one that is not counted; seconds are medians, the",
        "last column is the median of each round's own quotient. States are at rest when a step returns.",
        "",
        "| optimizer | bytes on nvme per parameter | seconds | times torch's fp32 (smallest to largest) |",
        "|---|---|---|---|",
    ]
    reference = all_of_them[0].seconds[1:]
    for contestant in all_of_them:
        seconds = contestant.seconds[1:]
        quotients = sorted(one / other for one, other in zip(seconds, reference))
        lines.append(
            f"| {contestant.description} | {state_bytes(contestant)} | {statistics.median(seconds):.3f} | "
            f"{statistics.median(quotients):.2f} ({quotients[0]:.2f} to {quotients[-1]:.2f}) |"
        )
    for contestant in all_of_them:
        if hasattr(contestant.optimizer, "close"):
            contestant.optimizer.close()
    command = f"bench/python_step.py --params {options.params} --rounds {options.rounds}"
    return "\n".join([*lines, "", f"- Disk, measured right before: {disk}.", *report.origin(where, command)])


def main() -> None:
    parser = programs.command_line(__doc__)
    parser.add_argument("--params", type=int, default=50_000_000, metavar="COUNT")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=0, help="torch's; 0: its own choice")
    parser.add_argument("--host-budget", default="64MiB", metavar="BYTES", help="of those on nvme")
    report.run(parser, measure)


if __name__ == "__main__":
    main()
