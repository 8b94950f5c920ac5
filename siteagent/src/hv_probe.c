/*
 * Probes: is the machine really up? Each is one cheap attempt, repeated until it passes or its time
 * is over. What a guest says is shown escaped and is never more than a line.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"
#include "base/thread.h"
#include "hv_int.h"
#include "proc_int.h"

#define AGAIN_NS   (200ull * 1000000u)
#define ATTEMPT_NS (2000ull * 1000000u)
#define NS_PER_MS  1000000u
#define LINE_BYTES 1024u

/* One probe under way. */
struct probing {
	struct sa_hv_machine *m;
	const struct sa_probe *p;
	off_t scanned;         /* serial: bytes of the log that are done */
	char line[LINE_BYTES]; /* what was seen last */
};

/* ---- serial ---- */

static bool line_matches(struct probing *pr, const char *line, size_t len)
{
	while (len > 0 && (line[len - 1] == '\r' || line[len - 1] == ' '))
		len--; /* a terminal's line end, not text */
	if (len == 0)
		return false;
	if (len >= sizeof(pr->line))
		len = sizeof(pr->line) - 1;
	memcpy(pr->line, line, len);
	pr->line[len] = '\0';
	return strstr(pr->line, pr->p->text) != NULL;
}

static void no_nuls(char *p, size_t len) /* a guest may print them */
{
	for (size_t i = 0; i < len; i++)
		if (p[i] == '\0')
			p[i] = ' ';
}

/* Whole lines from where the last attempt ended; an unfinished one is looked at, and again when it
 * grows. */
static bool scan_log(struct probing *pr, int fd)
{
	char buf[16384];
	struct stat st;
	ssize_t n;

	/* who keeps it short (lifeboat-vm, virtlogd) begins it anew */
	if (fstat(fd, &st) == 0 && st.st_size < pr->scanned)
		pr->scanned = 0;
	while ((n = pread(fd, buf, sizeof(buf), pr->scanned)) > 0) {
		size_t at = 0, len = (size_t)n;

		no_nuls(buf, len);
		for (char *nl; (nl = memchr(buf + at, '\n', len - at)) != NULL;) {
			size_t line = (size_t)(nl - (buf + at));

			if (line_matches(pr, buf + at, line))
				return true;
			at += line + 1;
		}
		if (at == 0 && len < sizeof(buf))
			return line_matches(pr, buf, len);
		pr->scanned += (off_t)(at > 0 ? at : len); /* a line that fills the buffer is cut */
	}
	return false;
}

static bool try_serial(struct probing *pr)
{
	char path[PATH_MAX];
	bool seen = false;
	int fd;

	if (sa_hv_path(pr->m, "serial.log", path, NULL) != 0)
		return false;
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd >= 0) {
		seen = scan_log(pr, fd);
		(void)close(fd);
	}
	return seen;
}

/* ---- sockets ---- */

struct wanted {
	int family, fd;
};

static int make_socket(void *arg, struct lb_err *err)
{
	struct wanted *w = arg;

	w->fd = socket(w->family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	return w->fd < 0 ? lb_err_errno(err, errno, "make a socket") : 0;
}

/* A socket belongs to the namespace its creating thread is in; so only that moment is spent there.
 */
static int socket_in(const char *netns, int family)
{
	struct wanted w = {.family = family, .fd = -1};

	if (netns[0] == '\0')
		(void)make_socket(&w, NULL);
	else
		(void)sa_in_netns(netns, make_socket, &w, NULL);
	return w.fd;
}

static bool wait_for(int fd, short what, uint64_t until)
{
	struct pollfd p = {.fd = fd, .events = what};
	uint64_t now = lb_monotonic_ns();

	return now < until && poll(&p, 1, (int)((until - now) / NS_PER_MS) + 1) == 1;
}

static bool connect_to(int fd, const struct sockaddr *a, socklen_t len)
{
	int e = 0;
	socklen_t n = sizeof(e);

	if (connect(fd, a, len) == 0)
		return true;
	return errno == EINPROGRESS && wait_for(fd, POLLOUT, lb_monotonic_ns() + ATTEMPT_NS) &&
	       getsockopt(fd, SOL_SOCKET, SO_ERROR, &e, &n) == 0 && e == 0;
}

/* The first line that comes, or what came of it in time; false when nothing did. The time is that
 * of the whole line: a guest may drip it. */
static bool read_line(struct probing *pr, int fd)
{
	uint64_t until = lb_monotonic_ns() + ATTEMPT_NS;
	size_t n = 0;

	while (n < sizeof(pr->line) - 1 && wait_for(fd, POLLIN, until)) {
		ssize_t got = recv(fd, pr->line + n, sizeof(pr->line) - 1 - n, 0);

		if (got <= 0)
			break;
		n += (size_t)got;
		if (memchr(pr->line, '\n', n) != NULL)
			break;
	}
	pr->line[n] = '\0';
	pr->line[strcspn(pr->line, "\r\n")] = '\0';
	return pr->line[0] != '\0';
}

static bool try_tcp(struct probing *pr)
{
	struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(pr->p->port)};
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(pr->p->port)};
	bool is4 = inet_pton(AF_INET, pr->p->host, &v4.sin_addr) == 1;
	const struct sockaddr *a =
		is4 ? (const struct sockaddr *)&v4 : (const struct sockaddr *)&v6;
	bool ok = false;
	int fd;

	(void)inet_pton(AF_INET6, pr->p->host, &v6.sin6_addr); /* checked before */
	fd = socket_in(pr->m->netns, is4 ? AF_INET : AF_INET6);
	if (fd < 0)
		return false;
	if (connect_to(fd, a, is4 ? sizeof(v4) : sizeof(v6))) {
		if (pr->p->text == NULL) {
			(void)snprintf(pr->line, sizeof(pr->line), "%s port %u answers",
				       pr->p->host, pr->p->port);
			ok = true;
		} else {
			ok = read_line(pr, fd) && strstr(pr->line, pr->p->text) != NULL;
		}
	}
	(void)close(fd);
	return ok;
}

