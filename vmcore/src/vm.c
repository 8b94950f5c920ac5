#include "vmcore/vm.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/kvm.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/env.h"
#include "base/err.h"
#include "base/thread.h"
#include "complement.h"
#include "cpu_int.h"
#include "cut_int.h"
#include "kvm.h"
#include "pager.h"
#include "slowpit.h"
#include "state.h"
#include "vm_int.h"
#include "vmcore/net.h"

/* Four pages of guest-physical space for KVM's own use on Intel processors, where nothing of pc1
 * lies. */
#define TSS_ADDR      0xfeffd000u
#define IDENTITY_ADDR UINT64_C(0xfeffc000)

/* ---- board to KVM ---- */

static void board_irq_line(void *arg, unsigned irq, bool level)
{
	struct vm *vm = arg;
	struct kvm_irq_level l = {.irq = irq, .level = level};

	if (level)
		atomic_fetch_add_explicit(&vm->irqs, 1, memory_order_relaxed);
	(void)ioctl(vm->fd, KVM_IRQ_LINE, &l);
}

static void board_msi(void *arg, uint64_t addr, uint32_t data)
{
	struct vm *vm = arg;
	struct kvm_msi msi = {
		.address_lo = (uint32_t)addr,
		.address_hi = (uint32_t)(addr >> 32),
		.data = data,
	};

	atomic_fetch_add_explicit(&vm->irqs, 1, memory_order_relaxed);
	(void)ioctl(vm->fd, KVM_SIGNAL_MSI, &msi); /* to nobody: lost, as on a bus */
}

static void tell(struct vm *vm, const struct vm_event *e)
{
	if (vm->cfg.on_event != NULL)
		vm->cfg.on_event(vm->cfg.arg, e);
}

/* The owner may ask for the state when it hears of the event: the state goes first. */
static void end(struct vm *vm, enum vm_state state)
{
	atomic_store(&vm->state, (int)state);
	vm_want(vm, VM_WANT_OFF);
}

static void board_event(void *arg, const struct vm_event *e)
{
	struct vm *vm = arg;

	if (e->type == VM_EVENT_POWEROFF || (e->type == VM_EVENT_RESET && vm->cfg.reset_stops))
		end(vm, VM_OFF);
	else if (e->type == VM_EVENT_RESET)
		vm_want(vm, VM_WANT_RESET);
	tell(vm, e);
}

void vm_fault(struct vm *vm, enum vm_event_type type, uint64_t rip, const char *text)
{
	struct vm_event e = {.type = type, .rip = rip, .text = text};

	end(vm, VM_CRASHED);
	tell(vm, &e);
}

/* ---- build ---- */

static int check_cfg(const struct vm_cfg *cfg, struct lb_err *err)
{
	if (cfg->vcpus < 1 || cfg->vcpus > VM_VCPUS_MAX)
		return lb_err_set(err, LB_EINPUT, 0, "%u processors: 1 to %d", cfg->vcpus,
				  VM_VCPUS_MAX);
	if ((cfg->complement && cfg->vcpus != 1) || (cfg->tick_stretch != 0 && !cfg->complement))
		return lb_err_set(err, LB_EINPUT, 0,
				  "the complement is for one processor, slow ticks are part of it");
	if (cfg->disk_count > VM_DISKS_MAX || cfg->nic_count > VM_NICS_MAX)
		return lb_err_set(err, LB_EINPUT, 0, "%zu disks and %zu network cards: at most %d",
				  cfg->disk_count, cfg->nic_count, VM_DISKS_MAX);
	return 0;
}

static int keep_fd(int *out, int fd, const char *what, struct lb_err *err)
{
	*out = -1;
	if (fd < 0)
		return 0;
	*out = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (*out < 0)
		return lb_err_errno(err, errno, "descriptor of %s", what);
	return 0;
}

static int keep_list(void *out, const void *list, size_t bytes, struct lb_err *err)
{
	void *p = NULL;

	if (bytes > 0) {
		p = malloc(bytes);
		if (p == NULL)
			return lb_err_set(err, LB_ENOMEM, 0, "configuration");
		memcpy(p, list, bytes);
	}
	memcpy(out, &p, sizeof(p));
	return 0;
}

