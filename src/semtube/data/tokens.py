"""Rows ready for a model: tokenized once, unusable rows counted and named, none ever cut."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from semtube.data.examples import Example
from semtube.data.rendering import IGNORED, Rendered, Renderer
from semtube.errors import UserError
from semtube.objectives.trajectories import ANSWER, PADDING, PROMPT, ROLES_KEY, SYSTEM, TEMPLATE

#: Key of a batch that holds each row's number in its file's order; the model never sees it.
ROW_KEY = "row_number"
_ROLE_NAMES = {TEMPLATE: "template", SYSTEM: "system", PROMPT: "prompt", ANSWER: "answer"}


@dataclass(frozen=True)
class TokenRows:
    """Tokenized rows and what was left out.

    Args:
        rows: in the order of the examples.
        too_long: sources of the rows over the limit, which are left out.
        num_short: rows with fewer than three trajectory tokens: they train, but have no triplet.
        num_split: rows whose tokenizer merges prompt and answer, tokenized apart.
    """

    rows: list[Rendered]
    too_long: list[str]
    num_short: int
    num_split: int

    def notes(self) -> list[str]:
        """What a user should know, a sentence each; empty when there is nothing."""
        notes = []
        if self.too_long:
            named = ", ".join(self.too_long[:5]) + (", ..." if len(self.too_long) > 5 else "")
            are = "row is" if len(self.too_long) == 1 else "rows are"
            notes.append(f"{len(self.too_long):,} {are} over max_tokens and left out: {named}")
        if self.num_short:
            notes.append(
                f"{self.num_short:,} rows have fewer than 3 trajectory tokens and so no triplet"
            )
        if self.num_split:
            notes.append(
                f"{self.num_split:,} rows: the tokenizer merges the end of the prompt with the "
                "start of the answer; both are tokenized apart, as in generation"
            )
        return notes


def tokenize_rows(
    examples: Sequence[Example],
    renderer: Renderer,
    max_tokens: int,
    *,
    content_roles: Sequence[int] = (PROMPT, ANSWER),
    max_rows: int | None = None,
) -> TokenRows:
    """Render every example.

    Args:
        content_roles: which tokens form the trajectory.
        max_rows: only the first so many that fit.

    Raises:
        UserError: a row cannot be rendered, or none fits into max_tokens.
    """
    rows, too_long = [], []
    for example in examples:
        if len(rows) == max_rows:
            break
        row = renderer.render(example)
        if len(row.input_ids) > max_tokens:
            too_long.append(f"{row.source} ({len(row.input_ids)} tokens)")
        else:
            rows.append(row)
    if not rows:
        raise UserError(
            f"no row fits into max_tokens={max_tokens}: the first is {too_long[0]}; raise "
            "it, as far as the model's context goes"
        )
    return TokenRows(
        rows,
        too_long,
        num_short=sum(row.num_tokens_of(content_roles) < 3 for row in rows),
        num_split=sum(row.split_at_answer for row in rows),
    )


class Collator:
    """Pad rows on the right to the longest of the batch.

    Padding is masked by the attention mask and never by its id, so an end token that doubles as
    padding stays a target.

    Args:
        pad_id: fills `input_ids`.
        with_roles: also give `token_roles`, which an attached objective reads and removes.
    """

    def __init__(self, pad_id: int, *, with_roles: bool) -> None:
        self.pad_id = pad_id
        self.with_roles = with_roles

    def __call__(self, rows: Iterable[tuple[int, Rendered]]) -> dict[str, Tensor]:
        """A batch from (row number, row) pairs."""
        numbers, chosen = zip(*rows, strict=True)
        width = max(len(row.input_ids) for row in chosen)

        def padded(values: list[list[int]], fill: int) -> Tensor:
            return torch.tensor([value + [fill] * (width - len(value)) for value in values])

        batch = {
            "input_ids": padded([row.input_ids for row in chosen], self.pad_id),
            "attention_mask": padded([[1] * len(row.input_ids) for row in chosen], 0),
            "labels": padded([row.labels for row in chosen], IGNORED),
            ROW_KEY: torch.tensor(numbers),
        }
        if self.with_roles:
            batch[ROLES_KEY] = padded([row.roles for row in chosen], PADDING)
        return batch


@dataclass(frozen=True)
class TokenView:
    """One token as a person reads it."""

    text: str
    role: str
    is_target: bool
    in_trajectory: bool


def view_tokens(row: Rendered, renderer: Renderer, content_roles: Sequence[int]) -> list[TokenView]:
    """One example token by token: what is trained, what is trajectory, what is masked."""
    tokens = renderer.tokenizer.convert_ids_to_tokens(row.input_ids)
    return [
        TokenView(str(token), _ROLE_NAMES[role], label != IGNORED, role in content_roles)
        for token, role, label in zip(tokens, row.roles, row.labels, strict=True)
    ]
