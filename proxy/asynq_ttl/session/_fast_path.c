/* What goes to Redis for a chunk, as far as that is remembered, for `fast_path`.
 *
 * Optional: `fast_path` does it itself where this is not built, and its tests hold the two answers against each other. It
 * only reads what it is given, and decides nothing: what is not remembered is handed over, taken apart.
 */

#include "_recall.h"

static PyObject *
recall(PyObject *module, PyObject *const *args, Py_ssize_t given)
{
    if (given != 5 || !PyBytes_CheckExact(args[0]) || !PyAnySet_Check(args[1]) || !PyDict_CheckExact(args[2])
        || !PyDict_CheckExact(args[3]) || !PyDict_CheckExact(args[4])) {
        PyErr_SetString(PyExc_TypeError, "recall() takes bytes, a set and three dicts");
        return NULL;
    }
    return recalled(args[0], args[1], args[2], args[3], args[4]);
}

static PyMethodDef methods[] = {
    {"recall", (PyCFunction)(void (*)(void))recall, METH_FASTCALL,
     "recall(chunk, special, untouched, polls, endings)\n--\n\n"
     "Return how many commands a chunk is that all go as they came; what to send instead of the one it is, or that and what\n"
     "is told of it; that one's arguments and number of KEYS, where it has a special name and nothing is remembered; else\n"
     "None."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_fast_path", NULL, 0, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC
PyInit__fast_path(void)
{
    return PyModuleDef_Init(&module);
}
