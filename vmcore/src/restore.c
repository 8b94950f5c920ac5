#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/kvm.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/env.h"
#include "base/err.h"
#include "imaging/dev.h"
#include "pager.h"
#include "state.h"
#include "vm_int.h"

#define READ_BYTES    (UINT64_C(4) << 20)
#define TSC_TOLERANCE 4000 /* a 250-millionth: what NTP corrects anyway */

/* ---- configuration against checkpoint ---- */

static int differs(struct lb_err *err, const char *what, uint64_t have, uint64_t want)
{
	return lb_err_set(err, LB_EINPUT, 0,
			  "the checkpoint's machine has %s %" PRIu64 ", this one %" PRIu64, what,
			  want, have);
}

int vm_restore_check(const struct vm_state_view *v, const struct vm_cfg *cfg, struct lb_err *err)
{
	const struct vm_state_info *i = &v->machine.info;

	if (cfg->ram_bytes != i->ram_bytes)
		return differs(err, "RAM of bytes", cfg->ram_bytes, i->ram_bytes);
	if (cfg->vcpus != i->vcpus)
		return differs(err, "processors:", cfg->vcpus, i->vcpus);
	if (cfg->disk_count != i->disks)
		return differs(err, "disks:", cfg->disk_count, i->disks);
	if (cfg->nic_count != i->nics)
		return differs(err, "network cards:", cfg->nic_count, i->nics);
	for (size_t d = 0; d < i->disks; d++) {
		if (cfg->disks[d].bus != i->bus[d])
			return differs(err, "on another bus disk", d, d);
		if (cfg->disks[d].dev->size_bytes != i->disk_bytes[d])
			return differs(err, "a disk of bytes", cfg->disks[d].dev->size_bytes,
				       i->disk_bytes[d]);
	}
	return 0;
}

/* ---- memory ---- */

static int read_all(struct vm_mem *m, struct img_dev *ram, struct lb_err *err)
{
	uint64_t off = 0;
	int rc = 0;

	while (rc == 0 && off < m->volume_bytes) {
		struct img_extent e = {0};
		uint64_t end, len;

		rc = img_next_extent(ram, &e, off, err);
		if (rc != 0)
			return rc;
		end = e.off + e.len < m->volume_bytes ? e.off + e.len : m->volume_bytes;
		for (; rc == 0 && !e.zero && off < end; off += len) {
			len = end - off < READ_BYTES ? end - off : READ_BYTES;
			rc = img_pread(ram, m->base + off, len, off, err);
		}
		off = end;
	}
	return rc;
}

static int check_ram_dev(struct img_dev *ram, uint64_t volume_bytes, struct lb_err *err)
{
	if (ram == NULL || ram->size_bytes < volume_bytes)
		return lb_err_set(err, LB_EINPUT, 0,
				  "memory of the checkpoint: %" PRIu64 " bytes, need %" PRIu64,
				  ram == NULL ? 0 : ram->size_bytes, volume_bytes);
	return 0;
}

/* A page of a private mapping that was not written yet shows what others write into the file: so
 * nobody may be able to. A memfd says so by its seals; of a file we can only refuse to be the one.
 */
int vm_restore_frozen(int fd, uint64_t ram_bytes, struct lb_err *err)
{
	uint64_t volume_bytes = vm_mem_volume_bytes(ram_bytes);
	struct stat st;
	int seals = fcntl(fd, F_GET_SEALS), flags = fcntl(fd, F_GETFL);
	const int need = F_SEAL_WRITE | F_SEAL_SHRINK;

	if (flags < 0 || fstat(fd, &st) != 0)
		return lb_err_errno(err, errno, "memory of the checkpoint");
	if ((uint64_t)st.st_size < volume_bytes)
		return lb_err_set(err, LB_EINPUT, 0,
				  "memory of the checkpoint: %" PRIu64 " bytes, need %" PRIu64,
				  (uint64_t)st.st_size, volume_bytes);
	if (seals >= 0 && (seals & need) == need)
		return 0;
	if (seals >= 0 || (flags & O_ACCMODE) != O_RDONLY)
		return lb_err_set(err, LB_EINPUT, 0,
				  "memory of the checkpoint can still be written");
	return 0;
}

static int map_private(struct vm *vm, const struct vm_restore *r, struct lb_err *err)
{
	uint64_t bytes = vm_mem_volume_bytes(vm->cfg.ram_bytes);
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, r->ram_fd,
		       0);
	int rc;

	if (p == MAP_FAILED)
		return lb_err_errno(err, errno, "mapping of the checkpoint's memory");
	rc = vm_mem_init_mapped(&vm->mem, vm->cfg.ram_bytes, p, -1, err);
	if (rc != 0)
		(void)munmap(p, bytes);
	return rc;
}

static void pager_lost(void *arg, const char *text)
{
	vm_fault(arg, VM_EVENT_PAGER_LOST, 0, text);
}

