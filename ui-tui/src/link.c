#include <jansson.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/err.h"
#include "base/loop.h"
#include "base/thread.h"
#include "link_int.h"
#include "siteagent/ctl.h"

struct question {
	struct question *next;
	struct ui_link *link;
	uint64_t id;
	const char *method;
	char path[640];
	json_t *body, *answer;
	int rc;
	struct lb_err err;
	char hint[16384]; /* all problems of a runbook, with carets */
};

struct ui_link {
	struct lb_loop *loop;
	struct sa_ctl *ctl; /* the thread's, but for sa_ctl_abort() */
	ui_link_fn fn;
	void *arg;
	pthread_t thread;
	pthread_mutex_t lock; /* of all below */
	pthread_cond_t more;
	struct question *first, **last;
	bool stop;
};

static void drop(void *arg)
{
	struct question *q = arg;

	json_decref(q->body);
	json_decref(q->answer);
	free(q);
}

static void deliver(void *arg)
{
	struct question *q = arg;

	q->link->fn(q->link->arg, q->id, q->rc, q->answer, q->err.msg, q->hint);
	drop(q);
}

/* The next question; NULL: stop. */
static struct question *next(struct ui_link *l)
{
	struct question *q;

	(void)pthread_mutex_lock(&l->lock);
	while (l->first == NULL && !l->stop)
		(void)pthread_cond_wait(&l->more, &l->lock);
	q = l->stop ? NULL : l->first;
	if (q != NULL) {
		l->first = q->next;
		if (l->first == NULL)
			l->last = &l->first;
	}
	(void)pthread_mutex_unlock(&l->lock);
	return q;
}

static void *ask_all(void *arg)
{
	struct ui_link *l = arg;

	for (struct question *q = next(l); q != NULL; q = next(l)) {
		q->rc = sa_ctl_call(l->ctl, q->method, q->path, q->body, &q->answer, q->hint,
				    sizeof(q->hint), &q->err);
		lb_loop_post_owned(l->loop, deliver, drop, q);
	}
	return NULL;
}

int ui_link_create(struct ui_link **out, struct lb_loop *loop, const char *socket_path,
		   uint64_t timeout_ns, ui_link_fn fn, void *arg, struct lb_err *err)
{
	struct ui_link *l = calloc(1, sizeof(*l));
	int rc;

	LB_ASSERT(l != NULL);
	l->loop = loop;
	l->fn = fn;
	l->arg = arg;
	l->last = &l->first;
	(void)pthread_mutex_init(&l->lock, NULL);
	(void)pthread_cond_init(&l->more, NULL);
	rc = sa_ctl_open(&l->ctl, socket_path, timeout_ns, err);
	if (rc == 0)
		rc = lb_thread_start(&l->thread, ask_all, l, socket_path, err);
	if (rc != 0) {
		sa_ctl_close(l->ctl);
		free(l);
		return rc;
	}
	*out = l;
	return 0;
}

void ui_link_ask(struct ui_link *l, uint64_t id, const char *method, const char *path,
		 struct json_t *body)
{
	struct question *q = calloc(1, sizeof(*q));

	LB_ASSERT(q != NULL);
	q->link = l;
	q->id = id;
	q->method = method;
	q->body = body;
	(void)snprintf(q->path, sizeof(q->path), "%s", path);
	(void)pthread_mutex_lock(&l->lock);
	*l->last = q;
	l->last = &q->next;
	(void)pthread_cond_signal(&l->more);
	(void)pthread_mutex_unlock(&l->lock);
}

void ui_link_destroy(struct ui_link *l)
{
	struct question *after;

	if (l == NULL)
		return;
	(void)pthread_mutex_lock(&l->lock);
	l->stop = true;
	(void)pthread_cond_signal(&l->more);
	(void)pthread_mutex_unlock(&l->lock);
	sa_ctl_abort(l->ctl);
	(void)pthread_join(l->thread, NULL);
	for (struct question *q = l->first; q != NULL; q = after) {
		after = q->next;
		drop(q);
	}
	sa_ctl_close(l->ctl);
	(void)pthread_cond_destroy(&l->more);
	(void)pthread_mutex_destroy(&l->lock);
	free(l);
}
