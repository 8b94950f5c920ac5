#include "vdriver.h"

#include <string.h>

#include "check.h"

#define CAP_MSIX   0x11
#define CAP_VENDOR 0x09
#define HEAP_GPA   UINT64_C(0x40000)
#define MSI_ADDR   UINT32_C(0xfee01000)
#define MSI_DATA   0x40u
#define VERSION_1  (UINT64_C(1) << 32)

static void select_config(struct vdriver *d, unsigned off)
{
	vm_board_pio_write(d->b, 0xcf8, 4,
			   UINT32_C(0x80000000) | (uint32_t)d->slot << 11 | (off & 0xfc));
}

uint32_t vd_config_read(struct vdriver *d, unsigned off, unsigned size)
{
	select_config(d, off);
	return (uint32_t)vm_board_pio_read(d->b, (uint16_t)(0xcfc + (off & 3)), size);
}

void vd_config_write(struct vdriver *d, unsigned off, unsigned size, uint32_t v)
{
	select_config(d, off);
	vm_board_pio_write(d->b, (uint16_t)(0xcfc + (off & 3)), size, v);
}

unsigned vd_capability(struct vdriver *d, uint8_t id, uint8_t type)
{
	unsigned at = vd_config_read(d, 0x34, 1);

	for (unsigned n = 0; at != 0; n++, at = vd_config_read(d, at + 1, 1)) {
		assert_true(n < 48); /* the list ends */
		if (vd_config_read(d, at, 1) == id &&
		    (type == 0 || vd_config_read(d, at + 3, 1) == type))
			return at;
	}
	return 0;
}

static uint32_t bar_size(struct vdriver *d, unsigned n)
{
	uint32_t mask;

	vd_config_write(d, 0x10 + 4 * n, 4, UINT32_MAX);
	mask = vd_config_read(d, 0x10 + 4 * n, 4);
	return ~(mask & ((mask & 1) != 0 ? ~UINT32_C(3) : ~UINT32_C(15))) + 1;
}

static void place_bars(struct vdriver *d)
{
	assert_int_equal(bar_size(d, 0), 128);
	assert_int_equal(bar_size(d, 1), 4096);
	assert_int_equal(bar_size(d, 4), 0x4000);
	d->io = (uint16_t)(0xc000 + 0x80 * d->slot);
	d->table = 0xfe000000 + 0x10000u * d->slot;
	d->mem = d->table + 0x8000;
	vd_config_write(d, 0x10, 4, d->io);
	vd_config_write(d, 0x14, 4, d->table);
	vd_config_write(d, 0x20, 4, d->mem);
	vd_config_write(d, 4, 2, 7); /* ports, memory, bus master */
}

static uint32_t cap_address(struct vdriver *d, uint8_t type)
{
	unsigned at = vd_capability(d, CAP_VENDOR, type);

	assert_int_not_equal(at, 0);
	assert_int_equal(vd_config_read(d, at + 4, 1), 4); /* BAR */
	return d->mem + vd_config_read(d, at + 8, 4);
}

static void find_modern(struct vdriver *d)
{
	d->common = cap_address(d, 1);
	d->notify = cap_address(d, 2);
	d->step = vd_config_read(d, vd_capability(d, CAP_VENDOR, 2) + 16, 4);
	d->isr = cap_address(d, 3);
	d->device = cap_address(d, 4);
}

static void enable_msix(struct vdriver *d)
{
	unsigned at = vd_capability(d, CAP_MSIX, 0);
	unsigned entries = (vd_config_read(d, at + 2, 2) & 0x7ff) + 1;

	assert_int_not_equal(at, 0);
	for (unsigned i = 0; i < entries; i++) {
		uint32_t e = d->table + 16 * i;

		vm_board_mmio_write(d->b, e, 4, MSI_ADDR);
		vm_board_mmio_write(d->b, e + 4, 4, 0);
		vm_board_mmio_write(d->b, e + 8, 4, MSI_DATA + i);
		vm_board_mmio_write(d->b, e + 12, 4, 0);
	}
	vd_config_write(d, at + 2, 2, 0x8000);
}

static uint64_t mmio(struct vdriver *d, uint32_t addr, unsigned size)
{
	return vm_board_mmio_read(d->b, addr, size);
}

static void set_mmio(struct vdriver *d, uint32_t addr, unsigned size, uint64_t v)
{
	vm_board_mmio_write(d->b, addr, size, v);
}

