/* What a command on its way through is decided by, read from a TaskMessage: what the compiled parts share that read one.
 *
 * Only the plainest form is read. No byte at or behind `end` is. Source of the format: the encoding of protocol buffers.
 */

#ifndef ASYNQ_TTL_MESSAGE_H
#define ASYNQ_TTL_MESSAGE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <string.h>

/* Numbers of fields, and kinds of values on the wire. */
enum { TYPE = 1, PAYLOAD = 2, ID = 3, QUEUE = 4, RETENTION = 12, HEADERS = 15 };
enum { HEADER_NAME = 1, HEADER_VALUE = 2 };
enum { VARINT = 0, FIXED64 = 1, BYTES = 2, FIXED32 = 5 };
/* A number of nine bytes has 63 bits: it is neither negative nor cut off. Of tags and lengths protobuf takes no more than
 * five bytes, even if the rest is zeros. */
enum { MAX_NUMBER = 9, MAX_LENGTH = 5 };

/* Some bytes of what is read. */
typedef struct {
    const char *at;
    Py_ssize_t length;
} Part;

/* What is read of a message. */
typedef struct {
    Part type, id, queue, traceparent, tracestate;
    unsigned long long retention;
} Message;

/* Read a number at `at`. Return where it ends; NULL where it has more than `most` bytes, or is not whole. */
static inline const char *
varint(const char *at, const char *end, int most, unsigned long long *number)
{
    *number = 0;
    for (int byte = 0; byte < most && at < end; byte++) {
        unsigned char next = (unsigned char)*at++;
        *number |= (unsigned long long)(next & 0x7f) << (7 * byte);
        if (next < 0x80) {
            return at;
        }
    }
    return NULL;
}

/* Return bytes as text, as `text_of` does; NULL with an exception set. */
static inline PyObject *
text(Part value)
{
    return PyUnicode_DecodeUTF8(value.at, value.length, "surrogateescape");
}

/* Read a header from `at` to `end`. Return whether it is in the plainest form. */
static inline int
read_header(const char *at, const char *end, Part *name, Part *value)
{
    unsigned long long tag, length;
    *name = *value = (Part){at, 0};
    while (at < end) {
        at = varint(at, end, MAX_LENGTH, &tag);
        if (at == NULL || (tag != (HEADER_NAME << 3 | BYTES) && tag != (HEADER_VALUE << 3 | BYTES))) {
            return 0;
        }
        at = varint(at, end, MAX_LENGTH, &length);
        if (at == NULL || length > (unsigned long long)(end - at)) {
            return 0;
        }
        *(tag >> 3 == HEADER_NAME ? name : value) = (Part){at, (Py_ssize_t)length};
        at += length;
    }
    return 1;
}

/* Say whether a name is one that is given in small letters, in any case. */
static inline int
is_named(Part name, const char *small)
{
    if (name.length != (Py_ssize_t)strlen(small)) {
        return 0;
    }
    for (Py_ssize_t at = 0; at < name.length; at++) {
        if (Py_TOLOWER(name.at[at]) != small[at]) {
            return 0;
        }
    }
    return 1;
}

/* Take note of a field of bytes. Return whether it is in the plainest form. */
static inline int
take_field(Message *message, int field, Part value)
{
    Part name;
    switch (field) {
    case TYPE:
        message->type = value;
        break;
    case ID:
        message->id = value;
        break;
    case QUEUE:
        message->queue = value;
        break;
    case HEADERS:
        if (!read_header(value.at, value.at + value.length, &name, &value)) {
            return 0;
        }
        if (is_named(name, "traceparent")) {
            message->traceparent = value;
        }
        else if (is_named(name, "tracestate")) {
            message->tracestate = value;
        }
    }
    return 1;
}

/* Read a message from `at` to `end`. Return whether it is in the plainest form. */
static inline int
read_message(const char *at, const char *end, Message *message)
{
    const Part none = {at, 0};
    unsigned long long tag, number;
    *message = (Message){none, none, none, none, none, 0};
    while (at < end) {
        at = varint(at, end, MAX_LENGTH, &tag);
        if (at == NULL || (tag >> 3) == 0 || (tag >> 3) > HEADERS) {
            return 0;
        }
        int field = (int)(tag >> 3), kind = (int)(tag & 7);
        int of_bytes = field == TYPE || field == PAYLOAD || field == ID || field == QUEUE || field == HEADERS;
        if ((of_bytes && kind != BYTES) || (field == RETENTION && kind != VARINT)) {
            return 0;
        }
        number = kind == FIXED64 ? 8 : 4;
        if (kind == VARINT || kind == BYTES) {
            at = varint(at, end, kind == VARINT ? MAX_NUMBER : MAX_LENGTH, &number);
        }
        if (at == NULL || (kind != VARINT && number > (unsigned long long)(end - at))) {
            return 0;
        }
        switch (kind) {
        case VARINT:
            message->retention = field == RETENTION ? number : message->retention;
            continue;
        case BYTES:
            if (!take_field(message, field, (Part){at, (Py_ssize_t)number})) {
                return 0;
            }
            break;
        case FIXED64:
        case FIXED32:
            break;
        default:
            return 0;
        }
        at += number;
    }
    return 1;
}

#endif
