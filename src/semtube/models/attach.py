"""Train any model with an auxiliary objective, without touching its class, forward or trainer.

A hook on the decoder takes the hidden states of the forward pass that is made anyway. An autograd
node there passes the next-token gradient on and adds the term's, so the visible loss stays pure
next-token loss. How much each document weighs is read off the host's own backward pass: a document
counts in the term as it counts in the next-token loss (its share of the supervised tokens, times
whatever the host divides or multiplies its loss by). The sum over micro-batches, packed rows and
processes is therefore the same however a step is split.
"""

from __future__ import annotations

import warnings
import weakref
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook

from semtube.errors import UserError
from semtube.models.decoder import check_width, find_decoder, find_state_module, unwrap
from semtube.models.forward_pass import AddGradient, ForwardPass
from semtube.models.host_batch import HostBatch
from semtube.models.host_output import field, loss_of, needs_grad, replace_states, states_of
from semtube.objectives.term import Objective
from semtube.objectives.trajectories import ROLES_KEY, Trajectories

_ATTACHED: weakref.WeakKeyDictionary[nn.Module, list[Attachment]] = weakref.WeakKeyDictionary()


def attach(
    model: nn.Module,
    objective: Objective,
    *,
    seed: int = 0,
    decoder: nn.Module | str | None = None,
    loss_scale: float | None = None,
) -> Attachment:
    """Make every training step of `model` minimise its own loss plus `objective`.

    Use it as a context manager around the training, or keep the handle and call `detach()`.
    Detached, in `eval()`, without gradients, or with weight 0 the model is bit for bit what it
    was.

    The gradient added is that of weight * sum over documents of share * mean cost, where share
    is the document's part of the host's loss: its supervised tokens over those of the whole step.

    Args:
        model: any `transformers` causal language model, PEFT-wrapped or not, before or after DDP;
            the outermost one that the host calls. Attach before `torch.compile`.
        objective: for example `SemanticTube(weight=0.02)`.
        seed: with the step and the document's tokens it decides every draw.
        decoder: only for models without `get_decoder()`: the module, or its dotted name, that
            returns the last hidden states.
        loss_scale: only for hosts that compute the loss outside the model (no `loss` in its
            output): what they multiply their loss by in each backward, for example
            1 / accumulation steps. Documents then weigh alike, so that the gradient is that of
            loss_scale * weight * mean over documents.

    Raises:
        UserError: no decoder, no such layer, or the same objective is attached already. While
            training: the hook never fires, or the term does not reach the gradient.

    Source: the auxiliary-gradient node follows the load-balancing losses of mixture-of-experts
        models; the objective: Semantic Tube Prediction, arXiv 2602.22617.
    """
    return Attachment(model, objective, seed=seed, decoder=decoder, loss_scale=loss_scale)


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
    ) -> None:
        if not callable(objective):
            raise UserError(f"objective is {objective!r}: give one, such as SemanticTube(0.02)")
        model = unwrap(model)
        # Weak, so that a model that is attached and forgotten can be freed.
        self._model = weakref.ref(model)
        self.objective = objective
        self.step = 0
        self._seed = seed
        self._loss_scale = loss_scale
        self._decoder = find_decoder(model, decoder)
        states = find_state_module(model, self._decoder, objective.layer)
        attached = _ATTACHED.setdefault(model, [])
        if any(other.objective == objective for other in attached):
            raise UserError(f"{objective} is attached to this model already")
        attached.append(self)
        self._forward: ForwardPass | None = None
        self._arriving: ForwardPass | None = None
        self._roles: Tensor | None = None
        self._num_fired = 0
        self._num_arrived = 0
        self._ever_arrived = False
        self._warned = False
        self._sums: Tensor | None = None
        self._owned: weakref.WeakKeyDictionary[Optimizer, tuple[int, bool]] = (
            weakref.WeakKeyDictionary()
        )
        self._stepped: set[int] = set()
        after_step = register_optimizer_step_post_hook(_weakly(self._after_step))
        weakref.finalize(model, after_step.remove)
        self._hooks: list[Any] = [
            model.register_forward_pre_hook(self._before_model, with_kwargs=True),
            states.register_forward_hook(self._on_states),
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

    def pop_logs(self) -> dict[str, float]:
        """Averages since the last call; empty where nothing was trained. Reads the device once.

        `term_loss`: mean cost over documents, before the weight; absent if none has one.
        `term_documents`: documents with a cost. `term_skipped`: too short (or motionless) for one.
        """
        if self._sums is None:
            return {}
        total, counted, documents = self._sums.tolist()
        self._sums = None
        if counted == 0 and not self._warned:
            self._warned = True
            warnings.warn(
                f"{self.objective} found no document long enough: the term is zero", stacklevel=2
            )
        mean = {"term_loss": total / counted} if counted else {}
        return {
            **mean,
            "term_documents": counted,
            "term_skipped": documents - counted,
        }

    # Hooks, in the order of a step.

    def _before_model(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        if not self._hooks:
            return None
        if getattr(module, "_is_replica", False):
            raise UserError(
                "the host wraps the model in nn.DataParallel: use torchrun or one device"
            )
        first = _ATTACHED[self.model][0]
        # The first attachment takes the roles out of the call; others find them with it.
        if ROLES_KEY in kwargs:
            kwargs = dict(kwargs)
            first._roles = kwargs.pop(ROLES_KEY)
        elif first is self:
            first._roles = None
        self._forward = None
        if module.training and torch.is_grad_enabled() and self.objective.weight > 0:
            self._forward = ForwardPass(HostBatch.read(args, kwargs, first._roles))
        return args, kwargs

    def _on_states(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        if not self._hooks:
            return None
        if not (module.training and torch.is_grad_enabled() and self.objective.weight > 0):
            return None
        forward = self._forward
        if forward is None:
            raise UserError(
                "a forward pass reached the decoder without passing the model that attach() was "
                "given: attach to the outermost model (with PEFT in a trainer, trainer.model)"
            )
        hidden_BTD = states_of(output)
        if module is self._decoder:
            check_width(self.model, hidden_BTD.shape[-1])
        if not hidden_BTD.requires_grad:
            raise UserError(
                "the hidden states need no gradient: no parameter below them is trained"
            )
        if forward.finished:
            forward = self._recomputed(forward)
        if forward.trajectories is None:
            forward.trajectories = forward.batch.trajectories(hidden_BTD, self.objective.content)
        with torch.autocast(hidden_BTD.device.type, enabled=False):
            term = self.objective(hidden_BTD, forward.trajectories, self._seed * 2**32 + self.step)
        mean_N = term.mean_N
        if not forward.finished:
            self._num_fired += 1
            self._add_logs(mean_N.detach(), term.count_N > 0, forward.trajectories)
        with_term = AddGradient.apply(
            hidden_BTD, mean_N, forward, self.objective.weight, self._arrive
        )
        return replace_states(output, with_term)

    def _after_model(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if not self._hooks or (forward := self._forward) is None:
            return
        forward.finished = True
        if forward.trajectories is None:
            return  # the hook has not fired; the step, or the recomputation, says why
        log_probs, loss = field(output, "log_probs"), loss_of(output)
        if needs_grad(log_probs):
            # A fused head: the host sums log-probabilities itself. Their gradient is minus the
            # weight the host gives each token.
            log_probs.register_hook(forward.weigh_by_log_probs)
        elif needs_grad(loss):
            loss.register_hook(forward.weigh_by_loss)
        elif self._loss_scale is None:
            raise UserError(
                "the model returned no loss, so the host computes it outside (label smoothing, a "
                "loss function of its own, or no labels in the batch) and its scale cannot be "
                "seen: pass attach(..., loss_scale=...), 1.0 where each backward is one step"
            )
        else:
            forward.weigh_alike(self._loss_scale)

    def _arrive(self, forward: ForwardPass) -> None:
        self._arriving = forward
        self._num_arrived += 1
        self._ever_arrived = True

    def _after_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        if not self._owns(optimizer) or self.objective.weight == 0:
            return
        if self._num_fired == 0 and self._stepped and id(optimizer) not in self._stepped:
            self._stepped.add(id(optimizer))  # another of several optimizers, in the same step
            return
        self._check_step()
        self.step += 1
        self._num_fired = self._num_arrived = 0
        self._stepped = {id(optimizer)}

    # Checks.

    def _owns(self, optimizer: Optimizer) -> bool:
        num_groups = len(optimizer.param_groups)
        known = self._owned.get(optimizer)
        if known is None or known[0] != num_groups:
            ours = {id(parameter) for parameter in self.model.parameters()}
            known = (
                num_groups,
                any(
                    id(parameter) in ours
                    for group in optimizer.param_groups
                    for parameter in group["params"]
                ),
            )
            self._owned[optimizer] = known
        return known[1]

    def _recomputed(self, forward: ForwardPass) -> ForwardPass:
        """Which forward pass a checkpointed layer is recomputed for: its node has just arrived."""
        if forward.trajectories is None or self._arriving is None:
            raise UserError(
                "gradient checkpointing with use_reentrant=True hides the inner layers' states: "
                "use use_reentrant=False, or layer=-1"
            )
        return self._arriving

    def _check_step(self) -> None:
        if self._num_fired == 0:
            raise UserError(
                f"the hook on {type(self._decoder).__name__} never fired in a whole step: the host "
                "trains another copy of the model, calls its layers directly, compiled it before "
                "attach(), or trains in eval mode"
            )
        if self._num_arrived == 0:
            raise UserError(
                "the term never reached the gradient in a whole step: the host's loss does not "
                "depend on the decoder's states"
            )

    def _check_used(self) -> None:
        if self.objective.weight > 0 and not self._ever_arrived:
            raise UserError(
                f"{self.objective} was attached but reached no gradient: no training step ran "
                "through this model while it was attached"
            )

    def _remove(self) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        self._forward = self._arriving = None
        attached = _ATTACHED.get(self.model, [])
        if self in attached:
            attached.remove(self)

    def _add_logs(self, mean_N: Tensor, counted_N: Tensor, trajectories: Trajectories) -> None:
        values = [mean_N * counted_N, counted_N, trajectories.present_N]
        sums = torch.stack([value.double() for value in values]).sum(-1)
        self._sums = sums if self._sums is None else self._sums + sums


def _weakly(method: Any) -> Any:
    """The bound method as a hook that does not keep its object alive."""
    reference = weakref.WeakMethod(method)

    def call(*args: Any) -> None:
        bound = reference()
        if bound is not None:
            bound(*args)

    return call
