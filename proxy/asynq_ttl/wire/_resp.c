/* How many whole replies a chunk is, and where the values of a reply end, for `replies`; a command as bytes, for
 * `commands`.
 *
 * Optional: both do it themselves where this is not built, and their tests hold the two answers against each other. Only
 * replies of one line and bulk strings are counted here, and only values in their plain form passed over; of anything
 * else `replies` makes sense itself.
 */

#include "_resp.h"

static PyObject *
count_replies(PyObject *module, PyObject *chunk)
{
    if (!PyBytes_CheckExact(chunk)) {
        PyErr_SetString(PyExc_TypeError, "count_replies() takes bytes");
        return NULL;
    }
    const char *at = PyBytes_AS_STRING(chunk);
    return PyLong_FromLong(whole_replies(at, at + PyBytes_GET_SIZE(chunk)));
}

/* Return where the value at `at` ends, or for an array, a map or a set its header, and how many values are missing then
 * besides; NULL where that cannot be told here. */
static const char *
skip_value(const char *at, const char *end, Py_ssize_t *more)
{
    const char *value;
    Py_ssize_t length;
    *more = 0;
    switch (*at) {
    case '+': case '-': case ':': case '_': case '#': case ',': case '(':
        at = memchr(at, '\n', end - at);
        return at == NULL ? NULL : at + 1;
    case '$':
        return end - at >= 5 && memcmp(at, "$-1\r\n", 5) == 0 ? at + 5 : bulk(at, end, &value, &length);
    case '*': case '~':
        return header(at, end, *at, more);
    case '%':
        at = header(at, end, '%', more);
        *more *= 2;
        return at;
    default:
        return NULL;
    }
}

static PyObject *
skip_values(PyObject *module, PyObject *args)
{
    /* A header adds less than 2^31, so the sum never overflows. */
    const Py_ssize_t most = PY_SSIZE_T_MAX / 2;
    PyObject *data;
    Py_ssize_t position, missing, more;
    if (!PyArg_ParseTuple(args, "Snn:skip_values", &data, &position, &missing)) {
        return NULL;
    }
    const char *start = PyBytes_AS_STRING(data), *end = start + PyBytes_GET_SIZE(data);
    if (position < 0 || position > end - start) {
        PyErr_SetString(PyExc_ValueError, "skip_values() takes a position in the data");
        return NULL;
    }
    const char *at = start + position;
    while (missing > 0 && missing < most && at != end) {
        const char *next = skip_value(at, end, &more);
        if (next == NULL) {
            break;
        }
        at = next;
        missing += more - 1;
    }
    return Py_BuildValue("nn", (Py_ssize_t)(at - start), missing);
}

static PyObject *
encode(PyObject *module, PyObject *command)
{
    if (!PyList_CheckExact(command) && !PyTuple_CheckExact(command)) {
        PyErr_SetString(PyExc_TypeError, "encode() takes a list or a tuple");
        return NULL;
    }
    Py_ssize_t count = PySequence_Fast_GET_SIZE(command), size = write_header(NULL, '*', count);
    for (Py_ssize_t number = 0; number < count; number++) {
        PyObject *argument = PySequence_Fast_GET_ITEM(command, number);
        if (!PyBytes_CheckExact(argument)) {
            PyErr_SetString(PyExc_TypeError, "encode() takes arguments of bytes");
            return NULL;
        }
        size += write_header(NULL, '$', PyBytes_GET_SIZE(argument)) + PyBytes_GET_SIZE(argument) + 2;
    }
    PyObject *whole = PyBytes_FromStringAndSize(NULL, size);
    if (whole == NULL) {
        return NULL;
    }
    char *at = PyBytes_AS_STRING(whole);
    at += write_header(at, '*', count);
    for (Py_ssize_t number = 0; number < count; number++) {
        PyObject *argument = PySequence_Fast_GET_ITEM(command, number);
        Py_ssize_t length = PyBytes_GET_SIZE(argument);
        at += write_header(at, '$', length);
        memcpy(at, PyBytes_AS_STRING(argument), length);
        memcpy(at + length, "\r\n", 2);
        at += length + 2;
    }
    return whole;
}

static PyMethodDef methods[] = {
    {"count_replies", count_replies, METH_O,
     "count_replies(chunk)\n--\n\n"
     "Return the number of replies a chunk is, if it is whole ones of one line or one bulk string; else 0."},
    {"skip_values", skip_values, METH_VARARGS,
     "skip_values(data, position, missing)\n--\n\n"
     "Pass over values from a position on, while so many are missing; return where that ended, and how many are then."},
    {"encode", encode, METH_O,
     "encode(command)\n--\n\n"
     "Return a command, a list or a tuple of bytes, as an array of bulk strings."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_resp", NULL, 0, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC
PyInit__resp(void)
{
    return PyModuleDef_Init(&module);
}
