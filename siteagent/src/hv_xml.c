/*
 * The stored description is another site's bytes. Nothing of it is passed on as it is: a new
 * document is built, element by element, from what is listed here; every copied value is checked
 * against the set of characters it may consist of; every path in the result is ours.
 */
#include <inttypes.h>
#include <libxml/tree.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "hv_int.h"
#include "lv_int.h"

#define LOWER  "abcdefghijklmnopqrstuvwxyz"
#define DIGIT  "0123456789"
#define WORD   LOWER "ABCDEFGHIJKLMNOPQRSTUVWXYZ" DIGIT "._-"
#define HEX    DIGIT "abcdefABCDEF"
#define NUMBER HEX "x"

enum {
	VALUE_BYTES = 80,
	VCPUS_MAX = 256
};

struct build {
	const struct sa_hv_machine *m;
	const struct sa_hv_boot_cfg *cfg;
	xmlNodePtr from; /* foreign <domain> */
	xmlNodePtr to;   /* ours */
	struct sa_hv_domain *out;
	bool oom;
};

/* ---- building ---- */

static xmlNodePtr add(struct build *b, xmlNodePtr parent, const char *name, const char *text)
{
	xmlNodePtr n = xmlNewTextChild(parent, NULL, (const xmlChar *)name, (const xmlChar *)text);

	if (n == NULL)
		b->oom = true;
	return n;
}

static void set(struct build *b, xmlNodePtr n, const char *name, const char *value)
{
	if (n == NULL || xmlNewProp(n, (const xmlChar *)name, (const xmlChar *)value) == NULL)
		b->oom = true;
}

/* Copy attribute @name when its value consists of @chars only. False: it is missing or does not. */
static bool copy_attr(struct build *b, xmlNodePtr to, xmlNodePtr from, const char *name,
		      const char *chars)
{
	char value[VALUE_BYTES];

	(void)sa_xml_attr(from, name, value, sizeof value);
	if (value[0] == '\0' || strspn(value, chars) != strlen(value))
		return false;
	set(b, to, name, value);
	return true;
}

/* Where on its bus a device sat: guests name disks and NICs after it. */
static void copy_address(struct build *b, xmlNodePtr to, xmlNodePtr device)
{
	static const char *const names[] = {"domain",   "bus",           "slot",
					    "function", "controller",    "target",
					    "unit",     "multifunction", "port"};
	xmlNodePtr from = sa_xml_child(device, "address"), n;
	char type[VALUE_BYTES];

	(void)sa_xml_attr(from, "type", type, sizeof type);
	if (strcmp(type, "pci") != 0 && strcmp(type, "drive") != 0 &&
	    strcmp(type, "virtio-serial") != 0)
		return;
	n = add(b, to, "address", NULL);
	set(b, n, "type", type);
	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
		(void)copy_attr(b, n, from, names[i],
				strcmp(names[i], "multifunction") == 0 ? LOWER : NUMBER);
}

/* ---- the machine ---- */

int sa_hv_number(uint64_t *out, struct _xmlNode *n, const char *what, struct lb_err *err)
{
	char text[VALUE_BYTES];

	(void)sa_xml_text(n, text, sizeof text);
	if (text[0] == '\0' || strspn(text, DIGIT) != strlen(text) || strlen(text) > 15)
		return lb_err_set(err, LB_EINPUT, 0, "machine description: <%s> is no number",
				  what);
	*out = strtoull(text, NULL, 10);
	return 0;
}

