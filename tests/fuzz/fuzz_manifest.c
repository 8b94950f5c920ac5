/* Manifests and receipts, told apart by their magic. What decodes must encode to the same bytes,
 * but for the signature, which is checked and then made by another key. */
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "format_fix.h"
#include "replicator/manifest.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void manifest(const uint8_t *data, size_t size, struct lb_signer *signer)
{
	static struct rep_manifest m;
	struct lb_buf *b = NULL;

	if (rep_manifest_decode(&m, data, size, NULL) != 0)
		return;
	if (rep_manifest_encode(&b, &m, signer, NULL) != 0 || b->len != size ||
	    memcmp(b->p, data, size - LB_SIG_BYTES) != 0)
		abort();
	lb_buf_unref(b);
}

static void receipt(const uint8_t *data, size_t size, struct lb_signer *signer)
{
	struct rep_receipt r;
	uint8_t again[REP_RECEIPT_BYTES];

	if (rep_receipt_decode(&r, data, size, NULL) != 0)
		return;
	if (rep_receipt_encode(again, &r, signer, NULL) != 0 ||
	    memcmp(again, data, size - LB_SIG_BYTES) != 0)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct lb_signer *signer = fix_signer();
	struct lb_pubkey pub;

	if (signer == NULL)
		return 0;
	lb_signer_pubkey(signer, &pub);
	manifest(data, size, signer);
	receipt(data, size, signer);
	(void)rep_manifest_verify(data, size, &pub, NULL);
	(void)rep_receipt_verify(data, size, &pub, NULL);
	lb_signer_destroy(signer);
	return 0;
}
