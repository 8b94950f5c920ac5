/*
 * What a good runbook becomes; variables; the plan's arithmetic; the table's three faces in step.
 * Usage: unit_rb-lang DOCS/formats/runbook.md GOLDEN/schema.json
 */
#include <stdlib.h>

#include "base/conf.h"
#include "base/err.h"
#include "base/hash.h"
#include "check.h"
#include "runbooks/lang.h"
#include "runbooks/plan.h"
#include "runbooks/run.h"
#include "table.h"

#define S_NS 1000000000ull

static const char *doc_path, *schema_path;

static const char *full =
	"apiVersion: lifeboat/v1\nkind: Runbook\nname: full\nrto: 1h\nmodes: [failover, drill]\n"
	"vars: {ttl: 60, zone: example.com}\n"
	"maps:\n  networks: {lan: {failover: dr, drill: bubble}}\n"
	"  ips: [{from: 192.0.2.0/24, to: 198.51.100.0/24}]\n"
	"groups: [{id: g1, priority: 7, on_member_failure: ask}]\n"
	"steps:\n"
	"  - {id: f, action: fence, site: tokyo, on_timeout: continue}\n"
	"  - {id: db, action: boot, machine: erp-db, group: g1, needs: [f], point: 0123abcd, "
	"timeout: 5m,\n"
	"     retries: 2, backoff: 10s..60s, budget: 8m, modes: [failover],\n"
	"     probes: [{tcp: 5432, within: 3m}, {serial: \"login:\"}, {guest: heartbeat}]}\n"
	"  - {id: x, action: exec, run: [/bin/dns, \"${zone}\"], needs: [f], on_failure: "
	"continue}\n"
	"finally: [{id: r, action: report}]\n";

static struct rb_runbook *parse(const char *text)
{
	struct rb_runbook *rb = NULL;
	char *problems = NULL;

	if (rb_runbook_parse(&rb, "t.yaml", text, strlen(text), &problems, NULL) != 0)
		fail_msg("%s", problems);
	assert_null(problems);
	return rb;
}

static void a_runbook_holds_what_was_written(void **state)
{
	struct rb_runbook *rb = parse(full);
	const struct rb_step *s;
	struct lb_hash hash;

	(void)state;
	assert_string_equal(rb->name, "full");
	assert_int_equal(rb->rto_ns, 3600 * S_NS);
	assert_int_equal(rb->modes, 1u << RB_FAILOVER | 1u << RB_DRILL);
	assert_int_equal(rb->var_count, 2);
	assert_string_equal(rb->networks[0].to[RB_DRILL], "bubble");
	assert_string_equal(rb->networks[0].to[RB_PLANNED], "");
	assert_int_equal(rb->ips[0].from, 0xc0000200u);
	assert_int_equal(rb->ips[0].to, 0xc6336400u);
	assert_int_equal(rb->ips[0].prefix_bits, 24);
	assert_int_equal(rb->step_count, 4);
	assert_int_equal(rb->finally_first, 3);
	s = &rb->steps[0];
	assert_int_equal(s->action, RB_FENCE);
	assert_string_equal(s->site, "tokyo");
	assert_int_equal(s->on_failure, RB_POLICY_HALT);
	assert_int_equal(s->on_timeout, RB_POLICY_CONTINUE);
	assert_int_equal(s->timeout_ns, 120 * S_NS);
	assert_int_equal(s->group, RB_NO_GROUP);
	s = &rb->steps[1];
	assert_string_equal(s->point, "0123abcd");
	assert_int_equal(s->need_count, 1);
	assert_int_equal(s->needs[0], 0);
	assert_int_equal(s->on_failure, RB_POLICY_ASK); /* the group's */
	assert_int_equal(s->on_timeout, RB_POLICY_ASK);
	assert_int_equal(s->modes, 1u << RB_FAILOVER);
	assert_int_equal(s->backoff_min_ns, 10 * S_NS);
	assert_int_equal(s->backoff_max_ns, 60 * S_NS);
	assert_int_equal(s->probe_count, 3);
	assert_int_equal(s->probes[0].port, 5432);
	assert_int_equal(s->probes[0].within_ns, 180 * S_NS);
	assert_string_equal(s->probes[1].text, "login:");
	assert_int_equal(s->probes[1].within_ns, 120 * S_NS);
	assert_int_equal(s->probes[2].kind, RB_PROBE_GUEST);
	s = &rb->steps[2];
	assert_int_equal(s->run_count, 2);
	assert_null(s->run[2]);
	assert_int_equal(s->line, 16);
	assert_true(rb->steps[3].is_finally);
	assert_string_equal(rb->source, full);
	lb_sha256(&hash, full, strlen(full));
	assert_true(lb_hash_equal(&hash, &rb->source_hash));
	assert_int_equal(rb_runbook_find(rb, "x"), 2);
	assert_int_equal(rb_runbook_find(rb, "y"), RB_NO_STEP);
	assert_true(rb_runbook_edge(rb, 0, 1) && rb_runbook_edge(rb, 2, 3));
	assert_false(rb_runbook_edge(rb, 1, 0) || rb_runbook_edge(rb, 1, 2));
	rb_runbook_destroy(rb);
}

