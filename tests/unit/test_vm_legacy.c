/* Keyboard controller, reset ports, debug port, fw_cfg and firmware images by script. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/err.h"
#include "boot.h"
#include "check.h"
#include "fwcfg.h"
#include "legacy.h"
#include "test_board.h"

enum {
	KBD_IRQ = 1
};

struct world {
	struct test_board t;
	struct vm_fwcfg *f;
	uint8_t written[8];
	unsigned writes;
};

static void on_written(void *arg, const uint8_t *data, size_t len)
{
	struct world *w = arg;

	assert_int_equal(len, 8);
	memcpy(w->written, data, 8);
	w->writes++;
}

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));
	struct lb_err err = {0};

	test_board_init(&w->t, VM_RAM_MIN_BYTES);
	assert_int_equal(vm_i8042_create(&w->t.board, &err), 0);
	assert_int_equal(vm_sysport_create(&w->t.board, &err), 0);
	assert_int_equal(vm_dbgport_create(&w->t.board, &err), 0);
	assert_int_equal(vm_fwcfg_create(&w->f, &w->t.board, &err), 0);
	assert_int_equal(vm_fwcfg_add_file(w->f, "etc/e820", "ABCDEFGHIJ", 10, &err), 0);
	assert_int_equal(vm_fwcfg_add_writable(w->f, "etc/vmgenid_addr", 8, on_written, w, &err),
			 0);
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

static uint8_t in(struct world *w, uint16_t port)
{
	return (uint8_t)vm_board_pio_read(&w->t.board, port, 1);
}

static void out(struct world *w, uint16_t port, uint8_t v)
{
	vm_board_pio_write(&w->t.board, port, 1, v);
}

static uint8_t next(struct world *w)
{
	assert_int_equal(in(w, 0x64) & 1, 1);
	return in(w, 0x60);
}

/* ---- keyboard controller ---- */

/* SeaBIOS src/hw/ps2port.c, ps2_keyboard_setup() */
static void test_keyboard_answers_firmware(void **state)
{
	struct world *w = *state;

	assert_int_equal(in(w, 0x64) & 1, 0);
	out(w, 0x64, 0xaa);
	assert_int_equal(next(w), 0x55);
	out(w, 0x64, 0xab);
	assert_int_equal(next(w), 0);
	out(w, 0x64, 0xae);
	out(w, 0x60, 0xff);
	assert_int_equal(next(w), 0xfa);
	assert_int_equal(next(w), 0xaa);
	out(w, 0x60, 0xf5);
	assert_int_equal(next(w), 0xfa);
	out(w, 0x60, 0xf0);
	assert_int_equal(next(w), 0xfa);
	out(w, 0x60, 0x02);
	assert_int_equal(next(w), 0xfa);
	out(w, 0x60, 0xf4);
	assert_int_equal(next(w), 0xfa);
	assert_int_equal(in(w, 0x64) & 1, 0);
	out(w, 0x60, 0x12);
	assert_int_equal(next(w), 0xfe);
	out(w, 0x60, 0xf2);
	assert_int_equal(next(w), 0xfa);
	assert_int_equal(next(w), 0xab);
	assert_int_equal(next(w), 0x41);
}

/* Linux drivers/input/serio/i8042.c: the command byte sticks, there is no mouse port. */
static void test_linux_finds_no_mouse(void **state)
{
	struct world *w = *state;

	out(w, 0x64, 0x20);
	assert_int_equal(next(w), 0x70);
	out(w, 0x64, 0x60);
	out(w, 0x60, 0x45);
	out(w, 0x64, 0x20);
	assert_int_equal(next(w), 0x45);
	out(w, 0x64, 0xd3);
	out(w, 0x60, 0x5a);
	assert_int_equal(in(w, 0x64) & 0x21, 1); /* data, but not the mouse's */
	(void)in(w, 0x60);
	out(w, 0x64, 0xa9);
	assert_int_equal(next(w), 1);
	out(w, 0x64, 0xd4);
	out(w, 0x60, 0xff);
	assert_int_equal(in(w, 0x64) & 1, 0);
}

static void test_keyboard_interrupts(void **state)
{
	struct world *w = *state;

	out(w, 0x64, 0x60);
	out(w, 0x60, 0x41);
	out(w, 0x60, 0xff);
	assert_true(w->t.line[KBD_IRQ]);
	assert_int_equal(in(w, 0x60), 0xfa);
	assert_int_equal(w->t.raised[KBD_IRQ], 2); /* the second byte is an edge of its own */
	assert_int_equal(in(w, 0x60), 0xaa);
	assert_false(w->t.line[KBD_IRQ]);
	out(w, 0x64, 0xd2);
	out(w, 0x60, 0x1e);
	assert_int_equal(w->t.raised[KBD_IRQ], 3);
	out(w, 0x64, 0xad);
	(void)in(w, 0x60);
	/* sixteen bytes wait, what is more is lost, as in a keyboard */
	for (unsigned i = 0; i < 40; i++)
		out(w, 0x60, 0xee);
	for (unsigned i = 0; i < 17; i++)
		assert_int_equal(next(w), 0xee);
	assert_int_equal(in(w, 0x64) & 1, 0);
}

