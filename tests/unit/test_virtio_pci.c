#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "check.h"
#include "test_board.h"
#include "vdriver.h"
#include "virtio_pci.h"

/* The smallest device: two queues; it gives every buffer back with the bytes "ok". */
struct echo {
	struct vm_virtio v;
	unsigned notified[2], resets;
	bool keep; /* leave the buffers where they are */
};

static void echo_notify(struct vm_virtio *v, unsigned queue)
{
	struct echo *e = (struct echo *)v;
	struct vm_chain c;

	e->notified[queue]++;
	while (!e->keep && vm_virtq_pop(&v->queue[queue], &c)) {
		uint32_t n = (uint32_t)vm_chain_write(v->pci.dev.board->mem, &c, 0, "ok", 2);

		vm_virtio_complete(v, queue, c.head, n);
	}
}

static void echo_reset(struct vm_virtio *v)
{
	((struct echo *)v)->resets++;
}

static void echo_destroy(struct vm_virtio *v)
{
	free(v);
}

static const struct vm_virtio_ops echo_ops = {
	.notify = echo_notify,
	.reset = echo_reset,
	.destroy = echo_destroy,
};
static const struct vm_dev_ops echo_dev_ops = {
	.name = "echo",
	.version = 1,
	.reset = vm_virtio_dev_reset,
	.save = vm_virtio_dev_save,
	.load = vm_virtio_dev_load,
	.resume = vm_virtio_dev_resume,
	.destroy = vm_virtio_dev_destroy,
};

struct fix {
	struct test_board t;
	struct vm_pci *pci;
	struct echo *e;
	struct vdriver d;
};

static void add_echo(struct fix *f)
{
	struct lb_err err = {0};

	f->e = calloc(1, sizeof(*f->e));
	assert_non_null(f->e);
	f->e->v.ops = &echo_ops;
	f->e->v.type = VM_VIRTIO_RNG;
	f->e->v.features = 1 << 3;
	f->e->v.queue_count = 2;
	f->e->v.queue[0].size_max = 16;
	f->e->v.queue[1].size_max = 8;
	memcpy(f->e->v.config, "configuration", 13);
	f->e->v.config_bytes = 13;
	assert_int_equal(vm_virtio_add(&f->e->v, &f->t.board, f->pci, &echo_dev_ops, &err), 0);
}

static void fix_init(struct fix *f, bool modern, bool msix, uint64_t features)
{
	struct lb_err err = {0};

	*f = (struct fix){0};
	test_board_init(&f->t, VM_RAM_MIN_BYTES);
	assert_int_equal(vm_pci_create(&f->pci, &f->t.board, &err), 0);
	add_echo(f);
	vd_start(&f->d, &f->t.board, 3, modern, msix, features, 2);
}

static void fix_fini(struct fix *f)
{
	test_board_fini(&f->t);
}

static unsigned line_of(struct fix *f)
{
	return vm_pci_irq(f->pci, f->d.slot);
}

/* One buffer there and back on @queue. */
static void echo_once(struct fix *f, unsigned queue)
{
	uint64_t gpa = vd_alloc(&f->d, 16);
	struct vd_buf b = {gpa, 16, true};
	uint16_t head = vd_add(&f->d, queue, &b, 1);
	uint32_t id, len;

	vd_kick(&f->d, queue);
	assert_true(vd_used(&f->d, queue, &id, &len));
	assert_int_equal(id, head);
	assert_int_equal(len, 2);
	assert_memory_equal(vd_ptr(&f->d, gpa), "ok", 3);
}

static void test_intx(void **state)
{
	struct fix f;

	(void)state;
	for (unsigned modern = 0; modern < 2; modern++) {
		fix_init(&f, modern, false, 0);
		assert_false(f.t.line[line_of(&f)]);
		echo_once(&f, 1);
		assert_true(f.t.line[line_of(&f)]);
		assert_int_equal(vd_isr(&f.d), 1);
		assert_false(f.t.line[line_of(&f)]);
		assert_int_equal(vd_isr(&f.d), 0);
		echo_once(&f, 0);
		assert_true(f.t.line[line_of(&f)]);
		vd_set_status(&f.d, 0); /* a reset lowers the line */
		assert_false(f.t.line[line_of(&f)]);
		assert_int_equal(f.t.msis, 0);
		fix_fini(&f);
	}
}

