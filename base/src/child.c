/*
 * A child process and the pipe its output comes through.
 *
 *   RUNNING --[on_proc_exit]--> EXITED --[lb_child_destroy]--> handles close --[on_closed]--> freed
 *      |                                                          ^
 *      +--[lb_child_destroy: SIGKILL]--> ORPHAN --[on_proc_exit]--+   (nobody is told)
 *
 * Three libuv handles hang on the struct; it is freed when the last of them has closed.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#include "base/assert.h"
#include "base/err.h"
#include "base/loop.h"

enum {
	CHUNK_BYTES = 4096,
	DEFAULT_OUTPUT_BYTES = 64 * 1024,
	/* What a pipe can hold is all that is drained after the exit: somebody the child left
	 * behind may keep writing for ever. */
	DRAIN_BYTES = 1024 * 1024,
};

struct lb_child {
	uv_process_t proc;
	uv_pipe_t pipe;
	uv_timer_t timer;
	unsigned handles; /* open libuv handles */
	bool exited;
	bool orphan;
	bool timed_out;
	struct lb_child_cfg cfg; /* argv and env are not used after the spawn */
	char *output;            /* NUL after output_len */
	size_t output_len;
	size_t output_cap;
	char chunk[CHUNK_BYTES];
};

static void on_closed(uv_handle_t *h)
{
	struct lb_child *c = h->data;

	if (--c->handles != 0)
		return;
	free(c->output);
	free(c);
}

static void close_handle(void *handle)
{
	if (!uv_is_closing(handle))
		uv_close(handle, on_closed);
}

static void close_all(struct lb_child *c)
{
	close_handle(&c->timer);
	close_handle(&c->pipe);
	close_handle(&c->proc);
}

static void keep_output(struct lb_child *c, const char *p, size_t len)
{
	size_t room = c->cfg.max_output_bytes - c->output_len;
	size_t take = len < room ? len : room;

	if (take > c->output_cap - c->output_len) {
		size_t cap = c->output_cap * 2 + take;
		char *bigger = realloc(c->output, cap + 1);

		if (bigger == NULL)
			return; /* as if it were beyond the maximum */
		c->output = bigger;
		c->output_cap = cap;
	}
	memcpy(c->output + c->output_len, p, take);
	c->output_len += take;
	c->output[c->output_len] = 0;
}

static void got_output(struct lb_child *c, const char *p, size_t len)
{
	keep_output(c, p, len);
	if (c->cfg.on_output != NULL)
		c->cfg.on_output(c->cfg.arg, p, len);
}

static void on_alloc(uv_handle_t *h, size_t hint, uv_buf_t *buf)
{
	struct lb_child *c = h->data;

	(void)hint;
	*buf = uv_buf_init(c->chunk, sizeof(c->chunk));
}

static void on_read(uv_stream_t *h, ssize_t n, const uv_buf_t *buf)
{
	struct lb_child *c = h->data;

	if (n > 0)
		got_output(c, buf->base, (size_t)n);
	else if (n < 0)
		(void)uv_read_stop(h);
}

/* All that the child wrote is in the pipe by now; its end of file may never come, when something
 * it started in the background still holds the other end. */
static void drain(struct lb_child *c)
{
	uv_os_fd_t fd;
	size_t total = 0;

	(void)uv_read_stop((uv_stream_t *)&c->pipe);
	if (uv_fileno((uv_handle_t *)&c->pipe, &fd) != 0)
		return;
	while (total < DRAIN_BYTES && !c->orphan) {
		ssize_t n = read(fd, c->chunk, sizeof(c->chunk));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		got_output(c, c->chunk, (size_t)n);
		total += (size_t)n;
	}
}

static void on_proc_exit(uv_process_t *h, int64_t status, int signo)
{
	struct lb_child *c = h->data;

	c->exited = true;
	if (!c->orphan)
		drain(c);
	/* on_output may have called destroy in between. */
	if (c->orphan) {
		close_all(c);
		return;
	}
	(void)uv_timer_stop(&c->timer);
	if (c->cfg.on_exit != NULL)
		c->cfg.on_exit(c->cfg.arg, (int)status, signo, c->timed_out, c->output,
			       c->output_len);
}

