"""Paths are the same however a document came; bad states are named."""

import pytest
import torch

from semtube.errors import UserError
from semtube.geometry.paths import Paths, check_ends

LENGTHS = [9, 1, 14, 4]


def test_states_of_content_in_order_whatever_the_layout(layout, random_texts, lay_out):
    texts = random_texts(LENGTHS)
    paths = Paths.of_documents(*lay_out(texts, layout))
    for n, text in enumerate(texts):
        expected = text.states_TD[text.content_T]
        assert int(paths.size_N[n]) == len(expected)
        assert torch.equal(paths.states_NLD[n, : len(expected)], expected)
        assert not paths.states_NLD[n, len(expected) :].any()
    assert torch.equal(paths.rows(), torch.cat([t.states_TD[t.content_T] for t in texts]))


def test_increments_step_over_template(layout, random_texts, lay_out):
    texts = random_texts(LENGTHS)
    paths = Paths.of_increments(*lay_out(texts, layout))
    for n, text in enumerate(texts):
        path = [torch.zeros(6, dtype=torch.float64)]
        states = text.states_TD.double()
        for i in range(1, len(states)):
            if text.content_T[i]:
                path.append(path[-1] + states[i] - states[i - 1])
        assert int(paths.size_N[n]) == len(path)
        torch.testing.assert_close(paths.states_NLD[n, : len(path)], torch.stack(path))


def test_one_document_and_a_batch_agree_and_gradients_end():
    hidden_TD = torch.randn(7, 3, requires_grad=True)
    alone, batch = Paths.of(hidden_TD), Paths.of(hidden_TD[None].expand(2, -1, -1))
    assert torch.equal(alone.states_NLD[0], batch.states_NLD[1])
    assert not alone.states_NLD.requires_grad


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_narrow_states_are_widened(dtype):
    paths = Paths.of(torch.ones(3, 2, dtype=dtype))
    assert paths.states_NLD.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_states_that_are_not_finite_are_named(bad):
    hidden_BTD = torch.zeros(3, 4, 2)
    content_BT = torch.ones(3, 4, dtype=torch.bool)
    content_BT[1, 0] = False
    hidden_BTD[1, 0] = bad  # not content: does not matter
    Paths.of(hidden_BTD, content_BT).check_finite(3, ["a", "b", "c"])
    hidden_BTD[1, 2, 1] = bad
    with pytest.raises(UserError, match=r"layer 3, example b: .* token 1 is not finite"):
        Paths.of(hidden_BTD, content_BT).check_finite(3, ["a", "b", "c"])


@pytest.mark.parametrize("shapes", [((4,), None), ((2, 3, 4), (2, 4)), ((1, 2, 3, 4), None)])
def test_other_shapes_are_refused(shapes):
    hidden, content = shapes
    with pytest.raises(ValueError, match="wanted states"):
        Paths.of(torch.zeros(hidden), None if content is None else torch.ones(content).bool())


def test_ends_that_are_not_finite_are_named():
    states_ND = torch.zeros(6, 2)
    ends = ("the prompt's last token", "the answer's last token")
    check_ends(states_ND, "last", ["a", "b", "c"], ends)
    states_ND[3, 1] = states_ND[4, 0] = torch.nan
    with pytest.raises(UserError, match=r"layer last, example b: .* of the answer's last token is"):
        check_ends(states_ND, "last", ["a", "b", "c"], ends)
