"""A client that checks all that a client is promised, while it does whatever a history wants.

Each of its requests is a `Use` of an id, and carries a number that no other one has; what comes
back must be explained by them. Ids are used again as soon as that is allowed, and sometimes sooner.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from math import inf
from typing import Any

import trio

from mcp_stdio import spec
from tests.histories.history import History
from tests.histories.server import APP_ERROR, Server, Setting
from tests.histories.visits import Fate
from tests.process import line
from tests.relay.rig import Rig

Json = dict[str, Any]
Id = int | str

DUPLICATE = -32600
DEFECT = -32603
UNREACHABLE = -33001

ABOUT = {"name": "client", "version": "1"}

WISHES: Json = {"elicitation": {}, "sampling": {}, "roots": {}}

META: Json = {
    spec.META_VERSION: spec.R5,
    spec.META_CLIENT_INFO: ABOUT,
    spec.META_CLIENT_CAPABILITIES: WISHES,
    spec.META_LOG_LEVEL: "debug",
}


@dataclass(eq=False)
class Use:
    """One request: `n` is its own number, `is_doubtful` that its id may have been in use still."""

    n: int
    id: Id
    method: str
    is_doubtful: bool
    at: float
    since: int  # where in the output its answer may be
    is_cancelled: bool = False
    cancelled_at: float = inf
    silent_from: float = inf  # where in the output nothing of it may come any more
    answer: Json | None = None
    is_refused: bool = False  # as the second one under its id

    @property
    def is_unclear(self) -> bool:
        """Whether it is not known yet if it was refused, or cancelled in time."""
        return self.is_doubtful or (self.is_cancelled and self.silent_from == inf)

    @property
    def is_open(self) -> bool:
        return self.answer is None and not self.is_cancelled

    def __str__(self) -> str:
        return f"{self.method} {self.id!r} (n={self.n})"


@dataclass
class Client:
    """What the client knows. `questions` are those of the server it has not answered."""

    setting: Setting
    rig: Rig
    server: Server
    history: History
    uses: list[Use] = field(default_factory=list)
    questions: list[Json] = field(default_factory=list)
    over: trio.Event = field(default_factory=trio.Event)  # standard output has ended
    is_ending: bool = False
    _heard: dict[int, int] = field(default_factory=dict)  # the last number of each stream
    _progress: dict[Any, float] = field(default_factory=dict)
    _asked: set[Id] = field(default_factory=set)
    reads: trio.Event = field(default_factory=trio.Event)
    _position: int = 0  # in the output, where the line begins
    complaints: int = 0  # errors without an id
    garbage: int = 0  # lines that may be complained of

    @property
    def is_modern(self) -> bool:
        """Whether it speaks as a client without handshakes now."""
        if self.setting.client == "dual":
            return self.is_discovered
        return self.setting.client == "modern"

    @property
    def is_discovered(self) -> bool:
        found = [use for use in self.uses if use.method == spec.DISCOVER and use.answer]
        return bool(found) and "result" in (found[-1].answer or {})

    @property
    def has_shaken_hands(self) -> bool:
        return any("result" in (use.answer or {}) for use in self.of(spec.INITIALIZE))

    def of(self, method: str) -> list[Use]:
        return [use for use in self.uses if use.method == method]

    @property
    def open(self) -> list[Use]:
        return [use for use in self.uses if use.is_open]

    # What it says

    async def write(self, text: str, data: bytes) -> None:
        self.history.note(f"client → relay: {text}")
        await self.rig.write(data)

    async def ask(self, method: str, id: Id, params: Json | None = None) -> Use:
        n = len(self.uses) + 1
        earlier = [use for use in self.uses if use.id == id and type(use.id) is type(id)]
        is_doubtful = any(use.answer is None for use in earlier)
        use = Use(n, id, method, is_doubtful, trio.current_time(), self.rig.written)
        self.uses.append(use)
        params = {} if params is None else params
        match method:
            case spec.CALL_TOOL:
                params = {"name": "tool", "arguments": {"n": n}}
            case spec.READ_RESOURCE:
                params = {"uri": f"test://server/{n}"}
        meta: Json = {"progressToken": f"t{n}"}
        if self.is_modern or method in (spec.DISCOVER, spec.LISTEN):
            meta |= META
        if method not in (spec.INITIALIZE, spec.PING):
            params = params | {"_meta": meta}
        await self.write(str(use), line(id=id, method=method, params=params))
        return use

    async def initialize(self, id: Id = "init") -> Use:
        params = {"protocolVersion": spec.R4, "capabilities": WISHES, "clientInfo": ABOUT}
        return await self.ask(spec.INITIALIZE, id, params)

    async def tell(self, method: str, params: Json | None = None) -> None:
        await self.write(method, line(method=method, params=params or {}))

    async def cancel(self, use: Use) -> None:
        if use.answer is None and use.method != spec.INITIALIZE:  # which cannot be (T-16)
            use.is_cancelled, use.cancelled_at = True, trio.current_time()
        self.history.note(f"        (a cancel of {use})")
        await self.tell(spec.CANCELLED, {"requestId": use.id})

    async def reply(self, question: Json, *, error: bool = False) -> None:
        self.questions.remove(question)
        id = question["id"]
        if error:
            body: Json = {"error": {"code": APP_ERROR, "message": "no"}}
        else:
            k = question["params"]["message"].removeprefix("k=")
            body = {"result": {"action": "accept", "content": {}, "k": int(k)}}
        await self.write(f"answer to {id}", line(id=id, **body))

    # What it hears

    async def listen(self) -> None:
        """Read to the end of standard output."""
        while raw := await self._read_line():
            message = json.loads(raw)
            self.history.note(f"relay → client: {_short(message)}")
            if message.get("jsonrpc") != "2.0":
                self.history.breach("that is no message")
            elif "method" not in message:
                self._take_answer(message)
            elif "id" in message:
                self._take_question(message)
            else:
                self._take_notification(message)
            self._position += len(raw) + 1
        self.over.set()
        self.history.note("standard output has ended")

    async def _read_line(self) -> bytes:
        if not self.reads.is_set():
            await self.reads.wait()
        return await self.rig.read_line()

    def is_silent(self, use: Use) -> bool:
        """Whether nothing of it may come any more."""
        return self._position >= use.silent_from

    def _take_answer(self, answer: Json) -> None:
        id = answer.get("id")
        if id is None:
            self.complaints += 1
            if self.complaints > self.garbage or "error" not in answer:
                self.history.breach("an answer to nothing")
            return
        waiting = [u for u in self.uses if u.id == id and type(u.id) is type(id) and not u.answer]
        error = answer.get("error")
        doubtful = [use for use in waiting if use.is_doubtful]
        if error is not None and error["code"] == DUPLICATE and doubtful:
            doubtful[0].is_refused = True
            doubtful[0].answer = answer
            return
        said = _number_in(answer)
        waiting = [use for use in waiting if said in (None, use.n) and use.since <= self._position]
        waiting.sort(key=lambda use: use.is_cancelled)
        if not waiting:
            self.history.breach("an answer that nobody waits for, or a second one")
            return
        use = waiting[0]
        if self.is_silent(use):
            self.history.breach(f"an answer although {use} was cancelled")
        use.answer = answer
        self._look_at(use, answer)

    def _look_at(self, use: Use, answer: Json) -> None:
        error = answer.get("error")
        is_call = use.method in (spec.CALL_TOOL, spec.READ_RESOURCE)
        if error is None:
            if is_call and _number_in(answer) != use.n and not _wants_input(answer):
                self.history.breach(f"the answer to {use} is not its own")
            return
        if error["code"] == DEFECT:
            self.history.breach(f"a defect of ours: {error}")
        if use.method != spec.CALL_TOOL:
            return
        did_not_run = error["code"] == UNREACHABLE or (error.get("data") or {}).get("retryable")
        if did_not_run:
            for visit in self.server.calls[use.n]:
                if visit.fate is not Fate.DECLINED:
                    self.history.breach(f"{use} is said not to have run, and {visit} may have")

    def _take_question(self, question: Json) -> None:
        if self.setting.client == "modern" or (self.is_modern and not self.has_shaken_hands):
            self.history.breach("a question to a client of the stateless era")
        if question["id"] in self._asked:
            self.history.breach("the same question again")
        self._asked.add(question["id"])
        self.questions.append(question)

    def _take_notification(self, message: Json) -> None:
        params = message.get("params") or {}
        if message["method"] == spec.PROGRESS:
            self._take_progress(params["progressToken"], params["progress"])
        elif message["method"] == spec.LOG_MESSAGE:
            stream, number = params["data"]["stream"], params["data"]["number"]
            if number <= self._heard.get(stream, 0):
                self.history.breach(f"message {number} of stream {stream} came late, or twice")
            self._heard[stream] = number
        elif message["method"] == spec.CANCELLED:
            self.questions = [q for q in self.questions if q["id"] != params["requestId"]]

    def _take_progress(self, token: Any, value: float) -> None:
        uses = [use for use in self.uses if token == f"t{use.n}"]
        if not uses:
            self.history.breach(f"progress of nothing: {token}")
        elif uses[0].answer is not None or self.is_silent(uses[0]):
            self.history.breach(f"progress of {uses[0]}, which is over")
        elif value <= self._progress.get(token, -1):
            self.history.breach(f"progress of {uses[0]} stands still")
        self._progress[token] = value

    def heard(self, stream: int) -> int:
        """The number of the last message heard of a stream."""
        return self._heard.get(stream, 0)


def _number_in(answer: Json) -> int | None:
    """The number of the call that an answer of the server speaks of."""
    text = (answer.get("error") or {}).get("message", "")
    result = answer.get("result") or {}
    for block in [*result.get("content", []), *result.get("contents", [])]:
        text = block.get("text", "")
    return int(text.removeprefix("n=")) if text.startswith("n=") else None


def _wants_input(answer: Json) -> bool:
    return bool(answer["result"].get("resultType") == "input_required")


def _short(message: Json) -> str:
    text = json.dumps({name: value for name, value in message.items() if name != "jsonrpc"})
    return text if len(text) < 300 else text[:300] + "…"
