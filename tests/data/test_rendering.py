"""Rows as tokens: bounds survive every template, targets and stop tokens are as meant.

The oracle knows each family's text from hand-written pieces and each token's bytes from the
tokenizer's alphabet (byte-level tokens lose nothing). A token has the role of the turn whose bytes
it holds. It uses neither place-holders nor the tokenizer's offsets.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from semtube.data.examples import Example, Message, read_examples
from semtube.data.rendering import IGNORED, Renderer
from semtube.errors import UserError
from semtube.objectives.trajectories import ANSWER, PROMPT, SYSTEM, TEMPLATE

transformers = pytest.importorskip("transformers")
tokenizers = pytest.importorskip("tokenizers")
from semtube.models.tokenizer import train_tokenizer  # noqa: E402

TEXTS = (
    "lines with words with a vowel and a lower-case letter",
    "Convert natural language to regular expression. You are a helpful assistant.",
    "user assistant system model Today Date: December 2023 [INST] [/INST] <<SYS>> <think>",
    r"(\b([AEIOUaeiou])&([a-z])\b)* ~(.*[0-9].*)",
    "naïve café über straße, 東京 と 京都 🙂",
)
ROLE = {"system": SYSTEM, "user": PROMPT, "assistant": ANSWER}


def chat(*turns: tuple[str, str], source: str = "x.jsonl:1") -> Example:
    return Example("chat", tuple(Message(role, content) for role, content in turns), source)


def pair(prompt: str, answer: str) -> Example:
    return Example("pair", (Message("user", prompt), Message("assistant", answer)), "x.jsonl:1")


def plain(text: str) -> Example:
    return Example("text", (Message("assistant", text),), "x.jsonl:1")


Pieces = Callable[[tuple[Message, ...]], list[str | Message]]


@dataclass(frozen=True)
class Family:
    """A chat template in the style of a known family, and by hand what it gives."""

    template: str
    pieces: Pieces
    specials: tuple[str, ...]
    stop: str
    has_system: bool = True
    generation: bool = True


def loop(form: str) -> str:
    return "{% for message in messages %}" + form + "{% endfor %}"


def chatml(messages):
    given_first = messages[0].role == "system"
    first = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    pieces = [] if given_first else [first]
    for message in messages:
        pieces += [f"<|im_start|>{message.role}\n", message, "<|im_end|>\n"]
    return pieces


def header(messages):
    pieces = ["<|start|><|header|>system<|/header|>\n\nToday Date: 01 Jan 2024\n\n"]
    if messages[0].role == "system":
        pieces, messages = [*pieces, messages[0]], messages[1:]
    pieces.append("<|eot|>")
    for message in messages:
        pieces += [f"<|header|>{message.role}<|/header|>\n\n", message, "<|eot|>"]
    return pieces


def turn(messages):
    pieces = ["<|start|>"]
    for message in messages:
        role = "model" if message.role == "assistant" else message.role
        pieces += [f"<start_of_turn>{role}\n", message, "<end_of_turn>\n"]
    return pieces


def inst(messages):
    pieces = ["<|start|>"]
    for message in messages:
        bounds = ("[INST] ", " [/INST]") if message.role == "user" else (" ", "<|end|>")
        pieces += [bounds[0], message, bounds[1]]
    return pieces


def sys_in_user(messages):
    pieces, system = ["<|start|>"], messages[0].role == "system"
    if system:
        pieces += ["[INST] <<SYS>>\n", messages[0], "\n<</SYS>>\n\n"]
    for number, message in enumerate(messages[1:] if system else messages):
        if message.role == "assistant":
            pieces += [" ", message, " <|end|>"]
        else:
            pieces += ["" if system and number == 0 else "[INST] ", message, " [/INST]"]
    return pieces


def thinking(messages):
    pieces = []
    for number, message in enumerate(messages, 1):
        think = "<think>\n\n</think>\n\n" if number == len(messages) else ""
        pieces += [f"<|im_start|>{message.role}\n{think}", message, "<|im_end|>\n"]
    return pieces


def tulu(messages):
    pieces = []
    for number, message in enumerate(messages, 1):
        end = "<|end|>" if message.role == "assistant" else ""
        pieces += [
            f"<|{message.role}|>\n",
            message,
            end + ("" if number == len(messages) else "\n"),
        ]
    return pieces


FAMILIES = {
    "chatml": Family(
        loop(
            "{% if loop.first and message['role'] != 'system' %}"
            "{{ '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}{% endif %}"
            "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
        )
        + "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
        chatml,
        ("<|im_start|>", "<|im_end|>"),
        "<|im_end|>",
    ),
    "header": Family(
        "{{ bos_token }}{% set system = '' %}{% set rest = messages %}"
        "{% if messages[0]['role'] == 'system' %}"
        "{% set system = messages[0]['content'] | trim %}{% set rest = messages[1:] %}{% endif %}"
        "{{ '<|header|>system<|/header|>\n\nToday Date: ' + strftime_now('%d %b %Y') + '\n\n' }}"
        "{{ system + '<|eot|>' }}{% for message in rest %}"
        "{{ '<|header|>' + message['role'] + '<|/header|>\n\n' + (message['content'] | trim) }}"
        "{{ '<|eot|>' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|header|>assistant<|/header|>\n\n' }}{% endif %}",
        header,
        ("<|header|>", "<|/header|>", "<|eot|>"),
        "<|eot|>",
    ),
    "turn": Family(
        "{{ bos_token }}{% if messages[0]['role'] == 'system' %}"
        "{{ raise_exception('System role not supported') }}{% endif %}"
        + loop(
            "{% set role = 'model' if message['role'] == 'assistant' else message['role'] %}"
            "{{ '<start_of_turn>' + role + '\n' + (message['content'] | trim) }}"
            "{{ '<end_of_turn>\n' }}"
        )
        + "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}",
        turn,
        ("<start_of_turn>", "<end_of_turn>"),
        "<end_of_turn>",
        has_system=False,
    ),
    "inst": Family(
        "{{ bos_token }}"
        + loop(
            "{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}"
            "{% elif message['role'] == 'assistant' %}{{ ' ' + message['content'] + eos_token }}"
            "{% else %}{{ raise_exception('Only user and assistant roles') }}{% endif %}"
        ),
        inst,
        (),
        "<|end|>",
        has_system=False,
        generation=False,  # the space before the answer is no part of its generation prompt
    ),
    "system in user": Family(
        "{{ bos_token }}{% if messages[0]['role'] == 'system' %}"
        "{{ '[INST] <<SYS>>\n' + messages[0]['content'] + '\n<</SYS>>\n\n' }}"
        "{% set glued = true %}{% set rest = messages[1:] %}"
        "{% else %}{% set glued = false %}{% set rest = messages %}{% endif %}"
        "{% for message in rest %}{% if message['role'] == 'user' %}"
        "{{ ('' if glued and loop.first else '[INST] ') + message['content'] + ' [/INST]' }}"
        "{% else %}{{ ' ' + message['content'] + ' ' + eos_token }}{% endif %}{% endfor %}",
        sys_in_user,
        (),
        "<|end|>",
        generation=False,
    ),
    "thinking": Family(
        loop(
            "{{ '<|im_start|>' + message['role'] + '\n' }}"
            "{% if loop.last and message['role'] == 'assistant' %}"
            "{{ '<think>\n\n</think>\n\n' }}{% endif %}{{ message['content'] + '<|im_end|>\n' }}"
        )
        + "{% if add_generation_prompt %}"
        "{{ '<|im_start|>assistant\n<think>\n\n</think>\n\n' }}{% endif %}",
        thinking,
        ("<|im_start|>", "<|im_end|>"),
        "<|im_end|>",
    ),
    "tulu": Family(
        loop(
            "{{ '<|' + message['role'] + '|>\n' + message['content'] }}"
            "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}"
            "{% if not loop.last %}{{ '\n' }}{% endif %}"
        )
        + "{% if add_generation_prompt %}{{ '\n<|assistant|>\n' }}{% endif %}",
        tulu,
        (),
        "<|end|>",
    ),
}


@cache
def tokenizer_with(template: str | None, specials: tuple[str, ...] = ()):
    tokenizer = train_tokenizer(TEXTS * 3, 520)
    tokenizer.add_tokens(list(specials), special_tokens=True)
    tokenizer.chat_template = template
    return tokenizer


def renderer_of(family: Family, listed: bool = True, **options) -> Renderer:
    tokenizer = tokenizer_with(family.template, family.specials)
    stop = family.stop if listed else tokenizer.eos_token
    return Renderer(tokenizer, frozenset({tokenizer.convert_tokens_to_ids(stop)}), **options)


def byte_alphabet() -> dict[str, int]:
    """GPT-2's printable stand-in of every byte, from its published description."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [byte for byte in range(256) if byte not in printable]
    return {chr(b): b for b in printable} | {chr(256 + k): b for k, b in enumerate(rest)}


