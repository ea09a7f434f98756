/* Bytes that only pass, from one side of a connection to the other, for `connection`.
 *
 * Optional: `connection` does it itself where this is not built, and its tests hold the two against each other. What is
 * done here is what its `pass_on` and `pass_back` do with nearly every chunk: look up, count, write. Anything unusual is
 * left to them, so here is nothing that is not there. A command that has to be decided about is given to the session, taken
 * apart.
 *
 * There is no state of its own: what is read and counted are the attributes of the Python objects, at the places that
 * their `__slots__` gave them. Only what is bytes, an int or an object of a class below is used as one; where an attribute
 * is something else, that is unusual.
 */

#include "../session/_recall.h"

#include <structmember.h>

/* The classes whose attributes are looked at, in the order in which `install` takes them. */
enum { IN_DOWNSTREAM, IN_UPSTREAM, IN_TRAFFIC, IN_SESSION, IN_FRAMER, IN_HOLDING, IN_PENDING, IN_COUNTER, IN_MEMORY, IN_SHARED, CLASSES };

/* An attribute: whose it is, how it is called, and where in an object it stands. */
typedef struct {
    int class;
    const char *name;
    Py_ssize_t offset;
} Attribute;

enum {
    CONNECTION_TRAFFIC, CONNECTION_UPSTREAM, CONNECTION_PAUSES, CONNECTION_SESSION, CONNECTION_TRANSPORT,
    UPSTREAM_WRITE, COMMAND_DUE, REPLY_DUE, BYTES_FROM_CLIENTS, BYTES_FROM_REDIS,
    SESSION_FRAMER, SESSION_HOLDING, SESSION_PENDING, SESSION_UNTOUCHED, SESSION_SHARED, SESSION_RECEIVE, SESSION_MARKS, COMMANDS, WAITING_FOR,
    FRAMER_BETWEEN, TAKEN_BYTES, PENDING_COUNTER, WAITING, COUNTING, REPLIES, COUNTER_BETWEEN,
    SHARED_MEMORY, SHARED_REWRITER, POLLS, MEMORY_REWRITER, MEMORY_CHANGES, MEMORY_REGISTRY, ATTRIBUTES
};

static Attribute attributes[ATTRIBUTES] = {
    [CONNECTION_TRAFFIC] = {IN_DOWNSTREAM, "_traffic"},
    [CONNECTION_UPSTREAM] = {IN_DOWNSTREAM, "_upstream"},
    [CONNECTION_PAUSES] = {IN_DOWNSTREAM, "_pauses"},
    [CONNECTION_SESSION] = {IN_DOWNSTREAM, "session"},
    [CONNECTION_TRANSPORT] = {IN_DOWNSTREAM, "_transport"},
    [UPSTREAM_WRITE] = {IN_UPSTREAM, "write"},
    [COMMAND_DUE] = {IN_TRAFFIC, "command_due"},
    [REPLY_DUE] = {IN_TRAFFIC, "reply_due"},
    [BYTES_FROM_CLIENTS] = {IN_TRAFFIC, "bytes_from_clients"},
    [BYTES_FROM_REDIS] = {IN_TRAFFIC, "bytes_from_redis"},
    [SESSION_FRAMER] = {IN_SESSION, "_framer"},
    [SESSION_HOLDING] = {IN_SESSION, "holding"},
    [SESSION_PENDING] = {IN_SESSION, "_pending"},
    [SESSION_UNTOUCHED] = {IN_SESSION, "_untouched"},
    [SESSION_SHARED] = {IN_SESSION, "_shared"},
    [SESSION_RECEIVE] = {IN_SESSION, "receive_upstream"},
    [SESSION_MARKS] = {IN_SESSION, "marks"},
    [COMMANDS] = {IN_SESSION, "commands"},
    [WAITING_FOR] = {IN_SESSION, "waiting_for"},
    [FRAMER_BETWEEN] = {IN_FRAMER, "between"},
    [TAKEN_BYTES] = {IN_HOLDING, "taken_bytes"},
    [PENDING_COUNTER] = {IN_PENDING, "_counter"},
    [WAITING] = {IN_PENDING, "_waiting"},
    [COUNTING] = {IN_PENDING, "counting"},
    [REPLIES] = {IN_PENDING, "replies"},
    [COUNTER_BETWEEN] = {IN_COUNTER, "between"},
    [SHARED_MEMORY] = {IN_SHARED, "memory"},
    [SHARED_REWRITER] = {IN_SHARED, "rewriter"},
    [POLLS] = {IN_MEMORY, "polls"},
    [MEMORY_REWRITER] = {IN_MEMORY, "_rewriter"},
    [MEMORY_CHANGES] = {IN_MEMORY, "_changes"},
    [MEMORY_REGISTRY] = {IN_MEMORY, "_registry"},
};

/* Set once, by `install`. */
static PyTypeObject *classes[CLASSES];
static PyObject *no_pause, *special;
static Py_ssize_t turn_bytes;
static PyObject *name_pass_on, *name_pass_back, *name_take_one, *name_activate, *name_write, *name_changes;
static PyObject *zero; /* the one int of that value that CPython has */

