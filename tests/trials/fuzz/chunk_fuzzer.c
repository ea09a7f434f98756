/* Fuzzes the compiled parts with libFuzzer, AddressSanitizer and UBSan: `make fuzz-c`.
 *
 * The first byte of an input says which allocation fails, so that the ways out of memory are taken too. Checked besides
 * what the sanitizers see (leaks at the end): no read past the last byte, not even of the NUL that Python puts there;
 * no reference lost or kept; an exception exactly where there is no result.
 */

/* Each is a module of its own, so the names that all of them have are made different. */
#include "session/_fast_path.c"
#define methods resp_methods
#define module resp_module
#include "wire/_resp.c"
#undef methods
#undef module
#define methods message_methods
#define module message_module
#include "asynq/_message.c"
#undef methods
#undef module
#define methods destinations_methods
#define module destinations_module
#include "session/routing/_destinations.c"
#undef module
#define module passing_module
#include "session/_passing.c"
#undef methods
#undef module
#define methods forwarding_methods
#define module forwarding_module
#define slots forwarding_slots
#include "relay/_forwarding.c"
#undef methods
#undef module
#undef slots

#include <sanitizer/asan_interface.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define CHECK(condition) do { if (!(condition)) { fprintf(stderr, "does not hold: %s\n", #condition); abort(); } } while (0)

/* Allocations until one fails; negative for never. */
static long allocations_left = -1;
static PyMemAllocatorEx plain;

static int
fails(void)
{
    return allocations_left >= 0 && allocations_left-- == 0;
}

static void *
failing_malloc(void *context, size_t size)
{
    return fails() ? NULL : plain.malloc(plain.ctx, size);
}

static void *
failing_calloc(void *context, size_t count, size_t size)
{
    return fails() ? NULL : plain.calloc(plain.ctx, count, size);
}

static void *
failing_realloc(void *context, void *memory, size_t size)
{
    return fails() ? NULL : plain.realloc(plain.ctx, memory, size);
}

static void
plain_free(void *context, void *memory)
{
    plain.free(plain.ctx, memory);
}

static PyObject *names, *untouched, *polls, *endings, *connection;
/* A `Passing` that returns what does not pass, and that one together with who is given what the client gets. */
static PyObject *passing, *led;
static PyObject *remember;
/* How calls end tasks, by terms as `Remembered` has them: the script "c" completes one of the queue "q", "a" archives it, and what
 * "s" does is only told. The seeds of run_c.py are such calls. */
static const char ENDED[] =
    "from collections import namedtuple\n"
    "class Decision(namedtuple('Decision', list('abcdefghijklmno'))): __slots__ = ()\n"
    "class Outcome(namedtuple('Outcome', list('abcdef'))): __slots__ = ()\n"
    "class Clock: known = (float, 3.0, 1000.0, 1000.0)\n"
    "def told(enforced): return Decision(*'abcde', enforced, *'ghijklmno')\n"
    "def terms(enforced=True, **items):\n"
    "    usual = dict(prefix=b't:', decision=told(enforced), head=b'5 ', timed=True, age=None, rest=b'-7', added=None, score=b'', argv=())\n"
    "    return tuple((usual | items).values())\n"
    "completed = {b'60 1 1 qm': terms(added=2**62 - 1), b'0 1 1 qm': terms(score=b'9', timed=False),\n"
    "    b'60 1 1 qn': terms(added=2**63 - 1)}\n" /* more than is added to */
    "archived = {b'5 1 1 qm1': terms(age=2**62 - 1, argv=((4, b'-inf'), (5, b'')))}\n"
    "shown = {b'0 1 1 qm': terms(False)}\n"
    "def remember():\n"
    "    endings.update({\n"
    "        b'c': (8, 2, 4, 3, 4, 5, 7, 6, 0, 0, True, 5, b'wrapper', Clock, completed),\n"
    "        b'a': (11, 3, 5, 3, 4, 6, 7, 8, 9, 10, False, 5, b'wrapper', Clock, archived),\n"
    "        b's': (8, 2, 4, 3, 4, 5, 7, 6, 0, 0, True, 5, b'wrapper', Clock, shown),\n"
    "        b'o': (8, 2, 4, 3, 4, 5, 7, 999, 0, 0, True, 5, b'wrapper', Clock, shown)})\n"; /* an element that no call has */

