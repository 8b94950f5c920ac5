#include "x86_state.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/kvm.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/err.h"
#include "kvm.h"

#define MSR_TSC          0x10u
#define MSR_TSC_DEADLINE 0x6e0u

/* The largest of KVM's fixed structures here. */
#define ITEM_MAX_BYTES 2048u

/* struct kvm_msrs with room for one */
struct msr_page {
	uint32_t nmsrs, pad;
	struct kvm_msr_entry one;
};

static bool msr_known(const struct vm_x86 *x, uint32_t index)
{
	for (uint32_t i = 0; i < x->msr_count; i++)
		if (x->msrs[i] == index)
			return true;
	return false;
}

/* Which memory may be cached, as firmware and kernel set it. KVM keeps these for its guests but
 * does not list them. [Intel SDM vol. 3A, 12.11: 8 pairs of base and mask, the fixed ranges, the
 * default]
 */
static void add_mtrrs(struct vm_x86 *x)
{
	static const struct {
		uint32_t first, count;
	} runs[] = {{0x200, 16}, {0x250, 1}, {0x258, 2}, {0x268, 8}, {0x2ff, 1}};

	for (size_t r = 0; r < sizeof(runs) / sizeof(runs[0]); r++)
		for (uint32_t i = runs[r].first; i < runs[r].first + runs[r].count; i++)
			if (x->msr_count < VM_MSRS_MAX && !msr_known(x, i))
				x->msrs[x->msr_count++] = i;
}

int vm_x86_init(struct vm_x86 *x, int kvm_fd, int vm_fd, bool pit, struct lb_err *err)
{
	struct { /* struct kvm_msr_list with its room */
		uint32_t nmsrs;
		uint32_t index[VM_MSRS_MAX];
	} list = {.nmsrs = VM_MSRS_MAX};
	int xsave = vm_kvm_cap(vm_fd, KVM_CAP_XSAVE2);
	int rc = VM_KVM(kvm_fd, KVM_GET_MSR_INDEX_LIST, &list, err);

	if (rc < 0)
		return rc;
	if (xsave > VM_XSAVE_MAX_BYTES)
		return lb_err_set(err, LB_EUNSUPPORTED, 0, "XSAVE area of %d bytes", xsave);
	*x = (struct vm_x86){
		.msr_count = list.nmsrs,
		.xsave_bytes = xsave < (int)sizeof(struct kvm_xsave) ? sizeof(struct kvm_xsave)
								     : (uint32_t)xsave,
		.pit = pit,
	};
	memcpy(x->msrs, list.index, list.nmsrs * sizeof(x->msrs[0]));
	add_mtrrs(x);
	return 0;
}

/* ---- one structure of KVM, with its length before it ---- */

static void put(struct lb_wr *wr, const void *p, uint32_t len)
{
	lb_wr_u32le(wr, len);
	lb_wr_bytes(wr, p, len);
}

static int get(struct lb_rd *rd, void *p, uint32_t len, const char *name, struct lb_err *err)
{
	uint32_t have = lb_rd_u32le(rd);

	if (rd->bad || have != len)
		return lb_err_set(err, LB_ECORRUPT, 0, "%s: length %" PRIu32 ", expected %" PRIu32,
				  name, have, len);
	lb_rd_copy(rd, p, len);
	if (rd->bad)
		return lb_err_set(err, LB_ECORRUPT, 0, "%s: cut short", name);
	return 0;
}

struct item {
	unsigned long save, load;
	uint32_t len;
	const char *name;
};

static int save_item(struct lb_wr *wr, int fd, const struct item *it, struct lb_err *err)
{
	uint8_t buf[ITEM_MAX_BYTES] = {0};
	int rc = vm_kvm_call(fd, it->save, buf, it->name, err);

	if (rc < 0)
		return rc;
	put(wr, buf, it->len);
	return 0;
}

