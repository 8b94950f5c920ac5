#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/thread.h"
#include "vmcore/ctl.h"

#define NS_PER_MS UINT64_C(1000000)

union control {
	struct cmsghdr align;
	char room[CMSG_SPACE(VM_CTL_FDS_MAX * sizeof(int))];
};

int vm_ctl_send(int sock, const void *p, size_t len, const int *fds, size_t fd_count,
		struct lb_err *err)
{
	struct iovec iov = {.iov_base = (void *)p, .iov_len = len}; /* not written to */
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
	union control control;
	ssize_t n;

	if (fd_count > VM_CTL_FDS_MAX)
		return lb_err_set(err, LB_EINVAL, 0, "%zu descriptors in one frame", fd_count);
	if (fd_count > 0) {
		struct cmsghdr *c;

		memset(&control, 0, sizeof(control));
		msg.msg_control = control.room;
		msg.msg_controllen = CMSG_SPACE(fd_count * sizeof(int));
		c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(fd_count * sizeof(int));
		memcpy(CMSG_DATA(c), fds, fd_count * sizeof(int));
	}
	do
		n = sendmsg(sock, &msg, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	if (n >= 0)
		return 0;
	if (errno == EAGAIN || errno == ENOBUFS)
		return lb_err_set(err, LB_EAGAIN, errno, "machine's control socket is full");
	if (errno == EPIPE || errno == ECONNRESET || errno == ENOTCONN)
		return lb_err_set(err, LB_ECLOSED, errno, "machine's control connection is closed");
	return lb_err_set(err, LB_EIO, errno, "send %zu bytes on a control socket", len);
}

/* Everything that came, also what is too much: nothing may be leaked by who sends more. */
static size_t take_fds(struct msghdr *msg, int *fds, size_t cap, bool *too_many)
{
	size_t n = 0;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c != NULL; c = CMSG_NXTHDR(msg, c)) {
		size_t count;

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < count; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
			if (n < cap) {
				fds[n++] = fd;
			} else {
				*too_many = true;
				(void)close(fd);
			}
		}
	}
	return n;
}

