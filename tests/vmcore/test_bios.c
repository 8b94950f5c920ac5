/*
 * Debian's SeaBIOS and GRUB, unmodified, as guests of pc1: argv[1] is the view plugin, argv[2] the
 * script that makes GRUB's disk; with a third argument ("soak") GRUB also reads a file from ext4.
 * The disk is replicated into a store first and read from a recovery point, as in a drill: view,
 * overlay, machine.
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/env.h"
#include "base/err.h"
#include "check.h"
#include "grub_point.h"
#include "imaging/dev.h"
#include "kvm_guest.h"
#include "kvm_point.h"
#include "vmcore/cut.h"
#include "vmcore/vm.h"

#define WORDS    "read from a recovery point"
#define BIOS     "/usr/share/seabios/bios-256k.bin"
#define VGA_BIOS "/usr/share/seabios/vgabios-isavga.bin"
#define LIMIT_NS UINT64_C(20000000000)

static const char *plugin, *grub_disk, *words;

/* A store with a recovery point of the disk, served by nbdkit, under an overlay. */
struct world {
	struct img_dev tap; /* first: passes to .overlay and counts */
	struct view_point grub;
	struct img_dev *view, *upper, *overlay;
	struct vm_cfg cfg;
	struct vm_disk_cfg disk_cfg;
	struct kvm_guest g;
	struct vm *vm;
	/* when to hop: guarded by hop_lock */
	pthread_mutex_t hop_lock;
	pthread_cond_t hop_wanted;
	unsigned requests, wanted, hops;
	bool over;
};

static void must(int rc, const struct lb_err *err)
{
	if (rc != 0)
		fail_msg("%s: %s", lb_err_name(rc), err->msg);
}

/* ---- a disk that counts ---- */

#define REQUESTS_A_HOP 8u

static void count_request(struct world *w)
{
	(void)pthread_mutex_lock(&w->hop_lock);
	if (++w->requests % REQUESTS_A_HOP == 0)
		w->wanted++;
	(void)pthread_cond_signal(&w->hop_wanted);
	(void)pthread_mutex_unlock(&w->hop_lock);
}

static int tap_pread(struct img_dev *d, void *buf, uint64_t len, uint64_t off, struct lb_err *err)
{
	count_request((struct world *)d);
	return img_pread(((struct world *)d)->overlay, buf, len, off, err);
}

static int tap_pwrite(struct img_dev *d, const void *buf, uint64_t len, uint64_t off,
		      struct lb_err *err)
{
	count_request((struct world *)d);
	return img_pwrite(((struct world *)d)->overlay, buf, len, off, err);
}

static int tap_flush(struct img_dev *d, struct lb_err *err)
{
	return img_flush(((struct world *)d)->overlay, err);
}

static const struct img_dev_ops tap_ops = {
	.name = "tap",
	.pread = tap_pread,
	.pwrite = tap_pwrite,
	.flush = tap_flush,
};

static int open_file(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		fail_msg("%s is missing", path);
	return fd;
}

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));
	struct lb_err err = {0};

	grub_point_init(&w->grub, plugin, grub_disk, words);
	must(img_nbd_create(&w->view, w->grub.server.uri, 1, &err), &err);
	must(img_mem_create(&w->upper, GRUB_DISK_BYTES, &err), &err);
	must(img_overlay_create(&w->overlay, w->view, w->upper, &err), &err);
	w->tap = (struct img_dev){.ops = &tap_ops, .size_bytes = GRUB_DISK_BYTES};
	w->disk_cfg.dev = &w->tap;
	w->cfg = (struct vm_cfg)VM_CFG_DEFAULTS;
	w->cfg.ram_bytes = 16 << 20;
	w->cfg.bios_fd = open_file(BIOS);
	w->cfg.disks = &w->disk_cfg;
	w->cfg.disk_count = 1;
	w->cfg.reset_stops = true;
	kvm_guest_init(&w->g, &w->cfg);
	(void)pthread_mutex_init(&w->hop_lock, NULL);
	(void)pthread_cond_init(&w->hop_wanted, NULL);
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;

	vm_destroy(w->vm);
	kvm_guest_fini(&w->g);
	(void)pthread_cond_destroy(&w->hop_wanted);
	(void)pthread_mutex_destroy(&w->hop_lock);
	if (w->cfg.bios_fd >= 0)
		(void)close(w->cfg.bios_fd);
	if (w->cfg.vga_bios_fd >= 0)
		(void)close(w->cfg.vga_bios_fd);
	img_dev_destroy(w->overlay);
	img_dev_destroy(w->upper);
	img_dev_destroy(w->view);
	view_point_fini(&w->grub);
	free(w);
	return 0;
}

static void boot(struct world *w)
{
	struct lb_err err = {0};

	must(vm_create(&w->vm, lb_env_real(), &w->cfg, &err), &err);
	must(vm_start(w->vm, &err), &err);
	kvm_guest_wait_serial(&w->g, GRUB_LAST_TEXT);
	assert_non_null(strstr(w->g.serial, GRUB_TEXT));
	must(vm_pause(w->vm, LIMIT_NS, &err), &err);
}

/* A screenshot as text while the machine stands. */
static void assert_on_screen(struct world *w, const char *text)
{
	char *screen = malloc(1 << 16);
	struct lb_err err = {0};

	must(vm_screen_text(w->vm, screen, 1 << 16, &err), &err);
	if (strstr(screen, text) == NULL)
		fail_msg("not on the screen: %s\n%s", text, screen);
	free(screen);
}

