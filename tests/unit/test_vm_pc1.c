/* The whole of pc1 on a board without KVM: what firmware finds, and that its state is one. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/err.h"
#include "boot.h"
#include "check.h"
#include "imaging/dev.h"
#include "pc1.h"
#include "pci.h"
#include "test_board.h"
#include "vmcore/net.h"

#define STATE_BYTES (1u << 20)

/* ---- the n-th allocation, or start of a thread, fails (tests/vmcore-plat.cmake) ---- */

static unsigned calls_left; /* 0: all succeed; 1: the next one fails */

static bool refuse(void)
{
	return calls_left > 0 && --calls_left == 0;
}

void *__real_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);
int __real_pthread_create(pthread_t *t, const pthread_attr_t *a, void *(*f)(void *), void *arg);
int __wrap_pthread_create(pthread_t *t, const pthread_attr_t *a, void *(*f)(void *), void *arg);

void *__wrap_calloc(size_t n, size_t size)
{
	return refuse() ? NULL : __real_calloc(n, size);
}

void *__wrap_malloc(size_t size)
{
	return refuse() ? NULL : __real_malloc(size);
}

int __wrap_pthread_create(pthread_t *t, const pthread_attr_t *a, void *(*f)(void *), void *arg)
{
	return refuse() ? EAGAIN : __real_pthread_create(t, a, f, arg);
}

struct world {
	struct test_board t;
	struct img_dev *disk[3];
	struct vm_net *net;
	struct vm_disk_cfg disks[3];
	struct vm_nic_cfg nic;
	struct vm_cfg cfg;
	struct vm_pc1 pc;
	uint8_t *state;
};

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));
	struct lb_err err = {0};

	test_board_init(&w->t, 16 << 20);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(img_mem_create(&w->disk[i], 1 << 20, &err), 0);
		w->disks[i] = (struct vm_disk_cfg){
			.dev = w->disk[i],
			.bus = i == 1 ? VM_DISK_VIRTIO : VM_DISK_IDE,
		};
	}
	assert_int_equal(vm_net_null(&w->net, &err), 0);
	w->nic = (struct vm_nic_cfg){.mac = {2, 0, 0, 0, 0, 1}, .net = w->net};
	w->cfg = (struct vm_cfg)VM_CFG_DEFAULTS;
	w->cfg.name = "pc1";
	w->cfg.ram_bytes = 16 << 20;
	w->cfg.disks = w->disks;
	w->cfg.disk_count = 3;
	w->cfg.nics = &w->nic;
	w->cfg.nic_count = 1;
	w->state = calloc(2, STATE_BYTES);
	if (vm_pc1_build(&w->t.board, &w->cfg, &w->pc, &err) != 0)
		fail_msg("%s", err.msg);
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;

	test_board_fini(&w->t);
	vm_net_destroy(w->net);
	for (unsigned i = 0; i < 3; i++)
		img_dev_destroy(w->disk[i]);
	free(w->state);
	free(w);
	return 0;
}

static uint32_t cfg_read(struct world *w, unsigned slot, unsigned fn, unsigned off)
{
	vm_board_pio_write(&w->t.board, 0xcf8, 4, 0x80000000u | slot << 11 | fn << 8 | off);
	return (uint32_t)vm_board_pio_read(&w->t.board, 0xcfc, 4);
}

/* Frozen: a checkpoint of pc1 is read by every later version. */
static void test_devices_in_their_order(void **state)
{
	static const char *const names[] = {
		"pci-host",   "piix3-isa",  "fwcfg",      "rtc",           "uart", "i8042",
		"sysport",    "dbgport",    "pm",         "vmgenid",       "vga",  "piix3-ide",
		"virtio-blk", "virtio-net", "virtio-rng", "virtio-console"};
	struct world *w = *state;
	size_t n = 0;

	for (const struct vm_dev *d = w->t.board.devs; d != NULL; d = d->next, n++) {
		assert_true(n < sizeof(names) / sizeof(names[0]));
		assert_string_equal(d->ops->name, names[n]);
	}
	assert_int_equal(n, sizeof(names) / sizeof(names[0]));
}

