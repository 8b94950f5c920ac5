/*
 * Both ends of the journal's control socket, in one file so that they cannot drift apart.
 */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/err.h"
#include "replicator/journal.h"

enum {
	LINE_BYTES = 384,
	HOLD_MAX_MS = 60000,
};

/* A connection with its read-ahead. Used by both ends. */
struct line_io {
	int fd;
	int timeout_ms; /* -1: for ever */
	size_t have;
	char buf[LINE_BYTES];
};

static int io_wait(const struct line_io *io, struct lb_err *err)
{
	struct pollfd p = {.fd = io->fd, .events = POLLIN};
	int n;

	do
		n = poll(&p, 1, io->timeout_ms);
	while (n < 0 && errno == EINTR);
	if (n == 0)
		return lb_err_set(err, LB_ECLOSED, 0, "no answer from the journal in %d ms",
				  io->timeout_ms);
	return n < 0 ? lb_err_errno(err, errno, "poll on the journal's socket") : 0;
}

static int io_recv(const struct line_io *io, void *p, size_t len, size_t *got, struct lb_err *err)
{
	ssize_t n;
	int rc = io_wait(io, err);

	if (rc != 0)
		return rc;
	do
		n = recv(io->fd, p, len, 0);
	while (n < 0 && errno == EINTR);
	if (n <= 0)
		return lb_err_set(err, LB_ECLOSED, n < 0 ? errno : 0,
				  "the journal's socket closed");
	*got = (size_t)n;
	return 0;
}

/* @n numbers, each after a space, and nothing else. */
static bool read_numbers(const char *text, uint64_t *out, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		char *end;

		if (text[0] != ' ' || text[1] < '0' || text[1] > '9')
			return false;
		errno = 0;
		out[i] = strtoull(text + 1, &end, 10);
		if (errno != 0)
			return false;
		text = end;
	}
	return *text == '\0';
}

/* One line without its newline into @out (LINE_BYTES). */
static int io_line(struct line_io *io, char *out, struct lb_err *err)
{
	for (;;) {
		char *end = memchr(io->buf, '\n', io->have);
		size_t got = 0, len;
		int rc;

		if (end != NULL) {
			len = (size_t)(end - io->buf);
			memcpy(out, io->buf, len);
			out[len] = '\0';
			io->have -= len + 1;
			memmove(io->buf, end + 1, io->have);
			return 0;
		}
		if (io->have == sizeof io->buf)
			return lb_err_set(err, LB_EPROTO, 0,
					  "line on the journal's socket exceeds %zu bytes",
					  sizeof io->buf);
		rc = io_recv(io, io->buf + io->have, sizeof io->buf - io->have, &got, err);
		if (rc != 0)
			return rc;
		io->have += got;
	}
}

static int io_bytes(struct line_io *io, uint8_t *out, size_t len, struct lb_err *err)
{
	size_t n = io->have < len ? io->have : len;

	memcpy(out, io->buf, n);
	io->have -= n;
	memmove(io->buf, io->buf + n, io->have);
	while (n < len) {
		size_t got = 0;
		int rc = io_recv(io, out + n, len - n, &got, err);

		if (rc != 0)
			return rc;
		n += got;
	}
	return 0;
}

