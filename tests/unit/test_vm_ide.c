/* The IDE controller by script: what BIOSes and drivers do to it, on disks that can fail or hang.
 */
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "check.h"
#include "gate_dev.h"
#include "ide.h"
#include "imaging/dev.h"
#include "pci.h"
#include "test_board.h"

#define SECTORS    4096u
#define DISK_BYTES ((uint64_t)SECTORS * 512)

enum {
	CH0 = 0x1f0,
	CH1 = 0x170,
	BM = 0xc000,
	ST_ERR = 1,
	ST_DRQ = 8,
	ST_DRDY = 0x40,
	ST_BSY = 0x80,
	PRDT = 0x10000,
	DATA = 0x20000,
};

/* Primary master behind a gate and a fault device, secondary slave plain. */
struct world {
	struct test_board t;
	struct vm_pci *pci;
	struct img_dev *mem, *fault, *other;
	struct gate_dev gate;
	struct vm_blk *blk[VM_IDE_DISKS];
	uint8_t sector[512];
};

static void build(struct world *w, uint64_t fail_at)
{
	struct vm_ide_disk disk[VM_IDE_DISKS] = {{.dev = NULL}};
	struct lb_err err = {0};

	test_board_init(&w->t, VM_RAM_MIN_BYTES);
	assert_int_equal(vm_pci_create(&w->pci, &w->t.board, &err), 0);
	assert_int_equal(img_fault_create(&w->fault, w->mem, fail_at, LB_EIO, &err), 0);
	gate_dev_init(&w->gate, w->fault, true);
	disk[0] = (struct vm_ide_disk){.dev = &w->gate.dev, .serial = "SN-4711"};
	disk[3] = (struct vm_ide_disk){.dev = w->other};
	assert_int_equal(vm_ide_create(&w->t.board, w->pci, disk, w->blk, &err), 0);
	vm_board_lock(&w->t.board);
	vm_board_reset(&w->t.board);
	vm_board_unlock(&w->t.board);
}

static struct world *world_new(uint64_t fail_at)
{
	struct world *w = calloc(1, sizeof(*w));
	struct lb_err err = {0};

	assert_int_equal(img_mem_create(&w->mem, DISK_BYTES, &err), 0);
	assert_int_equal(img_mem_create(&w->other, 100 * 512, &err), 0);
	for (unsigned i = 0; i < SECTORS; i++) {
		memset(w->sector, (int)(i * 31 + 7), 512);
		w->sector[0] = (uint8_t)i;
		w->sector[1] = (uint8_t)(i >> 8);
		assert_int_equal(img_pwrite(w->mem, w->sector, 512, i * UINT64_C(512), &err), 0);
	}
	build(w, fail_at);
	return w;
}

static int setup(void **state)
{
	*state = world_new(0);
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;

	gate_dev_set(&w->gate, true);
	test_board_fini(&w->t);
	gate_dev_fini(&w->gate);
	img_dev_destroy(w->fault);
	img_dev_destroy(w->mem);
	img_dev_destroy(w->other);
	free(w);
	return 0;
}

static uint8_t in(struct world *w, uint16_t port)
{
	return (uint8_t)vm_board_pio_read(&w->t.board, port, 1);
}

static void out(struct world *w, uint16_t port, uint8_t v)
{
	vm_board_pio_write(&w->t.board, port, 1, v);
}

static bool line(struct world *w, unsigned irq)
{
	bool up;

	vm_board_lock(&w->t.board);
	up = w->t.line[irq];
	vm_board_unlock(&w->t.board);
	return up;
}

/* Busy only while a worker has the request: this ends by itself, or the test's time does. */
static uint8_t wait_ready(struct world *w, uint16_t base)
{
	uint8_t st;

	do
		st = in(w, (uint16_t)(base + 0x206));
	while ((st & ST_BSY) != 0);
	return st;
}

static void command28(struct world *w, uint16_t base, uint8_t cmd, uint32_t lba, uint8_t count)
{
	out(w, (uint16_t)(base + 6), (uint8_t)(0xe0 | (base == CH1 ? 0x10 : 0) | lba >> 24));
	out(w, (uint16_t)(base + 2), count);
	out(w, (uint16_t)(base + 3), (uint8_t)lba);
	out(w, (uint16_t)(base + 4), (uint8_t)(lba >> 8));
	out(w, (uint16_t)(base + 5), (uint8_t)(lba >> 16));
	out(w, (uint16_t)(base + 7), cmd);
}

