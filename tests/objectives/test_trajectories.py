"""Documents and their content, from masks, positions and boundaries."""

from __future__ import annotations

import pytest
import torch

from semtube.objectives.trajectories import (
    ANSWER,
    CONTENT_ROLES,
    PADDING,
    PROMPT,
    SYSTEM,
    TEMPLATE,
    Trajectories,
    content_from_roles,
)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("text", [0, 0, 0, 0, 1, 0, 1]),
        ("instruction", [0, 0, 1, 0, 1, 0, 1]),
        ("answer", [0, 0, 0, 0, 0, 0, 1]),
        ("all", [0, 1, 1, 1, 1, 1, 1]),
    ],
)
def test_roles_give_the_content_that_each_name_says(content, expected):
    roles_BT = torch.tensor([[PADDING, TEMPLATE, SYSTEM, TEMPLATE, PROMPT, TEMPLATE, ANSWER]])
    assert content_from_roles(roles_BT, content).int().tolist() == [expected]


def test_padding_is_in_no_content():
    assert all(PADDING not in roles for roles in CONTENT_ROLES.values())


def test_every_layout_tells_the_documents_apart(documents_of, batch_of, layout):
    documents = documents_of([4, 1, 6, 2, 3], seed=2)
    batch = batch_of(documents, layout)
    trajectories = batch.trajectories
    assert trajectories.num_documents == len(documents)
    assert (trajectories.document_BT[batch.padding_BT] == -1).all()
    seen = set()
    for document, places in zip(documents, batch.place, strict=True):
        rows, columns = zip(*places, strict=True)
        indices = trajectories.document_BT[list(rows), list(columns)].tolist()
        assert len(set(indices)) == 1
        seen.add(indices[0])
        inside = trajectories.content_BT[list(rows), list(columns)].tolist()
        assert inside == document.content
    assert seen == set(range(len(documents)))


def test_padding_never_belongs_to_the_content(documents_of, batch_of, layout):
    batch = batch_of(documents_of([4, 1, 6], seed=2), layout)
    assert batch.fields["content_BT"][batch.padding_BT].all()  # the layout claims it does
    assert not batch.trajectories.content_BT[batch.padding_BT].any()


def test_boundaries_go_before_positions():
    ones_BT = torch.ones(1, 6, dtype=torch.bool)
    trajectories = Trajectories.build(
        attended_BT=ones_BT,
        content_BT=ones_BT,
        position_ids_BT=torch.arange(6)[None],
        cu_seq_lens=torch.tensor([0, 2, 6], dtype=torch.int32),
    )
    assert trajectories.document_BT.tolist() == [[0, 0, 1, 1, 1, 1]]


def test_tokens_behind_the_last_boundary_are_padding():
    ones_BT = torch.ones(1, 6, dtype=torch.bool)
    trajectories = Trajectories.build(
        attended_BT=ones_BT, content_BT=ones_BT, cu_seq_lens=torch.tensor([0, 2, 4])
    )
    assert trajectories.document_BT.tolist() == [[0, 0, 1, 1, -1, -1]]
    assert trajectories.content_BT.int().tolist() == [[1, 1, 1, 1, 0, 0]]


def test_positions_shared_by_all_rows_leave_each_row_one_document():
    ones_BT = torch.ones(3, 4, dtype=torch.bool)
    trajectories = Trajectories.build(
        attended_BT=ones_BT, content_BT=ones_BT, position_ids_BT=torch.arange(4)[None]
    )
    assert trajectories.document_BT.tolist() == [[0] * 4, [1] * 4, [2] * 4]


def test_padding_that_restarts_the_position_opens_no_document():
    attended_BT = torch.tensor([[1, 1, 1, 0, 0, 0], [1, 1, 1, 1, 1, 0]]).bool()
    position_BT = torch.tensor([[0, 1, 2, 0, 0, 1], [0, 1, 0, 1, 2, 0]])
    trajectories = Trajectories.build(
        attended_BT=attended_BT, content_BT=attended_BT, position_ids_BT=position_BT
    )
    assert trajectories.num_documents == 3
    assert trajectories.document_BT.tolist() == [[0, 0, 0, -1, -1, -1], [1, 1, 2, 2, 2, -1]]


def test_without_token_ids_the_place_in_the_batch_is_the_key():
    ones_BT = torch.ones(3, 4, dtype=torch.bool)
    trajectories = Trajectories.build(attended_BT=ones_BT, content_BT=ones_BT)
    assert trajectories.key_N.tolist() == [0, 1, 2]


def test_integer_masks_are_taken_as_booleans():
    attended_BT = torch.tensor([[1, 1, 0]])
    trajectories = Trajectories.build(attended_BT=attended_BT, content_BT=torch.ones(1, 3).long())
    assert trajectories.content_BT.tolist() == [[True, True, False]]


def test_a_value_is_summed_over_each_documents_own_tokens(documents_of, batch_of, layout):
    documents = documents_of([4, 1, 6], seed=5)
    batch = batch_of(documents, layout)
    trajectories = batch.trajectories
    value_BT = torch.arange(batch.padding_BT.numel()).float().view_as(batch.padding_BT) + 1
    summed_N = trajectories.sum_by_document(value_BT)
    for places in batch.place:
        n = int(trajectories.document_BT[places[0]])
        assert summed_N[n] == sum(float(value_BT[place]) for place in places)


def test_counting_packed_documents_by_position_synchronises_once_and_boundaries_never(
    watch, documents_of, batch_of
):
    documents = documents_of([4, 2, 6], seed=5)
    for layout, reads in (("right", 0), ("packed_cu", 0), ("packed_positions", 1)):
        fields = batch_of(documents, layout).fields
        with watch(refuse=False) as seen:
            Trajectories.build(**fields)
        assert seen.counts["aten::_local_scalar_dense"] == reads, layout
        if not reads:
            with watch():
                Trajectories.build(**fields)


@pytest.mark.parametrize("layout_name", ["right", "packed_cu", "packed_positions"])
def test_building_has_no_loop_over_documents(watch, documents_of, batch_of, layout_name):
    def operations(number: int):
        fields = batch_of(documents_of([3] * number), layout_name).fields
        with watch(refuse=False) as seen:
            Trajectories.build(**fields)
        return seen.counts

    assert operations(2) == operations(40)
