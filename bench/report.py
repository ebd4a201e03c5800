"""What all pages of docs/results/ end in, and the place they go to."""

import datetime
import pathlib
from typing import List, Optional


def origin(where: str, command: str) -> List[str]:
    """The last lines of a page: the machine, the day, and the command that repeats it."""
    return [f"- Machine: {where}.", f"- {datetime.date.today().isoformat()}, `{command}`", ""]


def publish(text: str, output: Optional[pathlib.Path]) -> None:
    """Writes a page to a file, or to standard output where none is named."""
    if output:
        output.write_text(text, encoding="utf-8")
    else:
        print(text, end="")
