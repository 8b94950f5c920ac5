#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "blk.h"
#include "check.h"
#include "gate_dev.h"
#include "imaging/dev.h"
#include "test_board.h"
#include "vdriver.h"
#include "virtio.h"
#include "virtio_pci.h"

#define DISK_BYTES (UINT64_C(4) << 20)
#define RAM_BYTES  (UINT64_C(4) << 20)
#define LIMIT_NS   UINT64_C(60000000000)
#define F_FLUSH    (UINT64_C(1) << 9)

enum {
	IN = 0,
	OUT = 1,
	FLUSH = 4,
	GET_ID = 8,
	DISCARD = 11,
	WRITE_ZEROES = 13
};

struct fix {
	struct test_board t;
	struct vm_pci *pci;
	struct img_dev *disk;
	struct gate_dev gate;
	struct vm_blk *blk;
	struct vdriver d;
};

static void fix_board(struct fix *f, struct img_dev *disk, bool open)
{
	struct vm_virtio_blk_cfg cfg = {.serial = "LB-0123456789-abcdefghi", .threads = 2};
	struct lb_err err = {0};

	*f = (struct fix){.disk = disk};
	test_board_init(&f->t, RAM_BYTES);
	assert_int_equal(vm_pci_create(&f->pci, &f->t.board, &err), 0);
	if (disk == NULL)
		assert_int_equal(img_mem_create(&f->disk, DISK_BYTES, &err), 0);
	gate_dev_init(&f->gate, f->disk, open);
	cfg.dev = &f->gate.dev;
	assert_int_equal(vm_virtio_blk_create(&f->t.board, f->pci, &cfg, &f->blk, &err), 0);
}

static void fix_init(struct fix *f, bool modern, bool msix, uint64_t features)
{
	fix_board(f, NULL, true);
	vd_start(&f->d, &f->t.board, 3, modern, msix, features, 1);
}

static void fix_fini(struct fix *f)
{
	test_board_fini(&f->t);
	gate_dev_fini(&f->gate);
	img_dev_destroy(f->disk);
}

/* A request in guest memory: header, data, status. */
struct breq {
	uint64_t header, data, status;
	uint32_t len;
	uint16_t head;
};

static struct breq prepare(struct fix *f, uint32_t type, uint64_t sector, uint32_t len)
{
	struct breq r = {.len = len};

	r.header = vd_alloc(&f->d, 16);
	r.data = vd_alloc(&f->d, len + 1);
	r.status = vd_alloc(&f->d, 1);
	memcpy(vd_ptr(&f->d, r.header), &type, 4);
	memcpy(vd_ptr(&f->d, r.header + 8), &sector, 8);
	memset(vd_ptr(&f->d, r.status), 0xee, 1);
	return r;
}

static void give(struct fix *f, struct breq *r, bool to_guest, bool indirect)
{
	struct vd_buf b[3] = {
		{r->header, 16, false},
		{r->data, r->len, to_guest},
		{r->status, 1, true},
	};
	unsigned n = 3;

	if (r->len == 0)
		b[--n - 1] = b[2];
	r->head = indirect ? vd_add_indirect(&f->d, 0, b, n) : vd_add(&f->d, 0, b, n);
	vd_kick(&f->d, 0);
}

static void settle(struct fix *f)
{
	assert_true(vm_blk_drain(f->blk, LIMIT_NS));
}

static uint8_t status_of(struct fix *f, const struct breq *r)
{
	return *(uint8_t *)vd_ptr(&f->d, r->status);
}

/* Do it and wait; returns the status byte. @len: bytes the device says it wrote. */
static uint8_t run(struct fix *f, struct breq *r, bool to_guest, uint32_t *len)
{
	uint32_t id, n;

	give(f, r, to_guest, false);
	settle(f);
	assert_true(vd_used(&f->d, 0, &id, &n));
	assert_int_equal(id, r->head);
	if (len != NULL)
		*len = n;
	return status_of(f, r);
}

static void pattern(void *p, uint32_t len, uint8_t seed)
{
	uint8_t *b = p;

	for (uint32_t i = 0; i < len; i++)
		b[i] = (uint8_t)(i * 7 + i / 251 + seed);
}

