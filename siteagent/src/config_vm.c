/* The part `vm` of a machine of driver vmcore: how it is built and run here. */
#include <string.h>

#include "base/conf.h"
#include "config_int.h"

#define IN(member)                                    \
	.offset = offsetof(struct sa_vm_cfg, member), \
	.size = sizeof(((struct sa_vm_cfg *)0)->member)
#define TWO_MB (UINT64_C(2) << 20)

const struct lb_conf_field sa_config_vm_fields[] = {
	{.key = "memory",
	 .type = LB_CT_BYTES,
	 IN(ram_bytes),
	 .min = TWO_MB,
	 .max = UINT64_C(1) << 40,
	 .dflt = "512 MiB",
	 .help = "memory, whole 2 MiB"},
	{.key = "cpus",
	 .type = LB_CT_U64,
	 IN(cpus),
	 .min = 1,
	 .max = 16,
	 .dflt = "1",
	 .help = "processors"},
	{.key = "cpu",
	 .type = LB_CT_STR,
	 IN(cpu),
	 .dflt = "",
	 .help = "file of what the hosts that it may go on at print by `lifeboat vm cpu`: its "
		 "guest "
		 "sees what all of them and this one have"},
	{.key = "kernel",
	 .type = LB_CT_STR,
	 IN(kernel),
	 .dflt = "",
	 .help = "Linux kernel to boot directly; empty: firmware boots from the first disk"},
	{.key = "initrd",
	 .type = LB_CT_STR,
	 IN(initrd),
	 .dflt = "",
	 .help = "its initial RAM disk"},
	{.key = "cmdline", .type = LB_CT_STR, IN(cmdline), .dflt = "", .help = "its command line"},
	{.key = "netns",
	 .type = LB_CT_STR,
	 IN(network.netns),
	 .dflt = "",
	 .help = "network namespace of its NICs, as in ip netns; empty: that of the agent"},
	{.key = "bridge",
	 .type = LB_CT_STR,
	 IN(network.bridge),
	 .max = 15,
	 .dflt = "",
	 .help = "bridge in it that they are put into; empty: none"},
	{.key = "memory_points",
	 .type = LB_CT_BOOL,
	 IN(memory_points),
	 .dflt = "false",
	 .help = "recovery points hold its memory too: it can go on where it stood"},
	{.key = "output",
	 .type = LB_CT_ENUM,
	 IN(output),
	 .choices = "async|commit",
	 .dflt = "async",
	 .help = "commit: frames leave it when the other site holds a memory point that explains "
		 "them"},
	{.key = "output_bound",
	 .type = LB_CT_BYTES,
	 IN(output_bound_bytes),
	 .min = 1 << 20,
	 .max = 1 << 30,
	 .dflt = "4 MiB",
	 .help = "commit: frames of a NIC that may wait; with more its guest has to wait"},
	{0},
};

static const char *const also[] = {"nics", NULL};

static bool mac_ok(const char *text)
{
	static const char hex[] = "0123456789abcdefABCDEF";

	if (strlen(text) != SA_MAC_BYTES - 1)
		return false;
	for (size_t i = 0; i < SA_MAC_BYTES - 1; i++)
		if (i % 3 == 2 ? text[i] != ':' : strchr(hex, text[i]) == NULL)
			return false;
	/* a group's address is nobody's: lowest bit of the first byte */
	return strchr("02468aceACE", text[1]) != NULL;
}

static void fill_nics(struct lb_conf *doc, const struct lb_conf_node *list, struct sa_vm_cfg *vm)
{
	if (list == NULL)
		return;
	if (lb_conf_kind(list) != LB_CONF_SEQ || lb_conf_count(list) > SA_NICS_MAX) {
		lb_conf_problem(doc, list, "nics: expected a list of at most %u MAC addresses",
				SA_NICS_MAX);
		return;
	}
	for (size_t i = 0; i < lb_conf_count(list); i++) {
		const char *text = lb_conf_text(lb_conf_item(list, i));

		if (text == NULL || !mac_ok(text)) {
			lb_conf_problem(doc, lb_conf_item(list, i),
					"nics: expected a MAC address like \"52:54:00:12:34:56\"");
			continue;
		}
		memcpy(vm->mac[vm->nics++], text, SA_MAC_BYTES);
	}
}

