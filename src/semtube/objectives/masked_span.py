"""Masked span: the state behind a text with a hole should tell what fills the hole.

Shape letters: B rows, T tokens, N documents, W width of a row, D hidden size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from semtube.objectives.arguments import needs, needs_whole
from semtube.objectives.directions import VectorsAndMatrix, turning_cost
from semtube.objectives.displacements import sum_of_increments
from semtube.objectives.objective import VECTOR, Encoder, Objective, widened
from semtube.objectives.packed_texts import Piece, pack, states_at, tokens_of
from semtube.objectives.random_keys import fold
from semtube.objectives.sampling import Law, draw_spans
from semtube.objectives.term import LossTerm
from semtube.objectives.trajectories import Content, Trajectories


@dataclass(frozen=True, repr=False)
class MaskedSpan(Objective):
    """1 - cos(target, g_t), g_t the last state of the document with a random span masked.

    Every token of the span is replaced by one learned input vector; t is the last content token.
    Targets:
    `displacement` (the paper): h_r - h_s, what the span adds in the unmasked text;
    `full` (the paper's "Full", the code's "recover"): h_t of the unmasked text;
    `span` (the code's default): the last state of the span's tokens read alone.
    The gradient flows into both sides. One extra forward pass. Range 0 to 2.

    The paper's other ablations: `content="instruction"` is "Inst" (the system prompt can be masked
    too), `predictor="linear"` is "Pred", `law="anchored"` begins every span at the start.

    Args:
        weight: factor beside the next-token loss, at least 0.
        target: see above.
        law: how the span is drawn, see `semtube.objectives.sampling.Law`.
        max_length: longest span in content tokens; None for no limit.
        content: which tokens belong to the trajectory, see `Content`.
        predictor: `linear` maps g_t by a learned matrix.
        predictor_rate: how many times faster than the model matrix and mask vector learn.

    Source: Semantic Tube Prediction, arXiv 2602.22617, ablation "Mask" (appendix L); its code,
        `--random_span_mask`, whose mask token is new and untrained at first, as ours is. The code
        masks the text without system prompt; here the whole document is read, as in the main pass.
    """

    name: ClassVar[str] = "masked_span"
    encodes: ClassVar[bool] = True
    target: Literal["displacement", "full", "span"] = "displacement"
    law: Law = "uniform"
    max_length: int | None = None
    content: Content = "text"  # type: ignore[misc]
    predictor: Literal["none", "linear"] = "none"  # type: ignore[misc]
    predictor_rate: float = 100.0  # type: ignore[misc]

    def __post_init__(self) -> None:
        super().__post_init__()
        needs("target", self.target, ("displacement", "full", "span"))
        needs("law", self.law, ("uniform", "anchored", "sequential"))
        if self.max_length is not None:
            needs_whole("max_length", self.max_length, 1)

    def build_parts(self, width: int) -> nn.Module:
        """The mask vector, and the linear predictor if there is one."""
        return VectorsAndMatrix(
            1, width, self.predictor_rate, with_matrix=self.predictor == "linear"
        )

    def __call__(
        self,
        hidden_BTD: Tensor,
        trajectories: Trajectories,
        key: int,
        *,
        parts: nn.Module | None = None,
        encoder: Encoder | None = None,
    ) -> LossTerm:
        """See `Objective`. Waits for the device to size the texts."""
        assert encoder is not None, "a masked span encodes"
        assert isinstance(parts, VectorsAndMatrix), "a masked span learns its mask"
        document_BT, num_documents = trajectories.document_BT, trajectories.num_documents
        content = trajectories.ranks(trajectories.content_BT)
        spans_N12, valid_N = draw_spans(
            content.size_N, fold(trajectories.key_N, key), 1, law=self.law,
            max_length=self.max_length,
        )  # fmt: skip
        masked_BT = trajectories.content_BT & content.between(spans_N12[:, 0], document_BT)
        last_N = content.flat_index((content.size_N - 1).clamp_min(0)[:, None])[:, 0]
        whole = tokens_of(document_BT >= 0, trajectories)
        hidden = masked_BT.flatten()[whole.index_NW]
        masked = Piece(torch.where(hidden, VECTOR, whole.index_NW), whole.size_N)
        texts = [[masked]]
        if self.target == "span":
            texts.append([tokens_of(masked_BT, trajectories)])
        packed = pack(texts)
        states_NWD = encoder(packed.index_NW, packed.position_NW, parts.vectors_KD)
        # Documents are whole rows here, so a token's column is its place in its document.
        column_N = (whole.index_NW == last_N[:, None]).long().argmax(-1)
        guess_ND = states_at(states_NWD, column_N)
        if self.target == "span":
            target_ND = states_at(states_NWD, packed.last_NT[:, 1])
        elif self.target == "full":
            # A document without content has no last token: its index may point into padding.
            target_ND = widened(hidden_BTD.flatten(0, 1)[last_N])
            target_ND = target_ND.masked_fill(~valid_N[:, None], 0)
        else:
            slot_BT = torch.where(trajectories.moving(masked_BT), document_BT, num_documents)
            target_ND = sum_of_increments(hidden_BTD, slot_BT, num_documents)
        cost_N, defined_N = turning_cost(parts.map(guess_ND), target_ND)
        counted_N = valid_N & defined_N
        return LossTerm(torch.where(counted_N, cost_N, 0), counted_N.long())
