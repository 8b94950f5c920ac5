/*
 * siteagent/src/config_int.h - lifeboat.yaml: one site's configuration, through one table.
 *
 *   site: tokyo                       # this site's name
 *   state_dir: /var/lib/lifeboat
 *   control_socket: /run/lifeboat/control.sock
 *   listen: 192.0.2.2:7400            # take replicas from enrolled sites; absent: no target role
 *   enrol_listen: 192.0.2.2:7401      # opened only while a token is valid
 *   store: {segment_size: 64MiB, reserve: 1GiB}
 *   hypervisor: {driver: libvirt, uri: "qemu:///system", kernel: /boot/vmlinuz, initrd: /boot/i}
 *   drill_network: {netns: lb-drill}  # where drills run; failover_network for failovers
 *   failover_network: {netns: lb-prod, bridge: br0}
 *   groups:                           # what this site protects; absent: no source role
 *     - name: erp
 *       peer: osaka                   # enrolled backup site
 *       interval: 1s
 *       machines:
 *         - name: db
 *           driver: libvirt
 *           domain: db
 *           address: 192.0.2.10
 *           volumes: [{name: vda}]
 *         - name: pay
 *           driver: vmcore              # `lifeboat vm run pay`
 *           vm: {memory: 1GiB, memory_points: true, nics: ["52:54:00:00:00:01"]}
 *           volumes: [{name: vda, path: /srv/pay.img}]
 *         - name: old
 *           driver: block
 *           xml: /etc/lifeboat/old.xml
 *           volumes: [{name: hda, path: /dev/sdb}]
 *
 * Errors are collected with line, column and caret (base/conf.h).
 */
#ifndef SITEAGENT_CONFIG_INT_H
#define SITEAGENT_CONFIG_INT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/conf.h"
#include "base/log.h"

struct lb_err;

#define SA_NAME_BYTES    65u
#define SA_PATH_BYTES    256u
#define SA_URI_BYTES     256u
#define SA_HOST_BYTES    64u
#define SA_GROUPS_MAX    64u
#define SA_MACHINES_MAX  64u /* of one group */
#define SA_VOLUMES_MAX   16u /* of one machine */
#define SA_FIRMWARE      "/usr/share/seabios/bios-256k.bin"
#define SA_VGA_FIRMWARE  "/usr/share/seabios/vgabios-isavga.bin"
#define SA_NICS_MAX      8u
#define SA_MAC_BYTES     18u
#define SA_CMDLINE_BYTES 1024u

struct sa_addr {
	char host[SA_HOST_BYTES]; /* numeric IPv4 or IPv6 */
	uint16_t port;            /* 0: not configured */
};

struct sa_volume_cfg {
	char name[SA_NAME_BYTES];
	char path[SA_PATH_BYTES]; /* block only */
};

struct sa_network_cfg {
	char netns[SA_NAME_BYTES];
	char bridge[SA_NAME_BYTES];
};

enum sa_output { /* names: "async", "commit" */
	SA_OUTPUT_ASYNC,
	SA_OUTPUT_COMMIT
};

/* How a machine of driver vmcore is built here; config_vm.c. */
struct sa_vm_cfg {
	uint64_t ram_bytes, cpus;
	char kernel[SA_PATH_BYTES], initrd[SA_PATH_BYTES]; /* "" firmware boots */
	char cmdline[SA_CMDLINE_BYTES];
	char cpu[SA_PATH_BYTES]; /* file of CPU templates; "": this host's alone */
	struct sa_network_cfg network;
	bool memory_points;
	enum sa_output output;
	uint64_t output_bound_bytes;
	size_t nics;
	char mac[SA_NICS_MAX][SA_MAC_BYTES];
};

struct sa_machine_cfg {
	char name[SA_NAME_BYTES];
	char driver[SA_NAME_BYTES]; /* "block", "libvirt" or "vmcore" */
	char uri[SA_URI_BYTES];
	char domain[SA_NAME_BYTES];
	char address[SA_HOST_BYTES]; /* numeric IP, for TCP probes of its replica; "" none */
	char xml[SA_PATH_BYTES];     /* block: file with the libvirt domain XML to boot it by */
	bool frozen;
	struct sa_vm_cfg vm;
	size_t volumes;
	struct sa_volume_cfg volume[SA_VOLUMES_MAX];
};

struct sa_group_cfg {
	char name[SA_NAME_BYTES];
	char peer[SA_NAME_BYTES];
	uint64_t interval_ns;
	size_t machines;
	struct sa_machine_cfg *machine;
};

struct sa_config {
	char site[SA_NAME_BYTES];
	char state_dir[SA_PATH_BYTES];
	char control_socket[SA_PATH_BYTES];
	char plugin_dir[SA_PATH_BYTES]; /* of our nbdkit plugins; "": see agent.c */
	char runbooks[SA_PATH_BYTES];   /* directory of *.yaml that can be run by name */
	char vm_program[SA_PATH_BYTES]; /* lifeboat-vm; "": in plugin_dir */
	enum lb_log_level log_level;
	struct sa_addr listen, enrol_listen;
	uint64_t segment_bytes, reserve_bytes;
	uint64_t window_bytes; /* in flight to a peer; default 8 MiB */
	uint64_t workers, connections;
	bool has_hypervisor;
	char hv_driver[SA_NAME_BYTES], hv_uri[SA_URI_BYTES], hv_kernel[SA_PATH_BYTES],
		hv_initrd[SA_PATH_BYTES], hv_firmware[SA_PATH_BYTES],
		hv_vga_firmware[SA_PATH_BYTES];
	bool hv_kvm;
	struct sa_network_cfg drill_network, failover_network;
	size_t groups;
	struct sa_group_cfg *group;
};

/* config_vm.c: the key `vm` of @machine into @m->vm, whose driver and volumes are known. */
extern const struct lb_conf_field sa_config_vm_fields[];
void sa_config_fill_vm(struct lb_conf *doc, const struct lb_conf_node *machine,
		       struct sa_machine_cfg *m);

/* Read @path and every *.yaml of the directory "conf.d" beside it (groups only, in name order).
 * *problems gets all problems with carets (free it), NULL when there is none.
 * Errors: LB_EINPUT, LB_ENOTFOUND, LB_ENOMEM. */
int sa_config_load(struct sa_config **out, const char *path, char **problems, struct lb_err *err);
void sa_config_destroy(struct sa_config *c); /* NULL is allowed */

/* "192.0.2.2:7400" or "[2001:db8::2]:7400": numeric, not the wildcard. Errors: LB_EINPUT. */
int sa_addr_parse(struct sa_addr *out, const char *text, struct lb_err *err);
/* The inverse; at most SA_HOST_BYTES + 8 bytes. Returns @out. */
const char *sa_addr_text(const struct sa_addr *a, char *out, size_t out_bytes);

/* All keys with type, range, default and help, for `lifeboat config keys` and the man page; free.
 */
char *sa_config_keys_text(void);

#endif
