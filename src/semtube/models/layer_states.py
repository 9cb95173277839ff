"""The states behind chosen layers of a forward pass, taken by hooks; the model stays as it is.

Shape letters: B rows, T tokens, D hidden size.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from semtube.errors import UserError
from semtube.models.decoder import causal_lm_of, find_decoder, find_state_module, layers_of
from semtube.models.host_output import states_of

#: Names of the states that the last layer gives to the final norm, and of those behind the norm:
#: names, so that models of different depth are compared there.
BEFORE_NORM, LAST = "before_norm", "last"


def num_layers_of(model: nn.Module) -> int:
    """How many decoder layers a model has."""
    return causal_lm_of(model).config.get_text_config().num_hidden_layers


def layer_names(model: nn.Module, asked: Sequence[str] | None = None) -> list[str]:
    """Layers by name, first to last: "1" to "L - 1", then "before_norm" and "last".

    Args:
        asked: these names, L or -1 for "last", other numbers from the end. None for all of them.

    Raises:
        UserError: one that does not exist.
    """
    number = num_layers_of(model)
    every = [*(str(i) for i in range(1, number)), BEFORE_NORM, LAST]
    if asked is None:
        return every
    found = set()
    for name in asked:
        try:
            place = number if name == LAST else int(name)
        except ValueError:
            place = 0
        if place < 0:
            place += number + 1
        if name != BEFORE_NORM and not 1 <= place <= number:
            raise UserError(
                f"layer is {name!r}, but the model has {number} layers: use 1 to {number}, -1 to "
                f"-{number}, {BEFORE_NORM} or {LAST}"
            )
        found.add(name if name == BEFORE_NORM else every[place] if place == number else str(place))
    return [name for name in every if name in found]


@contextmanager
def layer_states(model: nn.Module, names: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """A mapping that holds, after every forward pass, the states (B, T, D) of each layer.

    Args:
        names: of `layer_names`.

    Raises:
        UserError: the model's layers cannot be found.
    """
    states: dict[str, Tensor] = {}
    decoder = find_decoder(model)
    layers = layers_of(decoder, num_layers_of(model))

    def keep(name: str) -> Any:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            states[name] = states_of(output)

        return hook

    hooks = []
    try:
        for name in names:
            if name == BEFORE_NORM:
                module = layers[-1]
            else:
                place = len(layers) if name == LAST else int(name)
                module = find_state_module(model, decoder, place)
            hooks.append(module.register_forward_hook(keep(name)))
        yield states
    finally:
        for hook in hooks:
            hook.remove()


def final_norm(model: nn.Module) -> nn.Module:
    """The norm between the last layer and the head.

    Raises:
        UserError: the decoder does not have just one.
    """
    decoder = find_decoder(model)
    norms = [child for child in decoder.children() if type(child).__name__.endswith("Norm")]
    if len(norms) != 1:
        raise UserError(
            f"cannot tell which of {len(norms)} norms of {type(decoder).__name__} is the last: "
            "transport between layers cannot be measured"
        )
    return norms[0]
