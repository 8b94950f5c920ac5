/*
 * store_int.h - what the files of the segment store share: index in RAM, open files.
 *
 *   store_segment.c  bytes of marks, directories, segment heads; reading one segment's entries
 *                    (segment_int.h)
 *   store_index.c    layers, their parts, points, damage: the index in RAM
 *   store_file.c     open segment files, cached directories, reading one record
 *   store_open.c     recovery
 *   store.c          append, roll, commit, manifests, receipts
 *   store_check.c    is a layer complete and whole?
 *   store_read.c     questions and reads
 *
 * Locking: s->mu guards the index and the caches (everything below "index" in struct rep_store).
 * The writing thread reads what only it changes (tail, batch, suspect) without it, and never holds
 * it over a write or a sync. Every other thread reads nothing without it. Kept without it may be: a
 * struct rep_layer or rep_spoint (freed at close only), the sources of a visible layer once they
 * are known, a file between rep_file_get() and rep_file_put(). NOT the parts of a visible layer,
 * which any thread may evict, nor s->seg, which moves when a segment is added.
 *
 * Memory: 180 bytes a layer; 230 bytes a point and 16 for each of its layers; of a visible layer
 * whose parts are loaded 60 bytes and 20 a part, while it is a draft about 60 a part. Parts of
 * visible layers are dropped beyond REP_PARTS_CACHE parts, segment directories beyond
 * REP_DIRS_CACHE segments, and read again when asked for. What is kept for each point for ever is
 * what a backup grows by: look at it twice.
 */
#ifndef REPLICATOR_STORE_INT_H
#define REPLICATOR_STORE_INT_H

#include <pthread.h>
#include <sys/queue.h>

#include "base/fs.h"
#include "base/hash.h"
#include "replicator/store.h"
#include "segment_int.h"

#define REP_PARTS_CACHE (UINT32_C(4) << 20)
#define REP_PARTS_COST  8u /* of a layer's, beside one for each: what holds them */
#define REP_PARTS_KEPT                                                            \
	4u /* layers used last stay, however large: loading such a one takes long \
	    */
#define REP_DIRS_CACHE  24u
#define REP_FILES_CACHE 64u
#define REP_DAMAGE_MAX  1024u
#define REP_NO_SEG      UINT32_MAX

struct rep_seg {
	uint64_t number;
	uint64_t bytes;          /* of the file; of the active segment: its tail */
	bool closed;             /* ends with a valid directory */
	struct rep_entry *entry; /* kept for the active segment and those without a directory */
	uint32_t entries, entry_cap;
	struct rep_entry *sorted; /* cache: by owner, kind, number, offset */
	uint32_t sorted_n;
	uint64_t sorted_tick;
	uint64_t dir_off; /* of the DIRECTORY record, when closed */
	struct lb_file *file;
	unsigned users;
	uint64_t file_tick;
};

struct rep_part {
	uint32_t number;
	uint16_t kind;
	uint8_t has_leaf;
	uint8_t bad;
	uint32_t seg; /* index in s->seg; REP_NO_SEG: dropped */
	uint32_t off8;
	uint32_t bytes;
};

/* A draft passed rep_store_layer_check() with its root, for this point. */
struct rep_checked {
	uint64_t epoch, seq;
	struct lb_hash base;
};

/*
 * The parts of one layer. Of a draft, and while they are being loaded: a dense array in the order
 * met and a hash index over (kind, number). Of a visible one: packed, that is sorted by (kind,
 * number), in .room, and never changed again.
 */
struct rep_parts {
	struct rep_part *v;
	uint32_t n, cap;
	uint32_t packs, first_missing;
	struct lb_hash *leaf;        /* drafts: beside v */
	struct rep_checked *checked; /* drafts; NULL: not, or not any more */
	uint32_t *slot;              /* index + 1 into v; 0: empty */
	uint32_t slots;              /* a power of two; 0: search v */
	struct rep_part room[];
};

#define REP_SEGS_FEW 2u

struct rep_layer {
	struct lb_id id, group, volume; /* group, volume: zero for a draft */
	struct lb_hash root;            /* once checked or visible */
	union {
		uint32_t few[REP_SEGS_FEW]; /* seg_cap 0 */
		uint32_t *more;
	} seg; /* segments that hold parts, in order: rep_layer_segs() */
	uint32_t segs, seg_cap;
	uint32_t point;   /* when visible: the first that names it */
	uint32_t sources; /* foreign layers its index names, when known: */
	struct lb_id *source;
	struct rep_parts *parts;     /* NULL: not loaded */
	TAILQ_ENTRY(rep_layer) used; /* in s->used: visible, and parts are loaded */
	bool visible;                /* a visible (or pending) manifest names it */
	bool abandoned;
	bool damaged;
	bool sources_known;
};
TAILQ_HEAD(rep_layer_list, rep_layer);

