/* How a machine is built, to and from domain XML: ours and foreign ones. */
#include <stdlib.h>

#include "base/err.h"
#include "check.h"
#include "vmdesc_int.h"

static struct sa_vmdesc a, b;

static void sample(struct sa_vmdesc *d)
{
	*d = (struct sa_vmdesc){.name = "db",
				.uuid = {{0x11, 0x22, 0x33}},
				.ram_bytes = UINT64_C(64) << 20,
				.vcpus = 2,
				.disks = 2,
				.nics = 1,
				.mac = {{0x52, 0x54, 0, 1, 2, 3}}};
	memcpy(d->disk[0].name, "hda", 4);
	d->disk[0].bus = VM_DISK_IDE;
	memcpy(d->disk[1].name, "vda", 4);
	d->disk[1].bus = VM_DISK_VIRTIO;
}

static void test_round_trip(void **state)
{
	char *xml = NULL;

	(void)state;
	sample(&a);
	assert_int_equal(sa_vmdesc_xml(&xml, &a, NULL), 0);
	assert_int_equal(sa_vmdesc_parse(&b, xml, NULL), 0);
	assert_memory_equal(&b.uuid, &a.uuid, sizeof(a.uuid));
	assert_int_equal(b.ram_bytes, a.ram_bytes);
	assert_int_equal(b.vcpus, 2);
	assert_int_equal(b.disks, 2);
	assert_string_equal(b.disk[0].name, "hda");
	assert_int_equal(b.disk[0].bus, VM_DISK_IDE);
	assert_int_equal(b.disk[1].bus, VM_DISK_VIRTIO);
	assert_int_equal(b.nics, 1);
	assert_memory_equal(b.mac[0], a.mac[0], 6);
	assert_false(b.direct_kernel);
	free(xml);
}

static void test_direct_kernel(void **state)
{
	char *xml = NULL;

	(void)state;
	sample(&a);
	a.direct_kernel = true;
	memcpy(a.cmdline, "console=ttyS0 a<b&\"c\"", 22);
	assert_int_equal(sa_vmdesc_xml(&xml, &a, NULL), 0);
	assert_null(strstr(xml, "a<b")); /* a command line is no markup */
	assert_int_equal(sa_vmdesc_parse(&b, xml, NULL), 0);
	assert_true(b.direct_kernel);
	assert_string_equal(b.cmdline, a.cmdline);
	free(xml);
}

#define DOMAIN(os, devices)                                                     \
	"<domain type='kvm'><memory unit='MiB'>3</memory><vcpu>1</vcpu><os>" os \
	"</os><devices>" devices "</devices></domain>"
#define HVM "<type arch='x86_64' machine='pc'>hvm</type>"
#define VDA "<disk type='file' device='disk'><target dev='vda' bus='virtio'/></disk>"

static const struct {
	const char *xml;
	int rc;
	const char *says;
} foreign[] = {
	{DOMAIN(HVM, VDA), 0, ""},
	{DOMAIN(HVM, VDA "<disk device='cdrom'><target dev='sda' bus='sata'/></disk>"), 0, ""},
	{DOMAIN(HVM, "<disk device='disk'><target dev='sda' bus='sata'/></disk>"), LB_EUNSUPPORTED,
	 "disk bus sata"},
	{DOMAIN(HVM "<loader>/x</loader>", VDA), LB_EUNSUPPORTED, "UEFI"},
	{DOMAIN("<type arch='aarch64'>hvm</type>", VDA), LB_EUNSUPPORTED, "aarch64"},
	{DOMAIN("<type>xen</type>", VDA), LB_EUNSUPPORTED, "xen"},
	{DOMAIN(HVM, VDA "<interface><mac address='52:54:00:00:00:01'/><model type='e1000'/>"
			 "</interface>"),
	 LB_EUNSUPPORTED, "NIC e1000"},
	{DOMAIN(HVM, VDA "<interface><mac address='52:54:00:00:00'/><model type='virtio'/>"
			 "</interface>"),
	 LB_EINPUT, "address"},
	{"<domain><memory>x</memory></domain>", LB_EINPUT, "memory"},
	{"<domain><memory unit='PiB'>1</memory></domain>", LB_EINPUT, "memory"},
	{"<domain><memory>2048</memory><vcpu>17</vcpu></domain>", LB_EUNSUPPORTED, "processors"},
	{"<network/>", LB_EINPUT, "no <domain>"},
	{"not even XML", LB_EINPUT, ""},
};

static void test_foreign(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(foreign) / sizeof(foreign[0]); i++) {
		struct lb_err err = {0};
		int rc = sa_vmdesc_parse(&b, foreign[i].xml, &err);

		if (rc != foreign[i].rc || strstr(err.msg, foreign[i].says) == NULL)
			fail_msg("%s: %d, \"%s\"", foreign[i].xml, rc, err.msg);
		if (rc == 0)
			assert_int_equal(b.ram_bytes, UINT64_C(4) << 20); /* whole 2 MiB */
	}
}

static void test_names_and_addresses(void **state)
{
	enum vm_disk_bus bus;
	uint8_t mac[6];

	(void)state;
	assert_true(sa_vmdesc_bus("hdd", &bus));
	assert_int_equal(bus, VM_DISK_IDE);
	assert_true(sa_vmdesc_bus("vdh", &bus));
	assert_int_equal(bus, VM_DISK_VIRTIO);
	assert_false(sa_vmdesc_bus("hde", &bus));
	assert_false(sa_vmdesc_bus("vdi", &bus));
	assert_false(sa_vmdesc_bus("vda1", &bus));
	assert_false(sa_vmdesc_bus("sda", &bus));
	assert_true(sa_vmdesc_mac("52:54:00:aB:cd:ef", mac));
	assert_int_equal(mac[3], 0xab);
	assert_false(sa_vmdesc_mac("52:54:00:ab:cd:e", mac));
	assert_false(sa_vmdesc_mac("52:54:00:ab:cd:eg", mac));
	assert_false(sa_vmdesc_mac("5254:00:ab:cd:ef:1", mac));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_direct_kernel),
		cmocka_unit_test(test_foreign),
		cmocka_unit_test(test_names_and_addresses),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
