/*
 * Debian's SeaBIOS and GRUB, unmodified, as guests of pc1: argv[1] is the view plugin, argv[2] the
 * script that makes GRUB's disk; with a third argument ("soak") GRUB also reads a file from ext4.
 * The disk is replicated into a store first and read from a recovery point, as in a drill: view,
 * overlay, machine.
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/env.h"
#include "base/err.h"
#include "base/fs.h"
#include "check.h"
#include "imaging/dev.h"
#include "kvm_guest.h"
#include "nbdkit_run.h"
#include "replicator/view.h"
#include "store_fix.h"
#include "vmcore/cut.h"
#include "vmcore/vm.h"

#define TEXT        "lifeboat: here is GRUB"
#define WORDS       "read from a recovery point"
#define BIOS        "/usr/share/seabios/bios-256k.bin"
#define VGA_BIOS    "/usr/share/seabios/vgabios-isavga.bin"
#define DISK_BLOCKS 128u
#define DISK_BYTES  ((uint64_t)DISK_BLOCKS * REP_BLOCK_BYTES)
#define LIMIT_NS    UINT64_C(20000000000)

static const char *plugin, *grub_disk, *words;

/* A store with a recovery point of the disk, served by nbdkit, under an overlay. */
struct world {
	struct img_dev tap; /* first: passes to .overlay and counts */
	char dir[64], map[96], store[96], keyfile[96];
	struct fix_env env;
	struct sf_group group;
	struct sf_point point;
	struct nbdkit_run server;
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

static void write_keys(const struct world *w)
{
	char path[96], id[LB_ID_TEXT];
	struct lb_id key_id;
	FILE *f;

	(void)snprintf(path, sizeof(path), "%s/keys", w->dir);
	f = fopen(path, "w");
	assert_non_null(f);
	assert_int_equal(fchmod(fileno(f), 0600), 0);
	lb_key_id(&key_id, &w->group.dek);
	(void)fprintf(f, "%s ", lb_id_text(&key_id, id));
	for (unsigned i = 0; i < LB_KEY_BYTES; i++)
		(void)fprintf(f, "%02x", w->group.dek.b[i]);
	(void)fprintf(f, "\n");
	(void)fclose(f);
}

static void run(const char *const *argv)
{
	pid_t pid = fork();
	int status = 0;

	assert_true(pid >= 0);
	if (pid == 0) {
		(void)execvp(argv[0], (char *const *)(uintptr_t)argv);
		_exit(127);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

/* GRUB's disk is the content of the group's volume. */
static void make_disk(struct world *w)
{
	char path[96];
	const char *const argv[] = {grub_disk, path, TEXT, words, NULL};
	struct img_file_cfg cfg = {.path = path};
	struct img_dev *d = NULL;
	struct lb_err err = {0};

	(void)snprintf(path, sizeof(path), "%s/grub.raw", w->dir);
	run(argv);
	must(img_file_create(&d, &cfg, &err), &err);
	assert_int_equal(d->size_bytes, DISK_BYTES);
	must(img_pread(d, w->group.vol[0].image, DISK_BYTES, 0, &err), &err);
	for (unsigned i = 0; i < DISK_BLOCKS; i++)
		w->group.vol[0].dirty[i] = true;
	img_dev_destroy(d);
	(void)unlink(path);
}

static void send_point(struct world *w, struct rep_store *s)
{
	struct lb_err err = {0};

	sf_point_free(&w->point);
	sf_point_cut(&w->group, &w->point);
	must(sf_point_send(s, &w->point, &err), &err);
	must(rep_store_commit(s, &err), &err);
	sf_point_accepted(&w->group, &w->point);
}

/* Two points: the second one changes a block behind GRUB, so that the view has two layers. */
static void replicate(struct world *w)
{
	struct rep_store_cfg cfg = REP_STORE_CFG_DEFAULTS;
	struct rep_store *s = NULL;
	struct lb_fs *fs = NULL;
	struct lb_err err = {0};

	must(lb_fs_dir_create(&fs, w->dir, &err), &err);
	must(rep_store_open(&s, &w->env.env, fs, &cfg, &err), &err);
	make_disk(w);
	send_point(w, s);
	w->group.vol[0].image[DISK_BYTES - 1] = 0x55;
	w->group.vol[0].dirty[DISK_BLOCKS - 1] = true;
	send_point(w, s);
	must(rep_view_prepare(s, &w->point.hash, &w->group.vol[0].volume, fs, "map", &err), &err);
	rep_store_close(s);
	lb_fs_destroy(fs);
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
	const char *const args[] = {plugin, w->map, w->store, w->keyfile, NULL};
	struct lb_err err = {0};

	(void)snprintf(w->dir, sizeof(w->dir), "/tmp/lb_bios_XXXXXX");
	assert_non_null(mkdtemp(w->dir));
	(void)snprintf(w->map, sizeof(w->map), "map=%s/map", w->dir);
	(void)snprintf(w->store, sizeof(w->store), "store=%s", w->dir);
	(void)snprintf(w->keyfile, sizeof(w->keyfile), "keyfile=%s/keys", w->dir);
	w->env = fix_env(5);
	sf_group_init(&w->group, 0, 1, DISK_BLOCKS, 7);
	replicate(w);
	write_keys(w);
	assert_int_equal(nbdkit_start(&w->server, args), 0);
	must(img_nbd_create(&w->view, w->server.uri, 1, &err), &err);
	must(img_mem_create(&w->upper, DISK_BYTES, &err), &err);
	must(img_overlay_create(&w->overlay, w->view, w->upper, &err), &err);
	w->tap = (struct img_dev){.ops = &tap_ops, .size_bytes = DISK_BYTES};
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
	static const char *const names[] = {"seg/0000000000000001.seg", "store.id", "lock", "map",
					    "keys"};
	struct world *w = *state;
	char path[128];

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
	nbdkit_stop(&w->server);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		(void)snprintf(path, sizeof(path), "%s/%s", w->dir, names[i]);
		(void)unlink(path);
	}
	(void)snprintf(path, sizeof(path), "%s/seg", w->dir);
	assert_int_equal(rmdir(path), 0);
	assert_int_equal(rmdir(w->dir), 0);
	sf_point_free(&w->point);
	sf_group_fini(&w->group);
	free(w);
	return 0;
}

static void boot(struct world *w)
{
	struct lb_err err = {0};

	must(vm_create(&w->vm, lb_env_real(), &w->cfg, &err), &err);
	must(vm_start(w->vm, &err), &err);
	kvm_guest_wait_serial(&w->g, "That is all.");
	assert_non_null(strstr(w->g.serial, TEXT));
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
	if (e->type == VM_EVENT_SERIAL && e->bytes[0] == '.') /* "That is all." */
		w->over = true;
	w->over |= e->type == VM_EVENT_FAULT || e->type == VM_EVENT_RESET;
	(void)pthread_cond_signal(&w->hop_wanted);
	(void)pthread_mutex_unlock(&w->hop_lock);
}

static int sealed_copy(int from, uint64_t bytes)
{
	int fd = memfd_create("point", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	uint8_t *p;

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)bytes), 0);
	p = mmap(NULL, bytes, PROT_READ, MAP_SHARED, from, 0);
	assert_true(p != MAP_FAILED);
	assert_int_equal(pwrite(fd, p, bytes, 0), (ssize_t)bytes);
	(void)munmap(p, bytes);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW), 0);
	return fd;
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
	r.ram_fd = sealed_copy(c.ram_fd, c.ram_bytes);
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
	kvm_guest_wait_serial(&w->g, "That is all.");
	must(vm_pause(w->vm, LIMIT_NS, &err), &err);
	assert_on_screen(w, "Booting from Hard Disk");
	assert_on_screen(w, TEXT);
	reset(w);
	print_message("%u machines\n", w->hops + 1);
	assert_true(w->hops > 20);
}

static void test_from_virtio(void **state)
{
	struct world *w = *state;

	w->disk_cfg.bus = VM_DISK_VIRTIO;
	boot(w);
	assert_non_null(strstr(w->g.debug, "Booting from Hard Disk"));
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
		cmocka_unit_test_setup_teardown(test_from_virtio, setup, teardown),
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
