"""Decoding on a server of the same model, such as vLLM's, through the OpenAI completions API.

A fast engine pins its own torch, so it runs elsewhere: `vllm serve MODEL`, and its URL here.
Prompts go as token ids and answers come back as token ids (`return_token_ids`: vLLM since 0.10.2,
SGLang), so no text is tokenized twice. Engines differ in the last bits of a logit, and so now and
then in a token: all arms of one comparison must be decoded by the same engine.
"""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from typing import Any

from semtube.errors import UserError
from semtube.evaluation.decoding import Decoded

#: Prompts of a request, and requests at a time: 256 prompts keep a server's batch full.
_PROMPTS_A_REQUEST, _REQUESTS = 32, 8
_TIMEOUT_SECONDS = 600.0
_MOST_BYTES = 2**26
#: Greedy, whatever the served model's own generation settings say.
_GREEDY: dict[str, Any] = {
    "temperature": 0.0,
    "top_p": 1.0,
    "top_k": 0,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "n": 1,
    "min_tokens": 0,
    "ignore_eos": True,  # our own stop tokens alone end an answer
    "return_token_ids": True,
    "stream": False,
}


@dataclass(frozen=True)
class Server:
    """Where completions come from.

    Args:
        url: such as `http://localhost:8000`, with or without `/v1`.
        model: the name it is served under; unset where the server has only one.
        api_key: sent as a bearer token.
        timeout_seconds: how long a request may take.
    """

    url: str
    model: str | None = None
    api_key: str | None = field(default=None, repr=False)
    timeout_seconds: float = _TIMEOUT_SECONDS

    def decode(
        self,
        prompts: Sequence[list[int]],
        max_new_tokens: int,
        *,
        stop_ids: frozenset[int],
        on_progress: Callable[[int], None] = lambda num_done: None,
    ) -> list[Decoded]:
        """The most likely answers, as `decode_greedily` gives them, in the order of the prompts.

        Raises:
            UserError: the server cannot be reached, refuses a request, does not serve the model,
                or answers with anything but the tokens asked for.
        """
        if not prompts:
            return []
        settings = {
            **_GREEDY,
            "model": self.model or self._only_model(),
            "max_tokens": max_new_tokens,
            "stop_token_ids": sorted(stop_ids),
        }
        order = sorted(range(len(prompts)), key=lambda i: -len(prompts[i]))
        parts = [
            order[start : start + _PROMPTS_A_REQUEST]
            for start in range(0, len(order), _PROMPTS_A_REQUEST)
        ]
        decoded: dict[int, Decoded] = {}
        executor = ThreadPoolExecutor(_REQUESTS)
        try:
            pending = {
                executor.submit(self._complete, [prompts[i] for i in part], settings): part
                for part in parts
            }
            for done in as_completed(pending):
                decoded.update(zip(pending[done], done.result(), strict=True))
                on_progress(len(decoded))
        finally:
            executor.shutdown(wait=False, cancel_futures=True)
        return [decoded[i] for i in range(len(prompts))]

    def _only_model(self) -> str:
        """The name of the one model that is served."""
        try:
            names = [entry["id"] for entry in self._ask("models")["data"]]
        except (KeyError, TypeError) as error:
            raise UserError(f"server {self.url!r} does not list its models: name one") from error
        if len(names) != 1:
            raise UserError(
                f"server {self.url!r} serves {len(names)} models ({', '.join(map(str, names))}): "
                "name the one to use"
            )
        return names[0]

    def _complete(self, prompts: list[list[int]], settings: dict[str, Any]) -> list[Decoded]:
        reply = self._ask("completions", {**settings, "prompt": prompts})
        try:
            choices = sorted(reply["choices"], key=lambda choice: choice["index"])
        except (KeyError, TypeError) as error:
            raise UserError(f"server {self.url!r} answered without choices") from error
        if len(choices) != len(prompts):
            raise UserError(
                f"server {self.url!r} gave {len(choices)} answers to {len(prompts)} prompts"
            )
        stop_ids = frozenset(settings["stop_token_ids"])
        return [
            self._read(choice, prompt, stop_ids)
            for choice, prompt in zip(choices, prompts, strict=True)
        ]

    def _read(self, choice: dict[str, Any], prompt: list[int], stop_ids: frozenset[int]) -> Decoded:
        tokens = choice.get("token_ids")
        if not isinstance(tokens, list) or not all(type(token) is int for token in tokens):
            raise UserError(
                f"server {self.url!r} gives no token ids: it must know return_token_ids, as vLLM "
                "does since 0.10.2"
            )
        if choice.get("prompt_token_ids") not in (None, prompt):
            raise UserError(f"server {self.url!r} changed the tokens of a prompt")
        end = next((place for place, token in enumerate(tokens) if token in stop_ids), None)
        stopped = end is not None or choice.get("stop_reason") in stop_ids
        if choice.get("finish_reason") != ("stop" if stopped else "length"):
            raise UserError(
                f"server {self.url!r} ended an answer for another reason than its stop tokens and "
                f"its length (finish_reason {choice.get('finish_reason')!r}, stop_reason "
                f"{choice.get('stop_reason')!r}): serve the same model with its own settings"
            )
        return Decoded(tokens[:end], stopped)

    def _ask(self, path: str, body: dict[str, Any] | None = None) -> Any:
        request = urllib.request.Request(
            f"{self._root()}/{path}",
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"}
            | ({"Authorization": f"Bearer {self.api_key}"} if self.api_key else {}),
        )
        try:
            with urllib.request.urlopen(request, timeout=self.timeout_seconds) as reply:
                text = reply.read(_MOST_BYTES + 1)
        except urllib.error.HTTPError as error:
            raise UserError(
                f"server {self.url!r} refuses ({error.code}): {_message(error)}"
            ) from error
        except (OSError, ValueError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            raise UserError(
                f"server {self.url!r} cannot be reached ({reason}): start it, or correct its URL"
            ) from error
        if len(text) > _MOST_BYTES:
            raise UserError(f"server {self.url!r} answered with more than {_MOST_BYTES:,} bytes")
        try:
            return json.loads(text)
        except ValueError as error:
            raise UserError(f"server {self.url!r} answered with no JSON: {text[:80]!r}") from error

    def _root(self) -> str:
        parts = urllib.parse.urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise UserError(
                f"server is {self.url!r}: it must be a URL such as http://localhost:8000"
            )
        return self.url.rstrip("/").removesuffix("/v1") + "/v1"


def server_decoder(
    url: str,
    stop_ids: frozenset[int],
    on_progress: Callable[[int], None] = lambda num_done: None,
) -> Callable[[Sequence[list[int]], int], list[Decoded]]:
    """A function of prompts and the most tokens of an answer, which the server at `url` decodes."""

    def decode(prompts: Sequence[list[int]], max_new_tokens: int) -> list[Decoded]:
        return Server(url).decode(
            prompts, max_new_tokens, stop_ids=stop_ids, on_progress=on_progress
        )

    return decode


def _message(error: urllib.error.HTTPError) -> str:
    """What the server says of a refusal: OpenAI's form, or the start of any other."""
    with error:
        text = error.read(10_000).decode(errors="replace")
    try:
        reply = json.loads(text)
        found = reply.get("error", reply)
        message = found.get("message") or found.get("detail")
    except (ValueError, AttributeError):
        message = None
    return str(message or text or error.reason).strip()[:300]
