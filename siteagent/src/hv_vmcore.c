/*
 * The vmcore boot driver: one lifeboat-vm process a machine (vmrun_int.h).
 *
 *   (nothing) ──[prepare: empty overlays]──► OFF ──[start: launch]──► RUNNING ◄──► PAUSED
 *                                             ▲                          │
 *                                             └── guest off, stop, died ─┘
 *
 * A machine that is off and has overlays is started again from them, cold: it goes on with what it
 * had written. Memory of a point is used at the first start only, in the process that prepared it.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "hv_int.h"
#include "proc_int.h"
#include "vmdesc_int.h"
#include "vmrun_int.h"

#define PAUSE_NS (20ull * 1000000000u)

struct vmcore_machine {
	struct sa_vmdesc desc;
	struct sa_vmrun_disk disk[VM_DISKS_MAX];
	char *view[VM_DISKS_MAX];
	char *ram_socket;
	uint8_t *state; /* NULL: cold */
	size_t state_bytes;
	uint8_t *order; /* NULL: none is known */
	size_t order_bytes;
	bool drill;
};

static void vm_drop(struct sa_hv_machine *m)
{
	struct vmcore_machine *v = m->own;

	if (v == NULL)
		return;
	for (size_t i = 0; i < VM_DISKS_MAX; i++)
		free(v->view[i]);
	free(v->ram_socket);
	free(v->state);
	free(v->order);
	free(v);
	m->own = NULL;
}

static const struct sa_hv_disk *disk_named(const struct sa_hv_boot_cfg *cfg, const char *name)
{
	for (size_t i = 0; i < cfg->disk_count; i++)
		if (strcmp(cfg->disks[i].name, name) == 0)
			return &cfg->disks[i];
	return NULL;
}

/* Every disk of the description is in the point, and the other way round. */
static int match_disks(const struct sa_vmdesc *d, const struct sa_hv_boot_cfg *cfg,
		       struct lb_err *err)
{
	for (size_t i = 0; i < d->disks; i++)
		if (disk_named(cfg, d->disk[i].name) == NULL)
			return lb_err_set(err, LB_EUNSUPPORTED, 0,
					  "its disk \"%.64s\" is not in the recovery point",
					  d->disk[i].name);
	if (d->disks != cfg->disk_count)
		return lb_err_set(err, LB_EINPUT, 0,
				  "machine description: %zu disks, the point has %zu", d->disks,
				  cfg->disk_count);
	return 0;
}

static int describe(struct sa_vmdesc *out, const struct sa_hv_boot_cfg *cfg, struct lb_err *err)
{
	int rc = sa_vmdesc_parse(out, cfg->machine_xml, err);

	if (rc != 0)
		return rc;
	(void)snprintf(out->name, sizeof(out->name), "%s", cfg->name);
	/* a drill's machine is another one; but a guest that goes on where it stood keeps its name
	 * for itself, as its memory holds it */
	if (!cfg->keep_uuid && cfg->state == NULL)
		for (size_t i = 0; i < sizeof(out->uuid.b); i++)
			out->uuid.b[i] ^= 0x5a;
	if (out->direct_kernel && cfg->cmdline_extra != NULL) {
		size_t used = strlen(out->cmdline);

		(void)snprintf(out->cmdline + used, sizeof(out->cmdline) - used, " %s",
			       cfg->cmdline_extra);
	}
	return match_disks(out, cfg, err);
}

static bool keep_text(char **to, const char *from)
{
	*to = strdup(from);
	return *to != NULL;
}

static int keep_point(struct vmcore_machine *v, const struct sa_hv_boot_cfg *cfg,
		      struct lb_err *err)
{
	bool ok = true;

