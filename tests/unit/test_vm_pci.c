/* PCI bus of pc1 by script: configuration mechanism, BAR moves, INTx routing, state. */
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "check.h"
#include "pci.h"
#include "test_board.h"

enum {
	IO_BAR_BYTES = 32,
	MEM_BAR_BYTES = 4096
};

/* A function with a port BAR, a memory BAR and a capability; it counts and echoes accesses. */
struct probe {
	struct vm_pci_dev pci;
	uint64_t last_off, last_value;
	unsigned reads, writes, config_writes;
	uint8_t cap;
};

static uint64_t probe_read(void *arg, uint64_t off, unsigned size)
{
	struct probe *p = arg;

	(void)size;
	p->reads++;
	p->last_off = off;
	return 0xa0 + off;
}

static void probe_write(void *arg, uint64_t off, unsigned size, uint64_t value)
{
	struct probe *p = arg;

	(void)size;
	p->writes++;
	p->last_off = off;
	p->last_value = value;
}

static void probe_config(struct vm_pci_dev *d, unsigned off, unsigned len)
{
	(void)off;
	(void)len;
	((struct probe *)d)->config_writes++;
}

static void probe_reset(struct vm_dev *d)
{
	vm_pci_reset((struct vm_pci_dev *)d);
}

static void probe_save(struct vm_dev *d, struct lb_wr *wr)
{
	vm_pci_save((struct vm_pci_dev *)d, wr);
}

static int probe_load(struct vm_dev *d, struct lb_rd *rd, uint16_t version, struct lb_err *err)
{
	(void)version;
	return vm_pci_load((struct vm_pci_dev *)d, rd, err);
}

static void probe_destroy(struct vm_dev *d)
{
	free(d);
}

static const struct vm_dev_ops probe_ops = {
	.name = "probe",
	.version = 1,
	.reset = probe_reset,
	.save = probe_save,
	.load = probe_load,
	.destroy = probe_destroy,
};
static const struct vm_io_ops probe_io = {.read = probe_read, .write = probe_write};
static const struct vm_pci_id probe_id = {.vendor = 0x1af4,
					  .device = 0x1001,
					  .subsystem_vendor = 0x1af4,
					  .subsystem = 2,
					  .class_code = 0x010000,
					  .revision = 0,
					  .intx_pin = true};

struct world {
	struct test_board t;
	struct vm_pci *pci;
	struct probe *p;
};

static struct probe *add_probe(struct world *w, uint8_t slot)
{
	struct probe *p = calloc(1, sizeof(*p));
	struct lb_err err = {0};

	assert_non_null(p);
	p->pci.bar[0] = (struct vm_pci_bar){
		.size_bytes = IO_BAR_BYTES, .io = true, .ops = &probe_io, .arg = p};
	p->pci.bar[1] =
		(struct vm_pci_bar){.size_bytes = MEM_BAR_BYTES, .ops = &probe_io, .arg = p};
	p->pci.config_written = probe_config;
	assert_int_equal(vm_pci_add(w->pci, &p->pci, &probe_ops, slot, 0, &probe_id, &err), 0);
	p->cap = vm_pci_add_capability(&p->pci, 0x11, 12);
	p->pci.wmask[p->cap + 3] = 0xc0;
	return p;
}

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));
	struct lb_err err = {0};

	test_board_init(&w->t, VM_RAM_MIN_BYTES);
	assert_int_equal(vm_pci_create(&w->pci, &w->t.board, &err), 0);
	w->p = add_probe(w, 3);
	vm_board_reset(&w->t.board);
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;

	test_board_fini(&w->t);
	free(w);
	return 0;
}

static uint32_t cfg_read(struct world *w, unsigned slot, unsigned fn, unsigned off, unsigned size)
{
	vm_board_pio_write(&w->t.board, 0xcf8, 4,
			   0x80000000u | slot << 11 | fn << 8 | (off & 0xfc));
	return (uint32_t)vm_board_pio_read(&w->t.board, (uint16_t)(0xcfc + (off & 3)), size);
}

