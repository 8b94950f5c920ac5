/*
 * Whether memory points that are kept here can be resumed here: said when the first one comes and
 * by every `lifeboat doctor`, not on the night. What a restore asks of a host is in the device
 * state of the point: its format, and the CPU template its guest has seen.
 */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/env.h"
#include "base/log.h"
#include "runs_int.h"
#include "vmcore/cut.h"
#include "vmcore/host.h"

int sa_state_fits(const void *state, size_t bytes, const struct vm_cpu *have, struct lb_err *err)
{
	struct vm_state_info *info = calloc(1, sizeof(*info));
	int rc = info == NULL ? lb_err_set(err, LB_ENOMEM, 0, "device state")
			      : vm_state_peek(info, state, bytes, err);

	if (rc == 0)
		rc = vm_cpu_check(&info->cpu, have, err);
	free(info);
	return rc;
}

/* Does this host resume anything at all? */
static int host_resumes(const struct sa_agent *a, struct vm_cpu *have, struct lb_err *err)
{
	const char *driver = a->cfg->hv_driver;
	struct vm_host host;

	if (a->hv == NULL || a->vm_program[0] == '\0' || strcmp(driver, "libvirt") == 0)
		return lb_err_set(err, LB_EUNSUPPORTED, 0,
				  a->hv == NULL ? "no hypervisor is configured"
				  : strcmp(driver, "libvirt") == 0
					  ? "libvirt boots replicas, as configured"
					  : "lifeboat-vm is not installed");
	vm_probe(&host);
	if (host.kind == VM_KVM_NONE ||
	    (host.kind != VM_KVM_NATIVE && strcmp(driver, "vmcore") != 0))
		return lb_err_set(err, LB_EUNSUPPORTED, 0,
				  "KVM is %s (%s), so libvirt boots replicas",
				  vm_kvm_kind_name(host.kind), host.detail);
	return vm_cpu_of_host(have, err);
}

static int machine_resumes(struct sa_agent *a, const struct rep_manifest *m,
			   const struct lb_id *machine, const struct vm_cpu *have,
			   struct lb_err *err)
{
	uint8_t *state = NULL;
	size_t bytes = 0;
	int rc = sa_open_state(a, m, machine, &state, &bytes, err);

	if (rc == 0)
		rc = sa_state_fits(state, bytes, have, err);
	free(state);
	return rc;
}

static void each_machine(struct sa_agent *a, const struct rep_manifest *m, sa_resumes_fn fn,
			 void *arg)
{
	struct vm_cpu *have = calloc(1, sizeof(*have));
	struct lb_err host = {0};
	int rc = have == NULL ? lb_err_set(&host, LB_ENOMEM, 0, "CPU template")
			      : host_resumes(a, have, &host);

	for (uint32_t i = 0; i < m->volumes; i++) {
		const struct rep_manifest_volume *v = &m->volume[i];
		struct lb_err err = host;
		int one = rc;

		if (v->kind != REP_VOLUME_RAM)
			continue;
		if (rc == 0)
			one = machine_resumes(a, m, &v->machine, have, &err);
		fn(arg, m->group_name, v->machine_name, one != 0 ? &err : NULL);
	}
	free(have);
}

void sa_point_resumes(struct sa_agent *a, const struct lb_hash *point, sa_resumes_fn fn, void *arg)
{
	struct rep_manifest *m = NULL;
	struct lb_buf *bytes = NULL;

	if (sa_read_manifest(a, point, &bytes, &m, NULL) == 0)
		each_machine(a, m, fn, arg);
	lb_buf_unref(bytes);
	free(m);
}

void sa_points_resume(struct sa_agent *a, sa_resumes_fn fn, void *arg)
{
	struct sa_role_record rec;
	struct rep_point head;

	for (size_t i = 0; a->store != NULL && i < sa_roles_count(a->roles); i++)
		if (sa_roles_at(a->roles, i, &rec) && rep_store_head(a->store, &rec.group, &head))
			sa_point_resumes(a, &head.manifest, fn, arg);
}
