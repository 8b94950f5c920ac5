/*
 * tests/lib/tui_keys.h - weighted random keys for the UI's core: words that lead somewhere, of a
 * few at random the one that leads where we have been least, and keys that mean nothing.
 *
 * After each key the screen is drawn, and what the UI asked the agent to do is checked from outside
 * (U1): nothing dangerous without its typed name.
 */
#ifndef TESTS_TUI_KEYS_H
#define TESTS_TUI_KEYS_H

#include <stddef.h>
#include <stdint.h>

#include "tui_world.h"

/* What leads somewhere, and where. '\n' is Enter, '<' Home, '>' Down, '!' Esc, '{' and '}' PgUp and
 * PgDn. */
struct tk_word {
	const char *place, *keys;
};

struct tk {
	struct tui_world *w;
	uint64_t *random;
	const struct tk_word *word;
	size_t words;
	const char *gives_way; /* the site whose name a failover wants */
	const char *here;      /* the name that what harms this site wants */
	/* After each word; may be NULL. */
	void (*between)(struct tk *k);
};

/* At least @keys of them. Returns how many. */
unsigned tk_run(struct tk *k, unsigned keys);

#endif