static void write_read(struct fix *f)
{
	struct breq w = prepare(f, OUT, 40, 1024), r = prepare(f, IN, 40, 1024);
	struct breq fl = prepare(f, FLUSH, 0, 0);
	uint8_t back[1024];
	uint32_t len, flushes = f->gate.flushes;
	struct lb_err err = {0};

	pattern(vd_ptr(&f->d, w.data), 1024, 3);
	assert_int_equal(run(f, &w, false, &len), 0);
	assert_int_equal(len, 1);
	assert_int_equal(img_pread(f->disk, back, 1024, 40 * 512, &err), 0);
	assert_memory_equal(back, vd_ptr(&f->d, w.data), 1024);
	assert_int_equal(run(f, &r, true, &len), 0);
	assert_int_equal(len, 1025);
	assert_memory_equal(back, vd_ptr(&f->d, r.data), 1024);
	assert_int_equal(run(f, &fl, false, &len), 0);
	assert_int_equal(f->gate.flushes, flushes + 1);
}

static void test_read_write(void **state)
{
	struct fix f;

	(void)state;
	for (unsigned mode = 0; mode < 4; mode++) {
		fix_init(&f, mode & 1, mode >> 1, F_FLUSH);
		write_read(&f);
		if (mode >> 1)
			assert_int_equal(f.t.msis, 3);
		else
			assert_true(f.t.line[vm_pci_irq(f.pci, 3)]);
		fix_fini(&f);
	}
}

static void test_config(void **state)
{
	struct fix f;

	(void)state;
	fix_init(&f, true, false, 0);
	assert_int_equal(vd_device_read(&f.d, 0, 8), DISK_BYTES / 512);
	assert_int_equal(vd_device_read(&f.d, 12, 4), 126);
	assert_int_equal(vd_device_read(&f.d, 20, 4), 512);
	assert_int_equal(vd_device_read(&f.d, 24, 1), 3);
	assert_int_equal(vd_device_read(&f.d, 40, 4), 1);
	assert_int_equal(vd_device_read(&f.d, 56, 1), 1);
	assert_int_equal(vd_config_read(&f.d, 2, 2), 0x1001);
	assert_int_equal(vd_config_read(&f.d, 0x2e, 2), 2);
	fix_fini(&f);
}

static void test_id(void **state)
{
	struct fix f;
	struct breq r, small;
	uint32_t len;

	(void)state;
	fix_init(&f, false, false, 0);
	r = prepare(&f, GET_ID, 0, 20);
	assert_int_equal(run(&f, &r, true, &len), 0);
	assert_int_equal(len, 21);
	assert_memory_equal(vd_ptr(&f.d, r.data), "LB-0123456789-abcdef", 21);
	small = prepare(&f, GET_ID, 0, 4);
	assert_int_equal(run(&f, &small, true, &len), 0);
	assert_int_equal(len, 5);
	fix_fini(&f);
}

static uint8_t zero_range(struct fix *f, uint32_t type, uint64_t sector, uint32_t sectors,
			  uint32_t flags)
{
	struct breq r = prepare(f, type, 0, 16);

	memcpy(vd_ptr(&f->d, r.data), &sector, 8);
	memcpy(vd_ptr(&f->d, r.data + 8), &sectors, 4);
	memcpy(vd_ptr(&f->d, r.data + 12), &flags, 4);
	return run(f, &r, false, NULL);
}

static void test_zero(void **state)
{
	struct fix f;
	struct breq w, r;

	(void)state;
	fix_init(&f, true, false, F_FLUSH);
	w = prepare(&f, OUT, 0, 4096);
	memset(vd_ptr(&f.d, w.data), 0x77, 4096);
	assert_int_equal(run(&f, &w, false, NULL), 0);
	assert_int_equal(zero_range(&f, WRITE_ZEROES, 1, 2, 1), 0);
	assert_int_equal(zero_range(&f, DISCARD, 5, 1, 0), 0);
	r = prepare(&f, IN, 0, 4096);
	assert_int_equal(run(&f, &r, true, NULL), 0);
	for (unsigned s = 0; s < 8; s++)
		assert_int_equal(*(uint8_t *)vd_ptr(&f.d, r.data + 512 * s),
				 s == 1 || s == 2 || s == 5 ? 0 : 0x77);
	assert_int_equal(zero_range(&f, DISCARD, 0, 1, 1), 2); /* flags */
	assert_int_equal(zero_range(&f, WRITE_ZEROES, 0, 1, 2), 2);
	assert_int_equal(zero_range(&f, DISCARD, 8192, 1, 0), 1); /* beyond the end */
	assert_int_equal(zero_range(&f, DISCARD, 0, UINT32_MAX, 0), 1);
	assert_int_equal(zero_range(&f, DISCARD, 0, 0, 0), 0);
	r = prepare(&f, DISCARD, 0, 32); /* two segments */
	assert_int_equal(run(&f, &r, false, NULL), 1);
	fix_fini(&f);
}

