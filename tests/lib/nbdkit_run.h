/*
 * tests/lib/nbdkit_run.h - a real nbdkit for the time of a test.
 *
 * The test makes the listening unix socket itself and hands it over (socket activation), so a
 * client can connect at once: nobody polls or sleeps. The server dies with the test
 * (--exit-with-parent).
 */
#ifndef TESTS_NBDKIT_RUN_H
#define TESTS_NBDKIT_RUN_H

#include <sys/types.h>

struct nbdkit_run {
	pid_t pid; /* 0 when not running */
	char dir[64];
	char sock[96];
	char uri[160]; /* nbd+unix:///?socket=... */
};

/* Start `nbdkit args...` (NULL-terminated: plugin, parameters). 0, or -1 when nbdkit is not
 * installed. */
int nbdkit_start(struct nbdkit_run *r, const char *const *args);
/* SIGKILL and wait; the socket file stays, as after a crash. */
void nbdkit_kill(struct nbdkit_run *r);
/* nbdkit_kill() if needed, then remove the directory. */
void nbdkit_stop(struct nbdkit_run *r);
/* Connect to it; returns a descriptor. */
int nbdkit_connect(const struct nbdkit_run *r);

#endif
