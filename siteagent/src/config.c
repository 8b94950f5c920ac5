#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/conf.h"
#include "base/err.h"
#include "config_int.h"

enum {
	FILES_MAX = 65, /* lifeboat.yaml and conf.d */
	ADDR_BYTES = SA_HOST_BYTES + 16,
	SOCKET_PATH_MAX = 107, /* sun_path with its NUL is 108 */
};

/* ---- the tables: parser, `lifeboat config keys`, docs/formats/config.md and tests read these ----
 */

#define IN(type, member) .offset = offsetof(type, member), .size = sizeof(((type *)0)->member)

/* What is written as text or as a choice, and what it becomes. */
struct raw_site {
	struct sa_config c;
	char listen[ADDR_BYTES], enrol_listen[ADDR_BYTES];
};
struct raw_hypervisor {
	int driver;
	char uri[SA_URI_BYTES], kernel[SA_PATH_BYTES], initrd[SA_PATH_BYTES],
		firmware[SA_PATH_BYTES], vga_firmware[SA_PATH_BYTES];
	bool kvm;
};
struct raw_machine {
	struct sa_machine_cfg m;
	int driver; /* -1: none that is known */
};
enum driver {
	DRIVER_BLOCK,
	DRIVER_LIBVIRT,
	DRIVER_VMCORE
};
static const char *const driver_names[] = {"block", "libvirt", "vmcore"};
static const char *const hypervisor_names[] = {"auto", "libvirt", "vmcore"};

