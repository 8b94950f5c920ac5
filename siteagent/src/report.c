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

static json_t *boot_json(const struct sa_boot *b)
{
	char hex[LB_HASH_TEXT];

	return json_pack("{s:s, s:s, s:s, s:I, s:I}", "machine", b->machine, "domain", b->domain,
			 "point", lb_hash_text(&b->point, hex), "seq", (json_int_t)b->point_seq,
			 "captured_wall_ns", (json_int_t)b->point_wall_ns);
}

static json_t *step_json(struct sa_run *r, uint32_t i)
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
		(void)json_object_set_new(o, "boot", boot_json(b));
	return o;
}

struct json_t *sa_run_report_json(struct sa_run *r)
{
	struct rb_run_status st;
	char head[LB_HASH_TEXT];
	json_t *steps = json_array(), *o;

	rb_run_status(r->run, &st);
	for (uint32_t i = 0; i < st.step_count; i++)
		(void)json_array_append_new(steps, step_json(r, i));
	o = json_pack("{s:i, s:s, s:s, s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:i, s:b, s:I, s:s, s:o}",
		      "format", 1, "id", r->id, "site", r->runs->agent->cfg->site, "runbook",
		      st.name, "mode", rb_mode_name(st.mode), "state", rb_run_state_name(st.state),
		      "who", st.who != NULL ? st.who : "", "began_wall_ns",
		      (json_int_t)st.began_wall_ns, "elapsed_ns", (json_int_t)st.elapsed_ns,
		      "rto_ns", (json_int_t)st.rto_ns, "generation", (int)st.generation,
		      "in_finally", st.in_finally, "records", (json_int_t)st.record_count,
		      "log_head", lb_hash_text(&st.head, head), "steps", steps);
	if (o != NULL && st.log_error != NULL && st.log_error[0] != '\0')
		(void)json_object_set_new(o, "log_error", json_string(st.log_error));
	return o;
}