ALPHABET = byte_alphabet()


def token_bytes(tokenizer, ids: list[int]) -> list[bytes]:
    added = {i: token.content.encode() for i, token in tokenizer.added_tokens_decoder.items()}
    return [
        added[i] if i in added else bytes(ALPHABET[c] for c in tokenizer.convert_ids_to_tokens(i))
        for i in ids
    ]


@dataclass(frozen=True)
class Wanted:
    """What a row should be, from its pieces."""

    roles: list[int]
    answer_targets: list[bool]
    num_prompt_tokens: int


def wanted(tokenizer, ids: list[int], pieces: list[str | Message], stop: str) -> Wanted:
    spans, at = [], 0
    for piece in pieces:
        size = len((piece if isinstance(piece, str) else piece.content).encode())
        if isinstance(piece, Message):
            spans.append((at, at + size, ROLE[piece.role]))
        at += size
    parts, roles, starts, at = token_bytes(tokenizer, ids), [], [], 0
    for part in parts:
        inside = [role for a, b, role in spans if at < b and at + len(part) > a]
        roles.append(inside[0] if inside else TEMPLATE)
        starts.append(at)
        at += len(part)
    targets = [False] * len(ids)
    for i, role in enumerate(roles):
        if role == ANSWER:  # from an answer's token to the stop token behind it
            last = next(k for k in range(i, len(ids)) if parts[k] == stop.encode())
            targets[i : last + 1] = [True] * (last + 1 - i)
    last_answer = spans[-1][0]
    return Wanted(roles, targets, sum(start < last_answer for start in starts))