/* How a poll begins that is remembered; in the dictionary of run_c.py too. */
static const char POLL[] = "*5\r\n$7\r\nEVALSHA\r\n$1\r\np\r\n$1\r\n1\r\n$1\r\nk\r\n";

/* Check what goes to Redis for a call that ends a task, which is the chunk itself or another command, and what is told. */
static void
settle_ending(PyObject *out, PyObject *told, PyObject *chunk)
{
    const char *at = PyBytes_AS_STRING(out), *end = at + PyBytes_GET_SIZE(out), *value;
    Py_ssize_t count = 0, length;
    at = command_header(at, end, &count);
    for (Py_ssize_t element = 0; element < count; element++) {
        CHECK((at = bulk(at, end, &value, &length)) != NULL);
    }
    CHECK(at == end && (out == chunk || (Py_REFCNT(out) == 1 && (count == 9 || count == 12))));
    CHECK(Py_TYPE(told) == decisions && Py_REFCNT(told) == 1 && PyTuple_GET_SIZE(told) == TOLD);
    for (int item = 0; item < TOLD; item++) {
        CHECK(PyTuple_GET_ITEM(told, item) != NULL);
    }
    CHECK(PyLong_AsLong(PyTuple_GET_ITEM(told, TOLD_SIZE)) < PyBytes_GET_SIZE(chunk));
}

/* Remember again what an allocation that failed has had forgotten. */
static void
remember_endings(void)
{
    allocations_left = -1;
    if (PyDict_GET_SIZE(endings) == 0) {
        PyObject *none = PyObject_CallNoArgs(remember);
        CHECK(none != NULL);
        Py_DECREF(none);
    }
}

/* Check what a call has returned: a result, or else an exception; then forget it. */
static void
settle(PyObject *result, PyObject *chunk)
{
    allocations_left = -1;
    CHECK((result == NULL) == (PyErr_Occurred() != NULL));
    CHECK(result != NULL || PyErr_ExceptionMatches(PyExc_MemoryError));
    PyErr_Clear();
    remember_endings();
    if (result != NULL && PyTuple_CheckExact(result) && PyTuple_GET_SIZE(result) == 2 && PyBytes_CheckExact(PyTuple_GET_ITEM(result, 0))) {
        settle_ending(PyTuple_GET_ITEM(result, 0), PyTuple_GET_ITEM(result, 1), chunk);
    }
    else if (result != NULL && PyTuple_CheckExact(result) && PyTuple_GET_SIZE(result) == 2) {
        PyObject *command = PyTuple_GET_ITEM(result, 0);
        CHECK(Py_REFCNT(result) == 1 && PyList_CheckExact(command) && Py_REFCNT(command) == 1);
        CHECK(PyList_GET_SIZE(command) >= 1 && PyList_GET_SIZE(command) <= MAX_ARGUMENTS);
        long keys = PyLong_AsLong(PyTuple_GET_ITEM(result, 1));
        CHECK(keys >= -1 && keys <= Py_MAX(PyList_GET_SIZE(command) - 3, -1));
        for (Py_ssize_t number = 0; number < PyList_GET_SIZE(command); number++) {
            CHECK(PyBytes_CheckExact(PyList_GET_ITEM(command, number)));
        }
        PyObject *again = encode(NULL, command);
        CHECK(again != NULL && PyBytes_GET_SIZE(again) == PyBytes_GET_SIZE(chunk));
        CHECK(memcmp(PyBytes_AS_STRING(again), PyBytes_AS_STRING(chunk), PyBytes_GET_SIZE(chunk)) == 0);
        Py_DECREF(again);
    }
    else if (result != NULL && PyBytes_CheckExact(result)) {
        CHECK(PyBytes_GET_SIZE(result) + (Py_ssize_t)strlen(POLL) == PyBytes_GET_SIZE(chunk) + (Py_ssize_t)strlen("instead"));
    }
    else if (result != NULL) {
        CHECK(result == Py_None || PyLong_CheckExact(result) || (PyTuple_CheckExact(result) && PyTuple_GET_SIZE(result) == 6));
    }
    Py_XDECREF(result);
    CHECK(Py_REFCNT(chunk) == 1);
}

