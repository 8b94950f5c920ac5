#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"
#include "base/thread.h"
#include "proc_int.h"

#define POLL_NS (10u * 1000000ull)

extern char **environ;

void sa_nap(uint64_t ns)
{
	struct timespec ts = {.tv_sec = (time_t)(ns / 1000000000u),
			      .tv_nsec = (long)(ns % 1000000000u)};

	(void)nanosleep(&ts, NULL);
}

/* @inherit: a descriptor that becomes 3 there, -1 none. */
static int spawn_with(pid_t *out, const char *const *argv, const char *log_path, short flags,
		      int inherit, posix_spawn_file_actions_t *fa, posix_spawnattr_t *attr)
{
	sigset_t none, all;
	int e;

	(void)sigemptyset(&none);
	(void)sigfillset(&all);
	e = posix_spawn_file_actions_addopen(fa, 0, "/dev/null", O_RDONLY, 0);
	if (e == 0)
		e = posix_spawn_file_actions_addopen(fa, 1, log_path, O_WRONLY | O_CREAT | O_TRUNC,
						     0600);
	if (e == 0)
		e = posix_spawn_file_actions_adddup2(fa, 1, 2);
	if (e == 0)
		e = inherit >= 0 ? posix_spawn_file_actions_adddup2(fa, inherit, 3) : 0;
	if (e == 0)
		e = posix_spawn_file_actions_addclosefrom_np(fa, inherit >= 0 ? 4 : 3);
	if (e == 0)
		e = posix_spawnattr_setsigmask(attr, &none);
	if (e == 0)
		e = posix_spawnattr_setsigdefault(attr, &all);
	if (e == 0)
		e = posix_spawnattr_setflags(
			attr, (short)(POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | flags));
	if (e == 0) /* argv is not written to; the prototype predates const */
		e = posix_spawnp(out, argv[0], fa, attr, (char *const *)argv, environ);
	return e;
}

static int start(pid_t *out, const char *const *argv, const char *log_path, short flags,
		 int inherit, struct lb_err *err)
{
	posix_spawn_file_actions_t fa;
	posix_spawnattr_t attr;
	int e = posix_spawn_file_actions_init(&fa);

	if (e != 0)
		return lb_err_errno(err, e, "start %s", argv[0]);
	e = posix_spawnattr_init(&attr);
	if (e == 0) {
		e = spawn_with(out, argv, log_path, flags, inherit, &fa, &attr);
		(void)posix_spawnattr_destroy(&attr);
	}
	(void)posix_spawn_file_actions_destroy(&fa);
	return e != 0 ? lb_err_errno(err, e, "start %s", argv[0]) : 0;
}

int sa_proc_start(pid_t *out, const char *const *argv, const char *log_path, struct lb_err *err)
{
	return start(out, argv, log_path, 0, -1, err);
}

int sa_proc_start_session(pid_t *out, const char *const *argv, const char *log_path,
			  struct lb_err *err)
{
	return start(out, argv, log_path, POSIX_SPAWN_SETSID, -1, err);
}

int sa_proc_start_with(pid_t *out, const char *const *argv, const char *log_path, int fd,
		       struct lb_err *err)
{
	return start(out, argv, log_path, POSIX_SPAWN_SETSID, fd, err);
}

bool sa_proc_alive(pid_t pid)
{
	return waitpid(pid, NULL, WNOHANG) == 0;
}

void sa_proc_end(pid_t pid, uint64_t grace_ns)
{
	uint64_t until = lb_monotonic_ns() + grace_ns;

	while (sa_proc_alive(pid)) {
		if (lb_monotonic_ns() < until) {
			sa_nap(POLL_NS);
			continue;
		}
		(void)kill(pid, SIGKILL);
		while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
			;
		return;
	}
}

const char *sa_proc_last_line(const char *log_path, char *out, size_t len)
{
	FILE *f = fopen(log_path, "re");
	char line[512];

	out[0] = '\0';
	if (f == NULL)
		return out;
	while (fgets(line, sizeof(line), f) != NULL) {
		line[strcspn(line, "\n")] = '\0';
		if (line[0] != '\0')
			(void)snprintf(out, len, "%.*s", (int)len - 1, line);
	}
	(void)fclose(f);
	return out;
}

int sa_proc_run(const char *const *argv, const char *log_path, uint64_t timeout_ns,
		struct lb_err *err)
{
	uint64_t until = lb_monotonic_ns() + timeout_ns;
	char said[160];
	int status = 0;
	pid_t pid = -1, got;
	int rc = sa_proc_start(&pid, argv, log_path, err);

	if (rc != 0)
		return rc;
	while ((got = waitpid(pid, &status, WNOHANG)) == 0 && lb_monotonic_ns() < until)
		sa_nap(POLL_NS);
	if (got == 0) {
		sa_proc_end(pid, 0);
		return lb_err_set(err, LB_ETIMEDOUT, 0, "%s did not end in time", argv[0]);
	}
	if (got == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	(void)sa_proc_last_line(log_path, said, sizeof said);
	return lb_err_set(err, LB_EIO, 0, "%s %s: %s", argv[0], argv[1] != NULL ? argv[1] : "",
			  said[0] != '\0' ? said : "no message");
}

int sa_lock_dir(int *out, const char *dir, uint64_t limit_ns, struct lb_err *err)
{
	uint64_t until = lb_monotonic_ns() + limit_ns;
	int rc = 0, fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return lb_err_errno(err, errno, "open %s", dir);
	while (rc == 0 && flock(fd, LOCK_EX | LOCK_NB) != 0) {
		if (errno != EWOULDBLOCK && errno != EINTR)
			rc = lb_err_errno(err, errno, "lock %s", dir);
		else if (lb_monotonic_ns() > until)
			rc = lb_err_set(err, LB_EBUSY, 0,
					"the machine in %s is being started or ended by another",
					dir);
		else
			sa_nap(POLL_NS);
	}
	if (rc != 0)
		(void)close(fd);
	else
		*out = fd;
	return rc;
}

static _Noreturn void fatal(const char *what)
{
	lb_log(LB_LOG_ERROR, "proc", "fatal", "what=%s", what, NULL);
	abort();
}

int sa_in_netns(const char *netns, int (*fn)(void *arg, struct lb_err *err), void *arg,
		struct lb_err *err)
{
	char path[PATH_MAX];
	int here, there, rc;

	(void)snprintf(path, sizeof(path), "/run/netns/%s", netns);
	here = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	there = open(path, O_RDONLY | O_CLOEXEC);
	if (here < 0 || there < 0 || setns(there, CLONE_NEWNET) != 0) {
		rc = lb_err_errno(err, errno, "enter network namespace %s", netns);
	} else {
		rc = fn(arg, err);
		if (setns(here, CLONE_NEWNET) != 0)
			fatal("return to the agent's network namespace");
	}
	if (there >= 0)
		(void)close(there);
	if (here >= 0)
		(void)close(here);
	return rc;
}
