/* What the compiled parts of `relay` share: they read and change the attributes of Python objects where they stand, and do
 * with a chunk what a session does with nearly every one.
 *
 * There is no state of its own: what is read and counted are the attributes of the Python objects, at the places that
 * their `__slots__` gave them. Only what is bytes, an int or an object of a class below is used as one; where an attribute
 * is something else, that is unusual.
 */

#ifndef ASYNQ_TTL_FORWARDING_H
#define ASYNQ_TTL_FORWARDING_H

#include "../session/_recall.h"

#include <structmember.h>

/* The classes whose attributes are looked at, in the order in which `install` and then `install_routed` take them. */
enum {
    IN_DOWNSTREAM, IN_UPSTREAM, IN_TRAFFIC, IN_SESSION, IN_FRAMER, IN_HOLDING, IN_PENDING, IN_COUNTER, IN_MEMORY, IN_SHARED,
    IN_SELECTED,
    IN_ROUTED_DOWNSTREAM, IN_ROUTED_UPSTREAM, IN_ROUTES, IN_ROUTER, IN_TRANSACTION, IN_ORDER, IN_FLIGHT, IN_LANE, CLASSES
};

/* An attribute: whose it is, how it is called, and where in an object it stands. */
typedef struct {
    int class;
    const char *name;
    Py_ssize_t offset;
} Attribute;

enum {
    CONNECTION_TRAFFIC, CONNECTION_UPSTREAM, CONNECTION_PAUSES, CONNECTION_SESSION, CONNECTION_TRANSPORT,
    UPSTREAM_WRITE, COMMAND_DUE, REPLY_DUE, BYTES_FROM_CLIENTS, BYTES_FROM_REDIS,
    SESSION_FRAMER, SESSION_HOLDING, SESSION_PENDING, SESSION_UNTOUCHED, SESSION_SHARED, SESSION_RECEIVE, SESSION_MARKS,
    SESSION_SELECTED, COMMANDS, WAITING_FOR, FRAMER_BETWEEN, TAKEN_BYTES,
    PENDING_COUNTER, PENDING_CLOCK, PENDING_OBSERVER, WAITING, COUNTING, REPLIES, COUNTER_BETWEEN,
    SHARED_MEMORY, SHARED_REWRITER, POLLS, ENDINGS, MEMORY_REWRITER, MEMORY_CHANGES, MEMORY_REGISTRY, DATABASE,
    CONNECTIONS, OUTSIDE_CLIENT, OUTSIDE_ORDER, OUTSIDE_OVER, OUTSIDE_ROUTER, OWNERS,
    ROUTER_COMMANDS, ROUTER_REPLIES, ROUTER_FRAMER, ROUTER_HOLDING, ROUTER_TRANSACTION, ROUTER_ORDER, OPEN,
    TODO, WAITS, PINNED, OVER, ENDS, LANES, FLIGHT, NODES, OUTSIDE, LONE, SLOT, LATEST_LANE, ERRANDS, ELSEWHERE, DELIVER,
    LANE_SESSION, LANE_COUNTER, RENAME, ATTRIBUTES
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
    [SESSION_SELECTED] = {IN_SESSION, "_selected"},
    [COMMANDS] = {IN_SESSION, "commands"},
    [WAITING_FOR] = {IN_SESSION, "waiting_for"},
    [FRAMER_BETWEEN] = {IN_FRAMER, "between"},
    [TAKEN_BYTES] = {IN_HOLDING, "taken_bytes"},
    [PENDING_COUNTER] = {IN_PENDING, "_counter"},
    [PENDING_CLOCK] = {IN_PENDING, "_clock"},
    [PENDING_OBSERVER] = {IN_PENDING, "_observer"},
    [WAITING] = {IN_PENDING, "_waiting"},
    [COUNTING] = {IN_PENDING, "counting"},
    [REPLIES] = {IN_PENDING, "replies"},
    [COUNTER_BETWEEN] = {IN_COUNTER, "between"},
    [SHARED_MEMORY] = {IN_SHARED, "memory"},
    [SHARED_REWRITER] = {IN_SHARED, "rewriter"},
    [POLLS] = {IN_MEMORY, "polls"},
    [ENDINGS] = {IN_MEMORY, "endings"},
    [MEMORY_REWRITER] = {IN_MEMORY, "_rewriter"},
    [MEMORY_CHANGES] = {IN_MEMORY, "_changes"},
    [MEMORY_REGISTRY] = {IN_MEMORY, "_registry"},
    [DATABASE] = {IN_SELECTED, "number"},
    [CONNECTIONS] = {IN_ROUTED_UPSTREAM, "_connections"},
    [OUTSIDE_CLIENT] = {IN_ROUTED_UPSTREAM, "_client"},
    [OUTSIDE_ORDER] = {IN_ROUTED_UPSTREAM, "_order"},
    [OUTSIDE_OVER] = {IN_ROUTED_UPSTREAM, "_over"},
    [OUTSIDE_ROUTER] = {IN_ROUTED_UPSTREAM, "router"},
    [OWNERS] = {IN_ROUTES, "_owners"},
    [ROUTER_COMMANDS] = {IN_ROUTER, "commands"},
    [ROUTER_REPLIES] = {IN_ROUTER, "replies"},
    [ROUTER_FRAMER] = {IN_ROUTER, "_framer"},
    [ROUTER_HOLDING] = {IN_ROUTER, "holding"},
    [ROUTER_TRANSACTION] = {IN_ROUTER, "_transaction"},
    [ROUTER_ORDER] = {IN_ROUTER, "order"},
    [OPEN] = {IN_TRANSACTION, "open"},
    [TODO] = {IN_ORDER, "todo"},
    [WAITS] = {IN_ORDER, "_waits"},
    [PINNED] = {IN_ORDER, "pinned"},
    [OVER] = {IN_ORDER, "over"},
    [ENDS] = {IN_ORDER, "_ends"},
    [LANES] = {IN_ORDER, "_lanes"},
    [FLIGHT] = {IN_ORDER, "flight"},
    [NODES] = {IN_ORDER, "_nodes"},
    [OUTSIDE] = {IN_ORDER, "_outside"},
    [LONE] = {IN_FLIGHT, "_lone"},
    [SLOT] = {IN_FLIGHT, "_slot"},
    [LATEST_LANE] = {IN_FLIGHT, "lane"},
    [ERRANDS] = {IN_FLIGHT, "_errands"},
    [ELSEWHERE] = {IN_FLIGHT, "elsewhere"},
    [DELIVER] = {IN_FLIGHT, "_deliver"},
    [LANE_SESSION] = {IN_LANE, "session"},
    [LANE_COUNTER] = {IN_LANE, "counter"},
    [RENAME] = {IN_LANE, "_rename"},
};

