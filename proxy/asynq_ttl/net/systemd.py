"""What the supervisor that started this process is told: that clients can come now, that no more are taken.

Source: sd_notify(3). Where nobody has asked to be told, nothing is sent; where it cannot be told, the sidecar goes on.
"""

import logging
import os
import socket
from enum import StrEnum

_log = logging.getLogger("asynq_ttl.supervisor")


class Notice(StrEnum):
    """What there is to tell."""

    READY = "READY=1"
    STOPPING = "STOPPING=1"


def tell(notice: Notice) -> None:
    """Tell the supervisor, if it has named a socket for that.

    Args:
        notice: what to tell.
    """
    name = os.environ.get("NOTIFY_SOCKET", "")
    if not name:
        return
    # A name that begins with "@" is one of Linux's abstract namespace.
    address = f"\0{name[1:]}" if name.startswith("@") else name
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as connection:
            connection.connect(address)
            connection.send(notice.encode())
    except OSError as error:
        _log.warning("cannot tell the supervisor %s at %s: %s", notice, name, error)
