"""Holds that the minimal loop trains in bf16 and fp16 when the config says so, unchanged.

Usage: train_in_16_bits.py MINIMAL DS_CONFIG
"""

import json
import pathlib
import re
import subprocess
import sys
import tempfile
from typing import List


def losses_of(minimal: str, config: dict, directory: str) -> List[float]:
    path = pathlib.Path(directory) / "ds_config.json"
    path.write_text(json.dumps(config), encoding="utf-8")
    run = subprocess.run(
        [minimal, str(path)], cwd=directory, check=True, timeout=100, capture_output=True, text=True
    )
    return [float(loss) for loss in re.findall(r"^step \d+ loss (\S+)$", run.stdout, re.MULTILINE)]


def main() -> None:
    minimal, config_path = sys.argv[1:]
    config = json.loads(pathlib.Path(config_path).read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as directory:
        expected = losses_of(minimal, config, directory)
        for precision in ("bf16", "fp16"):
            losses = losses_of(minimal, {**config, precision: {"enabled": True}}, directory)
            print(f"{precision}: {losses}")
            if len(losses) != len(expected) or not losses[-1] < 0.9 * losses[0]:
                sys.exit(f"{precision} did not train")
            if abs(losses[0] - expected[0]) > 0.02 * expected[0]:
                sys.exit(f"{precision} begins with another loss than fp32, {expected[0]}")


main()
