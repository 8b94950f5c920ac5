#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "shadow_int.h"
#include "source_int.h"

/*
 *  OPEN ──► in the core ──[READY, due]──► BEGIN ──CUT──► OFFERED ──[SCAN]──► SCAN ──► SCANNED
 *    ▲                        ▲                                               │          │ last
 * part │ stores bad             └────────────── END ◄──[over: ABANDONED, error]─┴──────────┤
 *    └──────────────────────── END ◄──[ACKED]── SEALED ◄──────────CUT_SEALED────────────┘
 *
 * Whatever the core says while a job runs is only noted; source_group_advance() acts on it when the
 * job is done.
 */

#define INTERVAL_NS  UINT64_C(1000000000)
#define RETRY_MIN_NS UINT64_C(50000000)
#define RETRY_MAX_NS UINT64_C(30000000000)
#define RATE_NS      UINT64_C(1000000000)

struct source_group *source_group_find(struct rep_source *s, const struct lb_id *id)
{
	struct source_group *g;

	TAILQ_FOREACH(g, &s->groups, link)
	{
		if (lb_id_equal(&g->cfg.group, id))
			return g;
	}
	return NULL;
}

static struct rep_source_event event_of(const struct source_group *g, enum rep_source_event_type t)
{
	return (struct rep_source_event){
		.type = t, .group = g->cfg.group, .epoch = g->at.epoch, .seq = g->at.seq};
}

static void event_err(struct source_group *g, enum rep_source_event_type t,
		      const struct lb_err *err)
{
	struct rep_source_event e = event_of(g, t);

	e.err = err;
	source_event(g->s, &e);
}

/* ---- jobs ---- */

static void job_done(void *arg);

static void job_work(void *arg)
{
	struct source_job *j = arg;
	bool run;

	(void)pthread_mutex_lock(&j->s->lock);
	run = j->g != NULL;
	j->started = run;
	(void)pthread_mutex_unlock(&j->s->lock);
	if (run)
		source_job_run(j);
	(void)pthread_mutex_lock(&j->s->lock);
	j->finished = true;
	(void)pthread_cond_broadcast(&j->s->job_done);
	(void)pthread_mutex_unlock(&j->s->lock);
}

static void job_start(struct source_group *g, enum source_job_kind kind)
{
	struct source_job *j = calloc(1, sizeof(*j));

	LB_ASSERT(g->job == NULL);
	LB_ASSERT(j != NULL); /* a lost job would stop the group silently */
	*j = (struct source_job){.s = g->s, .g = g, .kind = kind};
	if (kind == JOB_END) {
		j->commit = g->acked;
		j->manifest = g->acked_manifest;
		j->cut_acked = g->acked && g->have_cut && g->phase == PHASE_SEALED &&
			       g->at.epoch == g->acked_place.epoch &&
			       g->at.seq == g->acked_place.seq;
		g->acked = false;
	}
	g->job = j;
	lb_pool_submit(g->s->pool, job_work, job_done, j);
}

static void retry_later(struct source_group *g)
{
	g->retry_ns = g->retry_ns == 0 ? RETRY_MIN_NS : 2 * g->retry_ns;
	if (g->retry_ns > RETRY_MAX_NS)
		g->retry_ns = RETRY_MAX_NS;
	g->due_ns = source_now(g->s) + g->retry_ns;
	g->now = false;
}

static void keys_offer(struct source_group *g)
{
	for (uint32_t i = 0; !g->cfg.keyless && i < g->cfg.volumes; i++) {
		struct rep_key_frame k = {.group = g->cfg.group,
					  .machine = g->cfg.volume[i].machine,
					  .key_id = g->key_id[i],
					  .key = g->dek[i]};
		struct rep_sender_event e = {.type = REP_SENDER_KEY, .key = &k};
		bool seen = false;

		for (uint32_t n = 0; n < i && !seen; n++)
			seen = lb_id_equal(&g->key_id[n], &g->key_id[i]);
		if (!seen)
			(void)source_step(g->s, &e, NULL);
		lb_key_wipe(&k.key);
	}
}

