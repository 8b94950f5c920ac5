/* A machine that is taken down and put up again, again and again, computes what one that was never
 * interrupted does: registers, memory, interrupts, several processors, all ways of restore. */
#include <fcntl.h>
#include <inttypes.h>
#include <linux/kvm.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/env.h"
#include "base/err.h"
#include "base/hash.h"
#include "check.h"
#include "imaging/dev.h"
#include "kvm_guest.h"
#include "kvm_point.h"
#include "payload.h"
#include "state_fix.h"
#include "vm_int.h"

#define LIMIT_NS UINT64_C(20000000000)

enum {
	STEPS = 3000000,
	EVERY = 1000, /* a line each: output slows it down */
	PAGES = 512
};

struct fix {
	struct vm_cfg cfg;
	struct kvm_guest g;
	struct vm *vm;
};

static const char *self;

static int setup(void **state)
{
	static struct fix f;

	f = (struct fix){.cfg = VM_CFG_DEFAULTS};
	f.cfg.ram_bytes = 64 << 20;
	f.cfg.reset_stops = true;
	kvm_guest_init(&f.g, &f.cfg);
	*state = &f;
	return 0;
}

static int teardown(void **state)
{
	struct fix *f = *state;

	vm_destroy(f->vm);
	kvm_guest_fini(&f->g);
	return 0;
}

static void go(struct vm *vm)
{
	struct lb_err err = {0};

	if (vm_start(vm, &err) != 0)
		fail_msg("%s", err.msg);
}

static volatile struct payload_ctl *ctl(struct vm *vm)
{
	return vm_mem_ptr(&vm->mem, (struct vm_gpa){PAYLOAD_CTL}, sizeof(struct payload_ctl));
}

/* ---- the chain ---- */

/* Everything that an uninterrupted guest says (the caller's), and its memory. */
static char *chain_expected(uint8_t *table)
{
	struct payload_chain c = {.x = 11};
	uint64_t x_sum = 0, h_sum = 0;
	size_t cap = STEPS / EVERY * 40 + 200, len;
	char *out = malloc(cap);

	assert_non_null(out);
	memset(table, 0, PAGES * VM_PAGE_BYTES);
	len = (size_t)snprintf(out, cap, "payload\n");
	for (int i = 0; i < STEPS; i++) {
		payload_chain_step(&c, (uint64_t *)(void *)table, PAGES * PAYLOAD_PAGE_WORDS);
		x_sum += c.x;
		h_sum += c.h;
		if (c.step % EVERY == 0)
			len += (size_t)snprintf(out + len, cap - len,
						"c %" PRIu64 " %016" PRIx64 "\n", c.step, c.h);
	}
	(void)snprintf(out + len, cap - len,
		       "done %d %016" PRIx64 " %016" PRIx64 " %016" PRIx64 "\nend\n", STEPS, c.h,
		       x_sum, h_sum);
	return out;
}

static bool ends_with(const char *whole, const char *end)
{
	size_t a = strlen(whole), b = strlen(end);

	return b > 0 && b <= a && strcmp(whole + a - b, end) == 0;
}

static struct vm *chain_guest(struct fix *f)
{
	return kvm_guest_payload(&f->cfg,
				 "prog=chain steps=3000000 every=1000 pages=512 seed=11 pit=100");
}

static void wait_step(struct fix *f, uint64_t step)
{
	while (ctl(f->vm)->step < step)
		if (vm_state(f->vm) != VM_RUNNING)
			fail_msg("guest: %s%s", f->g.fault, f->g.debug);
}

static void hop(struct fix *f, enum vm_restore_mode mode)
{
	struct kvm_point p;
	struct vm_restore r;

	kvm_point_take(&p, f->vm, false);
	vm_destroy(f->vm);
	f->vm = NULL;
	r = kvm_point_restore(&p, mode);
	f->vm = kvm_restored(&f->cfg, &r);
	go(f->vm);
	if (mode == VM_RESTORE_LAZY) { /* its source is borrowed until destroy */
		struct vm_stats st;

		do
			vm_stats(f->vm, &st);
		while (st.lazy_left_pages > 0);
	}
	kvm_point_drop(&p);
}

