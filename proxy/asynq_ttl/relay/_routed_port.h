/* Bytes that only pass between a client and the nodes of a cluster, for `routed_port`.
 *
 * What is done here is what `pass_on` and `take_reply` do, by way of the router, where nothing is in the way: one command
 * with its key where nearly all have it goes to a node that the client has a connection to, and a whole reply comes back.
 * Anything unusual is left to them before anything is changed.
 */

#ifndef ASYNQ_TTL_ROUTED_PORT_H
#define ASYNQ_TTL_ROUTED_PORT_H

#include "../session/routing/_quick_slot.h"
#include "_forwarding.h"

/* Return what a dictionary has for a key, borrowed; NULL where it has nothing, or is none, or with an exception set. */
static PyObject *
find(PyObject *dict, PyObject *key)
{
    return dict != NULL && key != NULL && PyDict_CheckExact(dict) ? PyDict_GetItemWithError(dict, key) : NULL;
}

/* Say whether an attribute has anything in it: 1 or 0; 1 too where it is not set, -1 with an exception set. */
static int
has_any(PyObject *object, int which)
{
    PyObject *value = get(object, which);
    return value == NULL ? 1 : PyObject_IsTrue(value);
}

/* Return the slot of a chunk of a client that may go at once, as far as that does not depend on nodes; -1 where it has to be
 * looked at in Python, -2 with an exception set. */
static long
slot_at_once(PyObject *self, PyObject *router, PyObject *order, PyObject *data)
{
    if (!is_usual(data) || !is(self, CONNECTION_PAUSES, no_pause) || !is(get(self, CONNECTION_TRAFFIC), COMMAND_DUE, Py_False)
        || !is(get(router, ROUTER_FRAMER), FRAMER_BETWEEN, Py_True) || !is(get(router, ROUTER_HOLDING), TAKEN_BYTES, zero)
        || !is(get(router, ROUTER_TRANSACTION), OPEN, Py_False) || !is(order, WAITS, Py_False) || !is(order, PINNED, Py_None)
        || !is(order, OVER, Py_False) || get(self, CONNECTION_UPSTREAM) == NULL
        || !is(order, OUTSIDE, get(self, CONNECTION_UPSTREAM))) {
        return -1;
    }
    int todo = has_any(order, TODO);
    return todo < 0 ? -2 : todo ? -1 : quick_slot_of(data, unusual);
}

/* Take note that a command goes, as `Flight.start` does: 1, or 0 where it may not; -1 with an exception set. */
static int
starts(PyObject *flight, PyObject *data, long slot, PyObject *lane)
{
    int lone = has_any(flight, LONE), errands = lone ? lone : has_any(flight, ERRANDS);
    int elsewhere = errands ? errands : has_any(flight, ELSEWHERE);
    PyObject *number = elsewhere < 0 || get(flight, SLOT) == NULL ? NULL : PyLong_FromLong(slot);
    if (number == NULL) {
        return PyErr_Occurred() ? -1 : 0;
    }
    if (!elsewhere && get(flight, LATEST_LANE) != NULL) {
        Py_SETREF(*place(flight, LONE), Py_NewRef(data));
        Py_SETREF(*place(flight, SLOT), number);
        Py_SETREF(*place(flight, LATEST_LANE), Py_NewRef(lane));
        return 1;
    }
    PyObject *arguments[] = {flight, data, number, lane};
    PyObject *result = PyObject_VectorcallMethod(name_start, arguments, 4, NULL);
    int started = result == NULL ? -1 : PyObject_IsTrue(result);
    Py_XDECREF(result);
    Py_DECREF(number);
    return started;
}

/* Return what goes to a node for a command, as `Session.receive_downstream` does; NULL with an exception set. */
static PyObject *
made_of(PyObject *session, PyObject *data)
{
    PyObject *out = is(get(session, SESSION_FRAMER), FRAMER_BETWEEN, Py_True) ? instead(session, data) : Py_NewRef(Py_None);
    if (out == Py_None) {
        PyObject *arguments[] = {session, data};
        Py_SETREF(out, PyObject_VectorcallMethod(name_receive_downstream, arguments, 2, NULL));
    }
    else if (out != NULL && PyTuple_CheckExact(out)) {
        Py_SETREF(out, decided(session, data, out));
    }
    if (out != NULL && !PyBytes_CheckExact(out)) {
        PyErr_SetString(PyExc_TypeError, "receive_downstream() returns bytes");
        Py_CLEAR(out);
    }
    return out;
}