/* A connection as far as the compiled part looks at it: what is given to either side is put into `given`. */
static const char CONNECTION[] =
    "from collections import deque\n"
    "given = []\n"
    "class Object:\n"
    "    __slots__ = ()\n"
    "    def __init__(self, **values):\n"
    "        for name, value in values.items(): setattr(self, name, value)\n"
    "def of(*slots): return type('Class', (Object,), {'__slots__': slots})\n"
    "Downstream = of('_traffic', '_upstream', '_pauses', 'session', '_transport')\n"
    "Downstream.pass_on = Downstream.pass_back = lambda self, data: given.append(data)\n"
    "Upstream, Transport = of('write'), of('write')\n"
    "Traffic = of('command_due', 'reply_due', 'bytes_from_clients', 'bytes_from_redis')\n"
    "Session = of('_framer', 'holding', '_pending', '_untouched', '_shared', 'receive_upstream', 'commands',\n"
    "    'waiting_for', 'marks', '_selected')\n"
    "Session.take_one = lambda self, data, command, keys: data\n"
    "Session.receive_downstream = lambda self, data: data\n"
    "Framer, Holding, Counter = of('between'), of('taken_bytes'), of('between')\n"
    "Pending, Selected = of('_counter', '_waiting', 'counting', 'replies', '_clock', '_observer'), of('number')\n"
    "class Observer: decided = staticmethod(lambda outcome: None)\n"
    "Memory, Shared = of('polls', 'endings', '_rewriter', '_changes', '_registry'), of('memory', 'rewriter')\n"
    "classes = Downstream, Upstream, Traffic, Session, Framer, Holding, Pending, Counter, Memory, Shared, Selected\n"
    "Pending.expect = lambda self, decision, number, database: None\n"
    "waiting, decision = deque(), told(True)\n"
    "memory = Memory(polls=polls, endings=endings, _rewriter='one', _changes=1, _registry=of('changes')(changes=1))\n"
    "session = Session(_framer=Framer(between=True), holding=Holding(taken_bytes=0), _untouched=untouched, commands=0, waiting_for=None,\n"
    "    _pending=Pending(_counter=Counter(between=True), _waiting=waiting, counting=True, replies=0, _clock=lambda: 2**60,\n"
    "    _observer=Observer), _selected=Selected(number=1000),\n"
    "    _shared=Shared(memory=memory, rewriter='one'), receive_upstream=given.append, marks=())\n"
    "connection = Downstream(_traffic=Traffic(command_due=False, reply_due=False, bytes_from_clients=0, bytes_from_redis=0),\n"
    "    _upstream=Upstream(write=given.append), _pauses=None, session=session, _transport=Transport(write=given.append))\n"
    /* And a routed one, whose node has any slot. */
    "Client, Side, Routes = type('Client', (Downstream,), {}), of('_connections', '_client', '_order', '_over', 'router'), of('_owners')\n"
    "Side.take_reply = lambda self, node, data: given.append(data)\n"
    "Router, Transaction = of('commands', 'replies', '_framer', 'holding', '_transaction', 'order'), of('open')\n"
    "Order = of('todo', '_waits', 'pinned', 'over', '_ends', '_lanes', 'flight', '_nodes', '_outside')\n"
    "Order.advance, Order._send = lambda self: None, lambda self, lane, out: None\n"
    "Flight, Lane = of('_lone', '_slot', 'lane', '_errands', 'elsewhere', '_deliver'), of('session', 'counter', '_rename')\n"
    "Flight.start, Flight.answered = lambda self, data, slot, lane: True, lambda self: True\n"
    "routed_classes = Client, Side, Routes, Router, Transaction, Order, Flight, Lane\n"
    "lane = Lane(session=session, counter=Counter(between=True), _rename=lambda data: data)\n"
    "flight = Flight(_lone=b'', _slot=0, lane=lane, _errands=(), elsewhere=(), _deliver=None)\n"
    "side = Side(_connections={'node': Upstream(write=given.append)}, _over=False)\n"
    "order = Order(todo=(), _waits=False, pinned=None, over=False, _ends=False, _lanes={'node': lane}, flight=flight,\n"
    "    _nodes=Routes(_owners=['node'] * 16384), _outside=side)\n"
    "router = Router(commands=0, replies=0, _framer=Framer(between=True), holding=Holding(taken_bytes=0),\n"
    "    _transaction=Transaction(open=False), order=order)\n"
    "client = Client(_traffic=connection._traffic, _upstream=side, _pauses=None, session=router, _transport=connection._transport)\n"
    "side._client, side._order, side.router = client, order, router\n";
