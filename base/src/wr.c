#include "base/wr.h"

#include <string.h>

/* Where @len more bytes go, or NULL (and bad) when they do not fit. */
static uint8_t *take(struct lb_wr *wr, size_t len)
{
	uint8_t *p;

	if (wr->bad || len > wr->cap - wr->len) {
		wr->bad = true;
		return NULL;
	}
	p = wr->p + wr->len;
	wr->len += len;
	return p;
}

static void put_le(struct lb_wr *wr, uint64_t v, size_t width)
{
	uint8_t *p = take(wr, width);

	if (p == NULL)
		return;
	for (size_t i = 0; i < width; i++)
		p[i] = (uint8_t)(v >> (8 * i));
}

void lb_wr_u8(struct lb_wr *wr, uint8_t v)
{
	put_le(wr, v, 1);
}

void lb_wr_u16le(struct lb_wr *wr, uint16_t v)
{
	put_le(wr, v, 2);
}

void lb_wr_u32le(struct lb_wr *wr, uint32_t v)
{
	put_le(wr, v, 4);
}

void lb_wr_u64le(struct lb_wr *wr, uint64_t v)
{
	put_le(wr, v, 8);
}

void lb_wr_bytes(struct lb_wr *wr, const void *p, size_t len)
{
	uint8_t *to = len != 0 ? take(wr, len) : NULL;

	if (to != NULL)
		memcpy(to, p, len);
}

void lb_wr_zeros(struct lb_wr *wr, size_t len)
{
	uint8_t *to = len != 0 ? take(wr, len) : NULL;

	if (to != NULL)
		memset(to, 0, len);
}

void lb_wr_id(struct lb_wr *wr, const struct lb_id *id)
{
	lb_wr_bytes(wr, id->b, sizeof(id->b));
}

void lb_wr_hash(struct lb_wr *wr, const struct lb_hash *h)
{
	lb_wr_bytes(wr, h->b, sizeof(h->b));
}

void lb_wr_str16(struct lb_wr *wr, const char *s)
{
	size_t len = strlen(s);

	if (len > UINT16_MAX) {
		wr->bad = true;
		return;
	}
	lb_wr_u16le(wr, (uint16_t)len);
	lb_wr_bytes(wr, s, len);
}

bool lb_wr_done(const struct lb_wr *wr)
{
	return !wr->bad;
}
