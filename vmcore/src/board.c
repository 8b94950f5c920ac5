#include "board.h"

#include <inttypes.h>
#include <string.h>

#include "base/assert.h"
#include "base/env.h"
#include "base/err.h"

#define SECTION_NAME_BYTES 16u

void vm_board_init(struct vm_board *b, struct lb_env *env, struct vm_mem *mem,
		   const struct vm_board_ops *ops, void *arg)
{
	*b = (struct vm_board){.env = env, .mem = mem, .ops = ops, .arg = arg};
	b->devs_end = &b->devs;
	(void)pthread_mutex_init(&b->lock, NULL);
}

void vm_board_fini(struct vm_board *b)
{
	struct vm_dev *rev = NULL, *d, *next;

	for (d = b->devs; d != NULL; d = next) {
		next = d->next;
		d->next = rev;
		rev = d;
	}
	for (d = rev; d != NULL; d = next) {
		next = d->next;
		d->ops->destroy(d);
	}
	b->devs = NULL;
	(void)pthread_mutex_destroy(&b->lock);
}

void vm_board_add(struct vm_board *b, struct vm_dev *d, const struct vm_dev_ops *ops)
{
	unsigned n = 0;

	LB_ASSERT(strlen(ops->name) < SECTION_NAME_BYTES);
	for (const struct vm_dev *o = b->devs; o != NULL; o = o->next)
		n += strcmp(o->ops->name, ops->name) == 0;
	d->ops = ops;
	d->board = b;
	d->instance = n;
	d->next = NULL;
	*b->devs_end = d;
	b->devs_end = &d->next;
}

void vm_board_lock(struct vm_board *b)
{
	(void)pthread_mutex_lock(&b->lock);
}

void vm_board_unlock(struct vm_board *b)
{
	(void)pthread_mutex_unlock(&b->lock);
}

/* ---- address ranges ---- */

static int map_range(struct vm_range *set, unsigned *count, struct vm_range r, struct lb_err *err)
{
	if (*count == VM_RANGES_MAX)
		return lb_err_set(err, LB_ENOMEM, 0, "range at 0x%" PRIx64 ": %d are mapped",
				  r.base, VM_RANGES_MAX);
	set[(*count)++] = r;
	return 0;
}

static void unmap_range(struct vm_range *set, unsigned *count, uint64_t base, const void *arg)
{
	for (unsigned i = *count; i-- > 0;) {
		if (set[i].base != base || set[i].arg != arg)
			continue;
		memmove(&set[i], &set[i + 1], (*count - i - 1) * sizeof(*set));
		(*count)--;
		return;
	}
}

int vm_pio_map(struct vm_board *b, uint64_t base, uint64_t len, const struct vm_io_ops *ops,
	       void *arg, struct lb_err *err)
{
	struct vm_range r = {.base = base, .len = len, .ops = ops, .arg = arg};

	return map_range(b->pio, &b->pios, r, err);
}

int vm_mmio_map(struct vm_board *b, uint64_t base, uint64_t len, const struct vm_io_ops *ops,
		void *arg, struct lb_err *err)
{
	struct vm_range r = {.base = base, .len = len, .ops = ops, .arg = arg};

	return map_range(b->mmio, &b->mmios, r, err);
}

void vm_pio_unmap(struct vm_board *b, uint64_t base, void *arg)
{
	unmap_range(b->pio, &b->pios, base, arg);
}

void vm_mmio_unmap(struct vm_board *b, uint64_t base, void *arg)
{
	unmap_range(b->mmio, &b->mmios, base, arg);
}

/* Later ones lie on top. */
static const struct vm_range *range_of(const struct vm_range *set, unsigned count, uint64_t addr,
				       unsigned size)
{
	for (unsigned i = count; i-- > 0;)
		if (addr >= set[i].base && addr - set[i].base < set[i].len)
			return size <= set[i].len - (addr - set[i].base) ? &set[i] : NULL;
	return NULL;
}

static uint64_t ones(unsigned size)
{
	return UINT64_MAX >> (64 - 8 * size);
}

static uint64_t range_read(struct vm_board *b, const struct vm_range *set, unsigned count,
			   uint64_t addr, unsigned size)
{
	const struct vm_range *r = range_of(set, count, addr, size);

	(void)b;
	if (r == NULL)
		return ones(size);
	return r->ops->read(r->arg, addr - r->base, size) & ones(size);
}

static void range_write(const struct vm_range *set, unsigned count, uint64_t addr, unsigned size,
			uint64_t value)
{
	const struct vm_range *r = range_of(set, count, addr, size);

	if (r != NULL)
		r->ops->write(r->arg, addr - r->base, size, value & ones(size));
}

uint64_t vm_board_pio_read(struct vm_board *b, uint16_t port, unsigned size)
{
	uint64_t v;

	vm_board_lock(b);
	v = range_read(b, b->pio, b->pios, port, size);
	vm_board_unlock(b);
	return v;
}

void vm_board_pio_write(struct vm_board *b, uint16_t port, unsigned size, uint64_t value)
{
	vm_board_lock(b);
	range_write(b->pio, b->pios, port, size, value);
	vm_board_unlock(b);
}

