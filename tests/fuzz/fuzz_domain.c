/* The stored description of a machine is another site's bytes: building our domain from it never
 * crashes, and what comes out names no path but ours and passes QEMU no arguments. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "hv_int.h"
#include "lv_int.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void path_check(const char *text)
{
	LB_ASSERT(text == NULL || text[0] != '/' || strncmp(text, "/ours/", 6) == 0 ||
		  strcmp(text, "/dev/urandom") == 0);
}

static void attributes_check(xmlNodePtr n)
{
	for (xmlAttrPtr a = n->properties; a != NULL; a = a->next) {
		xmlChar *value = xmlNodeGetContent((xmlNodePtr)a);

		path_check((const char *)value);
		xmlFree(value);
	}
}

/* The kernel's command line is the guest's own, and may have paths of the guest. */
static void domain_check(xmlNodePtr root)
{
	for (xmlNodePtr n = root; n != NULL;) {
		LB_ASSERT(n->ns == NULL && n->nsDef == NULL);
		attributes_check(n);
		if (n->children != NULL && n->children->type == XML_TEXT_NODE &&
		    strcmp((const char *)n->name, "cmdline") != 0)
			path_check((const char *)n->children->content);
		if (xmlFirstElementChild(n) != NULL) {
			n = xmlFirstElementChild(n);
			continue;
		}
		while (n != root && xmlNextElementSibling(n) == NULL)
			n = n->parent;
		n = n == root ? NULL : xmlNextElementSibling(n);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct sa_hv hv = {.kernel = (char *)(uintptr_t) "/ours/k"};
	static const struct sa_hv_disk disk = {.name = "vda", .nbd_socket = "/ours/s"};
	struct sa_hv_machine m = {.hv = &hv, .name = "vm", .dir = "/ours", .disks = 1};
	struct sa_hv_domain d = {0};
	char *text = malloc(size + 1);
	struct sa_hv_boot_cfg cfg = {
		.name = "vm", .machine_xml = text, .disks = &disk, .disk_count = 1};
	xmlDocPtr doc = NULL;

	if (text == NULL)
		return 0;
	memcpy(text, data, size);
	text[size] = '\0';
	memcpy(m.disk[0], "vda", 4);
	if (sa_hv_domain_build(&d, &m, &cfg, NULL) == 0) {
		LB_ASSERT(sa_xml_parse(&doc, d.xml, "what was built", NULL) == 0);
		domain_check(xmlDocGetRootElement(doc));
		xmlFreeDoc(doc);
	}
	free(d.xml);
	free(text);
	return 0;
}
