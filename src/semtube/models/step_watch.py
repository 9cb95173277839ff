"""Tell optimizer steps apart in a foreign loop, and notice when the term takes no part in them."""

from __future__ import annotations

import weakref

from torch import nn
from torch.optim import Optimizer

from semtube.errors import UserError
from semtube.models.parts import Parts


class StepWatch:
    """What happened since the last optimizer step, for one attachment.

    Args:
        what: the objective, for errors.
        hooked: name of the module that is hooked, for errors.
    """

    def __init__(self, what: str, hooked: str) -> None:
        self._what = what
        self._hooked = hooked
        #: Forward passes seen, those of them with a term, terms that reached the gradient.
        self.num_fired = self.num_due = self.num_arrived = 0
        self._ever_arrived = self._ever_due = self._ever_stepped = False
        self._parts_trained = False
        self._owned: weakref.WeakKeyDictionary[Optimizer, tuple[int, bool]] = (
            weakref.WeakKeyDictionary()
        )
        self._stepped: set[int] = set()

    def due(self) -> None:
        """A forward pass has a term."""
        self.num_due += 1
        self._ever_due = True

    def arrived(self) -> None:
        """A term has reached the gradient."""
        self.num_arrived += 1
        self._ever_arrived = True

    def ends_step(self, optimizer: Optimizer, model: nn.Module, parts: Parts) -> bool:
        """Whether this optimizer's step ends a step of the model.

        Of several optimizers that hold parts of the model, the first one does.

        Raises:
            UserError: the term took no part in the step.
        """
        if not self._owns(optimizer, model, parts):
            return False
        if self.num_fired == 0 and self._stepped and id(optimizer) not in self._stepped:
            self._stepped.add(id(optimizer))
            return False
        if self.num_fired == 0 and all(group.get("lr") == 0 for group in optimizer.param_groups):
            # torch.distributed.checkpoint makes such a step to create the optimizer's state.
            return False
        self._check(parts)
        self._ever_stepped = True
        self.num_fired = self.num_due = self.num_arrived = 0
        self._stepped = {id(optimizer)}
        return True

    def check_used(self) -> None:
        """The term must have reached a gradient, unless its weight was 0 in every step so far.

        Raises:
            UserError: it has not.
        """
        if not self._ever_arrived and (self._ever_due or not self._ever_stepped):
            raise UserError(
                f"{self._what} was attached but reached no gradient: no training step ran "
                "through this model while it was attached"
            )

    def _owns(self, optimizer: Optimizer, model: nn.Module, parts: Parts) -> bool:
        num_groups = len(optimizer.param_groups)
        known = self._owned.get(optimizer)
        if known is None or known[0] != num_groups:
            held = {id(p) for group in optimizer.param_groups for p in group["params"]}
            learned = {id(parameter) for parameter in parts.parameters()}
            ours = {id(parameter) for parameter in model.parameters()}
            self._parts_trained |= bool(learned & held)
            known = self._owned[optimizer] = (num_groups, bool(ours & held))
        return known[1]

    def _check(self, parts: Parts) -> None:
        if self.num_fired == 0:
            raise UserError(
                f"the hook on {self._hooked} never fired in a whole step: the host trains another "
                "copy of the model, calls its layers directly, compiled it before attach(), or "
                "trains in eval mode"
            )
        # At the second step every optimizer of the host has been seen.
        if parts.learned is not None and self._stepped and not self._parts_trained:
            raise UserError(
                f"no optimizer holds the learnable parts of {self._what}: make the optimizer "
                "after attach()"
            )
        if self.num_due and self.num_arrived == 0:
            raise UserError(
                "the term never reached the gradient in a whole step: the host's loss does not "
                "depend on the decoder's states"
            )