def check_row(renderer: Renderer, row: Example, family: Family) -> None:
    """All claims about one chat row, against the oracle."""
    tokenizer, rendered = renderer.tokenizer, renderer.render(row)
    pieces = family.pieces(row.messages)
    ids = rendered.input_ids
    texts = [piece if isinstance(piece, str) else piece.content for piece in pieces]
    assert b"".join(token_bytes(tokenizer, ids)).decode() == "".join(texts)
    want = wanted(tokenizer, ids, pieces, family.stop)
    assert rendered.roles == want.roles
    assert rendered.num_prompt_tokens == want.num_prompt_tokens
    assert [label != IGNORED for label in rendered.labels] == want.answer_targets
    assert all(label in (IGNORED, token) for label, token in zip(rendered.labels, ids, strict=True))
    last = max(i for i, piece in enumerate(pieces) if isinstance(piece, Message))
    assert rendered.prompt == "".join(texts[:last])
    assert rendered.answer == row.answer
    alone = tokenizer(rendered.prompt, add_special_tokens=False)["input_ids"]
    assert ids[: rendered.num_prompt_tokens] == alone


def spans_of(rendered, tokenizer, role: int) -> list[str]:
    """Text of each run of tokens of one role."""
    runs, previous = [], None
    for token, here in zip(rendered.input_ids, rendered.roles, strict=True):
        if here == role:
            runs = runs if previous == role else [*runs, []]
            runs[-1].append(token)
        previous = here
    return [tokenizer.decode(run) for run in runs]


QUESTION, REGEX = "lines with words with a vowel", r"(\b([AEIOUaeiou])&([a-z])\b)*"
SYSTEM_TEXT = "Convert natural language to regular expression."
CHATS = {
    "one turn": chat(("user", QUESTION), ("assistant", REGEX)),
    "system": chat(("system", SYSTEM_TEXT), ("user", QUESTION), ("assistant", REGEX)),
    "two answers": chat(
        ("user", "first?"), ("assistant", "one"), ("user", "second?"), ("assistant", "two 東京")
    ),
    "system and two answers": chat(
        ("system", "s"), ("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")
    ),
    "the same text everywhere": chat(
        ("user", "user"), ("assistant", "user"), ("user", "assistant"), ("assistant", "user")
    ),
    "template language": chat(("user", "{{ messages }}{% raw %}"), ("assistant", "{# x #}")),
    "no letters": chat(("user", "🙂🙂"), ("assistant", "é\u0301\u200b7")),
    "lines": chat(("user", "a\n\nb\n c"), ("assistant", "d\n\n\te")),
}


@pytest.mark.parametrize("row", CHATS)
@pytest.mark.parametrize("name", FAMILIES)
def test_bounds_targets_and_prompt_survive_every_template(name, row):
    family, row = FAMILIES[name], CHATS[row]
    if row.messages[0].role == "system" and not family.has_system:
        with pytest.raises(UserError, match=r"x.jsonl:1: the chat template refuses this row \("):
            renderer_of(family).render(row)
        return
    check_row(renderer_of(family), row, family)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_decoded_spans_are_the_text_of_the_turns(name):
    family = FAMILIES[name]
    renderer, row = renderer_of(family), CHATS["system" if family.has_system else "one turn"]
    rendered = renderer.render(row)
    for role, number in ((SYSTEM, "system"), (PROMPT, "user"), (ANSWER, "assistant")):
        texts = [message.content for message in row.messages if message.role == number]
        # A token may join a turn's first word with the template's space before it.
        found = [text.strip() for text in spans_of(rendered, renderer.tokenizer, role)]
        assert found == texts


def test_two_answers_are_two_spans_and_the_prompt_reaches_to_the_last():
    family = FAMILIES["chatml"]
    renderer = renderer_of(family)
    rendered = renderer.render(CHATS["two answers"])
    assert spans_of(rendered, renderer.tokenizer, ANSWER) == ["one", "two 東京"]
    stop = renderer.tokenizer.convert_tokens_to_ids(family.stop)
    trained = [label for label in rendered.labels if label != IGNORED]
    assert trained.count(stop) == 2
    assert renderer.tokenizer.decode(trained) == "one<|im_end|>two 東京<|im_end|>"
    assert rendered.prompt.endswith("second?<|im_end|>\n<|im_start|>assistant\n")


