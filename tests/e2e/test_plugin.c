/* A plugin of ours under plain nbdkit: argv[1] is the .so. See lb_nbdkit_plugin in
 * cmake/LbTargets.cmake. */
#include <stdlib.h>

#include "base/err.h"
#include "check.h"
#include "imaging/dev.h"
#include "nbdkit_run.h"

static const char *plugin;

static void loads_serves_and_stores(void **state)
{
	const char *const args[] = {plugin, NULL};
	struct nbdkit_run server;
	struct img_dev *d = NULL;
	struct lb_err err = {0};
	uint8_t wrote[4096];
	uint8_t got[4096];

	(void)state;
	memset(wrote, 0x5a, sizeof(wrote));
	assert_int_equal(nbdkit_start(&server, args), 0);
	if (img_nbd_create(&d, server.uri, 1, &err) != 0)
		fail_msg("%s", err.msg);
	assert_int_equal(d->size_bytes, 1024 * 1024);
	assert_true(img_writable(d));
	assert_int_equal(img_pwrite(d, wrote, sizeof(wrote), 8192, &err), 0);
	assert_int_equal(img_pread(d, got, sizeof(got), 8192, &err), 0);
	assert_memory_equal(wrote, got, sizeof(got));
	img_dev_destroy(d);
	nbdkit_stop(&server);
}

int main(int argc, char **argv)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(loads_serves_and_stores),
	};

	if (argc != 2) {
		(void)fprintf(stderr, "usage: %s plugin.so\n", argv[0]);
		return 2;
	}
	plugin = argv[1];
	return cmocka_run_group_tests(tests, NULL, NULL);
}
