/*
 * The shell of a run: its log file, its verbs, its listener. Disk and clock are those of rb_world,
 * the verbs are the test's own, except where a whole life is lived.
 */
#include <stdlib.h>
#include <unistd.h>

#include "base/err.h"
#include "base/hash.h"
#include "check.h"
#include "rb_world.h"
#include "runlog_codec.h"

#define S_NS 1000000000ull

static const char *two =
	"apiVersion: lifeboat/v1\nkind: Runbook\nname: two\nvars: {ttl: 60}\nsteps:\n"
	"  - {id: a, action: exec, run: [/bin/dns, \"${site.target}:${ttl}\", \"$${x}\", "
	"\"${step.id}/${step.attempt}\"], retries: 1, backoff: 1s}\n"
	"  - {id: b, action: report, needs: [a]}\n";

struct probe {
	struct rb_verbs verbs;
	struct rb_world w;
	struct rb_token last;
	char argv[256];
	unsigned starts, cancels, queries, changes;
	uint64_t wake_ns;
	bool answer_at_once, known, reissued, command_inside;
	int inside_rc;
};

static void p_start(struct rb_verbs *v, struct rb_run *run, const struct rb_effect *e)
{
	struct probe *p = (struct probe *)v;

	p->starts++;
	p->last = e->token;
	p->reissued = e->reissued;
	p->argv[0] = '\0';
	for (size_t i = 0; e->argv != NULL && e->argv[i] != NULL; i++) {
		strncat(p->argv, e->argv[i], sizeof(p->argv) - strlen(p->argv) - 1);
		strncat(p->argv, "|", sizeof(p->argv) - strlen(p->argv) - 1);
	}
	if (p->command_inside)
		p->inside_rc = rb_run_command(run, RB_CMD_HALT, NULL, "x", NULL, NULL);
	if (p->answer_at_once)
		assert_int_equal(rb_run_effect_done(run, &e->token, 0, "at once", NULL), 0);
}

static void p_cancel(struct rb_verbs *v, struct rb_run *run, const struct rb_token *t)
{
	(void)run;
	(void)t;
	((struct probe *)v)->cancels++;
}

static bool p_query(struct rb_verbs *v, const struct rb_effect *e, struct rb_result *out)
{
	struct probe *p = (struct probe *)v;

	(void)e;
	p->queries++;
	out->code = 0;
	(void)snprintf(out->detail, sizeof(out->detail), "known");
	return p->known;
}

static void p_changed(void *arg, struct rb_run *run, uint32_t step)
{
	(void)run;
	(void)step;
	((struct probe *)arg)->changes++;
}

static void p_wake(void *arg, struct rb_run *run, uint64_t at_ns)
{
	(void)run;
	((struct probe *)arg)->wake_ns = at_ns;
}

static const struct rb_fact facts[] = {{"site.source", "tokyo"}, {"site.target", "osaka"}};

static struct rb_run_cfg probe_cfg(struct probe *p)
{
	struct rb_run_cfg cfg = rb_world_cfg(&p->w, two);

	cfg.verbs = &p->verbs;
	cfg.listener = (struct rb_listener){.changed = p_changed, .wake_at = p_wake, .arg = p};
	cfg.facts = facts;
	cfg.fact_count = 2;
	return cfg;
}

static struct rb_run_cfg setup(struct probe *p)
{
	memset(p, 0, sizeof(*p));
	rb_world_init(&p->w, 7);
	p->verbs = (struct rb_verbs){.start = p_start, .cancel = p_cancel, .query = p_query};
	return probe_cfg(p);
}

static enum rb_run_state state_of(const struct rb_run *r)
{
	struct rb_run_status st;

	rb_run_status(r, &st);
	return st.state;
}

