"""What a module returned: its states, its loss, and the same output with other states."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from semtube.errors import UserError


def states_of(output: Any) -> Tensor:
    """The (B, T, D) states in a module's output: a tensor, a tuple's first, or the named field."""
    states = output
    if not isinstance(output, Tensor):
        states = field(output, "last_hidden_state")
        if states is None and isinstance(output, tuple):
            states = output[0]
    if not isinstance(states, Tensor) or states.dim() != 3:
        raise UserError(
            "the decoder's output holds no (batch, tokens, width) states: pass attach(..., "
            "decoder=...), the module that returns them"
        )
    return states


def loss_of(output: Any) -> Any:
    """The model's loss: the field of that name, or a tuple's first if it is a single number."""
    if isinstance(output, tuple) and not hasattr(output, "_fields"):
        first = output[0]
        return first if isinstance(first, Tensor) and first.dim() == 0 else None
    return field(output, "loss")


def replace_states(output: Any, states: Tensor) -> Any:
    if isinstance(output, Tensor):
        return states
    if isinstance(output, tuple):
        return (states, *output[1:])
    output["last_hidden_state"] = states
    return output


def field(output: Any, name: str) -> Any:
    return output.get(name) if isinstance(output, dict) else getattr(output, name, None)


def needs_grad(value: Any) -> bool:
    return isinstance(value, Tensor) and value.requires_grad
