/* A frame as it comes off a connection. What decodes must encode to the same bytes. */
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "replicator/frame.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct rep_frame f;
	enum rep_frame_type type;
	uint32_t bytes = 0;
	struct lb_buf *b = NULL;

	if (size < REP_FRAME_HEADER_BYTES ||
	    rep_frame_header_decode(&type, &bytes, data, NULL) != 0)
		return 0;
	if (size - REP_FRAME_HEADER_BYTES != bytes ||
	    rep_frame_decode(&f, type, data + REP_FRAME_HEADER_BYTES, bytes, NULL) != 0)
		return 0;
	if (rep_frame_encode(&b, &f, NULL) != 0 || b->len != size || memcmp(b->p, data, size) != 0)
		abort();
	lb_buf_unref(b);
	return 0;
}