static void test_refused(void **state)
{
	struct fix f;
	static const struct {
		uint32_t type;
		uint64_t sector;
		uint32_t len;
		uint8_t status;
	} bad[] = {
		{IN, 8192, 512, 1},
		{IN, 8191, 1024, 1},
		{IN, 0, 100, 1},
		{IN, UINT64_MAX, 512, 1},
		{IN, UINT64_MAX / 512, 512, 1},
		{OUT, 8192, 512, 1},
		{OUT, 1, 513, 1},
		{OUT, UINT64_MAX - 1, 1024, 1},
		{77, 0, 512, 2},
		{0x7fffffff, 0, 512, 2},
	};

	(void)state;
	fix_init(&f, true, false, F_FLUSH);
	for (unsigned i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		struct breq r = prepare(&f, bad[i].type, bad[i].sector, bad[i].len);
		uint32_t len;

		assert_int_equal(run(&f, &r, bad[i].type == IN, &len), bad[i].status);
		assert_int_equal(len, 1);
	}
	assert_int_equal(f.gate.calls, 0);
	assert_int_equal(vd_status(&f.d), 15);
	fix_fini(&f);
}

/* Headers and status in odd pieces: the device looks at bytes, not at descriptors. */
static void test_any_layout(void **state)
{
	struct fix f;
	struct breq r;
	struct vd_buf b[6];
	uint32_t id, len;

	(void)state;
	fix_init(&f, false, false, 0);
	r = prepare(&f, OUT | 0x80000000, 2, 1024); /* with the old barrier bit */
	pattern(vd_ptr(&f.d, r.data), 1024, 9);
	memcpy(vd_ptr(&f.d, r.header + 16), vd_ptr(&f.d, r.data), 100);
	b[0] = (struct vd_buf){r.header, 7, false};
	b[1] = (struct vd_buf){r.header + 7, 109, false}; /* runs on into the data */
	b[2] = (struct vd_buf){r.data + 100, 1, false};
	b[3] = (struct vd_buf){r.data + 101, 923, false};
	b[4] = (struct vd_buf){r.status, 1, true};
	(void)vd_add(&f.d, 0, b, 5);
	vd_kick(&f.d, 0);
	settle(&f);
	assert_int_equal(status_of(&f, &r), 0);
	assert_true(vd_used(&f.d, 0, &id, &len));

	memset(vd_ptr(&f.d, r.data), 0, 1025);
	memset(vd_ptr(&f.d, r.header), 0, 4);
	b[0] = (struct vd_buf){r.header, 16, false};
	b[1] = (struct vd_buf){r.data, 1000, true};
	b[2] = (struct vd_buf){r.data + 1000, 25, true}; /* the last byte is the status */
	(void)vd_add(&f.d, 0, b, 3);
	vd_kick(&f.d, 0);
	settle(&f);
	assert_true(vd_used(&f.d, 0, &id, &len));
	assert_int_equal(len, 1025);
	for (unsigned i = 0; i < 1024; i++)
		assert_int_equal(*(uint8_t *)vd_ptr(&f.d, r.data + i),
				 (uint8_t)(i * 7 + i / 251 + 9));
	fix_fini(&f);
}