static void test_chain(void **state)
{
	struct fix *f = *state;
	uint8_t *table = malloc(PAGES * VM_PAGE_BYTES);
	uint64_t ticks;
	char *want = chain_expected(table);

	f->vm = chain_guest(f);
	go(f->vm);
	for (uint64_t i = 1; i <= 9; i++) {
		wait_step(f, i * (STEPS / 12));
		hop(f, (enum vm_restore_mode)(i % 3));
	}
	assert_false(kvm_guest_said(&f->g, "done"));
	kvm_guest_wait_serial(&f->g, "end\n");
	assert_string_equal(f->g.serial, want);
	assert_memory_equal(
		vm_mem_ptr(&f->vm->mem, (struct vm_gpa){PAYLOAD_TABLE}, PAGES * VM_PAGE_BYTES),
		table, PAGES * VM_PAGE_BYTES);
	/* interrupts of both timers still arrive */
	ticks = ctl(f->vm)->lapic_ticks;
	while (ctl(f->vm)->lapic_ticks < ticks + 20)
		;
	ticks = ctl(f->vm)->pit_ticks;
	while (ctl(f->vm)->pit_ticks < ticks + 5)
		;
	free(want);
	free(table);
}

static void test_smp(void **state)
{
	struct fix *f = *state;

	f->cfg.vcpus = 4;
	f->vm = kvm_guest_payload(&f->cfg, "prog=smp");
	go(f->vm);
	kvm_guest_wait_serial(&f->g, "s ");
	for (int round = 0; round < 6; round++) {
		uint64_t own[4], sum = 0;
		struct lb_err err = {0};

		hop(f, (enum vm_restore_mode)(round % 3));
		for (int i = 0; i < 4; i++)
			own[i] = ctl(f->vm)->own[i];
		for (int i = 0; i < 4; i++)
			while (ctl(f->vm)->own[i] == own[i])
				if (vm_state(f->vm) != VM_RUNNING)
					fail_msg("guest: %s%s", f->g.fault, f->g.debug);
		if (vm_pause(f->vm, LIMIT_NS, &err) != 0)
			fail_msg("%s", err.msg);
		for (int i = 0; i < 4; i++)
			sum += ctl(f->vm)->own[i];
		assert_in_range(ctl(f->vm)->shared, sum, sum + 4);
		assert_int_equal(vm_resume(f->vm, &err), 0);
	}
}

/* ---- another process ---- */

/* In the child: restore from descriptors 3 (state) and 4 (memory) and say what the guest says. */
static int child_main(void)
{
	static uint8_t state[8 << 20];
	struct fix f = {.cfg = VM_CFG_DEFAULTS};
	struct vm_restore r = {.state = state, .mode = VM_RESTORE_MAPPED, .ram_fd = 4};
	struct vm_state_info info;
	struct lb_err err = {0};
	ssize_t n = pread(3, state, sizeof(state), 0);

	(void)kvm_guest_main(40);
	kvm_guest_init(&f.g, &f.cfg);
	r.state_bytes = n > 0 ? (size_t)n : 0;
	if (vm_state_peek(&info, state, r.state_bytes, &err) != 0) {
		(void)fprintf(stderr, "%s\n", err.msg);
		return 1;
	}
	f.cfg.ram_bytes = info.ram_bytes;
	f.cfg.vcpus = info.vcpus;
	f.vm = kvm_restored(&f.cfg, &r);
	go(f.vm);
	kvm_guest_wait_serial(&f.g, "end\n");
	(void)printf("%s", f.g.serial);
	vm_destroy(f.vm);
	return 0;
}

static void child_exec(int state_fd, int ram_fd, int out_fd)
{
	int a = fcntl(state_fd, F_DUPFD, 10), b = fcntl(ram_fd, F_DUPFD, 10);

	if (dup2(out_fd, 1) < 0 || dup2(a, 3) < 0 || dup2(b, 4) < 0)
		_exit(1);
	execl(self, self, "child", (char *)NULL);
	_exit(1);
}

static void test_fresh_process(void **state)
{
	struct fix *f = *state;
	uint8_t *table = malloc(PAGES * VM_PAGE_BYTES);
	char *want = chain_expected(table);
	static char got[1 << 20];
	struct kvm_point p;
	int out[2], state_fd, status = 0;
	size_t len = 0;
	pid_t pid;

	free(table);
	f->vm = chain_guest(f);
	go(f->vm);
	wait_step(f, STEPS / 2);
	kvm_point_take(&p, f->vm, false);
	len = f->g.serial_len;
	memcpy(got, f->g.serial, len);
	state_fd = memfd_create("state", MFD_CLOEXEC);
	assert_int_equal(write(state_fd, p.state->p, p.state->len), (ssize_t)p.state->len);
	assert_int_equal(pipe(out), 0);
	pid = fork();
	if (pid == 0)
		child_exec(state_fd, p.ram_fd, out[1]);
	(void)close(out[1]);
	for (ssize_t n = 1; n > 0 && len<sizeof(got) - 1; len += n> 0 ? (size_t)n : 0)
		n = read(out[0], got + len, sizeof(got) - 1 - len);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_string_equal(got, want);
	free(want);
	(void)close(out[0]);
	(void)close(state_fd);
	kvm_point_drop(&p);
}

