/*
 * A stock Debian kernel on the embedded machine, over a checkpoint.
 *
 *   parent     store with one recovery point of an ext4 disk ─► nbdkit and the view plugin
 *   "first"    boots the kernel: overlay above the view as its virtio disk; the writer walks the
 *              chain in it and appends; in the middle of that a cut, and SIGKILL before it ends
 *   "second"   a new process builds the machine again from the cut's bytes; the writer goes on,
 *              unmounts, the power button is pressed, and the kernel switches the machine off
 *   parent     what both processes saw on the serial port is one unbroken chain, and the disk's
 *              chain, read here, is as long
 *
 * linux.sh runs it. argv: GUESTS PLUGIN emulated|native; phases add DIR URI. "emulated" is for a
 * KVM that runs the guest's kernel in an emulator and has the test-only complement; "native" for
 * VMX and SVM. Each is skipped where the other belongs.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/env.h"
#include "base/err.h"
#include "check.h"
#include "emulated_cmdline.h"
#include "imaging/dev.h"
#include "kvm_guest.h"
#include "view_point.h"
#include "vmcore/cut.h"
#include "vmcore/vm.h"

#define DISK_BYTES   (UINT64_C(16) << 20)
#define RAM_BYTES    (UINT64_C(128) << 20)
#define STATE_MAX    (UINT64_C(1) << 20)
#define CUT_LIMIT_NS UINT64_C(30000000000)

enum {
	RECORDS_THERE = 40, /* build-guests.sh */
	RECORDS_MORE = 12,
	RECORDS_BEFORE_CUT = 4,
	TICK_STRETCH = 40,
	LIMIT_S = 1100
};

#define NATIVE_CMDLINE "console=ttyS0 panic=-1 "

static const struct vm_host *host;
static const char *guests, *plugin, *mode;

static void must(int rc, const struct lb_err *err)
{
	if (rc != 0)
		fail_msg("%s: %s", lb_err_name(rc), err->msg);
}

static bool emulated(void)
{
	return strcmp(mode, "emulated") == 0;
}

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

static char *path_in(const char *dir, const char *name)
{
	char *p = NULL;

	assert_true(asprintf(&p, "%s/%s", dir, name) > 0);
	return p;
}

static void write_file(const char *dir, const char *name, const void *p, size_t len)
{
	char *path = path_in(dir, name);
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, p, len), len);
	assert_int_equal(close(fd), 0);
	free(path);
}

/* NUL-terminated; the caller's. */
static char *read_file(const char *dir, const char *name, size_t *len)
{
	char *path = path_in(dir, name), *p = calloc(1, STATE_MAX + 1);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	assert_non_null(p);
	assert_true(fd >= 0);
	n = read(fd, p, STATE_MAX);
	assert_true(n >= 0 && (size_t)n < STATE_MAX);
	*len = (size_t)n;
	(void)close(fd);
	free(path);
	return p;
}

/* ---- what a phase shows ---- */

/* Seconds since the first call. */
static double elapsed(void)
{
	static uint64_t begin;
	struct lb_env *env = lb_env_real();
	uint64_t now = env->now_ns(env);

	if (begin == 0)
		begin = now;
	return (double)(now - begin) / 1e9;
}

static void show(const char *what)
{
	(void)fprintf(stderr, "\n%7.1f [%s]\n", elapsed(), what);
}

/* What a phase sees of its guest, on the vCPU's thread. */
struct watch {
	char line[256];
	size_t len;
	_Atomic bool may_end; /* the guest may switch itself off now */
};

/* Nobody waits for the watchdog when the guest has given up. */
static _Noreturn void given_up(const char *why)
{
	(void)fprintf(stderr, "\n%7.1f [the guest gave up: %s]\n", elapsed(), why);
	_exit(1);
}

static void watch_line(struct watch *w)
{
	w->line[w->len] = '\0';
	(void)fprintf(stderr, "%7.1f %s\n", elapsed(), w->line);
	if (strstr(w->line, "LBV BAD") != NULL || strstr(w->line, "Kernel panic") != NULL)
		given_up(w->line);
	w->len = 0;
}

