#include "base/loop.h"

#include <pthread.h>
#include <stdlib.h>
#include <uv.h>

#include "base/assert.h"
#include "base/err.h"

struct post {
	struct post *next;
	lb_loop_fn fn;
	lb_loop_fn drop; /* may be NULL */
	void *arg;
};

struct signal_watch {
	uv_signal_t uv;
	struct signal_watch *next;
	lb_loop_fn fn;
	void *arg;
};

struct lb_loop {
	uv_loop_t uv;
	uv_async_t wake;
	pthread_t owner; /* atomic: creator, then whoever runs it */
	bool stop;       /* atomic */
	struct signal_watch *signals;

	pthread_mutex_t lock; /* guards the two below */
	struct post *head;
	struct post **tail;
};

struct lb_timer {
	uv_timer_t uv;
	lb_loop_fn fn;
	void *arg;
};

/* ---- posting ---- */

static struct post *take_posts(struct lb_loop *l)
{
	struct post *all;

	(void)pthread_mutex_lock(&l->lock);
	all = l->head;
	l->head = NULL;
	l->tail = &l->head;
	(void)pthread_mutex_unlock(&l->lock);
	return all;
}

static void on_wake(uv_async_t *h)
{
	struct lb_loop *l = h->data;

	for (struct post *p = take_posts(l); p != NULL;) {
		struct post *next = p->next;

		p->fn(p->arg);
		free(p);
		p = next;
	}
	if (__atomic_exchange_n(&l->stop, false, __ATOMIC_ACQ_REL))
		uv_stop(&l->uv);
}

void lb_loop_post_owned(struct lb_loop *l, lb_loop_fn fn, lb_loop_fn drop, void *arg)
{
	struct post *p = malloc(sizeof(*p));

	/* A lost message would hang its sender for ever: worse than stopping here. */
	LB_ASSERT(p != NULL);
	*p = (struct post){.fn = fn, .drop = drop, .arg = arg};
	(void)pthread_mutex_lock(&l->lock);
	*l->tail = p;
	l->tail = &p->next;
	(void)pthread_mutex_unlock(&l->lock);
	(void)uv_async_send(&l->wake);
}

void lb_loop_post(struct lb_loop *l, lb_loop_fn fn, void *arg)
{
	lb_loop_post_owned(l, fn, NULL, arg);
}

static void drop_posts(struct lb_loop *l)
{
	for (struct post *p = take_posts(l); p != NULL;) {
		struct post *next = p->next;

		if (p->drop != NULL)
			p->drop(p->arg);
		free(p);
		p = next;
	}
}

/* ---- the loop ---- */

int lb_loop_create(struct lb_loop **out, struct lb_err *err)
{
	struct lb_loop *l = calloc(1, sizeof(*l));
	int r;

	if (l == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "make an event loop");
	r = uv_loop_init(&l->uv);
	if (r != 0)
		goto fail;
	r = uv_async_init(&l->uv, &l->wake, on_wake);
	if (r != 0) {
		(void)uv_loop_close(&l->uv);
		goto fail;
	}
	l->wake.data = l;
	(void)pthread_mutex_init(&l->lock, NULL); /* cannot fail for a default mutex on Linux */
	l->tail = &l->head;
	l->owner = pthread_self();
	*out = l;
	return 0;
fail:
	free(l);
	return lb_err_errno(err, -r, "make an event loop");
}

/* A handle that its owner forgot would keep uv_run() below from ever returning. Processes are
 * different: a killed child is waited for there. */
static void check_closing(uv_handle_t *h, void *arg)
{
	(void)arg;
	LB_ASSERT(uv_is_closing(h) || h->type == UV_PROCESS);
}

static void free_signal(uv_handle_t *h)
{
	free(h->data);
}

