/*
 * base/thread.h - threads beside a program's first one.
 *
 * Signals are for the first thread: it runs the loop, or set the handlers. Every other thread
 * blocks them, so that poll(), connect() and the like on it are never cut short by a signal that is
 * meant for somebody else (SIGCHLD goes to the thread that started the child). What tells of the
 * thread's own mistake (SIGSEGV and its kind) stays as it is.
 */
#ifndef BASE_THREAD_H
#define BASE_THREAD_H

#include <pthread.h>

struct lb_err;

/* Run @body(@arg) on a new thread, which the caller joins. @what names it in the message.
 * Errors: LB_ENOMEM. */
int lb_thread_start(pthread_t *out, void *(*body)(void *), void *arg, const char *what,
		    struct lb_err *err);

#endif