/* What KVM does not take was not made by a KVM, or by one that could do more than this one. */
static int refused(int rc, struct lb_err *err)
{
	if (rc == LB_ENOMEM)
		return rc;
	if (err != NULL)
		err->code = LB_EUNSUPPORTED;
	return lb_err_wrap(err, LB_EUNSUPPORTED, "this KVM refuses the saved state");
}

static int load_item(struct lb_rd *rd, int fd, const struct item *it, struct lb_err *err)
{
	uint8_t buf[ITEM_MAX_BYTES];
	int rc = get(rd, buf, it->len, it->name, err);

	if (rc != 0)
		return rc;
	rc = vm_kvm_call(fd, it->load, buf, it->name, err);
	return rc < 0 ? refused(rc, err) : 0;
}

/* The name is that of the structure: a refused load and a refused save differ in their context. */
#define ITEM(what, type)                                                   \
	{                                                                  \
		KVM_GET_##what, KVM_SET_##what, sizeof(struct type), #what \
	}

/* ---- XSAVE ---- */

static int save_xsave(const struct vm_x86 *x, struct lb_wr *wr, int fd, struct lb_err *err)
{
	uint8_t *buf = calloc(1, x->xsave_bytes);
	bool two = x->xsave_bytes > sizeof(struct kvm_xsave);
	int rc;

	if (buf == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "XSAVE area");
	rc = two ? VM_KVM(fd, KVM_GET_XSAVE2, buf, err) : VM_KVM(fd, KVM_GET_XSAVE, buf, err);
	if (rc >= 0)
		put(wr, buf, x->xsave_bytes);
	free(buf);
	return rc < 0 ? rc : 0;
}

static int load_xsave(const struct vm_x86 *x, struct lb_rd *rd, int fd, struct lb_err *err)
{
	uint32_t len = lb_rd_u32le(rd);
	const uint8_t *p = len <= VM_XSAVE_MAX_BYTES ? lb_rd_bytes(rd, len) : NULL;
	uint8_t *buf;
	int rc;

	if (p == NULL)
		return lb_err_set(err, LB_ECORRUPT, 0, "XSAVE: length %" PRIu32, len);
	if (len > x->xsave_bytes)
		return lb_err_set(err, LB_EUNSUPPORTED, 0,
				  "XSAVE area of %" PRIu32 " bytes, this KVM's has %" PRIu32, len,
				  x->xsave_bytes);
	buf = calloc(1, x->xsave_bytes);
	if (buf == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "XSAVE area");
	memcpy(buf, p, len);
	rc = VM_KVM(fd, KVM_SET_XSAVE, buf, err);
	free(buf);
	return rc < 0 ? refused(rc, err) : 0;
}

/* ---- MSRs ---- */

/* All in one call, which stops at the first one that cannot be read: KVM lists some that this
 * processor has not. Those are left out, the rest is read on behind them. */
static int save_msrs(const struct vm_x86 *x, struct lb_wr *wr, int fd, struct lb_err *err)
{
	struct {
		uint32_t nmsrs, pad;
		struct kvm_msr_entry entry[VM_MSRS_MAX];
	} m = {0};
	struct lb_wr count;
	uint32_t saved = 0;
	size_t at = wr->len;

	lb_wr_u32le(wr, 0);
	for (uint32_t from = 0; from < x->msr_count; from++) {
		int rc;

		m.nmsrs = x->msr_count - from;
		for (uint32_t i = 0; i < m.nmsrs; i++)
			m.entry[i] = (struct kvm_msr_entry){.index = x->msrs[from + i]};
		rc = VM_KVM(fd, KVM_GET_MSRS, &m, err);
		if (rc < 0)
			return rc;
		for (uint32_t i = 0; i < (uint32_t)rc && i < m.nmsrs; i++) {
			lb_wr_u32le(wr, m.entry[i].index);
			lb_wr_u64le(wr, m.entry[i].data);
		}
		saved += (uint32_t)rc;
		from += (uint32_t)rc; /* and past the one that stopped it */
	}
	if (wr->bad)
		return 0; /* said by the caller */
	count = lb_wr_init(wr->p + at, sizeof(saved));
	lb_wr_u32le(&count, saved);
	return 0;
}

