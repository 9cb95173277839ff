"""Decoding on a server: a small one on loopback that speaks the OpenAI completions protocol."""

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from semtube.errors import UserError
from semtube.evaluation.decoding import Decoded
from semtube.evaluation.engine import Server, server_decoder

STOP = 1
STOPS = frozenset({STOP, 99})


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")


def continuation(prompt: list[int], limit: int) -> list[int]:
    """What the served model writes: counting on from the last token, a stop token after 7s."""
    written, token = [], prompt[-1]
    while len(written) < limit and token not in STOPS:
        token = STOP if token % 7 == 0 else token + 1
        written.append(token)
    return written


def wanted(prompt: list[int], limit: int) -> Decoded:
    written = continuation(prompt, limit)
    stopped = written[-1] in STOPS
    return Decoded(written[:-1] if stopped else written, stopped)


def answered(body: dict) -> dict:
    """A whole reply as vLLM gives it."""
    choices = []
    for index, prompt in enumerate(body["prompt"]):
        written = continuation(prompt, body["max_tokens"])
        stopped = written[-1] in body["stop_token_ids"]
        choices.append(
            {
                "index": index,
                "text": "...",
                "token_ids": written,
                "prompt_token_ids": prompt,
                "finish_reason": "stop" if stopped else "length",
                "stop_reason": written[-1] if stopped else None,
            }
        )
    return {"choices": choices}