static void command48(struct world *w, uint8_t cmd, uint64_t lba, uint16_t count)
{
	out(w, CH0 + 6, 0x40);
	out(w, CH0 + 2, (uint8_t)(count >> 8));
	out(w, CH0 + 3, (uint8_t)(lba >> 24));
	out(w, CH0 + 4, (uint8_t)(lba >> 32));
	out(w, CH0 + 5, (uint8_t)(lba >> 40));
	out(w, CH0 + 2, (uint8_t)count);
	out(w, CH0 + 3, (uint8_t)lba);
	out(w, CH0 + 4, (uint8_t)(lba >> 8));
	out(w, CH0 + 5, (uint8_t)(lba >> 16));
	out(w, CH0 + 7, cmd);
}

static void read_sector(struct world *w, uint16_t base)
{
	for (unsigned i = 0; i < 512; i += 2) {
		uint16_t v = (uint16_t)vm_board_pio_read(&w->t.board, base, 2);

		memcpy(w->sector + i, &v, 2);
	}
}

static void write_sector(struct world *w, uint8_t fill)
{
	for (unsigned i = 0; i < 512; i += 4)
		vm_board_pio_write(&w->t.board, CH0, 4, fill * 0x01010101u);
}

static void assert_sector(struct world *w, uint32_t lba)
{
	assert_int_equal(w->sector[0] | w->sector[1] << 8, lba);
	assert_int_equal(w->sector[511], (uint8_t)(lba * 31 + 7));
}

static void assert_disk(struct world *w, uint64_t lba, uint8_t fill)
{
	struct lb_err err = {0};
	uint8_t b[512];

	assert_int_equal(img_pread(w->mem, b, 512, lba * 512, &err), 0);
	assert_int_equal(b[0], fill);
	assert_int_equal(b[511], fill);
}

/* ---- presence ---- */

/* SeaBIOS src/hw/ata.c, ata_detect(): registers echo, a drive shows a status, no drive shows 0. */
static void test_detection(void **state)
{
	struct world *w = *state;

	for (unsigned slave = 0; slave < 2; slave++) {
		out(w, CH0 + 6, (uint8_t)(0xa0 | slave << 4));
		out(w, CH0 + 2, 0x55);
		out(w, CH0 + 3, 0xaa);
		assert_int_equal(in(w, CH0 + 2), 0x55);
		assert_int_equal(in(w, CH0 + 3), 0xaa);
		assert_int_equal(in(w, CH0 + 7), slave == 0 ? 0x50 : 0);
	}
	/* commands to who is not there are no commands */
	out(w, CH0 + 7, 0xec);
	assert_int_equal(in(w, CH0 + 7), 0);
	assert_false(line(w, 14));
	out(w, CH0 + 6, 0xa0);
	out(w, CH0 + 7, 0xa1); /* IDENTIFY PACKET DEVICE */
	assert_int_equal(in(w, CH0 + 7), 0x51);
	assert_int_equal(in(w, CH0 + 1), 4);
}

static void test_a_channel_without_drives(void **state)
{
	struct vm_ide_disk disk[VM_IDE_DISKS] = {{.dev = NULL}};
	struct test_board t;
	struct vm_pci *pci = NULL;
	struct lb_err err = {0};

	(void)state;
	test_board_init(&t, VM_RAM_MIN_BYTES);
	assert_int_equal(vm_pci_create(&pci, &t.board, &err), 0);
	assert_int_equal(vm_ide_create(&t.board, pci, disk, NULL, &err), 0);
	for (unsigned i = 0; i < 8; i++) {
		vm_board_pio_write(&t.board, (uint16_t)(CH0 + i), 1, 0x90);
		(void)vm_board_pio_read(&t.board, (uint16_t)(CH0 + i), 1);
	}
	assert_int_equal(vm_board_pio_read(&t.board, CH0 + 7, 1), 0);
	assert_int_equal(vm_board_pio_read(&t.board, CH0 + 0x206, 1), 0);
	test_board_fini(&t);
}

static void test_refuses_odd_sizes(void **state)
{
	struct test_board t;
	struct vm_pci *pci = NULL;
	struct vm_ide_disk disk[VM_IDE_DISKS] = {{.dev = NULL}};
	struct img_dev *odd = NULL;
	struct lb_err err = {0};

	(void)state;
	test_board_init(&t, VM_RAM_MIN_BYTES);
	assert_int_equal(vm_pci_create(&pci, &t.board, &err), 0);
	assert_int_equal(img_mem_create(&odd, 1000, &err), 0);
	disk[1].dev = odd;
	assert_int_equal(vm_ide_create(&t.board, pci, disk, NULL, &err), LB_EINPUT);
	assert_non_null(strstr(err.msg, "1000 bytes"));
	test_board_fini(&t);
	img_dev_destroy(odd);
}

