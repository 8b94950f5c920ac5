/* The proof that a drill's network is a bubble, against real network namespaces. Needs root. */
#include <stdlib.h>
#include <unistd.h>

#include "base/err.h"
#include "check.h"
#include "proc_int.h"
#include "runs_int.h"

static char ns[32], dir[64];

static int ip(const char *const *argv)
{
	return sa_proc_run(argv, "/dev/null", 10000000000u, NULL);
}

#define IP(...) ip((const char *const[]){"ip", __VA_ARGS__, NULL})

static int check(char *out, size_t len, struct lb_err *err)
{
	struct sa_network_cfg net = {.bridge = "br0"};

	(void)snprintf(net.netns, sizeof(net.netns), "%s", ns);
	return sa_isolation_check(&net, dir, out, len, err);
}

static void test_real(void **state)
{
	struct lb_err err = {0};
	char out[160] = "";
	int rc;

	(void)state;
	assert_int_equal(IP("-n", ns, "link", "set", "lo", "up"), 0);
	assert_int_equal(IP("-n", ns, "link", "add", "br0", "type", "bridge"), 0);
	assert_int_equal(IP("-n", ns, "addr", "add", "10.77.0.1/24", "dev", "br0"), 0);
	assert_int_equal(IP("-n", ns, "link", "set", "br0", "up"), 0);
	rc = check(out, sizeof(out), &err);
	if (rc != 0)
		fail_msg("%s", err.msg);
	assert_non_null(strstr(out, "only lo, br0 and 0 taps are up"));
	/* an uplink */
	assert_int_equal(IP("-n", ns, "link", "add", "up0", "type", "veth", "peer", "name", "up1"),
			 0);
	assert_int_equal(check(out, sizeof(out), &err), 0); /* down: no frame passes */
	assert_int_equal(IP("-n", ns, "link", "set", "up0", "up"), 0);
	assert_int_equal(check(out, sizeof(out), &err), LB_EDENIED);
	assert_non_null(strstr(err.msg, "up0"));
	assert_int_equal(IP("-n", ns, "link", "del", "up0"), 0);
	assert_int_equal(IP("-n", ns, "route", "add", "default", "via", "10.77.0.9"), 0);
	assert_int_equal(check(out, sizeof(out), &err), LB_EDENIED);
	assert_non_null(strstr(err.msg, "default"));
}

static void test_host_bridge(void **state)
{
	struct sa_network_cfg host = {.bridge = "br0"}, none = {.bridge = ""};
	struct lb_err err = {0};
	char out[160] = "";

	(void)state;
	assert_int_equal(sa_isolation_check(&host, dir, out, sizeof(out), &err), LB_EUNSUPPORTED);
	assert_int_equal(sa_isolation_check(&none, dir, out, sizeof(out), &err), 0);
}

static int setup(void **state)
{
	(void)state;
	(void)snprintf(dir, sizeof(dir), "/tmp/lb_bubble_XXXXXX");
	return mkdtemp(dir) == NULL;
}

static int teardown(void **state)
{
	char path[96];

	(void)state;
	(void)IP("netns", "del", ns);
	(void)snprintf(path, sizeof(path), "%s/ip.json", dir);
	(void)unlink(path);
	return rmdir(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_real),
		cmocka_unit_test(test_host_bridge),
	};

	(void)snprintf(ns, sizeof(ns), "lbbubble%d", (int)getpid());
	if (IP("netns", "add", ns) != 0) {
		print_message("skipped: may not make network namespaces\n");
		return 77;
	}
	return cmocka_run_group_tests(tests, setup, teardown);
}