	for (size_t i = 0; i < v->desc.disks && ok; i++) {
		const struct sa_hv_disk *d = disk_named(cfg, v->desc.disk[i].name);

		ok = keep_text(&v->view[i], d->nbd_socket);
		v->disk[i] = (struct sa_vmrun_disk){.size_bytes = d->size_bytes,
						    .view_socket = v->view[i],
						    .point = cfg->point};
	}
	if (ok && cfg->state != NULL) {
		v->state = malloc(cfg->state_bytes);
		v->state_bytes = cfg->state_bytes;
		ok = v->state != NULL && keep_text(&v->ram_socket, cfg->ram_socket);
		if (ok)
			memcpy(v->state, cfg->state, cfg->state_bytes);
	}
	if (ok && cfg->state != NULL && cfg->order_bytes > 0) {
		v->order = malloc(cfg->order_bytes);
		v->order_bytes = cfg->order_bytes;
		ok = v->order != NULL;
		if (ok)
			memcpy(v->order, cfg->order, cfg->order_bytes);
	}
	return ok ? 0 : lb_err_set(err, LB_ENOMEM, 0, "machine %s", cfg->name);
}

static int make_own(struct sa_hv_machine *m, const struct sa_hv_boot_cfg *cfg, struct lb_err *err)
{
	struct vmcore_machine *v = calloc(1, sizeof(*v));
	int rc;

	if (v == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "machine %s", cfg->name);
	m->own = v; /* dropped by sa_hv_machine_destroy() */
	v->drill = !cfg->keep_uuid;
	rc = describe(&v->desc, cfg, err);
	if (rc == 0)
		rc = keep_point(v, cfg, err);
	m->nics = v->desc.nics;
	return rc;
}

static int memory_fits(uint64_t need, struct lb_err *err)
{
	uint64_t available = 0;
	int rc = sa_hv_memory_available(&available, err);

	if (rc == 0 && need > available)
		rc = lb_err_set(err, LB_EUNSUPPORTED, 0,
				"it needs %" PRIu64 " MiB of memory, %" PRIu64 " are available",
				need >> 20, available >> 20);
	return rc;
}

static int vm_fits(struct sa_hv *hv, const struct sa_hv_boot_cfg *cfg, struct lb_err *err)
{
	struct sa_vmdesc *d = calloc(1, sizeof(*d));
	int rc = d == NULL ? lb_err_set(err, LB_ENOMEM, 0, "machine") : describe(d, cfg, err);

	if (rc == 0 && d->direct_kernel && cfg->state == NULL && hv->kernel == NULL)
		rc = lb_err_set(err, LB_EUNSUPPORTED, 0,
				"direct kernel boot, and no hypervisor.kernel is configured here");
	if (rc == 0 && !d->direct_kernel && cfg->state == NULL && access(hv->firmware, R_OK) != 0)
		rc = lb_err_set(err, LB_EUNSUPPORTED, errno, "firmware %s", hv->firmware);
	if (rc == 0)
		rc = memory_fits(d->ram_bytes, err);
	free(d);
	return rc;
}

static int overlay_path(const struct sa_hv_machine *m, size_t i, const char *kind, char *out,
			struct lb_err *err)
{
	char file[SA_HV_NAME_BYTES + 8];

	(void)snprintf(file, sizeof(file), "%s.%s", m->disk[i], kind);
	return sa_hv_path(m, file, out, err);
}

static int remove_file(const char *path, struct lb_err *err)
{
	return unlink(path) != 0 && errno != ENOENT ? lb_err_errno(err, errno, "remove %s", path)
						    : 0;
}

/* The record goes last: as long as it is there the machine is adopted, and its rest removed. */
static int vm_remove(struct sa_hv_machine *m, struct lb_err *err)
{
	static const char *const kinds[] = {"cow", "cowmap"};
	char path[PATH_MAX];
	int rc = 0;

	for (size_t i = 0; i < 2 * m->disks && rc == 0; i++) {
		rc = overlay_path(m, i / 2, kinds[i % 2], path, err);
		if (rc == 0)
			rc = remove_file(path, err);
	}
	if (rc == 0)
		rc = sa_hv_path(m, "vm.json", path, err);
	return rc == 0 ? remove_file(path, err) : rc;
}

static int vm_prepare(struct sa_hv_machine *m, const struct sa_hv_boot_cfg *cfg, struct lb_err *err)
{
	int rc = make_own(m, cfg, err);

	if (rc == 0)
		rc = sa_vmrun_end(m->dir, err); /* half-made by a prepare that was cut short */
	return rc == 0 ? vm_remove(m, err) : rc;
}

