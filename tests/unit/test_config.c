/*
 * Every tests/golden/config/NAME.yaml (or NAME/lifeboat.yaml with its conf.d) is a bad
 * configuration, NAME.txt what the operator gets to read. "--update" writes the texts anew, to be
 * read before they are committed. The directory is the first argument.
 */
#include <dirent.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "check.h"
#include "config_int.h"

enum {
	LEAST_CASES = 25,
	CASES_MAX = 200
};

static bool update;
static char dir[512], doc[512];

static char *read_text(const char *path)
{
	FILE *f = fopen(path, "r");
	char *text = calloc(1, 65536);

	assert_non_null(text);
	if (f == NULL)
		return text;
	assert_true(fread(text, 1, 65535, f) < 65535);
	assert_int_equal(fclose(f), 0);
	return text;
}

static void write_text(const char *path, const char *text)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
	assert_int_equal(fclose(f), 0);
}

static int by_name(const void *a, const void *b)
{
	return strcmp(a, b);
}

static size_t list_cases(char names[CASES_MAX][64])
{
	DIR *d = opendir(".");
	const struct dirent *e;
	size_t n = 0;

	assert_non_null(d);
	while ((e = readdir(d)) != NULL) {
		size_t len = strlen(e->d_name);
		bool yaml = len > 5 && strcmp(e->d_name + len - 5, ".yaml") == 0;

		if (!yaml && (e->d_name[0] == '.' || strchr(e->d_name, '.') != NULL))
			continue;
		assert_true(n < CASES_MAX && len < 64);
		(void)snprintf(names[n++], 64, "%.*s", (int)(yaml ? len - 5 : len), e->d_name);
	}
	assert_int_equal(closedir(d), 0);
	qsort(names, n, 64, by_name);
	return n;
}

static void test_bad_ones(void **state)
{
	static char names[CASES_MAX][64];
	size_t n;

	(void)state;
	assert_int_equal(chdir(dir), 0);
	n = list_cases(names);
	assert_true(n >= LEAST_CASES);
	for (size_t i = 0; i < n; i++) {
		char path[128], expected[80], *problems = NULL, *want;
		struct sa_config *c = NULL;
		struct lb_err err = {0};

		(void)snprintf(path, sizeof(path), "%s.yaml", names[i]);
		(void)snprintf(expected, sizeof(expected), "%s.txt", names[i]);
		if (access(path, F_OK) != 0)
			(void)snprintf(path, sizeof(path), "%s/lifeboat.yaml", names[i]);
		assert_int_equal(sa_config_load(&c, path, &problems, &err), LB_EINPUT);
		assert_null(c);
		assert_non_null(problems);
		assert_true(err.msg[0] != '\0');
		if (update)
			write_text(expected, problems);
		want = read_text(expected);
		if (strcmp(want, problems) != 0)
			fail_msg("%s: expected\n%s\ngot\n%s", path, want, problems);
		free(want);
		free(problems);
	}
	print_message("%zu bad configurations\n", n);
}

static char tmp[64];

static struct sa_config *load_good(const char *text)
{
	char path[96], *problems = NULL;
	struct sa_config *c = NULL;
	struct lb_err err = {0};

	(void)snprintf(path, sizeof(path), "%s/lifeboat.yaml", tmp);
	write_text(path, text);
	if (sa_config_load(&c, path, &problems, &err) != 0)
		fail_msg("%s\n%s", err.msg, problems != NULL ? problems : "");
	assert_null(problems);
	return c;
}

static void test_defaults(void **state)
{
	struct sa_config *c = load_good("site: tokyo\n");

	(void)state;
	assert_string_equal(c->site, "tokyo");
	assert_string_equal(c->state_dir, "/var/lib/lifeboat");
	assert_string_equal(c->control_socket, "/run/lifeboat/control.sock");
	assert_string_equal(c->plugin_dir, "");
	assert_string_equal(c->runbooks, "/etc/lifeboat/runbooks");
	assert_int_equal(c->log_level, LB_LOG_INFO);
	assert_int_equal(c->listen.port, 0);
	assert_int_equal(c->enrol_listen.port, 0);
	assert_true(c->segment_bytes == 64u << 20 && c->reserve_bytes == 1u << 30);
	assert_true(c->window_bytes == 8u << 20 && c->workers == 2 && c->connections == 2);
	assert_false(c->has_hypervisor);
	assert_string_equal(c->drill_network.netns, "");
	assert_int_equal(c->groups, 0);
	sa_config_destroy(c);
	sa_config_destroy(NULL);
}

