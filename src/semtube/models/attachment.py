"""The live connection between a model and an objective: the hooks, in the order of a step.

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
    find_decoder,
    find_state_module,
    is_checkpointing,
    is_distributed,
    unwrap,
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
class _Shared:
    """What all attachments of one model share."""

    attachments: list[Attachment] = field(default_factory=list)
    roles: Tensor | None = None
    #: An objective's own forward pass is under way.
    is_encoding: bool = False


_SHARED: weakref.WeakKeyDictionary[nn.Module, _Shared] = weakref.WeakKeyDictionary()


class Attachment:
    """A live connection between a model and an objective; made by `attach`.

    Attributes:
        step: steps so far of torch optimizers that hold the model's parameters; each draws anew.
            Set it when a run resumes, so that draws go on as they would have
            (`semtube.training.callback.TermCallback` does this in a Hugging Face Trainer), and at
            every step where an optimizer of another kind keeps flat copies of the parameters.
    """

    def __init__(
        self,
        model: nn.Module,
        objective: Objective,
        *,
        seed: int = 0,
        decoder: nn.Module | str | None = None,
        loss_scale: float | None = None,
        measure_gradients: bool = False,
    ) -> None:
        if not isinstance(objective, Objective):
            raise UserError(f"objective is {objective!r}: give one, such as SemanticTube(0.02)")
        wrapped, model = model, unwrap(model)
        # Weak, so that a model that is attached and forgotten can be freed.
        self._model = weakref.ref(model)
        self.objective = objective
        self.step = 0
        self._seed = seed
        self._loss_scale = loss_scale
        self._decoder = find_decoder(model, decoder)
        modules = [find_state_module(model, self._decoder, layer) for layer in objective.layers]
        if len(set(modules)) < len(modules):
            raise UserError(f"layer is {objective.layer}: some of them are the same layer")
        self._shared = _SHARED.setdefault(model, _Shared())
        if any(other.objective == objective for other in self._shared.attachments):
            raise UserError(f"{objective} is attached to this model already")
        parts = Parts.build(objective, model, seed, measure_gradients=measure_gradients)
        if parts.learned is not None and is_distributed(wrapped):
            raise UserError(
                f"{objective} has learnable parts: attach before the model is wrapped for "
                "distributed training, so that they are synchronised too"
            )
        live = [other._parts for other in self._shared.attachments]
        if live and any(one.meter is not None for one in (parts, *live)):
            raise UserError(
                f"{objective} cannot stand beside another objective: an Adaptive weight, and "
                "measure_gradients, would take the other's gradient for the next-token loss's"
            )
        self._attached_parts = AttachedParts(model, parts, objective.name, live)
        self._shared.attachments.append(self)
        self._forward: ForwardPass | None = None
        self._arriving: ForwardPass | None = None
        self._is_off = weights.is_never_used(objective.weight)
        self._watch = StepWatch(repr(objective), type(self._decoder).__name__)
        self._log = TermLog(repr(objective), len(objective.layers))
        after_step = register_optimizer_step_post_hook(_weakly(self._after_step))
        weakref.finalize(model, after_step.remove)
        self._hooks: list[Any] = [
            model.register_forward_pre_hook(self._before_model, with_kwargs=True),
            *(
                module.register_forward_hook(self._on_states, with_kwargs=True)
                for module in modules
            ),
            model.register_forward_hook(self._after_model),
            after_step,
        ]

    def __deepcopy__(self, memo: dict[int, Any]) -> Attachment:
        """A copied model (an average, a reference) carries no attachment: its hooks do nothing."""
        copied = object.__new__(Attachment)
        copied._hooks = []
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
            meter = self._parts.meter
            assert meter is not None, "an Adaptive weight has a meter"
            return meter.weight()
        return weight if isinstance(weight, float | int) else weight.at(self.step, self._seed)

    @property
    def has_parts(self) -> bool:
        """Whether the objective keeps something in the model: learnable parts, running means."""
        return not self._attached_parts.is_empty

    @property
    def _parts(self) -> Parts:
        return self._attached_parts.parts

    def __enter__(self) -> Attachment:
        return self

    def __exit__(self, error_type: type[BaseException] | None, *_: object) -> None:
        self._remove()
        if error_type is None:
            self._check_used()

    def detach(self) -> None:
        """Leave the model as it was.

        Raises:
            UserError: the term never reached a gradient while it was attached.
        """
        self._remove()
        self._check_used()

    def pop_logs(self, *, all_processes: bool = False) -> dict[str, float]:
        """Averages since the last call; empty where nothing was trained. Reads the device once.

        Args:
            all_processes: of a distributed run, all of which then must call; else this one's.

        `term_loss`: mean cost over documents, before the weight; absent if none has one.
        `term_documents`: documents with a cost. `term_skipped`: too short (or motionless) for one.
        Where gradients are measured, means over steps of `gradient_next_token` and
        `gradient_term`, their norms at the hidden states (the term's at weight 1, both times the
        host's loss scale), `gradient_cosine` between them, and `term_weight`.
        """
        values = self._log.pop(all_processes=all_processes)
        meter = self._parts.meter if self._hooks else None
        return values if meter is None else {**values, **meter.pop_logs()}

    def state_dict(self) -> dict[str, Any]:
        """What exact resumption needs: objective, seed, step, and the learnable parts.

        The model's own `state_dict` has the parts too, unless it is one of PEFT, which saves
        adapters alone.

        Raises:
            UserError: after detaching, when the parts are gone.
        """
        if not self._hooks:
            raise UserError("the objective is detached: take its state before")
        return {
            "objective": self.objective.to_dict(),
            "seed": self._seed,
            "step": self.step,
            "parts": self._parts.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on as the attachment that gave `state` would have.

        Args:
            state: from `state_dict`; its `parts` may be None where the model's checkpoint has them.

        Raises:
            UserError: that one had another objective or seed.
        """
        mine = {"objective": self.objective.to_dict(), "seed": self._seed}
        for name, value in mine.items():
            if state[name] != value:
                raise UserError(
                    f"the checkpoint was trained with {name} {state[name]}, but {value} is asked "
                    "for: attach the same one to go on"
                )
        self.step = state["step"]
        if state["parts"] is not None:
            self._parts.load_state_dict(state["parts"])

    # Hooks, in the order of a step. torch.compile breaks its graph at each and goes on.

    @torch.compiler.disable
    def _before_model(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        if not self._hooks:
            return None
        if getattr(module, "_is_replica", False):
            raise UserError(
                "the host wraps the model in nn.DataParallel: use torchrun or one device"
            )
        is_first = self._shared.attachments[0] is self
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
        if not self._hooks or self._shared.is_encoding or not self._trains(module):
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
        parts, key = self._parts, self._seed * 2**32 + self.step
        with self._encoding():
            term = term_at(
                hidden_BTD, self.objective, forward, parts, key,
                model=self.model, decoder=self._decoder, call=call,
            )  # fmt: skip
        mean_N = term.mean_N
        if not forward.finished:
            assert forward.trajectories is not None, "the term has used them"
            self._watch.due()
            self._log.add(mean_N.detach(), term.count_N > 0, forward.trajectories.present_N)
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
        if not self._hooks or (forward := self._forward) is None:
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
        if not any(other.objective.encodes for other in self._shared.attachments):
            return
        if is_checkpointing(self.model):
            raise UserError(
                f"{self.objective} reads an inner layer, which gradient checkpointing runs again, "
                "also for the extra forward passes of the other objective attached: use layer=-1, "
                "or no checkpointing"
            )

    def _check_used(self) -> None:
        if not self._is_off:
            self._watch.check_used()

    def _remove(self) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        self._forward = self._arriving = None
        self._attached_parts.remove()
        if self in self._shared.attachments:
            self._shared.attachments.remove(self)


def _weakly(method: Any) -> Any:
    """The bound method as a hook that does not keep its object alive."""
    reference = weakref.WeakMethod(method)

    def call(*args: Any) -> None:
        bound = reference()
        if bound is not None:
            bound(*args)

    return call
