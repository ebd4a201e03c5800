#!/usr/bin/env python3
"""Compares hop 7, the optimizer's update, with torch's fused AdamW and DeepSpeedCPUAdam, and writes
the outcome as Markdown.

    python3 -m venv /path/to/peers
    /path/to/peers/bin/pip install torch==2.11.0 deepspeed==0.19.8 ninja
    bench/peers/hop7.py --python /path/to/peers/bin/python --output docs/results/hop7.md

Every contestant updates 100 M parameters, in turns: each round has one update of each, and ratios are
medians of the rounds' ratios. All of them have their states in huge pages. On all threads and on one,
in processes of their own (OpenMP's threads are bound when a process starts).
"""

import argparse
import os
import pathlib
import statistics
import subprocess
import sys
from typing import Dict, List

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
import machine  # noqa: E402
import report  # noqa: E402

PARAMETERS = 100e6
OURS = ["fp32", "bf16_fp32_moments", "bf16_bf16_moments", "bf16_int8_moments", "bf16_int8_moments_24bit"]
PEERS = ["torch_fused", "deepspeed", "deepspeed_three_passes", "deepspeed_bf16"]
# Bytes read and written for a parameter.
BYTES = {
    "fp32": 28, "bf16_fp32_moments": 26, "bf16_bf16_moments": 18, "bf16_int8_moments": 14,
    "bf16_int8_moments_24bit": 12, "torch_fused": 28, "deepspeed": 28,
    "deepspeed_three_passes": 8 + 28 + 6, "deepspeed_bf16": 4 + 14,
}
WANTED = [
    ("fp32", "the better of torch_fused and deepspeed", 0.97),
    ("bf16_fp32_moments", "deepspeed_three_passes", 1.5),
    ("bf16_bf16_moments", "deepspeed_three_passes", 2.0),
    ("bf16_int8_moments", "deepspeed_three_passes", 2.6),
    ("bf16_int8_moments_24bit", "deepspeed_three_passes", 2.6),
]
Rounds = Dict[str, List[float]]


class Server:
    """A process that answers "NAME THREADS" with the seconds of an update."""

    def __init__(self, command: List[str], threads: int) -> None:
        # THP_MEM_ALLOC_ENABLE puts torch's tensors into huge pages.
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "THP_MEM_ALLOC_ENABLE": "1"}
        self.threads = threads
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        env=environment)

    def seconds(self, name: str) -> float:
        self.process.stdin.write(f"{name} {self.threads}\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def measure(options: argparse.Namespace, threads: int) -> Rounds:
    ours = Server([str(options.benchmark), "--serve"], threads)
    peers = Server([str(options.python), str(HERE / "adam_peers.py")], threads)
    rounds: Rounds = {name: [] for name in OURS + PEERS}
    contestants = [(name, ours) for name in OURS] + [(name, peers) for name in PEERS]
    for name, server in contestants:
        server.seconds(name)  # warm up: its memory is made
    for _ in range(options.rounds):
        for name, server in contestants:
            rounds[name].append(server.seconds(name))
    ours.close()
    peers.close()
    return rounds


def ratio(rounds: Rounds, name: str, against: str) -> float:
    """How many times as fast as the other it is."""
    others = ["torch_fused", "deepspeed"] if against.startswith("the better") else [against]
    return statistics.median(
        min(rounds[other][i] for other in others) / seconds for i, seconds in enumerate(rounds[name]))


def page(options: argparse.Namespace, results: Dict[int, Rounds]) -> str:
    lines = [
        "# Hop 7 beside torch and DeepSpeed",
        "",
        "100 M parameters, AdamW. `deepspeed_three_passes` ends where Strata's bf16 formats end in one pass, with a",
        "bf16 weight: unscale the fp32 gradient, DeepSpeedCPUAdam, cast (that the gradient had to be widened from",
        "bf16 first is not counted). `deepspeed_bf16` is DeepSpeed with everything in bf16 and no fp32 master,",
        f"which loses small updates. Ratios are medians of {options.rounds} rounds' ratios: how many times as fast.",
        "",
        "| wanted | " + " | ".join(f"threads: {threads}" for threads in results) + " |",
        "|---|" + "---|" * len(results),
    ]
    for name, against, wanted in WANTED:
        found = " | ".join(f"**{ratio(rounds, name, against):.2f}**" for rounds in results.values())
        lines.append(f"| `{name}` at least {wanted} times {against} | {found} |")
    for threads, rounds in results.items():
        lines += ["", f"| threads: {threads} | ms | Gparam/s | bytes a parameter | GB/s | times deepspeed_three_passes |",
                  "|---|---|---|---|---|---|"]
        for name in OURS + PEERS:
            seconds = statistics.median(rounds[name])
            lines.append(f"| `{name}` | {seconds * 1e3:.1f} | {PARAMETERS / seconds / 1e9:.2f} | {BYTES[name]} | "
                         f"{BYTES[name] * PARAMETERS / seconds / 1e9:.0f} | "
                         f"{ratio(rounds, name, 'deepspeed_three_passes'):.2f} |")
    lines += [
        "",
        "- DeepSpeed 0.19.8, torch 2.11.0.",
        *report.origin(machine.describe(pathlib.Path(".")), f"bench/peers/hop7.py --rounds {options.rounds}"),
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", type=pathlib.Path, required=True, help="of the peers' environment")
    parser.add_argument("--benchmark", type=pathlib.Path,
                        default=HERE.parent.parent / "build/release/bin/adam_benchmark")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--output", type=pathlib.Path)
    options = parser.parse_args()
    results = {threads: measure(options, threads) for threads in sorted({1, os.cpu_count() or 1})}
    report.publish(page(options, results), options.output)


if __name__ == "__main__":
    main()
