/*
 * format_int.h - what the codecs of this component share: magics, names, error wording.
 *
 * Thread: pure functions, any thread.
 */
#ifndef FORMAT_INT_H
#define FORMAT_INT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/rd.h"
#include "replicator/manifest.h"

/* Four ASCII bytes as lb_rd_u32le() sees them. */
#define REP_MAGIC(a, b, c, d) \
	((uint32_t)(a) | (uint32_t)(b) << 8 | (uint32_t)(c) << 16 | (uint32_t)(d) << 24)

#define REP_MAGIC_LAYER    REP_MAGIC('L', 'B', 'L', '1')
#define REP_MAGIC_PACK     REP_MAGIC('L', 'B', 'P', '1')
#define REP_MAGIC_INDEX    REP_MAGIC('L', 'B', 'X', '1')
#define REP_MAGIC_LEAVES   REP_MAGIC('L', 'B', 'V', '1')
#define REP_MAGIC_FOOTER   REP_MAGIC('L', 'B', 'E', '1')
#define REP_MAGIC_MANIFEST REP_MAGIC('L', 'B', 'N', '1')
#define REP_MAGIC_RECEIPT  REP_MAGIC('L', 'B', 'A', '1')
#define REP_MAGIC_RECORD   REP_MAGIC('L', 'B', 'R', '1')
#define REP_MAGIC_FRAME    REP_MAGIC('L', 'B', 'F', '1')

#define REP_VOLUME_MAX_BLOCKS (REP_VOLUME_MAX_BYTES / REP_BLOCK_BYTES)

/* A volume is a whole number of blocks, at least one, at most REP_VOLUME_MAX_BYTES. */
bool rep_volume_bytes_valid(uint64_t bytes);
bool rep_volume_kind_valid(unsigned kind);
/* Consume @len bytes; true when all were there and all are zero. */
bool rep_rd_zeros(struct lb_rd *rd, size_t len);
/* Read a str16 name into @out (REP_NAME_MAX + 1 bytes); false unless [A-Za-z0-9._-]{1,64}. */
bool rep_rd_name(struct lb_rd *rd, char *out);

#endif
