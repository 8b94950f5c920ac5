#include <stdlib.h>

#include "base/err.h"
#include "check.h"
#include "net_sink.h"
#include "test_board.h"
#include "vdriver.h"
#include "virtio.h"
#include "virtio_pci.h"

#define RX     0u
#define TX     1u
#define F_MRG  (UINT64_C(1) << 15)
#define RX_BUF 2048u
#define FRAME  200u

static const uint8_t mac[6] = {0x52, 0x54, 0, 0, 0, 1};

/* The card's side of a wire: the test calls .receive itself. */
struct fix {
	struct test_board t;
	struct vm_pci *pci;
	struct vm_switch *sw;
	struct vm_net *port, *peer, *hold;
	struct net_sink sink;
	struct vdriver d;
};

static void fix_init(struct fix *f, bool modern, bool msix, uint64_t features, bool held)
{
	struct lb_err err = {0};

	*f = (struct fix){0};
	test_board_init(&f->t, UINT64_C(4) << 20);
	net_sink_init(&f->sink);
	assert_int_equal(vm_pci_create(&f->pci, &f->t.board, &err), 0);
	assert_int_equal(vm_switch_create(&f->sw, &err), 0);
	assert_int_equal(vm_net_switch(&f->port, f->sw, &err), 0);
	assert_int_equal(vm_net_switch(&f->peer, f->sw, &err), 0);
	vm_net_connect(f->peer, net_sink_receive, &f->sink);
	if (held)
		assert_int_equal(vm_net_hold(&f->hold, f->port, 2 * FRAME, &err), 0);
	assert_int_equal(
		vm_virtio_net_create(&f->t.board, f->pci, mac, held ? f->hold : f->port, &err), 0);
	vd_start(&f->d, &f->t.board, 3, modern, msix, features, 2);
}

static void fix_fini(struct fix *f)
{
	test_board_fini(&f->t);
	vm_net_destroy(f->hold);
	vm_net_destroy(f->port);
	vm_net_destroy(f->peer);
	vm_switch_destroy(f->sw);
	net_sink_fini(&f->sink);
}

static uint32_t header_bytes(const struct fix *f)
{
	return (f->d.features & (F_MRG | VM_VIRTIO_F_VERSION_1)) != 0 ? 12 : 10;
}

/* Put a frame into the sending queue; header and frame in two pieces, as old drivers do. */
static uint16_t queue_frame(struct fix *f, uint32_t len, uint8_t fill)
{
	uint64_t header = vd_alloc(&f->d, 12), frame = vd_alloc(&f->d, len);
	struct vd_buf b[2] = {{header, header_bytes(f), false}, {frame, len, false}};

	net_sink_frame(vd_ptr(&f->d, frame), len, 0xff, 1, fill);
	return vd_add(&f->d, TX, b, 2);
}

/* A frame comes from the wire and is delivered: a broadcast that the card itself sends afterwards
 * is heard by the peer only when the switch's thread is past it. */
static void deliver(struct fix *f, const uint8_t *frame, size_t len)
{
	unsigned before;
	uint8_t mark[60];

	(void)pthread_mutex_lock(&f->sink.lock);
	before = f->sink.count;
	(void)pthread_mutex_unlock(&f->sink.lock);
	assert_true(vm_net_send(f->peer, frame, len));
	net_sink_frame(mark, sizeof(mark), 0xff, 9, 0);
	assert_true(vm_net_send(f->port, mark, sizeof(mark)));
	net_sink_wait(&f->sink, before + 1);
}

static uint64_t give_buffer(struct fix *f, uint32_t len)
{
	uint64_t gpa = vd_alloc(&f->d, len);
	struct vd_buf b = {gpa, len, true};

	(void)vd_add(&f->d, RX, &b, 1);
	return gpa;
}

static void test_send(void **state)
{
	struct fix f;
	uint32_t id, len;

	(void)state;
	for (unsigned mode = 0; mode < 4; mode++) {
		fix_init(&f, mode & 1, mode >> 1, 0, false);
		(void)queue_frame(&f, FRAME, 7);
		(void)queue_frame(&f, 60, 8);
		vd_kick(&f.d, TX);
		net_sink_wait(&f.sink, 2);
		assert_int_equal(f.sink.len[0], FRAME);
		assert_int_equal(f.sink.len[1], 60);
		assert_int_equal(f.sink.frame[0][FRAME - 1], 7);
		assert_true(vd_used(&f.d, TX, &id, &len));
		assert_true(vd_used(&f.d, TX, &id, &len));
		if (mode >> 1)
			assert_int_equal(f.t.msi_data, 0x42);
		else
			assert_true(f.t.line[vm_pci_irq(f.pci, 3)]);
		fix_fini(&f);
	}
}

