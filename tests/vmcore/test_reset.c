/*
 * A machine that came from a checkpoint is reset by its guest, in every way a PC can be: it starts
 * its firmware or its kernel again, as new, or says why it cannot. Also while its memory is still
 * being fetched.
 */
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/env.h"
#include "base/err.h"
#include "blk.h"
#include "board.h"
#include "check.h"
#include "imaging/dev.h"
#include "kvm_guest.h"
#include "kvm_point.h"
#include "pager.h"
#include "payload.h"
#include "vm_int.h"

#define RAM_BYTES      (UINT64_C(32) << 20)
#define FIRMWARE_BYTES 65536
#define ORDER_AT       0x7000u
#define SHADOW_AT      0xf0000u
#define BOOT_TEXT      "payload\nready\n"

static const enum vm_restore_mode modes[] = {VM_RESTORE_EAGER, VM_RESTORE_MAPPED, VM_RESTORE_LAZY};
enum {
	MODES = 3,
	HOWS = 3
};

struct fix {
	struct vm_cfg cfg;
	struct kvm_guest g;
	struct vm *vm;
	struct kvm_point p;
};

static int setup(void **state)
{
	static struct fix f;

	f = (struct fix){.cfg = VM_CFG_DEFAULTS};
	f.cfg.ram_bytes = RAM_BYTES;
	f.cfg.vcpus = 2;
	kvm_guest_init(&f.g, &f.cfg);
	*state = &f;
	return 0;
}

static int teardown(void **state)
{
	struct fix *f = *state;

	vm_destroy(f->vm);
	if (f->cfg.bios_fd >= 0)
		(void)close(f->cfg.bios_fd);
	if (f->cfg.kernel_fd >= 0)
		(void)close(f->cfg.kernel_fd);
	kvm_guest_fini(&f->g);
	return 0;
}

static void start(struct fix *f)
{
	struct lb_err err = {0};

	if (vm_start(f->vm, &err) != 0)
		fail_msg("%s", err.msg);
}

static void boot(struct fix *f)
{
	struct lb_err err = {0};

	if (vm_create(&f->vm, lb_env_real(), &f->cfg, &err) != 0)
		fail_msg("%s", err.msg);
	start(f);
}

/* Another machine goes on from where this one stands. */
static void go_on(struct fix *f, enum vm_restore_mode mode)
{
	struct vm_cfg cfg = f->cfg;
	struct vm_restore r;

	kvm_point_take(&f->p, f->vm, false);
	vm_destroy(f->vm);
	cfg.bios_fd = -1; /* it is in the checkpoint's memory */
	r = kvm_point_restore(&f->p, mode);
	f->vm = kvm_restored(&cfg, &r);
	start(f);
}

static void end(struct fix *f)
{
	vm_destroy(f->vm);
	f->vm = NULL;
	kvm_point_drop(&f->p);
}

/* ---- firmware ---- */

/*
 * Real mode, from the reset vector into the copy below 1 MiB. It says 'F' on the debug port, then
 * spoils that letter in its copy, which only a reset mends, and waits for an order at 0x7000.
 */
static const uint8_t firmware[] = {
	0xba, 0x02, 0x04,                   /* 00 mov $0x402,%dx */
	0xb0, 'F',                          /* 03 mov $'F',%al */
	0xee,                               /* 05 out %al,(%dx) */
	0x2e, 0xc6, 0x06, 0x04, 0x00, 'X',  /* 06 movb $'X',%cs:4 */
	0x31, 0xc0,                         /* 0c xor %ax,%ax */
	0x8e, 0xd8,                         /* 0e mov %ax,%ds */
	0xa0, 0x00, 0x70,                   /* 10 mov 0x7000,%al */
	0x84, 0xc0,                         /* 13 test %al,%al */
	0x74, 0xf9,                         /* 15 jz 10 */
	0xc6, 0x06, 0x00, 0x70, 0x00,       /* 17 movb $0,0x7000 */
	0x3c, 0x01, 0x74, 0x0b,             /* 1c cmp $1,%al; je 2b */
	0x3c, 0x02, 0x74, 0x0e,             /* 20 cmp $2,%al; je 32 */
	0xb0, 0x01, 0xe6, 0x92,             /* 24 mov $1,%al; out %al,$0x92 */
	0xf4, 0xeb, 0xfd,                   /* 28 hlt; jmp 28 */
	0xb0, 0xfe, 0xe6, 0x64,             /* 2b mov $0xfe,%al; out %al,$0x64 */
	0xf4, 0xeb, 0xfd,                   /* 2f hlt; jmp 2f */
	0xba, 0xf9, 0x0c, 0xb0, 0x06, 0xee, /* 32 mov $0xcf9,%dx; mov $6,%al; out %al,(%dx) */
	0xf4, 0xeb, 0xfd,                   /* 38 hlt; jmp 38 */
};
static const uint8_t vector[] = {0xea, 0x00, 0x00, 0x00, 0xf0}; /* ljmp $0xf000,$0 */

