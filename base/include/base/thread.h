/*
 * base/thread.h - threads beside a program's first one, and waiting with a limit.
 *
 * Signals are for the first thread: it runs the loop, or set the handlers. Every other thread
 * blocks them, so that poll(), connect() and the like on it are never cut short by a signal that is
 * meant for somebody else (SIGCHLD goes to the thread that started the child). What tells of the
 * thread's own mistake (SIGSEGV and its kind) stays as it is.
 */
#ifndef BASE_THREAD_H
#define BASE_THREAD_H

#include <pthread.h>
#include <stdint.h>
#include <time.h>

struct lb_err;

/* Run @body(@arg) on a new thread, which the caller joins. @what names it in the message.
 * Errors: LB_ENOMEM. */
int lb_thread_start(pthread_t *out, void *(*body)(void *), void *arg, const char *what,
		    struct lb_err *err);

/* CLOCK_MONOTONIC: nobody sets it, and it stands still while the host sleeps. For limits on waits
 * of this process only; what is decided or written down goes by lb_env. */
uint64_t lb_monotonic_ns(void);
/* A condition whose timed waits count on that clock. */
void lb_cond_init(pthread_cond_t *c);
/* For pthread_cond_timedwait() on one: until @monotonic_ns; @ns from now, at most some centuries.
 */
struct timespec lb_cond_until(uint64_t monotonic_ns);
struct timespec lb_cond_deadline(uint64_t ns);

#endif
