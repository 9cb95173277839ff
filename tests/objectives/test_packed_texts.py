"""Rows of several texts against plain lists.

Shape letters: B rows, T tokens, D hidden size, N documents, W width of a row.
"""

from __future__ import annotations

import pytest
import torch

from semtube.objectives.objective import PADDING_INDEX, VECTOR
from semtube.objectives.packed_texts import Piece, pack, states_at, tokens_of, vectors
from semtube.objectives.trajectories import ANSWER, PROMPT

#: Per document the pieces of two texts; a number stands for itself.
ROWS = [
    ([[4, 5], [9]], [[7, 8, 3]]),
    ([[1], [9]], [[2]]),
    ([[], [9]], [[6, 6]]),
    ([[11, 12, 13], [9]], [[]]),
    ([[], []], [[]]),
    ([[], []], [[5]]),
]


def piece(lists: list[list[int]], junk: int = 77) -> Piece:
    """Behind what counts stands junk, as in `tokens_of`."""
    width = max(len(values) for values in lists)
    index_NW = torch.tensor([values + [junk] * (width - len(values)) for values in lists])
    return Piece(index_NW.long().view(len(lists), width), torch.tensor([len(v) for v in lists]))


def test_texts_follow_each_other_and_each_begins_at_position_zero():
    texts = [
        [piece([row[number][k] for row in ROWS]) for k in range(len(ROWS[0][number]))]
        for number in range(2)
    ]
    packed = pack(texts)
    assert packed.index_NW.shape == packed.position_NW.shape == (len(ROWS), 6)
    for n, row in enumerate(ROWS):
        flat = [[value for part in text for value in part] for text in row]
        index = [value for text in flat for value in text]
        position = [j for text in flat for j in range(len(text))]
        padding = 6 - len(index)
        assert packed.index_NW[n].tolist() == index + [PADDING_INDEX] * padding
        assert packed.position_NW[n].tolist() == position + [0] * padding
        end = 0
        for number, text in enumerate(flat):
            end += len(text)
            assert packed.last_NT[n, number] == max(end - 1, 0)
            if text:
                assert packed.index_NW[n, packed.last_NT[n, number]] == text[-1]


def test_texts_of_nothing_make_a_row_of_padding():
    packed = pack([[piece([[], []])], [Piece(torch.tensor([[3], [4]]), torch.tensor([0, 0]))]])
    assert packed.index_NW.tolist() == [[PADDING_INDEX]] * 2
    assert packed.position_NW.tolist() == [[0]] * 2
    assert packed.last_NT.tolist() == [[0, 0]] * 2


@pytest.mark.parametrize("role", [PROMPT, ANSWER])
def test_the_tokens_of_a_view_are_found_in_order(role, layout, degenerate, dialogues_of, batch_of):
    documents = dialogues_of() + dialogues_of(degenerate, seed=50)
    batch = batch_of(documents, layout)
    trajectories = batch.trajectories
    view_BT = trajectories.prompt_BT if role == PROMPT else trajectories.answer_BT
    found = tokens_of(view_BT, trajectories)
    assert found.index_NW.shape[1] == max(len(document.places(role)) for document in documents)
    ids = batch.fields["input_ids_BT"].flatten()
    for document, places in zip(documents, batch.place, strict=True):
        if places:
            n = int(trajectories.document_BT[places[0]])
            wanted = document.places(role)
            assert found.size_N[n] == len(wanted)
            index = found.index_NW[n, : len(wanted)]
            assert ids[index].tolist() == [document.ids[j] for j in wanted]
            width = view_BT.shape[1]
            assert index.tolist() == [places[j][0] * width + places[j][1] for j in wanted]
    assert found.index_NW.min() >= 0
    assert found.index_NW.max() < ids.numel()


def test_a_mask_of_nothing_has_pieces_of_nothing(dialogues_of, batch_of):
    batch = batch_of(dialogues_of(), "right")
    found = tokens_of(torch.zeros_like(batch.padding_BT), batch.trajectories)
    assert found.size_N.tolist() == [0] * 5
    assert pack([[found]]).index_NW.tolist() == [[PADDING_INDEX]] * 5


def test_learned_vectors_stand_in_every_row_in_order():
    made = vectors(3, piece([[1, 2], [3], []]))
    assert made.index_NW.tolist() == [[VECTOR, VECTOR - 1, VECTOR - 2]] * 3
    assert made.size_N.tolist() == [3, 3, 3]
    assert VECTOR < PADDING_INDEX < 0  # neither is an index of the batch


@pytest.mark.parametrize(
    ("stored", "wide"),
    [
        (torch.bfloat16, torch.float32),
        (torch.float16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_one_state_of_each_row(stored, wide):
    states_NWD = torch.arange(24).view(3, 4, 2).to(stored)
    chosen_ND = states_at(states_NWD, torch.tensor([2, 0, 3]))
    assert chosen_ND.dtype == wide
    assert chosen_ND.tolist() == [[4, 5], [8, 9], [22, 23]]