static void variables_expand_into_one_argument(void **state)
{
	static const struct rb_fact facts[] = {{"run.mode", "drill; rm -rf /"}};
	struct rb_runbook *rb = parse(full);
	struct lb_err err = {0};
	char out[32];

	(void)state;
	assert_int_equal(rb_expand(out, sizeof(out), "a${ttl}b$$${zone}", rb, facts, 1, &err), 0);
	assert_string_equal(out, "a60b$example.com");
	assert_int_equal(rb_expand(out, sizeof(out), "${run.mode}", rb, facts, 1, &err), 0);
	assert_string_equal(out, "drill; rm -rf /");
	assert_int_equal(rb_expand(out, sizeof(out), "${nope}", rb, facts, 1, &err), LB_EINPUT);
	assert_int_equal(rb_expand(out, sizeof(out), "$x", rb, facts, 1, &err), LB_EINPUT);
	assert_int_equal(rb_expand(out, sizeof(out), "${zone", rb, facts, 1, &err), LB_EINPUT);
	assert_int_equal(rb_expand(out, 11, "${zone}", rb, facts, 1, &err), LB_EINPUT);
	assert_int_equal(rb_expand(out, 12, "${zone}", rb, facts, 1, &err), 0);
	rb_runbook_destroy(rb);
}

static void foreign_text_is_refused_at_once(void **state)
{
	struct rb_runbook *rb = NULL;
	char *problems = NULL, *big = calloc(1, RB_MAX_SOURCE + 2);
	struct lb_err err = {0};

	(void)state;
	assert_non_null(big);
	memset(big, '#', RB_MAX_SOURCE + 1);
	assert_int_equal(rb_runbook_parse(&rb, "t", "a\0b", 3, &problems, &err), LB_EINPUT);
	assert_string_equal(err.msg, "t: holds a NUL byte");
	assert_int_equal(rb_runbook_parse(&rb, "t", big, RB_MAX_SOURCE + 1, &problems, &err),
			 LB_EINPUT);
	assert_string_equal(err.msg, "t: 262145 bytes, at most 262144");
	assert_null(rb);
	assert_null(problems);
	free(big);
}

static void modes_have_names(void **state)
{
	enum rb_mode m = RB_DRILL;
	struct lb_err err = {0};

	(void)state;
	assert_int_equal(rb_mode_parse(&m, "planned", &err), 0);
	assert_int_equal(m, RB_PLANNED);
	assert_int_equal(rb_mode_parse(&m, "real", &err), LB_EINPUT);
	assert_string_equal(err.msg, "mode \"real\": one of drill, failover, planned");
	assert_string_equal(rb_policy_name(RB_POLICY_ASK), "ask");
}

static const struct rb_plan_step *planned(const struct rb_plan *p, uint32_t step)
{
	for (size_t i = 0; i < p->step_count; i++)
		if (p->steps[i].step == step)
			return &p->steps[i];
	return NULL;
}

