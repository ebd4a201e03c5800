"""The losses that the example of two processes prints, held against those of the loop on one: the
mean of the ranks' losses is the loss of the whole batch, to 1e-5 of it.
"""

import re
import sys
from typing import List

STEPS = 10
TOLERANCE = 1e-5
LINE = re.compile(r"^.*?rank (\d+) step (\d+) loss (\S+)$", re.MULTILINE)


def losses_of_one(output: str) -> List[float]:
    """Those that the minimal loop printed."""
    return [float(loss) for loss in re.findall(r"^step \d+ loss (\S+)$", output, re.MULTILINE)]


def check(name: str, output: str, expected: List[float], ranks: str) -> None:
    """Ends the program unless `output`, of both ranks, has the losses expected. `ranks`: what they
    are called, "two processes"."""
    losses = {(int(rank), int(step)): float(loss) for rank, step, loss in LINE.findall(output)}
    if len(losses) != 2 * STEPS:
        sys.exit(f"{name}: {len(losses)} losses instead of {2 * STEPS}:\n{output}")
    for step, of_one in enumerate(expected, start=1):
        mean = (losses[0, step] + losses[1, step]) / 2
        if abs(mean - of_one) > TOLERANCE * of_one:
            sys.exit(f"{name}, step {step}: {mean} on {ranks}, {of_one} on one")
    print(f"{name}: {ranks} train as one does")