static int set_msr(const struct vm_x86 *x, int fd, uint32_t index, uint64_t value,
		   struct lb_err *err)
{
	struct msr_page m = {.nmsrs = 1, .one = {.index = index, .data = value}};
	int rc = 0;

	if (msr_known(x, index)) {
		rc = VM_KVM(fd, KVM_SET_MSRS, &m, err);
		if (rc < 0)
			return rc;
	}
	/* One that is not there reads as zero: a zero is kept by doing nothing. */
	if (rc == 1 || value == 0)
		return 0;
	return lb_err_set(err, LB_EUNSUPPORTED, 0,
			  "MSR 0x%" PRIx32 ": this KVM does not take 0x%" PRIx64, index, value);
}

static uint64_t tsc_after(const struct vm_x86 *x, uint64_t tsc, struct vm_x86_shift shift)
{
	return tsc + (uint64_t)((unsigned __int128)shift.ns * x->tsc_khz / 1000000);
}

static int load_msrs(const struct vm_x86 *x, struct lb_rd *rd, int fd, struct vm_x86_shift shift,
		     struct lb_err *err)
{
	uint32_t count = lb_rd_u32le(rd);
	uint64_t deadline = 0;
	int rc = 0;

	if (rd->bad || count > VM_MSRS_MAX)
		return lb_err_set(err, LB_ECORRUPT, 0, "MSRS: count %" PRIu32, count);
	for (uint32_t i = 0; rc == 0 && i < count; i++) {
		uint32_t index = lb_rd_u32le(rd);
		uint64_t value = lb_rd_u64le(rd);

		if (rd->bad)
			return lb_err_set(err, LB_ECORRUPT, 0, "MSRS: cut short");
		if (index == MSR_TSC)
			value = tsc_after(x, value, shift);
		if (index == MSR_TSC_DEADLINE)
			deadline = value;
		else
			rc = set_msr(x, fd, index, value, err);
	}
	/* Its timer is armed against the TSC, which has to be right by then. */
	if (rc == 0 && deadline != 0)
		rc = set_msr(x, fd, MSR_TSC_DEADLINE, deadline, err);
	return rc;
}

/* ---- vCPU ---- */

/* What is put back in the order it was taken in: MSRs and events last, they depend on the rest. */
static const struct item before_xsave[] = {
	ITEM(MP_STATE, kvm_mp_state),
	ITEM(REGS, kvm_regs),
	ITEM(SREGS2, kvm_sregs2),
};
static const struct item after_xsave[] = {
	ITEM(XCRS, kvm_xcrs),
	ITEM(DEBUGREGS, kvm_debugregs),
	ITEM(LAPIC, kvm_lapic_state),
};
static const struct item events = ITEM(VCPU_EVENTS, kvm_vcpu_events);

int vm_x86_save_vcpu(const struct vm_x86 *x, struct lb_wr *wr, int vcpu_fd, struct lb_err *err)
{
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < sizeof(before_xsave) / sizeof(before_xsave[0]); i++)
		rc = save_item(wr, vcpu_fd, &before_xsave[i], err);
	if (rc == 0)
		rc = save_xsave(x, wr, vcpu_fd, err);
	for (size_t i = 0; rc == 0 && i < sizeof(after_xsave) / sizeof(after_xsave[0]); i++)
		rc = save_item(wr, vcpu_fd, &after_xsave[i], err);
	if (rc == 0)
		rc = save_msrs(x, wr, vcpu_fd, err);
	if (rc == 0)
		rc = save_item(wr, vcpu_fd, &events, err);
	if (rc == 0 && wr->bad)
		return lb_err_set(err, LB_ENOMEM, 0, "processor state does not fit");
	return rc;
}

