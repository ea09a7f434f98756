/* The two questions asked about every chunk, for `resp`: which whole commands is it, how many whole replies?
 *
 * Optional: `resp` answers them itself where this is not built, and its tests hold the two answers against each other.
 * Both only read the bytes they are given, and do not answer where something is not of its one plain form; `resp` then
 * looks closer. Source of the format: the Redis serialization protocol specification.
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

/* Asynq's longest command has about 20 arguments; a number of nine digits is more than the largest argument; Redis's
 * longest command names have about 20 bytes. */
enum { MAX_ARGUMENTS = 99, MAX_DIGITS = 9, MAX_NAME = 32 };

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

/* Read the header of a command at `at`; the rest as above. */
static const char *
command_header(const char *at, const char *end, Py_ssize_t *count)
{
    at = header(at, end, '*', count);
    return at != NULL && *count >= 1 && *count <= MAX_ARGUMENTS ? at : NULL;
}

/* Say whether a command's name is one of the special ones: 1 or 0; -1 with an exception set. */
static int
is_special(PyObject *special, const char *name, Py_ssize_t length)
{
    char upper[MAX_NAME];
    if (length > MAX_NAME) {
        return 0;
    }
    for (Py_ssize_t position = 0; position < length; position++) {
        upper[position] = Py_TOUPPER(name[position]);
    }
    PyObject *key = PyBytes_FromStringAndSize(upper, length);
    if (key == NULL) {
        return -1;
    }
    int found = PySet_Contains(special, key);
    Py_DECREF(key);
    return found;
}

/* Return the arguments of the command in `at` to `end`, which has been seen to be one. */
static PyObject *
arguments(const char *at, const char *end)
{
    Py_ssize_t count, length;
    const char *value;
    at = command_header(at, end, &count);
    PyObject *command = PyList_New(count);
    for (Py_ssize_t number = 0; command != NULL && number < count; number++) {
        at = bulk(at, end, &value, &length);
        PyObject *argument = PyBytes_FromStringAndSize(value, length);
        if (argument == NULL) {
            Py_CLEAR(command);
            break;
        }
        PyList_SET_ITEM(command, number, argument);
    }
    return command;
}

static PyObject *
look(PyObject *module, PyObject *const *args, Py_ssize_t given)
{
    if (given != 2 || !PyBytes_CheckExact(args[0]) || !PyAnySet_Check(args[1])) {
        PyErr_SetString(PyExc_TypeError, "look() takes bytes and a set");
        return NULL;
    }
    const char *start = PyBytes_AS_STRING(args[0]), *at = start, *end = at + PyBytes_GET_SIZE(args[0]);
    long commands = 0;
    int special = 0;
    do {
        Py_ssize_t count, length;
        const char *value;
        at = command_header(at, end, &count);
        for (Py_ssize_t number = 0; at != NULL && number < count; number++) {
            at = bulk(at, end, &value, &length);
            if (at != NULL && number == 0 && !special) {
                special = is_special(args[1], value, length);
                if (special < 0) {
                    return NULL;
                }
            }
        }
        commands++;
        if (at == NULL || (special && (commands > 1 || at != end))) {
            Py_RETURN_NONE;
        }
    } while (at != end);
    return special ? arguments(start, end) : PyLong_FromLong(commands);
}

static PyObject *
count_replies(PyObject *module, PyObject *chunk)
{
    if (!PyBytes_CheckExact(chunk)) {
        PyErr_SetString(PyExc_TypeError, "count_replies() takes bytes");
        return NULL;
    }
    const char *at = PyBytes_AS_STRING(chunk), *end = at + PyBytes_GET_SIZE(chunk), *value;
    Py_ssize_t length;
    long replies = 0;
    for (; at != end; replies++) {
        switch (*at) {
        case '+': case '-': case ':': case '_': case '#': case ',': case '(':
            at = memchr(at, '\n', end - at);
            at = at == NULL ? NULL : at + 1;
            break;
        case '$':
            at = end - at >= 5 && memcmp(at, "$-1\r\n", 5) == 0 ? at + 5 : bulk(at, end, &value, &length);
            break;
        default:
            at = NULL;
        }
        if (at == NULL) {
            return PyLong_FromLong(0);
        }
    }
    return PyLong_FromLong(replies);
}

static PyMethodDef methods[] = {
    {"look", (PyCFunction)(void (*)(void))look, METH_FASTCALL,
     "look(chunk, special)\n--\n\n"
     "Return the number of commands a chunk is, if it is whole plain ones and none has a special name; the arguments of\n"
     "the command it is, if it is one with a special name; else None."},
    {"count_replies", count_replies, METH_O,
     "count_replies(chunk)\n--\n\n"
     "Return the number of replies a chunk is, if it is whole ones of one line or one bulk string; else 0."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_chunk", NULL, 0, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC
PyInit__chunk(void)
{
    return PyModuleDef_Init(&module);
}