static void test_slots(void **state)
{
	struct world *w = *state;

	assert_int_equal(cfg_read(w, 0, 0, 0), 0x12378086);
	assert_int_equal(cfg_read(w, 1, 0, 0), 0x70008086);
	assert_int_equal(cfg_read(w, 1, 0, 0x0c) >> 16 & 0xff, 0x80);
	assert_int_equal(cfg_read(w, 1, 1, 0), 0x70108086);
	assert_int_equal(cfg_read(w, 1, 1, 8), 0x01018000);
	assert_int_equal(cfg_read(w, 1, 1, 0x40), 0x80008000u);
	assert_int_equal(cfg_read(w, 2, 0, 0), 0xffffffffu);
	assert_int_equal(cfg_read(w, 3, 0, 0), 0x10011af4); /* disk, card, entropy, console */
	assert_int_equal(cfg_read(w, 4, 0, 0), 0x10001af4);
	assert_int_equal(cfg_read(w, 5, 0, 0), 0x10051af4);
	assert_int_equal(cfg_read(w, 6, 0, 0), 0x10031af4);
	assert_int_equal(cfg_read(w, 7, 0, 0), 0xffffffffu);
	/* no SMM: with a PIIX4 there SeaBIOS would enter it */
	for (unsigned fn = 2; fn < 8; fn++)
		assert_int_equal(cfg_read(w, 1, fn, 0), 0xffffffffu);
}

/* The content of a fw_cfg file, by its name. */
static size_t file(struct world *w, const char *name, uint8_t *out, size_t cap)
{
	uint8_t e[64];
	uint32_t count = 0, len;

	vm_board_pio_write(&w->t.board, 0x510, 2, 0x19);
	for (unsigned i = 0; i < 4; i++)
		count = count << 8 | (uint32_t)vm_board_pio_read(&w->t.board, 0x511, 1);
	for (uint32_t n = 0; n < count; n++) {
		for (unsigned i = 0; i < 64; i++)
			e[i] = (uint8_t)vm_board_pio_read(&w->t.board, 0x511, 1);
		if (strcmp((char *)e + 8, name) != 0)
			continue;
		len = (uint32_t)e[1] << 16 | (uint32_t)e[2] << 8 | e[3];
		vm_board_pio_write(&w->t.board, 0x510, 2, (uint64_t)e[4] << 8 | e[5]);
		assert_true(len <= cap);
		for (uint32_t i = 0; i < len; i++)
			out[i] = (uint8_t)vm_board_pio_read(&w->t.board, 0x511, 1);
		return len;
	}
	return 0;
}

static void test_firmware_is_told(void **state)
{
	struct world *w = *state;
	uint8_t *b = malloc(1 << 16);

	assert_true(file(w, "bootorder", b, 1 << 16) > 0);
	assert_string_equal((char *)b, "/pci@i0cf8/ide@1,1/drive@0/disk@0\n"
				       "/pci@i0cf8/scsi@3/disk@0,0\n"
				       "/pci@i0cf8/ide@1,1/drive@0/disk@1\n");
	assert_true(file(w, "etc/e820", b, 1 << 16) >= 60);
	assert_memory_equal(b, "\0\0\0\0\0\0\0\0\0\xf0\xff\0\0\0\0\0\1\0\0\0", 20);
	assert_int_equal(file(w, "etc/acpi/rsdp", b, 1 << 16), 36);
	assert_true(file(w, "etc/acpi/tables", b, 1 << 16) > 0);
	assert_true(file(w, "etc/table-loader", b, 1 << 16) > 0);
	assert_int_equal(file(w, "vgaroms/vgabios.bin", b, 1 << 16), 0);
	vm_board_pio_write(&w->t.board, 0x510, 2, 5);
	assert_int_equal(vm_board_pio_read(&w->t.board, 0x511, 1), 1);
	free(b);
}