static void a_run_goes_through_and_its_log_is_a_chain(void **state)
{
	static struct probe p;
	struct rb_run_cfg cfg = setup(&p);
	struct rb_run_status st;
	struct rb_step_status ss;
	struct rb_run *r = NULL, *seen = NULL;
	struct rw_file_data *d;
	struct lb_hash prev = {0};
	size_t off = 0;

	(void)state;
	assert_int_equal(rb_run_start(&r, &cfg, NULL), 0);
	assert_int_equal(p.starts + p.changes, 0); /* no callback inside start */
	assert_int_equal(rb_run_pump(r, NULL), 0);
	assert_string_equal(p.argv, "/bin/dns|osaka:60|${x}|a/1|");
	assert_int_equal(p.wake_ns, p.w.now_ns + 300 * S_NS);
	assert_int_equal(p.last.generation, 1);
	rb_run_effect_note(r, &p.last, "63 %");
	rb_run_step_status(r, 0, &ss);
	assert_string_equal(ss.note, "63 %");
	assert_int_equal(rb_run_load(&seen, &p.w.fs, cfg.path, NULL), 0); /* while it runs */
	assert_int_equal(state_of(seen), RB_RUN_RUNNING);
	rb_run_destroy(seen);
	p.w.now_ns += 3 * S_NS;
	assert_int_equal(rb_run_effect_done(r, &p.last, 0, "done it", NULL), 0);
	assert_int_equal(p.last.step, 1);
	assert_int_equal(rb_run_effect_done(r, &p.last, 0, NULL, NULL), 0);
	rb_run_status(r, &st);
	assert_int_equal(st.state, RB_RUN_DONE);
	assert_int_equal(st.elapsed_ns, 3 * S_NS);
	assert_int_equal(st.record_count, 6); /* begin, start, result, start, result, end */
	assert_int_equal(st.ended, 2);
	assert_int_equal(p.wake_ns, UINT64_MAX);
	d = rb_world_file(&p.w, cfg.path);
	while (off < d->durable_bytes) {
		struct rb_log_header h;

		assert_true(rb_log_get_header(&h, d->durable + off, d->durable_bytes - off));
		assert_true(lb_hash_equal(&h.prev, &prev));
		lb_sha256(&prev, d->durable + off, RB_LOG_HEADER_BYTES + h.payload_bytes);
		off += RB_LOG_HEADER_BYTES + h.payload_bytes;
	}
	assert_true(lb_hash_equal(&st.head, &prev));
	rb_run_destroy(r);
	r = NULL;
	assert_int_equal(rb_run_open(&r, &cfg, NULL), 0); /* ended: nothing to take over */
	assert_int_equal(rb_run_pump(r, NULL), 0);
	rb_run_status(r, &st);
	assert_int_equal(st.record_count, 6);
	assert_string_equal(st.who, "test");
	rb_run_destroy(r);
	rb_world_fini(&p.w);
}

static void answers_from_inside_start_are_taken(void **state)
{
	static struct probe p;
	struct rb_run_cfg cfg = setup(&p);
	struct rb_run *r = NULL;

	(void)state;
	p.answer_at_once = true;
	p.command_inside = true;
	assert_int_equal(rb_run_start(&r, &cfg, NULL), 0);
	assert_int_equal(rb_run_pump(r, NULL), 0);
	assert_int_equal(state_of(r), RB_RUN_DONE);
	assert_int_equal(p.starts, 2);
	assert_int_equal(p.inside_rc, LB_EBUSY);
	rb_run_destroy(r);
	rb_world_fini(&p.w);
}

