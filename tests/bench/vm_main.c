/*
 * tests/bench/vm_main.c - what vm.py measures of vmcore; one word, one measurement.
 *
 *   first BIOS                     run a firmware of one instruction, say "X" as it does, and then
 *                                  this process's peak of memory
 *   bios DISK TEXT                 SeaBIOS from Debian, an IDE disk; end when TEXT was said
 *   restore PAYLOAD RUNS           1 GiB in use: eager, mapped and lazy, to the guest's first step
 *   fork PAYLOAD RUNS              512 MiB: a drill over frozen memory, and its first step; a fork
 *                                  of a machine that was running, which freezes its memory first
 *   pause PAYLOAD RUNS             cuts of a machine with 256 MiB in use, about 1,000 dirty pages
 *
 * Times in nanoseconds, one a line, behind a name. Before each measurement of milliseconds it waits
 * for a moment in which nobody else works: starting a machine asks kernel threads for help, which
 * on a busy host measures their turn in the queue. Where there was no such moment, the name ends in
 * "busy".
 */
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/env.h"
#include "base/err.h"
#include "imaging/dev.h"
#include "payload.h"
#include "vm_int.h"

#define LIMIT_NS UINT64_C(60000000000)
#define BIOS     "/usr/share/seabios/bios-256k.bin"

struct guest {
	struct vm_cfg cfg;
	struct vm_disk_cfg disk;
	struct vm *vm;
	const char *text; /* to wait for */
	char said[1 << 16];
	size_t len;
	bool echo;
	_Atomic bool step_wanted; /* the next sign of life on the debug port */
	int done_fd;
};

static void must(int rc, const struct lb_err *err)
{
	if (rc == 0)
		return;
	(void)fprintf(stderr, "vm bench: %s: %s\n", lb_err_name(rc), err->msg);
	exit(1);
}

static uint64_t now(void)
{
	return lb_env_real()->now_ns(lb_env_real());
}

static void on_event(void *arg, const struct vm_event *e)
{
	struct guest *g = arg;
	const uint64_t one = 1;

	if (e->type == VM_EVENT_FAULT || e->type == VM_EVENT_RESET) {
		(void)fprintf(stderr, "vm bench: the guest ended: %s\n", e->text ? e->text : "");
		_exit(1);
	}
	if (e->type == VM_EVENT_DEBUG && g->step_wanted) {
		g->step_wanted = false;
		if (write(g->done_fd, &one, sizeof(one)) < 0)
			_exit(1);
	}
	if (e->type != VM_EVENT_SERIAL)
		return;
	if (g->echo && write(1, e->bytes, e->len) < 0)
		_exit(1);
	for (uint32_t i = 0; i < e->len && g->len < sizeof(g->said) - 1; i++)
		g->said[g->len++] = (char)e->bytes[i];
	if (g->text != NULL && strstr(g->said, g->text) != NULL) {
		g->text = NULL;
		if (write(g->done_fd, &one, sizeof(one)) < 0)
			_exit(1);
	}
}

/* The share of the last 50 ms, in percent, in which no processor had work. */
static unsigned idle_share(void)
{
	uint64_t v[2][8] = {{0}}, all = 0, idle;

	for (unsigned i = 0; i < 2; i++) {
		FILE *f = fopen("/proc/stat", "re");

		if (f == NULL || fscanf(f, "cpu") != 0)
			return 100;
		for (unsigned k = 0; k < 8; k++)
			if (fscanf(f, "%" SCNu64, &v[i][k]) != 1)
				return 100;
		(void)fclose(f);
		if (i == 0)
			(void)poll(NULL, 0, 50);
	}
	for (unsigned k = 0; k < 8; k++)
		all += v[1][k] - v[0][k];
	idle = v[1][3] - v[0][3] + v[1][4] - v[0][4];
	return all == 0 ? 0 : (unsigned)(idle * 100 / all);
}

/* Waits at most three seconds. What to append to a name: "" or "busy". */
static const char *quiet_moment(void)
{
	for (unsigned i = 0; i < 60; i++)
		if (idle_share() >= 85)
			return "";
	return "busy";
}

static void guest_init(struct guest *g, uint64_t ram_mib, const char *text)
{
	memset(g, 0, sizeof(*g));
	g->cfg = (struct vm_cfg)VM_CFG_DEFAULTS;
	g->cfg.ram_bytes = ram_mib << 20;
	g->cfg.on_event = on_event;
	g->cfg.arg = g;
	g->text = text;
	g->done_fd = eventfd(0, EFD_CLOEXEC);
}