int sa_hv_memory_bytes(uint64_t *out, struct _xmlNode *n, struct lb_err *err)
{
	static const struct {
		const char *unit;
		unsigned shift;
	} units[] = {{"", 10}, {"KiB", 10}, {"MiB", 20}, {"GiB", 30}, {"b", 0}, {"bytes", 0}};
	char unit[VALUE_BYTES];
	uint64_t count = 0;
	int rc = sa_hv_number(&count, n, "memory", err);

	if (rc != 0)
		return rc;
	(void)sa_xml_attr(n, "unit", unit, sizeof unit);
	for (size_t i = 0; i < sizeof units / sizeof units[0]; i++)
		if (strcmp(unit, units[i].unit) == 0 && count < UINT64_C(1)
									<< (50 - units[i].shift)) {
			*out = count << units[i].shift;
			return 0;
		}
	return lb_err_set(err, LB_EINPUT, 0, "machine description: memory of %" PRIu64 " \"%s\"",
			  count, unit);
}

static int build_size(struct build *b, struct lb_err *err)
{
	char text[32], uuid[VALUE_BYTES];
	uint64_t cpus = 1;
	int rc = sa_hv_memory_bytes(&b->out->memory_bytes, sa_xml_child(b->from, "memory"), err);

	if (rc == 0 && sa_xml_child(b->from, "vcpu") != NULL)
		rc = sa_hv_number(&cpus, sa_xml_child(b->from, "vcpu"), "vcpu", err);
	if (rc == 0 && (cpus == 0 || cpus > VCPUS_MAX))
		rc = lb_err_set(err, LB_EUNSUPPORTED, 0, "a machine with %" PRIu64 " CPUs", cpus);
	if (rc != 0)
		return rc;
	(void)add(b, b->to, "name", b->m->name);
	(void)sa_xml_text(sa_xml_child(b->from, "uuid"), uuid, sizeof uuid);
	if (b->cfg->keep_uuid && strlen(uuid) == 36 && strspn(uuid, HEX "-") == 36)
		(void)add(b, b->to, "uuid", uuid);
	(void)snprintf(text, sizeof text, "%" PRIu64, b->out->memory_bytes);
	set(b, add(b, b->to, "memory", text), "unit", "bytes");
	(void)snprintf(text, sizeof text, "%" PRIu64, cpus);
	(void)add(b, b->to, "vcpu", text);
	return 0;
}

static int build_kernel(struct build *b, xmlNodePtr from, xmlNodePtr os, struct lb_err *err)
{
	const struct sa_hv *hv = b->m->hv;
	char cmdline[4096], all[6144];

	if (hv->kernel == NULL)
		return lb_err_set(
			err, LB_EUNSUPPORTED, 0,
			"direct kernel boot, and no hypervisor.kernel is configured here");
	(void)add(b, os, "kernel", hv->kernel);
	if (hv->initrd != NULL)
		(void)add(b, os, "initrd", hv->initrd);
	(void)sa_xml_text(sa_xml_child(from, "cmdline"), cmdline, sizeof cmdline);
	(void)snprintf(all, sizeof all, "%s%s%.2000s", cmdline,
		       b->cfg->cmdline_extra != NULL ? " " : "",
		       b->cfg->cmdline_extra != NULL ? b->cfg->cmdline_extra : "");
	(void)add(b, os, "cmdline", all);
	return 0;
}

static int build_os(struct build *b, struct lb_err *err)
{
	xmlNodePtr from = sa_xml_child(b->from, "os"), os = add(b, b->to, "os", NULL), type;
	char arch[VALUE_BYTES], firmware[VALUE_BYTES], text[VALUE_BYTES];
	xmlNodePtr from_type = sa_xml_child(from, "type");

	(void)sa_xml_attr(from_type, "arch", arch, sizeof arch);
	(void)sa_xml_attr(from, "firmware", firmware, sizeof firmware);
	if (strcmp(sa_xml_text(from_type, text, sizeof text), "hvm") != 0)
		return lb_err_set(err, LB_EUNSUPPORTED, 0, "a machine of OS type \"%s\"", text);
	if (arch[0] != '\0' && strcmp(arch, "x86_64") != 0 && strcmp(arch, "i686") != 0)
		return lb_err_set(err, LB_EUNSUPPORTED, 0, "a machine of architecture %s", arch);
	if (sa_xml_child(from, "loader") != NULL || sa_xml_child(from, "nvram") != NULL ||
	    strcmp(firmware, "efi") == 0)
		return lb_err_set(err, LB_EUNSUPPORTED, 0, "UEFI firmware");
	type = add(b, os, "type", "hvm");
	set(b, type, "arch", "x86_64");
	(void)copy_attr(b, type, from_type, "machine", WORD);
	if (sa_xml_child(from, "kernel") != NULL)
		return build_kernel(b, from, os, err);
	set(b, add(b, os, "boot", NULL), "dev", "hd");
	return 0;
}