/* The stores are open: (again) into the core with what they describe. */
static void open_done(struct source_group *g, const struct source_job *j)
{
	struct rep_sender_group add = {
		.group = g->cfg.group, .epoch = g->cfg.epoch, .described = g->described};
	struct rep_sender_event e = {.type = REP_SENDER_GROUP_ADD, .add = &add};
	struct lb_err err;

	if (j->rc != 0) {
		g->digest_bad = true;
		retry_later(g);
		event_err(g, REP_SOURCE_ABANDONED, &j->err);
		return;
	}
	memcpy(add.name, g->cfg.name, sizeof(add.name));
	if (source_step(g->s, &e, &err) != 0) {
		g->digest_bad = true;
		retry_later(g);
		event_err(g, REP_SOURCE_ABANDONED, &err);
		return;
	}
	g->in_core = true;
	keys_offer(g);
	if (j->err.code != 0) /* opened, but some store was lost */
		event_err(g, REP_SOURCE_RESYNC, &j->err);
}

static bool place_moved(const struct source_group *g)
{
	return g->place.epoch != g->at.epoch || g->place.seq != g->at.seq ||
	       !lb_hash_equal(&g->place.prev, &g->at.prev) ||
	       !lb_hash_equal(&g->place.base, &g->at.base);
}

/* The core awaits a cut until it got one: a driver that could not make it is asked again. */
static void begin_done(struct source_group *g, const struct source_job *j)
{
	struct rep_sender_event e = {.type = REP_SENDER_CUT, .group = g->cfg.group};
	struct rep_source_event told;

	if (j->rc != 0) {
		/* The core was not told of this cut, so it says READY only when it has a reason of
		 * its own; the place it named is still good, or source_step() refuses it. */
		g->ready = true;
		retry_later(g);
		event_err(g, REP_SOURCE_ABANDONED, &j->err);
		return;
	}
	g->due_ns = source_now(g->s) + g->cfg.interval_ns;
	g->now = false;
	e.cut.place = g->at;
	e.cut.layer = g->layer;
	e.cut.layers = g->cfg.volumes;
	g->ready = place_moved(g);
	if (g->acked || source_step(g->s, &e, NULL) != 0) {
		g->over = true; /* the place is not that any more: READY came, or comes again */
		return;
	}
	if (g->phase == PHASE_NONE)
		g->phase = PHASE_OFFERED;
	told = event_of(g, REP_SOURCE_CUT);
	source_event(g->s, &told);
}

static void scan_done(struct source_group *g, const struct source_job *j)
{
	struct rep_sender_event e = {.type = REP_SENDER_CUT_DROPPED, .group = g->cfg.group};

	if (g->strayed.code != 0)
		event_err(g, REP_SOURCE_RESYNC, &g->strayed);
	if (j->rc == 0) {
		g->phase = PHASE_SCANNED;
		return;
	}
	if (g->over) /* the core told us so, and why */
		return;
	g->over = true;
	retry_later(g);
	(void)source_step(g->s, &e, NULL);
	event_err(g, REP_SOURCE_ABANDONED, &j->err);
}

static void end_done(struct source_group *g, const struct source_job *j)
{
	g->phase = PHASE_NONE;
	g->over = false;
	if (j->rc != 0) /* the point is durable; only what we know of it is lost */
		event_err(g, REP_SOURCE_RESYNC, &j->err);
}

static void job_done(void *arg)
{
	struct source_job *j = arg;
	struct rep_source *s = j->s;
	struct source_group *g = j->g;
	struct lb_id id;

	if (g == NULL) {
		TAILQ_REMOVE(&s->orphans, j, link);
		free(j);
		return;
	}
	id = g->cfg.group;
	g->job = NULL;
	switch (j->kind) {
	case JOB_OPEN:
		open_done(g, j);
		break;
	case JOB_BEGIN:
		begin_done(g, j);
		break;
	case JOB_SCAN:
		scan_done(g, j);
		break;
	case JOB_END:
		end_done(g, j);
		break;
	}
	free(j);
	g = source_group_find(s, &id); /* an event may have removed it */
	if (g != NULL)
		source_group_advance(g);
}

