#include <string.h>

#include "base/rd.h"
#include "base/wr.h"
#include "vmcore/launch.h"

#define MAGIC  0x4c4d564cu /* "LVML" */
#define LAYOUT 1u
#define TWO_MB (UINT64_C(2) << 20)

enum flags {
	FLAG_ANNOUNCE = 1,
	FLAG_PAUSED = 2,
	FLAG_COMPLEMENT = 4,
	FLAGS_ALL = 7,
	DISK_OVERLAY = 1,
	DISK_READ_ONLY = 2,
};

static void put_disk(struct lb_wr *wr, const struct vm_launch_disk *d)
{
	lb_wr_u8(wr, (uint8_t)(d->bus + 1));
	lb_wr_u8(wr,
		 (uint8_t)((d->overlay ? DISK_OVERLAY : 0) | (d->read_only ? DISK_READ_ONLY : 0)));
	lb_wr_u64le(wr, d->size_bytes);
	lb_wr_hash(wr, &d->point);
	lb_wr_str16(wr, d->serial);
	lb_wr_str16(wr, d->label);
}

static void put_machine(struct lb_wr *wr, const struct vm_launch *l)
{
	lb_wr_str16(wr, l->name);
	lb_wr_id(wr, &l->uuid);
	lb_wr_u32le(wr, l->uid);
	lb_wr_u32le(wr, l->gid);
	lb_wr_u64le(wr, l->ram_bytes);
	lb_wr_u32le(wr, l->vcpus);
	lb_wr_u8(wr, (uint8_t)l->boot);
	lb_wr_str16(wr, l->cmdline);
	lb_wr_u8(wr, (uint8_t)(l->restore_mode + 1));
	lb_wr_u8(wr, (uint8_t)(l->clock + 1));
	lb_wr_u32le(wr,
		    (uint32_t)((l->announce ? FLAG_ANNOUNCE : 0) | (l->paused ? FLAG_PAUSED : 0) |
			       (l->complement ? FLAG_COMPLEMENT : 0)));
	lb_wr_u64le(wr, l->commit_bytes);
}

int vm_launch_encode(uint8_t *out, size_t cap, size_t *len, const struct vm_launch *l,
		     struct lb_err *err)
{
	struct lb_wr wr = lb_wr_init(out, cap);

	if (l->disks > VM_DISKS_MAX || l->nics > VM_NICS_MAX || l->fds > VM_CTL_FDS_MAX)
		return lb_err_set(err, LB_EINVAL, 0,
				  "launch with %u disks, %u NICs, %u descriptors", l->disks,
				  l->nics, l->fds);
	lb_wr_u32le(&wr, MAGIC);
	lb_wr_u32le(&wr, LAYOUT);
	put_machine(&wr, l);
	lb_wr_u32le(&wr, l->disks);
	for (uint32_t i = 0; i < l->disks; i++)
		put_disk(&wr, &l->disk[i]);
	lb_wr_u32le(&wr, l->nics);
	for (uint32_t i = 0; i < l->nics; i++) {
		lb_wr_bytes(&wr, l->nic[i].mac, sizeof(l->nic[i].mac));
		lb_wr_u8(&wr, l->nic[i].tap ? 1 : 0);
	}
	lb_wr_u32le(&wr, l->fds);
	for (uint32_t i = 0; i < l->fds; i++) {
		lb_wr_u32le(&wr, (uint32_t)l->fd[i].role);
		lb_wr_u32le(&wr, l->fd[i].index);
	}
	if (!lb_wr_done(&wr))
		return lb_err_set(err, LB_EINVAL, 0, "launch message does not fit %zu bytes", cap);
	*len = wr.len;
	return 0;
}

static uint8_t get_enum(struct lb_rd *rd, uint8_t last)
{
	uint8_t v = lb_rd_u8(rd);

	rd->bad = rd->bad || v < 1 || v > last + 1;
	return rd->bad ? 0 : (uint8_t)(v - 1);
}

static bool is_flag(struct lb_rd *rd)
{
	uint8_t v = lb_rd_u8(rd);

	rd->bad = rd->bad || v > 1;
	return v == 1;
}