static void start(struct guest *g)
{
	struct lb_err err = {0};

	must(vm_create(&g->vm, lb_env_real(), &g->cfg, &err), &err);
	must(vm_start(g->vm, &err), &err);
}

static void wait_done(struct guest *g)
{
	struct pollfd p = {.fd = g->done_fd, .events = POLLIN};
	uint64_t n;

	if (poll(&p, 1, 120000) != 1) {
		(void)fprintf(stderr, "vm bench: the guest does not say it\n");
		exit(1);
	}
	if (read(g->done_fd, &n, sizeof(n)) != (ssize_t)sizeof(n))
		exit(1);
}

static int open_or_die(const char *path, int flags)
{
	int fd = open(path, flags | O_CLOEXEC);

	if (fd < 0) {
		perror(path);
		exit(1);
	}
	return fd;
}

static void print_peak(void)
{
	char line[256];
	FILE *f = fopen("/proc/self/status", "r");

	while (f != NULL && fgets(line, sizeof(line), f) != NULL)
		if (strncmp(line, "VmHWM", 5) == 0)
			(void)printf("\n%s", line);
	if (f != NULL)
		(void)fclose(f);
}

static int first(const char *bios)
{
	static struct guest g;

	guest_init(&g, 2, "X");
	g.echo = true;
	g.cfg.bios_fd = open_or_die(bios, O_RDONLY);
	start(&g);
	wait_done(&g);
	print_peak();
	vm_destroy(g.vm);
	return 0;
}

static int bios(const char *disk, const char *text)
{
	static struct guest g;
	struct img_file_cfg file = {.path = disk, .writable = true};
	struct lb_err err = {0};

	guest_init(&g, 16, text);
	g.echo = true;
	must(img_file_create(&g.disk.dev, &file, &err), &err);
	g.disk.bus = VM_DISK_IDE;
	g.cfg.disks = &g.disk;
	g.cfg.disk_count = 1;
	g.cfg.bios_fd = open_or_die(BIOS, O_RDONLY);
	start(&g);
	wait_done(&g);
	(void)poll(NULL, 0, 2000); /* it is looked at, and killed, from outside */
	vm_destroy(g.vm);
	img_dev_destroy(g.disk.dev);
	return 0;
}

/* ---- the payload ---- */

static void payload(struct guest *g, const char *path, const char *cmdline)
{
	g->cfg.kernel_fd = open_or_die(path, O_RDONLY);
	g->cfg.cmdline = cmdline;
	start(g);
	wait_done(g);
	(void)close(g->cfg.kernel_fd);
	g->cfg.kernel_fd = -1;
}

static volatile struct payload_ctl *ctl(struct vm *vm)
{
	return vm_mem_ptr(&vm->mem, (struct vm_gpa){PAYLOAD_CTL}, sizeof(struct payload_ctl));
}

struct point {
	struct lb_buf *state;
	int fd;
	struct img_dev *ram;
};

static void point_take(struct point *p, struct vm *vm)
{
	struct lb_err err = {0};
	struct vm_cut c;
	char path[32];
	struct img_file_cfg file = {.path = path};

	must(vm_cut_hold(vm, LIMIT_NS, &err), &err);
	must(vm_cut_take(vm, &c, NULL, NULL, &err), &err);
	p->state = lb_buf_ref(c.state);
	/* Another open file of the same image, for reading only; nobody writes it any more. */
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", c.ram_fd);
	p->fd = open_or_die(path, O_RDONLY);
	must(img_file_create(&p->ram, &file, &err), &err);
}