/* A reset boots again, long after create: what it needs is kept. */
static int keep_cfg(struct vm *vm, const struct vm_cfg *cfg, struct lb_err *err)
{
	struct vm_cfg *c = &vm->cfg;
	int rc;

	*c = *cfg;
	c->disks = NULL;
	c->nics = NULL;
	c->cmdline = NULL;
	c->cpu = NULL;
	c->restore = NULL;
	c->bios_fd = c->vga_bios_fd = c->kernel_fd = c->initrd_fd = c->kvm_fd = c->uffd = -1;
	(void)snprintf(vm->name, sizeof(vm->name), "%s", cfg->name != NULL ? cfg->name : "vm");
	c->name = vm->name;
	rc = keep_fd(&c->bios_fd, cfg->bios_fd, "the firmware", err);
	if (rc == 0)
		rc = keep_fd(&c->vga_bios_fd, cfg->vga_bios_fd, "the VGA firmware", err);
	if (rc == 0)
		rc = keep_fd(&c->kernel_fd, cfg->kernel_fd, "the kernel", err);
	if (rc == 0)
		rc = keep_fd(&c->initrd_fd, cfg->initrd_fd, "the initrd", err);
	if (rc == 0)
		rc = keep_fd(&c->uffd, cfg->uffd, "user faults", err);
	if (rc == 0)
		rc = keep_fd(&vm->kvm_fd, cfg->kvm_fd, "/dev/kvm", err);
	if (rc == 0 && cfg->cmdline != NULL)
		rc = keep_list((void *)&c->cmdline, cfg->cmdline, strlen(cfg->cmdline) + 1, err);
	if (rc == 0)
		rc = keep_list((void *)&c->disks, cfg->disks, cfg->disk_count * sizeof(*cfg->disks),
			       err);
	if (rc == 0)
		rc = keep_list((void *)&c->nics, cfg->nics, cfg->nic_count * sizeof(*cfg->nics),
			       err);
	return rc;
}

static void drop_cfg(struct vm_cfg *c)
{
	const int fds[] = {c->bios_fd, c->vga_bios_fd, c->kernel_fd, c->initrd_fd, c->uffd};

	for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++)
		if (fds[i] >= 0)
			(void)close(fds[i]);
	free((void *)c->cmdline);
	free((void *)c->disks);
	free((void *)c->nics);
}

int vm_slot_set(struct vm *vm, unsigned slot, bool log_dirty, struct lb_err *err)
{
	const struct vm_mem *m = &vm->mem;
	uint32_t log = log_dirty ? KVM_MEM_LOG_DIRTY_PAGES : 0;
	struct kvm_userspace_memory_region r[] = {
		[VM_SLOT_LOW] = {VM_SLOT_LOW, log, 0, m->low_bytes, (uintptr_t)m->base},
		[VM_SLOT_HIGH] = {VM_SLOT_HIGH, log, VM_HIGH_GPA, m->ram_bytes - m->low_bytes,
				  (uintptr_t)m->base + m->low_bytes},
		[VM_SLOT_ROM] = {VM_SLOT_ROM, KVM_MEM_READONLY, VM_HIGH_GPA - VM_ROM_BYTES,
				 VM_ROM_BYTES, (uintptr_t)m->base + m->ram_bytes},
	};
	int rc;

	if (r[slot].memory_size == 0)
		return 0;
	rc = VM_KVM(vm->fd, KVM_SET_USER_MEMORY_REGION, &r[slot], err);
	return rc < 0 ? rc : 0;
}

static int open_kvm(struct vm *vm, struct lb_err *err)
{
	int rc = vm->kvm_fd >= 0 ? 0 : vm_kvm_open(&vm->kvm_fd, err);

	if (rc == 0)
		rc = vm_kvm_require(vm->kvm_fd, err);
	if (rc == 0)
		rc = VM_KVM(vm->kvm_fd, KVM_GET_VCPU_MMAP_SIZE, NULL, err);
	if (rc < 0)
		return rc;
	vm->run_bytes = (size_t)rc;
	rc = vm->fd = VM_KVM(vm->kvm_fd, KVM_CREATE_VM, NULL, err);
	return rc < 0 ? rc : 0;
}

