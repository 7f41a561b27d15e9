"""A server at the seam of the lanes that does what each step of a history wants.

It is of one era and transport, or of both eras. Handshakes and the like it deals with by itself;
calls lie there until a step answers them, so that anything may happen in between. It watches what a
server can see: that no call runs twice (P2), that sessions and headers are right, that nothing
arrives that the era does not have.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from typing import Any, Literal

import trio

from mcp_stdio import spec
from mcp_stdio.errors import Unreachable
from mcp_stdio.http import Exchange, Lane, Request
from mcp_stdio.http.url import Url
from tests.histories.faults import DECLINING, MISLEADING, STATUSES, Fault
from tests.histories.history import History
from tests.histories.visits import PENDING_METHODS, Fate, Json, Stream, Visit, line

Kind = Literal["legacy", "sessionless", "modern", "dual", "sse"]

APP_ERROR = 7
"""The code of errors that mean nothing to the protocol."""


@dataclass(frozen=True)
class Setting:
    """What a run begins with."""

    server: Kind = "legacy"
    client: Literal["legacy", "modern", "dual"] = "legacy"
    resumes: bool = False  # events have ids, and a broken stream can be gone on with
    listens: bool = True  # it offers a GET stream
    renews: bool = False  # the credential can be renewed
    seed: int = 0  # of the order in which trio runs what became ready together


class Server(Lane):
    """The lane to the server. `faults` are what the next requests meet."""

    def __init__(self, setting: Setting, history: History) -> None:
        self.setting = setting
        self.history = history
        self.url = Url.parse("http://server.test/mcp")
        self.visits: list[Visit] = []
        self.streams: list[Stream] = []
        self.sessions: set[str] = set()
        self.opened = 0  # sessions so far
        self.is_down = False
        self.is_well = False  # calls are answered at once from now on
        self.is_mute = False  # nothing is answered from now on
        self.has_hung_up = False  # over HTTP+SSE: who was about to leave waits for a connection
        self.has_declined = False  # to be listened to, for all that could be understood
        self.is_misleading = False  # about its era: what was taken for it is tried first
        self.faults: list[Fault] = []
        self.asked: dict[int, Stream] = {}  # questions by their number
        self.credential = 0  # what the requests have to show
        self.cancelled: list[Any] = []  # what `notifications/cancelled` named
        self.calls: defaultdict[int, list[Visit]] = defaultdict(list)
        self._set_out: set[int] = set()  # the calls that were seen, be it in vain

    @property
    def is_modern(self) -> bool:
        return self.setting.server == "modern"

    @property
    def asks_by_result(self) -> bool:
        return self.setting.server in ("modern", "dual")

    def is_ready(self, request: Request) -> bool:
        return True

    async def prepare(self, url: Url) -> None:
        pass

    def drop_idle(self) -> None:
        pass

    async def aclose(self) -> None:
        pass

    async def send(self, request: Request) -> Exchange:
        await trio.lowlevel.checkpoint()
        visit = Visit(len(self.visits) + 1, request)
        self._watch_order(visit)
        if self.is_down:
            self.history.note(f"  relay → nobody: {visit.method}")
            raise Unreachable("nobody there")
        self.visits.append(visit)
        self.history.note(f"  relay → server: {visit}")
        self._take(visit)
        return visit

    # What it sees

    def _watch_order(self, visit: Visit) -> None:
        """P4: calls set out in the order in which they were read."""
        if visit.method not in PENDING_METHODS or visit.n is None or visit.n in self._set_out:
            return
        latest = max(self._set_out, default=0)
        if visit.n < latest and not (self.is_misleading or self.has_hung_up):
            self.history.breach(f"call {visit.n} set out after call {latest}")
        self._set_out.add(visit.n)

    def _watch_runs(self, visit: Visit) -> None:
        """P2: a call comes again only when the server has declined it."""
        assert visit.n is not None
        earlier = self.calls[visit.n]
        self.calls[visit.n].append(visit)
        if visit.method != spec.CALL_TOOL:
            return
        for each in earlier[:-1]:
            if each.fate is not Fate.DECLINED:
                self.history.breach(f"{visit} is sent again, and {each} may have run")
        state = (visit.message["params"]).get("requestState")
        if earlier[:-1] and earlier[-2].asked_for is not None and state != earlier[-2].asked_for:
            self.history.breach(f"{visit} comes with the state {state}")

    def _watch_answer(self, visit: Visit) -> None:
        """An answer of the client comes to who asked, and says what was asked for."""
        id = visit.message["id"]
        stream = self.asked.get(id)
        if stream is None:
            self.history.breach(f"an answer to a question nobody asked: {visit.message}")
        elif stream.session != self._session_of(visit):
            self.history.breach(f"the answer to question {id} came in another session")
        elif "result" in visit.message and visit.message["result"].get("k") != id:
            self.history.breach(f"question {id} was answered with {visit.message}")

    # What it does by itself

    def _take(self, visit: Visit) -> None:
        if visit.method in PENDING_METHODS:
            self._watch_runs(visit)
        if self.is_mute:
            return
        if self.faults:
            self.meet(visit, self.faults.pop(0))
            return
        shown = visit.header("Authorization")
        if self.setting.renews and shown != f"Bearer {self.credential}":
            visit.fate = Fate.DECLINED
            visit.reply(401, www_authenticate="Bearer")
            return
        is_modern = visit.header(spec.PROTOCOL_VERSION) == spec.R5
        if is_modern and self.setting.server in ("modern", "dual"):
            self._take_modern(visit)
        elif self.setting.server == "modern":
            visit.fate = Fate.DECLINED
            data = {"supported": [spec.R5], "requested": spec.R4}
            error = {"code": spec.UNSUPPORTED_VERSION, "message": "too old", "data": data}
            visit.reply(400, line({"id": visit.message.get("id"), "error": error}), spec.JSON)
        elif self.setting.server == "sse":
            self._take_sse(visit)
        else:
            self._take_legacy(visit)

    def _take_modern(self, visit: Visit) -> None:
        if "id" not in visit.message or visit.method == "response":
            visit.reply(202 if visit.method != "response" else 400)
            return
        id = visit.message["id"]
        match visit.method:
            case spec.DISCOVER:
                result: Json = {"supportedVersions": [spec.R5], "capabilities": CAPABILITIES}
                visit.answer({"id": id, "result": COMPLETE | result})
            case spec.LISTEN:
                stream = self.open(visit, has_ids=False)
                asked = visit.message["params"]["notifications"]
                params = {"_meta": {spec.META_SUBSCRIPTION: id}, "notifications": asked}
                stream.push({"method": spec.ACKNOWLEDGED, "params": params})
            case _:
                self._take_request(visit)

    def _take_legacy(self, visit: Visit) -> None:
        has_sessions = self.setting.server != "sessionless"
        session = visit.header(spec.SESSION_ID)
        if visit.method == spec.INITIALIZE:
            headers = {}
            if has_sessions:
                headers = {"mcp_session_id": self._new_session()}
            visit.answer(opened(visit), **headers)
        elif has_sessions and session is None:
            visit.fate = Fate.DECLINED
            error = {"code": -32600, "message": "Bad Request: Missing session ID"}
            visit.reply(400, line({"id": visit.message.get("id"), "error": error}), spec.JSON)
        elif has_sessions and session not in self.sessions:
            visit.fate = Fate.DECLINED
            visit.reply(404, b"session not found", "text/plain")
        elif visit.method == "GET":
            self._take_get(visit)
        elif visit.method == "DELETE":
            self.sessions.discard(session or "")
            visit.reply(200)
        else:
            self._take_post(visit)

    def _take_get(self, visit: Visit) -> None:
        last = visit.header(spec.LAST_EVENT_ID)
        if last is not None:
            number = int(last.partition("-")[0][1:])
            stream = self.streams[number - 1]
            if stream.session != self._session_of(visit):
                self.history.breach(f"{stream} is resumed from another session")
            if stream.is_forgotten:
                visit.reply(400, b"invalid event id", "text/plain")
            else:
                stream.resume(visit, last)
        elif self.setting.listens:
            self.open(visit)
        else:
            visit.reply(405)

    def _take_sse(self, visit: Visit) -> None:
        if visit.method == "GET":
            name = self._new_session()
            stream = self.open(visit, session=name, has_ids=False)
            stream.say_event(f"/messages?session={name}".encode(), "endpoint")
        elif visit.request.url.target == self.url.target:
            visit.fate = Fate.DECLINED
            visit.reply(405)
        elif self._session_of(visit) not in self.sessions:
            visit.fate = Fate.DECLINED
            visit.reply(404)
        elif visit.method == spec.INITIALIZE:
            self.answer_elsewhere(visit, opened(visit))
        else:
            self._take_post(visit)

    def _take_post(self, visit: Visit) -> None:
        if visit.method == "response":
            self._watch_answer(visit)
            visit.reply(202)
        elif "id" not in visit.message:
            if visit.method == spec.CANCELLED:
                self.cancelled.append(visit.message["params"]["requestId"])
            visit.reply(202)
        else:
            self._take_request(visit)

    def _take_request(self, visit: Visit) -> None:
        if visit.method in PENDING_METHODS:
            if self.is_well:
                self.answer(visit)
            elif self.setting.server == "sse":
                self.accept(visit)
        else:
            result: Json = {"tools": []} if visit.method == spec.LIST_TOOLS else {}
            self.say_answer(visit, {"id": visit.message["id"], "result": COMPLETE | result})

    def _new_session(self) -> str:
        self.opened += 1
        name = f"session-{self.opened}"
        self.sessions.add(name)
        return name

    def _session_of(self, visit: Visit) -> str | None:
        if self.setting.server == "sse":
            found = re.search(r"session=([\w-]+)", visit.request.url.target)
            return found[1] if found else None
        return visit.header(spec.SESSION_ID)

    # What steps have it do

    def open(
        self, visit: Visit, *, session: str | None = None, has_ids: bool | None = None
    ) -> Stream:
        """Begin to answer with an event stream."""
        has_ids = self.setting.resumes if has_ids is None else has_ids
        session = session or self._session_of(visit)
        if visit.header(spec.PROTOCOL_VERSION) == spec.R5:
            has_ids = False
        stream = Stream(len(self.streams) + 1, visit, session=session, has_ids=has_ids)
        self.streams.append(stream)
        return stream

    def accept(self, visit: Visit) -> None:
        """Take a call with a 202; its answer comes on the shared stream."""
        visit.is_accepted = True
        visit.reply(202)

    def shared(self, visit: Visit) -> Stream | None:
        """The stream on which calls of the same session may be answered."""
        session = self._session_of(visit)
        for stream in reversed(self.streams):
            if stream.is_listening and stream.session == session and stream.can_say:
                return stream if session in self.sessions or session is None else None
        return None

    def answer(self, visit: Visit, *, error: bool = False) -> None:
        """Answer a call, the way it is being answered."""
        visit.fate = Fate.RAN
        body: Json = {"id": visit.message["id"]}
        if error:
            body["error"] = {"code": APP_ERROR, "message": f"n={visit.n}"}
        elif visit.method == spec.CALL_TOOL:
            text = {"type": "text", "text": f"n={visit.n}"}
            body["result"] = COMPLETE | {"content": [text]}
        else:
            uri = visit.message["params"]["uri"]
            body["result"] = COMPLETE | {"contents": [{"uri": uri, "text": f"n={visit.n}"}]}
        self.say_answer(visit, body)

    def say_answer(self, visit: Visit, body: Json) -> None:
        if visit.fate is Fate.OPEN:
            visit.fate = Fate.RAN
        if visit.stream is not None:
            self._say_answer(visit, visit.stream, body)
            visit.stream.end()
        elif visit.is_accepted or self.setting.server == "sse":
            self.answer_elsewhere(visit, body)
        else:
            visit.answer(body)
            visit.answered_on = visit, visit.pushed

    def answer_elsewhere(self, visit: Visit, body: Json) -> None:
        visit.fate = Fate.RAN
        if not visit.is_accepted:
            self.accept(visit)
        stream = self.shared(visit)
        if stream is not None:
            self._say_answer(visit, stream, body)

    def _say_answer(self, visit: Visit, stream: Stream, body: Json) -> None:
        connection = stream.visit
        stream.push(body)
        if connection is not None:
            visit.answered_on = connection, connection.pushed

    def require_input(self, visit: Visit) -> None:
        """Answer with a question, after which the call is sent again."""
        visit.fate = Fate.DECLINED
        k = 1000 + visit.number
        visit.asked_for = f"state-{k}"
        params = {"message": f"k={k}", "requestedSchema": {"type": "object", "properties": {}}}
        result = {
            "resultType": "input_required",
            "inputRequests": {"q": {"method": spec.ELICIT, "params": params}},
            "requestState": visit.asked_for,
        }
        self.say_answer(visit, {"id": visit.message["id"], "result": result})

    def ask(self, stream: Stream, method: str) -> None:
        """Ask the client something, on the stream of a call or on the shared one."""
        k = 2000 + len(self.asked)
        self.asked[k] = stream
        stream.push({"id": k, "method": method, "params": {"message": f"k={k}"}})

    def say(self, stream: Stream) -> None:
        stream.said += 1
        data = {"stream": stream.number, "number": stream.said}
        stream.push({"method": spec.LOG_MESSAGE, "params": {"level": "error", "data": data}})

    def say_much(self, stream: Stream) -> None:
        """Say more than a pipe takes."""
        for _ in range(3):
            stream.said += 1
            data = {"stream": stream.number, "number": stream.said, "padding": "x" * 30_000}
            stream.push({"method": spec.LOG_MESSAGE, "params": {"level": "error", "data": data}})

    def answer_another(self, visit: Visit, id: Any) -> None:
        """Answer a call that was not asked here, on its stream or instead of its answer."""
        text = {"type": "text", "text": "n=0"}
        body = {"id": id, "result": COMPLETE | {"content": [text]}}
        if visit.stream is not None:
            visit.stream.push(body)
        else:
            visit.fate = Fate.RAN
            visit.answer(body)

    def say_progress(self, stream: Stream) -> None:
        stream.progress += 1
        params = {"progressToken": stream.origin.token, "progress": stream.progress}
        stream.push({"method": spec.PROGRESS, "params": params})

    def meet(self, visit: Visit, fault: Fault) -> None:
        """Treat a request badly."""
        self.history.note(f"  … {visit} meets: {fault.value}")
        visit.fate = Fate.RAN  # for all the relay can know
        if visit.method in (spec.INITIALIZE, spec.DISCOVER) and fault in MISLEADING:
            self.is_misleading = True
        if visit.method == "GET" and fault is not Fault.LOST:
            self.has_declined = True
        match fault:
            case Fault.STALLS:
                visit.fate = Fate.OPEN
            case Fault.LOST:
                visit.lose()
            case Fault.GARBAGE:
                visit.reply(200, b"{what?", spec.JSON)
            case Fault.PAGE:
                visit.reply(200, b"<html>hello</html>", "text/html")
            case Fault.EMPTY:
                visit.reply(200, b"", spec.JSON)
            case _:
                status, retry_after = STATUSES[fault]
                if fault in DECLINING:
                    visit.fate = Fate.DECLINED
                body = b"no valid session" if fault is Fault.BAD_SESSION else b"no"
                headers = {} if retry_after is None else {"retry_after": retry_after}
                if fault is Fault.SCOPE:
                    headers["www_authenticate"] = 'Bearer error="insufficient_scope"'
                visit.reply(status, body, "text/plain", **headers)

    def expire(self) -> None:
        """Forget the sessions; what streams, streams on."""
        self.sessions.clear()

    def restart(self) -> None:
        """Break every connection off and forget the sessions."""
        self.has_hung_up = self.setting.server == "sse"
        for stream in self.streams:
            stream.end(orderly=False)
            stream.is_forgotten = True
        for visit in self.visits:
            if not visit.is_closed:
                visit.lose()
                if visit.fate is Fate.OPEN:
                    visit.fate = Fate.RAN
        self.sessions.clear()

    def heal(self) -> None:
        """Be good from now on: everything is answered that can be, and at once."""
        self.is_down, self.is_well = False, True
        self.faults.clear()
        for visit in self.visits:
            if not visit.is_closed and visit.fate is Fate.OPEN:
                if visit.is_pending:
                    self.answer(visit)
                elif visit.stream is None and not visit.is_accepted:
                    visit.lose()
        for stream in self.streams:
            if stream.can_say and not stream.is_listening:
                self.answer(stream.origin)
        for visit in self.visits:
            if visit.is_accepted and visit.fate is Fate.OPEN and visit.n is not None:
                self.answer(visit)


COMPLETE: Json = {"resultType": "complete"}

CAPABILITIES: Json = {"tools": {"listChanged": True}, "resources": {}, "logging": {}}


def opened(visit: Visit) -> Json:
    """The answer to `initialize`."""
    result = {
        "protocolVersion": visit.message["params"]["protocolVersion"],
        "capabilities": CAPABILITIES,
        "serverInfo": {"name": "server", "version": "1"},
    }
    return {"id": visit.message["id"], "result": result}