static void test_config(void **state)
{
	struct fix f;

	(void)state;
	fix_init(&f, false, false, UINT64_MAX, false);
	for (unsigned i = 0; i < 6; i++)
		assert_int_equal(vd_device_read(&f.d, i, 1), mac[i]);
	assert_int_equal(vd_device_read(&f.d, 6, 2), 1);
	assert_int_equal(vd_config_read(&f.d, 2, 2), 0x1000);
	fix_fini(&f);
}

/* Legacy without mergeable buffers, legacy with, modern without, modern with. */
static void test_receive(void **state)
{
	struct fix f;
	uint8_t frame[FRAME];
	uint32_t id, len;

	(void)state;
	net_sink_frame(frame, sizeof(frame), 1, 2, 5);
	for (unsigned mode = 0; mode < 4; mode++) {
		uint64_t gpa;
		uint32_t header;

		fix_init(&f, mode & 1, false, (mode >> 1) * F_MRG, false);
		header = header_bytes(&f);
		assert_int_equal(header, mode == 0 ? 10 : 12);
		deliver(&f, frame, sizeof(frame)); /* no buffer: dropped */
		gpa = give_buffer(&f, RX_BUF);
		vd_kick(&f.d, RX);
		assert_false(vd_used(&f.d, RX, &id, &len));
		deliver(&f, frame, sizeof(frame));
		assert_true(vd_used(&f.d, RX, &id, &len));
		assert_int_equal(len, header + FRAME);
		assert_memory_equal(vd_ptr(&f.d, gpa + header), frame, FRAME);
		if (header == 12)
			assert_int_equal(*(uint16_t *)vd_ptr(&f.d, gpa + 10), 1);
		assert_true(f.t.line[vm_pci_irq(f.pci, 3)]);
		fix_fini(&f);
	}
}

static void test_merge(void **state)
{
	struct fix f;
	uint8_t frame[FRAME];
	uint64_t gpa[4];
	uint32_t id, len;

	(void)state;
	net_sink_frame(frame, sizeof(frame), 1, 2, 0);
	for (unsigned i = 12; i < FRAME; i++)
		frame[i] = (uint8_t)i;
	fix_init(&f, true, false, F_MRG, false);
	for (unsigned i = 0; i < 2; i++)
		gpa[i] = give_buffer(&f, 80);
	deliver(&f, frame, sizeof(frame)); /* 212 bytes into 160: dropped, buffers stay */
	assert_false(vd_used(&f.d, RX, &id, &len));
	for (unsigned i = 2; i < 4; i++)
		gpa[i] = give_buffer(&f, 80);
	deliver(&f, frame, sizeof(frame));
	for (unsigned i = 0; i < 3; i++) {
		assert_true(vd_used(&f.d, RX, &id, &len));
		assert_int_equal(id, i);
		assert_int_equal(len, i < 2 ? 80 : 52);
	}
	assert_false(vd_used(&f.d, RX, &id, &len));
	assert_int_equal(*(uint16_t *)vd_ptr(&f.d, gpa[0] + 10), 3);
	assert_memory_equal(vd_ptr(&f.d, gpa[0] + 12), frame, 68);
	assert_memory_equal(vd_ptr(&f.d, gpa[1]), frame + 68, 80);
	assert_memory_equal(vd_ptr(&f.d, gpa[2]), frame + 148, 52);
	fix_fini(&f);
}

static void test_hostile(void **state)
{
	struct fix f;
	uint8_t frame[FRAME];
	uint32_t id, len;
	struct vd_buf b;

	(void)state;
	net_sink_frame(frame, sizeof(frame), 1, 2, 5);
	fix_init(&f, true, false, F_MRG, false);
	b = (struct vd_buf){vd_alloc(&f.d, 70000), 70000, false}; /* longer than any frame */
	(void)vd_add(&f.d, TX, &b, 1);
	b.len = 12; /* a header and nothing */
	(void)vd_add(&f.d, TX, &b, 1);
	vd_kick(&f.d, TX);
	assert_true(vd_used(&f.d, TX, &id, &len));
	assert_true(vd_used(&f.d, TX, &id, &len));
	assert_int_equal(vd_status(&f.d), 15);
	(void)give_buffer(&f, 5); /* less than a header */
	deliver(&f, frame, sizeof(frame));
	assert_int_equal(vd_status(&f.d), 15 | 0x40);
	b.len = 11;
	(void)vd_add(&f.d, TX, &b, 1);
	vd_kick(&f.d, TX);
	assert_false(vd_used(&f.d, TX, &id, &len));
	vd_restart(&f.d, 0, 2);
	(void)give_buffer(&f, 100); /* too small without merging: dropped, the buffer stays */
	deliver(&f, frame, sizeof(frame));
	assert_false(vd_used(&f.d, RX, &id, &len));
	assert_int_equal(vd_status(&f.d), 15);
	fix_fini(&f);
}

