/*
 * base/log.h - one event per line, logfmt, to a descriptor.
 *
 *   ts=2026-11-22T03:04:05.678Z lvl=warn comp=ship ev=peer_lost seq=8812 err="recv: timed out"
 *
 * `ev=` names are stable API (docs/events.md). Values are quoted and escaped when they hold
 * anything but [A-Za-z0-9._:/+-], so foreign text cannot forge a line or reach a terminal as an
 * escape sequence. Libraries return errors and do not log; loop callbacks and main do, once per
 * event. Keys are never logged. Thread: any (a line is one write(2)).
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum lb_log_level {
	LB_LOG_DEBUG,
	LB_LOG_INFO,
	LB_LOG_WARN,
	LB_LOG_ERROR
};

/* A sink that also sees each finished line (events view, tests); may be NULL. Called on the logging
 * thread. */
typedef void (*lb_log_tap_fn)(void *arg, enum lb_log_level lvl, const char *line);

void lb_log_set_fd(int fd);                   /* default 2 */
void lb_log_set_level(enum lb_log_level lvl); /* default INFO */
void lb_log_set_tap(lb_log_tap_fn fn, void *arg);
int lb_log_level_parse(enum lb_log_level *out, const char *text, struct lb_err *err);

/*
 * lb_log(LB_LOG_WARN, "ship", "peer_lost", "seq=%u", seq, "err=%s", err.msg, NULL):
 * pairs of "key=printf-format" and exactly one argument each, ended by NULL. Formats allowed:
 * %s %d %u %x (int), %" PRIu64 " / %" PRId64 " (64 bit), %zu. A NULL string prints as "-".
 */
void lb_log(enum lb_log_level lvl, const char *comp, const char *ev, ...);

/* Escape @s for a terminal or a log value: control, C1 and bidi characters become \xNN / \uNNNN,
 * bad UTF-8 becomes \xNN. Always NUL-terminates within @out_bytes; returns @out. */
const char *lb_text_escape(char *out, size_t out_bytes, const char *s);

#endif
