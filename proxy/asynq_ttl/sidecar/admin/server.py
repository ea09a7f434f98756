"""The admin server: health, metrics, what the sidecar does and why, and the few things an operator may change.

It listens at an address of its own, by default on the loopback interface.

Invariants:

* Nothing here touches the data path, and a client that reads slowly costs a bounded amount of memory.
* Whether a call may be done is decided before it is looked at, by `access` alone.
* No payload, no credential and no argument of a command is in any answer.
"""

import asyncio
import base64
import hashlib
import json
import logging
import re
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

from asynq_ttl.net.address import Address
from asynq_ttl.net.listener import Sharing, cannot_listen, shared_socket
from asynq_ttl.net.secret_file import SecretFileError, read_token
from asynq_ttl.net.unix_socket import ListeningPath
from asynq_ttl.sidecar.admin import access, status
from asynq_ttl.sidecar.admin.http import HttpAnswer, HttpServer, Request, json_answer, refusal
from asynq_ttl.sidecar.sidecar import Sidecar, StartError
from asynq_ttl.telemetry.logs import LEVELS, set_level
from asynq_ttl.telemetry.recent import MAX_WATCHERS, RING_SIZE, EntryFilter, FilterError, parse_filter

_log = logging.getLogger("asynq_ttl.admin")

# A stream has a line at least this often, so that both sides notice when the other is gone.
HEARTBEAT_SECONDS = 1.0

_SHUTDOWN_SECONDS = 0.3

Handler = Callable[[Request], Awaitable[HttpAnswer]]


