"""semtube: Semantic Tube Prediction for PyTorch language models, measured honestly.

    with semtube.attach(model, semtube.SemanticTube(weight=0.02)):
        trainer.train()

Names are loaded on first use, so that `semtube --help` needs no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from semtube.errors import UserError
from semtube.version import __version__

if TYPE_CHECKING:
    from semtube.models.attach import Attachment, attach
    from semtube.objectives.term import LossTerm
    from semtube.objectives.trajectories import Trajectories
    from semtube.objectives.tube import SemanticTube

_HOME = {
    "Attachment": "semtube.models.attach",
    "attach": "semtube.models.attach",
    "LossTerm": "semtube.objectives.term",
    "SemanticTube": "semtube.objectives.tube",
    "Trajectories": "semtube.objectives.trajectories",
}

__all__ = [
    "Attachment",
    "LossTerm",
    "SemanticTube",
    "Trajectories",
    "UserError",
    "__version__",
    "attach",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'semtube' has no attribute {name!r}")