/* The example of config_int.h, and IPv6. */
static void test_everything(void **state)
{
	struct sa_config *c = load_good(
		"site: tokyo\n"
		"state_dir: /srv/lb\n"
		"listen: 192.0.2.2:7400\n"
		"enrol_listen: \"[2001:db8::2]:7401\"\n"
		"log_level: debug\n"
		"store: {segment_size: 8MiB, reserve: 0}\n"
		"hypervisor: {driver: libvirt, uri: \"qemu:///session\", kernel: /boot/k, initrd: "
		"/boot/i, kvm: false}\n"
		"drill_network: {netns: lb-drill}\n"
		"failover_network: {netns: lb-prod, bridge: br0}\n"
		"groups:\n"
		"  - name: erp\n"
		"    peer: osaka\n"
		"    interval: 1s\n"
		"    machines:\n"
		"      - {name: db, driver: libvirt, address: 192.0.2.10, volumes: [{name: vda}]}\n"
		"      - name: old\n"
		"        driver: block\n"
		"        xml: /etc/lifeboat/old.xml\n"
		"        frozen: true\n"
		"        volumes: [{name: hda, path: /dev/sdb}, {name: hdb, path: /dev/sdc}]\n");
	const struct sa_machine_cfg *m;

	(void)state;
	assert_string_equal(c->listen.host, "192.0.2.2");
	assert_int_equal(c->listen.port, 7400);
	assert_string_equal(c->enrol_listen.host, "2001:db8::2");
	assert_int_equal(c->enrol_listen.port, 7401);
	assert_int_equal(c->log_level, LB_LOG_DEBUG);
	assert_true(c->segment_bytes == 8u << 20 && c->reserve_bytes == 0);
	assert_true(c->has_hypervisor && !c->hv_kvm);
	assert_string_equal(c->hv_driver, "libvirt");
	assert_string_equal(c->hv_uri, "qemu:///session");
	assert_string_equal(c->hv_kernel, "/boot/k");
	assert_string_equal(c->failover_network.bridge, "br0");
	assert_int_equal(c->groups, 1);
	assert_true(c->group[0].interval_ns == 1000000000u);
	assert_int_equal(c->group[0].machines, 2);
	m = &c->group[0].machine[0];
	assert_string_equal(m->driver, "libvirt");
	assert_string_equal(m->uri, "qemu:///system");
	assert_string_equal(m->domain, "db");
	assert_string_equal(m->address, "192.0.2.10");
	m = &c->group[0].machine[1];
	assert_string_equal(m->driver, "block");
	assert_string_equal(m->domain, "");
	assert_true(m->frozen);
	assert_int_equal(m->volumes, 2);
	assert_string_equal(m->volume[1].path, "/dev/sdc");
	sa_config_destroy(c);
}

static void test_vm(void **state)
{
	struct sa_config *c = load_good(
		"site: tokyo\nvm_program: /opt/lifeboat-vm\n"
		"hypervisor: {driver: vmcore, firmware: /opt/bios}\n"
		"groups:\n  - name: erp\n    peer: osaka\n    machines:\n"
		"      - name: pay\n        driver: vmcore\n"
		"        vm: {memory: 1 GiB, cpus: 4, kernel: /boot/k, cmdline: \"a b\", netns: n, "
		"bridge: br0, memory_points: true, output: commit, output_bound: 1MiB, "
		"nics: [\"52:54:00:00:00:01\", \"52:54:00:00:00:02\"]}\n"
		"        volumes: [{name: vda, path: /srv/a}, {name: hda, path: /srv/b}]\n"
		"      - {name: plain, driver: vmcore, volumes: [{name: vda, path: /srv/c}]}\n");
	const struct sa_vm_cfg *vm = &c->group[0].machine[0].vm;

	(void)state;
	assert_string_equal(c->vm_program, "/opt/lifeboat-vm");
	assert_string_equal(c->hv_driver, "vmcore");
	assert_string_equal(c->hv_firmware, "/opt/bios");
	assert_string_equal(c->group[0].machine[0].driver, "vmcore");
	assert_true(vm->ram_bytes == UINT64_C(1) << 30 && vm->cpus == 4 && vm->memory_points);
	assert_int_equal(vm->output, SA_OUTPUT_COMMIT);
	assert_true(vm->output_bound_bytes == UINT64_C(1) << 20);
	assert_string_equal(vm->kernel, "/boot/k");
	assert_string_equal(vm->cmdline, "a b");
	assert_string_equal(vm->network.bridge, "br0");
	assert_int_equal(vm->nics, 2);
	assert_string_equal(vm->mac[1], "52:54:00:00:00:02");
	assert_int_equal(c->group[0].machine[0].volumes, 2);
	vm = &c->group[0].machine[1].vm;
	assert_true(vm->ram_bytes == UINT64_C(512) << 20 && vm->cpus == 1 && !vm->memory_points);
	assert_int_equal(vm->output, SA_OUTPUT_ASYNC);
	sa_config_destroy(c);
}