/* Set once, by `install` and `install_routed`. */
static PyTypeObject *classes[CLASSES];
static PyObject *no_pause, *special, *unusual;
static Py_ssize_t turn_bytes;
static PyObject *name_pass_on, *name_pass_back, *name_take_one, *name_activate, *name_write, *name_changes;
static PyObject *name_take_reply, *name_receive_downstream, *name_start, *name_answered, *name_send, *name_advance;
static PyObject *name_expect, *name_append, *name_popleft, *name_decided;
static PyObject *zero, *nothing; /* the one int, and the one bytes, of that value that CPython has */
static PyObject *empty, *ok; /* a tuple, and the first line of what the scripts that end a task reply */
static PyTypeObject *decisions, *outcomes; /* the classes `Decision` and `Outcome` */

/* More decisions that wait are looked at in Python: there are bounds. */
enum { FEW_WAIT = 1000 };
/* The items of an `Outcome`. */
enum { OUTCOME = 6 };

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

/* Say whether a decision whose reply is to be waited for can be put behind the others that wait here, where `Pending.expect`
 * only does that: 1 or 0; -1 with an exception set. */
static int
may_wait(PyObject *pending, PyObject *number)
{
    PyObject *waiting = get(pending, WAITING), *replies = get(pending, REPLIES);
    if (waiting == NULL || replies == NULL || get(pending, PENDING_CLOCK) == NULL || !is(pending, COUNTING, Py_True)) {
        return 0;
    }
    Py_ssize_t wait = PyObject_Size(waiting);
    return wait < 0 ? -1 : wait < FEW_WAIT ? PyObject_RichCompareBool(replies, number, Py_LT) : 0;
}