static void test_identify(void **state)
{
	struct world *w = *state;
	uint16_t word[256];
	uint8_t sum = 0;

	out(w, CH0 + 6, 0xa0);
	out(w, CH0 + 7, 0xec);
	assert_true(line(w, 14));
	assert_int_equal(in(w, CH0 + 0x206), 0x58);
	assert_true(line(w, 14));
	assert_int_equal(in(w, CH0 + 7), 0x58);
	assert_false(line(w, 14));
	read_sector(w, CH0);
	assert_int_equal(in(w, CH0 + 7), 0x50);
	memcpy(word, w->sector, 512);
	assert_memory_equal(w->sector + 20, "NS4-17 1 ", 8);
	assert_memory_equal(w->sector + 54, "ILEFOBTAV RIUTLAD SI K", 22);
	assert_int_equal(word[1], 4);
	assert_int_equal(word[3], 16);
	assert_int_equal(word[6], 63);
	assert_int_equal(word[60] | word[61] << 16, SECTORS);
	assert_int_equal(word[100], SECTORS);
	assert_int_equal(word[83] & 0xc400, 0x4400);
	for (unsigned i = 0; i < 512; i++)
		sum = (uint8_t)(sum + w->sector[i]);
	assert_int_equal(sum, 0);
}

/* ---- PIO ---- */

static void test_reads(void **state)
{
	struct world *w = *state;

	command28(w, CH0, 0x20, 1234, 3);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(wait_ready(w, CH0), 0x58);
		assert_true(line(w, 14));
		(void)in(w, CH0 + 7);
		read_sector(w, CH0);
		assert_sector(w, 1234 + i);
	}
	assert_int_equal(wait_ready(w, CH0), 0x50);
	assert_false(line(w, 14)); /* none after the last block */
	command48(w, 0x24, SECTORS - 1, 1);
	assert_int_equal(wait_ready(w, CH0), 0x58);
	read_sector(w, CH0);
	assert_sector(w, SECTORS - 1);
	/* cylinder 1, head 2, sector 3 of 16 heads, 63 sectors */
	command28(w, CH0, 0xec, 0, 0);
	read_sector(w, CH0);
	out(w, CH0 + 6, 0xa2);
	out(w, CH0 + 2, 1);
	out(w, CH0 + 3, 3);
	out(w, CH0 + 4, 1);
	out(w, CH0 + 5, 0);
	out(w, CH0 + 7, 0x20);
	assert_int_equal(wait_ready(w, CH0), 0x58);
	read_sector(w, CH0);
	assert_sector(w, (16 + 2) * 63 + 2);
	/* the slave of the other channel */
	command28(w, CH1, 0x20, 99, 1);
	assert_int_equal(wait_ready(w, CH1), 0x58);
	assert_true(line(w, 15));
	read_sector(w, CH1);
	assert_int_equal(w->sector[0], 0);
}

static void test_writes(void **state)
{
	struct world *w = *state;

	command28(w, CH0, 0x30, 50, 2);
	assert_int_equal(in(w, CH0 + 7), 0x58);
	assert_false(line(w, 14)); /* the first block is asked for without one */
	write_sector(w, 0xa1);
	assert_int_equal(wait_ready(w, CH0), 0x58);
	assert_true(line(w, 14));
	(void)in(w, CH0 + 7);
	write_sector(w, 0xa2);
	assert_int_equal(wait_ready(w, CH0), 0x50);
	assert_true(line(w, 14));
	assert_disk(w, 50, 0xa1);
	assert_disk(w, 51, 0xa2);
	/* multiple: one block of four */
	out(w, CH0 + 2, 4);
	out(w, CH0 + 7, 0xc6);
	assert_int_equal(in(w, CH0 + 7), 0x50);
	command48(w, 0x39, 60, 5);
	for (uint8_t i = 0; i < 4; i++)
		write_sector(w, (uint8_t)(0xb0 + i));
	assert_int_equal(wait_ready(w, CH0), 0x58);
	write_sector(w, 0xb4);
	assert_int_equal(wait_ready(w, CH0), 0x50);
	for (uint8_t i = 0; i < 5; i++)
		assert_disk(w, 60u + i, (uint8_t)(0xb0 + i));
	command28(w, CH0, 0xc4, 60, 4);
	assert_int_equal(wait_ready(w, CH0), 0x58);
	for (uint8_t i = 0; i < 4; i++) {
		read_sector(w, CH0);
		assert_int_equal(w->sector[7], 0xb0 + i);
	}
	assert_int_equal(in(w, CH0 + 7), 0x50);
}

