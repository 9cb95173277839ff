"""Where an attachment's parts are, as long as it is attached: in the model, under a name."""

from __future__ import annotations

import weakref
from collections.abc import Iterable

from torch import nn

from semtube.models.parts import Parts


class AttachedParts:
    """Parts as a submodule of a model; nothing where there is nothing to keep.

    Args:
        model: not kept alive.
        parts: what is put into it.
        name: the objective's.
        live: the model's other attachments' parts.
    """

    def __init__(self, model: nn.Module, parts: Parts, name: str, live: Iterable[Parts]) -> None:
        self._model = weakref.ref(model)
        #: Of the submodule; None where there is none, or none any more.
        self.name = None if parts.is_empty else parts.register(model, name, list(live))

    @property
    def is_empty(self) -> bool:
        """Whether there are none, or none any more."""
        return self.name is None

    @property
    def parts(self) -> Parts:
        """The parts; found by name, since a wrapper may have replaced them."""
        model = self._model()
        if self.name is None or model is None:
            return _NONE
        return model.get_submodule(self.name)  # type: ignore[return-value]

    def remove(self) -> None:
        """Leave the model without them."""
        model = self._model()
        if self.name is not None and model is not None:
            delattr(model, self.name)
        self.name = None


_NONE = Parts(None, None)
