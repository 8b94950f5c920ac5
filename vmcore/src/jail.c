#include "jail.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/landlock.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <sys/capability.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/err.h"
#include "vmcore/ctl.h"

#define KVM_PATH    "/dev/kvm"
#define IOC_TYPE    0xff00u
#define KVM_IOC     0xae00u
#define UFFD_IOC    0xaa00u
#define THREAD_ONLY (CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD)

/* ---- Landlock ---- */

/* Everything Landlock of this kernel can forbid is forbidden. */
static int landlock(uint32_t *parts, struct lb_err *err)
{
	struct landlock_ruleset_attr attr = {.handled_access_fs =
						     (LANDLOCK_ACCESS_FS_MAKE_SYM << 1) - 1};
	long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
	int fd, rc = 0;

	if (abi < 1)
		return 0; /* this kernel has none */
	fd = (int)syscall(SYS_landlock_create_ruleset, &attr, sizeof(attr), 0);
	if (fd < 0)
		return lb_err_errno(err, errno, "make a Landlock ruleset");
	if (syscall(SYS_landlock_restrict_self, fd, 0) != 0)
		rc = lb_err_errno(err, errno, "restrict by Landlock");
	(void)close(fd);
	if (rc == 0)
		*parts |= VM_JAIL_LANDLOCK;
	return rc;
}

/* ---- who we are ---- */

/* Kept until drop. CAP_SYS_PTRACE: a userfaultfd that sees faults of the kernel, which KVM's
 * accesses are. CAP_SYS_CHROOT: drop itself. CAP_DAC_OVERRIDE only where /dev/kvm is root's
 * alone. */
static int keep_some(bool override, struct lb_err *err)
{
	const cap_value_t keep[] = {CAP_SYS_PTRACE, CAP_SYS_CHROOT, CAP_DAC_OVERRIDE};
	const int n = override ? 3 : 2;
	cap_t caps = cap_init();
	int rc = 0;

	if (caps == NULL || cap_set_flag(caps, CAP_PERMITTED, n, keep, CAP_SET) != 0 ||
	    cap_set_flag(caps, CAP_EFFECTIVE, n, keep, CAP_SET) != 0 || cap_set_proc(caps) != 0)
		rc = lb_err_errno(err, errno, "keep %d capabilities", n);
	if (caps != NULL)
		(void)cap_free(caps);
	return rc;
}

static int drop_all(struct lb_err *err)
{
	cap_t caps = cap_init();
	int rc = 0;

	if (caps == NULL || cap_set_proc(caps) != 0)
		rc = lb_err_errno(err, errno, "drop all capabilities");
	if (caps != NULL)
		(void)cap_free(caps);
	return rc;
}

static int become(uint32_t uid, uint32_t gid, struct lb_err *err)
{
	struct stat st = {0};
	bool there = stat(KVM_PATH, &st) == 0;
	bool by_group = there && (st.st_mode & 0060) == 0060 && st.st_gid != 0;
	bool by_all = there && (st.st_mode & 0006) == 0006;
	const gid_t group[1] = {st.st_gid};

	if (prctl(PR_SET_KEEPCAPS, 1L) != 0 || setgroups(by_group ? 1 : 0, group) != 0 ||
	    setresgid((gid_t)gid, (gid_t)gid, (gid_t)gid) != 0 ||
	    setresuid((uid_t)uid, (uid_t)uid, (uid_t)uid) != 0)
		return lb_err_errno(err, errno, "become uid %u", uid);
	(void)prctl(PR_SET_KEEPCAPS, 0L);
	return keep_some(there && !by_group && !by_all, err);
}

int vm_jail_enter(uint32_t uid, uint32_t gid, uint32_t *parts, struct lb_err *err)
{
	const struct rlimit none = {0, 0};
	int rc = 0;

	*parts = 0;
	(void)setrlimit(RLIMIT_CORE, &none); /* a core would hold the guest's memory */
	if (uid != 0)
		rc = become(uid, gid, err);
	if (rc == 0 && uid != 0)
		*parts |= VM_JAIL_UID;
	if (rc == 0 && prctl(PR_SET_NO_NEW_PRIVS, 1L, 0L, 0L, 0L) != 0)
		rc = lb_err_errno(err, errno, "set no-new-privs");
	if (rc == 0)
		*parts |= VM_JAIL_NO_NEW_PRIVS;
	(void)prctl(PR_SET_DUMPABLE, 0L);
	return rc;
}

