#include <inttypes.h>
#include <libxml/tree.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "hv_int.h"
#include "lv_int.h"
#include "vmdesc_int.h"

#define TEXT_BYTES 80
#define TWO_MB     (UINT64_C(2) << 20)

bool sa_vmdesc_bus(const char *disk_name, enum vm_disk_bus *out)
{
	bool ide = strncmp(disk_name, "hd", 2) == 0;

	if ((!ide && strncmp(disk_name, "vd", 2) != 0) || strlen(disk_name) != 3 ||
	    disk_name[2] < 'a' || disk_name[2] >= (ide ? 'e' : 'a' + VM_DISKS_MAX))
		return false;
	*out = ide ? VM_DISK_IDE : VM_DISK_VIRTIO;
	return true;
}

bool sa_vmdesc_mac(const char *text, uint8_t out[6])
{
	uint8_t mac[6];

	if (strlen(text) != 17)
		return false;
	for (size_t i = 0; i < 6; i++) {
		const char pair[] = {text[3 * i], text[3 * i + 1], '\0'};

		if (strspn(pair, "0123456789abcdefABCDEF") != 2 ||
		    (i < 5 && text[3 * i + 2] != ':'))
			return false;
		mac[i] = (uint8_t)strtoul(pair, NULL, 16);
	}
	memcpy(out, mac, sizeof(mac));
	return true;
}

/* ---- reading ---- */

static int unsupported(struct lb_err *err, const char *what, const char *value)
{
	return lb_err_set(err, LB_EUNSUPPORTED, 0, "vmcore has no %s %.60s", what, value);
}

static void read_uuid(struct lb_id *out, xmlNodePtr domain)
{
	char text[TEXT_BYTES], hex[LB_ID_TEXT];
	size_t n = 0;

	(void)sa_xml_text(sa_xml_child(domain, "uuid"), text, sizeof(text));
	for (const char *p = text; *p != '\0' && n < sizeof(hex) - 1; p++)
		if (*p != '-')
			hex[n++] = *p;
	hex[n] = '\0';
	if (lb_id_parse(out, hex, NULL) != 0)
		*out = (struct lb_id){{0}};
}

static int read_size(struct sa_vmdesc *d, xmlNodePtr domain, struct lb_err *err)
{
	uint64_t cpus = 1;
	int rc = sa_hv_memory_bytes(&d->ram_bytes, sa_xml_child(domain, "memory"), err);

	if (rc == 0 && sa_xml_child(domain, "vcpu") != NULL)
		rc = sa_hv_number(&cpus, sa_xml_child(domain, "vcpu"), "vcpu", err);
	if (rc != 0)
		return rc;
	if (cpus < 1 || cpus > VM_VCPUS_MAX)
		return lb_err_set(err, LB_EUNSUPPORTED, 0,
				  "vmcore has 1 to %d processors, not %" PRIu64, VM_VCPUS_MAX,
				  cpus);
	d->vcpus = (uint32_t)cpus;
	d->ram_bytes = (d->ram_bytes + TWO_MB - 1) / TWO_MB * TWO_MB;
	return d->ram_bytes == 0 ? lb_err_set(err, LB_EINPUT, 0, "a machine without memory") : 0;
}

static int read_os(struct sa_vmdesc *d, xmlNodePtr domain, struct lb_err *err)
{
	xmlNodePtr os = sa_xml_child(domain, "os"), type = sa_xml_child(os, "type");
	char text[TEXT_BYTES];

	if (strcmp(sa_xml_text(type, text, sizeof(text)), "hvm") != 0)
		return unsupported(err, "machines of OS type", text);
	(void)sa_xml_attr(type, "arch", text, sizeof(text));
	if (text[0] != '\0' && strcmp(text, "x86_64") != 0 && strcmp(text, "i686") != 0)
		return unsupported(err, "processors of architecture", text);
	(void)sa_xml_attr(os, "firmware", text, sizeof(text));
	if (sa_xml_child(os, "loader") != NULL || sa_xml_child(os, "nvram") != NULL ||
	    strcmp(text, "efi") == 0)
		return unsupported(err, "UEFI firmware", "");
	d->direct_kernel = sa_xml_child(os, "kernel") != NULL;
	if (d->direct_kernel)
		(void)sa_xml_text(sa_xml_child(os, "cmdline"), d->cmdline, sizeof(d->cmdline));
	return 0;
}

