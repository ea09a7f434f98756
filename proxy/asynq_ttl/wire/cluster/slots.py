"""The slot of a key in Redis Cluster.

Source: the Redis Cluster specification, "Key distribution model" and "Hash tags". Its CRC16 is that of XMODEM, which
the standard library has as `binascii.crc_hqx`.
"""

import binascii

SLOTS = 16_384


def slot_of(key: bytes) -> int:
    """Return the slot of a key, 0 to 16,383: that of what stands in its first braces, if that is anything."""
    start = key.find(b"{")
    if start >= 0:
        end = key.find(b"}", start + 1)
        if end > start + 1:
            key = key[start + 1 : end]
    return binascii.crc_hqx(key, 0) % SLOTS
