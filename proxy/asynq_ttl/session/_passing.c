/* Replies that pass as they came, for `passing`.
 *
 * Optional: `passing` has the same class where this is not built, and its tests hold the two against each other. What does
 * not simply pass is given to the method `receive_slowly`, which a subclass has.
 */

#include "../wire/_resp.h"

#include <structmember.h>

typedef struct {
    PyObject_HEAD
    Py_ssize_t replies;
    char quiet;
} Passing;

/* Return how many replies a chunk is; 0 where it is not whole ones, or where one of them may be an error. */
static long
passing_replies(PyObject *data)
{
    if (!PyBytes_CheckExact(data) || PyBytes_GET_SIZE(data) == 0) {
        return 0;
    }
    const char *at = PyBytes_AS_STRING(data), *end = at + PyBytes_GET_SIZE(data);
    long replies = *at == '-' ? 0 : whole_replies(at, end);
    if (replies > 1) { /* the last byte is a line feed, so there is one behind each that is found */
        while ((at = memchr(at, '\n', end - at)) != NULL && ++at != end) {
            if (*at == '-') {
                return 0;
            }
        }
    }
    return replies;
}

static PyObject *
receive(PyObject *self, PyObject *data)
{
    Passing *passing = (Passing *)self;
    long replies = passing->quiet ? passing_replies(data) : 0;
    if (replies == 0) {
        return PyObject_CallMethod(self, "receive_slowly", "O", data);
    }
    passing->replies += replies;
    return Py_NewRef(data);
}

static PyObject *
receive_slowly(PyObject *self, PyObject *data)
{
    PyErr_SetNone(PyExc_NotImplementedError);
    return NULL;
}

/* Take bytes for the two in a tuple: whose replies they are, and who is given what the client gets. */
static PyObject *
received(PyObject *both, PyObject *data)
{
    PyObject *told = receive(PyTuple_GET_ITEM(both, 0), data);
    int any = told == NULL ? -1 : PyObject_IsTrue(told);
    PyObject *result = any < 0 ? NULL : any ? PyObject_CallOneArg(PyTuple_GET_ITEM(both, 1), told) : Py_NewRef(Py_None);
    Py_XDECREF(told);
    return result;
}

static PyMethodDef received_method = {"received", received, METH_O, "Take bytes of Redis."};

static PyObject *
lead_to(PyObject *self, PyObject *client)
{
    PyObject *both = PyTuple_Pack(2, self, client);
    PyObject *function = both == NULL ? NULL : PyCFunction_New(&received_method, both);
    Py_XDECREF(both);
    return function;
}

static int
start(PyObject *self, PyObject *args, PyObject *named)
{
    ((Passing *)self)->replies = 0;
    ((Passing *)self)->quiet = 1;
    return 0;
}

static PyMethodDef passing_methods[] = {
    {"receive", receive, METH_O,
     "receive(data)\n--\n\nTake bytes of Redis; return what the client gets, often the very same object."},
    {"receive_slowly", receive_slowly, METH_O,
     "receive_slowly(data)\n--\n\nReturn what the client gets for bytes that do not simply pass; a subclass says what."},
    {"lead_to", lead_to, METH_O,
     "lead_to(client)\n--\n\nReturn what takes bytes of Redis, and gives a client what it gets for them."},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef members[] = {
    {"replies", T_PYSSIZET, offsetof(Passing, replies), 0, "Replies that came."},
    {"quiet", T_BOOL, offsetof(Passing, quiet), 0,
     "Whether the next byte is the first of a reply, and no reply is due that names nodes."},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot passing_slots[] = {
    {Py_tp_doc, "The replies to one client."},
    {Py_tp_init, start},
    {Py_tp_methods, passing_methods},
    {Py_tp_members, members},
    {0, NULL},
};

static PyType_Spec passing_spec = {
    "asynq_ttl.session._passing.Passing", sizeof(Passing), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE, passing_slots};

static int
prepare(PyObject *module)
{
    PyObject *type = PyType_FromSpec(&passing_spec);
    int added = type == NULL ? -1 : PyModule_AddObjectRef(module, "Passing", type);
    Py_XDECREF(type);
    return added;
}

static PyModuleDef_Slot slots[] = {{Py_mod_exec, prepare}, {0, NULL}};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_passing", NULL, 0, NULL, slots, NULL, NULL, NULL};

PyMODINIT_FUNC
PyInit__passing(void)
{
    return PyModuleDef_Init(&module);
}
