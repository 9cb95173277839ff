"""The model as objectives may use it: extra forward passes, embeddings, the head.

Shape letters: B rows, T tokens, D hidden size, R rows of an extra pass, W its width, K vectors.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from semtube.errors import UserError
from semtube.models.decoder import causal_lm_of
from semtube.models.head import Head
from semtube.models.host_output import states_of
from semtube.objectives.objective import PADDING_INDEX, VECTOR

#: Models whose attention is known to keep packed texts apart.
_CHECKED: weakref.WeakSet[nn.Module] = weakref.WeakSet()


class ModelEncoder:
    """An `Encoder` for one forward pass of a host.

    Args:
        model: the model that was attached to.
        decoder: its decoder.
        input_ids: (B, T) of the host's batch; None where it gave embeddings.
        call: the arguments that the decoder was called with.
        key: seeds the dropout of the extra passes, in 32 bits, which is what torch reads of it on a
            CPU; the global generators are left as they were.
        wrap: applied to the states of every extra pass.
    """

    def __init__(
        self,
        model: nn.Module,
        decoder: nn.Module,
        input_ids: Tensor | None,
        call: tuple[tuple[Any, ...], dict[str, Any]],
        key: int,
        wrap: Callable[[Tensor], Tensor] = lambda states: states,
    ) -> None:
        self._causal_lm = causal_lm_of(model)
        self._decoder = decoder
        self._input_ids = input_ids
        self._args, self._kwargs = call
        self._key = key
        self._wrap = wrap
        device = next(model.parameters()).device.type
        self._autocast: dict[str, Any] = {
            "device_type": device,
            "dtype": torch.get_autocast_dtype(device),
            "enabled": torch.is_autocast_enabled(device),
        }

    def __call__(
        self, index_RW: Tensor, position_RW: Tensor, vectors_KD: Tensor | None = None
    ) -> Tensor:
        """See `semtube.objectives.objective.Encoder`.

        Raises:
            UserError: the host's batch has no token ids, the embeddings are of another width than
                the states, or the attention does not keep texts apart by their positions.
        """
        embedded_RWD = self.embed(index_RW.clamp_min(0))
        embedded_RWD = torch.where((index_RW == PADDING_INDEX)[..., None], 0, embedded_RWD)
        if vectors_KD is not None:
            number_RW = (VECTOR - index_RW).clamp_min(0)
            if vectors_KD.shape[-1] != embedded_RWD.shape[-1]:
                raise UserError(
                    f"the model embeds tokens in {embedded_RWD.shape[-1]} numbers but its states "
                    f"have {vectors_KD.shape[-1]}, so learned vectors cannot stand among its "
                    "tokens: use an objective without them"
                )
            vector_RWD = vectors_KD.to(embedded_RWD.dtype)[number_RW]
            embedded_RWD = torch.where((index_RW <= VECTOR)[..., None], vector_RWD, embedded_RWD)
        if self._decoder not in _CHECKED:
            self._check_apart()
            _CHECKED.add(self._decoder)
        with self._own_dropout():
            return self._wrap(self._run(embedded_RWD, position_RW))

    def embed(self, index: Tensor) -> Tensor:
        """See `Encoder`."""
        if self._input_ids is None:
            raise UserError(
                "the host gives the model embeddings, not token ids, so the objective cannot put "
                "its own texts together: give input_ids"
            )
        with self._own_dropout():  # noise on embeddings, and dropout behind them, draw too
            return self._causal_lm.get_input_embeddings()(self._input_ids.flatten()[index])

    def logits(self, states: Tensor) -> Tensor:
        """See `Encoder`.

        Raises:
            UserError: the model has no head, or rescales its logits in a way not known here.
        """
        head = Head(self._causal_lm)
        with torch.autocast(**self._autocast):
            return head(states)

    def again(self) -> Tensor:
        """See `Encoder`.

        Raises:
            UserError: the model has no dropout, so that a second pass would be the first.
        """
        check_dropout(self._causal_lm)
        kwargs = {**self._kwargs, "use_cache": False, "past_key_values": None}
        with self._own_dropout(), torch.autocast(**self._autocast):
            return self._wrap(states_of(self._decoder(*self._args, **kwargs)))

    def _run(self, embedded_RWD: Tensor, position_RW: Tensor) -> Tensor:
        rows, width = position_RW.shape
        config = getattr(self._causal_lm, "config", None)
        if "flash" in str(getattr(config, "_attn_implementation", "")):
            # Flash kernels keep texts apart in a single row alone.
            embedded_RWD, position_RW = embedded_RWD.flatten(0, 1)[None], position_RW.view(1, -1)
        with torch.autocast(**self._autocast):
            output = self._decoder(
                inputs_embeds=embedded_RWD, position_ids=position_RW, use_cache=False
            )
        return states_of(output).view(rows, width, -1)

    @torch.no_grad()
    def _check_apart(self) -> None:
        """The states of a text must not depend on what stands before it in its row."""
        embed = self._causal_lm.get_input_embeddings()
        device = next(self._decoder.parameters()).device
        modules = [*self._decoder.modules(), embed]
        training = [module.training for module in modules]
        for module in modules:
            module.training = False
        try:
            texts_R6 = torch.tensor([[0, 1, 2, 3, 4, 5], [6, 7, 8, 3, 4, 5]], device=device)
            embedded = embed(texts_R6)
            apart, joined = (
                self._run(embedded, torch.tensor([position, position], device=device))[:, 3:]
                for position in ([0, 1, 2, 0, 1, 2], [0, 1, 2, 3, 4, 5])
            )
        finally:
            for module, mode in zip(modules, training, strict=True):
                module.training = mode
        if (apart[0] - apart[1]).norm() > 0.1 * (joined[0] - joined[1]).norm():
            raise UserError(
                f"the attention of {type(self._decoder).__name__} does not keep texts apart that "
                "share a row, so the objective's views would see each other: use a model whose "
                "transformers implementation supports packing"
            )

    @contextmanager
    def _own_dropout(self) -> Iterator[None]:
        device = next(self._decoder.parameters()).device
        on_gpu = device.type == "cuda"
        with torch.random.fork_rng(devices=[device] if on_gpu else []):
            torch.default_generator.manual_seed(self._key)
            if on_gpu:
                with torch.cuda.device(device):
                    torch.cuda.manual_seed(self._key)
            yield


def check_dropout(model: nn.Module) -> None:
    """A training pass of the model must draw some dropout mask.

    Raises:
        UserError: it draws none.
    """
    rate_names = ("dropout", "attention_dropout", "activation_dropout", "hidden_dropout")
    if not any(
        (isinstance(module, nn.Dropout) and module.p > 0)
        or any(isinstance(r := getattr(module, name, 0), float) and r > 0 for name in rate_names)
        for module in model.modules()
    ):
        raise UserError(
            f"{type(model).__name__} drops nothing, so two passes are equal and R-Drop has nothing "
            "to compare: set a dropout (attention_dropout in its config, lora_dropout of its "
            "adapters)"
        )
