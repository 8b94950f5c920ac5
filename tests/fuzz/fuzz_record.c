/* A record's header. What decodes must encode to the same bytes. */
#include <stdlib.h>
#include <string.h>

#include "replicator/record.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct rep_record r;
	uint8_t again[REP_RECORD_HEADER_BYTES];

	if (rep_record_decode(&r, data, size, NULL) != 0)
		return 0;
	rep_record_encode(again, &r);
	if (memcmp(again, data, sizeof(again)) != 0 || rep_record_span(r.bytes) % 8 != 0)
		abort();
	return 0;
}
