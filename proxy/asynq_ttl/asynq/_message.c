/* What a command on its way through is decided by, read from a TaskMessage, for `message`.
 *
 * Optional: `message` reads it with protobuf where this is not built, or where this does not answer: at anything but
 * the plainest form, and where the message has headers. Its tests hold the two answers against each other.
 * Source of the format: the encoding of protocol buffers.
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

/* Numbers of fields, and kinds of values on the wire. */
enum { TYPE = 1, PAYLOAD = 2, ID = 3, QUEUE = 4, RETENTION = 12, HEADERS = 15 };
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

static PyObject *
text(const unsigned char *value, Py_ssize_t length)
{
    return PyUnicode_DecodeUTF8((const char *)value, length, "surrogateescape");
}

static PyObject *
routing(PyObject *module, PyObject *data)
{
    if (!PyBytes_CheckExact(data)) {
        PyErr_SetString(PyExc_TypeError, "routing() takes bytes");
        return NULL;
    }
    const unsigned char *at = (const unsigned char *)PyBytes_AS_STRING(data), *end = at + PyBytes_GET_SIZE(data);
    const unsigned char *type = at, *id = at, *queue = at;
    Py_ssize_t type_length = 0, id_length = 0, queue_length = 0;
    unsigned long long retention = 0, tag, number;
    while (at < end) {
        at = varint(at, end, MAX_LENGTH, &tag);
        if (at == NULL || (tag >> 3) == 0 || (tag >> 3) >= HEADERS) {
            Py_RETURN_NONE;
        }
        int field = (int)(tag >> 3), kind = (int)(tag & 7);
        int of_bytes = field == TYPE || field == PAYLOAD || field == ID || field == QUEUE;
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
            if (field == TYPE) {
                type = at;
                type_length = (Py_ssize_t)number;
            } else if (field == ID) {
                id = at;
                id_length = (Py_ssize_t)number;
            } else if (field == QUEUE) {
                queue = at;
                queue_length = (Py_ssize_t)number;
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
    return Py_BuildValue("(Ny#NK)", text(type, type_length), id, id_length, text(queue, queue_length), retention);
}

static PyMethodDef methods[] = {
    {"routing", routing, METH_O,
     "routing(data)\n--\n\n"
     "Return type, ID, queue and retention of a plain TaskMessage without headers; None for any other bytes."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_message", NULL, 0, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC
PyInit__message(void)
{
    return PyModuleDef_Init(&module);
}