static int enable_caps(struct vm *vm, struct lb_err *err)
{
	struct kvm_enable_cap log = {.cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2};
	int rc;

	log.args[0] = (__u64)vm_kvm_cap(vm->kvm_fd, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2);
	rc = VM_KVM(vm->fd, KVM_ENABLE_CAP, &log, err);
	/* Optional: with it an emulation failure names the instruction's bytes. */
	if (rc >= 0 && vm_kvm_cap(vm->kvm_fd, KVM_CAP_EXIT_ON_EMULATION_FAILURE) > 0) {
		struct kvm_enable_cap e = {.cap = KVM_CAP_EXIT_ON_EMULATION_FAILURE, .args = {1}};

		rc = VM_KVM(vm->fd, KVM_ENABLE_CAP, &e, err);
	}
	return rc < 0 ? rc : 0;
}

/* Memory before the chips: registering a chip leaves a grace period under way in the kernel, which
 * the first slot would wait for (5 ms, most of a machine's start). Both before there is a second
 * thread: they wait for workers of the kernel, which would wait for the processor it has. */
static int build_kvm(struct vm *vm, struct lb_err *err)
{
	uint64_t identity = IDENTITY_ADDR;
	int rc = open_kvm(vm, err);

	if (rc == 0)
		rc = enable_caps(vm, err);
	for (unsigned slot = 0; rc == 0 && slot < VM_SLOTS; slot++)
		rc = vm_slot_set(vm, slot, false, err);
	if (rc == 0)
		rc = VM_KVM_NUMBER(vm->fd, KVM_SET_TSS_ADDR, TSS_ADDR, err);
	if (rc >= 0)
		rc = VM_KVM(vm->fd, KVM_SET_IDENTITY_MAP_ADDR, &identity, err);
	if (rc >= 0)
		rc = VM_KVM(vm->fd, KVM_CREATE_IRQCHIP, NULL, err);
	return rc < 0 ? rc : 0;
}

static int build_pit(struct vm *vm, struct lb_err *err)
{
	struct kvm_pit_config pit = {.flags = KVM_PIT_SPEAKER_DUMMY};
	bool in_kernel = vm->cfg.tick_stretch == 0;
	int rc = in_kernel ? VM_KVM(vm->fd, KVM_CREATE_PIT2, &pit, err) : 0;

	return rc < 0 ? rc : vm_x86_init(&vm->x86, vm->kvm_fd, vm->fd, in_kernel, err);
}

/* A template that is asked for may be wider than what this host gives by default, but not wider
 * than what KVM says it can do and what it gives unasked (some cannot mask every feature). */
static int change_cpu(struct vm *vm, const struct vm_cpu *want, struct lb_err *err)
{
	struct vm_cpu can;
	int rc;

	if (vm_cpu_equal(want, &vm->cpu))
		return 0;
	rc = vm_cpu_supported(&can, vm->kvm_fd, err);
	if (rc != 0)
		return rc;
	vm_cpu_unite(&can, &vm->cpu);
	rc = vm_cpu_check(want, &can, err);
	for (unsigned i = 0; rc == 0 && i < vm->cfg.vcpus; i++)
		rc = vm_cpu_apply(vm->vcpus[i].fd, want, i, vm->cfg.vcpus, err);
	return rc != 0 ? rc : vm_cpu_read_back(&vm->cpu, vm->vcpus[0].fd, err);
}

static int build_vcpus(struct vm *vm, const struct vm_cpu *want, struct lb_err *err)
{
	int rc = vm_cpu_default(&vm->cpu, vm->kvm_fd, err);

	if (rc == 0)
		rc = vm_vcpus_create(vm, err);
	if (rc == 0 && vm->cfg.complement)
		rc = vm_complement_create(&vm->complement, vm->kvm_fd, vm->vcpus[0].fd, &vm->mem,
					  err);
	if (rc == 0)
		rc = vm_cpu_read_back(&vm->cpu, vm->vcpus[0].fd, err);
	/* the complement has a template of its own */
	if (rc == 0 && vm->complement == NULL && want != NULL)
		rc = change_cpu(vm, want, err);
	if (rc == 0) {
		int khz = ioctl(vm->vcpus[0].fd, KVM_GET_TSC_KHZ, 0);

		vm->x86.tsc_khz = khz > 0 ? (uint32_t)khz : 0;
	}
	return rc;
}

static size_t state_room(const struct vm *vm)
{
	return VM_CHIPS_STATE_MAX_BYTES + (size_t)vm->cfg.vcpus * VM_VCPU_STATE_MAX_BYTES;
}

