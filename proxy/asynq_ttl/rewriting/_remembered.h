/* A call that ends a task as an earlier one did: what goes to Redis instead, and what is told. What `Remembered.recall` does,
 * for a command in its plain form.
 *
 * It decides nothing: it looks whether a call is such a one, and fills in what is remembered. That is named tuples of Python;
 * where something else stands than here, and for any other call, there is no answer.
 *
 * Invariants: an item of a tuple is used only as what it was seen to be, and no element of a command is looked for that it has
 * not. A time has at most MAX_TIME digits, and whatever is added to one is less than 2^62, so that no sum is more than 2^63.
 */

#ifndef ASYNQ_TTL_REMEMBERED_H
#define ASYNQ_TTL_REMEMBERED_H

#include "../asynq/_message.h"
#include "../wire/_resp.h"

/* The items of a `Remembered`: first numbers, by which it is known where an element stands in a call; then others. */
enum {
    ELEMENTS, KEYS, FIRST_ARG, INDEX_KEY, TASK_KEY, TASK_ID, MESSAGE, TIME, CUTOFF, CAP, PLACES,
    RETAINS = PLACES, OWN_SECONDS, WRAPPER_SHA, CLOCK, KNOWN_TERMS, REMEMBERED
};
/* Those of `Terms`, of `RedisClock.known`, and of a `Decision`, as far as they differ from one task to the next. */
enum { PREFIX, DECISION, HEAD, TIMED, AGE, REST, ADDED, SCORE, ARGV, TERMS };
enum { ELAPSED, UNTIL, BEHIND, BEFORE, KNOWN };
enum { TOLD_ENFORCED = 5, TOLD_ID = 6, TOLD_TRACEPARENT = 10, TOLD_TRACESTATE = 11, TOLD_SIZE = 12, TOLD = 15 };

/* As in call.py and in redis_clock.py. */
enum { MAX_TIME = 15, MOST_SECONDS = 8 };
static const long long MOST_ADDED = 1LL << 62;

static PyObject *name_known; /* set once */

/* A call: what stands in its elements, and where each of them begins with its header. */
typedef struct {
    Py_ssize_t place[PLACES];
    Part element[MAX_ARGUMENTS];
    const char *start[MAX_ARGUMENTS + 1];
} Call;

/* A task that ends: when, and for how long Asynq itself would keep it; and the number of entries that the script keeps. */
typedef struct {
    Message message;
    long long now, own_seconds;
    Part cap;
} Task;

/* Read an int that is less than 2^62 either way. Return whether it is one. */
static inline int
read_int(PyObject *value, long long *number)
{
    int overflow = 1;
    *number = PyLong_CheckExact(value) ? PyLong_AsLongLongAndOverflow(value, &overflow) : 0;
    return !overflow && *number < MOST_ADDED && *number > -MOST_ADDED;
}

/* Read bytes. Return whether they are. */
static inline int
read_bytes(PyObject *value, Part *part)
{
    *part = PyBytes_CheckExact(value) ? (Part){PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value)} : (Part){NULL, 0};
    return part->at != NULL;
}

/* Read a time in a call. Return whether it is plainly one. */
static inline int
read_time(Part text, long long *seconds)
{
    *seconds = 0;
    for (Py_ssize_t digit = 0; digit < text.length && digit < MAX_TIME; digit++) {
        if (text.at[digit] < '0' || text.at[digit] > '9') {
            return 0;
        }
        *seconds = *seconds * 10 + (text.at[digit] - '0');
    }
    return text.length > 0 && text.length <= MAX_TIME;
}

/* Say whether something is a tuple of so many items. */
static inline int
has_items(PyObject *tuple, Py_ssize_t items)
{
    return PyTuple_Check(tuple) && PyTuple_GET_SIZE(tuple) == items;
}

/* Read a call in a chunk, which has been seen to be one. Return whether it is such a one as is remembered. */
static inline int
read_call(PyObject *calls, PyObject *chunk, Py_ssize_t keys, Call *call)
{
    const char *at = PyBytes_AS_STRING(chunk), *end = at + PyBytes_GET_SIZE(chunk);
    Py_ssize_t count;
    long long number;
    at = command_header(at, end, &count);
    for (int place = ELEMENTS; place < PLACES; place++) {
        if (!read_int(PyTuple_GET_ITEM(calls, place), &number) || number < 0 || number > count) {
            return 0;
        }
        if (place == ELEMENTS ? number != count : place == KEYS ? number != keys : number == count) {
            return 0;
        }
        call->place[place] = (Py_ssize_t)number;
    }
    for (Py_ssize_t element = 0; element < count; element++) {
        call->start[element] = at;
        at = bulk(at, end, &call->element[element].at, &call->element[element].length);
    }
    call->start[count] = at;
    return 1;
}

