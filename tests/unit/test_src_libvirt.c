/* The libvirt driver over libvirt's own test driver: what it makes of a domain before a mirror is
 * armed. */
#include <stdlib.h>
#include <unistd.h>

#include "base/err.h"
#include "check.h"
#include "siteagent/source.h"

struct world {
	char dir[64];
	char uri[96];
	struct sa_source_cfg cfg;
	struct sa_source *source;
};

/* A host with one running domain of @disks disks. */
static void host(struct world *w, unsigned disks)
{
	char path[80];
	FILE *f;

	(void)snprintf(w->dir, sizeof(w->dir), "/tmp/lb-test-lv-XXXXXX");
	assert_non_null(mkdtemp(w->dir));
	(void)snprintf(path, sizeof(path), "%s/host.xml", w->dir);
	(void)snprintf(w->uri, sizeof(w->uri), "test://%s", path);
	f = fopen(path, "we");
	assert_non_null(f);
	(void)fputs("<node><domain type='test'><name>big</name><memory>8192</memory>"
		    "<vcpu>1</vcpu><os><type>hvm</type></os><devices>",
		    f);
	for (unsigned i = 0; i < disks; i++)
		(void)fprintf(f,
			      "<disk type='file' device='disk'><source file='/none/%u'/>"
			      "<target dev='vd%c'/></disk>",
			      i, 'a' + (int)i);
	(void)fputs("</devices></domain></node>", f);
	assert_int_equal(fclose(f), 0);
	w->cfg = (struct sa_source_cfg){.driver = "libvirt",
					.machine = "big",
					.uri = w->uri,
					.domain = "big",
					.work_dir = w->dir,
					.plugin = "/none"};
	assert_int_equal(sa_source_create(&w->source, &w->cfg, NULL), 0);
}

static void host_gone(struct world *w)
{
	char path[80];

	sa_source_destroy(w->source);
	(void)snprintf(path, sizeof(path), "%s/host.xml", w->dir);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(rmdir(w->dir), 0);
}

/* A domain with more disks than a machine may have is refused as often as it is asked: the first
 * sixteen are not all of it. */
static void test_too_many_disks(void **state)
{
	struct world w;

	(void)state;
	host(&w, SA_SOURCE_VOLUMES_MAX + 1);
	for (int i = 0; i < 3; i++) {
		struct lb_err err = {0};

		assert_int_equal(sa_source_prepare(w.source, &err), LB_EUNSUPPORTED);
		assert_non_null(strstr(err.msg, "more than 16 disks"));
		assert_int_equal(sa_source_volume_count(w.source), 0);
	}
	host_gone(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_too_many_disks)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
