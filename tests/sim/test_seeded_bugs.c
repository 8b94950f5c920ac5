/*
 * sim.seeded-bugs: the cores once more, with one mistake each (replicator/src/test_bugs.h). The
 * simulator must find every one of them within --seeds N seeds; without any it must find nothing in
 * the same seeds. A failed assertion of the product counts: it stops before harm is done.
 *
 *   --bug NAME    only this one, --seeds N (default 60), --from SEED (default 1)
 */
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sim.h"
#include "test_bugs.h"

struct rep_test_bugs rep_test_bugs;

enum found {
	FOUND_NOTHING = 0,
	FOUND_VIOLATION = 3
};

static bool seed_bug(const char *name)
{
#define SEED_BUG(bug)                     \
	if (strcmp(name, #bug) == 0) {    \
		rep_test_bugs.bug = true; \
		return true;              \
	}
	REP_TEST_BUGS(SEED_BUG)
#undef SEED_BUG
	return false;
}

/* In a process of its own: the first seed that finds something ends it. */
static void hunt(uint64_t from, uint64_t seeds)
{
	for (uint64_t seed = from; seed < from + seeds; seed++) {
		struct sim_opts o = {.seed = seed, .cuts = 200, .faults = 20};
		struct sim_result r;

		printf("seed %" PRIu64 ": ", seed);
		(void)fflush(stdout);
		if (sim_run(&r, &o) != 0) {
			printf("%s", r.violation);
			(void)fflush(stdout);
			_exit(FOUND_VIOLATION);
		}
		printf("nothing\r");
	}
	_exit(FOUND_NOTHING);
}

/* Is what the child did a find? @text gets its last words. */
static bool run_child(const char *bug, uint64_t from, uint64_t seeds, char *text, size_t cap)
{
	ssize_t got = 0, n;
	int pipe_fd[2], status;
	char *line;
	pid_t pid;

	if (pipe(pipe_fd) != 0)
		return false;
	(void)fflush(stdout);
	pid = fork();
	if (pid == 0) {
		(void)dup2(pipe_fd[1], STDOUT_FILENO);
		(void)dup2(pipe_fd[1], STDERR_FILENO);
		(void)close(pipe_fd[0]);
		(void)close(pipe_fd[1]);
		if (bug)
			(void)seed_bug(bug);
		hunt(from, seeds);
	}
	(void)close(pipe_fd[1]);
	while ((n = read(pipe_fd[0], text + got, cap - 1 - (size_t)got)) > 0)
		got += n;
	text[got] = '\0';
	(void)close(pipe_fd[0]);
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return false;
	line = strrchr(text, '\r');
	if (line)
		memmove(text, line + 1, strlen(line + 1) + 1);
	return (WIFEXITED(status) && WEXITSTATUS(status) == FOUND_VIOLATION) ||
	       (WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

int main(int argc, char **argv)
{
	static const char *const all[] = {
#define BUG_NAME(bug) #bug,
		REP_TEST_BUGS(BUG_NAME)
#undef BUG_NAME
	};
	const char *only = NULL;
	static char text[65536];
	uint64_t seeds = 60, from = 1;
	unsigned caught = 0, missed = 0;

	for (int i = 1; i + 1 < argc; i += 2) {
		if (strcmp(argv[i], "--bug") == 0)
			only = argv[i + 1];
		else if (strcmp(argv[i], "--seeds") == 0)
			seeds = strtoull(argv[i + 1], NULL, 10);
		else if (strcmp(argv[i], "--from") == 0)
			from = strtoull(argv[i + 1], NULL, 10);
	}
	if (!only && run_child(NULL, from, seeds / 6 + 1, text, sizeof(text))) {
		printf("without a bug: %s\n", text);
		return 1;
	}
	for (unsigned i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		bool found;

		if (only && strcmp(only, all[i]) != 0)
			continue;
		found = run_child(all[i], from, seeds, text, sizeof(text));
		printf("%-22s %s%s\n", all[i], found ? "caught by " : "MISSED", found ? text : "");
		caught += found;
		missed += !found;
	}
	printf("%u of %u seeded bugs caught, each within %" PRIu64 " seeds\n", caught,
	       caught + missed, seeds);
	return missed > 0 || caught == 0;
}
