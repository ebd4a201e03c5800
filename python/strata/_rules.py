"""The optimizers: torch's rules, Strata's states."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Iterable, Optional, TypedDict, Union

from . import _core
from ._optimizer import OffloadedOptimizer

if TYPE_CHECKING:
    from typing_extensions import Unpack


class Offload(TypedDict, total=False):
    """The arguments that all optimizers of this package take beside those of their rule."""

    #: Directories on NVMe for states that host memory has no room for; several share the states by
    #: their speed. The last folder is made where it is missing. None: all states in host memory.
    nvme: Union[None, str, os.PathLike[str], Iterable[Union[str, os.PathLike[str]]]]
    #: Bytes of host memory for states and windows, "8GiB" or a number: a bound. Parameters and
    #: gradients are not counted. States go here first, the smallest before the others.
    host_budget: Union[str, int]
    #: Bytes that may be taken of the directories together; None: what their disks have.
    nvme_budget: Union[None, str, int]
    #: Format of the moments: "fp32", "bf16" (rounded stochastically), "int8" (blocks of 64).
    moments: str
    #: What is kept of a master beside a bf16 weight: "fp32" (2 bytes, exact), "24bit" (1 byte).
    #: fp32 parameters are their own masters, fp16 ones have an fp32 master. "none" asserts that
    #: none is needed: it takes fp32 parameters only.
    master: str
    #: Clips the norm of all gradients as one vector, exactly; None: no clipping.
    max_grad_norm: Optional[float]
    #: Updates a parameter as soon as backward has its gradient, and releases that; one backward
    #: for each step, no clipping.
    overlap: bool
    #: Threads of the arithmetic; 0: all cores of the process.
    threads: int
    #: "auto", "io_uring", "libaio" or "threads".
    io: str
    #: Elements that pass through memory at a time, a multiple of 65536; 0: chosen by host_budget.
    window_elements: int


def _betas(group: dict[str, Any]) -> dict[str, float]:
    beta1, beta2 = group["betas"]
    return {"beta1": float(beta1), "beta2": float(beta2)}


def _floats(group: dict[str, Any], *keys: str) -> dict[str, float]:
    return {key: float(group[key]) for key in keys}


class AdamW(OffloadedOptimizer):
    """AdamW (Loshchilov and Hutter) as ``torch.optim.AdamW`` has it, with its states on NVMe.

    ``params``: tensors of any shape in float32, bfloat16 or float16, in host memory (updated where
    they are) or on an accelerator (by copies), or groups of them. ``lr``, ``betas``, ``eps`` and
    ``weight_decay`` are torch's, and may be changed in ``param_groups`` between steps. The rest is
    :class:`strata.Offload`::

        optimizer = strata.AdamW(model.parameters(), lr=3e-4, nvme="/mnt/nvme0", host_budget="8GiB",
                                 moments="int8", max_grad_norm=1.0)

    float32 parameters come within 1 unit in the last place per step of torch's; bits depend neither
    on threads nor on where states rest.

    Errors: ConfigError (a value that cannot be used), BudgetError (the budgets have no room for the
    states), IoError (a directory, a full disk).
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        **offload: Unpack[Offload],
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, defaults, **offload)

    _decoupled = True

    def _rule(self, group: dict[str, Any]) -> _core.AdamRule:
        beta1, beta2 = group["betas"]
        return _core.AdamRule(
            lr=float(group["lr"]),
            beta1=float(beta1),
            beta2=float(beta2),
            eps=float(group["eps"]),
            weight_decay=float(group["weight_decay"]),
            decoupled_weight_decay=self._decoupled,
        )


class Adam(AdamW):
    """Adam (Kingma and Ba), weight decay as L2, as ``torch.optim.Adam`` has it; see :class:`AdamW`."""

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        **offload: Unpack[Offload],
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, **offload)

    _decoupled = False


class SGD(OffloadedOptimizer):
    """SGD as ``torch.optim.SGD`` has it; see :class:`AdamW`.

    With ``momentum`` it keeps a buffer for each parameter; all groups have momentum or none has.
    """

    _m_key = "momentum_buffer"

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        **offload: Unpack[Offload],
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "dampening": dampening,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
        }
        super().__init__(params, defaults, **offload)

    def _rule(self, group: dict[str, Any]) -> _core.SgdRule:
        return _core.SgdRule(
            **_floats(group, "lr", "momentum", "dampening", "weight_decay"),
            nesterov=bool(group["nesterov"]),
        )


class Adagrad(OffloadedOptimizer):
    """Adagrad (Duchi, Hazan and Singer) as ``torch.optim.Adagrad`` has it, from sums of zero; see
    :class:`AdamW`."""

    _v_key = "sum"

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-2,
        lr_decay: float = 0.0,
        weight_decay: float = 0.0,
        eps: float = 1e-10,
        **offload: Unpack[Offload],
    ) -> None:
        defaults = {"lr": lr, "lr_decay": lr_decay, "weight_decay": weight_decay, "eps": eps}
        super().__init__(params, defaults, **offload)

    def _rule(self, group: dict[str, Any]) -> _core.AdagradRule:
        return _core.AdagradRule(**_floats(group, "lr", "lr_decay", "eps", "weight_decay"))


class Lion(OffloadedOptimizer):
    """Lion (Chen et al., "Symbolic Discovery of Optimization Algorithms"); see :class:`AdamW`.

    Keeps one moment, ``exp_avg``.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
        **offload: Unpack[Offload],
    ) -> None:
        super().__init__(
            params, {"lr": lr, "betas": betas, "weight_decay": weight_decay}, **offload
        )

    def _rule(self, group: dict[str, Any]) -> _core.LionRule:
        return _core.LionRule(**_floats(group, "lr", "weight_decay"), **_betas(group))