int vm_restore_memory(struct vm *vm, const struct vm_restore *r, struct lb_err *err)
{
	struct vm_pager_cfg pager = {
		.mem = &vm->mem,
		.ram = r->ram,
		.uffd = vm->cfg.uffd,
		.order = r->order,
		.order_count = r->order_count,
		.lost = pager_lost,
		.arg = vm,
	};
	int rc;

	if (r->mode == VM_RESTORE_MAPPED)
		return map_private(vm, r, err);
	rc = check_ram_dev(r->ram, vm_mem_volume_bytes(vm->cfg.ram_bytes), err);
	if (rc == 0)
		rc = vm_mem_init(&vm->mem, vm->cfg.ram_bytes, err);
	if (rc == 0 && r->mode == VM_RESTORE_EAGER)
		rc = read_all(&vm->mem, r->ram, err);
	if (rc == 0 && r->mode == VM_RESTORE_LAZY)
		rc = vm_pager_create(&vm->pager, &pager, err);
	return rc;
}

size_t vm_restore_order(struct vm *vm, uint32_t *out, size_t cap)
{
	return vm->pager == NULL ? 0 : vm_pager_order(vm->pager, out, cap);
}

/* ---- state ---- */

/* A guest that measures time by the TSC expects the old frequency. Where the processor cannot scale
 * it, kvmclock still tells the guest the truth; others drift, and are told apart by nobody. */
static void keep_tsc_khz(struct vm *vm, uint32_t khz)
{
	uint32_t mine = vm->x86.tsc_khz, off = khz > mine ? khz - mine : mine - khz;

	if (khz == 0 || mine == 0 || off < mine / TSC_TOLERANCE)
		return;
	for (unsigned i = 0; i < vm->cfg.vcpus; i++)
		if (ioctl(vm->vcpus[i].fd, KVM_SET_TSC_KHZ, (unsigned long)khz) != 0)
			return;
	vm->x86.tsc_khz = khz;
}

static struct vm_x86_shift shift_of(struct vm *vm, const struct vm_state_view *v,
				    enum vm_clock_policy clock)
{
	uint64_t now = vm->env->wall_ns(vm->env), then = v->machine.info.wall_ns;

	/* Clocks of two sites may differ; time never runs backwards for the guest. */
	if (clock == VM_CLOCK_FROZEN || now <= then)
		return (struct vm_x86_shift){0};
	return (struct vm_x86_shift){.ns = now - then};
}

static int load_vcpus(struct vm *vm, const struct vm_state_view *v, struct vm_x86_shift shift,
		      struct lb_err *err)
{
	int rc = 0;

	for (unsigned i = 0; rc == 0 && i < vm->cfg.vcpus; i++) {
		struct lb_rd rd = lb_rd_init(v->vcpu[i].p, v->vcpu[i].len);

		rc = vm_x86_load_vcpu(&vm->x86, &rd, vm->vcpus[i].fd, shift, err);
		if (rc == 0 && !lb_rd_done(&rd))
			rc = lb_err_set(err, LB_ECORRUPT, 0, "%zu bytes too many", rd.left);
		if (rc != 0)
			return lb_err_wrap(err, rc, "processor %u", i);
	}
	return 0;
}

/* The controllers' saved inputs are not those of this machine's lines: whoever drives a line high
 * drives it again. One that is edge-triggered saw that edge already and ignores it. */
static void raise_lines(struct vm *vm)
{
	for (unsigned irq = 0; irq < 16; irq++)
		if (vm->board.irq_sources[irq] != 0)
			vm->board.ops->irq_line(vm->board.arg, irq, true);
}

static int load_locked(struct vm *vm, const struct vm_state_view *v, const struct vm_restore *r,
		       struct lb_err *err)
{
	struct vm_x86_shift shift = shift_of(vm, v, r->clock);
	struct lb_rd board = lb_rd_init(v->board.p, v->board.len);
	struct lb_rd chips = lb_rd_init(v->chips.p, v->chips.len);
	int rc = vm_board_load(&vm->board, &board, err);

	if (rc == 0)
		rc = load_vcpus(vm, v, shift, err);
	if (rc == 0)
		rc = vm_x86_load_chips(&vm->x86, &chips, vm->fd, shift, err);
	if (rc == 0 && !lb_rd_done(&chips))
		rc = lb_err_set(err, LB_ECORRUPT, 0, "chips: %zu bytes too many", chips.left);
	if (rc != 0)
		return rc;
	raise_lines(vm);
	vm_board_resume(&vm->board);
	vm_pc1_restored(&vm->pc1, r->clock);
	return 0;
}

int vm_restore_state(struct vm *vm, const struct vm_state_view *v, const struct vm_restore *r,
		     struct lb_err *err)
{
	int rc;

	keep_tsc_khz(vm, v->host.tsc_khz);
	vm_board_lock(&vm->board);
	rc = load_locked(vm, v, r, err);
	vm_board_unlock(&vm->board);
	if (rc != 0)
		return lb_err_wrap(err, rc, "%s: restore", vm->name);
	if (atomic_load(&vm->mem.lost))
		return lb_err_set(err, LB_EIO, 0, "%s: restore: memory cannot be had any more",
				  vm->name);
	for (unsigned i = 0; i < vm->cfg.vcpus; i++)
		vm_x86_was_stopped(vm->vcpus[i].fd);
	return 0;
}