static void test_flushes(void **state)
{
	struct world *w = *state;

	out(w, CH0 + 6, 0xe0);
	out(w, CH0 + 7, 0xe7);
	assert_int_equal(wait_ready(w, CH0), 0x50);
	assert_int_equal(w->gate.flushes, 1);
	out(w, CH0 + 7, 0xea);
	assert_int_equal(wait_ready(w, CH0), 0x50);
	assert_int_equal(w->gate.flushes, 2);
	/* with the cache off a write is on the disk when it is done */
	out(w, CH0 + 1, 0x82);
	out(w, CH0 + 7, 0xef);
	command28(w, CH0, 0x30, 9, 1);
	write_sector(w, 9);
	assert_int_equal(wait_ready(w, CH0), 0x50);
	assert_int_equal(w->gate.flushes, 3);
}

/* ---- refusals and errors ---- */

static void refused(struct world *w, uint8_t error)
{
	assert_int_equal(wait_ready(w, CH0), 0x51);
	assert_int_equal(in(w, CH0 + 1), error);
	assert_true(line(w, 14));
	(void)in(w, CH0 + 7);
	assert_false(line(w, 14));
}

static void test_refuses(void **state)
{
	struct world *w = *state;

	command28(w, CH0, 0x20, SECTORS, 1);
	refused(w, 0x10);
	command28(w, CH0, 0x20, SECTORS - 1, 2);
	refused(w, 0x10);
	command28(w, CH0, 0x20, SECTORS - 255, 0); /* 256 sectors */
	refused(w, 0x10);
	command48(w, 0x24, UINT64_C(0xffffffffffff), 0);
	refused(w, 0x10);
	command48(w, 0x34, 0, 0); /* 65536 */
	refused(w, 0x10);
	out(w, CH0 + 6, 0xa0); /* sector 0 of a track */
	out(w, CH0 + 3, 0);
	out(w, CH0 + 7, 0x20);
	refused(w, 0x10);
	command28(w, CH0, 0xc4, 0, 1); /* READ MULTIPLE is not set up */
	refused(w, 4);
	out(w, CH0 + 2, 3);
	out(w, CH0 + 7, 0xc6);
	refused(w, 4);
	out(w, CH0 + 2, 32);
	out(w, CH0 + 7, 0xc6);
	refused(w, 4);
	for (unsigned i = 0; i < 4; i++) {
		out(w, CH0 + 7, (uint8_t[]){0x00, 0xb0, 0xf1, 0x08}[i]);
		refused(w, 4);
	}
}

static void test_disk_errors(void **state)
{
	struct world *w = world_new(2);

	(void)state;
	command28(w, CH0, 0x20, 70, 3);
	assert_int_equal(wait_ready(w, CH0), 0x58);
	read_sector(w, CH0);
	assert_int_equal(wait_ready(w, CH0), 0x51);
	assert_int_equal(in(w, CH0 + 1), 0x40);
	assert_int_equal(in(w, CH0 + 3), 71);
	assert_int_equal(w->t.events[VM_EVENT_DISK], 1);
	/* it works again afterwards */
	command28(w, CH0, 0x20, 71, 1);
	assert_int_equal(wait_ready(w, CH0), 0x58);
	read_sector(w, CH0);
	assert_sector(w, 71);
	(void)teardown((void **)&w);
	w = world_new(1);
	command28(w, CH0, 0x30, 70, 2);
	write_sector(w, 1);
	refused(w, 4);
	(void)teardown((void **)&w);
}

