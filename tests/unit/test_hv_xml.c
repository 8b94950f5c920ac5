/* A stored description is another site's bytes: what we define is ours, whatever it says. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "hv_int.h"

#include <cmocka.h>

#define OS     "<os><type arch='x86_64' machine='pc-i440fx-7.2'>hvm</type><boot dev='hd'/></os>"
#define MEMORY "<memory unit='MiB'>256</memory><vcpu>2</vcpu>"
#define DISK                                                                             \
	"<disk type='file' device='disk'><source file='/etc/shadow'/><target dev='hda' " \
	"bus='ide'/>"                                                                    \
	"</disk>"
#define DOMAIN(head, devices) "<domain type='kvm'>" head "<devices>" devices "</devices></domain>"

static struct sa_hv hv = {.uri = (char *)"test:///default"};

static int build(struct sa_hv_domain *out, const char *xml, struct lb_err *err)
{
	static const struct sa_hv_disk disk = {
		.name = "hda", .nbd_socket = "/run/lb/'&<view>.sock", .size_bytes = 4096};
	struct sa_hv_machine m = {.hv = &hv, .name = "vm", .dir = "/var/lib/lb", .disks = 1};
	struct sa_hv_boot_cfg cfg = {
		.name = "vm", .machine_xml = xml, .disks = &disk, .disk_count = 1};

	(void)snprintf(m.disk[0], sizeof(m.disk[0]), "hda");
	return sa_hv_domain_build(out, &m, &cfg, err);
}

static void has(const struct sa_hv_domain *d, const char *text, bool wanted)
{
	if ((strstr(d->xml, text) != NULL) != wanted)
		fail_msg("%s %s in:\n%s", text, wanted ? "is not" : "is", d->xml);
}

/* Everything a description may hold that names something of a host. */
static void test_only_ours(void **state)
{
	struct sa_hv_domain d = {0};
	struct lb_err err = {0};
	const char *xml = DOMAIN(
		"<name>evil'/&gt;</name><uuid>c7a5fdbd-cdaf-9455-926a-d65c16db1809</uuid>" MEMORY OS
		"<features><acpi/><hyperv/></features><cpu mode='host-passthrough'/>"
		"<clock offset='localtime'/>"
		"<qemu:commandline xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>"
		"<qemu:arg value='-hdb'/></qemu:commandline><metadata><x>secret</x></metadata>",
		DISK "<emulator>/tmp/evil</emulator>"
		     "<disk type='file' device='cdrom'><source file='/root/cd'/>"
		     "<target dev='hdc' bus='ide'/></disk>"
		     "<interface type='bridge'><source bridge='prod0'/>"
		     "<mac address='52:54:00:11:22:33'/><model type='virtio'/>"
		     "<script path='/tmp/up'/></interface>"
		     "<serial type='file'><source path='/root/serial'/></serial>"
		     "<channel type='unix'><source mode='bind' path='/root/beat'/>"
		     "<target type='virtio' name='org.lifeboat.heartbeat'/></channel>"
		     "<channel type='unix'><source mode='bind' path='/root/ga'/>"
		     "<target type='virtio' name='org.qemu.guest_agent.0'/></channel>"
		     "<filesystem type='mount'><source dir='/root/fs'/></filesystem>"
		     "<hostdev mode='subsystem' type='pci'/><graphics type='vnc' port='5900'/>"
		     "<rng model='virtio'><backend model='random'>/root/rng</backend></rng>"
		     "<tpm model='tpm-tis'/><video><model type='qxl'/></video>");

	(void)state;
	assert_int_equal(build(&d, xml, &err), 0);
	for (const char *const *p =
		     (const char *const[]){"/etc/shadow", "/root", "/tmp", "prod0", "evil",
					   "qemu:", "secret", "hostdev", "filesystem", "graphics",
					   "tpm", "cdrom", "guest_agent", "host-passthrough",
					   "c7a5fdbd", "type=\"kvm\"", "script", NULL};
	     *p != NULL; p++)
		has(&d, *p, false);
	has(&d, "<name>vm</name>", true);
	has(&d, "<memory unit=\"bytes\">268435456</memory>", true);
	has(&d, "file=\"/var/lib/lb/hda.qcow2\"", true);
	has(&d, "socket=\"/run/lb/'&amp;&lt;view&gt;.sock\"", true);
	has(&d, "52:54:00:11:22:33", true);
	has(&d, "path=\"/var/lib/lb/heartbeat.sock\"", true);
	has(&d, "offset=\"localtime\"", true);
	assert_int_equal(d.nics, 1);
	assert_int_equal(d.memory_bytes, 256u << 20);
	free(d.xml);
}