static void build_platform(struct build *b)
{
	static const char *const features[] = {"acpi", "apic", "pae"};
	xmlNodePtr from = sa_xml_child(b->from, "features"), to = add(b, b->to, "features", NULL);
	xmlNodePtr cpu = sa_xml_child(b->from, "cpu"), model = sa_xml_child(cpu, "model"), n;
	char mode[VALUE_BYTES], name[VALUE_BYTES];

	for (size_t i = 0; i < sizeof features / sizeof features[0]; i++)
		if (sa_xml_child(from, features[i]) != NULL)
			(void)add(b, to, features[i], NULL);
	(void)sa_xml_attr(cpu, "mode", mode, sizeof mode);
	(void)sa_xml_text(model, name, sizeof name);
	/* host-model and host-passthrough mean another host's CPU: QEMU's default instead. */
	if ((mode[0] == '\0' || strcmp(mode, "custom") == 0) && name[0] != '\0' &&
	    strspn(name, WORD) == strlen(name)) {
		n = add(b, b->to, "cpu", NULL);
		set(b, n, "mode", "custom");
		set(b, n, "match", "exact");
		set(b, n, "check", "none");
		(void)add(b, n, "model", name);
	}
	n = add(b, b->to, "clock", NULL);
	if (!copy_attr(b, n, sa_xml_child(b->from, "clock"), "offset", LOWER))
		set(b, n, "offset", "utc");
	(void)add(b, b->to, "on_poweroff", "destroy");
	(void)add(b, b->to, "on_reboot", "restart");
	(void)add(b, b->to, "on_crash", "destroy");
}

/* ---- devices ---- */

static const struct sa_hv_disk *disk_named(const struct sa_hv_boot_cfg *cfg, const char *name,
					   size_t *index)
{
	for (size_t i = 0; i < cfg->disk_count; i++)
		if (strcmp(cfg->disks[i].name, name) == 0) {
			*index = i;
			return &cfg->disks[i];
		}
	return NULL;
}

static int build_disk(struct build *b, xmlNodePtr devices, xmlNodePtr from, struct lb_err *err)
{
	xmlNodePtr target = sa_xml_child(from, "target"), n, backing, source;
	const struct sa_hv_disk *disk;
	char name[VALUE_BYTES], path[PATH_MAX];
	size_t i = 0;
	int rc;

	disk = disk_named(b->cfg, sa_xml_attr(target, "dev", name, sizeof name), &i);
	if (disk == NULL)
		return lb_err_set(err, LB_EUNSUPPORTED, 0,
				  "its disk \"%.64s\" is not in the recovery point", name);
	rc = sa_hv_overlay(b->m, i, path, err);
	if (rc != 0)
		return rc;
	n = add(b, devices, "disk", NULL);
	set(b, n, "type", "file");
	set(b, n, "device", "disk");
	source = add(b, n, "driver", NULL);
	set(b, source, "name", "qemu");
	set(b, source, "type", "qcow2");
	set(b, source, "discard", "unmap");
	set(b, add(b, n, "source", NULL), "file", path);
	/* Said in full, so that nothing is read from an image to find out. */
	backing = add(b, n, "backingStore", NULL);
	set(b, backing, "type", "network");
	set(b, add(b, backing, "format", NULL), "type", "raw");
	source = add(b, backing, "source", NULL);
	set(b, source, "protocol", "nbd");
	set(b, source, "name", disk->nbd_export != NULL ? disk->nbd_export : "");
	source = add(b, source, "host", NULL);
	set(b, source, "transport", "unix");
	set(b, source, "socket", disk->nbd_socket);
	(void)add(b, backing, "backingStore", NULL);
	source = add(b, n, "target", NULL);
	set(b, source, "dev", name);
	if (!copy_attr(b, source, target, "bus", LOWER))
		return lb_err_set(err, LB_EINPUT, 0, "machine description: disk %s has no bus",
				  name);
	copy_address(b, n, from);
	return 0;
}