static void test_conf_d(void **state)
{
	char path[96];
	struct sa_config *c;

	(void)state;
	(void)snprintf(path, sizeof(path), "%s/conf.d", tmp);
	assert_int_equal(mkdir(path, 0700), 0);
	(void)snprintf(path, sizeof(path), "%s/conf.d/b.yaml", tmp);
	write_text(path, "groups:\n  - {name: b, peer: osaka, machines: [{name: x, driver: block, "
			 "volumes: [{name: a, path: /b}]}]}\n");
	(void)snprintf(path, sizeof(path), "%s/conf.d/a.yaml", tmp);
	write_text(path, "groups:\n  - {name: a, peer: osaka, machines: [{name: x, driver: block, "
			 "volumes: [{name: a, path: /a}]}]}\n");
	(void)snprintf(path, sizeof(path), "%s/conf.d/c.yaml", tmp);
	write_text(path, "");
	c = load_good("site: tokyo\ngroups:\n  - {name: z, peer: osaka, machines: [{name: x, "
		      "driver: block, volumes: [{name: a, path: /z}]}]}\n");
	assert_int_equal(c->groups, 3);
	assert_string_equal(c->group[0].name, "z");
	assert_string_equal(c->group[1].name, "a");
	assert_string_equal(c->group[2].name, "b");
	sa_config_destroy(c);
	(void)unlink(path);
	(void)snprintf(path, sizeof(path), "%s/conf.d/a.yaml", tmp);
	(void)unlink(path);
	(void)snprintf(path, sizeof(path), "%s/conf.d/b.yaml", tmp);
	(void)unlink(path);
	(void)snprintf(path, sizeof(path), "%s/conf.d", tmp);
	assert_int_equal(rmdir(path), 0);
}

static void test_missing_file(void **state)
{
	char *problems = NULL;
	struct sa_config *c = NULL;
	struct lb_err err = {0};

	(void)state;
	assert_int_equal(sa_config_load(&c, "/nowhere/lifeboat.yaml", &problems, &err),
			 LB_ENOTFOUND);
	assert_non_null(strstr(err.msg, "/nowhere/lifeboat.yaml"));
	assert_null(problems);
	assert_null(c);
}

static void test_addresses(void **state)
{
	static const char *const good[] = {"192.0.2.2:1", "[::1]:65535", "[2001:db8::1]:7400"};
	static const char *const bad[] = {"",          ":",           "[]:1",      "[::1]",
					  "[::1]x:1",  "1.2.3.4:",    "1.2.3.4:0", "1.2.3.4:+1",
					  "1.2.3:1",   "[1.2.3.4]:1", "::1:1",     "1.2.3.4:65536",
					  "[::1:7400", "]:1",         "[:1"};
	struct sa_addr a = {.port = 9};
	char text[96];

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct lb_err err = {0};

		assert_int_equal(sa_addr_parse(&a, bad[i], &err), LB_EINPUT);
		assert_int_equal(a.port, 9);
	}
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		assert_int_equal(sa_addr_parse(&a, good[i], NULL), 0);
		assert_string_equal(sa_addr_text(&a, text, sizeof(text)), good[i]);
	}
}

/* docs/formats/config.md holds the list of keys word for word. */
static void test_docs_are_in_step(void **state)
{
	char *keys = sa_config_keys_text(), *page = read_text(doc);
	const char *from = strstr(page, "```text\n");
	const char *to = from != NULL ? strstr(from + 8, "```\n") : NULL;

	(void)state;
	assert_non_null(keys);
	if (to == NULL || (size_t)(to - from - 8) != strlen(keys) ||
	    memcmp(from + 8, keys, strlen(keys)) != 0)
		fail_msg("%s: its list of keys must be\n%s", doc, keys);
	free(keys);
	free(page);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_defaults),
		cmocka_unit_test(test_everything),
		cmocka_unit_test(test_vm),
		cmocka_unit_test(test_conf_d),
		cmocka_unit_test(test_missing_file),
		cmocka_unit_test(test_addresses),
		cmocka_unit_test(test_docs_are_in_step),
		cmocka_unit_test(test_bad_ones),
	};
	char path[96];
	int rc;

	if (argc < 3) {
		(void)fprintf(stderr, "usage: %s GOLDEN-DIR DOC [--update]\n", argv[0]);
		return 2;
	}
	(void)snprintf(dir, sizeof(dir), "%s", argv[1]);
	(void)snprintf(doc, sizeof(doc), "%s", argv[2]);
	update = argc > 3 && strcmp(argv[3], "--update") == 0;
	(void)snprintf(tmp, sizeof(tmp), "/tmp/lb-test-config-XXXXXX");
	if (mkdtemp(tmp) == NULL)
		return 1;
	rc = cmocka_run_group_tests(tests, NULL, NULL);
	(void)snprintf(path, sizeof(path), "%s/lifeboat.yaml", tmp);
	(void)unlink(path);
	(void)rmdir(tmp);
	return rc;
}
