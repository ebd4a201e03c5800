"""The optimizer whose states rest on NVMe or in host memory: what all rules have in common."""

from __future__ import annotations

import json
import math
import mmap
import os
import pathlib
import shutil
import signal
import struct
import tempfile
import threading
import warnings
import weakref
from collections import deque
from contextlib import contextmanager
from typing import Any, Callable, Iterable, Iterator, NamedTuple, Optional, Union

import torch

from . import _core
from ._core import ConfigError, DataError, UsageError

PathLike = Union[str, "os.PathLike[str]"]

MANIFEST = "optimizer.json"
MANIFEST_FORMAT = "strata optimizer states 1"
FILE_BYTES = 4 << 30
LENT_BYTES = 256 << 20  # of copies, and under backward of gradients, that wait for their update

_PRECISIONS = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}
_DTYPES = {
    "F32": torch.float32,
    "BF16": torch.bfloat16,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
}
# What groups of torch's optimizers may ask for that changes numbers.
_OTHER_RULES = ("amsgrad", "maximize", "initial_accumulator_value")
MASTER_KEY = "master_remainder"
CHECKSUM_KEY = "weight_checksum"


class StepReport(NamedTuple):
    """The outcome of the last step."""

    updated: int  #: parameters that had a gradient
    grad_norm: Optional[float]  #: norm of all gradients before clipping; None without clipping
    skipped: bool  #: a gradient was not finite: nothing was updated


class _Lent(NamedTuple):
    """A parameter in a step, with the tensors whose memory C++ works on."""

    parameter: torch.Tensor
    weight: torch.Tensor  # the parameter itself, or a contiguous copy in host memory
    gradient: torch.Tensor

    @property
    def copied(self) -> int:
        """Bytes of the copies."""
        is_copy = self.weight.data_ptr() != _local(self.parameter).data_ptr()
        return self.weight.nbytes + self.gradient.nbytes if is_copy else 0


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Ctrl-C waits for the end of the block, so that it leaves whole steps behind."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGINT)
    if before is None or before == signal.SIG_IGN:
        yield
        return
    caught: list[Any] = []
    signal.signal(signal.SIGINT, lambda number, frame: caught.append((number, frame)))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if caught:
            if callable(before):
                before(*caught[0])
            else:
                os.kill(os.getpid(), signal.SIGINT)


def _is_shard(tensor: torch.Tensor) -> bool:
    """Whether it is a DTensor, as FSDP2 makes parameters: this rank has a part of it."""
    return hasattr(tensor, "to_local")


def _local(tensor: torch.Tensor) -> torch.Tensor:
    """This rank's part of a DTensor, on the same memory; any other tensor itself."""
    if not _is_shard(tensor):
        return tensor
    with torch.no_grad():
        local: torch.Tensor = tensor.to_local()  # type: ignore[attr-defined]
    return local


def _host_values(tensor: torch.Tensor) -> torch.Tensor:
    """Its values one after the other in host memory; itself where they lie there already."""
    return _local(tensor.detach()).to("cpu").contiguous()


