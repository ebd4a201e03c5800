"""Holds that the loop with Strata and the one without train alike: equal losses, to 1e-6 of them.

Usage: compare_losses.py MINIMAL DS_CONFIG MINIMAL_WITHOUT_STRATA
"""

import re
import subprocess
import sys
import tempfile
from typing import List

STEPS = 10
TOLERANCE = 1e-6


def losses_of(command: List[str], directory: str) -> List[float]:
    output = subprocess.run(
        command, cwd=directory, check=True, timeout=100, stdout=subprocess.PIPE, text=True
    ).stdout
    losses = [float(loss) for loss in re.findall(r"^step \d+ loss (\S+)$", output, re.MULTILINE)]
    if len(losses) != STEPS:
        sys.exit(f"{command[0]} printed {len(losses)} losses instead of {STEPS}:\n{output}")
    return losses


def main() -> None:
    minimal, config, minimal_without_strata = sys.argv[1:]
    with tempfile.TemporaryDirectory() as directory:
        with_strata = losses_of([minimal, config], directory)
        without = losses_of([minimal_without_strata], directory)
    for step, (a, b) in enumerate(zip(with_strata, without), start=1):
        print(f"step {step}: {a:.8f} with Strata, {b:.8f} without")
        if abs(a - b) > TOLERANCE * abs(b):
            sys.exit(f"step {step}: the losses differ by {abs(a - b):.2e}")
    if not without[-1] < 0.9 * without[0]:
        sys.exit("the loss hardly fell: the comparison means nothing")


main()