static void test_refused(void **state)
{
	static const struct {
		const char *xml;
		int code;
		const char *says;
	} cases[] = {
		{"", LB_EINPUT, "machine description"},
		{"<domain", LB_EINPUT, "not XML"},
		{"not xml at all", LB_EINPUT, "not XML"},
		{"<network/>", LB_EINPUT, "<network>"},
		{"<!DOCTYPE d [<!ENTITY x SYSTEM 'file:///etc/passwd'>]><domain>&x;</domain>",
		 LB_EINPUT, ""},
		{"<!DOCTYPE d [<!ENTITY a '&b;&b;'><!ENTITY b 'x'>]><domain/>", LB_EINPUT,
		 "document type"},
		{"<domain/>", LB_EINPUT, "memory"},
		{DOMAIN("<memory>-1</memory>" OS, DISK), LB_EINPUT, "memory"},
		{DOMAIN("<memory unit='GiB'>99999999999</memory>" OS, DISK), LB_EINPUT, "memory"},
		{DOMAIN("<memory unit='parsec'>1</memory>" OS, DISK), LB_EINPUT, "parsec"},
		{DOMAIN("<memory>1</memory><vcpu>0</vcpu>" OS, DISK), LB_EUNSUPPORTED, "0 CPUs"},
		{DOMAIN("<memory>1</memory><vcpu>100000</vcpu>" OS, DISK), LB_EUNSUPPORTED, "CPUs"},
		{DOMAIN(MEMORY "<os><type>xen</type></os>", DISK), LB_EUNSUPPORTED, "xen"},
		{DOMAIN(MEMORY "<os><type arch='ppc64'>hvm</type></os>", DISK), LB_EUNSUPPORTED,
		 "ppc64"},
		{DOMAIN(MEMORY "<os firmware='efi'><type>hvm</type></os>", DISK), LB_EUNSUPPORTED,
		 "UEFI"},
		{DOMAIN(MEMORY "<os><type>hvm</type><loader>/x</loader></os>", DISK),
		 LB_EUNSUPPORTED, "UEFI"},
		{DOMAIN(MEMORY "<os><type>hvm</type><kernel>/boot/x</kernel></os>", DISK),
		 LB_EUNSUPPORTED, "hypervisor.kernel"},
		{DOMAIN(MEMORY OS, ""), LB_EINPUT, "0 disks"},
		{DOMAIN(MEMORY OS, DISK DISK), LB_EINPUT, "2 disks"},
		{DOMAIN(MEMORY OS, DISK "<disk><target dev='vdb' bus='virtio'/></disk>"),
		 LB_EUNSUPPORTED, "vdb"},
		{DOMAIN(MEMORY OS, "<disk><target dev='hda'/></disk>"), LB_EINPUT, "no bus"},
		{DOMAIN(MEMORY OS, "<disk><target dev='hda' bus='../x'/></disk>"), LB_EINPUT,
		 "no bus"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct sa_hv_domain d = {0};
		struct lb_err err = {0};
		int rc = build(&d, cases[i].xml, &err);

		if (rc != cases[i].code || strstr(err.msg, cases[i].says) == NULL)
			fail_msg("case %zu gave %s: %s", i, lb_err_name(rc), err.msg);
		assert_null(d.xml);
	}
}

static void test_too_large(void **state)
{
	size_t len = 1024 * 1024 + 64;
	char *xml = malloc(len + 1);
	struct sa_hv_domain d = {0};
	struct lb_err err = {0};

	(void)state;
	assert_non_null(xml);
	memset(xml, ' ', len);
	memcpy(xml, "<domain>", 8);
	xml[len] = '\0';
	assert_int_equal(build(&d, xml, &err), LB_EINPUT);
	assert_non_null(strstr(err.msg, "1 MiB"));
	free(xml);
}

static void test_direct_kernel(void **state)
{
	struct sa_hv_domain d = {0};
	struct lb_err err = {0};

	(void)state;
	hv.kernel = (char *)"/our/vmlinuz";
	hv.initrd = (char *)"/our/initrd";
	assert_int_equal(build(&d,
			       DOMAIN(MEMORY "<os><type>hvm</type><kernel>/theirs/k</kernel>"
					     "<initrd>/theirs/i</initrd>"
					     "<cmdline>root=/dev/vda a=&lt;b&gt;</cmdline></os>",
				      DISK),
			       &err),
			 0);
	hv.kernel = hv.initrd = NULL;
	has(&d, "theirs", false);
	has(&d, "<kernel>/our/vmlinuz</kernel>", true);
	has(&d, "<cmdline>root=/dev/vda a=&lt;b&gt;</cmdline>", true);
	free(d.xml);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_only_ours),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_too_large),
		cmocka_unit_test(test_direct_kernel),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