static void a_reopened_run_asks_the_verb_what_it_knows(void **state)
{
	static struct probe p;
	struct rb_run_cfg cfg = setup(&p);
	struct rb_run *r = NULL;
	struct rb_step_status ss;

	(void)state;
	assert_int_equal(rb_run_start(&r, &cfg, NULL), 0);
	assert_int_equal(rb_run_pump(r, NULL), 0);
	assert_int_equal(p.queries, 0);
	rb_run_destroy(r);
	r = NULL;
	assert_int_equal(rb_run_open(&r, &cfg, NULL), 0);
	assert_int_equal(rb_run_pump(r, NULL), 0);
	assert_int_equal(p.queries, 1);
	assert_int_equal(p.starts, 2);
	assert_true(p.reissued);
	assert_int_equal(p.last.attempt, 1);
	assert_int_equal(p.last.generation, 2);
	p.last.generation = 1; /* an answer to the engine before */
	assert_int_equal(rb_run_effect_done(r, &p.last, 0, NULL, NULL), 0);
	rb_run_destroy(r);
	r = NULL;
	p.known = true;
	assert_int_equal(rb_run_open(&r, &cfg, NULL), 0);
	assert_int_equal(rb_run_pump(r, NULL), 0);
	rb_run_step_status(r, 0, &ss);
	assert_int_equal(ss.view.state, RB_STEP_DONE);
	assert_string_equal(ss.view.detail, "known");
	assert_int_equal(p.starts, 3); /* b */
	assert_false(p.reissued);
	rb_run_destroy(r);
	rb_world_fini(&p.w);
}

static void two_engines_cannot_have_one_log(void **state)
{
	static struct probe p;
	struct rb_run_cfg cfg = setup(&p);
	struct rb_run *r = NULL, *other = NULL;

	(void)state;
	assert_int_equal(rb_run_start(&r, &cfg, NULL), 0);
	assert_int_equal(rb_run_open(&other, &cfg, NULL), LB_EBUSY);
	assert_int_equal(rb_run_start(&other, &cfg, NULL), LB_EEXIST);
	cfg.path = "other.log";
	assert_int_equal(rb_run_open(&other, &cfg, NULL), LB_ENOTFOUND);
	assert_null(other);
	rb_run_destroy(r);
	rb_world_fini(&p.w);
}

static void what_cannot_run_is_refused_before_there_is_a_log(void **state)
{
	static struct probe p;
	const struct rb_fact odd[] = {{"site.planet", "x"}};
	struct rb_run_cfg cfg = setup(&p);
	struct lb_err err = {0};
	struct rb_run *r = NULL;

	(void)state;
	cfg.facts = odd;
	cfg.fact_count = 1;
	assert_int_equal(rb_run_start(&r, &cfg, &err), LB_EINPUT);
	assert_string_equal(err.msg, "fact site.planet: not one a run is given");
	cfg.fact_count = 0;
	assert_int_equal(rb_run_start(&r, &cfg, &err), LB_EINPUT);
	assert_string_equal(err.msg, "step a, run[1]: ${site.target}: this run has no such value");
	cfg.source = "steps: []\n";
	cfg.source_bytes = strlen(cfg.source);
	assert_int_equal(rb_run_start(&r, &cfg, &err), LB_EINPUT);
	assert_null(rb_world_file(&p.w, cfg.path));
	rb_world_fini(&p.w);
}

/* "continue" accepts all that failed: naming one step does not narrow it, so it is refused. */
static void what_is_for_the_run_takes_no_step(void **state)
{
	static const enum rb_command all[] = {RB_CMD_HALT, RB_CMD_CONTINUE, RB_CMD_CANCEL};
	static struct probe p;
	struct rb_run_cfg cfg = setup(&p);
	struct lb_err err = {0};
	struct rb_run *r = NULL;

	(void)state;
	assert_int_equal(rb_run_start(&r, &cfg, NULL), 0);
	assert_int_equal(rb_run_pump(r, NULL), 0);
	assert_int_equal(rb_run_effect_done(r, &p.last, LB_EFENCED, "no", NULL), 0);
	assert_int_equal(state_of(r), RB_RUN_HALTED);
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		assert_int_equal(rb_run_command(r, all[i], "a", "me", NULL, &err), LB_EINPUT);
		assert_non_null(strstr(err.msg, "for the whole run"));
	}
	assert_int_equal(state_of(r), RB_RUN_HALTED);
	assert_int_equal(rb_run_command(r, RB_CMD_CONTINUE, NULL, "me", NULL, NULL), 0);
	rb_run_destroy(r);
	rb_world_fini(&p.w);
}