static const struct lb_conf_field site_fields[] = {
	{.key = "site",
	 .type = LB_CT_NAME,
	 IN(struct raw_site, c.site),
	 .help = "name of this site, as its peers know it"},
	{.key = "state_dir",
	 .type = LB_CT_STR,
	 IN(struct raw_site, c.state_dir),
	 .min = 1,
	 .dflt = "/var/lib/lifeboat",
	 .help = "directory of everything the agent keeps: identity, keys, store, catalog"},
	{.key = "control_socket",
	 .type = LB_CT_STR,
	 IN(struct raw_site, c.control_socket),
	 .min = 1,
	 .max = SOCKET_PATH_MAX,
	 .dflt = "/run/lifeboat/control.sock",
	 .help = "unix socket of the control API"},
	{.key = "plugin_dir",
	 .type = LB_CT_STR,
	 IN(struct raw_site, c.plugin_dir),
	 .dflt = "",
	 .help = "directory of our nbdkit plugins; empty: beside the program, else where it is "
		 "installed"},
	{.key = "runbooks",
	 .type = LB_CT_STR,
	 IN(struct raw_site, c.runbooks),
	 .min = 1,
	 .dflt = "/etc/lifeboat/runbooks",
	 .help = "directory of runbooks (*.yaml) that the terminal UI offers"},
	{.key = "vm_program",
	 .type = LB_CT_STR,
	 IN(struct raw_site, c.vm_program),
	 .dflt = "",
	 .help = "lifeboat-vm, which runs one machine; empty: that in plugin_dir"},
	{.key = "log_level",
	 .type = LB_CT_ENUM,
	 IN(struct raw_site, c.log_level),
	 .choices = "debug|info|warn|error",
	 .dflt = "info",
	 .help = "least level that is logged"},
	{.key = "listen",
	 .type = LB_CT_STR,
	 IN(struct raw_site, listen),
	 .dflt = "",
	 .help = "address:port to take replicas at; empty: this site takes none"},
	{.key = "enrol_listen",
	 .type = LB_CT_STR,
	 IN(struct raw_site, enrol_listen),
	 .dflt = "",
	 .help = "address:port for joining sites, open only while a token is valid"},
	{.key = "window",
	 .type = LB_CT_BYTES,
	 IN(struct raw_site, c.window_bytes),
	 .min = UINT64_C(1) << 20,
	 .max = UINT64_C(1) << 30,
	 .dflt = "8 MiB",
	 .help = "bytes in flight to one peer before capture waits"},
	{.key = "workers",
	 .type = LB_CT_U64,
	 IN(struct raw_site, c.workers),
	 .min = 1,
	 .max = 64,
	 .dflt = "2",
	 .help = "threads per peer that compress and seal"},
	{.key = "connections",
	 .type = LB_CT_U64,
	 IN(struct raw_site, c.connections),
	 .min = 1,
	 .max = 8,
	 .dflt = "2",
	 .help = "parallel TLS connections to one peer"},
	{0},
};
static const struct lb_conf_field store_fields[] = {
	{.key = "segment_size",
	 .type = LB_CT_BYTES,
	 IN(struct sa_config, segment_bytes),
	 .min = UINT64_C(1) << 20,
	 .max = UINT64_C(4) << 30,
	 .dflt = "64 MiB",
	 .help = "a segment file of the store is ended at about this size"},
	{.key = "reserve",
	 .type = LB_CT_BYTES,
	 IN(struct sa_config, reserve_bytes),
	 .dflt = "1 GiB",
	 .help = "free space the store leaves on its file system"},
	{0},
};
static const struct lb_conf_field hypervisor_fields[] = {
	{.key = "driver",
	 .type = LB_CT_ENUM,
	 IN(struct raw_hypervisor, driver),
	 .choices = "auto|libvirt|vmcore",
	 .dflt = "auto",
	 .help = "what boots replicas; auto: vmcore where KVM is native and the machine fits"},
	{.key = "uri",
	 .type = LB_CT_STR,
	 IN(struct raw_hypervisor, uri),
	 .min = 1,
	 .dflt = "qemu:///system",
	 .help = "connection to a libvirtd of this host"},
	{.key = "kernel",
	 .type = LB_CT_STR,
	 IN(struct raw_hypervisor, kernel),
	 .dflt = "",
	 .help = "kernel for machines that boot one directly; empty: those do not fit here"},
	{.key = "initrd",
	 .type = LB_CT_STR,
	 IN(struct raw_hypervisor, initrd),
	 .dflt = "",
	 .help = "its initial RAM disk"},
	{.key = "firmware",
	 .type = LB_CT_STR,
	 IN(struct raw_hypervisor, firmware),
	 .dflt = SA_FIRMWARE,
	 .help = "firmware that vmcore boots disks by"},
	{.key = "vga_firmware",
	 .type = LB_CT_STR,
	 IN(struct raw_hypervisor, vga_firmware),
	 .dflt = SA_VGA_FIRMWARE,
	 .help = "its VGA firmware; empty: machines have no screen"},
	{.key = "kvm",
	 .type = LB_CT_BOOL,
	 IN(struct raw_hypervisor, kvm),
	 .dflt = "true",
	 .help = "libvirt: use KVM where a machine asks for it and this host's is native; false: "
		 "emulate"},
	{0},
};
static const struct lb_conf_field network_fields[] = {
	{.key = "netns",
	 .type = LB_CT_STR,
	 IN(struct sa_network_cfg, netns),
	 .dflt = "",
	 .help = "network namespace, as in ip netns; empty: that of the agent"},
	{.key = "bridge",
	 .type = LB_CT_STR,
	 IN(struct sa_network_cfg, bridge),
	 .max = 15,
	 .dflt = "",
	 .help = "bridge in it that machines are put into; empty: none"},
	{0},
};
static const struct lb_conf_field group_fields[] = {
	{.key = "name",
	 .type = LB_CT_NAME,
	 IN(struct sa_group_cfg, name),
	 .help = "name of the protection group"},
	{.key = "peer",
	 .type = LB_CT_NAME,
	 IN(struct sa_group_cfg, peer),
	 .help = "enrolled site that keeps the replica"},
	{.key = "interval",
	 .type = LB_CT_DURATION,
	 IN(struct sa_group_cfg, interval_ns),
	 .min = UINT64_C(25000000),
	 .max = UINT64_C(7) * 86400 * 1000000000,
	 .dflt = "5s",
	 .help = "time from one recovery point to the next"},
	{0},
};
static const struct lb_conf_field machine_fields[] = {
	{.key = "name",
	 .type = LB_CT_NAME,
	 IN(struct raw_machine, m.name),
	 .help = "name of the machine, once in its group"},
	{.key = "driver",
	 .type = LB_CT_ENUM,
	 IN(struct raw_machine, driver),
	 .choices = "block|libvirt|vmcore",
	 .help = "block: image files or block devices; libvirt: a running machine; vmcore: run "
		 "here"},
	{.key = "uri",
	 .type = LB_CT_STR,
	 IN(struct raw_machine, m.uri),
	 .dflt = "",
	 .help = "libvirt only: connection to a libvirtd of this host; empty: qemu:///system"},
	{.key = "domain",
	 .type = LB_CT_STR,
	 IN(struct raw_machine, m.domain),
	 .dflt = "",
	 .help = "libvirt only: name of the domain; empty: the machine's name"},
	{.key = "xml",
	 .type = LB_CT_STR,
	 IN(struct raw_machine, m.xml),
	 .dflt = "",
	 .help = "block only: file with the libvirt domain XML to boot it by"},
	{.key = "address",
	 .type = LB_CT_STR,
	 IN(struct raw_machine, m.address),
	 .dflt = "",
	 .help = "numeric IP address of the machine, for TCP probes of its replica; empty: none"},
	{.key = "frozen",
	 .type = LB_CT_BOOL,
	 IN(struct raw_machine, m.frozen),
	 .dflt = "false",
	 .help = "block only: nobody writes to it while it is read"},
	{0},
};
static const struct lb_conf_field volume_fields[] = {
	{.key = "name",
	 .type = LB_CT_NAME,
	 IN(struct sa_volume_cfg, name),
	 .help = "target device of the disk, as in the domain XML (vda, hda)"},
	{.key = "path",
	 .type = LB_CT_STR,
	 IN(struct sa_volume_cfg, path),
	 .dflt = "",
	 .help = "block, vmcore: image file or block device; its size is rounded up to 4 KiB"},
	{0},
};