int vm_x86_load_vcpu(const struct vm_x86 *x, struct lb_rd *rd, int vcpu_fd,
		     struct vm_x86_shift shift, struct lb_err *err)
{
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < sizeof(before_xsave) / sizeof(before_xsave[0]); i++)
		rc = load_item(rd, vcpu_fd, &before_xsave[i], err);
	if (rc == 0)
		rc = load_xsave(x, rd, vcpu_fd, err);
	for (size_t i = 0; rc == 0 && i < sizeof(after_xsave) / sizeof(after_xsave[0]); i++)
		rc = load_item(rd, vcpu_fd, &after_xsave[i], err);
	if (rc == 0)
		rc = load_msrs(x, rd, vcpu_fd, shift, err);
	if (rc == 0)
		rc = load_item(rd, vcpu_fd, &events, err);
	return rc;
}

void vm_x86_was_stopped(int vcpu_fd)
{
	/* EINVAL: this vCPU has no kvmclock page. */
	(void)ioctl(vcpu_fd, KVM_KVMCLOCK_CTRL, 0);
}

/* ---- chips ---- */

static int save_clock(struct lb_wr *wr, int vm_fd, struct lb_err *err)
{
	struct kvm_clock_data c = {0};
	int rc = VM_KVM(vm_fd, KVM_GET_CLOCK, &c, err);

	if (rc < 0)
		return rc;
	lb_wr_u64le(wr, c.clock);
	return 0;
}

static int load_clock(struct lb_rd *rd, int vm_fd, struct vm_x86_shift shift, struct lb_err *err)
{
	struct kvm_clock_data c = {.clock = lb_rd_u64le(rd) + shift.ns};
	int rc;

	if (rd->bad)
		return lb_err_set(err, LB_ECORRUPT, 0, "CLOCK: cut short");
	rc = VM_KVM(vm_fd, KVM_SET_CLOCK, &c, err);
	return rc < 0 ? refused(rc, err) : 0;
}

static const struct item pit = {KVM_GET_PIT2, KVM_SET_PIT2, sizeof(struct kvm_pit_state2), "PIT2"};

int vm_x86_save_chips(const struct vm_x86 *x, struct lb_wr *wr, int vm_fd, struct lb_err *err)
{
	int rc = 0;

	for (uint32_t id = 0; rc >= 0 && id < 3; id++) {
		struct kvm_irqchip chip = {.chip_id = id};

		rc = VM_KVM(vm_fd, KVM_GET_IRQCHIP, &chip, err);
		if (rc >= 0)
			put(wr, &chip.chip, sizeof(chip.chip));
	}
	lb_wr_u32le(wr, x->pit ? 1 : 0);
	if (rc >= 0 && x->pit)
		rc = save_item(wr, vm_fd, &pit, err);
	if (rc >= 0)
		rc = save_clock(wr, vm_fd, err);
	if (rc >= 0 && wr->bad)
		return lb_err_set(err, LB_ENOMEM, 0, "interrupt controllers do not fit");
	return rc < 0 ? rc : 0;
}

int vm_x86_load_chips(const struct vm_x86 *x, struct lb_rd *rd, int vm_fd,
		      struct vm_x86_shift shift, struct lb_err *err)
{
	int rc = 0;

	for (uint32_t id = 0; rc == 0 && id < 3; id++) {
		struct kvm_irqchip chip = {.chip_id = id};

		rc = get(rd, &chip.chip, sizeof(chip.chip), "IRQCHIP", err);
		if (rc == 0) {
			rc = VM_KVM(vm_fd, KVM_SET_IRQCHIP, &chip, err);
			rc = rc < 0 ? refused(rc, err) : 0;
		}
	}
	if (rc == 0 && lb_rd_u32le(rd) != (x->pit ? 1 : 0))
		return lb_err_set(err, LB_EUNSUPPORTED, 0, "PIT: another kind than this machine's");
	if (rc == 0 && x->pit)
		rc = load_item(rd, vm_fd, &pit, err);
	if (rc == 0)
		rc = load_clock(rd, vm_fd, shift, err);
	return rc;
}
