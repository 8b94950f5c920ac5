/*
 * Each runbook of golden/runbooks beside what is said about it: every problem with its caret, or
 * the plans of its modes. LB_GOLDEN_UPDATE=1 in the environment writes the .expected files anew.
 */
#include <dirent.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/err.h"
#include "check.h"
#include "runbooks/lang.h"
#include "runbooks/plan.h"

static char *read_text(const char *path, size_t *len)
{
	FILE *f = fopen(path, "rb");
	char *p = calloc(1, RB_MAX_SOURCE + 1);

	assert_non_null(p);
	*len = 0;
	if (f == NULL)
		return p;
	*len = fread(p, 1, RB_MAX_SOURCE, f);
	(void)fclose(f);
	return p;
}

static void append(char **all, const char *text)
{
	char *joined = NULL;

	assert_true(asprintf(&joined, "%s%s", *all != NULL ? *all : "", text) >= 0);
	free(*all);
	*all = joined;
}

static char *say(const char *name, const char *text, size_t len)
{
	struct rb_runbook *rb = NULL;
	struct lb_err err = {0};
	char *problems = NULL, *all = NULL;
	int rc = rb_runbook_parse(&rb, name, text, len, &problems, &err);

	if (rc != 0) {
		assert_int_equal(rc, LB_EINPUT);
		assert_null(rb);
		append(&all, problems != NULL ? problems : err.msg);
		assert_true(err.msg[0] != '\0');
	}
	for (int m = 0; rc == 0 && m < RB_MODE_COUNT; m++) {
		struct rb_plan *p = NULL;
		char *t;

		assert_null(problems);
		if ((rb->modes & (1u << m)) == 0)
			continue;
		assert_int_equal(rb_plan_create(&p, rb, (enum rb_mode)m, NULL, &err), 0);
		t = rb_plan_text(p, rb);
		assert_non_null(t);
		append(&all, t);
		free(t);
		rb_plan_destroy(p);
	}
	free(problems);
	rb_runbook_destroy(rb);
	return all;
}

static int check_one(const char *name)
{
	char path[512];
	char *text, *want, *got;
	size_t len, want_len;
	int bad = 0;

	text = read_text(name, &len);
	got = say(name, text, len);
	(void)snprintf(path, sizeof(path), "%.*s.expected", (int)(strlen(name) - 5), name);
	if (getenv("LB_GOLDEN_UPDATE") != NULL) {
		FILE *f = fopen(path, "wb");

		assert_non_null(f);
		(void)fputs(got, f);
		assert_int_equal(fclose(f), 0);
	}
	want = read_text(path, &want_len);
	if (strcmp(want, got) != 0) {
		print_error("%s: expected:\n%s\ngot:\n%s\n", name, want, got);
		bad = 1;
	}
	if ((strncmp(name, "good", 4) == 0) != (strncmp(got, "plan of", 7) == 0)) {
		print_error("%s: accepted or refused against its name\n", name);
		bad = 1;
	}
	free(text);
	free(want);
	free(got);
	return bad;
}

static void every_runbook_is_told_about_as_written(void **state)
{
	DIR *d = opendir(".");
	struct dirent *e;
	int bad = 0, refused = 0;

	(void)state;
	assert_non_null(d);
	while ((e = readdir(d)) != NULL) {
		size_t n = strlen(e->d_name);

		if (n < 6 || strcmp(e->d_name + n - 5, ".yaml") != 0)
			continue;
		bad += check_one(e->d_name);
		refused += strncmp(e->d_name, "bad", 3) == 0 ? 1 : 0;
	}
	(void)closedir(d);
	assert_int_equal(bad, 0);
	assert_true(refused >= 25);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_runbook_is_told_about_as_written),
	};

	if (argc != 2 || chdir(argv[1]) != 0) {
		(void)fprintf(stderr, "usage: %s DIRECTORY\n", argv[0]);
		return 2;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
