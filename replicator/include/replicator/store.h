/*
 * replicator/store.h - stage 7 of 8: the segment store of a backup site. One log, all groups mixed.
 *
 * Files below the store's root: "store.id", "lock", "seg/<16 hex>.seg" (ingest segments, about 64
 * MiB).
 *
 * The one commit rule: records appended -> sync -> commit mark + sync -> visible -> receipt.
 * Everything up to the newest mark is durable; what comes after it was never acknowledged. At open,
 * records after the last mark are fully checked; the first bad one and everything behind it is cut
 * (they may be kept up to there: a draft layer's packs are what a resume builds on). A bad record
 * BEFORE a mark is damage: marked, reported by rep_store_damage(), never cut. After any failed sync
 * the store is suspect: that call and every append, commit and receipt after it give LB_ESUSPECT
 * until it is opened again (fsync is never retried; opening writes the newest batch once more).
 *
 * Invariants: I1 I2 I5 I6 I7 (design 02). Thread: open, close and what is under "writing" are for
 * one thread at a time (the shell gives it a thread of its own). Everything else, scrub too, may be
 * called from any thread beside that one, several at once: it takes the store's lock briefly, and
 * not over a callback. Errors: LB_EIO, LB_ENOSPC (nothing acked is lost; frees when space comes
 * back), LB_ESUSPECT, LB_ECORRUPT, LB_EBUSY (second process on the same store).
 */
#ifndef REPLICATOR_STORE_H
#define REPLICATOR_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/id.h"
#include "replicator/layer.h"
#include "replicator/manifest.h"
#include "replicator/record.h"

struct lb_err;
struct lb_env;
struct lb_fs;
struct lb_buf;
struct rep_store;

struct rep_store_cfg {
	uint64_t segment_bytes; /* roll at; default 64 MiB (tests use less) */
	/* Parts of layers are LB_ENOSPC when less than this would stay free on the file system;
	 * default 0: not asked. Manifests, receipts and marks may use it, so that what was taken
	 * can be committed. */
	uint64_t reserve_bytes;
};
#define REP_STORE_CFG_DEFAULTS                      \
	{                                           \
		.segment_bytes = UINT64_C(64) << 20 \
	}

int rep_store_open(struct rep_store **out, struct lb_env *env, struct lb_fs *fs,
		   const struct rep_store_cfg *cfg, struct lb_err *err);
void rep_store_close(struct rep_store *s); /* no sync: closing is not committing */

/* ---- writing ---- */

/* Append one part of a layer. Parts of one layer may come in any order; a part already there with
 * the same bytes is LB_EEXIST (callers treat it as success), with other bytes LB_ECORRUPT, unless
 * it is of the end (digests, index, leaves, footer) of a draft: another attempt at the layer has
 * another one, and of each number the newest counts. *leaf (may be NULL) is for header, pack,
 * digests, index parts. */
int rep_store_append(struct rep_store *s, enum rep_record_kind kind, const struct lb_id *layer,
		     uint32_t number, const struct lb_buf *body, const struct lb_hash *leaf,
		     struct lb_err *err);
/*
 * Is layer @layer complete and whole? All parts present, root recomputed from the leaf hashes of
 * the received bytes equals the footer's and @expected. Index parts are decoded and checked against
 * the header, counts against the footer; refs must name layers already visible in the same
 * group+volume. Errors: LB_ENOTFOUND (what is missing), LB_ECORRUPT.
 */
int rep_store_layer_check(struct rep_store *s, const struct rep_manifest_volume *v,
			  const struct rep_manifest *m, struct lb_err *err);
/* Append a manifest whose layers passed rep_store_layer_check(). Not visible before the next
 * commit. */
int rep_store_append_manifest(struct rep_store *s, const struct lb_buf *manifest,
			      struct lb_err *err);
/* Append a receipt (after the commit of its manifest, durable with the next commit). */
int rep_store_append_receipt(struct rep_store *s, const void *receipt, size_t len,
			     struct lb_err *err);
/* Sync, mark, sync. On success everything appended before is durable and its points visible. */
int rep_store_commit(struct rep_store *s, struct lb_err *err);
/* A counter for the next receipt: one more than the highest stored or handed out. Each call hands
 * out another. */
uint64_t rep_store_receipt_counter(struct rep_store *s);
/* Forget a draft layer (its bytes are reclaimed by retention, later). */
int rep_store_abandon(struct rep_store *s, const struct lb_id *layer, struct lb_err *err);

/* ---- drafts: what a resume may build on ---- */

struct rep_have {
	bool header, footer;
	uint32_t packs;         /* packs held in all */
	uint32_t first_missing; /* packs 0..first_missing-1 are all held */
};
bool rep_store_have(struct rep_store *s, const struct lb_id *layer, struct rep_have *out);
bool rep_store_have_part(struct rep_store *s, const struct lb_id *layer, enum rep_record_kind kind,
			 uint32_t number);

