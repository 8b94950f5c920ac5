/* Is a drill's network a bubble? Judged from what ip(8) prints. */
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bubble),
		cmocka_unit_test(test_leaks),
		cmocka_unit_test(test_nonsense),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
