/* Connections to a libvirtd that hangs: it takes them, and never says a word. */
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "check.h"
#include "lv_int.h"

#define LIMIT_NS UINT64_C(50000000)

static char dir[64];
static struct sockaddr_un sa = {.sun_family = AF_UNIX};

static int hung_daemon(void)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	(void)snprintf(dir, sizeof(dir), "/tmp/lb_lv_XXXXXX");
	assert_non_null(mkdtemp(dir));
	(void)snprintf(sa.sun_path, sizeof(sa.sun_path), "%s/sock", dir);
	assert_int_equal(bind(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	assert_int_equal(listen(fd, 64), 0);
	return fd;
}

static int open_one(struct lb_err *err)
{
	char uri[200];
	virConnectPtr conn = NULL;
	int rc;

	*err = (struct lb_err){0};
	(void)snprintf(uri, sizeof(uri), "qemu+unix:///system?socket=%s", sa.sun_path);
	rc = sa_lv_open_within(&conn, uri, LIMIT_NS, err);
	assert_null(conn);
	return rc;
}

/* Who asks is answered, every time; what waits behind does not grow; and when the daemon has ended
 * it is only not there. */
static void test_hung(void **state)
{
	int fd = hung_daemon();
	struct lb_err err;

	(void)state;
	assert_int_equal(open_one(&err), LB_EAGAIN);
	assert_non_null(strstr(err.msg, "does it hang?"));
	for (int i = 0; i < 20; i++)
		assert_int_equal(open_one(&err), LB_EAGAIN);
	assert_non_null(strstr(err.msg, "8 connections wait for it already"));
	(void)close(fd);
	do
		assert_int_equal(open_one(&err), LB_EAGAIN);
	while (strstr(err.msg, "hang") != NULL && poll(NULL, 0, 1) == 0);
	(void)unlink(sa.sun_path);
	assert_int_equal(rmdir(dir), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hung),
	};

	(void)alarm(60); /* watchdog */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
