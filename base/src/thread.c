#include "base/thread.h"

#include <signal.h>

#include "base/err.h"

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