static const char *const site_also[] = {"store",  "hypervisor", "drill_network", "failover_network",
					"groups", NULL};
static const char *const file_also[] = {"groups", NULL};
static const char *const group_also[] = {"machines", NULL};
static const char *const machine_also[] = {"volumes", "vm", NULL};
static const struct lb_conf_field no_fields[] = {{0}};

/* ---- addresses ---- */

int sa_addr_parse(struct sa_addr *out, const char *text, struct lb_err *err)
{
	const char *colon = strrchr(text, ':'), *host = text;
	uint8_t numeric[sizeof(struct in6_addr)];
	static const uint8_t wildcard[sizeof(numeric)];
	struct sa_addr a = {.port = 0};
	size_t len = colon != NULL ? (size_t)(colon - text) : strlen(text);
	bool v6 = text[0] == '[';
	unsigned long port;
	char *end;

	if (v6 && (colon == NULL || colon[-1] != ']'))
		return lb_err_set(err, LB_EINPUT, 0, "\"%.80s\" is not [address]:port", text);
	if (colon == NULL)
		return lb_err_set(err, LB_EINPUT, 0, "\"%.80s\" has no port (address:port)", text);
	if (!v6 && memchr(text, ':', len) != NULL)
		return lb_err_set(err, LB_EINPUT, 0,
				  "\"%.80s\": write an IPv6 address as [%.*s]:%s", text, (int)len,
				  text, colon + 1);
	if (v6) {
		host++;
		len -= 2;
	}
	if (len >= sizeof(a.host))
		return lb_err_set(err, LB_EINPUT, 0, "\"%.80s\" is not a numeric address", text);
	memcpy(a.host, host, len);
	memset(numeric, 0, sizeof(numeric));
	if (inet_pton(v6 ? AF_INET6 : AF_INET, a.host, numeric) != 1)
		return lb_err_set(
			err, LB_EINPUT, 0,
			"\"%.64s\" is not a numeric IPv%c address (names are not resolved)", a.host,
			v6 ? '6' : '4');
	if (memcmp(numeric, wildcard, sizeof(numeric)) == 0)
		return lb_err_set(err, LB_EINPUT, 0,
				  "%s stands for every address: write the one that peers reach",
				  a.host);
	port = strspn(colon + 1, "0123456789") == strlen(colon + 1) && strlen(colon + 1) <= 5
		       ? strtoul(colon + 1, &end, 10)
		       : 0;
	if (port < 1 || port > 65535)
		return lb_err_set(err, LB_EINPUT, 0, "\"%.32s\" is not a port, 1 to 65535",
				  colon + 1);
	a.port = (uint16_t)port;
	*out = a;
	return 0;
}

const char *sa_addr_text(const struct sa_addr *a, char *out, size_t out_bytes)
{
	(void)snprintf(out, out_bytes, strchr(a->host, ':') != NULL ? "[%s]:%u" : "%s:%u", a->host,
		       (unsigned)a->port);
	return out;
}

/* ---- loading ---- */

struct loader {
	struct sa_config *c;
	struct lb_conf *doc[FILES_MAX];
	const char *doc_name[FILES_MAX];
	size_t docs;
	struct {
		size_t doc;
		const struct lb_conf_node *node;
		const struct lb_conf_node *machine[SA_MACHINES_MAX];
	} origin[SA_GROUPS_MAX];
};

/* The scalar @key of @map when something is written there, NULL otherwise. */
static const struct lb_conf_node *written(const struct lb_conf_node *map, const char *key)
{
	const struct lb_conf_node *n = lb_conf_get(map, key);
	const char *text = n != NULL ? lb_conf_text(n) : NULL;

	return text != NULL && text[0] != '\0' ? n : NULL;
}

static void check_absolute(struct lb_conf *doc, const struct lb_conf_node *map, const char *key)
{
	const struct lb_conf_node *n = written(map, key);

	if (n != NULL && lb_conf_text(n)[0] != '/')
		lb_conf_problem(doc, n, "%s: \"%.64s\" is not an absolute path", key,
				lb_conf_text(n));
}

