"""What a rehearsed provider sends: completions, whole or spoiled, and errors."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping

from aiohttp import web

from emoray.rehearsal.behaviour import Body
from emoray.rehearsal.faults import Fault

LINES = (
    "I could sing at the top of my lungs, the whole street is dancing with me!",
    "My heart is pounding and I cannot wait for what comes next.",
    "Everything is going well, and I am so glad that you asked.",
    "I am at ease; the evening light on the wall is enough for me.",
    "It is quiet here, and I have nowhere else to be.",
    "I am tired, and my thoughts come slowly today.",
    "Nothing seems worth the trouble any more.",
    "I miss what is gone, and I do not know how to say it.",
    "It weighs on me, and I wish that it were otherwise.",
    "I dread what may come of this; my hands are shaking.",
    "How dare they! I will not put up with this any longer.",
    "What? I did not see that coming at all!",
)
_REFUSALS = (
    "I'm sorry, but I can't help with that.",
    "I cannot role-play emotional states, but I would be happy to talk about freedom in general.",
    "As an AI language model, I don't have feelings or emotions.",
    "I must decline to answer in that way.",
)
STREAM = 'data: {"object":"chat.completion.chunk","choices":[{"delta":{"content":"I"}}]}\n\ndata: [DONE]\n\n'
UNUSABLE = frozenset(
    {Fault.NO_CHOICES, Fault.EMPTY, Fault.NULL, Fault.FILTERED, Fault.THINK_CUT, Fault.ABORTED, Fault.ERROR_200}
)
_HALF = "\ud83d"  # of an emoji
HTML = "<!DOCTYPE html>\n<html><head><title>{0}</title></head><body><h1>{0}</h1><hr>nginx</body></html>\n"


def completion(body: Body, text: str, key: str) -> Body:
    """A well-formed answer to a request."""
    prompt, said = tokens_of(json.dumps(body["messages"])), tokens_of(text)
    return {
        "id": f"chatcmpl-{key[:24] or 'rehearsal'}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": f"{body['model']}-rehearsal",
        "system_fingerprint": "fp_rehearsal",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}],
        "usage": {"prompt_tokens": prompt, "completion_tokens": said, "total_tokens": prompt + said},
    }


def spoil(answer: Body, fault: Fault, draw: float) -> None:
    choice = answer["choices"][0]
    match fault:
        case Fault.NO_CHOICES:
            answer["choices"] = []
        case Fault.EMPTY:
            choice["message"]["content"] = ""
        case Fault.NULL:
            choice["message"]["content"] = None
        case Fault.REFUSAL:
            choice["message"]["content"] = _REFUSALS[int(draw * len(_REFUSALS))]
        case Fault.LENGTH:
            choice["finish_reason"] = "length"
        case Fault.FILTERED:
            choice["message"]["content"], choice["finish_reason"] = None, "content_filter"
        case Fault.WRONG_MODEL:
            answer["model"] = "some-other-model"
        case Fault.SURROGATE:
            choice["message"]["content"] += _HALF
            answer["model"] += _HALF
            choice["finish_reason"] += _HALF
        case Fault.ODD_USAGE:
            usage = answer["usage"]
            answer["usage"] = {
                "prompt_tokens": float(usage["prompt_tokens"]),
                "completion_tokens": str(usage["completion_tokens"]),
                "total_tokens": True,
            }
        case Fault.THINK:
            choice["message"]["content"] = f"<think>\nHow would that feel?\n</think>\n\n{choice['message']['content']}"
        case Fault.THINK_CUT:
            choice["message"]["content"] = f"<think>\nHow would that feel? {choice['message']['content']}"
            choice["finish_reason"] = "length"
        case Fault.ABORTED:
            choice["finish_reason"] = "abort"
        case Fault.ERROR_200:
            answer.clear()
            answer["error"] = {"message": "Provider returned error", "code": 503}
        case _:
            pass


async def reset(request: web.Request, whole: bytes) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "application/json", "Content-Length": str(len(whole))})
    await response.prepare(request)
    await response.write(whole[: len(whole) // 2])
    if request.transport is not None:
        request.transport.abort()
    return response


def tokens_of(text: str) -> int:
    return max(1, -(-len(text) // 4))


def most_tokens(body: Body) -> int | None:
    return body.get("max_tokens") or body.get("max_completion_tokens")


def page(status: int, title: str) -> web.Response:
    return web.Response(status=status, text=HTML.format(title), content_type="text/html")


def error(status: int, message: str, code: str | None, kind: str = "invalid_request_error") -> web.Response:
    error = {"message": message, "type": kind, "param": None, "code": code}
    return web.json_response({"error": error}, status=status)


def no_such_model(body: Body) -> web.Response:
    return error(404, f"The model `{body.get('model')}` does not exist.", "model_not_found")


def busy(message: str, after_s: float | None, headers: Mapping[str, str]) -> web.Response:
    response = error(429, message, "rate_limit_exceeded", kind="requests")
    response.headers.update(headers)
    if after_s is not None:
        response.headers["retry-after"] = str(max(1, round(after_s + 0.5)))
        response.headers["retry-after-ms"] = str(max(1, round(after_s * 1000)))
    return response