static bool try_heartbeat(struct probing *pr)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	char path[PATH_MAX];
	bool ok;
	int fd;

	if (sa_hv_path(pr->m, "heartbeat.sock", path, NULL) != 0 ||
	    strlen(path) >= sizeof(a.sun_path))
		return false;
	memcpy(a.sun_path, path, strlen(path) + 1);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return false;
	ok = connect(fd, (const struct sockaddr *)&a, sizeof(a)) == 0 && read_line(pr, fd);
	(void)close(fd);
	return ok;
}

/* ---- the loop ---- */

static int check_probe(const struct sa_hv_machine *m, const struct sa_probe *p, struct lb_err *err)
{
	unsigned char ip[16];

	if (p->kind == SA_PROBE_SERIAL && (p->text == NULL || p->text[0] == '\0'))
		return lb_err_set(err, LB_EINPUT, 0, "a serial probe of %s without text", m->name);
	if (p->kind != SA_PROBE_TCP)
		return 0;
	if (p->host == NULL)
		return lb_err_set(err, LB_EINPUT, 0,
				  "a TCP probe of %s, and the machine has no address", m->name);
	if (inet_pton(AF_INET, p->host, ip) != 1 && inet_pton(AF_INET6, p->host, ip) != 1)
		return lb_err_set(err, LB_EINPUT, 0, "\"%.60s\" is no IP address", p->host);
	return 0;
}

static bool attempt(struct probing *pr)
{
	switch (pr->p->kind) {
	case SA_PROBE_SERIAL:
		return try_serial(pr);
	case SA_PROBE_TCP:
		return try_tcp(pr);
	case SA_PROBE_HEARTBEAT:
		return try_heartbeat(pr);
	}
	return false;
}

static const char *probe_name(enum sa_probe_kind k)
{
	switch (k) {
	case SA_PROBE_SERIAL:
		return "serial";
	case SA_PROBE_TCP:
		return "TCP";
	case SA_PROBE_HEARTBEAT:
		return "heartbeat";
	}
	return "?";
}

static bool is_off(struct sa_hv_machine *m, bool *known)
{
	enum sa_hv_state st = SA_HV_RUNNING;

	*known = sa_hv_state(m, &st, NULL) == 0;
	return *known && (st == SA_HV_OFF || st == SA_HV_GONE);
}

/* A console keeps what a machine said before it went off: the machine must be there too. */
static bool passes(struct probing *pr, bool *off)
{
	bool seen = attempt(pr), known = false;

	*off = is_off(pr->m, &known);
	return seen && !*off && (known || pr->p->kind != SA_PROBE_SERIAL);
}

int sa_hv_probe(struct sa_hv_machine *m, const struct sa_probe *p, char *seen, size_t seen_len,
		const bool *cancel, struct lb_err *err)
{
	struct probing pr = {.m = m, .p = p};
	uint64_t until = lb_monotonic_ns() + p->timeout_ns;
	char last[160];
	bool off = false;
	int rc = check_probe(m, p, err);

	if (rc != 0)
		return rc;
	while (!passes(&pr, &off)) {
		(void)lb_text_escape(last, sizeof(last), pr.line);
		if (off)
			return lb_err_set(err, LB_ECLOSED, 0,
					  "machine %s went off, last seen: %.100s", m->name,
					  last[0] != '\0' ? last : "nothing");
		if (cancel != NULL && __atomic_load_n(cancel, __ATOMIC_RELAXED))
			return lb_err_set(err, LB_ECANCELED, 0, "probe of %s cancelled", m->name);
		if (lb_monotonic_ns() >= until)
			return lb_err_set(err, LB_ETIMEDOUT, 0,
					  "%s probe of %s did not pass in time, last seen: %.100s",
					  probe_name(p->kind), m->name,
					  last[0] != '\0' ? last : "nothing");
		sa_nap(AGAIN_NS);
	}
	if (seen != NULL && seen_len > 0)
		(void)lb_text_escape(seen, seen_len, pr.line);
	return 0;
}
