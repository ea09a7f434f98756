/* What a command on its way through is decided by, read from a TaskMessage, for `message`.
 *
 * Optional: `message` reads it with protobuf where this is not built, or where this does not answer: at anything but
 * the plainest form. Its tests hold the two answers against each other.
 * Source of the format: the encoding of protocol buffers.
 */

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

/* Read a number at `at`. Return where it ends; NULL where it has more than `most` bytes, or is not whole. */
static const unsigned char *
varint(const unsigned char *at, const unsigned char *end, int most, unsigned long long *number)
{
    *number = 0;
    for (int byte = 0; byte < most && at < end; byte++) {
        *number |= (unsigned long long)(*at & 0x7f) << (7 * byte);
        if (*at++ < 0x80) {
            return at;
        }
    }
    return NULL;
}

/* A part of the message. */
typedef struct {
    const unsigned char *at;
    Py_ssize_t length;
} part;

static PyObject *
text(part value)
{
    return PyUnicode_DecodeUTF8((const char *)value.at, value.length, "surrogateescape");
}

/* Read a header from `at` to `end`. Return whether it is in the plainest form. */
static int
read_header(const unsigned char *at, const unsigned char *end, part *name, part *value)
{
    unsigned long long tag, length;
    *name = *value = (part){at, 0};
    while (at < end) {
        at = varint(at, end, MAX_LENGTH, &tag);
        if (at == NULL || (tag != (HEADER_NAME << 3 | BYTES) && tag != (HEADER_VALUE << 3 | BYTES))) {
            return 0;
        }
        at = varint(at, end, MAX_LENGTH, &length);
        if (at == NULL || length > (unsigned long long)(end - at)) {
            return 0;
        }
        *(tag >> 3 == HEADER_NAME ? name : value) = (part){at, (Py_ssize_t)length};
        at += length;
    }
    return 1;
}

/* Say whether a name is one that is given in small letters, in any case. */
static int
is_named(part name, const char *small)
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

static PyObject *
routing(PyObject *module, PyObject *data)
{
    if (!PyBytes_CheckExact(data)) {
        PyErr_SetString(PyExc_TypeError, "routing() takes bytes");
        return NULL;
    }
    const unsigned char *at = (const unsigned char *)PyBytes_AS_STRING(data), *end = at + PyBytes_GET_SIZE(data);
    part type = {at, 0}, id = type, queue = type, traceparent = type, tracestate = type, name, value;
    unsigned long long retention = 0, tag, number;
    while (at < end) {
        at = varint(at, end, MAX_LENGTH, &tag);
        if (at == NULL || (tag >> 3) == 0 || (tag >> 3) > HEADERS) {
            Py_RETURN_NONE;
        }
        int field = (int)(tag >> 3), kind = (int)(tag & 7);
        int of_bytes = field == TYPE || field == PAYLOAD || field == ID || field == QUEUE || field == HEADERS;
        if ((of_bytes && kind != BYTES) || (field == RETENTION && kind != VARINT)) {
            Py_RETURN_NONE;
        }
        number = kind == FIXED64 ? 8 : 4;
        if (kind == VARINT || kind == BYTES) {
            at = varint(at, end, kind == VARINT ? MAX_NUMBER : MAX_LENGTH, &number);
        }
        if (at == NULL || (kind != VARINT && number > (unsigned long long)(end - at))) {
            Py_RETURN_NONE;
        }
        switch (kind) {
        case VARINT:
            retention = field == RETENTION ? number : retention;
            continue;
        case BYTES:
            value = (part){at, (Py_ssize_t)number};
            if (field == TYPE) {
                type = value;
            } else if (field == ID) {
                id = value;
            } else if (field == QUEUE) {
                queue = value;
            } else if (field == HEADERS) {
                if (!read_header(at, at + number, &name, &value)) {
                    Py_RETURN_NONE;
                }
                if (is_named(name, "traceparent")) {
                    traceparent = value;
                } else if (is_named(name, "tracestate")) {
                    tracestate = value;
                }
            }
            break;
        case FIXED64:
        case FIXED32:
            break;
        default:
            Py_RETURN_NONE;
        }
        at += number;
    }
    return Py_BuildValue("(Ny#NKNN)", text(type), id.at, id.length, text(queue), retention, text(traceparent),
                         text(tracestate));
}

static PyMethodDef methods[] = {
    {"routing", routing, METH_O,
     "routing(data)\n--\n\n"
     "Return type, ID, queue, retention, traceparent and tracestate of a plain TaskMessage; None for any other bytes."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_message", NULL, 0, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC
PyInit__message(void)
{
    return PyModuleDef_Init(&module);
}
