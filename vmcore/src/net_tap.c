#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/err.h"
#include "base/thread.h"
#include "net_int.h"

#define BURST 256u

struct net_tap {
	struct vm_net net; /* first */
	int fd, stop_fd;
	pthread_t reader;
	uint8_t frame[VM_FRAME_MAX];
};

/* A tap whose queue is full drops, as a wire with too much on it does. */
static bool tap_send(struct vm_net *n, const void *frame, size_t len)
{
	const struct net_tap *t = (const struct net_tap *)n;
	ssize_t r;

	do
		r = write(t->fd, frame, len); /* banned-ok: one frame a write */
	while (r < 0 && errno == EINTR);
	return true;
}

/* The frames there are, but no more than BURST: then it looks whether the end has come. False: the
 * tap is gone. */
static bool drain(struct net_tap *t)
{
	for (unsigned i = 0; i < BURST; i++) {
		ssize_t r = read(t->fd, t->frame, sizeof(t->frame)); /* banned-ok: a frame a read */

		if (r > 0)
			vm_net_deliver(&t->net, t->frame, (size_t)r);
		else if (r < 0 && errno == EINTR)
			continue;
		else
			return r < 0 && errno == EAGAIN;
	}
	return true;
}

static void *tap_main(void *arg)
{
	struct net_tap *t = arg;
	struct pollfd p[2] = {
		{.fd = t->stop_fd, .events = POLLIN},
		{.fd = t->fd, .events = POLLIN},
	};

	while (poll(p, 2, -1) >= 0 || errno == EINTR) {
		if (p[0].revents != 0)
			break;
		/* a tap that was taken away is never readable again: wait for the end only */
		if (p[1].revents != 0 && !drain(t))
			p[1].fd = -1;
	}
	return NULL;
}

static void tap_destroy(struct vm_net *n)
{
	struct net_tap *t = (struct net_tap *)n;
	if (eventfd_write(t->stop_fd, 1) == 0)
		(void)pthread_join(t->reader, NULL);
	(void)close(t->stop_fd);
	(void)close(t->fd);
	vm_net_fini(n);
	free(t);
}

int vm_net_tap(struct vm_net **out, int fd, struct lb_err *err)
{
	static const struct vm_net_ops ops = {.send = tap_send, .destroy = tap_destroy};
	struct net_tap *t = calloc(1, sizeof(*t));
	int flags, rc;

	if (t == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "tap");
	t->fd = fd;
	t->stop_fd = eventfd(0, EFD_CLOEXEC);
	if (t->stop_fd < 0) {
		rc = lb_err_errno(err, errno, "eventfd of a tap");
		goto out;
	}
	flags = fcntl(fd, F_GETFL);
	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0) {
		rc = lb_err_errno(err, errno, "tap descriptor %d", fd);
		goto out;
	}
	vm_net_init(&t->net, &ops, NULL);
	rc = lb_thread_start(&t->reader, tap_main, t, "a tap", err);
	if (rc != 0) {
		vm_net_fini(&t->net);
		goto out;
	}
	*out = &t->net;
	t = NULL;
out:
	if (t != NULL && t->stop_fd >= 0)
		(void)close(t->stop_fd);
	free(t);
	return rc;
}