int vm_jail_drop(int root_fd, uint32_t *parts, struct lb_err *err)
{
	int rc = 0;

	if (root_fd >= 0 && fchdir(root_fd) == 0 && chroot(".") == 0)
		*parts |= VM_JAIL_CHROOT;
	else if (root_fd >= 0 && (*parts & VM_JAIL_UID) != 0)
		rc = lb_err_errno(err, errno, "change the root directory");
	if (rc == 0 && (*parts & VM_JAIL_UID) != 0)
		rc = drop_all(err);
	return rc == 0 ? landlock(parts, err) : rc;
}

/* ---- seccomp ---- */

/* Always allowed: descriptors we have, memory, threads of ours, time. */
static const int plain[] = {
	SCMP_SYS(read),
	SCMP_SYS(write),
	SCMP_SYS(pread64),
	SCMP_SYS(pwrite64),
	SCMP_SYS(readv),
	SCMP_SYS(writev),
	SCMP_SYS(preadv),
	SCMP_SYS(pwritev),
	SCMP_SYS(preadv2),
	SCMP_SYS(pwritev2),
	SCMP_SYS(lseek),
	SCMP_SYS(fsync),
	SCMP_SYS(fdatasync),
	SCMP_SYS(fallocate),
	SCMP_SYS(ftruncate),
	SCMP_SYS(close),
	SCMP_SYS(dup),
	SCMP_SYS(fstat),
	SCMP_SYS(poll),
	SCMP_SYS(ppoll),
	SCMP_SYS(epoll_create1),
	SCMP_SYS(epoll_ctl),
	SCMP_SYS(epoll_wait),
	SCMP_SYS(epoll_pwait),
	SCMP_SYS(eventfd2),
	SCMP_SYS(timerfd_create),
	SCMP_SYS(timerfd_settime),
	SCMP_SYS(timerfd_gettime),
	/* clients that connect to the socket we were given, the view servers' sockets */
	SCMP_SYS(accept4),
	SCMP_SYS(recvmsg),
	SCMP_SYS(sendmsg),
	SCMP_SYS(recvfrom),
	SCMP_SYS(sendto),
	SCMP_SYS(shutdown),
	SCMP_SYS(getsockopt),
	/* staged memory of cuts, answers that are too large for a frame */
	SCMP_SYS(memfd_create),
	SCMP_SYS(munmap),
	SCMP_SYS(madvise),
	SCMP_SYS(mremap),
	SCMP_SYS(brk),
	SCMP_SYS(mincore),
	SCMP_SYS(membarrier),
	SCMP_SYS(futex),
	SCMP_SYS(set_robust_list),
	SCMP_SYS(rseq),
	SCMP_SYS(sched_yield),
	SCMP_SYS(sched_getaffinity),
	SCMP_SYS(getcpu),
	SCMP_SYS(gettid),
	SCMP_SYS(getpid),
	SCMP_SYS(getuid),
	SCMP_SYS(geteuid),
	SCMP_SYS(rt_sigaction),
	SCMP_SYS(rt_sigprocmask),
	SCMP_SYS(rt_sigreturn),
	SCMP_SYS(rt_sigtimedwait),
	SCMP_SYS(sigaltstack),
	SCMP_SYS(restart_syscall),
	SCMP_SYS(clock_gettime),
	SCMP_SYS(clock_getres),
	SCMP_SYS(clock_nanosleep),
	SCMP_SYS(nanosleep),
	SCMP_SYS(gettimeofday),
	SCMP_SYS(time),
	SCMP_SYS(getrandom),
	SCMP_SYS(exit),
	SCMP_SYS(exit_group),
	SCMP_SYS(getrusage),
};

/* Refused softly: the C library looks for files of its own (locale, time zone) and does without.
 * clone3's flags are behind a pointer, where no filter can look: the library falls back to clone.
 */