static int build_disks(struct build *b, xmlNodePtr devices, struct lb_err *err)
{
	xmlNodePtr from = sa_xml_child(sa_xml_child(b->from, "devices"), "disk");
	size_t built = 0;

	for (; from != NULL; from = sa_xml_next(from)) {
		char device[VALUE_BYTES];
		int rc;

		(void)sa_xml_attr(from, "device", device, sizeof device);
		if (device[0] != '\0' && strcmp(device, "disk") != 0)
			continue; /* media of drives stay behind */
		rc = build_disk(b, devices, from, err);
		if (rc != 0)
			return rc;
		built++;
	}
	if (built != b->cfg->disk_count)
		return lb_err_set(err, LB_EINPUT, 0,
				  "machine description: %zu disks, the point has %zu", built,
				  b->cfg->disk_count);
	return 0;
}

/* Every NIC becomes a bare tap: nothing is reachable until hv_libvirt.c connects it. */
static void build_nics(struct build *b, xmlNodePtr devices)
{
	xmlNodePtr from = sa_xml_child(sa_xml_child(b->from, "devices"), "interface");

	for (; from != NULL && b->out->nics < SA_HV_NICS_MAX; from = sa_xml_next(from)) {
		xmlNodePtr n = add(b, devices, "interface", NULL), t;
		char tap[SA_HV_TAP_BYTES];

		set(b, n, "type", "ethernet");
		t = add(b, n, "mac", NULL);
		(void)copy_attr(b, t, sa_xml_child(from, "mac"), "address", HEX ":");
		sa_hv_tap(b->m, b->out->nics++, tap);
		t = add(b, n, "target", NULL);
		set(b, t, "dev", tap);
		set(b, t, "managed", "yes");
		t = add(b, n, "model", NULL);
		if (!copy_attr(b, t, sa_xml_child(from, "model"), "type", WORD))
			set(b, t, "type", "e1000");
		set(b, add(b, n, "rom", NULL), "enabled", "no");
		copy_address(b, n, from);
	}
}

static void build_controllers(struct build *b, xmlNodePtr devices)
{
	xmlNodePtr from = sa_xml_child(sa_xml_child(b->from, "devices"), "controller");

	for (; from != NULL; from = sa_xml_next(from)) {
		xmlNodePtr n = add(b, devices, "controller", NULL);

		if (!copy_attr(b, n, from, "type", LOWER "-"))
			set(b, n, "type", "pci");
		(void)copy_attr(b, n, from, "index", DIGIT);
		(void)copy_attr(b, n, from, "model", WORD);
		copy_address(b, n, from);
	}
}

static int build_ports(struct build *b, xmlNodePtr devices, struct lb_err *err)
{
	xmlNodePtr from = sa_xml_child(sa_xml_child(b->from, "devices"), "channel"), n, s;
	char path[PATH_MAX], name[VALUE_BYTES];
	int rc = sa_hv_path(b->m, "serial.log", path, err);

	if (rc != 0)
		return rc;
	n = add(b, devices, "serial", NULL);
	set(b, n, "type", "file");
	s = add(b, n, "source", NULL);
	set(b, s, "path", path);
	set(b, s, "append", "on");
	for (; from != NULL; from = sa_xml_next(from)) {
		(void)sa_xml_attr(sa_xml_child(from, "target"), "name", name, sizeof name);
		if (strcmp(name, "org.lifeboat.heartbeat") != 0)
			continue;
		rc = sa_hv_path(b->m, "heartbeat.sock", path, err);
		if (rc != 0)
			return rc;
		n = add(b, devices, "channel", NULL);
		set(b, n, "type", "unix");
		s = add(b, n, "source", NULL);
		set(b, s, "mode", "bind");
		set(b, s, "path", path);
		s = add(b, n, "target", NULL);
		set(b, s, "type", "virtio");
		set(b, s, "name", name);
		copy_address(b, n, from);
		break;
	}
	return 0;
}

