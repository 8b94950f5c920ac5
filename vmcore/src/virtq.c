#include "virtq.h"

#include <stdatomic.h>

#include "base/err.h"

#define DESC_BYTES        16u
#define DESC_F_NEXT       1u
#define DESC_F_WRITE      2u
#define DESC_F_INDIRECT   4u
#define AVAIL_F_NO_INTR   1u
#define RING_HEADER_BYTES 4u /* flags, idx */
#define USED_BYTES        8u /* id, len */
#define LEGACY_ALIGN      UINT64_C(4096)

void vm_virtq_reset(struct vm_virtq *q)
{
	*q = (struct vm_virtq){
		.mem = q->mem,
		.size_max = q->size_max,
		.size = q->size_max,
		.vector = 0xffff,
	};
}

void vm_virtq_legacy_layout(struct vm_virtq *q, uint64_t base)
{
	uint64_t avail = base + (uint64_t)DESC_BYTES * q->size;
	uint64_t end = avail + RING_HEADER_BYTES + 2 * (uint64_t)q->size + 2;

	q->desc.a = base;
	q->avail.a = avail;
	q->used.a = (end + LEGACY_ALIGN - 1) / LEGACY_ALIGN * LEGACY_ALIGN;
}

/* ---- reading the guest's side ---- */

static bool broken(struct vm_virtq *q)
{
	q->broken = true;
	return false;
}

struct desc {
	uint64_t addr;
	uint32_t len;
	uint16_t flags, next;
};

static bool read_desc(struct vm_virtq *q, struct desc *d, struct vm_gpa table, uint32_t index)
{
	uint8_t raw[DESC_BYTES];
	struct lb_rd rd = lb_rd_init(raw, sizeof(raw));
	struct vm_gpa at = {table.a + (uint64_t)DESC_BYTES * index};

	if (!vm_mem_read(q->mem, raw, at, sizeof(raw)))
		return false;
	d->addr = lb_rd_u64le(&rd);
	d->len = lb_rd_u32le(&rd);
	d->flags = lb_rd_u16le(&rd);
	d->next = lb_rd_u16le(&rd);
	return true;
}

static bool add_piece(struct vm_virtq *q, struct vm_chain *c, const struct desc *d)
{
	struct vm_gpa gpa = {d->addr};
	bool in = (d->flags & DESC_F_WRITE) != 0;

	if (c->out + c->in == VM_CHAIN_PIECES || d->len == 0 || (!in && c->in != 0) ||
	    vm_mem_ptr(q->mem, gpa, d->len) == NULL)
		return false;
	c->piece[c->out + c->in] = (struct vm_piece){gpa, d->len};
	if (in) {
		c->in++;
		c->in_bytes += d->len;
	} else {
		c->out++;
		c->out_bytes += d->len;
	}
	return true;
}

/* Which table we walk; a chain may end in one indirect table. [2.7.5.3] */
struct walk {
	struct vm_gpa table;
	uint32_t entries, left; /* left: a walk longer than its table is a loop */
	bool indirect;
};

static bool enter_indirect(const struct vm_virtq *q, struct walk *w, const struct desc *d)
{
	if (!q->indirect || w->indirect || (d->flags & DESC_F_NEXT) != 0 || d->len == 0 ||
	    d->len % DESC_BYTES != 0)
		return false;
	w->table.a = d->addr;
	w->entries = w->left = d->len / DESC_BYTES;
	w->indirect = true;
	return true;
}

bool vm_virtq_chain(struct vm_virtq *q, struct vm_chain *c, uint16_t head)
{
	struct walk w = {.table = q->desc, .entries = q->size, .left = q->size};
	uint32_t index = head;
	struct desc d;

	c->head = head;
	c->out = c->in = 0;
	c->out_bytes = c->in_bytes = 0;
	do {
		if (index >= w.entries || w.left-- == 0 || !read_desc(q, &d, w.table, index))
			return broken(q);
		if ((d.flags & DESC_F_INDIRECT) != 0) {
			if (!enter_indirect(q, &w, &d))
				return broken(q);
			index = 0;
			d.flags = DESC_F_NEXT;
			continue;
		}
		if (!add_piece(q, c, &d))
			return broken(q);
		index = d.next;
	} while ((d.flags & DESC_F_NEXT) != 0);
	return true;
}

static struct vm_gpa avail_entry(const struct vm_virtq *q, uint32_t index)
{
	return (struct vm_gpa){q->avail.a + RING_HEADER_BYTES + 2 * (uint64_t)index};
}

static struct vm_gpa used_entry(const struct vm_virtq *q, uint32_t index)
{
	return (struct vm_gpa){q->used.a + RING_HEADER_BYTES + USED_BYTES * (uint64_t)index};
}

/* Chains that wait; negative: broken. */
static int waiting(struct vm_virtq *q)
{
	uint16_t idx, n;

	if (!vm_mem_read16(q->mem, (struct vm_gpa){q->avail.a + 2}, &idx))
		return -1;
	n = (uint16_t)(idx - q->next_avail);
	return n <= q->size ? n : -1;
}

/* With event_idx the driver notifies only when its index passes what we wrote; it may have passed
 * it before it could see that, so look again. [2.7.10.1] */
static int waiting_or_ask(struct vm_virtq *q)
{
	int n = waiting(q);

	if (n != 0 || !q->event_idx)
		return n;
	if (!vm_mem_write16(q->mem, used_entry(q, q->size), q->next_avail))
		return -1;
	atomic_thread_fence(memory_order_seq_cst);
	return waiting(q);
}

