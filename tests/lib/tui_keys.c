#include "tui_keys.h"

#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "rnd.h"

#define S UINT64_C(1000000000)

static const char *some_word(const struct tk *k)
{
	size_t best = rnd_below(k->random, k->words);

	for (int i = 0; i < 3; i++) {
		size_t other = rnd_below(k->random, k->words);

		if (ui_app_reached(k->w->app, k->word[other].place) <
		    ui_app_reached(k->w->app, k->word[best].place))
			best = other;
	}
	return k->word[best].keys;
}

static uint32_t as_key(char c)
{
	switch (c) {
	case '\n':
		return UI_K_ENTER;
	case '<':
		return UI_K_HOME;
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

static bool confirms(const char *body, const char *site)
{
	char want[128];

	(void)snprintf(want, sizeof(want), "\"confirm\":\"%s\"", site);
	return strstr(body, want) != NULL;
}

static void check_acts(const struct tk *k, unsigned from)
{
	for (unsigned i = from; i < k->w->acts; i++) {
		const char *path = k->w->act[i % TW_ACTS].path, *body = k->w->act[i % TW_ACTS].body;

		if (strcmp(path, "/v1/runs") == 0 && strstr(body, "\"mode\":\"drill\"") == NULL &&
		    !confirms(body, k->gives_way))
			fail_msg("%s %s", path, body);
		if ((strstr(body, "\"command\":\"skip\"") != NULL ||
		     strstr(body, "\"command\":\"cancel\"") != NULL) &&
		    !confirms(body, k->here))
			fail_msg("%s %s", path, body);
	}
}

static void one_key(struct tk *k, uint32_t key)
{
	struct tui_world *w = k->w;
	unsigned acts = w->acts;
	uint64_t *r = k->random;

	tw_key(w, key);
	check_acts(k, acts);
	free(tw_screen(w));
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

static void command_output(struct tk *k)
{
	char text[64];
	struct ui_input in = {.kind = rnd_below(k->random, 3) == 0 ? UI_IN_EXIT : UI_IN_OUTPUT,
			      .rc = (int)rnd_below(k->random, 3),
			      .text = text,
			      .len = sizeof(text)};

	for (size_t i = 0; i < sizeof(text); i++)
		text[i] = (char)rnd_below(k->random, 256);
	tw_input(k->w, &in);
}

unsigned tk_run(struct tk *k, unsigned keys)
{
	unsigned typed = 0;

	while (typed < keys) {
		const char *word = some_word(k);

		if (rnd_below(k->random, 12) == 0) {
			one_key(k, random_key(k->random));
			typed++;
			continue;
		}
		k->w->away = false;
		for (; *word != '\0'; word++, typed++)
			one_key(k, as_key(*word));
		if (rnd_below(k->random, 6) == 0)
			command_output(k);
		if (k->between != NULL)
			k->between(k);
	}
	return typed;
}