/* What namespaces and bridges are called ends up in arguments of programs. */
static void check_plain(struct lb_conf *doc, const struct lb_conf_node *map, const char *key)
{
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				      "0123456789._-";
	const struct lb_conf_node *n = written(map, key);
	const char *text = n != NULL ? lb_conf_text(n) : "a";

	if (text[strspn(text, allowed)] != '\0' || text[0] == '-' || text[0] == '.')
		lb_conf_problem(doc, n,
				"%s: \"%.64s\" is not a name (letters, digits, '.', '_', '-')", key,
				text);
}

static void read_addr(struct lb_conf *doc, const char *key, const char *text, struct sa_addr *out)
{
	struct lb_err err;

	if (text[0] != '\0' && sa_addr_parse(out, text, &err) != 0)
		lb_conf_problem(doc, lb_conf_get(lb_conf_root(doc), key), "%s: %s", key, err.msg);
}

/* The list @key of @map, NULL when it is not there or is none. @what: why it is required, or NULL.
 */
static const struct lb_conf_node *list_of(struct lb_conf *doc, const struct lb_conf_node *map,
					  const char *key, size_t max, const char *what)
{
	const struct lb_conf_node *n = lb_conf_get(map, key);

	if (n == NULL && what != NULL && lb_conf_kind(map) == LB_CONF_MAP)
		lb_conf_problem(doc, map, "missing key \"%s\": %s", key, what);
	if (n == NULL)
		return NULL;
	if (lb_conf_kind(n) != LB_CONF_SEQ)
		lb_conf_problem(doc, n, "%s: expected a list (- name: ...)", key);
	else if (lb_conf_count(n) > max)
		lb_conf_problem(doc, n, "%s: %zu, at most %zu", key, lb_conf_count(n), max);
	else if (what != NULL && lb_conf_count(n) == 0)
		lb_conf_problem(doc, n, "%s: the list is empty: %s", key, what);
	else
		return n;
	return NULL;
}

static void fill_volume(struct lb_conf *doc, const struct lb_conf_node *n, int driver,
			struct sa_machine_cfg *m)
{
	struct sa_volume_cfg *v = &m->volume[m->volumes];

	lb_conf_fill(doc, n, volume_fields, NULL, v);
	check_absolute(doc, n, "path");
	if ((driver == DRIVER_BLOCK || driver == DRIVER_VMCORE) && lb_conf_kind(n) == LB_CONF_MAP &&
	    lb_conf_get(n, "path") == NULL)
		lb_conf_problem(doc, n,
				"missing key \"path\": image file or block device of this volume");
	if (driver == DRIVER_LIBVIRT && lb_conf_get(n, "path") != NULL)
		lb_conf_problem(doc, lb_conf_get(n, "path"),
				"path: not for driver libvirt; a domain knows its disks");
	for (size_t i = 0; i < m->volumes; i++) {
		if (v->name[0] != '\0' && strcmp(m->volume[i].name, v->name) == 0)
			lb_conf_problem(doc, lb_conf_get(n, "name"),
					"name: this machine has a volume \"%s\" already", v->name);
		if (v->path[0] != '\0' && strcmp(m->volume[i].path, v->path) == 0)
			lb_conf_problem(doc, lb_conf_get(n, "path"),
					"path: this machine has \"%.64s\" already, as volume %s",
					v->path, m->volume[i].name);
	}
	m->volumes++;
}

static void check_address(struct lb_conf *doc, const struct lb_conf_node *map)
{
	const struct lb_conf_node *n = written(map, "address");
	uint8_t numeric[sizeof(struct in6_addr)];

	if (n != NULL && inet_pton(AF_INET, lb_conf_text(n), numeric) != 1 &&
	    inet_pton(AF_INET6, lb_conf_text(n), numeric) != 1)
		lb_conf_problem(doc, n, "address: \"%.64s\" is not a numeric address",
				lb_conf_text(n));
}

/* Where "qemu+ssh://host/system" names a host, "qemu:///system" none. Disks are mirrored and served
 * over unix sockets of this host, which a QEMU elsewhere cannot reach. */
static void check_uri(struct lb_conf *doc, const struct lb_conf_node *map)
{
	const struct lb_conf_node *n = written(map, "uri");
	const char *text = n != NULL ? lb_conf_text(n) : "", *host = strstr(text, "://");

	if (n != NULL && host == NULL)
		lb_conf_problem(doc, n, "uri: \"%.64s\" is not a libvirt URI (qemu:///system)",
				text);
	else if (n != NULL && host[3] != '/')
		lb_conf_problem(doc, n,
				"uri: \"%.64s\" is on another host; run lifeboatd on that host",
				text);
}

