"""Tokenized rows and their batches: nothing is cut, padding is masked and never by its id."""

import pytest
import torch

from semtube.data.examples import Example, Message
from semtube.data.rendering import IGNORED, Rendered, Renderer
from semtube.data.tokens import ROW_KEY, Collator, tokenize_rows, view_tokens
from semtube.errors import UserError
from semtube.objectives.trajectories import (
    ANSWER,
    CONTENT_ROLES,
    PADDING,
    PROMPT,
    ROLES_KEY,
    SYSTEM,
    TEMPLATE,
)

transformers = pytest.importorskip("transformers")
tokenizers = pytest.importorskip("tokenizers")

LETTERS = ["<|end|>", *"abcdef", "bc"]


def letters() -> Renderer:
    """Each letter is a token; b and c together are one."""
    model = tokenizers.models.BPE({token: i for i, token in enumerate(LETTERS)}, [("b", "c")])
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizers.Tokenizer(model),
        eos_token="<|end|>",
        chat_template="a{% for m in messages %}{{ m['content'] }}{{ eos_token }}{% endfor %}",
    )
    return Renderer(tokenizer, frozenset({0}))


def pair(prompt: str, answer: str, source: str) -> Example:
    return Example("pair", (Message("user", prompt), Message("assistant", answer)), source)


def row(ids: list[int], roles: list[int], labels: list[int]) -> Rendered:
    return Rendered(ids, roles, labels, 1, "answer", "prompt", "x:1", "d", False)


SHORT = row([5, 6, 0], [PROMPT, ANSWER, TEMPLATE], [IGNORED, 6, 0])
LONG = row([1, 5, 6, 7, 0], [TEMPLATE, PROMPT, ANSWER, ANSWER, TEMPLATE], [IGNORED] * 2 + [6, 7, 0])


def test_rows_are_padded_on_the_right_to_the_longest_with_every_mask():
    batch = Collator(9, with_roles=True)([(4, SHORT), (2, LONG)])
    assert batch["input_ids"].tolist() == [[5, 6, 0, 9, 9], [1, 5, 6, 7, 0]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]
    assert batch["labels"].tolist() == [
        [IGNORED, 6, 0, IGNORED, IGNORED],
        [IGNORED, IGNORED, 6, 7, 0],
    ]
    assert batch[ROLES_KEY].tolist() == [
        [PROMPT, ANSWER, TEMPLATE, PADDING, PADDING],
        [TEMPLATE, PROMPT, ANSWER, ANSWER, TEMPLATE],
    ]
    assert batch[ROW_KEY].tolist() == [4, 2]
    assert {value.dtype for value in batch.values()} == {torch.int64}


def test_without_roles_the_batch_has_none():
    batch = Collator(9, with_roles=False)([(0, SHORT)])
    assert set(batch) == {"input_ids", "attention_mask", "labels", ROW_KEY}
    with_roles = Collator(9, with_roles=True)([(0, SHORT)])
    assert all(torch.equal(batch[name], with_roles[name]) for name in batch)


def test_an_end_token_that_doubles_as_padding_stays_a_target_and_attended():
    batch = Collator(0, with_roles=True)([(0, SHORT), (1, LONG)])
    assert batch["input_ids"][0].tolist() == [5, 6, 0, 0, 0]
    assert batch["labels"][0].tolist() == [IGNORED, 6, 0, IGNORED, IGNORED]
    assert batch["attention_mask"][0].tolist() == [1, 1, 1, 0, 0]


def test_the_padding_id_changes_nothing_but_the_padding():
    one, other = (Collator(pad, with_roles=True)([(0, SHORT), (1, LONG)]) for pad in (0, 7))
    assert all(torch.equal(one[name], other[name]) for name in one if name != "input_ids")
    attended = one["attention_mask"].bool()
    assert torch.equal(one["input_ids"][attended], other["input_ids"][attended])


def test_rows_too_long_are_left_out_whole_and_named_and_the_others_untouched():
    texts = [("aa", "d"), ("a" * 4, "d" * 3), ("a", "ddd"), ("a" * 9, "d")]
    examples = [pair(*text, f"x.jsonl:{line}") for line, text in enumerate(texts, 1)]
    renderer = letters()
    tokens = tokenize_rows(examples, renderer, max_tokens=5)
    assert tokens.rows == [renderer.render(examples[0]), renderer.render(examples[2])]
    assert tokens.too_long == ["x.jsonl:2 (8 tokens)", "x.jsonl:4 (11 tokens)"]
    assert tokens.notes() == [
        "2 rows are over max_tokens and left out: x.jsonl:2 (8 tokens), x.jsonl:4 (11 tokens)"
    ]


