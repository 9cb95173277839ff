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
    from semtube.models.attach import attach
    from semtube.models.attachment import Attachment
    from semtube.models.embedding_noise import embedding_noise
    from semtube.objectives.catalogue import objective_from_dict
    from semtube.objectives.curvature import Curvature
    from semtube.objectives.llm_jepa import LLMJepa
    from semtube.objectives.masked_span import MaskedSpan
    from semtube.objectives.next_latent import NextLatent
    from semtube.objectives.objective import Objective
    from semtube.objectives.r_drop import RDrop
    from semtube.objectives.term import LossTerm
    from semtube.objectives.trajectories import Trajectories
    from semtube.objectives.tube import SemanticTube
    from semtube.objectives.two_view import TwoView
    from semtube.objectives.weights import Adaptive, Dropped, Ramp

_HOME = {
    "Adaptive": "semtube.objectives.weights",
    "Attachment": "semtube.models.attachment",
    "Curvature": "semtube.objectives.curvature",
    "Dropped": "semtube.objectives.weights",
    "LLMJepa": "semtube.objectives.llm_jepa",
    "LossTerm": "semtube.objectives.term",
    "MaskedSpan": "semtube.objectives.masked_span",
    "NextLatent": "semtube.objectives.next_latent",
    "Objective": "semtube.objectives.objective",
    "RDrop": "semtube.objectives.r_drop",
    "Ramp": "semtube.objectives.weights",
    "SemanticTube": "semtube.objectives.tube",
    "Trajectories": "semtube.objectives.trajectories",
    "TwoView": "semtube.objectives.two_view",
    "attach": "semtube.models.attach",
    "embedding_noise": "semtube.models.embedding_noise",
    "objective_from_dict": "semtube.objectives.catalogue",
}

__all__ = [
    "Adaptive",
    "Attachment",
    "Curvature",
    "Dropped",
    "LLMJepa",
    "LossTerm",
    "MaskedSpan",
    "NextLatent",
    "Objective",
    "RDrop",
    "Ramp",
    "SemanticTube",
    "Trajectories",
    "TwoView",
    "UserError",
    "__version__",
    "attach",
    "embedding_noise",
    "objective_from_dict",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'semtube' has no attribute {name!r}")
