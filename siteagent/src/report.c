/*
 * A run as JSON: for the API, the terminal, and as the report that the report step leaves in
 * <state_dir>/reports.
 */
#include <jansson.h>

#include "base/env.h"
#include "runs_int.h"

static const struct sa_boot *boot_of(const struct sa_run *r, uint32_t step)
{
	for (const struct sa_boot *b = r->boots; b != NULL; b = b->next)
		if (b->step == step)
			return b;
	return NULL;
}

static const struct sa_run_group *group_of(const struct sa_run *r, const struct lb_id *group)
{
	for (size_t i = 0; i < r->groups; i++)
		if (lb_id_equal(&r->group[i].group, group))
			return &r->group[i];
	return NULL;
}

static void set(json_t *o, const char *key, json_t *value)
{
	(void)json_object_set_new(o, key, value);
}

/*
 * Two numbers for what is lost. The estimate compares two sites' wall clocks: how old the booted
 * point was when the run began. The bound is this site's own, from receipts and boot clocks alone
 * (sa_backup_rpo), but of the newest point at that time and known only while its agent runs.
 */
static void set_rpo(const struct sa_run *r, const struct sa_boot *b, uint64_t began_wall_ns,
		    json_t *o)
{
	const struct sa_run_group *g = group_of(r, &b->group);

	if (began_wall_ns >= b->point_wall_ns)
		set(o, "rpo_estimate_ns",
		    json_integer((json_int_t)(began_wall_ns - b->point_wall_ns)));
	else /* taken after the begin (a drill), or the clocks disagree */
		set(o, "rpo_estimate_ns", json_integer(0));
	set(o, "rpo_is_estimate", json_true());
	set(o, "rpo_bound_at_start_ns",
	    g != NULL && g->rpo_known ? json_integer((json_int_t)g->rpo_bound_ns) : json_null());
}

static json_t *boot_json(const struct sa_run *r, const struct sa_boot *b, uint64_t began_wall_ns)
{
	char hex[LB_HASH_TEXT];
	json_t *o =
		json_pack("{s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:I}", "machine", b->machine,
			  "domain", b->domain, "state", sa_boot_state_name(b->state), "point",
			  lb_hash_text(&b->point, hex), "seq", (json_int_t)b->point_seq, "attempt",
			  (json_int_t)b->attempt, "captured_wall_ns", (json_int_t)b->point_wall_ns,
			  "booted_wall_ns", (json_int_t)b->booted_wall_ns);

	if (o == NULL)
		return NULL;
	set_rpo(r, b, began_wall_ns, o);
	if (b->isolation[0] != '\0')
		set(o, "isolation",
		    json_pack("{s:b, s:s}", "isolated", (int)b->isolated, "evidence",
			      b->isolation));
	return o;
}

static json_t *groups_json(const struct sa_run *r)
{
	json_t *list = json_array();

	for (size_t i = 0; i < r->groups; i++) {
		const struct sa_run_group *g = &r->group[i];
		json_t *o = json_pack("{s:s, s:I}", "name", g->name, "epoch_before",
				      (json_int_t)g->epoch_before);

		set(o, "epoch_after",
		    json_integer(
			    (json_int_t)(g->epoch_after != 0 ? g->epoch_after : g->epoch_before)));
		set(o, "rpo_bound_at_start_ns",
		    g->rpo_known ? json_integer((json_int_t)g->rpo_bound_ns) : json_null());
		(void)json_array_append_new(list, o);
	}
	return list;
}

/* From the order to the last green probe; false while one of the machines is not there. */
static bool rto_achieved(const struct sa_run *r, size_t steps, uint64_t *out)
{
	struct rb_step_status st;
	bool any = false;

	*out = 0;
	for (uint32_t i = 0; i < steps; i++) {
		rb_run_step_status(r->run, i, &st);
		if (st.view.state == RB_STEP_NOT_IN_MODE ||
		    (st.step->action != RB_BOOT && st.step->action != RB_PROBE))
			continue;
		if (st.view.state != RB_STEP_DONE)
			return false;
		any = true;
		if (st.view.end_ns > *out)
			*out = st.view.end_ns;
	}
	return any;
}

static void set_rto(const struct sa_run *r, const struct rb_run_status *st, json_t *o)
{
	uint64_t took;
	bool all_up = rto_achieved(r, st->step_count, &took);

	set(o, "rto_achieved_ns", all_up ? json_integer((json_int_t)took) : json_null());
	if (st->rto_ns != 0)
		set(o, "rto_met", json_boolean(all_up && took <= st->rto_ns));
}

static json_t *step_json(struct sa_run *r, uint32_t i, uint64_t began_wall_ns)
{
	struct rb_step_status st;
	const struct sa_boot *b = boot_of(r, i);
	json_t *o;

	rb_run_step_status(r->run, i, &st);
	o = json_pack("{s:s, s:s, s:s, s:i, s:I, s:I, s:I, s:s, s:s, s:b, s:b}", "id", st.step->id,
		      "action", rb_action_name(st.step->action), "state",
		      rb_step_state_name(st.view.state), "attempt", (int)st.view.attempt,
		      "first_ns", (json_int_t)st.view.first_ns, "end_ns",
		      (json_int_t)st.view.end_ns, "budget_ns", (json_int_t)st.step->budget_ns,
		      "detail", st.view.detail != NULL ? st.view.detail : "", "note",
		      st.note != NULL ? st.note : "", "late", st.view.late, "finally",
		      st.step->is_finally);
	if (o == NULL)
		return json_pack("{s:s}", "id", st.step->id);
	if (st.view.code != 0)
		(void)json_object_set_new(o, "code", json_string(lb_err_name(st.view.code)));
	if (st.view.reason != NULL && st.view.reason[0] != '\0')
		(void)json_object_set_new(o, "reason", json_string(st.view.reason));
	if (st.step->machine[0] != '\0')
		(void)json_object_set_new(o, "machine", json_string(st.step->machine));
	if (b != NULL)
		(void)json_object_set_new(o, "boot", boot_json(r, b, began_wall_ns));
	return o;
}

struct json_t *sa_run_report_json(struct sa_run *r)
{
	struct rb_run_status st;
	char head[LB_HASH_TEXT];
	json_t *steps = json_array(), *o;

	rb_run_status(r->run, &st);
	for (uint32_t i = 0; i < st.step_count; i++)
		(void)json_array_append_new(steps, step_json(r, i, st.began_wall_ns));
	o = json_pack("{s:i, s:s, s:s, s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:i, s:b, s:I, s:s, s:o}",
		      "format", 1, "id", r->id, "site", r->runs->agent->cfg->site, "runbook",
		      st.name, "mode", rb_mode_name(st.mode), "state", rb_run_state_name(st.state),
		      "who", st.who != NULL ? st.who : "", "began_wall_ns",
		      (json_int_t)st.began_wall_ns, "elapsed_ns", (json_int_t)st.elapsed_ns,
		      "rto_ns", (json_int_t)st.rto_ns, "generation", (int)st.generation,
		      "in_finally", st.in_finally, "records", (json_int_t)st.record_count,
		      "log_head", lb_hash_text(&st.head, head), "steps", steps);
	if (o == NULL)
		return NULL;
	set(o, "groups", groups_json(r));
	set_rto(r, &st, o);
	if (st.log_error != NULL && st.log_error[0] != '\0')
		(void)json_object_set_new(o, "log_error", json_string(st.log_error));
	return o;
}
