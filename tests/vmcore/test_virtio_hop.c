/*
 * Debian's SeaBIOS and GRUB, unmodified, drive a virtio disk of pc1 (argv[1] is the script that
 * makes it) and go on in another machine in the middle of loading: from the memory of a cut, and
 * from the disk as that cut shows it.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/env.h"
#include "base/err.h"
#include "check.h"
#include "imaging/cut.h"
#include "imaging/dev.h"
#include "kvm_guest.h"
#include "kvm_point.h"
#include "vmcore/cut.h"
#include "vmcore/net.h"
#include "vmcore/vm.h"

#define TEXT     "lifeboat: here is GRUB"
#define BIOS     "/usr/share/seabios/bios-256k.bin"
#define LIMIT_NS UINT64_C(20000000000)

static const char *grub_disk;

struct fix {
	struct vm_cfg cfg;
	struct vm_disk_cfg disk;
	struct vm_nic_cfg nic;
	struct kvm_guest g;
	struct vm *vm;
	struct img_dev *image, *side, *cut;
	struct lb_buf *state;
	int ram_fd;
};

static void must(int rc, const struct lb_err *err)
{
	if (rc != 0)
		fail_msg("%s: %s", lb_err_name(rc), err->msg);
}

static void make_disk(const char *path)
{
	const char *const argv[] = {grub_disk, path, TEXT, NULL};
	pid_t pid = fork();
	int status = 0;

	assert_true(pid >= 0);
	if (pid == 0) {
		(void)execv(argv[0], (char *const *)(uintptr_t)argv);
		_exit(127);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

/* The disk of a protected machine: an image under a cut device. */
static void open_disk(struct fix *f)
{
	char path[] = "/tmp/lb_grub_XXXXXX";
	struct img_file_cfg file = {.path = path, .writable = true};
	struct img_cut_cfg cfg = {0};
	struct lb_err err = {0};
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	(void)close(fd);
	make_disk(path);
	must(img_file_create(&f->image, &file, &err), &err);
	(void)unlink(path);
	must(img_mem_create(&f->side, f->image->size_bytes, &err), &err);
	cfg.lower = f->image;
	cfg.side = f->side;
	must(img_cut_create(&f->cut, &cfg, &err), &err);
}

static int setup(void **state)
{
	struct fix *f = calloc(1, sizeof(*f));
	struct lb_err err = {0};

	open_disk(f);
	f->cfg = (struct vm_cfg)VM_CFG_DEFAULTS;
	f->cfg.ram_bytes = 16 << 20;
	f->cfg.bios_fd = open(BIOS, O_RDONLY | O_CLOEXEC);
	assert_true(f->cfg.bios_fd >= 0);
	f->cfg.reset_stops = true;
	f->disk = (struct vm_disk_cfg){.dev = f->cut, .bus = VM_DISK_VIRTIO, .serial = "grub"};
	f->cfg.disks = &f->disk;
	f->cfg.disk_count = 1;
	must(vm_net_null(&f->nic.net, &err), &err);
	f->nic.mac[0] = 2;
	f->cfg.nics = &f->nic;
	f->cfg.nic_count = 1;
	f->ram_fd = -1;
	kvm_guest_init(&f->g, &f->cfg);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fix *f = *state;

	vm_destroy(f->vm);
	vm_net_destroy(f->nic.net);
	kvm_guest_fini(&f->g);
	lb_buf_unref(f->state);
	if (f->ram_fd >= 0)
		(void)close(f->ram_fd);
	(void)close(f->cfg.bios_fd);
	img_dev_destroy(f->cut);
	img_dev_destroy(f->side);
	img_dev_destroy(f->image);
	free(f);
	return 0;
}

static int mark(void *arg, uint64_t seq, struct lb_err *err)
{
	(void)seq;
	return img_cut_mark(arg, err);
}

/* Machine and disk as of one instant, outside of any machine. */
static void take(struct fix *f)
{
	struct vm_cut c;
	struct lb_err err = {0};

	must(vm_cut_hold(f->vm, LIMIT_NS, &err), &err);
	must(vm_cut_take(f->vm, &c, mark, f->cut, &err), &err);
	f->state = lb_buf_ref(c.state);
	f->ram_fd = kvm_image_copy(c.ram_fd, c.ram_bytes);
	vm_cut_end(f->vm, true);
	vm_destroy(f->vm); /* never resumed */
	f->vm = NULL;
}

/* The machine goes on here, on the disk as the cut shows it, behind an overlay. */
static void go_on(struct fix *f, struct img_dev **overlay, struct img_dev **upper)
{
	struct vm_restore r = {
		.state = f->state->p,
		.state_bytes = f->state->len,
		.mode = VM_RESTORE_MAPPED,
		.ram_fd = f->ram_fd,
	};
	struct vm_cfg cfg = f->cfg;
	struct img_dev *view;
	struct lb_err err = {0};

	must(img_cut_view(f->cut, &view, &err), &err);
	must(img_mem_create(upper, view->size_bytes, &err), &err);
	must(img_overlay_create(overlay, view, *upper, &err), &err);
	f->disk.dev = *overlay;
	cfg.bios_fd = -1;
	cfg.restore = &r;
	must(vm_create(&f->vm, lb_env_real(), &cfg, &err), &err);
	must(vm_start(f->vm, &err), &err);
}

static void boot(struct fix *f)
{
	struct lb_err err = {0};

	must(vm_create(&f->vm, lb_env_real(), &f->cfg, &err), &err);
	must(vm_start(f->vm, &err), &err);
}

static void test_hop(void **state)
{
	struct fix *f = *state;
	struct img_dev *overlay = NULL, *upper = NULL;

	boot(f);
	kvm_guest_wait_debug(&f->g, "Booting from");
	take(f);
	go_on(f, &overlay, &upper);
	kvm_guest_wait_serial(&f->g, "That is all.");
	vm_destroy(f->vm);
	f->vm = NULL;
	img_dev_destroy(overlay);
	img_dev_destroy(upper);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_hop, setup, teardown),
	};

	(void)kvm_guest_main(180);
	if (argc != 2)
		return 2;
	grub_disk = argv[1];
	return cmocka_run_group_tests(tests, NULL, NULL);
}
