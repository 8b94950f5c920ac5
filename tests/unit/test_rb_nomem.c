/*
 * Out of memory at the n-th allocation, for every n: the linker sends the calls through the __wrap_
 * functions below (tests/runbooks.cmake). What is asked for fails with LB_ENOMEM, changes nothing
 * and leaks nothing.
 */
#include <stdlib.h>

#include "base/err.h"
#include "check.h"
#include "rb_world.h"
#include "runbooks/plan.h"

static uint64_t allocations_left; /* 0: all succeed; 1: the next one fails */

static bool refuse(void)
{
	return allocations_left > 0 && --allocations_left == 0;
}

void *__real_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);
void *__real_realloc(void *p, size_t size);
void *__wrap_realloc(void *p, size_t size);
char *__real_strdup(const char *s);
char *__wrap_strdup(const char *s);

void *__wrap_calloc(size_t n, size_t size)
{
	return refuse() ? NULL : __real_calloc(n, size);
}

void *__wrap_malloc(size_t size)
{
	return refuse() ? NULL : __real_malloc(size);
}

void *__wrap_realloc(void *p, size_t size)
{
	return refuse() ? NULL : __real_realloc(p, size);
}

char *__wrap_strdup(const char *s)
{
	return refuse() ? NULL : __real_strdup(s);
}

static const char *good =
	"apiVersion: lifeboat/v1\nkind: Runbook\nname: good\nvars: {a: b}\n"
	"maps: {networks: {n: {drill: x}}, ips: [{from: 10.0.0.0/8, to: 11.0.0.0/8}]}\n"
	"groups: [{id: g, priority: 1}]\nsteps:\n"
	"  - {id: a, action: exec, run: [/bin/x, \"${a}\"], group: g}\n"
	"  - {id: b, action: boot, machine: m, needs: [a], probes: [{tcp: 1}]}\n";
static const char *bad =
	"apiVersion: lifeboat/v1\nkind: Runbook\nname: bad\nrtoo: 5m\nsteps:\n"
	"  - {id: a, action: report, needs: [b]}\n  - {id: b, action: report, needs: [a, c]}\n";

static uint64_t parse_for_every_n(const char *text, int want)
{
	for (uint64_t n = 1;; n++) {
		struct rb_runbook *rb = NULL;
		struct lb_err err = {0};
		char *problems = NULL;
		bool failed;
		int rc;

		allocations_left = n;
		rc = rb_runbook_parse(&rb, "t", text, strlen(text), &problems, &err);
		failed = allocations_left == 0;
		allocations_left = 0;
		assert_int_equal(rb != NULL, rc == 0);
		rb_runbook_destroy(rb);
		free(problems);
		if (!failed) {
			assert_int_equal(rc, want);
			return n - 1;
		}
		if (rc != LB_ENOMEM && rc != want)
			fail_msg("allocation %llu: %s", (unsigned long long)n, err.msg);
	}
}

static void parsing_survives(void **state)
{
	(void)state;
	print_message("%llu allocations of a good runbook\n",
		      (unsigned long long)parse_for_every_n(good, 0));
	print_message("%llu allocations of a bad runbook\n",
		      (unsigned long long)parse_for_every_n(bad, LB_EINPUT));
}

static void plans_and_texts_survive(void **state)
{
	struct rb_runbook *rb = NULL;
	struct rb_plan *p = NULL;
	int rc;

	(void)state;
	assert_int_equal(rb_runbook_parse(&rb, "t", good, strlen(good), NULL, NULL), 0);
	for (uint64_t n = 1; p == NULL; n++) {
		allocations_left = n;
		rc = rb_plan_create(&p, rb, RB_DRILL, NULL, NULL);
		allocations_left = 0;
		assert_int_equal(rc, p != NULL ? 0 : LB_ENOMEM);
	}
	for (int what = 0; what < 3; what++) {
		char *text = NULL;
		uint64_t n = 1;

		for (; text == NULL; n++) {
			allocations_left = n;
			text = what == 0 ? rb_plan_text(p, rb)
					 : (what == 1 ? rb_schema_json() : rb_keys_markdown());
			allocations_left = 0;
		}
		assert_true(n > 2);
		free(text);
	}
	rb_plan_destroy(p);
	rb_runbook_destroy(rb);
}

/* A life in which allocation @n fails; then the log is opened again, with memory. */
static bool live(struct rb_world *w, uint64_t n)
{
	struct rb_run_cfg cfg;
	struct lb_err err = {0};
	bool failed;
	int rc;

	rb_world_init(w, 1);
	cfg = rb_world_cfg(w, good);
	allocations_left = n;
	rc = rb_run_start(&w->run, &cfg, &err);
	if (rc == 0)
		rc = rb_run_pump(w->run, &err);
	failed = allocations_left == 0;
	allocations_left = 0;
	if (rc != 0)
		assert_int_equal(rc, LB_ENOMEM);
	rb_run_destroy(w->run);
	w->run = NULL;
	rb_world_reboot(w, false);
	if (rb_world_live(w, good, 0, false, RB_BUG_NONE) != RB_RUN_DONE && w->commands == 0)
		fail_msg("allocation %llu: %s", (unsigned long long)n, w->broken);
	rb_world_fini(w);
	return failed;
}

static void runs_survive(void **state)
{
	static struct rb_world w;
	uint64_t n = 1;

	(void)state;
	while (live(&w, n))
		n++;
	print_message("%llu allocations of a start\n", (unsigned long long)(n - 1));
	assert_true(n > 10);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(parsing_survives),
		cmocka_unit_test(plans_and_texts_survive),
		cmocka_unit_test(runs_survive),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
