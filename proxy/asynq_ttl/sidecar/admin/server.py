"""The admin server: health, metrics, what the sidecar does and why, and the few things an operator may change.

The only module that imports aiohttp's server. It listens at an address of its own, by default on the loopback
interface.

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
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

from aiohttp import web

from asynq_ttl.net.address import Address
from asynq_ttl.net.listener import Sharing, cannot_listen, shared_socket
from asynq_ttl.net.secret_file import SecretFileError, read_token
from asynq_ttl.net.unix_socket import ListeningPath
from asynq_ttl.sidecar.admin import access, status
from asynq_ttl.sidecar.sidecar import Sidecar, StartError
from asynq_ttl.telemetry.logs import LEVELS, set_level
from asynq_ttl.telemetry.recent import MAX_WATCHERS, RING_SIZE, EntryFilter, FilterError, parse_filter

_log = logging.getLogger("asynq_ttl.admin")

# A stream has a line at least this often, so that both sides notice when the other is gone.
HEARTBEAT_SECONDS = 1.0

_MAX_BODY_BYTES = 16 * 1024
_SHUTDOWN_SECONDS = 0.3

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


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
    runner = web.AppRunner(
        admin.application(), access_log=None, handle_signals=False, shutdown_timeout=_SHUTDOWN_SECONDS
    )
    async with AsyncExitStack() as ending:
        ending.push_async_callback(runner.cleanup)
        ending.callback(admin.closing.set)
        await runner.setup()
        try:
            address = await _listen(
                runner, settings.address, ending, shared=sidecar.settings.sharing is Sharing.SUCCESSOR
            )
        except (OSError, UnicodeError) as error:  # UnicodeError: a host that can be no name
            reason = cannot_listen(settings.address, error)
            if settings.required:
                raise AdminError(f"the admin server {reason}; give --admin another address, or off") from None
            _log.warning("no admin server, it %s; give --admin another address, or off", reason)
        else:
            where = str(address) if address.path else f"http://{address}/"
            _log.info("admin server at %s", where)
        yield


async def _listen(runner: web.AppRunner, address: Address, ending: AsyncExitStack, *, shared: bool) -> Address:
    if address.path:
        taken = ListeningPath(Path(address.path), private=True)
        ending.callback(taken.remove)
        await web.SockSite(runner, taken.socket).start()
        return address
    if shared:
        await web.SockSite(runner, await asyncio.to_thread(shared_socket, address)).start()
    else:
        await web.TCPSite(runner, address.host or None, address.port).start()
    return Address(address.host, runner.addresses[0][1])


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
        self._answer: Callable[[str], Awaitable[tuple[int, status.Json]]] | None = None
        self._page = _page()
        self._page_policy = _content_security_policy(self._page)

    def application(self) -> web.Application:
        """Return the application."""
        application = web.Application(middlewares=[self._admit], client_max_size=_MAX_BODY_BYTES)
        for path, read in (
            ("/", self.page),
            ("/livez", self.live),
            ("/readyz", self.ready),
            ("/startupz", self.started),
            ("/metrics", self.metrics),
            ("/api/status", self._telling(status.overview)),
            ("/api/policy", self.policy),
            ("/api/connections", self._telling(status.connections)),
            ("/api/wrappers", self._telling(status.wrappers)),
            ("/api/census", self._telling(status.census)),
            ("/api/decisions", self.decisions),
            ("/api/decisions/stream", self.stream),
            ("/api/task", self.task),
        ):
            application.router.add_get(path, read)
        for path, change in (
            ("/api/reload", self.reload),
            ("/api/pause", self.pause),
            ("/api/resume", self.resume),
            ("/api/drain", self.drain),
            ("/api/log-level", self.log_level),
        ):
            application.router.add_post(path, change)
        return application

    # --- reading ----------------------------------------------------------------------------------------------

    async def page(self, _request: web.Request) -> web.Response:
        """Answer with the status page."""
        headers = {"Content-Security-Policy": self._page_policy}
        return web.Response(text=self._page, content_type="text/html", headers=headers)

    async def live(self, _request: web.Request) -> web.Response:
        """Say that the process runs and its event loop answers."""
        return web.Response(text="ok\n")

    async def ready(self, _request: web.Request) -> web.Response:
        """Say whether clients should come: it listens, does not drain, Redis answers. Other trouble is only told."""
        problem, trouble = self._sidecar.problem, self._sidecar.trouble
        text = problem or (f"ok, but {trouble}" if trouble else "ok")
        return web.Response(text=f"{text}\n", status=503 if problem else 200)

    async def started(self, _request: web.Request) -> web.Response:
        """Say whether it has come so far as to listen."""
        up = self._sidecar.listening is not None
        return web.Response(text="ok\n" if up else "starting\n", status=200 if up else 503)

    async def metrics(self, request: web.Request) -> web.Response:
        """Answer with all metrics in Prometheus's text format."""
        text = self._sidecar.telemetry.metrics.text
        body, content_type = await asyncio.to_thread(text, request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def policy(self, _request: web.Request) -> web.Response:
        """Answer with the policy in force: its rules, its text, its hash and the last reload."""
        return _json(status.policy_in_force(self._sidecar) | {"text": self._sidecar.in_force.policy.text})

    async def decisions(self, request: web.Request) -> web.Response:
        """Answer with the latest entries, newest first; the query says which."""
        pairs = [(name, value) for name, value in request.query.items() if name != "limit"]
        limit = request.query.get("limit", str(RING_SIZE))
        if not re.fullmatch(r"[1-9][0-9]{0,5}", limit):
            return _refusal(400, f"limit={limit} is no number of entries")
        try:
            wanted = parse_filter(pairs)
        except FilterError as error:
            return _refusal(400, str(error))
        return _json({"decisions": self._recent.latest(wanted, int(limit))})

    async def stream(self, request: web.Request) -> web.StreamResponse:
        """Answer with entries as they come: JSON lines, or server-sent events where these are asked for."""
        try:
            wanted = parse_filter(list(request.query.items()))
        except FilterError as error:
            return _refusal(400, str(error))
        if self._recent.watchers >= MAX_WATCHERS:
            return _refusal(503, f"{MAX_WATCHERS} watch already")
        events = "text/event-stream" in request.headers.get("Accept", "")
        kind = "text/event-stream" if events else "application/x-ndjson"
        response = web.StreamResponse(headers={"Content-Type": kind, "Cache-Control": "no-store", **_HEADERS})
        await response.prepare(request)
        with suppress(ConnectionError):  # whoever watched has gone
            await self._watch(response, wanted, "data: %s\n\n" if events else "%s\n")
        return response

    async def _watch(self, response: web.StreamResponse, wanted: EntryFilter, form: str) -> None:
        with self._recent.watch(wanted) as watcher:
            told = 0
            await response.write((form % json.dumps({"kind": "watching"})).encode())
            while not self.closing.is_set():
                entries = await watcher.fetch(HEARTBEAT_SECONDS)
                if watcher.dropped > told:
                    entries.append({"kind": "dropped", "entries": watcher.dropped - told})
                    told = watcher.dropped
                lines = [form % json.dumps(entry) for entry in entries or ({"kind": "heartbeat"},)]
                await response.write("".join(lines).encode())

    async def task(self, request: web.Request) -> web.Response:
        """Answer with all that is known of a task: `?id=ID`, and `queue=Q` to look in one queue alone."""
        if self._answer is None:
            answer = await asyncio.to_thread(_task_search, self._sidecar)
            self._answer = self._answer or answer
        code, told = await self._answer(request.rel_url.raw_query_string)
        return _json(told, code)

    def _telling(self, tell: Callable[[Sidecar], status.Json]) -> Handler:
        async def answer(_request: web.Request) -> web.Response:
            return _json(tell(self._sidecar))

        return answer

    # --- changing ---------------------------------------------------------------------------------------------

    async def reload(self, _request: web.Request) -> web.Response:
        """Read the policy file again; 422 and its faults where it is refused."""
        reload = self._sidecar.in_force.reload()
        policy = self._sidecar.in_force.policy
        answer = {"digest": policy.digest, "mode": policy.mode.value, "faults": list(reload.faults)}
        return _json(answer, 422 if reload.faults else 200)

    async def pause(self, _request: web.Request) -> web.Response:
        """Pause rewriting: the policy is in shadow mode until `resume`."""
        self._sidecar.in_force.pause(paused=True)
        return _json({"paused": True, "mode": self._sidecar.in_force.mode.value})

    async def resume(self, _request: web.Request) -> web.Response:
        """Resume rewriting."""
        self._sidecar.in_force.pause(paused=False)
        return _json({"paused": False, "mode": self._sidecar.in_force.mode.value})

    async def drain(self, _request: web.Request) -> web.Response:
        """Stop as on SIGTERM: let commands under way finish, then end."""
        self._sidecar.telemetry.happened("drain", "asked for by the admin server")
        self._sidecar.stop.set()
        return _json({"draining": True}, 202)

    async def log_level(self, request: web.Request) -> web.Response:
        """Change the level from which is logged: `level` in the query or in a JSON body."""
        level = request.query.get("level", "")
        if not level and request.can_read_body:
            try:
                body = await request.json()
            except ValueError:
                return _refusal(400, "the body is no JSON")
            level = str(body.get("level", "")) if isinstance(body, dict) else ""
        level = level.strip().lower()
        level = "warning" if level == "warn" else level
        if level not in LEVELS:
            return _refusal(400, f"{level!r} is no level; expected one of {', '.join(LEVELS)}")
        self._sidecar.telemetry.happened("log_level", level)
        set_level(level)
        return _json({"log_level": level})

    def _token(self) -> str:
        """Return the token in force; empty where there is to be none.

        Raises:
            SecretFileError: its file cannot be read, or is empty.
        """
        file = self._settings.token_file
        return self._settings.token if file is None else read_token(file)

    @web.middleware
    async def _admit(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuse a request, or answer it with the headers that every answer has."""
        try:
            token = "" if request.method in access.READING else self._token()
        except SecretFileError as error:
            return _refusal(503, f"the token file {error}")
        refused = access.refusal(request.method, request.headers, self._settings.address, token)
        if refused is not None:
            return _refusal(refused.status, refused.message)
        try:
            response = await handler(request)
        except web.HTTPException as error:
            return _refusal(error.status, error.reason)
        except ConnectionError:  # whoever asked has gone
            raise
        except Exception as error:  # noqa: BLE001 - a bug in one call harms no other
            self._sidecar.background.failed("an admin call", error, "is answered with 500")
            return _refusal(500, "the call has failed; the log says why")
        if not response.prepared:
            response.headers.update(_HEADERS)
        return response


_HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
}


def _json(content: status.Json, code: int = 200) -> web.Response:
    return web.Response(text=json.dumps(content) + "\n", content_type="application/json", status=code)


def _refusal(code: int, message: str) -> web.Response:
    response = _json({"error": message}, code)
    response.headers.update(_HEADERS)
    return response


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
