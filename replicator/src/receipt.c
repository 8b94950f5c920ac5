#include <string.h>

#include "base/assert.h"
#include "base/wr.h"
#include "format_int.h"
#include "replicator/manifest.h"

#define RECEIPT_VERSION  1u
#define RECEIPT_RESERVED 64u
#define SIGNED_BYTES     (REP_RECEIPT_BYTES - LB_SIG_BYTES)

int rep_receipt_encode(uint8_t out[REP_RECEIPT_BYTES], const struct rep_receipt *r,
		       const struct lb_signer *signer, struct lb_err *err)
{
	struct lb_wr wr = lb_wr_init(out, REP_RECEIPT_BYTES);
	struct lb_sig sig;

	if (r->counter == 0)
		return lb_err_set(err, LB_EINVAL, 0, "receipt: counter 0");
	lb_wr_u32le(&wr, REP_MAGIC_RECEIPT);
	lb_wr_u16le(&wr, RECEIPT_VERSION);
	lb_wr_u16le(&wr, 0);
	lb_wr_id(&wr, &r->deployment);
	lb_wr_id(&wr, &r->site);
	lb_wr_id(&wr, &r->group);
	lb_wr_u64le(&wr, r->epoch);
	lb_wr_u64le(&wr, r->seq);
	lb_wr_hash(&wr, &r->manifest);
	lb_wr_u64le(&wr, r->counter);
	lb_wr_u64le(&wr, r->receive_boot_ns);
	lb_wr_u64le(&wr, r->receive_wall_ns);
	lb_wr_zeros(&wr, RECEIPT_RESERVED);
	LB_ASSERT(lb_wr_done(&wr) && wr.len == SIGNED_BYTES);
	int rc = lb_sign(signer, &sig, "receipt v1", out, SIGNED_BYTES, err);
	if (rc != 0)
		return rc;
	lb_wr_bytes(&wr, sig.b, sizeof(sig.b));
	LB_ASSERT(lb_wr_done(&wr));
	return 0;
}

int rep_receipt_decode(struct rep_receipt *out, const void *p, size_t len, struct lb_err *err)
{
	struct lb_rd rd = lb_rd_init(p, len);
	struct rep_receipt r;

	if (len != REP_RECEIPT_BYTES)
		return lb_err_set(err, LB_ECORRUPT, 0, "receipt: length %zu", len);
	uint32_t magic = lb_rd_u32le(&rd);
	unsigned version = lb_rd_u16le(&rd);
	unsigned flags = lb_rd_u16le(&rd);
	r.deployment = lb_rd_id(&rd);
	r.site = lb_rd_id(&rd);
	r.group = lb_rd_id(&rd);
	r.epoch = lb_rd_u64le(&rd);
	r.seq = lb_rd_u64le(&rd);
	r.manifest = lb_rd_hash(&rd);
	r.counter = lb_rd_u64le(&rd);
	r.receive_boot_ns = lb_rd_u64le(&rd);
	r.receive_wall_ns = lb_rd_u64le(&rd);
	bool zeros = rep_rd_zeros(&rd, RECEIPT_RESERVED);
	LB_ASSERT(!rd.bad && rd.left == LB_SIG_BYTES);

	if (magic != REP_MAGIC_RECEIPT)
		return lb_err_set(err, LB_ECORRUPT, 0, "receipt: magic 0x%08x", magic);
	if (version != RECEIPT_VERSION)
		return lb_err_set(err, LB_ECORRUPT, 0, "receipt: version %u", version);
	if (flags != 0 || !zeros)
		return lb_err_set(err, LB_ECORRUPT, 0, "receipt: reserved bytes are not zero");
	if (r.counter == 0)
		return lb_err_set(err, LB_ECORRUPT, 0, "receipt: counter 0");
	*out = r;
	return 0;
}

int rep_receipt_verify(const void *p, size_t len, const struct lb_pubkey *key, struct lb_err *err)
{
	const uint8_t *b = p;
	struct lb_sig sig;

	if (len != REP_RECEIPT_BYTES)
		return lb_err_set(err, LB_ECORRUPT, 0, "receipt: length %zu", len);
	memcpy(sig.b, b + SIGNED_BYTES, sizeof(sig.b));
	int rc = lb_sig_verify(key, &sig, "receipt v1", p, SIGNED_BYTES, err);
	if (rc != 0)
		return lb_err_wrap(err, rc, "receipt");
	return 0;
}