static void check_driver_keys(struct lb_conf *doc, const struct lb_conf_node *n, int driver)
{
	static const struct {
		const char *key;
		int driver;
	} only[] = {{"uri", DRIVER_LIBVIRT},
		    {"domain", DRIVER_LIBVIRT},
		    {"xml", DRIVER_BLOCK},
		    {"frozen", DRIVER_BLOCK}};

	for (size_t i = 0; i < sizeof(only) / sizeof(only[0]); i++) {
		if (driver >= 0 && driver != only[i].driver && lb_conf_get(n, only[i].key) != NULL)
			lb_conf_problem(doc, lb_conf_get(n, only[i].key), "%s: only for driver %s",
					only[i].key, driver_names[only[i].driver]);
	}
}

static void fill_machine(struct lb_conf *doc, const struct lb_conf_node *n,
			 struct sa_machine_cfg *out)
{
	struct raw_machine raw = {.driver = -1};
	const struct lb_conf_node *list;

	lb_conf_fill(doc, n, machine_fields, machine_also, &raw);
	check_absolute(doc, n, "xml");
	check_address(doc, n);
	check_uri(doc, n);
	check_driver_keys(doc, n, raw.driver);
	if (raw.driver >= 0)
		(void)snprintf(raw.m.driver, sizeof(raw.m.driver), "%s", driver_names[raw.driver]);
	if (raw.driver == DRIVER_LIBVIRT && raw.m.uri[0] == '\0')
		(void)snprintf(raw.m.uri, sizeof(raw.m.uri), "qemu:///system");
	if (raw.driver == DRIVER_LIBVIRT && raw.m.domain[0] == '\0')
		memcpy(raw.m.domain, raw.m.name, sizeof(raw.m.domain));
	list = list_of(doc, n, "volumes", SA_VOLUMES_MAX, "disks to protect");
	for (size_t i = 0; list != NULL && i < lb_conf_count(list); i++)
		fill_volume(doc, lb_conf_item(list, i), raw.driver, &raw.m);
	sa_config_fill_vm(doc, n, &raw.m);
	*out = raw.m;
}

static int fill_group(struct loader *ld, size_t doc_i, const struct lb_conf_node *n)
{
	struct lb_conf *doc = ld->doc[doc_i];
	struct sa_group_cfg *g = &ld->c->group[ld->c->groups];
	const struct lb_conf_node *list;

	ld->origin[ld->c->groups].doc = doc_i;
	ld->origin[ld->c->groups++].node = n;
	lb_conf_fill(doc, n, group_fields, group_also, g);
	if (g->peer[0] != '\0' && strcmp(g->peer, ld->c->site) == 0)
		lb_conf_problem(doc, lb_conf_get(n, "peer"), "peer: \"%s\" is this site itself",
				g->peer);
	list = list_of(doc, n, "machines", SA_MACHINES_MAX, "what the group protects");
	if (list == NULL)
		return 0;
	g->machine = calloc(lb_conf_count(list), sizeof(*g->machine));
	if (g->machine == NULL)
		return LB_ENOMEM;
	for (; g->machines < lb_conf_count(list); g->machines++) {
		struct sa_machine_cfg *m = &g->machine[g->machines];

		ld->origin[ld->c->groups - 1].machine[g->machines] =
			lb_conf_item(list, g->machines);
		fill_machine(doc, lb_conf_item(list, g->machines), m);
		for (size_t i = 0; i < g->machines; i++) {
			if (m->name[0] != '\0' && strcmp(g->machine[i].name, m->name) == 0)
				lb_conf_problem(
					doc, lb_conf_get(lb_conf_item(list, g->machines), "name"),
					"name: this group has a machine \"%s\" already", m->name);
		}
	}
	return 0;
}

static int fill_groups(struct loader *ld, size_t doc_i)
{
	struct lb_conf *doc = ld->doc[doc_i];
	const struct lb_conf_node *list =
		list_of(doc, lb_conf_root(doc), "groups", SA_GROUPS_MAX - ld->c->groups, NULL);
	int rc = 0;

	for (size_t i = 0; list != NULL && i < lb_conf_count(list) && rc == 0; i++)
		rc = fill_group(ld, doc_i, lb_conf_item(list, i));
	return rc;
}

