/*
 * replicator/manifest.h - the recovery point: one signed manifest naming one layer per volume; and
 * its receipt.
 *
 * A manifest is of a protection group. It names its base (what the layers are deltas against) and
 * its predecessor by SHA-256 of their encoded bytes, so a chain cannot be re-ordered or spliced.
 * The hash of a manifest is SHA-256 over all its encoded bytes, signature included. Ed25519
 * purposes: "manifest v1", "receipt v1". Attachments (machine description, device state) are sealed
 * with the machine's key. docs/formats/manifest.md has offsets and vectors. Thread: pure, any
 * thread.
 */
#ifndef REPLICATOR_MANIFEST_H
#define REPLICATOR_MANIFEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/id.h"
#include "base/seal.h"
#include "replicator/layer.h"

struct lb_err;
struct lb_buf;

#define REP_MANIFEST_MAX_VOLUMES     256u
#define REP_MANIFEST_MAX_ATTACHMENTS 64u
#define REP_NAME_MAX                 64u /* names are [A-Za-z0-9._-]{1,64} */
#define REP_ATTACHMENT_MAX           (256u << 10)

/* Is @s (NUL-terminated) a name as above? The only names that formats and the wire carry. */
bool rep_name_valid(const char *s);

enum rep_consistency {
	REP_CONSISTENCY_CRASH = 1,
	REP_CONSISTENCY_FILESYSTEM = 2,
	REP_CONSISTENCY_APPLICATION = 3,
	REP_CONSISTENCY_MEMORY = 4,
};

struct rep_manifest_volume {
	struct lb_id machine, volume, layer, key;
	char machine_name[REP_NAME_MAX + 1];
	char volume_name[REP_NAME_MAX + 1]; /* "vda" */
	enum rep_volume_kind kind;
	uint64_t volume_bytes;
	uint64_t layer_bytes; /* footer.bytes */
	struct lb_hash root;
};

enum rep_attachment_kind {
	REP_ATTACH_MACHINE = 1,
	REP_ATTACH_DEVICE_STATE = 2
};
struct rep_attachment {
	struct lb_id machine, key;
	enum rep_attachment_kind kind;
	uint32_t bytes; /* of cipher text = of plain text */
	uint8_t nonce[LB_SEAL_NONCE_BYTES];
	uint8_t tag[LB_SEAL_TAG_BYTES];
	const uint8_t *cipher; /* borrowed */
};

struct rep_manifest {
	struct lb_id deployment, site, group, barrier;
	char group_name[REP_NAME_MAX + 1];
	uint64_t epoch, seq;
	struct lb_hash prev;      /* manifest before this one in the lineage; zero for the first */
	struct lb_hash base;      /* zero when every layer is full */
	uint64_t capture_boot_ns; /* source's CLOCK_BOOTTIME at the cut */
	uint64_t capture_wall_ns; /* source's CLOCK_REALTIME, for people only */
	struct lb_id boot_id;     /* names the boot capture_boot_ns counts in */
	enum rep_consistency consistency;
	uint32_t volumes;
	struct rep_manifest_volume volume[REP_MANIFEST_MAX_VOLUMES];
	uint32_t attachments;
	struct rep_attachment attachment[REP_MANIFEST_MAX_ATTACHMENTS];
};

/* Encode and sign. *out is the caller's. Errors: LB_EINVAL (counts, names), LB_ENOMEM. */
int rep_manifest_encode(struct lb_buf **out, const struct rep_manifest *m,
			const struct lb_signer *signer, struct lb_err *err);
/* Decode (structure only). Attachments point into @p. *out is undefined on failure. Errors:
 * LB_ECORRUPT naming the volume or attachment. */
int rep_manifest_decode(struct rep_manifest *out, const void *p, size_t len, struct lb_err *err);
/* Is the signature @key's? LB_ECORRUPT otherwise. */
int rep_manifest_verify(const void *p, size_t len, const struct lb_pubkey *key, struct lb_err *err);
void rep_manifest_hash(struct lb_hash *out, const void *p, size_t len);

/* @out's machine, kind and bytes (of @plain) are set by the caller before; @cipher holds as many.
 * Errors: LB_EINVAL, LB_ENOMEM; *@out is as it was then. */
int rep_attachment_seal(struct rep_attachment *out, uint8_t *cipher, const struct rep_manifest *m,
			const struct lb_key *dek, struct lb_env *env, const void *plain,
			struct lb_err *err);
int rep_attachment_open(uint8_t *plain, const struct rep_attachment *a,
			const struct rep_manifest *m, const struct lb_key *dek, struct lb_err *err);

/* The backup's signed acknowledgement of one durable, verified recovery point. */
#define REP_RECEIPT_BYTES 256u
struct rep_receipt {
	struct lb_id deployment, site, group; /* site: the backup that signs */
	uint64_t epoch, seq;
	struct lb_hash manifest;
	uint64_t counter;         /* receipts of this store, from 1, never reused */
	uint64_t receive_boot_ns; /* backup's CLOCK_BOOTTIME when it was committed */
	uint64_t receive_wall_ns;
};
int rep_receipt_encode(uint8_t out[REP_RECEIPT_BYTES], const struct rep_receipt *r,
		       const struct lb_signer *signer, struct lb_err *err);
int rep_receipt_decode(struct rep_receipt *out, const void *p, size_t len, struct lb_err *err);
int rep_receipt_verify(const void *p, size_t len, const struct lb_pubkey *key, struct lb_err *err);

#endif