static void get_disk(struct lb_rd *rd, struct vm_launch_disk *d)
{
	uint8_t flags;

	d->bus = (enum vm_disk_bus)get_enum(rd, VM_DISK_VIRTIO);
	flags = lb_rd_u8(rd);
	rd->bad = rd->bad || flags > DISK_READ_ONLY; /* both at once mean nothing */
	d->overlay = (flags & DISK_OVERLAY) != 0;
	d->read_only = (flags & DISK_READ_ONLY) != 0;
	d->size_bytes = lb_rd_u64le(rd);
	d->point = lb_rd_hash(rd);
	lb_rd_str16(rd, d->serial, sizeof(d->serial));
	lb_rd_str16(rd, d->label, sizeof(d->label));
}

static void get_machine(struct lb_rd *rd, struct vm_launch *l)
{
	uint32_t flags;

	lb_rd_str16(rd, l->name, sizeof(l->name));
	l->uuid = lb_rd_id(rd);
	l->uid = lb_rd_u32le(rd);
	l->gid = lb_rd_u32le(rd);
	l->ram_bytes = lb_rd_u64le(rd);
	l->vcpus = lb_rd_u32le(rd);
	l->boot = (enum vm_launch_boot)(get_enum(rd, VM_LAUNCH_RESTORE - 1) + 1);
	lb_rd_str16(rd, l->cmdline, sizeof(l->cmdline));
	l->restore_mode = (enum vm_restore_mode)get_enum(rd, VM_RESTORE_LAZY);
	l->clock = (enum vm_clock_policy)get_enum(rd, VM_CLOCK_FROZEN);
	flags = lb_rd_u32le(rd);
	rd->bad = rd->bad || (flags & ~(uint32_t)FLAGS_ALL) != 0;
	l->announce = (flags & FLAG_ANNOUNCE) != 0;
	l->paused = (flags & FLAG_PAUSED) != 0;
	l->complement = (flags & FLAG_COMPLEMENT) != 0;
	l->commit_bytes = lb_rd_u64le(rd);
}

static uint32_t get_count(struct lb_rd *rd, uint32_t max)
{
	uint32_t n = lb_rd_u32le(rd);

	rd->bad = rd->bad || n > max;
	return rd->bad ? 0 : n;
}

static bool role_known(uint32_t role, uint32_t index)
{
	switch ((enum vm_launch_role)role) {
	case VM_FD_LISTEN:
	case VM_FD_HEARTBEAT:
	case VM_FD_SERIAL_LOG:
	case VM_FD_ROOT:
	case VM_FD_BIOS:
	case VM_FD_VGA_BIOS:
	case VM_FD_KERNEL:
	case VM_FD_INITRD:
	case VM_FD_CPU:
	case VM_FD_STATE:
	case VM_FD_RAM:
	case VM_FD_ORDER:
		return index == 0;
	case VM_FD_DISK_DATA:
	case VM_FD_DISK_VIEW:
	case VM_FD_DISK_MAP:
	case VM_FD_DISK_LOG:
	case VM_FD_DISK_SIDE:
		return index < VM_DISKS_MAX;
	case VM_FD_TAP:
		return index < VM_NICS_MAX;
	}
	return false;
}

static void get_fds(struct lb_rd *rd, struct vm_launch *l)
{
	uint32_t n = get_count(rd, VM_CTL_FDS_MAX);

	for (uint32_t i = 0; i < n; i++) {
		uint32_t role = lb_rd_u32le(rd), index = lb_rd_u32le(rd);

		if (!role_known(role, index) ||
		    vm_launch_find(l, (enum vm_launch_role)role, index) >= 0) {
			rd->bad = true;
			return;
		}
		l->fd[l->fds++] =
			(struct vm_launch_fd){.role = (enum vm_launch_role)role, .index = index};
	}
}

int vm_launch_find(const struct vm_launch *l, enum vm_launch_role role, uint32_t index)
{
	for (uint32_t i = 0; i < l->fds; i++)
		if (l->fd[i].role == role && l->fd[i].index == index)
			return (int)i;
	return -1;
}