static void fill_hypervisor(struct lb_conf *doc, const struct lb_conf_node *n, struct sa_config *c)
{
	struct raw_hypervisor raw = {.driver = 0};

	lb_conf_fill(doc, n, hypervisor_fields, NULL, &raw);
	check_uri(doc, n);
	check_absolute(doc, n, "kernel");
	check_absolute(doc, n, "initrd");
	check_absolute(doc, n, "firmware");
	check_absolute(doc, n, "vga_firmware");
	if (raw.initrd[0] != '\0' && raw.kernel[0] == '\0')
		lb_conf_problem(doc, lb_conf_get(n, "initrd"),
				"initrd: of no use without \"kernel\"");
	c->has_hypervisor = true;
	if (raw.driver >= 0)
		(void)snprintf(c->hv_driver, sizeof(c->hv_driver), "%s",
			       hypervisor_names[raw.driver]);
	memcpy(c->hv_firmware, raw.firmware, sizeof(c->hv_firmware));
	memcpy(c->hv_vga_firmware, raw.vga_firmware, sizeof(c->hv_vga_firmware));
	memcpy(c->hv_uri, raw.uri, sizeof(c->hv_uri));
	memcpy(c->hv_kernel, raw.kernel, sizeof(c->hv_kernel));
	memcpy(c->hv_initrd, raw.initrd, sizeof(c->hv_initrd));
	c->hv_kvm = raw.kvm;
}

static void fill_network(struct lb_conf *doc, const char *key, struct sa_network_cfg *out)
{
	const struct lb_conf_node *n = lb_conf_get(lb_conf_root(doc), key);

	lb_conf_fill(doc, n, network_fields, NULL, out);
	if (n == NULL)
		return;
	check_plain(doc, n, "netns");
	check_plain(doc, n, "bridge");
}

static int fill_site(struct loader *ld)
{
	struct lb_conf *doc = ld->doc[0];
	const struct lb_conf_node *root = lb_conf_root(doc);
	struct raw_site *raw = calloc(1, sizeof(*raw));

	if (raw == NULL)
		return LB_ENOMEM;
	lb_conf_fill(doc, root, site_fields, site_also, raw);
	check_absolute(doc, root, "state_dir");
	check_absolute(doc, root, "control_socket");
	check_absolute(doc, root, "plugin_dir");
	check_absolute(doc, root, "vm_program");
	check_absolute(doc, root, "runbooks");
	raw->c.group = ld->c->group;
	*ld->c = raw->c;
	read_addr(doc, "listen", raw->listen, &ld->c->listen);
	read_addr(doc, "enrol_listen", raw->enrol_listen, &ld->c->enrol_listen);
	if (ld->c->listen.port != 0 && ld->c->listen.port == ld->c->enrol_listen.port &&
	    strcmp(ld->c->listen.host, ld->c->enrol_listen.host) == 0)
		lb_conf_problem(doc, lb_conf_get(root, "enrol_listen"),
				"enrol_listen: the same address and port as \"listen\"");
	free(raw);
	lb_conf_fill(doc, lb_conf_get(root, "store"), store_fields, NULL, ld->c);
	/* what `lifeboat vm run` boots by, where no replicas are booted */
	(void)snprintf(ld->c->hv_firmware, sizeof(ld->c->hv_firmware), "%s", SA_FIRMWARE);
	(void)snprintf(ld->c->hv_vga_firmware, sizeof(ld->c->hv_vga_firmware), "%s",
		       SA_VGA_FIRMWARE);
	if (lb_conf_get(root, "hypervisor") != NULL)
		fill_hypervisor(doc, lb_conf_get(root, "hypervisor"), ld->c);
	fill_network(doc, "drill_network", &ld->c->drill_network);
	fill_network(doc, "failover_network", &ld->c->failover_network);
	return 0;
}

/* ---- across groups and files ---- */

/* The value of @key for messages, or the whole map when it is a default. */
static const struct lb_conf_node *at_key(const struct lb_conf_node *map, const char *key)
{
	const struct lb_conf_node *n = lb_conf_get(map, key);

	return n != NULL ? n : map;
}

static void check_group_name(struct loader *ld, size_t a, size_t b)
{
	const struct sa_group_cfg *g = &ld->c->group[b];

	if (g->name[0] != '\0' && strcmp(ld->c->group[a].name, g->name) == 0)
		lb_conf_problem(ld->doc[ld->origin[b].doc], at_key(ld->origin[b].node, "name"),
				"name: group \"%s\" is there already, %.100s line %u", g->name,
				ld->doc_name[ld->origin[a].doc],
				lb_conf_line(at_key(ld->origin[a].node, "name")));
}

/* Two machines must not read the same disks: two mirrors of one disk, or one disk with two replicas
 * that are cut at different instants. A path is a disk whatever reads it. */
static bool same_disks(const struct sa_machine_cfg *a, const struct sa_machine_cfg *b,
		       const char **key, const char **value)
{
	*key = "domain";
	*value = b->domain;
	if (b->domain[0] != '\0')
		return strcmp(a->driver, b->driver) == 0 && strcmp(a->domain, b->domain) == 0 &&
		       strcmp(a->uri, b->uri) == 0;
	for (size_t i = 0; i < a->volumes; i++) {
		for (size_t j = 0; j < b->volumes; j++) {
			*key = "volumes";
			*value = b->volume[j].path;
			if (**value != '\0' && strcmp(a->volume[i].path, *value) == 0)
				return true;
		}
	}
	return false;
}

