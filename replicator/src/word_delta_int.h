/*
 * word_delta_int.h - word delta: what became of a block, as the 64-bit words that changed.
 *
 * The bytes of a PATCH run (layer.h). A block is 512 words of 8 bytes; the delta is pieces in
 * ascending order:
 *
 *   u16 first word | u16 words - 1 | words * 8 bytes, as they become
 *
 * Little-endian; words are copied, never read as numbers. A piece ends inside the block, and at
 * least one word lies between two pieces (else they would be one), so that what a reader accepts
 * has one encoding. A delta of nothing does not exist: an equal block is a REF.
 *
 * A bitmap of the changed words instead of pieces is 4 to 20 % larger before LZ4 and 3 to 8 %
 * smaller after it (pages of a running Linux guest, docs/formats/layer.md): not worth a second
 * form.
 *
 * Thread: pure functions, any thread.
 */
#ifndef REPLICATOR_WORD_DELTA_INT_H
#define REPLICATOR_WORD_DELTA_INT_H

#include <stddef.h>
#include <stdint.h>

#include "replicator/layer.h"

struct lb_err;

#define REP_WORD_BYTES        8u
#define REP_BLOCK_WORDS       (REP_BLOCK_BYTES / REP_WORD_BYTES)
#define REP_DELTA_PIECE_BYTES 4u /* before its words */

/* What makes @now of @base, at most @cap bytes into @out (@cap <= REP_BLOCK_BYTES). Returns its
 * length; 0: the blocks are equal; more than @cap: it does not fit, @out holds nothing of use. */
uint32_t rep_word_delta_encode(uint8_t *out, uint32_t cap, const uint8_t base[REP_BLOCK_BYTES],
			       const uint8_t now[REP_BLOCK_BYTES]);

/* Apply the delta to @block. LB_ECORRUPT when it is not one; @block is undefined then. */
int rep_word_delta_apply(uint8_t block[REP_BLOCK_BYTES], const void *p, size_t len,
			 struct lb_err *err);

#endif
