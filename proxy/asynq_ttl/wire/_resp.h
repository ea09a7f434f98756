/* RESP in its one plain form: what all the compiled parts that look at commands and replies share.
 *
 * Nothing here allocates, and no byte at or behind `end` is read. Source of the format: the Redis serialization protocol
 * specification.
 */

#ifndef ASYNQ_TTL_RESP_H
#define ASYNQ_TTL_RESP_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

/* Asynq's longest command has about 20 arguments; a number of nine digits is more than the length of the largest
 * argument. */
enum { MAX_ARGUMENTS = 99, MAX_DIGITS = 9 };
/* The longest number of 64 bits, with its sign. */
enum { MAX_WRITTEN = 20 };

/* Read "<marker><number>\r\n" at `at`, the number without a sign or a leading zero. Return where the line ends; NULL
 * where it is no such line, or not a whole one. */
static inline const char *
header(const char *at, const char *end, char marker, Py_ssize_t *number)
{
    if (end - at < 4 || *at++ != marker) {
        return NULL;
    }
    const char *digits = at;
    Py_ssize_t value = 0;
    while (at < end && *at >= '0' && *at <= '9' && at - digits < MAX_DIGITS) {
        value = value * 10 + (*at++ - '0');
    }
    if (at == digits || (*digits == '0' && at - digits > 1) || end - at < 2 || at[0] != '\r' || at[1] != '\n') {
        return NULL;
    }
    *number = value;
    return at + 2;
}

/* Read "$<length>\r\n<bytes>\r\n" at `at`. Return where it ends; NULL where it is none, or not a whole one. */
static inline const char *
bulk(const char *at, const char *end, const char **value, Py_ssize_t *length)
{
    at = header(at, end, '$', length);
    if (at == NULL || end - at < *length + 2 || at[*length] != '\r' || at[*length + 1] != '\n') {
        return NULL;
    }
    *value = at;
    return at + *length + 2;
}

/* Read the header of a command, "*<count>\r\n", at `at`. Return where it ends; NULL where it is none, or not a whole
 * one, or has more arguments than are looked at here. */
static inline const char *
command_header(const char *at, const char *end, Py_ssize_t *count)
{
    at = header(at, end, '*', count);
    return at != NULL && *count >= 1 && *count <= MAX_ARGUMENTS ? at : NULL;
}

/* Return how many replies stand between `at` and `end`, if it is whole ones of one line or one bulk string; else 0. */
static inline long
whole_replies(const char *at, const char *end)
{
    const char *value;
    Py_ssize_t length;
    long replies = 0;
    for (; at != end; replies++) {
        switch (*at) {
        case '+': case '-': case ':': case '_': case '#': case ',': case '(':
            at = memchr(at, '\n', end - at);
            at = at == NULL ? NULL : at + 1;
            break;
        case '$':
            at = end - at >= 5 && memcmp(at, "$-1\r\n", 5) == 0 ? at + 5 : bulk(at, end, &value, &length);
            break;
        default:
            at = NULL;
        }
        if (at == NULL) {
            return 0;
        }
    }
    return replies;
}

/* Write a number at `at`, or count how long it is where `at` is NULL. Return the length, at most MAX_WRITTEN. */
static inline Py_ssize_t
write_number(char *at, long long number)
{
    char digits[MAX_WRITTEN];
    unsigned long long left = number < 0 ? 0 - (unsigned long long)number : (unsigned long long)number;
    Py_ssize_t length = 0;
    do {
        digits[length++] = '0' + left % 10;
        left /= 10;
    } while (left > 0);
    if (number < 0) {
        digits[length++] = '-';
    }
    for (Py_ssize_t digit = length; at != NULL && digit > 0; digit--) {
        *at++ = digits[digit - 1];
    }
    return length;
}

/* Write "<marker><number>\r\n" at `at`, or count how long it is where `at` is NULL. Return the length. */
static inline Py_ssize_t
write_header(char *at, char marker, Py_ssize_t number)
{
    Py_ssize_t length = write_number(at == NULL ? NULL : at + 1, number);
    if (at != NULL) {
        *at = marker;
        memcpy(at + 1 + length, "\r\n", 2);
    }
    return length + 3;
}

#endif