/* Send a command of which note was taken. Return None, or NULL with an exception set. */
static PyObject *
sent(PyObject *order, PyObject *lane, PyObject *session, PyObject *write, PyObject *data)
{
    PyObject *out = made_of(session, data);
    if (out == NULL) {
        return NULL;
    }
    PyObject *arguments[] = {order, lane, out}, *result;
    result = PyBytes_GET_SIZE(out) > 0 ? give(write, out) : PyObject_VectorcallMethod(name_send, arguments, 3, NULL);
    Py_DECREF(out);
    return result;
}

static PyObject *
client_received(PyObject *self, PyObject *data)
{
    PyObject *router = get(self, CONNECTION_SESSION), *order = get(router, ROUTER_ORDER), *flight = get(order, FLIGHT);
    PyObject *owners = get(get(order, NODES), OWNERS), *lane = NULL, *session = NULL, *write = NULL;
    long slot = slot_at_once(self, router, order, data);
    if (slot >= 0 && owners != NULL && PyList_CheckExact(owners) && slot < PyList_GET_SIZE(owners)) {
        PyObject *node = PyList_GET_ITEM(owners, slot);
        lane = find(get(order, LANES), node);
        session = get(lane, LANE_SESSION);
        write = session == NULL ? NULL : get(find(get(get(self, CONNECTION_UPSTREAM), CONNECTIONS), node), UPSTREAM_WRITE);
    }
    if (slot < -1 || (write == NULL && PyErr_Occurred())) {
        return NULL;
    }
    Py_XINCREF(lane);
    Py_XINCREF(write);
    int started = write == NULL ? 0 : starts(flight, data, slot, lane);
    PyObject *result = NULL;
    if (started > 0 && add(get(self, CONNECTION_TRAFFIC), BYTES_FROM_CLIENTS, PyBytes_GET_SIZE(data)) == 0) {
        result = sent(order, lane, session, write, data);
        if (result != NULL && add(router, ROUTER_COMMANDS, 1) < 0) {
            Py_CLEAR(result);
        }
    }
    Py_XDECREF(lane);
    Py_XDECREF(write);
    return started == 0 ? PyObject_CallMethodOneArg(self, name_pass_on, data) : result;
}

/* Say whether what a node has sent over a lane is a whole reply that is no error, in its turn, and the client can be given
 * it: 1 or 0; -1 with an exception set. */
static int
is_plain_reply(PyObject *self, PyObject *order, PyObject *lane, PyObject *data)
{
    PyObject *client = get(self, OUTSIDE_CLIENT), *transport = get(client, CONNECTION_TRANSPORT);
    if (!is_usual(data) || lane == NULL || !is(order, OVER, Py_False) || !is(order, PINNED, Py_None)
        || !is(get(order, FLIGHT), LATEST_LANE, lane) || !is(get(lane, LANE_COUNTER), COUNTER_BETWEEN, Py_True)
        || !is(self, OUTSIDE_OVER, Py_False) || !is(get(client, CONNECTION_TRAFFIC), REPLY_DUE, Py_False) || transport == NULL
        || transport == Py_None || get(get(lane, LANE_SESSION), SESSION_RECEIVE) == NULL || get(lane, RENAME) == NULL) {
        return 0;
    }
    const char *at = PyBytes_AS_STRING(data);
    int marked = *at == '-' || whole_replies(at, at + PyBytes_GET_SIZE(data)) != 1 ? 1 : is_marked(get(lane, LANE_SESSION));
    return marked < 0 ? -1 : !marked;
}

/* Take note of such a reply, as `Flight.answered` does: 1, or 0 where it is not the client's as it is; -1 with an exception
 * set. */
static int
answers(PyObject *flight)
{
    PyObject *lone = get(flight, LONE);
    if (lone != NULL && PyBytes_CheckExact(lone) && PyBytes_GET_SIZE(lone) > 0) {
        Py_SETREF(*place(flight, LONE), Py_NewRef(nothing));
        return 1;
    }
    PyObject *result = flight == NULL ? NULL : PyObject_CallMethodNoArgs(flight, name_answered);
    int answered = result == NULL ? -1 : PyObject_IsTrue(result);
    Py_XDECREF(result);
    return answered;
}

