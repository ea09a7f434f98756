/* What a command on its way through is decided by, read from a TaskMessage, for `message`.
 *
 * Optional: `message` reads it with protobuf where this is not built, or where this does not answer: at anything but
 * the plainest form. Its tests hold the two answers against each other.
 */

#include "_message.h"

static PyObject *
routing(PyObject *module, PyObject *data)
{
    if (!PyBytes_CheckExact(data)) {
        PyErr_SetString(PyExc_TypeError, "routing() takes bytes");
        return NULL;
    }
    const char *at = PyBytes_AS_STRING(data);
    Message told;
    if (!read_message(at, at + PyBytes_GET_SIZE(data), &told)) {
        Py_RETURN_NONE;
    }
    return Py_BuildValue("(Ny#NKNN)", text(told.type), told.id.at, told.id.length, text(told.queue), told.retention,
                         text(told.traceparent), text(told.tracestate));
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