static void a_failed_sync_stops_all_effects(void **state)
{
	static struct probe p;

	(void)state;
	for (uint64_t k = 1; k <= 4; k++) {
		struct rb_run_cfg cfg = setup(&p);
		struct rb_run_status st;
		struct rb_run *r = NULL;
		int rc;

		p.w.fail_sync_at = k;
		p.answer_at_once = true;
		rc = rb_run_start(&r, &cfg, NULL);
		if (k == 1) {
			assert_int_equal(rc, LB_ENOSPC);
			assert_null(r);
			/* it was told as failed: nobody finds it and goes on with it */
			assert_int_equal(rb_run_open(&r, &cfg, NULL), LB_ENOTFOUND);
			assert_null(rb_world_file(&p.w, cfg.path));
			assert_int_equal(rb_run_start(&r, &cfg, NULL), 0);
			rb_run_destroy(r);
			rb_world_fini(&p.w);
			continue;
		}
		assert_int_equal(rb_run_pump(r, NULL), LB_ENOSPC);
		assert_int_equal(p.starts, k - 2);
		assert_int_equal(rb_run_tick(r, NULL), LB_ESUSPECT);
		assert_int_equal(rb_run_command(r, RB_CMD_HALT, NULL, "me", NULL, NULL),
				 LB_ESUSPECT);
		rb_run_status(r, &st);
		assert_string_equal(st.log_error, "sync run.log");
		rb_run_destroy(r);
		r = NULL;
		assert_int_equal(rb_run_open(&r, &cfg, NULL), 0); /* there is room again */
		assert_int_equal(rb_run_pump(r, NULL), 0);
		assert_int_equal(state_of(r), RB_RUN_DONE);
		rb_run_destroy(r);
		rb_world_fini(&p.w);
	}
}

/* A log of another version may hold more facts than this one gives. */
static void all_facts_that_a_log_may_hold_are_taken(void **state)
{
	static struct rb_log_begin b;
	static struct probe p;
	struct rb_run_cfg cfg = setup(&p);
	struct rb_record rec = {.type = RB_REC_BEGIN, .seq = 1, .generation = 1};
	struct rb_run *r = NULL;
	struct rb_log *l = NULL;

	(void)state;
	rec.step = RB_NO_STEP;
	b = (struct rb_log_begin){.mode = RB_FAILOVER,
				  .source = (const uint8_t *)cfg.source,
				  .source_bytes = cfg.source_bytes,
				  .fact_count = RB_LOG_MAX_FACTS};
	for (size_t i = 0; i < RB_LOG_MAX_FACTS; i++) {
		(void)snprintf(b.facts[i].name, sizeof(b.facts[i].name), "site.%zu", i);
		(void)snprintf(b.facts[i].value, sizeof(b.facts[i].value), "%zu", i);
	}
	(void)snprintf(b.facts[RB_LOG_MAX_FACTS - 1].name, RB_NAME_BYTES, "site.target");
	assert_int_equal(rb_log_create(&l, cfg.fs, cfg.path, NULL), 0);
	assert_int_equal(rb_log_add(l, &rec, &b, NULL), 0);
	assert_int_equal(rb_log_commit(l, NULL), 0);
	rb_log_destroy(l);
	assert_int_equal(rb_run_open(&r, &cfg, NULL), 0);
	assert_int_equal(rb_run_pump(r, NULL), 0);
	assert_string_equal(p.argv, "/bin/dns|15:60|${x}|a/1|");
	rb_run_destroy(r);
	rb_world_fini(&p.w);
}

static void a_start_that_died_is_no_run(void **state)
{
	static struct probe p;
	struct rb_run_cfg cfg = setup(&p);
	struct rb_run *r = NULL;

	(void)state;
	p.w.kill_at = 3; /* the directory, before the sync, after it */
	assert_int_equal(rb_run_start(&r, &cfg, NULL), LB_EIO);
	rb_world_reboot(&p.w, false);
	rb_world_file(&p.w, cfg.path)->cache_bytes -= 1;
	assert_int_equal(rb_run_open(&r, &cfg, NULL), LB_ENOTFOUND);
	rb_world_fini(&p.w);
}