/* Loading what was saved changes nothing: the same bytes are saved again. */
static void test_state_is_whole(void **state)
{
	struct world *w = *state;
	struct lb_wr a = lb_wr_init(w->state, STATE_BYTES);
	struct lb_wr b = lb_wr_init(w->state + STATE_BYTES, STATE_BYTES);
	struct world *v = NULL;
	struct lb_err err = {0};
	struct lb_rd rd;

	(void)vm_pc1_serial_input(&w->pc, "hello", 5);
	vm_board_pio_write(&w->t.board, 0xcf8, 4, 0x80001820u);
	vm_board_pio_write(&w->t.board, 0x1f3, 1, 0x77);
	vm_board_lock(&w->t.board);
	assert_true(vm_board_save(&w->t.board, &a));
	vm_board_unlock(&w->t.board);
	(void)setup((void **)&v);
	vm_board_lock(&v->t.board);
	rd = lb_rd_init(w->state, a.len);
	if (vm_board_load(&v->t.board, &rd, &err) != 0)
		fail_msg("%s", err.msg);
	assert_true(vm_board_save(&v->t.board, &b));
	vm_board_unlock(&v->t.board);
	assert_int_equal(a.len, b.len);
	print_message("state of the devices: %zu bytes\n", a.len);
	assert_true(vm_pc1_drain(&v->pc, 0));
	(void)teardown((void **)&v);
}

static void test_boots(void **state)
{
	struct world *w = *state;
	struct vm_entry entry = {.long_mode = true};
	struct lb_err err = {0};
	int fd = memfd_create("bios", MFD_CLOEXEC);

	/* a restored machine without firmware in its ROM cannot start anew */
	assert_int_equal(vm_pc1_boot(&w->pc, &w->cfg, &entry, &err), LB_EUNSUPPORTED);
	assert_int_equal(ftruncate(fd, 64 << 10), 0);
	assert_int_equal(pwrite(fd, "\xea", 1, (64 << 10) - 16), 1);
	w->cfg.bios_fd = fd;
	assert_int_equal(vm_pc1_boot(&w->pc, &w->cfg, &entry, &err), 0);
	assert_false(entry.long_mode);
	/* with it there, no file is needed any more */
	w->cfg.bios_fd = -1;
	assert_true(vm_mem_write(&w->t.mem, (struct vm_gpa){0xffff0}, "\0", 1));
	assert_int_equal(vm_pc1_boot(&w->pc, &w->cfg, &entry, &err), 0);
	assert_memory_equal(vm_mem_ptr(&w->t.mem, (struct vm_gpa){0xffff0}, 1), "\xea", 1);
	(void)close(fd);
}

static void test_refuses_five_ide_disks(void **state)
{
	struct world *w = *state;
	struct vm_disk_cfg disks[5];
	struct test_board t;
	struct vm_pc1 pc;
	struct lb_err err = {0};

	for (unsigned i = 0; i < 5; i++)
		disks[i] = (struct vm_disk_cfg){.dev = w->disk[0], .bus = VM_DISK_IDE};
	w->cfg.disks = disks;
	w->cfg.disk_count = 5;
	test_board_init(&t, 16 << 20);
	assert_int_equal(vm_pc1_build(&t.board, &w->cfg, &pc, &err), LB_EINPUT);
	assert_non_null(strstr(err.msg, "more than 4 IDE disks"));
	test_board_fini(&t);
}

static void test_every_allocation_may_fail(void **state)
{
	struct world *w = *state;
	struct test_board t;
	struct vm_pc1 pc;
	unsigned failures = 0;
	int rc;

	do {
		struct lb_err err = {0};

		test_board_init(&t, 16 << 20);
		calls_left = failures + 1;
		rc = vm_pc1_build(&t.board, &w->cfg, &pc, &err);
		calls_left = 0;
		if (rc != 0) {
			failures++;
			assert_true(rc == LB_ENOMEM || rc == LB_EIO);
			assert_true(err.msg[0] != '\0');
		}
		test_board_fini(&t);
	} while (rc != 0);
	assert_true(failures > 30);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_devices_in_their_order, setup, teardown),
		cmocka_unit_test_setup_teardown(test_slots, setup, teardown),
		cmocka_unit_test_setup_teardown(test_firmware_is_told, setup, teardown),
		cmocka_unit_test_setup_teardown(test_state_is_whole, setup, teardown),
		cmocka_unit_test_setup_teardown(test_boots, setup, teardown),
		cmocka_unit_test_setup_teardown(test_refuses_five_ide_disks, setup, teardown),
		cmocka_unit_test_setup_teardown(test_every_allocation_may_fail, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
