/*
 * Weighted random keys with two real agents behind the UI's core: every view and every deed is
 * reached at least 50 times (counts are printed), nothing dangerous is asked for without its typed
 * name, and agents and UI live on. tui_live_keys OSAKA_SOCKET TOKYO_SOCKET KEYS [SEED]
 */
#include <inttypes.h>
#include <locale.h>
#include <stdlib.h>

#include "base/err.h"
#include "check.h"
#include "siteagent/ctl.h"
#include "tui_keys.h"

#define S     UINT64_C(1000000000)
#define LEAST 50u

static const char *osaka, *tokyo;
static unsigned keys;
static uint64_t seed = 20261129;

/* The backup site: two runbooks, of which the first ends in a step that fails and waits. */
static const struct tk_word at_osaka[] = {
	{"deed choose-failover", "!1F"},
	{"deed choose-drill", "!2D"},
	{"deed verify", "!4v\n"},
	{"deed verify-deep", "!4V\n"},
	{"deed export", "!4x!"},
	{"deed failover", "!5>>F\n\n\n"},
	{"deed failover", "tokyo\n"},
	{"deed drill", "!5<D\n"},
	{"deed edit", "!5>e"},
	{"deed text", "!5\n!"},
	{"deed open-run", "!!!6<\n"},
	{"view drills", "!7>\n"},
	{"deed run-retry", "!!!6<\n>>>>t\n"},
	{"deed run-retry", "!!!6<\n>>>>t\n"},
	{"deed run-skip", "!!!6<\n>>>>s"},
	{"deed run-skip", "!!!6<\n>>>>sby hand\nosaka\n"},
	{"deed run-skip", "by hand\nosaka\n"},
	{"deed run-halt", "!!!6<\nh\n"},
	{"deed run-continue", "!!!6<\nc\n"},
	{"deed run-continue", "!!!6<\nh\nc\n"},
	{"deed run-cancel", "!!!6<\nX"},
	{"deed run-cancel", "!!!6<\nXosaka\n"},
	{"deed console", "!!!6<\n<>\n"},
	{"deed console-next", "!!!6<\n<>\nn"},
	{"deed console-older", "!9{"},
	{"deed console-newer", "!9}"},
	{"deed machine-console", "!3<\n"},
	{"deed machine-console", "!3>>\n"},
	{"deed picture", "!3<s"},
	{"deed picture", "!3>>s"},
	{"deed event", "!8>\n!"},
	{"deed help", "!?fail\n"},
	{"deed command", "!:status\n!"},
	{"deed log", "!l!"},
	{"deed refresh", "!r"},
	{"deed filter", "!4/a\n!"},
	{"deed next-view", "!\t"},
	{"view sites", "!2"},
	{"deed quit", "!q"},
};

/* The primary site. */
static const struct tk_word at_tokyo[] = {
	{"deed cut", "!!!1>>c\n"},
	{"deed cut", "!!!3>>c\n"},
	{"deed machine-console", "!3>>\n"},
	{"deed machine-console", "!3<\n"},
	{"deed help", "!?poi\n"},
	{"deed picture", "!3>>s"},
	{"view sites", "!2"},
	{"view events", "!8"},
	{"deed next-view", "!\t"},
};

/* A run has begun: until it waits for its operator, or a while. */
static void let_it_run(struct tk *k)
{
	for (int i = 0; i < 300 && tw_shows(k->w, "~ RUNNING") && tw_shows(k->w, "pending") &&
			!tw_shows(k->w, "waiting");
	     i++)
		tw_pass(k->w, S / 2);
}

static void session(struct tui_world *w, const char *socket, const struct tk_word *word,
		    size_t words, unsigned count)
{
	struct tk k = {.w = w,
		       .random = &seed,
		       .word = word,
		       .words = words,
		       .gives_way = "tokyo",
		       .here = "osaka",
		       .between = let_it_run};
	struct sa_ctl *ctl;
	struct lb_err err = {0};

	assert_int_equal(sa_ctl_open(&ctl, socket, 30 * S, &err), 0);
	tw_live(w, ctl, &(const struct ui_app_cfg){.socket = socket}, 80, 24);
	tw_pass(w, 3 * S);
	count = tk_run(&k, count);
	w->away = false;
	tw_pass(w, 10 * S);
	tw_key(w, UI_K_ESC);
	tw_type(w, "1");
	tw_pass(w, 10 * S);
	assert_false(tw_shows(w, "NO ANSWER"));
	assert_false(tw_shows(w, "NO AGENT"));
	print_message("%s: %u keys, %u looks, %u requests that act\n", socket, count, w->asked,
		      w->acts);
	sa_ctl_close(ctl);
}

static void test_live_keys(void **state)
{
	struct tui_world a, b;
	char name[64];
	unsigned poor = 0;

	(void)state;
	print_message("seed %" PRIu64 "\n", seed);
	session(&a, osaka, at_osaka, sizeof(at_osaka) / sizeof(at_osaka[0]), keys);
	session(&b, tokyo, at_tokyo, sizeof(at_tokyo) / sizeof(at_tokyo[0]), keys / 5);
	for (size_t i = 0; ui_app_place(i, name, sizeof(name)); i++) {
		unsigned n = ui_app_reached(a.app, name) + ui_app_reached(b.app, name);

		print_message("%6u %s\n", n, name);
		poor += n < LEAST ? 1 : 0;
	}
	poor += a.acts + b.acts < 2 * LEAST ? 1 : 0;
	tw_fini(&a);
	tw_fini(&b);
	assert_int_equal(poor, 0);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_live_keys)};

	if (argc < 4)
		return 2;
	osaka = argv[1];
	tokyo = argv[2];
	keys = (unsigned)strtoul(argv[3], NULL, 10);
	if (argc > 4)
		seed = strtoull(argv[4], NULL, 10);
	(void)setenv("TZ", "UTC", 1);
	(void)setlocale(LC_ALL, "C.UTF-8");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