static void test_msix(void **state)
{
	struct fix f;

	(void)state;
	for (unsigned modern = 0; modern < 2; modern++) {
		fix_init(&f, modern, true, 0);
		echo_once(&f, 1);
		assert_int_equal(f.t.msis, 1);
		assert_int_equal(f.t.msi_addr, 0xfee01000);
		assert_int_equal(f.t.msi_data, 0x42);
		echo_once(&f, 0);
		assert_int_equal(f.t.msi_data, 0x41);
		assert_false(f.t.line[line_of(&f)]);
		fix_fini(&f);
	}
}

/* A masked vector, and a masked function, keep the message until they are not any more. */
static void test_msix_masks(void **state)
{
	struct fix f;
	unsigned cap;

	(void)state;
	fix_init(&f, true, true, 0);
	cap = vd_capability(&f.d, 0x11, 0);
	vm_board_mmio_write(&f.t.board, f.d.table + 16 + 12, 4, 1);
	echo_once(&f, 0);
	assert_int_equal(f.t.msis, 0);
	assert_int_equal(vm_board_mmio_read(&f.t.board, f.d.table + 0x800, 8), 1 << 1);
	vm_board_mmio_write(&f.t.board, f.d.table + 16 + 12, 4, 0);
	assert_int_equal(f.t.msis, 1);
	assert_int_equal(vm_board_mmio_read(&f.t.board, f.d.table + 0x800, 8), 0);
	vd_config_write(&f.d, cap + 2, 2, 0xc000);
	echo_once(&f, 1);
	assert_int_equal(f.t.msis, 1);
	vd_config_write(&f.d, cap + 2, 2, 0x8000);
	assert_int_equal(f.t.msis, 2);
	assert_int_equal(f.t.msi_data, 0x42);
	assert_int_equal(vm_board_mmio_read(&f.t.board, f.d.table + 16, 8), 0xfee01000);
	assert_int_equal(vm_board_mmio_read(&f.t.board, f.d.table + 16 * 3, 4), 0); /* no entry */
	fix_fini(&f);
}

static uint64_t common(struct fix *f, unsigned off, unsigned size)
{
	return vm_board_mmio_read(&f->t.board, f->d.common + off, size);
}

static void set_common(struct fix *f, unsigned off, unsigned size, uint64_t v)
{
	vm_board_mmio_write(&f->t.board, f->d.common + off, size, v);
}

static void test_modern_registers(void **state)
{
	struct fix f;

	(void)state;
	fix_init(&f, true, false, UINT64_MAX);
	assert_int_equal(f.d.features, UINT64_C(0x138000008)); /* ours and the rings', no more */
	assert_int_equal(common(&f, 18, 2), 2);
	assert_int_equal(vd_status(&f.d), 15);
	set_common(&f, 0, 4, 7); /* a word of features that is not there */
	assert_int_equal(common(&f, 4, 4), 0);
	set_common(&f, 12, 4, 0); /* too late */
	assert_true(vm_virtio_has(&f.e->v, 1 << 3));
	set_common(&f, 22, 2, 1);
	assert_int_equal(common(&f, 24, 2), 8);
	set_common(&f, 24, 2, 4); /* enabled: fixed */
	assert_int_equal(common(&f, 24, 2), 8);
	assert_int_equal(common(&f, 32, 8), f.d.q[1].desc);
	set_common(&f, 22, 2, 2); /* no such queue */
	assert_int_equal(common(&f, 24, 2), 0);
	assert_int_equal(common(&f, 28, 2), 0);
	set_common(&f, 28, 2, 1);
	assert_int_equal(common(&f, 28, 2), 0);
	assert_int_equal(common(&f, 2000, 4), 0);
	assert_int_equal(vd_device_read(&f.d, 0, 4), 0x666e6f63);
	assert_int_equal(vd_device_read(&f.d, 12, 4), 'n'); /* zero behind the end */
	fix_fini(&f);
}

