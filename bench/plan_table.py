#!/usr/bin/env python3
"""Forecasts steps of large models on machines of several sizes with `strata plan`, and writes the
outcome as Markdown.

    bench/plan_table.py --strata build/release/bin/strata --output docs/results/plan_table.md

Nothing is measured: every number follows from the machine files in configs/machines/, whose sources
are printed below the tables.
"""

import argparse
import copy
import json
import pathlib
import subprocess
import tempfile
from typing import Any, Dict, List, Optional, Tuple

import report

MACHINES = pathlib.Path(__file__).resolve().parent.parent / "configs" / "machines"
MODELS = ["13B", "70B", "100B", "175B", "1T"]
SEQUENCE = 2048
SEQUENCES = 8
SEQUENCES_OF = {"1T": 2}  # the inputs of 128 wide blocks take the device's memory
SMALL_STATES = "8-bit moments, 24-bit masters"
CONFIG = {
    "bf16": {"enabled": True},
    "gradient_clipping": 1.0,
    "optimizer": {"type": "AdamW", "params": {"lr": 1e-4}},
    "zero_optimization": {
        "stage": 3,
        "offload_param": {"device": "nvme"},
        "offload_optimizer": {"device": "nvme"},
        "stage3_prefetch_bucket_size": 4e9,
        "stage3_max_live_parameters": 2e10,
    },
}
PUBLISHED = """\
| system | model | machine | published | of it |
|---|---|---|---|---|
| ZeRO-Infinity (DeepSpeed, states on NVMe), in MLP-Offload's logs | 52B, 68.6B, 100B | 4 GPUs, about 512 GB of memory, 4 sequences of 2048 tokens | 238, 370, 572 s a step | 209, 337, 502 s in the update, its disks at 5.6 to 7.0 GB/s, read and written together |
| MLP-Offload (SC'25), its logs | 52B, 68.6B, 100B | the same | 93, 152, 277 s a step | 91, 148, 270 s in the update, at 8.9 to 13.8 GB/s |
| ZeRO-Infinity (SC'21) | 1T | one DGX-2: 16 V100, 28 GB/s of NVMe | it trains | no seconds for one node |
| SlideFormer (DAC'26) | up to 123B | one RTX 4090 | 1.40 to 6.27 times its baselines, above 95 % of peak | no seconds a step were found |
"""


def machine(name: str) -> Dict[str, Any]:
    return json.loads((MACHINES / name).read_text(encoding="utf-8"))


def with_disks(description: Dict[str, Any], count: int) -> Dict[str, Any]:
    changed = copy.deepcopy(description)
    changed["disk"]["count"] = {"value": count, "source": "the row"}
    return changed


class Planner:
    def __init__(self, strata: str, directory: pathlib.Path) -> None:
        self.strata = strata
        self.directory = directory

    def plan(self, model: str, description: Dict[str, Any], nodes: int) -> Dict[str, Any]:
        batch = {"train_micro_batch_size_per_gpu": SEQUENCES_OF.get(model, SEQUENCES)}
        config = self.directory / "ds_config.json"
        config.write_text(json.dumps({**CONFIG, **batch}), encoding="utf-8")
        path = self.directory / "machine.json"
        path.write_text(json.dumps(description), encoding="utf-8")
        command = [self.strata, "plan", "--params", model, "--config", str(config), "--machine",
                   str(path), "--nodes", str(nodes), "--seq-len", str(SEQUENCE), "--json"]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode not in (0, 3):  # 3: it does not fit
            raise SystemExit(f"{' '.join(command)}: {result.stderr}")
        return json.loads(result.stdout)


def seconds(value: float) -> str:
    return f"{value:.0f}" if value >= 99.5 else f"{value:.1f}" if value >= 9.95 else f"{value:.2f}"


def change(answer: Dict[str, Any], name: str) -> Optional[Dict[str, Any]]:
    for what_if in answer["what_if"]:
        if what_if["change"] == name and what_if["answer"]["fits"]:
            return what_if["answer"]
    return None


def gib(count: float) -> str:
    return f"{count / 2**30:,.0f}"