static int build_devices(struct build *b, struct lb_err *err)
{
	xmlNodePtr devices = add(b, b->to, "devices", NULL), n;
	xmlNodePtr from = sa_xml_child(b->from, "devices");
	int rc = build_disks(b, devices, err);

	if (rc == 0)
		rc = build_ports(b, devices, err);
	if (rc != 0)
		return rc;
	build_controllers(b, devices);
	build_nics(b, devices);
	if (sa_xml_child(from, "video") != NULL)
		set(b, add(b, add(b, devices, "video", NULL), "model", NULL), "type", "vga");
	if (sa_xml_child(from, "rng") != NULL) {
		n = add(b, devices, "rng", NULL);
		set(b, n, "model", "virtio");
		set(b, add(b, n, "backend", "/dev/urandom"), "model", "random");
	}
	set(b, add(b, devices, "memballoon", NULL), "model", "none");
	return 0;
}

static int build_domain(struct build *b, struct lb_err *err)
{
	char type[VALUE_BYTES];
	int rc;

	(void)sa_xml_attr(b->from, "type", type, sizeof type);
	if (strcmp((const char *)b->from->name, "domain") != 0)
		return lb_err_set(err, LB_EINPUT, 0, "machine description is a <%.40s>",
				  (const char *)b->from->name);
	set(b, b->to, "type", b->m->hv->kvm && strcmp(type, "kvm") == 0 ? "kvm" : "qemu");
	rc = build_size(b, err);
	if (rc == 0)
		rc = build_os(b, err);
	if (rc == 0)
		build_platform(b);
	return rc != 0 ? rc : build_devices(b, err);
}

static int dump(xmlDocPtr doc, char **out, struct lb_err *err)
{
	xmlChar *text = NULL;
	int len = 0;

	xmlDocDumpFormatMemory(doc, &text, &len, 1);
	*out = text != NULL ? strdup((const char *)text) : NULL;
	xmlFree(text);
	return *out != NULL ? 0 : lb_err_set(err, LB_ENOMEM, 0, "domain XML");
}

int sa_hv_domain_build(struct sa_hv_domain *out, const struct sa_hv_machine *m,
		       const struct sa_hv_boot_cfg *cfg, struct lb_err *err)
{
	xmlDocPtr from = NULL, to;
	struct sa_hv_domain made = {0};
	struct build b = {.m = m, .cfg = cfg, .out = &made};
	int rc = sa_xml_parse(&from, cfg->machine_xml, "machine description", err);

	if (rc != 0)
		return rc;
	to = xmlNewDoc((const xmlChar *)"1.0");
	b.from = xmlDocGetRootElement(from);
	b.to = to != NULL ? xmlNewDocNode(to, NULL, (const xmlChar *)"domain", NULL) : NULL;
	if (b.to == NULL) {
		rc = lb_err_set(err, LB_ENOMEM, 0, "domain XML");
	} else {
		xmlDocSetRootElement(to, b.to);
		rc = build_domain(&b, err);
	}
	if (rc == 0 && b.oom)
		rc = lb_err_set(err, LB_ENOMEM, 0, "domain XML");
	if (rc == 0)
		rc = dump(to, &made.xml, err);
	if (rc == 0)
		*out = made;
	xmlFreeDoc(to);
	xmlFreeDoc(from);
	return rc;
}
