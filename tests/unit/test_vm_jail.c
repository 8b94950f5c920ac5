/*
 * lifeboat-vm's jail, from inside: a child shuts itself up and then does one thing. What is not
 * allowed ends it with SIGSYS, or is refused softly where the C library asks of its own accord.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/err.h"
#include "check.h"
#include "jail.h"
#include "vmcore/ctl.h"

#define NOBODY 65534u

enum {
	ALLOWED,
	REFUSED, /* EACCES */
	KILLED,
	NOT_SHUT_UP = 100 /* a child's status: the jail could not be made */
};

/* Descriptors that were open before. */
struct held {
	int dir, sock, memfd;
};

typedef int (*act_fn)(const struct held *h); /* 0, or the errno */

static int status_of(bool ok)
{
	return ok ? 0 : errno;
}

/* ---- what a machine does all the time ---- */

static void *thread(void *arg)
{
	return arg;
}

static int act_works(const struct held *h)
{
	pthread_t t = 0;
	void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int fd = memfd_create("more", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	int copy = fcntl(h->memfd, F_DUPFD_CLOEXEC, 0), flags = fcntl(h->sock, F_GETFL);
	bool ok = p != MAP_FAILED && fd >= 0 && copy >= 0 && flags >= 0 &&
		  fcntl(h->sock, F_SETFL, flags | O_NONBLOCK) == 0 && ftruncate(fd, 4096) == 0 &&
		  fcntl(fd, F_ADD_SEALS, F_SEAL_GROW) == 0 && pwrite(copy, "x", 1, 0) == 1 &&
		  fsync(copy) == 0 && munmap(p, 4096) == 0 && tgkill(getpid(), gettid(), 0) == 0 &&
		  pthread_create(&t, NULL, thread, NULL) == 0;

	return status_of(ok && pthread_join(t, NULL) == 0);
}

/* A sanitizer asks so before it says what it found: killed for that, nobody would read it. */
static int act_isatty(const struct held *h)
{
	return status_of(isatty(h->memfd) == 1);
}

/* ---- files ---- */

static int act_open(const struct held *h)
{
	(void)h;
	return status_of(open("/etc/passwd", O_RDONLY | O_CLOEXEC) >= 0);
}

static int act_open_device(const struct held *h)
{
	(void)h;
	return status_of(open("/dev/null", O_RDONLY | O_CLOEXEC) >= 0);
}

static int act_open_above(const struct held *h)
{
	return status_of(openat(h->dir, "../etc", O_RDONLY | O_CLOEXEC) >= 0);
}

static int act_openat2(const struct held *h)
{
	const uint64_t how[3] = {0};

	return status_of(syscall(SYS_openat2, h->dir, ".", how, sizeof(how)) >= 0);
}

static int act_unlink(const struct held *h)
{
	return status_of(unlinkat(h->dir, "x", 0) == 0);
}

static int act_chdir(const struct held *h)
{
	return status_of(fchdir(h->dir) == 0);
}

static int act_uring(const struct held *h)
{
	uint8_t params[120] = {0};

	(void)h;
	return status_of(syscall(SYS_io_uring_setup, 1, params) >= 0);
}

/* ---- programs and privileges ---- */

static int act_exec(const struct held *h)
{
	(void)h;
	return status_of(execl("/bin/true", "true", (char *)NULL) == 0);
}

static int act_fork(const struct held *h)
{
	pid_t pid = fork();

	(void)h;
	if (pid == 0)
		_exit(0);
	return status_of(pid > 0);
}

static int act_executable_memory(const struct held *h)
{
	(void)h;
	return status_of(mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1,
			      0) != MAP_FAILED);
}

static int act_becomes_executable(const struct held *h)
{
	void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	(void)h;
	return status_of(mprotect(p, 4096, PROT_READ | PROT_EXEC) == 0);
}

static int act_become_root(const struct held *h)
{
	(void)h;
	return status_of(setresuid(0, 0, 0) == 0);
}

/* ---- other processes and the network ---- */

static int act_socket(const struct held *h)
{
	(void)h;
	return status_of(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0) >= 0);
}