/* ---- what KVM does not list ---- */

static const struct {
	uint32_t index;
	uint64_t value;
} mtrrs[] = {
	{0x2ff, 0xc06},
	{0x200, 0xc0000000},
	{0x201, 0xfc0000800},
	{0x20e, 6},
	{0x250, UINT64_C(0x0606060606060606)},
	{0x26f, UINT64_C(0x0505050505050505)},
};
enum {
	MTRRS = sizeof(mtrrs) / sizeof(mtrrs[0])
};

/* Memory types as firmware set them: they are the processor's state like any other. */
static void test_memory_types(void **state)
{
	struct {
		uint32_t nmsrs, pad;
		struct kvm_msr_entry entry[MTRRS];
	} m = {.nmsrs = MTRRS};
	struct fix *f = *state;
	struct lb_err err = {0};
	struct vm_restore r;
	struct kvm_point p;

	f->vm = kvm_guest_payload(&f->cfg, "prog=idle");
	go(f->vm);
	kvm_guest_wait_serial(&f->g, "end\n");
	assert_int_equal(vm_pause(f->vm, LIMIT_NS, &err), 0);
	for (unsigned i = 0; i < MTRRS; i++)
		m.entry[i] =
			(struct kvm_msr_entry){.index = mtrrs[i].index, .data = mtrrs[i].value};
	assert_int_equal(ioctl(f->vm->vcpus[0].fd, KVM_SET_MSRS, &m), MTRRS);
	kvm_point_take(&p, f->vm, true);
	vm_destroy(f->vm);
	r = kvm_point_restore(&p, VM_RESTORE_EAGER);
	f->vm = kvm_restored(&f->cfg, &r);
	for (unsigned i = 0; i < MTRRS; i++)
		m.entry[i].data = 0;
	assert_int_equal(ioctl(f->vm->vcpus[0].fd, KVM_GET_MSRS, &m), MTRRS);
	for (unsigned i = 0; i < MTRRS; i++)
		assert_true(m.entry[i].data == mtrrs[i].value);
	kvm_point_drop(&p);
}

/* ---- a base is never written ---- */

static void hash_fd(struct lb_hash *h, int fd, uint64_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ, MAP_SHARED, fd, 0);

	assert_true(p != MAP_FAILED);
	lb_sha256(h, p, bytes);
	(void)munmap(p, bytes);
}