/* ---- what comes next ---- */

static void cut_sealed(struct source_group *g)
{
	struct rep_sender_event e = {.type = REP_SENDER_CUT_SEALED, .group = g->cfg.group};
	unsigned queued;

	(void)pthread_mutex_lock(&g->s->lock);
	queued = g->parts_queued;
	(void)pthread_mutex_unlock(&g->s->lock);
	if (queued != 0)
		return;
	e.sealed.manifest = g->manifest;
	e.sealed.capture_boot_ns = g->cut.capture_boot_ns;
	g->phase = PHASE_SEALED;
	(void)source_step(g->s, &e, NULL); /* LB_ENOTFOUND: over is set, or about to be */
}

static void cut_when_due(struct source_group *g)
{
	uint64_t now = source_now(g->s);

	if (!g->ready || g->stopped)
		return;
	if (!g->now && now < g->due_ns) {
		lb_timer_start(g->timer, g->due_ns - now, 0);
		return;
	}
	g->at = g->place;
	__atomic_store_n(&g->canceled, false, __ATOMIC_RELAXED);
	job_start(g, JOB_BEGIN);
}

static void stores_reopen(struct source_group *g)
{
	struct rep_sender_event e = {.type = REP_SENDER_GROUP_GONE, .group = g->cfg.group};
	uint64_t now = source_now(g->s);

	if (now < g->due_ns) {
		lb_timer_start(g->timer, g->due_ns - now, 0);
		return;
	}
	g->ready = false;
	if (g->in_core)
		(void)source_step(g->s, &e, NULL);
	g->in_core = false;
	job_start(g, JOB_OPEN);
}

void source_group_advance(struct source_group *g)
{
	if (g->job != NULL)
		return;
	lb_timer_stop(g->timer);
	if (g->acked || (g->over && g->have_cut)) {
		job_start(g, JOB_END);
		return;
	}
	g->over = false;
	if (g->digest_bad) {
		stores_reopen(g);
		return;
	}
	switch (g->phase) {
	case PHASE_NONE:
		cut_when_due(g);
		return;
	case PHASE_SCANNED:
		cut_sealed(g);
		return;
	case PHASE_OFFERED:
	case PHASE_SEALED:
		return;
	}
}

static void on_timer(void *arg)
{
	source_group_advance(arg);
}

void source_group_part_done(struct source_group *g, uint32_t bytes, bool taken)
{
	uint64_t now = source_now(g->s), span = now - g->rate_from_ns;

	if (taken) {
		g->stats.bytes_shipped += bytes;
		g->rate_bytes += bytes;
	}
	if (span >= RATE_NS) {
		uint64_t rate = (uint64_t)((double)g->rate_bytes * 1e9 / (double)span);

		g->stats.rate_bytes_per_s = (g->stats.rate_bytes_per_s + rate) / 2;
		g->rate_from_ns = now;
		g->rate_bytes = 0;
	}
	if (g->phase == PHASE_SCANNED)
		source_group_advance(g);
}

bool source_group_fleeting(const struct source_group *g, uint32_t i)
{
	bool disks = false;

	for (uint32_t k = 0; k < g->cfg.volumes && !disks; k++)
		disks = g->cfg.volume[k].kind == REP_VOLUME_DISK;
	return disks && g->cfg.volume[i].kind == REP_VOLUME_RAM;
}

bool source_volume_leads(const struct source_group *g, uint32_t i, const struct lb_hash *manifest)
{
	struct lb_hash base;

	if (!rep_digest_base(g->digest[i], &base))
		return source_group_fleeting(g, i) || rep_digest_pending(g->digest[i], manifest);
	return lb_hash_equal(&base, manifest) || rep_digest_pending(g->digest[i], manifest);
}