static void cfg_write(struct world *w, unsigned slot, unsigned off, unsigned size, uint32_t v)
{
	vm_board_pio_write(&w->t.board, 0xcf8, 4, 0x80000000u | slot << 11 | (off & 0xfc));
	vm_board_pio_write(&w->t.board, (uint16_t)(0xcfc + (off & 3)), size, v);
}

static void test_bus_as_firmware_finds_it(void **state)
{
	struct world *w = *state;

	assert_int_equal(cfg_read(w, 0, 0, 0, 4), 0x12378086);
	assert_int_equal(cfg_read(w, 0, 0, 0x2c, 4), 0x11001af4);
	assert_int_equal(cfg_read(w, 0, 0, 0x59, 1), 0x30);
	assert_int_equal(cfg_read(w, 0, 0, 0x5f, 1), 0x33);
	assert_int_equal(cfg_read(w, 1, 0, 0, 4), 0x70008086);
	assert_int_equal(cfg_read(w, 1, 0, 0x60, 4), 0x0b0b0a0a);
	assert_int_equal(cfg_read(w, 3, 0, 0, 4), 0x10011af4);
	assert_int_equal(cfg_read(w, 3, 0, 8, 4), 0x01000000);
	assert_int_equal(cfg_read(w, 3, 0, 0x3d, 1), 1);
	/* what is not there reads as all ones: other functions, slots, buses, a disabled address */
	assert_int_equal(cfg_read(w, 3, 1, 0, 4), 0xffffffffu);
	assert_int_equal(cfg_read(w, 31, 7, 0, 2), 0xffff);
	vm_board_pio_write(&w->t.board, 0xcf8, 4, 0x80010000u);
	assert_int_equal(vm_board_pio_read(&w->t.board, 0xcfc, 4), 0xffffffffu);
	vm_board_pio_write(&w->t.board, 0xcf8, 4, 0);
	assert_int_equal(vm_board_pio_read(&w->t.board, 0xcfc, 4), 0xffffffffu);
	/* only a 32-bit access reaches the address register */
	vm_board_pio_write(&w->t.board, 0xcf8, 4, 0x80000040u);
	vm_board_pio_write(&w->t.board, 0xcf8, 2, 0x1234);
	vm_board_pio_write(&w->t.board, 0xcf9, 1, 0);
	assert_int_equal(vm_board_pio_read(&w->t.board, 0xcf8, 4), 0x80000040u);
	assert_int_equal(vm_board_pio_read(&w->t.board, 0xcf8, 1), 0xff);
}

static void test_read_only_stays(void **state)
{
	struct world *w = *state;

	cfg_write(w, 3, 0, 4, 0);
	cfg_write(w, 3, 0x2c, 4, 0);
	cfg_write(w, 3, 0x3d, 1, 0);
	cfg_write(w, 3, 6, 2, 0xffff);
	assert_int_equal(cfg_read(w, 3, 0, 0, 4), 0x10011af4);
	assert_int_equal(cfg_read(w, 3, 0, 0x2c, 4), 0x00021af4);
	assert_int_equal(cfg_read(w, 3, 0, 0x3d, 1), 1);
	assert_int_equal(cfg_read(w, 3, 0, 6, 2), 0x10);
	cfg_write(w, 3, 0x3c, 1, 10);
	assert_int_equal(cfg_read(w, 3, 0, 0x3c, 2), 0x010a);
}