/* The serial port for whoever reads the log, each line with its time. */
static void watch(void *arg, const struct vm_event *e)
{
	struct watch *w = arg;

	if ((e->type == VM_EVENT_POWEROFF || e->type == VM_EVENT_RESET) && !w->may_end)
		given_up("it is off");
	for (uint32_t i = 0; e->type == VM_EVENT_SERIAL && i < e->len; i++) {
		if (e->bytes[i] == '\n' || w->len == sizeof(w->line) - 1)
			watch_line(w);
		if (e->bytes[i] != '\n' && e->bytes[i] != '\r')
			w->line[w->len++] = (char)e->bytes[i];
	}
}

/* ---- the machine of both phases ---- */

struct machine {
	struct img_dev *view, *upper, *map, *disk;
	struct vm_disk_cfg disk_cfg;
	struct vm_cfg cfg;
	struct kvm_guest *g;
	struct watch watch;
	struct vm *vm;
};

static struct img_dev *open_file(const char *dir, const char *name, uint64_t size)
{
	char *path = path_in(dir, name);
	struct img_file_cfg cfg = {
		.path = path,
		.writable = true,
		.create = access(path, F_OK) != 0,
		.size_bytes = size,
	};
	struct img_dev *d = NULL;
	struct lb_err err = {0};

	must(img_file_create(&d, &cfg, &err), &err);
	free(path);
	return d;
}

/* The view never changes; what the guest writes goes to files beside it that outlive us. */
static void open_disk(struct machine *m, const char *dir, const char *uri)
{
	struct lb_hash of = {{1}};
	struct lb_err err = {0};

	must(img_nbd_create(&m->view, uri, 2, &err), &err);
	m->upper = open_file(dir, "upper", DISK_BYTES);
	m->map = open_file(dir, "map", img_kept_map_bytes(DISK_BYTES));
	must(img_kept_create(&m->disk, m->view, m->upper, m->map, &of, &err), &err);
}

static void machine_init(struct machine *m, const char *dir, const char *uri)
{
	memset(m, 0, sizeof(*m));
	open_disk(m, dir, uri);
	m->disk_cfg = (struct vm_disk_cfg){.dev = m->disk, .bus = VM_DISK_VIRTIO, .serial = "rp1"};
	m->cfg = (struct vm_cfg)VM_CFG_DEFAULTS;
	m->cfg.name = "linux";
	m->cfg.ram_bytes = RAM_BYTES;
	m->cfg.disks = &m->disk_cfg;
	m->cfg.disk_count = 1;
	m->cfg.reset_stops = true;
	m->cfg.complement = emulated();
	m->cfg.tick_stretch = emulated() ? TICK_STRETCH : 0;
	m->g = calloc(1, sizeof(*m->g));
	assert_non_null(m->g);
	kvm_guest_init(m->g, &m->cfg);
	m->g->tap = watch;
	m->g->tap_arg = &m->watch;
}

static void machine_fini(struct machine *m)
{
	vm_destroy(m->vm);
	kvm_guest_fini(m->g);
	free(m->g);
	img_dev_destroy(m->disk);
	img_dev_destroy(m->map);
	img_dev_destroy(m->upper);
	img_dev_destroy(m->view);
}

static void wait_record(struct machine *m, unsigned seq)
{
	char text[32];

	(void)snprintf(text, sizeof(text), "LBW seq=%u ", seq);
	kvm_guest_wait_serial(m->g, text);
}

/* ---- phase 1 ---- */

static void keep_ram(const char *dir, const struct vm_cut *cut)
{
	char *path = path_in(dir, "ram");
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	off_t off = 0;

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)cut->ram_bytes), 0);
	while ((off = lseek(cut->ram_fd, off, SEEK_DATA)) >= 0) {
		off_t end = lseek(cut->ram_fd, off, SEEK_HOLE), to = off;

		while (off < end) {
			char buf[65536];
			size_t want = (size_t)(end - off) < sizeof(buf) ? (size_t)(end - off)
									: sizeof(buf);
			ssize_t n = pread(cut->ram_fd, buf, want, off);

			assert_true(n > 0);
			assert_int_equal(pwrite(fd, buf, (size_t)n, to), n);
			off += n;
			to += n;
		}
	}
	assert_int_equal(close(fd), 0);
	free(path);
}

