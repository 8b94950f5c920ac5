/* The block source: a file that holds still gives a point, one that does not gives LB_ECHANGED,
 * never a torn one. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "imaging/dev.h"
#include "siteagent/source.h"

#include <cmocka.h>

#define SIZE (40u * 4096u + 512u)

struct fixture {
	char dir[32];
	char path[64];
	struct sa_source *s;
};

static void write_at(const char *path, uint64_t off, char c)
{
	char buf[100];
	int fd = open(path, O_WRONLY | O_CREAT, 0600);

	memset(buf, c, sizeof buf);
	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, buf, sizeof buf, (off_t)off), sizeof buf);
	assert_int_equal(close(fd), 0);
}

static void fixture_init(struct fixture *f, bool frozen)
{
	struct sa_source_volume v = {.name = "hda"};
	struct sa_source_cfg cfg = {.driver = "block",
				    .machine = "old",
				    .volumes = &v,
				    .volume_count = 1,
				    .frozen = frozen};

	(void)snprintf(f->dir, sizeof f->dir, "/tmp/lb-src.XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	(void)snprintf(f->path, sizeof f->path, "%s/disk", f->dir);
	write_at(f->path, 0, 'a');
	write_at(f->path, 20 * 4096, 'b');
	assert_int_equal(truncate(f->path, SIZE), 0);
	v.path = f->path;
	assert_int_equal(sa_source_create(&f->s, &cfg, NULL), 0);
}

static void fixture_fini(struct fixture *f)
{
	sa_source_destroy(f->s);
	(void)unlink(f->path);
	(void)rmdir(f->dir);
}

static void begin(struct fixture *f, struct img_dev **dev)
{
	struct sa_cut cut;
	const struct img_extmap *changed = (const struct img_extmap *)f;

	assert_int_equal(sa_source_prepare(f->s, NULL), 0);
	assert_int_equal(sa_source_volume(f->s, 0)->size_bytes, SIZE);
	assert_int_equal(sa_source_cut(&cut, &f->s, 1, 0, NULL), 0);
	assert_int_equal(sa_source_changed(f->s, 0, &changed, NULL), 0);
	assert_null(changed);
	assert_int_equal(sa_source_dev(f->s, 0, dev, NULL), 0);
	assert_false(img_writable(*dev));
}

static void read_all(struct img_dev *dev, uint64_t from)
{
	static uint8_t buf[4 * 4096];

	for (uint64_t off = from; off < SIZE; off += sizeof buf)
		assert_int_equal(img_pread(dev, buf,
					   SIZE - off < sizeof buf ? SIZE - off : sizeof buf, off,
					   NULL),
				 0);
}

static void test_still(void **state)
{
	(void)state;
	for (int frozen = 0; frozen < 2; frozen++) {
		struct fixture f;
		struct img_dev *dev;

		fixture_init(&f, frozen != 0);
		for (int round = 0; round < 3; round++) {
			begin(&f, &dev);
			read_all(dev, 0);
			read_all(dev, 8 * 4096); /* some blocks twice */
			assert_int_equal(sa_source_check(f.s, NULL), 0);
			sa_source_release(f.s, SA_CUT_KEPT, NULL);
			write_at(f.path, 4096, (char)round); /* between cuts: no matter */
		}
		fixture_fini(&f);
	}
}

static void test_written_while_read(void **state)
{
	(void)state;
	for (int frozen = 0; frozen < 2; frozen++) {
		struct fixture f;
		struct img_dev *dev;
		struct lb_err err;

		fixture_init(&f, frozen != 0);
		begin(&f, &dev);
		read_all(dev, 0);
		write_at(f.path, 10 * 4096, 'x');
		assert_int_equal(sa_source_check(f.s, &err), LB_ECHANGED);
		assert_non_null(strstr(err.msg, "old"));
		assert_non_null(strstr(err.msg, f.path));
		assert_true((strstr(err.msg, "frozen") != NULL) == (frozen != 0));
		sa_source_release(f.s, SA_CUT_ABANDONED, NULL);
		begin(&f, &dev);
		read_all(dev, 0);
		assert_int_equal(sa_source_check(f.s, NULL), 0);
		fixture_fini(&f);
	}
}

/* A store through a mapping whose page is dirty already leaves no trace in the file's times: only
 * the second pass can find it. */
