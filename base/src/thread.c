#include "base/thread.h"

#include <signal.h>

#include "base/assert.h"
#include "base/err.h"

#define NS_PER_S UINT64_C(1000000000)

int lb_thread_start(pthread_t *out, void *(*body)(void *), void *arg, const char *what,
		    struct lb_err *err)
{
	static const int own[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGSYS};
	sigset_t quiet, before;
	int e;

	(void)sigfillset(&quiet);
	for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++)
		(void)sigdelset(&quiet, own[i]);
	/* The new thread inherits the mask, so no signal can reach it before it blocks them. */
	(void)pthread_sigmask(SIG_BLOCK, &quiet, &before);
	e = pthread_create(out, NULL, body, arg);
	(void)pthread_sigmask(SIG_SETMASK, &before, NULL);
	return e == 0 ? 0 : lb_err_set(err, LB_ENOMEM, e, "start the thread of %s", what);
}

void lb_cond_init(pthread_cond_t *c)
{
	pthread_condattr_t attr;

	LB_ASSERT(pthread_condattr_init(&attr) == 0);
	LB_ASSERT(pthread_condattr_setclock(&attr, CLOCK_MONOTONIC) == 0);
	LB_ASSERT(pthread_cond_init(c, &attr) == 0);
	(void)pthread_condattr_destroy(&attr);
}

uint64_t lb_monotonic_ns(void)
{
	struct timespec t;

	LB_ASSERT(clock_gettime(CLOCK_MONOTONIC, &t) == 0);
	return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

struct timespec lb_cond_until(uint64_t monotonic_ns)
{
	return (struct timespec){.tv_sec = (time_t)(monotonic_ns / NS_PER_S),
				 .tv_nsec = (long)(monotonic_ns % NS_PER_S)};
}

struct timespec lb_cond_deadline(uint64_t ns)
{
	uint64_t now = lb_monotonic_ns();

	return lb_cond_until(ns < UINT64_MAX - now ? now + ns : UINT64_MAX);
}