@pytest.mark.parametrize("name", [name for name, f in FAMILIES.items() if f.generation])
def test_generation_begins_with_the_tokens_of_the_templates_own_generation_prompt(name):
    family = FAMILIES[name]
    renderer = renderer_of(family)
    for row in (CHATS["one turn"], CHATS["two answers"]):
        rendered = renderer.render(row)
        turns = [{"role": m.role, "content": m.content} for m in row.question]
        prompt = renderer.tokenizer.apply_chat_template(
            turns, tokenize=False, add_generation_prompt=True
        )
        # The clock's date is the one thing that differs.
        assert rendered.prompt == re.sub("Today Date: .*", "Today Date: 01 Jan 2024", prompt)


@pytest.mark.parametrize("name", FAMILIES)
def test_full_labels_train_every_token_and_answer_labels_the_answer_and_its_stop(name):
    family = FAMILIES[name]
    full = renderer_of(family, labels="full").render(CHATS["one turn"])
    assert full.labels == full.input_ids
    answer = renderer_of(family).render(CHATS["one turn"])
    assert (full.input_ids, full.roles) == (answer.input_ids, answer.roles)
    trained = [label for label in answer.labels if label != IGNORED]
    tokenizer = renderer_of(family).tokenizer
    assert tokenizer.decode(trained).replace(" ", "") == REGEX + family.stop


@pytest.mark.parametrize("labels", ["answer", "full"])
@pytest.mark.parametrize("name", FAMILIES)
def test_without_train_stop_no_stop_token_is_a_target_and_all_else_is(name, labels):
    family = FAMILIES[name]
    for row in (CHATS["one turn"], CHATS["two answers"]):
        with_stop = renderer_of(family, labels=labels).render(row)
        without = renderer_of(family, labels=labels, train_stop=False).render(row)
        stop = renderer_of(family).tokenizer.convert_tokens_to_ids(family.stop)
        assert stop in with_stop.labels
        assert stop not in without.labels
        assert without.labels == [IGNORED if t == stop else t for t in with_stop.labels]


@pytest.mark.parametrize("name", FAMILIES)
def test_the_stop_token_is_a_target_when_it_doubles_as_padding(name):
    family = FAMILIES[name]
    tokenizer = train_tokenizer(TEXTS * 3, 520)
    tokenizer.add_tokens(list(family.specials), special_tokens=True)
    tokenizer.chat_template = family.template
    stop = tokenizer.convert_tokens_to_ids(family.stop)
    tokenizer.pad_token = family.stop
    assert tokenizer.pad_token_id == stop
    rendered = Renderer(tokenizer, frozenset({stop})).render(CHATS["one turn"])
    assert rendered.labels.count(stop) == 1


@pytest.mark.parametrize("name", [name for name, f in FAMILIES.items() if f.stop != "<|end|>"])
def test_an_end_of_turn_token_that_is_not_listed_is_found_trained_and_listed(name):
    family = FAMILIES[name]
    renderer = renderer_of(family, listed=False)
    listed = renderer.stop_ids
    check_row(renderer, CHATS["two answers"], family)
    stop = renderer.tokenizer.convert_tokens_to_ids(family.stop)
    assert renderer.stop_ids == listed | {stop}
    # Another row holds it in its text: now it is known to be a stop token.
    with pytest.raises(UserError, match="the text holds the stop token"):
        renderer.render(chat(("user", f"a {family.stop} b"), ("assistant", "c")))


def test_an_unlisted_end_of_turn_token_in_the_text_of_the_first_row_is_refused_too():
    family = FAMILIES["chatml"]
    with pytest.raises(UserError, match=r"the text holds the stop token '<\|im_end\|>'"):
        renderer_of(family, listed=False).render(chat(("user", "<|im_end|>"), ("assistant", "c")))


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("labels", ["answer", "full"])
@pytest.mark.parametrize("train_stop", [True, False])
def test_a_text_that_holds_a_stop_token_is_refused_wherever_it_stands(place, labels, train_stop):
    contents = ["sys", "question", "answer"]
    contents[place] += " <|im_end|> more"
    row = chat(*zip(("system", "user", "assistant"), contents, strict=True), source="t.jsonl:9")
    renderer = renderer_of(FAMILIES["chatml"], labels=labels, train_stop=train_stop)
    with pytest.raises(
        UserError, match=r"^t.jsonl:9: the text holds the stop token '<\|im_end\|>'"
    ):
        renderer.render(row)


NO_STOP = loop("{{ message['role'] + ': ' + message['content'] + '\n' }}")