static void test_second_pass(void **state)
{
	const uint64_t at[] = {5000, SIZE - 1};
	struct fixture f;
	struct lb_err err;
	volatile char *map;
	int fd;

	(void)state;
	fixture_init(&f, false);
	fd = open(f.path, O_RDWR);
	assert_true(fd >= 0);
	map = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_true(map != MAP_FAILED);
	for (size_t i = 0; i < 2; i++) {
		struct img_dev *dev;
		struct stat before, after;

		map[at[i]] = 'p';
		begin(&f, &dev);
		assert_int_equal(stat(f.path, &before), 0);
		read_all(dev, 0);
		map[at[i]] = 'q';
		assert_int_equal(stat(f.path, &after), 0);
		assert_int_equal(before.st_ctim.tv_nsec, after.st_ctim.tv_nsec);
		assert_int_equal(sa_source_check(f.s, &err), LB_ECHANGED);
		assert_non_null(strstr(err.msg, "changed while it was read"));
		sa_source_release(f.s, SA_CUT_ABANDONED, NULL);
	}
	assert_int_equal(munmap((void *)(uintptr_t)map, SIZE), 0);
	assert_int_equal(close(fd), 0);
	fixture_fini(&f);
}

static void test_shrunk_replaced_gone(void **state)
{
	(void)state;
	for (int how = 0; how < 3; how++) {
		struct fixture f;
		struct img_dev *dev;
		struct lb_err err;
		struct sa_cut cut;
		char moved[80];

		fixture_init(&f, true);
		begin(&f, &dev);
		(void)snprintf(moved, sizeof moved, "%s.old", f.path);
		if (how == 0)
			assert_int_equal(truncate(f.path, 4096), 0);
		else
			assert_int_equal(rename(f.path, moved), 0);
		if (how == 2)
			write_at(f.path, SIZE - 100, 'n');
		assert_int_equal(sa_source_check(f.s, &err), LB_ECHANGED);
		assert_non_null(strstr(err.msg, f.path));
		sa_source_release(f.s, SA_CUT_ABANDONED, NULL);
		assert_int_equal(sa_source_state(f.s), SA_SRC_LOST);
		assert_int_equal(sa_source_cut(&cut, &f.s, 1, 0, &err), LB_EAGAIN);
		assert_int_equal(sa_source_prepare(f.s, &err), how == 1 ? LB_ENOTFOUND : 0);
		if (how == 0)
			assert_int_equal(sa_source_volume(f.s, 0)->size_bytes, 4096);
		(void)unlink(moved);
		fixture_fini(&f);
	}
}

/* A disk that was made larger between two cuts: the first cut after it says so, the next one is of
 * the new size. Without that the end of it would never be captured. */
static void test_grown(void **state)
{
	(void)state;
	for (int frozen = 0; frozen < 2; frozen++) {
		struct fixture f;
		struct img_dev *dev;
		struct sa_cut cut;
		struct lb_err err = {0};
		char text[64];
		uint8_t b = 0;

		fixture_init(&f, frozen != 0);
		begin(&f, &dev);
		read_all(dev, 0);
		assert_int_equal(sa_source_check(f.s, NULL), 0);
		sa_source_release(f.s, SA_CUT_KEPT, NULL);
		write_at(f.path, 60 * 4096, 'z');
		assert_int_equal(sa_source_prepare(f.s, NULL), 0);
		assert_int_equal(sa_source_cut(&cut, &f.s, 1, 0, &err), LB_ECHANGED);
		(void)snprintf(text, sizeof(text), "grew from %u to %u bytes", SIZE,
			       60 * 4096 + 100);
		if (strstr(err.msg, text) == NULL || strstr(err.msg, f.path) == NULL)
			fail_msg("%s", err.msg);
		assert_int_equal(sa_source_prepare(f.s, NULL), 0);
		assert_int_equal(sa_source_cut(&cut, &f.s, 1, 0, NULL), 0);
		assert_int_equal(sa_source_volume(f.s, 0)->size_bytes, 60 * 4096 + 100);
		assert_int_equal(sa_source_dev(f.s, 0, &dev, NULL), 0);
		assert_int_equal(img_pread(dev, &b, 1, 60 * 4096, NULL),
				 frozen != 0 ? 0 : LB_EINVAL); /* live: whole blocks only */
		sa_source_release(f.s, SA_CUT_ABANDONED, NULL);
		fixture_fini(&f);
	}
}