/* ---- damage ---- */

static int count_record(void *arg, const struct rb_record *r, const struct rb_log_begin *b,
			struct lb_err *err)
{
	(void)b;
	(void)err;
	assert_int_equal(r->seq, *(uint64_t *)arg + 1);
	*(uint64_t *)arg = r->seq;
	return 0;
}

static void make_log(struct probe *p)
{
	struct rb_run_cfg cfg = setup(p);
	struct rb_run *r = NULL;

	assert_int_equal(rb_run_start(&r, &cfg, NULL), 0);
	assert_int_equal(rb_run_pump(r, NULL), 0);
	assert_int_equal(rb_run_effect_done(r, &p->last, LB_EIO, "no", NULL), 0);
	assert_int_equal(rb_run_command(r, RB_CMD_RETRY, "a", "me", "again", NULL), 0);
	assert_int_equal(rb_run_effect_done(r, &p->last, 0, "yes", NULL), 0);
	assert_int_equal(rb_run_effect_done(r, &p->last, 0, "yes", NULL), 0);
	assert_int_equal(state_of(r), RB_RUN_DONE);
	rb_run_destroy(r);
}

static void any_torn_tail_is_cut(void **state)
{
	static struct probe p;
	struct rw_file_data *d;
	uint64_t last = 0;

	(void)state;
	make_log(&p);
	d = rb_world_file(&p.w, "run.log");
	for (size_t len = 0; len <= d->durable_bytes; len++) {
		struct rb_log_end end;
		uint64_t seq = 0;

		assert_int_equal(rb_log_scan(d->durable, len, count_record, &seq, &end, NULL), 0);
		assert_true(end.valid_bytes <= len && end.seq == seq && seq >= last);
		last = seq;
	}
	assert_int_equal(last, 9);
	rb_world_fini(&p.w);
}

static void any_flip_before_the_tail_is_damage(void **state)
{
	static struct probe p;
	struct rw_file_data *d;
	struct rb_log_header h;
	size_t off = 0, tail = 0;
	unsigned flips = 0;

	(void)state;
	make_log(&p);
	d = rb_world_file(&p.w, "run.log");
	for (; off < d->durable_bytes; off += RB_LOG_HEADER_BYTES + h.payload_bytes) {
		assert_true(rb_log_get_header(&h, d->durable + off, d->durable_bytes - off));
		if (h.batch_first == h.seq)
			tail = off; /* begin of the newest batch */
	}
	for (size_t at = 0; at < d->durable_bytes; at++) {
		struct rb_log_end end;
		uint64_t seq = 0;
		int rc;

		d->durable[at] ^= (uint8_t)(1u << (at % 8));
		rc = rb_log_scan(d->durable, d->durable_bytes, count_record, &seq, &end, NULL);
		if (at < tail)
			assert_int_equal(rc, LB_ECORRUPT);
		else if (rc == 0)
			assert_true(end.valid_bytes <= at);
		d->durable[at] ^= (uint8_t)(1u << (at % 8));
		flips++;
	}
	print_message("%u flips\n", flips);
	rb_world_fini(&p.w);
}

static void damage_is_named_and_nothing_is_changed(void **state)
{
	static struct probe p;
	struct rb_run_cfg cfg;
	struct rw_file_data *d;
	struct lb_err err = {0};
	struct rb_run *r = NULL;
	size_t len;

	(void)state;
	make_log(&p);
	cfg = probe_cfg(&p);
	d = rb_world_file(&p.w, "run.log");
	len = d->cache_bytes;
	d->cache[100] ^= 1;
	assert_int_equal(rb_run_open(&r, &cfg, &err), LB_ECORRUPT);
	assert_string_equal(err.msg, "run.log: run log: record 1 at byte 0 is damaged");
	assert_int_equal(d->cache_bytes, len);
	rb_world_fini(&p.w);
}

