#include <string.h>

#include "base/err.h"
#include "check.h"
#include "virtq.h"

#define DESC  UINT64_C(0x1000)
#define AVAIL UINT64_C(0x2000)
#define USED  UINT64_C(0x3000)
#define TABLE UINT64_C(0x4000)
#define DATA  UINT64_C(0x10000)
#define SIZE  8u

enum {
	NEXT = 1,
	WRITE = 2,
	INDIRECT = 4
};

struct fix {
	struct vm_mem mem;
	struct vm_virtq q;
	struct vm_chain c;
	uint16_t idx;
};

static void fix_init(struct fix *f)
{
	struct lb_err err = {0};

	*f = (struct fix){0};
	assert_int_equal(vm_mem_init(&f->mem, VM_RAM_MIN_BYTES, &err), 0);
	f->q.mem = &f->mem;
	f->q.size_max = SIZE;
	vm_virtq_reset(&f->q);
	f->q.desc.a = DESC;
	f->q.avail.a = AVAIL;
	f->q.used.a = USED;
	f->q.enabled = true;
	f->q.indirect = true;
}

static void fix_fini(struct fix *f)
{
	vm_mem_fini(&f->mem);
}

static void desc(struct fix *f, uint64_t table, unsigned i, uint64_t addr, uint32_t len,
		 uint16_t flags, uint16_t next)
{
	uint8_t *p = f->mem.base + table + 16u * i;

	memcpy(p, &addr, 8);
	memcpy(p + 8, &len, 4);
	memcpy(p + 12, &flags, 2);
	memcpy(p + 14, &next, 2);
}

static void offer(struct fix *f, uint16_t head)
{
	memcpy(f->mem.base + AVAIL + 4 + 2u * (f->idx % f->q.size), &head, 2);
	f->idx++;
	memcpy(f->mem.base + AVAIL + 2, &f->idx, 2);
}

/* Give the chain at @head; it must be refused and the queue be broken for good. */
static void refuse(struct fix *f, uint16_t head)
{
	offer(f, head);
	assert_false(vm_virtq_pop(&f->q, &f->c));
	assert_true(f->q.broken);
	desc(f, DESC, 7, DATA, 16, 0, 0);
	offer(f, 7);
	assert_false(vm_virtq_pop(&f->q, &f->c));
	vm_virtq_put(&f->q, 0, 7, 0);
	vm_virtq_publish(&f->q, 1);
	assert_false(vm_virtq_wants_interrupt(&f->q));
	assert_int_equal(f->mem.base[USED + 2], 0);
	fix_fini(f);
}

static void test_chain(void **state)
{
	struct fix f;
	uint8_t buf[64];

	(void)state;
	fix_init(&f);
	assert_false(vm_virtq_pop(&f.q, &f.c)); /* nothing there */
	desc(&f, DESC, 3, DATA, 10, NEXT, 5);
	desc(&f, DESC, 5, DATA + 100, 6, NEXT, 1);
	desc(&f, DESC, 1, DATA + 200, 3, NEXT | WRITE, 2);
	desc(&f, DESC, 2, DATA + 300, 4, WRITE, 99);
	offer(&f, 3);
	assert_true(vm_virtq_pop(&f.q, &f.c));
	assert_int_equal(f.c.head, 3);
	assert_int_equal(f.c.out, 2);
	assert_int_equal(f.c.in, 2);
	assert_int_equal(f.c.out_bytes, 16);
	assert_int_equal(f.c.in_bytes, 7);
	memset(f.mem.base + DATA, 'a', 10);
	memset(f.mem.base + DATA + 100, 'b', 6);
	assert_int_equal(vm_chain_read(&f.mem, &f.c, 8, buf, sizeof(buf)), 8);
	assert_memory_equal(buf, "aabbbbbb", 8);
	assert_int_equal(vm_chain_write(&f.mem, &f.c, 2, "xyzw!", 5), 5);
	assert_memory_equal(f.mem.base + DATA + 202, "x", 2);
	assert_memory_equal(f.mem.base + DATA + 300, "yzw!", 5);
	assert_int_equal(vm_chain_write(&f.mem, &f.c, 7, "1", 1), 0);
	assert_false(vm_virtq_pop(&f.q, &f.c));
	vm_virtq_unpop(&f.q, 1);
	assert_true(vm_virtq_pop(&f.q, &f.c));
	assert_int_equal(f.c.head, 3);

	vm_virtq_put(&f.q, 0, 3, 7);
	assert_int_equal(f.mem.base[USED + 2], 0); /* not seen yet */
	vm_virtq_put(&f.q, 1, 4, 9);
	vm_virtq_publish(&f.q, 2);
	check_hex(f.mem.base + USED, 20, "0000020003000000070000000400000009000000");
	assert_false(f.q.broken);
	fix_fini(&f);
}

