/*
 * Output commit with a real guest: it numbers its frames, the machine is killed between any two
 * cuts, and what was seen outside is explained by the last cut that was acknowledged: nothing newer
 * was seen, nothing older is missing, and the restored machine goes on with the very next number.
 * Arguments: rounds, seed.
 */
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/env.h"
#include "base/err.h"
#include "check.h"
#include "kvm_guest.h"
#include "rnd.h"
#include "vdriver.h"
#include "vm_int.h"
#include "vmcore/net.h"

#define CODE_AT    0x8000u
#define PML4_AT    0x1000u
#define GDT_AT     0x6000u
#define LIMIT_NS   UINT64_C(20000000000)
#define NIC_SLOT   3u
#define TX         1u
#define FRAME      60u
#define HEADER     10u /* legacy, without mergeable buffers */
#define NUMBER_AT  14u /* of the number in a frame */
#define HOLD_BYTES UINT64_C(30000)
#define STATE_MAX  (1u << 20)

static const uint8_t mac[6] = {0x52, 0x54, 0, 0, 0, 7};

/* What somebody outside saw. */
struct outside {
	pthread_mutex_t lock;
	uint64_t last; /* number of the newest frame; they come without a gap */
	unsigned announcements, wrong;
};

static void see(void *arg, const void *frame, size_t len)
{
	struct outside *o = arg;
	const uint8_t *f = frame;
	uint64_t n;

	(void)pthread_mutex_lock(&o->lock);
	memcpy(&n, f + NUMBER_AT, sizeof(n));
	if (len == FRAME && f[12] == 0x80 && f[13] == 0x35)
		o->announcements++;
	else if (len == FRAME && f[12] == 0x88 && n == o->last + 1)
		o->last = n;
	else
		o->wrong++;
	(void)pthread_mutex_unlock(&o->lock);
}

static uint64_t seen(struct outside *o)
{
	uint64_t n;

	(void)pthread_mutex_lock(&o->lock);
	n = o->last;
	assert_int_equal(o->wrong, 0);
	(void)pthread_mutex_unlock(&o->lock);
	return n;
}

struct fix {
	struct vm_cfg cfg;
	struct vm_nic_cfg nic;
	struct kvm_guest g;
	struct vm *vm;
	struct vm_switch *sw;
	struct vm_net *port, *peer, *hold;
	struct outside out;
	uint64_t number_gpa;
	/* the last cut that was acknowledged: what the other site has */
	int ram_fd;
	uint8_t state[STATE_MAX];
	size_t state_len;
	uint64_t number; /* in its memory */
};

static void must(int rc, const struct lb_err *err)
{
	if (rc != 0)
		fail_msg("%s: %s", lb_err_name(rc), err->msg);
}

