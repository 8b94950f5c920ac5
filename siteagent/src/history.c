/*
 * What a group shipped or took, and how old its newest point was, every few seconds of the last ten
 * minutes: for the small curves of a screen. It is kept in memory only and begins anew with the
 * agent.
 */
#include <jansson.h>
#include <stdlib.h>

#include "agent_int.h"
#include "base/env.h"
#include "base/loop.h"

#define EVERY_NS UINT64_C(5000000000)
#define SAMPLES  120u
#define TRACKS   1000u /* groups that have a history */

struct track {
	struct lb_id group;
	uint64_t total_bytes, at_ns; /* at the last sample; at_ns 0: none yet */
	struct {
		uint64_t rate_bytes_per_s, rpo_ns; /* rpo UINT64_MAX: not known */
	} sample[SAMPLES];
	unsigned next, count;
};

struct sa_history {
	struct sa_agent *agent;
	struct lb_timer *timer;
	struct track *track;
	size_t tracks;
};

static struct track *track_of(struct sa_history *h, const struct lb_id *group)
{
	struct track *grown;

	for (size_t i = 0; i < h->tracks; i++)
		if (lb_id_equal(&h->track[i].group, group))
			return &h->track[i];
	if (h->tracks == TRACKS)
		return NULL;
	grown = realloc(h->track, (h->tracks + 1) * sizeof(*grown));
	if (grown == NULL)
		return NULL;
	h->track = grown;
	grown[h->tracks] = (struct track){.group = *group};
	return &grown[h->tracks++];
}

static void add(struct sa_history *h, const struct lb_id *group, uint64_t total_bytes,
		uint64_t rpo_ns)
{
	struct track *t = track_of(h, group);
	uint64_t now = h->agent->env->now_ns(h->agent->env), took, grew;

	if (t == NULL)
		return;
	took = now - t->at_ns;
	/* a counter that went back began anew */
	grew = total_bytes >= t->total_bytes ? total_bytes - t->total_bytes : total_bytes;
	if (t->at_ns != 0 && took > 0) {
		t->sample[t->next].rate_bytes_per_s = (uint64_t)((double)grew * 1e9 / (double)took);
		t->sample[t->next].rpo_ns = rpo_ns;
		t->next = (t->next + 1) % SAMPLES;
		t->count += t->count < SAMPLES ? 1 : 0;
	}
	t->total_bytes = total_bytes;
	t->at_ns = now;
}

static void on_timer(void *arg)
{
	struct sa_history *h = arg;
	struct sa_agent *a = h->agent;
	struct sa_role_record rec;

	for (size_t i = 0; i < a->groups; i++) {
		const struct sa_protected *g = &a->group[i];
		struct rep_source_stats st;

		if (g->engine == NULL || !rep_source_stats(g->engine, &g->id, &st))
			continue;
		add(h, &g->id, st.bytes_shipped,
		    st.last_acked_capture_boot_ns == 0
			    ? UINT64_MAX
			    : a->env->now_ns(a->env) - st.last_acked_capture_boot_ns);
	}
	for (size_t i = 0; i < sa_roles_count(a->roles); i++) {
		uint64_t age = UINT64_MAX;

		if (!sa_roles_at(a->roles, i, &rec) || sa_protect_find(a, rec.name) != NULL)
			continue;
		(void)sa_backup_rpo(a, &rec.group, &age);
		add(h, &rec.group, sa_backup_received(a, &rec.group), age);
	}
}

int sa_history_create(struct sa_history **out, struct sa_agent *a, struct lb_err *err)
{
	struct sa_history *h = calloc(1, sizeof(*h));
	int rc;

	if (h == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "history");
	h->agent = a;
	rc = lb_timer_create(&h->timer, a->loop, on_timer, h, err);
	if (rc != 0) {
		free(h);
		return rc;
	}
	lb_timer_start(h->timer, 0, EVERY_NS);
	*out = h;
	return 0;
}

void sa_history_destroy(struct sa_history *h)
{
	if (h == NULL)
		return;
	lb_timer_destroy(h->timer);
	free(h->track);
	free(h);
}

static json_t *track_json(const struct track *t, const char *name)
{
	json_t *rate = json_array(), *rpo = json_array();

	for (unsigned i = 0; i < t->count; i++) {
		unsigned at = (t->next + SAMPLES - t->count + i) % SAMPLES;
		uint64_t age = t->sample[at].rpo_ns;

		(void)json_array_append_new(
			rate, json_integer((json_int_t)t->sample[at].rate_bytes_per_s));
		(void)json_array_append_new(rpo, age == UINT64_MAX ? json_null()
								   : json_integer((json_int_t)age));
	}
	return json_pack("{s:s, s:o, s:o}", "name", name, "shipped_bytes_per_s", rate, "rpo_ns",
			 rpo);
}

struct json_t *sa_history_json(const struct sa_history *h)
{
	json_t *list = json_array();
	struct sa_role_record rec;

	for (size_t i = 0; i < h->tracks; i++)
		if (sa_role_get(h->agent->roles, &h->track[i].group, &rec))
			(void)json_array_append_new(list, track_json(&h->track[i], rec.name));
	return json_pack("{s:I, s:o}", "every_ns", (json_int_t)EVERY_NS, "groups", list);
}