static void test_resets(void **state)
{
	struct world *w = *state;

	out(w, 0x64, 0xfe);
	assert_int_equal(w->t.events[VM_EVENT_RESET], 1);
	out(w, 0x64, 0xff);
	out(w, 0x64, 0xd1);
	out(w, 0x60, 0xdf);
	assert_int_equal(w->t.events[VM_EVENT_RESET], 1);
	out(w, 0x64, 0xd1);
	out(w, 0x60, 0xde);
	assert_int_equal(w->t.events[VM_EVENT_RESET], 2);
	assert_int_equal(in(w, 0x92), 2);
	out(w, 0x92, 3);
	assert_int_equal(w->t.events[VM_EVENT_RESET], 3);
	out(w, 0x92, 3);
	assert_int_equal(w->t.events[VM_EVENT_RESET], 3);
	out(w, 0xcf9, 2);
	out(w, 0xcf9, 6);
	assert_int_equal(w->t.events[VM_EVENT_RESET], 4);
	assert_int_equal(in(w, 0xcf9), 6);
	vm_board_reset(&w->t.board);
	assert_int_equal(in(w, 0xcf9), 0);
	out(w, 0x80, 0x31);
	assert_int_equal(in(w, 0x80), 0x31);
}

static void test_debug_port(void **state)
{
	struct world *w = *state;

	assert_int_equal(in(w, 0x402), 0xe9);
	out(w, 0x402, 'S');
	assert_int_equal(w->t.events[VM_EVENT_DEBUG], 1);
}

/* ---- fw_cfg ---- */

static void select_key(struct world *w, uint16_t key)
{
	vm_board_pio_write(&w->t.board, 0x510, 2, key);
}

static void read_bytes(struct world *w, void *to, size_t len)
{
	for (size_t i = 0; i < len; i++)
		((uint8_t *)to)[i] = in(w, 0x511);
}

static uint32_t dma(struct world *w, uint32_t control, uint32_t len, uint64_t at)
{
	struct vm_gpa d = {0x1000};
	uint8_t b[16];
	uint32_t status;

	for (unsigned i = 0; i < 4; i++) {
		b[i] = (uint8_t)(control >> (24 - 8 * i));
		b[4 + i] = (uint8_t)(len >> (24 - 8 * i));
	}
	for (unsigned i = 0; i < 8; i++)
		b[8 + i] = (uint8_t)(at >> (56 - 8 * i));
	assert_true(vm_mem_write(&w->t.mem, d, b, sizeof(b)));
	vm_board_pio_write(&w->t.board, 0x518, 4, __builtin_bswap32(0x1000));
	assert_true(vm_mem_read32(&w->t.mem, d, &status));
	return __builtin_bswap32(status);
}

static void test_fwcfg_ports(void **state)
{
	struct world *w = *state;
	struct lb_err err = {0};
	uint8_t b[80];

	select_key(w, 0);
	read_bytes(w, b, 6);
	assert_memory_equal(b, "QEMU\0", 6);
	select_key(w, 1);
	read_bytes(w, b, 4);
	assert_memory_equal(b, "\3\0\0", 4);
	select_key(w, 0x19);
	read_bytes(w, b, 4 + 64);
	assert_memory_equal(b, "\0\0\0\2\0\0\0\12\0\40\0\0etc/e820", 21);
	select_key(w, 0x20);
	read_bytes(w, b, 12);
	assert_memory_equal(b, "ABCDEFGHIJ\0", 12);
	select_key(w, 0x7777);
	assert_int_equal(in(w, 0x511), 0);
	assert_int_equal(vm_board_pio_read(&w->t.board, 0x514, 4), 0x554d4551u); /* "QEMU" */
	assert_int_equal(vm_board_pio_read(&w->t.board, 0x518, 4), 0x47464320u);
	assert_int_equal(vm_fwcfg_add_file(w->f, "etc/e820", "", 0, &err), LB_EEXIST);
	assert_int_equal(vm_fwcfg_add_file(w->f, "", "", 0, &err), LB_EINPUT);
	assert_int_equal(vm_fwcfg_add(w->f, 0, "x", 1, &err), LB_EEXIST);
}

