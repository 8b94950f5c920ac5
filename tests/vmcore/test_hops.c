/*
 * Debian's SeaBIOS and GRUB boot from a recovery point while every 200 ms, or oftener where that
 * makes too few, the machine is cut, its process ends, and a new process restores it: view, overlay
 * and all. argv: the view plugin, the script that makes GRUB's disk, "ide" or "virtio".
 *
 *   this process ── memfds: state, memory, output, overlay ──► child: restore, run, cut, exit ──►
 *   next child       nbdkit: the view
 */
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/env.h"
#include "base/err.h"
#include "check.h"
#include "grub_point.h"
#include "imaging/dev.h"
#include "kvm_guest.h"
#include "vmcore/cut.h"

#define BIOS     "/usr/share/seabios/bios-256k.bin"
#define LIMIT_NS UINT64_C(20000000000)

enum {
	RAM_BYTES = 16 << 20,
	HOP_MS = 200,
	HOPS_MIN = 50,
	HOPS_WANTED = 65, /* of a boot that was too quick for HOPS_MIN */
	STATE_MAX = 8 << 20,
	/* descriptors of a child */
	FD_STATE = 20, /* read at the start when there is one, written at the end */
	FD_RAM,        /* sealed; of the cut before */
	FD_RAM_OUT,    /* of this one */
	FD_OUTPUT,
	FD_UPPER, /* the overlay's blocks and its map */
	FD_MAP,
	FDS = FD_MAP - FD_STATE + 1,
	/* how a child ends */
	EXIT_DONE = 0,
	EXIT_HOP = 10
};

/* ---- the child ---- */

struct child {
	struct vm_cfg cfg;
	struct vm_disk_cfg disk;
	struct kvm_guest g;
	struct img_dev *view, *upper, *map;
	struct vm *vm;
	int done_fd;
};

static void on_event(void *arg, const struct vm_event *e)
{
	struct child *c = arg;
	const uint64_t one = 1;

	if (e->type == VM_EVENT_SERIAL)
		assert_int_equal(write(FD_OUTPUT, e->bytes, e->len), (ssize_t)e->len);
	/* the last byte of the last text, or the end of the machine */
	if ((e->type == VM_EVENT_SERIAL && e->bytes[e->len - 1] == '.') ||
	    e->type == VM_EVENT_FAULT || e->type == VM_EVENT_RESET)
		assert_int_equal(write(c->done_fd, &one, sizeof(one)), (ssize_t)sizeof(one));
}

static void must(int rc, const struct lb_err *err)
{
	if (rc == 0)
		return;
	(void)fprintf(stderr, "%s: %s\n", lb_err_name(rc), err->msg);
	_exit(1);
}

static bool output_has(const char *text)
{
	static char all[1 << 20];
	ssize_t n = pread(FD_OUTPUT, all, sizeof(all) - 1, 0);

	all[n > 0 ? n : 0] = '\0';
	return strstr(all, text) != NULL;
}

static void child_cut(struct child *c)
{
	struct lb_err err = {0};
	struct vm_cut cut;
	uint8_t *p;

	must(vm_cut_hold(c->vm, LIMIT_NS, &err), &err);
	must(vm_cut_take(c->vm, &cut, NULL, NULL, &err), &err);
	must(img_flush(c->disk.dev, &err), &err);
	p = mmap(NULL, cut.ram_bytes, PROT_READ, MAP_SHARED, cut.ram_fd, 0);
	if (p == MAP_FAILED || ftruncate(FD_STATE, 0) != 0 ||
	    pwrite(FD_STATE, cut.state->p, cut.state->len, 0) != (ssize_t)cut.state->len ||
	    pwrite(FD_RAM_OUT, p, cut.ram_bytes, 0) != (ssize_t)cut.ram_bytes)
		_exit(1);
	/* never resumed: this process is over */
}

static void open_disk(struct child *c, const char *bus, const char *uri)
{
	const struct lb_hash of = {{1}}; /* one point in all children */
	struct lb_err err = {0};

	must(img_nbd_create(&c->view, uri, 1, &err), &err);
	must(img_file_create_fd(&c->upper, FD_UPPER, "upper", true, &err), &err);
	must(img_file_create_fd(&c->map, FD_MAP, "map", true, &err), &err);
	must(img_kept_create(&c->disk.dev, c->view, c->upper, c->map, &of, &err), &err);
	c->disk.bus = strcmp(bus, "ide") == 0 ? VM_DISK_IDE : VM_DISK_VIRTIO;
	c->cfg.disks = &c->disk;
	c->cfg.disk_count = 1;
}

static void child_end(struct child *c)
{
	vm_destroy(c->vm);
	img_dev_destroy(c->disk.dev);
	img_dev_destroy(c->map);
	img_dev_destroy(c->upper);
	img_dev_destroy(c->view);
}

