/*
 * A stock Debian kernel drives pc1's IDE controller with its own driver, by bus-master DMA: writes
 * a pattern all over a disk and reads it back (tests/guests/ide.c); then the pattern is checked
 * from outside. argv: GUESTS native|emulated; each is skipped where the other belongs.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/env.h"
#include "base/err.h"
#include "check.h"
#include "emulated_cmdline.h"
#include "imaging/dev.h"
#include "kvm_guest.h"
#include "vmcore/vm.h"

#define DISK_BYTES (UINT64_C(4) << 20)
#define BLOCK      4096u

enum {
	TICK_STRETCH = 40,
	LIMIT_S = 1800
};

static const char *guests;
static bool emulated;

static int open_guest(const char *name)
{
	char path[512];
	int fd;

	(void)snprintf(path, sizeof(path), "%s/%s", guests, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		fail_msg("%s is not there", path);
	return fd;
}

static void echo(void *arg, const struct vm_event *e)
{
	(void)arg;
	if (e->type == VM_EVENT_SERIAL)
		(void)fwrite(e->bytes, 1, e->len, stderr);
}

static void assert_pattern(struct img_dev *disk)
{
	uint64_t block[BLOCK / 8];
	struct lb_err err = {0};

	for (uint64_t b = 0; b < DISK_BYTES / BLOCK; b++) {
		assert_int_equal(img_pread(disk, block, BLOCK, b * BLOCK, &err), 0);
		for (uint64_t i = 0; i < BLOCK / 8; i++)
			assert_int_equal(block[i], b * 1000003 + i);
	}
}

static void test_dma(void **state)
{
	static struct kvm_guest g;
	struct vm_disk_cfg disk = {.bus = VM_DISK_IDE, .serial = "ide-1"};
	struct vm_cfg cfg = VM_CFG_DEFAULTS;
	struct lb_err err = {0};
	struct vm *vm = NULL;

	(void)state;
	assert_int_equal(img_mem_create(&disk.dev, DISK_BYTES, &err), 0);
	cfg.name = "ide";
	cfg.ram_bytes = UINT64_C(128) << 20;
	cfg.disks = &disk;
	cfg.disk_count = 1;
	cfg.kernel_fd = open_guest("vmlinuz");
	cfg.initrd_fd = open_guest("ide.cpio");
	cfg.cmdline = emulated ? EMULATED_8259 EMULATED_CMDLINE : "console=ttyS0 panic=-1";
	cfg.complement = emulated;
	cfg.tick_stretch = emulated ? TICK_STRETCH : 0;
	cfg.reset_stops = true;
	kvm_guest_init(&g, &cfg);
	g.tap = echo;
	if (vm_create(&vm, lb_env_real(), &cfg, &err) != 0 || vm_start(vm, &err) != 0)
		fail_msg("%s", err.msg);
	kvm_guest_wait_event(&g, VM_EVENT_POWEROFF, 1);
	assert_non_null(strstr(g.serial, "LBI MODE XFER_MW_DMA_2"));
	assert_non_null(strstr(g.serial, "LBI OK 1024"));
	vm_destroy(vm);
	kvm_guest_fini(&g);
	assert_pattern(disk.dev);
	img_dev_destroy(disk.dev);
	(void)close(cfg.kernel_fd);
	(void)close(cfg.initrd_fd);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_dma)};
	const struct vm_host *host;

	if (argc != 3) {
		(void)fprintf(stderr, "usage: %s GUESTS native|emulated\n", argv[0]);
		return 2;
	}
	guests = argv[1];
	emulated = strcmp(argv[2], "emulated") == 0;
	host = kvm_guest_main(LIMIT_S);
	if ((host->kind == VM_KVM_EMULATING) != emulated) {
		(void)printf("skipped: this KVM is %s (%s)\n", vm_kvm_kind_name(host->kind),
			     host->detail);
		return 77;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