static int setup(void **state)
{
	static struct fix f;
	struct lb_err err = {0};

	f = (struct fix){.cfg = VM_CFG_DEFAULTS};
	f.cfg.ram_bytes = 16 << 20;
	kvm_guest_init(&f.g, &f.cfg);
	(void)pthread_mutex_init(&f.out.lock, NULL);
	must(vm_switch_create(&f.sw, &err), &err);
	must(vm_net_switch(&f.port, f.sw, &err), &err);
	must(vm_net_switch(&f.peer, f.sw, &err), &err);
	must(vm_net_hold(&f.hold, f.port, HOLD_BYTES, &err), &err);
	vm_net_connect(f.peer, see, &f.out);
	memcpy(f.nic.mac, mac, sizeof(mac));
	f.nic.net = f.hold;
	f.cfg.nics = &f.nic;
	f.cfg.nic_count = 1;
	f.ram_fd = memfd_create("kept", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	assert_true(f.ram_fd >= 0);
	assert_int_equal(ftruncate(f.ram_fd, (off_t)vm_ram_volume_bytes(f.cfg.ram_bytes)), 0);
	*state = &f;
	return 0;
}

static int teardown(void **state)
{
	struct fix *f = *state;

	vm_destroy(f->vm);
	vm_net_destroy(f->hold);
	vm_net_destroy(f->port);
	vm_net_destroy(f->peer);
	vm_switch_destroy(f->sw);
	kvm_guest_fini(&f->g);
	(void)pthread_mutex_destroy(&f->out.lock);
	(void)close(f->ram_fd);
	return 0;
}

/* ---- the guest ---- */

static void put(struct vm *vm, uint64_t at, const void *p, size_t len)
{
	assert_true(vm_mem_write(&vm->mem, (struct vm_gpa){at}, p, len));
}

static void put64(struct vm *vm, uint64_t at, uint64_t v)
{
	put(vm, at, &v, sizeof(v));
}

static void put_imm32(uint8_t *code, unsigned at, uint64_t v)
{
	uint32_t imm = (uint32_t)v;

	memcpy(code + at, &imm, sizeof(imm));
}

/* Number a frame, give it to the card, wait until the card has taken it, again. */
static void load_code(struct fix *f, const struct vdriver *d)
{
	uint8_t code[] = {
		0xbf, 0,    0,    0, 0, /* mov edi, &number */
		0xbe, 0,    0,    0, 0, /* mov esi, &avail->idx */
		0xbb, 0,    0,    0, 0, /* mov ebx, &used->idx */
		0xba, 0,    0,    0, 0, /* mov edx, notify port */
		0x48, 0xff, 0x07,       /* 1: inc qword [rdi] */
		0x66, 0xff, 0x06,       /* inc word [rsi] */
		0xb8, TX,   0,    0, 0, /* mov eax, queue */
		0x66, 0xef,             /* out dx, ax */
		0x66, 0x8b, 0x06,       /* 2: mov ax, [rsi] */
		0x66, 0x3b, 0x03,       /* cmp ax, [rbx] */
		0x75, 0xf8,             /* jne 2b */
		0xeb, 0xe9,             /* jmp 1b */
	};

	put_imm32(code, 1, f->number_gpa);
	put_imm32(code, 6, d->q[TX].avail + 2);
	put_imm32(code, 11, d->q[TX].used + 2);
	put_imm32(code, 16, d->io + 16u);
	put(f->vm, CODE_AT, code, sizeof(code));
}

static void load_tables(struct vm *vm)
{
	put64(vm, PML4_AT, 0x2003);
	put64(vm, 0x2000, 0x3003);
	for (uint64_t i = 0; i < 512; i++)
		put64(vm, 0x3000 + 8 * i, i << 21 | 0x83);
	put64(vm, GDT_AT + 16, 0x00af9b000000ffff);
	put64(vm, GDT_AT + 24, 0x00cf93000000ffff);
}

/* The script sets the card up; the guest only sends. */
static void start(struct fix *f)
{
	static const uint16_t no_interrupt = 1;
	struct vm_entry e = {
		.long_mode = true,
		.rip = CODE_AT,
		.rsp = CODE_AT,
		.cr3 = PML4_AT,
		.gdt = {GDT_AT},
		.gdt_limit = 31,
	};
	uint8_t frame[HEADER + FRAME] = {0};
	struct vdriver d;
	uint64_t gpa;
	struct lb_err err = {0};

	must(vm_build(&f->vm, lb_env_real(), &f->cfg, &err), &err);
	vd_start(&d, &f->vm->board, NIC_SLOT, false, false, 0, 2);
	gpa = vd_alloc(&d, sizeof(frame));
	f->number_gpa = gpa + HEADER + NUMBER_AT;
	memset(frame + HEADER, 0xff, 6);
	memcpy(frame + HEADER + 6, mac, 6);
	frame[HEADER + 12] = 0x88; /* for experiments */
	frame[HEADER + 13] = 0xb5;
	put(f->vm, gpa, frame, sizeof(frame));
	vd_write_desc(&d, d.q[TX].desc, 0, (struct vd_buf){gpa, sizeof(frame), false}, 0, 0);
	put(f->vm, d.q[TX].avail, &no_interrupt, sizeof(no_interrupt));
	load_tables(f->vm);
	load_code(f, &d);
	must(vm_enter(f->vm, &e, &err), &err);
	must(vm_start(f->vm, &err), &err);
}

static uint64_t number_now(struct fix *f)
{
	const volatile uint64_t *p = vm_mem_ptr(&f->vm->mem, (struct vm_gpa){f->number_gpa}, 8);

	if (vm_state(f->vm) != VM_RUNNING)
		fail_msg("guest: %s", f->g.fault);
	return *p;
}

/* ---- cuts ---- */

struct marking {
	struct vm_net *hold;
	uint64_t seq;
};

static int mark(void *arg, uint64_t seq, struct lb_err *err)
{
	struct marking *m = arg;

	(void)err;
	assert_int_equal(seq, m->seq);
	vm_net_hold_cut(m->hold, seq);
	return 0;
}

/* Take a cut and, when it is @acknowledged, let go what belongs to it. */
static void cut(struct fix *f, uint64_t seq, bool acknowledged)
{
	struct marking m = {f->hold, seq};
	struct vm_cut c;
	void *p;
	struct lb_err err = {0};

	must(vm_cut_hold(f->vm, LIMIT_NS, &err), &err);
	must(vm_cut_take(f->vm, &c, mark, &m, &err), &err);
	vm_cut_resume(f->vm, &c);
	assert_int_equal(c.seq, seq);
	if (acknowledged) {
		size_t n = c.state->len;

		assert_true(n <= sizeof(f->state));
		memcpy(f->state, c.state->p, n);
		f->state_len = n;
		p = mmap(NULL, c.ram_bytes, PROT_READ, MAP_SHARED, c.ram_fd, 0);
		assert_true(p != MAP_FAILED);
		assert_int_equal(pwrite(f->ram_fd, p, c.ram_bytes, 0), (ssize_t)c.ram_bytes);
		memcpy(&f->number, (uint8_t *)p + f->number_gpa, 8);
		(void)munmap(p, c.ram_bytes);
		vm_net_hold_ack(f->hold, seq);
	}
	vm_cut_end(f->vm, acknowledged);
}

/* All frames of the acknowledged cut come, and none behind it: the guest may have counted a frame
 * that it had not yet given to the card. */
static void check_outside(struct fix *f)
{
	while (seen(&f->out) + 1 < f->number)
		(void)sched_yield();
	assert_true(seen(&f->out) <= f->number);
}

static void wait_number(struct fix *f, uint64_t n)
{
	while (number_now(f) < n && vm_net_held_bytes(f->hold) + FRAME <= HOLD_BYTES)
		(void)sched_yield();
}

static void restore(struct fix *f)
{
	struct vm_restore r = {
		.state = f->state,
		.state_bytes = f->state_len,
		.mode = VM_RESTORE_MAPPED,
		.ram_fd = f->ram_fd,
		.clock = VM_CLOCK_ADVANCE,
	};
	struct vm_cfg cfg = f->cfg;
	struct lb_err err = {0};

	assert_int_equal(fcntl(f->ram_fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW),
			 0);
	f->nic.net = f->port; /* from here on nobody holds anything back */
	cfg.restore = &r;
	must(vm_create(&f->vm, lb_env_real(), &cfg, &err), &err);
	vm_net_announce(f->port, mac);
	must(vm_start(f->vm, &err), &err);
}

static uint64_t rnd = 20;

static void test_kill(void **state)
{
	struct fix *f = *state;
	uint64_t acked_at_kill;

	start(f);
	for (uint64_t seq = 1; seq <= 12; seq++) {
		wait_number(f, number_now(f) + 1 + rnd_below(&rnd, 200));
		cut(f, seq, seq == 1 || rnd_below(&rnd, 3) != 0);
		check_outside(f);
	}
	wait_number(f, number_now(f) + 50);
	assert_true(number_now(f) > f->number); /* it did more than anybody knows of */
	vm_destroy(f->vm);
	f->vm = NULL;
	vm_net_destroy(f->hold); /* with all that was never acknowledged */
	f->hold = NULL;
	acked_at_kill = seen(&f->out);
	assert_true(acked_at_kill <= f->number);
	restore(f);
	while (seen(&f->out) < acked_at_kill + 100)
		if (vm_state(f->vm) != VM_RUNNING)
			fail_msg("restored guest: %s", f->g.fault);
	assert_int_equal(f->out.announcements, 1);
}

/* Nothing is acknowledged: the guest stands still at the bound, and goes on when it is. */
static void test_back_pressure(void **state)
{
	struct fix *f = *state;
	struct vm_stats stats;
	uint64_t n;

	start(f);
	while (vm_net_held_bytes(f->hold) + FRAME <= HOLD_BYTES)
		(void)number_now(f);
	n = HOLD_BYTES / FRAME;
	while (number_now(f) != n + 1)
		(void)sched_yield();
	cut(f, 1, false);
	assert_int_equal(seen(&f->out), 0);
	assert_int_equal(number_now(f), n + 1);
	assert_int_equal(vm_net_held_bytes(f->hold), n * FRAME);
	vm_stats(f->vm, &stats);
	assert_int_equal(stats.held_bytes, n * FRAME);
	cut(f, 2, true);
	check_outside(f);
	while (number_now(f) < n + 10) /* it goes on by itself */
		(void)sched_yield();
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_kill, setup, teardown),
		cmocka_unit_test_setup_teardown(test_back_pressure, setup, teardown),
	};
	unsigned long rounds = argc > 1 ? strtoul(argv[1], NULL, 10) : 1;
	int rc = 0;

	if (argc > 2)
		rnd = strtoull(argv[2], NULL, 10);
	(void)kvm_guest_main(argc > 1 ? 3600 : 90);
	for (unsigned long i = 0; i < rounds && rc == 0; i++)
		rc = cmocka_run_group_tests(tests, NULL, NULL);
	return rc;
}