static void test_fwcfg_dma(void **state)
{
	struct world *w = *state;
	uint8_t b[16];

	assert_int_equal(dma(w, 0x20u << 16 | 8 | 2, 4, 0x2000), 0);
	assert_true(vm_mem_read(&w->t.mem, b, (struct vm_gpa){0x2000}, 4));
	assert_memory_equal(b, "ABCD", 4);
	assert_int_equal(dma(w, 4, 2, 0), 0); /* skip */
	memset(b, 0xff, sizeof(b));
	assert_true(vm_mem_write(&w->t.mem, (struct vm_gpa){0x2000}, b, sizeof(b)));
	assert_int_equal(dma(w, 2, 8, 0x2000), 0);
	assert_true(vm_mem_read(&w->t.mem, b, (struct vm_gpa){0x2000}, 9));
	assert_memory_equal(b, "GHIJ\0\0\0\0\xff", 9);
	/* lengths and addresses are the guest's */
	assert_int_equal(dma(w, 0x20u << 16 | 8 | 2, UINT32_MAX, 0), 1);
	assert_int_equal(dma(w, 2, 8, VM_RAM_MIN_BYTES - 4), 1);
	assert_int_equal(dma(w, 2, 8, UINT64_MAX - 3), 1);
	assert_int_equal(dma(w, 4, 8 << 20, 0), 0);
	vm_board_pio_write(&w->t.board, 0x514, 4, 0xffffffffu);
	vm_board_pio_write(&w->t.board, 0x518, 4, 0xffffffffu); /* nowhere: nothing */
	vm_board_pio_write(&w->t.board, 0x518, 2, 0);
	vm_board_pio_write(&w->t.board, 0x51a, 2, 0);
}

static void test_fwcfg_guest_writes(void **state)
{
	struct world *w = *state;
	struct vm_gpa at = {0x3000};

	assert_true(vm_mem_write(&w->t.mem, at, "\1\2\3\4\5\6\7\10", 8));
	assert_int_equal(dma(w, 0x21u << 16 | 8 | 16, 8, at.a), 0);
	assert_int_equal(w->writes, 1);
	assert_memory_equal(w->written, "\1\2\3\4\5\6\7\10", 8);
	assert_int_equal(dma(w, 16, 1, at.a), 1);                   /* past its end */
	assert_int_equal(dma(w, 0x21u << 16 | 8 | 16, 9, at.a), 1); /* longer than it is */
	assert_int_equal(dma(w, 0x20u << 16 | 8 | 16, 1, at.a), 1); /* read-only */
	assert_int_equal(w->writes, 1);
}

static void test_option_rom(void **state)
{
	struct world *w = *state;
	uint8_t image[512] = {0x55, 0xaa, 1};
	int fd = memfd_create("rom", MFD_CLOEXEC);
	struct lb_err err = {0};
	uint32_t len = 0;
	uint8_t b[4 + 3 * 64];

	assert_int_equal(write(fd, image, sizeof(image)), sizeof(image));
	assert_int_equal(vm_boot_option_rom(&len, &w->t.mem, fd, &err), 0);
	assert_int_equal(len, 512);
	vm_fwcfg_set_option_rom(w->f, len);
	select_key(w, 0x19);
	read_bytes(w, b, sizeof(b));
	assert_int_equal(b[3], 3);
	assert_string_equal((char *)b + 4 + 2 * 64 + 8, "vgaroms/vgabios.bin");
	select_key(w, 0x22);
	read_bytes(w, b, 3);
	assert_memory_equal(b, "\x55\xaa\1", 3);
	assert_int_equal(ftruncate(fd, 100), 0);
	assert_int_equal(vm_boot_option_rom(&len, &w->t.mem, fd, &err), LB_EINPUT);
	assert_int_equal(ftruncate(fd, VM_OPTION_ROM_BYTES + 1), 0);
	assert_int_equal(vm_boot_option_rom(&len, &w->t.mem, fd, &err), LB_EINPUT);
	assert_int_equal(pwrite(fd, "PK", 2, 0), 2);
	assert_int_equal(ftruncate(fd, 1024), 0);
	assert_int_equal(vm_boot_option_rom(&len, &w->t.mem, fd, &err), LB_EINPUT);
	(void)close(fd);
}

