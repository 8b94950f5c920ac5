/* The text screen: registers as a VGA BIOS uses them, rendering to text, pixels and PNG. */
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "check.h"
#include "test_board.h"
#include "vga.h"

#define TEXT 0xb8000u

struct world {
	struct test_board t;
	struct vm_vga *v;
	char text[VM_VGA_TEXT_MAX];
};

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));
	struct lb_err err = {0};

	test_board_init(&w->t, VM_RAM_MIN_BYTES);
	assert_int_equal(vm_vga_create(&w->v, &w->t.board, &err), 0);
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

static void out(struct world *w, uint16_t port, uint8_t v)
{
	vm_board_pio_write(&w->t.board, port, 1, v);
}

static uint8_t in(struct world *w, uint16_t port)
{
	return (uint8_t)vm_board_pio_read(&w->t.board, port, 1);
}

static void crtc(struct world *w, uint8_t reg, uint8_t v)
{
	vm_board_pio_write(&w->t.board, 0x3d4, 2, (uint64_t)v << 8 | reg);
}

static void put(struct world *w, unsigned cell, const char *s, uint8_t attr)
{
	for (; *s != '\0'; s++, cell++) {
		uint8_t b[2] = {(uint8_t)*s, attr};

		assert_true(vm_mem_write(&w->t.mem, (struct vm_gpa){TEXT + 2 * cell}, b, 2));
	}
}

static const char *shot(struct world *w)
{
	struct lb_err err = {0};

	assert_int_equal(vm_vga_text(w->v, w->text, sizeof(w->text), &err), 0);
	return w->text;
}

static void test_text(void **state)
{
	struct world *w = *state;
	struct lb_err err = {0};
	char small[8];

	put(w, 0, "Booting", 7);
	put(w, 80 + 2, "\xc9\xcd\xbb \x81\xe1 \x10", 7);
	put(w, 24 * 80 + 79, "!", 7);
	(void)shot(w);
	assert_memory_equal(w->text, "Booting\n  ╔═╗ üß ►\n\n", 30);
	assert_int_equal(strlen(w->text), 7 + 20 + 25 + 80);
	/* the CRTC scrolls: the screen begins a line further down, and wraps at 32 KiB */
	crtc(w, 0x0d, 80);
	assert_memory_equal(shot(w), "  ╔", 5);
	crtc(w, 0x0c, 0x3f);
	crtc(w, 0x0d, 0xb0);
	assert_memory_equal(shot(w), "\nBooting\n", 9);
	assert_int_equal(vm_vga_text(w->v, small, sizeof(small), &err), 0);
	assert_string_equal(small, "\n");
	assert_int_equal(vm_vga_text(w->v, small, 0, &err), LB_EINVAL);
}

static void test_modes(void **state)
{
	struct world *w = *state;
	struct lb_err err = {0};

	put(w, 40, "second line", 7);
	crtc(w, 0x01, 39);
	assert_int_equal(in(w, 0x3d5), 79); /* registers 0..7 are protected */
	crtc(w, 0x11, 0x0e);
	crtc(w, 0x01, 39);
	crtc(w, 0x13, 20);
	assert_memory_equal(shot(w), "\nsecond line\n", 13);
	crtc(w, 0x09, 0x07); /* 8 lines a character: 50 rows */
	(void)shot(w);
	assert_int_equal(strlen(w->text), 50 + 11);
	/* whatever the registers hold, the screen has a size */
	for (unsigned i = 0; i < 25; i++)
		crtc(w, (uint8_t)i, 0xff);
	(void)shot(w);
	for (unsigned i = 0; i < 25; i++)
		crtc(w, (uint8_t)i, 0);
	(void)shot(w);
	crtc(w, 0x01, 0);
	crtc(w, 0x07, 0);
	crtc(w, 0x09, 0x1f); /* characters of 32 lines on a screen of one */
	assert_string_equal(shot(w), "\n");
	crtc(w, 0x09, 0);
	out(w, 0x3ce, 6);
	out(w, 0x3cf, 5);
	assert_int_equal(vm_vga_text(w->v, w->text, sizeof(w->text), &err), LB_EUNSUPPORTED);
	out(w, 0x3cf, 0x0a); /* mono: text at 0xb0000 */
	assert_int_equal(vm_vga_text(w->v, w->text, sizeof(w->text), &err), 0);
}

