"""From an example to tokens: where prompt, answer and template stand, and what is trained.

The template is rendered once with place-holders, which gives its fixed pieces; filled in, they must
give exactly what the template makes of the real text. Character spans become token roles through
the tokenizer's offsets. No model family needs a constant of its own.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from semtube.data.examples import Example
from semtube.errors import UserError
from semtube.objectives.trajectories import ANSWER, PROMPT, SYSTEM, TEMPLATE

IGNORED = -100
#: Templates that print today's date get this one, or prompts would drift between days.
TEMPLATE_DATE = datetime.datetime(2024, 1, 1)
#: A macro of the name under which templates ask for the date; it hides the host's function.
_FIXED_DATE = (
    "{%- macro strftime_now(format) -%}{{- format | replace('%-d', '1')"
    + "".join(f" | replace('%{code}', '{TEMPLATE_DATE:%{code}}')" for code in "aAdbBmyYHIMSpj")
    + " -}}{%- endmacro -%}"
)
_ROLE_OF = {"system": SYSTEM, "user": PROMPT, "assistant": ANSWER}

Labels = Literal["answer", "full"]
ChatForm = Literal["template", "plain"]


@dataclass(frozen=True)
class Rendered:
    """One example as tokens.

    Args:
        input_ids: the whole row.
        roles: of each token, see `semtube.objectives.trajectories`.
        labels: the token itself where its prediction is trained, else -100.
        num_prompt_tokens: how many tokens stand before the last answer; generation begins there.
        answer: text of the last answer.
        prompt: text before the last answer, template included.
        source: file and line.
        digest: of the example, the same for every model.
        split_at_answer: the tokenizer merges the end of the prompt with the start of the answer,
            so the two were tokenized apart, as generation will see them.
        fields: the row's keys beside its texts, for its scorer.
    """

    input_ids: list[int]
    roles: list[int]
    labels: list[int]
    num_prompt_tokens: int
    answer: str
    prompt: str
    source: str
    digest: str
    split_at_answer: bool
    fields: Mapping[str, Any] = field(default_factory=dict, compare=False)

    def num_tokens_of(self, roles: Sequence[int]) -> int:
        """Tokens with one of these roles."""
        return sum(role in roles for role in self.roles)


class Renderer:
    """Renders examples for one model.

    Args:
        tokenizer: a fast one, which reports character offsets.
        stop_ids: the model's stop tokens. The template's own end-of-turn token is added to
            `self.stop_ids` where it is another.
        labels: `answer` trains the answers and their stop tokens, `full` every token.
        train_stop: False leaves the stop tokens out of the targets, as the paper's code does for
            models whose padding is their end token.
        chat_form: `plain` renders chat rows as plain prompt and answer, without a template.

    Raises:
        UserError: the tokenizer reports no offsets.
    """

    def __init__(
        self,
        tokenizer: Any,
        stop_ids: frozenset[int],
        *,
        labels: Labels = "answer",
        train_stop: bool = True,
        chat_form: ChatForm = "template",
    ) -> None:
        if not tokenizer.is_fast:
            raise UserError(
                f"{type(tokenizer).__name__} reports no character offsets: use the fast tokenizer"
            )
        self.tokenizer = tokenizer
        self.stop_ids = stop_ids
        self.labels = labels
        self.train_stop = train_stop
        self.chat_form = chat_form
        self._pieces: dict[tuple[str, ...], list[str]] = {}
        self._prefix_ids = _prefix_ids(tokenizer)
        self._special_ids = _special_ids(tokenizer)

    def render(self, example: Example) -> Rendered:
        """Tokens, roles and labels of one example.

        Raises:
            UserError: the template is missing, fails, or rewrites the text; the text holds a stop
                token; or no stop token follows the answer. The row is named.
        """
        digest = example.digest()
        if self.chat_form == "plain":
            example = example.without_template()
        pieces = self._pieces_for(example)
        text, spans = _fill(pieces, [message.content for message in example.messages])
        if example.kind == "chat":
            self._check_unchanged(example, text)
        answer_start = spans[-1][0]
        ids, offsets, num_prompt_tokens, apart = self._tokenize(text, answer_start)
        self._check_boundaries(ids, offsets, spans, example.source)
        roles = _token_roles(offsets, spans, [_ROLE_OF[m.role] for m in example.messages])
        if ANSWER not in roles[num_prompt_tokens:]:
            raise UserError(f"{example.source}: the answer gives no token")
        if example.kind != "chat":
            ids, roles, added = self._frame(ids, roles)
            num_prompt_tokens += added
        return Rendered(
            input_ids=ids,
            roles=roles,
            labels=self._targets(ids, roles, example.source),
            num_prompt_tokens=num_prompt_tokens,
            answer=example.answer,
            prompt=text[:answer_start],
            source=example.source,
            digest=digest,
            split_at_answer=apart,
            fields=example.fields,
        )

    def continuation(self, prompt: str, text: str) -> tuple[list[int], list[int]]:
        """Tokens of a prompt and of a text that may follow it, parted as `render` parts a row.

        Raises:
            UserError: the text holds a special token, or gives no token at all.
        """
        ids, _, num_prompt_tokens, _ = self._tokenize(prompt + text, len(prompt))
        following = ids[num_prompt_tokens:]
        if not following:
            raise UserError(f"{text[:40]!r} gives no token")
        if forged := (self._special_ids | self.stop_ids) & set(following):
            token = self.tokenizer.convert_ids_to_tokens(min(forged))
            raise UserError(f"{text[:40]!r} holds the special token {token!r}: take it out")
        return ids[:num_prompt_tokens], following

    def ending_of(self, row: Rendered) -> list[int]:
        """The tokens behind a row's last answer, up to and with its stop token."""
        end = max(place for place, role in enumerate(row.roles) if role == ANSWER)
        stop = self._stop_after(row.input_ids, row.roles, end, is_last=True)
        return [] if stop is None else row.input_ids[end + 1 : stop + 1]

    def start_ids(self, ids: list[int]) -> list[int]:
        """The start tokens that a plain text's tokens lack."""
        prefix = self._prefix_ids
        return [] if ids[: len(prefix)] == prefix else prefix

    def _frame(self, ids: list[int], roles: list[int]) -> tuple[list[int], list[int], int]:
        """Start and end tokens around a text without a template; also how many stand in front."""
        prefix, eos = self._prefix_ids, self.tokenizer.eos_token_id
        end = [] if eos is None else [eos]
        if prefix and not self.start_ids(ids):  # the text brings its own
            return ids + end, [TEMPLATE] * len(prefix) + roles[len(prefix) :] + [TEMPLATE], 0
        around = [TEMPLATE] * len(prefix) + roles + [TEMPLATE] * len(end)
        return prefix + ids + end, around, len(prefix)

    def _pieces_for(self, example: Example) -> list[str]:
        """The fixed text before, between and after the turns."""
        if example.kind != "chat":
            return [""] * (len(example.messages) + 1)
        roles = tuple(message.role for message in example.messages)
        if roles not in self._pieces:
            places = [f"Qz{number}xPLACEx{number}zQ" for number in range(len(roles))]
            turns = [{"role": r, "content": p} for r, p in zip(roles, places, strict=True)]
            rest, pieces = self._apply_template(turns, example.source), []
            for number, place in enumerate(places, 1):
                if rest.count(place) != 1:
                    raise UserError(
                        f"{example.source}: the chat template drops, repeats or moves message "
                        f"{number} ({roles[number - 1]}): leave it out or use another template"
                    )
                before, rest = rest.split(place)
                pieces.append(before)
            self._pieces[roles] = [*pieces, rest]
        return self._pieces[roles]

    def _apply_template(self, turns: list[dict[str, str]], source: str) -> str:
        if not self.tokenizer.chat_template:
            raise UserError(
                f"{source}: chat rows need a chat template and this tokenizer has none: give it "
                "one, or set chat_form to plain"
            )
        template = self.tokenizer.get_chat_template()
        if "strftime_now" in template:
            template = _FIXED_DATE + template
        try:
            return self.tokenizer.apply_chat_template(turns, tokenize=False, chat_template=template)
        except Exception as error:  # templates raise what they like
            raise UserError(f"{source}: the chat template refuses this row ({error})") from error

    def _check_unchanged(self, example: Example, text: str) -> None:
        turns = [{"role": m.role, "content": m.content} for m in example.messages]
        real = self._apply_template(turns, example.source)
        if real != text:
            at = next(
                (i for i, (a, b) in enumerate(zip(real, text, strict=False)) if a != b),
                min(len(real), len(text)),
            )
            raise UserError(
                f"{example.source}: the chat template rewrites the text (it should give "
                f"{text[at : at + 20]!r} where it gives {real[at : at + 20]!r}); often spaces at "
                "the start or end of a message: strip them"
            )

    def _tokenize(
        self, text: str, answer_start: int
    ) -> tuple[list[int], list[tuple[int, int]], int, bool]:
        """Ids, character offsets, tokens before the answer, and whether it was cut off there."""

        ids, offsets = self._encode(text)
        prompt_ids, prompt_offsets = self._encode(text[:answer_start])
        if ids[: len(prompt_ids)] == prompt_ids:
            return ids, offsets, len(prompt_ids), False
        answer_ids, answer_offsets = self._encode_within(text[answer_start:])
        shifted = [(a + answer_start, b + answer_start) for a, b in answer_offsets]
        return prompt_ids + answer_ids, prompt_offsets + shifted, len(prompt_ids), True

    def _encode(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        if not text:
            return [], []
        encoded = self.tokenizer(
            text, add_special_tokens=False, return_offsets_mapping=True, verbose=False
        )
        return encoded["input_ids"], [tuple(pair) for pair in encoded["offset_mapping"]]

    def _encode_within(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Tokens of a text that does not stand at the start, where some tokenizers add a space."""
        marks = {mark: self._encode(mark)[0] for mark in ("\n", "|", ".", "a")}
        for mark, mark_ids in marks.items():
            ids, offsets = self._encode(mark + text)
            if mark_ids and ids[: len(mark_ids)] == mark_ids:
                cut = [(max(a - 1, 0), max(b - 1, 0)) for a, b in offsets[len(mark_ids) :]]
                return ids[len(mark_ids) :], cut
        raise UserError(f"the tokenizer merges {text[:20]!r} with whatever stands before it")

    def _check_boundaries(
        self,
        ids: list[int],
        offsets: list[tuple[int, int]],
        spans: list[tuple[int, int]],
        source: str,
    ) -> None:
        """Some special tokens take the spaces around them, and with them the start of a text."""
        for token, (left, right) in zip(ids, offsets, strict=True):
            if token in self._special_ids and any(
                left < start < right <= stop for start, stop in spans
            ):
                raise UserError(
                    f"{source}: the special token "
                    f"{self.tokenizer.convert_ids_to_tokens(token)!r} swallows the spaces that a "
                    "message begins with: strip them"
                )

    def _targets(self, ids: list[int], roles: list[int], source: str) -> list[int]:
        targets = [role == ANSWER or self.labels == "full" for role in roles]
        ends = [
            i
            for i, role in enumerate(roles)
            if role == ANSWER and (i + 1 == len(roles) or roles[i + 1] != ANSWER)
        ]
        for end in reversed(ends):
            stop = self._stop_after(ids, roles, end, is_last=end == ends[-1])
            if stop is None and self.train_stop:
                raise UserError(
                    f"{source}: no stop token follows the answer, so the model cannot learn to "
                    "stop: use a template (or tokenizer) with one, or set train_stop to false"
                )
            # What stands between the answer and its stop token must be generated too.
            targets[end + 1 : (stop or end) + 1] = [True] * ((stop or end) - end)
        reserved = self._special_ids | self.stop_ids
        for i, token in enumerate(ids):
            # In a text it would forge a turn, or an end.
            if roles[i] != TEMPLATE and token in reserved:
                kind = "stop token" if token in self.stop_ids else "special token"
                raise UserError(
                    f"{source}: the text holds the {kind} "
                    f"{self.tokenizer.convert_ids_to_tokens(token)!r}: take it out"
                )
            if token in self.stop_ids:
                targets[i] = targets[i] and self.train_stop
        return [token if target else IGNORED for token, target in zip(ids, targets, strict=True)]

    def _stop_after(
        self, ids: list[int], roles: list[int], end: int, *, is_last: bool
    ) -> int | None:
        """Index of the stop token behind an answer's last token, before the next turn's text."""
        tail = []
        for i in range(end + 1, len(ids)):
            if roles[i] != TEMPLATE:
                break
            tail.append(i)
        known = next((i for i in tail if ids[i] in self.stop_ids), None)
        if known is not None or not is_last:
            return known
        # The template ends its turns with a special token that the model's settings do not list.
        special = next((i for i in tail if ids[i] in self._special_ids), None)
        if special is not None:
            self.stop_ids |= {ids[special]}
        return special


def _fill(pieces: list[str], contents: list[str]) -> tuple[str, list[tuple[int, int]]]:
    """The whole text, and the character span of each content in it."""
    text, spans = pieces[0], []
    for content, piece in zip(contents, pieces[1:], strict=True):
        spans.append((len(text), len(text) + len(content)))
        text += content + piece
    return text, spans


def _token_roles(
    offsets: list[tuple[int, int]], spans: list[tuple[int, int]], span_roles: list[int]
) -> list[int]:
    """Role of each token; one that holds any of a turn's text belongs to that turn."""
    roles = [TEMPLATE] * len(offsets)
    token = 0
    for (start, stop), role in zip(spans, span_roles, strict=True):
        inside = []
        while token < len(offsets) and offsets[token][0] < stop:
            if offsets[token][1] > start:
                inside.append(token)
            token += 1
        if inside:  # a token without an offset of its own, between others, belongs to them
            roles[inside[0] : inside[-1] + 1] = [role] * (inside[-1] + 1 - inside[0])
    return roles


def _prefix_ids(tokenizer: Any) -> list[int]:
    """Special tokens that this tokenizer puts before a plain text (often a start token)."""
    plain = tokenizer("a", add_special_tokens=False)["input_ids"]
    whole = tokenizer("a")["input_ids"]
    for start in range(len(whole) - len(plain) + 1):
        if whole[start : start + len(plain)] == plain:
            return whole[:start]
    return []


def _special_ids(tokenizer: Any) -> frozenset[int]:
    added = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    return frozenset(added | set(tokenizer.all_special_ids))