/* Read what is to be known of the task of a call. Return whether all of it stands there plainly. */
static inline int
read_task(PyObject *calls, const Call *call, Task *task)
{
    const Py_ssize_t *place = call->place;
    Part message = call->element[place[MESSAGE]];
    task->cap = (Part){message.at, 0};
    if (!read_time(call->element[place[TIME]], &task->now) || !read_message(message.at, message.at + message.length, &task->message)) {
        return 0;
    }
    if (PyTuple_GET_ITEM(calls, RETAINS) == Py_True) { /* in the call it is when the entry is due */
        task->own_seconds = (long long)task->message.retention; /* of 63 bits */
        task->now -= task->own_seconds;
        return task->now >= 0;
    }
    if (place[CAP]) {
        task->cap = call->element[place[CAP]];
    }
    if (!place[CUTOFF]) {
        return read_int(PyTuple_GET_ITEM(calls, OWN_SECONDS), &task->own_seconds);
    }
    long long cutoff;
    int plain = read_time(call->element[place[CUTOFF]], &cutoff);
    task->own_seconds = task->now - cutoff;
    return plain;
}

/* Return the terms of a call, borrowed; NULL where they are not remembered, or with an exception set. */
static inline PyObject *
terms_of(PyObject *calls, const Call *call, const Task *task)
{
    Part index = call->element[call->place[INDEX_KEY]], type = task->message.type, cap = task->cap;
    const long long numbers[] = {task->own_seconds, index.length, type.length};
    char beginning[3 * (MAX_WRITTEN + 1)];
    Py_ssize_t length = 0;
    for (int number = 0; number < 3; number++) {
        length += write_number(beginning + length, numbers[number]);
        beginning[length++] = ' ';
    }
    PyObject *alike = PyBytes_FromStringAndSize(NULL, length + index.length + type.length + cap.length);
    if (alike == NULL) {
        return NULL;
    }
    char *at = PyBytes_AS_STRING(alike);
    memcpy(at, beginning, length);
    memcpy(at += length, index.at, index.length);
    memcpy(at += index.length, type.at, type.length);
    memcpy(at + type.length, cap.at, cap.length);
    PyObject *terms = PyDict_GetItemWithError(PyTuple_GET_ITEM(calls, KNOWN_TERMS), alike);
    Py_DECREF(alike);
    return terms;
}

/* Say whether the key that a call names is its task's, by its terms. */
static inline int
names_its_task(PyObject *terms, const Call *call)
{
    Part prefix, key = call->element[call->place[TASK_KEY]], id = call->element[call->place[TASK_ID]];
    return read_bytes(PyTuple_GET_ITEM(terms, PREFIX), &prefix) && key.length == prefix.length + id.length
        && memcmp(key.at, prefix.at, prefix.length) == 0 && memcmp(key.at + prefix.length, id.at, id.length) == 0;
}

/* Return what is told of a task, as `Terms.told` does; NULL with an exception set. */
static inline PyObject *
told_of(PyObject *decision, const Call *call, const Message *message)
{
    PyObject *own[TOLD] = {NULL}, *made = NULL;
    own[TOLD_ID] = text(call->element[call->place[TASK_ID]]);
    own[TOLD_TRACEPARENT] = text(message->traceparent);
    own[TOLD_TRACESTATE] = text(message->tracestate);
    own[TOLD_SIZE] = PyLong_FromSsize_t(call->element[call->place[MESSAGE]].length);
    if (own[TOLD_ID] != NULL && own[TOLD_TRACEPARENT] != NULL && own[TOLD_TRACESTATE] != NULL && own[TOLD_SIZE] != NULL) {
        made = Py_TYPE(decision)->tp_alloc(Py_TYPE(decision), TOLD);
    }
    for (int item = 0; item < TOLD; item++) {
        if (made == NULL) {
            Py_XDECREF(own[item]);
        }
        else {
            PyTuple_SET_ITEM(made, item, own[item] != NULL ? own[item] : Py_NewRef(PyTuple_GET_ITEM(decision, item)));
        }
    }
    return made;
}

