/* Connections to a libvirtd that hangs: libvirt's own call does not come back, as long as the
 * daemon takes connections and never says a word. */
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

#include "check.h"
#include "lv_int.h"

#define LIMIT_NS UINT64_C(50000000)

static int daemon_end[2]; /* it hangs until the second is closed */

virConnectPtr __wrap_virConnectOpen(const char *name);
virConnectPtr __wrap_virConnectOpen(const char *name)
{
	struct pollfd p = {.fd = daemon_end[0], .events = POLLIN};

	(void)name;
	while (poll(&p, 1, -1) <= 0)
		continue;
	return NULL;
}

static int open_one(struct lb_err *err)
{
	virConnectPtr conn = NULL;
	int rc;

	*err = (struct lb_err){0};
	rc = sa_lv_open_within(&conn, "qemu:///system", LIMIT_NS, err);
	assert_null(conn);
	return rc;
}

/* Who asks is answered, every time; what waits behind does not grow; and when the daemon has ended
 * it is only not there. */
static void test_hung(void **state)
{
	struct lb_err err;

	(void)state;
	assert_int_equal(pipe(daemon_end), 0);
	assert_int_equal(open_one(&err), LB_EAGAIN);
	assert_non_null(strstr(err.msg, "does it hang?"));
	for (int i = 0; i < 20; i++)
		assert_int_equal(open_one(&err), LB_EAGAIN);
	assert_non_null(strstr(err.msg, "8 connections wait for it already"));
	(void)close(daemon_end[1]);
	do
		assert_int_equal(open_one(&err), LB_EAGAIN);
	while (strstr(err.msg, "hang") != NULL && poll(NULL, 0, 1) == 0);
	assert_non_null(strstr(err.msg, "connect to qemu:///system"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hung),
	};

	(void)alarm(60); /* watchdog */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
