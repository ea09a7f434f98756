/* What goes to Redis for a chunk, as far as that is remembered: what all the compiled parts that forward commands share.
 *
 * It only reads what it is given, and decides nothing: what is not remembered is handed over, taken apart.
 */

#ifndef ASYNQ_TTL_RECALL_H
#define ASYNQ_TTL_RECALL_H

#include "../rewriting/_remembered.h"
#include "../wire/_resp.h"
#include "_names.h"

/* Say whether a name is EVALSHA, as clients write it. */
static int
is_evalsha(const char *name, Py_ssize_t length)
{
    return length == 7 && (memcmp(name, "evalsha", 7) == 0 || memcmp(name, "EVALSHA", 7) == 0);
}

/* Say whether a command's name is one of the special ones: 1 or 0; -1 with an exception set. */
static int
is_special(PyObject *special, const char *name, Py_ssize_t length)
{
    if (is_evalsha(name, length)) {
        return 1;
    }
    if (length > MAX_NAME) {
        return 0;
    }
    return is_in(special, name, length);
}

/* Read the number of KEYS of a script call that has `arguments` behind it. Return -1 where Redis refuses it. */
static Py_ssize_t
number_of_keys(const char *digits, Py_ssize_t length, Py_ssize_t arguments)
{
    Py_ssize_t keys = 0;
    if (length < 1 || length > 2 || (length == 2 && *digits == '0')) { /* there are at most MAX_ARGUMENTS */
        return -1;
    }
    for (Py_ssize_t digit = 0; digit < length; digit++) {
        if (digits[digit] < '0' || digits[digit] > '9') {
            return -1;
        }
        keys = keys * 10 + (digits[digit] - '0');
    }
    return keys <= arguments ? keys : -1;
}

/* How keys end, by which `may_be_terminal` in asynq/keys.py goes. */
typedef struct {
    const char *end;
    Py_ssize_t length;
} Suffix;
#define SUFFIX(text) {text, sizeof text - 1}
static const Suffix ARCHIVED = SUFFIX("}:archived"), COMPLETED = SUFFIX("}:completed"), PENDING = SUFFIX("}:pending"),
                    ACTIVE = SUFFIX("}:active"), GROUPS = SUFFIX("}:groups");

static int
ends(const char *value, Py_ssize_t length, Suffix suffix)
{
    return length >= suffix.length && memcmp(value + length - suffix.length, suffix.end, suffix.length) == 0;
}

/* Say whether the KEYS in `at` to `end`, so many of them, may concern a terminal state, as `may_be_terminal` does. */
static int
may_be_terminal(const char *at, const char *end, Py_ssize_t keys)
{
    int first = 0, second = 0;
    for (Py_ssize_t key = 0; key < keys; key++) {
        Py_ssize_t length;
        const char *value;
        at = bulk(at, end, &value, &length);
        if (ends(value, length, ARCHIVED) || ends(value, length, COMPLETED)) {
            return 1;
        }
        if (key == 0) {
            first = ends(value, length, PENDING);
        }
        else if (key == 1) {
            second = ends(value, length, PENDING);
        }
        else if (key == 2 && ((first && ends(value, length, ACTIVE)) || (second && ends(value, length, GROUPS)))) {
            return 1;
        }
    }
    return 0;
}

