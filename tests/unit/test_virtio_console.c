#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "check.h"
#include "test_board.h"
#include "vdriver.h"
#include "virtio.h"
#include "virtio_pci.h"

#define F_MULTIPORT (UINT64_C(1) << 1)

enum {
	RX0,
	TX0,
	CONTROL_RX,
	CONTROL_TX,
	RX1,
	TX1,
	QUEUES
};

struct fix {
	struct test_board t;
	struct vm_pci *pci;
	struct vm_virtio_console *c;
	struct vdriver d;
};

static void fix_board(struct fix *f)
{
	struct lb_err err = {0};

	*f = (struct fix){0};
	test_board_init(&f->t, UINT64_C(4) << 20);
	assert_int_equal(vm_pci_create(&f->pci, &f->t.board, &err), 0);
	assert_int_equal(vm_virtio_console_create(&f->c, &f->t.board, f->pci, &err), 0);
}

static void fix_init(struct fix *f, bool modern)
{
	fix_board(f);
	vd_start(&f->d, &f->t.board, 3, modern, false, F_MULTIPORT, QUEUES);
}

static void fix_fini(struct fix *f)
{
	test_board_fini(&f->t);
}

static uint64_t give(struct fix *f, unsigned queue, uint32_t len)
{
	uint64_t gpa = vd_alloc(&f->d, len);
	struct vd_buf b = {gpa, len, true};

	(void)vd_add(&f->d, queue, &b, 1);
	vd_kick(&f->d, queue);
	return gpa;
}

static void put(struct fix *f, unsigned queue, const void *p, uint32_t len)
{
	uint64_t gpa = vd_alloc(&f->d, len);
	struct vd_buf b = {gpa, len, false};
	uint32_t id, n;

	memcpy(vd_ptr(&f->d, gpa), p, len);
	(void)vd_add(&f->d, queue, &b, 1);
	vd_kick(&f->d, queue);
	assert_true(vd_used(&f->d, queue, &id, &n));
}

static void control(struct fix *f, uint32_t id, uint16_t event, uint16_t value)
{
	uint8_t m[8];
	struct lb_wr wr = lb_wr_init(m, sizeof(m));

	lb_wr_u32le(&wr, id);
	lb_wr_u16le(&wr, event);
	lb_wr_u16le(&wr, value);
	put(f, CONTROL_TX, m, sizeof(m));
}

/* What Linux does when it finds the port and a program opens it. */
static void open_port(struct fix *f)
{
	uint64_t m[3];
	uint32_t id, len;

	control(f, UINT32_MAX, 0, 1); /* DEVICE_READY; the buffers come later */
	for (unsigned i = 0; i < 3; i++)
		m[i] = give(f, CONTROL_RX, 64);
	assert_true(vd_used(&f->d, CONTROL_RX, &id, &len));
	check_hex(vd_ptr(&f->d, m[0]), 8, "0100000001000000");
	assert_false(vd_used(&f->d, CONTROL_RX, &id, &len));
	control(f, 1, 3, 1); /* PORT_READY */
	assert_true(vd_used(&f->d, CONTROL_RX, &id, &len));
	assert_int_equal(len, 8 + 22);
	check_hex(vd_ptr(&f->d, m[1]), 8, "0100000007000100");
	assert_memory_equal(vd_ptr(&f->d, m[1] + 8), "org.lifeboat.heartbeat", 23);
	assert_true(vd_used(&f->d, CONTROL_RX, &id, &len));
	check_hex(vd_ptr(&f->d, m[2]), 8, "0100000006000100");
	control(f, 1, 6, 1); /* PORT_OPEN by a program */
}

static void test_port(void **state)
{
	struct fix f;
	uint64_t in;
	uint32_t id, len;

	(void)state;
	for (unsigned modern = 0; modern < 2; modern++) {
		fix_init(&f, modern);
		assert_int_equal(vd_device_read(&f.d, 4, 4), 2);
		assert_int_equal(vm_virtio_console_input(f.c, "early", 5), 5);
		in = give(&f, RX1, 64);
		assert_false(vd_used(&f.d, RX1, &id, &len));
		open_port(&f);
		assert_true(vd_used(&f.d, RX1, &id, &len)); /* kept until it was opened */
		assert_int_equal(len, 5);
		assert_memory_equal(vd_ptr(&f.d, in), "early", 5);
		put(&f, TX1, "beat\n", 5);
		assert_int_equal(f.t.events[VM_EVENT_PORT], 1);
		put(&f, TX0, "console", 7); /* nobody reads that one */
		assert_int_equal(f.t.events[VM_EVENT_PORT], 1);
		fix_fini(&f);
	}
}

/* More than one event's worth, more than the input queue holds, buffers smaller than the input. */
static void test_bounds(void **state)
{
	struct fix f;
	static uint8_t big[9000];
	uint64_t in;
	uint32_t id, len;

	(void)state;
	fix_init(&f, true);
	open_port(&f);
	put(&f, TX1, big, sizeof(big));
	assert_int_equal(f.t.events[VM_EVENT_PORT], 3);
	for (unsigned i = 0; i < sizeof(big); i++)
		big[i] = (uint8_t)(i / 7);
	assert_int_equal(vm_virtio_console_input(f.c, big, sizeof(big)), 4096);
	assert_int_equal(vm_virtio_console_input(f.c, big, 1), 0);
	in = give(&f, RX1, 1000);
	assert_true(vd_used(&f.d, RX1, &id, &len));
	assert_int_equal(len, 1000);
	assert_memory_equal(vd_ptr(&f.d, in), big, 1000);
	assert_int_equal(vm_virtio_console_input(f.c, "xyz", 3), 3);
	in = give(&f, RX1, 4000);
	assert_true(vd_used(&f.d, RX1, &id, &len));
	assert_int_equal(len, 3099);
	assert_memory_equal(vd_ptr(&f.d, in), big + 1000, 3096);
	assert_memory_equal(vd_ptr(&f.d, in + 3096), "xyz", 3);
	fix_fini(&f);
}

