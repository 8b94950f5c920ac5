#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "check.h"
#include "test_board.h"

/* A device of four byte registers at port 0x100. */
struct reg4 {
	struct vm_dev dev;
	uint8_t reg[4];
	unsigned resumed;
};

static uint64_t reg4_read(void *arg, uint64_t off, unsigned size)
{
	const struct reg4 *r = arg;
	uint64_t v = 0;

	memcpy(&v, r->reg + off, size);
	return v;
}

static void reg4_write(void *arg, uint64_t off, unsigned size, uint64_t value)
{
	struct reg4 *r = arg;

	memcpy(r->reg + off, &value, size);
}

static const struct vm_io_ops reg4_io = {.read = reg4_read, .write = reg4_write};

static void reg4_reset(struct vm_dev *d)
{
	memset(((struct reg4 *)d)->reg, 0, 4);
}

static void reg4_save(struct vm_dev *d, struct lb_wr *wr)
{
	lb_wr_bytes(wr, ((struct reg4 *)d)->reg, 4);
}

static int reg4_load(struct vm_dev *d, struct lb_rd *rd, uint16_t version, struct lb_err *err)
{
	(void)version;
	(void)err;
	lb_rd_copy(rd, ((struct reg4 *)d)->reg, 4);
	return 0;
}

static void reg4_resume(struct vm_dev *d)
{
	((struct reg4 *)d)->resumed++;
}

static void reg4_destroy(struct vm_dev *d)
{
	free(d);
}

static const struct vm_dev_ops reg4_ops = {
	.name = "reg4",
	.version = 1,
	.reset = reg4_reset,
	.save = reg4_save,
	.load = reg4_load,
	.resume = reg4_resume,
	.destroy = reg4_destroy,
};

static struct reg4 *reg4_add(struct test_board *t, uint64_t port)
{
	struct reg4 *r = calloc(1, sizeof(*r));
	struct lb_err err = {0};

	assert_non_null(r);
	vm_board_add(&t->board, &r->dev, &reg4_ops);
	assert_int_equal(vm_pio_map(&t->board, port, 4, &reg4_io, r, &err), 0);
	return r;
}

static void test_ranges(void **state)
{
	struct test_board t;
	struct reg4 *a, *b;

	(void)state;
	test_board_init(&t, VM_RAM_MIN_BYTES);
	a = reg4_add(&t, 0x100);
	vm_board_pio_write(&t.board, 0x101, 2, 0xabcd);
	assert_int_equal(vm_board_pio_read(&t.board, 0x100, 4), 0xabcd00);
	assert_int_equal(vm_board_pio_read(&t.board, 0x103, 2), 0xffff); /* crosses the end */
	assert_int_equal(vm_board_pio_read(&t.board, 0x104, 1), 0xff);
	vm_board_pio_write(&t.board, 0x103, 4, 0);
	assert_int_equal(a->reg[3], 0);
	b = reg4_add(&t, 0x102); /* on top */
	vm_board_pio_write(&t.board, 0x102, 1, 7);
	assert_int_equal(b->reg[0], 7);
	assert_int_equal(a->reg[2], 0xab);
	vm_pio_unmap(&t.board, 0x102, b);
	assert_int_equal(vm_board_pio_read(&t.board, 0x102, 1), 0xab);
	test_board_fini(&t);
}

static void test_lines(void **state)
{
	struct test_board t;
	unsigned a, b;

	(void)state;
	test_board_init(&t, VM_RAM_MIN_BYTES);
	a = vm_irq_source(&t.board);
	b = vm_irq_source(&t.board);
	vm_irq_set(&t.board, 10, a, true);
	vm_irq_set(&t.board, 10, b, true);
	vm_irq_set(&t.board, 10, a, false);
	assert_true(t.line[10]);
	assert_int_equal(t.raised[10], 1);
	vm_irq_set(&t.board, 10, b, false);
	assert_false(t.line[10]);
	vm_irq_pulse(&t.board, 4, a);
	assert_int_equal(t.raised[4], 1);
	test_board_fini(&t);
}

static void test_state(void **state)
{
	struct test_board t;
	struct reg4 *a, *b;
	uint8_t buf[256];
	struct lb_wr wr = lb_wr_init(buf, sizeof(buf));
	struct lb_rd rd;
	struct lb_err err = {0};

	(void)state;
	test_board_init(&t, VM_RAM_MIN_BYTES);
	a = reg4_add(&t, 0x100);
	b = reg4_add(&t, 0x200);
	a->reg[0] = 1;
	b->reg[3] = 2;
	assert_true(vm_board_save(&t.board, &wr));
	assert_int_equal(wr.len, 2 * (16 + 12 + 4));
	vm_board_reset(&t.board);
	rd = lb_rd_init(buf, wr.len);
	assert_int_equal(vm_board_load(&t.board, &rd, &err), 0);
	vm_board_resume(&t.board);
	assert_int_equal(a->reg[0], 1);
	assert_int_equal(b->reg[3], 2);
	assert_int_equal(b->resumed, 1);

	for (size_t cut = 0; cut < wr.len; cut++) {
		rd = lb_rd_init(buf, cut);
		assert_int_equal(vm_board_load(&t.board, &rd, &err), LB_ECORRUPT);
	}
	buf[20]++; /* version of the first section */
	rd = lb_rd_init(buf, wr.len);
	assert_int_equal(vm_board_load(&t.board, &rd, &err), LB_EVERSION);
	buf[20]--;
	buf[24]--; /* its length */
	rd = lb_rd_init(buf, wr.len);
	assert_int_equal(vm_board_load(&t.board, &rd, &err), LB_ECORRUPT);
	test_board_fini(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ranges),
		cmocka_unit_test(test_lines),
		cmocka_unit_test(test_state),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
