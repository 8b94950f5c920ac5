/*
 * payload_check PAGES SEED < console: does every "c STEP HASH" line of the test guest (prog=chain,
 * tests/guests/payload) say what the chain gives? The chain is computed here from its beginning, so
 * a guest that went on from a checkpoint passes only if its memory, registers and position were of
 * one instant. Prints "FIRST LAST" (steps); exit 1 with the line that is wrong.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "payload.h"

int main(int argc, char **argv)
{
	uint64_t words = argc == 3 ? strtoull(argv[1], NULL, 10) * PAYLOAD_PAGE_WORDS : 0;
	struct payload_chain c = {.x = argc == 3 ? strtoull(argv[2], NULL, 10) : 0};
	uint64_t *table, step, hash, first = 0;
	char line[256];
	int rc = 0;

	table = words > 0 ? calloc(words, sizeof(*table)) : NULL;
	if (table == NULL) {
		(void)fprintf(stderr, "usage: payload_check PAGES SEED < console\n");
		return 2;
	}
	while (rc == 0 && fgets(line, sizeof(line), stdin) != NULL) {
		char end;

		/* the last line may be cut off: it is none then */
		if (sscanf(line, "c %" SCNu64 " %16" SCNx64 "%c", &step, &hash, &end) != 3 ||
		    end != '\n')
			continue;
		first = first == 0 ? step : first;
		while (c.step < step)
			payload_chain_step(&c, table, words);
		if (c.step != step || c.h != hash) {
			(void)fprintf(stderr, "wrong after %" PRIu64 ": %s", c.step, line);
			rc = 1;
		}
	}
	if (rc == 0 && first != 0)
		(void)printf("%" PRIu64 " %" PRIu64 "\n", first, c.step);
	free(table);
	return first == 0 ? 1 : rc;
}