def test_a_template_without_end_of_turn_token_is_refused_when_stop_tokens_are_trained():
    tokenizer = tokenizer_with(NO_STOP)
    stop = frozenset({tokenizer.eos_token_id})
    with pytest.raises(UserError, match=r"x\.jsonl:1: no stop token follows the answer"):
        Renderer(tokenizer, stop).render(CHATS["one turn"])
    with pytest.raises(UserError, match="no stop token follows the answer"):
        Renderer(tokenizer, stop, labels="full").render(CHATS["one turn"])
    rendered = Renderer(tokenizer, stop, train_stop=False).render(CHATS["one turn"])
    trained = [label for label in rendered.labels if label != IGNORED]
    assert tokenizer.decode(trained).strip() == REGEX
    assert tokenizer.decode(rendered.input_ids) == f"user: {QUESTION}\nassistant: {REGEX}\n"


def test_an_end_in_the_next_turn_is_not_the_answers_stop_token():
    # The first answer has no end of its own; the user's turn behind it has one.
    form = loop(
        "{{ message['role'] + ': ' + message['content'] }}"
        "{% if not loop.first and (loop.last or message['role'] == 'user') %}"
        "{{ '<|end|>' }}{% endif %}{{ '\n' }}"
    )
    tokenizer = tokenizer_with(form)
    renderer = Renderer(tokenizer, frozenset({tokenizer.eos_token_id}))
    renderer.render(CHATS["one turn"])
    with pytest.raises(UserError, match="no stop token follows the answer"):
        renderer.render(CHATS["two answers"])


def test_what_stands_between_an_answer_and_its_stop_is_trained_and_what_follows_is_not():
    tokenizer = tokenizer_with(
        loop("{{ message['role'] + ': ' + message['content'] + ' END\n<|end|>\n\n' }}")
    )
    renderer = Renderer(tokenizer, frozenset({tokenizer.eos_token_id}))
    rendered = renderer.render(CHATS["one turn"])
    trained = [label for label in rendered.labels if label != IGNORED]
    assert tokenizer.decode(trained).endswith(f"{REGEX} END\n<|end|>")
    assert spans_of(rendered, tokenizer, ANSWER)[0].strip() == REGEX


def test_no_stop_tokens_of_the_prompt_are_targets_of_answer_labels():
    rendered = renderer_of(FAMILIES["chatml"]).render(CHATS["system"])
    assert set(rendered.labels[: rendered.num_prompt_tokens]) == {IGNORED}


@pytest.mark.parametrize(
    ("content", "name"),
    [(" padded", "header"), ("padded\n", "header"), ("\tpadded ", "turn"), ("a\u00a0", "header")],
)
def test_a_template_that_strips_its_content_refuses_text_with_spaces_around_it(content, name):
    renderer = renderer_of(FAMILIES[name])
    for row in (
        chat(("user", content), ("assistant", "a")),
        chat(("user", "a"), ("assistant", content)),
    ):
        with pytest.raises(UserError, match=r"x\.jsonl:1: the chat template rewrites the text"):
            renderer.render(row)


@pytest.mark.parametrize("content", [" padded", "padded\n", "\t padded \n"])
def test_a_template_that_leaves_its_content_alone_keeps_spaces_around_it(content):
    family = FAMILIES["chatml"]
    for row in (
        chat(("user", content), ("assistant", "a")),
        chat(("user", "a"), ("assistant", content)),
    ):
        check_row(renderer_of(family), row, family)


def test_a_template_that_cuts_reasoning_out_of_an_answer_is_caught():
    tokenizer = tokenizer_with(
        loop(
            "{{ '<|' + message['role'] + '|>' + message['content'].split('</think>')[-1] }}"
            "{{ eos_token }}"
        )
    )
    renderer = Renderer(tokenizer, frozenset({tokenizer.eos_token_id}), train_stop=False)
    renderer.render(CHATS["one turn"])
    with pytest.raises(UserError, match="rewrites the text"):
        renderer.render(chat(("user", "a"), ("assistant", "<think>hm</think>b")))


@pytest.mark.parametrize(
    ("form", "number"),
    [
        ("{% if message['role'] != 'system' %}{{ message['content'] }}{% endif %}", "1 (system)"),
        ("{{ message['content'] + message['content'] }}", "1 (system)"),
        ("{{ message['content'] | upper }}", "1 (system)"),
        ("{% if not loop.last %}{{ message['content'] }}{% endif %}", "3 (assistant)"),
    ],
)
def test_a_template_that_drops_or_repeats_a_turn_is_refused_with_the_turn(form, number):
    tokenizer = tokenizer_with(loop(form) + "{{ eos_token }}")
    renderer = Renderer(tokenizer, frozenset({tokenizer.eos_token_id}))
    with pytest.raises(UserError) as caught:
        renderer.render(CHATS["system"])
    assert f"x.jsonl:1: the chat template drops, repeats or moves message {number}" in str(
        caught.value
    )


def test_a_template_that_changes_the_order_of_the_turns_is_refused():
    tokenizer = tokenizer_with(
        "{% for message in messages | reverse %}{{ message['content'] }}{% endfor %}{{ eos_token }}"
    )
    renderer = Renderer(tokenizer, frozenset({tokenizer.eos_token_id}))
    with pytest.raises(UserError, match="drops, repeats or moves message 2"):
        renderer.render(CHATS["one turn"])


