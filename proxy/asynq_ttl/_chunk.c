/* The two questions asked about every chunk, for `resp`: is it one whole command, is it one whole reply?
 *
 * Optional: `resp` answers them itself where this is not built, and its tests hold the two answers against each other.
 * Both functions only read the bytes they are given, and say no to whatever is not of the one plain form; `resp` then
 * looks closer. Source of the format: the Redis serialization protocol specification.
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

/* Asynq's longest command has about 20 arguments; a number of nine digits is more than the largest argument. */
enum { MAX_ARGUMENTS = 99, MAX_DIGITS = 9 };

/* Read "<marker><number>\r\n" at `at`, the number without a sign or a leading zero. Return where the line ends; NULL
 * where it is no such line, or not a whole one. */
static const char *
header(const char *at, const char *end, char marker, Py_ssize_t *number)
{
    if (end - at < 4 || *at++ != marker) {
        return NULL;
    }
    const char *digits = at;
    Py_ssize_t value = 0;
    while (at < end && *at >= '0' && *at <= '9' && at - digits < MAX_DIGITS) {
        value = value * 10 + (*at++ - '0');
    }
    if (at == digits || (*digits == '0' && at - digits > 1) || end - at < 2 || at[0] != '\r' || at[1] != '\n') {
        return NULL;
    }
    *number = value;
    return at + 2;
}

/* Read "$<length>\r\n<bytes>\r\n" at `at`. Return where it ends; NULL where it is none, or not a whole one. */
static const char *
bulk(const char *at, const char *end, const char **value, Py_ssize_t *length)
{
    at = header(at, end, '$', length);
    if (at == NULL || end - at < *length + 2 || at[*length] != '\r' || at[*length + 1] != '\n') {
        return NULL;
    }
    *value = at;
    return at + *length + 2;
}

static PyObject *
lone_command(PyObject *module, PyObject *chunk)
{
    if (!PyBytes_CheckExact(chunk)) {
        Py_RETURN_NONE;
    }
    const char *at = PyBytes_AS_STRING(chunk), *end = at + PyBytes_GET_SIZE(chunk);
    Py_ssize_t count;
    at = header(at, end, '*', &count);
    if (at == NULL || count < 1 || count > MAX_ARGUMENTS) {
        Py_RETURN_NONE;
    }
    PyObject *command = PyList_New(count);
    if (command == NULL) {
        return NULL;
    }
    for (Py_ssize_t number = 0; number < count; number++) {
        const char *value = NULL;
        Py_ssize_t length = 0;
        at = bulk(at, end, &value, &length);
        if (at == NULL) {
            Py_DECREF(command);
            Py_RETURN_NONE;
        }
        PyObject *argument = PyBytes_FromStringAndSize(value, length);
        if (argument == NULL) {
            Py_DECREF(command);
            return NULL;
        }
        PyList_SET_ITEM(command, number, argument);
    }
    if (at != end) {
        Py_DECREF(command);
        Py_RETURN_NONE;
    }
    return command;
}

static PyObject *
is_lone_reply(PyObject *module, PyObject *chunk)
{
    if (!PyBytes_CheckExact(chunk)) {
        Py_RETURN_FALSE;
    }
    const char *at = PyBytes_AS_STRING(chunk), *end = at + PyBytes_GET_SIZE(chunk), *value;
    Py_ssize_t length;
    if (end - at < 3) {
        Py_RETURN_FALSE;
    }
    switch (*at) {
    case '+': case '-': case ':': case '_': case '#': case ',': case '(':
        return PyBool_FromLong(memchr(at, '\n', end - at) == end - 1);
    case '$':
        if (end - at == 5 && memcmp(at, "$-1\r\n", 5) == 0) {
            Py_RETURN_TRUE;
        }
        return PyBool_FromLong(bulk(at, end, &value, &length) == end);
    default:
        Py_RETURN_FALSE;
    }
}

static PyMethodDef methods[] = {
    {"lone_command", lone_command, METH_O,
     "lone_command(chunk)\n--\n\nReturn the arguments of a chunk that is one whole plain command; else None."},
    {"is_lone_reply", is_lone_reply, METH_O,
     "is_lone_reply(chunk)\n--\n\nSay whether a chunk is one whole reply of one line, or one bulk string."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_chunk", NULL, 0, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC
PyInit__chunk(void)
{
    return PyModuleDef_Init(&module);
}