def test_a_row_of_exactly_the_limit_is_kept():
    examples = [pair("a", "ddd", "x:1")]
    assert len(tokenize_rows(examples, letters(), max_tokens=5).rows[0].input_ids) == 5
    with pytest.raises(UserError):
        tokenize_rows(examples, letters(), max_tokens=4)


def test_of_many_rows_too_long_five_are_named():
    examples = [pair("a" * 9, "d", f"x:{line}") for line in range(7)] + [pair("a", "ddd", "x:8")]
    (note,) = tokenize_rows(examples, letters(), max_tokens=5).notes()
    assert note.startswith("7 rows are over max_tokens and left out: x:0 (11 tokens), ")
    assert note.endswith("x:4 (11 tokens), ...")


def test_rows_with_fewer_than_three_tokens_of_text_are_counted_and_kept():
    examples = [pair("a", "d", "x:1"), pair("bc", "d", "x:2"), pair("a", "de", "x:3")]
    tokens = tokenize_rows(examples, letters(), max_tokens=9)
    assert [example.num_tokens_of((PROMPT, ANSWER)) for example in tokens.rows] == [2, 2, 3]
    assert tokens.num_short == 2
    assert tokens.notes() == ["2 rows have fewer than 3 trajectory tokens and so no triplet"]


def test_rows_whose_tokens_merge_across_the_boundary_are_counted():
    examples = [pair("ab", "cd", "x:1"), pair("aa", "cd", "x:2"), pair("ab", "bc", "x:3")]
    tokens = tokenize_rows(examples, letters(), max_tokens=9)
    assert tokens.num_split == 1
    assert [rendered.split_at_answer for rendered in tokens.rows] == [True, False, False]
    (note,) = tokens.notes()
    assert note.startswith("1 rows: the tokenizer merges the end of the prompt")


def test_counts_are_of_the_rows_that_are_kept():
    examples = [pair("ab" + "a" * 9 + "b", "c", "x:1"), pair("aaa", "ddd", "x:2")]
    tokens = tokenize_rows(examples, letters(), max_tokens=8)
    assert (tokens.num_split, tokens.num_short, len(tokens.too_long)) == (0, 0, 1)


def test_when_nothing_is_amiss_there_is_nothing_to_say():
    assert tokenize_rows([pair("aa", "dd", "x:1")], letters(), max_tokens=9).notes() == []


def test_when_every_row_is_too_long_the_first_is_named_with_its_length():
    examples = [pair("a" * 9, "d", "x:1"), pair("a" * 5, "d", "x:2")]
    with pytest.raises(UserError) as caught:
        tokenize_rows(examples, letters(), max_tokens=3)
    assert str(caught.value) == (
        "no row fits into max_tokens=3: the first is x:1 (11 tokens); raise it, "
        "as far as the model's context goes"
    )


def test_the_view_shows_every_token_with_role_target_and_trajectory():
    messages = (Message("system", "b"), Message("user", "de"), Message("assistant", "f"))
    renderer = letters()
    rendered = renderer.render(Example("chat", messages, "x:1"))
    assert rendered.roles == [
        TEMPLATE, SYSTEM, TEMPLATE, PROMPT, PROMPT, TEMPLATE, ANSWER, TEMPLATE
    ]  # fmt: skip
    view = view_tokens(rendered, renderer, CONTENT_ROLES["text"])
    assert [(token.text, token.role, token.is_target, token.in_trajectory) for token in view] == [
        ("a", "template", False, False),
        ("b", "system", False, False),
        ("<|end|>", "template", False, False),
        ("d", "prompt", False, True),
        ("e", "prompt", False, True),
        ("<|end|>", "template", False, False),
        ("f", "answer", True, True),
        ("<|end|>", "template", True, False),
    ]
    wider = view_tokens(rendered, renderer, CONTENT_ROLES["instruction"])
    assert [token.in_trajectory for token in wider] == [
        False, True, False, True, True, False, True, False
    ]  # fmt: skip
