#include "machine.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/env.h"
#include "base/err.h"
#include "base/rd.h"
#include "hub.h"
#include "imaging/cut.h"
#include "imaging/dev.h"
#include "imaging/extmap.h"
#include "vmcore/cut.h"
#include "vmcore/host.h"
#include "vmcore/net.h"
#include "vmcore/vm.h"

#define STATE_MAX (64u << 20)
#define ORDER_MAX (1u << 20)

/* The descriptor for @role, still the machine's; -1: none. */
static int fd_of(const struct vm_machine *m, enum vm_launch_role role, uint32_t index)
{
	int at = vm_launch_find(&m->l, role, index);

	return at >= 0 ? m->fd[at] : -1;
}

/* It belongs to what was made of it now. */
static void taken(struct vm_machine *m, enum vm_launch_role role, uint32_t index)
{
	m->fd[vm_launch_find(&m->l, role, index)] = -1;
}

/* ---- disks ---- */

static int file_dev(struct vm_machine *m, enum vm_launch_role role, uint32_t i, bool writable,
		    struct img_dev **out, struct lb_err *err)
{
	int rc = img_file_create_fd(out, fd_of(m, role, i), m->l.disk[i].label, writable, err);

	if (rc == 0)
		taken(m, role, i);
	return rc;
}

static int overlay_disk(struct vm_machine *m, uint32_t i, struct lb_err *err)
{
	const struct vm_launch_disk *d = &m->l.disk[i];
	int rc = img_nbd_create_fd(&m->view[i], fd_of(m, VM_FD_DISK_VIEW, i), "", d->label, err);

	if (rc != 0)
		return rc;
	taken(m, VM_FD_DISK_VIEW, i);
	rc = file_dev(m, VM_FD_DISK_MAP, i, true, &m->map[i], err);
	if (rc == 0)
		rc = img_kept_create(&m->disk[i], m->view[i], m->base[i], m->map[i], &d->point,
				     err);
	return rc;
}

/* With a side store the disk can be cut. */
static int make_cuttable(struct vm_machine *m, uint32_t i, struct lb_err *err)
{
	struct img_cut_cfg cfg = {.lower = m->disk[i]};
	int rc;

	if (fd_of(m, VM_FD_DISK_SIDE, i) < 0)
		return 0;
	rc = file_dev(m, VM_FD_DISK_SIDE, i, true, &m->side[i], err);
	if (rc == 0 && fd_of(m, VM_FD_DISK_LOG, i) >= 0)
		rc = file_dev(m, VM_FD_DISK_LOG, i, true, &m->log[i], err);
	cfg.side = m->side[i];
	cfg.log = m->log[i];
	return rc == 0 ? img_cut_create(&m->cut[i], &cfg, err) : rc;
}

static int build_disk(struct vm_machine *m, uint32_t i, struct lb_err *err)
{
	const struct vm_launch_disk *d = &m->l.disk[i];
	int rc = file_dev(m, VM_FD_DISK_DATA, i, !d->read_only, &m->base[i], err);

	if (rc == 0 && d->overlay)
		rc = overlay_disk(m, i, err);
	else if (rc == 0)
		m->disk[i] = m->base[i];
	if (rc == 0 && m->disk[i]->size_bytes != d->size_bytes)
		rc = lb_err_set(err, LB_EINPUT, 0, "it has %" PRIu64 " bytes, not %" PRIu64,
				m->disk[i]->size_bytes, d->size_bytes);
	if (rc == 0)
		rc = make_cuttable(m, i, err);
	return rc != 0 ? lb_err_wrap(err, rc, "disk %s", d->label) : 0;
}

static void drop_disk(struct vm_machine *m, uint32_t i)
{
	img_dev_destroy(m->cut[i]);
	img_dev_destroy(m->log[i]);
	img_dev_destroy(m->side[i]);
	if (m->disk[i] != m->base[i])
		img_dev_destroy(m->disk[i]);
	img_dev_destroy(m->map[i]);
	img_dev_destroy(m->base[i]);
	img_dev_destroy(m->view[i]);
}

/* ---- NICs ---- */