/* Have a decision about the latest command told when its reply has come, as `Pending.expect` does. Return None, or NULL with an
 * exception set. */
static PyObject *
expect(PyObject *session, PyObject *decision)
{
    PyObject *pending = get(session, SESSION_PENDING), *number = get(session, COMMANDS);
    PyObject *database = get(get(session, SESSION_SELECTED), DATABASE), *result = NULL;
    if (pending == NULL || number == NULL || database == NULL) {
        PyErr_SetString(PyExc_TypeError, "a session has no numbers");
        return NULL;
    }
    Py_INCREF(pending);
    Py_INCREF(number);
    Py_INCREF(database);
    int may = may_wait(pending, number);
    if (may > 0) {
        PyObject *now = PyObject_CallNoArgs(get(pending, PENDING_CLOCK));
        PyObject *each = now == NULL ? NULL : PyTuple_Pack(4, number, decision, database, now);
        result = each == NULL ? NULL : PyObject_CallMethodOneArg(get(pending, WAITING), name_append, each);
        Py_XDECREF(each);
        Py_XDECREF(now);
    }
    else if (may == 0) {
        PyObject *arguments[] = {pending, decision, number, database};
        result = PyObject_VectorcallMethod(name_expect, arguments, 4, NULL);
    }
    Py_DECREF(database);
    Py_DECREF(number);
    Py_DECREF(pending);
    return result;
}

/* Return what goes to Redis for a chunk of a connection that has nothing to wait for, and count the commands in it; the one
 * that it is, taken apart, where it is of interest; Py_None where that is not known here, NULL with an exception set. */
