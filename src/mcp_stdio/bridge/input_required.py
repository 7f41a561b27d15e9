"""A result that asks for more, and what it becomes for a client that is asked by requests (B-14).

The questions are cut out of the result and made into requests of the client's own revision; its
answers are put into the request that is sent again. Keys, states and answers cross as they were
written. Plain synchronous code: who is asked when, and how often, is decided by `rounds`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from mcp_stdio import jsonrpc, spec, splice
from mcp_stdio.bridge.fitting import fit_block
from mcp_stdio.bridge.introduction import Introduction
from mcp_stdio.errors import BadAnswer
from mcp_stdio.jsonrpc import Id, Message

DECLINED = '{"action":"cancel"}'
"""The answer to an elicitation that the client answered with an error (B-14, step 3)."""


@dataclass(frozen=True, slots=True)
class Question:
    """One question as a request to the client; `elicitation` is the id of one with a URL (R4)."""

    request: Message
    elicitation: str | None = None

    @property
    def is_elicitation(self) -> bool:
        """Whether a person is asked to fill in a form or to visit a page."""
        return self.request.method == spec.ELICIT


@dataclass(frozen=True, slots=True)
class InputRequired:
    """What a server wants to know before it goes on: JSON by key, and its state as JSON."""

    requests: Mapping[str, str]
    state: str | None


def is_question(response: Message) -> bool:
    """Whether a response asks for input."""
    return response.result.get("resultType") == "input_required"


def read(response: Message) -> InputRequired:
    """What the response asks for. Raises BadAnswer for what is no such result."""
    text = response.raw.decode()
    requests = response.result.get("inputRequests")
    if not isinstance(requests, dict | None):
        raise BadAnswer("the server asks for input in a form that is none")
    state = response.result.get("requestState")
    if not isinstance(state, str | None) or not (requests or state is not None):
        raise BadAnswer("the server asks for input, but for none in particular")
    span = splice.find(text, "result", "inputRequests") if requests else None
    spans = splice.spans(text, span[0]) if span is not None else {}
    return InputRequired(
        {key: text[begin:end] for key, (begin, end) in spans.items()},
        None if state is None else splice.get(text, "result", "requestState"),
    )


def question(text: str, introduction: Introduction, ids: Iterator[str]) -> Question:
    """The request to the client that an input request is.

    Raises BadAnswer when the client never said that it can be asked this.
    """
    body = splice.value(text)
    method = body.get("method") if isinstance(body, dict) else None
    params = body.get("params") if isinstance(body, dict) else None
    known = params if isinstance(params, dict) else {}
    if not isinstance(method, str) or not introduction.takes(method, known):
        name = method if method in _METHODS else "something unknown"
        raise BadAnswer(f"the server asks the client for `{name}`, which it does not offer")
    fitted = splice.get(text, "params") if isinstance(params, dict) else None
    elicitation = None
    if fitted is not None and method == spec.SAMPLE and introduction.version < spec.R4:
        change = partial(_fit_sampling, version=introduction.version)
        fitted = splice.edit_elements(fitted, change, "messages")
    if fitted is not None and method == spec.ELICIT:
        if introduction.version < spec.R4:
            fitted = _fit_form(fitted, known)
        elif known.get("mode") == "url":
            elicitation = next(ids)
            fitted = splice.put(fitted, splice.encode(elicitation), "elicitationId", last=True)
    request = jsonrpc.request(next(ids), method)
    if fitted is not None:
        params_text = fitted
        request = request.edited(lambda text: splice.put(text, params_text, "params", last=True))
    return Question(request, elicitation)


def again(request: Message, id: Id, answers: Mapping[str, str], state: str | None) -> Message:
    """The client's request once more, with this round's answers (JSON by key) and state (Q-7)."""

    def change(text: str) -> str:
        text = splice.drop(splice.drop(text, "params", "inputResponses"), "params", "requestState")
        if answers:
            members = ",".join(f"{splice.encode(key)}:{value}" for key, value in answers.items())
            text = splice.put(text, f"{{{members}}}", "params", "inputResponses", last=True)
        if state is not None:
            text = splice.put(text, state, "params", "requestState", last=True)
        return splice.put(text, splice.encode(id), "id")

    return request.edited(change)


_METHODS = (spec.ELICIT, spec.SAMPLE, spec.LIST_ROOTS)


def _fit_sampling(text: str, version: str) -> str | None:
    """A message of a sampling request, with one block of content in each (before R4).

    Several blocks become several messages of the same role, one after the other in the array.
    """
    span = splice.find(text, "content")
    if span is None:
        return text
    if text[span[0]] != "[":
        blocks = [text[span[0] : span[1]]]
    else:
        blocks = [text[begin:end] for begin, end in splice.elements(text, span[0])]
    messages = [text[: span[0]] + fit_block(block, version) + text[span[1] :] for block in blocks]
    return ",".join(messages) or None


def _fit_form(params: str, known: Mapping[str, Any]) -> str:
    """An elicitation for revisions that know only forms, and their choices only as `enum`."""
    if known.get("mode") == "form":
        params = splice.drop(params, "mode")
    return splice.edit(params, _fit_choices, "requestedSchema", "properties")


def _fit_choices(properties: str) -> str:
    """The properties of a form; `oneOf` with titles becomes `enum` with `enumNames` (B-23)."""

    def fit(_: str, schema: str) -> str:
        if (choices := _choices(schema)) is None:
            return schema
        consts, titles = (splice.encode(column) for column in zip(*choices, strict=True))
        fitted = splice.put(splice.drop(schema, "oneOf"), consts, "enum", last=True)
        return splice.put(fitted, titles, "enumNames", last=True)

    return splice.edit_members(properties, fit)


def _choices(text: str) -> list[tuple[str, str]] | None:
    schema = splice.value(text)
    options = schema.get("oneOf") if isinstance(schema, dict) else None
    if not isinstance(options, list) or not options:
        return None
    choices: list[tuple[str, str]] = []
    for option in options:
        const = option.get("const") if isinstance(option, dict) else None
        if not isinstance(const, str):
            return None
        title = option.get("title", const)
        choices.append((const, title if isinstance(title, str) else const))
    return choices
