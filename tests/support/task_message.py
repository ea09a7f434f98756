"""Encoded TaskMessages for tests, written by hand so that they do not share a fault with what reads them."""


def encode_task(
    task_type: str,
    task_id: str = "id",
    queue: str = "q",
    retention_seconds: int = 0,
    *,
    payload: bytes = b"{}",
    headers: dict[str, str] | None = None,
    error_msg: str = "",
    unique_key: bytes = b"",
    last_failed_at: int = 0,
    completed_at: int = 0,
) -> bytes:
    """Return a TaskMessage as Asynq's protocol buffer definition has it (proto3: empty fields are left out)."""
    message = _text(1, task_type) + _text(2, payload) + _text(3, task_id) + _text(4, queue)
    message += _text(7, error_msg) + _text(10, unique_key)
    for field, number in ((11, last_failed_at), (12, retention_seconds), (13, completed_at)):
        if number:
            message += _varint(field << 3) + _varint(number)
    for key, value in (headers or {}).items():
        message += _text(15, _text(1, key) + _text(2, value))
    return message


def retained(retention_seconds: int, completed_at: int) -> bytes:
    """Return the end of a TaskMessage that has a retention and a completion, and neither group nor headers."""
    return b"".join(
        _varint(field << 3) + _varint(number) for field, number in ((12, retention_seconds), (13, completed_at))
    )


def _text(field: int, value: str | bytes) -> bytes:
    content = value.encode() if isinstance(value, str) else value
    return _varint(field << 3 | 2) + _varint(len(content)) + content if content else b""


def _varint(number: int) -> bytes:
    number %= 2**64
    encoded = bytearray()
    while number > 127:
        encoded.append(number & 127 | 128)
        number >>= 7
    return bytes((*encoded, number))