static int build_nic(struct vm_machine *m, uint32_t i, struct lb_err *err)
{
	int rc = m->l.nic[i].tap ? vm_net_tap(&m->net[i], fd_of(m, VM_FD_TAP, i), err)
				 : vm_net_null(&m->net[i], err);

	if (rc == 0 && m->l.nic[i].tap)
		taken(m, VM_FD_TAP, i);
	if (rc == 0 && m->l.commit_bytes > 0)
		rc = vm_net_hold(&m->hold[i], m->net[i], m->l.commit_bytes, err);
	return rc != 0 ? lb_err_wrap(err, rc, "NIC %u", i) : 0;
}

/* ---- checkpoint ---- */

static int read_fd(int fd, size_t max, uint8_t **out, size_t *len, const char *what,
		   struct lb_err *err)
{
	struct stat st;
	uint8_t *p;

	if (fstat(fd, &st) != 0 || st.st_size <= 0 || (uint64_t)st.st_size > max)
		return lb_err_set(err, LB_EINPUT, 0, "%s is empty or larger than %zu bytes", what,
				  max);
	p = malloc((size_t)st.st_size);
	if (p == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "%s", what);
	if (pread(fd, p, (size_t)st.st_size, 0) != st.st_size) {
		free(p);
		return lb_err_set(err, LB_EIO, errno, "read the %s", what);
	}
	*out = p;
	*len = (size_t)st.st_size;
	return 0;
}

static int read_order(struct vm_machine *m, struct vm_restore *r, struct lb_err *err)
{
	int fd = fd_of(m, VM_FD_ORDER, 0);
	uint8_t *bytes = NULL;
	size_t len = 0;
	struct lb_rd rd;
	int rc;

	if (fd < 0)
		return 0;
	rc = read_fd(fd, ORDER_MAX * sizeof(uint32_t), &bytes, &len, "order of first touch", err);
	if (rc != 0)
		return rc;
	r->order_count = len / sizeof(uint32_t);
	m->order = calloc(r->order_count + 1, sizeof(*m->order));
	if (m->order == NULL)
		rc = lb_err_set(err, LB_ENOMEM, 0, "order of first touch");
	rd = lb_rd_init(bytes, len);
	for (size_t i = 0; rc == 0 && i < r->order_count; i++)
		m->order[i] = lb_rd_u32le(&rd);
	r->order = m->order;
	free(bytes);
	return rc;
}

/* The agent said how the machine is built, the checkpoint says it too: they must agree, or the
 * guest would find other hardware than it left. */
static int compare(const struct vm_machine *m, const struct vm_state_info *s, struct lb_err *err)
{
	const struct vm_launch *l = &m->l;

	if (s->ram_bytes != l->ram_bytes || s->vcpus != l->vcpus || s->disks != l->disks ||
	    s->nics != l->nics)
		return lb_err_set(err, LB_EINPUT, 0,
				  "checkpoint is of a machine with %" PRIu64
				  " MiB, %u processors, %zu disks, %zu NICs",
				  s->ram_bytes >> 20, s->vcpus, s->disks, s->nics);
	for (uint32_t i = 0; i < l->disks; i++)
		if (s->bus[i] != l->disk[i].bus || s->disk_bytes[i] != l->disk[i].size_bytes)
			return lb_err_set(err, LB_EINPUT, 0,
					  "checkpoint has another disk %s (bus or size)",
					  l->disk[i].label);
	for (uint32_t i = 0; i < l->nics; i++)
		if (memcmp(s->mac[i], l->nic[i].mac, sizeof(s->mac[i])) != 0)
			return lb_err_set(err, LB_EINPUT, 0,
					  "checkpoint has another address of NIC %u", i);
	return 0;
}

static int read_checkpoint(struct vm_machine *m, struct vm_restore *r, struct vm_state_info *info,
			   struct lb_err *err)
{
	int rc = read_fd(fd_of(m, VM_FD_STATE, 0), STATE_MAX, &m->state, &m->state_bytes,
			 "checkpoint", err);

	if (rc == 0)
		rc = vm_state_peek(info, m->state, m->state_bytes, err);
	if (rc == 0)
		rc = compare(m, info, err);
	if (rc == 0)
		rc = img_nbd_create_fd(&m->ram, fd_of(m, VM_FD_RAM, 0), "", "memory", err);
	if (rc != 0)
		return rc;
	taken(m, VM_FD_RAM, 0);
	r->state = m->state;
	r->state_bytes = m->state_bytes;
	r->mode = m->l.restore_mode;
	r->ram = m->ram;
	r->ram_fd = -1;
	r->clock = m->l.clock;
	return read_order(m, r, err);
}

