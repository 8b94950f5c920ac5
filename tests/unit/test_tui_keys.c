/*
 * Twenty thousand random keys, words and answers: no crash, nothing dangerous without its typed
 * name, every view and every deed reached at least 50 times (counts are printed). test_tui_keys DIR
 * [SEED]
 */
#include <inttypes.h>
#include <locale.h>
#include <stdlib.h>

#include "check.h"
#include "rnd.h"
#include "tui_world.h"

#define KEYS_PER_VISIT 400u /* each place is reached at least once in so many keys */
#define S              UINT64_C(1000000000)

static const char *agent;
static unsigned keys;
static uint64_t seed = 20261122;

/* What leads somewhere, and where; '>' is Down, '!' Esc, '{' and '}' PgUp and PgDn. */
static const struct {
	const char *place, *keys;
} words[] = {
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
	{"deed run-skip", "osaka\n"},
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
#define WORDS (sizeof(words) / sizeof(words[0]))

/* Of a few at random the one that leads where we have been least. */
static const char *some_word(struct tui_world *w, uint64_t *r)
{
	size_t best = rnd_below(r, WORDS);

	for (int i = 0; i < 3; i++) {
		size_t other = rnd_below(r, WORDS);

		if (ui_app_reached(w->app, words[other].place) <
		    ui_app_reached(w->app, words[best].place))
			best = other;
	}
	return words[best].keys;
}

static uint32_t as_key(char c)
{
	switch (c) {
	case '\n':
		return UI_K_ENTER;
	case '>':
		return UI_K_DOWN;
	case '!':
		return UI_K_ESC;
	case '{':
		return UI_K_PAGE_UP;
	case '}':
		return UI_K_PAGE_DOWN;
	default:
		return (uint32_t)c;
	}
}

static uint32_t random_key(uint64_t *r)
{
	switch (rnd_below(r, 4)) {
	case 0:
		return (uint32_t)(UI_K_UP + rnd_below(r, UI_K_LAST - UI_K_UP + 1));
	case 1:
		return (uint32_t)rnd_below(r, 0x3000);
	default:
		return (uint32_t)(' ' + rnd_below(r, 95));
	}
}

/* U1, from outside: by the request alone. */
static void check_acts(struct tui_world *w, unsigned from)
{
	for (unsigned i = from; i < w->acts; i++) {
		const char *path = w->act[i % TW_ACTS].path, *body = w->act[i % TW_ACTS].body;

		if (strcmp(path, "/v1/runs") == 0 && strstr(body, "\"mode\":\"drill\"") == NULL &&
		    strstr(body, "\"confirm\":\"tokyo\"") == NULL)
			fail_msg("%s %s", path, body);
		if ((strstr(body, "\"command\":\"skip\"") != NULL ||
		     strstr(body, "\"command\":\"cancel\"") != NULL) &&
		    strstr(body, "\"confirm\":\"osaka\"") == NULL)
			fail_msg("%s %s", path, body);
	}
}

static void one_key(struct tui_world *w, uint64_t *r, uint32_t key)
{
	unsigned acts = w->acts;

	tw_key(w, key);
	check_acts(w, acts);
	free(tw_screen(w, false));
	if (rnd_below(r, 3) == 0)
		tw_pass(w, S / 2);
	if (rnd_below(r, 200) == 0)
		tw_size(w, (int)rnd_below(r, 210) + 1, (int)rnd_below(r, 60) + 1);
	else if (w->grid.w < 80 || w->grid.h < 15)
		tw_size(w, 80, 24);
	if (rnd_below(r, 300) == 0)
		w->away = !w->away && rnd_below(r, 2) == 0;
	w->refuse = rnd_below(r, 8) == 0;
}

static void command_output(struct tui_world *w, uint64_t *r)
{
	char text[64];
	struct ui_input in = {.kind = rnd_below(r, 3) == 0 ? UI_IN_EXIT : UI_IN_OUTPUT,
			      .rc = (int)rnd_below(r, 3),
			      .text = text,
			      .len = sizeof(text)};

	for (size_t i = 0; i < sizeof(text); i++)
		text[i] = (char)rnd_below(r, 256);
	tw_input(w, &in);
}

static void test_keys(void **state)
{
	struct tui_world w;
	uint64_t r = seed;
	char name[64];
	unsigned typed = 0;

	(void)state;
	tw_init(&w, agent, &(const struct ui_app_cfg){.socket = NULL}, 80, 24);
	tw_pass(&w, 2 * S);
	while (typed < keys) {
		const char *word = some_word(&w, &r);

		if (rnd_below(&r, 12) == 0) {
			one_key(&w, &r, random_key(&r));
			typed++;
			continue;
		}
		w.away = false;
		for (; *word != '\0'; word++, typed++)
			one_key(&w, &r, as_key(*word));
		if (rnd_below(&r, 6) == 0)
			command_output(&w, &r);
	}
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
