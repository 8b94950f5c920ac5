#include "sidestore.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "imaging/cut.h"
#include "imaging/dev.h"

#define BLOCK     ((uint64_t)IMG_CUT_BLOCK_BYTES)
#define DONE      (UINT64_C(1) << 63)
#define SLOTS_MAX (UINT64_C(1) << 30) /* 4 TiB aside: bounds the table's 32 bits */
#define MIX       UINT64_C(0x9e3779b97f4a7c15)

int sidestore_init(struct sidestore *s, struct img_dev *dev, struct lb_err *err)
{
	uint64_t size = 1;

	*s = (struct sidestore){.dev = dev, .slots = dev->size_bytes / BLOCK};
	if (s->slots > SLOTS_MAX)
		s->slots = SLOTS_MAX;
	while (size < 2 * s->slots)
		size *= 2;
	s->mask = size - 1;
	s->block = calloc(s->slots + 1, sizeof(*s->block));
	s->table = calloc(size, sizeof(*s->table));
	if (s->block == NULL || s->table == NULL) {
		uint64_t slots = s->slots;

		sidestore_fini(s);
		return lb_err_set(err, LB_ENOMEM, 0, "index of %" PRIu64 " old blocks", slots);
	}
	return 0;
}

void sidestore_fini(struct sidestore *s)
{
	free(s->block);
	free(s->table);
	*s = (struct sidestore){0};
}

void sidestore_clear(struct sidestore *s)
{
	if (s->used != 0)
		memset(s->table, 0, (s->mask + 1) * sizeof(*s->table));
	s->used = 0;
}

/* Where @block is in the table, or the empty place where it would be. */
static uint64_t place(const struct sidestore *s, uint64_t block)
{
	uint64_t at = block * MIX >> 20 & s->mask;

	while (s->table[at] != 0 && (s->block[s->table[at] - 1] & ~DONE) != block)
		at = (at + 1) & s->mask;
	return at;
}

enum where {
	NOWHERE,
	RESERVED,
	HERE,
};

static enum where where_is(const struct sidestore *s, uint64_t block)
{
	uint32_t entry = s->table[place(s, block)];

	if (entry == 0)
		return NOWHERE;
	return (s->block[entry - 1] & DONE) != 0 ? HERE : RESERVED;
}

uint64_t sidestore_find(const struct sidestore *s, uint64_t block)
{
	uint32_t entry = s->table[place(s, block)];

	if (entry == 0 || (s->block[entry - 1] & DONE) == 0)
		return SIDESTORE_NONE;
	return entry - 1;
}

bool sidestore_is_reserved(const struct sidestore *s, uint64_t block)
{
	return where_is(s, block) == RESERVED;
}

uint64_t sidestore_reserve(struct sidestore *s, uint64_t *block, uint64_t last, uint64_t max,
			   uint64_t *slot)
{
	uint64_t n = 0;

	while (*block <= last && where_is(s, *block) == HERE)
		++*block;
	*slot = s->used;
	while (n < max && *block + n <= last && s->used < s->slots) {
		uint64_t at = place(s, *block + n);

		if (s->table[at] != 0)
			break;
		s->block[s->used] = *block + n;
		s->table[at] = (uint32_t)++s->used;
		n++;
	}
	return n;
}

void sidestore_done(struct sidestore *s, uint64_t slot, uint64_t count)
{
	while (count-- > 0)
		s->block[slot++] |= DONE;
}

int sidestore_write(struct sidestore *s, uint64_t slot, const void *buf, uint64_t count,
		    struct lb_err *err)
{
	return img_pwrite(s->dev, buf, count * BLOCK, slot * BLOCK, err);
}

int sidestore_read(struct sidestore *s, uint64_t slot, void *buf, uint64_t len, uint64_t off,
		   struct lb_err *err)
{
	return img_pread(s->dev, buf, len, slot * BLOCK + off, err);
}