/* Pack numbers held beyond first_missing, ascending, at most @max; returns how many were written.
 */
uint32_t rep_store_have_extra(struct rep_store *s, const struct lb_id *layer, uint32_t *out,
			      uint32_t max);

/* ---- reading ---- */

struct rep_point {
	struct lb_hash manifest;
	struct lb_id group;
	char group_name[REP_NAME_MAX + 1];
	uint64_t epoch, seq;
	struct lb_hash prev, base;
	uint64_t capture_wall_ns, capture_boot_ns;
	uint64_t receive_wall_ns; /* 0 until its receipt is stored */
	uint64_t stored_bytes;    /* of its layers */
	enum rep_consistency consistency;
	bool damaged; /* a part of its closure failed a check */
};
/* Visible points of @group (NULL: all), oldest first. Non-zero from @fn stops and is returned. */
typedef int (*rep_point_fn)(void *arg, const struct rep_point *p);
int rep_store_points(struct rep_store *s, const struct lb_id *group, rep_point_fn fn, void *arg);
/* The newest visible point of @group in its lineage; false when there is none. */
bool rep_store_head(struct rep_store *s, const struct lb_id *group, struct rep_point *out);
bool rep_store_point_find(struct rep_store *s, const struct lb_hash *manifest,
			  struct rep_point *out);
/* The manifest's encoded bytes; *out is the caller's. */
int rep_store_read_manifest(struct rep_store *s, const struct lb_hash *manifest,
			    struct lb_buf **out, struct lb_err *err);
/* The newest receipt stored for @manifest, @out_bytes REP_RECEIPT_BYTES. LB_ENOTFOUND: none yet. */
int rep_store_read_receipt(struct rep_store *s, const struct lb_hash *manifest, uint8_t *out,
			   size_t out_bytes, struct lb_err *err);
/* One part of a layer, CRC checked. */
int rep_store_read_part(struct rep_store *s, const struct lb_id *layer, enum rep_record_kind kind,
			uint32_t number, struct lb_buf **out, struct lb_err *err);

/* ---- checking ---- */

struct rep_damage {
	struct lb_id layer;      /* zero when not of a layer */
	struct lb_hash manifest; /* zero when not known */
	enum rep_record_kind kind;
	uint32_t number;
	uint64_t segment, offset;
	char what[160]; /* names machine, volume, seq and the offset */
};
typedef void (*rep_damage_fn)(void *arg, const struct rep_damage *d);
struct rep_scrub_stats {
	uint64_t records, bytes, points, damaged;
};
/* Keyless scrub of everything under a mark: record CRCs, leaf hashes, roots, signatures (@key_of
 * may be NULL), chain of prev and base. What is committed when it begins is what it covers: the
 * writer may go on, and what it adds is for the next one. Callbacks come on the calling thread.
 * @progress (may be NULL) gets bytes done and in all. LB_ECORRUPT when anything is damaged, each
 * told to @fn. */
struct rep_scrub_opts {
	rep_damage_fn on_damage;
	void (*progress)(void *arg, uint64_t done_bytes, uint64_t all_bytes);
	/* asked at each record and point; true ends the scrub with LB_ECANCELED. May be NULL */
	bool (*cancelled)(void *arg);
	/* the public key a site signs manifests with; NULL: signatures are not checked */
	int (*key_of)(void *arg, const struct lb_id *site, struct lb_pubkey *out);
	/* deep: the data key of a machine; NULL: keyless */
	int (*dek_of)(void *arg, const struct lb_id *key_id, struct lb_key *out);
	void *arg;
	const struct lb_hash *only; /* one point and its closure; NULL: the whole store */
};
int rep_store_scrub(struct rep_store *s, const struct rep_scrub_opts *o, struct rep_scrub_stats *st,
		    struct lb_err *err);

/* Damage met so far: at open, by reads, by scrubs. The first 1,024; returns how many there were. */
uint64_t rep_store_damage(struct rep_store *s, rep_damage_fn fn, void *arg);

/* What opening found behind the newest mark: nothing of it was ever acknowledged. */
struct rep_recovery {
	uint64_t segments;
	uint64_t records;      /* in all of them */
	uint64_t kept_records; /* behind the mark and whole: parts of drafts */
	uint64_t voided;       /* manifests behind the mark: they were never committed */
	uint64_t cut_segment;  /* where the torn tail was cut */
	uint64_t cut_offset;
	uint64_t cut_bytes;   /* 0: nothing was cut */
	uint64_t unread;      /* manifests and receipts that gave LB_EIO again and again: their
				 points are not seen before the store is opened once more */
	uint64_t mended_mark; /* offset of the newest mark in the last segment, when only its echo
				 was good: written again. 0: not needed */
};
void rep_store_recovery(struct rep_store *s, struct rep_recovery *out);

uint64_t rep_store_bytes(struct rep_store *s); /* of all segments */
void rep_store_id(struct rep_store *s, struct lb_id *out);

#endif