/* Return where an attribute of an object stands. */
static inline PyObject **
place(PyObject *object, int which)
{
    return (PyObject **)((char *)object + attributes[which].offset);
}

/* Return an attribute, borrowed; NULL where it is not set, or the object is NULL or of another class. */
static inline PyObject *
get(PyObject *object, int which)
{
    PyTypeObject *class = classes[attributes[which].class];
    return object != NULL && PyObject_TypeCheck(object, class) ? *place(object, which) : NULL;
}

/* Add to an attribute that is an int, of an object that `get` was asked about. Return -1 with an exception set. */
static int
add(PyObject *object, int which, Py_ssize_t more)
{
    PyObject **at = place(object, which);
    if (*at == NULL || !PyLong_CheckExact(*at)) {
        PyErr_Format(PyExc_TypeError, "%s is no int", attributes[which].name);
        return -1;
    }
    Py_ssize_t value = PyLong_AsSsize_t(*at);
    if (value == -1 && PyErr_Occurred()) {
        return -1;
    }
    PyObject *sum = PyLong_FromSsize_t(value + more);
    if (sum == NULL) {
        return -1;
    }
    Py_SETREF(*at, sum);
    return 0;
}

/* Say whether an attribute is a certain object. */
static inline int
is(PyObject *object, int which, PyObject *value)
{
    return get(object, which) == value;
}

/* Say whether what is remembered of polls counts, as `Memory.holds` does: 1 or 0; -1 with an exception set. */
static int
holds(PyObject *memory, PyObject *shared)
{
    PyObject *rewriter = get(memory, MEMORY_REWRITER), *changes = get(memory, MEMORY_CHANGES);
    PyObject *registry = get(memory, MEMORY_REGISTRY);
    if (rewriter == NULL || rewriter != get(shared, SHARED_REWRITER) || changes == NULL || registry == NULL) {
        return 0;
    }
    Py_INCREF(changes);
    PyObject *now = PyObject_GetAttr(registry, name_changes);
    int same = now == NULL ? -1 : PyObject_RichCompareBool(changes, now, Py_EQ);
    Py_DECREF(changes);
    Py_XDECREF(now);
    return same;
}

/* Return what goes to Redis for a chunk of a connection that has nothing to wait for, and count the commands in it; the one
 * that it is, taken apart, where it is of interest; Py_None where that is not known here, NULL with an exception set. */
static PyObject *
instead(PyObject *session, PyObject *chunk)
{
    PyObject *shared = get(session, SESSION_SHARED), *memory = get(shared, SHARED_MEMORY);
    PyObject *untouched = get(session, SESSION_UNTOUCHED), *polls = get(memory, POLLS);
    if (untouched == NULL || polls == NULL || !PyDict_CheckExact(untouched) || !PyDict_CheckExact(polls)) {
        Py_RETURN_NONE;
    }
    PyObject *seen = recalled(chunk, special, untouched, polls);
    if (seen == NULL) {
        return NULL;
    }
    Py_ssize_t commands = 0;
    if (PyLong_CheckExact(seen)) {
        commands = PyLong_AsSsize_t(seen);
        Py_SETREF(seen, Py_NewRef(chunk));
    }
    else if (PyBytes_CheckExact(seen)) {
        commands = holds(memory, shared);
    }
    if (commands < 0 || (commands > 0 && add(session, COMMANDS, commands) < 0)) {
        Py_DECREF(seen);
        return NULL;
    }
    if (commands == 0 && !PyTuple_CheckExact(seen)) {
        Py_SETREF(seen, Py_NewRef(Py_None));
    }
    return seen;
}

/* Call a function with bytes; return NULL with an exception set, or None. */
static PyObject *
give(PyObject *function, PyObject *data)
{
    PyObject *result = PyObject_CallOneArg(function, data);
    if (result == NULL) {
        return NULL;
    }
    Py_DECREF(result);
    Py_RETURN_NONE;
}

/* Say whether a chunk of an open connection is one to be looked at here. */
static int
is_usual(PyObject *data)
{
    return PyBytes_CheckExact(data) && PyBytes_GET_SIZE(data) > 0 && PyBytes_GET_SIZE(data) < turn_bytes;
}

/* Let the session decide about a chunk that is one command, and send what it says; `seen` is the command taken apart, and
 * its number of KEYS. Return None, or NULL with an exception set. */
