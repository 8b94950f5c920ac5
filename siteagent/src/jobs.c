#include <inttypes.h>
#include <jansson.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "agent_int.h"
#include "base/assert.h"
#include "base/env.h"
#include "base/loop.h"
#include "base/thread.h"

#define JOBS_KEPT 100u
#define JOBS_MAX  4u /* at once */

/* A job has a thread of its own: it may run for hours and must not hold up the pool. */
struct sa_job {
	struct sa_jobs *jobs;
	struct sa_job *next; /* newest first */
	char id[16];
	char what[64];
	sa_job_fn work;
	void *arg;
	void (*free_arg)(void *arg);
	pthread_t thread;
	bool ended; /* on the loop */
	_Atomic uint64_t done, all;
	_Atomic bool cancelled;
	uint64_t started_ns, ended_ns;
	json_t *result;
	int rc;
	struct lb_err err;
};

struct sa_jobs {
	struct sa_agent *agent;
	struct sa_job *first;
	uint64_t next_id;
};

int sa_jobs_create(struct sa_jobs **out, struct sa_agent *a, struct lb_err *err)
{
	struct sa_jobs *j = calloc(1, sizeof(*j));

	if (j == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "jobs");
	j->agent = a;
	j->next_id = 1;
	*out = j;
	return 0;
}

static void job_free(struct sa_job *job)
{
	if (job->free_arg != NULL)
		job->free_arg(job->arg);
	json_decref(job->result);
	free(job);
}

void sa_jobs_destroy(struct sa_jobs *j)
{
	struct sa_job *next;

	if (j == NULL)
		return;
	for (struct sa_job *job = j->first; job != NULL; job = job->next)
		atomic_store(&job->cancelled, true);
	for (struct sa_job *job = j->first; job != NULL; job = next) {
		next = job->next;
		if (!job->ended)
			(void)pthread_join(job->thread, NULL);
		job_free(job);
	}
	free(j);
}

static void on_ended(void *arg)
{
	struct sa_job *job = arg;

	(void)pthread_join(job->thread, NULL);
	job->ended = true;
	job->ended_ns = job->jobs->agent->env->now_ns(job->jobs->agent->env);
}

static void *run(void *arg)
{
	struct sa_job *job = arg;

	job->rc = job->work(job, job->arg, &job->result, &job->err);
	lb_loop_post(job->jobs->agent->loop, on_ended, job);
	return NULL;
}

static void drop_old(struct sa_jobs *j)
{
	unsigned kept = 0;
	struct sa_job **p = &j->first;

	while (*p != NULL) {
		struct sa_job *job = *p;

		if (!job->ended || kept++ < JOBS_KEPT) {
			p = &job->next;
			continue;
		}
		*p = job->next;
		job_free(job);
	}
}

int sa_job_start(struct sa_jobs *j, const char *what, sa_job_fn work, void *arg,
		 void (*free_arg)(void *arg), const char **id_out, struct lb_err *err)
{
	struct sa_job *job;
	unsigned running = 0;
	int rc;

	for (job = j->first; job != NULL; job = job->next)
		running += job->ended ? 0 : 1;
	if (running >= JOBS_MAX)
		return lb_err_set(err, LB_EBUSY, 0, "%u jobs run already; wait for one to end",
				  running);
	drop_old(j);
	job = calloc(1, sizeof(*job));
	if (job == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "job %s", what);
	job->jobs = j;
	job->work = work;
	job->arg = arg;
	job->started_ns = j->agent->env->now_ns(j->agent->env);
	(void)snprintf(job->what, sizeof(job->what), "%s", what);
	(void)snprintf(job->id, sizeof(job->id), "j%" PRIu64, j->next_id++ % 1000000000u);
	rc = lb_thread_start(&job->thread, run, job, what, err);
	if (rc != 0) {
		free(job);
		return rc;
	}
	job->free_arg = free_arg;
	job->next = j->first;
	j->first = job;
	*id_out = job->id;
	return 0;
}

void sa_job_progress(struct sa_job *job, uint64_t done, uint64_t all)
{
	atomic_store(&job->done, done);
	atomic_store(&job->all, all);
}

bool sa_job_cancelled(const struct sa_job *job)
{
	return atomic_load(&job->cancelled);
}

static struct sa_job *find(struct sa_jobs *j, const char *id)
{
	for (struct sa_job *job = j->first; job != NULL; job = job->next)
		if (strcmp(job->id, id) == 0)
			return job;
	return NULL;
}

static json_t *to_json(const struct sa_job *job)
{
	struct sa_agent *a = job->jobs->agent;
	uint64_t end = job->ended ? job->ended_ns : a->env->now_ns(a->env);
	uint64_t took = end - job->started_ns, done = atomic_load(&job->done),
		 all = atomic_load(&job->all);
	uint64_t rate = took > 0 ? (uint64_t)((double)done * 1e9 / (double)took) : 0;
	const char *state = !job->ended ? "running" : job->rc == 0 ? "done" : "failed";
	json_t *o = json_pack("{s:s, s:s, s:s, s:I, s:I, s:I, s:I}", "id", job->id, "what",
			      job->what, "state", state, "done_bytes", (json_int_t)done,
			      "all_bytes", (json_int_t)all, "rate_bytes_per_s", (json_int_t)rate,
			      "elapsed_ms", (json_int_t)(took / 1000000u));

	if (!job->ended && rate > 0 && all > done)
		(void)json_object_set_new(o, "eta_s",
					  json_integer((json_int_t)((all - done) / rate)));
	if (job->ended && job->result != NULL)
		(void)json_object_set(o, "result", job->result);
	if (job->ended && job->rc != 0)
		(void)json_object_set_new(o, "error",
					  json_pack("{s:s, s:s}", "code", lb_err_name(job->rc),
						    "message", job->err.msg));
	return o;
}

struct json_t *sa_job_json(struct sa_jobs *j, const char *id)
{
	struct sa_job *job = find(j, id);

	return job == NULL ? NULL : to_json(job);
}

struct json_t *sa_jobs_json(struct sa_jobs *j)
{
	json_t *list = json_array();

	for (struct sa_job *job = j->first; job != NULL; job = job->next)
		(void)json_array_append_new(list, to_json(job));
	return json_pack("{s:o}", "jobs", list);
}

bool sa_job_cancel(struct sa_jobs *j, const char *id)
{
	struct sa_job *job = find(j, id);

	if (job != NULL)
		atomic_store(&job->cancelled, true);
	return job != NULL;
}