static int need(const struct vm_launch *l, enum vm_launch_role role, uint32_t index,
		const char *what, struct lb_err *err)
{
	if (vm_launch_find(l, role, index) >= 0)
		return 0;
	return lb_err_set(err, LB_EINPUT, 0, "launch of %s: no descriptor for its %s", l->name,
			  what);
}

static int check_fds(const struct vm_launch *l, struct lb_err *err)
{
	int rc = need(l, VM_FD_LISTEN, 0, "control socket", err);

	if (rc == 0 && l->boot == VM_LAUNCH_BIOS)
		rc = need(l, VM_FD_BIOS, 0, "firmware", err);
	if (rc == 0 && l->boot == VM_LAUNCH_LINUX)
		rc = need(l, VM_FD_KERNEL, 0, "kernel", err);
	if (rc == 0 && l->boot == VM_LAUNCH_RESTORE)
		rc = need(l, VM_FD_STATE, 0, "checkpoint", err);
	if (rc == 0 && l->boot == VM_LAUNCH_RESTORE)
		rc = need(l, VM_FD_RAM, 0, "memory", err);
	for (uint32_t i = 0; i < l->disks && rc == 0; i++) {
		rc = need(l, VM_FD_DISK_DATA, i, "disk", err);
		if (rc == 0 && l->disk[i].overlay)
			rc = need(l, VM_FD_DISK_VIEW, i, "disk's view", err);
		if (rc == 0 && l->disk[i].overlay)
			rc = need(l, VM_FD_DISK_MAP, i, "overlay's map", err);
	}
	for (uint32_t i = 0; i < l->nics && rc == 0; i++)
		if (l->nic[i].tap)
			rc = need(l, VM_FD_TAP, i, "tap", err);
	return rc;
}

static int check_sizes(const struct vm_launch *l, struct lb_err *err)
{
	if (l->vcpus < 1 || l->vcpus > VM_VCPUS_MAX)
		return lb_err_set(err, LB_EINPUT, 0, "launch of %s: %u processors, 1 to %d",
				  l->name, l->vcpus, VM_VCPUS_MAX);
	if (l->ram_bytes == 0 || l->ram_bytes % TWO_MB != 0)
		return lb_err_set(err, LB_EINPUT, 0,
				  "launch of %s: memory is not a multiple of 2 MiB", l->name);
	if (l->boot == VM_LAUNCH_RESTORE && l->restore_mode == VM_RESTORE_MAPPED)
		return lb_err_set(err, LB_EINPUT, 0, "launch of %s: eager or lazy restore",
				  l->name);
	for (uint32_t i = 0; i < l->disks; i++)
		if (l->disk[i].size_bytes == 0 || l->disk[i].size_bytes % 512 != 0)
			return lb_err_set(err, LB_EINPUT, 0,
					  "launch of %s: disk %u is no whole sectors", l->name, i);
	return 0;
}

int vm_launch_decode(struct vm_launch *out, const void *p, size_t len, struct lb_err *err)
{
	struct lb_rd rd = lb_rd_init(p, len);
	uint32_t magic = lb_rd_u32le(&rd), layout = lb_rd_u32le(&rd);
	int rc;

	memset(out, 0, sizeof(*out));
	if (rd.bad || magic != MAGIC)
		return lb_err_set(err, LB_EPROTO, 0, "%zu bytes that are no launch message", len);
	if (layout != LAYOUT)
		return lb_err_set(err, LB_EVERSION, 0, "launch message of layout %u", layout);
	get_machine(&rd, out);
	out->disks = get_count(&rd, VM_DISKS_MAX);
	for (uint32_t i = 0; i < out->disks; i++)
		get_disk(&rd, &out->disk[i]);
	out->nics = get_count(&rd, VM_NICS_MAX);
	for (uint32_t i = 0; i < out->nics; i++) {
		lb_rd_copy(&rd, out->nic[i].mac, sizeof(out->nic[i].mac));
		out->nic[i].tap = is_flag(&rd);
	}
	get_fds(&rd, out);
	if (!lb_rd_done(&rd))
		return lb_err_set(err, LB_EPROTO, 0, "launch message of %zu bytes is malformed",
				  len);
	rc = check_sizes(out, err);
	return rc != 0 ? rc : check_fds(out, err);
}