/* What no driver does breaks the queue, and nothing else. */
static void test_broken(void **state)
{
	struct fix f;

	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		struct breq r;
		struct vd_buf b[2];

		fix_init(&f, true, false, 0);
		r = prepare(&f, IN, 0, 512);
		b[0] = (struct vd_buf){r.header, i == 0 ? 15 : 16, false};
		b[1] = (struct vd_buf){r.status, 1, true};
		(void)vd_add(&f.d, 0, b, i == 1 ? 1 : 2); /* 1: no room for the status */
		if (i == 2) {
			fix_fini(&f);
			fix_board(&f, NULL, false);
			vd_start(&f.d, &f.t.board, 3, true, false, 0, 1);
			r = prepare(&f, IN, 0, 512);
			give(&f, &r, true, false);
			gate_dev_wait(&f.gate, 1);
			vd_offer(&f.d, 0, r.head); /* again, while it is in flight */
		}
		vd_kick(&f.d, 0);
		assert_int_equal(vd_status(&f.d), 15 | 0x40);
		gate_dev_set(&f.gate, true);
		settle(&f);
		vd_restart(&f.d, F_FLUSH, 1);
		write_read(&f);
		fix_fini(&f);
	}
}

static void test_read_only(void **state)
{
	struct test_board t;
	struct vm_pci *pci;
	struct img_dev *disk, *overlay_lower;
	struct vm_virtio_blk_cfg cfg = {0};
	struct fix f = {0};
	struct img_dev ro;
	struct img_dev_ops ops;
	struct breq r;
	struct lb_err err = {0};

	(void)state;
	assert_int_equal(img_mem_create(&disk, DISK_BYTES, &err), 0);
	overlay_lower = disk;
	ops = *disk->ops;
	ops.pwrite = NULL;
	assert_int_equal(img_fault_create(&disk, overlay_lower, 0, LB_EIO, &err), 0);
	img_dev_destroy(disk);
	/* a device without pwrite is read-only */
	ro = *overlay_lower;
	ro.ops = &ops;
	assert_int_equal(img_fault_create(&disk, &ro, 0, LB_EIO, &err), 0);
	assert_false(img_writable(disk));
	test_board_init(&t, RAM_BYTES);
	assert_int_equal(vm_pci_create(&pci, &t.board, &err), 0);
	cfg.dev = disk;
	assert_int_equal(vm_virtio_blk_create(&t.board, pci, &cfg, &f.blk, &err), 0);
	vd_start(&f.d, &t.board, 3, true, false, UINT64_MAX, 1);
	assert_true((f.d.features & (1 << 5)) != 0);
	assert_int_equal(f.d.features & (1 << 13 | 1 << 14), 0);
	r = prepare(&f, OUT, 0, 512);
	assert_int_equal(run(&f, &r, false, NULL), 1);
	assert_int_equal(zero_range(&f, WRITE_ZEROES, 0, 1, 0), 1);
	assert_int_equal(img_fault_count(disk), 0);
	test_board_fini(&t);
	img_dev_destroy(disk);
	img_dev_destroy(overlay_lower);
}

static void test_bad_size(void **state)
{
	struct test_board t;
	struct vm_pci *pci;
	struct img_dev *disk;
	struct vm_virtio_blk_cfg cfg = {0};
	struct lb_err err = {0};

	(void)state;
	test_board_init(&t, RAM_BYTES);
	assert_int_equal(vm_pci_create(&pci, &t.board, &err), 0);
	assert_int_equal(img_mem_create(&disk, 1000, &err), 0);
	cfg.dev = disk;
	assert_int_equal(vm_virtio_blk_create(&t.board, pci, &cfg, NULL, &err), LB_EINPUT);
	test_board_fini(&t);
	img_dev_destroy(disk);
}

static void test_io_error(void **state)
{
	struct fix f;
	struct img_dev *mem, *fault;
	struct breq r;
	struct lb_err err = {0};

	(void)state;
	assert_int_equal(img_mem_create(&mem, DISK_BYTES, &err), 0);
	assert_int_equal(img_fault_create(&fault, mem, 1, LB_EIO, &err), 0);
	fix_board(&f, fault, true);
	vd_start(&f.d, &f.t.board, 3, true, false, 0, 1);
	r = prepare(&f, IN, 0, 512);
	assert_int_equal(run(&f, &r, true, NULL), 1);
	assert_int_equal(f.t.events[VM_EVENT_DISK], 1);
	r = prepare(&f, IN, 0, 512);
	assert_int_equal(run(&f, &r, true, NULL), 0);
	fix_fini(&f);
	img_dev_destroy(mem);
}

