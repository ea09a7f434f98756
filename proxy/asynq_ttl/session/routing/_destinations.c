/* The slot of a chunk that is one command with its key where nearly all have it, for `destinations`.
 *
 * Optional: `destinations` does it itself where this is not built, and its tests hold the two answers against each other.
 */

#include "_quick_slot.h"

static PyObject *
quick_slot(PyObject *module, PyObject *const *args, Py_ssize_t given)
{
    if (given != 2 || !PyBytes_CheckExact(args[0]) || !PyAnySet_Check(args[1])) {
        PyErr_SetString(PyExc_TypeError, "quick_slot() takes bytes and a set");
        return NULL;
    }
    long slot = quick_slot_of(args[0], args[1]);
    return slot < -1 ? NULL : PyLong_FromLong(slot);
}

static PyMethodDef methods[] = {
    {"quick_slot", (PyCFunction)(void (*)(void))quick_slot, METH_FASTCALL,
     "quick_slot(chunk, unusual)\n--\n\n"
     "Return the slot of a chunk that is one command with its first key where nearly all have it; else -1."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_destinations", NULL, 0, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC
PyInit__destinations(void)
{
    return PyModuleDef_Init(&module);
}