static void test_simple_commands(void **state)
{
	struct world *w = *state;

	out(w, CH0 + 6, 0xe0);
	out(w, CH0 + 7, 0x10);
	assert_int_equal(in(w, CH0 + 7), 0x50);
	out(w, CH0 + 7, 0xe5);
	assert_int_equal(in(w, CH0 + 2), 0xff);
	out(w, CH0 + 7, 0xf8);
	assert_int_equal(in(w, CH0 + 3) | in(w, CH0 + 4) << 8, SECTORS - 1);
	out(w, CH0 + 6, 0xa7); /* 8 heads of 32 sectors */
	out(w, CH0 + 2, 32);
	out(w, CH0 + 7, 0x91);
	assert_int_equal(in(w, CH0 + 7), 0x50);
	out(w, CH0 + 6, 0xa1);
	out(w, CH0 + 2, 1);
	out(w, CH0 + 3, 1);
	out(w, CH0 + 4, 2);
	out(w, CH0 + 5, 0);
	out(w, CH0 + 7, 0x20);
	assert_int_equal(wait_ready(w, CH0), 0x58);
	read_sector(w, CH0);
	assert_sector(w, (2 * 8 + 1) * 32);
	command28(w, CH0, 0x40, 0, 100);
	assert_int_equal(wait_ready(w, CH0), 0x50);
	out(w, CH0 + 7, 0x90);
	assert_int_equal(in(w, CH0 + 1), 1);
	assert_int_equal(in(w, CH0 + 2), 1);
}

/* ---- reset, interrupt gate, busy ---- */

static void test_soft_reset(void **state)
{
	struct world *w = *state;

	command28(w, CH0, 0x30, 50, 1); /* in the middle of a block */
	vm_board_pio_write(&w->t.board, CH0, 2, 0xdead);
	out(w, CH0 + 0x206, 4);
	assert_int_equal(in(w, CH0 + 0x206), ST_BSY);
	out(w, CH0 + 7, 0xec);
	assert_int_equal(in(w, CH0 + 0x206), ST_BSY);
	out(w, CH0 + 0x206, 0);
	assert_int_equal(in(w, CH0 + 7), 0x50);
	assert_int_equal(in(w, CH0 + 1), 1);
	assert_int_equal(in(w, CH0 + 2), 1);
	assert_int_equal(in(w, CH0 + 3), 1);
	assert_int_equal(in(w, CH0 + 4) | in(w, CH0 + 5), 0);
	command28(w, CH0, 0x20, 50, 1);
	assert_int_equal(wait_ready(w, CH0), 0x58);
	read_sector(w, CH0);
	assert_sector(w, 50);
}

static void test_nien_holds_the_line(void **state)
{
	struct world *w = *state;

	out(w, CH0 + 0x206, 2);
	out(w, CH0 + 6, 0xe0);
	out(w, CH0 + 7, 0xec);
	assert_false(line(w, 14));
	out(w, CH0 + 0x206, 0);
	assert_true(line(w, 14));
}

static void test_busy_while_the_disk_works(void **state)
{
	struct world *w = *state;

	gate_dev_set(&w->gate, false);
	command28(w, CH0, 0x20, 5, 1);
	gate_dev_wait(&w->gate, 1);
	assert_int_equal(in(w, CH0 + 7), ST_BSY);
	out(w, CH0 + 3, 77); /* writes are lost meanwhile */
	out(w, CH0 + 7, 0xec);
	assert_int_equal(in(w, CH0 + 7), ST_BSY);
	assert_int_equal(vm_board_pio_read(&w->t.board, CH0, 2), 0xffff);
	gate_dev_set(&w->gate, true);
	assert_int_equal(wait_ready(w, CH0), 0x58);
	assert_int_equal(in(w, CH0 + 3), 5);
	read_sector(w, CH0);
	assert_sector(w, 5);
}

static void test_high_order_bytes(void **state)
{
	struct world *w = *state;

	out(w, CH0 + 3, 0x12);
	out(w, CH0 + 3, 0x34);
	assert_int_equal(in(w, CH0 + 3), 0x34);
	out(w, CH0 + 0x206, 0x80);
	assert_int_equal(in(w, CH0 + 3), 0x12);
	out(w, CH0 + 2, 0); /* any write goes back */
	assert_int_equal(in(w, CH0 + 3), 0x34);
}

/* ---- bus master ---- */

static void cfg_write(struct world *w, unsigned off, unsigned size, uint32_t v)
{
	vm_board_pio_write(&w->t.board, 0xcf8, 4, 0x80000900u | (off & 0xfc));
	vm_board_pio_write(&w->t.board, (uint16_t)(0xcfc + (off & 3)), size, v);
}

static void bm_on(struct world *w)
{
	cfg_write(w, 0x20, 4, BM);
	cfg_write(w, 4, 2, 5);
}

static void prd(struct world *w, unsigned n, uint32_t at, uint32_t bytes, bool last)
{
	struct vm_gpa gpa = {PRDT + 8 * n};

	assert_true(vm_mem_write32(&w->t.mem, gpa, at));
	gpa.a += 4;
	assert_true(vm_mem_write32(&w->t.mem, gpa, (bytes & 0xffff) | (last ? 0x80000000u : 0)));
}

