/*
 * A client: FREE ──accept──► OPEN ──HELLO──► greeted ──closed, or broke the protocol──► LEAVING
 * ──its job is done, the worker heard that it is gone──► FREE
 */
#include "serve.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/env.h"
#include "base/err.h"
#include "base/log.h"
#include "base/thread.h"
#include "hub.h"
#include "machine.h"
#include "vmcore/vm.h"
#include "work.h"

#define INPUT_AGAIN_MS 5 /* the guest's UART took less than was typed: try again so soon */
#define SERIAL_CHUNK   (16u << 10)
#define LAST_WORDS_MS  1000
#define PORT_CHUNK     4096u
#define LOG_PERIOD_NS  UINT64_C(60000000000)
#define LOG_BURST      60u /* of the guest's events are logged in a period */

enum client_state {
	CLIENT_FREE,
	CLIENT_OPEN,
	CLIENT_LEAVING
};

struct client {
	enum client_state state;
	int sock;
	bool greeted, attached, listening;
	bool busy;         /* .job is with the worker */
	bool answering;    /* .frame waits for room in the socket; its descriptors are the job's */
	bool gone_pending; /* the worker is to hear that it left */
	uint64_t serial_at, event_at;
	size_t len;
	uint8_t frame[VM_CTL_FRAME_MAX];
	size_t typed, typed_at; /* serial input the guest did not take yet */
	uint8_t input[VM_CTL_DATA_MAX];
	struct vm_job job;
};

struct serve {
	const struct vm_serve_cfg *cfg;
	struct vm_work *work;
	struct client client[VM_SERVE_CLIENTS];
	uint64_t log_at, event_at, port_at;
	uint64_t log_bytes;
	int port_sock; /* who reads the agent port, -1: nobody */
	char last[128];
	bool log_failed;
	uint64_t period_ns;        /* when the period began */
	unsigned logged, left_out; /* in it */
	bool told_to_end;          /* by a signal */
	bool powered_off;          /* the event was heard, which comes after the state */
	uint8_t in[VM_CTL_FRAME_MAX];
};

/* ---- the serial log ---- */

