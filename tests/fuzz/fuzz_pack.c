/* A pack or digests part, first its clear header, then opened with the key it may be sealed with.
 */
#include <stdlib.h>
#include <string.h>

#include "base/seal.h"
#include "format_fix.h"
#include "replicator/layer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t raw[REP_PACK_MAX_RAW];
	static struct lb_digest digests[REP_DIGESTS_MAX];
	struct rep_layer_header h = fix_layer_header();
	struct lb_key dek = fix_key();
	struct rep_pack_info info;
	struct lb_sealer *s = NULL;
	uint32_t n = 0;

	if (rep_pack_peek(&info, data, size, NULL) != 0)
		return 0;
	if (info.packed_bytes + (size_t)REP_PACK_HEADER_BYTES != size)
		abort();
	if (lb_sealer_create(&s, &dek, NULL) != 0)
		return 0;
	if (info.digests) {
		if (rep_digests_open(digests, &n, s, &h,
				     (struct rep_sealed){info.number, data, size}, NULL) == 0 &&
		    n * (size_t)16 != info.raw_bytes)
			abort();
	} else if (rep_pack_open(raw, &n, s, &h, (struct rep_sealed){info.number, data, size},
				 NULL) == 0 &&
		   n != info.raw_bytes) {
		abort();
	}
	lb_sealer_destroy(s);
	return 0;
}