static void test_drill_writes_nothing(void **state)
{
	struct fix *f = *state;
	struct lb_hash before, after;
	struct vm_restore r;
	struct lb_err err = {0};
	struct kvm_point p;
	int writable;

	f->vm = kvm_guest_payload(&f->cfg, "prog=touch pages=4096 round=1000 quiet=1");
	go(f->vm);
	kvm_point_take(&p, f->vm, true);
	hash_fd(&before, p.ram_fd, p.ram->size_bytes);
	r = kvm_point_restore(&p, VM_RESTORE_MAPPED);
	for (int i = 0; i < 3; i++) {
		struct vm *drill = kvm_restored(&f->cfg, &r);
		uint64_t echo = ctl(drill)->echo;

		go(drill);
		while (ctl(drill)->echo < echo + 50)
			if (vm_state(drill) != VM_RUNNING)
				fail_msg("guest: %s%s", f->g.fault, f->g.debug);
		vm_destroy(drill);
	}
	hash_fd(&after, p.ram_fd, p.ram->size_bytes);
	assert_memory_equal(&before, &after, sizeof(before));
	/* and one that somebody could write is not taken at all */
	writable = memfd_create("writable", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	assert_int_equal(ftruncate(writable, (off_t)p.ram->size_bytes), 0);
	r.ram_fd = writable;
	f->cfg.restore = &r;
	vm_destroy(f->vm);
	f->vm = NULL;
	assert_int_equal(vm_create(&f->vm, lb_env_real(), &f->cfg, &err), LB_EINPUT);
	assert_non_null(strstr(err.msg, "can still be written"));
	(void)close(writable);
	kvm_point_drop(&p);
}

/* ---- lazy: order, and a source that fails ---- */

static void test_lazy_order(void **state)
{
	struct fix *f = *state;
	uint32_t order[2048], again[2048];
	size_t n, m;
	struct vm_restore r;
	struct vm_stats st;
	struct kvm_point p;

	f->vm = kvm_guest_payload(&f->cfg, "prog=touch pages=4096 round=64 quiet=1");
	go(f->vm);
	kvm_point_take(&p, f->vm, false);
	vm_destroy(f->vm);
	f->vm = NULL;
	r = kvm_point_restore(&p, VM_RESTORE_LAZY);
	f->vm = kvm_restored(&f->cfg, &r);
	go(f->vm);
	do
		vm_stats(f->vm, &st);
	while (st.lazy_left_pages > 0);
	n = vm_restore_order(f->vm, order, 2048);
	assert_in_range(n, 1, 1029);
	vm_destroy(f->vm);
	f->vm = NULL;
	r.order = order;
	r.order_count = n;
	f->vm = kvm_restored(&f->cfg, &r);
	m = vm_restore_order(f->vm, again, 2048);
	assert_in_range(m, n, 2048);
	assert_memory_equal(order, again, n * sizeof(*order));
	go(f->vm);
	vm_destroy(f->vm); /* in the middle of it */
	f->vm = NULL;
	kvm_point_drop(&p);
}

static void test_source_fails(void **state)
{
	struct fix *f = *state;
	struct kvm_point p;

	f->vm = kvm_guest_payload(&f->cfg, "prog=touch pages=8192 round=1000 quiet=1");
	go(f->vm);
	kvm_point_take(&p, f->vm, false);
	vm_destroy(f->vm);
	f->vm = NULL;
	for (uint64_t at = 3; at < 400; at = at * 3 / 2 + 1) {
		struct vm_restore r = kvm_point_restore(&p, VM_RESTORE_LAZY);
		struct vm_cfg cfg = f->cfg;
		struct img_dev *bad = NULL;
		struct lb_err err = {0};
		struct vm *vm = NULL;

		f->g.count[VM_EVENT_PAGER_LOST] = 0;
		assert_int_equal(img_fault_create(&bad, p.ram, at, LB_ECLOSED, &err), 0);
		r.ram = bad;
		cfg.restore = &r;
		if (vm_create(&vm, lb_env_real(), &cfg, &err) == 0) {
			(void)vm_start(vm, &err);
			kvm_guest_wait_event(&f->g, VM_EVENT_PAGER_LOST, 1);
			assert_int_equal(vm_state(vm), VM_CRASHED);
			assert_non_null(strstr(f->g.fault, "lazily restored memory"));
			assert_int_equal(vm_cut_hold(vm, LIMIT_NS, &err), LB_EINVAL);
		} else {
			kvm_guest_wait_event(&f->g, VM_EVENT_PAGER_LOST, 1);
		}
		vm_destroy(vm);
		img_dev_destroy(bad);
	}
	kvm_point_drop(&p);
}

/* ---- clocks ---- */

/* Our own environment, an hour of wall-clock time away. */
static uint64_t later_wall(struct lb_env *env)
{
	return lb_env_real()->wall_ns(env) + UINT64_C(3600) * 1000000000;
}

static uint64_t earlier_wall(struct lb_env *env)
{
	return lb_env_real()->wall_ns(env) - UINT64_C(3600) * 1000000000;
}

static uint64_t kvmclock_s(const struct vm *vm)
{
	struct kvm_clock_data c = {0};

	assert_int_equal(ioctl(vm->fd, KVM_GET_CLOCK, &c), 0);
	return c.clock / 1000000000;
}

static void test_clock_policies(void **state)
{
	struct fix *f = *state;
	struct lb_env later = *lb_env_real(), earlier = *lb_env_real();
	struct lb_err err = {0};
	struct kvm_point p;
	uint64_t at_cut;

	later.wall_ns = later_wall;
	earlier.wall_ns = earlier_wall;
	f->vm = kvm_guest_payload(&f->cfg, "prog=idle");
	go(f->vm);
	kvm_guest_wait_serial(&f->g, "end\n");
	kvm_point_take(&p, f->vm, false);
	at_cut = kvmclock_s(f->vm);
	for (int i = 0; i < 3; i++) {
		struct vm_restore r = kvm_point_restore(&p, VM_RESTORE_MAPPED);
		struct vm_cfg cfg = f->cfg;
		struct vm *vm = NULL;
		uint64_t from;

		r.clock = i == 0 ? VM_CLOCK_FROZEN : VM_CLOCK_ADVANCE;
		cfg.restore = &r;
		if (vm_create(&vm, i == 2 ? &earlier : &later, &cfg, &err) != 0)
			fail_msg("%s", err.msg);
		/* frozen, moved on by an hour, and never back; a minute is what this test may take
		 */
		from = i == 1 ? at_cut + 3600 : at_cut;
		assert_in_range(kvmclock_s(vm), from, from + 60);
		vm_destroy(vm);
	}
	kvm_point_drop(&p);
}

/* ---- hostile state ---- */

/* Whatever stands in the parts that go to KVM and to the devices, behind good checksums: it is
 * refused with a word about it, or it runs, crashes, or resets in its own machine. */
static void test_hostile_state(void **state)
{
	struct fix *f = *state;
	struct kvm_point p;
	uint64_t x = 99, refused = 0;
	uint8_t *bytes;

	f->vm = kvm_guest_payload(&f->cfg, "prog=touch quiet=1");
	go(f->vm);
	kvm_guest_wait_serial(&f->g, "touch\n");
	kvm_point_take(&p, f->vm, false);
	bytes = malloc(p.state->len);
	assert_non_null(bytes);
	for (int round = 0; round < 150; round++) {
		struct vm_restore r = kvm_point_restore(&p, VM_RESTORE_MAPPED);
		struct vm_cfg cfg = f->cfg;
		struct lb_err err = {0};
		struct vm *vm = NULL;
		int rc;

		memcpy(bytes, p.state->p, p.state->len);
		for (int i = 0; i <= round % 4; i++) {
			x = x * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
			bytes[100 + (x >> 33) % (p.state->len - 100)] = (uint8_t)(x >> 8);
		}
		fix_state_mend(bytes, p.state->len);
		r.state = bytes;
		cfg.restore = &r;
		rc = vm_create(&vm, lb_env_real(), &cfg, &err);
		refused += rc != 0;
		assert_true(rc == 0 || err.msg[0] != '\0');
		if (rc == 0 && vm_start(vm, &err) == 0)
			(void)vm_pause(vm, LIMIT_NS, &err);
		vm_destroy(vm);
	}
	assert_true(refused > 0);
	free(bytes);
	kvm_point_drop(&p);
}

/* ---- fork ---- */

static void test_fork(void **state)
{
	struct fix *f = *state;
	struct vm_cfg cfg = VM_CFG_DEFAULTS;
	struct kvm_guest g2;
	struct lb_err err = {0};
	struct vm *two = NULL, *three = NULL;
	uint8_t *table = malloc(PAGES * VM_PAGE_BYTES);
	char *want = chain_expected(table);
	size_t rest;

	f->vm = chain_guest(f);
	go(f->vm);
	wait_step(f, STEPS / 4);
	cfg.ram_bytes = f->cfg.ram_bytes;
	kvm_guest_init(&g2, &cfg);
	assert_int_equal(vm_fork(&two, f->vm, &cfg, &err), LB_EINVAL); /* not paused */
	if (vm_pause(f->vm, LIMIT_NS, &err) != 0 || vm_fork(&two, f->vm, &cfg, &err) != 0)
		fail_msg("%s", err.msg);
	/* a fork of what is private already */
	if (vm_fork(&three, f->vm, &cfg, &err) != 0)
		fail_msg("%s", err.msg);
	assert_int_equal(vm_resume(f->vm, &err), 0);
	go(two);
	kvm_guest_wait_serial(&g2, "end\n");
	kvm_guest_wait_serial(&f->g, "end\n");
	assert_string_equal(f->g.serial, want);
	assert_true(ends_with(want, g2.serial));
	rest = g2.serial_len;
	assert_memory_equal(
		vm_mem_ptr(&two->mem, (struct vm_gpa){PAYLOAD_TABLE}, PAGES * VM_PAGE_BYTES), table,
		PAGES * VM_PAGE_BYTES);
	vm_destroy(two);
	go(three);
	kvm_guest_wait_bytes(&g2, 2 * rest);
	assert_string_equal(g2.serial + rest, want + strlen(want) - rest);
	vm_destroy(three);
	kvm_guest_fini(&g2);
	free(want);
	free(table);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_chain, setup, teardown),
		cmocka_unit_test_setup_teardown(test_smp, setup, teardown),
		cmocka_unit_test_setup_teardown(test_fresh_process, setup, teardown),
		cmocka_unit_test_setup_teardown(test_memory_types, setup, teardown),
		cmocka_unit_test_setup_teardown(test_drill_writes_nothing, setup, teardown),
		cmocka_unit_test_setup_teardown(test_lazy_order, setup, teardown),
		cmocka_unit_test_setup_teardown(test_source_fails, setup, teardown),
		cmocka_unit_test_setup_teardown(test_clock_policies, setup, teardown),
		cmocka_unit_test_setup_teardown(test_hostile_state, setup, teardown),
		cmocka_unit_test_setup_teardown(test_fork, setup, teardown),
	};

	self = argv[0];
	if (argc > 1)
		return child_main();
	(void)kvm_guest_main(110);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