static void a_plan_has_waves_slack_and_a_critical_path(void **state)
{
	const uint64_t known[] = {10 * S_NS, 100 * S_NS, 30 * S_NS, 0};
	struct rb_runbook *rb = parse(full);
	struct rb_plan *p = NULL;

	(void)state;
	assert_int_equal(rb_plan_create(&p, rb, RB_FAILOVER, known, NULL), 0);
	assert_int_equal(p->step_count, 4);
	assert_int_equal(p->wave_count, 3);
	assert_int_equal(p->ready_ns, 110 * S_NS);
	assert_int_equal(p->total_ns, 140 * S_NS); /* report: half of its minute */
	assert_true(p->fits_rto);
	assert_int_equal(planned(p, 2)->start_ns, 10 * S_NS);
	assert_int_equal(planned(p, 2)->slack_ns, 70 * S_NS);
	assert_false(planned(p, 2)->critical);
	assert_true(planned(p, 1)->critical);
	/* three attempts of 5m and their grace, two waits of 10s and 20s */
	assert_int_equal(planned(p, 1)->worst_ns,
			 3 * (300 * S_NS + RB_CANCEL_GRACE_NS) + 30 * S_NS);
	rb_plan_destroy(p);
	p = NULL;
	assert_int_equal(rb_plan_create(&p, rb, RB_DRILL, known, NULL), 0);
	assert_null(planned(p, 1));
	assert_int_equal(p->ready_ns, 40 * S_NS);
	rb_plan_destroy(p);
	p = NULL;
	assert_int_equal(rb_plan_create(&p, rb, RB_PLANNED, known, NULL), LB_EINPUT);
	assert_null(p);
	rb_runbook_destroy(rb);
}

static void a_plan_says_when_the_goal_is_missed(void **state)
{
	const uint64_t known[] = {1800 * S_NS, 1801 * S_NS, 1, 1};
	struct rb_runbook *rb = parse(full);
	struct rb_plan *p = NULL;
	char *text;

	(void)state;
	assert_int_equal(rb_plan_create(&p, rb, RB_FAILOVER, known, NULL), 0);
	assert_false(p->fits_rto);
	text = rb_plan_text(p, rb);
	assert_non_null(strstr(text, "goal 1h: DOES NOT FIT"));
	free(text);
	rb_plan_destroy(p);
	rb_runbook_destroy(rb);
}

/* ---- one table, three faces ---- */

static char *read_text(const char *path)
{
	FILE *f = fopen(path, "rb");
	char *p = calloc(1, 1u << 20);
	size_t n;

	assert_non_null(p);
	if (f == NULL)
		return p;
	n = fread(p, 1, (1u << 20) - 1, f);
	assert_true(n < (1u << 20));
	(void)fclose(f);
	return p;
}

static void the_schema_has_every_key(void **state)
{
	char *json = rb_schema_json();
	const struct lb_conf_node *root, *defs;
	struct lb_conf *c = NULL;

	(void)state;
	assert_non_null(json);
	assert_int_equal(lb_conf_parse(&c, "schema.json", json, strlen(json), NULL), 0);
	root = lb_conf_root(c);
	defs = lb_conf_get(root, "definitions");
	for (size_t i = 0; i < rb_key_count; i++) {
		const struct rb_key *row = &rb_keys[i];
		const struct lb_conf_node *sec =
			row->sec == RB_SEC_TOP ? root : lb_conf_get(defs, rb_sec_names[row->sec]);
		const struct lb_conf_node *key;

		assert_non_null(sec);
		key = lb_conf_get(lb_conf_get(sec, "properties"), row->key);
		assert_int_equal(key != NULL, row->type != RB_KT_LATER);
	}
	lb_conf_destroy(c);
	free(json);
}

static void the_schema_is_the_one_that_was_reviewed(void **state)
{
	char *json = rb_schema_json();
	char *want;

	(void)state;
	if (getenv("LB_GOLDEN_UPDATE") != NULL) {
		FILE *f = fopen(schema_path, "wb");

		assert_non_null(f);
		(void)fputs(json, f);
		assert_int_equal(fclose(f), 0);
	}
	want = read_text(schema_path);
	assert_string_equal(json, want);
	free(want);
	free(json);
}

static void the_reference_is_the_table(void **state)
{
	char *doc = read_text(doc_path);
	char *table = rb_keys_markdown();

	(void)state;
	assert_non_null(table);
	if (strstr(doc, table) == NULL)
		fail_msg("%s does not hold this:\n%s", doc_path, table);
	free(table);
	free(doc);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_runbook_holds_what_was_written),
		cmocka_unit_test(variables_expand_into_one_argument),
		cmocka_unit_test(foreign_text_is_refused_at_once),
		cmocka_unit_test(modes_have_names),
		cmocka_unit_test(a_plan_has_waves_slack_and_a_critical_path),
		cmocka_unit_test(a_plan_says_when_the_goal_is_missed),
		cmocka_unit_test(the_schema_has_every_key),
		cmocka_unit_test(the_schema_is_the_one_that_was_reviewed),
		cmocka_unit_test(the_reference_is_the_table),
	};

	if (argc != 3)
		return 2;
	doc_path = argv[1];
	schema_path = argv[2];
	return cmocka_run_group_tests(tests, NULL, NULL);
}