static int read_disk(struct sa_vmdesc *d, xmlNodePtr n, struct lb_err *err)
{
	xmlNodePtr target = sa_xml_child(n, "target");
	struct sa_vmdesc_disk *to = &d->disk[d->disks];
	char bus[TEXT_BYTES];

	if (d->disks == VM_DISKS_MAX)
		return unsupported(err, "room for disk", "9");
	(void)sa_xml_attr(target, "dev", to->name, sizeof(to->name));
	(void)sa_xml_attr(target, "bus", bus, sizeof(bus));
	if (strcmp(bus, "virtio") == 0)
		to->bus = VM_DISK_VIRTIO;
	else if (strcmp(bus, "ide") == 0)
		to->bus = VM_DISK_IDE;
	else
		return unsupported(err, "disk bus", bus);
	d->disks++;
	return 0;
}

static int read_nic(struct sa_vmdesc *d, xmlNodePtr n, struct lb_err *err)
{
	char model[TEXT_BYTES], mac[TEXT_BYTES];

	if (d->nics == VM_NICS_MAX)
		return unsupported(err, "room for NIC", "9");
	(void)sa_xml_attr(sa_xml_child(n, "model"), "type", model, sizeof(model));
	(void)sa_xml_attr(sa_xml_child(n, "mac"), "address", mac, sizeof(mac));
	if (strncmp(model, "virtio", 6) != 0)
		return unsupported(err, "NIC", model[0] != '\0' ? model : "of the default model");
	if (!sa_vmdesc_mac(mac, d->mac[d->nics]))
		return lb_err_set(err, LB_EINPUT, 0, "machine description: NIC without address");
	d->nics++;
	return 0;
}

static int read_devices(struct sa_vmdesc *d, xmlNodePtr domain, struct lb_err *err)
{
	xmlNodePtr devices = sa_xml_child(domain, "devices");
	int rc = 0;

	for (xmlNodePtr n = sa_xml_child(devices, "disk"); n != NULL && rc == 0;
	     n = sa_xml_next(n)) {
		char device[TEXT_BYTES];

		(void)sa_xml_attr(n, "device", device, sizeof(device));
		if (device[0] == '\0' || strcmp(device, "disk") == 0)
			rc = read_disk(d, n, err);
	}
	for (xmlNodePtr n = sa_xml_child(devices, "interface"); n != NULL && rc == 0;
	     n = sa_xml_next(n))
		rc = read_nic(d, n, err);
	return rc;
}

int sa_vmdesc_parse(struct sa_vmdesc *out, const char *domain_xml, struct lb_err *err)
{
	struct sa_vmdesc *d = calloc(1, sizeof(*d));
	xmlDocPtr doc = NULL;
	xmlNodePtr domain;
	int rc = d == NULL ? lb_err_set(err, LB_ENOMEM, 0, "machine description")
			   : sa_xml_parse(&doc, domain_xml, "machine description", err);

	domain = doc != NULL ? xmlDocGetRootElement(doc) : NULL;
	if (rc == 0 && (domain == NULL || strcmp((const char *)domain->name, "domain") != 0))
		rc = lb_err_set(err, LB_EINPUT, 0, "machine description is no <domain>");
	if (rc == 0) {
		read_uuid(&d->uuid, domain);
		rc = read_size(d, domain, err);
	}
	if (rc == 0)
		rc = read_os(d, domain, err);
	if (rc == 0)
		rc = read_devices(d, domain, err);
	if (rc == 0)
		*out = *d;
	if (doc != NULL)
		xmlFreeDoc(doc);
	free(d);
	return rc;
}

/* ---- writing ---- */