def row(model: str, where: str, plan: Dict[str, Any]) -> str:
    answer = plan["answer"]
    small = change(plan, SMALL_STATES)
    eight_bit = (f"{seconds(small['serial']['seconds'])} / {seconds(small['overlapped']['seconds'])}"
                 if small else "does not fit")
    if not answer["fits"]:
        lacks = "; ".join(line.split(" (")[0].replace("needs at least", "needs") for line in answer["missing"])
        return f"| {model} | {where} | does not fit: {lacks} | | | | | | | | | {eight_bit} |"
    serial, overlapped = answer["serial"], answer["overlapped"]
    return (f"| {model} | {where} | {gib(answer['bytes']['host'])} | {gib(answer['bytes']['nvme'])} | "
            f"{seconds(serial['seconds'])} | {seconds(overlapped['seconds'])} | "
            f"{seconds(overlapped['bound_seconds'])} | {100 * overlapped['fraction_of_bound']:.0f} % | "
            f"{overlapped['binds']} | "
            f"{100 * overlapped['reachable_seconds'] / overlapped['seconds']:.0f} % | {answer['tokens_that_hide_disks'] / 1e3:,.0f} | {eight_bit} |")


HEAD = ("| model | machine | host, GiB | nvme, GiB | serial, s | overlapped, s | bound, s | of it | binds | of what it can reach "
        "| hides the disks, thousand tokens | 8-bit moments, 24-bit masters: serial / overlapped, s |\n"
        "|---|---|---|---|---|---|---|---|---|---|---|---|\n")


def table(planner: Planner, setups: List[Tuple[str, Dict[str, Any], int]]) -> str:
    return HEAD + "".join(row(model, where, planner.plan(model, description, nodes)) + "\n"
                          for model in MODELS for where, description, nodes in setups)


def sources(description: Dict[str, Any]) -> str:
    lines = []
    for section, numbers in description.items():
        if not isinstance(numbers, dict) or "value" in numbers:
            continue
        for key, number in numbers.items():
            lines.append(f"| `{section}.{key}` | {number['value']:.4g} | {number['source']} |\n")
    return f"\n{description['name']}:\n\n| number | value | source |\n|---|---|---|\n" + "".join(lines)


def document(planner: Planner) -> str:
    one = machine("h200_4_gen5.json")
    eight = machine("server_8_h100.json")
    single = [(f"one H200, {count} disk{'s' if count > 1 else ''}", with_disks(one, count), 1)
              for count in (1, 4, 8)]
    many = [(f"{nodes} x 8 H100, 8 disks each", eight, nodes) for nodes in (1, 2, 4, 8, 16, 32)]
    return f"""# Steps of large models: a forecast

No machine below was measured, and no step was taken: `strata plan` forecasts a step from the numbers of the machine files,
which are data sheets', a vendor's or assumed (below the tables). [docs/plan.md](../plan.md) says what the forecast leaves out.

A step is one micro-batch of {SEQUENCES} sequences of {SEQUENCE} tokens on each rank (1T: {SEQUENCES_OF["1T"]}), in bf16 with fp32 masters and
moments (12 bytes a parameter at rest), everything on NVMe, with recomputation and with clipping by the global norm; units
kept on the device up to 2e10 parameters, fetched ahead up to 4e9. Bytes are those of a rank. "Serial" has the
update after backward, "overlapped", which is what the engine does, under the next forward; the bound and its share are
the overlapped step's. What it can reach is what no order of the same work can beat: with clipping no unit is updated
before backward has ended, so that backward hides nothing of the update ([step_model.h](../../include/strata/zero3/step_model.h)).

## One GPU

{table(planner, single)}
## Eight GPUs, on 1 to 32 nodes

{table(planner, many)}
## What an overlapped step on a GPU leaves

On one GPU next to nothing of what it can reach: gradients leave, and the next unit comes, while a unit computes (decision
[0038](../decisions/0038-an-accelerators-gradients-leave-behind-the-next-unit.md)). What lies between that and its bound is the
price of clipping, and with several micro-batches `strata.step_under_backward` is there for runs without it.

Among ranks it is the exchange: a unit is gathered when it is entered and not before, and gradients are exchanged and added
while the program waits.

## What others have published

Other machines, so nothing here is to be divided by a number above; bytes and formats differ too.

{PUBLISHED}
## The numbers
{sources(one)}{sources(eight)}
- `bench/plan_table.py --strata STRATA`
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--strata", required=True, help="the program")
    parser.add_argument("--output", type=pathlib.Path, metavar="FILE", help="default: standard output")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        text = document(Planner(arguments.strata, pathlib.Path(directory)))
    report.publish(text, arguments.output)


if __name__ == "__main__":
    main()