static void test_registers(void **state)
{
	struct world *w = *state;
	uint8_t first = in(w, 0x3da), second = in(w, 0x3da);

	assert_int_equal(first ^ second, 9);
	out(w, 0x3c0, 0x01);
	out(w, 0x3c0, 0x2a);
	(void)in(w, 0x3da);
	out(w, 0x3c0, 0x01);
	assert_int_equal(in(w, 0x3c1), 0x2a);
	out(w, 0x3c8, 5);
	for (uint8_t i = 1; i <= 3; i++)
		out(w, 0x3c9, i);
	out(w, 0x3c7, 5);
	assert_int_equal(in(w, 0x3c9), 1);
	assert_int_equal(in(w, 0x3c9), 2);
	assert_int_equal(in(w, 0x3c9), 3);
	assert_int_equal(in(w, 0x3c7), 3);
	/* indexes beyond the files read as nothing */
	out(w, 0x3c4, 0xff);
	out(w, 0x3c5, 0);
	assert_int_equal(in(w, 0x3c5), 0xff);
	/* colour at 3Dx, or monochrome at 3Bx */
	assert_int_equal(in(w, 0x3b5), 0xff);
	out(w, 0x3c2, 0x66);
	assert_int_equal(in(w, 0x3cc), 0x66);
	assert_int_equal(in(w, 0x3d5), 0xff);
	vm_board_pio_write(&w->t.board, 0x3b4, 2, 0x420e);
	assert_int_equal(in(w, 0x3b5), 0x42);
}

static void test_pixels(void **state)
{
	struct world *w = *state;
	struct lb_err err = {0};
	uint8_t palette[16][3];
	uint8_t *p = NULL;
	uint32_t width = 0, height = 0;

	put(w, 0, "\xdb\xc4", 0x1e); /* full block, line: yellow on blue */
	put(w, 81, " ", 0x07);
	crtc(w, 0x0f, 81); /* cursor in the second row */
	assert_int_equal(vm_vga_pixels(w->v, &p, &width, &height, palette, &err), 0);
	assert_int_equal(width, 720);
	assert_int_equal(height, 400);
	assert_int_equal(p[0], 14);
	assert_int_equal(p[8], 14); /* the ninth column of a block character repeats the eighth */
	assert_int_equal(p[9], 1);
	assert_int_equal(p[7 * 720 + 17], 14);
	assert_int_equal(p[(16 + 12) * 720 + 9], 0);
	assert_int_equal(p[(16 + 13) * 720 + 9], 7); /* the cursor: lines 13 and 14 */
	assert_int_equal(p[(16 + 14) * 720 + 17], 7);
	assert_int_equal(p[(16 + 15) * 720 + 9], 0);
	assert_memory_equal(palette[1], "\0\0\xaa", 3);
	assert_memory_equal(palette[14], "\xff\xff\x55", 3);
	free(p);
	/* a font of the guest's own, 8 pixels wide */
	out(w, 0x3c4, 1);
	out(w, 0x3c5, 1);
	memset(w->text, 0x18, 16);
	assert_true(vm_mem_write(&w->t.mem, (struct vm_gpa){0xa0000 + 32 * 'A'}, w->text, 16));
	put(w, 0, "A", 0x07);
	assert_int_equal(vm_vga_pixels(w->v, &p, &width, &height, palette, &err), 0);
	assert_int_equal(width, 640);
	assert_memory_equal(p, "\0\0\0\7\7\0\0\0", 8);
	free(p);
}

static void test_state_comes_back(void **state)
{
	struct world *w = *state;
	struct world *v = NULL;
	uint8_t bytes[2048];
	struct lb_wr wr = lb_wr_init(bytes, sizeof(bytes));
	struct lb_err err = {0};
	struct lb_rd rd;

	crtc(w, 0x0d, 80);
	out(w, 0x3c8, 1);
	out(w, 0x3c9, 0x3f);
	assert_true(vm_board_save(&w->t.board, &wr));
	(void)setup((void **)&v);
	rd = lb_rd_init(bytes, wr.len);
	assert_int_equal(vm_board_load(&v->t.board, &rd, &err), 0);
	put(v, 80, "here", 7);
	assert_memory_equal(shot(v), "here\n", 5);
	out(v, 0x3c9, 0x3e);
	out(v, 0x3c7, 1);
	assert_int_equal(in(v, 0x3c9), 0x3f);
	assert_int_equal(in(v, 0x3c9), 0x3e);
	/* any bytes are a state */
	for (size_t n = 28; n < wr.len; n++)
		bytes[n] = 0xff;
	rd = lb_rd_init(bytes, wr.len);
	assert_int_equal(vm_board_load(&v->t.board, &rd, &err), 0);
	(void)vm_vga_text(v->v, v->text, sizeof(v->text), &err);
	out(v, 0x3c9, 1);
	(void)in(v, 0x3c9);
	(void)teardown((void **)&v);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_text, setup, teardown),
		cmocka_unit_test_setup_teardown(test_modes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_registers, setup, teardown),
		cmocka_unit_test_setup_teardown(test_pixels, setup, teardown),
		cmocka_unit_test_setup_teardown(test_state_comes_back, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
