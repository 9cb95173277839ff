"""Find the decoder of a causal language model and its layers; check, never guess."""

from __future__ import annotations

from typing import Any

from torch import nn

from semtube.errors import UserError


def unwrap(model: Any) -> nn.Module:
    """The model inside DistributedDataParallel and torch.compile wrappers.

    Raises:
        UserError: for what is no module, and for `nn.DataParallel`, whose replicas are copies that
            hooks cannot serve.
    """
    if not isinstance(model, nn.Module):
        raise UserError(
            f"model is a {type(model).__name__}: give the torch module that is trained, in a "
            "trainer trainer.model"
        )
    while True:
        if isinstance(model, nn.DataParallel):
            raise UserError(
                "the model is wrapped in nn.DataParallel, which copies it at every step: use "
                "DistributedDataParallel (torchrun), or one device"
            )
        if isinstance(model, nn.parallel.DistributedDataParallel):
            model = model.module
        elif hasattr(model, "_orig_mod"):
            model = model._orig_mod
        else:
            return model


def find_decoder(model: nn.Module, decoder: nn.Module | str | None = None) -> nn.Module:
    """The module whose output is the last hidden state (B, T, D).

    Args:
        model: unwrapped; a PEFT model is looked into.
        decoder: for models without `get_decoder()`: the module, or its dotted name.

    Raises:
        UserError: there is none, or it is not part of the model.
    """
    if isinstance(decoder, str):
        try:
            return model.get_submodule(decoder)
        except AttributeError as error:
            raise UserError(f"the model has no module {decoder!r} to use as decoder") from error
    if decoder is not None:
        if not any(module is decoder for module in model.modules()):
            raise UserError("the decoder given is not a part of the model")
        return decoder
    causal_lm = causal_lm_of(model)
    found = causal_lm.get_decoder() if hasattr(causal_lm, "get_decoder") else None
    if not isinstance(found, nn.Module) or found is causal_lm:
        raise UserError(
            f"{type(causal_lm).__name__} has no decoder that get_decoder() finds: pass "
            "attach(..., decoder=...), the module (or its dotted name) that returns the last "
            "hidden states"
        )
    return found


def causal_lm_of(model: Any) -> Any:
    """The causal language model inside a PEFT wrapper, or the model itself."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def find_state_module(model: nn.Module, decoder: nn.Module, layer: int) -> nn.Module:
    """The module whose output are the states of `layer`.

    Args:
        layer: 1..L after that decoder layer, or -1..-L from the end. L and -1 are the decoder's
            own output, after its final norm.

    Raises:
        UserError: the layer does not exist, or the layers cannot be told apart.
    """
    if layer == -1:
        return decoder
    config = getattr(causal_lm_of(model), "config", None)
    if config is None:
        raise UserError(f"layer is {layer}, but only -1 works for a model without a config")
    num_layers = config.get_text_config().num_hidden_layers
    number = layer + 1 + num_layers if layer < 0 else layer
    if not 1 <= number <= num_layers:
        raise UserError(
            f"layer is {layer}, but the model has {num_layers} layers: use 1 to {num_layers}, or "
            f"-1 to -{num_layers}"
        )
    return decoder if number == num_layers else layers_of(decoder, num_layers)[number - 1]


def layers_of(decoder: nn.Module, num_layers: int) -> nn.ModuleList:
    """The decoder's layers, first to last.

    Raises:
        UserError: they cannot be told apart from other lists of modules.
    """
    lists = [
        child
        for child in decoder.children()
        if isinstance(child, nn.ModuleList) and len(child) == num_layers
    ]
    if len(lists) != 1:
        raise UserError(
            f"cannot tell which modules of {type(decoder).__name__} are its {num_layers} layers "
            f"({len(lists)} candidates): use layer=-1"
        )
    return lists[0]


def is_distributed(model: Any) -> bool:
    """Whether the parameters are already synchronised or sharded by a wrapper."""
    if isinstance(model, nn.parallel.DistributedDataParallel):
        return True
    return any(hasattr(parameter, "placements") for parameter in model.parameters())


def is_checkpointing(model: nn.Module) -> bool:
    """Whether the model recomputes its layers in the backward pass."""
    causal_lm = causal_lm_of(model)
    # The second is the name before transformers 5.23.
    for name in ("is_activation_checkpointing", "is_gradient_checkpointing"):
        if hasattr(type(causal_lm), name):
            return getattr(causal_lm, name)
    return False


def check_width(model: nn.Module, width: int) -> None:
    """The states must be as wide as the head's input, else the wrong module was found.

    Raises:
        UserError: they are not.
    """
    causal_lm = causal_lm_of(model)
    head = (
        causal_lm.get_output_embeddings() if hasattr(causal_lm, "get_output_embeddings") else None
    )
    wanted = getattr(head, "in_features", None)
    if wanted is not None and wanted != width:
        raise UserError(
            f"the decoder found returns states of width {width}, the head reads {wanted}: pass "
            "attach(..., decoder=...)"
        )


def check_synchronised(learned: nn.Module, what: str) -> None:
    """Parts in a model that DistributedDataParallel runs must have been there when it was made.

    Raises:
        UserError: they were not.
    """
    wrapper = nn.parallel.DistributedDataParallel._get_active_ddp_module()
    if wrapper is None:
        return
    known = {id(parameter) for parameter in wrapper._module_parameters}
    if any(id(parameter) not in known for parameter in learned.parameters()):
        raise UserError(
            f"{what} has learnable parts: attach before the model is wrapped for distributed "
            "training, so that they are synchronised too"
        )