static int io_send(const struct line_io *io, const void *p, size_t len, struct lb_err *err)
{
	const char *b = p;

	while (len > 0) {
		ssize_t n = send(io->fd, b, len, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return lb_err_set(err, LB_ECLOSED, errno, "the journal's socket closed");
		b += n;
		len -= (size_t)n;
	}
	return 0;
}

/* ---- the plugin's end ---- */

static int reply_bitmap(struct rep_journal *j, const struct line_io *io)
{
	uint64_t bytes = rep_journal_bitmap_bytes(j);
	uint8_t *map = malloc(bytes);
	struct lb_err err = {0};
	char line[LINE_BYTES];
	int n, rc;

	if (map == NULL)
		rc = lb_err_set(&err, LB_ENOMEM, 0, "bitmap of %" PRIu64 " bytes", bytes);
	else
		rc = rep_journal_cut_bitmap(j, map, &err);
	if (rc != 0)
		n = snprintf(line, sizeof line, "err %s %s\n", lb_err_name(rc), err.msg);
	else
		n = snprintf(line, sizeof line, "ok %" PRIu64 "\n", bytes);
	if (io_send(io, line, (size_t)n, NULL) == 0 && rc == 0)
		(void)io_send(io, map, bytes, NULL);
	free(map);
	return 0;
}

static int do_status(struct rep_journal *j, char *text, size_t len)
{
	struct rep_journal_status st;

	rep_journal_status(j, &st);
	(void)snprintf(text, len, " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %d %d %d %d %d",
		       st.size_bytes, st.dirty_blocks, st.side_bytes, st.writes, st.held,
		       st.cut_open, st.cut_broken, st.lost, -st.lost_code);
	return 0;
}

/* Everything but bitmap. @text: what follows "ok". */
static int do_request(struct rep_journal *j, const char *line, char *text, size_t len,
		      struct lb_err *err)
{
	uint64_t ms, dirty = 0;
	int rc;

	text[0] = '\0';
	if (strncmp(line, "hold", 4) == 0 && read_numbers(line + 4, &ms, 1) && ms <= HOLD_MAX_MS)
		return rep_journal_hold(j, ms * 1000000u, err);
	if (strcmp(line, "mark") == 0) {
		rc = rep_journal_mark(j, &dirty, err);
		if (rc == 0)
			(void)snprintf(text, len, " %" PRIu64, dirty);
		return rc;
	}
	if (strcmp(line, "status") == 0)
		return do_status(j, text, len);
	if (strcmp(line, "resume") == 0)
		rep_journal_resume(j);
	else if (strcmp(line, "release kept") == 0 || strcmp(line, "release abandoned") == 0)
		rep_journal_release(j, line[8] == 'k');
	else
		return lb_err_set(err, LB_EPROTO, 0, "unknown request \"%.40s\"", line);
	return 0;
}

void rep_jctl_serve(struct rep_journal *j, int fd)
{
	struct line_io io = {.fd = fd, .timeout_ms = -1};
	char line[LINE_BYTES], text[LINE_BYTES / 2];
	int rc = 0;

	while (rc == 0 && io_line(&io, line, NULL) == 0) {
		struct lb_err err = {0};
		char reply[LINE_BYTES];
		int n;

		if (strcmp(line, "bitmap") == 0) {
			rc = reply_bitmap(j, &io);
			continue;
		}
		rc = do_request(j, line, text, sizeof text, &err);
		if (rc == 0)
			n = snprintf(reply, sizeof reply, "ok%s\n", text);
		else
			n = snprintf(reply, sizeof reply, "err %s %s\n", lb_err_name(rc), err.msg);
		rc = io_send(&io, reply, (size_t)n, NULL);
	}
	/* The agent is gone: nobody would resume or release. */
	rep_journal_resume(j);
	rep_journal_release(j, false);
	(void)close(fd);
}

/* ---- the agent's end ---- */

struct rep_jctl {
	struct line_io io;
};

int rep_jctl_connect(struct rep_jctl **out, const char *path, uint64_t timeout_ns,
		     struct lb_err *err)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	struct rep_jctl *c;

	if (strlen(path) >= sizeof a.sun_path)
		return lb_err_set(err, LB_EINPUT, 0, "socket path longer than %zu bytes: %s",
				  sizeof a.sun_path - 1, path);
	memcpy(a.sun_path, path, strlen(path) + 1);
	c = calloc(1, sizeof *c);
	if (c == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "journal's control");
	c->io.timeout_ms = (int)(timeout_ns / 1000000u);
	c->io.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (c->io.fd < 0 || connect(c->io.fd, (struct sockaddr *)&a, sizeof a) != 0) {
		int rc = lb_err_set(err, LB_ECLOSED, errno, "connect %s", path);

		rep_jctl_close(c);
		return rc;
	}
	*out = c;
	return 0;
}

void rep_jctl_close(struct rep_jctl *c)
{
	if (c == NULL)
		return;
	if (c->io.fd >= 0)
		(void)close(c->io.fd);
	free(c);
}