/* KVM has no "reset": the state right after creation is kept and put back. */
static int keep_power_on(struct vm *vm, struct lb_err *err)
{
	struct lb_wr wr;
	int rc = lb_buf_create(&vm->power_on, state_room(vm), err);

	if (rc != 0)
		return rc;
	wr = lb_wr_init(vm->power_on->p, vm->power_on->cap);
	for (unsigned i = 0; rc == 0 && i < vm->cfg.vcpus; i++)
		rc = vm_x86_save_vcpu(&vm->x86, &wr, vm->vcpus[i].fd, err);
	if (rc == 0)
		rc = vm_x86_save_chips(&vm->x86, &wr, vm->fd, err);
	vm->power_on->len = wr.len;
	return rc;
}

static int put_power_on(struct vm *vm, struct lb_err *err)
{
	struct lb_rd rd = lb_rd_init(vm->power_on->p, vm->power_on->len);
	struct vm_x86_shift none = {0};
	int rc = 0;

	for (unsigned i = 0; rc == 0 && i < vm->cfg.vcpus; i++)
		rc = vm_x86_load_vcpu(&vm->x86, &rd, vm->vcpus[i].fd, none, err);
	if (rc == 0)
		rc = vm_x86_load_chips(&vm->x86, &rd, vm->fd, none, err);
	return rc;
}

static int build_board(struct vm *vm, struct lb_err *err)
{
	static const struct vm_board_ops ops = {
		.irq_line = board_irq_line,
		.msi = board_msi,
		.event = board_event,
	};
	int rc;

	vm_board_init(&vm->board, vm->env, &vm->mem, &ops, vm);
	vm->board_made = true;
	rc = vm_pc1_build(&vm->board, &vm->cfg, &vm->pc1, err);
	if (rc == 0 && vm->cfg.tick_stretch != 0)
		rc = vm_slowpit_create(&vm->board, vm->cfg.tick_stretch, err);
	return rc;
}

/* Devices, firmware and kernel need nothing of KVM's and take half as long as the processors and
 * what they can do, which KVM finds out anew each time: they are built on a thread meanwhile. No
 * line of theirs is high before a guest runs or its state is loaded. */
struct board_side {
	struct vm *vm;
	struct vm_entry *boot; /* NULL: neither firmware nor kernel */
	int cpu;               /* the other side's */
	pthread_t thread;
	struct lb_err err;
	int rc;
};

/* Some schedulers leave a new thread on the processor that started it while others idle. It is free
 * to go anywhere again at once, and so are the threads of devices, which inherit its mask. */
static void leave_processor(int cpu)
{
	cpu_set_t all, others;

	if (cpu < 0 || sched_getaffinity(0, sizeof(all), &all) != 0)
		return;
	others = all;
	CPU_CLR((size_t)cpu, &others);
	if (CPU_COUNT(&others) > 0 && sched_setaffinity(0, sizeof(others), &others) == 0)
		(void)sched_setaffinity(0, sizeof(all), &all);
}

static void *board_side_main(void *arg)
{
	struct board_side *b = arg;
	struct vm *vm = b->vm;

	leave_processor(b->cpu);
	b->rc = build_board(vm, &b->err);
	if (b->rc == 0 && b->boot != NULL)
		b->rc = vm_pc1_boot(&vm->pc1, &vm->cfg, b->boot, &b->err);
	return NULL;
}

static int build_sides(struct vm *vm, const struct vm_cpu *want, struct vm_entry *boot,
		       struct lb_err *err)
{
	struct board_side b = {.vm = vm, .boot = boot, .cpu = sched_getcpu()};
	int rc = lb_thread_start(&b.thread, board_side_main, &b, "building a machine", err);

	if (rc != 0)
		return rc;
	rc = build_pit(vm, err);
	if (rc == 0)
		rc = build_vcpus(vm, want, err);
	if (rc == 0)
		rc = keep_power_on(vm, err);
	(void)pthread_join(b.thread, NULL);
	if (rc != 0 || b.rc == 0)
		return rc;
	if (err != NULL)
		*err = b.err;
	return b.rc;
}

