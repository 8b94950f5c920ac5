/* A guest that does anything to fw_cfg: no byte outside the machine's memory and the items is
 * touched, and its state loads again. Operations of six bytes. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/assert.h"
#include "fwcfg.h"
#include "test_board.h"

#define OPS_MAX 300u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void on_written(void *arg, const uint8_t *data, size_t len)
{
	LB_ASSERT(len == 8 && data != NULL);
	++*(unsigned *)arg;
}

static void hop(struct test_board *t, unsigned at, uint8_t flip)
{
	static uint8_t state[VM_SECTION_MAX];
	struct lb_wr wr = lb_wr_init(state, sizeof(state));
	struct lb_rd rd;
	int rc;

	LB_ASSERT(vm_board_save(&t->board, &wr));
	state[at % wr.len] ^= flip;
	rd = lb_rd_init(state, wr.len);
	rc = vm_board_load(&t->board, &rd, NULL);
	LB_ASSERT(rc == 0 || flip != 0);
	if (rc == 0)
		vm_board_resume(&t->board);
}

/* A descriptor made of the operation's bytes: control, length, an address near the end of memory.
 */
static void dma(struct test_board *t, const uint8_t op[6])
{
	struct vm_gpa at = {0x100};
	uint64_t to = VM_RAM_MIN_BYTES - 64u * op[4];
	uint8_t d[16] = {0,
			 op[1],
			 0,
			 op[2],
			 (uint8_t)(op[3] & 0x81),
			 0,
			 op[3],
			 op[5],
			 0,
			 0,
			 (uint8_t)(op[3] & 2),
			 0,
			 (uint8_t)(to >> 24),
			 (uint8_t)(to >> 16),
			 (uint8_t)(to >> 8),
			 (uint8_t)to};

	LB_ASSERT(vm_mem_write(&t->mem, at, d, sizeof(d)));
	vm_board_pio_write(&t->board, 0x514, 4, 0);
	vm_board_pio_write(&t->board, 0x518, 4, __builtin_bswap32((uint32_t)at.a));
}

static void step(struct test_board *t, const uint8_t op[6])
{
	uint32_t v = (uint32_t)op[2] | (uint32_t)op[3] << 8 | (uint32_t)op[4] << 16 |
		     (uint32_t)op[5] << 24;
	uint16_t port = (uint16_t)(0x510 + op[1] % 12);
	unsigned size = 1u << (op[0] >> 4) % 3;
	struct vm_gpa at = {v % VM_RAM_MIN_BYTES & ~3u};

	switch (op[0] & 7) {
	case 0:
		vm_board_pio_write(&t->board, 0x510, 2, v & 0x3f);
		break;
	case 1:
		vm_board_pio_write(&t->board, port, size, v);
		break;
	case 2:
		for (unsigned i = 0; i < op[2]; i++)
			(void)vm_board_pio_read(&t->board, port, size);
		break;
	case 3:
	case 4:
		dma(t, op);
		break;
	case 5:
		(void)vm_mem_write32(&t->mem, at, v * 0x9e3779b9u);
		break;
	case 6:
		vm_board_pio_write(&t->board, 0x518, 4, v);
		break;
	default:
		hop(t, v, op[1]);
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct test_board t;
	struct vm_fwcfg *f = NULL;
	unsigned writes = 0;

	if (size < 7 || size > 1 + 6 * OPS_MAX)
		return 0;
	test_board_init(&t, VM_RAM_MIN_BYTES);
	LB_ASSERT(vm_fwcfg_create(&f, &t.board, NULL) == 0);
	LB_ASSERT(vm_fwcfg_add_file(f, "etc/a", data, size, NULL) == 0);
	LB_ASSERT(vm_fwcfg_add_writable(f, "etc/w", 8, on_written, &writes, NULL) == 0);
	if ((data[0] & 1) != 0)
		vm_fwcfg_set_option_rom(f, VM_OPTION_ROM_BYTES);
	for (size_t i = 1; i + 6 <= size; i += 6)
		step(&t, data + i);
	test_board_fini(&t);
	return 0;
}
