/*
 * A tap belongs to the namespace its creating thread is in, so only that moment is spent there (as
 * hv_probe.c does for sockets). It is made without persistence: it goes with its descriptor, and so
 * with the machine.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/err.h"
#include "proc_int.h"
#include "vmrun_int.h"

#define TOOL_NS (60ull * 1000000000u)

static int make_tap(int *fd, const char *name, struct lb_err *err)
{
	struct ifreq ifr = {.ifr_flags = IFF_TAP | IFF_NO_PI};
	int f = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);

	if (f < 0)
		return lb_err_errno(err, errno, "open /dev/net/tun");
	(void)snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", name);
	if (ioctl(f, TUNSETIFF, &ifr) != 0) {
		int e = errno;

		(void)close(f);
		return lb_err_errno(err, e, "make tap %s", name);
	}
	*fd = f;
	return 0;
}

static int make_there(int *fd, const char *name, const char *netns, struct lb_err *err)
{
	char path[256];
	int here, there, rc;

	(void)snprintf(path, sizeof(path), "/run/netns/%s", netns);
	here = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	there = open(path, O_RDONLY | O_CLOEXEC);
	if (here < 0 || there < 0 || setns(there, CLONE_NEWNET) != 0) {
		rc = lb_err_errno(err, errno, "enter network namespace %s", netns);
	} else {
		rc = make_tap(fd, name, err);
		if (setns(here, CLONE_NEWNET) != 0) /* this thread would act for us elsewhere */
			sa_proc_fatal("return to the agent's network namespace");
	}
	if (there >= 0)
		(void)close(there);
	if (here >= 0)
		(void)close(here);
	return rc;
}

static int set_up(const char *name, const char *netns, const char *bridge, const char *log_path,
		  struct lb_err *err)
{
	const char *argv[12];
	size_t n = 0;

	argv[n++] = "ip";
	if (netns != NULL) {
		argv[n++] = "-n";
		argv[n++] = netns;
	}
	argv[n++] = "link";
	argv[n++] = "set";
	argv[n++] = "dev";
	argv[n++] = name;
	if (bridge != NULL) {
		argv[n++] = "master";
		argv[n++] = bridge;
	}
	argv[n++] = "up";
	argv[n] = NULL;
	return sa_proc_run(argv, log_path, TOOL_NS, err);
}

int sa_tap_open(int *fd, const char *name, const char *netns, const char *bridge,
		const char *log_path, struct lb_err *err)
{
	int tap = -1;
	int rc = netns != NULL ? make_there(&tap, name, netns, err) : make_tap(&tap, name, err);

	if (rc != 0)
		return rc;
	rc = set_up(name, netns, bridge, log_path, err);
	if (rc != 0)
		(void)close(tap);
	else
		*fd = tap;
	return rc;
}
