/* A cut holds exactly the machine at one instant, and says which pages may differ from the last
 * kept one: compared byte by byte. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/err.h"
#include "check.h"
#include "kvm_guest.h"
#include "payload.h"
#include "vm_int.h"

#define LIMIT_NS UINT64_C(20000000000)

struct fix {
	struct vm_cfg cfg;
	struct kvm_guest g;
	struct vm *vm;
	uint8_t *kept; /* the volume as of the last kept cut */
	uint64_t bytes;
};

static int setup(void **state)
{
	static struct fix f;

	f = (struct fix){.cfg = VM_CFG_DEFAULTS};
	f.cfg.ram_bytes = 64 << 20;
	f.cfg.reset_stops = true;
	kvm_guest_init(&f.g, &f.cfg);
	f.bytes = vm_ram_volume_bytes(f.cfg.ram_bytes);
	f.kept = malloc(f.bytes);
	*state = &f;
	return f.kept == NULL;
}

static int teardown(void **state)
{
	struct fix *f = *state;

	vm_destroy(f->vm);
	kvm_guest_fini(&f->g);
	free(f->kept);
	return 0;
}

static void start(struct fix *f, const char *cmdline)
{
	struct lb_err err = {0};

	f->vm = kvm_guest_payload(&f->cfg, cmdline);
	if (vm_start(f->vm, &err) != 0)
		fail_msg("%s", err.msg);
}

/* Let the guest do at least one more round. */
static void wait_round(struct fix *f)
{
	volatile struct payload_ctl *c =
		vm_mem_ptr(&f->vm->mem, (struct vm_gpa){PAYLOAD_CTL}, sizeof(*c));
	uint64_t echo = c->echo;

	while (c->echo <= echo + 1)
		if (vm_state(f->vm) != VM_RUNNING)
			fail_msg("guest: %s%s", f->g.fault, f->g.debug);
}

static bool bit(const uint64_t *map, uint64_t page)
{
	return (map[page / 64] >> (page % 64) & 1) != 0;
}

/* Take a cut; the staged image must be the memory while all stands still. */
static void cut(struct fix *f, struct vm_cut *c)
{
	struct lb_err err = {0};
	void *p;

	if (vm_cut_hold(f->vm, LIMIT_NS, &err) != 0 || vm_cut_take(f->vm, c, NULL, NULL, &err) != 0)
		fail_msg("%s", err.msg);
	p = mmap(NULL, f->bytes, PROT_READ, MAP_SHARED, c->ram_fd, 0);
	assert_true(p != MAP_FAILED);
	assert_memory_equal(p, f->vm->mem.base, f->bytes);
	(void)munmap(p, f->bytes);
	vm_cut_resume(f->vm, c);
	assert_true(c->pause_ns > 0);
	assert_int_equal(c->ram_bytes, f->bytes);
}

/* Pages that differ from the kept copy but are not named; and named ones that do not differ. */
static void compare(struct fix *f, const struct vm_cut *c, uint64_t *missed, uint64_t *extra,
		    uint64_t *named)
{
	uint8_t *p = mmap(NULL, f->bytes, PROT_READ, MAP_SHARED, c->ram_fd, 0);

	*missed = *extra = *named = 0;
	assert_true(p != MAP_FAILED);
	for (uint64_t page = 0; page < f->bytes / VM_PAGE_BYTES; page++) {
		uint64_t off = page * VM_PAGE_BYTES;
		bool differs = memcmp(p + off, f->kept + off, VM_PAGE_BYTES) != 0;

		*named += bit(c->changed, page);
		*missed += differs && !bit(c->changed, page);
		*extra += !differs && bit(c->changed, page);
	}
	(void)munmap(p, f->bytes);
}

static void keep(struct fix *f, const struct vm_cut *c)
{
	assert_int_equal(pread(c->ram_fd, f->kept, f->bytes, 0), (ssize_t)f->bytes);
	vm_cut_end(f->vm, true);
}

static void test_exact(void **state)
{
	struct fix *f = *state;
	struct vm_cut c;
	struct vm_stats st;
	uint64_t missed, extra, named;

	start(f, "prog=touch pages=8192 round=300 quiet=1 pause=100000");
	wait_round(f);
	cut(f, &c);
	assert_int_equal(c.seq, 1);
	assert_true(c.all_changed);
	keep(f, &c);
	for (uint64_t i = 2; i < 30; i++) {
		wait_round(f);
		cut(f, &c);
		assert_int_equal(c.seq, i);
		assert_false(c.all_changed);
		compare(f, &c, &missed, &extra, &named);
		assert_int_equal(missed, 0);
		/* a ring-0 stack that gets the same frame again: a few pages at most */
		assert_in_range(extra, 0, 16);
		assert_int_equal(c.changed_pages, named);
		assert_in_range(named, 200, f->bytes / VM_PAGE_BYTES / 2 + 64);
		keep(f, &c);
	}
	vm_stats(f->vm, &st);
	assert_int_equal(st.cuts, 29);
	assert_true(st.pause_max_ns >= st.pause_last_ns && st.pause_last_ns > 0);
}

/* The replica did not get a cut: its pages are in the next one's list again. */
static void test_not_kept(void **state)
{
	struct fix *f = *state;
	struct vm_cut c;
	uint64_t missed, extra, named;

	start(f, "prog=touch pages=8192 round=300 quiet=1 pause=100000");
	cut(f, &c);
	keep(f, &c);
	for (int i = 0; i < 10; i++) {
		wait_round(f);
		cut(f, &c);
		compare(f, &c, &missed, &extra, &named);
		assert_int_equal(missed, 0);
		if (i % 3 == 2)
			keep(f, &c);
		else
			vm_cut_end(f->vm, false);
	}
}