static void check_path(struct lb_conf *doc, const struct lb_conf_node *map, const char *key,
		       const char *path)
{
	if (path[0] != '\0' && path[0] != '/')
		lb_conf_problem(doc, lb_conf_get(map, key), "%s: \"%.64s\" is not an absolute path",
				key, path);
}

static void check_name(struct lb_conf *doc, const struct lb_conf_node *map, const char *key,
		       const char *name)
{
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				      "0123456789._-";

	if (name[strspn(name, allowed)] != '\0' || name[0] == '-' || name[0] == '.')
		lb_conf_problem(doc, lb_conf_get(map, key),
				"%s: \"%.64s\" is not a name (letters, digits, '.', '_', '-')", key,
				name);
}

static void check_vm(struct lb_conf *doc, const struct lb_conf_node *n, const struct sa_vm_cfg *vm)
{
	check_path(doc, n, "cpu", vm->cpu);
	check_path(doc, n, "kernel", vm->kernel);
	check_path(doc, n, "initrd", vm->initrd);
	check_name(doc, n, "netns", vm->network.netns);
	check_name(doc, n, "bridge", vm->network.bridge);
	if (vm->ram_bytes % TWO_MB != 0)
		lb_conf_problem(doc, lb_conf_get(n, "memory"), "memory: not a multiple of 2 MiB");
	if (vm->output == SA_OUTPUT_COMMIT && !vm->memory_points)
		lb_conf_problem(doc, lb_conf_get(n, "output"),
				"output: commit needs \"memory_points: true\"");
	if (vm->kernel[0] == '\0' && (vm->initrd[0] != '\0' || vm->cmdline[0] != '\0'))
		lb_conf_problem(doc, lb_conf_get(n, vm->initrd[0] != '\0' ? "initrd" : "cmdline"),
				"%s: of no use without \"kernel\"",
				vm->initrd[0] != '\0' ? "initrd" : "cmdline");
}

/* A disk's name says its bus, as in every description of a machine. */
static void check_volumes(struct lb_conf *doc, const struct lb_conf_node *machine,
			  const struct sa_machine_cfg *m)
{
	const struct lb_conf_node *list = lb_conf_get(machine, "volumes");
	size_t ide = 0;

	for (size_t i = 0; i < m->volumes; i++) {
		const char *name = m->volume[i].name;
		bool is_ide = strncmp(name, "hd", 2) == 0;

		ide += is_ide;
		if (name[0] != '\0' &&
		    (strlen(name) != 3 || (!is_ide && strncmp(name, "vd", 2) != 0) ||
		     name[2] < 'a' || name[2] > (is_ide ? 'd' : 'h')))
			lb_conf_problem(doc, lb_conf_item(list, i),
					"name: \"%.20s\": hda to hdd (IDE) or vda to vdh (virtio)",
					name);
	}
	if (m->volumes > 8 || ide > 4)
		lb_conf_problem(doc, list, "volumes: at most 8, of them 4 on IDE");
}

void sa_config_fill_vm(struct lb_conf *doc, const struct lb_conf_node *machine,
		       struct sa_machine_cfg *m)
{
	const struct lb_conf_node *n = lb_conf_get(machine, "vm");
	bool is_ours = strcmp(m->driver, "vmcore") == 0;

	if (n != NULL && !is_ours)
		lb_conf_problem(doc, n, "vm: only for driver vmcore");
	if (!is_ours)
		return;
	lb_conf_fill(doc, n, sa_config_vm_fields, also, &m->vm);
	fill_nics(doc, n != NULL ? lb_conf_get(n, "nics") : NULL, &m->vm);
	if (n != NULL)
		check_vm(doc, n, &m->vm);
	check_volumes(doc, machine, m);
}