/* ---- processor ---- */

/* A machine that goes on from a checkpoint has that one's. */
static int read_cpu(struct vm_machine *m, struct vm_cpu *out, bool *there, struct lb_err *err)
{
	int fd = fd_of(m, VM_FD_CPU, 0), rc;
	uint8_t *bytes = NULL;
	size_t len = 0;

	*there = fd >= 0;
	if (fd < 0)
		return 0;
	rc = read_fd(fd, VM_CPU_MAX_BYTES, &bytes, &len, "CPU template", err);
	if (rc == 0)
		rc = vm_cpu_decode(out, bytes, len, err);
	free(bytes);
	return rc;
}

/* ---- the machine ---- */

static int create_vm(struct vm_machine *m, struct vm_hub *hub, struct lb_err *err)
{
	struct vm_disk_cfg disk[VM_DISKS_MAX] = {0};
	struct vm_nic_cfg nic[VM_NICS_MAX] = {0};
	struct vm_restore restore = {0};
	struct vm_state_info *info = calloc(1, sizeof(*info));
	struct vm_cfg cfg = VM_CFG_DEFAULTS;
	int rc = info == NULL ? lb_err_set(err, LB_ENOMEM, 0, "machine") : 0;

	if (rc == 0 && m->l.boot == VM_LAUNCH_RESTORE) {
		rc = read_checkpoint(m, &restore, info, err);
		cfg.restore = &restore;
		cfg.cpu = &info->cpu;
	} else if (rc == 0) {
		bool there;

		rc = read_cpu(m, &info->cpu, &there, err);
		cfg.cpu = there ? &info->cpu : NULL;
		cfg.bios_fd = fd_of(m, VM_FD_BIOS, 0);
		cfg.vga_bios_fd = fd_of(m, VM_FD_VGA_BIOS, 0);
	}
	/* of a restored machine: what a reset starts */
	cfg.kernel_fd = fd_of(m, VM_FD_KERNEL, 0);
	cfg.initrd_fd = fd_of(m, VM_FD_INITRD, 0);
	cfg.cmdline = m->l.cmdline;
	for (uint32_t i = 0; i < m->l.disks; i++) {
		disk[i].dev = m->cut[i] != NULL ? m->cut[i] : m->disk[i];
		disk[i].bus = m->l.disk[i].bus;
		memcpy(disk[i].serial, m->l.disk[i].serial, sizeof(disk[i].serial));
	}
	for (uint32_t i = 0; i < m->l.nics; i++) {
		memcpy(nic[i].mac, m->l.nic[i].mac, sizeof(nic[i].mac));
		nic[i].net = m->hold[i] != NULL ? m->hold[i] : m->net[i];
	}
	cfg.name = m->l.name;
	cfg.uuid = m->l.uuid;
	cfg.ram_bytes = m->l.ram_bytes;
	cfg.vcpus = m->l.vcpus;
	cfg.disks = disk;
	cfg.disk_count = m->l.disks;
	cfg.nics = nic;
	cfg.nic_count = m->l.nics;
	cfg.complement = m->l.complement;
	cfg.kvm_fd = m->kvm_fd;
	cfg.uffd = m->uffd;
	cfg.on_event = vm_hub_on_event;
	cfg.arg = hub;
	if (rc == 0)
		rc = vm_create(&m->vm, lb_env_real(), &cfg, err);
	free(info);
	return rc;
}

static void drop_fd(int *fd)
{
	if (*fd >= 0)
		(void)close(*fd);
	*fd = -1;
}

int vm_machine_build(struct vm_machine *m, struct vm_hub *hub, struct lb_err *err)
{
	struct lb_env *env = lb_env_real();
	int rc = 0;

	m->started_boot_ns = env->now_ns(env);
	for (uint32_t i = 0; i < m->l.disks && rc == 0; i++)
		rc = build_disk(m, i, err);
	for (uint32_t i = 0; i < m->l.nics && rc == 0; i++)
		rc = build_nic(m, i, err);
	if (rc == 0)
		rc = create_vm(m, hub, err);
	drop_fd(&m->kvm_fd); /* the machine has its own */
	drop_fd(&m->uffd);
	return rc != 0 ? lb_err_wrap(err, rc, "machine %s", m->l.name) : 0;
}