void lb_loop_destroy(struct lb_loop *l)
{
	if (l == NULL)
		return;
	uv_close((uv_handle_t *)&l->wake, NULL);
	for (struct signal_watch *w = l->signals; w != NULL; w = w->next)
		uv_close((uv_handle_t *)&w->uv, free_signal);
	uv_walk(&l->uv, check_closing, NULL);
	while (uv_run(&l->uv, UV_RUN_DEFAULT) != 0)
		continue;
	LB_ASSERT(uv_loop_close(&l->uv) == 0);
	drop_posts(l);
	(void)pthread_mutex_destroy(&l->lock);
	free(l);
}

int lb_loop_run(struct lb_loop *l, struct lb_err *err)
{
	__atomic_store_n(&l->owner, pthread_self(), __ATOMIC_RELEASE);
	(void)err; /* in the contract for an implementation that can fail here */
	(void)uv_run(&l->uv, UV_RUN_DEFAULT);
	return 0;
}

void lb_loop_stop(struct lb_loop *l)
{
	__atomic_store_n(&l->stop, true, __ATOMIC_RELEASE);
	(void)uv_async_send(&l->wake);
}

bool lb_loop_mine(const struct lb_loop *l)
{
	return pthread_equal(__atomic_load_n(&l->owner, __ATOMIC_ACQUIRE), pthread_self()) != 0;
}

void *lb_loop_uv(struct lb_loop *l)
{
	return &l->uv;
}

/* ---- timers ---- */

static void on_timer(uv_timer_t *h)
{
	struct lb_timer *t = h->data;

	t->fn(t->arg);
}

int lb_timer_create(struct lb_timer **out, struct lb_loop *l, lb_loop_fn fn, void *arg,
		    struct lb_err *err)
{
	struct lb_timer *t = calloc(1, sizeof(*t));

	LB_ASSERT(lb_loop_mine(l));
	if (t == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "make a timer");
	(void)uv_timer_init(&l->uv, &t->uv); /* always 0 */
	t->uv.data = t;
	t->fn = fn;
	t->arg = arg;
	*out = t;
	return 0;
}

/* Up: a timer may be late but never early. */
static uint64_t ms_of_ns(uint64_t ns)
{
	return ns / 1000000u + (ns % 1000000u != 0);
}

void lb_timer_start(struct lb_timer *t, uint64_t first_ns, uint64_t every_ns)
{
	/* libuv counts from the time it read last, which a long callback makes stale. */
	uv_update_time(t->uv.loop);
	(void)uv_timer_start(&t->uv, on_timer, ms_of_ns(first_ns), ms_of_ns(every_ns));
}

void lb_timer_stop(struct lb_timer *t)
{
	(void)uv_timer_stop(&t->uv);
}

static void free_timer(uv_handle_t *h)
{
	free(h->data);
}

void lb_timer_destroy(struct lb_timer *t)
{
	if (t != NULL)
		uv_close((uv_handle_t *)&t->uv, free_timer);
}

/* ---- signals ---- */

static void on_signal(uv_signal_t *h, int signo)
{
	struct signal_watch *w = h->data;

	(void)signo;
	w->fn(w->arg);
}

int lb_loop_on_signal(struct lb_loop *l, int signo, lb_loop_fn fn, void *arg, struct lb_err *err)
{
	struct signal_watch *w = calloc(1, sizeof(*w));
	int r;

	LB_ASSERT(lb_loop_mine(l));
	if (w == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "watch signal %d", signo);
	r = uv_signal_init(&l->uv, &w->uv);
	if (r != 0) {
		free(w);
		return lb_err_errno(err, -r, "watch signal %d", signo);
	}
	w->uv.data = w;
	w->fn = fn;
	w->arg = arg;
	r = uv_signal_start(&w->uv, on_signal, signo);
	if (r != 0) {
		uv_close((uv_handle_t *)&w->uv, free_signal); /* frees w */
		return lb_err_errno(err, -r, "watch signal %d", signo);
	}
	w->next = l->signals;
	l->signals = w;
	return 0;
}