/* A driver that knows no flush: each write is flushed before it is answered. */
static void test_write_through(void **state)
{
	struct fix f;
	struct breq r;

	(void)state;
	fix_init(&f, false, false, 0);
	r = prepare(&f, OUT, 0, 512);
	assert_int_equal(run(&f, &r, false, NULL), 0);
	assert_int_equal(f.gate.flushes, 1);
	r = prepare(&f, IN, 0, 512);
	assert_int_equal(run(&f, &r, true, NULL), 0);
	assert_int_equal(f.gate.flushes, 1);
	fix_fini(&f);
}

/* As many requests in flight as the queue holds, by indirect tables. */
static void test_queue_full(void **state)
{
	struct fix f;
	static struct breq r[128];
	bool seen[128] = {false};
	uint32_t id, len;

	(void)state;
	fix_board(&f, NULL, false);
	vd_start(&f.d, &f.t.board, 3, true, false, F_FLUSH | VM_VIRTIO_F_INDIRECT_DESC, 1);
	for (unsigned i = 0; i < 128; i++) {
		f.d.heap = 0x100000 + i * 0x4000;
		r[i] = prepare(&f, OUT, i, 512);
		memset(vd_ptr(&f.d, r[i].data), (int)i + 1, 512);
		give(&f, &r[i], false, true);
	}
	assert_false(vd_used(&f.d, 0, &id, &len));
	gate_dev_set(&f.gate, true);
	settle(&f);
	for (unsigned i = 0; i < 128; i++) {
		assert_true(vd_used(&f.d, 0, &id, &len));
		assert_in_range(id, 0, 127);
		assert_false(seen[id]);
		seen[id] = true;
		assert_int_equal(status_of(&f, &r[i]), 0);
	}
	assert_false(vd_used(&f.d, 0, &id, &len));
	for (unsigned i = 0; i < 128; i++) {
		uint8_t back[512];

		assert_int_equal(img_pread(f.disk, back, 512, 512 * i, NULL), 0);
		assert_int_equal(back[0], i + 1);
	}
	fix_fini(&f);
}

static void *open_main(void *arg)
{
	struct fix *f = arg;

	/* the reset below lets go of the lock only while it waits */
	vm_board_lock(&f->t.board);
	vm_board_unlock(&f->t.board);
	gate_dev_set(&f->gate, true);
	return NULL;
}

/* Reset with requests in flight: they end without a trace, and the device begins anew. */
static void test_reset_in_flight(void **state)
{
	struct fix f;
	struct breq r[4];
	pthread_t opener;

	(void)state;
	fix_board(&f, NULL, false);
	vd_start(&f.d, &f.t.board, 3, true, true, F_FLUSH, 1);
	for (unsigned i = 0; i < 4; i++) {
		r[i] = prepare(&f, IN, i, 512);
		give(&f, &r[i], true, false);
	}
	gate_dev_wait(&f.gate, 2);
	vm_board_lock(&f.t.board);
	assert_int_equal(pthread_create(&opener, NULL, open_main, &f), 0);
	vm_board_reset(&f.t.board);
	vm_board_unlock(&f.t.board);
	assert_int_equal(pthread_join(opener, NULL), 0);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(status_of(&f, &r[i]), 0xee);
	assert_int_equal(f.t.msis, 0);
	assert_int_equal(f.gate.calls, 2);
	vd_start(&f.d, &f.t.board, 3, true, true, F_FLUSH, 1);
	write_read(&f);
	fix_fini(&f);
}

static size_t save(struct fix *f, uint8_t *buf)
{
	struct lb_wr wr = lb_wr_init(buf, VM_SECTION_MAX);

	vm_board_lock(&f->t.board);
	assert_true(vm_board_save(&f->t.board, &wr));
	vm_board_unlock(&f->t.board);
	return wr.len;
}

static int load(struct fix *f, const uint8_t *buf, size_t len, struct lb_err *err)
{
	struct lb_rd rd = lb_rd_init(buf, len);
	int rc;

	vm_board_lock(&f->t.board);
	rc = vm_board_load(&f->t.board, &rd, err);
	if (rc == 0)
		vm_board_resume(&f->t.board);
	vm_board_unlock(&f->t.board);
	return rc;
}

/* A cut with requests in flight, and one the device was not yet told of: in the other machine all
 * of them are done, each once. */