/* Say whether the first of the KEYS in `at` to `end` starts with one of the prefixes in a list. */
static int
passes(const char *at, const char *end, PyObject *prefixes)
{
    Py_ssize_t length;
    const char *value;
    bulk(at, end, &value, &length);
    for (Py_ssize_t number = 0; number < PyList_GET_SIZE(prefixes); number++) {
        PyObject *prefix = PyList_GET_ITEM(prefixes, number);
        if (PyBytes_CheckExact(prefix) && PyBytes_GET_SIZE(prefix) <= length
            && memcmp(value, PyBytes_AS_STRING(prefix), PyBytes_GET_SIZE(prefix)) == 0) {
            return 1;
        }
    }
    return 0;
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

/* Return the command in `start` to `end` taken apart: its arguments, and its number of KEYS. */
static PyObject *
taken_apart(const char *start, const char *end, Py_ssize_t keys)
{
    PyObject *command = arguments(start, end), *number = NULL, *both = NULL;
    if (command != NULL) {
        number = PyLong_FromSsize_t(keys);
    }
    if (number != NULL) {
        both = PyTuple_Pack(2, command, number);
    }
    Py_XDECREF(command);
    Py_XDECREF(number);
    return both;
}

/* Return what goes to Redis for the call in `start` to `end`, where what stands in `start` to `at`, all up to the last of
 * its KEYS, is remembered; NULL where it is not, or with an exception set. */
static PyObject *
remembered(const char *start, const char *at, const char *end, PyObject *polls)
{
    PyObject *beginning = PyBytes_FromStringAndSize(start, at - start), *instead = NULL;
    if (beginning != NULL) {
        instead = PyDict_GetItemWithError(polls, beginning);
        Py_DECREF(beginning);
    }
    if (instead == NULL || !PyBytes_CheckExact(instead)) {
        return NULL;
    }
    Py_ssize_t length = PyBytes_GET_SIZE(instead);
    PyObject *whole = PyBytes_FromStringAndSize(NULL, length + (end - at));
    if (whole != NULL) {
        memcpy(PyBytes_AS_STRING(whole), PyBytes_AS_STRING(instead), length);
        memcpy(PyBytes_AS_STRING(whole) + length, at, end - at);
    }
    return whole;
}

/* Say whether a call goes as it came, by what is known of its script, whose KEYS stand in `at` to `end`: 1 or 0; -1 with an
 * exception set. */
static int
goes_as_it_came(PyObject *untouched, PyObject *sha, const char *at, const char *end, Py_ssize_t keys)
{
    PyObject *script = PyDict_GetItemWithError(untouched, sha), *prefixes = NULL;
    int unseen = 0;
    if (script == NULL) {
        return PyErr_Occurred() ? -1 : 0;
    }
    if (PyTuple_CheckExact(script) && PyTuple_GET_SIZE(script) == 1) {
        unseen = 1;
        script = PyTuple_GET_ITEM(script, 0);
    }
    if (PyList_CheckExact(script)) {
        prefixes = script;
    }
    else if (script == Py_None) {
        unseen = 1;
    }
    else {
        return 1;
    }
    return keys > 0 && (prefixes == NULL || passes(at, end, prefixes)) && (!unseen || !may_be_terminal(at, end, keys));
}

/* Return what goes to Redis for a chunk that is a call, and what is told of it, where that is remembered of its script; NULL
 * where it is not, or with an exception set. What goes wrong is forgotten with all of that: the call can be decided. */
static PyObject *
remembered_ending(PyObject *endings, PyObject *sha, PyObject *chunk, Py_ssize_t keys)
{
    PyObject *calls = PyDict_GetItemWithError(endings, sha), *both = calls == NULL ? NULL : ended(calls, chunk, keys);
    if (calls != NULL && both == NULL && PyErr_Occurred()) {
        PyErr_Clear();
        PyDict_Clear(endings);
    }
    return both;
}

/* Answer for a chunk that is one command with a special name. Return as `recall` does. */
static PyObject *
answer(PyObject *chunk, PyObject *untouched, PyObject *polls, PyObject *endings)
{
    const char *start = PyBytes_AS_STRING(chunk), *end = start + PyBytes_GET_SIZE(chunk), *name, *value;
    Py_ssize_t count, length, keys;
    const char *at = command_header(start, end, &count);
    if (count < 3) {
        return taken_apart(start, end, -1);
    }
    at = bulk(at, end, &name, &length);
    int evalsha = is_evalsha(name, length);
    at = bulk(at, end, &value, &length);
    PyObject *sha = evalsha ? PyBytes_FromStringAndSize(value, length) : NULL, *whole = NULL;
    if (evalsha && sha == NULL) {
        return NULL;
    }
    at = bulk(at, end, &value, &length);
    keys = number_of_keys(value, length, count - 3);
    int goes = evalsha ? goes_as_it_came(untouched, sha, at, end, keys) : 0;
    if (goes > 0) {
        whole = PyLong_FromLong(1);
    }
    else if (goes == 0 && evalsha && keys > 0) {
        whole = remembered_ending(endings, sha, chunk, keys);
    }
    if (goes == 0 && whole == NULL && evalsha && keys >= 0 && !PyErr_Occurred()) {
        for (Py_ssize_t key = 0; key < keys; key++) {
            at = bulk(at, end, &value, &length);
        }
        whole = remembered(start, at, end, polls);
    }
    Py_XDECREF(sha);
    return whole != NULL || PyErr_Occurred() ? whole : taken_apart(start, end, keys);
}

/* Say what goes to Redis for a chunk of bytes, as `Memory._recall` in fast_path.py does. */
static PyObject *
recalled(PyObject *chunk, PyObject *names, PyObject *untouched, PyObject *polls, PyObject *endings)
{
    const char *at = PyBytes_AS_STRING(chunk), *end = at + PyBytes_GET_SIZE(chunk);
    long commands = 0;
    int special = 0;
    do {
        Py_ssize_t count, length;
        const char *value;
        at = command_header(at, end, &count);
        for (Py_ssize_t number = 0; at != NULL && number < count; number++) {
            at = bulk(at, end, &value, &length);
            if (at != NULL && number == 0 && !special) {
                special = is_special(names, value, length);
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
    return special ? answer(chunk, untouched, polls, endings) : PyLong_FromLong(commands);
}

#endif
