#include "nbdkit_run.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

#define ARGS_MAX         16
#define LISTEN_FD        3   /* where socket activation expects it */
#define WATCHDOG_SECONDS 240 /* the longest user boots many machines, on a busy host */

static struct sockaddr_un address_of(const struct nbdkit_run *r)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};

	(void)snprintf(a.sun_path, sizeof(a.sun_path), "%s", r->sock);
	return a;
}

static int listen_on(const struct nbdkit_run *r)
{
	struct sockaddr_un a = address_of(r);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(listen(fd, 16), 0);
	return fd;
}

static _Noreturn void run_server(int listener, const char *const *args)
{
	const char *argv[ARGS_MAX + 4] = {"nbdkit", "-f", "--exit-with-parent"};
	char pid[16];
	size_t n = 3;

	for (size_t i = 0; args[i] != NULL && i < ARGS_MAX; i++)
		argv[n++] = args[i];
	if (listener == LISTEN_FD)
		(void)fcntl(listener, F_SETFD, 0);
	else if (dup2(listener, LISTEN_FD) < 0)
		_exit(126);
	(void)snprintf(pid, sizeof(pid), "%d", (int)getpid());
	(void)setenv("LISTEN_PID", pid, 1);
	(void)setenv("LISTEN_FDS", "1", 1);
	/* execvp() does not write to it. NOLINTNEXTLINE(performance-no-int-to-ptr) */
	(void)execvp("nbdkit", (char *const *)(uintptr_t)argv);
	_exit(127);
}

static int is_installed(void)
{
	return access("/usr/bin/nbdkit", X_OK) == 0 || access("/usr/sbin/nbdkit", X_OK) == 0;
}

int nbdkit_start(struct nbdkit_run *r, const char *const *args)
{
	int listener;

	if (!is_installed())
		return -1;
	/* If anything hangs, SIGALRM ends the test and the server with it. */
	(void)alarm(WATCHDOG_SECONDS);
	memset(r, 0, sizeof(*r));
	(void)snprintf(r->dir, sizeof(r->dir), "/tmp/lb-nbd-XXXXXX");
	assert_non_null(mkdtemp(r->dir));
	(void)snprintf(r->sock, sizeof(r->sock), "%s/s", r->dir);
	(void)snprintf(r->uri, sizeof(r->uri), "nbd+unix:///?socket=%s", r->sock);
	listener = listen_on(r);
	r->pid = fork();
	assert_true(r->pid >= 0);
	if (r->pid == 0)
		run_server(listener, args);
	/* Only the server holds it now: when it cannot start, connecting fails instead of waiting.
	 */
	(void)close(listener);
	return 0;
}

void nbdkit_kill(struct nbdkit_run *r)
{
	if (r->pid <= 0)
		return;
	(void)kill(r->pid, SIGKILL);
	while (waitpid(r->pid, NULL, 0) < 0) {
	}
	r->pid = 0;
}

void nbdkit_stop(struct nbdkit_run *r)
{
	nbdkit_kill(r);
	(void)unlink(r->sock);
	(void)rmdir(r->dir);
	(void)alarm(0);
}

int nbdkit_connect(const struct nbdkit_run *r)
{
	struct sockaddr_un a = address_of(r);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	return fd;
}