static uint64_t pio(struct vdriver *d, unsigned off, unsigned size)
{
	return vm_board_pio_read(d->b, (uint16_t)(d->io + off), size);
}

static void set_pio(struct vdriver *d, unsigned off, unsigned size, uint64_t v)
{
	vm_board_pio_write(d->b, (uint16_t)(d->io + off), size, v);
}

void vd_set_status(struct vdriver *d, uint8_t status)
{
	if (d->modern)
		set_mmio(d, d->common + 20, 1, status);
	else
		set_pio(d, 18, 1, status);
}

uint8_t vd_status(struct vdriver *d)
{
	return (uint8_t)(d->modern ? mmio(d, d->common + 20, 1) : pio(d, 18, 1));
}

uint8_t vd_isr(struct vdriver *d)
{
	return (uint8_t)(d->modern ? mmio(d, d->isr, 1) : pio(d, 19, 1));
}

uint64_t vd_device_read(struct vdriver *d, unsigned off, unsigned size)
{
	if (d->modern)
		return mmio(d, d->device + off, size);
	return pio(d, (d->msix ? 24 : 20) + off, size);
}

static void negotiate(struct vdriver *d, uint64_t want)
{
	uint64_t offered;

	if (!d->modern) {
		d->features = want & pio(d, 0, 4);
		set_pio(d, 4, 4, d->features);
		return;
	}
	set_mmio(d, d->common, 4, 0);
	offered = mmio(d, d->common + 4, 4);
	set_mmio(d, d->common, 4, 1);
	offered |= mmio(d, d->common + 4, 4) << 32;
	assert_true((offered & VERSION_1) != 0);
	d->features = (want | VERSION_1) & offered;
	for (unsigned i = 0; i < 2; i++) {
		set_mmio(d, d->common + 8, 4, i);
		set_mmio(d, d->common + 12, 4, d->features >> (32 * i) & UINT32_MAX);
	}
	vd_set_status(d, 3 | 8);
	assert_int_equal(vd_status(d), 3 | 8);
}

static void legacy_queue(struct vdriver *d, unsigned i)
{
	struct vd_queue *q = &d->q[i];

	set_pio(d, 14, 2, i);
	q->size = (uint16_t)pio(d, 12, 2);
	assert_true(q->size != 0);
	q->desc = vd_alloc(d, 0x3000);
	q->avail = q->desc + 16u * q->size;
	q->used = (q->avail + 6 + 2u * q->size + 4095) & ~UINT64_C(4095);
	set_pio(d, 8, 4, q->desc >> 12);
	assert_int_equal(pio(d, 8, 4), q->desc >> 12);
	if (!d->msix)
		return;
	set_pio(d, 22, 2, i + 1);
	assert_int_equal(pio(d, 22, 2), i + 1);
}

static void set_address(struct vdriver *d, unsigned off, uint64_t gpa)
{
	set_mmio(d, d->common + off, 4, gpa & UINT32_MAX);
	set_mmio(d, d->common + off + 4, 4, gpa >> 32);
}

static void modern_queue(struct vdriver *d, unsigned i)
{
	struct vd_queue *q = &d->q[i];

	set_mmio(d, d->common + 22, 2, i);
	q->size = (uint16_t)mmio(d, d->common + 24, 2);
	assert_true(q->size != 0);
	q->desc = vd_alloc(d, 0x1000);
	q->avail = vd_alloc(d, 0x1000);
	q->used = vd_alloc(d, 0x1000);
	set_address(d, 32, q->desc);
	set_address(d, 40, q->avail);
	set_address(d, 48, q->used);
	if (d->msix)
		set_mmio(d, d->common + 26, 2, i + 1);
	assert_int_equal(mmio(d, d->common + 30, 2), i);
	set_mmio(d, d->common + 28, 2, 1);
	assert_int_equal(mmio(d, d->common + 28, 2), 1);
}

void vd_restart(struct vdriver *d, uint64_t features, unsigned queues)
{
	assert_true(queues <= VD_QUEUES);
	memset(d->q, 0, sizeof(d->q));
	d->queues = queues;
	vd_set_status(d, 0);
	assert_int_equal(vd_status(d), 0);
	vd_set_status(d, 1);
	vd_set_status(d, 3);
	negotiate(d, features);
	if (d->msix && d->modern)
		set_mmio(d, d->common + 16, 2, 0);
	else if (d->msix)
		set_pio(d, 20, 2, 0);
	for (unsigned i = 0; i < queues; i++) {
		if (d->modern)
			modern_queue(d, i);
		else
			legacy_queue(d, i);
	}
	vd_set_status(d, d->modern ? 15 : 7);
}