bool vm_virtq_pop(struct vm_virtq *q, struct vm_chain *c)
{
	uint16_t head;
	int n;

	if (!q->enabled || q->broken)
		return false;
	n = waiting_or_ask(q);
	if (n == 0)
		return false;
	if (n < 0 || !vm_mem_read16(q->mem, avail_entry(q, q->next_avail % q->size), &head) ||
	    head >= q->size)
		return broken(q);
	if (!vm_virtq_chain(q, c, head))
		return false;
	q->next_avail++;
	return true;
}

void vm_virtq_unpop(struct vm_virtq *q, uint16_t n)
{
	q->next_avail = (uint16_t)(q->next_avail - n);
}

/* ---- writing our side ---- */

void vm_virtq_put(struct vm_virtq *q, uint16_t ahead, uint16_t head, uint32_t written)
{
	uint8_t raw[USED_BYTES];
	struct lb_wr wr = lb_wr_init(raw, sizeof(raw));

	if (q->broken || !q->enabled)
		return;
	lb_wr_u32le(&wr, head);
	lb_wr_u32le(&wr, written);
	if (!vm_mem_write(q->mem, used_entry(q, (uint16_t)(q->next_used + ahead) % q->size), raw,
			  sizeof(raw)))
		(void)broken(q);
}

void vm_virtq_publish(struct vm_virtq *q, uint16_t count)
{
	if (q->broken || !q->enabled)
		return;
	q->next_used = (uint16_t)(q->next_used + count);
	if (!vm_mem_write16(q->mem, (struct vm_gpa){q->used.a + 2}, q->next_used))
		(void)broken(q);
}

bool vm_virtq_wants_interrupt(struct vm_virtq *q)
{
	uint16_t v, old = q->signalled;

	if (q->broken || !q->enabled)
		return false;
	/* The driver's wish is read after it can see the new index, else both may miss. */
	atomic_thread_fence(memory_order_seq_cst);
	if (!q->event_idx)
		return !vm_mem_read16(q->mem, q->avail, &v) || (v & AVAIL_F_NO_INTR) == 0;
	if (!vm_mem_read16(q->mem, avail_entry(q, q->size), &v))
		return broken(q);
	q->signalled = q->next_used;
	return (uint16_t)(q->next_used - v - 1) < (uint16_t)(q->next_used - old);
}

/* ---- bytes of a chain ---- */

/* Moves min(len, what there is) bytes between @pieces and one of @to and @from. */
static uint64_t move(struct vm_mem *m, const struct vm_piece *pieces, uint32_t count, uint64_t skip,
		     uint8_t *to, const uint8_t *from, uint64_t len)
{
	uint64_t done = 0;

	for (uint32_t i = 0; i < count && done < len; i++) {
		uint64_t n = pieces[i].len_bytes;
		struct vm_gpa gpa = {pieces[i].gpa.a + skip};
		bool ok;

		if (skip >= n) {
			skip -= n;
			continue;
		}
		n -= skip;
		skip = 0;
		n = n < len - done ? n : len - done;
		ok = to != NULL ? vm_mem_read(m, to + done, gpa, n)
				: vm_mem_write(m, gpa, from + done, n);
		if (!ok) /* it is memory, but its content was lost (mem.h) */
			break;
		done += n;
	}
	return done;
}

uint64_t vm_chain_read(struct vm_mem *m, const struct vm_chain *c, uint64_t skip, void *to,
		       uint64_t len)
{
	return move(m, c->piece, c->out, skip, to, NULL, len);
}

uint64_t vm_chain_write(struct vm_mem *m, const struct vm_chain *c, uint64_t skip, const void *from,
			uint64_t len)
{
	return move(m, c->piece + c->out, c->in, skip, NULL, from, len);
}

/* ---- state ---- */

void vm_virtq_save(const struct vm_virtq *q, struct lb_wr *wr)
{
	lb_wr_u16le(wr, q->size);
	lb_wr_u16le(wr, q->vector);
	lb_wr_u8(wr, q->enabled);
	lb_wr_u8(wr, q->broken);
	lb_wr_u8(wr, q->indirect);
	lb_wr_u8(wr, q->event_idx);
	lb_wr_u64le(wr, q->desc.a);
	lb_wr_u64le(wr, q->avail.a);
	lb_wr_u64le(wr, q->used.a);
	lb_wr_u16le(wr, q->next_avail);
	lb_wr_u16le(wr, q->next_used);
	lb_wr_u16le(wr, q->signalled);
}

int vm_virtq_load(struct vm_virtq *q, struct lb_rd *rd, struct lb_err *err)
{
	q->size = lb_rd_u16le(rd);
	q->vector = lb_rd_u16le(rd);
	q->enabled = lb_rd_u8(rd) != 0;
	q->broken = lb_rd_u8(rd) != 0;
	q->indirect = lb_rd_u8(rd) != 0;
	q->event_idx = lb_rd_u8(rd) != 0;
	q->desc.a = lb_rd_u64le(rd);
	q->avail.a = lb_rd_u64le(rd);
	q->used.a = lb_rd_u64le(rd);
	q->next_avail = lb_rd_u16le(rd);
	q->next_used = lb_rd_u16le(rd);
	q->signalled = lb_rd_u16le(rd);
	if (q->size == 0 || q->size > q->size_max || (q->size & (q->size - 1)) != 0)
		return lb_err_set(err, LB_ECORRUPT, 0, "queue size %u", q->size);
	return 0;
}
