/*
 *   none ─[prepare]─► tracked ─[hold]─► held ─[take]─► taken ─[resume]─► open ─[end]─► tracked
 *                        │ dirty log on;   vCPUs     staged image      the guest runs;
 *                        │ image begun     parked    = memory          image is read
 *
 * Pages to copy come from three places: KVM's log (what vCPUs wrote), mem.dirty (what this process
 * wrote), and for the first cut all there is. What a cut copied is added to .changed, which is what
 * the next kept cut reports: a cut that was not kept leaves its pages there.
 */
#include "vmcore/cut.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/kvm.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/buf.h"
#include "base/env.h"
#include "base/err.h"
#include "cpu_int.h"
#include "cut_int.h"
#include "imaging/dev.h"
#include "kvm.h"
#include "pager.h"
#include "state.h"
#include "vm_int.h"

#define PASSES_MAX  8  /* of copying while the guest runs */
#define PASS_ENOUGH 64 /* pages: a pass that copied fewer is the last */

struct vm_stage {
	int fd;
	uint8_t *map; /* of the staged image, volume_bytes */
	uint64_t pages, words;
	uint64_t *fresh;   /* harvested, not yet copied */
	uint64_t *log;     /* what KVM gives of one slot */
	uint64_t *changed; /* since the last kept cut */
	bool kept_one;     /* a cut was kept: .changed counts */
	bool held, taken, open;
	uint64_t seq, held_at_ns;
	uint64_t wall_ns;
	struct lb_buf *state;
};

uint64_t vm_ram_volume_bytes(uint64_t ram_bytes)
{
	return vm_mem_volume_bytes(ram_bytes);
}

/* ---- which pages ---- */

static int harvest_slot(struct vm *vm, unsigned slot, uint64_t first_page, uint64_t pages,
			struct lb_err *err)
{
	struct vm_stage *st = vm->stage;
	struct kvm_dirty_log get = {.slot = slot, .dirty_bitmap = st->log};
	struct kvm_clear_dirty_log clear = {
		.slot = slot,
		.num_pages = (uint32_t)pages,
		.dirty_bitmap = st->log,
	};
	int rc;

	if (pages == 0)
		return 0;
	rc = VM_KVM(vm->fd, KVM_GET_DIRTY_LOG, &get, err);
	/* Exactly the bits that were seen: one set in between stays for the next harvest. */
	if (rc >= 0)
		rc = VM_KVM(vm->fd, KVM_CLEAR_DIRTY_LOG, &clear, err);
	if (rc < 0)
		return rc;
	for (uint64_t w = 0; w < pages / 64; w++)
		st->fresh[first_page / 64 + w] |= st->log[w];
	return 0;
}

/* Before the pages are copied: what is written later is seen later. */
static int harvest(struct vm *vm, struct lb_err *err)
{
	struct vm_stage *st = vm->stage;
	const struct vm_mem *m = &vm->mem;
	uint64_t low = m->low_bytes / VM_PAGE_BYTES, all = m->ram_bytes / VM_PAGE_BYTES;
	int rc = harvest_slot(vm, VM_SLOT_LOW, 0, low, err);

	if (rc == 0)
		rc = harvest_slot(vm, VM_SLOT_HIGH, low, all - low, err);
	for (uint64_t w = 0; rc == 0 && w < st->words; w++)
		if (atomic_load_explicit(&m->dirty[w], memory_order_relaxed) != 0)
			st->fresh[w] |=
				atomic_exchange_explicit(&m->dirty[w], 0, memory_order_acq_rel);
	return rc;
}

/* ---- copying ---- */

static uint64_t copy_fresh(struct vm *vm)
{
	struct vm_stage *st = vm->stage;
	uint64_t copied = 0;

	for (uint64_t w = 0; w < st->words; w++) {
		uint64_t bits = st->fresh[w];

		st->fresh[w] = 0;
		st->changed[w] |= bits;
		for (; bits != 0; bits &= bits - 1) {
			uint64_t page = w * 64 + (uint64_t)__builtin_ctzll(bits);

			vm_mem_page_copy(st->map + page * VM_PAGE_BYTES,
					 vm->mem.base + page * VM_PAGE_BYTES);
			copied++;
		}
	}
	return copied;
}

/* The image reads as zero where nothing was written: memory in use is copied, the rest costs
 * nothing. */