static bool write_all(int fd, const uint8_t *p, size_t len)
{
	while (len > 0) {
		/* banned-ok: a descriptor that was handed in, no file of ours to name */
		ssize_t n = write(fd, p, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		p += n;
		len -= (size_t)n;
	}
	return true;
}

/* A guest must not fill the disk: the newest half stays. */
static bool shorten_log(struct serve *s)
{
	const size_t keep = VM_SERVE_LOG_BYTES / 2;
	uint8_t *tail = malloc(keep);
	bool ok = tail != NULL &&
		  pread(s->cfg->log_fd, tail, keep, (off_t)(s->log_bytes - keep)) == (ssize_t)keep;

	ok = ok && ftruncate(s->cfg->log_fd, 0) == 0 && lseek(s->cfg->log_fd, 0, SEEK_SET) == 0 &&
	     write_all(s->cfg->log_fd, tail, keep);
	free(tail);
	s->log_bytes = keep;
	return ok;
}

static void log_serial(struct serve *s)
{
	uint8_t chunk[SERIAL_CHUNK];
	uint64_t lost;
	size_t n;

	while (s->cfg->log_fd >= 0 && !s->log_failed &&
	       (n = vm_hub_read(s->cfg->hub, VM_HUB_SERIAL, &s->log_at, chunk, sizeof(chunk),
				&lost)) > 0) {
		bool ok = write_all(s->cfg->log_fd, chunk, n);

		s->log_bytes += n;
		if (ok && s->log_bytes > VM_SERVE_LOG_BYTES)
			ok = shorten_log(s);
		s->log_failed = !ok; /* a full disk costs the log, not the machine */
		if (!ok)
			lb_log(LB_LOG_ERROR, "vm", "serial_log_failed", "errno=%d", errno, NULL);
	}
}

/* ---- events ---- */

static const char *event_name(enum vm_event_type t)
{
	switch (t) {
	case VM_EVENT_RESET:
		return "reset";
	case VM_EVENT_POWEROFF:
		return "poweroff";
	case VM_EVENT_FAULT:
		return "fault";
	case VM_EVENT_PAGER_LOST:
		return "pager_lost";
	case VM_EVENT_DISK:
		return "disk_error";
	case VM_EVENT_SERIAL:
	case VM_EVENT_DEBUG:
	case VM_EVENT_PORT:
		break;
	}
	return "output";
}

/* A guest can reset itself hundreds of times a second, for years: it must not fill the disk. */
static bool may_log(struct serve *s)
{
	uint64_t now = lb_monotonic_ns();

	if (now - s->period_ns >= LOG_PERIOD_NS) {
		if (s->left_out > 0)
			lb_log(LB_LOG_WARN, "vm", "guest_events_left_out", "count=%u", s->left_out,
			       NULL);
		s->period_ns = now;
		s->logged = s->left_out = 0;
	}
	if (s->logged >= LOG_BURST)
		s->left_out++;
	else
		s->logged++;
	return s->left_out == 0;
}

static void log_event(const struct vm_ctl_event *e)
{
	char rip[24];

	(void)snprintf(rip, sizeof(rip), "0x%llx", (unsigned long long)e->rip);
	lb_log(e->type == VM_EVENT_RESET || e->type == VM_EVENT_POWEROFF ? LB_LOG_INFO
									 : LB_LOG_ERROR,
	       "vm", "guest", "event=%s", event_name(e->type), "code=%d", (int)e->code, "rip=%s",
	       rip, "text=%s", e->text, NULL);
}

/* What ends it is always logged. */
static bool is_end(const struct vm_ctl_event *e)
{
	return e->type == VM_EVENT_POWEROFF || e->type == VM_EVENT_FAULT ||
	       e->type == VM_EVENT_PAGER_LOST;
}

static void note_events(struct serve *s)
{
	struct vm_ctl_event e;

	while (vm_hub_event(s->cfg->hub, &s->event_at, &e)) {
		s->powered_off = s->powered_off || e.type == VM_EVENT_POWEROFF;
		(void)snprintf(s->last, sizeof(s->last), "%s%s%.100s", event_name(e.type),
			       e.text[0] != '\0' ? ": " : "", e.text);
		if (is_end(&e) || may_log(s))
			log_event(&e);
	}
}

/* ---- answers ---- */

static void leave(struct client *c, const char *why)
{
	if (c->state != CLIENT_OPEN)
		return;
	if (why != NULL)
		lb_log(LB_LOG_WARN, "vm", "client_dropped", "why=%s", why, NULL);
	(void)close(c->sock);
	c->sock = -1;
	c->state = CLIENT_LEAVING;
	c->gone_pending = true;
	c->answering = false;
	c->attached = c->listening = false;
	c->typed = 0;
}

/* False: the socket is full, or the client is gone. */
static bool try_send(struct client *c, const struct vm_ctl_msg *m, const int *fds)
{
	struct lb_err err = {0};
	int rc = vm_ctl_encode(c->frame, &c->len, m, &err);

	if (rc == 0)
		rc = vm_ctl_send(c->sock, c->frame, c->len, fds, m->fds, &err);
	if (rc != 0 && rc != LB_EAGAIN)
		leave(c, rc == LB_ECLOSED ? NULL : err.msg);
	return rc == 0;
}

static void finish_answer(struct client *c)
{
	vm_job_close_fds(&c->job);
	c->answering = false;
}

static void push_answer(struct client *c)
{
	struct lb_err err = {0};
	int rc;

	if (c->state != CLIENT_OPEN || !c->answering)
		return;
	rc = vm_ctl_encode(c->frame, &c->len, &c->job.answer, &err);
	if (rc == 0)
		rc = vm_ctl_send(c->sock, c->frame, c->len, c->job.fds, c->job.answer.fds, &err);
	if (rc == LB_EAGAIN)
		return;
	finish_answer(c);
	if (rc != 0)
		leave(c, rc == LB_ECLOSED ? NULL : err.msg);
}

static void answer(struct client *c, const struct vm_ctl_msg *m)
{
	c->job.answer = *m;
	for (int i = 0; i < 3; i++)
		c->job.fds[i] = -1;
	c->answering = true;
	push_answer(c);
}

static void answer_info(struct serve *s, struct client *c, uint32_t tag)
{
	const struct vm_machine *m = s->cfg->m;
	struct vm_ctl_msg a = {.type = VM_CTL_INFO, .tag = tag};
	struct vm_ctl_info *i = &a.info;

	i->version = VM_CTL_VERSION;
	(void)snprintf(i->name, sizeof(i->name), "%s", m->l.name);
	i->uuid = m->l.uuid;
	i->pid = (uint32_t)getpid();
	i->state = vm_state(m->vm);
	i->jail = m->jail;
	i->ram_bytes = m->l.ram_bytes;
	i->vcpus = m->l.vcpus;
	i->disks = m->l.disks;
	i->nics = m->l.nics;
	i->started_boot_ns = m->started_boot_ns;
	i->restored = m->l.boot == VM_LAUNCH_RESTORE;
	(void)snprintf(i->last, sizeof(i->last), "%s", s->last);
	answer(c, &a);
}

/* ---- requests ---- */

static void take_input(struct serve *s, struct client *c)
{
	if (c->typed == 0)
		return;
	c->typed_at +=
		vm_serial_input(s->cfg->m->vm, c->input + c->typed_at, c->typed - c->typed_at);
	if (c->typed_at >= c->typed)
		c->typed = c->typed_at = 0;
}

static void attach(struct serve *s, struct client *c, const struct vm_ctl_msg *m)
{
	uint64_t end = vm_hub_end(s->cfg->hub, VM_HUB_SERIAL);
	uint64_t kept = end < VM_CTL_REPLAY_BYTES ? end : VM_CTL_REPLAY_BYTES;

	c->attached = true;
	c->serial_at = end - (m->n < kept ? m->n : kept);
	answer(c, &(struct vm_ctl_msg){.type = VM_CTL_OK, .tag = m->tag});
}

static void request(struct serve *s, struct client *c, const struct vm_ctl_msg *m)
{
	if (!c->greeted && m->type != VM_CTL_HELLO) {
		leave(c, "it did not say hello");
		return;
	}
	switch ((int)m->type) {
	case VM_CTL_HELLO:
		c->greeted = true;
		answer_info(s, c, m->tag);
		break;
	case VM_CTL_STATE:
		answer_info(s, c, m->tag);
		break;
	case VM_CTL_LISTEN:
		c->listening = true;
		c->event_at = vm_hub_events(s->cfg->hub);
		answer(c, &(struct vm_ctl_msg){.type = VM_CTL_OK, .tag = m->tag});
		break;
	case VM_CTL_SERIAL_ATTACH:
		attach(s, c, m);
		break;
	case VM_CTL_SERIAL_IN:
		memcpy(c->input, m->bytes, m->len);
		c->typed = m->len;
		c->typed_at = 0;
		take_input(s, c);
		break;
	default:
		c->job.client = (unsigned)(c - s->client);
		c->job.gone = false;
		c->job.request = *m;
		c->job.request.bytes = NULL; /* no request that gets there has any */
		c->busy = true;
		vm_work_submit(s->work, &c->job);
		break;
	}
}

static void receive(struct serve *s, struct client *c)
{
	struct lb_err err = {0};
	struct vm_ctl_msg m;
	size_t len = sizeof(s->in), fds = 0;
	int none[1];
	int rc = vm_ctl_recv(c->sock, s->in, &len, none, &fds, &err);

	if (rc == LB_EAGAIN)
		return;
	if (rc == 0)
		rc = vm_ctl_decode(&m, s->in, len, &err);
	if (rc == 0 && !vm_ctl_is_request(m.type))
		rc = lb_err_set(&err, LB_EPROTO, 0, "%s is no request", vm_ctl_type_name(m.type));
	if (rc == 0 && m.tag == 0 && m.type != VM_CTL_SERIAL_IN)
		rc = lb_err_set(&err, LB_EPROTO, 0, "request without a tag");
	if (rc == LB_EVERSION && c->greeted) {
		/* a newer client's request: told so, it may do without */
		answer(c, &(struct vm_ctl_msg){.type = VM_CTL_ERROR, .tag = m.tag, .err = err});
		return;
	}
	if (rc != 0)
		leave(c, rc == LB_ECLOSED ? NULL : err.msg);
	else
		request(s, c, &m);
}

/* ---- clients ---- */

static void accept_client(struct serve *s)
{
	int sock = accept4(s->cfg->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (sock < 0)
		return;
	for (unsigned i = 0; i < VM_SERVE_CLIENTS; i++) {
		struct client *c = &s->client[i];

		if (c->state != CLIENT_FREE)
			continue;
		c->state = CLIENT_OPEN;
		c->sock = sock;
		c->greeted = c->attached = c->listening = false;
		c->busy = c->answering = c->gone_pending = false;
		c->typed = c->typed_at = 0;
		return;
	}
	(void)close(sock); /* all places are taken */
}

static void send_serial(struct serve *s, struct client *c)
{
	uint8_t chunk[SERIAL_CHUNK];

	while (c->state == CLIENT_OPEN && c->attached && !c->answering) {
		struct vm_ctl_msg m = {.type = VM_CTL_SERIAL_OUT, .bytes = chunk};
		uint64_t at = c->serial_at;

		m.len = (uint32_t)vm_hub_read(s->cfg->hub, VM_HUB_SERIAL, &at, chunk, sizeof(chunk),
					      &m.n);
		if (m.len == 0 || !try_send(c, &m, NULL))
			return;
		c->serial_at = at;
	}
}

static void send_events(struct serve *s, struct client *c)
{
	while (c->state == CLIENT_OPEN && c->listening && !c->answering) {
		struct vm_ctl_msg m = {.type = VM_CTL_EVENT};
		uint64_t at = c->event_at;

		if (!vm_hub_event(s->cfg->hub, &at, &m.event) || !try_send(c, &m, NULL))
			return;
		c->event_at = at;
	}
}

/* The worker hears of every client that left, in its queue's order, before the place is used
 * again. */
static void settle(struct serve *s, struct client *c)
{
	if (c->state != CLIENT_LEAVING || c->busy)
		return;
	vm_job_close_fds(&c->job);
	if (!c->gone_pending) {
		c->state = CLIENT_FREE;
		return;
	}
	c->gone_pending = false;
	c->job.client = (unsigned)(c - s->client);
	c->job.gone = true;
	c->busy = true;
	vm_work_submit(s->work, &c->job);
}

static void collect(struct serve *s)
{
	struct vm_job *j;

	while ((j = vm_work_finished(s->work)) != NULL) {
		struct client *c = &s->client[j->client];

		c->busy = false;
		if (c->state == CLIENT_OPEN) {
			c->answering = true;
			push_answer(c);
		}
	}
}

/* ---- the agent port ---- */

static void port_output(struct serve *s)
{
	uint8_t chunk[PORT_CHUNK];
	uint64_t at = s->port_at, lost;
	size_t n;

	while (s->port_sock >= 0 &&
	       (n = vm_hub_read(s->cfg->hub, VM_HUB_PORT, &at, chunk, sizeof(chunk), &lost)) > 0) {
		ssize_t sent = send(s->port_sock, chunk, n, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (sent < 0 && errno == EAGAIN)
			return;
		if (sent < 0) {
			(void)close(s->port_sock);
			s->port_sock = -1;
			return;
		}
		s->port_at = at - (n - (size_t)sent);
		at = s->port_at;
	}
}

static void port_input(struct serve *s)
{
	uint8_t chunk[PORT_CHUNK];
	ssize_t n = recv(s->port_sock, chunk, sizeof(chunk), MSG_DONTWAIT);

	if (n > 0)
		(void)vm_port_input(s->cfg->m->vm, chunk, (size_t)n);
	else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
		(void)close(s->port_sock);
		s->port_sock = -1;
	}
}

static void port_accept(struct serve *s)
{
	int sock = accept4(s->cfg->heartbeat_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (sock < 0)
		return;
	if (s->port_sock >= 0)
		(void)close(s->port_sock); /* the newest one wins: an old probe may hang */
	s->port_sock = sock;
	s->port_at = vm_hub_end(s->cfg->hub, VM_HUB_PORT); /* beats from now on count */
}

/* ---- the loop ---- */

enum {
	POLL_KICK,
	POLL_SIGNAL,
	POLL_LISTEN,
	POLL_BEAT,
	POLL_PORT,
	POLL_CLIENT,
	POLL_MAX = POLL_CLIENT + VM_SERVE_CLIENTS
};

/* Returns how long to wait at most, ms; -1: for ever. */
static int watch(struct serve *s, struct pollfd *p)
{
	int ms = -1;

	p[POLL_KICK] = (struct pollfd){.fd = s->cfg->kick_fd, .events = POLLIN};
	p[POLL_SIGNAL] =
		(struct pollfd){.fd = s->told_to_end ? -1 : s->cfg->signal_fd, .events = POLLIN};
	p[POLL_LISTEN] = (struct pollfd){.fd = s->cfg->listen_fd, .events = POLLIN};
	p[POLL_BEAT] = (struct pollfd){.fd = s->cfg->heartbeat_fd, .events = POLLIN};
	p[POLL_PORT] = (struct pollfd){.fd = s->port_sock, .events = POLLIN};
	for (unsigned i = 0; i < VM_SERVE_CLIENTS; i++) {
		struct client *c = &s->client[i];
		bool behind =
			c->state == CLIENT_OPEN &&
			((c->attached && c->serial_at < vm_hub_end(s->cfg->hub, VM_HUB_SERIAL)) ||
			 (c->listening && c->event_at < vm_hub_events(s->cfg->hub)));

		p[POLL_CLIENT + i] = (struct pollfd){.fd = c->state == CLIENT_OPEN ? c->sock : -1};
		if (!c->busy && !c->answering && c->typed == 0)
			p[POLL_CLIENT + i].events = POLLIN;
		if (c->answering || behind)
			p[POLL_CLIENT + i].events |= POLLOUT;
		if (c->typed > 0)
			ms = INPUT_AGAIN_MS;
	}
	return ms;
}

static void serve_client(struct serve *s, struct client *c, short got)
{
	if (c->state == CLIENT_OPEN && (got & (POLLHUP | POLLERR)) != 0 && (got & POLLIN) == 0)
		leave(c, NULL);
	push_answer(c);
	if (c->state == CLIENT_OPEN && (got & POLLIN) != 0)
		receive(s, c);
	take_input(s, c);
	send_serial(s, c);
	send_events(s, c);
	settle(s, c);
}

static void turn(struct serve *s, const struct pollfd *p)
{
	uint64_t count;

	if (p[POLL_KICK].revents != 0)
		(void)!read(s->cfg->kick_fd, &count, sizeof(count)); /* banned-ok: an eventfd */
	if (p[POLL_SIGNAL].revents != 0)
		s->told_to_end = true;
	note_events(s);
	log_serial(s);
	collect(s);
	for (unsigned i = 0; i < VM_SERVE_CLIENTS; i++)
		serve_client(s, &s->client[i], p[POLL_CLIENT + i].revents);
	if (p[POLL_PORT].revents != 0 && s->port_sock >= 0)
		port_input(s);
	port_output(s);
	if (p[POLL_BEAT].revents != 0)
		port_accept(s);
	if (p[POLL_LISTEN].revents != 0)
		accept_client(s);
}

static bool is_over(const struct serve *s)
{
	return vm_work_stopped(s->work) || s->told_to_end || s->powered_off;
}

static bool has_more_to_say(struct serve *s)
{
	for (unsigned i = 0; i < VM_SERVE_CLIENTS; i++) {
		struct client *c = &s->client[i];

		if (c->state == CLIENT_OPEN &&
		    (c->busy || c->answering ||
		     (c->attached && c->serial_at < vm_hub_end(s->cfg->hub, VM_HUB_SERIAL)) ||
		     (c->listening && c->event_at < vm_hub_events(s->cfg->hub))))
			return true;
	}
	return false;
}

static void last_words(struct serve *s)
{
	struct lb_env *env = lb_env_real();
	uint64_t until = env->now_ns(env) + UINT64_C(1000000) * LAST_WORDS_MS;

	while (has_more_to_say(s) && env->now_ns(env) < until) {
		struct pollfd p[POLL_MAX];

		(void)watch(s, p);
		p[POLL_LISTEN].fd = p[POLL_BEAT].fd = -1;
		(void)poll(p, POLL_MAX, 20);
		turn(s, p);
	}
}

static int run(struct serve *s, struct lb_err *err)
{
	struct pollfd p[POLL_MAX];

	while (!is_over(s)) {
		int ms = watch(s, p);

		if (poll(p, POLL_MAX, ms) < 0 && errno != EINTR)
			return lb_err_errno(err, errno, "wait for clients");
		turn(s, p);
	}
	last_words(s);
	return 0;
}

int vm_serve(const struct vm_serve_cfg *cfg, struct lb_err *err)
{
	struct serve *s = calloc(1, sizeof(*s));
	int rc;

	if (s == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "serving thread");
	s->cfg = cfg;
	s->port_sock = -1;
	for (unsigned i = 0; i < VM_SERVE_CLIENTS; i++)
		s->client[i].sock = -1;
	rc = vm_work_create(&s->work, cfg->m, cfg->hub, err);
	if (rc == 0)
		rc = run(s, err);
	vm_work_destroy(s->work);
	for (unsigned i = 0; i < VM_SERVE_CLIENTS; i++) {
		vm_job_close_fds(&s->client[i].job);
		if (s->client[i].sock >= 0)
			(void)close(s->client[i].sock);
	}
	if (s->port_sock >= 0)
		(void)close(s->port_sock);
	free(s);
	return rc;
}