def _mapped(path: pathlib.Path) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file, which are read from it when they are looked at."""
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
        view = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        dtype = _DTYPES[entry["dtype"]]
        flat = torch.frombuffer(
            view, dtype=dtype, count=(end - begin) // dtype.itemsize, offset=8 + length + begin
        )
        tensors[name] = flat.view(entry["shape"])
    return tensors


class OffloadedOptimizer(torch.optim.Optimizer):
    """Base of all optimizers of this package; see :class:`strata.AdamW` for the arguments."""

    #: The states' names in ``state_dict``, as torch's optimizer of that rule has them.
    _m_key = "exp_avg"
    _v_key = "exp_avg_sq"

    def __init__(
        self,
        params: Iterable[Any],
        defaults: dict[str, Any],
        *,
        nvme: Union[None, PathLike, Iterable[PathLike]] = None,
        host_budget: Union[str, int] = "8GiB",
        nvme_budget: Union[None, str, int] = None,
        moments: str = "fp32",
        master: str = "fp32",
        max_grad_norm: Optional[float] = None,
        overlap: bool = False,
        threads: int = 0,
        io: str = "auto",
        window_elements: int = 0,
    ) -> None:
        self._core: Optional[_core.OffloadedOptimizer] = None
        if max_grad_norm is not None and not max_grad_norm > 0:
            raise ConfigError(f"max_grad_norm is {max_grad_norm}; it has to be positive, or None")
        if overlap and max_grad_norm is not None:
            raise ConfigError(
                "overlap=True updates a parameter before the gradients of others are known, and "
                "max_grad_norm needs the norm of all; leave one of them out"
            )
        if master not in ("fp32", "24bit", "none"):
            raise ConfigError(f"master is {master!r}; it has to be one of 'fp32', '24bit', 'none'")
        self._moments, self._master = moments, master
        self._max_grad_norm = max_grad_norm
        self._overlap = overlap
        self._directories = _directories(nvme)
        self._last_step = StepReport(0, None, False)
        self._parameters: list[torch.Tensor] = []
        self._indices: dict[torch.Tensor, int] = {}
        self._forms: list[tuple[torch.dtype, torch.Size]] = []  # of the parameters, for good
        # The version of each parameter that its master belongs to. None: it belongs to the weight
        # with that checksum; where there is none, the weight is to become the master.
        self._versions: list[Optional[int]] = []
        self._checksums: dict[int, int] = {}
        self._lent: deque[_Lent] = deque()
        self._collected = 0
        self._hooks: list[Any] = []
        self._mesh: Any = None  # of the ranks that have the other parts of the parameters

        super().__init__(params, defaults)
        rules = [self._checked_rule(group) for group in self.param_groups]
        self._core = _core.OffloadedOptimizer(
            directories=self._directories,
            rule=rules[0],
            moments=moments,
            master="24bit" if master == "24bit" else "fp32",
            host_bytes=_bytes(host_budget),
            nvme_bytes=None if nvme_budget is None else _bytes(nvme_budget),
            threads=threads,
            io=io,
            window_elements=window_elements,
        )
        self._introduce(list(enumerate(self.param_groups)))

    # ---- parameters -----------------------------------------------------------------------------

    def _rule(self, group: dict[str, Any]) -> Any:
        """The group's hyperparameters for C++."""
        raise NotImplementedError

    def _checked_rule(self, group: dict[str, Any]) -> Any:
        for key in _OTHER_RULES:
            if group.get(key):
                raise ConfigError(f"{key} is {group[key]}; the optimizers of strata have no {key}")
        decoupled = group.get("decoupled_weight_decay")
        if decoupled is not None and decoupled != getattr(self, "_decoupled", decoupled):
            raise ConfigError(
                f"decoupled_weight_decay is {decoupled}; take strata.AdamW where it is True, and "
                "strata.Adam where it is False"
            )
        if self._moments == "int8" and group.get("eps") == 0:
            raise ConfigError("eps is 0; with moments='int8' it has to be positive")
        return self._rule(group)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds a group, whose states are given a home at once.

        Errors: BudgetError, IoError and ConfigError, as in the constructor; the group is not there
        then. UsageError between an overlapped backward and its ``step()``.
        """
        super().add_param_group(param_group)
        if self._core is None:
            return
        try:
            self._checked_rule(self.param_groups[-1])
            self._introduce([(len(self.param_groups) - 1, self.param_groups[-1])])
        except BaseException:
            self.param_groups.pop()
            raise

    def _introduce(self, groups: list[tuple[int, dict[str, Any]]]) -> None:
        assert self._core is not None
        new: list[tuple[str, list[int], str, int]] = []
        tensors: list[torch.Tensor] = []
        for index, group in groups:
            names = group.get("param_names") or [
                f"param_{len(self._parameters) + len(new) + i}" for i in range(len(group["params"]))
            ]
            for name, parameter in zip(names, group["params"]):
                _check_parameter(name, parameter, self._master)
                precision = _PRECISIONS[parameter.dtype]
                shape = list(_local(parameter).shape)
                if _is_empty(parameter):
                    shape = [1]  # never touched: C++ has no parameters without elements
                new.append((name, shape, precision, index))
                tensors.append(parameter)
        mesh = self._mesh_of(self._parameters + tensors)
        self._core.add(new)
        self._mesh = mesh
        for parameter in tensors:
            self._indices[parameter] = len(self._parameters)
            self._parameters.append(parameter)
            own = _local(parameter)
            self._forms.append((own.dtype, own.shape))
            # The master of an fp16 weight is all fp32 numbers; others' is zero where they agree.
            is_blank = parameter.dtype != torch.float16
            self._versions.append(own._version if is_blank else None)
            if self._overlap and parameter.requires_grad:
                register: Any = parameter.register_post_accumulate_grad_hook  # untyped in torch
                self._hooks.append(register(_weak(self._update_at_once)))

    def _mesh_of(self, parameters: list[torch.Tensor]) -> Any:
        """The mesh that shards of parameters are spread over; None where they are whole."""
        shards: list[Any] = [parameter for parameter in parameters if _is_shard(parameter)]
        if not shards:
            return None
        if self._overlap:
            raise ConfigError(
                "overlap=True is for whole parameters: FSDP gives the gradients of shards at the end "
                "of its own backward; leave it out"
            )
        mesh = shards[0].device_mesh
        is_even = len(shards) == len(parameters) and all(
            each.device_mesh == mesh and mesh.ndim == 1 and each.placements[0].is_shard()
            for each in shards
        )
        if self._max_grad_norm is not None and not is_even:
            raise ConfigError(
                "max_grad_norm adds up over the ranks of one mesh of one dimension that all "
                "parameters are sharded over; for replicas, other meshes, or some whole parameters "
                "leave it out and call torch.nn.utils.clip_grad_norm_"
            )
        return mesh

    # ---- step -----------------------------------------------------------------------------------

    @property
    def last_step(self) -> StepReport:
        """What the last step did."""
        return self._last_step

    def step(self, closure: Optional[Callable[[], Any]] = None) -> Any:
        """Updates every parameter that has a gradient; returns what ``closure`` returned.

        Returns when all states are back at rest. Ctrl-C is taken after that, so that it leaves no
        step half done. Other threads run meanwhile; one optimizer is for one thread at a time.

        With ``max_grad_norm`` all gradients are scaled by min(1, max_grad_norm / (norm + 1e-6)), as
        ``torch.nn.utils.clip_grad_norm_`` does, but without changing them; if one is not finite,
        nothing is updated, a warning says so, and ``last_step.skipped`` is True.

        Errors: IoError, DeadlineExceeded, CorruptData when a disk fails: parameters and states are
        then those of half a step, and every later call raises UsageError until states have been
        loaded. ConfigError for hyperparameters out of range, TypeError for gradients that are
        sparse or of another dtype: nothing is updated then.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        core = self._open_core()
        with _interrupts_held(), torch.no_grad():
            parameters = [
                each for each in self._parameters if each.grad is not None and not _is_empty(each)
            ]
            for parameter in parameters:
                self._check(parameter)
            norm: Optional[float] = None
            if core.is_open:  # overlapped: what is left
                self._submit_all(core, parameters)
            else:
                scale, lent = 1.0, []
                if self._max_grad_norm is not None:
                    lent = [_lend(parameter) for parameter in parameters]
                    norm = self._over_ranks(_norm_of(core, lent))
                    if norm is None:
                        warnings.warn("a gradient is not finite: the step is skipped", stacklevel=2)
                        self._last_step = StepReport(0, None, True)
                        return loss
                    scale = min(1.0, self._max_grad_norm / (norm + 1e-6))
                self._bring_masters(core, parameters)
                self._begin(core, scale)
                try:
                    if lent:
                        self._submit(core, lent)
                    else:
                        self._submit_all(core, parameters)
                except BaseException as error:
                    if core.is_open:
                        core.abandon(f"it was left by {error!r}")
                        self._lent.clear()
                    raise
            self._finish(core, norm)
        return loss

    def _over_ranks(self, own: Optional[float]) -> Optional[float]:
        """The norm of what all ranks have shards of; None where it is not finite on any of them."""
        if self._mesh is None:
            return own
        square = torch.tensor(
            [math.inf if own is None else own * own],
            dtype=torch.float64,
            device=self._mesh.device_type,
        )
        torch.distributed.all_reduce(square, group=self._mesh.get_group())
        norm = math.sqrt(square.item())
        return norm if math.isfinite(norm) else None

    def _open_core(self) -> _core.OffloadedOptimizer:
        if self._core is None or self._core.is_closed:
            raise UsageError("this optimizer has been closed; make another one")
        return self._core

    def _check(self, parameter: torch.Tensor) -> None:
        """Raises unless parameter and gradient can be lent."""
        form = self._forms[self._indices[parameter]]
        own = _local(parameter)
        if (own.dtype, own.shape) != form:
            raise UsageError(
                f"a parameter is {own.dtype} {list(own.shape)} now and was {form[0]} "
                f"{list(form[1])} when the optimizer was made; make the optimizer after such changes"
            )
        gradient = parameter.grad
        if gradient is None:
            return
        if getattr(gradient, "placements", None) != getattr(parameter, "placements", None):
            raise TypeError("a gradient is not placed over the ranks as its parameter is")
        if gradient.layout != torch.strided:
            raise TypeError("a gradient is sparse; the optimizers of strata take dense ones")
        if gradient.dtype not in (parameter.dtype, torch.float32):
            raise TypeError(
                f"a gradient is {gradient.dtype} where its parameter is {parameter.dtype}; it has "
                "to have that dtype or torch.float32"
            )

    def _begin(self, core: _core.OffloadedOptimizer, scale: float) -> None:
        core.begin([self._checked_rule(group) for group in self.param_groups], scale)
        self._collected = 0

    def _submit_all(self, core: _core.OffloadedOptimizer, parameters: list[torch.Tensor]) -> None:
        """Submits parameters a few at a time, with few copies of those that need one."""
        batch: list[_Lent] = []
        for parameter in parameters:
            batch.append(_lend(parameter))
            if sum(each.copied for each in batch) > LENT_BYTES:
                self._submit(core, batch)
                batch = []
                while sum(each.copied for each in self._lent) > LENT_BYTES:
                    self._wait_for_one(core)
        self._submit(core, batch)

    def _wait_for_one(self, core: _core.OffloadedOptimizer) -> None:
        self._collect(self._guarded(core.wait_for, self._collected + 1))

    def _submit(self, core: _core.OffloadedOptimizer, lent: list[_Lent]) -> None:
        """Begins the updates. Nothing may free the tensors before theirs are complete."""
        self._lent.extend(lent)
        try:
            complete = self._guarded(
                core.submit,
                [
                    (
                        self._indices[each.parameter],
                        each.weight.data_ptr(),
                        each.gradient.data_ptr(),
                        each.gradient.dtype == torch.float32,
                    )
                    for each in lent
                ],
            )
        except UsageError:  # refused: the others go on
            for _ in lent[: len(self._lent)]:
                self._lent.pop()
            raise
        self._collect(complete)

    def _guarded(self, call: Callable[..., int], *arguments: Any) -> int:
        """A call that may end the step: it has let go of all memory then."""
        try:
            return call(*arguments)
        except BaseException:
            if not self._open_core().is_open:
                self._lent.clear()
            raise

    def _collect(self, complete: int) -> None:
        """Lets go of what is complete, and brings it to where the parameter is."""
        while self._collected < complete:
            ended = self._lent.popleft()
            self._collected += 1
            own = _local(ended.parameter)
            if ended.weight.data_ptr() != own.data_ptr():
                own.copy_(ended.weight)
            else:
                torch.autograd.graph.increment_version(own)
            self._versions[self._indices[ended.parameter]] = own._version

    def _finish(self, core: _core.OffloadedOptimizer, norm: Optional[float]) -> None:
        self._collect(self._guarded(core.finish))
        self._last_step = StepReport(self._collected, norm, False)

    def _bring_masters(
        self, core: _core.OffloadedOptimizer, parameters: Iterable[torch.Tensor]
    ) -> None:
        """Makes what a program has written to a parameter since the last step its master."""
        for parameter in parameters:
            self._check(parameter)
            if parameter.dtype == torch.float32 or _is_empty(parameter):  # its own master, or none
                continue
            index = self._indices[parameter]
            checksum = self._checksums.pop(index, None)
            version = _local(parameter)._version
            if checksum is None and self._versions[index] == version:
                continue
            weight = _host_values(parameter)
            if checksum is None or checksum != _checksum(weight):
                core.adopt(index, weight.data_ptr())
            self._versions[index] = version

    def _update_at_once(self, parameter: torch.Tensor) -> None:
        """What autograd calls when a parameter's gradient is complete (overlap)."""
        core = self._open_core()
        with _interrupts_held(), torch.no_grad():
            self._check(parameter)
            if not core.is_open:
                self._bring_masters(core, self._parameters)
                self._begin(core, 1.0)
            try:
                self._submit(core, [_lend(parameter)])
            except UsageError as error:
                raise UsageError(
                    f"{error}; overlap=True takes one backward for each step(): accumulate "
                    "gradients with overlap=False, or drop this one with zero_grad()"
                ) from None
            parameter.grad = None
            while len(self._lent) > 1 and sum(e.gradient.nbytes for e in self._lent) > LENT_BYTES:
                self._wait_for_one(core)

    # ---- states ---------------------------------------------------------------------------------

    def _kinds(self, parameter: torch.Tensor) -> dict[str, str]:
        """The states of a parameter: their keys in ``state_dict``, and what C++ calls them."""
        core = self._open_core()
        keys = {self._m_key: "m", self._v_key: "v", MASTER_KEY: "master"}
        index = self._indices[parameter]
        return {key: kind for key, kind in keys.items() if core.state_size(index, kind) > 0}

    def _form(self, parameter: torch.Tensor, kind: str) -> tuple[torch.dtype, list[int]]:
        """The dtype and shape of a state as a tensor."""
        shape = list(_local(parameter).shape)
        if kind == "master":
            if parameter.dtype == torch.float16:
                return torch.float32, shape
            return (torch.int8 if self._master == "24bit" else torch.int16), shape
        if self._moments == "int8":
            return torch.uint8, [self._open_core().state_size(self._indices[parameter], kind)]
        return (torch.bfloat16 if self._moments == "bf16" else torch.float32), shape

    def state_of(self, parameter: torch.Tensor) -> dict[str, Any]:
        """A copy of one parameter's states in host memory, as ``state_dict`` has them; empty before
        its first update. Of a shard those of this rank's part. Errors: KeyError for a tensor that is
        no parameter of this optimizer."""
        core = self._open_core()
        index = self._indices[parameter]
        with _interrupts_held(), torch.no_grad():
            self._bring_masters(core, [parameter])
            return self._states(index, self._read)

    def _read(self, index: int, key: str, kind: str) -> torch.Tensor:
        dtype, shape = self._form(self._parameters[index], kind)
        tensor = torch.empty(shape, dtype=dtype)
        self._open_core().read(index, kind, tensor.data_ptr())
        return tensor

    def _states(
        self, index: int, tensor_of: Callable[[int, str, str], torch.Tensor]
    ) -> dict[str, Any]:
        steps = self._open_core().steps(index)
        if steps == 0:
            return {}
        parameter = self._parameters[index]
        states: dict[str, Any] = {"step": torch.tensor(float(steps))}
        for key, kind in self._kinds(parameter).items():
            states[key] = tensor_of(index, key, kind)
        if MASTER_KEY in states:
            states[CHECKSUM_KEY] = _checksum(_host_values(parameter))
        return states

    def state_dict(self) -> dict[str, Any]:
        """The states and groups in the form of torch's optimizers.

        A parameter that was updated has ``step`` (float32, no dimension) and the moments under
        torch's names: float32 or bfloat16 in the parameter's shape; with ``moments="int8"`` uint8,
        one byte an element in blocks of 64 whose last may be padded. bf16 and fp16 parameters also
        have ``master_remainder`` (int16 or int8: what the weight lacks of its master; float32 for
        fp16: the master) and ``weight_checksum``, by which ``load_state_dict`` knows the weight.

        With ``nvme`` the tensors are mapped from files that are written beside the states and that
        vanish with the last tensor: host memory holds only what is looked at, and the disk needs
        room for the states once more.

        Of shards of FSDP2 the states are DTensors as they are, which torch.distributed.checkpoint
        writes and reads: of float32 parameters with float32 or bfloat16 moments. ``save`` takes all.

        Errors: UsageError between an overlapped backward and its ``step()``, and for shards of other
        formats; IoError.
        """
        core = self._open_core()
        if self._mesh is not None and (
            self._moments == "int8" or any(p.dtype != torch.float32 for p in self._parameters)
        ):
            raise UsageError(
                "state_dict() of parameters that are shards is for float32 ones with fp32 or bf16 "
                "moments; call save() with a directory of its own on each rank"
            )
        with _interrupts_held(), torch.no_grad():
            self._bring_masters(core, self._parameters)
            tensor_of = self._read
            if self._directories and any(map(core.steps, range(len(self._parameters)))):
                tensors = self._scratch_tensors(core)
                tensor_of = lambda index, key, kind: tensors[f"{index}.{key}"]  # noqa: E731
            try:
                for index, parameter in enumerate(self._parameters):
                    states = self._states(index, tensor_of)
                    if states:
                        self.state[parameter] = _placed_as(parameter, states)
                return super().state_dict()
            finally:
                self.state.clear()

    def _scratch_tensors(self, core: _core.OffloadedOptimizer) -> dict[str, torch.Tensor]:
        directory = pathlib.Path(
            tempfile.mkdtemp(prefix="strata-state-dict-", dir=self._directories[0])
        )
        try:
            core.save(str(directory), self._saved_tensors(), FILE_BYTES, MANIFEST, "{}")
            tensors: dict[str, torch.Tensor] = {}
            for file in sorted(directory.glob("states-*.safetensors")):
                tensors.update(_mapped(file))
            return tensors
        finally:
            shutil.rmtree(directory, ignore_errors=True)

    def _saved_tensors(self, of: Optional[Iterable[int]] = None) -> list[tuple[str, int, str]]:
        core = self._open_core()
        if of is None:
            of = [i for i in range(len(self._parameters)) if core.steps(i) > 0]
        return [
            (f"{index}.{key}", index, kind)
            for index in of
            for key, kind in self._kinds(self._parameters[index]).items()
        ]

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes over states and groups of ``state_dict()``, or of torch's optimizer of this rule.

        The tensors are read piece by piece, so mapped ones do not pass through memory as a whole.
        float32 moments may also be given in bfloat16 or float16. Load the parameters and the states
        in any order: a bf16 or fp16 parameter whose bits are those of the time of ``state_dict()``
        gets its master back exactly; any other one becomes its own master.

        Errors: DataError, with nothing changed, for a state dict of other groups, shapes or formats.
        """
        state_dict = dict(state_dict)
        for hook in list(self._optimizer_load_state_dict_pre_hooks.values()):
            changed = hook(self, state_dict)
            if changed is not None:
                state_dict = changed
        groups = self._checked_groups(state_dict["param_groups"])
        order = [id_ for group in state_dict["param_groups"] for id_ in group["params"]]
        places = {id_: index for index, id_ in enumerate(order)}
        loaded: dict[int, dict[str, Any]] = {}
        for id_, states in state_dict["state"].items():
            if id_ not in places:
                raise DataError(f"the state dict has states of {id_!r}, which is in no group of it")
            loaded[places[id_]] = self._checked_states(places[id_], states)

        core = self._open_core()
        with _interrupts_held(), torch.no_grad():
            core.abandon("load_state_dict did not come to its end")
            self._lent.clear()
            for index, parameter in enumerate(self._parameters):
                states = loaded.get(index, {})
                if not states:
                    core.forget(index)
                self._take_over(core, index, states.get("step", 0), states.get(CHECKSUM_KEY))
                for key, kind in self._kinds(parameter).items():
                    if key in states:
                        core.write(index, kind, states[key].data_ptr())
            core.recover()
            self.__setstate__({"state": {}, "param_groups": groups})
        for post_hook in list(self._optimizer_load_state_dict_post_hooks.values()):
            post_hook(self)

    def _take_over(
        self, core: _core.OffloadedOptimizer, index: int, steps: int, checksum: Optional[int]
    ) -> None:
        core.set_steps(index, steps)
        self._versions[index] = None
        self._checksums.pop(index, None)
        if checksum is not None:
            self._checksums[index] = checksum

    def _checked_groups(self, saved: list[dict[str, Any]]) -> list[dict[str, Any]]:
        sizes = [len(group["params"]) for group in self.param_groups]
        if [len(group["params"]) for group in saved] != sizes:
            raise DataError(
                f"the saved groups have {[len(group['params']) for group in saved]} parameters "
                f"where this optimizer's have {sizes}"
            )
        groups = []
        for own, other in zip(self.param_groups, saved):
            group = {**own, **other, "params": own["params"]}
            if "param_names" in own:
                group["param_names"] = own["param_names"]
            try:
                self._checked_rule(group)
            except (KeyError, TypeError, ConfigError) as error:
                raise DataError(f"the saved groups cannot be taken over: {error}") from None
            groups.append(group)
        return groups

    def _checked_states(self, index: int, states: dict[str, Any]) -> dict[str, Any]:
        """The states with ``step`` as a number and tensors in the form that C++ takes."""
        parameter = self._parameters[index]
        kinds = self._kinds(parameter)
        checked: dict[str, Any] = {}
        for key, kind in kinds.items():
            tensor = states.get(key)
            if tensor is None:
                continue
            tensor = _local(tensor)
            dtype, shape = self._form(parameter, kind)
            if dtype == torch.float32 and tensor.dtype in (torch.bfloat16, torch.float16):
                tensor = tensor.to(dtype)
            if tensor.dtype != dtype or list(tensor.shape) != shape:
                raise DataError(
                    f"{key} of parameter {index} is {tensor.dtype} {list(tensor.shape)}, and here "
                    f"{dtype} {shape}; make the optimizer with the moments and master it had then"
                )
            checked[key] = _host_values(tensor)
        missing = [key for key, kind in kinds.items() if kind != "master" and key not in checked]
        if missing and (checked or int(states.get("step", 0)) > 0):
            raise DataError(f"parameter {index} has no {missing[0]!r} in the state dict")
        if missing:
            return {}
        checked["step"] = int(states.get("step", 1 if checked else 0))
        if MASTER_KEY in checked and CHECKSUM_KEY in states:
            checked[CHECKSUM_KEY] = int(states[CHECKSUM_KEY])
        return checked

    # ---- directories ----------------------------------------------------------------------------

    def save(self, directory: PathLike) -> None:
        """Writes states and groups to a new directory, which appears complete or not at all.

        It holds ``optimizer.json`` and ``states-00001.safetensors`` and so on, of 4 GiB at most but
        for larger tensors, named ``<index of the parameter>.<key of state_dict>``. States go
        straight from disk to disk: no more memory is used than in a step. Where parameters are shards
        of FSDP2, each rank saves its own, to a directory of its own.

        Errors: ConfigError for a directory that exists and is not empty; IoError; UsageError
        between an overlapped backward and its ``step()``.
        """
        core = self._open_core()
        with _interrupts_held(), torch.no_grad():
            self._bring_masters(core, self._parameters)
            parameters = []
            for index, parameter in enumerate(self._parameters):
                entry: dict[str, Any] = {
                    "shape": list(_local(parameter).shape),
                    "dtype": str(parameter.dtype).removeprefix("torch."),
                    "steps": core.steps(index),
                }
                if _is_shard(parameter):
                    entry["shard"] = _place_of_shard(parameter)
                if entry["steps"] and MASTER_KEY in self._kinds(parameter):
                    entry[CHECKSUM_KEY] = _checksum(_host_values(parameter))
                parameters.append(entry)
            groups = [
                {key: _plain(value) for key, value in group.items() if key != "params"}
                | {"params": [self._indices[parameter] for parameter in group["params"]]}
                for group in self.param_groups
            ]
            manifest = {
                "format": MANIFEST_FORMAT,
                "optimizer": type(self).__name__,
                "moments": self._moments,
                "param_groups": groups,
                "parameters": parameters,
            }
            text = json.dumps(manifest, indent=1) + "\n"
            core.save(os.fspath(directory), self._saved_tensors(), FILE_BYTES, MANIFEST, text)

    def load(self, directory: PathLike) -> None:
        """Takes over states and groups that ``save`` wrote, straight from disk to disk.

        What ``load_state_dict`` says about parameters and their masters holds here too. Errors:
        IoError; DataError, with nothing changed, for a directory that ``save`` did not write, that
        is damaged, or that is of an optimizer with other parameters, groups or formats.
        """
        path = pathlib.Path(directory)
        manifest = _read_manifest(path / MANIFEST)
        if manifest["optimizer"] != type(self).__name__:
            raise DataError(f"{path}: the states are those of {manifest['optimizer']}")
        groups = self._checked_groups(manifest["param_groups"])
        for group, own in zip(groups, self.param_groups):  # JSON has no tuples
            for key, value in group.items():
                if isinstance(own.get(key), tuple) and isinstance(value, list):
                    group[key] = tuple(value)
        entries = manifest["parameters"]
        shapes = [list(_local(parameter).shape) for parameter in self._parameters]
        if [entry["shape"] for entry in entries] != shapes:
            raise DataError(f"{path}: the parameters there have other shapes than those here")
        shards = [_place_of_shard(p) if _is_shard(p) else None for p in self._parameters]
        if [entry.get("shard") for entry in entries] != shards:
            raise DataError(f"{path}: the parameters there are shards of another rank or mesh")
        with_states = [index for index, entry in enumerate(entries) if entry["steps"] > 0]
        tensors = self._saved_tensors(with_states)
        core = self._open_core()
        with _interrupts_held(), torch.no_grad():
            core.check(str(path), tensors)
            core.abandon("load did not come to its end")
            self._lent.clear()
            core.load(str(path), tensors)
            for index, entry in enumerate(entries):
                if entry["steps"] == 0:
                    core.forget(index)
                self._take_over(core, index, entry["steps"], entry.get(CHECKSUM_KEY))
            core.recover()
            self.__setstate__({"state": {}, "param_groups": groups})

    # ---- the rest -------------------------------------------------------------------------------

    def usage(self) -> _core.Usage:
        """Bytes held of the budgets, where the states rest, and the bytes moved so far."""
        return self._open_core().usage()

    def close(self) -> None:
        """Frees all memory and disk space now. Every later call but this one is a UsageError.

        An optimizer that is dropped does the same.
        """
        for hook in self._hooks:
            hook.remove()
        self._hooks = []
        if self._core is not None:
            self._core.close()
        self._lent.clear()

    def __getstate__(self) -> dict[str, Any]:
        raise UsageError(
            "an optimizer whose states are on disk cannot be pickled or copied; use save() and "
            "load(), or state_dict()"
        )


# ---- pieces -------------------------------------------------------------------------------------


def _directories(nvme: Union[None, PathLike, Iterable[PathLike]]) -> list[str]:
    if nvme is None:
        return []
    if isinstance(nvme, (str, os.PathLike)):
        nvme = [nvme]
    return [os.path.abspath(os.fspath(directory)) for directory in nvme]


def _weak(method: Callable[[torch.Tensor], None]) -> Callable[[torch.Tensor], None]:
    """A hook that does not keep its optimizer alive."""
    reference = weakref.WeakMethod(method)

    def call(parameter: torch.Tensor) -> None:
        alive = reference()
        if alive is not None:
            alive(parameter)

    return call


def _bytes(amount: Union[str, int]) -> int:
    return _core.parse_bytes(str(amount))


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, torch.Tensor) else value


def _checksum(weight: torch.Tensor) -> int:
    # One bit less than C++ has: some readers of state dicts know signed numbers only.
    return _core.checksum(weight.data_ptr(), weight.nbytes) >> 1


def _is_empty(parameter: torch.Tensor) -> bool:
    """Whether it is a shard without elements, on a rank beyond the last row."""
    return _is_shard(parameter) and _local(parameter).numel() == 0


def _place_of_shard(parameter: Any) -> list[Any]:
    """Which part of a DTensor this rank has, as JSON has it."""
    mesh = parameter.device_mesh
    return [list(mesh.shape), list(mesh.get_coordinate()), [str(p) for p in parameter.placements]]


def _placed_as(parameter: Any, states: dict[str, Any]) -> dict[str, Any]:
    """States of a rank's part of a DTensor as DTensors; any others as they are."""
    if not _is_shard(parameter):
        return states
    whole: Any = type(parameter.data)
    return {
        key: value
        if key == "step"
        else whole.from_local(
            value,
            parameter.device_mesh,
            parameter.placements,
            run_check=False,
            shape=parameter.shape,
            stride=parameter.stride(),
        )
        for key, value in states.items()
    }