static void copy_region(struct vm *vm, uint64_t off, uint64_t end)
{
	for (; off < end; off += VM_PAGE_BYTES)
		if (!vm_mem_page_zero(vm->mem.base + off))
			vm_mem_page_copy(vm->stage->map + off, vm->mem.base + off);
}

static void copy_all(struct vm *vm)
{
	uint64_t end = vm->mem.volume_bytes, off = 0;

	/* Neither a private mapping nor one that is still fetched tells what is in use. */
	if (vm->mem.fd < 0 || vm_pager_left(vm->pager) > 0) {
		copy_region(vm, 0, end);
		return;
	}
	while (off < end) {
		off_t data = lseek(vm->mem.fd, (off_t)off, SEEK_DATA);
		off_t hole = data < 0 ? -1 : lseek(vm->mem.fd, data, SEEK_HOLE);

		if (data < 0 || hole < 0)
			break; /* ENXIO: only holes follow */
		off = (uint64_t)hole < end ? (uint64_t)hole : end;
		copy_region(vm, (uint64_t)data, off);
	}
}

/* ---- the staged image ---- */

/* Its descriptor goes to whoever reads the cut: a client that cut it short would end us at the next
 * copy (SIGBUS), one that wrote it would forge what another reads. Our own mapping stays writable.
 */
