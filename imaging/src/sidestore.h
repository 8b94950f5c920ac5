/*
 * sidestore.h - where the cut device keeps the old blocks of the open cut: block number to slot.
 *
 * Slots are given in order and never back until the cut is over, so what is kept is an array, and
 * the way to it a hash table twice as large. A slot is reserved first and holds its block once it
 * is done. Thread: the cut device's lock held, but for read and write of different slots.
 */
#ifndef IMAGING_SIDESTORE_H
#define IMAGING_SIDESTORE_H

#include <stdbool.h>
#include <stdint.h>

struct img_dev;
struct lb_err;

enum {
	SIDESTORE_RUN_MAX = 16 /* blocks reserved, and moved, at a time */
};
#define SIDESTORE_NONE UINT64_MAX

struct sidestore {
	struct img_dev *dev; /* borrowed */
	uint64_t slots, used;
	uint64_t *block; /* of each slot; the high bit: done */
	uint32_t *table; /* slot + 1; 0: empty */
	uint64_t mask;   /* of the table */
};

/* As many slots as @dev has room for. Errors: LB_ENOMEM. */
int sidestore_init(struct sidestore *s, struct img_dev *dev, struct lb_err *err);
void sidestore_fini(struct sidestore *s);
void sidestore_clear(struct sidestore *s);
/* Pass over blocks from *@block to @last that are done; then reserve slots for a run of blocks that
 * are not here at all, at most @max: *@slot is the first's. Returns how many; 0: *@block is one
 * that somebody reserved, or there is no room, or it is beyond @last. */
uint64_t sidestore_reserve(struct sidestore *s, uint64_t *block, uint64_t last, uint64_t max,
			   uint64_t *slot);
bool sidestore_is_reserved(const struct sidestore *s, uint64_t block);
void sidestore_done(struct sidestore *s, uint64_t slot, uint64_t count);
/* The slot that holds @block; SIDESTORE_NONE: none (yet). */
uint64_t sidestore_find(const struct sidestore *s, uint64_t block);
int sidestore_write(struct sidestore *s, uint64_t slot, const void *buf, uint64_t count,
		    struct lb_err *err);
int sidestore_read(struct sidestore *s, uint64_t slot, void *buf, uint64_t len, uint64_t off,
		   struct lb_err *err);

#endif