static xmlNodePtr add(xmlNodePtr parent, const char *name, const char *text)
{
	return xmlNewTextChild(parent, NULL, (const xmlChar *)name, (const xmlChar *)text);
}

static void set(xmlNodePtr n, const char *name, const char *value)
{
	(void)xmlNewProp(n, (const xmlChar *)name, (const xmlChar *)value);
}

static void write_identity(xmlNodePtr domain, const struct sa_vmdesc *d)
{
	char text[64], hex[LB_ID_TEXT];

	(void)lb_id_text(&d->uuid, hex);
	(void)add(domain, "name", d->name);
	(void)snprintf(text, sizeof(text), "%.8s-%.4s-%.4s-%.4s-%.12s", hex, hex + 8, hex + 12,
		       hex + 16, hex + 20);
	(void)add(domain, "uuid", text);
	(void)snprintf(text, sizeof(text), "%" PRIu64, d->ram_bytes);
	set(add(domain, "memory", text), "unit", "bytes");
	(void)snprintf(text, sizeof(text), "%" PRIu32, d->vcpus);
	(void)add(domain, "vcpu", text);
}

static void write_os(xmlNodePtr domain, const struct sa_vmdesc *d)
{
	xmlNodePtr os = add(domain, "os", NULL), type = add(os, "type", "hvm"), features;

	set(type, "arch", "x86_64");
	set(type, "machine", "pc"); /* what pc1 is nearest to, for libvirt */
	if (d->direct_kernel) {
		(void)add(os, "kernel", "kernel"); /* the other site takes its own */
		(void)add(os, "cmdline", d->cmdline);
	} else {
		set(add(os, "boot", NULL), "dev", "hd");
	}
	features = add(domain, "features", NULL);
	(void)add(features, "acpi", NULL);
	(void)add(features, "apic", NULL);
}

static void write_devices(xmlNodePtr domain, const struct sa_vmdesc *d)
{
	xmlNodePtr devices = add(domain, "devices", NULL), n, t;

	for (size_t i = 0; i < d->disks; i++) {
		n = add(devices, "disk", NULL);
		set(n, "type", "file");
		set(n, "device", "disk");
		t = add(n, "target", NULL);
		set(t, "dev", d->disk[i].name);
		set(t, "bus", d->disk[i].bus == VM_DISK_IDE ? "ide" : "virtio");
	}
	for (size_t i = 0; i < d->nics; i++) {
		const uint8_t *m = d->mac[i];
		char mac[32];

		(void)snprintf(mac, sizeof(mac), "%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2],
			       m[3], m[4], m[5]);
		n = add(devices, "interface", NULL);
		set(n, "type", "ethernet");
		set(add(n, "mac", NULL), "address", mac);
		set(add(n, "model", NULL), "type", "virtio");
	}
	n = add(devices, "channel", NULL);
	set(n, "type", "unix");
	t = add(n, "target", NULL);
	set(t, "type", "virtio");
	set(t, "name", "org.lifeboat.heartbeat");
	set(add(devices, "serial", NULL), "type", "pty");
}

int sa_vmdesc_xml(char **out, const struct sa_vmdesc *d, struct lb_err *err)
{
	xmlDocPtr doc = xmlNewDoc((const xmlChar *)"1.0");
	xmlNodePtr domain = xmlNewDocNode(doc, NULL, (const xmlChar *)"domain", NULL);
	xmlChar *text = NULL;
	int len = 0;

	*out = NULL;
	if (doc != NULL && domain != NULL) {
		xmlDocSetRootElement(doc, domain);
		set(domain, "type", "kvm");
		write_identity(domain, d);
		write_os(domain, d);
		write_devices(domain, d);
		xmlDocDumpFormatMemory(doc, &text, &len, 1);
	}
	if (text != NULL)
		*out = strdup((const char *)text);
	xmlFree(text);
	if (doc != NULL)
		xmlFreeDoc(doc);
	return *out != NULL ? 0 : lb_err_set(err, LB_ENOMEM, 0, "description of %s", d->name);
}
