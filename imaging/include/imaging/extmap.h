/*
 * imaging/extmap.h - a sorted map from block runs to 64-bit values.
 *
 * Keys are block numbers (the unit is the caller's, usually 4 KiB). A later insert wins where it
 * overlaps an earlier one, which is split or trimmed; a value advances with its run when @advance
 * is set (value of block b in a run that starts at s is v + (b - s)), so neighbours that continue
 * each other merge. Runs are held in one sorted array; a bulk load in order is O(1) each, a random
 * insert O(log n + move).
 */
#ifndef IMAGING_EXTMAP_H
#define IMAGING_EXTMAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct lb_err;
struct img_extmap;

struct img_run {
	uint64_t start;
	uint64_t count;
	uint64_t value;
};

/* @max_runs bounds memory (24 bytes a run); an insert past it is LB_ENOMEM. On success *@out is the
 * caller's. After any error the map is as it was. A run (with @advance also its values) that wraps
 * around 2^64 is LB_EINVAL: indexes from foreign bytes are bounded before they come here. A count
 * of 0 does nothing. Thread: the owner's; the const functions from several threads while nobody
 * changes the map. */
int img_extmap_create(struct img_extmap **out, bool advance, size_t max_runs, struct lb_err *err);
void img_extmap_destroy(struct img_extmap *m); /* NULL is allowed */
int img_extmap_insert(struct img_extmap *m, uint64_t start, uint64_t count, uint64_t value,
		      struct lb_err *err);
/* Forget [@start, @start + @count); splitting a run may need one more (LB_ENOMEM). */
int img_extmap_remove(struct img_extmap *m, uint64_t start, uint64_t count, struct lb_err *err);
/* The run that holds @block, or the first after it (then out->start > block); false when there is
 * none. The returned run is trimmed to begin at @block when it holds it. */
bool img_extmap_find(const struct img_extmap *m, uint64_t block, struct img_run *out);
size_t img_extmap_count(const struct img_extmap *m);
/* All runs in order; valid until the map is changed. NULL when nothing was ever inserted. */
const struct img_run *img_extmap_runs(const struct img_extmap *m);
uint64_t img_extmap_blocks(const struct img_extmap *m); /* sum of counts */
void img_extmap_clear(struct img_extmap *m);

#endif
