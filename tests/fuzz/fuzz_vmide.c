/*
 * A guest that does anything to the IDE controller: the machine neither crashes nor hangs, its
 * checkpoints load again, and foreign ones are refused or harmless.
 *
 * Input: a byte that says which disk operation fails, then operations of four bytes. Every request
 * ends before the next operation, so an input always does the same (but for a transfer that is
 * stopped at once, which may be done by then).
 */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/assert.h"
#include "base/err.h"
#include "blk.h"
#include "ide.h"
#include "imaging/dev.h"
#include "pci.h"
#include "test_board.h"

#define DISK_BYTES UINT64_C(65536)
#define BM         0xc000u
#define OPS_MAX    400u
#define NEVER      UINT64_MAX

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct machine {
	struct test_board t;
	struct img_dev *mem[2], *fault;
	struct vm_blk *blk[VM_IDE_DISKS];
	uint8_t state[VM_SECTION_MAX];
};

static void cfg_write(struct machine *m, unsigned off, uint32_t v)
{
	vm_board_pio_write(&m->t.board, 0xcf8, 4, 0x80000900u | off);
	vm_board_pio_write(&m->t.board, 0xcfc, 4, v);
}

static void machine_init(struct machine *m, uint8_t fail_at)
{
	struct vm_ide_disk disk[VM_IDE_DISKS] = {{.dev = NULL}};
	struct vm_pci *pci = NULL;

	test_board_init(&m->t, VM_RAM_MIN_BYTES);
	LB_ASSERT(img_mem_create(&m->mem[0], DISK_BYTES, NULL) == 0);
	LB_ASSERT(img_mem_create(&m->mem[1], DISK_BYTES, NULL) == 0);
	LB_ASSERT(img_fault_create(&m->fault, m->mem[0], fail_at, LB_EIO, NULL) == 0);
	disk[0].dev = m->fault;
	disk[3].dev = m->mem[1];
	LB_ASSERT(vm_pci_create(&pci, &m->t.board, NULL) == 0);
	LB_ASSERT(vm_ide_create(&m->t.board, pci, disk, m->blk, NULL) == 0);
	vm_board_lock(&m->t.board);
	vm_board_reset(&m->t.board);
	vm_board_unlock(&m->t.board);
	cfg_write(m, 0x20, BM);
	cfg_write(m, 4, 5);
}

static void machine_fini(struct machine *m)
{
	test_board_fini(&m->t);
	img_dev_destroy(m->fault);
	img_dev_destroy(m->mem[0]);
	img_dev_destroy(m->mem[1]);
}

static void drain(struct machine *m)
{
	LB_ASSERT(vm_blk_drain(m->blk[0], NEVER));
	LB_ASSERT(vm_blk_drain(m->blk[3], NEVER));
}

/* Save, change one byte (or none), load. What was saved untouched must load. */
static void hop(struct machine *m, unsigned at, uint8_t flip)
{
	struct lb_wr wr = lb_wr_init(m->state, sizeof(m->state));
	struct lb_rd rd;
	int rc;

	vm_board_lock(&m->t.board);
	LB_ASSERT(vm_board_save(&m->t.board, &wr));
	m->state[at % wr.len] ^= flip;
	rd = lb_rd_init(m->state, wr.len);
	rc = vm_board_load(&m->t.board, &rd, NULL);
	LB_ASSERT(rc == 0 || flip != 0);
	if (rc != 0)
		vm_board_reset(&m->t.board);
	else
		vm_board_resume(&m->t.board);
	vm_board_unlock(&m->t.board);
}

static void bulk(struct machine *m, uint16_t port, unsigned words, bool out)
{
	for (unsigned i = 0; i < words; i++)
		if (out)
			vm_board_pio_write(&m->t.board, port, 2, i);
		else
			(void)vm_board_pio_read(&m->t.board, port, 2);
}

static void step(struct machine *m, const uint8_t op[4])
{
	static const uint16_t base[4] = {0x1f0, 0x170, 0x3f6, 0x376};
	uint16_t port = base[op[1] >> 6];
	struct vm_gpa prd = {0x1000u + 4u * op[1]};
	uint32_t v = (uint32_t)op[2] | (uint32_t)op[3] << 8;
	unsigned size = 1u << (op[1] >> 4 & 3) % 3;

	port = (uint16_t)(port + (port < 0x200 ? op[1] & 7 : 0));
	switch (op[0] % 8) {
	case 0:
	case 1:
		vm_board_pio_write(&m->t.board, port, size, v);
		break;
	case 2:
		(void)vm_board_pio_read(&m->t.board, port, size);
		(void)vm_board_pio_read(&m->t.board, (uint16_t)(BM + op[2] % 16), size);
		break;
	case 3:
		bulk(m, base[op[1] & 1], v % 4200, (op[1] & 2) != 0);
		break;
	case 4:
		vm_board_pio_write(&m->t.board, (uint16_t)(BM + op[1] % 16), 1, op[2]);
		if ((op[3] & 1) != 0) /* a start that is stopped while it runs, or just after */
			vm_board_pio_write(&m->t.board, (uint16_t)(BM + op[1] % 16), 1, 0);
		break;
	case 5:
		(void)vm_mem_write32(&m->t.mem, prd, v << (op[0] >> 3 & 16));
		break;
	case 6:
		vm_board_pio_write(&m->t.board, (uint16_t)(BM + 4 + (op[1] & 8)), 4, v);
		break;
	default:
		hop(m, v, op[1]);
		break;
	}
	drain(m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct machine m;

	if (size < 5 || size > 1 + 4 * OPS_MAX)
		return 0;
	machine_init(&m, data[0]);
	for (size_t i = 1; i + 4 <= size; i += 4)
		step(&m, data + i);
	machine_fini(&m);
	return 0;
}