int vm_ctl_recv(int sock, void *p, size_t *len, int *fds, size_t *fd_count, struct lb_err *err)
{
	struct iovec iov = {.iov_base = p, .iov_len = *len};
	union control control;
	struct msghdr msg = {.msg_iov = &iov,
			     .msg_iovlen = 1,
			     .msg_control = control.room,
			     .msg_controllen = sizeof(control.room)};
	bool bad = false, reset = false;
	size_t got;
	ssize_t n;

	/* who closes with unread frames resets the connection; what it sent before is still there,
	 * behind that one error */
	for (;;) {
		n = recvmsg(sock, &msg, MSG_CMSG_CLOEXEC);
		if (n >= 0 || (errno != EINTR && (errno != ECONNRESET || reset)))
			break;
		reset = reset || errno == ECONNRESET;
	}
	if (n < 0 && errno == EAGAIN)
		return lb_err_set(err, LB_EAGAIN, errno, "nothing on the control socket");
	if (n < 0 && errno != ECONNRESET)
		return lb_err_set(err, LB_EIO, errno, "receive on a control socket");
	if (n < 0)
		return lb_err_set(err, LB_ECLOSED, errno, "control connection is closed");
	got = take_fds(&msg, fds, *fd_count, &bad);
	if (n == 0 || bad || (msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0) {
		for (size_t i = 0; i < got; i++)
			(void)close(fds[i]);
		/* an empty datagram cannot be told from the end, and nobody of ours sends one */
		return n == 0 ? lb_err_set(err, LB_ECLOSED, 0, "control connection is closed")
			      : lb_err_set(err, LB_EPROTO, 0,
					   "a frame with more bytes or descriptors than allowed");
	}
	*len = (size_t)n;
	*fd_count = got;
	return 0;
}

/* ---- the client ---- */

struct vm_ctl {
	int sock;
	uint32_t tag;
	uint64_t timeout_ns;
	bool broken; /* an answer did not come: later ones would be taken for others' */
	struct vm_ctl_info info;
	uint8_t out[VM_CTL_FRAME_MAX], in[VM_CTL_FRAME_MAX];
};

static int wait_for(int sock, short what, uint64_t until, struct lb_err *err)
{
	struct pollfd p = {.fd = sock, .events = what};
	uint64_t now = lb_monotonic_ns();
	int n;

	do {
		uint64_t left = until > now ? until - now : 0;
		int ms = left / NS_PER_MS < 1000000 ? (int)((left + NS_PER_MS - 1) / NS_PER_MS)
						    : 1000000;

		n = poll(&p, 1, ms);
		now = lb_monotonic_ns();
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return lb_err_set(err, LB_EIO, errno, "wait for a machine's answer");
	return n > 0 ? 0
		     : lb_err_set(err, LB_ETIMEDOUT, 0, "the machine's process does not answer");
}

static int connect_to(int *sock, const char *path, uint64_t until, struct lb_err *err)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	int fd, rc = 0;

	if (strlen(path) >= sizeof(sa.sun_path))
		return lb_err_set(err, LB_EINPUT, 0, "path of a control socket is too long: %s",
				  path);
	memcpy(sa.sun_path, path, strlen(path) + 1);
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return lb_err_errno(err, errno, "make a socket");
	while (rc == 0 && connect(fd, (struct sockaddr *)&sa, sizeof(sa)) != 0) {
		if (errno == EAGAIN && lb_monotonic_ns() < until) { /* its backlog is full */
			(void)poll(NULL, 0, 5);
			continue;
		}
		rc = errno == ECONNREFUSED
			     ? lb_err_set(err, LB_ECLOSED, errno, "nobody answers at %s", path)
			     : lb_err_errno(err, errno, "connect to %s", path);
	}
	if (rc != 0)
		(void)close(fd);
	else
		*sock = fd;
	return rc;
}

static void close_fds(int *fds, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (fds[i] >= 0)
			(void)close(fds[i]);
}

/* The next frame of any type. */
static int receive(struct vm_ctl *c, uint64_t until, struct vm_ctl_msg *m, int fds[3],
		   struct lb_err *err)
{
	size_t len = sizeof(c->in), count = 3;
	int rc = wait_for(c->sock, POLLIN, until, err);

	fds[0] = fds[1] = fds[2] = -1;
	if (rc == 0)
		rc = vm_ctl_recv(c->sock, c->in, &len, fds, &count, err);
	if (rc != 0)
		return rc;
	rc = vm_ctl_decode(m, c->in, len, err);
	if (rc == 0 && m->fds != count)
		rc = lb_err_set(err, LB_EPROTO, 0, "%s came with %zu descriptors, not %u",
				vm_ctl_type_name(m->type), count, m->fds);
	if (rc != 0) {
		close_fds(fds, 3);
		fds[0] = fds[1] = fds[2] = -1;
	}
	return rc;
}

static int transmit(struct vm_ctl *c, const struct vm_ctl_msg *m, uint64_t until,
		    struct lb_err *err)
{
	size_t len = 0;
	int rc = vm_ctl_encode(c->out, &len, m, err);

	while (rc == 0) {
		rc = vm_ctl_send(c->sock, c->out, len, NULL, 0, err);
		if (rc != LB_EAGAIN)
			break;
		rc = wait_for(c->sock, POLLOUT, until, err);
		/* out of buffers it is writable and still takes nothing */
		if (rc == 0 && lb_monotonic_ns() >= until)
			rc = lb_err_set(err, LB_ETIMEDOUT, 0,
					"the machine's process takes no request");
	}
	return rc;
}

static bool is_unasked(const struct vm_ctl_msg *m)
{
	return m->tag == 0 && (m->type == VM_CTL_SERIAL_OUT || m->type == VM_CTL_EVENT);
}

static int await_answer(struct vm_ctl *c, enum vm_ctl_type want, uint64_t until,
			struct vm_ctl_msg *answer, int fds[3], struct lb_err *err)
{
	int rc;

	do {
		rc = receive(c, until, answer, fds, err);
		/* poll() never waits for who says more and more but no answer */
		if (rc == 0 && is_unasked(answer) && lb_monotonic_ns() >= until)
			rc = lb_err_set(err, LB_ETIMEDOUT, 0,
					"the machine's process says anything but an answer");
		c->broken = c->broken || rc == LB_ETIMEDOUT;
		if (rc != 0)
			return rc;
	} while (is_unasked(answer));
	if (answer->tag == c->tag && answer->type == VM_CTL_ERROR) {
		if (err != NULL)
			*err = answer->err;
		return answer->err.code;
	}
	if (answer->tag == c->tag && answer->type == want)
		return 0;
	close_fds(fds, 3);
	fds[0] = fds[1] = fds[2] = -1;
	c->broken = true;
	return lb_err_set(err, LB_EPROTO, 0, "%s is no answer to this request",
			  vm_ctl_type_name(answer->type));
}

int vm_ctl_begin(struct vm_ctl *c, const struct vm_ctl_msg *request, struct lb_err *err)
{
	struct vm_ctl_msg m = *request;

	if (c->broken)
		return lb_err_set(err, LB_ETIMEDOUT, 0, "an earlier answer did not come");
	if (++c->tag == 0)
		c->tag = 1;
	m.tag = c->tag;
	return transmit(c, &m, lb_monotonic_ns() + c->timeout_ns, err);
}

int vm_ctl_finish(struct vm_ctl *c, enum vm_ctl_type want, struct vm_ctl_msg *answer, int fds[3],
		  struct lb_err *err)
{
	int own[3] = {-1, -1, -1}, *to = fds != NULL ? fds : own;
	int rc;

	to[0] = to[1] = to[2] = -1;
	rc = await_answer(c, want, lb_monotonic_ns() + c->timeout_ns, answer, to, err);
	if (fds == NULL)
		close_fds(own, 3);
	return rc;
}

int vm_ctl_call(struct vm_ctl *c, const struct vm_ctl_msg *request, enum vm_ctl_type want,
		struct vm_ctl_msg *answer, int fds[3], struct lb_err *err)
{
	int rc;

	if (fds != NULL)
		fds[0] = fds[1] = fds[2] = -1;
	rc = vm_ctl_begin(c, request, err);
	return rc == 0 ? vm_ctl_finish(c, want, answer, fds, err) : rc;
}

int vm_ctl_post(struct vm_ctl *c, const struct vm_ctl_msg *m, struct lb_err *err)
{
	return transmit(c, m, lb_monotonic_ns() + c->timeout_ns, err);
}

int vm_ctl_next(struct vm_ctl *c, uint64_t timeout_ns, struct vm_ctl_msg *out, struct lb_err *err)
{
	int fds[3];
	int rc = receive(c, lb_monotonic_ns() + timeout_ns, out, fds, err);

	if (rc != 0)
		return rc;
	close_fds(fds, 3);
	if (out->type != VM_CTL_SERIAL_OUT && out->type != VM_CTL_EVENT)
		return lb_err_set(err, LB_EPROTO, 0, "%s came unasked",
				  vm_ctl_type_name(out->type));
	return 0;
}

int vm_ctl_open(struct vm_ctl **out, const char *path, uint64_t timeout_ns, struct lb_err *err)
{
	const struct vm_ctl_msg hello = {.type = VM_CTL_HELLO, .version = VM_CTL_VERSION};
	struct vm_ctl *c = calloc(1, sizeof(*c));
	struct vm_ctl_msg answer;
	int rc;

	if (c == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "control connection");
	c->sock = -1;
	c->timeout_ns = timeout_ns;
	rc = connect_to(&c->sock, path, lb_monotonic_ns() + timeout_ns, err);
	if (rc == 0)
		rc = vm_ctl_call(c, &hello, VM_CTL_INFO, &answer, NULL, err);
	if (rc == 0 && answer.info.version != VM_CTL_VERSION)
		rc = lb_err_set(err, LB_EVERSION, 0, "the machine speaks control version %u",
				answer.info.version);
	if (rc != 0) {
		vm_ctl_close(c);
		return rc;
	}
	c->info = answer.info;
	*out = c;
	return 0;
}

void vm_ctl_close(struct vm_ctl *c)
{
	if (c == NULL)
		return;
	if (c->sock >= 0)
		(void)close(c->sock);
	free(c);
}

const struct vm_ctl_info *vm_ctl_info(const struct vm_ctl *c)
{
	return &c->info;
}

int vm_ctl_fd(const struct vm_ctl *c)
{
	return c->sock;
}

bool vm_ctl_usable(const struct vm_ctl *c)
{
	return !c->broken;
}