/* ---- checkpoints all the way ---- */

/* A line of the firmware's log, or a group of disk requests, is a reason to move on to another
 * machine. */
static void on_event(void *arg, const struct vm_event *e)
{
	struct world *w = arg;

	(void)pthread_mutex_lock(&w->hop_lock);
	if (e->type == VM_EVENT_DEBUG && e->bytes[0] == '\n')
		w->wanted++;
	if (e->type == VM_EVENT_SERIAL && e->bytes[0] == '.') /* the end of GRUB_LAST_TEXT */
		w->over = true;
	w->over |= e->type == VM_EVENT_FAULT || e->type == VM_EVENT_RESET;
	(void)pthread_cond_signal(&w->hop_wanted);
	(void)pthread_mutex_unlock(&w->hop_lock);
}

/* The machine as it stands becomes a checkpoint and ends; another one goes on from it. */
static void hop(struct world *w)
{
	struct vm_restore r = {.mode = VM_RESTORE_MAPPED, .clock = VM_CLOCK_FROZEN};
	struct lb_err err = {0};
	struct lb_buf *state;
	struct vm_cut c;

	must(vm_cut_hold(w->vm, LIMIT_NS, &err), &err);
	must(vm_cut_take(w->vm, &c, NULL, NULL, &err), &err);
	state = lb_buf_ref(c.state);
	r.ram_fd = kvm_image_copy(c.ram_fd, c.ram_bytes);
	vm_cut_end(w->vm, true);
	vm_destroy(w->vm);
	w->vm = NULL;
	r.state = state->p;
	r.state_bytes = state->len;
	w->cfg.restore = &r;
	must(vm_create(&w->vm, lb_env_real(), &w->cfg, &err), &err);
	w->cfg.restore = NULL;
	lb_buf_unref(state);
	(void)close(r.ram_fd);
	must(vm_start(w->vm, &err), &err);
	w->hops++;
}

/* False: the guest came to its end. */
static bool wait_for_reason(struct world *w)
{
	bool over;

	(void)pthread_mutex_lock(&w->hop_lock);
	while (!w->over && w->hops >= w->wanted)
		(void)pthread_cond_wait(&w->hop_wanted, &w->hop_lock);
	over = w->over;
	w->wanted = w->hops + 1; /* those that came meanwhile are one */
	(void)pthread_mutex_unlock(&w->hop_lock);
	return !over;
}

static void drop_firmware(struct world *w)
{
	(void)close(w->cfg.bios_fd);
	(void)close(w->cfg.vga_bios_fd);
	w->cfg.bios_fd = w->cfg.vga_bios_fd = -1;
}

/* The reset button of a machine that came from a checkpoint: firmware and VGA BIOS come from its
 * ROM. */
static void reset(struct world *w)
{
	struct lb_err err = {0};

	(void)pthread_mutex_lock(&w->g.lock);
	w->g.debug_len = 0;
	w->g.debug[0] = '\0';
	(void)pthread_mutex_unlock(&w->g.lock);
	must(vm_resume(w->vm, &err), &err);
	must(vm_reset(w->vm, &err), &err);
	kvm_guest_wait_debug(&w->g, "SeaBIOS (version");
	kvm_guest_wait_debug(&w->g, "Running option rom at c000:0003");
}

/* In real mode, in 16 and 32 bits, in the middle of disk requests, the screen goes along. */
static void test_from_ide_over_many_machines(void **state)
{
	struct world *w = *state;
	struct lb_err err = {0};

	w->disk_cfg.bus = VM_DISK_IDE;
	w->cfg.vga_bios_fd = open_file(VGA_BIOS);
	w->g.tap = on_event;
	w->g.tap_arg = w;
	must(vm_create(&w->vm, lb_env_real(), &w->cfg, &err), &err);
	must(vm_start(w->vm, &err), &err);
	drop_firmware(w); /* a checkpoint needs none */
	while (wait_for_reason(w))
		hop(w);
	kvm_guest_wait_serial(&w->g, GRUB_LAST_TEXT);
	must(vm_pause(w->vm, LIMIT_NS, &err), &err);
	assert_on_screen(w, "Booting from Hard Disk");
	assert_on_screen(w, GRUB_TEXT);
	reset(w);
	print_message("%u machines\n", w->hops + 1);
	assert_true(w->hops > 20);
}

/* A file system that GRUB reads by itself, from a disk that was replicated. */
static void test_reads_a_file_from_ext4(void **state)
{
	struct world *w = *state;

	w->disk_cfg.bus = VM_DISK_IDE;
	w->cfg.vga_bios_fd = open_file(VGA_BIOS);
	boot(w);
	assert_non_null(strstr(w->g.serial, WORDS));
	assert_on_screen(w, WORDS);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_from_ide_over_many_machines, setup, teardown),
	};
	const struct CMUnitTest soak[] = {
		cmocka_unit_test_setup_teardown(test_reads_a_file_from_ext4, setup, teardown),
	};

	if (argc < 3) {
		(void)fprintf(stderr, "usage: %s VIEW-PLUGIN GRUB-DISK-SCRIPT [soak]\n", argv[0]);
		return 2;
	}
	plugin = argv[1];
	grub_disk = argv[2];
	words = argc > 3 ? WORDS : NULL;
	(void)kvm_guest_main(280);
	if (words != NULL)
		return cmocka_run_group_tests(soak, NULL, NULL);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