/* Say whether a time is certain to be Redis's, as `RedisClock.agrees` does: 1 or 0; -1 with an exception set. */
static inline int
agrees(PyObject *clock, long long now)
{
    PyObject *known = PyObject_GetAttr(clock, name_known), *read = NULL;
    if (known != NULL && !has_items(known, KNOWN)) {
        PyErr_SetString(PyExc_TypeError, "what is known of a clock is a tuple");
    }
    else if (known != NULL) {
        read = PyObject_CallNoArgs(PyTuple_GET_ITEM(known, ELAPSED));
    }
    double seconds[KNOWN];
    for (int item = ELAPSED; read != NULL && item < KNOWN; item++) {
        seconds[item] = PyFloat_AsDouble(item == ELAPSED ? read : PyTuple_GET_ITEM(known, item));
        if (seconds[item] == -1.0 && PyErr_Occurred()) {
            Py_CLEAR(read);
        }
    }
    int told = read == NULL ? -1
        : seconds[ELAPSED] < seconds[UNTIL] && (double)now <= seconds[ELAPSED] + seconds[BEHIND]
            && seconds[ELAPSED] + seconds[BEFORE] < (double)(now + MOST_SECONDS);
    Py_XDECREF(known);
    Py_XDECREF(read);
    return told;
}

/* What is filled in: what stands in place of elements, where `at` is not NULL; and the parts of the argument behind them. */
typedef struct {
    Part instead[MAX_ARGUMENTS];
    Part tail[4];
    char asks[MAX_WRITTEN + 2], trims[MAX_WRITTEN], score[MAX_WRITTEN];
} Filled;

/* Fill in times, as `Terms.fill` does. Return whether the terms are such as stand there. */
static inline int
fill_times(PyObject *terms, const Call *call, long long now, int agreed, Filled *filled)
{
    long long number;
    Part score;
    if (!read_bytes(PyTuple_GET_ITEM(terms, HEAD), &filled->tail[1]) || !read_bytes(PyTuple_GET_ITEM(terms, REST), &filled->tail[3])
        || !read_bytes(PyTuple_GET_ITEM(terms, SCORE), &score)) {
        return 0;
    }
    filled->tail[0] = (Part){filled->asks, 0};
    if (!agreed) {
        filled->asks[0] = '?';
        Py_ssize_t length = 1 + write_number(filled->asks + 1, now);
        filled->asks[length] = ' ';
        filled->tail[0].length = length + 1;
    }
    filled->tail[2] = (Part){filled->trims, 0};
    if (PyTuple_GET_ITEM(terms, AGE) == Py_None) {
        filled->tail[3].length = 0;
    }
    else if (read_int(PyTuple_GET_ITEM(terms, AGE), &number)) {
        filled->tail[2].length = write_number(filled->trims, now - number);
    }
    else {
        return 0;
    }
    if (PyTuple_GET_ITEM(terms, ADDED) != Py_None) {
        if (!read_int(PyTuple_GET_ITEM(terms, ADDED), &number)) {
            return 0;
        }
        score = (Part){filled->score, write_number(filled->score, now + number)};
    }
    if (score.length > 0) {
        filled->instead[call->place[TIME]] = score;
    }
    return 1;
}

/* Fill in the wrapper and what stands in place of other arguments. Return whether all are such as stand there. */
static inline int
fill_arguments(PyObject *calls, PyObject *terms, const Call *call, Filled *filled)
{
    PyObject *argv = PyTuple_GET_ITEM(terms, ARGV);
    if (!read_bytes(PyTuple_GET_ITEM(calls, WRAPPER_SHA), &filled->instead[1]) || !PyTuple_CheckExact(argv)) {
        return 0;
    }
    for (Py_ssize_t each = 0; each < PyTuple_GET_SIZE(argv); each++) {
        PyObject *both = PyTuple_GET_ITEM(argv, each);
        long long number;
        if (!has_items(both, 2) || !read_int(PyTuple_GET_ITEM(both, 0), &number) || number < 0
            || number >= call->place[ELEMENTS] - call->place[FIRST_ARG]
            || !read_bytes(PyTuple_GET_ITEM(both, 1), &filled->instead[call->place[FIRST_ARG] + number])) {
            return 0;
        }
    }
    return 1;
}

