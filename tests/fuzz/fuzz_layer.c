/* The clear parts of a layer; the first byte says which: header, index, leaves, footer. What
 * decodes must encode to the same bytes. */
#include <stdlib.h>
#include <string.h>

#include "format_fix.h"
#include "replicator/layer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void header(const uint8_t *p, size_t len)
{
	struct rep_layer_header h;
	uint8_t again[REP_LAYER_HEADER_BYTES];

	if (rep_layer_header_decode(&h, p, len, NULL) != 0)
		return;
	rep_layer_header_encode(again, &h);
	if (memcmp(again, p, len) != 0)
		abort();
}

static void index_part(const uint8_t *p, size_t len)
{
	static struct rep_run runs[REP_INDEX_MAX_RUNS];
	static struct lb_id sources[REP_INDEX_MAX_SOURCES];
	static uint8_t again[REP_RECORD_MAX];
	struct rep_layer_header h = fix_layer_header();
	struct rep_index x;

	if (rep_index_decode(&x, p, len, &h, NULL) != 0)
		return;
	for (uint32_t i = 0; i < x.count; i++)
		rep_index_run(&runs[i], &x, i);
	for (uint32_t i = 0; i < x.sources; i++)
		rep_index_source(&sources[i], &x, i);
	size_t n =
		rep_index_encode(again, sizeof(again), x.number, runs, x.count, sources, x.sources);
	if (n != len || memcmp(again, p, len) != 0)
		abort();
}

static void leaves(const uint8_t *p, size_t len)
{
	static struct lb_hash h[REP_LEAVES_MAX];
	static uint8_t again[REP_RECORD_MAX];
	uint32_t n = 0;
	uint32_t number = 0;

	if (rep_leaves_decode(h, &n, &number, p, len, NULL) != 0)
		return;
	if (rep_leaves_encode(again, sizeof(again), number, h, n) != len ||
	    memcmp(again, p, len) != 0)
		abort();
}

static void footer(const uint8_t *p, size_t len)
{
	struct rep_footer f;
	uint8_t again[REP_FOOTER_BYTES];

	if (rep_footer_decode(&f, p, len, NULL) != 0)
		return;
	rep_footer_encode(again, &f);
	if (memcmp(again, p, len) != 0)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 1)
		return 0;
	switch (data[0] % 4) {
	case 0:
		header(data + 1, size - 1);
		break;
	case 1:
		index_part(data + 1, size - 1);
		break;
	case 2:
		leaves(data + 1, size - 1);
		break;
	default:
		footer(data + 1, size - 1);
		break;
	}
	return 0;
}