def test_a_turn_repeated_before_its_place_is_refused():
    tokenizer = tokenizer_with("{{ messages[-1]['content'] }}" + loop("{{ message['content'] }}"))
    renderer = Renderer(tokenizer, frozenset({tokenizer.eos_token_id}), train_stop=False)
    with pytest.raises(UserError, match=r"x\.jsonl:1: the chat template"):
        renderer.render(CHATS["one turn"])


def test_chat_rows_without_a_template_and_templates_that_fail_are_named():
    tokenizer = tokenizer_with(None)
    renderer = Renderer(tokenizer, frozenset({tokenizer.eos_token_id}))
    with pytest.raises(UserError, match=r"x\.jsonl:1: chat rows need a chat template"):
        renderer.render(CHATS["one turn"])
    renderer = Renderer(tokenizer_with("{{ 1 / 0 }}"), frozenset({tokenizer.eos_token_id}))
    with pytest.raises(UserError, match="the chat template refuses this row"):
        renderer.render(CHATS["one turn"])


def test_a_tokenizer_without_offsets_is_refused():
    class Slow:
        is_fast = False

    with pytest.raises(UserError, match="Slow reports no character offsets"):
        Renderer(Slow(), frozenset({1}))


def test_a_date_in_the_template_does_not_follow_the_clock():
    family = FAMILIES["header"]
    rendered = renderer_of(family).render(CHATS["system"])
    assert "Today Date: 01 Jan 2024\n" in rendered.prompt
    unpinned = renderer_of(family).tokenizer.apply_chat_template(
        [{"role": "user", "content": "a"}], tokenize=False
    )
    assert "01 Jan 2024" not in unpinned


def swallowing_renderer() -> Renderer:
    """Role tokens in the manner of Phi-3, which swallow the white space behind them."""
    tokenizer = train_tokenizer(TEXTS * 3, 520)
    marks = [tokenizers.AddedToken(f"<{r}>", rstrip=True, special=True) for r in ("u", "a", "e")]
    tokenizer.add_tokens(marks, special_tokens=True)
    tokenizer.chat_template = loop(
        "{{ '<' + message['role'][0] + '>\n' + message['content'] + '<e>\n' }}"
    )
    return Renderer(tokenizer, frozenset({tokenizer.convert_tokens_to_ids("<e>")}))


def test_role_tokens_that_swallow_the_line_end_behind_them_stay_template():
    renderer = swallowing_renderer()
    rendered = renderer.render(CHATS["one turn"])
    assert spans_of(rendered, renderer.tokenizer, PROMPT) == [QUESTION]
    assert spans_of(rendered, renderer.tokenizer, ANSWER) == [REGEX]
    assert rendered.labels[-1] == rendered.input_ids[-1]


def test_role_tokens_that_swallow_the_texts_own_spaces_are_no_part_of_the_text():
    renderer = swallowing_renderer()
    row = chat(("user", "  a question"), ("assistant", "  an answer"))
    try:
        rendered = renderer.render(row)
    except UserError:
        return
    assert spans_of(rendered, renderer.tokenizer, PROMPT)[0].lstrip() == "a question"
    assert spans_of(rendered, renderer.tokenizer, ANSWER)[0].lstrip() == "an answer"


def test_rows_of_different_turns_use_their_own_pieces():
    # The pieces are kept between rows: a row must not get those of another kind of row.
    family = FAMILIES["chatml"]
    renderer = renderer_of(family)
    for row in [*CHATS.values(), *reversed(CHATS.values())]:
        check_row(renderer, row, family)


# -- prompt and completion, plain text ---------------------------------------------------------


@cache
def merging_tokenizer():
    """Letters, and one merge: b and c become one token."""
    tokens = ["<|end|>", "a", "b", "c", "d", "bc"]
    model = tokenizers.models.BPE({token: i for i, token in enumerate(tokens)}, [("b", "c")])
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizers.Tokenizer(model), eos_token="<|end|>"
    )


def test_a_merge_across_the_boundary_is_cut_as_generation_will_see_it():
    tokenizer = merging_tokenizer()
    assert tokenizer("abcd")["input_ids"] == [1, 5, 4]  # positive control: b and c do merge
    rendered = Renderer(tokenizer, frozenset({0})).render(pair("ab", "cd"))
    assert rendered.split_at_answer
    assert rendered.input_ids == [1, 2, 3, 4, 0]
    assert rendered.roles == [PROMPT, PROMPT, ANSWER, ANSWER, TEMPLATE]
    assert rendered.labels == [IGNORED, IGNORED, 3, 4, 0]
    assert rendered.num_prompt_tokens == 2


def test_without_a_merge_across_the_boundary_nothing_is_cut():
    rendered = Renderer(merging_tokenizer(), frozenset({0})).render(pair("abc", "bcd"))
    assert not rendered.split_at_answer
    assert rendered.input_ids == [1, 5, 5, 4, 0]