static void on_timeout(uv_timer_t *h)
{
	struct lb_child *c = h->data;

	if (c->exited)
		return;
	c->timed_out = true;
	lb_child_kill(c, SIGKILL);
}

/* Both output streams share one pipe, so that their order is kept. Returns 0 or a libuv error. */
static int spawn(struct lb_child *c, uv_loop_t *uv, int out_fd)
{
	uv_stdio_container_t stdio[3] = {
		{.flags = UV_IGNORE},
		{.flags = UV_INHERIT_FD, .data.fd = out_fd},
		{.flags = UV_INHERIT_FD, .data.fd = out_fd},
	};
	uv_process_options_t opt = {
		.exit_cb = on_proc_exit,
		.file = c->cfg.argv[0],
		/* uv_spawn() does not write to them. */
		.args = (char **)c->cfg.argv,
		.env = (char **)c->cfg.env,
		/* A session, and so a process group, of its own: one kill reaches all of it, and a
		 * terminal's Ctrl-C does not. */
		.flags = UV_PROCESS_DETACHED,
		.stdio = stdio,
		.stdio_count = 3,
	};
	int r = uv_spawn(uv, &c->proc, &opt);

	c->handles++; /* uv_spawn() makes the handle even when it fails */
	return r;
}

static int start(struct lb_child *c, uv_loop_t *uv)
{
	int fds[2];
	int r;

	(void)uv_timer_init(uv, &c->timer);
	(void)uv_pipe_init(uv, &c->pipe, 0);
	c->handles = 2;
	c->timer.data = c->pipe.data = c->proc.data = c;
	r = uv_pipe(fds, UV_NONBLOCK_PIPE, 0);
	if (r == 0) {
		r = uv_pipe_open(&c->pipe, fds[0]);
		if (r != 0)
			(void)close(fds[0]);
		if (r == 0)
			r = spawn(c, uv, fds[1]);
		(void)close(fds[1]);
	}
	if (c->handles == 2) { /* never got to uv_spawn() */
		close_handle(&c->timer);
		close_handle(&c->pipe);
	} else if (r != 0) {
		close_all(c);
	}
	return r;
}

int lb_child_spawn(struct lb_child **out, struct lb_loop *l, const struct lb_child_cfg *cfg,
		   struct lb_err *err)
{
	struct lb_child *c;
	int r;

	LB_ASSERT(lb_loop_mine(l));
	if (cfg->argv == NULL || cfg->argv[0] == NULL)
		return lb_err_set(err, LB_EINVAL, 0, "start a program without a name");
	c = calloc(1, sizeof(*c));
	if (c != NULL)
		c->output = calloc(1, 1);
	if (c == NULL || c->output == NULL) {
		free(c);
		return lb_err_set(err, LB_ENOMEM, 0, "start %s", cfg->argv[0]);
	}
	c->cfg = *cfg;
	if (c->cfg.max_output_bytes == 0)
		c->cfg.max_output_bytes = DEFAULT_OUTPUT_BYTES;
	r = start(c, lb_loop_uv(l)); /* a failure frees c once its handles have closed */
	if (r != 0)
		return lb_err_errno(err, -r, "start %s", cfg->argv[0]);
	c->cfg.argv = NULL;
	c->cfg.env = NULL;
	(void)uv_read_start((uv_stream_t *)&c->pipe, on_alloc, on_read);
	if (cfg->timeout_ns != 0) {
		uv_update_time(lb_loop_uv(l));
		(void)uv_timer_start(&c->timer, on_timeout, cfg->timeout_ns / 1000000u + 1, 0);
	}
	*out = c;
	return 0;
}

void lb_child_kill(struct lb_child *c, int signo)
{
	/* Once it is reaped the number may belong to somebody else. */
	if (!c->exited)
		(void)kill(-c->proc.pid, signo);
}

int lb_child_pid(const struct lb_child *c)
{
	return c->proc.pid;
}

void lb_child_destroy(struct lb_child *c)
{
	if (c == NULL)
		return;
	if (c->exited) {
		c->orphan = true;
		close_all(c);
		return;
	}
	c->orphan = true;
	lb_child_kill(c, SIGKILL);
	close_handle(&c->timer);
	close_handle(&c->pipe);
	/* proc stays open until it is reaped: closing it now would leave a zombie. */
}