static void test_modern_negotiation(void **state)
{
	struct fix f;

	(void)state;
	fix_init(&f, true, false, 0);
	vd_set_status(&f.d, 0);
	vd_set_status(&f.d, 3);
	set_common(&f, 8, 4, 0);
	set_common(&f, 12, 4, 1 << 3); /* no VERSION_1 */
	vd_set_status(&f.d, 11);
	assert_int_equal(vd_status(&f.d), 3);
	set_common(&f, 8, 4, 1);
	set_common(&f, 12, 4, 1);
	set_common(&f, 8, 4, 0);
	set_common(&f, 12, 4, 1 << 5); /* not offered */
	vd_set_status(&f.d, 11);
	assert_int_equal(vd_status(&f.d), 3);
	set_common(&f, 12, 4, 1 << 3);
	vd_set_status(&f.d, 11);
	assert_int_equal(vd_status(&f.d), 11);
	set_common(&f, 22, 2, 0);
	for (unsigned i = 0; i < 3; i++) {
		static const uint16_t bad[] = {0, 3, 32};

		set_common(&f, 24, 2, bad[i]);
		assert_int_equal(common(&f, 24, 2), 16);
	}
	set_common(&f, 24, 2, 4);
	assert_int_equal(common(&f, 24, 2), 4);
	set_common(&f, 26, 2, 3); /* no such vector */
	assert_int_equal(common(&f, 26, 2), 0xffff);
	set_common(&f, 32, 8, UINT64_C(0x123456789a));
	assert_int_equal(common(&f, 32, 4), 0x3456789a);
	assert_int_equal(common(&f, 36, 4), 0x12);
	fix_fini(&f);
}

static void test_legacy_registers(void **state)
{
	struct fix f;
	uint16_t io;

	(void)state;
	fix_init(&f, false, false, UINT64_MAX);
	io = f.d.io;
	assert_int_equal(f.d.features, 0x38000008);
	assert_int_equal(vm_board_pio_read(&f.t.board, io + 20, 4), 0x666e6f63);
	vm_board_pio_write(&f.t.board, io + 14, 2, 9);
	assert_int_equal(vm_board_pio_read(&f.t.board, io + 12, 2), 0); /* no such queue */
	assert_int_equal(vm_board_pio_read(&f.t.board, io + 8, 4), 0);
	vm_board_pio_write(&f.t.board, io + 8, 4, 0x123);
	vm_board_pio_write(&f.t.board, io + 16, 2, 9);
	vm_board_pio_write(&f.t.board, io + 14, 2, 0);
	vm_board_pio_write(&f.t.board, io + 8, 4, 0x123); /* in use */
	assert_int_equal(vm_board_pio_read(&f.t.board, io + 8, 4), f.d.q[0].desc >> 12);
	vm_board_pio_write(&f.t.board, io + 8, 4, 0); /* gives it up: a reset */
	assert_int_equal(vd_status(&f.d), 0);
	assert_int_equal(vm_board_pio_read(&f.t.board, io + 8, 4), 0);
	fix_fini(&f);
}

/* A queue that breaks says so by status and a configuration interrupt, until reset. */
static void test_broken(void **state)
{
	struct fix f;

	(void)state;
	fix_init(&f, true, true, 0);
	vd_offer(&f.d, 0, 999);
	vd_kick(&f.d, 0);
	assert_int_equal(vd_status(&f.d), 15 | 0x40);
	assert_int_equal(f.t.msis, 1);
	assert_int_equal(f.t.msi_data, 0x40);
	vd_kick(&f.d, 0);
	assert_int_equal(f.t.msis, 1);
	echo_once(&f, 1); /* the other one works */
	vd_restart(&f.d, 0, 2);
	echo_once(&f, 0);
	fix_fini(&f);
}

/* Buffers given before DRIVER_OK are seen then. */
static void test_early_buffers(void **state)
{
	struct fix f;
	uint32_t id, len;
	struct vd_buf b;

	(void)state;
	fix_init(&f, true, false, 0);
	f.e->keep = true;
	b = (struct vd_buf){vd_alloc(&f.d, 16), 16, true};
	vd_set_status(&f.d, 11); /* DRIVER_OK taken back: not live */
	(void)vd_add(&f.d, 0, &b, 1);
	vd_kick(&f.d, 0);
	f.e->keep = false;
	assert_false(vd_used(&f.d, 0, &id, &len));
	vd_set_status(&f.d, 15);
	assert_true(vd_used(&f.d, 0, &id, &len));
	fix_fini(&f);
}