static int firmware_fd(void)
{
	int fd = memfd_create("firmware", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, FIRMWARE_BYTES), 0);
	assert_int_equal(pwrite(fd, firmware, sizeof(firmware), 0), (ssize_t)sizeof(firmware));
	assert_int_equal(pwrite(fd, vector, sizeof(vector), FIRMWARE_BYTES - 16),
			 (ssize_t)sizeof(vector));
	return fd;
}

/* So many starts were said since the beginning, and nothing else. */
static void wait_starts(struct fix *f, unsigned n)
{
	char all[64] = "";

	assert_true(n < sizeof(all));
	memset(all, 'F', n);
	kvm_guest_wait_debug(&f->g, all);
	assert_string_equal(f->g.debug, all);
}

static void order(struct fix *f, uint8_t how)
{
	*(volatile uint8_t *)vm_mem_ptr(&f->vm->mem, (struct vm_gpa){ORDER_AT}, 1) = how;
}

static void spoiled(struct fix *f)
{
	const volatile uint8_t *p = vm_mem_ptr(&f->vm->mem, (struct vm_gpa){SHADOW_AT + 4}, 1);

	while (*p != 'X')
		if (vm_state(f->vm) != VM_RUNNING)
			fail_msg("guest: %s", f->g.fault);
}

static void test_firmware(void **state)
{
	struct fix *f = *state;
	unsigned starts = 0;

	f->cfg.bios_fd = firmware_fd();
	for (unsigned i = 0; i < MODES * HOWS; i++) {
		boot(f);
		wait_starts(f, ++starts);
		spoiled(f);
		go_on(f, modes[i / HOWS]);
		for (unsigned again = 0; again < 2; again++) {
			order(f, (uint8_t)(1 + (i + again) % HOWS));
			wait_starts(f, ++starts);
			spoiled(f);
		}
		assert_int_equal(vm_state(f->vm), VM_RUNNING);
		end(f);
	}
	assert_int_equal(f->g.count[VM_EVENT_RESET], 2 * MODES * HOWS);
	assert_int_equal(f->g.count[VM_EVENT_FAULT], 0);
}

/* ---- a kernel ---- */

static volatile struct payload_ctl *ctl(struct fix *f)
{
	return vm_mem_ptr(&f->vm->mem, (struct vm_gpa){PAYLOAD_CTL}, sizeof(struct payload_ctl));
}

static void boot_kernel(struct fix *f)
{
	f->cfg.kernel_fd = f->cfg.kernel_fd < 0 ? kvm_guest_payload_fd() : f->cfg.kernel_fd;
	f->cfg.cmdline = "prog=reset";
	boot(f);
}

/* So many kernels came up since the beginning, and said nothing else. */
static void wait_boots(struct fix *f, unsigned n)
{
	const size_t len = strlen(BOOT_TEXT);

	kvm_guest_wait_bytes(&f->g, n * len);
	assert_int_equal(f->g.serial_len, n * len);
	for (unsigned i = 0; i < n; i++)
		assert_memory_equal(f->g.serial + i * len, BOOT_TEXT, len);
}