/* A sealed copy of the point's memory. */
static int frozen(const struct point *p, uint64_t bytes)
{
	int copy = memfd_create("point", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (ftruncate(copy, (off_t)bytes) != 0)
		exit(1);
	for (uint64_t off = 0; off < bytes; off += 1 << 20) {
		static uint8_t buf[1 << 20];
		struct lb_err err = {0};
		uint64_t n = bytes - off < sizeof(buf) ? bytes - off : sizeof(buf);

		must(img_pread(p->ram, buf, n, off, &err), &err);
		if (pwrite(copy, buf, n, (off_t)off) != (ssize_t)n)
			exit(1);
	}
	if (fcntl(copy, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW) != 0)
		exit(1);
	return copy;
}

static int restore(const char *path, unsigned runs)
{
	static const char *const names[] = {"eager", "mapped", "lazy"};
	static struct guest g;
	struct point p;
	int copy;

	guest_init(&g, 1024, "filled");
	payload(&g, path, "prog=fill pages=257000");
	point_take(&p, g.vm);
	copy = frozen(&p, vm_ram_volume_bytes(g.cfg.ram_bytes));
	vm_destroy(g.vm);
	for (unsigned i = 0; i < 3 * runs; i++) {
		struct vm_restore r = {
			.state = p.state->p,
			.state_bytes = p.state->len,
			.mode = (enum vm_restore_mode)(i % 3),
			.ram = p.ram,
			.ram_fd = copy,
			.clock = VM_CLOCK_FROZEN,
		};
		const char *when;
		uint64_t begin;

		g.cfg.restore = &r;
		g.step_wanted = true;
		when = quiet_moment();
		begin = now();
		start(&g);
		wait_done(&g);
		(void)printf("%s%s %" PRIu64 "\n", names[i % 3], when, now() - begin);
		vm_destroy(g.vm);
	}
	return 0;
}

/* A drill: another machine over the frozen memory of one that exists. */
static void drills(const struct point *p, int base, unsigned runs)
{
	static struct guest g;

	for (unsigned i = 0; i < runs; i++) {
		struct vm_restore r = {
			.state = p->state->p,
			.state_bytes = p->state->len,
			.mode = VM_RESTORE_MAPPED,
			.ram_fd = base,
			.clock = VM_CLOCK_FROZEN,
		};
		const char *when;
		uint64_t begin;

		guest_init(&g, 512, NULL);
		g.cfg.restore = &r;
		g.step_wanted = true;
		when = quiet_moment();
		begin = now();
		start(&g);
		(void)printf("drill%s %" PRIu64 "\n", when, now() - begin);
		wait_done(&g);
		(void)printf("step%s %" PRIu64 "\n", when, now() - begin);
		vm_destroy(g.vm);
	}
}

static int fork_vm(const char *path, unsigned runs)
{
	static struct guest g, two;
	struct lb_err err = {0};
	struct point p;

	guest_init(&g, 512, "filled");
	payload(&g, path, "prog=fill pages=126000");
	point_take(&p, g.vm);
	drills(&p, frozen(&p, vm_ram_volume_bytes(g.cfg.ram_bytes)), runs);
	vm_destroy(g.vm);

	for (unsigned i = 0; i < runs; i++) {
		const char *when;
		uint64_t begin;

		guest_init(&g, 512, "filled");
		payload(&g, path, "prog=fill pages=126000");
		guest_init(&two, 512, NULL);
		must(vm_pause(g.vm, LIMIT_NS, &err), &err);
		two.step_wanted = true;
		when = quiet_moment();
		begin = now();
		must(vm_fork(&two.vm, g.vm, &two.cfg, &err), &err);
		must(vm_start(two.vm, &err), &err);
		(void)printf("fork%s %" PRIu64 "\n", when, now() - begin);
		wait_done(&two);
		vm_destroy(two.vm);
		vm_destroy(g.vm);
	}
	return 0;
}

static int pause_cuts(const char *path, unsigned runs)
{
	static struct guest g;
	struct lb_err err = {0};
	struct vm_cut c;

	guest_init(&g, 272, "touch\n");
	payload(&g, path, "prog=touch fill=1 pages=65000 round=1000 quiet=1 step=1");
	for (unsigned i = 0; i < runs + 2; i++) {
		volatile struct payload_ctl *k = ctl(g.vm);
		uint64_t echo = k->echo;

		/* one round of 1,000 pages between two cuts: the guest waits for the word */
		k->go = echo + 1;
		while (k->echo == echo)
			if (vm_state(g.vm) != VM_RUNNING)
				return 1;
		must(vm_cut_hold(g.vm, LIMIT_NS, &err), &err);
		must(vm_cut_take(g.vm, &c, NULL, NULL, &err), &err);
		vm_cut_resume(g.vm, &c);
		if (i >= 2)
			(void)printf("pause %" PRIu64 " pages %" PRIu64 "\n", c.pause_ns,
				     c.changed_pages);
		vm_cut_end(g.vm, true);
	}
	vm_destroy(g.vm);
	return 0;
}

int main(int argc, char **argv)
{
	unsigned runs = argc == 4 ? (unsigned)strtoul(argv[3], NULL, 10) : 0;

	if (argc == 3 && strcmp(argv[1], "first") == 0)
		return first(argv[2]);
	if (argc == 4 && strcmp(argv[1], "bios") == 0)
		return bios(argv[2], argv[3]);
	if (argc == 4 && strcmp(argv[1], "restore") == 0)
		return restore(argv[2], runs);
	if (argc == 4 && strcmp(argv[1], "fork") == 0)
		return fork_vm(argv[2], runs);
	if (argc == 4 && strcmp(argv[1], "pause") == 0)
		return pause_cuts(argv[2], runs);
	(void)fprintf(stderr, "usage: vm first|bios|restore|fork|pause ...\n");
	return 2;
}