static void test_refused_config(void **state)
{
	struct sa_source_volume v[2] = {{.name = "vda", .path = "/a"},
					{.name = "vda", .path = "/b"}};
	struct sa_source_cfg cfg = {.driver = "block", .machine = "m", .volumes = v};
	struct sa_source *s = NULL;
	struct lb_err err;

	(void)state;
	assert_int_equal(sa_source_create(&s, &cfg, &err), LB_EINPUT);
	cfg.volume_count = 2;
	assert_int_equal(sa_source_create(&s, &cfg, &err), LB_EINPUT);
	assert_non_null(strstr(err.msg, "two volumes"));
	cfg.volume_count = 1;
	v[0].path = "relative";
	assert_int_equal(sa_source_create(&s, &cfg, &err), LB_EINPUT);
	(void)snprintf(v[0].name, sizeof v[0].name, "../x");
	assert_int_equal(sa_source_create(&s, &cfg, &err), LB_EINPUT);
	cfg.driver = "libvirt";
	assert_int_equal(sa_source_create(&s, &cfg, &err), LB_EINPUT);
	cfg.driver = "tape";
	assert_int_equal(sa_source_create(&s, &cfg, &err), LB_EINPUT);
	assert_non_null(strstr(err.msg, "tape"));
	assert_null(s);
}

/* A description in another encoding is said to be one, before a cut is tried again and again. */
static void test_xml(void **state)
{
	static const struct {
		const char *text;
		size_t len;
		int rc;
	} xml[] = {{"<domain/>", 9, 0},
		   {"<a>\xe9\x80\xa0</a>", 10, 0},
		   {"<a>\xe9</a>", 8, LB_EINPUT},
		   {"<a>\0</a>", 8, LB_EINPUT},
		   {"", 0, LB_EINPUT}};
	struct fixture f;

	(void)state;
	fixture_init(&f, true);
	for (size_t i = 0; i < sizeof(xml) / sizeof(xml[0]); i++) {
		struct sa_source_volume v = {.name = "vda", .path = f.path};
		struct sa_source_cfg cfg = {.driver = "block",
					    .machine = "m",
					    .volumes = &v,
					    .volume_count = 1,
					    .frozen = true};
		struct sa_source *s = NULL;
		struct lb_err err = {0};
		char path[200];
		FILE *file;

		(void)snprintf(path, sizeof(path), "%s/xml", f.dir);
		cfg.xml_path = path;
		file = fopen(path, "we");
		assert_non_null(file);
		assert_int_equal(fwrite(xml[i].text, 1, xml[i].len, file), xml[i].len);
		assert_int_equal(fclose(file), 0);
		assert_int_equal(sa_source_create(&s, &cfg, NULL), 0);
		assert_int_equal(sa_source_prepare(s, &err), xml[i].rc);
		if (xml[i].rc != 0 && strstr(err.msg, "domain XML") == NULL)
			fail_msg("%s", err.msg);
		sa_source_destroy(s);
		assert_int_equal(unlink(path), 0);
	}
	fixture_fini(&f);
}

static void test_group(void **state)
{
	struct fixture f;
	struct sa_source_group *g;
	struct rep_cut cut;
	char *xml = NULL;

	(void)state;
	fixture_init(&f, false);
	assert_int_equal(sa_source_group_create(&g, &f.s, 1, 0, NULL), 0);
	for (int round = 0; round < 2; round++) {
		assert_int_equal(sa_source_group_ops.begin(g, &cut, NULL), 0);
		assert_int_equal(cut.volume[0].dev->size_bytes, SIZE);
		assert_null(cut.volume[0].changed);
		assert_int_equal(cut.consistency, REP_CONSISTENCY_CRASH);
		assert_string_equal(cut.machine_json, "{\"format\":1,\"machines\":[{\"name\":"
						      "\"old\",\"driver\":\"block\"}]}");
		read_all(cut.volume[0].dev, 0);
		assert_int_equal(sa_source_group_ops.check(g, &cut, NULL), 0);
		sa_source_group_ops.end(g, &cut, round == 0);
	}
	assert_int_equal(sa_machine_xml_of(&xml, "{", 1, "old", NULL), LB_EINPUT);
	assert_int_equal(sa_machine_xml_of(&xml, "{}", 2, "old", NULL), LB_ENOTFOUND);
	sa_source_group_destroy(g);
	fixture_fini(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_still),       cmocka_unit_test(test_written_while_read),
		cmocka_unit_test(test_second_pass), cmocka_unit_test(test_shrunk_replaced_gone),
		cmocka_unit_test(test_grown),       cmocka_unit_test(test_refused_config),
		cmocka_unit_test(test_group),       cmocka_unit_test(test_xml),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