void vd_start(struct vdriver *d, struct vm_board *b, uint8_t slot, bool modern, bool msix,
	      uint64_t features, unsigned queues)
{
	*d = (struct vdriver){.b = b, .slot = slot, .modern = modern, .msix = msix};
	d->heap = HEAP_GPA + UINT64_C(0x80000) * slot;
	assert_int_equal(vd_config_read(d, 0, 2), 0x1af4);
	place_bars(d);
	find_modern(d);
	if (msix)
		enable_msix(d);
	vd_restart(d, features, queues);
}

/* ---- memory and rings ---- */

void *vd_ptr(struct vdriver *d, uint64_t gpa)
{
	assert_true(gpa < d->b->mem->low_bytes);
	return d->b->mem->base + gpa;
}

uint64_t vd_alloc(struct vdriver *d, uint64_t bytes)
{
	uint64_t at = d->heap;

	d->heap += (bytes + 4095) & ~UINT64_C(4095);
	assert_true(d->heap <= d->b->mem->low_bytes);
	memset(vd_ptr(d, at), 0, bytes);
	return at;
}

static void put16(struct vdriver *d, uint64_t gpa, uint16_t v)
{
	__atomic_store_n((uint16_t *)vd_ptr(d, gpa), v, __ATOMIC_SEQ_CST);
}

static uint16_t get16(struct vdriver *d, uint64_t gpa)
{
	return __atomic_load_n((uint16_t *)vd_ptr(d, gpa), __ATOMIC_SEQ_CST);
}

void vd_write_desc(struct vdriver *d, uint64_t table, unsigned index, struct vd_buf b,
		   uint16_t flags, uint16_t next)
{
	uint8_t *p = vd_ptr(d, table + 16u * index);

	if (b.write)
		flags |= 2;
	memcpy(p, &b.gpa, 8);
	memcpy(p + 8, &b.len, 4);
	memcpy(p + 12, &flags, 2);
	memcpy(p + 14, &next, 2);
}

void vd_offer(struct vdriver *d, unsigned queue, uint16_t head)
{
	struct vd_queue *q = &d->q[queue];

	put16(d, q->avail + 4 + 2u * (q->avail_idx % q->size), head);
	q->avail_idx++;
	put16(d, q->avail + 2, q->avail_idx);
}

uint16_t vd_add(struct vdriver *d, unsigned queue, const struct vd_buf *bufs, unsigned n)
{
	struct vd_queue *q = &d->q[queue];
	uint16_t head = q->next_desc;

	for (unsigned i = 0; i < n; i++) {
		uint16_t next = (uint16_t)((q->next_desc + 1) % q->size);

		vd_write_desc(d, q->desc, q->next_desc, bufs[i], i + 1 < n, next);
		q->next_desc = next;
	}
	vd_offer(d, queue, head);
	return head;
}

uint16_t vd_add_indirect(struct vdriver *d, unsigned queue, const struct vd_buf *bufs, unsigned n)
{
	struct vd_queue *q = &d->q[queue];
	uint64_t table = vd_alloc(d, 16u * n);
	uint16_t head = q->next_desc;

	for (unsigned i = 0; i < n; i++)
		vd_write_desc(d, table, i, bufs[i], i + 1 < n, (uint16_t)(i + 1));
	vd_write_desc(d, q->desc, head, (struct vd_buf){table, 16 * n, false}, 4, 0);
	q->next_desc = (uint16_t)((head + 1) % q->size);
	vd_offer(d, queue, head);
	return head;
}

void vd_kick(struct vdriver *d, unsigned queue)
{
	if (d->modern)
		set_mmio(d, d->notify + d->step * queue, 2, queue);
	else
		set_pio(d, 16, 2, queue);
}

bool vd_used(struct vdriver *d, unsigned queue, uint32_t *id, uint32_t *len)
{
	struct vd_queue *q = &d->q[queue];
	uint64_t e = q->used + 4 + 8u * (q->used_idx % q->size);

	if (get16(d, q->used + 2) == q->used_idx)
		return false;
	memcpy(id, vd_ptr(d, e), 4);
	memcpy(len, vd_ptr(d, e + 4), 4);
	q->used_idx++;
	return true;
}