uint64_t vm_board_mmio_read(struct vm_board *b, uint64_t addr, unsigned size)
{
	uint64_t v;

	vm_board_lock(b);
	v = range_read(b, b->mmio, b->mmios, addr, size);
	vm_board_unlock(b);
	return v;
}

void vm_board_mmio_write(struct vm_board *b, uint64_t addr, unsigned size, uint64_t value)
{
	vm_board_lock(b);
	range_write(b->mmio, b->mmios, addr, size, value);
	vm_board_unlock(b);
}

/* ---- interrupts ---- */

void vm_irq_set(struct vm_board *b, unsigned irq, unsigned source, bool level)
{
	uint64_t before, bit = UINT64_C(1) << source;

	LB_ASSERT(irq < 16 && source < 64);
	before = b->irq_sources[irq];
	b->irq_sources[irq] = level ? before | bit : before & ~bit;
	if ((before != 0) != (b->irq_sources[irq] != 0))
		b->ops->irq_line(b->arg, irq, b->irq_sources[irq] != 0);
}

void vm_irq_pulse(struct vm_board *b, unsigned irq, unsigned source)
{
	vm_irq_set(b, irq, source, true);
	vm_irq_set(b, irq, source, false);
}

void vm_msi_send(struct vm_board *b, uint64_t addr, uint32_t data)
{
	b->ops->msi(b->arg, addr, data);
}

unsigned vm_irq_source(struct vm_board *b)
{
	LB_ASSERT(b->sources < 64);
	return b->sources++;
}

/* ---- state ---- */

void vm_board_reset(struct vm_board *b)
{
	for (struct vm_dev *d = b->devs; d != NULL; d = d->next)
		d->ops->reset(d);
}

void vm_board_resume(struct vm_board *b)
{
	for (struct vm_dev *d = b->devs; d != NULL; d = d->next)
		if (d->ops->resume != NULL)
			d->ops->resume(d);
}

static void save_one(struct vm_dev *d, struct lb_wr *wr)
{
	char name[SECTION_NAME_BYTES] = "";
	struct lb_wr len;
	size_t at, begin;

	(void)strncpy(name, d->ops->name, sizeof(name) - 1);
	lb_wr_bytes(wr, name, sizeof(name));
	lb_wr_u32le(wr, d->instance);
	lb_wr_u16le(wr, d->ops->version);
	lb_wr_u16le(wr, 0);
	at = wr->len;
	lb_wr_u32le(wr, 0);
	begin = wr->len;
	d->ops->save(d, wr);
	if (wr->bad)
		return;
	LB_ASSERT(wr->len - begin <= VM_SECTION_MAX);
	len = lb_wr_init(wr->p + at, sizeof(uint32_t));
	lb_wr_u32le(&len, (uint32_t)(wr->len - begin));
}

bool vm_board_save(struct vm_board *b, struct lb_wr *wr)
{
	for (struct vm_dev *d = b->devs; d != NULL; d = d->next)
		save_one(d, wr);
	return lb_wr_done(wr);
}

static int load_one(struct vm_dev *d, struct lb_rd *rd, struct lb_err *err)
{
	char name[SECTION_NAME_BYTES], want[SECTION_NAME_BYTES] = "";
	uint32_t instance, len;
	uint16_t version;
	const uint8_t *p;
	struct lb_rd body;
	int rc;

	(void)strncpy(want, d->ops->name, sizeof(want) - 1);
	lb_rd_copy(rd, name, sizeof(name));
	instance = lb_rd_u32le(rd);
	version = lb_rd_u16le(rd);
	(void)lb_rd_u16le(rd);
	len = lb_rd_u32le(rd);
	if (rd->bad || memcmp(name, want, sizeof(name)) != 0 || instance != d->instance)
		return lb_err_set(err, LB_ECORRUPT, 0, "device state: section %s.%u is missing",
				  want, d->instance);
	if (version > d->ops->version)
		return lb_err_set(err, LB_EVERSION, 0,
				  "device state: %s.%u is of version %u, known: %u", want, instance,
				  version, d->ops->version);
	p = len <= VM_SECTION_MAX ? lb_rd_bytes(rd, len) : NULL;
	if (p == NULL)
		return lb_err_set(err, LB_ECORRUPT, 0, "device state: %s.%u has length %u", want,
				  instance, len);
	body = lb_rd_init(p, len);
	rc = d->ops->load(d, &body, version, err);
	if (rc != 0)
		return lb_err_wrap(err, rc, "device state: %s.%u", want, instance);
	if (!lb_rd_done(&body))
		return lb_err_set(err, LB_ECORRUPT, 0,
				  "device state: %s.%u: length %u does not fit", want, instance,
				  len);
	return 0;
}

int vm_board_load(struct vm_board *b, struct lb_rd *rd, struct lb_err *err)
{
	int rc = 0;

	for (struct vm_dev *d = b->devs; rc == 0 && d != NULL; d = d->next)
		rc = load_one(d, rd, err);
	if (rc == 0 && rd->left != 0)
		return lb_err_set(err, LB_ECORRUPT, 0,
				  "device state: %zu bytes after the last section", rd->left);
	return rc;
}