int vm_machine_start(struct vm_machine *m, struct lb_err *err)
{
	int rc = vm_start(m->vm, err);

	for (uint32_t i = 0; rc == 0 && m->l.announce && i < m->l.nics; i++)
		if (m->l.nic[i].tap)
			vm_net_announce(m->net[i], m->l.nic[i].mac);
	return rc;
}

void vm_machine_fini(struct vm_machine *m)
{
	vm_destroy(m->vm);
	for (uint32_t i = 0; i < m->l.nics; i++) {
		vm_net_destroy(m->hold[i]);
		vm_net_destroy(m->net[i]);
	}
	for (uint32_t i = 0; i < m->l.disks; i++)
		drop_disk(m, i);
	img_dev_destroy(m->ram);
	free(m->state);
	free(m->order);
	drop_fd(&m->kvm_fd);
	drop_fd(&m->uffd);
	for (uint32_t i = 0; i < m->l.fds; i++)
		drop_fd(&m->fd[i]);
}

/* ---- cuts of disks ---- */

static int need_cut(const struct vm_machine *m, uint32_t i, struct lb_err *err)
{
	return m->cut[i] != NULL ? 0
				 : lb_err_set(err, LB_EUNSUPPORTED, 0,
					      "disk %s was not started with room for cuts",
					      m->l.disk[i].label);
}

int vm_machine_mark(void *arg, uint64_t seq, struct lb_err *err)
{
	struct vm_machine *m = arg;
	int rc = 0;

	for (uint32_t i = 0; i < m->l.disks && rc == 0; i++) {
		rc = need_cut(m, i, err);
		if (rc == 0)
			rc = img_cut_mark(m->cut[i], err);
	}
	for (uint32_t i = 0; i < m->l.nics && rc == 0; i++)
		if (m->hold[i] != NULL)
			vm_net_hold_cut(m->hold[i], seq);
	if (rc != 0)
		vm_machine_cut_end(m, false, NULL);
	return rc;
}

int vm_machine_read(struct vm_machine *m, uint32_t i, void *buf, uint32_t len, uint64_t off,
		    struct lb_err *err)
{
	struct img_dev *view = NULL;
	int rc = need_cut(m, i, err);

	if (rc == 0)
		rc = img_cut_view(m->cut[i], &view, err);
	return rc == 0 ? img_pread(view, buf, len, off, err) : rc;
}

static void set_run(uint8_t *map, uint64_t blocks, const struct img_run *run)
{
	for (uint64_t b = run->start; b < run->start + run->count && b < blocks; b++)
		map[b / 8] |= (uint8_t)(1u << (b % 8));
}

int vm_machine_changed(struct vm_machine *m, uint32_t i, uint8_t **map, uint64_t *bytes,
		       struct lb_hash *base, struct lb_err *err)
{
	uint64_t blocks = (m->l.disk[i].size_bytes + 4095) / 4096;
	const struct img_extmap *changed = NULL;
	int rc = need_cut(m, i, err);

	*map = NULL;
	*bytes = 0;
	*base = (struct lb_hash){{0}};
	if (rc == 0)
		rc = img_cut_changed(m->cut[i], &changed, err);
	if (rc != 0 || changed == NULL)
		return rc;
	(void)img_cut_log(m->cut[i], base);
	*map = calloc(1, (blocks + 7) / 8);
	if (*map == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "map of the changes of disk %s",
				  m->l.disk[i].label);
	*bytes = (blocks + 7) / 8;
	for (size_t r = 0; r < img_extmap_count(changed); r++)
		set_run(*map, blocks, &img_extmap_runs(changed)[r]);
	return 0;
}

int vm_machine_check(struct vm_machine *m, struct lb_err *err)
{
	int rc = 0;

	for (uint32_t i = 0; i < m->l.disks && rc == 0; i++)
		if (m->cut[i] != NULL)
			rc = img_cut_check(m->cut[i], err);
	return rc;
}

void vm_machine_cut_end(struct vm_machine *m, bool kept, const struct lb_hash *base)
{
	for (uint32_t i = 0; i < m->l.disks; i++)
		if (m->cut[i] != NULL)
			img_cut_release(m->cut[i], kept, base);
}