static void test_kernel(void **state)
{
	struct fix *f = *state;
	unsigned boots = 0;

	for (unsigned i = 0; i < MODES * HOWS; i++) {
		boot_kernel(f);
		wait_boots(f, ++boots);
		go_on(f, modes[i / HOWS]);
		for (unsigned again = 0; again < 2; again++) {
			ctl(f)->go = 1 + (i + again) % HOWS;
			wait_boots(f, ++boots);
		}
		assert_int_equal(vm_state(f->vm), VM_RUNNING);
		end(f);
	}
	/* without an IDT the other processor's timer is a triple fault, too */
	assert_in_range(f->g.count[VM_EVENT_RESET], 2 * MODES * HOWS, 2 * MODES * (HOWS + 1));
	assert_int_equal(f->g.count[VM_EVENT_FAULT], 0);
}

/* Where the kernel's file is not, it goes on all the same; a reset is its end, and says so. */
static void test_kernel_is_not_here(void **state)
{
	struct fix *f = *state;
	int fd;

	for (unsigned i = 0; i < MODES; i++) {
		f->g.count[VM_EVENT_FAULT] = 0;
		boot_kernel(f);
		kvm_guest_wait_bytes(&f->g, (i + 1) * strlen(BOOT_TEXT));
		fd = f->cfg.kernel_fd;
		f->cfg.kernel_fd = -1;
		go_on(f, modes[i]);
		f->cfg.kernel_fd = fd;
		ctl(f)->go = 1 + i;
		kvm_guest_wait_event(&f->g, VM_EVENT_FAULT, 1);
		assert_int_equal(vm_state(f->vm), VM_CRASHED);
		assert_non_null(strstr(f->g.fault, "started from a kernel that is not here"));
		end(f);
	}
	assert_int_equal(f->g.serial_len, MODES * strlen(BOOT_TEXT));
}

/* ---- while memory is fetched ---- */

/* A source of memory that does not give what lies from .from to .to before the gate opens. */
struct slow {
	struct img_dev dev; /* first */
	struct img_dev *lower;
	uint64_t from, to;
	pthread_mutex_t lock;
	pthread_cond_t opened;
	bool open, asked;
};

static int slow_pread(struct img_dev *d, void *buf, uint64_t len, uint64_t off, struct lb_err *err)
{
	struct slow *s = (struct slow *)d;

	(void)pthread_mutex_lock(&s->lock);
	s->asked = true;
	(void)pthread_cond_broadcast(&s->opened);
	while (!s->open && off >= s->from && off < s->to)
		(void)pthread_cond_wait(&s->opened, &s->lock);
	(void)pthread_mutex_unlock(&s->lock);
	return img_pread(s->lower, buf, len, off, err);
}

static const struct img_dev_ops slow_ops = {.name = "slow", .pread = slow_pread};

static void slow_open(struct slow *s)
{
	(void)pthread_mutex_lock(&s->lock);
	s->open = true;
	(void)pthread_cond_broadcast(&s->opened);
	(void)pthread_mutex_unlock(&s->lock);
}

/* The last page of RAM (the generation id) and the firmware's area come first, then everything from
 * the bottom up to where the source stops giving. */
static size_t first_batches(uint32_t *to)
{
	const uint64_t end = vm_ram_volume_bytes(RAM_BYTES) / VM_BATCH_BYTES;
	size_t n = 0;

	for (uint64_t b = RAM_BYTES / VM_BATCH_BYTES - 1; b < end; b++)
		to[n++] = (uint32_t)b;
	return n;
}

static void go_on_slowly(struct fix *f, struct slow *s, unsigned how)
{
	static uint32_t first[16];
	struct vm_restore r;
	struct vm_stats st;

	kvm_point_take(&f->p, f->vm, false);
	vm_destroy(f->vm);
	*s = (struct slow){.dev = {.ops = &slow_ops, .size_bytes = f->p.ram->size_bytes},
			   .lower = f->p.ram,
			   .from = PAYLOAD_TABLE,
			   .to = RAM_BYTES - VM_BATCH_BYTES,
			   .lock = PTHREAD_MUTEX_INITIALIZER,
			   .opened = PTHREAD_COND_INITIALIZER};
	r = kvm_point_restore(&f->p, VM_RESTORE_LAZY);
	r.ram = &s->dev;
	r.order = first;
	r.order_count = first_batches(first);
	f->vm = kvm_restored(&f->cfg, &r);
	start(f);
	ctl(f)->go = how;
	kvm_guest_wait_event(&f->g, VM_EVENT_RESET, how);
	vm_stats(f->vm, &st);
	assert_true(st.lazy_left_pages > 0);
}