static int child_main(const char *bus, const char *uri, int hop_ms)
{
	static uint8_t state[STATE_MAX];
	struct child c = {.cfg = VM_CFG_DEFAULTS};
	struct vm_restore r = {.mode = VM_RESTORE_MAPPED, .ram_fd = FD_RAM, .state = state};
	ssize_t n = pread(FD_STATE, state, sizeof(state), 0);
	struct lb_err err = {0};
	struct pollfd done;

	(void)kvm_guest_main(60);
	c.done_fd = eventfd(0, EFD_CLOEXEC);
	c.cfg.ram_bytes = RAM_BYTES;
	c.cfg.reset_stops = true;
	c.cfg.on_event = on_event;
	c.cfg.arg = &c;
	open_disk(&c, bus, uri);
	if (n > 0) {
		r.state_bytes = (size_t)n;
		c.cfg.restore = &r;
	} else {
		c.cfg.bios_fd = open(BIOS, O_RDONLY | O_CLOEXEC);
	}
	must(vm_create(&c.vm, lb_env_real(), &c.cfg, &err), &err);
	must(vm_start(c.vm, &err), &err);
	done = (struct pollfd){.fd = c.done_fd, .events = POLLIN};
	if (poll(&done, 1, hop_ms) > 0 && vm_state(c.vm) != VM_RUNNING) {
		(void)fprintf(stderr, "the machine ended\n");
		return 1;
	}
	child_cut(&c);
	child_end(&c);
	return output_has(GRUB_LAST_TEXT) ? EXIT_DONE : EXIT_HOP;
}

/* ---- this process ---- */

static const char *self, *plugin, *grub_disk, *bus;

static int memfd(uint64_t bytes)
{
	int fd = memfd_create("hop", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)bytes), 0);
	return fd;
}

static int run_child(const char *uri, int hop_ms, const int from[FDS])
{
	char ms[16];
	pid_t pid = fork();
	int status = 0;

	assert_true(pid >= 0);
	(void)snprintf(ms, sizeof(ms), "%d", hop_ms);
	if (pid == 0) {
		for (int i = 0; i < FDS; i++)
			if (dup2(from[i], FD_STATE + i) < 0)
				_exit(1);
		(void)execl(self, self, "child", bus, uri, ms, (char *)NULL);
		_exit(1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static unsigned count_of(const char *all, const char *text)
{
	unsigned n = 0;

	for (const char *p = all; (p = strstr(p, text)) != NULL; p++)
		n++;
	return n;
}

/* One boot to its last text; how often it hopped. */
static int boot(const char *uri, int hop_ms)
{
	const uint64_t ram_bytes = vm_ram_volume_bytes(RAM_BYTES);
	static char all[1 << 20];
	/* as the child's: state, memory, memory of its cut, output, overlay */
	int fd[FDS] = {
		memfd(0), memfd(ram_bytes),       -1,
		memfd(0), memfd(GRUB_DISK_BYTES), memfd(img_kept_map_bytes(GRUB_DISK_BYTES))};
	int rc = EXIT_HOP, hops = 0;
	ssize_t n;

	assert_int_equal(fcntl(fd[FD_OUTPUT - FD_STATE], F_SETFL, O_APPEND), 0);
	while (rc == EXIT_HOP) {
		fd[2] = memfd(ram_bytes);
		rc = run_child(uri, hop_ms, fd);
		hops += rc == EXIT_HOP;
		assert_int_equal(fcntl(fd[2], F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK), 0);
		(void)close(fd[1]);
		fd[1] = fd[2];
	}
	assert_int_equal(rc, EXIT_DONE);
	n = pread(fd[FD_OUTPUT - FD_STATE], all, sizeof(all) - 1, 0);
	assert_true(n > 0);
	all[n] = '\0';
	assert_int_equal(count_of(all, GRUB_TEXT), 1);
	assert_int_equal(count_of(all, GRUB_LAST_TEXT), 1);
	(void)printf("%s: %d hops, one each %d ms\n", bus, hops, hop_ms);
	for (int i = 0; i < FDS; i++)
		if (i != 2)
			(void)close(fd[i]);
	return hops;
}

/* How long a boot takes depends on the host: a quick one hops oftener, in a boot of its own. */
static void test_grub_starts(void **state)
{
	struct view_point grub;
	int hops, hop_ms = HOP_MS;

	(void)state;
	grub_point_init(&grub, plugin, grub_disk, NULL);
	hops = boot(grub.server.uri, hop_ms);
	while (hops < HOPS_MIN && hop_ms > 1) {
		hop_ms = hop_ms * hops / HOPS_WANTED;
		hop_ms = hop_ms > 1 ? hop_ms : 1;
		hops = boot(grub.server.uri, hop_ms);
	}
	assert_true(hops >= HOPS_MIN);
	view_point_fini(&grub);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_grub_starts)};

	self = argv[0];
	if (argc == 5 && strcmp(argv[1], "child") == 0)
		return child_main(argv[2], argv[3], (int)strtol(argv[4], NULL, 10));
	if (argc != 4) {
		(void)fprintf(stderr, "usage: %s VIEW-PLUGIN GRUB-DISK-SCRIPT ide|virtio\n",
			      argv[0]);
		return 2;
	}
	plugin = argv[1];
	grub_disk = argv[2];
	bus = argv[3];
	(void)kvm_guest_main(280);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