static PyObject *given, *client, *side, *flight, *node, *waiting, *session, *decision;

static void
connect(void)
{
    PyObject *values = Py_BuildValue("{s:O,s:O,s:O}", "polls", polls, "untouched", untouched, "endings", endings);
    CHECK(values != NULL && PyDict_SetItemString(values, "__builtins__", PyEval_GetBuiltins()) == 0);
    CHECK(make_constants(NULL) == 0 && PyRun_String(ENDED, Py_file_input, values, values) != NULL);
    CHECK(PyRun_String(CONNECTION, Py_file_input, values, values) != NULL);
    remember = PyDict_GetItemString(values, "remember");
    remember_endings();
    waiting = PyDict_GetItemString(values, "waiting");
    session = PyDict_GetItemString(values, "session");
    decision = PyDict_GetItemString(values, "decision");
    PyObject *arguments = Py_BuildValue("(OOOiOO)", PyDict_GetItemString(values, "classes"), Py_None, names, 1 << 16,
                                        PyDict_GetItemString(values, "Decision"), PyDict_GetItemString(values, "Outcome"));
    CHECK(arguments != NULL && install(NULL, arguments) != NULL);
    connection = PyDict_GetItemString(values, "connection");
    given = PyDict_GetItemString(values, "given");
    arguments = Py_BuildValue("(OO)", PyDict_GetItemString(values, "routed_classes"), names);
    CHECK(arguments != NULL && install_routed(NULL, arguments) != NULL);
    client = PyDict_GetItemString(values, "client");
    side = PyDict_GetItemString(values, "side");
    flight = PyDict_GetItemString(values, "flight");
    node = PyUnicode_InternFromString("node");
    CHECK(node != NULL);
}

/* Let a decision wait for the reply of that number, or nothing for 0. */
static void
await(int reply)
{
    Py_SETREF(*place(get(session, SESSION_PENDING), REPLIES), Py_NewRef(zero));
    PyObject *none = PyObject_CallMethod(waiting, "clear", NULL);
    CHECK(none != NULL);
    Py_DECREF(none);
    if (reply > 0) {
        none = PyObject_CallMethod(waiting, "append", "((iOOO))", reply, decision, zero, zero);
        CHECK(none != NULL);
        Py_DECREF(none);
    }
}

/* Check what has been given on for a chunk: it, once or (what Redis sends) also to who counts, or what goes instead. */
static void
take(PyObject *result, PyObject *chunk, Py_ssize_t most)
{
    allocations_left = -1;
    CHECK(result == NULL || result == Py_None);
    CHECK(PyList_GET_SIZE(given) <= most && (result == NULL || PyList_GET_SIZE(given) >= 1));
    for (Py_ssize_t number = 0; number < PyList_GET_SIZE(given); number++) {
        PyObject *bytes = PyList_GET_ITEM(given, number);
        CHECK(bytes == chunk || (most == 1 && Py_REFCNT(bytes) == 1));
    }
    CHECK(PyList_SetSlice(given, 0, PyList_GET_SIZE(given), NULL) == 0);
    Py_SETREF(*place(flight, LONE), Py_NewRef(nothing)); /* it may be the chunk */
    settle(result, chunk);
}

