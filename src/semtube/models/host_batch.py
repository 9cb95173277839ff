"""What a host's forward call tells about its batch: documents, content, supervised tokens.

Shape letters: B rows, T tokens, N documents.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from semtube.errors import UserError
from semtube.objectives.trajectories import (
    ANSWER,
    PADDING,
    PROMPT,
    ROLES_KEY,
    Trajectories,
    content_from_roles,
)


@dataclass
class HostBatch:
    """The arguments of one forward call that matter to an objective; all may be absent."""

    input_ids: Tensor | None
    attention_mask: Tensor | None
    position_ids: Tensor | None
    cu_seq_lens: Tensor | None
    labels: Tensor | None
    shift_labels: Tensor | None
    roles: Tensor | None
    num_items: Tensor | int | None

    @classmethod
    def read(cls, args: tuple[Any, ...], kwargs: dict[str, Any], roles: Tensor | None) -> HostBatch:
        """From the call's arguments; a sole positional tensor is taken for the token ids."""
        input_ids = kwargs.get("input_ids")
        if input_ids is None and args and isinstance(args[0], Tensor):
            input_ids = args[0]
        return cls(
            input_ids=input_ids,
            attention_mask=kwargs.get("attention_mask"),
            position_ids=kwargs.get("position_ids"),
            cu_seq_lens=kwargs.get("cu_seq_lens_q"),
            labels=kwargs.get("labels"),
            shift_labels=kwargs.get("shift_labels"),
            roles=roles,
            num_items=kwargs.get("num_items_in_batch"),
        )

    def trajectories(self, hidden_BTD: Tensor, content: str) -> Trajectories:
        """The documents of this batch and the tokens of their trajectories.

        Without `token_roles` the text cannot be told from the template: `text` and `all` are then
        every token that is not padding, `answer` the supervised tokens, and the prompt the others;
        a text that is supervised whole has no prompt.

        Raises:
            UserError: a mask of more than two dimensions, states that do not fit the tokens, or
                `instruction` without token_roles.
        """
        attended_BT = self._attended(hidden_BTD)
        if self.roles is not None:
            content_BT = content_from_roles(self.roles, content)
            prompt_BT, answer_BT = self.roles == PROMPT, self.roles == ANSWER
        else:
            answer_BT = self.predicted()
            prompt_BT = None if answer_BT is None else attended_BT & ~answer_BT
            content_BT = _content_without_roles(content, attended_BT, answer_BT)
        # Prompt tuning puts virtual tokens before the real ones: states without a document.
        virtual = hidden_BTD.shape[1] - attended_BT.shape[1]
        if virtual < 0 or hidden_BTD.shape[0] != attended_BT.shape[0]:
            raise UserError(
                f"the states are {tuple(hidden_BTD.shape[:2])} but the batch's tokens are "
                f"{tuple(attended_BT.shape)}: rows and positions must correspond"
            )
        shifted = None if self.cu_seq_lens is None else self.cu_seq_lens + virtual
        found = Trajectories.build(
            attended_BT=pad_left(attended_BT, virtual),
            content_BT=pad_left(content_BT, virtual),
            input_ids_BT=None if self.input_ids is None else pad_left(self.input_ids, virtual),
            position_ids_BT=self.position_ids if virtual == 0 else None,
            cu_seq_lens=shifted,
            prompt_BT=None if prompt_BT is None else pad_left(prompt_BT, virtual),
            answer_BT=None if answer_BT is None else pad_left(answer_BT, virtual),
            predicting_BT=self._predicting(virtual),
        )
        return found if self.roles is not None else found.without_lone_first_tokens()

    def _attended(self, hidden_BTD: Tensor) -> Tensor:
        if self.roles is not None:
            return self.roles != PADDING
        if self.attention_mask is not None:
            if self.attention_mask.dim() != 2:
                raise UserError(
                    f"the attention mask has {self.attention_mask.dim()} dimensions, so the "
                    f"padding cannot be told from it: give the batch a {ROLES_KEY!r} tensor"
                )
            return self.attention_mask.bool()
        rows, tokens = hidden_BTD.shape[:2]
        if self.input_ids is not None:
            rows, tokens = self.input_ids.shape
        return torch.ones(rows, tokens, dtype=torch.bool, device=hidden_BTD.device)

    def predicted(self) -> Tensor | None:
        """(B, T) bool: the supervised tokens themselves; None without labels."""
        if self.shift_labels is not None:
            return F.pad(self.shift_labels[:, :-1] != -100, (1, 0))
        return self.supervised()

    def _predicting(self, virtual: int) -> Tensor | None:
        """(B, virtual + T) bool: the states that predict a supervised token."""
        if self.shift_labels is not None:
            return pad_left(self.shift_labels != -100, virtual)
        supervised_BT = self.supervised(first_is_predicted=virtual > 0)
        if supervised_BT is None:
            return None
        return F.pad(supervised_BT, (virtual - 1, 1))

    def supervised(self, *, first_is_predicted: bool = False) -> Tensor | None:
        """(B, T) bool: tokens whose prediction is trained; None without labels.

        Marked at the predicted token, or, where the host shifted the labels, at the predicting one.

        Args:
            first_is_predicted: virtual tokens stand before a row's first token and predict it.
        """
        if self.shift_labels is not None:
            return self.shift_labels != -100
        if self.labels is None:
            return None
        supervised_BT = self.labels != -100
        if not first_is_predicted:
            supervised_BT[:, 0] = False
        return supervised_BT


def pad_left(value_BT: Tensor, number: int) -> Tensor:
    """The value with this many zeros before each row."""
    return F.pad(value_BT, (number, 0)) if number else value_BT


def _content_without_roles(content: str, attended_BT: Tensor, answer_BT: Tensor | None) -> Tensor:
    if content == "instruction":
        raise UserError(
            "content='instruction' needs to know the system prompt: give the batch a "
            f"{ROLES_KEY!r} tensor (semtube's own data does), or use another content"
        )
    if content != "answer":
        return attended_BT
    if answer_BT is None:
        raise UserError("content='answer' needs labels, or token_roles, in the batch")
    return answer_BT
