"""Optimizers for PyTorch whose states rest on NVMe, or in host memory under a budget.

    import strata
    optimizer = strata.AdamW(model.parameters(), lr=3e-4, nvme="/mnt/nvme0", host_budget="8GiB")

The manual is docs/python.md of the repository.
"""

from ._core import (
    BudgetError,
    ConfigError,
    CorruptData,
    DataError,
    DeadlineExceeded,
    Error,
    IoError,
    Usage,
    UsageError,
)
from ._machine import Disk, DiskSpeeds, Machine, bench, disk, machine
from ._optimizer import OffloadedOptimizer, StepReport
from ._rules import SGD, Adagrad, Adam, AdamW, Lion, Offload

__all__ = [
    "SGD",
    "Adagrad",
    "Adam",
    "AdamW",
    "BudgetError",
    "ConfigError",
    "CorruptData",
    "DataError",
    "DeadlineExceeded",
    "Disk",
    "DiskSpeeds",
    "Error",
    "IoError",
    "Lion",
    "Machine",
    "Offload",
    "OffloadedOptimizer",
    "StepReport",
    "Usage",
    "UsageError",
    "bench",
    "disk",
    "machine",
]
