"""The extension module. Addresses are those of contiguous tensors in host memory, which the caller
keeps alive: for `submit` until the parameter counts as complete, else for the time of the call."""

from typing import Optional, Union

class Error(Exception): ...
class ConfigError(Error, ValueError): ...
class DataError(Error, ValueError): ...
class BudgetError(Error, MemoryError): ...
class IoError(Error, OSError): ...
class DeadlineExceeded(IoError, TimeoutError): ...
class CorruptData(Error, RuntimeError): ...
class UsageError(Error, RuntimeError): ...

class AdamRule:
    def __init__(
        self,
        *,
        lr: float,
        beta1: float,
        beta2: float,
        eps: float,
        weight_decay: float,
        decoupled_weight_decay: bool,
        bias_correction: bool = True,
    ) -> None: ...

class SgdRule:
    def __init__(
        self,
        *,
        lr: float,
        momentum: float,
        dampening: float,
        weight_decay: float,
        nesterov: bool,
    ) -> None: ...

class AdagradRule:
    def __init__(
        self, *, lr: float, lr_decay: float, eps: float, weight_decay: float
    ) -> None: ...

class LionRule:
    def __init__(
        self, *, lr: float, beta1: float, beta2: float, weight_decay: float
    ) -> None: ...

Rule = Union[AdamRule, SgdRule, AdagradRule, LionRule]

class Usage:
    """Bytes that an optimizer holds and has moved."""

    @property
    def host_bytes(self) -> int:
        """Held of the host budget: windows and states."""

    @property
    def host_peak(self) -> int:
        """The most that was held of it at one time."""

    @property
    def nvme_bytes(self) -> int:
        """Held on disk."""

    @property
    def states_in_host(self) -> int: ...
    @property
    def states_on_nvme(self) -> int: ...
    @property
    def bytes_fetched(self) -> int: ...
    @property
    def bytes_flushed(self) -> int: ...
    @property
    def io(self) -> str:
        """The I/O engine, with the reason where it is not the first choice; "" without NVMe."""

class OffloadedOptimizer:
    def __init__(
        self,
        *,
        directories: list[str],
        rule: Rule,
        moments: str,
        master: str,
        host_bytes: int,
        nvme_bytes: Optional[int],
        threads: int,
        io: str,
        window_elements: int,
    ) -> None: ...
    def close(self) -> None: ...
    @property
    def is_closed(self) -> bool: ...
    def add(self, parameters: list[tuple[str, list[int], str, int]]) -> None: ...
    def usage(self) -> Usage: ...
    def norm(self, gradients: list[tuple[int, int, str]]) -> Optional[float]: ...
    def begin(self, groups: list[Rule], gradient_scale: float) -> None: ...
    def submit(self, parameters: list[tuple[int, int, int, bool]]) -> int: ...
    def wait_for(self, complete: int) -> int: ...
    def finish(self) -> int: ...
    @property
    def is_open(self) -> bool: ...
    def steps(self, parameter: int) -> int: ...
    def set_steps(self, parameter: int, steps: int) -> None: ...
    def state_size(self, parameter: int, kind: str) -> int: ...
    def read(self, parameter: int, kind: str, target: int) -> None: ...
    def write(self, parameter: int, kind: str, source: int) -> None: ...
    def adopt(self, parameter: int, weight: int) -> None: ...
    def forget(self, parameter: int) -> None: ...
    def save(
        self,
        directory: str,
        tensors: list[tuple[str, int, str]],
        file_bytes: int,
        manifest_name: str,
        manifest: str,
    ) -> None: ...
    def check(self, directory: str, tensors: list[tuple[str, int, str]]) -> None: ...
    def load(self, directory: str, tensors: list[tuple[str, int, str]]) -> None: ...
    def abandon(self, why: str) -> None: ...
    def recover(self) -> None: ...

def update_in_memory(
    rule: Rule,
    precision: str,
    moments: str,
    master: str,
    step: int,
    count: int,
    states: list[int],
    gradient: int,
    gradient_precision: str,
    gradient_scale: float,
    sequence: int,
) -> None: ...
def parse_bytes(text: str) -> int: ...
def measure_paths(
    *,
    directories: list[str],
    io: str,
    file_bytes: int,
    operation_bytes: int,
    operations: int,
    turn_bytes: int,
    beside_compute: bool,
    part_milliseconds: int,
) -> tuple[float, float, float, float, str]: ...
def machine() -> tuple[list[str], str, int, int, int, str, int, list[str]]: ...
def describe_disk(
    directory: str,
) -> tuple[str, str, str, str, Optional[int], Optional[bool], int, int]: ...
def checksum(address: int, bytes: int) -> int: ...
