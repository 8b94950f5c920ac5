/*
 * tests/lib/store_fix.h - a small primary without a network: volumes that change, sealed layers,
 * signed manifests, and what every volume held at every point, to compare with.
 *
 * Everything comes from one seed. Failures of the fixture itself abort: they are the test's bugs.
 */
#ifndef TESTS_STORE_FIX_H
#define TESTS_STORE_FIX_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/seal.h"
#include "format_fix.h"
#include "replicator/store.h"

#define SF_MAX_VOLUMES 4u
#define SF_MAX_PARTS   64u

struct sf_part {
	enum rep_record_kind kind;
	uint32_t number;
	struct lb_buf *body;
	struct lb_hash leaf;
	bool has_leaf;
};

struct sf_layer {
	struct rep_layer_header header;
	struct sf_part part[SF_MAX_PARTS];
	uint32_t parts;
};

/* One cut of one group: what a source would send. */
struct sf_point {
	struct lb_id group;
	uint64_t epoch, seq;
	struct lb_buf *manifest;
	struct lb_hash hash;
	struct sf_layer layer[SF_MAX_VOLUMES];
	uint32_t layers;
	struct lb_hash image[SF_MAX_VOLUMES]; /* SHA-256 of each volume at this cut */
};

struct sf_where { /* a copy of this block in the store, for ref runs */
	struct lb_id layer;
	uint32_t pack, pos;
	bool valid;
};

struct sf_volume {
	struct lb_id machine, volume;
	char name[8];
	char machine_name[65]; /* "db01" unless the test says otherwise */
	uint32_t blocks;
	uint8_t *image;
	struct sf_where *where;
	bool *dirty;
};

struct sf_group {
	struct fix_env env;
	uint64_t rnd;
	struct lb_id deployment, site, group;
	char name[16];
	uint64_t epoch, seq;
	struct lb_hash head; /* manifest the next point is a delta against; zero: full */
	struct sf_volume vol[SF_MAX_VOLUMES];
	uint32_t vols;
	struct lb_key dek;
	struct lb_signer *signer;
	const char *machine_json; /* sealed into every point (siteagent/source.h); NULL: none */
};

void sf_group_init(struct sf_group *g, unsigned number, uint32_t vols, uint32_t blocks,
		   uint64_t seed);
void sf_group_fini(struct sf_group *g);
/* Change about @changes blocks of every volume: new data, zeros, copies of other blocks. */
void sf_group_write(struct sf_group *g, uint32_t changes);
/* Cut: everything changed since the last accepted point. The group moves on only with
 * sf_point_accepted(). *p is the caller's: sf_point_free(). */
void sf_point_cut(struct sf_group *g, struct sf_point *p);
void sf_point_accepted(struct sf_group *g, const struct sf_point *p);
void sf_point_free(struct sf_point *p);

/* Send @p into the store: all parts, check, manifest. Stops at the first error. */
int sf_point_send(struct rep_store *s, const struct sf_point *p, struct lb_err *err);
int sf_part_send(struct rep_store *s, const struct sf_layer *l, const struct sf_part *part,
		 struct lb_err *err);
/* Check the layers and append the manifest. */
int sf_point_seal(struct rep_store *s, const struct sf_point *p, struct lb_err *err);
/* A signed receipt for @p with the store's next counter. */
void sf_receipt(uint8_t out[REP_RECEIPT_BYTES], struct rep_store *s, const struct sf_group *g,
		const struct sf_point *p);

/* For scrub and views: @arg is an array of groups ended by one without a signer. */
int sf_key_of(void *arg, const struct lb_id *site, struct lb_pubkey *out);
int sf_dek_of(void *arg, const struct lb_id *key_id, struct lb_key *out);
void sf_volume_hash(struct lb_hash *out, const struct sf_volume *v);

#endif
