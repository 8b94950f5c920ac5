/*
 * Any bytes as lifeboat.yaml. What must hold, besides no crash: refused with problems told, or
 * accepted and then within every limit that the rest of the agent relies on.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/err.h"
#include "config_int.h"
#include "replicator/manifest.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_vm(const struct sa_vm_cfg *vm)
{
	LB_ASSERT(vm->ram_bytes >= 2u << 20 && vm->ram_bytes % (2u << 20) == 0);
	LB_ASSERT(vm->cpus >= 1 && vm->cpus <= 16 && vm->nics <= SA_NICS_MAX);
	LB_ASSERT(vm->kernel[0] == '\0' || vm->kernel[0] == '/');
	LB_ASSERT(vm->initrd[0] == '\0' || (vm->initrd[0] == '/' && vm->kernel[0] != '\0'));
	LB_ASSERT(strchr(vm->network.netns, '/') == NULL);
	LB_ASSERT(strchr(vm->network.bridge, '/') == NULL && strlen(vm->network.bridge) <= 15);
	LB_ASSERT(vm->output == SA_OUTPUT_ASYNC || vm->memory_points);
	LB_ASSERT(vm->output_bound_bytes >= 1u << 20 && vm->output_bound_bytes <= 1u << 30);
	for (size_t i = 0; i < vm->nics; i++)
		LB_ASSERT(strlen(vm->mac[i]) == SA_MAC_BYTES - 1);
}

static void check_machine(const struct sa_machine_cfg *m)
{
	bool block = strcmp(m->driver, "block") == 0;
	bool libvirt = strcmp(m->driver, "libvirt") == 0;
	bool vmcore = strcmp(m->driver, "vmcore") == 0;

	LB_ASSERT(rep_name_valid(m->name));
	LB_ASSERT(block || libvirt || vmcore);
	LB_ASSERT(libvirt == (m->domain[0] != '\0') && libvirt == (m->uri[0] != '\0'));
	LB_ASSERT(m->xml[0] == '\0' || (block && m->xml[0] == '/'));
	LB_ASSERT(m->volumes >= 1 && m->volumes <= (vmcore ? 8 : SA_VOLUMES_MAX));
	if (vmcore)
		check_vm(&m->vm);
	for (size_t i = 0; i < m->volumes; i++) {
		LB_ASSERT(rep_name_valid(m->volume[i].name));
		LB_ASSERT(m->volume[i].path[0] == (libvirt ? '\0' : '/'));
		for (size_t j = 0; j < i; j++)
			LB_ASSERT(strcmp(m->volume[i].name, m->volume[j].name) != 0);
	}
}

static void check_config(const struct sa_config *c)
{
	LB_ASSERT(rep_name_valid(c->site));
	LB_ASSERT(c->state_dir[0] == '/' && c->control_socket[0] == '/');
	LB_ASSERT(strlen(c->control_socket) <= 107);
	LB_ASSERT(c->window_bytes >= 1u << 20 && c->workers >= 1 && c->workers <= 64);
	LB_ASSERT(c->connections >= 1 && c->connections <= 8);
	LB_ASSERT((c->listen.port == 0) == (c->listen.host[0] == '\0'));
	LB_ASSERT(c->groups <= SA_GROUPS_MAX);
	for (size_t i = 0; i < c->groups; i++) {
		const struct sa_group_cfg *g = &c->group[i];

		LB_ASSERT(rep_name_valid(g->name) && rep_name_valid(g->peer));
		LB_ASSERT(strcmp(g->peer, c->site) != 0 && g->interval_ns >= 25000000);
		LB_ASSERT(g->machines >= 1 && g->machines <= SA_MACHINES_MAX);
		for (size_t j = 0; j < g->machines; j++)
			check_machine(&g->machine[j]);
		for (size_t j = 0; j < i; j++)
			LB_ASSERT(strcmp(g->name, c->group[j].name) != 0);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int fd = memfd_create("config", MFD_CLOEXEC);
	struct sa_config *c = NULL;
	struct lb_err err = {0};
	char *problems = NULL;
	char path[64];
	int rc;

	LB_ASSERT(fd >= 0 && write(fd, data, size) == (ssize_t)size);
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	rc = sa_config_load(&c, path, &problems, &err);
	if (rc == 0) {
		LB_ASSERT(problems == NULL);
		check_config(c);
	} else {
		LB_ASSERT(rc == LB_EINPUT && c == NULL && err.msg[0] != '\0');
		LB_ASSERT(problems != NULL && strstr(problems, ": error: ") != NULL);
	}
	sa_config_destroy(c);
	free(problems);
	(void)close(fd);
	return 0;
}