bool source_group_leads_to(struct source_group *g, const struct lb_hash *manifest)
{
	bool leads;

	(void)pthread_mutex_lock(&g->digest_lock);
	leads = g->digest != NULL && !g->digest_bad;
	for (uint32_t i = 0; leads && i < g->cfg.volumes; i++)
		leads = source_volume_leads(g, i, manifest);
	(void)pthread_mutex_unlock(&g->digest_lock);
	return leads;
}

/* ---- what the core wants ---- */

static void cut_over(struct source_group *g)
{
	g->over = true;
	__atomic_store_n(&g->canceled, true, __ATOMIC_RELAXED);
	(void)pthread_mutex_lock(&g->s->lock);
	(void)pthread_cond_broadcast(&g->s->room);
	(void)pthread_mutex_unlock(&g->s->lock);
}

static void on_acked(struct source_group *g, const struct rep_sender_action *a)
{
	struct rep_source_event e = event_of(g, REP_SOURCE_ACKED);

	g->acked = true;
	g->acked_manifest = a->manifest;
	g->acked_place = a->place;
	g->retry_ns = 0;
	g->stats.points_acked++;
	g->stats.last_acked_seq = a->place.seq;
	if (g->phase == PHASE_SEALED && g->at.seq == a->place.seq)
		g->stats.last_acked_capture_boot_ns = g->cut.capture_boot_ns;
	source_group_advance(g);
	e.epoch = a->place.epoch;
	e.seq = a->place.seq;
	e.manifest = a->manifest;
	e.receipt = a->receipt;
	source_event(g->s, &e); /* last: its receiver may remove the group */
}

static void on_stopped(struct source_group *g, const struct rep_sender_action *a, bool fenced)
{
	struct rep_source_event e = event_of(g, fenced ? REP_SOURCE_FENCED : REP_SOURCE_REFUSED);

	g->stopped = true;
	g->ready = false;
	cut_over(g);
	source_group_advance(g);
	e.epoch = fenced ? a->epoch : e.epoch;
	e.err = &a->err;
	source_event(g->s, &e);
}

void source_group_action(struct source_group *g, const struct rep_sender_action *a)
{
	switch (a->type) {
	case REP_SENDER_READY:
		g->ready = true;
		g->place = a->place;
		source_group_advance(g);
		return;
	case REP_SENDER_SCAN:
		g->phase = PHASE_OFFERED;
		LB_ASSERT(g->job == NULL && g->have_cut);
		*g->admit = *a->admit;
		job_start(g, JOB_SCAN);
		return;
	case REP_SENDER_ACKED:
		on_acked(g, a);
		return;
	case REP_SENDER_ABANDONED:
		cut_over(g);
		retry_later(g);
		source_group_advance(g);
		event_err(g, REP_SOURCE_ABANDONED, &a->err);
		return;
	case REP_SENDER_RESYNC:
		event_err(g, REP_SOURCE_RESYNC, &a->err);
		return;
	case REP_SENDER_REFUSED:
		event_err(g, REP_SOURCE_REFUSED, &a->err);
		return;
	case REP_SENDER_FENCED:
		on_stopped(g, a, true);
		return;
	case REP_SENDER_STOPPED:
		on_stopped(g, a, false);
		return;
	case REP_SENDER_CONNECT:
	case REP_SENDER_CLOSE:
	case REP_SENDER_SEND:
	case REP_SENDER_LINK_UP:
	case REP_SENDER_LINK_DOWN:
	case REP_SENDER_ROOM:
		return; /* not of a group */
	}
}

/* ---- add and remove ---- */

static int group_arrays(struct source_group *g, const struct rep_source_group *cfg,
			struct lb_err *err)
{
	size_t n = cfg->volumes;
	struct rep_source_volume *v = calloc(n, sizeof(*v));

	g->cfg.volume = v;
	g->dek = calloc(n, sizeof(*g->dek));
	g->key_id = calloc(n, sizeof(*g->key_id));
	g->layer = calloc(n, sizeof(*g->layer));
	g->shadow = calloc(n, sizeof(struct rep_shadow *));
	g->draft = calloc(n, sizeof(struct rep_draft *));
	g->admit = calloc(1, sizeof(*g->admit));
	if (v == NULL || g->dek == NULL || g->key_id == NULL || g->layer == NULL ||
	    g->shadow == NULL || g->draft == NULL || g->admit == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "allocate a group of %zu volumes", n);
	memcpy(v, cfg->volume, n * sizeof(*v));
	return 0;
}

