/*
 * siteagent/src/vmdesc_int.h - how a machine is built, as far as vmcore can build it, from and to
 * libvirt's domain XML: the one description of a machine that travels between sites, whichever
 * driver protects or boots it.
 *
 * What comes in is another site's bytes: only what is known is read, every value is checked.
 */
#ifndef SITEAGENT_VMDESC_INT_H
#define SITEAGENT_VMDESC_INT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/id.h"
#include "vmcore/vm.h"

struct lb_err;

enum {
	SA_VMDESC_NAME_BYTES = 65,
	SA_VMDESC_CMDLINE_BYTES = 2048
};

struct sa_vmdesc_disk {
	char name[SA_VMDESC_NAME_BYTES]; /* target device: vda, hda */
	enum vm_disk_bus bus;
};
struct sa_vmdesc {
	char name[SA_VMDESC_NAME_BYTES]; /* out only */
	struct lb_id uuid;
	uint64_t ram_bytes;
	uint32_t vcpus;
	bool direct_kernel; /* else firmware boots from the first disk */
	char cmdline[SA_VMDESC_CMDLINE_BYTES];
	size_t disks;
	struct sa_vmdesc_disk disk[VM_DISKS_MAX];
	size_t nics;
	uint8_t mac[VM_NICS_MAX][6];
};

/* Errors: LB_EINPUT (no machine), LB_EUNSUPPORTED naming what vmcore's pc1 does not have. */
int sa_vmdesc_parse(struct sa_vmdesc *out, const char *domain_xml, struct lb_err *err);
/* *out is the caller's: free(). */
int sa_vmdesc_xml(char **out, const struct sa_vmdesc *d, struct lb_err *err);
/* The bus a disk of that name is on: hda..hdd IDE, vda.. virtio. False: neither. */
bool sa_vmdesc_bus(const char *disk_name, enum vm_disk_bus *out);
bool sa_vmdesc_mac(const char *text, uint8_t out[6]);

#endif
