"""Which tokens of a batch form the trajectories: documents, their content, their keys.

Shape letters: B rows, T tokens, N documents.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, reduce
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from semtube.objectives.random_keys import document_keys
from semtube.objectives.sampling import ContentRanks

#: Key of a batch under which each token's role (B, T) may be given; the model never sees it.
ROLES_KEY = "token_roles"
#: The roles.
PADDING, TEMPLATE, SYSTEM, PROMPT, ANSWER = range(5)

#: `text`: prompt and answer text, without template and system tokens (the paper);
#: `instruction`: the system prompt too (the paper's "Inst"); `answer`: the answer alone;
#: `all`: every token that is not padding.
Content = Literal["text", "instruction", "answer", "all"]

CONTENT_ROLES: dict[str, tuple[int, ...]] = {
    "text": (PROMPT, ANSWER),
    "instruction": (SYSTEM, PROMPT, ANSWER),
    "answer": (ANSWER,),
    "all": (TEMPLATE, SYSTEM, PROMPT, ANSWER),
}


def content_from_roles(roles_BT: Tensor, content: str) -> Tensor:
    """Mask (B, T) of the tokens whose role belongs to `content`."""
    masks = [roles_BT == role for role in CONTENT_ROLES[content]]
    return reduce(torch.logical_or, masks)


@dataclass(frozen=True)
class Trajectories:
    """The documents of a batch and the tokens their trajectories run through.

    Args:
        document_BT: int64 index in [0, N) of each token's document, -1 for padding. Documents
            stand one after another in row order; no document spans two rows.
        content_BT: bool, whether a token belongs to its trajectory. Padding never does.
        num_documents: N, known without looking at the device.
        key_N: int64 random key of each document, from `document_keys`.
        prompt_BT, answer_BT: bool, the two views of a document.
        predicting_BT: bool, tokens whose state predicts a supervised token.
    """

    document_BT: Tensor
    content_BT: Tensor
    num_documents: int
    key_N: Tensor
    prompt_BT: Tensor
    answer_BT: Tensor
    predicting_BT: Tensor

    @classmethod
    def build(
        cls,
        *,
        attended_BT: Tensor,
        content_BT: Tensor,
        input_ids_BT: Tensor | None = None,
        position_ids_BT: Tensor | None = None,
        cu_seq_lens: Tensor | None = None,
        prompt_BT: Tensor | None = None,
        answer_BT: Tensor | None = None,
        predicting_BT: Tensor | None = None,
    ) -> Trajectories:
        """From the masks that any host has.

        Args:
            attended_BT: bool, True for tokens, False for padding.
            content_BT: bool, True for tokens of the trajectory; padding is taken out of it.
            input_ids_BT: identify the documents. Without them the place in the batch does, and
                draws then depend on the batching.
            position_ids_BT: given where rows are packed; a document ends where the position does
                not go on by one. Counting the documents costs one device synchronisation.
            cu_seq_lens: (N + 1,) starts of the packed documents in the flattened batch and the
                end of the last; needs no synchronisation and goes before position_ids.
                Without either, a row is a document.
            prompt_BT, answer_BT: bool; None where the two cannot be told apart: then no token
                is in either.
            predicting_BT: bool; None for every token that has a successor in its document.
        """
        attended_BT = attended_BT.bool()
        if cu_seq_lens is not None:
            place_BT = torch.arange(attended_BT.numel(), device=attended_BT.device)
            place_BT = place_BT.view_as(attended_BT)
            document_BT = torch.searchsorted(cu_seq_lens[1:].long(), place_BT, right=True)
            num_documents = cu_seq_lens.numel() - 1
            attended_BT = attended_BT & (document_BT < num_documents)
        elif position_ids_BT is not None:
            if position_ids_BT.dim() > 2:
                raise ValueError(
                    f"position_ids have {position_ids_BT.dim()} dimensions: packed texts are "
                    "told apart by positions of two, (rows, tokens)"
                )
            position_BT = position_ids_BT.expand_as(attended_BT)
            starts_BT = torch.ones_like(attended_BT)
            starts_BT[:, 1:] = position_BT[:, 1:] != position_BT[:, :-1] + 1
            # Padding may restart the position; it opens no document.
            starts_BT[:, 1:] &= attended_BT[:, 1:]
            document_BT = starts_BT.flatten().cumsum(0).view_as(attended_BT) - 1
            num_documents = int(document_BT.max()) + 1
        else:
            num_documents = attended_BT.shape[0]
            row_B1 = torch.arange(num_documents, device=attended_BT.device)[:, None]
            document_BT = row_B1.expand_as(attended_BT)
        document_BT = torch.where(attended_BT, document_BT, -1)
        if input_ids_BT is None:
            key_N = torch.arange(num_documents, device=attended_BT.device)
        else:
            key_N = document_keys(input_ids_BT, document_BT, num_documents)
        nothing_BT = torch.zeros_like(attended_BT)
        prompt_BT = nothing_BT if prompt_BT is None else prompt_BT & attended_BT
        answer_BT = nothing_BT if answer_BT is None else answer_BT & attended_BT
        if predicting_BT is None:
            predicting_BT = torch.zeros_like(attended_BT)
            predicting_BT[:, :-1] = document_BT[:, 1:] == document_BT[:, :-1]
        return cls(
            document_BT,
            content_BT.bool() & attended_BT,
            num_documents,
            key_N,
            prompt_BT,
            answer_BT,
            predicting_BT & attended_BT,
        )

    def moving(self, mask_BT: Tensor) -> Tensor:
        """(B, T) bool: those tokens of a mask that have an increment, a token before them."""
        return mask_BT & self._follows_BT

    def without_lone_first_tokens(self) -> Trajectories:
        """The same without prompts that are a document's first token alone.

        Hosts supervise no document's first token. So where labels tell the prompt, a text that is
        trained whole would have that token as its prompt.
        """
        answered_BT = F.pad(self.answer_BT[:, 1:], (0, 1))
        return replace(self, prompt_BT=self.prompt_BT & (self._follows_BT | ~answered_BT))

    def ranks(self, mask_BT: Tensor) -> ContentRanks:
        """Where the j-th token of a mask stands in each document; padding is in no mask."""
        return ContentRanks.of(mask_BT, self.document_BT, self.num_documents)

    @cached_property
    def present_N(self) -> Tensor:
        """(N,) bool: documents that have a token; packed rows may leave some without."""
        return self.sum_by_document(torch.ones_like(self.document_BT)) > 0

    def sum_by_document(self, value_BT: Tensor) -> Tensor:
        """(N,) sums of a value over each document's tokens; padding is left out."""
        slot = torch.where(self.document_BT >= 0, self.document_BT, self.num_documents).flatten()
        total = value_BT.new_zeros(self.num_documents + 1)
        return total.index_add(0, slot, value_BT.flatten())[: self.num_documents]

    @cached_property
    def _follows_BT(self) -> Tensor:
        """(B, T) bool: the token before is of the same document (or padding, too)."""
        return F.pad(self.document_BT[:, 1:] == self.document_BT[:, :-1], (1, 0))
