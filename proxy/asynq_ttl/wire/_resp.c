/* The two questions asked about every chunk, for `resp`: which whole commands is it, how many whole replies? And the way
 * back, from a command to its bytes.
 *
 * Optional: `resp` answers them itself where this is not built, and its tests hold the two answers against each other.
 * They only read what they are given, and do not answer where something is not of its one plain form; `resp` then
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

/* Answer for the call of a script in `at` to `end`, which has been seen to be a command, by its first part: from what is
 * remembered of scripts (by their SHA) and of polls (by all bytes up to the last of the KEYS). Return a number, bytes or
 * an exception as `look` does; NULL without an exception where nothing is remembered. */
static PyObject *
remembered(const char *start, const char *end, PyObject *untouched, PyObject *polls)
{
    Py_ssize_t count, keys = 0, length;
    const char *value, *at = command_header(start, end, &count);
    at = bulk(at, end, &value, &length);
    if (count < 3 || length != 7 || (memcmp(value, "evalsha", 7) != 0 && memcmp(value, "EVALSHA", 7) != 0)) {
        return NULL;
    }
    at = bulk(at, end, &value, &length);
    PyObject *name = PyBytes_FromStringAndSize(value, length);
    int found = name == NULL ? -1 : PyDict_Contains(untouched, name);
    Py_XDECREF(name);
    if (found != 0) {
        return found < 0 ? NULL : PyLong_FromLong(1);
    }
    at = bulk(at, end, &value, &length);
    for (Py_ssize_t digit = 0; digit < length; digit++) {
        if (length > 2 || value[digit] < '0' || value[digit] > '9') {
            return NULL;
        }
        keys = keys * 10 + (value[digit] - '0');
    }
    if (keys > count - 3) {
        return NULL;
    }
    for (; keys > 0; keys--) {
        at = bulk(at, end, &value, &length);
    }
    PyObject *beginning = PyBytes_FromStringAndSize(start, at - start), *other = NULL, *whole = NULL;
    if (beginning != NULL) {
        other = PyDict_GetItemWithError(polls, beginning);
        Py_DECREF(beginning);
    }
    if (other == NULL || !PyBytes_CheckExact(other)) {
        return NULL;
    }
    length = PyBytes_GET_SIZE(other);
    whole = PyBytes_FromStringAndSize(NULL, length + (end - at));
    if (whole != NULL) {
        memcpy(PyBytes_AS_STRING(whole), PyBytes_AS_STRING(other), length);
        memcpy(PyBytes_AS_STRING(whole) + length, at, end - at);
    }
    return whole;
}

static PyObject *
look(PyObject *module, PyObject *const *args, Py_ssize_t given)
{
    if (given != 4 || !PyBytes_CheckExact(args[0]) || !PyAnySet_Check(args[1]) || !PyDict_CheckExact(args[2])
        || !PyDict_CheckExact(args[3])) {
        PyErr_SetString(PyExc_TypeError, "look() takes bytes, a set and two dicts");
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
    if (!special) {
        return PyLong_FromLong(commands);
    }
    PyObject *answer = remembered(start, end, args[2], args[3]);
    return answer != NULL || PyErr_Occurred() ? answer : arguments(start, end);
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

/* Write "<marker><number>\r\n" at `at`, or count how long it is where `at` is NULL. Return the length. */
static Py_ssize_t
write_header(char *at, char marker, Py_ssize_t number)
{
    char digits[24];
    Py_ssize_t length = 0;
    do {
        digits[length++] = '0' + number % 10;
        number /= 10;
    } while (number > 0);
    if (at != NULL) {
        *at++ = marker;
        for (Py_ssize_t digit = length; digit > 0; digit--) {
            *at++ = digits[digit - 1];
        }
        memcpy(at, "\r\n", 2);
    }
    return length + 3;
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
    {"look", (PyCFunction)(void (*)(void))look, METH_FASTCALL,
     "look(chunk, special, untouched, polls)\n--\n\n"
     "Return the number of commands a chunk is, if it is whole plain ones and none has a special name, or if it is one\n"
     "EVALSHA of an untouched SHA; what to send instead, if it is one that begins like one of the polls; the arguments\n"
     "of the command it is, if it is another one with a special name; else None."},
    {"count_replies", count_replies, METH_O,
     "count_replies(chunk)\n--\n\n"
     "Return the number of replies a chunk is, if it is whole ones of one line or one bulk string; else 0."},
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
