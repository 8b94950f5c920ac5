/*
 * Debian's SeaBIOS and GRUB, unmodified, as guests of pc1: argv[1] is the view plugin, argv[2] the
 * script that makes GRUB's disk. The disk is replicated into a store first and read from a recovery
 * point, as in a drill: view, overlay, machine.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/env.h"
#include "base/err.h"
#include "base/fs.h"
#include "check.h"
#include "imaging/dev.h"
#include "kvm_guest.h"
#include "nbdkit_run.h"
#include "replicator/view.h"
#include "store_fix.h"
#include "vmcore/vm.h"

#define TEXT        "lifeboat: here is GRUB"
#define BIOS        "/usr/share/seabios/bios-256k.bin"
#define VGA_BIOS    "/usr/share/seabios/vgabios-isavga.bin"
#define DISK_BLOCKS 128u
#define DISK_BYTES  ((uint64_t)DISK_BLOCKS * REP_BLOCK_BYTES)
#define LIMIT_NS    UINT64_C(20000000000)

static const char *plugin, *grub_disk;

/* A store with a recovery point of the disk, served by nbdkit, under an overlay. */
struct world {
	char dir[64], map[96], store[96], keyfile[96];
	struct fix_env env;
	struct sf_group group;
	struct sf_point point;
	struct nbdkit_run server;
	struct img_dev *view, *upper, *disk;
	struct vm_cfg cfg;
	struct vm_disk_cfg disk_cfg;
	struct kvm_guest g;
	struct vm *vm;
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
	const char *const argv[] = {grub_disk, path, TEXT, NULL};
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
	must(img_overlay_create(&w->disk, w->view, w->upper, &err), &err);
	w->disk_cfg.dev = w->disk;
	w->cfg = (struct vm_cfg)VM_CFG_DEFAULTS;
	w->cfg.ram_bytes = 16 << 20;
	w->cfg.bios_fd = open_file(BIOS);
	w->cfg.disks = &w->disk_cfg;
	w->cfg.disk_count = 1;
	w->cfg.reset_stops = true;
	kvm_guest_init(&w->g, &w->cfg);
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
	(void)close(w->cfg.bios_fd);
	if (w->cfg.vga_bios_fd >= 0)
		(void)close(w->cfg.vga_bios_fd);
	img_dev_destroy(w->disk);
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

static void test_from_ide_with_a_screen(void **state)
{
	struct world *w = *state;

	w->disk_cfg.bus = VM_DISK_IDE;
	w->cfg.vga_bios_fd = open_file(VGA_BIOS);
	boot(w);
	assert_non_null(strstr(w->g.debug, "SeaBIOS (version"));
	assert_on_screen(w, "SeaBIOS (version");
	assert_on_screen(w, "Booting from Hard Disk");
	assert_on_screen(w, TEXT);
}

static void test_from_virtio(void **state)
{
	struct world *w = *state;

	w->disk_cfg.bus = VM_DISK_VIRTIO;
	boot(w);
	assert_non_null(strstr(w->g.debug, "Booting from Hard Disk"));
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_from_ide_with_a_screen, setup, teardown),
		cmocka_unit_test_setup_teardown(test_from_virtio, setup, teardown),
	};

	if (argc != 3) {
		(void)fprintf(stderr, "usage: %s VIEW-PLUGIN GRUB-DISK-SCRIPT\n", argv[0]);
		return 2;
	}
	plugin = argv[1];
	grub_disk = argv[2];
	(void)kvm_guest_main(280);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