static void test_capability_list(void **state)
{
	struct world *w = *state;
	uint8_t second = vm_pci_add_capability(&w->p->pci, 9, 7);

	assert_int_equal(cfg_read(w, 3, 0, 0x34, 1), 0x40);
	assert_int_equal(cfg_read(w, 3, 0, 0x40, 2), 0x4c11);
	assert_int_equal(second, 0x4c);
	assert_int_equal(cfg_read(w, 3, 0, 0x4c, 2), 9);
	cfg_write(w, 3, 0x40, 4, 0xffffffffu);
	assert_int_equal(cfg_read(w, 3, 0, 0x40, 4), 0xc0004c11u);
	vm_board_reset(&w->t.board);
	assert_int_equal(cfg_read(w, 3, 0, 0x40, 4), 0x4c11);
}

static void test_bars_are_sized_and_move(void **state)
{
	struct world *w = *state;
	struct vm_board *b = &w->t.board;

	cfg_write(w, 3, 0x10, 4, 0xffffffffu);
	cfg_write(w, 3, 0x14, 4, 0xffffffffu);
	assert_int_equal(cfg_read(w, 3, 0, 0x10, 4), 0xffffffe1u);
	assert_int_equal(cfg_read(w, 3, 0, 0x14, 4), 0xfffff000u);
	cfg_write(w, 3, 0x10, 4, 0xc000);
	cfg_write(w, 3, 0x14, 4, 0xfe000000u);
	assert_int_equal(vm_board_pio_read(b, 0xc004, 1), 0xff); /* decoding is still off */
	cfg_write(w, 3, 4, 2, 3);
	assert_int_equal(vm_board_pio_read(b, 0xc004, 1), 0xa4);
	assert_int_equal(vm_board_mmio_read(b, 0xfe000008u, 4), 0xa8);
	cfg_write(w, 3, 0x10, 4, 0xd000);
	assert_int_equal(vm_board_pio_read(b, 0xc004, 1), 0xff);
	vm_board_pio_write(b, 0xd01f, 1, 7);
	assert_int_equal(w->p->last_off, 31);
	assert_int_equal(w->p->last_value, 7);
	cfg_write(w, 3, 4, 2, 1);
	assert_int_equal(vm_board_mmio_read(b, 0xfe000008u, 4), 0xffffffffu);
	/* a byte of the address at a time, as some firmware writes it */
	cfg_write(w, 3, 0x11, 1, 0xe0);
	assert_int_equal(vm_board_pio_read(b, 0xe000, 1), 0xa0);
	/* past the end of the ports, and 0, is nowhere */
	cfg_write(w, 3, 0x10, 4, 0x10000);
	assert_int_equal(b->pios, 2);
	cfg_write(w, 3, 0x10, 4, 0);
	assert_int_equal(b->pios, 2);
	assert_int_equal(w->p->config_writes, 10);
}

static void test_intx_goes_where_the_router_says(void **state)
{
	struct world *w = *state;
	struct probe *q = add_probe(w, 7); /* the same PIRQ as slot 3 */

	assert_int_equal(vm_pci_irq(w->pci, 3), 11);
	assert_int_equal(cfg_read(w, 3, 0, 0x3c, 1), 0);
	vm_pci_tell_lines(w->pci);
	assert_int_equal(cfg_read(w, 3, 0, 0x3c, 1), 11);
	assert_int_equal(cfg_read(w, 1, 0, 0x3c, 1), 0); /* no pin */
	vm_pci_intx(&w->p->pci, true);
	assert_true(w->t.line[11]);
	assert_int_equal(cfg_read(w, 3, 0, 6, 1) & 8, 8);
	vm_pci_intx(&q->pci, true);
	vm_pci_intx(&w->p->pci, false);
	assert_true(w->t.line[11]);
	cfg_write(w, 1, 0x62, 1, 5);
	assert_false(w->t.line[11]);
	assert_true(w->t.line[5]);
	cfg_write(w, 1, 0x62, 1, 0x80);
	assert_false(w->t.line[5]);
	assert_int_equal(vm_pci_irq(w->pci, 3), 16);
	cfg_write(w, 1, 0x62, 1, 8); /* the clock's: reserved */
	assert_int_equal(vm_pci_irq(w->pci, 3), 16);
	assert_false(w->t.line[8]);
	cfg_write(w, 1, 0x62, 1, 10);
	assert_true(w->t.line[10]);
	cfg_write(w, 7, 4, 2, 0x400); /* INTx disable */
	assert_false(w->t.line[10]);
	assert_int_equal(cfg_read(w, 7, 0, 6, 1) & 8, 8);
	cfg_write(w, 7, 4, 2, 0);
	assert_true(w->t.line[10]);
	vm_board_reset(&w->t.board);
	assert_false(w->t.line[10]);
	assert_int_equal(vm_pci_irq(w->pci, 3), 11);
}