static void a_header_is_these_bytes(void **state)
{
	uint8_t out[RB_LOG_HEADER_BYTES];
	struct rb_log_header h = {
		.version = 1,
		.type = RB_REC_START,
		.payload_bytes = 8,
		.generation = 1,
		.seq = 2,
		.batch_first = 2,
		.t_ns = 1000000000,
		.wall_ns = 1700000000000000000ull,
	};
	uint8_t payload[8];
	struct lb_wr wr = lb_wr_init(payload, sizeof(payload));
	struct rb_record r = {.type = RB_REC_START, .step = 3, .attempt = 1};

	(void)state;
	rb_log_put_payload(&wr, &r, NULL);
	assert_true(lb_wr_done(&wr));
	check_hex(payload, wr.len, "0300000001000000");
	h.payload_crc = lb_crc32c(0, payload, wr.len);
	memset(&h.prev, 0x11, sizeof(h.prev));
	rb_log_put_header(out, &h);
	check_hex(out, sizeof(out),
		  "4c42524c01000a00080000000100000002000000000000000200000000000000"
		  "00ca9a3b0000000000002a36fe9c971711111111111111111111111111111111"
		  "111111111111111111111111111111115b9f298ab0c45106");
}

/* ---- a real directory ---- */

static void a_run_survives_in_a_real_directory(void **state)
{
	static struct probe p;
	struct rb_run_cfg cfg = setup(&p);
	char dir[] = "/tmp/rb-run-XXXXXX";
	struct lb_fs *fs = NULL;
	struct rb_run *r = NULL, *other = NULL;

	(void)state;
	assert_non_null(mkdtemp(dir));
	assert_int_equal(lb_fs_dir_create(&fs, dir, NULL), 0);
	assert_int_equal(lb_fs_mkdir(fs, "runs", NULL), 0);
	cfg.fs = fs;
	cfg.path = "runs/1.log";
	assert_int_equal(rb_run_start(&r, &cfg, NULL), 0);
	assert_int_equal(rb_run_pump(r, NULL), 0);
	assert_int_equal(rb_run_open(&other, &cfg, NULL), LB_EBUSY);
	rb_run_destroy(r);
	r = NULL;
	assert_int_equal(rb_run_open(&r, &cfg, NULL), 0);
	p.answer_at_once = true;
	assert_int_equal(rb_run_pump(r, NULL), 0);
	assert_int_equal(state_of(r), RB_RUN_DONE);
	rb_run_destroy(r);
	assert_int_equal(lb_fs_unlink(fs, "runs/1.log", NULL), 0);
	lb_fs_destroy(fs);
	(void)chdir(dir);
	(void)rmdir("runs");
	(void)rmdir(dir);
	rb_world_fini(&p.w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_run_goes_through_and_its_log_is_a_chain),
		cmocka_unit_test(answers_from_inside_start_are_taken),
		cmocka_unit_test(a_reopened_run_asks_the_verb_what_it_knows),
		cmocka_unit_test(two_engines_cannot_have_one_log),
		cmocka_unit_test(what_cannot_run_is_refused_before_there_is_a_log),
		cmocka_unit_test(what_is_for_the_run_takes_no_step),
		cmocka_unit_test(a_failed_sync_stops_all_effects),
		cmocka_unit_test(all_facts_that_a_log_may_hold_are_taken),
		cmocka_unit_test(a_start_that_died_is_no_run),
		cmocka_unit_test(any_torn_tail_is_cut),
		cmocka_unit_test(any_flip_before_the_tail_is_damage),
		cmocka_unit_test(damage_is_named_and_nothing_is_changed),
		cmocka_unit_test(a_header_is_these_bytes),
		cmocka_unit_test(a_run_survives_in_a_real_directory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