def test_a_merge_of_template_and_answer_is_cut_too():
    # "[/INST]" and a space, then the answer: the space and the first word are one token.
    renderer = renderer_of(FAMILIES["inst"])
    rendered = renderer.render(chat(("user", "a"), ("assistant", "words with a vowel")))
    assert rendered.split_at_answer
    assert spans_of(rendered, renderer.tokenizer, ANSWER) == ["words with a vowel"]


def check_plain(tokenizer, row: Example) -> None:
    rendered = Renderer(tokenizer, frozenset({tokenizer.eos_token_id})).render(row)
    pieces = [*row.messages, "<|end|>"]
    prefix = tokenizer("x")["input_ids"][:-1]
    prefix = prefix if len(prefix) == 1 and prefix[0] == tokenizer.bos_token_id else []
    ids, roles = rendered.input_ids[len(prefix) :], rendered.roles[len(prefix) :]
    assert rendered.input_ids[: len(prefix)] == prefix
    assert set(rendered.roles[: len(prefix)]) <= {TEMPLATE}
    want = wanted(tokenizer, ids, pieces, "<|end|>")
    text = "".join(message.content for message in row.messages)
    assert b"".join(token_bytes(tokenizer, ids)).decode() == text + "<|end|>"
    assert roles == want.roles
    assert rendered.num_prompt_tokens == len(prefix) + want.num_prompt_tokens
    assert [t != IGNORED for t in rendered.labels] == [False] * len(prefix) + want.answer_targets
    alone = tokenizer(rendered.prompt)["input_ids"] if rendered.prompt else prefix
    assert rendered.input_ids[: rendered.num_prompt_tokens] == alone


@cache
def tokenizer_with_start():
    """A tokenizer that puts its start token before every text."""
    tokenizer = train_tokenizer(TEXTS * 3, 520)
    tokenizer.backend_tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="<|start|> $A", special_tokens=[("<|start|>", tokenizer.bos_token_id)]
    )
    tokenizer.chat_template = FAMILIES["header"].template
    tokenizer.add_tokens(list(FAMILIES["header"].specials), special_tokens=True)
    assert tokenizer("x")["input_ids"][0] == tokenizer.bos_token_id
    return tokenizer


PLAIN = [
    pair("words with ", "a vowel"),
    pair("words with", " a vowel"),
    pair("with", "out"),
    pair("東", "京🙂"),
    pair("a", "\n"),
    plain("lines with words"),
    plain(" é "),
]


@pytest.mark.parametrize("with_start", [False, True])
@pytest.mark.parametrize("row", PLAIN, ids=range(len(PLAIN)))
def test_plain_rows_have_their_start_token_once_their_text_and_one_end(row, with_start):
    tokenizer = tokenizer_with_start() if with_start else tokenizer_with(None)
    check_plain(tokenizer, row)
    ids = Renderer(tokenizer, frozenset({tokenizer.eos_token_id})).render(row).input_ids
    assert ids.count(tokenizer.bos_token_id) == with_start
    assert ids.count(tokenizer.eos_token_id) == 1


def test_a_start_token_that_the_template_writes_is_not_doubled():
    tokenizer = tokenizer_with_start()
    eot = tokenizer.convert_tokens_to_ids("<|eot|>")
    rendered = Renderer(tokenizer, frozenset({eot})).render(CHATS["system"])
    assert rendered.input_ids.count(tokenizer.bos_token_id) == 1
    # Positive control: tokenized once more as a plain text, it is doubled.
    assert tokenizer(rendered.prompt)["input_ids"].count(tokenizer.bos_token_id) == 2


@pytest.mark.parametrize("row", [plain("<|start|>words"), pair("<|start|>words", " with")])
def test_a_start_token_that_the_text_brings_is_not_doubled(row):
    tokenizer = tokenizer_with_start()
    rendered = Renderer(tokenizer, frozenset({tokenizer.eos_token_id})).render(row)
    assert rendered.input_ids.count(tokenizer.bos_token_id) == 1


def test_plain_rows_need_an_end_token_unless_stop_tokens_are_left_out():
    model = tokenizers.models.BPE({"a": 0, "b": 1}, [])
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizers.Tokenizer(model))
    with pytest.raises(UserError, match="no stop token follows the answer"):
        Renderer(tokenizer, frozenset()).render(pair("a", "b"))
    rendered = Renderer(tokenizer, frozenset(), train_stop=False).render(pair("a", "b"))
    assert (rendered.input_ids, rendered.labels) == ([0, 1], [IGNORED, 1])


def test_an_answer_that_the_tokenizer_drops_is_refused():
    model = tokenizers.models.BPE({"a": 0, "<|end|>": 1}, [])  # without unk, others vanish
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizers.Tokenizer(model), eos_token="<|end|>"
    )
    with pytest.raises(UserError, match=r"x\.jsonl:1: the answer gives no token"):
        Renderer(tokenizer, frozenset({1})).render(pair("a", "z"))