static void test_hostile(void **state)
{
	struct fix f;
	uint64_t m;
	uint32_t id, len;

	(void)state;
	fix_init(&f, true);
	put(&f, CONTROL_TX, "short", 5);
	control(&f, 7, 6, 1);  /* no such port */
	control(&f, 1, 99, 1); /* no such event */
	control(&f, 0, 0, 0);  /* DEVICE_READY: it could not */
	m = give(&f, CONTROL_RX, 4);
	assert_false(vd_used(&f.d, CONTROL_RX, &id, &len));
	for (unsigned i = 0; i < 100; i++) /* asked again and again: answered once */
		control(&f, 0, 0, 1);
	assert_true(vd_used(&f.d, CONTROL_RX, &id, &len));
	assert_int_equal(len, 4); /* as much as it holds */
	check_hex(vd_ptr(&f.d, m), 4, "01000000");
	assert_int_equal(vd_status(&f.d), 15);
	fix_fini(&f);
}

/* One buffer that is the same memory many times: no driver sends that, and nobody waits for it. */
static void test_endless_output(void **state)
{
	const uint32_t piece = 1 << 20;
	struct vd_buf b[60];
	struct fix f;
	uint32_t id, len;

	(void)state;
	fix_init(&f, true);
	open_port(&f);
	b[0] = (struct vd_buf){vd_alloc(&f.d, piece), piece, false};
	for (unsigned i = 1; i < 60; i++)
		b[i] = b[0];
	(void)vd_add(&f.d, TX1, b, 1);
	vd_kick(&f.d, TX1);
	assert_true(vd_used(&f.d, TX1, &id, &len)); /* as much as that is taken */
	assert_int_equal(f.t.events[VM_EVENT_PORT], 256);
	(void)vd_add(&f.d, TX1, b, 60);
	vd_kick(&f.d, TX1);
	assert_false(vd_used(&f.d, TX1, &id, &len));
	assert_int_equal(f.t.events[VM_EVENT_PORT], 256);
	assert_int_equal(vd_status(&f.d), 15 | 0x40); /* DEVICE_NEEDS_RESET */
	fix_fini(&f);
}

static void test_state(void **state)
{
	static uint8_t buf[VM_SECTION_MAX];
	struct fix f, g;
	struct lb_wr wr = lb_wr_init(buf, sizeof(buf));
	struct lb_rd rd;
	uint64_t in;
	uint32_t id, len;
	struct lb_err err = {0};

	(void)state;
	fix_init(&f, true);
	open_port(&f);
	assert_int_equal(vm_virtio_console_input(f.c, "thaw", 4), 4);
	assert_true(vm_board_save(&f.t.board, &wr));
	fix_board(&g);
	memcpy(g.t.mem.base, f.t.mem.base, f.t.mem.ram_bytes);
	rd = lb_rd_init(buf, wr.len);
	assert_int_equal(vm_board_load(&g.t.board, &rd, &err), 0);
	vm_board_resume(&g.t.board);
	g.d = f.d;
	g.d.b = &g.t.board;
	in = give(&g, RX1, 16);
	assert_true(vd_used(&g.d, RX1, &id, &len));
	assert_memory_equal(vd_ptr(&g.d, in), "thaw", 4);
	put(&g, TX1, "ok", 2);
	assert_int_equal(g.t.events[VM_EVENT_PORT], 1);
	buf[wr.len - 7] = 0x20; /* more input than there can be */
	rd = lb_rd_init(buf, wr.len);
	assert_int_equal(vm_board_load(&g.t.board, &rd, &err), LB_ECORRUPT);
	fix_fini(&f);
	fix_fini(&g);
}

static void test_rng(void **state)
{
	struct test_board t;
	struct vm_pci *pci;
	struct vdriver d;
	struct vd_buf b[2];
	uint32_t id, len;
	static const uint8_t zeros[64];
	struct lb_err err = {0};

	(void)state;
	for (unsigned modern = 0; modern < 2; modern++) {
		test_board_init(&t, UINT64_C(4) << 20);
		assert_int_equal(vm_pci_create(&pci, &t.board, &err), 0);
		assert_int_equal(vm_virtio_rng_create(&t.board, pci, &err), 0);
		vd_start(&d, &t.board, 3, modern, true, 0, 1);
		b[0] = (struct vd_buf){vd_alloc(&d, 64), 64, true};
		b[1] = (struct vd_buf){vd_alloc(&d, 4096), 4096, true};
		(void)vd_add(&d, 0, b, 1);
		vd_kick(&d, 0);
		assert_true(vd_used(&d, 0, &id, &len));
		assert_int_equal(len, 64);
		assert_memory_not_equal(vd_ptr(&d, b[0].gpa), zeros, 64);
		(void)vd_add(&d, 0, b, 2);
		vd_kick(&d, 0);
		assert_true(vd_used(&d, 0, &id, &len));
		assert_int_equal(len, 256);
		b[0].write = false; /* nothing to write to */
		(void)vd_add(&d, 0, b, 1);
		vd_kick(&d, 0);
		assert_true(vd_used(&d, 0, &id, &len));
		assert_int_equal(len, 0);
		assert_int_equal(t.msis, 3);
		test_board_fini(&t);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_port),    cmocka_unit_test(test_bounds),
		cmocka_unit_test(test_hostile), cmocka_unit_test(test_endless_output),
		cmocka_unit_test(test_state),   cmocka_unit_test(test_rng),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
