/*
 * A guest that does anything to the small devices of pc1: clock, serial port, keyboard controller,
 * reset and power ports, VGA. Whatever its registers and its memory say, the screen is drawn inside
 * its bounds, what was saved loads again and saves the same, and what was damaged is refused or
 * harmless. Operations of six bytes; time is the input's too.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/env.h"
#include "legacy.h"
#include "pm.h"
#include "rtc.h"
#include "test_board.h"
#include "uart.h"
#include "vga.h"
#include "vmgenid.h"

#define OPS_MAX 400u
#define VGA_AT  0xa0000u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct machine {
	struct lb_env env; /* first */
	uint64_t now, wall;
	struct test_board t;
	struct vm_rtc *rtc;
	struct vm_uart *uart;
	struct vm_pm *pm;
	struct vm_vga *vga;
};

static uint64_t fuzz_now(struct lb_env *env)
{
	return ((struct machine *)env)->now;
}

static uint64_t fuzz_wall(struct lb_env *env)
{
	return ((struct machine *)env)->wall;
}

static void fuzz_random(struct lb_env *env, void *p, size_t len)
{
	(void)env;
	memset(p, 0x5a, len);
}

static void machine_init(struct machine *m)
{
	struct vm_rtc_cfg rtc = {.ram_bytes = VM_RAM_MIN_BYTES, .vcpus = 1, .no_thread = true};
	struct vm_board *b = &m->t.board;

	*m = (struct machine){
		.env = {.now_ns = fuzz_now, .wall_ns = fuzz_wall, .random = fuzz_random},
		.now = UINT64_C(1) << 40,
		.wall = UINT64_C(1) << 60,
	};
	test_board_init(&m->t, VM_RAM_MIN_BYTES);
	b->env = &m->env;
	LB_ASSERT(vm_rtc_create(&m->rtc, b, &rtc, NULL) == 0);
	LB_ASSERT(vm_uart_create(&m->uart, b, NULL) == 0);
	LB_ASSERT(vm_i8042_create(b, NULL) == 0);
	LB_ASSERT(vm_sysport_create(b, NULL) == 0);
	LB_ASSERT(vm_dbgport_create(b, NULL) == 0);
	LB_ASSERT(vm_pm_create(&m->pm, b, NULL) == 0);
	LB_ASSERT(vm_genid_create(b, m->pm, NULL) == 0);
	LB_ASSERT(vm_vga_create(&m->vga, b, NULL) == 0);
	vm_board_lock(b);
	vm_board_reset(b);
	vm_board_unlock(b);
}

/* ---- operations ---- */

static uint16_t port_of(uint8_t n)
{
	static const uint16_t port[] = {
		0x60,  0x64,  0x70,  0x71,  0x80,  0x92,  0xcf9, 0x402, 0x3b4, 0x3b5, 0x3ba,
		0x3c0, 0x3c1, 0x3c2, 0x3c4, 0x3c5, 0x3c6, 0x3c7, 0x3c8, 0x3c9, 0x3ca, 0x3cc,
		0x3ce, 0x3cf, 0x3d4, 0x3d5, 0x3da, 0x3f8, 0x3f9, 0x3fa, 0x3fb, 0x3fc, 0x3fd,
		0x3fe, 0x3ff, 0x600, 0x602, 0x604, 0x608, 0x60c, 0x60e, 0x601, 0x605,
	};

	return port[n % (sizeof(port) / sizeof(port[0]))];
}

static void hop(struct machine *m, unsigned at, uint8_t flip)
{
	static uint8_t state[VM_SECTION_MAX], again[VM_SECTION_MAX];
	struct lb_wr wr = lb_wr_init(state, sizeof(state));
	struct lb_wr wr2 = lb_wr_init(again, sizeof(again));
	struct vm_board *b = &m->t.board;
	struct lb_rd rd;
	int rc;

	vm_board_lock(b);
	LB_ASSERT(vm_board_save(b, &wr));
	state[at % wr.len] ^= flip;
	rd = lb_rd_init(state, wr.len);
	rc = vm_board_load(b, &rd, NULL);
	LB_ASSERT(rc == 0 || flip != 0);
	LB_ASSERT(vm_board_save(b, &wr2));
	LB_ASSERT(flip != 0 || (wr.len == wr2.len && memcmp(state, again, wr.len) == 0));
	if (rc == 0)
		vm_board_resume(b);
	else
		vm_board_reset(b);
	if (rc == 0 && (at & 1) != 0)
		vm_rtc_freeze(m->rtc);
	vm_board_unlock(b);
}

static void look(struct machine *m, uint16_t cap)
{
	static char text[VM_VGA_TEXT_MAX];
	uint8_t palette[16][3], *p = NULL;
	uint32_t width = 0, height = 0, sum = 0;
	size_t room = cap < sizeof(text) ? cap : sizeof(text);

	if (vm_vga_text(m->vga, text, room, NULL) == 0)
		LB_ASSERT(strnlen(text, room) < room);
	if (vm_vga_pixels(m->vga, &p, &width, &height, palette, NULL) != 0)
		return;
	LB_ASSERT(width >= 8 && width <= 9 * VM_VGA_COLUMNS_MAX);
	LB_ASSERT(height >= 1 && height <= 32 * VM_VGA_ROWS_MAX);
	for (size_t i = 0; i < (size_t)width * height; i++)
		sum |= p[i];
	LB_ASSERT(sum < 16);
	free(p);
}

static void pass(struct machine *m, uint32_t v)
{
	m->now += (uint64_t)v << 8;
	m->wall += (uint64_t)v << 8;
	vm_board_lock(&m->t.board);
	(void)vm_rtc_poll(m->rtc);
	vm_board_unlock(&m->t.board);
}

static void type(struct machine *m, const uint8_t op[6])
{
	uint8_t many[256];

	memset(many, op[2], sizeof(many));
	if (vm_uart_input(m->uart, many, op[3]) > op[3])
		abort();
	vm_board_lock(&m->t.board);
	if ((op[4] & 1) != 0)
		vm_pm_power_button(m->pm);
	vm_board_unlock(&m->t.board);
}

static void step(struct machine *m, const uint8_t op[6])
{
	uint32_t v = (uint32_t)op[2] | (uint32_t)op[3] << 8 | (uint32_t)op[4] << 16 |
		     (uint32_t)op[5] << 24;
	unsigned size = 1u << (op[0] >> 4) % 3;
	struct vm_gpa at = {(VGA_AT + v % 0x1fffc) & ~3u};

	switch (op[0] & 7) {
	case 0:
	case 1:
		vm_board_pio_write(&m->t.board, port_of(op[1]), size, v);
		break;
	case 2:
		(void)vm_board_pio_read(&m->t.board, port_of(op[1]), size);
		break;
	case 3: /* an index and its data */
		vm_board_pio_write(&m->t.board, port_of(op[1]), 1, op[2]);
		vm_board_pio_write(&m->t.board, (uint16_t)(port_of(op[1]) + 1), 1, op[3]);
		break;
	case 4:
		(void)vm_mem_write32(&m->t.mem, at, v * 0x9e3779b9u);
		look(m, (uint16_t)(op[1] << 8 | op[5]));
		break;
	case 5:
		pass(m, v);
		break;
	case 6:
		type(m, op);
		break;
	default:
		hop(m, v, op[1]);
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct machine m;

	if (size < 6 || size > 6 * OPS_MAX)
		return 0;
	machine_init(&m);
	for (size_t i = 0; i + 6 <= size; i += 6)
		step(&m, data + i);
	look(&m, UINT16_MAX);
	test_board_fini(&m.t);
	return 0;
}