static void test_indirect(void **state)
{
	struct fix f;

	(void)state;
	fix_init(&f);
	desc(&f, DESC, 0, DATA, 16, NEXT, 1);
	desc(&f, DESC, 1, TABLE, 48, INDIRECT | WRITE, 7); /* WRITE means nothing there */
	desc(&f, TABLE, 0, DATA + 16, 16, NEXT, 2);
	desc(&f, TABLE, 2, DATA + 32, 512, NEXT | WRITE, 1);
	desc(&f, TABLE, 1, DATA + 1024, 1, WRITE, 0);
	offer(&f, 0);
	assert_true(vm_virtq_pop(&f.q, &f.c));
	assert_int_equal(f.c.out, 2);
	assert_int_equal(f.c.in, 2);
	assert_int_equal(f.c.in_bytes, 513);
	fix_fini(&f);
}

/* The longest: a table of all the pieces there may be, and one more. */
static void test_indirect_length(void **state)
{
	struct fix f;

	(void)state;
	for (unsigned n = VM_CHAIN_PIECES; n <= VM_CHAIN_PIECES + 1; n++) {
		fix_init(&f);
		desc(&f, DESC, 0, TABLE, 16 * n, INDIRECT, 0);
		for (unsigned i = 0; i < n; i++)
			desc(&f, TABLE, i, DATA, 1, i + 1 < n ? NEXT : 0, (uint16_t)(i + 1));
		if (n > VM_CHAIN_PIECES) {
			refuse(&f, 0);
			continue;
		}
		offer(&f, 0);
		assert_true(vm_virtq_pop(&f.q, &f.c));
		assert_int_equal(f.c.out, VM_CHAIN_PIECES);
		fix_fini(&f);
	}
}

/* Every rule a chain can break. */
static void test_bad_chains(void **state)
{
	static const struct {
		uint64_t addr;
		uint32_t len;
		uint16_t flags, next;
	} bad[] = {
		{DATA, 0, 0, 0},        /* no bytes */
		{DATA, 16, NEXT, 0},    /* a loop of one */
		{DATA, 16, NEXT, SIZE}, /* next out of range */
		{DATA, 16, NEXT, 0xffff},
		{VM_RAM_MIN_BYTES, 1, 0, 0},      /* not memory */
		{VM_RAM_MIN_BYTES - 8, 16, 0, 0}, /* not all memory */
		{UINT64_MAX - 7, 16, 0, 0},       /* wraps around */
		{DATA, UINT32_MAX, 0, 0},
		{TABLE, 0, INDIRECT, 0},                 /* an empty table */
		{TABLE, 17, INDIRECT, 0},                /* not whole entries */
		{TABLE, 16, INDIRECT | NEXT, 1},         /* followed by another */
		{UINT64_C(0xc0000000), 16, INDIRECT, 0}, /* a table that is not memory */
		{TABLE + 16, 16, INDIRECT, 0},           /* inside: indirect again */
		{TABLE + 32, 32, INDIRECT, 0},           /* inside: next out of the table */
		{TABLE + 48, 16, INDIRECT, 0},           /* inside: a loop */
	};
	struct fix f;

	(void)state;
	for (unsigned i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		fix_init(&f);
		desc(&f, DESC, 0, bad[i].addr, bad[i].len, bad[i].flags, bad[i].next);
		desc(&f, DESC, 1, DATA, 16, 0, 0);
		desc(&f, TABLE, 0, DATA, 16, 0, 0);
		desc(&f, TABLE, 1, TABLE, 16, INDIRECT, 0);
		desc(&f, TABLE, 2, DATA, 16, NEXT, 2);
		desc(&f, TABLE, 3, DATA, 16, NEXT, 0);
		refuse(&f, 0);
	}
}