static int stage_seal(int fd, struct lb_err *err)
{
	if (fcntl(fd, F_ADD_SEALS,
		  F_SEAL_FUTURE_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0)
		return lb_err_errno(err, errno, "seals of the staged image");
	return 0;
}

static int stage_alloc(struct vm_stage *st, uint64_t volume_bytes, struct lb_err *err)
{
	int rc;

	st->fd = memfd_create("lifeboat-cut", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (st->fd < 0 || ftruncate(st->fd, (off_t)volume_bytes) != 0)
		return lb_err_errno(err, errno, "staged image of %" PRIu64 " bytes", volume_bytes);
	st->map = mmap(NULL, volume_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE,
		       st->fd, 0);
	if (st->map == MAP_FAILED)
		return lb_err_errno(err, errno, "mapping of the staged image");
	rc = stage_seal(st->fd, err);
	if (rc != 0)
		return rc;
	st->pages = volume_bytes / VM_PAGE_BYTES;
	st->words = (st->pages + 63) / 64;
	st->fresh = calloc(st->words, sizeof(*st->fresh));
	st->log = calloc(st->words, sizeof(*st->log));
	st->changed = calloc(st->words, sizeof(*st->changed));
	if (st->fresh == NULL || st->log == NULL || st->changed == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "page maps of a cut");
	return 0;
}

void vm_stage_destroy(struct vm *vm)
{
	struct vm_stage *st = vm->stage;

	if (st == NULL)
		return;
	if (st->map != MAP_FAILED && st->map != NULL)
		(void)munmap(st->map, vm->mem.volume_bytes);
	if (st->fd >= 0)
		(void)close(st->fd);
	free(st->fresh);
	free(st->log);
	free(st->changed);
	lb_buf_unref(st->state);
	free(st);
	vm->stage = NULL;
}

static int log_switch(struct vm *vm, bool on, struct lb_err *err)
{
	int rc = vm_slot_set(vm, VM_SLOT_LOW, on, err);

	return rc != 0 ? rc : vm_slot_set(vm, VM_SLOT_HIGH, on, err);
}

int vm_cut_prepare(struct vm *vm, struct lb_err *err)
{
	uint64_t copied = UINT64_MAX;
	int rc;

	if (vm->stage != NULL)
		return 0;
	vm->stage = calloc(1, sizeof(*vm->stage));
	if (vm->stage == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "cut");
	vm->stage->fd = -1;
	rc = stage_alloc(vm->stage, vm->mem.volume_bytes, err);
	if (rc == 0)
		rc = log_switch(vm, true, err);
	/* A new log says that all is dirty, and watches nothing until that is cleared. */
	if (rc == 0)
		rc = harvest(vm, err);
	if (rc == 0) {
		memset(vm->stage->fresh, 0, vm->stage->words * sizeof(*vm->stage->fresh));
		copy_all(vm);
	}
	for (int pass = 0; rc == 0 && copied > PASS_ENOUGH && pass < PASSES_MAX; pass++) {
		rc = harvest(vm, err);
		if (rc == 0)
			copied = copy_fresh(vm);
	}
	if (rc != 0) {
		(void)log_switch(vm, false, NULL);
		vm_stage_destroy(vm);
		return lb_err_wrap(err, rc, "%s: first cut", vm->name);
	}
	return 0;
}

/* ---- state bytes ---- */

static void describe_machine(struct vm *vm, struct vm_state_machine *m, uint64_t seq,
			     uint64_t boot_ns, uint64_t wall_ns)
{
	*m = (struct vm_state_machine){
		.info = {.ram_bytes = vm->mem.ram_bytes,
			 .vcpus = vm->cfg.vcpus,
			 .disks = vm->cfg.disk_count,
			 .nics = vm->cfg.nic_count,
			 .uuid = vm->cfg.uuid,
			 .wall_ns = wall_ns},
		.boot_ns = boot_ns,
		.seq = seq,
	};
	for (size_t i = 0; i < vm->cfg.disk_count; i++) {
		m->info.bus[i] = vm->cfg.disks[i].bus;
		m->info.disk_bytes[i] = vm->cfg.disks[i].dev->size_bytes;
		memcpy(m->serial[i], vm->cfg.disks[i].serial, sizeof(m->serial[i]));
	}
	for (size_t i = 0; i < vm->cfg.nic_count; i++)
		memcpy(m->info.mac[i], vm->cfg.nics[i].mac, sizeof(m->info.mac[i]));
}

static void put_head(struct vm *vm, struct vm_state_wr *w, uint64_t seq, uint64_t boot_ns,
		     uint64_t wall_ns)
{
	struct vm_state_host host = {.tsc_khz = vm->x86.tsc_khz};
	struct vm_state_machine machine;
	uint8_t cpu[VM_CPU_MAX_BYTES];
	size_t len;

	describe_machine(vm, &machine, seq, boot_ns, wall_ns);
	vm_state_put_machine(vm_state_open(w, VM_STATE_MACHINE, 0), &machine);
	vm_state_close(w);
	len = vm_cpu_encode(cpu, sizeof(cpu), &vm->cpu);
	LB_ASSERT(len > 0);
	lb_wr_bytes(vm_state_open(w, VM_STATE_CPU, 0), cpu, len);
	vm_state_close(w);
	vm_cpu_model(host.cpu_model);
	vm_state_put_host(vm_state_open(w, VM_STATE_HOST, 0), &host);
	vm_state_close(w);
}

/* Devices are read first, although they come last in the bytes: saving one may move an interrupt
 * line, and the controllers are to show that. */
static int put_machine_state(struct vm *vm, struct vm_state_wr *w, struct lb_buf *devices,
			     struct lb_err *err)
{
	struct lb_wr dev = lb_wr_init(devices->p, devices->cap);
	int rc = 0;

	if (!vm_board_save(&vm->board, &dev))
		return lb_err_set(err, LB_ENOMEM, 0, "state of the devices does not fit");
	for (unsigned i = 0; rc == 0 && i < vm->cfg.vcpus; i++) {
		rc = vm_x86_save_vcpu(&vm->x86, vm_state_open(w, VM_STATE_VCPU, i), vm->vcpus[i].fd,
				      err);
		vm_state_close(w);
	}
	if (rc == 0)
		rc = vm_x86_save_chips(&vm->x86, vm_state_open(w, VM_STATE_CHIPS, 0), vm->fd, err);
	vm_state_close(w);
	lb_wr_bytes(vm_state_open(w, VM_STATE_BOARD, 0), devices->p, dev.len);
	vm_state_close(w);
	return rc;
}

int vm_state_save(struct vm *vm, struct lb_buf **out, uint64_t seq, struct lb_err *err)
{
	struct lb_buf *buf = NULL, *devices = NULL;
	struct vm_state_wr w;
	uint64_t boot_ns = vm->env->now_ns(vm->env), wall_ns = vm->env->wall_ns(vm->env);
	int rc = lb_buf_create(&buf, VM_STATE_MAX_BYTES, err);

	if (rc == 0)
		rc = lb_buf_create(&devices, VM_STATE_MAX_BYTES / 2, err);
	if (rc != 0)
		goto out;
	vm_state_begin(&w, buf->p, buf->cap);
	put_head(vm, &w, seq, boot_ns, wall_ns);
	rc = put_machine_state(vm, &w, devices, err);
	if (rc != 0)
		goto out;
	buf->len = vm_state_end(&w);
	if (buf->len == 0) {
		rc = lb_err_set(err, LB_ENOMEM, 0, "state of the machine does not fit");
		goto out;
	}
	*out = buf;
	buf = NULL;
out:
	lb_buf_unref(buf);
	lb_buf_unref(devices);
	return rc;
}

/* ---- a cut ---- */

int vm_cut_hold(struct vm *vm, uint64_t limit_ns, struct lb_err *err)
{
	enum vm_state s = vm_state(vm);
	int rc = vm_cut_prepare(vm, err);

	if (rc != 0)
		return rc;
	if (s != VM_RUNNING && s != VM_PAUSED)
		return lb_err_set(err, LB_EINVAL, 0, "%s: a cut of a machine that does not run",
				  vm->name);
	if (vm->stage->held || vm->stage->open)
		return lb_err_set(err, LB_EINVAL, 0, "%s: a cut is open", vm->name);
	vm->stage->held_at_ns = vm->env->now_ns(vm->env);
	vm->stage->wall_ns = vm->env->wall_ns(vm->env);
	/* also of a paused machine: a reset that was asked for is not half done then */
	rc = vm_vcpus_park(vm, limit_ns, err);
	if (rc != 0 && s == VM_RUNNING)
		vm_vcpus_unpark(vm);
	if (rc != 0)
		return lb_err_wrap(err, rc, "%s: cut", vm->name);
	vm->stage->held = true;
	return 0;
}

static void fill_cut(struct vm_stage *st, struct vm_cut *out, uint64_t volume_bytes)
{
	uint64_t changed = 0;

	for (uint64_t w = 0; w < st->words; w++)
		changed += (uint64_t)__builtin_popcountll(st->changed[w]);
	*out = (struct vm_cut){
		.seq = st->seq,
		.boot_ns = st->held_at_ns,
		.wall_ns = st->wall_ns,
		.state = st->state,
		.ram_fd = st->fd,
		.ram_bytes = volume_bytes,
		.changed = st->kept_one ? st->changed : NULL,
		.all_changed = !st->kept_one,
		.changed_pages = st->kept_one ? changed : st->pages,
	};
}

int vm_cut_take(struct vm *vm, struct vm_cut *out, vm_cut_mark_fn mark, void *arg,
		struct lb_err *err)
{
	struct vm_stage *st = vm->stage;
	uint64_t copied = 0;
	int rc;

	if (st == NULL || !st->held || st->taken)
		return lb_err_set(err, LB_EINVAL, 0, "%s: no cut is held", vm->name);
	if (vm_state(vm) != VM_RUNNING && vm_state(vm) != VM_PAUSED)
		return lb_err_set(err, LB_EINVAL, 0, "%s: it ended before the cut", vm->name);
	vm_board_lock(&vm->board);
	rc = vm_state_save(vm, &st->state, st->seq + 1, err);
	if (rc == 0 && mark != NULL)
		rc = mark(arg, st->seq + 1, err);
	if (rc == 0)
		rc = harvest(vm, err);
	if (rc == 0)
		copied = copy_fresh(vm);
	vm_board_unlock(&vm->board);
	if (rc != 0) {
		lb_buf_unref(st->state);
		st->state = NULL;
		return lb_err_wrap(err, rc, "%s: cut", vm->name);
	}
	st->seq++;
	st->taken = true;
	atomic_store(&vm->dirty_last, copied);
	fill_cut(st, out, vm->mem.volume_bytes);
	return 0;
}

void vm_cut_resume(struct vm *vm, struct vm_cut *cut)
{
	struct vm_stage *st = vm->stage;
	uint64_t pause_ns;

	if (st == NULL || !st->held)
		return;
	if (vm_state(vm) != VM_PAUSED)
		vm_vcpus_unpark(vm);
	pause_ns = vm->env->now_ns(vm->env) - st->held_at_ns;
	atomic_store(&vm->pause_last_ns, pause_ns);
	if (pause_ns > atomic_load(&vm->pause_max_ns))
		atomic_store(&vm->pause_max_ns, pause_ns);
	if (cut != NULL)
		cut->pause_ns = pause_ns;
	st->held = false;
	st->open = st->taken;
	st->taken = false;
}

void vm_cut_end(struct vm *vm, bool kept)
{
	struct vm_stage *st = vm->stage;

	if (st == NULL || !st->open)
		return;
	st->open = false;
	lb_buf_unref(st->state);
	st->state = NULL;
	if (!kept)
		return;
	memset(st->changed, 0, st->words * sizeof(*st->changed));
	st->kept_one = true;
	atomic_fetch_add(&vm->cuts, 1);
}