static void test_state_in_flight(void **state)
{
	static uint8_t buf[VM_SECTION_MAX];
	struct fix f, g;
	struct breq r[4];
	uint32_t id, len;
	unsigned ids = 0;
	size_t n;
	struct lb_err err = {0};

	(void)state;
	fix_board(&f, NULL, false);
	vd_start(&f.d, &f.t.board, 3, true, true, F_FLUSH, 1);
	for (unsigned i = 0; i < 4; i++) {
		struct vd_buf b[3];

		r[i] = prepare(&f, i == 3 ? FLUSH : i % 2, 8 * i, i == 3 ? 0 : 1024);
		b[0] = (struct vd_buf){r[i].header, 16, false};
		b[1] = (struct vd_buf){r[i].data, 1024, i % 2 == 0};
		b[2] = (struct vd_buf){r[i].status, 1, true};
		if (i == 3)
			b[1] = b[2];
		if (i < 3)
			pattern(vd_ptr(&f.d, r[i].data), 1024, (uint8_t)i);
		r[i].head = vd_add(&f.d, 0, b, i == 3 ? 2 : 3);
		if (i != 2)
			continue;
		vd_kick(&f.d, 0); /* the fourth is not announced */
		gate_dev_wait(&f.gate, 2);
	}
	n = save(&f, buf);

	fix_board(&g, NULL, true);
	memcpy(g.t.mem.base, f.t.mem.base, f.t.mem.ram_bytes);
	assert_int_equal(load(&g, buf, n, &err), 0);
	g.d = f.d;
	g.d.b = &g.t.board;
	settle(&g);
	while (vd_used(&g.d, 0, &id, &len))
		ids |= 1u << id;
	assert_int_equal(ids,
			 1u << r[0].head | 1u << r[1].head | 1u << r[2].head | 1u << r[3].head);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(status_of(&g, &r[i]), 0);
	assert_int_equal(*(uint8_t *)vd_ptr(&g.d, r[0].data + 5),
			 0); /* was read: the disk is empty */
	assert_int_equal(g.gate.calls, 4);
	assert_int_equal(g.t.msis, 4);
	write_read(&g);
	fix_fini(&g);

	/* the first machine goes on too */
	gate_dev_set(&f.gate, true);
	vd_kick(&f.d, 0);
	settle(&f);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(status_of(&f, &r[i]), 0);
	fix_fini(&f);
}

static void test_state_refused(void **state)
{
	static uint8_t buf[VM_SECTION_MAX];
	struct fix f, g;
	struct breq r;
	struct img_dev *other;
	size_t n;
	struct lb_err err = {0};

	(void)state;
	fix_board(&f, NULL, false);
	vd_start(&f.d, &f.t.board, 3, true, true, F_FLUSH, 1);
	r = prepare(&f, IN, 0, 512);
	give(&f, &r, true, false);
	gate_dev_wait(&f.gate, 1);
	n = save(&f, buf);
	assert_int_equal(img_mem_create(&other, DISK_BYTES * 2, &err), 0);
	fix_board(&g, other, true);
	assert_int_equal(load(&g, buf, n, &err), LB_ECORRUPT);
	assert_non_null(strstr(err.msg, "8388608"));
	fix_fini(&g);

	fix_board(&g, NULL, true);
	memcpy(g.t.mem.base, f.t.mem.base, f.t.mem.ram_bytes);
	buf[n - 2] = 200; /* a head that cannot be */
	assert_int_equal(load(&g, buf, n, &err), LB_ECORRUPT);
	buf[n - 2] = 77; /* one that can, but names no request: the guest's problem */
	assert_int_equal(load(&g, buf, n, &err), 0);
	g.d = f.d;
	g.d.b = &g.t.board;
	assert_int_equal(vd_status(&g.d), 15 | 0x40);
	gate_dev_set(&f.gate, true);
	fix_fini(&f);
	fix_fini(&g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_read_write),
		cmocka_unit_test(test_config),
		cmocka_unit_test(test_id),
		cmocka_unit_test(test_zero),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_any_layout),
		cmocka_unit_test(test_broken),
		cmocka_unit_test(test_read_only),
		cmocka_unit_test(test_bad_size),
		cmocka_unit_test(test_io_error),
		cmocka_unit_test(test_write_through),
		cmocka_unit_test(test_queue_full),
		cmocka_unit_test(test_reset_in_flight),
		cmocka_unit_test(test_state_in_flight),
		cmocka_unit_test(test_state_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