static PyObject *
instead(PyObject *session, PyObject *chunk)
{
    PyObject *shared = get(session, SESSION_SHARED), *memory = get(shared, SHARED_MEMORY), *untouched = get(session, SESSION_UNTOUCHED);
    PyObject *polls = get(memory, POLLS), *endings = get(memory, ENDINGS);
    if (untouched == NULL || polls == NULL || endings == NULL || !PyDict_CheckExact(untouched) || !PyDict_CheckExact(polls)
        || !PyDict_CheckExact(endings)) {
        Py_RETURN_NONE;
    }
    PyObject *seen = recalled(chunk, special, untouched, polls, endings);
    if (seen == NULL) {
        return NULL;
    }
    int ends = PyTuple_CheckExact(seen) && PyBytes_CheckExact(PyTuple_GET_ITEM(seen, 0)); /* with what is told of it */
    Py_ssize_t commands = 0;
    if (PyLong_CheckExact(seen)) {
        commands = PyLong_AsSsize_t(seen);
        Py_SETREF(seen, Py_NewRef(chunk));
    }
    else if (ends || PyBytes_CheckExact(seen)) {
        commands = holds(memory, shared);
    }
    if (commands < 0 || (commands > 0 && add(session, COMMANDS, commands) < 0)) {
        Py_DECREF(seen);
        return NULL;
    }
    if (commands == 0 && (ends || !PyTuple_CheckExact(seen))) {
        Py_SETREF(seen, Py_NewRef(Py_None));
    }
    else if (ends) {
        PyObject *expected = expect(session, PyTuple_GET_ITEM(seen, 1));
        Py_SETREF(seen, expected == NULL ? NULL : Py_NewRef(PyTuple_GET_ITEM(seen, 0)));
        Py_XDECREF(expected);
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

/* Let the session decide about a chunk that is one command; `seen` is the command taken apart, and its number of KEYS. Return
 * what goes to Redis, or NULL with an exception set. */
static PyObject *
decided(PyObject *session, PyObject *data, PyObject *seen)
{
    PyObject *arguments[] = {session, data, PyTuple_GET_ITEM(seen, 0), PyTuple_GET_ITEM(seen, 1)};
    PyObject *out = PyObject_VectorcallMethod(name_take_one, arguments, 4, NULL);
    if (out != NULL && !PyBytes_CheckExact(out)) {
        PyErr_SetString(PyExc_TypeError, "take_one() returns bytes");
        Py_CLEAR(out);
    }
    return out;
}

/* Say whether a chunk of an open connection is one to be looked at here. */
static int
is_usual(PyObject *data)
{
    return PyBytes_CheckExact(data) && PyBytes_GET_SIZE(data) > 0 && PyBytes_GET_SIZE(data) < turn_bytes;
}

/* Tell of the decision that waits first, whose reply has come and is the usual one, as `Pending.receive` does. Return -1 with
 * an exception set. */
static int
tell(PyObject *pending)
{
    PyObject *each = PyObject_CallMethodNoArgs(get(pending, WAITING), name_popleft);
    PyObject *now = each == NULL ? NULL : PyObject_CallNoArgs(get(pending, PENDING_CLOCK));
    PyObject *outcome = now == NULL ? NULL : outcomes->tp_alloc(outcomes, OUTCOME), *result = NULL;
    if (outcome != NULL) {
        PyObject *items[OUTCOME] = {PyTuple_GET_ITEM(each, 1), PyTuple_GET_ITEM(each, 2), PyTuple_GET_ITEM(each, 3), now, ok, empty};
        for (int item = 0; item < OUTCOME; item++) {
            PyTuple_SET_ITEM(outcome, item, Py_NewRef(items[item]));
        }
        PyObject *observer = Py_NewRef(get(pending, PENDING_OBSERVER));
        result = PyObject_CallMethodOneArg(observer, name_decided, outcome);
        Py_DECREF(observer);
    }
    int told = result == NULL ? -1 : 0;
    Py_XDECREF(result);
    Py_XDECREF(outcome);
    Py_XDECREF(now);
    Py_XDECREF(each);
    return told;
}

/* Say what waits for the replies that come next: nothing as yet (0), a decision that is told here if its reply is the usual one
 * (1), or what is looked at in Python (2); -1 with an exception set. */
static int
due(PyObject *pending, PyObject *waiting, long replies)
{
    PyObject *each = PySequence_GetItem(waiting, 0), *counted = get(pending, REPLIES);
    if (each == NULL) {
        return -1;
    }
    int what = 2;
    if (PyTuple_CheckExact(each) && PyTuple_GET_SIZE(each) == 4 && counted != NULL && PyLong_CheckExact(counted)) {
        Py_ssize_t number = PyLong_AsSsize_t(PyTuple_GET_ITEM(each, 0)), before = PyLong_AsSsize_t(counted);
        int plain = Py_IS_TYPE(PyTuple_GET_ITEM(each, 1), decisions) && get(pending, PENDING_CLOCK) != NULL
            && get(pending, PENDING_OBSERVER) != NULL;
        what = PyErr_Occurred() ? -1 : number - before > replies ? 0 : plain ? 1 : 2;
    }
    Py_DECREF(each);
    return what;
}

/* Count the replies in a chunk, and tell of the decision that waits for the one that it is; say whether that could be done here,
 * -1 with an exception set. */
static int
counted(PyObject *session, PyObject *data)
{
    PyObject *pending = get(session, SESSION_PENDING), *waiting = get(pending, WAITING);
    if (!is(pending, COUNTING, Py_True) || !is(get(pending, PENDING_COUNTER), COUNTER_BETWEEN, Py_True) || waiting == NULL) {
        return 0;
    }
    const char *at = PyBytes_AS_STRING(data);
    long replies = whole_replies(at, at + PyBytes_GET_SIZE(data));
    if (replies == 0) {
        return 0;
    }
    int waits = PyObject_IsTrue(waiting), what = waits > 0 ? due(pending, waiting, replies) : waits;
    if (what < 0) {
        return -1;
    }
    if (what > 0 && (what > 1 || PyBytes_GET_SIZE(data) != 5 || memcmp(at, "+OK\r\n", 5) != 0)) {
        return 0;
    }
    Py_INCREF(pending);
    int done = add(pending, REPLIES, replies) < 0 || (what > 0 && tell(pending) < 0) ? -1 : 1;
    Py_DECREF(pending);
    return done;
}

/* Say whether a reply that the client must not see as it is may be among what Redis sends; -1 with an exception set. */
static int
is_marked(PyObject *session)
{
    PyObject *marks = get(session, SESSION_MARKS);
    return marks == NULL ? 1 : PyObject_IsTrue(marks);
}

/* Return where an attribute of its class stands; -1 with an exception set where it is none of `__slots__`. */
static Py_ssize_t
place_in(PyTypeObject *class, const char *name)
{
    PyObject *descriptor = PyObject_GetAttrString((PyObject *)class, name);
    if (descriptor == NULL) {
        return -1;
    }
    PyMemberDef *member = Py_TYPE(descriptor) == &PyMemberDescr_Type ? ((PyMemberDescrObject *)descriptor)->d_member : NULL;
    Py_ssize_t found = member != NULL && member->type == T_OBJECT_EX ? member->offset : -1;
    if (found < 0) {
        PyErr_Format(PyExc_TypeError, "%s.%s is not in __slots__", class->tp_name, name);
    }
    Py_DECREF(descriptor);
    return found;
}

/* Take note of the classes from `first` to before `end`, and where their attributes stand. Return -1 with an exception set
 * where something else is given; then nothing was taken note of. */
static int
know(PyObject *given, int first, int end)
{
    Py_ssize_t offsets[ATTRIBUTES];
    int types = PyTuple_GET_SIZE(given) == end - first;
    for (int number = first; types && number < end; number++) {
        types = PyType_Check(PyTuple_GET_ITEM(given, number - first));
    }
    if (!types) {
        PyErr_Format(PyExc_TypeError, "%d classes are looked at", end - first);
        return -1;
    }
    for (int number = 0; number < ATTRIBUTES; number++) {
        int class = attributes[number].class;
        if (class >= first && class < end) {
            offsets[number] = place_in((PyTypeObject *)PyTuple_GET_ITEM(given, class - first), attributes[number].name);
            if (offsets[number] < 0) {
                return -1;
            }
        }
    }
    for (int number = 0; number < ATTRIBUTES; number++) {
        if (attributes[number].class >= first && attributes[number].class < end) {
            attributes[number].offset = offsets[number];
        }
    }
    for (int number = first; number < end; number++) {
        Py_XSETREF(classes[number], (PyTypeObject *)Py_NewRef(PyTuple_GET_ITEM(given, number - first)));
    }
    return 0;
}

/* Give a class a method. Return -1 with an exception set. */
static int
equip(int class, PyMethodDef *method)
{
    PyObject *descriptor = PyDescr_NewMethod(classes[class], method);
    int set = descriptor == NULL ? -1 : PyObject_SetAttrString((PyObject *)classes[class], method->ml_name, descriptor);
    Py_XDECREF(descriptor);
    return set;
}

static int
make_constants(PyObject *module)
{
    const struct {
        PyObject **name;
        const char *text;
    } names[] = {
        {&name_pass_on, "pass_on"}, {&name_pass_back, "pass_back"}, {&name_take_one, "take_one"}, {&name_activate, "activate"},
        {&name_write, "write"}, {&name_changes, "changes"}, {&name_take_reply, "take_reply"},
        {&name_receive_downstream, "receive_downstream"}, {&name_start, "start"}, {&name_answered, "answered"},
        {&name_send, "_send"}, {&name_advance, "advance"}, {&name_expect, "expect"}, {&name_append, "append"},
        {&name_popleft, "popleft"}, {&name_decided, "decided"},
    };
    for (size_t number = 0; number < sizeof(names) / sizeof(names[0]); number++) {
        *names[number].name = PyUnicode_InternFromString(names[number].text);
        if (*names[number].name == NULL) {
            return -1;
        }
    }
    zero = PyLong_FromLong(0);
    nothing = PyBytes_FromStringAndSize(NULL, 0);
    empty = PyTuple_New(0);
    ok = PyBytes_FromString("+OK");
    return zero != NULL && nothing != NULL && empty != NULL && ok != NULL ? 0 : -1;
}

#endif