static void test_firmware_image(void **state)
{
	struct world *w = *state;
	int fd = memfd_create("bios", MFD_CLOEXEC);
	struct vm_entry entry = {.long_mode = true};
	struct lb_err err = {0};
	uint8_t b[8];

	assert_int_equal(ftruncate(fd, 128 << 10), 0);
	assert_int_equal(pwrite(fd, "\xea reset", 7, (128 << 10) - 16), 7);
	assert_int_equal(vm_boot_bios(&entry, &w->t.mem, fd, &err), 0);
	assert_false(entry.long_mode);
	assert_true(vm_mem_read(&w->t.mem, b, (struct vm_gpa){0xffff0}, 7));
	assert_memory_equal(b, "\xea reset", 7);
	assert_memory_equal(vm_mem_firmware(&w->t.mem) + VM_FIRMWARE_BYTES - 16, "\xea reset", 7);
	/* a reset finds the firmware as it was, whatever the guest did to its copy */
	assert_true(vm_mem_write(&w->t.mem, (struct vm_gpa){0xffff0}, "garbage", 7));
	vm_boot_bios_again(&entry, &w->t.mem);
	assert_true(vm_mem_read(&w->t.mem, b, (struct vm_gpa){0xffff0}, 7));
	assert_memory_equal(b, "\xea reset", 7);
	assert_int_equal(ftruncate(fd, 100000), 0);
	assert_int_equal(vm_boot_bios(&entry, &w->t.mem, fd, &err), LB_EINPUT);
	assert_int_equal(ftruncate(fd, 0), 0);
	assert_int_equal(vm_boot_bios(&entry, &w->t.mem, fd, &err), LB_EINPUT);
	assert_int_equal(ftruncate(fd, 512 << 10), 0);
	assert_int_equal(vm_boot_bios(&entry, &w->t.mem, fd, &err), LB_EINPUT);
	(void)close(fd);
}

static void test_state_comes_back(void **state)
{
	struct world *w = *state;
	struct world *v = NULL;
	uint8_t bytes[1024];
	struct lb_wr wr = lb_wr_init(bytes, sizeof(bytes));
	struct lb_err err = {0};
	struct lb_rd rd;

	out(w, 0x60, 0xff);
	select_key(w, 0x20);
	(void)in(w, 0x511);
	assert_true(vm_mem_write(&w->t.mem, (struct vm_gpa){0x3000}, "abcdefgh", 8));
	assert_int_equal(dma(w, 0x21u << 16 | 8 | 16, 8, 0x3000), 0);
	select_key(w, 0x20);
	(void)in(w, 0x511);
	out(w, 0x92, 0);
	vm_fwcfg_set_option_rom(w->f, 512);
	assert_true(vm_board_save(&w->t.board, &wr));
	(void)setup((void **)&v);
	rd = lb_rd_init(bytes, wr.len);
	assert_int_equal(vm_board_load(&v->t.board, &rd, &err), 0);
	vm_board_resume(&v->t.board);
	assert_int_equal(next(v), 0xfa);
	assert_int_equal(next(v), 0xaa);
	assert_int_equal(in(v, 0x511), 'B');
	assert_int_equal(in(v, 0x92), 0);
	assert_int_equal(v->writes, 1);
	assert_memory_equal(v->written, "abcdefgh", 8);
	select_key(v, 0x19);
	(void)in(v, 0x511);
	(void)in(v, 0x511);
	(void)in(v, 0x511);
	assert_int_equal(in(v, 0x511), 3);
	/* every cut of the bytes is refused, and every flipped byte leaves the board usable */
	for (size_t n = 0; n < wr.len; n++) {
		rd = lb_rd_init(bytes, n);
		assert_int_not_equal(vm_board_load(&v->t.board, &rd, &err), 0);
	}
	for (size_t n = 0; n < wr.len; n++) {
		bytes[n] ^= 0xff;
		rd = lb_rd_init(bytes, wr.len);
		(void)vm_board_load(&v->t.board, &rd, &err);
		bytes[n] ^= 0xff;
		for (unsigned i = 0; i < 40; i++) {
			(void)in(v, 0x60);
			(void)in(v, 0x511);
		}
	}
	(void)teardown((void **)&v);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_keyboard_answers_firmware, setup, teardown),
		cmocka_unit_test_setup_teardown(test_linux_finds_no_mouse, setup, teardown),
		cmocka_unit_test_setup_teardown(test_keyboard_interrupts, setup, teardown),
		cmocka_unit_test_setup_teardown(test_resets, setup, teardown),
		cmocka_unit_test_setup_teardown(test_debug_port, setup, teardown),
		cmocka_unit_test_setup_teardown(test_fwcfg_ports, setup, teardown),
		cmocka_unit_test_setup_teardown(test_fwcfg_dma, setup, teardown),
		cmocka_unit_test_setup_teardown(test_fwcfg_guest_writes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_option_rom, setup, teardown),
		cmocka_unit_test_setup_teardown(test_firmware_image, setup, teardown),
		cmocka_unit_test_setup_teardown(test_state_comes_back, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