/* Return what the client gets for such a reply, as `Lane.hear` does; NULL with an exception set. */
static PyObject *
heard(PyObject *lane, PyObject *data)
{
    PyObject *session = get(lane, LANE_SESSION);
    int done = counted(session, data);
    PyObject *told = done == 0 ? give(get(session, SESSION_RECEIVE), data) : done < 0 ? NULL : Py_NewRef(Py_None);
    if (told != NULL) {
        Py_SETREF(told, PyObject_CallOneArg(get(lane, RENAME), data));
    }
    return told;
}

/* Give the client a reply, as `Router._deliver` does. Return -1 with an exception set. */
static int
deliver(PyObject *self, PyObject *order, PyObject *transport, PyObject *told, PyObject *data)
{
    PyObject *result;
    if (told != data) {
        PyObject *arguments[] = {told, Py_True}, *function = get(get(order, FLIGHT), DELIVER);
        result = function == NULL ? NULL : PyObject_Vectorcall(function, arguments, 2, NULL);
    }
    else if (add(get(self, OUTSIDE_ROUTER), ROUTER_REPLIES, 1) < 0) {
        result = NULL;
    }
    else {
        result = PyObject_CallMethodOneArg(transport, name_write, data);
        if (result != NULL && add(get(get(self, OUTSIDE_CLIENT), CONNECTION_TRAFFIC), BYTES_FROM_REDIS, PyBytes_GET_SIZE(data)) < 0) {
            Py_CLEAR(result);
        }
    }
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* Go on with what has waited for a reply. Return None, or NULL with an exception set. */
static PyObject *
went_on(PyObject *order)
{
    int more = is(order, ENDS, Py_False) ? has_any(order, TODO) : 1;
    return more < 0 ? NULL : more ? PyObject_CallMethodNoArgs(order, name_advance) : Py_NewRef(Py_None);
}

static PyObject *
node_received(PyObject *self, PyObject *const *args, Py_ssize_t given)
{
    if (given != 2) {
        PyErr_SetString(PyExc_TypeError, "node_received() takes a node and bytes");
        return NULL;
    }
    PyObject *data = args[1], *order = get(self, OUTSIDE_ORDER), *lane = find(get(order, LANES), args[0]), *result = NULL;
    PyObject *transport = get(get(self, OUTSIDE_CLIENT), CONNECTION_TRANSPORT);
    if (lane == NULL && PyErr_Occurred()) {
        return NULL;
    }
    Py_XINCREF(lane);
    Py_XINCREF(transport);
    int passes = is_plain_reply(self, order, lane, data);
    passes = passes > 0 ? answers(get(order, FLIGHT)) : passes;
    if (passes > 0) {
        PyObject *told = heard(lane, data);
        if (told != NULL && deliver(self, order, transport, told, data) == 0) {
            result = went_on(order);
        }
        Py_XDECREF(told);
    }
    else if (passes == 0) {
        PyObject *arguments[] = {self, args[0], data};
        result = PyObject_VectorcallMethod(name_take_reply, arguments, 3, NULL);
    }
    Py_XDECREF(lane);
    Py_XDECREF(transport);
    return result;
}

static PyMethodDef routed_methods[] = {
    {"data_received", client_received, METH_O, "Pass on what the client sends."},
    {"node_received", (PyCFunction)(void (*)(void))node_received, METH_FASTCALL, "Take bytes of a node."},
};

static PyObject *
install_routed(PyObject *module, PyObject *args)
{
    PyObject *given, *names;
    if (!PyArg_ParseTuple(args, "O!O!:install_routed", &PyTuple_Type, &given, &PyFrozenSet_Type, &names)) {
        return NULL;
    }
    if (no_pause == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "install() goes before");
        return NULL;
    }
    if (know(given, IN_ROUTED_DOWNSTREAM, CLASSES) < 0) {
        return NULL;
    }
    Py_XSETREF(unusual, Py_NewRef(names));
    if (equip(IN_ROUTED_DOWNSTREAM, &routed_methods[0]) < 0 || equip(IN_ROUTED_UPSTREAM, &routed_methods[1]) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

#endif
