#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/err.h"
#include "net_int.h"

/*
 * A frame's way:
 *
 *   [send] ─► in no cut ─[cut s]─► in cut s ─[ack >= s]─► lower, in order ─► gone
 *
 * Output commit [Remus, NSDI 2008, 3.3]: what left the machine can be explained by a state that the
 * other site has. A cut that was given up is covered by the next one that is acknowledged.
 */
struct held {
	struct held *next;
	uint64_t seq; /* of the cut it belongs to; 0: none yet */
	size_t len;
	uint8_t frame[];
};

struct net_hold {
	struct vm_net net;         /* first */
	pthread_mutex_t releasing; /* taken first: acks let frames go one after another */
	pthread_mutex_t lock;      /* the rest */
	struct held *head, **tail;
	struct held *uncut; /* the first that is in no cut */
	uint64_t bytes, max_bytes;
	bool refused; /* the card waits for room */
};

#define FRAME_MIN 60u /* what Ethernet pads shorter ones to */

static const struct vm_net_ops hold_ops;

static struct net_hold *hold_of(struct vm_net *n)
{
	LB_ASSERT(n->ops == &hold_ops);
	return (struct net_hold *)n;
}

/* Of the bound: a guest that sends frames of a byte must not fill our memory with their heads. */
static uint64_t cost_of(size_t len)
{
	return len < FRAME_MIN ? FRAME_MIN : len;
}

/* One frame always has room, however small the bound. */
static bool hold_send(struct vm_net *n, const void *frame, size_t len)
{
	struct net_hold *h = hold_of(n);
	uint64_t cost = cost_of(len);
	struct held *f = malloc(sizeof(*f) + len);
	bool ok;

	if (f != NULL) {
		*f = (struct held){.len = len};
		memcpy(f->frame, frame, len);
	}
	(void)pthread_mutex_lock(&h->lock);
	ok = f != NULL &&
	     (h->bytes == 0 || (cost <= h->max_bytes && h->bytes <= h->max_bytes - cost));
	if (ok) {
		*h->tail = f;
		h->tail = &f->next;
		if (h->uncut == NULL)
			h->uncut = f;
		h->bytes += cost;
		f = NULL;
	}
	h->refused |= !ok;
	(void)pthread_mutex_unlock(&h->lock);
	free(f);
	return ok;
}

void vm_net_hold_cut(struct vm_net *hold, uint64_t seq)
{
	struct net_hold *h = hold_of(hold);

	LB_ASSERT(seq != 0);
	(void)pthread_mutex_lock(&h->lock);
	for (; h->uncut != NULL; h->uncut = h->uncut->next)
		h->uncut->seq = seq;
	(void)pthread_mutex_unlock(&h->lock);
}

/* Frames that may go: taken off the queue. */
static struct held *release(struct net_hold *h, uint64_t seq, bool *room)
{
	struct held *first = NULL, **end = &first;

	(void)pthread_mutex_lock(&h->lock);
	while (h->head != NULL && h->head->seq != 0 && h->head->seq <= seq) {
		*end = h->head;
		end = &h->head->next;
		h->bytes -= cost_of(h->head->len);
		h->head = h->head->next;
	}
	*end = NULL;
	if (h->head == NULL)
		h->tail = &h->head;
	*room = h->refused;
	h->refused = false;
	(void)pthread_mutex_unlock(&h->lock);
	return first;
}

void vm_net_hold_ack(struct vm_net *hold, uint64_t seq)
{
	struct net_hold *h = hold_of(hold);
	struct held *f;
	bool room;

	(void)pthread_mutex_lock(&h->releasing);
	f = release(h, seq, &room);
	while (f != NULL) {
		struct held *next = f->next;

		(void)vm_net_send(h->net.lower, f->frame, f->len);
		free(f);
		f = next;
	}
	(void)pthread_mutex_unlock(&h->releasing);
	if (room)
		vm_net_room(&h->net);
}

static uint64_t hold_bytes(struct vm_net *n)
{
	struct net_hold *h = hold_of(n);
	uint64_t bytes;

	(void)pthread_mutex_lock(&h->lock);
	bytes = h->bytes;
	(void)pthread_mutex_unlock(&h->lock);
	return bytes;
}

/* What was not acknowledged was never sent. */
static void hold_destroy(struct vm_net *n)
{
	struct net_hold *h = hold_of(n);

	while (h->head != NULL) {
		struct held *f = h->head;

		h->head = f->next;
		free(f);
	}
	(void)pthread_mutex_destroy(&h->lock);
	(void)pthread_mutex_destroy(&h->releasing);
	vm_net_fini(n);
	free(h);
}

static const struct vm_net_ops hold_ops = {
	.send = hold_send,
	.held_bytes = hold_bytes,
	.destroy = hold_destroy,
};

int vm_net_hold(struct vm_net **out, struct vm_net *lower, uint64_t max_bytes, struct lb_err *err)
{
	struct net_hold *h = calloc(1, sizeof(*h));

	if (h == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "hold for sent frames");
	vm_net_init(&h->net, &hold_ops, lower);
	(void)pthread_mutex_init(&h->releasing, NULL);
	(void)pthread_mutex_init(&h->lock, NULL);
	h->tail = &h->head;
	h->max_bytes = max_bytes;
	*out = &h->net;
	return 0;
}