static void check_disks(struct loader *ld, size_t ga, size_t gb)
{
	const struct sa_group_cfg *a = &ld->c->group[ga], *b = &ld->c->group[gb];
	const char *key, *value;

	for (size_t j = 0; j < b->machines; j++) {
		for (size_t i = 0; i < (ga == gb ? j : a->machines); i++) {
			if (!same_disks(&a->machine[i], &b->machine[j], &key, &value))
				continue;
			lb_conf_problem(
				ld->doc[ld->origin[gb].doc], at_key(ld->origin[gb].machine[j], key),
				"%s: \"%.64s\" is protected already, by machine %s of group %s",
				key, value, a->machine[i].name, a->name);
			break;
		}
	}
}

static void check_across(struct loader *ld)
{
	for (size_t b = 0; b < ld->c->groups; b++) {
		for (size_t a = 0; a <= b; a++) {
			if (a < b)
				check_group_name(ld, a, b);
			check_disks(ld, a, b);
		}
	}
}

/* ---- files ---- */

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static bool is_yaml(const char *name)
{
	size_t len = strlen(name);

	return name[0] != '.' && len > 5 && strcmp(name + len - 5, ".yaml") == 0;
}

/* Paths of conf.d's files in name order; free each. */
static int list_conf_d(const char *path, char **out, size_t max, size_t *n, struct lb_err *err)
{
	const char *slash = strrchr(path, '/');
	char dir[4096];
	struct dirent *e;
	int rc = 0;
	DIR *d;

	(void)snprintf(dir, sizeof(dir), "%.*sconf.d", slash != NULL ? (int)(slash - path) + 1 : 0,
		       path);
	d = opendir(dir);
	if (d == NULL)
		return errno == ENOENT ? 0 : lb_err_errno(err, errno, "open directory %s", dir);
	while (rc == 0 && (e = readdir(d)) != NULL) {
		if (!is_yaml(e->d_name))
			continue;
		if (*n == max)
			rc = lb_err_set(err, LB_EINPUT, 0, "%s: more than %zu files", dir, max);
		else if (asprintf(&out[*n], "%s/%s", dir, e->d_name) < 0)
			rc = lb_err_set(err, LB_ENOMEM, 0, "list %s", dir);
		else
			(*n)++;
	}
	(void)closedir(d);
	qsort(out, *n, sizeof(out[0]), by_text);
	return rc;
}

/* What is not YAML is a problem among the others; what cannot be read ends the load. */
static int add_doc(struct loader *ld, const char *path, struct lb_err *err)
{
	int rc = lb_conf_parse_file(&ld->doc[ld->docs], path, err);

	if (ld->doc[ld->docs] == NULL)
		return rc;
	ld->doc_name[ld->docs++] = path;
	return 0;
}

static int read_docs(struct loader *ld, const char *path, char **extra, size_t extras,
		     struct lb_err *err)
{
	int rc = add_doc(ld, path, err);

	for (size_t i = 0; i < extras && rc == 0; i++)
		rc = add_doc(ld, extra[i], err);
	return rc;
}

static int fill_all(struct loader *ld, struct lb_err *err)
{
	/* A file that is no YAML has its one message: no "missing key" about it. */
	int rc = lb_conf_problem_count(ld->doc[0]) == 0 ||
				 lb_conf_count(lb_conf_root(ld->doc[0])) != 0
			 ? fill_site(ld)
			 : 0;

	for (size_t i = 0; i < ld->docs && rc == 0; i++) {
		if (i > 0)
			lb_conf_fill(ld->doc[i], lb_conf_root(ld->doc[i]), no_fields, file_also,
				     NULL);
		rc = fill_groups(ld, i);
	}
	if (rc != 0)
		return lb_err_set(err, LB_ENOMEM, 0, "load %s", ld->doc_name[0]);
	check_across(ld);
	return 0;
}

/* All problems of all files; LB_EINPUT with the first in @err when there is any. */
static int collect(struct loader *ld, char **problems, struct lb_err *err)
{
	size_t len = 0;
	FILE *f;
	int rc = 0;

	for (size_t i = 0; i < ld->docs && rc == 0; i++)
		rc = lb_conf_check(ld->doc[i], err);
	if (rc == 0)
		return 0;
	f = open_memstream(problems, &len);
	if (f == NULL)
		return rc;
	for (size_t i = 0; i < ld->docs; i++)
		(void)fputs(lb_conf_problems(ld->doc[i]), f);
	(void)fclose(f);
	return rc;
}