def _check_parameter(name: str, parameter: torch.Tensor, master: str) -> None:
    if type(_local(parameter.data)) is not torch.Tensor or parameter.device.type == "meta":
        raise ConfigError(
            f"parameter {name!r} is a {type(parameter.data).__name__} on {parameter.device}; it has "
            "to be an ordinary tensor with memory of its own, or a DTensor of such"
        )
    if any(each.is_partial() for each in getattr(parameter, "placements", ())):
        raise ConfigError(f"parameter {name!r} is a DTensor whose ranks have parts of a sum")
    if parameter.dtype not in _PRECISIONS:
        raise ConfigError(
            f"parameter {name!r} is {parameter.dtype}; it has to be torch.float32, torch.bfloat16 "
            "or torch.float16"
        )
    if master == "none" and parameter.dtype != torch.float32:
        raise ConfigError(
            f"master='none', but parameter {name!r} is {parameter.dtype}: its updates would be "
            "lost in rounding; take 'fp32', or '24bit' for torch.bfloat16"
        )
    if master == "24bit" and parameter.dtype == torch.float16:
        raise ConfigError(f"master='24bit' is for torch.bfloat16; {name!r} is torch.float16")


def _lend(parameter: torch.Tensor) -> _Lent:
    assert parameter.grad is not None
    return _Lent(parameter, _host_values(parameter), _host_values(parameter.grad))


def _norm_of(core: _core.OffloadedOptimizer, lent: list[_Lent]) -> Optional[float]:
    gradients = [each.gradient for each in lent]
    return core.norm([(g.data_ptr(), g.numel(), _PRECISIONS[g.dtype]) for g in gradients])


def _read_manifest(path: pathlib.Path) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if manifest["format"] != MANIFEST_FORMAT:
            raise DataError(f"{path}: its format is {manifest['format']!r}, not {MANIFEST_FORMAT!r}")
        for entry in manifest["parameters"]:
            entry["steps"], entry["shape"] = int(entry["steps"]), [int(n) for n in entry["shape"]]
        manifest["optimizer"], manifest["param_groups"]  # noqa: B018: they have to be there
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: not written by save(): {error}") from None
    return manifest
