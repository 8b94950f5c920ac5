/*
 * Any bytes as a configuration: parsed, walked, filled into a table and rendered. What must hold,
 * besides no crash: a root that is a map or what was written, and never a success with problems
 * untold.
 */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/assert.h"
#include "base/conf.h"

struct cfg {
	char text[16];
	char name[65];
	uint64_t number;
	uint64_t bytes;
	uint64_t ns;
	bool flag;
	int mode;
};

static const struct lb_conf_field fields[] = {
	{.key = "text", .type = LB_CT_STR, .offset = offsetof(struct cfg, text), .size = 16},
	{.key = "name",
	 .type = LB_CT_NAME,
	 .offset = offsetof(struct cfg, name),
	 .size = 65,
	 .dflt = "n"},
	{.key = "number",
	 .type = LB_CT_U64,
	 .offset = offsetof(struct cfg, number),
	 .min = 1,
	 .max = 100,
	 .dflt = "1"},
	{.key = "bytes", .type = LB_CT_BYTES, .offset = offsetof(struct cfg, bytes), .dflt = "1"},
	{.key = "ns", .type = LB_CT_DURATION, .offset = offsetof(struct cfg, ns), .dflt = "1s"},
	{.key = "flag", .type = LB_CT_BOOL, .offset = offsetof(struct cfg, flag), .dflt = "true"},
	{.key = "mode",
	 .type = LB_CT_ENUM,
	 .offset = offsetof(struct cfg, mode),
	 .choices = "hot|sealed",
	 .dflt = "hot"},
	{0},
};

static size_t walk(const struct lb_conf_node *n)
{
	size_t sum = lb_conf_line(n) + lb_conf_column(n);

	LB_ASSERT(lb_conf_line(n) >= 1 && lb_conf_column(n) >= 1);
	if (lb_conf_kind(n) == LB_CONF_SCALAR)
		return sum + strlen(lb_conf_text(n));
	for (size_t i = 0; i < lb_conf_count(n); i++) {
		if (lb_conf_kind(n) == LB_CONF_MAP) {
			LB_ASSERT(lb_conf_get(n, lb_conf_key(n, i)) != NULL);
			sum += walk(lb_conf_key_node(n, i));
		}
		sum += walk(lb_conf_item(n, i));
	}
	return sum;
}

/* libfyaml 0.7.12 leaks a buffer of a few KiB on some malformed quoted keys (corpus: fyaml_leak).
 * That is its bug, seen once per refused file; our own leaks are still reported. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
	return "leak:libfyaml.so\n";
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct lb_conf *c = NULL;
	struct lb_err err = {0};
	struct cfg cfg = {0};
	int rc = lb_conf_parse(&c, "fuzz.yaml", (const char *)data, size, &err);

	if (c == NULL)
		return 0;
	LB_ASSERT(rc == 0 || lb_conf_problem_count(c) > 0);
	(void)walk(lb_conf_root(c));
	lb_conf_fill(c, lb_conf_root(c), fields, NULL, &cfg);
	LB_ASSERT((lb_conf_check(c, &err) == 0) == (lb_conf_problem_count(c) == 0));
	LB_ASSERT((lb_conf_problems(c)[0] == 0) == (lb_conf_problem_count(c) == 0));
	LB_ASSERT(lb_conf_problem_count(c) > 0 || (cfg.number >= 1 && cfg.number <= 100));
	lb_conf_destroy(c);
	return 0;
}