/* COMMIT: the queue stands while the hold is full and goes on by itself. */
static void test_back_pressure(void **state)
{
	struct fix f;
	uint32_t id, len;

	(void)state;
	fix_init(&f, true, true, 0, true);
	for (uint8_t i = 0; i < 5; i++)
		(void)queue_frame(&f, FRAME, i);
	vd_kick(&f.d, TX);
	assert_true(vd_used(&f.d, TX, &id, &len));
	assert_true(vd_used(&f.d, TX, &id, &len));
	assert_false(vd_used(&f.d, TX, &id, &len));
	vd_kick(&f.d, TX);
	assert_false(vd_used(&f.d, TX, &id, &len));
	vm_net_hold_cut(f.hold, 1);
	vm_net_hold_ack(f.hold, 1);
	net_sink_wait(&f.sink, 2);
	assert_true(vd_used(&f.d, TX, &id, &len));
	assert_true(vd_used(&f.d, TX, &id, &len));
	assert_false(vd_used(&f.d, TX, &id, &len));
	vm_net_hold_cut(f.hold, 2);
	vm_net_hold_ack(f.hold, 2);
	vm_net_hold_cut(f.hold, 3);
	vm_net_hold_ack(f.hold, 3);
	net_sink_wait(&f.sink, 5);
	for (unsigned i = 0; i < 5; i++)
		assert_int_equal(f.sink.frame[i][20], i);
	fix_fini(&f);
}

/* A cut while the queue stands: the other machine sends those frames, this one's hold those. */
static void test_state(void **state)
{
	static uint8_t buf[VM_SECTION_MAX];
	struct fix f, g;
	struct lb_wr wr = lb_wr_init(buf, sizeof(buf));
	struct lb_rd rd;
	struct lb_err err = {0};

	(void)state;
	fix_init(&f, true, false, 0, true);
	for (uint8_t i = 0; i < 5; i++)
		(void)queue_frame(&f, FRAME, i);
	vd_kick(&f.d, TX);
	vm_board_lock(&f.t.board);
	assert_true(vm_board_save(&f.t.board, &wr));
	vm_board_unlock(&f.t.board);
	fix_init(&g, false, false, 0, false);
	memcpy(g.t.mem.base, f.t.mem.base, f.t.mem.ram_bytes);
	rd = lb_rd_init(buf, wr.len);
	vm_board_lock(&g.t.board);
	assert_int_equal(vm_board_load(&g.t.board, &rd, &err), 0);
	vm_board_resume(&g.t.board);
	vm_board_unlock(&g.t.board);
	net_sink_wait(&g.sink, 3);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(g.sink.frame[i][20], i + 2);
	assert_int_equal(f.sink.count, 0);
	fix_fini(&f);
	fix_fini(&g);
}

/* A reset while the queue stands forgets it. */
static void test_reset_blocked(void **state)
{
	struct fix f;
	uint32_t id, len;

	(void)state;
	fix_init(&f, true, false, 0, true);
	for (uint8_t i = 0; i < 5; i++)
		(void)queue_frame(&f, FRAME, i);
	vd_kick(&f.d, TX);
	vd_restart(&f.d, 0, 2);
	vm_net_hold_cut(f.hold, 1);
	vm_net_hold_ack(f.hold, 1); /* calls, but there is nothing any more */
	net_sink_wait(&f.sink, 2);
	assert_false(vd_used(&f.d, TX, &id, &len));
	(void)queue_frame(&f, FRAME, 77);
	vd_kick(&f.d, TX);
	vm_net_hold_cut(f.hold, 2);
	vm_net_hold_ack(f.hold, 2);
	net_sink_wait(&f.sink, 3);
	assert_int_equal(f.sink.frame[2][20], 77);
	fix_fini(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_send),    cmocka_unit_test(test_config),
		cmocka_unit_test(test_receive), cmocka_unit_test(test_merge),
		cmocka_unit_test(test_hostile), cmocka_unit_test(test_back_pressure),
		cmocka_unit_test(test_state),   cmocka_unit_test(test_reset_blocked),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