/* Write bytes behind what is written, or only count them where `out` is NULL. */
static inline void
put(char *out, Py_ssize_t *written, const char *at, Py_ssize_t length)
{
    if (out != NULL) {
        memcpy(out + *written, at, length);
    }
    *written += length;
}

static inline void
put_header(char *out, Py_ssize_t *written, char marker, Py_ssize_t number)
{
    *written += write_header(out == NULL ? NULL : out + *written, marker, number);
}

/* Write a call with what is filled in, or only count where `out` is NULL. Return how many bytes it is. */
static inline Py_ssize_t
write_call(char *out, const Call *call, const Filled *filled)
{
    Py_ssize_t written = 0, count = call->place[ELEMENTS], length = 0;
    put_header(out, &written, '*', count + 1);
    for (Py_ssize_t element = 0; element < count; element++) {
        Part instead = filled->instead[element];
        if (instead.at == NULL) {
            put(out, &written, call->start[element], call->start[element + 1] - call->start[element]);
            continue;
        }
        put_header(out, &written, '$', instead.length);
        put(out, &written, instead.at, instead.length);
        put(out, &written, "\r\n", 2);
    }
    for (int part = 0; part < 4; part++) {
        length += filled->tail[part].length;
    }
    put_header(out, &written, '$', length);
    for (int part = 0; part < 4; part++) {
        put(out, &written, filled->tail[part].at, filled->tail[part].length);
    }
    put(out, &written, "\r\n", 2);
    return written;
}

/* Return the call of the wrapper; NULL where it is not known here, or with an exception set. */
static inline PyObject *
filled_in(PyObject *calls, PyObject *terms, const Call *call, long long now)
{
    Filled filled;
    memset(filled.instead, 0, call->place[ELEMENTS] * sizeof filled.instead[0]);
    int agreed = PyTuple_GET_ITEM(terms, TIMED) == Py_False ? 1 : agrees(PyTuple_GET_ITEM(calls, CLOCK), now);
    if (agreed < 0 || !fill_times(terms, call, now, agreed, &filled) || !fill_arguments(calls, terms, call, &filled)) {
        return NULL;
    }
    PyObject *whole = PyBytes_FromStringAndSize(NULL, write_call(NULL, call, &filled));
    if (whole != NULL) {
        write_call(PyBytes_AS_STRING(whole), call, &filled);
    }
    return whole;
}

/* Return what goes to Redis for a call, and what is told of it, by its terms; as `ended`. */
static inline PyObject *
by_terms(PyObject *calls, PyObject *terms, PyObject *chunk, const Call *call, const Task *task)
{
    PyObject *decision = PyTuple_GET_ITEM(terms, DECISION);
    if (!has_items(decision, TOLD) || !names_its_task(terms, call)) {
        return NULL;
    }
    PyObject *both = NULL, *told = NULL;
    PyObject *out = PyTuple_GET_ITEM(decision, TOLD_ENFORCED) == Py_True ? filled_in(calls, terms, call, task->now) : Py_NewRef(chunk);
    if (out != NULL) {
        told = told_of(decision, call, &task->message);
    }
    if (told != NULL) {
        both = PyTuple_Pack(2, out, told);
    }
    Py_XDECREF(out);
    Py_XDECREF(told);
    return both;
}

/* Return what goes to Redis for a chunk that is a call with so many KEYS, and what is told of it; NULL where that is not
 * remembered, or with an exception set. `calls` is what is remembered of its script. */
static PyObject *
ended(PyObject *calls, PyObject *chunk, Py_ssize_t keys)
{
    Call call;
    Task task;
    if (name_known == NULL && (name_known = PyUnicode_InternFromString("known")) == NULL) {
        return NULL;
    }
    if (!has_items(calls, REMEMBERED) || !PyDict_CheckExact(PyTuple_GET_ITEM(calls, KNOWN_TERMS))
        || !read_call(calls, chunk, keys, &call) || !read_task(calls, &call, &task)) {
        return NULL;
    }
    Py_INCREF(calls);
    PyObject *terms = terms_of(calls, &call, &task), *both = NULL;
    if (terms != NULL && has_items(terms, TERMS)) {
        Py_INCREF(terms);
        both = by_terms(calls, terms, chunk, &call, &task);
        Py_DECREF(terms);
    }
    Py_DECREF(calls);
    return both;
}

#endif