@contextmanager
def serving(reply=answered, models=("m",), status=200):
    """A server's URL and the (path, headers, body) of the requests that it gets."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append((self.path, self.headers, None))
            self.send({"data": [{"id": name} for name in models]}, 200)

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append((self.path, self.headers, body))
            self.send(reply(body), status)

        def send(self, content, code):
            text = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(code)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()


PROMPTS = [[3, k] for k in range(2, 80)] + [[5] * 20]


def test_answers_are_the_models_in_the_order_of_the_prompts():
    with serving() as (url, asked):
        told = []
        found = server_decoder(url, STOPS, told.append)(PROMPTS, 6)
    assert found == [wanted(prompt, 6) for prompt in PROMPTS]
    assert {row.stopped for row in found} == {True, False}
    assert sorted(told) == told
    assert told[-1] == len(PROMPTS)
    bodies = [body for _, _, body in asked if body]
    assert len(bodies) == 3  # of 32 prompts at most
    assert sorted(prompt for body in bodies for prompt in body["prompt"]) == sorted(PROMPTS)


def test_the_request_asks_for_the_likeliest_tokens_whatever_the_servers_own_settings():
    with serving() as (url, asked):
        Server(url + "/v1/", api_key="secret").decode([[3]], 6, stop_ids=STOPS)
    assert [path for path, _, _ in asked] == ["/v1/models", "/v1/completions"]
    assert all(headers["Authorization"] == "Bearer secret" for _, headers, _ in asked)
    assert asked[1][2] == {
        "model": "m", "prompt": [[3]], "max_tokens": 6, "stop_token_ids": [1, 99],
        "temperature": 0.0, "top_p": 1.0, "top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0,
        "presence_penalty": 0.0, "frequency_penalty": 0.0, "n": 1, "min_tokens": 0,
        "ignore_eos": True, "return_token_ids": True, "stream": False,
    }  # fmt: skip


def test_a_key_is_not_shown():
    assert "secret" not in repr(Server("http://x", api_key="secret"))


def test_choices_in_another_order_are_put_right():
    def reversed_choices(body):
        return {"choices": answered(body)["choices"][::-1]}

    with serving(reversed_choices) as (url, _):
        found = server_decoder(url, STOPS)(PROMPTS, 6)
    assert found == [wanted(prompt, 6) for prompt in PROMPTS]


def test_a_stop_token_that_the_server_takes_off_still_stops():
    def without_stop(body):
        reply = answered(body)
        for choice in reply["choices"]:
            choice["token_ids"] = [t for t in choice["token_ids"] if t not in STOPS]
            del choice["prompt_token_ids"]
        return reply

    with serving(without_stop) as (url, _):
        found = server_decoder(url, STOPS)(PROMPTS, 6)
    assert found == [wanted(prompt, 6) for prompt in PROMPTS]


def test_a_named_model_is_not_looked_up():
    with serving(models=("a", "b")) as (url, asked):
        Server(url, model="b").decode([[3]], 6, stop_ids=STOPS)
    assert [body["model"] for _, _, body in asked] == ["b"]


def test_no_prompts_ask_nothing():
    with serving() as (url, asked):
        assert server_decoder(url, STOPS)([], 6) == []
    assert asked == []


@pytest.mark.parametrize("models", [(), ("a", "b")])
def test_without_a_name_there_must_be_one_model(models):
    with (
        serving(models=models) as (url, _),
        pytest.raises(UserError, match=f"serves {len(models)} models .*name the one"),
    ):
        server_decoder(url, STOPS)([[3]], 6)


def changed(**values):
    def reply(body):
        return {"choices": [choice | values for choice in answered(body)["choices"]]}

    return reply


BAD_REPLIES = {
    "answered with no JSON": lambda body: b"<html>",
    "answered without choices": lambda body: {"object": "error"},
    "gave 0 answers to 1 prompts": lambda body: {"choices": []},
    "gives no token ids": changed(token_ids=None),
    "gives no token ids: it": changed(token_ids=["a"]),
    "changed the tokens of a prompt": changed(prompt_token_ids=[2, 3]),
    "finish_reason 'abort'": changed(finish_reason="abort"),
    "finish_reason 'stop', stop_reason 55": changed(
        token_ids=[4], finish_reason="stop", stop_reason=55
    ),
    "finish_reason 'length'": changed(token_ids=[4, STOP], finish_reason="length"),
}


@pytest.mark.parametrize("message", BAD_REPLIES)
def test_a_reply_that_cannot_be_used_is_told(message):
    with serving(BAD_REPLIES[message]) as (url, _), pytest.raises(UserError, match=message):
        server_decoder(url, STOPS)([[3]], 6)


def test_a_reply_without_end_is_cut_off(monkeypatch):
    monkeypatch.setattr("semtube.evaluation.engine._MOST_BYTES", 1000)
    with (
        serving(changed(text="x" * 2000)) as (url, _),
        pytest.raises(UserError, match="more than 1,000 bytes"),
    ):
        Server(url, model="m").decode([[3]], 6, stop_ids=STOPS)


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        ({"error": {"message": "too long", "code": 400}}, "too long"),
        ({"detail": "no such model"}, "no such model"),
        (b"Bad Gateway", "Bad Gateway"),
        (b"", "Bad Request"),
        ([1], "1"),
    ],
)
def test_a_refusal_tells_what_the_server_says(reply, message):
    with (
        serving(lambda body: reply, status=400) as (url, _),
        pytest.raises(UserError, match=rf"refuses \(400\): .*{message}"),
    ):
        server_decoder(url, STOPS)([[3]], 6)


def test_nobody_there():
    with serving() as (url, _):
        pass
    with pytest.raises(UserError, match=r"cannot be reached \(.*refused"):
        server_decoder(url, STOPS)([[3]], 6)


def test_one_who_never_answers():
    release = threading.Event()

    def slow(body):
        release.wait(5)
        return answered(body)

    with serving(slow) as (url, _):
        with pytest.raises(UserError, match=r"cannot be reached \(timed out\)"):
            Server(url, timeout_seconds=0.2).decode([[3]], 6, stop_ids=STOPS)
        release.set()


@pytest.mark.parametrize("url", ["localhost:8000", "file:///etc/passwd", "http://", ""])
def test_an_address_that_is_none(url):
    with pytest.raises(UserError, match="it must be a URL such as http://localhost:8000"):
        server_decoder(url, STOPS)([[3]], 6)
