/*
 * Twenty thousand random keys, words and answers: no crash, nothing dangerous without its typed
 * name, every view and every deed reached at least 50 times (counts are printed). test_tui_keys DIR
 * [SEED]
 */
#include <inttypes.h>
#include <locale.h>
#include <stdlib.h>

#include "check.h"
#include "tui_keys.h"
#include "tui_world.h"

#define KEYS_PER_VISIT 400u /* each place is reached at least once in so many keys */
#define S              UINT64_C(1000000000)

static const char *agent;
static unsigned keys;
static uint64_t seed = 20261122;

static const struct tk_word words[] = {
	{"deed cut", "!1>>c\n"},
	{"deed choose-failover", "!1F"},
	{"deed choose-drill", "!2D"},
	{"deed verify", "!4v\n"},
	{"deed verify-deep", "!4V\n"},
	{"deed export", "!4x!"},
	{"deed failover", "!5>F\n\n\n"},
	{"deed failover", "tokyo\n"},
	{"deed drill", "!5>D\n"},
	{"deed edit", "!5>e"},
	{"deed text", "!5\n!"},
	{"deed open-run", "!!!6\n"},
	{"view drills", "!7>\n"},
	{"deed run-retry", "!!!6\n>>t\n"},
	{"deed run-skip", "!!!6\n>>s"},
	{"deed run-skip", "by hand\nosaka\n"},
	{"deed run-halt", "!!!6\nh\n"},
	{"deed run-continue", "!!!6\nc\n"},
	{"deed run-cancel", "!!!6\nX"},
	{"deed run-cancel", "!!!6\nXosaka\n"},
	{"deed console", "!!!6\n>\n"},
	{"deed console-next", "!9n"},
	{"deed console-older", "!9{"},
	{"deed console-newer", "!9}"},
	{"deed machine-console", "!3\n"},
	{"deed picture", "!3s"},
	{"deed event", "!8>\n!"},
	{"deed help", "!?fail\n"},
	{"deed command", "!:status\n!"},
	{"deed command", "!:po\t \t\n!"},
	{"deed log", "!l!"},
	{"deed refresh", "!r"},
	{"deed filter", "!4/a\n!"},
	{"deed next-view", "!\t"},
	{"view sites", "!2"},
	{"deed quit", "!q"},
};

static void test_keys(void **state)
{
	struct tui_world w;
	uint64_t r = seed;
	struct tk k = {.w = &w,
		       .random = &r,
		       .word = words,
		       .words = sizeof(words) / sizeof(words[0]),
		       .gives_way = "tokyo",
		       .here = "osaka"};
	char name[64];
	unsigned typed;

	(void)state;
	tw_init(&w, agent, &(const struct ui_app_cfg){.socket = NULL}, 80, 24);
	tw_pass(&w, 2 * S);
	typed = tk_run(&k, keys);
	print_message("seed %" PRIu64 ": %u keys, %u requests that act\n", seed, typed, w.acts);
	for (size_t i = 0; ui_app_place(i, name, sizeof(name)); i++)
		print_message("%6u %s\n", ui_app_reached(w.app, name), name);
	for (size_t i = 0; ui_app_place(i, name, sizeof(name)); i++)
		if (ui_app_reached(w.app, name) < keys / KEYS_PER_VISIT)
			fail_msg("%s was reached %u times only", name, ui_app_reached(w.app, name));
	assert_true(w.acts > keys / 200);
	tw_fini(&w);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_keys)};

	if (argc < 3)
		return 2;
	agent = argv[1];
	keys = (unsigned)strtoul(argv[2], NULL, 10);
	if (argc > 3)
		seed = strtoull(argv[3], NULL, 10);
	(void)setenv("TZ", "UTC", 1);
	(void)setlocale(LC_ALL, "C.UTF-8");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
