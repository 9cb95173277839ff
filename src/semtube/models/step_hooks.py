"""What happens in a training step of a model with an objective, in the order of the step.

Shape letters: B rows, T tokens, D hidden size, N documents.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook

from semtube.errors import UserError
from semtube.models.attached_parts import AttachedParts
from semtube.models.decoder import (
    check_synchronised,
    check_width,
    is_checkpointing,
)
from semtube.models.forward_pass import ForwardPass
from semtube.models.host_batch import HostBatch
from semtube.models.host_output import replace_states, states_of
from semtube.models.parts import Parts
from semtube.models.step_watch import StepWatch
from semtube.models.term_log import TermLog
from semtube.models.term_node import AddGradient, Touch, term_at
from semtube.objectives import weights
from semtube.objectives.objective import Objective
from semtube.objectives.trajectories import ROLES_KEY


@dataclass
class Shared:
    """What all objectives attached to one model share."""

    live: list[StepHooks] = field(default_factory=list)
    roles: Tensor | None = None
    #: An objective's own forward pass is under way.
    is_encoding: bool = False

    @classmethod
    def of(cls, model: nn.Module) -> Shared:
        """Those of a model; empty where nothing is attached."""
        return _SHARED.setdefault(model, cls())


_SHARED: weakref.WeakKeyDictionary[nn.Module, Shared] = weakref.WeakKeyDictionary()


class StepHooks:
    """The hooks of one objective on a model, and what they know of the step at hand.

    Args:
        model: unwrapped; not kept alive.
        attached: what the objective keeps in the model.
        shared: with the model's other objectives.
        seed: with the step and the document's tokens it decides every draw.
        decoder: returns the last states; `modules` those of the objective's layers.
        loss_scale: for a host that computes its loss outside the model.

    Attributes:
        step: steps so far of optimizers that hold the model's parameters.
        log: averages of the term.
    """

    def __init__(
        self,
        model: nn.Module,
        objective: Objective,
        attached: AttachedParts,
        shared: Shared,
        *,
        seed: int,
        decoder: nn.Module,
        modules: list[nn.Module],
        loss_scale: float | None,
    ) -> None:
        # Weak, so that a model that is attached and forgotten can be freed.
        self._model = weakref.ref(model)
        self.objective = objective
        self.attached = attached
        self.step = 0
        self.log = TermLog(repr(objective), len(objective.layers))
        self.seed = seed
        self._shared = shared
        self._decoder = decoder
        self._loss_scale = loss_scale
        self._forward: ForwardPass | None = None
        self._arriving: ForwardPass | None = None
        self._is_off = weights.is_never_used(objective.weight)
        self._watch = StepWatch(repr(objective), type(decoder).__name__)
        after_step = register_optimizer_step_post_hook(_weakly(self._after_step))
        weakref.finalize(model, after_step.remove)
        self._handles: list[Any] = [
            model.register_forward_pre_hook(self._before_model, with_kwargs=True),
            *(
                module.register_forward_hook(self._on_states, with_kwargs=True)
                for module in modules
            ),
            model.register_forward_hook(self._after_model),
            after_step,
        ]
        shared.live.append(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> StepHooks:
        """A copied model (an average, a reference) carries no objective: its hooks do nothing."""
        copied = object.__new__(StepHooks)
        copied._handles = []
        return copied

    @property
    def model(self) -> nn.Module:
        """The model that the objective is attached to."""
        model = self._model()
        assert model is not None, "a hook of a freed model cannot run"
        return model

    @property
    def weight(self) -> float | Tensor:
        """The term's weight in the step at hand; a tensor where it is `Adaptive`."""
        weight = self.objective.weight
        if isinstance(weight, weights.Adaptive):
            if (meter := self._parts.meter) is None:
                raise UserError("the objective is detached: read its Adaptive weight before")
            return meter.weight()
        return weight if isinstance(weight, float | int) else weight.at(self.step, self.seed)

    @property
    def are_live(self) -> bool:
        """Whether they have not been removed."""
        return bool(self._handles)

    @property
    def _parts(self) -> Parts:
        return self.attached.parts

    def remove(self) -> None:
        """Leave the model as it was."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._forward = self._arriving = None
        self.attached.remove()
        if self in self._shared.live:
            self._shared.live.remove(self)

    def check_used(self) -> None:
        """The term must have reached a gradient, unless its weight was 0.

        Raises:
            UserError: it has not.
        """
        if not self._is_off:
            self._watch.check_used()
            self.log.warn_if_empty()

    # In the order of a step. torch.compile breaks its graph at each and goes on.

    @torch.compiler.disable
    def _before_model(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        if not self._handles:
            return None
        if getattr(module, "_is_replica", False):
            raise UserError(
                "the host wraps the model in nn.DataParallel: use torchrun or one device"
            )
        is_first = self._shared.live[0] is self
        # The first attachment takes the roles out of the call; others find them with it.
        if ROLES_KEY in kwargs:
            kwargs = dict(kwargs)
            self._shared.roles = kwargs.pop(ROLES_KEY)
        elif is_first:
            self._shared.roles = None
        self._forward = None
        if self._trains(module):
            batch = HostBatch.read(args, kwargs, self._shared.roles)
            self._forward = ForwardPass(batch, self.weight)
        return args, kwargs

    @torch.compiler.disable
    def _on_states(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
    ) -> Any:
        if not self._handles or self._shared.is_encoding or not self._trains(module):
            return None
        forward = self._forward
        if forward is None:
            raise UserError(
                "a forward pass reached the decoder without passing the model that attach() was "
                "given: attach to the outermost model (with PEFT in a trainer, trainer.model)"
            )
        self._watch.num_fired += not forward.finished
        hidden_BTD, learned = states_of(output), self._parts.learned
        if learned is not None:
            check_synchronised(learned, repr(self.objective))
        if not isinstance(forward.weight, Tensor) and forward.weight == 0:
            if learned is None:
                return None
            return replace_states(output, Touch.apply(hidden_BTD, *learned.parameters()))
        if module is self._decoder:
            check_width(self.model, hidden_BTD.shape[-1])
        else:
            self._check_recomputation()
        if not hidden_BTD.requires_grad:
            raise UserError(
                "the hidden states need no gradient: no parameter below them is trained"
            )
        if forward.finished:
            forward = self._recomputed(forward)
        if forward.trajectories is None:
            forward.trajectories = forward.batch.trajectories(hidden_BTD, self.objective.content)
        with_term = self._add_term(hidden_BTD, forward, (args, kwargs))
        return replace_states(output, with_term)

    def _add_term(self, hidden_BTD: Tensor, forward: ForwardPass, call: Any) -> Tensor:
        parts, key = self._parts, self.seed * 2**32 + self.step
        with self._encoding():
            term = term_at(
                hidden_BTD, self.objective, forward, parts, key,
                model=self.model, decoder=self._decoder, call=call,
            )  # fmt: skip
        mean_N = term.mean_N
        if not forward.finished:
            assert forward.trajectories is not None, "the term has used them"
            self._watch.due()
            self.log.add(mean_N.detach(), term.count_N > 0, forward.trajectories.present_N)
        weight = forward.weight / len(self.objective.layers)
        return AddGradient.apply(hidden_BTD, mean_N, forward, weight, self._arrive, parts.meter)

    @contextmanager
    def _encoding(self) -> Iterator[None]:
        self._shared.is_encoding = True
        try:
            yield
        finally:
            self._shared.is_encoding = False

    def _trains(self, module: nn.Module) -> bool:
        return module.training and torch.is_grad_enabled() and not self._is_off

    @torch.compiler.disable
    def _after_model(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if not self._handles or (forward := self._forward) is None:
            return
        forward.finished = True
        if forward.trajectories is None:
            return  # weight 0, or the hook has not fired: the step, or the recomputation, says why
        forward.listen(output, self._loss_scale)

    def _arrive(self, forward: ForwardPass) -> None:
        self._arriving = forward
        self._watch.arrived()

    def _after_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        if self._is_off or not self._watch.ends_step(optimizer, self.model, self._parts):
            return
        if self._parts.meter is not None:
            self._parts.meter.end_step(self.weight)
        self.step += 1

    def _recomputed(self, forward: ForwardPass) -> ForwardPass:
        """Which forward pass a checkpointed layer is recomputed for: its node has just arrived."""
        if forward.trajectories is None or self._arriving is None:
            raise UserError(
                "gradient checkpointing with use_reentrant=True hides the inner layers' states: "
                "use use_reentrant=False, or layer=-1"
            )
        return self._arriving

    def _check_recomputation(self) -> None:
        if not any(other.objective.encodes for other in self._shared.live):
            return
        if is_checkpointing(self.model):
            raise UserError(
                f"{self.objective} reads an inner layer, which gradient checkpointing runs again, "
                "also for the extra forward passes of the other objective attached: use layer=-1, "
                "or no checkpointing"
            )


def _weakly(method: Any) -> Any:
    """The bound method as a hook that does not keep its object alive."""
    reference = weakref.WeakMethod(method)

    def call(*args: Any) -> None:
        bound = reference()
        if bound is not None:
            bound(*args)

    return call
