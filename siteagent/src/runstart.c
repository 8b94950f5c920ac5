/*
 * What held when a run began, for its report: per group the epoch and a bound of the RPO. Stored in
 * boots/<run8>/start.json; only the report reads it, so a failure to write it is logged and stops
 * nothing.
 */
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "base/log.h"
#include "runs_int.h"

#define START_MAX (64u << 10)

static void path_of(char out[64], const struct sa_run *s)
{
	(void)snprintf(out, 64, "boots/%.8s/start.json", s->id);
}

static json_t *group_json(const struct sa_run_group *g)
{
	char id[LB_ID_TEXT];
	json_t *o = json_pack("{s:s, s:s, s:I, s:I}", "group", lb_id_text(&g->group, id), "name",
			      g->name, "epoch_before", (json_int_t)g->epoch_before, "epoch_after",
			      (json_int_t)g->epoch_after);

	if (o != NULL && g->rpo_known)
		(void)json_object_set_new(o, "rpo_bound_ns",
					  json_integer((json_int_t)g->rpo_bound_ns));
	return o;
}

static int store(const struct sa_run *s, struct lb_err *err)
{
	struct lb_fs *fs = s->runs->agent->state;
	json_t *o = json_pack("{s:s, s:[]}", "run", s->id, "groups");
	char path[64], dir[64], *text;
	int rc;

	for (size_t i = 0; i < s->groups; i++)
		(void)json_array_append_new(json_object_get(o, "groups"), group_json(&s->group[i]));
	text = o != NULL ? json_dumps(o, JSON_INDENT(1)) : NULL;
	json_decref(o);
	path_of(path, s);
	(void)snprintf(dir, sizeof(dir), "boots/%.8s", s->id);
	rc = text == NULL ? lb_err_set(err, LB_ENOMEM, 0, "%s", path) : lb_fs_mkdir(fs, dir, err);
	if (rc == 0)
		rc = lb_fs_replace(fs, path, text, strlen(text), err);
	free(text);
	return rc;
}

static void store_or_log(const struct sa_run *s)
{
	struct lb_err err = {0};

	if (store(s, &err) != 0)
		lb_log(LB_LOG_ERROR, "run", "start_not_noted", "run=%s", s->id, "err=%s", err.msg,
		       NULL);
}

static struct sa_run_group *group_of(struct sa_run *s, const struct lb_id *group)
{
	struct sa_agent *a = s->runs->agent;
	struct sa_role_record rec;
	struct sa_run_group *g;

	for (size_t i = 0; i < s->groups; i++)
		if (lb_id_equal(&s->group[i].group, group))
			return &s->group[i];
	if (s->groups == SA_RUN_GROUPS_MAX || !sa_role_get(a->roles, group, &rec))
		return NULL;
	g = &s->group[s->groups++];
	*g = (struct sa_run_group){.group = *group, .epoch_before = rec.epoch};
	memcpy(g->name, rec.name, sizeof(g->name));
	g->rpo_known = sa_backup_rpo(a, group, &g->rpo_bound_ns);
	return g;
}

void sa_run_start_note(struct sa_run *s)
{
	const struct rb_runbook *rb = rb_run_runbook(s->run);
	struct lb_id group;

	if (s->runs->agent->store == NULL)
		return;
	for (size_t i = 0; i < rb->step_count; i++)
		if (rb->steps[i].action == RB_BOOT &&
		    sa_group_of_machine(s->runs->agent, rb->steps[i].machine, &group, NULL) == 0)
			(void)group_of(s, &group);
	if (s->groups > 0)
		store_or_log(s);
}

void sa_run_fenced(struct sa_run *s, const struct lb_id *group, uint64_t epoch)
{
	struct sa_run_group *g = group_of(s, group);

	if (g == NULL || g->epoch_after == epoch)
		return;
	g->epoch_after = epoch;
	store_or_log(s);
}

static void load_group(struct sa_run *s, const json_t *o)
{
	const char *id = json_string_value(json_object_get(o, "group"));
	const char *name = json_string_value(json_object_get(o, "name"));
	const json_t *rpo = json_object_get(o, "rpo_bound_ns");
	struct sa_run_group *g = &s->group[s->groups];

	*g = (struct sa_run_group){0};
	if (id == NULL || name == NULL || lb_id_parse(&g->group, id, NULL) != 0)
		return;
	(void)snprintf(g->name, sizeof(g->name), "%s", name);
	g->epoch_before = (uint64_t)json_integer_value(json_object_get(o, "epoch_before"));
	g->epoch_after = (uint64_t)json_integer_value(json_object_get(o, "epoch_after"));
	g->rpo_known = json_is_integer(rpo);
	g->rpo_bound_ns = (uint64_t)json_integer_value(rpo);
	s->groups++;
}

void sa_run_start_load(struct sa_run *s)
{
	const char *run;
	uint8_t *text = NULL;
	size_t len = 0, i;
	char path[64];
	json_t *o, *g;

	path_of(path, s);
	if (lb_fs_read_all(s->runs->agent->state, path, START_MAX, &text, &len, NULL) != 0)
		return;
	o = json_loadb((const char *)text, len, 0, NULL);
	run = json_string_value(json_object_get(o, "run"));
	if (run != NULL && strcmp(run, s->id) == 0)
		json_array_foreach(json_object_get(o, "groups"), i,
				   g) if (s->groups < SA_RUN_GROUPS_MAX) load_group(s, g);
	json_decref(o);
	free(text);
}