static const struct {
	int call, sys_errno;
} soft[] = {
	{SCMP_SYS(openat), EACCES},   {SCMP_SYS(open), EACCES},
	{SCMP_SYS(stat), EACCES},     {SCMP_SYS(newfstatat), EACCES},
	{SCMP_SYS(readlink), EACCES}, {SCMP_SYS(readlinkat), EACCES},
	{SCMP_SYS(access), EACCES},   {SCMP_SYS(socket), EACCES},
	{SCMP_SYS(clone3), ENOSYS},   {SCMP_SYS(statx), EACCES},
	{SCMP_SYS(uname), EACCES},
};

static int allow_plain(scmp_filter_ctx f)
{
	int rc = 0;

	for (size_t i = 0; i < sizeof(plain) / sizeof(plain[0]) && rc == 0; i++)
		rc = seccomp_rule_add(f, SCMP_ACT_ALLOW, plain[i], 0);
	for (size_t i = 0; i < sizeof(soft) / sizeof(soft[0]) && rc == 0; i++)
		rc = seccomp_rule_add(f, SCMP_ACT_ERRNO((uint32_t)soft[i].sys_errno), soft[i].call,
				      0);
	return rc;
}

/* Allowed for some arguments only. */
static int allow_checked(scmp_filter_ctx f)
{
	static const uint64_t ioctls[] = {KVM_IOC, UFFD_IOC};
	static const int names[] = {PR_SET_NAME, PR_GET_NAME, PR_SET_VMA};
	/* no owner and no signal of a descriptor: the kernel would send it to another process */
	static const int of_fd[] = {F_DUPFD_CLOEXEC, F_GETFD,     F_SETFD,    F_GETFL,
				    F_SETFL,         F_ADD_SEALS, F_GET_SEALS};
	int rc = 0;

	for (size_t i = 0; i < sizeof(of_fd) / sizeof(of_fd[0]) && rc == 0; i++)
		rc = seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(fcntl), 1,
				      SCMP_A1(SCMP_CMP_EQ, (uint64_t)of_fd[i], 0));
	for (size_t i = 0; i < sizeof(ioctls) / sizeof(ioctls[0]) && rc == 0; i++)
		rc = seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(ioctl), 1,
				      SCMP_A1(SCMP_CMP_MASKED_EQ, IOC_TYPE, ioctls[i]));
	/* isatty(), of whoever is about to print: a sanitizer's report, the C library */
	if (rc == 0)
		rc = seccomp_rule_add(f, SCMP_ACT_ERRNO(EACCES), SCMP_SYS(ioctl), 1,
				      SCMP_A1(SCMP_CMP_EQ, TCGETS, 0));
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]) && rc == 0; i++)
		rc = seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(prctl), 1,
				      SCMP_A0(SCMP_CMP_EQ, (uint64_t)names[i], 0));
	/* no memory that is to be executed */
	if (rc == 0)
		rc = seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 1,
				      SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
	if (rc == 0)
		rc = seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(mprotect), 1,
				      SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
	/* threads, never processes */
	if (rc == 0)
		rc = seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(clone), 1,
				      SCMP_A0(SCMP_CMP_MASKED_EQ, THREAD_ONLY, THREAD_ONLY));
	/* kicks of vCPU threads, abort(): our own threads only */
	if (rc == 0)
		rc = seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1,
				      SCMP_A0(SCMP_CMP_EQ, (uint64_t)getpid(), 0));
	return rc;
}

int vm_jail_close(uint32_t *parts, struct lb_err *err)
{
	scmp_filter_ctx f = seccomp_init(SCMP_ACT_KILL_PROCESS);
	int rc;

	if (f == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "seccomp filter");
	rc = seccomp_attr_set(f, SCMP_FLTATR_CTL_TSYNC, 1); /* threads that exist already, too */
	if (rc == 0)
		rc = allow_plain(f);
	if (rc == 0)
		rc = allow_checked(f);
	if (rc == 0)
		rc = seccomp_load(f);
	seccomp_release(f);
	if (rc != 0)
		return lb_err_set(err, LB_EIO, -rc, "load the seccomp filter");
	*parts |= VM_JAIL_SECCOMP;
	return 0;
}