static void test_bad_order_and_loop(void **state)
{
	struct fix f;

	(void)state;
	fix_init(&f); /* readable after writable */
	desc(&f, DESC, 0, DATA, 16, NEXT | WRITE, 1);
	desc(&f, DESC, 1, DATA, 16, 0, 0);
	refuse(&f, 0);
	fix_init(&f); /* a loop over the whole table */
	for (unsigned i = 0; i < SIZE; i++)
		desc(&f, DESC, i, DATA, 16, NEXT, (uint16_t)((i + 1) % SIZE));
	refuse(&f, 0);
	fix_init(&f); /* not negotiated */
	f.q.indirect = false;
	desc(&f, DESC, 0, TABLE, 16, INDIRECT, 0);
	desc(&f, TABLE, 0, DATA, 16, 0, 0);
	refuse(&f, 0);
}

static void test_bad_rings(void **state)
{
	struct fix f;

	(void)state;
	fix_init(&f); /* a head out of range */
	refuse(&f, SIZE);
	fix_init(&f); /* an index too far ahead */
	f.idx = SIZE;
	refuse(&f, 0);
	for (unsigned part = 0; part < 3; part++) { /* rings that are not memory */
		fix_init(&f);
		desc(&f, DESC, 0, DATA, 16, 0, 0);
		offer(&f, 0);
		(part == 0   ? &f.q.desc
		 : part == 1 ? &f.q.avail
			     : &f.q.used)
			->a = UINT64_C(0xffffffff00000000);
		if (vm_virtq_pop(&f.q, &f.c)) {
			assert_int_equal(part, 2);
			vm_virtq_put(&f.q, 0, 0, 0);
			vm_virtq_publish(&f.q, 1);
		}
		assert_true(f.q.broken);
		fix_fini(&f);
	}
	fix_init(&f); /* an odd address */
	f.q.avail.a++;
	assert_false(vm_virtq_pop(&f.q, &f.c));
	assert_true(f.q.broken);
	fix_fini(&f);
}

static void use_one(struct fix *f)
{
	vm_virtq_put(&f->q, 0, 0, 0);
	vm_virtq_publish(&f->q, 1);
}

static void set16(struct fix *f, uint64_t at, uint16_t v)
{
	memcpy(f->mem.base + at, &v, 2);
}

static void test_suppression(void **state)
{
	struct fix f;
	uint16_t avail_event;

	(void)state;
	fix_init(&f);
	use_one(&f);
	assert_true(vm_virtq_wants_interrupt(&f.q));
	set16(&f, AVAIL, 1); /* NO_INTERRUPT */
	use_one(&f);
	assert_false(vm_virtq_wants_interrupt(&f.q));

	f.q.event_idx = true;
	f.q.signalled = f.q.next_used;
	set16(&f, AVAIL + 4 + 2 * SIZE, 3); /* used_event: after entry 3 */
	use_one(&f);                        /* entry 2 */
	assert_false(vm_virtq_wants_interrupt(&f.q));
	use_one(&f);
	assert_true(vm_virtq_wants_interrupt(&f.q));
	use_one(&f);
	assert_false(vm_virtq_wants_interrupt(&f.q));
	set16(&f, AVAIL + 4 + 2 * SIZE, 6); /* passed by a batch */
	use_one(&f);
	use_one(&f);
	use_one(&f);
	assert_true(vm_virtq_wants_interrupt(&f.q));

	/* An empty queue asks to be told of the next entry. */
	desc(&f, DESC, 0, DATA, 16, 0, 0);
	offer(&f, 0);
	assert_true(vm_virtq_pop(&f.q, &f.c));
	assert_false(vm_virtq_pop(&f.q, &f.c));
	memcpy(&avail_event, f.mem.base + USED + 4 + 8 * SIZE, 2);
	assert_int_equal(avail_event, 1);
	fix_fini(&f);
}

