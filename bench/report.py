"""What all pages of docs/results/ end in, how they come about, and the place they go to."""

import argparse
import datetime
import pathlib
from typing import Callable, List, Optional

import machine
from programs import Programs


def origin(where: str, command: str) -> List[str]:
    """The last lines of a page: the machine, the day, and the command that repeats it."""
    return [f"- Machine: {where}.", f"- {datetime.date.today().isoformat()}, `{command}`", ""]


def publish(text: str, output: Optional[pathlib.Path]) -> None:
    """Writes a page to a file, or to standard output where none is named."""
    if output:
        output.write_text(text, encoding="utf-8")
    else:
        print(text, end="")


def run(parser: argparse.ArgumentParser, measure: Callable[[argparse.Namespace, Programs, str], Optional[str]]) -> None:
    """All of a script: `measure` gets the options, the programs and the machine as it was before, and returns its page,
    or None where there is none to publish."""
    options = parser.parse_args()
    page = measure(options, Programs(options), machine.describe(options.nvme))
    if page is not None:
        publish(page, options.output)
