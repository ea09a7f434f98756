/* The slot of a chunk that is one command with its key where nearly all have it: what all the compiled parts that route
 * share. It only reads what it is given. Source of the slot: the Redis Cluster specification, "Key distribution model" and
 * "Hash tags".
 */

#ifndef ASYNQ_TTL_QUICK_SLOT_H
#define ASYNQ_TTL_QUICK_SLOT_H

#include "../../wire/_resp.h"
#include "../_names.h"

enum { SLOTS = 16384 };

/* The CRC16 of XMODEM, four bits at a time: polynomial 0x1021, from 0. */
static unsigned
crc16(const char *key, Py_ssize_t length)
{
    static const uint16_t table[16] = {
        0x0000, 0x1021, 0x2042, 0x3063, 0x4084, 0x50a5, 0x60c6, 0x70e7,
        0x8108, 0x9129, 0xa14a, 0xb16b, 0xc18c, 0xd1ad, 0xe1ce, 0xf1ef,
    };
    uint16_t crc = 0;
    for (Py_ssize_t position = 0; position < length; position++) {
        unsigned byte = (unsigned char)key[position];
        crc = (uint16_t)(crc << 4) ^ table[(crc >> 12) ^ (byte >> 4)];
        crc = (uint16_t)(crc << 4) ^ table[(crc >> 12) ^ (byte & 15)];
    }
    return crc;
}

/* Return the slot of a key: that of what stands in its first braces, if that is anything. */
static long
slot_of(const char *key, Py_ssize_t length)
{
    const char *open = memchr(key, '{', length), *end = key + length;
    const char *close = open == NULL ? NULL : memchr(open + 1, '}', end - open - 1);
    if (close != NULL && close > open + 1) {
        key = open + 1;
        length = close - key;
    }
    return crc16(key, length) % SLOTS;
}

/* Say whether a number of KEYS is 1 to 99, without a leading zero. */
static int
is_few(const char *digits, Py_ssize_t length)
{
    return length >= 1 && length <= 2 && digits[0] >= '1' && digits[0] <= '9'
           && (length == 1 || (digits[1] >= '0' && digits[1] <= '9'));
}

/* Return the slot of a chunk of bytes, as `_quick_slot` in destinations.py does: -1 where more has to be seen; -2 with an
 * exception set. */
static long
quick_slot_of(PyObject *chunk, PyObject *unusual)
{
    const char *at = PyBytes_AS_STRING(chunk), *end = at + PyBytes_GET_SIZE(chunk);
    /* The name, and what may be the key, or the number of KEYS and the first of them. */
    const char *value[4];
    Py_ssize_t length[4], count, ignored;
    at = command_header(at, end, &count);
    for (Py_ssize_t number = 0; at != NULL && number < count; number++) {
        const char *other;
        at = number < 4 ? bulk(at, end, &value[number], &length[number]) : bulk(at, end, &other, &ignored);
    }
    if (at != end || count < 2 || length[0] > MAX_NAME) {
        return -1;
    }
    Py_ssize_t key;
    if (length[0] == 7 && (memcmp(value[0], "evalsha", 7) == 0 || memcmp(value[0], "EVALSHA", 7) == 0)) {
        key = count > 3 && is_few(value[2], length[2]) ? 3 : 0;
    }
    else {
        int is_unusual = is_in(unusual, value[0], length[0]);
        if (is_unusual < 0) {
            return -2;
        }
        key = is_unusual ? 0 : 1;
    }
    return key == 0 ? -1 : slot_of(value[key], length[key]);
}

#endif