class AdminError(StartError):
    """The admin server cannot be started; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class AdminSettings:
    """How the admin server is run.

    Attributes:
        address: where it listens; None for no admin server.
        token: what calls that change something have to bring along; empty for none.
        token_file: a file with the token instead, read at each such call; None for none.
        required: whether the sidecar is not to start without it.
    """

    address: Address | None
    token: str = field(default="", repr=False)
    token_file: Path | None = None
    required: bool = True


@asynccontextmanager
async def admin_server(settings: AdminSettings, sidecar: Sidecar) -> AsyncIterator[None]:
    """Serve while the block runs.

    Raises:
        AdminError: the address cannot be used, and the server is required.
    """
    if settings.address is None:
        yield
        return
    admin = Admin(settings, sidecar)
    server = HttpServer(admin.answer)
    async with AsyncExitStack() as ending:
        ending.push_async_callback(server.close, _SHUTDOWN_SECONDS)
        ending.callback(admin.closing.set)
        try:
            shared = sidecar.settings.sharing is Sharing.SUCCESSOR
            address = await _listen(server, settings.address, ending, shared=shared)
        except (OSError, UnicodeError) as error:  # UnicodeError: a host that can be no name
            reason = cannot_listen(settings.address, error)
            if settings.required:
                raise AdminError(f"the admin server {reason}; give --admin another address, or off") from None
            _log.warning("no admin server, it %s; give --admin another address, or off", reason)
        else:
            where = str(address) if address.path else f"http://{address}/"
            _log.info("admin server at %s", where)
        yield


async def _listen(server: HttpServer, address: Address, ending: AsyncExitStack, *, shared: bool) -> Address:
    if address.path:
        taken = ListeningPath(Path(address.path), private=True)
        ending.callback(taken.remove)
        await server.start(sock=taken.socket)
        return address
    if shared:
        port = await server.start(sock=await asyncio.to_thread(shared_socket, address))
    else:
        port = await server.start(address.host or None, address.port)
    return Address(address.host, port)


class Admin:
    """The calls of the admin server.

    Args:
        settings: how it is run.
        sidecar: whom it is about.
    """

    def __init__(self, settings: AdminSettings, sidecar: Sidecar) -> None:
        self.closing = asyncio.Event()
        """Set to end all streams."""
        self._settings = settings
        self._sidecar = sidecar
        self._recent = sidecar.telemetry.recent
        self._search: Callable[[str], Awaitable[tuple[int, status.Json]]] | None = None
        self._page = _page()
        self._page_policy = _content_security_policy(self._page)
        self.calls = self._calls()
        """What answers, by path and method."""

    def _calls(self) -> dict[str, dict[str, Handler]]:
        """Return what answers, by path and method."""
        reading: dict[str, Handler] = {
            "/": self.page,
            "/livez": self.live,
            "/readyz": self.ready,
            "/startupz": self.started,
            "/metrics": self.metrics,
            "/api/status": self._telling(status.overview),
            "/api/policy": self.policy,
            "/api/connections": self._telling(status.connections),
            "/api/wrappers": self._telling(status.wrappers),
            "/api/census": self._telling(status.census),
            "/api/decisions": self.decisions,
            "/api/decisions/stream": self.stream,
            "/api/task": self.task,
        }
        changing: dict[str, Handler] = {
            "/api/reload": self.reload,
            "/api/pause": self.pause,
            "/api/resume": self.resume,
            "/api/drain": self.drain,
            "/api/log-level": self.log_level,
        }
        read = {path: {"GET": call, "HEAD": call} for path, call in reading.items()}
        return read | {path: {"POST": call} for path, call in changing.items()}

    async def answer(self, request: Request) -> HttpAnswer:
        """Answer a request, or refuse it. Whatever a call raises harms no other."""
        try:
            token = "" if request.method in access.READING else self._token()
        except SecretFileError as error:
            return refusal(503, f"the token file {error}")
        refused = access.refusal(request.method, request.headers, self._settings.address, token)
        if refused is not None:
            return refusal(refused.status, refused.message)
        calls = self.calls.get(request.path)
        if calls is None:
            return refusal(404)
        if request.method not in calls:
            return refusal(405)
        try:
            return await calls[request.method](request)
        except Exception as error:  # noqa: BLE001 - a bug in one call harms no other
            self._sidecar.background.failed("an admin call", error, "is answered with 500")
            return refusal(500, "the call has failed; the log says why")

    # --- reading ----------------------------------------------------------------------------------------------

    async def page(self, _request: Request) -> HttpAnswer:
        """Answer with the status page."""
        headers = {"Content-Security-Policy": self._page_policy}
        return HttpAnswer(self._page.encode(), "text/html; charset=utf-8", headers=headers)

    async def live(self, _request: Request) -> HttpAnswer:
        """Say that the process runs and its event loop answers."""
        return HttpAnswer(b"ok\n")

    async def ready(self, _request: Request) -> HttpAnswer:
        """Say whether clients should come: it listens, does not drain, Redis answers. Other trouble is only told."""
        problem, trouble = self._sidecar.problem, self._sidecar.trouble
        text = problem or (f"ok, but {trouble}" if trouble else "ok")
        return HttpAnswer(f"{text}\n".encode(), status=503 if problem else 200)

    async def started(self, _request: Request) -> HttpAnswer:
        """Say whether it has come so far as to listen."""
        up = self._sidecar.listening is not None
        return HttpAnswer(b"ok\n" if up else b"starting\n", status=200 if up else 503)

    async def metrics(self, request: Request) -> HttpAnswer:
        """Answer with all metrics in Prometheus's text format."""
        self._sidecar.telemetry.tell()
        text = self._sidecar.telemetry.metrics.text
        body, content_type = await asyncio.to_thread(text, request.headers.get("Accept", ""))
        return HttpAnswer(body, content_type)

    async def policy(self, _request: Request) -> HttpAnswer:
        """Answer with the policy in force: its rules, its text, its hash and the last reload."""
        return json_answer(status.policy_in_force(self._sidecar) | {"text": self._sidecar.in_force.policy.text})

    async def decisions(self, request: Request) -> HttpAnswer:
        """Answer with the latest entries, newest first; the query says which."""
        pairs = [(name, value) for name, value in request.pairs if name != "limit"]
        limit = _first(request, "limit", str(RING_SIZE))
        if not re.fullmatch(r"[1-9][0-9]{0,5}", limit):
            return refusal(400, f"limit={limit} is no number of entries")
        try:
            wanted = parse_filter(pairs)
        except FilterError as error:
            return refusal(400, str(error))
        return json_answer({"decisions": self._recent.latest(wanted, int(limit))})

    async def stream(self, request: Request) -> HttpAnswer:
        """Answer with entries as they come: JSON lines, or server-sent events where these are asked for."""
        try:
            wanted = parse_filter(request.pairs)
        except FilterError as error:
            return refusal(400, str(error))
        if self._recent.watchers >= MAX_WATCHERS:
            return refusal(503, f"{MAX_WATCHERS} watch already")
        events = "text/event-stream" in request.headers.get("Accept", "")
        kind = "text/event-stream" if events else "application/x-ndjson"
        return HttpAnswer(self._watch(wanted, "data: %s\n\n" if events else "%s\n"), kind)

    async def _watch(self, wanted: EntryFilter, form: str) -> AsyncGenerator[bytes, None]:
        with self._recent.watch(wanted) as watcher:
            told = 0
            yield (form % json.dumps({"kind": "watching"})).encode()
            while not self.closing.is_set():
                entries = await watcher.fetch(HEARTBEAT_SECONDS)
                if watcher.dropped > told:
                    entries.append({"kind": "dropped", "entries": watcher.dropped - told})
                    told = watcher.dropped
                lines = [form % json.dumps(entry) for entry in entries or ({"kind": "heartbeat"},)]
                yield "".join(lines).encode()

    async def task(self, request: Request) -> HttpAnswer:
        """Answer with all that is known of a task: `?id=ID`, and `queue=Q` to look in one queue alone."""
        if self._search is None:
            search = await asyncio.to_thread(_task_search, self._sidecar)
            self._search = self._search or search
        code, told = await self._search(request.query)
        return json_answer(told, code)

    def _telling(self, tell: Callable[[Sidecar], status.Json]) -> Handler:
        async def answer(_request: Request) -> HttpAnswer:
            return json_answer(tell(self._sidecar))

        return answer

    # --- changing ---------------------------------------------------------------------------------------------

    async def reload(self, _request: Request) -> HttpAnswer:
        """Read the policy file again; 422 and its faults where it is refused."""
        reload = self._sidecar.in_force.reload()
        policy = self._sidecar.in_force.policy
        answer = {"digest": policy.digest, "mode": policy.mode.value, "faults": list(reload.faults)}
        return json_answer(answer, 422 if reload.faults else 200)

    async def pause(self, _request: Request) -> HttpAnswer:
        """Pause rewriting: the policy is in shadow mode until `resume`."""
        self._sidecar.in_force.pause(paused=True)
        return json_answer({"paused": True, "mode": self._sidecar.in_force.mode.value})

    async def resume(self, _request: Request) -> HttpAnswer:
        """Resume rewriting."""
        self._sidecar.in_force.pause(paused=False)
        return json_answer({"paused": False, "mode": self._sidecar.in_force.mode.value})

    async def drain(self, _request: Request) -> HttpAnswer:
        """Stop as on SIGTERM: let commands under way finish, then end."""
        self._sidecar.telemetry.happened("drain", "asked for by the admin server")
        self._sidecar.stop.set()
        return json_answer({"draining": True}, 202)

    async def log_level(self, request: Request) -> HttpAnswer:
        """Change the level from which is logged: `level` in the query or in a JSON body."""
        level = _first(request, "level", "")
        if not level and request.body:
            try:
                body = json.loads(request.body)
            except ValueError:
                return refusal(400, "the body is no JSON")
            level = str(body.get("level", "")) if isinstance(body, dict) else ""
        level = level.strip().lower()
        level = "warning" if level == "warn" else level
        if level not in LEVELS:
            return refusal(400, f"{level!r} is no level; expected one of {', '.join(LEVELS)}")
        self._sidecar.telemetry.happened("log_level", level)
        set_level(level)
        return json_answer({"log_level": level})

    def _token(self) -> str:
        """Return the token in force; empty where there is to be none.

        Raises:
            SecretFileError: its file cannot be read, or is empty.
        """
        file = self._settings.token_file
        return self._settings.token if file is None else read_token(file)


def _first(request: Request, name: str, default: str) -> str:
    """Return the first value of a name in the query."""
    return next((value for given, value in request.pairs if given == name), default)


def _task_search(sidecar: Sidecar) -> Callable[[str], Awaitable[tuple[int, status.Json]]]:
    """Return what answers questions about tasks; blocks for some milliseconds."""
    from asynq_ttl.sidecar.admin.task_search import TaskSearch  # noqa: PLC0415 - a megabyte, where somebody asks

    return TaskSearch(sidecar).answer


def _page() -> str:
    """Return the status page, with its parts in their places."""
    folder = resources.files("asynq_ttl").joinpath("sidecar", "admin")
    part = folder.joinpath("find_task.html").read_text()
    return folder.joinpath("page.html").read_text().replace("<!-- find_task.html -->", part)


def _content_security_policy(page: str) -> str:
    """Return a policy by which the page's own script and style run, and nothing else is loaded from anywhere."""
    hashes = {
        tag: " ".join(
            f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
            for text in re.findall(rf"<{tag}>(.*?)</{tag}>", page, flags=re.DOTALL)
        )
        for tag in ("script", "style")
    }
    return (
        f"default-src 'none'; script-src {hashes['script']}; style-src {hashes['style']}; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