/* "err LB_NAME message" as it was raised; a name we do not know is a broken protocol. */
static int raise_answer(const char *line, struct lb_err *err)
{
#define ANSWER_CODE(name, cls, text) {#name, name},
	static const struct {
		const char *name;
		enum lb_code code;
	} codes[] = {LB_CODES(ANSWER_CODE)};
#undef ANSWER_CODE
	char name[24] = "";
	int at = 0;

	if (sscanf(line, "err %23s %n", name, &at) == 1 && at > 0) {
		for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++)
			if (strcmp(codes[i].name, name) == 0)
				return lb_err_set(err, codes[i].code, 0, "%s", line + at);
	}
	return lb_err_set(err, LB_EPROTO, 0, "the journal answered \"%.60s\"", line);
}

/* @answer (LINE_BYTES): what followed "ok". */
static int ask(struct rep_jctl *c, const char *request, char *answer, struct lb_err *err)
{
	char line[LINE_BYTES];
	int rc = io_send(&c->io, request, strlen(request), err);

	if (rc == 0)
		rc = io_line(&c->io, line, err);
	if (rc != 0)
		return rc;
	if (strncmp(line, "ok", 2) != 0)
		return raise_answer(line, err);
	memcpy(answer, line + 2, strlen(line + 2) + 1);
	return 0;
}

int rep_jctl_hold(struct rep_jctl *c, uint64_t limit_ns, struct lb_err *err)
{
	char request[LINE_BYTES], answer[LINE_BYTES] = "";

	(void)snprintf(request, sizeof request, "hold %" PRIu64 "\n", limit_ns / 1000000u);
	return ask(c, request, answer, err);
}

int rep_jctl_mark(struct rep_jctl *c, uint64_t *dirty_blocks, struct lb_err *err)
{
	char answer[LINE_BYTES] = "";
	int rc = ask(c, "mark\n", answer, err);

	if (rc == 0 && !read_numbers(answer, dirty_blocks, 1))
		rc = lb_err_set(err, LB_EPROTO, 0, "the journal answered \"ok%.60s\"", answer);
	return rc;
}

int rep_jctl_resume(struct rep_jctl *c, struct lb_err *err)
{
	char answer[LINE_BYTES] = "";

	return ask(c, "resume\n", answer, err);
}

int rep_jctl_release(struct rep_jctl *c, bool kept, struct lb_err *err)
{
	char answer[LINE_BYTES] = "";

	return ask(c, kept ? "release kept\n" : "release abandoned\n", answer, err);
}

int rep_jctl_bitmap(struct rep_jctl *c, uint8_t **out, uint64_t *bytes, uint64_t max_bytes,
		    struct lb_err *err)
{
	char answer[LINE_BYTES] = "";
	uint64_t n;
	uint8_t *map;
	int rc = ask(c, "bitmap\n", answer, err);

	if (rc != 0)
		return rc;
	if (!read_numbers(answer, &n, 1) || n == 0 || n > max_bytes)
		return lb_err_set(err, LB_EPROTO, 0, "the journal offers a bitmap of \"%.30s\"",
				  answer);
	map = malloc(n);
	if (map == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "bitmap of %" PRIu64 " bytes", n);
	rc = io_bytes(&c->io, map, n, err);
	if (rc != 0) {
		free(map);
		return rc;
	}
	*out = map;
	*bytes = n;
	return 0;
}

int rep_jctl_status(struct rep_jctl *c, struct rep_journal_status *out, struct lb_err *err)
{
	uint64_t n[9];
	char answer[LINE_BYTES] = "";
	int rc = ask(c, "status\n", answer, err);

	if (rc != 0)
		return rc;
	if (!read_numbers(answer, n, 9) || n[8] >= LB_CODE_COUNT)
		return lb_err_set(err, LB_EPROTO, 0, "the journal's status is \"%.60s\"", answer);
	*out = (struct rep_journal_status){
		.size_bytes = n[0],
		.dirty_blocks = n[1],
		.side_bytes = n[2],
		.writes = n[3],
		.held = n[4] != 0,
		.cut_open = n[5] != 0,
		.cut_broken = n[6] != 0,
		.lost = n[7] != 0,
		.lost_code = -(int)n[8],
	};
	return 0;
}