static void phase_first(const char *dir, const char *uri)
{
	char cmdline[4096];
	struct machine m;
	struct vm_cut cut = {0};
	struct lb_err err = {0};

	machine_init(&m, dir, uri);
	(void)snprintf(cmdline, sizeof(cmdline), "%slbrecords=%d",
		       emulated() ? EMULATED_IOAPIC EMULATED_CMDLINE : NATIVE_CMDLINE,
		       RECORDS_MORE);
	m.cfg.cmdline = cmdline;
	m.cfg.kernel_fd = open_guest("vmlinuz");
	m.cfg.initrd_fd = open_guest("lean.cpio");
	show("start");
	must(vm_create(&m.vm, lb_env_real(), &m.cfg, &err), &err);
	must(vm_start(m.vm, &err), &err);
	kvm_guest_wait_serial(m.g, "LBV INIT");
	show("userspace");
	wait_record(&m, RECORDS_THERE + RECORDS_BEFORE_CUT);
	show("cut");
	must(vm_cut_prepare(m.vm, &err), &err);
	must(vm_cut_hold(m.vm, CUT_LIMIT_NS, &err), &err);
	must(vm_cut_take(m.vm, &cut, NULL, NULL, &err), &err);
	write_file(dir, "state", cut.state->p, cut.state->len);
	keep_ram(dir, &cut);
	write_file(dir, "serial.1", m.g->serial, m.g->serial_len);
	show("killed");
	(void)kill(getpid(), SIGKILL);
}

/* ---- phase 2 ---- */

static void keep_disk(const char *dir, struct img_dev *disk)
{
	uint8_t *p = malloc(DISK_BYTES);
	struct lb_err err = {0};

	assert_non_null(p);
	must(img_pread(disk, p, DISK_BYTES, 0, &err), &err);
	write_file(dir, "disk.raw", p, DISK_BYTES);
	free(p);
}

static void phase_second(const char *dir, const char *uri)
{
	char *ram = path_in(dir, "ram");
	struct vm_restore restore = {
		.mode = VM_RESTORE_MAPPED,
		.ram_fd = open(ram, O_RDONLY | O_CLOEXEC),
		.clock = VM_CLOCK_ADVANCE,
	};
	struct machine m;
	struct lb_err err = {0};
	char *state;

	assert_true(restore.ram_fd >= 0);
	machine_init(&m, dir, uri);
	state = read_file(dir, "state", &restore.state_bytes);
	restore.state = state;
	m.cfg.restore = &restore;
	show("restore");
	must(vm_create(&m.vm, lb_env_real(), &m.cfg, &err), &err);
	must(vm_start(m.vm, &err), &err);
	kvm_guest_wait_serial(m.g, "LBV DONE");
	show("done");
	m.watch.may_end = true;
	vm_power_button(m.vm);
	kvm_guest_wait_serial(m.g, "LBV BUTTON");
	kvm_guest_wait_event(m.g, VM_EVENT_POWEROFF, 1);
	show("off");
	vm_stop(m.vm);
	write_file(dir, "serial.2", m.g->serial, m.g->serial_len);
	keep_disk(dir, m.disk);
	machine_fini(&m);
	free(state);
	free(ram);
	(void)close(restore.ram_fd);
}

/* ---- parent ---- */

/* A store with one point whose volume is the disk with the writer's chain. */
static void serve_point(struct view_point *v)
{
	int fd = open_guest("records.raw");

	view_point_init(v, DISK_BYTES / REP_BLOCK_BYTES, 99);
	assert_int_equal(pread(fd, v->group.vol[0].image, DISK_BYTES, 0), DISK_BYTES);
	(void)close(fd);
	view_point_dirty_all(v);
	view_point_send(v);
	view_point_ready(v);
	view_point_keys(v, 0600);
	assert_int_equal(view_point_serve(v, plugin), 0);
	(void)alarm(0); /* kvm_guest_main() has set a longer one */
}

