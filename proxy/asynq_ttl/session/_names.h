/* Looking up the names of commands, in any case. */

#ifndef ASYNQ_TTL_NAMES_H
#define ASYNQ_TTL_NAMES_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

/* Redis's longest command names have about 20 bytes. */
enum { MAX_NAME = 32 };

/* Say whether a name of at most MAX_NAME bytes is in a set of names in upper case: 1 or 0; -1 with an exception set. */
static int
is_in(PyObject *names, const char *name, Py_ssize_t length)
{
    char upper[MAX_NAME];
    for (Py_ssize_t position = 0; position < length; position++) {
        upper[position] = Py_TOUPPER(name[position]);
    }
    PyObject *key = PyBytes_FromStringAndSize(upper, length);
    if (key == NULL) {
        return -1;
    }
    int found = PySet_Contains(names, key);
    Py_DECREF(key);
    return found;
}

#endif