static void test_memory_is_still_fetched(void **state)
{
	const struct vm_gpa mark = {PAYLOAD_TABLE + 123 * 4096};
	struct fix *f = *state;
	uint32_t v = 0;
	struct slow s;

	for (unsigned how = 1; how <= HOWS; how++) {
		struct vm_stats st;

		boot_kernel(f);
		wait_boots(f, 2 * how - 1);
		assert_true(vm_mem_write32(&f->vm->mem, mark, 0x600d0000 + how));
		go_on_slowly(f, &s, how);
		wait_boots(f, 2 * how); /* the kernel came up again meanwhile */
		vm_stats(f->vm, &st);
		assert_true(st.lazy_left_pages > 0);
		slow_open(&s);
		do
			vm_stats(f->vm, &st);
		while (st.lazy_left_pages > 0);
		/* what came later is the checkpoint's memory: a reset clears none */
		assert_true(vm_mem_read32(&f->vm->mem, mark, &v));
		assert_int_equal(v, 0x600d0000 + how);
		assert_int_equal(vm_state(f->vm), VM_RUNNING);
		end(f);
	}
	assert_int_equal(f->g.count[VM_EVENT_FAULT], 0);
}

/* ---- a disk that does not answer ---- */

static void slow_wait_asked(struct slow *s)
{
	(void)pthread_mutex_lock(&s->lock);
	while (!s->asked)
		(void)pthread_cond_wait(&s->opened, &s->lock);
	(void)pthread_mutex_unlock(&s->lock);
}

static void never_done(struct vm_blk_req *req)
{
	(void)req;
	fail_msg("a request came through a reset");
}

/* It holds up the reset, which waits for the request under way; but nobody who asks with a limit.
 */
static void test_a_disk_hangs(void **state)
{
	static struct slow s;
	static uint8_t sector[512];
	static struct vm_blk_req req;
	struct vm_disk_cfg disk = {.bus = VM_DISK_VIRTIO, .dev = &s.dev};
	struct fix *f = *state;
	struct lb_err err = {0};

	s = (struct slow){.dev = {.ops = &slow_ops, .size_bytes = 1 << 20},
			  .to = 1 << 20,
			  .lock = PTHREAD_MUTEX_INITIALIZER,
			  .opened = PTHREAD_COND_INITIALIZER};
	req = (struct vm_blk_req){
		.op = VM_BLK_READ, .len_bytes = 512, .buffer = sector, .done = never_done};
	assert_int_equal(img_mem_create(&s.lower, 1 << 20, &err), 0);
	f->cfg.disks = &disk;
	f->cfg.disk_count = 1;
	boot_kernel(f);
	wait_boots(f, 1);
	vm_board_lock(&f->vm->board);
	vm_blk_submit(f->vm->pc1.blk[0], &req);
	vm_board_unlock(&f->vm->board);
	slow_wait_asked(&s);
	assert_int_equal(vm_reset(f->vm, &err), 0);
	for (int i = 0; i < 3; i++)
		assert_int_equal(vm_pause(f->vm, 20000000, &err), LB_ETIMEDOUT);
	assert_int_equal(vm_cut_hold(f->vm, 20000000, &err), LB_ETIMEDOUT);
	assert_int_equal(vm_reset(f->vm, &err), 0);
	slow_open(&s);
	wait_boots(f, 2);
	assert_int_equal(vm_state(f->vm), VM_RUNNING);
	vm_destroy(f->vm);
	f->vm = NULL;
	img_dev_destroy(s.lower);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_firmware, setup, teardown),
		cmocka_unit_test_setup_teardown(test_kernel, setup, teardown),
		cmocka_unit_test_setup_teardown(test_kernel_is_not_here, setup, teardown),
		cmocka_unit_test_setup_teardown(test_memory_is_still_fetched, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_disk_hangs, setup, teardown),
	};

	(void)kvm_guest_main(50);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
