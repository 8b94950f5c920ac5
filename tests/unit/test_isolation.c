/* Is a drill's network a bubble? Judged from what ip(8) prints. */
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "check.h"
#include "runs_int.h"

#define LO "{\"ifname\":\"lo\",\"flags\":[\"LOOPBACK\",\"UP\"],\"link_type\":\"loopback\"}"
#define BR                                                                                     \
	"{\"ifname\":\"br0\",\"flags\":[\"UP\"],\"link_type\":\"ether\",\"linkinfo\":{\"info_" \
	"kind\":\"bridge\"}}"
#define TAP                                                                                       \
	"{\"ifname\":\"lb00n0\",\"flags\":[\"UP\"],\"link_type\":\"ether\",\"linkinfo\":{\"info_" \
	"kind\":\"tun\"}}"
#define CONNECTED "{\"dst\":\"10.77.0.0/24\",\"dev\":\"br0\",\"flags\":[]}"

static int judge(const char *links, const char *routes, const char *routes6, struct lb_err *err)
{
	char out[160] = "";
	int rc = sa_isolation_judge(links, routes, routes6, "br0", out, sizeof(out), err);

	if (rc == 0)
		assert_non_null(strstr(out, "br0"));
	return rc;
}

static void refused(const char *links, const char *routes, const char *routes6, const char *names)
{
	struct lb_err err = {0};

	assert_int_equal(judge(links, routes, routes6, &err), LB_EDENIED);
	if (strstr(err.msg, names) == NULL)
		fail_msg("\"%s\" does not name %s", err.msg, names);
}

static void test_bubble(void **state)
{
	struct lb_err err = {0};

	(void)state;
	assert_int_equal(judge("[" LO "," BR "," TAP "]", "[" CONNECTED "]", "", &err), 0);
	assert_int_equal(judge("[" LO "," BR "]", "", "\n", &err), 0);
	/* what is down carries nothing */
	assert_int_equal(judge("[" LO
			       ",{\"ifname\":\"eth0\",\"flags\":[],\"link_type\":\"ether\"}]",
			       "[]", "[]", &err),
			 0);
}

static void test_leaks(void **state)
{
	(void)state;
	refused("[" LO "," BR
		",{\"ifname\":\"veth9\",\"flags\":[\"UP\"],\"linkinfo\":{\"info_kind\":\"veth\"}}]",
		"[]", "[]", "veth9");
	refused("[" LO ",{\"ifname\":\"eth0\",\"flags\":[\"UP\"],\"link_type\":\"ether\"}]", "[]",
		"[]", "eth0");
	/* somebody else's tap (a VPN) and bridge are not ours */
	refused("[{\"ifname\":\"tun0\",\"flags\":[\"UP\"],\"linkinfo\":{\"info_kind\":\"tun\"}}]",
		"[]", "[]", "tun0");
	refused("[{\"ifname\":\"br1\",\"flags\":[\"UP\"],\"linkinfo\":{\"info_kind\":\"bridge\"}}]",
		"[]", "[]", "br1");
	refused("[" LO "," BR "]",
		"[{\"dst\":\"default\",\"gateway\":\"10.77.0.254\",\"dev\":\"br0\"}]", "",
		"default");
	refused("[" LO "," BR "]", "[" CONNECTED "]", "[{\"dst\":\"fd00::/8\",\"dev\":\"eth7\"}]",
		"eth7");
}

static void test_nonsense(void **state)
{
	struct lb_err err = {0};

	(void)state;
	assert_int_equal(judge("no json", "[]", "[]", &err), LB_EIO);
	assert_int_equal(judge("{}", "[]", "[]", &err), LB_EIO);
}

static void write_file(const char *dir, const char *name, const char *text, mode_t mode)
{
	char path[128];
	FILE *f;

	(void)snprintf(path, sizeof(path), "%s/%s", dir, name);
	f = fopen(path, "we");
	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
	assert_int_equal(fclose(f), 0);
	assert_int_equal(chmod(path, mode), 0);
}

/* A bubble with the machines of a whole site in it; ip(8) is a script that prints them. */
static void test_many_machines(void **state)
{
	enum {
		TAPS = 1000,
		TAP_BYTES = 1300 /* what ip -d -j prints of one */
	};
	static const char *const files[] = {"ip", "links", "ip.json"};
	const struct sa_network_cfg net = {.netns = "bubble", .bridge = "br0"};
	char dir[] = "/tmp/lb_bubble_XXXXXX", script[200], path[128], out[160] = "";
	char *links = malloc(TAPS * (TAP_BYTES + 1) + 1000), *old = strdup(getenv("PATH"));
	size_t n = (size_t)snprintf(links, 1000, "[" LO "," BR);
	struct lb_err err = {0};

	(void)state;
	for (int i = 0; i < TAPS; i++)
		n += (size_t)snprintf(links + n, TAP_BYTES + 2, ",%*s" TAP,
				      TAP_BYTES - (int)strlen(TAP), "");
	(void)snprintf(links + n, 2, "]");
	assert_non_null(mkdtemp(dir));
	(void)snprintf(script, sizeof(script),
		       "#!/bin/sh\ncase \"$*\" in *link*) cat %s/links ;; *) echo '[]' ;; esac\n",
		       dir);
	write_file(dir, "ip", script, 0700);
	write_file(dir, "links", links, 0600);
	(void)snprintf(path, sizeof(path), "%s:/usr/bin:/bin", dir);
	assert_int_equal(setenv("PATH", path, 1), 0);
	if (sa_isolation_check(&net, dir, out, sizeof(out), &err) != 0)
		fail_msg("%s", err.msg);
	assert_string_equal(out, "only lo, br0 and 1000 taps are up; no route leads out");
	assert_int_equal(setenv("PATH", old, 1), 0);
	for (int i = 0; i < 3; i++) {
		(void)snprintf(path, sizeof(path), "%s/%s", dir, files[i]);
		(void)unlink(path);
	}
	assert_int_equal(rmdir(dir), 0);
	free(links);
	free(old);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bubble),
		cmocka_unit_test(test_many_machines),
		cmocka_unit_test(test_leaks),
		cmocka_unit_test(test_nonsense),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