def spaced_tokenizer():
    """In the manner of SentencePiece: a space, written ▁, is put before every text."""
    letters = ["<|end|>", "▁", "a", "b", "c", "d", "▁a", "bc"]
    model = tokenizers.models.BPE(
        {token: i for i, token in enumerate(letters)}, [("▁", "a"), ("b", "c")]
    )
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace(
        replacement="▁", prepend_scheme="first", split=False
    )
    tokenizer.decoder = tokenizers.decoders.Metaspace(replacement="▁", prepend_scheme="first")
    return transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>")


def test_cutting_at_the_boundary_brings_no_space_that_the_text_has_not():
    tokenizer = spaced_tokenizer()
    assert tokenizer.decode(tokenizer("abcd")["input_ids"]) == "abcd"
    rendered = Renderer(tokenizer, frozenset({0})).render(pair("ab", "cd"))
    assert tokenizer.decode(rendered.input_ids[:-1]) == "abcd"


# -- any text ----------------------------------------------------------------------------------

SETTINGS = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)
SOME_TEXT = st.text(min_size=1, max_size=25).filter(lambda text: text.strip())


@pytest.mark.parametrize("name", FAMILIES)
@SETTINGS
@given(contents=st.lists(SOME_TEXT, min_size=3, max_size=5), system=st.booleans())
@example(contents=["a\n", "\n\nb", "\nc\n"], system=False)
@example(contents=["\u0301", "e\u0301\u0301", "\u200d"], system=True)
def test_any_text_is_rendered_as_it_is_or_refused(name, contents, system):
    family = FAMILIES[name]
    first = ["system"] if system and family.has_system and len(contents) % 2 else []
    roles = first + ["user", "assistant"] * 3
    contents = contents[: len(contents) - (len(contents) - len(first)) % 2]
    row = chat(*zip(roles, contents, strict=False))
    special = renderer_of(family)._special_ids
    names = renderer_of(family).tokenizer.convert_ids_to_tokens(sorted(special))
    if any(token in content for token in names for content in contents):
        with pytest.raises(UserError, match=r"rewrites the text|holds the (stop|special) token"):
            renderer_of(family).render(row)
        return
    clean = all(content == content.strip() for content in contents)
    if clean or name not in ("header", "turn"):
        check_row(renderer_of(family), row, family)
        return
    # A template that strips refuses what it would have changed.
    with pytest.raises(UserError, match=r"^x\.jsonl:1: the chat template rewrites the text"):
        renderer_of(family).render(row)


@pytest.mark.parametrize("with_start", [False, True])
@SETTINGS
@given(prompt=SOME_TEXT, answer=SOME_TEXT)
@example(prompt="é", answer="\u0301")
def test_any_prompt_and_completion_keep_their_bounds(with_start, prompt, answer):
    tokenizer = tokenizer_with_start() if with_start else tokenizer_with(None)
    # A text that holds a special token is refused, which other tests show.
    assume(not any(token in prompt + answer for token in tokenizer.all_special_tokens))
    assume("<|" not in prompt + answer)
    check_plain(tokenizer, pair(prompt, answer))
    check_plain(tokenizer, plain(answer))


# -- real data ---------------------------------------------------------------------------------


def shared() -> Path:
    if "SEMTUBE_SHARED" not in os.environ:
        pytest.skip("SEMTUBE_SHARED is not set: no NL-RX data and no stories260k here")
    return Path(os.environ["SEMTUBE_SHARED"])


def test_all_training_rows_of_nl_rx_render_and_their_spans_are_their_text():
    rows = read_examples(shared() / "data" / "nl_rx" / "synth_train.jsonl")
    assert len(rows) == 8000
    # A SentencePiece-style vocabulary of 512 with byte fallback, and an end token that pads.
    tokenizer = transformers.AutoTokenizer.from_pretrained(shared() / "models" / "stories260k")
    tokenizer.chat_template = "{{ bos_token }}" + loop(
        "{{ message['role'] + '\n' + message['content'] + '\n' }}"
        "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}"
    )
    assert tokenizer.pad_token_id == tokenizer.eos_token_id
    renderer = Renderer(tokenizer, frozenset({tokenizer.eos_token_id}))
    for row in rows:
        rendered = renderer.render(row)
        for role, message in zip((SYSTEM, PROMPT, ANSWER), row.messages, strict=True):
            (text,) = spans_of(rendered, tokenizer, role)
            assert text == message.content, row.source
        trained = [label for label in rendered.labels if label != IGNORED]
        assert trained[-1] == tokenizer.eos_token_id
        assert tokenizer.unk_token_id not in rendered.input_ids


def test_rows_of_nl_rx_render_with_chatml_and_generation_sees_their_prompt():
    family = FAMILIES["chatml"]
    renderer = renderer_of(family)
    for row in read_examples(shared() / "data" / "nl_rx" / "turk_train.jsonl")[::20]:
        check_row(renderer, row, family)