struct rep_loc {
	uint32_t seg, off8;
};

/* Points of a group share it until the name changes. */
struct rep_group_name {
	struct rep_group_name *next; /* in s->names */
	char text[REP_NAME_MAX + 1];
};

/* struct rep_point without its name. */
struct rep_point_core {
	struct lb_hash manifest;
	struct lb_id group;
	uint64_t epoch, seq;
	struct lb_hash prev, base;
	uint64_t capture_wall_ns, capture_boot_ns, receive_wall_ns, stored_bytes;
	enum rep_consistency consistency;
};

struct rep_spoint {
	struct rep_point_core pub;
	struct rep_loc manifest, receipt; /* receipt.seg REP_NO_SEG: none yet */
	bool visible;
	bool damaged;    /* its own manifest */
	bool chain_bad;  /* it, or something below it, as of: */
	uint32_t looked; /* damage_changes */
	uint32_t chain;  /* point where its chain of bases begins, if every point of the group since
			    is part of it; else UINT32_MAX */
	uint32_t layers;
	const struct rep_group_name *name;
	struct lb_id layer[];
};

struct rep_group_head {
	struct lb_id group;
	uint32_t point;
	uint32_t last;                     /* added, visible or not; UINT32_MAX: none */
	const struct rep_group_name *name; /* of the newest; the writer's */
};

struct rep_store {
	struct lb_env *env;
	struct lb_fs *fs;
	struct rep_store_cfg cfg;
	struct lb_file *lock;
	struct lb_id id;
	uint8_t tag[REP_TAG_BYTES]; /* secret of this store: a forged mark in a pack is not one */
	pthread_mutex_t mu;

	/* the writer's */
	bool suspect;        /* a sync failed: nothing is acknowledged any more */
	bool need_truncate;  /* a failed append left bytes behind the tail */
	bool need_successor; /* the last segment is closed, its successor not made yet */
	uint64_t commit;     /* number of the newest mark */
	uint32_t batch;      /* index of the first entry after the newest mark */
	uint32_t batch_crc;  /* CRC32C over the headers of the batch */
	uint64_t counter;    /* highest receipt counter stored or handed out */

	/* index, under mu */
	struct rep_seg *seg; /* by number; the last one is active */
	uint32_t segs, seg_cap;
	uint64_t
		marked; /* bytes of the last segment under its newest mark; all of the others are */
	struct rep_layer **layer; /* open addressing by id */
	uint32_t layers, layer_slots;
	uint64_t layer_salt;
	struct rep_spoint **point; /* in log order */
	uint32_t points, point_cap;
	uint32_t *point_slot; /* index + 1, open addressing by manifest hash */
	uint32_t point_slots;
	struct rep_group_head *head;
	uint32_t heads, head_cap;
	struct rep_group_name *names; /* the writer's */
	uint32_t pending;             /* points not visible before the next commit */
	uint64_t tick;
	struct rep_layer_list used; /* visible layers with parts, the one used last at the end */
	uint32_t used_layers;       /* of these: how many */
	uint64_t cached_parts, parts_max; /* of these: held, at most (REP_PARTS_COST each) */
	struct rep_damage *damage;
	uint32_t damages;
	uint64_t damage_dropped; /* beyond REP_DAMAGE_MAX */
	bool any_damage;
	uint32_t damage_changes; /* from 1: what was known of points' damage before is void */
	struct rep_recovery recovery;
};

/* ---- store_index.c ---- */

struct rep_layer *rep_layer_find(struct rep_store *s, const struct lb_id *id);
int rep_layer_get(struct rep_layer **out, struct rep_store *s, const struct lb_id *id,
		  struct lb_err *err);
/* A draft of which nothing could be kept is not remembered. */
void rep_layer_forget_empty(struct rep_store *s, const struct lb_id *id);
int rep_layer_reserve_seg(struct rep_layer *l, struct lb_err *err);
void rep_layer_in_seg(struct rep_layer *l, uint32_t seg);  /* reserved before */
const uint32_t *rep_layer_segs(const struct rep_layer *l); /* l->segs of them */
/* The manifest of point @index names it: its parts may be dropped from RAM from now on. */
void rep_layer_seal(struct rep_store *s, struct rep_layer *l, uint32_t index);
/* Are @n layers @id of points that the chain of point @index has anyway? They are damaged with it,
 * and may be forgotten: a memory point refers to many. */
bool rep_chain_has(struct rep_store *s, uint32_t index, const struct lb_id *id, uint32_t n);
void rep_layer_destroy(struct rep_layer *l);
int rep_parts_create(struct rep_parts **out, bool leaves, struct lb_err *err);
void rep_parts_destroy(struct rep_parts *p);
/* Room for one more part, so that the next rep_parts_add() cannot fail. */
int rep_parts_reserve(struct rep_parts *p, struct lb_err *err);
struct rep_part *rep_parts_find(const struct rep_parts *p, enum rep_record_kind kind,
				uint32_t number);
