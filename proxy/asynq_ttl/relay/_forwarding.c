/* Bytes that only pass, from one side of a connection to the other, for `connection` and `routed_port`.
 *
 * Optional: they do it themselves where this is not built, and its tests hold the two against each other. What is
 * done here is what its `pass_on` and `pass_back` do with nearly every chunk: look up, count, write. Anything unusual is
 * left to them, so here is nothing that is not there. A command that has to be decided about is given to the session, taken
 * apart; one that ends a task as others did is waited for, and told of, as `Pending` does it. The client's side of a
 * connection to one Redis is here, that of a routed one in `_routed_port.h`.
 */

#include "_routed_port.h"

/* Let the session decide about a chunk that is one command, and send what it says; `seen` is the command taken apart, and
 * its number of KEYS. Return None, or NULL with an exception set. */
static PyObject *
decide(PyObject *self, PyObject *session, PyObject *write, PyObject *data, PyObject *seen)
{
    PyObject *out = decided(session, data, seen);
    if (out == NULL) {
        return NULL;
    }
    PyObject *result = PyBytes_GET_SIZE(out) > 0 ? give(write, out) : Py_NewRef(Py_None);
    Py_DECREF(out);
    if (result != NULL && !is(session, WAITING_FOR, Py_None)) {
        Py_DECREF(result);
        result = PyObject_CallMethodNoArgs(self, name_activate);
    }
    return result;
}

static PyObject *
data_received(PyObject *self, PyObject *data)
{
    PyObject *traffic = get(self, CONNECTION_TRAFFIC), *session = get(self, CONNECTION_SESSION);
    PyObject *write = get(get(self, CONNECTION_UPSTREAM), UPSTREAM_WRITE);
    if (!is_usual(data) || write == NULL || !is(self, CONNECTION_PAUSES, no_pause) || !is(traffic, COMMAND_DUE, Py_False)
        || !is(get(session, SESSION_FRAMER), FRAMER_BETWEEN, Py_True)
        || !is(get(session, SESSION_HOLDING), TAKEN_BYTES, zero)) {
        return PyObject_CallMethodOneArg(self, name_pass_on, data);
    }
    PyObject *out = instead(session, data);
    if (out == NULL) {
        return NULL;
    }
    if (out == Py_None) {
        Py_DECREF(out);
        return PyObject_CallMethodOneArg(self, name_pass_on, data);
    }
    Py_INCREF(session);
    Py_INCREF(write);
    PyObject *result = NULL;
    if (add(traffic, BYTES_FROM_CLIENTS, PyBytes_GET_SIZE(data)) == 0) {
        result = PyTuple_CheckExact(out) ? decide(self, session, write, data, out) : give(write, out);
    }
    Py_DECREF(write);
    Py_DECREF(session);
    Py_DECREF(out);
    return result;
}

static PyObject *
upstream_received(PyObject *self, PyObject *data)
{
    PyObject *traffic = get(self, CONNECTION_TRAFFIC), *session = get(self, CONNECTION_SESSION);
    PyObject *transport = get(self, CONNECTION_TRANSPORT), *receive = get(session, SESSION_RECEIVE);
    int marked = is_marked(session);
    if (marked < 0) {
        return NULL;
    }
    if (marked || !is_usual(data) || transport == NULL || transport == Py_None || !is(traffic, REPLY_DUE, Py_False) || receive == NULL) {
        return PyObject_CallMethodOneArg(self, name_pass_back, data);
    }
    Py_INCREF(session);
    Py_INCREF(receive);
    Py_INCREF(transport);
    PyObject *result = PyObject_CallMethodOneArg(transport, name_write, data);
    Py_DECREF(transport);
    int done = result == NULL || add(traffic, BYTES_FROM_REDIS, PyBytes_GET_SIZE(data)) < 0 ? -1 : counted(session, data);
    Py_XDECREF(result);
    result = done < 0 ? NULL : done > 0 ? Py_NewRef(Py_None) : give(receive, data);
    Py_DECREF(receive);
    Py_DECREF(session);
    return result;
}

static PyMethodDef compiled_methods[] = {
    {"data_received", data_received, METH_O, "Pass on what the client sends."},
    {"upstream_received", upstream_received, METH_O, "Give the client what Redis sent, and take note of it."},
};

static PyObject *
install(PyObject *module, PyObject *args)
{
    PyObject *given, *pause, *names, *decision, *outcome;
    Py_ssize_t turn;
    if (!PyArg_ParseTuple(args, "O!OO!nO!O!:install", &PyTuple_Type, &given, &pause, &PyFrozenSet_Type, &names, &turn,
                          &PyType_Type, &decision, &PyType_Type, &outcome)
        || know(given, 0, IN_ROUTED_DOWNSTREAM) < 0) {
        return NULL;
    }
    Py_XSETREF(decisions, (PyTypeObject *)Py_NewRef(decision));
    Py_XSETREF(outcomes, (PyTypeObject *)Py_NewRef(outcome));
    Py_XSETREF(no_pause, Py_NewRef(pause));
    Py_XSETREF(special, Py_NewRef(names));
    turn_bytes = turn;
    if (equip(IN_DOWNSTREAM, &compiled_methods[0]) < 0 || equip(IN_DOWNSTREAM, &compiled_methods[1]) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"install", install, METH_VARARGS,
     "install(classes, no_pause, special, turn_bytes, decision, outcome)\n--\n\n"
     "Give the first of the classes the methods `data_received` and `upstream_received` from here."},
    {"install_routed", install_routed, METH_VARARGS,
     "install_routed(classes, unusual)\n--\n\n"
     "Give the first of the classes the method `data_received`, and the second `node_received`. `install` goes before."},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot slots[] = {{Py_mod_exec, make_constants}, {0, NULL}};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_forwarding", NULL, 0, methods, slots, NULL, NULL, NULL};

PyMODINIT_FUNC
PyInit__forwarding(void)
{
    return PyModuleDef_Init(&module);
}
