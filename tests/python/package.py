"""The built package for tests: `from package import strata, torch`, before anything else of it.

The first argument of the script is the folder that holds the package in the build tree.
"""

import contextlib
import pathlib
import sys
import tempfile
import unittest
from typing import Any, Iterator

sys.path.insert(0, sys.argv.pop(1))
try:
    import torch
except ImportError as error:
    print(f"skipped: {error}; tools/setup.sh --test installs what is missing")
    sys.exit(77)

import strata  # noqa: E402
from strata import _core  # noqa: E402

__all__ = ["PackageTest", "_core", "strata", "torch"]

torch.set_num_threads(2)


class PackageTest(unittest.TestCase):
    """A test with a directory of its own for states, which has to be empty again at the end."""

    def setUp(self) -> None:
        self.space = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.disk = self.space / "nvme"
        self.disk.mkdir()
        torch.manual_seed(0)

    def tearDown(self) -> None:
        self.assertEqual(list(self.disk.iterdir()), [], "files were left behind")

    def on_nvme(self, **more: Any) -> dict[str, Any]:
        """Arguments with which all states but the smallest rest on disk, in several windows."""
        return {"nvme": self.disk, "host_budget": "5MiB", "window_elements": 65536, **more}

    @contextlib.contextmanager
    def made(self, kind: Any, params: Any, **arguments: Any) -> Iterator[Any]:
        """An optimizer that is closed at the end."""
        optimizer = kind(params, **arguments)
        try:
            yield optimizer
        finally:
            optimizer.close()

    def assert_same_bits(self, one: Any, other: Any, what: str = "") -> None:
        self.assertEqual(one.dtype, other.dtype)
        self.assertEqual(one.shape, other.shape)
        same = torch.equal(
            one.detach().contiguous().flatten().view(torch.uint8),
            other.detach().contiguous().flatten().view(torch.uint8),
        )
        self.assertTrue(same, f"{what}: different bits")


def gradients_into(parameters: list, seed: int, scale: float = 1.0) -> None:
    """Gives every parameter a gradient that depends on the seed and the place alone."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in parameters:
        values = torch.randn(parameter.shape, generator=generator) * scale
        parameter.grad = values.to(parameter.dtype)


def parameters_of(shapes: list, dtype: Any = None, seed: int = 1) -> list:
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.nn.Parameter(torch.randn(shape, generator=generator).to(dtype or torch.float32))
        for shape in shapes
    ]