/* Positions run on over 65535. */
static void test_wrap(void **state)
{
	struct fix f;

	(void)state;
	fix_init(&f);
	f.q.next_avail = f.q.next_used = f.idx = 65534;
	for (unsigned i = 0; i < 5; i++) {
		desc(&f, DESC, i, DATA, i + 1, 0, 0);
		offer(&f, (uint16_t)i);
	}
	for (unsigned i = 0; i < 5; i++) {
		assert_true(vm_virtq_pop(&f.q, &f.c));
		assert_int_equal(f.c.out_bytes, i + 1);
		use_one(&f);
	}
	assert_false(vm_virtq_pop(&f.q, &f.c));
	assert_int_equal(f.q.next_used, 3);
	assert_false(f.q.broken);
	fix_fini(&f);
}

static void test_state(void **state)
{
	struct fix f, g;
	uint8_t buf[64];
	struct lb_wr wr = lb_wr_init(buf, sizeof(buf));
	struct lb_rd rd;
	struct lb_err err = {0};

	(void)state;
	fix_init(&f);
	fix_init(&g);
	f.q.size = 4;
	f.q.next_avail = 7;
	f.q.next_used = 6;
	f.q.vector = 2;
	f.q.event_idx = true;
	vm_virtq_save(&f.q, &wr);
	assert_true(lb_wr_done(&wr));
	rd = lb_rd_init(buf, wr.len);
	assert_int_equal(vm_virtq_load(&g.q, &rd, &err), 0);
	assert_true(lb_rd_done(&rd));
	f.q.mem = &g.mem;
	assert_memory_equal(&f.q, &g.q, sizeof(f.q));
	for (unsigned bad = 0; bad < 3; bad++) {
		static const uint16_t sizes[] = {0, 3, 16};

		memcpy(buf, &sizes[bad], 2);
		rd = lb_rd_init(buf, wr.len);
		assert_int_equal(vm_virtq_load(&g.q, &rd, &err), LB_ECORRUPT);
	}
	fix_fini(&f);
	fix_fini(&g);
}

/* Legacy layout of 8 entries, by hand. [2.7.2] */
static void test_legacy_layout(void **state)
{
	struct vm_virtq q = {.size = 8};

	(void)state;
	vm_virtq_legacy_layout(&q, 0x5000);
	assert_int_equal(q.desc.a, 0x5000);
	assert_int_equal(q.avail.a, 0x5080);
	assert_int_equal(q.used.a, 0x6000);
	q.size = 256;
	vm_virtq_legacy_layout(&q, 0x5000);
	assert_int_equal(q.avail.a, 0x6000);
	assert_int_equal(q.used.a, 0x7000);
}

/* Memory whose content a lazy restore lost: nothing made of it goes on. */
static void test_lost_memory(void **state)
{
	struct fix f;
	uint8_t buf[16];

	(void)state;
	fix_init(&f);
	desc(&f, DESC, 0, DATA, 16, 0, 0);
	offer(&f, 0);
	assert_true(vm_virtq_pop(&f.q, &f.c));
	atomic_store(&f.mem.lost, true);
	assert_int_equal(vm_chain_read(&f.mem, &f.c, 0, buf, sizeof(buf)), 0);
	offer(&f, 0);
	assert_false(vm_virtq_pop(&f.q, &f.c));
	assert_true(f.q.broken);
	fix_fini(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_chain),
		cmocka_unit_test(test_indirect),
		cmocka_unit_test(test_indirect_length),
		cmocka_unit_test(test_bad_chains),
		cmocka_unit_test(test_bad_order_and_loop),
		cmocka_unit_test(test_bad_rings),
		cmocka_unit_test(test_suppression),
		cmocka_unit_test(test_wrap),
		cmocka_unit_test(test_state),
		cmocka_unit_test(test_legacy_layout),
		cmocka_unit_test(test_lost_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