static void bm_start(struct world *w, bool to_memory)
{
	out(w, BM, to_memory ? 8 : 0);
	out(w, BM + 2, 6);
	vm_board_pio_write(&w->t.board, BM + 4, 4, PRDT);
	out(w, BM, to_memory ? 9 : 1);
}

static uint8_t bm_wait(struct world *w)
{
	(void)wait_ready(w, CH0);
	return in(w, BM + 2);
}

static void test_dma_reads(void **state)
{
	struct world *w = *state;
	uint8_t b[512];

	bm_on(w);
	/* three pieces that do not end with sectors; the command first, then the bus master */
	prd(w, 0, DATA, 700, false);
	prd(w, 1, DATA + 0x4000, 100, false);
	prd(w, 2, DATA + 700, 736, true);
	command28(w, CH0, 0xc8, 200, 3);
	assert_int_equal(in(w, CH0 + 0x206), ST_BSY);
	bm_start(w, true);
	assert_int_equal(bm_wait(w), 4); /* interrupt, no more active */
	assert_int_equal(in(w, CH0 + 7), 0x50);
	out(w, BM, 0);
	assert_true(vm_mem_read(&w->t.mem, b, (struct vm_gpa){DATA}, 512));
	assert_int_equal(b[0], 200);
	assert_true(vm_mem_read(&w->t.mem, b, (struct vm_gpa){DATA + 512}, 188));
	assert_int_equal(b[0], 201);
	assert_true(vm_mem_read(&w->t.mem, b, (struct vm_gpa){DATA + 0x4000}, 100));
	assert_int_equal(b[99], (uint8_t)(201 * 31 + 7));
	assert_true(vm_mem_read(&w->t.mem, b, (struct vm_gpa){DATA + 700 + 224}, 512));
	assert_int_equal(b[0], 202);
	/* a table longer than the transfer stays active; 0 is 64 KiB */
	out(w, BM + 2, 4);
	prd(w, 0, DATA, 0, true);
	bm_start(w, true);
	command48(w, 0x25, 300, 1);
	assert_int_equal(bm_wait(w), 5);
	out(w, BM, 0);
	assert_int_equal(in(w, BM + 2), 4);
}

static void test_dma_writes_much(void **state)
{
	struct world *w = *state;
	uint8_t b[512];

	bm_on(w);
	/* more than one request's worth, in the least pieces: 2 bytes */
	for (unsigned i = 0; i < 512; i++)
		prd(w, i, DATA + 4 * (i % 256), 2, false);
	for (unsigned i = 512; i < 552; i++)
		prd(w, i, 0x80000 + 0x10000 * (i % 2), 0, i == 551);
	memset(b, 0xc3, sizeof(b));
	for (unsigned i = 0; i < 2; i++)
		assert_true(vm_mem_write(&w->t.mem, (struct vm_gpa){DATA + 512 * i}, b, 512));
	memset(b, 0x3c, sizeof(b));
	for (unsigned i = 0; i < 256; i++)
		assert_true(vm_mem_write(&w->t.mem, (struct vm_gpa){0x80000 + 512 * i}, b, 512));
	command48(w, 0x35, 100, 2502);
	bm_start(w, false);
	(void)bm_wait(w);
	assert_int_equal(in(w, CH0 + 7), 0x50);
	assert_disk(w, 100, 0xc3);
	assert_disk(w, 101, 0xc3);
	assert_disk(w, 102, 0x3c);
	assert_disk(w, 2601, 0x3c);
}

static void dma_refused(struct world *w)
{
	assert_int_equal(bm_wait(w) & 7, 6);
	assert_int_equal(in(w, CH0 + 7), 0x51);
	assert_int_equal(in(w, CH0 + 1), 4);
	out(w, BM, 0);
}

static void test_dma_refuses(void **state)
{
	struct world *w = *state;

	bm_on(w);
	prd(w, 0, DATA, 512, true); /* too short */
	command28(w, CH0, 0xc8, 0, 2);
	bm_start(w, true);
	dma_refused(w);
	prd(w, 0, VM_RAM_MIN_BYTES - 256, 512, true); /* not memory */
	command28(w, CH0, 0xc8, 0, 1);
	bm_start(w, true);
	dma_refused(w);
	prd(w, 0, DATA, 512, true);
	command28(w, CH0, 0xc8, 0, 1);
	bm_start(w, false); /* the other way */
	dma_refused(w);
	cfg_write(w, 4, 2, 1); /* may not master */
	command28(w, CH0, 0xc8, 0, 1);
	bm_start(w, true);
	dma_refused(w);
	cfg_write(w, 4, 2, 5);
	command28(w, CH0, 0xc8, 0, 1);
	out(w, BM, 0);
	vm_board_pio_write(&w->t.board, BM + 4, 4, 0xfffffffcu); /* a table nowhere */
	out(w, BM, 9);
	dma_refused(w);
}

