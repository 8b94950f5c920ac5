/*
 * Word deltas from the wire: any bytes either fail or change a block inside its bounds, and what
 * they make is what our own delta makes of the two blocks. The first byte chooses the block: any
 * bytes there, or zeros.
 */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "rnd.h"
#include "word_delta_int.h"

#define INPUT_MAX 8192u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t base[REP_BLOCK_BYTES] = {0}, now[REP_BLOCK_BYTES], again[REP_BLOCK_BYTES];
	uint8_t delta[REP_BLOCK_BYTES], *copy;
	uint64_t rnd = 1;
	uint32_t len;

	if (size < 1 || size > INPUT_MAX)
		return 0;
	if ((data[0] & 1) != 0)
		rnd_fill(&rnd, base, sizeof(base));
	size--;
	copy = malloc(size != 0 ? size : 1); /* ends where the delta ends, for the sanitizer */
	LB_ASSERT(copy != NULL);
	memcpy(copy, data + 1, size);
	memcpy(now, base, sizeof(now));
	if (rep_word_delta_apply(now, copy, size, NULL) == 0) {
		/* Ours leaves out the words that stay, and a piece is shorter than a word. */
		len = rep_word_delta_encode(delta, sizeof(delta), base, now);
		LB_ASSERT(len <= size);
		memcpy(again, base, sizeof(again));
		if (len > 0 && len <= sizeof(delta))
			LB_ASSERT(rep_word_delta_apply(again, delta, len, NULL) == 0);
		LB_ASSERT(len > sizeof(delta) || memcmp(again, now, sizeof(now)) == 0);
	}
	free(copy);
	return 0;
}