static void test_window(void **state)
{
	struct fix f;
	unsigned cap;

	(void)state;
	fix_init(&f, true, false, 0);
	cap = vd_capability(&f.d, 9, 5);
	vd_config_write(&f.d, cap + 4, 1, 4);
	vd_config_write(&f.d, cap + 8, 4, 0x2000);
	vd_config_write(&f.d, cap + 12, 4, 4);
	assert_int_equal(vd_config_read(&f.d, cap + 16, 4), 0x666e6f63);
	vd_config_write(&f.d, cap + 8, 4, 20); /* status */
	vd_config_write(&f.d, cap + 12, 4, 1);
	assert_int_equal(vd_config_read(&f.d, cap + 16, 1), 15);
	vd_config_write(&f.d, cap + 16, 1, 0);
	assert_int_equal(vd_status(&f.d), 0);
	for (unsigned i = 0; i < 5; i++) {
		static const uint32_t bad[][3] = {
			{4, 0, 8}, {4, 0, 0}, {4, 0x3ffd, 4}, {4, 0xfffffffc, 4}, {9, 0, 4}};

		vd_config_write(&f.d, cap + 4, 1, bad[i][0]);
		vd_config_write(&f.d, cap + 8, 4, bad[i][1]);
		vd_config_write(&f.d, cap + 12, 4, bad[i][2]);
		vd_config_write(&f.d, cap + 16, 4, 0x1234);
		assert_int_equal(vd_config_read(&f.d, cap + 16, 4), 0x1234); /* a plain register */
	}
	fix_fini(&f);
}

/* The state goes to another machine, which goes on with the same rings. */
static void test_state(void **state)
{
	static uint8_t buf[VM_SECTION_MAX];
	struct lb_err err = {0};

	(void)state;
	for (unsigned mode = 0; mode < 4; mode++) {
		struct fix f, g;
		struct lb_wr wr = lb_wr_init(buf, sizeof(buf));
		struct lb_rd rd;

		fix_init(&f, mode & 1, mode >> 1, ~VM_VIRTIO_F_EVENT_IDX);
		echo_once(&f, 0);
		assert_true(vm_board_save(&f.t.board, &wr));
		fix_init(&g, !(mode & 1), false, 0); /* whatever it did before */
		memcpy(g.t.mem.base, f.t.mem.base, f.t.mem.ram_bytes);
		rd = lb_rd_init(buf, wr.len);
		assert_int_equal(vm_board_load(&g.t.board, &rd, &err), 0);
		vm_board_resume(&g.t.board);
		g.d = f.d;
		g.d.b = &g.t.board;
		assert_int_equal(g.t.line[line_of(&g)], f.t.line[line_of(&f)]);
		echo_once(&g, 0);
		echo_once(&g, 1);
		assert_int_equal(g.t.msis, mode >> 1 ? 2 : 0);
		assert_int_equal(vd_status(&g.d), vd_status(&f.d));
		for (size_t cut = 1; cut < wr.len; cut += 13) {
			rd = lb_rd_init(buf, wr.len - cut);
			assert_int_equal(vm_board_load(&g.t.board, &rd, &err), LB_ECORRUPT);
		}
		g.e->v.features = 0; /* another device */
		rd = lb_rd_init(buf, wr.len);
		assert_int_equal(vm_board_load(&g.t.board, &rd, &err), LB_ECORRUPT);
		fix_fini(&f);
		fix_fini(&g);
	}
}

static void test_board_reset(void **state)
{
	struct fix f;

	(void)state;
	fix_init(&f, true, true, 0);
	echo_once(&f, 0);
	vm_board_lock(&f.t.board);
	vm_board_reset(&f.t.board);
	vm_board_unlock(&f.t.board);
	assert_int_equal(vd_config_read(&f.d, 0x20, 4), 0);
	assert_int_equal(vm_board_mmio_read(&f.t.board, f.d.common, 4), UINT32_MAX);
	vd_start(&f.d, &f.t.board, 3, false, false, 0, 2); /* capabilities are still there */
	echo_once(&f, 1);
	fix_fini(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_intx),
		cmocka_unit_test(test_msix),
		cmocka_unit_test(test_msix_masks),
		cmocka_unit_test(test_modern_registers),
		cmocka_unit_test(test_modern_negotiation),
		cmocka_unit_test(test_legacy_registers),
		cmocka_unit_test(test_broken),
		cmocka_unit_test(test_early_buffers),
		cmocka_unit_test(test_window),
		cmocka_unit_test(test_state),
		cmocka_unit_test(test_board_reset),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