int
LLVMFuzzerInitialize(int *count, char ***arguments)
{
    setenv("PYTHONMALLOC", "malloc", 1); /* each object a block of its own, which AddressSanitizer fences */
    Py_InitializeEx(0);
    PyMem_GetAllocator(PYMEM_DOMAIN_OBJ, &plain);
    PyMemAllocatorEx failing = {NULL, failing_malloc, failing_calloc, failing_realloc, plain_free};
    PyMem_SetAllocator(PYMEM_DOMAIN_OBJ, &failing);
    const char *special_names[] = {"EVALSHA", "EVAL", "SCRIPT", "A"};
    names = PyFrozenSet_New(NULL);
    for (size_t number = 0; number < sizeof(special_names) / sizeof(special_names[0]); number++) {
        PyObject *name = PyBytes_FromString(special_names[number]);
        CHECK(name != NULL && PySet_Add(names, name) == 0);
        Py_DECREF(name);
    }
    untouched = Py_BuildValue("{y:O}", "u", Py_None);
    polls = Py_BuildValue("{y:y}", POLL, "instead");
    endings = PyDict_New();
    CHECK(untouched != NULL && polls != NULL && endings != NULL);
    connect();
    PyObject *base = PyType_FromSpec(&passing_spec), *names_there = Py_BuildValue("{s:O}", "Passing", base);
    CHECK(base != NULL && names_there != NULL && PyDict_SetItemString(names_there, "__builtins__", PyEval_GetBuiltins()) == 0);
    PyObject *none = PyRun_String(
        "class Kept(Passing):\n    def receive_slowly(self, data): return data\n\npassing = Kept()\nled = passing, len\n",
        Py_file_input, names_there, names_there);
    CHECK(none != NULL);
    Py_DECREF(none);
    passing = Py_NewRef(PyDict_GetItemString(names_there, "passing"));
    led = Py_NewRef(PyDict_GetItemString(names_there, "led"));
    Py_DECREF(names_there);
    Py_DECREF(base);
    return 0;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) {
        return 0;
    }
    PyObject *chunk = PyBytes_FromStringAndSize((const char *)data + 1, size - 1);
    CHECK(chunk != NULL);
    if (size > 2) { /* the empty one and those of one byte are shared */
        char *end = PyBytes_AS_STRING(chunk) + PyBytes_GET_SIZE(chunk);
        ASAN_POISON_MEMORY_REGION(end, 1);
        PyObject *arguments[] = {chunk, names, untouched, polls, endings};
        long limit = data[0] < 128 ? -1 : data[0] - 128;
        allocations_left = limit;
        settle(recall(NULL, arguments, 5), chunk);
        allocations_left = limit;
        settle(count_replies(NULL, chunk), chunk);
        allocations_left = limit;
        settle(routing(NULL, chunk), chunk);
        await(0);
        allocations_left = limit;
        take(data_received(connection, chunk), chunk, 1);
        for (int replies = 0; replies < 3; replies++) { /* nothing waits, or a decision for the first of them, or the second */
            await(replies);
            allocations_left = limit;
            take(upstream_received(connection, chunk), chunk, 2);
        }
        await(0);
        for (int waits = 0; waits < 2; waits++) { /* for the reply to a command alone, or to one of some */
            PyObject *reply[] = {node, chunk};
            Py_SETREF(*place(flight, LONE), Py_NewRef(waits ? chunk : nothing));
            allocations_left = limit;
            take(client_received(client, chunk), chunk, 1);
            Py_SETREF(*place(flight, LONE), Py_NewRef(waits ? chunk : nothing));
            allocations_left = limit;
            take(node_received(side, reply, 2), chunk, 2);
        }
        allocations_left = limit;
        settle(quick_slot(NULL, arguments, 2), chunk);
        allocations_left = limit;
        settle(received(led, chunk), chunk);
        allocations_left = limit;
        PyObject *told = receive(passing, chunk);
        CHECK(told == NULL || told == chunk);
        allocations_left = -1;
        Py_XDECREF(told);
        settle(told == NULL ? NULL : Py_NewRef(Py_None), chunk);
        ASAN_UNPOISON_MEMORY_REGION(end, 1);
    }
    Py_DECREF(chunk);
    return 0;
}
