#include "hub.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"

struct stream {
	uint8_t *ring;
	size_t cap;
	uint64_t end;
};

struct vm_hub {
	pthread_mutex_t lock;
	int kick_fd;
	struct stream stream[2];
	struct vm_ctl_event event[VM_HUB_EVENTS];
	uint64_t events;
};

int vm_hub_create(struct vm_hub **out, int kick_fd, struct lb_err *err)
{
	struct vm_hub *h = calloc(1, sizeof(*h));

	if (h == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "a machine's output");
	h->kick_fd = kick_fd;
	(void)pthread_mutex_init(&h->lock, NULL);
	h->stream[VM_HUB_SERIAL].cap = VM_CTL_REPLAY_BYTES;
	h->stream[VM_HUB_PORT].cap = VM_HUB_PORT_BYTES;
	for (int i = 0; i < 2; i++)
		h->stream[i].ring = malloc(h->stream[i].cap);
	if (h->stream[0].ring == NULL || h->stream[1].ring == NULL) {
		vm_hub_destroy(h);
		return lb_err_set(err, LB_ENOMEM, 0, "a machine's output");
	}
	*out = h;
	return 0;
}

void vm_hub_destroy(struct vm_hub *h)
{
	if (h == NULL)
		return;
	free(h->stream[0].ring);
	free(h->stream[1].ring);
	(void)pthread_mutex_destroy(&h->lock);
	free(h);
}

void vm_hub_kick(struct vm_hub *h)
{
	const uint64_t one = 1;

	/* fails only when the counter is full, and then it wakes all the same
	 * banned-ok: an eventfd */
	(void)!write(h->kick_fd, &one, sizeof(one));
}

static void add_bytes(struct stream *s, const uint8_t *p, size_t len)
{
	if (len > s->cap) {
		s->end += len - s->cap;
		p += len - s->cap;
		len = s->cap;
	}
	while (len > 0) {
		size_t at = (size_t)(s->end % s->cap);
		size_t n = len < s->cap - at ? len : s->cap - at;

		memcpy(s->ring + at, p, n);
		s->end += n;
		p += n;
		len -= n;
	}
}

static void add_event(struct vm_hub *h, const struct vm_event *e)
{
	struct vm_ctl_event *to = &h->event[h->events++ % VM_HUB_EVENTS];

	*to = (struct vm_ctl_event){.type = e->type, .code = e->code, .rip = e->rip};
	if (e->text != NULL) /* may hold a guest's bytes */
		(void)lb_text_escape(to->text, sizeof(to->text), e->text);
}

void vm_hub_on_event(void *arg, const struct vm_event *e)
{
	struct vm_hub *h = arg;

	if (e->type == VM_EVENT_DEBUG)
		return; /* firmware's chatter: nobody asked for it */
	(void)pthread_mutex_lock(&h->lock);
	if (e->type == VM_EVENT_SERIAL)
		add_bytes(&h->stream[VM_HUB_SERIAL], e->bytes, e->len);
	else if (e->type == VM_EVENT_PORT)
		add_bytes(&h->stream[VM_HUB_PORT], e->bytes, e->len);
	else
		add_event(h, e);
	(void)pthread_mutex_unlock(&h->lock);
	vm_hub_kick(h);
}

uint64_t vm_hub_end(struct vm_hub *h, enum vm_hub_stream s)
{
	uint64_t end;

	(void)pthread_mutex_lock(&h->lock);
	end = h->stream[s].end;
	(void)pthread_mutex_unlock(&h->lock);
	return end;
}

size_t vm_hub_read(struct vm_hub *h, enum vm_hub_stream which, uint64_t *at, void *out, size_t cap,
		   uint64_t *lost)
{
	struct stream *s = &h->stream[which];
	uint8_t *to = out;
	uint64_t oldest;
	size_t got = 0;

	*lost = 0;
	(void)pthread_mutex_lock(&h->lock);
	oldest = s->end > s->cap ? s->end - s->cap : 0;
	if (*at < oldest) {
		*lost = oldest - *at;
		*at = oldest;
	}
	while (got < cap && *at < s->end) {
		size_t from = (size_t)(*at % s->cap), n = cap - got;

		n = n < s->cap - from ? n : s->cap - from;
		n = n < s->end - *at ? n : (size_t)(s->end - *at);
		memcpy(to + got, s->ring + from, n);
		got += n;
		*at += n;
	}
	(void)pthread_mutex_unlock(&h->lock);
	return got;
}

uint64_t vm_hub_events(struct vm_hub *h)
{
	uint64_t n;

	(void)pthread_mutex_lock(&h->lock);
	n = h->events;
	(void)pthread_mutex_unlock(&h->lock);
	return n;
}

bool vm_hub_event(struct vm_hub *h, uint64_t *at, struct vm_ctl_event *out)
{
	bool any;

	(void)pthread_mutex_lock(&h->lock);
	if (h->events > VM_HUB_EVENTS && *at < h->events - VM_HUB_EVENTS)
		*at = h->events - VM_HUB_EVENTS;
	any = *at < h->events;
	if (any)
		*out = h->event[(*at)++ % VM_HUB_EVENTS];
	(void)pthread_mutex_unlock(&h->lock);
	return any;
}
