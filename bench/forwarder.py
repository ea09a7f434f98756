"""A bare forwarder on uvloop: what a proxy in Python costs before it looks at anything. The floor for the sidecar.

python bench/forwarder.py PORT UPSTREAM_PORT
"""

import asyncio
import gc
import sys
from typing import cast

import uvloop


class Downstream(asyncio.Protocol):
    """A client's connection; what comes before the upstream one is there is held."""

    def __init__(self, upstream_port: int) -> None:
        self._upstream_port = upstream_port
        self._held: list[bytes] = []
        self._upstream: asyncio.Transport | None = None
        self._connecting: asyncio.Task[object] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connect to Redis."""
        client = cast("asyncio.Transport", transport)  # uvloop's is one by its methods alone
        loop = asyncio.get_running_loop()
        connection = loop.create_connection(lambda: Upstream(self, client), "127.0.0.1", self._upstream_port)
        self._connecting = loop.create_task(connection)

    def connected(self, upstream: asyncio.Transport) -> None:
        """Send what was held."""
        self._upstream = upstream
        upstream.writelines(self._held)

    def data_received(self, data: bytes) -> None:
        """Send it on."""
        if self._upstream is None:
            self._held.append(data)
        else:
            self._upstream.write(data)

    def connection_lost(self, _: Exception | None) -> None:
        """Close the other side."""
        if self._upstream is not None:
            self._upstream.close()


class Upstream(asyncio.Protocol):
    """The connection to Redis of one client."""

    def __init__(self, downstream: Downstream, client: asyncio.Transport) -> None:
        self._downstream = downstream
        self._client = client

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Tell the client's side."""
        self._downstream.connected(cast("asyncio.Transport", transport))

    def data_received(self, data: bytes) -> None:
        """Send it on."""
        self._client.write(data)

    def connection_lost(self, _: Exception | None) -> None:
        """Close the other side."""
        self._client.close()


async def main() -> None:
    """Forward until killed."""
    port, upstream_port = map(int, sys.argv[1:])
    server = await asyncio.get_running_loop().create_server(lambda: Downstream(upstream_port), "127.0.0.1", port)
    gc.freeze()
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