static int vm_adopt(struct sa_hv_machine *m, const struct sa_hv_boot_cfg *cfg, struct lb_err *err)
{
	char path[PATH_MAX];
	int rc = sa_hv_path(m, "vm.json", path, err);

	if (rc != 0)
		return rc;
	if (access(path, F_OK) != 0)
		return lb_err_set(err, LB_ENOTFOUND, 0, "no machine %s of ours", m->name);
	rc = make_own(m, cfg, err);
	if (rc == 0) { /* its memory is of the past by now */
		struct vmcore_machine *v = m->own;

		free(v->state);
		v->state = NULL;
	}
	return rc;
}

static int request(struct sa_hv_machine *m, enum vm_ctl_type type, uint64_t n, struct lb_err *err)
{
	struct vm_ctl_msg answer;

	return sa_vmrun_ask(m->dir, type, n, VM_CTL_OK, &answer, err);
}

static int vm_start_machine(struct sa_hv_machine *m, struct lb_err *err)
{
	struct vmcore_machine *v = m->own;
	const struct sa_vmrun r = {.dir = m->dir,
				   .program = m->hv->vm_program,
				   .desc = &v->desc,
				   .disk = v->disk,
				   .firmware = m->hv->firmware,
				   .vga_firmware = m->hv->vga_firmware,
				   .kernel = m->hv->kernel,
				   .initrd = m->hv->initrd,
				   .netns = m->netns[0] != '\0' ? m->netns : NULL,
				   .bridge = m->bridge[0] != '\0' ? m->bridge : NULL,
				   .state = v->state,
				   .state_bytes = v->state_bytes,
				   .ram_socket = v->ram_socket,
				   .order = v->order,
				   .order_bytes = v->order_bytes,
				   .frozen_clock = v->drill,
				   .announce = !v->drill,
				   .complement = m->hv->complement};

	if (sa_vmrun_alive(m->dir, NULL))
		return request(m, VM_CTL_RESUME, 0, err); /* runs: nothing; paused: goes on */
	return sa_vmrun_start(&r, err);
}

static int vm_pause_machine(struct sa_hv_machine *m, struct lb_err *err)
{
	return request(m, VM_CTL_PAUSE, PAUSE_NS, err);
}

static int vm_resume_machine(struct sa_hv_machine *m, struct lb_err *err)
{
	return request(m, VM_CTL_RESUME, 0, err);
}

static int vm_stop_machine(struct sa_hv_machine *m, struct lb_err *err)
{
	return sa_vmrun_end(m->dir, err);
}

static int vm_state_of(struct sa_hv_machine *m, enum sa_hv_state *out, struct lb_err *err)
{
	struct vm_ctl_msg answer;
	int rc = sa_vmrun_ask(m->dir, VM_CTL_STATE, 0, VM_CTL_INFO, &answer, err);

	if (rc == LB_ENOTFOUND || rc == LB_ECLOSED) {
		*out = SA_HV_OFF;
		return 0;
	}
	if (rc != 0)
		return rc;
	switch (answer.info.state) {
	case VM_RUNNING:
		*out = SA_HV_RUNNING;
		break;
	case VM_CREATED:
	case VM_PAUSED:
		*out = SA_HV_PAUSED;
		break;
	case VM_OFF:
	case VM_CRASHED:
		*out = SA_HV_OFF;
		break;
	}
	return 0;
}

static int vm_order_of(struct sa_hv_machine *m, uint8_t **out, size_t *bytes, struct lb_err *err)
{
	return sa_vmrun_order(m->dir, out, bytes, err);
}

const struct sa_hv_ops sa_hv_vmcore_ops = {
	.driver = "vmcore",
	.fits = vm_fits,
	.prepare = vm_prepare,
	.adopt = vm_adopt,
	.start = vm_start_machine,
	.pause = vm_pause_machine,
	.resume = vm_resume_machine,
	.stop = vm_stop_machine,
	.state = vm_state_of,
	.order = vm_order_of,
	.remove = vm_remove,
	.drop = vm_drop,
	.memory = true,
};