static int build_parts(struct vm *vm, const struct vm_cfg *cfg, const struct vm_state_view *saved,
		       struct vm_entry *boot, struct lb_err *err)
{
	const struct vm_cpu *want = saved != NULL ? &saved->machine.info.cpu : cfg->cpu;
	int rc = keep_cfg(vm, cfg, err);

	if (rc == 0 && saved != NULL)
		rc = vm_restore_memory(vm, cfg->restore, err);
	else if (rc == 0)
		rc = vm_mem_init(&vm->mem, cfg->ram_bytes, err);
	if (rc == 0)
		rc = build_kvm(vm, err);
	if (rc == 0)
		rc = build_sides(vm, want, boot, err);
	if (rc == 0 && saved != NULL)
		rc = vm_restore_state(vm, saved, cfg->restore, err);
	if (rc == 0 && boot != NULL)
		rc = vm_enter(vm, boot, err);
	return rc;
}

/* @boot: start from firmware or a kernel, and where; NULL: neither. */
static int build(struct vm **out, struct lb_env *env, const struct vm_cfg *cfg,
		 struct vm_entry *boot, struct lb_err *err)
{
	const struct vm_restore *r = cfg->restore;
	struct vm_state_view saved;
	struct vm *vm;
	int rc = check_cfg(cfg, err);

	if (rc == 0 && r != NULL)
		rc = vm_state_parse(&saved, r->state, r->state_bytes, err);
	if (rc == 0 && r != NULL)
		rc = vm_restore_check(&saved, cfg, err);
	if (rc != 0)
		return rc;
	vm = calloc(1, sizeof(*vm));
	if (vm == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "machine");
	vm->env = env;
	vm->kvm_fd = vm->fd = -1;
	vm->mem.fd = -1;
	lb_cond_init(&vm->parked_cond);
	(void)pthread_mutex_init(&vm->lock, NULL); /* a default mutex cannot fail on Linux */
	(void)pthread_mutex_init(&vm->kick_lock, NULL);
	rc = build_parts(vm, cfg, r != NULL ? &saved : NULL, boot, err);
	if (rc != 0) {
		vm_destroy(vm);
		return rc;
	}
	*out = vm;
	return 0;
}

int vm_build(struct vm **out, struct lb_env *env, const struct vm_cfg *cfg, struct lb_err *err)
{
	return build(out, env, cfg, NULL, err);
}

/* ---- boot ---- */

static void flat(struct kvm_segment *s, uint16_t selector, bool code)
{
	*s = (struct kvm_segment){
		.limit = UINT32_MAX,
		.selector = selector,
		.type = code ? 11 : 3,
		.present = 1,
		.db = !code,
		.s = 1,
		.l = code,
		.g = 1,
	};
}

/* Paging and long mode are on already, as the 64-bit boot protocol asks for. */
static int enter_long_mode(struct vm *vm, const struct vm_entry *e, struct lb_err *err)
{
	struct kvm_sregs s = {0};
	struct kvm_regs r = {.rip = e->rip, .rsi = e->rsi, .rsp = e->rsp, .rflags = 2};
	int fd = vm->vcpus[0].fd;
	int rc = VM_KVM(fd, KVM_GET_SREGS, &s, err);

	if (rc < 0)
		return rc;
	flat(&s.cs, 0x10, true);
	flat(&s.ds, 0x18, false);
	s.es = s.fs = s.gs = s.ss = s.ds;
	s.gdt.base = e->gdt.a;
	s.gdt.limit = e->gdt_limit;
	s.cr3 = e->cr3;
	s.cr4 = 1u << 5 | 1u << 9 | 1u << 10; /* PAE, OSFXSR, OSXMMEXCPT */
	s.cr0 = 0x80050033;                   /* PG AM WP NE ET MP PE */
	s.efer = 1u << 8 | 1u << 10;          /* LME, LMA */
	rc = VM_KVM(fd, KVM_SET_SREGS, &s, err);
	if (rc >= 0)
		rc = VM_KVM(fd, KVM_SET_REGS, &r, err);
	return rc < 0 ? rc : 0;
}

/* As firmware leaves the 8259s: the lines that PCI interrupts are routed to are level-triggered. A
 * kernel without ACPI relies on it. [Intel 290562 82371AB, ELCR] */
