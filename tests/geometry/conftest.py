"""Documents of unequal length with template between their content, laid out as hosts do it.

Shape letters: B rows, T tokens, D hidden size.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from semtube.objectives.trajectories import Trajectories

LAYOUTS = ("right", "left", "packed")


@dataclass
class Text:
    """States (T, D) of one text and which of its tokens are content."""

    states_TD: Tensor
    content_T: Tensor


def _random_texts(lengths: list[int], *, width: int = 6, seed: int = 0) -> list[Text]:
    generator = torch.Generator().manual_seed(seed)
    return [
        Text(
            torch.randn(length, width, generator=generator).cumsum(0),
            torch.rand(length, generator=generator) < 0.8,
        )
        for length in lengths
    ]


def _lay_out(texts: list[Text], layout: str) -> tuple[Tensor, Trajectories]:
    """States (B, T, D) and their trajectories; padding is NaN, which must not matter."""
    width = texts[0].states_TD.shape[1]
    if layout == "packed":
        hidden_TD = torch.cat([text.states_TD for text in texts])
        hidden_TD = torch.cat([hidden_TD, torch.full((5, width), torch.nan)])
        content_T = torch.cat([text.content_T for text in texts] + [torch.zeros(5).bool()])
        lengths = torch.tensor([0] + [len(text.states_TD) for text in texts])
        return hidden_TD[None], Trajectories.build(
            attended_BT=torch.ones_like(content_T)[None] & (content_T >= 0)[None],
            content_BT=content_T[None],
            cu_seq_lens=lengths.cumsum(0),
        )
    longest = max(len(text.states_TD) for text in texts) + 2
    hidden_BTD = torch.full((len(texts), longest, width), torch.nan)
    attended_BT = torch.zeros(len(texts), longest, dtype=torch.bool)
    content_BT = torch.zeros_like(attended_BT)
    for row, text in enumerate(texts):
        length = len(text.states_TD)
        first = longest - length if layout == "left" else 0
        hidden_BTD[row, first : first + length] = text.states_TD
        attended_BT[row, first : first + length] = True
        content_BT[row, first : first + length] = text.content_T
    return hidden_BTD, Trajectories.build(attended_BT=attended_BT, content_BT=content_BT)


@pytest.fixture(params=LAYOUTS)
def layout(request) -> str:
    return request.param


@pytest.fixture
def random_texts():
    return _random_texts


@pytest.fixture
def lay_out():
    return _lay_out