struct stopper {
	pthread_t thread;
	struct world *w;
};

static void *open_when_stopped(void *arg)
{
	struct stopper *s = arg;

	/* the command register shows it while the one who stopped waits for the request */
	while (in(s->w, BM) != 8)
		(void)sched_yield();
	gate_dev_set(&s->w->gate, true);
	return NULL;
}

/* The guest stops the bus master in the middle: from then on nothing changes its memory. */
static void test_dma_stops(void **state)
{
	struct world *w = *state;
	struct stopper s = {.w = w};

	bm_on(w);
	prd(w, 0, DATA, 512, true);
	gate_dev_set(&w->gate, false);
	command28(w, CH0, 0xc8, 0, 1);
	bm_start(w, true);
	gate_dev_wait(&w->gate, 1);
	assert_int_equal(pthread_create(&s.thread, NULL, open_when_stopped, &s), 0);
	out(w, BM, 8); /* waits for the request that runs */
	assert_int_equal(in(w, CH0 + 0x206), 0x51);
	assert_int_equal(in(w, BM + 2) & 1, 0);
	assert_int_equal(pthread_join(s.thread, NULL), 0);
	command28(w, CH0, 0x20, 6, 1);
	assert_int_equal(wait_ready(w, CH0), 0x58);
	read_sector(w, CH0);
	assert_sector(w, 6);
}

/* ---- checkpoints ---- */

/* Save @w, free it, and go on in another machine on the same disks. */
static struct world *hop(struct world *w)
{
	struct world *v = calloc(1, sizeof(*v));
	uint8_t *bytes = malloc(VM_SECTION_MAX);
	uint8_t *ram = malloc(VM_RAM_MIN_BYTES);
	struct lb_wr wr = lb_wr_init(bytes, VM_SECTION_MAX);
	struct lb_err err = {0};
	struct lb_rd rd;

	vm_board_lock(&w->t.board);
	assert_true(vm_board_save(&w->t.board, &wr));
	assert_true(vm_mem_read(&w->t.mem, ram, (struct vm_gpa){0}, VM_RAM_MIN_BYTES));
	vm_board_unlock(&w->t.board);
	gate_dev_set(&w->gate, true);
	test_board_fini(&w->t);
	gate_dev_fini(&w->gate);
	img_dev_destroy(w->fault);
	v->mem = w->mem;
	v->other = w->other;
	free(w);
	build(v, 0);
	assert_true(vm_mem_write(&v->t.mem, (struct vm_gpa){0}, ram, VM_RAM_MIN_BYTES));
	rd = lb_rd_init(bytes, wr.len);
	vm_board_lock(&v->t.board);
	if (vm_board_load(&v->t.board, &rd, &err) != 0)
		fail_msg("%s", err.msg);
	vm_board_resume(&v->t.board);
	vm_board_unlock(&v->t.board);
	free(bytes);
	free(ram);
	return v;
}

static void test_hops_in_the_middle_of_sectors(void **state)
{
	struct world *w = world_new(0);

	(void)state;
	command28(w, CH0, 0x20, 1000, 2);
	for (unsigned s = 0; s < 2; s++) {
		(void)wait_ready(w, CH0);
		for (unsigned i = 0; i < 512; i += 2) {
			uint16_t v;

			if (i % 100 == 0)
				w = hop(w);
			v = (uint16_t)vm_board_pio_read(&w->t.board, CH0, 2);
			memcpy(w->sector + i, &v, 2);
			if (i % 100 == 0 && i > 0)
				assert_int_equal(w->sector[i], (uint8_t)((1000 + s) * 31 + 7));
		}
	}
	assert_int_equal(wait_ready(w, CH0), 0x50);
	command28(w, CH0, 0x30, 2000, 1);
	for (unsigned i = 0; i < 512; i += 2) {
		if (i % 100 == 0)
			w = hop(w);
		vm_board_pio_write(&w->t.board, CH0, 2, 0x7777);
	}
	assert_int_equal(wait_ready(w, CH0), 0x50);
	assert_disk(w, 2000, 0x77);
	(void)teardown((void **)&w);
}