static int level_lines(struct vm *vm, struct lb_err *err)
{
	struct kvm_irqchip slave = {.chip_id = KVM_IRQCHIP_PIC_SLAVE};
	int rc = VM_KVM(vm->fd, KVM_GET_IRQCHIP, &slave, err);

	slave.chip.pic.elcr |= 1u << (10 - 8) | 1u << (11 - 8);
	if (rc >= 0)
		rc = VM_KVM(vm->fd, KVM_SET_IRQCHIP, &slave, err);
	return rc < 0 ? rc : 0;
}

int vm_enter(struct vm *vm, const struct vm_entry *e, struct lb_err *err)
{
	int rc;

	if (!e->long_mode)
		return 0;
	rc = level_lines(vm, err);
	return rc == 0 ? enter_long_mode(vm, e, err) : rc;
}

static void rom_dirty(struct vm_mem *m)
{
	for (uint64_t page = m->ram_bytes / VM_PAGE_BYTES; page < m->volume_bytes / VM_PAGE_BYTES;
	     page++)
		atomic_fetch_or(&m->dirty[page / 64], UINT64_C(1) << (page % 64));
}

int vm_cold(struct vm *vm, struct lb_err *err)
{
	struct vm_entry entry = {0};
	int rc;

	vm_board_lock(&vm->board);
	vm_board_reset(&vm->board);
	vm_board_unlock(&vm->board);
	rc = put_power_on(vm, err);
	if (rc == 0)
		rc = vm_pc1_boot(&vm->pc1, &vm->cfg, &entry, err);
	rom_dirty(&vm->mem); /* no log knows of it */
	if (rc == 0)
		rc = vm_enter(vm, &entry, err);
	return rc;
}

/* A checkpoint may come with the kernel that a reset starts. */
static bool starts_from_one(const struct vm_cfg *cfg)
{
	if (cfg->restore != NULL)
		return cfg->bios_fd < 0;
	return (cfg->bios_fd >= 0) != (cfg->kernel_fd >= 0);
}

int vm_create(struct vm **out, struct lb_env *env, const struct vm_cfg *cfg, struct lb_err *err)
{
	struct vm_entry entry = {0};
	int rc;

	if (!starts_from_one(cfg))
		return lb_err_set(err, LB_EINPUT, 0,
				  "a machine starts from firmware, a kernel, or a checkpoint");
	if (cfg->restore != NULL && cfg->restore->mode == VM_RESTORE_MAPPED) {
		rc = vm_restore_frozen(cfg->restore->ram_fd, cfg->ram_bytes, err);
		if (rc != 0)
			return rc;
	}
	return build(out, env, cfg, cfg->restore == NULL ? &entry : NULL, err);
}

void vm_destroy(struct vm *vm)
{
	if (vm == NULL)
		return;
	vm_stop(vm);
	if (vm->board_made)
		vm_board_fini(&vm->board);
	vm_pager_destroy(vm->pager); /* after the devices: their threads may wait for pages */
	vm_complement_destroy(vm->complement);
	vm_vcpus_destroy(vm);
	if (vm->fd >= 0)
		(void)close(vm->fd);
	if (vm->kvm_fd >= 0)
		(void)close(vm->kvm_fd);
	vm_stage_destroy(vm);
	vm_mem_fini(&vm->mem);
	lb_buf_unref(vm->power_on);
	drop_cfg(&vm->cfg);
	(void)pthread_cond_destroy(&vm->parked_cond);
	(void)pthread_mutex_destroy(&vm->lock);
	(void)pthread_mutex_destroy(&vm->kick_lock);
	free(vm);
}

/* ---- run ---- */

static int bad_state(const struct vm *vm, const char *verb, struct lb_err *err)
{
	static const char *const names[] = {"created", "running", "paused", "off", "crashed"};

	return lb_err_set(err, LB_EINVAL, 0, "%s: %s: it is %s", vm->name, verb,
			  names[vm_state(vm)]);
}

enum vm_state vm_state(const struct vm *vm)
{
	return (enum vm_state)atomic_load(&vm->state);
}

/* A machine that ended by itself meanwhile stays ended. */
static void state_change(struct vm *vm, enum vm_state from, enum vm_state to)
{
	int expected = (int)from;

	(void)atomic_compare_exchange_strong(&vm->state, &expected, (int)to);
}

