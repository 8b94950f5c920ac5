#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/err.h"
#include "base/thread.h"
#include "net_int.h"

/*
 *   port's send ─ copy ─► queue ─ [switch's thread] ─► table ─► deliver to one port, or to all
 * others
 *
 * The copy and the thread are what keeps two machines from waiting for each other: a card sends
 * with its board's lock held, and receives under it. A full queue drops, as switches do.
 */

#define PORTS_MAX   32u
#define TABLE_MAX   256u
#define QUEUE_BYTES (UINT64_C(4) << 20)
#define ETH_HEADER  14u
#define TO_ALL      PORTS_MAX

struct queued {
	struct queued *next;
	unsigned from;
	size_t len;
	uint8_t frame[];
};

struct entry {
	uint8_t mac[6];
	bool used;
	unsigned port;
};

struct port {
	struct vm_net net; /* first */
	struct vm_switch *sw;
	unsigned number;
};

struct vm_switch {
	pthread_mutex_t lock; /* queue, stop */
	pthread_cond_t changed;
	struct queued *head, **tail;
	uint64_t bytes;
	bool stop;
	pthread_t thread;
	pthread_mutex_t
		plugging; /* port[], and deliveries: a port stays while a frame goes to it */
	struct port *port[PORTS_MAX];
	struct entry table[TABLE_MAX]; /* the thread's */
	unsigned next_entry;
};

/* ---- the thread ---- */

static struct entry *find(struct vm_switch *s, const uint8_t *mac)
{
	for (unsigned i = 0; i < TABLE_MAX; i++)
		if (s->table[i].used && memcmp(s->table[i].mac, mac, 6) == 0)
			return &s->table[i];
	return NULL;
}

/* Group addresses are nobody's source. A full table forgets the oldest. */
static void learn(struct vm_switch *s, const uint8_t *mac, unsigned port)
{
	struct entry *e;

	if ((mac[0] & 1) != 0)
		return;
	e = find(s, mac);
	if (e == NULL) {
		e = &s->table[s->next_entry];
		s->next_entry = (s->next_entry + 1) % TABLE_MAX;
	}
	memcpy(e->mac, mac, 6);
	e->used = true;
	e->port = port;
}

static void forward(struct vm_switch *s, const struct queued *q)
{
	const struct entry *e;
	unsigned to = TO_ALL;

	learn(s, q->frame + 6, q->from);
	e = find(s, q->frame);
	(void)pthread_mutex_lock(&s->plugging);
	if (e != NULL && s->port[e->port] != NULL)
		to = e->port;
	for (unsigned i = 0; i < PORTS_MAX; i++)
		if (s->port[i] != NULL && i != q->from && (to == TO_ALL || to == i))
			vm_net_deliver(&s->port[i]->net, q->frame, q->len);
	(void)pthread_mutex_unlock(&s->plugging);
}

static struct queued *take(struct vm_switch *s)
{
	struct queued *q = NULL;

	(void)pthread_mutex_lock(&s->lock);
	while (!s->stop && s->head == NULL)
		(void)pthread_cond_wait(&s->changed, &s->lock);
	if (!s->stop) {
		q = s->head;
		s->head = q->next;
		if (s->head == NULL)
			s->tail = &s->head;
		s->bytes -= q->len;
	}
	(void)pthread_mutex_unlock(&s->lock);
	return q;
}

static void *switch_main(void *arg)
{
	struct vm_switch *s = arg;
	struct queued *q;

	while ((q = take(s)) != NULL) {
		forward(s, q);
		free(q);
	}
	return NULL;
}

/* ---- ports ---- */

static bool port_send(struct vm_net *n, const void *frame, size_t len)
{
	struct port *p = (struct port *)n;
	struct vm_switch *s = p->sw;
	struct queued *q;

	if (len < ETH_HEADER || len > VM_FRAME_MAX)
		return true;
	q = malloc(sizeof(*q) + len);
	if (q == NULL)
		return true;
	*q = (struct queued){.from = p->number, .len = len};
	memcpy(q->frame, frame, len);
	(void)pthread_mutex_lock(&s->lock);
	if (s->bytes + len <= QUEUE_BYTES) {
		*s->tail = q;
		s->tail = &q->next;
		s->bytes += len;
		q = NULL;
		(void)pthread_cond_signal(&s->changed);
	}
	(void)pthread_mutex_unlock(&s->lock);
	free(q);
	return true;
}

static void port_destroy(struct vm_net *n)
{
	struct port *p = (struct port *)n;

	(void)pthread_mutex_lock(&p->sw->plugging);
	p->sw->port[p->number] = NULL;
	(void)pthread_mutex_unlock(&p->sw->plugging);
	vm_net_fini(n);
	free(p);
}

int vm_net_switch(struct vm_net **out, struct vm_switch *s, struct lb_err *err)
{
	static const struct vm_net_ops ops = {.send = port_send, .destroy = port_destroy};
	struct port *p = calloc(1, sizeof(*p));
	unsigned i = 0;

	if (p == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "port of a switch");
	p->sw = s;
	vm_net_init(&p->net, &ops, NULL);
	(void)pthread_mutex_lock(&s->plugging);
	while (i < PORTS_MAX && s->port[i] != NULL)
		i++;
	if (i < PORTS_MAX)
		s->port[i] = p;
	p->number = i;
	(void)pthread_mutex_unlock(&s->plugging);
	if (i == PORTS_MAX) {
		vm_net_fini(&p->net);
		free(p);
		return lb_err_set(err, LB_EINPUT, 0, "a switch has %u ports", PORTS_MAX);
	}
	*out = &p->net;
	return 0;
}

int vm_switch_create(struct vm_switch **out, struct lb_err *err)
{
	struct vm_switch *s = calloc(1, sizeof(*s));
	int rc;

	if (s == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "switch");
	s->tail = &s->head;
	(void)pthread_mutex_init(&s->lock, NULL);
	(void)pthread_mutex_init(&s->plugging, NULL);
	(void)pthread_cond_init(&s->changed, NULL);
	rc = lb_thread_start(&s->thread, switch_main, s, "a switch", err);
	if (rc != 0)
		free(s);
	else
		*out = s;
	return rc;
}

void vm_switch_destroy(struct vm_switch *s)
{
	if (s == NULL)
		return;
	for (unsigned i = 0; i < PORTS_MAX; i++)
		LB_ASSERT(s->port[i] == NULL);
	(void)pthread_mutex_lock(&s->lock);
	s->stop = true;
	(void)pthread_cond_signal(&s->changed);
	(void)pthread_mutex_unlock(&s->lock);
	(void)pthread_join(s->thread, NULL);
	while (s->head != NULL) {
		struct queued *q = s->head;

		s->head = q->next;
		free(q);
	}
	(void)pthread_cond_destroy(&s->changed);
	(void)pthread_mutex_destroy(&s->plugging);
	(void)pthread_mutex_destroy(&s->lock);
	free(s);
}
