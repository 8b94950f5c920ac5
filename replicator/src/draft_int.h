/*
 * draft_int.h - the journal of a full layer that is being made: which packs of it were given to the
 * peer and which blocks, by digest, stand in them. A source that was killed in the middle of a seed
 * makes a new cut and goes on with the same layer: blocks that are still as they were stay in the
 * packs that the peer holds.
 *
 *   none --[create]--> OPEN --the layer's point is acknowledged [discard]--> none
 *   after a restart: [resume] same facts? -> layer id -> OFFER -> ADMIT -> [hold] everything the
 *   peer holds is known? -> [go_on] -> OPEN; any "no" means another layer id and sending again
 *
 * File "drafts/<volume hex>" (docs/formats/draft.md): a header and entries, each with a CRC that
 * goes on from the one before, so a torn or foreign tail ends the journal and nothing behind it
 * counts. An entry is written before its part leaves, and not synced: a process that dies loses
 * nothing, a power cut may lose the tail. Then the peer holds packs that no entry names, [hold]
 * says so, and the layer begins anew. Losing the journal never costs more than sending again.
 *
 * Numbers: a pack number names one content for ever. New packs get numbers above every one that was
 * ever noted. A number that was noted, whose pack the peer does not hold, is filled with a pack
 * that no run names, so that a layer's packs have no gaps; that entry IS synced before the pack
 * leaves.
 *
 * What is the same in all attempts at a layer: the layer header, byte for byte, and prev. What is
 * not: index, digests, leaves, footer: the peer keeps the newest of each number. An attempt has at
 * least as many of them as any before it (rep_draft_parts_min()), so that none of an older one is
 * left.
 *
 * The packs of an attempt may be on their way on a connection of its session: only another process'
 * session may go on with a layer. `run` names the process.
 *
 * Thread: rep_draft_note_*(), rep_draft_read(): any worker; the others: one at a time, none of
 * these running. Memory: two bits a pack and two spools (delta_int.h).
 */
#ifndef DRAFT_INT_H
#define DRAFT_INT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/hash.h"
#include "base/id.h"
#include "replicator/layer.h"
#include "replicator/record.h"

struct lb_err;
struct lb_fs;
struct rep_admit;
struct rep_digest;
struct rep_draft;

#define REP_DRAFT_HEADER_BYTES 336u
#define REP_DRAFT_ENTRY_BYTES  12u /* before an entry's body */

enum rep_draft_entry {
	REP_DRAFT_PACK = 1, /* blocks by position, with their digests */
	REP_DRAFT_FILL = 2, /* a pack in the place of one that never arrived */
	REP_DRAFT_PART = 3, /* an index or digests part */
	REP_DRAFT_RUN = 4,  /* another process goes on */
};

/* What a layer's attempts have in common; another of any of these is another layer. */
struct rep_draft_facts {
	struct rep_layer_header header; /* full; for resume: layer is not looked at */
	struct lb_hash prev;
	struct lb_digest probe; /* of the digests' secret: rep_draft_probe() */
	struct lb_id run;       /* resume: LB_ENOTFOUND when this one made part of it */
};
void rep_draft_probe(struct lb_digest *out, const struct rep_digest *d);

/* Begin the journal of a new layer, in the place of the volume's older one. *@out is the caller's:
 * rep_draft_close(). Errors: of the file system, LB_ENOMEM. */
int rep_draft_create(struct rep_draft **out, struct lb_fs *fs, const struct rep_draft_facts *f,
		     struct lb_err *err);
/* The journal of a layer with these facts. LB_ENOTFOUND: none, or one with others, or by this run;
 * LB_ECORRUPT: its header is damaged. The file stays in any case. */
int rep_draft_resume(struct rep_draft **out, struct lb_fs *fs, const struct rep_draft_facts *f,
		     struct lb_err *err);
void rep_draft_close(struct rep_draft *d); /* NULL is allowed; the file stays */
/* Remove the journal of @volume; success when there is none. */
int rep_draft_discard(struct lb_fs *fs, const struct lb_id *volume, struct lb_err *err);
const struct lb_id *rep_draft_layer(const struct rep_draft *d);

/* After resume: is what the peer holds of layer @i of @a known to the journal? LB_ENOTFOUND: no, or
 * nothing at all is held. */
int rep_draft_hold(struct rep_draft *d, const struct rep_admit *a, uint32_t i, struct lb_err *err);
/* After hold: cut the torn tail, note the run, read what is where. */
int rep_draft_go_on(struct rep_draft *d, struct lb_err *err);

/* Where a block stands at the peer. */
struct rep_draft_place {
	struct lb_digest digest;
	uint32_t pack, pos;
	uint32_t known; /* 0: nowhere */
	uint32_t spare;
};
/* @count blocks from @block; nothing is known unless rep_draft_go_on() was called. */
int rep_draft_read(struct rep_draft *d, struct rep_draft_place *out, uint64_t block, uint32_t count,
		   struct lb_err *err);
/* Does a block of @digest stand there? */
bool rep_draft_stands(const struct rep_draft_place *p, const struct lb_digest *digest);
/* The first number for new packs. Those below are held, or to be filled. */
uint32_t rep_draft_next(const struct rep_draft *d);
/* Pack @number below that: its leaf and bytes; false in *held: to be filled. */
int rep_draft_pack(struct rep_draft *d, uint32_t number, bool *held, struct lb_hash *leaf,
		   uint32_t *bytes, struct lb_err *err);
/* Parts of @kind (index, digests) that an attempt must have at least. */
uint32_t rep_draft_parts_min(const struct rep_draft *d, enum rep_record_kind kind);

/*
 * Note a part before it leaves. When that fails the journal is given up and removed, and the layer
 * is made without: rep_draft_broken().
 */
void rep_draft_note_pack(struct rep_draft *d, uint32_t number, const struct lb_hash *leaf,
			 uint32_t bytes, const uint64_t *block, const struct lb_digest *digest,
			 uint32_t count);
void rep_draft_note_fill(struct rep_draft *d, uint32_t number, const struct lb_hash *leaf,
			 uint32_t bytes);
void rep_draft_note_part(struct rep_draft *d, enum rep_record_kind kind, uint32_t number);
void rep_draft_sync(struct rep_draft *d);
bool rep_draft_broken(const struct rep_draft *d);

#endif
