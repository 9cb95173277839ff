"""FSDP2 shards one precision a group: learned parts of another are told before it fails."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import Any

from torch import distributed, nn
from torch.nn.modules.module import register_module_forward_pre_hook

from semtube.errors import UserError
from semtube.models.attached_parts import AttachedParts


def check_at_first_forward(model: nn.Module, attached: AttachedParts, what: str) -> None:
    """Look once, when the model is first called: sharding comes after attaching.

    FSDP2 puts its own hook before all others of the model, hence a global one here; it exists only
    in a distributed run, for learned parts whose precision is not the model's.

    Args:
        model: not kept alive.
        what: the objective, for the message.

    Raises:
        UserError: at that call, the parts lie in one group with parameters of another precision.
    """
    learned = attached.parts.learned
    if learned is None or not (distributed.is_available() and distributed.is_initialized()):
        return
    if len({parameter.dtype for parameter in model.parameters()}) == 1:
        return
    reference = weakref.ref(model)

    def look(module: nn.Module, args: Any) -> None:
        if module is reference():
            handle.remove()
            if not attached.is_empty:
                _check(module, attached, what)

    handle = register_module_forward_pre_hook(look)
    weakref.finalize(model, handle.remove)


def _check(model: nn.Module, attached: AttachedParts, what: str) -> None:
    from torch.distributed.fsdp import FSDPModule

    learned = attached.parts.learned
    assert learned is not None, "looked for where something is learned"
    if not isinstance(model, FSDPModule) or isinstance(learned, FSDPModule):
        return
    group = {parameter.dtype for parameter in _group_of(model, FSDPModule)}
    if len(group) > 1:
        raise UserError(
            f"the learned parts of {what} are {_names(learned.parameters())} in a group with "
            f"parameters of {_names(_group_of(model, FSDPModule), but=learned)}, and FSDP2 shards "
            f"one precision a group: call fully_shard(model.{attached.name}.learned) before "
            "fully_shard(model)"
        )


def _group_of(module: nn.Module, sharded: type) -> Iterator[nn.Parameter]:
    """The parameters that are sharded together with the module's own."""
    yield from module.parameters(recurse=False)
    for child in module.children():
        if not isinstance(child, sharded):
            yield from _group_of(child, sharded)


def _names(parameters: Iterator[nn.Parameter], but: nn.Module | None = None) -> str:
    left_out = set() if but is None else set(but.parameters())
    dtypes = {str(p.dtype).removeprefix("torch.") for p in parameters if p not in left_out}
    return " and ".join(sorted(dtypes))
