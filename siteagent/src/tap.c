/*
 * A tap belongs to the namespace its creating thread is in, so only that moment is spent there. It
 * is made without persistence: it goes with its descriptor, and so with the machine.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/err.h"
#include "proc_int.h"
#include "vmrun_int.h"

#define TOOL_NS (60ull * 1000000000u)

struct tap {
	const char *name;
	int fd;
};

static int make_tap(void *arg, struct lb_err *err)
{
	struct ifreq ifr = {.ifr_flags = IFF_TAP | IFF_NO_PI};
	struct tap *t = arg;
	int f = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);

	if (f < 0)
		return lb_err_errno(err, errno, "open /dev/net/tun");
	(void)snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", t->name);
	if (ioctl(f, TUNSETIFF, &ifr) != 0) {
		int e = errno;

		(void)close(f);
		return lb_err_errno(err, e, "make tap %s", t->name);
	}
	t->fd = f;
	return 0;
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
	struct tap t = {.name = name, .fd = -1};
	int rc = netns != NULL ? sa_in_netns(netns, make_tap, &t, err) : make_tap(&t, err);

	if (rc != 0)
		return rc;
	rc = set_up(name, netns, bridge, log_path, err);
	if (rc != 0)
		(void)close(t.fd);
	else
		*fd = t.fd;
	return rc;
}