/* What this process writes is in the list too. */
static void test_own_writes(void **state)
{
	struct fix *f = *state;
	struct vm_cut c;
	uint64_t page = (40 << 20) / VM_PAGE_BYTES;
	const uint32_t v = 0x12345678;

	start(f, "prog=idle");
	kvm_guest_wait_serial(&f->g, "end\n");
	cut(f, &c);
	keep(f, &c);
	assert_true(vm_mem_write(&f->vm->mem, (struct vm_gpa){40 << 20}, &v, sizeof(v)));
	cut(f, &c);
	assert_true(bit(c.changed, page));
	assert_false(bit(c.changed, page + 1));
	keep(f, &c);
	cut(f, &c);
	assert_false(bit(c.changed, page));
	keep(f, &c);
}

/* Whoever reads the image has a descriptor of it, and nothing else: cut off or written, it would
 * take the machine that copies into it along. */
static void test_image_is_for_reading(void **state)
{
	struct fix *f = *state;
	struct vm_cut c;

	start(f, "prog=touch pages=64 quiet=1");
	cut(f, &c);
	assert_int_equal(ftruncate(c.ram_fd, 0), -1);
	assert_int_equal(errno, EPERM);
	assert_int_equal(ftruncate(c.ram_fd, (off_t)(f->bytes + VM_PAGE_BYTES)), -1);
	assert_int_equal(pwrite(c.ram_fd, "x", 1, 0), -1);
	assert_int_equal(errno, EPERM);
	assert_true(mmap(NULL, VM_PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, c.ram_fd, 0) ==
		    MAP_FAILED);
	keep(f, &c);
	wait_round(f);
	cut(f, &c);
	keep(f, &c);
}

/* A paused machine was told to reset: what is cut is not half of the old machine and half of the
 * new one. */
static void test_reset_comes_first(void **state)
{
	struct fix *f = *state;
	struct lb_err err = {0};
	struct vm_cut c;

	start(f, "prog=touch pages=64 quiet=1");
	wait_round(f);
	assert_int_equal(vm_cut_prepare(f->vm, &err), 0);
	assert_int_equal(vm_pause(f->vm, LIMIT_NS, &err), 0);
	for (int i = 0; i < 20; i++) {
		assert_int_equal(vm_reset(f->vm, &err), 0);
		if (vm_cut_hold(f->vm, LIMIT_NS, &err) != 0)
			fail_msg("%s", err.msg);
		assert_int_equal(atomic_load(&f->vm->want) & VM_WANT_RESET, 0);
		assert_int_equal(vm_cut_take(f->vm, &c, NULL, NULL, &err), 0);
		vm_cut_resume(f->vm, &c);
		vm_cut_end(f->vm, true);
		assert_int_equal(vm_state(f->vm), VM_PAUSED);
	}
	assert_int_equal(vm_resume(f->vm, &err), 0);
	wait_round(f);
}

static int refuse(void *arg, uint64_t seq, struct lb_err *err)
{
	assert_int_equal(seq, 1);
	(*(int *)arg)++;
	return lb_err_set(err, LB_EIO, 0, "mark");
}

static void test_order_of_calls(void **state)
{
	struct fix *f = *state;
	struct lb_err err = {0};
	struct vm_cut c;
	int marks = 0;

	f->vm = kvm_guest_payload(&f->cfg, "prog=touch pages=64 quiet=1");
	assert_int_equal(vm_cut_hold(f->vm, LIMIT_NS, &err), LB_EINVAL); /* not started */
	assert_int_equal(vm_start(f->vm, &err), 0);
	assert_int_equal(vm_cut_take(f->vm, &c, NULL, NULL, &err), LB_EINVAL);
	vm_cut_end(f->vm, true);
	vm_cut_resume(f->vm, NULL);
	if (vm_cut_hold(f->vm, LIMIT_NS, &err) != 0)
		fail_msg("%s", err.msg);
	assert_int_equal(vm_cut_hold(f->vm, LIMIT_NS, &err), LB_EINVAL);
	assert_int_equal(vm_cut_take(f->vm, &c, refuse, &marks, &err), LB_EIO);
	assert_int_equal(marks, 1);
	vm_cut_resume(f->vm, NULL); /* after a failed take */
	wait_round(f);
	cut(f, &c);
	assert_int_equal(c.seq, 1);
	assert_int_equal(vm_cut_hold(f->vm, LIMIT_NS, &err), LB_EINVAL); /* one is open */
	vm_cut_end(f->vm, true);
	/* of a paused machine, which stays paused */
	if (vm_pause(f->vm, LIMIT_NS, &err) != 0)
		fail_msg("%s", err.msg);
	cut(f, &c);
	vm_cut_end(f->vm, true);
	assert_int_equal(vm_state(f->vm), VM_PAUSED);
	assert_int_equal(vm_resume(f->vm, &err), 0);
	wait_round(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_exact, setup, teardown),
		cmocka_unit_test_setup_teardown(test_not_kept, setup, teardown),
		cmocka_unit_test_setup_teardown(test_own_writes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_image_is_for_reading, setup, teardown),
		cmocka_unit_test_setup_teardown(test_reset_comes_first, setup, teardown),
		cmocka_unit_test_setup_teardown(test_order_of_calls, setup, teardown),
	};

	(void)kvm_guest_main(110);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
