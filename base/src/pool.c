#include <pthread.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/err.h"
#include "base/loop.h"
#include "base/thread.h"

enum {
	MAX_THREADS = 64
};

/*
 * Outlives the pool: a job whose done() is already posted looks here whether the pool still is.
 * Everything in it belongs to the loop's thread.
 */
struct gate {
	unsigned refs; /* the pool and every unfinished job */
	bool closed;
};

struct job {
	struct job *next;
	lb_loop_fn work;
	lb_loop_fn done; /* may be NULL */
	void *arg;
	struct gate *gate;
};

struct lb_pool {
	struct lb_loop *loop;
	struct gate *gate;
	pthread_t threads[MAX_THREADS];
	unsigned n;

	pthread_mutex_t lock; /* guards what follows */
	pthread_cond_t more;
	struct job *head;
	struct job **tail;
	bool stop;
};

static void gate_unref(struct gate *g)
{
	if (--g->refs == 0)
		free(g);
}

static void job_drop(void *arg)
{
	struct job *j = arg;

	gate_unref(j->gate);
	free(j);
}

static void job_done(void *arg)
{
	struct job *j = arg;

	if (!j->gate->closed && j->done != NULL)
		j->done(j->arg);
	job_drop(j);
}

/* The next job, or NULL when the pool stops and the queue is empty. */
static struct job *next_job(struct lb_pool *p)
{
	struct job *j;

	(void)pthread_mutex_lock(&p->lock);
	while (p->head == NULL && !p->stop)
		(void)pthread_cond_wait(&p->more, &p->lock);
	j = p->head;
	if (j != NULL) {
		p->head = j->next;
		if (p->head == NULL)
			p->tail = &p->head;
	}
	(void)pthread_mutex_unlock(&p->lock);
	return j;
}

static void *worker(void *arg)
{
	struct lb_pool *p = arg;
	struct job *j;

	while ((j = next_job(p)) != NULL) {
		j->work(j->arg);
		lb_loop_post_owned(p->loop, job_done, job_drop, j);
	}
	return NULL;
}

int lb_pool_create(struct lb_pool **out, struct lb_loop *l, unsigned threads, struct lb_err *err)
{
	struct lb_pool *p;
	int rc = 0;

	LB_ASSERT(lb_loop_mine(l));
	if (threads == 0 || threads > MAX_THREADS)
		return lb_err_set(err, LB_EINVAL, 0, "make a pool of %u threads", threads);
	p = calloc(1, sizeof(*p));
	if (p != NULL)
		p->gate = calloc(1, sizeof(*p->gate));
	if (p == NULL || p->gate == NULL) {
		free(p);
		return lb_err_set(err, LB_ENOMEM, 0, "make a pool of %u threads", threads);
	}
	p->loop = l;
	p->gate->refs = 1;
	p->tail = &p->head;
	(void)pthread_mutex_init(&p->lock, NULL);
	(void)pthread_cond_init(&p->more, NULL);
	while (rc == 0 && p->n < threads) {
		rc = lb_thread_start(&p->threads[p->n], worker, p, "a pool", err);
		if (rc == 0)
			p->n++;
	}
	if (rc != 0) {
		lb_pool_destroy(p);
		return rc;
	}
	*out = p;
	return 0;
}

void lb_pool_submit(struct lb_pool *p, lb_loop_fn work, lb_loop_fn done, void *arg)
{
	struct job *j = malloc(sizeof(*j));

	LB_ASSERT(lb_loop_mine(p->loop));
	LB_ASSERT(j != NULL); /* as lb_loop_post(): a lost job would hang its sender */
	*j = (struct job){.work = work, .done = done, .arg = arg, .gate = p->gate};
	p->gate->refs++;
	(void)pthread_mutex_lock(&p->lock);
	*p->tail = j;
	p->tail = &j->next;
	(void)pthread_cond_signal(&p->more);
	(void)pthread_mutex_unlock(&p->lock);
}

void lb_pool_destroy(struct lb_pool *p)
{
	if (p == NULL)
		return;
	LB_ASSERT(lb_loop_mine(p->loop));
	(void)pthread_mutex_lock(&p->lock);
	p->stop = true;
	(void)pthread_cond_broadcast(&p->more);
	(void)pthread_mutex_unlock(&p->lock);
	for (unsigned i = 0; i < p->n; i++)
		(void)pthread_join(p->threads[i], NULL);
	p->gate->closed = true;
	gate_unref(p->gate);
	(void)pthread_cond_destroy(&p->more);
	(void)pthread_mutex_destroy(&p->lock);
	free(p);
}
