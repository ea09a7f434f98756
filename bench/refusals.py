"""What a proxy answers to the first commands of go-redis, and to a command of Asynq: why twemproxy cannot serve it."""

import socket

from contestants import Contestant

FIRST_COMMANDS = (
    ("HELLO", "3"),
    ("CLIENT", "SETINFO", "LIB-NAME", "go-redis"),
    ("CLIENT", "SETNAME", "worker"),
    ("SELECT", "1"),
    ("PING",),
    ("SCRIPT", "LOAD", "return 1"),
    ("EVALSHA", "e0e1f9fabfc9d4800c877a703b823ac0578ff8db", "2", "asynq:{q}:pending", "asynq:{q}:active"),
    ("EVALSHA", "e0e1f9fabfc9d4800c877a703b823ac0578ff8db", "0"),
    ("SADD", "asynq:queues", "q"),
    ("SUBSCRIBE", "asynq:cancel"),
    ("PUBLISH", "asynq:cancel", "id"),
    ("INFO",),
)
"""What go-redis sends first, then what Asynq sends; each is tried on a connection of its own."""


def first_replies(contestant: Contestant) -> list[tuple[str, str]]:
    """Return each command and the first line of its reply, or that the connection was closed or nothing came."""
    return [(" ".join(command), _first_line(contestant.port, command)) for command in FIRST_COMMANDS]


def _first_line(port: int, command: tuple[str, ...]) -> str:
    parts = b"".join(b"$%d\r\n%s\r\n" % (len(part), part.encode()) for part in command)
    with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
        connection.sendall(b"*%d\r\n%s" % (len(command), parts))
        try:
            reply = connection.recv(4096)
        except TimeoutError:
            return "no reply within a second"
        except ConnectionResetError:
            return "connection reset"
    return reply.split(b"\r\n")[0].decode(errors="replace") if reply else "connection closed"
