"""The handle on a model with an objective: step, weight, logs and state, until it is detached."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from semtube.errors import UserError
from semtube.models.attached_parts import AttachedParts
from semtube.models.decoder import find_decoder, find_state_module, is_distributed, unwrap
from semtube.models.parts import Parts
from semtube.models.shard_precision import check_at_first_forward
from semtube.models.step_hooks import Shared, StepHooks
from semtube.objectives.arguments import needs_positive, needs_whole
from semtube.objectives.catalogue import objective_from_dict
from semtube.objectives.objective import Objective


class Attachment:
    """A live connection between a model and an objective; made by `attach`."""

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
        wrapped, model = model, unwrap(model)
        _check_arguments(objective, seed, loss_scale)
        self.objective = objective
        found = find_decoder(model, decoder)
        modules = [find_state_module(model, found, layer) for layer in objective.layers]
        if len(set(modules)) < len(modules):
            raise UserError(f"layer is {objective.layer}: some of them are the same layer")
        shared = Shared.of(model)
        if any(other.objective == objective for other in shared.live):
            raise UserError(f"{objective} is attached to this model already")
        parts = Parts.build(objective, model, seed, measure_gradients=measure_gradients)
        if parts.learned is not None and is_distributed(wrapped):
            raise UserError(
                f"{objective} has learnable parts: attach before the model is wrapped for "
                "distributed training, so that they are synchronised too"
            )
        live = [other.attached.parts for other in shared.live]
        if live and any(one.meter is not None for one in (parts, *live)):
            raise UserError(
                f"{objective} cannot stand beside another objective: an Adaptive weight, and "
                "measure_gradients, would take the other's gradient for the next-token loss's"
            )
        attached = AttachedParts(model, parts, objective.name, live)
        check_at_first_forward(model, attached, repr(objective))
        self._hooks = StepHooks(
            model, objective, attached, shared,
            seed=seed, decoder=found, modules=modules, loss_scale=loss_scale,
        )  # fmt: skip

    @property
    def model(self) -> nn.Module:
        """The model that the objective is attached to."""
        return self._hooks.model

    @property
    def step(self) -> int:
        """Steps so far of torch optimizers that hold the model's parameters; each draws anew.

        Set it when a run resumes, so that draws go on as they would have
        (`semtube.training.callback.TermCallback` does this in a Hugging Face Trainer), and at every
        step where an optimizer of another kind keeps flat copies of the parameters.
        """
        return self._hooks.step

    @step.setter
    def step(self, step: int) -> None:
        self._hooks.step = step

    @property
    def weight(self) -> float | Tensor:
        """The term's weight in the step at hand; a tensor where it is `Adaptive`."""
        return self._hooks.weight

    @property
    def has_parts(self) -> bool:
        """Whether the objective keeps something in the model: learnable parts, running means."""
        return not self._hooks.attached.is_empty

    @property
    def _parts(self) -> Parts:
        return self._hooks.attached.parts

    def __enter__(self) -> Attachment:
        return self

    def __exit__(self, error_type: type[BaseException] | None, *_: object) -> None:
        self._hooks.remove()
        if error_type is None:
            self._hooks.check_used()

    def detach(self) -> None:
        """Leave the model as it was.

        Raises:
            UserError: the term never reached a gradient while it was attached.
        """
        self._hooks.remove()
        self._hooks.check_used()

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
        values = self._hooks.log.pop(all_processes=all_processes)
        meter = self._parts.meter if self._hooks.are_live else None
        return values if meter is None else {**values, **meter.pop_logs()}

    def state_dict(self) -> dict[str, Any]:
        """What exact resumption needs: objective, seed, step, and the learnable parts.

        The model's own `state_dict` has the parts too, unless it is one of PEFT, which saves
        adapters alone.

        Raises:
            UserError: after detaching, when the parts are gone.
        """
        if not self._hooks.are_live:
            raise UserError("the objective is detached: take its state before")
        return {
            "objective": self.objective.to_dict(),
            "seed": self._hooks.seed,
            "step": self.step,
            "parts": self._parts.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on as the attachment that gave `state` would have.

        Args:
            state: from `state_dict`; its `parts` may be None where the model's checkpoint has them.

        Raises:
            UserError: that one had another objective or seed, or `state` is something else.
        """
        mine = {"objective": self.objective.to_dict(), "seed": self._hooks.seed}
        if missing := {"objective", "seed", "step", "parts"} - set(state):
            raise UserError(
                f"the state has no {', '.join(sorted(missing))}: give what an attachment's "
                "state_dict() returned"
            )
        for name, value in mine.items():
            if state[name] != value:
                raise UserError(
                    f"the checkpoint was trained with {name} {_shown(state[name])}, but "
                    f"{_shown(value)} is asked for: attach the same one to go on"
                )
        self.step = state["step"]
        if state["parts"] is not None:
            self._parts.load_state_dict(state["parts"])


def _check_arguments(objective: Any, seed: Any, loss_scale: Any) -> None:
    if not isinstance(objective, Objective):
        what = f"the class {objective.__name__}" if isinstance(objective, type) else "no objective"
        raise UserError(f"objective is {what}: give one, such as SemanticTube(0.02)")
    try:
        needs_whole("seed", seed, 0)
        if loss_scale is not None:
            needs_positive("loss_scale", loss_scale)
    except ValueError as error:
        raise UserError(str(error)) from error


def _shown(value: Any) -> str:
    """An objective's dict as its constructor call; anything else as it is."""
    try:
        return repr(objective_from_dict(value))
    except (TypeError, ValueError):  # a seed, or an objective of the user's own
        return repr(value)