static PyObject *
decide(PyObject *self, PyObject *session, PyObject *write, PyObject *data, PyObject *seen)
{
    PyObject *arguments[] = {session, data, PyTuple_GET_ITEM(seen, 0), PyTuple_GET_ITEM(seen, 1)};
    PyObject *out = PyObject_VectorcallMethod(name_take_one, arguments, 4, NULL);
    if (out == NULL || !PyBytes_CheckExact(out)) {
        if (out != NULL) {
            PyErr_SetString(PyExc_TypeError, "take_one() returns bytes");
        }
        Py_XDECREF(out);
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

/* Count the replies in a chunk, where none of them is waited for; say whether that was so, -1 with an exception set. */
static int
counted(PyObject *session, PyObject *data)
{
    PyObject *pending = get(session, SESSION_PENDING), *waiting = get(pending, WAITING);
    if (!is(pending, COUNTING, Py_True) || !is(get(pending, PENDING_COUNTER), COUNTER_BETWEEN, Py_True) || waiting == NULL) {
        return 0;
    }
    int waits = PyObject_IsTrue(waiting);
    if (waits != 0) {
        return waits < 0 ? -1 : 0;
    }
    const char *at = PyBytes_AS_STRING(data);
    long replies = whole_replies(at, at + PyBytes_GET_SIZE(data));
    return replies == 0 ? 0 : add(pending, REPLIES, replies) < 0 ? -1 : 1;
}

/* Say whether a reply that the client must not see as it is may be among what Redis sends; -1 with an exception set. */
static int
is_marked(PyObject *session)
{
    PyObject *marks = get(session, SESSION_MARKS);
    return marks == NULL ? 1 : PyObject_IsTrue(marks);
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

/* Find where the attributes of some classes stand. Return -1 with an exception set where one is none of `__slots__`. */
static int
find_places(PyTypeObject *const *given, Py_ssize_t *offsets)
{
    for (int number = 0; number < ATTRIBUTES; number++) {
        PyTypeObject *class = given[attributes[number].class];
        PyObject *descriptor = PyObject_GetAttrString((PyObject *)class, attributes[number].name);
        if (descriptor == NULL) {
            return -1;
        }
        PyMemberDef *member = Py_TYPE(descriptor) == &PyMemberDescr_Type ? ((PyMemberDescrObject *)descriptor)->d_member : NULL;
        int found = member != NULL && member->type == T_OBJECT_EX;
        if (found) {
            offsets[number] = member->offset;
        }
        else {
            PyErr_Format(PyExc_TypeError, "%s.%s is not in __slots__", class->tp_name, attributes[number].name);
        }
        Py_DECREF(descriptor);
        if (!found) {
            return -1;
        }
    }
    return 0;
}

static PyMethodDef compiled_methods[] = {
    {"data_received", data_received, METH_O, "Pass on what the client sends."},
    {"upstream_received", upstream_received, METH_O, "Give the client what Redis sent, and take note of it."},
    {NULL, NULL, 0, NULL},
};

static PyObject *
install(PyObject *module, PyObject *args)
{
    PyTypeObject *given[CLASSES];
    PyObject *pause, *names;
    Py_ssize_t turn, offsets[ATTRIBUTES];
    if (!PyArg_ParseTuple(
            args, "(O!O!O!O!O!O!O!O!O!O!)OO!n:install", &PyType_Type, &given[0], &PyType_Type, &given[1], &PyType_Type,
            &given[2], &PyType_Type, &given[3], &PyType_Type, &given[4], &PyType_Type, &given[5], &PyType_Type, &given[6],
            &PyType_Type, &given[7], &PyType_Type, &given[8], &PyType_Type, &given[9], &pause, &PyFrozenSet_Type, &names,
            &turn)) {
        return NULL;
    }
    if (find_places(given, offsets) < 0) {
        return NULL;
    }
    for (int number = 0; number < ATTRIBUTES; number++) {
        attributes[number].offset = offsets[number];
    }
    for (int number = 0; number < CLASSES; number++) {
        Py_XSETREF(classes[number], (PyTypeObject *)Py_NewRef(given[number]));
    }
    Py_XSETREF(no_pause, Py_NewRef(pause));
    Py_XSETREF(special, Py_NewRef(names));
    turn_bytes = turn;
    for (PyMethodDef *method = compiled_methods; method->ml_name != NULL; method++) {
        PyObject *descriptor = PyDescr_NewMethod(classes[IN_DOWNSTREAM], method);
        int set = descriptor == NULL ? -1 : PyObject_SetAttrString((PyObject *)classes[IN_DOWNSTREAM], method->ml_name, descriptor);
        Py_XDECREF(descriptor);
        if (set < 0) {
            return NULL;
        }
    }
    Py_RETURN_NONE;
}

static int
make_constants(PyObject *module)
{
    zero = PyLong_FromLong(0);
    name_pass_on = PyUnicode_InternFromString("pass_on");
    name_pass_back = PyUnicode_InternFromString("pass_back");
    name_take_one = PyUnicode_InternFromString("take_one");
    name_activate = PyUnicode_InternFromString("activate");
    name_write = PyUnicode_InternFromString("write");
    name_changes = PyUnicode_InternFromString("changes");
    return zero != NULL && name_pass_on != NULL && name_pass_back != NULL && name_take_one != NULL && name_activate != NULL &&
           name_write != NULL && name_changes != NULL ? 0 : -1;
}

static PyMethodDef methods[] = {
    {"install", install, METH_VARARGS,
     "install(classes, no_pause, special, turn_bytes)\n--\n\n"
     "Give the first of the classes the methods `data_received` and `upstream_received` from here."},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot slots[] = {{Py_mod_exec, make_constants}, {0, NULL}};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_forwarding", NULL, 0, methods, slots, NULL, NULL, NULL};

PyMODINIT_FUNC
PyInit__forwarding(void)
{
    return PyModuleDef_Init(&module);
}
