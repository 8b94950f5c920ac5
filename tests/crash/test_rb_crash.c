/*
 * One runbook of 30 steps, killed once at every boundary there is (each side of each sync, each
 * start of a verb, before and after each effect, each answer), by a kill and by a power cut; then
 * resumed to its end.
 */
#include <stdlib.h>

#include "base/err.h"
#include "check.h"
#include "rb_world.h"

static char text[16384];

static void make_text(void)
{
	size_t len =
		(size_t)snprintf(text, sizeof(text),
				 "apiVersion: lifeboat/v1\nkind: Runbook\nname: thirty\ngroups:\n"
				 "  - {id: g1, priority: 1}\n  - {id: g2, priority: 2}\nsteps:\n"
				 "  - {id: fence, action: fence, site: tokyo}\n");

	for (unsigned i = 0; i < 27; i++) {
		const char *extra = i % 5 == 4 ? "on_failure: continue, " : "";

		if (i % 9 == 8)
			len += (size_t)snprintf(
				text + len, sizeof(text) - len,
				"  - {id: s%u, action: wait, for: 2s, needs: [fence]}\n", i);
		else
			len += (size_t)snprintf(text + len, sizeof(text) - len,
						"  - {id: s%u, action: boot, machine: m%u, group: "
						"g%u, %sneeds: [%s%u], "
						"timeout: 20s, retries: 1, backoff: 1s}\n",
						i, i, i < 14 ? 1 : 2, extra,
						i % 7 == 0 ? "fence, s" : "s", i == 0 ? 8 : i - 1);
	}
	(void)snprintf(text + len, sizeof(text) - len,
		       "finally:\n  - {id: r1, action: report}\n  - {id: r2, action: report, "
		       "needs: [r1]}\n");
	/* s0 cannot need a later step: it stands alone */
	{
		char *p = strstr(text, "needs: [fence, s8]");

		assert_non_null(p);
		memcpy(p, "needs: [fence]    ", 18);
	}
}

static enum rb_run_state once(struct rb_world *w, uint64_t seed, uint64_t k, bool cut,
			      enum rb_test_bug bug)
{
	enum rb_run_state st;

	rb_world_init(w, seed);
	w->fail_pct = seed == 1 ? 0 : 15;
	w->hang_pct = seed == 1 ? 0 : 5;
	st = rb_world_live(w, text, k, cut, bug);
	rb_world_fini(w);
	return st;
}

static uint64_t every_boundary(uint64_t seed, bool cut)
{
	static struct rb_world w;
	uint64_t k = 1;

	for (;; k++) {
		enum rb_run_state st = once(&w, seed, k, cut, RB_BUG_NONE);

		if (w.broken[0] != '\0')
			fail_msg("seed %llu, killed at boundary %llu: %s", (unsigned long long)seed,
				 (unsigned long long)k, w.broken);
		assert_true(rb_run_state_ended(st));
		if (seed == 1)
			assert_int_equal(st, RB_RUN_DONE);
		if (w.kills == 0)
			return k - 1; /* the run ended before boundary k */
	}
}

static void killed_at_every_boundary(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 3; seed++) {
		uint64_t killed = every_boundary(seed, false);
		uint64_t cut = every_boundary(seed, true);

		print_message("seed %llu: %llu kills, %llu power cuts\n", (unsigned long long)seed,
			      (unsigned long long)killed, (unsigned long long)cut);
		assert_true(killed >= 100 && cut >= 100);
	}
}

static void effect_before_log_is_caught(void **state)
{
	static struct rb_world w;
	uint64_t k = 1;

	(void)state;
	do {
		(void)once(&w, 1, k++, true, RB_BUG_EFFECT_BEFORE_LOG);
	} while (w.broken[0] == '\0' && w.kills != 0);
	print_message("caught at boundary %llu: %s\n", (unsigned long long)(k - 1), w.broken);
	assert_true(w.broken[0] != '\0');
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(killed_at_every_boundary),
		cmocka_unit_test(effect_before_log_is_caught),
	};

	make_text();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