/* Add, or replace the one of the same kind and number. @leaf may be NULL. */
void rep_parts_add(struct rep_parts *p, const struct rep_part *part, const struct lb_hash *leaf);
void rep_parts_drop(struct rep_parts *p, struct rep_part *part);
/* What is not needed once the layer is visible goes. Without memory only part of that. */
void rep_parts_pack(struct rep_parts **p);
bool rep_part_held(const struct rep_part *p);

struct rep_spoint *rep_point_lookup(struct rep_store *s, const struct lb_hash *manifest,
				    uint32_t *index);
/* Room for one more point of @group, so that add and show cannot fail. */
int rep_points_reserve(struct rep_store *s, const struct lb_id *group, struct lb_err *err);
void rep_point_add(struct rep_store *s, struct rep_spoint *p); /* takes */
/* A point of a decoded manifest: free(). rep_points_reserve() for its group comes before; the
 * writer's thread. */
int rep_point_create(struct rep_spoint **out, struct rep_store *s, const struct rep_manifest *m,
		     const struct lb_hash *hash, struct rep_loc loc, struct lb_err *err);
/* Make point @index visible: its layers, its group's head. Reserved before. */
void rep_point_show(struct rep_store *s, uint32_t index);
bool rep_point_damaged(struct rep_store *s, struct rep_spoint *p);
void rep_damage_add(struct rep_store *s, const struct rep_damage *d);
void rep_damage_text(struct rep_store *s, struct rep_damage *d, const char *why);

/* ---- store_file.c ---- */

/* The open file of segment @seg; give it back with rep_file_put(). Lock held in both. */
int rep_file_get(struct rep_store *s, uint32_t seg, struct lb_file **out, struct lb_err *err);
void rep_file_put(struct rep_store *s, uint32_t seg);
/* Entries of @seg sorted by owner, kind, number, offset. Valid until the lock is given up. */
int rep_seg_sorted(struct rep_store *s, uint32_t seg, const struct rep_entry **out, uint32_t *n,
		   struct lb_err *err);
/* Visible layer @l has parts from now on: others', not used for longest, may have to go. Lock held.
 */
void rep_layer_cache(struct rep_store *s, struct rep_layer *l);
/* Load l->parts (of a draft: with room for leaves). Lock held. */
int rep_layer_load(struct rep_store *s, struct rep_layer *l, struct lb_err *err);
/* Read and check one record; takes the lock itself. */
int rep_store_record(struct rep_store *s, struct rep_loc loc, struct rep_record *r,
		     struct lb_buf **body, struct lb_err *err);
/* Where part (@kind, @number) of @layer is; LB_ENOTFOUND. Takes the lock itself. */
int rep_part_get(struct rep_store *s, const struct lb_id *layer, enum rep_record_kind kind,
		 uint32_t number, struct rep_part *out, struct lb_err *err);
/* As rep_store_record() and compare with @part of @layer. */
int rep_store_part(struct rep_store *s, const struct lb_id *layer, const struct rep_part *part,
		   struct lb_buf **body, struct lb_err *err);
void rep_lock(struct rep_store *s);
void rep_unlock(struct rep_store *s);

/* ---- store_check.c ---- */

/* Decode a manifest into a new struct: the caller's, free(). */
int rep_manifest_alloc(struct rep_manifest **out, const struct lb_buf *bytes, struct lb_err *err);
/* A layer that @m made visible, once more: root, counts, header, index. Its packs are not read.
 * Not a part of rep_store_layer_check(), which is for drafts. */
int rep_layer_verify(struct rep_store *s, const struct rep_manifest_volume *v,
		     const struct rep_manifest *m, struct lb_err *err);
/* The foreign layers the index of visible layer @l names, read when not known yet. *out stays valid
 * until the store is closed. Takes the lock. */
int rep_layer_sources(struct rep_store *s, struct rep_layer *l, const struct lb_id **out,
		      uint32_t *n, struct lb_err *err);
/* Leaf hashes of a whole layer from its LEAVES parts, checked against @root (NULL: the footer's).
 * *leaves is the caller's: free(). */
int rep_layer_leaves(struct rep_store *s, const struct lb_id *layer, const struct lb_hash *root,
		     struct rep_footer *f, struct lb_hash **leaves, struct lb_err *err);
int rep_layer_header_read(struct rep_store *s, const struct lb_id *layer,
			  struct rep_layer_header *h, struct lb_err *err);

/* ---- store_open.c ---- */

/* Make the segment after the last one; it becomes active. */
int rep_store_successor(struct rep_store *s, struct lb_err *err);

#endif