int rep_source_group_add(struct rep_source *s, const struct rep_source_group *cfg,
			 struct lb_err *err)
{
	struct source_group *g;
	int rc;

	if (cfg->volumes < 1 || cfg->volumes > REP_MANIFEST_MAX_VOLUMES)
		return lb_err_set(err, LB_EINVAL, 0, "group %s has %u volumes, 1 to %u can be",
				  cfg->name, cfg->volumes, REP_MANIFEST_MAX_VOLUMES);
	if (source_group_find(s, &cfg->group) != NULL)
		return lb_err_set(err, LB_EEXIST, 0, "group %s is there already", cfg->name);
	g = calloc(1, sizeof(*g));
	if (g == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "allocate a group");
	g->s = s;
	g->cfg = *cfg;
	g->cfg.volume = NULL;
	if (g->cfg.interval_ns == 0)
		g->cfg.interval_ns = INTERVAL_NS;
	g->rate_from_ns = source_now(s);
	g->digest_bad = true; /* not open yet */
	(void)pthread_mutex_init(&g->digest_lock, NULL);
	TAILQ_INSERT_TAIL(&s->groups, g, link);
	rc = group_arrays(g, cfg, err);
	if (rc == 0)
		rc = lb_timer_create(&g->timer, s->cfg.loop, on_timer, g, err);
	if (rc != 0) {
		source_group_free(g);
		return rc;
	}
	source_group_advance(g);
	return 0;
}

static void job_orphan(struct source_group *g)
{
	struct rep_source *s = g->s;

	if (g->job == NULL)
		return;
	(void)pthread_mutex_lock(&s->lock);
	/* When the source itself goes, the pool has finished every job. One that still waits for
	 * a thread is not waited for: the threads may all be waiting for us to take parts. */
	while (g->job->started && !g->job->finished && !s->stopping)
		(void)pthread_cond_wait(&s->job_done, &s->lock);
	g->job->g = NULL;
	(void)pthread_mutex_unlock(&s->lock);
	TAILQ_INSERT_TAIL(&s->orphans, g->job, link);
	g->job = NULL;
}

void source_group_free(struct source_group *g)
{
	struct rep_source *s = g->s;

	cut_over(g);
	job_orphan(g);
	source_parts_drop(g);
	if (g->have_cut)
		g->cfg.ops->end(g->cfg.arg, &g->cut, false);
	TAILQ_REMOVE(&s->groups, g, link);
	if (g->timer != NULL)
		lb_timer_destroy(g->timer);
	for (uint32_t i = 0; g->digest != NULL && i < g->cfg.volumes; i++)
		rep_digest_close(g->digest[i]);
	for (uint32_t i = 0; g->shadow != NULL && i < g->cfg.volumes; i++)
		rep_shadow_destroy(g->shadow[i]);
	for (uint32_t i = 0; g->draft != NULL && i < g->cfg.volumes; i++)
		rep_draft_close(g->draft[i]);
	for (uint32_t i = 0; g->dek != NULL && i < g->cfg.volumes; i++)
		lb_key_wipe(&g->dek[i]);
	(void)pthread_mutex_destroy(&g->digest_lock);
	lb_buf_unref(g->manifest);
	free(g->digest);
	free(g->dek);
	free(g->key_id);
	free(g->layer);
	free(g->shadow);
	free(g->draft);
	free(g->admit);
	free((void *)(uintptr_t)g->cfg.volume);
	free(g);
}

void rep_source_group_remove(struct rep_source *s, const struct lb_id *group)
{
	struct rep_sender_event e = {.type = REP_SENDER_GROUP_GONE, .group = *group};
	struct source_group *g = source_group_find(s, group);

	if (g == NULL)
		return;
	if (g->in_core)
		(void)source_step(s, &e, NULL);
	source_group_free(g);
}