static void test_slots(void **state)
{
	struct world *w = *state;
	struct lb_err err = {0};
	struct probe *twin = calloc(1, sizeof(*twin));

	assert_int_equal(vm_pci_next_slot(w->pci), 4);
	assert_int_equal(vm_pci_add(w->pci, &twin->pci, &probe_ops, 3, 0, &probe_id, &err),
			 LB_EEXIST);
	free(twin);
	for (uint8_t slot = 4; slot < 32; slot++)
		(void)add_probe(w, slot);
	assert_int_equal(vm_pci_next_slot(w->pci), 0xff);
	assert_int_equal(cfg_read(w, 1, 0, 0xe, 1), 0);
	twin = calloc(1, sizeof(*twin));
	assert_int_equal(vm_pci_add(w->pci, &twin->pci, &probe_ops, 1, 1, &probe_id, &err), 0);
	assert_int_equal(cfg_read(w, 1, 0, 0xe, 1), 0x80);
}

static void test_state_comes_back(void **state)
{
	struct world *w = *state;
	struct world *v = NULL;
	uint8_t bytes[4096];
	struct lb_wr wr = lb_wr_init(bytes, sizeof(bytes));
	struct lb_err err = {0};
	struct lb_rd rd;

	cfg_write(w, 3, 0x10, 4, 0xc000);
	cfg_write(w, 3, 4, 2, 1);
	cfg_write(w, 1, 0x62, 1, 5);
	vm_pci_intx(&w->p->pci, true);
	(void)cfg_read(w, 3, 0, 0x24, 4);
	assert_true(vm_board_save(&w->t.board, &wr));
	(void)setup((void **)&v);
	rd = lb_rd_init(bytes, wr.len);
	assert_int_equal(vm_board_load(&v->t.board, &rd, &err), 0);
	assert_true(v->t.line[5]);
	assert_int_equal(vm_board_pio_read(&v->t.board, 0xc001, 1), 0xa1);
	assert_int_equal(vm_board_pio_read(&v->t.board, 0xcf8, 4), 0x80001824u);
	/* read-only bytes are ours whatever the checkpoint says; another device is refused */
	memset(bytes + 2 * (28 + 257) + 4 + 28 + 8, 0xff, 4);
	rd = lb_rd_init(bytes, wr.len);
	assert_int_equal(vm_board_load(&v->t.board, &rd, &err), 0);
	assert_int_equal(cfg_read(v, 3, 0, 8, 4), 0x01000000);
	bytes[2 * (28 + 257) + 4 + 28 + 2] ^= 1;
	rd = lb_rd_init(bytes, wr.len);
	assert_int_equal(vm_board_load(&v->t.board, &rd, &err), LB_ECORRUPT);
	assert_non_null(strstr(err.msg, "probe.0: PCI 03.0 is 1af4:1000"));
	(void)teardown((void **)&v);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_bus_as_firmware_finds_it, setup, teardown),
		cmocka_unit_test_setup_teardown(test_read_only_stays, setup, teardown),
		cmocka_unit_test_setup_teardown(test_capability_list, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bars_are_sized_and_move, setup, teardown),
		cmocka_unit_test_setup_teardown(test_intx_goes_where_the_router_says, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_slots, setup, teardown),
		cmocka_unit_test_setup_teardown(test_state_comes_back, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