/* Exit or signal of @argv as wait() gives it; its standard output goes to @out when not NULL. */
static int run(const char *const *argv, const char *out)
{
	int status = 0;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		int fd = out == NULL ? -1
				     : open(out, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

		if (fd >= 0)
			(void)dup2(fd, STDOUT_FILENO);
		(void)execvp(argv[0], (char *const *)(uintptr_t)argv);
		_exit(127);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

static int run_phase(const struct view_point *v, const char *phase)
{
	const char *const argv[] = {"/proc/self/exe", guests,        plugin, mode, phase,
				    v->dir,           v->server.uri, NULL};

	return run(argv, NULL);
}

/* Both halves of the serial output, one behind the other, are one stream without a seam. */
static void check_serial(const char *dir)
{
	size_t len[2];
	char *half[2] = {read_file(dir, "serial.1", &len[0]), read_file(dir, "serial.2", &len[1])};
	char *all = NULL, *at, text[64];

	assert_true(asprintf(&all, "%s%s", half[0], half[1]) > 0);
	(void)snprintf(text, sizeof(text), "LBW CHECK records=%d last=", RECORDS_THERE);
	at = strstr(all, text);
	assert_non_null(at);
	for (unsigned seq = RECORDS_THERE + 1; seq <= RECORDS_THERE + RECORDS_MORE; seq++) {
		(void)snprintf(text, sizeof(text), "\nLBW seq=%u hash=", seq);
		at = strstr(at, text);
		if (at == NULL)
			fail_msg("record %u was not announced:\n%s", seq, half[1]);
		assert_int_equal(strspn(at + strlen(text), "0123456789abcdef"), 64);
	}
	/* The second half has no boot in it. */
	assert_null(strstr(half[1], "LBV INIT"));
	assert_null(strstr(half[1], "Linux version"));
	assert_non_null(strstr(half[0], "ACPI: DSDT"));
	/* the tick came through the IOAPIC's input 0, as the MADT says by saying nothing */
	if (emulated())
		assert_non_null(strstr(half[0], "apic1=0 pin1=0 apic2=-1"));
	free(all);
	free(half[0]);
	free(half[1]);
}

/* The writer's judge, on the file system the guest left. */
static void check_disk(const char *dir)
{
	char *image = path_in(dir, "disk.raw"), *records = path_in(dir, "records"),
	     *judge = path_in(guests, "drwriter"), *verdict = path_in(dir, "verdict"), *dump, *text;
	const char *const fsck[] = {"e2fsck", "-fn", image, NULL};
	const char *const check[] = {judge, "-c", records, NULL};
	char want[64];
	size_t len;

	assert_true(asprintf(&dump, "dump /records %s", records) > 0);
	{
		const char *const extract[] = {"debugfs", "-R", dump, image, NULL};

		assert_int_equal(run(fsck, verdict), 0);
		assert_int_equal(run(extract, verdict), 0);
	}
	assert_int_equal(run(check, verdict), 0);
	text = read_file(dir, "verdict", &len);
	(void)snprintf(want, sizeof(want),
		       "LBW CHECK records=%d last=", RECORDS_THERE + RECORDS_MORE);
	assert_non_null(strstr(text, want));
	free(text);
	free(dump);
	free(image);
	free(records);
	free(judge);
	free(verdict);
}

static void test_boot_checkpoint_restore(void **state)
{
	struct view_point *v = calloc(1, sizeof(*v));
	int status;

	(void)state;
	assert_non_null(v);
	serve_point(v);
	status = run_phase(v, "first");
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	status = run_phase(v, "second");
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	check_serial(v->dir);
	check_disk(v->dir);
	view_point_fini(v);
	free(v);
}

/* ---- */

static void skip_unless_wanted(void)
{
	enum vm_kvm_kind want = emulated() ? VM_KVM_EMULATING : VM_KVM_NATIVE;

	if (host->kind == want)
		return;
	(void)fprintf(stderr, "skipped: this test is for a KVM that is %s; here: %s\n",
		      vm_kvm_kind_name(want), host->detail);
	exit(77);
}

int main(int argc, char **argv)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_boot_checkpoint_restore),
	};

	if (argc < 4)
		return 2;
	guests = argv[1];
	plugin = argv[2];
	mode = argv[3];
	host = kvm_guest_main(LIMIT_S);
	skip_unless_wanted();
	if (argc == 4)
		return cmocka_run_group_tests(tests, NULL, NULL);
	if (strcmp(argv[4], "first") == 0)
		phase_first(argv[5], argv[6]);
	else
		phase_second(argv[5], argv[6]);
	return 0;
}