static struct loader *loader_create(void)
{
	struct loader *ld = calloc(1, sizeof(*ld));

	if (ld == NULL)
		return NULL;
	ld->c = calloc(1, sizeof(*ld->c));
	if (ld->c != NULL)
		ld->c->group = calloc(SA_GROUPS_MAX, sizeof(*ld->c->group));
	if (ld->c == NULL || ld->c->group == NULL) {
		sa_config_destroy(ld->c);
		free(ld);
		return NULL;
	}
	return ld;
}

int sa_config_load(struct sa_config **out, const char *path, char **problems, struct lb_err *err)
{
	struct loader *ld = loader_create();
	char *extra[FILES_MAX - 1] = {NULL};
	size_t extras = 0;
	int rc;

	*problems = NULL;
	if (ld == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "load %s", path);
	rc = list_conf_d(path, extra, FILES_MAX - 1, &extras, err);
	if (rc == 0)
		rc = read_docs(ld, path, extra, extras, err);
	if (rc == 0)
		rc = fill_all(ld, err);
	if (rc == 0)
		rc = collect(ld, problems, err);
	if (rc == 0) {
		*out = ld->c;
		ld->c = NULL;
	}
	for (size_t i = 0; i < ld->docs; i++)
		lb_conf_destroy(ld->doc[i]);
	for (size_t i = 0; i < extras; i++)
		free(extra[i]);
	sa_config_destroy(ld->c);
	free(ld);
	return rc;
}

void sa_config_destroy(struct sa_config *c)
{
	if (c == NULL)
		return;
	for (size_t i = 0; c->group != NULL && i < SA_GROUPS_MAX; i++)
		free(c->group[i].machine);
	free(c->group);
	free(c);
}

/* ---- all keys, for people ---- */

static void print_amount(FILE *f, enum lb_conf_type type, uint64_t n)
{
	static const struct {
		uint64_t factor;
		const char *unit;
	} bytes[] = {{UINT64_C(1) << 30, " GiB"}, {UINT64_C(1) << 20, " MiB"}, {1, ""}},
	  times[] = {{UINT64_C(86400000000000), "d"}, {UINT64_C(1000000), "ms"}, {1, "ns"}};
	size_t i = 0;

	if (type != LB_CT_BYTES && type != LB_CT_DURATION) {
		(void)fprintf(f, "%" PRIu64, n);
		return;
	}
	while (n % (type == LB_CT_BYTES ? bytes : times)[i].factor != 0)
		i++;
	(void)fprintf(f, "%" PRIu64 "%s", n / (type == LB_CT_BYTES ? bytes : times)[i].factor,
		      (type == LB_CT_BYTES ? bytes : times)[i].unit);
}

static const char *type_name(const struct lb_conf_field *k)
{
	switch (k->type) {
	case LB_CT_STR:
		return "text";
	case LB_CT_NAME:
		return "name";
	case LB_CT_U64:
		return "number";
	case LB_CT_BYTES:
		return "size";
	case LB_CT_DURATION:
		return "duration";
	case LB_CT_BOOL:
		return "true|false";
	case LB_CT_ENUM:
		return k->choices;
	}
	return "?";
}

static void print_keys(FILE *f, const char *prefix, const struct lb_conf_field *k)
{
	for (; k->key != NULL; k++) {
		(void)fprintf(f, "%s%s: %s", prefix, k->key, type_name(k));
		if (k->max != 0 && k->type != LB_CT_STR && k->type != LB_CT_NAME) {
			(void)fputs(", ", f);
			print_amount(f, k->type, k->min);
			(void)fputs(" to ", f);
			print_amount(f, k->type, k->max);
		}
		if (k->dflt == NULL)
			(void)fputs(", required", f);
		else if (k->dflt[0] != '\0')
			(void)fprintf(f, ", default %s", k->dflt);
		(void)fprintf(f, "\n    %s\n", k->help);
	}
}

char *sa_config_keys_text(void)
{
	char *out = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&out, &len);

	if (f == NULL)
		return NULL;
	print_keys(f, "", site_fields);
	print_keys(f, "store.", store_fields);
	print_keys(f, "hypervisor.", hypervisor_fields);
	print_keys(f, "drill_network.", network_fields);
	print_keys(f, "failover_network.", network_fields);
	print_keys(f, "groups[].", group_fields);
	print_keys(f, "groups[].machines[].", machine_fields);
	print_keys(f, "groups[].machines[].vm.", sa_config_vm_fields);
	print_keys(f, "groups[].machines[].volumes[].", volume_fields);
	if (fclose(f) != 0) {
		free(out);
		return NULL;
	}
	return out;
}