int vm_start(struct vm *vm, struct lb_err *err)
{
	int rc;

	if (vm_state(vm) != VM_CREATED)
		return bad_state(vm, "start", err);
	vm_want(vm, VM_WANT_PAUSE); /* until all threads are there: a reset counts them */
	rc = vm_vcpus_start(vm, err);
	if (rc != 0)
		return rc;
	state_change(vm, VM_CREATED, VM_RUNNING);
	vm_vcpus_unpark(vm);
	return 0;
}

int vm_pause(struct vm *vm, uint64_t limit_ns, struct lb_err *err)
{
	uint64_t begin = vm->env->now_ns(vm->env), used;
	int rc;

	if (vm_state(vm) != VM_RUNNING)
		return bad_state(vm, "pause", err);
	rc = vm_vcpus_park(vm, limit_ns, err);
	used = vm->env->now_ns(vm->env) - begin;
	if (rc == 0 && !vm_pc1_drain(&vm->pc1, used < limit_ns ? limit_ns - used : 0))
		rc = lb_err_set(err, LB_ETIMEDOUT, 0, "requests of a disk are not done");
	if (rc != 0) {
		vm_vcpus_unpark(vm);
		return lb_err_wrap(err, rc, "%s: pause", vm->name);
	}
	state_change(vm, VM_RUNNING, VM_PAUSED);
	return 0;
}

int vm_resume(struct vm *vm, struct lb_err *err)
{
	if (vm_state(vm) != VM_PAUSED)
		return bad_state(vm, "resume", err);
	for (unsigned i = 0; i < vm->cfg.vcpus; i++)
		vm_x86_was_stopped(vm->vcpus[i].fd);
	state_change(vm, VM_PAUSED, VM_RUNNING);
	vm_vcpus_unpark(vm);
	return 0;
}

int vm_reset(struct vm *vm, struct lb_err *err)
{
	enum vm_state s = vm_state(vm);

	if (s != VM_RUNNING && s != VM_PAUSED)
		return bad_state(vm, "reset", err);
	vm_want(vm, VM_WANT_RESET);
	/* Threads that are parked already look again. */
	(void)pthread_mutex_lock(&vm->lock);
	(void)pthread_cond_broadcast(&vm->parked_cond);
	(void)pthread_mutex_unlock(&vm->lock);
	return 0;
}

void vm_power_button(struct vm *vm)
{
	vm_pc1_power_button(&vm->pc1);
}

void vm_stop(struct vm *vm)
{
	if (vm->threads == 0)
		return;
	vm_vcpus_join(vm);
	if (vm_state(vm) != VM_CRASHED)
		atomic_store(&vm->state, VM_OFF);
}

size_t vm_serial_input(struct vm *vm, const void *p, size_t len)
{
	return vm_pc1_serial_input(&vm->pc1, p, len);
}

size_t vm_port_input(struct vm *vm, const void *p, size_t len)
{
	return vm_pc1_port_input(&vm->pc1, p, len);
}

int vm_screen_text(struct vm *vm, char *out, size_t cap, struct lb_err *err)
{
	return vm_pc1_screen_text(&vm->pc1, out, cap, err);
}

int vm_screen_pixels(struct vm *vm, uint8_t **out, uint32_t *width, uint32_t *height,
		     uint8_t palette[16][3], struct lb_err *err)
{
	return vm_pc1_screen_pixels(&vm->pc1, out, width, height, palette, err);
}

void vm_stats(const struct vm *vm, struct vm_stats *out)
{
	*out = (struct vm_stats){
		.irqs = atomic_load(&vm->irqs),
		.cuts = atomic_load(&vm->cuts),
		.pause_last_ns = atomic_load(&vm->pause_last_ns),
		.pause_max_ns = atomic_load(&vm->pause_max_ns),
		.dirty_last_pages = atomic_load(&vm->dirty_last),
		.lazy_left_pages = vm_pager_left(vm->pager),
	};
	for (unsigned i = 0; i < vm->cfg.vcpus; i++) {
		out->exits += atomic_load(&vm->vcpus[i].exits);
		out->pio += atomic_load(&vm->vcpus[i].pio);
		out->mmio += atomic_load(&vm->vcpus[i].mmio);
	}
	for (size_t i = 0; i < vm->cfg.nic_count; i++)
		out->held_bytes += vm_net_held_bytes(vm->cfg.nics[i].net);
}