static void test_hops_with_requests_under_way(void **state)
{
	struct world *w = world_new(0);
	uint8_t b[512];

	(void)state;
	gate_dev_set(&w->gate, false);
	command28(w, CH0, 0x20, 33, 1);
	gate_dev_wait(&w->gate, 1);
	w = hop(w);
	assert_int_equal(wait_ready(w, CH0), 0x58);
	assert_true(line(w, 14));
	read_sector(w, CH0);
	assert_sector(w, 33);
	/* a write whose bytes are only in the checkpoint */
	gate_dev_set(&w->gate, false);
	command28(w, CH0, 0x30, 34, 1);
	write_sector(w, 0x5e);
	gate_dev_wait(&w->gate, 1);
	w = hop(w);
	assert_int_equal(wait_ready(w, CH0), 0x50);
	assert_disk(w, 34, 0x5e);
	/* DMA, before and after the bus master was started */
	bm_on(w);
	prd(w, 0, DATA, 512, true);
	command28(w, CH0, 0xc8, 35, 1);
	w = hop(w);
	assert_int_equal(in(w, CH0 + 0x206), ST_BSY);
	gate_dev_set(&w->gate, false);
	bm_start(w, true);
	gate_dev_wait(&w->gate, 1);
	w = hop(w);
	assert_int_equal(bm_wait(w), 4);
	assert_true(vm_mem_read(&w->t.mem, b, (struct vm_gpa){DATA}, 512));
	assert_int_equal(b[0], 35);
	(void)teardown((void **)&w);
}

/* Foreign bytes: cut anywhere they are refused; with any byte wrong they are refused or harmless.
 */
static void test_refuses_a_foreign_state(void **state)
{
	struct world *w = *state;
	static uint8_t bytes[VM_SECTION_MAX];
	struct lb_wr wr = lb_wr_init(bytes, sizeof(bytes));
	struct lb_err err = {0};
	struct lb_rd rd;

	command28(w, CH0, 0x30, 2000, 1);
	vm_board_lock(&w->t.board);
	assert_true(vm_board_save(&w->t.board, &wr));
	for (size_t n = 0; n < wr.len; n += 3) {
		rd = lb_rd_init(bytes, n);
		assert_int_not_equal(vm_board_load(&w->t.board, &rd, &err), 0);
	}
	vm_board_unlock(&w->t.board);
	for (size_t n = 0; n < wr.len; n++) {
		for (unsigned i = 0; i < 3; i++) {
			uint8_t was = bytes[n];

			bytes[n] = (uint8_t)(was ^ (0x81u << i));
			rd = lb_rd_init(bytes, wr.len);
			vm_board_lock(&w->t.board);
			if (vm_board_load(&w->t.board, &rd, &err) == 0)
				vm_board_resume(&w->t.board);
			vm_board_unlock(&w->t.board);
			bytes[n] = was;
			for (unsigned k = 0; k < 300; k++)
				vm_board_pio_write(&w->t.board, CH0, 4, 0);
			out(w, BM, 1);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_detection, setup, teardown),
		cmocka_unit_test(test_a_channel_without_drives),
		cmocka_unit_test(test_refuses_odd_sizes),
		cmocka_unit_test_setup_teardown(test_identify, setup, teardown),
		cmocka_unit_test_setup_teardown(test_reads, setup, teardown),
		cmocka_unit_test_setup_teardown(test_writes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_flushes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_refuses, setup, teardown),
		cmocka_unit_test(test_disk_errors),
		cmocka_unit_test_setup_teardown(test_simple_commands, setup, teardown),
		cmocka_unit_test_setup_teardown(test_soft_reset, setup, teardown),
		cmocka_unit_test_setup_teardown(test_nien_holds_the_line, setup, teardown),
		cmocka_unit_test_setup_teardown(test_busy_while_the_disk_works, setup, teardown),
		cmocka_unit_test_setup_teardown(test_high_order_bytes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_dma_reads, setup, teardown),
		cmocka_unit_test_setup_teardown(test_dma_writes_much, setup, teardown),
		cmocka_unit_test_setup_teardown(test_dma_refuses, setup, teardown),
		cmocka_unit_test_setup_teardown(test_dma_stops, setup, teardown),
		cmocka_unit_test(test_hops_in_the_middle_of_sectors),
		cmocka_unit_test(test_hops_with_requests_under_way),
		cmocka_unit_test_setup_teardown(test_refuses_a_foreign_state, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