static int act_connect(const struct held *h)
{
	struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons(9)};

	return status_of(connect(h->sock, (struct sockaddr *)&sa, sizeof(sa)) == 0);
}

static int act_kill(const struct held *h)
{
	(void)h;
	return status_of(kill(getppid(), 0) == 0);
}

static int act_tgkill(const struct held *h)
{
	pid_t parent = getppid();

	(void)h;
	return status_of(tgkill(parent, parent, 0) == 0);
}

/* The kernel would signal whoever owns a descriptor: with any signal, and without kill(). */
static int act_set_owner(const struct held *h)
{
	return status_of(fcntl(h->sock, F_SETOWN, 1) == 0);
}

static int act_set_signal(const struct held *h)
{
	return status_of(fcntl(h->sock, F_SETSIG, SIGKILL) == 0);
}

static int act_ptrace(const struct held *h)
{
	(void)h;
	return status_of(ptrace(PTRACE_ATTACH, 1, NULL, NULL) == 0);
}

static int act_tun_ioctl(const struct held *h)
{
	return status_of(ioctl(h->sock, TUNSETNOCSUM, 1) == 0);
}

/* ---- the child ---- */

static int held_open(struct held *h)
{
	h->dir = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	h->sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	h->memfd = memfd_create("held", MFD_CLOEXEC);
	return h->dir >= 0 && h->sock >= 0 && h->memfd >= 0 ? 0 : -1;
}

static void child(act_fn act, uint32_t uid)
{
	uint32_t parts = 0;
	struct held h;

	if (held_open(&h) != 0 || vm_jail_enter(uid, uid, &parts, NULL) != 0 ||
	    vm_jail_drop(-1, &parts, NULL) != 0 || vm_jail_close(&parts, NULL) != 0 ||
	    (parts & VM_JAIL_SECCOMP) == 0)
		_exit(NOT_SHUT_UP);
	_exit(act(&h));
}

static int outcome(act_fn act, uint32_t uid)
{
	int status = 0;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0)
		child(act, uid);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WIFSIGNALED(status))
		return WTERMSIG(status) == SIGSYS ? KILLED : -WTERMSIG(status);
	assert_int_not_equal(WEXITSTATUS(status), NOT_SHUT_UP);
	return WEXITSTATUS(status) == EACCES ? REFUSED : WEXITSTATUS(status) << 8;
}

struct row {
	const char *name;
	act_fn act;
	int want;
};

#define ROW(name, want)                 \
	{                               \
#name, act_##name, want \
	}

static const struct row rows[] = {
	ROW(works, ALLOWED),
	ROW(isatty, REFUSED),
	ROW(open, REFUSED),
	ROW(open_device, REFUSED),
	ROW(open_above, REFUSED),
	ROW(openat2, KILLED),
	ROW(unlink, KILLED),
	ROW(chdir, KILLED),
	ROW(uring, KILLED),
	ROW(exec, KILLED),
	ROW(fork, KILLED),
	ROW(executable_memory, KILLED),
	ROW(becomes_executable, KILLED),
	ROW(become_root, KILLED),
	ROW(socket, REFUSED),
	ROW(connect, KILLED),
	ROW(kill, KILLED),
	ROW(tgkill, KILLED),
	ROW(set_owner, KILLED),
	ROW(set_signal, KILLED),
	ROW(ptrace, KILLED),
	ROW(tun_ioctl, KILLED),
};

static void check_rows(uint32_t uid)
{
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		int got = outcome(rows[i].act, uid);

		if (got != rows[i].want)
			fail_msg("uid %u: %s: %d, expected %d", uid, rows[i].name, got,
				 rows[i].want);
	}
}

static void test_as_we_are(void **state)
{
	(void)state;
	check_rows(0);
}

static void test_as_somebody_else(void **state)
{
	(void)state;
	if (geteuid() != 0)
		skip();
	check_rows(NOBODY);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_as_we_are),
		cmocka_unit_test(test_as_somebody_else),
	};

	(void)alarm(50);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
