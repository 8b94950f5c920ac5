/*
 * Random runbooks in a random world: steps that fail, hang or never answer, operators, deaths of
 * the engine at any boundary, kills and power cuts. Invariants R2-R6 and I18 are checked by the
 * world (lib/rb_world.c). Usage: sim_runbook_dag [--seed N]; N alone replays one.
 */
#include <stdlib.h>

#include "base/err.h"
#include "check.h"
#include "rb_world.h"
#include "rnd.h"

#define SEEDS 1000u

static uint64_t only_seed;

struct text {
	char p[32768];
	size_t len;
};

static LB_PRINTF(2, 3) void add(struct text *t, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	t->len += (size_t)vsnprintf(t->p + t->len, sizeof(t->p) - t->len, fmt, ap);
	va_end(ap);
	assert_true(t->len < sizeof(t->p));
}

static void add_needs(struct text *t, uint64_t *rng, unsigned i)
{
	const char *comma = "";

	add(t, ", needs: [");
	for (unsigned k = 0; k < i; k++) {
		if (rnd_below(rng, i) >= 2)
			continue;
		add(t, "%ss%u", comma, k);
		comma = ", ";
	}
	add(t, "]");
}

static void add_step(struct text *t, uint64_t *rng, unsigned i)
{
	static const char *const policies[] = {"halt", "continue", "ask"};
	static const char *const modes[] = {"[failover]", "[drill]", "[drill, failover]"};

	add(t, "  - {id: s%u", i);
	switch (rnd_below(rng, 5)) {
	case 0:
		add(t, ", action: fence, site: tokyo");
		break;
	case 1:
		add(t, ", action: boot, machine: m%u", i);
		break;
	case 2:
		add(t, ", action: exec, run: [/bin/x, \"${step.id}\", \"${run.id}\"]");
		break;
	case 3:
		add(t, ", action: wait, for: %us", 1 + (unsigned)rnd_below(rng, 9));
		break;
	default:
		add(t, ", action: report");
		break;
	}
	if (strstr(t->p + t->len - 20, "for: ") == NULL) {
		add(t, ", timeout: %us", 5 + (unsigned)rnd_below(rng, 20));
		if (rnd_below(rng, 2) == 0)
			add(t, ", retries: %u, backoff: 1s..8s", 1 + (unsigned)rnd_below(rng, 3));
		if (rnd_below(rng, 3) == 0)
			add(t, ", on_timeout: %s", policies[rnd_below(rng, 3)]);
	}
	if (rnd_below(rng, 2) == 0)
		add(t, ", on_failure: %s", policies[rnd_below(rng, 3)]);
	if (rnd_below(rng, 4) == 0)
		add(t, ", modes: %s", modes[rnd_below(rng, 3)]);
	add_needs(t, rng, i);
	add(t, "}\n");
}

static void make_runbook(struct text *t, uint64_t seed)
{
	uint64_t rng = seed;
	unsigned n = 1 + (unsigned)rnd_below(&rng, 24);

	t->len = 0;
	add(t, "apiVersion: lifeboat/v1\nkind: Runbook\nname: random\nsteps:\n");
	for (unsigned i = 0; i < n; i++)
		add_step(t, &rng, i);
	add(t,
	    "finally:\n  - {id: f1, action: report}\n  - {id: f2, action: report, needs: [f1]}\n");
}

static enum rb_run_state live(uint64_t seed, enum rb_test_bug bug, struct rb_world *w)
{
	static struct text t;
	enum rb_run_state st;

	make_runbook(&t, seed);
	rb_world_init(w, seed);
	w->fail_pct = (uint32_t)(seed % 4) * 12;
	w->hang_pct = (uint32_t)(seed % 3) * 8;
	w->unattended = seed % 11 == 0;
	w->cancel_pct = seed % 6 == 0 ? 30 : 0;
	w->with_query = seed % 2 == 0;
	w->kill_again = seed % 5 == 0 ? 0 : 40;
	st = rb_world_live(w, t.p, seed % 5 == 0 ? 0 : 1 + rnd_below(&seed, 30), seed % 7 < 4, bug);
	rb_world_fini(w);
	return st;
}

static void random_runs_keep_every_invariant(void **state)
{
	static struct rb_world w;
	unsigned ends[RB_RUN_ABORTED + 1] = {0};
	unsigned long kills = 0, commands = 0;
	uint64_t from = only_seed != 0 ? only_seed : 1;
	uint64_t to = only_seed != 0 ? only_seed : SEEDS;

	(void)state;
	for (uint64_t seed = from; seed <= to; seed++) {
		enum rb_run_state st = live(seed, RB_BUG_NONE, &w);

		if (w.broken[0] != '\0')
			fail_msg("seed %llu: %s", (unsigned long long)seed, w.broken);
		assert_true(rb_run_state_ended(st));
		ends[st]++;
		kills += w.kills;
		commands += w.commands;
	}
	print_message("%llu seeds: DONE %u, WITH-WARNINGS %u, FAILED %u, ABORTED %u; kills %lu, "
		      "commands %lu\n",
		      (unsigned long long)(to - from + 1), ends[RB_RUN_DONE],
		      ends[RB_RUN_DONE_WITH_WARNINGS], ends[RB_RUN_FAILED], ends[RB_RUN_ABORTED],
		      kills, commands);
	for (int st = RB_RUN_DONE; st <= RB_RUN_ABORTED; st++)
		assert_true(only_seed != 0 || ends[st] != 0);
	assert_true(only_seed != 0 || (kills > SEEDS && commands > SEEDS / 4));
}

static void every_seeded_bug_is_caught(void **state)
{
	static const char *const names[RB_BUG_COUNT] = {
		[RB_BUG_EFFECT_BEFORE_LOG] = "effect before log",
		[RB_BUG_IGNORE_NEEDS] = "ignore needs",
		[RB_BUG_RETRY_WHILE_STOPPING] = "retry while the old attempt runs",
		[RB_BUG_NEW_NAME_ON_RESUME] = "new name on resume",
		[RB_BUG_FORGET_ON_RESUME] = "forget on resume",
		[RB_BUG_SAME_GENERATION] = "same generation",
	};
	static struct rb_world w;

	(void)state;
	for (int bug = RB_BUG_NONE + 1; bug < RB_BUG_COUNT && only_seed == 0; bug++) {
		uint64_t seed = 1;

		w.broken[0] = '\0';
		while (seed <= SEEDS && w.broken[0] == '\0')
			(void)live(seed++, (enum rb_test_bug)bug, &w);
		if (w.broken[0] == '\0')
			fail_msg("%s: not caught in %u seeds", names[bug], SEEDS);
		print_message("%-34s caught at seed %llu: %s\n", names[bug],
			      (unsigned long long)(seed - 1), w.broken);
	}
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(random_runs_keep_every_invariant),
		cmocka_unit_test(every_seeded_bug_is_caught),
	};

	if (argc == 3 && strcmp(argv[1], "--seed") == 0)
		only_seed = strtoull(argv[2], NULL, 10);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
