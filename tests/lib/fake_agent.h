/*
 * tests/lib/fake_agent.h - the control API on a unix socket, answered from the JSON files of
 * tui_world.h, or not: silent, nonsense, too much.
 */
#ifndef TESTS_FAKE_AGENT_H
#define TESTS_FAKE_AGENT_H

enum fake_agent_mood {
	FAKE_GOOD,
	FAKE_NONSENSE, /* bytes that are no JSON */
	FAKE_OTHER,    /* JSON of the wrong kind */
	FAKE_SILENT,   /* takes the question and never answers */
	FAKE_LARGE,    /* 17 MiB */
	FAKE_SHORT,    /* closes in the middle of the body */
};

struct fake_agent;

struct fake_agent *fake_agent_start(const char *socket_path, const char *dir);
void fake_agent_mood(struct fake_agent *f, enum fake_agent_mood mood);
unsigned fake_agent_posts(struct fake_agent *f); /* so far */
void fake_agent_stop(struct fake_agent *f);

#endif
